//! Operations on all rows that match a filter.
//!
//! Two phases (serializable, stronger than the documented read committed): before the request
//! queues up, [`Matched::on`] evaluates its filters on the newest snapshot; when it is committed,
//! only chunks that came since are evaluated. Chunks never change, so what was found in one stays
//! right; which of its rows are live is asked again.

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::{Bitset, CpuPool, Priority};
use crate::model::write::{PatchByFilter, Write};
use crate::model::{Filter, IdColumn, Invalid, Limits, NamedColumn, RowBatch, Schema};
use crate::query::filter::{self, BoundFilter};
use crate::snapshot::Snapshot;
use crate::tail::{self, Chunk, Part};

/// What a request's filters match in the chunks of a snapshot.
pub(in crate::namespace) struct Matched {
    /// What the filters were bound to.
    schema: Arc<Schema>,
    delete: Found,
    patch: Found,
    /// Rows of the snapshot that match `patch_by_filter`.
    patched: u64,
}

/// By the address of a chunk, which is held so that the address stays its own.
// Only looked up, never iterated: its order matters to nobody.
#[derive(Default)]
struct Found(HashMap<usize, (Arc<Chunk>, Bitset)>);

impl Matched {
    /// Evaluates the filters of a write on a snapshot, beside whatever is being committed.
    ///
    /// # Errors
    ///
    /// A filter that does not fit the schema.
    pub async fn on(snapshot: &Snapshot, write: &Write, cpu: &CpuPool) -> Result<Option<Self>, Invalid> {
        // A request that changes the schema is evaluated whole when it is committed.
        if !write.by_filter() || !write.schema.is_empty() {
            return Ok(None);
        }
        let search = async |filter: Option<&Filter>| match filter {
            Some(filter) => {
                let bound = Arc::new(filter::bind(filter, &snapshot.schema)?);
                Ok(search(&bound, &snapshot.parts, cpu).await)
            }
            None => Ok(Found::default()),
        };
        let patch = search(write.patch_by_filter.as_ref().map(|p| &p.filter)).await?;
        Ok(Some(Self {
            delete: search(write.delete_by_filter.as_ref().map(|d| &d.filter)).await?,
            patched: patch.live(&snapshot.parts),
            patch,
            schema: snapshot.schema.clone(),
        }))
    }
}

impl Found {
    /// How many of the rows are live in `parts`.
    fn live(&self, parts: &[Part]) -> u64 {
        let live = |part: &Part| {
            let (_, matching) = self.0.get(&address(&part.chunk))?;
            let mut live = matching.clone();
            live.and(&part.live);
            Some(live.count() as u64)
        };
        parts.iter().filter_map(live).sum()
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

async fn search(filter: &Arc<BoundFilter>, parts: &[Part], cpu: &CpuPool) -> Found {
    let jobs = parts.iter().map(|part| {
        let (filter, chunk) = (filter.clone(), part.chunk.clone());
        move || {
            let matching = filter::evaluate(&filter, &chunk);
            (address(&chunk), (chunk, matching))
        }
    });
    let found = cpu.run_all(Priority::Foreground, jobs.collect()).await;
    Found(found.into_iter().collect())
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
    limit: Limit,
) -> Result<(IdColumn, bool), Invalid> {
    let found = matched.filter(|m| m.schema == *schema).map(|m| &m.delete);
    matching(filter, schema, parts, found, limit)
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
    limit: Limit,
    bytes_max: u64,
) -> Result<(RowBatch, bool), Invalid> {
    let found = matched.filter(|m| m.schema == *schema).map(|m| &m.patch);
    let (ids, more) = matching(&patch.filter, schema, parts, found, limit)?;
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

fn matching(
    filter: &Filter,
    schema: &Schema,
    parts: &[Part],
    found: Option<&Found>,
    limit: Limit,
) -> Result<(IdColumn, bool), Invalid> {
    let bound = filter::bind(filter, schema)?;
    let mut places: Vec<(usize, usize)> = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let mut rows = match found.and_then(|f| f.0.get(&address(&part.chunk))) {
            Some((_, matching)) => matching.clone(),
            None => filter::evaluate(&bound, &part.chunk),
        };
        rows.and(&part.live);
        places.extend(rows.iter().map(|row| (at, row)));
    }
    let more = places.len() > limit.rows;
    if more && !limit.allow_partial {
        let Limit { operation, rows, .. } = limit;
        return Err(Invalid::new(format!(
            "{operation} matches {} rows, and one request may touch {rows}; nothing was changed: set \
             {operation}_allow_partial and repeat the request while the answer has rows_remaining",
            places.len()
        )));
    }
    let ids: Vec<&IdColumn> = parts.iter().map(|p| &p.chunk.ids).collect();
    // In id order, so that what is done does not depend on how rows are spread over parts.
    places.sort_unstable_by(|a, b| ids[a.0].compare(a.1, ids[b.0], b.1));
    places.truncate(limit.rows);
    Ok((tail::take_ids(&ids, &places, schema.id_kind), more))
}
