//! Members of an organization and the invitations to become one.

use axum::extract::{Request, State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::users::{named, own_user};
use super::{InOrg, Params, audit, body, done, ok, rfc3339};
use crate::api::Api;
use crate::api::door::Caller;
use crate::api::error::{Answer, ApiError};
use crate::control::organization_changes::check_rank;
use crate::control::users::User;
use crate::control::{Action, Role};
use crate::error::{Error, ErrorKind};

/// A member to be added: `username` in the body, or in the path and as `member`.
#[derive(Deserialize, JsonSchema)]
pub struct NewMember {
    username: Option<String>,
    /// As the official client sends it.
    member: Option<String>,
    /// owner, admin, member (if absent) or viewer; at most one's own.
    role: Option<String>,
}

/// Another role.
#[derive(Deserialize, JsonSchema)]
pub struct RoleChange {
    role: String,
}

/// An invitation.
#[derive(Deserialize, JsonSchema)]
pub struct NewInvite {
    email: String,
    /// owner, admin, member (if absent) or viewer; at most one's own.
    role: Option<String>,
}

/// A member as answers show it.
#[derive(Serialize, JsonSchema)]
pub struct Member {
    username: String,
    role: &'static str,
    email: String,
}

fn show(user: &User, role: Role) -> Member {
    Member {
        username: user.username.clone(),
        role: role.name(),
        email: user.email.clone().unwrap_or_default(),
    }
}

fn role(name: Option<&str>) -> Result<Role, Error> {
    match name {
        None | Some("") => Ok(Role::Member),
        Some(name) => {
            Role::parse(name).ok_or_else(|| Error::invalid("role must be one of owner, admin, member and viewer"))
        }
    }
}

/// `GET /v1/organizations/{org}/members`
pub async fn list(State(api): State<Api>, in_org: InOrg) -> Answer {
    let mut members = Vec::new();
    for (id, role) in &in_org.organization.members {
        // Whoever was deleted is a member no more, also while that is being tidied up.
        if let Some(user) = api.inner.control.user(id).await? {
            members.push(show(&user, *role));
        }
    }
    members.sort_by(|a, b| a.username.cmp(&b.username));
    ok(&json!({"members": members}))
}

/// A member by name; users that are no members are as good as absent.
async fn member(api: &Api, in_org: &InOrg, name: &str) -> Result<(User, Role), Error> {
    let found = api.inner.control.user_named(name).await?;
    let found = found.and_then(|user| Some((in_org.organization.members.get(&user.id).copied()?, user)));
    let shown: String = name.chars().take(128).collect();
    let absent = || Error::new(ErrorKind::NotFound, format!("member not found: {shown}"));
    let (role, user) = found.ok_or_else(absent)?;
    Ok((User::clone(&user), role))
}

/// `GET /v1/organizations/{org}/members/{username}`
pub async fn get(State(api): State<Api>, in_org: InOrg, params: Params) -> Answer {
    let (user, role) = member(&api, &in_org, params.get("username")).await?;
    ok(&json!({"member": show(&user, role)}))
}

/// `POST /v1/organizations/{org}/members`
pub async fn add(state: State<Api>, in_org: InOrg, request: Request) -> Answer {
    let wanted: NewMember = body(&state.0, request).await?;
    let name = wanted.username.or(wanted.member).unwrap_or_default();
    add_named(&state.0, &in_org, &name, wanted.role.as_deref()).await
}

/// `POST /v1/organizations/{org}/members/{username}`
pub async fn add_by_path(state: State<Api>, in_org: InOrg, params: Params, request: Request) -> Answer {
    let wanted: NewMember = body(&state.0, request).await?;
    let name = params.get("username");
    let agrees = |other: &Option<String>| other.as_deref().is_none_or(|other| other == name);
    if !agrees(&wanted.username) || !agrees(&wanted.member) {
        return Err(ApiError::invalid("path and body name different members"));
    }
    add_named(&state.0, &in_org, name, wanted.role.as_deref()).await
}

async fn add_named(api: &Api, in_org: &InOrg, name: &str, role_name: Option<&str>) -> Answer {
    let role = role(role_name)?;
    if name.is_empty() {
        return Err(ApiError::invalid("username must be the name of a user"));
    }
    check_rank(in_org.role, role)?;
    let user = named(api, name).await?;
    let org = &in_org.caller.org;
    api.inner.control.add_member(org, &user, role).await?;
    let data = json!({"role": role.name()});
    audit(api, &in_org.caller, org, "org-member-add", &user.username, data).await?;
    ok(&json!({"member": user.username, "role": role.name()}))
}

/// `PATCH /v1/organizations/{org}/members/{username}`
pub async fn change(State(api): State<Api>, in_org: InOrg, params: Params, request: Request) -> Answer {
    let wanted: RoleChange = body(&api, request).await?;
    let role = role(Some(&wanted.role))?;
    let (user, before) = member(&api, &in_org, params.get("username")).await?;
    let org = &in_org.caller.org;
    api.inner.control.change_role(org, &user, role, in_org.role).await?;
    let data = json!({"role": role.name(), "before": before.name()});
    audit(&api, &in_org.caller, org, "org-member-update", &user.username, data).await?;
    ok(&json!({"member": show(&user, role)}))
}

/// `DELETE /v1/organizations/{org}/members/{username}`: members may always delete themselves.
pub async fn remove(State(api): State<Api>, in_org: InOrg, params: Params) -> Answer {
    let (caller, org) = (&in_org.caller, &in_org.caller.org);
    // Tokens that are for a group or have fewer rights than their user cannot make the user leave.
    let leaves = match &caller.principal.user {
        Some(id) if caller.principal.group().is_none() => {
            let own = api.inner.control.user(id).await?;
            own.is_some_and(|own| own.username == params.get("username"))
        }
        _ => false,
    };
    if !leaves {
        caller.require_in_org(Action::MembersDelete)?;
    }
    let (user, _) = member(&api, &in_org, params.get("username")).await?;
    let by = (!leaves).then_some(in_org.role);
    api.inner.control.remove_member(org, &user, by).await?;
    let code = if leaves { "org-member-leave" } else { "org-member-rm" };
    audit(&api, caller, org, code, &user.username, json!({})).await?;
    ok(&json!({"member": user.username}))
}

/// `GET /v2/organizations/{org}/invites`, and in `/v1`
pub async fn invites(State(api): State<Api>, in_org: InOrg) -> Answer {
    let invites = api.inner.control.invites(&in_org.caller.org).await?;
    let shown: Vec<Json> = invites
        .iter()
        .map(|invite| {
            json!({
                "id": invite.id,
                "email": invite.email,
                "role": invite.role.name(),
                "created_at": rfc3339(invite.created_at),
            })
        })
        .collect();
    ok(&json!({"invites": shown}))
}

/// `POST /v2/organizations/{org}/invites`, and in `/v1`, also in the singular
pub async fn invite(State(api): State<Api>, in_org: InOrg, request: Request) -> Answer {
    let wanted: NewInvite = body(&api, request).await?;
    let role = role(wanted.role.as_deref())?;
    check_rank(in_org.role, role)?;
    let made = api
        .inner
        .control
        .invite(&in_org.organization, &wanted.email, role)
        .await?;
    let data = json!({"role": role.name()});
    audit(
        &api,
        &in_org.caller,
        &in_org.caller.org,
        "org-member-invite",
        &made.email,
        data,
    )
    .await?;
    let slug = &in_org.organization.slug;
    ok(&json!({"invited": {"email": made.email, "role": role.name(), "organization": slug}}))
}

/// `DELETE /v2/organizations/{org}/invites/{email}`, and in `/v1`
pub async fn uninvite(State(api): State<Api>, in_org: InOrg, params: Params) -> Answer {
    let taken = api
        .inner
        .control
        .take_invite(&in_org.caller.org, params.get("email"))
        .await?;
    audit(
        &api,
        &in_org.caller,
        &in_org.caller.org,
        "org-invite-delete",
        &taken.email,
        json!({}),
    )
    .await?;
    done()
}

/// `POST /v1/organizations/{org}/invites/accept`: the caller is no member yet, so the door knows nothing of the
/// organization.
pub async fn accept(State(api): State<Api>, caller: Caller, params: Params) -> Answer {
    if !caller.principal.chain.is_empty() {
        return Err(Error::new(ErrorKind::Forbidden, "forbidden: sign in to accept an invite").into());
    }
    let user = own_user(&api, &caller).await?;
    let control = &api.inner.control;
    let open = control.invites_of(&user).await?;
    let found = open
        .into_iter()
        .find(|(organization, _)| organization.slug == params.get("org"));
    // The same for organizations that do not exist.
    let absent = || Error::new(ErrorKind::NotFound, "invite not found");
    let (organization, invite) = found.ok_or_else(absent)?;
    let org = organization.org_id()?;
    let taken = control.take_invite(&org, &invite.email).await?;
    control.add_member(&org, &user, taken.role).await?;
    let data = json!({"role": taken.role.name(), "invite": taken.id});
    audit(&api, &caller, &org, "org-member-add", &user.username, data).await?;
    ok(&json!({"member": user.username, "role": taken.role.name()}))
}
