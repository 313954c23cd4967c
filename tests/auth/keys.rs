//! `/keys` and what keys allow, over HTTP.

use axum::http::StatusCode;
use serde_json::{Value as Json, json};

use crate::world::{BOOTSTRAP, Bucket, Node, START, scoped};

const FORBIDDEN: &str = "Forbidden - a valid `x-typesense-api-key` header must be sent.";

#[tokio::test(start_paused = true)]
async fn a_key_is_made_shown_and_deleted_as_in_typesense() {
    let node = Node::new(&Bucket::new(), 1);
    let body = json!({"description": "shop search", "actions": ["documents:search"], "collections": ["shop_.*"],
        "expires_at": 1_893_456_000, "autodelete": true});
    let (status, made) = node.send(BOOTSTRAP, "POST", "/keys", &body).await;
    let value = made["value"].as_str().expect("its value").to_owned();
    assert_eq!((status, value.len()), (StatusCode::CREATED, 43), "{made}");
    let shown = json!({"id": 1, "value_prefix": value[..4], "key_prefix": value[..4], "description": "shop search",
        "actions": ["documents:search"], "collections": ["shop_.*"], "expires_at": 1_893_456_000, "autodelete": true});
    let mut with_value = shown.clone();
    with_value["value"] = value.clone().into();
    assert_eq!(made, with_value);
    let get = |path: &'static str| node.send(BOOTSTRAP, "GET", path, &Json::Null);
    assert_eq!(get("/keys/1").await, (StatusCode::OK, shown.clone()));
    assert_eq!(get("/keys").await, (StatusCode::OK, json!({"keys": [shown]})));
    for absent in [
        "/keys/2",
        "/keys/0",
        "/keys/x",
        "/keys/-1",
        "/keys/99999999999999999999999",
        "/keys/1%2f",
    ] {
        assert_eq!(
            get(absent).await,
            (StatusCode::NOT_FOUND, json!({"message": "Not found."})),
            "{absent}"
        );
    }
    let delete = || node.send(BOOTSTRAP, "DELETE", "/keys/1", &Json::Null);
    assert_eq!(delete().await, (StatusCode::OK, json!({"id": 1})));
    assert_eq!(
        delete().await,
        (StatusCode::NOT_FOUND, json!({"message": "Not found."}))
    );
    assert_eq!(node.key(&["*"]).await.0, 2, "ids are not used again");
}

#[tokio::test(start_paused = true)]
async fn values_collide_with_keys_and_the_bootstrap_key() {
    let node = Node::new(&Bucket::new(), 1);
    let with = |value: &str| json!({"description": "", "actions": ["*"], "collections": [], "value": value});
    let conflict = (StatusCode::CONFLICT, json!({"message": "API key generation conflict."}));
    assert_eq!(node.send(BOOTSTRAP, "POST", "/keys", &with(BOOTSTRAP)).await, conflict);
    let (_, value) = node.mint(&with("a-value-that-i-have-chosen")).await;
    assert_eq!(value, "a-value-that-i-have-chosen");
    assert_eq!(node.send(BOOTSTRAP, "POST", "/keys", &with(&value)).await, conflict);
    assert_eq!(node.knows(&value).await, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn keys_allow_what_they_say() {
    let node = Node::new(&Bucket::new(), 1);
    for name in ["shop_a", "other"] {
        node.write(name, json!([{"id": 1, "a": 1}])).await;
    }
    let query = json!({"rank_by": ["id", "asc"], "limit": 10});
    let key = |actions: &[&str], collections: &[&str]| json!({"description": "", "actions": actions, "collections": collections});
    let refused = (StatusCode::UNAUTHORIZED, json!({ "message": FORBIDDEN }));
    let (_, search) = node.mint(&key(&["documents:search"], &["shop_*"])).await;
    for (namespace, status) in [("shop_a", 200), ("other", 403)] {
        let path = format!("/v2/namespaces/{namespace}/query");
        assert_eq!(
            node.send(&search, "POST", &path, &query).await.0.as_u16(),
            status,
            "{namespace}"
        );
        let path = format!("/v2/namespaces/{namespace}");
        let write = json!({"upsert_rows": [{"id": 2}]});
        assert_eq!(node.send(&search, "POST", &path, &write).await.0, StatusCode::FORBIDDEN);
    }
    assert_eq!(node.send(&search, "GET", "/keys", &Json::Null).await, refused);
    assert_eq!(
        node.send("nobody-has-this-key-00000", "GET", "/keys", &Json::Null)
            .await,
        refused
    );
    let (_, keys) = node.mint(&key(&["keys:list"], &["nothing"])).await;
    assert_eq!(
        node.send(&keys, "GET", "/keys", &Json::Null).await.0,
        StatusCode::OK,
        "no collection, no limit"
    );
    assert_eq!(node.send(&keys, "DELETE", "/keys/1", &Json::Null).await, refused);
    assert_eq!(node.knows(&search).await, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_key_mints_no_wider_key() {
    let node = Node::new(&Bucket::new(), 1);
    let body = |actions: &[&str], collections: &[&str], expires_at: u64| json!({"description": "", "actions": actions, "collections": collections, "expires_at": expires_at});
    let minter = body(&["keys:create", "documents:*"], &["shop_*"], START + 1000);
    let (_, minter) = node.mint(&minter).await;
    for (actions, collections, expires_at, may) in [
        (&["documents:search"][..], &["shop_a"][..], START + 1000, true),
        (&["documents:*", "keys:create"], &["shop_*"], START + 999, true),
        (&["documents:search"], &["shop_a"], START + 1001, false),
        (&["documents:search"], &["shop_a"], 64_723_363_199, false),
        (&["documents:search"], &["*"], START, false),
        (&["documents:search"], &[], START, false),
        (&["documents:search"], &["other"], START, false),
        (&["*"], &["shop_a"], START, false),
        (&["keys:delete"], &["shop_a"], START, false),
    ] {
        let (status, answer) = node
            .send(&minter, "POST", "/keys", &body(actions, collections, expires_at))
            .await;
        let expected = if may {
            StatusCode::CREATED
        } else {
            StatusCode::UNAUTHORIZED
        };
        assert_eq!(status, expected, "{actions:?} {collections:?} {expires_at}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_counts_through_its_last_second() {
    let node = Node::new(&Bucket::new(), 1);
    let body = json!({"description": "", "actions": ["documents:search"], "collections": [], "expires_at": START + 10});
    let (_, value) = node.mint(&body).await;
    let derived = scoped(&value, r#"{"expires_at": 1700000005}"#);
    let later = scoped(&value, r#"{"expires_at": 1900000000}"#);
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    for key in [&value, &derived, &later] {
        assert_eq!(node.knows(key).await, StatusCode::OK);
    }
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert_eq!(node.knows(&derived).await, StatusCode::UNAUTHORIZED);
    assert_eq!(node.knows(&value).await, StatusCode::OK);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    for key in [&value, &derived, &later] {
        assert_eq!(node.knows(key).await, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test(start_paused = true)]
async fn organizations_do_not_share_keys() {
    let node = Node::new(&Bucket::new(), 1);
    let (id, value) = node.key(&["*"]).await;
    let (status, known) = node.send(&value, "GET", "/v1/auth/whoami", &Json::Null).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        (
            &known["kind"],
            &known["id"],
            &known["organization"],
            &known["expires_at"]
        ),
        (
            &json!("api_key"),
            &json!(id.to_string()),
            &json!("default"),
            &Json::Null
        )
    );
    assert_eq!(known["namespaces"], json!([["*"]]));
}
