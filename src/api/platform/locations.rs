//! Locations: where the deployment, and others that its operator named, are.

use axum::extract::State;
use serde_json::json;

use super::call::{Call, success};
use super::print;
use crate::api::Api;
use crate::api::error::Answer;
use crate::error::{Error, ErrorKind};

/// `GET /v1/locations`
pub async fn list(State(api): State<Api>) -> Answer {
    Ok(success(&json!({"locations": api.inner.control.place().locations})))
}

/// `GET /v1/locations/{location}`
pub async fn get(State(api): State<Api>, call: Call) -> Answer {
    let found = print::location(api.inner.control.place(), call.param("location"));
    let location = found.ok_or_else(|| Error::new(ErrorKind::NotFound, "location not found"))?;
    Ok(success(&json!({"location": location})))
}

/// `GET /v2/organizations/{org}/locations`: by provider, of which there is one.
pub async fn list_by_provider(State(api): State<Api>) -> Answer {
    Ok(success(
        &json!({"locations": {"shoal": api.inner.control.place().locations}}),
    ))
}
