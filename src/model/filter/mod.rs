//! Filters as clients write them, before they are checked against a schema.
//!
//! [`parse()`] makes them of JSON, within limits; [`Filter::to_json`] is its inverse.

mod operator;
pub mod parse;
mod print;
mod resolve;

#[cfg(test)]
mod tests;

pub use operator::FilterOp;
pub use parse::parse;

use operator::OperandKind;
use serde_json::Value as Json;

/// The most nodes a filter may have.
pub const FILTER_NODES_MAX: usize = 1024;
/// The deepest nesting of a filter.
pub const FILTER_DEPTH_MAX: usize = 64;
/// The most entries of the option `max_edit_distance`.
pub const EDIT_DISTANCES_MAX: usize = 16;

/// A condition on rows: two-valued, so that `Not` is the exact complement.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// True for every row when empty.
    And(Vec<Filter>),
    /// False for every row when empty.
    Or(Vec<Filter>),
    Not(Box<Filter>),
    /// `[attribute, operator, operand]`, or with an object of options as the fourth element. The
    /// operand is typed against the schema when the filter is bound (`query::filter`).
    Compare {
        attribute: String,
        op: FilterOp,
        operand: Operand,
        options: CompareOptions,
    },
}

impl Filter {
    /// A comparison with a value, without options.
    pub fn compare(attribute: impl Into<String>, op: FilterOp, operand: impl Into<Json>) -> Self {
        Filter::Compare {
            attribute: attribute.into(),
            op,
            operand: Operand::Value(operand.into()),
            options: CompareOptions::None,
        }
    }

    /// How many nodes and operands there are; a pattern or a text, which is compiled or analysed, counts as many.
    pub fn weight(&self) -> usize {
        const COMPILED: usize = 1000;
        match self {
            Filter::And(list) | Filter::Or(list) => list.iter().fold(1, |sum, f| sum + f.weight()),
            Filter::Not(inner) => 1 + inner.weight(),
            Filter::Compare { op, operand, .. } => match (op.operand(), operand) {
                (OperandKind::Value, Operand::Value(Json::Array(list))) => 1 + list.len(),
                (OperandKind::Value, _) => 1,
                (OperandKind::Pattern | OperandKind::FuzzyQuery | OperandKind::Text, _) => COMPILED,
            },
        }
    }
}

/// What an attribute is compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// This value.
    Value(Json),
    /// `{"$ref_new": attribute}`: the value that the write brings for the row. Only in conditions of
    /// writes; [`Filter::resolve`] replaces it.
    Incoming(String),
}

/// Whether operands may be [`Operand::Incoming`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum References {
    /// In conditions of writes.
    Allowed,
    /// Everywhere else, where there is no incoming row.
    Forbidden,
}

/// What a comparison says besides its operand.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum CompareOptions {
    #[default]
    None,
    /// Of `ContainsAllTokens` and `ContainsAnyToken`: the last token also stands for longer ones that
    /// begin with it.
    LastAsPrefix,
    /// Of `Fuzzy`, which always has them.
    Fuzzy(FuzzyOptions),
}

/// How far a text may be from the query of `Fuzzy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FuzzyOptions {
    /// 1 to [`EDIT_DISTANCES_MAX`] entries.
    pub max_edit_distance: Vec<EditDistance>,
    /// Whether a change of case counts as an edit.
    pub case_sensitive: bool,
}

/// What queries from some length on may differ by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EditDistance {
    /// At least 3 · (`distance` + 1), so that most of a match is not edits.
    pub min_query_chars: u32,
    /// Edits at most.
    pub distance: u32,
}

impl FuzzyOptions {
    /// The edits allowed to a query of so many characters: those of the last entry that is not for
    /// longer queries; `None` when there is none, and the query matches nothing.
    pub fn distance_for(&self, query_chars: usize) -> Option<u32> {
        let applies = |e: &&EditDistance| query_chars >= e.min_query_chars as usize;
        self.max_edit_distance.iter().rev().find(applies).map(|e| e.distance)
    }
}
