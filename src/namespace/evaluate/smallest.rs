//! The smallest of many ids.

use std::cmp::Ordering;

use arrow::array::UInt64Array;

use crate::base::Bitset;
use crate::model::IdColumn;
use crate::tail;

/// Keeps the smallest of the ids that are added, and never many more.
pub(super) struct Smallest {
    most: usize,
    columns: Vec<IdColumn>,
    len: usize,
    /// An id that is larger than so many is not among them: the last one of the first column.
    is_bounded: bool,
}

impl Smallest {
    /// * `most` — how many are kept, at least one
    pub fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            columns: Vec::new(),
            len: 0,
            is_bounded: false,
        }
    }

    /// Adds the ids of some rows, which are none of those before.
    pub fn add(&mut self, ids: &IdColumn, rows: &Bitset) {
        let bound = self.columns.first().filter(|_| self.is_bounded);
        let is_smaller =
            |row: &usize| bound.is_none_or(|first| ids.compare(*row, first, first.len() - 1) == Ordering::Less);
        let mut rows: Vec<u64> = rows.iter().filter(is_smaller).map(|row| row as u64).collect();
        if rows.len() > self.most {
            rows.select_nth_unstable_by(self.most, |a, b| ids.compare(*a as usize, ids, *b as usize));
            rows.truncate(self.most);
        }
        if rows.is_empty() {
            return;
        }
        self.len += rows.len();
        self.columns.push(ids.take(&UInt64Array::from(rows)));
        if self.len >= self.most.saturating_mul(2) {
            self.shrink();
        }
    }

    /// Drops what is too much.
    fn shrink(&mut self) {
        if self.len <= self.most {
            return;
        }
        let columns: Vec<&IdColumn> = self.columns.iter().collect();
        let mut places: Vec<(usize, usize)> = Vec::with_capacity(self.len);
        for (at, column) in columns.iter().enumerate() {
            places.extend((0..column.len()).map(|row| (at, row)));
        }
        // The largest of those that stay comes last.
        places.select_nth_unstable_by(self.most - 1, |a, b| columns[a.0].compare(a.1, columns[b.0], b.1));
        places.truncate(self.most);
        let kept = tail::take_ids(&columns, &places, None);
        self.columns = vec![kept];
        self.len = self.most;
        self.is_bounded = true;
    }

    /// The smallest of all, in no order.
    pub fn into_columns(mut self) -> Vec<IdColumn> {
        self.shrink();
        self.columns
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Id, IdKind};

    proptest! {
        #[test]
        fn the_smallest_stay(
            columns in prop::collection::vec(prop::collection::vec((0u64..500, any::<bool>()), 0..40), 0..12),
            most in 1usize..60,
            texts in any::<bool>(),
        ) {
            let id = |n: u64| match texts {
                true => Id::String(format!("{n:04}").into()),
                false => Id::UInt(n),
            };
            let kind = if texts { IdKind::String } else { IdKind::UInt };
            let mut smallest = Smallest::new(most);
            let mut expected = Vec::new();
            for (at, column) in columns.iter().enumerate() {
                // Each id once in all of them.
                let ids: Vec<Id> = column.iter().map(|(n, _)| id(n * 12 + at as u64)).collect();
                let first = |row: usize| column[row].1 && !ids[..row].contains(&ids[row]);
                let rows = Bitset::from_fn(ids.len(), first);
                expected.extend(rows.iter().map(|row| ids[row].clone()));
                smallest.add(&IdColumn::from_ids(kind, ids.iter()), &rows);
                prop_assert!(smallest.columns.iter().map(IdColumn::len).sum::<usize>() < 3 * most.max(1));
            }
            expected.sort_unstable();
            expected.truncate(most);
            let columns = smallest.into_columns();
            let mut found: Vec<Id> = columns.iter().flat_map(|c| (0..c.len()).map(|row| c.get(row))).collect();
            found.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }
}
