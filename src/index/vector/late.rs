//! Late interaction: rows of several vectors, compared with several query vectors.
//!
//! The distance of a row is Σ over the query's vectors q of min over the row's vectors x of
//! distance(q, x). For cosine distance this is the number of query vectors less MaxSim, the sum of
//! the largest cosines: for one query, a larger MaxSim is a smaller distance, and a row that
//! contains every query vector is at distance 0.

use std::ops::Range;

use arrow::array::{Array, LargeBinaryArray};

use super::{Cutoff, Hit, PreparedQuery, TopK};
use crate::base::{Bitset, is_abandoned};
use crate::model::{Element, IdColumn, Metric};

/// Several query vectors made ready for one metric.
pub struct LateQuery {
    /// Not empty; all have the same dimensions.
    queries: Vec<PreparedQuery>,
}

/// Rows of `[][N]f32` values, as they are encoded, with their ids and which of them count. All
/// three have the same number of rows.
#[derive(Clone, Copy)]
pub struct LatePart<'a> {
    /// Goes into the hits.
    pub number: u32,
    pub values: &'a LargeBinaryArray,
    pub ids: &'a IdColumn,
    /// Rows outside it are not returned.
    pub eligible: &'a Bitset,
}

impl LateQuery {
    /// * `vectors` — at least one, all of the column's dimensions, finite
    pub fn new(metric: Metric, vectors: &[Vec<f32>]) -> Self {
        assert!(!vectors.is_empty(), "a query has a vector");
        assert!(
            vectors.iter().all(|v| v.len() == vectors[0].len()),
            "the vectors of a query have the same dimensions"
        );
        Self {
            queries: vectors.iter().map(|v| PreparedQuery::new(metric, v)).collect(),
        }
    }

    /// The dimensions of each vector.
    pub fn dims(&self) -> usize {
        self.queries[0].dims()
    }

    /// How many vectors.
    pub fn vectors(&self) -> usize {
        self.queries.len()
    }

    /// The distance to a row given as little-endian f32, one vector after the other; `None` when
    /// it has no vector. Added up in f64 in the order of the query's vectors.
    pub fn distance_to(&self, row: &[u8]) -> Option<f32> {
        let vectors = row.chunks_exact(self.dims() * Element::F32.bytes());
        if vectors.len() == 0 {
            return None;
        }
        let nearest = |query: &PreparedQuery| {
            let distances = vectors.clone().map(|x| query.distance_to(Element::F32, x));
            f64::from(distances.fold(f32::INFINITY, f32::min))
        };
        Some(self.queries.iter().map(nearest).fold(0.0, |sum, d| sum + d) as f32)
    }

    /// The distance to one row of a column; `None` when it is null or has no vector.
    pub fn distance(&self, values: &LargeBinaryArray, row: usize) -> Option<f32> {
        match values.is_null(row) {
            true => None,
            false => self.distance_to(values.value(row)),
        }
    }
}

/// Offers some rows of a part to `best`, as [`scan_rows`](super::scan_rows) does for rows of one
/// vector.
pub fn scan_late<'a>(query: &LateQuery, part: &LatePart<'a>, rows: Range<usize>, cutoff: &Cutoff, best: &mut TopK<'a>) {
    let len = part.ids.len();
    assert_eq!(part.values.len(), len, "a part has as many values as ids");
    assert_eq!(part.eligible.len(), len, "a part has as many eligible bits as ids");
    if best.k() == 0 {
        return;
    }
    for row in rows.filter(|row| part.eligible.contains(*row)) {
        if is_abandoned() {
            return;
        }
        let Some(distance) = query.distance(part.values, row) else {
            continue;
        };
        // A row at the limit may still win by its id.
        if distance > cutoff.get() {
            continue;
        }
        let hit = Hit {
            part: part.number,
            row: row as u32,
            distance,
        };
        best.offer(hit, part.ids);
        if let Some(kth) = best.kth() {
            cutoff.lower(kth);
        }
    }
}
