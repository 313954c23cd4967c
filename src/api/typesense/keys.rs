//! `/keys`: API keys of the caller's organization, as Typesense has them (api-keys reference §2-3).

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{Method, StatusCode};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use crate::api::door::Caller;
use crate::api::error::{Answer, ApiError};
use crate::api::handlers::{self, read_body};
use crate::api::openapi::operations_keys as described;
use crate::api::{Api, Route, minting, needs, route};
use crate::control::audit::Event;
use crate::control::keys::rows::RowFilter;
use crate::control::keys::{KeyRecord, Limited, NEVER, NewKey, is_search_only, value};
use crate::control::mints::{Attempt, Begun};
use crate::control::{Action, Hidden, Quota, RateLimits};
use crate::error::{Error, ErrorKind};

/// The longest body, in bytes.
const BODY_BYTES_MAX: u64 = 128 * 1024;
/// The longest description, in bytes.
const DESCRIPTION_BYTES_MAX: usize = 4096;
/// The most entries of each list.
const ENTRIES_MAX: usize = 256;
/// Fields of a key that clients send back as they got them; they mean nothing in a request.
const IGNORED: &[&str] = &["id", "value_prefix", "key_prefix"];

/// The routes of keys.
pub fn routes() -> Vec<Route> {
    use Action::{KeysCreate, KeysDelete, KeysGet, KeysList};
    vec![
        route(
            Method::POST,
            "/keys",
            needs::keys(&[KeysCreate]),
            create,
            described::create_key,
        ),
        route(
            Method::GET,
            "/keys",
            needs::keys(&[KeysList]),
            list,
            described::list_keys,
        ),
        route(
            Method::GET,
            "/keys/{id}",
            needs::keys(&[KeysGet]),
            get,
            described::get_key,
        ),
        route(
            Method::DELETE,
            "/keys/{id}",
            needs::keys(&[KeysDelete]),
            delete,
            described::delete_key,
        ),
    ]
}

/// What a new key is to be. Read by hand, so that errors are those that clients know.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code, reason = "describes what a parser reads; no value is ever made")]
pub struct KeyRequest {
    description: String,
    /// Such as `documents:search`, `documents:*` or `*`.
    actions: Vec<String>,
    /// Names, globs or regular expressions; empty for all.
    collections: Vec<String>,
    /// The key itself, where clients may choose it.
    value: Option<String>,
    /// Seconds since the epoch; never if absent.
    expires_at: Option<u64>,
    /// Whether it is deleted once it has expired.
    autodelete: Option<bool>,
    /// A filter, or a text in Typesense's syntax, that holds for every row that the key finds. For search-only keys.
    filter: Option<Json>,
    /// The same as a filter of queries.
    filters: Option<Vec<Json>>,
    /// The only attributes that the key sees. For search-only keys.
    include_fields: Option<Vec<String>>,
    /// Attributes that the key does not see. For search-only keys.
    exclude_fields: Option<Vec<String>>,
    /// Networks that the key may be used from, such as `10.0.0.0/8`.
    allowed_ips: Option<Vec<String>>,
    limits: Option<KeyLimits>,
}

/// How much a key may do in a second.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code, reason = "describes what a parser reads; no value is ever made")]
pub struct KeyLimits {
    #[schemars(range(min = 1))]
    queries_per_second: Option<u32>,
    #[schemars(range(min = 1))]
    writes_per_second: Option<u32>,
}

/// A key as it is shown.
#[derive(Serialize, JsonSchema)]
pub struct KeyShown {
    id: u64,
    /// In the answer to its creation only, and not in one that is repeated for an `Idempotency-Key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// What the value begins with.
    value_prefix: String,
    /// The same.
    key_prefix: String,
    description: String,
    actions: Vec<String>,
    collections: Vec<String>,
    /// Seconds since the epoch; 64723363199 for never.
    expires_at: u64,
    autodelete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    include_fields: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    exclude_fields: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed_ips: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<KeyLimits>")]
    limits: Option<RateLimits>,
}

/// All keys of an organization.
#[derive(Serialize, JsonSchema)]
pub struct KeyList {
    keys: Vec<KeyShown>,
}

/// Which key was deleted.
#[derive(Serialize, JsonSchema)]
pub struct KeyDeleted {
    id: u64,
}

fn shown(id: u64, record: KeyRecord, value: Option<&Hidden>) -> KeyShown {
    let limited = record.limited;
    let filters = limited.filters.iter().map(RowFilter::to_json);
    KeyShown {
        id,
        value: value.map(|v| v.reveal().to_owned()),
        value_prefix: record.prefix.clone(),
        key_prefix: record.prefix,
        description: record.description,
        actions: record.actions,
        collections: record.collections,
        expires_at: record.expires_at,
        autodelete: record.autodelete,
        filter: filters.reduce(|a, b| json!(["And", [a, b]])),
        include_fields: limited.include_fields,
        exclude_fields: limited.exclude_fields,
        allowed_ips: limited.allowed_ips.iter().map(IpNet::to_string).collect(),
        limits: Some(limited.limits).filter(|l| !l.is_empty()),
    }
}

fn print(status: StatusCode, body: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(body).expect("keys are made of what JSON has");
    Ok(handlers::json(status, body))
}

/// `POST /keys`
pub async fn create(State(api): State<Api>, caller: Caller, request: Request) -> Answer {
    let (headers, body) = read_body(&api, request, BODY_BYTES_MAX).await?;
    let auth = &api.inner.auth;
    let mut new = parse(&body.bytes, auth.allows_custom_values())?;
    if new
        .value
        .as_ref()
        .is_some_and(|v| auth.is_bootstrap(v.reveal().as_bytes()))
    {
        return Err(Error::new(ErrorKind::Conflict, "API key generation conflict.").into());
    }
    let grant = new.grant(&caller.org)?;
    if !caller.principal.may_mint(&grant) {
        return Err(Error::new(
            ErrorKind::Forbidden,
            "a key can only make keys that may do what it may do itself",
        )
        .into());
    }
    new.created_by = format!("{}:{}", caller.principal.kind.name(), caller.principal.id);
    let attempt = match minting::begin(&api, &caller, "key", &headers, &body.bytes).await? {
        None => None,
        Some(Begun::New(attempt)) => Some(attempt),
        Some(Begun::Made(id)) => return again(&api, &caller, &id).await,
    };
    let (id, record, value) = match make(&api, &caller, new, attempt.as_ref()).await {
        Ok(made) => made,
        Err(error) => {
            minting::failed(&api, attempt.as_ref(), &error).await;
            return Err(error.into());
        }
    };
    let control = &api.inner.control;
    if let Some(attempt) = &attempt
        && !control.finish_mint(attempt, &id.to_string()).await?
    {
        control.delete_key(&caller.org, id).await?;
        return Err(attempt.overtaken().into());
    }
    print(StatusCode::CREATED, &shown(id, record, value.as_ref()))
}

/// Makes a key whose maker may; without its value when it is one that an earlier attempt left.
async fn make(
    api: &Api,
    caller: &Caller,
    mut new: NewKey,
    attempt: Option<&Attempt>,
) -> Result<(u64, KeyRecord, Option<Hidden>), Error> {
    let control = &api.inner.control;
    new.attempt = attempt.map(|attempt| attempt.name.clone());
    if let Some(before) = attempt.and_then(|attempt| attempt.before.as_deref())
        && let Some(id) = control.key_of_attempt(&caller.org, before).await?
        && let Some(record) = control.key(&caller.org, id).await?
    {
        // Perhaps once more: who made it may not have come to it.
        note(api, caller, "key-create", id, &record).await?;
        return Ok((id, record, None));
    }
    let organization = control.organization(&caller.org).await?;
    if let Some(organization) = organization {
        let count = || async { Ok::<_, Error>(control.keys(&caller.org).await?.len() as u64) };
        if control.plan(&organization).quotas.keys.is_some() {
            control.check_quota(&organization, Quota::Keys, count().await?)?;
        }
    }
    let made = control.create_key(&caller.org, new).await?;
    if let Err(error) = note(api, caller, "key-create", made.id, &made.record).await {
        // Nobody has seen its value.
        control.delete_key(&caller.org, made.id).await?;
        return Err(error);
    }
    Ok((made.id, made.record, Some(made.value)))
}

/// The answer to a request that made a key before: the key, without its value.
async fn again(api: &Api, caller: &Caller, id: &str) -> Answer {
    let found = match id.parse() {
        Ok(id) => api.inner.control.key(&caller.org, id).await?.map(|record| (id, record)),
        Err(_) => None,
    };
    let (id, record) = found.ok_or_else(|| minting::deleted("key"))?;
    print(StatusCode::CREATED, &shown(id, record, None))
}

/// `GET /keys`
pub async fn list(State(api): State<Api>, caller: Caller) -> Answer {
    let keys = api.inner.control.keys(&caller.org).await?;
    let keys = keys.into_iter().map(|(id, record)| shown(id, record, None)).collect();
    print(StatusCode::OK, &KeyList { keys })
}

/// `GET /keys/{id}`
pub async fn get(State(api): State<Api>, caller: Caller, id: Result<Path<String>, PathRejection>) -> Answer {
    let id = id_of(id)?;
    let record = api.inner.control.key(&caller.org, id).await?.ok_or_else(absent)?;
    print(StatusCode::OK, &shown(id, record, None))
}

/// `DELETE /keys/{id}`
pub async fn delete(State(api): State<Api>, caller: Caller, id: Result<Path<String>, PathRejection>) -> Answer {
    let id = id_of(id)?;
    let control = &api.inner.control;
    let record = control.key(&caller.org, id).await?.ok_or_else(absent)?;
    if !control.delete_key(&caller.org, id).await? {
        return Err(absent().into());
    }
    note(&api, &caller, "key-delete", id, &record).await?;
    print(StatusCode::OK, &KeyDeleted { id })
}

fn absent() -> Error {
    Error::new(ErrorKind::NotFound, "Not found.")
}

fn id_of(path: Result<Path<String>, PathRejection>) -> Result<u64, ApiError> {
    let id = path.ok().filter(|Path(text)| text.bytes().all(|b| b.is_ascii_digit()));
    let id = id.and_then(|Path(text)| text.parse().ok());
    Ok(id.ok_or_else(absent)?)
}

async fn note(api: &Api, caller: &Caller, code: &'static str, id: u64, record: &KeyRecord) -> Result<(), Error> {
    let event = Event {
        code,
        org: caller.org.clone(),
        actor: format!("{}:{}", caller.principal.kind.name(), caller.principal.id),
        author: caller.principal.user.clone(),
        ip: caller.ip,
        target: id.to_string(),
        data: json!({
            "prefix": record.prefix,
            "description": record.description,
            "actions": record.actions,
            "collections": record.collections,
            "expires_at": record.expires_at,
        }),
    };
    api.inner.control.audit(event).await
}

/// A new key of its body; the order of checks is Typesense's.
fn parse(body: &[u8], allows_values: bool) -> Result<NewKey, Error> {
    let mut fields: Map<String, Json> = serde_json::from_slice(body).map_err(|_| Error::invalid("Bad JSON."))?;
    for name in ["description", "actions", "collections"] {
        if !fields.contains_key(name) {
            return Err(Error::invalid(format!("Could not find a `{name}` key.")));
        }
    }
    IGNORED.iter().for_each(|name| drop(fields.remove(*name)));
    let mut take = |name: &str| fields.remove(name).filter(|value| !value.is_null());
    let value = match take("value") {
        None => None,
        Some(Json::String(value)) => Some(value),
        Some(_) => return Err(Error::invalid("Key value must be a string.")),
    };
    let Some(Json::String(description)) = take("description") else {
        return Err(Error::invalid("Key description must be a string."));
    };
    if description.len() > DESCRIPTION_BYTES_MAX {
        return Err(Error::invalid(format!(
            "Key description must have at most {DESCRIPTION_BYTES_MAX} bytes."
        )));
    }
    let actions = texts("actions", take("actions"))?.filter(|list| !list.is_empty());
    let actions = actions.ok_or_else(|| not_texts("actions"))?;
    let mut collections = texts("collections", take("collections"))?.ok_or_else(|| not_texts("collections"))?;
    if collections.is_empty() {
        collections.push("*".into());
    }
    let expires_at = match take("expires_at") {
        None => NEVER,
        Some(at) => at
            .as_u64()
            .ok_or_else(|| Error::invalid("Wrong format for `expires_at`. It should be an unsigned integer."))?,
    };
    let autodelete = match take("autodelete") {
        None => false,
        Some(Json::Bool(autodelete)) => autodelete,
        Some(_) => return Err(Error::invalid("Wrong format for `autodelete`. It should be a boolean.")),
    };
    let value = match value {
        None => None,
        Some(_) if !allows_values => {
            return Err(Error::invalid(
                "Key values are made by the server; leave out `value`, or set allow_custom_key_values.",
            ));
        }
        Some(value) => {
            value::check_custom(&value).map_err(Error::invalid)?;
            Some(Hidden::new(value))
        }
    };
    let limited = limited(&mut take)?;
    if limited.restricts() && !is_search_only(&actions) {
        return Err(Error::invalid(
            "Filters and fields are for keys whose only action is `documents:search`.",
        ));
    }
    if let Some(unknown) = fields.keys().next() {
        // A restriction that is mistyped must not be passed over.
        let unknown: String = unknown.chars().take(64).collect();
        return Err(Error::invalid(format!("Keys have no field `{unknown}`.")));
    }
    Ok(NewKey {
        description,
        actions,
        collections,
        value,
        expires_at: expires_at.min(NEVER),
        autodelete,
        limited,
        created_by: String::new(),
        attempt: None,
    })
}

fn limited(take: &mut impl FnMut(&str) -> Option<Json>) -> Result<Limited, Error> {
    let mut filters = Vec::new();
    for (name, native_only) in [("filter", false), ("filters", true)] {
        if let Some(given) = take(name) {
            if native_only && !given.is_array() {
                return Err(Error::invalid("Wrong format for `filters`. It should be an array."));
            }
            let parsed = RowFilter::parse(&given);
            filters.push(parsed.map_err(|e| Error::invalid(format!("Wrong format for `{name}`: {}.", e.message)))?);
        }
    }
    let include_fields = texts("include_fields", take("include_fields"))?;
    let exclude_fields = texts("exclude_fields", take("exclude_fields"))?.unwrap_or_default();
    let networks = texts("allowed_ips", take("allowed_ips"))?.unwrap_or_default();
    let allowed_ips: Option<Vec<IpNet>> = networks.iter().map(|text| network(text)).collect();
    let allowed_ips = allowed_ips.ok_or_else(|| {
        Error::invalid(
            "Wrong format for `allowed_ips`. It should be an array of addresses or networks such as 10.0.0.0/8.",
        )
    })?;
    if allowed_ips.len() > 64 {
        return Err(Error::invalid("`allowed_ips` may have at most 64 networks."));
    }
    let limits: RateLimits = match take("limits") {
        None => RateLimits::default(),
        Some(limits) => RateLimits::deserialize(limits).ok().filter(is_positive).ok_or_else(|| {
            Error::invalid(
                "Wrong format for `limits`. It should be an object with `queries_per_second` and `writes_per_second`, \
                 integers of at least 1.",
            )
        })?,
    };
    Ok(Limited {
        filters,
        include_fields,
        exclude_fields,
        allowed_ips,
        limits,
    })
}

fn is_positive(limits: &RateLimits) -> bool {
    ![limits.queries_per_second, limits.writes_per_second].contains(&Some(0))
}

fn network(text: &str) -> Option<IpNet> {
    let address = || {
        text.parse::<std::net::IpAddr>()
            .ok()
            .map(|ip| IpNet::from(ip.to_canonical()))
    };
    text.parse::<IpNet>().ok().map(|net| net.trunc()).or_else(address)
}

fn not_texts(name: &str) -> Error {
    Error::invalid(format!("Wrong format for `{name}`. It should be an array of string."))
}

fn texts(name: &str, given: Option<Json>) -> Result<Option<Vec<String>>, Error> {
    let list = match given {
        None => return Ok(None),
        Some(Json::Array(list)) => list,
        Some(_) => return Err(not_texts(name)),
    };
    if list.len() > ENTRIES_MAX {
        return Err(Error::invalid(format!(
            "`{name}` may have at most {ENTRIES_MAX} entries."
        )));
    }
    let texts = list.into_iter().map(|entry| match entry {
        Json::String(text) if text.len() <= 256 => Some(text),
        _ => None,
    });
    texts
        .collect::<Option<Vec<_>>>()
        .map(Some)
        .ok_or_else(|| not_texts(name))
}

#[cfg(test)]
mod tests;
