//! What operators of Typesense ask a server.

use axum::http::{Method, StatusCode};
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::handlers;
use crate::api::openapi::operations_keys as described;
use crate::api::{Route, needs, route};
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
