//! Keeping the objects of pinned namespaces in the cache.
//!
//! # What stays true
//!
//! - While a namespace is open on this node and pinned in the newest state that it knows, the objects of its segments
//!   are pinned in the cache; what no open namespace pins is not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use object_store::path::Path;

use crate::cache::{Cache, ObjectRef};
use crate::snapshot::Snapshot;

/// The objects of segments that are not inline.
pub(super) fn objects(snapshot: &Snapshot) -> impl Iterator<Item = &ObjectRef> {
    let segments = snapshot.segments.iter().map(|part| &part.segment);
    segments
        .filter(|segment| segment.meta().inline.is_none())
        .map(|segment| segment.object())
}

/// Which objects are pinned, and by how many open namespaces: branches share segments, and a namespace that is opened
/// again pins its own before the one that was closed lets go.
#[derive(Clone, Default)]
pub(super) struct PinTable {
    /// Protects the counts, and that the cache says the same; held to change both.
    counts: Arc<Mutex<BTreeMap<Arc<Path>, usize>>>,
}

impl PinTable {
    /// How many objects are pinned.
    pub fn len(&self) -> usize {
        lock(&self.counts).len()
    }

    fn pin(&self, cache: &Cache, object: &ObjectRef) {
        let mut counts = lock(&self.counts);
        let count = counts.entry(object.key.clone()).or_insert(0);
        *count += 1;
        if *count == 1 {
            cache.pin(object);
        }
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
    /// Protects what is pinned; held to follow a state.
    held: Mutex<BTreeMap<Arc<Path>, ObjectRef>>,
}

impl Pins {
    /// Pins nothing yet.
    pub fn new(cache: Cache, table: PinTable) -> Self {
        Self {
            cache,
            table,
            held: Mutex::default(),
        }
    }

    /// Pins what a state says, and lets go of the rest.
    pub fn follow(&self, snapshot: &Snapshot) {
        let pinned = snapshot.settings.pinned_replicas.is_some();
        let wanted = objects(snapshot).filter(|_| pinned);
        self.replace(wanted.map(|object| (object.key.clone(), object.clone())).collect());
    }

    fn replace(&self, wanted: BTreeMap<Arc<Path>, ObjectRef>) {
        let mut held = lock(&self.held);
        let new = wanted.iter().filter(|(key, _)| !held.contains_key(*key));
        new.for_each(|(_, object)| self.table.pin(&self.cache, object));
        let old = held.iter().filter(|(key, _)| !wanted.contains_key(*key));
        old.for_each(|(_, object)| self.table.unpin(&self.cache, object));
        *held = wanted;
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        self.replace(BTreeMap::new());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}
