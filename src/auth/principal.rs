//! Who calls, and the one place that decides what they may do.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Map, Value as Json};
use uuid::Uuid;

use crate::control::{Action, ActionSet, Grant};
use crate::error::{Error, ErrorKind};
use crate::model::access::TokenGuard;
use crate::model::{OrgId, Restriction};

/// What kind of credential was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CredentialKind {
    /// A key of the server's start options: everything, in every organization.
    Bootstrap,
    ApiKey,
    /// Derived from a search-only API key by its holder.
    ScopedKey,
    /// A human's session.
    UserToken,
    /// A user's token for programs.
    PlatformToken,
    NamespaceToken,
    GroupToken,
}

impl CredentialKind {
    /// The word in answers and in the audit log.
    pub fn name(self) -> &'static str {
        match self {
            CredentialKind::Bootstrap => "bootstrap",
            CredentialKind::ApiKey => "api_key",
            CredentialKind::ScopedKey => "scoped_key",
            CredentialKind::UserToken => "user_token",
            CredentialKind::PlatformToken => "platform_token",
            CredentialKind::NamespaceToken => "namespace_token",
            CredentialKind::GroupToken => "group_token",
        }
    }
}

/// Whoever a credential stands for.
#[derive(Clone, Debug)]
pub struct Principal {
    pub kind: CredentialKind,
    /// Tells credentials of a kind apart, for logs and audits: a key's or token's id, never its value.
    pub id: String,
    /// The id of the user behind a token of the control plane.
    pub user: Option<String>,
    /// The organization acted in; for tokens of the control plane until a path names it, nobody's.
    pub org: OrgId,
    /// What is allowed is what every grant allows. Empty: nothing, but for bootstrap keys, which everything
    /// is allowed.
    pub chain: Vec<Arc<Grant>>,
    /// The search parameters that the maker of a scoped key embedded, without `expires_at`.
    pub embedded: Option<Arc<Map<String, Json>>>,
    /// Which rows and attributes it may see; `None`: all of them. Whoever has one can search and nothing else.
    pub restriction: Option<Arc<Restriction>>,
    /// The state of namespaces that a namespace or group token is for; the engine checks it.
    pub token: Option<TokenGuard>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    pub action: Action,
    pub org: &'a OrgId,
    /// The namespace it is done to; `None` for what concerns none or all of them.
    pub namespace: Option<&'a str>,
    /// The group, or the group of the namespace, as far as it is known: a grant for one group allows nothing
    /// while it is not.
    pub group: Option<Uuid>,
    /// Seconds since the epoch.
    pub now: u64,
    pub ip: Option<IpAddr>,
}

/// Why something is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The credential does not count any more.
    Expired,
    /// It belongs to another organization: nothing of this one exists for it.
    OtherOrganization,
    /// It does not count from this address.
    Address,
    /// Its grants lack the action.
    Action(Action),
    /// They do not cover the namespace.
    Namespace,
    /// They are for another group.
    Group,
}

impl Denial {
    /// The rule in words, for `POST /v1/auth/explain`.
    pub fn rule(self) -> String {
        match self {
            Denial::Expired => "the credential has expired".into(),
            Denial::OtherOrganization => "the credential belongs to another organization".into(),
            Denial::Address => "the credential may not be used from this address".into(),
            Denial::Action(action) => format!("the credential does not allow {action}"),
            Denial::Namespace => "the credential does not cover this namespace".into(),
            Denial::Group => "the credential is for another group".into(),
        }
    }
}

impl From<Denial> for Error {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::Expired => Error::new(ErrorKind::Unauthenticated, "the credential has expired"),
            Denial::OtherOrganization => Error::new(ErrorKind::NotFound, "organization not found"),
            _ => Error::new(ErrorKind::Forbidden, format!("forbidden: {}", denial.rule())),
        }
    }
}

/// Decides whether somebody may do something. Pure: what it depends on is in its arguments.
///
/// Every grant of the chain has to allow it.
pub fn authorize(principal: &Principal, ask: &Ask<'_>) -> Result<(), Denial> {
    if principal.kind == CredentialKind::Bootstrap {
        return Ok(());
    }
    if principal.chain.is_empty() {
        return Err(Denial::Action(ask.action));
    }
    principal.chain.iter().try_for_each(|grant| allows(grant, ask))
}

fn is_valid(grant: &Grant, now: u64, ip: Option<IpAddr>) -> Result<(), Denial> {
    if grant.not_after.is_some_and(|last| now > last) {
        return Err(Denial::Expired);
    }
    // A server that listens on IPv6 sees IPv4 clients by mapped addresses.
    let ip_covered = |ip: IpAddr| grant.allowed_ips.iter().any(|net| net.contains(&ip.to_canonical()));
    match grant.allowed_ips.is_empty() || ip.is_some_and(ip_covered) {
        true => Ok(()),
        false => Err(Denial::Address),
    }
}

fn allows(grant: &Grant, ask: &Ask<'_>) -> Result<(), Denial> {
    if grant.org != *ask.org {
        return Err(Denial::OtherOrganization);
    }
    is_valid(grant, ask.now, ask.ip)?;
    if !grant.actions.contains(ask.action) {
        return Err(Denial::Action(ask.action));
    }
    if grant.group.is_some() && grant.group != ask.group {
        return Err(Denial::Group);
    }
    match ask.namespace {
        Some(name) if !grant.namespaces.matches(name) => Err(Denial::Namespace),
        _ => Ok(()),
    }
}

impl Principal {
    /// What it may do to some namespace of its organization, at most.
    pub fn actions(&self) -> ActionSet {
        match self.kind {
            CredentialKind::Bootstrap => ActionSet::all(),
            _ if self.chain.is_empty() => ActionSet::NONE,
            _ => self
                .chain
                .iter()
                .fold(ActionSet::all(), |left, grant| left.intersection(grant.actions)),
        }
    }

    /// The one group that it is bound to, if it is.
    pub fn group(&self) -> Option<Uuid> {
        self.chain.iter().find_map(|grant| grant.group)
    }

    /// That it counts now and from this address, whatever is asked for.
    pub fn check_valid(&self, now: u64, ip: Option<IpAddr>) -> Result<(), Denial> {
        self.chain.iter().try_for_each(|grant| is_valid(grant, now, ip))
    }

    /// Whether it may make a credential with this grant: every grant of its own has to cover it. Who sees only
    /// some rows or attributes makes none.
    pub fn may_mint(&self, minted: &Grant) -> bool {
        match self.kind {
            CredentialKind::Bootstrap => true,
            _ if self.restriction.is_some() => false,
            _ => !self.chain.is_empty() && self.chain.iter().all(|grant| grant.covers(minted)),
        }
    }
}

#[cfg(test)]
mod tests;
