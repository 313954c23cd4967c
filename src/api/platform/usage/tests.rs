//! Budgets, rates, usage and audit log through the whole router.

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::*;
use crate::api::router;
use crate::config::{PlanConfig, Quotas};
use crate::control::{Control, Plans};
use crate::model::OrgId;

pub(super) const KEY: &str = "0123456789abcdef";
pub(super) const ORG: &str = "/v1/organizations/default";

/// A server whose organizations are on a plan with these quotas, and its control plane.
pub(super) async fn app_on_plan(quotas: Quotas) -> (Router, Control) {
    let plan = PlanConfig {
        quotas,
        ..PlanConfig::unlimited("unlimited")
    };
    let plans = Plans::new(&[plan], "unlimited").expect("configured");
    let unlimited = crate::api::tests::api().await;
    let inner = &unlimited.inner;
    let control = inner.control.clone().with_plans(plans);
    let (engine, runtime, auth) = (inner.engine.clone(), inner.runtime.clone(), inner.auth.clone());
    (router(Api::new(engine, runtime, auth, control.clone(), None)), control)
}

pub(super) async fn send_as(app: &Router, key: &str, request: &str, body: &str) -> (u16, HeaderMap, Json) {
    let (method, path) = request.split_once(' ').expect("method and path");
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::AUTHORIZATION, format!("Bearer {key}"))
        .body(Body::from(body.to_owned()))
        .expect("a valid request");
    let response = app.clone().oneshot(request).await.expect("infallible");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes();
    let json = serde_json::from_slice(&body).unwrap_or_else(|e| panic!("no JSON: {e}"));
    (parts.status.as_u16(), parts.headers, json)
}

pub(super) async fn send(app: &Router, request: &str, body: &str) -> (u16, HeaderMap, Json) {
    send_as(app, KEY, request, body).await
}

pub(super) async fn ok(app: &Router, request: &str, body: &str) -> Json {
    let (status, _, json) = send(app, request, body).await;
    assert_eq!(status, 200, "{request}: {json}");
    json
}

pub(super) const WRITE: &str = r#"{"upsert_rows": [{"id": 1, "t": "aaaa"}, {"id": 2, "t": "bb"}]}"#;
const QUERY: &str = r#"{"rank_by": ["id", "asc"], "limit": 1, "include_attributes": ["t"]}"#;

#[tokio::test]
async fn what_is_answered_is_metered_for_the_namespace_and_the_key() {
    let (app, control) = app_on_plan(Quotas::default()).await;
    ok(&app, "POST /v2/namespaces/a", WRITE).await;
    ok(
        &app,
        "POST /v1/namespaces/b",
        r#"{"ids": [1], "attributes": {"t": ["x"]}}"#,
    )
    .await;
    ok(&app, "POST /v2/namespaces/a/query", QUERY).await;
    ok(&app, "GET /v1/namespaces/a", "").await;
    assert_eq!(send(&app, "POST /v2/namespaces/absent/query", QUERY).await.0, 404);
    for round in 0..3 {
        let usage = ok(&app, &format!("GET {ORG}/usage"), "").await;
        let usage = &usage["organization"];
        let sum = &usage["usage"];
        assert_eq!(sum, &usage["total"]);
        for (field, value) in [
            ("queries", 2),
            ("writes", 2),
            ("rows_written", 3),
            ("rows_returned", 3),
            ("databases", 2),
            ("groups", 1),
            ("locations", 1),
            ("bytes_synced", 0),
        ] {
            assert_eq!(sum[field], value, "{round} {field}: {sum}");
        }
        assert!(
            sum["rows_read"].as_u64() >= Some(3) && sum["storage_bytes"].as_u64() > Some(0),
            "{sum}"
        );
        let databases = usage["databases"].as_array().expect("a list");
        let names: Vec<_> = databases.iter().map(|d| d["name"].as_str().expect("a name")).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(
            databases[0]["uuid"].is_string() && databases[0]["usage"]["rows_written"] == 2,
            "{databases:?}"
        );
        assert_eq!(usage["keys"][0]["id"], "bootstrap bootstrap");
        let of_one = ok(&app, &format!("GET {ORG}/databases/a/usage"), "").await;
        assert_eq!(of_one["database"]["total"]["rows_written"], 2, "{of_one}");
        assert_eq!(ok(&app, "GET /v1/usage", "").await["organization"]["usage"], *sum);
        match round {
            0 => drop(control.flush_usage().await),
            _ => {
                let org = OrgId::default_org();
                control.roll_up_usage(&org, control.month()).await.expect("rolled up");
            }
        }
    }
    let past = ok(
        &app,
        &format!("GET {ORG}/usage?from=2020-01-01T00:00:00Z&to=2020-02-01T00:00:00Z"),
        "",
    )
    .await;
    assert_eq!(past["organization"]["usage"]["writes"], 0);
    for bad in [
        "from=yesterday",
        "from=2020-01-02T00:00:00Z&to=2020-01-01T00:00:00Z&to=x",
        "from=2020-01-01T00:00:00Z",
    ] {
        assert_eq!(send(&app, &format!("GET {ORG}/usage?{bad}"), "").await.0, 400, "{bad}");
    }
    assert_eq!(send(&app, "GET /v1/organizations/nobody/usage", "").await.0, 404);
    ok(&app, "DELETE /v2/namespaces/a", "").await;
    ok(&app, "DELETE /v2/namespaces/b", "").await;
    let usage = ok(&app, "GET /v1/usage", "").await;
    assert_eq!(usage["organization"]["usage"]["storage_bytes"], 0);
}

#[tokio::test]
async fn rates_of_the_plan_hold_for_queries_and_writes_apart() {
    let (app, _) = app_on_plan(Quotas {
        queries_per_second: Some(1_000_000),
        writes_per_second: Some(1),
        ..Quotas::default()
    })
    .await;
    ok(&app, "POST /v2/namespaces/a", WRITE).await;
    let (status, headers, json) = send(&app, "POST /v2/namespaces/a", WRITE).await;
    assert_eq!(
        (status, &headers[header::RETRY_AFTER]),
        (429, &header::HeaderValue::from_static("1"))
    );
    assert!(
        json["error"]
            .as_str()
            .expect("a sentence")
            .starts_with("rate limited: "),
        "{json}"
    );
    for _ in 0..10 {
        ok(&app, "POST /v2/namespaces/a/query", QUERY).await;
        ok(&app, &format!("GET {ORG}/usage"), "").await;
    }
}

#[tokio::test]
async fn a_used_up_budget_is_answered_402_and_room_can_be_made() {
    let (app, control) = app_on_plan(Quotas {
        rows_written: Some(2),
        ..Quotas::default()
    })
    .await;
    ok(&app, "POST /v2/namespaces/a", WRITE).await;
    control.flush_usage().await;
    let blocked = control.review_budget(&OrgId::default_org()).await.expect("reviewed");
    assert!(blocked.writes && !blocked.reads);
    let (status, _, json) = send(&app, "POST /v2/namespaces/a", WRITE).await;
    assert_eq!(status, 402, "{json}");
    assert!(
        json["error"]
            .as_str()
            .expect("a sentence")
            .starts_with("writes are blocked: "),
        "{json}"
    );
    ok(&app, "POST /v2/namespaces/a/query", QUERY).await;
    ok(&app, "DELETE /v2/namespaces/a", "").await;
}

#[tokio::test]
async fn the_audit_log_says_what_was_done_and_what_was_refused() {
    let (app, control) = app_on_plan(Quotas::default()).await;
    let (status, headers, json) = send(&app, &format!("POST {ORG}/databases"), r#"{"name": "a"}"#).await;
    assert_eq!(status, 200, "{json}");
    let logs = ok(&app, &format!("GET {ORG}/audit-logs"), "").await;
    let created = logs["audit_logs"].as_array().expect("a list");
    let created = created.iter().find(|e| e["code"] == "db-create").expect("it is there");
    assert_eq!(created["request_id"], headers["x-request-id"].to_str().expect("text"));
    assert_eq!(
        (&created["result"], &created["message"], &created["origin"]),
        (&json!("ok"), &json!(""), &json!("api"))
    );
    let request = format!("POST {ORG}/databases/a/auth/tokens?authorization=read-only");
    let token = ok(&app, &request, "").await;
    let token = token["jwt"].as_str().expect("a token");
    for _ in 0..3 {
        assert_eq!(send_as(&app, token, "POST /v2/namespaces/a", WRITE).await.0, 403);
    }
    control.flush_audits().await;
    let logs = ok(&app, &format!("GET {ORG}/audit-logs?page=1&page_size=1"), "").await;
    let newest = &logs["audit_logs"][0];
    assert_eq!(
        (&newest["code"], &newest["target"], &newest["result"]),
        (&json!("auth-denied"), &json!("a"), &json!("denied"))
    );
    let pages = &logs["pagination"];
    assert_eq!(
        (&pages["page"], &pages["page_size"], &pages["total_pages"]),
        (&json!(1), &json!(1), &pages["total_rows"])
    );
    let all = ok(&app, &format!("GET {ORG}/audit-logs"), "").await;
    let denied = |e: &&Json| e["code"] == "auth-denied";
    assert_eq!(
        all["audit_logs"]
            .as_array()
            .expect("a list")
            .iter()
            .filter(denied)
            .count(),
        1,
        "one a minute"
    );
    assert!(!all.to_string().contains(token));
    for bad in [
        "page=0",
        "page_size=0",
        "page_size=1001",
        "page=x",
        "page=11&page_size=1000",
    ] {
        assert_eq!(
            send(&app, &format!("GET {ORG}/audit-logs?{bad}"), "").await.0,
            400,
            "{bad}"
        );
    }
    assert_eq!(send(&app, "GET /v1/organizations/nobody/audit-logs", "").await.0, 404);
}

pub(super) async fn collection(app: &Router) {
    let definition = r#"{"name": "books", "fields": [{"name": "title", "type": "string"}]}"#;
    assert_eq!(send(app, "POST /collections", definition).await.0, 201);
}

async fn sum(app: &Router) -> Json {
    ok(app, &format!("GET {ORG}/usage"), "").await["organization"]["usage"].clone()
}

#[tokio::test]
async fn requests_of_typesense_are_metered_exactly() {
    let (app, _) = app_on_plan(Quotas::default()).await;
    collection(&app).await;
    let documents = "/collections/books/documents";
    let search = format!("GET {documents}/search?q=moby&query_by=title");
    // The request, and the queries, rows returned, writes and rows written that it is.
    let steps: [(&str, &str, [u64; 4]); 11] = [
        (
            &format!("POST {documents}"),
            r#"{"id": "1", "title": "Moby Dick"}"#,
            [0, 0, 1, 1],
        ),
        (
            &format!("POST {documents}"),
            r#"{"id": "1", "title": "again"}"#,
            [0, 0, 1, 0],
        ),
        (
            &format!("POST {documents}/import?action=create"),
            "{\"id\": \"2\", \"title\": \"Omoo\"}\n{\"id\": \"3\", \"title\": \"Typee\"}\nnonsense",
            [0, 0, 1, 2],
        ),
        (
            &format!("POST {documents}/import?action=emplace"),
            "{\"id\": \"3\", \"title\": \"Typee!\"}\n{\"id\": \"4\", \"title\": \"Mardi\"}",
            [0, 0, 1, 2],
        ),
        (&format!("GET {documents}/2"), "", [1, 1, 0, 0]),
        (&format!("GET {documents}/9"), "", [0, 0, 0, 0]),
        (&search, "", [1, 1, 0, 0]),
        (
            "POST /multi_search?query_by=title",
            r#"{"searches": [{"collection": "books", "q": "moby"}, {"collection": "books", "q": "*"},
                {"collection": "absent", "q": "*"}]}"#,
            [2, 5, 0, 0],
        ),
        (&format!("GET {documents}/export"), "", [1, 4, 0, 0]),
        (&format!("DELETE {documents}?filter_by=title:Omoo"), "", [0, 0, 1, 1]),
        (
            &format!("PATCH {documents}/1"),
            r#"{"title": "The Whale"}"#,
            [0, 0, 1, 1],
        ),
    ];
    let fields = ["queries", "rows_returned", "writes", "rows_written"];
    let mut expected = [0; 4];
    for (request, body, used) in steps {
        let (method, path) = request.split_once(' ').expect("method and path");
        let request = Request::builder().method(method).uri(path);
        let request = request.header(header::AUTHORIZATION, format!("Bearer {KEY}"));
        let request = request.body(Body::from(body.to_owned())).expect("a valid request");
        let answer = app.clone().oneshot(request).await.expect("infallible");
        let status = answer.status();
        let answer = answer.into_body().collect().await.expect("a whole body").to_bytes();
        for (all, one) in expected.iter_mut().zip(used) {
            *all += one;
        }
        let sum = sum(&app).await;
        let found = fields.map(|field| sum[field].as_u64().expect("a number"));
        assert_eq!(found, expected, "{method} {path} {body}: {status} {answer:?}");
    }
    assert!(sum(&app).await["storage_bytes"].as_u64() > Some(0));
    ok(&app, "DELETE /collections/books", "").await;
    assert_eq!(sum(&app).await["storage_bytes"], 0);
}

#[tokio::test]
async fn a_scoped_key_limits_the_searches_of_a_request() {
    let (app, _) = app_on_plan(Quotas::default()).await;
    collection(&app).await;
    let wanted = r#"{"description": "", "actions": ["documents:search"], "collections": ["*"]}"#;
    let (status, _, made) = send(&app, "POST /keys", wanted).await;
    assert_eq!(status, 201, "{made}");
    let parent = made["value"].as_str().expect("a value");
    let scoped = |parameters: &str| {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, parent.as_bytes());
        let mac = base64_simd::STANDARD.encode_to_string(aws_lc_rs::hmac::sign(&key, parameters.as_bytes()));
        base64_simd::STANDARD.encode_to_string(format!("{mac}{}{parameters}", &parent[..4]))
    };
    let (two, many) = (
        scoped(r#"{"limit_multi_searches": 2}"#),
        scoped(r#"{"limit_multi_searches": 99}"#),
    );
    let searches = |count: usize, key: Option<&str>| {
        let one = json!({"collection": "books", "q": "*", "x-typesense-api-key": key});
        let mut one = one;
        if key.is_none() {
            one.as_object_mut().expect("an object").remove("x-typesense-api-key");
        }
        json!({"searches": vec![one; count]}).to_string()
    };
    for (key, of_each, count, status) in [
        (parent, None, 50, 200),
        (parent, None, 51, 400),
        (&two, None, 2, 200),
        (&two, None, 3, 400),
        (&many, None, 51, 400),
        (parent, Some(two.as_str()), 2, 200),
        (parent, Some(two.as_str()), 3, 400),
    ] {
        let (found, _, answer) = send_as(&app, key, "POST /multi_search", &searches(count, of_each)).await;
        assert_eq!(found, status, "{count}: {answer}");
        if status == 400 {
            assert!(
                answer["message"]
                    .as_str()
                    .is_some_and(|m| m.contains("limit_multi_searches")),
                "{answer}"
            );
        }
    }
    assert_eq!(sum(&app).await["queries"], 54);
}

#[tokio::test]
async fn owners_change_to_plans_for_self_service_only() {
    let plan = |name: &str, self_service, overages_allowed, databases| PlanConfig {
        self_service,
        overages_allowed,
        quotas: Quotas {
            databases: Some(databases),
            rows_written: Some(2 * databases),
            ..Quotas::default()
        },
        ..PlanConfig::unlimited(name)
    };
    let plans = [
        plan("free", true, false, 1),
        plan("pro", true, true, 5),
        plan("gold", false, true, 9),
    ];
    let plans = Plans::new(&plans, "free").expect("configured");
    let api = crate::api::tests::api().await;
    let inner = &api.inner;
    let control = inner.control.clone().with_plans(plans);
    let (engine, runtime, auth) = (inner.engine.clone(), inner.runtime.clone(), inner.auth.clone());
    let app = router(Api::new(engine, runtime, auth, control, None));
    let new = r#"{"username": "ana", "email": "ana@example.test", "password": "correct horse"}"#;
    ok(&app, "POST /v1/users", new).await;
    let login = ok(
        &app,
        "POST /v1/auth/login",
        r#"{"username": "ana", "password": "correct horse"}"#,
    )
    .await;
    let ana = login["token"].as_str().expect("a token");
    let (_, _, whoami) = send_as(&app, ana, "GET /v1/auth/whoami", "").await;
    assert_eq!(
        (&whoami["username"], &whoami["organizations"], &whoami["organization"]),
        (&json!("ana"), &json!([]), &Json::Null),
        "{whoami}"
    );
    assert_eq!(
        send_as(&app, ana, "POST /v1/organizations", r#"{"name": "acme"}"#)
            .await
            .0,
        200
    );
    let (plan, change) = (
        "POST /v1/organizations/acme/subscription",
        "PATCH /v1/organizations/acme",
    );
    // Who asks, for what, and the status.
    for (key, request, body, status) in [
        (ana, plan, r#"{"plan": "free"}"#, 200),
        (ana, plan, r#"{"plan": "free", "overages": true}"#, 402),
        (ana, change, r#"{"overages": true}"#, 402),
        (ana, plan, r#"{"plan": "gold"}"#, 402),
        (ana, plan, r#"{"plan": "unlimited"}"#, 402),
        (ana, plan, r#"{"plan": "platinum"}"#, 400),
        (ana, plan, r#"{"plan": "pro", "overages": true}"#, 200),
        (ana, plan, r#"{"plan": "free"}"#, 402),
        (ana, plan, r#"{"plan": "free", "overages": false}"#, 200),
        (KEY, change, r#"{"overages": true}"#, 200),
        (ana, change, r#"{"overages": true, "name": "Acme"}"#, 200),
        (ana, change, r#"{"overages": false}"#, 200),
        (ana, change, r#"{"overages": true}"#, 402),
        (KEY, plan, r#"{"plan": "gold"}"#, 200),
        (ana, plan, r#"{"plan": "gold", "overages": false}"#, 200),
    ] {
        let (found, _, answer) = send_as(&app, key, request, body).await;
        assert_eq!(found, status, "{request} {body}: {answer}");
        if status == 402 {
            assert_eq!(answer["code"], "payment_required", "{answer}");
        }
    }
    let (_, _, whoami) = send_as(&app, ana, "GET /v1/auth/whoami", "").await;
    let only = whoami["organizations"][0].clone();
    assert_eq!(
        (&only["slug"], &only["role"]),
        (&json!("acme"), &json!("owner")),
        "{whoami}"
    );
    assert_eq!(
        (&only["id"], &only["actions"]),
        (&whoami["organization"], &whoami["actions"])
    );
    assert!(
        only["actions"]
            .as_array()
            .is_some_and(|a| a.contains(&json!("organizations:delete"))),
        "{only}"
    );
    let token = r#"{"organization": "acme"}"#;
    let (_, _, token) = send_as(&app, ana, "POST /v1/auth/api-tokens/ci", token).await;
    let token = token["token"].as_str().expect("a token");
    let (_, _, whoami) = send_as(&app, token, "GET /v1/auth/whoami", "").await;
    assert_eq!(
        (&whoami["kind"], &whoami["organizations"]),
        (&json!("platform_token"), &json!([only]))
    );
    for (key, body, allowed) in [
        (ana, r#"{"action": "organizations:delete"}"#, true),
        (
            ana,
            r#"{"action": "organizations:delete", "organization": "acme"}"#,
            true,
        ),
        (
            ana,
            r#"{"action": "organizations:get", "organization": "default"}"#,
            false,
        ),
        (
            token,
            r#"{"action": "organizations:get", "organization": "absent"}"#,
            false,
        ),
    ] {
        let (status, _, answer) = send_as(&app, key, "POST /v1/auth/explain", body).await;
        assert_eq!((status, &answer["allowed"]), (200, &json!(allowed)), "{body}: {answer}");
    }
    assert_eq!(
        send(
            &app,
            "POST /v1/auth/explain",
            r#"{"action": "organizations:get", "organization": "acme"}"#
        )
        .await
        .0,
        400
    );
}

#[tokio::test]
async fn a_larger_plan_lifts_a_block_at_once() {
    let plan = |name: &str, rows_written| PlanConfig {
        quotas: Quotas {
            rows_written: Some(rows_written),
            ..Quotas::default()
        },
        self_service: true,
        ..PlanConfig::unlimited(name)
    };
    let plans = Plans::new(&[plan("small", 2), plan("large", 100)], "small").expect("configured");
    let api = crate::api::tests::api().await;
    let inner = &api.inner;
    let control = inner.control.clone().with_plans(plans);
    let (engine, runtime, auth) = (inner.engine.clone(), inner.runtime.clone(), inner.auth.clone());
    let app = router(Api::new(engine, runtime, auth, control.clone(), None));
    ok(&app, &format!("POST {ORG}/subscription"), r#"{"plan": "small"}"#).await;
    ok(&app, "POST /v2/namespaces/a", WRITE).await;
    control.flush_usage().await;
    control.review_budget(&OrgId::default_org()).await.expect("reviewed");
    assert_eq!(send(&app, "POST /v2/namespaces/a", WRITE).await.0, 402);
    for (plan, status) in [("large", 200), ("small", 402), ("large", 200)] {
        let body = json!({ "plan": plan }).to_string();
        ok(&app, &format!("POST {ORG}/subscription"), &body).await;
        let shown = ok(&app, &format!("GET {ORG}"), "").await;
        assert_eq!(
            shown["organization"]["blocked_writes"],
            status == 402,
            "{plan}: {shown}"
        );
        assert_eq!(send(&app, "POST /v2/namespaces/a", WRITE).await.0, status, "{plan}");
    }
}
