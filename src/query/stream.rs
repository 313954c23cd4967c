//! Nearest neighbours in segments: vectors are read in blocks, measured and dropped again.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::Array;
use futures::stream::{FuturesUnordered, StreamExt};

use super::exec::Work;
use super::nearest::BoundVectors;
use super::plan::{Action, Plan};
use super::reader::Reader;
use crate::base::{Bitset, CpuPool, Priority};
use crate::cache::ReadKind;
use crate::error::Result;
use crate::index::vector::{Cutoff, Hit, TopK};
use crate::model::{Attribute, Column, IdColumn};
use crate::tail::{Chunk, Contents};

/// Vectors that are read together, in bytes.
const BLOCK_BYTES: usize = 8 << 20;
/// Vectors that are read or measured at a time, in bytes; of larger blocks one.
const BYTES_AT_ONCE: usize = 4 * BLOCK_BYTES;
/// Blocks that are read or measured at a time, however small.
const BLOCKS_AT_ONCE: usize = 32;
/// Of so many rows at most one has to be eligible for it to be cheaper to fetch vectors one by one.
pub(super) const SPARSE: usize = 16;

/// Vectors that are read together.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Block {
    /// All of a range, which starts at a multiple of 64.
    Range(Range<usize>),
    /// Those of some rows.
    Picked(Vec<u32>),
}

/// The nearest eligible rows of each block of all segments.
///
/// Costs the requests of what is not in the cache, a few blocks at a time.
///
/// # Errors
///
/// The segments cannot be read.
pub(super) async fn nearest(work: &Arc<Work>, cutoff: &Arc<Cutoff>, cpu: &CpuPool) -> Result<Vec<Vec<Hit>>> {
    let mut scans = VecDeque::new();
    for part in work.tail..work.parts.len() {
        let Some(attribute) = searched(work) else { break };
        let live = &work.parts[part].live;
        // Where rows were copied, their vectors are in memory.
        if work.parts[part].chunk.has_column(attribute.id) {
            continue;
        }
        let reader = work.reader(part, cpu);
        let (bytes, dense) = (reader.vector_bytes(attribute.id), attribute.ty.is_vector());
        for block in blocks(live, bytes, dense) {
            let bytes = block.rows().saturating_mul(bytes);
            scans.push_back((bytes, scan(work, part, attribute, block, cutoff, cpu)));
        }
    }
    within_memory(scans).await
}

/// What all of them give, in any order. Each says how many bytes it takes, and as many run at a time as fit.
async fn within_memory<T>(mut waiting: VecDeque<(usize, impl Future<Output = Result<T>>)>) -> Result<Vec<T>> {
    let (mut running, mut taken, mut done) = (FuturesUnordered::new(), 0usize, Vec::new());
    loop {
        let room = match running.len() {
            0 => usize::MAX,
            BLOCKS_AT_ONCE.. => 0,
            _ => BYTES_AT_ONCE.saturating_sub(taken),
        };
        let next = waiting.pop_front_if(|(bytes, _)| room > 0 && *bytes <= room);
        if let Some((bytes, next)) = next {
            taken = taken.saturating_add(bytes);
            running.push(async move { (bytes, next.await) });
            continue;
        }
        let Some((bytes, ended)) = running.next().await else {
            return Ok(done);
        };
        taken -= bytes;
        done.push(ended?);
    }
}

/// Reads the first of what [`nearest`] will read of a segment, while its ids are being read: one round less. Costs nothing
/// if it is in the cache, and is left out if it would not stay there until then.
pub(super) async fn read_ahead(reader: Reader<'_>, plan: &Plan, eligible: &Bitset) -> Result<()> {
    let Action::ExactNearest { vectors } = &plan.action else {
        return Ok(());
    };
    let id = vectors.attribute();
    let Some(attribute) = reader.attribute(id).filter(|a| a.ty.is_vector()) else {
        return Ok(());
    };
    let mut ranges = Vec::new();
    let mut bytes = 0;
    for block in blocks(eligible, reader.vector_bytes(id), true) {
        // Those that are picked are fetched in another way.
        let Block::Range(rows) = block else { continue };
        bytes += rows.len() * reader.vector_bytes(id);
        if bytes > BYTES_AT_ONCE && !ranges.is_empty() {
            break;
        }
        ranges.push(rows.start as u32..rows.end as u32);
    }
    Ok(reader.segment.vectors_ahead(attribute, &ranges).await?)
}

impl Block {
    /// How many vectors are read.
    fn rows(&self) -> usize {
        match self {
            Self::Range(rows) => rows.len(),
            Self::Picked(rows) => rows.len(),
        }
    }
}

fn vectors_of(work: &Work) -> &BoundVectors {
    match &work.plan.action {
        Action::ExactNearest { vectors } => vectors,
        _ => unreachable!("called for this action only"),
    }
}

fn searched(work: &Work) -> Option<&Attribute> {
    let id = vectors_of(work).attribute();
    work.schema.attributes().find(|a| a.id == id)
}

/// Divides the eligible rows into blocks, ascending.
///
/// * `dense` — whether vectors can be read by ranges of rows
fn blocks(eligible: &Bitset, row_bytes: usize, dense: bool) -> Vec<Block> {
    let rows = (BLOCK_BYTES / row_bytes.max(1)).clamp(1, u32::MAX as usize);
    let step = (rows / 64 * 64).max(64);
    let (mut blocks, mut picked) = (Vec::new(), Vec::new());
    for start in (0..eligible.len()).step_by(step) {
        let end = eligible.len().min(start + step);
        let here = eligible.range(start..end);
        let count = here.count();
        let (first, last) = match (here.iter().next(), here.iter().last()) {
            (Some(first), Some(last)) => (start + first, start + last),
            _ => continue,
        };
        if dense && count * SPARSE > end - start {
            blocks.push(Block::Range(first / 64 * 64..last + 1));
            continue;
        }
        for row in here.iter() {
            picked.push((start + row) as u32);
            if picked.len() == rows {
                blocks.push(Block::Picked(std::mem::take(&mut picked)));
            }
        }
    }
    if !picked.is_empty() {
        blocks.push(Block::Picked(picked));
    }
    blocks
}

async fn scan(
    work: &Arc<Work>,
    part: usize,
    attribute: &Attribute,
    block: Block,
    cutoff: &Arc<Cutoff>,
    cpu: &CpuPool,
) -> Result<Vec<Hit>> {
    let segment = &work.segments[part - work.tail].segment;
    // Of rows with several vectors some have many: what they take is known when they are there.
    let (contents, _held) = match &block {
        Block::Range(rows) => {
            let column = segment.vectors(attribute, rows.start as u32..rows.end as u32).await?;
            let contents = Contents {
                rows: rows.len(),
                ids: Some(slice(work.parts[part].chunk.ids(), rows)),
                columns: [(attribute.id, column.map(Column::Vectors))].into(),
                ..Contents::default()
            };
            (contents, None)
        }
        Block::Picked(rows) => {
            let reader = work.reader(part, cpu);
            let rows = reader.rows(rows, &[attribute.id].into(), ReadKind::Vectors).await?;
            (rows.0, Some(rows.1))
        }
    };
    let (work, cutoff) = (work.clone(), cutoff.clone());
    let measure = move || {
        let chunk = Chunk::partial(contents);
        let eligible = match &block {
            Block::Range(rows) => work.parts[part].live.range(rows.clone()),
            Block::Picked(rows) => Bitset::full(rows.len()),
        };
        let mut best = TopK::new(work.k);
        vectors_of(&work).scan(part as u32, &chunk, &eligible, 0..chunk.len(), &cutoff, &mut best);
        let mut hits = best.into_hits();
        for hit in &mut hits {
            hit.row = match &block {
                Block::Range(rows) => rows.start as u32 + hit.row,
                Block::Picked(rows) => rows[hit.row as usize],
            };
        }
        hits
    };
    Ok(cpu.run(Priority::Foreground, measure).await)
}

fn slice(ids: &IdColumn, rows: &Range<usize>) -> IdColumn {
    let array = ids.to_array().slice(rows.start, rows.len());
    IdColumn::from_array(&array).expect("a slice has the type of the whole")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Small blocks are read together, large ones one by one.
    #[tokio::test(start_paused = true)]
    async fn as_many_blocks_are_in_memory_as_fit() {
        use std::cell::Cell;
        for (bytes, count, at_once) in [
            (1, 100, 32),
            (BLOCK_BYTES, 10, 4),
            (BYTES_AT_ONCE + 1, 3, 1),
            (20 << 20, 3, 1),
        ] {
            let (running, most) = (&Cell::new(0), &Cell::new(0));
            let one = |n: usize| async move {
                running.set(running.get() + 1);
                most.set(running.get().max(most.get()));
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                running.set(running.get() - 1);
                Ok(n)
            };
            let mut all = within_memory((0..count).map(|n| (bytes, one(n))).collect())
                .await
                .unwrap();
            all.sort_unstable();
            assert_eq!((all, most.get()), ((0..count).collect(), at_once), "{bytes}");
        }
    }

    proptest! {
        #[test]
        fn blocks_cover_every_eligible_row_once(
            runs in prop::collection::vec((0usize..300, 0usize..300), 0..8), row_bytes in 1usize..2_000_000, dense: bool,
        ) {
            let bits = runs.iter().flat_map(|(off, on)| [vec![false; *off], vec![true; *on]].concat());
            let bits: Vec<bool> = bits.collect();
            let eligible = Bitset::from_fn(bits.len(), |i| bits[i]);
            let mut covered = Vec::new();
            for block in blocks(&eligible, row_bytes, dense) {
                match block {
                    Block::Range(rows) => {
                        prop_assert!(dense && rows.start % 64 == 0);
                        prop_assert!(rows.len() <= 64 || rows.len() * row_bytes <= BLOCK_BYTES);
                        covered.extend(rows.filter(|row| eligible.contains(*row)));
                    }
                    Block::Picked(rows) => {
                        prop_assert!(rows.len() == 1 || rows.len() * row_bytes <= BLOCK_BYTES);
                        covered.extend(rows.iter().map(|row| *row as usize));
                    }
                }
            }
            covered.sort_unstable();
            prop_assert_eq!(covered, eligible.iter().collect::<Vec<_>>());
        }
    }
}
