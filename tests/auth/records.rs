//! Records on a store that loses replies, answers late, and lets rivals win.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;
use serde::{Deserialize, Serialize};
use shoal::base::{Clock, Rng, TokioClock};
use shoal::config::StoreConfig;
use shoal::error::{Error, ErrorKind};
use shoal::store::Store;
use shoal::store::paths::control as paths;
use shoal::store::record::Records;

use crate::support::fault::{Fault, FaultRates, FaultStore};

const GRACE: Duration = Duration::from_secs(3600);

fn faulty(seed: u64) -> FaultStore {
    FaultStore::new(Arc::new(InMemory::new()), Rng::seeded(seed), FaultRates::healthy())
}

fn records(store: &FaultStore, seed: u64, grace: Duration) -> Records {
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::new(Duration::from_secs(1_700_000_000)));
    let rng = Rng::seeded(seed);
    let config = StoreConfig {
        retry_deadline: Duration::from_secs(20),
        ..StoreConfig::default()
    };
    let store = Store::new(Arc::new(store.clone()), clock.clone(), rng.clone(), &config);
    Records::new(store, clock, rng, grace)
}

/// Who added how often.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Tally(BTreeMap<String, u64>);

async fn add(records: &Records, who: &str) -> Result<(), Error> {
    let change = |tally: Option<Tally>| {
        let mut tally = tally.unwrap_or_default();
        *tally.0.entry(who.to_owned()).or_default() += 1;
        Ok(Some(tally))
    };
    records.update(&paths::root(), change).await.map(drop)
}

#[tokio::test(start_paused = true)]
async fn no_change_is_lost_and_none_is_made_twice() {
    for seed in 0..40 {
        let store = faulty(seed);
        store.set_rates(FaultRates::stormy());
        let nodes: Vec<Records> = (0..3).map(|n| records(&store, seed * 10 + n, GRACE)).collect();
        let changes = (0..30).map(|i| {
            let node = &nodes[i % 3];
            async move {
                tokio::time::sleep(Duration::from_secs(i as u64 / 3 * 7)).await;
                (i, add(node, &i.to_string()).await)
            }
        });
        let outcomes = futures::future::join_all(changes).await;
        store.heal();
        tokio::time::sleep(Duration::from_secs(300)).await;
        let tally: Tally = nodes[0].get(&paths::root()).await.expect("healthy").unwrap_or_default();
        let mut confirmed = 0;
        for (i, outcome) in outcomes {
            let times = tally.0.get(&i.to_string()).copied().unwrap_or(0);
            match outcome {
                Ok(()) => {
                    confirmed += 1;
                    assert_eq!(times, 1, "seed {seed}: {i} was confirmed");
                }
                Err(error) if error.kind == ErrorKind::Unknown => assert!(times <= 1, "seed {seed}: {i}"),
                Err(_) => assert_eq!(times, 0, "seed {seed}: {i} was refused"),
            }
        }
        assert!(confirmed > 0, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_single_fault_leaves_a_true_answer() {
    let late = Fault::LateApply(Duration::from_secs(30));
    for fault in [
        Fault::BeforeApply,
        Fault::AfterApply,
        late,
        Fault::Conflict,
        Fault::Truncate,
    ] {
        for step in 0..4 {
            let store = faulty(1);
            let node = records(&store, 1, GRACE);
            assert!(node.create(&paths::root(), &Tally::default()).await.expect("created"));
            store.fail_call(store.calls() + step, fault);
            let outcome = add(&node, "a").await;
            store.heal();
            tokio::time::sleep(Duration::from_secs(60)).await;
            let tally: Tally = node.get(&paths::root()).await.expect("healthy").expect("there");
            let times = tally.0.get("a").copied().unwrap_or(0);
            match outcome {
                Ok(()) => assert_eq!(times, 1, "{fault:?} at {step}"),
                Err(error) if error.kind == ErrorKind::Unknown => assert!(times <= 1),
                Err(error) => assert_eq!(times, 0, "{fault:?} at {step}: {error}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_does_not_say_that_nothing_is_there() {
    let store = faulty(1);
    let node = records(&store, 1, GRACE);
    node.create(&paths::root(), &1_u64).await.expect("created");
    store.set_rates(FaultRates {
        before_apply: 1000,
        ..FaultRates::healthy()
    });
    assert!(node.remove::<u64>(&paths::root()).await.is_err());
    assert!(node.get::<u64>(&paths::root()).await.is_err());
    assert!(node.create(&paths::root(), &2_u64).await.is_err());
    store.heal();
    // It is asked again in a moment.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(node.get::<u64>(&paths::root()).await.expect("read"), Some(1));
    assert!(node.remove::<u64>(&paths::root()).await.expect("removed"));
    assert!(!node.remove::<u64>(&paths::root()).await.expect("gone"));
}

#[tokio::test(start_paused = true)]
async fn what_was_read_long_ago_is_read_again_before_it_is_changed() {
    let store = faulty(1);
    let (slow, fast) = (
        records(&store, 1, Duration::from_secs(10)),
        records(&store, 2, Duration::from_secs(10)),
    );
    slow.create(&paths::root(), &0_u64).await.expect("created");
    // The reply to its GET comes after half the grace; meanwhile others change the record.
    store.fail_call(store.calls() + 1, Fault::Slow(Duration::from_secs(6)));
    let mut seen = Vec::new();
    let change = |n: Option<u64>| {
        seen.push(n);
        Ok(n.map(|n| n + 100))
    };
    let at = paths::root();
    let slow_change = slow.update::<u64, _>(&at, change);
    let fast_change = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        fast.update::<u64, _>(&at, |n| Ok(n.map(|n| n + 1))).await
    };
    let (a, b) = tokio::join!(slow_change, fast_change);
    assert_eq!(
        (a.expect("changed").value, b.expect("changed").value),
        (Some(101), Some(1))
    );
    assert_eq!(seen, [Some(0), Some(1)], "decided again on what is newest");
}

#[tokio::test(start_paused = true)]
async fn old_revisions_go_and_the_newest_stays() {
    let store = faulty(1);
    let node = records(&store, 1, Duration::ZERO);
    for n in 0..20 {
        // The store's own times tell ages; they pass although the clock stands.
        std::thread::sleep(Duration::from_millis(2));
        add(&node, &n.to_string()).await.expect("changed");
    }
    let newest = node
        .newest::<Tally>(&paths::root())
        .await
        .expect("read")
        .expect("there");
    assert_eq!((newest.number, newest.value.map(|t| t.0.len())), (20, Some(20)));
    assert_eq!(node.at::<Tally>(&paths::root(), 1).await.expect("read"), None);
    let patient = records(&store, 2, GRACE);
    add(&patient, "x").await.expect("changed");
    assert!(
        patient.at::<Tally>(&paths::root(), 20).await.expect("read").is_some(),
        "within the grace nothing goes"
    );
}
