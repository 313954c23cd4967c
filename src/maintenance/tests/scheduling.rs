//! What is looked at when, and whose turn it is.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use serde_json::json;

use super::engine::{Node, name, org, seconds};
use super::*;
use crate::manifest::tests::scripted::{Call, ScriptedStore, is_manifest};
use crate::model::OrgId;

/// Writes ten rows and flushes them, so many times; the last flush makes a merge due.
async fn due_to_merge(node: &Node) {
    let indexer = node.indexer(|o| o.inline = false);
    for batch in 0..8 {
        node.upsert("docs", batch * 10..batch * 10 + 10).await;
        let done = indexer.flush(&org(), &name("docs")).await.expect("flushed");
        assert_eq!(done, Done::Published);
    }
    assert!(indexer.merge_due(&org(), &name("docs")).is_some());
    assert_eq!(node.marked().await, 1, "so that the merge is not forgotten");
}

#[test]
fn what_others_write_while_it_is_merged_here_is_flushed_here() {
    run(async {
        let backend = ScriptedStore::new();
        let writer = Node::new(&backend, 1);
        due_to_merge(&writer).await;
        // The merge takes longer than the test.
        let node = Node::new(&backend, 2).indexing(|o| {
            (o.inline, o.flush_entries, o.merge_bytes_per_second) = (false, 0, 1);
            o.foreign_wait = Duration::ZERO;
        });
        seconds(60).await;
        assert_eq!(node.rows("docs").await, (80, 0));
        let looks = backend.count(|call, key| call == Call::Get && key.as_ref().contains("/wal/"));
        seconds(100).await;
        let looked = looks.load(Ordering::Relaxed);
        // Each look asks for the entry after the last one, and perhaps once more to remove the marker.
        assert!((5..=20).contains(&looked), "{looked} times in 100 seconds");
        backend.heal();
        writer.upsert("docs", 80..90).await;
        seconds(20).await;
        let manifest = writer.manifest("docs").await.expect("there");
        assert_eq!(
            (manifest.rows(), manifest.segments.len()),
            (90, 9),
            "flushed, and not merged yet"
        );
        assert_eq!(writer.marked().await, 1);
        node.stop.cancel();
    });
}

#[test]
fn a_look_flushes_nothing() {
    run(async {
        let backend = ScriptedStore::new();
        let writer = Node::new(&backend, 1);
        writer.upsert("docs", 0..10).await;
        let node = Node::new(&backend, 2);
        let indexer = node.indexer(|o| (o.flush_entries, o.small_quiet) = (0, Duration::ZERO));
        let puts = backend.count(|call, _| call == Call::Put);
        for _ in 0..3 {
            let done = indexer.look(&org(), &name("docs")).await.expect("looked");
            assert_eq!(done, Done::Elsewhere, "its flush waits for its turn");
        }
        assert_eq!(puts.load(Ordering::Relaxed), 0);
        assert_eq!((node.rows("docs").await, node.marked().await), ((0, 10), 1));
        assert!(node.manifest("docs").await.is_none());
        let done = indexer.flush(&org(), &name("docs")).await.expect("flushed");
        assert_eq!((done, node.marked().await), (Done::Published, 0));
        // When there is nothing to do, it removes a marker that was left.
        backend.heal();
        let ns = crate::store::paths::NsKey::new(org(), name("docs"));
        let marker = crate::store::paths::dirty_marker(&ns);
        node.store.put(&marker, "").await.expect("put");
        let done = indexer.look(&org(), &name("docs")).await.expect("looked");
        assert_eq!((done, node.marked().await), (Done::Nothing, 0));
    });
}

/// A merge goes by the schema of the manifest: what only the tail asks for it cannot make, and would be tried again and
/// again.
#[test]
fn indexes_that_only_the_tail_asks_for_make_no_merge_due() {
    run(async {
        let backend = ScriptedStore::new();
        let node = Node::new(&backend, 1);
        let indexer = node.indexer(|o| o.inline = false);
        let rows: Vec<_> = (0..20)
            .map(|id| json!({"id": id, "text": format!("word {id}")}))
            .collect();
        let plain = json!({"text": {"type": "string", "filterable": false}});
        node.write("docs", json!({"upsert_rows": rows, "schema": plain})).await;
        let (org, docs) = (org(), name("docs"));
        let flush = async || indexer.flush(&org, &docs).await.expect("flushed");
        let merge = async || indexer.merge(&org, &docs).await.expect("merged");
        assert_eq!(flush().await, Done::Published);
        let ask = async |schema| {
            let row = json!([{"id": 99, "text": "word"}]);
            node.write("docs", json!({"upsert_rows": row, "schema": schema})).await;
        };
        ask(json!({"text": {"type": "string", "filterable": true}})).await;
        assert_eq!(indexer.look(&org, &docs).await.expect("looked"), Done::Elsewhere);
        assert_eq!(indexer.merge_due(&org, &docs), None, "after a look");
        assert_eq!(merge().await, Done::Nothing);
        assert_eq!(flush().await, Done::Published);
        assert!(indexer.merge_due(&org, &docs).is_some(), "now the manifest asks for it");
        // Meanwhile the next one is asked for.
        ask(json!({"text": {"type": "string", "filterable": true, "full_text_search": true}})).await;
        assert_eq!(merge().await, Done::Published);
        assert_eq!(indexer.merge_due(&org, &docs), None, "after a merge");
        assert_eq!(merge().await, Done::Nothing);
        assert_eq!(flush().await, Done::Published);
        // Each merge rewrites some of them.
        let segments = node.manifest("docs").await.expect("flushed").segments.len();
        let mut merges = 0;
        while merge().await == Done::Published {
            merges += 1;
        }
        assert!((1..=segments).contains(&merges), "{merges} merges");
        assert_eq!((merge().await, node.marked().await), (Done::Nothing, 0));
        let snapshot = node.engine.newest(&org, &docs).await.expect("read");
        assert!(
            snapshot
                .segments
                .iter()
                .all(|s| !s.segment.lacks_index(&snapshot.schema))
        );
        assert_eq!(snapshot.rows(), 21);
    });
}

#[test]
fn one_dirty_namespace_does_not_wait_for_the_many_of_another_organization() {
    run(async {
        const MANY: usize = 1_000;
        let backend = ScriptedStore::new();
        let writer = Node::new(&backend, 1);
        let (many, one) = (org(), OrgId::parse("zz").expect("an organization"));
        let rows = json!({"upsert_rows": [{"id": 1, "n": 1}]});
        for n in 0..MANY {
            let written = writer.try_write(&many, &format!("n{n}"), rows.clone()).await;
            written.expect("written");
        }
        writer.try_write(&one, "only", rows).await.expect("written");
        // Whose manifests are published, in their order. Each takes a while, as in a real store.
        let order = Arc::new(Mutex::new(Vec::new()));
        backend.listen({
            let order = order.clone();
            move |call, key| {
                if is_manifest(call, key) {
                    order.lock().expect("whole").push(key.as_ref().contains("/zz/"));
                }
                async {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    None
                }
                .boxed()
            }
        });
        let node = Node::new(&backend, 2).indexing(|o| (o.flush_entries, o.foreign_wait) = (0, Duration::ZERO));
        let order = || order.lock().expect("whole").clone();
        while order().len() < 100 {
            seconds(1).await;
        }
        let at = order().into_iter().position(|is_one| is_one);
        assert!(at.is_some_and(|at| at < 10), "it was number {at:?}");
        seconds(300).await;
        assert_eq!((order().len(), node.marked().await), (MANY + 1, 0), "each once");
        node.stop.cancel();
    });
}

/// The same while the many never end: each is dirty again at once.
#[test]
fn one_dirty_namespace_does_not_wait_for_a_stream_of_others() {
    run(async {
        let backend = ScriptedStore::new();
        let node = Node::new(&backend, 1).indexing(|o| {
            (o.flush_entries, o.flush_pause) = (0, Duration::ZERO);
        });
        backend.before(is_manifest, |_| tokio::time::sleep(Duration::from_millis(200)));
        let (many, one) = (org(), OrgId::parse("zz").expect("an organization"));
        let rows = json!({"upsert_rows": [{"id": 1, "n": 1}]});
        let write = async |org: &OrgId, namespace: &str| {
            let written = node.try_write(org, namespace, rows.clone()).await;
            written.expect("written");
        };
        for round in 0..20 {
            for n in 0..20 {
                write(&many, &format!("n{n}")).await;
            }
            if round == 10 {
                write(&one, "only").await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let snapshot = node.engine.newest(&one, &name("only")).await.expect("read");
        assert_eq!(snapshot.unindexed_rows(), 0, "a second after it was written");
        node.stop.cancel();
    });
}

#[test]
fn a_merge_is_no_faster_than_it_may_be() {
    run(async {
        let backend = ScriptedStore::new();
        let node = Node::new(&backend, 1);
        due_to_merge(&node).await;
        let manifest = node.manifest("docs").await.expect("flushed");
        let read: u64 = manifest.segments.iter().map(|s| s.meta.unpacked_bytes()).sum();
        let merge = async |rate: u64| {
            let start = tokio::time::Instant::now();
            let indexer = node.indexer(|o| (o.inline, o.merge_bytes_per_second) = (false, rate));
            let done = indexer.merge(&org(), &name("docs")).await.expect("merged");
            assert_eq!(done, Done::Published);
            start.elapsed()
        };
        // What is written is waited for by what comes after it.
        let took = merge(read / 10).await;
        assert!((5..30).contains(&took.as_secs()), "{took:?} for {read} bytes");
    });
}
