//! One function per route: check, ask the engine, answer.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use schemars::JsonSchema;
use serde::Deserialize;

use super::door::Caller;
use super::error::{Answer, ApiError};
use super::response::{self, Version};
use super::{Api, body, handlers_settings, metering, query, quota};
use crate::base::{MemoryShare, Priority};
use crate::error::{Error, ErrorKind};
use crate::model::IdempotencyKey;
use crate::model::write::origin::parse_origin;
use crate::model::{Invalid, NamespaceName, schema_json};
use crate::namespace::{Body, Engine};
use crate::query::QueryResult;
use crate::telemetry;

/// Answers up to this size are never compressed, in bytes.
const GZIP_BYTES_MIN: usize = 1024;
/// Answers with more rows or groups are written on the CPU pool.
const INLINE_ROWS_MAX: usize = 32;
/// Answers that name more rows as affected are written there, too: a filter may touch millions.
const INLINE_IDS_MAX: usize = 4096;
/// Queries from this size on are parsed on the CPU pool, in bytes.
const PARSE_POOL_BYTES: usize = 64 * 1024;
/// Namespaces per page: default and most.
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1000;

/// The caller and the namespace of a request.
pub struct Target {
    pub(super) caller: Caller,
    pub(super) namespace: NamespaceName,
}

impl FromRequestParts<Api> for Target {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, api).await?;
        let name: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, api).await;
        let Path(name) = name.map_err(|_| ApiError::invalid("the namespace name in the path is not valid UTF-8"))?;
        let namespace = NamespaceName::parse(&name)?;
        Ok(Self { caller, namespace })
    }
}

impl Target {
    /// The engine for what the caller may do with the namespace.
    ///
    /// # Errors
    ///
    /// 403 when the caller's key is for Typesense's search routes.
    pub(super) fn engine(&self, api: &Api) -> Result<Engine, Error> {
        let guard = self.caller.native_guard(self.namespace.as_str())?;
        Ok(api.inner.engine.guarded(Arc::new(guard)))
    }

    /// The engine for a write; and what to answer in place of its 403 when only the plan of the organization keeps the
    /// caller from creating the namespace.
    pub(super) async fn writer(&self, api: &Api) -> Result<(Engine, Option<Error>), Error> {
        let mut guard = self.caller.native_guard(self.namespace.as_str())?;
        let exhausted = match guard.may_create {
            true => quota::exhausted(api, &self.caller, &self.namespace).await?,
            false => None,
        };
        guard.may_create &= exhausted.is_none();
        Ok((api.inner.engine.guarded(Arc::new(guard)), exhausted))
    }

    /// That the caller's key allows so many queries in one request.
    pub(super) fn check_searches(&self, count: usize) -> Result<(), Error> {
        let embedded = self.caller.principal.embedded.as_ref();
        let max = embedded
            .and_then(|e| e.get("limit_multi_searches"))
            .and_then(|n| n.as_u64());
        match max.is_some_and(|max| count as u64 > max) {
            true => Err(Error::new(
                ErrorKind::Forbidden,
                format!("this key allows {} queries in a request, got {count}", max.unwrap_or(0)),
            )),
            false => Ok(()),
        }
    }
}

pub(super) async fn read_body(api: &Api, request: Request, bytes_max: u64) -> Result<(HeaderMap, Body), ApiError> {
    let (parts, http_body) = request.into_parts();
    let runtime = &api.inner.runtime;
    let body = body::read(
        &parts.headers,
        http_body,
        bytes_max,
        &runtime.memory,
        runtime.clock.as_ref(),
    )
    .await?;
    Ok((parts.headers, body))
}

pub(super) fn json(status: StatusCode, body: Vec<u8>) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// `POST /v2/namespaces/{namespace}`
pub async fn write(State(api): State<Api>, target: Target, request: Request) -> Answer {
    let start = api.inner.runtime.clock.boot();
    let engine = target.engine(&api)?;
    let (headers, body) = read_body(&api, request, engine.limits().body_bytes_max).await?;
    commit(&api, &target, &headers, body, start).await
}

/// The answer to a write that was refused, when that was because the plan includes no further namespace.
pub(super) fn or_exhausted(error: Error, exhausted: Option<Error>) -> Error {
    match (error.kind, exhausted) {
        (ErrorKind::Forbidden, Some(exhausted)) => exhausted,
        _ => error,
    }
}

/// Commits the body of a write and answers.
///
/// * `start` — when the request came
pub(super) async fn commit(api: &Api, target: &Target, headers: &HeaderMap, body: Body, start: Duration) -> Answer {
    if let Some(origin) = parse_origin(&body.bytes)? {
        return handlers_settings::fill(api, target, origin, start).await;
    }
    let key = headers.get("idempotency-key").map(HeaderValue::as_bytes);
    let key = key.map(|key| IdempotencyKey::new(key, &body.bytes)).transpose()?;
    let (engine, exhausted) = target.writer(api).await?;
    let written = engine
        .write_once(&target.caller.org, &target.namespace, body, key)
        .await;
    let outcome = written.map_err(|e| or_exhausted(e, exhausted))?;
    api.meter(&target.caller, &target.namespace, &metering::of_write(&outcome));
    let total = api.inner.runtime.clock.boot().saturating_sub(start);
    let many = outcome.affected.as_ref().is_some_and(|ids| ids.len() > INLINE_IDS_MAX);
    let print = move || json(StatusCode::OK, response::write(&outcome, total));
    Ok(match many {
        true => api.inner.runtime.cpu.run(Priority::Foreground, print).await,
        false => print(),
    })
}

/// `POST /v2/namespaces/{namespace}/query`
pub async fn query(State(api): State<Api>, target: Target, request: Request) -> Answer {
    let runtime = &api.inner.runtime;
    let start = runtime.clock.boot();
    let engine = target.engine(&api)?;
    let (headers, body) = read_body(&api, request, engine.limits().query_body_bytes_max).await?;
    let query::Request { read, multi, encoding } = parse_query(&api, &body).await?;
    target.check_searches(read.queries.len())?;
    let outcome = engine.query(&target.caller.org, &target.namespace, read).await?;
    drop(body);
    let total = runtime.clock.boot().saturating_sub(start);
    let gzip = accepts_gzip(&headers);
    let items: usize = outcome.results.iter().map(QueryResult::size).sum();
    let print = move || {
        let used = metering::of_query(&outcome);
        (
            compressed(response::query(&outcome, multi, encoding, total), gzip),
            used,
        )
    };
    let (answer, used) = match items <= INLINE_ROWS_MAX {
        true => print(),
        false => runtime.cpu.run(Priority::Foreground, print).await,
    };
    api.meter(&target.caller, &target.namespace, &used);
    Ok(answer)
}

pub(super) async fn parse_query(api: &Api, body: &Body) -> Result<query::Request, Invalid> {
    let engine = api.inner.engine.clone();
    if body.bytes.len() < PARSE_POOL_BYTES {
        return query::parse(&body.bytes, engine.limits());
    }
    let bytes = body.bytes.clone();
    let parse = move || query::parse(&bytes, engine.limits());
    api.inner.runtime.cpu.run(Priority::Foreground, parse).await
}

/// Whether gzip is named, and not with quality 0. `*` does not count: some clients decode nothing.
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter();
    let mut codings = values.filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    codings.any(|coding| {
        let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
        let quality = quality
            .trim()
            .strip_prefix("q=")
            .and_then(|q| q.parse().ok())
            .unwrap_or(1.0_f32);
        name.trim().eq_ignore_ascii_case("gzip") && quality > 0.0
    })
}

pub(super) fn compressed(body: Vec<u8>, gzip: bool) -> Response {
    if !gzip || body.len() <= GZIP_BYTES_MIN {
        return json(StatusCode::OK, body);
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 2), Compression::fast());
    encoder.write_all(&body).expect("a Vec takes all bytes");
    let mut response = json(StatusCode::OK, encoder.finish().expect("a Vec takes all bytes"));
    response
        .headers_mut()
        .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response
}

/// The query string of a list.
#[derive(Deserialize, JsonSchema)]
pub struct ListOptions {
    /// What the names begin with.
    #[serde(default)]
    prefix: String,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Namespaces per page: 100 if absent.
    #[schemars(range(min = 1, max = 1000))]
    page_size: Option<usize>,
}

/// `GET /v1/namespaces`
pub async fn list(
    State(api): State<Api>,
    caller: Caller,
    options: Result<Query<ListOptions>, QueryRejection>,
) -> Answer {
    let sizes = || ApiError::invalid(format!("page_size must be an integer from 1 to {PAGE_MAX}"));
    let Query(options) = options.map_err(|_| sizes())?;
    let size = options.page_size.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&size) {
        return Err(sizes());
    }
    let cursor = options.cursor.as_deref().filter(|c| !c.is_empty());
    let engine = api.inner.engine.guarded(Arc::new(caller.guard("")));
    let page = engine
        .list_covered(&caller.org, &options.prefix, cursor, size, &|name| {
            caller.covers(name.as_str())
        })
        .await?;
    Ok(json(StatusCode::OK, response::namespaces(&page)))
}

/// `GET /v1/namespaces/{namespace}/schema`
pub async fn schema(State(api): State<Api>, target: Target) -> Answer {
    let schema = target
        .engine(&api)?
        .schema(&target.caller.org, &target.namespace)
        .await?;
    Ok(json(StatusCode::OK, schema_json::v1(&schema).to_string().into_bytes()))
}

/// `POST /v1/namespaces/{namespace}/schema`
pub async fn update_schema(State(api): State<Api>, target: Target, request: Request) -> Answer {
    let engine = target.engine(&api)?;
    let (_, body) = read_body(&api, request, engine.limits().query_body_bytes_max).await?;
    let schema = engine
        .update_schema(&target.caller.org, &target.namespace, body)
        .await?;
    Ok(json(StatusCode::OK, schema_json::v1(&schema).to_string().into_bytes()))
}

/// `GET /v1/namespaces/{namespace}/metadata`
pub async fn metadata_v1(api: State<Api>, target: Target) -> Answer {
    metadata(&api, &target, Version::V1).await
}

/// `GET /v2/namespaces/{namespace}/metadata`
pub async fn metadata_v2(api: State<Api>, target: Target) -> Answer {
    metadata(&api, &target, Version::V2).await
}

async fn metadata(api: &Api, target: &Target, version: Version) -> Answer {
    let known = target
        .engine(api)?
        .metadata(&target.caller.org, &target.namespace)
        .await?;
    Ok(json(StatusCode::OK, response::metadata(&known, version)))
}

/// `DELETE /v1/namespaces/{namespace}`
pub async fn delete_v1(api: State<Api>, target: Target) -> Answer {
    delete(&api, &target, Version::V1).await
}

/// `DELETE /v2/namespaces/{namespace}`
pub async fn delete_v2(api: State<Api>, target: Target) -> Answer {
    delete(&api, &target, Version::V2).await
}

async fn delete(api: &Api, target: &Target, version: Version) -> Answer {
    let engine = target.engine(api)?;
    delete_unprotected(api, &engine, &target.caller, &target.namespace).await?;
    Ok(json(StatusCode::OK, response::deleted(version)))
}

/// Deletes a namespace, unless its group is protected from that in whichever dialect.
///
/// Costs a GET more than [`Engine::delete`]; the group's record is remembered.
///
/// # Errors
///
/// Those of [`Engine::delete`], and 409.
pub(super) async fn delete_unprotected(
    api: &Api,
    engine: &Engine,
    caller: &Caller,
    name: &NamespaceName,
) -> Result<(), Error> {
    let known = engine.metadata(&caller.org, name).await?;
    let group = api.inner.control.group_of(&caller.org, known.settings.group).await?;
    if group.delete_protection {
        let sentence = format!(
            "namespace '{name}' is protected from deletion by its group {}: set the group's delete_protection to false \
             first",
            group.name
        );
        return Err(Error::new(ErrorKind::Conflict, sentence).coded("delete_protected"));
    }
    engine.delete(&caller.org, name).await?;
    api.meter_deleted(caller, name);
    Ok(())
}

/// `GET /v1/namespaces/{namespace}/hint_cache_warm`
pub async fn warm(State(api): State<Api>, target: Target) -> Answer {
    let was_warm = target.engine(&api)?.warm(&target.caller.org, &target.namespace).await?;
    let status = if was_warm { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok(json(status, response::warmed(was_warm)))
}

/// `GET /livez`, `GET /startupz`: the store was probed before the server started to listen.
pub async fn live() -> Response {
    json(StatusCode::OK, br#"{"status":"OK"}"#.to_vec())
}

/// `GET /readyz`
pub async fn ready(State(api): State<Api>) -> Answer {
    match api.ready().await {
        true => Ok(live().await),
        false => Err(ApiError::with_status(
            StatusCode::SERVICE_UNAVAILABLE,
            "this node is shutting down, or object storage does not answer",
        )),
    }
}

/// `GET /openapi.json`
pub async fn openapi() -> Response {
    json(StatusCode::OK, super::document().into())
}

/// `GET /metrics`
pub async fn prometheus(State(api): State<Api>) -> Response {
    let memory = &api.inner.runtime.memory;
    let shares = [
        ("bodies", MemoryShare::Bodies),
        ("tails", MemoryShare::Tails),
        ("caches", MemoryShare::Caches),
    ];
    for (name, share) in shares {
        metrics::gauge!(telemetry::MEMORY_BYTES, "share" => name).set(memory.used_bytes(share) as f64);
    }
    let text = api.inner.metrics.as_ref().map(|m| m.render()).unwrap_or_default();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
