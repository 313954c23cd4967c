//! Ranking expressions: JSON arrays become [`RankBy`].

use serde_json::Value as Json;

use super::not_yet;
use crate::model::filter::parse::LATER as LATER_FILTERS;
use crate::model::query::{Score, TextQuery, VectorQuery};
use crate::model::types::DIMS_MAX;
use crate::model::{Direction, FilterOp, Invalid, Limits, RankBy};

/// Documented expressions, by their first element, that this server does not have yet.
const LATER: &[&str] = &[
    "Sum",
    "Max",
    "Product",
    "Attribute",
    "Dist",
    "Saturate",
    "Decay",
    "And",
    "Or",
    "Not",
];
const FORMS: &str = "rank_by must be [attribute, \"ANN\" | \"kNN\", vector], [attribute, \"BM25\", text], \
                     [attribute, \"asc\" | \"desc\"], or an array of the latter";

/// Parses a ranking expression.
pub fn parse(json: Json, limits: &Limits) -> Result<RankBy, Invalid> {
    let Json::Array(items) = json else {
        return Err(Invalid::new(FORMS));
    };
    match items.first() {
        Some(Json::Array(_)) => keys(items, limits),
        Some(Json::String(_)) => expression(items, limits),
        _ => Err(Invalid::new(FORMS)),
    }
}

fn keys(items: Vec<Json>, limits: &Limits) -> Result<RankBy, Invalid> {
    if items.len() > limits.order_keys_max {
        return Err(Invalid::new(format!(
            "rank_by may have at most {} keys, got {}",
            limits.order_keys_max,
            items.len()
        )));
    }
    let key = |item| match item {
        Json::Array(pair) => order_key(pair),
        _ => Err(Invalid::new(FORMS)),
    };
    Ok(RankBy::Order(items.into_iter().map(key).collect::<Result<_, _>>()?))
}

fn order_key(pair: Vec<Json>) -> Result<(String, Direction), Invalid> {
    let Ok([Json::String(attribute), Json::String(direction)]) = <[Json; 2]>::try_from(pair) else {
        return Err(Invalid::new(FORMS));
    };
    match direction.as_str() {
        "asc" => Ok((attribute, Direction::Asc)),
        "desc" => Ok((attribute, Direction::Desc)),
        other => Err(Invalid::new(format!(
            "the order of rank_by field {attribute:?} must be asc or desc, got {other:?}"
        ))),
    }
}

fn expression(items: Vec<Json>, limits: &Limits) -> Result<RankBy, Invalid> {
    if items.len() == 2 && matches!(items[1].as_str(), Some("asc" | "desc")) {
        return Ok(RankBy::Order(vec![order_key(items)?]));
    }
    let count = items.len();
    let mut items = items.into_iter();
    let (first, second, operand) = (items.next(), items.next(), items.next());
    let Some(Json::String(attribute)) = first else {
        return Err(Invalid::new(FORMS));
    };
    let operator = match &second {
        Some(Json::String(operator)) => operator.as_str(),
        _ => "",
    };
    match (operator, operand) {
        ("ANN" | "kNN", Some(operand)) if count == 3 => nearest(attribute, operator == "kNN", operand),
        ("BM25", Some(operand)) if count == 3 => text(attribute, operand, limits),
        ("BM25", Some(_)) if count == 4 => Err(not_yet("the options object of rank_by BM25")),
        ("ANN" | "kNN" | "BM25", _) => Err(Invalid::new(format!("rank_by {operator} takes one operand"))),
        _ if LATER.contains(&attribute.as_str()) => Err(not_yet(&format!("rank_by {attribute}"))),
        _ if operator == "SparseKNN" || LATER_FILTERS.contains(&operator) => {
            Err(not_yet(&format!("rank_by {operator}")))
        }
        _ if FilterOp::parse(operator).is_some() => Err(not_yet("a filter in rank_by")),
        ("", _) => Err(Invalid::new(FORMS)),
        _ => Err(Invalid::new(format!(
            "unknown operator {operator:?} for rank_by field {attribute:?}; {FORMS}"
        ))),
    }
}

fn nearest(attribute: String, exact: bool, operand: Json) -> Result<RankBy, Invalid> {
    let vector = match operand {
        Json::String(text) => from_base64(&attribute, &text)?,
        Json::Array(items) if items.first().is_some_and(Json::is_array) => {
            return Err(not_yet("a query of several vectors"));
        }
        Json::Array(items) if items.first().and_then(Json::as_str) == Some("Embed") => return Err(not_yet("Embed")),
        Json::Array(items) => from_numbers(&attribute, &items)?,
        _ => {
            return Err(Invalid::new(format!(
                "the operand of rank_by field {attribute:?} must be an array of numbers"
            )));
        }
    };
    if vector.is_empty() {
        return Err(Invalid::new(format!(
            "the vector of rank_by field {attribute:?} must not be empty"
        )));
    }
    Ok(RankBy::Nearest {
        attribute,
        query: VectorQuery::One(vector),
        exact,
    })
}

fn too_long(attribute: &str) -> Invalid {
    Invalid::new(format!(
        "the vector of rank_by field {attribute:?} may have at most {DIMS_MAX} dimensions"
    ))
}

fn from_numbers(attribute: &str, items: &[Json]) -> Result<Vec<f32>, Invalid> {
    if items.len() > DIMS_MAX as usize {
        return Err(too_long(attribute));
    }
    let element = |item: &Json| item.as_f64().map(|x| x as f32).filter(|x| x.is_finite());
    items
        .iter()
        .map(element)
        .collect::<Option<_>>()
        .ok_or_else(|| not_finite(attribute))
}

fn not_finite(attribute: &str) -> Invalid {
    Invalid::new(format!(
        "the vector of rank_by field {attribute:?} must consist of numbers in the range of f32"
    ))
}

/// Standard base64 with padding over little-endian f32, whatever the column's type.
fn from_base64(attribute: &str, text: &str) -> Result<Vec<f32>, Invalid> {
    // Four bytes become up to six characters, and padding.
    if text.len() > DIMS_MAX as usize * 6 {
        return Err(too_long(attribute));
    }
    let wrong = || {
        Invalid::new(format!(
            "the vector of rank_by field {attribute:?} is not base64 of little-endian f32"
        ))
    };
    let bytes = base64_simd::STANDARD.decode_to_vec(text).map_err(|_| wrong())?;
    let (words, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(wrong());
    }
    if words.len() > DIMS_MAX as usize {
        return Err(too_long(attribute));
    }
    let vector: Vec<f32> = words.iter().map(|w| f32::from_le_bytes(*w)).collect();
    match vector.iter().all(|x| x.is_finite()) {
        true => Ok(vector),
        false => Err(not_finite(attribute)),
    }
}

fn text(attribute: String, operand: Json, limits: &Limits) -> Result<RankBy, Invalid> {
    let wrong = || {
        Invalid::new(format!(
            "the operand of BM25 for rank_by field {attribute:?} must be a string or an array of strings"
        ))
    };
    let query = match operand {
        Json::String(text) => TextQuery::Text(text),
        Json::Array(items) => {
            let token = |item| match item {
                Json::String(token) => Ok(token),
                _ => Err(wrong()),
            };
            TextQuery::Tokens(items.into_iter().map(token).collect::<Result<_, _>>()?)
        }
        _ => return Err(wrong()),
    };
    let chars = match &query {
        TextQuery::Text(text) => text.chars().count(),
        TextQuery::Tokens(tokens) => tokens.iter().map(|t| t.chars().count()).sum(),
    };
    match chars <= limits.text_query_chars_max {
        true => Ok(RankBy::Score(Score::Text {
            attribute,
            query,
            last_as_prefix: false,
        })),
        false => Err(Invalid::new(format!(
            "the text of rank_by field {attribute:?} may have at most {} characters, got {chars}",
            limits.text_query_chars_max
        ))),
    }
}
