//! What a plan includes and how fast it may be used, on either plane; and whether the audit log is whole.

use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::tests::{KEY, ORG, WRITE, app_on_plan, collection, ok, send, send_as};
use super::*;
use crate::config::Quotas;
use crate::model::OrgId;

/// However it comes into being, a namespace counts.
#[tokio::test]
async fn the_plan_includes_so_many_namespaces() {
    let (app, control) = app_on_plan(Quotas {
        databases: Some(2),
        ..Quotas::default()
    })
    .await;
    ok(&app, "POST /v2/namespaces/a", WRITE).await;
    collection(&app).await;
    let definition = r#"{"name": "films", "fields": [{"name": "title", "type": "string"}]}"#;
    let copy = r#"{"copy_from_namespace": "a"}"#;
    for (request, body) in [
        ("POST /v2/namespaces/b", WRITE),
        ("POST /v1/namespaces/b", r#"{"ids": [1], "attributes": {"t": ["x"]}}"#),
        ("POST /v2/namespaces/b", copy),
        ("POST /v2/namespaces/b/async", copy),
        ("POST /v2/namespaces/b", r#"{"branch_from_namespace": "a"}"#),
        ("POST /collections", definition),
        ("POST /v1/databases", r#"{"name": "b"}"#),
    ] {
        let (status, _, json) = send(&app, request, body).await;
        assert_eq!(status, 402, "{request} {body}: {json}");
        assert!(json.to_string().contains("plan limit reached: databases"), "{json}");
    }
    // What is there is not held up, what is not there is not found, and what exists already is said so.
    ok(&app, "POST /v2/namespaces/a", WRITE).await;
    let (status, _, json) = send(&app, "POST /v2/namespaces/b", r#"{"deletes": [1]}"#).await;
    assert_eq!(status, 404, "{json}");
    let books = r#"{"name": "books", "fields": [{"name": "title", "type": "string"}]}"#;
    assert_eq!(send(&app, "POST /collections", books).await.0, 409);
    // Who may not create is told that, and nothing of the plan.
    let token = ok(&app, &format!("POST {ORG}/groups/default/auth/tokens"), "").await;
    let token = token["jwt"].as_str().expect("a token");
    assert_ne!(send_as(&app, token, "POST /v2/namespaces/b", WRITE).await.0, 402);
    // Room can be made, and overages allowed.
    ok(&app, "DELETE /collections/books", "").await;
    ok(&app, "POST /v2/namespaces/b", WRITE).await;
    assert_eq!(send(&app, "POST /v2/namespaces/c", WRITE).await.0, 402);
    let lenient = |organization: &mut crate::control::Organization| {
        organization.overages = true;
        Ok(())
    };
    control
        .change_organization(&OrgId::default_org(), lenient)
        .await
        .expect("changed");
    ok(&app, "POST /v2/namespaces/c", WRITE).await;
}

#[tokio::test]
async fn a_group_that_is_moved_needs_room_there() {
    let (app, _) = app_on_plan(Quotas {
        groups: Some(2),
        ..Quotas::default()
    })
    .await;
    ok(&app, "POST /v1/organizations", r#"{"name": "acme"}"#).await;
    ok(&app, &format!("POST {ORG}/groups"), r#"{"name": "mine"}"#).await;
    ok(&app, "POST /v1/organizations/acme/groups", r#"{"name": "theirs"}"#).await;
    let transfer = format!("POST {ORG}/groups/mine/transfer");
    let (status, _, json) = send(&app, &transfer, r#"{"organization": "acme"}"#).await;
    assert_eq!((status, &json["code"]), (402, &json!("quota_groups")), "{json}");
    ok(&app, &format!("GET {ORG}/groups/mine"), "").await;
    ok(&app, "DELETE /v1/organizations/acme/groups/theirs", "").await;
    ok(&app, &transfer, r#"{"organization": "acme"}"#).await;
    assert_eq!(send(&app, &format!("GET {ORG}/groups/mine"), "").await.0, 404);
}

async fn session(app: &Router, name: &str) -> String {
    let user = json!({"username": name, "password": "correct horse"}).to_string();
    ok(app, "POST /v1/users", &user).await;
    let answer = ok(app, "POST /v1/auth/login", &user).await;
    answer["token"].as_str().expect("a token").to_owned()
}

#[tokio::test]
async fn rates_of_the_plan_hold_on_the_control_plane_in_buckets_of_their_own() {
    let (app, _) = app_on_plan(Quotas {
        queries_per_second: Some(1),
        writes_per_second: Some(1),
        ..Quotas::default()
    })
    .await;
    let (ana, bob) = (session(&app, "ana").await, session(&app, "bob").await);
    ok(&app, "POST /v1/organizations", r#"{"name": "acme"}"#).await;
    for name in ["ana", "bob"] {
        let member = json!({"username": name, "role": "admin"}).to_string();
        ok(&app, "POST /v1/organizations/acme/members", &member).await;
    }
    let count = async |key: &str, request: &str, body: &str| {
        let mut passed = 0;
        for _ in 0..8 {
            let (status, headers, json) = send_as(&app, key, request, body).await;
            if status == 429 {
                assert_eq!(json["code"], "rate_limited");
                assert!(headers.contains_key(header::RETRY_AFTER));
            } else {
                assert_eq!(status, 200, "{request}: {json}");
                passed += 1;
            }
        }
        passed
    };
    let members = "GET /v1/organizations/acme/members";
    let overages = ("PATCH /v1/organizations/acme", "{}");
    // A test may take a while: what comes in a second more passes.
    let read = count(&ana, members, "").await;
    assert!((1..8).contains(&read), "{read}");
    assert_eq!(send_as(&app, &bob, members, "").await.0, 429, "the organization's");
    let changed = count(&ana, overages.0, overages.1).await;
    assert!((1..8).contains(&changed), "{changed}");
    // What is a user's own is that user's.
    let own = count(&ana, "GET /v1/user", "").await;
    assert!((1..8).contains(&own), "{own}");
    assert_eq!(send_as(&app, &bob, "GET /v1/user", "").await.0, 200);
    // Whoever runs the deployment can always look, and data has buckets of its own.
    for _ in 0..10 {
        ok(&app, members, "").await;
    }
    let key = json!({"description": "", "actions": ["*"], "collections": ["*"]}).to_string();
    let request = Request::post("/keys")
        .header(header::AUTHORIZATION, format!("Bearer {KEY}"))
        .header("x-shoal-org", "acme");
    let answer = app
        .clone()
        .oneshot(request.body(Body::from(key)).expect("valid"))
        .await
        .expect("infallible");
    let body = answer.into_body().collect().await.expect("whole").to_bytes();
    let made: Json = serde_json::from_slice(&body).expect("JSON");
    let key = made["value"].as_str().expect("shown once").to_owned();
    assert_eq!(send_as(&app, &key, "POST /v2/namespaces/a", WRITE).await.0, 200);
    assert_eq!(send_as(&app, &key, "POST /v2/namespaces/a", WRITE).await.0, 429);
    let answer = send_as(&app, &key, "GET /keys", "").await;
    assert!(matches!(answer.0, 200 | 429));
}

#[tokio::test]
async fn whether_the_audit_log_is_as_it_was_written_can_be_asked() {
    use futures::TryStreamExt;
    let (app, control) = app_on_plan(Quotas::default()).await;
    ok(&app, &format!("POST {ORG}/databases"), r#"{"name": "a"}"#).await;
    ok(&app, &format!("POST {ORG}/databases"), r#"{"name": "b"}"#).await;
    control.flush_audits().await;
    let verdict = ok(&app, "GET /v1/audit-logs/verify", "").await;
    assert_eq!(
        (&verdict["intact"], &verdict["unsealed"]),
        (&json!(true), &json!(0)),
        "{verdict}"
    );
    assert!(verdict["lines"].as_u64() >= Some(2), "{verdict}");
    let day = verdict["day"].as_str().expect("a day").to_owned();
    let of_day = ok(&app, &format!("GET {ORG}/audit-logs/verify?day={day}"), "").await;
    assert_eq!(of_day, verdict);
    let empty = ok(&app, &format!("GET {ORG}/audit-logs/verify?day=2020-02-29"), "").await;
    assert_eq!((&empty["intact"], &empty["files"]), (&json!(true), &json!(0)));
    for bad in [
        "today",
        "2021-02-29",
        "2026-1-1",
        "..",
        "2026-01-01/x",
        "+2026-01-01",
        "day=2026-01-01&day=x",
    ] {
        let (status, _, json) = send(&app, &format!("GET {ORG}/audit-logs/verify?day={bad}"), "").await;
        assert_eq!(status, 400, "{bad}: {json}");
    }
    let ana = session(&app, "ana").await;
    assert_eq!(
        send_as(&app, &ana, &format!("GET {ORG}/audit-logs/verify"), "").await.0,
        404
    );
    let store = control.records().store();
    let directory = crate::store::paths::control::audit_day(&OrgId::default_org(), &day);
    let files: Vec<_> = store.list(&directory, None).try_collect().await.expect("listed");
    store.delete(&files[0].location).await.expect("deleted");
    let verdict = ok(&app, "GET /v1/audit-logs/verify", "").await;
    assert_eq!(verdict["intact"], false, "{verdict}");
    assert!(
        verdict["problems"].as_array().is_some_and(|p| !p.is_empty()),
        "{verdict}"
    );
}
