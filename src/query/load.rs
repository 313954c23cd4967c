//! What a plan looks at of a snapshot, as parts in memory.
//!
//! The parts of the tail are as they are. Of each segment there is one more part. It has the columns, ids and text
//! indexes that the plan names of all rows, and its live rows are those that pass the filter; or it has copies of these
//! rows alone, where they are few.

use std::sync::Arc;

use futures::{FutureExt, StreamExt, TryStreamExt};

use super::aggregate::{BoundAggregation, Tally, tally};
use super::budget::{Borrowed, Budget};
use super::filter::{BoundFilter, Planned, Prepared, Stored};
use super::first;
use super::key::Source;
use super::matching::prepare;
use super::needs::Needs;
use super::plan::{Action, Plan};
use super::reader::{PAGE_BYTES, Reader};
use super::score::Held;
use super::{stream, turns};
use crate::base::{Bitset, CpuPool};
use crate::cache::ReadKind;
use crate::error::Result;
use crate::index::attribute::{AttributeIndex, Combined};
use crate::model::{AttrId, Schema};
use crate::segment::{Live, SegmentPart};
use crate::snapshot::Snapshot;
use crate::tail::{Chunk, Contents, Part};

/// Rows of one segment that are copied at most, unless the answer has more.
const PICKED_MAX: usize = 4096;
/// What copied vectors may take, in bytes.
const PICKED_BYTES_MAX: usize = 8 << 20;

/// Filters in a score that are answered at the same time.
const CLAUSES_AT_ONCE: usize = 4;

/// Combinations of keys for which there are tables: so many at most, and not more than there are rows for.
const NUMBERS_MAX: usize = 1 << 20;
const NUMBERS_MIN: usize = 4096;
const ROWS_PER_NUMBER: usize = 4;

/// What a plan is executed on.
pub(super) struct Loaded {
    /// Those of the tail, then one for each segment.
    pub parts: Arc<Vec<Part>>,
    /// For each segment the rows that its part has copies of, ascending; `None`: it has all rows.
    pub picked: Arc<Vec<Option<Vec<u32>>>>,
    /// What indexes know of segments in whose parts no row is live.
    pub tallies: Arc<Vec<Tally>>,
    /// For each segment the keys of its rows as numbers, where they are grouped by those.
    pub combined: Arc<Vec<Option<Combined>>>,
    /// For each segment what is known of the filters that are clauses of a score.
    pub held: Arc<Vec<Held>>,
    /// What all that takes in memory, as long as it is held.
    pub memory: Vec<Borrowed>,
}

/// Loads what a plan looks at.
///
/// Costs the requests of what is not in the cache, in two rounds, and in more for filters of several steps.
///
/// # Errors
///
/// The segments cannot be read, or are too much for one query.
pub(super) async fn load(snapshot: &Snapshot, plan: &Plan, cpu: &CpuPool, budget: &Budget) -> Result<Loaded> {
    if snapshot.segments.is_empty() {
        return Ok(Loaded {
            parts: snapshot.parts.clone(),
            picked: Arc::default(),
            tallies: Arc::default(),
            combined: Arc::default(),
            held: Arc::default(),
            memory: Vec::new(),
        });
    }
    let prepared = match &plan.filter {
        Some(filter) => prepare(filter, snapshot, cpu).await,
        None => Prepared::default(),
    };
    let mut clauses = Vec::new();
    if let Action::ScoreTopK { score } = &plan.action {
        for filter in score.filters() {
            let prepared = prepare(&filter, snapshot, cpu).await;
            clauses.push((filter, prepared));
        }
    }
    let loading = Loading {
        schema: &snapshot.schema,
        plan,
        prepared: &prepared,
        clauses: &clauses,
        needs: &plan.needs(),
        needs_but_filters: &plan.needs_but_filters(),
        cpu,
        budget,
    };
    let loaded = turns::each(&snapshot.segments, budget, |part| loading.segment(part).boxed()).await?;
    let mut parts = Vec::clone(&snapshot.parts);
    let (mut picked, mut tallies, mut combined, mut held) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut memory = Vec::with_capacity(loaded.len());
    for segment in loaded {
        held.push(segment.held);
        combined.push(segment.combined);
        parts.push(segment.part);
        picked.push(segment.picked);
        tallies.extend(segment.tally);
        memory.push(segment.memory);
    }
    Ok(Loaded {
        parts: Arc::new(parts),
        picked: Arc::new(picked),
        tallies: Arc::new(tallies),
        combined: Arc::new(combined),
        held: Arc::new(held),
        memory,
    })
}

/// One plan on its way.
#[derive(Clone, Copy)]
struct Loading<'a> {
    schema: &'a Schema,
    plan: &'a Plan,
    prepared: &'a Prepared,
    /// The filters that are clauses of the plan's score.
    clauses: &'a [(Arc<BoundFilter>, Prepared)],
    needs: &'a Needs,
    needs_but_filters: &'a Needs,
    cpu: &'a CpuPool,
    budget: &'a Budget,
}

/// What was loaded of a segment.
struct OfSegment {
    part: Part,
    picked: Option<Vec<u32>>,
    tally: Option<Tally>,
    combined: Option<Combined>,
    held: Held,
    memory: Borrowed,
}

/// The same before the text indexes are there.
struct Values {
    live: Bitset,
    contents: Contents,
    picked: Option<Vec<u32>>,
    tally: Option<Tally>,
    combined: Option<Combined>,
    held: Held,
    /// What the contents were thought to take.
    reserved: Option<Borrowed>,
    /// What tally and keys take.
    memory: Option<Borrowed>,
}

impl Values {
    /// No row counts.
    fn none(rows: usize, tally: Option<Tally>) -> Self {
        Self {
            live: Bitset::empty(rows),
            contents: Contents {
                rows,
                idle: true,
                ..Contents::default()
            },
            picked: None,
            tally,
            combined: None,
            held: Held::default(),
            reserved: None,
            memory: None,
        }
    }
}

impl<'a> Loading<'a> {
    async fn segment(self, part: &'a SegmentPart) -> Result<OfSegment> {
        let reader = Reader {
            segment: &part.segment,
            schema: self.schema,
            cpu: self.cpu,
            budget: self.budget,
        };
        // Statistics are those of all rows, whatever the filter leaves.
        let (text, values) = futures::try_join!(reader.texts(&self.needs.terms), self.values(reader, part))?;
        let chunk = Chunk::partial(Contents {
            text,
            ..values.contents
        });
        drop(values.reserved);
        let mut memory = match values.memory {
            Some(memory) => memory,
            None => self.budget.borrow(0)?,
        };
        memory.grow(chunk.memory_bytes())?;
        Ok(OfSegment {
            part: Part {
                chunk: Arc::new(chunk),
                live: Arc::new(values.live),
            },
            picked: values.picked,
            tally: values.tally,
            combined: values.combined,
            held: values.held,
            memory,
        })
    }

    async fn values(self, reader: Reader<'_>, part: &SegmentPart) -> Result<Values> {
        if let Some(first) = first::page(reader, self.plan, &part.live).await? {
            return match first.none() {
                true => Ok(Values::none(reader.len(), None)),
                false => self.loaded(reader, first, None).await,
            };
        }
        let stored = Stored(reader);
        let planned = stored.plan(self.prepared).await?;
        let aggregation = match &self.plan.action {
            Action::Aggregate(asked) => Some(asked),
            _ => None,
        };
        if let Some(asked) = aggregation.filter(|asked| asked.is_ungrouped() && asked.counts_rows()) {
            let rows = count(stored, &planned, &part.live).await?;
            return Ok(Values::none(reader.len(), Some(Tally::of_rows(rows, asked))));
        }
        let live = match stored.few(&planned, &part.live).await? {
            Some(rows) if rows.is_empty() => return Ok(Values::none(reader.len(), None)),
            Some(rows) if self.picks(reader, rows.len()) => return self.picked(reader, rows).await,
            Some(rows) => {
                let mut live = Bitset::empty(reader.len());
                rows.iter().for_each(|row| live.insert(*row as usize));
                live
            }
            None => self.passing(stored, &planned, part).await?,
        };
        let live = first::narrow(reader, self.plan, live).await?;
        match live.none() {
            true => Ok(Values::none(reader.len(), None)),
            false => self.loaded(reader, live, aggregation).await,
        }
    }

    /// What is looked at of some rows.
    async fn loaded(
        self,
        reader: Reader<'_>,
        live: Bitset,
        aggregation: Option<&Arc<BoundAggregation>>,
    ) -> Result<Values> {
        if self.picks(reader, live.count()) {
            let rows = live.iter().map(|row| row as u32).collect();
            return self.picked(reader, rows).await;
        }
        if let Some(asked) = aggregation
            && let Some((known, memory)) = tally(reader, asked, &live).await?
        {
            return Ok(Values {
                memory: Some(memory),
                ..Values::none(reader.len(), Some(known))
            });
        }
        let combined = match aggregation {
            Some(asked) => combine(reader, asked).await?,
            None => None,
        };
        let (combined, memory) = combined.unzip();
        let mut of_values = Needs::default();
        let needs = match aggregation.filter(|_| combined.is_some()) {
            // The keys are known.
            Some(asked) => {
                asked.aggregated().for_each(|source| of_values.source(source));
                &of_values
            }
            None => self.needs_but_filters,
        };
        let reserved = self.budget.borrow(reader.memory_bytes(needs))?;
        let ids = async {
            match needs.ids {
                true => reader.ids().await.map(Some),
                false => Ok(None),
            }
        };
        let ahead = stream::read_ahead(reader, self.plan, &live);
        let held = self.held(Stored(reader), &live);
        let (ids, columns, (held, of_held), ()) = futures::try_join!(ids, reader.columns(&needs.columns), held, ahead)?;
        let memory = match memory {
            Some(mut memory) => {
                memory.join(of_held);
                memory
            }
            None => of_held,
        };
        Ok(Values {
            live,
            contents: Contents {
                rows: reader.len(),
                ids,
                columns,
                ..Contents::default()
            },
            picked: None,
            tally: None,
            combined,
            held,
            reserved: Some(reserved),
            memory: Some(memory),
        })
    }

    /// The live rows that pass the filter. Where so many are likely to pass that their vectors are read in blocks, these
    /// and the ids are read beside the index: one round less.
    async fn passing(self, stored: Stored<'_>, planned: &Planned, part: &SegmentPart) -> Result<Bitset> {
        let reader = stored.0;
        let passing = stored.holding(planned, Bitset::clone(&part.live));
        let is_ahead = |rows: u64| {
            matches!(self.plan.action, Action::ExactNearest { .. })
                && rows.saturating_mul(stream::SPARSE as u64) > reader.len() as u64
                && !self.picks(reader, rows as usize)
        };
        if !planned.rows_likely().is_some_and(is_ahead) {
            return passing.await;
        }
        let _reserved = self.budget.borrow(reader.ids_bytes() as usize)?;
        let vectors = stream::read_ahead(reader, self.plan, &part.live);
        let (passing, (), _) = futures::try_join!(passing, vectors, reader.ids())?;
        Ok(passing)
    }

    /// Whether it is cheaper to fetch so many rows than to read columns, and the rows of the answer afterwards.
    fn picks(self, reader: Reader<'_>, rows: usize) -> bool {
        // Text indexes are of all rows.
        if !self.needs.terms.is_empty() || rows > PICKED_MAX.max(self.plan.wanted) {
            return false;
        }
        if let Action::ExactNearest { vectors } = &self.plan.action
            && reader.vector_bytes(vectors.attribute()).saturating_mul(rows) > PICKED_BYTES_MAX
        {
            return false;
        }
        let columns: u64 = self.needs.columns.iter().map(|id| reader.column_bytes(*id)).sum();
        let ids = if self.needs.ids { reader.ids_bytes() } else { 0 };
        let later = match self.plan.row_needs().attributes.is_empty() {
            true => 0,
            false => rows.min(self.plan.wanted) as u64 * PAGE_BYTES,
        };
        rows as u64 * PAGE_BYTES < columns + ids + later
    }

    /// * `rows` — ascending
    async fn picked(self, reader: Reader<'_>, rows: Vec<u32>) -> Result<Values> {
        let mut attributes = self.needs.columns.clone();
        if let Action::ExactNearest { vectors } = &self.plan.action {
            attributes.insert(vectors.attribute());
        }
        // Most of them will be in the answer.
        if rows.len() <= self.plan.wanted {
            attributes.extend(self.plan.row_needs().attributes);
        }
        let (contents, reserved) = reader.rows(&rows, &attributes, ReadKind::Rows).await?;
        Ok(Values {
            contents,
            live: Bitset::full(rows.len()),
            picked: Some(rows),
            tally: None,
            combined: None,
            held: Held::default(),
            reserved: Some(reserved),
            memory: None,
        })
    }

    /// For which rows the clauses hold that are filters: asked of indexes like the filter of the query, where that is
    /// cheaper than to read columns.
    async fn held(self, stored: Stored<'_>, live: &Bitset) -> Result<(Held, Borrowed)> {
        let memory = self.budget.borrow(self.clauses.len() * size_of_val(live.words()))?;
        let one = async |(filter, prepared): &(Arc<BoundFilter>, Prepared)| -> Result<_> {
            let planned = stored.plan(prepared).await?;
            Ok((filter.clone(), stored.holding(&planned, live.clone()).await?))
        };
        let clauses: Vec<_> = self.clauses.iter().map(one).collect();
        // Each is charged with what it reads, also where several read the same.
        let held: Vec<_> = futures::stream::iter(clauses)
            .buffered(CLAUSES_AT_ONCE)
            .try_collect()
            .await?;
        Ok((Held::new(held), memory))
    }
}

/// How many live rows pass a filter.
async fn count(stored: Stored<'_>, planned: &Planned, live: &Live) -> Result<u64> {
    if planned.is_none() {
        return Ok(live.count() as u64);
    }
    if live.is_full()
        && let Some(rows) = stored.count(planned).await?
    {
        return Ok(rows);
    }
    let passing = stored.holding(planned, Bitset::clone(live)).await?;
    Ok(passing.count() as u64)
}

/// The keys of all rows as numbers, with the memory that they take. `None` where they have no codes, or too many
/// combinations.
async fn combine(reader: Reader<'_>, asked: &BoundAggregation) -> Result<Option<(Combined, Borrowed)>> {
    let attribute = |source: Source| source.attribute().filter(|_| !source.is_array);
    let keys: Option<Vec<AttrId>> = asked.keys().map(attribute).collect();
    let Some(keys) = keys.filter(|keys| !keys.is_empty()) else {
        return Ok(None);
    };
    let indexes = reader.indexes(&keys).await?;
    let numbers_max = NUMBERS_MAX.min((reader.len() / ROWS_PER_NUMBER).max(NUMBERS_MIN));
    let mut numbers = 1usize;
    for id in &keys {
        let values = indexes.get(id).filter(|index| index.codes_bytes().is_some());
        let Some(values) = values.and_then(AttributeIndex::distinct) else {
            return Ok(None);
        };
        numbers = numbers.saturating_mul(values as usize + 1);
    }
    if numbers > numbers_max {
        return Ok(None);
    }
    let mut memory = reader.budget.borrow(0)?;
    let mut codes = Vec::with_capacity(keys.len());
    for id in &keys {
        let Some((of_key, taken)) = reader.codes(*id, &indexes[id]).await? else {
            return Ok(None);
        };
        memory.join(taken);
        codes.push(of_key);
    }
    Ok(Combined::new(codes, NUMBERS_MAX as u32).map(|combined| (combined, memory)))
}
