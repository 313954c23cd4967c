//! What requests may use and do use: budgets and rates before the handler, meters after it, and what is noted of
//! those that are refused.

use std::net::IpAddr;

use axum::http::Method;
use serde_json::json;

use super::Api;
use super::door::Caller;
use super::needs::{Needs, Subject};
use super::response;
use crate::auth::{CredentialKind, Denial, Principal, Surface};
use crate::base::{Tenant, context};
use crate::control::Action;
use crate::control::audit::Event;
use crate::control::limiter::Rate;
use crate::control::usage::Used;
use crate::error::{Error, ErrorKind};
use crate::model::NamespaceName;
use crate::namespace::{CopyOutcome, QueryOutcome, WriteOutcome};
use crate::telemetry;

/// What a credential is told apart by in meters, limits and logs: never its value.
pub fn actor(principal: &Principal) -> String {
    format!("{} {}", principal.kind.name(), principal.id)
}

/// Lets an authorised request in, or says that the organization has used up what it may. From here on the work is
/// the organization's.
///
/// Costs nothing where no plan has limits, else what the organization's record costs: nothing warm.
pub async fn admit(api: &Api, needs: Needs, method: &Method, caller: &Caller) -> Result<(), Error> {
    context::set_tenant(Tenant::named(caller.org.as_str()));
    if !matches!(needs.surface, Some(Surface::Data | Surface::Search)) {
        return admit_to_control(api, needs, method, caller).await;
    }
    let control = &api.inner.control;
    let rate = rate_of(needs.any_of);
    let organization = match control.has_limited_plans() {
        true => control.organization(&caller.org).await?,
        false => None,
    };
    // What makes room is never refused.
    let makes_room = needs.any_of == [Action::CollectionsDelete];
    if let Some(organization) = organization.as_deref().filter(|_| !makes_room) {
        let checked = control.check_budget(organization, rate == Rate::Writes);
        checked.inspect_err(|_| count_denied("quota"))?;
    }
    let key = key_rate(&caller.principal, rate).map(|limit| (caller.principal.id.as_str(), limit));
    control.limit(&caller.org, organization.as_deref(), key, rate)
}

/// The same for the control plane, which has rates only: budgets must not keep anybody from changing the plan. Whoever
/// runs the deployment is not limited, to be able to mend what others flood.
async fn admit_to_control(api: &Api, needs: Needs, method: &Method, caller: &Caller) -> Result<(), Error> {
    let control = &api.inner.control;
    let principal = &caller.principal;
    if principal.kind == CredentialKind::Bootstrap {
        return Ok(());
    }
    let rate = match method.is_safe() {
        true => Rate::Queries,
        false => Rate::Writes,
    };
    // A user's own things belong to no organization; many users share the one that stands in for it.
    let user = principal.user.as_deref().filter(|_| needs.subject == Subject::Nothing);
    let organization = match user {
        None if control.has_limited_plans() => control.organization(&caller.org).await?,
        _ => None,
    };
    let whose = user.unwrap_or(caller.org.as_str());
    let key = key_rate(principal, rate).map(|limit| (principal.id.as_str(), limit));
    control.limit_control(whose, organization.as_deref(), key, rate)
}

/// The least that any grant of the chain limits a rate to, per second.
fn key_rate(principal: &Principal, rate: Rate) -> Option<u64> {
    let limits = principal.chain.iter().filter_map(|grant| match rate {
        Rate::Queries => grant.rate_limits.queries_per_second,
        Rate::Writes => grant.rate_limits.writes_per_second,
    });
    limits.min().map(u64::from)
}

/// Reads and writes are told apart by what the route needs.
fn rate_of(any_of: &[Action]) -> Rate {
    match is_read(any_of) {
        true => Rate::Queries,
        false => Rate::Writes,
    }
}

/// Whether a route that needs one of these changes nothing.
pub fn is_read(any_of: &[Action]) -> bool {
    any_of.iter().all(|action| {
        let operation = action.name().rsplit(':').next().unwrap_or_default();
        matches!(operation, "search" | "get" | "list" | "export")
    })
}

fn count_denied(reason: &'static str) {
    metrics::counter!(telemetry::DENIED, "reason" => reason).increment(1);
}

/// The answer to a credential that stands for nobody.
pub fn unknown(api: &Api, ip: Option<IpAddr>, error: Error) -> Error {
    if error.kind != ErrorKind::Unauthenticated {
        return error;
    }
    count_denied("unauthenticated");
    let limited = ip.map(|ip| api.inner.control.limit_failed_authentication(ip));
    limited.and_then(Result::err).unwrap_or(error)
}

/// The answer to somebody who may not do this. It is noted: of the control plane each time, of the data plane once
/// a minute for each credential and action.
///
/// * `target` — what it would have been done to, as the path names it
pub fn denied(api: &Api, needs: Needs, caller: &Caller, target: &str, denial: Denial) -> Error {
    count_denied(match denial {
        Denial::Expired => "unauthenticated",
        _ => "forbidden",
    });
    let action = needs.any_of.first().map_or("", |a| a.name());
    let actor = actor(&caller.principal);
    let event = || Event {
        code: "auth-denied",
        org: caller.org.clone(),
        actor: actor.clone(),
        author: caller.principal.user.clone(),
        ip: caller.ip,
        target: target.chars().take(256).collect(),
        data: json!({"action": action, "rule": denial.rule()}),
    };
    let control = &api.inner.control;
    match needs.surface {
        Some(Surface::Data | Surface::Search) => control.audit_denied_sample(action, event, &caller.org, &actor),
        _ => control.audit_denied(event()),
    }
    denial.into()
}

impl Api {
    /// Counts what an answered request used, and what the namespace stores now. Does no I/O.
    pub(super) fn meter(&self, caller: &Caller, namespace: &NamespaceName, used: &Used) {
        let control = &self.inner.control;
        control.meter(&caller.org, namespace.as_str(), &actor(&caller.principal), used);
        if let Some((bytes, id)) = self.inner.engine.stored(&caller.org, namespace) {
            control.meter_stored(&caller.org, namespace.as_str(), bytes, id);
        }
    }

    /// Notes that a namespace stores nothing any more.
    pub(super) fn meter_deleted(&self, caller: &Caller, namespace: &NamespaceName) {
        let control = &self.inner.control;
        control.meter_stored(&caller.org, namespace.as_str(), 0, None);
    }
}

/// What a query used.
pub fn of_query(outcome: &QueryOutcome) -> Used {
    let returned: usize = outcome.results.iter().map(crate::query::QueryResult::size).sum();
    let returned = returned as u64;
    Used {
        queries: 1,
        // Where it is not said how many were looked at, those that were found count.
        rows_read: outcome.exhaustive_search_rows.max(returned),
        rows_returned: returned,
        bytes_queried: response::BYTES_QUERIED_MIN,
        bytes_returned: outcome.results.iter().map(response::bytes_returned).sum(),
        ..Used::default()
    }
}

/// What a write used.
pub fn of_write(outcome: &WriteOutcome) -> Used {
    let rows = [outcome.rows_upserted, outcome.rows_patched, outcome.rows_deleted];
    Used {
        writes: 1,
        rows_written: rows.iter().flatten().sum(),
        bytes_written: outcome.logical_bytes_written,
        bytes_queried: if outcome.searched {
            response::BYTES_QUERIED_MIN
        } else {
            0
        },
        ..Used::default()
    }
}

/// What a copy used.
pub fn of_copy(outcome: &CopyOutcome) -> Used {
    Used {
        writes: 1,
        rows_written: outcome.rows,
        bytes_written: outcome.logical_bytes,
        ..Used::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every route is one or the other; those that change nothing are reads.
    #[test]
    fn the_table_tells_reads_from_writes() {
        for route in crate::api::routes() {
            let is_data = matches!(route.needs.surface, Some(Surface::Data | Surface::Search));
            if !is_data || route.needs.any_of.is_empty() {
                continue;
            }
            let rate = rate_of(route.needs.any_of);
            let (method, path) = (route.method.as_str(), route.path);
            let is_query = ["/query", "/explain_query", "/recall", "/search", "/read_only_optimize"]
                .iter()
                .any(|end| path.ends_with(end))
                || path == "/multi_search";
            match method {
                _ if is_query => assert_eq!(rate, Rate::Queries, "{method} {path}"),
                "DELETE" | "PATCH" | "PUT" => assert_eq!(rate, Rate::Writes, "{method} {path}"),
                "POST" => assert_eq!(rate, Rate::Writes, "{method} {path}"),
                _ => {}
            }
        }
    }
}
