//! Figures of databases: what was used, and by what.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::call::{Call, success};
use super::print;
use crate::api::Api;
use crate::api::error::{Answer, ApiError};
use crate::control::Action;
use crate::control::usage::Month;

/// The query string of figures.
#[derive(Deserialize, JsonSchema, Default)]
pub struct Span {
    /// A time in the first month that counts, RFC 3339; that of `to` if absent.
    #[serde(default)]
    from: Option<String>,
    /// A time in the last month that counts; now if absent.
    #[serde(default)]
    to: Option<String>,
}

type Spanned = Result<Query<Span>, QueryRejection>;

fn months(api: &Api, given: Spanned) -> Result<(Month, Month), ApiError> {
    let Query(span) = given.map_err(|_| ApiError::invalid("the query string is not valid"))?;
    Ok(api.inner.control.period(span.from.as_deref(), span.to.as_deref())?)
}

/// `GET …/databases/{database}/usage`
pub async fn usage(State(api): State<Api>, call: Call, given: Spanned) -> Answer {
    let found = call.database(&api, Action::UsageGet).await?;
    let (first, last) = months(&api, given)?;
    let (control, known) = (&api.inner.control, &found.database.known);
    let all = control.usage(call.org(), first, last).await?;
    let (used, _) = all.of(found.database.name.as_str());
    let usage = used.json(known.stored_bytes);
    let instances = print::instances(&call, &found, control.live_nodes().await?);
    // Which node did what is not known: it stands with the primary one.
    let first = instances.first().map(|i| json!({"uuid": i.node.id, "usage": usage}));
    let instances: Vec<Json> = first.into_iter().collect();
    Ok(success(&json!({
        "database": {"uuid": known.id, "instances": instances, "usage": usage, "total": usage},
    })))
}

/// `GET …/databases/{database}/stats`
pub async fn stats(State(api): State<Api>, call: Call) -> Answer {
    call.database(&api, Action::UsageGet).await?;
    // Texts of queries are kept nowhere.
    Ok(success(&json!({"top_queries": []})))
}

/// `GET …/databases/{database}/usage/queries`
pub async fn top_queries(State(api): State<Api>, call: Call, given: Spanned) -> Answer {
    call.database(&api, Action::UsageGet).await?;
    months(&api, given)?;
    Ok(success(&json!([])))
}
