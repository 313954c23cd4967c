//! Users, tokens, organizations and members through the whole router, on a store in memory.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use http_body_util::BodyExt;
use serde_json::{Value as Json, json};
use tower::ServiceExt;

use crate::api::tests::{app, app_with_tokio_clock};

const KEY: &str = "0123456789abcdef";

pub(super) async fn raw(app: &Router, key: Option<&str>, request: &str, body: &str) -> (u16, HeaderMap, String) {
    let (method, path) = request.split_once(' ').expect("method and path");
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, "text/plain;charset=UTF-8");
    if let Some(key) = key {
        request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
    }
    let request = request.body(Body::from(body.to_owned())).expect("a valid request");
    let response = app.clone().oneshot(request).await.expect("infallible");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes();
    let text = String::from_utf8(body.to_vec()).expect("UTF-8");
    (parts.status.as_u16(), parts.headers, text)
}

pub(super) async fn send(app: &Router, key: &str, request: &str, body: &str) -> (u16, Json) {
    let (status, _, text) = raw(app, Some(key), request, body).await;
    let json: Json = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{request}: no JSON: {e}: {text}"));
    (status, json)
}

pub(super) async fn ok(app: &Router, key: &str, request: &str, body: &str) -> Json {
    let (status, json) = send(app, key, request, body).await;
    assert_eq!(status, 200, "{request} {body}: {json}");
    json
}

pub(super) async fn refused(app: &Router, key: &str, request: &str, body: &str, status: u16) -> Json {
    let (found, json) = send(app, key, request, body).await;
    assert_eq!(found, status, "{request} {body}: {json}");
    assert!(json["error"].is_string(), "{json}");
    json
}

/// Makes a user and signs in.
pub(super) async fn user(app: &Router, name: &str) -> String {
    let new = json!({"username": name, "email": format!("{name}@example.test"), "password": "correct horse"});
    ok(app, KEY, "POST /v1/users", &new.to_string()).await;
    let login = json!({"username": name, "password": "correct horse"});
    let (status, headers, text) = raw(app, None, "POST /v1/auth/login", &login.to_string()).await;
    assert_eq!(
        (status, &headers[header::CACHE_CONTROL]),
        (200, &"no-store".parse().expect("a value"))
    );
    let session: Json = serde_json::from_str(&text).expect("JSON");
    session["token"].as_str().expect("a token").to_owned()
}

#[tokio::test]
async fn organizations_belong_to_their_members() {
    let app = app().await;
    let (ana, bob, eve) = (
        user(&app, "ana").await,
        user(&app, "bob").await,
        user(&app, "eve").await,
    );
    let dry = ok(&app, &ana, "POST /v1/organizations?dry_run=true", r#"{"Name":"Acme"}"#).await;
    assert_eq!(dry["org"]["slug"], "acme");
    let made = ok(
        &app,
        &ana,
        "POST /v1/organizations",
        r#"{"name":"Acme","stripe_id":""}"#,
    )
    .await;
    let org = &made["org"];
    assert_eq!(
        org,
        &json!({"id": org["id"], "name": "Acme", "slug": "acme", "type": "team", "overages": false,
            "require_mfa": false, "blocked_reads": false, "blocked_writes": false, "plan_id": "unlimited",
            "plan_timeline": "", "platform": ""})
    );
    refused(&app, &ana, "POST /v1/organizations", r#"{"name":"ACME!"}"#, 409).await;
    let shown = ok(&app, &ana, "GET /v1/organizations/acme", "").await;
    assert_eq!(&shown["organization"], org);
    for version in ["v1", "v2"] {
        let listed = ok(&app, &ana, &format!("GET /{version}/organizations"), "").await;
        assert_eq!(listed, json!({"organizations": [org]}));
    }
    // Strangers learn nothing: the same for what exists and what does not.
    for path in [
        "",
        "/members",
        "/api-tokens",
        "/subscription",
        "/invites",
        "/members/ana",
        "/databases",
    ] {
        let there = refused(&app, &eve, &format!("GET /v1/organizations/acme{path}"), "", 404).await;
        let absent = refused(&app, &eve, &format!("GET /v1/organizations/nobody{path}"), "", 404).await;
        assert_eq!(there, absent, "{path}");
    }
    refused(&app, &eve, "GET /v1/subscription", "", 404).await;
    refused(&app, &eve, "DELETE /v1/organizations/acme", "", 404).await;
    refused(&app, &eve, "GET /v1/organizations/default", "", 404).await;

    // Members, in both forms of the clients.
    let added = ok(
        &app,
        &ana,
        "POST /v1/organizations/acme/members/bob",
        r#"{"member":"bob","role":"viewer"}"#,
    )
    .await;
    assert_eq!(added, json!({"member": "bob", "role": "viewer"}));
    refused(
        &app,
        &ana,
        "POST /v1/organizations/acme/members",
        r#"{"username":"bob"}"#,
        409,
    )
    .await;
    refused(
        &app,
        &ana,
        "POST /v1/organizations/acme/members",
        r#"{"username":"nobody"}"#,
        404,
    )
    .await;
    refused(
        &app,
        &ana,
        "POST /v1/organizations/acme/members",
        r#"{"username":"eve","role":"king"}"#,
        400,
    )
    .await;
    refused(
        &app,
        &ana,
        "POST /v1/organizations/acme/members/bob",
        r#"{"member":"eve"}"#,
        400,
    )
    .await;
    let members = ok(&app, &bob, "GET /v1/organizations/acme/members", "").await;
    assert_eq!(
        members["members"],
        json!([
            {"username": "ana", "role": "owner", "email": "ana@example.test"},
            {"username": "bob", "role": "viewer", "email": "bob@example.test"},
        ])
    );
    // A viewer reads, and nothing else.
    for request in [
        "PATCH /v1/organizations/acme",
        "DELETE /v1/organizations/acme",
        "POST /v1/organizations/acme/members",
        "POST /v2/organizations/acme/invites",
        "PUT /v2/organizations/acme/jwks/x",
        "POST /v1/organizations/acme/subscription",
        "DELETE /v1/organizations/acme/members/ana",
        "PATCH /v1/organizations/acme/members/bob",
    ] {
        refused(&app, &bob, request, r#"{"role":"owner","username":"eve"}"#, 403).await;
    }
    let mint = r#"{"organization":"acme"}"#;
    refused(&app, &bob, "POST /v1/auth/api-tokens/ci", mint, 403).await;
    let changed = ok(
        &app,
        &ana,
        "PATCH /v1/organizations/acme/members/bob",
        r#"{"role":"admin"}"#,
    )
    .await;
    assert_eq!(changed["member"]["role"], "admin");
    refused(
        &app,
        &ana,
        "PATCH /v1/organizations/acme/members/bob",
        r#"{"role":"x"}"#,
        400,
    )
    .await;
    refused(
        &app,
        &ana,
        "PATCH /v1/organizations/acme/members/eve",
        r#"{"role":"admin"}"#,
        404,
    )
    .await;
    // Nobody gives or takes more than they have; somebody stays the owner.
    refused(
        &app,
        &bob,
        "POST /v1/organizations/acme/members",
        r#"{"username":"eve","role":"owner"}"#,
        403,
    )
    .await;
    refused(
        &app,
        &bob,
        "PATCH /v1/organizations/acme/members/bob",
        r#"{"role":"owner"}"#,
        403,
    )
    .await;
    refused(&app, &bob, "PATCH /v1/organizations/acme", r#"{"overages":true}"#, 403).await;
    refused(&app, &bob, "DELETE /v1/organizations/acme", "", 403).await;
    refused(
        &app,
        &ana,
        "PATCH /v1/organizations/acme/members/ana",
        r#"{"role":"member"}"#,
        400,
    )
    .await;
    refused(&app, &ana, "DELETE /v1/organizations/acme/members/ana", "", 400).await;
    ok(&app, &bob, "DELETE /v1/organizations/acme/members/bob", "").await;
    refused(&app, &bob, "GET /v1/organizations/acme", "", 404).await;

    // Invitations.
    let invited = ok(
        &app,
        &ana,
        "POST /v2/organizations/acme/invites",
        r#"{"email":"Eve@example.test","role":"member"}"#,
    )
    .await;
    assert_eq!(
        invited["invited"],
        json!({"email": "eve@example.test", "role": "member", "organization": "acme"})
    );
    refused(
        &app,
        &ana,
        "POST /v1/organizations/acme/invite",
        r#"{"email":"eve@example.test"}"#,
        409,
    )
    .await;
    refused(
        &app,
        &ana,
        "POST /v1/organizations/acme/invite",
        r#"{"email":"eve"}"#,
        400,
    )
    .await;
    let pending = ok(&app, &eve, "GET /v1/current-user", "").await;
    assert_eq!(
        (
            &pending["user"]["has_pending_invites"],
            &pending["user"]["pending_invites"]
        ),
        (&json!(true), &json!({"acme": "member"}))
    );
    refused(&app, &bob, "POST /v1/organizations/acme/invites/accept", "", 404).await;
    refused(&app, &eve, "POST /v1/organizations/nobody/invites/accept", "", 404).await;
    let accepted = ok(&app, &eve, "POST /v1/organizations/acme/invites/accept", "").await;
    assert_eq!(accepted, json!({"member": "eve", "role": "member"}));
    refused(&app, &eve, "POST /v1/organizations/acme/invites/accept", "", 404).await;
    assert_eq!(
        ok(&app, &eve, "GET /v1/user", "").await["user"]["has_pending_invites"],
        false
    );
    ok(
        &app,
        &ana,
        "POST /v1/organizations/acme/invites",
        r#"{"email":"c@example.test"}"#,
    )
    .await;
    let listed = ok(&app, &ana, "GET /v2/organizations/acme/invites", "").await;
    assert_eq!(listed["invites"][0]["email"], "c@example.test");
    assert_eq!(
        ok(&app, &ana, "DELETE /v2/organizations/acme/invites/c@example.test", "").await,
        json!({})
    );
    refused(
        &app,
        &ana,
        "DELETE /v2/organizations/acme/invites/c@example.test",
        "",
        404,
    )
    .await;

    // An organization with data is not deleted.
    ok(&app, &ana, "POST /v1/organizations/acme/databases", r#"{"name":"d"}"#).await;
    refused(&app, &ana, "DELETE /v1/organizations/acme", "", 400).await;
    ok(&app, &ana, "DELETE /v1/organizations/acme/databases/d", "").await;
    refused(&app, KEY, "DELETE /v1/organizations/default", "", 400).await;
    assert_eq!(ok(&app, &ana, "DELETE /v1/organizations/acme", "").await, json!({}));
    refused(&app, &ana, "GET /v1/organizations/acme", "", 404).await;
    assert_eq!(
        ok(&app, &ana, "GET /v1/organizations", "").await,
        json!({"organizations": []})
    );
}

#[tokio::test(start_paused = true)]
async fn a_token_of_a_group_restores_nothing_that_another_group_had_under_the_name() {
    let app = app_with_tokio_clock().await;
    let databases = "POST /v1/organizations/one/databases";
    let ana = user(&app, "ana").await;
    ok(&app, &ana, "POST /v1/organizations", r#"{"name":"one"}"#).await;
    for group in [r#"{"name":"a"}"#, r#"{"name":"b"}"#] {
        ok(&app, &ana, "POST /v1/organizations/one/groups", group).await;
    }
    let token = r#"{"organization":"one","group":"b","scopes":["read","db:create"]}"#;
    let made = ok(&app, &ana, "POST /v1/auth/api-tokens/b", token).await;
    let of_b = made["token"].as_str().expect("a value");
    ok(&app, &ana, databases, r#"{"name":"shop","group":"a"}"#).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    ok(&app, &ana, "DELETE /v1/organizations/one/databases/shop", "").await;
    ok(&app, of_b, databases, r#"{"name":"shop","group":"b"}"#).await;
    tokio::time::sleep(Duration::from_secs(200)).await;
    // The clock began at 10:00:00.
    let restore = |name: &str, at: &str| {
        let seed = json!({"type": "database", "name": "shop", "timestamp": at});
        json!({"name": name, "group": "b", "seed": seed}).to_string()
    };
    let of_a = "2026-11-21T10:01:00Z";
    refused(&app, of_b, databases, &restore("x", of_a), 404).await;
    ok(&app, &ana, databases, &restore("y", of_a)).await;
    ok(&app, of_b, databases, &restore("z", "2026-11-21T10:03:00Z")).await;
}

#[tokio::test]
async fn platform_tokens_never_do_more_than_what_made_them() {
    let app = app().await;
    let ana = user(&app, "ana").await;
    ok(&app, &ana, "POST /v1/organizations", r#"{"name":"one"}"#).await;
    ok(&app, &ana, "POST /v1/organizations", r#"{"name":"two"}"#).await;
    let mint = async |key: &str, name: &str, body: &str| {
        let made = ok(&app, key, &format!("POST /v1/auth/api-tokens/{name}"), body).await;
        assert_eq!(
            (made["id"].as_str().map(str::len), &made["name"]),
            (Some(22), &json!(name))
        );
        made["token"].as_str().expect("a value").to_owned()
    };
    let free = mint(&ana, "free", "").await;
    let one = mint(&ana, "one", r#"{"organization":"one"}"#).await;
    let group = mint(
        &ana,
        "group",
        r#"{"organization":"one","group":"default","scopes":["read","db:create"]}"#,
    )
    .await;
    let v2 = ok(&app, &ana, "POST /v2/auth/api-tokens/v2", "").await;
    assert!(v2["token"]["value"].is_string() && v2["token"]["name"] == "v2", "{v2}");
    for (name, body, status) in [
        ("validate", "", 400),
        ("free", "", 409),
        ("x", r#"{"group":"default","scopes":["read"]}"#, 400),
        ("x", r#"{"organization":"one","scopes":["read"]}"#, 400),
        ("x", r#"{"organization":"one","group":"default"}"#, 400),
        ("x", r#"{"organization":"one","group":"default","scopes":["fly"]}"#, 400),
        ("x", r#"{"organization":"one","group":"nobody","scopes":["read"]}"#, 400),
        ("x", r#"{"organization":"nobody"}"#, 404),
        ("x", r#"{"organization":"default"}"#, 404),
        ("x", r#"{"user":"eve"}"#, 403),
        ("x", "[]", 400),
    ] {
        refused(&app, &ana, &format!("POST /v1/auth/api-tokens/{name}"), body, status).await;
    }
    // A token of one organization reaches no other, and makes no wider one.
    ok(&app, &free, "GET /v1/organizations/two", "").await;
    ok(&app, &one, "GET /v1/organizations/one", "").await;
    refused(&app, &one, "GET /v1/organizations/two", "", 404).await;
    refused(&app, &one, "POST /v1/auth/api-tokens/x", "", 403).await;
    refused(
        &app,
        &one,
        "POST /v1/auth/api-tokens/x",
        r#"{"organization":"two"}"#,
        404,
    )
    .await;
    refused(&app, &one, "POST /v1/organizations", r#"{"name":"three"}"#, 403).await;
    refused(&app, &one, "POST /v1/auth/invalidate", "", 403).await;
    refused(&app, &one, "PATCH /v1/users/ana", r#"{"password":"other horse"}"#, 403).await;
    let listed = ok(&app, &one, "GET /v1/organizations", "").await;
    assert_eq!(listed["organizations"].as_array().map(Vec::len), Some(1));
    refused(&app, &one, "DELETE /v1/auth/api-tokens/free", "", 404).await;
    // A token of a group reaches nothing of the organization but that.
    for request in [
        "GET /v1/organizations/one",
        "GET /v1/organizations/one/members",
        "GET /v1/organizations/one/api-tokens",
        "DELETE /v1/organizations/one/members/ana",
        "POST /v1/organizations/one/groups",
        "DELETE /v1/organizations/one",
        "POST /v1/auth/api-tokens/x",
    ] {
        refused(&app, &group, request, "{}", 403).await;
    }
    assert_eq!(
        ok(&app, &group, "GET /v1/auth/api-tokens", "").await,
        json!({"tokens": []})
    );
    ok(&app, &group, "POST /v1/organizations/one/databases", r#"{"name":"d"}"#).await;
    refused(&app, &group, "DELETE /v1/organizations/one/databases/d", "", 403).await;
    ok(&app, &group, "GET /v1/databases/d", "").await;
    // Lists show no values.
    let (_, _, text) = raw(&app, Some(&ana), "GET /v1/auth/api-tokens", "").await;
    assert!(!text.contains(&free) && !text.contains("eyJ"), "{text}");
    let listed: Json = serde_json::from_str(&text).expect("JSON");
    let names: Vec<_> = listed["tokens"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|t| &t["name"])
        .collect();
    assert_eq!(names, ["free", "group", "one", "v2"]);
    assert_eq!(listed["tokens"][1]["scopes"], json!(["read", "db:create"]));
    let of_org = ok(&app, &ana, "GET /v1/organizations/one/api-tokens", "").await;
    assert_eq!(of_org["tokens"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        of_org["tokens"][0]["owner"],
        json!({"username": "ana", "email": "ana@example.test"})
    );
    let elsewhere = of_org["tokens"][0]["id"].as_str().expect("an id");
    refused(
        &app,
        &ana,
        &format!("DELETE /v1/organizations/two/api-tokens/{elsewhere}"),
        "",
        404,
    )
    .await;
    // Whoever is demoted has weaker tokens at once; whoever leaves has none.
    let bob = user(&app, "bob").await;
    ok(
        &app,
        &ana,
        "POST /v1/organizations/one/members",
        r#"{"username":"bob","role":"admin"}"#,
    )
    .await;
    let of_bob = mint(&bob, "b", r#"{"organization":"one"}"#).await;
    ok(&app, &of_bob, "PATCH /v1/organizations/one", r#"{"require_mfa":true}"#).await;
    ok(
        &app,
        &ana,
        "PATCH /v1/organizations/one/members/bob",
        r#"{"role":"member"}"#,
    )
    .await;
    refused(
        &app,
        &of_bob,
        "PATCH /v1/organizations/one",
        r#"{"require_mfa":false}"#,
        403,
    )
    .await;
    ok(&app, &ana, "DELETE /v1/organizations/one/members/bob", "").await;
    refused(&app, &of_bob, "GET /v1/organizations/one", "", 404).await;
    // Revoked, by name and by id.
    assert_eq!(
        ok(&app, &ana, "DELETE /v1/auth/api-tokens/one", "").await,
        json!({"token": "one"})
    );
    refused(&app, &one, "GET /v1/organizations/one", "", 401).await;
    refused(&app, &ana, "DELETE /v1/auth/api-tokens/one", "", 404).await;
    let of_org = ok(&app, &ana, "GET /v1/organizations/one/api-tokens", "").await;
    let group_id = of_org["tokens"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|t| t["name"] == "group")
        .expect("there");
    let id = group_id["id"].as_str().expect("an id").to_owned();
    let gone = ok(&app, KEY, &format!("DELETE /v1/organizations/one/api-tokens/{id}"), "").await;
    assert_eq!(gone, json!({"token": id}));
    refused(&app, &group, "GET /v1/databases/d", "", 401).await;
    // Never on the data plane.
    for key in [&ana, &free] {
        let (status, _, _) = raw(&app, Some(key), "GET /v1/namespaces", "").await;
        assert_eq!(status, 401);
    }
    // The operator makes tokens for users.
    refused(&app, KEY, "POST /v1/auth/api-tokens/op", "", 400).await;
    let made = mint(KEY, "op", r#"{"user":"ana","organization":"one"}"#).await;
    ok(&app, &made, "GET /v1/organizations/one", "").await;
    refused(
        &app,
        KEY,
        "POST /v1/auth/api-tokens/op2",
        r#"{"user":"bob","organization":"one"}"#,
        404,
    )
    .await;
}

#[tokio::test]
async fn users_are_the_operators_to_make() {
    let app = app().await;
    let ana = user(&app, "ana").await;
    for request in [
        "POST /v1/users",
        "DELETE /v1/users/ana",
        "GET /v1/users/bob",
        "PATCH /v1/users/bob",
    ] {
        refused(&app, &ana, request, r#"{"username":"x"}"#, 403).await;
    }
    refused(&app, KEY, "POST /v1/users", r#"{"username":"ana"}"#, 409).await;
    refused(&app, KEY, "POST /v1/users", r#"{"username":"A"}"#, 400).await;
    refused(
        &app,
        KEY,
        "POST /v1/users",
        r#"{"username":"x","password":"short"}"#,
        400,
    )
    .await;
    refused(&app, KEY, "POST /v1/users", "{}", 400).await;
    let validated = ok(&app, &ana, "GET /v1/auth/api-tokens/validate", "").await;
    assert!(validated["exp"].as_u64().is_some_and(|exp| exp > 1_700_000_000));
    assert_eq!(ok(&app, KEY, "GET /v1/auth/validate", "").await, json!({"exp": -1}));
    let shown = ok(&app, &ana, "GET /v1/user", "").await;
    assert_eq!(
        shown,
        json!({"user": {"username": "ana", "name": "", "email": "ana@example.test", "avatarUrl": "", "plan": "unlimited",
            "mfa": false, "has_pending_invites": false, "pending_invites": {}}})
    );
    // All sessions end, also those that began in the same second.
    let ended = ok(&app, &ana, "POST /v1/auth/invalidate", "").await;
    assert!(ended["ValidFrom"].is_u64());
    refused(&app, &ana, "GET /v1/user", "", 401).await;
    let login = |password: &str| json!({"username": "ana", "password": password}).to_string();
    let sign_in = async |password: &str| raw(&app, None, "POST /v1/auth/login", &login(password)).await;
    let (_, _, text) = sign_in("correct horse").await;
    let session: Json = serde_json::from_str(&text).expect("JSON");
    let again = session["token"].as_str().expect("a token");
    let minted = ok(&app, again, "POST /v1/auth/api-tokens/ci", "").await;
    let program = minted["token"].as_str().expect("a token");
    ok(&app, program, "GET /v1/user", "").await;
    // An open session is not enough for a new password.
    let path = "PATCH /v1/users/ana";
    refused(&app, again, path, r#"{"password":"battery staple"}"#, 400).await;
    let wrong = r#"{"password":"battery staple","old_password":"wrong horse"}"#;
    refused(&app, again, path, wrong, 403).await;
    ok(&app, again, path, r#"{"name":"A."}"#).await;
    let right = r#"{"password":"battery staple","old_password":"correct horse","name":"Ana"}"#;
    ok(&app, again, path, right).await;
    // Sessions and tokens of programs end, and names of tokens are free again, in the same second, too.
    refused(&app, again, "GET /v1/user", "", 401).await;
    refused(&app, program, "GET /v1/user", "", 401).await;
    let minted = ok(&app, KEY, "POST /v1/auth/api-tokens/ci", r#"{"user":"ana"}"#).await;
    let program = minted["token"].as_str().expect("a token");
    ok(&app, program, "GET /v1/user", "").await;
    ok(&app, KEY, path, r#"{"password":"battery staple"}"#).await;
    refused(&app, program, "GET /v1/user", "", 401).await;
    assert_eq!(sign_in("correct horse").await.0, 401);
    assert_eq!(sign_in("battery staple").await.0, 200);
    for _ in 0..5 {
        assert_eq!(sign_in("wrong").await.0, 401);
    }
    let (status, headers, text) = sign_in("battery staple").await;
    assert_eq!(status, 429, "{text}");
    assert!(
        headers.contains_key(header::RETRY_AFTER) && text.contains("rate_limited"),
        "{text}"
    );
    let (status, _, unknown) = raw(
        &app,
        None,
        "POST /v1/auth/login",
        r#"{"username":"eve","password":"x"}"#,
    )
    .await;
    assert_eq!(
        (status, unknown.as_str()),
        (401, r#"{"error":"username or password is wrong"}"#)
    );
    assert_eq!(ok(&app, KEY, "DELETE /v1/users/ana", "").await, json!({"user": "ana"}));
    refused(&app, KEY, "GET /v1/users/ana", "", 404).await;
}

#[tokio::test]
async fn the_page_sends_tokens_to_this_machine_only() {
    let app = app().await;
    user(&app, "ana").await;
    let asked = "GET /?port=4711&redirect=true&type=cli&state=abc";
    let (status, headers, page) = raw(&app, None, asked, "").await;
    assert_eq!(status, 200);
    let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().expect("text");
    assert!(
        policy.contains("default-src 'none'") && policy.contains("http://127.0.0.1:4711"),
        "{policy}"
    );
    assert_eq!(headers[header::CACHE_CONTROL], "no-store");
    assert!(!page.contains("<script"));
    let field = |page: &str, name: &str| {
        let (_, rest) = page.split_once(&format!("name=\"{name}\" value=\"")).expect(name);
        rest.split_once('"').expect("closed").0.to_owned()
    };
    let form = |page: &str, password: &str| {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("username", "ana").append_pair("password", password);
        for name in ["port", "state", "proof"] {
            form.append_pair(name, &field(page, name));
        }
        form.finish()
    };
    let (status, headers, _) = raw(&app, None, "POST /login", &form(&page, "correct horse")).await;
    let target = headers[header::LOCATION].to_str().expect("text").to_owned();
    assert_eq!(status, 303);
    let rest = target
        .strip_prefix("http://127.0.0.1:4711/?jwt=")
        .expect("to this machine");
    let token = rest.strip_suffix("&state=abc").expect("the same state");
    ok(&app, token, "GET /v1/user", "").await;
    // Another port than the form was made for.
    let moved = form(&page, "correct horse").replace("port=4711", "port=4712");
    assert_eq!(raw(&app, None, "POST /login", &moved).await.0, 400);
    let (status, _, again) = raw(&app, None, "POST /login", &form(&page, "wrong")).await;
    assert_eq!(status, 401);
    assert!(again.contains("username or password is wrong"));
    assert_eq!(
        raw(&app, None, "POST /login", &form(&again, "correct horse")).await.0,
        303
    );
    let (_, _, page) = raw(&app, None, "GET /signup?port=4711&redirect=false", "").await;
    let (status, _, shown) = raw(&app, None, "POST /login", &form(&page, "correct horse")).await;
    assert!(status == 200 && shown.contains("<pre>eyJ"), "{shown}");
    for bad in [
        "?port=evil.test",
        "?port=0",
        "?port=1&state=%3Cscript%3E",
        "?port=80%40evil.test",
    ] {
        let (status, _, page) = raw(&app, None, &format!("GET /login{bad}"), "").await;
        assert_eq!(status, 400, "{bad}");
        assert!(!page.contains("evil") && !page.contains("<script"), "{page}");
    }
    let (status, _, keys) = raw(&app, None, "GET /.well-known/jwks.json", "").await;
    assert!(status == 200 && keys.contains("Ed25519"), "{keys}");
}
