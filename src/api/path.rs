//! The leading path segment: some clients insist on a region in the base URL, which then arrives
//! as `/gcp-us-central1/v2/namespaces/…`.

use axum::http::Uri;
use axum::http::uri::PathAndQuery;

/// First segments of our own routes.
const OURS: &[&str] = &["v1", "v2", "v3", "livez", "readyz", "startupz", "metrics"];

/// The URI without its leading segment, when the second segment is an API version and the first
/// is no route of ours; `None` when it stays as it is.
pub fn without_region(uri: &Uri) -> Option<Uri> {
    let rest = uri.path().strip_prefix('/')?;
    let (first, rest_of_path) = rest.split_once('/')?;
    let second = rest_of_path.split('/').next()?;
    if first.is_empty() || OURS.contains(&first) || !matches!(second, "v1" | "v2" | "v3") {
        return None;
    }
    let path = match uri.query() {
        Some(query) => format!("/{rest_of_path}?{query}"),
        None => format!("/{rest_of_path}"),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_region_is_skipped_and_nothing_else() {
        for (from, to) in [
            ("/gcp-us-central1/v2/namespaces/a", "/v2/namespaces/a"),
            (
                "/REGION/v1/namespaces?prefix=x&cursor=y",
                "/v1/namespaces?prefix=x&cursor=y",
            ),
            ("/r/v3/x", "/v3/x"),
            ("/r/v2/namespaces/a%20b%2Fc", "/v2/namespaces/a%20b%2Fc"),
            ("/v2/v2/namespaces", "/v2/v2/namespaces"),
            ("/v1/v2", "/v1/v2"),
            ("/metrics/v1/x", "/metrics/v1/x"),
            ("/a/b/v2/namespaces", "/a/b/v2/namespaces"),
            ("//v2/namespaces", "//v2/namespaces"),
            ("/v2/namespaces/a", "/v2/namespaces/a"),
            ("/livez", "/livez"),
            ("/", "/"),
            ("/r/v4/x", "/r/v4/x"),
        ] {
            let uri: Uri = from.parse().expect("a test's URI");
            let got = without_region(&uri).unwrap_or(uri);
            assert_eq!(got.to_string(), to, "{from}");
        }
    }
}
