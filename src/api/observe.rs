//! Around every request: its id, one log line, its metrics.

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

use super::Api;
use crate::base::clock::wall_ms;
use crate::telemetry;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A longer id of a client is replaced by our own.
const ID_BYTES_MAX: usize = 128;

/// Answers with `X-Request-Id`, the client's own when it is sane.
pub async fn observe(State(api): State<Api>, request: Request, next: Next) -> Response {
    let runtime = &api.inner.runtime;
    let id = client_id(request.headers())
        .unwrap_or_else(|| format!("req_{}", runtime.rng.ulid(wall_ms(runtime.clock.as_ref()))));
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("none".to_owned(), |p| p.as_str().to_owned());
    // Extension methods are the client's to choose: they may not become labels.
    let method = match request.method().as_str() {
        known @ ("GET" | "POST" | "PUT" | "PATCH" | "DELETE" | "HEAD" | "OPTIONS") => known.to_owned(),
        _ => "other".to_owned(),
    };
    let path: String = request.uri().path().chars().take(512).collect();
    let start = runtime.clock.boot();
    let mut response = next.run(request).await;
    let took = runtime.clock.boot().saturating_sub(start);
    let status = response.status().as_u16();
    tracing::info!(target: "shoal::access", request_id = id, method, path, status, ms = took.as_secs_f64() * 1e3, "request");
    metrics::counter!(telemetry::HTTP_REQUESTS, "route" => route.clone(), "method" => method.clone(), "status" => status.to_string())
        .increment(1);
    metrics::histogram!(telemetry::HTTP_SECONDS, "route" => route, "method" => method).record(took.as_secs_f64());
    let id = HeaderValue::from_str(&id).expect("only graphic ASCII passes, and our own ids are such");
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

fn client_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(REQUEST_ID)?.to_str().ok()?;
    let sane = (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
    sane.then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_graphic_ids_of_clients_are_echoed() {
        let id = |text: &[u8]| {
            let value = HeaderValue::from_bytes(text).expect("a header value");
            client_id(&HeaderMap::from_iter([(REQUEST_ID, value)]))
        };
        assert_eq!(id(b"tpreq_1-A"), Some("tpreq_1-A".to_owned()));
        assert_eq!(id(b""), None);
        assert_eq!(id(b"a b"), None);
        assert_eq!(id(b"\xff"), None);
        assert_eq!(id(&[b'a'; 129]), None);
    }
}
