//! Which namespaces this node has open.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::handle::Handle;
use crate::model::{NamespaceName, OrgId};

/// Organization and name: what a namespace is called inside the node.
pub(super) type Name = (OrgId, NamespaceName);

/// The open namespaces of a node.
#[derive(Default)]
pub(super) struct Registry {
    /// Protects the map only; held to look a handle up, insert or remove one.
    handles: Mutex<BTreeMap<Name, Arc<Handle>>>,
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

    /// Closes the least recently used namespaces that nobody uses right now, until `enough` says
    /// so or none is left.
    ///
    /// * `enough` — gets the number of open namespaces
    pub fn evict_until(&self, enough: impl Fn(usize) -> bool) {
        let mut handles = self.handles();
        if enough(handles.len()) {
            return;
        }
        let mut idle: Vec<(u64, Name)> = handles
            .iter()
            .filter(|(_, handle)| Arc::strong_count(handle) == 1)
            .map(|(name, handle)| (handle.last_used_ms(), name.clone()))
            .collect();
        idle.sort();
        for (_, name) in idle {
            if enough(handles.len()) {
                return;
            }
            if let Some(handle) = handles.remove(&name) {
                // At once, or the next look at the ledger would close more than it must.
                handle.release_memory();
            }
        }
    }

    /// Closes all; their tasks end when they have done what was accepted.
    pub fn clear(&self) {
        self.handles().clear();
    }
}
