//! Ranking expressions: JSON arrays become [`RankBy`].
//!
//! An attribute may be named like a function: `["Max", "Eq", 1]` compares the attribute `Max`,
//! because what follows a function is never a string. The one exception is `["Attribute", name]`.

pub mod score;
#[cfg(test)]
mod tests;
pub mod vector;

use serde_json::Value as Json;

use crate::model::{Direction, Invalid, Limits, RankBy};

const FORMS: &str = "rank_by must be [attribute, \"ANN\" | \"kNN\", vector], [attribute, \"asc\" | \"desc\"], an array of the \
                     latter, or a score such as [attribute, \"BM25\", text] or [\"Sum\", [scores]]";

/// Parses a ranking expression.
///
/// # Errors
///
/// The sentence for the client: an expression of another form, or beyond the limits.
pub fn parse(json: Json, limits: &Limits) -> Result<RankBy, Invalid> {
    let Json::Array(items) = json else {
        return Err(Invalid::new(FORMS));
    };
    match items.as_slice() {
        [Json::Array(_), ..] => keys(items, limits),
        [Json::String(attribute), Json::String(word)] => match word.as_str() {
            "asc" | "desc" => Ok(RankBy::Order(vec![order_key(items)?])),
            "ANN" | "kNN" => Err(one_operand(word)),
            _ if attribute == "Attribute" || score::is_operator(word) => {
                score::parse(Json::Array(items), limits).map(RankBy::Score)
            }
            _ => order_key(items).map(|key| RankBy::Order(vec![key])),
        },
        [Json::String(_), Json::String(word), ..] if matches!(word.as_str(), "ANN" | "kNN") => nearest(items, limits),
        [Json::String(_), Json::String(_) | Json::Array(_), ..] | [Json::String(_), Json::Number(_), _, ..] => {
            score::parse(Json::Array(items), limits).map(RankBy::Score)
        }
        [Json::String(word), ..] => Err(Invalid::new(score::form_of(word).unwrap_or(FORMS))),
        _ => Err(Invalid::new(FORMS)),
    }
}

fn one_operand(operator: &str) -> Invalid {
    Invalid::new(format!("rank_by {operator} takes one operand"))
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
            "the order of rank_by field {attribute:?} must be asc or desc, got {:?}",
            score::beginning(other)
        ))),
    }
}

fn nearest(items: Vec<Json>, limits: &Limits) -> Result<RankBy, Invalid> {
    let exact = items.get(1).and_then(Json::as_str) == Some("kNN");
    match <[Json; 3]>::try_from(items) {
        Ok([Json::String(attribute), _, operand]) => Ok(RankBy::Nearest {
            query: vector::parse(&attribute, operand, limits)?,
            attribute,
            exact,
        }),
        _ => Err(one_operand(if exact { "kNN" } else { "ANN" })),
    }
}
