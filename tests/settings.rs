//! Settings, copies and branches, on the engine: what holds whatever fails, on any node.

mod support;

#[path = "sim/crash.rs"]
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

#[tokio::test(start_paused = true)]
async fn a_copy_has_every_row_of_every_type() {
    let bucket = bucket();
    let (a, cold) = (node(&bucket, 1), node(&bucket, 2));
    mixed(&a, "source").await;
    let expected = rows(&a, "source").await;
    assert_eq!(expected.len(), 36);
    let copied = copy(&a, "source", "copy").await.expect("copied");
    assert_eq!(copied.rows, 36);
    for node in [&a, &cold] {
        assert_eq!(rows(node, "copy").await, expected);
        let schema = |namespace: &'static str| async move {
            let schema = node.engine.schema(&node.org, &name(namespace)).await.expect("there");
            shoal::model::schema_json::v2(&schema)
        };
        assert_eq!(
            schema("copy").await,
            schema("source").await,
            "attributes keep their options"
        );
    }
    // Both go on by themselves.
    a.write("source", json!({"deletes": [1]})).await.expect("written");
    cold.write("copy", json!({"patch_rows": [{"id": 3, "s": "changed"}]}))
        .await
        .expect("written");
    assert_eq!(rows(&a, "source").await.len(), 35);
    assert_eq!(rows(&a, "copy").await.len(), 36);
    a.engine.delete(&a.org, &name("source")).await.expect("deleted");
    assert_eq!(rows(&node(&bucket, 3), "copy").await.len(), 36);
}

#[tokio::test(start_paused = true)]
async fn a_copy_is_searched_as_its_source_is_and_billed_as_its_writes_were() {
    let bucket = bucket();
    let (a, cold) = (node(&bucket, 1), node(&bucket, 2));
    let mut billed = 0;
    for ids in [0..5u64, 5..6, 6..40] {
        let many: Vec<Json> = ids.map(row_of_all_types).collect();
        let body = json!({"schema": schema_of_all_types(), "distance_metric": "cosine_distance", "upsert_rows": many});
        billed += a.write("source", body).await.expect("written").logical_bytes_written;
    }
    let copied = copy(&a, "source", "copy").await.expect("copied");
    assert_eq!((copied.rows, copied.logical_bytes), (40, billed));
    let queries = [
        json!({"rank_by": ["t", "BM25", "otter swimming"], "limit": 100}),
        json!({"rank_by": ["vector", "ANN", [3.0, 1.0, 0.0]], "limit": 100}),
        json!({"rank_by": ["v16", "ANN", [0.5, 7.0]], "limit": 5, "filters": ["i", "Lt", -3]}),
        json!({"rank_by": ["id", "asc"], "limit": 100, "filters": ["ss", "Contains", "7"]}),
    ];
    for node in [&a, &cold] {
        assert_eq!(rows(node, "copy").await, rows(node, "source").await);
        for query in &queries {
            let found = search(node, "copy", query).await;
            assert!(!found.is_empty(), "{query}");
            assert_eq!(found, search(node, "source", query).await, "{query}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_destination_must_be_missing_or_empty() {
    let bucket = bucket();
    let node = node(&bucket, 1);
    node.write("source", json!({"upsert_rows": [{"id": 1, "a": "text"}]}))
        .await
        .expect("written");
    // Empty, of another kind of id, with an attribute of the same name and another type.
    let other = json!({"upsert_rows": [{"id": "x", "a": 1, "only_here": true}]});
    node.write("empty", other).await.expect("written");
    let full = copy(&node, "source", "empty").await.expect_err("it has a row");
    assert_eq!(full.kind, ErrorKind::Invalid);
    assert!(full.message.contains("has documents"), "{full}");
    node.write("empty", json!({"deletes": ["x"]})).await.expect("written");
    assert!(
        branch(&node, "source", "empty")
            .await
            .expect_err("it exists")
            .message
            .contains("exists already")
    );
    copy(&node, "source", "empty").await.expect("copied");
    assert_eq!(rows(&node, "empty").await, rows(&node, "source").await);
    let schema = node.engine.schema(&node.org, &name("empty")).await.expect("there");
    assert!(schema.get("only_here").is_none());
    for (source, destination, kind) in [
        ("missing", "new", ErrorKind::NotFound),
        ("missing", "source", ErrorKind::NotFound),
        ("source", "source", ErrorKind::Invalid),
        ("source", "empty", ErrorKind::Invalid),
    ] {
        let e = copy(&node, source, destination).await.expect_err("refused");
        assert_eq!(e.kind, kind, "{source} to {destination}: {e}");
    }
    // A deleted name is missing; its old attribute numbers are not used again.
    node.engine.delete(&node.org, &name("empty")).await.expect("deleted");
    branch(&node, "source", "empty").await.expect("branched");
    assert_eq!(rows(&node, "empty").await, rows(&node, "source").await);
    let never = CopyFrom {
        create_namespace: Some(false),
        ..from(&node, "source", OriginKind::Copy)
    };
    let e = node
        .engine
        .copy(&node.org, &name("new"), &never, &Progress::default())
        .await;
    assert_eq!(e.expect_err("never create").kind, ErrorKind::NotFound);
    // A read-only destination, though empty.
    node.write("locked", json!({"schema": {"id": "uint"}, "create_namespace": true}))
        .await
        .expect("written");
    set(&node, "locked", read_only(true)).await;
    assert!(
        copy(&node, "source", "locked")
            .await
            .expect_err("locked")
            .message
            .contains("read-only")
    );
}

#[tokio::test(start_paused = true)]
async fn read_only_is_carried_over_and_pinning_is_not() {
    let bucket = bucket();
    let node = node(&bucket, 1);
    node.write("source", json!({"upsert_rows": [{"id": 1}]}))
        .await
        .expect("written");
    let change = SettingsChange {
        pinned_replicas: Some(Some(3)),
        ..read_only(true)
    };
    set(&node, "source", change).await;
    copy(&node, "source", "copy").await.expect("copied");
    branch(&node, "source", "branch").await.expect("branched");
    let of_copy = Settings {
        read_only: true,
        ..Settings::default()
    };
    assert_eq!(settings(&node, "copy").await, of_copy);
    let of_branch = Settings {
        parent: Some(name("source")),
        ..of_copy
    };
    assert_eq!(settings(&node, "branch").await, of_branch);
    assert!(node.write("branch", json!({"deletes": [1]})).await.is_err());
    set(&node, "branch", read_only(false)).await;
    node.write("branch", json!({"deletes": [1]}))
        .await
        .expect("a branch is independent");
    assert_eq!(node.ids("source").await.expect("readable"), [1]);
    // An empty source is copied, too.
    copy(&node, "branch", "nothing").await.expect("copied");
    assert!(node.ids("nothing").await.expect("it exists").is_empty());
}

fn long_text(megabytes: usize) -> Json {
    let text = "lorem ipsum ".repeat(50_000);
    let rows: Vec<_> = (0..megabytes * 10 / 6)
        .map(|id| json!({"id": id, "text": format!("{id} {text}")}))
        .collect();
    json!({"upsert_rows": rows, "schema": {"text": {"type": "string", "filterable": false}}})
}

#[tokio::test(start_paused = true)]
async fn a_large_copy_goes_through_blobs_and_is_read_back_whole() {
    let bucket = bucket();
    let (a, cold) = (node(&bucket, 1), node(&bucket, 2));
    a.write("source", long_text(150)).await.expect("written");
    let first = bucket.calls();
    let copied = copy(&a, "source", "copy").await.expect("copied");
    assert!(copied.logical_bytes > 140_000_000, "{copied:?}");
    assert!(bucket.calls() - first > 10, "{} requests", bucket.calls() - first);
    let expected = rows(&a, "source").await;
    assert_eq!(expected.len(), 250);
    assert!(rows(&cold, "copy").await == expected);
}

#[tokio::test(start_paused = true)]
async fn what_is_written_to_the_source_meanwhile_is_not_copied() {
    let bucket = bucket();
    let (a, b) = (node(&bucket, 1), node(&bucket, 2));
    a.write("source", json!({"upsert_rows": [{"id": 1}, {"id": 2}]}))
        .await
        .expect("written");
    b.ids("source").await.expect("readable");
    // Both namespaces are looked at, then the entry and its marker are sent, slowly.
    let next = bucket.calls() + 2;
    (next..next + 2).for_each(|call| bucket.fail_call(call, Fault::Slow(Duration::from_secs(5))));
    let (copied, ()) = tokio::join!(copy(&a, "source", "copy"), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        b.write("source", json!({"upsert_rows": [{"id": 3}], "deletes": [1]}))
            .await
            .expect("written");
    });
    assert_eq!(copied.expect("copied").rows, 2);
    assert_eq!(b.ids("copy").await.expect("readable"), [1, 2]);
    assert_eq!(a.ids("source").await.expect("readable"), [2, 3]);
}

#[tokio::test(start_paused = true)]
async fn of_rival_copies_and_writes_one_is_first() {
    let bucket = bucket();
    let (a, b) = (node(&bucket, 1), node(&bucket, 2));
    a.write("one", json!({"upsert_rows": [{"id": 1}]}))
        .await
        .expect("written");
    a.write("two", json!({"upsert_rows": [{"id": 2}]}))
        .await
        .expect("written");
    let (first, second) = tokio::join!(copy(&a, "one", "copy"), copy(&b, "two", "copy"));
    let expected = match (&first, &second) {
        (Ok(_), Err(e)) | (Err(e), Ok(_)) if e.kind == ErrorKind::Invalid => [if first.is_ok() { 1 } else { 2 }],
        other => panic!("one of two is refused: {other:?}"),
    };
    assert_eq!(a.ids("copy").await.expect("readable"), expected);
    // A row that arrives after the destination was looked at.
    for slow in 2..4 {
        let destination = format!("late-{slow}");
        bucket.fail_call(bucket.calls() + slow, Fault::Slow(Duration::from_secs(3)));
        bucket.fail_call(bucket.calls() + 2, Fault::BeforeApply);
        let (copied, written) = tokio::join!(copy(&a, "one", &destination), async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            b.write(&destination, json!({"upsert_rows": [{"id": 9}]})).await
        });
        written.expect("a write goes to any namespace");
        let ids = a.ids(&destination).await.expect("readable");
        match copied {
            Ok(_) => assert_eq!(ids, [1, 9], "the copy was first"),
            Err(e) => assert_eq!((e.kind, ids), (ErrorKind::Invalid, vec![9])),
        }
    }
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

/// What a new node finds: nothing, or the whole copy with its schema and settings.
async fn all_or_nothing(bucket: &FaultStore) -> bool {
    let node = node(bucket, 99);
    match node.ids("copy").await {
        Ok(ids) => {
            assert_eq!(ids, [1, 2]);
            assert!(settings(&node, "copy").await.read_only);
            let schema = node.engine.schema(&node.org, &name("copy")).await.expect("there");
            assert!(schema.get("vector").is_some());
            true
        }
        Err(e) => {
            assert_eq!(e.kind, ErrorKind::NotFound, "{e}");
            false
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_is_whole_or_absent_whichever_request_fails() {
    let healthy = bucket();
    two_rows(&healthy).await;
    let before = healthy.calls();
    copy(&Node::with(Arc::new(healthy.clone()), 2, staging()), "source", "copy")
        .await
        .expect("copied");
    let calls = healthy.calls() - before;
    assert!((5..20).contains(&calls), "{calls} requests");
    for call in 0..calls {
        for fault in [
            Fault::BeforeApply,
            Fault::AfterApply,
            Fault::Conflict,
            Fault::LateApply(Duration::from_secs(40)),
        ] {
            let bucket = bucket();
            two_rows(&bucket).await;
            let worker = Node::with(Arc::new(bucket.clone()), 2, staging());
            bucket.fail_call(bucket.calls() + call, fault);
            let copied = copy(&worker, "source", "copy").await;
            bucket.heal();
            tokio::time::sleep(Duration::from_secs(120)).await;
            let there = all_or_nothing(&bucket).await;
            match copied {
                Ok(outcome) => assert!(there && outcome.rows == 2, "call {call}, {fault:?}"),
                Err(e) if e.kind == ErrorKind::Unknown => {}
                Err(e) => assert!(!there, "call {call}, {fault:?}: refused, and there: {e}"),
            }
        }
    }
}

/// The node dies at its n-th poll, for every n.
#[test]
fn a_copy_is_whole_or_absent_wherever_its_node_dies() {
    let (mut absent, mut whole) = (0, 0);
    for polls in 1.. {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without I/O");
        let (copied, there) = runtime.block_on(async {
            let bucket = bucket();
            two_rows(&bucket).await;
            let life = Life::of(polls);
            let spawner = Arc::new(MortalSpawner(life.clone()));
            let mortal = Node::spawning(Arc::new(bucket.clone()), 2, staging(), spawner);
            let copied = life.run(copy(&mortal, "source", "copy")).await;
            drop(mortal);
            tokio::time::sleep(Duration::from_secs(60)).await;
            (copied.map(|c| c.is_ok()), all_or_nothing(&bucket).await)
        });
        assert!(
            copied != Some(true) || there,
            "an acknowledged copy is lost at poll {polls}"
        );
        match there {
            true => whole += 1,
            false => absent += 1,
        }
        if copied == Some(true) {
            break;
        }
        assert!(polls < 500, "the copy ends");
    }
    assert!(absent > 3 && whole > 1, "{absent} absent, {whole} whole");
}

#[tokio::test(start_paused = true)]
async fn a_copy_needs_room_for_its_rows() {
    let bucket = bucket();
    let small = Node::with(Arc::new(bucket.clone()), 1, EngineOptions::default());
    small.write("source", long_text(2)).await.expect("written");
    // For the rows there, and for what is gathered and encoded on the way.
    for share in [MemoryShare::Tails, MemoryShare::Bodies] {
        let memory = &small.runtime.memory;
        let taken = memory.charge_always(share, memory.limit_bytes(share) - memory.used_bytes(share));
        let e = copy(&small, "source", "copy").await.expect_err("no room");
        assert_eq!((e.kind, e.retry_after.is_some()), (ErrorKind::Overloaded, true), "{e}");
        drop(taken);
    }
    copy(&small, "source", "copy").await.expect("copied");
}

/// The keys of an operation's objects.
async fn objects(bucket: &FaultStore) -> Vec<String> {
    let listed: Vec<_> = bucket.list(None).try_collect().await.expect("listable");
    let keys = listed.into_iter().map(|o| o.location.to_string());
    let mut parts: Vec<String> = keys
        .filter(|k| k.contains("/ops/"))
        .filter_map(|k| k.rsplit('/').next().map(str::to_owned))
        .collect();
    parts.sort();
    parts
}

async fn poll(node: &Node, destination: &str, token: &str) -> Operation {
    let found = node.engine.operation(&node.org, &name(destination), token).await;
    found.expect("known")
}

#[tokio::test(start_paused = true)]
async fn every_node_knows_how_a_copy_by_token_ended() {
    let bucket = bucket();
    let (a, b) = (node(&bucket, 1), node(&bucket, 2));
    a.write("source", json!({"upsert_rows": [{"id": 1}, {"id": 2}]}))
        .await
        .expect("written");
    for (source, ends_well) in [("source", true), ("missing", false), ("source", false)] {
        let from = from(&a, source, OriginKind::Copy);
        let token = a.engine.start_copy(&a.org, &name("copy"), from).await.expect("started");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let ended = poll(&b, "copy", &token).await;
        assert_eq!(poll(&a, "copy", &token).await, ended);
        match ended {
            Operation::Finished {
                result: Ok(outcome), ..
            } => assert!(ends_well && outcome.rows == 2),
            Operation::Finished {
                result: Err(failure), ..
            } => {
                assert!(!ends_well);
                let kind = if source == "missing" {
                    ErrorKind::NotFound
                } else {
                    ErrorKind::Invalid
                };
                assert_eq!(failure.kind, kind, "{}", failure.message);
            }
            running => panic!("{running:?}"),
        }
        // Another namespace does not know it.
        let other = a.engine.operation(&a.org, &name("other"), &token).await;
        assert_eq!(other.expect_err("not there").kind, ErrorKind::NotFound);
    }
    assert_eq!(
        objects(&bucket).await,
        ["done", "done", "done"],
        "what is superfluous is removed"
    );
    for token in [
        "",
        "x",
        "00000000000000000000000000",
        "01hf000000000000000000000O",
        "../../wal/ffffffffffffffff",
    ] {
        let unknown = a.engine.operation(&a.org, &name("copy"), token).await;
        assert_eq!(unknown.expect_err(token).kind, ErrorKind::NotFound);
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_copy_tells_how_far_it_is_and_a_dead_one_ends() {
    let bucket = bucket();
    let [watcher, other] = [2, 6].map(|seed| node(&bucket, seed));
    two_rows(&bucket).await;
    let life = Life::of(u64::MAX);
    let mortal = Node::spawning(
        Arc::new(bucket.clone()),
        3,
        staging(),
        Arc::new(MortalSpawner(life.clone())),
    );
    let from = from(&watcher, "source", OriginKind::Copy);
    // Its start, then two looks, then the upload of a blob.
    let upload = bucket.calls() + 3;
    (upload..upload + 4).for_each(|call| bucket.fail_call(call, Fault::Slow(Duration::from_secs(9))));
    let token = mortal
        .engine
        .start_copy(&mortal.org, &name("copy"), from.clone())
        .await
        .expect("started");
    tokio::time::sleep(Duration::from_millis(500)).await;
    match poll(&watcher, "copy", &token).await {
        Operation::Running { progress, .. } => assert!(!progress.is_empty()),
        ended => panic!("{ended:?}"),
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let ended = poll(&watcher, "copy", &token).await;
    assert!(matches!(ended, Operation::Finished { result: Ok(_), .. }), "{ended:?}");
    // One whose node dies: running until the silence is too long, then failed, for ever.
    let life = Life::of(4);
    let mortal = Node::spawning(
        Arc::new(bucket.clone()),
        4,
        staging(),
        Arc::new(MortalSpawner(life.clone())),
    );
    let token = mortal
        .engine
        .start_copy(&mortal.org, &name("dead"), from)
        .await
        .expect("started");
    // The clock of the node that copies is a minute behind the watcher's, which the bound allows for.
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert!(life.is_over());
    assert!(matches!(
        poll(&watcher, "dead", &token).await,
        Operation::Running { .. }
    ));
    tokio::time::sleep(Duration::from_secs(100)).await;
    // Two find out at the same time; what the first of them notes counts for both.
    bucket.fail_call(bucket.calls() + 1, Fault::Slow(Duration::from_secs(1)));
    let (ended, same) = tokio::join!(poll(&watcher, "dead", &token), poll(&other, "dead", &token));
    assert_eq!(ended, same);
    match &ended {
        Operation::Finished {
            result: Err(failure), ..
        } => {
            assert_eq!(failure.kind, ErrorKind::Unknown);
            assert!(failure.message.contains("may or may not"), "{}", failure.message);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(poll(&node(&bucket, 5), "dead", &token).await, ended);
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
