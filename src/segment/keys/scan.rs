//! Ids in order: for exports, ranking by id and paging.

use std::ops::{Bound, Range, RangeBounds};

use bytes::Bytes;

use super::KeyIndex;
use super::block::{IdColumnBuilder, KeyRef};
use crate::base::coding::FormatError;
use crate::model::{Id, IdColumn};

/// A walk over the ids of a segment within bounds, in either direction, some blocks at a time.
///
/// [`KeyScan::wanted`] says what to read, [`KeyScan::take`] takes it, until nothing is wanted.
#[derive(Clone, Debug)]
pub struct KeyScan {
    /// That are left.
    blocks: Range<usize>,
    bounds: (Bound<Id>, Bound<Id>),
    descending: bool,
}

/// Consecutive ids of a scan, with their rows.
#[derive(Clone, Debug)]
pub struct KeyBlock {
    pub ids: IdColumn,
    pub rows: Vec<u32>,
}

impl KeyIndex {
    /// A scan of the ids within bounds, which are of the segment's kind.
    pub fn scan(&self, bounds: (Bound<Id>, Bound<Id>), descending: bool) -> KeyScan {
        let start = match &bounds.0 {
            Bound::Unbounded => 0,
            // The block before the first one that begins above the bound may reach beyond it.
            Bound::Included(id) | Bound::Excluded(id) => {
                self.blocks.partition_point(|b| b.first <= *id).saturating_sub(1)
            }
        };
        let end = match &bounds.1 {
            Bound::Unbounded => self.blocks.len(),
            Bound::Included(id) => self.blocks.partition_point(|b| b.first <= *id),
            Bound::Excluded(id) => self.blocks.partition_point(|b| b.first < *id),
        };
        let beyond = match (&bounds.0, &self.last) {
            (Bound::Included(id), Some(last)) => id > last,
            (Bound::Excluded(id), Some(last)) => id >= last,
            _ => false,
        };
        KeyScan {
            blocks: if beyond { 0..0 } else { start..end.max(start) },
            bounds,
            descending,
        }
    }
}

impl KeyScan {
    /// The byte range of the blocks to be read next, of at least one block and at most about
    /// `bytes_max`; `None` at the end.
    pub fn wanted(&self, index: &KeyIndex, bytes_max: u64) -> Option<Range<u64>> {
        let blocks = self.next_blocks(index, bytes_max)?;
        Some(index.blocks[blocks.start].bytes.start..index.blocks[blocks.end - 1].bytes.end)
    }

    fn next_blocks(&self, index: &KeyIndex, bytes_max: u64) -> Option<Range<usize>> {
        if self.blocks.is_empty() {
            return None;
        }
        let bytes = |block: usize| &index.blocks[block].bytes;
        Some(match self.descending {
            false => {
                let limit = bytes(self.blocks.start).start.saturating_add(bytes_max);
                let more = self.blocks.clone().skip(1).take_while(|b| bytes(*b).end <= limit);
                self.blocks.start..self.blocks.start + 1 + more.count()
            }
            true => {
                let limit = bytes(self.blocks.end - 1).end.saturating_sub(bytes_max);
                let more = self
                    .blocks
                    .clone()
                    .rev()
                    .skip(1)
                    .take_while(|b| bytes(*b).start >= limit);
                self.blocks.end - 1 - more.count()..self.blocks.end
            }
        })
    }

    /// The ids of the bytes that were wanted, in the order of the scan, which moves on.
    ///
    /// * `bytes_max` — as in [`KeyScan::wanted`]
    ///
    /// # Errors
    ///
    /// A block is damaged: read it again, then raise the alarm. The scan has not moved.
    pub fn take(&mut self, index: &KeyIndex, bytes_max: u64, bytes: &Bytes) -> Result<KeyBlock, FormatError> {
        let blocks = self
            .next_blocks(index, bytes_max)
            .unwrap_or(self.blocks.start..self.blocks.start);
        let mut ids = IdColumnBuilder::new(index.kind);
        let mut rows = Vec::new();
        let low = self.bounds.0.as_ref().map(KeyRef::of);
        let high = self.bounds.1.as_ref().map(KeyRef::of);
        let mut rest = &bytes[..];
        for block in blocks.clone() {
            let range = &index.blocks[block].bytes;
            let (body, after) = rest
                .split_at_checked((range.end - range.start) as usize)
                .ok_or_else(|| FormatError::corrupt("key blocks are cut short"))?;
            rest = after;
            let mut entries = index.body(block, body)?;
            while let Some((key, row)) = entries.next()? {
                if (low, high).contains(&key) {
                    ids.push(key)?;
                    rows.push(row);
                }
            }
        }
        match self.descending {
            false => self.blocks.start = blocks.end,
            true => {
                rows.reverse();
                self.blocks.end = blocks.start;
            }
        }
        Ok(KeyBlock {
            ids: ids.finish(self.descending),
            rows,
        })
    }
}
