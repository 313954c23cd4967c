//! Distances.

use half::f16;

use super::kernels::{Kernels, RowKernels, kernels};
use crate::model::{Element, Metric, VectorColumn};

/// Squared norms inside this range lose nothing to overflow or underflow of single terms: outside
/// it, the cosine is computed again in f64, whose range holds every sum of products of f32.
const NORM_MIN: f32 = f32::from_bits((127 - 80) << 23);
const NORM_MAX: f32 = f32::from_bits((127 + 120) << 23);

/// A query vector made ready for one metric.
///
/// | metric | distance | special cases |
/// | --- | --- | --- |
/// | cosine distance | 1 − q·x / (‖q‖ ‖x‖), cut to 0 … 2 | 1 when either norm is zero |
/// | euclidean squared | Σ (q − x)² | +∞ when the sum exceeds f32; sorts last |
///
/// A vector equal to the query has distance 0 exactly, under both metrics. Should stored bytes hold
/// NaN or ∞, the distance is +∞ where it would be NaN.
pub struct PreparedQuery {
    metric: Metric,
    query: Vec<f32>,
    /// ‖q‖²
    norm: f32,
    kernels: &'static Kernels,
}

impl PreparedQuery {
    /// * `query` — as many elements as the column has dimensions, finite
    pub fn new(metric: Metric, query: &[f32]) -> Self {
        Self::with(kernels(), metric, query)
    }

    pub(super) fn with(kernels: &'static Kernels, metric: Metric, query: &[f32]) -> Self {
        let bytes: Vec<u8> = query.iter().flat_map(|q| q.to_le_bytes()).collect();
        Self {
            metric,
            norm: kernels.of(Element::F32).dot(query, &bytes),
            query: query.to_vec(),
            kernels,
        }
    }

    /// The dimensions of the query.
    pub fn dims(&self) -> usize {
        self.query.len()
    }

    /// The distance to one row of a column. That of a null row means nothing.
    ///
    /// Panics when the column has other dimensions than the query, or no such row.
    pub fn distance(&self, column: &VectorColumn, row: usize) -> f32 {
        self.distance_to(column.element, column.row(row))
    }

    /// The distance to a row given as little-endian elements.
    ///
    /// Panics when its dimensions differ from those of the query.
    pub fn distance_to(&self, element: Element, row: &[u8]) -> f32 {
        let kernels = self.kernels.of(element);
        let distance = match self.metric {
            Metric::CosineDistance => self.cosine(kernels, element, row),
            Metric::EuclideanSquared => kernels.euclidean(&self.query, row),
        };
        if distance.is_nan() { f32::INFINITY } else { distance }
    }

    fn cosine(&self, kernels: &RowKernels, element: Element, row: &[u8]) -> f32 {
        let (dot, norm) = kernels.dot_and_norm(&self.query, row);
        let safe = NORM_MIN..=NORM_MAX;
        if safe.contains(&self.norm) && safe.contains(&norm) {
            cosine_distance(f64::from(dot), f64::from(self.norm), f64::from(norm))
        } else {
            self.cosine_wide(element, row)
        }
    }

    /// The cosine distance of vectors of extreme length: slow, one element after the other.
    #[cold]
    fn cosine_wide(&self, element: Element, row: &[u8]) -> f32 {
        let (mut dot, mut query_norm, mut norm) = (0.0, 0.0, 0.0);
        for (q, x) in self.query.iter().zip(row.chunks_exact(element.bytes())) {
            let (q, x) = (f64::from(*q), f64::from(decode(element, x)));
            dot += q * x;
            query_norm += q * q;
            norm += x * x;
        }
        if query_norm == 0.0 || norm == 0.0 {
            return 1.0;
        }
        cosine_distance(dot, query_norm, norm)
    }
}

/// In f64 the product of two f32 norms is exact, and the root of a square too: equal vectors have
/// `dot` equal to both norms, hence distance 0 and not the rounding noise around it.
fn cosine_distance(dot: f64, query_norm: f64, norm: f64) -> f32 {
    let distance = 1.0 - dot / (query_norm * norm).sqrt();
    // `clamp` keeps NaN, which only stored bytes that are not finite can cause.
    distance.clamp(0.0, 2.0) as f32
}

fn decode(element: Element, x: &[u8]) -> f32 {
    match (element, x) {
        (Element::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
        (Element::F16, &[a, b]) => f16::from_le_bytes([a, b]).to_f32(),
        (Element::I8, &[a]) => f32::from(a as i8),
        _ => unreachable!("rows are cut into elements of their own size"),
    }
}
