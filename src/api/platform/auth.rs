//! Signing in, and the tokens of programs.

use axum::extract::{Request, State};
use axum::http::header;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::users::{named, own_user};
use super::{BODY_BYTES_MAX, InOrg, Params, audit, body, enter, ok, parse};
use crate::api::Api;
use crate::api::door::Caller;
use crate::api::error::{Answer, ApiError};
use crate::api::handlers::read_body;
use crate::api::{ClientIp, minting, platform};
use crate::auth::{CredentialKind, platform_token};
use crate::control::mints::{Attempt, Begun};
use crate::control::platform_tokens::{GroupBound, OrgBound, PlatformToken, Scope, id_of_attempt};
use crate::control::users::User;
use crate::control::{Action, Hidden, Role};
use crate::error::{Error, ErrorKind};
use crate::model::OrgId;

/// Who signs in.
#[derive(Deserialize, JsonSchema)]
pub struct Login {
    /// Or the e-mail address.
    username: String,
    password: String,
}

/// What a new token is for; without anything, for all that its user may do.
#[derive(Deserialize, JsonSchema)]
pub struct PlatformTokenOptions {
    /// The slug of the only organization that it counts for.
    organization: Option<String>,
    /// The name of the only group that it counts for; needs scopes.
    group: Option<String>,
    /// What it may do in the group: read, db:create, db:delete, db:configure, db:mint-token, db:rotate-creds,
    /// group:configure, group:mint-token, group:rotate-creds; read-only and full-access stand for several.
    scopes: Option<Vec<String>>,
    /// Ours: the user to make it for; only with the operator's key, which needs one.
    user: Option<String>,
}

/// How a new token is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    V1,
    V2,
}

/// `POST /v1/auth/login`
pub async fn login(State(api): State<Api>, request: Request) -> Answer {
    let ip = request.extensions().get::<ClientIp>().map(|client| client.0);
    let Login { username, password } = body(&api, request).await?;
    let control = &api.inner.control;
    let user = control.sign_in(&username, Hidden::new(password), ip).await?;
    let (token, exp) = platform_token::session(control, &user);
    let mut answer = ok(&json!({"token": token.reveal(), "exp": exp}))?;
    let no_store = axum::http::HeaderValue::from_static("no-store");
    answer.headers_mut().insert(header::CACHE_CONTROL, no_store);
    Ok(answer)
}

/// `GET /v1/auth/validate`, `GET /v1/auth/api-tokens/validate`
pub async fn validate(State(api): State<Api>, caller: Caller, request: Request) -> Answer {
    let exp = match caller.principal.kind {
        CredentialKind::UserToken => {
            let shown = request
                .headers()
                .get(header::AUTHORIZATION)
                .and_then(|h| h.to_str().ok());
            let token = shown.and_then(|h| h.trim().rsplit(' ').next()).unwrap_or_default();
            let found = platform_token::recognise(&api.inner.control, token).await?;
            found.expires.map_or(json!(-1), |exp| json!(exp))
        }
        _ => json!(-1),
    };
    ok(&json!({"exp": exp}))
}

/// `GET /.well-known/jwks.json`
pub async fn key_set(State(api): State<Api>) -> Answer {
    ok(&platform_token::key_set(&api.inner.control))
}

/// `POST /v1/auth/api-tokens/{token}`
pub async fn mint_v1(state: State<Api>, caller: Caller, params: Params, request: Request) -> Answer {
    mint(&state.0, caller, &params, request, Shape::V1).await
}

/// `POST /v2/auth/api-tokens/{token}`
pub async fn mint_v2(state: State<Api>, caller: Caller, params: Params, request: Request) -> Answer {
    mint(&state.0, caller, &params, request, Shape::V2).await
}

/// `POST /v1/auth/api-tokens/validate`: that path checks tokens, so none can have its name.
pub async fn mint_reserved(_: Caller) -> Answer {
    Err(ApiError::invalid(
        "a token cannot be named validate: that path checks tokens",
    ))
}

async fn mint(api: &Api, caller: Caller, params: &Params, request: Request, shape: Shape) -> Answer {
    let (headers, given) = read_body(api, request, BODY_BYTES_MAX).await?;
    let options: PlatformTokenOptions = parse(&given.bytes)?;
    let owner = match (&options.user, caller.principal.kind) {
        (Some(user), CredentialKind::Bootstrap) => named(api, user).await?,
        (None, CredentialKind::Bootstrap) => {
            return Err(ApiError::invalid(
                "name a user: with the operator's key a token is made for one",
            ));
        }
        (Some(user), _) if caller.principal.user.is_some() => {
            let own = own_user(api, &caller).await?;
            if own.username != *user {
                return Err(forbidden("forbidden: tokens are made for oneself").into());
            }
            own
        }
        _ => own_user(api, &caller).await?,
    };
    let bound = bind(api, &caller, &owner, &options).await?;
    let control = &api.inner.control;
    let name = params.get("token");
    let asked = [name.as_bytes(), &given.bytes].join(&0);
    let attempt = match minting::begin(api, &caller, "api-token", &headers, &asked).await? {
        None => None,
        Some(Begun::New(attempt)) => Some(attempt),
        Some(Begun::Made(id)) => {
            let found = control
                .token_named(&owner.id, name)
                .await?
                .filter(|token| token.id == id);
            return minted(&found.ok_or_else(|| minting::deleted("token"))?, None, shape);
        }
    };
    let (token, value) = match make(api, &caller, &owner, name, bound, attempt.as_ref()).await {
        Ok(made) => made,
        Err(error) => {
            minting::failed(api, attempt.as_ref(), &error).await;
            return Err(error.into());
        }
    };
    if let Some(attempt) = &attempt
        && !control.finish_mint(attempt, &token.id).await?
    {
        control.revoke_token(&token).await?;
        return Err(attempt.overtaken().into());
    }
    minted(&token, value.as_ref(), shape)
}

/// Makes a token whose maker may; without its value when it is one that an earlier attempt left.
async fn make(
    api: &Api,
    caller: &Caller,
    owner: &User,
    name: &str,
    bound: Option<OrgBound>,
    attempt: Option<&Attempt>,
) -> Result<(PlatformToken, Option<Hidden>), Error> {
    let control = &api.inner.control;
    let left = match attempt.and_then(|attempt| attempt.before.as_deref()) {
        Some(before) => control.token_of_attempt(&owner.id, name, before).await?,
        None => None,
    };
    let is_left = left.is_some();
    let token = match (left, attempt) {
        (Some(left), _) => left,
        (None, None) => control.create_token(&owner.id, name, bound).await?,
        (None, Some(attempt)) => {
            let id = id_of_attempt(&attempt.name);
            control.create_token_with(id, &owner.id, name, bound).await?
        }
    };
    let org = audited_in(caller, &token)?;
    let data = json!({"id": token.id, "user": owner.username, "organization": token.org.as_ref().map(|o| &o.slug)});
    // Of one that was left perhaps once more: who made it may not have come to it.
    if let Err(error) = audit(api, caller, &org, "user-token-create", &token.name, data).await {
        // Nobody has seen its value.
        control.revoke_token(&token).await?;
        return Err(error);
    }
    let value = (!is_left).then(|| platform_token::mint(control, &token));
    Ok((token, value))
}

/// The answer with a token, and its value if it is to be seen.
fn minted(token: &PlatformToken, value: Option<&Hidden>, shape: Shape) -> Answer {
    let mut shown = json!({"id": token.id, "name": token.name});
    let (field, whole) = match shape {
        Shape::V1 => ("token", None),
        Shape::V2 => ("value", Some("token")),
    };
    if let Some(value) = value {
        shown[field] = json!(value.reveal());
    }
    let mut answer = ok(&match whole {
        None => shown,
        Some(whole) => json!({ whole: shown }),
    })?;
    let no_store = axum::http::HeaderValue::from_static("no-store");
    answer.headers_mut().insert(header::CACHE_CONTROL, no_store);
    Ok(answer)
}

fn forbidden(sentence: &str) -> Error {
    Error::new(ErrorKind::Forbidden, sentence)
}

/// The log of which organization tells of a token: its own, else the one that its user acts in.
fn audited_in(caller: &Caller, token: &PlatformToken) -> Result<OrgId, Error> {
    match &token.org {
        Some(org) => Ok(OrgId::parse(&org.id)?),
        None => Ok(caller.org.clone()),
    }
}

/// What a new token is bound to: never less than the token that asks for it.
async fn bind(
    api: &Api,
    caller: &Caller,
    owner: &User,
    options: &PlatformTokenOptions,
) -> Result<Option<OrgBound>, Error> {
    let own = caller.principal.chain.first();
    if own.is_some_and(|grant| grant.group.is_some()) {
        return Err(forbidden("forbidden: a token of a group cannot make tokens"));
    }
    let scopes = options.scopes.as_deref().unwrap_or_default();
    let Some(slug) = options.organization.as_deref().filter(|slug| !slug.is_empty()) else {
        if options.group.is_some() || !scopes.is_empty() {
            return Err(Error::invalid("group and scopes need an organization"));
        }
        return match own {
            Some(_) => Err(forbidden(
                "forbidden: a token of an organization makes tokens of that organization only",
            )),
            None => Ok(None),
        };
    };
    let control = &api.inner.control;
    // As the owner, so that only what the owner can reach can be named.
    let mut as_owner = caller.principal.as_ref().clone();
    as_owner.user = Some(owner.id.clone());
    if as_owner.kind == CredentialKind::Bootstrap {
        as_owner.kind = CredentialKind::UserToken;
    }
    enter(control, &mut as_owner, platform::Named::Slug(slug)).await?;
    let found = control.organization(&as_owner.org).await?;
    let organization = found.ok_or_else(|| Error::new(ErrorKind::NotFound, "organization not found"))?;
    let role = organization.members.get(&owner.id).copied().unwrap_or(Role::Viewer);
    if !role.actions().contains(Action::TokensCreate) {
        return Err(forbidden("forbidden: viewers cannot make tokens of the organization"));
    }
    let group = match options.group.as_deref().filter(|group| !group.is_empty()) {
        None if !scopes.is_empty() => return Err(Error::invalid("scopes need a group")),
        None => None,
        Some(_) if scopes.is_empty() => return Err(Error::invalid("a token of a group needs scopes")),
        Some(_) if role < Role::Admin => {
            return Err(forbidden("forbidden: tokens of groups are made by admins and owners"));
        }
        Some(name) => {
            let missing = || Error::invalid("group not found");
            let group = control.group(&as_owner.org, name).await?.ok_or_else(missing)?;
            Some(GroupBound {
                uuid: group.id,
                name: group.name.clone(),
                scopes: Scope::parse(scopes.iter().map(String::as_str))?,
            })
        }
    };
    Ok(Some(OrgBound {
        id: organization.id.clone(),
        slug: organization.slug.clone(),
        group,
    }))
}

/// A token as lists show it.
fn show(token: &PlatformToken) -> Json {
    let org = token.org.as_ref();
    let group = org.and_then(|o| o.group.as_ref());
    let mut shown = json!({
        "id": token.id,
        "name": token.name,
        "created_at": &super::rfc3339(token.created_at)[..10],
    });
    if let Some(org) = org {
        shown["organization"] = json!(org.slug);
    }
    if let Some(group) = group {
        shown["group"] = json!(group.name);
        shown["scopes"] = json!(group.scopes);
    }
    shown
}

/// Whether a token that asks for another may see it: one of an organization sees those of that organization.
fn may_see(caller: &Caller, token: &PlatformToken) -> bool {
    match caller.principal.chain.first() {
        None => true,
        Some(own) => own.group.is_none() && token.org.as_ref().is_some_and(|o| o.id == own.org.as_str()),
    }
}

/// `GET /v1/auth/api-tokens`
pub async fn list(State(api): State<Api>, caller: Caller) -> Answer {
    let user = own_user(&api, &caller).await?;
    let tokens = api.inner.control.tokens_of(&user.id).await?;
    let shown: Vec<_> = tokens.iter().filter(|t| may_see(&caller, t)).map(show).collect();
    ok(&json!({"tokens": shown}))
}

/// `DELETE /v1/auth/api-tokens/{token}`
pub async fn revoke(State(api): State<Api>, caller: Caller, params: Params) -> Answer {
    let user = own_user(&api, &caller).await?;
    let name = params.get("token");
    let found = api.inner.control.token_named(&user.id, name).await?;
    let found = found.filter(|token| may_see(&caller, token));
    let shown: String = name.chars().take(128).collect();
    let absent = || Error::new(ErrorKind::NotFound, format!("token not found: {shown}"));
    let token = found.ok_or_else(absent)?;
    api.inner.control.revoke_token(&token).await?;
    let org = audited_in(&caller, &token)?;
    audit(
        &api,
        &caller,
        &org,
        "user-token-revoke",
        &token.name,
        json!({"id": token.id}),
    )
    .await?;
    ok(&json!({"token": token.name}))
}

/// Whether a member sees this token of the organization: admins see all, others their own.
fn is_shown(in_org: &InOrg, token: &PlatformToken) -> bool {
    in_org.role >= Role::Admin || in_org.caller.principal.user.as_ref() == Some(&token.user)
}

/// `GET /v1/organizations/{org}/api-tokens`
pub async fn list_of_org(State(api): State<Api>, in_org: InOrg) -> Answer {
    let control = &api.inner.control;
    let mut shown = Vec::new();
    for token in control.tokens_in(&in_org.caller.org).await? {
        if !is_shown(&in_org, &token) {
            continue;
        }
        // Tokens whose users are gone do not count any more.
        if let Some(owner) = control.user(&token.user).await? {
            let mut printed = show(&token);
            printed["owner"] = json!({"username": owner.username, "email": owner.email.clone().unwrap_or_default()});
            shown.push(printed);
        }
    }
    ok(&json!({"tokens": shown}))
}

/// `DELETE /v1/organizations/{org}/api-tokens/{token}`
pub async fn revoke_of_org(State(api): State<Api>, in_org: InOrg, params: Params) -> Answer {
    let control = &api.inner.control;
    let id = params.get("token");
    let all = control.tokens_in(&in_org.caller.org).await?;
    let found = all.into_iter().find(|token| token.id == id && is_shown(&in_org, token));
    let token = found.ok_or_else(|| Error::new(ErrorKind::NotFound, "token not found"))?;
    if in_org.caller.principal.user.as_ref() != Some(&token.user) {
        in_org.caller.require_in_org(Action::TokensDelete)?;
    }
    control.revoke_token(&token).await?;
    let data = json!({"id": token.id, "user": token.user});
    audit(
        &api,
        &in_org.caller,
        &in_org.caller.org,
        "user-token-revoke",
        &token.name,
        data,
    )
    .await?;
    ok(&json!({"token": token.id}))
}
