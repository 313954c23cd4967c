//! What browsers are told.

use axum::response::Response;

use super::*;
use crate::config::CorsOrigins;

const PAGE: &str = "https://shop.example";
/// The routes that may ever be searches: keys in browsers can do no more than these.
const SEARCHES: [(&str, &str); 4] = [
    ("GET", "/collections/{collection}/documents/search"),
    ("POST", "/multi_search"),
    ("POST", "/v2/namespaces/{namespace}/query"),
    ("POST", "/v1/namespaces/{namespace}/query"),
];

fn is_search(r: &Route) -> bool {
    SEARCHES.contains(&(r.method.as_str(), r.path))
}

/// A method and a path for every route of which `which` is true.
fn asks(which: impl Fn(&Route) -> bool) -> Vec<(String, String)> {
    let routes = routes().into_iter().filter(which);
    let filled = |path: &str| {
        path.split('/')
            .map(|s| if s.starts_with('{') { "n" } else { s })
            .collect::<Vec<_>>()
            .join("/")
    };
    routes.map(|r| (r.method.to_string(), filled(r.path))).collect()
}

#[test]
fn searches_are_marked_and_nothing_else() {
    for r in routes() {
        assert_eq!(r.needs.is_search, is_search(&r), "{} {}", r.method, r.path);
    }
    assert!(asks(is_search).len() >= 2);
}

/// As a browser asks before it sends a key.
async fn preflight(app: &Router, method: &str, path: &str, origin: &str) -> Response {
    let request = Request::options(path)
        .header("origin", origin)
        .header("access-control-request-method", method)
        .header(
            "access-control-request-headers",
            "authorization,content-type,x-typesense-api-key",
        );
    let request = request.body(Body::empty()).expect("a valid request");
    app.clone().oneshot(request).await.expect("infallible")
}

async fn from_page(app: &Router, method: &str, path: &str, origin: &str) -> Response {
    let mut request = request(method, path, "{}");
    let origin = origin.parse().expect("a header value");
    request.headers_mut().insert("origin", origin);
    app.clone().oneshot(request).await.expect("infallible")
}

fn header_of<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    let value = response.headers().get(name)?;
    Some(value.to_str().expect("text"))
}

fn has_cors(response: &Response) -> bool {
    let mut names = response.headers().keys();
    names.any(|name| name.as_str().starts_with("access-control-"))
}

#[tokio::test]
async fn searches_are_open_to_every_page_by_default() {
    let app = app().await;
    for (method, path) in &asks(is_search) {
        let answer = preflight(&app, method, path, PAGE).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        for (name, expected) in [
            ("access-control-allow-origin", "*"),
            ("access-control-allow-methods", method),
            (
                "access-control-allow-headers",
                "authorization,content-type,x-typesense-api-key",
            ),
            ("access-control-max-age", "600"),
        ] {
            assert_eq!(header_of(&answer, name), Some(expected), "{path} {name}");
        }
        assert_eq!(header_of(&answer, "access-control-allow-credentials"), None);
        assert!(answer.headers().contains_key("x-request-id"));
        let answer = from_page(&app, method, path, PAGE).await;
        assert_eq!(header_of(&answer, "access-control-allow-origin"), Some("*"), "{path}");
        let exposed = header_of(&answer, "access-control-expose-headers").map(str::to_ascii_lowercase);
        assert_eq!(exposed.as_deref(), Some("x-request-id,retry-after"));
        assert_eq!(header_of(&answer, "access-control-allow-credentials"), None);
    }
}

#[tokio::test]
async fn a_page_can_read_why_it_was_refused() {
    let app = app().await;
    let request = Request::post("/v2/namespaces/n/query").header("origin", PAGE);
    let request = request.body(Body::empty()).expect("a valid request");
    let answer = app.clone().oneshot(request).await.expect("infallible");
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(header_of(&answer, "access-control-allow-origin"), Some("*"));
}

#[tokio::test]
async fn other_routes_are_closed() {
    let app = app().await;
    for (method, path) in asks(|r| !is_search(r) && r.path != "/metrics") {
        let answer = from_page(&app, &method, &path, PAGE).await;
        assert!(!has_cors(&answer), "{method} {path}");
        let answer = preflight(&app, &method, &path, PAGE).await;
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
        assert!(!has_cors(&answer), "{method} {path}");
    }
    for (method, path) in [
        ("GET", "/nowhere"),
        ("GET", "/v2/namespaces/n/query"),
        ("DELETE", "/v2/namespaces/n/query"),
    ] {
        assert!(!has_cors(&preflight(&app, method, path, PAGE).await), "{method} {path}");
        assert!(!has_cors(&from_page(&app, method, path, PAGE).await), "{method} {path}");
    }
}

#[tokio::test]
async fn origins_can_be_listed() {
    let only = |list: &[&str]| CorsOrigins::Only(list.iter().map(|o| (*o).to_owned()).collect());
    for (origins, origin, allowed) in [
        (only(&[PAGE]), PAGE, true),
        (only(&["https://other.example", PAGE]), PAGE, true),
        (only(&[PAGE]), "https://other.example", false),
        (only(&[PAGE]), "http://shop.example", false),
        (only(&[PAGE]), "https://shop.example.evil.example", false),
        (only(&[PAGE]), "null", false),
        (only(&[]), PAGE, false),
    ] {
        let app = router_for(api().await, &origins);
        let expected = allowed.then_some(origin);
        for (method, path) in &asks(is_search) {
            let answer = preflight(&app, method, path, origin).await;
            assert_eq!(
                header_of(&answer, "access-control-allow-origin"),
                expected,
                "{path} {origin}"
            );
            let answer = from_page(&app, method, path, origin).await;
            assert_eq!(
                header_of(&answer, "access-control-allow-origin"),
                expected,
                "{path} {origin}"
            );
            let vary = header_of(&answer, "vary")
                .expect("caches are told")
                .to_ascii_lowercase();
            assert!(vary.contains("origin"), "{vary}");
        }
    }
}

#[tokio::test]
async fn options_that_ask_nothing_are_no_preflight() {
    let app = app().await;
    let answer = from_page(&app, "OPTIONS", "/v2/namespaces/n/query", PAGE).await;
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert!(!has_cors(&answer));
}
