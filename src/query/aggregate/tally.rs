//! What attribute indexes know of the rows of a segment: enough for many aggregations, without reading a column.
//!
//! An index lists the distinct values, each with how many of the rows have it. That is all that a minimum, a distinct
//! count, the most frequent values, a sum or the groups of one attribute depend on.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::Arc;

use super::bind::{BoundAggregation, Function};
use crate::base::{Bitset, Priority};
use crate::error::Result;
use crate::index::attribute::{AttributeIndex, Codes, Combined, Group, Key};
use crate::model::{AttrId, Direction};
use crate::query::budget::Borrowed;
use crate::query::costs;
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

impl Tally {
    /// Of rows that are only counted.
    pub fn of_rows(rows: u64, asked: &BoundAggregation) -> Self {
        Self {
            rows,
            groups: Vec::new(),
            nulls: 0,
            values: vec![Vec::new(); asked.aggregates.len()],
        }
    }

    /// How many values are known.
    pub fn len(&self) -> usize {
        self.groups.len() + self.values.iter().map(Vec::len).sum::<usize>()
    }
}

/// Rows that one job counts, a multiple of 64.
const JOB_ROWS: usize = 512 * 1024;
/// An extreme value is among the first that are looked at, unless the filter has to do with the attribute.
const EXTREME_SHARE: u64 = 8;

/// What indexes, and what columns take to aggregate rows of a segment, in nanoseconds.
pub(in crate::query) struct Ways {
    pub by_index: u64,
    pub by_column: u64,
    indexes: BTreeMap<AttrId, AttributeIndex>,
}

impl Ways {
    /// `None` when indexes do not tell. Costs no requests where the directories of indexes are in the hot region.
    ///
    /// * `is_all` — whether these are all rows of the segment
    pub async fn of(reader: Reader<'_>, asked: &BoundAggregation, is_all: bool) -> Result<Option<Self>> {
        let is_tallied = asked.is_ungrouped() || asked.keys.len() == 1 && asked.counts_rows();
        let ids: Option<Vec<_>> = asked.sources().map(Source::attribute).collect();
        let Some(mut ids) = ids.filter(|ids| is_tallied && !ids.is_empty()) else {
            return Ok(None);
        };
        ids.sort_unstable();
        ids.dedup();
        let mut ways = Self {
            by_index: 0,
            by_column: 0,
            indexes: reader.indexes(&ids).await?,
        };
        if !asked.sources().all(|source| ways.index(source).is_some()) {
            return Ok(None);
        }
        let kept = reader.codes_kept(&ids).await;
        let tallied = |source: Source| {
            let codes = source.attribute().is_some_and(|id| kept.contains_key(&id));
            let index = ways.index(source);
            index.map_or(0, |index| costs::groups(index, is_all, codes))
        };
        let scanned = |source: Source, ns| {
            let bytes = source.attribute().map_or(0, |id| reader.column_bytes(id));
            costs::column(bytes, reader.len(), ns)
        };
        let of_function = |function: Function| match function {
            Function::Count => (0, 0),
            Function::Sum(s) | Function::Avg(s) => (tallied(s), scanned(s, costs::ADDED_NS)),
            Function::Min(s) | Function::Max(s) => (tallied(s) / EXTREME_SHARE, scanned(s, costs::ADDED_NS)),
            Function::CountDistinct(s) | Function::Top(s, _) => (tallied(s), scanned(s, costs::HASHED_NS)),
        };
        let keys = asked.keys().map(|s| (tallied(s), scanned(s, costs::HASHED_NS)));
        let each = asked.aggregates.iter().map(|a| of_function(a.function)).chain(keys);
        (ways.by_index, ways.by_column) = each.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        Ok(Some(ways))
    }

    fn index(&self, source: Source) -> Option<&AttributeIndex> {
        self.indexes
            .get(&source.attribute()?)
            .filter(|index| index.has_values())
    }
}

/// Counts the selected rows of a segment by their values. `None` when an index does not answer, or when that reads more
/// than the columns.
///
/// Costs some reads of indexes, one index after the other. With the tally comes the memory that it takes.
///
/// * `selected` — the rows that are aggregated, at least one
pub(in crate::query) async fn tally(
    reader: Reader<'_>,
    asked: &BoundAggregation,
    selected: &Bitset,
) -> Result<Option<(Tally, Borrowed)>> {
    let is_all = selected.count() == selected.len();
    let Some(ways) = Ways::of(reader, asked, is_all).await? else {
        return Ok(None);
    };
    if ways.by_index > ways.by_column {
        return Ok(None);
    }
    let index = |source| ways.index(source);
    let functions = asked.aggregates.iter().map(|a| a.function);
    let selected = Arc::new(selected.clone());
    let mut memory = reader.budget.borrow(0)?;
    let mut tally = Tally {
        rows: selected.count() as u64,
        groups: Vec::new(),
        nulls: 0,
        values: Vec::with_capacity(asked.aggregates.len()),
    };
    if let Some((source, index)) = asked.keys().next().and_then(|source| Some((source, index(source)?))) {
        tally.groups = groups(reader, source, index, &selected, asked.limit, &mut memory).await?;
        let nulls = index.count_nulls(&selected).await;
        tally.nulls = nulls.map_err(|e| reader.index_error(e))?;
    }
    for function in functions {
        let values = match function.source().and_then(|source| Some((source, index(source)?))) {
            None => Vec::new(),
            Some((source, index)) => match function {
                Function::Min(_) => extreme(reader, index, &selected, Direction::Asc).await?,
                Function::Max(_) => extreme(reader, index, &selected, Direction::Desc).await?,
                _ => groups(reader, source, index, &selected, usize::MAX, &mut memory).await?,
            },
        };
        tally.values.push(values);
    }
    Ok(Some((tally, memory)))
}

/// * `memory` — what they take is added to it
async fn groups(
    reader: Reader<'_>,
    source: Source,
    index: &AttributeIndex,
    selected: &Arc<Bitset>,
    limit: usize,
    memory: &mut Borrowed,
) -> Result<Vec<Group>> {
    // Blocks know how many rows there are in all: then no row is looked at.
    let groups = if selected.count() < selected.len()
        && let Some(id) = source.attribute()
        && let Some((codes, _memory)) = reader.codes(id, index).await?
    {
        groups_of_codes(reader, codes, selected).await?
    } else {
        let groups = index.distinct().map_or(0, |values| limit.min(values as usize));
        let _memory = reader.budget.borrow(groups * size_of::<Group>())?;
        let found = index.groups(selected, Bound::Unbounded, limit).await;
        let found = found.map_err(|e| reader.index_error(e))?;
        found.map(|g| g.groups).unwrap_or_default()
    };
    let bytes = |key: &Key| match key {
        Key::Word(_) => 0,
        Key::Bytes(bytes) => bytes.len(),
    };
    memory.grow(groups.iter().map(|g| size_of::<Group>() + bytes(&g.key)).sum())?;
    Ok(groups)
}

/// Rows that one job counts by their codes, a multiple of 64. Each job has a table of a number per code: all tables
/// together take about as much memory as two bytes per row, or there is but one.
///
/// * `codes` — how many codes there are
fn job_rows(rows: usize, codes: usize) -> usize {
    let jobs_max = (rows / (4 * codes.max(1))).max(1);
    JOB_ROWS.max(rows.div_ceil(jobs_max).next_multiple_of(64))
}

/// How many of some rows have each value.
async fn groups_of_codes(reader: Reader<'_>, codes: Arc<Codes>, selected: &Arc<Bitset>) -> Result<Vec<Group>> {
    let Some(numbers) = Combined::new(vec![codes.clone()], u32::MAX) else {
        unreachable!("codes have 32 bits");
    };
    let count = {
        let selected = selected.clone();
        move |rows: Range<usize>| numbers.count(rows.start, &selected.range(rows))
    };
    let step = job_rows(selected.len(), codes.count() as usize);
    let tables = selected.len().div_ceil(step) * codes.count() as usize;
    // The tables, and the groups made of them.
    let groups = codes.count() as usize * size_of::<Group>();
    let _memory = reader.budget.borrow(tables * size_of::<u64>() + groups)?;
    let jobs = (0..selected.len()).step_by(step).map(|start| {
        let (count, end) = (count.clone(), selected.len().min(start + step));
        move || count(start..end)
    });
    let counted = reader.cpu.run_all(Priority::Foreground, jobs.collect()).await;
    let counts = counted.into_iter().reduce(|mut all, some| {
        all.iter_mut().zip(some).for_each(|(all, some)| *all += some);
        all
    });
    let groups = counts.unwrap_or_default().into_iter().enumerate();
    let groups = groups.filter(|(_, rows)| *rows > 0);
    let groups = groups.filter_map(|(code, rows)| {
        Some(Group {
            key: codes.key(code as u32)?,
            rows,
        })
    });
    Ok(groups.collect())
}

async fn extreme(
    reader: Reader<'_>,
    index: &AttributeIndex,
    selected: &Arc<Bitset>,
    direction: Direction,
) -> Result<Vec<Group>> {
    let group = |key| Group { key, rows: 1 };
    if selected.count() == selected.len()
        && let Some(zone) = index.zone().filter(|zone| zone.exact)
        && let (Bound::Included(low), Bound::Included(high)) = (&zone.low, &zone.high)
    {
        let key = if direction == Direction::Asc { low } else { high };
        return Ok(vec![group(key.clone())]);
    }
    let found = index.extreme(selected, direction).await;
    let found = found.map_err(|e| reader.index_error(e))?;
    Ok(found.map(group).into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_jobs_take_no_more_than_the_rows() {
        for rows in [0, 1, 63, JOB_ROWS, JOB_ROWS + 1, 20_000_000, u32::MAX as usize] {
            for codes in [1, 2, 1000, 65_536, rows / 8 + 1] {
                let step = job_rows(rows, codes);
                assert!(step >= JOB_ROWS && step.is_multiple_of(64), "{rows} {codes}");
                let jobs = rows.div_ceil(step);
                assert!(
                    jobs <= 1 || jobs * codes * size_of::<u64>() <= 2 * rows,
                    "{rows} {codes}"
                );
            }
        }
        assert_eq!(job_rows(20_000_000, 100), JOB_ROWS);
    }
}
