//! Segments that are to be merged are found without another write, and merges end in spite of rivals.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use object_store::path::Path;
use ulid::Ulid;

use super::engine::{Node, name, org, seconds};
use super::*;
use crate::base::CpuPool;
use crate::manifest::tests::scripted::{Call, ScriptedStore, is_manifest};
use crate::manifest::{Manifest, ManifestStore};
use crate::model::Gen;
use crate::segment::SegmentId;
use crate::store::paths::NsKey;

/// Writes and flushes ten rows so many times, each a segment of its own.
pub async fn flush_often(node: &Node, times: u64) {
    let indexer = node.indexer(|o| (o.inline, o.merge_fan_out) = (false, 1_000));
    for batch in 0..times {
        node.upsert("docs", batch * 10..batch * 10 + 10).await;
        let done = indexer.flush(&org(), &name("docs")).await.expect("flushed");
        assert_eq!(done, Done::Published);
    }
    assert_eq!(segments(node).await, times as usize);
}

pub async fn segments(node: &Node) -> usize {
    node.manifest("docs").await.expect("flushed").segments.len()
}

#[test]
fn a_namespace_that_is_opened_is_merged_without_another_write() {
    run(async {
        let backend = ScriptedStore::new();
        flush_often(&Node::new(&backend, 1), 10).await;
        let node = Node::new(&backend, 2).indexing(|o| o.inline = false);
        seconds(300).await;
        assert_eq!(segments(&node).await, 10, "nobody knows of it: its marker went");
        assert_eq!(node.rows("docs").await, (100, 0));
        seconds(30).await;
        assert_eq!(segments(&node).await, 3, "eight became one");
        assert_eq!(node.rows("docs").await, (100, 0));
        node.stop.cancel();
    });
}

#[test]
fn a_marker_stays_while_segments_are_to_be_merged() {
    run(async {
        let backend = ScriptedStore::new();
        let first = Node::new(&backend, 1);
        flush_often(&first, 7).await;
        // The eighth one makes a merge due, which is too slow to end before the node does.
        let first = first.indexing(|o| (o.inline, o.flush_entries, o.merge_bytes_per_second) = (false, 0, 1));
        first.upsert("docs", 70..80).await;
        seconds(60).await;
        assert_eq!((first.rows("docs").await, first.marked().await), ((80, 0), 1));
        first.stop.cancel();
        let second = Node::new(&backend, 2).indexing(|o| (o.inline, o.foreign_wait) = (false, Duration::ZERO));
        seconds(120).await;
        assert_eq!((segments(&second).await, second.marked().await), (1, 0));
        assert_eq!(second.rows("docs").await, (80, 0));
        second.stop.cancel();
    });
}

#[test]
fn a_merge_is_published_however_many_manifests_rivals_publish_meanwhile() {
    run(async {
        let backend = ScriptedStore::new();
        let node = Node::new(&backend, 1);
        flush_often(&node, 8).await;
        let rival = Arc::new(Node::new(&backend.aside(), 2));
        let published = backend.before(is_manifest, {
            let rival = rival.clone();
            move |n| {
                let rival = rival.clone();
                async move {
                    if n < 7 {
                        // One of them replaces a row that is merged.
                        rival.upsert("docs", n * 3..n * 3 + 1).await;
                        let indexer = rival.indexer(|o| (o.inline, o.merge_fan_out) = (false, 1_000));
                        let done = indexer.flush(&org(), &name("docs")).await.expect("flushed");
                        assert_eq!(done, Done::Published);
                    }
                }
            }
        });
        let indexer = node.indexer(|o| o.inline = false);
        let done = indexer.merge(&org(), &name("docs")).await.expect("merged");
        assert_eq!((done, published.load(Ordering::Relaxed)), (Done::Published, 8));
        backend.heal();
        let manifest = node.manifest("docs").await.expect("there");
        assert_eq!((manifest.segments.len(), manifest.rows()), (8, 80));
        let expected: std::collections::BTreeMap<u64, i64> = (0..80).map(|id| (id, id as i64)).collect();
        assert_eq!(node.read("docs").await, expected);
        assert_eq!(rival.read("docs").await, expected);
    });
}

/// As after the namespace was deleted and restored while it was merged: rows that were dead may live again.
#[test]
fn a_merge_is_given_up_when_the_manifest_says_something_else_of_its_segments() {
    run(async {
        let backend = ScriptedStore::new();
        let node = Node::new(&backend, 1);
        flush_often(&node, 8).await;
        let rival = Arc::new(Node::new(&backend.aside(), 2));
        backend.before(is_manifest, move |n| {
            let rival = rival.clone();
            async move {
                if n == 0 {
                    publish(&rival, |next| {
                        let seq = next.indexed_seq;
                        let metas = next.segments.iter_mut().map(|s| &mut s.meta);
                        metas.for_each(|meta| (meta.min_seq, meta.max_seq) = (seq, seq));
                    })
                    .await;
                }
            }
        });
        let indexer = node.indexer(|o| o.inline = false);
        let done = indexer.merge(&org(), &name("docs")).await.expect("given up");
        assert_eq!(done, Done::Abandoned);
        backend.heal();
        let manifest = node.manifest("docs").await.expect("there");
        assert_eq!((manifest.segments.len(), manifest.rows()), (8, 80));
    });
}

/// Publishes a successor of the newest manifest.
async fn publish(node: &Node, change: impl FnOnce(&mut Manifest)) -> Gen {
    let ns = NsKey::new(org(), name("docs"));
    let manifests = ManifestStore::new(node.store.clone(), ns, CpuPool::inline());
    let (newest, digest) = manifests.listed().await.expect("read").expect("there");
    let mut next = Manifest {
        generation: newest.generation.next(),
        prev_digest: digest,
        job: Ulid::from(7u128),
        ..newest
    };
    change(&mut next);
    let published = manifests.publish(&next, &|| true).await.expect("published");
    assert!(matches!(published, crate::manifest::Published::Ours(_)));
    next.generation
}

#[test]
fn a_manifest_that_cannot_be_taken_over_is_not_tried_at_every_look() {
    run(async {
        let backend = ScriptedStore::new();
        let node = Node::new(&backend, 1);
        flush_often(&node, 2).await;
        let whole = node.manifest("docs").await.expect("there");
        let gone = SegmentId(Ulid::from(99u128));
        publish(&node, |m| m.segments[0].meta.id = gone).await;
        let of_it = move |key: &Path| key.as_ref().contains(&gone.0.to_string().to_lowercase());
        let tried = backend.count(move |call, key| call == Call::Get && of_it(key));
        let look = async || node.engine.newest(&org(), &name("docs")).await.is_err();
        for _ in 0..20 {
            assert!(look().await, "it names a segment that is gone");
        }
        let once = tried.load(Ordering::Relaxed);
        // What is missing may be asked for twice, and these looks take some time.
        assert!((1..=4).contains(&once), "tried {once} times");
        seconds(301).await;
        assert!(
            look().await && tried.load(Ordering::Relaxed) > once,
            "it may be there again"
        );
        // A newer one is another matter.
        let good = publish(&node, |m| m.segments = whole.segments.clone()).await;
        let snapshot = node.engine.newest(&org(), &name("docs")).await.expect("whole");
        assert_eq!((snapshot.generation, snapshot.rows()), (good, 20));
    });
}
