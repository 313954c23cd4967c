//! Query requests: JSON becomes [`Query`].
//!
//! What is not JSON is 400, JSON of another shape is 422 in the words of serde (clients' tests
//! match them), and everything else that is wrong is 400.

mod aggregate;
mod compute;
mod limit;
pub(super) mod object;
mod rank;
mod rerank;
#[cfg(test)]
mod tests;

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;

use object::{Entries, Named, Object};
use rerank::Beside;

use crate::model::filter::References;
use crate::model::query::{MAX_STALENESS_DEFAULT, Projection, Read, Rerank};
use crate::model::{self, Filter, Invalid, Limits, Metric, Query};

/// How vectors are written in the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VectorEncoding {
    #[default]
    Float,
    Base64,
}

/// A parsed request: one query, or several on one snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub read: Read,
    /// Whether the answer is a list of results even for one query.
    pub multi: bool,
    pub encoding: VectorEncoding,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Level {
    Strong,
    Eventual,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Consistency {
    level: Option<Level>,
    max_staleness_seconds: Option<u64>,
}

/// One query, or several in `queries`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Root {
    queries: Option<Vec<Object<Single>>>,
    consistency: Option<Object<Consistency>>,
    vector_encoding: Option<VectorEncoding>,
    /// Reads what is indexed from the object store.
    disable_cache: Option<bool>,
    // Written out rather than flattened: flattening loses `deny_unknown_fields`.
    rank_by: Option<Json>,
    top_k: Option<u64>,
    limit: Option<Json>,
    offset: Option<u64>,
    filters: Option<Json>,
    include_attributes: Option<Json>,
    exclude_attributes: Option<Vec<String>>,
    distance_metric: Option<String>,
    aggregate_by: Option<Entries>,
    group_by: Option<Json>,
    compute_attributes: Option<Json>,
    rerank_by: Option<Json>,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Query")]
struct Single {
    rank_by: Option<Json>,
    top_k: Option<u64>,
    limit: Option<Json>,
    offset: Option<u64>,
    filters: Option<Json>,
    include_attributes: Option<Json>,
    exclude_attributes: Option<Vec<String>>,
    distance_metric: Option<String>,
    aggregate_by: Option<Entries>,
    group_by: Option<Json>,
    compute_attributes: Option<Json>,
    rerank_by: Option<Json>,
    /// As in [`Root`], for all queries of the request.
    disable_cache: Option<bool>,
}

// Part of the API: clients' tests match `expected struct Consistency`.
impl Named for Consistency {
    const NAME: &'static str = "Consistency";
}

impl Named for Root {
    const NAME: &'static str = "Query";
}

impl Named for Single {
    const NAME: &'static str = "Query";
}

/// Parses the body of a query.
pub fn parse(body: &[u8], limits: &Limits) -> Result<Request, Invalid> {
    let Object(mut root): Object<Root> = serde_json::from_slice(body).map_err(|e| not_a_query(&e))?;
    let consistency = consistency(root.consistency.take().map(|c| c.0))?;
    let encoding = root.vector_encoding.take().unwrap_or_default();
    let queries = root.queries.take();
    let single = root.into_single();
    let multi = queries.is_some();
    let (queries, rerank) = match queries {
        None => one(single, limits)?,
        Some(queries) => several(queries, single, limits)?,
    };
    Ok(Request {
        read: Read {
            queries,
            rerank,
            consistency,
        },
        multi,
        encoding,
    })
}

pub(super) fn not_a_query(error: &serde_json::Error) -> Invalid {
    match error.classify() {
        serde_json::error::Category::Data => {
            Invalid::shape(format!("the query does not have the documented shape: {error}"))
        }
        _ => Invalid::new(format!("the request body is not valid JSON: {error}")),
    }
}

impl Root {
    fn into_single(self) -> Single {
        Single {
            rank_by: self.rank_by,
            top_k: self.top_k,
            limit: self.limit,
            offset: self.offset,
            filters: self.filters,
            include_attributes: self.include_attributes,
            exclude_attributes: self.exclude_attributes,
            distance_metric: self.distance_metric,
            aggregate_by: self.aggregate_by,
            group_by: self.group_by,
            compute_attributes: self.compute_attributes,
            rerank_by: self.rerank_by,
            disable_cache: self.disable_cache,
        }
    }
}

fn one(mut single: Single, limits: &Limits) -> Result<(Vec<Query>, Option<Rerank>), Invalid> {
    let rerank_by = single.rerank_by.take();
    let query = query(single, limits)?;
    let rerank = rerank_by.map(|json| rerank::of_one(json, &query, limits)).transpose()?;
    Ok((vec![query], rerank))
}

/// * `root` — what stands beside the queries
fn several(
    queries: Vec<Object<Single>>,
    root: Single,
    limits: &Limits,
) -> Result<(Vec<Query>, Option<Rerank>), Invalid> {
    nothing_besides_queries(&root)?;
    let mut queries = subqueries(queries, limits)?;
    if root.disable_cache == Some(true) {
        queries.iter_mut().for_each(|q| q.bypass_cache = true);
    }
    let beside = Beside {
        top_k: root.top_k,
        limit: root.limit,
        offset: root.offset,
    };
    let rerank = root
        .rerank_by
        .map(|json| rerank::of_many(json, &queries, beside, limits));
    Ok((queries, rerank.transpose()?))
}

fn consistency(given: Option<Consistency>) -> Result<model::Consistency, Invalid> {
    let Some(Consistency {
        level,
        max_staleness_seconds,
    }) = given
    else {
        return Ok(model::Consistency::Strong);
    };
    match (level, max_staleness_seconds) {
        (None | Some(Level::Strong), None) => Ok(model::Consistency::Strong),
        (None | Some(Level::Strong), Some(_)) => Err(Invalid::new(
            "consistency.max_staleness_seconds is only allowed with level eventual",
        )),
        (Some(Level::Eventual), seconds) => Ok(model::Consistency::Eventual {
            max_staleness: seconds.map_or(MAX_STALENESS_DEFAULT, Duration::from_secs),
        }),
    }
}

fn nothing_besides_queries(single: &Single) -> Result<(), Invalid> {
    let reranked = single.rerank_by.is_some();
    let ordering = [
        ("top_k", single.top_k.is_some()),
        ("limit", single.limit.is_some()),
        ("offset", single.offset.is_some()),
    ];
    if let Some((name, _)) = ordering.iter().find(|(_, given)| *given && !reranked) {
        return Err(Invalid::new(format!(
            "{name} is not allowed beside queries without rerank_by; put it into each query"
        )));
    }
    let given = [
        ("rank_by", single.rank_by.is_some()),
        ("filters", single.filters.is_some()),
        ("include_attributes", single.include_attributes.is_some()),
        ("exclude_attributes", single.exclude_attributes.is_some()),
        ("distance_metric", single.distance_metric.is_some()),
        ("aggregate_by", single.aggregate_by.is_some()),
        ("group_by", single.group_by.is_some()),
        ("compute_attributes", single.compute_attributes.is_some()),
    ];
    match given.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((name, _)) => Err(Invalid::new(format!(
            "{name} is not allowed beside queries; put it into each query"
        ))),
    }
}

fn subqueries(queries: Vec<Object<Single>>, limits: &Limits) -> Result<Vec<Query>, Invalid> {
    if queries.is_empty() || queries.len() > limits.subqueries_max {
        return Err(Invalid::new(format!(
            "queries must have 1 to {} elements, got {}",
            limits.subqueries_max,
            queries.len()
        )));
    }
    let place = |(i, Object(single))| {
        query(single, limits).map_err(|e| Invalid {
            message: format!("queries[{i}]: {}", e.message),
            ..e
        })
    };
    queries.into_iter().enumerate().map(place).collect()
}

fn filter(given: Option<Json>, limits: &Limits) -> Result<Option<Filter>, Invalid> {
    given
        .map(|json| model::filter::parse(json, References::Forbidden, limits))
        .transpose()
}

fn query(single: Single, limits: &Limits) -> Result<Query, Invalid> {
    if single.rerank_by.is_some() {
        return Err(Invalid::new("rerank_by is not allowed in queries; put it beside them"));
    }
    let bypass_cache = single.disable_cache.unwrap_or(false);
    if single.aggregate_by.is_some() || single.group_by.is_some() {
        let query = aggregate::query(single, limits)?;
        return Ok(Query { bypass_cache, ..query });
    }
    let limit = limit::parse(single.top_k, single.limit, limits.rows_max)?;
    let limit = limit.ok_or_else(|| Invalid::new("limit is required"))?;
    let offset = limit::offset(single.offset, limit.total, limits)?;
    let filter = filter(single.filters, limits)?;
    let rank_by = single.rank_by.map(|r| rank::parse(r, limits)).transpose()?;
    if matches!(&rank_by, Some(model::RankBy::Nearest { exact: true, .. })) && filter.is_none() {
        return Err(Invalid::new("rank_by kNN requires filters; use ANN to search all rows"));
    }
    if rank_by.is_none() && filter.is_none() {
        return Err(Invalid::new("rank_by is required in a query without filters"));
    }
    if rank_by.is_none() && offset > 0 {
        return Err(Invalid::new(
            "offset needs rank_by, the order in which rows are skipped",
        ));
    }
    Ok(Query {
        rank_by,
        limit: limit.total,
        per: limit.per,
        offset,
        filter,
        include: projection(single.include_attributes, single.exclude_attributes)?,
        compute: match single.compute_attributes {
            Some(computed) => compute::parse(computed, limits)?,
            None => Vec::new(),
        },
        distance_metric: single.distance_metric.as_deref().map(metric).transpose()?,
        bypass_cache,
        ..Query::default()
    })
}

fn projection(include: Option<Json>, exclude: Option<Vec<String>>) -> Result<Projection, Invalid> {
    let include = match include {
        None => None,
        Some(Json::Bool(all)) => Some(if all { Projection::All } else { Projection::None }),
        Some(Json::Array(names)) => Some(Projection::Only(
            names.into_iter().map(attribute_name).collect::<Result<_, _>>()?,
        )),
        Some(_) => {
            return Err(Invalid::shape(
                "include_attributes must be a bool or an array of attribute names",
            ));
        }
    };
    match (include, exclude) {
        (Some(_), Some(_)) => Err(Invalid::new(
            "include_attributes and exclude_attributes exclude each other",
        )),
        (Some(include), None) => Ok(include),
        (None, Some(names)) => Ok(Projection::Except(names)),
        (None, None) => Ok(Projection::None),
    }
}

fn attribute_name(name: Json) -> Result<String, Invalid> {
    match name {
        Json::String(name) => Ok(name),
        _ => Err(Invalid::shape(
            "include_attributes must be a bool or an array of attribute names",
        )),
    }
}

fn metric(name: &str) -> Result<Metric, Invalid> {
    Metric::parse(name).ok_or_else(|| {
        Invalid::new(format!(
            "distance_metric must be cosine_distance or euclidean_squared, got {name:?}"
        ))
    })
}
