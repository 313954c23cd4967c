//! Upkeep of an engine's namespaces, on its own and on another node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;

use super::world::rows_of;
use super::*;
use crate::base::{CpuPool, Ledger, MemoryShare, Runtime, TokioClock};
use crate::error::{ErrorKind, Result};
use crate::maintenance::run as run_upkeep;
use crate::manifest::tests::scripted::ScriptedStore;
use crate::manifest::{Manifest, ManifestStore};
use crate::model::{NamespaceName, OrgId, SettingsChange};
use crate::namespace::{Body, Creation, Engine, EngineOptions};
use crate::store::Store;
use crate::store::paths::{self, NsKey};

pub struct Node {
    pub engine: Engine,
    pub runtime: Runtime,
    pub store: Store,
    pub stop: CancellationToken,
}

pub fn org() -> OrgId {
    OrgId::default_org()
}

pub fn name(name: &str) -> NamespaceName {
    NamespaceName::parse(name).expect("a name")
}

impl Node {
    pub fn new(backend: &ScriptedStore, seed: u64) -> Self {
        Self::with_memory(backend, seed, 1 << 30)
    }

    /// * `bytes` — for bodies, and as many for tails
    pub fn with_memory(backend: &ScriptedStore, seed: u64, bytes: u64) -> Self {
        let clock = TokioClock::new(Duration::from_secs(1_700_000_000));
        let runtime = Runtime {
            memory: Ledger::new(bytes, bytes),
            ..Runtime::of_tests(Arc::new(clock), seed)
        };
        let store = Store::of_tests(backend.clone(), &runtime);
        Self {
            engine: Engine::new(runtime.clone(), store.clone(), EngineOptions::default()),
            runtime,
            store,
            stop: CancellationToken::new(),
        }
    }

    pub fn indexing(self, change: impl FnOnce(&mut UpkeepOptions)) -> Self {
        let mut options = UpkeepOptions::default();
        change(&mut options);
        let upkeep = run_upkeep(
            Indexer::new(self.engine.clone(), options),
            self.stop.clone().cancelled_owned(),
        );
        self.runtime.spawner.spawn("upkeep", Box::pin(upkeep));
        self
    }

    pub async fn write(&self, namespace: &str, body: Json) {
        self.try_write(&org(), namespace, body).await.expect("written");
    }

    /// Writes, to the namespace of any organization.
    pub async fn try_write(&self, org: &OrgId, namespace: &str, body: Json) -> Result<()> {
        let bytes = body.to_string();
        let charge = self
            .runtime
            .memory
            .charge(MemoryShare::Bodies, bytes.len() as u64)
            .expect("room");
        let body = Body {
            bytes: bytes.into(),
            charge,
        };
        self.engine.write(org, &name(namespace), body).await.map(drop)
    }

    pub async fn upsert(&self, namespace: &str, ids: std::ops::Range<u64>) {
        let rows: Vec<Json> = ids
            .map(|id| json!({"id": id, "n": id, "text": format!("row {id}")}))
            .collect();
        self.write(namespace, json!({ "upsert_rows": rows })).await;
    }

    pub async fn manifest(&self, namespace: &str) -> Option<Manifest> {
        let ns = NsKey::new(org(), name(namespace));
        let manifests = ManifestStore::new(self.store.clone(), ns, CpuPool::inline());
        manifests.listed().await.expect("read").map(|(manifest, _)| manifest)
    }

    /// An indexer of this node that does what it is told.
    pub fn indexer(&self, change: impl FnOnce(&mut UpkeepOptions)) -> Indexer {
        let mut options = UpkeepOptions::default();
        change(&mut options);
        Indexer::new(self.engine.clone(), options)
    }

    /// The numbers of all rows by their ids, each once, as a new node reads them.
    pub async fn read(&self, namespace: &str) -> BTreeMap<u64, i64> {
        let snapshot = self.engine.newest(&org(), &name(namespace)).await.expect("read");
        rows_of(&snapshot).await
    }

    /// Rows in segments, and rows outside of them.
    pub async fn rows(&self, namespace: &str) -> (usize, usize) {
        let snapshot = self.engine.newest(&org(), &name(namespace)).await.expect("read");
        (snapshot.rows() - snapshot.unindexed_rows(), snapshot.unindexed_rows())
    }

    pub async fn marked(&self) -> usize {
        let listed = self.store.list(&paths::dirty_markers(), None);
        listed.try_collect::<Vec<_>>().await.expect("listed").len()
    }
}

pub async fn seconds(n: u64) {
    tokio::time::sleep(Duration::from_secs(n)).await;
}

#[test]
fn a_small_namespace_is_flushed_when_it_is_quiet_and_then_costs_nothing() {
    run(async {
        let backend = ScriptedStore::new();
        let node = Node::new(&backend, 1).indexing(|_| ());
        node.upsert("docs", 0..10).await;
        assert_eq!(node.marked().await, 1);
        seconds(25).await;
        assert_eq!(node.rows("docs").await, (0, 10));
        seconds(10).await;
        assert_eq!(node.rows("docs").await, (10, 0));
        assert_eq!(node.marked().await, 0);
        let manifest = node.manifest("docs").await.expect("flushed");
        assert!(manifest.segments.len() == 1 && manifest.segments[0].meta.inline.is_some());
        let calls = backend.calls();
        seconds(24 * 3600).await;
        assert_eq!(backend.calls(), calls, "what is idle costs nothing but listings");
        // It goes on.
        node.upsert("docs", 5..20).await;
        assert_eq!((node.rows("docs").await, node.marked().await), ((5, 15), 1));
        seconds(35).await;
        assert_eq!((node.rows("docs").await, node.marked().await), ((20, 0), 0));
        node.stop.cancel();
    });
}

#[test]
fn many_entries_are_flushed_at_once_and_segments_are_merged() {
    run(async {
        let backend = ScriptedStore::new();
        let node = Node::new(&backend, 1).indexing(|o| {
            o.inline = false;
            o.flush_entries = 4;
        });
        for batch in 0..100 {
            node.upsert("docs", batch * 10..batch * 10 + 10).await;
            seconds(1).await;
        }
        seconds(60).await;
        assert_eq!(node.rows("docs").await, (1_000, 0));
        let manifest = node.manifest("docs").await.expect("flushed");
        assert!(
            manifest.generation.0 > 15,
            "flushed every few seconds: {}",
            manifest.generation
        );
        assert!(manifest.segments.len() < 16, "and merged: {}", manifest.segments.len());
        assert!(manifest.segments.iter().any(|s| s.meta.level > 0));
        assert_eq!(node.marked().await, 0);
        node.stop.cancel();
    });
}

#[test]
fn what_another_node_wrote_is_found_by_its_marker() {
    run(async {
        let backend = ScriptedStore::new();
        let writer = Node::new(&backend, 1);
        let indexer = Node::new(&backend, 2).indexing(|o| {
            o.foreign_wait = Duration::ZERO;
            o.list_interval_idle = o.list_interval;
        });
        seconds(600).await;
        for namespace in ["a", "b", "c"] {
            writer.upsert(namespace, 0..5).await;
        }
        assert_eq!(writer.marked().await, 3);
        seconds(45).await;
        assert_eq!(writer.marked().await, 0);
        for namespace in ["a", "b", "c"] {
            assert_eq!(indexer.rows(namespace).await, (5, 0));
            assert_eq!(writer.manifest(namespace).await.expect("flushed").rows(), 5);
        }
        // The writer goes on where it is, and goes over to the manifest in time.
        writer.upsert("a", 3..8).await;
        assert_eq!(writer.marked().await, 1);
        seconds(60).await;
        assert_eq!((indexer.rows("a").await, writer.marked().await), ((8, 0), 0));
        indexer.stop.cancel();
    });
}

#[test]
fn a_marker_without_entries_goes() {
    run(async {
        let backend = ScriptedStore::new();
        let node = Node::new(&backend, 1);
        let ns = NsKey::new(org(), name("gone"));
        node.store.put(&paths::dirty_marker(&ns), "").await.expect("put");
        let node = node.indexing(|o| o.foreign_wait = Duration::ZERO);
        seconds(10).await;
        assert_eq!(node.marked().await, 0);
        node.stop.cancel();
    });
}

#[test]
fn two_indexing_nodes_and_lost_replies_leave_every_row_once() {
    run(async {
        let backend = ScriptedStore::new();
        let change = |o: &mut UpkeepOptions| {
            (o.foreign_wait, o.flush_entries, o.inline) = (Duration::ZERO, 3, false);
        };
        let (a, b) = (
            Node::new(&backend, 1).indexing(change),
            Node::new(&backend, 2).indexing(change),
        );
        for batch in 0..40u64 {
            if batch % 3 == 0 {
                backend.fail(1 + batch % 7, Fault::After);
            }
            let writer = if batch % 2 == 0 { &a } else { &b };
            writer.upsert("docs", batch * 5..batch * 5 + 10).await;
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
        backend.heal();
        seconds(300).await;
        assert_eq!((a.rows("docs").await, b.rows("docs").await), ((205, 0), (205, 0)));
        assert_eq!(a.marked().await, 0);
        assert_eq!(a.manifest("docs").await.expect("flushed").rows(), 205);
        a.stop.cancel();
        b.stop.cancel();
    });
}

#[test]
fn segments_get_the_indexes_that_the_schema_asks_for() {
    run(async {
        let backend = ScriptedStore::new();
        let node = Node::new(&backend, 1).indexing(|o| o.inline = false);
        let rows: Vec<Json> = (0..20)
            .map(|id| json!({"id": id, "text": format!("word {id}")}))
            .collect();
        let plain = json!({"text": {"type": "string", "filterable": false}});
        node.write("docs", json!({"upsert_rows": rows, "schema": plain})).await;
        seconds(40).await;
        let before = node.manifest("docs").await.expect("flushed").segments[0].id();
        let searched = json!({"text": {"type": "string", "full_text_search": true, "filterable": true}});
        node.write(
            "docs",
            json!({"upsert_rows": [{"id": 99, "text": "word"}], "schema": searched}),
        )
        .await;
        seconds(100).await;
        let manifest = node.manifest("docs").await.expect("flushed");
        assert!(manifest.segment(before).is_none(), "it was written anew");
        assert_eq!(manifest.rows(), 21);
        let snapshot = node.engine.newest(&org(), &name("docs")).await.expect("read");
        assert!(
            snapshot
                .segments
                .iter()
                .all(|s| !s.segment.lacks_index(&snapshot.schema))
        );
        let generation = manifest.generation;
        seconds(3600).await;
        assert_eq!(
            node.manifest("docs").await.expect("there").generation,
            generation,
            "once"
        );
        node.stop.cancel();
    });
}

#[test]
fn a_flush_does_not_empty_a_full_namespace() {
    run(async {
        let backend = ScriptedStore::new();
        let node = Node::new(&backend, 1);
        let settings = SettingsChange {
            size_limit: Some(Some(10_000)),
            ..SettingsChange::default()
        };
        let creation = Creation { settings, schema: None };
        node.engine
            .create(&org(), &name("docs"), creation)
            .await
            .expect("created");
        let indexer = node.indexer(|_| ());
        let mut written = 0;
        let refused = loop {
            let row = json!({"id": written, "text": "x".repeat(500)});
            if let Err(error) = node.try_write(&org(), "docs", json!({ "upsert_rows": [row] })).await {
                break error;
            }
            written += 1;
            assert!(written < 100, "it is full at some time");
            indexer.flush(&org(), &name("docs")).await.expect("flushed");
        };
        assert_eq!(
            (refused.kind, refused.code),
            (ErrorKind::QuotaExceeded, Some("quota_size_limit"))
        );
        assert_eq!(node.rows("docs").await, (written, 0));
        let known = node.engine.metadata(&org(), &name("docs")).await.expect("described");
        assert_eq!((known.unindexed_bytes, known.stored_bytes), (0, known.approx_bytes));
        assert!((9_400..=10_000).contains(&known.stored_bytes), "{}", known.stored_bytes);
    });
}

#[test]
fn a_namespace_is_marked_when_it_is_closed_and_only_if_it_is_dirty() {
    run(async {
        for flushes in [false, true] {
            let backend = ScriptedStore::new();
            let node = Node::new(&backend, 1);
            node.upsert("docs", 0..5).await;
            match flushes {
                true => {
                    let done = node.indexer(|_| ()).flush(&org(), &name("docs")).await;
                    assert_eq!(done.expect("flushed"), Done::Published);
                }
                // As an indexer does that looked at the log just before the entry came.
                false => {
                    let marker = paths::dirty_marker(&NsKey::new(org(), name("docs")));
                    node.store.delete(&marker).await.expect("deleted");
                }
            }
            node.engine.close();
            seconds(2).await;
            assert_eq!(node.marked().await, usize::from(!flushes));
        }
    });
}
