//! Answers queries on a snapshot: bind, plan, filter, execute, project.
//!
//! `plan` checks a query against the schema and says what to do, `explain` says it in words; `filter`
//! binds and evaluates filters, `score` ranking expressions, `nearest` query vectors; `exec` deals the rows out to the CPU pool and
//! merges; `aggregate` counts instead of finding; `per` leaves out rows that agree with too many others;
//! `project` makes rows of values, and `compute` adds what was asked about each of them, passages that
//! `highlight` finds among it; `fuse` makes one answer of several.
//! Everything works on a snapshot, as far as the caller may see it (`view`).
//!
//! Of a snapshot's segments only what a plan looks at is read: `needs` says what that is, `load` makes parts of it
//! like those of the tail, on which the plan is executed as on those; `stream` reads vectors in blocks, and `rows`
//! fetches the rows of the answer. `matching` finds the rows of a filter for those who write.
//!
//! # What stays true
//!
//! - What was not loaded of a segment is never taken for null: asking for it is a failed assertion.
//! - What a request loads, and what its answers take, is bounded (`budget`).
//! - Answers are exact, and do not depend on how rows are spread over tail, segments, jobs and threads; the
//!   statistics of scores alone still count deleted rows until a merge.
//! - Every order is total: ties are broken by id, ascending.

mod aggregate;
mod budget;
mod compute;
mod costs;
mod exec;
mod explain;
pub mod filter;
mod first;
mod fuse;
pub mod highlight;
mod key;
mod load;
mod matching;
pub mod nearest;
mod needs;
mod order;
mod per;
pub mod plan;
mod project;
mod reader;
mod rows;
pub mod score;
mod stream;
mod top;
mod turns;
mod values;
mod view;

#[cfg(test)]
mod tests;

pub use exec::execute;
pub use explain::explain;
pub use fuse::fuse;
pub use matching::{Matching, matching};
pub use project::value_at;
pub use view::View;

use std::ops::Range;
use std::sync::Arc;

use crate::model::{Id, Value};

/// One row of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ResultRow {
    pub id: Id,
    /// `$dist`: absent when ordered by attributes.
    pub rank: Option<Rank>,
    /// The asked attributes that are not null, by name.
    pub attributes: Vec<(Arc<str>, Value)>,
    /// What `compute_attributes` asks for, by name.
    pub computed: Vec<(Arc<str>, Computed)>,
}

impl ResultRow {
    /// About how much memory it takes, in bytes.
    pub fn memory_bytes(&self) -> usize {
        let values = self
            .attributes
            .iter()
            .map(|(_, value)| size_of::<Arc<str>>() + value.memory_bytes());
        let computed = self.computed.iter().map(|computed| {
            let Computed::Fragments(fragments) = &computed.1 else {
                return size_of_val(computed);
            };
            let fragment = |f: &Fragment| {
                let offsets = f.offsets.as_ref().map_or(0, |o| size_of_val(&o.matches[..]));
                size_of_val(f) + f.text.len() + offsets
            };
            size_of_val(computed) + fragments.iter().map(fragment).sum::<usize>()
        });
        size_of::<Self>() + values.chain(computed).sum::<usize>()
    }
}

/// A value that was computed for a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Computed {
    /// Of two vectors; absent when the row has none.
    Distance(f32),
    Score(f64),
    Bool(bool),
    /// Highlighted passages, best first.
    Fragments(Vec<Fragment>),
}

/// A passage of an attribute. Ranges are half open, in the unit that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    pub text: String,
    /// Absent when no offsets were asked for.
    pub offsets: Option<FragmentOffsets>,
}

/// Where a passage and its matches are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FragmentOffsets {
    /// In the attribute; of an array, in the element.
    pub fragment: Range<u64>,
    /// In the passage.
    pub matches: Vec<Range<u64>>,
}

/// The value of `$dist`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rank {
    /// Smaller is nearer.
    Distance(f32),
    /// Larger is better.
    Score(f64),
}

/// The answer to one query.
#[derive(Clone, Debug, PartialEq)]
pub enum QueryResult {
    Rows(Vec<ResultRow>),
    /// Over all rows, by label.
    Aggregations(Vec<(Arc<str>, AggregateValue)>),
    /// Sorted by key.
    Groups(Vec<Group>),
}

/// Rows with the same key, and what was computed of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Null is a value of its own.
    pub key: Vec<(Arc<str>, Value)>,
    pub values: Vec<(Arc<str>, AggregateValue)>,
}

/// The value of one aggregate.
#[derive(Clone, Debug, PartialEq)]
pub enum AggregateValue {
    /// Null for a minimum, a maximum or a mean of no values, and for a sum beyond the range of floats.
    Value(Value),
    /// The most frequent values with their counts, most frequent first.
    Top(Vec<(Value, u64)>),
}

impl QueryResult {
    /// The rows; none when aggregates were asked for.
    pub fn rows(&self) -> &[ResultRow] {
        match self {
            QueryResult::Rows(rows) => rows,
            QueryResult::Aggregations(_) | QueryResult::Groups(_) => &[],
        }
    }

    /// Makes the ids of all rows `""`.
    pub fn blank_ids(&mut self) {
        if let QueryResult::Rows(rows) = self {
            rows.iter_mut().for_each(|row| row.id = Id::String("".into()));
        }
    }

    /// The same, taken out.
    pub fn into_rows(self) -> Vec<ResultRow> {
        match self {
            QueryResult::Rows(rows) => rows,
            QueryResult::Aggregations(_) | QueryResult::Groups(_) => Vec::new(),
        }
    }
}

impl QueryResult {
    /// How many rows or groups there are.
    pub fn size(&self) -> usize {
        match self {
            QueryResult::Rows(rows) => rows.len(),
            QueryResult::Aggregations(_) => 1,
            QueryResult::Groups(groups) => groups.len(),
        }
    }
}

impl Default for QueryResult {
    fn default() -> Self {
        QueryResult::Rows(Vec::new())
    }
}
