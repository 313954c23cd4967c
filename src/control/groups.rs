//! Groups: where the namespaces of an organization are, and whose tokens count for all of them.
//!
//! # What stays true
//!
//! - A group is there when the record of its name points to its own record. The record is written first, so
//!   that a crash in between leaves a record that nobody finds, and never a name without a group.
//! - Every organization has a group `default` without a write. Its id follows from the organization's, and
//!   its record is written when something about it is changed.
//! - A group that is being deleted takes no namespaces and no tokens; whoever creates a namespace looks
//!   afterwards whether its group still is.
//!
//! # Cost
//!
//! Looking a group up is free while it is remembered (`control::cache`); else one LIST and one GET by id, two
//! of each by name.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Control;
use super::organization::is_slug;
use crate::error::{Error, ErrorKind, Result};
use crate::model::OrgId;
use crate::store::paths::control as paths;

/// The group that every organization has.
pub const DEFAULT_GROUP: &str = "default";

/// The record of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    pub id: Uuid,
    pub name: String,
    /// The code of the location where its namespaces are.
    pub primary: String,
    /// Codes; the primary one is the first.
    pub locations: Vec<String>,
    /// Which generation of its tokens is valid. Older ones are revoked.
    #[serde(default)]
    pub token_gen: u64,
    #[serde(default)]
    pub delete_protection: bool,
    /// Whether its deletion has begun.
    #[serde(default)]
    pub deleting: bool,
    /// Seconds since the epoch.
    pub created_at: u64,
}

/// Which group has a name.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct NameClaim {
    group: Uuid,
}

/// The id of an organization's group `default`.
pub fn default_group_id(org: &OrgId) -> Uuid {
    let hash = digest(&SHA256, format!("shoal default group\0{org}").as_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hash.as_ref()[..16]);
    uuid::Builder::from_custom_bytes(id).into_uuid()
}

fn absent(name: &str) -> Error {
    let shown: String = name.chars().take(64).collect();
    Error::new(ErrorKind::NotFound, format!("group not found: {shown}"))
}

impl Control {
    /// The group that namespaces without one are in, as it is before anybody changed it.
    fn unwritten_default(&self, org: &OrgId) -> Group {
        let region = self.place().region.clone();
        Group {
            id: default_group_id(org),
            name: DEFAULT_GROUP.into(),
            primary: region.clone(),
            locations: vec![region],
            token_gen: 0,
            delete_protection: false,
            deleting: false,
            created_at: 0,
        }
    }

    /// A group by its id, also while it is being deleted; `None` when there is none. Remembered.
    pub async fn group_by_id(&self, org: &OrgId, id: Uuid) -> Result<Option<Arc<Group>>> {
        let load = || async move {
            let found = self.records().get::<Group>(&paths::group(org, id)).await?;
            let implied = || (id == default_group_id(org)).then(|| self.unwritten_default(org));
            Ok(found.or_else(implied))
        };
        self.cache().get(org, &format!("group/{org}/{id}"), load).await
    }

    /// A group by its name, also while it is being deleted; `None` when there is none. Remembered.
    pub async fn group(&self, org: &OrgId, name: &str) -> Result<Option<Arc<Group>>> {
        if name == DEFAULT_GROUP {
            return self.group_by_id(org, default_group_id(org)).await;
        }
        if !is_slug(name) {
            return Ok(None);
        }
        let load = || async move { Ok(self.records().get::<NameClaim>(&paths::group_name(org, name)).await?) };
        let claim = self.cache().get(org, &format!("group-name/{org}/{name}"), load).await?;
        let Some(claim) = claim else { return Ok(None) };
        let found = self.group_by_id(org, claim.group).await?;
        // The name of a group that was renamed meanwhile is nobody's.
        Ok(found.filter(|group| group.name == name))
    }

    /// A group by its name.
    ///
    /// # Errors
    ///
    /// 404 when there is none.
    pub async fn existing_group(&self, org: &OrgId, name: &str) -> Result<Arc<Group>> {
        self.group(org, name).await?.ok_or_else(|| absent(name))
    }

    /// The group of a namespace whose settings say `id`. A group that is gone is as good as a nameless one.
    pub async fn group_of(&self, org: &OrgId, id: Option<Uuid>) -> Result<Arc<Group>> {
        let id = id.unwrap_or_else(|| default_group_id(org));
        let gone = || {
            Arc::new(Group {
                id,
                name: String::new(),
                ..self.unwritten_default(org)
            })
        };
        Ok(self.group_by_id(org, id).await?.unwrap_or_else(gone))
    }

    /// All groups, `default` first, the others by name. Costs two LISTs and two GETs per group.
    pub async fn groups(&self, org: &OrgId) -> Result<Vec<Arc<Group>>> {
        let claims = self.records().values::<NameClaim>(&paths::group_names(org)).await?;
        let mut groups = vec![self.existing_group(org, DEFAULT_GROUP).await?];
        let mut named = Vec::with_capacity(claims.len());
        for (key, claim) in claims {
            let Some(name) = paths::parse_named(&key) else { continue };
            let found = self.group_by_id(org, claim.group).await?;
            named.extend(found.filter(|group| group.name == name));
        }
        named.sort_by(|a, b| a.name.cmp(&b.name));
        groups.extend(named);
        Ok(groups)
    }

    /// Creates a group. Of several who create one name at the same time, on any nodes, one succeeds.
    ///
    /// * `location` — a code; the deployment's own if absent
    ///
    /// Costs five PUTs, two LISTs and two GETs.
    ///
    /// # Errors
    ///
    /// 400 for a name that no group may have or an unknown location; 402 for a location that this deployment
    /// does not serve; 409 when the name is taken.
    pub async fn create_group(&self, org: &OrgId, name: &str, location: Option<&str>) -> Result<Arc<Group>> {
        check_name(name)?;
        let primary = match location {
            Some(code) => self.place().own(code)?,
            None => self.place().region.clone(),
        };
        let taken = || Error::new(ErrorKind::Conflict, format!("group {name} already exists"));
        // Said before anything is written; decided by the claim.
        if self.group(org, name).await?.is_some() {
            return Err(taken());
        }
        let group = Group {
            id: self.runtime().rng.uuid(),
            name: name.to_owned(),
            locations: vec![primary.clone()],
            primary,
            token_gen: 0,
            delete_protection: false,
            deleting: false,
            created_at: self.now(),
        };
        let record = paths::group(org, group.id);
        if !self.records().create(&record, &group).await? {
            return Err(Error::new(ErrorKind::Internal, "internal error"));
        }
        if let Err(error) = self.claim_group_name(org, name, group.id).await {
            // Nobody finds it without a name; removed for tidiness.
            if let Err(left) = self.records().remove::<Group>(&record).await {
                tracing::debug!(%left, "a group without a name was left");
            }
            return Err(match error.kind {
                ErrorKind::Conflict => taken(),
                _ => error,
            });
        }
        // That there was no such group may be remembered elsewhere.
        self.cache().changed(org).await?;
        Ok(Arc::new(group))
    }

    async fn claim_group_name(&self, org: &OrgId, name: &str, id: Uuid) -> Result<()> {
        let claim = |claimed: Option<NameClaim>| match claimed {
            Some(other) if other.group != id => {
                Err(Error::new(ErrorKind::Conflict, format!("group {name} already exists")))
            }
            _ => Ok(Some(NameClaim { group: id })),
        };
        let record = paths::group_name(org, name);
        self.records().update(&record, claim).await.map(|_| ())
    }

    /// Changes a group and tells every node; returns it as it is then. Costs two PUTs, two LISTs and two GETs.
    ///
    /// * `change` — may be called again when others change it at the same time
    ///
    /// # Errors
    ///
    /// `change`'s own; 404 when it is gone.
    pub async fn update_group(
        &self,
        org: &OrgId,
        id: Uuid,
        change: impl Fn(&mut Group) -> Result<()>,
    ) -> Result<Arc<Group>> {
        let next = |found: Option<Group>| {
            let implied = || (id == default_group_id(org)).then(|| self.unwritten_default(org));
            let mut group = found.or_else(implied).ok_or_else(|| absent(&id.to_string()))?;
            change(&mut group)?;
            Ok(Some(group))
        };
        let written = self.records().update(&paths::group(org, id), next).await?;
        self.cache().changed(org).await?;
        let group = written.value.ok_or_else(|| absent(&id.to_string()))?;
        Ok(Arc::new(group))
    }

    /// Revokes all tokens of a group: those of its namespaces stay. Counts on this node at once, on others when
    /// they look next. Costs as [`update_group`](Self::update_group).
    pub async fn rotate_group(&self, org: &OrgId, id: Uuid) -> Result<Arc<Group>> {
        let rotate = |group: &mut Group| {
            group.token_gen += 1;
            Ok(())
        };
        self.update_group(org, id, rotate).await
    }

    /// Gives a group another name.
    ///
    /// # Errors
    ///
    /// 400 for the group `default` and for names that no group may have; 409 when the name is taken.
    pub async fn rename_group(&self, org: &OrgId, group: &Group, name: &str) -> Result<Arc<Group>> {
        if group.id == default_group_id(org) {
            return Err(Error::invalid(
                "the group default cannot be renamed: it is where databases without a group are",
            ));
        }
        check_name(name)?;
        if name == group.name {
            return Ok(Arc::new(group.clone()));
        }
        if name == DEFAULT_GROUP {
            return Err(Error::new(ErrorKind::Conflict, "group default already exists"));
        }
        self.claim_group_name(org, name, group.id).await?;
        let rename = |group: &mut Group| {
            group.name = name.to_owned();
            Ok(())
        };
        let renamed = self.update_group(org, group.id, rename).await?;
        let old = paths::group_name(org, &group.name);
        self.records().remove::<NameClaim>(&old).await?;
        self.cache().changed(org).await?;
        Ok(renamed)
    }

    /// Begins to delete a group: from now on it takes no namespaces and no tokens. May be repeated.
    ///
    /// # Errors
    ///
    /// 409 when it is protected.
    pub async fn begin_group_deletion(&self, org: &OrgId, id: Uuid) -> Result<Arc<Group>> {
        let mark = |group: &mut Group| {
            if group.delete_protection {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!(
                        "group {} is protected from deletion; set delete_protection to false first",
                        group.name
                    ),
                ));
            }
            group.deleting = true;
            Ok(())
        };
        self.update_group(org, id, mark).await
    }

    /// Takes the beginning of a deletion back.
    pub async fn abandon_group_deletion(&self, org: &OrgId, id: Uuid) -> Result<()> {
        let clear = |group: &mut Group| {
            group.deleting = false;
            Ok(())
        };
        self.update_group(org, id, clear).await.map(|_| ())
    }

    /// Ends the deletion of a group without namespaces. The group `default` goes on with another generation of
    /// tokens.
    pub async fn finish_group_deletion(&self, org: &OrgId, group: &Group) -> Result<()> {
        if group.id == default_group_id(org) {
            let anew = |group: &mut Group| {
                group.deleting = false;
                group.token_gen += 1;
                Ok(())
            };
            return self.update_group(org, group.id, anew).await.map(|_| ());
        }
        let name = paths::group_name(org, &group.name);
        self.records().remove::<NameClaim>(&name).await?;
        self.records().remove::<Group>(&paths::group(org, group.id)).await?;
        self.cache().changed(org).await
    }

    /// Fails when a group that a namespace was put into is gone, or going. Costs one LIST and one GET.
    ///
    /// # Errors
    ///
    /// 400, as for a group that never was.
    pub async fn check_group_takes(&self, org: &OrgId, id: Uuid) -> Result<()> {
        let found = self.records().get::<Group>(&paths::group(org, id)).await?;
        let takes = found.map_or(id == default_group_id(org), |group| !group.deleting);
        match takes {
            true => Ok(()),
            false => Err(Error::invalid("group not found")),
        }
    }
}

/// Fails unless a group may have the name.
fn check_name(name: &str) -> Result<()> {
    match is_slug(name) {
        true => Ok(()),
        false => Err(Error::invalid(
            "the name of a group must have 1 to 64 of a-z, 0-9 and '-'",
        )),
    }
}

#[cfg(test)]
mod tests;
