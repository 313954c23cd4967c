//! Handlers of settings, copies and branches.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;

use super::door::Caller;
use super::error::{Answer, ApiError};
use super::handlers::{Target, json, or_exhausted, read_body};
use super::response::{self, Version};
use super::{Api, door, metering};
use crate::control::Action;
use crate::model::NamespaceName;
use crate::model::settings::{SETTINGS_BODY_BYTES_MAX, parse_change};
use crate::model::write::origin::{Origin, OriginKind, parse_origin};
use crate::namespace::{CopyFrom, Progress};

/// `PATCH /v1/namespaces/{namespace}/metadata`
pub async fn update_metadata(State(api): State<Api>, target: Target, request: Request) -> Answer {
    let (_, body) = read_body(&api, request, SETTINGS_BODY_BYTES_MAX).await?;
    let change = parse_change(&body.bytes)?;
    let engine = target.engine(&api)?;
    let known = engine
        .update_settings(&target.caller.org, &target.namespace, change)
        .await?;
    Ok(json(StatusCode::OK, response::metadata(&known, Version::V1)))
}

/// A write that copies or branches: `POST /v2/namespaces/{namespace}`.
///
/// * `start` — when the request arrived, on the boot clock
pub(super) async fn fill(api: &Api, target: &Target, origin: Origin, start: Duration) -> Answer {
    let from = source_of(api, target, origin).await?;
    let (engine, exhausted) = target.writer(api).await?;
    let copied = engine
        .copy(&target.caller.org, &target.namespace, &from, &Progress::default())
        .await;
    let outcome = copied.map_err(|e| or_exhausted(e, exhausted))?;
    api.meter(&target.caller, &target.namespace, &metering::of_copy(&outcome));
    let total = api.inner.runtime.clock.boot().saturating_sub(start);
    Ok(json(StatusCode::OK, response::copy::copied(&outcome, from.kind, total)))
}

/// The source, in the organization whose key was shown. Says nothing of whether it exists.
async fn source_of(api: &Api, target: &Target, origin: Origin) -> Result<CopyFrom, ApiError> {
    let caller = &target.caller;
    caller.require(Action::DocumentsImport, target.namespace.as_str())?;
    let reader = match &origin.source_api_key {
        None => caller.clone(),
        Some(key) => door::second_caller(api, caller, "source_api_key", key).await?,
    };
    reader.require(Action::DocumentsExport, origin.source.as_str())?;
    let guard = reader.guard(origin.source.as_str());
    Ok(CopyFrom {
        kind: origin.kind,
        org: reader.org,
        source: origin.source,
        guard: Some(Arc::new(guard)),
        num_shards: origin.num_shards,
        create_namespace: origin.create_namespace,
    })
}

/// `POST /v2/namespaces/{namespace}/async`
pub async fn start_copy(State(api): State<Api>, target: Target, request: Request) -> Answer {
    let (_, body) = read_body(&api, request, SETTINGS_BODY_BYTES_MAX).await?;
    let origin = parse_origin(&body.bytes)?.filter(|o| o.kind == OriginKind::Copy);
    let origin = origin
        .ok_or_else(|| ApiError::invalid("only copies can be started: the body must have copy_from_namespace"))?;
    let from = source_of(&api, &target, origin).await?;
    let (engine, exhausted) = target.writer(&api).await?;
    if let Some(error) = exhausted {
        return Err(error.into());
    }
    let token = engine.start_copy(&target.caller.org, &target.namespace, from).await?;
    Ok(json(StatusCode::OK, response::copy::started(&token)))
}

/// The caller, the namespace and the token of a request about an operation.
pub struct OperationTarget {
    caller: Caller,
    namespace: NamespaceName,
    token: String,
}

impl FromRequestParts<Api> for OperationTarget {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, api).await?;
        let path: Result<Path<(String, String)>, PathRejection> = Path::from_request_parts(parts, api).await;
        let Path((name, token)) = path.map_err(|_| ApiError::invalid("the path is not valid UTF-8"))?;
        let namespace = NamespaceName::parse(&name)?;
        Ok(Self {
            caller,
            namespace,
            token,
        })
    }
}

/// `GET /v1/namespaces/{namespace}/operations/{token}`
pub async fn poll_copy(State(api): State<Api>, target: OperationTarget) -> Answer {
    let guard = target.caller.guard(target.namespace.as_str());
    let engine = api.inner.engine.guarded(Arc::new(guard));
    let operation = engine
        .operation(&target.caller.org, &target.namespace, &target.token)
        .await?;
    Ok(json(StatusCode::OK, response::copy::operation(&operation)))
}
