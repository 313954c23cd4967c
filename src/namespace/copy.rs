//! Copies and branches: a namespace filled from another one, in one log entry.
//!
//! # What stays true
//!
//! - The source is read strongly consistent, at one snapshot; what is written to it meanwhile is
//!   not copied.
//! - All or nothing: the rows, the schema and the settings of the copy are one request of one
//!   entry. Rows of a large copy are uploaded before as blobs, which the entry names.
//! - A copy is decided under its slot: a destination that got rows, or came to be, since it was
//!   looked at refuses it.
//! - Where the destination is new, segments of the source are copied as they are, within the store; only the rows of
//!   its tail go into the entry. So a namespace larger than this node's memory can be copied.
//! - Memory: columns of parts without dead rows are shared with the source. At most
//!   [`BLOBS_AT_ONCE`] encoded blobs are held at a time, and as many that are being uploaded.
//!
//! A branch is a copy that knows its parent, and shares the segments of the source: see [`branch`](super::branch).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;

use super::branch::{Base, try_again};
use super::commit::Failure;
use super::evaluate::{Staged, What, check_may_create, not_found};
use super::fairness::{FairPlaces, FairSlots};
use super::handle::Handle;
use super::settings::check_writable;
use super::state::{Moment, Trouble};
use super::{Engine, bodies_used_up, follow};
use crate::base::clock::wall_ms;
use crate::base::{Charge, MemoryShare, Priority, Tenant};
use crate::cache::ReadKind;
use crate::error::{Error, ErrorKind, Result};
use crate::model::access::{Access, Guard};
use crate::model::batch::NamedColumn;
use crate::model::schema::SchemaChange;
use crate::model::write::Counts;
use crate::model::write::origin::OriginKind;
use crate::model::{AttrId, Attribute, NamespaceName, OrgId, RowBatch, Schema, Seq, SettingsChange};
use crate::segment::{Segment, SegmentId, SegmentPart};
use crate::snapshot::Snapshot;
use crate::store::StoreError;
use crate::store::paths::{self, NsKey};
use crate::tail::{self, Part};
use crate::wal::{BLOB_BYTES_TARGET, Operation, Stager};

/// Blobs of one copy that are uploaded at a time, while as many are encoded.
const BLOBS_AT_ONCE: usize = 3;
/// Segments of one copy that the store copies at a time.
const SEGMENTS_AT_ONCE: usize = 4;
/// Rows that are fetched from a segment at once, at most.
const FETCHED_ROWS_MAX: u64 = 65_536;
/// Copies that a node works on at a time; further ones wait, and organizations take turns.
const COPIES_AT_ONCE: usize = 4;
/// Copies by token that a node has accepted and not finished.
const OPERATIONS_AT_ONCE: usize = 64;

/// How many copies a node takes.
pub(super) struct CopySlots {
    pub at_once: Arc<FairSlots>,
    pub operations: Arc<FairPlaces>,
}

impl Default for CopySlots {
    fn default() -> Self {
        Self {
            at_once: FairSlots::new(COPIES_AT_ONCE),
            operations: FairPlaces::new(OPERATIONS_AT_ONCE),
        }
    }
}

/// What is to be copied, and how.
#[derive(Clone, Debug)]
pub struct CopyFrom {
    pub kind: OriginKind,
    /// The organization that has the source; the caller has shown a key of it.
    pub org: OrgId,
    pub source: NamespaceName,
    /// What the caller may do with the source; `None`: what the engine's caller may do.
    pub guard: Option<Arc<Guard>>,
    /// `sharding` of the destination.
    pub num_shards: Option<u32>,
    /// `create_namespace` as given.
    pub create_namespace: Option<bool>,
}

/// What a copy did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyOutcome {
    /// The log entry that holds it.
    pub seq: Seq,
    /// Documents copied.
    pub rows: u64,
    /// Their ids, values and vectors, as writes measure them.
    pub logical_bytes: u64,
}

/// How far a copy is, for whoever asks.
#[derive(Default)]
pub struct Progress {
    /// Protects the stage; held to read or replace it.
    stage: Mutex<Stage>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Stage {
    #[default]
    Waiting,
    Reading,
    Segments {
        done_bytes: u64,
        total_bytes: u64,
    },
    Uploading {
        done_bytes: u64,
        total_bytes: u64,
    },
    Committing,
}

impl Progress {
    fn set(&self, stage: Stage) {
        *self.stage.lock().unwrap_or_else(|e| e.into_inner()) = stage;
    }

    fn uploaded(&self, bytes: u64) {
        if let Stage::Segments { done_bytes, .. } | Stage::Uploading { done_bytes, .. } =
            &mut *self.stage.lock().unwrap_or_else(|e| e.into_inner())
        {
            *done_bytes += bytes;
        }
    }

    /// A sentence for people.
    pub fn text(&self) -> String {
        match *self.stage.lock().unwrap_or_else(|e| e.into_inner()) {
            Stage::Waiting => "waiting for other copies on this node".to_owned(),
            Stage::Reading => "reading the source".to_owned(),
            Stage::Segments {
                done_bytes,
                total_bytes,
            } => format!("copied {done_bytes} of {total_bytes} bytes of segments"),
            Stage::Uploading {
                done_bytes,
                total_bytes,
            } => format!("uploaded {done_bytes} bytes; the documents have {total_bytes} logical bytes"),
            Stage::Committing => "committing".to_owned(),
        }
    }
}

/// A copy that waits for its turn in the log of the destination.
pub(super) struct CopyRequest {
    kind: OriginKind,
    source: NamespaceName,
    schema: Arc<Schema>,
    read_only: bool,
    num_shards: Option<u32>,
    create_namespace: Option<bool>,
    pub operations: Vec<Operation>,
    pub staged: Option<Staged>,
    /// The segments that it begins with, shared with the source or copied; without them all rows are in `operations`.
    pub base: Option<Base>,
    rows: u64,
    logical_bytes: u64,
    /// For rows that are not shared with the source.
    _charge: Charge,
}

/// Rows ready to be copied.
struct Rows {
    operations: Vec<Operation>,
    rows: u64,
    logical_bytes: u64,
}

impl Engine {
    /// Copies or branches a namespace; returns when all of it is durable.
    ///
    /// Costs a probe of both namespaces and the PUT of a write; a copy also one PUT per segment of the source, or per
    /// 16 MiB where the destination exists and is empty, some in parallel. Dropping the future before the entry is sent leaves the
    /// destination as it was.
    ///
    /// # Errors
    ///
    /// 404 when the source is missing; 400 when the destination is not missing or empty, is
    /// read-only, or is the source; 429 when there is no room for the rows on this node.
    pub async fn copy(
        &self,
        org: &OrgId,
        name: &NamespaceName,
        from: &CopyFrom,
        progress: &Progress,
    ) -> Result<CopyOutcome> {
        self.copy_at(org, name, from, None, progress).await
    }

    /// The newest state of a source, on a manifest that is known to be in force: segments are named and copied without
    /// reading them, and a hint may name some that are gone.
    async fn source(&self, from: &CopyFrom) -> Result<Arc<Snapshot>> {
        let source = self.with_namespace(&from.org, &from.source, |handle| async move {
            handle.probe().await?;
            if !handle.snapshot().segments.is_empty() {
                handle.prove_index().await?;
            }
            self.living(&handle, &from.source, Access::Read)
        });
        Ok(source.await?.0)
    }

    /// * `at_ms` — which state of the source; `None`: the newest
    pub(super) async fn copy_at(
        &self,
        org: &OrgId,
        name: &NamespaceName,
        from: &CopyFrom,
        at_ms: Option<u64>,
        progress: &Progress,
    ) -> Result<CopyOutcome> {
        if at_ms.is_none() && (org, name) == (&from.org, &from.source) {
            return Err(Error::invalid(format!(
                "{}: the source is the destination itself",
                from.kind.field()
            )));
        }
        let _turn = self.inner.copies.at_once.acquire(Tenant::named(org.as_str())).await;
        progress.set(Stage::Reading);
        let reader = match &from.guard {
            Some(guard) => self.guarded(guard.clone()),
            None => self.clone(),
        };
        let since = Moment::now(self.inner.runtime.clock.as_ref());
        let source = async {
            match at_ms {
                Some(at_ms) => reader.past(&from.org, &from.source, at_ms).await,
                None => reader.source(from).await,
            }
        };
        let (source, destination) = tokio::join!(source, self.destination(org, name));
        let (destination, source) = (destination?, source?);
        // Open as long as its rows are in use, so that they stay charged for.
        let _open = self.inner.registry.get(&(from.org.clone(), from.source.clone()));
        if from.kind == OriginKind::Branch && source.settings.is_sharded() {
            return Err(Error::invalid(format!(
                "namespace '{}' is sharded, and sharded namespaces cannot be branched",
                from.source
            )));
        }
        // What exists has a schema of its own, which segments of another would not fit.
        let shares = !source.segments.is_empty() && !destination.exists();
        let mut request = self.prepare_copy(from, &source, shares)?;
        // Looked at before anything is uploaded; decided again under the slot.
        request.onto(&destination, name)?;
        if shares {
            let owner = NsKey::new(from.org.clone(), from.source.clone());
            let target = NsKey::new(org.clone(), name.clone());
            let (source, destination) = ((&owner, &source), (&target, &*destination));
            let base = self.share(from.kind, source, destination, since).await?;
            if from.kind == OriginKind::Copy {
                self.copy_segments(&base.copies, &target, progress).await?;
            }
            request.base = Some(base);
        }
        // In the tail of the copy they take about the memory that they take as rows.
        let copied = if shares { 0 } else { indexed_bytes(&source) };
        self.make_room(source.memory_bytes().saturating_add(copied), "a copy")?;
        let rows = self.rows_of(&source, !shares).await?;
        (request.rows, request.logical_bytes) = match shares {
            true => (source.rows() as u64, rows.logical_bytes + indexed_bytes(&source)),
            false => (rows.rows, rows.logical_bytes),
        };
        let (copied_rows, copied_bytes) = (request.rows, request.logical_bytes);
        if rows.logical_bytes >= self.inner.options.stage_bytes_min {
            progress.set(Stage::Uploading {
                done_bytes: 0,
                total_bytes: rows.logical_bytes,
            });
            let staged = self
                .with_namespace(org, name, |handle| {
                    let operations = &rows.operations;
                    async move { Ok::<_, Failure>(self.stage_copy(&handle, operations, progress).await?) }
                })
                .await?;
            request.staged = Some(staged);
        }
        request.operations = rows.operations;
        if let Some(base) = &request.base {
            base.check_age(self.inner.runtime.clock.as_ref(), self.inner.options.grace)?;
        }
        progress.set(Stage::Committing);
        let committed = self.commit(org, name, What::Copy(Box::new(request))).await?;
        Ok(CopyOutcome {
            seq: committed.seq,
            rows: copied_rows,
            logical_bytes: copied_bytes,
        })
    }

    /// A request without rows yet, its memory charged for.
    ///
    /// * `shares` — whether it takes the segments as they are
    fn prepare_copy(&self, from: &CopyFrom, source: &Snapshot, shares: bool) -> Result<CopyRequest> {
        let stored = if shares { 0 } else { indexed_bytes(source) };
        let gathered = source.parts.iter().map(tail::live_batch_bytes).sum::<u64>() + stored;
        let window = 2 * BLOBS_AT_ONCE as u64 * BLOB_BYTES_TARGET as u64;
        let bytes = gathered + window.min(source.memory_bytes());
        let charge = self.inner.runtime.memory.charge(MemoryShare::Bodies, bytes);
        Ok(CopyRequest {
            kind: from.kind,
            source: from.source.clone(),
            schema: source.schema.clone(),
            read_only: source.settings.read_only,
            num_shards: from.num_shards,
            create_namespace: from.create_namespace,
            operations: Vec::new(),
            staged: None,
            base: None,
            rows: 0,
            logical_bytes: 0,
            _charge: charge.map_err(|e| bodies_used_up().because(e))?,
        })
    }

    /// The newest state of a namespace that is to be filled, whether or not it exists.
    async fn destination(&self, org: &OrgId, name: &NamespaceName) -> Result<Arc<Snapshot>> {
        self.with_namespace(org, name, |handle| async move {
            self.check_newest(&handle, Access::Write, name).await?;
            let snapshot = handle.snapshot();
            if !snapshot.exists() {
                check_may_create(self.guard.as_deref(), name)?;
            }
            Ok::<_, Failure>(snapshot)
        })
        .await
    }

    /// That the caller may do something with a namespace, whether or not it exists.
    ///
    /// Costs nothing without a guard, else one GET, shared.
    pub(super) async fn check_now(&self, org: &OrgId, name: &NamespaceName, access: Access) -> Result<()> {
        if self.guard.is_none() {
            return Ok(());
        }
        self.with_namespace(org, name, |handle| async move {
            self.check_newest(&handle, access, name).await
        })
        .await
    }

    /// Makes sure that so many more bytes of rows fit on this node.
    ///
    /// * `what` — they are for
    pub(super) fn make_room(&self, more_bytes: u64, what: &str) -> Result<()> {
        let memory = &self.inner.runtime.memory;
        let fits = || {
            memory.used_bytes(MemoryShare::Tails).saturating_add(more_bytes) <= memory.limit_bytes(MemoryShare::Tails)
        };
        self.inner.registry.evict_until(self.boot_ms(), false, |_| fits());
        match fits() {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Overloaded,
                format!(
                    "this node's memory for unindexed rows has no room for {what} of {more_bytes} bytes; try again"
                ),
            )
            .after(Duration::from_secs(5))),
        }
    }

    /// Copies the objects of segments into the destination's directory, within the store, a few at a time: neither
    /// their number nor their size is a matter of this node's memory. A hold on them is there already, because a copy
    /// may look as old as what it was made of. Costs a request for each.
    ///
    /// * `copies` — what is copied, and what it is called then
    async fn copy_segments(
        &self,
        copies: &[(Arc<Segment>, SegmentId)],
        target: &NsKey,
        progress: &Progress,
    ) -> Result<()> {
        progress.set(Stage::Segments {
            done_bytes: 0,
            total_bytes: copies.iter().map(|(segment, _)| segment.meta().len).sum(),
        });
        let one = |(segment, name): (Arc<Segment>, SegmentId)| async move {
            let (from, bytes) = (segment.object().key.clone(), segment.meta().len);
            let to = paths::segment(target, name.0);
            if !self.copy_object(&from, &to, bytes).await? {
                return Err(try_again(OriginKind::Copy, "a segment of the source was collected"));
            }
            progress.uploaded(bytes);
            Ok(())
        };
        let copied = stream::iter(copies.to_vec())
            .map(one)
            .buffer_unordered(SEGMENTS_AT_ONCE);
        copied.try_collect().await
    }

    /// Copies an object; false when it does not exist. Through this node where the store cannot do it.
    async fn copy_object(&self, from: &Path, to: &Path, bytes: u64) -> Result<bool> {
        let (store, memory) = (&self.inner.store, &self.inner.runtime.memory);
        let failed = |error| try_again(OriginKind::Copy, "object storage did not copy a segment").because(error);
        match store.copy(from, to, bytes).await {
            Err(StoreError::Denied { .. }) => {}
            copied => return copied.map_err(failed),
        }
        let _charge = memory
            .charge(MemoryShare::Bodies, bytes)
            .map_err(|e| bodies_used_up().because(e))?;
        match store.get(from).await.map_err(failed)? {
            Some(body) => store.put(to, body).await.map(|()| true).map_err(failed),
            None => Ok(false),
        }
    }

    /// Uploads rows to the destination's blobs, a few at a time.
    async fn stage_copy(
        &self,
        handle: &Handle,
        operations: &[Operation],
        progress: &Progress,
    ) -> Result<Staged, Trouble> {
        let (state, runtime) = (handle.state(), &self.inner.runtime);
        let since = state.now();
        let encode = async |mut stager: Stager| {
            // A step at a time, so that other requests get their turns in between; but not behind all of
            // them, or a busy node would never finish a copy.
            let step = move || (stager.by_ref().take(BLOBS_AT_ONCE).collect::<Vec<_>>(), stager);
            runtime.cpu.run(Priority::Foreground, step).await
        };
        let mut blobs = Vec::new();
        let (mut batch, mut stager) = encode(Stager::new(operations)).await;
        while !batch.is_empty() {
            let now_ms = wall_ms(runtime.clock.as_ref());
            let bytes: usize = batch.iter().map(|b| b.bytes.content_length()).sum();
            let named = batch.into_iter().map(|b| (runtime.rng.ulid(now_ms), b)).collect();
            let (uploaded, next) = tokio::join!(state.log.upload(named), encode(stager));
            blobs.extend(uploaded.map_err(follow::unavailable)?);
            progress.uploaded(bytes as u64);
            (batch, stager) = next;
        }
        Ok(Staged { blobs, since })
    }
}

impl CopyRequest {
    /// What the client is told.
    pub fn counts(&self) -> Counts {
        Counts {
            upserted: Some(self.rows),
            logical_bytes: self.logical_bytes,
            ..Counts::default()
        }
    }

    /// What the copy changes besides rows, when it meets the destination `base`.
    ///
    /// # Errors
    ///
    /// As [`Engine::copy`], for the reasons that lie in the destination.
    pub fn onto(&self, base: &Snapshot, name: &NamespaceName) -> Result<(SchemaChange, SettingsChange)> {
        let field = self.kind.field();
        check_writable(&base.settings, name)?;
        if !base.exists() && self.create_namespace == Some(false) {
            return Err(not_found(name));
        }
        if base.exists() && self.kind == OriginKind::Branch {
            return Err(Error::invalid(format!(
                "{field}: namespace '{name}' exists already; a branch needs a new name"
            )));
        }
        if let Some(shared) = &self.base {
            shared.check_slot(base)?;
        }
        if base.rows() > 0 {
            return Err(Error::invalid(format!(
                "{field}: namespace '{name}' has documents already; a copy needs a missing or empty destination"
            )));
        }
        let has = base.settings.num_shards;
        if let (Some(wanted), Some(has)) = (self.num_shards, has)
            && wanted != has
        {
            return Err(Error::invalid(format!(
                "{field}: namespace '{name}' has num_shards {has}, got {wanted}"
            )));
        }
        if !base.schema.has_numbers_for(self.schema.len()) {
            return Err(Error::invalid(format!(
                "{field}: namespace '{name}' has had so many attributes that no numbers are left for new ones"
            )));
        }
        let settings = SettingsChange {
            read_only: self.read_only.then_some(true),
            num_shards: self.num_shards.filter(|n| Some(*n) != has),
            // One that is restored under its own name has none.
            parent: (self.kind == OriginKind::Branch && self.source != *name).then(|| self.source.clone()),
            // Who may do what is not copied: tokens, groups and limits are a namespace's own.
            ..SettingsChange::default()
        };
        match &self.base {
            // The schema comes with the segments.
            Some(_) => Ok((SchemaChange::default(), settings)),
            None => Ok((replace_schema(&base.schema, &self.schema), settings)),
        }
    }
}

/// The change that makes an empty namespace's schema equal to `new`, but for the numbers of the
/// attributes, which may be in use for what was there before.
fn replace_schema(old: &Schema, new: &Schema) -> SchemaChange {
    let numbers = (old.next_attribute_id().0..).map(AttrId);
    SchemaChange {
        id_kind: new.id_kind.filter(|kind| old.id_kind != Some(*kind)),
        drops: old.attributes().map(|a| a.name.clone()).collect(),
        puts: new
            .attributes()
            .zip(numbers)
            .map(|(attribute, id)| Attribute {
                id,
                ..attribute.clone()
            })
            .collect(),
    }
}

/// About how much memory the rows of the segments take, in bytes.
fn indexed_bytes(source: &Snapshot) -> u64 {
    let share = |part: &SegmentPart| {
        let meta = part.segment.meta();
        let live = part.live.count() as u128;
        u64::try_from(u128::from(meta.logical_bytes) * live / u128::from(meta.rows.max(1))).unwrap_or(u64::MAX)
    };
    source.segments.iter().map(share).sum()
}

impl Rows {
    fn of(batches: Vec<RowBatch>) -> Self {
        Self {
            rows: batches.iter().map(|b| b.len() as u64).sum(),
            logical_bytes: batches.iter().map(RowBatch::logical_bytes).sum(),
            operations: batches.into_iter().map(Operation::Upsert).collect(),
        }
    }
}

impl Engine {
    /// The live rows of a snapshot as upserts: those of the segments, oldest first, then those of the tail.
    ///
    /// * `stored` — whether those of the segments are wanted
    async fn rows_of(&self, source: &Arc<Snapshot>, stored: bool) -> Result<Rows> {
        let attributes: Vec<Attribute> = source.schema.attributes().cloned().collect();
        let mut batches = Vec::new();
        for part in source.segments.iter().filter(|_| stored) {
            let meta = part.segment.meta();
            let row_bytes = meta.logical_bytes / u64::from(meta.rows.max(1));
            let at_once = (BLOB_BYTES_TARGET as u64 / row_bytes.max(1)).clamp(1, FETCHED_ROWS_MAX) as usize;
            let rows: Vec<u32> = part.live.iter().filter_map(|row| u32::try_from(row).ok()).collect();
            for rows in rows.chunks(at_once) {
                let fetched = part.segment.fetch(rows, &attributes, ReadKind::Scan).await;
                let mut fetched = fetched.map_err(Trouble::from)?;
                let columns = source.schema.attributes().filter_map(|attribute| {
                    Some(NamedColumn {
                        name: attribute.name.clone(),
                        ty: attribute.ty,
                        column: fetched.columns.remove(&attribute.id)?,
                    })
                });
                batches.push(RowBatch {
                    columns: columns.collect(),
                    ids: fetched.ids,
                });
            }
        }
        let source = source.clone();
        let tail = move || {
            let parts = source.parts.iter().filter(|p| !p.live.none());
            batches.extend(parts.map(|part: &Part| tail::live_batch(part, &source.schema)));
            Rows::of(batches)
        };
        Ok(self.inner.runtime.cpu.run(Priority::Foreground, tail).await)
    }
}
