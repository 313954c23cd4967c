//! From a credential to its key, at the price of as few looks into the store as possible.
//!
//! What is remembered here says where to look, never whether a key lives: that is asked of the organization's
//! cached state each time. Looks that find nothing are paid from a budget, so that strangers cannot make this
//! node ask the store without end.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::TryStreamExt;

use super::scoped::Scoped;
use super::{Claim, LiveKey, damaged, sha256};
use crate::control::Control;
use crate::error::{Error, ErrorKind, Result};
use crate::model::OrgId;
use crate::store::paths::control as paths;
use crate::store::record::RecordError;

/// The most digests, unknown digests and prefixes that are remembered, each.
const REMEMBERED_MAX: usize = 64 * 1024;
/// How long a digest counts as unknown, and a prefix is not listed again.
const UNKNOWN_FOR: Duration = Duration::from_secs(5);
/// How many keys may sign for a scoped key.
const CANDIDATES_MAX: usize = 16;
/// Looks into the store for credentials that nobody has, in a second.
const MISSES_PER_IP: u32 = 20;
const MISSES_PER_NODE: u32 = 200;

/// What a node remembers of credentials.
#[derive(Default)]
pub struct Lookup {
    /// Held to read or note something.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    digests: HashMap<[u8; 32], (OrgId, u64)>,
    /// Until when nobody has them.
    unknown: HashMap<[u8; 32], Duration>,
    prefixes: HashMap<[u8; 4], Candidates>,
    budget: Budget,
}

/// The keys whose values begin with a prefix.
#[derive(Clone)]
struct Candidates {
    keys: Arc<[(OrgId, u64)]>,
    since: Duration,
}

/// Failed looks of the current second.
#[derive(Default)]
struct Budget {
    second: u64,
    of_node: u32,
    by_ip: HashMap<Option<IpAddr>, u32>,
}

impl Budget {
    fn take(&mut self, ip: Option<IpAddr>, now: Duration) -> bool {
        if self.second != now.as_secs() {
            self.second = now.as_secs();
            self.of_node = 0;
            self.by_ip.clear();
        }
        // At most as many addresses as the node's own budget.
        let of_ip = self.by_ip.get(&ip).copied().unwrap_or(0);
        let room = self.of_node < MISSES_PER_NODE && of_ip < MISSES_PER_IP;
        if room {
            self.of_node += 1;
            self.by_ip.insert(ip, of_ip + 1);
        }
        room
    }

    fn give_back(&mut self, ip: Option<IpAddr>, now: Duration) {
        if self.second == now.as_secs() {
            self.of_node = self.of_node.saturating_sub(1);
            if let Some(n) = self.by_ip.get_mut(&ip) {
                *n = n.saturating_sub(1);
            }
        }
    }
}

/// The part of an address that a client cannot choose: an IPv6 client has a whole /64.
fn network(ip: Option<IpAddr>) -> Option<IpAddr> {
    ip.map(|ip| match ip.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        v4 => v4,
    })
}

impl Lookup {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// A key was made, or found.
    pub(super) fn learned(&self, digest: [u8; 32], org: &OrgId, id: u64) {
        let mut state = self.state();
        state.unknown.remove(&digest);
        if state.digests.len() >= REMEMBERED_MAX {
            state.digests.clear();
        }
        state.digests.insert(digest, (org.clone(), id));
    }

    /// A key was deleted.
    pub(super) fn forgot(&self, digest: &[u8; 32]) {
        self.state().digests.remove(digest);
    }

    fn note_unknown(&self, digest: [u8; 32], now: Duration) {
        let unknown = &mut self.state().unknown;
        if unknown.len() >= REMEMBERED_MAX {
            unknown.retain(|_, until| *until > now);
        }
        if unknown.len() >= REMEMBERED_MAX {
            unknown.clear();
        }
        unknown.insert(digest, now + UNKNOWN_FOR);
    }

    fn note_prefix(&self, prefix: [u8; 4], candidates: Candidates) {
        let prefixes = &mut self.state().prefixes;
        if prefixes.len() >= REMEMBERED_MAX {
            prefixes.retain(|_, known| !known.keys.is_empty());
        }
        if prefixes.len() >= REMEMBERED_MAX {
            prefixes.clear();
        }
        prefixes.insert(prefix, candidates);
    }
}

/// Who made a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MadeBy {
    /// This deployment, which its check tag says: its digest was never another key's.
    Us,
    Client,
}

impl Control {
    /// The living key of this value.
    ///
    /// Costs nothing warm. Cold one GET, a LIST more for a value that a client chose, and what
    /// [`Control::live_key`] costs.
    ///
    /// * `ip` — whose budget pays if there is none
    ///
    /// # Errors
    ///
    /// 429 when the budget for looks that find nothing is used up.
    pub async fn key_of_value(
        &self,
        value: &[u8],
        made_by: MadeBy,
        ip: Option<IpAddr>,
    ) -> Result<Option<Arc<LiveKey>>> {
        let digest = sha256(value);
        let lookup = self.key_lookup();
        let known = lookup.state().digests.get(&digest).cloned();
        if let Some((org, id)) = known {
            let key = self.live_key(&org, id).await?.filter(|key| key.digest == digest);
            // A value that a client chose may be another key's by now.
            if key.is_some() || made_by == MadeBy::Us {
                return Ok(key);
            }
        }
        let now = self.runtime().clock.boot();
        if lookup.state().unknown.get(&digest).is_some_and(|until| now < *until) {
            return Ok(None);
        }
        // Nobody but us makes the check tag: such looks need no budget, and what strangers used up of it must not
        // keep the holders of keys out.
        if made_by == MadeBy::Client {
            self.pay(ip)?;
        }
        let at = paths::key_digest(&digest);
        let claim: Option<Claim> = match made_by {
            MadeBy::Us => self.records().at(&at, 1).await?.and_then(|r| r.value),
            MadeBy::Client => self.records().get(&at).await?,
        };
        let key = match claim {
            None => None,
            Some(claim) => {
                let org = OrgId::parse(&claim.org).map_err(|_| damaged())?;
                lookup.learned(digest, &org, claim.id);
                self.live_key(&org, claim.id).await?.filter(|key| key.digest == digest)
            }
        };
        match key {
            Some(_) if made_by == MadeBy::Client => lookup.state().budget.give_back(network(ip), now),
            Some(_) => {}
            None => lookup.note_unknown(digest, now),
        }
        Ok(key)
    }

    /// The living search-only key that signed a scoped key.
    ///
    /// Costs nothing warm. Cold one LIST, and what [`Control::live_key`] costs for each of at most 16 candidates.
    ///
    /// # Errors
    ///
    /// 429 when the budget for looks that find nothing is used up.
    pub async fn parent_of(&self, scoped: &Scoped, ip: Option<IpAddr>) -> Result<Option<Arc<LiveKey>>> {
        let prefix = scoped.prefix();
        let lookup = self.key_lookup();
        let now = self.runtime().clock.boot();
        let known = lookup.state().prefixes.get(&prefix).cloned();
        if let Some(known) = known {
            let parent = self.signer(scoped, &known.keys).await?;
            if parent.is_some() || now.saturating_sub(known.since) < UNKNOWN_FOR {
                return Ok(parent);
            }
        }
        self.pay(ip)?;
        let listed = self.records().store().list(&paths::key_prefix(&prefix), None);
        let listed: Vec<_> = listed.try_collect().await.map_err(RecordError::from)?;
        let mut keys: Vec<(OrgId, u64)> = listed
            .iter()
            .filter_map(|object| paths::parse_key_prefix_marker(&object.location))
            .map(|(_, org, id)| (org, id))
            .collect();
        keys.sort_unstable();
        keys.truncate(CANDIDATES_MAX);
        let keys: Arc<[_]> = keys.into();
        let candidates = Candidates {
            keys: keys.clone(),
            since: now,
        };
        lookup.note_prefix(prefix, candidates);
        let parent = self.signer(scoped, &keys).await?;
        if parent.is_some() {
            lookup.state().budget.give_back(network(ip), now);
        }
        Ok(parent)
    }

    /// Fails when more keys begin with a prefix than are tried: whoever chooses values could otherwise crowd the
    /// keys of others out.
    ///
    /// Costs one LIST.
    pub(super) async fn check_crowd(&self, prefix: &[u8; 4]) -> Result<()> {
        let listed = self.records().store().list(&paths::key_prefix(prefix), None);
        let listed: Vec<_> = listed.try_collect().await.map_err(RecordError::from)?;
        match listed.len() <= CANDIDATES_MAX {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Conflict,
                "too many search keys begin with these four characters; choose another value",
            )),
        }
    }

    async fn signer(&self, scoped: &Scoped, candidates: &[(OrgId, u64)]) -> Result<Option<Arc<LiveKey>>> {
        let now = self.now();
        for (org, id) in candidates {
            let Some(key) = self.live_key(org, *id).await? else {
                continue;
            };
            let signs = |value: &crate::control::Hidden| scoped.is_signed_by(value.reveal().as_bytes());
            if key.grant.not_after.is_none_or(|last| now <= last) && key.value.as_ref().is_some_and(signs) {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    fn pay(&self, ip: Option<IpAddr>) -> Result<()> {
        let now = self.runtime().clock.boot();
        match self.key_lookup().state().budget.take(network(ip), now) {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Overloaded,
                "too many requests came with keys that nobody has; wait a second",
            )
            .coded("rate_limited")
            .after(Duration::from_secs(1))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_per_second_address_and_node() {
        let mut budget = Budget::default();
        let ip = |n: u8| Some(IpAddr::from([10, 0, 0, n]));
        let at = Duration::from_secs;
        for _ in 0..MISSES_PER_IP {
            assert!(budget.take(ip(1), at(1)));
        }
        assert!(!budget.take(ip(1), at(1)), "its own is used up");
        assert!(budget.take(ip(2), at(1)), "another's is not");
        budget.give_back(ip(1), at(1));
        assert!(budget.take(ip(1), at(1)) && !budget.take(ip(1), at(1)));
        let taken = (3..200)
            .flat_map(|n| [n; 20])
            .filter(|n| budget.take(ip(*n), at(1)))
            .count();
        assert_eq!(
            taken,
            usize::try_from(MISSES_PER_NODE - MISSES_PER_IP - 1).expect("small")
        );
        assert!(budget.take(ip(1), at(2)), "a new second");
    }

    #[test]
    fn clients_of_one_network_share_a_budget() {
        let of = |text: &str| network(Some(text.parse().expect("an address")));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
        assert_eq!(network(None), None);
    }
}
