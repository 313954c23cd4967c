//! What a caller may do with a namespace, in the engine's words.

use std::sync::Arc;

use super::embedded::fits_every_search;
use super::{Ask, Principal, authorize};
use crate::control::Action;
use crate::error::{Error, ErrorKind};
use crate::model::Guard;
use crate::model::access::{Blocked, Writes};

/// The guard of a request that was let in.
///
/// * `ask` — who asks, where and when; its action does not count
/// * `blocked` — what is blocked in the whole organization
pub fn guard_of(principal: &Principal, ask: Ask<'_>, blocked: Blocked) -> Guard {
    let may = |action| authorize(principal, &Ask { action, ..ask }).is_ok();
    Guard {
        token: principal.token,
        ip: ask.ip,
        restriction: principal.restriction.clone(),
        may_create: may(Action::CollectionsCreate),
        may_change_schema: may(Action::CollectionsUpdate),
        writes: Writes {
            upsert: may(Action::DocumentsUpsert) || may(Action::DocumentsCreate),
            patch: may(Action::DocumentsUpdate),
            delete: may(Action::DocumentsDelete),
        },
        blocked,
    }
}

/// The guard of a query in this server's own language, where Typesense's parameters have no place.
///
/// # Errors
///
/// 403 when a scoped key embeds parameters that only Typesense's search routes apply.
pub fn native_guard_of(principal: &Principal, ask: Ask<'_>, blocked: Blocked) -> Result<Guard, Error> {
    let mut guard = guard_of(principal, ask, blocked);
    let Some(embedded) = &principal.embedded else {
        return Ok(guard);
    };
    if !fits_every_search(embedded) {
        return Err(Error::new(
            ErrorKind::Forbidden,
            "this key embeds parameters of Typesense's search; use it with /collections/…/documents/search or /multi_search",
        ));
    }
    let per_page = embedded.get("per_page").and_then(serde_json::Value::as_u64);
    if let (Some(max), Some(restriction)) = (per_page.and_then(|n| usize::try_from(n).ok()), &guard.restriction) {
        let mut narrowed = restriction.as_ref().clone();
        narrowed.top_k_max = Some(narrowed.top_k_max.map_or(max, |other| other.min(max)));
        guard.restriction = Some(Arc::new(narrowed));
    }
    Ok(guard)
}
