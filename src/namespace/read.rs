//! The read side of the engine.

use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::commit::Failure;
use super::evaluate::not_found;
use super::handle::Handle;
use super::manifests;
use super::rerank::Judgement;
use crate::base::Priority;
use crate::base::clock::wall_ms;
use crate::cache::{ReadCounts, ReadMeter, Temperature};
use crate::error::{Error, ErrorKind, Result};
use crate::model::access::Access;
use crate::model::embed::EmbeddingUse;
use crate::model::query::{RankBy, Read, Rerank};
use crate::model::{Consistency, NamespaceName, OrgId, Query, Schema, Seq, Settings};
use crate::query::{self, QueryResult, View};
use crate::segment::SegmentError;
use crate::snapshot::{Incarnation, Snapshot};
use uuid::Uuid;

/// What a query found, on one snapshot, and what it took.
#[derive(Clone, Debug)]
pub struct QueryOutcome {
    /// One per query, in order; one alone when they were fused.
    pub results: Vec<QueryResult>,
    /// The snapshot: the newest entry that was seen.
    pub seq: Seq,
    /// The schema of that snapshot, as far as the caller may see it.
    pub schema: Arc<Schema>,
    /// Whether the caller must not see the ids of rows, which are all `""` then.
    pub hides_id: bool,
    /// When that entry was written, in milliseconds since the epoch.
    pub last_included_write_ms: u64,
    /// 0 for callers who see some rows only.
    pub approx_namespace_rows: u64,
    /// Rows looked at without an index, before filters: those of the tail, and all when vectors are compared; 0 for
    /// callers who see some rows only.
    pub exhaustive_search_rows: u64,
    pub execution: Duration,
    /// Whether the namespace had to be opened for this query.
    pub cold: bool,
    /// What it read of segments, and where that was.
    pub reads: ReadCounts,
    /// What models took that made vectors of its texts; `None` when none was asked.
    pub embedding: Option<EmbeddingUse>,
}

impl QueryOutcome {
    /// Share of what it read that was at hand, between 0 and 1. Where it read nothing: whether the namespace was open.
    pub fn cache_hit_ratio(&self) -> f64 {
        match self.reads.memory_bytes + self.reads.disk_bytes + self.reads.store_bytes {
            0 if self.cold => 0.0,
            _ => self.reads.hit_ratio(),
        }
    }

    /// The same in a word.
    pub fn cache_temperature(&self) -> Temperature {
        Temperature::of(self.cache_hit_ratio())
    }
}

/// How long after the newest write a namespace's rows are counted for its metadata.
const COUNTED_AFTER_MS: u64 = 30_000;

/// What is known of a namespace.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// What the namespace is known by until it is deleted; one that is created again has another.
    pub id: Uuid,
    pub schema: Arc<Schema>,
    pub settings: Arc<Settings>,
    /// When this was said.
    pub now_ms: u64,
    pub created_ms: u64,
    pub updated_ms: u64,
    pub last_write_ms: u64,
    /// Rows, and bytes as stored; 0 until half a minute after the newest write.
    pub approx_rows: u64,
    pub approx_bytes: u64,
    pub unindexed_rows: u64,
    pub unindexed_bytes: u64,
    /// Bytes as stored now, which `size_limit` bounds.
    pub stored_bytes: u64,
}

/// What requests have to know of a namespace before they can be put in its words.
#[derive(Clone, Debug)]
pub struct Glance {
    /// See [`Metadata::id`].
    pub id: Uuid,
    /// As far as the caller may see it.
    pub schema: Arc<Schema>,
}

impl Engine {
    /// What an open namespace stores, as far as this node knows it: bytes, and what the namespace is known by.
    /// `None` when it is not open here. Costs nothing.
    pub fn stored(&self, org: &OrgId, name: &NamespaceName) -> Option<(u64, Option<Uuid>)> {
        let handle = self.inner.registry.get(&(org.clone(), name.clone()))?;
        let snapshot = handle.snapshot();
        let id = snapshot.database_id();
        Some((if id.is_some() { snapshot.stored_bytes() } else { 0 }, id))
    }

    /// The schema in the newest state that this node has seen, for requests that are translated by it. What
    /// is then asked or written is checked against the newest schema all the same, so that a translation by an old
    /// one is noticed: compare with [`QueryOutcome::schema`].
    ///
    /// Costs nothing while the namespace is open; one GET when it is not, or with `fresh`.
    ///
    /// * `access` — what the request is about to do
    /// * `fresh` — look at the newest state
    ///
    /// # Errors
    ///
    /// 404 when there is no such namespace in its newest state; what the caller's guard says.
    pub async fn glance(&self, org: &OrgId, name: &NamespaceName, access: Access, fresh: bool) -> Result<Glance> {
        self.with_namespace(org, name, |handle| async move {
            let known = handle.is_proven() && !handle.is_behind() && !fresh;
            if known && let Ok(glance) = self.glance_at(name, &handle.snapshot(), access).await {
                return Ok(glance);
            }
            handle.probe().await?;
            Ok(self.glance_at(name, &handle.snapshot(), access).await?)
        })
        .await
    }

    async fn glance_at(&self, name: &NamespaceName, snapshot: &Arc<Snapshot>, access: Access) -> Result<Glance> {
        let schema = match access {
            Access::Search => self.view(name, snapshot).await?.schema().clone(),
            _ => {
                self.check(access, name, snapshot)?;
                snapshot.schema.clone()
            }
        };
        let known = snapshot.incarnation.ok_or_else(|| not_found(name))?;
        Ok(Glance { id: known.id, schema })
    }

    /// Runs queries on one snapshot.
    ///
    /// Strong: costs one GET that finds nothing, shared by all queries that wait at the same time
    /// and overlapped with the execution. Eventual: costs nothing while the view is young. One GET
    /// more, and requests to models, when texts are to be embedded or rows judged.
    pub async fn query(&self, org: &OrgId, name: &NamespaceName, mut read: Read) -> Result<QueryOutcome> {
        self.cap_read(&mut read);
        let judgement = Judgement::of(&read, self)?;
        let consistency = read.consistency;
        let meter = match read.queries.iter().any(|query| query.bypass_cache) {
            true => ReadMeter::bypassing(),
            false => ReadMeter::new(),
        };
        let queries: Arc<[Query]> = read.queries.into();
        let found = self.with_namespace(org, name, |handle| {
            let queries = queries.clone();
            async move {
                let (queries, embedding) = self.embed_queries(&handle, name, &queries, consistency).await?;
                let outcome = match consistency {
                    Consistency::Strong => self.query_strong(&handle, name, &queries).await?,
                    Consistency::Eventual { max_staleness } => {
                        self.query_eventual(&handle, name, &queries, max_staleness).await?
                    }
                };
                Ok(QueryOutcome { embedding, ..outcome })
            }
        });
        let found = meter.observe(found).await?;
        let mut outcome = self.fuse(found, read.rerank).await;
        outcome.reads = meter.counts();
        if let Some(judgement) = judgement {
            self.rerank(&mut outcome, &judgement).await?;
        }
        if outcome.hides_id {
            // They told rows apart until here; whoever shows them must not have them to forget about.
            outcome.results.iter_mut().for_each(QueryResult::blank_ids);
        }
        Ok(outcome)
    }

    /// Makes one answer of several, where that was asked.
    async fn fuse(&self, mut outcome: QueryOutcome, rerank: Option<Rerank>) -> QueryOutcome {
        if let Some(Rerank::Fusion {
            rank_constant,
            weights,
            limit,
            offset,
        }) = rerank
        {
            let results = std::mem::take(&mut outcome.results);
            let fuse = move || query::fuse(results, rank_constant, &weights, limit, offset);
            let fused = self.inner.runtime.cpu.run(Priority::Foreground, fuse).await;
            outcome.results = vec![fused];
        }
        outcome
    }

    async fn query_strong(
        &self,
        handle: &Handle,
        name: &NamespaceName,
        queries: &Arc<[Query]>,
    ) -> Result<QueryOutcome, Failure> {
        let cold = !handle.is_proven();
        let snapshot = handle.snapshot();
        // The execution is speculative: on the state that this node has, while the log is asked
        // whether there is a newer one.
        let (end, speculative) = tokio::join!(handle.probe(), self.execute(handle, name, &snapshot, queries, cold));
        end?;
        let newest = handle.snapshot();
        if let Err(error) = &speculative
            && matches!(error.kind, ErrorKind::Overloaded | ErrorKind::TooSlow)
        {
            self.check(Access::Search, name, &newest)?;
            // It has taken long enough.
            return Ok(speculative?);
        }
        match newest.seq == snapshot.seq {
            true => Ok(speculative?),
            false => Ok(self.execute(handle, name, &newest, queries, cold).await?),
        }
    }

    async fn query_eventual(
        &self,
        handle: &Handle,
        name: &NamespaceName,
        queries: &Arc<[Query]>,
        max_staleness: Duration,
    ) -> Result<QueryOutcome, Failure> {
        let cold = !handle.is_proven();
        let age = handle.age();
        let probed = cold || handle.is_behind() || age > max_staleness;
        if probed {
            handle.probe().await?;
        } else if age > self.inner.options.eventual_refresh {
            handle.probe_in_background();
        }
        let snapshot = handle.snapshot();
        match self.execute(handle, name, &snapshot, queries, cold).await {
            Err(error) if matches!(error.kind, ErrorKind::Overloaded | ErrorKind::TooSlow) => Err(error.into()),
            // "No" may be outdated: the namespace or the attribute may exist by now.
            Err(_) if !probed => self.query_strong(handle, name, queries).await,
            result => Ok(result?),
        }
    }

    /// Takes query slots. Waiting for the store takes none: all who wait share one request.
    async fn execute(
        &self,
        handle: &Handle,
        name: &NamespaceName,
        snapshot: &Arc<Snapshot>,
        queries: &Arc<[Query]>,
        cold: bool,
    ) -> Result<QueryOutcome> {
        let view = self.view(name, snapshot).await?;
        let known = snapshot.incarnation.ok_or_else(|| not_found(name))?;
        let _slots = handle.admission.admit(queries).await?;
        let runtime = &self.inner.runtime;
        let start = runtime.clock.boot();
        let results = match self.answer(snapshot, &view, queries).await {
            // What the manifest in use names was collected: a newer manifest does not name it.
            Err(error) if SegmentError::is_behind(&error) => {
                return self.execute_on_newer(handle, name, queries, error).await;
            }
            results => results?,
        };
        Ok(QueryOutcome {
            cold,
            ..self.outcome(snapshot, &view, known, queries, results, start)
        })
    }

    fn outcome(
        &self,
        snapshot: &Snapshot,
        view: &View,
        known: Incarnation,
        queries: &[Query],
        results: Vec<QueryResult>,
        start: Duration,
    ) -> QueryOutcome {
        // Vectors of segments have no index yet: all of them are looked at.
        let scans =
            |query: &Query| query.aggregation.is_none() && matches!(query.rank_by, Some(RankBy::Nearest { .. }));
        let (rows, exhaustive) = match view.is_restricted() {
            true => (0, 0),
            false if queries.iter().any(scans) => (snapshot.rows() as u64, snapshot.rows() as u64),
            false => (snapshot.rows() as u64, snapshot.unindexed_rows() as u64),
        };
        QueryOutcome {
            results,
            seq: snapshot.seq,
            schema: view.schema().clone(),
            hides_id: view.hides_id(),
            last_included_write_ms: known.last_write_ms,
            approx_namespace_rows: rows,
            exhaustive_search_rows: exhaustive,
            execution: self.inner.runtime.clock.boot().saturating_sub(start),
            cold: false,
            reads: ReadCounts::default(),
            embedding: None,
        }
    }

    /// Executes queries once more, on the newest manifest, after an object was gone. What is missing then as well is
    /// a matter for the operator.
    async fn execute_on_newer(
        &self,
        handle: &Handle,
        name: &NamespaceName,
        queries: &Arc<[Query]>,
        missing: Error,
    ) -> Result<QueryOutcome> {
        if !handle.move_on().await? {
            manifests::alarm(handle.state(), &missing);
            return Err(missing);
        }
        let snapshot = handle.snapshot();
        let view = self.view(name, &snapshot).await?;
        let known = snapshot.incarnation.ok_or_else(|| not_found(name))?;
        let start = self.inner.runtime.clock.boot();
        let results = self.answer(&snapshot, &view, queries).await;
        let results = results.inspect_err(|error| {
            if SegmentError::is_behind(error) {
                manifests::alarm(handle.state(), error);
            }
        })?;
        Ok(self.outcome(&snapshot, &view, known, queries, results, start))
    }

    /// Runs a query that finds all rows, page by page.
    ///
    /// Costs what [`Engine::query`] does.
    ///
    /// # Errors
    ///
    /// 403 for callers who see some rows only: they can search.
    pub async fn export(&self, org: &OrgId, name: &NamespaceName, page: Read) -> Result<QueryOutcome> {
        if let Some(guard) = &self.guard {
            guard.check_restriction(Access::Read)?;
        }
        self.query(org, name, page).await
    }

    /// Executes queries, for a bounded time: patterns and long texts can make a query take hours, on threads that
    /// all namespaces share. Dropping the execution ends its jobs, those of clients that hung up too.
    pub(super) async fn answer(
        &self,
        snapshot: &Snapshot,
        view: &Arc<View>,
        queries: &Arc<[Query]>,
    ) -> Result<Vec<QueryResult>> {
        let max = self.limits().query_time_max;
        let execution = query::execute(snapshot, view, queries, &self.inner.runtime.cpu, self.limits());
        tokio::time::timeout(max, execution)
            .await
            .unwrap_or_else(|_| Err(too_slow("query", max)))
    }

    /// Says in words how a query is answered, on the newest state. Costs one GET, shared.
    pub async fn explain(&self, org: &OrgId, name: &NamespaceName, query: &Query) -> Result<String> {
        let mut query = query.clone();
        self.cap(&mut query);
        let queries: Arc<[Query]> = Arc::new([query]);
        self.with_namespace(org, name, |handle| {
            let queries = queries.clone();
            async move {
                let (queries, _) = self.embed_queries(&handle, name, &queries, Consistency::Strong).await?;
                handle.probe().await?;
                let snapshot = handle.snapshot();
                let view = self.view(name, &snapshot).await?;
                let cpu = &self.inner.runtime.cpu;
                Ok(query::explain(&snapshot, &view, &queries[0], cpu, self.limits()).await?)
            }
        })
        .await
    }

    /// The schema, strongly consistent. Costs one GET, shared.
    pub async fn schema(&self, org: &OrgId, name: &NamespaceName) -> Result<Arc<Schema>> {
        let (snapshot, _) = self.current(org, name, Access::Manage).await?;
        Ok(snapshot.schema.clone())
    }

    /// What is known of the namespace, strongly consistent. Costs one GET, shared.
    pub async fn metadata(&self, org: &OrgId, name: &NamespaceName) -> Result<Metadata> {
        let (snapshot, known) = self.current(org, name, Access::Manage).await?;
        Ok(self.describe(&snapshot, known))
    }

    /// What is known of the namespace in a state in which it exists.
    pub(super) fn describe(&self, snapshot: &Snapshot, known: Incarnation) -> Metadata {
        let now_ms = wall_ms(self.inner.runtime.clock.as_ref());
        // Counted once rows are in segments or writing has paused: a small namespace that was just written to reports
        // nothing yet, as the original does, whose counts come from its indexer.
        let has_paused = now_ms.saturating_sub(known.last_write_ms) >= COUNTED_AFTER_MS;
        let settled = has_paused || !snapshot.segments.is_empty();
        let (rows, bytes) = match settled {
            true => (snapshot.rows() as u64, snapshot.stored_bytes()),
            false => (0, 0),
        };
        Metadata {
            id: known.id,
            schema: snapshot.schema.clone(),
            settings: snapshot.settings.clone(),
            now_ms,
            created_ms: known.created_ms,
            updated_ms: known.last_write_ms,
            last_write_ms: known.last_write_ms,
            approx_rows: rows,
            approx_bytes: bytes,
            unindexed_rows: snapshot.unindexed_rows() as u64,
            unindexed_bytes: snapshot.unindexed_bytes,
            stored_bytes: snapshot.stored_bytes(),
        }
    }

    /// The newest state of a namespace that exists.
    pub(super) async fn current(
        &self,
        org: &OrgId,
        name: &NamespaceName,
        access: Access,
    ) -> Result<(Arc<Snapshot>, Incarnation)> {
        self.with_namespace(org, name, |handle| async move {
            handle.probe().await?;
            self.living(&handle, name, access)
        })
        .await
    }

    /// The state that an open namespace has now, if it exists in it and the caller may do this with it.
    pub(super) fn living(
        &self,
        handle: &Handle,
        name: &NamespaceName,
        access: Access,
    ) -> Result<(Arc<Snapshot>, Incarnation), Failure> {
        let snapshot = handle.snapshot();
        self.check(access, name, &snapshot)?;
        match snapshot.incarnation {
            Some(known) => Ok((snapshot, known)),
            None => Err(not_found(name).into()),
        }
    }
}

/// What searched for longer than it may.
pub(super) fn too_slow(what: &str, max: Duration) -> Error {
    Error::new(
        ErrorKind::TooSlow,
        format!(
            "the {what} took longer than {} s and was given up; narrow it, or make its patterns and texts shorter",
            max.as_secs_f32()
        ),
    )
}
