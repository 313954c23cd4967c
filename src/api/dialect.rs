//! Which of the three APIs a path belongs to, and how its errors look.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;

/// An API that clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Turbopuffer,
    Typesense,
    Turso,
}

/// First segments of Typesense's paths.
const TYPESENSE: &[&str] = &[
    "keys",
    "collections",
    "multi_search",
    "synonym_sets",
    "presets",
    "stopwords",
    "health",
    "debug",
    "stats.json",
    "metrics.json",
];

impl Dialect {
    /// The dialect of a path; turbopuffer's for what is nobody's.
    pub fn of(path: &str) -> Self {
        let mut segments = path.split('/').skip(1);
        match (segments.next(), segments.next()) {
            (Some(first), _) if TYPESENSE.contains(&first) => Self::Typesense,
            (Some("v1" | "v2"), Some("namespaces" | "vectors")) => Self::Turbopuffer,
            (Some("v1" | "v2" | "v3"), _) => Self::Turso,
            _ => Self::Turbopuffer,
        }
    }
}

/// What an error says, beside the answer that carries it.
#[derive(Clone, Debug)]
pub struct Said {
    pub message: String,
    pub code: Option<&'static str>,
}

/// What Typesense's clients read of every refusal.
const FORBIDDEN: &str = "Forbidden - a valid `x-typesense-api-key` header must be sent.";

/// And of every limit.
const LIMITED: &str = "Rate limit exceeded or blocked";

/// What turbopuffer's clients read; in this order, because programs match the text of the body.
#[derive(Serialize)]
struct TurbopufferBody<'a> {
    status: &'static str,
    error: &'a str,
}

#[derive(Serialize)]
struct TypesenseBody<'a> {
    message: &'a str,
}

#[derive(Serialize)]
struct TursoBody<'a> {
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
}

/// Prints an error in the words of its path's dialect.
pub fn translate(dialect: Dialect, mut response: Response) -> Response {
    let Some(said) = response.extensions_mut().remove::<Said>() else {
        return response;
    };
    let message = said.message.as_str();
    let body = match dialect {
        Dialect::Turbopuffer => serde_json::to_string(&TurbopufferBody {
            status: "error",
            error: message,
        }),
        Dialect::Typesense => {
            let refused = matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
            if refused {
                *response.status_mut() = StatusCode::UNAUTHORIZED;
            }
            let message = match response.status() {
                _ if refused => FORBIDDEN,
                StatusCode::TOO_MANY_REQUESTS => LIMITED,
                _ => message,
            };
            serde_json::to_string(&TypesenseBody { message })
        }
        Dialect::Turso => serde_json::to_string(&TursoBody {
            error: message,
            code: said.code,
        }),
    };
    let body = body.expect("texts are JSON");
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.remove(header::CONTENT_LENGTH);
    response.map(|_| axum::body::Body::from(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_a_dialect() {
        for (path, dialect) in [
            ("/v1/namespaces", Dialect::Turbopuffer),
            ("/v2/namespaces/a/query", Dialect::Turbopuffer),
            ("/v1/vectors/a", Dialect::Turbopuffer),
            ("/v1/organizations", Dialect::Turso),
            ("/v1/auth/validate", Dialect::Turso),
            ("/v2/organizations/a/invites", Dialect::Turso),
            ("/v3/organizations/a/databases", Dialect::Turso),
            ("/v1/databases", Dialect::Turso),
            ("/v1", Dialect::Turso),
            ("/keys/3", Dialect::Typesense),
            ("/collections/a/documents/search", Dialect::Typesense),
            ("/multi_search", Dialect::Typesense),
            ("/", Dialect::Turbopuffer),
            ("/readyz", Dialect::Turbopuffer),
        ] {
            assert_eq!(Dialect::of(path), dialect, "{path}");
        }
    }
}
