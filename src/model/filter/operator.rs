//! The comparison operators and their names.

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
    AnyLt,
    AnyLte,
    AnyGt,
    AnyGte,
    Glob,
    NotGlob,
    IGlob,
    NotIGlob,
    Regex,
    Fuzzy,
    ContainsAllTokens,
    ContainsAnyToken,
    ContainsTokenSequence,
}

impl FilterOp {
    /// Every operator with its name on the wire.
    pub const ALL: [(FilterOp, &'static str); 25] = [
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
        (FilterOp::AnyLt, "AnyLt"),
        (FilterOp::AnyLte, "AnyLte"),
        (FilterOp::AnyGt, "AnyGt"),
        (FilterOp::AnyGte, "AnyGte"),
        (FilterOp::Glob, "Glob"),
        (FilterOp::NotGlob, "NotGlob"),
        (FilterOp::IGlob, "IGlob"),
        (FilterOp::NotIGlob, "NotIGlob"),
        (FilterOp::Regex, "Regex"),
        (FilterOp::Fuzzy, "Fuzzy"),
        (FilterOp::ContainsAllTokens, "ContainsAllTokens"),
        (FilterOp::ContainsAnyToken, "ContainsAnyToken"),
        (FilterOp::ContainsTokenSequence, "ContainsTokenSequence"),
    ];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(op, _)| *op == self)
            .map(|(_, n)| *n)
            .expect("the table lists every operator")
    }

    /// Whether it matches a pattern, or the tokens of a text.
    pub fn is_pattern(self) -> bool {
        use FilterOp::*;
        match self {
            Glob | NotGlob | IGlob | NotIGlob | Regex | Fuzzy => true,
            ContainsAllTokens | ContainsAnyToken | ContainsTokenSequence => true,
            Eq | NotEq | In | NotIn | Lt | Lte | Gt | Gte | AnyLt | AnyLte | AnyGt | AnyGte => false,
            Contains | NotContains | ContainsAny | NotContainsAny => false,
        }
    }

    /// Parses the name on the wire.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, n)| *n == name).map(|(op, _)| *op)
    }

    /// What its operand is.
    pub fn operand(self) -> OperandKind {
        use FilterOp::*;
        match self {
            Eq | NotEq | In | NotIn | Lt | Lte | Gt | Gte | Contains | NotContains | ContainsAny | NotContainsAny
            | AnyLt | AnyLte | AnyGt | AnyGte => OperandKind::Value,
            Glob | NotGlob | IGlob | NotIGlob | Regex => OperandKind::Pattern,
            Fuzzy => OperandKind::FuzzyQuery,
            ContainsAllTokens | ContainsAnyToken | ContainsTokenSequence => OperandKind::Text,
        }
    }
}

/// What the operand of an operator is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperandKind {
    /// A value, or values, of the attribute's type. The only ones that may be references.
    Value,
    /// A string that is compiled.
    Pattern,
    /// A string to find with edits.
    FuzzyQuery,
    /// A string, or an array of strings, to be analysed.
    Text,
}
