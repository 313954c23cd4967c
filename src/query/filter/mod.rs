//! Filters: bound to a schema once, then evaluated column by column.
//!
//! # What stays true
//!
//! - Logic is two-valued: a test is true or false for every row, null rows included (`rules` is
//!   the only place that says which), so `Not` is the exact complement.
//! - Comparisons are exact. A number that the attribute's type cannot hold, such as 2.5 or 2^70
//!   for an int, is turned into the range of values that satisfy the comparison when the filter is
//!   bound; nothing is rounded.
//! - Strings, uuids and bytes are compared bytewise. Patterns and fuzzy queries see characters.
//! - The answer is the same of rows in memory (`evaluate`) and of rows in segments (`stored`).
//! - Every operator takes time in proportion to the text it looks at, times the size of its operand,
//!   which is bounded (`pattern`, `fuzzy`, `tokens`).
//!
//! # Cost
//!
//! Of rows in memory no requests. One pass over each tested column, a bit per row in memory for each open node of
//! the filter. Tests of tokens read the postings of the chunk's text index instead.

mod bind;
mod evaluate;
mod fuzzy;
mod indexed;
mod operand;
mod pattern;
mod rules;
mod set;
mod steps;
mod stepwise;
mod stored;
mod tokens;

#[cfg(test)]
pub(super) mod tests;

pub use bind::bind;
pub use evaluate::{evaluate, evaluate_rows, matches_row};
pub(super) use indexed::Prepared;
pub(super) use stored::{Planned, Stored};

use std::collections::BTreeSet;
use std::ops::{Bound, RangeInclusive};
use std::sync::Arc;

use super::needs::Needs;
use crate::model::{AttrId, Id, IdKind};
use fuzzy::FuzzyQuery;
use pattern::Pattern;
use set::Set;
use tokens::TokenTest;

/// A filter whose operands are typed and whose attributes are known. Valid for the schema it was
/// bound to and every later one in which its attributes still exist.
#[derive(Clone, Debug)]
pub enum BoundFilter {
    And(Vec<BoundFilter>),
    Or(Vec<BoundFilter>),
    Not(Box<BoundFilter>),
    Test(Arc<Test>),
}

impl BoundFilter {
    /// Both of two filters.
    pub(super) fn and(self, other: BoundFilter) -> BoundFilter {
        let mut both = vec![self, other];
        // The cheap one first: the other is asked only about the rows that are left.
        both.sort_by_key(BoundFilter::cost);
        BoundFilter::And(both)
    }

    /// Adds what evaluating it looks at.
    pub(super) fn needs(&self, needs: &mut Needs) {
        match self {
            BoundFilter::And(list) | BoundFilter::Or(list) => list.iter().for_each(|f| f.needs(needs)),
            BoundFilter::Not(inner) => inner.needs(needs),
            BoundFilter::Test(test) => match (&test.condition, test.target) {
                (_, Target::Id) => needs.ids = true,
                (Condition::Tokens(tokens), Target::Attribute(id)) => tokens.needs(id, needs),
                (_, Target::Attribute(id)) => needs.column(id),
            },
        }
    }

    /// Adds the values that evaluating it without text indexes looks at.
    pub(super) fn values(&self, needs: &mut Needs) {
        match self {
            BoundFilter::And(list) | BoundFilter::Or(list) => list.iter().for_each(|f| f.values(needs)),
            BoundFilter::Not(inner) => inner.values(needs),
            BoundFilter::Test(test) => match test.target {
                Target::Id => needs.ids = true,
                Target::Attribute(id) => needs.column(id),
            },
        }
    }

    /// The bounds of the ids that pass, where it says nothing else and these are all on one side of an id, or between two.
    pub(super) fn ids(&self, kind: IdKind) -> Option<(Bound<Id>, Bound<Id>)> {
        let BoundFilter::Test(test) = self else { return None };
        let (Target::Id, Condition::Scalar(atom), false) = (test.target, &test.condition, test.negated) else {
            return None;
        };
        let (comparison, bytes) = match atom {
            // A single id is looked up.
            Atom::UInt(range) if range.start() == range.end() => return None,
            Atom::UInt(range) => {
                let bound = |n: &u64| Bound::Included(Id::UInt(*n));
                return (kind == IdKind::UInt).then(|| (bound(range.start()), bound(range.end())));
            }
            Atom::Bytes(comparison, bytes) => (comparison, bytes),
            _ => return None,
        };
        let id = match kind {
            IdKind::Uuid => Id::Uuid(uuid::Uuid::from_slice(bytes).ok()?),
            IdKind::String => Id::String(std::str::from_utf8(bytes).ok()?.into()),
            IdKind::UInt => return None,
        };
        match comparison {
            Comparison::Eq => None,
            Comparison::Lt => Some((Bound::Unbounded, Bound::Excluded(id))),
            Comparison::Lte => Some((Bound::Unbounded, Bound::Included(id))),
            Comparison::Gt => Some((Bound::Excluded(id), Bound::Unbounded)),
            Comparison::Gte => Some((Bound::Included(id), Bound::Unbounded)),
        }
    }

    /// Adds the attributes whose tokens are looked for.
    pub(super) fn searched(&self, attributes: &mut BTreeSet<AttrId>) {
        match self {
            BoundFilter::And(list) | BoundFilter::Or(list) => list.iter().for_each(|f| f.searched(attributes)),
            BoundFilter::Not(inner) => inner.searched(attributes),
            BoundFilter::Test(test) => {
                if let (Condition::Tokens(_), Target::Attribute(id)) = (&test.condition, test.target) {
                    attributes.insert(id);
                }
            }
        }
    }

    /// How many nodes and operands there are; a pattern or a text counts as many.
    pub(super) fn weight(&self) -> usize {
        match self {
            BoundFilter::And(list) | BoundFilter::Or(list) => list.iter().fold(1, |sum, f| sum + f.weight()),
            BoundFilter::Not(inner) => 1 + inner.weight(),
            BoundFilter::Test(test) => test.condition.weight(),
        }
    }

    /// What a row costs, roughly: to be compared only.
    fn cost(&self) -> u32 {
        match self {
            BoundFilter::And(list) | BoundFilter::Or(list) => list.iter().map(BoundFilter::cost).max().unwrap_or(0),
            BoundFilter::Not(inner) => inner.cost(),
            BoundFilter::Test(test) => match &test.condition {
                Condition::Tokens(_) => 2,
                Condition::Scalar(atom) | Condition::AnyElement(atom) => match atom {
                    Atom::Fuzzy(_) => 4,
                    Atom::Pattern(_) => 3,
                    Atom::Bytes(..) | Atom::BytesIn(_) => 1,
                    _ => 0,
                },
                Condition::Whole(_) => 1,
            },
        }
    }
}

/// One comparison.
#[derive(Clone, Debug)]
pub struct Test {
    target: Target,
    condition: Condition,
    /// Whether a row with a value passes when the condition does not hold.
    negated: bool,
    /// Whether a null row passes.
    null: bool,
}

impl Test {
    /// Whether texts are searched.
    fn is_pattern(&self) -> bool {
        matches!(
            self.condition,
            Condition::Scalar(Atom::Pattern(_) | Atom::Fuzzy(_))
                | Condition::AnyElement(Atom::Pattern(_) | Atom::Fuzzy(_))
        )
    }

    /// What it takes to look at a value, roughly, in nanoseconds.
    fn value_ns(&self) -> u64 {
        match &self.condition {
            _ if self.is_pattern() => 100,
            Condition::Tokens(_) => 1000,
            Condition::Scalar(atom) | Condition::AnyElement(atom) => match atom {
                Atom::Bytes(..) | Atom::BytesIn(_) => 5,
                _ => 1,
            },
            Condition::Whole(_) => 5,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Target {
    Id,
    Attribute(AttrId),
}

/// What has to hold for a value that is not null.
#[derive(Clone, Debug)]
enum Condition {
    /// Of the value.
    Scalar(Atom),
    /// Of at least one element.
    AnyElement(Atom),
    /// Of the elements, one by one; there are as many.
    Whole(Vec<Atom>),
    /// Of the tokens of the text, or of the texts.
    Tokens(Arc<TokenTest>),
}

impl Condition {
    fn weight(&self) -> usize {
        const SEARCHED: usize = 1000;
        match self {
            Condition::Scalar(atom) | Condition::AnyElement(atom) => match atom {
                Atom::IntIn(set) => 1 + set.iter().count(),
                Atom::UIntIn(set) | Atom::FloatIn(set) => 1 + set.iter().count(),
                Atom::BytesIn(set) => 1 + set.iter().count(),
                Atom::Pattern(_) | Atom::Fuzzy(_) => SEARCHED,
                _ => 1,
            },
            Condition::Whole(atoms) => 1 + atoms.len(),
            Condition::Tokens(_) => SEARCHED,
        }
    }
}

/// What has to hold for one scalar. The variant fits the attribute's type.
#[derive(Clone, Debug)]
enum Atom {
    Never,
    Always,
    Int(RangeInclusive<i64>),
    UInt(RangeInclusive<u64>),
    Float(RangeInclusive<f64>),
    IntIn(Set<i64>),
    UIntIn(Set<u64>),
    /// By [`float_key`].
    FloatIn(Set<u64>),
    /// Whether `false` passes, whether `true` does.
    Bool([bool; 2]),
    Bytes(Comparison, Box<[u8]>),
    BytesIn(Set<Box<[u8]>>),
    Pattern(Pattern),
    Fuzzy(Arc<FuzzyQuery>),
}

/// The comparisons of a scalar with one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Eq,
    Lt,
    Lte,
    Gt,
    Gte,
}

/// The bits by which floats are looked up: equal for equal floats, which −0 and 0 are.
fn float_key(x: f64) -> u64 {
    (x + 0.0).to_bits()
}
