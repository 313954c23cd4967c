//! A request about groups and databases: who calls, what the path and the body name.

use axum::extract::{FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::Response;
use serde_json::{Map, Value as Json};
use std::sync::Arc;
use uuid::Uuid;

use crate::api::Api;
use crate::api::door::Caller;
use crate::api::error::ApiError;
use crate::api::handlers::{json, read_body};
use crate::auth::Denial;
use crate::control::databases::{self, Database};
use crate::control::{Action, Group, Organization};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{NamespaceName, OrgId};

/// The largest body of these requests, in bytes.
const BODY_BYTES_MAX: u64 = 64 * 1024;
/// The longest host name that is repeated in an answer, in bytes.
const HOST_BYTES_MAX: usize = 253;

/// The caller of a request, the parameters of its path, and the host that it was sent to.
pub struct Call {
    pub caller: Caller,
    params: Vec<(String, String)>,
    /// Whether groups and databases may be named by their ids.
    by_id: bool,
    host: Option<String>,
}

/// A database, and the group that it is in.
pub struct Found {
    pub database: Database,
    pub group: Arc<Group>,
}

impl FromRequestParts<Api> for Call {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> std::result::Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, api).await?;
        let params = RawPathParams::from_request_parts(parts, api).await;
        let params = params.map_err(|_| ApiError::invalid("the path is not valid UTF-8"))?;
        let host = parts.headers.get(header::HOST).and_then(|h| h.to_str().ok());
        let host = host.or_else(|| parts.uri.authority().map(|a| a.as_str()));
        Ok(Self {
            caller,
            params: params.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            by_id: parts.uri.path().starts_with("/v3/"),
            host: host.and_then(host_name),
        })
    }
}

/// The name in a `Host` header, without the port; `None` unless it is a plain name or address.
fn host_name(host: &str) -> Option<String> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
    let fits = (1..=HOST_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain);
    fits.then(|| name.to_ascii_lowercase())
}

impl Call {
    /// A parameter of the path. Empty when the path has none of that name.
    pub fn param(&self, name: &str) -> &str {
        let found = self.params.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value)
    }

    /// The id in a text, where ids are understood: below `/v3`, where names are understood, too.
    fn id(&self, text: &str) -> Option<Uuid> {
        self.by_id.then(|| Uuid::try_parse(text).ok()).flatten()
    }

    /// The organization acted in.
    pub fn org(&self) -> &OrgId {
        &self.caller.org
    }

    /// Its record.
    pub async fn organization(&self, api: &Api) -> Result<Arc<Organization>> {
        let found = api.inner.control.organization(self.org()).await?;
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, "organization not found"))
    }

    /// What the host names of databases end with.
    pub fn base_host<'a>(&'a self, api: &'a Api) -> &'a str {
        let set = api.inner.control.place().public_host.as_deref();
        set.or(self.host.as_deref()).unwrap_or("localhost")
    }

    /// Fails unless one of the actions may be done in the group; what is in another group than the caller's is
    /// as good as absent.
    pub fn permit_in(&self, actions: &[Action], group: Uuid, absent: impl Fn() -> Error) -> Result<()> {
        let mut denied = Denial::Group;
        for action in actions {
            match self.caller.may(*action, None, Some(group)) {
                Ok(()) => return Ok(()),
                Err(denial) => denied = denial,
            }
        }
        Err(match denied {
            Denial::Group => absent(),
            other => other.into(),
        })
    }

    /// The group that the path names, if one of the actions may be done to it.
    ///
    /// # Errors
    ///
    /// 404 when there is none, or the caller is for another one.
    pub async fn group(&self, api: &Api, actions: &[Action]) -> Result<Arc<Group>> {
        let text = self.param("group");
        let group = self.find_group(api, text).await?.ok_or_else(|| no_group(text))?;
        self.permit_in(actions, group.id, || no_group(text))?;
        Ok(group)
    }

    /// A group by what this path's version of the API calls it.
    pub async fn find_group(&self, api: &Api, text: &str) -> Result<Option<Arc<Group>>> {
        let control = &api.inner.control;
        match self.id(text) {
            Some(id) => control.group_by_id(self.org(), id).await,
            None => control.group(self.org(), text).await,
        }
    }

    /// The database that the path names, if the action may be done to it. Costs one GET; by id, one for every
    /// database until it is found.
    ///
    /// # Errors
    ///
    /// 404 when there is none, or it is not in the caller's group.
    pub async fn database(&self, api: &Api, action: Action) -> Result<Found> {
        let text = self.param("database");
        // Before anything is looked for: whoever may not, learns nothing.
        self.caller.may(action, None, self.caller.principal.group())?;
        let database = match self.id(text) {
            Some(id) => databases::by_id(&api.inner.engine, self.org(), id).await?,
            None => self.database_named(api, text).await?,
        };
        let database = database.ok_or_else(|| no_database(text))?;
        self.found(api, database, action, text).await
    }

    /// A database by its name; `None` when there is none. Costs one GET.
    pub async fn database_named(&self, api: &Api, text: &str) -> Result<Option<Database>> {
        let Ok(name) = NamespaceName::parse(text) else {
            return Ok(None);
        };
        match api.inner.engine.metadata(self.org(), &name).await {
            Ok(known) => Ok(Some(Database { name, known })),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A database with its group, if the action may be done to it.
    pub async fn found(&self, api: &Api, database: Database, action: Action, text: &str) -> Result<Found> {
        let group = api
            .inner
            .control
            .group_of(self.org(), database.known.settings.group)
            .await?;
        match self.caller.may(action, Some(database.name.as_str()), Some(group.id)) {
            Ok(()) => Ok(Found { database, group }),
            Err(Denial::Group | Denial::Namespace) => Err(no_database(text)),
            Err(denial) => Err(denial.into()),
        }
    }

    /// Writes what was done into the audit log of the organization, before the answer.
    pub async fn audit(&self, api: &Api, code: &'static str, target: &str, data: Json) -> Result<()> {
        super::audit(api, &self.caller, self.org(), code, target, data).await
    }
}

fn shown(text: &str) -> String {
    text.chars().take(128).collect()
}

/// 404 for a group.
pub fn no_group(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("group not found: {}", shown(name)))
}

/// 404 for a database.
pub fn no_database(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("database not found: {}", shown(name)))
}

/// The JSON object of a request's body, its keys in lower case: some clients write them with capitals. An empty body
/// has no fields. What is not known is ignored, as upstream.
pub struct Fields(Map<String, Json>);

impl Fields {
    /// Reads the body; its content type says nothing.
    ///
    /// # Errors
    ///
    /// 400 when it is no JSON object; 413 above 64 KiB.
    pub async fn read(api: &Api, request: Request) -> std::result::Result<Self, ApiError> {
        let (_, body) = read_body(api, request, BODY_BYTES_MAX).await?;
        Ok(Self::parse(&body.bytes)?)
    }

    /// Parses a body.
    pub fn parse(body: &[u8]) -> Result<Self> {
        if body.trim_ascii().is_empty() {
            return Ok(Self(Map::new()));
        }
        match serde_json::from_slice(body) {
            Ok(Json::Object(fields)) => Ok(Self::of(fields)),
            Ok(Json::Null) => Ok(Self(Map::new())),
            Ok(_) => Err(Error::invalid("the body must be a JSON object")),
            Err(e) => Err(Error::invalid(format!("the body is not valid JSON: {e}"))),
        }
    }

    fn of(fields: Map<String, Json>) -> Self {
        let lower = fields.into_iter().map(|(key, value)| (key.to_ascii_lowercase(), value));
        Self(lower.collect())
    }

    /// A field as it came; `None` when it is absent.
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.0.get(name)
    }

    /// A text; `None` when it is absent or null.
    pub fn text(&self, name: &str) -> Result<Option<&str>> {
        match self.get(name) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::String(text)) => Ok(Some(text)),
            Some(_) => Err(Error::invalid(format!("{name} must be a string"))),
        }
    }

    /// A boolean; `None` when it is absent or null.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>> {
        match self.get(name) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(Error::invalid(format!("{name} must be true or false"))),
        }
    }

    /// An object; `None` when it is absent or null.
    pub fn object(&self, name: &str) -> Result<Option<Fields>> {
        match self.get(name) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::Object(fields)) => Ok(Some(Fields::of(fields.clone()))),
            Some(_) => Err(Error::invalid(format!("{name} must be an object"))),
        }
    }

    /// A list; `None` when it is absent or null.
    pub fn list(&self, name: &str) -> Result<Option<&Vec<Json>>> {
        match self.get(name) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::Array(items)) => Ok(Some(items)),
            Some(_) => Err(Error::invalid(format!("{name} must be a list"))),
        }
    }
}

/// A success: always with a body, or the official client fails.
pub fn success(body: &Json) -> Response {
    json(StatusCode::OK, body.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_repeated_only_when_they_are_plain() {
        for (host, expected) in [
            ("db.example", Some("db.example")),
            ("DB.example:8080", Some("db.example")),
            ("127.0.0.1:80", Some("127.0.0.1")),
            ("", None),
            (":80", None),
            ("a b", None),
            ("[::1]:80", None),
            ("x\"y", None),
            ("user@host", None),
        ] {
            assert_eq!(host_name(host).as_deref(), expected, "{host:?}");
        }
        assert_eq!(host_name(&"a".repeat(254)), None);
    }

    #[test]
    fn bodies_are_read_by_content() {
        for empty in ["", "  ", "{}", "null"] {
            assert!(Fields::parse(empty.as_bytes()).expect(empty).0.is_empty());
        }
        let fields = Fields::parse(br#"{"Name": "a", "Flag": true, "none": null, "list": [1]}"#).expect("an object");
        assert_eq!(fields.text("name").expect("text"), Some("a"));
        assert_eq!(fields.boolean("flag").expect("boolean"), Some(true));
        assert_eq!(fields.text("none").expect("null"), None);
        assert!(fields.text("flag").is_err() && fields.boolean("name").is_err() && fields.object("list").is_err());
        for bad in ["[]", "1", "{", "\"x\"", "\u{0}"] {
            assert_eq!(Fields::parse(bad.as_bytes()).err().expect(bad).kind, ErrorKind::Invalid);
        }
    }
}
