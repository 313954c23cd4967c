//! The HTTP interface: routes, extraction, answers.
//!
//! ```text
//! server → leading segment → observe (id, log, metrics) → router → caller → body → engine → answer
//! ```

mod body;
mod error;
mod handlers;
mod linger;
mod observe;
mod path;
pub mod query;
pub mod response;
mod server;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use metrics_exporter_prometheus::PrometheusHandle;
use tower_http::catch_panic::CatchPanicLayer;

use crate::auth::Authenticator;
use crate::base::Runtime;
use crate::error::{Error, ErrorKind};
use crate::namespace::Engine;
use error::ApiError;

pub use server::{ServerOptions, serve};

/// How long an answer of the store counts for `/readyz`, however often it is asked.
const STORE_SEEN_FOR: Duration = Duration::from_secs(2);
/// How long `/readyz` waits for the store.
const STORE_ANSWERS_IN: Duration = Duration::from_secs(2);

/// What the handlers need; clones share it.
#[derive(Clone)]
pub struct Api {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    runtime: Runtime,
    auth: Authenticator,
    metrics: Option<PrometheusHandle>,
    draining: AtomicBool,
    /// When the store was last asked whether it is there, and its answer. Held to look or note.
    store_seen: Mutex<Option<(Duration, bool)>>,
}

impl Api {
    /// * `metrics` — what `/metrics` prints; nothing without
    pub fn new(engine: Engine, runtime: Runtime, auth: Authenticator, metrics: Option<PrometheusHandle>) -> Self {
        Self {
            inner: Arc::new(Inner {
                engine,
                runtime,
                auth,
                metrics,
                draining: AtomicBool::new(false),
                store_seen: Mutex::new(None),
            }),
        }
    }

    /// From now on `/readyz` says no, so that load balancers look elsewhere.
    pub fn drain(&self) {
        self.inner.draining.store(true, Ordering::Relaxed);
    }

    /// Whether requests should come here: the node is not going away, and the store answers.
    ///
    /// Costs one GET, at most once per [`STORE_SEEN_FOR`].
    async fn ready(&self) -> bool {
        !self.inner.draining.load(Ordering::Relaxed) && self.reaches_store().await
    }

    async fn reaches_store(&self) -> bool {
        let now = self.inner.runtime.clock.boot();
        let seen = || self.inner.store_seen.lock().unwrap_or_else(|e| e.into_inner());
        if let Some((at, answered)) = *seen()
            && now.saturating_sub(at) < STORE_SEEN_FOR
        {
            return answered;
        }
        let answered = tokio::time::timeout(STORE_ANSWERS_IN, self.inner.engine.reaches_store()).await;
        let answered = answered.unwrap_or(false);
        *seen() = Some((now, answered));
        answered
    }
}

/// Every route there is.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/namespaces", get(handlers::list))
        .route("/v1/namespaces/{namespace}", delete(handlers::delete_v1))
        .route(
            "/v1/namespaces/{namespace}/schema",
            get(handlers::schema).post(handlers::update_schema),
        )
        .route("/v1/namespaces/{namespace}/metadata", get(handlers::metadata_v1))
        .route("/v1/namespaces/{namespace}/hint_cache_warm", get(handlers::warm))
        .route(
            "/v2/namespaces/{namespace}",
            post(handlers::write).delete(handlers::delete_v2),
        )
        .route("/v2/namespaces/{namespace}/query", post(handlers::query))
        .route("/v2/namespaces/{namespace}/metadata", get(handlers::metadata_v2))
        .route("/livez", get(handlers::live))
        .route("/startupz", get(handlers::live))
        .route("/readyz", get(handlers::ready))
        .route("/metrics", get(handlers::prometheus))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(api.clone(), observe::observe))
        .with_state(api)
}

async fn no_route() -> ApiError {
    Error::new(ErrorKind::NotFound, "there is no such path").into()
}

async fn no_method() -> ApiError {
    ApiError::with_status(
        StatusCode::METHOD_NOT_ALLOWED,
        "this path does not support the request's method",
    )
}

fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let what = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    let what = what.or_else(|| panic.downcast_ref::<String>().cloned());
    tracing::error!(panic = what.as_deref().unwrap_or("?"), "a handler panicked");
    ApiError::from(Error::new(ErrorKind::Internal, "internal error")).into_response()
}
