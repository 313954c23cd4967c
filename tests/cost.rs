//! Object-store requests and dependent rounds per operation: what docs/guarantees.md §7 promises.
//!
//! Every request takes 63 ms of paused time, so the time an operation takes says how many requests
//! waited for each other.

#[path = "cost/indexed.rs"]
mod indexed;
#[path = "cost/many.rs"]
mod many;
mod support;
#[path = "cost/warm.rs"]
mod warm;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use object_store::memory::InMemory;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use serde_json::json;
use shoal::model::access::TokenGuard;
use shoal::model::write::origin::OriginKind;
use shoal::model::{Consistency, Filter, FilterOp, Guard, Restriction, SettingsChange};
use shoal::namespace::{CopyFrom, Creation, EngineOptions, Operation, Progress};
use shoal::store::count::{CountingStore, Counts};
use support::engine::{EVENTUAL, Node, name};
use support::upkeep;

const LATENCY: Duration = Duration::from_millis(63);

/// A bucket with latency, and its bill.
struct Bucket {
    counting: CountingStore,
}

impl Bucket {
    fn new() -> Self {
        let slow = ThrottleConfig {
            wait_get_per_call: LATENCY,
            wait_put_per_call: LATENCY,
            wait_list_per_call: LATENCY,
            wait_list_with_delimiter_per_call: LATENCY,
            wait_delete_per_call: LATENCY,
            ..ThrottleConfig::default()
        };
        let store = ThrottledStore::new(InMemory::new(), slow);
        Self {
            counting: CountingStore::new(Arc::new(store)),
        }
    }

    fn node(&self, seed: u64) -> Node {
        // What is repeated from time to time is counted by tests of its own.
        let seldom = Duration::from_secs(7 * 24 * 3600);
        let options = EngineOptions {
            dirty_mark_refresh: seldom,
            manifest_refresh: seldom,
            ..EngineOptions::default()
        };
        Node::with(Arc::new(self.counting.clone()), seed, options)
    }

    /// Runs an operation; returns its result, its requests and its dependent rounds.
    async fn bill<T>(&self, operation: impl Future<Output = T>) -> (T, Bill) {
        let before = self.counting.counts();
        let start = tokio::time::Instant::now();
        let result = operation.await;
        let rounds = start.elapsed().as_millis().div_ceil(LATENCY.as_millis()) as u64;
        // What goes on behind the answer is paid for as well.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let bill = Bill::between(before, self.counting.counts(), rounds);
        (result, bill)
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Bill {
    writes: u64,
    gets: u64,
    lists: u64,
    deletes: u64,
    rounds: u64,
}

impl Bill {
    fn between(before: Counts, after: Counts, rounds: u64) -> Self {
        Self {
            writes: after.puts + after.creates - before.puts - before.creates,
            gets: after.gets - before.gets,
            lists: after.lists - before.lists,
            deletes: after.deletes - before.deletes,
            rounds,
        }
    }

    fn of(writes: u64, gets: u64, lists: u64, rounds: u64) -> Self {
        Self {
            writes,
            gets,
            lists,
            deletes: 0,
            rounds,
        }
    }
}

fn row(id: u64) -> serde_json::Value {
    json!({"upsert_rows": [{"id": id, "vector": [1.0, id], "text": "some words"}], "distance_metric": "cosine_distance"})
}

#[tokio::test(start_paused = true)]
async fn a_first_write_costs_an_entry_two_markers_and_a_look_side_by_side() {
    let bucket = Bucket::new();
    let node = bucket.node(1);
    let (written, bill) = bucket.bill(node.write("ns", row(1))).await;
    written.expect("written");
    // The listing proves that the log does not begin elsewhere, and the hint at the newest manifest is not there; see
    // docs/design/0003-log.md. Two markers: for listings, and for whoever indexes.
    assert_eq!(bill, Bill::of(3, 1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_warm_write_costs_one_put() {
    let bucket = Bucket::new();
    let node = bucket.node(1);
    node.write("ns", row(1)).await.expect("written");
    let (written, bill) = bucket.bill(node.write("ns", row(2))).await;
    written.expect("written");
    assert_eq!(bill, Bill::of(1, 0, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_warm_conditional_write_costs_one_put() {
    let bucket = Bucket::new();
    let node = bucket.node(1);
    node.write("ns", row(1)).await.expect("written");
    let conditional = json!({"patch_rows": [{"id": 1, "n": 1}], "patch_condition": ["id", "Eq", 1]});
    let (written, bill) = bucket.bill(node.write("ns", conditional)).await;
    assert_eq!(written.expect("written").rows_patched, Some(1));
    assert_eq!(bill, Bill::of(1, 0, 0, 1));
    // That there is nothing to do is said on the newest state.
    let nothing = json!({"deletes": [1], "delete_condition": ["n", "Eq", 7]});
    let (written, bill) = bucket.bill(node.write("ns", nothing)).await;
    assert_eq!(written.expect("looked at").rows_deleted, Some(0));
    assert_eq!(bill, Bill::of(0, 1, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_write_by_filter_costs_a_probe_and_a_put() {
    let bucket = Bucket::new();
    let node = bucket.node(1);
    node.write("ns", row(1)).await.expect("written");
    let by_filter = json!({"patch_by_filter": {"filters": ["id", "Gte", 0], "patch": {"n": 1}}});
    let (written, bill) = bucket.bill(node.write("ns", by_filter)).await;
    assert_eq!(written.expect("written").rows_patched, Some(1));
    assert_eq!(bill, Bill::of(1, 1, 0, 2));
}

#[tokio::test(start_paused = true)]
async fn concurrent_writes_share_the_next_put() {
    let bucket = Bucket::new();
    let node = bucket.node(1);
    node.write("ns", row(0)).await.expect("written");
    let (written, bill) = bucket.bill(join_all((1..=200).map(|i| node.write("ns", row(i))))).await;
    assert!(written.iter().all(Result::is_ok));
    assert!(bill.writes <= 2 && bill.rounds <= 2, "{bill:?}");
    assert_eq!(bill.gets + bill.lists, 0, "{bill:?}");
    assert_eq!(node.ids("ns").await.expect("readable").len(), 201);
}

#[tokio::test(start_paused = true)]
async fn a_warm_strong_query_costs_one_get_that_all_waiting_share() {
    let bucket = Bucket::new();
    let node = bucket.node(1);
    node.write("ns", row(1)).await.expect("written");
    let (rows, bill) = bucket.bill(node.ids("ns")).await;
    assert_eq!(rows.expect("readable"), [1]);
    assert_eq!(bill, Bill::of(0, 1, 0, 1));
    let (rows, bill) = bucket.bill(join_all((0..100).map(|_| node.ids("ns")))).await;
    assert!(rows.iter().all(|r| r.as_ref().is_ok_and(|ids| ids == &[1])));
    assert!(bill.gets <= 2 && bill.rounds <= 2, "{bill:?}");
}

/// What a caller may do is looked up where the query looks anyway.
#[tokio::test(start_paused = true)]
async fn guards_cost_nothing_more() {
    let bucket = Bucket::new();
    let node = bucket.node(1);
    node.write("ns", row(1)).await.expect("written");
    let known = node.engine.metadata(&node.org, &name("ns")).await.expect("there");
    let networks = SettingsChange {
        allowed_ips: Some(vec!["10.0.0.0/8".parse().expect("a network")]),
        ..SettingsChange::default()
    };
    let set = node.engine.update_settings(&node.org, &name("ns"), networks).await;
    set.expect("set");
    let guard = |generation, restriction| Guard {
        token: Some(TokenGuard::Namespace {
            id: known.id,
            generation,
        }),
        ip: Some("10.1.2.3".parse().expect("an address")),
        restriction,
        ..Guard::default()
    };
    let caller = |guard| Node {
        engine: node.engine.guarded(Arc::new(guard)),
        runtime: node.runtime.clone(),
        org: node.org.clone(),
    };
    let restriction = Restriction {
        filters: vec![Arc::new(Filter::compare("text", FilterOp::Eq, "some words"))],
        ..Restriction::default()
    };
    for restriction in [None, Some(Arc::new(restriction))] {
        let reader = caller(guard(0, restriction));
        let (rows, bill) = bucket.bill(reader.ids("ns")).await;
        assert_eq!(rows.expect("readable"), [1]);
        assert_eq!(bill, Bill::of(0, 1, 0, 1));
        let (rows, bill) = bucket.bill(reader.rows("ns", EVENTUAL)).await;
        rows.expect("readable");
        assert_eq!((bill.writes, bill.lists, bill.rounds), (0, 0, 0));
    }
    let (written, bill) = bucket.bill(caller(guard(0, None)).write("ns", row(2))).await;
    written.expect("written");
    assert_eq!(bill, Bill::of(1, 0, 0, 1));
    // A refusal costs the look that makes sure of it.
    let revoked = caller(guard(1, None));
    let (rows, bill) = bucket.bill(revoked.ids("ns")).await;
    assert!(rows.is_err());
    assert_eq!(bill, Bill::of(0, 1, 0, 1));
    let (written, bill) = bucket.bill(revoked.write("ns", row(3))).await;
    assert!(written.is_err());
    assert_eq!(bill, Bill::of(0, 1, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn creating_a_namespace_costs_what_a_first_write_does() {
    let bucket = Bucket::new();
    let node = bucket.node(1);
    let new = name("ns");
    let create = || node.engine.create(&node.org, &new, Creation::default());
    let (created, bill) = bucket.bill(create()).await;
    created.expect("created");
    assert_eq!(bill, Bill::of(3, 1, 1, 1));
    let (created, bill) = bucket.bill(create()).await;
    assert!(created.is_err());
    assert_eq!(bill, Bill::of(0, 1, 0, 1));
    let (written, bill) = bucket.bill(node.write("ns", row(1))).await;
    written.expect("written");
    assert_eq!(bill, Bill::of(1, 0, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_warm_eventual_query_costs_nothing() {
    let bucket = Bucket::new();
    let node = bucket.node(1);
    node.write("ns", row(1)).await.expect("written");
    let (rows, bill) = bucket.bill(node.rows("ns", EVENTUAL)).await;
    rows.expect("readable");
    assert_eq!(bill, Bill::of(0, 0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_old_eventual_view_is_refreshed_behind_the_answer() {
    let bucket = Bucket::new();
    let node = bucket.node(1);
    node.write("ns", row(1)).await.expect("written");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (rows, bill) = bucket.bill(node.rows("ns", EVENTUAL)).await;
    rows.expect("readable");
    assert_eq!(bill, Bill::of(0, 1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_small_namespace_opens_in_two_rounds() {
    let bucket = Bucket::new();
    let writer = bucket.node(1);
    writer.write("ns", row(1)).await.expect("written");
    let cold = bucket.node(2);
    let (rows, bill) = bucket.bill(cold.ids("ns")).await;
    assert_eq!(rows.expect("readable"), [1]);
    assert_eq!(bill, Bill::of(0, 2, 1, 2));
    // A longer log is read in parallel.
    for id in 2..=20 {
        writer.write("ns", row(id)).await.expect("written");
    }
    let cold = bucket.node(3);
    let (rows, bill) = bucket.bill(cold.ids("ns")).await;
    assert_eq!(rows.expect("readable").len(), 20);
    assert_eq!(bill, Bill::of(0, 21, 1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_long_log_opens_in_few_rounds() {
    let bucket = Bucket::new();
    let writer = bucket.node(1);
    for id in 0..1000 {
        writer.write("ns", row(id)).await.expect("written");
    }
    let cold = bucket.node(2);
    let (rows, bill) = bucket.bill(cold.ids("ns")).await;
    assert_eq!(rows.expect("readable").len(), 1000);
    // One listing beside the hint at the newest manifest, then 64 entries at a time.
    assert_eq!(bill, Bill::of(0, 1001, 1, 1 + 1000u64.div_ceil(64)));
}

#[tokio::test(start_paused = true)]
async fn an_open_namespace_costs_nothing_while_nobody_uses_it() {
    let bucket = Bucket::new();
    let node = bucket.node(1);
    node.write("ns", row(1)).await.expect("written");
    node.ids("ns").await.expect("readable");
    let (_, bill) = bucket.bill(tokio::time::sleep(Duration::from_secs(24 * 3600))).await;
    assert_eq!((bill.writes, bill.gets, bill.lists, bill.deletes), (0, 0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_refused_write_costs_at_most_one_look() {
    let bucket = Bucket::new();
    let node = bucket.node(1);
    node.write("ns", row(1)).await.expect("written");
    let wrong = json!({"upsert_rows": [{"id": 2, "vector": [1.0, 2.0, 3.0], "text": "x"}]});
    let (written, bill) = bucket.bill(node.write("ns", wrong)).await;
    assert!(written.is_err());
    assert_eq!(bill, Bill::of(0, 1, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_patch_of_a_warm_namespace_costs_one_put() {
    let bucket = Bucket::new();
    let node = bucket.node(1);
    node.write("ns", row(1)).await.expect("written");
    let patch = json!({"patch_rows": [{"id": 1, "text": "other words"}]});
    let (written, bill) = bucket.bill(node.write("ns", patch)).await;
    assert_eq!(written.expect("written").rows_patched, Some(1));
    assert_eq!(bill, Bill::of(1, 0, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_change_of_settings_costs_one_put() {
    let bucket = Bucket::new();
    let node = bucket.node(1);
    node.write("ns", row(1)).await.expect("written");
    let read_only = SettingsChange {
        read_only: Some(true),
        ..SettingsChange::default()
    };
    let namespace = name("ns");
    let change = || node.engine.update_settings(&node.org, &namespace, read_only.clone());
    let (known, bill) = bucket.bill(change()).await;
    assert!(known.expect("set").settings.read_only);
    assert_eq!(bill, Bill::of(1, 0, 0, 1));
    // The same again changes nothing, which is looked up.
    let (known, bill) = bucket.bill(change()).await;
    assert!(known.expect("set").settings.read_only);
    assert_eq!(bill, Bill::of(0, 1, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_copy_costs_a_look_at_both_namespaces_and_a_first_write() {
    let bucket = Bucket::new();
    let node = bucket.node(1);
    node.write("ns", row(1)).await.expect("written");
    let from = CopyFrom {
        kind: OriginKind::Copy,
        org: node.org.clone(),
        source: name("ns"),
        guard: None,
        num_shards: None,
        create_namespace: None,
    };
    let (copy, progress) = (name("copy"), Progress::default());
    let (copied, bill) = bucket.bill(node.engine.copy(&node.org, &copy, &from, &progress)).await;
    assert_eq!(copied.expect("copied").rows, 1);
    // The source's end and the destination's log and hint side by side; then entry and markers.
    assert_eq!(bill, Bill::of(3, 2, 1, 2));
    // By token: a note that it was started before all that, one of its end after it, which makes
    // the first superfluous.
    let again = name("again");
    let (token, bill) = bucket.bill(node.engine.start_copy(&node.org, &again, from)).await;
    let token = token.expect("started");
    assert_eq!(
        (bill.writes, bill.gets, bill.lists, bill.deletes, bill.rounds),
        (5, 2, 2, 1, 1)
    );
    let (known, bill) = bucket.bill(node.engine.operation(&node.org, &again, &token)).await;
    assert!(matches!(known, Ok(Operation::Finished { result: Ok(_), .. })));
    assert_eq!(bill, Bill::of(0, 1, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_large_write_is_uploaded_beside_the_log_and_read_back_whole() {
    let bucket = Bucket::new();
    let node = bucket.node(1);
    node.write("ns", json!({"upsert_rows": [{"id": 0, "text": "small"}]}))
        .await
        .expect("written");
    let text = "lorem ipsum ".repeat(20_000);
    let rows: Vec<_> = (1..=100)
        .map(|id| json!({"id": id, "text": format!("{id} {text}")}))
        .collect();
    let large = json!({"upsert_rows": rows, "schema": {"text": {"type": "string", "filterable": false}}});
    let (written, bill) = bucket.bill(node.write("ns", large)).await;
    written.expect("written");
    // 24 MB of text: two blobs side by side, then the entry that names them.
    assert_eq!((bill.writes, bill.gets, bill.rounds), (3, 0, 2), "{bill:?}");
    let cold = bucket.node(2);
    assert_eq!(cold.ids("ns").await.expect("readable").len(), 101);
}

#[tokio::test(start_paused = true)]
async fn deleting_a_namespace_costs_an_entry_and_its_marker() {
    let bucket = Bucket::new();
    let node = bucket.node(1);
    node.write("ns", row(1)).await.expect("written");
    let (deleted, bill) = bucket.bill(node.engine.delete(&node.org, &name("ns"))).await;
    deleted.expect("deleted");
    assert_eq!(
        (bill.writes, bill.gets, bill.lists, bill.deletes),
        (1, 0, 1, 1),
        "{bill:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn listing_costs_one_request() {
    let bucket = Bucket::new();
    let node = bucket.node(1);
    for i in 0..20 {
        node.write(&format!("ns-{i}"), row(1)).await.expect("written");
    }
    let (page, bill) = bucket.bill(node.engine.list(&node.org, "ns-1", None, 5)).await;
    let page = page.expect("listed");
    assert_eq!((page.names.len(), page.next_cursor.is_some()), (5, true));
    assert_eq!(bill, Bill::of(0, 0, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn losing_a_slot_costs_one_look_and_another_put() {
    let bucket = Bucket::new();
    let (a, b) = (bucket.node(1), bucket.node(2));
    a.write("ns", row(1)).await.expect("written");
    b.write("ns", row(2)).await.expect("written");
    a.write("ns", row(3)).await.expect("written");
    // `b` does not know of the third entry; its listing marker was written already.
    let (written, bill) = bucket.bill(b.write("ns", row(4))).await;
    written.expect("written");
    assert_eq!((bill.writes, bill.gets, bill.lists), (2, 1, 0), "{bill:?}");
    assert_eq!(
        b.rows("ns", Consistency::Strong).await.expect("readable").results[0]
            .rows()
            .len(),
        4
    );
}

#[tokio::test(start_paused = true)]
async fn metadata_counts_rows_when_writing_has_paused() {
    let bucket = Bucket::new();
    let node = bucket.node(1);
    node.write("ns", row(1)).await.expect("written");
    let (known, bill) = bucket.bill(node.engine.metadata(&node.org, &name("ns"))).await;
    assert_eq!(known.expect("there").approx_rows, 0);
    assert_eq!(bill, Bill::of(0, 1, 0, 1));
    tokio::time::sleep(Duration::from_secs(60)).await;
    let known = node.engine.metadata(&node.org, &name("ns")).await.expect("there");
    assert_eq!((known.approx_rows, known.unindexed_rows), (1, 1));
    assert!(known.approx_bytes > 0);
}

#[tokio::test(start_paused = true)]
async fn an_indexed_small_namespace_opens_in_two_rounds_and_three_requests() {
    let bucket = Bucket::new();
    let node = bucket.node(1);
    for id in 1..=20 {
        node.write("ns", row(id)).await.expect("written");
    }
    let manifest = upkeep::flush(&node, "ns").await.expect("flushed");
    assert!(manifest.segments.iter().all(|s| s.meta.inline.is_some()));
    node.engine
        .adopt(&node.org, &name("ns"), &manifest)
        .await
        .expect("taken over");
    // Of the log, the newest entry says that it is the one that the manifest ends with.
    let cold = bucket.node(2);
    let (rows, bill) = bucket.bill(cold.ids("ns")).await;
    assert_eq!(rows.expect("readable").len(), 20);
    assert_eq!(bill, Bill::of(0, 2, 1, 2));
    // Reads cost what they do without segments; the first write after a flush marks the namespace again.
    for (read, writes) in [(&node, 2), (&cold, 1)] {
        let (rows, bill) = bucket.bill(read.ids("ns")).await;
        rows.expect("readable");
        // The other node has an entry to catch up with.
        assert!(
            bill.writes + bill.lists == 0 && bill.gets <= 3 && bill.rounds <= 2,
            "{bill:?}"
        );
        let (written, bill) = bucket.bill(node.write("ns", row(1))).await;
        written.expect("written");
        assert_eq!(bill, Bill::of(writes, 0, 0, 1));
    }
    let (written, bill) = bucket
        .bill(node.write("ns", json!({"patch_rows": [{"id": 7, "n": 1}]})))
        .await;
    assert_eq!(written.expect("written").rows_patched, Some(1));
    assert_eq!(bill, Bill::of(1, 0, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_dirty_namespace_is_marked_once_more_and_looked_after_while_it_is_used() {
    let bucket = Bucket::new();
    let node = Node::new(Arc::new(bucket.counting.clone()), 1);
    node.write("ns", row(1)).await.expect("written");
    let (_, bill) = bucket.bill(tokio::time::sleep(Duration::from_secs(24 * 3600))).await;
    assert_eq!((bill.writes, bill.gets, bill.lists, bill.deletes), (1, 0, 0, 0));
    // A day later: the end of the log, a listing because this node has not looked for so long, and a look for a manifest.
    let (rows, bill) = bucket.bill(node.ids("ns")).await;
    assert_eq!(rows.expect("readable"), [1]);
    assert!(bill.gets + bill.lists <= 4 && bill.writes == 0, "{bill:?}");
}
