//! The leading path segment: some clients insist on a region in the base URL, which then arrives
//! as `/gcp-us-central1/v2/namespaces/…`; and the slash that Typesense's clients put behind some paths.

use axum::http::Uri;
use axum::http::uri::PathAndQuery;

use super::dialect::Dialect;

/// First segments of our own routes.
const OURS: &[&str] = &[
    "v1",
    "v2",
    "v3",
    "livez",
    "readyz",
    "startupz",
    "metrics",
    "openapi.json",
    "keys",
    "collections",
    "multi_search",
    "synonym_sets",
    "presets",
    "stopwords",
    "health",
    ".well-known",
    "debug",
    "stats.json",
    "metrics.json",
    "auth",
    "login",
    "signup",
];

/// The URI without its leading segment, when the second segment is an API version and the first
/// is no route of ours; `None` when it stays as it is.
pub fn without_region(uri: &Uri) -> Option<Uri> {
    let rest = uri.path().strip_prefix('/')?;
    let (first, rest_of_path) = rest.split_once('/')?;
    let second = rest_of_path.split('/').next()?;
    if first.is_empty() || OURS.contains(&first) || !matches!(second, "v1" | "v2" | "v3") {
        return None;
    }
    with_path(uri, &format!("/{rest_of_path}"))
}

/// The URI without the slash at the end, as `/collections/books/documents/`, where the path is Typesense's; `None`
/// when it stays as it is.
pub fn without_slash(uri: &Uri) -> Option<Uri> {
    let path = uri.path().strip_suffix('/').filter(|path| !path.is_empty())?;
    (Dialect::of(path) == Dialect::Typesense).then(|| with_path(uri, path))?
}

fn with_path(uri: &Uri, path: &str) -> Option<Uri> {
    let path = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
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
            ("/keys/v1", "/keys/v1"),
            (
                "/collections/v1/documents/search?q=a",
                "/collections/v1/documents/search?q=a",
            ),
            ("/synonym_sets/v2/items", "/synonym_sets/v2/items"),
            ("/presets/v3", "/presets/v3"),
            ("/auth/v1/x", "/auth/v1/x"),
            ("/.well-known/v1", "/.well-known/v1"),
            ("/keys-of-r/v1/x", "/v1/x"),
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

    #[test]
    fn a_slash_at_the_end_of_typesenses_paths_is_skipped() {
        for (from, to) in [
            ("/collections/a/documents/", "/collections/a/documents"),
            (
                "/collections/a/documents/?filter_by=x/",
                "/collections/a/documents?filter_by=x/",
            ),
            ("/collections/a/synonyms//", "/collections/a/synonyms/"),
            ("/collections/", "/collections"),
            ("/collections/a", "/collections/a"),
            ("/v2/namespaces/a/", "/v2/namespaces/a/"),
            ("/", "/"),
        ] {
            let uri: Uri = from.parse().expect("a test's URI");
            let got = without_slash(&uri).unwrap_or(uri);
            assert_eq!(got.to_string(), to, "{from}");
        }
    }
}
