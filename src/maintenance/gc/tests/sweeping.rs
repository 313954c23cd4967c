//! Lost markers are found again.

use std::time::Duration;

use futures::TryStreamExt;

use super::nodes::{Node, clock, hours, ns, one_node, same};
use super::store::Dated;
use crate::base::{Clock, TokioClock};
use crate::maintenance::gc::sweep::last_finished;
use crate::maintenance::gc::{Swept, sweep_if_due};
use crate::maintenance::tests::run;
use crate::store::paths::{self, NsKey};

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn sweep(node: &Node) -> Option<Swept> {
    let swept = sweep_if_due(&node.store, &node.runtime, DAY).await;
    swept.expect("swept")
}

async fn dirty(node: &Node) -> Vec<NsKey> {
    let listed = node.store.list(&paths::dirty_markers(), None);
    let markers: Vec<_> = listed.try_collect().await.expect("listed");
    markers
        .iter()
        .filter_map(|m| paths::parse_dirty_marker(&m.location))
        .collect()
}

async fn forget(node: &Node, namespace: &str) {
    for marker in [
        paths::collection_marker(&ns(namespace)),
        paths::dirty_marker(&ns(namespace)),
    ] {
        node.store.delete(&marker).await.expect("deleted");
    }
}

#[test]
fn what_lost_its_markers_is_marked_again() {
    run(async {
        let (_, backend, mut node) = one_node();
        assert_eq!(sweep(&node).await, Some(Swept::default()), "nothing is there");
        // One has garbage, one a tail, one both in time, one never got a manifest, one is gone and leaves garbage.
        for namespace in ["garbage", "tail", "gone", "fine"] {
            for n in 0..2 {
                node.upsert(namespace, 0..5, n).await;
                node.flush(namespace).await;
            }
        }
        node.upsert("tail", 0..5, 7).await;
        node.upsert("small", 0..5, 1).await;
        node.delete("gone").await;
        // Nodes write dirty markers once more after some seconds.
        tokio::time::sleep(Duration::from_secs(30)).await;
        for namespace in ["garbage", "tail", "gone", "small"] {
            forget(&node, namespace).await;
        }
        node.store
            .put(&paths::collection_marker(&ns("fine")), Vec::new())
            .await
            .expect("put");
        assert_eq!(sweep(&node).await, None, "once a day");
        tokio::time::sleep(DAY).await;
        let expected = Swept {
            namespaces: 5,
            dirty: 2,
            garbage: 3,
        };
        assert_eq!(sweep(&node).await, Some(expected));
        // One that has a segment without live rows keeps its marker until that is merged away.
        assert_eq!(dirty(&node).await, [ns("fine"), ns("small"), ns("tail")]);
        let mut marked = node.marked().await;
        marked.sort();
        assert_eq!(marked, [ns("fine"), ns("garbage"), ns("gone"), ns("tail")]);
        // Another day: nothing is lost, and what nobody has written to is not asked for.
        for namespace in ["garbage", "tail", "gone", "fine"] {
            node.flush(namespace).await;
            node.collect(namespace).await;
        }
        hours(48).await;
        for namespace in ["garbage", "tail", "gone", "fine"] {
            node.collect(namespace).await;
            forget(&node, namespace).await;
        }
        sweep(&node).await.expect("its turn");
        for marker in [paths::collection_markers(), paths::dirty_markers()] {
            let listed: Vec<_> = node.store.list(&marker, None).try_collect().await.expect("listed");
            for meta in listed {
                node.store.delete(&meta.location).await.expect("deleted");
            }
        }
        tokio::time::sleep(DAY).await;
        backend.take_asked("", "");
        let swept = sweep(&node).await.expect("its turn");
        assert_eq!((swept.dirty, swept.garbage), (0, 0));
        assert_eq!(backend.take_asked("get", "ns/"), 0, "only listings");
    });
}

#[test]
fn one_node_a_day_sweeps_and_one_that_dies_is_made_up_for() {
    run(async {
        let clock = clock();
        let backend = Dated::new(clock.clone());
        let nodes = [Node::new(&backend, &clock, 1), Node::new(&backend, &clock, 2)];
        for n in 0..2 {
            nodes[0].upsert("docs", 0..5, n).await;
            nodes[0].flush("docs").await;
        }
        // Whichever request is the last.
        for calls in 0..40 {
            forget(&nodes[0], "docs").await;
            nodes[0].upsert("docs", 0..5, calls as i64).await;
            nodes[0].flush("docs").await;
            forget(&nodes[0], "docs").await;
            backend.cut_after(calls);
            let cut = sweep_if_due(&nodes[0].store, &nodes[0].runtime, DAY).await;
            let was_cut = backend.was_cut();
            backend.heal();
            assert_eq!(cut.is_err(), was_cut, "{calls}: {cut:?}");
            tokio::time::sleep(DAY).await;
            let [a, b] = [sweep(&nodes[1]).await, sweep(&nodes[0]).await];
            assert!(a.is_some() && b.is_none(), "{calls}: {a:?} {b:?}");
            assert_eq!(nodes[0].marked().await, [ns("docs")], "{calls}");
            tokio::time::sleep(DAY).await;
            if !was_cut {
                let left = nodes[0].store.list(&paths::upkeep::sweeps(), None);
                assert_eq!(left.try_collect::<Vec<_>>().await.expect("listed").len(), 1);
                return;
            }
        }
        panic!("a sweep has fewer requests");
    });
}

#[test]
fn a_turn_of_a_clock_that_was_years_ahead_counts_for_nothing() {
    run(async {
        let (.., node) = one_node();
        let ahead = paths::upkeep::sweep(1_000_000);
        node.store.put(&ahead, b"{}".to_vec()).await.expect("put");
        assert!(sweep(&node).await.is_some());
        assert!(sweep(&node).await.is_none());
        assert_eq!(node.store.get(&ahead).await.expect("asked for"), None);
    });
}

#[test]
fn a_node_with_the_role_finds_lost_garbage_by_itself() {
    run(async {
        let (clock, backend, node) = one_node();
        for n in 0..3 {
            node.upsert("docs", 0..5, n).await;
            node.flush("docs").await;
        }
        // A node that was there when it was published, and died before it said so.
        let other = Node::new(&backend, &clock, 2);
        other.start_collecting(true);
        hours(80).await;
        let left = other.objects("docs").await;
        assert_eq!((left["manifest"], left["entry"]), (1, 1));
        assert_eq!(other.marked().await, []);
        assert_eq!(other.rows("docs").await, same(0..5, 2));
    });
}

/// A node whose clock is hours ahead must not make the next sweep believe that it covers what was written meanwhile.
#[test]
fn what_is_written_after_a_sweep_by_a_clock_that_is_ahead_is_found() {
    run(async {
        let (clock, backend, node) = one_node();
        for hours_ahead in [5, 30] {
            let ahead = TokioClock::new(clock.wall() + Duration::from_secs(hours_ahead * 3600));
            let wrong = Node::new(&backend, &ahead, 2);
            assert!(sweep(&wrong).await.is_some(), "its turn, it believes");
            // Its last sign of life.
            tokio::time::sleep(Duration::from_secs(1)).await;
            let namespace = format!("late{hours_ahead}");
            node.upsert(&namespace, 0..5, 1).await;
            tokio::time::sleep(Duration::from_secs(30)).await;
            forget(&node, &namespace).await;
            let mut dirty = 0;
            for _ in 0..4 {
                tokio::time::sleep(DAY).await;
                dirty += sweep(&node).await.map_or(0, |swept| swept.dirty);
            }
            assert_eq!(dirty, 1, "{hours_ahead} hours ahead");
            node.flush(&namespace).await;
        }
    });
}

#[test]
fn a_damaged_turn_says_nothing() {
    run(async {
        let (.., node) = one_node();
        sweep(&node).await.expect("its turn");
        let listed: Vec<_> = node
            .store
            .list(&paths::upkeep::sweeps(), None)
            .try_collect()
            .await
            .expect("listed");
        let key = &listed[0].location;
        let whole = node.store.get(key).await.expect("readable").expect("it is there");
        let number = paths::upkeep::parse_sweep(key).expect("a turn");
        let last = async || {
            last_finished(&node.store, &[(number, u64::MAX)])
                .await
                .expect("readable")
        };
        assert!(last().await > 0);
        for at in 0..whole.len() {
            let mut damaged = whole.to_vec();
            damaged[at] ^= 1;
            node.store.put(key, damaged).await.expect("put");
            assert_eq!(last().await, 0, "{at}");
        }
    });
}
