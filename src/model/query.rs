//! Queries as clients write them, before they are checked against a schema.

use std::time::Duration;

use super::{Filter, Metric};

/// One query over one snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// `None` for lookups whose order does not matter: answered in id order.
    pub rank_by: Option<RankBy>,
    /// How many rows at most; 0 to 10,000.
    pub limit: usize,
    pub filter: Option<Filter>,
    pub include: Projection,
    /// Overrides the column's metric for ANN and kNN.
    pub distance_metric: Option<Metric>,
}

/// Which attributes a result row carries besides `id` and `$dist`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Projection {
    None,
    All,
    /// These, each of which must exist. May name `id`.
    Only(Vec<String>),
    /// All but these; unknown names are ignored.
    Except(Vec<String>),
}

/// What rows are ordered by.
#[derive(Clone, Debug, PartialEq)]
pub enum RankBy {
    /// Nearest first. `exact` is the `kNN` form, which needs a filter.
    Nearest {
        attribute: String,
        vector: Vec<f32>,
        exact: bool,
    },
    /// Best BM25 score first; rows that match no term are left out.
    Text { attribute: String, query: TextQuery },
    /// By attribute values, first key first; nulls first ascending, last descending; ties by id.
    Order(Vec<(String, Direction)>),
}

/// The operand of BM25.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextQuery {
    /// Analysed with the attribute's analyser.
    Text(String),
    /// Tokens; taken as they are by `pre_tokenized_array`, each analysed otherwise.
    Tokens(Vec<String>),
}

/// Ascending or descending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Asc,
    Desc,
}

/// How fresh a read has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Consistency {
    /// Sees every write acknowledged before the read began.
    #[default]
    Strong,
    /// May miss writes newer than this.
    Eventual { max_staleness: Duration },
}

/// The staleness bound of eventual reads that name none.
pub const MAX_STALENESS_DEFAULT: Duration = Duration::from_secs(60);
