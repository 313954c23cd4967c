//! Every route × every kind of credential × own and foreign tenant, straight from the route table: a route that
//! is added is covered, and one whose path has a new parameter does not pass until this file knows it.

use std::collections::BTreeMap;

use axum::http::HeaderMap;
use base64_simd::STANDARD;

use super::*;
use crate::api::needs::Needs;
use crate::auth::Surface;
use crate::control::{ActionSet, Role};

/// One credential of a tenant, with what it is meant to allow, written down by hand.
pub(super) struct Held {
    pub(super) what: &'static str,
    pub(super) value: String,
    surfaces: &'static [Surface],
    actions: ActionSet,
}

pub(super) struct Tenant {
    pub(super) slug: &'static str,
    pub(super) vault: String,
    pub(super) marker: String,
    pub(super) owner: &'static str,
    pub(super) held: Vec<Held>,
}

const DATA: &[Surface] = &[Surface::Data, Surface::Search, Surface::Any];
const KEYS: &[Surface] = &[Surface::Data, Surface::Search, Surface::Keys, Surface::Any];
const SEARCH: &[Surface] = &[Surface::Search, Surface::Any];
const PLATFORM: &[Surface] = &[Surface::Platform, Surface::Any];

pub(super) async fn ask(
    app: &Router,
    key: Option<&str>,
    org: Option<&str>,
    request: &str,
    body: &str,
) -> (StatusCode, String) {
    let (method, path) = request.split_once(' ').expect("method and path");
    let mut headers = HeaderMap::new();
    if let Some(key) = key {
        headers.insert("authorization", format!("Bearer {key}").parse().expect("a value"));
    }
    if let Some(org) = org {
        headers.insert("x-shoal-org", org.parse().expect("a value"));
    }
    let mut built = Request::builder().method(method).uri(path);
    *built.headers_mut().expect("a valid request") = headers;
    let request = built.body(Body::from(body.to_owned())).expect("a valid request");
    let response = app.clone().oneshot(request).await.expect("infallible");
    let status = response.status();
    let body = response.into_body().collect().await.expect("a whole body").to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

pub(super) async fn done(app: &Router, key: &str, org: Option<&str>, request: &str, body: &str) -> Json {
    let (status, text) = ask(app, Some(key), org, request, body).await;
    assert!(status.is_success(), "{request}: {status} {text}");
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{request}: {e}: {text}"))
}

fn text(json: &Json) -> String {
    json.as_str().unwrap_or_else(|| panic!("a text, got {json}")).to_owned()
}

fn actions(entries: &[&'static str]) -> ActionSet {
    ActionSet::parse(entries.iter().copied()).expect("known")
}

async fn session(app: &Router, name: &str) -> String {
    let new = json!({"username": name, "email": format!("{name}@x.test"), "password": "correct horse"});
    done(app, KEY, None, "POST /v1/users", &new.to_string()).await;
    let login = json!({"username": name, "password": "correct horse"}).to_string();
    let (status, body) = ask(app, None, None, "POST /v1/auth/login", &login).await;
    assert_eq!(status, 200, "{body}");
    let body: Json = serde_json::from_str(&body).expect("JSON");
    text(&body["token"])
}

pub(super) async fn tenant(app: &Router, slug: &'static str, owner: &'static str) -> Tenant {
    let user = session(app, owner).await;
    let viewer = session(app, &format!("{owner}-viewer")).await;
    let named = json!({"name": slug}).to_string();
    done(app, &user, None, "POST /v1/organizations", &named).await;
    let member = json!({"username": format!("{owner}-viewer"), "role": "viewer"}).to_string();
    done(
        app,
        &user,
        None,
        &format!("POST /v1/organizations/{slug}/members"),
        &member,
    )
    .await;
    let (vault, marker) = (format!("vault-{slug}"), format!("MARK-{slug}"));
    let rows = json!({"upsert_rows": [{"id": 1, "t": marker, "n": 7}]}).to_string();
    done(app, KEY, Some(slug), &format!("POST /v2/namespaces/{vault}"), &rows).await;
    let key = async |allowed: &[&str]| {
        let new = json!({"description": marker, "actions": allowed, "collections": ["*"]}).to_string();
        text(&done(app, KEY, Some(slug), "POST /keys", &new).await["value"])
    };
    let (all, search) = (key(&["*"]).await, key(&["documents:search"]).await);
    let embedded = r#"{"filter_by":"n:7"}"#;
    let mac = aws_lc_rs::hmac::sign(
        &aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, search.as_bytes()),
        embedded.as_bytes(),
    );
    let scoped = format!("{}{}{embedded}", STANDARD.encode_to_string(mac.as_ref()), &search[..4]);
    let token = async |path: &str| {
        let path = format!("POST /v1/organizations/{slug}/{path}");
        text(&done(app, &user, None, &path, "").await["jwt"])
    };
    let read = token(&format!("databases/{vault}/auth/tokens?authorization=read-only")).await;
    let full = token(&format!("databases/{vault}/auth/tokens")).await;
    let group = token("groups/default/auth/tokens").await;
    let bound = json!({"organization": slug}).to_string();
    let platform = done(app, &user, None, "POST /v1/auth/api-tokens/ci", &bound).await;
    let narrow = json!({"organization": slug, "group": "default", "scopes": ["read"]}).to_string();
    let narrow = done(app, &user, None, "POST /v1/auth/api-tokens/narrow", &narrow).await;
    let everything = ActionSet::all();
    let reading = actions(&[
        "documents:search",
        "documents:get",
        "documents:export",
        "collections:get",
    ]);
    let writing = actions(&["documents:*", "collections:get", "collections:update"]);
    let seeing = actions(&[
        "collections:get",
        "collections:list",
        "usage:get",
        "groups:get",
        "groups:list",
    ]);
    let searching = actions(&["documents:search"]);
    let held = |what, value, surfaces, actions| Held {
        what,
        value,
        surfaces,
        actions,
    };
    Tenant {
        slug,
        vault,
        marker,
        owner,
        held: vec![
            held("key for everything", all, KEYS, everything),
            held("search key", search, KEYS, searching),
            held("scoped key", STANDARD.encode_to_string(scoped), SEARCH, searching),
            held("read-only namespace token", read, DATA, reading),
            held("namespace token", full, DATA, writing),
            held("group token", group, DATA, writing),
            held("owner", user.clone(), PLATFORM, everything),
            held("viewer", viewer, PLATFORM, Role::Viewer.actions()),
            held("platform token", text(&platform["token"]), PLATFORM, everything),
            held("read token of a group", text(&narrow["token"]), PLATFORM, seeing),
        ],
    }
}

/// A route's path with the names of a tenant in it, or with names of nothing.
pub(super) fn filled(path: &str, names: &BTreeMap<&str, String>) -> String {
    let mut filled = path.to_owned();
    while let Some((before, rest)) = filled.clone().split_once('{') {
        let (parameter, after) = rest.split_once('}').expect("closed");
        let name = names
            .get(parameter)
            .unwrap_or_else(|| panic!("{path}: this test does not know the parameter {parameter}"));
        filled = format!("{before}{name}{after}");
    }
    filled
}

pub(super) fn names(slug: &str, vault: &str, owner: &str) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("org", slug.to_owned()),
        ("namespace", vault.to_owned()),
        ("collection", vault.to_owned()),
        ("database", vault.to_owned()),
        ("group", "default".to_owned()),
        ("location", "local".to_owned()),
        ("instance", "local".to_owned()),
        ("username", owner.to_owned()),
        ("email", format!("{owner}@x.test")),
        ("issuer", "issuer".to_owned()),
        ("token", "01arz3ndektsv4rrffq69g5fav".to_owned()),
        ("id", "1".to_owned()),
        ("name", "set".to_owned()),
    ])
}

pub(super) fn all_routes() -> Vec<(Method, &'static str, Needs)> {
    let routes = routes().into_iter();
    let mut all: Vec<_> = routes.map(|r| (r.method, r.path, r.needs)).collect();
    // What ends sessions, tokens or organizations comes last, so that the others are asked first.
    all.sort_by_key(|(method, path, _)| {
        (
            *method == Method::DELETE,
            path.contains("invalidate"),
            path.contains("rotate"),
        )
    });
    assert!(all.len() > 150, "the table was found");
    all
}

/// That the tenant has what it had: rows, keys, members, living tokens.
async fn intact(app: &Router, tenant: &Tenant, keys: usize) {
    let everything = json!({"rank_by": ["id", "asc"], "top_k": 10, "include_attributes": true}).to_string();
    let query = format!("POST /v2/namespaces/{}/query", tenant.vault);
    let rows = done(app, KEY, Some(tenant.slug), &query, &everything).await;
    assert_eq!(rows["rows"], json!([{"id": 1, "t": tenant.marker, "n": 7}]));
    let listed = done(app, KEY, Some(tenant.slug), "GET /keys", "").await;
    assert_eq!(listed["keys"].as_array().map(Vec::len), Some(keys), "{listed}");
    let members = done(
        app,
        KEY,
        None,
        &format!("GET /v1/organizations/{}/members", tenant.slug),
        "",
    )
    .await;
    assert_eq!(members["members"].as_array().map(Vec::len), Some(2), "{members}");
    for held in tenant.held.iter().filter(|h| h.surfaces.contains(&Surface::Search)) {
        let search = r#"{"rank_by": ["id", "asc"], "top_k": 1}"#;
        let (status, body) = ask(app, Some(&held.value), None, &query, search).await;
        assert_eq!(status, 200, "{} of {} still counts: {body}", held.what, tenant.slug);
    }
}

#[tokio::test]
async fn no_credential_does_more_than_it_should() {
    let app = app().await;
    let tenant = tenant(&app, "acme", "ana").await;
    let names = names(tenant.slug, &tenant.vault, "ana-viewer");
    let mut asked = 0;
    for (method, path, needs) in all_routes() {
        let Some(surface) = needs.surface else { continue };
        let request = format!("{method} {}", filled(path, &names));
        let (status, body) = ask(&app, None, None, &request, "{}").await;
        assert_eq!(status, 401, "{request} without a credential: {body}");
        for held in &tenant.held {
            let known = held.surfaces.contains(&surface);
            let allowed = needs.any_of.is_empty() || needs.any_of.iter().any(|a| held.actions.contains(*a));
            if known && allowed {
                continue;
            }
            asked += 1;
            let (status, body) = ask(&app, Some(&held.value), None, &request, "{}").await;
            let refused = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
            assert!(refused, "{request} by {}: {status} {body}", held.what);
        }
    }
    assert!(asked > 800, "only {asked} refusals were tried");
    intact(&app, &tenant, 2).await;
}

#[tokio::test]
async fn what_does_not_count_counts_nowhere() {
    let app = app().await;
    let tenant = tenant(&app, "acme", "ana").await;
    let new = |more: Json| {
        let mut key = json!({"description": "", "actions": ["*"], "collections": []});
        key.as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        key.to_string()
    };
    let expired = done(&app, KEY, None, "POST /keys", &new(json!({"expires_at": 1}))).await;
    let deleted = done(&app, KEY, None, "POST /keys", &new(json!({}))).await;
    done(&app, KEY, None, &format!("DELETE /keys/{}", deleted["id"]), "").await;
    let living = text(
        &tenant
            .held
            .iter()
            .find(|h| h.what == "owner")
            .expect("held")
            .value
            .clone()
            .into(),
    );
    let (head, signature) = living.rsplit_once('.').expect("a token");
    let bad = [
        ("garbage", "garbage".to_owned()),
        ("expired key", text(&expired["value"])),
        ("deleted key", text(&deleted["value"])),
        ("token without signature", format!("{head}.")),
        (
            "token with another signature",
            format!("{head}.{}", signature.chars().rev().collect::<String>()),
        ),
        (
            "alg none",
            format!("eyJhbGciOiJub25lIn0.{}.", head.split('.').nth(1).expect("claims")),
        ),
    ];
    let names = names(tenant.slug, &tenant.vault, tenant.owner);
    for (method, path, needs) in all_routes() {
        if needs.surface.is_none() {
            continue;
        }
        let request = format!("{method} {}", filled(path, &names));
        for (what, value) in &bad {
            let (status, body) = ask(&app, Some(value), None, &request, "{}").await;
            assert_eq!(status, 401, "{request} by {what}: {body}");
        }
    }
    intact(&app, &tenant, 2).await;
}

#[tokio::test]
async fn another_tenant_cannot_tell_that_one_exists() {
    let app = app().await;
    let (acme, evil) = (tenant(&app, "acme", "ana").await, tenant(&app, "evil", "eve").await);
    let theirs = names(acme.slug, &acme.vault, "eve");
    let nobodys = names("nobody", "vault-none", "eve");
    for (method, path, needs) in all_routes() {
        // What ends the attacker's own session or account would end the test.
        let is_own = path.contains("invalidate") || (method != Method::GET && path.starts_with("/v1/users"));
        if needs.surface.is_none() || is_own {
            continue;
        }
        for held in &evil.held {
            let of = async |names| {
                let request = format!("{method} {}", filled(path, names));
                let (status, body) = ask(&app, Some(&held.value), None, &request, "{}").await;
                (status, body, request)
            };
            let (status, body, request) = of(&theirs).await;
            let (status_of_none, ..) = of(&nobodys).await;
            let who = format!("{request} by the {} of another tenant", held.what);
            assert!(!body.contains(&acme.marker), "{who}: {body}");
            assert!(!status.is_server_error(), "{who}: {status} {body}");
            if path.contains("{org}") {
                assert!(status.is_client_error(), "{who}: {status} {body}");
            }
            if path.contains("{org}") || path.contains("{namespace}") || path.contains("{collection}") {
                assert_eq!(status, status_of_none, "{who}, and of nobody: {body}");
            }
        }
    }
    intact(&app, &acme, 2).await;
}
