//! What a plan looks at of a snapshot, as parts in memory.
//!
//! The parts of the tail are as they are. Of each segment there is one more part. It has the columns, ids and text
//! indexes that the plan names of all rows, and its live rows are those that pass the filter; or it has copies of these
//! rows alone, where they are few.

use std::sync::Arc;

use futures::FutureExt;
use futures::stream::{StreamExt, TryStreamExt};

use super::aggregate::{BoundAggregation, Tally, tally};
use super::budget::{Borrowed, Budget};
use super::filter::{Planned, Prepared, Stored};
use super::first;
use super::key::Source;
use super::matching::prepare;
use super::needs::Needs;
use super::plan::{Action, Plan};
use super::reader::{PAGE_BYTES, Reader};
use super::stream;
use crate::base::{Bitset, CpuPool};
use crate::cache::ReadKind;
use crate::error::Result;
use crate::index::attribute::{AttributeIndex, Combined};
use crate::model::{AttrId, Schema};
use crate::segment::{Live, SegmentPart};
use crate::snapshot::Snapshot;
use crate::tail::{Chunk, Contents, Part};

/// How many segments are read at a time.
const SEGMENTS_AT_ONCE: usize = 8;
/// Rows of one segment that are copied at most, unless the answer has more.
const PICKED_MAX: usize = 4096;
/// What copied vectors may take, in bytes.
const PICKED_BYTES_MAX: usize = 8 << 20;

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
        });
    }
    let prepared = match &plan.filter {
        Some(filter) => prepare(filter, snapshot, cpu).await,
        None => Prepared::default(),
    };
    let loading = Loading {
        schema: &snapshot.schema,
        plan,
        prepared: &prepared,
        needs: &plan.needs(),
        cpu,
        budget,
    };
    // Boxed: the type of all that is awaited in there is too deep for some compilers of callers.
    let loads: Vec<_> = snapshot
        .segments
        .iter()
        .map(|part| loading.segment(part).boxed())
        .collect();
    let loaded: Vec<OfSegment> = futures::stream::iter(loads)
        .buffered(SEGMENTS_AT_ONCE)
        .try_collect()
        .await?;
    let mut parts = Vec::clone(&snapshot.parts);
    let (mut picked, mut tallies, mut combined) = (Vec::new(), Vec::new(), Vec::new());
    for segment in loaded {
        combined.push(segment.combined);
        parts.push(segment.part);
        picked.push(segment.picked);
        tallies.extend(segment.tally);
    }
    Ok(Loaded {
        parts: Arc::new(parts),
        picked: Arc::new(picked),
        tallies: Arc::new(tallies),
        combined: Arc::new(combined),
    })
}

/// One plan on its way.
#[derive(Clone, Copy)]
struct Loading<'a> {
    schema: &'a Schema,
    plan: &'a Plan,
    prepared: &'a Prepared,
    needs: &'a Needs,
    cpu: &'a CpuPool,
    budget: &'a Budget,
}

/// What was loaded of a segment.
struct OfSegment {
    part: Part,
    picked: Option<Vec<u32>>,
    tally: Option<Tally>,
    combined: Option<Combined>,
}

/// The same before the text indexes are there.
struct Values<'a> {
    live: Bitset,
    contents: Contents,
    picked: Option<Vec<u32>>,
    tally: Option<Tally>,
    combined: Option<Combined>,
    /// What the contents were thought to take.
    reserved: Option<Borrowed<'a>>,
}

impl Values<'_> {
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
            reserved: None,
        }
    }
}

impl<'a> Loading<'a> {
    async fn segment(self, part: &SegmentPart) -> Result<OfSegment> {
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
        self.budget.take(chunk.memory_bytes())?;
        Ok(OfSegment {
            part: Part {
                chunk: Arc::new(chunk),
                live: Arc::new(values.live),
            },
            picked: values.picked,
            tally: values.tally,
            combined: values.combined,
        })
    }

    async fn values(self, reader: Reader<'_>, part: &SegmentPart) -> Result<Values<'a>> {
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
        let live = stored.holding(&planned, Bitset::clone(&part.live)).await?;
        let live = first::narrow(reader, self.plan, live).await?;
        if live.none() {
            return Ok(Values::none(reader.len(), None));
        }
        if self.picks(reader, live.count()) {
            return self.picked(reader, &live).await;
        }
        if let Some(asked) = aggregation
            && let Some(known) = tally(reader, asked, &live).await?
        {
            return Ok(Values::none(reader.len(), Some(known)));
        }
        let combined = match aggregation {
            Some(asked) => combine(reader, asked).await?,
            None => None,
        };
        let mut of_values = Needs::default();
        let needs = match aggregation.filter(|_| combined.is_some()) {
            // The keys are known.
            Some(asked) => {
                asked.aggregated().for_each(|source| of_values.source(source));
                &of_values
            }
            None => self.needs,
        };
        let reserved = self.budget.borrow(reader.memory_bytes(needs))?;
        let ids = async {
            match needs.ids {
                true => reader.ids().await.map(Some),
                false => Ok(None),
            }
        };
        let ahead = stream::read_ahead(reader, self.plan, &live);
        let (ids, columns, ()) = futures::try_join!(ids, reader.columns(&needs.columns), ahead)?;
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
            reserved: Some(reserved),
        })
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

    async fn picked(self, reader: Reader<'_>, live: &Bitset) -> Result<Values<'a>> {
        let rows: Vec<u32> = live.iter().map(|row| row as u32).collect();
        let mut attributes = self.needs.columns.clone();
        if let Action::ExactNearest { vectors } = &self.plan.action {
            attributes.insert(vectors.attribute());
        }
        // Most of them will be in the answer.
        if rows.len() <= self.plan.wanted {
            attributes.extend(self.plan.row_needs().attributes);
        }
        Ok(Values {
            contents: reader.rows(&rows, &attributes, ReadKind::Rows).await?,
            live: Bitset::full(rows.len()),
            picked: Some(rows),
            tally: None,
            combined: None,
            reserved: None,
        })
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

/// The keys of all rows as numbers. `None` where they have no codes, or too many combinations.
async fn combine(reader: Reader<'_>, asked: &BoundAggregation) -> Result<Option<Combined>> {
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
    let mut codes = Vec::with_capacity(keys.len());
    for id in &keys {
        match reader.codes(*id, &indexes[id]).await? {
            Some(of_key) => codes.push(of_key),
            None => return Ok(None),
        }
    }
    Ok(Combined::new(codes, NUMBERS_MAX as u32))
}
