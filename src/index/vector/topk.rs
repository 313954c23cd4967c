//! The k nearest of what was seen so far.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU32, Ordering as Memory};

use crate::model::IdColumn;

/// A row that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// The number of the part, as given to [`scan`](super::scan).
    pub part: u32,
    pub row: u32,
    pub distance: f32,
}

/// A distance that the k-th best row of a search is known not to exceed, shared by the jobs of that
/// search. It only falls.
pub struct Cutoff(AtomicU32);

impl Cutoff {
    /// Nothing is known yet.
    pub fn none() -> Self {
        Self(AtomicU32::new(f32::INFINITY.to_bits()))
    }

    /// Rows farther away than this are not among the k nearest. Rows at it may be.
    pub fn get(&self) -> f32 {
        // Relaxed: an old value only makes a scan keep more than it must.
        f32::from_bits(self.0.load(Memory::Relaxed))
    }

    /// Records that `k` rows at `distance` or nearer exist.
    pub fn lower(&self, distance: f32) {
        // Distances are not negative, and such floats are ordered like their bits.
        self.0.fetch_min(distance.to_bits(), Memory::Relaxed);
    }
}

impl Default for Cutoff {
    fn default() -> Self {
        Self::none()
    }
}

struct Candidate<'a> {
    hit: Hit,
    ids: &'a IdColumn,
}

impl Ord for Candidate<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        // Part and row come last to make the order total; ids of live rows are unique.
        (self.hit.distance.total_cmp(&other.hit.distance))
            .then_with(|| {
                self.ids
                    .compare(self.hit.row as usize, other.ids, other.hit.row as usize)
            })
            .then_with(|| (self.hit.part, self.hit.row).cmp(&(other.hit.part, other.hit.row)))
    }
}

impl PartialOrd for Candidate<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate<'_> {}

/// A bounded heap of the nearest rows, ties by ascending id.
pub struct TopK<'a> {
    k: usize,
    /// At most `k`, the farthest on top.
    heap: BinaryHeap<Candidate<'a>>,
}

impl<'a> TopK<'a> {
    /// Keeps `k` rows. Memory grows with the rows kept, not with `k`.
    pub fn new(k: usize) -> Self {
        Self {
            k,
            heap: BinaryHeap::new(),
        }
    }

    /// How many rows are kept at most.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Offers a row, which is kept if it is among the `k` nearest so far.
    ///
    /// * `ids` — the ids of the part that the hit is in
    pub fn offer(&mut self, hit: Hit, ids: &'a IdColumn) {
        let candidate = Candidate { hit, ids };
        if self.heap.len() < self.k {
            self.heap.push(candidate);
        } else if let Some(mut farthest) = self.heap.peek_mut()
            && candidate < *farthest
        {
            *farthest = candidate;
        }
    }

    /// The distance of the k-th nearest row; `None` while there are fewer than `k`.
    pub fn kth(&self) -> Option<f32> {
        let farthest = self.heap.peek()?;
        (self.heap.len() == self.k).then_some(farthest.hit.distance)
    }

    /// What was kept, nearest first.
    pub fn into_hits(self) -> Vec<Hit> {
        self.heap.into_sorted_vec().into_iter().map(|c| c.hit).collect()
    }
}

/// The `k` nearest of what several scans found, nearest first, ties by ascending id.
///
/// * `found` — results of scans of disjoint sets of rows, each with at least this `k`
/// * `ids` — the ids of a part by its number
pub fn merge<'a>(found: Vec<Vec<Hit>>, ids: impl Fn(u32) -> &'a IdColumn, k: usize) -> Vec<Hit> {
    let mut best = TopK::new(k);
    for hit in found.into_iter().flatten() {
        best.offer(hit, ids(hit.part));
    }
    best.into_hits()
}
