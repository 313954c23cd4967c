//! How organizations and their members change.

use std::collections::BTreeMap;

use super::organization::{DEFAULT, SLUG_BYTES_MAX, SlugClaim};
use super::users::{Home, User};
use super::{Control, Organization, Role};
use crate::error::{Error, ErrorKind, Result};
use crate::model::OrgId;
use crate::store::paths::control as paths;

/// The longest name of an organization, in bytes.
const NAME_BYTES_MAX: usize = 128;
/// The most members of an organization, and organizations of a user.
const MEMBERS_MAX: usize = 1000;
const ORGANIZATIONS_MAX: usize = 100;

fn not_found() -> Error {
    Error::new(ErrorKind::NotFound, "organization not found")
}

fn no_member(username: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("member not found: {username}"))
}

/// The slug that a name gives: lower case, everything but letters and digits turned into single dashes.
///
/// # Errors
///
/// 400 when nothing is left, or the name is too long.
pub fn slug_of(name: &str) -> Result<String> {
    if name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(Error::invalid(format!(
            "the name of an organization has at most {NAME_BYTES_MAX} bytes, none of them control characters"
        )));
    }
    let parts = name
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect::<String>();
    let slug = parts.split('-').filter(|p| !p.is_empty()).collect::<Vec<_>>().join("-");
    let slug: String = slug.chars().take(SLUG_BYTES_MAX).collect();
    match slug.trim_end_matches('-') {
        "" => Err(Error::invalid(
            "the name of an organization has at least one of a-z and 0-9",
        )),
        slug => Ok(slug.to_owned()),
    }
}

impl Control {
    /// Changes an organization and tells every node. Costs two LISTs, two GETs and two PUTs.
    ///
    /// # Errors
    ///
    /// 404; `change`'s own.
    pub async fn change_organization(
        &self,
        id: &OrgId,
        mut change: impl FnMut(&mut Organization) -> Result<()>,
    ) -> Result<Organization> {
        let revise = |found: Option<Organization>| {
            let implied = || (id.as_str() == DEFAULT).then(Organization::unwritten_default);
            let mut organization = found.or_else(implied).ok_or_else(not_found)?;
            change(&mut organization)?;
            Ok(Some(organization))
        };
        let written = self.records().update(&paths::org(id), revise).await?;
        self.cache().changed(id).await?;
        written.value.ok_or_else(not_found)
    }

    /// Whether a slug can still be had. Costs one LIST.
    pub async fn is_slug_free(&self, slug: &str) -> Result<bool> {
        Ok(
            slug != DEFAULT && self.records().list(&paths::slug(slug)).await?.is_empty() && {
                let newest = self.records().newest::<SlugClaim>(&paths::slug(slug)).await?;
                newest.is_none()
            },
        )
    }

    /// Makes an organization; slugs are never used twice.
    ///
    /// * `owner` — its first member; nobody when the operator makes it
    ///
    /// Costs three PUTs, and what changing the owner's record costs.
    ///
    /// # Errors
    ///
    /// 400 for a name without a slug; 402 when the owner has too many; 409 when the slug is taken.
    pub async fn create_organization(&self, name: &str, plan: &str, owner: Option<&User>) -> Result<Organization> {
        let slug = slug_of(name)?;
        let taken = || Error::new(ErrorKind::Conflict, format!("organization {slug} already exists"));
        if !self.is_slug_free(&slug).await? {
            return Err(taken());
        }
        if owner.is_some_and(|o| o.organizations.len() >= ORGANIZATIONS_MAX) {
            let sentence = format!("a user can be in {ORGANIZATIONS_MAX} organizations");
            return Err(Error::new(ErrorKind::QuotaExceeded, sentence).coded("quota_organizations"));
        }
        let now = self.now();
        let id = self.runtime().rng.ulid(now * 1000).to_string().to_ascii_lowercase();
        let organization = Organization {
            id: format!("org_{id}"),
            slug: slug.clone(),
            name: name.trim().to_owned(),
            plan: plan.to_owned(),
            created_at: now,
            members: owner
                .iter()
                .map(|o| (o.id.clone(), Role::Owner))
                .collect::<BTreeMap<_, _>>(),
            ..Organization::unwritten_default()
        };
        let id = organization.org_id()?;
        self.records().create(&paths::org(&id), &organization).await?;
        if let Some(owner) = owner {
            self.remember_membership(&owner.id, &id, true).await?;
        }
        // The slug is last: until it is there, nobody finds the organization.
        let claim = SlugClaim {
            org: organization.id.clone(),
        };
        if !self.records().create(&paths::slug(&slug), &claim).await? {
            self.records().remove::<Organization>(&paths::org(&id)).await?;
            if let Some(owner) = owner {
                self.forget_membership(&owner.id, &id).await?;
            }
            return Err(taken());
        }
        // Some node may remember that nobody had the slug.
        self.cache().changed(&OrgId::parse(&slug)?).await?;
        Ok(organization)
    }

    /// Deletes an organization: nothing of it can be reached any more. Whoever calls this has looked that it is
    /// empty. Costs about ten requests, and four per member.
    ///
    /// # Errors
    ///
    /// 400 for the default organization; 404.
    pub async fn delete_organization(&self, organization: &Organization) -> Result<()> {
        if organization.id == DEFAULT {
            return Err(Error::invalid("the default organization cannot be deleted"));
        }
        let id = organization.org_id()?;
        if !self.records().remove::<Organization>(&paths::org(&id)).await? {
            return Err(not_found());
        }
        self.cache().changed(&id).await?;
        for token in self.tokens_in(&id).await? {
            self.revoke_token(&token).await?;
        }
        for member in organization.members.keys() {
            self.forget_membership(member, &id).await?;
        }
        Ok(())
    }

    /// Every organization, by slug: for operators. Costs one LIST, one GET per organization and what each costs
    /// cold.
    pub async fn organizations(&self) -> Result<Vec<Organization>> {
        let claims = self.records().values::<SlugClaim>(&paths::slugs()).await?;
        let mut all = Vec::new();
        all.extend(self.organization(&OrgId::default_org()).await?);
        for (_, claim) in claims {
            all.extend(self.organization(&OrgId::parse(&claim.org)?).await?);
        }
        let mut all: Vec<_> = all.into_iter().map(|o| Organization::clone(&o)).collect();
        all.sort_by(|a, b| a.slug.cmp(&b.slug));
        Ok(all)
    }

    /// The organizations that a user is a member of, with the role, oldest first. Costs nothing warm; one LIST
    /// and one GET each cold.
    pub async fn organizations_of(&self, user: &User) -> Result<Vec<(Organization, Role)>> {
        let mut all = Vec::new();
        for id in &user.organizations {
            if let Some(found) = self.organization(&OrgId::parse(id)?).await?
                && let Some(role) = found.members.get(&user.id)
            {
                all.push((Organization::clone(&found), *role));
            }
        }
        Ok(all)
    }

    /// Makes a user a member. Costs about ten requests.
    ///
    /// # Errors
    ///
    /// 404 when the organization is gone; 409 when the user is a member; 400 when there are too many.
    pub async fn add_member(&self, org: &OrgId, user: &User, role: Role) -> Result<Organization> {
        if let Some(found) = self.organization(org).await?
            && found.members.contains_key(&user.id)
        {
            return Err(already(user));
        }
        // First where to look, so that nobody is a member who does not know.
        self.remember_membership(&user.id, org, false).await?;
        self.change_organization(org, |organization| {
            if organization.members.len() >= MEMBERS_MAX {
                return Err(Error::invalid(format!(
                    "an organization can have {MEMBERS_MAX} members"
                )));
            }
            match organization.members.insert(user.id.clone(), role) {
                None => Ok(()),
                Some(_) => Err(already(user)),
            }
        })
        .await
    }

    /// Gives a member another role, and tells every node.
    ///
    /// * `by` — the role of whoever asks: roles above it can be neither given nor taken
    ///
    /// # Errors
    ///
    /// 403; 404 when the user is no member; 400 when no owner would be left.
    pub async fn change_role(&self, org: &OrgId, user: &User, role: Role, by: Role) -> Result<Organization> {
        self.change_organization(org, |organization| {
            let before = *organization
                .members
                .get(&user.id)
                .ok_or_else(|| no_member(&user.username))?;
            check_rank(by, before.max(role))?;
            organization.members.insert(user.id.clone(), role);
            check_owners(organization, before)
        })
        .await
    }

    /// Ends a membership, and tells every node.
    ///
    /// * `by` — as for [`change_role`](Self::change_role); `None` for members who leave
    ///
    /// # Errors
    ///
    /// As for [`change_role`](Self::change_role).
    pub async fn remove_member(&self, org: &OrgId, user: &User, by: Option<Role>) -> Result<Organization> {
        let organization = self
            .change_organization(org, |organization| {
                let before = organization
                    .members
                    .remove(&user.id)
                    .ok_or_else(|| no_member(&user.username))?;
                by.map_or(Ok(()), |by| check_rank(by, before))?;
                check_owners(organization, before)
            })
            .await?;
        // An invitation of before would let them in again, with the role of then.
        if let Some(email) = &user.email {
            match self.take_invite(org, email).await {
                Err(error) if error.kind != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.forget_membership(&user.id, org).await?;
        Ok(organization)
    }

    /// * `made` — whether the user made the organization
    async fn remember_membership(&self, user: &str, org: &OrgId, made: bool) -> Result<()> {
        self.change_user(user, |user| {
            if user.deleting {
                return Err(super::users::not_found(&user.username));
            }
            user.organizations.insert(org.as_str().to_owned());
            if user.home.as_ref().is_none_or(|home| made && !home.made) {
                let org = org.as_str().to_owned();
                user.home = Some(Home { org, made });
            }
            Ok(())
        })
        .await?;
        Ok(())
    }

    async fn forget_membership(&self, user: &str, org: &OrgId) -> Result<()> {
        let changed = self
            .change_user(user, |user| {
                user.organizations.remove(org.as_str());
                user.home.take_if(|home| home.org == org.as_str());
                Ok(())
            })
            .await;
        match changed {
            Err(error) if error.kind != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn already(user: &User) -> Error {
    Error::new(
        ErrorKind::Conflict,
        format!("user {} is already a member", user.username),
    )
}

/// Nobody gives or takes more than they have.
pub fn check_rank(by: Role, touched: Role) -> Result<()> {
    match touched <= by {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::Forbidden,
            format!("forbidden: a role of {} needs at least that role", touched.name()),
        )),
    }
}

/// An organization that had an owner keeps one. Those that the operator made may have none yet.
pub(super) fn check_owners(organization: &Organization, before: Role) -> Result<()> {
    let has_owner = organization.members.values().any(|role| *role == Role::Owner);
    match before != Role::Owner || has_owner {
        true => Ok(()),
        false => Err(Error::invalid(
            "the last owner cannot leave, be removed or be demoted; make somebody else an owner first",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_give_slugs() {
        let long = "x".repeat(100);
        for (name, slug) in [
            ("Acme", "acme"),
            ("  Acme, Inc. ", "acme-inc"),
            ("a--b", "a-b"),
            ("Ärzte 2", "rzte-2"),
            (&long, &long[..64]),
            ("default", "default"),
        ] {
            assert_eq!(slug_of(name).expect(name), slug);
        }
        for bad in ["", " ", "---", "Ä", "a\nb", &"x".repeat(129)] {
            assert!(slug_of(bad).is_err(), "{bad:?}");
        }
    }
}
