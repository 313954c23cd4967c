//! Exact search: every eligible row is measured.

use std::ops::Range;

use super::{Cutoff, Hit, PreparedQuery, TopK};
use crate::base::Bitset;
use crate::model::{IdColumn, VectorColumn};

/// Rows that can be searched together: their vectors, their ids, and which of them count.
///
/// All three have the same number of rows.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// Goes into the hits.
    pub number: u32,
    pub column: &'a VectorColumn,
    pub ids: &'a IdColumn,
    /// Rows outside it are not returned.
    pub eligible: &'a Bitset,
}

/// Scans one part exactly and returns its (at most) `k` nearest rows, nearest first, ties by id.
///
/// * `column`, `ids` — vectors and ids of the same rows; as many dimensions as the query
/// * `eligible` — rows outside it, and rows without a vector, are not returned
/// * `part` — goes into the hits
///
/// Panics when the lengths do not agree.
pub fn scan(
    query: &PreparedQuery,
    column: &VectorColumn,
    ids: &IdColumn,
    eligible: &Bitset,
    part: u32,
    k: usize,
) -> Vec<Hit> {
    let part = Part {
        number: part,
        column,
        ids,
        eligible,
    };
    let mut best = TopK::new(k);
    scan_rows(query, &part, 0..ids.len(), &Cutoff::none(), &mut best);
    best.into_hits()
}

/// Offers some rows of a part to `best`.
///
/// One search may be split into jobs of several parts or ranges of rows each: every job has its own
/// `best` of the same `k`, all share one `cutoff`, and [`merge`](super::merge) joins their hits. A
/// job leaves out rows beyond the cutoff, so what it finds depends on timing; the merged result does
/// not, since `k` rows at or below the cutoff exist in all jobs together.
///
/// * `rows` — inside the part; ranges that start at multiples of 64 waste nothing
///
/// Panics when the lengths of the part or its dimensions and the query's do not agree.
pub fn scan_rows<'a>(query: &PreparedQuery, part: &Part<'a>, rows: Range<usize>, cutoff: &Cutoff, best: &mut TopK<'a>) {
    let len = part.ids.len();
    assert_eq!(part.column.len(), len, "a part has as many vectors as ids");
    assert_eq!(part.eligible.len(), len, "a part has as many eligible bits as ids");
    let nulls = part.column.nulls.as_ref();
    assert!(
        nulls.is_none_or(|n| n.len() == len),
        "a column has one null bit per row"
    );
    assert_eq!(
        part.column.dims as usize,
        query.dims(),
        "query and column have the same dimensions"
    );
    assert!(rows.end <= len, "rows {rows:?} of a part of {len}");
    if best.k() == 0 || rows.is_empty() {
        return;
    }
    for number in rows.start / 64..rows.end.div_ceil(64) {
        let word = part.eligible.words()[number] & range_bits(number, &rows) & present_bits(part.column, number);
        if word != 0 {
            scan_word(query, part, number * 64, word, cutoff, best);
        }
    }
}

/// Measures the rows of one word of eligible bits, the first of which is row `base`.
fn scan_word<'a>(
    query: &PreparedQuery,
    part: &Part<'a>,
    base: usize,
    mut word: u64,
    cutoff: &Cutoff,
    best: &mut TopK<'a>,
) {
    // The shared cutoff is looked at once per word, so that threads rarely touch its cache line.
    let mut limit = cutoff.get().min(best.kth().unwrap_or(f32::INFINITY));
    let mut measure = |row: usize| {
        let distance = query.distance(part.column, row);
        // A row at the limit may still win by its id.
        if distance > limit {
            return;
        }
        let hit = Hit {
            part: part.number,
            row: row as u32,
            distance,
        };
        best.offer(hit, part.ids);
        if let Some(kth) = best.kth()
            && kth < limit
        {
            limit = kth;
            cutoff.lower(kth);
        }
    };
    if word == u64::MAX {
        (base..base + 64).for_each(measure);
        return;
    }
    while word != 0 {
        measure(base + word.trailing_zeros() as usize);
        word &= word - 1;
    }
}

/// Which of the 64 rows of word `number` lie in `rows`.
fn range_bits(number: usize, rows: &Range<usize>) -> u64 {
    let base = number * 64;
    let from = u64::MAX << rows.start.saturating_sub(base);
    match rows.end - base {
        end @ 0..64 => from & ((1 << end) - 1),
        _ => from,
    }
}

/// Which of the 64 rows of word `number` have a vector.
fn present_bits(column: &VectorColumn, number: usize) -> u64 {
    let Some(nulls) = &column.nulls else {
        return u64::MAX;
    };
    let base = number * 64;
    let rows = base..nulls.len().min(base + 64);
    if nulls.null_count() == 0 {
        return u64::MAX;
    }
    let bits = nulls.inner().slice(rows.start, rows.len());
    // At most 64 bits: either one chunk, or only a remainder.
    let chunks = bits.bit_chunks();
    chunks.iter().next().unwrap_or_else(|| chunks.remainder_bits())
}
