mod claims;
mod copies;
mod debt;
mod engine;
mod faults;
mod hostile;
mod leases;
mod merging;
mod scheduling;
pub(in crate::maintenance) mod world;

use proptest::prelude::*;

use super::*;
use crate::manifest::Deletions;
use crate::manifest::tests::scripted::Fault;
use world::{Step, World};

fn any_step() -> impl Strategy<Value = Step> {
    // Twelve ids: overwrites, deletes of missing rows and re-inserts happen in almost every run.
    let ids = || proptest::collection::btree_set(0..12u64, 1..5);
    prop_oneof![
        6 => (ids(), any::<i16>()).prop_map(|(ids, n)| Step::Upsert(ids.into_iter().collect(), i64::from(n))),
        3 => ids().prop_map(|ids| Step::Delete(ids.into_iter().collect())),
        3 => Just(Step::Flush),
        2 => Just(Step::BeginMerge),
        2 => Just(Step::EndMerge),
        1 => Just(Step::Reopen),
        1 => Just(Step::DeleteNamespace),
    ]
}

pub fn run(f: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime").block_on(f);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_manifest_says_what_the_log_says(
        steps in proptest::collection::vec(any_step(), 1..40),
        inline in any::<bool>(),
        splits in any::<bool>(),
    ) {
        run(async {
            let mut world = World::new(inline);
            if splits {
                // As many segments come out of a merge as go in.
                world.set_options(|o| o.merge_bytes_max = 1);
            }
            for step in steps {
                world.take(step).await;
            }
            world.take(Step::Flush).await;
            world.take(Step::EndMerge).await;
            world.check().await;
        });
    }

    #[test]
    fn whatever_fails_the_newest_manifest_says_what_the_log_says(
        steps in proptest::collection::vec(any_step(), 4..20),
        faults in proptest::collection::vec((0u64..60, 0usize..4), 1..6),
        inline in any::<bool>(),
    ) {
        run(async {
            let mut world = World::new(inline);
            for (call, fault) in faults {
                world.backend.fail(call, Fault::ALL[fault]);
            }
            for step in steps {
                world.take(step).await;
            }
            world.backend.heal();
            world.reload().await;
            world.check().await;
            world.take(Step::Flush).await;
            world.check().await;
            assert_eq!(world.indexed_seq(), world.snapshot.seq, "it works again");
        });
    }
}

#[test]
fn a_small_namespace_is_one_manifest() {
    run(async {
        let mut world = World::new(true);
        for n in 0..20 {
            world.take(Step::Upsert(vec![n, n + 1], 7)).await;
            world.take(Step::Flush).await;
        }
        let (manifest, _) = world.newest.clone().expect("flushed");
        assert_eq!(manifest.segments.len(), 1);
        let only = &manifest.segments[0];
        assert!(only.meta.inline.is_some());
        assert_eq!((only.meta.rows, only.live()), (21, 21), "deleted rows are left behind");
        assert_eq!((only.meta.min_seq.0, only.meta.max_seq.0), (1, 20));
        world.check().await;
        // Nothing but manifests and the hint.
        assert_eq!(world.objects().await, 20 + 1);
    });
}

#[test]
fn a_flush_of_nothing_costs_nothing() {
    run(async {
        let mut world = World::new(true);
        world.take(Step::Flush).await;
        assert_eq!(world.backend.calls(), 0);
        world.take(Step::Upsert(vec![1], 1)).await;
        world.take(Step::Flush).await;
        let calls = world.backend.calls();
        assert_eq!(calls, 2, "the manifest and its hint");
        world.take(Step::Flush).await;
        assert_eq!(world.backend.calls(), calls);
    });
}

#[test]
fn large_tails_become_several_segments() {
    run(async {
        let mut world = World::new(false);
        world.set_options(|o| o.flush_segment_bytes = 1_000);
        for n in 0..10u64 {
            world.take(Step::Upsert((n * 20..n * 20 + 20).collect(), 3)).await;
        }
        world.take(Step::Flush).await;
        let (manifest, _) = world.newest.clone().expect("flushed");
        assert!(manifest.segments.len() > 3, "{}", manifest.segments.len());
        assert_eq!(manifest.rows(), 200);
        world.check().await;
    });
}

#[test]
fn the_more_segments_there_are_the_less_of_deleted_rows_is_in_the_manifest() {
    run(async {
        let mut world = World::new(false);
        let bitmap = |world: &World, at: usize| {
            let (manifest, _) = world.newest.as_ref().expect("flushed");
            let found = manifest.segments.iter().filter(|s| s.deletions != Deletions::None);
            found.map(|s| s.deletions.clone()).nth(at)
        };
        let every_other: Vec<u64> = (0..2_000).step_by(2).collect();
        for step in [
            Step::Upsert((0..2_000).collect(), 1),
            Step::Flush,
            Step::Delete(every_other.clone()),
            Step::Flush,
        ] {
            world.take(step).await;
        }
        assert!(matches!(bitmap(&world, 0), Some(Deletions::Inline(_))));
        // A segment for each row.
        world.set_options(|o| o.flush_segment_bytes = 1);
        world.take(Step::Upsert((10_000..10_800).collect(), 1)).await;
        world.take(Step::Flush).await;
        world.set_options(|o| o.flush_segment_bytes = UpkeepOptions::default().flush_segment_bytes);
        world.take(Step::Upsert((2_000..4_000).collect(), 1)).await;
        world.take(Step::Flush).await;
        let found = bitmap(&world, 0).expect("still deleted");
        assert!(matches!(&found, Deletions::Object(o) if o.rows == 1_000), "{found:?}");
        world
            .take(Step::Delete(every_other.iter().map(|id| id + 2_000).collect()))
            .await;
        world.take(Step::Delete(vec![10_000])).await;
        world.take(Step::Flush).await;
        assert_eq!(bitmap(&world, 0), Some(found), "it stays where it is");
        let mut others = [bitmap(&world, 1), bitmap(&world, 2)];
        others.sort_by_key(|d| d.as_ref().map(Deletions::rows));
        assert!(
            matches!(others, [Some(Deletions::Inline(_)), Some(Deletions::Object(_))]),
            "{others:?}"
        );
        world.take(Step::Reopen).await;
        world.check().await;
    });
}

#[test]
fn a_job_that_takes_too_long_publishes_nothing() {
    run(async {
        let mut world = World::new(true);
        world.take(Step::Upsert(vec![1], 1)).await;
        let job = world.job();
        tokio::time::sleep(world.workshop.grace / 2 + std::time::Duration::from_secs(1)).await;
        assert!(matches!(flush(&job, &world.snapshot, None).await, Err(JobError::Late)));
        assert_eq!(world.objects().await, 0);
    });
}

#[test]
fn of_rival_flushes_one_wins_and_the_other_says_so() {
    run(async {
        let mut world = World::new(false);
        world.take(Step::Upsert(vec![1, 2], 1)).await;
        let (first, second) = (world.job(), world.job());
        let (a, b) = tokio::join!(
            flush(&first, &world.snapshot, None),
            flush(&second, &world.snapshot, None)
        );
        let outcomes = [a.expect("decided"), b.expect("decided")];
        let won = outcomes.iter().filter(|o| matches!(o, Outcome::Published(..))).count();
        let lost = outcomes.iter().filter(|o| matches!(o, Outcome::Lost(..))).count();
        assert_eq!((won, lost), (1, 1));
        world.reload().await;
        world.check().await;
    });
}

/// Takes some steps with everything in them.
async fn whole_life(world: &mut World) {
    let steps = [
        Step::Upsert(vec![1, 2, 3], 1),
        Step::Flush,
        Step::Upsert(vec![3, 4, 5], 2),
        Step::Delete(vec![1]),
        Step::Flush,
        Step::BeginMerge,
        Step::Delete(vec![2, 4]),
        Step::Flush,
        Step::EndMerge,
        Step::Upsert(vec![6], 3),
        Step::Flush,
    ];
    for step in steps {
        world.take(step).await;
    }
}

#[test]
fn a_crash_at_any_request_leaves_the_state_as_it_was() {
    run(async {
        for inline in [true, false] {
            let mut healthy = World::new(inline);
            whole_life(&mut healthy).await;
            healthy.check().await;
            let calls = healthy.backend.calls();
            assert!(calls >= 8, "{calls}");
            for call in 0..calls {
                for fault in Fault::ALL {
                    let mut world = World::new(inline);
                    world.backend.fail(call, fault);
                    whole_life(&mut world).await;
                    world.backend.heal();
                    world.reload().await;
                    world.check().await;
                    world.take(Step::Upsert(vec![9], 4)).await;
                    world.take(Step::Flush).await;
                    world.check().await;
                    assert_eq!(world.indexed_seq(), world.snapshot.seq, "call {call}, {fault:?}");
                }
            }
        }
    });
}
