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
//! depends on how many rows there are. Where so many rows of segments are deleted that the manifest has no room for
//! which, a PUT per segment, and one for the hold on those. Whoever applies the entry opens the segments: one GET each,
//! and one for each such set of deleted rows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use ulid::Ulid;
use uuid::Uuid;

use super::Engine;
use super::manifests::{self, NotApplied};
use super::state::{Moment, State, Trouble};
use crate::base::clock::wall_ms;
use crate::base::{Clock, Priority, Runtime};
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{
    self, Deletions, Gen, InvalidManifest, MANIFEST_BYTES_MAX, Manifest, ManifestError, ManifestSegment, ManifestStore,
    Pin, deleted_rows, deletions_inline_max,
};
use crate::model::write::origin::OriginKind;
use crate::model::{Incarnation, Recent, Schema, Seq, Settings};
use crate::segment::{Segment, SegmentId, SegmentMeta, SegmentPart};
use crate::snapshot::{BrokenChain, Snapshot, branch_manifest};
use crate::store::paths::{self, NsKey};
use crate::wal::{Digest, Entry};

/// In the manifest of a branch, the number of the entry that carries it: what it is in fact is known under the slot.
const FIRST: Seq = Seq(1);
/// Deletion bitmaps that are put at the same time.
const PUT_AT_ONCE: usize = 16;

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
    /// The segments that are to be copied, and the names of the copies.
    pub copies: Vec<(Arc<Segment>, SegmentId)>,
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
    /// PUT per namespace that has some of them, and what [`deletions_of`](Self::deletions_of) says.
    ///
    /// * `kind` — a branch names them where they lie; a copy under new names in its own directory, where they have to be
    ///   before the manifest is used. No collection that is under way can know these names, whatever lay there before
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
        let deletions = self
            .deletions_of(source, target)
            .await
            .map_err(|error| try_again(kind, "object storage did not take which rows are deleted").because(error))?;
        let (shared, from, to) = (source.clone(), owner.clone(), target.clone());
        let (writer, rng) = (inner.writer, inner.runtime.rng.clone());
        let make = move || {
            let new_name = || SegmentId(rng.ulid(now_ms));
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
                segments: living(&shared)
                    .zip(deletions)
                    .map(|(part, deletions)| ManifestSegment {
                        meta: as_shared(kind, part, (&from, &to), new_name),
                        deletions,
                    })
                    .collect(),
                pins: Vec::new(),
            };
            manifest.check()?;
            let copies = match kind {
                OriginKind::Copy => copies(living(&shared), &manifest),
                OriginKind::Branch => Vec::new(),
            };
            Ok::<_, InvalidManifest>((held(&manifest, &to), manifest::encode(&manifest).0, copies))
        };
        let made = inner.runtime.cpu.run(Priority::Foreground, make).await;
        let (held, manifest, copies) =
            made.map_err(|e| Error::new(ErrorKind::Internal, "the source cannot be shared").because(e))?;
        if manifest.len() > MANIFEST_BYTES_MAX {
            return Err(try_again(
                kind,
                "the source has too many segments, which wait for being merged",
            ));
        }
        let entry = destination.seq.next();
        let pins = held.into_iter().map(|(owner, (segments, deletions))| {
            let pin = Pin {
                target: target.clone(),
                entry,
                segments,
                deletions,
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
            copies,
        })
    }

    /// The deleted rows of each segment with live ones, as a manifest of `target` names them. Costs a PUT for each that is
    /// too large to be in it.
    async fn deletions_of(&self, source: &Snapshot, target: &NsKey) -> Result<Vec<Deletions>, ManifestError> {
        let Runtime { cpu, rng, clock, .. } = &self.inner.runtime;
        let manifests = ManifestStore::new(self.inner.store.clone(), target.clone(), cpu.clone());
        let inline_max = deletions_inline_max(living(source).count());
        let one = |part: SegmentPart| {
            let manifests = &manifests;
            async move {
                if part.live.count() == part.segment.rows() as usize {
                    return Ok(Deletions::None);
                }
                let deleted = cpu.run(Priority::Foreground, move || deleted_rows(&part.live)).await;
                let key = rng.ulid(wall_ms(clock.as_ref()));
                manifests.put_deletions(deleted, key, inline_max).await
            }
        };
        let parts: Vec<SegmentPart> = living(source).cloned().collect();
        stream::iter(parts).map(one).buffered(PUT_AT_ONCE).try_collect().await
    }
}

/// The segments that have live rows.
fn living(snapshot: &Snapshot) -> impl Iterator<Item = &SegmentPart> {
    snapshot.segments.iter().filter(|part| !part.live.none())
}

/// A segment as the branch or copy `to` of `from` names it.
fn as_shared(
    kind: OriginKind,
    part: &SegmentPart,
    (from, to): (&NsKey, &NsKey),
    new_name: impl FnOnce() -> SegmentId,
) -> SegmentMeta {
    let mut meta = part.segment.meta().clone();
    if kind == OriginKind::Copy && meta.inline.is_none() {
        meta.made_as = Some(meta.inner_id());
        meta.id = new_name();
    }
    (meta.min_seq, meta.max_seq) = (FIRST, FIRST);
    meta.owner = match (&meta.inline, kind) {
        (Some(_), _) | (_, OriginKind::Copy) => None,
        (None, OriginKind::Branch) => Some(meta.owner.unwrap_or_else(|| from.clone())).filter(|owner| owner != to),
    };
    meta
}

/// Which objects are to be copied, and what the copies are called.
///
/// * `parts` — what the segments of the manifest were made of, in that order
fn copies<'a>(parts: impl Iterator<Item = &'a SegmentPart>, manifest: &Manifest) -> Vec<(Arc<Segment>, SegmentId)> {
    let named = parts.zip(&manifest.segments);
    let objects = named.filter(|(_, named)| named.meta.inline.is_none());
    objects
        .map(|(part, named)| (part.segment.clone(), named.meta.id))
        .collect()
}

/// Which segments and deletion bitmaps have to be held where. Also those of the branch's own directory, be it that they
/// are there from an earlier life of that name: until its first manifest is written, nothing else there says that they
/// are needed.
fn held(manifest: &Manifest, to: &NsKey) -> BTreeMap<NsKey, (Vec<Ulid>, Vec<Ulid>)> {
    let mut held: BTreeMap<NsKey, (Vec<Ulid>, Vec<Ulid>)> = BTreeMap::new();
    for segment in &manifest.segments {
        if segment.meta.inline.is_none() {
            let owner = segment.meta.owner.as_ref().unwrap_or(to);
            held.entry(owner.clone()).or_default().0.push(segment.meta.id.0);
        }
        if let Deletions::Object(object) = &segment.deletions {
            let owner = object.owner.as_ref().unwrap_or(to);
            held.entry(owner.clone()).or_default().1.push(object.key);
        }
    }
    held
}

/// The state before the operations of the entry that creates a branch. Costs one GET per segment that is not inline, and
/// one per deletion bitmap that is not.
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
        error if error.is_missing() => NotApplied::Missing(error),
        error => NotApplied::Trouble(Trouble::from(error)),
    })?;
    Ok(base.branched(opened))
}
