//! What went wrong once.

use std::time::Duration;

use object_store::path::Path;
use ulid::Ulid;

use super::nodes::{Node, clock, hours, ns, one_node, same};
use super::store::Dated;
use crate::maintenance::gc::Looked;
use crate::maintenance::tests::run;
use crate::model::write::origin::OriginKind;
use crate::model::{Gen, Seq};
use crate::namespace::EngineOptions;
use crate::store::paths::{self, OperationPart};
use crate::wal::Log;

/// What a name was before it became a branch says nothing of when the branch lets go: its past may still name what it
/// shares, although its newest manifests never did.
#[test]
fn a_hold_for_a_name_that_was_used_before_lasts_as_long_as_its_past() {
    run(async {
        let (clock, backend, mut node) = one_node();
        node.upsert("docs", 0..10, 1).await;
        node.flush("docs").await;
        node.upsert("twig", 0..3, 9).await;
        node.flush("twig").await;
        node.delete("twig").await;
        node.branch("docs", "twig").await.expect("branched");
        node.delete("docs").await;
        // Deleted again much later, and put into segments at once: no manifest ever names what it shares.
        hours(23).await;
        let alive_ms = node.now_ms() - 1000;
        node.delete("twig").await;
        // By now the hold is older than the grace time.
        hours(3).await;
        node.collect("docs").await;
        node.collect("docs").await;
        assert_eq!(node.objects("docs").await["pin"], 1);
        let cold = Node::new(&backend, &clock, 2);
        let restored = cold.restore(OriginKind::Branch, "twig", "back", alive_ms).await;
        restored.expect("restored");
        assert_eq!(cold.rows("back").await, same(0..10, 1));
        // In the end nothing is held.
        cold.delete("back").await;
        for _ in 0..3 {
            hours(30).await;
            for namespace in ["twig", "back", "docs"] {
                node.collect(namespace).await;
            }
        }
        assert_eq!(node.objects("docs").await.get("pin"), None);
        assert_eq!(node.objects("docs").await.get("segment"), None);
    });
}

#[test]
fn what_a_namespace_published_is_marked_although_it_was_closed_at_once() {
    run(async {
        let clock = clock();
        let backend = Dated::new(clock.clone());
        let options = EngineOptions {
            open_namespaces_max: 1,
            ..EngineOptions::default()
        };
        let node = Node::with(&backend, &clock, 1, options);
        let stop = node.start_collecting(false);
        for _ in 0..2 {
            for namespace in ["docs", "other"] {
                node.upsert(namespace, 0..5, 1).await;
                node.flush(namespace).await;
            }
        }
        tokio::time::sleep(Duration::from_secs(21)).await;
        let mut marked = node.marked().await;
        marked.sort();
        assert_eq!(marked, [ns("docs"), ns("other")]);
        // Also what it did last.
        node.upsert("last", 0..5, 1).await;
        node.flush("last").await;
        stop.cancel();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(node.marked().await.contains(&ns("last")));
    });
}

#[test]
fn markers_are_written_while_a_namespace_is_looked_at() {
    run(async {
        let (_, backend, node) = one_node();
        node.start_collecting(true);
        for n in 0..40 {
            node.upsert(&format!("slow{n}"), 0..5, 1).await;
            node.flush(&format!("slow{n}")).await;
        }
        // Each look takes until the store is given up.
        backend.slow("lease/gc", Duration::from_secs(7200));
        backend.take_asked("put", "");
        while backend.take_asked("put", "lease/gc") == 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        node.upsert("docs", 0..5, 1).await;
        node.flush("docs").await;
        tokio::time::sleep(Duration::from_secs(21)).await;
        assert!(node.marked().await.contains(&ns("docs")));
    });
}

/// How a copy ended is what its client asks for: it must not be gone while something says that it began.
#[test]
fn how_an_operation_ended_is_forgotten_after_that_it_began() {
    run(async {
        let (.., mut node) = one_node();
        node.upsert("docs", 0..5, 1).await;
        node.flush("docs").await;
        let token = Ulid::from_parts(1, 1);
        let part = |part| paths::operation(&ns("docs"), token, part);
        for which in [OperationPart::Start, OperationPart::Beat(1), OperationPart::Done] {
            node.store.put(&part(which), vec![1]).await.expect("put");
        }
        hours(25).await;
        assert!(matches!(node.look("docs").await, Ok(Looked::Planned { .. })));
        tokio::time::sleep(Duration::from_secs(601)).await;
        assert!(matches!(node.look("docs").await, Ok(Looked::Deleted { .. })));
        let left = async |which| node.store.get(&part(which)).await.expect("readable").is_some();
        assert!(!left(OperationPart::Start).await && !left(OperationPart::Beat(1)).await);
        assert!(left(OperationPart::Done).await, "gone together with the start");
        assert_eq!(node.collect("docs").await, Looked::Clean);
        let left = node.store.get(&part(OperationPart::Done)).await.expect("readable");
        assert!(left.is_none());
    });
}

#[test]
fn collecting_reads_few_manifests_however_many_there_were() {
    run(async {
        let (clock, backend, mut node) = one_node();
        const GENERATIONS: u64 = 60;
        for n in 0..GENERATIONS {
            node.upsert("docs", n..n + 5, 1).await;
            node.flush("docs").await;
            if n % 8 == 7 {
                node.merge("docs").await;
            }
            tokio::time::sleep(Duration::from_secs(600)).await;
        }
        backend.take_asked("get", "/man/");
        for _ in 0..5 {
            assert_eq!(node.look("docs").await.expect("looked"), Looked::Later);
            assert_eq!(backend.take_asked("get", "/man/"), 0, "all is retained");
        }
        let (mut looks, mut read, mut deleted) = (0, 0, 0);
        for _ in 0..40 {
            looks += 1;
            if let Looked::Deleted { objects, .. } = node.look("docs").await.expect("looked") {
                deleted += objects;
            }
            read += backend.take_asked("get", "/man/");
            hours(1).await;
        }
        assert!(deleted > GENERATIONS as usize, "{deleted}");
        assert!(read <= looks && read < GENERATIONS as usize, "{read} by {looks} looks");
        assert_eq!(node.collect("docs").await, Looked::Clean);
        let left = node.objects("docs").await;
        assert_eq!((left["manifest"], left["entry"]), (1, 1), "{left:?}");
        // Nor does a node that comes to it now.
        backend.take_asked("get", "");
        let mut cold = Node::new(&backend, &clock, 2);
        assert_eq!(cold.look("docs").await.expect("looked"), Looked::Elsewhere);
        tokio::time::sleep(Duration::from_secs(301)).await;
        assert_eq!(cold.look("docs").await.expect("looked"), Looked::Clean);
        assert_eq!(backend.take_asked("get", "/man/"), 1);
        assert_eq!(cold.rows("docs").await, same(0..GENERATIONS + 4, 1));
    });
}

/// Entries 2 to `last` of "docs" are in its second manifest, whose hint was overtaken by that of the first, as a PUT that
/// is late may do it. Everything is staged.
async fn with_an_old_hint(node: &Node, last: u64) {
    node.upsert("docs", 0..10, 1).await;
    node.flush("docs").await;
    let key = ns("docs");
    let old = node.store.get(&paths::manifest(&key, Gen(1))).await.expect("readable");
    for n in 2..=last {
        node.upsert("docs", 0..10, n as i64).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    node.flush("docs").await;
    node.store
        .put(&paths::head(&key), old.expect("published"))
        .await
        .expect("put");
}

/// The keys of entries, and of the blobs that they name.
async fn keys_of(node: &Node, entries: impl Iterator<Item = u64>) -> (Vec<Path>, Vec<Path>) {
    let log = Log::new(node.store.clone(), ns("docs"), node.runtime.cpu.clone());
    let (mut keys, mut blobs) = (Vec::new(), Vec::new());
    for seq in entries.map(Seq) {
        let logged = log.get(seq).await.expect("readable").expect("written");
        keys.push(paths::wal_entry(&ns("docs"), seq));
        blobs.extend(logged.entry.blobs().into_iter().map(|id| paths::blob(&ns("docs"), id)));
    }
    (keys, blobs)
}

pub fn staged() -> EngineOptions {
    EngineOptions {
        stage_bytes_min: 60,
        ..EngineOptions::default()
    }
}

#[test]
fn what_is_collected_while_a_node_opens_a_namespace_is_no_damage() {
    run(async {
        // The last entry of the first window of those that are read at once.
        for (last, trigger) in [(6, 6), (80, 65)] {
            let clock = clock();
            let backend = Dated::new(clock.clone());
            let node = Node::with(&backend, &clock, 1, staged());
            with_an_old_hint(&node, last).await;
            let (entries, blobs) = keys_of(&node, 2..last).await;
            assert!(!blobs.is_empty(), "nothing was staged");
            let gone = match last {
                6 => entries.into_iter().chain(blobs).collect(),
                _ => entries,
            };
            backend.vanish_after(paths::wal_entry(&ns("docs"), Seq(trigger)), gone);
            let cold = Node::new(&backend, &clock, 2);
            assert_eq!(cold.rows("docs").await, same(0..10, last as i64), "{last}");
            cold.upsert("docs", 0..10, 100).await;
            assert_eq!(cold.rows("docs").await, same(0..10, 100), "{last}");
        }
    });
}

#[test]
fn what_is_collected_while_the_past_is_read_breaks_nothing() {
    run(async {
        let clock = clock();
        let backend = Dated::new(clock.clone());
        let node = Node::with(&backend, &clock, 1, staged());
        with_an_old_hint(&node, 6).await;
        let at_ms = node.now_ms() - 3_000;
        let (_, blobs) = keys_of(&node, 2..6).await;
        backend.vanish_after(paths::wal_entry(&ns("docs"), Seq(2)), blobs);
        let cold = Node::new(&backend, &clock, 2);
        // The hint is a good one again.
        node.upsert("docs", 20..21, 7).await;
        node.flush("docs").await;
        let restored = cold.restore(OriginKind::Branch, "docs", "back", at_ms).await;
        assert!(restored.is_err(), "its blobs are gone");
        assert_eq!(cold.rows("docs").await[&20], 7);
        cold.upsert("docs", 20..21, 8).await;
    });
}
