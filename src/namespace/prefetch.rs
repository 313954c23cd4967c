//! What requests need of segments, read before they are evaluated.
//!
//! Evaluation is pure and knows rows of the tail alone. So the rows that patches and conditions name move into the tail
//! of a private copy of the snapshot, and of the rows that filters match the ids are read. What is logged, and what
//! the entry makes of the tail, does not depend on any of this.

use std::sync::Arc;

use super::evaluate::{Change, Matched, Stored, What};
use super::state::{State, Trouble};
use crate::base::Priority;
use crate::error::Error;
use crate::model::write::{self, Write};
use crate::model::{Limits, Schema};
use crate::segment::SegmentError;
use crate::snapshot::{Snapshot, Wanted, promote};

/// What a batch is evaluated on.
pub(super) struct Prefetched {
    /// The state that the batch comes after.
    pub base: Arc<Snapshot>,
    /// The same with the rows in its tail that the batch reads.
    pub ready: Arc<Snapshot>,
    /// What filters match in segments. Only of a request that is alone in its batch.
    pub stored: Stored,
}

/// Why something was not read.
pub(super) enum NotFetched {
    /// An object is gone that the manifest names: there must be a newer manifest.
    Missing(Error),
    Failed(Error),
}

impl From<Error> for NotFetched {
    fn from(error: Error) -> Self {
        match SegmentError::is_behind(&error) {
            true => Self::Missing(error),
            false => Self::Failed(error),
        }
    }
}

impl From<SegmentError> for NotFetched {
    fn from(error: SegmentError) -> Self {
        Error::from(error).into()
    }
}

impl From<NotFetched> for Trouble {
    fn from(not: NotFetched) -> Self {
        match not {
            NotFetched::Missing(error) | NotFetched::Failed(error) => Trouble::Failed(Arc::new(error)),
        }
    }
}

/// Reads what a batch needs of the segments of `base`. Costs nothing when it needs nothing.
pub(super) async fn prefetch(
    batch: &[Arc<Change>],
    base: &Arc<Snapshot>,
    state: &State,
) -> Result<Prefetched, NotFetched> {
    if base.segments.is_empty() {
        return Ok(Prefetched {
            base: base.clone(),
            ready: base.clone(),
            stored: Stored::default(),
        });
    }
    let (cpu, limits) = (&state.runtime.cpu, &state.options.limits);
    let mut wanted = Wanted::to_evaluate();
    let mut refitted = None;
    for change in batch {
        match &change.what {
            What::Write(request) if request.write.fits(&base.schema) => want(&request.write, &mut wanted),
            What::Write(_) => {
                // Typed by another schema, its ids and filters may mean something else; so it will be evaluated.
                let (change, schema, limits) = (change.clone(), base.schema.clone(), limits.clone());
                let refit = move || refit(&change, &schema, &limits);
                refitted = cpu.run(Priority::Foreground, refit).await;
                refitted.iter().for_each(|write| want(write, &mut wanted));
            }
            _ => {}
        }
    }
    let ready = match wanted.is_empty() {
        true => base.clone(),
        false => Arc::new(promote(base, wanted, cpu).await?),
    };
    let stored = match batch.iter().map(|change| &change.what).collect::<Vec<_>>()[..] {
        [What::Write(request)] => {
            let write = refitted.as_ref().unwrap_or(&request.write);
            Stored::read(&ready, write, request.matched.as_ref(), limits, &state.runtime).await?
        }
        _ => Stored::default(),
    };
    Ok(Prefetched {
        base: base.clone(),
        ready,
        stored,
    })
}

/// A write as it means under another schema. `None` when it is wrong then, which is said when it is evaluated.
fn refit(change: &Change, schema: &Schema, limits: &Limits) -> Option<Write> {
    let What::Write(request) = &change.what else {
        return None;
    };
    write::prepare_with(&request.body.bytes, schema, limits, &request.write.embeddings).ok()
}

/// Reads what a single write needs, so that it is in the cache when the write is committed. Returns what evaluating it
/// may be tried on; `None` when it needs nothing of segments.
pub(super) async fn read_ahead(
    write: &Write,
    matched: Option<&Matched>,
    base: &Arc<Snapshot>,
    state: &State,
) -> Result<Option<(Arc<Snapshot>, Stored)>, NotFetched> {
    let mut wanted = Wanted::to_evaluate();
    want(write, &mut wanted);
    let needs_nothing = wanted.is_empty() && !write.by_filter();
    if base.segments.is_empty() || needs_nothing || !write.fits(&base.schema) {
        return Ok(None);
    }
    let ready = Arc::new(promote(base, wanted, &state.runtime.cpu).await?);
    let stored = Stored::read(&ready, write, matched, &state.options.limits, &state.runtime).await?;
    Ok(Some((ready, stored)))
}

/// The rows that evaluating a write looks at, but for those that its filters match.
fn want(write: &Write, wanted: &mut Wanted) {
    let conditions = &write.conditions;
    // What a filter may match must have its values.
    let values = write.by_filter();
    for batch in write.patches.iter().flatten() {
        match conditions.patch.is_some() || values {
            true => wanted.values(&batch.ids),
            false => wanted.exist(&batch.ids),
        }
    }
    if let (Some(batch), Some(_)) = (&write.upserts, &conditions.upsert) {
        wanted.values(&batch.ids);
    }
    if let (Some(ids), Some(_)) = (&write.deletes, &conditions.delete) {
        wanted.values(ids);
    }
}
