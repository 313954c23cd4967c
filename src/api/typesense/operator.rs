//! What operators of Typesense ask a server.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::handlers;
use crate::api::openapi::operations_keys as described;
use crate::api::{Api, Route, needs, route};
use crate::control::Action;

/// The version of Typesense's API that is spoken.
const VERSION: &str = "30.1";
/// Of a server that takes writes.
const LEADER: u8 = 1;

/// The routes of this module.
pub fn routes() -> Vec<Route> {
    vec![
        route(Method::GET, "/health", needs::OPEN, health, described::health),
        route(
            Method::GET,
            "/debug",
            needs::keys(&[Action::DebugList]),
            debug,
            described::debug,
        ),
        route(
            Method::GET,
            "/metrics.json",
            needs::keys(&[Action::MetricsList]),
            metrics,
            described::metrics,
        ),
        route(
            Method::GET,
            "/stats.json",
            needs::keys(&[Action::StatsList]),
            stats,
            described::stats,
        ),
    ]
}

/// Whether the server answers.
#[derive(Serialize, JsonSchema)]
pub struct Health {
    ok: bool,
}

/// What the server is.
#[derive(Serialize, JsonSchema)]
pub struct Debug {
    /// 1: it takes writes, as every node does.
    state: u8,
    /// The version of Typesense's API that is spoken.
    version: &'static str,
}

/// Figures of the machine, the process and its network, all as texts; what the platform does not say is left out.
#[derive(Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Metrics(BTreeMap<String, String>);

/// What this node did in the last ten seconds. Latencies are means.
#[derive(Serialize, JsonSchema)]
pub struct Stats {
    delete_latency_ms: f64,
    delete_requests_per_second: f64,
    import_latency_ms: f64,
    import_requests_per_second: f64,
    /// By method and path with its parameters in braces: those that were asked.
    latency_ms: BTreeMap<&'static str, f64>,
    /// Answered with 429 or 503.
    overloaded_requests_per_second: f64,
    /// Writes that are under way.
    pending_write_batches: u64,
    /// By method and path with its parameters in braces: those that were asked.
    requests_per_second: BTreeMap<&'static str, f64>,
    search_latency_ms: f64,
    search_requests_per_second: f64,
    total_requests_per_second: f64,
    write_latency_ms: f64,
    write_requests_per_second: f64,
}

fn print(body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("texts and numbers are JSON");
    handlers::json(StatusCode::OK, body)
}

/// `GET /health`: the store was probed before the server started to listen.
pub async fn health() -> Response {
    print(&Health { ok: true })
}

/// `GET /debug`
pub async fn debug() -> Response {
    print(&Debug {
        state: LEADER,
        version: VERSION,
    })
}

/// `GET /metrics.json`
pub async fn metrics(State(api): State<Api>) -> Response {
    print(&Metrics(api.inner.machine.figures().await))
}

/// `GET /stats.json`
pub async fn stats(State(api): State<Api>) -> Response {
    let load = &api.inner.load;
    let rates = load.rates(api.inner.runtime.clock.boot());
    let of = |(per_second, latency_ms): (f64, f64)| (rounded(per_second), rounded(latency_ms));
    let (search_requests_per_second, search_latency_ms) = of(rates.search);
    let (write_requests_per_second, write_latency_ms) = of(rates.write);
    let (import_requests_per_second, import_latency_ms) = of(rates.import);
    let (delete_requests_per_second, delete_latency_ms) = of(rates.delete);
    let routes = || rates.routes.iter();
    print(&Stats {
        delete_latency_ms,
        delete_requests_per_second,
        import_latency_ms,
        import_requests_per_second,
        latency_ms: routes().map(|(name, _, ms)| (*name, rounded(*ms))).collect(),
        overloaded_requests_per_second: rounded(rates.overloaded),
        pending_write_batches: load.pending_writes(),
        requests_per_second: routes().map(|(name, rate, _)| (*name, rounded(*rate))).collect(),
        search_latency_ms,
        search_requests_per_second,
        total_requests_per_second: rounded(rates.total),
        write_latency_ms,
        write_requests_per_second,
    })
}

/// To a thousandth.
fn rounded(figure: f64) -> f64 {
    (figure * 1e3).round() / 1e3
}
