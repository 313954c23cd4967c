//! Does something for each segment of a snapshot, within the budget of a request.

use futures::future::BoxFuture;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::budget::Budget;
use crate::error::{ErrorKind, Result};
use crate::segment::SegmentPart;

/// How many segments are read at a time.
const SEGMENTS_AT_ONCE: usize = 8;

/// What `one` makes of each segment, in their order, some at a time.
///
/// What is charged while something is read is more than what is kept of it. A segment that finds no room beside others
/// is hence begun again when these are through, alone: what does not fit then does not fit at all.
///
/// # Errors
///
/// The first of `one`.
pub(super) async fn each<'a, T>(
    segments: &'a [SegmentPart],
    budget: &Budget,
    one: impl Fn(&'a SegmentPart) -> BoxFuture<'a, Result<T>>,
) -> Result<Vec<T>> {
    let beside = |part| {
        let made = one(part);
        async move {
            match made.await {
                Err(error) if error.kind == ErrorKind::Overloaded => Ok(None),
                made => made.map(Some),
            }
        }
    };
    let beside: Vec<_> = segments.iter().map(beside).collect();
    let made: Vec<Option<T>> = {
        let _beside = budget.beside().await;
        stream::iter(beside).buffered(SEGMENTS_AT_ONCE).try_collect().await?
    };
    if made.iter().all(Option::is_some) {
        return Ok(made.into_iter().flatten().collect());
    }
    // The other queries of the request have read theirs side by side by then.
    let _turn = budget.turn().await;
    let mut all = Vec::with_capacity(made.len());
    for (part, made) in segments.iter().zip(made) {
        all.push(match made {
            Some(made) => made,
            None => one(part).await?,
        });
    }
    Ok(all)
}
