//! Creation and deletion that break off at every request: no key lives that nobody knows.

use axum::http::StatusCode;
use serde_json::{Value as Json, json};

use crate::support::fault::Fault;
use crate::world::{BOOTSTRAP, Bucket, Node, scoped};

fn faults() -> [Fault; 4] {
    let late = Fault::LateApply(std::time::Duration::from_secs(90));
    [Fault::BeforeApply, Fault::AfterApply, late, Fault::Conflict]
}

/// A new key, of a value that the test knows.
fn chosen() -> Json {
    json!({"description": "d", "actions": ["documents:search"], "collections": ["*"],
        "value": "chosen-value-of-a-key-0123"})
}

const VALUE: &str = "chosen-value-of-a-key-0123";

/// Whether the key lives, by its value and by a scoped key, on a node that remembers nothing.
async fn lives(bucket: &Bucket) -> (bool, bool) {
    let node = Node::new(bucket, 99);
    let own = node.knows(VALUE).await;
    let derived = node.knows(&scoped(VALUE, "{}")).await;
    for status in [own, derived] {
        assert!(
            status == StatusCode::OK || status == StatusCode::UNAUTHORIZED,
            "{status}"
        );
    }
    (own == StatusCode::OK, derived == StatusCode::OK)
}

#[tokio::test(start_paused = true)]
async fn a_creation_that_is_not_confirmed_leaves_no_living_key() {
    let mut failed = 0;
    for fault in faults() {
        // Every request from the first that fails on, as in a crash, and only one, as a hiccup.
        for (step, lasts) in (0..16).flat_map(|step| [(step, true), (step, false)]) {
            let bucket = Bucket::new();
            let node = Node::new(&bucket, 5);
            node.key(&["*"]).await;
            let begin = bucket.faults.calls();
            let end = if lasts { 60 } else { step + 1 };
            (step..end).for_each(|n| bucket.faults.fail_call(begin + n, fault));
            let (status, _) = node.send(BOOTSTRAP, "POST", "/keys", &chosen()).await;
            bucket.faults.heal();
            tokio::time::sleep(std::time::Duration::from_secs(120)).await;
            let alive = lives(&bucket).await;
            if status == StatusCode::CREATED {
                assert_eq!(alive, (true, true), "{fault:?} at {step}: confirmed");
            } else {
                failed += 1;
                // What the client was not told of may live only where it is listed, so that it can be deleted.
                let fresh = Node::new(&bucket, 7);
                let (_, listed) = fresh.send(BOOTSTRAP, "GET", "/keys", &Json::Null).await;
                let ids: Vec<u64> = listed["keys"]
                    .as_array()
                    .expect("keys")
                    .iter()
                    .filter_map(|k| k["id"].as_u64())
                    .collect();
                let is_listed = ids.iter().any(|id| *id > 1);
                assert!(
                    is_listed || alive == (false, false),
                    "{fault:?} at {step} {lasts}: {status}, a ghost"
                );
                for id in ids.into_iter().filter(|id| *id > 1) {
                    let (status, _) = fresh
                        .send(BOOTSTRAP, "DELETE", &format!("/keys/{id}"), &Json::Null)
                        .await;
                    assert_eq!(status, StatusCode::OK);
                }
                assert_eq!(
                    lives(&bucket).await,
                    (false, false),
                    "{fault:?} at {step}: after its deletion"
                );
            }
        }
    }
    assert!(failed > 20, "the faults had effect: {failed}");
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_breaks_off_can_be_finished_and_revives_nothing() {
    let mut failed = 0;
    for fault in faults() {
        for (step, lasts) in (0..16).flat_map(|step| [(step, true), (step, false)]) {
            let bucket = Bucket::new();
            let node = Node::new(&bucket, 5);
            let (id, _) = node.mint(&chosen()).await;
            assert_eq!(lives(&bucket).await, (true, true));
            let begin = bucket.faults.calls();
            let end = if lasts { 60 } else { step + 1 };
            (step..end).for_each(|n| bucket.faults.fail_call(begin + n, fault));
            let path = format!("/keys/{id}");
            let (status, _) = node.send(BOOTSTRAP, "DELETE", &path, &Json::Null).await;
            bucket.faults.heal();
            tokio::time::sleep(std::time::Duration::from_secs(120)).await;
            if status == StatusCode::OK {
                assert_eq!(lives(&bucket).await, (false, false), "{fault:?} at {step}: confirmed");
            } else {
                failed += 1;
                let (own, derived) = lives(&bucket).await;
                assert_eq!(own, derived, "{fault:?} at {step}: both ways in agree");
                let (status, _) = node.send(BOOTSTRAP, "DELETE", &path, &Json::Null).await;
                assert!(status == StatusCode::OK || status == StatusCode::NOT_FOUND, "{status}");
            }
            assert_eq!(lives(&bucket).await, (false, false), "{fault:?} at {step}: in the end");
            tokio::time::sleep(std::time::Duration::from_secs(5)).await;
            assert_eq!(node.knows(VALUE).await, StatusCode::UNAUTHORIZED);
        }
    }
    assert!(failed > 20, "the faults had effect: {failed}");
}
