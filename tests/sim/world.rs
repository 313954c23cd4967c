//! One simulated deployment: nodes, a store that fails, clients that keep a record.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use serde_json::{Value as Json, json};
use shoal::base::{Clock, CpuPool, Ledger, MemoryShare, Rng, Runtime, TokioClock};
use shoal::config::StoreConfig;
use shoal::error::ErrorKind;
use shoal::maintenance::gc;
use shoal::maintenance::{self, Indexer, UpkeepOptions};
use shoal::model::query::{Projection, Read};
use shoal::model::{Consistency, Direction, Id, Limits, NamespaceName, OrgId, Query, RankBy, Value};
use shoal::namespace::{Body, Engine, EngineOptions, QueryOutcome};
use shoal::store::Store;
use shoal::store::paths::NsKey;
use shoal::wal::Log;

use super::check::{MARKERS, replay};
use super::collecting::{self, Branches, GRACE};
use super::crash::{Life, MortalSpawner};
use super::history::{Filter, History, Outcome, ReadOp, Row, Rows, Saw, Schema, What, WriteOp};
use super::once::OnceStore;
use super::support::fault::{FaultRates, FaultStore};

/// What a run does.
#[derive(Clone, Debug)]
pub struct Plan {
    pub faults: bool,
    pub crashes: bool,
    pub nodes: usize,
    pub clients: usize,
    pub operations: usize,
    /// Whether all but the smallest writes are uploaded as blobs first.
    pub staged: bool,
    /// Whether every node flushes and merges what it can, as a rival of the others.
    pub indexers: bool,
    /// The limit for bytes that are in no segment.
    pub unindexed_bytes_max: Option<u64>,
    /// How long states are kept that can be restored.
    pub retention: Duration,
    /// Whether every node collects garbage, and namespaces are branched and restored meanwhile. With `indexers`.
    pub collectors: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            faults: false,
            crashes: false,
            nodes: 3,
            clients: 5,
            operations: 14,
            staged: false,
            indexers: false,
            collectors: false,
            unindexed_bytes_max: None,
            retention: Duration::ZERO,
        }
    }
}

/// What a run amounted to.
pub struct Summary {
    pub confirmed_writes: u64,
    pub unknown_writes: u64,
    pub manifests: u64,
    /// Objects that were garbage, and branches and restored namespaces.
    pub collected: u64,
    pub branches: u64,
}

/// Runs one seed to its end and checks what happened.
pub fn run(seed: u64, plan: Plan) -> Summary {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O")
        .block_on(simulate(seed, plan))
}

async fn simulate(seed: u64, plan: Plan) -> Summary {
    let world = Rc::new(World::new(seed, plan.clone()));
    let clients = join_all((0..plan.clients).map(|_| client(world.clone(), plan.operations)));
    let branches = match plan.collectors {
        true => tokio::join!(clients, collecting::branch_and_restore(&world)).1,
        false => {
            clients.await;
            Branches::default()
        }
    };
    world.faults.heal();
    // What was sent and still is on its way takes effect, or does not, before the log is read.
    tokio::time::sleep(Duration::from_secs(if world.plan.indexers { 120 } else { 600 })).await;
    let replayed = replay(&world.whole_log().await).await;
    replayed.check(&world.history.borrow());
    let mut collected = 0;
    let manifests = match (world.plan.collectors, world.plan.indexers) {
        (true, _) => {
            collected = world.check_collected(&replayed, &branches).await;
            0
        }
        (false, true) => world.check_upkeep(&replayed).await,
        (false, false) => 0,
    };
    let last = world.read_on(&world.start_node(u64::MAX), Consistency::Strong).await;
    let state = replayed.states.last().expect("the empty state is always there");
    match (last, state) {
        (Saw::Rows { rows, .. }, Some(state)) => assert_eq!(rows, *state, "a new node reads another state"),
        (Saw::NoNamespace, None) => {}
        (saw, state) => panic!("a new node saw {saw:?} where the log says {state:?}"),
    }
    let history = world.history.borrow();
    let count = |f: fn(&WriteOp) -> bool| history.writes.iter().filter(|w| f(w)).count() as u64;
    Summary {
        confirmed_writes: count(|w| matches!(w.outcome, Outcome::Confirmed(_))),
        unknown_writes: count(|w| w.outcome == Outcome::Unknown),
        manifests,
        collected,
        branches: branches.made,
    }
}

/// A node and its life.
#[derive(Clone)]
pub struct Node {
    pub engine: Engine,
    pub life: Life,
    pub memory: Ledger,
}

pub struct World {
    pub faults: FaultStore,
    pub ledger: OnceStore,
    pub clock: Arc<dyn Clock>,
    pub rng: Rng,
    nodes: RefCell<Vec<Node>>,
    pub history: RefCell<History>,
    pub plan: Plan,
}

impl World {
    pub fn new(seed: u64, plan: Plan) -> Self {
        let world = Self::without_nodes(seed, plan);
        for _ in 0..world.plan.nodes {
            let node = world.start_node(world.next_life());
            world.nodes.borrow_mut().push(node);
        }
        world
    }

    /// A world of one node that dies at its `polls`-th poll; those after it live for ever.
    pub fn with_first_life(seed: u64, plan: Plan, polls: u64) -> Self {
        let world = Self::without_nodes(seed, plan);
        let node = world.start_node(polls);
        world.nodes.borrow_mut().push(node);
        world
    }

    /// The first node of the world.
    pub fn first_node(&self) -> Node {
        self.nodes.borrow()[0].clone()
    }

    fn without_nodes(seed: u64, plan: Plan) -> Self {
        let rng = Rng::seeded(seed);
        let rates = match plan.faults {
            true => FaultRates {
                flip: 5,
                ..FaultRates::stormy()
            },
            false => FaultRates::healthy(),
        };
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::new(Duration::from_secs(1_700_000_000)));
        let ledger = OnceStore::new(Arc::new(InMemory::new()), clock.clone());
        let inner: Arc<dyn ObjectStore> = Arc::new(ledger.clone());
        Self {
            ledger,
            faults: FaultStore::new(inner, Rng::seeded(rng.u64()), rates),
            clock,
            rng,
            nodes: RefCell::default(),
            history: RefCell::default(),
            plan,
        }
    }

    fn next_life(&self) -> u64 {
        match self.plan.crashes {
            // Upkeep is a part of a node's life.
            true if self.plan.collectors => 1 + self.rng.below(40_000),
            true if self.plan.indexers => 1 + self.rng.below(4_000),
            true => 1 + self.rng.below(600),
            false => u64::MAX,
        }
    }

    /// A new process.
    pub fn start_node(&self, polls: u64) -> Node {
        let life = Life::of(polls);
        let memory = Ledger::new(1 << 30, 1 << 30);
        let runtime = Runtime {
            clock: self.clock.clone(),
            rng: Rng::seeded(self.rng.u64()),
            spawner: Arc::new(MortalSpawner(life.clone())),
            cpu: CpuPool::inline(),
            memory: memory.clone(),
        };
        let store = self.store(&runtime);
        let engine = Engine::new(runtime.clone(), store, self.options());
        if self.plan.indexers {
            let indexer = Indexer::new(engine.clone(), self.upkeep());
            let upkeep = maintenance::run(indexer, std::future::pending());
            runtime.spawner.spawn("upkeep", Box::pin(upkeep));
        }
        if self.plan.collectors {
            let collector = self.collector(&engine);
            let collecting = gc::run(engine.clone(), Some(collector), std::future::pending());
            runtime.spawner.spawn("collecting", Box::pin(collecting));
        }
        Node { engine, life, memory }
    }

    /// Everything is flushed and merged at once, in small pieces.
    fn upkeep(&self) -> UpkeepOptions {
        let once_in = |n| self.rng.below(n) == 0;
        UpkeepOptions {
            inline: once_in(2),
            flush_entries: 2,
            small_entries: 1 + self.rng.below(3),
            small_quiet: Duration::from_secs(1),
            small_age: Duration::from_secs(5),
            small_pause: Duration::from_millis(self.rng.below(500)),
            flush_pause: Duration::from_millis(100),
            flush_segment_bytes: if once_in(3) { 100 } else { 1 << 20 },
            merge_fan_out: 2,
            lease_bytes_min: if once_in(2) { 0 } else { 1 << 20 },
            lease: Duration::from_secs(5),
            foreign_wait: Duration::from_secs(2),
            list_interval: Duration::from_secs(if self.plan.collectors { 10 } else { 2 }),
            list_interval_idle: Duration::from_secs(if self.plan.collectors { 20 } else { 2 }),
            retry: (Duration::from_millis(100), Duration::from_secs(2)),
            ..UpkeepOptions::default()
        }
    }

    fn options(&self) -> EngineOptions {
        let defaults = EngineOptions::default();
        EngineOptions {
            stage_bytes_min: if self.plan.staged { 60 } else { defaults.stage_bytes_min },
            manifest_refresh: match self.plan.indexers {
                // Some look only when they must.
                true if self.plan.collectors => Duration::from_secs(self.rng.below(2 * GRACE.as_secs())),
                true => Duration::from_secs(self.rng.below(20)),
                false => defaults.manifest_refresh,
            },
            limits: Limits {
                unindexed_bytes_max: self
                    .plan
                    .unindexed_bytes_max
                    .unwrap_or(defaults.limits.unindexed_bytes_max),
                ..defaults.limits.clone()
            },
            retention: self.plan.retention,
            grace: match self.plan.collectors {
                true => GRACE,
                false => defaults.grace,
            },
            ..defaults
        }
    }

    pub fn store(&self, runtime: &Runtime) -> Store {
        let inner: Arc<dyn ObjectStore> = Arc::new(self.faults.clone());
        Store::new(
            inner,
            runtime.clock.clone(),
            runtime.rng.clone(),
            &StoreConfig::default(),
        )
        // In memory, listings are. What is listed of a long log depends on it.
        .listing_in_order(self.plan.collectors && runtime.rng.below(2) == 0)
    }

    /// The log of the namespace with everything that was collected, once the store is healed.
    pub async fn whole_log(&self) -> Log {
        let runtime = self.observer();
        let archive: Arc<dyn ObjectStore> = match self.plan.collectors {
            true => Arc::new(self.ledger.archive().await),
            false => return self.log(),
        };
        let store = Store::new(archive, runtime.clock, runtime.rng, &StoreConfig::default());
        Log::new(store, key(), CpuPool::inline())
    }

    /// The log of the namespace, read past all faults once the store is healed.
    pub fn log(&self) -> Log {
        Log::new(self.store(&self.observer()), key(), CpuPool::inline())
    }

    /// What somebody needs who looks at the store from outside.
    pub fn observer(&self) -> Runtime {
        Runtime {
            clock: self.clock.clone(),
            rng: Rng::seeded(1),
            spawner: Arc::new(MortalSpawner(Life::of(u64::MAX))),
            cpu: CpuPool::inline(),
            memory: Ledger::new(1 << 30, 1 << 30),
        }
    }

    /// Some node that lives; dead ones are replaced.
    pub fn any_node(&self) -> Node {
        let at = self.rng.below(self.plan.nodes as u64) as usize;
        let mut nodes = self.nodes.borrow_mut();
        if nodes[at].life.is_over() {
            nodes[at] = self.start_node(self.next_life());
        }
        nodes[at].clone()
    }

    pub async fn write(&self) {
        let node = self.any_node();
        let op = self.history.borrow_mut().new_op();
        let confirmed_before = self.history.borrow().confirmed;
        let what = self.choose_write(op);
        let outcome = match &what {
            What::DeleteNamespace => {
                let org = OrgId::default_org();
                let name = name();
                node.life
                    .run(node.engine.delete(&org, &name))
                    .await
                    .map(|r| r.map(|s| s.0))
            }
            What::Rows { .. } => {
                let json = body(op, &what);
                let charge = node
                    .memory
                    .charge(MemoryShare::Bodies, json.len() as u64)
                    .expect("there is room");
                let body = Body {
                    bytes: json.into(),
                    charge,
                };
                let org = OrgId::default_org();
                let name = name();
                let write = node.engine.write(&org, &name, body);
                node.life.run(write).await.map(|r| r.map(|o| o.seq.0))
            }
        };
        let outcome = match outcome {
            Some(Ok(seq)) => Outcome::Confirmed(seq),
            Some(Err(error)) if error.kind == ErrorKind::Unknown => Outcome::Unknown,
            Some(Err(error)) => {
                let may_fail = self.plan.faults
                    || self.plan.crashes
                    || !matches!(error.kind, ErrorKind::Internal | ErrorKind::Unavailable);
                assert!(may_fail, "a write failed on a good store: {error:?}");
                Outcome::Refused
            }
            None => Outcome::Unknown,
        };
        let mut history = self.history.borrow_mut();
        if let Outcome::Confirmed(seq) = outcome {
            history.confirm(seq);
        }
        history.writes.push(WriteOp {
            op,
            what,
            confirmed_before,
            outcome,
        });
    }

    fn choose_write(&self, op: i64) -> What {
        if self.rng.below(25) == 0 {
            return What::DeleteNamespace;
        }
        // Eight ids: overwrites, patches of missing rows and re-inserts happen in every run.
        let mut free: BTreeSet<u64> = (0..8).collect();
        let mut some = |most: u64| -> Vec<u64> {
            (0..self.rng.below(most + 1))
                .filter_map(|_| {
                    let at = self.rng.below(free.len().max(1) as u64) as usize;
                    let id = free.iter().nth(at).copied()?;
                    free.remove(&id);
                    Some(id)
                })
                .collect()
        };
        let (upserts, patches, deletes) = (some(3), some(2), some(2));
        let filter = || {
            self.rng.below(8).lt(&1).then(|| match self.rng.below(3) {
                0 => Filter::OpBelow(self.rng.below(op as u64 + 1) as i64),
                1 => Filter::NumberFrom(self.rng.below(3 * op as u64 + 20) as i64),
                _ => Filter::IdIn((0..8).filter(|_| self.rng.below(2) == 0).collect()),
            })
        };
        What::Rows {
            delete_by: filter(),
            patch_by: filter(),
            upserts,
            patches,
            deletes,
            schema: match self.rng.below(12) {
                0 => Schema::Attribute("extra"),
                1 => Schema::Attribute("other"),
                2 => Schema::Index(self.rng.below(2) == 0),
                _ => Schema::Same,
            },
        }
    }

    pub async fn read(&self) {
        let node = self.any_node();
        let strong = self.rng.below(4) != 0;
        let consistency = match strong {
            true => Consistency::Strong,
            false => Consistency::Eventual {
                max_staleness: Duration::from_secs(60),
            },
        };
        let confirmed_before = self.history.borrow().confirmed;
        let saw = self.read_on(&node, consistency).await;
        let mut history = self.history.borrow_mut();
        if let (true, Saw::Rows { seq, .. }) = (strong, &saw) {
            history.confirm(*seq);
        }
        history.reads.push(ReadOp {
            strong,
            confirmed_before,
            saw,
        });
    }

    pub async fn read_on(&self, node: &Node, consistency: Consistency) -> Saw {
        self.read_of(node, &name(), consistency).await
    }

    /// What a node says is in a namespace.
    pub async fn read_of(&self, node: &Node, name: &NamespaceName, consistency: Consistency) -> Saw {
        let everything = Query {
            rank_by: Some(RankBy::Order(vec![("id".into(), Direction::Asc)])),
            limit: 10_000,
            include: Projection::All,
            ..Query::default()
        };
        let read = Read {
            queries: vec![everything],
            rerank: None,
            consistency,
        };
        let org = OrgId::default_org();
        let query = node.engine.query(&org, name, read);
        match node.life.run(query).await {
            Some(Ok(outcome)) => Saw::Rows {
                seq: outcome.seq.0,
                rows: rows(&outcome),
            },
            Some(Err(error)) if error.kind == ErrorKind::NotFound => Saw::NoNamespace,
            Some(Err(error)) => {
                assert!(
                    self.plan.faults || self.plan.crashes,
                    "a read failed on a good store: {error:?}"
                );
                Saw::Nothing
            }
            None => Saw::Nothing,
        }
    }
}

/// The one namespace of the simulation.
pub fn name() -> NamespaceName {
    NamespaceName::parse("Simulated").expect("a valid name")
}

pub fn key() -> NsKey {
    NsKey::new(OrgId::default_org(), name())
}

/// The JSON of a write. The marker row tells it apart in the log.
fn body(op: i64, what: &What) -> String {
    let What::Rows {
        delete_by,
        patch_by,
        upserts,
        patches,
        deletes,
        schema,
    } = what
    else {
        panic!("a deletion has no body");
    };
    let marker = MARKERS + op as u64;
    let upsert = |id: &u64| {
        let mut row = json!({"id": id, "op": op, "number": op * 3 + *id as i64});
        if let Schema::Attribute(name) = schema {
            row[*name] = json!(op);
        }
        row
    };
    let upserts: Vec<_> = upserts.iter().chain([&marker]).map(upsert).collect();
    let patches: Vec<_> = patches
        .iter()
        .map(|id| match op % 3 {
            0 => json!({"id": id, "number": null, "patched": op}),
            _ => json!({"id": id, "patched": op}),
        })
        .collect();
    let mut body = json!({"upsert_rows": upserts, "patch_rows": patches, "deletes": deletes});
    if let Some(filter) = delete_by {
        body["delete_by_filter"] = condition(filter);
    }
    if let Some(filter) = patch_by {
        body["patch_by_filter"] = json!({"filters": condition(filter), "patch": {"patched": op}});
    }
    if let Schema::Index(filterable) = schema {
        body["schema"] = json!({"patched": {"type": "int", "filterable": filterable}});
    }
    body.to_string()
}

fn condition(filter: &Filter) -> Json {
    match filter {
        Filter::OpBelow(op) => json!(["op", "Lt", op]),
        Filter::NumberFrom(least) => json!(["number", "Gte", least]),
        Filter::IdIn(ids) => json!(["id", "In", ids]),
    }
}

fn rows(outcome: &QueryOutcome) -> Rows {
    let row = |attributes: &[(Arc<str>, Value)]| -> Row {
        attributes
            .iter()
            .map(|(name, value)| match value {
                Value::Int(n) => (name.to_string(), *n),
                other => panic!("the simulation writes integers, not {other:?}"),
            })
            .collect()
    };
    outcome.results[0]
        .rows()
        .iter()
        .map(|r| match &r.id {
            Id::UInt(id) => (*id, row(&r.attributes)),
            other => panic!("the simulation writes numbers, not {other}"),
        })
        .collect()
}

async fn client(world: Rc<World>, operations: usize) {
    for _ in 0..operations {
        match world.rng.below(3) {
            0 => world.read().await,
            _ => world.write().await,
        }
        let longest = match world.plan.collectors {
            true => (GRACE / 3).as_millis() as u64,
            false => 200,
        };
        let pause = Duration::from_millis(world.rng.below(longest));
        tokio::time::sleep(pause).await;
    }
}
