//! The control plane, in the shapes of Turso's platform API.
//!
//! # What every route of it has in common
//!
//! - A success has a JSON body, `{}` at least: the official client parses whatever comes.
//! - Bodies are parsed as what they are, whatever the content type says; an empty one is `{}`; the case of keys
//!   does not count.
//! - `{org}` is the slug of an organization, its id below `/v3`; without it the caller's own is meant. Whoever
//!   is no member gets the same 404 for every organization, whether it exists or not.
//! - What changes something is in the audit log before the answer.

pub mod auth;
pub mod call;
pub mod databases;
pub mod figures;
pub mod groups;
pub mod instances;
pub mod issuers;
pub mod locations;
pub mod login;
pub mod members;
pub mod mint;
pub mod organizations;
mod print;
pub mod routes;
pub mod routes_databases;
pub mod usage;
pub mod users;

use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

use super::Api;
use super::door::Caller;
use super::error::{Answer, ApiError};
use super::handlers::{json, read_body};
use crate::auth::{CredentialKind, Principal};
use crate::control::audit::Event;
use crate::control::{Control, Grant, Organization, Role};
use crate::error::{Error, ErrorKind};
use crate::model::OrgId;

/// The largest body of these routes, in bytes.
const BODY_BYTES_MAX: u64 = 64 * 1024;

/// A success.
pub fn ok(body: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(body).expect("answers are made of what JSON has");
    Ok(json(StatusCode::OK, body))
}

/// A success that nothing is to be said of.
pub fn done() -> Answer {
    ok(&Map::new())
}

/// The body of a request; an empty one has no fields.
///
/// # Errors
///
/// 400 when it is no object or a field has the wrong type; 413 above 64 KiB.
pub async fn body<T: DeserializeOwned>(api: &Api, request: Request) -> Result<T, ApiError> {
    let (_, body) = read_body(api, request, BODY_BYTES_MAX).await?;
    Ok(parse(&body.bytes)?)
}

/// The fields of a body: keys in any case.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let bytes = bytes.trim_ascii();
    let found: Map<String, Json> = match bytes {
        b"" | b"null" => Map::new(),
        _ => serde_json::from_slice(bytes).map_err(|_| Error::invalid("the body must be a JSON object"))?,
    };
    let folded = found.into_iter().map(|(k, v)| (k.to_ascii_lowercase(), v)).collect();
    serde_json::from_value(Json::Object(folded)).map_err(|e| Error::invalid(format!("the body is wrong: {e}")))
}

/// The parameters of a path, decoded.
pub struct Params(Vec<(String, String)>);

impl Params {
    /// One that the route has.
    pub fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value)
    }
}

impl FromRequestParts<Api> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let params = RawPathParams::from_request_parts(parts, api).await;
        let params = params.map_err(|_| ApiError::invalid("the path is not valid UTF-8"))?;
        let own = |(k, v): (&str, &str)| (k.to_owned(), v.to_owned());
        Ok(Self(params.iter().map(own).collect()))
    }
}

/// A caller in the organization of the path.
pub struct InOrg {
    pub caller: Caller,
    pub organization: Arc<Organization>,
    /// The caller's role; bootstrap keys act as owners.
    pub role: Role,
}

impl FromRequestParts<Api> for InOrg {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, api).await?;
        let found = api.inner.control.organization(&caller.org).await?;
        let organization = found.ok_or_else(no_organization)?;
        let role = role_of(&caller.principal, &organization).ok_or_else(no_organization)?;
        Ok(Self {
            caller,
            organization,
            role,
        })
    }
}

/// The organization that a path names.
#[derive(Clone, Copy, Debug)]
pub enum Named<'a> {
    /// None: the caller's own.
    Own,
    Slug(&'a str),
    /// Its id; a slug is understood, too.
    Id(&'a str),
}

impl<'a> Named<'a> {
    /// What a path names.
    ///
    /// * `org` — the parameter `{org}`
    pub fn of(path: &str, org: Option<&'a str>) -> Self {
        match org {
            None => Self::Own,
            Some(id) if path.starts_with("/v3/") => Self::Id(id),
            Some(slug) => Self::Slug(slug),
        }
    }
}

fn no_organization() -> Error {
    Error::new(ErrorKind::NotFound, "organization not found")
}

fn role_of(principal: &Principal, organization: &Organization) -> Option<Role> {
    match (principal.kind, &principal.user) {
        (CredentialKind::Bootstrap, _) => Some(Role::Owner),
        (_, Some(user)) => organization.members.get(user).copied(),
        (_, None) => None,
    }
}

/// Lets a principal act in the organization of the path: its chain gets the role that its user has there now.
///
/// Costs nothing warm.
///
/// # Errors
///
/// 404 when there is no such organization or the user is no member: which of them is not said.
pub async fn enter(control: &Control, principal: &mut Principal, named: Named<'_>) -> Result<(), Error> {
    let found = match named {
        Named::Own => own(control, principal).await?,
        Named::Slug(slug) => control.organization_of(slug).await?,
        Named::Id(id) => match OrgId::parse(id) {
            Ok(org) => match control.organization(&org).await? {
                Some(found) => Some(found),
                None => control.organization_of(id).await?,
            },
            Err(_) => None,
        },
    };
    let organization = found.ok_or_else(no_organization)?;
    let org = organization.org_id()?;
    let role = role_of(principal, &organization).ok_or_else(no_organization)?;
    if principal.chain.iter().any(|grant| grant.org != org) {
        return Err(no_organization());
    }
    if principal.kind != CredentialKind::Bootstrap {
        principal
            .chain
            .insert(0, Arc::new(Grant::in_org(org.clone(), role.actions())));
    }
    principal.org = org;
    Ok(())
}

/// The organization that is meant where none is named: the one that a token is for; the home of a user, else the
/// first that the user owns, else the first that the user is in; the one that a bootstrap key acts in.
async fn own(control: &Control, principal: &Principal) -> Result<Option<Arc<Organization>>, Error> {
    if principal.kind == CredentialKind::Bootstrap || !principal.chain.is_empty() {
        return control.organization(&principal.org).await;
    }
    let Some(user) = &principal.user else { return Ok(None) };
    let Some(user) = control.user(user).await? else {
        return Ok(None);
    };
    let all = control.organizations_of(&user).await?;
    // Whoever makes somebody an owner of another organization must not draw their requests there.
    let home = all
        .iter()
        .position(|(found, _)| user.home.as_ref().is_some_and(|home| home.org == found.id));
    let owned = home.or_else(|| all.iter().position(|(_, role)| *role == Role::Owner));
    let mut all = all.into_iter().map(|(organization, _)| Arc::new(organization));
    Ok(all.nth(owned.unwrap_or(0)))
}

/// Writes an event of a caller to the audit log of the organization.
///
/// * `target` — what it was done to, by name or id
/// * `data` — further facts; no secrets
///
/// Costs one PUT.
pub async fn audit(
    api: &Api,
    caller: &Caller,
    org: &OrgId,
    code: &'static str,
    target: &str,
    data: Json,
) -> Result<(), Error> {
    let control = &api.inner.control;
    let author = match &caller.principal.user {
        Some(user) => control.user(user).await?.map(|u| u.username.clone()),
        None => None,
    };
    control
        .audit(Event {
            code,
            org: org.clone(),
            actor: format!("{}:{}", caller.principal.kind.name(), caller.principal.id),
            author,
            ip: caller.ip,
            target: target.to_owned(),
            data,
        })
        .await
}

/// Seconds since the epoch as RFC 3339; the first ten characters are the date.
pub fn rfc3339(seconds: u64) -> String {
    let at = chrono::DateTime::from_timestamp(i64::try_from(seconds).unwrap_or(i64::MAX), 0).unwrap_or_default();
    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_databases;
#[cfg(test)]
mod tests_own;
#[cfg(test)]
mod tests_people;
#[cfg(test)]
mod tests_tokens;
