//! How soon other nodes notice what was withdrawn, what that costs, and what counts while the store is away.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::Value as Json;
use shoal::control::Freshness;
use shoal::model::OrgId;
use shoal::store::paths::control as paths;
use tokio::time::sleep;

use crate::world::{BOOTSTRAP, Bucket, Node, scoped};

const SECOND: Duration = Duration::from_secs(1);

async fn delete(node: &Node, id: u64) {
    let (status, _) = node
        .send(BOOTSTRAP, "DELETE", &format!("/keys/{id}"), &Json::Null)
        .await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_key_is_refused_at_once_here_and_elsewhere_within_the_interval() {
    let bucket = Bucket::new();
    let (here, there) = (Node::new(&bucket, 1), Node::new(&bucket, 2));
    let (id, value) = here.key(&["documents:search"]).await;
    let derived = scoped(&value, "{}");
    for node in [&here, &there] {
        for key in [&value, &derived] {
            assert_eq!(node.knows(key).await, StatusCode::OK);
        }
    }
    sleep(SECOND * 30).await;
    assert_eq!(there.knows(&value).await, StatusCode::OK);
    delete(&here, id).await;
    for key in [&value, &derived] {
        assert_eq!(here.knows(key).await, StatusCode::UNAUTHORIZED);
    }
    sleep(SECOND + Duration::from_millis(10)).await;
    for key in [&value, &derived] {
        assert_eq!(there.knows(key).await, StatusCode::UNAUTHORIZED);
    }
    for _ in 0..100 {
        sleep(SECOND).await;
        assert_eq!(there.knows(&value).await, StatusCode::UNAUTHORIZED, "and it stays so");
    }
}

#[tokio::test(start_paused = true)]
async fn a_withdrawal_that_was_not_announced_counts_after_the_longest_age() {
    let bucket = Bucket::new();
    let (here, there) = (Node::new(&bucket, 1), Node::new(&bucket, 2));
    let (id, value) = here.key(&["*"]).await;
    assert_eq!(there.knows(&value).await, StatusCode::OK);
    // As if the node had died between the two steps of a deletion.
    let records = here.control.records();
    let key = paths::key(&OrgId::default_org(), id);
    assert!(records.remove::<Json>(&key).await.expect("removed"));
    let mut last = Duration::ZERO;
    for n in 1..=61 {
        sleep(SECOND).await;
        if there.knows(&value).await == StatusCode::OK {
            last = SECOND * n;
        }
    }
    assert!(last > SECOND * 50 && last < SECOND * 60, "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn when_the_store_is_away_keys_count_for_the_longest_age_and_then_nothing_does() {
    let bucket = Bucket::new();
    let node = Node::new(&bucket, 1);
    let (_, value) = node.key(&["documents:search"]).await;
    let (_, other) = node.key(&["documents:search"]).await;
    assert_eq!(node.knows(&value).await, StatusCode::OK);
    bucket.break_down();
    assert_eq!(
        node.knows(&other).await,
        StatusCode::SERVICE_UNAVAILABLE,
        "what was not seen is not accepted"
    );
    let start = tokio::time::Instant::now();
    while start.elapsed() < SECOND * 50 {
        assert_eq!(node.knows(&value).await, StatusCode::OK, "{:?}", start.elapsed());
        sleep(SECOND).await;
    }
    sleep(SECOND * 10).await;
    for _ in 0..100 {
        assert_eq!(node.knows(&value).await, StatusCode::SERVICE_UNAVAILABLE);
        sleep(SECOND).await;
    }
    assert_eq!(node.knows(BOOTSTRAP).await, StatusCode::OK, "the operator is let in");
    bucket.faults.heal();
    // It is asked again in a moment.
    sleep(SECOND).await;
    assert_eq!(node.knows(&value).await, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn many_requests_do_not_wait_one_after_the_other_for_a_store_that_is_away() {
    let bucket = Bucket::new();
    let node = Node::new(&bucket, 1);
    let (_, value) = node.key(&["*"]).await;
    bucket.break_down();
    let start = tokio::time::Instant::now();
    let all = futures::future::join_all((0..50).map(|_| node.knows(&value))).await;
    assert!(all.iter().all(|status| *status == StatusCode::SERVICE_UNAVAILABLE));
    assert!(start.elapsed() < SECOND * 12, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn strict_nodes_notice_with_the_next_request() {
    let bucket = Bucket::new();
    let strict = Freshness {
        strict: true,
        ..Freshness::default()
    };
    let (here, there) = (Node::new(&bucket, 1), Node::with(&bucket, 2, strict));
    let (id, value) = here.key(&["*"]).await;
    assert_eq!(there.knows(&value).await, StatusCode::OK);
    let before = there.counts.counts();
    assert_eq!(there.knows(&value).await, StatusCode::OK);
    assert_eq!(there.requests_since(before), 1, "each request asks once");
    let before = there.counts.counts();
    let all = futures::future::join_all((0..50).map(|_| there.knows(&value))).await;
    assert!(all.iter().all(|status| *status == StatusCode::OK));
    assert!(there.requests_since(before) <= 50, "those that wait share");
    delete(&here, id).await;
    assert_eq!(there.knows(&value).await, StatusCode::UNAUTHORIZED);
    bucket.break_down();
    assert_eq!(
        there.knows(&value).await,
        StatusCode::SERVICE_UNAVAILABLE,
        "who cannot ask refuses"
    );
}

#[tokio::test(start_paused = true)]
async fn warm_keys_cost_nothing_but_one_get_per_interval_and_idle_ones_nothing() {
    let bucket = Bucket::new();
    let node = Node::new(&bucket, 1);
    let (_, value) = node.key(&["documents:search"]).await;
    let derived = scoped(&value, "{}");
    let all = futures::future::join_all((0..100).map(|_| node.knows(&value))).await;
    assert!(all.iter().all(|status| *status == StatusCode::OK));
    assert_eq!(node.knows(&derived).await, StatusCode::OK);
    let before = node.counts.counts();
    for _ in 0..100 {
        assert_eq!(node.knows(&value).await, StatusCode::OK);
        assert_eq!(node.knows(&derived).await, StatusCode::OK);
    }
    assert_eq!(node.requests_since(before), 0, "warm");
    let before = node.counts.counts();
    for _ in 0..30 {
        sleep(SECOND).await;
        assert_eq!(node.knows(&value).await, StatusCode::OK);
    }
    let looks = node.requests_since(before);
    assert!((29..=31).contains(&looks), "one look per interval: {looks}");
    sleep(SECOND * 70).await;
    let before = node.counts.counts();
    sleep(SECOND * 600).await;
    assert_eq!(node.requests_since(before), 0, "idle");
    assert_eq!(node.knows(&value).await, StatusCode::OK, "and awake again");
}

#[tokio::test(start_paused = true)]
async fn a_cold_key_is_read_once_for_everybody() {
    let bucket = Bucket::new();
    let (_, value) = Node::new(&bucket, 1).key(&["*"]).await;
    let node = Node::new(&bucket, 2);
    let before = node.counts.counts();
    let all = futures::future::join_all((0..15).map(|_| node.knows(&value))).await;
    assert!(all.iter().all(|status| *status == StatusCode::OK));
    // One look for the digest each, as they came at once; the shard and the key once.
    assert!(node.requests_since(before) <= 15 + 5, "{}", node.requests_since(before));
}
