//! Conditions of writes: which of the incoming rows apply, given the stored ones.

use arrow::array::UInt64Array;
use serde_json::Value as Json;

use super::rows::Rows;
use crate::model::batch::NamedColumn;
use crate::model::value::to_json;
use crate::model::{Filter, Id, IdColumn, Invalid, RowBatch, Schema};
use crate::query::filter::{self, BoundFilter};
use crate::query::value_at;
use crate::tail::{self, Part};

/// What happens to an incoming row whose id is not stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Applies,
    Skipped,
}

/// The rows of a batch that a condition lets pass.
///
/// # Errors
///
/// A condition that does not fit the schema. What has references is bound for every stored row.
pub(super) fn passing(
    batch: &RowBatch,
    condition: &Filter,
    missing: Missing,
    schema: &Schema,
    rows: &mut Rows,
) -> Result<RowBatch, Invalid> {
    let condition = Condition::new(condition, schema)?;
    let parts = rows.parts().clone();
    let mut passing = Vec::new();
    for row in 0..batch.len() {
        let passes = match tail::find(&parts, &batch.ids.get(row)) {
            None => missing == Missing::Applies,
            Some(stored) => condition.holds(&parts, stored, &|name: &str| incoming(batch, row, name))?,
        };
        if passes {
            passing.push(row as u64);
        }
    }
    Ok(match passing.len() == batch.len() {
        true => batch.clone(),
        false => batch.take(&UInt64Array::from(passing)),
    })
}

/// The ids of stored rows that a condition lets pass. Every reference in it is null.
pub(super) fn passing_ids(
    ids: &IdColumn,
    condition: &Filter,
    schema: &Schema,
    rows: &mut Rows,
) -> Result<IdColumn, Invalid> {
    let without_columns = RowBatch {
        ids: ids.clone(),
        columns: Vec::new(),
    };
    let condition = condition.resolve(&|_| Json::Null);
    passing(&without_columns, &condition, Missing::Skipped, schema, rows).map(|batch| batch.ids)
}

/// The rows of a batch whose ids are stored.
pub(super) fn stored(batch: &RowBatch, rows: &Rows) -> RowBatch {
    let stored = |row: &u64| rows.contains(&batch.ids.get(*row as usize));
    let stored: Vec<u64> = (0..batch.len() as u64).filter(stored).collect();
    match stored.len() == batch.len() {
        true => batch.clone(),
        false => batch.take(&UInt64Array::from(stored)),
    }
}

/// A condition, bound once as far as it says the same of all rows: a list of a million values must not
/// be typed again for each of a million rows because of a reference beside it.
enum Condition<'a> {
    /// The same for all rows.
    Bound(BoundFilter),
    /// A comparison with the incoming row.
    Written(&'a Filter, &'a Schema),
    And(Vec<Condition<'a>>),
    Or(Vec<Condition<'a>>),
    Not(Box<Condition<'a>>),
}

impl<'a> Condition<'a> {
    fn new(condition: &'a Filter, schema: &'a Schema) -> Result<Self, Invalid> {
        if !condition.has_references() {
            return filter::bind(condition, schema).map(Self::Bound);
        }
        let all = |filters: &'a [Filter]| -> Result<Vec<_>, Invalid> {
            filters.iter().map(|f| Self::new(f, schema)).collect()
        };
        Ok(match condition {
            Filter::And(filters) => Self::And(all(filters)?),
            Filter::Or(filters) => Self::Or(all(filters)?),
            Filter::Not(filter) => Self::Not(Box::new(Self::new(filter, schema)?)),
            Filter::Compare { .. } => Self::Written(condition, schema),
        })
    }

    fn holds(&self, parts: &[Part], stored: (usize, u32), incoming: &dyn Fn(&str) -> Json) -> Result<bool, Invalid> {
        let chunk = &parts[stored.0].chunk;
        match self {
            Self::Bound(bound) => Ok(filter::matches_row(bound, chunk, stored.1)),
            Self::Written(written, schema) => {
                let bound = filter::bind(&written.resolve(incoming), schema)?;
                Ok(filter::matches_row(&bound, chunk, stored.1))
            }
            // All of them, so that an operand of the wrong type is refused whatever stands before it.
            Self::And(all) => all
                .iter()
                .try_fold(true, |held, c| Ok(c.holds(parts, stored, incoming)? && held)),
            Self::Or(any) => any
                .iter()
                .try_fold(false, |held, c| Ok(c.holds(parts, stored, incoming)? || held)),
            Self::Not(inner) => inner.holds(parts, stored, incoming).map(|held| !held),
        }
    }
}

/// The value that an incoming row has for an attribute; null where it has none.
fn incoming(batch: &RowBatch, row: usize, name: &str) -> Json {
    if name == "id" {
        return match batch.ids.get(row) {
            Id::UInt(n) => n.into(),
            other => other.to_string().into(),
        };
    }
    let value = |c: &NamedColumn| value_at(&c.column, c.ty, row).ok();
    batch.column(name).and_then(value).map_or(Json::Null, |v| to_json(&v))
}
