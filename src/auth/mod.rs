//! Who calls: a credential becomes a [`Principal`], and [`authorize`] decides what it may do.
//!
//! # Recognition
//!
//! Constant work before any I/O, in this order: a token by its three parts, a bootstrap key by its digest, an
//! API key by its form, a scoped search key by its layout. Bootstrap keys are kept as SHA-256 digests and
//! compared in constant time.

mod api_key;
mod credential;
pub mod data_token;
mod embedded;
mod guard;
pub mod jwt;
pub mod platform_token;
mod principal;

use std::net::IpAddr;

use subtle::{Choice, ConstantTimeEq};

use crate::control::Control;
use crate::control::keys::scoped::Scoped;
use crate::control::keys::{MadeBy, sha256, value};
use crate::error::{Error, ErrorKind};
use crate::model::OrgId;

pub use credential::{Credential, Shown, TYPESENSE_KEY, refused};
pub use guard::{guard_of, native_guard_of};
pub use principal::{Ask, CredentialKind, Denial, Principal, authorize};

/// The shortest key accepted when others than this machine can connect.
pub const KEY_BYTES_MIN: usize = 16;

/// What part of the interface a request is for; decides which credentials count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Surface {
    /// Documents and namespaces: bootstrap and API keys, namespace and group tokens.
    Data,
    /// Searching: as data, and scoped search keys.
    Search,
    /// `/keys`: bootstrap and API keys.
    Keys,
    /// Organizations, groups, databases, tokens: bootstrap keys, platform and user tokens.
    Platform,
    /// Whatever everybody may ask about themselves: all kinds.
    Any,
}

/// Where a request comes from, and as whom a bootstrap key acts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin<'a> {
    pub ip: Option<IpAddr>,
    /// The slug in `X-Shoal-Org`; for bootstrap keys only.
    pub org: Option<&'a str>,
}

/// Knows the bootstrap keys, and through the control plane all others. Clones share it.
#[derive(Clone)]
pub struct Authenticator {
    digests: Vec<[u8; 32]>,
    control: Control,
    /// Whether clients may choose the values of their keys, so that any text may be one.
    custom_values: bool,
}

impl Authenticator {
    /// * `keys` — the bootstrap keys: at least one, none empty; several, so that they can be rotated
    /// * `loopback` — whether only this machine can connect; short keys are accepted then
    ///
    /// # Errors
    ///
    /// A sentence for the operator, without the key.
    pub fn new(keys: &[String], loopback: bool, control: Control) -> Result<Self, String> {
        if keys.is_empty() {
            return Err("no api key is set: give api_key or api_key_file, or use --dev".into());
        }
        let (min, max) = (
            if loopback { 1 } else { KEY_BYTES_MIN },
            credential::CREDENTIAL_BYTES_MAX,
        );
        if keys.iter().any(|k| k.len() < min || k.len() > max) {
            return Err(format!("api keys must have {min} to {max} bytes"));
        }
        let digests = keys.iter().map(|k| sha256(k.as_bytes())).collect();
        Ok(Self {
            digests,
            control,
            custom_values: false,
        })
    }

    /// The same, where clients may choose the values of their keys.
    pub fn with_custom_values(mut self, allowed: bool) -> Self {
        self.custom_values = allowed;
        self
    }

    /// Whether clients may choose the values of their keys.
    pub fn allows_custom_values(&self) -> bool {
        self.custom_values
    }

    /// Whoever a credential stands for.
    ///
    /// Costs nothing warm; what the kind of credential costs cold is said at each.
    ///
    /// # Errors
    ///
    /// 401 when nobody is known by it, or it does not count on this surface; 404 when a bootstrap key names an
    /// organization that does not exist; 503 when the store cannot be reached and nothing fresh is remembered.
    pub async fn authenticate(
        &self,
        credential: &Credential,
        surface: Surface,
        origin: Origin<'_>,
    ) -> Result<Principal, Error> {
        let bytes = credential.reveal();
        if self.is_bootstrap(bytes) {
            return self.bootstrap(origin.org).await;
        }
        // Whatever comes of it: a token is never tried as anything else.
        let principal = match credential.text().filter(|text| jwt::is_token(text.as_bytes())) {
            Some(token) => self.token(token, surface).await?,
            None => self.key(bytes, surface, origin.ip).await?,
        };
        principal.check_valid(self.control.now(), origin.ip)?;
        self.check_organization(&principal).await?;
        Ok(principal)
    }

    /// That the organization of a credential for data is there: keys and groups that were made while it was being
    /// deleted, and tokens of groups, do not outlive it. Costs nothing warm; one LIST and one GET cold.
    async fn check_organization(&self, principal: &Principal) -> Result<(), Error> {
        let is_of_platform = matches!(
            principal.kind,
            CredentialKind::Bootstrap | CredentialKind::UserToken | CredentialKind::PlatformToken
        );
        // The default organization is always there.
        if is_of_platform || principal.org == OrgId::default_org() {
            return Ok(());
        }
        match self.control.organization(&principal.org).await? {
            Some(_) => Ok(()),
            None => Err(refused("the credential is not valid: its organization was deleted")),
        }
    }

    /// Whoever has a token.
    async fn token(&self, token: &str, surface: Surface) -> Result<Principal, Error> {
        let is_of_data = data_token::is_data_token(token);
        match (surface, jwt::Unverified::parse(token)) {
            (Surface::Data | Surface::Search | Surface::Any, _) if is_of_data => {
                data_token::recognise(&self.control, token).await
            }
            (Surface::Platform | Surface::Any, Some(parsed)) if parsed.kid().starts_with(platform_token::KID) => {
                Ok(platform_token::recognise(&self.control, token).await?.principal)
            }
            _ => Err(refused("the token is not valid here")),
        }
    }

    /// Whoever has a key that is none of the start options.
    async fn key(&self, text: &[u8], surface: Surface, ip: Option<IpAddr>) -> Result<Principal, Error> {
        if surface == Surface::Platform {
            return Err(api_key::not_valid());
        }
        let control = &self.control;
        if value::is_shaped(text) {
            return match value::is_ours(text, &control.options().secrets) {
                true => api_key::recognise(control, text, MadeBy::Us, ip).await,
                false => Err(api_key::not_valid()),
            };
        }
        if let Some(scoped) = Scoped::decode(text) {
            return match surface {
                Surface::Search | Surface::Any => api_key::recognise_scoped(control, &scoped, ip).await,
                Surface::Data | Surface::Keys | Surface::Platform => Err(api_key::not_valid()),
            };
        }
        let may_be_custom = (value::CUSTOM_BYTES_MIN..=value::CUSTOM_BYTES_MAX).contains(&text.len());
        match self.custom_values && may_be_custom {
            true => api_key::recognise(control, text, MadeBy::Client, ip).await,
            false => Err(api_key::not_valid()),
        }
    }

    async fn bootstrap(&self, slug: Option<&str>) -> Result<Principal, Error> {
        let org = match slug {
            None => OrgId::default_org(),
            Some(slug) => {
                let found = self.control.organization_of(slug).await?;
                let absent = || Error::new(ErrorKind::NotFound, "X-Shoal-Org names no organization");
                found.ok_or_else(absent)?.org_id()?
            }
        };
        Ok(Principal {
            kind: CredentialKind::Bootstrap,
            id: "bootstrap".into(),
            user: None,
            org,
            chain: Vec::new(),
            embedded: None,
            restriction: None,
            token: None,
        })
    }

    /// Whether a text is a bootstrap key.
    pub fn is_bootstrap(&self, key: &[u8]) -> bool {
        let digest = sha256(key);
        // Every key is compared, whichever matches, so that time tells nothing.
        let known = self
            .digests
            .iter()
            .fold(Choice::from(0), |any, d| any | d.ct_eq(&digest));
        bool::from(known)
    }
}

#[cfg(test)]
mod tests;
