//! Advisory leases: who does the large jobs of a namespace.
//!
//! A lease saves nodes from doing the same work; nothing relies on it. Two nodes whose clocks differ may both hold it,
//! and then one of them loses the manifest to the other.

use std::time::Duration;

use futures::TryStreamExt;
use serde::{Deserialize, Serialize};

use crate::base::seal::{sealed, unsealed};
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

/// What came of asking for a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    Ours(Lease),
    /// Another node has it until then, unless it gives it back: wall time, milliseconds since the epoch.
    Elsewhere {
        expires_ms: u64,
    },
}

impl Taken {
    /// The lease, if this node has it.
    pub fn ours(self) -> Option<Lease> {
        match self {
            Taken::Ours(lease) => Some(lease),
            Taken::Elsewhere { .. } => None,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Body {
    node: String,
    expires_ms: u64,
}

/// Takes the lease of a role on a namespace, or takes it for longer. Costs one LIST and one PUT, one GET when there was
/// a holder before, and a DELETE for each term before.
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
) -> Result<Taken, StoreError> {
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
        && let Some(held) = decode(&body)
        && held.node != node
        && held.expires_ms > now_ms
        // Nobody takes one for so long: a clock was wrong.
        && held.expires_ms <= now_ms.saturating_add(millis(LONGEST))
    {
        return Ok(Taken::Elsewhere {
            expires_ms: held.expires_ms,
        });
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
    match store.create(&paths::lease(ns, role, lease.term), sealed(body)).await {
        Ok(()) => {}
        // A rival was faster, or perhaps not: then it runs out.
        Err(CreateError::Exists | CreateError::Ambiguous(_)) => {
            return Ok(Taken::Elsewhere {
                expires_ms: lease.expires_ms,
            });
        }
        Err(CreateError::Refused(error)) => return Err(error),
    }
    for old in terms {
        if let Err(error) = store.delete(&paths::lease(ns, role, old)).await {
            tracing::debug!(%error, "an old lease was not removed");
        }
    }
    Ok(Taken::Ours(lease))
}

/// Gives a lease back before it runs out. One DELETE. Should another node have taken it since under the same number,
/// two may do the same, which nothing minds.
pub async fn give_back(store: &Store, ns: &NsKey, role: &str, lease: Lease) -> Result<(), StoreError> {
    store.delete(&paths::lease(ns, role, lease.term)).await
}

/// Who holds a term of a lease, and until when, in milliseconds since the epoch; `None` when there is no such term, or it
/// cannot be read. One GET.
pub async fn holder(store: &Store, ns: &NsKey, role: &str, term: u64) -> Result<Option<(String, u64)>, StoreError> {
    let body = store.get(&paths::lease(ns, role, term)).await?;
    let held = body.and_then(|body| decode(&body));
    Ok(held.map(|held| (held.node, held.expires_ms)))
}

/// What a lease says. A damaged one says nothing: then two nodes may do the same, which nothing minds.
fn decode(body: &[u8]) -> Option<Body> {
    match body.len() <= BODY_BYTES_MAX {
        true => serde_json::from_slice(unsealed(body)?).ok(),
        false => None,
    }
}

/// The longest that a lease is taken for.
const LONGEST: Duration = Duration::from_secs(3600);

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
