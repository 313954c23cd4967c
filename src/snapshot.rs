//! One consistent view of a namespace: all a query may see.
//!
//! # What stays true
//!
//! - A snapshot says the same as the log up to its `seq`, whichever manifest it began with; which rows are in its tail
//!   is a function of manifest and log alone. [`Snapshot::apply`] is pure.
//! - An entry that does not continue the chain is never applied.

mod open;
mod promote;

use std::sync::Arc;

use uuid::Uuid;

use crate::model::{Gen, Schema, Seq, Settings};
use crate::segment::SegmentPart;
use crate::tail::{self, Part};
use crate::wal::{Digest, Entry, EntryKind, Reply, RequestEffects};

pub use crate::model::{Incarnation, Recent, Remembered};
pub use open::{OpenError, branch_manifest};
pub use promote::{Wanted, promote};

/// The state of a namespace after the entry `seq`. Immutable; cheap to clone.
#[derive(Clone)]
pub struct Snapshot {
    pub seq: Seq,
    /// Digest of the entry `seq`.
    pub digest: Digest,
    /// The identity that the first entry gave the namespace; `None` before it.
    pub namespace: Option<Uuid>,
    /// The incarnation that lives now: it was written to and not deleted since.
    pub incarnation: Option<Incarnation>,
    pub schema: Arc<Schema>,
    /// What was answered to requests with idempotency keys lately.
    pub recent: Arc<Recent>,
    /// Of the living incarnation.
    pub settings: Arc<Settings>,
    /// Every live row is live in exactly one part.
    pub parts: Arc<Vec<Part>>,
    /// The rows of entries up to `indexed_seq`. Every live row is live in exactly one part of the tail or segment.
    pub segments: Arc<Vec<SegmentPart>>,
    /// The manifest that named the segments; 0 without one.
    pub generation: Gen,
    /// Entries up to this one are in segments.
    pub indexed_seq: Seq,
    /// The hybrid clock of the entry `seq`, in milliseconds since the epoch.
    pub hlc_ms: u64,
    /// Bytes of the entries that are not in segments.
    pub unindexed_bytes: u64,
}

/// The log is not the chain that this node has followed: the store broke create-if-absent, or an
/// object was replaced. Nothing may be written or answered on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("log entry {seq} does not continue the log: {why}")]
pub struct BrokenChain {
    pub seq: Seq,
    pub why: &'static str,
}

impl Snapshot {
    /// The state before the first entry.
    pub fn empty() -> Self {
        Self {
            seq: Seq::ZERO,
            digest: Digest::default(),
            namespace: None,
            incarnation: None,
            schema: Arc::new(Schema::default()),
            recent: Arc::default(),
            settings: Arc::default(),
            parts: Arc::new(Vec::new()),
            segments: Arc::new(Vec::new()),
            generation: Gen::ZERO,
            indexed_seq: Seq::ZERO,
            hlc_ms: 0,
            unindexed_bytes: 0,
        }
    }

    /// Whether the namespace exists: it was written to and not deleted since.
    pub fn exists(&self) -> bool {
        self.incarnation.is_some()
    }

    /// What clients know the living namespace by; `None` when it does not exist.
    pub fn database_id(&self) -> Option<Uuid> {
        self.incarnation.map(|i| i.id)
    }

    /// How many rows are live, in the tail and in segments.
    pub fn rows(&self) -> usize {
        let segments: usize = self.segments.iter().map(|part| part.live.count()).sum();
        self.unindexed_rows() + segments
    }

    /// How many live rows are in the tail.
    pub fn unindexed_rows(&self) -> usize {
        tail::live_rows(&self.parts)
    }

    /// Bytes of the log that are not in segments, and logical bytes of the rows in segments, dead ones included: what
    /// metadata, quotas and `size_limit` count. It mostly grows when rows go from the log, where they are compressed, into
    /// segments, and falls when segments are written anew without their dead rows.
    pub fn stored_bytes(&self) -> u64 {
        let segments: u64 = self.segments.iter().map(|part| part.segment.meta().logical_bytes).sum();
        self.unindexed_bytes + segments
    }

    /// About how much memory the snapshot holds, in bytes: the tail, which rows of segments are live, and of the
    /// segments what is held as long as they are open. What they read goes through the cache, which counts it.
    pub fn memory_bytes(&self) -> u64 {
        let segment = |part: &SegmentPart| {
            let meta = part.segment.meta();
            let inline = meta.inline.as_ref().map_or(0, |bytes| bytes.len() as u64);
            part.live.len() as u64 / 8 + u64::from(meta.hot_len) + inline
        };
        self.tail_memory_bytes() + self.segments.iter().map(segment).sum::<u64>()
    }

    /// About how much of that the tail holds.
    pub fn tail_memory_bytes(&self) -> u64 {
        self.parts.iter().map(|p| p.chunk.memory_bytes() as u64).sum()
    }

    /// The state after one more entry, whose rows were [promoted](promote()).
    ///
    /// * `digest`, `bytes` — of the entry as it is stored, staged blobs included in `bytes`
    ///
    /// # Errors
    ///
    /// [`BrokenChain`] when the entry is not the successor of this state (rule 5 of the log,
    /// docs/design/0003-log.md).
    pub fn apply(&self, entry: &Entry, digest: Digest, bytes: u64) -> Result<Snapshot, BrokenChain> {
        self.check_successor(entry)?;
        let after = Snapshot {
            seq: entry.seq,
            digest,
            namespace: Some(entry.namespace),
            hlc_ms: entry.hlc_ms,
            ..self.clone()
        };
        Ok(match &entry.kind {
            EntryKind::Data(requests) => {
                let applied = tail::apply(&self.parts, &self.schema, requests);
                Snapshot {
                    incarnation: Some(self.written_at(entry, requests)),
                    settings: self.settings_after(requests),
                    schema: match applied.schema == *self.schema {
                        true => self.schema.clone(),
                        false => Arc::new(applied.schema),
                    },
                    recent: self.recent.after(entry.seq, entry.hlc_ms, answers(requests)),
                    parts: Arc::new(applied.parts),
                    unindexed_bytes: self.unindexed_bytes + bytes,
                    ..after
                }
            }
            EntryKind::DeleteNamespace => Snapshot {
                incarnation: None,
                schema: Arc::new(self.schema.cleared()),
                recent: Arc::default(),
                settings: Arc::default(),
                parts: Arc::new(Vec::new()),
                segments: Arc::new(Vec::new()),
                unindexed_bytes: 0,
                ..after
            },
        })
    }

    fn check_successor(&self, entry: &Entry) -> Result<(), BrokenChain> {
        let broken = |why| Err(BrokenChain { seq: entry.seq, why });
        if entry.seq != self.seq.next() {
            return broken("its number is not the next");
        }
        if entry.prev_digest != self.digest {
            return broken("it names another predecessor");
        }
        if self.namespace.is_some_and(|n| n != entry.namespace) {
            return broken("it belongs to another namespace");
        }
        Ok(())
    }

    fn settings_after(&self, requests: &[RequestEffects]) -> Arc<Settings> {
        if requests.iter().all(|r| r.settings.is_empty()) {
            return self.settings.clone();
        }
        let mut settings = Settings::clone(&self.settings);
        for request in requests {
            settings.apply(&request.settings);
        }
        Arc::new(settings)
    }

    fn written_at(&self, entry: &Entry, requests: &[RequestEffects]) -> Incarnation {
        let writes_nothing = !requests.is_empty() && requests.iter().all(RequestEffects::is_settings_only);
        match self.incarnation {
            // A change of settings is no write.
            Some(known) if writes_nothing => known,
            Some(known) => Incarnation {
                last_write_ms: entry.hlc_ms,
                ..known
            },
            None => Incarnation::begin(entry.namespace, entry.seq, entry.hlc_ms),
        }
    }
}

/// The answers to the requests that have idempotency keys, by their numbers.
fn answers(requests: &[RequestEffects]) -> impl Iterator<Item = (u128, Reply)> {
    requests.iter().filter_map(|r| Some((r.request, r.reply?)))
}
