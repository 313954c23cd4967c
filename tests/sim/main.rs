//! Deterministic simulation: several nodes, one store that fails, crashes at every await.
//!
//! Everything runs on one thread with Tokio's paused clock; time, randomness and task order follow
//! from the seed. A failing seed is printed; `SHOAL_SIM_SEED=<seed> cargo test --test sim` replays
//! it alone, and `SHOAL_SIM_SEEDS=<count>` runs more of them than the default.
//!
//! Every acknowledged write carries its sequence number and every read its snapshot, so the history
//! is checked by replaying the log, in linear time:
//!
//! - every acknowledged write is in the log exactly once, under its number, whole;
//! - no refused write is in the log;
//! - what a read returned is the replayed state at its number;
//! - numbers respect real time: a write or strong read sees everything confirmed before it began.
//!
//! Where nodes index as well, every manifest is held against the log too, and what is dirty becomes clean. Where they
//! collect garbage, every deletion is held against what was needed then, and in the end nothing is left that is not.

#[path = "../support/mod.rs"]
mod support;

mod backpressure;
mod beginnings;
mod check;
mod collected;
mod collecting;
mod conditional;
mod crash;
mod crash_points;
mod failures;
mod history;
mod once;
mod rows;
mod scripted;
mod slow;
mod upkeep;
mod versions;
mod world;

use collecting::GRACE;
use world::{Plan, run};

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().expect("a number"))
}

/// Runs seeds, one after the other; a failure names its seed.
fn campaign(name: &str, default_seeds: u64, plan: impl Fn(u64) -> Plan) {
    let seeds: Vec<u64> = match env("SHOAL_SIM_SEED") {
        Some(seed) => vec![seed],
        None => (0..env("SHOAL_SIM_SEEDS").unwrap_or(default_seeds)).collect(),
    };
    let mut confirmed = 0;
    let mut unknown = 0;
    let mut manifests = 0;
    let (mut collected, mut branches) = (0, 0);
    for seed in &seeds {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(*seed, plan(*seed))));
        match outcome {
            Ok(summary) => {
                confirmed += summary.confirmed_writes;
                unknown += summary.unknown_writes;
                manifests += summary.manifests;
                collected += summary.collected;
                branches += summary.branches;
            }
            Err(_) => panic!("{name}: seed {seed} failed; replay it with SHOAL_SIM_SEED={seed}"),
        }
    }
    eprintln!(
        "{name}: {} seeds, {confirmed} writes confirmed, {unknown} unknown, {manifests} manifests, \
         {branches} branches, {collected} objects collected",
        seeds.len()
    );
    assert!(confirmed > seeds.len() as u64, "the simulation gets work done");
}

#[test]
fn healthy_nodes_agree() {
    campaign("healthy", 150, |_| Plan {
        faults: false,
        crashes: false,
        ..Plan::default()
    });
}

#[test]
fn nothing_is_lost_when_the_store_fails() {
    campaign("faults", 900, |seed| Plan {
        staged: seed % 3 == 0,
        faults: true,
        crashes: false,
        ..Plan::default()
    });
}

#[test]
fn nothing_is_lost_when_nodes_crash_and_the_store_fails() {
    campaign("crashes", 900, |seed| Plan {
        staged: seed % 3 == 0,
        faults: true,
        crashes: true,
        ..Plan::default()
    });
}

#[test]
fn many_writers_on_one_namespace_stay_linearizable() {
    campaign("contention", 150, |seed| Plan {
        faults: seed % 2 == 0,
        crashes: false,
        nodes: 5,
        clients: 10,
        ..Plan::default()
    });
}

#[test]
fn rival_indexers_change_nothing() {
    campaign("indexers", 60, |seed| Plan {
        indexers: true,
        staged: seed % 3 == 0,
        ..Plan::default()
    });
}

#[test]
fn segments_and_tail_are_the_log_when_indexers_crash_and_the_store_fails() {
    campaign("indexers with faults", 120, |seed| Plan {
        indexers: true,
        faults: true,
        crashes: seed % 2 == 0,
        staged: seed % 5 == 0,
        operations: 20,
        ..Plan::default()
    });
}

#[test]
fn collectors_delete_nothing_that_is_needed_and_leave_nothing_that_is_not() {
    campaign("collectors", 12, |seed| Plan {
        indexers: true,
        collectors: true,
        retention: GRACE * u32::try_from(seed % 3).expect("small"),
        unindexed_bytes_max: (seed % 4 == 1).then_some(4_000),
        staged: seed % 3 == 0,
        ..Plan::default()
    });
}

#[test]
fn collectors_that_crash_on_a_store_that_fails_delete_nothing_that_is_needed() {
    campaign("collectors with faults", 24, |seed| Plan {
        indexers: true,
        collectors: true,
        retention: GRACE * u32::try_from(seed % 3).expect("small"),
        unindexed_bytes_max: (seed % 4 == 1).then_some(4_000),
        faults: true,
        crashes: seed % 2 == 0,
        staged: seed % 3 == 0,
        ..Plan::default()
    });
}
