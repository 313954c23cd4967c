//! The jobs of one node: reads what they work on from the engine, and hands it their manifests.

mod claims;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::lease::Lease;
use super::merge::{self, policy};
use super::{Job, JobError, Outcome, Pace, UpkeepOptions, Workshop, flush};
use crate::error::Error;
use crate::manifest::Manifest;
use crate::model::{Gen, NamespaceName, OrgId};
use crate::namespace::Engine;
use crate::segment::SegmentId;
use crate::snapshot::Snapshot;
use crate::store::StoreError;
use crate::store::paths::{self, NsKey};
use crate::telemetry;
use crate::wal::Digest;

/// How often a flush is tried again because another manifest came first.
const RIVALS_MAX: usize = 4;
/// How often a merge that is done is put onto a newer manifest: that costs little, and doing it again costs much.
const REBASES_MAX: usize = 64;
/// Namespaces whose newest manifest is kept in memory; one may have 256 KiB of rows.
const SLOTS_MAX: usize = 256;
/// The role of the lease for flushes, …
const FLUSHES: &str = "index";
/// … and for merges: a flush, which writes wait for, does not wait for a merge of another node.
const MERGES: &str = "merge";

/// A namespace by what it is called.
pub type Name = (OrgId, NamespaceName);

/// Why a job was not done.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error(transparent)]
    Job(#[from] JobError),
    /// The namespace cannot be read.
    #[error("{0}")]
    Engine(Error),
    /// Whether its manifest is in force is not known; it is found out by the next job.
    #[error("it is unknown whether a manifest was published")]
    Unknown,
    /// Others publish all the time.
    #[error("rivals publish manifests faster")]
    Contended,
    /// A mistake in this program.
    #[error("the job panicked")]
    Panicked,
}

impl From<StoreError> for IndexError {
    fn from(error: StoreError) -> Self {
        Self::Job(error.into())
    }
}

/// What became of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// There was nothing to do.
    Nothing,
    Published,
    /// Another node does it.
    Elsewhere,
    /// Another node has taken it for itself, for so much longer, unless it is done earlier.
    Leased(Duration),
    /// What it worked on is gone.
    Abandoned,
}

/// Does jobs of upkeep on the namespaces of an engine. Clones share everything.
#[derive(Clone)]
pub struct Indexer {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    workshop: Workshop,
    pace: Pace,
    /// Protects the map; held to find, add or remove.
    slots: Mutex<BTreeMap<Name, Arc<Slot>>>,
}

/// What is kept of a namespace between jobs.
#[derive(Default)]
struct Slot {
    /// Held from the reading of what a manifest is made of until it is published and in use, so that the jobs of one
    /// node do not get in each other's way.
    publishing: tokio::sync::Mutex<()>,
    /// Held by a merge.
    merging: tokio::sync::Mutex<()>,
    /// Protects what is known; held to read or replace it.
    known: Mutex<Known>,
}

#[derive(Clone, Default)]
struct Known {
    newest: Option<Arc<(Manifest, Digest)>>,
    /// When it was known to be the newest, by a request that ended then, on the clock that never goes back.
    at: Duration,
    /// Those that this node holds, by their roles.
    leases: BTreeMap<&'static str, Lease>,
    /// Segments that lack indexes which the schema asks for.
    stale: BTreeSet<SegmentId>,
}

impl Slot {
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn newest(&self) -> Option<Arc<(Manifest, Digest)>> {
        self.known().newest.clone()
    }

    /// The segments of a manifest that may be merged.
    fn candidates(&self, manifest: &Manifest) -> Vec<policy::Candidate> {
        let known = self.known();
        policy::candidates(manifest, |id| known.stale.contains(&id))
    }

    /// Never goes back to an older generation.
    fn learn(&self, manifest: Manifest, digest: Digest, now: Duration) -> Arc<(Manifest, Digest)> {
        let mut known = self.known();
        match &known.newest {
            Some(newer) if newer.0.generation >= manifest.generation => newer.clone(),
            _ => {
                known.at = now;
                known.newest.insert(Arc::new((manifest, digest))).clone()
            }
        }
    }

    /// After a failure: what is known may be the reason.
    fn forget(&self) {
        self.known().newest = None;
    }
}

impl Indexer {
    /// Does the jobs of `engine`'s namespaces.
    pub fn new(engine: Engine, options: UpkeepOptions) -> Self {
        let workshop = Workshop {
            runtime: engine.runtime().clone(),
            store: engine.store().clone(),
            cache: engine.cache().clone(),
            writer: engine.writer(),
            grace: engine.grace(),
            options: Arc::new(options),
        };
        Self {
            inner: Arc::new(Inner {
                pace: Pace::new(workshop.options.merge_bytes_per_second),
                engine,
                workshop,
                slots: Mutex::default(),
            }),
        }
    }

    /// The engine whose namespaces it works on.
    pub fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// The options in force.
    pub fn options(&self) -> &UpkeepOptions {
        &self.inner.workshop.options
    }

    /// Puts the tail of a namespace into segments; opens it when it is not open.
    ///
    /// Costs one GET, two PUTs, and what [`flush`] says for what is large. When nothing was written meanwhile: another
    /// GET and two DELETEs or GETs for the dirty marker.
    pub async fn flush(&self, org: &OrgId, name: &NamespaceName) -> Result<Done, IndexError> {
        let slot = self.slot(org, name);
        let _turn = slot.publishing.lock().await;
        let done = self.try_flush(org, name, &slot).await;
        if done.is_err() {
            slot.forget();
        }
        done
    }

    async fn try_flush(&self, org: &OrgId, name: &NamespaceName, slot: &Slot) -> Result<Done, IndexError> {
        for _ in 0..RIVALS_MAX {
            let job = self.job(org, name);
            let mut snapshot = self.newest(org, name).await?;
            if let Some(newer) = slot.newest().filter(|k| k.0.generation > snapshot.generation) {
                // Published, and not in use when it should have been.
                self.inner
                    .engine
                    .adopt(org, name, &newer.0)
                    .await
                    .map_err(IndexError::Engine)?;
                snapshot = self.newest(org, name).await?;
            }
            slot.known().stale = stale(&snapshot);
            if let Some(left) = self.leased(&job, slot, FLUSHES, snapshot.unindexed_bytes).await? {
                return Ok(Done::Leased(left));
            }
            let base = self.base(&job, slot, &snapshot).await?;
            let base = base.as_ref().map(|b| (&b.0, b.1));
            match flush(&job, &snapshot, base).await? {
                Outcome::Nothing => {
                    if self.merge_due(org, name).is_none() {
                        self.clear_marker(org, name, &snapshot).await?;
                    }
                    return Ok(Done::Nothing);
                }
                Outcome::Published(manifest, digest) => {
                    let adopted = self.take_over(&job, slot, *manifest, digest).await;
                    metrics::counter!(telemetry::FLUSHES).increment(1);
                    // One whose segments are to be merged is found by its marker, whatever becomes of this node.
                    if adopted && self.merge_due(org, name).is_none() {
                        self.clear_marker(org, name, &snapshot).await?;
                    }
                    return Ok(Done::Published);
                }
                Outcome::Lost(manifest, digest) => {
                    let is_rival = manifest.writer != self.inner.workshop.writer;
                    self.take_over(&job, slot, *manifest, digest).await;
                    // Somebody else does it, and well enough.
                    let left = self.newest(org, name).await?.unindexed_bytes;
                    if is_rival && left <= self.options().flush_bytes {
                        return Ok(Done::Elsewhere);
                    }
                }
                Outcome::Abandoned => return Ok(Done::Abandoned),
                Outcome::Unknown => return Err(IndexError::Unknown),
            }
        }
        Err(IndexError::Contended)
    }

    /// Merges the segments of a namespace that are worth it most; [`Done::Nothing`] when none are.
    ///
    /// Costs what [`merge::merge`] and [`merge::publish`] say, and of a large one what taking its lease costs, once more
    /// every half of [`UpkeepOptions::lease`], and giving it back.
    pub async fn merge(&self, org: &OrgId, name: &NamespaceName) -> Result<Done, IndexError> {
        let slot = self.slot(org, name);
        let Ok(_merging) = slot.merging.try_lock() else {
            return Ok(Done::Elsewhere);
        };
        let job = self.job(org, name);
        let done = self.try_merge(&job, &slot).await;
        if done.is_err() {
            slot.forget();
        }
        self.give_back(&job, &slot).await;
        done
    }

    async fn try_merge(&self, job: &Job, slot: &Slot) -> Result<Done, IndexError> {
        let Some(base) = self.current(job, slot).await? else {
            return Ok(Done::Nothing);
        };
        let candidates = slot.candidates(&base.0);
        let inputs = policy::choose(&candidates, self.options());
        if inputs.is_empty() {
            return Ok(Done::Nothing);
        }
        let bytes = live_bytes(&candidates, &inputs);
        if let Some(left) = self.leased(job, slot, MERGES, bytes).await? {
            return Ok(Done::Leased(left));
        }
        let work = self.merge_of(job, slot, (&base.0, &inputs), bytes);
        tokio::select! {
            biased;
            done = work => done,
            never = self.hold(job, slot, MERGES) => match never {},
        }
    }

    async fn merge_of(
        &self,
        job: &Job,
        slot: &Slot,
        (base, inputs): (&Manifest, &[SegmentId]),
        bytes: u64,
    ) -> Result<Done, IndexError> {
        let merged = merge::merge(job, base, inputs, &self.inner.pace).await?;
        let _turn = slot.publishing.lock().await;
        for _ in 0..REBASES_MAX {
            job.check()?;
            // What others published meanwhile is the base, as long as it still has what was merged.
            let Some(newest) = self.listed(job, slot).await? else {
                return Ok(Done::Abandoned);
            };
            match merge::publish(job, &merged, (&newest.0, newest.1)).await? {
                Outcome::Published(manifest, digest) => {
                    metrics::counter!(telemetry::MERGES).increment(1);
                    metrics::counter!(telemetry::MERGED_BYTES).increment(bytes);
                    if self.take_over(job, slot, *manifest, digest).await {
                        self.settle(job, slot).await?;
                    }
                    return Ok(Done::Published);
                }
                Outcome::Lost(manifest, digest) => {
                    self.take_over(job, slot, *manifest, digest).await;
                }
                Outcome::Nothing | Outcome::Abandoned => {
                    self.take_over(job, slot, newest.0.clone(), newest.1).await;
                    return Ok(Done::Abandoned);
                }
                Outcome::Unknown => return Err(IndexError::Unknown),
            }
        }
        Err(IndexError::Contended)
    }

    /// After a merge: a namespace with nothing left to do is clean.
    async fn settle(&self, job: &Job, slot: &Slot) -> Result<(), IndexError> {
        let (org, name) = (job.ns().org(), job.ns().namespace());
        let Some(snapshot) = self.inner.engine.opened(org, name) else {
            return Ok(());
        };
        slot.known().stale = stale_in_segments(&snapshot);
        match snapshot.seq == snapshot.indexed_seq && self.merge_due(org, name).is_none() {
            true => self.clear_marker(org, name, &snapshot).await,
            false => Ok(()),
        }
    }

    /// Whether segments of a namespace are worth merging, and how many bytes their live rows have: by the newest manifest that was
    /// worked on, or else by the one that the open namespace has in use. Costs nothing.
    pub fn merge_due(&self, org: &OrgId, name: &NamespaceName) -> Option<u64> {
        let slot = self.known_slot(org, name);
        let newest = slot.as_ref().and_then(|slot| slot.newest());
        let candidates = match (slot, newest) {
            (Some(slot), Some(newest)) => slot.candidates(&newest.0),
            _ => policy::candidates_open(&*self.inner.engine.opened(org, name)?),
        };
        let chosen = policy::choose(&candidates, self.options());
        (!chosen.is_empty()).then(|| live_bytes(&candidates, &chosen))
    }

    /// Looks at a namespace that is marked as dirty: when there is nothing to do, the marker goes. Otherwise
    /// [`Done::Elsewhere`]: it is open now. Costs what opening it costs, or a GET.
    pub async fn look(&self, org: &OrgId, name: &NamespaceName) -> Result<Done, IndexError> {
        let slot = self.slot(org, name);
        {
            let _turn = slot.publishing.lock().await;
            let snapshot = self.newest(org, name).await?;
            // Others may have published since.
            if slot
                .newest()
                .is_some_and(|known| known.0.generation < snapshot.generation)
            {
                slot.forget();
            }
            slot.known().stale = stale_in_segments(&snapshot);
            if snapshot.seq == snapshot.indexed_seq {
                if self.merge_due(org, name).is_none() {
                    self.clear_marker(org, name, &snapshot).await?;
                }
                return Ok(Done::Nothing);
            }
        }
        // It is open now, and watched: its flush waits for its turn like others, with the memory that it takes.
        Ok(Done::Elsewhere)
    }

    fn now(&self) -> Duration {
        self.inner.workshop.runtime.clock.boot()
    }

    /// What is kept of a namespace, if anything is.
    fn known_slot(&self, org: &OrgId, name: &NamespaceName) -> Option<Arc<Slot>> {
        let slots = self.inner.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.get(&(org.clone(), name.clone())).cloned()
    }

    fn slot(&self, org: &OrgId, name: &NamespaceName) -> Arc<Slot> {
        let mut slots = self.inner.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= SLOTS_MAX {
            // What nobody works on is read again when it is needed.
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        slots.entry((org.clone(), name.clone())).or_default().clone()
    }

    fn job(&self, org: &OrgId, name: &NamespaceName) -> Job {
        Job::begin(self.inner.workshop.clone(), NsKey::new(org.clone(), name.clone()))
    }

    async fn newest(&self, org: &OrgId, name: &NamespaceName) -> Result<Arc<Snapshot>, IndexError> {
        self.inner.engine.newest(org, name).await.map_err(IndexError::Engine)
    }

    /// The manifest that a snapshot has its segments from. One GET unless this node made or used it lately.
    async fn base(
        &self,
        job: &Job,
        slot: &Slot,
        snapshot: &Snapshot,
    ) -> Result<Option<Arc<(Manifest, Digest)>>, IndexError> {
        if snapshot.generation == Gen::ZERO {
            return Ok(None);
        }
        if let Some(known) = slot.newest().filter(|k| k.0.generation == snapshot.generation) {
            return Ok(Some(known));
        }
        let found = job.manifests.get(snapshot.generation).await.map_err(JobError::from)?;
        let Some((manifest, digest)) = found else {
            return Ok(None);
        };
        Ok(Some(match slot.newest() {
            Some(newer) if newer.0.generation > manifest.generation => Arc::new((manifest, digest)),
            _ => slot.learn(manifest, digest, self.now()),
        }))
    }

    /// The newest manifest, or one of the newest. One GET when this node knew it lately, or else a LIST and a GET.
    async fn current(&self, job: &Job, slot: &Slot) -> Result<Option<Arc<(Manifest, Digest)>>, IndexError> {
        // Generations follow one after the other as long as none of them can have been collected.
        let is_young = self.now().saturating_sub(slot.known().at) < self.inner.workshop.grace / 4;
        let Some(known) = slot.newest().filter(|_| is_young) else {
            return self.listed(job, slot).await;
        };
        let newer = job.manifests.newer_than(known.0.generation).await;
        Ok(Some(match newer.map_err(JobError::from)? {
            Some((manifest, digest)) => slot.learn(manifest, digest, self.now()),
            None => known,
        }))
    }

    /// The newest manifest, by a listing. One LIST and one GET.
    async fn listed(&self, job: &Job, slot: &Slot) -> Result<Option<Arc<(Manifest, Digest)>>, IndexError> {
        let found = job.manifests.listed().await.map_err(JobError::from)?;
        Ok(found.map(|(manifest, digest)| {
            let newest = slot.learn(manifest, digest, self.now());
            slot.known().at = self.now();
            newest
        }))
    }

    /// Goes over to a manifest. False when the engine could not; it will.
    async fn take_over(&self, job: &Job, slot: &Slot, manifest: Manifest, digest: Digest) -> bool {
        let newest = slot.learn(manifest, digest, self.now());
        let (org, name) = (job.ns().org(), job.ns().namespace());
        match self.inner.engine.adopt(org, name, &newest.0).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(namespace = %name, %error, "a manifest was published and is not in use here yet");
                false
            }
        }
    }

    /// Removes the dirty marker of a namespace, if nothing was written since. Costs a GET; when it is removed, a
    /// DELETE and another GET.
    ///
    /// An entry is written in parallel with its marker. If it is there before the marker is removed, the marker stays;
    /// if it comes while that happens, the second look finds it and puts the marker back.
    async fn clear_marker(&self, org: &OrgId, name: &NamespaceName, flushed: &Snapshot) -> Result<(), IndexError> {
        let marker = paths::dirty_marker(&NsKey::new(org.clone(), name.clone()));
        let store = &self.inner.workshop.store;
        let end = async || {
            self.inner
                .engine
                .end_of_log(org, name)
                .await
                .map_err(IndexError::Engine)
        };
        if end().await? > flushed.seq {
            return Ok(());
        }
        store.delete(&marker).await?;
        if end().await? > flushed.seq {
            store.put(&marker, bytes::Bytes::new()).await?;
        }
        Ok(())
    }
}

/// The bytes of the live rows of chosen segments: what merging them reads.
fn live_bytes(candidates: &[policy::Candidate], chosen: &[SegmentId]) -> u64 {
    let chosen = candidates.iter().filter(|c| chosen.contains(&c.id));
    chosen.fold(0, |sum, c| sum.saturating_add(c.live_bytes()))
}

/// The same, but none while there are entries that no manifest has: merges go by the schema of the manifest, and what a
/// newer one asks for they cannot make.
fn stale_in_segments(snapshot: &Snapshot) -> BTreeSet<SegmentId> {
    match snapshot.seq == snapshot.indexed_seq {
        true => stale(snapshot),
        false => BTreeSet::new(),
    }
}

/// The segments of a snapshot that lack indexes which its schema asks for.
fn stale(snapshot: &Snapshot) -> BTreeSet<SegmentId> {
    let lacking = snapshot
        .segments
        .iter()
        .filter(|part| part.segment.lacks_index(&snapshot.schema));
    lacking.map(|part| part.segment.meta().id).collect()
}
