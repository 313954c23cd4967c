//! The plan's number of namespaces, where they come into being: as databases, as collections, by a first write, as
//! copies.
//!
//! What exists is counted before, so that several who create at the same moment may go beyond the number by as many.

use super::Api;
use super::door::Caller;
use crate::control::Quota;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{NamespaceName, OrgId};

/// Names per LIST while counting.
const PAGE: usize = 1000;

/// Fails when the plan of an organization includes no further namespace. Costs nothing without such a limit; else a
/// LIST per thousand.
///
/// # Errors
///
/// 402 with the code `quota_databases`.
pub async fn check_namespaces(api: &Api, org: &OrgId) -> Result<()> {
    let control = &api.inner.control;
    if !control.plans().iter().any(|plan| plan.quotas.databases.is_some()) {
        return Ok(());
    }
    let Some(organization) = control.organization(org).await? else {
        return Ok(());
    };
    let Some(limit) = control
        .plan(&organization)
        .quotas
        .databases
        .filter(|_| !organization.overages)
    else {
        return Ok(());
    };
    let (mut count, mut cursor) = (0, None);
    loop {
        let page = api.inner.engine.list(org, "", cursor.as_deref(), PAGE).await?;
        count += page.names.len() as u64;
        cursor = page.next_cursor;
        if cursor.is_none() || count >= limit {
            return control.check_quota(&organization, Quota::Databases, count);
        }
    }
}

/// What to answer should a request bring this namespace into being: the error of [`check_namespaces`], when the
/// namespace does not exist and the plan includes no further one.
///
/// Costs nothing without such a limit, and nothing while the namespace is open on this node; else what opening it
/// costs, and what counting costs when it does not exist.
pub async fn exhausted(api: &Api, caller: &Caller, name: &NamespaceName) -> Result<Option<Error>> {
    let control = &api.inner.control;
    if !control.plans().iter().any(|plan| plan.quotas.databases.is_some()) {
        return Ok(None);
    }
    let engine = &api.inner.engine;
    if engine.stored(&caller.org, name).is_some_and(|(_, id)| id.is_some()) {
        return Ok(None);
    }
    match engine.metadata(&caller.org, name).await {
        Ok(_) => return Ok(None),
        Err(error) if error.kind == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    match check_namespaces(api, &caller.org).await {
        Ok(()) => Ok(None),
        Err(error) if error.kind == ErrorKind::QuotaExceeded => Ok(Some(error)),
        Err(error) => Err(error),
    }
}
