//! Users: people who sign in, and own the platform tokens of programs.
//!
//! # What stays true
//!
//! - A user exists while the record does; names and e-mail addresses are claims that point to it. The record
//!   is written first and removed first, so that a claim without a record is free to be taken.
//! - Passwords are kept as Argon2id hashes; nothing else of them.
//! - Whether somebody is a member is said by the organization's record alone. The user's list of organizations
//!   says where to look.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::organization_changes::check_owners;
use super::password::PasswordHash;
use super::{Control, Role};
use crate::error::{Error, ErrorKind, Result};
use crate::model::OrgId;
use crate::store::paths::control as paths;

/// The longest user name and e-mail address, in bytes.
const NAME_BYTES_MAX: usize = 64;
const EMAIL_BYTES_MAX: usize = 254;
/// The longest full name, in bytes.
const FULL_NAME_BYTES_MAX: usize = 256;

/// The record of a user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct User {
    pub id: String,
    /// Unique; what people sign in with and are named by.
    pub username: String,
    #[serde(default)]
    pub name: String,
    /// Unique, in lower case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Whoever has none cannot sign in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<PasswordHash>,
    /// Sessions that began before this do not count, in seconds since the epoch.
    pub valid_from: u64,
    /// Seconds since the epoch.
    pub created_at: u64,
    /// Ids of the organizations to look for the user in.
    #[serde(default)]
    pub organizations: BTreeSet<String>,
    /// The organization that is meant where none is named: the first that the user made, else the first that the
    /// user came into. Nobody changes it by making the user a member of another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<Home>,
    /// Whether the user is about to be deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleting: bool,
    /// Platform tokens that were made before this do not count, in seconds since the epoch.
    #[serde(default)]
    pub tokens_from: u64,
}

/// A user's own organization.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Home {
    /// Its id.
    pub org: String,
    /// Whether the user made it.
    pub made: bool,
}

/// A user to be made.
#[derive(Clone, Debug, Default)]
pub struct NewUser {
    pub username: String,
    pub name: String,
    pub email: Option<String>,
    pub password: Option<PasswordHash>,
}

/// Who has a name or an e-mail address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct NameClaim {
    user: String,
}

/// What is remembered of a user is remembered as if the user were an organization: both are told apart by
/// how their ids begin.
pub(super) fn scope_of(user: &str) -> Result<OrgId> {
    OrgId::parse(user).map_err(|_| not_found(user))
}

pub(super) fn not_found(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("user not found: {name}"))
}

/// Checks a user name: 1 to 64 of `a-z`, `0-9`, `-`, `_`, `.`, beginning with a letter or digit.
pub fn check_username(name: &str) -> Result<()> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    match first && name.len() <= NAME_BYTES_MAX && name.bytes().all(allowed) {
        true => Ok(()),
        false => Err(Error::invalid(
            "a username has 1 to 64 of a-z, 0-9, '-', '_' and '.', and begins with a letter or digit",
        )),
    }
}

/// Checks a full name: at most 256 bytes that can be printed.
pub fn check_full_name(name: &str) -> Result<()> {
    match name.len() <= FULL_NAME_BYTES_MAX && !name.chars().any(char::is_control) {
        true => Ok(()),
        false => Err(Error::invalid(
            "name must have at most 256 bytes, none of them control characters",
        )),
    }
}

/// An e-mail address as it is compared: in lower case. Only what tells it from a name is checked.
pub fn parse_email(text: &str) -> Result<String> {
    let email = text.trim().to_ascii_lowercase();
    let parts = email.split_once('@');
    let visible = email
        .chars()
        .all(|c| !c.is_whitespace() && !c.is_control() && c != '/' && c != '\\');
    let good = email.len() <= EMAIL_BYTES_MAX
        && visible
        && parts.is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'));
    match good {
        true => Ok(email),
        false => Err(Error::invalid("email must be an address such as ana@example.test")),
    }
}

impl Control {
    /// A user by id; `None` when there is none. Remembered.
    ///
    /// Costs nothing warm; one LIST and one GET cold.
    pub async fn user(&self, id: &str) -> Result<Option<Arc<User>>> {
        let Ok(scope) = scope_of(id) else { return Ok(None) };
        self.cache()
            // The key names the user: those of one shard share a memory.
            .get(&scope, &format!("user/{id}"), || async {
                Ok(self.records().get::<User>(&paths::user(id)).await?)
            })
            .await
    }

    /// A user by name or e-mail address. Costs one LIST and one GET, and those of [`user`](Self::user).
    pub async fn user_named(&self, name: &str) -> Result<Option<Arc<User>>> {
        if name.is_empty() || name.len() > EMAIL_BYTES_MAX {
            return Ok(None);
        }
        let name = name.to_ascii_lowercase();
        let claim = self.records().get::<NameClaim>(&paths::user_name(&name)).await?;
        let Some(claim) = claim else { return Ok(None) };
        let user = self.user(&claim.user).await?;
        // A claim counts only as long as the user's record agrees.
        Ok(user.filter(|u| u.username == name || u.email.as_deref() == Some(&name)))
    }

    /// Makes a user.
    ///
    /// Costs three PUTs, two LISTs and what looking at rivals costs.
    ///
    /// # Errors
    ///
    /// 400 for names and addresses that cannot be; 409 when somebody has one of them.
    pub async fn create_user(&self, new: NewUser) -> Result<User> {
        check_username(&new.username)?;
        check_full_name(&new.name)?;
        let email = new.email.as_deref().map(parse_email).transpose()?;
        let now = self.now();
        let id = self.runtime().rng.ulid(now * 1000).to_string().to_ascii_lowercase();
        let user = User {
            id: format!("user_{id}"),
            username: new.username,
            name: new.name,
            email,
            password: new.password,
            valid_from: now,
            created_at: now,
            organizations: BTreeSet::new(),
            home: None,
            deleting: false,
            tokens_from: 0,
        };
        self.records().create(&paths::user(&user.id), &user).await?;
        let mut claimed = Vec::new();
        for name in [Some(&user.username), user.email.as_ref()].into_iter().flatten() {
            match self.claim_name(name, &user.id).await {
                Ok(()) => claimed.push(name),
                Err(error) => {
                    self.records().remove::<User>(&paths::user(&user.id)).await?;
                    for name in claimed {
                        self.release_name(name, &user.id).await?;
                    }
                    return Err(error);
                }
            }
        }
        Ok(user)
    }

    async fn claim_name(&self, name: &str, user: &str) -> Result<()> {
        // A claim that the user behind it does not share any more may be taken.
        if let Some(holder) = self.user_named(name).await? {
            debug_assert_ne!(holder.id, user);
            return Err(Error::new(ErrorKind::Conflict, format!("user {name} already exists")));
        }
        let mut stale = None;
        let record = paths::user_name(name);
        if let Some(found) = self.records().get::<NameClaim>(&record).await? {
            // Nobody has it by what was just read, and ids are never used twice.
            stale = self.user(&found.user).await?.is_none().then_some(found.user);
        }
        let change = |found: Option<NameClaim>| match found {
            Some(found) if stale.as_ref() != Some(&found.user) => {
                Err(Error::new(ErrorKind::Conflict, format!("user {name} already exists")))
            }
            _ => Ok(Some(NameClaim { user: user.into() })),
        };
        self.records().update(&record, change).await?;
        Ok(())
    }

    async fn release_name(&self, name: &str, user: &str) -> Result<()> {
        let foreign = || Error::new(ErrorKind::NotFound, "there is no such name");
        let change = |found: Option<NameClaim>| match found {
            Some(found) if found.user == user => Ok(None),
            _ => Err(foreign()),
        };
        match self.records().update(&paths::user_name(name), change).await {
            Err(error) if error.kind != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Changes a user and tells every node. Costs two LISTs, two GETs and two PUTs.
    ///
    /// # Errors
    ///
    /// 404 when there is no such user; `change`'s own.
    pub async fn change_user(&self, id: &str, mut change: impl FnMut(&mut User) -> Result<()>) -> Result<User> {
        let scope = scope_of(id)?;
        let revise = |user: Option<User>| {
            let mut user = user.ok_or_else(|| not_found(id))?;
            change(&mut user)?;
            Ok(Some(user))
        };
        let written = self.records().update(&paths::user(id), revise).await?;
        self.cache().changed(&scope).await?;
        written.value.ok_or_else(|| not_found(id))
    }

    /// Ends every session of a user that began before now; returns from when on sessions count, in seconds
    /// since the epoch.
    pub async fn end_sessions(&self, id: &str) -> Result<u64> {
        let now = self.now();
        let user = self
            .change_user(id, |user| {
                user.end_sessions(now);
                Ok(())
            })
            .await?;
        Ok(user.valid_from)
    }

    /// From now on the user can come into no organization, or again.
    async fn mark_deleting(&self, id: &str, deleting: bool) -> Result<User> {
        let mark = |user: &mut User| {
            user.deleting = deleting;
            Ok(())
        };
        self.change_user(id, mark).await
    }

    /// Ends every membership of a user who can come into no further organization. Either all end, or none.
    async fn leave_all(&self, user: &User) -> Result<()> {
        // What was known of the user may be older than the mark.
        let known = self.records().get::<User>(&paths::user(&user.id)).await?;
        let mut left: Vec<(OrgId, Role)> = Vec::new();
        for org in known.map(|user| user.organizations).unwrap_or_default() {
            let org = OrgId::parse(&org)?;
            match self.end_membership(&org, &user.id).await {
                Ok(role) => left.extend(role.map(|role| (org, role))),
                Err(error) => {
                    for (org, role) in left {
                        self.change_organization(&org, |found| {
                            found.members.entry(user.id.clone()).or_insert(role);
                            Ok(())
                        })
                        .await?;
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Ends one, and says what the role was; `None` when there was none.
    async fn end_membership(&self, org: &OrgId, user: &str) -> Result<Option<Role>> {
        let mut role = None;
        let ended = self
            .change_organization(org, |found| {
                role = found.members.remove(user);
                let Some(role) = role else {
                    return Err(Error::new(ErrorKind::NotFound, "there is no such member"));
                };
                check_owners(found, role).map_err(|_| {
                    let sentence = format!(
                        "user is the last owner of organization {}; make somebody else an owner",
                        found.slug
                    );
                    Error::new(ErrorKind::Conflict, sentence)
                })
            })
            .await;
        match ended {
            Ok(_) => Ok(role),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes a user: first the memberships, each of which the organization's own record may refuse to end; then the
    /// record, by which every session and token ends; then tokens and names. Repeating it finishes what a crash left.
    ///
    /// # Errors
    ///
    /// 404; 409 when an organization would be left without an owner.
    pub async fn delete_user(&self, user: &User) -> Result<()> {
        let scope = scope_of(&user.id)?;
        self.mark_deleting(&user.id, true).await?;
        if let Err(error) = self.leave_all(user).await {
            self.mark_deleting(&user.id, false).await?;
            return Err(error);
        }
        self.records().remove::<User>(&paths::user(&user.id)).await?;
        self.cache().changed(&scope).await?;
        for token in self.tokens_of(&user.id).await? {
            self.revoke_token(&token).await?;
        }
        for name in [Some(&user.username), user.email.as_ref()].into_iter().flatten() {
            self.release_name(name, &user.id).await?;
        }
        Ok(())
    }
}

impl User {
    /// Makes sessions that began until now count no more.
    ///
    /// * `now` — seconds since the epoch
    pub fn end_sessions(&mut self, now: u64) {
        // Sessions that began in this very second have to end, too, also those that began after earlier ones were
        // ended in it.
        self.valid_from = self.valid_from.max(now) + 1;
    }

    /// Makes platform tokens that were made until now count no more.
    ///
    /// * `now` — seconds since the epoch
    pub fn end_tokens(&mut self, now: u64) {
        self.tokens_from = self.tokens_from.max(now) + 1;
    }
}

#[cfg(test)]
mod tests;
