//! From a query as written to what is done for it. Pure: every check against the schema is here.

use std::sync::Arc;

use super::filter::{self, BoundFilter};
use crate::index::text::{QueryTerm, query_terms};
use crate::index::vector::PreparedQuery;
use crate::model::query::{Projection, Score, TextQuery, VectorQuery};
use crate::model::{
    AttrId, AttrType, Attribute, Direction, FullTextConfig, Invalid, Limits, Metric, Query, RankBy, Schema,
};

/// What is done for one query.
pub struct Plan {
    pub filter: Option<BoundFilter>,
    pub action: Action,
    /// How many rows at most.
    pub limit: usize,
    /// The attributes of a result row, by name.
    pub projection: Vec<Projected>,
}

/// How rows are found and ordered.
pub enum Action {
    /// Every eligible vector is measured.
    ExactNearest { attribute: AttrId, query: PreparedQuery },
    /// Rows that contain a term, by score over all parts' statistics.
    TextTopK {
        attribute: AttrId,
        config: FullTextConfig,
        terms: Vec<QueryTerm>,
    },
    /// Every eligible row, the first by these keys, then by id.
    OrderedScan { keys: Vec<OrderKey> },
    /// Every eligible row, the first by id.
    Lookup { direction: Direction },
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
    if query.limit > limits.rows_max {
        return Err(Invalid::new(format!("limit must be at most {}", limits.rows_max)));
    }
    let action = match &query.rank_by {
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
            nearest(attribute, of, *exact, query.distance_metric, schema)?
        }
        Some(RankBy::Score(Score::Text {
            attribute,
            query,
            last_as_prefix: false,
        })) => text(attribute, query, schema, limits)?,
        Some(RankBy::Score(_)) => {
            return Err(Invalid::new(
                "this rank_by expression is not supported by this server yet",
            ));
        }
        Some(RankBy::Order(keys)) => order(keys, schema, limits)?,
    };
    Ok(Plan {
        filter: query.filter.as_ref().map(|f| filter::bind(f, schema)).transpose()?,
        action,
        limit: query.limit,
        projection: project(&query.include, schema)?,
    })
}

fn ranked<'a>(name: &str, schema: &'a Schema) -> Result<&'a Attribute, Invalid> {
    schema
        .require(name)
        .map_err(|e| Invalid::new(format!("invalid rank_by: {e}")))
}

fn nearest(
    name: &str,
    query: &VectorQuery,
    exact: bool,
    metric: Option<Metric>,
    schema: &Schema,
) -> Result<Action, Invalid> {
    let VectorQuery::One(vector) = query else {
        return Err(Invalid::new(
            "a query of several vectors is not supported by this server yet",
        ));
    };
    let attribute = ranked(name, schema)?;
    let AttrType::Vector { dims, .. } = attribute.ty else {
        return Err(Invalid::new(format!(
            "invalid rank_by: {name:?} is {}, and nearest neighbours need a vector attribute such as [768]f32",
            attribute.ty
        )));
    };
    if attribute.ann.is_none() && !exact {
        return Err(Invalid::new(format!(
            "invalid rank_by: {name:?} has no ANN index; set \"ann\" for it in the schema, or use kNN with filters"
        )));
    }
    if vector.len() != dims as usize {
        return Err(Invalid::new(format!(
            "invalid rank_by: the query vector has {} dimensions, and {name:?} has {dims}",
            vector.len()
        )));
    }
    if vector.iter().any(|x| !x.is_finite()) {
        return Err(Invalid::new(
            "invalid rank_by: the query vector has an element beyond the range of f32",
        ));
    }
    let metric = metric.or(attribute.ann).or(attribute.metric).ok_or_else(|| {
        Invalid::new(format!(
            "distance_metric is required, because {name:?} has none: cosine_distance or euclidean_squared"
        ))
    })?;
    Ok(Action::ExactNearest {
        attribute: attribute.id,
        query: PreparedQuery::new(metric, vector),
    })
}

fn text(name: &str, query: &TextQuery, schema: &Schema, limits: &Limits) -> Result<Action, Invalid> {
    let attribute = ranked(name, schema)?;
    let Some(config) = attribute.full_text else {
        let how = match attribute.ty.can_be_searched() {
            true => "; set \"full_text_search\": true for it in the schema",
            false => ", which only string and []string attributes can have",
        };
        return Err(Invalid::new(format!(
            "invalid rank_by: BM25 needs an attribute with full-text search, and {name:?} has none{how}"
        )));
    };
    let chars: usize = match query {
        TextQuery::Text(text) => text.chars().count(),
        TextQuery::Tokens(tokens) => tokens.iter().map(|t| t.chars().count()).sum(),
    };
    if chars > limits.text_query_chars_max {
        return Err(Invalid::new(format!(
            "invalid rank_by: a full-text query can have at most {} characters",
            limits.text_query_chars_max
        )));
    }
    Ok(Action::TextTopK {
        attribute: attribute.id,
        config,
        terms: query_terms(&config, name, query)?,
    })
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
            let attribute = ranked(name, schema)?;
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
