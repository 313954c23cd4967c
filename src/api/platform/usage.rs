//! Usage and audit log of an organization, in the shapes of Turso's platform API.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::ok;
use crate::api::door::Caller;
use crate::api::error::{Answer, ApiError};
use crate::api::openapi::operations_usage as described;
use crate::api::{Api, Route, needs, route};
use crate::control::Action;
use crate::control::audit::AuditLine;
use crate::control::usage::Used;
use crate::error::Error;
use crate::model::datetime;

/// Entries of a page of the audit log: default and most.
const PAGE_DEFAULT: u64 = 100;
const PAGE_MAX: u64 = 1000;
/// Namespaces are counted to about so many.
const COUNTED_MAX: u64 = 100_000;
/// Names per request while counting.
const COUNTED_AT_ONCE: usize = 1000;

/// The routes of this module.
pub(in crate::api) fn routes() -> Vec<Route> {
    const USAGE: needs::Needs = needs::platform(&[Action::UsageGet]);
    const AUDIT: needs::Needs = needs::platform(&[Action::AuditList]);
    vec![
        route(
            Method::GET,
            "/v1/organizations/{org}/usage",
            USAGE,
            usage,
            described::usage,
        ),
        route(Method::GET, "/v1/usage", USAGE, usage, described::own_usage),
        route(
            Method::GET,
            "/v1/organizations/{org}/audit-logs",
            AUDIT,
            audit_logs,
            described::audit_logs,
        ),
        route(
            Method::GET,
            "/v1/audit-logs",
            AUDIT,
            audit_logs,
            described::own_audit_logs,
        ),
        route(
            Method::GET,
            "/v1/organizations/{org}/audit-logs/verify",
            AUDIT,
            verify_audit,
            described::verify_audit,
        ),
        route(
            Method::GET,
            "/v1/audit-logs/verify",
            AUDIT,
            verify_audit,
            described::verify_own_audit,
        ),
    ]
}

/// The query string of a question for usage.
#[derive(Deserialize, JsonSchema)]
pub struct UsageOptions {
    /// A time in the first month that counts, as RFC 3339 has it. Default: that of `to`.
    from: Option<String>,
    /// A time in the last month that counts. Default: now.
    to: Option<String>,
}

/// `GET /v1/organizations/{org}/usage`, `GET /v1/usage`
pub async fn usage(
    State(api): State<Api>,
    caller: Caller,
    options: Result<Query<UsageOptions>, QueryRejection>,
) -> Answer {
    let Query(options) = options.map_err(|_| ApiError::invalid("from and to must be given once at most"))?;
    let control = &api.inner.control;
    let (first, last) = control.period(options.from.as_deref(), options.to.as_deref())?;
    let used = control.usage(&caller.org, first, last).await?;
    let mut sum = used.sums.total().json(used.stored_bytes());
    let groups = control.groups(&caller.org).await?;
    sum["databases"] = count_namespaces(&api, &caller).await?.into();
    sum["groups"] = groups.len().into();
    sum["locations"] = 1.into();
    let mut names: Vec<&String> = used.sums.namespaces.keys().chain(used.stored.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let database = |name: &&String| {
        let (of_it, stored_bytes) = used.of(name);
        let id = used.stored.get(*name).and_then(|s| s.id);
        let usage = of_it.json(stored_bytes);
        json!({"name": name, "uuid": id, "instances": [], "usage": usage, "total": usage})
    };
    let key = |(id, of_it): (&String, &Used)| json!({"id": id, "usage": of_it.json(0)});
    let body = json!({"organization": {
        "uuid": caller.org.as_str(),
        "usage": sum,
        "total": sum,
        "databases": names.iter().map(database).collect::<Vec<_>>(),
        "keys": used.sums.keys.iter().map(key).collect::<Vec<_>>(),
    }});
    ok(&body)
}

async fn count_namespaces(api: &Api, caller: &Caller) -> Result<u64, Error> {
    let (mut count, mut cursor) = (0, None);
    loop {
        let page = api
            .inner
            .engine
            .list(&caller.org, "", cursor.as_deref(), COUNTED_AT_ONCE)
            .await?;
        count += page.names.len() as u64;
        cursor = page.next_cursor;
        if cursor.is_none() || count >= COUNTED_MAX {
            return Ok(count);
        }
    }
}

/// The query string of a question for the audit log.
#[derive(Deserialize, JsonSchema)]
pub struct AuditOptions {
    /// Counts from 1, which is the default and has the newest entries.
    #[schemars(range(min = 1))]
    page: Option<u64>,
    /// Entries per page: 100 if absent.
    #[schemars(range(min = 1, max = 1000))]
    page_size: Option<u64>,
}

/// `GET /v1/organizations/{org}/audit-logs`, `GET /v1/audit-logs`
pub async fn audit_logs(
    State(api): State<Api>,
    caller: Caller,
    options: Result<Query<AuditOptions>, QueryRejection>,
) -> Answer {
    let sizes = || {
        ApiError::invalid(format!(
            "page and page_size must be integers from 1, page_size to {PAGE_MAX}"
        ))
    };
    let Query(options) = options.map_err(|_| sizes())?;
    let (page, size) = (options.page.unwrap_or(1), options.page_size.unwrap_or(PAGE_DEFAULT));
    if page == 0 || !(1..=PAGE_MAX).contains(&size) {
        return Err(sizes());
    }
    let found = api.inner.control.audit_page(&caller.org, page, size).await?;
    let body = json!({
        "audit_logs": found.lines.iter().map(entry).collect::<Vec<_>>(),
        "pagination": {
            "page": page,
            "page_size": size,
            "total_pages": found.total_rows.div_ceil(size).max(1),
            "total_rows": found.total_rows,
        },
    });
    ok(&body)
}

/// The query string of a question whether the audit log is as it was written.
#[derive(Deserialize, JsonSchema)]
pub struct VerifyOptions {
    /// The day, such as 2026-01-31, by UTC. Default: today.
    day: Option<String>,
}

/// What a day of the audit log holds, and what is wrong with it.
#[derive(Serialize, JsonSchema)]
pub struct AuditVerdict {
    day: String,
    /// Whether nothing was removed, added or changed.
    intact: bool,
    files: u64,
    lines: u64,
    /// Files that are not sealed yet: that some of those were removed would not be noticed. None a minute after they
    /// were written.
    unsealed: u64,
    /// One sentence for each thing that is wrong.
    problems: Vec<String>,
}

/// `GET /v1/organizations/{org}/audit-logs/verify`, `GET /v1/audit-logs/verify`
pub async fn verify_audit(
    State(api): State<Api>,
    caller: Caller,
    options: Result<Query<VerifyOptions>, QueryRejection>,
) -> Answer {
    let wrong = || ApiError::invalid("day must be a day such as 2026-01-31, given once at most");
    let Query(options) = options.map_err(|_| wrong())?;
    let control = &api.inner.control;
    let day = options
        .day
        .unwrap_or_else(|| super::rfc3339(control.now())[..10].to_owned());
    // It becomes part of a key.
    let parsed = chrono::NaiveDate::parse_from_str(&day, "%Y-%m-%d").map_err(|_| wrong())?;
    if parsed.to_string() != day {
        return Err(wrong());
    }
    let report = control.verify_audit(&caller.org, &day).await?;
    ok(&AuditVerdict {
        day,
        intact: report.problems.is_empty(),
        files: report.files,
        lines: report.lines,
        unsealed: report.unsealed,
        problems: report.problems,
    })
}

/// An entry as clients of Turso read it, and our fields beside it.
fn entry(line: &AuditLine) -> Json {
    json!({
        "code": line.code,
        "message": "",
        "origin": "api",
        "author": line.author.as_deref().unwrap_or(&line.actor),
        "created_at": datetime::format_ms(i64::try_from(line.at).unwrap_or(i64::MAX)),
        "data": line.data,
        "ip": line.ip,
        "actor": line.actor,
        "target": line.target,
        "result": line.result,
        "request_id": line.request_id,
    })
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_plan;
