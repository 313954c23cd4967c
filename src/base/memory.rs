//! One ledger for the memory that requests, tails, caches and jobs hold.
//!
//! # What stays true
//!
//! - A share is never exceeded: over it, [`Ledger::charge`] fails and the caller answers 429 or
//!   waits. Nothing is killed.
//! - While others hold or want some of the memory for bodies, no tenant gets more than half of it.
//! - A charge is given back when its guard is dropped, on every path.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Tenant, context};

/// What memory is used for; each has its own fixed share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryShare {
    /// Request bodies and what is parsed from them, until answered.
    Bodies,
    /// Log entries held in memory as tails.
    Tails,
    /// What is kept of the store's objects. Never refused: the cache evicts instead.
    Caches,
}

/// The shares and what is in use of each.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
}

struct Inner {
    bodies: Share,
    tails: Share,
    caches: Share,
    /// Of the memory for bodies, who holds how much. Held to add or subtract.
    holders: Mutex<Holders>,
}

/// Who holds how much of a share.
#[derive(Default)]
struct Holders {
    bytes: HashMap<Tenant, u64>,
    /// Who was refused and has got nothing since.
    wanting: Option<Tenant>,
}

impl Holders {
    /// Whether others than this tenant hold or want memory.
    fn others(&self, tenant: Tenant) -> bool {
        self.wanting.is_some_and(|t| t != tenant) || self.bytes.keys().any(|t| *t != tenant)
    }

    fn add(&mut self, tenant: Tenant, bytes: u64) {
        if bytes > 0 {
            *self.bytes.entry(tenant).or_default() += bytes;
        }
        if self.wanting == Some(tenant) {
            self.wanting = None;
        }
    }

    fn subtract(&mut self, tenant: Tenant, bytes: u64) {
        if let Some(held) = self.bytes.get_mut(&tenant) {
            *held = held.saturating_sub(bytes);
            if *held == 0 {
                self.bytes.remove(&tenant);
            }
        }
        if self.bytes.is_empty() {
            // Everything is free: who still wants some will get it.
            self.wanting = None;
        }
    }
}

struct Share {
    limit_bytes: u64,
    used_bytes: AtomicU64,
}

/// The share has no room for this charge now.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
#[error("memory for {share:?} is used up: {wanted_bytes} bytes wanted, {used_bytes} of {limit_bytes} in use")]
pub struct OutOfMemory {
    pub share: MemoryShare,
    pub wanted_bytes: u64,
    pub used_bytes: u64,
    pub limit_bytes: u64,
}

impl Ledger {
    /// A ledger with the given limits in bytes, and none to spare for caches.
    pub fn new(bodies_bytes: u64, tails_bytes: u64) -> Self {
        Self::with_caches(bodies_bytes, tails_bytes, 0)
    }

    /// A ledger with the given limits in bytes.
    pub fn with_caches(bodies_bytes: u64, tails_bytes: u64, caches_bytes: u64) -> Self {
        let share = |limit_bytes| Share {
            limit_bytes,
            used_bytes: AtomicU64::new(0),
        };
        Self {
            inner: Arc::new(Inner {
                bodies: share(bodies_bytes),
                tails: share(tails_bytes),
                caches: share(caches_bytes),
                holders: Mutex::default(),
            }),
        }
    }

    fn holders(&self) -> MutexGuard<'_, Holders> {
        self.inner.holders.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn share(&self, share: MemoryShare) -> &Share {
        match share {
            MemoryShare::Bodies => &self.inner.bodies,
            MemoryShare::Tails => &self.inner.tails,
            MemoryShare::Caches => &self.inner.caches,
        }
    }

    /// Takes `bytes` from a share, all or nothing, for the task's tenant (see [`context::tenant`]).
    pub fn charge(&self, share: MemoryShare, bytes: u64) -> Result<Charge, OutOfMemory> {
        let mut charge = Charge {
            ledger: self.clone(),
            share,
            tenant: context::tenant(),
            bytes: 0,
        };
        charge.grow(bytes)?;
        Ok(charge)
    }

    /// Takes `bytes` whether or not there is room: for what exists already and cannot be refused,
    /// such as an entry another node has committed.
    pub fn charge_always(&self, share: MemoryShare, bytes: u64) -> Charge {
        let mut charge = Charge {
            ledger: self.clone(),
            share,
            tenant: context::tenant(),
            bytes: 0,
        };
        charge.set_always(bytes);
        charge
    }

    /// Bytes in use.
    pub fn used_bytes(&self, share: MemoryShare) -> u64 {
        self.share(share).used_bytes.load(Ordering::Relaxed)
    }

    /// The limit of a share in bytes.
    pub fn limit_bytes(&self, share: MemoryShare) -> u64 {
        self.share(share).limit_bytes
    }
}

/// Memory taken from a share; given back on drop.
pub struct Charge {
    ledger: Ledger,
    share: MemoryShare,
    tenant: Tenant,
    bytes: u64,
}

impl Charge {
    /// Takes `more` bytes; on failure the charge stays as it was.
    pub fn grow(&mut self, more: u64) -> Result<(), OutOfMemory> {
        if self.share != MemoryShare::Bodies {
            return self.take(more);
        }
        let ledger = self.ledger.clone();
        let mut holders = ledger.holders();
        let limit_bytes = ledger.share(self.share).limit_bytes;
        let held = holders.bytes.get(&self.tenant).copied().unwrap_or(0);
        let too_much = self.tenant != Tenant::NONE && more > 0 && held.saturating_add(more) > limit_bytes / 2;
        let taken = match too_much && holders.others(self.tenant) {
            true => Err(OutOfMemory {
                share: self.share,
                wanted_bytes: more,
                used_bytes: held,
                limit_bytes: limit_bytes / 2,
            }),
            false => self.take(more),
        };
        match &taken {
            Ok(()) => holders.add(self.tenant, more),
            // Whoever holds a lot already waits for itself, not for others.
            Err(_) if self.tenant != Tenant::NONE && held.saturating_add(more) <= limit_bytes / 2 => {
                holders.wanting = Some(self.tenant);
            }
            Err(_) => {}
        }
        taken
    }

    fn take(&mut self, more: u64) -> Result<(), OutOfMemory> {
        let share = self.ledger.share(self.share);
        let taken = share
            .used_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(more).filter(|sum| *sum <= share.limit_bytes)
            });
        match taken {
            Ok(_) => {
                self.bytes += more;
                Ok(())
            }
            Err(used_bytes) => Err(OutOfMemory {
                share: self.share,
                wanted_bytes: more,
                used_bytes,
                limit_bytes: share.limit_bytes,
            }),
        }
    }

    /// Holds exactly `bytes` from now on, whether or not there is room; see
    /// [`Ledger::charge_always`].
    pub fn set_always(&mut self, bytes: u64) {
        if bytes > self.bytes {
            let share = self.ledger.share(self.share);
            share.used_bytes.fetch_add(bytes - self.bytes, Ordering::Relaxed);
            if self.share == MemoryShare::Bodies {
                self.ledger.holders().add(self.tenant, bytes - self.bytes);
            }
            self.bytes = bytes;
        }
        self.shrink_to(bytes);
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives back all but `keep` bytes.
    pub fn shrink_to(&mut self, keep: u64) {
        if keep < self.bytes {
            let share = self.ledger.share(self.share);
            share.used_bytes.fetch_sub(self.bytes - keep, Ordering::Relaxed);
            if self.share == MemoryShare::Bodies {
                self.ledger.holders().subtract(self.tenant, self.bytes - keep);
            }
            self.bytes = keep;
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_is_given_back_on_drop_and_refused_over_the_limit() {
        let ledger = Ledger::new(100, 10);
        let mut a = ledger.charge(MemoryShare::Bodies, 60).expect("fits");
        assert!(ledger.charge(MemoryShare::Bodies, 41).is_err());
        assert!(a.grow(41).is_err());
        a.grow(40).expect("fits exactly");
        assert_eq!(ledger.used_bytes(MemoryShare::Bodies), 100);
        drop(a);
        assert_eq!(ledger.used_bytes(MemoryShare::Bodies), 0);
        assert_eq!(ledger.used_bytes(MemoryShare::Tails), 0);
    }

    #[tokio::test]
    async fn one_tenant_gets_half_while_others_hold_or_want_some() {
        let ledger = Ledger::new(100, 10);
        let (a, b) = (Tenant::named("a"), Tenant::named("b"));
        let charge = async |tenant, bytes| {
            context::for_tenant(tenant, async { ledger.charge(MemoryShare::Bodies, bytes) }).await
        };
        // Alone: everything.
        let all = charge(a, 90).await.expect("nobody else wants any");
        assert!(charge(b, 20).await.is_err(), "there is no room");
        // Now somebody else does: what is there stays, and no more is given.
        assert_eq!(charge(a, 1).await.err().map(|e| e.limit_bytes), Some(50));
        drop(all);
        let half = charge(a, 50).await.expect("all is free again");
        let other = charge(b, 20).await.expect("room");
        assert!(charge(a, 1).await.is_err(), "more than half");
        assert!(charge(b, 30).await.is_ok(), "half is left");
        drop(other);
        let mut more = charge(a, 40).await.expect("alone again");
        assert!(charge(b, 11).await.is_err());
        more.shrink_to(10);
        assert!(charge(a, 1).await.is_err(), "another one wants some");
        let theirs = charge(b, 11).await.expect("it gets it");
        drop((half, more, theirs));
        assert_eq!(ledger.used_bytes(MemoryShare::Bodies), 0);
        let holders = ledger.holders();
        assert!(holders.bytes.is_empty() && holders.wanting.is_none());
    }
}
