//! Values computed for the rows of an answer: distances, scores, filters and highlights.
//!
//! `bind` checks them against the schema together with the query, [`Computer::weigh`] collects the
//! statistics they need, once per query, and [`Computer::row`] computes them for the rows that are
//! returned, and for no others.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;

use super::Computed;
use super::exec::RowRef;
use super::filter::{self, BoundFilter, matches_row};
use super::highlight::{self, BoundHighlight, Highlighter, Scratch};
use super::nearest::{self, BoundVectors};
use super::plan::Projected;
use super::score::{self, BoundScore};
use crate::error::{Error, Result};
use crate::model::query::{Compute, VectorQuery};
use crate::model::{AttrId, Column, Invalid, Limits, Query, Schema};
use crate::tail::Part;

/// How many bytes the highlighted fragments of one query may have together. Without this bound, a
/// small request could ask for every value of a namespace some hundred times over.
const FRAGMENT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// One computed attribute, bound to a schema.
pub enum Bound {
    Distance(BoundVectors),
    Score(BoundScore),
    Highlight(BoundHighlight),
    Filter(BoundFilter),
}

/// Binds what a query computes, by name.
///
/// * `projection` — the attributes that a row has besides
///
/// # Errors
///
/// A name that a row has already, or an expression that does not fit the schema.
pub fn bind(
    query: &Query,
    schema: &Schema,
    limits: &Limits,
    projection: &[Projected],
) -> Result<Vec<(Arc<str>, Bound)>, Invalid> {
    if query.compute.len() > limits.computed_attributes_max {
        return Err(Invalid::new(format!(
            "compute_attributes may have at most {} names",
            limits.computed_attributes_max
        )));
    }
    if query.aggregation.is_some() && !query.compute.is_empty() {
        return Err(Invalid::new(
            "compute_attributes computes values of rows, and aggregate_by returns none",
        ));
    }
    let bind = |(name, compute): &(Arc<str>, Compute)| {
        if projection.iter().any(|p| p.name == *name) {
            return Err(Invalid::new(format!(
                "compute_attributes cannot use the name {name:?}, because rows have the attribute of that name; \
                 use another name or leave the attribute out"
            )));
        }
        let at = |e: Invalid| Invalid {
            message: format!("invalid compute_attributes {name:?}: {}", e.message),
            ..e
        };
        Ok((name.clone(), bind_one(compute, query, schema, limits).map_err(at)?))
    };
    query.compute.iter().map(bind).collect()
}

fn bind_one(compute: &Compute, query: &Query, schema: &Schema, limits: &Limits) -> Result<Bound, Invalid> {
    Ok(match compute {
        Compute::VectorDistance { attribute, query: of } => distance(attribute, of, query, schema, limits)?,
        Compute::Highlight(asked) => Bound::Highlight(highlight::bind(asked, query.rank_by.as_ref(), schema)?),
        Compute::Filter(f) => Bound::Filter(filter::bind(f, schema)?),
        Compute::Score(s) => Bound::Score(score::bind(s, schema, limits)?),
    })
}

/// By the metric of the column. That of the query is for columns that have none: it says how rows are
/// ranked, not what is computed.
fn distance(name: &str, of: &VectorQuery, query: &Query, schema: &Schema, limits: &Limits) -> Result<Bound, Invalid> {
    let column = schema.require(name)?;
    let metric = match column.ann.or(column.metric) {
        Some(_) => None,
        None => query.distance_metric,
    };
    nearest::bind(name, of, false, metric, schema, limits).map(Bound::Distance)
}

/// What a value needs to know of the whole snapshot.
enum Weighed {
    Nothing,
    Highlight(Highlighter),
    Score(score::Weighed),
}

/// Computes the values of one query's rows. One for all jobs.
pub struct Computer {
    weighed: Vec<Weighed>,
    /// How many bytes the fragments have so far.
    fragment_bytes: AtomicU64,
}

impl Computer {
    /// Collects the statistics that the values need.
    ///
    /// Costs a look-up per part and term of every highlight and text clause.
    ///
    /// * `all` — the parts of the snapshot
    /// * `parts` — those of the rows
    pub fn weigh(bound: &[(Arc<str>, Bound)], all: &[Part], parts: &[Part]) -> Self {
        let weigh = |bound: &Bound| match bound {
            Bound::Highlight(h) => {
                let indexes = all.iter().filter_map(|p| p.chunk.text_index(h.attribute()));
                Weighed::Highlight(h.weigh(indexes.map(|i| &**i)))
            }
            Bound::Score(s) => Weighed::Score(s.weigh(all, parts)),
            Bound::Distance(_) | Bound::Filter(_) => Weighed::Nothing,
        };
        Self {
            weighed: bound.iter().map(|(_, b)| weigh(b)).collect(),
            fragment_bytes: AtomicU64::new(0),
        }
    }

    /// The values of one row, by name; null ones are left out.
    ///
    /// * `bound` — what `self` was made of
    /// * `scratch` — reused from row to row; made when a row needs it, being large
    ///
    /// # Errors
    ///
    /// When the fragments of all rows together grow too large.
    pub fn row(
        &self,
        bound: &[(Arc<str>, Bound)],
        parts: &[Part],
        at: RowRef,
        scratch: &mut Option<Scratch>,
    ) -> Result<Vec<(Arc<str>, Computed)>> {
        let part = &parts[at.part as usize];
        let mut values = Vec::with_capacity(bound.len());
        for ((name, bound), weighed) in bound.iter().zip(&self.weighed) {
            let value = match (bound, weighed) {
                (Bound::Distance(vectors), _) => vectors.distance(&part.chunk, at.row).map(Computed::Distance),
                (Bound::Filter(filter), _) => Some(Computed::Bool(matches_row(filter, &part.chunk, at.row))),
                (Bound::Score(_), Weighed::Score(score)) => Some(Computed::Score(score.row(at.part as usize, at.row))),
                (Bound::Highlight(h), Weighed::Highlight(highlighter)) => {
                    let scratch = scratch.get_or_insert_default();
                    self.fragments(part, h.attribute(), highlighter, at.row, scratch)?
                }
                (Bound::Score(_) | Bound::Highlight(_), _) => unreachable!("weighed from the same list"),
            };
            values.extend(value.map(|v| (name.clone(), v)));
        }
        Ok(values)
    }

    fn fragments(
        &self,
        part: &Part,
        attribute: AttrId,
        highlighter: &Highlighter,
        row: u32,
        scratch: &mut Scratch,
    ) -> Result<Option<Computed>> {
        let row = row as usize;
        let Some(Column::Values(column)) = part.chunk.column(attribute) else {
            return Ok(None);
        };
        if column.is_null(row) {
            return Ok(None);
        }
        let fragments = match column.data_type() {
            DataType::LargeUtf8 => highlighter.fragments(&[column.as_string::<i64>().value(row)], scratch),
            _ => {
                let elements = column.as_list::<i32>().value(row);
                let texts: Vec<&str> = elements.as_string::<i64>().iter().flatten().collect();
                highlighter.fragments(&texts, scratch)
            }
        };
        let bytes: usize = fragments.iter().map(|f| f.text.len()).sum();
        let before = self.fragment_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        match before.saturating_add(bytes as u64) <= FRAGMENT_BYTES_MAX {
            true => Ok(Some(Computed::Fragments(fragments))),
            false => Err(Error::invalid(format!(
                "the fragments of this query have more than {FRAGMENT_BYTES_MAX} bytes; \
                 lower limit or fragment_limit, or use a smaller fragment_by"
            ))),
        }
    }
}
