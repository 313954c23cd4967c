//! Fetches the rows of an answer: those of segments, which were found without all their attributes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, AsArray, GenericListArray};
use arrow::datatypes::DataType;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::exec::{Found, RowRef, Work};
use super::needs::RowNeeds;
use crate::base::{CpuPool, Priority};
use crate::cache::ReadKind;
use crate::error::{Error, Result};
use crate::index::text::TextIndex;
use crate::model::{AttrId, Column};
use crate::tail::{Chunk, Contents, Part};

/// Rows that are fetched together: so many, and so many bytes by their average, at most.
const FETCHED_ROWS: usize = 512;
const FETCHED_BYTES: usize = 8 << 20;
/// How many such batches are fetched at a time.
const BATCHES_AT_ONCE: usize = 8;

/// Rows with what the plan returns of them.
pub(super) struct Rows {
    /// Those of the search, then copies of rows.
    pub parts: Arc<Vec<Part>>,
    /// As they were found, in the same order.
    pub found: Vec<Found>,
}

/// Makes what the plan returns of the rows known. Rows of the tail are as they are.
///
/// Costs a request for each page of rows that is not in the cache, in one round.
///
/// # Errors
///
/// The segments cannot be read, or the rows are too large for one query.
pub(super) async fn fetch(work: &Work, found: &[Found], cpu: &CpuPool) -> Result<Rows> {
    let mut rows = Rows {
        parts: work.parts.clone(),
        found: found.to_vec(),
    };
    let needs = work.plan.row_needs();
    // The places in `found` of each part whose rows have to be fetched.
    let mut wanted: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (place, row) in found.iter().enumerate() {
        let part = row.at.part as usize;
        if part >= work.tail && !has(&work.parts[part].chunk, &needs) {
            wanted.entry(row.at.part).or_default().push(place);
        }
    }
    let mut batches: Vec<(u32, Vec<usize>)> = Vec::new();
    for (part, mut places) in wanted {
        // In the order of the segment, so that a page is in few batches.
        places.sort_unstable_by_key(|place| found[*place].at.row);
        let row_bytes = work.reader(part as usize, cpu).row_bytes().max(1);
        let rows = (FETCHED_BYTES / row_bytes).clamp(1, FETCHED_ROWS);
        batches.extend(places.chunks(rows).map(|c| (part, c.to_vec())));
    }
    if batches.is_empty() {
        return Ok(rows);
    }
    // What the values of all batches will at least take in the answer.
    let answer = AtomicU64::new(0);
    let (needs, answer) = (&needs, &answer);
    let one = |(part, places): &(u32, Vec<usize>)| {
        let numbers: Vec<u32> = places.iter().map(|place| work.segment_row(found[*place].at)).collect();
        let part = *part as usize;
        async move {
            let fetched = batch(work, part, numbers, needs, cpu).await?;
            let bytes: u64 = work
                .plan
                .projection
                .iter()
                .map(|p| least_bytes(&fetched.chunk, p.id))
                .sum();
            let sum = answer.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
            // Rather than when all of them are here.
            work.answer.expect(sum)?;
            Ok::<_, Error>(fetched)
        }
    };
    let fetches: Vec<_> = batches.iter().map(one).collect();
    let fetched: Vec<Part> = stream::iter(fetches).buffered(BATCHES_AT_ONCE).try_collect().await?;
    for (number, (_, places)) in batches.iter().enumerate() {
        let part = (work.parts.len() + number) as u32;
        for (row, place) in (0..).zip(places) {
            rows.found[*place].at = RowRef { part, row };
        }
    }
    rows.parts = Arc::new(work.parts.iter().cloned().chain(fetched).collect());
    Ok(rows)
}

/// Whether the search has loaded all that is returned. A text index of the search knows the terms of the search.
fn has(chunk: &Chunk, needs: &RowNeeds) -> bool {
    chunk.has_ids()
        && needs.attributes.iter().all(|id| chunk.has_column(*id))
        && needs.texts.iter().all(|id| chunk.has_text(*id))
        && !needs.searched.iter().any(|id| chunk.has_text(*id))
}

/// What the values of an attribute take in an answer, at least: strings and bytes as long as they are.
fn least_bytes(chunk: &Chunk, id: AttrId) -> u64 {
    let Some(Column::Values(array)) = chunk.column(id) else {
        return 0;
    };
    let elements = array.as_list_opt::<i32>().map_or(array, GenericListArray::values);
    let ends = match elements.data_type() {
        DataType::LargeUtf8 => elements.as_string::<i64>().value_offsets(),
        DataType::LargeBinary => elements.as_binary::<i64>().value_offsets(),
        _ => &[],
    };
    match ends {
        [first, .., last] => (last - first) as u64,
        _ => 0,
    }
}

async fn batch(work: &Work, part: usize, rows: Vec<u32>, needs: &RowNeeds, cpu: &CpuPool) -> Result<Part> {
    let reader = work.reader(part, cpu);
    let (contents, held) = reader.rows(&rows, &needs.attributes, ReadKind::Rows).await?;
    // The statistics are those of the snapshot; what a row has of a text is counted again.
    let configs = needs
        .texts
        .iter()
        .map(|id| (*id, reader.attribute(*id).and_then(|a| a.full_text)));
    let configs: Vec<_> = configs.collect();
    let chunk = match configs.is_empty() {
        true => Chunk::partial(contents),
        false => {
            let build = move || {
                let index = |id| match contents.columns.get(id) {
                    Some(Some(Column::Values(values))) => Some(values),
                    _ => None,
                };
                let text = configs.iter().map(|(id, config)| {
                    let config = config.as_ref();
                    let built = config
                        .zip(index(id))
                        .map(|(c, values)| Arc::new(TextIndex::build(c, values)));
                    (*id, built)
                });
                Chunk::partial(Contents {
                    text: text.collect(),
                    ..contents.clone()
                })
            };
            cpu.run(Priority::Foreground, build).await
        }
    };
    drop(held);
    work.budget.take(chunk.memory_bytes())?;
    Ok(Part::all_live(chunk))
}
