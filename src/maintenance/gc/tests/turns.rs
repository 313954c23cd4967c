//! Who is looked at when, who is asked, and what is told to whom.

use std::time::Duration;

use serde_json::json;

use super::nodes::{Node, hours, name, ns, one_node, org, same};
use crate::base::MemoryShare;
use crate::maintenance::gc::Looked;
use crate::maintenance::gc::marks::Marks;
use crate::maintenance::tests::run;
use crate::manifest::ManifestStore;
use crate::model::OrgId;
use crate::model::write::origin::OriginKind;
use crate::namespace::Body;

/// A collection that is under way must not delete segments that are copied into the name meanwhile: it may have written
/// down the names of an earlier copy of the same source.
#[test]
fn a_copy_into_a_name_whose_garbage_is_being_deleted_is_made_and_stays() {
    run(async {
        let (clock, backend, mut node) = one_node();
        node.upsert("docs", 0..10, 1).await;
        node.flush("docs").await;
        let writer = Node::new(&backend, &clock, 2);
        for _ in 0..2 {
            writer.copy(OriginKind::Copy, "docs", "twin").await.expect("copied");
            writer.delete("twin").await;
            hours(25).await;
            // The hold goes first.
            for _ in 0..2 {
                assert!(matches!(node.look("twin").await, Ok(Looked::Planned { .. })));
                tokio::time::sleep(Duration::from_secs(601)).await;
                if node.objects("twin").await.contains_key("pin") {
                    assert!(matches!(node.look("twin").await, Ok(Looked::Deleted { .. })));
                }
            }
            // Between deciding and deleting, the plan is read.
            backend.slow("gc/plan", Duration::from_secs(5));
            let copy = async {
                tokio::time::sleep(Duration::from_secs(2)).await;
                writer.copy(OriginKind::Copy, "docs", "twin").await.expect("copied");
            };
            let (looked, ()) = tokio::join!(node.look("twin"), copy);
            assert!(matches!(looked, Ok(Looked::Deleted { objects: 1.., .. })), "{looked:?}");
            backend.slow("gc/plan", Duration::ZERO);
            let cold = Node::new(&backend, &clock, 3);
            assert_eq!(cold.rows("twin").await, same(0..10, 1));
            // A copy of the copy is as good, and lives without it.
            writer.copy(OriginKind::Copy, "twin", "third").await.expect("copied");
            writer.delete("twin").await;
            assert_eq!(Node::new(&backend, &clock, 4).rows("third").await, same(0..10, 1));
            writer.delete("third").await;
            hours(49).await;
            for namespace in ["twin", "third"] {
                let looked = node.collect(namespace).await;
                let left = node.objects(namespace).await;
                assert_eq!(left.get("segment"), None, "{namespace} {looked:?} {left:?}");
            }
        }
    });
}

/// Who needs a hold is not asked all the time, nor are all at once, and nothing is remembered of them as namespaces.
#[test]
fn those_who_hold_objects_are_asked_seldom_and_few_at_a_time() {
    run(async {
        let (.., mut node) = one_node();
        const TWIGS: usize = 8;
        const ASKED: usize = 3;
        node.upsert("docs", 0..10, 1).await;
        node.flush("docs").await;
        let twigs: Vec<String> = (0..TWIGS).map(|n| format!("twig{n}")).collect();
        for twig in &twigs {
            node.branch("docs", twig).await.expect("branched");
            node.upsert(twig, 5..6, 2).await;
            node.flush(twig).await;
        }
        hours(50).await;
        node.collector.limits.holds_asked = ASKED;
        let (mut asked, mut per_look) = (0, 0);
        for _ in 0..48 {
            let before = node.store.counts();
            node.look("docs").await.expect("looked");
            let now = node.store.counts();
            // Besides the LISTs of the lease and of the namespace.
            let lists = (now.lists - before.lists) as usize - 2;
            per_look = per_look.max(lists);
            asked += lists;
            hours(1).await;
        }
        assert!(per_look <= ASKED, "{per_look}");
        // Every three hours on average, and never sooner than after one and a half.
        assert!((TWIGS * 8..=TWIGS * 30).contains(&asked), "{asked}");
        let (namespaces, names) = node.collector.memory.size();
        assert!(namespaces <= 1 && names < 100 * TWIGS, "{namespaces} {names}");
        // And those that are not needed any more go.
        for twig in &twigs[1..] {
            node.delete(twig).await;
        }
        for _ in 0..4 {
            hours(30).await;
            node.collect("docs").await;
        }
        assert_eq!(node.objects("docs").await["pin"], 1);
        assert_eq!(node.rows("twig0").await[&5], 2);
    });
}

#[test]
fn a_node_that_nobody_asks_keeps_no_news_of_what_it_marked() {
    run(async {
        for tells in [false, true] {
            let (.., node) = one_node();
            let marks = Marks::new(node.engine.clone(), tells);
            for n in 0..3 {
                node.upsert(&format!("docs{n}"), 0..5, 1).await;
                node.flush(&format!("docs{n}")).await;
                marks.write().await;
            }
            assert_eq!(node.marked().await.len(), 3, "marked all the same");
            assert_eq!(marks.take_news().len(), if tells { 3 } else { 0 });
            assert_eq!(marks.take_news(), []);
        }
    });
}

/// Its flush was published when the namespace had been closed for others: still there is garbage.
#[test]
fn what_is_published_for_a_namespace_that_is_closed_is_noted() {
    run(async {
        let (clock, backend, node) = one_node();
        node.upsert("docs", 0..5, 1).await;
        node.flush("docs").await;
        let manifests = ManifestStore::new(node.store.clone(), ns("docs"), node.runtime.cpu.clone());
        let (manifest, _) = manifests.newest().await.expect("readable").expect("published");
        let closed = Node::new(&backend, &clock, 2);
        let adopted = closed.engine.adopt(&org(), &name("docs"), &manifest).await;
        adopted.expect("nothing is to be done");
        assert_eq!(closed.engine.open_namespaces(), 0);
        assert_eq!(closed.engine.take_published(), [(org(), name("docs"))]);
        assert_eq!(closed.engine.take_published(), []);
    });
}

#[test]
fn a_few_namespaces_are_looked_at_at_once_and_organizations_take_turns() {
    run(async {
        let (_, backend, node) = one_node();
        node.start_collecting(true);
        let other = OrgId::parse("zz-other").expect("an organization");
        for n in 0..12 {
            node.upsert(&format!("docs{n:02}"), 0..5, 1).await;
            node.flush(&format!("docs{n:02}")).await;
        }
        let bytes = json!({"upsert_rows": [{"id": 1, "n": 1}]}).to_string();
        let charge = node.runtime.memory.charge(MemoryShare::Bodies, bytes.len() as u64);
        let body = Body {
            bytes: bytes.into(),
            charge: charge.expect("room"),
        };
        node.engine.write(&other, &name("small"), body).await.expect("written");
        node.flush_of(&other, "small").await;
        // All are due at once; each look takes until a request is given up.
        backend.slow("lease/gc", Duration::from_secs(7200));
        backend.take_keys("");
        let mut looks = Vec::new();
        while looks.is_empty() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            looks = backend.take_keys("put");
            looks.retain(|key| key.contains("lease/gc"));
        }
        assert_eq!(looks.len(), 4, "{looks:?}");
        let of_other = looks.iter().filter(|key| key.contains("zz-other"));
        assert_eq!(
            of_other.count(),
            1,
            "behind one of the others, not behind all: {looks:?}"
        );
    });
}
