//! The HTTP interface: routes, extraction, answers.
//!
//! ```text
//! server → leading segment, client's address → observe (id, dialect, log, metrics) → cors → router → door (who
//! calls, may they?) → body → engine → answer
//! ```

mod body;
mod client_ip;
mod cors;
mod dialect;
mod door;
mod error;
mod handlers;
mod handlers_settings;
mod inspect;
pub mod legacy;
mod linger;
mod load;
mod metering;
mod minting;
mod needs;
mod observe;
mod openapi;
mod path;
mod platform;
pub mod query;
mod quota;
pub mod response;
mod server;
#[cfg(test)]
mod tests;
mod tls;
mod typesense;
mod whoami;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::handler::Handler;
use axum::http::{Method, StatusCode};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use metrics_exporter_prometheus::PrometheusHandle;
use tower_http::catch_panic::CatchPanicLayer;

use crate::auth::Authenticator;
use crate::base::Runtime;
use crate::config::CorsOrigins;
use crate::control::{Action, Control};
use crate::error::{Error, ErrorKind};
use crate::namespace::Engine;
use error::ApiError;
use needs::{Needs, OPEN, SEARCH, data, data_of_org};
use openapi::operations as described;

pub use client_ip::ClientIp;
pub use server::{ServerOptions, serve};
pub use tls::Tls;

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
    control: Control,
    metrics: Option<PrometheusHandle>,
    draining: AtomicBool,
    /// What was answered lately, for `/stats.json`.
    load: load::Load,
    /// The processors when `/metrics.json` was last asked.
    machine: typesense::machine::Machine,
    /// When the store was last asked whether it is there, and its answer. Held to look or note.
    store_seen: Mutex<Option<(Duration, bool)>>,
}

impl Api {
    /// * `metrics` — what `/metrics` prints; nothing without
    pub fn new(
        engine: Engine,
        runtime: Runtime,
        auth: Authenticator,
        control: Control,
        metrics: Option<PrometheusHandle>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                engine,
                runtime,
                auth,
                control,
                metrics,
                draining: AtomicBool::new(false),
                load: load::Load::default(),
                machine: typesense::machine::Machine::default(),
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

/// One method of one path: what it needs, who answers it, and how `/openapi.json` describes it.
struct Route {
    method: Method,
    path: &'static str,
    needs: Needs,
    answer: MethodRouter<Api>,
    describe: described::Describe,
}

fn route<H, T>(method: Method, path: &'static str, needs: Needs, handler: H, describe: described::Describe) -> Route
where
    H: Handler<T, Api>,
    T: 'static,
{
    let filter = MethodFilter::try_from(method.clone()).expect("the table has standard methods only");
    Route {
        method,
        path,
        needs,
        answer: on(filter, handler),
        describe,
    }
}

/// Every route there is.
#[rustfmt::skip]
fn routes() -> Vec<Route> {
    use Action::{
        CollectionsDelete, CollectionsGet, CollectionsList, CollectionsUpdate, DocumentsCreate, DocumentsDelete,
        DocumentsExport, DocumentsImport, DocumentsSearch, DocumentsUpdate, DocumentsUpsert,
    };
    const GET: Method = Method::GET;
    const POST: Method = Method::POST;
    const PATCH: Method = Method::PATCH;
    const DELETE: Method = Method::DELETE;
    const HEAD: Method = Method::HEAD;
    // The handler asks for each of those that the body uses.
    const WRITES: &[Action] =
        &[DocumentsUpsert, DocumentsCreate, DocumentsUpdate, DocumentsDelete, DocumentsImport, CollectionsUpdate];
    let mut all = vec![
        route(GET, "/v1/namespaces", data_of_org(&[CollectionsList]), handlers::list, described::list),
        route(POST, "/v2/namespaces/{namespace}", data(WRITES), handlers::write, described::write),
        route(DELETE, "/v2/namespaces/{namespace}", data(&[CollectionsDelete]), handlers::delete_v2, described::delete),
        route(POST, "/v2/namespaces/{namespace}/query", SEARCH, handlers::query, described::query),
        route(POST, "/v2/namespaces/{namespace}/explain_query", data(&[DocumentsSearch]), inspect::explain, described::explain),
        route(GET, "/v2/namespaces/{namespace}/metadata", data(&[CollectionsGet]), handlers::metadata_v2, described::metadata_v2),
        route(GET, "/v1/namespaces/{namespace}/metadata", data(&[CollectionsGet]), handlers::metadata_v1, described::metadata_v1),
        route(PATCH, "/v1/namespaces/{namespace}/metadata", data(&[CollectionsUpdate]), handlers_settings::update_metadata, described::update_metadata),
        route(POST, "/v2/namespaces/{namespace}/async", data(&[DocumentsImport]), handlers_settings::start_copy, described::start_copy),
        route(GET, "/v1/namespaces/{namespace}/operations/{token}", data(&[DocumentsImport]), handlers_settings::poll_copy, described::poll_copy),
        route(GET, "/v1/namespaces/{namespace}/schema", data(&[CollectionsGet]), handlers::schema, described::schema),
        route(POST, "/v1/namespaces/{namespace}/schema", data(&[CollectionsUpdate]), handlers::update_schema, described::update_schema),
        route(GET, "/v1/namespaces/{namespace}/hint_cache_warm", data(&[CollectionsGet]), handlers::warm, described::warm),
        route(POST, "/v2/namespaces/{namespace}/read_only_optimize", data(&[CollectionsGet]), inspect::read_only_optimize, described::read_only_optimize),
        route(POST, "/v1/namespaces/{namespace}/_debug/recall", data(&[CollectionsGet]), inspect::recall, described::recall),
        route(GET, "/v1/namespaces/{namespace}/_debug/recall", data(&[CollectionsGet]), inspect::recall_by_query_string, described::recall_by_query_string),
        route(GET, "/v1/namespaces/{namespace}/_debug/warm_cache", data(&[CollectionsGet]), inspect::warm_cache, described::warm_cache),
        route(GET, "/v1/namespaces/{namespace}/_debug/purge_cache", data(&[CollectionsUpdate]), inspect::purge_cache, described::purge_cache),
        // The first version of the API.
        route(POST, "/v1/namespaces/{namespace}", data(WRITES), legacy::write, described::legacy_write),
        route(GET, "/v1/namespaces/{namespace}", data(&[DocumentsExport]), legacy::export, described::legacy_export),
        route(HEAD, "/v1/namespaces/{namespace}", data(&[CollectionsGet]), legacy::head, described::legacy_head),
        route(DELETE, "/v1/namespaces/{namespace}", data(&[CollectionsDelete]), handlers::delete_v1, described::legacy_delete),
        route(GET, "/v1/vectors/{namespace}", data(&[DocumentsExport]), legacy::export, described::legacy_vectors),
        route(POST, "/v1/namespaces/{namespace}/query", SEARCH, legacy::query, described::legacy_query),
        route(DELETE, "/v1/namespaces/{namespace}/index", data(&[CollectionsUpdate]), legacy::delete_index, described::legacy_delete_index),
        // For operators; no key is needed.
        route(GET, "/livez", OPEN, handlers::live, described::live),
        route(GET, "/startupz", OPEN, handlers::live, described::started),
        route(GET, "/readyz", OPEN, handlers::ready, described::ready),
        route(GET, "/metrics", OPEN, handlers::prometheus, described::prometheus),
        route(GET, "/openapi.json", OPEN, handlers::openapi, described::document),
    ];
    all.extend(platform::routes_databases::routes());
    all.extend(typesense::keys::routes());
    all.extend(typesense::operator::routes());
    all.extend(whoami::routes());
    all.extend(platform::usage::routes());
    all.extend(typesense::routes());
    all.extend(platform::routes::routes());
    all
}

/// The description of every route, as JSON. Made once, when it is first asked for.
fn document() -> &'static str {
    static DOCUMENT: OnceLock<String> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let all = routes().into_iter().map(|r| (r.method, r.path, r.describe));
        openapi::document(all).to_string()
    })
}

/// Serves every route of the table; web pages of every origin may search.
pub fn router(api: Api) -> Router {
    router_for(api, &CorsOrigins::Any)
}

/// Serves every route of the table; web pages of these origins may search.
pub fn router_for(api: Api, origins: &CorsOrigins) -> Router {
    let served = routes()
        .into_iter()
        .fold(Router::new(), |router, r| router.route(r.path, r.answer));
    served
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .route_layer(middleware::from_fn_with_state(api.clone(), door::door))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(cors::rules(origins), cors::share))
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
