//! API keys of an organization: made, listed, deleted, looked up (api-keys reference §2-5).
//!
//! # What stays true
//!
//! - No value is stored: keys are found by the SHA-256 of theirs. The values of search-only keys are kept sealed
//!   under the deployment secret besides, because scoped search keys are signed with them.
//! - A key lives if the claim of its digest names it *and* its record is there. Creation claims last, deletion
//!   releases first; hence whatever breaks off in between leaves a dead key, never a living one that nobody knows,
//!   and what arrives late revives nothing.
//! - Ids count from 1 in each organization. A removed record keeps its place, so that no id is used again.
//! - Claims alternate: odd revisions are claimed, even ones released.
//!
//! # Who touches it
//!
//! `api::typesense::keys` makes and deletes; `auth` looks up; `sweep` removes what has expired or was left.

mod lookup;
pub mod rows;
pub mod scoped;
mod sweep;
pub mod value;

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Action, ActionSet, Control, GRACE, Grant, Hidden, Patterns, grant::RateLimits};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Invalid, OrgId, Restriction};
use crate::store::paths::control as paths;
pub use lookup::{Lookup, MadeBy};
use rows::RowFilter;
pub use sweep::Swept;

/// The second in which keys expire that never do: in the year 4020, as Typesense has it.
pub const NEVER: u64 = 64_723_363_199;
/// How many ids that others took meanwhile are passed over.
const IDS_TRIED_MAX: usize = 64;
/// What the values of search-only keys are sealed for.
const SEAL: &str = "key-seal";

/// What a key is to be.
#[derive(Clone, Debug)]
pub struct NewKey {
    pub description: String,
    /// As given; checked.
    pub actions: Vec<String>,
    /// As given; `["*"]` for all.
    pub collections: Vec<String>,
    /// Chosen by the client; checked.
    pub value: Option<Hidden>,
    /// Seconds since the epoch.
    pub expires_at: u64,
    pub autodelete: bool,
    pub limited: Limited,
    /// Kind and id of the credential that asked for it.
    pub created_by: String,
    /// The attempt that makes it, where the request has an idempotency key (`mints`).
    pub attempt: Option<String>,
}

/// What a key may see and use, beyond what Typesense's keys can be limited to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limited {
    /// All of them hold for the rows that it finds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<RowFilter>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_fields: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude_fields: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_ips: Vec<IpNet>,
    #[serde(default, skip_serializing_if = "RateLimits::is_empty")]
    pub limits: RateLimits,
}

impl Limited {
    /// Whether some rows or attributes are hidden.
    pub fn restricts(&self) -> bool {
        !self.filters.is_empty() || self.include_fields.is_some() || !self.exclude_fields.is_empty()
    }

    /// What the engine enforces; `None` when it restricts nothing.
    pub fn restriction(&self) -> Result<Option<Restriction>, Invalid> {
        if !self.restricts() {
            return Ok(None);
        }
        Ok(Some(Restriction {
            filters: self.filters.iter().map(RowFilter::compiled).collect::<Result<_, _>>()?,
            include: self.include_fields.clone(),
            exclude: self.exclude_fields.clone(),
            top_k_max: None,
        }))
    }
}

/// The record of a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// Of the value, in hexadecimal.
    pub sha256: String,
    /// What the value begins with.
    pub prefix: String,
    pub description: String,
    pub actions: Vec<String>,
    pub collections: Vec<String>,
    pub expires_at: u64,
    pub autodelete: bool,
    /// Seconds since the epoch.
    pub created_at: u64,
    pub created_by: String,
    /// The attempt that made it, where the request had an idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attempt: Option<String>,
    /// The value of a search-only key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed: Option<Sealed>,
    #[serde(flatten)]
    pub limited: Limited,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Sealed {
    /// The id of the deployment secret.
    secret: String,
    /// In base64.
    body: String,
}

/// Which key has a digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    org: String,
    id: u64,
}

/// A key that was made.
#[derive(Debug)]
pub struct Created {
    pub id: u64,
    pub record: KeyRecord,
    /// Shown once.
    pub value: Hidden,
}

/// A key that lives, as it is used.
#[derive(Debug)]
pub struct LiveKey {
    pub id: u64,
    pub org: OrgId,
    pub grant: Arc<Grant>,
    pub restriction: Option<Arc<Restriction>>,
    /// Of search-only keys that this deployment can open.
    pub value: Option<Hidden>,
    /// Of the value.
    digest: [u8; 32],
}

/// Whether a key with these actions may be the parent of scoped search keys.
pub fn is_search_only(actions: &[String]) -> bool {
    matches!(actions, [only] if only == Action::DocumentsSearch.name())
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The digest in the key of a claim's revision.
fn hex_digest(revision: &object_store::path::Path) -> Option<String> {
    let digest = paths::parse_key_digest(revision)?;
    unhex(digest)?;
    Some(digest.to_owned())
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    let mut out = [0; 32];
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

/// What a sealed value belongs to, so that no record can be copied to another place.
fn seal_context(org: &OrgId, id: u64) -> String {
    format!("{org}\0{id}")
}

fn damaged() -> Error {
    Error::new(
        ErrorKind::Internal,
        "a stored API key is damaged; an operator has to look",
    )
}

impl NewKey {
    /// What it will allow.
    ///
    /// # Errors
    ///
    /// 400: an unknown action, or patterns of collections out of bounds.
    pub fn grant(&self, org: &OrgId) -> Result<Grant> {
        let actions = ActionSet::parse(self.actions.iter().map(String::as_str)).map_err(|unknown| {
            let shown: String = unknown.chars().take(64).collect();
            Error::invalid(format!("`actions` has `{shown}`, which is no action."))
        })?;
        let patterns = Patterns::parse(self.collections.iter().map(String::as_str));
        let namespaces = patterns.map_err(|why| Error::invalid(format!("Wrong format for `collections`: {why}.")))?;
        Ok(Grant {
            namespaces,
            not_after: Some(self.expires_at).filter(|at| *at < NEVER),
            allowed_ips: self.limited.allowed_ips.clone(),
            rate_limits: self.limited.limits,
            ..Grant::in_org(org.clone(), actions)
        })
    }
}

impl KeyRecord {
    /// What it allows. Actions that this version does not know allow nothing.
    fn grant(&self, org: &OrgId) -> Result<Grant> {
        let entries = self.actions.iter().filter_map(|a| ActionSet::parse([a.as_str()]).ok());
        let actions = entries.fold(ActionSet::NONE, ActionSet::union);
        let patterns = Patterns::parse(self.collections.iter().map(String::as_str));
        Ok(Grant {
            namespaces: patterns.map_err(|_| damaged())?,
            not_after: Some(self.expires_at).filter(|at| *at < NEVER),
            allowed_ips: self.limited.allowed_ips.clone(),
            rate_limits: self.limited.limits,
            ..Grant::in_org(org.clone(), actions)
        })
    }

    /// Whether it has expired; it counts through its last second.
    pub fn is_expired(&self, now: u64) -> bool {
        now > self.expires_at
    }
}

impl Control {
    /// Makes a key. Whether its maker may is for the caller to decide.
    ///
    /// Costs one LIST per thousand keys of the organization that there ever were, one PUT for the record, one LIST
    /// and one PUT for the claim; one PUT more for a search-only key, two LISTs and two GETs for a chosen value.
    ///
    /// # Errors
    ///
    /// 409 when another key has the value; 400 as [`NewKey::grant`]. After any error the key is dead, or is said to
    /// be in an unknown state.
    pub async fn create_key(&self, org: &OrgId, new: NewKey) -> Result<Created> {
        let start = self.runtime().clock.boot();
        new.grant(org)?;
        new.limited.restriction()?;
        let is_custom = new.value.is_some();
        let made = || value::generate(&self.runtime().rng, self.options().secrets.current());
        let value = new.value.clone().unwrap_or_else(made);
        let digest = sha256(value.reveal().as_bytes());
        if is_custom {
            self.free(&digest).await?;
        }
        let (id, record) = self.record_key(org, &new, &value).await?;
        let claimed = self.claim_key(org, id, &record, &digest, start, is_custom).await;
        if let Err(error) = claimed {
            // Its claim may still arrive: without a record it revives nothing.
            return Err(match self.bury(org, id, &record).await {
                Ok(()) if error.kind == ErrorKind::Unknown => Error::new(
                    ErrorKind::Unavailable,
                    "object storage did not answer in time, so no key was made; try again",
                )
                .because(error),
                _ => error,
            });
        }
        self.key_lookup().learned(digest, org, id);
        Ok(Created { id, record, value })
    }

    /// The record under the next free id. Nothing is alive yet.
    async fn record_key(&self, org: &OrgId, new: &NewKey, value: &Hidden) -> Result<(u64, KeyRecord)> {
        let listed = self.records().list(&paths::keys(org)).await?;
        let highest = listed.iter().filter_map(paths::parse_key).max().unwrap_or(0);
        let text = value.reveal();
        for id in (highest + 1..).take(IDS_TRIED_MAX) {
            let sealed = is_search_only(&new.actions).then(|| {
                let secret = self.options().secrets.current();
                let mut nonce = [0; 12];
                nonce.copy_from_slice(&self.runtime().rng.u128().to_le_bytes()[..12]);
                let body = secret.seal(SEAL, nonce, &seal_context(org, id), text.as_bytes());
                Sealed {
                    secret: secret.id().to_owned(),
                    body: base64_simd::STANDARD.encode_to_string(&body),
                }
            });
            let record = KeyRecord {
                sha256: hex(&sha256(text.as_bytes())),
                prefix: text.chars().take(value::PREFIX_CHARS).collect(),
                description: new.description.clone(),
                actions: new.actions.clone(),
                collections: new.collections.clone(),
                expires_at: new.expires_at,
                autodelete: new.autodelete,
                created_at: self.now(),
                created_by: new.created_by.clone(),
                attempt: new.attempt.clone(),
                sealed,
                limited: new.limited.clone(),
            };
            if self.records().create(&paths::key(org, id), &record).await? {
                return Ok((id, record));
            }
        }
        Err(
            Error::new(ErrorKind::Unavailable, "many keys are being made at once; try again")
                .after(std::time::Duration::from_secs(1)),
        )
    }

    /// Makes a recorded key live.
    async fn claim_key(
        &self,
        org: &OrgId,
        id: u64,
        record: &KeyRecord,
        digest: &[u8; 32],
        start: std::time::Duration,
        is_custom: bool,
    ) -> Result<()> {
        if let (Some(prefix), true) = (prefix_bytes(record), record.sealed.is_some()) {
            let marker = paths::key_prefix_marker(&prefix, org, id);
            let written = self.records().store().put(&marker, bytes::Bytes::new()).await;
            written.map_err(|e| Error::from(crate::store::record::RecordError::from(e)))?;
            // After the marker, so that of many at once none passes unseen.
            if is_custom {
                self.check_crowd(&prefix).await?;
            }
        }
        // What is older is swept as left behind.
        if self.runtime().clock.boot().saturating_sub(start) > GRACE / 2 {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "making the key took too long; try again",
            ));
        }
        let ours = Claim {
            org: org.as_str().to_owned(),
            id,
        };
        let claim = |there: Option<Claim>| match there {
            Some(_) => Err(Error::new(ErrorKind::Conflict, "API key generation conflict.")),
            None => Ok(Some(ours.clone())),
        };
        self.records().update(&paths::key_digest(digest), claim).await?;
        Ok(())
    }

    /// Fails when a living key has the digest; releases it from a dead one.
    async fn free(&self, digest: &[u8; 32]) -> Result<()> {
        let Some(claim) = self.records().get::<Claim>(&paths::key_digest(digest)).await? else {
            return Ok(());
        };
        let org = OrgId::parse(&claim.org).map_err(|_| damaged())?;
        let record: Option<KeyRecord> = self.records().get(&paths::key(&org, claim.id)).await?;
        match record {
            Some(_) => Err(Error::new(ErrorKind::Conflict, "API key generation conflict.")),
            None => self.release(digest, &claim).await,
        }
    }

    /// Takes a digest from a key, if it is still that key's.
    async fn release(&self, digest: &[u8; 32], claim: &Claim) -> Result<()> {
        let mut is_released = false;
        let change = |there: Option<Claim>| {
            is_released = there.as_ref() != Some(claim);
            match is_released {
                false => Ok(None),
                true => Err(Error::new(ErrorKind::NotFound, "there is no such claim")),
            }
        };
        match self.records().update(&paths::key_digest(digest), change).await {
            Ok(_) => Ok(()),
            Err(error) if is_released && error.kind == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes the record and the marker of a key that is dead, or is to be.
    async fn bury(&self, org: &OrgId, id: u64, record: &KeyRecord) -> Result<()> {
        self.records().remove::<KeyRecord>(&paths::key(org, id)).await?;
        if let Some(prefix) = prefix_bytes(record)
            && record.sealed.is_some()
            && let Err(error) = self
                .records()
                .store()
                .delete(&paths::key_prefix_marker(&prefix, org, id))
                .await
        {
            // It means nothing without the record, and is swept.
            tracing::debug!(%org, id, %error, "the marker of a key was not removed");
        }
        Ok(())
    }

    /// The key that an attempt made whose end nobody heard of, if it lives. Costs as [`keys`](Self::keys), and a LIST
    /// and a GET more.
    pub async fn key_of_attempt(&self, org: &OrgId, attempt: &str) -> Result<Option<u64>> {
        let keys = self.keys(org).await?;
        let found = keys
            .into_iter()
            .find(|(_, record)| record.attempt.as_deref() == Some(attempt));
        let Some((id, record)) = found else { return Ok(None) };
        let digest = unhex(&record.sha256).ok_or_else(damaged)?;
        let claim: Option<Claim> = self.records().get(&paths::key_digest(&digest)).await?;
        Ok(claim
            .is_some_and(|claim| claim.id == id && claim.org == org.as_str())
            .then_some(id))
    }

    /// The keys of an organization by id. Costs one LIST per thousand keys there ever were, and one GET each.
    pub async fn keys(&self, org: &OrgId) -> Result<Vec<(u64, KeyRecord)>> {
        let found = self.records().values::<KeyRecord>(&paths::keys(org)).await?;
        let mut keys: Vec<_> = found
            .into_iter()
            .filter_map(|(at, record)| Some((paths::parse_key(&at)?, record)))
            .collect();
        keys.sort_unstable_by_key(|(id, _)| *id);
        Ok(keys)
    }

    /// One key. Costs one LIST and one GET.
    pub async fn key(&self, org: &OrgId, id: u64) -> Result<Option<KeyRecord>> {
        Ok(self.records().get(&paths::key(org, id)).await?)
    }

    /// Deletes a key; false when there is none. When it returns the key is dead on this node, on others within the
    /// time in which they ask for changes.
    ///
    /// Costs three or four LISTs, four GETs, three PUTs; a DELETE for a search-only key.
    ///
    /// # Errors
    ///
    /// The key may be dead or alive; deleting it again finishes it.
    pub async fn delete_key(&self, org: &OrgId, id: u64) -> Result<bool> {
        let Some(record) = self.key(org, id).await? else {
            return Ok(false);
        };
        let digest = unhex(&record.sha256).ok_or_else(damaged)?;
        let claim = Claim {
            org: org.as_str().to_owned(),
            id,
        };
        self.release(&digest, &claim).await?;
        self.key_lookup().forgot(&digest);
        self.cache().changed(org).await?;
        self.bury(org, id, &record).await?;
        Ok(true)
    }

    /// A key, if it lives. Remembered.
    ///
    /// Costs nothing warm; two LISTs and two GETs cold.
    pub async fn live_key(&self, org: &OrgId, id: u64) -> Result<Option<Arc<LiveKey>>> {
        self.cache()
            .get(org, &format!("key/{id}"), || async {
                let Some(record) = self.key(org, id).await? else {
                    return Ok(None);
                };
                let digest = unhex(&record.sha256).ok_or_else(damaged)?;
                let claim = self.records().get::<Claim>(&paths::key_digest(&digest)).await?;
                match claim.is_some_and(|c| c.org == org.as_str() && c.id == id) {
                    true => self.opened(org, id, &record, digest).map(Some),
                    false => Ok(None),
                }
            })
            .await
    }

    fn opened(&self, org: &OrgId, id: u64, record: &KeyRecord, digest: [u8; 32]) -> Result<LiveKey> {
        let open = |sealed: &Sealed| {
            let secret = self.options().secrets.by_id(&sealed.secret)?;
            let body = base64_simd::STANDARD.decode_to_vec(&sealed.body).ok()?;
            let plain = secret.open(SEAL, &seal_context(org, id), &body)?;
            String::from_utf8(plain).ok().map(Hidden::new)
        };
        let value = record.sealed.as_ref().and_then(open);
        if record.sealed.is_some() && value.is_none() {
            tracing::warn!(%org, id, "the value of a search-only key cannot be opened with the secrets in force");
        }
        let restriction = record.limited.restriction().map_err(|_| damaged())?;
        Ok(LiveKey {
            id,
            org: org.clone(),
            grant: Arc::new(record.grant(org)?),
            restriction: restriction.map(Arc::new),
            value,
            digest,
        })
    }
}

/// The four bytes that scoped keys name their parents by.
fn prefix_bytes(record: &KeyRecord) -> Option<[u8; 4]> {
    record.prefix.as_bytes().try_into().ok()
}

#[cfg(test)]
mod tests;
