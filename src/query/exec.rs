//! Runs plans on a snapshot: the rows are dealt out to the CPU pool, what each job found is merged.
//!
//! Answers do not depend on how rows are dealt out: every order is total (ties by id), and text
//! statistics are those of the whole snapshot.

use std::ops::Range;
use std::sync::Arc;

use futures::future::{join_all, try_join_all};

use super::filter::evaluate_rows;
use super::order::RowOrder;
use super::plan::{Action, OrderKey, OrderTarget, Plan, plan};
use super::project::result_row;
use super::top::Top;
use super::{QueryResult, Rank, ResultRow};
use crate::base::{Bitset, CpuPool, Priority};
use crate::error::{Error, Result};
use crate::index::text::{self, Bm25};
use crate::index::vector::{self, Cutoff, TopK};
use crate::model::{AttrId, Column, Direction, Limits, Query, RankBy};
use crate::snapshot::Snapshot;
use crate::tail::Part;

/// A row of a snapshot: the number of its part, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowRef {
    pub part: u32,
    pub row: u32,
}

/// A found row.
#[derive(Clone, Copy, Debug)]
struct Found {
    at: RowRef,
    rank: Option<Rank>,
}

/// Some rows of one part. Starts at a multiple of 64.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    part: usize,
    rows: Range<usize>,
}

/// Rows below which a job is not worth its hand-over.
const JOB_ROWS_MIN: usize = 2048;
/// Jobs per thread of one query: enough that threads finish together, few enough that a query
/// does not fill the queue.
const JOBS_PER_THREAD: usize = 4;
/// Rows that one job projects.
const PROJECTED_ROWS: usize = 512;
/// A namespace of so many bytes is searched in well under half a millisecond, which three hand-overs
/// to other threads can take too when the machine is busy.
const INLINE_BYTES_MAX: u64 = 256 * 1024;

/// What the jobs of one query share.
struct Work {
    plan: Plan,
    parts: Arc<Vec<Part>>,
}

/// Answers queries on one snapshot, in order.
///
/// All of them are checked before the first is run. Costs no requests; everything but the
/// hand-over runs on `cpu`, unless it is too little work for a hand-over.
///
/// # Errors
///
/// A query that does not fit the schema or the limits.
pub async fn execute(
    snapshot: &Snapshot,
    queries: &Arc<[Query]>,
    cpu: &CpuPool,
    limits: &Limits,
) -> Result<Vec<QueryResult>> {
    let in_place = CpuPool::inline();
    let cpu = match is_small(snapshot, queries) {
        true => &in_place,
        false => cpu,
    };
    let (schema, asked, limits) = (snapshot.schema.clone(), queries.clone(), limits.clone());
    let plan_all = move || {
        asked
            .iter()
            .map(|q| plan(q, &schema, &limits))
            .collect::<std::result::Result<Vec<_>, _>>()
    };
    let plans = cpu.run(Priority::Foreground, plan_all).await.map_err(Error::from)?;
    let run = |plan| {
        let parts = snapshot.parts.clone();
        run(Arc::new(Work { plan, parts }), cpu)
    };
    try_join_all(plans.into_iter().map(run)).await
}

/// Whether one pass over everything there is, is little work: filters and texts of queries can make
/// any row expensive, so they count as large.
fn is_small(snapshot: &Snapshot, queries: &[Query]) -> bool {
    let [query] = queries else {
        return false;
    };
    query.filter.is_none()
        && !matches!(query.rank_by, Some(RankBy::Score(_)))
        && snapshot.memory_bytes() <= INLINE_BYTES_MAX
}

async fn run(work: Arc<Work>, cpu: &CpuPool) -> Result<QueryResult> {
    if work.plan.limit == 0 {
        return Ok(QueryResult::default());
    }
    let found = match &work.plan.action {
        Action::ExactNearest { .. } => nearest(&work, cpu).await,
        Action::TextTopK { .. } => text_top_k(&work, cpu).await,
        Action::OrderedScan { keys } => ordered(&work, keys.clone().into(), cpu).await,
        Action::Lookup { direction } => ordered(&work, by_id(*direction), cpu).await,
    };
    let jobs = found.chunks(PROJECTED_ROWS).map(|found| {
        let (work, found) = (work.clone(), found.to_vec());
        move || -> Result<Vec<ResultRow>> {
            let row = |f: &Found| result_row(&work.parts, f.at, f.rank, &work.plan.projection);
            found.iter().map(row).collect()
        }
    });
    let rows: Result<Vec<_>> = cpu
        .run_all(Priority::Foreground, jobs.collect())
        .await
        .into_iter()
        .collect();
    Ok(QueryResult::Rows(rows?.into_iter().flatten().collect()))
}

/// The keys of an order by id; ascending needs none, being what breaks ties.
fn by_id(direction: Direction) -> Arc<[OrderKey]> {
    match direction {
        Direction::Asc => Arc::new([]),
        Direction::Desc => Arc::new([OrderKey {
            target: OrderTarget::Id,
            direction,
        }]),
    }
}

/// Deals all rows out to at most `parallelism ×` [`JOBS_PER_THREAD`] jobs (and one).
///
/// * `divisible` — whether a part may be dealt to several jobs
fn deal(parts: &[Part], parallelism: usize, divisible: bool) -> Vec<Vec<Piece>> {
    let total: usize = parts.iter().map(|p| p.chunk.len()).sum();
    let jobs = (total / JOB_ROWS_MIN).clamp(1, parallelism * JOBS_PER_THREAD);
    let per_job = total.div_ceil(jobs).next_multiple_of(64).max(64);
    let (mut dealt, mut job, mut room) = (Vec::new(), Vec::new(), per_job);
    for (part, rows) in parts.iter().map(|p| p.chunk.len()).enumerate() {
        let mut start = 0;
        while start < rows {
            let take = match divisible {
                // Ranges start at whole words of the bitsets.
                true => (rows - start).min(room.next_multiple_of(64)),
                false => rows,
            };
            job.push(Piece {
                part,
                rows: start..start + take,
            });
            start += take;
            room = room.saturating_sub(take);
            if room == 0 {
                dealt.push(std::mem::take(&mut job));
                room = per_job;
            }
        }
    }
    if !job.is_empty() {
        dealt.push(job);
    }
    dealt
}

impl Work {
    /// The live rows of a piece that pass the filter; bit 0 is the piece's first row.
    fn eligible(&self, piece: &Piece) -> Bitset {
        let part = &self.parts[piece.part];
        let live = &part.live.words()[piece.rows.start / 64..piece.rows.end.div_ceil(64)];
        let mut eligible = Bitset::from_words(live.to_vec(), piece.rows.len());
        if let Some(filter) = &self.plan.filter
            && !eligible.none()
        {
            eligible.and(&evaluate_rows(filter, &part.chunk, piece.rows.clone()));
        }
        eligible
    }

    /// The same as a set over the rows of the whole part.
    fn eligible_in_part(&self, piece: &Piece) -> Bitset {
        let rows = self.parts[piece.part].chunk.len();
        let eligible = self.eligible(piece);
        if piece.rows == (0..rows) {
            return eligible;
        }
        let mut words = vec![0; piece.rows.start / 64];
        words.extend_from_slice(eligible.words());
        Bitset::from_words(words, rows)
    }

    /// Runs `job` for all rows.
    async fn scatter<T: Send + 'static>(
        self: &Arc<Self>,
        cpu: &CpuPool,
        divisible: bool,
        job: impl Fn(&Work, &[Piece]) -> T + Send + Sync + 'static,
    ) -> Vec<T> {
        let job = Arc::new(job);
        let jobs = deal(&self.parts, cpu.parallelism(), divisible)
            .into_iter()
            .map(|pieces| {
                let (work, job) = (self.clone(), job.clone());
                cpu.run(Priority::Foreground, move || job(&work, &pieces))
            });
        join_all(jobs).await
    }
}

async fn nearest(work: &Arc<Work>, cpu: &CpuPool) -> Vec<Found> {
    // Shared, so that no job keeps rows that are farther than k rows of another.
    let cutoff = Cutoff::none();
    let hits = work
        .scatter(cpu, true, move |work, pieces| nearest_in(work, pieces, &cutoff))
        .await;
    let merge = {
        let work = work.clone();
        move || vector::merge(hits, |part| &work.parts[part as usize].chunk.ids, work.plan.limit)
    };
    let hits = cpu.run(Priority::Foreground, merge).await;
    let found = |h: vector::Hit| Found {
        at: RowRef {
            part: h.part,
            row: h.row,
        },
        rank: Some(Rank::Distance(h.distance)),
    };
    hits.into_iter().map(found).collect()
}

fn nearest_in(work: &Work, pieces: &[Piece], cutoff: &Cutoff) -> Vec<vector::Hit> {
    let Action::ExactNearest { attribute, query } = &work.plan.action else {
        unreachable!("called for this action only");
    };
    let eligible: Vec<Bitset> = pieces.iter().map(|piece| work.eligible_in_part(piece)).collect();
    let mut best = TopK::new(work.plan.limit);
    for (piece, eligible) in pieces.iter().zip(&eligible) {
        let chunk = &work.parts[piece.part].chunk;
        // Without a column, no row has a vector.
        let Some(Column::Vectors(column)) = chunk.columns.get(attribute) else {
            continue;
        };
        let part = vector::Part {
            number: piece.part as u32,
            column,
            ids: &chunk.ids,
            eligible,
        };
        vector::scan_rows(query, &part, piece.rows.clone(), cutoff, &mut best);
    }
    best.into_hits()
}

async fn text_top_k(work: &Arc<Work>, cpu: &CpuPool) -> Vec<Found> {
    let weigh = {
        let work = work.clone();
        move || {
            let Action::TextTopK {
                attribute,
                config,
                terms,
            } = &work.plan.action
            else {
                unreachable!("called for this action only");
            };
            let indexes = work.parts.iter().filter_map(|p| p.chunk.text.get(attribute));
            (*attribute, Bm25::over(config, terms.clone(), indexes.map(|i| &**i)))
        }
    };
    let (attribute, scorer) = cpu.run(Priority::Foreground, weigh).await;
    // A part's postings are walked from end to end, so that parts are not divided.
    let search = move |work: &Work, pieces: &[Piece]| text_in(work, pieces, attribute, &scorer);
    let found = work.scatter(cpu, false, search).await;
    let work = work.clone();
    let merge = move || {
        let ids = RowOrder::new(&[], &work.parts);
        let mut best = Top::new(work.plan.limit, |a: &(RowRef, f64), b: &(RowRef, f64)| {
            b.1.total_cmp(&a.1).then_with(|| ids.compare(a.0, b.0))
        });
        found.into_iter().flatten().for_each(|f| best.offer(f));
        best.into_sorted()
    };
    let best = cpu.run(Priority::Foreground, merge).await;
    best.into_iter()
        .map(|(at, score)| Found {
            at,
            rank: Some(Rank::Score(score)),
        })
        .collect()
}

fn text_in(work: &Work, pieces: &[Piece], attribute: AttrId, scorer: &Bm25) -> Vec<(RowRef, f64)> {
    let mut numbers = Vec::new();
    let mut eligible = Vec::new();
    for piece in pieces {
        if work.parts[piece.part].chunk.text.contains_key(&attribute) {
            numbers.push(piece.part);
            eligible.push(work.eligible(piece));
        }
    }
    let searched: Vec<_> = numbers
        .iter()
        .zip(&eligible)
        .filter_map(|(n, rows)| {
            let chunk = &work.parts[*n].chunk;
            chunk.text.get(&attribute).map(|index| (&**index, rows, &chunk.ids))
        })
        .collect();
    let hits = text::search(&searched, scorer, work.plan.limit);
    let found = |h: text::TextHit| {
        (
            RowRef {
                part: numbers[h.part] as u32,
                row: h.row,
            },
            h.score,
        )
    };
    hits.into_iter().map(found).collect()
}

async fn ordered(work: &Arc<Work>, keys: Arc<[OrderKey]>, cpu: &CpuPool) -> Vec<Found> {
    let scan = {
        let keys = keys.clone();
        move |work: &Work, pieces: &[Piece]| first_in(work, pieces, &keys)
    };
    let found = work.scatter(cpu, true, scan).await;
    let work = work.clone();
    let merge = move || {
        let order = RowOrder::new(&keys, &work.parts);
        let mut first = Top::new(work.plan.limit, |a: &RowRef, b: &RowRef| order.compare(*a, *b));
        found.into_iter().flatten().for_each(|row| first.offer(row));
        first.into_sorted()
    };
    let first = cpu.run(Priority::Foreground, merge).await;
    first.into_iter().map(|at| Found { at, rank: None }).collect()
}

fn first_in(work: &Work, pieces: &[Piece], keys: &[OrderKey]) -> Vec<RowRef> {
    let order = RowOrder::new(keys, &work.parts);
    let mut first = Top::new(work.plan.limit, |a: &RowRef, b: &RowRef| order.compare(*a, *b));
    for piece in pieces {
        for row in work.eligible(piece).iter() {
            first.offer(RowRef {
                part: piece.part as u32,
                row: (piece.rows.start + row) as u32,
            });
        }
    }
    first.into_sorted()
}
