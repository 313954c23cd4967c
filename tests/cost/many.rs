//! Many namespaces on one node: what is kept open, what idle ones cost, and what happens when more are used than fit.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use shoal::base::{CpuPool, Ledger, MemoryShare, Rng, Runtime, TokioClock, TokioSpawner};
use shoal::config::StoreConfig;
use shoal::error::ErrorKind;
use shoal::maintenance::{self, Indexer, UpkeepOptions, gc};
use shoal::model::{Consistency, OrgId};
use shoal::namespace::{Engine, EngineOptions};
use shoal::store::Store;

use super::Bucket;
use super::support::engine::{EVENTUAL, Node, name};
use super::support::upkeep;

fn node(bucket: &Bucket, seed: u64, open_max: usize) -> Node {
    let options = EngineOptions {
        open_namespaces_max: open_max,
        ..EngineOptions::default()
    };
    Node::with(Arc::new(bucket.counting.clone()), seed, options)
}

/// Starts the background tasks of a node. Nothing is collected: the bucket's clock is another one.
fn keep_up(node: &Node) {
    let indexer = Indexer::new(node.engine.clone(), UpkeepOptions::default());
    let indexing = maintenance::run(indexer, std::future::pending());
    node.runtime.spawner.spawn("upkeep", Box::pin(indexing));
    let collecting = gc::run(node.engine.clone(), None, std::future::pending());
    node.runtime.spawner.spawn("garbage collection", Box::pin(collecting));
}

async fn write(node: &Node, i: usize) {
    let body = json!({"upsert_rows": [{"id": i, "n": 1}]});
    node.write(&format!("ns-{i}"), body).await.expect("written");
}

/// Five times as many namespaces are written as may be open, all at once, and nobody uses them again.
#[tokio::test(start_paused = true)]
async fn dirty_namespaces_that_had_to_be_closed_are_flushed_and_then_left_alone() {
    const OPEN: usize = 40;
    const ALL: usize = 200;
    let bucket = Bucket::new();
    let node = node(&bucket, 1, OPEN);
    keep_up(&node);
    for start in (0..ALL).step_by(20) {
        join_all((start..start + 20).map(|i| write(&node, i))).await;
        assert!(
            node.engine.open_namespaces() <= OPEN,
            "{}",
            node.engine.open_namespaces()
        );
    }
    let before = bucket.counting.counts();
    tokio::time::sleep(Duration::from_secs(2 * 3600)).await;
    let after = bucket.counting.counts();
    let each = |n: u64| n as f64 / ALL as f64;
    // Opened again at most once each, flushed, unmarked.
    assert!(each(after.gets - before.gets) <= 10.0, "{before:?} {after:?}");
    assert!(each(after.creates - before.creates) <= 3.0, "{before:?} {after:?}");
    let cold = bucket.node(2);
    for i in 0..ALL {
        let newest = cold.engine.newest(&cold.org, &name(&format!("ns-{i}"))).await;
        let newest = newest.expect("readable");
        assert_eq!(
            (newest.rows(), newest.unindexed_rows()),
            (1, 0),
            "namespace {i} is flushed"
        );
    }
    let idle = bucket.counting.counts();
    let day = 24 * 3600;
    tokio::time::sleep(Duration::from_secs(day)).await;
    let now = bucket.counting.counts();
    assert_eq!(
        (now.gets, now.puts, now.creates, now.deletes),
        (idle.gets, idle.puts, idle.creates, idle.deletes)
    );
    // Of dirty markers, once a minute.
    assert!(now.lists - idle.lists <= day / 60 + 1, "{}", now.lists - idle.lists);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_first_queries_at_once_cost_what_one_does_each() {
    const ALL: usize = 1000;
    const OPEN: usize = 100;
    let bucket = Bucket::new();
    let writer = bucket.node(1);
    join_all((0..ALL).map(|i| write(&writer, i))).await;
    for i in (0..ALL).step_by(10) {
        upkeep::flush(&writer, &format!("ns-{i}")).await.expect("flushed");
    }
    let cold = node(&bucket, 2, OPEN);
    let before = bucket.counting.counts();
    let queries = (0..ALL).map(|i| {
        let cold = &cold;
        async move { cold.ids(&format!("ns-{i}")).await.expect("answered") }
    });
    for (i, ids) in join_all(queries).await.into_iter().enumerate() {
        assert_eq!(ids, [i as u64]);
    }
    let after = bucket.counting.counts();
    assert!(after.lists - before.lists <= ALL as u64, "one each");
    assert!(after.gets - before.gets <= 2 * ALL as u64, "the hint and the entry");
    // What is in use cannot be closed; with the next use it is.
    cold.ids("ns-0").await.expect("answered");
    write(&cold, ALL).await;
    assert!(
        cold.engine.open_namespaces() <= OPEN,
        "{}",
        cold.engine.open_namespaces()
    );
    let held = cold.runtime.memory.used_bytes(MemoryShare::Tails);
    assert!(held > 0 && held <= 32 * 1024 * OPEN as u64, "{held} bytes are held");
}

#[tokio::test(start_paused = true)]
async fn a_start_and_a_page_of_names_cost_the_same_however_many_there_are() {
    let bucket = Bucket::new();
    let writer = bucket.node(1);
    for start in (0..1500).step_by(100) {
        join_all((start..start + 100).map(|i| write(&writer, i))).await;
    }
    let before = bucket.counting.counts();
    let cold = node(&bucket, 2, 100);
    assert_eq!(bucket.counting.counts(), before, "nothing is read");
    let page = cold.engine.list(&cold.org, "", None, 10).await.expect("listed");
    assert_eq!((page.names.len(), page.next_cursor.is_some()), (10, true));
    assert_eq!(cold.engine.open_namespaces(), 0);
    assert!(cold.rows("ns-7", EVENTUAL).await.is_ok() && cold.rows("ns-8", Consistency::Strong).await.is_ok());
    assert_eq!(cold.engine.open_namespaces(), 2);
}

/// Half a megabyte of memory for rows.
fn small(bucket: &Bucket) -> Node {
    let runtime = Runtime {
        clock: Arc::new(TokioClock::new(Duration::from_secs(1_700_000_000))),
        rng: Rng::seeded(3),
        spawner: Arc::new(TokioSpawner::default()),
        cpu: CpuPool::inline(),
        memory: Ledger::new(1 << 30, 512 << 10),
    };
    let store = Store::new(
        Arc::new(bucket.counting.clone()),
        runtime.clock.clone(),
        runtime.rng.clone(),
        &StoreConfig::default(),
    );
    Node {
        engine: Engine::new(runtime.clone(), store, EngineOptions::default()),
        runtime,
        org: OrgId::default_org(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_patch_that_would_fill_the_memory_with_stored_rows_is_refused_before_they_are_read() {
    let bucket = Bucket::new();
    let writer = bucket.node(1);
    let text = |id: u64| {
        (0..200)
            .map(|n| format!("{} ", (id * 7919 + n * 31) % 10_007))
            .collect::<String>()
    };
    let rows: Vec<_> = (0..2000u64)
        .map(|id| json!({"id": id, "n": id, "t": text(id)}))
        .collect();
    let schema = json!({"t": {"type": "string", "filterable": false}});
    writer
        .write("ns", json!({"upsert_rows": rows, "schema": schema}))
        .await
        .expect("written");
    upkeep::flush(&writer, "ns").await.expect("flushed");
    let node = small(&bucket);
    assert_eq!(
        node.engine
            .newest(&node.org, &name("ns"))
            .await
            .expect("readable")
            .rows(),
        2000
    );
    let patch = |most: u64| json!({"patch_by_filter": {"filters": ["n", "Lt", most], "patch": {"n": 0}}});
    let before = bucket.counting.counts();
    let refused = node.write("ns", patch(2000)).await.expect_err("too much");
    assert_eq!(refused.kind, ErrorKind::TooLarge, "{refused}");
    assert!(refused.message.contains("write fewer rows at a time"), "{refused}");
    let read = bucket.counting.counts().bytes_read - before.bytes_read;
    assert!(read < 400_000, "{read} bytes were read: rows");
    let ids: Vec<_> = (0..2000u64).map(|id| json!({"id": id, "n": 1})).collect();
    let refused = node
        .write("ns", json!({"patch_rows": ids}))
        .await
        .expect_err("too much");
    assert_eq!(refused.kind, ErrorKind::TooLarge, "{refused}");
    let patched = node.write("ns", patch(50)).await.expect("few enough");
    assert_eq!(patched.rows_patched, Some(50));
    let known = node.engine.newest(&node.org, &name("ns")).await.expect("readable");
    assert_eq!((known.rows(), known.unindexed_rows()), (2000, 50));
}
