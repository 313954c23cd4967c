//! Filters as clients write them, before they are checked against a schema.

pub mod parse;

pub use parse::parse;

/// The most nodes a filter may have.
pub const FILTER_NODES_MAX: usize = 1024;
/// The deepest nesting of a filter.
pub const FILTER_DEPTH_MAX: usize = 64;

/// A condition on rows: two-valued, so that `Not` is the exact complement.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// True for every row when empty.
    And(Vec<Filter>),
    /// False for every row when empty.
    Or(Vec<Filter>),
    Not(Box<Filter>),
    /// `[attribute, operator, operand]`. The operand is typed against the schema when the filter
    /// is bound (`query::filter`).
    Compare {
        attribute: String,
        op: FilterOp,
        operand: serde_json::Value,
    },
}

/// The comparison operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FilterOp {
    Eq,
    NotEq,
    In,
    NotIn,
    Lt,
    Lte,
    Gt,
    Gte,
    Contains,
    NotContains,
    ContainsAny,
    NotContainsAny,
}

impl FilterOp {
    /// Every operator with its name on the wire.
    pub const ALL: [(FilterOp, &'static str); 12] = [
        (FilterOp::Eq, "Eq"),
        (FilterOp::NotEq, "NotEq"),
        (FilterOp::In, "In"),
        (FilterOp::NotIn, "NotIn"),
        (FilterOp::Lt, "Lt"),
        (FilterOp::Lte, "Lte"),
        (FilterOp::Gt, "Gt"),
        (FilterOp::Gte, "Gte"),
        (FilterOp::Contains, "Contains"),
        (FilterOp::NotContains, "NotContains"),
        (FilterOp::ContainsAny, "ContainsAny"),
        (FilterOp::NotContainsAny, "NotContainsAny"),
    ];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(op, _)| *op == self)
            .map(|(_, n)| *n)
            .expect("the table lists every operator")
    }

    /// Parses the name on the wire.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, n)| *n == name).map(|(op, _)| *op)
    }
}
