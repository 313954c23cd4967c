//! Things that go wrong beside the store's requests: reads after a write is durable, jobs that panic, full disks, and
//! rivals at every step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use serde_json::json;

use super::engine::{Node, name, org, seconds};
use super::*;
use crate::manifest::tests::scripted::{Call, ScriptedStore};

/// What is expected of rows `ids` that have their ids for numbers.
pub fn numbers(ids: std::ops::Range<u64>) -> BTreeMap<u64, i64> {
    ids.map(|id| (id, id as i64)).collect()
}

async fn flush_now(node: &Node) -> Result<Done, IndexError> {
    let indexer = node.indexer(|o| o.inline = false);
    indexer.flush(&org(), &name("docs")).await
}

/// Rows `0..2000` with their ids for numbers, in a segment too large to be in the cache once it is open.
pub async fn large_segment(node: &Node) {
    let mut noise = 1u64;
    let mut word = || {
        noise = noise
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        format!("{noise:016x}")
    };
    let mut row = |id: u64| {
        let text: Vec<String> = (0..40).map(|_| word()).collect();
        json!({"id": id, "n": id, "text": text.concat()})
    };
    let rows: Vec<_> = (0..LARGE).map(&mut row).collect();
    let schema = json!({"text": {"type": "string", "filterable": false}});
    node.write("docs", json!({"upsert_rows": rows, "schema": schema})).await;
    flush_now(node).await.expect("flushed");
}

pub const LARGE: u64 = 2_000;

#[test]
fn a_write_whose_stored_rows_cannot_be_read_after_it_is_durable_is_there_once() {
    run(async {
        for patched in [true, false] {
            let backend = ScriptedStore::new();
            let first = Node::new(&backend, 1);
            large_segment(&first).await;
            // Nothing of the segments is in the memory of this one.
            let node = Node::new(&backend, 2);
            assert_eq!(node.rows("docs").await, (LARGE as usize, 0));
            let durable = Arc::new(AtomicBool::new(false));
            let failed = Arc::new(AtomicU64::new(0));
            backend.listen({
                let (durable, failed) = (durable.clone(), failed.clone());
                move |call, key| {
                    let key = key.as_ref();
                    if call == Call::Put && key.contains("/wal/") {
                        durable.store(true, Ordering::Relaxed);
                    }
                    let fails = call == Call::Get && key.contains("/seg/") && durable.load(Ordering::Relaxed);
                    failed.fetch_add(u64::from(fails), Ordering::Relaxed);
                    async move { fails.then_some(Fault::Before) }.boxed()
                }
            });
            let body = match patched {
                // Its old values are read after the PUT has begun, and cannot be.
                true => json!({"patch_rows": [{"id": 7, "n": 700}, {"id": 8, "n": 800}]}),
                false => json!({"upsert_rows": [{"id": 7, "n": 700}, {"id": 8, "n": 800}]}),
            };
            node.write("docs", body).await;
            let is_applied = node
                .engine
                .opened(&org(), &name("docs"))
                .expect("open")
                .unindexed_rows()
                == 2;
            assert!(is_applied || failed.load(Ordering::Relaxed) > 0);
            let mut expected = numbers(0..LARGE);
            expected.extend([(7, 700), (8, 800)]);
            backend.heal();
            // The store is asked again in a moment.
            seconds(2).await;
            assert_eq!(node.read("docs").await, expected, "patched: {patched}");
            assert_eq!(first.read("docs").await, expected);
            assert_eq!(Node::new(&backend, 3).read("docs").await, expected);
            flush_now(&node).await.expect("flushed");
            assert_eq!(node.manifest("docs").await.expect("there").rows(), LARGE);
            assert_eq!(Node::new(&backend, 4).read("docs").await, expected);
        }
    });
}

#[test]
fn entries_are_applied_when_the_segments_can_be_read_again() {
    run(async {
        let backend = ScriptedStore::new();
        let writer = Node::new(&backend, 1);
        large_segment(&writer).await;
        // A node that follows, and cannot read what the entries of another name.
        let follower = Node::new(&backend.aside(), 2);
        let path = backend.aside();
        let blind = Node::new(&path, 3);
        assert_eq!(
            (follower.rows("docs").await, blind.rows("docs").await),
            ((LARGE as usize, 0), (LARGE as usize, 0))
        );
        path.listen(|call, key| {
            let fails = call == Call::Get && key.as_ref().contains("/seg/");
            async move { fails.then_some(Fault::Before) }.boxed()
        });
        writer.write("docs", json!({"patch_rows": [{"id": 3, "n": 300}]})).await;
        writer.write("docs", json!({"deletes": [4]})).await;
        assert!(
            blind.engine.newest(&org(), &name("docs")).await.is_err(),
            "it cannot say what the log says"
        );
        path.heal();
        seconds(2).await;
        let mut expected = numbers(0..LARGE);
        expected.insert(3, 300);
        expected.remove(&4);
        for node in [&writer, &follower, &blind] {
            assert_eq!(node.read("docs").await, expected);
        }
    });
}

#[test]
fn a_job_that_panics_gives_back_its_place_and_is_done_later() {
    run(async {
        let backend = ScriptedStore::new();
        let panics = Arc::new(AtomicU64::new(0));
        backend.listen({
            let panics = panics.clone();
            move |call, key| {
                let hits = call == Call::Put && key.as_ref().contains("/man/");
                if hits && panics.fetch_add(1, Ordering::Relaxed) < 10 {
                    panic!("on purpose");
                }
                async { None }.boxed()
            }
        });
        let node = Node::new(&backend, 1).indexing(|o| {
            (o.flush_entries, o.flushes_at_once, o.jobs_per_org) = (0, 1, 1);
        });
        for namespace in ["a", "b", "docs"] {
            node.upsert(namespace, 0..10).await;
        }
        seconds(600).await;
        assert!(panics.load(Ordering::Relaxed) > 10);
        for namespace in ["a", "b", "docs"] {
            assert_eq!(node.rows(namespace).await, (10, 0), "{namespace}");
        }
        assert_eq!(node.read("docs").await, numbers(0..10));
        assert_eq!(node.marked().await, 0);
        node.stop.cancel();
    });
}

#[test]
fn a_full_disk_holds_up_flushes_and_loses_nothing() {
    run(async {
        for full in ["/seg/", "/man/", "/dv/", "head"] {
            let backend = ScriptedStore::new();
            let node = Node::new(&backend, 1).indexing(|o| (o.inline, o.flush_entries) = (false, 0));
            node.upsert("docs", 0..30).await;
            seconds(60).await;
            backend.listen(move |call, key| {
                let fails = call == Call::Put && key.as_ref().contains(full);
                async move { fails.then_some(Fault::Full) }.boxed()
            });
            node.upsert("docs", 20..40).await;
            seconds(300).await;
            assert_eq!(node.read("docs").await, numbers(0..40), "{full}");
            assert_eq!(
                Node::new(&backend.aside(), 2).read("docs").await,
                numbers(0..40),
                "{full}"
            );
            backend.heal();
            seconds(120).await;
            assert_eq!(node.rows("docs").await, (40, 0), "{full}");
            assert_eq!(node.marked().await, 0);
            assert_eq!(Node::new(&backend, 3).read("docs").await, numbers(0..40), "{full}");
            node.stop.cancel();
        }
    });
}

/// What a rival does at some moment.
#[derive(Clone, Copy, Debug)]
enum Rival {
    Flushes,
    Merges,
    /// Writes, flushes and merges.
    Everything,
}

/// Two segments of ten rows, a row replaced, a row deleted, not flushed.
async fn some_state(node: &Node) {
    node.upsert("docs", 0..10).await;
    flush_now(node).await.expect("flushed");
    node.upsert("docs", 8..20).await;
    flush_now(node).await.expect("flushed");
    node.write("docs", json!({"patch_rows": [{"id": 3, "n": 300}], "deletes": [4]}))
        .await;
}

/// Flushes and merges. What others did first is not done.
async fn jobs(node: &Node) {
    let indexer = node.indexer(|o| (o.inline, o.merge_fan_out) = (false, 2));
    for is_merge in [false, true, false, true] {
        let done = match is_merge {
            true => indexer.merge(&org(), &name("docs")).await,
            false => indexer.flush(&org(), &name("docs")).await,
        };
        done.expect("a rival is no failure");
    }
}

#[test]
fn a_rival_indexer_at_each_step_costs_work_and_no_rows() {
    run(async {
        let count = async |backend: &ScriptedStore| {
            let node = Node::new(backend, 1);
            some_state(&node).await;
            let before = backend.calls();
            jobs(&node).await;
            backend.calls() - before
        };
        let calls = count(&ScriptedStore::new()).await;
        assert!(calls > 10, "{calls}");
        for kind in [Rival::Flushes, Rival::Merges, Rival::Everything] {
            for step in 0..calls {
                let backend = ScriptedStore::new();
                let node = Node::new(&backend, 1);
                some_state(&node).await;
                let rival = Arc::new(Node::new(&backend.aside(), 2));
                let at = Arc::new(AtomicU64::new(0));
                backend.listen({
                    let rival = rival.clone();
                    move |_, _| {
                        let (rival, now) = (rival.clone(), at.fetch_add(1, Ordering::Relaxed));
                        async move {
                            if now == step {
                                let indexer = rival.indexer(|o| (o.inline, o.merge_fan_out) = (false, 2));
                                if matches!(kind, Rival::Everything) {
                                    rival.upsert("docs", 30..33).await;
                                }
                                if !matches!(kind, Rival::Merges) {
                                    indexer.flush(&org(), &name("docs")).await.expect("flushed");
                                }
                                if !matches!(kind, Rival::Flushes) {
                                    indexer.merge(&org(), &name("docs")).await.expect("merged");
                                }
                            }
                            None
                        }
                        .boxed()
                    }
                });
                jobs(&node).await;
                backend.heal();
                let mut expected = numbers(0..20);
                expected.insert(3, 300);
                expected.remove(&4);
                if matches!(kind, Rival::Everything) {
                    expected.extend(numbers(30..33));
                }
                flush_now(&node).await.expect("flushed");
                for reader in [&node, &*rival, &Node::new(&backend, 3)] {
                    assert_eq!(reader.read("docs").await, expected, "{kind:?} before call {step}");
                }
                let manifest = node.manifest("docs").await.expect("there");
                assert_eq!(manifest.rows(), expected.len() as u64, "{kind:?} before call {step}");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
}
