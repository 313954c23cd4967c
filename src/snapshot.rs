//! One consistent view of a namespace: all a query may see.
//!
//! # What stays true
//!
//! - A snapshot is a function of the log up to its `seq` alone; [`Snapshot::apply`] is pure.
//! - An entry that does not continue the chain is never applied.

mod recent;

use std::sync::Arc;

use aws_lc_rs::digest;
use uuid::Uuid;

use crate::model::{Id, Schema, Seq, Settings};
use crate::tail::{self, Part};
use crate::wal::{Digest, Entry, EntryKind, RequestEffects};

pub use recent::{Recent, Remembered};

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
    /// The hybrid clock of the entry `seq`, in milliseconds since the epoch.
    pub hlc_ms: u64,
    /// Bytes of the entries that are not in segments.
    pub unindexed_bytes: u64,
}

/// What is known of a namespace between its creation and its deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incarnation {
    /// The entry that created it.
    pub genesis: Seq,
    /// What clients know it by: another one when it is created again under its old name.
    pub id: Uuid,
    pub created_ms: u64,
    /// When its newest entry with documents or schema was written.
    pub last_write_ms: u64,
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

    /// How many rows are live.
    pub fn rows(&self) -> usize {
        tail::live_rows(&self.parts)
    }

    /// Whether a live row has that id.
    pub fn contains(&self, id: &Id) -> bool {
        tail::find(&self.parts, id).is_some()
    }

    /// About how much memory the snapshot holds, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.parts.iter().map(|p| p.chunk.memory_bytes() as u64).sum()
    }

    /// The state after one more entry.
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
                    recent: self.recent.after(entry.seq, entry.hlc_ms, requests),
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
            None => Incarnation {
                genesis: entry.seq,
                id: incarnation_id(entry.namespace, entry.seq),
                created_ms: entry.hlc_ms,
                last_write_ms: entry.hlc_ms,
            },
        }
    }
}

/// The id of the incarnation that the entry `genesis` of a log creates (docs/formats/log.md).
fn incarnation_id(namespace: Uuid, genesis: Seq) -> Uuid {
    let mut hashed = b"shoal namespace id\0".to_vec();
    hashed.extend_from_slice(namespace.as_bytes());
    hashed.extend_from_slice(&genesis.0.to_be_bytes());
    let digest = digest::digest(&digest::SHA256, &hashed);
    let first = digest.as_ref().first_chunk().expect("a SHA-256 has 32 bytes");
    uuid::Builder::from_custom_bytes(*first).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens name these ids: they must never change.
    #[test]
    fn ids_of_incarnations_stay_what_they_are() {
        let namespace = Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
        let first = incarnation_id(namespace, Seq(1));
        assert_eq!(first.to_string(), "b4f3f3d9-e5b4-8f52-931b-cbfb00d52b1f");
        assert_eq!(first.get_version_num(), 8);
        let others = [incarnation_id(namespace, Seq(2)), incarnation_id(Uuid::nil(), Seq(1))];
        assert!(!others.contains(&first) && others[0] != others[1]);
    }
}
