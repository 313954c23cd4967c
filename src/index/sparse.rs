//! Sparse vectors: exact dot products.
//!
//! A dot product is the sum over the dimensions that both vectors have, in f64, added up in the
//! order of the dimensions' names, so that it has the same bits wherever it is computed.

use std::ops::Range;

use arrow::array::{Array, LargeBinaryArray};
use half::f16;

use crate::base::Bitset;
use crate::model::encoding::decode_sparse_into;

/// A sparse query vector.
#[derive(Clone, Debug, PartialEq)]
pub struct SparseQuery {
    /// Ascending by name.
    entries: Vec<(String, f64)>,
}

impl SparseQuery {
    /// * `entries` — no name twice, weights finite
    pub fn new(entries: &[(String, f32)]) -> Self {
        let mut entries: Vec<_> = entries.iter().map(|(n, w)| (n.clone(), f64::from(*w))).collect();
        entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Self { entries }
    }

    /// How many dimensions it names.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it names no dimension: then every dot product is 0.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The dot product with a vector given as entries ascending by name; 0 when the two share no
    /// dimension. Costs a step per entry of either.
    pub fn dot(&self, entries: &[(&str, f16)]) -> f64 {
        let mut sum = 0.0;
        let mut rest = entries.iter().peekable();
        for (name, weight) in &self.entries {
            while rest.next_if(|(other, _)| *other < name.as_str()).is_some() {}
            if let Some((_, other)) = rest.next_if(|(other, _)| *other == name.as_str()) {
                sum += weight * other.to_f64();
            }
        }
        sum
    }

    /// Writes the dot product with each of some rows of a `{}f16` column: 0 for null rows, for
    /// rows that are not eligible, and for values whose bytes do not decode.
    ///
    /// * `eligible`, `products` — one for each of `rows`
    pub fn dot_rows(&self, values: &LargeBinaryArray, rows: Range<usize>, eligible: &Bitset, products: &mut [f64]) {
        products.fill(0.0);
        if self.is_empty() {
            return;
        }
        let mut entries = Vec::new();
        for i in eligible.iter() {
            let row = rows.start + i;
            if !values.is_null(row) && decode_sparse_into(values.value(row), &mut entries).is_ok() {
                products[i] = self.dot(&entries);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::encoding::encode_sparse;

    fn query(entries: &[(&str, f32)]) -> SparseQuery {
        SparseQuery::new(&entries.iter().map(|(n, w)| (n.to_string(), *w)).collect::<Vec<_>>())
    }

    #[test]
    fn only_shared_dimensions_count() {
        let half = |x: f32| f16::from_f32(x);
        let row = [("12", half(0.5)), ("9", half(2.0)), ("otter", half(-1.25))];
        assert_eq!(query(&[("otter", 2.0), ("12", 4.0), ("a", 1e30)]).dot(&row), -0.5);
        assert_eq!(query(&[("z", 1.0)]).dot(&row), 0.0);
        assert_eq!(query(&[]).dot(&row), 0.0);
        assert_eq!(query(&[("9", 3.0)]).dot(&[]), 0.0);
    }

    #[test]
    fn null_ineligible_and_damaged_rows_are_0() {
        let value = encode_sparse(&[("a", f16::from_f32(2.0))]);
        let values = LargeBinaryArray::from(vec![Some(&value[..]), None, Some(b"x"), Some(&value), Some(&value)]);
        let mut products = [9.0; 4];
        let eligible = Bitset::from_fn(4, |i| i != 2);
        query(&[("a", 3.0)]).dot_rows(&values, 1..5, &eligible, &mut products);
        assert_eq!(products, [0.0, 0.0, 0.0, 6.0]);
    }

    proptest! {
        #[test]
        fn the_merge_equals_a_lookup_per_dimension(
            asked in prop::collection::btree_map("[a-c]{0,2}", -4f32..4.0, 0..8),
            stored in prop::collection::btree_map("[a-c]{0,2}", -4f32..4.0, 0..8),
        ) {
            let row: Vec<(&str, f16)> = stored.iter().map(|(n, w)| (n.as_str(), f16::from_f32(*w))).collect();
            let mut expected = 0.0;
            for (name, weight) in &asked {
                if let Some(w) = stored.get(name) {
                    expected += f64::from(*weight) * f16::from_f32(*w).to_f64();
                }
            }
            let query = SparseQuery::new(&asked.into_iter().rev().collect::<Vec<_>>());
            prop_assert_eq!(query.dot(&row), expected);
        }
    }
}
