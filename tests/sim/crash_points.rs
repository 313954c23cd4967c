//! The process dies at its n-th poll, for every n of a fixed piece of work.

use std::time::Duration;

use super::check::replay;
use super::history::{Outcome, Saw};
use super::world::{Plan, World};

/// One node does the same few things, alone.
async fn work(world: &World) {
    for _ in 0..12 {
        world.write().await;
        world.read().await;
    }
}

fn run_to(polls: u64) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O");
    runtime.block_on(async {
        let plan = Plan {
            nodes: 1,
            ..Plan::default()
        };
        let world = World::with_first_life(5, plan, polls);
        let first = world.first_node();
        work(&world).await;
        let spent = first.life.polls();
        tokio::time::sleep(Duration::from_secs(60)).await;
        let replayed = replay(&world.log()).await;
        replayed.check(&world.history.borrow());
        let unknown = world
            .history
            .borrow()
            .writes
            .iter()
            .filter(|w| w.outcome == Outcome::Unknown)
            .count();
        let lost_reads = world
            .history
            .borrow()
            .reads
            .iter()
            .filter(|r| matches!(r.saw, Saw::Nothing))
            .count();
        assert!(unknown + lost_reads <= 1, "one crash interrupts one call");
        spent
    })
}

#[test]
fn nothing_is_lost_at_whichever_await_the_node_dies() {
    let polls = run_to(u64::MAX);
    assert!(polls > 50, "the work has many awaits: {polls}");
    for n in 1..=polls {
        run_to(n);
    }
}
