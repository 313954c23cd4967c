//! Groups, databases and their tokens through the whole router, on a store in memory.

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value as Json, json};
use tower::ServiceExt;

use super::tests_tokens::jwt;
use crate::api::tests::{app, app_with_tokio_clock};

const KEY: &str = "0123456789abcdef";

pub(super) async fn send_as(app: &Router, key: &str, request: &str, body: &str) -> (u16, Json) {
    let (method, path) = request.split_once(' ').expect("method and path");
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::AUTHORIZATION, format!("Bearer {key}"))
        .header(header::CONTENT_TYPE, "text/plain;charset=UTF-8")
        .header(header::HOST, "db.test:8080")
        .body(Body::from(body.to_owned()))
        .expect("a valid request");
    let response = app.clone().oneshot(request).await.expect("infallible");
    let status = response.status();
    let body = response.into_body().collect().await.expect("a whole body").to_bytes();
    let json: Json = serde_json::from_slice(&body).unwrap_or_else(|e| panic!("no JSON: {e}"));
    if !status.is_success() {
        assert!(json["error"].is_string(), "{json}");
    }
    (status.as_u16(), json)
}

pub(super) async fn send(app: &Router, request: &str, body: &str) -> (u16, Json) {
    send_as(app, KEY, request, body).await
}

/// Sends, and expects 200.
pub(super) async fn ok(app: &Router, request: &str, body: &str) -> Json {
    let (status, json) = send(app, request, body).await;
    assert_eq!(status, 200, "{request} {body}: {json}");
    json
}

/// Sends, and expects a refusal with this in its sentence.
pub(super) async fn refused(app: &Router, request: &str, body: &str, status: u16, says: &str) -> Json {
    let (found, json) = send(app, request, body).await;
    assert_eq!(found, status, "{request} {body}: {json}");
    let sentence = json["error"].as_str().expect("a sentence");
    assert!(sentence.contains(says), "{request} {body}: {sentence}");
    json
}

const ORG: &str = "/v1/organizations/default";

#[tokio::test]
async fn a_database_is_a_namespace_with_everything_that_clients_read() {
    let app = app().await;
    let made = ok(
        &app,
        &format!("POST {ORG}/databases"),
        r#"{"Name":"products","Group":"default"}"#,
    )
    .await;
    let made = &made["database"];
    assert_eq!(
        (&made["Name"], &made["Hostname"]),
        (&json!("products"), &json!("products-default.db.test"))
    );
    let shown = ok(&app, &format!("GET {ORG}/databases/products"), "").await;
    let shown = &shown["database"];
    assert_eq!(shown["DbId"], made["DbId"]);
    let expected = json!({
        "Name": "products", "DbId": made["DbId"], "Hostname": "products-default.db.test", "block_reads": false,
        "block_writes": false, "allow_attach": false, "regions": ["local"], "primaryRegion": "local", "type": "logical",
        "database_type": "shoal", "version": env!("CARGO_PKG_VERSION"), "group": "default", "group_id": shown["group_id"],
        "sleeping": false, "archived": false, "is_schema": false, "schema": "", "delete_protection": false,
        "parent": null, "allow_rules_config": {"allowed_ips": [], "allowed_aws_vpc_ids": []}, "IssuedCertLimit": 0,
        "IssuedCertCount": 0,
    });
    assert_eq!(shown, &expected);
    // The same thing in another dialect, and the other way round.
    ok(&app, "POST /v2/namespaces/products", r#"{"upsert_rows":[{"id":1}]}"#).await;
    ok(&app, "POST /v2/namespaces/Wide_Name.1", r#"{"upsert_rows":[{"id":1}]}"#).await;
    let listed = ok(&app, "GET /v1/databases", "").await;
    let names: Vec<_> = listed["databases"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|d| d["Name"].clone())
        .collect();
    assert_eq!(names, ["products", "Wide_Name.1"]);
    assert_eq!(listed["pagination"], json!({"next": null}));
    let wide = &listed["databases"][1];
    assert_eq!(wide.as_object().map(|o| o.len()), expected.as_object().map(|o| o.len()));
    let by_id = format!(
        "/v3/organizations/default/databases/{}",
        made["DbId"].as_str().expect("an id")
    );
    assert_eq!(ok(&app, &format!("GET {by_id}"), "").await["database"], expected);

    let again = format!("POST {ORG}/databases");
    refused(
        &app,
        &again,
        r#"{"name":"products"}"#,
        409,
        "database products already exists",
    )
    .await;
    for (body, status, says) in [
        ("", 400, "name"),
        ("[]", 400, "object"),
        (r#"{"name":"Upper"}"#, 400, "a-z"),
        (r#"{"name":"a_b"}"#, 400, "a-z"),
        (r#"{"name":7}"#, 400, "string"),
        (r#"{"name":"x","group":"none"}"#, 400, "group not found"),
        (r#"{"name":"x","group_id":"none"}"#, 400, "group not found"),
        (r#"{"name":"x","size_limit":"much"}"#, 400, "size_limit"),
        (r#"{"name":"x","seed":{"type":"dump","url":"u"}}"#, 400, "not supported"),
        (
            r#"{"name":"x","seed":{"type":"database","name":"none"}}"#,
            404,
            "database not found: none",
        ),
        (
            r#"{"name":"x","seed":{"type":"database","name":"products","timestamp":"2020-01-01T00:00:00Z"}}"#,
            400,
            "past",
        ),
        (r#"{"name":"x","remote_encryption":{}}"#, 400, "remote_encryption"),
    ] {
        refused(&app, &again, body, status, says).await;
    }
    refused(
        &app,
        &format!("GET {ORG}/databases/x"),
        "",
        404,
        "database not found: x",
    )
    .await;
    assert_eq!(
        ok(&app, &format!("DELETE {ORG}/databases/products"), "").await,
        json!({"database": "products"})
    );
    refused(
        &app,
        &format!("GET {ORG}/databases/products"),
        "",
        404,
        "database not found",
    )
    .await;
    refused(&app, &format!("GET {by_id}"), "", 404, "database not found").await;
    let (status, _) = send(&app, "GET /v2/namespaces/products/metadata", "").await;
    assert_eq!(status, 404);
}

/// What was deleted by mistake comes back, under another name or its own.
#[tokio::test(start_paused = true)]
async fn a_database_is_restored_to_a_time_also_after_it_was_deleted() {
    let app = app_with_tokio_clock().await;
    let wait = |seconds| tokio::time::sleep(std::time::Duration::from_secs(seconds));
    let databases = format!("POST {ORG}/databases");
    let rows = async |name: &str| {
        let query = r#"{"rank_by":["id","asc"],"top_k":10}"#;
        let json = ok(&app, &format!("POST /v2/namespaces/{name}/query"), query).await;
        let rows = json["rows"].as_array().expect("rows").iter();
        rows.map(|row| row["id"].as_u64().expect("a number"))
            .collect::<Vec<_>>()
    };
    let seed = |name: &str, of: &str, at: &str| {
        json!({"name": name, "seed": {"type": "database", "name": of, "timestamp": at}}).to_string()
    };
    ok(&app, &databases, r#"{"name":"shop"}"#).await;
    ok(
        &app,
        "POST /v2/namespaces/shop",
        r#"{"upsert_rows":[{"id":1},{"id":2}]}"#,
    )
    .await;
    wait(100).await;
    // The clock began at 10:00:00.
    let before = "2026-11-21T11:01:30+01:00";
    ok(
        &app,
        "POST /v2/namespaces/shop",
        r#"{"upsert_rows":[{"id":3}],"deletes":[1]}"#,
    )
    .await;
    wait(100).await;
    ok(&app, &databases, &seed("earlier", "shop", before)).await;
    assert_eq!(rows("earlier").await, [1, 2]);
    ok(&app, &format!("DELETE {ORG}/databases/shop"), "").await;
    wait(100).await;
    // Now it does not exist; then it did, and before that it did not.
    refused(
        &app,
        &databases,
        &seed("x", "shop", "2026-11-21T10:05:00Z"),
        404,
        "shop",
    )
    .await;
    refused(
        &app,
        &databases,
        &seed("x", "never", "2026-11-21T10:03:00Z"),
        404,
        "never",
    )
    .await;
    refused(
        &app,
        &databases,
        &seed("x", "shop", "2026-11-21T09:59:59Z"),
        404,
        "shop",
    )
    .await;
    ok(&app, &databases, &seed("later", "shop", "2026-11-21T10:03:10Z")).await;
    assert_eq!(rows("later").await, [2, 3]);
    ok(&app, &databases, &seed("shop", "shop", "2026-11-21T10:03:10Z")).await;
    assert_eq!(rows("shop").await, [2, 3]);
    let shown = ok(&app, &format!("GET {ORG}/databases/shop"), "").await;
    assert_eq!(shown["database"]["parent"], Json::Null, "{shown}");
    refused(&app, &databases, &seed("shop", "shop", before), 409, "already exists").await;
}

#[tokio::test]
async fn of_many_who_create_a_name_one_does() {
    let app = app().await;
    let tries = (0..12).map(|_| {
        let app = app.clone();
        async move { send(&app, "POST /v1/databases", r#"{"name":"x"}"#).await.0 }
    });
    let mut statuses = futures::future::join_all(tries).await;
    statuses.sort_unstable();
    assert_eq!(statuses[0], 200);
    assert!(statuses[1..].iter().all(|s| *s == 409), "{statuses:?}");
}

#[tokio::test]
async fn lists_are_filtered_and_have_pages() {
    let app = app().await;
    ok(&app, "POST /v1/groups", r#"{"name":"g","location":"local"}"#).await;
    for (name, group) in [("a", "default"), ("b", "g"), ("c", "default"), ("d", "g"), ("e", "g")] {
        ok(
            &app,
            "POST /v1/databases",
            &json!({"name": name, "group": group}).to_string(),
        )
        .await;
    }
    let fork = r#"{"name":"f","group":"g","seed":{"type":"database","value":"a"}}"#;
    ok(&app, "POST /v1/databases", fork).await;
    for (query, expected) in [
        ("", "abcdef"),
        ("group=g", "bdef"),
        ("group=default", "ac"),
        ("group=none", ""),
        ("parent=a", "f"),
        ("parent=b", ""),
        ("parent=a&group=default", ""),
        ("schema=x", ""),
        ("type=schema", ""),
        ("type=logical&group=&schema=", "abcdef"),
    ] {
        let listed = ok(&app, &format!("GET /v1/databases?{query}"), "").await;
        let names = listed["databases"].as_array().expect("a list");
        let names: String = names.iter().filter_map(|d| d["Name"].as_str()).collect();
        assert_eq!(names, expected, "{query}");
    }
    let (mut seen, mut cursor) = (String::new(), String::new());
    for _ in 0..10 {
        let page = ok(&app, &format!("GET /v1/databases?group=g&limit=1&cursor={cursor}"), "").await;
        let names = page["databases"].as_array().expect("a list");
        assert!(names.len() <= 1);
        seen.extend(names.iter().filter_map(|d| d["Name"].as_str()));
        match page["pagination"]["next"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, "bdef");
    for bad in ["0", "1001", "x", "-1"] {
        refused(&app, &format!("GET /v1/databases?limit={bad}"), "", 400, "limit").await;
    }
}

#[tokio::test]
async fn what_is_configured_is_kept_and_heeded() {
    let app = app().await;
    ok(&app, "POST /v1/databases", r#"{"name":"x","size_limit":"1gb"}"#).await;
    let path = format!("{ORG}/databases/x/configuration");
    let mut expected = json!({
        "size_limit": "1gb", "block_reads": false, "block_writes": false, "allow_attach": false,
        "delete_protection": false, "allowed_ips": [],
    });
    assert_eq!(ok(&app, &format!("GET {path}"), "").await, expected);
    assert_eq!(ok(&app, &format!("PATCH {path}"), "").await, expected);
    for (change, field, shown) in [
        (json!({"size_limit": "10gb"}), "size_limit", json!("10gb")),
        (json!({"size_limit": 1500}), "size_limit", json!("1500")),
        (json!({"size_limit": null}), "size_limit", json!(null)),
        (json!({"allow_attach": true}), "allow_attach", json!(true)),
        (
            json!({"allowed_ips": ["10.0.0.0/8", "::1"]}),
            "allowed_ips",
            json!(["10.0.0.0/8", "::1/128"]),
        ),
        (json!({"allowed_ips": null}), "allowed_ips", json!([])),
        (
            json!({"delete_protection": true, "block_reads": null}),
            "delete_protection",
            json!(true),
        ),
    ] {
        expected[field] = shown;
        assert_eq!(
            ok(&app, &format!("PATCH {path}"), &change.to_string()).await,
            expected,
            "{change}"
        );
        assert_eq!(ok(&app, &format!("GET {path}"), "").await, expected, "{change}");
    }
    for (bad, says) in [
        (r#"{"size_limit":"x"}"#, "size_limit"),
        (r#"{"size_limit":-1}"#, "size_limit"),
        (r#"{"block_reads":"yes"}"#, "block_reads"),
        (r#"{"allowed_ips":"10.0.0.0/8"}"#, "allowed_ips"),
        (r#"{"allowed_ips":["10.0.0.0/33"]}"#, "allowed_ips"),
        (r#"{"allowed_ips":[1]}"#, "allowed_ips"),
    ] {
        refused(&app, &format!("PATCH {path}"), bad, 400, says).await;
    }
    refused(&app, "DELETE /v1/databases/x", "", 409, "protect").await;
    refused(&app, "DELETE /v1/groups/default", "", 409, "protected").await;
    let (status, _) = send(&app, "DELETE /v2/namespaces/x", "").await;
    assert_eq!(status, 409);
    ok(&app, &format!("PATCH {path}"), r#"{"delete_protection":false}"#).await;
    ok(
        &app,
        "PATCH /v1/groups/default/configuration",
        r#"{"delete_protection":true}"#,
    )
    .await;
    refused(&app, "DELETE /v1/databases/x", "", 409, "group").await;
    refused(&app, "DELETE /v1/groups/default", "", 409, "protected").await;
    ok(
        &app,
        "PATCH /v1/groups/default/configuration",
        r#"{"delete_protection":false}"#,
    )
    .await;
    ok(&app, "DELETE /v1/groups/default", "").await;
    refused(&app, "GET /v1/databases/x", "", 404, "not found").await;
    ok(&app, "POST /v1/databases", r#"{"name":"x"}"#).await;
}

#[tokio::test]
async fn groups_are_made_changed_and_deleted_with_what_is_in_them() {
    let app = app().await;
    let default = ok(&app, &format!("GET {ORG}/groups"), "").await;
    assert_eq!(default["groups"].as_array().map(Vec::len), Some(1));
    let made = ok(
        &app,
        &format!("POST {ORG}/groups"),
        r#"{"Name":"g","Location":"local","extensions":"all"}"#,
    )
    .await;
    let expected = json!({"group": {
        "name": "g", "uuid": made["group"]["uuid"], "version": env!("CARGO_PKG_VERSION"), "locations": ["local"],
        "primary": "local", "archived": false, "delete_protection": false,
        "status": {"locations": [{"name": "local", "status": "up"}]},
    }});
    assert_eq!(made, expected);
    let id = made["group"]["uuid"].as_str().expect("an id");
    assert_eq!(ok(&app, &format!("GET {ORG}/groups/g"), "").await, expected);
    assert_eq!(
        ok(&app, &format!("GET /v3/organizations/default/groups/{id}"), "").await,
        expected
    );
    refused(
        &app,
        &format!("POST {ORG}/groups"),
        r#"{"name":"g"}"#,
        409,
        "already exists",
    )
    .await;
    refused(
        &app,
        &format!("POST {ORG}/groups"),
        r#"{"name":"h","location":"nowhere"}"#,
        400,
        "unknown location",
    )
    .await;
    refused(&app, &format!("POST {ORG}/groups"), "{}", 400, "name").await;
    refused(
        &app,
        &format!("GET {ORG}/groups/none"),
        "",
        404,
        "group not found: none",
    )
    .await;
    for (request, expected) in [("POST", expected.clone()), ("GET", json!({}))] {
        let wait = if request == "GET" { "/wait" } else { "" };
        assert_eq!(
            ok(&app, &format!("{request} {ORG}/groups/g/locations/local{wait}"), "").await,
            expected
        );
    }
    refused(
        &app,
        &format!("POST {ORG}/groups/g/locations/nowhere"),
        "",
        400,
        "unknown location",
    )
    .await;
    refused(
        &app,
        &format!("DELETE {ORG}/groups/g/locations/local"),
        "",
        400,
        "primary",
    )
    .await;
    refused(
        &app,
        &format!("GET {ORG}/groups/g/locations/nowhere/wait"),
        "",
        404,
        "location",
    )
    .await;
    assert_eq!(ok(&app, &format!("POST {ORG}/groups/g/update"), "").await, json!({}));
    assert_eq!(ok(&app, &format!("POST {ORG}/groups/g/unarchive"), "").await, expected);
    ok(
        &app,
        &format!("POST {ORG}/databases"),
        r#"{"name":"inside","group":"g"}"#,
    )
    .await;
    ok(&app, &format!("POST {ORG}/databases"), r#"{"name":"outside"}"#).await;
    let renamed = ok(&app, &format!("POST {ORG}/groups/g/rename"), r#"{"Name":"h"}"#).await;
    assert_eq!(
        (&renamed["group"]["name"], &renamed["group"]["uuid"]),
        (&json!("h"), &json!(id))
    );
    assert_eq!(ok(&app, "GET /v1/databases/inside", "").await["database"]["group"], "h");
    assert_eq!(
        ok(
            &app,
            &format!("POST {ORG}/groups/h/transfer"),
            r#"{"organization":"default"}"#
        )
        .await["name"],
        "h"
    );
    refused(
        &app,
        &format!("POST {ORG}/groups/h/transfer"),
        r#"{"organization":"none"}"#,
        404,
        "organization",
    )
    .await;
    ok(&app, &format!("DELETE {ORG}/groups/h"), "").await;
    refused(&app, &format!("GET {ORG}/groups/h"), "", 404, "group not found").await;
    refused(&app, "GET /v1/databases/inside", "", 404, "not found").await;
    ok(&app, "GET /v1/databases/outside", "").await;
}

#[tokio::test]
async fn instances_are_live_nodes() {
    let app = app().await;
    ok(&app, "POST /v1/databases", r#"{"name":"x"}"#).await;
    let listed = ok(&app, "GET /v1/databases/x/instances", "").await;
    let primary = &listed["instances"][0];
    assert_eq!(
        (&primary["type"], &primary["region"]),
        (&json!("primary"), &json!("local"))
    );
    let name = primary["name"].as_str().expect("a name");
    assert!(name.starts_with("local-"), "{name}");
    assert_eq!(
        &ok(&app, &format!("GET /v1/databases/x/instances/{name}"), "").await["instance"],
        primary
    );
    assert_eq!(
        ok(&app, &format!("GET /v1/databases/x/instances/{name}/wait"), "").await,
        json!({})
    );
    refused(
        &app,
        &format!("DELETE /v1/databases/x/instances/{name}"),
        "",
        400,
        "primary",
    )
    .await;
    refused(
        &app,
        "GET /v1/databases/x/instances/none",
        "",
        404,
        "instance not found: none",
    )
    .await;
    // There is one node: what can be done is to keep the database warm there.
    assert_eq!(
        &ok(&app, "POST /v1/databases/x/instances", r#"{"location":"local"}"#).await["instance"],
        primary
    );
    refused(
        &app,
        "POST /v1/databases/x/instances",
        r#"{"location":"nowhere"}"#,
        400,
        "unknown location",
    )
    .await;
    let metadata = ok(&app, "GET /v1/namespaces/x/metadata", "").await;
    assert_eq!(metadata["pinning"]["replicas"], 1);
    let usage = ok(
        &app,
        "GET /v1/databases/x/usage?from=2026-01-01T00:00:00Z&to=2027-01-01T00%3A00%3A00%2B01:00",
        "",
    )
    .await;
    let usage = &usage["database"];
    assert_eq!(usage["usage"], usage["total"]);
    assert_eq!(usage["instances"][0]["uuid"], primary["uuid"]);
    for bad in [
        "from=x",
        "to=2026-01-01",
        "from=2026-02-01T00:00:00Z&to=2026-01-31T00:00:00Z",
    ] {
        refused(&app, &format!("GET /v1/databases/x/usage?{bad}"), "", 400, "").await;
    }
    assert_eq!(
        ok(&app, "GET /v1/databases/x/stats", "").await,
        json!({"top_queries": []})
    );
    assert_eq!(ok(&app, "GET /v1/databases/x/usage/queries", "").await, json!([]));
    for done in ["update", "wakeup"] {
        assert_eq!(ok(&app, &format!("POST /v1/databases/x/{done}"), "").await, json!({}));
    }
    ok(&app, "POST /v1/databases/x/transfer", r#"{"org":"default"}"#).await;
    refused(
        &app,
        "POST /v1/databases/x/transfer",
        r#"{"org":"other"}"#,
        400,
        "cannot be moved",
    )
    .await;
    refused(&app, "POST /v1/databases/x/seed", "", 400, "SQLite").await;
    refused(&app, "POST /v1/databases/dumps", "", 400, "SQLite").await;
    assert_eq!(
        ok(&app, "GET /v1/locations", "").await,
        json!({"locations": {"local": "This deployment"}})
    );
    let location = ok(&app, "GET /v1/locations/local", "").await;
    assert_eq!(location["location"]["code"], "local");
    refused(&app, "GET /v1/locations/nowhere", "", 404, "location not found").await;
}

#[tokio::test]
async fn a_fork_has_the_rows_and_none_of_the_rights() {
    let app = app().await;
    ok(&app, "POST /v1/databases", r#"{"name":"a"}"#).await;
    ok(&app, "POST /v2/namespaces/a", r#"{"upsert_rows":[{"id":1,"t":"x"}]}"#).await;
    ok(
        &app,
        "PATCH /v1/databases/a/configuration",
        r#"{"delete_protection":true,"size_limit":"1gb"}"#,
    )
    .await;
    let token = jwt(&app, "POST /v1/databases/a/auth/tokens", "").await;
    let fork = r#"{"name":"b","seed":{"type":"database","name":"a"}}"#;
    ok(&app, "POST /v1/databases", fork).await;
    let found = ok(
        &app,
        "POST /v2/namespaces/b/query",
        r#"{"rank_by":["id","asc"],"top_k":9,"include_attributes":true}"#,
    )
    .await;
    assert_eq!(found["rows"], json!([{"id": 1, "t": "x"}]));
    let b = ok(&app, "GET /v1/databases/b", "").await;
    assert_eq!(b["database"]["parent"], json!({"name": "a"}));
    assert_eq!(b["database"]["delete_protection"], false);
    assert_eq!(
        ok(&app, "GET /v1/databases/b/configuration", "").await["size_limit"],
        json!(null)
    );
    let (status, _) = send_as(
        &app,
        &token,
        "POST /v2/namespaces/b/query",
        r#"{"rank_by":["id","asc"],"top_k":9}"#,
    )
    .await;
    assert!(matches!(status, 401 | 403), "{status}");
}

#[tokio::test]
async fn every_answer_has_a_body() {
    let app = app().await;
    for (request, status) in [
        ("GET /v1/organizations/default/nothing", StatusCode::NOT_FOUND),
        ("PUT /v1/organizations/default/groups", StatusCode::METHOD_NOT_ALLOWED),
        ("POST /v1/databases/x", StatusCode::NOT_FOUND),
    ] {
        assert_eq!(send(&app, request, "").await.0, status.as_u16(), "{request}");
    }
    let (status, json) = send_as(&app, "wrong-key-wrong-key", "GET /v1/groups", "").await;
    assert_eq!(status, 401);
    assert!(json.get("status").is_none(), "the shape of this dialect: {json}");
}
