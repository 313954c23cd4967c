//! Writes whose effect depends on stored values: by filter, and with conditions.

use std::sync::Arc;

use super::by_filter::{self, Limit, Matched};
use super::condition::{self, Missing};
use super::rows::Rows;
use super::stored::Stored;
use crate::model::batch::ids_bytes;
use crate::model::schema::SchemaChange;
use crate::model::write::{Counts, Write};
use crate::model::{IdColumn, Invalid, Limits, RowBatch, Schema};
use crate::wal::Operation;

/// What a write does to `rows`, in the documented order: the schema, deletes by filter, patches by
/// filter, then everything else on what these leave behind.
///
/// * `stored` — what its filters match in segments
/// * `rows` — as the requests before it leave them; brought up to date, otherwise unchanged
pub(super) fn search(
    write: &Write,
    schema: &Arc<Schema>,
    rows: &mut Rows,
    matched: Option<&Matched>,
    stored: &Stored,
    limits: &Limits,
) -> Result<(Vec<Operation>, Counts), Invalid> {
    let mut schema = schema.clone();
    rows.parts();
    let mut rows = rows.clone();
    if !write.schema.is_empty() {
        Arc::make_mut(&mut schema).apply(&write.schema);
        rows.push(write.schema.clone(), Vec::new());
    }
    let mut done = Done::default();
    let mut deleted = None;
    if let Some(delete) = &write.delete_by_filter {
        let limit = Limit::of_delete(delete.allow_partial, limits);
        let (ids, more) = by_filter::to_delete(&delete.filter, &schema, rows.parts(), matched, &stored.delete, limit)?;
        done.remaining(limit, more);
        rows.push(SchemaChange::default(), vec![Operation::Delete(ids.clone())]);
        deleted = Some(ids.clone());
        done.delete(ids);
    }
    if let Some(patch) = &write.patch_by_filter {
        let limit = Limit::of_patch(patch.allow_partial, limits);
        let bytes_max = limits.body_bytes_max;
        let left = stored.patch.without(deleted.as_ref());
        let (batch, more) = by_filter::to_patch(patch, &schema, rows.parts(), matched, &left, limit, bytes_max)?;
        done.remaining(limit, more);
        rows.push(SchemaChange::default(), vec![Operation::Patch(batch.clone())]);
        done.patch(batch);
    }
    // The ids of these are distinct, so that none of them sees what another does.
    let conditions = &write.conditions;
    if let Some(batch) = &write.upserts {
        done.upsert(match &conditions.upsert {
            Some(condition) => condition::passing(batch, condition, Missing::Applies, &schema, &mut rows)?,
            None => batch.clone(),
        });
    }
    for batch in write.patches.iter().flatten() {
        done.patch(match &conditions.patch {
            Some(condition) => condition::passing(batch, condition, Missing::Skipped, &schema, &mut rows)?,
            None => condition::stored(batch, &rows),
        });
    }
    if let Some(ids) = &write.deletes {
        done.delete(match &conditions.delete {
            Some(condition) => condition::passing_ids(ids, condition, &schema, &mut rows)?,
            None => ids.clone(),
        });
    }
    Ok((done.operations, done.counts))
}

/// What was decided so far.
struct Done {
    operations: Vec<Operation>,
    counts: Counts,
}

impl Default for Done {
    fn default() -> Self {
        Self {
            operations: Vec::new(),
            counts: Counts {
                searched: true,
                ..Counts::default()
            },
        }
    }
}

impl Done {
    fn upsert(&mut self, batch: RowBatch) {
        count(&mut self.counts.upserted, batch.len());
        self.counts.logical_bytes += batch.logical_bytes();
        self.push(Operation::Upsert(batch));
    }

    fn patch(&mut self, batch: RowBatch) {
        count(&mut self.counts.patched, batch.len());
        self.counts.logical_bytes += batch.logical_bytes();
        self.push(Operation::Patch(batch));
    }

    fn delete(&mut self, ids: IdColumn) {
        count(&mut self.counts.deleted, ids.len());
        self.counts.logical_bytes += ids_bytes(&ids);
        self.push(Operation::Delete(ids));
    }

    fn push(&mut self, operation: Operation) {
        if operation.rows() > 0 {
            self.operations.push(operation);
        }
    }

    /// Reported only to clients who asked for partial work.
    fn remaining(&mut self, limit: Limit, more: bool) {
        if limit.allow_partial {
            self.counts.remaining = Some(more || self.counts.remaining.unwrap_or(false));
        }
    }
}

fn count(kind: &mut Option<u64>, rows: usize) {
    *kind = Some(kind.unwrap_or(0) + rows as u64);
}
