//! A segment as part of a snapshot.

use std::sync::Arc;

use super::Segment;
use crate::base::Bitset;

/// A segment and which of its rows are live.
#[derive(Clone)]
pub struct SegmentPart {
    pub segment: Arc<Segment>,
    /// A bit per row.
    pub live: Arc<Bitset>,
}
