//! Tokens of databases and groups through the whole router, on a store in memory.

use axum::Router;
use serde_json::json;

use super::tests_databases::{ok, refused, send_as};
use crate::api::tests::app;

pub(super) async fn jwt(app: &Router, request: &str, body: &str) -> String {
    let answer = ok(app, request, body).await;
    assert_eq!(answer.as_object().map(|o| o.len()), Some(1));
    answer["jwt"].as_str().expect("a token").to_owned()
}

const QUERY: &str = r#"{"rank_by":["id","asc"],"top_k":9}"#;
const WRITE: &str = r#"{"upsert_rows":[{"id":7}]}"#;

#[tokio::test]
async fn tokens_open_what_they_are_for_and_nothing_else() {
    let app = app().await;
    for name in ["a", "b"] {
        ok(&app, "POST /v1/databases", &json!({"name": name}).to_string()).await;
        ok(
            &app,
            &format!("POST /v2/namespaces/{name}"),
            r#"{"upsert_rows":[{"id":1}]}"#,
        )
        .await;
    }
    let client = r#"{"permissions":{"read_attach":{"databases":[]}}}"#;
    let reader = jwt(
        &app,
        "POST /v1/databases/a/auth/tokens?expiration=2w&authorization=read-only",
        client,
    )
    .await;
    let writer = jwt(&app, "POST /v1/databases/a/auth/tokens?expiration=never", "").await;
    let fine = r#"{"fine_grained_permissions":[{"t":null,"a":["data_add"]}]}"#;
    let adder = jwt(&app, "POST /v1/databases/a/auth/tokens", fine).await;
    for (token, request, body, status) in [
        (&reader, "POST /v2/namespaces/a/query", QUERY, 200),
        (&reader, "GET /v2/namespaces/a/metadata", "", 200),
        (&reader, "POST /v2/namespaces/a", WRITE, 403),
        (&reader, "DELETE /v2/namespaces/a", "", 403),
        (&reader, "PATCH /v1/namespaces/a/metadata", "{}", 403),
        (&reader, "POST /v2/namespaces/b/query", QUERY, 403),
        (&reader, "GET /v1/namespaces", "", 403),
        (&reader, "GET /v1/databases", "", 401),
        (&reader, "POST /v1/databases/a/auth/tokens", "", 401),
        (&writer, "POST /v2/namespaces/a", WRITE, 200),
        (&writer, "POST /v2/namespaces/a/query", QUERY, 200),
        (&writer, "POST /v2/namespaces/b", WRITE, 403),
        (&writer, "POST /v2/namespaces/new", WRITE, 403),
        (&writer, "DELETE /v2/namespaces/a", "", 403),
        (&writer, "GET /v1/organizations/default/databases/a", "", 401),
        (&adder, "POST /v2/namespaces/a", WRITE, 200),
        (&adder, "POST /v2/namespaces/a/query", QUERY, 403),
    ] {
        let (found, json) = send_as(&app, token, request, body).await;
        assert_eq!(found, status, "{request}: {json}");
    }
    for (request, body, says) in [
        ("POST /v1/databases/a/auth/tokens?expiration=soon", "", "expiration"),
        (
            "POST /v1/databases/a/auth/tokens?authorization=all",
            "",
            "authorization",
        ),
        (
            "POST /v1/databases/a/auth/tokens",
            r#"{"permissions":{"read_attach":{"databases":["b"]}}}"#,
            "attach",
        ),
        (
            "POST /v1/databases/a/auth/tokens",
            r#"{"fine_grained_permissions":[{"t":["x"],"a":[]}]}"#,
            "tables",
        ),
    ] {
        refused(&app, request, body, 400, says).await;
    }
    refused(&app, "POST /v1/databases/none/auth/tokens", "", 404, "not found").await;
}

#[tokio::test]
async fn rotated_and_recreated_namespaces_know_no_old_token() {
    let app = app().await;
    ok(&app, "POST /v1/databases", r#"{"name":"a"}"#).await;
    ok(&app, "POST /v2/namespaces/a", WRITE).await;
    let first = jwt(&app, "POST /v1/databases/a/auth/tokens", "").await;
    assert_eq!(send_as(&app, &first, "POST /v2/namespaces/a/query", QUERY).await.0, 200);
    assert_eq!(ok(&app, "POST /v1/databases/a/auth/rotate", "").await, json!({}));
    for (request, body) in [
        ("POST /v2/namespaces/a/query", QUERY),
        ("POST /v2/namespaces/a", WRITE),
        ("GET /v2/namespaces/a/metadata", ""),
    ] {
        assert_eq!(send_as(&app, &first, request, body).await.0, 401, "{request}");
    }
    let second = jwt(&app, "POST /v1/databases/a/auth/tokens", "").await;
    assert_eq!(
        send_as(&app, &second, "POST /v2/namespaces/a/query", QUERY).await.0,
        200
    );
    ok(&app, "DELETE /v1/databases/a", "").await;
    assert_eq!(
        send_as(&app, &second, "POST /v2/namespaces/a/query", QUERY).await.0,
        401
    );
    ok(&app, "POST /v1/databases", r#"{"name":"a"}"#).await;
    ok(&app, "POST /v2/namespaces/a", WRITE).await;
    assert_eq!(
        send_as(&app, &second, "POST /v2/namespaces/a/query", QUERY).await.0,
        401,
        "another namespace"
    );
}

#[tokio::test]
async fn group_tokens_open_the_databases_of_the_group() {
    let app = app().await;
    ok(&app, "POST /v1/groups", r#"{"name":"g"}"#).await;
    for (name, group) in [("in-g", "g"), ("in-default", "default")] {
        ok(
            &app,
            "POST /v1/databases",
            &json!({"name": name, "group": group}).to_string(),
        )
        .await;
        ok(&app, &format!("POST /v2/namespaces/{name}"), WRITE).await;
    }
    let of_g = jwt(&app, "POST /v1/groups/g/auth/tokens?authorization=read-only", "").await;
    let of_default = jwt(&app, "POST /v1/groups/default/auth/tokens", "").await;
    let status = async |token: &str, name: &str, body: &str| {
        let verb = if body == QUERY { "/query" } else { "" };
        send_as(&app, token, &format!("POST /v2/namespaces/{name}{verb}"), body)
            .await
            .0
    };
    assert_eq!(status(&of_g, "in-g", QUERY).await, 200);
    assert_eq!(status(&of_g, "in-g", WRITE).await, 403);
    assert_eq!(status(&of_g, "in-default", QUERY).await, 401);
    assert_eq!(status(&of_g, "none", QUERY).await, 401, "as if it were another group's");
    assert_eq!(status(&of_default, "in-default", WRITE).await, 200);
    assert_eq!(status(&of_default, "in-g", WRITE).await, 401);
    ok(&app, "POST /v1/groups/g/auth/rotate", "").await;
    assert_eq!(status(&of_g, "in-g", QUERY).await, 401);
    assert_eq!(status(&of_default, "in-default", WRITE).await, 200);
    let anew = jwt(&app, "POST /v1/groups/g/auth/tokens", "").await;
    assert_eq!(status(&anew, "in-g", WRITE).await, 200);
    ok(&app, "DELETE /v1/groups/g", "").await;
    assert_eq!(status(&anew, "in-g", WRITE).await, 401);
    ok(&app, "DELETE /v1/groups/default", "").await;
    assert_eq!(status(&of_default, "in-default", WRITE).await, 401);
}

/// Whoever asks after the rotation was answered gets nothing, however many ask at once.
#[tokio::test]
async fn no_token_counts_once_its_rotation_is_answered() {
    let app = app().await;
    ok(&app, "POST /v1/databases", r#"{"name":"a"}"#).await;
    ok(&app, "POST /v2/namespaces/a", WRITE).await;
    for _ in 0..5 {
        let token = jwt(&app, "POST /v1/databases/a/auth/tokens", "").await;
        let rotated = std::sync::atomic::AtomicBool::new(false);
        let (rotated, app, token) = (&rotated, &app, &token);
        let asking = (0..16).map(|i| async move {
            for round in 0..20 {
                let late = rotated.load(std::sync::atomic::Ordering::SeqCst);
                let (request, body) = match (i + round) % 2 {
                    0 => ("POST /v2/namespaces/a/query", QUERY),
                    _ => ("POST /v2/namespaces/a", WRITE),
                };
                let (status, _) = send_as(app, token, request, body).await;
                assert!(
                    status == 401 || (status == 200 && !late),
                    "{status}, asked after the rotation: {late}"
                );
                tokio::task::yield_now().await;
            }
        });
        let rotating = async {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            ok(app, "POST /v1/databases/a/auth/rotate", "").await;
            rotated.store(true, std::sync::atomic::Ordering::SeqCst);
        };
        futures::future::join(futures::future::join_all(asking), rotating).await;
        assert_eq!(send_as(app, token, "POST /v2/namespaces/a/query", QUERY).await.0, 401);
    }
}
