//! Runs plans on a snapshot: the rows are dealt out to the CPU pool, what each job found is merged.
//!
//! Answers do not depend on how rows are dealt out: every order is total (ties by id), and text
//! statistics are those of the whole snapshot.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use futures::future::{join_all, try_join_all};

use super::aggregate::{self, Tally};
use super::budget::{AnswerBudget, Budget};
use super::compute::Computer;
use super::filter::evaluate_rows;
use super::load::{Loaded, load};
use super::order::RowOrder;
use super::per;
use super::plan::{Action, OrderKey, OrderTarget, Plan};
use super::project::result_row;
use super::reader::Reader;
use super::rows::{self, Rows};
use super::score::{Held, Weighed};
use super::top::Top;
use super::{QueryResult, Rank, ResultRow, View, stream};
use crate::base::{Bitset, CpuPool, Priority};
use crate::error::{Error, Result};
use crate::index::attribute::Combined;
use crate::index::text::{self, Bm25};
use crate::index::vector::{self, Cutoff, TopK};
use crate::model::{AttrId, Direction, Filter, Limits, Query, RankBy, Schema};
use crate::segment::SegmentPart;
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
pub(super) struct Found {
    pub at: RowRef,
    pub rank: Option<Rank>,
}

/// Some rows of one part. Starts at a multiple of 64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub part: usize,
    pub rows: Range<usize>,
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
/// Rows that are put in order in place, and bytes of rows that are made into an answer.
const ORDERED_IN_PLACE_MAX: usize = 1024;
const ANSWERED_IN_PLACE_MAX: usize = 64 * 1024;
/// Parts of filters that are bound in place.
const PLANNED_IN_PLACE_MAX: usize = 128;

/// What the jobs of one query share.
#[derive(Clone)]
pub(super) struct Work {
    pub plan: Arc<Plan>,
    /// Those of the tail, then one for each segment, with what the plan looks at.
    pub parts: Arc<Vec<Part>>,
    /// How many are of the tail. In the others those rows alone are live that pass the filter.
    pub tail: usize,
    /// In the order of their parts.
    pub segments: Arc<Vec<SegmentPart>>,
    /// For each segment the rows that its part has copies of; `None`: it has all rows.
    pub picked: Arc<Vec<Option<Vec<u32>>>>,
    /// What indexes know of segments in whose parts no row is live.
    pub tallies: Arc<Vec<Tally>>,
    /// For each segment the keys of its rows as numbers, where they are grouped by those.
    pub combined: Arc<Vec<Option<Combined>>>,
    /// For each segment what is known of the filters that are clauses of a score.
    pub held: Arc<Vec<Held>>,
    /// Of the snapshot.
    pub schema: Arc<Schema>,
    pub budget: Arc<Budget>,
    pub answer: Arc<AnswerBudget>,
    /// How many rows are to be found, the first of the plan's order.
    pub k: usize,
}

/// Answers queries on one snapshot, in order.
///
/// All of them are checked before the first is run. Costs the requests for what is not in the cache of the
/// segments: none without segments, else one round each for filters, for what orders rows, and for the rows of the
/// answer. Everything but the hand-over runs on `cpu`, unless it is too little work for a hand-over.
///
/// # Errors
///
/// A query that does not fit the schema or the limits; segments that cannot be read
/// ([`SegmentError::is_behind`](crate::segment::SegmentError::is_behind) tells whether a newer snapshot may help), or
/// that are too much for one query.
///
/// * `view` — of the snapshot's schema
pub async fn execute(
    snapshot: &Snapshot,
    view: &Arc<View>,
    queries: &Arc<[Query]>,
    cpu: &CpuPool,
    limits: &Limits,
) -> Result<Vec<QueryResult>> {
    let in_place = CpuPool::inline();
    let cpu = match is_small(snapshot, view, queries) {
        true => &in_place,
        false => cpu,
    };
    let answer = Arc::new(AnswerBudget::new(limits.answer_bytes_max));
    let (view, asked, limits) = (view.clone(), queries.clone(), limits.clone());
    let plan_all = move || {
        asked
            .iter()
            .map(|q| view.plan(q, &limits))
            .collect::<std::result::Result<Vec<_>, _>>()
    };
    let plans = match queries.iter().all(is_short) {
        true => plan_all(),
        false => cpu.run(Priority::Foreground, plan_all).await,
    };
    let plans = plans.map_err(Error::from)?;
    let budget = Arc::new(Budget::default());
    let run = |plan: Plan| {
        let (budget, answer) = (budget.clone(), answer.clone());
        async move {
            if plan.wanted == 0 && !matches!(plan.action, Action::Aggregate(_)) {
                return Ok(QueryResult::default());
            }
            let Loaded {
                parts,
                picked,
                tallies,
                combined,
                held,
                memory: _charged,
            } = load(snapshot, &plan, cpu, &budget).await?;
            let work = Work {
                parts,
                picked,
                tallies,
                combined,
                held,
                tail: snapshot.parts.len(),
                segments: snapshot.segments.clone(),
                schema: snapshot.schema.clone(),
                budget,
                answer,
                k: plan.wanted,
                plan: Arc::new(plan),
            };
            run(Arc::new(work), cpu).await
        }
    };
    try_join_all(plans.into_iter().map(run)).await
}

/// Whether one pass over everything there is, is little work: filters and texts of queries can make
/// any row expensive, so they count as large.
fn is_small(snapshot: &Snapshot, view: &View, queries: &[Query]) -> bool {
    let [query] = queries else {
        return false;
    };
    query.filter.is_none()
        && !view.filters()
        && query.aggregation.is_none()
        && query.compute.is_empty()
        && !matches!(query.rank_by, Some(RankBy::Score(_)))
        && bytes(snapshot) <= INLINE_BYTES_MAX
}

/// Whether checking and binding a query takes much less than half a millisecond.
fn is_short(query: &Query) -> bool {
    let ranks_by_values = matches!(query.rank_by, None | Some(RankBy::Order(_) | RankBy::Nearest { .. }));
    let parts = query.filter.as_ref().map_or(0, Filter::weight);
    ranks_by_values && query.compute.is_empty() && parts <= PLANNED_IN_PLACE_MAX
}

/// About how much memory all rows take, or would take.
fn bytes(snapshot: &Snapshot) -> u64 {
    let segments = snapshot.segments.iter().map(|s| s.segment.meta().logical_bytes);
    let tail = snapshot.parts.iter().map(|p| p.chunk.memory_bytes() as u64);
    segments.chain(tail).sum()
}

async fn run(work: Arc<Work>, cpu: &CpuPool) -> Result<QueryResult> {
    if let Action::Aggregate(asked) = &work.plan.action {
        return aggregate::run(&work, asked, cpu).await;
    }
    let in_place = CpuPool::inline();
    let found = match &work.plan.per {
        None if work.is_quick() => find(&work, &in_place).await?,
        None => find(&work, cpu).await?,
        Some(_) => per::find(&work, cpu).await?,
    };
    let found = found.get(work.plan.offset..).unwrap_or_default();
    if found.is_empty() {
        return Ok(QueryResult::default());
    }
    let Rows { parts, found } = rows::fetch(&work, found, cpu).await?;
    let weigh = {
        let (work, parts) = (work.clone(), parts.clone());
        move || Arc::new(Computer::weigh(&work.plan.compute, &work.parts, &parts))
    };
    let computer = match work.plan.compute.is_empty() {
        true => weigh(),
        false => cpu.run(Priority::Foreground, weigh).await,
    };
    let cpu = match work.plan.compute.is_empty() && answer_bytes(&parts, &found) <= ANSWERED_IN_PLACE_MAX {
        true => &in_place,
        false => cpu,
    };
    let jobs = found.chunks(PROJECTED_ROWS).map(|found| {
        let (work, parts, found) = (work.clone(), parts.clone(), found.to_vec());
        let computer = computer.clone();
        move || -> Result<Vec<ResultRow>> {
            let mut scratch = None;
            let row = |f: &Found| {
                let mut row = result_row(&parts, f.at, f.rank, &work.plan.projection)?;
                row.computed = computer.row(&work.plan.compute, &parts, f.at, &mut scratch)?;
                work.answer.take(row.memory_bytes())?;
                Ok(row)
            };
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

/// The most memory that the attributes of some rows may take: that of their parts, where these have no other rows.
fn answer_bytes(parts: &[Part], found: &[Found]) -> usize {
    let mut rows = vec![0; parts.len()];
    found.iter().for_each(|f| rows[f.at.part as usize] += 1);
    let of_part = |(part, rows): (&Part, usize)| match rows {
        0 => 0,
        // One of them may be most of the part.
        rows if rows == part.chunk.len() => part.chunk.memory_bytes(),
        _ => usize::MAX,
    };
    parts.iter().zip(rows).map(of_part).fold(0, usize::saturating_add)
}

/// The first `k` rows of the plan's order.
pub(super) async fn find(work: &Arc<Work>, cpu: &CpuPool) -> Result<Vec<Found>> {
    Ok(match &work.plan.action {
        Action::ExactNearest { .. } => nearest(work, cpu).await?,
        Action::TextTopK { .. } => text_top_k(work, cpu).await,
        Action::ScoreTopK { .. } => score_top_k(work, cpu).await,
        Action::OrderedScan { keys } => ordered(work, keys.clone().into(), cpu).await,
        Action::Lookup { direction } => ordered(work, by_id(*direction), cpu).await,
        // Answered without rows.
        Action::Aggregate(_) => Vec::new(),
    })
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
    let counted = |p: &Part| if p.live.none() { 0 } else { p.chunk.len() };
    for (part, rows) in parts.iter().map(counted).enumerate() {
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
    /// Reads the segment of a part.
    pub fn reader<'a>(&'a self, part: usize, cpu: &'a CpuPool) -> Reader<'a> {
        Reader {
            segment: &self.segments[part - self.tail].segment,
            schema: &self.schema,
            cpu,
            budget: &self.budget,
        }
    }

    /// Whether few rows are left to be put in order by their values, in much less time than a hand-over takes.
    fn is_quick(&self) -> bool {
        let counted = |parts: &[Part]| -> usize {
            let alive = parts.iter().filter(|p| !p.live.none());
            alive.map(|p| p.chunk.len()).sum()
        };
        matches!(self.plan.action, Action::Lookup { .. } | Action::OrderedScan { .. })
            // A filter can make any row of the tail expensive.
            && (self.plan.filter.is_none() || counted(&self.parts[..self.tail]) == 0)
            && counted(&self.parts) <= ORDERED_IN_PLACE_MAX
    }

    /// The number that a row has in its segment.
    pub fn segment_row(&self, at: RowRef) -> u32 {
        match &self.picked[at.part as usize - self.tail] {
            Some(rows) => rows[at.row as usize],
            None => at.row,
        }
    }

    /// The live rows of a piece that pass the filter; bit 0 is the piece's first row.
    pub fn eligible(&self, piece: &Piece) -> Bitset {
        let part = &self.parts[piece.part];
        let live = &part.live.words()[piece.rows.start / 64..piece.rows.end.div_ceil(64)];
        let mut eligible = Bitset::from_words(live.to_vec(), piece.rows.len());
        if let Some(filter) = &self.plan.filter
            && piece.part < self.tail
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
    pub async fn scatter<T: Send + 'static>(
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

async fn nearest(work: &Arc<Work>, cpu: &CpuPool) -> Result<Vec<Found>> {
    // Shared, so that no job keeps rows that are farther than k rows of another.
    let cutoff = Arc::new(Cutoff::none());
    let scan = {
        let cutoff = cutoff.clone();
        move |work: &Work, pieces: &[Piece]| nearest_in(work, pieces, &cutoff)
    };
    let mut hits = work.scatter(cpu, true, scan).await;
    hits.extend(stream::nearest(work, &cutoff, cpu).await?);
    let merge = {
        let work = work.clone();
        move || vector::merge(hits, |part| work.parts[part as usize].chunk.ids(), work.k)
    };
    let hits = cpu.run(Priority::Foreground, merge).await;
    let found = |h: vector::Hit| Found {
        at: RowRef {
            part: h.part,
            row: h.row,
        },
        rank: Some(Rank::Distance(h.distance)),
    };
    Ok(hits.into_iter().map(found).collect())
}

/// The nearest of rows in memory.
fn nearest_in(work: &Work, pieces: &[Piece], cutoff: &Cutoff) -> Vec<vector::Hit> {
    let Action::ExactNearest { vectors } = &work.plan.action else {
        unreachable!("called for this action only");
    };
    let in_memory = |piece: &Piece| work.parts[piece.part].chunk.has_column(vectors.attribute());
    let pieces: Vec<&Piece> = pieces.iter().filter(|piece| in_memory(piece)).collect();
    let eligible: Vec<Bitset> = pieces.iter().map(|piece| work.eligible_in_part(piece)).collect();
    let mut best = TopK::new(work.k);
    for (piece, eligible) in pieces.iter().zip(&eligible) {
        let chunk = &work.parts[piece.part].chunk;
        vectors.scan(
            piece.part as u32,
            chunk,
            eligible,
            piece.rows.clone(),
            cutoff,
            &mut best,
        );
    }
    best.into_hits()
}

async fn text_top_k(work: &Arc<Work>, cpu: &CpuPool) -> Vec<Found> {
    let weigh = {
        let work = work.clone();
        move || {
            let Action::TextTopK { text } = &work.plan.action else {
                unreachable!("called for this action only");
            };
            (text.attribute(), text.scorer(&work.parts))
        }
    };
    let (attribute, scorer) = cpu.run(Priority::Foreground, weigh).await;
    // A part's postings are walked from end to end, so that parts are not divided.
    let search = move |work: &Work, pieces: &[Piece]| text_in(work, pieces, attribute, &scorer);
    let found = work.scatter(cpu, false, search).await;
    best_scores(work, found, cpu).await
}

async fn score_top_k(work: &Arc<Work>, cpu: &CpuPool) -> Vec<Found> {
    let weigh = {
        let work = work.clone();
        move || {
            let Action::ScoreTopK { score } = &work.plan.action else {
                unreachable!("called for this action only");
            };
            let held = (work.tail..).zip(work.held.iter().cloned());
            score.weigh(&work.parts, &work.parts).knowing(held.collect())
        }
    };
    let weighed = cpu.run(Priority::Foreground, weigh).await;
    let search = move |work: &Work, pieces: &[Piece]| scores_in(work, pieces, &weighed);
    let found = work.scatter(cpu, true, search).await;
    best_scores(work, found, cpu).await
}

fn scores_in(work: &Work, pieces: &[Piece], weighed: &Weighed) -> Vec<(RowRef, f64)> {
    let ids = RowOrder::new(&[], &work.parts);
    let mut best = Top::new(work.k, |a: &(RowRef, f64), b: &(RowRef, f64)| by_score(a, b, &ids));
    for piece in pieces {
        let eligible = work.eligible(piece);
        for (row, score) in weighed.evaluate(piece.part, piece.rows.clone(), &eligible) {
            let part = piece.part as u32;
            best.offer((RowRef { part, row }, score));
        }
    }
    best.into_sorted()
}

/// Best score first, ties by id.
fn by_score(a: &(RowRef, f64), b: &(RowRef, f64), ids: &RowOrder<'_>) -> Ordering {
    b.1.total_cmp(&a.1).then_with(|| ids.compare(a.0, b.0))
}

/// The first rows of what several jobs found.
async fn best_scores(work: &Arc<Work>, found: Vec<Vec<(RowRef, f64)>>, cpu: &CpuPool) -> Vec<Found> {
    let work = work.clone();
    let merge = move || {
        let ids = RowOrder::new(&[], &work.parts);
        let mut best = Top::new(work.k, |a: &(RowRef, f64), b: &(RowRef, f64)| by_score(a, b, &ids));
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
        if work.parts[piece.part].chunk.text_index(attribute).is_some() {
            numbers.push(piece.part);
            eligible.push(work.eligible(piece));
        }
    }
    let searched: Vec<_> = numbers
        .iter()
        .zip(&eligible)
        .filter_map(|(n, rows)| {
            let chunk = &work.parts[*n].chunk;
            chunk.text_index(attribute).map(|index| (&**index, rows, chunk.ids()))
        })
        .collect();
    let hits = text::search(&searched, scorer, work.k);
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
        let mut first = Top::new(work.k, |a: &RowRef, b: &RowRef| order.compare(*a, *b));
        found.into_iter().flatten().for_each(|row| first.offer(row));
        first.into_sorted()
    };
    let first = cpu.run(Priority::Foreground, merge).await;
    first.into_iter().map(|at| Found { at, rank: None }).collect()
}

fn first_in(work: &Work, pieces: &[Piece], keys: &[OrderKey]) -> Vec<RowRef> {
    let order = RowOrder::new(keys, &work.parts);
    let mut first = Top::new(work.k, |a: &RowRef, b: &RowRef| order.compare(*a, *b));
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
