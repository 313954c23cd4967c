//! What a node takes for itself keeps others from doing the same, and from nothing else.

use std::time::Duration;

use futures::TryStreamExt;
use serde_json::json;

use super::debt::{flush_often, segments};
use super::engine::{Node, name, org, seconds};
use super::*;
use crate::base::clock::wall_ms;
use crate::manifest::tests::scripted::ScriptedStore;
use crate::store::paths::{self, NsKey};

fn docs() -> NsKey {
    NsKey::new(org(), name("docs"))
}

/// Everything is large, and merges take an hour or so.
fn slow(options: &mut UpkeepOptions) {
    (options.lease_bytes_min, options.merge_bytes_per_second) = (0, 1);
    fast(options);
}

fn fast(options: &mut UpkeepOptions) {
    (options.inline, options.flush_entries, options.lease_bytes_min) = (false, 0, 0);
}

/// A node that no other knows of has a role for so long.
async fn lease_to_another(node: &Node, role: &str, span: Duration) {
    let now_ms = wall_ms(node.runtime.clock.as_ref());
    let taken = lease::take(&node.store, &docs(), role, 99, now_ms, span).await;
    assert!(taken.expect("the store answers").ours().is_some());
}

async fn leases(node: &Node, role: &str) -> usize {
    let listed = node.store.list(&paths::lease_prefix(&docs(), role), None);
    listed.try_collect::<Vec<_>>().await.expect("listed").len()
}

async fn merge(indexer: &Indexer) -> Done {
    indexer.merge(&org(), &name("docs")).await.expect("the store answers")
}

#[test]
fn a_flush_does_not_wait_for_the_merge_of_another_node() {
    run(async {
        let backend = ScriptedStore::new();
        let (merging, writer) = (Node::new(&backend, 1), Node::new(&backend, 2));
        flush_often(&merging, 8).await;
        let indexer = merging.indexer(slow);
        let work = async move { assert_eq!(merge(&indexer).await, Done::Published) };
        merging.runtime.spawner.spawn("merge", Box::pin(work));
        let writer = writer.indexing(fast);
        seconds(1).await;
        writer.upsert("docs", 80..90).await;
        seconds(30).await;
        assert_eq!(writer.rows("docs").await, (90, 0));
        // It is nobody else's as long as it goes on, which nobody knew before.
        seconds(600).await;
        let left = match merge(&writer.indexer(fast)).await {
            Done::Leased(left) => left,
            done => panic!("{done:?}"),
        };
        assert!(left <= UpkeepOptions::default().lease, "{left:?}");
        assert_eq!(segments(&writer).await, 9);
        seconds(3 * 3600).await;
        assert_eq!(segments(&writer).await, 2);
        assert_eq!(leases(&writer, "merge").await, 0, "it was given back");
        writer.stop.cancel();
    });
}

#[test]
fn a_node_that_stops_gives_its_leases_back() {
    run(async {
        let backend = ScriptedStore::new();
        let (first, second) = (Node::new(&backend, 1).indexing(slow), Node::new(&backend, 2));
        flush_often(&Node::new(&backend, 3), 7).await;
        seconds(1).await;
        first.upsert("docs", 70..80).await;
        seconds(30).await;
        assert_eq!(first.rows("docs").await, (80, 0));
        for (at, held) in [("before", 1), ("after", 0)] {
            assert_eq!(
                (segments(&first).await, leases(&first, "merge").await),
                (8, held),
                "{at}"
            );
            assert_eq!(leases(&first, "index").await, held, "{at}");
            first.stop.cancel();
            seconds(1).await;
        }
        // The same one after its restart.
        let second = second.indexing(fast);
        seconds(1).await;
        second.upsert("docs", 80..90).await;
        seconds(10).await;
        assert_eq!((second.rows("docs").await, segments(&second).await), ((90, 0), 2));
        second.stop.cancel();
    });
}

#[test]
fn the_merge_of_a_node_that_was_killed_is_taken_up_within_a_minute() {
    run(async {
        let backend = ScriptedStore::new();
        let (killed, other) = (Node::new(&backend, 1), Node::new(&backend, 2));
        flush_often(&killed, 8).await;
        let indexer = killed.indexer(slow);
        let within = tokio::time::timeout(Duration::from_secs(600), merge(&indexer)).await;
        assert!(within.is_err(), "{within:?}");
        let other = other.indexing(fast);
        seconds(1).await;
        other.engine.newest(&org(), &name("docs")).await.expect("read");
        seconds(62).await;
        assert_eq!((segments(&other).await, leases(&other, "merge").await), (1, 0));
        other.stop.cancel();
    });
}

#[test]
fn what_another_node_has_taken_is_tried_again_as_soon_as_it_may_be() {
    run(async {
        let backend = ScriptedStore::new();
        let node = Node::new(&backend, 1).indexing(fast);
        seconds(1).await;
        lease_to_another(&node, "index", Duration::from_secs(2400)).await;
        node.upsert("docs", 0..10).await;
        seconds(2397).await;
        assert_eq!(node.rows("docs").await, (0, 10));
        seconds(4).await;
        assert_eq!(node.rows("docs").await, (10, 0));
        node.stop.cancel();
    });
}

#[test]
fn what_is_dead_is_dropped_without_a_lease() {
    run(async {
        let backend = ScriptedStore::new();
        let node = Node::new(&backend, 1);
        flush_often(&node, 2).await;
        let ids: Vec<u64> = (0..10).collect();
        node.write("docs", json!({ "deletes": ids })).await;
        let indexer = node.indexer(|o| (o.inline, o.lease_bytes_min) = (false, 1));
        lease_to_another(&node, "merge", Duration::from_secs(2400)).await;
        let flushed = indexer.flush(&org(), &name("docs")).await.expect("flushed");
        assert_eq!((flushed, merge(&indexer).await), (Done::Published, Done::Published));
        assert_eq!((segments(&node).await, node.rows("docs").await), (1, (10, 0)));
    });
}
