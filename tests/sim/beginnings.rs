//! Nodes that meet a log after long: its beginning was collected, or much of it is in segments already.

use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use serde_json::{Value as Json, json};
use shoal::base::{Clock, Rng, TokioClock};
use shoal::cache::CacheOptions;
use shoal::error::ErrorKind;
use shoal::maintenance::{Indexer, UpkeepOptions};
use shoal::model::{Gen, OrgId, Seq};
use shoal::namespace::EngineOptions;
use shoal::store::paths::{self, NsKey};

use super::once::OnceStore;
use super::support::engine::{Node, name};
use super::support::fault::{Fault, FaultRates, FaultStore};

fn key() -> NsKey {
    NsKey::new(OrgId::default_org(), name("ns"))
}

fn rows(ids: std::ops::Range<u64>) -> Json {
    json!({"upsert_rows": ids.map(|id| json!({"id": id, "n": 1})).collect::<Vec<_>>()})
}

async fn write(node: &Node, ids: std::ops::Range<u64>) {
    node.write("ns", rows(ids)).await.expect("written");
}

/// Segments are objects of their own.
async fn flush(node: &Node) {
    let options = UpkeepOptions {
        inline: false,
        ..UpkeepOptions::default()
    };
    let indexer = Indexer::new(node.engine.clone(), options);
    indexer.flush(&node.org, &name("ns")).await.expect("flushed");
}

/// The rows 0 to 4 in a segment. Of the log its newest entry is left, as after long without a write, and nothing hints at
/// the manifest, as when its node died before it could.
async fn collected() -> Arc<InMemory> {
    let inner = Arc::new(InMemory::new());
    let old = Node::new(inner.clone(), 1);
    for id in 0..5 {
        write(&old, id..id + 1).await;
    }
    flush(&old).await;
    for seq in 1..5 {
        inner
            .delete(&paths::wal_entry(&key(), Seq(seq)))
            .await
            .expect("deleted");
    }
    inner.delete(&paths::head(&key())).await.expect("deleted");
    inner
}

/// The first write of a node that knows nothing goes to slot 1, which is free again. It may land at any moment of the
/// look at the log that says so, be it of this node or of another.
#[tokio::test(start_paused = true)]
async fn a_first_write_that_lands_before_the_beginning_of_the_log_misleads_nobody() {
    let (mut confirmed, mut read_beside) = (0, 0);
    for seed in 0..300 {
        let inner = collected().await;
        let rates = FaultRates {
            late_apply: 400,
            slow: 600,
            delay_max: Duration::from_millis(50),
            ..FaultRates::healthy()
        };
        let faults = FaultStore::new(inner.clone(), Rng::seeded(seed), rates);
        let [writer, reader] = [2, 3].map(|n| Node::new(Arc::new(faults.clone()), 10 * seed + n));
        let beside = async {
            tokio::time::sleep(Duration::from_millis(seed % 40)).await;
            reader.ids("ns").await
        };
        let (wrote, read) = tokio::join!(writer.write("ns", rows(100..101)), beside);
        faults.heal();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (without, with) = (vec![0, 1, 2, 3, 4], vec![0, 1, 2, 3, 4, 100]);
        if let Ok(read) = read {
            assert!([&without, &with].contains(&&read), "seed {seed}: {read:?}");
            read_beside += 1;
        }
        let fresh = Node::new(inner.clone(), 10 * seed + 4);
        let there = fresh.ids("ns").await.expect("readable");
        match &wrote {
            Ok(_) => assert_eq!(there, with, "seed {seed}: what was confirmed is lost"),
            Err(error) if error.kind == ErrorKind::Unknown => assert!([&without, &with].contains(&&there)),
            Err(_) => assert_eq!(there, without, "seed {seed}"),
        }
        confirmed += u64::from(wrote.is_ok());
        // Nobody goes on from what is not there.
        write(&writer, 200..201).await;
        let there = [there, vec![200]].concat();
        for node in [&writer, &reader, &fresh, &Node::new(inner.clone(), 10 * seed + 5)] {
            assert_eq!(node.ids("ns").await.expect("readable"), there, "seed {seed}");
        }
    }
    assert!(confirmed > 100 && read_beside > 100, "{confirmed} and {read_beside}");
}

#[tokio::test(start_paused = true)]
async fn a_hint_that_is_missing_is_left_again() {
    let inner = collected().await;
    let listed = Node::new(inner.clone(), 2);
    listed.ids("ns").await.expect("readable");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let head = inner.get(&paths::head(&key())).await.expect("there").bytes().await;
    let newest = inner.get(&paths::manifest(&key(), Gen(1))).await.expect("there");
    assert_eq!(head.expect("read"), newest.bytes().await.expect("read"));
}

/// A node whose state is old goes over to the segments that others have made, instead of reading every entry that is in
/// them.
#[tokio::test(start_paused = true)]
async fn what_is_in_segments_already_is_not_read_from_the_log() {
    for indexes in [false, true] {
        let inner = Arc::new(InMemory::new());
        let faults = FaultStore::new(inner.clone(), Rng::seeded(1), FaultRates::healthy());
        let [writer, behind] = [1, 2].map(|n| Node::new(Arc::new(faults.clone()), n));
        write(&writer, 0..1).await;
        flush(&writer).await;
        assert_eq!(behind.ids("ns").await.expect("readable"), [0]);
        for round in 1..=10 {
            for n in 0..200 {
                let id = round * 1000 + n % 20;
                write(&writer, id..id + 1).await;
            }
            flush(&writer).await;
        }
        let before = faults.calls();
        if indexes {
            behind.engine.newest(&behind.org, &name("ns")).await.expect("followed");
        }
        let ids = behind.ids("ns").await.expect("readable");
        let calls = faults.calls() - before;
        assert_eq!(ids.len(), 201);
        assert!(
            calls < if indexes { 60 } else { 500 },
            "{calls} requests for 2,000 entries"
        );
    }
}

/// An entry may name rows of every segment; not all of them are read at the same time.
#[tokio::test(start_paused = true)]
async fn an_entry_looks_into_a_few_segments_at_a_time() {
    const SEGMENTS: u64 = 100;
    let faults = FaultStore::new(Arc::new(InMemory::new()), Rng::seeded(1), FaultRates::healthy());
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::new(Duration::from_secs(1_700_000_000)));
    let gauge = OnceStore::new(Arc::new(faults.clone()), clock);
    let node = Node::new(Arc::new(gauge.clone()), 1);
    for n in 0..SEGMENTS {
        write(&node, n * 10..n * 10 + 10).await;
        flush(&node).await;
    }
    let options = EngineOptions {
        cache: CacheOptions::memory_only(0),
        ..EngineOptions::default()
    };
    let cold = Node::with(Arc::new(gauge.clone()), 2, options);
    cold.engine.newest(&cold.org, &name("ns")).await.expect("opened");
    faults.set_rates(FaultRates {
        slow: 1000,
        delay_max: Duration::from_millis(100),
        ..FaultRates::healthy()
    });
    gauge.reset_gauge();
    let patches: Vec<Json> = (0..SEGMENTS).map(|n| json!({"id": n * 10 + 3, "n": 2})).collect();
    let deletes: Vec<u64> = (0..SEGMENTS).map(|n| n * 10).collect();
    let wrote = cold
        .write("ns", json!({"patch_rows": patches, "deletes": deletes}))
        .await;
    wrote.expect("written");
    let most = gauge.most_gets();
    assert!((8..=64).contains(&most), "{most} at the same time");
    faults.heal();
    assert_eq!(cold.ids("ns").await.expect("readable").len() as u64, SEGMENTS * 9);
}

/// Entries are small when a node begins to follow, and large when it has to catch up: it does not fetch as many at once.
#[tokio::test(start_paused = true)]
async fn large_entries_are_fetched_a_few_at_a_time() {
    let faults = FaultStore::new(Arc::new(InMemory::new()), Rng::seeded(1), FaultRates::healthy());
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::new(Duration::from_secs(1_700_000_000)));
    let gauge = OnceStore::new(Arc::new(faults.clone()), clock);
    let options = EngineOptions {
        window_bytes: 16 * 1024,
        ..EngineOptions::default()
    };
    let [writer, behind] = [1, 2].map(|n| Node::with(Arc::new(gauge.clone()), n, options.clone()));
    write(&writer, 0..1).await;
    assert_eq!(behind.ids("ns").await.expect("readable"), [0]);
    let text = "x".repeat(3_000);
    for id in 1..100 {
        let row = json!({"upsert_rows": [{"id": id, "t": text}]});
        writer.write("ns", row).await.expect("written");
    }
    faults.set_rates(FaultRates {
        slow: 1000,
        delay_max: Duration::from_millis(100),
        ..FaultRates::healthy()
    });
    gauge.reset_gauge();
    assert_eq!(behind.ids("ns").await.expect("readable").len(), 100);
    let most = gauge.most_gets();
    assert!((3..=5).contains(&most), "{most} at the same time");
}

/// A delete of more rows than it may touch is refused by counting them, and what may be touched is counted in id order
/// across segments.
#[tokio::test(start_paused = true)]
async fn a_delete_by_filter_reads_the_ids_that_it_may_touch() {
    const SEGMENTS: u64 = 12;
    let faults = FaultStore::new(Arc::new(InMemory::new()), Rng::seeded(1), FaultRates::healthy());
    let mut options = EngineOptions {
        cache: CacheOptions::memory_only(0),
        ..EngineOptions::default()
    };
    options.limits.delete_by_filter_max = 7;
    options.limits.patch_by_filter_max = 4;
    let writer = Node::with(Arc::new(faults.clone()), 1, options.clone());
    for n in 0..SEGMENTS {
        // The ids of all segments are mixed.
        let rows: Vec<Json> = (0..5).map(|i| json!({"id": i * 100 + n * 7 % 12, "n": 1})).collect();
        writer.write("ns", json!({"upsert_rows": rows})).await.expect("written");
        flush(&writer).await;
    }
    let cold = Node::with(Arc::new(faults.clone()), 2, options.clone());
    let all = cold.ids("ns").await.expect("readable");
    let delete =
        |partial: bool| json!({"delete_by_filter": ["n", "Gte", 0], "delete_by_filter_allow_partial": partial});
    let before = faults.calls();
    let refused = cold.write("ns", delete(false)).await.expect_err("too many");
    let refused_calls = faults.calls() - before;
    assert_eq!(refused.kind, ErrorKind::Invalid);
    assert!(refused.message.contains("matches 60 rows"), "{}", refused.message);
    let before = faults.calls();
    let deleted = cold.write("ns", delete(true)).await.expect("deleted");
    let calls = faults.calls() - before;
    assert_eq!(deleted.rows_deleted, Some(7));
    assert_eq!(cold.ids("ns").await.expect("readable"), all[7..]);
    assert!(
        refused_calls + SEGMENTS <= calls,
        "{refused_calls} and {calls} requests"
    );
    // With both: the rows that the delete leaves are patched, the first ones in id order.
    let both = json!({
        "delete_by_filter": ["id", "In", [all[7], all[9], all[40]]],
        "patch_by_filter": {"filters": ["n", "Gte", 0], "patch": {"n": 2}},
        "patch_by_filter_allow_partial": true,
    });
    let done = cold.write("ns", both).await.expect("written");
    assert_eq!((done.rows_deleted, done.rows_patched), (Some(3), Some(4)));
    let patched = json!({"delete_by_filter": ["n", "Eq", 2]});
    assert_eq!(cold.write("ns", patched).await.expect("deleted").rows_deleted, Some(4));
    let left: Vec<u64> = all[13..].iter().copied().filter(|id| *id != all[40]).collect();
    assert_eq!(cold.ids("ns").await.expect("readable"), left);
}

/// What a write by filter has to read when it is committed, because it could not be read before, holds up others for no
/// longer than a query may take.
#[tokio::test(start_paused = true)]
async fn a_write_by_filter_is_given_up_in_its_turn_too() {
    let faults = FaultStore::new(Arc::new(InMemory::new()), Rng::seeded(1), FaultRates::healthy());
    let mut options = EngineOptions {
        cache: CacheOptions::memory_only(0),
        ..EngineOptions::default()
    };
    options.limits.query_time_max = Duration::from_millis(300);
    let node = Node::with(Arc::new(faults.clone()), 1, options);
    for n in 0..200 {
        write(&node, n * 10..n * 10 + 3).await;
        flush(&node).await;
    }
    assert_eq!(node.ids("ns").await.expect("readable").len(), 600);
    // One that waits for the store, and meanwhile one that finds what it matches at once, and then has to wait for its turn
    // until the store has got slow.
    let next = faults.calls();
    (next..next + 4).for_each(|n| faults.fail_call(n, Fault::Slow(Duration::from_millis(400))));
    let by_filter = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        node.write("ns", json!({"delete_by_filter": ["n", "Eq", 1]})).await
    };
    let later = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        faults.set_rates(FaultRates {
            slow: 1000,
            delay_max: Duration::from_millis(200),
            ..FaultRates::healthy()
        });
        let began = tokio::time::Instant::now();
        node.write("ns", rows(9_000..9_001)).await.expect("written");
        began.elapsed()
    };
    let (first, result, took) = tokio::join!(node.write("ns", rows(8_000..8_001)), by_filter, later);
    first.expect("written");
    let error = result.expect_err("too slow");
    assert_eq!(error.kind, ErrorKind::TooSlow, "{error:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
}
