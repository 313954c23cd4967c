//! What stands between a request and one namespace besides its name.
//!
//! Who is asking, and for which namespaces and actions, is decided before, from names alone. What only
//! the namespace itself knows is decided here: whether a token still fits it, where requests may come
//! from, what is blocked, and which of its rows and attributes may be seen.
//!
//! # What stays true
//!
//! - A [`Guard`] is asked about the state that the request uses: a query's newest snapshot, a write's
//!   log slot. Hence what is rotated or blocked counts for every consistent request that begins
//!   afterwards, on every node.
//! - What is restricted can search and nothing else.
//! - Refusals name no row, no value and no attribute.

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use uuid::Uuid;

use super::write::Write;
use super::{Filter, Invalid, NamespaceName, Schema, Settings};
use crate::error::{Error, ErrorKind, Result};

/// The attribute that holds, as JSON, what documents of Typesense's clients have besides the fields that are
/// declared. Whoever must not see some attribute sees none of it.
pub const UNDECLARED: &str = "_undeclared";

/// What a request may do with the namespace that it names.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Of requests that came with a token for some namespaces.
    pub token: Option<TokenGuard>,
    /// Where the request came from; `None` when that is not known, which no `allowed_ips` contain.
    pub ip: Option<IpAddr>,
    /// Which rows and attributes may be seen; `None`: all of them.
    pub restriction: Option<Arc<Restriction>>,
    /// Whether writes may create the namespace.
    pub may_create: bool,
    /// Whether writes may add or change attributes of a namespace that exists.
    pub may_change_schema: bool,
    /// Which operations on rows writes may have.
    pub writes: Writes,
    /// What is blocked in the whole organization.
    pub blocked: Blocked,
}

/// Which operations on rows are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writes {
    pub upsert: bool,
    pub patch: bool,
    pub delete: bool,
}

impl Default for Writes {
    fn default() -> Self {
        Self {
            upsert: true,
            patch: true,
            delete: true,
        }
    }
}

/// Which state of a namespace a token was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenGuard {
    /// One namespace, until its tokens are rotated.
    Namespace {
        id: Uuid,
        /// [`Settings::token_gen`].
        generation: u64,
    },
    /// All namespaces of a group.
    Group {
        id: Uuid,
        /// Whether it is the organization's group `default`, which namespaces without a group are in.
        is_default: bool,
    },
}

/// What is blocked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blocked {
    pub reads: bool,
    pub writes: bool,
}

/// Which rows and attributes a caller may see.
#[derive(Clone, Debug, Default)]
pub struct Restriction {
    /// All of them hold for the rows that may be seen.
    pub filters: Vec<Arc<dyn MandatoryFilter>>,
    /// The attributes that may be seen; `None`: all. `id` is always among them.
    pub include: Option<Vec<String>>,
    /// Attributes that must not be seen. `id` can be filtered and ordered by all the same, but is in no result.
    pub exclude: Vec<String>,
    /// The most rows of an answer.
    pub top_k_max: Option<usize>,
}

impl Restriction {
    /// Whether an attribute is as good as absent.
    pub fn hides(&self, attribute: &str) -> bool {
        if attribute == UNDECLARED && !self.exclude.is_empty() {
            // What must not be seen may be in it.
            return true;
        }
        let named = |names: &[String]| names.iter().any(|n| n == attribute);
        self.excludes(attribute) || self.include.as_ref().is_some_and(|names| !named(names))
    }

    fn excludes(&self, attribute: &str) -> bool {
        self.exclude.iter().any(|excluded| is_excluded_by(excluded, attribute))
    }

    /// Whether results come without their ids.
    pub fn hides_id(&self) -> bool {
        self.excludes("id")
    }
}

/// Whether an excluded name means an attribute: the attribute itself, what it is nested in, or a pattern with `*` for
/// any characters, as Typesense understands them. Read too widely it hides too much; read as a plain name it would
/// show what somebody meant to hide.
fn is_excluded_by(excluded: &str, attribute: &str) -> bool {
    let Some((first, rest)) = excluded.split_once('*') else {
        let after = attribute.strip_prefix(excluded);
        return after.is_some_and(|after| after.is_empty() || after.starts_with('.'));
    };
    let Some(mut left) = attribute.strip_prefix(first) else {
        return false;
    };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

/// A filter that is no part of a query and holds for all its rows.
pub trait MandatoryFilter: fmt::Debug + Send + Sync {
    /// The filter as it is for a namespace with this schema. Pure: the same schema gives the same
    /// filter.
    ///
    /// # Errors
    ///
    /// It makes no sense for this schema; nothing may be seen then.
    fn compile(&self, schema: &Schema) -> Result<Filter, Invalid>;
}

impl MandatoryFilter for Filter {
    fn compile(&self, _: &Schema) -> Result<Filter, Invalid> {
        Ok(self.clone())
    }
}

impl Default for Guard {
    /// Lets everything pass that the settings of the namespace do not forbid.
    fn default() -> Self {
        Self {
            token: None,
            ip: None,
            restriction: None,
            may_create: true,
            may_change_schema: true,
            writes: Writes::default(),
            blocked: Blocked::default(),
        }
    }
}

/// What a request is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Rows that the guard lets pass are found or counted.
    Search,
    /// All rows are read.
    Read,
    /// Rows or schema are written.
    Write,
    /// What is known of the namespace is read or set, or the namespace itself is deleted: not
    /// subject to blocks, or nobody could lift them.
    Manage,
}

/// A namespace in one state.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub name: &'a NamespaceName,
    pub exists: bool,
    /// `None` when it does not exist, or so newly that nobody has seen its id.
    pub id: Option<Uuid>,
    pub settings: &'a Settings,
}

/// Decides whether a request may go on, as far as the state of its namespace tells.
///
/// * `guard` — `None` for the deployment's own work, which comes from nowhere and needs no token
///
/// # Errors
///
/// 401 when its token is not for this namespace; 403 when something else forbids it, with a code
/// when that is a block.
pub fn check(guard: Option<&Guard>, access: Access, target: &Target<'_>) -> Result<()> {
    admit(guard, access, target)?;
    check_blocks(guard, access, target)
}

/// The part of [`check`] that is about the caller: a request that was carried out already is told so
/// to nobody else, but to its caller also when further ones are blocked.
pub fn admit(guard: Option<&Guard>, access: Access, target: &Target<'_>) -> Result<()> {
    let Some(guard) = guard else { return Ok(()) };
    guard.check_restriction(access)?;
    if let Some(token) = &guard.token
        && !token.fits(target)
    {
        return Err(Error::new(
            ErrorKind::Unauthenticated,
            "the token is not valid for this namespace",
        ));
    }
    let networks = &target.settings.allowed_ips;
    // A server that listens on IPv6 sees IPv4 clients by mapped addresses.
    let ip = guard.ip.map(|ip| ip.to_canonical());
    match networks.is_empty() || ip.is_some_and(|ip| networks.iter().any(|n| n.contains(&ip))) {
        true => Ok(()),
        false => Err(forbidden(format!(
            "namespace '{}' does not take requests from your address; whoever may configure it can change its \
             allowed_ips",
            target.name
        ))),
    }
}

/// The part of [`check`] that is about what is blocked.
pub fn check_blocks(guard: Option<&Guard>, access: Access, target: &Target<'_>) -> Result<()> {
    let (kind, of_namespace, code) = match access {
        Access::Search | Access::Read => ("reads", target.settings.block_reads, "blocked_reads"),
        Access::Write => ("writes", target.settings.block_writes, "blocked_writes"),
        Access::Manage => return Ok(()),
    };
    let blocked = guard.map_or_else(Blocked::default, |g| g.blocked);
    let of_organization = match access {
        Access::Write => blocked.writes,
        _ => blocked.reads,
    };
    if of_organization {
        return Err(forbidden(format!(
            "{kind} are blocked for this organization; its owner or the operator of this deployment can lift that"
        ))
        .coded(code));
    }
    match of_namespace {
        true => Err(forbidden(format!(
            "{kind} of namespace '{}' are blocked; whoever may configure it can lift that with block_{kind}",
            target.name
        ))
        .coded(code)),
        false => Ok(()),
    }
}

impl Guard {
    /// Whether what is restricted may be done at all, which no state of a namespace changes.
    ///
    /// # Errors
    ///
    /// 403.
    pub fn check_restriction(&self, access: Access) -> Result<()> {
        match self.restriction.is_some() && access != Access::Search {
            true => Err(forbidden(
                "this key can only search: it is limited to some rows or attributes",
            )),
            false => Ok(()),
        }
    }
}

impl Guard {
    /// That a write has no operation which the caller lacks. No state of a namespace changes it.
    ///
    /// # Errors
    ///
    /// 403.
    pub fn check_operations(&self, write: &Write) -> Result<()> {
        let upserts = write.upserts.is_some();
        let patches = write.patches.is_some() || write.patch_by_filter.is_some();
        let deletes = write.deletes.is_some() || write.delete_by_filter.is_some();
        let missing = [
            (upserts && !self.writes.upsert, "documents:upsert"),
            (patches && !self.writes.patch, "documents:update"),
            (deletes && !self.writes.delete, "documents:delete"),
        ];
        match missing.iter().find(|(is_missing, _)| *is_missing) {
            Some((_, action)) => Err(forbidden(format!("forbidden: the credential does not allow {action}"))),
            None => Ok(()),
        }
    }
}

impl TokenGuard {
    fn fits(&self, target: &Target<'_>) -> bool {
        match *self {
            TokenGuard::Namespace { id, generation } => {
                target.id == Some(id) && target.settings.token_gen == generation
            }
            TokenGuard::Group { id, is_default } => {
                target.exists && target.settings.group.map_or(is_default, |group| group == id)
            }
        }
    }
}

/// 403 with this sentence.
pub fn forbidden(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Forbidden, message)
}
