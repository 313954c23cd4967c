//! What clients did and saw.

use std::collections::BTreeMap;

/// A row: its integer attributes by name.
pub type Row = BTreeMap<String, i64>;
/// The rows of a namespace, by id.
pub type Rows = BTreeMap<u64, Row>;

/// One write, as it was sent. `op` is unique and stands in a marker row or in the rows written, so
/// that the write can be found in the log.
#[derive(Clone, Debug)]
pub struct WriteOp {
    pub op: i64,
    pub what: What,
    /// The newest position that was confirmed to anybody when the write began.
    pub confirmed_before: u64,
    pub outcome: Outcome,
}

/// The kinds of writes.
#[derive(Clone, Debug)]
pub enum What {
    /// Upserts, patches and deletes of one request, after what it does by filters.
    Rows {
        delete_by: Option<Filter>,
        patch_by: Option<Filter>,
        upserts: Vec<u64>,
        patches: Vec<u64>,
        deletes: Vec<u64>,
        /// What else it says of the schema.
        schema: Schema,
    },
    DeleteNamespace,
}

/// Which rows a write is about that does not name them.
#[derive(Clone, Debug)]
pub enum Filter {
    /// Those that were written by an earlier write than this.
    OpBelow(i64),
    /// Those whose number is at least this; none without a number.
    NumberFrom(i64),
    IdIn(Vec<u64>),
}

impl Filter {
    pub fn holds(&self, id: u64, row: &Row) -> bool {
        match self {
            Self::OpBelow(op) => row.get("op").is_some_and(|n| n < op),
            Self::NumberFrom(least) => row.get("number").is_some_and(|n| n >= least),
            Self::IdIn(ids) => ids.contains(&id),
        }
    }
}

/// How a write changes the schema.
#[derive(Clone, Copy, Debug)]
pub enum Schema {
    Same,
    /// Its rows have this attribute, which may be new.
    Attribute(&'static str),
    /// Whether `patched` has an index.
    Index(bool),
}

/// How a write ended, as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Confirmed, in this entry.
    Confirmed(u64),
    /// The client was told that nothing was written.
    Refused,
    /// The client does not know: told so, or its node died.
    Unknown,
}

/// One read.
#[derive(Clone, Debug)]
pub struct ReadOp {
    pub strong: bool,
    /// The newest position that was confirmed to anybody when the read began.
    pub confirmed_before: u64,
    pub saw: Saw,
}

/// What a read returned.
#[derive(Clone, Debug)]
pub enum Saw {
    Rows {
        seq: u64,
        rows: Rows,
    },
    NoNamespace,
    /// It failed, or its node died.
    Nothing,
}

/// Everything that happened in one run.
#[derive(Default)]
pub struct History {
    pub writes: Vec<WriteOp>,
    pub reads: Vec<ReadOp>,
    /// The newest position confirmed to anybody, by a write or by a strong read.
    pub confirmed: u64,
    pub next_op: i64,
}

impl History {
    pub fn confirm(&mut self, seq: u64) {
        self.confirmed = self.confirmed.max(seq);
    }

    pub fn new_op(&mut self) -> i64 {
        self.next_op += 1;
        self.next_op
    }
}
