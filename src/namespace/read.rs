//! The read side of the engine.

use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::commit::Failure;
use super::evaluate::not_found;
use super::handle::Handle;
use crate::base::clock::wall_ms;
use crate::error::Result;
use crate::model::query::Read;
use crate::model::{Consistency, NamespaceName, OrgId, Query, Schema, Seq};
use crate::query::{self, QueryResult};
use crate::snapshot::{Incarnation, Snapshot};

/// What a query found, on one snapshot, and what it took.
#[derive(Clone, Debug)]
pub struct QueryOutcome {
    /// One per query, in order.
    pub results: Vec<QueryResult>,
    /// The snapshot: the newest entry that was seen.
    pub seq: Seq,
    /// The schema of that snapshot.
    pub schema: Arc<Schema>,
    /// When that entry was written, in milliseconds since the epoch.
    pub last_included_write_ms: u64,
    pub approx_namespace_rows: u64,
    /// Unindexed rows looked at, before filters.
    pub exhaustive_search_rows: u64,
    pub execution: Duration,
    /// Whether the namespace had to be opened for this query.
    pub cold: bool,
}

/// How long after the newest write a namespace's rows are counted for its metadata.
const COUNTED_AFTER_MS: u64 = 30_000;

/// What is known of a namespace.
#[derive(Clone, Debug)]
pub struct Metadata {
    pub schema: Arc<Schema>,
    pub created_ms: u64,
    pub updated_ms: u64,
    pub last_write_ms: u64,
    /// Rows, and bytes as stored; 0 until half a minute after the newest write.
    pub approx_rows: u64,
    pub approx_bytes: u64,
    pub unindexed_rows: u64,
    pub unindexed_bytes: u64,
}

impl Engine {
    /// Runs queries on one snapshot.
    ///
    /// Strong: costs one GET that finds nothing, shared by all queries that wait at the same time
    /// and overlapped with the execution. Eventual: costs nothing while the view is young.
    pub async fn query(&self, org: &OrgId, name: &NamespaceName, read: Read) -> Result<QueryOutcome> {
        let consistency = read.consistency;
        let queries: Arc<[Query]> = read.queries.into();
        self.with_namespace(org, name, |handle| {
            let queries = queries.clone();
            async move {
                match consistency {
                    Consistency::Strong => self.query_strong(&handle, name, &queries).await,
                    Consistency::Eventual { max_staleness } => {
                        self.query_eventual(&handle, name, &queries, max_staleness).await
                    }
                }
            }
        })
        .await
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
        let (end, speculative) = tokio::join!(handle.probe(), self.execute(name, &snapshot, queries, cold));
        end?;
        let newest = handle.snapshot();
        match newest.seq == snapshot.seq {
            true => Ok(speculative?),
            false => Ok(self.execute(name, &newest, queries, cold).await?),
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
        match self.execute(name, &snapshot, queries, cold).await {
            // "No" may be outdated: the namespace or the attribute may exist by now.
            Err(_) if !probed => self.query_strong(handle, name, queries).await,
            result => Ok(result?),
        }
    }

    async fn execute(
        &self,
        name: &NamespaceName,
        snapshot: &Arc<Snapshot>,
        queries: &Arc<[Query]>,
        cold: bool,
    ) -> Result<QueryOutcome> {
        let known = snapshot.incarnation.ok_or_else(|| not_found(name))?;
        let runtime = &self.inner.runtime;
        let start = runtime.clock.boot();
        let results = query::execute(snapshot, queries, &runtime.cpu, self.limits()).await?;
        let rows = snapshot.rows() as u64;
        Ok(QueryOutcome {
            results,
            seq: snapshot.seq,
            schema: snapshot.schema.clone(),
            last_included_write_ms: known.last_write_ms,
            approx_namespace_rows: rows,
            exhaustive_search_rows: rows,
            execution: runtime.clock.boot().saturating_sub(start),
            cold,
        })
    }

    /// The schema, strongly consistent. Costs one GET, shared.
    pub async fn schema(&self, org: &OrgId, name: &NamespaceName) -> Result<Arc<Schema>> {
        let (snapshot, _) = self.current(org, name).await?;
        Ok(snapshot.schema.clone())
    }

    /// What is known of the namespace, strongly consistent. Costs one GET, shared.
    pub async fn metadata(&self, org: &OrgId, name: &NamespaceName) -> Result<Metadata> {
        let (snapshot, known) = self.current(org, name).await?;
        let now_ms = wall_ms(self.inner.runtime.clock.as_ref());
        // Counted where writing has paused: a namespace that was just written to reports nothing
        // yet, as the original does, whose counts come from its indexer.
        let settled = now_ms.saturating_sub(known.last_write_ms) >= COUNTED_AFTER_MS;
        let (rows, bytes) = match settled {
            true => (snapshot.rows() as u64, snapshot.unindexed_bytes),
            false => (0, 0),
        };
        Ok(Metadata {
            schema: snapshot.schema.clone(),
            created_ms: known.created_ms,
            updated_ms: known.last_write_ms,
            last_write_ms: known.last_write_ms,
            approx_rows: rows,
            approx_bytes: bytes,
            unindexed_rows: snapshot.rows() as u64,
            unindexed_bytes: snapshot.unindexed_bytes,
        })
    }

    /// Opens the namespace if it is not open; true when it was open already.
    pub async fn warm(&self, org: &OrgId, name: &NamespaceName) -> Result<bool> {
        self.with_namespace(org, name, |handle| async move {
            let was_open = handle.is_proven();
            handle.probe().await?;
            match handle.snapshot().exists() {
                true => Ok(was_open),
                false => Err(not_found(name).into()),
            }
        })
        .await
    }

    /// The newest state of a namespace that exists.
    async fn current(&self, org: &OrgId, name: &NamespaceName) -> Result<(Arc<Snapshot>, Incarnation)> {
        self.with_namespace(org, name, |handle| async move {
            handle.probe().await?;
            let snapshot = handle.snapshot();
            match snapshot.incarnation {
                Some(known) => Ok((snapshot, known)),
                None => Err(not_found(name).into()),
            }
        })
        .await
    }
}
