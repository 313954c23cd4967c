//! Invitations: an e-mail address may become a member of an organization.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::users::{User, parse_email};
use super::{Control, Organization, Role};
use crate::error::{Error, ErrorKind, Result};
use crate::model::OrgId;
use crate::store::paths::control::{self as paths, Named};

/// The most open invitations of an organization, and of an address.
const INVITES_MAX: usize = 1000;
const INVITED_MAX: usize = 100;

/// The record of an invitation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Invite {
    pub id: u64,
    pub email: String,
    pub role: Role,
    /// Seconds since the epoch.
    pub created_at: u64,
}

/// Where an address was invited to: says where to look.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Invited {
    orgs: BTreeSet<String>,
}

fn not_found(email: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("invite not found: {email}"))
}

impl Control {
    /// The open invitations of an organization, oldest first. Costs one LIST and a GET each.
    pub async fn invites(&self, org: &OrgId) -> Result<Vec<Invite>> {
        let found = self
            .records()
            .values::<Invite>(&paths::all_named(org, Named::Invite))
            .await?;
        let mut invites: Vec<_> = found.into_iter().map(|(_, invite)| invite).collect();
        invites.sort_by(|a, b| (a.created_at, &a.email).cmp(&(b.created_at, &b.email)));
        Ok(invites)
    }

    /// Invites an address. Costs about eight requests.
    ///
    /// # Errors
    ///
    /// 400 for what is no address, or too many; 409 when it was invited, or its user is a member.
    pub async fn invite(&self, organization: &Organization, email: &str, role: Role) -> Result<Invite> {
        let email = parse_email(email)?;
        let org = organization.org_id()?;
        if let Some(user) = self.user_named(&email).await?
            && organization.members.contains_key(&user.id)
        {
            return Err(Error::new(ErrorKind::Conflict, format!("{email} is already a member")));
        }
        if self.invites(&org).await?.len() >= INVITES_MAX {
            return Err(Error::invalid(format!(
                "an organization can have {INVITES_MAX} open invites"
            )));
        }
        let invite = Invite {
            id: 1 + self.runtime().rng.below(u64::from(u32::MAX)),
            email,
            role,
            created_at: self.now(),
        };
        // First where to look.
        let remember = |found: Option<Invited>| {
            let mut invited = found.unwrap_or_default();
            invited.orgs.insert(org.as_str().to_owned());
            match invited.orgs.len() <= INVITED_MAX {
                true => Ok(Some(invited)),
                false => Err(Error::invalid(format!("{} has too many open invites", invite.email))),
            }
        };
        self.records().update(&paths::invited(&invite.email), remember).await?;
        let create = |found: Option<Invite>| match found {
            None => Ok(Some(invite.clone())),
            Some(_) => Err(Error::new(
                ErrorKind::Conflict,
                format!("{} is already invited", invite.email),
            )),
        };
        let record = paths::named(&org, Named::Invite, &invite.email);
        self.records().update(&record, create).await?;
        Ok(invite)
    }

    /// Takes an invitation back, or takes it up: whoever gets it is the only one.
    ///
    /// # Errors
    ///
    /// 404 when there is none.
    pub async fn take_invite(&self, org: &OrgId, email: &str) -> Result<Invite> {
        let email = email.trim().to_ascii_lowercase();
        let mut taken = None;
        let record = paths::named(org, Named::Invite, &email);
        let take = |found: Option<Invite>| {
            taken = found;
            taken.as_ref().map(|_| None).ok_or_else(|| not_found(&email))
        };
        self.records().update(&record, take).await?;
        let forget = |found: Option<Invited>| {
            let mut invited = found.unwrap_or_default();
            invited.orgs.remove(org.as_str());
            Ok((!invited.orgs.is_empty()).then_some(invited))
        };
        self.records().update(&paths::invited(&email), forget).await?;
        taken.ok_or_else(|| not_found(&email))
    }

    /// The organizations whose invitations a user could accept. Costs one LIST and one GET, and one of each per
    /// invitation.
    pub async fn invites_of(&self, user: &User) -> Result<Vec<(Organization, Invite)>> {
        let Some(email) = &user.email else {
            return Ok(Vec::new());
        };
        let invited = self.records().get::<Invited>(&paths::invited(email)).await?;
        let mut open = Vec::new();
        for id in invited.unwrap_or_default().orgs {
            let org = OrgId::parse(&id)?;
            let record = paths::named(&org, Named::Invite, email);
            if let Some(organization) = self.organization(&org).await?
                && let Some(invite) = self.records().get::<Invite>(&record).await?
            {
                open.push((Organization::clone(&organization), invite));
            }
        }
        Ok(open)
    }
}
