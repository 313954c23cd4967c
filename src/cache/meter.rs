//! How much of what was read was at hand: per query, and in all.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

tokio::task_local! {
    static METER: ReadMeter;
}

/// Where bytes came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tier {
    Memory,
    Disk,
    Store,
}

/// Sums of reads. Each range of a read and each decoded thing counts as one read; it is a hit if no byte of it
/// came from the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadCounts {
    /// Reads answered without the store.
    pub hits: u64,
    /// Reads that needed the store.
    pub misses: u64,
    /// Bytes from memory; of decoded things their weight.
    pub memory_bytes: u64,
    /// Bytes from the disk tier.
    pub disk_bytes: u64,
    /// Bytes from the store that were asked for; coalescing may fetch more.
    pub store_bytes: u64,
}

impl ReadCounts {
    /// Share of the bytes that were at hand, between 0 and 1. 1 when nothing was read.
    pub fn hit_ratio(&self) -> f64 {
        let hit = self.memory_bytes + self.disk_bytes;
        match hit + self.store_bytes {
            0 => 1.0,
            all => hit as f64 / all as f64,
        }
    }
}

#[derive(Default)]
pub(super) struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    bytes: [AtomicU64; 3],
}

impl Counters {
    pub(super) fn add(&self, counts: &ReadCounts) {
        let add = |counter: &AtomicU64, n: u64| {
            if n > 0 {
                counter.fetch_add(n, Ordering::Relaxed);
            }
        };
        add(&self.hits, counts.hits);
        add(&self.misses, counts.misses);
        add(&self.bytes[Tier::Memory as usize], counts.memory_bytes);
        add(&self.bytes[Tier::Disk as usize], counts.disk_bytes);
        add(&self.bytes[Tier::Store as usize], counts.store_bytes);
    }

    pub(super) fn read(&self) -> ReadCounts {
        let bytes = |tier: Tier| self.bytes[tier as usize].load(Ordering::Relaxed);
        ReadCounts {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            memory_bytes: bytes(Tier::Memory),
            disk_bytes: bytes(Tier::Disk),
            store_bytes: bytes(Tier::Store),
        }
    }
}

#[derive(Default)]
struct Inner {
    counters: Counters,
    bypass: bool,
    /// Bytes of vectors that were read ahead and counted, and that will be read again.
    ahead: AtomicU64,
}

/// Counts the reads of one query. Clones count together.
#[derive(Clone, Default)]
pub struct ReadMeter {
    inner: Arc<Inner>,
}

impl ReadMeter {
    /// Nothing counted yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A meter whose reads go past all tiers to the store and leave nothing behind, as `disable_cache` asks.
    pub fn bypassing() -> Self {
        Self {
            inner: Arc::new(Inner {
                bypass: true,
                ..Inner::default()
            }),
        }
    }

    /// Runs `work`; reads from caches within it, though not within tasks that it spawns, are counted here.
    pub async fn observe<F: Future>(&self, work: F) -> F::Output {
        METER.scope(self.clone(), work).await
    }

    /// The sums so far.
    pub fn counts(&self) -> ReadCounts {
        self.inner.counters.read()
    }
}

/// Adds to the meter of this task, if there is one.
pub(super) fn count(counts: &ReadCounts) {
    let _ = METER.try_with(|meter| meter.inner.counters.add(counts));
}

/// Notes that so many bytes of vectors were read, and counted, that this task will read again.
pub(super) fn read_ahead(bytes: u64) {
    let _ = METER.try_with(|meter| meter.inner.ahead.fetch_add(bytes, Ordering::Relaxed));
}

/// Adds bytes of vectors that were in memory to the meter of this task, but for those that it has counted already.
pub(super) fn count_vectors(counts: &ReadCounts) {
    let _ = METER.try_with(|meter| {
        let take = |ahead: u64| Some(ahead.saturating_sub(counts.memory_bytes));
        let update = meter
            .inner
            .ahead
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        let counted = update.unwrap_or(0).min(counts.memory_bytes);
        meter.inner.counters.add(&ReadCounts {
            memory_bytes: counts.memory_bytes - counted,
            hits: if counted > 0 { 0 } else { counts.hits },
            ..*counts
        });
    });
}

/// Whether this task reads past the cache.
pub(super) fn bypassed() -> bool {
    METER.try_with(|meter| meter.inner.bypass).unwrap_or(false)
}

/// How much of something is at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temperature {
    /// Practically all.
    Hot,
    /// Some.
    Warm,
    /// Practically nothing.
    Cold,
}

impl Temperature {
    /// By the share of bytes at hand, between 0 and 1: hot from 0.95 on, cold below 0.05.
    pub fn of(share: f64) -> Self {
        match share {
            s if s >= 0.95 => Self::Hot,
            s if s >= 0.05 => Self::Warm,
            _ => Self::Cold,
        }
    }

    /// As answers spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Warm => "warm",
            Self::Cold => "cold",
        }
    }
}
