//! Finds namespaces whose markers were lost, and marks them again.
//!
//! A marker is lost when a node dies between publishing a manifest and saying so, or when a DELETE takes effect so late
//! that it takes a newer marker along. Nothing is wrong then, but nobody looks: rows stay in the log, garbage stays.
//!
//! # What stays true
//!
//! - A sweep covers everything that was written since the last one that was finished; when that began is said by the
//!   store's clock, as the dates of objects are. A node whose clock is wrong sweeps at a wrong time, and misses nothing.
//! - Whose turn it is, is decided by who creates the object of the turn. Nothing relies on there being only one.
//! - A marker that is put without need costs one look at the namespace.
//!
//! # Cost
//!
//! A LIST per thousand objects of all namespaces, and one more, once per interval for all nodes together; a LIST per node
//! and interval.
//! For each namespace that was written since the last sweep and is not marked as dirty, a GET; for each marker that is
//! missing, a PUT. What is idle costs nothing but its place in the listing. (The listing of names would be shorter, but a
//! request for each name would be needed to tell, and deleted namespaces, which have garbage, are not in it.)

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use crate::base::Runtime;
use crate::base::clock::wall_ms;
use crate::base::seal::{sealed, unsealed};
use crate::manifest::{ManifestError, ManifestStore};
use crate::model::Seq;
use crate::namespace::Engine;
use crate::store::paths::{self, NsKey, NsObject};
use crate::store::{CreateError, Store, StoreError};

/// Objects between two pauses.
const PAGE: usize = 1000;
/// The longest pause.
const PAUSE: Duration = Duration::from_millis(200);
/// Clocks may differ by so much, and a request may take so long, in milliseconds.
const MARGIN_MS: u64 = 3_600_000;
/// A larger body is no turn's.
const TURN_BYTES_MAX: usize = 1024;
const VERSION: u32 = 1;

/// Why a sweep was given up. The next one covers what it would have covered.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A listing does not show what was written before it.
    #[error("the store does not list what was just written")]
    Listing,
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub namespaces: u64,
    /// Markers that were missing: of log entries to be indexed, and of garbage.
    pub dirty: u64,
    pub garbage: u64,
}

/// The body of the object of a turn.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Turn {
    version: u32,
    /// By the store's clock, in milliseconds since the epoch; 0 until that is known.
    began_ms: u64,
    finished: bool,
}

/// Sweeps when it is this node's turn, for ever.
///
/// * `every` — the time between two sweeps; 0: never
pub(super) async fn run(engine: &Engine, every: Duration) {
    if every.is_zero() {
        return std::future::pending().await;
    }
    let runtime = engine.runtime();
    // Nodes that start together do not ask together, and one that is started again and again need not ask.
    let mut wait = every / 24 + runtime.rng.jitter(every / 24);
    loop {
        tokio::time::sleep(wait).await;
        match sweep_if_due(engine.store(), runtime, every).await {
            Ok(None) => {}
            Ok(Some(Swept {
                namespaces,
                dirty,
                garbage,
            })) => {
                tracing::info!(namespaces, dirty, garbage, "looked for lost markers");
            }
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "a sweep was given up"),
        }
        let next_ms = (wall_ms(runtime.clock.as_ref()) / millis(every) + 1).saturating_mul(millis(every));
        let rest_ms = next_ms.saturating_sub(wall_ms(runtime.clock.as_ref()));
        wait = Duration::from_millis(rest_ms) + runtime.rng.jitter(every / 8);
    }
}

/// Sweeps, unless somebody else has begun to since the interval began; `None` then.
///
/// # Errors
///
/// Nothing is lost: the next sweep begins where the last one did that was finished.
pub async fn sweep_if_due(store: &Store, runtime: &Runtime, every: Duration) -> Result<Option<Swept>, SweepError> {
    let number = wall_ms(runtime.clock.as_ref()) / millis(every);
    let mut earlier = turns(store).await?;
    // Turns of a clock that was far ahead would be the last for years.
    let ahead = earlier.split_off(earlier.partition_point(|turn| turn.0 <= number.saturating_add(1)));
    if earlier.last().is_some_and(|last| last.0 >= number) {
        return Ok(None);
    }
    let mut turn = Turn {
        version: VERSION,
        began_ms: 0,
        finished: false,
    };
    let key = paths::upkeep::sweep(number);
    match store.create(&key, encode(turn)).await {
        Ok(()) => {}
        // Another node has it, or perhaps this one: then nobody sweeps this time.
        Err(CreateError::Exists | CreateError::Ambiguous(_)) => return Ok(None),
        Err(CreateError::Refused(error)) => return Err(error.into()),
    }
    // This node's clock may be hours ahead; the next sweep would miss what is written until that time comes.
    let own = turns(store).await?.into_iter().find(|turn| turn.0 == number);
    turn.began_ms = own.ok_or(SweepError::Listing)?.1;
    let since_ms = last_finished(store, &earlier).await?.saturating_sub(MARGIN_MS);
    let swept = Sweep::new(store, runtime, since_ms).await?.all().await?;
    turn.finished = true;
    store.put(&key, encode(turn)).await?;
    let old: Vec<Path> = earlier
        .iter()
        .chain(&ahead)
        .map(|turn| paths::upkeep::sweep(turn.0))
        .collect();
    store.delete_all(&old).await?;
    Ok(Some(swept))
}

/// When the last sweep began that was finished; 0 when there is none. A GET for each that was not, and one more.
pub(super) async fn last_finished(store: &Store, earlier: &[(u64, u64)]) -> Result<u64, StoreError> {
    for (number, written_ms) in earlier.iter().rev() {
        let body = store.get(&paths::upkeep::sweep(*number)).await?;
        if let Some(turn) = body.as_deref().and_then(decode)
            && turn.finished
        {
            // It was written after it had begun.
            return Ok(turn.began_ms.min(*written_ms));
        }
    }
    Ok(0)
}

/// The turns that there are, oldest first: the number of each, and when it was written, by the store's clock. One LIST.
async fn turns(store: &Store) -> Result<Vec<(u64, u64)>, StoreError> {
    let mut turns = Vec::new();
    let mut listed = store.list(&paths::upkeep::sweeps(), None);
    while let Some(meta) = listed.next().await {
        let meta = meta?;
        let written_ms = u64::try_from(meta.last_modified.timestamp_millis()).unwrap_or(0);
        turns.extend(paths::upkeep::parse_sweep(&meta.location).map(|number| (number, written_ms)));
    }
    turns.sort_unstable();
    Ok(turns)
}

fn encode(turn: Turn) -> Vec<u8> {
    sealed(serde_json::to_vec(&turn).expect("numbers are JSON"))
}

fn decode(body: &[u8]) -> Option<Turn> {
    if body.len() > TURN_BYTES_MAX {
        return None;
    }
    let turn: Turn = serde_json::from_slice(unsealed(body)?).ok()?;
    (turn.version == VERSION).then_some(turn)
}

/// What a listing says of one namespace. Times are by the store's clock, in milliseconds since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Glimpse {
    newest_entry: Option<(Seq, u64)>,
    manifests: u64,
    /// The newest of what a collection looks at.
    collectable_ms: u64,
    /// Whether there is what only waits for being collected.
    waits: bool,
}

impl Glimpse {
    fn add(&mut self, object: &NsObject, written_ms: u64) {
        match object {
            NsObject::Entry(seq) => self.newest_entry = self.newest_entry.max(Some((*seq, written_ms))),
            NsObject::Manifest(_) => {
                self.manifests += 1;
                self.collectable_ms = self.collectable_ms.max(written_ms);
            }
            NsObject::Blob(_) | NsObject::Segment(_) | NsObject::Deletions(_) => {
                self.collectable_ms = self.collectable_ms.max(written_ms);
            }
            NsObject::Pin(_) | NsObject::CollectionPlan(_) | NsObject::Operation(..) => self.waits = true,
            NsObject::Head | NsObject::Lease { .. } => {}
        }
    }

    /// Whether there may be garbage.
    fn may_have_garbage(&self, since_ms: u64) -> bool {
        self.waits || self.manifests > 1 || (self.collectable_ms > 0 && self.collectable_ms >= since_ms)
    }

    /// The newest entry, if it may not be in segments.
    fn may_be_dirty(&self, since_ms: u64) -> Option<Seq> {
        let (seq, written_ms) = self.newest_entry?;
        (written_ms >= since_ms).then_some(seq)
    }
}

struct Sweep<'a> {
    store: &'a Store,
    runtime: &'a Runtime,
    since_ms: u64,
    /// The namespaces that have a marker.
    dirty: BTreeSet<NsKey>,
    garbage: BTreeSet<NsKey>,
    swept: Swept,
}

impl<'a> Sweep<'a> {
    /// Lists the markers: what is marked after that may be marked once more.
    async fn new(store: &'a Store, runtime: &'a Runtime, since_ms: u64) -> Result<Self, StoreError> {
        Ok(Self {
            store,
            runtime,
            since_ms,
            dirty: marked(store, &paths::dirty_markers(), paths::parse_dirty_marker).await?,
            garbage: marked(store, &paths::collection_markers(), paths::parse_collection_marker).await?,
            swept: Swept::default(),
        })
    }

    async fn all(mut self) -> Result<Swept, SweepError> {
        let mut listed = self.store.list(&paths::upkeep::namespaces(), None);
        let in_order = self.store.lists_in_order();
        let mut seen: BTreeMap<NsKey, Glimpse> = BTreeMap::new();
        let mut count = 0usize;
        while let Some(meta) = listed.next().await {
            let meta = meta?;
            count += 1;
            if count.is_multiple_of(PAGE) {
                tokio::time::sleep(self.runtime.rng.jitter(PAUSE)).await;
            }
            let (Some(ns), Some(object)) = (
                paths::upkeep::parse_namespace(&meta.location),
                paths::parse_object(&meta.location),
            ) else {
                continue;
            };
            // The objects of a namespace come one after the other, where there is an order.
            if in_order && !seen.contains_key(&ns) {
                self.judge_all(std::mem::take(&mut seen)).await?;
            }
            let written_ms = u64::try_from(meta.last_modified.timestamp_millis()).unwrap_or(0);
            seen.entry(ns).or_default().add(&object, written_ms);
        }
        self.judge_all(seen).await?;
        Ok(self.swept)
    }

    async fn judge_all(&mut self, seen: BTreeMap<NsKey, Glimpse>) -> Result<(), SweepError> {
        for (ns, glimpse) in seen {
            self.judge(&ns, glimpse).await?;
        }
        Ok(())
    }

    async fn judge(&mut self, ns: &NsKey, glimpse: Glimpse) -> Result<(), SweepError> {
        self.swept.namespaces += 1;
        if glimpse.may_have_garbage(self.since_ms) && !self.garbage.contains(ns) {
            self.store.put(&paths::collection_marker(ns), Vec::new()).await?;
            self.swept.garbage += 1;
        }
        if let Some(newest) = glimpse.may_be_dirty(self.since_ms)
            && !self.dirty.contains(ns)
            && self.indexed_seq(ns, glimpse).await? < newest
        {
            self.store.put(&paths::dirty_marker(ns), Vec::new()).await?;
            self.swept.dirty += 1;
        }
        Ok(())
    }

    /// How much of a log is in segments, at least. One GET where there are manifests.
    async fn indexed_seq(&self, ns: &NsKey, glimpse: Glimpse) -> Result<Seq, ManifestError> {
        if glimpse.manifests == 0 {
            return Ok(Seq::ZERO);
        }
        let manifests = ManifestStore::new(self.store.clone(), ns.clone(), self.runtime.cpu.clone());
        let hint = manifests.hint().await?;
        Ok(hint.map_or(Seq::ZERO, |(manifest, _)| manifest.indexed_seq))
    }
}

/// The namespaces whose markers are below `prefix`. One LIST per thousand.
async fn marked(
    store: &Store,
    prefix: &Path,
    parse: impl Fn(&Path) -> Option<NsKey>,
) -> Result<BTreeSet<NsKey>, StoreError> {
    let mut markers = store.list(prefix, None);
    let mut found = BTreeSet::new();
    while let Some(marker) = markers.next().await {
        found.extend(parse(&marker?.location));
    }
    Ok(found)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1)
}
