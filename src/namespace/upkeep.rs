//! What the upkeep of indexes asks of the engine, and tells it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;

use super::Engine;
use super::commit::Failure;
use super::state::Trouble;
use crate::base::Runtime;
use crate::base::clock::wall_ms;
use crate::cache::Cache;
use crate::error::Result;
use crate::manifest::Manifest;
use crate::model::{Gen, NamespaceName, OrgId, Seq};
use crate::snapshot::Snapshot;
use crate::store::Store;

/// Hints that wait for somebody to take them; what is more is found by [`Engine::dirty`].
const HINTS_MAX: usize = 1024;

/// A namespace got rows that are not in segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexHint {
    pub org: OrgId,
    pub name: NamespaceName,
}

/// A namespace that is open on this node and has entries that are not in segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirty {
    pub org: OrgId,
    pub name: NamespaceName,
    /// The newest entry that this node has applied, and the newest in segments.
    pub seq: Seq,
    pub indexed_seq: Seq,
    pub unindexed_bytes: u64,
    /// Since the first of these entries was written.
    pub age: Duration,
}

impl Dirty {
    /// How many entries are not in segments.
    pub fn entries(&self) -> u64 {
        self.seq.0.saturating_sub(self.indexed_seq.0)
    }
}

/// A bounded channel of hints whose ends are handed out: many senders, one receiver.
#[derive(Clone)]
pub(super) struct Hints {
    sender: mpsc::Sender<IndexHint>,
    /// Protects the receiver until somebody takes it; held to take it.
    receiver: Arc<Mutex<Option<mpsc::Receiver<IndexHint>>>>,
}

impl Default for Hints {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(HINTS_MAX);
        Self {
            sender,
            receiver: Arc::new(Mutex::new(Some(receiver))),
        }
    }
}

impl Hints {
    /// Tells whoever listens, unless that one is far behind.
    pub fn send(&self, hint: IndexHint) {
        // Full, or nobody indexes on this node: others find the namespace by its marker.
        let _ = self.sender.try_send(hint);
    }

    fn take(&self) -> Option<mpsc::Receiver<IndexHint>> {
        self.receiver.lock().unwrap_or_else(|e| e.into_inner()).take()
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

    /// How many objects of segments the open namespaces that are pinned keep in the cache.
    pub fn pinned_objects(&self) -> usize {
        self.inner.pins.len()
    }

    /// How long objects stay after nothing needs them.
    pub fn grace(&self) -> Duration {
        self.inner.options.grace
    }

    /// What this engine signs log entries with: random per process start.
    pub fn writer(&self) -> u128 {
        self.inner.writer
    }

    /// Says which namespaces become dirty, as they do. `None` but for the first who asks.
    pub fn index_hints(&self) -> Option<mpsc::Receiver<IndexHint>> {
        self.inner.hints.take()
    }

    /// The dirty namespaces among those that are open, by organization and name. Costs nothing.
    pub fn dirty(&self) -> Vec<Dirty> {
        let now_ms = wall_ms(self.inner.runtime.clock.as_ref());
        let dirty = |((org, name), handle): (super::Name, Arc<super::Handle>)| {
            let since_ms = handle.state().dirty_since_ms()?;
            let snapshot = handle.snapshot();
            Some(Dirty {
                org,
                name,
                seq: snapshot.seq,
                indexed_seq: snapshot.indexed_seq,
                unindexed_bytes: snapshot.unindexed_bytes,
                age: Duration::from_millis(now_ms.saturating_sub(since_ms)),
            })
        };
        self.inner.registry.all().into_iter().filter_map(dirty).collect()
    }

    /// The newest manifests that this node has gone over to since it opened the namespaces that are open, by
    /// organization and name. Costs nothing.
    pub fn published(&self) -> Vec<(OrgId, NamespaceName, Gen)> {
        let one = |((org, name), handle): (super::Name, Arc<super::Handle>)| {
            let generation = handle.state().published();
            (generation > Gen::ZERO).then_some((org, name, generation))
        };
        self.inner.registry.all().into_iter().filter_map(one).collect()
    }

    /// The end of a namespace's log at some moment after the call. Costs one GET, shared with strong reads; when the
    /// namespace is not open, what opening it costs.
    pub async fn end_of_log(&self, org: &OrgId, name: &NamespaceName) -> Result<Seq> {
        self.with_namespace(
            org,
            name,
            |handle| async move { Ok::<_, Failure>(handle.probe().await?) },
        )
        .await
    }

    /// The newest state of a namespace on its newest manifest, whether or not it exists: what a flush begins with.
    ///
    /// Costs one GET, shared with strong reads, and one for the manifest after the one in use, the first time a LIST; when
    /// the namespace is not open, what opening it costs.
    pub async fn newest(&self, org: &OrgId, name: &NamespaceName) -> Result<Arc<Snapshot>> {
        self.with_namespace(org, name, |handle| async move {
            handle.probe().await?;
            handle.look_for_manifest().await?;
            Ok::<_, Failure>(handle.snapshot())
        })
        .await
    }

    /// Takes over a manifest that was published, if the namespace is open here and it is newer than the one in use.
    ///
    /// Costs what opening its new segments costs.
    ///
    /// # Errors
    ///
    /// It is not taken over; what this node answers is right all the same.
    pub async fn adopt(&self, org: &OrgId, name: &NamespaceName, manifest: &Manifest) -> Result<()> {
        let Some(handle) = self.inner.registry.get(&(org.clone(), name.clone())) else {
            return Ok(());
        };
        match handle.adopt(manifest).await {
            // It is being closed.
            Ok(()) | Err(Trouble::Stale) => Ok(()),
            Err(trouble) => Err(trouble.into()),
        }
    }
}
