//! Scores: ranking expressions bound to a schema, weighed against a snapshot, evaluated.
//!
//! [`bind`] types an expression; [`BoundScore::weigh`] adds the statistics of all parts of a
//! snapshot; [`Weighed`] then scores rows, a column at a time or one by one, with the same bits.
//!
//! # What stays true
//!
//! - One function per operator, in `evaluate`.
//! - A clause has a value for a row, or none. This table is the only place that says which:
//!
//!   | clause | of a row | value |
//!   | --- | --- | --- |
//!   | BM25, SparseKNN | null, or nothing in common with the query | 0 |
//!   | filter | as filters say, nulls included | 1 or 0 |
//!   | Attribute | null | none |
//!   | Attribute | below 0 | 0 |
//!   | Dist | null | none |
//!   | Saturate, Decay, Product | whose operand has none | none |
//!   | Sum, Max | where no operand has one (constants do not count) | none |
//!
//!   So a null adds nothing to a sum, and is not taken for the origin of a `Decay`.
//! - A query returns the rows whose score is above 0, which is those with a positive clause. A
//!   score that is `Attribute` or `Dist`, or a curve of one, also returns rows at 0, but none
//!   without a value.
//! - Scores are finite, and added up in f64 in the order of the query's terms, then of its clauses.
//!
//! # Cost
//!
//! No requests. A pass over each column that the expression names, and 8 bytes for each open
//! clause and row of a block of rows.

mod bind;
mod evaluate;
#[cfg(test)]
pub(super) mod tests;

pub use bind::bind;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::filter::BoundFilter;
use super::needs::Needs;
use crate::base::Bitset;
use crate::index::sparse::SparseQuery;
use crate::index::text::{Bm25, Posting, QueryTerm};
use crate::model::{AttrId, FullTextConfig};
use crate::tail::Part;

/// A ranking expression whose attributes and operands are known. Valid for the schema it was bound
/// to and every later one in which its attributes still exist.
#[derive(Clone)]
pub struct BoundScore(Expression<BoundText>);

/// An expression with the statistics of a snapshot, ready to score its rows.
pub struct Weighed {
    root: Expression<WeighedText>,
    parts: Vec<Part>,
    held: BTreeMap<usize, Held>,
}

/// The rows of a part for which the filters of an expression hold, as far as indexes told: by the address of the filter,
/// which the expression holds. Bits of rows that are not scored mean nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Held(BTreeMap<usize, Arc<Bitset>>);

impl Held {
    /// Of some filters of [`BoundScore::filters`].
    pub fn new(filters: impl IntoIterator<Item = (Arc<BoundFilter>, Bitset)>) -> Self {
        let of_filter = |(filter, rows): (Arc<BoundFilter>, Bitset)| (Arc::as_ptr(&filter).addr(), Arc::new(rows));
        Self(filters.into_iter().map(of_filter).collect())
    }

    fn rows(&self, filter: &Arc<BoundFilter>) -> Option<&Bitset> {
        self.0.get(&Arc::as_ptr(filter).addr()).map(|rows| &**rows)
    }
}

/// One clause; `T` is what a text clause needs.
#[derive(Clone)]
enum Expression<T> {
    Text(T),
    Sparse {
        attribute: AttrId,
        query: Arc<SparseQuery>,
    },
    Sum(Vec<Expression<T>>),
    Max {
        of: Vec<Expression<T>>,
        /// The greatest of the constants; −∞ without any.
        least: f64,
    },
    Product {
        weight: f64,
        of: Box<Expression<T>>,
    },
    Filter(Arc<BoundFilter>),
    Attribute(AttrId),
    Distance {
        attribute: AttrId,
        origin: Origin,
    },
    Curve {
        curve: Curve,
        of: Box<Expression<T>>,
    },
}

/// What distances are measured from. Of datetimes, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Origin {
    Int(i128),
    Float(f64),
}

/// A curve with its parameters, both finite and above 0.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Curve {
    rising: bool,
    midpoint: f64,
    exponent: f64,
}

/// A BM25 clause: the terms of its query.
#[derive(Clone)]
pub struct BoundText {
    attribute: AttrId,
    config: FullTextConfig,
    terms: Vec<QueryTerm>,
    /// The last token, when it is a prefix.
    prefix: Option<String>,
}

/// A BM25 clause with the statistics of a snapshot.
struct WeighedText {
    attribute: AttrId,
    scorer: Bm25,
    /// The rows of each part that match by the prefix.
    prefixed: Vec<Vec<Posting>>,
}

impl BoundScore {
    /// Adds the statistics of a snapshot: those of all its parts, deleted rows included.
    ///
    /// Looks every term of the query up in every part, and goes through all terms of all parts for
    /// a prefix.
    ///
    /// * `all` — the parts of the snapshot
    /// * `parts` — those whose rows are scored, which may be copies of some rows
    pub fn weigh(&self, all: &[Part], parts: &[Part]) -> Weighed {
        let weigh = |text: &BoundText| {
            let scorer = text.scorer(all);
            let prefixed = |part: &Part| match part.chunk.text_index(text.attribute) {
                Some(index) => scorer.prefixed(index),
                None => Vec::new(),
            };
            WeighedText {
                attribute: text.attribute,
                prefixed: parts.iter().map(prefixed).collect(),
                scorer,
            }
        };
        Weighed {
            root: self.0.map_text(&weigh),
            parts: parts.to_vec(),
            held: BTreeMap::new(),
        }
    }

    /// Adds what scoring rows looks at.
    pub(super) fn needs(&self, needs: &mut Needs) {
        self.0.needs(needs, true);
    }

    /// The same where it is known for which rows its filters hold.
    pub(super) fn needs_but_filters(&self, needs: &mut Needs) {
        self.0.needs(needs, false);
    }

    /// The filters that are clauses of it.
    pub(super) fn filters(&self) -> Vec<Arc<BoundFilter>> {
        let mut filters = Vec::new();
        self.0.filters(&mut filters);
        filters
    }

    /// The clause, when the expression is one BM25 clause and nothing else.
    pub fn as_text(&self) -> Option<&BoundText> {
        match &self.0 {
            Expression::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl BoundText {
    /// The attribute that is searched.
    pub fn attribute(&self) -> AttrId {
        self.attribute
    }

    /// The distinct terms of the query.
    pub fn terms(&self) -> &[QueryTerm] {
        &self.terms
    }

    /// Adds what scoring rows looks at.
    pub(super) fn needs(&self, needs: &mut Needs) {
        needs.text(self.attribute, &self.terms, self.prefix.as_deref());
    }

    /// The terms weighed against the indexes of all parts.
    pub fn scorer(&self, parts: &[Part]) -> Bm25 {
        let indexes = parts.iter().filter_map(|p| p.chunk.text_index(self.attribute));
        Bm25::over(&self.config, self.terms.clone(), indexes.map(|i| &**i)).with_prefix(self.prefix.clone())
    }
}

impl Weighed {
    /// The same with what is known of the filters on some parts, by their numbers.
    pub(super) fn knowing(self, held: BTreeMap<usize, Held>) -> Self {
        Self { held, ..self }
    }
}

impl Expression<BoundText> {
    fn filters(&self, filters: &mut Vec<Arc<BoundFilter>>) {
        match self {
            Expression::Filter(filter) => filters.push(filter.clone()),
            Expression::Sum(of) | Expression::Max { of, .. } => of.iter().for_each(|e| e.filters(filters)),
            Expression::Product { of, .. } | Expression::Curve { of, .. } => of.filters(filters),
            Expression::Text(_)
            | Expression::Sparse { .. }
            | Expression::Attribute(_)
            | Expression::Distance { .. } => {}
        }
    }

    fn needs(&self, needs: &mut Needs, with_filters: bool) {
        match self {
            Expression::Text(text) => text.needs(needs),
            Expression::Sum(of) | Expression::Max { of, .. } => of.iter().for_each(|e| e.needs(needs, with_filters)),
            Expression::Product { of, .. } | Expression::Curve { of, .. } => of.needs(needs, with_filters),
            Expression::Filter(filter) if with_filters => filter.needs(needs),
            Expression::Filter(_) => {}
            Expression::Sparse { attribute, .. }
            | Expression::Attribute(attribute)
            | Expression::Distance { attribute, .. } => needs.column(*attribute),
        }
    }
}

impl<T> Expression<T> {
    fn map_text<U>(&self, map: &impl Fn(&T) -> U) -> Expression<U> {
        let list = |list: &[Expression<T>]| list.iter().map(|e| e.map_text(map)).collect();
        match self {
            Expression::Text(text) => Expression::Text(map(text)),
            Expression::Sparse { attribute, query } => Expression::Sparse {
                attribute: *attribute,
                query: query.clone(),
            },
            Expression::Sum(of) => Expression::Sum(list(of)),
            Expression::Max { of, least } => Expression::Max {
                of: list(of),
                least: *least,
            },
            Expression::Product { weight, of } => Expression::Product {
                weight: *weight,
                of: Box::new(of.map_text(map)),
            },
            Expression::Filter(filter) => Expression::Filter(filter.clone()),
            Expression::Attribute(attribute) => Expression::Attribute(*attribute),
            Expression::Distance { attribute, origin } => Expression::Distance {
                attribute: *attribute,
                origin: *origin,
            },
            Expression::Curve { curve, of } => Expression::Curve {
                curve: *curve,
                of: Box::new(of.map_text(map)),
            },
        }
    }

    /// Whether rows that have a value are returned even when it is 0.
    fn returns_zero(&self) -> bool {
        match self {
            Expression::Attribute(_) | Expression::Distance { .. } => true,
            Expression::Curve { of, .. } => of.returns_zero(),
            _ => false,
        }
    }
}
