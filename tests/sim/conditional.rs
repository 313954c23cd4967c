//! Conditional writes by rivals on a failing store: each is carried out once or not at all, and its
//! client is told which.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use object_store::memory::InMemory;
use serde_json::{Value as Json, json};
use shoal::base::{MemoryShare, Rng};
use shoal::error::ErrorKind;
use shoal::model::{Consistency, IdempotencyKey, Value};
use shoal::namespace::EngineOptions;

use super::support::engine::{Node, name};
use super::support::fault::{FaultRates, FaultStore};

const RIVALS: u64 = 3;
const INCREMENTS: usize = 5;

/// The counter, strongly consistent; asks until there is an answer.
async fn counter(node: &Node) -> i64 {
    loop {
        match node.rows("ns", Consistency::Strong).await {
            Ok(outcome) => {
                let row = &outcome.results[0].rows()[0];
                let (_, value) = row.attributes.iter().find(|(n, _)| &**n == "n").expect("the counter");
                let Value::Int(n) = value else { panic!("{value:?}") };
                return *n;
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// Adds one if the counter is what it was; says whether it did. Whatever the store does, the same
/// request is sent until it is answered, to any node.
async fn add_one(nodes: &[Node], rng: &Rng, rival: u64, attempt: usize) -> bool {
    let from = counter(&nodes[rng.below(RIVALS) as usize]).await;
    let body = json!({"upsert_rows": [{"id": 1, "n": from + 1}], "upsert_condition": ["n", "Eq", from]});
    let key = format!("{rival}-{attempt}");
    loop {
        let node = &nodes[rng.below(RIVALS) as usize];
        let key = IdempotencyKey::new(key.as_bytes(), body.to_string().as_bytes()).expect("a valid key");
        let sent = node
            .engine
            .write_once(&node.org, &name("ns"), node.body(&body), Some(key))
            .await;
        match sent {
            Ok(outcome) => return outcome.rows_upserted == Some(1),
            Err(_) => tokio::time::sleep(Duration::from_millis(300)).await,
        }
    }
}

async fn rivals(seed: u64) {
    let rng = Rng::seeded(seed);
    let rates = match seed % 3 {
        0 => FaultRates::healthy(),
        _ => FaultRates::stormy(),
    };
    let faults = FaultStore::new(Arc::new(InMemory::new()), Rng::seeded(seed + 1), FaultRates::healthy());
    let nodes: Vec<Node> = (0..RIVALS)
        .map(|n| Node::new(Arc::new(faults.clone()), seed * 10 + n))
        .collect();
    nodes[0]
        .write("ns", json!({"upsert_rows": [{"id": 1, "n": 0}]}))
        .await
        .expect("the store is healthy yet");
    faults.set_rates(rates);
    let (nodes, rng) = (&nodes, &rng);
    let one = |rival| async move {
        let mut added = 0;
        for attempt in 0..INCREMENTS {
            added += i64::from(add_one(nodes, rng, rival, attempt).await);
        }
        added
    };
    let added: i64 = join_all((0..RIVALS).map(one)).await.into_iter().sum();
    faults.heal();
    assert_eq!(counter(&nodes[0]).await, added, "seed {seed}");
    assert!(added >= INCREMENTS as i64, "seed {seed}: of rivals, one wins");
}

#[test]
fn what_clients_are_told_of_conditional_writes_adds_up() {
    for seed in 0..80 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(rivals(seed));
    }
}

/// The ids that a request touched are told again, by another node that reads them from the log or from
/// the blobs that it names.
#[tokio::test(start_paused = true)]
async fn a_repeated_request_names_the_rows_that_it_touched() {
    let upserts = json!([{"id": 1, "n": 1}, {"id": 2, "n": 2}]);
    let with_patches = json!({
        "upsert_rows": upserts, "patch_rows": [{"id": 5, "n": 1}, {"id": 7, "n": 1}], "deletes": [9],
        "return_affected_ids": true,
    });
    let without = json!({"upsert_rows": upserts, "deletes": [9], "return_affected_ids": true});
    for stage_bytes_min in [EngineOptions::default().stage_bytes_min, 1] {
        for (body, patched) in [(&with_patches, &["5"][..]), (&without, &[][..])] {
            let touched = (&["1", "2"][..], patched, &["9"][..]);
            touches(stage_bytes_min, body, touched).await;
        }
    }
}

/// Sends a request twice, to two nodes, and compares the ids that it is said to have upserted, patched and
/// deleted.
async fn touches(stage_bytes_min: u64, body: &Json, touched: (&[&str], &[&str], &[&str])) {
    let store = Arc::new(InMemory::new());
    let options = || EngineOptions {
        stage_bytes_min,
        ..EngineOptions::default()
    };
    let nodes = [1, 2].map(|seed| Node::with(store.clone(), seed, options()));
    let rival = json!({"upsert_rows": [{"id": 5, "n": 5}, {"id": 6, "n": 6}]});
    nodes[0].write("ns", rival).await.expect("written");
    let key = || IdempotencyKey::new(b"once", body.to_string().as_bytes()).ok();
    let mut seqs = Vec::new();
    for node in &nodes {
        let outcome = node
            .engine
            .write_once(&node.org, &name("ns"), node.body(body), key())
            .await;
        let outcome = outcome.expect("written");
        seqs.push(outcome.seq);
        let affected = outcome.affected.expect("asked for");
        let ids = |columns: &[shoal::model::IdColumn]| -> Vec<String> {
            columns
                .iter()
                .flat_map(|c| (0..c.len()).map(|i| c.get(i).to_string()))
                .collect()
        };
        let (upserted, patched, deleted) = (ids(&affected.upserted), ids(&affected.patched), ids(&affected.deleted));
        let told = (&upserted[..], &patched[..], &deleted[..]);
        assert!(
            told.0 == touched.0 && told.1 == touched.1 && told.2 == touched.2,
            "{told:?} of {body}, staged from {stage_bytes_min} bytes on"
        );
    }
    assert_eq!(seqs[0], seqs[1]);
}

/// A namespace that was deleted is a new one under its old name: what was answered before says nothing
/// of it, or a client who deletes and loads again under the same keys would lose its rows.
#[tokio::test(start_paused = true)]
async fn keys_are_forgotten_with_the_namespace() {
    let node = Node::new(Arc::new(InMemory::new()), 1);
    let body = json!({"upsert_rows": [{"id": 1}]});
    let key = || IdempotencyKey::new(b"load", body.to_string().as_bytes()).ok();
    let load = async || {
        let ns = name("ns");
        let sent = node.engine.write_once(&node.org, &ns, node.body(&body), key());
        sent.await.expect("written").seq
    };
    let first = load().await;
    assert_eq!(load().await, first, "sent again");
    node.engine.delete(&node.org, &name("ns")).await.expect("deleted");
    assert_ne!(load().await, first);
    assert_eq!(node.ids("ns").await.expect("there again"), [1]);
}

/// A few bytes that are to be repeated for many rows need as much memory as they become.
#[tokio::test(start_paused = true)]
async fn a_patch_by_filter_needs_room_for_all_its_rows() {
    let node = Node::new(Arc::new(InMemory::new()), 1);
    let rows: Vec<Json> = (0..100).map(|id| json!({"id": id, "s": "old"})).collect();
    node.write("ns", json!({"upsert_rows": rows})).await.expect("written");
    let text = "x".repeat(1000);
    let patch = json!({"patch_by_filter": {"filters": ["s", "Eq", "old"], "patch": {"s": text}}});
    let (memory, share) = (&node.runtime.memory, MemoryShare::Bodies);
    let room = 50_000;
    let taken = memory.charge_always(share, memory.limit_bytes(share) - memory.used_bytes(share) - room);
    let refused = node.write("ns", patch.clone()).await.expect_err("no room");
    assert_eq!(
        (refused.kind, refused.retry_after.is_some()),
        (ErrorKind::Overloaded, true)
    );
    drop(taken);
    let outcome = node.write("ns", patch).await.expect("written");
    assert_eq!(outcome.rows_patched, Some(100), "nothing had changed");
}
