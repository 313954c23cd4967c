//! Ids to rows, and ids in order.

use std::ops::{Bound, Range};
use std::sync::Arc;

use bytes::Bytes;

use super::SegmentError;
use super::keys::{Hit, KeyBlock, KeyScan, Lookup};
use super::reader::Segment;
use super::source::SMALL_BYTES;
use super::wire::FormatError;
use crate::cache::ReadKind;
use crate::model::Id;

/// More ids than that, in all segments together, are looked up on the CPU pool.
const FEW_IDS: usize = 10_000;
/// What a scan reads at a time, unless one block is larger.
const SCAN_BYTES: u64 = 256 * 1024;

impl Segment {
    /// The row of each id, dead or alive; `None` when it is not in this segment. Costs what [`hits`](Self::hits) costs.
    pub async fn find(&self, ids: &[Id]) -> Result<Vec<Option<u32>>, SegmentError> {
        let mut rows = vec![None; ids.len()];
        for hit in self.hits(&ids.into(), 1).await? {
            rows[hit.id as usize] = Some(hit.row);
        }
        Ok(rows)
    }

    /// Those of the ids that are in this segment, with their rows, dead or alive. Takes memory for these, not for all
    /// that were asked for.
    ///
    /// Costs nothing where the filter knows that no id is there, as it does for most that are not; else one GET for each
    /// block of about 4 KiB that has to be looked at, all at once.
    ///
    /// * `ids` — at most `u32::MAX`
    /// * `segments` — in how many segments these ids are looked up one after the other
    pub async fn hits(&self, ids: &Arc<[Id]>, segments: usize) -> Result<Vec<Hit>, SegmentError> {
        let lookup = self.look_up(ids, segments).await;
        if lookup.ranges().is_empty() {
            return Ok(Vec::new());
        }
        let place = |range: &Range<u64>| self.layout.keys.place(range.clone());
        let ranges: Vec<Range<u64>> = lookup.ranges().iter().map(place).collect();
        let blocks = ranges.len();
        let bytes: u64 = ranges.iter().map(|r| r.end - r.start).sum();
        let shares = (bytes as usize / SMALL_BYTES).clamp(1, self.source.cpu().parallelism().min(blocks));
        let share_blocks = blocks.div_ceil(shares);
        let decode = {
            let layout = self.layout.clone();
            move |share: usize, bytes: &[Bytes]| {
                let start = blocks.min(share * share_blocks);
                let end = blocks.min(start + share_blocks);
                lookup.hits(&layout.keys.index, bytes, start..end)
            }
        };
        let found = self.source.read_shares(ranges, ReadKind::Index, shares, decode).await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn look_up(&self, ids: &Arc<[Id]>, segments: usize) -> Lookup {
        if ids.len().saturating_mul(segments) <= FEW_IDS {
            return self.layout.keys.index.lookup(&self.layout.bloom, ids);
        }
        let (layout, ids) = (self.layout.clone(), ids.clone());
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
