//! A segment as part of a snapshot.

use std::ops::Deref;
use std::sync::Arc;

use super::Segment;
use crate::base::Bitset;

/// A segment and which of its rows are live.
#[derive(Clone)]
pub struct SegmentPart {
    pub segment: Arc<Segment>,
    /// A bit per row.
    pub live: Arc<Live>,
}

/// The live rows of a segment, counted once: every query asks how many they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    rows: Bitset,
    count: usize,
}

impl Live {
    /// How many rows are live.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether all rows of the segment are live.
    pub fn is_full(&self) -> bool {
        self.count == self.rows.len()
    }
}

impl From<Bitset> for Live {
    fn from(rows: Bitset) -> Self {
        Self {
            count: rows.count(),
            rows,
        }
    }
}

impl Deref for Live {
    type Target = Bitset;

    fn deref(&self) -> &Bitset {
        &self.rows
    }
}
