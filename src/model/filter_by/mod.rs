//! Filters as Typesense's clients write them: `brand:=Acme && (price:[10..20] || tags: [new, sale])`.
//!
//! [`FilterBy::parse`] reads the text alone; [`FilterBy::compile`] makes a [`Filter`] of it for a schema,
//! because what `:` means depends on the attribute's type.
//!
//! | form | on texts | on numbers and bools |
//! | --- | --- | --- |
//! | `f: v` | has all words of `v`; `v*`: the last as a prefix | equals |
//! | `f:= v` | is `v`, byte by byte; `v*`: begins with it; of an array: an element | equals |
//! | `f:! v`, `f:!= v` | the opposite of the two above | differs |
//! | `f:> v`, `:>=`, `:<`, `:<=` | – | compares |
//! | `f:[a..b]` | – | from a to b, both included; not for arrays |
//! | `f:[a, b, …]` | one of them | one of them; elements may be ranges and comparisons |
//!
//! `&&` binds tighter than `||`. Values that hold `,`, `&&`, `||` or brackets stand in backticks, where a backslash
//! makes a backtick part of the value. Conditions on places, on fields of objects and on other collections are refused.

mod compile;
mod parse;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::access::MandatoryFilter;
use super::{Filter, Invalid, Schema};

/// How large a text may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub bytes_max: usize,
    /// Nesting of parentheses.
    pub depth_max: usize,
    /// Conditions, each value of a list counted.
    pub leaves_max: usize,
}

impl Bounds {
    /// Inside scoped search keys.
    pub const EMBEDDED: Bounds = Bounds {
        bytes_max: 4096,
        depth_max: 8,
        leaves_max: 256,
    };
    /// In requests, where lists of ids are common.
    pub const REQUEST: Bounds = Bounds {
        bytes_max: 4 << 20,
        depth_max: 32,
        leaves_max: 100_000,
    };
}

/// A parsed filter. Nothing in it is checked against a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterBy {
    root: Node,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    And(Vec<Node>),
    Or(Vec<Node>),
    Clause(Clause),
}

/// `field:op values`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Clause {
    field: String,
    negated: bool,
    /// Whether `=` was written: on texts the whole value, not its words.
    exact: bool,
    /// At least one; the clause holds when one of them does (before `negated`).
    tests: Vec<Test>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Value {
        text: String,
        /// Whether a `*` stood behind it, outside of backticks.
        prefix: bool,
    },
    Compare {
        relation: Relation,
        text: String,
    },
    Range {
        from: String,
        to: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Lt,
    Lte,
    Gt,
    Gte,
}

impl FilterBy {
    /// Parses the filter of a scoped search key. An empty text selects everything.
    ///
    /// # Errors
    ///
    /// The sentence for the client: not the grammar above, or beyond [`Bounds::EMBEDDED`].
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        Self::parse_within(text, Bounds::EMBEDDED)
    }

    /// Parses a filter of another size.
    ///
    /// # Errors
    ///
    /// As [`FilterBy::parse`].
    pub fn parse_within(text: &str, bounds: Bounds) -> Result<Self, Invalid> {
        Ok(Self {
            root: parse::parse(text, bounds)?,
        })
    }

    /// The names of the fields in it, in the order of the text, repeated as there.
    pub fn fields(&self) -> Vec<&str> {
        fn collect<'a>(node: &'a Node, into: &mut Vec<&'a str>) {
            match node {
                Node::And(list) | Node::Or(list) => list.iter().for_each(|n| collect(n, into)),
                Node::Clause(clause) => into.push(&clause.field),
            }
        }
        let mut fields = Vec::new();
        collect(&self.root, &mut fields);
        fields
    }

    /// The filter for rows of a namespace with this schema.
    ///
    /// # Errors
    ///
    /// The sentence for the client: an unknown attribute, a value or operator that its type does not have.
    pub fn compile(&self, schema: &Schema) -> Result<Filter, Invalid> {
        compile::node(&self.root, schema)
    }
}

impl MandatoryFilter for FilterBy {
    fn compile(&self, schema: &Schema) -> Result<Filter, Invalid> {
        FilterBy::compile(self, schema)
    }
}

/// A filter of a scoped key, as the engine takes it.
///
/// # Errors
///
/// As [`FilterBy::parse`].
pub fn mandatory(text: &str) -> Result<Arc<dyn MandatoryFilter>, Invalid> {
    Ok(Arc::new(FilterBy::parse(text)?))
}
