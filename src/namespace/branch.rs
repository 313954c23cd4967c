//! Branches: a new namespace that shares the segments of another. Copies begin the same way, with segments of their own.
//!
//! What of the source is in segments is not copied: the first entry of the branch carries a manifest that names them
//! where they lie, in the directories of the namespaces they were made for, and as operations the rows of the source
//! that are in none. From then on the branch is a namespace like any other: a flush makes its first manifest of that
//! state, and merges replace what it shares by segments of its own.
//!
//! # What stays true
//!
//! - Only the log of the branch commits. Everything before leaves nothing but holds that nobody needs.
//! - Before the entry is sent there is a hold in every directory that it names segments of. A hold counts for the grace
//!   time whoever it is for; the entry is sent within half of it.
//! - The branch writes to its own directory only, holds excepted.
//!
//! # Cost
//!
//! A probe of both namespaces, a PUT per namespace whose segments are shared, and the PUTs of a write: none of it
//! depends on how many rows there are. Whoever applies the entry opens the segments: one GET each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ulid::Ulid;
use uuid::Uuid;

use super::Engine;
use super::manifests::{self, NotApplied};
use super::state::{Moment, State, Trouble};
use crate::base::clock::wall_ms;
use crate::base::{Clock, Priority};
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{self, Deletions, Gen, MANIFEST_BYTES_MAX, Manifest, ManifestSegment, Pin, deleted_rows};
use crate::model::write::origin::OriginKind;
use crate::model::{Incarnation, Recent, Schema, Seq, Settings};
use crate::segment::SegmentPart;
use crate::snapshot::{BrokenChain, OpenError, Snapshot, branch_manifest};
use crate::store::paths::{self, NsKey};
use crate::wal::{Digest, Entry};

/// In the manifest of a branch, the number of the entry that carries it: what it is in fact is known under the slot.
const FIRST: Seq = Seq(1);

/// What a branch begins with.
pub(super) struct Base {
    /// The encoded manifest.
    pub manifest: Bytes,
    pub schema: Arc<Schema>,
    /// The only entry that the holds are for.
    entry: Seq,
    /// Before the source was read.
    since: Moment,
    kind: OriginKind,
}

impl Base {
    /// That the holds are for the entry after `destination`.
    pub fn check_slot(&self, destination: &Snapshot) -> Result<()> {
        match destination.seq.next() == self.entry {
            true => Ok(()),
            false => Err(try_again(self.kind, "the new namespace was written to meanwhile")),
        }
    }

    /// That the entry can still be written in time: what was read may be collected some day, and so may the holds.
    pub fn check_age(&self, clock: &dyn Clock, grace: Duration) -> Result<()> {
        match self.since.age(clock) <= grace / 4 {
            true => Ok(()),
            false => Err(try_again(self.kind, "reading the source took too long")),
        }
    }
}

/// The answer when nothing was written, for a reason that will pass.
pub(super) fn try_again(kind: OriginKind, why: &str) -> Error {
    let text = format!("{}: {why}; nothing was written, try again", kind.field());
    Error::new(ErrorKind::Unavailable, text).after(Duration::from_secs(1))
}

impl Engine {
    /// Prepares beginning with the segments of `source`: holds them, and returns the manifest that names them. Costs a
    /// PUT per namespace that has some of them.
    ///
    /// * `kind` — a branch names them where they lie; a copy in its own directory, where they have to be before the
    ///   manifest is used
    /// * `owner` — whose snapshot `source` is, read after `since`
    /// * `target`, `destination` — the namespace that is to be created, and its state
    pub(super) async fn share(
        &self,
        kind: OriginKind,
        (owner, source): (&NsKey, &Arc<Snapshot>),
        (target, destination): (&NsKey, &Snapshot),
        since: Moment,
    ) -> Result<Base> {
        let inner = &self.inner;
        let now_ms = wall_ms(inner.runtime.clock.as_ref());
        let job = inner.runtime.rng.ulid(now_ms);
        let (shared, from, to) = (source.clone(), owner.clone(), target.clone());
        let writer = inner.writer;
        let make = move || {
            let segments = shared.segments.iter().filter(|part| !part.live.none());
            let manifest = Manifest {
                generation: Gen(1),
                prev_digest: Digest::default(),
                namespace: shared.namespace.unwrap_or_else(Uuid::nil),
                writer,
                job,
                created_ms: now_ms,
                indexed_seq: FIRST,
                indexed_digest: Digest::default(),
                hlc_ms: now_ms,
                incarnation: Some(Incarnation::begin(Uuid::nil(), FIRST, now_ms)),
                schema: shared.schema.clone(),
                settings: Arc::new(Settings::default()),
                recent: Arc::new(Recent::default()),
                segments: segments.map(|part| as_shared(kind, part, &from, &to)).collect(),
                pins: Vec::new(),
            };
            manifest
                .check()
                .map(|()| (held(&manifest, &to), manifest::encode(&manifest).0))
        };
        let made = inner.runtime.cpu.run(Priority::Foreground, make).await;
        let (held, manifest) =
            made.map_err(|e| Error::new(ErrorKind::Internal, "the source cannot be shared").because(e))?;
        if manifest.len() > MANIFEST_BYTES_MAX {
            return Err(try_again(
                kind,
                "too many rows of the source are deleted and wait for being merged",
            ));
        }
        let entry = destination.seq.next();
        let pins = held.into_iter().map(|(owner, segments)| {
            let pin = Pin {
                target: target.clone(),
                entry,
                segments,
                deletions: Vec::new(),
            };
            let key = paths::pin(&owner, inner.runtime.rng.ulid(now_ms));
            // The name is new. "Only if absent" would be answered with a conflict by a store that has kept nothing.
            async move { inner.store.put(&key, pin.encode()).await }
        });
        for put in futures::future::join_all(pins).await {
            put.map_err(|e| try_again(kind, "object storage did not take a hold on the segments").because(e))?;
        }
        Ok(Base {
            manifest,
            schema: source.schema.clone(),
            entry,
            since,
            kind,
        })
    }
}

/// A segment as the branch or copy `to` of `from` names it.
fn as_shared(kind: OriginKind, part: &SegmentPart, from: &NsKey, to: &NsKey) -> ManifestSegment {
    let mut meta = part.segment.meta().clone();
    (meta.min_seq, meta.max_seq) = (FIRST, FIRST);
    meta.owner = match (&meta.inline, kind) {
        (Some(_), _) | (_, OriginKind::Copy) => None,
        (None, OriginKind::Branch) => Some(meta.owner.unwrap_or_else(|| from.clone())).filter(|owner| owner != to),
    };
    let deletions = match part.live.count() == meta.rows as usize {
        true => Deletions::None,
        false => {
            let mut deleted = deleted_rows(&part.live);
            deleted.optimize();
            Deletions::Inline(Arc::new(deleted))
        }
    };
    ManifestSegment { meta, deletions }
}

/// Which segments have to be held where. Also those of the branch's own directory, which are there from an earlier life
/// of that name: until its first manifest is written, nothing else there says that they are needed.
fn held(manifest: &Manifest, to: &NsKey) -> BTreeMap<NsKey, Vec<Ulid>> {
    let mut held: BTreeMap<NsKey, Vec<Ulid>> = BTreeMap::new();
    for segment in manifest.segments.iter().filter(|s| s.meta.inline.is_none()) {
        let owner = segment.meta.owner.as_ref().unwrap_or(to);
        held.entry(owner.clone()).or_default().push(segment.meta.id.0);
    }
    held
}

/// The state before the operations of the entry that creates a branch. Costs one GET per segment that is not inline.
pub(super) async fn begin(state: &State, base: &Snapshot, entry: &Entry) -> Result<Snapshot, NotApplied> {
    let broken = |why| NotApplied::Trouble(state.set_broken(BrokenChain { seq: entry.seq, why }));
    if base.exists() {
        return Err(broken("it creates a namespace that exists"));
    }
    let Some(bytes) = entry.branch().cloned() else {
        return Ok(base.clone());
    };
    let seq = entry.seq;
    let decode = move || branch_manifest(&bytes, seq);
    let decoded = state.runtime.cpu.run(Priority::Foreground, decode).await;
    let manifest = decoded.map_err(|error| {
        tracing::error!(namespace = %state.name, %seq, %error, "the manifest of a branch cannot be read");
        broken("the manifest in it cannot be read")
    })?;
    let opened = manifests::open(state, &manifest).await.map_err(|error| match error {
        OpenError::Segment(error) if error.is_missing() => NotApplied::Missing(error),
        error => NotApplied::Trouble(Trouble::from(error)),
    })?;
    Ok(base.branched(opened))
}
