//! Credentials that nobody has, by the thousand.

use axum::http::StatusCode;
use serde_json::Value as Json;

use crate::world::{BOOTSTRAP, Bucket, Node, scoped};

#[tokio::test(start_paused = true)]
async fn strangers_buy_few_looks_into_the_store() {
    let node = Node::new(&Bucket::new(), 1);
    let (_, value) = node.key(&["documents:search"]).await;
    assert_eq!(node.knows(&value).await, StatusCode::OK);
    // Of the right shape, with a wrong tag: not a single look.
    let before = node.counts.counts();
    for n in 0..500 {
        let bad = format!("{}{n:06}", &value[..37]);
        assert_eq!(node.knows(&bad).await, StatusCode::UNAUTHORIZED);
        assert_eq!(node.knows(&format!("short{n}")).await, StatusCode::UNAUTHORIZED);
        assert_eq!(node.knows(&format!("eyJh{n}.e30.sig")).await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(node.requests_since(before), 0);
    // What may be a chosen value or a scoped key: a bounded number, then 429; and the good ones go on.
    let mut limited = 0;
    for n in 0..200 {
        let chosen = node.knows(&format!("might-be-a-chosen-value-{n:06}")).await;
        let derived = node
            .knows(&scoped(&format!("{n:04}-parent-that-nobody-has"), "{}"))
            .await;
        for status in [chosen, derived] {
            assert!(
                status == StatusCode::UNAUTHORIZED || status == StatusCode::TOO_MANY_REQUESTS,
                "{status}"
            );
            limited += usize::from(status == StatusCode::TOO_MANY_REQUESTS);
        }
        assert_eq!(node.knows(&value).await, StatusCode::OK);
    }
    assert!(node.requests_since(before) <= 20, "{}", node.requests_since(before));
    assert_eq!(limited, 400 - 20);
    // The same wrong one again and again: one look in five seconds.
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    let before = node.counts.counts();
    for _ in 0..100 {
        assert_eq!(
            node.knows("might-be-a-chosen-value-again").await,
            StatusCode::UNAUTHORIZED
        );
    }
    assert_eq!(node.requests_since(before), 1);
}

#[tokio::test(start_paused = true)]
async fn malformed_credentials_are_refused_everywhere_alike() {
    let node = Node::new(&Bucket::new(), 1);
    let long = "x".repeat(8193);
    for bad in [
        "",
        " ",
        "..",
        "a.b.c",
        "eyJhbGciOiJub25lIn0.e30.",
        "====",
        "%00",
        &long,
        &"A".repeat(64),
        &"A".repeat(4096),
    ] {
        for (method, path) in [
            ("GET", "/v1/auth/whoami"),
            ("GET", "/keys"),
            ("POST", "/v2/namespaces/a/query"),
            ("GET", "/v1/organizations/default/databases"),
        ] {
            let (status, _) = node.send(bad, method, path, &Json::Null).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{bad:.20} {method} {path}");
        }
    }
    let (status, _) = node.send(BOOTSTRAP, "GET", "/keys", &Json::Null).await;
    assert_eq!(status, StatusCode::OK);
}
