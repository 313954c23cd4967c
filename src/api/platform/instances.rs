//! Instances: the live nodes that serve a database. Creating one keeps the database warm on one node more.

use axum::extract::{Request, State};
use serde_json::json;

use super::call::{Call, Fields, Found, success};
use super::print::{self, Instance};
use crate::api::Api;
use crate::api::error::{Answer, ApiError};
use crate::control::Action;
use crate::error::{Error, ErrorKind, Result};
use crate::model::SettingsChange;

async fn all(api: &Api, call: &Call, found: &Found) -> Result<Vec<Instance>> {
    let nodes = api.inner.control.live_nodes().await?;
    Ok(print::instances(call, found, nodes))
}

async fn host(api: &Api, call: &Call, found: &Found) -> Result<String> {
    let organization = call.organization(api).await?;
    Ok(print::host_name(call, api, &organization, found.database.name.as_str()))
}

/// The instance that the path names.
async fn named(api: &Api, call: &Call, found: &Found) -> Result<Instance> {
    let name = call.param("instance");
    let instances = all(api, call, found).await?;
    let absent = || {
        let shown: String = name.chars().take(64).collect();
        Error::new(ErrorKind::NotFound, format!("instance not found: {shown}"))
    };
    instances.into_iter().find(|i| i.node.name == name).ok_or_else(absent)
}

/// `GET …/databases/{database}/instances`
pub async fn list(State(api): State<Api>, call: Call) -> Answer {
    let found = call.database(&api, Action::CollectionsGet).await?;
    let host = host(&api, &call, &found).await?;
    let instances = all(&api, &call, &found).await?;
    let printed: Vec<_> = instances.iter().map(|i| print::instance(i, &host)).collect();
    Ok(success(&json!({"instances": printed})))
}

/// `GET …/databases/{database}/instances/{instance}`
pub async fn get(State(api): State<Api>, call: Call) -> Answer {
    let found = call.database(&api, Action::CollectionsGet).await?;
    let host = host(&api, &call, &found).await?;
    let instance = named(&api, &call, &found).await?;
    Ok(success(&json!({"instance": print::instance(&instance, &host)})))
}

/// `POST …/databases/{database}/instances`: pins the database on one node more, as far as there are nodes.
pub async fn create(State(api): State<Api>, call: Call, request: Request) -> Answer {
    let mut found = call.database(&api, Action::CollectionsUpdate).await?;
    let body = Fields::read(&api, request).await?;
    let place = api.inner.control.place();
    place.own(body.text("location")?.unwrap_or(&place.region))?;
    let nodes = api.inner.control.live_nodes().await?;
    let pinned = found.database.known.settings.pinned_replicas.unwrap_or(0);
    // One node serves it unasked; it is kept warm there all the same.
    let most = u32::try_from(nodes.len() - 1).unwrap_or(u32::MAX).max(1);
    let wanted = pinned.saturating_add(1).min(most).max(pinned);
    if wanted != pinned {
        found.database.known = pin(&api, &call, &found, Some(wanted)).await?;
        let data = json!({"id": found.database.known.id, "replicas": wanted});
        call.audit(&api, "instance-create", found.database.name.as_str(), data)
            .await?;
    }
    api.inner.engine.warm(call.org(), &found.database.name).await?;
    let host = host(&api, &call, &found).await?;
    let instances = print::instances(&call, &found, nodes);
    let newest = instances.last().expect("this node is always among the live ones");
    Ok(success(&json!({"instance": print::instance(newest, &host)})))
}

async fn pin(api: &Api, call: &Call, found: &Found, replicas: Option<u32>) -> Result<crate::namespace::Metadata> {
    let change = SettingsChange {
        pinned_replicas: Some(replicas),
        ..SettingsChange::default()
    };
    api.inner
        .engine
        .update_settings(call.org(), &found.database.name, change)
        .await
}

/// `DELETE …/databases/{database}/instances/{instance}`
pub async fn delete(State(api): State<Api>, call: Call) -> Answer {
    let found = call.database(&api, Action::CollectionsUpdate).await?;
    let instance = named(&api, &call, &found).await?;
    if instance.is_primary {
        return Err(ApiError::invalid(
            "the primary instance cannot be deleted; delete the database instead",
        ));
    }
    let pinned = found.database.known.settings.pinned_replicas.unwrap_or(0);
    let left = pinned.saturating_sub(1);
    pin(&api, &call, &found, (left > 0).then_some(left)).await?;
    let data = json!({"id": found.database.known.id, "replicas": left});
    call.audit(&api, "instance-delete", found.database.name.as_str(), data)
        .await?;
    Ok(success(&json!({"instance": instance.node.name})))
}

/// `GET …/databases/{database}/instances/{instance}/wait`: until this node could answer queries at once.
pub async fn wait(State(api): State<Api>, call: Call) -> Answer {
    let found = call.database(&api, Action::CollectionsGet).await?;
    named(&api, &call, &found).await?;
    api.inner.engine.warm(call.org(), &found.database.name).await?;
    Ok(success(&json!({})))
}
