//! In front of every handler: who calls, and may they?
//!
//! Looks up what the route needs (one table, `routes()`), takes the credential, finds the principal, and
//! authorises what the path says. Handlers get the outcome as a [`Caller`] and authorise what their bodies
//! say besides.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use axum::extract::{FromRequestParts, MatchedPath, RawPathParams, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use uuid::Uuid;

use super::client_ip::ClientIp;
use super::error::ApiError;
use super::needs::{Needs, Subject};
use super::platform;
use super::{Api, metering};
use crate::auth::{self, Ask, Credential, Denial, Origin, Principal, Shown, TYPESENSE_KEY};
use crate::control::Action;
use crate::error::{Error, ErrorKind};
use crate::model::OrgId;
use crate::model::access::{Blocked, Guard};

const ORG: HeaderName = HeaderName::from_static("x-shoal-org");

/// Who sent a request that was let in.
#[derive(Clone, Debug)]
pub struct Caller {
    pub principal: Arc<Principal>,
    /// The organization acted in.
    pub org: OrgId,
    pub ip: Option<IpAddr>,
    /// Seconds since the epoch when the request came.
    pub now: u64,
}

impl Caller {
    fn ask<'a>(&'a self, action: Action, namespace: Option<&'a str>, group: Option<Uuid>) -> Ask<'a> {
        Ask {
            action,
            org: &self.org,
            namespace,
            group,
            now: self.now,
            ip: self.ip,
        }
    }

    /// What the caller may do with a namespace, for the engine to check on the namespace's own state. What the
    /// organization has used up is no part of it: `metering::admit` answered that.
    pub fn guard(&self, namespace: &str) -> Guard {
        let ask = self.ask(Action::DocumentsSearch, Some(namespace), None);
        auth::guard_of(&self.principal, ask, Blocked::default())
    }

    /// The same in this server's own language.
    ///
    /// # Errors
    ///
    /// 403 when a scoped key embeds what only Typesense's search routes apply.
    pub fn native_guard(&self, namespace: &str) -> Result<Guard, Error> {
        let ask = self.ask(Action::DocumentsSearch, Some(namespace), None);
        auth::native_guard_of(&self.principal, ask, Blocked::default())
    }

    /// Whether every grant covers a namespace's name.
    pub fn covers(&self, namespace: &str) -> bool {
        self.principal
            .chain
            .iter()
            .all(|grant| grant.namespaces.matches(namespace))
    }

    /// Whether an action is allowed.
    ///
    /// * `namespace` — what it is done to, if it is done to one
    /// * `group` — the namespace's group, or the group itself, if it is known
    pub fn may(&self, action: Action, namespace: Option<&str>, group: Option<Uuid>) -> Result<(), Denial> {
        auth::authorize(&self.principal, &self.ask(action, namespace, group))
    }

    /// Fails unless the action may be done to the namespace.
    pub fn require(&self, action: Action, namespace: &str) -> Result<(), Error> {
        Ok(self.may(action, Some(namespace), None)?)
    }

    /// Fails unless the action is allowed in the organization, apart from namespaces.
    pub fn require_in_org(&self, action: Action) -> Result<(), Error> {
        Ok(self.may(action, None, None)?)
    }
}

impl FromRequestParts<Api> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Caller>().cloned();
        // A route that lets everybody in and whose handler asks for a caller is a mistake in the table.
        caller.ok_or_else(|| Error::new(ErrorKind::Internal, "internal error").into())
    }
}

/// What the route of a request needs; `None` when there is no such route.
pub fn needs_of(method: &Method, path: &str) -> Option<Needs> {
    static NEEDS: OnceLock<HashMap<(Method, &'static str), Needs>> = OnceLock::new();
    let all: &HashMap<(Method, &str), Needs> = NEEDS.get_or_init(|| {
        let routes = super::routes().into_iter();
        routes.map(|r| ((r.method, r.path), r.needs)).collect()
    });
    let find = |method: Method| all.get(&(method, path)).copied();
    // GET handlers answer HEAD, too.
    find(method.clone()).or_else(|| (method == Method::HEAD).then(|| find(Method::GET)).flatten())
}

/// Lets a request in, or answers it.
pub async fn door(
    State(api): State<Api>,
    matched: MatchedPath,
    params: Result<RawPathParams, axum::extract::rejection::RawPathParamsRejection>,
    request: Request,
    next: Next,
) -> Response {
    // Where there is no route, nothing but "no such method" is answered.
    let Some(needs) = needs_of(request.method(), matched.as_str()) else {
        return next.run(request).await;
    };
    let (mut parts, body) = request.into_parts();
    match enter(&api, needs, params.ok().as_ref(), &parts).await {
        Ok(caller) => {
            if let Some(caller) = caller {
                parts.extensions.insert(caller);
            }
            next.run(Request::from_parts(parts, body)).await
        }
        Err(error) => ApiError::from(error).into_response(),
    }
}

async fn enter(
    api: &Api,
    needs: Needs,
    params: Option<&RawPathParams>,
    parts: &Parts,
) -> Result<Option<Caller>, Error> {
    let Some(surface) = needs.surface else {
        return Ok(None);
    };
    let ip = parts.extensions.get::<ClientIp>().map(|client| client.0);
    let headers = &parts.headers;
    let credential = credential_of(headers, parts.uri.query(), needs.is_search)?;
    let origin = Origin {
        ip,
        org: headers.get(ORG).map(|slug| slug.to_str().unwrap_or_default()),
    };
    let known = api.inner.auth.authenticate(&credential, surface, origin).await;
    let mut principal = known.map_err(|e| metering::unknown(api, ip, e))?;
    let param = |name: &str| params?.iter().find(|(key, _)| *key == name).map(|(_, value)| value);
    if matches!(needs.subject, Subject::Organization | Subject::InGroup) {
        let named = platform::Named::of(parts.uri.path(), param("org"));
        platform::enter(&api.inner.control, &mut principal, named).await?;
    }
    let caller = Caller {
        org: principal.org.clone(),
        principal: Arc::new(principal),
        ip,
        now: api.inner.control.now(),
    };
    let namespace = match needs.subject {
        Subject::Namespace => param("namespace").or_else(|| param("collection")),
        Subject::Nothing | Subject::Organization | Subject::InGroup => None,
    };
    let group = match needs.subject {
        Subject::InGroup => caller.principal.group(),
        _ => None,
    };
    let denied = needs.any_of.iter().map(|action| caller.may(*action, namespace, group));
    match denied.reduce(|best, next| if best.is_ok() { best } else { next }) {
        Some(Err(denial)) => {
            let named = namespace.or_else(|| param("org"));
            Err(metering::denied(api, needs, &caller, named.unwrap_or_default(), denial))
        }
        Some(Ok(())) | None => {
            metering::admit(api, needs, &parts.method, &caller).await?;
            Ok(Some(caller))
        }
    }
}

/// The one credential of a request.
fn credential_of(headers: &HeaderMap, query: Option<&str>, is_search: bool) -> Result<Credential, Error> {
    let parameter = query.filter(|_| is_search).and_then(|query| {
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs.find(|(name, _)| name.eq_ignore_ascii_case(TYPESENSE_KEY))
    });
    let key = HeaderName::from_static(TYPESENSE_KEY);
    Credential::of(Shown {
        authorization: the_one(headers, &header::AUTHORIZATION)?,
        header: the_one(headers, &key)?,
        parameter: parameter.as_ref().map(|(_, value)| value.as_bytes()),
    })
}

/// A header that says one thing. Who is in front of this server may have looked at another one of several.
fn the_one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, Error> {
    let mut all = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let first = all.next();
    match all.all(|other| Some(other) == first) {
        true => Ok(first),
        false => Err(Error::invalid("the request shows several keys that differ; send one")),
    }
}

/// Whoever a key stands for that a body names in `field`, such as the key of another organization.
///
/// # Errors
///
/// 401, whatever else the request names.
pub async fn second_caller(api: &Api, caller: &Caller, field: &str, key: &str) -> Result<Caller, Error> {
    let invalid = |e: Error| match e.kind {
        ErrorKind::Unauthenticated => auth::refused(&format!("{field} is not a valid api key")),
        _ => e,
    };
    let credential = Credential::new(key.as_bytes()).map_err(invalid)?;
    let origin = Origin {
        ip: caller.ip,
        org: None,
    };
    let found = api
        .inner
        .auth
        .authenticate(&credential, auth::Surface::Data, origin)
        .await;
    // Or keys could be tried here as often as one likes.
    let principal = found
        .map_err(|e| metering::unknown(api, caller.ip, e))
        .map_err(invalid)?;
    Ok(Caller {
        org: principal.org.clone(),
        principal: Arc::new(principal),
        ..caller.clone()
    })
}
