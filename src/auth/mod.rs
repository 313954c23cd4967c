//! Who calls: a credential becomes a [`Caller`].
//!
//! Only bootstrap keys so far; each may do everything in the default organization. Keys are kept
//! as SHA-256 digests and compared in constant time.

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::error::{Error, ErrorKind};
use crate::model::OrgId;

/// The shortest key accepted when others than this machine can connect.
pub const KEY_BYTES_MIN: usize = 16;
/// A longer credential is refused unread.
const CREDENTIAL_BYTES_MAX: usize = 8 * 1024;

/// Whose request it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub org: OrgId,
}

/// Knows the keys. Several may be active, so that they can be rotated.
#[derive(Clone)]
pub struct Authenticator {
    digests: Vec<[u8; 32]>,
}

impl Authenticator {
    /// * `keys` — at least one, none empty
    /// * `loopback` — whether only this machine can connect; short keys are accepted then
    ///
    /// # Errors
    ///
    /// A sentence for the operator, without the key.
    pub fn new(keys: &[String], loopback: bool) -> Result<Self, String> {
        if keys.is_empty() {
            return Err("no api key is set: give api_key or api_key_file, or use --dev".into());
        }
        let min = if loopback { 1 } else { KEY_BYTES_MIN };
        if keys.iter().any(|k| k.len() < min || k.len() > CREDENTIAL_BYTES_MAX) {
            return Err(format!("api keys must have {min} to {CREDENTIAL_BYTES_MAX} bytes"));
        }
        let digests = keys.iter().map(|k| Sha256::digest(k).into()).collect();
        Ok(Self { digests })
    }

    /// The caller behind the value of an `Authorization` header.
    pub fn authenticate(&self, header: Option<&[u8]>) -> Result<Caller, Error> {
        let header =
            header.ok_or_else(|| refused("the Authorization header is missing, expected Bearer and an api key"))?;
        let key = bearer(header).ok_or_else(|| refused("the Authorization header must be Bearer and an api key"))?;
        self.caller(key).ok_or_else(|| refused("the api key is not valid"))
    }

    /// The caller behind a key that stands in a request's body, in the field `field`.
    ///
    /// # Errors
    ///
    /// 401, whatever else the request names.
    pub fn authenticate_key(&self, field: &str, key: &str) -> Result<Caller, Error> {
        let known = Some(key.as_bytes()).filter(|k| (1..=CREDENTIAL_BYTES_MAX).contains(&k.len()));
        let caller = known.and_then(|key| self.caller(key));
        caller.ok_or_else(|| refused(&format!("{field} is not a valid api key")))
    }

    fn caller(&self, key: &[u8]) -> Option<Caller> {
        let digest: [u8; 32] = Sha256::digest(key).into();
        // Every key is compared, whichever matches, so that time tells nothing.
        let known = self
            .digests
            .iter()
            .fold(Choice::from(0), |any, d| any | d.ct_eq(&digest));
        bool::from(known).then(|| Caller {
            org: OrgId::default_org(),
        })
    }
}

fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = header.trim_ascii().split_at_checked("bearer ".len())?;
    let key = key.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && (1..=CREDENTIAL_BYTES_MAX).contains(&key.len())).then_some(key)
}

fn refused(sentence: &str) -> Error {
    Error::new(ErrorKind::Unauthenticated, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_key_with_the_bearer_scheme_is_accepted() {
        let auth =
            Authenticator::new(&["0123456789abcdef".into(), "second-key-of-rotation".into()], false).expect("valid");
        for good in [
            "Bearer 0123456789abcdef",
            "bearer 0123456789abcdef",
            "BEARER   second-key-of-rotation ",
        ] {
            let caller = auth.authenticate(Some(good.as_bytes())).expect(good);
            assert_eq!(caller.org, OrgId::default_org());
        }
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            "Basic 0123456789abcdef",
            "Bearer 0123456789abcde",
            "0123456789abcdef",
            "Bearer 0123456789abcdefg",
        ] {
            let error = auth.authenticate(Some(bad.as_bytes())).expect_err(bad);
            assert_eq!(error.kind, ErrorKind::Unauthenticated);
        }
        assert!(auth.authenticate(None).is_err());
        assert!(auth.authenticate_key("source_api_key", "0123456789abcdef").is_ok());
        for bad in ["", "0123456789abcde", &"0".repeat(9000)] {
            let error = auth.authenticate_key("source_api_key", bad).expect_err(bad);
            assert_eq!(error.kind, ErrorKind::Unauthenticated);
            assert!(error.message.contains("source_api_key"));
        }
        assert!(
            auth.authenticate(Some(&[0xff, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]))
                .is_err()
        );
    }

    #[test]
    fn short_keys_are_for_loopback_only() {
        assert!(Authenticator::new(&["short".into()], false).is_err());
        assert!(Authenticator::new(&["short".into()], true).is_ok());
        assert!(Authenticator::new(&["".into()], true).is_err());
        assert!(Authenticator::new(&[], true).is_err());
    }
}
