//! The memory tier: decoded things, and runs of raw bytes, within one limit.
//!
//! A run is what one read brought, or a piece of it, and is handed out as it is: reads within a run copy nothing, however
//! long they are. Vectors have a quarter of the memory for themselves: they are read in bulk, and would push everything
//! else out.

mod pool;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::hash::{BuildHasher, Hasher};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use object_store::path::Path;

use super::pieces::{self, Pieces};
use super::{ObjectRef, ReadKind};
use crate::base::{Charge, Ledger, MemoryShare};
use pool::Pool;

/// A run is at most this long, so that evicting one makes room for a while and drops little at a time.
const RUN_BYTES_MAX: u64 = 8 << 20;
/// A run is at most this part of its pool.
const RUNS_MIN: u64 = 64;
/// Runs below this need no part of the pool: smaller ones would be slow for nothing.
const RUN_BYTES_MIN: u64 = 64 << 10;
/// Reads of at least so many bytes that lie in several runs make one run of them, so that the next one copies nothing.
const JOINED_BYTES_MIN: u64 = 32 << 10;
/// By how much more than what was read may be copied then.
const JOINED_FACTOR: u64 = 4;

/// How much of what was made is remembered, about.
const REMEMBERED: usize = 16 << 10;

/// Anything that was made of an object's bytes.
pub(super) type Decoded = Arc<dyn Any + Send + Sync>;

/// Hashes the same in every run, so that a simulated run evicts the same. Keys of objects end in random bits that
/// clients do not choose.
#[derive(Clone, Default)]
pub(super) struct SteadyState;

pub(super) struct SteadyHasher(u64);

impl BuildHasher for SteadyState {
    type Hasher = SteadyHasher;

    fn build_hasher(&self) -> SteadyHasher {
        SteadyHasher(0x9e37_79b9_7f4a_7c15)
    }
}

impl Hasher for SteadyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxhash_rust::xxh3::xxh3_64_with_seed(bytes, self.0);
    }

    fn write_u8(&mut self, _: u8) {
        // The end of a text: nothing else follows a text of another length here that could be confused.
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(0xff51_afd7_ed55_8ccd);
        self.0 = mixed ^ (mixed >> 32);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }
}

/// See the module.
pub(super) struct Memory {
    main: Pool,
    vectors: Pool,
    /// Marks of what was made lately, each at the place that its hash gives it.
    made: Box<[AtomicU32]>,
    /// Held to state the weight, for a moment.
    charge: Mutex<Charge>,
}

impl Memory {
    pub(super) fn new(bytes: u64, ledger: &Ledger) -> Self {
        Self {
            main: Pool::new(bytes - bytes / 4),
            vectors: Pool::new(bytes / 4),
            made: (0..REMEMBERED).map(|_| AtomicU32::new(0)).collect(),
            charge: Mutex::new(ledger.charge_always(MemoryShare::Caches, 0)),
        }
    }

    /// Bytes held.
    pub(super) fn weight(&self) -> u64 {
        self.main.weight() + self.vectors.weight()
    }

    /// The most that it holds, in bytes.
    pub(super) fn capacity(&self) -> u64 {
        self.main.limit() + self.vectors.limit()
    }

    fn state_weight(&self) {
        let mut charge = self.charge.lock().unwrap_or_else(|e| e.into_inner());
        charge.set_always(self.weight());
    }

    /// The pool that things of this kind are in, and the other one.
    fn pools(&self, kind: ReadKind) -> (&Pool, &Pool) {
        match kind {
            ReadKind::Vectors => (&self.vectors, &self.main),
            _ => (&self.main, &self.vectors),
        }
    }

    /// These bytes, if all are here. Without a copy where they lie in one run.
    pub(super) fn slice(&self, object: &ObjectRef, range: &Range<u64>, kind: ReadKind) -> Option<Bytes> {
        if range.is_empty() {
            return Some(Bytes::new());
        }
        let (first, second) = self.pools(kind);
        let within = first.slice(&object.key, range);
        if let Some(bytes) = within.or_else(|| second.slice(&object.key, range)) {
            return Some(match kind {
                // A segment that is open keeps its hot region, and should not keep what lies around it.
                ReadKind::Hot => Bytes::copy_from_slice(&bytes),
                ReadKind::Index | ReadKind::Rows | ReadKind::Vectors | ReadKind::Scan => bytes,
            });
        }
        if range.end - range.start >= JOINED_BYTES_MIN
            && let Some(bytes) = first.join(&object.key, range, JOINED_FACTOR * (range.end - range.start))
        {
            return Some(bytes);
        }
        let mut pieces = Pieces::default();
        self.collect(object, range, kind, &mut pieces);
        pieces.slice(range)
    }

    /// Adds what is here of `range` to `pieces`.
    pub(super) fn collect(&self, object: &ObjectRef, range: &Range<u64>, kind: ReadKind, pieces: &mut Pieces) {
        // What vectors end in and something else begins with may be in either.
        let (first, second) = self.pools(kind);
        for pool in [first, second] {
            pool.each(&object.key, range, |start, bytes| pieces.insert(start, bytes));
        }
    }

    /// Keeps bytes that begin at `start`, a multiple of the sub-block, as far as they are not here.
    ///
    /// * `alone` — nothing but these bytes is kept in memory by them; otherwise they are copied
    pub(super) fn insert(&self, object: &ObjectRef, start: u64, bytes: &Bytes, kind: ReadKind, alone: bool) {
        let (pool, _) = self.pools(kind);
        if pool.limit() == 0 {
            return;
        }
        let run_bytes = run_bytes_max(pool.limit());
        let new = pool.gaps(&object.key, &(start..start + bytes.len() as u64));
        let runs = pieces::split(new, run_bytes).into_iter().map(|part| {
            let slice = bytes.slice((part.start - start) as usize..(part.end - start) as usize);
            let whole = slice.len() == bytes.len();
            let kept = if alone && whole {
                slice
            } else {
                Bytes::copy_from_slice(&slice)
            };
            (part.start, kept)
        });
        pool.insert_runs(object, kind, runs.collect());
        self.state_weight();
    }

    /// What was decoded under that tag, and its weight.
    pub(super) fn decoded(&self, key: &Path, tag: u64) -> Option<(Decoded, u64)> {
        self.main.decoded(key, tag)
    }

    /// Keeps a decoded thing of `weight` bytes.
    pub(super) fn insert_decoded(&self, object: &ObjectRef, tag: u64, value: Decoded, weight: u64, kind: ReadKind) {
        self.main.insert_decoded(object, tag, value, weight, kind);
        self.state_weight();
    }

    /// Notes that something was made. Whether it was before, as far as is remembered.
    pub(super) fn was_made(&self, key: &Arc<Path>, tag: u64) -> bool {
        let hash = SteadyState.hash_one((key, tag));
        let place = &self.made[hash as usize % self.made.len()];
        // Never 0, which is what the places begin with.
        let mark = (hash >> 32) as u32 | 1;
        place.swap(mark, Ordering::Relaxed) == mark
    }

    /// Raw bytes of the object that are here, about.
    pub(super) fn bytes_of(&self, object: &ObjectRef) -> u64 {
        let held = self.main.bytes_of(&object.key) + self.vectors.bytes_of(&object.key);
        held.min(object.len)
    }

    /// What is here of the object goes before what is used.
    pub(super) fn demote(&self, object: &ObjectRef) {
        self.main.demote(&object.key);
        self.vectors.demote(&object.key);
    }

    /// Drops everything of these objects.
    pub(super) fn purge(&self, objects: &[ObjectRef]) {
        for object in objects {
            self.main.remove(&object.key);
            self.vectors.remove(&object.key);
        }
        self.state_weight();
    }
}

/// The longest run in a pool of so many bytes.
fn run_bytes_max(limit: u64) -> u64 {
    let share = (limit / RUNS_MIN).max(1);
    let power = 1 << (u64::BITS - 1 - share.leading_zeros());
    u64::clamp(power, RUN_BYTES_MIN, RUN_BYTES_MAX)
}
