//! What the filters of a request match in segments, read before it is evaluated.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::UInt64Array;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::super::tails_used_up;
use super::by_filter::{Found, Limit, Matched};
use super::smallest::Smallest;
use crate::base::{Bitset, Charge, CpuPool, MemoryShare, Priority, Runtime};
use crate::error::Error;
use crate::model::write::Write;
use crate::model::{Filter, IdColumn, Limits, Schema};
use crate::query::{filter, matching};
use crate::segment::{Segment, SegmentPart};
use crate::snapshot::Snapshot;

/// The ids of how many segments are read at a time.
const SEGMENTS_AT_ONCE: usize = 4;
/// About how much memory an id takes that is read, and its place while ids are put in order, in bytes.
const ID_BYTES: u64 = 32;

/// What the filters of a request match in segments.
#[derive(Default)]
pub(in crate::namespace) struct Stored {
    pub(super) delete: StoredRows,
    pub(super) patch: StoredRows,
    /// Holds the memory for their ids.
    held: Vec<Charge>,
}

/// Live rows of segments.
#[derive(Clone, Default)]
pub(super) struct StoredRows {
    /// How many match.
    pub count: u64,
    /// Their ids, in no order: the first ones in id order, and at least as many as may be touched. None at all where there
    /// are more and the request is refused for that.
    pub ids: Vec<IdColumn>,
}

impl StoredRows {
    /// Those that were not deleted.
    ///
    /// * `deleted` — in id order
    pub fn without(&self, deleted: Option<&IdColumn>) -> Self {
        let Some(deleted) = deleted.filter(|d| !d.is_empty()) else {
            return self.clone();
        };
        let mut gone = 0;
        let rest = |ids: &IdColumn| {
            let kept: Vec<u64> = (0..ids.len())
                .filter(|row| !contains(deleted, ids, *row))
                .map(|row| row as u64)
                .collect();
            gone += (ids.len() - kept.len()) as u64;
            ids.take(&UInt64Array::from(kept))
        };
        Self {
            ids: self.ids.iter().map(rest).collect(),
            count: self.count - gone,
        }
    }
}

/// Whether the id at `row` of `ids` is among `sorted`.
fn contains(sorted: &IdColumn, ids: &IdColumn, row: usize) -> bool {
    let (mut low, mut high) = (0, sorted.len());
    while low < high {
        let middle = (low + high) / 2;
        match sorted.compare(middle, ids, row) {
            Ordering::Less => low = middle + 1,
            Ordering::Equal => return true,
            Ordering::Greater => high = middle,
        }
    }
    false
}

impl Stored {
    /// Evaluates the filters of a write on the segments of a snapshot, but for those that were searched before, and
    /// reads the ids of the rows that match, as many as may be touched.
    ///
    /// A filter that does not fit the schema matches nothing here; what is wrong with it is said when the write is
    /// evaluated.
    ///
    /// # Errors
    ///
    /// The segments cannot be read, or there is no memory for the ids.
    pub async fn read(
        snapshot: &Snapshot,
        write: &Write,
        matched: Option<&Matched>,
        limits: &Limits,
        runtime: &Runtime,
    ) -> Result<Self, Error> {
        let mut stored = Self::default();
        if !write.by_filter() {
            return Ok(stored);
        }
        let mut schema = snapshot.schema.clone();
        if !write.schema.is_empty() {
            Arc::make_mut(&mut schema).apply(&write.schema);
        }
        let matched = matched.filter(|m| m.schema == schema);
        let cpu = &runtime.cpu;
        let mut most_deleted = 0;
        if let Some(delete) = &write.delete_by_filter {
            let limit = Limit::of_delete(delete.allow_partial, limits);
            most_deleted = limit.rows;
            let found = Holding::find(snapshot, &schema, &delete.filter, matched.map(|m| &m.delete), cpu).await?;
            stored.delete = stored.touched(found, limit.rows, limit, runtime).await?;
            if !limit.allow_partial && stored.delete.count > limit.rows as u64 {
                return Ok(stored);
            }
        }
        if let Some(patch) = &write.patch_by_filter {
            let limit = Limit::of_patch(patch.allow_partial, limits);
            let found = Holding::find(snapshot, &schema, &patch.filter, matched.map(|m| &m.patch), cpu).await?;
            // Those that the request deletes do not count, and are known when it is evaluated.
            let most = limit.rows.saturating_add(most_deleted);
            stored.patch = stored.touched(found, most, limit, runtime).await?;
        }
        Ok(stored)
    }

    /// Reads the ids of those rows that an operation may touch.
    ///
    /// * `most` — how many have to be known
    async fn touched(
        &mut self,
        found: Holding,
        most: usize,
        limit: Limit,
        runtime: &Runtime,
    ) -> Result<StoredRows, Error> {
        let Holding { count, segments } = found;
        let refused = count > most as u64 && !limit.allow_partial;
        if count == 0 || refused {
            return Ok(StoredRows { count, ids: Vec::new() });
        }
        let bytes = count.min(most as u64).saturating_mul(ID_BYTES);
        let charged = runtime.memory.charge(MemoryShare::Tails, bytes);
        self.held.push(charged.map_err(|e| tails_used_up().because(e))?);
        let read =
            |(segment, rows): (Arc<Segment>, Bitset)| async move { Ok::<_, Error>((segment.ids().await?, rows)) };
        let mut read = stream::iter(segments).map(read).buffered(SEGMENTS_AT_ONCE);
        let mut smallest = Smallest::new(most);
        while let Some((ids, rows)) = read.try_next().await? {
            let add = move || {
                smallest.add(&ids, &rows);
                smallest
            };
            smallest = runtime.cpu.run(Priority::Foreground, add).await;
        }
        Ok(StoredRows {
            count,
            ids: smallest.into_columns(),
        })
    }
}

/// The live rows of segments for which a filter holds.
#[derive(Default)]
struct Holding {
    count: u64,
    /// Only segments that have some.
    segments: Vec<(Arc<Segment>, Bitset)>,
}

impl Holding {
    /// * `found` — what is known of some segments
    async fn find(
        snapshot: &Snapshot,
        schema: &Arc<Schema>,
        filter: &Filter,
        found: Option<&Found>,
        cpu: &CpuPool,
    ) -> Result<Self, Error> {
        let Ok(bound) = filter::bind(filter, schema) else {
            return Ok(Self::default());
        };
        let new = |part: &&SegmentPart| found.is_none_or(|f| f.segment(part).is_none());
        let new = Snapshot {
            schema: schema.clone(),
            parts: Arc::default(),
            segments: Arc::new(snapshot.segments.iter().filter(new).cloned().collect()),
            ..snapshot.clone()
        };
        let mut new = matching(&new, &Arc::new(bound), cpu).await?.segments.into_iter();
        // In the order of the segments, as `new` is.
        let rows = snapshot.segments.iter().filter_map(|part| {
            let known = found.and_then(|f| f.segment(part)).cloned();
            Some((part.clone(), known.or_else(|| new.next())?))
        });
        let rows: Vec<(SegmentPart, Bitset)> = rows.collect();
        let count = move || {
            let mut holding = Self::default();
            for (part, mut rows) in rows {
                rows.and(&part.live);
                let count = rows.count() as u64;
                if count > 0 {
                    holding.count += count;
                    holding.segments.push((part.segment, rows));
                }
            }
            holding
        };
        Ok(cpu.run(Priority::Foreground, count).await)
    }
}
