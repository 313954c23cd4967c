//! The memory tier: decoded things, and extents of raw bytes, within one limit.
//!
//! Vectors have a quarter of it for themselves: they are read in bulk, and would push everything else out.

use std::any::Any;
use std::hash::{BuildHasher, Hasher};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use object_store::path::Path;
use quick_cache::sync::{Cache as QuickCache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

use super::pieces::{EXTENT, Pieces};
use super::{ObjectRef, ReadKind};
use crate::base::{Charge, Ledger, MemoryShare};

/// What an entry costs beside its bytes, about.
const OVERHEAD_BYTES: u64 = 160;
/// Locks are for shards of at least this size, so that large things fit into one.
const SHARD_BYTES_MIN: u64 = 256 << 20;
const SHARDS_MAX: u64 = 16;
/// An entry of unknown size is taken to be of this one when the cache sizes its tables.
const USUAL_ENTRY_BYTES: u64 = 16 << 10;

/// Anything that was made of an object's bytes.
pub(super) type Decoded = Arc<dyn Any + Send + Sync>;

/// What an entry is of.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    pub(super) key: Arc<Path>,
    pub(super) part: Part,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Part {
    /// The n-th 64 KiB of the object.
    Extent(u64),
    /// What was decoded under this tag.
    Decoded(u64),
}

#[derive(Clone)]
enum Entry {
    /// Parts of the extent by their offset in the object, ascending, disjoint.
    Extent(Arc<[(u64, Bytes)]>),
    Decoded {
        value: Decoded,
        weight: u64,
    },
}

#[derive(Clone)]
struct Weigh;

impl Weighter<Slot, Entry> for Weigh {
    fn weight(&self, _: &Slot, entry: &Entry) -> u64 {
        OVERHEAD_BYTES
            + match entry {
                Entry::Extent(parts) => parts.iter().map(|(_, bytes)| bytes.len() as u64).sum(),
                Entry::Decoded { weight, .. } => *weight,
            }
    }
}

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

type Quick = QuickCache<Slot, Entry, Weigh, SteadyState>;

/// See the module.
pub(super) struct Memory {
    main: Quick,
    vectors: Quick,
    /// Held to state the weight, for a moment.
    charge: Mutex<Charge>,
}

fn quick(bytes: u64) -> Quick {
    let shards = (bytes / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX);
    let options = OptionsBuilder::new()
        .shards(shards as usize)
        .estimated_items_capacity((bytes / USUAL_ENTRY_BYTES).max(64) as usize)
        .weight_capacity(bytes)
        .build()
        .expect("both capacities are set");
    QuickCache::with_options(options, Weigh, SteadyState, DefaultLifecycle::default())
}

impl Memory {
    pub(super) fn new(bytes: u64, ledger: &Ledger) -> Self {
        Self {
            main: quick(bytes - bytes / 4),
            vectors: quick(bytes / 4),
            charge: Mutex::new(ledger.charge_always(MemoryShare::Caches, 0)),
        }
    }

    /// Bytes held.
    pub(super) fn weight(&self) -> u64 {
        self.main.weight() + self.vectors.weight()
    }

    /// The most that it holds, in bytes.
    pub(super) fn capacity(&self) -> u64 {
        self.main.capacity() + self.vectors.capacity()
    }

    fn state_weight(&self) {
        let mut charge = self.charge.lock().unwrap_or_else(|e| e.into_inner());
        charge.set_always(self.weight());
    }

    fn tier(&self, kind: ReadKind) -> (&Quick, &Quick) {
        match kind {
            ReadKind::Vectors => (&self.vectors, &self.main),
            _ => (&self.main, &self.vectors),
        }
    }

    fn extent(&self, slot: &Slot, kind: ReadKind) -> Option<Arc<[(u64, Bytes)]>> {
        let (first, second) = self.tier(kind);
        match first.get(slot).or_else(|| second.get(slot))? {
            Entry::Extent(parts) => Some(parts),
            Entry::Decoded { .. } => None,
        }
    }

    /// These bytes, if all are here. Without a copy where they lie in one part of one extent.
    pub(super) fn slice(&self, object: &ObjectRef, range: &Range<u64>, kind: ReadKind) -> Option<Bytes> {
        if range.is_empty() {
            return Some(Bytes::new());
        }
        let mut slot = Slot {
            key: object.key.clone(),
            part: Part::Extent(range.start / EXTENT),
        };
        let parts = self.extent(&slot, kind)?;
        for (start, bytes) in parts.iter() {
            if *start <= range.start && start + bytes.len() as u64 >= range.end {
                return Some(bytes.slice((range.start - start) as usize..(range.end - start) as usize));
            }
        }
        let mut joined: Vec<u8> = Vec::new();
        let mut at = range.start;
        let mut parts = Some(parts);
        while at < range.end {
            let held = match parts.take() {
                Some(first) => first,
                None => {
                    slot.part = Part::Extent(at / EXTENT);
                    self.extent(&slot, kind)?
                }
            };
            let stop = range.end.min((at / EXTENT + 1) * EXTENT);
            for (start, bytes) in held.iter() {
                let end = start + bytes.len() as u64;
                if *start <= at && end > at {
                    if joined.is_empty() {
                        joined.reserve_exact((range.end - range.start) as usize);
                    }
                    let until = end.min(stop);
                    joined.extend_from_slice(&bytes[(at - start) as usize..(until - start) as usize]);
                    at = until;
                }
            }
            if at < stop {
                return None;
            }
        }
        Some(joined.into())
    }

    /// Adds what is here of `range` to `pieces`.
    pub(super) fn collect(&self, object: &ObjectRef, range: &Range<u64>, kind: ReadKind, pieces: &mut Pieces) {
        for number in range.start / EXTENT..range.end.div_ceil(EXTENT) {
            let slot = Slot {
                key: object.key.clone(),
                part: Part::Extent(number),
            };
            // An extent in which vectors end and something else begins is in both tiers, in parts.
            let (first, second) = self.tier(kind);
            for tier in [first, second] {
                if let Some(Entry::Extent(parts)) = tier.get(&slot) {
                    parts.iter().for_each(|(start, bytes)| pieces.insert(*start, bytes));
                }
            }
        }
    }

    /// Keeps bytes that begin at `start`, a multiple of the sub-block. Copies them, or one extent would keep the whole
    /// body of a request in memory; not where they are `alone` in their allocation and small.
    pub(super) fn insert(&self, object: &ObjectRef, start: u64, bytes: &Bytes, kind: ReadKind, alone: bool) {
        let (tier, _) = self.tier(kind);
        if tier.capacity() == 0 {
            return;
        }
        let alone = alone && bytes.len() as u64 <= EXTENT;
        let end = start + bytes.len() as u64;
        for number in start / EXTENT..end.div_ceil(EXTENT) {
            let from = start.max(number * EXTENT);
            let to = end.min((number + 1) * EXTENT);
            let slot = Slot {
                key: object.key.clone(),
                part: Part::Extent(number),
            };
            let held = match tier.peek(&slot) {
                Some(Entry::Extent(parts)) => parts,
                _ => Arc::from(Vec::new()),
            };
            let known = held.iter().map(|(start, bytes)| *start..*start + bytes.len() as u64);
            let new = super::pieces::subtract(&(from..to), known);
            if new.is_empty() {
                continue;
            }
            let mut parts: Vec<(u64, Bytes)> = held.to_vec();
            parts.extend(new.into_iter().map(|part| {
                let slice = &bytes[(part.start - start) as usize..(part.end - start) as usize];
                let kept = match alone {
                    true => bytes.slice_ref(slice),
                    false => Bytes::copy_from_slice(slice),
                };
                (part.start, kept)
            }));
            parts.sort_unstable_by_key(|(start, _)| *start);
            tier.insert(slot, Entry::Extent(join_all(parts).into()));
        }
        self.state_weight();
    }

    /// What was decoded under that tag.
    pub(super) fn decoded(&self, slot: &Slot) -> Option<(Decoded, u64)> {
        match self.main.get(slot)? {
            Entry::Decoded { value, weight } => Some((value, weight)),
            Entry::Extent(_) => None,
        }
    }

    /// Keeps a decoded thing of `weight` bytes.
    pub(super) fn insert_decoded(&self, slot: Slot, value: Decoded, weight: u64) {
        self.main.insert(slot, Entry::Decoded { value, weight });
        self.state_weight();
    }

    /// Whether some of that extent is here; leaves its place in the order of eviction as it is.
    pub(super) fn held_of_extent(&self, object: &ObjectRef, number: u64) -> u64 {
        let slot = Slot {
            key: object.key.clone(),
            part: Part::Extent(number),
        };
        let held = self.main.peek(&slot).or_else(|| self.vectors.peek(&slot));
        match held {
            Some(Entry::Extent(parts)) => parts.iter().map(|(_, bytes)| bytes.len() as u64).sum(),
            _ => 0,
        }
    }

    /// Drops everything of these objects. Looks at every entry.
    pub(super) fn purge(&self, objects: &[ObjectRef]) {
        let keys: std::collections::HashSet<&Path, SteadyState> = objects.iter().map(|o| o.key.as_ref()).collect();
        for tier in [&self.main, &self.vectors] {
            tier.retain(|slot, _| !keys.contains(slot.key.as_ref()));
        }
        self.state_weight();
    }
}

/// Makes one part of neighbours: a read across them needs no copy then.
fn join_all(parts: Vec<(u64, Bytes)>) -> Vec<(u64, Bytes)> {
    let touching = |pair: &[(u64, Bytes)]| pair[0].0 + pair[0].1.len() as u64 == pair[1].0;
    if !parts.windows(2).any(touching) {
        return parts;
    }
    let mut joined: Vec<(u64, Vec<u8>)> = Vec::new();
    for (start, bytes) in parts {
        match joined.last_mut() {
            Some((first, held)) if *first + held.len() as u64 == start => held.extend_from_slice(&bytes),
            _ => joined.push((start, bytes.to_vec())),
        }
    }
    joined.into_iter().map(|(start, bytes)| (start, bytes.into())).collect()
}
