//! Answers queries on a snapshot: bind, plan, filter, execute, project.
//!
//! `plan` checks a query against the schema and says what to do; `filter` binds and evaluates
//! filters; `exec` deals the rows out to the CPU pool and merges; `project` makes rows of values.
//! Everything works on a snapshot in memory: no requests.
//!
//! # What stays true
//!
//! - Answers are exact, and do not depend on how rows are spread over parts, jobs and threads; the
//!   statistics of scores alone still count deleted rows until a merge.
//! - Every order is total: ties are broken by id, ascending.

mod exec;
pub mod filter;
mod order;
pub mod plan;
mod project;
mod top;
mod values;

#[cfg(test)]
mod tests;

pub use exec::execute;
pub use project::value_at;

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
#[derive(Clone, Debug, PartialEq, Default)]
pub struct QueryResult {
    pub rows: Vec<ResultRow>,
}
