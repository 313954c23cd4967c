//! What the upkeep of indexes asks of the engine, and tells it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;

use super::Engine;
use super::commit::Failure;
use super::registry::Name;
use super::state::Trouble;
use crate::base::Runtime;
use crate::base::clock::wall_ms;
use crate::cache::Cache;
use crate::error::Result;
use crate::manifest::Manifest;
use crate::model::{NamespaceName, OrgId, Seq};
use crate::snapshot::Snapshot;
use crate::store::Store;

/// Namespaces that were opened that are noted at most while nobody takes them; others are found by their markers.
const OPENED_MAX: usize = 1024;
/// Namespaces with newer manifests that are remembered while nobody asks; the others are found by sweeps.
const PUBLISHED_MAX: usize = 100_000;

/// The entries of a namespace that are not in segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirty {
    /// The newest entry that this node has applied, and the newest in segments.
    pub seq: Seq,
    pub indexed_seq: Seq,
    pub unindexed_bytes: u64,
    /// Since the first of these entries was written.
    pub age: Duration,
    /// Since the last one was written.
    pub quiet: Duration,
}

impl Dirty {
    /// How many entries are not in segments.
    pub fn entries(&self) -> u64 {
        self.seq.0.saturating_sub(self.indexed_seq.0)
    }
}

/// What the engine knows of a namespace's tail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tail {
    /// The namespace is not open on this node.
    Closed,
    /// All entries are in segments.
    Clean,
    Dirty(Dirty),
}

/// Tells those who keep up namespaces what has changed, without holding up who changes it. What is waiting to be taken
/// has every namespace once.
#[derive(Clone, Default)]
pub(super) struct Hints {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Protects what waits; held to add to it or to take it.
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Default)]
struct Waiting {
    /// Nothing is noted before somebody has asked for it: a node without the role would note it for ever.
    hinted: Option<Hinted>,
    /// Namespaces with newer manifests, for whoever collects garbage.
    published: BTreeSet<Name>,
}

/// What has happened to namespaces since somebody looked last.
#[derive(Debug, Default)]
pub struct Hinted {
    /// These got entries that are not in segments, or had some when somebody looked first.
    pub dirty: BTreeSet<(OrgId, NamespaceName)>,
    /// These were opened, and have segments that may be worth merging.
    pub opened: BTreeSet<(OrgId, NamespaceName)>,
    /// Whether dirty ones had to be closed, or will have to be, because there is no room for more.
    pub is_pressed: bool,
}

impl Hints {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.shared.waiting.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn hint(&self, note: impl FnOnce(&mut Hinted)) {
        if let Some(hinted) = &mut self.waiting().hinted {
            note(hinted);
            self.shared.wake.notify_one();
        }
    }

    /// Notes that a namespace has new entries.
    pub fn dirty(&self, org: &OrgId, name: &NamespaceName) {
        self.hint(|hinted| {
            hinted.dirty.insert((org.clone(), name.clone()));
        });
    }

    /// Notes that a namespace with segments was opened.
    pub fn opened(&self, org: &OrgId, name: &NamespaceName) {
        self.hint(|hinted| {
            if hinted.opened.len() < OPENED_MAX {
                hinted.opened.insert((org.clone(), name.clone()));
            }
        });
    }

    /// Notes that there is no room for the tails that are open.
    pub fn press(&self) {
        self.hint(|hinted| hinted.is_pressed = true);
    }

    /// Notes that a namespace has gone over to a newer manifest.
    pub fn published(&self, org: &OrgId, name: &NamespaceName) {
        let mut waiting = self.waiting();
        if waiting.published.len() < PUBLISHED_MAX {
            waiting.published.insert((org.clone(), name.clone()));
        }
    }
}

/// What upkeep may have to do: the receiving end.
pub struct IndexHints {
    hints: Hints,
}

impl IndexHints {
    /// Waits until there is something to [`take`](Self::take). Cancel safe.
    pub async fn changed(&self) {
        self.hints.shared.wake.notified().await;
    }

    /// What has happened since the last call.
    pub fn take(&self) -> Hinted {
        self.hints
            .waiting()
            .hinted
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }
}

impl Engine {
    /// Where the engine runs.
    pub fn runtime(&self) -> &Runtime {
        &self.inner.runtime
    }

    /// The store that it works on.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// What it keeps of segments.
    pub fn cache(&self) -> &Cache {
        &self.inner.cache
    }

    /// How many namespaces are open.
    pub fn open_namespaces(&self) -> usize {
        self.inner.registry.len()
    }

    /// How many objects of segments the open namespaces that are pinned keep in the cache.
    pub fn pinned_objects(&self) -> usize {
        self.inner.pins.len()
    }

    /// Bytes of these objects that were not brought to the cache, because it refused them or the store did not give them.
    pub fn pinned_missing_bytes(&self) -> u64 {
        self.inner.pins.missing_bytes()
    }

    /// How long objects stay after nothing needs them.
    pub fn grace(&self) -> Duration {
        self.inner.options.grace
    }

    /// What this engine signs log entries with: random per process start.
    pub fn writer(&self) -> u128 {
        self.inner.writer
    }

    /// Says which namespaces become dirty or are opened, as they are. `None` but for the first who asks.
    pub fn index_hints(&self) -> Option<IndexHints> {
        let hints = self.inner.hints.clone();
        {
            let mut waiting = hints.waiting();
            if waiting.hinted.is_some() {
                return None;
            }
            waiting.hinted = Some(Hinted::default());
        }
        // Those that were dirty before anybody listened.
        for ((org, name), handle) in self.inner.registry.all() {
            if handle.state().dirty_since_ms().is_some() {
                hints.dirty(&org, &name);
            }
        }
        Some(IndexHints { hints })
    }

    /// The newest state that this node has of a namespace; `None` when it is not open here. Costs nothing.
    pub fn opened(&self, org: &OrgId, name: &NamespaceName) -> Option<Arc<Snapshot>> {
        let handle = self.inner.registry.get(&(org.clone(), name.clone()))?;
        Some(handle.snapshot())
    }

    /// What this node knows of a namespace's tail; [`IndexHints`] tells when there is more of it. Costs nothing.
    pub fn tail(&self, org: &OrgId, name: &NamespaceName) -> Tail {
        let Some(handle) = self.inner.registry.get(&(org.clone(), name.clone())) else {
            return Tail::Closed;
        };
        let state = handle.state();
        // Before it is looked at: what comes later is told of.
        state.hint_again();
        let Some(since_ms) = state.dirty_since_ms() else {
            return Tail::Clean;
        };
        let now_ms = wall_ms(self.inner.runtime.clock.as_ref());
        let snapshot = handle.snapshot();
        Tail::Dirty(Dirty {
            seq: snapshot.seq,
            indexed_seq: snapshot.indexed_seq,
            unindexed_bytes: snapshot.unindexed_bytes,
            age: Duration::from_millis(now_ms.saturating_sub(since_ms)),
            quiet: Duration::from_millis(now_ms.saturating_sub(snapshot.hlc_ms)),
        })
    }

    /// The namespaces that have gone over to newer manifests while they were open on this node, since the last call of
    /// this; whether or not they are still open. Costs nothing.
    pub fn take_published(&self) -> Vec<(OrgId, NamespaceName)> {
        let published = std::mem::take(&mut self.inner.hints.waiting().published);
        published.into_iter().collect()
    }

    /// The end of a namespace's log at some moment after the call, or an entry before it that comes after all that this
    /// node has memory for. Costs one GET, shared with strong reads; when the namespace is not open, what opening it
    /// costs.
    pub async fn end_of_log(&self, org: &OrgId, name: &NamespaceName) -> Result<Seq> {
        self.with_namespace(org, name, |handle| async move {
            match handle.probe().await {
                Err(Trouble::NoRoom(_)) => {
                    let state = handle.state();
                    let listed = state.listed.get().map_or(Seq::ZERO, |listed| listed.newest);
                    Ok::<_, Failure>(state.snapshot().seq.next().max(listed))
                }
                end => Ok(end?),
            }
        })
        .await
    }

    /// The newest state of a namespace on its newest manifest, whether or not it exists: what a flush begins with. Of a
    /// tail that this node has no memory for, the state at an older entry, up to which it can be flushed.
    ///
    /// Costs one GET, shared with strong reads, and one for the manifest after the one in use, the first time a LIST; when
    /// the namespace is not open, what opening it costs.
    pub async fn newest(&self, org: &OrgId, name: &NamespaceName) -> Result<Arc<Snapshot>> {
        self.with_namespace(org, name, |handle| async move {
            // First, so that of the log no more is read than is not in segments. What is not open begins with a manifest
            // anyway.
            let was_open = handle.is_proven();
            if was_open {
                handle.look_for_manifest().await?;
            }
            match handle.probe().await {
                Err(Trouble::NoRoom(bytes)) => {
                    // A piece of it is enough to go on.
                    self.evict_for(bytes.min(handle.state().piece_bytes()));
                    handle.look_for_manifest().await?;
                    handle.catch_up_partly().await?;
                }
                end => {
                    end?;
                    if !was_open {
                        handle.look_for_manifest().await?;
                    }
                }
            }
            Ok::<_, Failure>(handle.snapshot())
        })
        .await
    }

    /// Takes over a manifest that was published, if the namespace is open here and it is newer than the one in use.
    ///
    /// Costs what opening its new segments costs; of a pinned namespace also a GET for about every 8 MiB of them that the
    /// cache does not have, for which it waits a while.
    ///
    /// # Errors
    ///
    /// It is not taken over; what this node answers is right all the same.
    pub async fn adopt(&self, org: &OrgId, name: &NamespaceName, manifest: &Manifest) -> Result<()> {
        let Some(handle) = self.inner.registry.get(&(org.clone(), name.clone())) else {
            // Closed meanwhile; what was published makes garbage all the same.
            self.inner.hints.published(org, name);
            return Ok(());
        };
        match handle.adopt(manifest).await {
            // It is being opened or closed.
            Ok(_) | Err(Trouble::Stale) => Ok(()),
            Err(trouble) => Err(trouble.into()),
        }
    }
}
