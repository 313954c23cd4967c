//! Filters: bound to a schema once, then evaluated column by column.
//!
//! # What stays true
//!
//! - Logic is two-valued: a test is true or false for every row, null rows included
//!   (`null_matches` is the only place that says which), so `Not` is the exact complement.
//! - Comparisons are exact. A number that the attribute's type cannot hold, such as 2.5 or 2^70
//!   for an int, is turned into the range of values that satisfy the comparison when the filter is
//!   bound; nothing is rounded.
//! - Strings, uuids and bytes are compared bytewise.
//!
//! # Cost
//!
//! No requests. One pass over each tested column, a bit per row in memory for each open node of
//! the filter.

mod bind;
mod evaluate;
mod operand;

#[cfg(test)]
mod tests;

pub use bind::bind;
pub use evaluate::{evaluate, evaluate_rows, matches_row};

use std::hash::Hash;
use std::ops::RangeInclusive;

use hashbrown::{Equivalent, HashSet};

use crate::model::{AttrId, FilterOp};

/// A filter whose operands are typed and whose attributes are known. Valid for the schema it was
/// bound to and every later one in which its attributes still exist.
#[derive(Clone, Debug)]
pub enum BoundFilter {
    And(Vec<BoundFilter>),
    Or(Vec<BoundFilter>),
    Not(Box<BoundFilter>),
    Test(Test),
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

/// Whether rows without a value pass a test. The only place where null rules are written.
///
/// * `null_operand` — the operand is null, or is a list with a null in it
fn null_matches(op: FilterOp, null_operand: bool) -> bool {
    match op {
        FilterOp::Eq | FilterOp::In => null_operand,
        FilterOp::NotEq | FilterOp::NotIn => !null_operand,
        // Null sorts before every value, and is not less than itself.
        FilterOp::Lt => !null_operand,
        FilterOp::Lte => true,
        FilterOp::Gt | FilterOp::Gte => false,
        FilterOp::Contains | FilterOp::ContainsAny => false,
        FilterOp::NotContains | FilterOp::NotContainsAny => true,
    }
}

/// The bits by which floats are looked up: equal for equal floats, which −0 and 0 are.
fn float_key(x: f64) -> u64 {
    (x + 0.0).to_bits()
}

/// Lists up to this long are searched one by one, which is faster than hashing.
const FEW: usize = 8;

/// Values to look for.
#[derive(Clone, Debug)]
enum Set<T> {
    Few(Vec<T>),
    Many(HashSet<T>),
}

impl<T: Eq + Hash> Set<T> {
    fn contains<Q: Equivalent<T> + Hash + ?Sized>(&self, value: &Q) -> bool {
        match self {
            Set::Few(list) => list.iter().any(|x| value.equivalent(x)),
            Set::Many(set) => set.contains(value),
        }
    }
}

impl<T: Eq + Hash> FromIterator<T> for Set<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let set: HashSet<T> = values.into_iter().collect();
        match set.len() <= FEW {
            true => Set::Few(set.into_iter().collect()),
            false => Set::Many(set),
        }
    }
}
