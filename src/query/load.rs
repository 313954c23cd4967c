//! What a plan looks at of a snapshot, as parts in memory.
//!
//! The parts of the tail are as they are. Of each segment there is one more part. It has the columns, ids and text
//! indexes that the plan names of all rows, and its live rows are those that pass the filter; or it has copies of these
//! rows alone, where they are few.

use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};

use super::aggregate::{Tally, tally};
use super::budget::Budget;
use super::filter::{Prepared, Stored};
use super::first;
use super::matching::prepare;
use super::needs::Needs;
use super::plan::{Action, Plan};
use super::reader::{PAGE_BYTES, Reader};
use crate::base::{Bitset, CpuPool};
use crate::cache::ReadKind;
use crate::error::Result;
use crate::model::Schema;
use crate::segment::SegmentPart;
use crate::snapshot::Snapshot;
use crate::tail::{Chunk, Contents, Part};

/// How many segments are read at a time.
const SEGMENTS_AT_ONCE: usize = 8;
/// Rows of one segment that are copied at most, unless the answer has more.
const PICKED_MAX: usize = 4096;
/// What copied vectors may take, in bytes.
const PICKED_BYTES_MAX: usize = 8 << 20;

/// What a plan is executed on.
pub(super) struct Loaded {
    /// Those of the tail, then one for each segment.
    pub parts: Arc<Vec<Part>>,
    /// For each segment the rows that its part has copies of, ascending; `None`: it has all rows.
    pub picked: Arc<Vec<Option<Vec<u32>>>>,
    /// What indexes know of segments in whose parts no row is live.
    pub tallies: Arc<Vec<Tally>>,
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
    let loads: Vec<_> = snapshot.segments.iter().map(|part| loading.segment(part)).collect();
    let loaded: Vec<OfSegment> = stream::iter(loads).buffered(SEGMENTS_AT_ONCE).try_collect().await?;
    let mut parts = Vec::clone(&snapshot.parts);
    let (mut picked, mut tallies) = (Vec::new(), Vec::new());
    for segment in loaded {
        parts.push(segment.part);
        picked.push(segment.picked);
        tallies.extend(segment.tally);
    }
    Ok(Loaded {
        parts: Arc::new(parts),
        picked: Arc::new(picked),
        tallies: Arc::new(tallies),
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
}

/// The same before the text indexes are there.
struct Values {
    live: Bitset,
    contents: Contents,
    picked: Option<Vec<u32>>,
    tally: Option<Tally>,
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
        }
    }
}

impl Loading<'_> {
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
        self.budget.take(chunk.memory_bytes())?;
        Ok(OfSegment {
            part: Part {
                chunk: Arc::new(chunk),
                live: Arc::new(values.live),
            },
            picked: values.picked,
            tally: values.tally,
        })
    }

    async fn values(self, reader: Reader<'_>, part: &SegmentPart) -> Result<Values> {
        let live = Bitset::clone(&part.live);
        let live = Stored(reader).holding(self.prepared, live).await?;
        let live = first::narrow(reader, self.plan, live).await?;
        if live.none() {
            return Ok(Values::none(reader.len(), None));
        }
        if self.picks(reader, live.count()) {
            return self.picked(reader, &live).await;
        }
        if let Action::Aggregate(asked) = &self.plan.action
            && let Some(known) = tally(reader, asked, &live).await?
        {
            return Ok(Values::none(reader.len(), Some(known)));
        }
        let ids = async {
            match self.needs.ids {
                true => reader.ids().await.map(Some),
                false => Ok(None),
            }
        };
        let (ids, columns) = futures::try_join!(ids, reader.columns(&self.needs.columns))?;
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

    async fn picked(self, reader: Reader<'_>, live: &Bitset) -> Result<Values> {
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
        })
    }
}
