//! A store that is slow or does not answer (rows 20 and 21): who waits, for how long, and who comes first.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use object_store::memory::InMemory;
use serde_json::json;
use shoal::base::Rng;
use shoal::error::ErrorKind;
use shoal::maintenance::{self, Indexer, UpkeepOptions};
use shoal::namespace::Tail;
use tokio::time::{Instant, sleep};

use super::support::engine::{Node, name};
use super::support::fault::{Fault, FaultRates, FaultStore};

fn bucket() -> FaultStore {
    FaultStore::new(Arc::new(InMemory::new()), Rng::seeded(3), FaultRates::healthy())
}

/// Every request takes up to so long.
fn taking(delay_max: Duration) -> FaultRates {
    FaultRates {
        slow: 1000,
        delay_max,
        ..FaultRates::healthy()
    }
}

fn down() -> FaultRates {
    FaultRates {
        before_apply: 1000,
        ..FaultRates::healthy()
    }
}

fn row(id: u64) -> serde_json::Value {
    json!({"upsert_rows": [{"id": id, "n": 1}]})
}

/// What a minute of use was like.
struct Minute {
    /// Of the strong queries.
    p99: Duration,
    queries: usize,
    /// Requests of background work.
    background: u64,
}

/// For a minute five clients read and one writes, without a pause.
async fn minute(node: &Node, faults: &FaultStore, next: &Cell<u64>) -> Minute {
    let end = Instant::now() + Duration::from_secs(60);
    let before = faults.background_calls();
    let times = RefCell::new(Vec::new());
    let read = async |_| {
        while Instant::now() < end {
            let start = Instant::now();
            node.ids("ns").await.expect("readable");
            times.borrow_mut().push(start.elapsed());
            sleep(Duration::from_millis(20)).await;
        }
    };
    let write = async {
        while Instant::now() < end {
            let id = next.replace(next.get() + 1);
            node.write("ns", row(id)).await.expect("written");
            sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::join!(join_all((0..5).map(read)), write);
    let mut times = times.into_inner();
    times.sort();
    Minute {
        p99: times[times.len() * 99 / 100],
        queries: times.len(),
        background: faults.background_calls() - before,
    }
}

/// Row 21: twenty times as slow as usual. Queries take that much longer and no more; flushes and merges are put off while
/// there are any, but not for ever, and go on when there are none.
#[tokio::test(start_paused = true)]
async fn background_work_gives_way_on_a_slow_store() {
    let faults = bucket();
    let node = Node::new(Arc::new(faults.clone()), 1);
    let options = UpkeepOptions {
        flush_entries: 4,
        small_entries: 4,
        small_quiet: Duration::from_secs(1),
        small_pause: Duration::from_millis(100),
        merge_fan_out: 2,
        inline: false,
        ..UpkeepOptions::default()
    };
    let upkeep = maintenance::run(Indexer::new(node.engine.clone(), options), std::future::pending());
    node.runtime.spawner.spawn("upkeep", Box::pin(upkeep));
    let next = Cell::new(0);
    let (usual, slow) = (Duration::from_millis(30), Duration::from_millis(600));
    faults.set_rates(taking(usual));
    let before = minute(&node, &faults, &next).await;
    assert!(before.p99 <= usual * 4, "{:?}", before.p99);
    faults.set_rates(taking(slow));
    let during = minute(&node, &faults, &next).await;
    assert!(during.p99 <= slow * 4, "{:?}", during.p99);
    assert!(during.queries > 300, "{} queries", during.queries);
    assert!(
        during.background * 5 < before.background,
        "{} requests instead of {}",
        during.background,
        before.background
    );
    assert!(during.background > 0, "it goes on, if slowly (I16)");
    // As slow as before, but nobody is held up.
    let before = faults.background_calls();
    sleep(Duration::from_secs(60)).await;
    assert!(faults.background_calls() - before > 10, "it catches up");
    let tail = node.engine.tail(&node.org, &name("ns"));
    assert!(matches!(tail, Tail::Clean), "{tail:?}");
    faults.heal();
    assert_eq!(node.ids("ns").await.expect("readable").len() as u64, next.get());
}

/// Row 20: a store that is down for a while is not asked for a while: everybody is told so at once, and hardly any requests
/// are sent. As soon as one is answered all are sent again.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_is_left_alone_and_found_again() {
    let faults = bucket();
    let node = Node::new(Arc::new(faults.clone()), 1);
    let names = ["ns", "another"];
    for namespace in names {
        node.write(namespace, row(0)).await.expect("written");
    }
    // What fails in one namespace alone says nothing of the store.
    faults.set_rates(down());
    for _ in 0..40 {
        sleep(Duration::from_millis(500)).await;
        node.ids("ns").await.expect_err("the store is down");
    }
    let calls = faults.calls();
    node.ids("another").await.expect_err("the store is down");
    assert!(faults.calls() > calls, "it was asked");
    let read = async |n: u64, from: Duration| {
        sleep(from).await;
        let start = Instant::now();
        let refused = node.ids(names[n as usize % 2]).await.expect_err("the store is down");
        assert_eq!(refused.kind, ErrorKind::Unavailable, "{refused:?}");
        assert!(refused.retry_after.is_some());
        start.elapsed()
    };
    // Some seconds of that are a failure like any other: it may be over in a moment.
    join_all((0..100).map(|n| read(n, Duration::from_millis(n * 100)))).await;
    let (calls, began) = (faults.calls(), Instant::now());
    let took = join_all((0..500).map(|n| read(n, Duration::from_millis(n * 20)))).await;
    let longest = took.into_iter().max().expect("some");
    assert!(longest < Duration::from_millis(500), "{longest:?}");
    let calls = faults.calls() - calls;
    let seconds = began.elapsed().as_secs();
    assert!(calls <= 2 * (seconds + 1), "{calls} requests in {seconds} s");
    // Nothing was sent, so it is known that nothing was written.
    for id in 10..20 {
        let refused = node.write("ns", row(id)).await.expect_err("the store is down");
        assert!(
            matches!(refused.kind, ErrorKind::Unavailable | ErrorKind::Unknown),
            "{refused:?}"
        );
    }
    faults.heal();
    sleep(Duration::from_secs(2)).await;
    for _ in 0..20 {
        assert_eq!(node.ids("ns").await.expect("it is back"), [0]);
    }
    node.write("ns", row(1)).await.expect("it is back");
    assert_eq!(node.ids("ns").await.expect("readable"), [0, 1]);
}

/// A commit whose reply is lost just before the store goes down is still found in the log, and acknowledged once: the
/// breaker puts off finding out, and does not replace it.
#[tokio::test(start_paused = true)]
async fn what_was_sent_is_resolved_behind_a_breaker() {
    for seconds in [3, 8, 15, 60] {
        let faults = bucket();
        let node = Node::new(Arc::new(faults.clone()), 1);
        node.write("ns", row(0)).await.expect("written");
        let outage = async {
            // Others notice that the store is down, so that the breaker opens.
            let end = Instant::now() + Duration::from_secs(seconds);
            while Instant::now() < end {
                let _ = node.ids("other").await;
                sleep(Duration::from_millis(50)).await;
            }
            faults.heal();
        };
        let write = async {
            faults.set_rates(down());
            faults.fail_call(faults.calls(), Fault::AfterApply);
            node.write("ns", row(1)).await
        };
        let (written, ()) = tokio::join!(write, outage);
        match written {
            Ok(written) => assert_eq!(written.seq.0, 2, "after {seconds} s"),
            Err(error) => assert!(
                seconds > 30 && error.kind == ErrorKind::Unknown,
                "{seconds} s: {error:?}"
            ),
        }
        sleep(Duration::from_secs(2)).await;
        assert_eq!(node.ids("ns").await.expect("readable"), [0, 1], "once");
        assert_eq!(node.write("ns", row(2)).await.expect("written").seq.0, 3);
    }
}
