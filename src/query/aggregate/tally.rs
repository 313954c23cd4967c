//! What attribute indexes know of the rows of a segment: enough for many aggregations, without reading a column.
//!
//! An index lists the distinct values, each with how many of the rows have it. That is all that a minimum, a distinct
//! count, the most frequent values, a sum of integers or the groups of one attribute depend on.

use std::ops::Bound;
use std::sync::Arc;

use super::bind::{BoundAggregation, Function};
use crate::base::Bitset;
use crate::error::Result;
use crate::index::attribute::{AttributeIndex, Group, Key};
use crate::model::{Direction, Scalar};
use crate::query::key::Source;
use crate::query::reader::Reader;

/// What is known of the selected rows of one segment.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::query) struct Tally {
    /// How many they are.
    pub rows: u64,
    /// The values of the key that they are grouped by, the smallest at least.
    pub groups: Vec<Group>,
    /// Rows whose key is null.
    pub nulls: u64,
    /// For each aggregate the values that it depends on.
    pub values: Vec<Vec<Group>>,
}

/// An extreme value is among the first that are looked at, unless the filter has to do with the attribute.
const EXTREME_SHARE: u64 = 8;

/// Counts the selected rows of a segment by their values. `None` when an index does not answer, or when that reads more
/// than the columns.
///
/// Costs some reads of indexes, one index after the other.
///
/// * `selected` — the rows that are aggregated, at least one
pub(in crate::query) async fn tally(
    reader: Reader<'_>,
    asked: &BoundAggregation,
    selected: &Bitset,
) -> Result<Option<Tally>> {
    let grouped = match asked.keys.as_slice() {
        [] => None,
        [only] if asked.aggregates.iter().all(|a| a.function == Function::Count) => Some(only.source),
        _ => return Ok(None),
    };
    let functions: Vec<Function> = asked.aggregates.iter().map(|a| a.function).collect();
    let ids: Option<Vec<_>> = asked.sources().map(Source::attribute).collect();
    // Sums of floats are of all of them, in their order.
    let has_order = |f: &Function| matches!(f, Function::Sum(s) | Function::Avg(s) if s.scalar == Scalar::Float);
    let Some(mut ids) = ids.filter(|ids| !ids.is_empty() && !functions.iter().any(has_order)) else {
        return Ok(None);
    };
    ids.sort_unstable();
    ids.dedup();
    let indexes = reader.indexes(&ids).await?;
    let index = |source: Source| {
        source
            .attribute()
            .and_then(|id| indexes.get(&id))
            .filter(|i| i.has_values())
    };
    if !asked.sources().all(|source| index(source).is_some()) {
        return Ok(None);
    }
    let reads = |index: &AttributeIndex| index.groups_estimate().bytes;
    let costs = |function: &Function| match (function, function.source().and_then(index)) {
        (Function::Min(_) | Function::Max(_), Some(index)) => reads(index) / EXTREME_SHARE,
        (_, index) => index.map_or(0, reads),
    };
    let bytes = functions.iter().map(costs).sum::<u64>() + grouped.and_then(index).map_or(0, reads);
    if bytes >= ids.iter().map(|id| reader.column_bytes(*id)).sum() {
        return Ok(None);
    }
    let selected = Arc::new(selected.clone());
    let mut tally = Tally {
        rows: selected.count() as u64,
        groups: Vec::new(),
        nulls: 0,
        values: Vec::with_capacity(functions.len()),
    };
    if let Some(index) = grouped.and_then(index) {
        tally.groups = groups(reader, index, &selected, asked.limit).await?;
        let nulls = index.count_nulls(&selected).await;
        tally.nulls = nulls.map_err(|e| reader.index_error(e))?;
    }
    for function in functions {
        let values = match function.source().and_then(index) {
            None => Vec::new(),
            Some(index) => match function {
                Function::Min(_) => extreme(reader, index, &selected, Direction::Asc).await?,
                Function::Max(_) => extreme(reader, index, &selected, Direction::Desc).await?,
                _ => groups(reader, index, &selected, usize::MAX).await?,
            },
        };
        tally.values.push(values);
    }
    Ok(Some(tally))
}

async fn groups(
    reader: Reader<'_>,
    index: &AttributeIndex,
    selected: &Arc<Bitset>,
    limit: usize,
) -> Result<Vec<Group>> {
    let found = index.groups(selected, Bound::Unbounded, limit).await;
    let found = found.map_err(|e| reader.index_error(e))?;
    let groups = found.map(|g| g.groups).unwrap_or_default();
    let bytes = |key: &Key| match key {
        Key::Word(_) => 0,
        Key::Bytes(bytes) => bytes.len(),
    };
    let memory: usize = groups.iter().map(|g| size_of::<Group>() + bytes(&g.key)).sum();
    reader.budget.take(memory)?;
    Ok(groups)
}

async fn extreme(
    reader: Reader<'_>,
    index: &AttributeIndex,
    selected: &Arc<Bitset>,
    direction: Direction,
) -> Result<Vec<Group>> {
    let found = index.extreme(selected, direction).await;
    let found = found.map_err(|e| reader.index_error(e))?;
    Ok(found.map(|key| Group { key, rows: 1 }).into_iter().collect())
}
