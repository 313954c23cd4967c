//! From a query as written to what is done for it. Pure: every check against the schema is here.

use std::sync::Arc;

use super::aggregate::{self, BoundAggregation};
use super::compute;
use super::filter::{self, BoundFilter};
use super::nearest::{self, BoundVectors};
use super::per::{self, BoundPer};
use super::score::{self, BoundScore, BoundText};
use crate::model::query::Projection;
use crate::model::{AttrId, AttrType, Attribute, Direction, Invalid, Limits, Query, RankBy, Schema};

/// What is done for one query.
pub struct Plan {
    pub filter: Option<BoundFilter>,
    pub action: Action,
    /// How many rows of the order are needed: those of the answer and those that `offset` skips.
    pub wanted: usize,
    /// How many of them are skipped.
    pub offset: usize,
    /// At most so many of them may agree in some attributes.
    pub per: Option<BoundPer>,
    /// The attributes of a result row, by name.
    pub projection: Vec<Projected>,
    /// What is computed for a result row, by name.
    pub compute: Vec<(Arc<str>, compute::Bound)>,
}

/// How rows are found and ordered.
pub enum Action {
    /// Every eligible vector is measured.
    ExactNearest { vectors: BoundVectors },
    /// Rows that contain a term, by score over all parts' statistics: what `ScoreTopK` does for a
    /// lone BM25 clause, by walking postings instead of rows.
    TextTopK { text: BoundText },
    /// Every eligible row is scored.
    ScoreTopK { score: BoundScore },
    /// Every eligible row, the first by these keys, then by id.
    OrderedScan { keys: Vec<OrderKey> },
    /// Every eligible row, the first by id.
    Lookup { direction: Direction },
    /// Every eligible row is counted; none is in the answer.
    Aggregate(Arc<BoundAggregation>),
}

/// One attribute that rows are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderKey {
    pub target: OrderTarget,
    pub direction: Direction,
}

/// What an [`OrderKey`] looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderTarget {
    Id,
    Attribute(AttrId),
}

/// One attribute of a result row.
#[derive(Clone, Debug, PartialEq)]
pub struct Projected {
    pub name: Arc<str>,
    pub id: AttrId,
    pub ty: AttrType,
}

/// Checks a query against a schema and decides how it is answered.
///
/// # Errors
///
/// The sentence for the client.
pub fn plan(query: &Query, schema: &Schema, limits: &Limits) -> Result<Plan, Invalid> {
    if query.limit > limits.rows_max && query.aggregation.is_none() {
        return Err(Invalid::new(format!("limit must be at most {}", limits.rows_max)));
    }
    let wanted = match query.limit {
        0 => 0,
        limit => query.offset.saturating_add(limit),
    };
    if wanted > limits.ranked_rows_max {
        return Err(Invalid::new(format!(
            "offset and limit together must be at most {}",
            limits.ranked_rows_max
        )));
    }
    let action = match &query.rank_by {
        _ if let Some(asked) = &query.aggregation => {
            Action::Aggregate(Arc::new(aggregate::bind(asked, query.limit, schema, limits)?))
        }
        None => Action::Lookup {
            direction: Direction::Asc,
        },
        Some(RankBy::Nearest {
            attribute,
            query: of,
            exact,
        }) => {
            if *exact && query.filter.is_none() {
                return Err(Invalid::new("kNN needs filters; use ANN to search all rows"));
            }
            let vectors = nearest::bind(attribute, of, !*exact, query.distance_metric, schema, limits);
            Action::ExactNearest {
                vectors: vectors.map_err(in_rank_by)?,
            }
        }
        Some(RankBy::Score(of)) => {
            let score = score::bind(of, schema, limits).map_err(in_rank_by)?;
            match score.as_text() {
                Some(text) => Action::TextTopK { text: text.clone() },
                None => Action::ScoreTopK { score },
            }
        }
        Some(RankBy::Order(keys)) => order(keys, schema, limits)?,
    };
    let projection = project(&query.include, schema)?;
    Ok(Plan {
        compute: compute::bind(query, schema, limits, &projection)?,
        filter: query.filter.as_ref().map(|f| filter::bind(f, schema)).transpose()?,
        action,
        wanted,
        offset: query.offset,
        per: query.per.as_ref().map(|p| per::bind(p, schema, limits)).transpose()?,
        projection,
    })
}

fn in_rank_by(error: Invalid) -> Invalid {
    Invalid {
        message: format!("invalid rank_by: {}", error.message),
        ..error
    }
}

fn order(keys: &[(String, Direction)], schema: &Schema, limits: &Limits) -> Result<Action, Invalid> {
    if keys.is_empty() || keys.len() > limits.order_keys_max {
        return Err(Invalid::new(format!(
            "rank_by takes 1 to {} attributes to order by",
            limits.order_keys_max
        )));
    }
    let keys = keys.iter().map(|(name, direction)| order_key(name, *direction, schema));
    let mut keys = keys.collect::<Result<Vec<_>, _>>()?;
    // No two rows have the same id, so that keys after it decide nothing.
    if let Some(id) = keys.iter().position(|k| k.target == OrderTarget::Id) {
        keys.truncate(id + 1);
    }
    match keys.as_slice() {
        [
            OrderKey {
                target: OrderTarget::Id,
                direction,
            },
        ] => Ok(Action::Lookup { direction: *direction }),
        _ => Ok(Action::OrderedScan { keys }),
    }
}

fn order_key(name: &str, direction: Direction, schema: &Schema) -> Result<OrderKey, Invalid> {
    let target = match name {
        "id" => OrderTarget::Id,
        _ => {
            let attribute = schema.require(name).map_err(in_rank_by)?;
            if !matches!(attribute.ty, AttrType::Scalar(_)) {
                return Err(Invalid::new(format!(
                    "invalid rank_by: rows cannot be ordered by {name:?}, which is {}; arrays and vectors have no order",
                    attribute.ty
                )));
            }
            OrderTarget::Attribute(attribute.id)
        }
    };
    Ok(OrderKey { target, direction })
}

fn project(include: &Projection, schema: &Schema) -> Result<Vec<Projected>, Invalid> {
    let all = || schema.attributes();
    let chosen: Vec<&Attribute> = match include {
        Projection::None => Vec::new(),
        Projection::All => all().collect(),
        Projection::Except(names) => all().filter(|a| !names.iter().any(|n| **n == *a.name)).collect(),
        Projection::Only(names) => {
            let mut chosen = Vec::with_capacity(names.len().min(schema.len()));
            for name in names.iter().filter(|n| *n != "id") {
                let attribute = schema
                    .require(name)
                    .map_err(|e| Invalid::new(format!("invalid include_attributes: {e}")))?;
                chosen.push(attribute);
            }
            chosen.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            chosen.dedup_by(|a, b| a.name == b.name);
            chosen
        }
    };
    let projected = |a: &Attribute| Projected {
        name: a.name.clone(),
        id: a.id,
        ty: a.ty,
    };
    Ok(chosen.into_iter().map(projected).collect())
}
