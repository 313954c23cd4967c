//! External issuers of tokens: kept and listed. Tokens of theirs are not honoured yet.

use axum::extract::{Request, State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{InOrg, Params, audit, body, done, ok};
use crate::api::Api;
use crate::api::error::Answer;
use crate::control::issuers::Issuer;
use crate::error::{Error, ErrorKind};

/// Where an issuer's keys are.
#[derive(Deserialize, JsonSchema)]
pub struct IssuerOptions {
    /// An https URL.
    jwks_url: String,
    /// Kept and shown.
    region: Option<String>,
}

/// An issuer as answers show it.
#[derive(Serialize, JsonSchema)]
pub struct ShownIssuer {
    jwks_name: String,
    jwks_url: String,
}

impl From<Issuer> for ShownIssuer {
    fn from(issuer: Issuer) -> Self {
        Self {
            jwks_name: issuer.name,
            jwks_url: issuer.jwks_url,
        }
    }
}

/// `GET /v2/organizations/{org}/jwks`
pub async fn list(State(api): State<Api>, in_org: InOrg) -> Answer {
    let issuers = api.inner.control.issuers(&in_org.caller.org).await?;
    let shown: Vec<ShownIssuer> = issuers.into_iter().map(ShownIssuer::from).collect();
    ok(&json!({"jwks": shown}))
}

/// `GET /v2/organizations/{org}/jwks/{issuer}`
pub async fn get(State(api): State<Api>, in_org: InOrg, params: Params) -> Answer {
    let found = api
        .inner
        .control
        .issuer(&in_org.caller.org, params.get("issuer"))
        .await?;
    let issuer = found.ok_or_else(|| Error::new(ErrorKind::NotFound, "issuer not found"))?;
    ok(&json!({"jwks": [ShownIssuer::from(issuer)]}))
}

/// `PUT /v2/organizations/{org}/jwks/{issuer}`
pub async fn put(State(api): State<Api>, in_org: InOrg, params: Params, request: Request) -> Answer {
    let wanted: IssuerOptions = body(&api, request).await?;
    let org = &in_org.caller.org;
    let control = &api.inner.control;
    let issuer = control
        .put_issuer(org, params.get("issuer"), &wanted.jwks_url, wanted.region)
        .await?;
    let data = json!({"jwks_url": issuer.jwks_url});
    audit(&api, &in_org.caller, org, "org-jwks-update", &issuer.name, data).await?;
    ok(&json!({"jwks": [ShownIssuer::from(issuer)]}))
}

/// `DELETE /v2/organizations/{org}/jwks/{issuer}`
pub async fn remove(State(api): State<Api>, in_org: InOrg, params: Params) -> Answer {
    let (org, name) = (&in_org.caller.org, params.get("issuer"));
    api.inner.control.remove_issuer(org, name).await?;
    audit(&api, &in_org.caller, org, "org-jwks-delete", name, json!({})).await?;
    done()
}

/// `GET /v2/organizations/{org}/jwks-template`: the claims that such a token will need.
pub async fn template(_: InOrg) -> Answer {
    ok(&json!({"template": {"aud": "data", "oid": "<organization id>", "id": "<database>", "a": "ro"}}))
}
