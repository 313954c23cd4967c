//! Requests through the whole router, on a store in memory.

use std::io::Read;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value as Json, json};
use tower::ServiceExt;

use super::dialect::Dialect;
use super::*;
use crate::base::{Clock, CpuPool, Ledger, Rng, SystemClock, TokioClock, TokioSpawner};
use crate::config::StoreConfig;
use crate::control::{ControlOptions, Freshness, Secret, Secrets};
use crate::namespace::EngineOptions;
use crate::store::{self, probe::ProbeOptions};

pub(super) const KEY: &str = "0123456789abcdef";

mod cors;
mod limits;
mod matrix;
mod prefixes;

pub(super) async fn app() -> Router {
    app_with(EngineOptions::default()).await
}

async fn app_with(options: EngineOptions) -> Router {
    app_on(CpuPool::inline(), options).await
}

async fn app_on(cpu: CpuPool, options: EngineOptions) -> Router {
    router(api_on(cpu, options).await)
}

pub(super) async fn api() -> Api {
    api_on(CpuPool::inline(), EngineOptions::default()).await
}

async fn api_on(cpu: CpuPool, options: EngineOptions) -> Api {
    api_at(Arc::new(SystemClock), cpu, options).await
}

/// One whose time a test may let pass.
pub(super) async fn app_with_tokio_clock() -> Router {
    let clock = TokioClock::new(std::time::Duration::from_secs(1_795_255_200));
    router(api_at(Arc::new(clock), CpuPool::inline(), EngineOptions::default()).await)
}

async fn api_at(clock: Arc<dyn Clock>, cpu: CpuPool, options: EngineOptions) -> Api {
    let runtime = Runtime {
        clock,
        rng: Rng::seeded(7),
        spawner: Arc::new(TokioSpawner::default()),
        cpu,
        memory: Ledger::new(1 << 30, 1 << 30),
    };
    let probe = ProbeOptions {
        racers: 2,
        body_bytes: 1024,
    };
    let opened = store::open(&StoreConfig::default(), &runtime, probe)
        .await
        .map_err(|e| e.to_string())
        .expect("memory");
    api_over(opened.store, runtime, options)
}

fn api_over(store: store::Store, runtime: Runtime, options: EngineOptions) -> Api {
    let control = Control::new(
        runtime.clone(),
        store.clone(),
        ControlOptions {
            secrets: Secrets::new(vec![Secret::new(&[7; 32])]),
            freshness: Freshness::default(),
            deployment: "tests".into(),
        },
    );
    let engine = Engine::new(runtime.clone(), store, options);
    let auth = Authenticator::new(&[KEY.to_owned()], false, control.clone()).expect("valid");
    Api::new(engine, runtime, auth, control, None)
}

pub(super) fn request(method: &str, path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {KEY}"))
        .body(body.into())
        .expect("a valid request")
}

async fn send(app: &Router, request: Request<Body>) -> (StatusCode, Json) {
    let dialect = Dialect::of(request.uri().path());
    let response = app.clone().oneshot(request).await.expect("infallible");
    let status = response.status();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    assert!(response.headers().contains_key("x-request-id"));
    let body = response.into_body().collect().await.expect("a whole body").to_bytes();
    let json: Json = serde_json::from_slice(&body).expect("JSON");
    if !status.is_success() {
        match dialect {
            Dialect::Turbopuffer => assert_eq!(json["status"], "error"),
            Dialect::Turso => assert_eq!(json["status"], Json::Null),
            Dialect::Typesense => assert!(json["message"].is_string()),
        }
        assert!(json["error"].is_string() || dialect == Dialect::Typesense);
    }
    (status, json)
}

#[tokio::test]
async fn a_namespace_lives_and_dies() {
    let app = app().await;
    let write = json!({
        "upsert_rows": [{"id": 1, "vector": [0.1, 0.1], "t": "a"}, {"id": 2, "vector": [0.9, -0.9]}],
        "distance_metric": "euclidean_squared"
    });
    let (status, json) = send(
        &app,
        request("POST", "/v2/namespaces/n?stainless_overload=x", write.to_string()),
    )
    .await;
    assert_eq!((status, &json["rows_affected"]), (StatusCode::OK, &json!(2)), "{json}");
    let query = json!({"rank_by": ["vector", "ANN", [0.1, 0.1]], "top_k": 1, "include_attributes": ["t"]});
    let path = "/v2/namespaces/n/query?stainless_overload=multiQuery";
    let (status, json) = send(&app, request("POST", path, query.to_string())).await;
    assert_eq!(
        (status, &json["rows"]),
        (StatusCode::OK, &json!([{"id": 1, "$dist": 0.0, "t": "a"}])),
        "{json}"
    );
    let (_, json) = send(&app, request("GET", "/v1/namespaces", "")).await;
    assert_eq!(json, json!({"namespaces": [{"id": "n"}]}));
    let (_, json) = send(&app, request("GET", "/v1/namespaces/n/schema", "")).await;
    assert_eq!(json["vector"]["type"], "[2]f32");
    let (_, json) = send(&app, request("POST", "/v1/namespaces/n/schema", r#"{"x": "int"}"#)).await;
    assert_eq!(json["x"]["type"], "int");
    let (_, json) = send(&app, request("GET", "/v2/namespaces/n/metadata", "")).await;
    let keys: Vec<_> = json.as_object().expect("an object").keys().cloned().collect();
    let mut expected = [
        "approx_logical_bytes",
        "approx_row_count",
        "created_at",
        "encryption",
        "index",
        "last_write_at",
        "schema",
        "updated_at",
    ];
    expected.sort_unstable();
    assert_eq!(keys, expected);
    let (_, json) = send(&app, request("GET", "/v1/namespaces/n/hint_cache_warm", "")).await;
    assert_eq!(json["status"], "OK");
    let (_, json) = send(&app, request("DELETE", "/v2/namespaces/n", "")).await;
    assert_eq!(json, json!({"status": "OK"}));
    for (method, path) in [
        ("DELETE", "/v2/namespaces/n"),
        ("DELETE", "/v1/namespaces/n"),
        ("GET", "/v1/namespaces/n/schema"),
        ("GET", "/v1/namespaces/n/metadata"),
        ("GET", "/v1/namespaces/n/hint_cache_warm"),
    ] {
        assert_eq!(
            send(&app, request(method, path, "")).await.0,
            StatusCode::NOT_FOUND,
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn a_copy_by_token_is_started_and_asked_for() {
    let app = app().await;
    let write = json!({"upsert_rows": [{"id": 1, "a": "x"}, {"id": 2}]}).to_string();
    send(&app, request("POST", "/v2/namespaces/src", write)).await;
    for (source, expected) in [("src", None), ("none", Some(404)), ("src", Some(400))] {
        let body = json!({"copy_from_namespace": {"source_namespace": source}}).to_string();
        let path = "/v2/namespaces/dst/async?stainless_overload=startCopyFrom";
        let (status, json) = send(&app, request("POST", path, body)).await;
        let token = json["token"].as_str().expect("a token").to_owned();
        assert_eq!((status, json), (StatusCode::OK, json!({ "token": token })));
        let path = format!("/v1/namespaces/dst/operations/{token}?stainless_overload=pollCopyFrom");
        let ended = loop {
            let (status, json) = send(&app, request("GET", &path, "")).await;
            assert_eq!(status, StatusCode::OK, "{json}");
            assert!(json["start_time"].is_string(), "{json}");
            if json["status"] == "finished" {
                break json;
            }
            assert_eq!(
                (json["status"].as_str(), json["progress"].is_string()),
                (Some("running"), true)
            );
            tokio::task::yield_now().await;
        };
        assert!(ended["finish_time"].is_string(), "{ended}");
        match expected {
            None => {
                let success = &ended["result"]["success"];
                assert_eq!(
                    (&success["status"], &success["rows_affected"]),
                    (&json!("OK"), &json!(2))
                );
                assert_eq!(success["billing"]["billable_logical_bytes_written"], 17);
            }
            Some(status) => {
                let error = &ended["result"]["error"];
                let expected = (&json!(status), &json!("error"));
                assert_eq!((&error["status_code"], &error["detail"]["status"]), expected);
                assert!(error["detail"]["error"].is_string());
            }
        }
    }
}

#[tokio::test]
async fn requests_that_fit_no_route_are_refused() {
    let app = app().await;
    for (method, path, body, expected) in [
        ("GET", "/nonsense", "", 404),
        ("GET", "/v2/nonsense", "", 404),
        ("POST", "/v2/namespaces/n/query/x", "{}", 404),
        ("GET", "/v2/namespaces/n", "", 405),
        ("PUT", "/v1/namespaces/n/schema", "{}", 405),
        ("PUT", "/v1/namespaces/n", "{}", 405),
        ("POST", "/v1/vectors/n", "{}", 405),
        ("GET", "/v1/vectors/n", "", 404),
        ("POST", "/openapi.json", "", 405),
        ("POST", "/livez", "", 405),
        ("POST", "/v2/namespaces/a%20b%2Fc", "{}", 400),
        ("POST", "/v2/namespaces/%ff", "{}", 400),
        ("POST", "/v2/namespaces/n/query", "{", 400),
        (
            "POST",
            "/v2/namespaces/n/query",
            r#"{"rank_by":["id","asc"],"top_k":1}"#,
            404,
        ),
        ("POST", "/v2/namespaces/n", r#"{"upsert_rows":{}}"#, 422),
        ("GET", "/v1/namespaces?page_size=0", "", 400),
        ("GET", "/v1/namespaces?page_size=1001", "", 400),
        ("GET", "/v1/namespaces?page_size=x", "", 400),
    ] {
        let (status, json) = send(&app, request(method, path, body)).await;
        assert_eq!(status, expected, "{method} {path}: {json}");
    }
    let long = format!("/v2/namespaces/{}", "a".repeat(129));
    assert_eq!(send(&app, request("POST", &long, "{}")).await.0, 400);
}

#[tokio::test]
async fn only_health_and_metrics_are_open_to_everyone() {
    let app = app().await;
    let bare = |method: &str, path: &str| {
        Request::builder()
            .method(method)
            .uri(path)
            .body(Body::empty())
            .expect("valid")
    };
    for (method, path) in [
        ("GET", "/v1/namespaces"),
        ("POST", "/v2/namespaces/n"),
        ("POST", "/v2/namespaces/n/query"),
        ("DELETE", "/v2/namespaces/n"),
        ("PATCH", "/v1/namespaces/n/metadata"),
        ("POST", "/v2/namespaces/n/async"),
        ("GET", "/v1/namespaces/n/operations/x"),
        ("GET", "/v1/namespaces/%ff/schema"),
        ("GET", "/v1/namespaces/n"),
        ("GET", "/v1/vectors/n"),
        ("POST", "/v1/namespaces/n/_debug/recall"),
        ("GET", "/v1/namespaces/n/_debug/purge_cache"),
    ] {
        assert_eq!(
            send(&app, bare(method, path)).await.0,
            StatusCode::UNAUTHORIZED,
            "{method} {path}"
        );
    }
    let head = app.clone().oneshot(bare("HEAD", "/v1/namespaces/n")).await;
    assert_eq!(head.expect("infallible").status(), StatusCode::UNAUTHORIZED);
    for path in ["/livez", "/readyz", "/startupz", "/openapi.json"] {
        assert_eq!(send(&app, bare("GET", path)).await.0, StatusCode::OK);
    }
    let response = app.clone().oneshot(bare("GET", "/metrics")).await.expect("infallible");
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn answers_are_compressed_only_when_large_and_asked_for() {
    let app = app().await;
    let rows: Vec<_> = (0..50).map(|i| json!({"id": i, "text": "x".repeat(100)})).collect();
    send(
        &app,
        request("POST", "/v2/namespaces/n", json!({ "upsert_rows": rows }).to_string()),
    )
    .await;
    for (accept, limit, compressed) in [
        (Some("gzip"), 50, true),
        (Some("br, gzip;q=0.5"), 50, true),
        (Some("gzip"), 1, false),
        (Some("gzip;q=0"), 50, false),
        (Some("identity"), 50, false),
        (Some("br"), 50, false),
        (Some("*"), 50, false),
        (None, 50, false),
    ] {
        let body = json!({"rank_by": ["id", "asc"], "limit": limit, "include_attributes": true}).to_string();
        let mut request = request("POST", "/v2/namespaces/n/query", body);
        if let Some(accept) = accept {
            request
                .headers_mut()
                .insert(header::ACCEPT_ENCODING, accept.parse().expect("a value"));
        }
        let response = app.clone().oneshot(request).await.expect("infallible");
        assert_eq!(
            response.headers().contains_key(header::CONTENT_ENCODING),
            compressed,
            "{accept:?} {limit}"
        );
        let bytes = response.into_body().collect().await.expect("whole").to_bytes();
        let mut text = Vec::new();
        match compressed {
            true => drop(
                flate2::read::GzDecoder::new(&bytes[..])
                    .read_to_end(&mut text)
                    .expect("gzip"),
            ),
            false => text.extend_from_slice(&bytes),
        }
        let json: Json = serde_json::from_slice(&text).expect("JSON");
        assert_eq!(json["rows"].as_array().map(Vec::len), Some(limit));
    }
}

#[test]
fn every_kind_has_its_status_and_waits_are_rounded_up() {
    for (kind, status) in [
        (ErrorKind::Invalid, 400),
        (ErrorKind::Shape, 422),
        (ErrorKind::TooLarge, 413),
        (ErrorKind::Unauthenticated, 401),
        (ErrorKind::NotFound, 404),
        (ErrorKind::ClientTimeout, 408),
        (ErrorKind::TooSlow, 408),
        (ErrorKind::Overloaded, 429),
        (ErrorKind::Unavailable, 503),
        (ErrorKind::Unknown, 503),
        (ErrorKind::Internal, 500),
    ] {
        assert_eq!(error::status(kind), status);
    }
    let slow = ApiError::from(Error::new(ErrorKind::TooSlow, "x")).into_response();
    assert_eq!(slow.headers()["x-should-retry"], "false", "or clients would repeat it");
    let error = Error::new(ErrorKind::Overloaded, "x").after(std::time::Duration::from_millis(1200));
    assert_eq!(
        ApiError::from(error).into_response().headers()[header::RETRY_AFTER],
        "2"
    );
}

#[tokio::test]
async fn a_panic_is_an_internal_error() {
    assert_eq!(
        panicked(Box::new("secret detail")).status(),
        StatusCode::INTERNAL_SERVER_ERROR
    );
}

#[tokio::test]
async fn a_distance_beyond_f32_is_a_number_and_an_aggregation_has_a_plan() {
    let app = app().await;
    let write = json!({"upsert_rows": [{"id": 1, "vector": [3e38, 0]}], "distance_metric": "euclidean_squared"});
    let (status, json) = send(&app, request("POST", "/v2/namespaces/n", write.to_string())).await;
    assert_eq!(status, StatusCode::OK, "{json}");
    let query = json!({
        "rank_by": ["vector", "ANN", [-3e38, 0]], "limit": 1,
        "compute_attributes": {"d": ["vector", "VectorDist", [-3e38, 0]]},
    });
    let (_, json) = send(&app, request("POST", "/v2/namespaces/n/query", query.to_string())).await;
    for name in ["$dist", "d"] {
        assert_eq!(
            json["rows"][0][name].as_f64().map(|d| d as f32),
            Some(f32::MAX),
            "{json}"
        );
    }
    let query = json!({"aggregate_by": {"n": ["Count"]}, "group_by": ["id"]});
    let (status, json) = send(
        &app,
        request("POST", "/v2/namespaces/n/explain_query", query.to_string()),
    )
    .await;
    let text = json["plan_text"].as_str().unwrap_or_default();
    assert!(
        status == StatusCode::OK && text.contains("1 aggregates over groups by 1 keys"),
        "{json}"
    );
}

/// Each of these would keep a thread for minutes. The threads are those of all namespaces.
#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "the bound is on real time")]
async fn what_takes_too_long_is_given_up_and_its_threads_are_free() {
    let mut options = EngineOptions::default();
    options.limits.query_time_max = std::time::Duration::from_millis(200);
    let app = app_on(CpuPool::new(1), options).await;
    let text: String = (0..1u64 << 19)
        .map(|i| ["a ", "b "][(i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize % 2])
        .collect();
    let write = json!({
        "schema": {"t": {"type": "string", "filterable": false, "regex": true, "fuzzy": true, "full_text_search": true},
                   "u": {"type": "string", "filterable": false, "regex": true}},
        "upsert_rows": [{"id": 1, "t": text, "u": format!("{}é", text.replace(' ', ""))}],
    });
    let (status, json) = send(&app, request("POST", "/v2/namespaces/n", write.to_string())).await;
    assert_eq!(status, StatusCode::OK, "{json}");
    let fuzzy = json!(["t", "Fuzzy", "c".repeat(1024), {"max_edit_distance": [{"min_query_chars": 3, "distance": 0}]}]);
    let highlight = |i: usize| {
        let clauses = vec![json!(["$fragment", "BM25", "a b"]); 500];
        let options = json!({"fragment_by": "word", "rank_fragments_by": ["Sum", clauses]});
        (i.to_string(), json!(["Highlight", "t", options]))
    };
    let bombs = [
        json!({"filters": ["u", "Regex", "[ab]*a[ab]{12000}c"], "limit": 1}),
        json!({"filters": ["u", "Regex", r"\b[ab]*a[ab]{12000}c"], "limit": 1}),
        json!({"filters": ["Or", vec![fuzzy; 1000]], "limit": 1}),
        json!({"rank_by": ["id", "asc"], "limit": 1, "compute_attributes": Json::Object((0..4).map(highlight).collect())}),
    ];
    for bomb in bombs {
        let start = std::time::Instant::now();
        let (status, json) = send(&app, request("POST", "/v2/namespaces/n/query", bomb.to_string())).await;
        assert_eq!(status, StatusCode::REQUEST_TIMEOUT, "{json}");
        let cheap = json!({"filters": ["id", "Eq", 1], "limit": 1});
        let (status, _) = send(&app, request("POST", "/v2/namespaces/n/query", cheap.to_string())).await;
        let took = start.elapsed();
        assert!(took.as_secs() < 20, "{took:?}: {status} after {json}");
    }
    let pattern = json!(["u", "Regex", "[ab]*a[ab]{12000}c"]);
    let writes = [
        json!({"delete_by_filter": pattern}),
        json!({"patch_by_filter": {"filters": pattern, "patch": {"n": 1}}}),
        json!({"patch_by_filter": {"filters": pattern, "patch": {"n": 1}}, "schema": {"n": "int"}}),
        json!({"patch_rows": [{"id": 1, "n": 1}], "patch_condition": pattern}),
        json!({"upsert_rows": [{"id": 1}], "upsert_condition": ["Not", pattern]}),
        json!({"deletes": [1], "delete_condition": ["Or", [pattern]]}),
    ];
    for bomb in writes {
        let start = std::time::Instant::now();
        let (status, json) = send(&app, request("POST", "/v2/namespaces/n", bomb.to_string())).await;
        assert_eq!(status, StatusCode::REQUEST_TIMEOUT, "{bomb}: {json}");
        let other = json!({"upsert_rows": [{"id": 2}]});
        let (status, json) = send(&app, request("POST", "/v2/namespaces/n", other.to_string())).await;
        assert_eq!(status, StatusCode::OK, "{json}");
        let took = start.elapsed();
        assert!(took.as_secs() < 20, "{took:?} for {bomb}");
    }
}
