//! States of the past, and nodes that live in it.

use super::nodes::{Node, hours, name, one_node, org, same};
use crate::maintenance::gc::Looked;
use crate::maintenance::tests::run;
use crate::model::write::origin::OriginKind;

#[test]
fn what_a_namespace_was_can_be_had_until_it_is_not_kept() {
    run(async {
        let (clock, backend, mut node) = one_node();
        let mut states = Vec::new();
        for n in 0..6 {
            node.upsert("docs", 0..5, n).await;
            if n % 2 == 1 {
                node.flush("docs").await;
            }
            if n == 3 {
                node.merge("docs").await;
            }
            states.push((node.now_ms(), n));
            hours(1).await;
        }
        let before = states[0].0 - 1000;
        node.delete("docs").await;
        hours(1).await;
        node.collect("docs").await;
        let cold = Node::new(&backend, &clock, 2);
        for (at_ms, n) in &states {
            for (kind, target) in [
                (OriginKind::Branch, format!("b{n}")),
                (OriginKind::Copy, format!("c{n}")),
            ] {
                for past_ms in [*at_ms, at_ms + 1_800_000] {
                    let target = format!("{target}-{past_ms}");
                    assert_eq!(cold.restore(kind, "docs", &target, past_ms).await.expect("restored"), 5);
                    assert_eq!(node.rows(&target).await, same(0..5, *n), "{target}");
                }
            }
        }
        for at_ms in [before, node.now_ms() - 1000, node.now_ms() + 1000] {
            assert!(cold.restore(OriginKind::Branch, "docs", "none", at_ms).await.is_err());
        }
        // It comes back under its own name, and its objects stay.
        let (at_ms, n) = states[4];
        node.restore(OriginKind::Branch, "docs", "docs", at_ms)
            .await
            .expect("restored");
        for _ in 0..3 {
            hours(30).await;
            node.collect("docs").await;
        }
        let later = Node::new(&backend, &clock, 3);
        assert_eq!(later.rows("docs").await, same(0..5, n));
        assert!(
            later.restore(OriginKind::Branch, "docs", "none", at_ms).await.is_err(),
            "not kept"
        );
    });
}

#[test]
fn a_node_that_slept_branches_and_reads_what_is_still_there() {
    run(async {
        // How long the node that branches has slept, and between which looks it wakes.
        for (slept, early) in [(1, true), (11, true), (13, true), (26, true), (26, false)] {
            let (clock, backend, mut node) = one_node();
            for n in 0..2 {
                node.upsert("docs", 0..10, n).await;
                node.flush("docs").await;
            }
            let sleeper = Node::new(&backend, &clock, 2);
            assert_eq!(sleeper.rows("docs").await, same(0..10, 1));
            node.upsert("docs", 0..10, 2).await;
            node.flush("docs").await;
            node.merge("docs").await;
            hours(slept).await;
            let first = node.look("docs").await.expect("looked");
            assert_eq!(matches!(first, Looked::Planned { .. }), slept > 24, "{first:?}");
            if early {
                sleeper.branch("docs", "twig").await.expect("branched");
            }
            node.collect("docs").await;
            if !early {
                sleeper.branch("docs", "twig").await.expect("branched");
            }
            for _ in 0..2 {
                hours(30).await;
                node.collect("docs").await;
                node.collect("twig").await;
            }
            let cold = Node::new(&backend, &clock, 3);
            for reader in [&sleeper, &cold, &node] {
                for namespace in ["docs", "twig"] {
                    assert_eq!(reader.rows(namespace).await, same(0..10, 2), "{slept} {namespace}");
                }
            }
        }
    });
}

/// A name that is deleted and branched back before the deletion is in segments names segments that its newest manifest
/// names as well, as those of another life.
#[test]
fn a_name_that_comes_back_at_once_is_still_put_into_segments() {
    run(async {
        let (clock, backend, node) = one_node();
        node.upsert("docs", 0..5, 1).await;
        node.flush("docs").await;
        node.branch("docs", "twig").await.expect("branched");
        node.engine.delete(&org(), &name("docs")).await.expect("deleted");
        node.branch("twig", "docs").await.expect("branched");
        node.upsert("docs", 5..6, 2).await;
        node.flush("docs").await;
        let cold = Node::new(&backend, &clock, 2);
        assert_eq!(cold.rows("docs").await.len(), 6);
        let newest = cold.engine.newest(&org(), &name("docs")).await.expect("readable");
        assert_eq!(newest.unindexed_rows(), 0, "all is in segments");
    });
}
