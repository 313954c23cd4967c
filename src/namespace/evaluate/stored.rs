//! What the filters of a request match in segments, read before it is evaluated.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::UInt64Array;
use futures::future::try_join_all;

use super::by_filter::{Found, Limit, Matched};
use crate::base::{Bitset, CpuPool, Priority};
use crate::error::Error;
use crate::model::write::Write;
use crate::model::{Filter, IdColumn, IdKind, Limits};
use crate::query::{filter, matching};
use crate::segment::SegmentPart;
use crate::snapshot::Snapshot;

/// What the filters of a request match in segments.
#[derive(Default)]
pub(in crate::namespace) struct Stored {
    pub(super) delete: StoredRows,
    pub(super) patch: StoredRows,
}

/// Live rows of segments.
#[derive(Clone, Default)]
pub(super) struct StoredRows {
    /// How many match.
    pub count: u64,
    /// Their ids; of each segment the first ones in id order, as many as may be touched at all.
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
    /// reads the ids of the rows that match.
    ///
    /// A filter that does not fit the schema matches nothing here; what is wrong with it is said when the write is
    /// evaluated.
    pub async fn read(
        snapshot: &Snapshot,
        write: &Write,
        matched: Option<&Matched>,
        limits: &Limits,
        cpu: &CpuPool,
    ) -> Result<Self, Error> {
        if !write.by_filter() {
            return Ok(Self::default());
        }
        let mut schema = snapshot.schema.clone();
        if !write.schema.is_empty() {
            Arc::make_mut(&mut schema).apply(&write.schema);
        }
        let matched = matched.filter(|m| m.schema == schema);
        let read = async |filter: &Filter, found: Option<&Found>, most: usize| {
            let Ok(bound) = filter::bind(filter, &schema) else {
                return Ok(StoredRows::default());
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
                Some((part, known.or_else(|| new.next())?))
            });
            let ids = rows.map(|(part, rows)| live_ids(part, rows, most, cpu));
            let ids = try_join_all(ids).await?;
            Ok::<_, Error>(StoredRows {
                count: ids.iter().map(|(count, _)| count).sum(),
                ids: ids
                    .into_iter()
                    .map(|(_, ids)| ids)
                    .filter(|ids| !ids.is_empty())
                    .collect(),
            })
        };
        // Of a request with both filters, all rows that match the second one: those that the first deletes do not count.
        let (delete, patch) = (&write.delete_by_filter, &write.patch_by_filter);
        let mut stored = Self::default();
        if let Some(delete) = delete {
            let limit = Limit::of_delete(delete.allow_partial, limits);
            stored.delete = read(&delete.filter, matched.map(|m| &m.delete), limit.rows).await?;
        }
        if let Some(patch) = patch {
            let most = match delete.is_some() {
                true => usize::MAX,
                false => Limit::of_patch(patch.allow_partial, limits).rows,
            };
            stored.patch = read(&patch.filter, matched.map(|m| &m.patch), most).await?;
        }
        Ok(stored)
    }
}

/// How many of the rows are live, and the first `most` of their ids, in id order.
async fn live_ids(part: &SegmentPart, mut rows: Bitset, most: usize, cpu: &CpuPool) -> Result<(u64, IdColumn), Error> {
    rows.and(&part.live);
    let count = rows.count() as u64;
    if count == 0 {
        return Ok((0, IdColumn::from_ids(IdKind::UInt, std::iter::empty())));
    }
    let ids = part.segment.ids().await?;
    let take = move || {
        let mut rows: Vec<u64> = rows.iter().map(|row| row as u64).collect();
        rows.sort_unstable_by(|a, b| ids.compare(*a as usize, &ids, *b as usize));
        rows.truncate(most);
        ids.take(&UInt64Array::from(rows))
    };
    Ok((count, cpu.run(Priority::Foreground, take).await))
}
