//! Keeping the objects of pinned namespaces in the cache.
//!
//! # What stays true
//!
//! - While a namespace is open on this node and pinned in the newest state that it knows, the objects of its segments
//!   are pinned in the cache; what no open namespace pins is not.
//! - What gets pinned is brought there in the background, as far as pins fit: when the namespace is opened or pinned, and
//!   what a newer manifest adds. What was pinned when the node ended is opened when it starts.
//!
//! # Cost
//!
//! One GET for about every 8 MiB that is not on the disk of the node, a few at a time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use object_store::path::Path;
use tokio::sync::Semaphore;

use super::Engine;
use super::remembered::{Named, Remembered};
use crate::base::{Priority, Runtime};
use crate::cache::{Cache, ObjectRef};
use crate::snapshot::Snapshot;

/// The objects of segments that are not inline.
pub(super) fn objects(snapshot: &Snapshot) -> impl Iterator<Item = &ObjectRef> {
    let segments = snapshot.segments.iter().map(|part| &part.segment);
    segments
        .filter(|segment| segment.meta().inline.is_none())
        .map(|segment| segment.object())
}

/// Objects that are brought at a time, each with one GET in flight.
const AT_ONCE: usize = 2;

/// Which objects are pinned, and by how many open namespaces: branches share segments, and a namespace that is opened
/// again pins its own before the one that was closed lets go.
#[derive(Clone)]
pub(super) struct PinTable {
    pub remembered: Arc<Remembered>,
    /// Protects the counts, and that the cache says the same; held to change both.
    counts: Arc<Mutex<BTreeMap<Arc<Path>, usize>>>,
    /// Turns of those that bring objects.
    turns: Arc<Semaphore>,
}

impl PinTable {
    /// Nothing is pinned yet.
    ///
    /// * `directory` — of the cache, where it is written down what is
    pub fn new(directory: Option<&std::path::Path>) -> Self {
        Self {
            remembered: Arc::new(Remembered::load(directory)),
            counts: Arc::default(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// How many objects are pinned.
    pub fn len(&self) -> usize {
        lock(&self.counts).len()
    }

    fn has(&self, object: &ObjectRef) -> bool {
        lock(&self.counts).contains_key(&object.key)
    }

    /// Writes down whether a namespace is pinned, in the background.
    pub fn remember(&self, name: &Named, pinned: bool, runtime: &Runtime) {
        if !self.remembered.note(name, pinned) {
            return;
        }
        let (remembered, cpu) = (self.remembered.clone(), runtime.cpu.clone());
        let write = async move { cpu.run(Priority::Background, move || remembered.write()).await };
        runtime.spawner.spawn("pin", Box::pin(write));
    }

    /// Brings what of these objects is pinned still when it is their turn.
    async fn bring(self, cache: Cache, objects: Vec<ObjectRef>) {
        for object in objects {
            let Ok(_turn) = self.turns.acquire().await else { return };
            if let Err(error) = cache.bring(&object, || self.has(&object)).await {
                tracing::debug!(key = %object.key, %error, "a pinned object was not brought");
            }
        }
    }

    /// Whether it was not pinned before.
    fn pin(&self, cache: &Cache, object: &ObjectRef) -> bool {
        let mut counts = lock(&self.counts);
        let count = counts.entry(object.key.clone()).or_insert(0);
        *count += 1;
        if *count == 1 {
            cache.pin(object);
        }
        *count == 1
    }

    fn unpin(&self, cache: &Cache, object: &ObjectRef) {
        let mut counts = lock(&self.counts);
        let Some(count) = counts.get_mut(&object.key) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            counts.remove(&object.key);
            cache.unpin(object);
        }
    }
}

/// What one open namespace pins, until it is dropped.
pub(super) struct Pins {
    cache: Cache,
    table: PinTable,
    runtime: Runtime,
    name: Named,
    /// Whether the newest state says so.
    pinned: AtomicBool,
    /// Protects what is pinned; held to follow a state.
    held: Mutex<BTreeMap<Arc<Path>, ObjectRef>>,
}

impl Pins {
    /// Pins nothing yet.
    pub fn new(name: Named, cache: Cache, table: PinTable, runtime: Runtime) -> Self {
        Self {
            name,
            cache,
            table,
            runtime,
            pinned: AtomicBool::new(false),
            held: Mutex::default(),
        }
    }

    /// Pins what a state says, and lets go of the rest.
    pub fn follow(&self, snapshot: &Snapshot) {
        let pinned = snapshot.settings.pinned_replicas.is_some();
        // Closing it does not forget it.
        if self.pinned.swap(pinned, Ordering::AcqRel) != pinned {
            self.table.remember(&self.name, pinned, &self.runtime);
        }
        let wanted = objects(snapshot).filter(|_| pinned);
        self.replace(wanted.map(|object| (object.key.clone(), object.clone())).collect());
    }

    fn replace(&self, wanted: BTreeMap<Arc<Path>, ObjectRef>) {
        let mut held = lock(&self.held);
        let new = wanted.iter().filter(|(key, _)| !held.contains_key(*key));
        let new = new.filter(|(_, object)| self.table.pin(&self.cache, object));
        let new: Vec<ObjectRef> = new.map(|(_, object)| object.clone()).collect();
        let old = held.iter().filter(|(key, _)| !wanted.contains_key(*key));
        old.for_each(|(_, object)| self.table.unpin(&self.cache, object));
        *held = wanted;
        drop(held);
        if !new.is_empty() {
            let bring = self.table.clone().bring(self.cache.clone(), new);
            self.runtime.spawner.spawn("pin", Box::pin(bring));
        }
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        self.replace(BTreeMap::new());
    }
}

impl Engine {
    /// Opens what was pinned when the node ended, one by one in the background, so that it is brought to the cache.
    pub(super) fn open_pinned(&self) {
        let names = self.inner.pins.remembered.names();
        if names.is_empty() {
            return;
        }
        // Not the engine itself: the node may end meanwhile.
        let open = Arc::downgrade(&self.inner);
        let task = async move {
            for named in names {
                let Some(inner) = open.upgrade() else { return };
                let engine = Engine { inner, guard: None };
                let opened = engine.with_namespace(&named.0, &named.1, |handle| async move {
                    handle.probe().await?;
                    Ok(handle.snapshot().settings.pinned_replicas.is_some())
                });
                match opened.await {
                    Ok(true) => {}
                    Ok(false) => engine.inner.pins.remember(&named, false, &engine.inner.runtime),
                    Err(error) => {
                        tracing::debug!(org = %named.0, namespace = %named.1, %error, "a pinned namespace was not opened");
                    }
                }
            }
        };
        self.inner.runtime.spawner.spawn("pin", Box::pin(task));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}
