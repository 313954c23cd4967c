//! Databases, which are namespaces (platform-api reference §7).

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::call::{Call, Fields, Found, no_database, success};
use super::mint::{self, TokenOptions, Wish};
use super::print;
use crate::api::error::{Answer, ApiError};
use crate::api::{Api, quota};
use crate::auth::Denial;
use crate::auth::data_token::{self, Minting, TokenOf};
use crate::control::databases::{self, Database, Wanted};
use crate::control::groups::{DEFAULT_GROUP, default_group_id};
use crate::control::organization::is_slug;
use crate::control::{Action, Group, Patterns};
use crate::error::{Error, ErrorKind, Result};
use crate::model::settings::ALLOWED_IPS_MAX;
use crate::model::write::origin::OriginKind;
use crate::model::{NamespaceName, SettingsChange};
use crate::namespace::{CopyFrom, Creation, Metadata, Progress};

/// Databases of a list without `limit`, and the most with it.
const LIST_MAX: usize = 1000;

/// The query string of a list.
#[derive(Deserialize, JsonSchema, Default)]
pub struct ListOptions {
    /// Only databases of this group.
    #[serde(default)]
    group: Option<String>,
    /// The same by its id.
    #[serde(default)]
    group_id: Option<String>,
    /// Only databases made from this one.
    #[serde(default)]
    parent: Option<String>,
    /// The same by its id.
    #[serde(default)]
    parent_db_id: Option<String>,
    /// Only databases of this schema database: there are none.
    #[serde(default)]
    schema: Option<String>,
    /// `logical`, or `schema`: there are none.
    #[serde(default, rename = "type")]
    kind: Option<String>,
    /// At most so many, 1 to 1,000.
    #[serde(default)]
    limit: Option<String>,
    /// `next` of the page before.
    #[serde(default)]
    cursor: Option<String>,
}

/// `GET …/databases`
pub async fn list(
    State(api): State<Api>,
    call: Call,
    options: std::result::Result<Query<ListOptions>, QueryRejection>,
) -> Answer {
    let Query(options) = options.map_err(|_| ApiError::invalid("the query string is not valid"))?;
    let limit = match options.limit.as_deref() {
        None | Some("") => LIST_MAX,
        Some(text) => {
            let number = text.parse().ok().filter(|n| (1..=LIST_MAX).contains(n));
            number.ok_or_else(|| ApiError::invalid("limit must be an integer from 1 to 1000"))?
        }
    };
    let nothing = || Ok(success(&json!({"databases": [], "pagination": {"next": null}})));
    let given = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    let is_logical = matches!(options.kind.as_deref(), None | Some("" | "logical"));
    if given(&options.schema).is_some() || !is_logical {
        return nothing();
    }
    let Some(wanted) = wanted(&api, &call, &options).await? else {
        return nothing();
    };
    let organization = call.organization(&api).await?;
    let cursor = given(&options.cursor);
    let engine = &api.inner.engine;
    let (found, next) = databases::list(engine, call.org(), &wanted, cursor.as_deref(), limit).await?;
    let mut printed = Vec::with_capacity(found.len());
    for database in found {
        let group = api
            .inner
            .control
            .group_of(call.org(), database.known.settings.group)
            .await?;
        let found = Found { database, group };
        printed.push(print::database(&call, &api, &organization, &found));
    }
    Ok(success(&json!({"databases": printed, "pagination": {"next": next}})))
}

/// What is asked for; `None` when nothing can be it.
async fn wanted(api: &Api, call: &Call, options: &ListOptions) -> Result<Option<Wanted>> {
    let control = &api.inner.control;
    let own = call.caller.principal.group();
    let mut wanted = Wanted {
        group: own,
        ..Wanted::default()
    };
    let named = match (&options.group, &options.group_id) {
        (Some(name), _) if !name.is_empty() => Some(control.group(call.org(), name).await?),
        (_, Some(id)) if !id.is_empty() => Some(call.find_group(api, id).await?),
        _ => None,
    };
    if let Some(found) = named {
        let Some(group) = found.filter(|g| own.is_none_or(|id| id == g.id)) else {
            return Ok(None);
        };
        wanted.group = Some(group.id);
    }
    if let Some(name) = options.parent.as_ref().filter(|name| !name.is_empty()) {
        wanted.parent = Some(name.clone());
    } else if let Some(id) = options.parent_db_id.as_ref().filter(|id| !id.is_empty()) {
        let Ok(id) = uuid::Uuid::try_parse(id) else {
            return Ok(None);
        };
        let Some(parent) = databases::by_id(&api.inner.engine, call.org(), id).await? else {
            return Ok(None);
        };
        wanted.parent = Some(parent.name.as_str().to_owned());
    }
    Ok(Some(wanted))
}

/// `POST …/databases`
pub async fn create(State(api): State<Api>, call: Call, request: Request) -> Answer {
    let body = Fields::read(&api, request).await?;
    let name = body.text("name")?.unwrap_or_default();
    if !is_slug(name) {
        return Err(ApiError::invalid(
            "name must be the name of the new database: 1 to 64 of a-z, 0-9 and '-'",
        ));
    }
    let name = NamespaceName::parse(name)?;
    let group = group_of_new(&api, &call, &body).await?;
    if body.get("remote_encryption").is_some_and(|v| !v.is_null()) {
        return Err(ApiError::invalid(
            "remote_encryption is not supported: objects are encrypted by the object store",
        ));
    }
    let size_limit = size_limit(&body)?.flatten();
    let source = seed(&api, &call, &body).await?;
    quota::check_namespaces(&api, call.org()).await?;
    let (engine, control, org) = (&api.inner.engine, &api.inner.control, call.org());
    let creation = Creation {
        settings: SettingsChange {
            group: (group.id != default_group_id(org)).then_some(Some(group.id)),
            size_limit: size_limit.map(Some),
            parent: source.as_ref().map(|(s, _)| s.clone()).filter(|s| *s != name),
            ..SettingsChange::default()
        },
        schema: None,
    };
    let known = engine.create(org, &name, creation).await.map_err(|e| match e.kind {
        ErrorKind::Conflict => Error::new(ErrorKind::Conflict, format!("database {name} already exists")),
        _ => e,
    })?;
    let filled = match &source {
        // The group may have been deleted meanwhile: whoever deletes it has not seen this.
        None => control.check_group_takes(org, group.id).await,
        Some((source, at_ms)) => match control.check_group_takes(org, group.id).await {
            Ok(()) => fill(&api, &call, &name, source, *at_ms).await,
            refused => refused,
        },
    };
    if let Err(error) = filled {
        if let Err(left) = engine.delete(org, &name).await {
            tracing::warn!(namespace = %name, %left, "a database that could not be filled was left");
        }
        return Err(error.into());
    }
    let data = json!({"id": known.id, "group": group.name});
    call.audit(&api, "db-create", name.as_str(), data).await?;
    let organization = call.organization(&api).await?;
    let host = print::host_name(&call, &api, &organization, name.as_str());
    Ok(success(
        &json!({"database": {"DbId": known.id, "Hostname": host, "Name": name.as_str()}}),
    ))
}

/// The group that a new database is to be in, if the caller may create databases in it.
async fn group_of_new(api: &Api, call: &Call, body: &Fields) -> Result<Arc<Group>> {
    let absent = || Error::invalid("group not found");
    let control = &api.inner.control;
    let group = match (body.text("group_id")?, body.text("group")?) {
        (Some(id), _) if !id.is_empty() => {
            let id = uuid::Uuid::try_parse(id).map_err(|_| absent())?;
            control.group_by_id(call.org(), id).await?
        }
        (_, Some(name)) if !name.is_empty() => control.group(call.org(), name).await?,
        _ => control.group(call.org(), DEFAULT_GROUP).await?,
    };
    let group = group.filter(|g| !g.deleting).ok_or_else(absent)?;
    call.permit_in(&[Action::CollectionsCreate], group.id, absent)?;
    Ok(group)
}

/// The database that a new one is to be a copy of, and as of which time, in milliseconds since the epoch; `None`: now. As of
/// a time in the past it may have been deleted since.
async fn seed(api: &Api, call: &Call, body: &Fields) -> Result<Option<(NamespaceName, Option<u64>)>> {
    let Some(seed) = body.object("seed")? else {
        return Ok(None);
    };
    match seed.text("type")? {
        Some("database") => {}
        Some("dump" | "database_upload") => {
            return Err(Error::invalid(
                "dumps and uploads of SQLite are not supported; seed with another database, or write the rows",
            ));
        }
        _ => return Err(Error::invalid("seed.type must be database")),
    }
    let mut at_ms = None;
    if let Some(text) = seed.text("timestamp")?.filter(|t| !t.is_empty()) {
        let at = chrono::DateTime::parse_from_rfc3339(text)
            .map_err(|_| Error::invalid("seed.timestamp must be a time such as 2026-01-31T12:00:00Z"))?;
        // What a client calls now is past when it arrives.
        let now = i64::try_from(api.inner.control.now()).unwrap_or(i64::MAX);
        if now.saturating_sub(at.timestamp()) > 60 {
            let past_ms = u64::try_from(at.timestamp_millis()).unwrap_or(0);
            api.inner.engine.check_kept(past_ms)?;
            at_ms = Some(past_ms);
        }
    }
    let name = match seed.text("name")? {
        Some(name) => name,
        None => seed.text("value")?.unwrap_or_default(),
    };
    let source = match (call.database_named(api, name).await?, at_ms) {
        (Some(source), at_ms) => {
            let source = call.found(api, source, Action::CollectionsGet, name).await?.database;
            // What had the name before may have been in another group.
            match at_ms.is_some_and(|at_ms| at_ms < source.known.created_ms) {
                true => deleted(call, name)?,
                false => source.name,
            }
        }
        (None, Some(_)) => deleted(call, name)?,
        (None, None) => return Err(no_database(name)),
    };
    Ok(Some((source, at_ms)))
}

/// The name of a database that does not exist now, if the caller may read it whichever group it was in.
fn deleted(call: &Call, text: &str) -> Result<NamespaceName> {
    let name = NamespaceName::parse(text).map_err(|_| no_database(text))?;
    match call.caller.may(Action::CollectionsGet, Some(text), None) {
        Ok(()) => Ok(name),
        Err(Denial::Group | Denial::Namespace) => Err(no_database(text)),
        Err(denial) => Err(denial.into()),
    }
}

async fn fill(api: &Api, call: &Call, name: &NamespaceName, source: &NamespaceName, at_ms: Option<u64>) -> Result<()> {
    let from = CopyFrom {
        kind: OriginKind::Copy,
        org: call.org().clone(),
        source: source.clone(),
        guard: None,
        num_shards: None,
        create_namespace: None,
    };
    let (engine, progress) = (&api.inner.engine, Progress::default());
    let copied = match at_ms {
        Some(at_ms) => engine.restore(call.org(), name, &from, at_ms, &progress).await,
        None => engine.copy(call.org(), name, &from, &progress).await,
    };
    copied.map(|_| ())
}

/// `GET …/databases/{database}`
pub async fn get(State(api): State<Api>, call: Call) -> Answer {
    let found = call.database(&api, Action::CollectionsGet).await?;
    let organization = call.organization(&api).await?;
    Ok(success(
        &json!({"database": print::database(&call, &api, &organization, &found)}),
    ))
}

/// `POST …/databases/{database}`: only `dumps` is a path that there is, upstream.
pub async fn dump(State(_): State<Api>, call: Call) -> Answer {
    match call.param("database") {
        "dumps" => Err(ApiError::invalid(
            "dumps of SQLite are not supported; seed with another database, or write the rows",
        )),
        _ => Err(Error::new(ErrorKind::NotFound, "there is no such path").into()),
    }
}

/// `DELETE …/databases/{database}`
pub async fn delete(State(api): State<Api>, call: Call) -> Answer {
    let Found { database, group } = call.database(&api, Action::CollectionsDelete).await?;
    let name = database.name.as_str();
    if group.delete_protection {
        let sentence = format!(
            "database {name} is protected from deletion by its group {}; set its delete_protection to false first",
            group.name
        );
        return Err(Error::new(ErrorKind::Conflict, sentence).into());
    }
    let deleted = api.inner.engine.delete(call.org(), &database.name).await;
    deleted.map_err(|e| match e.kind {
        ErrorKind::NotFound => no_database(name),
        _ => e,
    })?;
    call.audit(&api, "db-delete", name, json!({"id": database.known.id}))
        .await?;
    Ok(success(&json!({"database": name})))
}

/// `GET …/databases/{database}/configuration`
pub async fn configuration(State(api): State<Api>, call: Call) -> Answer {
    let found = call.database(&api, Action::CollectionsGet).await?;
    Ok(success(&print::configuration(&found.database.known.settings)))
}

/// `PATCH …/databases/{database}/configuration`
pub async fn configure(State(api): State<Api>, call: Call, request: Request) -> Answer {
    let found = call.database(&api, Action::CollectionsUpdate).await?;
    let change = parse_configuration(&Fields::read(&api, request).await?)?;
    if change.is_empty() {
        return Ok(success(&print::configuration(&found.database.known.settings)));
    }
    let known = set(&api, &call, &found.database.name, change).await?;
    Ok(success(&print::configuration(&known.settings)))
}

/// Changes the configuration, and notes it.
async fn set(api: &Api, call: &Call, name: &NamespaceName, change: SettingsChange) -> Result<Metadata> {
    let code = match change.delete_protection {
        Some(true) => "db-protect",
        Some(false) => "db-unprotect",
        None => "db-configure",
    };
    let known = api.inner.engine.update_settings(call.org(), name, change).await?;
    let data = json!({"id": known.id, "configuration": print::configuration(&known.settings)});
    call.audit(api, code, name.as_str(), data).await?;
    Ok(known)
}

fn parse_configuration(body: &Fields) -> Result<SettingsChange> {
    Ok(SettingsChange {
        size_limit: size_limit(body)?,
        block_reads: body.boolean("block_reads")?,
        block_writes: body.boolean("block_writes")?,
        allow_attach: body.boolean("allow_attach")?,
        delete_protection: body.boolean("delete_protection")?,
        allowed_ips: allowed_ips(body)?,
        ..SettingsChange::default()
    })
}

/// The limit; `None` when nothing is said of it, and the inner `None` when it is lifted.
fn size_limit(body: &Fields) -> Result<Option<Option<u64>>> {
    let wrong = || Error::invalid("size_limit must be bytes, or a size such as 256mb or 1gb; null lifts the limit");
    let bytes = match body.get("size_limit") {
        None => return Ok(None),
        Some(Json::Null) => 0,
        Some(Json::Number(number)) => number.as_u64().ok_or_else(wrong)?,
        Some(Json::String(text)) if text.is_empty() => 0,
        Some(Json::String(text)) => print::parse_size(text).ok_or_else(wrong)?,
        Some(_) => return Err(wrong()),
    };
    Ok(Some((bytes > 0).then_some(bytes)))
}

/// The networks; `None` when nothing is said of them. An empty list or null lifts the restriction.
fn allowed_ips(body: &Fields) -> Result<Option<Vec<IpNet>>> {
    let wrong = || Error::invalid("allowed_ips must be a list of addresses or networks such as 10.0.0.0/8");
    let listed = match body.get("allowed_ips") {
        None => return Ok(None),
        Some(Json::Null) => return Ok(Some(Vec::new())),
        Some(Json::Array(listed)) => listed,
        Some(_) => return Err(wrong()),
    };
    if listed.len() > ALLOWED_IPS_MAX {
        return Err(Error::invalid(format!(
            "allowed_ips may have at most {ALLOWED_IPS_MAX} networks"
        )));
    }
    let network = |text: &Json| {
        let text = text.as_str()?;
        let network: Option<IpNet> = text.parse().ok();
        network.or_else(|| text.parse().ok().map(|address: std::net::IpAddr| address.into()))
    };
    let parsed: Option<Vec<IpNet>> = listed.iter().map(network).collect();
    parsed.map(Some).ok_or_else(wrong)
}

/// `POST …/databases/{database}/auth/tokens`
pub async fn create_token(
    State(api): State<Api>,
    call: Call,
    options: std::result::Result<Query<TokenOptions>, QueryRejection>,
    request: Request,
) -> Answer {
    let Found { database, group } = call.database(&api, Action::TokensCreate).await?;
    let Query(options) = options.map_err(|_| ApiError::invalid("the query string is not valid"))?;
    let wish = Wish::parse(&options, &Fields::read(&api, request).await?)?;
    let Database { name, known } = &database;
    let control = &api.inner.control;
    let minting = Minting {
        org: call.org(),
        of: TokenOf::Namespace,
        id: known.id,
        name: name.as_str(),
        generation: known.settings.token_gen,
        level: wish.level,
        permissions: wish.permissions,
        expires_at: wish.lifetime.map(|seconds| control.now().saturating_add(seconds)),
    };
    mint::check(&call.caller, &minting, Patterns::only(name.as_str()), group.id)?;
    let jwt = data_token::mint(control, &minting);
    let data = json!({"id": known.id, "level": minting.level.word(), "expires_at": minting.expires_at});
    call.audit(&api, "db-token-create", name.as_str(), data).await?;
    Ok(success(&json!({"jwt": jwt})))
}

/// `POST …/databases/{database}/auth/rotate`
pub async fn rotate(State(api): State<Api>, call: Call) -> Answer {
    let Found { database, .. } = call.database(&api, Action::TokensRotate).await?;
    let change = SettingsChange {
        rotate_tokens: true,
        ..SettingsChange::default()
    };
    let known = api
        .inner
        .engine
        .update_settings(call.org(), &database.name, change)
        .await?;
    let data = json!({"id": known.id, "generation": known.settings.token_gen});
    call.audit(&api, "db-token-rotate", database.name.as_str(), data)
        .await?;
    Ok(success(&json!({})))
}

/// `POST …/databases/{database}/update`
pub async fn update(State(api): State<Api>, call: Call) -> Answer {
    call.database(&api, Action::CollectionsUpdate).await?;
    Ok(success(&json!({})))
}

/// `POST …/databases/{database}/wakeup`
pub async fn wake(State(api): State<Api>, call: Call) -> Answer {
    let found = call.database(&api, Action::CollectionsUpdate).await?;
    api.inner.engine.warm(call.org(), &found.database.name).await?;
    Ok(success(&json!({})))
}

/// `POST …/databases/{database}/transfer`
pub async fn transfer(State(api): State<Api>, call: Call, request: Request) -> Answer {
    let found = call.database(&api, Action::CollectionsUpdate).await?;
    let body = Fields::read(&api, request).await?;
    let organization = call.organization(&api).await?;
    let slug = match body.text("org")? {
        Some(slug) => slug,
        None => body.text("organization")?.unwrap_or_default(),
    };
    match slug == organization.slug {
        true => Ok(success(
            &json!({"database": print::database(&call, &api, &organization, &found)}),
        )),
        false => Err(ApiError::invalid(
            "databases cannot be moved to another organization; copy this one there and delete it here",
        )),
    }
}

/// `POST …/databases/{database}/seed`
pub async fn upload(State(api): State<Api>, call: Call) -> Answer {
    call.database(&api, Action::CollectionsCreate).await?;
    Err(ApiError::invalid(
        "files of SQLite cannot be uploaded; create a database with a seed of type database, or write the rows",
    ))
}

/// `PATCH /v3/…/databases/{database}`: what the object of the database carries there instead of a configuration.
pub async fn configure_by_id(State(api): State<Api>, call: Call, request: Request) -> Answer {
    let mut found = call.database(&api, Action::CollectionsUpdate).await?;
    let body = Fields::read(&api, request).await?;
    let mut change = parse_configuration(&body)?;
    if let Some(rules) = body.object("allow_rules_config")? {
        if rules.list("allowed_aws_vpc_ids")?.is_some_and(|ids| !ids.is_empty()) {
            return Err(ApiError::invalid(
                "allowed_aws_vpc_ids are not supported; use allowed_ips",
            ));
        }
        change.allowed_ips = allowed_ips(&rules)?.or(change.allowed_ips);
    }
    if !change.is_empty() {
        found.database.known = set(&api, &call, &found.database.name, change).await?;
    }
    let organization = call.organization(&api).await?;
    Ok(success(
        &json!({"database": print::database(&call, &api, &organization, &found)}),
    ))
}
