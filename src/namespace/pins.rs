//! Keeping the objects of pinned namespaces in the cache.
//!
//! # What stays true
//!
//! - While a namespace is open on this node and pinned in the newest state that it knows, the objects of its segments
//!   are pinned in the cache; what no open namespace pins is not.
//! - What gets pinned is brought there in the background, as far as pins fit: when the namespace is opened or pinned, and
//!   what a newer manifest adds, which is brought before the node goes over to it. What the cache refused or the store did
//!   not give is tried again, less and less often, and is known meanwhile.
//! - What was pinned when the node ended is opened when it starts.
//!
//! # Cost
//!
//! One GET for about every 8 MiB that is not on the disk of the node, a few at a time. To try again costs nothing as long as
//! the disk would refuse it once more.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use object_store::path::Path;
use tokio::sync::{Notify, Semaphore, oneshot};

use super::Engine;
use super::remembered::{Named, Remembered};
use crate::base::{Priority, Runtime, context};
use crate::cache::{Cache, Missing, ObjectRef};
use crate::snapshot::Snapshot;
use crate::telemetry::CACHE_PINNED_MISSING_BYTES;

/// The objects of segments that are not inline.
pub(super) fn objects(snapshot: &Snapshot) -> impl Iterator<Item = &ObjectRef> {
    let segments = snapshot.segments.iter().map(|part| &part.segment);
    segments
        .filter(|segment| segment.meta().inline.is_none())
        .map(|segment| segment.object())
}

/// Objects that are brought at a time, each with one GET in flight.
const AT_ONCE: usize = 2;
/// How long to wait before what was not brought is tried again; doubled each time up to the second.
const AGAIN_AFTER: Duration = Duration::from_secs(15);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(600);
/// How long a newer manifest waits at most for what it pins. More: large merges leave nothing cold; less: shorter tails
/// on this node meanwhile.
const AHEAD_MAX: Duration = Duration::from_secs(10);

/// Which objects are pinned, and by how many open namespaces: branches share segments, and a namespace that is opened
/// again pins its own before the one that was closed lets go.
#[derive(Clone)]
pub(super) struct PinTable {
    pub remembered: Arc<Remembered>,
    /// Protects the counts, and that the cache says the same; held to change both.
    counts: Arc<Mutex<BTreeMap<Arc<Path>, usize>>>,
    /// Protects what is missing; held to note or to look it up. Taken before the counts, never while they are held.
    missing: Arc<Mutex<Unbrought>>,
    /// Something is no longer pinned.
    unpinned: Arc<Notify>,
    /// Turns of those that bring objects.
    turns: Arc<Semaphore>,
}

/// Pinned objects that were not brought, or not all of them.
#[derive(Default)]
struct Unbrought {
    objects: BTreeMap<Arc<Path>, (ObjectRef, Missing)>,
    /// Whether somebody will try again.
    is_tried: bool,
}

impl Unbrought {
    fn bytes(&self) -> u64 {
        self.objects.values().map(|(_, missing)| missing.bytes).sum()
    }

    /// What may come.
    fn awaited(&self) -> Vec<ObjectRef> {
        let awaited = self.objects.values().filter(|(_, missing)| missing.may_come);
        awaited.map(|(object, _)| object.clone()).collect()
    }
}

impl PinTable {
    /// Nothing is pinned yet.
    ///
    /// * `directory` — of the cache, where it is written down what is
    pub fn new(directory: Option<&std::path::Path>) -> Self {
        Self {
            remembered: Arc::new(Remembered::load(directory)),
            counts: Arc::default(),
            missing: Arc::default(),
            unpinned: Arc::default(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// How many objects are pinned.
    pub fn len(&self) -> usize {
        lock(&self.counts).len()
    }

    /// Bytes of pinned objects that are not where their pins keep them, as far as somebody tried to bring them.
    pub fn missing_bytes(&self) -> u64 {
        lock(&self.missing).bytes()
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

    /// Brings what of these objects is pinned still when it is their turn; what is refused, again later.
    async fn bring(self, cache: Cache, runtime: Runtime, objects: Vec<ObjectRef>) {
        self.bring_once(&cache, objects).await;
        let is_first = {
            let mut missing = lock(&self.missing);
            let awaits = missing.objects.values().any(|(_, missing)| missing.may_come);
            let is_first = awaits && !missing.is_tried;
            missing.is_tried |= awaits;
            is_first
        };
        if is_first {
            let spawner = runtime.spawner.clone();
            spawner.spawn(
                "pin",
                Box::pin(context::in_background(self.bring_again(cache, runtime))),
            );
        }
    }

    /// None of them keeps the others from being brought.
    async fn bring_once(&self, cache: &Cache, objects: Vec<ObjectRef>) {
        for object in objects {
            let Ok(_turn) = self.turns.acquire().await else { return };
            let missing = match cache.bring(&object, || self.has(&object)).await {
                Ok(missing) => missing,
                Err(error) => {
                    tracing::debug!(key = %object.key, %error, "a pinned object was not brought");
                    cache.missing(&object, true)
                }
            };
            self.note(object, missing);
        }
    }

    /// Tries until nothing is left that is pinned still and may come.
    async fn bring_again(self, cache: Cache, runtime: Runtime) {
        let mut wait = AGAIN_AFTER;
        loop {
            let mut due = Box::pin(tokio::time::sleep(runtime.rng.jitter(wait)));
            loop {
                tokio::select! {
                    () = &mut due => break,
                    // Not kept for nothing: the node may be ending.
                    () = self.unpinned.notified() => if self.awaited().is_empty() { break },
                }
            }
            let awaited = {
                let mut missing = lock(&self.missing);
                let awaited = missing.awaited();
                missing.is_tried = !awaited.is_empty();
                awaited
            };
            if awaited.is_empty() {
                return;
            }
            self.bring_once(&cache, awaited).await;
            wait = (2 * wait).min(AGAIN_AFTER_MAX);
        }
    }

    fn awaited(&self) -> Vec<ObjectRef> {
        lock(&self.missing).awaited()
    }

    fn note(&self, object: ObjectRef, missing: Missing) {
        let mut noted = lock(&self.missing);
        // Whoever unpins it forgets it afterwards.
        match missing.bytes > 0 && self.has(&object) {
            true => noted.objects.insert(object.key.clone(), (object, missing)),
            false => noted.objects.remove(&object.key),
        };
        metrics::gauge!(CACHE_PINNED_MISSING_BYTES).set(noted.bytes() as f64);
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
        // First, as in `note`: who pins it again meanwhile is not to be forgotten.
        let mut noted = lock(&self.missing);
        let mut counts = lock(&self.counts);
        let Some(count) = counts.get_mut(&object.key) else {
            return;
        };
        *count -= 1;
        if *count > 0 {
            return;
        }
        counts.remove(&object.key);
        cache.unpin(object);
        noted.objects.remove(&object.key);
        metrics::gauge!(CACHE_PINNED_MISSING_BYTES).set(noted.bytes() as f64);
        drop((noted, counts));
        self.unpinned.notify_one();
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
            let bring = self.bring(new);
            self.runtime.spawner.spawn("pin", Box::pin(bring));
        }
    }

    fn bring(&self, objects: Vec<ObjectRef>) -> impl Future<Output = ()> + Send + use<> {
        let (table, cache, runtime) = (self.table.clone(), self.cache.clone(), self.runtime.clone());
        context::in_background(table.bring(cache, runtime, objects))
    }

    /// Begins to bring what a newer state pins and this one does not, so that nothing is cold when the node goes over to
    /// it. `None` where that is nothing.
    pub fn ahead(&self, next: &Snapshot) -> Option<Ahead> {
        let is_pinned = self.pinned.load(Ordering::Acquire) && next.settings.pinned_replicas.is_some();
        let held = lock(&self.held);
        let new = objects(next).filter(|object| is_pinned && !held.contains_key(&object.key));
        let new: Vec<ObjectRef> = new.cloned().collect();
        drop(held);
        if new.is_empty() {
            return None;
        }
        for object in &new {
            self.table.pin(&self.cache, object);
        }
        let (done, is_done) = oneshot::channel();
        let bring = self.bring(new.clone());
        let task = async move {
            bring.await;
            let _ = done.send(());
        };
        self.runtime.spawner.spawn("pin", Box::pin(task));
        Some(Ahead {
            table: self.table.clone(),
            cache: self.cache.clone(),
            objects: new,
            is_done,
        })
    }
}

/// What a newer state pins, pinned until it is dropped: then the state itself does, if the node went over to it.
pub(super) struct Ahead {
    table: PinTable,
    cache: Cache,
    objects: Vec<ObjectRef>,
    is_done: oneshot::Receiver<()>,
}

impl Ahead {
    /// Waits until it is there, or refused, or a while has passed; then it goes on without anybody who waits.
    pub async fn brought(&mut self) {
        let _ = tokio::time::timeout(AHEAD_MAX, &mut self.is_done).await;
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.objects
            .iter()
            .for_each(|object| self.table.unpin(&self.cache, object));
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

#[cfg(test)]
mod tests;
