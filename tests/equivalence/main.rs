//! Rows in segments are the same rows: an engine whose namespaces are flushed, merged, reopened, served by two nodes
//! and indexed by processes that die must answer every query as one that keeps everything in memory.
//!
//! Everything follows from a seed. A failure prints it; `SHOAL_EQUIVALENCE_SEED=<seed> cargo test --test equivalence`
//! replays it alone, and `SHOAL_EQUIVALENCE_SEEDS=<count>` runs more of them than the default.

#[path = "../support/mod.rs"]
mod support;

mod filters;
mod queries;
mod schema;
mod world;
mod writes;

use shoal::base::Rng;
use world::World;

/// Steps of one run.
const STEPS: usize = 40;

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().expect("a number"))
}

/// Any one of some things.
fn any<'a, T>(rng: &Rng, of: &'a [T]) -> &'a T {
    &of[rng.below(of.len() as u64) as usize]
}

/// True once in so many times.
fn once_in(rng: &Rng, times: u64) -> bool {
    rng.below(times) == 0
}

fn run(seed: u64) -> (u64, u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O");
    runtime.block_on(async {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step().await;
        }
        world.finish().await;
        (world.answered, world.refused)
    })
}

#[test]
fn what_is_in_segments_answers_as_what_is_in_memory() {
    let seeds: Vec<u64> = match env("SHOAL_EQUIVALENCE_SEED") {
        Some(seed) => vec![seed],
        None => (0..env("SHOAL_EQUIVALENCE_SEEDS").unwrap_or(40)).collect(),
    };
    let (mut answered, mut refused) = (0, 0);
    for seed in &seeds {
        match std::panic::catch_unwind(|| run(*seed)) {
            Ok((yes, no)) => (answered, refused) = (answered + yes, refused + no),
            Err(_) => panic!("seed {seed} failed; replay it with SHOAL_EQUIVALENCE_SEED={seed}"),
        }
    }
    eprintln!("{} seeds: {answered} queries answered, {refused} refused", seeds.len());
    assert!(answered > 4 * refused, "most queries have an answer");
}
