//! Platform tokens: what programs of a user act by on the control plane. The tokens themselves are not stored.
//!
//! # What stays true
//!
//! - A token counts while `_control/tokens/<id>` exists. It is written after the claim of its name and removed
//!   before it, so that what counts can always be found and revoked.
//! - What a token may do is never more than the role that its user has at that moment.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::keys::sha256;
use super::users::{User, scope_of};
use super::{Action, ActionSet, Control, Grant};
use crate::error::{Error, ErrorKind, Result};
use crate::model::OrgId;
use crate::store::paths::control as paths;

/// The most tokens of one user.
const TOKENS_MAX: usize = 1000;
/// Tokens that are revoked at a time.
const REVOKED_AT_ONCE: usize = 8;
/// The name that is a path of its own, and the longest one.
const RESERVED: &str = "validate";
const NAME_BYTES_MAX: usize = 64;

/// What a token of one group may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scope {
    #[serde(rename = "read")]
    Read,
    #[serde(rename = "db:create")]
    DatabaseCreate,
    #[serde(rename = "db:delete")]
    DatabaseDelete,
    #[serde(rename = "db:configure")]
    DatabaseConfigure,
    #[serde(rename = "db:mint-token")]
    DatabaseMintToken,
    #[serde(rename = "db:rotate-creds")]
    DatabaseRotate,
    #[serde(rename = "group:configure")]
    GroupConfigure,
    #[serde(rename = "group:mint-token")]
    GroupMintToken,
    #[serde(rename = "group:rotate-creds")]
    GroupRotate,
}

impl Scope {
    /// Every scope with its name.
    pub const ALL: [(Scope, &'static str); 9] = [
        (Scope::Read, "read"),
        (Scope::DatabaseCreate, "db:create"),
        (Scope::DatabaseDelete, "db:delete"),
        (Scope::DatabaseConfigure, "db:configure"),
        (Scope::DatabaseMintToken, "db:mint-token"),
        (Scope::DatabaseRotate, "db:rotate-creds"),
        (Scope::GroupConfigure, "group:configure"),
        (Scope::GroupMintToken, "group:mint-token"),
        (Scope::GroupRotate, "group:rotate-creds"),
    ];

    /// The scopes that names stand for, without duplicates; `read-only` and `full-access` for several.
    ///
    /// # Errors
    ///
    /// 400 with the first name that is none.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Vec<Scope>> {
        let mut scopes = Vec::new();
        for name in names {
            let found = Self::ALL.iter().filter(|(_, known)| match name {
                "read-only" => *known == "read",
                "full-access" => true,
                _ => *known == name,
            });
            let before = scopes.len();
            scopes.extend(found.map(|(scope, _)| *scope));
            if scopes.len() == before {
                let known = Self::ALL.map(|(_, known)| known).join(", ");
                return Err(Error::invalid(format!(
                    "scope {name:?} is unknown, expected {known}, read-only or full-access"
                )));
            }
        }
        scopes.sort_unstable();
        scopes.dedup();
        Ok(scopes)
    }

    /// The actions that it stands for.
    pub fn actions(self) -> &'static [Action] {
        match self {
            Scope::Read => &[
                Action::CollectionsGet,
                Action::CollectionsList,
                Action::GroupsGet,
                Action::GroupsList,
                Action::UsageGet,
            ],
            Scope::DatabaseCreate => &[Action::CollectionsCreate],
            Scope::DatabaseDelete => &[Action::CollectionsDelete],
            Scope::DatabaseConfigure => &[Action::CollectionsUpdate],
            Scope::DatabaseMintToken | Scope::GroupMintToken => &[Action::TokensCreate],
            Scope::DatabaseRotate | Scope::GroupRotate => &[Action::TokensRotate],
            Scope::GroupConfigure => &[Action::GroupsUpdate],
        }
    }
}

/// The record of a platform token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlatformToken {
    /// 16 random bytes in base64url: 22 characters.
    pub id: String,
    /// Unique among the user's.
    pub name: String,
    /// Id of its owner.
    pub user: String,
    /// The one organization that it is for; absent: all of its user's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org: Option<OrgBound>,
    /// Seconds since the epoch.
    pub created_at: u64,
}

/// The organization that a token is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrgBound {
    pub id: String,
    pub slug: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupBound>,
}

/// The group that a token is for: the one of that uuid, whatever has its name later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupBound {
    pub uuid: Uuid,
    /// Its name when the token was made.
    pub name: String,
    pub scopes: Vec<Scope>,
}

impl PlatformToken {
    /// What it is bound to; `None` for a token that may do whatever its user may.
    pub fn grant(&self) -> Result<Option<Grant>> {
        let Some(bound) = &self.org else { return Ok(None) };
        let org = OrgId::parse(&bound.id)?;
        let Some(group) = &bound.group else {
            return Ok(Some(Grant::in_org(org, ActionSet::all())));
        };
        let actions = group.scopes.iter().flat_map(|scope| scope.actions()).copied().collect();
        let mut grant = Grant::in_org(org, actions);
        grant.group = Some(group.uuid);
        Ok(Some(grant))
    }
}

/// The id of the token that an attempt makes (`mints`).
pub fn id_of_attempt(attempt: &str) -> String {
    base64_simd::URL_SAFE_NO_PAD.encode_to_string(&sha256(attempt.as_bytes())[..16])
}

fn check_name(name: &str) -> Result<()> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name == RESERVED {
        return Err(Error::invalid(
            "a token cannot be named validate: that path checks tokens",
        ));
    }
    match (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed) {
        true => Ok(()),
        false => Err(Error::invalid(
            "a token's name has 1 to 64 of A-Z, a-z, 0-9, '-', '_' and '.'",
        )),
    }
}

impl Control {
    /// Makes the record of a token: from now on a token with its id counts.
    ///
    /// Costs two LISTs, one GET and two PUTs, one PUT more for a token of an organization.
    ///
    /// # Errors
    ///
    /// 400 for a name that cannot be, or too many tokens; 409 when the user has one of that name.
    pub async fn create_token(&self, user: &str, name: &str, org: Option<OrgBound>) -> Result<PlatformToken> {
        let id = base64_simd::URL_SAFE_NO_PAD.encode_to_string(self.runtime().rng.u128().to_le_bytes());
        self.create_token_with(id, user, name, org).await
    }

    /// The same with an id that nobody has used, as [`id_of_attempt`] gives one.
    pub async fn create_token_with(
        &self,
        id: String,
        user: &str,
        name: &str,
        org: Option<OrgBound>,
    ) -> Result<PlatformToken> {
        check_name(name)?;
        if self.records().list(&paths::user_tokens(user)).await?.len() >= 2 * TOKENS_MAX
            || self.tokens_of(user).await?.len() >= TOKENS_MAX
        {
            return Err(Error::invalid(format!(
                "a user can have {TOKENS_MAX} tokens; revoke those that are not used"
            )));
        }
        // Tokens may have been ended in this very second.
        let tokens_from = self.user(user).await?.map_or(0, |user| user.tokens_from);
        let token = PlatformToken {
            id,
            name: name.into(),
            user: user.into(),
            org,
            created_at: self.now().max(tokens_from),
        };
        let claim = |found: Option<PlatformToken>| match found {
            None => Ok(Some(token.clone())),
            Some(_) => Err(Error::new(ErrorKind::Conflict, format!("token {name} already exists"))),
        };
        self.records().update(&paths::user_token(user, name), claim).await?;
        if let Some(org) = &token.org {
            let org = OrgId::parse(&org.id)?;
            self.records()
                .create(&paths::org_token(&org, &token.id), &token)
                .await?;
        }
        self.records().create(&paths::token(&token.id), &token).await?;
        Ok(token)
    }

    /// The token of this name, if an attempt made it whose end nobody heard of; what it left half made is removed.
    /// Costs two LISTs and two GETs; about ten requests where something was left.
    pub async fn token_of_attempt(&self, user: &str, name: &str, attempt: &str) -> Result<Option<PlatformToken>> {
        let found = self.token_named(user, name).await?;
        let Some(token) = found.filter(|token| token.id == id_of_attempt(attempt)) else {
            return Ok(None);
        };
        let counts: Option<PlatformToken> = self.records().get(&paths::token(&token.id)).await?;
        if counts.is_none() {
            self.revoke_token(&token).await?;
        }
        Ok(counts)
    }

    /// The record of a token of this user; `None` when it does not count. Remembered.
    ///
    /// Costs nothing warm; one LIST and one GET cold.
    pub async fn token(&self, user: &str, id: &str) -> Result<Option<Arc<PlatformToken>>> {
        let scope = scope_of(user)?;
        let found = self
            .cache()
            .get(&scope, &format!("token/{id}"), || async {
                Ok(self.records().get::<PlatformToken>(&paths::token(id)).await?)
            })
            .await?;
        Ok(found.filter(|token| token.user == user && token.id == id))
    }

    /// The tokens of a user, by name. Costs one LIST and a GET per token.
    pub async fn tokens_of(&self, user: &str) -> Result<Vec<PlatformToken>> {
        let found = self
            .records()
            .values::<PlatformToken>(&paths::user_tokens(user))
            .await?;
        let mut tokens: Vec<_> = found.into_iter().map(|(_, token)| token).collect();
        tokens.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tokens)
    }

    /// A token of a user by name. Costs one LIST and one GET.
    pub async fn token_named(&self, user: &str, name: &str) -> Result<Option<PlatformToken>> {
        Ok(self.records().get(&paths::user_token(user, name)).await?)
    }

    /// The tokens that are for an organization, oldest first. Costs one LIST and a GET per token.
    pub async fn tokens_in(&self, org: &OrgId) -> Result<Vec<PlatformToken>> {
        let found = self.records().values::<PlatformToken>(&paths::org_tokens(org)).await?;
        let mut tokens: Vec<_> = found.into_iter().map(|(_, token)| token).collect();
        tokens.sort_by(|a, b| (a.created_at, &a.name).cmp(&(b.created_at, &b.name)));
        Ok(tokens)
    }

    /// Revokes the tokens of a user that count no more because all of them were ended. Costs one LIST, a GET per token,
    /// and what revoking costs for each that goes.
    pub async fn revoke_ended_tokens(&self, user: &User) -> Result<()> {
        let tokens = self.tokens_of(&user.id).await?.into_iter();
        let ended = tokens.filter(|token| token.created_at < user.tokens_from);
        let revoked = stream::iter(ended).map(|token| async move { self.revoke_token(&token).await });
        revoked.buffer_unordered(REVOKED_AT_ONCE).try_collect::<()>().await
    }

    /// Revokes a token and tells every node; repeating it finishes what a crash left. Costs about ten requests.
    pub async fn revoke_token(&self, token: &PlatformToken) -> Result<()> {
        self.records().remove::<PlatformToken>(&paths::token(&token.id)).await?;
        self.cache().changed(&scope_of(&token.user)?).await?;
        if let Some(org) = &token.org {
            let org = OrgId::parse(&org.id)?;
            let marker = paths::org_token(&org, &token.id);
            self.records().remove::<PlatformToken>(&marker).await?;
        }
        let another = || Error::new(ErrorKind::NotFound, "there is no such token");
        let release = |found: Option<PlatformToken>| match found {
            Some(found) if found.id == token.id => Ok(None),
            // Gone, or made anew by then.
            _ => Err(another()),
        };
        let record = paths::user_token(&token.user, &token.name);
        match self.records().update(&record, release).await {
            Err(error) if error.kind != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_and_presets_have_names() {
        for (scope, name) in Scope::ALL {
            assert_eq!(Scope::parse([name]).expect(name), [scope]);
            assert_eq!(serde_json::to_value(scope).expect("JSON"), name);
            assert!(!scope.actions().is_empty());
        }
        assert_eq!(Scope::parse(["read-only", "read"]).expect("known"), [Scope::Read]);
        let all = Scope::parse(["db:create", "full-access"]).expect("known");
        assert_eq!(all, Scope::ALL.map(|(scope, _)| scope));
        for bad in ["", "db", "db:*", "*", "READ", "full_access"] {
            assert!(Scope::parse(["read", bad]).is_err(), "{bad:?}");
        }
        assert_eq!(Scope::parse([]).expect("none"), []);
    }

    #[test]
    fn a_token_of_a_group_allows_what_its_scopes_say() {
        let group = GroupBound {
            uuid: Uuid::from_u128(7),
            name: "g".into(),
            scopes: vec![Scope::Read, Scope::DatabaseCreate],
        };
        let token = |org| PlatformToken {
            id: "i".into(),
            name: "n".into(),
            user: "user_1".into(),
            org,
            created_at: 0,
        };
        assert_eq!(token(None).grant().expect("valid"), None);
        let bound = |group| OrgBound {
            id: "org_1".into(),
            slug: "acme".into(),
            group,
        };
        let of_org = token(Some(bound(None))).grant().expect("valid").expect("bound");
        assert_eq!((of_org.group, of_org.actions), (None, ActionSet::all()));
        let of_group = token(Some(bound(Some(group)))).grant().expect("valid").expect("bound");
        assert_eq!(of_group.group, Some(Uuid::from_u128(7)));
        assert!(of_group.actions.contains(Action::CollectionsCreate));
        for never in [
            Action::GroupsCreate,
            Action::GroupsDelete,
            Action::OrganizationsGet,
            Action::MembersList,
            Action::TokensCreate,
            Action::KeysCreate,
        ] {
            assert!(!of_group.actions.contains(never), "{never}");
        }
    }

    #[test]
    fn names_of_tokens_fit_into_paths() {
        for good in ["ci", "a.b-c_D9", &"a".repeat(64)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "validate", "a b", "a/b", "ä", &"a".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
