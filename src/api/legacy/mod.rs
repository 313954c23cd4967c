//! The first version of the API, as clients before 2025 speak it.
//!
//! Writes and queries are translated into those of v2 and answered by the same code; only what v2 has
//! not (pages of an export, bare arrays of results, answers in headers) is made here. Old clients send
//! null for every option they do not use.

mod export;
mod filter;
mod query;
mod write;

pub use query::parse as parse_query;
pub use write::to_v2 as translate_write;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::IntoResponse;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;

use super::error::{Answer, ApiError};
use super::handlers::{Target, accepts_gzip, commit, compressed, json, read_body};
use super::response::{self, Version};
use super::{Api, metering, query as v2};
use crate::base::Priority;
use crate::model::{AttrType, Schema, datetime};
use crate::namespace::{Body, bodies_used_up};

pub use query::LegacyQuery;

/// Bodies from this size on are translated on the CPU pool, in bytes.
const POOL_BYTES: usize = 64 * 1024;
/// What a translated body may have more than the original, in bytes.
const FRAME_BYTES: usize = 256;

const DIMENSIONS: HeaderName = HeaderName::from_static("x-turbopuffer-dimensions");
const ROWS: HeaderName = HeaderName::from_static("x-turbopuffer-approx-num-vectors");
const CREATED: HeaderName = HeaderName::from_static("x-turbopuffer-created-at");
const SIZE: HeaderName = HeaderName::from_static("x-turbopuffer-approx-namespace-size");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// `POST /v1/namespaces/{namespace}`
pub async fn write(State(api): State<Api>, target: Target, request: Request) -> Answer {
    let start = api.inner.runtime.clock.boot();
    let engine = target.engine(&api)?;
    let (headers, body) = read_body(&api, request, engine.limits().body_bytes_max).await?;
    let body = translated(&api, body).await?;
    commit(&api, &target, &headers, body, start).await
}

/// The body of the same write in v2. Both texts are charged for while both are there.
async fn translated(api: &Api, body: Body) -> Result<Body, ApiError> {
    let Body { bytes, mut charge } = body;
    let room = bytes.len() + FRAME_BYTES;
    charge.grow(room as u64).map_err(|e| bodies_used_up().because(e))?;
    let filter_bytes_max = api.inner.engine.limits().query_body_bytes_max as usize;
    let small = bytes.len() < POOL_BYTES;
    let translate = move || write::to_v2(&bytes, filter_bytes_max);
    let text = match small {
        true => translate(),
        false => api.inner.runtime.cpu.run(Priority::Foreground, translate).await,
    }?;
    charge.shrink_to(text.capacity() as u64);
    Ok(Body {
        bytes: Bytes::from(text),
        charge,
    })
}

/// `POST /v1/namespaces/{namespace}/query`
pub async fn query(State(api): State<Api>, target: Target, request: Request) -> Answer {
    let runtime = &api.inner.runtime;
    let start = runtime.clock.boot();
    let engine = target.engine(&api)?;
    let (headers, body) = read_body(&api, request, engine.limits().query_body_bytes_max).await?;
    let small = body.bytes.len() < POOL_BYTES;
    let (bytes, for_parse) = (body.bytes.clone(), engine.clone());
    let parse = move || query::parse(&bytes, for_parse.limits());
    let (v2::Request { read, .. }, shape) = match small {
        true => parse(),
        false => runtime.cpu.run(Priority::Foreground, parse).await,
    }?;
    let outcome = engine.query(&target.caller.org, &target.namespace, read).await?;
    drop(body);
    let total = runtime.clock.boot().saturating_sub(start);
    let timing = query::server_timing(&outcome, total);
    let rows = outcome.approx_namespace_rows;
    let gzip = accepts_gzip(&headers);
    let print = move || {
        let used = metering::of_query(&outcome);
        (compressed(query::print(&outcome, shape), gzip), used)
    };
    let (mut response, used) = runtime.cpu.run(Priority::Foreground, print).await;
    api.meter(&target.caller, &target.namespace, &used);
    let headers = response.headers_mut();
    headers.insert(SERVER_TIMING, header_value(timing));
    headers.insert(SIZE, header_value(rows.to_string()));
    Ok(response)
}

fn header_value(text: String) -> HeaderValue {
    HeaderValue::from_str(&text).expect("numbers and words are a header value")
}

/// The query string of an export.
#[derive(Deserialize, JsonSchema)]
pub struct ExportOptions {
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// `GET /v1/namespaces/{namespace}`, `GET /v1/vectors/{namespace}`
pub async fn export(
    State(api): State<Api>,
    target: Target,
    options: Result<Query<ExportOptions>, QueryRejection>,
    headers: HeaderMap,
) -> Answer {
    let Query(options) = options.map_err(|_| export::foreign_cursor())?;
    let cursor = options.cursor.as_deref().filter(|c| !c.is_empty());
    let read = export::read(cursor)?;
    let outcome = target
        .engine(&api)?
        .export(&target.caller.org, &target.namespace, read)
        .await?;
    let gzip = accepts_gzip(&headers);
    let print = move || {
        let used = metering::of_query(&outcome);
        (compressed(export::print(&outcome), gzip), used)
    };
    let (answer, used) = api.inner.runtime.cpu.run(Priority::Foreground, print).await;
    api.meter(&target.caller, &target.namespace, &used);
    Ok(answer)
}

/// `HEAD /v1/namespaces/{namespace}`
pub async fn head(State(api): State<Api>, target: Target) -> Answer {
    let known = target
        .engine(&api)?
        .metadata(&target.caller.org, &target.namespace)
        .await?;
    let created = datetime::format_ms(i64::try_from(known.created_ms).unwrap_or(i64::MAX));
    // Rows that are not indexed yet count: old clients ask right after a write.
    let rows = known.approx_rows.max(known.unindexed_rows);
    let headers = [
        (DIMENSIONS, header_value(dimensions(&known.schema).to_string())),
        (ROWS, header_value(rows.to_string())),
        (CREATED, header_value(created)),
    ];
    Ok((StatusCode::OK, headers).into_response())
}

/// Of the column `vector`; 0 without one.
fn dimensions(schema: &Schema) -> u32 {
    match schema.get("vector").map(|a| a.ty) {
        Some(AttrType::Vector { dims, .. }) => dims,
        _ => 0,
    }
}

/// `DELETE /v1/namespaces/{namespace}/index`: there is nothing that could be deleted, since indexes
/// are made and replaced by the server alone.
pub async fn delete_index(State(api): State<Api>, target: Target) -> Answer {
    target
        .engine(&api)?
        .schema(&target.caller.org, &target.namespace)
        .await?;
    Ok(json(StatusCode::OK, response::deleted(Version::V1)))
}

#[cfg(test)]
mod tests;
