//! `limit.per`: at most so many rows that agree in some attributes.
//!
//! The answer is what a walk over the whole order keeps that skips every row beyond the cap of its values. Mostly
//! a short part of the order is enough: the walk starts on that, and on a part 32 times as long when it was not.

use std::sync::Arc;

use hashbrown::HashMap;

use super::exec::{self, Found, Work};
use super::key::{Source, SourceColumn};
use crate::base::{CpuPool, Priority};
use crate::error::Result;
use crate::model::query::LimitPer;
use crate::model::{Invalid, Limits, Schema};

/// A [`LimitPer`] whose attributes are known.
pub struct BoundPer {
    attributes: Vec<Source>,
    limit: usize,
    /// What the different values may take in memory.
    bytes_max: usize,
}

impl BoundPer {
    /// Where the values come from.
    pub(super) fn sources(&self) -> impl Iterator<Item = Source> {
        self.attributes.iter().copied()
    }
}

/// Rows of the order that are looked at first, unless more are needed.
const FIRST_ROWS: usize = 1024;
/// How many times as many the next time. Every time costs a whole search: few are better than short ones.
const GROWTH: usize = 32;

/// Checks `limit.per` against a schema.
///
/// # Errors
///
/// The sentence for the client.
pub(super) fn bind(per: &LimitPer, schema: &Schema, limits: &Limits) -> Result<BoundPer, Invalid> {
    if per.attributes.is_empty() || per.attributes.len() > limits.group_keys_max || per.limit == 0 {
        return Err(Invalid::new(format!(
            "limit.per takes 1 to {} attributes and a limit of at least 1",
            limits.group_keys_max
        )));
    }
    let attribute = |name: &String| -> Result<Source, Invalid> {
        let source = Source::find(name, schema)?;
        if source.is_array {
            return Err(Invalid::new(format!(
                "{name:?} is {}, and only single values can be compared",
                source.type_name()
            )));
        }
        source.check_short(name)?;
        Ok(source)
    };
    let attributes: Result<_, Invalid> = per.attributes.iter().map(attribute).collect();
    Ok(BoundPer {
        attributes: attributes.map_err(|e| Invalid::new(format!("invalid limit.per: {e}")))?,
        limit: per.limit,
        bytes_max: limits.distinct_bytes_max,
    })
}

/// The first `k` rows of the plan's order that its [`BoundPer`] keeps.
pub(super) async fn find(work: &Arc<Work>, cpu: &CpuPool) -> Result<Vec<Found>> {
    let rows: usize = work.parts.iter().map(|p| p.chunk.len()).sum();
    let mut k = work.k.max(FIRST_ROWS);
    loop {
        let longer = Arc::new(Work { k, ..Work::clone(work) });
        let found = exec::find(&longer, cpu).await?;
        let is_all = found.len() < k || k >= rows;
        let wanted = work.k;
        let kept = cpu
            .run(Priority::Foreground, move || keep(&longer, &found, wanted))
            .await?;
        if is_all || kept.len() == wanted {
            return Ok(kept);
        }
        k = k.saturating_mul(GROWTH);
    }
}

/// Walks over `found` until `wanted` rows were kept.
///
/// # Errors
///
/// The values of these rows take too much memory.
fn keep(work: &Work, found: &[Found], wanted: usize) -> Result<Vec<Found>, Invalid> {
    let Some(per) = &work.plan.per else {
        return Ok(found.to_vec());
    };
    let columns: Vec<Vec<SourceColumn<'_>>> = work
        .parts
        .iter()
        .map(|part| per.attributes.iter().map(|s| s.column(&part.chunk)).collect())
        .collect();
    let mut seen: HashMap<Vec<u8>, usize> = HashMap::new();
    let (mut values, mut bytes) = (Vec::new(), 0);
    let mut kept = Vec::with_capacity(wanted.min(found.len()));
    for row in found {
        if kept.len() == wanted {
            break;
        }
        values.clear();
        for column in &columns[row.at.part as usize] {
            column.push_row(&mut values, row.at.row as usize);
        }
        let count = seen.entry_ref(values.as_slice()).or_insert_with(|| {
            bytes += values.len();
            0
        });
        if bytes > per.bytes_max {
            return Err(Invalid::new(format!(
                "the values that limit.per tells apart have more than {} bytes; name attributes of shorter values",
                per.bytes_max
            )));
        }
        if *count < per.limit {
            *count += 1;
            kept.push(*row);
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests;
