//! Groups (platform-api reference §6).

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use serde_json::json;

use super::call::{Call, Fields, no_group, success};
use super::mint::{self, TokenOptions, Wish};
use super::print;
use crate::api::Api;
use crate::api::error::{Answer, ApiError};
use crate::auth::CredentialKind;
use crate::auth::data_token::{self, Minting, TokenOf};
use crate::control::databases;
use crate::control::{Action, Control, Group, Patterns, Quota};
use crate::error::{Error, ErrorKind, Result};
use crate::model::OrgId;

/// What shows a group: scopes of platform tokens are about databases.
const SEE: &[Action] = &[Action::GroupsGet, Action::CollectionsGet];

/// `GET …/groups`
pub async fn list(State(api): State<Api>, call: Call) -> Answer {
    let groups = api.inner.control.groups(call.org()).await?;
    let own = call.caller.principal.group();
    let shown = groups.iter().filter(|g| own.is_none_or(|id| id == g.id));
    Ok(success(
        &json!({"groups": shown.map(|g| print::group(g)).collect::<Vec<_>>()}),
    ))
}

/// `POST …/groups`
pub async fn create(State(api): State<Api>, call: Call, request: Request) -> Answer {
    let body = Fields::read(&api, request).await?;
    let name = body.text("name")?;
    let name = name.ok_or_else(|| ApiError::invalid("name is missing: give the name of the new group"))?;
    let control = &api.inner.control;
    check_quota(control, call.org()).await?;
    let group = control.create_group(call.org(), name, body.text("location")?).await?;
    call.audit(&api, "group-create", name, json!({"id": group.id})).await?;
    Ok(success(&json!({"group": print::group(&group)})))
}

/// Fails when the plan of an organization includes no further group. Costs nothing without such a limit.
async fn check_quota(control: &Control, org: &OrgId) -> Result<()> {
    let Some(organization) = control.organization(org).await? else {
        return Ok(());
    };
    if control.plan(&organization).quotas.groups.is_none() {
        return Ok(());
    }
    let count = control.groups(org).await?.len() as u64;
    control.check_quota(&organization, Quota::Groups, count)
}

/// `GET …/groups/{group}`
pub async fn get(State(api): State<Api>, call: Call) -> Answer {
    let group = call.group(&api, SEE).await?;
    Ok(success(&json!({"group": print::group(&group)})))
}

/// `DELETE …/groups/{group}`
pub async fn delete(State(api): State<Api>, call: Call) -> Answer {
    let group = call.group(&api, &[Action::GroupsDelete]).await?;
    let (control, engine) = (&api.inner.control, &api.inner.engine);
    let deleted = databases::delete_group(control, engine, call.org(), &group).await?;
    let data = json!({"id": group.id, "databases": deleted});
    call.audit(&api, "group-delete", &group.name, data).await?;
    Ok(success(&json!({"group": print::group(&group)})))
}

/// `GET …/groups/{group}/configuration`
pub async fn configuration(State(api): State<Api>, call: Call) -> Answer {
    let group = call.group(&api, SEE).await?;
    Ok(success(&json!({"delete_protection": group.delete_protection})))
}

/// `PATCH …/groups/{group}/configuration`
pub async fn configure(State(api): State<Api>, call: Call, request: Request) -> Answer {
    let group = call.group(&api, &[Action::GroupsUpdate]).await?;
    let body = Fields::read(&api, request).await?;
    let Some(protect) = body.boolean("delete_protection")? else {
        return Ok(success(&json!({"delete_protection": group.delete_protection})));
    };
    let set = |group: &mut Group| {
        group.delete_protection = protect;
        Ok(())
    };
    let after = api.inner.control.update_group(call.org(), group.id, set).await?;
    let code = if protect { "group-protect" } else { "group-unprotect" };
    call.audit(&api, code, &group.name, json!({"id": group.id})).await?;
    Ok(success(&json!({"delete_protection": after.delete_protection})))
}

/// `POST …/groups/{group}/locations/{location}`
pub async fn add_location(State(api): State<Api>, call: Call) -> Answer {
    let group = call.group(&api, &[Action::GroupsUpdate]).await?;
    // The only one that can be added is there already.
    api.inner.control.place().own(call.param("location"))?;
    Ok(success(&json!({"group": print::group(&group)})))
}

/// `DELETE …/groups/{group}/locations/{location}`
pub async fn remove_location(State(api): State<Api>, call: Call) -> Answer {
    let group = call.group(&api, &[Action::GroupsUpdate]).await?;
    let code = call.param("location");
    if group.primary == code {
        return Err(ApiError::invalid(
            "the primary location of a group cannot be removed; delete the group instead",
        ));
    }
    api.inner.control.place().own(code)?;
    Ok(success(&json!({"group": print::group(&group)})))
}

/// `GET …/groups/{group}/locations/{location}/wait`
pub async fn wait(State(api): State<Api>, call: Call) -> Answer {
    let group = call.group(&api, SEE).await?;
    let code = call.param("location");
    match group.locations.iter().any(|l| l == code) {
        true => Ok(success(&json!({}))),
        false => Err(Error::new(ErrorKind::NotFound, "the group is not in this location").into()),
    }
}

/// `POST …/groups/{group}/auth/tokens`
pub async fn create_token(
    State(api): State<Api>,
    call: Call,
    options: std::result::Result<Query<TokenOptions>, QueryRejection>,
    request: Request,
) -> Answer {
    let group = call.group(&api, &[Action::TokensCreate]).await?;
    let Query(options) = options.map_err(|_| ApiError::invalid("the query string is not valid"))?;
    let wish = Wish::parse(&options, &Fields::read(&api, request).await?)?;
    if group.deleting {
        return Err(no_group(&group.name).into());
    }
    let control = &api.inner.control;
    let minting = Minting {
        org: call.org(),
        of: TokenOf::Group,
        id: group.id,
        name: &group.name,
        generation: group.token_gen,
        level: wish.level,
        permissions: wish.permissions,
        expires_at: wish.lifetime.map(|seconds| control.now().saturating_add(seconds)),
    };
    mint::check(&call.caller, &minting, Patterns::any(), group.id)?;
    let jwt = data_token::mint(control, &minting);
    let data = json!({"id": group.id, "level": minting.level.word(), "expires_at": minting.expires_at});
    call.audit(&api, "group-token-create", &group.name, data).await?;
    Ok(success(&json!({"jwt": jwt})))
}

/// `POST …/groups/{group}/auth/rotate`
pub async fn rotate(State(api): State<Api>, call: Call) -> Answer {
    let group = call.group(&api, &[Action::TokensRotate]).await?;
    let after = api.inner.control.rotate_group(call.org(), group.id).await?;
    let data = json!({"id": group.id, "generation": after.token_gen});
    call.audit(&api, "group-token-rotate", &group.name, data).await?;
    Ok(success(&json!({})))
}

/// `POST …/groups/{group}/transfer`
pub async fn transfer(State(api): State<Api>, call: Call, request: Request) -> Answer {
    let group = call.group(&api, &[Action::GroupsDelete]).await?;
    let body = Fields::read(&api, request).await?;
    let slug = match body.text("organization")? {
        Some(slug) => slug,
        None => body.text("org")?.unwrap_or_default(),
    };
    let control = &api.inner.control;
    let target = destination(control, &call, slug).await?;
    if target == *call.org() {
        return Ok(success(&print::group(&group)));
    }
    if !databases::is_empty(&api.inner.engine, call.org(), group.id).await? {
        return Err(ApiError::invalid(
            "the group has databases, which cannot be moved to another organization; copy them there and delete them \
             here, then transfer the group",
        ));
    }
    if group.delete_protection {
        let sentence = format!(
            "group {} is protected from deletion; set delete_protection to false first",
            group.name
        );
        return Err(Error::new(ErrorKind::Conflict, sentence).into());
    }
    check_quota(control, &target).await?;
    let moved = control.create_group(&target, &group.name, None).await?;
    databases::delete_group(control, &api.inner.engine, call.org(), &group).await?;
    let data = json!({"id": group.id, "organization": slug});
    call.audit(&api, "group-transfer", &group.name, data).await?;
    Ok(success(&print::group(&moved)))
}

/// The organization of that slug, if the caller may create groups in it; absent for everybody else.
async fn destination(control: &Control, call: &Call, slug: &str) -> Result<OrgId> {
    let absent = || Error::new(ErrorKind::NotFound, "organization not found");
    let found = control.organization_of(slug).await?.ok_or_else(absent)?;
    let principal = &call.caller.principal;
    let may = match &principal.user {
        _ if principal.kind == CredentialKind::Bootstrap => true,
        // A token of one organization is none of the other.
        Some(user) if principal.kind == CredentialKind::UserToken => {
            let role = found.members.get(user);
            role.is_some_and(|role| role.actions().contains(Action::GroupsCreate))
        }
        _ => found.org_id()? == *call.org(),
    };
    match may {
        true => found.org_id(),
        false => Err(absent()),
    }
}

/// `POST …/groups/{group}/unarchive`
pub async fn unarchive(State(api): State<Api>, call: Call) -> Answer {
    let group = call.group(&api, &[Action::GroupsUpdate]).await?;
    Ok(success(&json!({"group": print::group(&group)})))
}

/// `POST …/groups/{group}/update`
pub async fn update(State(api): State<Api>, call: Call) -> Answer {
    call.group(&api, &[Action::GroupsUpdate]).await?;
    Ok(success(&json!({})))
}

/// `POST …/groups/{group}/rename`
pub async fn rename(State(api): State<Api>, call: Call, request: Request) -> Answer {
    let group = call.group(&api, &[Action::GroupsUpdate]).await?;
    let body = Fields::read(&api, request).await?;
    let name = body.text("name")?;
    let name = name.ok_or_else(|| ApiError::invalid("name is missing: give the new name of the group"))?;
    let after = api.inner.control.rename_group(call.org(), &group, name).await?;
    call.audit(&api, "group-rename", &group.name, json!({"id": group.id, "name": name}))
        .await?;
    Ok(success(&json!({"group": print::group(&after)})))
}
