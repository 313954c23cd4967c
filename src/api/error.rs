//! Which HTTP status an error gets, and its body. The one place.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::dialect::Said;
use crate::error::{Error, ErrorKind};
use crate::model::Invalid;

/// The result of a handler.
pub type Answer = Result<Response, ApiError>;

/// An error about to be answered. Some statuses exist only in HTTP, hence the override.
#[derive(Debug)]
pub struct ApiError {
    error: Error,
    status: StatusCode,
}

impl ApiError {
    /// An error with a status that no [`ErrorKind`] has.
    pub fn with_status(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            error: Error::invalid(message),
            status,
        }
    }

    /// 400 with this sentence.
    pub fn invalid(message: impl Into<String>) -> Self {
        Error::invalid(message).into()
    }

    /// The status it will be answered with.
    #[cfg(test)]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The sentence the client reads.
    #[cfg(test)]
    pub fn message(&self) -> &str {
        &self.error.message
    }
}

/// The status of a kind of error.
pub fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::Shape => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::QuotaExceeded => StatusCode::PAYMENT_REQUIRED,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::ClientTimeout | ErrorKind::TooSlow => StatusCode::REQUEST_TIMEOUT,
        ErrorKind::Overloaded => StatusCode::TOO_MANY_REQUESTS,
        // After an unknown outcome clients send it again by themselves: upserts and deletes by id may
        // be repeated.
        ErrorKind::Unavailable | ErrorKind::Unknown => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let status = status(error.kind);
        Self { error, status }
    }
}

impl From<Invalid> for ApiError {
    fn from(invalid: Invalid) -> Self {
        Error::from(invalid).into()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            tracing::error!(
                status = self.status.as_u16(),
                cause = cause(&self.error),
                "{}",
                self.error.message
            );
        }
        let mut response = self.status.into_response();
        // The body is printed in the dialect of the request's path, which only the outermost layer knows.
        response.extensions_mut().insert(Said {
            message: self.error.message.clone(),
            code: self.error.code,
        });
        if self.error.kind == ErrorKind::TooSlow {
            // Official clients send a 408 again by themselves; this one would be as slow once more.
            let no = HeaderValue::from_static("false");
            response.headers_mut().insert("x-should-retry", no);
        }
        if let Some(wait) = self.error.retry_after {
            let seconds = wait.as_millis().div_ceil(1000).max(1);
            let value = HeaderValue::from_str(&seconds.to_string()).expect("digits are a header value");
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        response
    }
}

/// The chain of causes on one line, for the log.
fn cause(error: &Error) -> String {
    let mut text = String::new();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
