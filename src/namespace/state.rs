//! What a node knows of one open namespace, and how fresh that is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::OnceCell;

use super::kept::Kept;
use super::options::EngineOptions;
use super::pins::{Ahead, PinTable, Pins};
use super::refused::Refused;
use super::upkeep::Hints;
use super::warm::Warming;
use crate::base::{Charge, Clock, Ledger, MemoryShare, Runtime};
use crate::cache::Cache;
use crate::error::{Error, ErrorKind};
use crate::manifest::{ManifestError, ManifestStore};
use crate::model::{Gen, NamespaceName, OrgId, Seq};
use crate::segment::SegmentError;
use crate::snapshot::{BrokenChain, OpenError, Snapshot};
use crate::store::StoreError;
use crate::wal::{Log, LogError, Logged};

/// About what an open namespace takes in memory besides the bytes of its rows and indexes: its tasks and their inboxes, its
/// state, and what a few columns take besides their values. A test counts it.
const OPEN_BYTES: u64 = 12 << 10;

/// Everything that the tasks of one open namespace share.
pub(super) struct State {
    pub org: OrgId,
    pub name: NamespaceName,
    pub log: Log,
    pub manifests: ManifestStore,
    pub cache: Cache,
    pub runtime: Runtime,
    pub options: Arc<EngineOptions>,
    /// Random per process start; tells this node's entries from others'.
    pub writer: u128,
    snapshot: ArcSwap<Snapshot>,
    /// The newest entry when the log was first listed. Until it is known, the empty state that a
    /// node begins from is a guess: the log may have been collected from its beginning.
    pub listed: OnceCell<Listed>,
    /// Protects the moment of the last proof; held to read or replace it.
    verified: Mutex<Moment>,
    /// Whether that was ever proved.
    whole: AtomicBool,
    /// Protects the moment at which the manifest in use was proved to be the newest; held to read or replace it.
    indexed: Mutex<Moment>,
    /// Whether it ever was: a namespace begins with a hint, which may be old.
    pub index_proven: AtomicBool,
    /// The newest generation that an entry of the log has named.
    hinted: AtomicU64,
    /// Whether somebody looks for a newer manifest in the background.
    pub looking: AtomicBool,
    /// The newest manifest, if it could not be taken over.
    pub refused: Refused,
    /// Protects the entries of the tail; held to add, find or drop some.
    kept: Mutex<Kept>,
    hints: Hints,
    /// Whether whoever keeps up indexes has been told of entries since it looked last.
    is_hinted: AtomicBool,
    pub warming: Arc<Warming>,
    pins: Pins,
    /// Protects the memory charge of the tail; held to change it.
    memory: Mutex<Charge>,
    broken: OnceLock<BrokenChain>,
}

/// What the first listing of the log said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listed {
    pub newest: Seq,
    /// Whether that is all that was listed; else there was a gap after it.
    pub is_end: bool,
    /// How many entries of this log may be held in memory while they wait to be applied.
    pub at_once: u64,
    /// About how many bytes an entry up to `newest` has that is not in segments.
    pub entry_bytes: u64,
}

/// Through what a namespace meets the rest of the node.
pub(super) struct Seams {
    pub log: Log,
    pub manifests: ManifestStore,
    pub cache: Cache,
    pub runtime: Runtime,
    pub options: Arc<EngineOptions>,
    /// Random per process start.
    pub writer: u128,
    pub hints: Hints,
    pub pins: PinTable,
}

/// A point in time on both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    boot: Duration,
    wall: Duration,
}

impl Moment {
    pub fn now(clock: &dyn Clock) -> Self {
        Self {
            boot: clock.boot(),
            wall: clock.wall(),
        }
    }

    /// Time since then, by whichever clock says more: one of them may have been set or stopped.
    pub fn age(&self, clock: &dyn Clock) -> Duration {
        let boot = clock.boot().saturating_sub(self.boot);
        boot.max(clock.wall().saturating_sub(self.wall))
    }
}

/// Why the log could not be followed.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    /// The store did not answer; nothing is known to be wrong.
    Unavailable(Arc<dyn std::error::Error + Send + Sync>),
    /// The log contradicts itself: nothing may be written or answered.
    Broken(BrokenChain),
    /// Something of the index cannot be read, or is not what it should be: an operator has to look.
    Damaged(Arc<dyn std::error::Error + Send + Sync>),
    /// A newer version of this program wrote what has to be read: nothing is wrong, and this node cannot go on.
    Newer(Arc<dyn std::error::Error + Send + Sync>),
    /// Something of the index was not read; clients are told so.
    Failed(Arc<Error>),
    /// This node's knowledge is too old to go on from: open the namespace again.
    Stale,
    /// This node's memory for tails has no room for so many bytes of entries.
    NoRoom(u64),
}

/// How much memory the tails of a node may take: a quarter more than what lets writes in, so that a node that takes no
/// writes still follows those of others.
pub(super) fn room(memory: &Ledger) -> u64 {
    let limit = memory.limit_bytes(MemoryShare::Tails);
    limit.saturating_add(limit / 4)
}

impl State {
    /// What a failure to read the log means: a damaged object is not better at the next try.
    pub fn unreadable(&self, seq: Seq, error: LogError) -> Trouble {
        if error.is_newer() {
            tracing::error!(org = %self.org, namespace = %self.name, %seq, error = &error as &dyn std::error::Error, "a newer version wrote this log: upgrade this node");
            return Trouble::Newer(Arc::new(error));
        }
        let why = match &error {
            LogError::Store(_) => return Trouble::Unavailable(Arc::new(error)),
            LogError::Damaged { .. } => "its bytes are damaged",
            LogError::BlobMissing { .. } => "it names a blob that does not exist",
        };
        tracing::error!(org = %self.org, namespace = %self.name, %seq, error = &error as &dyn std::error::Error, "log object is damaged");
        self.set_broken(BrokenChain { seq, why })
    }
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Unavailable(source) => Error::new(
                ErrorKind::Unavailable,
                "object storage cannot be reached, so a consistent answer is not possible; try again",
            )
            .after(Duration::from_secs(1))
            .because(Shared(source)),
            Trouble::Broken(broken) => Error::new(
                ErrorKind::Internal,
                "this namespace's log in object storage contradicts itself; it is read-only and serves no strong \
                 reads until an operator has looked",
            )
            .because(broken),
            Trouble::Failed(error) => Error {
                kind: error.kind,
                message: error.message.clone(),
                code: error.code,
                retry_after: error.retry_after,
                source: Some(Box::new(Shared(error))),
            },
            Trouble::Damaged(source) => Error::new(
                ErrorKind::Internal,
                "stored data of this namespace cannot be read; an operator has to look",
            )
            .because(Shared(source)),
            Trouble::Newer(source) => Error::newer_version().because(Shared(source)),
            Trouble::Stale => Error::new(
                ErrorKind::Unavailable,
                "this node was suspended for too long; try again",
            ),
            Trouble::NoRoom(bytes) => Error::new(
                ErrorKind::Unavailable,
                format!(
                    "this node's memory for unindexed rows has no room for {bytes} bytes of this namespace that are not \
                     indexed yet; try again"
                ),
            )
            .after(Duration::from_secs(5)),
        }
    }
}

impl From<SegmentError> for Trouble {
    fn from(error: SegmentError) -> Self {
        match &error {
            SegmentError::Store(StoreError::Unavailable { .. }) => Trouble::Unavailable(Arc::new(error)),
            SegmentError::Newer { .. } => Trouble::Newer(Arc::new(error)),
            _ => Trouble::Damaged(Arc::new(error)),
        }
    }
}

impl From<ManifestError> for Trouble {
    fn from(error: ManifestError) -> Self {
        match &error {
            ManifestError::Store(_) => Trouble::Unavailable(Arc::new(error)),
            _ if error.is_newer() => Trouble::Newer(Arc::new(error)),
            _ => Trouble::Damaged(Arc::new(error)),
        }
    }
}

impl From<OpenError> for Trouble {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Manifest(error) => error.into(),
            OpenError::Segment(error) => error.into(),
        }
    }
}

/// An error that several waiters are told of.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Shared(Arc<dyn std::error::Error + Send + Sync>);

impl State {
    /// What is known before the log is looked at: nothing.
    pub fn new((org, name): (OrgId, NamespaceName), seams: Seams) -> Self {
        let Seams {
            log,
            manifests,
            cache,
            runtime,
            options,
            writer,
            hints,
            pins,
        } = seams;
        let pins = Pins::new((org.clone(), name.clone()), cache.clone(), pins, runtime.clone());
        let memory = runtime.memory.charge_always(MemoryShare::Tails, OPEN_BYTES);
        let now = Moment::now(runtime.clock.as_ref());
        Self {
            org,
            name,
            log,
            manifests,
            cache,
            runtime,
            options,
            writer,
            snapshot: ArcSwap::from_pointee(Snapshot::empty()),
            listed: OnceCell::new(),
            verified: Mutex::new(now),
            whole: AtomicBool::new(false),
            indexed: Mutex::new(now),
            index_proven: AtomicBool::new(false),
            hinted: AtomicU64::new(0),
            is_hinted: AtomicBool::new(false),
            looking: AtomicBool::new(false),
            refused: Refused::default(),
            kept: Mutex::default(),
            hints,
            warming: Arc::default(),
            pins,
            memory: Mutex::new(memory),
            broken: OnceLock::new(),
        }
    }

    /// Whether the log was looked at, so that the snapshot is a state of it.
    pub fn is_proven(&self) -> bool {
        self.listed.initialized()
    }

    /// Whether entries are known to exist that are not applied.
    pub fn is_behind(&self) -> bool {
        self.listed.get().is_some_and(|l| l.newest > self.snapshot().seq)
    }

    /// The newest state this node has applied.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Makes the state after an entry visible. Only the follower calls it.
    pub fn publish(&self, snapshot: Snapshot, logged: Arc<Logged>) -> Arc<Snapshot> {
        self.hinted.fetch_max(logged.entry.manifest_gen_hint, Ordering::Relaxed);
        let kept = {
            let mut kept = lock(&self.kept);
            kept.push(logged);
            kept.bytes()
        };
        let snapshot = self.show(snapshot, kept);
        if !self.is_hinted.swap(true, Ordering::AcqRel) {
            self.hints.dirty(&self.org, &self.name);
        }
        snapshot
    }

    /// Forgets that somebody was told of new entries: the next one is told of again.
    pub fn hint_again(&self) {
        self.is_hinted.store(false, Ordering::Release);
    }

    /// Makes the same state visible with more of it in segments, or a newer one. Only the follower calls it.
    pub fn supersede(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        let is_opening = !self.is_proven();
        // What a namespace begins with was published by somebody who has said so.
        if !is_opening && snapshot.generation > self.snapshot().generation {
            self.hints.published(&self.org, &self.name);
        }
        // Small ones that lie in manifests are put together by flushes.
        let has_stored = snapshot.segments.iter().any(|s| s.segment.meta().inline.is_none());
        let kept = {
            let mut kept = lock(&self.kept);
            kept.supersede(&snapshot);
            kept.bytes()
        };
        let shown = self.show(snapshot, kept);
        if is_opening && has_stored {
            self.hints.opened(&self.org, &self.name);
        }
        shown
    }

    fn show(&self, snapshot: Snapshot, kept_bytes: u64) -> Arc<Snapshot> {
        lock(&self.memory).set_always(OPEN_BYTES + snapshot.memory_bytes() + kept_bytes);
        self.pins.follow(&snapshot);
        let snapshot = Arc::new(snapshot);
        self.snapshot.store(snapshot.clone());
        snapshot
    }

    /// Begins to bring to the cache what a newer state pins; `None` where that is nothing, or where the tail is so long
    /// that the newer state should not be kept waiting.
    pub fn bring_ahead(&self, next: &Snapshot) -> Option<Ahead> {
        let is_pressed = self.snapshot().unindexed_bytes > self.options.limits.unindexed_bytes_max / 2;
        match is_pressed {
            true => None,
            false => self.pins.ahead(next),
        }
    }

    /// An entry that was applied and is kept.
    pub fn kept(&self, seq: Seq) -> Option<Arc<Logged>> {
        lock(&self.kept).get(seq)
    }

    /// The clock of the first entry that is not in segments, in milliseconds since the epoch; `None` when all are.
    pub fn dirty_since_ms(&self) -> Option<u64> {
        lock(&self.kept).dirty_since_ms()
    }

    /// Whether the log names a newer manifest than the one in use.
    pub fn is_index_behind(&self) -> bool {
        Gen(self.hinted.load(Ordering::Relaxed)) > self.snapshot().generation
    }

    /// Notes that the manifest in use was proved to be the newest by a request that started at `start`.
    pub fn indexed(&self, start: Moment) {
        self.index_proven.store(true, Ordering::Relaxed);
        let mut indexed = lock(&self.indexed);
        if start.boot > indexed.boot {
            *indexed = start;
        }
    }

    /// How long ago the manifest in use was proved to be the newest.
    pub fn index_age(&self) -> Duration {
        lock(&self.indexed).age(self.runtime.clock.as_ref())
    }

    /// Whether objects that the manifest in use names may have been collected since.
    pub fn is_index_stale(&self) -> bool {
        self.snapshot().generation > Gen::ZERO && self.index_age() > self.options.grace / 2
    }

    /// Whether the tails of this node have room for so many bytes more of this one. A short tail goes on in any case, so
    /// that a namespace that takes too much closes no other.
    pub fn has_room_for(&self, bytes: u64) -> bool {
        let memory = &self.runtime.memory;
        let short = memory.limit_bytes(MemoryShare::Tails) / 64;
        memory.used_bytes(MemoryShare::Tails).saturating_add(bytes) <= room(memory)
            || self.tail_bytes().saturating_add(bytes) <= short
    }

    /// So much of a log may be read into the memory for tails at once.
    pub fn piece_bytes(&self) -> u64 {
        self.runtime.memory.limit_bytes(MemoryShare::Tails) / 4
    }

    /// Whether this tail alone takes so much of the memory for tails that it should be flushed before more of it is read.
    pub fn is_large(&self) -> bool {
        self.tail_bytes() > self.piece_bytes()
    }

    /// How much memory the tail will take when so many entries more are applied, by those that are.
    pub fn tail_bytes_with(&self, more: u64) -> u64 {
        let snapshot = self.snapshot();
        let entries = snapshot.seq.0.saturating_sub(snapshot.indexed_seq.0);
        let each = self.tail_bytes() / entries.max(1);
        each.saturating_mul(entries.saturating_add(more))
    }

    fn tail_bytes(&self) -> u64 {
        self.snapshot().tail_memory_bytes() + lock(&self.kept).bytes()
    }

    /// What the tail is charged for.
    pub fn charged_bytes(&self) -> u64 {
        lock(&self.memory).bytes()
    }

    /// Gives back what the tail is charged for.
    pub fn release_memory(&self) {
        lock(&self.memory).shrink_to(0);
    }

    pub fn now(&self) -> Moment {
        Moment::now(self.runtime.clock.as_ref())
    }

    /// Notes that the newest applied entry was proved to be the end of the log, by a request that
    /// started at `start`.
    pub fn verified(&self, start: Moment) {
        self.whole.store(true, Ordering::Relaxed);
        let mut verified = lock(&self.verified);
        if start.boot > verified.boot {
            *verified = start;
        }
    }

    /// Whether this state was ever all of the log.
    pub fn was_whole(&self) -> bool {
        self.whole.load(Ordering::Relaxed)
    }

    /// How long ago this node last proved that it knows the end of the log.
    pub fn age(&self) -> Duration {
        lock(&self.verified).age(self.runtime.clock.as_ref())
    }

    /// Whether the knowledge is too old to trust a "not there" of the store: what was there may
    /// have been collected since.
    pub fn is_stale(&self) -> bool {
        self.age() > self.options.grace / 2
    }

    /// Notes that the log contradicts itself; from now on nothing is written.
    pub fn set_broken(&self, broken: BrokenChain) -> Trouble {
        tracing::error!(org = %self.org, namespace = %self.name, error = %broken, "log is broken: namespace is read-only");
        Trouble::Broken(self.broken.get_or_init(|| broken).clone())
    }

    /// Fails when the log contradicts itself.
    pub fn check(&self) -> Result<(), Trouble> {
        match self.broken.get() {
            Some(broken) => Err(Trouble::Broken(broken.clone())),
            None => Ok(()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

#[cfg(test)]
mod tests;
