//! The engine: the registry of open namespaces, their commit loops and their reads.
//!
//! # What stays true
//!
//! - A write is answered when its entry is durable, and not before.
//! - A strong read sees every write acknowledged before it began: a probe of the log that starts
//!   after the read does runs beside the query, and the query runs again when the probe found
//!   something.
//! - "Not found" and every other "no" is said on a state that was current after the request came.
//!
//! # Who touches it
//!
//! `api` calls [`Engine`]; nobody else.
//!
//! # Cost
//!
//! Stated at each method, in object-store requests; `tests/cost.rs` holds them.

mod access;
mod admission;
mod branch;
mod catalog;
mod commit;
mod copy;
mod create;
mod embed;
mod evaluate;
mod fairness;
mod follow;
mod handle;
mod kept;
mod manifests;
mod operations;
mod options;
mod pins;
mod prefetch;
mod prepare;
mod read;
mod recall;
mod refused;
mod registry;
mod remembered;
mod rerank;
mod restore;
mod settings;
mod state;
mod upkeep;
mod warm;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::base::{Charge, MemoryShare, Runtime};
use crate::cache::Cache;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::ManifestStore;
use crate::model::access::Guard;
use crate::model::embed::EmbeddingUse;
use crate::model::write::{Counts, Write};
use crate::model::{IdColumn, IdempotencyKey, Limits, NamespaceName, OrgId, Schema, Seq};
use crate::store::Store;
use crate::store::paths::{self, NsKey};
use crate::wal::{self, EntryKind, Log};

use commit::{Affected, Committed, Failure};
use evaluate::{Matched, Staged, What, WriteRequest};
use handle::Handle;
use registry::{Name, Registry};
use state::{Seams, State, Trouble};
use upkeep::Hints;

pub use copy::{CopyFrom, CopyOutcome, Progress};
pub use create::Creation;
pub use operations::{Operation, OperationFailure};
pub use options::EngineOptions;
pub use read::{Glance, Metadata, QueryOutcome};
pub use recall::{Recall, RecallOf, RecallRequest, Truth};
pub use upkeep::{Dirty, Hinted, IndexHints, Tail};

/// How often a request is tried on a namespace that turned out to be stale.
const STALE_RETRIES: usize = 3;

/// A write that is ready to queue up.
struct Prepared {
    write: Write,
    staged: Option<Staged>,
    matched: Option<Matched>,
    repeated_bytes: u64,
    promoted: Option<Charge>,
}

/// A node's engine, on behalf of one caller or of nobody in particular; clones share it.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
    /// What the caller may do; `None` for the deployment's own work. See [`Engine::guarded`].
    guard: Option<Arc<Guard>>,
}

struct Inner {
    runtime: Runtime,
    store: Store,
    cache: Cache,
    hints: Hints,
    options: Arc<EngineOptions>,
    registry: Registry,
    copies: copy::CopySlots,
    warmings: warm::Slots,
    pins: pins::PinTable,
    writer: u128,
}

/// The decompressed JSON body of a request, with the memory that it and what is parsed from it are
/// charged for.
pub struct Body {
    pub bytes: Bytes,
    pub charge: Charge,
}

/// The answer when no memory is left for request bodies, or for what is parsed from them.
pub fn bodies_used_up() -> Error {
    Error::new(
        ErrorKind::Overloaded,
        "this node's memory for request bodies is used up; try again",
    )
    .after(Duration::from_secs(1))
}

/// The answer when no memory is left for rows.
fn tails_used_up() -> Error {
    Error::new(
        ErrorKind::Overloaded,
        "this node's memory for unindexed rows is used up; try again",
    )
    .after(Duration::from_secs(5))
}

/// Backpressure: refuses what would make a tail longer that is too long already.
///
/// * `unindexed_bytes` — of the state that the write comes after
fn check_indexed(write: &Write, unindexed_bytes: u64, limits: &Limits) -> Result<()> {
    let limit = limits.unindexed_bytes_max;
    let blind = write.patches.is_none() && !write.reads_rows();
    if unindexed_bytes <= limit || (write.disable_backpressure && blind) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Overloaded,
        format!("{unindexed_bytes} bytes of this namespace are not indexed yet, more than {limit}; try again"),
    )
    .after(Duration::from_secs(5)))
}

/// What a committed write did. A count is `None` when the request had no operation of that kind.
#[derive(Clone, Debug)]
pub struct WriteOutcome {
    /// The log entry that holds the write.
    pub seq: Seq,
    pub rows_upserted: Option<u64>,
    pub rows_patched: Option<u64>,
    pub rows_deleted: Option<u64>,
    /// Whether more rows match a filter than were allowed to be touched; `None` when the request
    /// asked for no partial work.
    pub rows_remaining: Option<bool>,
    pub logical_bytes_written: u64,
    /// Whether stored rows had to be searched or compared.
    pub searched: bool,
    /// The ids of the rows it touched, if asked for.
    pub affected: Option<AffectedIds>,
    /// What models took that made vectors for it; `None` when none was asked.
    pub embedding: Option<EmbeddingUse>,
}

/// The ids of the rows that a write touched, column after column.
#[derive(Clone, Debug, Default)]
pub struct AffectedIds {
    pub upserted: Vec<IdColumn>,
    pub patched: Vec<IdColumn>,
    pub deleted: Vec<IdColumn>,
}

impl AffectedIds {
    /// How many there are.
    pub fn len(&self) -> usize {
        let all = self.upserted.iter().chain(&self.patched).chain(&self.deleted);
        all.map(IdColumn::len).sum()
    }

    /// Whether no row was touched.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn of(operations: Vec<wal::Operation>) -> Self {
        let mut ids = Self::default();
        for operation in operations {
            match operation {
                wal::Operation::Upsert(batch) => ids.upserted.push(batch.ids),
                wal::Operation::Patch(batch) => ids.patched.push(batch.ids),
                wal::Operation::Delete(deleted) => ids.deleted.push(deleted),
            }
        }
        ids
    }
}

/// One page of namespace names.
#[derive(Clone, Debug, Default)]
pub struct NamespacePage {
    pub names: Vec<NamespaceName>,
    /// Opaque; `None` at the end.
    pub next_cursor: Option<String>,
}

impl Engine {
    /// An engine over a store that passed the conformance probe.
    pub fn new(runtime: Runtime, store: Store, options: EngineOptions) -> Self {
        let writer = runtime.rng.u128();
        let cache = Cache::new(store.clone(), &runtime, options.cache.clone());
        let pins = pins::PinTable::new(cache.directory());
        let engine = Self {
            inner: Arc::new(Inner {
                cache,
                hints: Hints::default(),
                runtime,
                store,
                options: Arc::new(options),
                registry: Registry::default(),
                copies: copy::CopySlots::default(),
                warmings: warm::Slots::default(),
                pins,
                writer,
            }),
            guard: None,
        };
        engine.open_pinned();
        engine
    }

    /// The limits in force.
    pub fn limits(&self) -> &crate::model::Limits {
        &self.inner.options.limits
    }

    /// Commits one write; returns when it is durable. Dropping the future does not undo it.
    ///
    /// Costs one PUT, shared with the other writes that arrive while one is in flight. The first
    /// write since this node opened the namespace costs another PUT and a LIST, in parallel.
    pub async fn write(&self, org: &OrgId, name: &NamespaceName, body: Body) -> Result<WriteOutcome> {
        self.write_once(org, name, body, None).await
    }

    /// Commits one write like [`Engine::write`], but not again what was committed under the same key
    /// within ten minutes: that is answered as it was then, by whichever node.
    ///
    /// Costs one GET more for a request that was committed before, and another when it asks for the
    /// ids that it touched.
    pub async fn write_once(
        &self,
        org: &OrgId,
        name: &NamespaceName,
        mut body: Body,
        key: Option<IdempotencyKey>,
    ) -> Result<WriteOutcome> {
        // Columns take about as much memory as the text they were; corrected when they are there.
        let text_bytes = body.bytes.len() as u64;
        let charged = body.charge.grow(text_bytes);
        charged.map_err(|e| bodies_used_up().because(e))?;
        let Prepared {
            write,
            staged,
            matched,
            repeated_bytes,
            promoted,
        } = self
            .with_namespace(org, name, |handle| {
                let body = &body;
                async move {
                    self.check_early(&handle, name).await?;
                    self.prepare(&handle, name, body).await
                }
            })
            .await?;
        body.charge.set_always(text_bytes + write.memory_bytes());
        let charged = body.charge.grow(repeated_bytes);
        charged.map_err(|e| bodies_used_up().because(e))?;
        let wants_ids = write.return_affected_ids;
        let embedding = write.embeddings.spent;
        let what = What::Write(Box::new(WriteRequest {
            body,
            write,
            staged,
            matched,
            repeated_bytes,
            promoted,
            key,
        }));
        let committed = self.commit(org, name, what).await?;
        let affected = match wants_ids {
            true => Some(self.affected(org, name, &committed).await?),
            false => None,
        };
        let Counts {
            upserted,
            patched,
            deleted,
            remaining,
            logical_bytes,
            searched,
        } = committed.counts;
        Ok(WriteOutcome {
            seq: committed.seq,
            rows_upserted: upserted,
            rows_patched: patched,
            rows_deleted: deleted,
            rows_remaining: remaining,
            logical_bytes_written: logical_bytes,
            searched,
            affected,
            embedding,
        })
    }

    /// The ids that a request touched. Costs a GET, and one per staged blob, if the request was
    /// committed before.
    async fn affected(&self, org: &OrgId, name: &NamespaceName, committed: &Committed) -> Result<AffectedIds> {
        let number = match &committed.affected {
            Affected::By(operations) => return Ok(AffectedIds::of(operations.clone())),
            Affected::Logged(number) => *number,
        };
        let log = self.open(&(org.clone(), name.clone())).state().log.clone();
        let logged = log
            .get(committed.seq)
            .await
            .map_err(|e| Trouble::Unavailable(Arc::new(e)))?;
        let Some(mut logged) = logged else {
            return Ok(AffectedIds::default());
        };
        match &mut logged.entry.kind {
            EntryKind::Data(requests) => requests.retain(|r| r.request == number),
            EntryKind::DeleteNamespace => {}
        }
        // The blobs of this request alone.
        let resolved = log.resolve(&mut logged.entry).await;
        resolved.map_err(|e| Trouble::Unavailable(Arc::new(e)))?;
        let requests = match logged.entry.kind {
            EntryKind::Data(requests) => requests,
            EntryKind::DeleteNamespace => Vec::new(),
        };
        let operations = requests.into_iter().flat_map(|r| r.operations);
        Ok(AffectedIds::of(operations.collect()))
    }

    /// Commits a schema change (body: the schema map) and returns the schema after it.
    ///
    /// Costs one PUT, or one GET when nothing changes.
    pub async fn update_schema(&self, org: &OrgId, name: &NamespaceName, body: Body) -> Result<Arc<Schema>> {
        let what = What::Schema(body, self.inner.options.inference.models().clone());
        Ok(self.commit(org, name, what).await?.schema)
    }

    /// Deletes the namespace: one log entry, whose number is returned. Its name can be used again at
    /// once.
    ///
    /// Costs one PUT, one LIST and one DELETE; one GET and one LIST when there is none.
    ///
    /// # Errors
    ///
    /// 404 when there is none, 409 when it is protected from deletion.
    pub async fn delete(&self, org: &OrgId, name: &NamespaceName) -> Result<Seq> {
        Ok(self.commit(org, name, What::DeleteNamespace).await?.seq)
    }

    /// Lists namespaces, by lower-cased name. Costs one LIST per thousand names.
    pub async fn list(
        &self,
        org: &OrgId,
        prefix: &str,
        cursor: Option<&str>,
        page_size: usize,
    ) -> Result<NamespacePage> {
        self.list_covered(org, prefix, cursor, page_size, &|_| true).await
    }

    /// The same of those namespaces that are covered: pages are full and cursors point behind their last names, as
    /// if the others did not exist. Costs one LIST per thousand names, covered or not.
    pub async fn list_covered(
        &self,
        org: &OrgId,
        prefix: &str,
        cursor: Option<&str>,
        page_size: usize,
        covers: &(dyn Fn(&NamespaceName) -> bool + Sync),
    ) -> Result<NamespacePage> {
        self.check_unbound()?;
        catalog::list(&self.inner.store, org, prefix, cursor, page_size, covers).await
    }

    /// Whether the store answers. Costs one GET.
    pub async fn reaches_store(&self) -> bool {
        self.inner.store.get(&paths::format()).await.is_ok()
    }

    /// Closes every namespace. Their tasks end when they have done what was accepted.
    pub fn close(&self) {
        self.inner.registry.clear();
    }

    /// Queues a change and returns when it is durable.
    async fn commit(&self, org: &OrgId, name: &NamespaceName, what: What) -> Result<Committed> {
        let change = self.change(what);
        self.with_namespace(org, name, |handle| {
            let change = change.clone();
            async move { handle.commit(change).await }
        })
        .await
    }

    /// Backpressure: refuses what could not be held.
    fn admit(&self, handle: &Handle, write: &Write) -> Result<()> {
        // Before it is parsed further and queued up; what counts is the same check of the state that it is written on.
        check_indexed(write, handle.snapshot().unindexed_bytes, self.limits())?;
        self.relieve();
        match self.has_room() {
            true => Ok(()),
            false => Err(tails_used_up()),
        }
    }

    /// Closes namespaces that nobody uses until the tails fit their share of the memory. Long before they do not, they are
    /// flushed sooner than otherwise.
    fn relieve(&self) {
        let (inner, memory) = (&self.inner, &self.inner.runtime.memory);
        let is_filling = memory.used_bytes(MemoryShare::Tails) > memory.limit_bytes(MemoryShare::Tails) / 4 * 3;
        if is_filling {
            inner.registry.evict_until(self.boot_ms(), false, |_| self.has_room());
            inner.hints.press();
        }
    }

    fn boot_ms(&self) -> u64 {
        self.inner.runtime.clock.boot().as_millis() as u64
    }

    /// Whether the tails fit their share of the memory.
    fn has_room(&self) -> bool {
        let memory = &self.inner.runtime.memory;
        memory.used_bytes(MemoryShare::Tails) <= memory.limit_bytes(MemoryShare::Tails)
    }

    /// Runs `f` on the open namespace; opens it again when this node's knowledge turned out to be
    /// too old.
    async fn with_namespace<T, F>(
        &self,
        org: &OrgId,
        name: &NamespaceName,
        mut f: impl FnMut(Arc<Handle>) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, Failure>> + Send,
    {
        let name: Name = (org.clone(), name.clone());
        let mut trouble = Trouble::Stale;
        for _ in 0..STALE_RETRIES {
            let handle = self.open(&name);
            // Of no named type, because all that is asked of the engine passes here: the compiler gives up on types that
            // are nested as deep as a request handler around a query around a read of the store.
            let doing: BoxFuture<'_, _> = Box::pin(f(handle.clone()));
            match doing.await {
                Ok(value) => return Ok(value),
                Err(Failure::Failed(error)) => return Err(error),
                Err(Failure::Stale) => self.inner.registry.forget(&name, &handle),
                Err(Failure::NoRoom(bytes)) => {
                    // What was read of it in vain is of use to nobody, and takes the room of others. What was whole once
                    // still answers eventual reads.
                    if !handle.state().was_whole() || handle.state().is_large() {
                        self.inner.registry.forget(&name, &handle);
                        handle.release_memory();
                    }
                    trouble = Trouble::NoRoom(bytes);
                    if !self.evict_for(bytes) {
                        break;
                    }
                }
            }
        }
        Err(trouble.into())
    }

    /// Closes namespaces that nobody uses until there is room for so many bytes of a tail. False when there is not; none
    /// is closed for what does not fit beside those in use.
    fn evict_for(&self, bytes: u64) -> bool {
        let (inner, memory) = (&self.inner, &self.inner.runtime.memory);
        let used = || memory.used_bytes(MemoryShare::Tails);
        let fits = |used: u64| used.saturating_add(bytes) <= state::room(memory);
        inner.hints.press();
        if !fits(used()) && fits(used().saturating_sub(inner.registry.idle_bytes())) {
            inner.registry.evict_until(self.boot_ms(), false, |_| fits(used()));
        }
        fits(used())
    }

    /// The namespace, with its tasks started if it was not open. Costs nothing: the log is read
    /// when its state is asked for.
    fn open(&self, name: &Name) -> Arc<Handle> {
        let inner = &self.inner;
        if let Some(handle) = inner.registry.get(name) {
            handle.touch();
            return handle;
        }
        // A tenth at once, so that not every opening has to look for the oldest.
        let max = inner.options.open_namespaces_max;
        let keep = if inner.registry.len() < max {
            max
        } else {
            max - max / 10
        };
        if inner.registry.evict_until(self.boot_ms(), true, |open| open < keep) {
            inner.hints.press();
        }
        self.relieve();
        inner.registry.get_or_start(name, || {
            let key = NsKey::new(name.0.clone(), name.1.clone());
            let cpu = &inner.runtime.cpu;
            let seams = Seams {
                log: Log::new(inner.store.clone(), key.clone(), cpu.clone()),
                manifests: ManifestStore::new(inner.store.clone(), key, cpu.clone()),
                cache: inner.cache.clone(),
                runtime: inner.runtime.clone(),
                options: inner.options.clone(),
                writer: inner.writer,
                hints: inner.hints.clone(),
                pins: inner.pins.clone(),
            };
            Handle::start(State::new(name.clone(), seams))
        })
    }
}
