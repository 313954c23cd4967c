//! What callers may ask about themselves: who they are, and what they may do.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::door::Caller;
use super::error::Answer;
use super::handlers::{self, read_body};
use super::openapi::operations_keys as described;
use super::platform::{self, Named};
use super::{Api, Route, needs, route};
use crate::auth::{CredentialKind, Principal};
use crate::control::users::User;
use crate::control::{Action, ActionSet, RateLimits, Role};
use crate::error::{Error, ErrorKind};
use crate::model::NamespaceName;

/// The longest body, in bytes.
const BODY_BYTES_MAX: u64 = 16 * 1024;

/// The routes of this module.
pub fn routes() -> Vec<Route> {
    vec![
        route(
            Method::GET,
            "/v1/auth/whoami",
            needs::ANYBODY_KNOWN,
            whoami,
            described::whoami,
        ),
        route(
            Method::POST,
            "/v1/auth/explain",
            needs::ANYBODY_KNOWN,
            explain,
            described::explain_access,
        ),
    ]
}

/// Who a credential stands for.
#[derive(Serialize, JsonSchema)]
pub struct WhoAmI {
    /// `bootstrap`, `api_key`, `scoped_key`, `user_token`, `platform_token`, `namespace_token` or `group_token`.
    kind: &'static str,
    /// Tells credentials of a kind apart.
    id: String,
    /// The user behind it, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// The name of that user.
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    /// The id of the organization acted in where none is named; absent for a user who belongs to none.
    #[serde(skip_serializing_if = "Option::is_none")]
    organization: Option<String>,
    /// Of a user: the organizations that the token can act in.
    #[serde(skip_serializing_if = "Option::is_none")]
    organizations: Option<Vec<Membership>>,
    /// What may be done to some namespace, at most.
    actions: Vec<&'static str>,
    /// Patterns of namespaces. A namespace has to match one of each list.
    namespaces: Vec<Vec<String>>,
    /// The id of the group that it is limited to.
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    /// Whether it finds only the rows that a filter lets pass.
    has_filter: bool,
    /// The only attributes that it sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    include_fields: Option<Vec<String>>,
    /// Attributes that it does not see.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    exclude_fields: Vec<String>,
    /// Networks that it may be used from; everywhere if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    allowed_ips: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<super::typesense::keys::KeyLimits>")]
    limits: Option<RateLimits>,
    /// The last second in which it counts, since the epoch; null: for ever.
    expires_at: Option<u64>,
}

/// What a user may do in an organization through a token.
#[derive(Serialize, JsonSchema)]
pub struct Membership {
    id: String,
    slug: String,
    /// owner, admin, member or viewer.
    #[schemars(with = "String")]
    role: Role,
    /// What the role and the token allow.
    actions: Vec<&'static str>,
}

/// Whether what a credential may do depends on the organization that it acts in.
fn is_of_user(caller: &Caller) -> bool {
    matches!(
        caller.principal.kind,
        CredentialKind::UserToken | CredentialKind::PlatformToken
    )
}

/// The caller as it acts in an organization.
///
/// # Errors
///
/// 404 where it is no member.
async fn entered(api: &Api, caller: &Caller, named: Named<'_>) -> Result<Caller, Error> {
    let mut principal = Principal::clone(&caller.principal);
    platform::enter(&api.inner.control, &mut principal, named).await?;
    Ok(Caller {
        org: principal.org.clone(),
        principal: Arc::new(principal),
        ..caller.clone()
    })
}

/// `None` instead of 404.
fn if_found<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn names(actions: ActionSet) -> Vec<&'static str> {
    actions.iter().map(Action::name).collect()
}

async fn memberships(api: &Api, caller: &Caller, user: &User) -> Result<Vec<Membership>, Error> {
    let mut all = Vec::new();
    for (organization, role) in api.inner.control.organizations_of(user).await? {
        // A token may be bound to one of them.
        if let Some(there) = if_found(entered(api, caller, Named::Id(&organization.id)).await)? {
            all.push(Membership {
                actions: names(there.principal.actions()),
                id: organization.id.clone(),
                slug: organization.slug.clone(),
                role,
            });
        }
    }
    Ok(all)
}

/// `GET /v1/auth/whoami`
pub async fn whoami(State(api): State<Api>, caller: Caller) -> Answer {
    let (mut caller, mut username, mut organizations) = (caller, None, None);
    let mut belongs = true;
    if let Some(id) = caller.principal.user.as_deref().filter(|_| is_of_user(&caller)) {
        if let Some(user) = api.inner.control.user(id).await? {
            organizations = Some(memberships(&api, &caller, &user).await?);
            username = Some(user.username.clone());
        }
        match if_found(entered(&api, &caller, Named::Own).await)? {
            Some(own) => caller = own,
            None => belongs = false,
        }
    }
    let principal = &caller.principal;
    let chain = &principal.chain;
    let namespaces = match principal.kind {
        CredentialKind::Bootstrap => vec![vec!["*".to_owned()]],
        _ => {
            let mut lists: Vec<Vec<String>> = chain
                .iter()
                .map(|grant| grant.namespaces.entries().map(str::to_owned).collect())
                .collect();
            lists.dedup();
            lists
        }
    };
    let restriction = principal.restriction.as_deref();
    let body = WhoAmI {
        kind: principal.kind.name(),
        id: principal.id.clone(),
        user: principal.user.clone(),
        username,
        organization: belongs.then(|| caller.org.to_string()),
        organizations,
        actions: names(principal.actions()),
        namespaces,
        group: chain.iter().find_map(|grant| grant.group).map(|id| id.to_string()),
        has_filter: restriction.is_some_and(|r| !r.filters.is_empty()),
        include_fields: restriction.and_then(|r| r.include.clone()),
        exclude_fields: restriction.map(|r| r.exclude.clone()).unwrap_or_default(),
        allowed_ips: chain
            .iter()
            .flat_map(|grant| &grant.allowed_ips)
            .map(ToString::to_string)
            .collect(),
        limits: chain
            .iter()
            .map(|grant| grant.rate_limits)
            .find(|limits| !limits.is_empty()),
        expires_at: chain.iter().filter_map(|grant| grant.not_after).min(),
    };
    Ok(print(&body))
}

fn print(body: &impl Serialize) -> axum::response::Response {
    let body = serde_json::to_vec(body).expect("texts and numbers are JSON");
    handlers::json(StatusCode::OK, body)
}

/// What is asked.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// Such as `documents:search`.
    action: String,
    /// The namespace that it is done to; absent for what concerns none.
    namespace: Option<String>,
    /// The slug of the organization, for tokens of users; absent: the user's own.
    organization: Option<String>,
}

/// A decision.
#[derive(Serialize, JsonSchema)]
pub struct Explained {
    allowed: bool,
    /// What decided, in words.
    rule: String,
}

/// `POST /v1/auth/explain`
pub async fn explain(State(api): State<Api>, caller: Caller, request: Request) -> Answer {
    let (_, body) = read_body(&api, request, BODY_BYTES_MAX).await?;
    let asked: ExplainRequest = serde_json::from_slice(&body.bytes).map_err(|_| {
        Error::invalid(
            "the body must be an object with action, a text, and optionally namespace and organization, texts",
        )
    })?;
    let action = Action::parse(&asked.action)
        .ok_or_else(|| Error::invalid("action is none that there is, such as documents:search"))?;
    let namespace = asked.namespace.as_deref().map(NamespaceName::parse).transpose()?;
    let mut caller = caller;
    if is_of_user(&caller) {
        let named = asked.organization.as_deref().map_or(Named::Own, Named::Slug);
        caller = match if_found(entered(&api, &caller, named).await)? {
            Some(there) => there,
            None => {
                let rule = "the user does not belong to this organization".into();
                return Ok(print(&Explained { allowed: false, rule }));
            }
        };
    } else if asked.organization.is_some() {
        return Err(Error::invalid("organization can be asked about with the token of a user only").into());
    }
    // What concerns no namespace concerns the group that a token is bound to.
    let group = caller.principal.group().filter(|_| namespace.is_none());
    let rule = match caller.may(action, namespace.as_ref().map(NamespaceName::as_str), group) {
        Ok(()) if caller.principal.kind == CredentialKind::Bootstrap => {
            return Ok(print(&Explained {
                allowed: true,
                rule: "a bootstrap key may do everything".into(),
            }));
        }
        Ok(()) => {
            return Ok(print(&Explained {
                allowed: true,
                rule: "every grant of the credential allows it".into(),
            }));
        }
        Err(denial) => denial.rule(),
    };
    Ok(print(&Explained { allowed: false, rule }))
}
