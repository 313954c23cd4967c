//! The write-ahead log of one namespace: format, append, get, list.
//!
//! A write is acknowledged when its entry is in the object store, and not before. Entries are
//! immutable objects with consecutive numbers, their keys ordered newest first.
//!
//! # What stays true
//!
//! - Entry `n + 1` is created only after entry `n` exists, so a reader who meets a gap has reached
//!   the end.
//! - Entries are created with "only if absent". Two writers can race for a number; one wins, and
//!   the loser applies the winner's entry before it tries the next number.
//! - Every entry carries the digest of the one before it. A break means that the store failed us:
//!   the namespace turns read-only.
//! - An entry holds effects, never predicates: replaying it needs no decision.
//!
//! # Who touches it
//!
//! `namespace` appends, one task per namespace, following the commit protocol that
//! `tests/model` checks. Anyone reads. Only garbage collection deletes, and never the newest entry.
//!
//! # Cost
//!
//! One PUT per append, shared by all writes that arrive while the previous PUT is in flight;
//! requests that were staged before cost one more PUT per blob. One GET per entry and per blob.
//!
//! Bytes: `docs/formats/log.md`.

pub mod format;
pub(crate) mod frame;
mod log;
mod stage;

use bytes::Bytes;
use ulid::Ulid;
use uuid::Uuid;

pub use crate::base::coding::FormatError as DecodeError;
pub use crate::model::write::Reply;
pub use format::{decode, encode};
pub use log::{Append, Log, LogError, Logged};
pub use stage::{BLOB_BYTES_TARGET, StagedBlob, Stager, operation_bytes, stage};

use crate::model::schema::SchemaChange;
use crate::model::{IdColumn, RowBatch, Seq, SettingsChange};

/// xxh3-128 over a whole entry but its trailer; 0 before the first entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Digest(pub u128);

/// One log entry: the effects of one committed batch of requests.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The namespace's incarnation-independent identity, drawn at its first entry.
    pub namespace: Uuid,
    pub seq: Seq,
    /// Random per process start.
    pub writer: u128,
    /// Random per batch.
    pub batch: u128,
    /// Internal URL of the writer, for forwarding after conflicts; may be empty.
    pub writer_addr: String,
    /// Digest of entry `seq - 1`.
    pub prev_digest: Digest,
    /// The newest manifest the writer knew; 0 when none.
    pub manifest_gen_hint: u64,
    /// max(wall clock, previous + 1), in milliseconds since the epoch; at most
    /// [`CLOCK_MS_MAX`](crate::model::datetime::CLOCK_MS_MAX).
    pub hlc_ms: u64,
    pub kind: EntryKind,
}

impl Entry {
    /// Bytes of the staged blobs that the entry names.
    pub fn staged_bytes(&self) -> u64 {
        match &self.kind {
            EntryKind::Data(requests) => requests.iter().flat_map(|r| &r.staged).map(|b| b.len).sum(),
            EntryKind::DeleteNamespace => 0,
        }
    }
}

impl Entry {
    /// The encoded manifest of the state that a branch begins with, if this is the entry that creates one.
    pub fn branch(&self) -> Option<&Bytes> {
        match &self.kind {
            EntryKind::Data(requests) => requests.iter().find_map(|r| r.branch.as_ref()),
            EntryKind::DeleteNamespace => None,
        }
    }

    /// The staged blobs that it names.
    pub fn blobs(&self) -> Vec<Ulid> {
        match &self.kind {
            EntryKind::Data(requests) => requests.iter().flat_map(|r| &r.staged).map(|b| b.key).collect(),
            EntryKind::DeleteNamespace => Vec::new(),
        }
    }
}

/// What an entry does to the namespace.
#[derive(Clone, Debug)]
pub enum EntryKind {
    /// The effects of requests, applied in order.
    Data(Vec<RequestEffects>),
    /// The namespace is deleted; later entries start from empty state.
    DeleteNamespace,
}

/// What one request did: all of it or none.
#[derive(Clone, Debug, Default)]
pub struct RequestEffects {
    /// Random, or made of the client's idempotency key.
    pub request: u128,
    /// What to answer when the client sends the request again; only with an idempotency key.
    pub reply: Option<Reply>,
    /// Applied before the operations.
    pub schema: SchemaChange,
    /// Applied in order.
    pub operations: Vec<Operation>,
    /// More operations, uploaded before the entry was written; applied in order after
    /// `operations`. [`Log::load`] turns them into operations.
    pub staged: Vec<BlobRef>,
    /// Applied together with the rest.
    pub settings: SettingsChange,
    /// Only where the request creates the namespace as a branch, alone in its entry: an encoded manifest, whose schema
    /// and segments are those of the namespace before `operations`.
    pub branch: Option<Bytes>,
}

impl RequestEffects {
    /// Whether it changes settings and nothing else.
    pub fn is_settings_only(&self) -> bool {
        let writes =
            !self.schema.is_empty() || !self.operations.is_empty() || !self.staged.is_empty() || self.branch.is_some();
        !self.settings.is_empty() && !writes
    }
}

/// Effects, never predicates.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Insert or replace whole rows. No id twice.
    Upsert(RowBatch),
    /// Change these columns of rows that exist; others are skipped. No id twice.
    Patch(RowBatch),
    /// Delete rows; missing ones are skipped.
    Delete(IdColumn),
}

impl Operation {
    /// How many rows it names.
    pub fn rows(&self) -> usize {
        match self {
            Operation::Upsert(batch) | Operation::Patch(batch) => batch.len(),
            Operation::Delete(ids) => ids.len(),
        }
    }
}

/// Where staged operations are, and how to know them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobRef {
    /// The last part of the blob's key.
    pub key: Ulid,
    /// The size of the object in bytes.
    pub len: u64,
    /// The blob's trailer.
    pub digest: Digest,
}
