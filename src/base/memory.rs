//! One ledger for the memory that requests, tails, caches and jobs hold.
//!
//! # What stays true
//!
//! - A share is never exceeded: over it, [`Ledger::charge`] fails and the caller answers 429 or
//!   waits. Nothing is killed.
//! - A charge is given back when its guard is dropped, on every path.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What memory is used for; each has its own fixed share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryShare {
    /// Request bodies and what is parsed from them, until answered.
    Bodies,
    /// Log entries held in memory as tails.
    Tails,
}

/// The shares and what is in use of each.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
}

struct Inner {
    bodies: Share,
    tails: Share,
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
    /// A ledger with the given limits in bytes.
    pub fn new(bodies_bytes: u64, tails_bytes: u64) -> Self {
        let share = |limit_bytes| Share {
            limit_bytes,
            used_bytes: AtomicU64::new(0),
        };
        Self {
            inner: Arc::new(Inner {
                bodies: share(bodies_bytes),
                tails: share(tails_bytes),
            }),
        }
    }

    fn share(&self, share: MemoryShare) -> &Share {
        match share {
            MemoryShare::Bodies => &self.inner.bodies,
            MemoryShare::Tails => &self.inner.tails,
        }
    }

    /// Takes `bytes` from a share, all or nothing.
    pub fn charge(&self, share: MemoryShare, bytes: u64) -> Result<Charge, OutOfMemory> {
        let mut charge = Charge {
            ledger: self.clone(),
            share,
            bytes: 0,
        };
        charge.grow(bytes)?;
        Ok(charge)
    }

    /// Takes `bytes` whether or not there is room: for what exists already and cannot be refused,
    /// such as an entry another node has committed.
    pub fn charge_always(&self, share: MemoryShare, bytes: u64) -> Charge {
        self.share(share).used_bytes.fetch_add(bytes, Ordering::Relaxed);
        Charge {
            ledger: self.clone(),
            share,
            bytes,
        }
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
    bytes: u64,
}

impl Charge {
    /// Takes `more` bytes; on failure the charge stays as it was.
    pub fn grow(&mut self, more: u64) -> Result<(), OutOfMemory> {
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
}
