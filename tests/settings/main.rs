//! Settings, copies and branches, on the engine: what holds whatever fails, on any node.

#[path = "../support/mod.rs"]
mod support;

mod copies;
mod operations;
mod whole;

#[path = "../sim/crash.rs"]
#[allow(dead_code, reason = "the simulation uses more of it")]
mod crash;

use std::sync::Arc;
use std::time::Duration;

use crash::{Life, MortalSpawner};
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use serde_json::{Value as Json, json};
use shoal::base::{MemoryShare, Rng};
use shoal::error::{ErrorKind, Result};
use shoal::model::write::origin::OriginKind;
use shoal::model::{Consistency, Settings, SettingsChange};
use shoal::namespace::{CopyFrom, CopyOutcome, EngineOptions, Operation, Progress};
use shoal::query::ResultRow;
use support::engine::{Node, name};
use support::fault::{Fault, FaultRates, FaultStore};

/// A bucket that fails when told to.
fn bucket() -> FaultStore {
    FaultStore::new(Arc::new(InMemory::new()), Rng::seeded(7), FaultRates::healthy())
}

fn node(bucket: &FaultStore, seed: u64) -> Node {
    Node::new(Arc::new(bucket.clone()), seed)
}

fn from(node: &Node, source: &str, kind: OriginKind) -> CopyFrom {
    CopyFrom {
        kind,
        org: node.org.clone(),
        source: name(source),
        guard: None,
        num_shards: None,
        create_namespace: None,
    }
}

async fn copy(node: &Node, source: &str, destination: &str) -> Result<CopyOutcome> {
    let from = from(node, source, OriginKind::Copy);
    node.engine
        .copy(&node.org, &name(destination), &from, &Progress::default())
        .await
}

async fn branch(node: &Node, source: &str, destination: &str) -> Result<CopyOutcome> {
    let from = from(node, source, OriginKind::Branch);
    node.engine
        .copy(&node.org, &name(destination), &from, &Progress::default())
        .await
}

async fn set(node: &Node, namespace: &str, change: SettingsChange) -> Settings {
    let known = node
        .engine
        .update_settings(&node.org, &name(namespace), change)
        .await
        .expect("set");
    (*known.settings).clone()
}

async fn settings(node: &Node, namespace: &str) -> Settings {
    let known = node.engine.metadata(&node.org, &name(namespace)).await.expect("there");
    (*known.settings).clone()
}

fn read_only(read_only: bool) -> SettingsChange {
    SettingsChange {
        read_only: Some(read_only),
        ..SettingsChange::default()
    }
}

/// Every row with every attribute, as text.
async fn rows(node: &Node, namespace: &str) -> Vec<String> {
    let outcome = node.rows(namespace, Consistency::Strong).await.expect("readable");
    let shown = |r: &ResultRow| format!("{:?} {:?}", r.id, r.attributes);
    outcome.results[0].rows().iter().map(shown).collect()
}

/// The rows of a query's answer with their distance or score, as text.
async fn search(node: &Node, namespace: &str, query: &Json) -> Vec<String> {
    let request = shoal::api::query::parse(query.to_string().as_bytes(), node.engine.limits()).expect("a query");
    let outcome = node
        .engine
        .query(&node.org, &name(namespace), request.read)
        .await
        .expect("readable");
    let shown = |r: &ResultRow| format!("{:?} {:?}", r.id, r.rank);
    outcome.results[0].rows().iter().map(shown).collect()
}

fn schema_of_all_types() -> Json {
    json!({
        "s": {"type": "string", "filterable": true}, "i": "int", "u": "uint", "f": "float", "g": "uuid", "d": "datetime",
        "b": "bool", "y": "bytes", "ss": "[]string", "ii": "[]int", "uu": "[]uint", "ff": "[]float", "gg": "[]uuid",
        "dd": "[]datetime", "bb": "[]bool", "sp": "{}f16", "mv": {"type": "[][2]f32"},
        "t": {"type": "string", "full_text_search": {"stemming": true, "k1": 2.0}},
        "vector": {"type": "[3]f32", "ann": true}, "v16": {"type": "[2]f16", "ann": {"distance_metric": "euclidean_squared"}},
        "v8": {"type": "[4]i8", "ann": false},
    })
}

fn row_of_all_types(id: u64) -> Json {
    let x = id as f64;
    json!({
        "id": id, "s": format!("text {id}"), "i": -(id as i64), "u": id, "f": x / 7.0,
        "g": format!("67e55044-10b1-426f-9247-bb680e5f{:04x}", id), "d": "2024-01-01T00:00:00Z", "b": id.is_multiple_of(2),
        "y": "AAEC", "ss": ["a", "", format!("{id}")], "ii": [1, -2], "uu": [], "ff": [0.5],
        "gg": ["67e55044-10b1-426f-9247-bb680e5fe0c8"], "dd": ["2024-01-01T00:00:00Z"], "bb": [true, false],
        "sp": {"otter": 0.5, "12": 1.25}, "mv": [[1.0, 2.0], [3.0, x]], "t": format!("otters swim {id} times"),
        "vector": [x, 1.0, -1.0], "v16": [0.5, x], "v8": [1, 2, 3, 4],
    })
}

/// A namespace with rows in several parts, all types, nulls, dead rows and patched ones.
async fn mixed(node: &Node, namespace: &str) {
    let first = json!({"schema": schema_of_all_types(), "distance_metric": "cosine_distance",
                       "upsert_rows": [row_of_all_types(1), row_of_all_types(2), row_of_all_types(3)]});
    node.write(namespace, first).await.expect("written");
    for id in 4..40 {
        let sparse = json!({"id": id, "vector": [id, 0.0, 1.0], "v16": [id, 1.0], "v8": [0, 0, 0, 1], "s": "only"});
        let row = if id % 3 == 0 { sparse } else { row_of_all_types(id) };
        node.write(namespace, json!({ "upsert_rows": [row] }))
            .await
            .expect("written");
    }
    node.write(
        namespace,
        json!({"deletes": [2, 10, 11], "patch_rows": [{"id": 5, "s": null, "i": 77}]}),
    )
    .await
    .expect("written");
}

fn long_text(megabytes: usize) -> Json {
    let text = "lorem ipsum ".repeat(50_000);
    let rows: Vec<_> = (0..megabytes * 10 / 6)
        .map(|id| json!({"id": id, "text": format!("{id} {text}")}))
        .collect();
    json!({"upsert_rows": rows, "schema": {"text": {"type": "string", "filterable": false}}})
}

/// Small pieces, so that a copy of little has all steps of a large one.
fn staging() -> EngineOptions {
    EngineOptions {
        stage_bytes_min: 1,
        ..EngineOptions::default()
    }
}

async fn two_rows(bucket: &FaultStore) {
    let node = node(bucket, 1);
    let rows = json!({"upsert_rows": [{"id": 1, "vector": [1.0, 2.0]}, {"id": 2, "vector": [2.0, 1.0]}],
                      "distance_metric": "cosine_distance"});
    node.write("source", rows).await.expect("written");
    set(&node, "source", read_only(true)).await;
}

#[tokio::test(start_paused = true)]
async fn settings_are_in_the_log_and_go_with_the_namespace() {
    let bucket = bucket();
    let (a, b) = (node(&bucket, 1), node(&bucket, 2));
    a.write("ns", json!({"upsert_rows": [{"id": 1}]}))
        .await
        .expect("written");
    let before = a.engine.metadata(&a.org, &name("ns")).await.expect("there");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let pinned = SettingsChange {
        pinned_replicas: Some(Some(2)),
        ..read_only(true)
    };
    let after = set(&a, "ns", pinned).await;
    assert_eq!((after.read_only, after.pinned_replicas), (true, Some(2)));
    assert_eq!(settings(&b, "ns").await, after, "another node reads it in the log");
    let known = b.engine.metadata(&b.org, &name("ns")).await.expect("there");
    assert_eq!(known.last_write_ms, before.last_write_ms, "settings are no write");
    // Every kind of write is refused, on every node, and nothing changes.
    for body in [
        json!({"upsert_rows": [{"id": 2}]}),
        json!({"patch_rows": [{"id": 1, "a": 1}]}),
        json!({"deletes": [1]}),
        json!({"schema": {"x": "int"}}),
    ] {
        for node in [&a, &b] {
            let e = node.write("ns", body.clone()).await.expect_err("read-only");
            assert_eq!(e.kind, ErrorKind::Invalid, "{e}");
            assert!(e.message.contains("read-only"), "{e}");
        }
    }
    let namespace = name("ns");
    let schema = b.engine.update_schema(&b.org, &namespace, b.body(&json!({"x": "int"})));
    assert!(schema.await.expect_err("read-only").message.contains("read-only"));
    assert_eq!(b.ids("ns").await.expect("readable"), [1]);
    // Settings stay changeable, on any node; then writes work again.
    assert!(!set(&b, "ns", read_only(false)).await.read_only);
    a.write("ns", json!({"upsert_rows": [{"id": 2}]}))
        .await
        .expect("written");
    // A deletion takes the settings with it.
    set(&a, "ns", read_only(true)).await;
    b.engine
        .delete(&b.org, &name("ns"))
        .await
        .expect("a read-only namespace can be deleted");
    let gone = a.engine.update_settings(&a.org, &name("ns"), read_only(true)).await;
    assert_eq!(gone.expect_err("deleted").kind, ErrorKind::NotFound);
    a.write("ns", json!({"upsert_rows": [{"id": 3}]}))
        .await
        .expect("written");
    for node in [&a, &b] {
        assert_eq!(settings(node, "ns").await, Settings::default());
    }
}

#[tokio::test(start_paused = true)]
async fn sharding_is_recorded_by_the_first_write_only() {
    let bucket = bucket();
    let node = node(&bucket, 1);
    let sharded = |n: u32, id: u64| json!({"upsert_rows": [{"id": id}], "sharding": {"num_shards": n}});
    node.write("ns", sharded(4, 1)).await.expect("first");
    node.write("ns", sharded(4, 2)).await.expect("the same");
    assert!(node.write("ns", sharded(8, 3)).await.is_err());
    assert_eq!(node.ids("ns").await.expect("readable"), [1, 2]);
    assert_eq!(settings(&node, "ns").await.num_shards, Some(4));
    assert!(
        branch(&node, "ns", "branch")
            .await
            .expect_err("sharded")
            .message
            .contains("sharded")
    );
    // A copy is not sharded unless it says so.
    copy(&node, "ns", "plain").await.expect("copied");
    assert_eq!(settings(&node, "plain").await.num_shards, None);
    let from = CopyFrom {
        num_shards: Some(2),
        ..from(&node, "ns", OriginKind::Copy)
    };
    let two = node
        .engine
        .copy(&node.org, &name("two"), &from, &Progress::default())
        .await;
    assert_eq!(two.expect("copied").rows, 2);
    assert_eq!(settings(&node, "two").await.num_shards, Some(2));
}

/// What is indexed by a number must not be taken for another attribute's.
#[tokio::test(start_paused = true)]
async fn neither_copies_nor_namespaces_made_anew_use_an_attribute_number_again() {
    let node = node(&bucket(), 1);
    for (namespace, body) in [
        ("source", json!({"upsert_rows": [{"id": 1, "x": 1, "y": 2}]})),
        ("copy", json!({"upsert_rows": [{"id": 1, "x": "text", "z": 3}]})),
        ("copy", json!({"deletes": [1]})),
    ] {
        node.write(namespace, body).await.expect("written");
    }
    let numbers = async || {
        let schema = node.engine.schema(&node.org, &name("copy")).await.expect("there");
        schema.attributes().map(|a| a.id).collect::<Vec<_>>()
    };
    let before = numbers().await;
    copy(&node, "source", "copy").await.expect("it is empty");
    let after = numbers().await;
    assert_eq!(after.len(), 2);
    assert!(
        after.iter().all(|id| !before.contains(id)),
        "{before:?}, then {after:?}"
    );
    node.engine.delete(&node.org, &name("copy")).await.expect("there");
    let row = json!({"upsert_rows": [{"id": 1, "x": 1}]});
    node.write("copy", row).await.expect("written");
    let anew = numbers().await;
    let known = [before, after].concat();
    assert!(anew.iter().all(|id| !known.contains(id)), "{known:?}, then {anew:?}");
}
