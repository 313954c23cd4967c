//! Organizations and what their members may do.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Action, ActionSet, Control, GRACE};
use crate::base::Runtime;
use crate::error::{Error, ErrorKind, Result};
use crate::model::OrgId;
use crate::store::Store;
use crate::store::paths::control as paths;
use crate::store::record::Records;

/// The slug, and id, of the organization that single-tenant deployments use without knowing.
pub const DEFAULT: &str = "default";
/// The longest slug, in bytes.
pub const SLUG_BYTES_MAX: usize = 64;

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Viewer,
    Member,
    Admin,
    Owner,
}

impl Role {
    /// The role of that name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "viewer" => Some(Role::Viewer),
            "member" => Some(Role::Member),
            "admin" => Some(Role::Admin),
            "owner" => Some(Role::Owner),
            _ => None,
        }
    }

    /// The name in answers.
    pub fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Member => "member",
            Role::Admin => "admin",
            Role::Owner => "owner",
        }
    }

    /// Owner: all. Admin: all but deleting the organization. Member: data, namespaces, own tokens. Viewer:
    /// reading.
    pub fn actions(self) -> ActionSet {
        let all = ActionSet::all();
        let of = |resources: &[&str]| -> ActionSet {
            let wanted = all.iter().filter(|a| resources.contains(&a.resource()));
            wanted.collect()
        };
        let read: ActionSet = all
            .iter()
            .filter(|a| {
                let name = a.name();
                let reads = [":get", ":list", ":search", ":export"]
                    .iter()
                    .any(|end| name.ends_with(end));
                reads && a.resource() != "keys" && a.resource() != "audit"
            })
            .collect();
        match self {
            Role::Owner => all,
            Role::Admin => all.without(ActionSet::from_iter([Action::OrganizationsDelete])),
            Role::Member => {
                let data = of(&[
                    "documents",
                    "collections",
                    "synonym_sets",
                    "synonym_sets/items",
                    "presets",
                    "stopwords",
                ]);
                let tokens = ActionSet::from_iter([Action::TokensCreate, Action::TokensRotate]);
                read.union(data).union(tokens)
            }
            Role::Viewer => read,
        }
    }
}

/// The record of an organization.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Organization {
    pub id: String,
    pub slug: String,
    pub name: String,
    pub plan: String,
    /// Whether use beyond the plan is counted instead of refused.
    #[serde(default)]
    pub overages: bool,
    #[serde(default)]
    pub require_mfa: bool,
    /// Set by the roll-up of usage when a budget is used up.
    #[serde(default)]
    pub blocked_reads: bool,
    #[serde(default)]
    pub blocked_writes: bool,
    /// Seconds since the epoch.
    pub created_at: u64,
    /// Roles by the ids of users.
    #[serde(default)]
    pub members: BTreeMap<String, Role>,
}

impl Organization {
    /// The organization that exists before anybody made one.
    pub fn unwritten_default() -> Self {
        Self {
            id: DEFAULT.into(),
            slug: DEFAULT.into(),
            name: DEFAULT.into(),
            plan: "unlimited".into(),
            overages: false,
            require_mfa: false,
            blocked_reads: false,
            blocked_writes: false,
            created_at: 0,
            members: BTreeMap::new(),
        }
    }

    /// Its id as a type.
    pub fn org_id(&self) -> Result<OrgId> {
        let damaged = |e| Error::new(ErrorKind::Internal, "a stored organization is damaged").because(e);
        OrgId::parse(&self.id).map_err(damaged)
    }
}

/// Who has a slug.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SlugClaim {
    pub org: String,
}

/// The id of the organization that has a slug, for who has a store and no server; `None` when nobody has it. Costs one LIST
/// and one GET.
pub async fn id_of_slug(store: &Store, runtime: &Runtime, slug: &str) -> Result<Option<OrgId>> {
    if slug == DEFAULT {
        return Ok(Some(OrgId::default_org()));
    }
    if !is_slug(slug) {
        return Ok(None);
    }
    let records = Records::new(store.clone(), runtime.clock.clone(), runtime.rng.clone(), GRACE);
    let claim = records.get::<SlugClaim>(&paths::slug(slug)).await?;
    let damaged = |e| Error::new(ErrorKind::Internal, "a stored slug is damaged").because(e);
    claim.map(|claim| OrgId::parse(&claim.org).map_err(damaged)).transpose()
}

impl Control {
    /// An organization; `None` when there is none. Remembered.
    ///
    /// Costs nothing warm; one LIST and one GET cold.
    pub async fn organization(&self, id: &OrgId) -> Result<Option<Arc<Organization>>> {
        self.cache()
            // The key names the organization: those of one shard share a memory.
            .get(id, &format!("org/{id}"), || async {
                let found = self.records().get::<Organization>(&paths::org(id)).await?;
                let implied = || (id.as_str() == DEFAULT).then(Organization::unwritten_default);
                Ok(found.or_else(implied))
            })
            .await
    }

    /// The organization that has a slug; `None` when nobody has it. Slugs are never used again, so that they
    /// are remembered with the organization's other things.
    ///
    /// Costs nothing warm; two LISTs and two GETs cold.
    pub async fn organization_of(&self, slug: &str) -> Result<Option<Arc<Organization>>> {
        if slug == DEFAULT {
            return self.organization(&OrgId::default_org()).await;
        }
        if !is_slug(slug) {
            return Ok(None);
        }
        // Claims are remembered in the shard of the slug's own text: what they say never changes.
        let shard = OrgId::parse(slug)?;
        let claim = self
            .cache()
            .get(&shard, &format!("slug/{slug}"), || async {
                Ok(self.records().get::<SlugClaim>(&paths::slug(slug)).await?)
            })
            .await?;
        match claim {
            Some(claim) => self.organization(&OrgId::parse(&claim.org)?).await,
            None => Ok(None),
        }
    }
}

impl Control {
    /// All organizations. Costs one LIST per thousand and one GET each.
    pub async fn organization_ids(&self) -> Result<Vec<OrgId>> {
        let claims = self.records().values::<SlugClaim>(&paths::slugs()).await?;
        let named = claims.iter().filter_map(|(_, claim)| OrgId::parse(&claim.org).ok());
        let mut ids: Vec<OrgId> = named.chain([OrgId::default_org()]).collect();
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }
}

/// Whether a text can be a slug: 1 to 64 of `a-z`, `0-9` and `-`.
pub fn is_slug(text: &str) -> bool {
    (1..=SLUG_BYTES_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_nested() {
        let roles = [Role::Viewer, Role::Member, Role::Admin, Role::Owner];
        for pair in roles.windows(2) {
            assert!(pair[0].actions().is_subset(pair[1].actions()), "{pair:?}");
            assert_ne!(pair[0].actions(), pair[1].actions());
        }
        let viewer = Role::Viewer.actions();
        for forbidden in [
            Action::DocumentsUpsert,
            Action::KeysGet,
            Action::TokensCreate,
            Action::AuditList,
        ] {
            assert!(!viewer.contains(forbidden), "{forbidden}");
        }
        assert!(viewer.contains(Action::DocumentsSearch) && viewer.contains(Action::CollectionsGet));
        for role in roles {
            assert_eq!(Role::parse(role.name()), Some(role));
        }
        assert!(!Role::Admin.actions().contains(Action::OrganizationsDelete));
    }

    #[tokio::test]
    async fn organizations_of_one_shard_are_not_confused() {
        let control = crate::control::testing::control();
        let id = |i: u32| OrgId::parse(&format!("org_{i}")).expect("legal");
        let shard = |i| crate::control::cache::shard_of(&id(i));
        let twin = (1..).find(|i| shard(*i) == shard(0)).expect("shards are few");
        for i in [0, twin] {
            let organization = Organization {
                id: id(i).as_str().to_owned(),
                ..Organization::unwritten_default()
            };
            let made = control.records().create(&paths::org(&id(i)), &organization).await;
            assert!(made.expect("written"));
        }
        for i in [0, twin, 0] {
            let found = control.organization(&id(i)).await.expect("read").expect("there");
            assert_eq!(found.id, id(i).as_str());
        }
    }
}
