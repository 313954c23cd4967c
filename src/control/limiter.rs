//! Rate limits: token buckets of organizations, keys and addresses, in the memory of this node.
//!
//! A limit is of all nodes together; each enforces its share of it: the limit divided by the nodes that live. A
//! bucket holds one second's worth. Nothing here does I/O, and nothing is allocated for a bucket that exists.
//!
//! A bucket is one number, the time at which it will be full again (the "generic cell rate algorithm"): a full one is
//! the same as none, so that forgetting those that nobody used for long changes nothing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::{Control, Organization};
use crate::config::Quotas;
use crate::error::{Error, ErrorKind, Result};
use crate::model::OrgId;
use crate::telemetry;

/// Locks that buckets are spread over.
const SHARDS: usize = 16;
/// The most buckets of a shard, twice: those used lately, and those before them.
const BUCKETS_MAX: usize = 8192;
/// Failed authentications of one address: per second, and at once.
const AUTH_FAILURES_PER_SECOND: u64 = 50;
const AUTH_FAILURES_AT_ONCE: u64 = 500;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rate {
    Queries,
    Writes,
}

/// The buckets of a node.
pub(super) struct Limiter {
    /// So that nobody can choose names that share a bucket.
    seed: u64,
    /// How many nodes share the limits.
    nodes: AtomicU64,
    shards: [Mutex<Shard>; SHARDS],
}

/// Buckets by the hash of what they are for; the time is when they are full, in nanoseconds of the boot clock.
#[derive(Default)]
struct Shard {
    new: HashMap<u128, u64>,
    old: HashMap<u128, u64>,
}

/// How fast a bucket fills.
#[derive(Clone, Copy, Debug)]
struct Refill {
    /// Nanoseconds for one token.
    interval: u64,
    /// Tokens of a full bucket, at least 1.
    burst: u64,
}

impl Limiter {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            nodes: AtomicU64::new(1),
            shards: Default::default(),
        }
    }

    fn shard(&self, bucket: u128) -> MutexGuard<'_, Shard> {
        let shard = &self.shards[(bucket % SHARDS as u128) as usize];
        shard.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Takes a token, or says after which time there is one.
    fn take(&self, bucket: u128, refill: Refill, now: Duration) -> Result<(), Duration> {
        let now = nanos(now);
        let mut shard = self.shard(bucket);
        let full_at = shard.find(bucket).max(now);
        let after = full_at.saturating_add(refill.interval);
        let room = now.saturating_add(refill.interval.saturating_mul(refill.burst));
        if after > room {
            return Err(Duration::from_nanos(after - room));
        }
        shard.set(bucket, after);
        Ok(())
    }

    /// Refill of this node's share of a limit of all nodes.
    fn share(&self, per_second: u64) -> Refill {
        let nodes = self.nodes.load(Ordering::Relaxed).max(1);
        let interval = nodes.saturating_mul(1_000_000_000) / per_second.max(1);
        Refill {
            interval: interval.max(1),
            burst: (per_second / nodes).max(1),
        }
    }

    fn bucket(&self, what: &str, a: &str, b: &str) -> u128 {
        // Hashed one after the other, so that no text has to be put together.
        let seed = xxh3_128_with_seed(what.as_bytes(), self.seed) as u64;
        let seed = xxh3_128_with_seed(a.as_bytes(), seed) as u64;
        xxh3_128_with_seed(b.as_bytes(), seed)
    }
}

impl Shard {
    /// When a bucket is full; 0 of one that is not there.
    fn find(&self, bucket: u128) -> u64 {
        let found = self.new.get(&bucket).or_else(|| self.old.get(&bucket));
        found.copied().unwrap_or(0)
    }

    fn set(&mut self, bucket: u128, full_at: u64) {
        if self.new.len() >= BUCKETS_MAX && !self.new.contains_key(&bucket) {
            // The longest unused half goes.
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(bucket, full_at);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The part of an address that one party has: all of IPv4, the /64 of IPv6.
fn party(ip: IpAddr) -> [u8; 8] {
    let half = match ip.to_canonical() {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
    };
    half.to_be_bytes()
}

fn limited(limit: &'static str, sentence: String, wait: Duration) -> Error {
    metrics::counter!(telemetry::RATE_LIMITED, "limit" => limit).increment(1);
    Error::new(ErrorKind::Overloaded, sentence)
        .coded("rate_limited")
        .after(wait)
}

impl Control {
    /// Takes one request from the rates of an organization's plan and of the key that was shown.
    ///
    /// * `key` — what the credential is told apart by within its organization, and its own limit per second
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Overloaded`] with the code `rate_limited` and the time after which there is room.
    pub fn limit(
        &self,
        org: &OrgId,
        plan_of: Option<&Organization>,
        key: Option<(&str, u64)>,
        rate: Rate,
    ) -> Result<()> {
        let name = match rate {
            Rate::Queries => "queries",
            Rate::Writes => "writes",
        };
        let quotas = plan_of.map(|org| self.plan(org).quotas).unwrap_or_default();
        self.take_both(name, org.as_str(), &quotas, key, rate)
    }

    /// Takes one request of the control plane from the same rates. Its buckets are others than those of data, so that
    /// neither can lock the other out.
    ///
    /// * `whose` — the id of the organization acted in, or of the user where there is none
    /// * `plan_of` — the organization; without one the default plan counts
    ///
    /// # Errors
    ///
    /// As [`limit`](Self::limit).
    pub fn limit_control(
        &self,
        whose: &str,
        plan_of: Option<&Organization>,
        key: Option<(&str, u64)>,
        rate: Rate,
    ) -> Result<()> {
        let name = match rate {
            Rate::Queries => "reads of the control plane",
            Rate::Writes => "changes of the control plane",
        };
        let plan = match plan_of {
            Some(org) => self.plan(org),
            None => self.plans().default_plan(),
        };
        self.take_both(name, whose, &plan.quotas, key, rate)
    }

    fn take_both(
        &self,
        name: &'static str,
        whose: &str,
        quotas: &Quotas,
        key: Option<(&str, u64)>,
        rate: Rate,
    ) -> Result<()> {
        let now = self.runtime().clock.boot();
        let limiter = self.limiter();
        if let Some((id, limit)) = key {
            let bucket = limiter.bucket(name, whose, id);
            let taken = limiter.take(bucket, limiter.share(limit), now);
            taken.map_err(|wait| {
                let sentence = format!("rate limited: this key may send {limit} {name} per second; try again later");
                limited("key", sentence, wait)
            })?;
        }
        let limit = match rate {
            Rate::Queries => quotas.queries_per_second,
            Rate::Writes => quotas.writes_per_second,
        };
        let Some(limit) = limit else { return Ok(()) };
        let bucket = limiter.bucket(name, whose, "");
        let taken = limiter.take(bucket, limiter.share(limit), now);
        taken.map_err(|wait| {
            let sentence =
                format!("rate limited: the organization's plan has {limit} {name} per second; try again later");
            limited("organization", sentence, wait)
        })
    }

    /// Counts a failed authentication of an address.
    ///
    /// Valid credentials are let in from everywhere: behind a proxy many share an address, and none of them may
    /// lock the others out.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Overloaded`] to be answered in place of 401, when there were too many.
    pub fn limit_failed_authentication(&self, ip: IpAddr) -> Result<()> {
        let limiter = self.limiter();
        let bucket = xxh3_128_with_seed(&party(ip), limiter.seed);
        let refill = Refill {
            interval: 1_000_000_000 / AUTH_FAILURES_PER_SECOND,
            burst: AUTH_FAILURES_AT_ONCE,
        };
        let taken = limiter.take(bucket, refill, self.runtime().clock.boot());
        taken.map_err(|wait| {
            let sentence = "rate limited: too many requests of this address had no valid key; try again later";
            limited("address", sentence.into(), wait)
        })
    }

    /// Whether something is due that is done once per `every` at most.
    pub(super) fn is_due(&self, what: &str, a: &str, b: &str, every: Duration) -> bool {
        let limiter = self.limiter();
        let refill = Refill {
            interval: nanos(every),
            burst: 1,
        };
        let bucket = limiter.bucket(what, a, b);
        limiter.take(bucket, refill, self.runtime().clock.boot()).is_ok()
    }

    /// From now on this node enforces one part in so many of every limit.
    pub fn share_limits(&self, nodes: usize) {
        self.limiter().nodes.store(nodes.max(1) as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
