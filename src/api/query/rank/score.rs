//! Scores: the expressions that can be combined.

use serde_json::{Map, Value as Json};

use crate::model::query::{Curve, Midpoint, Score, TextQuery, filter_nodes, too_large};
use crate::model::{Invalid, Limits, filter};

const FORMS: &str = "a score must be [attribute, \"BM25\", text], [attribute, \"SparseKNN\", weights], [\"Sum\", [scores]], \
                     [\"Max\", [scores]], [\"Product\", weight, score], [\"Attribute\", name], \
                     [\"Dist\", [\"Attribute\", name], origin], [\"Saturate\" | \"Decay\", score, {\"midpoint\": number}], \
                     or a filter";
/// As much of what a client sent as helps to recognise it.
const QUOTED_CHARS_MAX: usize = 64;

/// Parses an expression whose value is a number.
///
/// # Errors
///
/// The sentence for the client: another form, operands of other types or beyond their ranges, or an
/// expression that is too deep or too large.
pub fn parse(json: Json, limits: &Limits) -> Result<Score, Invalid> {
    Parser { limits, nodes: 0 }.score(json, 1)
}

/// Whether a word between an attribute and an operand makes a score or a distance.
pub(super) fn is_operator(word: &str) -> bool {
    matches!(word, "ANN" | "kNN" | "BM25" | "SparseKNN")
}

/// The beginning of a text, for quoting.
pub(super) fn beginning(text: &str) -> String {
    text.chars().take(QUOTED_CHARS_MAX).collect()
}

struct Parser<'a> {
    limits: &'a Limits,
    nodes: usize,
}

impl Parser<'_> {
    fn score(&mut self, json: Json, depth: usize) -> Result<Score, Invalid> {
        self.count(1, depth)?;
        let items = match json {
            Json::Array(items) => items,
            Json::Number(_) => {
                return Err(Invalid::new(
                    "a number can stand beside scores in Max, and as the weight of Product, only",
                ));
            }
            _ => return Err(Invalid::new(FORMS)),
        };
        match items.as_slice() {
            [Json::String(word), Json::String(_)] if word == "Attribute" => attribute(items),
            [Json::String(_), Json::String(operator), ..] if is_operator(operator) => self.ranked(items),
            [Json::String(_), Json::String(direction)] if matches!(direction.as_str(), "asc" | "desc") => Err(
                Invalid::new("an order by attributes cannot be a part of a score; it must be the whole rank_by"),
            ),
            [Json::String(word), Json::String(_), ..] => {
                let function = form_of(word);
                self.filter(Json::Array(items))
                    .map_err(|e| function.map_or(e, Invalid::new))
            }
            [Json::String(word), _, ..] => match word.as_str() {
                "Sum" | "Max" => self.list(items, depth),
                "Product" => self.product(items, depth),
                "Dist" => distance(items),
                "Saturate" | "Decay" => self.curve(items, depth),
                "And" | "Or" | "Not" => self.filter(Json::Array(items)),
                "Attribute" => Err(Invalid::new(ATTRIBUTE)),
                _ => Err(Invalid::new(FORMS)),
            },
            _ => Err(Invalid::new(FORMS)),
        }
    }

    fn count(&mut self, nodes: usize, depth: usize) -> Result<(), Invalid> {
        self.nodes += nodes;
        match self.nodes > self.limits.rank_nodes_max || depth > self.limits.rank_depth_max {
            true => Err(too_large(self.limits)),
            false => Ok(()),
        }
    }

    fn filter(&mut self, json: Json) -> Result<Score, Invalid> {
        let filter = filter::parse(json, filter::References::Forbidden, self.limits)?;
        // The root was counted as a score.
        self.count(filter_nodes(&filter) - 1, 0)?;
        Ok(Score::Filter(filter))
    }

    /// `[attribute, operator, operand, options?]`
    fn ranked(&mut self, items: Vec<Json>) -> Result<Score, Invalid> {
        let mut items = items.into_iter();
        let (Some(Json::String(attribute)), Some(Json::String(operator)), operand, options, None) =
            (items.next(), items.next(), items.next(), items.next(), items.next())
        else {
            return Err(Invalid::new(FORMS));
        };
        match (operator.as_str(), operand, options) {
            ("BM25", Some(operand), options) => self.text(attribute, operand, options),
            ("SparseKNN", Some(operand), None) => self.sparse(attribute, operand),
            ("ANN" | "kNN", _, _) => Err(Invalid::new(format!(
                "{operator} cannot be a part of a score; it must be the whole rank_by"
            ))),
            _ => Err(Invalid::new(format!("{operator} takes one operand"))),
        }
    }

    fn text(&mut self, attribute: String, operand: Json, options: Option<Json>) -> Result<Score, Invalid> {
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
        if chars > self.limits.text_query_chars_max {
            return Err(Invalid::new(format!(
                "the text of rank_by field {attribute:?} may have at most {} characters, got {chars}",
                self.limits.text_query_chars_max
            )));
        }
        Ok(Score::Text {
            last_as_prefix: last_as_prefix(options)?,
            attribute,
            query,
        })
    }

    fn sparse(&mut self, attribute: String, operand: Json) -> Result<Score, Invalid> {
        let wrong = || {
            Invalid::new(format!(
                "the operand of SparseKNN for rank_by field {attribute:?} must be an object of dimension names and \
                 numbers in the range of f32"
            ))
        };
        let Json::Object(weights) = operand else {
            return Err(wrong());
        };
        if weights.len() > self.limits.sparse_entries_max {
            return Err(Invalid::new(format!(
                "the sparse vector of rank_by field {attribute:?} may have at most {} entries, got {}",
                self.limits.sparse_entries_max,
                weights.len()
            )));
        }
        let entry = |(name, weight): (String, Json)| {
            let weight = weight.as_f64().map(|x| x as f32).filter(|x| x.is_finite());
            weight.map(|w| (name, w)).ok_or_else(wrong)
        };
        let mut query = weights.into_iter().map(entry).collect::<Result<Vec<_>, _>>()?;
        query.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(Score::Sparse { attribute, query })
    }

    /// `["Sum", [score, …]]`, `["Max", [score or number, …]]`, `["Max", score or number, …]`
    fn list(&mut self, items: Vec<Json>, depth: usize) -> Result<Score, Invalid> {
        let mut items = items.into_iter();
        let max = items.next().as_ref().and_then(Json::as_str) == Some("Max");
        let (name, wrapped) = if max { ("Max", items.len() == 1) } else { ("Sum", true) };
        let operands = match (wrapped, items.next(), items.len()) {
            (true, Some(Json::Array(operands)), 0) => operands,
            (false, Some(first), _) => std::iter::once(first).chain(items).collect(),
            _ => return Err(Invalid::new(format!("{name} takes one array of scores"))),
        };
        let operand = |operand| match operand {
            Json::Number(x) if max => {
                self.count(1, depth + 1)?;
                // The JSON parser refuses numbers beyond f64.
                x.as_f64()
                    .map(Score::Constant)
                    .ok_or_else(|| Invalid::new("an operand of Max is no number"))
            }
            score => self.score(score, depth + 1),
        };
        let operands = operands.into_iter().map(operand).collect::<Result<Vec<_>, _>>()?;
        match operands.iter().all(|s| matches!(s, Score::Constant(_))) {
            true => Err(Invalid::new(format!("{name} needs at least one score"))),
            false if max => Ok(Score::Max(operands)),
            false => Ok(Score::Sum(operands)),
        }
    }

    /// `["Product", weight, score]`, `["Product", score, weight]`, `["Product", [score, weight]]`
    fn product(&mut self, items: Vec<Json>, depth: usize) -> Result<Score, Invalid> {
        let mut operands: Vec<Json> = items.into_iter().skip(1).collect();
        if let [Json::Array(pair)] = operands.as_mut_slice() {
            operands = std::mem::take(pair);
        }
        let (weight, of) = match <[Json; 2]>::try_from(operands) {
            Ok([Json::Number(weight), score]) | Ok([score, Json::Number(weight)]) => (weight, score),
            _ => return Err(Invalid::new("Product takes a weight, which is a number, and a score")),
        };
        match weight.as_f64().filter(|w| w.is_finite() && *w >= 0.0) {
            Some(weight) => Ok(Score::Product {
                weight,
                of: Box::new(self.score(of, depth + 1)?),
            }),
            None => Err(Invalid::new(format!(
                "the weight of Product must be at least 0, got {weight}"
            ))),
        }
    }

    /// `["Saturate" | "Decay", score, {"midpoint", "exponent"?}]`
    fn curve(&mut self, items: Vec<Json>, depth: usize) -> Result<Score, Invalid> {
        let Ok([Json::String(name), of, Json::Object(options)]) = <[Json; 3]>::try_from(items) else {
            return Err(Invalid::new(CURVE));
        };
        let curve = curve_options(&name, options)?;
        let of = Box::new(self.score(of, depth + 1)?);
        Ok(match name.as_str() {
            "Saturate" => Score::Saturate { of, curve },
            _ => Score::Decay { of, curve },
        })
    }
}

const ATTRIBUTE: &str = "Attribute takes the name of an attribute: [\"Attribute\", name]";
const DIST: &str =
    "Dist takes an attribute and an origin, a number or a time: [\"Dist\", [\"Attribute\", name], origin]";
const CURVE: &str =
    "Saturate and Decay take a score and an object with their midpoint: [\"Saturate\", score, {\"midpoint\": 10}]";

/// What to say when something that begins like a function is no filter on an attribute of that name.
pub(super) fn form_of(word: &str) -> Option<&'static str> {
    match word {
        "Attribute" => Some(ATTRIBUTE),
        "Dist" => Some(DIST),
        "Saturate" | "Decay" => Some(CURVE),
        "Sum" | "Max" => Some("Sum and Max take one array of scores"),
        "Product" => Some("Product takes a weight, which is a number, and a score"),
        "And" | "Or" => Some("And and Or take an array of filters"),
        "Not" => Some("Not takes a filter"),
        _ => None,
    }
}

fn attribute(items: Vec<Json>) -> Result<Score, Invalid> {
    match <[Json; 2]>::try_from(items) {
        Ok([_, Json::String(name)]) => Ok(Score::Attribute(name)),
        _ => Err(Invalid::new(ATTRIBUTE)),
    }
}

fn distance(items: Vec<Json>) -> Result<Score, Invalid> {
    let Ok([_, Json::Array(of), origin @ (Json::Number(_) | Json::String(_))]) = <[Json; 3]>::try_from(items) else {
        return Err(Invalid::new(DIST));
    };
    match <[Json; 2]>::try_from(of) {
        Ok([Json::String(word), Json::String(attribute)]) if word == "Attribute" => {
            Ok(Score::Distance { attribute, origin })
        }
        _ => Err(Invalid::new(DIST)),
    }
}

fn last_as_prefix(options: Option<Json>) -> Result<bool, Invalid> {
    let Some(options) = options else { return Ok(false) };
    let wrong = || Invalid::new("the options of BM25 must be an object such as {\"last_as_prefix\": true}");
    let Json::Object(options) = options else {
        return Err(wrong());
    };
    let mut last_as_prefix = false;
    for (key, value) in options {
        match (key.as_str(), value) {
            ("last_as_prefix", Json::Bool(on)) => last_as_prefix = on,
            ("last_as_prefix", _) => return Err(wrong()),
            (other, _) => {
                return Err(Invalid::new(format!(
                    "unknown option {:?} of BM25, expected last_as_prefix",
                    beginning(other)
                )));
            }
        }
    }
    Ok(last_as_prefix)
}

fn curve_options(name: &str, options: Map<String, Json>) -> Result<Curve, Invalid> {
    let positive = |what: &str, x: &Json| {
        x.as_f64().filter(|x| x.is_finite() && *x > 0.0).ok_or_else(|| {
            Invalid::new(format!(
                "the {what} of {name} must be a number above 0, got {}",
                beginning(&x.to_string())
            ))
        })
    };
    let (mut midpoint, mut exponent) = (None, 1.0);
    for (key, value) in options {
        match (key.as_str(), value) {
            ("midpoint", Json::String(text)) => {
                let ms = milliseconds(&text).ok_or_else(|| {
                    Invalid::new(format!(
                        "the midpoint of {name} must be a number above 0 or a duration such as \"6h\" (units s, m, h, d, \
                         w), got {:?}",
                        beginning(&text)
                    ))
                })?;
                midpoint = Some(Midpoint::Milliseconds(ms));
            }
            ("midpoint", value) => midpoint = Some(Midpoint::Number(positive("midpoint", &value)?)),
            ("exponent", value) => exponent = positive("exponent", &value)?,
            (other, _) => {
                return Err(Invalid::new(format!(
                    "unknown option {:?} of {name}, expected midpoint and exponent",
                    beginning(other)
                )));
            }
        }
    }
    match midpoint {
        Some(midpoint) => Ok(Curve { midpoint, exponent }),
        None => Err(Invalid::new(format!(
            "{name} needs a midpoint: {{\"midpoint\": number}}"
        ))),
    }
}

/// The milliseconds of a duration such as `6h` or `1.5d`, above 0; `None` when it is none.
fn milliseconds(text: &str) -> Option<f64> {
    /// More digits than any sensible duration has.
    const DURATION_BYTES_MAX: usize = 32;
    let number = text.get(..text.len().checked_sub(1)?)?;
    let unit = match text.as_bytes().last()? {
        b's' => 1000.0,
        b'm' => 60.0 * 1000.0,
        b'h' => 3600.0 * 1000.0,
        b'd' => 24.0 * 3600.0 * 1000.0,
        b'w' => 7.0 * 24.0 * 3600.0 * 1000.0,
        _ => return None,
    };
    let plain = number.len() <= DURATION_BYTES_MAX && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number: f64 = number.parse().ok().filter(|_| plain)?;
    Some(number * unit).filter(|ms| ms.is_finite() && *ms > 0.0)
}
