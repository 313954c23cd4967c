//! The tail: log entries that are not yet in segments, as an in-memory index.
//!
//! The tail is a list of immutable parts, oldest first. Each has its rows as columns, contiguous
//! vectors, an inverted index per searched attribute and an index by id; which of its rows are
//! live is a bitset beside it, replaced and never changed. So a snapshot is a cheap clone, readers
//! never wait for writers, and an entry costs what it holds rather than what the tail holds.
//!
//! # What stays true
//!
//! - Every live row is live in exactly one part.
//! - [`apply`] is a pure function of the tail and the entry: every node that applies the same
//!   entries has the same parts, with the same merges, and so gives bit-equal answers.
//!
//! # Who touches it
//!
//! `snapshot` applies entries; `query` reads; `namespace` keeps the newest snapshot, and copies its rows
//! to other namespaces.
//!
//! # Cost
//!
//! No requests. Parts are merged eight to one up to 8192 rows, so a row is copied at most five
//! times, and a tail of n rows has at most n / 4096 + 40 parts.

mod apply;
mod chunk;
mod export;
mod gather;
mod merge;
mod partial;
mod promoted;

pub use apply::{Applied, apply};
pub use chunk::Chunk;
pub use export::{live_batch, live_batch_bytes};
pub use gather::{gather, take_ids};
pub use partial::Contents;
pub use promoted::{promoted, with_part};

use std::sync::Arc;

use crate::base::Bitset;
use crate::model::Id;

/// A chunk and which of its rows are live.
#[derive(Clone)]
pub struct Part {
    pub chunk: Arc<Chunk>,
    pub live: Arc<Bitset>,
}

impl Part {
    /// A part whose rows are all live.
    pub fn all_live(chunk: Chunk) -> Self {
        let live = Arc::new(Bitset::full(chunk.len()));
        Self {
            chunk: Arc::new(chunk),
            live,
        }
    }
}

/// Finds a live row by id: the number of its part, and its row there.
pub fn find(parts: &[Part], id: &Id) -> Option<(usize, u32)> {
    // Newest first: what is written again soon is what was written last.
    parts.iter().enumerate().rev().find_map(|(i, part)| {
        let row = part.chunk.find(id)?;
        part.live.contains(row as usize).then_some((i, row))
    })
}

/// How many rows are live.
pub fn live_rows(parts: &[Part]) -> usize {
    parts.iter().map(|p| p.live.count()).sum()
}

#[cfg(test)]
mod tests;
