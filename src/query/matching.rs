//! The rows that a filter holds for, for those who write them.

use std::sync::Arc;

use futures::FutureExt;

use super::budget::Budget;
use super::filter::{BoundFilter, Prepared, Stored, evaluate};
use super::reader::Reader;
use super::turns;
use crate::base::{Bitset, CpuPool, Priority};
use crate::error::Result;
use crate::snapshot::Snapshot;

/// Parts of a filter that are looked at in place.
const PREPARED_IN_PLACE_MAX: usize = 128;

/// The rows of a snapshot for which a filter holds, dead ones included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matching {
    /// Of each part of the tail.
    pub parts: Vec<Bitset>,
    /// Of each segment.
    pub segments: Vec<Bitset>,
}

/// Finds the rows of a snapshot for which a filter holds, dead ones included.
///
/// What is found in a part or a segment stays right, because neither ever changes; which rows are live does. The ids
/// of rows of a segment are [`Segment::fetch`](crate::segment::Segment::fetch)ed without attributes.
///
/// Costs the requests of what is not in the cache.
///
/// * `filter` — bound to the snapshot's schema
///
/// # Errors
///
/// The segments cannot be read, or are too much for one query.
pub async fn matching(snapshot: &Snapshot, filter: &Arc<BoundFilter>, cpu: &CpuPool) -> Result<Matching> {
    let jobs = snapshot.parts.iter().map(|part| {
        let (filter, chunk) = (filter.clone(), part.chunk.clone());
        move || evaluate(&filter, &chunk)
    });
    let parts = cpu.run_all(Priority::Foreground, jobs.collect());
    let budget = Budget::default();
    let prepared = prepare(filter, snapshot, cpu).await;
    let (budget, prepared) = (&budget, &prepared);
    let segments = turns::each(&snapshot.segments, budget, |part| {
        let reader = Reader {
            segment: &part.segment,
            schema: &snapshot.schema,
            cpu,
            budget,
        };
        async move {
            let stored = Stored(reader);
            let planned = stored.plan(prepared).await?;
            stored.holding(&planned, Bitset::full(reader.len())).await
        }
        .boxed()
    });
    let (parts, segments) = futures::join!(parts, segments);
    Ok(Matching {
        parts,
        segments: segments?,
    })
}

/// What indexes are asked for a filter; nothing where there are no segments.
pub(super) async fn prepare(filter: &BoundFilter, snapshot: &Snapshot, cpu: &CpuPool) -> Prepared {
    if snapshot.segments.is_empty() {
        return Prepared::default();
    }
    let filter = filter.clone();
    match filter.weight() <= PREPARED_IN_PLACE_MAX {
        true => Prepared::new(filter),
        false => cpu.run(Priority::Foreground, move || Prepared::new(filter)).await,
    }
}
