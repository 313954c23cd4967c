//! An engine inside the test, on any object store and on Tokio's clock.

use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use serde_json::Value as Json;
use shoal::base::{CpuPool, Ledger, MemoryShare, Rng, Runtime, Spawner, TokioClock, TokioSpawner};
use shoal::config::StoreConfig;
use shoal::error::Result;
use shoal::model::query::{Projection, Read};
use shoal::model::{Consistency, Direction, Id, NamespaceName, OrgId, Query, RankBy};
use shoal::namespace::{Body, Engine, EngineOptions, QueryOutcome, WriteOutcome};
use shoal::store::Store;

/// A node of its own: nothing but the store is shared with others.
pub struct Node {
    pub engine: Engine,
    pub runtime: Runtime,
    pub org: OrgId,
}

impl Node {
    /// Must be called inside a Tokio runtime.
    pub fn new(store: Arc<dyn ObjectStore>, seed: u64) -> Self {
        Self::with(store, seed, EngineOptions::default())
    }

    pub fn with(store: Arc<dyn ObjectStore>, seed: u64, options: EngineOptions) -> Self {
        Self::spawning(store, seed, options, Arc::new(TokioSpawner::default()))
    }

    /// With so many bytes of memory for tails.
    pub fn with_tails(store: Arc<dyn ObjectStore>, seed: u64, tails_bytes: u64) -> Self {
        let (options, spawner) = (EngineOptions::default(), Arc::new(TokioSpawner::default()));
        Self::of(store, seed, options, spawner, tails_bytes)
    }

    /// With tasks that `spawner` runs.
    pub fn spawning(store: Arc<dyn ObjectStore>, seed: u64, options: EngineOptions, spawner: Arc<dyn Spawner>) -> Self {
        Self::of(store, seed, options, spawner, 1 << 30)
    }

    fn of(
        store: Arc<dyn ObjectStore>,
        seed: u64,
        options: EngineOptions,
        spawner: Arc<dyn Spawner>,
        tails_bytes: u64,
    ) -> Self {
        let runtime = Runtime {
            clock: Arc::new(TokioClock::new(Duration::from_secs(1_700_000_000))),
            rng: Rng::seeded(seed),
            spawner,
            cpu: CpuPool::inline(),
            memory: Ledger::new(1 << 30, tails_bytes),
        };
        let store = Store::new(
            store,
            runtime.clock.clone(),
            runtime.rng.clone(),
            &StoreConfig::default(),
        );
        Self {
            engine: Engine::new(runtime.clone(), store, options),
            runtime,
            org: OrgId::default_org(),
        }
    }

    pub fn body(&self, json: &Json) -> Body {
        let bytes = json.to_string();
        let charge = self
            .runtime
            .memory
            .charge(MemoryShare::Bodies, bytes.len() as u64)
            .expect("tests stay within the budget");
        Body {
            bytes: bytes.into(),
            charge,
        }
    }

    pub async fn write(&self, namespace: &str, json: Json) -> Result<WriteOutcome> {
        self.engine.write(&self.org, &name(namespace), self.body(&json)).await
    }

    /// All rows with all attributes, in id order.
    pub async fn rows(&self, namespace: &str, consistency: Consistency) -> Result<QueryOutcome> {
        let query = Query {
            rank_by: Some(RankBy::Order(vec![("id".into(), Direction::Asc)])),
            limit: 10_000,
            include: Projection::All,
            ..Query::default()
        };
        let read = Read {
            queries: vec![query],
            rerank: None,
            consistency,
        };
        self.engine.query(&self.org, &name(namespace), read).await
    }

    /// The ids of all rows, strongly consistent.
    pub async fn ids(&self, namespace: &str) -> Result<Vec<u64>> {
        Ok(ids(&self.rows(namespace, Consistency::Strong).await?))
    }
}

/// The ids of an answer's rows.
pub fn ids(outcome: &QueryOutcome) -> Vec<u64> {
    outcome.results[0]
        .rows()
        .iter()
        .map(|r| match r.id {
            Id::UInt(n) => n,
            ref other => panic!("{other} is no number"),
        })
        .collect()
}

pub fn name(name: &str) -> NamespaceName {
    NamespaceName::parse(name).expect("a valid name")
}

/// An eventual read with the default bound.
pub const EVENTUAL: Consistency = Consistency::Eventual {
    max_staleness: Duration::from_secs(60),
};
