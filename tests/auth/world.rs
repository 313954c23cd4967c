//! Nodes of one deployment over one store that can fail, in this process and on a paused clock.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use serde_json::{Value as Json, json};
use shoal::api::{Api, router};
use shoal::auth::Authenticator;
use shoal::base::{CpuPool, Ledger, Rng, Runtime, TokioClock, TokioSpawner};
use shoal::config::StoreConfig;
use shoal::control::{Control, ControlOptions, Freshness, Secret, Secrets};
use shoal::namespace::{Engine, EngineOptions};
use shoal::store::Store;
use shoal::store::count::{CountingStore, Counts};
use tower::ServiceExt;

use crate::support::fault::{FaultRates, FaultStore};

pub const BOOTSTRAP: &str = "bootstrap-0123456789abcdef";
/// Seconds since the epoch at which every world begins.
pub const START: u64 = 1_700_000_000;

/// A bucket that fails on request.
#[derive(Clone)]
pub struct Bucket {
    pub faults: FaultStore,
}

impl Bucket {
    pub fn new() -> Self {
        let faults = FaultStore::new(Arc::new(InMemory::new()), Rng::seeded(1), FaultRates::healthy());
        Self { faults }
    }

    /// From now on nothing is answered.
    pub fn break_down(&self) {
        self.faults.set_rates(FaultRates {
            before_apply: 1000,
            ..FaultRates::healthy()
        });
    }
}

/// One node.
pub struct Node {
    pub control: Control,
    pub counts: CountingStore,
    app: Router,
}

impl Node {
    pub fn new(bucket: &Bucket, seed: u64) -> Self {
        Self::with(bucket, seed, Freshness::default())
    }

    pub fn with(bucket: &Bucket, seed: u64, freshness: Freshness) -> Self {
        let runtime = Runtime {
            clock: Arc::new(TokioClock::new(Duration::from_secs(START))),
            rng: Rng::seeded(seed),
            spawner: Arc::new(TokioSpawner::default()),
            cpu: CpuPool::inline(),
            memory: Ledger::new(1 << 30, 1 << 30),
        };
        let counts = CountingStore::new(Arc::new(bucket.faults.clone()));
        let config = StoreConfig {
            retry_deadline: Duration::from_secs(2),
            ..StoreConfig::default()
        };
        let backend: Arc<dyn ObjectStore> = Arc::new(counts.clone());
        let store = Store::new(backend, runtime.clock.clone(), runtime.rng.clone(), &config);
        let options = ControlOptions {
            secrets: Secrets::new(vec![Secret::new(&[7; 32])]),
            freshness,
            deployment: "tests".into(),
        };
        let control = Control::new(runtime.clone(), store.clone(), options);
        let auth = Authenticator::new(&[BOOTSTRAP.to_owned()], false, control.clone()).expect("valid");
        let auth = auth.with_custom_values(true);
        let engine = Engine::new(runtime.clone(), store, EngineOptions::default());
        let app = router(Api::new(engine, runtime, auth, control.clone(), None));
        Self { control, counts, app }
    }

    /// Sends a request with a key.
    pub async fn send(&self, key: &str, method: &str, path: &str, body: &Json) -> (StatusCode, Json) {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("x-typesense-api-key", key)
            .body(Body::from(body))
            .expect("a valid request");
        let response = self.app.clone().oneshot(request).await.expect("infallible");
        let status = response.status();
        let body = response.into_body().collect().await.expect("a whole body").to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or(Json::Null))
    }

    /// Makes a key as the operator; its id and value.
    pub async fn mint(&self, key: &Json) -> (u64, String) {
        let (status, made) = self.send(BOOTSTRAP, "POST", "/keys", key).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        let value = made["value"].as_str().expect("its value").to_owned();
        (made["id"].as_u64().expect("an id"), value)
    }

    /// Makes a key with these actions for all namespaces.
    pub async fn key(&self, actions: &[&str]) -> (u64, String) {
        self.mint(&json!({"description": "d", "actions": actions, "collections": ["*"]}))
            .await
    }

    /// Writes rows as the operator.
    pub async fn write(&self, namespace: &str, rows: Json) {
        let path = format!("/v2/namespaces/{namespace}");
        let (status, json) = self
            .send(BOOTSTRAP, "POST", &path, &json!({ "upsert_rows": rows }))
            .await;
        assert_eq!(status, StatusCode::OK, "{json}");
    }

    /// The status of the cheapest request that a key has to be known for.
    pub async fn knows(&self, key: &str) -> StatusCode {
        self.send(key, "GET", "/v1/auth/whoami", &Json::Null).await.0
    }

    /// Requests at the store since `before`, of all kinds.
    pub fn requests_since(&self, before: Counts) -> u64 {
        let now = self.counts.counts();
        let all = |c: Counts| c.puts + c.creates + c.gets + c.lists + c.deletes;
        all(now) - all(before)
    }
}

/// A scoped key as the official Python client makes it.
pub fn scoped(parent: &str, parameters: &str) -> String {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, parent.as_bytes());
    let digest = aws_lc_rs::hmac::sign(&key, parameters.as_bytes());
    let base64 = base64_simd::STANDARD;
    let digest = base64.encode_to_string(digest.as_ref());
    base64.encode_to_string(format!("{digest}{}{parameters}", &parent[..4]))
}
