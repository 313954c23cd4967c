//! Usage counts exactly once, whatever the store does: random flushes of two nodes, lost replies, late effects,
//! two roll-ups at once.

mod support;

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::memory::InMemory;
use shoal::base::{Clock, CpuPool, Ledger, Rng, Runtime, TokioClock, TokioSpawner};
use shoal::config::StoreConfig;
use shoal::control::audit::Event;
use shoal::control::usage::Used;
use shoal::control::{Control, ControlOptions, Freshness, Secret, Secrets};
use shoal::model::OrgId;
use shoal::store::Store;
use support::fault::{FaultRates, FaultStore};

/// 2026-11-21T10:00:00Z, in seconds.
const START: u64 = 1_795_255_200;

fn node(store: &FaultStore, clock: &Arc<TokioClock>, seed: u64) -> Control {
    let clock: Arc<dyn Clock> = clock.clone();
    let runtime = Runtime {
        clock: clock.clone(),
        rng: Rng::seeded(seed),
        spawner: Arc::new(TokioSpawner::default()),
        cpu: CpuPool::inline(),
        memory: Ledger::new(1 << 20, 1 << 20),
    };
    let config = StoreConfig::default();
    let store = Store::new(Arc::new(store.clone()), clock, runtime.rng.clone(), &config);
    let options = ControlOptions {
        secrets: Secrets::new(vec![Secret::new(&[7; 32])]),
        freshness: Freshness::default(),
        deployment: "dep".into(),
    };
    Control::new(runtime, store, options)
}

fn used(rng: &Rng) -> Used {
    Used {
        queries: 1,
        rows_read: rng.below(1000),
        rows_written: rng.below(10),
        ..Used::default()
    }
}

/// Nodes over one store with faults, which heal at the end.
struct World {
    rng: Rng,
    store: FaultStore,
    nodes: Vec<Control>,
}

impl World {
    fn new(seed: u64) -> Self {
        let rng = Rng::seeded(seed);
        let faults = FaultRates {
            storm: 0,
            truncate: 0,
            delay_max: Duration::from_secs(100),
            ..FaultRates::stormy()
        };
        let store = FaultStore::new(Arc::new(InMemory::new()), Rng::seeded(seed + 1), faults);
        let clock = Arc::new(TokioClock::new(Duration::from_secs(START)));
        let nodes = (0..2).map(|n| node(&store, &clock, 10 * seed + n)).collect();
        Self { rng, store, nodes }
    }

    fn node(&self) -> &Control {
        &self.nodes[self.rng.below(self.nodes.len() as u64) as usize]
    }
}

#[tokio::test(start_paused = true)]
async fn the_sum_is_what_happened() {
    let org = OrgId::parse("org_1").expect("legal");
    for seed in 0..60 {
        let world = World::new(seed);
        let month = world.nodes[0].month();
        let mut happened = Used::default();
        for _ in 0..world.rng.below(120) {
            match world.rng.below(10) {
                0..4 => {
                    let used = used(&world.rng);
                    let name = ["a", "b", "c"][world.rng.below(3) as usize];
                    world.node().meter(&org, name, "k", &used);
                    happened.add(&used);
                }
                4..7 => drop(world.node().flush_usage().await),
                7 => {
                    // A client or a shutdown does not wait for the end.
                    let patience = Duration::from_millis(world.rng.below(20_000));
                    let _ = tokio::time::timeout(patience, world.node().flush_usage()).await;
                }
                8 => {
                    let (a, b) = (world.node(), world.node());
                    // They may fail; the next one goes on.
                    let _ = tokio::join!(a.roll_up_usage(&org, month), b.roll_up_usage(&org, month));
                }
                _ => tokio::time::sleep(Duration::from_secs(world.rng.below(60))).await,
            }
        }
        world.store.set_rates(FaultRates::healthy());
        for node in &world.nodes {
            node.flush_usage().await;
        }
        for round in 0..3 {
            for node in &world.nodes {
                let usage = node.usage(&org, month, month).await.expect("readable");
                assert_eq!(usage.sums.total(), happened, "seed {seed}, round {round}");
                assert_eq!(
                    usage.sums.keys.get("k").copied().unwrap_or_default(),
                    happened,
                    "seed {seed}"
                );
            }
            // What was on its way arrives.
            tokio::time::sleep(Duration::from_secs(200)).await;
            for node in &world.nodes {
                node.roll_up_usage(&org, month).await.expect("rolled up");
            }
        }
    }
}

/// Whoever was told that an event is written finds it, and the chains are whole.
#[tokio::test(start_paused = true)]
async fn no_answered_event_is_missing_from_the_audit_log() {
    let org = OrgId::parse("org_1").expect("legal");
    for seed in 0..60 {
        let world = World::new(1000 + seed);
        let mut written = Vec::new();
        for n in 0..world.rng.below(60) {
            let event = |i: u64| Event {
                code: "key-create",
                org: org.clone(),
                actor: "user ana".into(),
                author: None,
                ip: None,
                target: format!("{n}.{i}"),
                data: serde_json::Value::Null,
            };
            let node = world.node();
            match world.rng.below(8) {
                0..4 => {
                    let some = (0..world.rng.below(4)).map(|i| {
                        let event = event(i);
                        async { (event.target.clone(), node.audit(event).await) }
                    });
                    let outcomes = futures::future::join_all(some).await;
                    written.extend(
                        outcomes
                            .into_iter()
                            .filter(|(_, o)| o.is_ok())
                            .map(|(target, _)| target),
                    );
                }
                4 => {
                    let patience = Duration::from_millis(world.rng.below(20_000));
                    let _ = tokio::time::timeout(patience, node.audit(event(9))).await;
                }
                5 => node.audit_denied(event(9)),
                6 => node.flush_audits().await,
                _ => tokio::time::sleep(Duration::from_secs(world.rng.below(60))).await,
            }
        }
        world.store.set_rates(FaultRates::healthy());
        tokio::time::sleep(Duration::from_secs(200)).await;
        for node in &world.nodes {
            node.flush_audits().await;
        }
        let report = world.nodes[0].verify_audit(&org, "2026-11-21").await.expect("readable");
        assert_eq!((report.unsealed, report.problems), (0, vec![]), "seed {seed}");
        let page = world.nodes[1].audit_page(&org, 1, 1000).await.expect("readable");
        let found: Vec<&str> = page.lines.iter().map(|l| l.target.as_str()).collect();
        for target in &written {
            let times = found.iter().filter(|t| *t == target).count();
            assert_eq!(times, 1, "seed {seed}: {target}");
        }
        assert_eq!(page.total_rows as usize, found.len());
        assert!(
            page.lines.windows(2).all(|pair| pair[0].at >= pair[1].at),
            "seed {seed}: newest first"
        );
    }
}

/// A month's parts do not pile up.
#[tokio::test(start_paused = true)]
async fn counted_parts_are_removed() {
    let org = OrgId::parse("org_1").expect("legal");
    let world = World::new(7);
    world.store.set_rates(FaultRates::healthy());
    let month = world.nodes[0].month();
    for _ in 0..10 {
        for node in &world.nodes {
            node.meter(&org, "a", "k", &used(&world.rng));
            node.flush_usage().await;
        }
    }
    let left = async || {
        let directory = shoal::store::paths::control::usage_month(&org, &month.to_string());
        let listed = world.nodes[0].records().store().list(&directory, None);
        listed.try_collect::<Vec<_>>().await.expect("listed").len()
    };
    assert_eq!(left().await, 20);
    world.nodes[1].roll_up_usage(&org, month).await.expect("rolled up");
    assert_eq!(left().await, 0);
}
