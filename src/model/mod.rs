//! The nouns of the database, without I/O: names, ids, types, schema, rows, filters, queries.

pub mod access;
pub mod batch;
pub mod datetime;
pub mod embed;
pub mod encoding;
pub mod filter;
pub mod filter_by;
pub mod idempotency;
pub mod ids;
pub mod incarnation;
pub mod limits;
pub mod names;
pub mod query;
pub mod recent;
pub mod schema;
pub mod schema_json;
pub mod settings;
pub mod types;
pub mod value;
pub mod write;

pub use access::{Guard, Restriction};
pub use batch::{Column, IdColumn, NamedColumn, RowBatch, VectorColumn};
pub use filter::{Filter, FilterOp};
pub use idempotency::IdempotencyKey;
pub use ids::{Gen, Id, IdKind, Seq};
pub use incarnation::Incarnation;
pub use limits::Limits;
pub use names::{NamespaceName, OrgId};
pub use query::{Consistency, Direction, Query, RankBy};
pub use recent::{Recent, Remembered, RememberedEntry};
pub use schema::{AttrId, Attribute, FullTextConfig, Schema};
pub use settings::{Settings, SettingsChange};
pub use types::{AttrType, Element, Metric, Scalar};
pub use value::Value;

/// What a client did wrong: the sentence it is told.
///
/// Whether it becomes 400, 413 or 422 is decided by `kind`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Invalid {
    pub kind: InvalidKind,
    pub message: String,
}

/// Which class of client error an [`Invalid`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidKind {
    /// Understood, and wrong: 400.
    Semantic,
    /// JSON that does not have the request's shape: 422.
    Shape,
    /// Larger than allowed: 413.
    TooLarge,
}

impl Invalid {
    /// A 400 with this sentence.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            kind: InvalidKind::Semantic,
            message: message.into(),
        }
    }

    /// A 422 with this sentence.
    pub fn shape(message: impl Into<String>) -> Self {
        Self {
            kind: InvalidKind::Shape,
            message: message.into(),
        }
    }
}
