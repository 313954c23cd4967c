//! However fast garbage comes to be, it goes as fast.

use std::collections::BTreeMap;
use std::time::Duration;

use ulid::Ulid;

use super::nodes::{Node, counts, hours, ns, one_node, same};
use crate::maintenance::gc::collector::Limits;
use crate::maintenance::gc::listing::Listed;
use crate::maintenance::gc::{Collector, GcOptions, Looked};
use crate::maintenance::tests::run;
use crate::model::Seq;
use crate::store::paths::{self, NsObject};

/// A little more than a plan has.
const EACH: u128 = 12_000;

/// Each cycle of two looks, more comes to be than one plan has.
#[test]
fn garbage_that_comes_faster_than_one_plan_takes_it_does_not_pile_up() {
    run(async {
        let (.., node) = one_node();
        let grace = Duration::from_secs(600);
        let collector = Collector::new(node.store.clone(), node.runtime.clone(), 1, grace, GcOptions::default());
        let docs = ns("docs");
        let (mut deleted, mut after) = (0, Vec::new());
        for cycle in 0..8u128 {
            for n in 0..EACH {
                // What crashed jobs have left, say.
                let orphan = paths::segment(&docs, Ulid::from(cycle * EACH + n));
                node.store.put(&orphan, vec![1]).await.expect("put");
            }
            // Three looks, whatever they do: the lease, two LISTs and what plans cost.
            let before = node.store.counts();
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(210)).await;
                if let Looked::Deleted { objects, .. } = collector.look(&docs).await.expect("looked") {
                    deleted += objects;
                }
            }
            let now = node.store.counts();
            let left = (cycle as usize + 1) * EACH as usize - deleted;
            assert!(left <= 4 * EACH as usize, "{left} are left in cycle {cycle}");
            let sent = [
                now.lists - before.lists,
                now.gets - before.gets,
                now.puts - before.puts + now.creates - before.creates,
            ];
            assert!(
                sent[0] <= 3 * (2 + left as u64 / 1000 + 24),
                "{sent:?} with {left} left"
            );
            assert!(sent[1] <= 3 * 6 && sent[2] <= 3 + 6, "{sent:?}");
            after.push(left);
        }
        assert!(after[7] <= after[3], "{after:?}");
        assert!(collector.memory.size().1 < 100, "nothing of it is remembered");
    });
}

/// As one look and one plan would, only in smaller steps.
#[test]
fn several_plans_wait_at_once_and_all_that_are_due_are_carried_out() {
    run(async {
        let (.., mut node) = one_node();
        node.collector.limits = Limits {
            plan_objects: 7,
            plans: 3,
            ..Limits::default()
        };
        for n in 0..30 {
            node.upsert("docs", 0..5, n).await;
            if n % 2 == 0 {
                node.flush("docs").await;
            }
        }
        node.flush("docs").await;
        node.merge("docs").await;
        hours(49).await;
        let garbage = node.objects("docs").await.values().sum::<usize>() - 3;
        assert!(garbage > 50, "{garbage}");
        let mut rest = garbage;
        assert_eq!(
            node.look("docs").await.expect("looked"),
            Looked::Planned { objects: 21 }
        );
        assert_eq!(node.objects("docs").await["plan"], 3);
        while rest > 0 {
            tokio::time::sleep(Duration::from_secs(601)).await;
            let more = if rest - 21.min(rest) >= 7 {
                21.min(rest - 21.min(rest))
            } else {
                0
            };
            match node.look("docs").await.expect("looked") {
                Looked::Deleted { objects, planned, .. } => {
                    assert_eq!((objects, planned), (21.min(rest), more), "{rest}");
                    rest -= objects;
                }
                // A few are not planned together with the second look at others.
                looked => assert!(
                    matches!(looked, Looked::Planned { objects } if objects < 7),
                    "{looked:?}"
                ),
            }
        }
        assert_eq!(node.collect("docs").await, Looked::Clean);
        let left = counts(&[("entry", 1), ("manifest", 1), ("segment", 1)]);
        assert_eq!(node.objects("docs").await, left);
        assert_eq!(node.rows("docs").await, same(0..5, 29));
    });
}

/// What is kept of a long log is not listed, and what is listed is what a whole listing says.
#[test]
fn of_a_long_log_only_the_garbage_is_listed() {
    run(async {
        let (.., node) = one_node();
        let docs = ns("docs");
        for seq in 1..=6000 {
            node.store
                .put(&paths::wal_entry(&docs, Seq(seq)), vec![1])
                .await
                .expect("put");
        }
        for id in [paths::head(&docs), paths::segment(&docs, Ulid::from(1u128))] {
            node.store.put(&id, vec![1]).await.expect("put");
        }
        let all = node.store.clone().listing_in_order(false);
        for (floor, max) in [
            (0, 100),
            (1, 100),
            (50, 100),
            (150, 100),
            (5500, 6000),
            (6000, 100),
            (6001, 9),
            (u64::MAX, 9),
        ] {
            let mut seen = Vec::new();
            for (store, cost) in [(&node.store, 3 + floor.min(6000) / 1000), (&all, 7)] {
                let before = node.store.counts().lists;
                let mut listed = Listed::of(store, &docs).await.expect("listed");
                assert_eq!(listed.found.len(), 2);
                listed.found.clear();
                let log = listed
                    .log((store, &docs), Seq(floor), (1000, max))
                    .await
                    .expect("listed");
                assert!(node.store.counts().lists - before <= cost, "{floor}");
                let entries: BTreeMap<Seq, u64> = log
                    .iter()
                    .map(|f| match f.object {
                        NsObject::Entry(seq) => (seq, f.bytes),
                        _ => panic!("{f:?}"),
                    })
                    .collect();
                assert_eq!(entries.len(), log.len(), "none twice");
                seen.push(entries.into_keys().map(|seq| seq.0).collect::<Vec<_>>());
            }
            assert_eq!(seen[0], seen[1], "{floor}");
            let mut expected: Vec<u64> = (1..=floor.min(6000)).take(max).collect();
            expected.extend(Some(floor.saturating_add(1)).filter(|next| *next <= 6000));
            expected.extend(Some(6000).filter(|newest| !expected.contains(newest)));
            assert_eq!(seen[0], expected, "{floor}");
        }
    });
}

#[test]
fn blobs_go_also_where_too_many_entries_would_have_to_be_read() {
    run(async {
        let (clock, backend, _) = one_node();
        let mut node = Node::with(&backend, &clock, 3, super::faults::staged());
        node.collector.limits.blob_entries = 2;
        for n in 0..6 {
            node.upsert("docs", 0..10, n).await;
        }
        assert_eq!(node.objects("docs").await["blob"], 6);
        hours(30).await;
        // Nothing is in segments: each is named by an entry that stays.
        backend.take_asked("get", "");
        assert!(!matches!(node.look("docs").await, Ok(Looked::Planned { .. })));
        assert_eq!(backend.take_asked("get", "/wal/"), 0);
        node.flush("docs").await;
        for n in 0..6 {
            node.upsert("docs", 0..10, n).await;
        }
        hours(30).await;
        node.collect("docs").await;
        assert_eq!(node.objects("docs").await["blob"], 6, "the younger ones");
        let cold = Node::new(&backend, &clock, 2);
        assert_eq!(cold.rows("docs").await, same(0..10, 5));
    });
}
