//! A query of v1 as one of v2, and its answer as v1 prints it: a bare array.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use super::filter;
use crate::api::openapi::expressions::{Consistency, Include, LegacyFilter, QueryVector, RankBy};
use crate::api::query::object::{Named, Object};
use crate::api::query::{self as v2, VectorEncoding};
use crate::api::response::{cache, json, whole_ms};
use crate::model::{Invalid, Limits};
use crate::namespace::QueryOutcome;
use crate::query::{Rank, ResultRow};

/// How many rows a query gets that does not say.
const TOP_K: u64 = 10;

/// A query of v1.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct LegacyQuery {
    /// Nearest rows of the attribute `vector`. Without it and `rank_by`: in id order.
    #[schemars(with = "Option<QueryVector>")]
    vector: Option<Json>,
    /// Overrides the metric of the column.
    #[schemars(extend("enum" = ["cosine_distance", "euclidean_squared", null]))]
    distance_metric: Option<String>,
    /// 10 if absent.
    #[schemars(range(max = 10000))]
    top_k: Option<u64>,
    include_vectors: Option<bool>,
    #[schemars(with = "Option<Include>")]
    include_attributes: Option<Json>,
    #[schemars(with = "Option<LegacyFilter>")]
    filters: Option<Json>,
    /// Not together with `vector`.
    #[schemars(with = "Option<RankBy>")]
    rank_by: Option<Json>,
    #[schemars(with = "Option<Consistency>")]
    consistency: Option<Json>,
}

impl Named for LegacyQuery {
    const NAME: &'static str = "Query";
}

/// What an answer's rows carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Whether rows have an object of attributes.
    attributes: bool,
}

/// Parses a query of v1 by way of v2's parser.
pub fn parse(body: &[u8], limits: &Limits) -> Result<(v2::Request, Shape), Invalid> {
    let Object(query): Object<LegacyQuery> = serde_json::from_slice(body).map_err(|e| v2::not_a_query(&e))?;
    let (translated, shape) = to_v2(query)?;
    let body = Json::Object(translated).to_string();
    v2::parse(body.as_bytes(), limits).map(|request| (request, shape))
}

fn to_v2(query: LegacyQuery) -> Result<(Map<String, Json>, Shape), Invalid> {
    let mut v2 = Map::new();
    let rank_by = match (query.vector, query.rank_by) {
        (Some(_), Some(_)) => return Err(Invalid::new("vector and rank_by exclude each other")),
        (Some(vector), None) => json!(["vector", "ANN", vector]),
        (None, Some(rank_by)) => rank_by,
        (None, None) => json!(["id", "asc"]),
    };
    v2.insert("rank_by".into(), rank_by);
    v2.insert("limit".into(), query.top_k.unwrap_or(TOP_K).into());
    let attributes = include(
        query.include_attributes,
        query.include_vectors.unwrap_or(false),
        &mut v2,
    )?;
    if let Some(metric) = query.distance_metric {
        v2.insert("distance_metric".into(), metric.into());
    }
    if let Some(filters) = query.filters {
        v2.insert("filters".into(), filter::to_v2(filters)?);
    }
    if let Some(consistency) = query.consistency {
        v2.insert("consistency".into(), consistency);
    }
    Ok((v2, Shape { attributes }))
}

/// `vector` is no attribute in v1: it comes when `include_vectors` says so. Returns whether attributes
/// were asked for.
fn include(attributes: Option<Json>, vectors: bool, v2: &mut Map<String, Json>) -> Result<bool, Invalid> {
    match (attributes, vectors) {
        (None | Some(Json::Bool(false)), false) => Ok(false),
        (None | Some(Json::Bool(false)), true) => {
            v2.insert("include_attributes".into(), json!(["vector"]));
            Ok(false)
        }
        (Some(Json::Bool(true)), true) => {
            v2.insert("include_attributes".into(), true.into());
            Ok(true)
        }
        (Some(Json::Bool(true)), false) => {
            v2.insert("exclude_attributes".into(), json!(["vector"]));
            Ok(true)
        }
        (Some(Json::Array(mut names)), vectors) => {
            if vectors && !names.iter().any(|n| n == "vector") {
                names.push("vector".into());
            }
            v2.insert("include_attributes".into(), names.into());
            Ok(true)
        }
        (Some(_), _) => Err(Invalid::shape(
            "include_attributes must be a bool or an array of attribute names",
        )),
    }
}

/// The answer: `[{"id", "dist"?, "attributes"?: {…}, "vector"?}]`.
pub fn print(outcome: &QueryOutcome, shape: Shape) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let rows = outcome.results.first().map_or(&[][..], |result| result.rows());
    json::list(&mut out, rows, |out, row| print_row(out, row, shape, outcome.hides_id));
    out
}

fn print_row(out: &mut Vec<u8>, row: &ResultRow, shape: Shape, hides_id: bool) {
    out.extend_from_slice(b"{\"id\":");
    match hides_id {
        true => out.extend_from_slice(b"null"),
        false => json::id(out, &row.id),
    }
    match row.rank {
        None => {}
        Some(Rank::Distance(d)) => field(out, "dist", |out| json::put(out, &d)),
        Some(Rank::Score(s)) => field(out, "dist", |out| json::put(out, &s)),
    }
    let float = VectorEncoding::Float;
    if shape.attributes {
        out.extend_from_slice(b",\"attributes\":{");
        for (name, value) in row.attributes.iter().filter(|(n, _)| !matches!(&**n, "id" | "vector")) {
            if out.last() != Some(&b'{') {
                out.push(b',');
            }
            json::put(out, &**name);
            out.push(b':');
            json::value(out, value, float);
        }
        out.push(b'}');
    }
    if let Some((_, vector)) = row.attributes.iter().find(|(n, _)| &**n == "vector") {
        field(out, "vector", |out| json::value(out, vector, float));
    }
    out.push(b'}');
}

fn field(out: &mut Vec<u8>, name: &str, value: impl FnOnce(&mut Vec<u8>)) {
    out.push(b',');
    json::put(out, name);
    out.push(b':');
    value(out);
}

/// The metrics that v2 has in its body, as old clients read them.
pub fn server_timing(outcome: &QueryOutcome, total: Duration) -> String {
    let (ratio, temperature) = cache(outcome);
    format!(
        "cache;hit_ratio={ratio};temperature={temperature}, processing_time;dur={}, query_execution_time;dur={}, \
         exhaustive_search;count={}",
        whole_ms(total),
        whole_ms(outcome.execution),
        outcome.exhaustive_search_rows
    )
}
