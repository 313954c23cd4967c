//! Copies of namespaces whose rows are in segments.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::{FutureExt, TryStreamExt};
use serde_json::{Value as Json, json};

use super::engine::{Node, name, org};
use super::faults::{LARGE, large_segment, numbers};
use super::*;
use crate::manifest::Pin;
use crate::manifest::tests::scripted::{Call, ScriptedStore};
use crate::model::write::origin::OriginKind;
use crate::namespace::{CopyFrom, CopyOutcome, Progress};
use crate::store::paths::{self, NsKey};

async fn copy(node: &Node, to: &str) -> crate::error::Result<CopyOutcome> {
    node.engine
        .copy(&org(), &name(to), &from_docs(), &Progress::default())
        .await
}

fn from_docs() -> CopyFrom {
    CopyFrom {
        kind: OriginKind::Copy,
        org: org(),
        source: name("docs"),
        guard: None,
        num_shards: None,
        create_namespace: None,
    }
}

/// Removes every object of a namespace.
async fn wipe(node: &Node, namespace: &str) {
    let ns = NsKey::new(org(), name(namespace));
    let listed = node.store.list(&paths::upkeep::namespace_prefix(&ns), None);
    for object in listed.try_collect::<Vec<_>>().await.expect("listed") {
        node.store.delete(&object.location).await.expect("deleted");
    }
}

#[test]
fn a_namespace_larger_than_the_memory_is_copied() {
    run(async {
        let backend = ScriptedStore::new();
        let writer = Node::new(&backend, 1);
        large_segment(&writer).await;
        writer
            .write("docs", json!({"patch_rows": [{"id": 7, "n": 700}], "deletes": [8]}))
            .await;
        let mut expected = numbers(0..LARGE);
        expected.insert(7, 700);
        expected.remove(&8);
        // Its rows take more than a MiB.
        let small = Node::with_memory(&backend, 2, 1 << 20);
        let copied = copy(&small, "copy").await.expect("copied");
        assert_eq!(copied.rows, LARGE - 1);
        assert_eq!(
            small.rows("copy").await,
            (LARGE as usize - 2, 1),
            "only the tail is in the entry"
        );
        assert_eq!(small.read("copy").await, expected);
        // Nothing of the source is needed any more.
        wipe(&writer, "docs").await;
        let fresh = Node::new(&backend, 3);
        assert_eq!(fresh.read("copy").await, expected);
        fresh.write("copy", json!({"deletes": [9]})).await;
        let indexer = fresh.indexer(|o| (o.inline, o.merge_dead_percent) = (false, 0));
        indexer.flush(&org(), &name("copy")).await.expect("flushed");
        assert_eq!(
            indexer.merge(&org(), &name("copy")).await.expect("merged"),
            Done::Published
        );
        expected.remove(&9);
        assert_eq!(Node::new(&backend, 4).read("copy").await, expected);
    });
}

#[test]
fn a_copy_into_an_empty_namespace_takes_its_schema_and_its_rows() {
    run(async {
        let backend = ScriptedStore::new();
        let node = Node::new(&backend, 1);
        large_segment(&node).await;
        node.write("copy", json!({"upsert_rows": [{"id": 1, "other": "x", "n": 1}]}))
            .await;
        node.write("copy", json!({"deletes": [1]})).await;
        copy(&node, "copy").await.expect("copied");
        assert_eq!(
            node.rows("copy").await,
            (0, LARGE as usize),
            "all of it is in the entry"
        );
        wipe(&node, "docs").await;
        assert_eq!(Node::new(&backend, 2).read("copy").await, numbers(0..LARGE));
        assert!(copy(&node, "copy").await.is_err(), "it has rows now");
    });
}

#[test]
fn where_the_store_cannot_copy_objects_they_come_through_the_node() {
    run(async {
        let backend = ScriptedStore::new();
        let node = Node::new(&backend, 1);
        large_segment(&node).await;
        let refused = Arc::new(AtomicBool::new(false));
        backend.listen(move |call, key| {
            let is_first =
                call == Call::Put && key.as_ref().contains("/seg/") && !refused.swap(true, Ordering::Relaxed);
            async move { is_first.then_some(Fault::Denied) }.boxed()
        });
        copy(&node, "copy").await.expect("copied");
        assert_eq!(node.rows("copy").await, (LARGE as usize, 0));
        assert_eq!(Node::new(&backend, 2).read("copy").await, numbers(0..LARGE));
    });
}

#[test]
fn a_copy_that_fails_leaves_the_destination_as_it_was() {
    run(async {
        let backend = ScriptedStore::new();
        let node = Node::new(&backend, 1);
        large_segment(&node).await;
        for failing in ["/seg/", "/pin/", "/wal/"] {
            let to = failing.trim_matches('/');
            backend.listen(move |call, key| {
                let fails = call == Call::Put && key.as_ref().contains(failing);
                async move { fails.then_some(Fault::Denied) }.boxed()
            });
            assert!(copy(&node, to).await.is_err(), "{failing}");
            backend.heal();
            assert_eq!(node.rows(to).await, (0, 0), "{failing}");
            copy(&node, to).await.expect("copied");
            assert_eq!(node.read(to).await, numbers(0..LARGE), "{failing}");
        }
    });
}

/// Rows in one segment, of which every other one is deleted: more than a manifest holds of one segment.
const HALF: u64 = 8_400;

async fn half_deleted(node: &Node) -> BTreeMap<u64, i64> {
    let rows: Vec<Json> = (0..HALF).map(|id| json!({"id": id, "n": id})).collect();
    node.write("docs", json!({ "upsert_rows": rows })).await;
    let indexer = node.indexer(|o| o.inline = false);
    indexer.flush(&org(), &name("docs")).await.expect("flushed");
    let deleted: Vec<u64> = (0..HALF).step_by(2).collect();
    node.write("docs", json!({ "deletes": deleted })).await;
    (0..HALF).filter(|id| id % 2 == 1).map(|id| (id, id as i64)).collect()
}

async fn objects(node: &Node, namespace: &str, kind: &str) -> Vec<String> {
    let prefix = paths::upkeep::namespace_prefix(&NsKey::new(org(), name(namespace)));
    let listed: Vec<_> = node.store.list(&prefix, None).try_collect().await.expect("listed");
    let keys = listed.iter().map(|object| object.location.to_string());
    keys.filter(|key| key.contains(kind)).collect()
}

#[test]
fn what_begins_with_many_deleted_rows_has_them_beside_its_first_entry() {
    run(async {
        let backend = ScriptedStore::new();
        let node = Node::new(&backend, 1);
        let expected = half_deleted(&node).await;
        for kind in [OriginKind::Branch, OriginKind::Copy] {
            let to = kind.field().replace('_', "-");
            let from = CopyFrom { kind, ..from_docs() };
            let progress = Progress::default();
            node.engine
                .copy(&org(), &name(&to), &from, &progress)
                .await
                .expect("begun");
            assert_eq!(objects(&node, &to, "/dv/").await.len(), 1, "{to}");
            let pins = objects(&node, &to, "/pin/").await;
            let pin = node
                .store
                .get(&pins[0].as_str().into())
                .await
                .expect("readable")
                .expect("there");
            let pin = Pin::decode(&pin).expect("a hold");
            assert_eq!((pins.len(), pin.deletions.len()), (1, 1), "{to}");
            assert_eq!(pin.segments.len(), usize::from(kind == OriginKind::Copy), "{to}");
            assert_eq!(node.read(&to).await, expected, "{to}");
            let fresh = Node::new(&backend, 2);
            assert_eq!(fresh.read(&to).await, expected, "{to}");
            let indexer = fresh.indexer(|o| o.inline = false);
            indexer.flush(&org(), &name(&to)).await.expect("flushed");
            assert_eq!(Node::new(&backend, 3).read(&to).await, expected, "{to}");
        }
    });
}

#[test]
fn a_branch_whose_deleted_rows_the_store_does_not_take_is_not_begun() {
    run(async {
        let backend = ScriptedStore::new();
        let node = Node::new(&backend, 1);
        let expected = half_deleted(&node).await;
        backend.listen(|call, key| {
            let fails = call == Call::Put && key.as_ref().contains("/dv/");
            async move { fails.then_some(Fault::Denied) }.boxed()
        });
        assert!(copy(&node, "copy").await.is_err());
        assert_eq!(node.rows("copy").await, (0, 0));
        backend.heal();
        copy(&node, "copy").await.expect("copied");
        assert_eq!(node.read("copy").await, expected);
    });
}
