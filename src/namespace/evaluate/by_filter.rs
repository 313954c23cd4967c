//! Operations on all rows that match a filter.
//!
//! Two phases (serializable, stronger than the documented read committed): before the request
//! queues up, [`Matched::on`] evaluates its filters on the newest snapshot; when it is committed,
//! only chunks and segments that came since are evaluated. They never change, so what was found in one stays
//! right; which of its rows are live is asked again.

use std::collections::HashMap;
use std::sync::Arc;

use super::stored::StoredRows;
use crate::base::{Bitset, CpuPool};
use crate::error::Error;
use crate::model::write::{PatchByFilter, Write};
use crate::model::{Filter, IdColumn, Invalid, Limits, NamedColumn, RowBatch, Schema};
use crate::query::{Matching, filter, matching as matching_rows};
use crate::segment::{SegmentId, SegmentPart};
use crate::snapshot::Snapshot;
use crate::tail::{self, Chunk, Part};

/// What a request's filters match in the chunks and segments of a snapshot.
pub(in crate::namespace) struct Matched {
    /// What the filters were bound to.
    pub(super) schema: Arc<Schema>,
    pub(super) delete: Found,
    pub(super) patch: Found,
    /// Rows of the snapshot that match `patch_by_filter`.
    patched: u64,
}

// Only looked up, never iterated: their order matters to nobody.
#[derive(Default)]
pub(super) struct Found {
    /// By the address of a chunk, which is held so that the address stays its own.
    chunks: HashMap<usize, (Arc<Chunk>, Bitset)>,
    segments: HashMap<SegmentId, Bitset>,
}

/// Why nothing was found.
#[derive(Debug)]
pub(in crate::namespace) enum Unmatched {
    /// A filter does not fit the schema.
    Invalid,
    /// A segment cannot be read.
    Unread(Error),
}

impl Matched {
    /// Evaluates the filters of a write on a snapshot, beside whatever is being committed.
    ///
    /// # Errors
    ///
    /// A filter that does not fit the schema, or a segment that cannot be read.
    pub async fn on(snapshot: &Snapshot, write: &Write, cpu: &CpuPool) -> Result<Option<Self>, Unmatched> {
        // A request that changes the schema is evaluated whole when it is committed.
        if !write.by_filter() || !write.schema.is_empty() {
            return Ok(None);
        }
        let search = async |filter: Option<&Filter>| match filter {
            Some(filter) => {
                let bound = filter::bind(filter, &snapshot.schema).map_err(|_| Unmatched::Invalid)?;
                let found = matching_rows(snapshot, &Arc::new(bound), cpu).await;
                Ok(Found::of(snapshot, found.map_err(Unmatched::Unread)?))
            }
            None => Ok::<_, Unmatched>(Found::default()),
        };
        let patch = search(write.patch_by_filter.as_ref().map(|p| &p.filter)).await?;
        Ok(Some(Self {
            delete: search(write.delete_by_filter.as_ref().map(|d| &d.filter)).await?,
            patched: patch.live(&snapshot.parts, &snapshot.segments),
            patch,
            schema: snapshot.schema.clone(),
        }))
    }
}

impl Found {
    fn of(snapshot: &Snapshot, matching: Matching) -> Self {
        let chunks = snapshot.parts.iter().zip(matching.parts);
        let segments = snapshot.segments.iter().zip(matching.segments);
        Self {
            chunks: chunks
                .map(|(p, rows)| (address(&p.chunk), (p.chunk.clone(), rows)))
                .collect(),
            segments: segments.map(|(p, rows)| (p.segment.meta().id, rows)).collect(),
        }
    }

    /// How many of the rows are live.
    fn live(&self, parts: &[Part], segments: &[SegmentPart]) -> u64 {
        let count = |matching: &Bitset, live: &Bitset| {
            let mut both = matching.clone();
            both.and(live);
            both.count() as u64
        };
        let chunk = |part: &Part| Some(count(&self.chunks.get(&address(&part.chunk))?.1, &part.live));
        let segment = |part: &SegmentPart| Some(count(self.segment(part)?, &part.live));
        parts.iter().filter_map(chunk).sum::<u64>() + segments.iter().filter_map(segment).sum::<u64>()
    }

    /// The rows that match in a segment, dead or alive.
    pub(super) fn segment(&self, part: &SegmentPart) -> Option<&Bitset> {
        self.segments.get(&part.segment.meta().id)
    }
}

/// About how much memory the rows of a `patch_by_filter` take once its values are repeated for each
/// of them, in bytes; 0 for other writes. A few bytes of a request can become half a gigabyte.
///
/// * `rows` — how many there are in the namespace
pub(in crate::namespace) fn repeated_bytes(
    write: &Write,
    matched: Option<&Matched>,
    rows: usize,
    limits: &Limits,
) -> u64 {
    let Some(patch) = &write.patch_by_filter else { return 0 };
    let most = rows.min(limits.patch_by_filter_max) as u64;
    let rows = matched.map_or(most, |m| m.patched.min(most));
    // A value takes some bytes however short it is, and so does an id.
    let values = patch.bytes.saturating_add(8 * (1 + patch.patch.len() as u64));
    // More is refused when it is evaluated.
    rows.saturating_mul(values).min(limits.body_bytes_max)
}

/// How many rows of segments a write moves into memory at most: those that it patches, and those that its conditions
/// are evaluated on.
///
/// * `rows` — how many there are in segments
pub(in crate::namespace) fn promoted_rows(write: &Write, matched: Option<&Matched>, rows: u64, limits: &Limits) -> u64 {
    let conditions = &write.conditions;
    let patches = write.patches.iter().flatten().map(|batch| batch.len());
    let upserts = write
        .upserts
        .iter()
        .filter(|_| conditions.upsert.is_some())
        .map(|batch| batch.len());
    let deletes = write
        .deletes
        .iter()
        .filter(|_| conditions.delete.is_some())
        .map(IdColumn::len);
    let named = patches.chain(upserts).chain(deletes).sum::<usize>() as u64;
    let most = limits.patch_by_filter_max as u64;
    let found = match &write.patch_by_filter {
        Some(_) => matched.map_or(most, |m| m.patched.min(most)),
        None => 0,
    };
    named.saturating_add(found).min(rows)
}

fn address(chunk: &Arc<Chunk>) -> usize {
    Arc::as_ptr(chunk).addr()
}

/// The rows to delete, in id order, and whether there are more.
pub(super) fn to_delete(
    filter: &Filter,
    schema: &Arc<Schema>,
    parts: &[Part],
    matched: Option<&Matched>,
    stored: &StoredRows,
    limit: Limit,
) -> Result<(IdColumn, bool), Invalid> {
    let found = matched.filter(|m| m.schema == *schema).map(|m| &m.delete);
    matching(filter, schema, parts, found, stored, limit)
}

/// The rows to patch, in id order, with their new values, and whether there are more.
///
/// # Errors
///
/// Also when the values, repeated for every row, are more than a request may write.
pub(super) fn to_patch(
    patch: &PatchByFilter,
    schema: &Arc<Schema>,
    parts: &[Part],
    matched: Option<&Matched>,
    stored: &StoredRows,
    limit: Limit,
    bytes_max: u64,
) -> Result<(RowBatch, bool), Invalid> {
    let found = matched.filter(|m| m.schema == *schema).map(|m| &m.patch);
    let (ids, more) = matching(&patch.filter, schema, parts, found, stored, limit)?;
    if patch.bytes.saturating_mul(ids.len() as u64) > bytes_max {
        return Err(Invalid::new(format!(
            "patch_by_filter: {} rows would each get {} bytes, more than the {bytes_max} bytes that a request may \
             write; narrow the filter",
            ids.len(),
            patch.bytes
        )));
    }
    let places = vec![Some((0, 0)); ids.len()];
    let column = |value: &NamedColumn| NamedColumn {
        column: tail::gather(value.ty, &[&value.column], &places),
        ..value.clone()
    };
    let columns = patch.patch.iter().map(column).collect();
    Ok((RowBatch { ids, columns }, more))
}

/// How many rows an operation may touch.
#[derive(Clone, Copy)]
pub(super) struct Limit {
    pub operation: &'static str,
    pub rows: usize,
    /// Whether to touch so many when there are more, rather than none.
    pub allow_partial: bool,
}

impl Limit {
    pub fn of_delete(allow_partial: bool, limits: &Limits) -> Self {
        Self {
            operation: "delete_by_filter",
            rows: limits.delete_by_filter_max,
            allow_partial,
        }
    }

    pub fn of_patch(allow_partial: bool, limits: &Limits) -> Self {
        Self {
            operation: "patch_by_filter",
            rows: limits.patch_by_filter_max,
            allow_partial,
        }
    }
}

fn matching(
    filter: &Filter,
    schema: &Schema,
    parts: &[Part],
    found: Option<&Found>,
    stored: &StoredRows,
    limit: Limit,
) -> Result<(IdColumn, bool), Invalid> {
    let bound = filter::bind(filter, schema)?;
    let mut places: Vec<(usize, usize)> = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let mut rows = match found.and_then(|f| f.chunks.get(&address(&part.chunk))) {
            Some((_, matching)) => matching.clone(),
            None => filter::evaluate(&bound, &part.chunk),
        };
        rows.and(&part.live);
        places.extend(rows.iter().map(|row| (at, row)));
    }
    let matches = places.len() as u64 + stored.count;
    let more = matches > limit.rows as u64;
    if more && !limit.allow_partial {
        let Limit { operation, rows, .. } = limit;
        return Err(Invalid::new(format!(
            "{operation} matches {matches} rows, and one request may touch {rows}; nothing was changed: set \
             {operation}_allow_partial and repeat the request while the answer has rows_remaining"
        )));
    }
    let ids: Vec<&IdColumn> = parts.iter().map(|p| &p.chunk.ids).chain(&stored.ids).collect();
    for (at, column) in stored.ids.iter().enumerate() {
        places.extend((0..column.len()).map(|row| (parts.len() + at, row)));
    }
    // In id order, so that what is done does not depend on how rows are spread over parts.
    places.sort_unstable_by(|a, b| ids[a.0].compare(a.1, ids[b.0], b.1));
    places.truncate(limit.rows);
    Ok((tail::take_ids(&ids, &places, schema.id_kind), more))
}
