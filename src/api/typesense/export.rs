//! Exporting: every document, or those of a filter, a line each, in the order of their ids.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use bytes::Bytes;
use futures::stream;
use serde_json::Value as Json;

use super::document::{Shown, printed};
use super::search::{of_query, split};
use super::{At, compiled, engine, no_collection};
use crate::api::door::Caller;
use crate::api::error::Answer;
use crate::api::{Api, metering};
use crate::control::usage::Used;
use crate::error::Result;
use crate::model::access::Access;
use crate::model::query::{Projection, Read};
use crate::model::{Consistency, Filter, FilterOp, Id, NamespaceName, Query};
use crate::namespace::Engine;
use crate::query::QueryResult;

/// Documents that are read together.
const PAGE: usize = 1000;

/// What is exported.
struct Export {
    api: Api,
    caller: Caller,
    engine: Engine,
    name: NamespaceName,
    filter: Option<Filter>,
    shown: Shown,
}

/// `GET /collections/{collection}/documents/export`
pub async fn export(State(api): State<Api>, at: At, RawQuery(query): RawQuery) -> Answer {
    let params = of_query(query.as_deref().unwrap_or_default());
    let name = at.namespace()?;
    let engine = engine(&api, &at.caller, &name);
    let glance = engine.glance(&at.caller.org, &name, Access::Read, false).await;
    let glance = glance.map_err(|e| no_collection(&name, e))?;
    let filter_by = params.get("filter_by").filter(|f| !f.trim().is_empty());
    let filter = filter_by.map(|text| compiled(text, &glance.schema)).transpose()?;
    let list = |name: &str| params.get(name).map(|text| split(text));
    let export = Arc::new(Export {
        api: api.clone(),
        caller: at.caller,
        engine,
        name,
        filter,
        shown: Shown {
            include: list("include_fields"),
            exclude: list("exclude_fields").unwrap_or_default(),
        },
    });
    // The first page is read before anything is said, so that what is wrong has a status.
    let (first, next) = export.page(None).await?;
    let rest = stream::try_unfold((export, next), |(export, last)| async move {
        let Some(last) = last else {
            return Ok::<_, crate::error::Error>(None);
        };
        let (lines, next) = export.page(Some(last)).await?;
        let lines = if lines.is_empty() { lines } else { format!("\n{lines}") };
        Ok(Some((Bytes::from(lines), (export, next))))
    });
    let whole = futures::StreamExt::chain(stream::iter([Ok(Bytes::from(first))]), rest);
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    Ok((StatusCode::OK, headers, Body::from_stream(whole)).into_response())
}

impl Export {
    /// The lines of a page, and the id of its last document unless there are no more. Costs one GET, shared.
    async fn page(&self, after: Option<Id>) -> Result<(String, Option<Id>)> {
        let queries = u64::from(after.is_none());
        let mut all: Vec<Filter> = self.filter.iter().cloned().collect();
        all.extend(after.map(|id| Filter::compare("id", FilterOp::Gt, of_id(&id))));
        let read = Read {
            queries: vec![Query {
                limit: PAGE,
                filter: Some(Filter::And(all)),
                include: Projection::All,
                ..Query::default()
            }],
            rerank: None,
            consistency: Consistency::Strong,
        };
        let outcome = self.engine.export(&self.caller.org, &self.name, read).await?;
        // One export is one query, however many pages it has; those that nobody fetched cost nothing.
        let used = metering::of_query(&outcome);
        self.api.meter(&self.caller, &self.name, &Used { queries, ..used });
        let rows: Vec<_> = outcome.results.into_iter().flat_map(QueryResult::into_rows).collect();
        let lines: Vec<String> = rows
            .iter()
            .map(|row| Json::Object(printed(row, &self.shown, outcome.hides_id)).to_string())
            .collect();
        let next = rows.last().filter(|_| rows.len() == PAGE).map(|row| row.id.clone());
        Ok((lines.join("\n"), next))
    }
}

fn of_id(id: &Id) -> Json {
    match id {
        Id::UInt(n) => (*n).into(),
        Id::Uuid(u) => u.to_string().into(),
        Id::String(s) => (**s).into(),
    }
}
