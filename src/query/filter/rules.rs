//! What holds for an operator whatever its operand: the types it works on, the index option it
//! needs, whether it negates, and what it makes of rows without a value. One table.

use crate::model::{AttrType, Attribute, FilterOp, Invalid, Scalar};

/// What holds for an operator.
pub(super) struct Rule {
    pub types: Types,
    pub needs: Needs,
    /// Whether it asks for the opposite of what its condition says of a value.
    pub negated: bool,
    pub null: NullRows,
}

/// The attributes that an operator works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Types {
    Any,
    /// Scalars with an order.
    Ordered,
    Arrays,
    /// Arrays of what has an order and is no text.
    NumericArrays,
    Texts,
}

/// The option that an attribute must have in the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    Filterable,
    GlobOrFilterable,
    Regex,
    Fuzzy,
    FullText,
}

/// Whether rows without a value pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NullRows {
    Fail,
    Pass,
    /// When the operand is null, or is a list with a null in it.
    PassIfOperandNull,
    /// Unless the operand is null, or is a list with a null in it.
    PassUnlessOperandNull,
}

/// The table.
pub(super) fn rule(op: FilterOp) -> Rule {
    use FilterOp::*;
    use Needs::*;
    use NullRows::*;
    use Types::*;
    let (types, needs, negated, null) = match op {
        Eq | In => (Any, Filterable, false, PassIfOperandNull),
        NotEq | NotIn => (Any, Filterable, true, PassUnlessOperandNull),
        // Null sorts before every value, and is not less than itself.
        Lt => (Ordered, Filterable, false, PassUnlessOperandNull),
        Lte => (Ordered, Filterable, false, Pass),
        Gt | Gte => (Ordered, Filterable, false, Fail),
        Contains | ContainsAny => (Arrays, Filterable, false, Fail),
        NotContains | NotContainsAny => (Arrays, Filterable, true, Pass),
        AnyLt | AnyLte | AnyGt | AnyGte => (NumericArrays, Filterable, false, Fail),
        Glob | IGlob => (Texts, GlobOrFilterable, false, Fail),
        NotGlob | NotIGlob => (Texts, GlobOrFilterable, true, Pass),
        FilterOp::Regex => (Texts, Needs::Regex, false, Fail),
        FilterOp::Fuzzy => (Texts, Needs::Fuzzy, false, Fail),
        ContainsAllTokens | ContainsAnyToken | ContainsTokenSequence => (Texts, FullText, false, Fail),
    };
    Rule {
        types,
        needs,
        negated,
        null,
    }
}

impl NullRows {
    /// * `null_operand` — the operand is null, or is a list with a null in it
    pub(super) fn pass(self, null_operand: bool) -> bool {
        match self {
            NullRows::Fail => false,
            NullRows::Pass => true,
            NullRows::PassIfOperandNull => null_operand,
            NullRows::PassUnlessOperandNull => !null_operand,
        }
    }
}

impl Types {
    /// Checks that `op`, whose types these are, works on an attribute of type `ty`.
    pub(super) fn check(self, name: &str, op: FilterOp, ty: AttrType) -> Result<(), Invalid> {
        let op = op.name();
        if !ty.can_be_filterable() {
            return Err(Invalid::new(format!(
                "filter error in key `{name}`: attributes of type {ty} cannot be filtered"
            )));
        }
        let (fits, what) = match self {
            Types::Any => (true, "all"),
            Types::Ordered => (
                matches!(ty, AttrType::Scalar(s) if has_order(s)),
                "int, uint, float, datetime, string and uuid",
            ),
            Types::Arrays => (matches!(ty, AttrType::Array(_)), "array"),
            Types::NumericArrays => (
                matches!(ty, AttrType::Array(s) if has_order(s) && !matches!(s, Scalar::String | Scalar::Uuid)),
                "[]int, []uint, []float and []datetime",
            ),
            Types::Texts => (ty.can_be_searched(), "string and []string"),
        };
        match fits {
            true => Ok(()),
            false => Err(Invalid::new(format!(
                "filter error in key `{name}`: {op} works on {what} attributes, and the attribute is {ty}"
            ))),
        }
    }
}

fn has_order(scalar: Scalar) -> bool {
    !matches!(scalar, Scalar::Bool | Scalar::Bytes)
}

impl Needs {
    /// Checks that an attribute has the option that `op` needs.
    ///
    /// * `attribute` — `None` for the id, which is filterable and has no other option
    pub(super) fn check(self, name: &str, op: FilterOp, attribute: Option<&Attribute>) -> Result<(), Invalid> {
        let has = |option: fn(&Attribute) -> bool| attribute.is_some_and(option);
        let filterable = attribute.is_none_or(|a| a.filterable);
        let (given, what, how) = match self {
            Needs::Filterable => (filterable, "that is filterable", "\"filterable\": true"),
            Needs::GlobOrFilterable => (
                filterable || has(|a| a.glob),
                "with a glob index, or one that is filterable",
                "\"glob\": true",
            ),
            Needs::Regex => (has(|a| a.regex), "with a regex index", "\"regex\": true"),
            Needs::Fuzzy => (has(|a| a.fuzzy), "with a fuzzy index", "\"fuzzy\": true"),
            Needs::FullText => (
                has(|a| a.full_text.is_some()),
                "with full-text search",
                "\"full_text_search\": true",
            ),
        };
        match given {
            true => Ok(()),
            false => Err(Invalid::new(format!(
                "filter error in key `{name}`: {} needs an attribute {what}; set {how} for it in the schema",
                op.name()
            ))),
        }
    }
}
