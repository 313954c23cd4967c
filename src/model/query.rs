//! Queries as clients write them, before they are checked against a schema.

use std::sync::Arc;
use std::time::Duration;

use super::{Filter, Invalid, Limits, Metric};

/// Everything that one read request asks, on one snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// At least one.
    pub queries: Vec<Query>,
    /// How the answers become one.
    pub rerank: Option<Rerank>,
    pub consistency: Consistency,
}

/// One query over one snapshot.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Query {
    /// `None` for lookups whose order does not matter: answered in id order.
    pub rank_by: Option<RankBy>,
    /// How many rows, or groups of an aggregation, at most; 0 to 10,000.
    pub limit: usize,
    /// At most so many rows with the same values of some attributes.
    pub per: Option<LimitPer>,
    /// How many rows to skip.
    pub offset: usize,
    pub filter: Option<Filter>,
    pub include: Projection,
    /// Values to compute for each row, by name.
    pub compute: Vec<(Arc<str>, Compute)>,
    /// Instead of rows.
    pub aggregation: Option<Aggregation>,
    /// Overrides the column's metric for ANN and kNN.
    pub distance_metric: Option<Metric>,
    /// Read past the cache: the request's other queries are, too.
    pub bypass_cache: bool,
}

/// Which attributes a result row carries besides `id` and `$dist`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Projection {
    #[default]
    None,
    All,
    /// These, each of which must exist. May name `id`.
    Only(Vec<String>),
    /// All but these; unknown names are ignored.
    Except(Vec<String>),
}

/// `limit.per`: a cap on rows that agree in some attributes. Null is a value of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitPer {
    pub attributes: Vec<String>,
    /// At least 1.
    pub limit: usize,
}

/// What rows are ordered by.
#[derive(Clone, Debug, PartialEq)]
pub enum RankBy {
    /// Nearest first. `exact` is the `kNN` form, which needs a filter.
    Nearest {
        attribute: String,
        query: VectorQuery,
        exact: bool,
    },
    /// Best score first; rows without a positive clause are left out.
    Score(Score),
    /// By attribute values, first key first; nulls first ascending, last descending; ties by id.
    Order(Vec<(String, Direction)>),
}

/// What vectors are compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum VectorQuery {
    /// One vector.
    One(Vec<f32>),
    /// Several, for late interaction with a `[][N]f32` attribute. Not empty.
    Many(Vec<Vec<f32>>),
    /// The vector that a model makes of a text. Replaced by [`VectorQuery::One`] before planning.
    Embed { text: String, model: Option<String> },
}

/// An expression whose value for a row is a number, larger for better rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Score {
    /// BM25 of an attribute. With `last_as_prefix` the last token also matches longer ones.
    Text {
        attribute: String,
        query: TextQuery,
        last_as_prefix: bool,
    },
    /// The dot product with a sparse vector; its entries are sorted by name, no name twice.
    Sparse {
        attribute: String,
        query: Vec<(String, f32)>,
    },
    Sum(Vec<Score>),
    Max(Vec<Score>),
    /// `weight` × `of`; `weight` is finite and at least 0.
    Product {
        weight: f64,
        of: Box<Score>,
    },
    /// A number; only inside `Max`.
    Constant(f64),
    /// 1 where the filter holds, 0 elsewhere.
    Filter(Filter),
    /// The value of a numeric attribute.
    Attribute(String),
    /// |attribute − origin|; of datetimes in milliseconds.
    Distance {
        attribute: String,
        origin: serde_json::Value,
    },
    /// x^p / (x^p + m^p) of x = max(0, `of`).
    Saturate {
        of: Box<Score>,
        curve: Curve,
    },
    /// m^p / (x^p + m^p) of x = max(0, `of`).
    Decay {
        of: Box<Score>,
        curve: Curve,
    },
}

impl Score {
    /// Checks that an expression is neither too deep nor too large, filters in it included.
    ///
    /// # Errors
    ///
    /// The sentence for the client.
    pub fn check_bounds(&self, limits: &Limits) -> Result<(), Invalid> {
        self.count(1, &mut 0, limits)
    }

    fn count(&self, depth: usize, nodes: &mut usize, limits: &Limits) -> Result<(), Invalid> {
        *nodes += match self {
            Score::Filter(filter) => filter_nodes(filter),
            _ => 1,
        };
        if depth > limits.rank_depth_max || *nodes > limits.rank_nodes_max {
            return Err(too_large(limits));
        }
        match self {
            Score::Sum(list) | Score::Max(list) => list.iter().try_for_each(|s| s.count(depth + 1, nodes, limits)),
            Score::Product { of, .. } | Score::Saturate { of, .. } | Score::Decay { of, .. } => {
                of.count(depth + 1, nodes, limits)
            }
            Score::Text { .. }
            | Score::Sparse { .. }
            | Score::Constant(_)
            | Score::Filter(_)
            | Score::Attribute(_)
            | Score::Distance { .. } => Ok(()),
        }
    }
}

/// What is said of ranking expressions beyond the bounds.
pub fn too_large(limits: &Limits) -> Invalid {
    Invalid::new(format!(
        "a ranking expression can have at most {} expressions and filter conditions, nested at most {} deep",
        limits.rank_nodes_max, limits.rank_depth_max
    ))
}

/// How many nodes a filter has.
pub fn filter_nodes(filter: &Filter) -> usize {
    match filter {
        Filter::And(list) | Filter::Or(list) => 1 + list.iter().map(filter_nodes).sum::<usize>(),
        Filter::Not(inner) => 1 + filter_nodes(inner),
        _ => 1,
    }
}

/// The parameters of `Saturate` and `Decay`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Curve {
    pub midpoint: Midpoint,
    /// Above 0.
    pub exponent: f64,
}

/// Where a curve is at one half.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Midpoint {
    /// A number above 0.
    Number(f64),
    /// A time, in milliseconds: for distances of datetimes. Above 0.
    Milliseconds(f64),
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

/// Counts and sums over the rows that a filter selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aggregation {
    /// By label, in the order of the request. At least one.
    pub aggregates: Vec<(Arc<str>, Aggregate)>,
    /// One group per combination of values; none: one answer over all rows.
    pub group_by: Vec<GroupKey>,
}

/// One number over the rows of a group. Nulls are not counted in any but [`Aggregate::Count`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// How many rows.
    Count,
    Sum(String),
    Min(String),
    Max(String),
    Avg(String),
    /// How many distinct values.
    CountDistinct(String),
    /// The most frequent values, or elements of an array, with their counts.
    Top {
        attribute: String,
        limit: usize,
    },
}

/// What rows are grouped by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupKey {
    /// The value of an attribute, under its own name.
    Attribute(String),
    /// `ForEachUnique`: every distinct element of an array, under a label.
    Elements { label: Arc<str>, attribute: String },
}

/// A value computed for a result row.
#[derive(Clone, Debug, PartialEq)]
pub enum Compute {
    /// The distance of a column to a vector.
    VectorDistance {
        attribute: String,
        query: VectorQuery,
    },
    Highlight(Highlight),
    Score(Score),
    /// True or false. (A filter as a score is a number.)
    Filter(Filter),
}

/// Passages of an attribute that match a query.
#[derive(Clone, Debug, PartialEq)]
pub struct Highlight {
    pub attribute: String,
    pub fragment_by: FragmentBy,
    /// 1 to 1,024.
    pub fragment_limit: usize,
    /// Absent: texts alone.
    pub include_offsets: Option<OffsetUnit>,
    /// An expression over the attribute `$fragment`; the query's `rank_by` when absent.
    pub rank_fragments_by: Option<Score>,
}

/// Where a text is cut into fragments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum FragmentBy {
    /// Nowhere.
    Nothing,
    #[default]
    Sentence,
    Paragraph,
    Word,
}

/// What offsets count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetUnit {
    Utf8,
    Utf16,
    Codepoints,
}

/// How the answers of several queries, or the order of one, become a new order.
#[derive(Clone, Debug, PartialEq)]
pub enum Rerank {
    /// Reciprocal rank fusion of at least two queries.
    Fusion {
        /// k in weight / (k + rank).
        rank_constant: f64,
        /// One per query, above 0.
        weights: Vec<f64>,
        limit: usize,
        offset: usize,
    },
    /// A model's judgement of each row's `attribute` for `query`.
    Model {
        model: String,
        attribute: String,
        query: String,
        limit: Option<usize>,
        offset: usize,
    },
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
