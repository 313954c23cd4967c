//! External issuers of tokens, by where their public keys are. They are kept and listed; tokens of theirs are
//! not honoured yet.

use serde::{Deserialize, Serialize};
use url::Url;

use super::Control;
use crate::error::{Error, ErrorKind, Result};
use crate::model::OrgId;
use crate::store::paths::control::{self as paths, Named};

/// The most issuers of an organization.
const ISSUERS_MAX: usize = 16;
/// The longest name and URL, in bytes.
const NAME_BYTES_MAX: usize = 64;
const URL_BYTES_MAX: usize = 2048;

/// The record of an issuer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Issuer {
    pub name: String,
    /// Where its JSON Web Key Set is.
    pub jwks_url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Seconds since the epoch.
    pub created_at: u64,
}

fn check(name: &str, url: &str) -> Result<()> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if !(1..=NAME_BYTES_MAX).contains(&name.len()) || !name.bytes().all(allowed) {
        return Err(Error::invalid(
            "the name of an issuer has 1 to 64 of A-Z, a-z, 0-9, '-', '_' and '.'",
        ));
    }
    let good = url.len() <= URL_BYTES_MAX
        && Url::parse(url).is_ok_and(|url| {
            url.scheme() == "https" && url.has_host() && url.username().is_empty() && url.password().is_none()
        });
    match good {
        true => Ok(()),
        false => Err(Error::invalid(
            "jwks_url must be an https URL without a user, at most 2048 bytes long",
        )),
    }
}

impl Control {
    /// The issuers of an organization, by name. Costs one LIST and a GET each.
    pub async fn issuers(&self, org: &OrgId) -> Result<Vec<Issuer>> {
        let found = self
            .records()
            .values::<Issuer>(&paths::all_named(org, Named::Issuer))
            .await?;
        let mut issuers: Vec<_> = found.into_iter().map(|(_, issuer)| issuer).collect();
        issuers.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(issuers)
    }

    /// One issuer; `None` when there is none of that name. Costs one LIST and one GET.
    pub async fn issuer(&self, org: &OrgId, name: &str) -> Result<Option<Issuer>> {
        Ok(self.records().get(&paths::named(org, Named::Issuer, name)).await?)
    }

    /// Makes or replaces an issuer. Costs two LISTs, one GET per issuer, and one PUT.
    ///
    /// # Errors
    ///
    /// 400 for a bad name or URL, or too many.
    pub async fn put_issuer(&self, org: &OrgId, name: &str, jwks_url: &str, region: Option<String>) -> Result<Issuer> {
        check(name, jwks_url)?;
        if region.as_ref().is_some_and(|r| r.len() > NAME_BYTES_MAX) {
            return Err(Error::invalid("region must have at most 64 bytes"));
        }
        let others = self.issuers(org).await?.into_iter().filter(|i| i.name != name).count();
        if others >= ISSUERS_MAX {
            return Err(Error::invalid(format!(
                "an organization can have {ISSUERS_MAX} issuers"
            )));
        }
        let issuer = Issuer {
            name: name.to_owned(),
            jwks_url: jwks_url.to_owned(),
            region,
            created_at: self.now(),
        };
        let record = paths::named(org, Named::Issuer, name);
        let replace = |found: Option<Issuer>| {
            let created_at = found.map_or(issuer.created_at, |f| f.created_at);
            Ok(Some(Issuer {
                created_at,
                ..issuer.clone()
            }))
        };
        self.records().update(&record, replace).await?;
        self.cache().changed(org).await?;
        Ok(issuer)
    }

    /// Removes an issuer and tells every node.
    ///
    /// # Errors
    ///
    /// 404 when there is none of that name.
    pub async fn remove_issuer(&self, org: &OrgId, name: &str) -> Result<()> {
        let record = paths::named(org, Named::Issuer, name);
        if !self.records().remove::<Issuer>(&record).await? {
            return Err(Error::new(ErrorKind::NotFound, format!("issuer not found: {name}")));
        }
        self.cache().changed(org).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers_are_https_urls() {
        assert!(check("clerk", "https://issuer.example.test/.well-known/jwks.json").is_ok());
        for bad in [
            "",
            "http://issuer.example.test/",
            "https://",
            "https://a:b@issuer.example.test/",
            "file:///etc/passwd",
            "issuer.example.test",
        ] {
            assert!(check("clerk", bad).is_err(), "{bad}");
        }
        for bad in ["", "a b", "a/b", &"a".repeat(65)] {
            assert!(check(bad, "https://issuer.example.test/").is_err(), "{bad}");
        }
    }
}
