//! Who makes something that many want, and who waits.

use std::sync::Arc;

use object_store::path::Path;
use tokio::sync::OnceCell;

use super::Inner;
use super::memory::Decoded;

pub(super) type Making = OnceCell<Decoded>;
/// An object, and the tag of something that is made of it.
pub(super) type Slot = (Arc<Path>, u64);

/// One who waits for something to be decoded, or decodes it.
pub(super) struct Turn<'a> {
    inner: &'a Inner,
    slot: Slot,
    pub(super) making: Arc<Making>,
}

impl<'a> Turn<'a> {
    pub(super) fn take(inner: &'a Inner, slot: Slot) -> Self {
        let mut table = inner.making.lock().unwrap_or_else(|e| e.into_inner());
        let making = table.entry(slot.clone()).or_default().clone();
        Self { inner, slot, making }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut table = self.inner.making.lock().unwrap_or_else(|e| e.into_inner());
        let ours = table.get(&self.slot).is_some_and(|m| Arc::ptr_eq(m, &self.making));
        // Two owners: the table and this turn.
        if ours && (self.making.initialized() || Arc::strong_count(&self.making) <= 2) {
            table.remove(&self.slot);
        }
    }
}
