//! Around every request: its id, the dialect of its errors, one log line, its metrics.
//!
//! Clients put secrets into headers, into bodies and, in browsers, into query strings. So the log line
//! has the path only, nothing ever prints a header's value, and who prints a query uses [`redacted`].

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use axum::middleware::Next;
use axum::response::Response;

use super::Api;
use super::client_ip::ClientIp;
use super::dialect::{self, Dialect};
use super::load;
use crate::base::clock::wall_ms;
use crate::base::context;
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
    let line = load::line_of(request.method(), &route);
    // Extension methods are the client's to choose: they may not become labels.
    let method = match request.method().as_str() {
        known @ ("GET" | "POST" | "PUT" | "PATCH" | "DELETE" | "HEAD" | "OPTIONS") => known.to_owned(),
        _ => "other".to_owned(),
    };
    let path: String = request.uri().path().chars().take(512).collect();
    let client = request
        .extensions()
        .get::<ClientIp>()
        .map(|client| client.0.to_string());
    tracing::debug!(target: "shoal::access", request_id = id, method, uri = redacted(request.uri()), "request began");
    let start = runtime.clock.boot();
    let dialect = Dialect::of(request.uri().path());
    let writing = api.inner.load.begin(line);
    let answer = context::in_request(&id, next.run(request)).await;
    let mut response = dialect::translate(dialect, answer);
    drop(writing);
    let now = runtime.clock.boot();
    let took = now.saturating_sub(start);
    api.inner.load.answered(line, response.status(), took, now);
    let status = response.status().as_u16();
    tracing::info!(target: "shoal::access", request_id = id, client, method, path, status, ms = took.as_secs_f64() * 1e3, "request");
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

/// Parts of names whose values are secret, or may be: `x-typesense-api-key`, `access_token`.
const SECRET_NAMES: [&str; 5] = ["key", "token", "secret", "password", "auth"];
/// Names that were encoded more often are taken for secret.
const DECODED_MAX: usize = 4;

/// The path and the query of a URI for the log, at most 512 bytes of it; values of secret parameters are
/// replaced by `…`.
pub fn redacted(uri: &Uri) -> String {
    let mut text = uri.path().to_owned();
    let mut separator = '?';
    for pair in uri.query().into_iter().flat_map(|query| query.split('&')) {
        text.push(separator);
        separator = '&';
        match pair.split_once('=') {
            Some((name, _)) if is_secret(name) => {
                text.push_str(name);
                text.push_str("=…");
            }
            _ => text.push_str(pair),
        }
    }
    let end = (0..=512.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or(0));
    text
}

/// Whether a parameter of this name holds a secret, in any case and however it is percent-encoded.
fn is_secret(name: &str) -> bool {
    let mut name = name.to_owned();
    for _ in 0..DECODED_MAX {
        let whole = name.replace('=', "%3D").replace('&', "%26");
        let decoded = url::form_urlencoded::parse(whole.as_bytes())
            .next()
            .map_or(String::new(), |(name, _)| name.into_owned());
        if decoded == name {
            let name = name.to_ascii_lowercase();
            return SECRET_NAMES.iter().any(|secret| name.contains(secret));
        }
        name = decoded;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_queries_are_replaced() {
        for (uri, expected) in [
            ("/a", "/a"),
            ("/a?", "/a?"),
            ("/a?q=shoes&per_page=3", "/a?q=shoes&per_page=3"),
            ("/a?x-typesense-api-key=hush", "/a?x-typesense-api-key=…"),
            ("/a?q=b&X-TYPESENSE-API-KEY=hush&c", "/a?q=b&X-TYPESENSE-API-KEY=…&c"),
            ("/a?x-typesense-api-key=hush=hush", "/a?x-typesense-api-key=…"),
            (
                "/a?x-typesense-api-key=a&x-typesense-api-key=hush",
                "/a?x-typesense-api-key=…&x-typesense-api-key=…",
            ),
            ("/a?x%2Dtypesense%2dapi-k%65y=hush", "/a?x%2Dtypesense%2dapi-k%65y=…"),
            (
                "/a?%78-typesense-api-%256b%2565y=hush",
                "/a?%78-typesense-api-%256b%2565y=…",
            ),
            ("/a?a%2525252525252562=hush", "/a?a%2525252525252562=…"),
            ("/a?%ff%fekey=hush", "/a?%ff%fekey=…"),
            ("/a?a%26key=hush", "/a?a%26key=…"),
            ("/a?a%253Dkey=hush", "/a?a%253Dkey=…"),
            ("/a?access_token=hush", "/a?access_token=…"),
            ("/a?password=hush&jwt_auth=hush", "/a?password=…&jwt_auth=…"),
            ("http://h/a?api_key=hush", "/a?api_key=…"),
        ] {
            let got = redacted(&uri.parse().expect("a URI"));
            assert_eq!(got, expected, "{uri}");
        }
        let long = format!("/a?q={}", "ä".repeat(3).repeat(200));
        let long: Uri = long.parse().expect("a URI");
        assert!(redacted(&long).len() <= 512);
    }

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
