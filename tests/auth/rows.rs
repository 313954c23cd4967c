//! Keys that see only some rows, attributes and namespaces.

use axum::http::StatusCode;
use serde_json::{Value as Json, json};

use crate::world::{BOOTSTRAP, Bucket, Node, scoped};

async fn shop() -> (Node, String) {
    let node = Node::new(&Bucket::new(), 1);
    for name in ["orders", "other"] {
        let rows: Vec<Json> = (1..=6)
            .map(|i| json!({"id": i, "tenant": if i % 2 == 0 { "even" } else { "odd" }, "cost": i, "title": format!("t{i}")}))
            .collect();
        node.write(name, rows.into()).await;
    }
    let parent = json!({"description": "", "actions": ["documents:search"], "collections": ["orders"]});
    let (_, parent) = node.mint(&parent).await;
    (node, parent)
}

async fn query(node: &Node, key: &str, namespace: &str, body: &Json) -> (StatusCode, Json) {
    node.send(key, "POST", &format!("/v2/namespaces/{namespace}/query"), body)
        .await
}

fn ids(answer: &Json) -> Vec<u64> {
    let rows = answer["rows"].as_array().into_iter().flatten();
    rows.filter_map(|row| row["id"].as_u64()).collect()
}

fn all() -> Json {
    json!({"rank_by": ["id", "asc"], "limit": 100, "include_attributes": true})
}

#[tokio::test(start_paused = true)]
async fn an_embedded_filter_holds_for_every_query() {
    let (node, parent) = shop().await;
    for parameters in [
        r#"{"filters": ["tenant", "Eq", "even"]}"#,
        r#"{"filter_by": "tenant:=even"}"#,
        r#"{"filter_by": "tenant:=even", "filters": ["cost", "Lt", 100]}"#,
    ] {
        let key = scoped(&parent, parameters);
        let (status, answer) = query(&node, &key, "orders", &all()).await;
        assert_eq!(
            (status, ids(&answer)),
            (StatusCode::OK, vec![2, 4, 6]),
            "{parameters}: {answer}"
        );
        let other = json!({"rank_by": ["id", "asc"], "limit": 9, "filters": ["tenant", "Eq", "odd"]});
        assert_eq!(ids(&query(&node, &key, "orders", &other).await.1), Vec::<u64>::new());
        let count = json!({"aggregate_by": {"n": ["Count"]}});
        assert_eq!(query(&node, &key, "orders", &count).await.1["aggregations"]["n"], 3);
        let many = json!({"queries": [all(), {"aggregate_by": {"n": ["Count"]}}]});
        let (_, answer) = query(&node, &key, "orders", &many).await;
        assert_eq!(ids(&answer["results"][0]), [2, 4, 6], "{answer}");
    }
    let unfit = scoped(&parent, r#"{"filters": ["nothing", "Eq", 1]}"#);
    assert_eq!(
        query(&node, &unfit, "orders", &all()).await.0,
        StatusCode::FORBIDDEN,
        "never no filter"
    );
    let unfit = scoped(&parent, r#"{"filter_by": "nothing:=1"}"#);
    assert_eq!(query(&node, &unfit, "orders", &all()).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test(start_paused = true)]
async fn embedded_attributes_and_limits_hold() {
    let (node, parent) = shop().await;
    let key = scoped(
        &parent,
        r#"{"include_fields": "tenant,title", "exclude_attributes": ["title"], "max_top_k": 2}"#,
    );
    let (status, answer) = query(&node, &key, "orders", &all()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(
        answer["rows"],
        json!([{"id": 1, "tenant": "odd"}, {"id": 2, "tenant": "even"}])
    );
    let sneaky = json!({"rank_by": ["cost", "desc"], "limit": 1});
    assert_ne!(query(&node, &key, "orders", &sneaky).await.0, StatusCode::OK);
    let one = scoped(&parent, r#"{"limit_multi_searches": 1}"#);
    let two = json!({"queries": [all(), all()]});
    assert_eq!(query(&node, &one, "orders", &two).await.0, StatusCode::FORBIDDEN);
    let page = scoped(&parent, r#"{"per_page": 3}"#);
    assert_eq!(ids(&query(&node, &page, "orders", &all()).await.1), [1, 2, 3]);
    let typesense = scoped(&parent, r#"{"hidden_hits": "1"}"#);
    assert_eq!(
        query(&node, &typesense, "orders", &all()).await.0,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test(start_paused = true)]
async fn embedded_namespaces_only_narrow() {
    let (node, parent) = shop().await;
    let (_, wide) = node.key(&["documents:search"]).await;
    for (parent, parameters, orders, other) in [
        (&parent, "{}", 200, 403),
        (&parent, r#"{"collection": "orders"}"#, 200, 403),
        (&parent, r#"{"collection": "other"}"#, 403, 403),
        (&parent, r#"{"namespace": ["*"]}"#, 200, 403),
        (&parent, r#"{"namespace": []}"#, 403, 403),
        (&wide, r#"{"namespace": "oth*"}"#, 403, 200),
        (&wide, r#"{"collection": "other", "namespace": "orders"}"#, 403, 403),
        (&wide, r#"{"collection": "o.*"}"#, 403, 403),
    ] {
        let key = scoped(parent, parameters);
        for (namespace, expected) in [("orders", orders), ("other", other)] {
            let (status, answer) = query(&node, &key, namespace, &all()).await;
            assert_eq!(status.as_u16(), expected, "{parameters} on {namespace}: {answer}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn scoped_keys_can_search_and_nothing_else() {
    let (node, parent) = shop().await;
    let key = scoped(&parent, "{}");
    for (method, path) in [
        ("POST", "/v2/namespaces/orders"),
        ("DELETE", "/v2/namespaces/orders"),
        ("POST", "/v2/namespaces/orders/explain_query"),
        ("GET", "/v2/namespaces/orders/metadata"),
        ("GET", "/v1/namespaces/orders/schema"),
        ("GET", "/v1/namespaces/orders/hint_cache_warm"),
        ("POST", "/v1/namespaces/orders/_debug/recall"),
        ("GET", "/v1/namespaces/orders"),
        ("GET", "/v1/namespaces"),
        ("GET", "/keys"),
        ("POST", "/keys"),
        ("DELETE", "/keys/1"),
        ("GET", "/v1/organizations/default/databases"),
    ] {
        assert_eq!(
            node.send(&key, method, path, &json!({})).await.0,
            StatusCode::UNAUTHORIZED,
            "{method} {path}"
        );
    }
    let (_, whoami) = node.send(&key, "GET", "/v1/auth/whoami", &Json::Null).await;
    assert_eq!(
        (&whoami["kind"], &whoami["actions"]),
        (&json!("scoped_key"), &json!(["documents:search"]))
    );
}

#[tokio::test(start_paused = true)]
async fn parents_that_may_do_more_or_are_gone_sign_nothing() {
    let (node, parent) = shop().await;
    for actions in [&["*"][..], &["documents:*"], &["documents:search", "documents:get"]] {
        let (_, other) = node.key(actions).await;
        assert_eq!(
            query(&node, &scoped(&other, "{}"), "orders", &all()).await.0,
            StatusCode::UNAUTHORIZED
        );
    }
    assert_eq!(
        query(&node, &scoped(BOOTSTRAP, "{}"), "orders", &all()).await.0,
        StatusCode::UNAUTHORIZED
    );
    let key = scoped(&parent, "{}");
    assert_eq!(query(&node, &key, "orders", &all()).await.0, StatusCode::OK);
    let twice = scoped(&key, "{}");
    assert_eq!(
        query(&node, &twice, "orders", &all()).await.0,
        StatusCode::UNAUTHORIZED,
        "no grandchildren"
    );
    for (parameters, status) in [
        (r#"{"new_restriction": 1}"#, 401),
        (r#"{"expires_at": 1}"#, 401),
        (r#"{"expires_at": -1}"#, 401),
        (r#"{"q": {}}"#, 400),
        ("[]", 401),
    ] {
        assert_eq!(
            query(&node, &scoped(&parent, parameters), "orders", &all())
                .await
                .0
                .as_u16(),
            status,
            "{parameters}"
        );
    }
    assert_eq!(
        node.send(BOOTSTRAP, "DELETE", "/keys/1", &Json::Null).await.0,
        StatusCode::OK
    );
    assert_eq!(query(&node, &key, "orders", &all()).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test(start_paused = true)]
async fn stored_keys_with_filters_see_their_rows_and_mint_nothing() {
    let (node, _) = shop().await;
    let body = |actions: Json| {
        json!({"description": "", "actions": actions, "collections": [],
        "filters": ["tenant", "Eq", "odd"], "exclude_fields": ["cost"]})
    };
    let (_, key) = node.mint(&body(json!(["documents:search"]))).await;
    let (_, answer) = query(&node, &key, "orders", &all()).await;
    assert_eq!(ids(&answer), [1, 3, 5]);
    assert!(answer["rows"][0].get("cost").is_none(), "{answer}");
    let narrower = scoped(
        &key,
        r#"{"filters": ["cost", "Lt", 4], "include_fields": "title,cost"}"#,
    );
    let (_, answer) = query(&node, &narrower, "orders", &all()).await;
    assert_eq!(
        answer["rows"],
        json!([{"id": 1, "title": "t1"}, {"id": 3, "title": "t3"}])
    );
    let (status, _) = node
        .send(
            BOOTSTRAP,
            "POST",
            "/keys",
            &body(json!(["documents:search", "keys:create"])),
        )
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test(start_paused = true)]
async fn a_write_needs_what_its_body_uses() {
    let node = Node::new(&Bucket::new(), 1);
    node.write("a", json!([{"id": 1, "n": 1}, {"id": 2, "n": 2}, {"id": 3, "n": 3}]))
        .await;
    node.write("source", json!([{"id": 1}])).await;
    let upsert = json!({"upsert_rows": [{"id": 9, "n": 9}]});
    let new_attribute = json!({"upsert_rows": [{"id": 9, "m": 9}]});
    let patch = json!({"patch_rows": [{"id": 1, "n": 7}]});
    let delete = json!({"deletes": [2]});
    let by_filter = json!({"delete_by_filter": ["n", "Eq", 3]});
    let patch_by = json!({"patch_by_filter": {"filters": ["n", "Eq", 1], "patch": {"n": 5}}});
    let both = json!({"upsert_rows": [{"id": 8, "n": 8}], "deletes": [7]});
    for (actions, namespace, body, allowed) in [
        (&["documents:upsert"][..], "a", &upsert, true),
        (&["documents:create"], "a", &upsert, true),
        (&["documents:update"], "a", &upsert, false),
        (&["documents:delete"], "a", &upsert, false),
        (&["documents:upsert"], "a", &new_attribute, false),
        (&["documents:upsert", "collections:update"], "a", &new_attribute, true),
        (&["documents:upsert"], "a", &patch, false),
        (&["documents:update"], "a", &patch, true),
        (&["documents:upsert"], "a", &patch_by, false),
        (&["documents:update"], "a", &patch_by, true),
        (&["documents:upsert"], "a", &delete, false),
        (&["documents:delete"], "a", &delete, true),
        (&["documents:update"], "a", &by_filter, false),
        (&["documents:delete"], "a", &by_filter, true),
        (&["documents:upsert"], "a", &both, false),
        (&["documents:upsert", "documents:delete"], "a", &both, true),
        (&["documents:upsert"], "new", &upsert, false),
        (&["documents:upsert", "collections:create"], "new", &upsert, true),
        (&["documents:search"], "a", &upsert, false),
    ] {
        let (_, key) = node.key(actions).await;
        let (status, answer) = node
            .send(&key, "POST", &format!("/v2/namespaces/{namespace}"), body)
            .await;
        match allowed {
            true => assert_eq!(status, StatusCode::OK, "{actions:?} {body}: {answer}"),
            false => assert_eq!(status, StatusCode::FORBIDDEN, "{actions:?} {body}: {answer}"),
        }
    }
    let copy = json!({"copy_from_namespace": "source"});
    for (i, (actions, allowed)) in [
        (
            &["documents:import", "documents:export", "collections:create"][..],
            true,
        ),
        (&["documents:import", "documents:export"], false),
        (&["documents:import", "collections:create"], false),
        (&["documents:export", "collections:create", "documents:upsert"], false),
    ]
    .into_iter()
    .enumerate()
    {
        let (_, key) = node.key(actions).await;
        let (status, answer) = node.send(&key, "POST", &format!("/v2/namespaces/copy{i}"), &copy).await;
        let expected = if allowed { StatusCode::OK } else { StatusCode::FORBIDDEN };
        assert_eq!(status, expected, "{actions:?}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn lists_show_what_is_in_scope_page_by_page() {
    let node = Node::new(&Bucket::new(), 1);
    for i in 0..9 {
        node.write(&format!("a{i}"), json!([{"id": 1}])).await;
        node.write(&format!("b{i}"), json!([{"id": 1}])).await;
    }
    let scope = json!({"description": "", "actions": ["collections:list"], "collections": ["b*", "a3", "a7"]});
    let (_, key) = node.mint(&scope).await;
    let expected: Vec<String> = ["a3", "a7"]
        .into_iter()
        .map(str::to_owned)
        .chain((0..9).map(|i| format!("b{i}")))
        .collect();
    for size in [1, 2, 3, 10, 11, 100] {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/namespaces?page_size={size}&cursor={cursor}");
            let (status, page) = node.send(&key, "GET", &path, &Json::Null).await;
            assert_eq!(status, StatusCode::OK, "{page}");
            let names = page["namespaces"].as_array().expect("a list").iter();
            let names: Vec<String> = names.filter_map(|n| Some(n["id"].as_str()?.to_owned())).collect();
            let next = page["next_cursor"].as_str().map(str::to_owned);
            assert!(next.is_none() || names.len() == size, "pages but the last are full");
            found.extend(names);
            match next {
                Some(next) => cursor = next,
                None => break,
            }
        }
        assert_eq!(found, expected, "{size} a page");
    }
}
