//! Filter expressions: JSON arrays become [`Filter`].

use serde_json::Value as Json;

use super::{FILTER_DEPTH_MAX, FILTER_NODES_MAX, Filter, FilterOp};
use crate::model::Invalid;

/// Documented operators, of filters and of `rank_by`, that this server does not have yet.
pub const LATER: &[&str] = &[
    "AnyLt",
    "AnyLte",
    "AnyGt",
    "AnyGte",
    "Glob",
    "NotGlob",
    "IGlob",
    "NotIGlob",
    "Regex",
    "Fuzzy",
    "ContainsAllTokens",
    "ContainsAnyToken",
    "ContainsTokenSequence",
];

/// Parses a filter of at most [`FILTER_DEPTH_MAX`] levels and [`FILTER_NODES_MAX`] nodes.
pub fn parse(json: Json) -> Result<Filter, Invalid> {
    let mut nodes = 0;
    node(json, 1, &mut nodes)
}

fn node(json: Json, depth: usize, nodes: &mut usize) -> Result<Filter, Invalid> {
    *nodes += 1;
    if depth > FILTER_DEPTH_MAX {
        return Err(Invalid::new(format!(
            "filters may be nested at most {FILTER_DEPTH_MAX} deep"
        )));
    }
    if *nodes > FILTER_NODES_MAX {
        return Err(Invalid::new(format!(
            "filters may have at most {FILTER_NODES_MAX} nodes"
        )));
    }
    let Json::Array(items) = json else {
        return Err(Invalid::new(format!(
            "a filter must be an array such as [\"attribute\", \"Eq\", 1], got {}",
            kind(&json)
        )));
    };
    match <[Json; 2]>::try_from(items) {
        Ok([Json::String(word), operand]) => combine(&word, operand, depth, nodes),
        Ok(_) => Err(Invalid::new("a filter of two elements must begin with And, Or or Not")),
        Err(items) => compare(items),
    }
}

fn combine(word: &str, operand: Json, depth: usize, nodes: &mut usize) -> Result<Filter, Invalid> {
    let mut children = |operand: Json| match operand {
        Json::Array(items) => items
            .into_iter()
            .map(|f| node(f, depth + 1, nodes))
            .collect::<Result<Vec<_>, _>>(),
        other => Err(Invalid::new(format!(
            "{word} expects an array of filters, got {}",
            kind(&other)
        ))),
    };
    match word {
        "And" => Ok(Filter::And(children(operand)?)),
        "Or" => Ok(Filter::Or(children(operand)?)),
        "Not" => Ok(Filter::Not(Box::new(node(operand, depth + 1, nodes)?))),
        other => Err(Invalid::new(format!(
            "unknown filter {other:?} of two elements, expected And, Or, Not, or [attribute, operator, operand]"
        ))),
    }
}

fn compare(items: Vec<Json>) -> Result<Filter, Invalid> {
    let count = items.len();
    let mut items = items.into_iter();
    let (Some(Json::String(attribute)), Some(Json::String(name)), Some(operand)) =
        (items.next(), items.next(), items.next())
    else {
        return Err(Invalid::new(
            "a filter must be [attribute, operator, operand], [\"And\", […]], [\"Or\", […]] or [\"Not\", […]]",
        ));
    };
    if LATER.contains(&name.as_str()) {
        return Err(Invalid::new(format!(
            "filter operator {name} is not supported by this server yet"
        )));
    }
    let Some(op) = FilterOp::parse(&name) else {
        return Err(Invalid::new(format!(
            "filter error in key `{attribute}`: unknown operator {name:?}"
        )));
    };
    match count {
        3 => Ok(Filter::Compare { attribute, op, operand }),
        _ => Err(Invalid::new(format!(
            "filter error in key `{attribute}`: {name} takes one operand and no options"
        ))),
    }
}

fn kind(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "a bool",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}
