//! Query vectors: numbers or base64, several of them, or a text to embed.

use serde_json::Value as Json;

use crate::model::query::VectorQuery;
use crate::model::types::DIMS_MAX;
use crate::model::{Invalid, Limits};

/// The longest name of an embedding model, in bytes.
const MODEL_BYTES_MAX: usize = 256;

/// Parses what the vectors of `attribute` are compared with: an array of numbers or base64 of
/// little-endian f32, an array of such arrays of numbers, or `["Embed", text, {"model": …}?]`.
///
/// # Errors
///
/// The sentence for the client: another form, numbers beyond f32, or more than the limits allow.
pub fn parse(attribute: &str, operand: Json, limits: &Limits) -> Result<VectorQuery, Invalid> {
    match operand {
        Json::String(text) => one(attribute, from_base64(attribute, &text)?),
        Json::Array(items) => match items.first() {
            Some(Json::Array(_)) => many(attribute, &items, limits),
            Some(Json::String(word)) if word == "Embed" => embed(attribute, items, limits),
            _ => one(attribute, from_numbers(attribute, &items)?),
        },
        _ => Err(Invalid::new(format!(
            "the operand of rank_by field {attribute:?} must be an array of numbers"
        ))),
    }
}

fn one(attribute: &str, vector: Vec<f32>) -> Result<VectorQuery, Invalid> {
    match vector.is_empty() {
        true => Err(empty(attribute)),
        false => Ok(VectorQuery::One(vector)),
    }
}

fn empty(attribute: &str) -> Invalid {
    Invalid::new(format!("the vector of rank_by field {attribute:?} must not be empty"))
}

fn many(attribute: &str, items: &[Json], limits: &Limits) -> Result<VectorQuery, Invalid> {
    let elements: usize = items.iter().filter_map(Json::as_array).map(Vec::len).sum();
    // A single vector is bounded by its dimensions alone.
    if items.len() > limits.query_vectors_max || items.len() > 1 && elements > limits.query_vector_elements_max {
        return Err(Invalid::new(format!(
            "the query of rank_by field {attribute:?} may have at most {} vectors, with {} elements together",
            limits.query_vectors_max, limits.query_vector_elements_max
        )));
    }
    let mut vectors: Vec<Vec<f32>> = Vec::with_capacity(items.len());
    for item in items {
        let Json::Array(numbers) = item else {
            return Err(Invalid::new(format!(
                "the query of rank_by field {attribute:?} must be one array of numbers, or an array of such arrays"
            )));
        };
        let vector = from_numbers(attribute, numbers)?;
        if vector.is_empty() {
            return Err(empty(attribute));
        }
        if vectors.first().is_some_and(|first| first.len() != vector.len()) {
            return Err(Invalid::new(format!(
                "the query vectors of rank_by field {attribute:?} must all have the same dimensions"
            )));
        }
        vectors.push(vector);
    }
    Ok(VectorQuery::Many(vectors))
}

fn embed(attribute: &str, items: Vec<Json>, limits: &Limits) -> Result<VectorQuery, Invalid> {
    let wrong = |why: &str| Invalid::new(format!("Embed of rank_by field {attribute:?}: {why}"));
    let mut items = items.into_iter().skip(1);
    let (Some(Json::String(text)), options, None) = (items.next(), items.next(), items.next()) else {
        return Err(wrong(
            "expected [\"Embed\", text] or [\"Embed\", text, {\"model\": name}]",
        ));
    };
    if text.is_empty() || text.chars().count() > limits.text_query_chars_max {
        let max = limits.text_query_chars_max;
        return Err(wrong(&format!("the text must have 1 to {max} characters")));
    }
    let mut model = None;
    match options {
        None => {}
        Some(Json::Object(options)) => {
            for (key, value) in options {
                match (key.as_str(), value) {
                    ("model", Json::Null) => {}
                    ("model", Json::String(name)) if (1..=MODEL_BYTES_MAX).contains(&name.len()) => model = Some(name),
                    ("model", _) => return Err(wrong("model must be the name of a model")),
                    _ => return Err(wrong("the options may only have the key model")),
                }
            }
        }
        Some(_) => return Err(wrong("the options must be an object such as {\"model\": name}")),
    }
    Ok(VectorQuery::Embed { text, model })
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
