//! `compute_attributes`: names and the expressions behind them.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::rank;
use crate::model::names::check_attribute_name;
use crate::model::query::{Compute, FragmentBy, Highlight, OffsetUnit, Score};
use crate::model::{Invalid, Limits, RankBy};

const FORMS: &str = "an expression must be [attribute, \"VectorDist\", vector], [\"Highlight\", attribute, options], \
                     a score such as [attribute, \"BM25\", text], or a filter such as [attribute, \"Eq\", 1]";
/// How many fragments a highlight has unless it says otherwise.
const FRAGMENT_LIMIT_DEFAULT: usize = 3;
const FRAGMENTS: [(FragmentBy, &str); 4] = [
    (FragmentBy::Nothing, "none"),
    (FragmentBy::Sentence, "sentence"),
    (FragmentBy::Paragraph, "paragraph"),
    (FragmentBy::Word, "word"),
];
const OFFSETS: [(OffsetUnit, &str); 3] = [
    (OffsetUnit::Utf8, "utf-8"),
    (OffsetUnit::Utf16, "utf-16"),
    (OffsetUnit::Codepoints, "codepoints"),
];

/// Parses the object; the result is sorted by name.
///
/// # Errors
///
/// 422 for what is not an object; 400 for too many names, names that no attribute can have, and
/// expressions that are none.
pub fn parse(json: Json, limits: &Limits) -> Result<Vec<(Arc<str>, Compute)>, Invalid> {
    let Json::Object(map) = json else {
        return Err(Invalid::shape(
            "compute_attributes must be an object of names and expressions",
        ));
    };
    if map.len() > limits.computed_attributes_max {
        return Err(Invalid::new(format!(
            "compute_attributes may have at most {} names, got {}",
            limits.computed_attributes_max,
            map.len()
        )));
    }
    let entry = |(name, json): (String, Json)| {
        check_name(&name)?;
        let compute = expression(json, limits).map_err(|e| Invalid {
            message: format!("compute_attributes {name:?}: {}", e.message),
            ..e
        })?;
        Ok((name.into(), compute))
    };
    let mut computed = map.into_iter().map(entry).collect::<Result<Vec<(Arc<str>, _)>, _>>()?;
    computed.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(computed)
}

fn check_name(name: &str) -> Result<(), Invalid> {
    if name == "id" {
        return Err(Invalid::new(
            "compute_attributes cannot use the name \"id\", which every row has",
        ));
    }
    check_attribute_name(name).map_err(|e| Invalid {
        message: format!("compute_attributes: {}", e.message),
        ..e
    })
}

fn expression(json: Json, limits: &Limits) -> Result<Compute, Invalid> {
    let Json::Array(items) = json else {
        return Err(Invalid::new(FORMS));
    };
    if is_highlight(&items) {
        return highlight(items, limits).map(Compute::Highlight);
    }
    if items.get(1).and_then(Json::as_str) == Some("VectorDist") {
        return distance(items, limits);
    }
    match rank::parse(Json::Array(items), limits)? {
        RankBy::Score(Score::Filter(filter)) => Ok(Compute::Filter(filter)),
        RankBy::Score(score) => Ok(Compute::Score(score)),
        RankBy::Nearest { .. } => Err(Invalid::new(
            "ANN and kNN find rows; use VectorDist to compute a distance",
        )),
        RankBy::Order(_) => Err(Invalid::new(format!("an order cannot be computed; {FORMS}"))),
    }
}

/// `["Highlight", attribute]` with or without options. An attribute that is called `Highlight` itself can
/// be the subject of a filter or of a score: their third element is an object for sparse vectors only.
fn is_highlight(items: &[Json]) -> bool {
    items.first().and_then(Json::as_str) == Some("Highlight")
        && match items {
            [_] | [_, _] => true,
            [_, operator, operand] => operand.is_null() || operand.is_object() && operator != "SparseKNN",
            _ => false,
        }
}

fn distance(items: Vec<Json>, limits: &Limits) -> Result<Compute, Invalid> {
    let Ok([Json::String(attribute), _, vector]) = <[Json; 3]>::try_from(items) else {
        return Err(Invalid::new("VectorDist takes one operand, a vector"));
    };
    Ok(Compute::VectorDistance {
        query: rank::vector::parse(&attribute, vector, limits)?,
        attribute,
    })
}

fn highlight(items: Vec<Json>, limits: &Limits) -> Result<Highlight, Invalid> {
    let mut items = items.into_iter().skip(1);
    let Some(Json::String(attribute)) = items.next() else {
        return Err(Invalid::new("Highlight takes the name of an attribute, and options"));
    };
    let mut highlight = Highlight {
        attribute,
        fragment_by: FragmentBy::default(),
        fragment_limit: FRAGMENT_LIMIT_DEFAULT,
        include_offsets: None,
        rank_fragments_by: None,
    };
    let options = match items.next() {
        Some(Json::Object(options)) => options,
        _ => Map::new(),
    };
    for (key, value) in options.into_iter().filter(|(_, value)| !value.is_null()) {
        match key.as_str() {
            "fragment_by" => highlight.fragment_by = named(&key, &FRAGMENTS, &value)?,
            "include_offsets" => highlight.include_offsets = Some(named(&key, &OFFSETS, &value)?),
            "fragment_limit" => highlight.fragment_limit = fragment_limit(&value, limits)?,
            // The documentation of the API has both spellings, its clients the first.
            "rank_fragments_by" | "rank_fragment_by" => {
                if highlight.rank_fragments_by.is_some() {
                    return Err(Invalid::new(
                        "rank_fragments_by and rank_fragment_by are the same option",
                    ));
                }
                let score = rank::score::parse(value, limits).map_err(|e| Invalid {
                    message: format!("{key}: {}", e.message),
                    ..e
                })?;
                highlight.rank_fragments_by = Some(score);
            }
            _ => {
                return Err(Invalid::new(format!(
                    "unknown option {key:?} of Highlight, expected fragment_by, fragment_limit, include_offsets \
                     or rank_fragments_by"
                )));
            }
        }
    }
    Ok(highlight)
}

fn named<T: Copy>(key: &str, all: &[(T, &str)], value: &Json) -> Result<T, Invalid> {
    let found = all.iter().find(|(_, name)| value.as_str() == Some(*name));
    found.map(|(value, _)| *value).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|(_, name)| *name).collect();
        Invalid::new(format!(
            "{key} must be one of {}, got {}",
            names.join(", "),
            short(value)
        ))
    })
}

fn fragment_limit(value: &Json, limits: &Limits) -> Result<usize, Invalid> {
    let limit = value.as_u64().and_then(|n| usize::try_from(n).ok());
    limit.filter(|n| (1..=limits.fragments_max).contains(n)).ok_or_else(|| {
        Invalid::new(format!(
            "fragment_limit must be an integer of 1 to {}, got {}",
            limits.fragments_max,
            short(value)
        ))
    })
}

/// As much of a value as helps to recognise it.
fn short(value: &Json) -> String {
    const CHARS_MAX: usize = 64;
    match value {
        Json::Array(_) => "an array".to_owned(),
        Json::Object(_) => "an object".to_owned(),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {
            value.to_string().chars().take(CHARS_MAX).collect()
        }
    }
}
