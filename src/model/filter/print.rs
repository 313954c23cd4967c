//! Filters as JSON: the inverse of the parser.

use serde_json::{Value as Json, json};

use super::parse::{CASE_SENSITIVE, DISTANCE, LAST_AS_PREFIX, MAX_EDIT_DISTANCE, MIN_QUERY_CHARS, REF_NEW};
use super::{CompareOptions, EditDistance, Filter, FuzzyOptions, Operand};

impl Filter {
    /// The filter as a client would write it; parsing gives it back.
    pub fn to_json(&self) -> Json {
        let all = |list: &[Filter]| Json::Array(list.iter().map(Filter::to_json).collect());
        match self {
            Filter::And(list) => json!(["And", all(list)]),
            Filter::Or(list) => json!(["Or", all(list)]),
            Filter::Not(inner) => json!(["Not", inner.to_json()]),
            Filter::Compare {
                attribute,
                op,
                operand,
                options,
            } => {
                let operand = match operand {
                    Operand::Value(value) => value.clone(),
                    Operand::Incoming(name) => json!({REF_NEW: name}),
                };
                let mut items = vec![json!(attribute), json!(op.name()), operand];
                items.extend(print_options(options));
                Json::Array(items)
            }
        }
    }
}

fn print_options(options: &CompareOptions) -> Option<Json> {
    match options {
        CompareOptions::None => None,
        CompareOptions::LastAsPrefix => Some(json!({LAST_AS_PREFIX: true})),
        CompareOptions::Fuzzy(FuzzyOptions {
            max_edit_distance,
            case_sensitive,
        }) => {
            let entry = |e: &EditDistance| json!({MIN_QUERY_CHARS: e.min_query_chars, DISTANCE: e.distance});
            let entries: Vec<Json> = max_edit_distance.iter().map(entry).collect();
            Some(json!({MAX_EDIT_DISTANCE: entries, CASE_SENSITIVE: case_sensitive}))
        }
    }
}
