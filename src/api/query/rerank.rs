//! `rerank_by`: fusion of several queries, or a model.

use serde::Deserialize;
use serde_json::Value as Json;

use super::limit::{self, Limit};
use super::object::{Named, Object};
use crate::model::query::{Projection, Rerank};
use crate::model::{Invalid, Limits, Query};

/// The rank constant of the paper that fusion comes from.
const RANK_CONSTANT_DEFAULT: f64 = 60.0;
/// Keeps every score finite.
const NUMBER_MAX: f64 = 1e9;
/// The longest name of a model.
const MODEL_BYTES_MAX: usize = 256;
const FORMS: &str = "rerank_by must be [\"RRF\"], [\"RRF\", {\"rank_constant\": number, \"weights\": [numbers]}], or an \
                     object of model, attribute and query";

/// What may stand beside `rerank_by` and `queries`.
pub struct Beside {
    pub top_k: Option<u64>,
    pub limit: Option<Json>,
    pub offset: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct FusionOptions {
    rank_constant: Option<f64>,
    weights: Option<Vec<f64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    model: String,
    attribute: String,
    query: String,
}

impl Named for FusionOptions {
    const NAME: &'static str = "RRF options";
}

impl Named for Model {
    const NAME: &'static str = "rerank model";
}

/// How the answers of several queries become one.
pub fn of_many(json: Json, queries: &[Query], beside: Beside, limits: &Limits) -> Result<Rerank, Invalid> {
    if queries.iter().any(|q| q.aggregation.is_some()) {
        return Err(Invalid::new("rerank_by orders rows, and aggregations have none"));
    }
    let limit = match limit::parse(beside.top_k, beside.limit, limits.rows_max)? {
        None => None,
        Some(Limit { per: Some(_), .. }) => {
            return Err(Invalid::new(
                "limit.per is not allowed beside queries; put it into each query",
            ));
        }
        Some(limit) => Some(limit.total),
    };
    // Without a limit of its own the answer is as long as the longest.
    let longest = queries.iter().map(|q| q.limit).max().unwrap_or(0);
    let offset = limit::offset(beside.offset, limit.unwrap_or(longest), limits)?;
    match json {
        Json::Array(items) => {
            let (rank_constant, weights) = fusion(items, queries.len())?;
            Ok(Rerank::Fusion {
                rank_constant,
                weights,
                limit: limit.unwrap_or(longest),
                offset,
            })
        }
        json => model(json, queries, limit, offset, limits),
    }
}

/// How the answer of a single query is ordered again.
pub fn of_one(json: Json, query: &Query, limits: &Limits) -> Result<Rerank, Invalid> {
    if query.aggregation.is_some() {
        return Err(Invalid::new("rerank_by orders rows, and aggregations have none"));
    }
    match json {
        Json::Array(_) => Err(Invalid::new("rerank_by RRF needs queries, at least two")),
        json => model(json, std::slice::from_ref(query), None, 0, limits),
    }
}

fn fusion(items: Vec<Json>, queries: usize) -> Result<(f64, Vec<f64>), Invalid> {
    let mut items = items.into_iter();
    match (items.next(), items.len()) {
        (Some(Json::String(name)), 0 | 1) if name == "RRF" => {}
        (Some(Json::String(name)), _) if name != "RRF" => {
            return Err(Invalid::new(format!("unknown function {name:?}; {FORMS}")));
        }
        _ => return Err(Invalid::new(FORMS)),
    }
    if queries < 2 {
        return Err(Invalid::new("rerank_by RRF needs at least two queries"));
    }
    let options: Option<Object<FusionOptions>> = match items.next() {
        None => None,
        Some(json) => serde_json::from_value(json).map_err(|e| {
            Invalid::shape(format!(
                "the options of rerank_by RRF do not have the documented shape: {e}"
            ))
        })?,
    };
    let options = options.map(|o| o.0).unwrap_or_default();
    let rank_constant = options.rank_constant.unwrap_or(RANK_CONSTANT_DEFAULT);
    if !(0.0..=NUMBER_MAX).contains(&rank_constant) {
        return Err(Invalid::new(format!(
            "rank_constant of rerank_by RRF must be 0 to {NUMBER_MAX}, got {rank_constant}"
        )));
    }
    let weights = options.weights.unwrap_or_else(|| vec![1.0; queries]);
    if weights.len() != queries {
        return Err(Invalid::new(format!(
            "rerank_by RRF needs one weight per query: there are {} weights and {queries} queries",
            weights.len()
        )));
    }
    match weights.iter().find(|w| !(**w > 0.0 && **w <= NUMBER_MAX)) {
        None => Ok((rank_constant, weights)),
        Some(weight) => Err(Invalid::new(format!(
            "weights of rerank_by RRF must be above 0 and at most {NUMBER_MAX}, got {weight}"
        ))),
    }
}

fn model(
    json: Json,
    queries: &[Query],
    limit: Option<usize>,
    offset: usize,
    limits: &Limits,
) -> Result<Rerank, Invalid> {
    if !json.is_object() {
        return Err(Invalid::shape(FORMS));
    }
    let Object(Model {
        model,
        attribute,
        query,
    }) = serde_json::from_value(json)
        .map_err(|e| Invalid::shape(format!("rerank_by does not have the documented shape: {e}")))?;
    if !(1..=MODEL_BYTES_MAX).contains(&model.len()) {
        return Err(Invalid::new(format!(
            "the model of rerank_by must have 1 to {MODEL_BYTES_MAX} bytes"
        )));
    }
    if query.chars().count() > limits.text_query_chars_max {
        return Err(Invalid::new(format!(
            "the query of rerank_by may have at most {} characters",
            limits.text_query_chars_max
        )));
    }
    if !queries.iter().all(|q| includes(&q.include, &attribute)) {
        return Err(Invalid::new(format!(
            "rerank_by needs its attribute {attribute:?} in include_attributes of every query"
        )));
    }
    Ok(Rerank::Model {
        model,
        attribute,
        query,
        limit,
        offset,
    })
}

fn includes(include: &Projection, attribute: &str) -> bool {
    match include {
        Projection::None => false,
        Projection::All => true,
        Projection::Only(names) => names.iter().any(|n| n == attribute),
        Projection::Except(names) => !names.iter().any(|n| n == attribute),
    }
}

#[cfg(test)]
mod tests {
    use crate::api::query::parse;
    use crate::model::InvalidKind::{self, Semantic, Shape};

    use super::*;

    const TWO: &str = r#""queries": [{"rank_by": ["id", "asc"], "limit": 3, "include_attributes": ["a"]},
                                     {"rank_by": ["id", "desc"], "limit": 5, "include_attributes": true}]"#;

    fn of(fields: &str) -> Result<Option<Rerank>, Invalid> {
        parse(format!("{{{fields}}}").as_bytes(), &Limits::default()).map(|r| r.read.rerank)
    }

    #[test]
    fn fusion_has_the_documented_defaults() {
        for (fields, constant, weights, limit, offset) in [
            (r#""rerank_by": ["RRF"]"#, 60.0, [1.0, 1.0], 5, 0),
            (r#""rerank_by": ["RRF", {}], "limit": 2"#, 60.0, [1.0, 1.0], 2, 0),
            (
                r#""rerank_by": ["RRF", null], "top_k": 2, "limit": {"total": 2}"#,
                60.0,
                [1.0, 1.0],
                2,
                0,
            ),
            (
                r#""rerank_by": ["RRF", {"rank_constant": 0, "weights": [2, 0.5]}], "limit": 0, "offset": 4"#,
                0.0,
                [2.0, 0.5],
                0,
                4,
            ),
        ] {
            let expected = Rerank::Fusion {
                rank_constant: constant,
                weights: weights.to_vec(),
                limit,
                offset,
            };
            assert_eq!(of(&format!("{TWO}, {fields}")), Ok(Some(expected)), "{fields}");
        }
        assert_eq!(of(&format!("{TWO}, \"rerank_by\": null")), Ok(None));
    }

    #[test]
    fn a_model_is_understood_for_one_query_and_for_many() {
        let rerank = r#""rerank_by": {"model": "m", "attribute": "a", "query": "q"}"#;
        let model = |limit, offset| {
            Ok(Some(Rerank::Model {
                model: "m".into(),
                attribute: "a".into(),
                query: "q".into(),
                limit,
                offset,
            }))
        };
        assert_eq!(of(&format!("{TWO}, {rerank}")), model(None, 0));
        assert_eq!(
            of(&format!("{TWO}, {rerank}, \"limit\": 3, \"offset\": 1")),
            model(Some(3), 1)
        );
        let one = |include: &str| {
            of(&format!(
                r#""rank_by": ["id", "asc"], "limit": 3, "offset": 2, {include} {rerank}"#
            ))
        };
        for include in [
            r#""include_attributes": true,"#,
            r#""include_attributes": ["b", "a"],"#,
            r#""exclude_attributes": ["b"],"#,
        ] {
            assert_eq!(one(include), model(None, 0), "{include}");
        }
        for include in ["", r#""include_attributes": ["b"],"#, r#""exclude_attributes": ["a"],"#] {
            assert!(one(include).is_err(), "{include}");
        }
    }

    #[test]
    fn other_reranking_is_refused() {
        const BAD: &[(&str, InvalidKind, &str)] = &[
            (r#""rerank_by": "RRF""#, Shape, "rerank_by must be"),
            (r#""rerank_by": 7"#, Shape, "rerank_by must be"),
            (r#""rerank_by": []"#, Semantic, "rerank_by must be"),
            (r#""rerank_by": [7]"#, Semantic, "rerank_by must be"),
            (r#""rerank_by": ["Borda"]"#, Semantic, "unknown function \"Borda\""),
            (r#""rerank_by": ["RRF", {}, {}]"#, Semantic, "rerank_by must be"),
            (r#""rerank_by": ["RRF", 60]"#, Shape, "documented shape"),
            (r#""rerank_by": ["RRF", [60]]"#, Shape, "documented shape"),
            (r#""rerank_by": ["RRF", {"k": 60}]"#, Shape, "unknown field `k`"),
            (
                r#""rerank_by": ["RRF", {"rank_constant": "60"}]"#,
                Shape,
                "documented shape",
            ),
            (
                r#""rerank_by": ["RRF", {"rank_constant": -1}]"#,
                Semantic,
                "0 to 1000000000",
            ),
            (
                r#""rerank_by": ["RRF", {"rank_constant": 1e10}]"#,
                Semantic,
                "0 to 1000000000",
            ),
            (
                r#""rerank_by": ["RRF", {"weights": [1]}]"#,
                Semantic,
                "there are 1 weights and 2 queries",
            ),
            (r#""rerank_by": ["RRF", {"weights": [1, 0]}]"#, Semantic, "above 0"),
            (r#""rerank_by": ["RRF", {"weights": [1, -1]}]"#, Semantic, "above 0"),
            (
                r#""rerank_by": ["RRF", {"weights": ["1", 1]}]"#,
                Shape,
                "documented shape",
            ),
            (r#""rerank_by": ["RRF"], "limit": 10001"#, Semantic, "at most 10000"),
            (r#""rerank_by": ["RRF"], "offset": 99999"#, Semantic, "at most 100000"),
            (
                r#""rerank_by": ["RRF"], "top_k": 1, "limit": 2"#,
                Semantic,
                "the same setting",
            ),
            (
                r#""rerank_by": ["RRF"], "limit": {"total": 1, "per": {"attributes": ["a"], "limit": 1}}"#,
                Semantic,
                "limit.per is not allowed beside queries",
            ),
            (
                r#""rerank_by": ["RRF"], "filters": ["a", "Eq", 1]"#,
                Semantic,
                "filters is not allowed beside",
            ),
            (
                r#""rerank_by": ["RRF"], "aggregate_by": {"n": ["Count"]}"#,
                Semantic,
                "aggregate_by is not allowed",
            ),
            (
                r#""limit": 1"#,
                Semantic,
                "limit is not allowed beside queries without rerank_by",
            ),
            (
                r#""offset": 1"#,
                Semantic,
                "offset is not allowed beside queries without rerank_by",
            ),
            (
                r#""rerank_by": {"model": "m", "attribute": "a"}"#,
                Shape,
                "missing field `query`",
            ),
            (
                r#""rerank_by": {"model": 1, "attribute": "a", "query": "q"}"#,
                Shape,
                "documented shape",
            ),
            (
                r#""rerank_by": {"model": "m", "attribute": "a", "query": "q", "x": 1}"#,
                Shape,
                "unknown field `x`",
            ),
            (
                r#""rerank_by": {"model": "", "attribute": "a", "query": "q"}"#,
                Semantic,
                "1 to 256 bytes",
            ),
            (
                r#""rerank_by": {"model": "m", "attribute": "b", "query": "q"}"#,
                Semantic,
                "include_attributes of every",
            ),
        ];
        for (fields, kind, part) in BAD {
            let error = of(&format!("{TWO}, {fields}")).expect_err(fields);
            assert_eq!(error.kind, *kind, "{fields}: {}", error.message);
            assert!(error.message.contains(part), "{fields}: {}", error.message);
        }
        for (body, part) in [
            (
                r#""queries": [{"rank_by": ["id", "asc"], "limit": 1}], "rerank_by": ["RRF"]"#,
                "at least two",
            ),
            (
                r#""queries": [{"rank_by": ["id", "asc"], "limit": 1, "rerank_by": ["RRF"]}]"#,
                "put it beside them",
            ),
            (
                r#""queries": [{"rank_by": ["id", "asc"], "limit": 1}, {"aggregate_by": {"n": ["Count"]}}], "rerank_by": ["RRF"]"#,
                "aggregations have none",
            ),
            (
                r#""rank_by": ["id", "asc"], "limit": 1, "rerank_by": ["RRF"]"#,
                "at least two",
            ),
        ] {
            let error = of(body).expect_err(body);
            assert!(error.message.contains(part), "{body}: {}", error.message);
        }
    }
}
