//! One look at one namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::history::{Held, Oldest};
use super::plan::{Found, Keep, Plan, Unread, View, is_passed, next_change_ms, plan, retained, retained_log};
use super::{GcOptions, SKEW_MAX};
use crate::base::Runtime;
use crate::base::clock::wall_ms;
use crate::maintenance::lease;
use crate::manifest::{DecodeError, Gen, ManifestError, ManifestStore, Pin};
use crate::model::Seq;
use crate::namespace::Engine;
use crate::store::paths::{self, NsKey, NsObject};
use crate::store::{Store, StoreError};
use crate::telemetry;
use crate::wal::{Log, LogError};

/// The role of the lease.
const ROLE: &str = "gc";
/// For how long a node takes a namespace for itself.
const LEASE: Duration = Duration::from_secs(300);
/// Objects that are read at the same time.
const READ_AT_ONCE: usize = 8;
/// Objects of one plan; more go by the next.
const PLANNED_MAX: usize = 10_000;
/// A larger body is no plan's.
const PLAN_BYTES_MAX: usize = 4 << 20;

/// Why a look at a namespace was given up. Nothing is wrong with what was deleted until then.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Unread(#[from] Unread),
    /// Which of the two is wrong is not known.
    #[error("this node's clock says {here_ms} ms, the store's {store_ms} ms: nothing is deleted")]
    Skew { here_ms: u64, store_ms: u64 },
    /// Nothing is deleted of what it may hold.
    #[error("hold {key} cannot be read")]
    Pin { key: String, source: DecodeError },
    /// The log does not continue the oldest manifest that is kept.
    #[error("entry {0} does not continue the manifests: no entry is deleted")]
    Broken(Seq),
    /// A listing does not show what was written before it.
    #[error("the store does not list what was just written")]
    Listing,
}

/// What a look has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// There is nothing that will be garbage until something is published.
    Clean,
    /// There will be.
    Later,
    /// There is, and it was written down: it waits for the second look.
    Planned { objects: usize },
    /// So much was deleted.
    Deleted { objects: usize, bytes: u64 },
    /// Another node looks after it.
    Elsewhere,
}

/// What one look has seen.
pub(super) struct Look {
    pub looked: Looked,
    /// The newest manifest.
    pub newest: Gen,
    /// How long nothing more will be garbage unless something is published; `None` when that is not known.
    pub wait: Option<Duration>,
}

/// Looks after the namespaces of a store. What it remembers of them saves requests.
pub struct Collector {
    store: Store,
    runtime: Runtime,
    /// Random per process start.
    node: u128,
    keep: Keep,
    options: GcOptions,
    known: BTreeMap<NsKey, Known>,
}

/// What is remembered of a namespace.
#[derive(Default)]
struct Known {
    oldest: Oldest,
    /// The blobs that entries name.
    blobs: BTreeMap<Seq, Vec<Ulid>>,
    pins: BTreeMap<Ulid, Pin>,
}

/// The body of a plan.
#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    keys: Vec<String>,
}

impl Collector {
    /// Collects what lies in `store`.
    ///
    /// * `node` — random per process start
    /// * `grace` — how long objects stay after nothing needs them; the same on all nodes
    pub fn new(store: Store, runtime: Runtime, node: u128, grace: Duration, options: GcOptions) -> Self {
        Self {
            store,
            runtime,
            node,
            keep: Keep {
                grace,
                retention: options.retention,
            },
            options,
            known: BTreeMap::new(),
        }
    }

    /// Collects what lies in the store of `engine`.
    pub fn of(engine: &Engine, options: GcOptions) -> Self {
        let (store, runtime) = (engine.store().clone(), engine.runtime().clone());
        Self::new(store, runtime, engine.writer(), engine.grace(), options)
    }

    /// The options in force.
    pub fn options(&self) -> &GcOptions {
        &self.options
    }

    /// Looks at a namespace: writes down what is garbage, or deletes what was written down long enough ago and still is.
    ///
    /// # Errors
    ///
    /// It has to be looked at again. What was deleted was garbage.
    pub async fn look(&mut self, ns: &NsKey) -> Result<Looked, CollectError> {
        Ok(self.look_at(ns).await?.looked)
    }

    /// As [`look`](Self::look); also says what it has seen.
    pub(super) async fn look_at(&mut self, ns: &NsKey) -> Result<Look, CollectError> {
        let here_ms = wall_ms(self.runtime.clock.as_ref());
        if lease::take(&self.store, ns, ROLE, self.node, here_ms, LEASE)
            .await?
            .is_none()
        {
            return Ok(Look {
                looked: Looked::Elsewhere,
                newest: Gen::ZERO,
                wait: None,
            });
        }
        let listing = self.list(ns).await?;
        let store_ms = clock_of(&listing).ok_or(CollectError::Listing)?;
        if store_ms.abs_diff(here_ms) > SKEW_MAX.as_millis() as u64 {
            return Err(CollectError::Skew { here_ms, store_ms });
        }
        let now_ms = store_ms.min(here_ms);
        let newest = retained(&listing, now_ms, self.keep).newest;
        let found = self.decide(ns, &listing, now_ms).await?;
        let looked = self.act(ns, &listing, &found, store_ms).await?;
        let next = next_change_ms(&listing, now_ms, self.keep);
        let wait = next.map(|at| Duration::from_millis(at - now_ms));
        let is_long = looked == Looked::Later && wait.is_some_and(|wait| wait > self.options.interval);
        if looked == Looked::Clean || is_long {
            // Reading a manifest once more costs less than holding what it says for a day.
            self.known.remove(ns);
        }
        Ok(Look { looked, newest, wait })
    }

    /// Does what was decided.
    async fn act(
        &mut self,
        ns: &NsKey,
        listing: &[Found],
        found: &Plan,
        store_ms: u64,
    ) -> Result<Looked, CollectError> {
        match listing.iter().find(|f| matches!(f.object, NsObject::CollectionPlan(_))) {
            _ if self.options.dry_run => {
                for object in &found.doomed {
                    tracing::info!(key = %object.key, bytes = object.bytes, "would be deleted");
                }
                Ok(Looked::Later)
            }
            Some(written) => self.second_look(ns, written, found, store_ms).await,
            None if !found.doomed.is_empty() => self.write_down(ns, &found.doomed).await,
            None if found.later => Ok(Looked::Later),
            None => Ok(Looked::Clean),
        }
    }

    /// Deletes what was written down and still is garbage, when that was long enough ago.
    async fn second_look(
        &mut self,
        ns: &NsKey,
        written: &Found,
        found: &Plan,
        store_ms: u64,
    ) -> Result<Looked, CollectError> {
        if u128::from(store_ms.saturating_sub(written.written_ms)) < self.options.second_look.as_millis() {
            return Ok(Looked::Planned { objects: 0 });
        }
        let planned = match self.store.get(&written.key).await? {
            Some(body) => read_plan(&body),
            None => return Ok(Looked::Later),
        };
        let doomed: Vec<&Found> = found
            .doomed
            .iter()
            .filter(|f| planned.contains(f.key.as_ref()))
            .collect();
        let entries = doomed.iter().any(|f| matches!(f.object, NsObject::Entry(_)));
        if entries {
            self.check_chain(ns).await?;
        }
        // What names goes before what is named: in one batch there is no order.
        let groups = doomed.chunk_by(|a, b| stage(&a.object) == stage(&b.object));
        for group in groups {
            let keys: Vec<Path> = group.iter().map(|f| f.key.clone()).collect();
            self.store.delete_all(&keys).await?;
        }
        self.store.delete(&written.key).await?;
        let bytes = doomed.iter().map(|f| f.bytes).sum();
        self.record(ns, &doomed, bytes);
        Ok(Looked::Deleted {
            objects: doomed.len(),
            bytes,
        })
    }

    /// One line for each object, and one for all of them.
    fn record(&self, ns: &NsKey, deleted: &[&Found], bytes: u64) {
        for object in deleted {
            tracing::debug!(key = %object.key, bytes = object.bytes, "deleted");
        }
        let count = |is: fn(&NsObject) -> bool| deleted.iter().filter(|f| is(&f.object)).count();
        tracing::info!(
            org = %ns.org(), namespace = %ns.namespace(), objects = deleted.len(), bytes,
            manifests = count(|o| matches!(o, NsObject::Manifest(_))),
            entries = count(|o| matches!(o, NsObject::Entry(_))),
            segments = count(|o| matches!(o, NsObject::Segment(_))),
            deletions = count(|o| matches!(o, NsObject::Deletions(_))),
            blobs = count(|o| matches!(o, NsObject::Blob(_))),
            holds = count(|o| matches!(o, NsObject::Pin(_))),
            "garbage was deleted"
        );
        metrics::counter!(telemetry::GC_OBJECTS).increment(deleted.len() as u64);
        metrics::counter!(telemetry::GC_BYTES).increment(bytes);
    }

    async fn write_down(&self, ns: &NsKey, doomed: &[Found]) -> Result<Looked, CollectError> {
        let keys: Vec<String> = doomed
            .iter()
            .take(PLANNED_MAX)
            .map(|f| f.key.as_ref().to_owned())
            .collect();
        let objects = keys.len();
        let body = serde_json::to_vec(&Written { version: 1, keys }).expect("texts are JSON");
        let id = self.runtime.rng.ulid(wall_ms(self.runtime.clock.as_ref()));
        self.store
            .put(&paths::collection_plan(ns, id), Bytes::from(body))
            .await?;
        Ok(Looked::Planned { objects })
    }

    async fn list(&self, ns: &NsKey) -> Result<Vec<Found>, StoreError> {
        let listed: Vec<_> = self
            .store
            .list(&paths::upkeep::namespace_prefix(ns), None)
            .try_collect()
            .await?;
        let found = listed.into_iter().filter_map(|meta| {
            Some(Found {
                object: paths::parse_object(&meta.location)?,
                written_ms: u64::try_from(meta.last_modified.timestamp_millis()).unwrap_or(0),
                bytes: meta.size,
                key: meta.location,
            })
        });
        Ok(found.collect())
    }

    /// Reads what decides, and decides.
    async fn decide(&mut self, ns: &NsKey, listing: &[Found], now_ms: u64) -> Result<Plan, CollectError> {
        self.learn(ns, listing, now_ms).await?;
        let pins = self.holds(ns, listing, now_ms).await?;
        let log = retained_log(listing, &self.known(ns).oldest);
        let blobs = self.blobs(ns, listing, log).await?;
        let keep = self.keep;
        let view = View {
            listing,
            oldest: &self.known(ns).oldest,
            pins: &pins,
            blobs: Some(&blobs),
            now_ms,
        };
        Ok(plan(&view, keep)?)
    }

    fn known(&mut self, ns: &NsKey) -> &mut Known {
        self.known.entry(ns.clone()).or_default()
    }

    fn manifests(&self, ns: &NsKey) -> ManifestStore {
        ManifestStore::new(self.store.clone(), ns.clone(), self.runtime.cpu.clone())
    }

    /// Reads the oldest retained manifest. One GET, unless it is the one that was read last.
    async fn learn(&mut self, ns: &NsKey, listing: &[Found], now_ms: u64) -> Result<(), CollectError> {
        let oldest = retained(listing, now_ms, self.keep).oldest;
        if self.known(ns).oldest.generation == oldest {
            return Ok(());
        }
        self.known(ns).oldest = match oldest {
            Gen::ZERO => Oldest::default(),
            // It may be gone since it was listed: another node collects.
            _ => Oldest::of(&self.manifests(ns).get(oldest).await?.ok_or(Unread(oldest))?.0),
        };
        Ok(())
    }

    /// The holds on the objects of a namespace, and whether they are needed. One GET for each that was not read, and for
    /// each that is older than the grace time a LIST at who holds it, and what [`learn`](Self::learn) costs there.
    async fn holds(&mut self, ns: &NsKey, listing: &[Found], now_ms: u64) -> Result<Vec<Held>, CollectError> {
        let mut held = Vec::new();
        for found in listing {
            let NsObject::Pin(id) = found.object else {
                continue;
            };
            let pin = match self.known(ns).pins.get(&id) {
                Some(pin) => pin.clone(),
                None => match self.store.get(&found.key).await? {
                    None => continue,
                    Some(bytes) => Pin::decode(&bytes).map_err(|source| CollectError::Pin {
                        key: found.key.to_string(),
                        source,
                    })?,
                },
            };
            self.known(ns).pins.insert(id, pin.clone());
            let is_young = u128::from(now_ms.saturating_sub(found.written_ms)) <= self.keep.grace.as_millis();
            let segments = pin.segments.iter().copied().map(NsObject::Segment);
            let deletions = pin.deletions.iter().copied().map(NsObject::Deletions);
            held.push(Held {
                id,
                objects: segments.chain(deletions).collect(),
                needed: is_young || self.is_needed(ns, &pin, now_ms).await?,
            });
        }
        Ok(held)
    }

    /// Whether whoever holds objects of `owner` may still name them.
    async fn is_needed(&mut self, owner: &NsKey, pin: &Pin, now_ms: u64) -> Result<bool, CollectError> {
        let target = &pin.target;
        let listing = self.list(target).await?;
        let has_entry = listing.iter().any(|f| f.object == NsObject::Entry(pin.entry));
        self.learn(target, &listing, now_ms).await?;
        let oldest = &self.known(target).oldest;
        // Whoever reads the past from the oldest manifest on comes by the entry; a name that was used before has such a
        // past from the beginning.
        let is_in_log = has_entry && pin.entry > oldest.indexed_seq;
        Ok(is_in_log || oldest.names_foreign(owner))
    }

    /// The blobs that entries name which stay. One GET per such entry that was not read, when there are blobs at all.
    async fn blobs(&mut self, ns: &NsKey, listing: &[Found], kept: (Seq, Seq)) -> Result<BTreeSet<Ulid>, CollectError> {
        if !listing.iter().any(|f| matches!(f.object, NsObject::Blob(_))) {
            return Ok(BTreeSet::new());
        }
        let log = Log::new(self.store.clone(), ns.clone(), self.runtime.cpu.clone());
        let known = self.known(ns);
        known.blobs.retain(|seq, _| !is_passed(*seq, kept));
        let unread: Vec<Seq> = listing
            .iter()
            .filter_map(|f| match f.object {
                NsObject::Entry(seq) if !is_passed(seq, kept) && !known.blobs.contains_key(&seq) => Some(seq),
                _ => None,
            })
            .collect();
        let reads = stream::iter(unread).map(|seq| {
            let log = log.clone();
            async move { Ok::<_, LogError>((seq, log.get(seq).await?)) }
        });
        let mut reads = reads.buffered(READ_AT_ONCE);
        while let Some((seq, found)) = reads.try_next().await? {
            // Gone since it was listed: another node collects. Nothing is to be concluded from that.
            let logged = found.ok_or(CollectError::Listing)?;
            self.known(ns).blobs.insert(seq, logged.entry.blobs());
        }
        Ok(self.known(ns).blobs.values().flatten().copied().collect())
    }

    /// That the log continues the oldest manifest that is kept, before entries are deleted that it has in segments. One
    /// GET, or two.
    async fn check_chain(&mut self, ns: &NsKey) -> Result<(), CollectError> {
        let oldest = &self.known(ns).oldest;
        let (indexed, digest) = (oldest.indexed_seq, oldest.indexed_digest);
        let log = Log::new(self.store.clone(), ns.clone(), self.runtime.cpu.clone());
        let continues = match log.get(indexed.next()).await? {
            Some(logged) => logged.entry.prev_digest == digest,
            None => log.get(indexed).await?.is_some_and(|logged| logged.digest == digest),
        };
        match continues {
            true => Ok(()),
            false => Err(CollectError::Broken(indexed.next())),
        }
    }
}

/// In which of several batches an object is deleted.
fn stage(object: &NsObject) -> u8 {
    match object {
        NsObject::Manifest(_) => 0,
        NsObject::Entry(_) => 1,
        _ => 2,
    }
}

/// The store's clock, by the lease that was taken before the listing.
fn clock_of(listing: &[Found]) -> Option<u64> {
    let leases = listing.iter().filter_map(|f| match &f.object {
        NsObject::Lease { role, term } if role == ROLE => Some((*term, f.written_ms)),
        _ => None,
    });
    leases.max().map(|(_, written_ms)| written_ms)
}

/// The keys of a plan; none of what is no plan, which is deleted then.
fn read_plan(body: &[u8]) -> BTreeSet<String> {
    if body.len() > PLAN_BYTES_MAX {
        return BTreeSet::new();
    }
    match serde_json::from_slice::<Written>(body) {
        Ok(written) if written.version == 1 => written.keys.into_iter().collect(),
        _ => BTreeSet::new(),
    }
}
