//! Tokens for one namespace, or for all namespaces of a group. Nothing of them is stored.
//!
//! A token is signed (HS256) with a key that is derived from the deployment secret, the organization, what it is for
//! and that one's generation of tokens. Whoever raises the generation revokes all tokens of before: of a namespace
//! by an entry of its log, which every consistent request looks at; of a group by its record.
//!
//! # What stays true
//!
//! - The header is byte for byte what we write; its `kid`, `n:<id>:<generation>` or `g:<id>:<generation>`, selects
//!   one kind of key and one algorithm.
//! - A namespace token is bound to the namespace's id, so that one that is created again under the old name does not
//!   honour it. The engine checks id and generation on the state that it uses ([`TokenGuard`]).
//! - What a token does not say, it does not allow.
//!
//! # Cost
//!
//! Some microseconds, and nothing else for namespaces; for groups the group's record, which is remembered.

use std::sync::Arc;

use base64_simd::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use subtle::{Choice, ConstantTimeEq};
use uuid::Uuid;

use super::credential::refused;
use super::jwt;
use super::principal::{CredentialKind, Principal};
use crate::control::groups::default_group_id;
use crate::control::{Action, ActionSet, Control, Grant, Patterns, Secret};
use crate::error::Error;
use crate::model::OrgId;
use crate::model::access::TokenGuard;

const AUDIENCE: &str = "data";

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenOf {
    Namespace,
    Group,
}

impl TokenOf {
    fn letter(self) -> char {
        match self {
            TokenOf::Namespace => 'n',
            TokenOf::Group => 'g',
        }
    }

    fn label(self) -> &'static str {
        match self {
            TokenOf::Namespace => "ns-token",
            TokenOf::Group => "group-token",
        }
    }
}

/// What a token may do at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    ReadOnly,
    FullAccess,
}

impl Level {
    /// The level of a claim.
    fn of_claim(claim: &str) -> Option<Self> {
        match claim {
            "ro" => Some(Level::ReadOnly),
            "rw" => Some(Level::FullAccess),
            _ => None,
        }
    }

    fn claim(self) -> &'static str {
        match self {
            Level::ReadOnly => "ro",
            Level::FullAccess => "rw",
        }
    }

    /// The level by the word of requests.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "read-only" => Some(Level::ReadOnly),
            "full-access" => Some(Level::FullAccess),
            _ => None,
        }
    }

    /// The word of requests.
    pub fn word(self) -> &'static str {
        match self {
            Level::ReadOnly => "read-only",
            Level::FullAccess => "full-access",
        }
    }

    /// What it allows.
    pub fn actions(self) -> ActionSet {
        use Action::{
            CollectionsGet, CollectionsUpdate, DocumentsCreate, DocumentsDelete, DocumentsExport, DocumentsGet,
            DocumentsImport, DocumentsSearch, DocumentsUpdate, DocumentsUpsert,
        };
        let reads = ActionSet::from_iter([DocumentsSearch, DocumentsGet, DocumentsExport, CollectionsGet]);
        let writes = [
            DocumentsCreate,
            DocumentsUpsert,
            DocumentsUpdate,
            DocumentsDelete,
            DocumentsImport,
            CollectionsUpdate,
        ];
        match self {
            Level::ReadOnly => reads,
            Level::FullAccess => reads.union(ActionSet::from_iter(writes)),
        }
    }
}

/// What one word of `fine_grained_permissions` allows; `None` for a word that is none.
pub fn permission(word: &str) -> Option<ActionSet> {
    use Action::{
        CollectionsCreate, CollectionsDelete, CollectionsUpdate, DocumentsCreate, DocumentsDelete, DocumentsExport,
        DocumentsGet, DocumentsImport, DocumentsSearch, DocumentsUpdate, DocumentsUpsert,
    };
    let actions: &[Action] = match word {
        "data_read" => &[DocumentsSearch, DocumentsGet, DocumentsExport],
        "data_add" => &[DocumentsCreate, DocumentsUpsert, DocumentsImport],
        "data_update" => &[DocumentsUpdate],
        "data_delete" => &[DocumentsDelete],
        "schema_add" => &[CollectionsCreate],
        "schema_update" => &[CollectionsUpdate],
        "schema_delete" => &[CollectionsDelete],
        _ => return None,
    };
    Some(actions.iter().copied().collect())
}

/// A token about to be made.
#[derive(Clone, Debug)]
pub struct Minting<'a> {
    pub org: &'a OrgId,
    pub of: TokenOf,
    /// The id and the name of the namespace or group.
    pub id: Uuid,
    pub name: &'a str,
    /// Its generation of tokens.
    pub generation: u64,
    pub level: Level,
    /// Words of [`permission`]; instead of what the level allows.
    pub permissions: Option<Vec<String>>,
    /// Seconds since the epoch; never if absent.
    pub expires_at: Option<u64>,
}

impl Minting<'_> {
    /// What it will allow. Unknown words allow nothing.
    pub fn actions(&self) -> ActionSet {
        allowed(self.level, self.permissions.as_deref())
    }
}

fn allowed(level: Level, permissions: Option<&[String]>) -> ActionSet {
    match permissions {
        None => level.actions(),
        Some(words) => {
            let sets = words.iter().filter_map(|word| permission(word));
            sets.fold(ActionSet::NONE, ActionSet::union)
        }
    }
}

/// What a token says.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    /// The name of the namespace or group.
    id: String,
    a: String,
    /// The id of the organization.
    oid: String,
    iat: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exp: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    p: Option<Vec<String>>,
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KeyId {
    of: TokenOf,
    id: Uuid,
    generation: u64,
}

impl KeyId {
    fn header(&self) -> String {
        let (letter, id, generation) = (self.of.letter(), self.id, self.generation);
        format!(r#"{{"typ":"JWT","alg":"HS256","kid":"{letter}:{id}:{generation}"}}"#)
    }

    /// Only what [`header`](Self::header) prints, byte for byte.
    fn of_header(header: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(header).ok()?;
        let kid = text
            .strip_prefix(r#"{"typ":"JWT","alg":"HS256","kid":""#)?
            .strip_suffix(r#""}"#)?;
        let mut parts = kid.split(':');
        let of = match parts.next()? {
            "n" => TokenOf::Namespace,
            "g" => TokenOf::Group,
            _ => return None,
        };
        let id = Uuid::try_parse(parts.next()?).ok()?;
        let generation = parts.next()?.parse().ok()?;
        let found = Self { of, id, generation };
        (found.header() == text).then_some(found)
    }
}

/// The signature of `signed`, as it stands in a token.
fn signature(secret: &Secret, of: TokenOf, org: &str, id: &str, generation: u64, signed: &str) -> String {
    let key = secret.derive(&[of.label(), org, id, &generation.to_string()]);
    jwt::Key::hs256(&key).signature(signed)
}

/// Makes a token. Pure but for the clock.
pub fn mint(control: &Control, minting: &Minting<'_>) -> String {
    let claims = Claims {
        iss: control.options().deployment.clone(),
        aud: AUDIENCE.into(),
        id: minting.name.to_owned(),
        a: minting.level.claim().into(),
        oid: minting.org.as_str().to_owned(),
        iat: control.now(),
        exp: minting.expires_at,
        p: minting.permissions.clone(),
    };
    let claims = serde_json::to_vec(&claims).expect("texts and numbers are JSON");
    let key = KeyId {
        of: minting.of,
        id: minting.id,
        generation: minting.generation,
    };
    let encode = |part: &[u8]| URL_SAFE_NO_PAD.encode_to_string(part);
    let signed = format!("{}.{}", encode(key.header().as_bytes()), encode(&claims));
    let secret = control.options().secrets.current();
    let (org, id) = (minting.org.as_str(), minting.id.to_string());
    let signature = signature(secret, minting.of, org, &id, minting.generation, &signed);
    format!("{signed}.{signature}")
}

/// Whether a header is one of ours; says nothing of whether the token is valid. Such a credential is never tried as
/// anything else.
pub fn is_data_token(token: &str) -> bool {
    let header = token.split('.').next().unwrap_or_default();
    let header = URL_SAFE_NO_PAD.decode_to_vec(header).unwrap_or_default();
    KeyId::of_header(&header).is_some()
}

/// Whoever shows a token of a namespace or a group.
///
/// * `token` — untrusted, at most as long as a credential may be
///
/// # Errors
///
/// 401; 503 when a group's record is needed and cannot be read.
pub async fn recognise(control: &Control, token: &str) -> Result<Principal, Error> {
    let (key, claims) = verify(control, token).ok_or_else(invalid)?;
    let org = OrgId::parse(&claims.oid).map_err(|_| invalid())?;
    let level = Level::of_claim(&claims.a).ok_or_else(invalid)?;
    if claims
        .exp
        .is_some_and(|exp| control.now() >= exp.saturating_add(jwt::LEEWAY))
    {
        return Err(refused("the token has expired"));
    }
    let (kind, namespaces, guard) = match key.of {
        TokenOf::Namespace => {
            let guard = TokenGuard::Namespace {
                id: key.id,
                generation: key.generation,
            };
            (CredentialKind::NamespaceToken, Patterns::only(&claims.id), guard)
        }
        TokenOf::Group => {
            let group = control.group_by_id(&org, key.id).await?;
            let counts = group.is_some_and(|g| g.token_gen == key.generation && !g.deleting);
            if !counts {
                return Err(invalid());
            }
            let guard = TokenGuard::Group {
                id: key.id,
                is_default: key.id == default_group_id(&org),
            };
            // Which namespaces are in the group is known to them alone: the guard asks them.
            (CredentialKind::GroupToken, Patterns::any(), guard)
        }
    };
    let grant = Grant {
        namespaces,
        // Checked above, with the leeway.
        not_after: claims.exp.map(|exp| exp.saturating_add(jwt::LEEWAY - 1)),
        ..Grant::in_org(org.clone(), allowed(level, claims.p.as_deref()))
    };
    Ok(Principal {
        kind,
        id: format!("{}:{}", key.id, key.generation),
        user: None,
        org,
        chain: vec![Arc::new(grant)],
        embedded: None,
        restriction: None,
        token: Some(guard),
    })
}

fn invalid() -> Error {
    refused("the token is not valid")
}

/// What a token says that we signed, for this deployment and for data.
fn verify(control: &Control, token: &str) -> Option<(KeyId, Claims)> {
    let (signed, shown) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let key = KeyId::of_header(&URL_SAFE_NO_PAD.decode_to_vec(header).ok()?)?;
    let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode_to_vec(claims).ok()?).ok()?;
    let id = key.id.to_string();
    // All secrets are tried, whichever fits. The texts are compared, so that a signature has one spelling.
    let fits = control.options().secrets.iter().fold(Choice::from(0), |any, secret| {
        let expected = signature(secret, key.of, &claims.oid, &id, key.generation, signed);
        any | expected.as_bytes().ct_eq(shown.as_bytes())
    });
    let ours = bool::from(fits) && claims.iss == control.options().deployment && claims.aud == AUDIENCE;
    ours.then_some((key, claims))
}

#[cfg(test)]
mod tests;
