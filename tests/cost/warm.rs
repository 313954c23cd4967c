//! What warming, purging, bypassing the cache and pinning change in what queries cost, and what their answers say of it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};
use shoal::api::query as json_query;
use shoal::cache::CacheOptions;
use shoal::model::{Limits, SettingsChange};
use shoal::namespace::{EngineOptions, QueryOutcome};

use super::indexed::{ROWS, flushed, large_row, queries};
use super::support::engine::{EVENTUAL, Node, name};
use super::support::upkeep;
use super::{Bill, Bucket, row};

async fn outcome(node: &Node, body: &Json) -> QueryOutcome {
    let request = json_query::parse(body.to_string().as_bytes(), &Limits::default()).expect("a query");
    let answered = node.engine.query(&node.org, &name("ns"), request.read).await;
    answered.expect("answered")
}

async fn warm(node: &Node) -> bool {
    node.engine.warm(&node.org, &name("ns")).await.expect("there")
}

async fn purge(node: &Node) {
    node.engine.purge(&node.org, &name("ns")).await.expect("there");
}

/// What an answer says of the cache.
fn said(outcome: &QueryOutcome) -> (f64, &'static str) {
    (outcome.cache_hit_ratio(), outcome.cache_temperature().as_str())
}

#[tokio::test(start_paused = true)]
async fn after_the_hint_every_query_costs_the_look_at_the_log() {
    for per_flush in [ROWS, ROWS / 4] {
        let bucket = Bucket::new();
        flushed(&bucket, ROWS, per_flush).await;
        let segments = ROWS / per_flush;
        for (seed, (what, query, _, _)) in queries().into_iter().enumerate() {
            let node = bucket.node(300 + seed as u64);
            let (was_warm, bill) = bucket.bill(warm(&node)).await;
            assert!(!was_warm);
            // The answer does not wait for more than opening: the manifest's hint beside the log, and then the segments.
            assert!(bill.rounds <= 3, "{bill:?}");
            // Neither does it take more requests behind it than opening and a few per segment: these are small.
            assert!(bill.gets <= 5 + 8 * segments, "{bill:?}");
            let (outcome, bill) = bucket.bill(outcome(&node, &query)).await;
            assert_eq!(bill, Bill::of(0, 1, 0, 1), "{what}, {segments} segments");
            assert_eq!(said(&outcome), (1.0, "hot"), "{what}, {segments} segments");
            // Once more, there is nothing left to read.
            let (was_warm, bill) = bucket.bill(warm(&node)).await;
            assert!(was_warm);
            assert_eq!(bill, Bill::of(0, 1, 0, 1));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_purged_namespace_is_read_again() {
    let bucket = Bucket::new();
    let (node, _indexer) = flushed(&bucket, ROWS, ROWS).await;
    for (what, query, _, _) in queries() {
        outcome(&node, &query).await;
        let ((), bill) = bucket.bill(purge(&node)).await;
        assert_eq!(bill, Bill::of(0, 1, 0, 1), "{what}");
        assert_eq!(node.engine.cache().stats().memory_bytes, 0, "{what}");
        let (cold, bill) = bucket.bill(outcome(&node, &query)).await;
        assert!(bill.gets > 2, "{what}: {bill:?}");
        assert!(cold.cache_hit_ratio() < 0.5, "{what}: {:?}", said(&cold));
        assert_ne!(said(&cold).1, "hot", "{what}");
        let (again, bill) = bucket.bill(outcome(&node, &query)).await;
        assert_eq!(bill, Bill::of(0, 1, 0, 1), "{what}");
        assert_eq!(said(&again), (1.0, "hot"), "{what}");
        assert_eq!(again.results, cold.results, "{what}");
    }
    // While it is being warmed, that ends.
    purge(&node).await;
    warm(&node).await;
    purge(&node).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (cold, bill) = bucket.bill(outcome(&node, &queries()[0].1)).await;
    assert!(bill.gets > 2, "{bill:?}");
    assert_ne!(said(&cold), (1.0, "hot"));
}

#[tokio::test(start_paused = true)]
async fn queries_that_disable_the_cache_read_the_store_and_leave_nothing_behind() {
    let bucket = Bucket::new();
    let (node, _indexer) = flushed(&bucket, ROWS, ROWS).await;
    warm(&node).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    for (what, query, _, _) in queries() {
        let expected = outcome(&node, &query).await;
        // Rows that are read a second time are kept unpacked.
        outcome(&node, &query).await;
        let mut past = query.clone();
        past["disable_cache"] = json!(true);
        for body in [
            past.clone(),
            json!({"queries": [query, past]}),
            json!({"queries": [query], "disable_cache": true}),
        ] {
            let held = node.engine.cache().stats().memory_bytes;
            let (found, bill) = bucket.bill(outcome(&node, &body)).await;
            assert_eq!(found.results[0], expected.results[0], "{what}");
            assert_eq!(node.engine.cache().stats().memory_bytes, held, "{what}");
            // How many rows there are is known without a read.
            if what != "count of all" {
                assert!(bill.gets > 1, "{what}: {bill:?}");
                assert_eq!(said(&found), (0.0, "cold"), "{what}");
            }
        }
        let (_, bill) = bucket.bill(outcome(&node, &query)).await;
        assert_eq!(bill, Bill::of(0, 1, 0, 1), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_in_segments_says_whether_it_was_open() {
    let bucket = Bucket::new();
    bucket.node(1).write("ns", row(1)).await.expect("written");
    let node = bucket.node(2);
    for (expected, body) in [
        ((0.0, "cold"), json!({"rank_by": ["id", "asc"], "limit": 1})),
        (
            (1.0, "hot"),
            json!({"rank_by": ["id", "asc"], "limit": 1, "disable_cache": true}),
        ),
    ] {
        assert_eq!(said(&outcome(&node, &body).await), expected);
    }
    assert!(warm(&node).await, "nothing is left to read");
    purge(&node).await;
    assert!(!warm(&node).await);
}

/// A node with a small memory, on which the segments do not fit.
#[tokio::test(start_paused = true)]
async fn warming_reads_no_more_than_there_is_room_for() {
    let bucket = Bucket::new();
    flushed(&bucket, ROWS, ROWS / 2).await;
    let limit = 256 * 1024;
    let options = EngineOptions {
        cache: CacheOptions::memory_only(limit),
        ..EngineOptions::default()
    };
    let node = Node::with(Arc::new(bucket.counting.clone()), 2, options);
    node.ids("ns").await.expect("open");
    let before = node.engine.cache().stats().reads;
    warm(&node).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let after = node.engine.cache().stats().reads;
    let read = after.memory_bytes + after.store_bytes - before.memory_bytes - before.store_bytes;
    assert!(read <= limit / 2, "{read}");
}

fn pinned(replicas: Option<u32>) -> SettingsChange {
    SettingsChange {
        pinned_replicas: Some(replicas),
        ..SettingsChange::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_pinned_namespace_keeps_its_segments_through_flushes_and_merges() {
    let bucket = Bucket::new();
    let (node, indexer) = flushed(&bucket, ROWS, ROWS / 2).await;
    let set = async |change| {
        let set = node.engine.update_settings(&node.org, &name("ns"), change).await;
        set.expect("set");
    };
    let objects = || node.engine.pinned_objects();
    assert_eq!(objects(), 0);
    set(pinned(Some(1))).await;
    assert_eq!(objects(), 2);
    // Another one.
    let rows: Vec<Json> = (ROWS..ROWS + 2000).map(large_row).collect();
    node.write("ns", json!({"upsert_rows": rows})).await.expect("written");
    assert_eq!(objects(), 2);
    indexer.flush(&node.org, &name("ns")).await.expect("flushed");
    assert_eq!(objects(), 3);
    // One instead of three.
    let manifest = upkeep::merge_all(&node, "ns").await.expect("merged");
    node.engine
        .adopt(&node.org, &name("ns"), &manifest)
        .await
        .expect("adopted");
    assert_eq!(objects(), 1);
    // Who opens it pins it, until it is closed there.
    let other = bucket.node(9);
    assert_eq!(other.engine.pinned_objects(), 0);
    other.rows("ns", EVENTUAL).await.expect("readable");
    assert_eq!(other.engine.pinned_objects(), 1);
    purge(&other).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(other.engine.pinned_objects(), 0);
    // Closed and opened again at once, it stays pinned.
    purge(&node).await;
    node.rows("ns", EVENTUAL).await.expect("readable");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(objects(), 1);
    set(pinned(None)).await;
    assert_eq!(objects(), 0);
    set(pinned(Some(3))).await;
    assert_eq!(objects(), 1);
    node.engine.delete(&node.org, &name("ns")).await.expect("deleted");
    assert_eq!(objects(), 0);
}

/// Nobody asks for it: opening a pinned namespace brings it, and so does a newer manifest.
#[tokio::test(start_paused = true)]
async fn what_is_pinned_is_brought_before_somebody_asks() {
    let bucket = Bucket::new();
    let (node, _indexer) = flushed(&bucket, ROWS, ROWS / 2).await;
    let set = node
        .engine
        .update_settings(&node.org, &name("ns"), pinned(Some(1)))
        .await;
    set.expect("set");
    let (_, bill) = bucket.bill(async {}).await;
    assert_eq!(bill.gets, 0, "it has just written them");
    let other = bucket.node(9);
    other.rows("ns", EVENTUAL).await.expect("open");
    tokio::time::sleep(Duration::from_secs(10)).await;
    for (what, query, _, _) in queries() {
        let (_, bill) = bucket.bill(outcome(&other, &query)).await;
        assert_eq!(bill, Bill::of(0, 1, 0, 1), "{what}");
    }
    let manifest = upkeep::merge_all(&node, "ns").await.expect("merged");
    let adopted = other.engine.adopt(&other.org, &name("ns"), &manifest).await;
    adopted.expect("adopted");
    tokio::time::sleep(Duration::from_secs(10)).await;
    for (what, query, _, _) in queries() {
        let (_, bill) = bucket.bill(outcome(&other, &query)).await;
        assert_eq!(bill, Bill::of(0, 1, 0, 1), "{what}, merged");
    }
}

/// A node goes over to what a merge wrote when it has it: the next query reads nothing of the store but the end of the log.
#[tokio::test(start_paused = true)]
async fn a_merge_leaves_nothing_cold_that_is_pinned() {
    let bucket = Bucket::new();
    let (node, _indexer) = flushed(&bucket, ROWS, ROWS / 4).await;
    let set = async |replicas| {
        let ns = name("ns");
        let set = node.engine.update_settings(&node.org, &ns, pinned(replicas));
        set.await.expect("set");
    };
    set(Some(1)).await;
    let other = bucket.node(9);
    other.rows("ns", EVENTUAL).await.expect("open");
    tokio::time::sleep(Duration::from_secs(10)).await;
    let mut expected = Vec::new();
    for (what, query, _, _) in queries() {
        let (found, bill) = bucket.bill(outcome(&other, &query)).await;
        assert_eq!(bill, Bill::of(0, 1, 0, 1), "{what}");
        expected.push(found.results);
    }
    let manifest = upkeep::merge_all(&node, "ns").await.expect("merged");
    let adopted = other.engine.adopt(&other.org, &name("ns"), &manifest).await;
    adopted.expect("adopted");
    assert_eq!(other.engine.pinned_objects(), 1);
    for ((what, query, _, _), expected) in queries().into_iter().zip(expected) {
        let (found, bill) = bucket.bill(outcome(&other, &query)).await;
        assert_eq!(bill, Bill::of(0, 1, 0, 1), "{what}");
        assert_eq!(found.results, expected, "{what}");
    }
    assert_eq!(other.engine.pinned_missing_bytes(), 0);
}

/// The directory of its cache tells a node what to open. In real time: the disk's threads do not wait for a clock.
#[tokio::test]
async fn what_was_pinned_is_opened_when_the_node_starts_again() {
    let bucket = Bucket::new();
    let (writer, _indexer) = flushed(&bucket, ROWS, ROWS).await;
    let set = async |replicas| {
        let ns = name("ns");
        let change = writer.engine.update_settings(&writer.org, &ns, pinned(replicas));
        change.await.expect("set");
    };
    set(Some(1)).await;
    let dir = tempfile::tempdir().expect("room");
    let start = |seed| {
        let options = EngineOptions {
            cache: CacheOptions::with_disk(64 << 20, Some(dir.path().to_path_buf()), 64 << 20),
            ..EngineOptions::default()
        };
        Node::with(Arc::new(bucket.counting.clone()), seed, options)
    };
    let until = async |done: &dyn Fn() -> bool| {
        for _ in 0..400 {
            if done() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    };
    let written = || std::fs::read_to_string(dir.path().join("pinned")).unwrap_or_default();
    // Whoever was dropped has the directory until its tasks have ended.
    let start = async |seed| {
        for _ in 0..400 {
            let node = start(seed);
            if node.engine.cache().stats().disk.is_some() {
                return node;
            }
            drop(node);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the directory is still in use");
    };
    let first = start(20).await;
    first.rows("ns", EVENTUAL).await.expect("open");
    assert!(until(&|| first.engine.pinned_objects() == 1).await);
    assert!(until(&|| written().ends_with("/ns\n")).await);
    drop(first);
    let again = start(21).await;
    assert!(
        until(&|| again.engine.pinned_objects() == 1).await,
        "nobody asked for it"
    );
    drop(again);
    // It is looked at once more after it is no longer so, and then forgotten.
    set(None).await;
    let third = start(22).await;
    assert!(until(&|| written().is_empty()).await);
    assert_eq!(third.engine.pinned_objects(), 0);
}

/// A second process with the same directory has no disk tier, and does not write into the first one's.
#[tokio::test]
async fn who_does_not_own_the_cache_directory_writes_nothing_there() {
    let bucket = Bucket::new();
    let (writer, _indexer) = flushed(&bucket, ROWS, ROWS).await;
    let ns = name("ns");
    let set = writer.engine.update_settings(&writer.org, &ns, pinned(Some(1)));
    set.await.expect("set");
    let dir = tempfile::tempdir().expect("room");
    let start = |seed| {
        let options = EngineOptions {
            cache: CacheOptions::with_disk(64 << 20, Some(dir.path().to_path_buf()), 64 << 20),
            ..EngineOptions::default()
        };
        Node::with(Arc::new(bucket.counting.clone()), seed, options)
    };
    let (owner, other) = (start(30), start(31));
    let has_disk = |node: &Node| node.engine.cache().stats().disk.is_some();
    assert_eq!((has_disk(&owner), has_disk(&other)), (true, false));
    other.rows("ns", EVENTUAL).await.expect("open");
    assert_eq!(other.engine.pinned_objects(), 1);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!dir.path().join("pinned").exists());
    // What the owner writes there, nobody else opens.
    owner.rows("ns", EVENTUAL).await.expect("open");
    for _ in 0..400 {
        if dir.path().join("pinned").exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(dir.path().join("pinned").exists());
    let third = start(32);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((third.engine.open_namespaces(), third.engine.pinned_objects()), (0, 0));
}
