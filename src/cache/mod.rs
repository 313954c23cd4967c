//! Immutable objects of the store, kept near: decoded things and raw blocks in memory, blocks on a local disk.
//!
//! Everything that reads segments and other objects that never change reads them here.
//!
//! # What stays true
//!
//! - What is read is what the store has, or an error of the store. Whatever happens to memory, disk or files costs
//!   requests, never an answer.
//! - Objects are named by their whole key, and never change under it: nothing has to be invalidated.
//! - One GET is in flight for a range however many want it; it ends early only when nobody waits any more.
//! - The memory held is within its limit and charged to the [`Ledger`](crate::base::Ledger); it is never a reason to refuse a read.
//!
//! # Who touches it
//!
//! `segment` reads; `maintenance` passes new segments through and lets superseded ones go.
//!
//! # Cost
//!
//! Memory: no request, some microseconds. Disk: no request. Otherwise one GET per run of missing 4 KiB blocks; runs
//! with at most 256 KiB between them share one, and no GET is larger than 8 MiB.

mod bring;
mod disk;
mod flight;
mod memory;
mod meter;
mod options;
mod pieces;
#[cfg(test)]
mod tests;
mod turn;

use std::any::Any;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;

use crate::base::{Clock, Runtime};
use crate::model::OrgId;
use crate::store::{Store, StoreError};
use crate::telemetry::CACHE_READ_BYTES;
pub use bring::Missing;
use disk::Disk;
pub use disk::DiskStats;
use flight::{Body, Flights, GET_BYTES_MAX, Hedge, Landing};
use memory::{Decoded, Memory, SteadyState};
use meter::Counters;
pub use meter::{ReadCounts, ReadMeter, Temperature};
pub use options::CacheOptions;
use pieces::Pieces;
use turn::{Making, Slot, Turn};

/// GETs of one read that are in flight at a time.
const GETS_PER_READ: usize = 16;
/// What is put through is copied in steps of so many bytes, between which others have their turn.
const STEP_BYTES: u64 = 1 << 20;
/// A body of a request of at least so many bytes is kept as it came: what its allocation has beside it is little.
const SHARED_BYTES_MIN: usize = 64 << 10;

/// What is read ahead takes at most one of so many parts of the memory, as several do so at a time.
const KEPT_PARTS: u64 = 32;

/// What is read, by how much a later read of it is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReadKind {
    /// Hot regions: every query of the segment needs them.
    Hot,
    /// Blocks of indexes and keys.
    Index,
    /// Row pages and columns.
    Rows,
    /// Vectors, which are scanned.
    Vectors,
    /// Exports and merges: read once, so nothing of it is kept.
    Scan,
}

/// One immutable object.
#[derive(Clone, Debug)]
pub struct ObjectRef {
    /// Its key in the store.
    pub key: Arc<Path>,
    /// Its size in bytes.
    pub len: u64,
    /// Whose it is, for the shares of organizations.
    pub org: OrgId,
}

/// Memory and disk tiers over a store, of immutable objects only. Clones share everything.
#[derive(Clone)]
pub struct Cache {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    clock: Arc<dyn Clock>,
    memory: Memory,
    disk: Option<Disk>,
    flights: Arc<Flights>,
    hedge: Hedge,
    /// What is being decoded. Held to look up and register, never across an await.
    making: Mutex<HashMap<Slot, Arc<Making>, SteadyState>>,
    counters: Counters,
    meters: Meters,
}

struct Meters {
    memory: metrics::Counter,
    disk: metrics::Counter,
    store: metrics::Counter,
}

/// Sizes and sums of a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// All reads since the start.
    pub reads: ReadCounts,
    /// Bytes in the memory tier, and its limit.
    pub memory_bytes: u64,
    pub memory_limit_bytes: u64,
    /// The disk tier; `None` without one.
    pub disk: Option<DiskStats>,
}

impl Cache {
    /// A cache with empty memory. With a directory, a thread takes in what an earlier run left there. If the directory
    /// cannot be used, that is logged, and there is no disk tier.
    pub fn new(store: Store, runtime: &Runtime, options: CacheOptions) -> Self {
        let counter = |tier: &'static str| metrics::counter!(CACHE_READ_BYTES, "tier" => tier);
        let disk = options.directory.clone().and_then(|directory| {
            let opened = Disk::open(directory.clone(), &options, runtime.clock.clone());
            let report = |error| {
                tracing::error!(%error, directory = %directory.display(), "no disk cache: the directory cannot be used");
            };
            opened.map_err(report).ok()
        });
        let inner = Inner {
            store,
            disk,
            clock: runtime.clock.clone(),
            memory: Memory::new(options.memory_bytes, &runtime.memory),
            flights: Arc::default(),
            hedge: Hedge::default(),
            making: Mutex::default(),
            counters: Counters::default(),
            meters: Meters {
                memory: counter("memory"),
                disk: counter("disk"),
                store: counter("store"),
            },
        };
        Self { inner: Arc::new(inner) }
    }

    /// One `Bytes` per range, in their order. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] when the object is gone, [`StoreError::Corrupt`] when a range is not within it, and
    /// what else the store says.
    pub async fn read(
        &self,
        object: &ObjectRef,
        ranges: &[Range<u64>],
        kind: ReadKind,
    ) -> Result<Vec<Bytes>, StoreError> {
        if let Some(bad) = ranges.iter().find(|r| r.start > r.end || r.end > object.len) {
            return Err(StoreError::Corrupt {
                key: object.key.to_string(),
                reason: format!("bytes {bad:?} were asked for, it has {}", object.len),
            });
        }
        if meter::bypassed() {
            return self.read_past(object, ranges).await;
        }
        let slice = |range| self.inner.memory.slice(object, range, kind);
        if let Some(found) = ranges.iter().map(slice).collect::<Option<Vec<_>>>() {
            let counts = ReadCounts {
                hits: ranges.len() as u64,
                memory_bytes: found.iter().map(|b| b.len() as u64).sum(),
                ..ReadCounts::default()
            };
            match kind {
                ReadKind::Vectors => meter::count_vectors(&counts),
                _ => meter::count(&counts),
            }
            self.count_in_all(&counts);
            return Ok(found);
        }
        self.read_through(object, ranges, kind).await
    }

    /// Reads vectors that the same task will read again, and then find in memory; not if they would not stay there. Costs
    /// what [`read`](Self::read) costs; whoever sums up this task's reads counts them once.
    pub async fn read_ahead(&self, object: &ObjectRef, ranges: &[Range<u64>]) -> Result<(), StoreError> {
        let bytes = ranges.iter().map(|r| r.end.saturating_sub(r.start)).sum();
        if !self.would_keep(bytes) {
            return Ok(());
        }
        self.read(object, ranges, ReadKind::Vectors).await?;
        meter::read_ahead(bytes);
        Ok(())
    }

    /// Something made of an object's bytes, from memory or by `make`, which says its weight in bytes too. Of all who want
    /// it at a time only one makes it; if that one fails or goes away, another does. Cancel safe.
    ///
    /// * `tag` — tells apart what is made of one object; always of the same type under one tag
    ///
    /// # Errors
    ///
    /// Those of the caller's own `make`.
    pub async fn decoded<T, E, F>(&self, object: &ObjectRef, tag: u64, make: F) -> Result<Arc<T>, E>
    where
        T: Any + Send + Sync,
        E: From<StoreError>,
        F: Future<Output = Result<(Arc<T>, usize), E>>,
    {
        if meter::bypassed() {
            return make.await.map(|(value, _)| value);
        }
        if let Some((value, weight)) = self.inner.memory.decoded(&object.key, tag) {
            self.count(ReadCounts {
                hits: 1,
                memory_bytes: weight,
                ..ReadCounts::default()
            });
            return Ok(downcast(value, object)?);
        }
        let turn = Turn::take(&self.inner, (object.key.clone(), tag));
        let made = turn
            .making
            .get_or_try_init(async || {
                // Somebody may have finished between the look above and the turn.
                if let Some((value, _)) = self.inner.memory.decoded(&object.key, tag) {
                    return Ok(value);
                }
                let (value, weight) = make.await?;
                let value: Decoded = value;
                let memory = &self.inner.memory;
                memory.insert_decoded(object, tag, value.clone(), weight as u64, ReadKind::Index);
                Ok::<_, E>(value)
            })
            .await?;
        Ok(downcast(made.clone(), object)?)
    }

    /// What was made of an object's bytes and [kept](Self::keep) under that tag, if it is there still.
    pub fn kept<T: Any + Send + Sync>(&self, object: &ObjectRef, tag: u64) -> Option<Arc<T>> {
        if meter::bypassed() {
            return None;
        }
        let (value, weight) = self.inner.memory.decoded(&object.key, tag)?;
        self.count(ReadCounts {
            hits: 1,
            memory_bytes: weight,
            ..ReadCounts::default()
        });
        value.downcast().ok()
    }

    /// Keeps something that was made of an object's bytes, if that was made not long ago before: what is used once is not
    /// worth the memory.
    ///
    /// * `tag` — as for [`decoded`](Self::decoded)
    /// * `weight` — in bytes
    pub fn keep<T: Any + Send + Sync>(&self, object: &ObjectRef, tag: u64, value: &Arc<T>, weight: usize) {
        let memory = &self.inner.memory;
        if memory.was_made(&object.key, tag) {
            memory.insert_decoded(object, tag, value.clone(), weight as u64, ReadKind::Rows);
        }
    }

    /// Keeps a whole object that was just written, so that its first readers find it.
    pub async fn put_through(&self, object: &ObjectRef, bytes: Bytes) {
        if bytes.len() as u64 != object.len {
            return;
        }
        // More would push out what is read for what may never be.
        let fits = object.len <= self.inner.memory.capacity() / 16;
        for part in pieces::split(std::iter::once(0..object.len), STEP_BYTES) {
            let slice = bytes.slice(part.start as usize..part.end as usize);
            if let Some(disk) = &self.inner.disk {
                disk.offer(object, part.start, &slice, ReadKind::Rows);
            }
            if fits {
                self.inner
                    .memory
                    .insert(object, part.start, &slice, ReadKind::Rows, false);
                tokio::task::yield_now().await;
            }
        }
    }

    /// The object is superseded: what is kept of it goes first from now on.
    pub fn forget(&self, object: &ObjectRef) {
        self.inner.memory.demote(object);
        if let Some(disk) = &self.inner.disk {
            disk.demote(object);
        }
    }

    /// Keeps what is and comes to be on disk of the object there, as far as pins fit.
    pub fn pin(&self, object: &ObjectRef) {
        if let Some(disk) = &self.inner.disk {
            disk.pin(object, true);
        }
    }

    /// Takes a pin back.
    pub fn unpin(&self, object: &ObjectRef) {
        if let Some(disk) = &self.inner.disk {
            disk.pin(object, false);
        }
    }

    /// Drops everything that is kept of these objects, at once.
    pub fn purge(&self, objects: &[ObjectRef]) {
        self.inner.memory.purge(objects);
        if let Some(disk) = &self.inner.disk {
            disk.purge(objects);
        }
    }

    /// Waits until what was read or put through so far is on disk or refused, and what an earlier run left there is
    /// known.
    pub async fn settle(&self) {
        if let Some(disk) = &self.inner.disk {
            disk.settle().await;
        }
    }

    /// Whether so many bytes that are read now will be in memory when the same task reads them a moment later, as far as
    /// one can tell.
    pub fn would_keep(&self, bytes: u64) -> bool {
        bytes <= self.inner.memory.capacity() / KEPT_PARTS && !meter::bypassed()
    }

    /// The directory of the disk tier, which no other process uses meanwhile; `None` without one.
    pub fn directory(&self) -> Option<&std::path::Path> {
        self.inner.disk.as_ref().map(Disk::directory)
    }

    /// Reads the whole object and keeps it as far as there is room.
    pub async fn load(&self, object: &ObjectRef, kind: ReadKind) -> Result<(), StoreError> {
        for part in pieces::split(std::iter::once(0..object.len), GET_BYTES_MAX) {
            self.read(object, &[part], kind).await?;
        }
        Ok(())
    }

    /// The share of these objects' bytes that is at hand, between 0 and 1; what is in memory only in decoded form does
    /// not count. 1 when there are no bytes.
    pub fn temperature(&self, objects: &[ObjectRef]) -> f64 {
        let all: u64 = objects.iter().map(|o| o.len).sum();
        let held: u64 = objects.iter().map(|o| self.bytes_at_hand(o)).sum();
        match all {
            0 => 1.0,
            all => (held as f64 / all as f64).clamp(0.0, 1.0),
        }
    }

    /// In one tier: what is in both is not known.
    fn bytes_at_hand(&self, object: &ObjectRef) -> u64 {
        let on_disk = self.inner.disk.as_ref().map_or(0, |disk| disk.bytes_of(object));
        self.inner.memory.bytes_of(object).max(on_disk)
    }

    /// Sizes and sums at this moment.
    pub fn stats(&self) -> CacheStats {
        CacheStats {
            reads: self.inner.counters.read(),
            memory_bytes: self.inner.memory.weight(),
            memory_limit_bytes: self.inner.memory.capacity(),
            disk: self.inner.disk.as_ref().map(Disk::stats),
        }
    }

    fn count(&self, counts: ReadCounts) {
        meter::count(&counts);
        self.count_in_all(&counts);
    }

    fn count_in_all(&self, counts: &ReadCounts) {
        self.inner.counters.add(counts);
        let meters = &self.inner.meters;
        for (meter, bytes) in [
            (&meters.memory, counts.memory_bytes),
            (&meters.disk, counts.disk_bytes),
            (&meters.store, counts.store_bytes),
        ] {
            if bytes > 0 {
                meter.increment(bytes);
            }
        }
    }

    /// Straight from the store, one GET per run of ranges.
    async fn read_past(&self, object: &ObjectRef, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, StoreError> {
        let runs = pieces::split(pieces::join(ranges.to_vec(), 0, u64::MAX), GET_BYTES_MAX);
        let inner = &self.inner;
        // Neither here nor in `fetch` a closure: the compiler cannot tell of futures from one that they are `Send`.
        let mut gets = Vec::with_capacity(runs.len());
        for range in runs {
            let start = range.start;
            let body = inner.hedge.get(&inner.store, inner.clock.as_ref(), &object.key, range);
            gets.push(async move { body.await.map(|body| (start, body)) });
        }
        let bodies: Vec<_> = futures::stream::iter(gets)
            .buffered(GETS_PER_READ)
            .try_collect()
            .await?;
        let mut pieces = Pieces::default();
        bodies.iter().for_each(|(start, body)| pieces.insert(*start, body));
        self.count(ReadCounts {
            misses: ranges.len() as u64,
            store_bytes: ranges.iter().map(|r| r.end - r.start).sum(),
            ..ReadCounts::default()
        });
        assemble(object, ranges, &pieces)
    }

    async fn read_through(
        &self,
        object: &ObjectRef,
        ranges: &[Range<u64>],
        kind: ReadKind,
    ) -> Result<Vec<Bytes>, StoreError> {
        let aligned = ranges.iter().map(|r| pieces::align(r, object.len)).collect();
        let needed = pieces::join(aligned, 0, u64::MAX);
        let mut pieces = Pieces::default();
        for range in &needed {
            self.inner.memory.collect(object, range, kind, &mut pieces);
        }
        let absent = |pieces: &Pieces| -> Vec<Range<u64>> { needed.iter().flat_map(|r| pieces.gaps(r)).collect() };
        let from_disk_or_store = absent(&pieces);
        if let Some(disk) = &self.inner.disk
            && !from_disk_or_store.is_empty()
        {
            for (start, bytes) in disk.read(object, &from_disk_or_store).await {
                pieces.insert(start, &bytes);
                if kind != ReadKind::Scan {
                    self.inner.memory.insert(object, start, &bytes, kind, true);
                }
            }
        }
        let from_store = absent(&pieces);
        if !from_store.is_empty() {
            self.fetch(object, &from_store, kind, &mut pieces).await?;
        }
        self.count_through(ranges, &from_disk_or_store, &from_store);
        assemble(object, ranges, &pieces)
    }

    /// Gets what is missing from the store, or from who is getting it.
    async fn fetch(
        &self,
        object: &ObjectRef,
        missing: &[Range<u64>],
        kind: ReadKind,
        pieces: &mut Pieces,
    ) -> Result<(), StoreError> {
        let inner = &self.inner;
        let flights = inner.flights.claim(
            &object.key,
            || {
                for range in missing {
                    inner.memory.collect(object, range, kind, pieces);
                }
                missing.iter().flat_map(|r| pieces.gaps(r)).collect()
            },
            |range, landing| inner.clone().fly(object.clone(), range, kind, landing),
        );
        let mut landed = Vec::with_capacity(flights.len());
        for (start, flight) in flights {
            landed.push(async move { (start, flight.await) });
        }
        let mut landed = futures::stream::iter(landed).buffered(GETS_PER_READ);
        while let Some((start, body)) = landed.next().await {
            match body {
                Ok(body) => pieces.insert(start, &body),
                Err(error) => return Err(error.replicate()),
            }
        }
        Ok(())
    }

    fn count_through(&self, ranges: &[Range<u64>], beyond_memory: &[Range<u64>], from_store: &[Range<u64>]) {
        let overlap = |range: &Range<u64>, parts: &[Range<u64>]| -> u64 {
            let common = |p: &Range<u64>| p.end.min(range.end).saturating_sub(p.start.max(range.start));
            parts.iter().map(common).sum()
        };
        let mut counts = ReadCounts::default();
        for range in ranges {
            let (beyond, store) = (overlap(range, beyond_memory), overlap(range, from_store));
            counts.memory_bytes += range.end - range.start - beyond;
            counts.disk_bytes += beyond - store;
            counts.store_bytes += store;
            match store {
                0 => counts.hits += 1,
                _ => counts.misses += 1,
            }
        }
        self.count(counts);
    }
}

impl Inner {
    /// One request, and keeping what it brings.
    async fn fly(self: Arc<Self>, object: ObjectRef, range: Range<u64>, kind: ReadKind, _landing: Landing) -> Body {
        let start = range.start;
        let got = self.hedge.get(&self.store, self.clock.as_ref(), &object.key, range);
        let body = got.await.map_err(Arc::new)?;
        if kind != ReadKind::Scan {
            let shared = body.len() >= SHARED_BYTES_MIN;
            self.memory.insert(&object, start, &body, kind, shared);
            if let Some(disk) = &self.disk {
                disk.offer(&object, start, &body, kind);
            }
        }
        Ok(body)
    }
}

fn downcast<T: Any + Send + Sync>(value: Decoded, object: &ObjectRef) -> Result<Arc<T>, StoreError> {
    value.downcast().map_err(|_| StoreError::Corrupt {
        key: object.key.to_string(),
        reason: "two types were decoded under one tag".into(),
    })
}

fn assemble(object: &ObjectRef, ranges: &[Range<u64>], pieces: &Pieces) -> Result<Vec<Bytes>, StoreError> {
    let whole = |range| {
        pieces.slice(range).ok_or_else(|| StoreError::Corrupt {
            key: object.key.to_string(),
            reason: format!("bytes {range:?} did not all come"),
        })
    };
    ranges.iter().map(whole).collect()
}
