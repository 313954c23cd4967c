//! Ids to rows, and ids in order.

use std::ops::{Bound, Range};

use bytes::Bytes;

use super::SegmentError;
use super::keys::{KeyBlock, KeyScan, Lookup};
use super::reader::Segment;
use super::wire::FormatError;
use crate::cache::ReadKind;
use crate::model::Id;

/// More ids than that are looked up on the CPU pool.
const FEW_IDS: usize = 10_000;
/// What a scan reads at a time, unless one block is larger.
const SCAN_BYTES: u64 = 256 * 1024;

impl Segment {
    /// The row of each id, dead or alive; `None` when it is not in this segment.
    ///
    /// Costs nothing where the filter knows that no id is there, as it does for most that are not; else one GET for each
    /// block of about 4 KiB that has to be looked at, all at once.
    pub async fn find(&self, ids: &[Id]) -> Result<Vec<Option<u32>>, SegmentError> {
        let lookup = self.look_up(ids).await;
        if lookup.ranges().is_empty() {
            return Ok(vec![None; ids.len()]);
        }
        let place = |range: &Range<u64>| self.layout.keys.place(range.clone());
        let ranges: Vec<Range<u64>> = lookup.ranges().iter().map(place).collect();
        let layout = self.layout.clone();
        let decode = move |bytes: &[Bytes]| Ok(lookup.rows(&layout.keys.index, bytes)?);
        self.source.read(ranges, ReadKind::Index, decode).await
    }

    async fn look_up(&self, ids: &[Id]) -> Lookup {
        if ids.len() <= FEW_IDS {
            return self.layout.keys.index.lookup(&self.layout.bloom, ids);
        }
        let (layout, ids) = (self.layout.clone(), ids.to_vec());
        let look_up = move || layout.keys.index.lookup(&layout.bloom, &ids);
        self.source.compute(ReadKind::Index, look_up).await
    }

    /// The smallest and the largest id, of dead rows too; `None` when there are no rows.
    pub fn id_bounds(&self) -> Option<(&Id, &Id)> {
        self.layout.keys.index.bounds()
    }

    /// A walk over ids in order, dead or alive.
    ///
    /// * `bounds` — of the kind of the segment's ids
    /// * `kind` — [`ReadKind::Scan`] for who reads everything once, else [`ReadKind::Index`]
    pub fn scan_ids(&self, bounds: (Bound<Id>, Bound<Id>), descending: bool, kind: ReadKind) -> IdScan<'_> {
        IdScan {
            segment: self,
            scan: self.layout.keys.index.scan(bounds, descending),
            kind,
        }
    }
}

/// A walk over the ids of a segment in order.
pub struct IdScan<'a> {
    segment: &'a Segment,
    scan: KeyScan,
    kind: ReadKind,
}

impl IdScan<'_> {
    /// The next ids with their rows, in the order of the scan; `None` after the last. Costs one GET.
    ///
    /// Cancel safe: nothing is passed over.
    pub async fn next(&mut self) -> Result<Option<KeyBlock>, SegmentError> {
        let layout = &self.segment.layout;
        let Some(range) = self.scan.wanted(&layout.keys.index, SCAN_BYTES) else {
            return Ok(None);
        };
        let (from, index) = (self.scan.clone(), layout.clone());
        let decode = move |bytes: &[Bytes]| {
            let mut scan = from.clone();
            let block = scan.take(&index.keys.index, SCAN_BYTES, &bytes[0])?;
            Ok::<_, FormatError>((scan, block))
        };
        let range = layout.keys.place(range);
        let (scan, block) = self.segment.source.read(vec![range], self.kind, decode).await?;
        self.scan = scan;
        Ok(Some(block))
    }
}
