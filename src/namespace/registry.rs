//! Which namespaces this node has open.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::handle::Handle;
use crate::model::{NamespaceName, OrgId};

/// Organization and name: what a namespace is called inside the node.
pub(super) type Name = (OrgId, NamespaceName);

/// How long nothing is closed after there was not enough to close.
const PAUSE_MS: u64 = 50;

/// The open namespaces of a node.
#[derive(Default)]
pub(super) struct Registry {
    /// Protects the map only; held to look a handle up, insert or remove one.
    handles: Mutex<BTreeMap<Name, Arc<Handle>>>,
    /// When it makes sense again to look for something to close.
    not_before_ms: AtomicU64,
}

impl Registry {
    fn handles(&self) -> MutexGuard<'_, BTreeMap<Name, Arc<Handle>>> {
        self.handles.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// How many namespaces are open.
    pub fn len(&self) -> usize {
        self.handles().len()
    }

    /// All of them, by name.
    pub fn all(&self) -> Vec<(Name, Arc<Handle>)> {
        let handles = self.handles();
        handles
            .iter()
            .map(|(name, handle)| (name.clone(), handle.clone()))
            .collect()
    }

    /// The namespace, if it is open.
    pub fn get(&self, name: &Name) -> Option<Arc<Handle>> {
        self.handles().get(name).cloned()
    }

    /// The namespace, opened by `start` if it is not.
    pub fn get_or_start(&self, name: &Name, start: impl FnOnce() -> Handle) -> Arc<Handle> {
        let mut handles = self.handles();
        handles.entry(name.clone()).or_insert_with(|| Arc::new(start())).clone()
    }

    /// Forgets `handle`, so that the next use opens the namespace again.
    pub fn forget(&self, name: &Name, handle: &Arc<Handle>) {
        let mut handles = self.handles();
        if handles.get(name).is_some_and(|open| Arc::ptr_eq(open, handle)) {
            handles.remove(name);
        }
    }

    /// What closing all namespaces that nobody uses right now would give back.
    pub fn idle_bytes(&self) -> u64 {
        let handles = self.handles();
        let idle = handles.values().filter(|handle| Arc::strong_count(handle) == 1);
        idle.map(|handle| handle.state().charged_bytes()).sum()
    }

    /// Closes the least recently used namespaces that nobody uses right now, until `enough` says so or none is left.
    /// True when dirty ones were closed, or none was left: they should be flushed. Nothing is lost with one that is
    /// closed, but it has to be opened again for that.
    ///
    /// When there was not enough to close, it is not tried again for [`PAUSE_MS`]: it looks at all that are open.
    ///
    /// * `now_ms` — on the clock that never goes back
    /// * `clean_first` — those whose entries are all in segments go before all others
    /// * `enough` — gets the number of open namespaces
    pub fn evict_until(&self, now_ms: u64, clean_first: bool, enough: impl Fn(usize) -> bool) -> bool {
        let mut handles = self.handles();
        if enough(handles.len()) || now_ms < self.not_before_ms.load(Ordering::Relaxed) {
            return false;
        }
        let idle = handles.iter().filter(|(_, handle)| Arc::strong_count(handle) == 1);
        let mut idle: Vec<(bool, u64, bool, Name)> = idle
            .map(|(name, handle)| {
                let is_dirty = handle.state().dirty_since_ms().is_some();
                (clean_first && is_dirty, handle.last_used_ms(), is_dirty, name.clone())
            })
            .collect();
        idle.sort();
        let mut closed_dirty = false;
        for (_, _, is_dirty, name) in idle {
            if let Some(handle) = handles.remove(&name) {
                // At once, or the next look at the ledger would close more than it must.
                handle.release_memory();
            }
            closed_dirty |= is_dirty;
            if enough(handles.len()) {
                return closed_dirty;
            }
        }
        self.not_before_ms.store(now_ms + PAUSE_MS, Ordering::Relaxed);
        true
    }

    /// Closes all; their tasks end when they have done what was accepted.
    pub fn clear(&self) {
        self.handles().clear();
    }
}
