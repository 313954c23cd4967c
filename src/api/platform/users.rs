//! Users: made by operators, and what they see of themselves.

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::{Params, audit, body, ok};
use crate::api::Api;
use crate::api::door::Caller;
use crate::api::error::Answer;
use crate::auth::CredentialKind;
use crate::control::Hidden;
use crate::control::users::{NewUser, User};
use crate::error::{Error, ErrorKind};

/// A user to be made.
#[derive(Deserialize, JsonSchema)]
pub struct NewUserBody {
    /// 1 to 64 of a-z, 0-9, '-', '_' and '.'; unique.
    username: String,
    /// Unique.
    email: Option<String>,
    /// 8 to 1024 bytes; whoever has none cannot sign in.
    password: Option<String>,
    /// The full name.
    name: Option<String>,
}

/// What changes of a user.
#[derive(Deserialize, JsonSchema)]
pub struct UserChange {
    /// The new password; every session and platform token ends.
    password: Option<String>,
    /// The password until now, for a new one; not with the operator's key.
    old_password: Option<String>,
    /// The full name.
    name: Option<String>,
}

/// A user as answers show it.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub struct ShownUser {
    username: String,
    name: String,
    email: String,
    #[serde(rename = "avatarUrl")]
    avatar_url: String,
    plan: String,
    mfa: bool,
    has_pending_invites: bool,
    /// Ours: the organizations of the open invitations, with the offered roles.
    pending_invites: BTreeMap<String, String>,
}

/// The answer of every route that shows a user.
#[derive(Serialize, JsonSchema)]
pub struct UserAnswer {
    user: ShownUser,
}

async fn show(api: &Api, user: &User) -> Result<UserAnswer, Error> {
    let invites = api.inner.control.invites_of(user).await?;
    let pending: BTreeMap<_, _> = invites
        .into_iter()
        .map(|(organization, invite)| (organization.slug, invite.role.name().to_owned()))
        .collect();
    Ok(UserAnswer {
        user: ShownUser {
            username: user.username.clone(),
            name: user.name.clone(),
            email: user.email.clone().unwrap_or_default(),
            avatar_url: String::new(),
            plan: api.inner.control.plans().default_plan().name.clone(),
            mfa: false,
            has_pending_invites: !pending.is_empty(),
            pending_invites: pending,
        },
    })
}

/// Fails unless the caller is the operator.
pub fn require_operator(caller: &Caller) -> Result<(), Error> {
    match caller.principal.kind {
        CredentialKind::Bootstrap => Ok(()),
        _ => Err(Error::new(
            ErrorKind::Forbidden,
            "forbidden: only the operator's key may do this",
        )),
    }
}

/// The user behind a token.
///
/// # Errors
///
/// 400 for a bootstrap key, which no user is behind.
pub async fn own_user(api: &Api, caller: &Caller) -> Result<User, Error> {
    let nobody = || Error::invalid("the operator's key belongs to no user; use the token of one");
    let id = caller.principal.user.as_deref().ok_or_else(nobody)?;
    let gone = || Error::new(ErrorKind::Unauthenticated, "unauthorized");
    let user = api.inner.control.user(id).await?.ok_or_else(gone)?;
    Ok(User::clone(&user))
}

/// A user by name; in an error the name is as it came.
pub async fn named(api: &Api, name: &str) -> Result<User, Error> {
    let found = api.inner.control.user_named(name).await?;
    let shown: String = name.chars().take(128).collect();
    let absent = || Error::new(ErrorKind::NotFound, format!("user not found: {shown}"));
    Ok(User::clone(&*found.ok_or_else(absent)?))
}

/// `POST /v1/users`
pub async fn create(State(api): State<Api>, caller: Caller, request: Request) -> Answer {
    require_operator(&caller)?;
    let wanted: NewUserBody = body(&api, request).await?;
    let control = &api.inner.control;
    let password = match wanted.password {
        Some(password) => Some(control.hash_password(Hidden::new(password)).await?),
        None => None,
    };
    let new = NewUser {
        username: wanted.username,
        name: wanted.name.unwrap_or_default(),
        email: wanted.email.filter(|e| !e.is_empty()),
        password,
    };
    let user = control.create_user(new).await?;
    audit(
        &api,
        &caller,
        &caller.org,
        "user-signup",
        &user.username,
        json!({"id": user.id}),
    )
    .await?;
    ok(&show(&api, &user).await?)
}

/// `GET /v1/users/{username}`
pub async fn get(State(api): State<Api>, caller: Caller, params: Params) -> Answer {
    let user = visible(&api, &caller, params.get("username")).await?;
    ok(&show(&api, &user).await?)
}

/// The user of that name, if the caller is the operator or that user.
async fn visible(api: &Api, caller: &Caller, name: &str) -> Result<User, Error> {
    if caller.principal.kind == CredentialKind::Bootstrap {
        return named(api, name).await;
    }
    let own = own_user(api, caller).await?;
    match own.username == name {
        true => Ok(own),
        false => Err(Error::new(ErrorKind::Forbidden, "forbidden: this is another user")),
    }
}

/// `PATCH /v1/users/{username}`
pub async fn change(State(api): State<Api>, caller: Caller, params: Params, request: Request) -> Answer {
    let user = visible(&api, &caller, params.get("username")).await?;
    // Tokens of programs must not lock their owners out.
    if !matches!(
        caller.principal.kind,
        CredentialKind::Bootstrap | CredentialKind::UserToken
    ) {
        return Err(Error::new(ErrorKind::Forbidden, "forbidden: sign in to change a user").into());
    }
    let wanted: UserChange = body(&api, request).await?;
    let control = &api.inner.control;
    if wanted.password.is_some() && caller.principal.kind != CredentialKind::Bootstrap {
        check_old_password(&api, &caller, &user, wanted.old_password).await?;
    }
    let password = match wanted.password {
        Some(password) => Some(control.hash_password(Hidden::new(password)).await?),
        None => None,
    };
    let now = control.now();
    let changed = control
        .change_user(&user.id, |user| {
            if let Some(password) = &password {
                user.password = Some(password.clone());
                user.end_sessions(now);
                user.end_tokens(now);
            }
            if let Some(name) = &wanted.name {
                crate::control::users::check_full_name(name)?;
                user.name.clone_from(name);
            }
            Ok(())
        })
        .await?;
    if password.is_some() {
        // They count no more; their names are free again.
        control.revoke_ended_tokens(&changed).await?;
    }
    let data = json!({"password": password.is_some(), "name": wanted.name.is_some()});
    audit(&api, &caller, &caller.org, "user-update", &user.username, data).await?;
    ok(&show(&api, &changed).await?)
}

/// Whoever found a session open must not be able to keep the user out with it.
///
/// # Errors
///
/// 400 without it; 403 when it is another one; 429 when that was so too often.
async fn check_old_password(api: &Api, caller: &Caller, user: &User, old: Option<String>) -> Result<(), Error> {
    let missing = || Error::invalid("old_password is missing: give the password until now");
    let old = Hidden::new(old.ok_or_else(missing)?);
    let signed_in = api.inner.control.sign_in(&user.username, old, caller.ip).await;
    signed_in.map(|_| ()).map_err(|e| match e.kind {
        ErrorKind::Unauthenticated => Error::new(ErrorKind::Forbidden, "forbidden: old_password is wrong"),
        _ => e,
    })
}

/// `DELETE /v1/users/{username}`
pub async fn delete(State(api): State<Api>, caller: Caller, params: Params) -> Answer {
    require_operator(&caller)?;
    let user = named(&api, params.get("username")).await?;
    api.inner.control.delete_user(&user).await?;
    audit(
        &api,
        &caller,
        &caller.org,
        "user-delete",
        &user.username,
        json!({"id": user.id}),
    )
    .await?;
    ok(&json!({"user": user.username}))
}

/// `GET /v1/user`, `GET /v1/current-user`
pub async fn current(State(api): State<Api>, caller: Caller) -> Answer {
    if caller.principal.kind == CredentialKind::Bootstrap {
        let nobody: Json = json!({
            "username": "bootstrap", "name": "", "email": "", "avatarUrl": "", "mfa": false,
            "plan": api.inner.control.plans().default_plan().name, "has_pending_invites": false, "pending_invites": {},
        });
        return ok(&json!({"user": nobody}));
    }
    let user = own_user(&api, &caller).await?;
    ok(&show(&api, &user).await?)
}

/// `POST /v1/auth/invalidate`
pub async fn invalidate(State(api): State<Api>, caller: Caller) -> Answer {
    if caller.principal.kind != CredentialKind::UserToken {
        return Err(Error::new(ErrorKind::Forbidden, "forbidden: sign in to end your sessions").into());
    }
    let user = own_user(&api, &caller).await?;
    let valid_from = api.inner.control.end_sessions(&user.id).await?;
    audit(
        &api,
        &caller,
        &caller.org,
        "user-token-revoke",
        &user.username,
        json!({}),
    )
    .await?;
    ok(&json!({"ValidFrom": valid_from}))
}
