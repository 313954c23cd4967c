//! Filter expressions: JSON arrays become [`Filter`].

use serde_json::Value as Json;

use super::operator::OperandKind;
use super::{
    CompareOptions, EDIT_DISTANCES_MAX, EditDistance, FILTER_DEPTH_MAX, FILTER_NODES_MAX, Filter, FilterOp,
    FuzzyOptions, Operand, References,
};
use crate::model::{Invalid, Limits};

pub(super) const REF_NEW: &str = "$ref_new";
pub(super) const LAST_AS_PREFIX: &str = "last_as_prefix";
pub(super) const MAX_EDIT_DISTANCE: &str = "max_edit_distance";
pub(super) const MIN_QUERY_CHARS: &str = "min_query_chars";
pub(super) const DISTANCE: &str = "distance";
pub(super) const CASE_SENSITIVE: &str = "case_sensitive";

/// Parses a filter of at most [`FILTER_DEPTH_MAX`] levels, [`FILTER_NODES_MAX`] nodes and
/// `filter_values_max` values.
///
/// # Errors
///
/// The sentence for the client: another shape, an unknown operator, options that the operator does
/// not have, a pattern or text that is too long, a reference where there is no incoming row.
pub fn parse(json: Json, references: References, limits: &Limits) -> Result<Filter, Invalid> {
    let mut parser = Parser {
        references,
        limits,
        nodes: 0,
        values: 0,
    };
    parser.node(json, 1)
}

struct Parser<'a> {
    references: References,
    limits: &'a Limits,
    nodes: usize,
    /// Operands so far, the elements of lists one by one.
    values: usize,
}

impl Parser<'_> {
    fn node(&mut self, json: Json, depth: usize) -> Result<Filter, Invalid> {
        self.nodes += 1;
        if depth > FILTER_DEPTH_MAX {
            return Err(Invalid::new(format!(
                "filters may be nested at most {FILTER_DEPTH_MAX} deep"
            )));
        }
        if self.nodes > FILTER_NODES_MAX {
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
            Ok([Json::String(word), operand]) => self.combine(&word, operand, depth),
            Ok(_) => Err(Invalid::new("a filter of two elements must begin with And, Or or Not")),
            Err(items) => self.compare(items),
        }
    }

    fn combine(&mut self, word: &str, operand: Json, depth: usize) -> Result<Filter, Invalid> {
        let mut children = |operand: Json| match operand {
            Json::Array(items) => items
                .into_iter()
                .map(|f| self.node(f, depth + 1))
                .collect::<Result<Vec<_>, _>>(),
            other => Err(Invalid::new(format!(
                "{word} expects an array of filters, got {}",
                kind(&other)
            ))),
        };
        match word {
            "And" => Ok(Filter::And(children(operand)?)),
            "Or" => Ok(Filter::Or(children(operand)?)),
            "Not" => Ok(Filter::Not(Box::new(self.node(operand, depth + 1)?))),
            other => Err(Invalid::new(format!(
                "unknown filter {other:?} of two elements, expected And, Or, Not, or [attribute, operator, operand]"
            ))),
        }
    }

    fn compare(&mut self, items: Vec<Json>) -> Result<Filter, Invalid> {
        let mut items = items.into_iter();
        let (Some(Json::String(attribute)), Some(Json::String(name)), Some(operand)) =
            (items.next(), items.next(), items.next())
        else {
            return Err(Invalid::new(
                "a filter must be [attribute, operator, operand], [\"And\", […]], [\"Or\", […]] or [\"Not\", […]]",
            ));
        };
        let in_key = |why: String| Invalid::new(format!("filter error in key `{attribute}`: {why}"));
        let Some(op) = FilterOp::parse(&name) else {
            return Err(in_key(format!("unknown operator {name:?}")));
        };
        let given = items.next();
        if items.next().is_some() {
            return Err(in_key(format!(
                "{name} takes one operand and one object of options at most"
            )));
        }
        let operand = self.operand(op, operand).map_err(in_key)?;
        let options = options(op, given).map_err(in_key)?;
        Ok(Filter::Compare {
            attribute,
            op,
            operand,
            options,
        })
    }

    fn operand(&mut self, op: FilterOp, operand: Json) -> Result<Operand, String> {
        if let Some(name) = reference(&operand)? {
            return match (self.references, op.operand()) {
                (References::Allowed, OperandKind::Value) => Ok(Operand::Incoming(name.to_owned())),
                (References::Allowed, _) => Err(format!("{} takes no {REF_NEW}, only a value", op.name())),
                (References::Forbidden, _) => Err(format!(
                    "{REF_NEW} stands for the incoming row of a conditional write, and there is none here"
                )),
            };
        }
        self.values += operand.as_array().map_or(1, |list| list.len().max(1));
        if self.values > self.limits.filter_values_max {
            return Err(format!(
                "filters may have at most {} values, the elements of lists counted one by one",
                self.limits.filter_values_max
            ));
        }
        self.check_length(op, &operand)?;
        Ok(Operand::Value(operand))
    }

    /// Whether a text is short enough to be compiled or analysed. Other types are refused later.
    fn check_length(&self, op: FilterOp, operand: &Json) -> Result<(), String> {
        let chars = |json: &Json| json.as_str().map_or(0, |s| s.chars().count());
        let (length, max, unit) = match op.operand() {
            OperandKind::Value => return Ok(()),
            OperandKind::Pattern => (
                operand.as_str().map_or(0, str::len),
                self.limits.pattern_bytes_max,
                "bytes",
            ),
            OperandKind::FuzzyQuery => (chars(operand), self.limits.fuzzy_query_chars_max, "characters"),
            OperandKind::Text => {
                let length = match operand {
                    Json::Array(list) => list.iter().map(chars).sum(),
                    one => chars(one),
                };
                (length, self.limits.text_query_chars_max, "characters")
            }
        };
        match length <= max {
            true => Ok(()),
            false => Err(format!("{} takes at most {max} {unit}, got {length}", op.name())),
        }
    }
}

/// The attribute that an operand refers to.
fn reference(operand: &Json) -> Result<Option<&str>, String> {
    let Some(object) = operand.as_object() else {
        return Ok(None);
    };
    match (object.get(REF_NEW), object.len()) {
        (None, _) => Ok(None),
        (Some(Json::String(name)), 1) => Ok(Some(name)),
        (Some(_), _) => Err(format!(
            "a reference must be {{\"{REF_NEW}\": attribute}} and nothing else"
        )),
    }
}

fn options(op: FilterOp, given: Option<Json>) -> Result<CompareOptions, String> {
    let name = op.name();
    let given = match given {
        None => None,
        Some(Json::Object(object)) => Some(object),
        Some(other) => return Err(format!("the options of {name} must be an object, got {}", kind(&other))),
    };
    match (op, given) {
        (FilterOp::Fuzzy, given) => fuzzy_options(given.unwrap_or_default()).map(CompareOptions::Fuzzy),
        (_, None) => Ok(CompareOptions::None),
        (FilterOp::ContainsAllTokens | FilterOp::ContainsAnyToken, Some(mut object)) => {
            let last_as_prefix = take_bool(&mut object, LAST_AS_PREFIX)?.unwrap_or(false);
            no_more_keys(name, &object, LAST_AS_PREFIX)?;
            Ok(match last_as_prefix {
                true => CompareOptions::LastAsPrefix,
                false => CompareOptions::None,
            })
        }
        (_, Some(_)) => Err(format!("{name} takes one operand and no options")),
    }
}

fn fuzzy_options(mut object: serde_json::Map<String, Json>) -> Result<FuzzyOptions, String> {
    let case_sensitive = take_bool(&mut object, CASE_SENSITIVE)?.unwrap_or(true);
    let entries = match object.remove(MAX_EDIT_DISTANCE) {
        Some(Json::Array(list)) if (1..=EDIT_DISTANCES_MAX).contains(&list.len()) => list,
        _ => {
            return Err(format!(
                "Fuzzy needs the option {MAX_EDIT_DISTANCE}, an array of 1 to {EDIT_DISTANCES_MAX} objects with \
                 {MIN_QUERY_CHARS} and {DISTANCE}"
            ));
        }
    };
    no_more_keys("Fuzzy", &object, &format!("{MAX_EDIT_DISTANCE} or {CASE_SENSITIVE}"))?;
    Ok(FuzzyOptions {
        max_edit_distance: entries.iter().map(edit_distance).collect::<Result<_, _>>()?,
        case_sensitive,
    })
}

fn edit_distance(entry: &Json) -> Result<EditDistance, String> {
    let number = |key: &str| {
        let number = entry.get(key).and_then(Json::as_u64);
        number.and_then(|n| u32::try_from(n).ok())
    };
    let keys = entry.as_object().map_or(0, |object| object.len());
    let (Some(min_query_chars), Some(distance), 2) = (number(MIN_QUERY_CHARS), number(DISTANCE), keys) else {
        return Err(format!(
            "every element of {MAX_EDIT_DISTANCE} must be an object with the integers {MIN_QUERY_CHARS} and {DISTANCE}"
        ));
    };
    let least = 3 * (u64::from(distance) + 1);
    match u64::from(min_query_chars) >= least {
        true => Ok(EditDistance {
            min_query_chars,
            distance,
        }),
        false => Err(format!(
            "{MIN_QUERY_CHARS} must be at least 3 * (distance + 1), which is {least} for the distance {distance}, \
             got {min_query_chars}"
        )),
    }
}

fn take_bool(object: &mut serde_json::Map<String, Json>, key: &str) -> Result<Option<bool>, String> {
    match object.remove(key) {
        None => Ok(None),
        Some(Json::Bool(value)) => Ok(Some(value)),
        Some(other) => Err(format!("the option {key} must be a bool, got {}", kind(&other))),
    }
}

fn no_more_keys(name: &str, object: &serde_json::Map<String, Json>, expected: &str) -> Result<(), String> {
    match object.keys().next() {
        None => Ok(()),
        Some(key) => Err(format!("{name} has no option {key:?}, expected {expected}")),
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
