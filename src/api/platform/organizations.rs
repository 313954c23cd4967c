//! Organizations: made, listed, changed, deleted; and their plans.

use axum::extract::{Query, Request, State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::users::own_user;
use super::{InOrg, audit, body, done, ok};
use crate::api::Api;
use crate::api::door::Caller;
use crate::api::error::{Answer, ApiError};
use crate::auth::CredentialKind;
use crate::control::organization_changes::slug_of;
use crate::control::plans::no_plan;
use crate::control::{Organization, Role};
use crate::error::{Error, ErrorKind};
use crate::model::OrgId;
use crate::store::paths::control as paths;

/// An organization to be made.
#[derive(Deserialize, JsonSchema)]
pub struct NewOrganization {
    /// The slug is made of it.
    name: String,
    /// Taken and ignored.
    #[serde(default)]
    #[allow(dead_code, reason = "named so that it is documented")]
    stripe_id: Option<String>,
}

/// The query string of making one.
#[derive(Deserialize, JsonSchema)]
pub struct CreateOptions {
    /// Says whether it could be made, and makes nothing.
    #[serde(default)]
    dry_run: bool,
}

/// What changes of an organization.
#[derive(Deserialize, JsonSchema)]
pub struct OrganizationChange {
    /// Whether use beyond the plan is counted instead of refused; for owners.
    overages: Option<bool>,
    /// Kept and shown.
    require_mfa: Option<bool>,
    /// Ours: the name; the slug stays.
    name: Option<String>,
}

/// Another plan.
#[derive(Deserialize, JsonSchema)]
pub struct SubscriptionChange {
    /// The name of a plan of this deployment.
    plan: Option<String>,
    /// Taken and ignored.
    #[allow(dead_code, reason = "named so that it is documented")]
    timeline: Option<String>,
    overages: Option<bool>,
}

/// An organization as answers show it.
#[derive(Serialize, JsonSchema)]
pub struct ShownOrganization {
    id: String,
    name: String,
    slug: String,
    /// personal or team.
    r#type: &'static str,
    overages: bool,
    require_mfa: bool,
    blocked_reads: bool,
    blocked_writes: bool,
    plan_id: String,
    plan_timeline: &'static str,
    platform: &'static str,
}

fn show(api: &Api, organization: &Organization) -> ShownOrganization {
    ShownOrganization {
        id: organization.id.clone(),
        name: organization.name.clone(),
        slug: organization.slug.clone(),
        r#type: if is_default(organization) { "personal" } else { "team" },
        overages: organization.overages,
        require_mfa: organization.require_mfa,
        blocked_reads: organization.blocked_reads,
        blocked_writes: organization.blocked_writes,
        plan_id: api.inner.control.plan(organization).name.clone(),
        plan_timeline: "",
        platform: "",
    }
}

fn is_default(organization: &Organization) -> bool {
    organization.id == OrgId::default_org().as_str()
}

/// `GET /v1/organizations`, `GET /v2/organizations`
pub async fn list(State(api): State<Api>, caller: Caller) -> Answer {
    let control = &api.inner.control;
    let all = match caller.principal.kind {
        CredentialKind::Bootstrap => control.organizations().await?,
        _ => {
            let user = own_user(&api, &caller).await?;
            let bound = caller.principal.chain.first();
            let all = control
                .organizations_of(&user)
                .await?
                .into_iter()
                .map(|(organization, _)| organization);
            all.filter(|o| bound.is_none_or(|b| b.group.is_none() && b.org.as_str() == o.id))
                .collect()
        }
    };
    let shown: Vec<_> = all.iter().map(|organization| show(&api, organization)).collect();
    ok(&json!({"organizations": shown}))
}

/// `POST /v1/organizations`
pub async fn create(
    State(api): State<Api>,
    caller: Caller,
    options: Result<Query<CreateOptions>, axum::extract::rejection::QueryRejection>,
    request: Request,
) -> Answer {
    let Query(options) = options.map_err(|_| ApiError::invalid("dry_run must be true or false"))?;
    if !caller.principal.chain.is_empty() {
        return Err(Error::new(
            ErrorKind::Forbidden,
            "forbidden: a token of an organization cannot make organizations",
        )
        .into());
    }
    let wanted: NewOrganization = body(&api, request).await?;
    let control = &api.inner.control;
    let plan = control.plans().default_plan().name.clone();
    let owner = match caller.principal.kind {
        CredentialKind::Bootstrap => None,
        _ => Some(own_user(&api, &caller).await?),
    };
    if options.dry_run {
        let slug = slug_of(&wanted.name)?;
        if !control.is_slug_free(&slug).await? {
            return Err(Error::new(ErrorKind::Conflict, format!("organization {slug} already exists")).into());
        }
        let imagined = Organization {
            id: String::new(),
            name: wanted.name.trim().to_owned(),
            slug,
            plan,
            ..Organization::unwritten_default()
        };
        return ok(&json!({"org": show(&api, &imagined)}));
    }
    let made = control.create_organization(&wanted.name, &plan, owner.as_ref()).await?;
    audit(
        &api,
        &caller,
        &made.org_id()?,
        "org-create",
        &made.slug,
        json!({"id": made.id}),
    )
    .await?;
    ok(&json!({"org": show(&api, &made)}))
}

/// `GET /v1/organizations/{org}`
pub async fn get(State(api): State<Api>, in_org: InOrg) -> Answer {
    ok(&json!({"organization": show(&api, &in_org.organization)}))
}

fn owners_only(in_org: &InOrg) -> Result<(), Error> {
    match in_org.role {
        Role::Owner => Ok(()),
        _ => Err(Error::new(
            ErrorKind::Forbidden,
            "forbidden: only owners change plans and overages",
        )),
    }
}

/// Lifts or sets the block of an organization whose plan changed. The change holds whatever becomes of it: a block
/// that does not follow from the plan any more is not enforced, and the next roll-up reviews again.
async fn review(api: &Api, org: &OrgId) {
    if let Err(error) = api.inner.control.review_budget(org).await {
        tracing::warn!(%org, %error, "the budget could not be reviewed after a change of the plan");
    }
}

/// `PATCH /v1/organizations/{org}`
pub async fn change(State(api): State<Api>, in_org: InOrg, request: Request) -> Answer {
    let wanted: OrganizationChange = body(&api, request).await?;
    let is_operator = in_org.caller.principal.kind == CredentialKind::Bootstrap;
    if wanted.overages.is_some_and(|o| o != in_org.organization.overages) {
        owners_only(&in_org)?;
    }
    if let Some(name) = &wanted.name {
        slug_of(name)?;
    }
    let changed = api
        .inner
        .control
        .change_organization(&in_org.caller.org, |organization| {
            if !is_operator {
                api.inner
                    .control
                    .check_self_service(organization, None, wanted.overages)?;
            }
            organization.overages = wanted.overages.unwrap_or(organization.overages);
            organization.require_mfa = wanted.require_mfa.unwrap_or(organization.require_mfa);
            if let Some(name) = &wanted.name {
                organization.name = name.trim().to_owned();
            }
            Ok(())
        })
        .await?;
    let code = if wanted.overages.is_some() {
        "org-set-overages"
    } else {
        "org-update"
    };
    if wanted.overages.is_some() {
        review(&api, &in_org.caller.org).await;
    }
    let data = json!({"overages": wanted.overages, "require_mfa": wanted.require_mfa, "name": wanted.name});
    audit(&api, &in_org.caller, &in_org.caller.org, code, &changed.slug, data).await?;
    ok(&json!({"organization": show(&api, &changed)}))
}

/// `DELETE /v1/organizations/{org}`
pub async fn delete(State(api): State<Api>, in_org: InOrg) -> Answer {
    let (org, control) = (&in_org.caller.org, &api.inner.control);
    if is_default(&in_org.organization) {
        return Err(ApiError::invalid("the default organization cannot be deleted"));
    }
    let namespaces = api.inner.engine.list(org, "", None, 1).await?;
    if !namespaces.names.is_empty() {
        return Err(ApiError::invalid("the organization has databases; delete them first"));
    }
    let keys = control
        .records()
        .values::<Json>(&paths::keys(org))
        .await
        .map_err(Error::from)?;
    if !keys.is_empty() {
        return Err(ApiError::invalid("the organization has api keys; delete them first"));
    }
    control.delete_organization(&in_org.organization).await?;
    audit(
        &api,
        &in_org.caller,
        org,
        "org-delete",
        &in_org.organization.slug,
        json!({}),
    )
    .await?;
    done()
}

/// `GET /v1/organizations/{org}/plans`, `GET /v1/plans`
pub async fn plans(State(api): State<Api>, _: Caller) -> Answer {
    let plans: Vec<Json> = api.inner.control.plans().iter().map(|plan| plan.json()).collect();
    ok(&json!({"plans": plans}))
}

fn subscription_of(api: &Api, organization: &Organization) -> Json {
    let plan = &api.inner.control.plan(organization).name;
    json!({"subscription": {
        "name": plan,
        "plan": plan,
        "timeline": "monthly",
        "overages": organization.overages,
    }})
}

/// `GET /v1/organizations/{org}/subscription`, `GET /v1/subscription`
pub async fn subscription(State(api): State<Api>, in_org: InOrg) -> Answer {
    ok(&subscription_of(&api, &in_org.organization))
}

/// `POST /v1/organizations/{org}/subscription`, `POST /v1/subscription`
pub async fn subscribe(State(api): State<Api>, in_org: InOrg, request: Request) -> Answer {
    let wanted: SubscriptionChange = body(&api, request).await?;
    owners_only(&in_org)?;
    let control = &api.inner.control;
    if let Some(plan) = &wanted.plan
        && control.plans().by_name(plan).is_none()
    {
        return Err(no_plan().into());
    }
    let is_operator = in_org.caller.principal.kind == CredentialKind::Bootstrap;
    let changed = control
        .change_organization(&in_org.caller.org, |organization| {
            if !is_operator {
                control.check_self_service(organization, wanted.plan.as_deref(), wanted.overages)?;
            }
            if let Some(plan) = &wanted.plan {
                organization.plan.clone_from(plan);
            }
            organization.overages = wanted.overages.unwrap_or(organization.overages);
            Ok(())
        })
        .await?;
    review(&api, &in_org.caller.org).await;
    let data = json!({"plan": wanted.plan, "overages": wanted.overages});
    audit(
        &api,
        &in_org.caller,
        &in_org.caller.org,
        "org-plan-update",
        &changed.slug,
        data,
    )
    .await?;
    ok(&subscription_of(&api, &changed))
}

/// `GET /v1/organizations/{org}/invoices`, `GET /v1/invoices`: nobody is billed here.
pub async fn invoices(_: Caller) -> Answer {
    ok(&json!({"invoices": []}))
}
