//! One failure at a time, each injected on purpose: lost replies, late effects, rivals, and those below.

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

mod asleep;
mod damaged;
mod deleted;
mod down;

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
