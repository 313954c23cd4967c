//! One look at one namespace.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use ulid::Ulid;

use super::history::Oldest;
use super::listing::Listed;
use super::memory::{Known, Memory};
use super::plan::{Blobs, Found, Keep, Plan, Unread, View, next_change_ms, plan, retained, retained_log};
use super::{GcOptions, SKEW_MAX};
use crate::base::clock::wall_ms;
use crate::base::{Priority, Runtime};
use crate::maintenance::{Pace, lease};
use crate::manifest::{DecodeError, Gen, ManifestError, ManifestStore};
use crate::model::Seq;
use crate::namespace::Engine;
use crate::store::paths::{NsKey, NsObject};
use crate::store::{Store, StoreError};
use crate::wal::{Log, LogError};

/// The role of the lease.
const ROLE: &str = "gc";
/// For how long a node takes a namespace for itself.
const LEASE: Duration = Duration::from_secs(300);
/// Objects that are read at the same time.
pub(super) const READ_AT_ONCE: usize = 8;
/// Objects that a node deletes a second: as many as one request can where the store deletes a thousand at once.
const DELETES_PER_SECOND: u64 = 1000;

/// How much one look does. What is more is left for the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Objects of one plan.
    pub plan_objects: usize,
    /// Plans that wait at a time.
    pub plans: usize,
    /// A log that goes on for longer than this after what is in segments is not listed whole.
    pub log_entries: u64,
    /// Entries that are read to find out which blobs they name.
    pub blob_entries: u64,
    /// Holds whose holders are asked whether they are needed.
    pub holds_asked: usize,
}

impl Limits {
    /// Objects that a look deals with: as many as are planned already, and as many more.
    pub fn objects(&self) -> usize {
        self.plan_objects.saturating_mul(self.plans).saturating_mul(2)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            plan_objects: 10_000,
            plans: 50,
            log_entries: 1000,
            blob_entries: 1000,
            holds_asked: 200,
        }
    }
}

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
    /// There is, and so much was written down now: it waits for the second look.
    Planned { objects: usize },
    /// So much was deleted, and so much more was written down.
    Deleted { objects: usize, bytes: u64, planned: usize },
    /// Another node looks after it.
    Elsewhere,
}

/// What one look has led to, and when the next one is due.
pub(super) struct Look {
    pub looked: Looked,
    /// The newest manifest.
    pub newest: Gen,
    /// For how long there is nothing to do, unless something is published.
    pub wait: Duration,
}

/// What a look has seen.
pub(super) struct Seen {
    /// All objects, but of the log only what [`Listed::log`] lists.
    pub found: Vec<Found>,
    /// When it began, since the node did.
    pub since: Duration,
    /// The store's clock, and the clock that garbage is judged by: the store's or this node's, whichever is behind.
    pub store_ms: u64,
    pub now_ms: u64,
}

/// Looks after the namespaces of a store, several at a time if it is asked to. What it remembers of them saves requests.
pub struct Collector {
    pub(super) store: Store,
    pub(super) runtime: Runtime,
    /// Random per process start.
    node: u128,
    pub(super) keep: Keep,
    pub(super) options: GcOptions,
    pub(super) limits: Limits,
    /// Of objects that are deleted.
    pub(super) pace: Pace,
    pub(super) memory: Memory,
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
            limits: Limits::default(),
            pace: Pace::new(DELETES_PER_SECOND),
            memory: Memory::default(),
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

    /// Looks at a namespace: deletes what was written down long enough ago and still is garbage, and writes down what is
    /// garbage besides.
    ///
    /// # Errors
    ///
    /// It has to be looked at again. What was deleted was garbage.
    pub async fn look(&self, ns: &NsKey) -> Result<Looked, CollectError> {
        Ok(self.look_at(ns).await?.looked)
    }

    /// As [`look`](Self::look); also says when the next one is due.
    pub(super) async fn look_at(&self, ns: &NsKey) -> Result<Look, CollectError> {
        let (here_ms, since) = (wall_ms(self.runtime.clock.as_ref()), self.runtime.clock.boot());
        let taken = lease::take(&self.store, ns, ROLE, self.node, here_ms, LEASE).await?;
        if taken.ours().is_none() {
            return Ok(Look {
                looked: Looked::Elsewhere,
                newest: Gen::ZERO,
                wait: self.options.interval,
            });
        }
        let mut known = self.memory.take(ns);
        let look = self.look_with(ns, &mut known, (here_ms, since)).await;
        let is_over = match &look {
            Ok(look) => look.looked == Looked::Clean || look.wait > self.options.interval,
            Err(_) => false,
        };
        // Reading a manifest once more costs less than holding what it says for a day.
        if !is_over {
            self.memory.keep(ns, known);
        }
        look
    }

    /// Looks at a namespace that this node has the lease of.
    async fn look_with(
        &self,
        ns: &NsKey,
        known: &mut Known,
        (here_ms, since): (u64, Duration),
    ) -> Result<Look, CollectError> {
        let seen = self.see(ns, known, here_ms, since).await?;
        let newest = retained(&seen.found, seen.now_ms, self.keep).newest;
        let (seen, found) = self.decide(ns, seen, known).await?;
        let (looked, wait) = self.act(ns, &seen, known, found).await?;
        let wait = match looked {
            Looked::Later => {
                let next = next_change_ms(&seen.found, seen.now_ms, self.keep);
                let idle = next.map(|at| Duration::from_millis(at - seen.now_ms));
                idle.unwrap_or_default().max(self.options.interval)
            }
            _ => wait,
        };
        Ok(Look { looked, newest, wait })
    }

    /// Lists a namespace, and reads the oldest manifest of it that is kept.
    async fn see(&self, ns: &NsKey, known: &mut Known, here_ms: u64, since: Duration) -> Result<Seen, CollectError> {
        let mut listed = Listed::of(&self.store, ns).await?;
        let mut found = std::mem::take(&mut listed.found);
        let store_ms = clock_of(&found).ok_or(CollectError::Listing)?;
        if store_ms.abs_diff(here_ms) > SKEW_MAX.as_millis() as u64 {
            return Err(CollectError::Skew { here_ms, store_ms });
        }
        let now_ms = store_ms.min(here_ms);
        let oldest = retained(&found, now_ms, self.keep).oldest;
        // One GET, unless it is the one that was read last.
        if known.oldest.generation != oldest {
            known.oldest = Arc::new(self.read_oldest(ns, oldest).await?);
        }
        let limits = (self.limits.log_entries, self.limits.objects());
        let log = listed.log((&self.store, ns), known.oldest.indexed_seq, limits).await?;
        found.extend(log);
        Ok(Seen {
            found,
            since,
            store_ms,
            now_ms,
        })
    }

    /// Reads what decides besides, and decides.
    async fn decide(&self, ns: &NsKey, seen: Seen, known: &mut Known) -> Result<(Seen, Plan), CollectError> {
        let pins = self.holds(ns, &seen, known).await?;
        let blobs = self.blobs(ns, &seen, known).await?;
        let (oldest, keep) = (known.oldest.clone(), self.keep);
        let decide = move || {
            let view = View {
                listing: &seen.found,
                oldest: &oldest,
                pins: &pins,
                blobs: match &blobs {
                    Ok(named) => Blobs::Named(named),
                    Err(since_ms) => Blobs::Since(*since_ms),
                },
                now_ms: seen.now_ms,
            };
            plan(&view, keep).map(|plan| (seen, plan))
        };
        Ok(self.runtime.cpu.run(Priority::Background, decide).await?)
    }

    pub(super) fn manifests(&self, ns: &NsKey) -> ManifestStore {
        ManifestStore::new(self.store.clone(), ns.clone(), self.runtime.cpu.clone())
    }

    /// What a manifest says that is the oldest that is kept. One GET.
    pub(super) async fn read_oldest(&self, ns: &NsKey, oldest: Gen) -> Result<Oldest, CollectError> {
        Ok(match oldest {
            Gen::ZERO => Oldest::default(),
            // It may be gone since it was listed: another node collects.
            _ => Oldest::of(&self.manifests(ns).get(oldest).await?.ok_or(Unread(oldest))?.0),
        })
    }

    /// The blobs that entries name which stay: one GET per such entry that was not read, when there are blobs at all. Where
    /// there are very many such entries, none is read, and the time is returned before which none of them was uploaded:
    /// an entry is written within the grace time after the blobs that it names.
    async fn blobs(
        &self,
        ns: &NsKey,
        seen: &Seen,
        known: &mut Known,
    ) -> Result<std::result::Result<BTreeSet<Ulid>, u64>, CollectError> {
        if !seen.found.iter().any(|f| matches!(f.object, NsObject::Blob(_))) {
            return Ok(Ok(BTreeSet::new()));
        }
        let (floor, newest) = retained_log(&seen.found, &known.oldest);
        let first = Seq(floor.0.saturating_add(1)).min(newest);
        if newest.0 - first.0 >= self.limits.blob_entries {
            known.blobs.clear();
            let first = seen.found.iter().find(|f| f.object == NsObject::Entry(first));
            let margin_ms = (self.keep.grace + SKEW_MAX).as_millis() as u64;
            return Ok(Err(first.map_or(0, |f| f.written_ms.saturating_sub(margin_ms))));
        }
        let log = Log::new(self.store.clone(), ns.clone(), self.runtime.cpu.clone());
        known.blobs.retain(|seq, _| (first..=newest).contains(seq));
        let kept = (first.0.max(1)..=newest.0).map(Seq);
        let unread: Vec<Seq> = kept.filter(|seq| !known.blobs.contains_key(seq)).collect();
        let reads = stream::iter(unread).map(|seq| {
            let log = log.clone();
            async move { Ok::<_, LogError>((seq, log.get(seq).await?)) }
        });
        let mut reads = reads.buffered(READ_AT_ONCE);
        while let Some((seq, found)) = reads.try_next().await? {
            // Gone since it was listed: another node collects. Nothing is to be concluded from that.
            let logged = found.ok_or(CollectError::Listing)?;
            known.blobs.insert(seq, logged.entry.blobs());
        }
        Ok(Ok(known.blobs.values().flatten().copied().collect()))
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
