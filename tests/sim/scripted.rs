//! One failure at a time, each injected on purpose: lost replies, late effects, rivals, broken logs.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use futures::future::join_all;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::json;
use shoal::base::{CpuPool, Ledger, MemoryShare, Rng, Runtime, SystemClock};
use shoal::config::StoreConfig;
use shoal::error::ErrorKind;
use shoal::model::{Consistency, OrgId, Seq};
use shoal::namespace::{Engine, EngineOptions};
use shoal::store::Store;
use shoal::store::paths::{self, NsKey};
use shoal::wal::{EntryKind, Log};

use super::support::engine::{EVENTUAL, Node, ids, name};
use super::support::fault::{Fault, FaultRates, FaultStore};

/// A bucket that fails when told to.
struct Bucket {
    inner: Arc<InMemory>,
    faults: FaultStore,
}

impl Bucket {
    fn new() -> Self {
        let inner = Arc::new(InMemory::new());
        let faults = FaultStore::new(inner.clone(), Rng::seeded(7), FaultRates::healthy());
        Self { inner, faults }
    }

    fn node(&self, seed: u64) -> Node {
        Node::new(Arc::new(self.faults.clone()), seed)
    }

    fn node_with(&self, seed: u64, options: EngineOptions) -> Node {
        Node::with(Arc::new(self.faults.clone()), seed, options)
    }

    /// The next request to the store meets this fault.
    fn fail_next(&self, fault: Fault) {
        self.faults.fail_call(self.faults.calls(), fault);
    }

    /// From now on every request fails, until the store is healed.
    fn cut_off(&self) {
        let next = self.faults.calls();
        (next..next + 10_000).for_each(|n| self.faults.fail_call(n, Fault::BeforeApply));
    }

    /// How many requests each entry of the log holds, read past all faults.
    async fn requests_per_entry(&self) -> Vec<usize> {
        let store = Store::new(
            self.inner.clone(),
            Arc::new(SystemClock),
            Rng::seeded(1),
            &StoreConfig::default(),
        );
        let log = Log::new(store, key(), CpuPool::inline());
        let mut counts = Vec::new();
        for (seq, _) in log.list().await.expect("readable") {
            let logged = log.get(seq).await.expect("readable").expect("listed");
            counts.push(match logged.entry.kind {
                EntryKind::Data(requests) => requests.len(),
                EntryKind::DeleteNamespace => 0,
            });
        }
        counts
    }
}

/// A grace of 8 seconds: half of it is shorter than any time-out.
fn short_grace() -> EngineOptions {
    EngineOptions {
        grace: Duration::from_secs(8),
        ..EngineOptions::default()
    }
}

fn key() -> NsKey {
    NsKey::new(OrgId::default_org(), name("ns"))
}

/// A bucket, and a node that has written row 1 to the namespace `ns`.
async fn one_row() -> (Bucket, Node) {
    let bucket = Bucket::new();
    let node = bucket.node(1);
    node.write("ns", row(1)).await.expect("written");
    (bucket, node)
}

fn row(id: u64) -> serde_json::Value {
    json!({"upsert_rows": [{"id": id, "n": id}]})
}

/// The entry is stored, the answer is lost (or is an error although it was stored).
#[tokio::test(start_paused = true)]
async fn a_lost_reply_is_acknowledged_once() {
    let (bucket, node) = one_row().await;
    bucket.fail_next(Fault::AfterApply);
    let written = node.write("ns", row(2)).await.expect("found to be written");
    assert_eq!(written.seq, Seq(2));
    assert_eq!(node.ids("ns").await.expect("readable"), [1, 2]);
    assert_eq!(bucket.requests_per_entry().await, [1, 1]);
}

/// Nothing was stored, and the next attempt of the same slot stores it.
#[tokio::test(start_paused = true)]
async fn a_lost_request_is_sent_again_to_the_same_slot() {
    let (bucket, node) = one_row().await;
    bucket.fail_next(Fault::BeforeApply);
    assert_eq!(node.write("ns", row(2)).await.expect("written").seq, Seq(2));
    assert_eq!(bucket.requests_per_entry().await, [1, 1]);
}

/// The request takes effect long after its client gave up on it.
#[tokio::test(start_paused = true)]
async fn a_late_effect_never_becomes_a_second_copy() {
    for late_by in [1, 5, 40, 300] {
        let bucket = Bucket::new();
        let node = bucket.node(1);
        node.write("ns", row(1)).await.expect("written");
        bucket.fail_next(Fault::LateApply(Duration::from_millis(late_by)));
        node.write("ns", row(2))
            .await
            .expect("written, by one attempt or the other");
        tokio::time::sleep(Duration::from_secs(60)).await;
        node.write("ns", row(3)).await.expect("written");
        assert_eq!(node.ids("ns").await.expect("readable"), [1, 2, 3]);
        assert_eq!(bucket.requests_per_entry().await, [1, 1, 1], "late by {late_by} ms");
    }
}

/// The store is gone for so long that the outcome is unknown, and then the entry appears.
#[tokio::test(start_paused = true)]
async fn an_entry_that_appears_after_its_client_was_told_unknown_is_built_upon() {
    let (bucket, node) = one_row().await;
    bucket.cut_off();
    bucket.fail_next(Fault::LateApply(Duration::from_secs(100)));
    let error = node.write("ns", row(2)).await.expect_err("nobody knows");
    assert_eq!(error.kind, ErrorKind::Unknown);
    tokio::time::sleep(Duration::from_secs(200)).await;
    bucket.faults.heal();
    // The node does not know that its own older batch has the slot.
    assert_eq!(node.write("ns", row(3)).await.expect("written").seq, Seq(3));
    assert_eq!(node.ids("ns").await.expect("readable"), [1, 2, 3]);
    assert_eq!(bucket.requests_per_entry().await, [1, 1, 1]);
}

/// "conflict" although nothing is stored.
#[tokio::test(start_paused = true)]
async fn a_conflict_about_nothing_is_no_verdict() {
    let (bucket, node) = one_row().await;
    bucket.fail_next(Fault::Conflict);
    assert_eq!(node.write("ns", row(2)).await.expect("written").seq, Seq(2));
    assert_eq!(bucket.requests_per_entry().await, [1, 1]);
}

/// Two nodes write one namespace.
#[tokio::test(start_paused = true)]
async fn nodes_that_write_one_namespace_take_turns() {
    let bucket = Bucket::new();
    let nodes: Vec<Node> = (1..=5).map(|seed| bucket.node(seed)).collect();
    let writes = nodes.iter().enumerate().map(|(n, node)| async move {
        for i in 0..20 {
            node.write("ns", row(n as u64 * 100 + i)).await.expect("written");
        }
    });
    join_all(writes).await;
    for node in &nodes {
        assert_eq!(node.ids("ns").await.expect("readable").len(), 100);
    }
    assert_eq!(bucket.requests_per_entry().await.iter().sum::<usize>(), 100);
}

/// The writer sleeps through the grace time in the middle of a write.
#[tokio::test(start_paused = true)]
async fn a_writer_that_was_suspended_does_not_trust_its_success() {
    let bucket = Bucket::new();
    let options = EngineOptions {
        grace: Duration::from_secs(8),
        ..EngineOptions::default()
    };
    let node = bucket.node_with(1, options);
    node.write("ns", row(1)).await.expect("written");
    // Longer than half the grace, shorter than any time-out.
    bucket.fail_next(Fault::Slow(Duration::from_secs(5)));
    let error = node
        .write("ns", row(2))
        .await
        .expect_err("the answer came too late to mean anything");
    assert_eq!(error.kind, ErrorKind::Unknown);
    node.write("ns", row(3)).await.expect("written, after another look");
    assert_eq!(node.ids("ns").await.expect("readable"), [1, 2, 3]);
    assert_eq!(bucket.requests_per_entry().await, [1, 1, 1]);
}

/// The writer sleeps between two writes.
#[tokio::test(start_paused = true)]
async fn a_writer_that_slept_looks_before_it_writes() {
    let bucket = Bucket::new();
    let options = EngineOptions {
        grace: Duration::from_secs(8),
        ..EngineOptions::default()
    };
    let (a, b) = (bucket.node_with(1, options.clone()), bucket.node_with(2, options));
    a.write("ns", row(1)).await.expect("written");
    b.write("ns", row(2)).await.expect("written");
    tokio::time::sleep(Duration::from_secs(60)).await;
    // `a` knows one entry of two: it has to open the namespace again.
    assert_eq!(a.write("ns", row(3)).await.expect("written").seq, Seq(3));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(b.ids("ns").await.expect("readable"), [1, 2, 3]);
}

/// Rule 4: what was sent and has gone stale is not sent again.
#[tokio::test(start_paused = true)]
async fn a_writer_that_was_suspended_before_it_tried_again_does_not_send_again() {
    let bucket = Bucket::new();
    let node = bucket.node_with(1, short_grace());
    node.write("ns", row(1)).await.expect("written");
    let entry = bucket.faults.calls();
    bucket.faults.fail_call(entry, Fault::BeforeApply);
    bucket.faults.fail_call(entry + 1, Fault::Slow(Duration::from_secs(5)));
    let error = node.write("ns", row(2)).await.expect_err("it may have been collected");
    assert_eq!(error.kind, ErrorKind::Unknown);
    assert_eq!(bucket.requests_per_entry().await, [1]);
}

/// Rule 3, for a success that is read back.
#[tokio::test(start_paused = true)]
async fn a_writer_that_was_suspended_does_not_trust_an_entry_it_reads_back() {
    let bucket = Bucket::new();
    let node = bucket.node_with(1, short_grace());
    node.write("ns", row(1)).await.expect("written");
    let entry = bucket.faults.calls();
    bucket.faults.fail_call(entry, Fault::AfterApply);
    bucket.faults.fail_call(entry + 1, Fault::Slow(Duration::from_secs(5)));
    let error = node.write("ns", row(2)).await.expect_err("read too late");
    assert_eq!(error.kind, ErrorKind::Unknown);
}

/// What a reader that slept does not find may have been collected.
#[tokio::test(start_paused = true)]
async fn a_reader_that_slept_does_not_trust_an_empty_slot() {
    let bucket = Bucket::new();
    let (a, b) = (bucket.node_with(1, short_grace()), bucket.node_with(2, short_grace()));
    a.write("ns", row(1)).await.expect("written");
    assert_eq!(b.ids("ns").await.expect("readable"), [1]);
    a.write("ns", row(2)).await.expect("written");
    a.write("ns", row(3)).await.expect("written");
    tokio::time::sleep(Duration::from_secs(60)).await;
    for seq in [1, 2] {
        let entry = paths::wal_entry(&key(), Seq(seq));
        bucket.inner.delete(&entry).await.expect("collected");
    }
    // There are no segments yet from which it could read on.
    b.ids("ns").await.expect_err("one row would be wrong");
}

/// "No" is only said on the newest state, whoever wrote it.
#[tokio::test(start_paused = true)]
async fn a_refusal_rests_on_the_newest_state() {
    let bucket = Bucket::new();
    let (a, b) = (bucket.node(1), bucket.node(2));
    let patch = || json!({"patch_rows": [{"id": 1, "n": 5}]});
    let error = a.write("ns", patch()).await.expect_err("there is no namespace");
    assert_eq!(error.kind, ErrorKind::NotFound);
    let error = a.rows("ns", EVENTUAL).await.expect_err("there is no namespace");
    assert_eq!(error.kind, ErrorKind::NotFound);

    b.write("ns", row(1)).await.expect("written");
    assert_eq!(ids(&a.rows("ns", EVENTUAL).await.expect("it exists by now")), [1]);
    b.engine.delete(&b.org, &name("ns")).await.expect("deleted");
    let error = a.ids("ns").await.expect_err("deleted");
    assert_eq!(error.kind, ErrorKind::NotFound);
    b.write("ns", row(1)).await.expect("written");
    let patched = a.write("ns", patch()).await.expect("it exists by now");
    assert_eq!(patched.rows_patched, Some(1));

    b.engine.delete(&b.org, &name("ns")).await.expect("deleted");
    let error = a.ids("ns").await.expect_err("deleted");
    assert_eq!(error.kind, ErrorKind::NotFound);
    b.write("ns", row(1)).await.expect("written");
    a.engine.delete(&a.org, &name("ns")).await.expect("it exists by now");
}

/// Rule 5: an entry of the same namespace that continues another history.
#[tokio::test(start_paused = true)]
async fn a_fork_of_the_log_is_never_an_answer() {
    let (bucket, fork) = (Bucket::new(), Bucket::new());
    bucket.node(1).write("ns", row(1)).await.expect("written");
    let copy = async |from: &Bucket, to: &Bucket, seq: u64| {
        let entry = paths::wal_entry(&key(), Seq(seq));
        let bytes = from.inner.get(&entry).await.expect("there").bytes().await;
        to.inner.put(&entry, bytes.expect("whole").into()).await.expect("put");
    };
    copy(&bucket, &fork, 1).await;
    let (a, b) = (bucket.node(2), fork.node(3));
    a.write("ns", row(2)).await.expect("written");
    b.write("ns", row(20)).await.expect("written");
    b.write("ns", row(30)).await.expect("written");
    copy(&fork, &bucket, 3).await;
    for node in [a, bucket.node(4)] {
        let error = node.ids("ns").await.expect_err("rows of two histories");
        assert_eq!(error.kind, ErrorKind::Internal);
    }
}

/// A listing without order may miss an entry that is created while it runs, though not a later one.
#[tokio::test(start_paused = true)]
async fn a_gap_in_a_listing_is_looked_at_before_it_is_a_broken_log() {
    let bucket = Bucket::new();
    let node = bucket.node(1);
    for id in 1..=3 {
        node.write("ns", row(id)).await.expect("written");
    }
    bucket.fail_next(Fault::Omit);
    assert_eq!(bucket.node(2).ids("ns").await.expect("it is there"), [1, 2, 3]);
}

/// The store lets somebody replace an entry.
#[tokio::test(start_paused = true)]
async fn a_broken_chain_makes_the_namespace_read_only() {
    let bucket = Bucket::new();
    let (a, b) = (bucket.node(1), bucket.node(2));
    a.write("ns", row(1)).await.expect("written");
    a.write("ns", row(2)).await.expect("written");
    b.ids("ns").await.expect("readable");
    // Another log's third entry stands where this log's third entry should.
    let other = Bucket::new();
    let c = other.node(3);
    for id in 1..=3 {
        c.write("ns", row(id)).await.expect("written");
    }
    let foreign = other.inner.get(&paths::wal_entry(&key(), Seq(3))).await.expect("there");
    let bytes = foreign.bytes().await.expect("whole");
    bucket
        .inner
        .put(&paths::wal_entry(&key(), Seq(3)), bytes.into())
        .await
        .expect("replaced");

    let error = b.rows("ns", Consistency::Strong).await.expect_err("never an answer");
    assert_eq!(error.kind, ErrorKind::Internal);
    let error = b.write("ns", row(9)).await.expect_err("never a write");
    assert_eq!(error.kind, ErrorKind::Internal);
    let last_good = b.rows("ns", EVENTUAL).await.expect("what was good stays readable");
    assert_eq!(ids(&last_good), [1, 2]);
    let error = bucket.node(4).ids("ns").await.expect_err("a new node sees it too");
    assert_eq!(error.kind, ErrorKind::Internal);
}

/// An entry in the middle of the log is gone.
#[tokio::test(start_paused = true)]
async fn a_gap_in_the_log_is_never_an_answer() {
    let bucket = Bucket::new();
    let node = bucket.node(1);
    for id in 1..=3 {
        node.write("ns", row(id)).await.expect("written");
    }
    bucket
        .inner
        .delete(&paths::wal_entry(&key(), Seq(2)))
        .await
        .expect("deleted");
    let error = bucket.node(2).ids("ns").await.expect_err("two rows would be wrong");
    assert_eq!(error.kind, ErrorKind::Internal);
}

/// Failure 17, for the log: bytes that change on the way are found by the checksums, and read again.
#[tokio::test(start_paused = true)]
async fn an_entry_that_is_damaged_on_the_way_is_read_again() {
    let bucket = Bucket::new();
    bucket.node(1).write("ns", row(1)).await.expect("written");
    let cold = bucket.node(2);
    bucket.faults.fail_call(bucket.faults.calls() + 1, Fault::Flip);
    assert_eq!(cold.ids("ns").await.expect("the object itself is good"), [1]);
}

/// Failure 17, for the log: an entry that is damaged where it lies.
#[tokio::test(start_paused = true)]
async fn a_damaged_entry_is_never_an_answer() {
    let bucket = Bucket::new();
    let node = bucket.node(1);
    for id in 1..=2 {
        node.write("ns", row(id)).await.expect("written");
    }
    let key = paths::wal_entry(&key(), Seq(2));
    let object = bucket.inner.get(&key).await.expect("there");
    let mut bytes = object.bytes().await.expect("whole").to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bucket.inner.put(&key, bytes.into()).await.expect("replaced");
    let cold = bucket.node(2);
    for _ in 0..2 {
        let error = cold.ids("ns").await.expect_err("not what was written");
        assert_eq!(error.kind, ErrorKind::Internal);
        let error = cold.write("ns", row(3)).await.expect_err("nothing follows it");
        assert!(
            matches!(error.kind, ErrorKind::Internal | ErrorKind::Unknown),
            "{error:?}"
        );
    }
    assert_eq!(node.ids("ns").await.expect("this node read it before"), [1, 2]);
}

/// A body that ends early is asked for again.
#[tokio::test(start_paused = true)]
async fn a_truncated_entry_is_read_again() {
    let bucket = Bucket::new();
    bucket.node(1).write("ns", row(1)).await.expect("written");
    let cold = bucket.node(2);
    bucket.faults.fail_call(bucket.faults.calls() + 1, Fault::Truncate);
    assert_eq!(cold.ids("ns").await.expect("read again"), [1]);
}

/// The store is down.
#[tokio::test(start_paused = true)]
async fn without_the_store_there_are_no_strong_answers() {
    let (bucket, node) = one_row().await;
    bucket.cut_off();
    let error = node
        .rows("ns", Consistency::Strong)
        .await
        .expect_err("it might be wrong");
    assert_eq!(error.kind, ErrorKind::Unavailable);
    let error = node.write("ns", row(2)).await.expect_err("it would not be durable");
    assert!(
        matches!(error.kind, ErrorKind::Unknown | ErrorKind::Unavailable),
        "{error:?}"
    );
    let error = node.write("other", row(2)).await.expect_err("it would not be durable");
    assert!(
        matches!(error.kind, ErrorKind::Unknown | ErrorKind::Unavailable),
        "{error:?}"
    );
    let error = node.ids("another").await.expect_err("whether it exists is not known");
    assert_eq!(error.kind, ErrorKind::Unavailable);
    bucket.faults.heal();
    node.write("ns", row(3)).await.expect("the store is back");
    let rows = node.ids("ns").await.expect("the store is back");
    assert!(rows == [1, 3] || rows == [1, 2, 3], "{rows:?}");
}

/// Eventual reads go on until their bound.
#[tokio::test(start_paused = true)]
async fn without_the_store_eventual_reads_go_on_until_their_bound() {
    let (bucket, node) = one_row().await;
    bucket.cut_off();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(ids(&node.rows("ns", EVENTUAL).await.expect("young enough")), [1]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let error = node.rows("ns", EVENTUAL).await.expect_err("older than was allowed");
    assert_eq!(error.kind, ErrorKind::Unavailable);
}

/// A namespace is deleted while another node writes it.
#[tokio::test(start_paused = true)]
async fn a_write_that_meets_a_deletion_starts_from_nothing() {
    let bucket = Bucket::new();
    let (a, b) = (bucket.node(1), bucket.node(2));
    a.write("ns", row(1)).await.expect("written");
    b.ids("ns").await.expect("b has it open");
    a.engine.delete(&a.org, &name("ns")).await.expect("deleted");
    let text = json!({"upsert_rows": [{"id": 5, "n": "now a string"}]});
    assert_eq!(b.write("ns", text).await.expect("written").seq, Seq(3));
    assert_eq!(a.ids("ns").await.expect("readable"), [5]);
    let patch = json!({"patch_rows": [{"id": 1, "n": "gone"}]});
    assert_eq!(a.write("ns", patch).await.expect("written").rows_patched, Some(0));
}

/// The same name is used again, on every node.
#[tokio::test(start_paused = true)]
async fn a_name_can_be_used_again_at_once() {
    let bucket = Bucket::new();
    let nodes = [bucket.node(1), bucket.node(2)];
    for round in 0..6 {
        let (writer, reader) = (&nodes[round % 2], &nodes[(round + 1) % 2]);
        writer.write("ns", row(round as u64)).await.expect("written");
        assert_eq!(reader.ids("ns").await.expect("readable"), [round as u64]);
        assert_eq!(
            writer
                .engine
                .list(&writer.org, "", None, 10)
                .await
                .expect("listed")
                .names
                .len(),
            1
        );
        reader.engine.delete(&reader.org, &name("ns")).await.expect("deleted");
        let error = writer.ids("ns").await.expect_err("deleted");
        assert_eq!(error.kind, ErrorKind::NotFound);
        assert!(
            writer
                .engine
                .list(&writer.org, "", None, 10)
                .await
                .expect("listed")
                .names
                .is_empty()
        );
    }
    assert_eq!(bucket.requests_per_entry().await.len(), 12, "numbers never start again");
}

/// The listing marker is late; the write waits for it.
#[tokio::test(start_paused = true)]
async fn what_is_acknowledged_is_listed() {
    for fault in [
        Fault::BeforeApply,
        Fault::AfterApply,
        Fault::LateApply(Duration::from_secs(3)),
    ] {
        let bucket = Bucket::new();
        let node = bucket.node(1);
        // The listing of the log, the entry, the marker.
        bucket.faults.fail_call(2, fault);
        node.write("ns", row(1)).await.expect("written");
        let page = node.engine.list(&node.org, "", None, 10).await.expect("listed");
        assert_eq!(page.names, [name("ns")], "{fault:?}");
    }
}

/// Memory for tails runs out: only as many namespaces are closed as must be, by writes and by reads.
#[tokio::test(start_paused = true)]
async fn memory_for_tails_is_kept_by_closing_no_more_than_must_be() {
    let bucket = Bucket::new();
    let small = |seed| {
        let node = bucket.node(seed);
        let memory = Ledger::new(1 << 30, 400_000);
        let runtime = Runtime { memory, ..node.runtime };
        let store = Store::new(
            Arc::new(bucket.faults.clone()),
            runtime.clock.clone(),
            runtime.rng.clone(),
            &StoreConfig::default(),
        );
        let engine = Engine::new(runtime.clone(), store, EngineOptions::default());
        Node {
            engine,
            runtime,
            ..node
        }
    };
    let used = |node: &Node| node.runtime.memory.used_bytes(MemoryShare::Tails);
    let large = |id: u64| {
        let not_filterable = json!({"text": {"type": "string", "filterable": false}});
        json!({"upsert_rows": [{"id": id, "text": "x".repeat(100_000)}], "schema": not_filterable})
    };
    let names: Vec<String> = (0..12).map(|n| format!("ns{n}")).collect();
    let writer = small(1);
    for name in &names {
        writer.write(name, large(1)).await.expect("another one is closed");
        assert!(used(&writer) < 750_000, "{}", used(&writer));
    }
    assert!(used(&writer) > 250_000, "not all were closed: {}", used(&writer));
    let reader = small(2);
    for name in &names {
        reader.ids(name).await.expect("readable");
        assert!(used(&reader) < 750_000, "{}", used(&reader));
    }
}

/// A write that meets a deletion takes back the marker of the incarnation it took to be alive.
#[tokio::test(start_paused = true)]
async fn a_write_that_meets_a_deletion_leaves_one_marker() {
    for knows_the_first in [true, false] {
        let bucket = Bucket::new();
        let (a, b) = (bucket.node(1), bucket.node(2));
        a.write("ns", row(1)).await.expect("written");
        if knows_the_first {
            b.ids("ns").await.expect("readable");
        }
        a.engine.delete(&a.org, &name("ns")).await.expect("deleted");
        assert_eq!(b.write("ns", row(2)).await.expect("written").seq, Seq(3));
        let prefix = paths::catalog_markers(&key());
        let markers: Vec<_> = bucket.inner.list(Some(&prefix)).try_collect().await.expect("listed");
        let geneses: Vec<_> = markers.iter().map(|m| paths::marker_genesis(&m.location)).collect();
        assert_eq!(geneses, [Some(Seq(3))], "{knows_the_first}");
    }
}

/// An eventual read while the log is still being read waits for the rest of it.
#[tokio::test(start_paused = true)]
async fn an_eventual_read_of_a_namespace_that_is_being_opened_sees_all_that_was_listed() {
    let bucket = Bucket::new();
    let node = bucket.node(1);
    for id in 1..=70 {
        node.write("ns", row(id)).await.expect("written");
    }
    let cold = bucket.node(2);
    // The listing, a window of 64 entries, and then one that takes long.
    let late = bucket.faults.calls() + 1 + 64;
    bucket.faults.fail_call(late, Fault::Slow(Duration::from_secs(5)));
    let (first, second) = tokio::join!(cold.rows("ns", EVENTUAL), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        cold.rows("ns", EVENTUAL).await
    });
    assert_eq!(ids(&first.expect("readable")).len(), 70);
    assert_eq!(ids(&second.expect("readable")).len(), 70);
}

/// A deletion whose listing markers stayed behind is cleaned up after when it is repeated.
#[tokio::test(start_paused = true)]
async fn a_repeated_deletion_removes_the_markers_of_the_first() {
    let (bucket, node) = one_row().await;
    let tombstone = bucket.faults.calls();
    (tombstone + 1..tombstone + 1000).for_each(|n| bucket.faults.fail_call(n, Fault::BeforeApply));
    node.engine.delete(&node.org, &name("ns")).await.expect("deleted");
    bucket.faults.heal();
    let again = node.engine.delete(&node.org, &name("ns")).await;
    assert_eq!(again.expect_err("deleted already").kind, ErrorKind::NotFound);
    let page = node.engine.list(&node.org, "", None, 10).await.expect("listed");
    assert!(page.names.is_empty(), "{:?}", page.names);
}

/// Failures at every single request: nothing acknowledged is lost, nothing refused is there.
#[tokio::test(start_paused = true)]
async fn no_acknowledged_row_is_lost_whichever_request_fails() {
    async fn three_writes(bucket: &Bucket) -> (Vec<u64>, Vec<u64>) {
        let node = bucket.node(1);
        let (mut acknowledged, mut refused) = (Vec::new(), Vec::new());
        for id in 1..=3 {
            match node.write("ns", row(id)).await {
                Ok(_) => acknowledged.push(id),
                Err(error) if error.kind == ErrorKind::Unknown => {}
                Err(_) => refused.push(id),
            }
        }
        (acknowledged, refused)
    }
    let healthy = Bucket::new();
    three_writes(&healthy).await;
    let late = Fault::LateApply(Duration::from_secs(2));
    for call in 0..healthy.faults.calls() + 4 {
        for fault in [
            Fault::BeforeApply,
            Fault::AfterApply,
            Fault::Conflict,
            Fault::Truncate,
            late,
        ] {
            let bucket = Bucket::new();
            bucket.faults.fail_call(call, fault);
            let (acknowledged, refused) = three_writes(&bucket).await;
            bucket.faults.heal();
            tokio::time::sleep(Duration::from_secs(10)).await;
            let rows = bucket.node(2).ids("ns").await.unwrap_or_default();
            assert!(
                acknowledged.iter().all(|id| rows.contains(id)),
                "lost: call {call}, {fault:?}"
            );
            assert!(
                !refused.iter().any(|id| rows.contains(id)),
                "undead: call {call}, {fault:?}"
            );
        }
    }
}

/// A request that has nothing to write because another of its group writes the same is not answered
/// before that one is durable.
#[tokio::test(start_paused = true)]
async fn an_answer_that_rests_on_an_earlier_request_of_the_group_waits_for_it() {
    let (bucket, node) = one_row().await;
    // While this entry is under way, the two schema changes queue up behind it.
    bucket.fail_next(Fault::Slow(Duration::from_secs(1)));
    let next = bucket.faults.calls() + 1;
    // The look at the log before "nothing to write" succeeds, and then no entry gets through.
    (next + 1..next + 10_000).for_each(|n| bucket.faults.fail_call(n, Fault::BeforeApply));
    let ns = name("ns");
    let add = |json| node.engine.update_schema(&node.org, &ns, node.body(&json));
    let (written, first, second) = tokio::join!(
        node.write("ns", row(2)),
        async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            add(json!({"late": "int"})).await
        },
        async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            add(json!({"late": "int"})).await
        },
    );
    written.expect("written");
    assert_eq!(first.expect_err("nothing gets through").kind, ErrorKind::Unknown);
    assert!(second.is_err(), "the attribute is nowhere");
    bucket.faults.heal();
    let schema = bucket.node(2).engine.schema(&node.org, &ns).await.expect("readable");
    assert!(schema.get("late").is_none());
}

/// A client that goes away does not stop its write.
#[tokio::test(start_paused = true)]
async fn a_write_whose_client_left_is_carried_out() {
    let (bucket, node) = one_row().await;
    bucket.fail_next(Fault::Slow(Duration::from_secs(3)));
    let left = tokio::time::timeout(Duration::from_secs(1), node.write("ns", row(2))).await;
    assert!(left.is_err(), "the client left before the answer");
    let after = node.write("ns", row(3)).await.expect("written");
    assert_eq!(after.seq, Seq(3));
    assert_eq!(node.ids("ns").await.expect("readable"), [1, 2, 3]);
}
