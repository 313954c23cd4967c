//! What a namespace is made of besides its tail: which segments, and everything that is not rows.
//!
//! A manifest is an immutable object, one per generation. It holds the whole state of a namespace after the log
//! entry `indexed_seq`, its rows as names of segments. Manifests are derived from the log: they commit nothing that
//! a client was told, and an older one with more of the log after it says the same.
//!
//! # What stays true
//!
//! - Generation `n + 1` is created only by someone who has read generation `n` and names its digest; it is created
//!   if absent, so that exactly one of any rivals wins it.
//! - `indexed_seq` never falls from one generation to the next.
//! - Every live row of the state is live in exactly one segment; a segment's deleted rows only grow.
//! - `head` is a hint: a copy of a manifest that was the newest when its PUT was sent, whenever it arrives.
//!
//! # Who touches it
//!
//! `maintenance` publishes; `namespace` reads, and publishes the first one of a branch. `maintenance::gc` deletes what
//! has had a successor for longer than the grace time.
//!
//! # Cost
//!
//! One PUT to publish and one for the hint; one GET to read the newest by its hint, a LIST and a GET without.
//!
//! Bytes: `docs/formats/manifest.md`.

mod check;
mod deletions;
pub mod format;
pub mod pin;
mod store;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use ulid::Ulid;
use uuid::Uuid;

pub use crate::model::Gen;
pub use crate::wal::DecodeError;
pub use check::InvalidManifest;
pub use deletions::{
    DELETIONS_INLINE_BYTES_MAX, Deletions, DeletionsObject, deleted_rows, deletions_inline_max, live_rows,
};
pub use format::{decode, encode};
pub use pin::Pin;
pub use store::{ManifestError, ManifestStore, Published};

use crate::model::{Incarnation, Recent, Schema, Seq, Settings};
use crate::segment::{SegmentId, SegmentMeta};
use crate::wal::Digest;

/// The most bytes an encoded manifest may have; merges have to make room first.
pub const MANIFEST_BYTES_MAX: usize = 4 << 20;
/// The size of the part that describes segments at which operators are warned, in bytes.
pub const MANIFEST_BYTES_WARNED: usize = 600 << 10;
/// The largest segment that a manifest may hold itself, in bytes.
pub const INLINE_BYTES_MAX: u64 = 256 << 10;

/// The state of a namespace after the log entry `indexed_seq`.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    pub generation: Gen,
    /// Digest of the generation before it; 0 for the first.
    pub prev_digest: Digest,
    /// The identity that the first log entry gave the namespace.
    pub namespace: Uuid,
    /// Random per process start.
    pub writer: u128,
    /// Of the attempt that made it: tells whose a generation is when a reply was lost.
    pub job: Ulid,
    /// Wall clock of the writer, milliseconds since the epoch.
    pub created_ms: u64,
    pub indexed_seq: Seq,
    /// Digest of the entry `indexed_seq`.
    pub indexed_digest: Digest,
    /// The hybrid clock of that entry, milliseconds since the epoch.
    pub hlc_ms: u64,
    /// The incarnation that lives at `indexed_seq`.
    pub incarnation: Option<Incarnation>,
    pub schema: Arc<Schema>,
    pub settings: Arc<Settings>,
    /// What was answered to requests with idempotency keys lately.
    pub recent: Arc<Recent>,
    pub segments: Vec<ManifestSegment>,
    /// Holds of this namespace on objects of others.
    pub pins: Vec<Ulid>,
}

/// A segment and which of its rows are deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct ManifestSegment {
    pub meta: SegmentMeta,
    pub deletions: Deletions,
}

impl ManifestSegment {
    /// Its name.
    pub fn id(&self) -> SegmentId {
        self.meta.id
    }

    /// How many rows are not deleted.
    pub fn live(&self) -> u32 {
        self.meta.rows.saturating_sub(self.deletions.rows())
    }
}

impl Manifest {
    /// The segment of that name.
    pub fn segment(&self, id: SegmentId) -> Option<&ManifestSegment> {
        self.segments.iter().find(|s| s.meta.id == id)
    }

    /// How many rows are live.
    pub fn rows(&self) -> u64 {
        self.segments.iter().map(|s| u64::from(s.live())).sum()
    }
}
