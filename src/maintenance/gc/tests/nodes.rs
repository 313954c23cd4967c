//! Namespaces of an engine that are written, flushed, merged, branched and deleted while garbage is collected.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use super::store::Dated;
use crate::base::clock::wall_ms;
use crate::base::{Clock, CpuPool, Ledger, MemoryShare, Rng, Runtime, TokioClock, TokioSpawner};
use crate::config::StoreConfig;
use crate::error::Result;
use crate::maintenance::gc::collector::Limits;
use crate::maintenance::gc::{self, CollectError, Collector, GcOptions, Looked};
use crate::maintenance::tests::run;
use crate::maintenance::tests::world::rows_of;
use crate::maintenance::{Indexer, UpkeepOptions};
use crate::model::write::origin::OriginKind;
use crate::model::{NamespaceName, OrgId, Seq};
use crate::namespace::{Body, CopyFrom, Engine, EngineOptions, Progress};
use crate::store::Store;
use crate::store::paths::{self, NsKey, NsObject};

const GRACE: Duration = Duration::from_secs(24 * 3600);

pub struct Node {
    pub engine: Engine,
    indexer: Indexer,
    pub runtime: Runtime,
    pub store: Store,
    pub collector: Collector,
}

pub fn org() -> OrgId {
    OrgId::default_org()
}

pub fn name(name: &str) -> NamespaceName {
    NamespaceName::parse(name).expect("a name")
}

pub fn ns(of: &str) -> NsKey {
    NsKey::new(org(), name(of))
}

pub fn clock() -> TokioClock {
    TokioClock::new(Duration::from_secs(1_700_000_000))
}

/// `kind` of `source`.
pub fn from(kind: OriginKind, source: &str) -> CopyFrom {
    CopyFrom {
        kind,
        org: org(),
        source: name(source),
        guard: None,
        num_shards: None,
        create_namespace: None,
    }
}

pub async fn hours(n: u64) {
    tokio::time::sleep(Duration::from_secs(3600 * n)).await;
}

/// A clock, a store that dates by it, and a node.
pub fn one_node() -> (TokioClock, Dated, Node) {
    let clock = clock();
    let backend = Dated::new(clock.clone());
    let node = Node::new(&backend, &clock, 1);
    (clock, backend, node)
}

impl Node {
    pub fn new(backend: &Dated, clock: &TokioClock, seed: u64) -> Self {
        Self::with(backend, clock, seed, EngineOptions::default())
    }

    pub fn with(backend: &Dated, clock: &TokioClock, seed: u64, options: EngineOptions) -> Self {
        let runtime = Runtime {
            clock: Arc::new(clock.clone()),
            rng: Rng::seeded(seed),
            spawner: Arc::new(TokioSpawner::default()),
            cpu: CpuPool::inline(),
            memory: Ledger::new(1 << 30, 1 << 30),
        };
        let config = StoreConfig {
            url: "memory:".into(),
            ..StoreConfig::default()
        };
        let store = Store::new(
            Arc::new(backend.clone()),
            runtime.clock.clone(),
            runtime.rng.clone(),
            &config,
        )
        .listing_in_order(true);
        let engine = Engine::new(runtime.clone(), store.clone(), options);
        assert_eq!(engine.grace(), GRACE);
        let options = UpkeepOptions {
            inline: false,
            merge_fan_out: 2,
            ..UpkeepOptions::default()
        };
        Self {
            indexer: Indexer::new(engine.clone(), options),
            collector: Collector::of(&engine, GcOptions::default()),
            engine,
            runtime,
            store,
        }
    }

    pub async fn write(&self, namespace: &str, body: Json) {
        let bytes = body.to_string();
        let charge = self.runtime.memory.charge(MemoryShare::Bodies, bytes.len() as u64);
        let body = Body {
            bytes: bytes.into(),
            charge: charge.expect("room"),
        };
        let written = self.engine.write(&org(), &name(namespace), body).await;
        written.expect("written");
    }

    pub async fn upsert(&self, namespace: &str, ids: std::ops::Range<u64>, n: i64) {
        let rows: Vec<Json> = ids.map(|id| json!({"id": id, "n": n})).collect();
        self.write(namespace, json!({ "upsert_rows": rows })).await;
    }

    pub async fn flush(&self, namespace: &str) {
        self.flush_of(&org(), namespace).await;
    }

    pub async fn flush_of(&self, org: &OrgId, namespace: &str) {
        self.indexer.flush(org, &name(namespace)).await.expect("flushed");
    }

    pub async fn merge(&self, namespace: &str) {
        self.indexer.merge(&org(), &name(namespace)).await.expect("merged");
    }

    pub async fn branch(&self, source: &str, target: &str) -> Result<()> {
        self.copy(OriginKind::Branch, source, target).await
    }

    pub async fn copy(&self, kind: OriginKind, source: &str, target: &str) -> Result<()> {
        let (target, from, progress) = (name(target), from(kind, source), Progress::default());
        self.engine.copy(&org(), &target, &from, &progress).await.map(drop)
    }

    /// What `source` was becomes `target`; returns how many rows that has.
    pub async fn restore(&self, kind: OriginKind, source: &str, target: &str, at_ms: u64) -> Result<u64> {
        let (target, from, progress) = (name(target), from(kind, source), Progress::default());
        let restored = self.engine.restore(&org(), &target, &from, at_ms, &progress).await;
        restored.map(|outcome| outcome.rows)
    }

    /// Deletes a namespace, and puts that into a manifest.
    pub async fn delete(&self, namespace: &str) -> Seq {
        let deleted = self.engine.delete(&org(), &name(namespace)).await;
        self.flush(namespace).await;
        deleted.expect("deleted")
    }

    /// Now, in milliseconds since the epoch.
    pub fn now_ms(&self) -> u64 {
        wall_ms(self.runtime.clock.as_ref())
    }

    pub async fn rows(&self, namespace: &str) -> BTreeMap<u64, i64> {
        let snapshot = self.engine.newest(&org(), &name(namespace)).await.expect("readable");
        rows_of(&snapshot).await
    }

    pub async fn look(&mut self, namespace: &str) -> std::result::Result<Looked, CollectError> {
        self.collector.look(&ns(namespace)).await
    }

    /// Looks again and again until nothing is left to be done now.
    pub async fn collect(&mut self, namespace: &str) -> Looked {
        for _ in 0..20 {
            match self.look(namespace).await.expect("looked") {
                done @ (Looked::Clean | Looked::Later | Looked::Elsewhere) => return done,
                Looked::Planned { .. } => tokio::time::sleep(Duration::from_secs(601)).await,
                Looked::Deleted { .. } => {}
            }
        }
        panic!("it does not end");
    }

    /// What the role does, or what nodes without it do.
    pub fn start_collecting(&self, has_role: bool) -> CancellationToken {
        let stop = CancellationToken::new();
        let collector = has_role.then(|| Collector::of(&self.engine, GcOptions::default()));
        let collecting = gc::run(self.engine.clone(), collector, stop.clone().cancelled_owned());
        self.runtime.spawner.spawn("collecting", Box::pin(collecting));
        stop
    }

    /// Which namespaces are marked as having garbage.
    pub async fn marked(&self) -> Vec<NsKey> {
        let listed = self.store.list(&paths::collection_markers(), None);
        let markers: Vec<_> = listed.try_collect().await.expect("listed");
        markers
            .iter()
            .filter_map(|m| paths::parse_collection_marker(&m.location))
            .collect()
    }

    /// How many objects of each kind there are.
    pub async fn objects(&self, namespace: &str) -> BTreeMap<&'static str, usize> {
        let listed = self.store.list(&paths::upkeep::namespace_prefix(&ns(namespace)), None);
        let mut counts = BTreeMap::new();
        for meta in listed.try_collect::<Vec<_>>().await.expect("listed") {
            let kind = match paths::parse_object(&meta.location).expect("ours") {
                NsObject::Entry(_) => "entry",
                NsObject::Blob(_) => "blob",
                NsObject::Manifest(_) => "manifest",
                NsObject::Segment(_) => "segment",
                NsObject::Pin(_) => "pin",
                NsObject::CollectionPlan(_) => "plan",
                NsObject::Deletions(_) => "deletions",
                NsObject::Head | NsObject::Lease { .. } | NsObject::Operation(..) => continue,
            };
            *counts.entry(kind).or_default() += 1;
        }
        counts
    }
}

pub fn counts(of: &[(&'static str, usize)]) -> BTreeMap<&'static str, usize> {
    of.iter().copied().collect()
}

pub fn same(ids: std::ops::Range<u64>, n: i64) -> BTreeMap<u64, i64> {
    ids.map(|id| (id, n)).collect()
}

#[test]
fn what_was_merged_away_goes_after_the_grace_time_and_a_second_look() {
    run(async {
        let (clock, backend, mut node) = one_node();
        for n in 0..4 {
            node.upsert("docs", 0..10, n).await;
            node.flush("docs").await;
        }
        node.merge("docs").await;
        let before = node.objects("docs").await;
        assert_eq!(node.look("docs").await.expect("looked"), Looked::Later);
        hours(23).await;
        assert_eq!(node.look("docs").await.expect("looked"), Looked::Later);
        assert_eq!(node.objects("docs").await, before);
        hours(2).await;
        assert!(matches!(node.look("docs").await, Ok(Looked::Planned { .. })));
        assert_eq!(node.look("docs").await.expect("looked"), Looked::Planned { objects: 0 });
        assert_eq!(
            node.objects("docs").await["segment"],
            before["segment"],
            "only after a second look"
        );
        assert_eq!(node.collect("docs").await, Looked::Clean);
        assert_eq!(
            node.objects("docs").await,
            counts(&[("entry", 1), ("manifest", 1), ("segment", 1)])
        );
        // The node that was there all the time, and one that begins now.
        assert_eq!(node.rows("docs").await, same(0..10, 3));
        let cold = Node::new(&backend, &clock, 2);
        assert_eq!(cold.rows("docs").await, same(0..10, 3));
        cold.upsert("docs", 5..6, 9).await;
        assert_eq!(node.rows("docs").await[&5], 9);
    });
}

#[test]
fn a_deleted_namespace_leaves_its_tombstone_and_its_name_is_usable() {
    run(async {
        let (clock, backend, mut node) = one_node();
        node.upsert("docs", 0..10, 1).await;
        node.flush("docs").await;
        node.upsert("docs", 0..10, 2).await;
        let tombstone = node.delete("docs").await;
        assert_eq!(node.collect("docs").await, Looked::Later);
        assert!(node.objects("docs").await["segment"] > 0);
        hours(25).await;
        assert_eq!(node.collect("docs").await, Looked::Clean);
        assert_eq!(node.objects("docs").await, counts(&[("entry", 1), ("manifest", 1)]));
        let cold = Node::new(&backend, &clock, 2);
        let snapshot = cold.engine.newest(&org(), &name("docs")).await.expect("readable");
        assert!(!snapshot.exists() && snapshot.seq == tombstone);
        cold.upsert("docs", 3..4, 7).await;
        for reader in [&node, &cold] {
            let snapshot = reader.engine.newest(&org(), &name("docs")).await.expect("readable");
            assert_eq!(snapshot.seq, tombstone.next(), "numbers never begin again");
            assert_eq!(reader.rows("docs").await, same(3..4, 7));
        }
    });
}

#[test]
fn nothing_is_deleted_while_clocks_disagree() {
    run(async {
        let (_, backend, mut node) = one_node();
        for n in 0..2 {
            node.upsert("docs", 0..10, n).await;
            node.flush("docs").await;
        }
        let before = node.objects("docs").await;
        for ahead in [301, -301, 30 * 24 * 3600] {
            backend.set_ahead(ahead);
            assert!(
                matches!(node.look("docs").await, Err(CollectError::Skew { .. })),
                "{ahead}"
            );
            tokio::time::sleep(Duration::from_secs(301)).await;
        }
        backend.set_ahead(290);
        assert_eq!(node.look("docs").await.expect("looked"), Looked::Later);
        assert_eq!(node.objects("docs").await, before);
    });
}

#[test]
fn orphans_of_crashed_jobs_and_unnamed_blobs_go_and_named_ones_stay() {
    run(async {
        let (clock, backend, mut node) = one_node();
        node.upsert("docs", 0..3, 1).await;
        node.flush("docs").await;
        let (key, id) = (ns("docs"), Ulid::from_parts(1, 1));
        for orphan in [
            paths::segment(&key, id),
            paths::blob(&key, id),
            paths::upkeep::deletions(&key, id),
        ] {
            node.store.put(&orphan, vec![1, 2, 3]).await.expect("put");
        }
        hours(20).await;
        // Large enough to be staged.
        let text = "x".repeat(4 << 20);
        let rows: Vec<Json> = (0..3).map(|id| json!({"id": id, "n": 5, "text": text})).collect();
        let schema = json!({"text": {"type": "string", "filterable": false}});
        node.write("docs", json!({"upsert_rows": rows, "schema": schema})).await;
        assert_eq!(node.objects("docs").await["blob"], 2);
        hours(10).await;
        node.collect("docs").await;
        hours(20).await;
        node.collect("docs").await;
        let left = node.objects("docs").await;
        assert_eq!(
            left,
            counts(&[("entry", 1), ("blob", 1), ("manifest", 1), ("segment", 1)])
        );
        let cold = Node::new(&backend, &clock, 2);
        assert_eq!(cold.rows("docs").await[&1], 5);
    });
}

#[test]
fn a_crash_at_any_request_of_a_collection_loses_nothing() {
    crash_at_any_request(Limits::default());
}

#[test]
fn a_crash_at_any_request_of_a_collection_with_several_plans_loses_nothing() {
    crash_at_any_request(Limits {
        plan_objects: 2,
        ..Limits::default()
    });
}

fn crash_at_any_request(limits: Limits) {
    run(async move {
        for calls in 0..150 {
            let (clock, backend, mut node) = one_node();
            for n in 0..3 {
                node.upsert("docs", 0..5, n).await;
                node.flush("docs").await;
            }
            node.collector.limits = limits;
            node.branch("docs", "twig").await.expect("branched");
            hours(25).await;
            backend.cut_after(calls);
            let first = node.look("docs").await;
            tokio::time::sleep(Duration::from_secs(601)).await;
            let second = node.look("docs").await;
            let was_cut = backend.was_cut();
            backend.heal();
            assert_eq!(was_cut, first.is_err() || second.is_err(), "{first:?} {second:?}");
            let mut cold = Node::new(&backend, &clock, 2);
            for namespace in ["docs", "twig"] {
                assert_eq!(cold.rows(namespace).await, same(0..5, 2), "{calls} {namespace}");
                assert_eq!(node.rows(namespace).await, same(0..5, 2), "{calls} {namespace}");
            }
            tokio::time::sleep(Duration::from_secs(601)).await;
            cold.collect("docs").await;
            let left = cold.objects("docs").await;
            assert_eq!((left["manifest"], left["entry"]), (1, 1), "{calls}");
            if !was_cut {
                return;
            }
        }
        panic!("a collection has fewer requests");
    });
}

#[test]
fn a_branch_costs_the_same_however_many_rows_there_are() {
    run(async {
        let mut costs = Vec::new();
        for rows in [10u64, 20_000] {
            let (clock, backend, node) = one_node();
            node.upsert("docs", 0..rows, 1).await;
            node.flush("docs").await;
            node.write("docs", json!({"upsert_rows": [{"id": 1, "n": 2}], "deletes": [3]}))
                .await;
            let before = backend.calls();
            node.branch("docs", "twig").await.expect("branched");
            costs.push(backend.calls() - before);
            let mut expected = same(0..rows, 1);
            expected.insert(1, 2);
            expected.remove(&3);
            let cold = Node::new(&backend, &clock, 2);
            for reader in [&node, &cold] {
                assert_eq!(reader.rows("twig").await, expected);
            }
            // They diverge by their own writes only.
            node.upsert("twig", 5..6, 50).await;
            cold.upsert("docs", 6..7, 60).await;
            node.flush("twig").await;
            let (docs, twig) = (node.rows("docs").await, cold.rows("twig").await);
            assert_eq!((docs[&5], docs[&6], twig[&5], twig[&6]), (1, 60, 50, 1));
            assert_eq!(twig, Node::new(&backend, &clock, 3).rows("twig").await);
        }
        assert_eq!(costs[0], costs[1]);
        assert!(costs[0] <= 12, "{costs:?}");
    });
}

#[test]
fn a_branch_outlives_its_source_and_lets_go_of_it_when_it_has_rewritten_all() {
    run(async {
        let (clock, backend, mut node) = one_node();
        node.upsert("docs", 0..10, 1).await;
        node.flush("docs").await;
        node.branch("docs", "twig").await.expect("branched");
        // Of a branch that was not flushed yet, and one that was.
        node.branch("twig", "leaf").await.expect("branched");
        node.flush("twig").await;
        node.delete("docs").await;
        for _ in 0..3 {
            hours(30).await;
            for namespace in ["docs", "twig", "leaf"] {
                node.collect(namespace).await;
            }
        }
        assert_eq!(
            node.objects("docs").await,
            counts(&[("entry", 1), ("manifest", 1), ("segment", 1), ("pin", 2)])
        );
        let cold = Node::new(&backend, &clock, 2);
        for namespace in ["twig", "leaf"] {
            assert_eq!(cold.rows(namespace).await, same(0..10, 1), "{namespace}");
        }
        // All rows are replaced, and what is dead merged away.
        for namespace in ["twig", "leaf"] {
            node.upsert(namespace, 0..10, 2).await;
            node.flush(namespace).await;
            node.merge(namespace).await;
        }
        for _ in 0..4 {
            hours(30).await;
            for namespace in ["docs", "twig", "leaf"] {
                node.collect(namespace).await;
            }
        }
        assert_eq!(node.objects("docs").await, counts(&[("entry", 1), ("manifest", 1)]));
        for namespace in ["twig", "leaf"] {
            let cold = Node::new(&backend, &clock, 3);
            assert_eq!(cold.rows(namespace).await, same(0..10, 2), "{namespace}");
        }
    });
}

#[test]
fn a_crash_at_any_request_of_a_branch_leaves_all_of_it_or_nothing() {
    run(async {
        for calls in 0..40 {
            let (clock, backend, mut node) = one_node();
            node.upsert("docs", 0..10, 1).await;
            node.flush("docs").await;
            node.upsert("docs", 0..1, 2).await;
            backend.cut_after(calls);
            let branched = node.branch("docs", "twig").await;
            let was_cut = backend.was_cut();
            backend.heal();
            let mut expected = same(0..10, 1);
            expected.insert(0, 2);
            let cold = Node::new(&backend, &clock, 2);
            let snapshot = cold.engine.newest(&org(), &name("twig")).await.expect("readable");
            if branched.is_ok() {
                assert!(snapshot.exists(), "{calls}");
            }
            if snapshot.exists() {
                assert_eq!(rows_of(&snapshot).await, expected);
            }
            // A hold for nobody goes, one for somebody stays.
            hours(30).await;
            node.flush("docs").await;
            hours(30).await;
            node.collect("docs").await;
            let pins = node.objects("docs").await.get("pin").copied().unwrap_or(0);
            assert_eq!(pins > 0, snapshot.exists(), "{calls}");
            if !was_cut {
                return;
            }
        }
        panic!("a branch has fewer requests");
    });
}

#[test]
fn a_node_looks_at_what_it_saw_published_and_leaves_the_rest_alone() {
    run(async {
        let (clock, backend, node) = one_node();
        let stop = node.start_collecting(true);
        for n in 0..3 {
            node.upsert("docs", 0..5, n).await;
            node.flush("docs").await;
        }
        hours(1).await;
        let marked = async || node.marked().await.len();
        assert_eq!(marked().await, 1);
        hours(30).await;
        let left = node.objects("docs").await;
        assert_eq!((left["manifest"], left["entry"], marked().await), (1, 1, 0));
        let before = backend.calls();
        hours(24).await;
        assert!(
            backend.calls() - before <= 25 + 10,
            "markers are listed once an hour, and there is a sweep"
        );
        assert_eq!(node.rows("docs").await, same(0..5, 2));
        stop.cancel();
        assert!(clock.boot() > GRACE);
    });
}
