//! Dense vectors: distances and exact search.
//!
//! `prepared` turns the sums of `kernels` into distances; `scan` finds the nearest rows of a part;
//! `late` does both for rows of several vectors (late interaction); `topk` keeps the best and merges what several scans found. No I/O.
//!
//! # What stays true
//!
//! - A distance is never NaN and never negative (nor -0), and has the same bits on every CPU.
//! - Hits are ordered by distance, then id. The order and the choice do not depend on how rows
//!   are distributed over parts, jobs and threads.

pub mod kernels;
mod late;
mod prepared;
mod scan;
#[cfg(test)]
mod tests;
mod topk;

pub use late::{LatePart, LateQuery, scan_late};
pub use prepared::PreparedQuery;
pub use scan::{Part, scan, scan_rows};
pub use topk::{Cutoff, Hit, TopK, merge};
