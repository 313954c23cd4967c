//! Aggregations: counts, sums and other numbers over the rows that a filter selects, by groups.
//!
//! Two passes. The first finds the keys of the groups in the answer, which are the smallest ones; the second
//! computes the aggregates of these groups and of no other. Both deal the rows out to jobs and merge.
//!
//! # What stays true
//!
//! - Answers do not depend on how rows are dealt out, nor on where they are stored: integers are summed in 128
//!   bits, floats exactly ([`exact_sum`]), and everything else is a minimum, a maximum or a count. A float is rounded
//!   once, when everything was added.
//! - Whether a query is refused for its size depends on its rows alone, too.
//! - Memory is bounded by `limits`: a job holds at most twice as many keys as the answer may have groups, and
//!   distinct values only of groups in the answer.
//!
//! # Cost
//!
//! No requests. One look into a hash table per row and pass, into a plain one for rows of segments whose keys have codes
//! (`dense`); without groups one pass over each column. Of segments whose attribute indexes know it all (`tally`), one look
//! per distinct value.

mod bind;
mod dense;
mod exact_sum;
mod groups;
mod state;
mod tally;

#[cfg(test)]
mod tests;

pub use bind::{BoundAggregation, bind};
pub(super) use tally::{Tally, Ways, tally};

use std::sync::Arc;

use dense::Parts;
use groups::Groups;
use state::{Counted, Members};

use super::exec::{Piece, Work};
use super::key::{SourceColumn, word};
use super::values::ListView;
use super::{Group, QueryResult};
use crate::base::{Bitset, CpuPool, Priority};
use crate::error::Result;
use crate::model::Invalid;

/// Some rows of one part.
struct Selected {
    part: usize,
    /// The row of bit 0.
    start: usize,
    rows: Bitset,
}

/// Rows in memory, and values of indexes, that are looked at in place.
const LITTLE: usize = 2048;
/// Rows and groups that are gathered before the aggregates see them: few enough for the processor's cache.
const MEMBERS: usize = 4096;

/// Computes the aggregates of the rows that the plan's filter selects.
///
/// # Errors
///
/// There are too many distinct values or combinations of elements.
pub(super) async fn run(work: &Arc<Work>, asked: &Arc<BoundAggregation>, cpu: &CpuPool) -> Result<QueryResult> {
    let find = {
        let asked = asked.clone();
        move |work: &Work, pieces: &[Piece]| {
            let select = |piece: &Piece| Selected {
                part: piece.part,
                start: piece.rows.start,
                rows: work.eligible(piece),
            };
            let selected: Vec<_> = pieces.iter().map(select).collect();
            groups::find(&asked, Parts::of(work), &selected).map(|keys| (selected, keys))
        }
    };
    let in_place = CpuPool::inline();
    let cpu = if is_little(work) { &in_place } else { cpu };
    let found: Result<Vec<_>, Invalid> = work.scatter(cpu, true, find).await.into_iter().collect();
    let (selected, mut keys): (Vec<_>, Vec<_>) = found?.into_iter().unzip();
    keys.extend(work.tallies.iter().map(|tally| groups::of_tally(asked, tally)));
    let number = {
        let (asked, work) = (asked.clone(), work.clone());
        move || -> Result<_, Invalid> {
            let mut seen = dense::Seen::new();
            keys.iter_mut()
                .for_each(|keys| dense::merge(&mut seen, std::mem::take(&mut keys.seen)));
            let groups = Groups::number(&asked, keys)?;
            let tables = dense::tables(&asked, Parts::of(&work), &groups, &seen);
            Ok((groups, tables))
        }
    };
    let numbered = Arc::new(cpu.run(Priority::Foreground, number).await?);
    let jobs = selected.into_iter().map(|selected| {
        let (asked, work, numbered) = (asked.clone(), work.clone(), numbered.clone());
        move || count(&asked, Parts::of(&work), &selected, &numbered)
    });
    let mut counted = cpu.run_all(Priority::Foreground, jobs.collect()).await;
    if !work.tallies.is_empty() {
        let (asked, work, numbered) = (asked.clone(), work.clone(), numbered.clone());
        let count = move || counted_of_tallies(&asked, &work.tallies, &numbered.0);
        counted.push(cpu.run(Priority::Foreground, count).await);
    }
    let answer = {
        let asked = asked.clone();
        move || answer(&asked, &numbered.0, counted)
    };
    Ok(cpu.run(Priority::Foreground, answer).await?)
}

/// Whether all that is left takes less than a hand-over to another thread.
fn is_little(work: &Work) -> bool {
    let rows: usize = work
        .parts
        .iter()
        .filter(|p| !p.live.none())
        .map(|p| p.chunk.len())
        .sum();
    let known: usize = work.tallies.iter().map(Tally::len).sum();
    // What a filter costs is not known here.
    rows <= if work.plan.filter.is_some() { 0 } else { LITTLE } && known <= LITTLE
}

/// Computes the aggregates of some rows.
fn count(
    asked: &BoundAggregation,
    parts: Parts<'_>,
    selected: &[Selected],
    (groups, tables): &(Groups, dense::Tables),
) -> Result<Counted, Invalid> {
    let mut counted = Counted::new(asked, groups.len());
    for rows in selected {
        let chunk = &parts.parts[rows.part].chunk;
        let dense = parts.combined(rows.part).zip(tables.get(&rows.part));
        if let Some((combined, table)) = dense.filter(|_| asked.counts_rows()) {
            for (group, rows) in table.iter().zip(combined.count(rows.start, &rows.rows)) {
                if *group != dense::NO_GROUP {
                    counted.add_rows(*group as usize, rows);
                }
            }
            continue;
        }
        let column = |a: &bind::BoundAggregate| a.function.source().map_or(SourceColumn::Null, |s| s.column(chunk));
        let columns: Vec<_> = asked.aggregates.iter().map(column).collect();
        if let Groups::One = groups {
            let (start, rows) = (rows.start, &rows.rows);
            counted.add(&columns, &Members::All { start, rows })?;
            continue;
        }
        let mut members = Vec::with_capacity(MEMBERS);
        let mut outcome = Ok(());
        let visit = |row, group| {
            members.push((row, group));
            if members.len() == MEMBERS {
                if outcome.is_ok() {
                    outcome = counted.add(&columns, &Members::Grouped(&members));
                }
                members.clear();
            }
        };
        match dense {
            None => groups.each_member(asked, chunk, rows, visit),
            Some((combined, table)) => dense::each_member(combined, rows, table, visit),
        }
        outcome?;
        counted.add(&columns, &Members::Grouped(&members))?;
    }
    Ok(counted)
}

/// Computes the aggregates of what indexes know.
fn counted_of_tallies(asked: &BoundAggregation, tallies: &[Tally], groups: &Groups) -> Result<Counted, Invalid> {
    let mut counted = Counted::new(asked, groups.len());
    for tally in tallies {
        if let Groups::One = groups {
            counted.add_tally(asked, tally)?;
            continue;
        }
        groups.each_of_tally(asked, tally, |group, rows| counted.add_rows(group, rows));
    }
    Ok(counted)
}

/// Merges what the jobs computed.
fn answer(
    asked: &BoundAggregation,
    groups: &Groups,
    counted: Vec<Result<Counted, Invalid>>,
) -> Result<QueryResult, Invalid> {
    let mut jobs = counted.into_iter();
    let mut all = jobs.next().unwrap_or_else(|| Ok(Counted::new(asked, groups.len())))?;
    for job in jobs {
        all.merge(job?)?;
    }
    let values = |group| {
        let aggregates = asked.aggregates.iter().enumerate();
        aggregates
            .map(|(i, a)| (a.label.clone(), all.value(i, a.function, group)))
            .collect()
    };
    Ok(match groups {
        Groups::One => QueryResult::Aggregations(values(0)),
        _ => {
            let group = |i| Group {
                key: groups.key(asked, i),
                values: values(i),
            };
            QueryResult::Groups((0..groups.len()).map(group).collect())
        }
    })
}

/// The words of an array's distinct elements.
fn distinct_words(view: &ListView<'_>, row: usize, words: &mut Vec<u64>) {
    words.clear();
    let elements = view.offsets[row]..view.offsets[row + 1];
    words
        .extend(elements.map(|i| word(view.elements, i as usize).expect("only sources with words are asked for them")));
    words.sort_unstable();
    words.dedup();
}
