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

mod catalog;
mod commit;
mod evaluate;
mod follow;
mod handle;
mod options;
mod read;
mod registry;
mod state;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::base::clock::wall_ms;
use crate::base::{Charge, MemoryShare, Priority, Runtime};
use crate::error::{Error, ErrorKind, Result};
use crate::model::write::{self, Write};
use crate::model::{NamespaceName, OrgId, Schema, Seq};
use crate::store::Store;
use crate::store::paths::{self, NsKey};
use crate::wal::{self, Log};

use commit::{Committed, Failure};
use evaluate::{Change, Counts, Staged, WriteRequest};
use handle::Handle;
use registry::{Name, Registry};
use state::{State, Trouble};

pub use options::EngineOptions;
pub use read::{Metadata, QueryOutcome};

/// How often a request is tried on a namespace that turned out to be stale.
const STALE_RETRIES: usize = 3;

/// A node's engine; clones share it.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    runtime: Runtime,
    store: Store,
    options: Arc<EngineOptions>,
    registry: Registry,
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

/// What a committed write did. A count is `None` when the request had no operation of that kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteOutcome {
    /// The log entry that holds the write.
    pub seq: Seq,
    pub rows_upserted: Option<u64>,
    pub rows_patched: Option<u64>,
    pub rows_deleted: Option<u64>,
    pub logical_bytes_written: u64,
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
        Self {
            inner: Arc::new(Inner {
                runtime,
                store,
                options: Arc::new(options),
                registry: Registry::default(),
                writer,
            }),
        }
    }

    /// The limits in force.
    pub fn limits(&self) -> &crate::model::Limits {
        &self.inner.options.limits
    }

    /// Commits one write; returns when it is durable. Dropping the future does not undo it.
    ///
    /// Costs one PUT, shared with the other writes that arrive while one is in flight. The first
    /// write since this node opened the namespace costs another PUT and a LIST, in parallel.
    pub async fn write(&self, org: &OrgId, name: &NamespaceName, mut body: Body) -> Result<WriteOutcome> {
        // Columns take about as much memory as the text they were; corrected when they are there.
        let text_bytes = body.bytes.len() as u64;
        let charged = body.charge.grow(text_bytes);
        charged.map_err(|e| bodies_used_up().because(e))?;
        let (write, staged) = self
            .with_namespace(org, name, |handle| {
                let body = &body;
                async move { self.prepare(&handle, body).await }
            })
            .await?;
        body.charge.set_always(text_bytes + write.memory_bytes());
        let change = Arc::new(Change::Write(Box::new(WriteRequest { body, write, staged })));
        let committed = self.commit(org, name, change).await?;
        let Counts {
            upserted,
            patched,
            deleted,
            logical_bytes,
        } = committed.counts;
        Ok(WriteOutcome {
            seq: committed.seq,
            rows_upserted: upserted,
            rows_patched: patched,
            rows_deleted: deleted,
            logical_bytes_written: logical_bytes,
        })
    }

    /// Commits a schema change (body: the schema map) and returns the schema after it.
    ///
    /// Costs one PUT, or one GET when nothing changes.
    pub async fn update_schema(&self, org: &OrgId, name: &NamespaceName, body: Body) -> Result<Arc<Schema>> {
        let change = Arc::new(Change::Schema(body));
        Ok(self.commit(org, name, change).await?.schema)
    }

    /// Deletes the namespace: one log entry, whose number is returned. Its name can be used again at
    /// once.
    ///
    /// Costs one PUT, one LIST and one DELETE; one GET and one LIST when there is none.
    pub async fn delete(&self, org: &OrgId, name: &NamespaceName) -> Result<Seq> {
        let change = Arc::new(Change::DeleteNamespace);
        Ok(self.commit(org, name, change).await?.seq)
    }

    /// Lists namespaces, by lower-cased name. Costs one LIST per thousand names.
    pub async fn list(
        &self,
        org: &OrgId,
        prefix: &str,
        cursor: Option<&str>,
        page_size: usize,
    ) -> Result<NamespacePage> {
        catalog::list(&self.inner.store, org, prefix, cursor, page_size).await
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
    async fn commit(&self, org: &OrgId, name: &NamespaceName, change: Arc<Change>) -> Result<Committed> {
        self.with_namespace(org, name, |handle| {
            let change = change.clone();
            async move { handle.commit(change).await }
        })
        .await
    }

    /// Parses a body against the schema that this node knows, and uploads it when it is large.
    async fn prepare(&self, handle: &Handle, body: &Body) -> Result<(Write, Option<Staged>), Failure> {
        let inner = &self.inner;
        let snapshot = handle.snapshot();
        let parse = |schema: Arc<Schema>| {
            let (bytes, options) = (body.bytes.clone(), inner.options.clone());
            inner.runtime.cpu.run(Priority::Foreground, move || {
                write::prepare(&bytes, &schema, &options.limits)
            })
        };
        let write = match parse(snapshot.schema.clone()).await {
            Ok(write) => write,
            Err(_) => {
                // The schema may be another one by now: look before saying no.
                handle.probe().await?;
                let newer = handle.snapshot();
                parse(newer.schema.clone()).await.map_err(Error::from)?
            }
        };
        self.admit(handle, &write)?;
        let staged = match write.logical_bytes >= inner.options.stage_bytes_min {
            true => Some(self.stage(handle, &write).await?),
            false => None,
        };
        Ok((write, staged))
    }

    /// Uploads the operations of a large write. Costs one PUT per 16 MiB, some in parallel.
    async fn stage(&self, handle: &Handle, write: &Write) -> Result<Staged, Trouble> {
        let runtime = &self.inner.runtime;
        let operations = evaluate::operations(write);
        let stage = move || wal::stage(&operations);
        let blobs = runtime.cpu.run(Priority::Foreground, stage).await;
        let now_ms = wall_ms(runtime.clock.as_ref());
        let named = blobs.into_iter().map(|b| (runtime.rng.ulid(now_ms), b)).collect();
        let state = handle.state();
        let since = state.now();
        let blobs = state.log.upload(named).await.map_err(follow::unavailable)?;
        Ok(Staged { blobs, since })
    }

    /// Backpressure: refuses what could not be held.
    fn admit(&self, handle: &Handle, write: &Write) -> Result<()> {
        let limit = self.inner.options.limits.unindexed_bytes_max;
        let unindexed = handle.snapshot().unindexed_bytes;
        let blind = write.patches.is_none();
        if unindexed > limit && !(write.disable_backpressure && blind) {
            return Err(Error::new(
                ErrorKind::Overloaded,
                format!("{unindexed} bytes of this namespace are not indexed yet, more than {limit}; try again"),
            )
            .after(Duration::from_secs(5)));
        }
        self.inner.registry.evict_until(|_| self.has_room());
        match self.has_room() {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Overloaded,
                "this node's memory for unindexed rows is used up; try again",
            )
            .after(Duration::from_secs(5))),
        }
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
        F: Future<Output = Result<T, Failure>>,
    {
        let name: Name = (org.clone(), name.clone());
        for _ in 0..STALE_RETRIES {
            let handle = self.open(&name);
            match f(handle.clone()).await {
                Ok(value) => return Ok(value),
                Err(Failure::Failed(error)) => return Err(error),
                Err(Failure::Stale) => self.inner.registry.forget(&name, &handle),
            }
        }
        Err(Trouble::Stale.into())
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
        inner.registry.evict_until(|open| open < keep && self.has_room());
        inner.registry.get_or_start(name, || {
            let key = NsKey::new(name.0.clone(), name.1.clone());
            let log = Log::new(inner.store.clone(), key, inner.runtime.cpu.clone());
            Handle::start(State::new(
                name.clone(),
                log,
                inner.runtime.clone(),
                inner.options.clone(),
                inner.writer,
            ))
        })
    }
}
