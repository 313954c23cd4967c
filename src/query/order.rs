//! The order of rows by their attributes.

use std::cmp::Ordering;

use super::exec::RowRef;
use super::plan::{OrderKey, OrderTarget};
use super::values::{ScalarView, Values, scalar_view};
use crate::model::{Direction, IdColumn};
use crate::tail::Part;

/// Compares rows of a snapshot's parts by some keys, then by id. Looks columns up once.
pub(super) struct RowOrder<'a> {
    directions: Vec<Direction>,
    /// Key by key for part 0, then for part 1, and so on.
    columns: Vec<KeyColumn<'a>>,
    ids: Vec<&'a IdColumn>,
}

enum KeyColumn<'a> {
    Ids,
    AllNull,
    Values(ScalarView<'a>),
}

impl<'a> RowOrder<'a> {
    pub fn new(keys: &[OrderKey], parts: &'a [Part]) -> Self {
        let column = |part: &'a Part, key: &OrderKey| match key.target {
            OrderTarget::Id => KeyColumn::Ids,
            OrderTarget::Attribute(id) => scalar_view(&part.chunk, id).map_or(KeyColumn::AllNull, KeyColumn::Values),
        };
        Self {
            directions: keys.iter().map(|k| k.direction).collect(),
            columns: parts
                .iter()
                .flat_map(|part| keys.iter().map(move |key| column(part, key)))
                .collect(),
            ids: parts.iter().map(|p| p.chunk.ids()).collect(),
        }
    }

    /// Which of two rows comes first.
    pub fn compare(&self, a: RowRef, b: RowRef) -> Ordering {
        let keys = self.directions.len();
        for (key, direction) in self.directions.iter().enumerate() {
            let (x, y) = (
                &self.columns[a.part as usize * keys + key],
                &self.columns[b.part as usize * keys + key],
            );
            let ascending = match (x, y) {
                (KeyColumn::Ids, _) | (_, KeyColumn::Ids) => self.compare_ids(a, b),
                (KeyColumn::Values(x), KeyColumn::Values(y)) => compare_values(x, a.row as usize, y, b.row as usize),
                (KeyColumn::Values(x), KeyColumn::AllNull) => (!is_null(x, a.row as usize)).cmp(&false),
                (KeyColumn::AllNull, KeyColumn::Values(y)) => false.cmp(&!is_null(y, b.row as usize)),
                (KeyColumn::AllNull, KeyColumn::AllNull) => Ordering::Equal,
            };
            // Nulls sort before every value, so that the reverse has them last.
            let ordering = match direction {
                Direction::Asc => ascending,
                Direction::Desc => ascending.reverse(),
            };
            if ordering.is_ne() {
                return ordering;
            }
        }
        self.compare_ids(a, b)
    }

    fn compare_ids(&self, a: RowRef, b: RowRef) -> Ordering {
        self.ids[a.part as usize].compare(a.row as usize, self.ids[b.part as usize], b.row as usize)
    }
}

fn is_null(view: &ScalarView<'_>, row: usize) -> bool {
    view.nulls.is_some_and(|n| n.is_null(row))
}

fn compare_values(x: &ScalarView<'_>, a: usize, y: &ScalarView<'_>, b: usize) -> Ordering {
    match (is_null(x, a), is_null(y, b)) {
        (false, false) => {}
        (x_null, y_null) => return y_null.cmp(&x_null),
    }
    match (x.values, y.values) {
        (Values::I64(x), Values::I64(y)) => x[a].cmp(&y[b]),
        (Values::U64(x), Values::U64(y)) => x[a].cmp(&y[b]),
        // Never NaN; unlike `total_cmp` this makes −0 equal 0, as filters do.
        (Values::F64(x), Values::F64(y)) => x[a].partial_cmp(&y[b]).unwrap_or(Ordering::Equal),
        (Values::Bool(x), Values::Bool(y)) => x.value(a).cmp(&y.value(b)),
        _ => x.values.bytes(a).cmp(&y.values.bytes(b)),
    }
}
