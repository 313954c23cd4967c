//! Advisory leases: who does the large jobs of a namespace.
//!
//! A lease saves nodes from doing the same work; nothing relies on it. Two nodes whose clocks differ may both hold it,
//! and then one of them loses the manifest to the other.

use std::time::Duration;

use futures::TryStreamExt;
use serde::{Deserialize, Serialize};

use crate::store::paths::{self, NsKey};
use crate::store::{CreateError, Store, StoreError};

/// A larger body was not written by this server.
const BODY_BYTES_MAX: usize = 1024;

/// A lease that this node holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    term: u64,
    /// Wall time, milliseconds since the epoch.
    expires_ms: u64,
}

impl Lease {
    /// Whether it is good for that much longer.
    pub fn covers(&self, now_ms: u64, span: Duration) -> bool {
        self.expires_ms > now_ms.saturating_add(millis(span))
    }
}

#[derive(Serialize, Deserialize)]
struct Body {
    node: String,
    expires_ms: u64,
}

/// Takes the lease of a role on a namespace; `None` when another node holds it. Costs one LIST and one PUT, one GET
/// when there was a holder before, and a DELETE for each term before.
///
/// * `node` — who takes it: random per process start
/// * `span` — for how long
pub async fn take(
    store: &Store,
    ns: &NsKey,
    role: &str,
    node: u128,
    now_ms: u64,
    span: Duration,
) -> Result<Option<Lease>, StoreError> {
    let listed: Vec<_> = store
        .list(&paths::upkeep::lease_prefix(ns, role), None)
        .try_collect()
        .await?;
    let term_of = |key| match paths::parse_object(key) {
        Some(paths::NsObject::Lease { term, .. }) => Some(term),
        _ => None,
    };
    let mut terms: Vec<u64> = listed.iter().filter_map(|o| term_of(&o.location)).collect();
    terms.sort_unstable();
    let node = format!("{node:032x}");
    if let Some(newest) = terms.last()
        && let Some(body) = store.get(&paths::lease(ns, role, *newest)).await?
        && body.len() <= BODY_BYTES_MAX
        && let Ok(held) = serde_json::from_slice::<Body>(&body)
        && held.node != node
        && held.expires_ms > now_ms
        // Nobody takes one for so long: a clock was wrong.
        && held.expires_ms <= now_ms.saturating_add(millis(LONGEST))
    {
        return Ok(None);
    }
    let lease = Lease {
        term: terms.last().map_or(1, |newest| newest.saturating_add(1)),
        expires_ms: now_ms.saturating_add(millis(span.min(LONGEST))),
    };
    let body = Body {
        node,
        expires_ms: lease.expires_ms,
    };
    let body = serde_json::to_vec(&body).expect("text and a number are JSON");
    match store.create(&paths::lease(ns, role, lease.term), body).await {
        Ok(()) => {}
        // A rival was faster, or perhaps not: then it runs out.
        Err(CreateError::Exists | CreateError::Ambiguous(_)) => return Ok(None),
        Err(CreateError::Refused(error)) => return Err(error),
    }
    for old in terms {
        if let Err(error) = store.delete(&paths::lease(ns, role, old)).await {
            tracing::debug!(%error, "an old lease was not removed");
        }
    }
    Ok(Some(lease))
}

/// Who holds a term of a lease, and until when, in milliseconds since the epoch; `None` when there is no such term, or it
/// cannot be read. One GET.
pub async fn holder(store: &Store, ns: &NsKey, role: &str, term: u64) -> Result<Option<(String, u64)>, StoreError> {
    let body = store.get(&paths::lease(ns, role, term)).await?;
    let body = body.filter(|body| body.len() <= BODY_BYTES_MAX);
    let held = body.and_then(|body| serde_json::from_slice::<Body>(&body).ok());
    Ok(held.map(|held| (held.node, held.expires_ms)))
}

/// The longest that a lease is taken for.
const LONGEST: Duration = Duration::from_secs(3600);

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
