//! Conditions on writes: references to the incoming row, and what they become.

use serde_json::{Value as Json, json};

use super::{Filter, FilterOp, Operand};

impl Filter {
    /// Whether an operand refers to an incoming row.
    pub fn has_references(&self) -> bool {
        match self {
            Filter::And(list) | Filter::Or(list) => list.iter().any(Filter::has_references),
            Filter::Not(inner) => inner.has_references(),
            Filter::Compare { operand, .. } => matches!(operand, Operand::Incoming(_)),
        }
    }

    /// Whether it matches patterns or texts, which may take long per row.
    pub fn matches_patterns(&self) -> bool {
        match self {
            Filter::And(list) | Filter::Or(list) => list.iter().any(Filter::matches_patterns),
            Filter::Not(inner) => inner.matches_patterns(),
            Filter::Compare { op, .. } => op.is_pattern(),
        }
    }

    /// The filter for one incoming row, without references.
    ///
    /// * `incoming` — the row's value of an attribute, null when it has none
    pub fn resolve(&self, incoming: &dyn Fn(&str) -> Json) -> Filter {
        let all = |list: &[Filter]| list.iter().map(|f| f.resolve(incoming)).collect();
        match self {
            Filter::And(list) => Filter::And(all(list)),
            Filter::Or(list) => Filter::Or(all(list)),
            Filter::Not(inner) => Filter::Not(Box::new(inner.resolve(incoming))),
            Filter::Compare {
                attribute,
                op,
                operand: Operand::Incoming(name),
                options,
            } => match incoming(name) {
                Json::Null => with_null(attribute, *op),
                value => Filter::Compare {
                    attribute: attribute.clone(),
                    op: *op,
                    operand: Operand::Value(value),
                    options: options.clone(),
                },
            },
            compare => compare.clone(),
        }
    }
}

/// A comparison with null, which a client who writes the operand himself could not always express:
/// no array has an element that is null, or that compares with null.
fn with_null(attribute: &str, op: FilterOp) -> Filter {
    match op {
        FilterOp::Eq | FilterOp::NotEq | FilterOp::Lt | FilterOp::Lte | FilterOp::Gt | FilterOp::Gte => {
            Filter::compare(attribute, op, Json::Null)
        }
        FilterOp::In | FilterOp::NotIn => Filter::compare(attribute, op, json!([null])),
        FilterOp::ContainsAny | FilterOp::NotContainsAny => Filter::compare(attribute, op, json!([])),
        // By an empty list, so that the attribute is still checked against the schema.
        FilterOp::Contains => Filter::compare(attribute, FilterOp::ContainsAny, json!([])),
        FilterOp::NotContains => Filter::compare(attribute, FilterOp::NotContainsAny, json!([])),
        FilterOp::AnyLt | FilterOp::AnyLte | FilterOp::AnyGt | FilterOp::AnyGte => {
            Filter::compare(attribute, FilterOp::ContainsAny, json!([]))
        }
        FilterOp::Glob | FilterOp::IGlob | FilterOp::Regex | FilterOp::Fuzzy => Filter::Or(Vec::new()),
        FilterOp::NotGlob | FilterOp::NotIGlob => Filter::And(Vec::new()),
        FilterOp::ContainsAllTokens | FilterOp::ContainsAnyToken | FilterOp::ContainsTokenSequence => {
            Filter::Or(Vec::new())
        }
    }
}
