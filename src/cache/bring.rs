//! Bringing whole objects to where pins keep them.

use super::flight::GET_BYTES_MAX;
use super::{Cache, ObjectRef, ReadKind, pieces};
use crate::store::StoreError;

/// What of an object that was to be [brought](Cache::bring) is not where a pin keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// So many bytes.
    pub bytes: u64,
    /// Whether some of it may come when it is brought again: other pins may go, the disk may have room again.
    pub may_come: bool,
}

impl Cache {
    /// Brings an object to where a pin keeps it: to disk, as far as pins fit there. Without a disk, into memory, if it is
    /// little for that. Returns what is missing in the end, because the disk refused it or nobody wants it any more.
    ///
    /// Costs one GET for about every 8 MiB that is missing, one after the other; none for what would be refused.
    ///
    /// * `goes_on` — asked before each GET
    pub async fn bring(
        &self,
        object: &ObjectRef,
        goes_on: impl Fn() -> bool + Send + Sync,
    ) -> Result<Missing, StoreError> {
        let inner = &self.inner;
        let Some(disk) = &inner.disk else {
            if self.would_keep(object.len) {
                self.load(object, ReadKind::Rows).await?;
                return Ok(Missing::default());
            }
            return Ok(self.missing(object, false));
        };
        // What an earlier run left there may be all of it.
        disk.settle().await;
        let mut may_come = false;
        for part in pieces::split(std::iter::once(0..object.len), GET_BYTES_MAX) {
            let missing = disk.missing(object, &part);
            let Some(first) = missing.first() else { continue };
            let range = first.start..missing.last().map_or(first.end, |last| last.end);
            if !goes_on() {
                break;
            }
            // A smaller part may fit; the last one has what every query reads.
            if !disk.takes_pinned(range.end - range.start) {
                may_come = true;
                continue;
            }
            let get = inner
                .hedge
                .get(&inner.store, inner.clock.as_ref(), &object.key, range.clone());
            disk.offer(object, range.start, &get.await?, ReadKind::Rows);
            disk.settle().await;
            if !disk.missing(object, &range).is_empty() {
                may_come = true;
                break;
            }
        }
        Ok(self.missing(object, may_come))
    }

    /// What of an object is not where a pin keeps it. No I/O.
    ///
    /// * `may_come` — whether that was only for now
    pub fn missing(&self, object: &ObjectRef, may_come: bool) -> Missing {
        let (held, is_in_use) = match &self.inner.disk {
            Some(disk) => (disk.bytes_of(object), !disk.is_disabled()),
            None => (self.inner.memory.bytes_of(object), true),
        };
        Missing {
            bytes: object.len.saturating_sub(held),
            may_come: may_come && is_in_use,
        }
    }
}
