//! Which routes web pages of other origins may call: searches, and nothing else.
//!
//! Search keys are made to be handed to browsers, so a page may send one and read the answer. No cookies
//! are used, so an open origin gives a page nothing that it could not ask for by itself; credentials in
//! the browser's sense (`Access-Control-Allow-Credentials`) are never allowed.

use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use tower::{Layer, ServiceExt};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::door::needs_of;
use crate::config::CorsOrigins;

/// How long a browser may remember that it may ask.
const MAX_AGE: Duration = Duration::from_secs(600);

const TYPESENSE_KEY: HeaderName = HeaderName::from_static("x-typesense-api-key");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What searches answer to pages of these origins.
pub fn rules(origins: &CorsOrigins) -> CorsLayer {
    let origins = match origins {
        CorsOrigins::Any => AllowOrigin::any(),
        // An origin that is no header value was refused with the configuration.
        CorsOrigins::Only(list) => AllowOrigin::list(list.iter().filter_map(|o| HeaderValue::from_str(o).ok())),
    };
    CorsLayer::new()
        .allow_origin(origins)
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, TYPESENSE_KEY])
        .expose_headers([REQUEST_ID, header::RETRY_AFTER])
        .max_age(MAX_AGE)
}

/// Answers preflights of searches, before anything asks for a key, and marks the answers to searches,
/// errors too: a page should be able to read why it was refused.
///
/// Which routes are searches says the route table, see [`needs`](super::needs).
pub async fn share(
    State(rules): State<CorsLayer>,
    matched: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let asks_first = request.method() == Method::OPTIONS;
    let asked = match request.headers().get(header::ACCESS_CONTROL_REQUEST_METHOD) {
        Some(method) if asks_first => Method::from_bytes(method.as_bytes()).ok(),
        _ => Some(request.method().clone()),
    };
    let is_search = |method: &Method| {
        let needs = matched.and_then(|path| needs_of(method, path.as_str()));
        needs.is_some_and(|needs| needs.is_search)
    };
    let Some(method) = asked.filter(is_search) else {
        return next.run(request).await;
    };
    let shared = rules.allow_methods([method]).layer(next);
    shared.oneshot(request).await.unwrap_or_else(|never| match never {})
}
