//! Where a request carries its credential.

use std::fmt;

use crate::error::{Error, ErrorKind};

/// A longer credential is refused unread.
pub const CREDENTIAL_BYTES_MAX: usize = 8 * 1024;
/// The header of Typesense's clients, in lower case, and their query parameter.
pub const TYPESENSE_KEY: &str = "x-typesense-api-key";

/// What a request shows of who sends it. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential(Box<[u8]>);

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential")
    }
}

/// The places in which a request may carry its credential, as they came.
#[derive(Clone, Copy, Default)]
pub struct Shown<'a> {
    /// The `Authorization` header.
    pub authorization: Option<&'a [u8]>,
    /// The `X-TYPESENSE-API-KEY` header.
    pub header: Option<&'a [u8]>,
    /// The `x-typesense-api-key` query parameter, decoded; on search routes only.
    pub parameter: Option<&'a [u8]>,
}

impl Credential {
    /// A credential from elsewhere than a header, such as a field of a body.
    pub fn new(text: &[u8]) -> Result<Self, Error> {
        match (1..=CREDENTIAL_BYTES_MAX).contains(&text.len()) {
            true => Ok(Self(text.into())),
            false => Err(refused("the api key is not valid")),
        }
    }

    /// The one credential of a request.
    ///
    /// # Errors
    ///
    /// 401 when there is none or it is malformed; 400 when there are several that differ.
    pub fn of(shown: Shown<'_>) -> Result<Self, Error> {
        let bearer = shown
            .authorization
            .map(|header| {
                bearer(header).ok_or_else(|| refused("the Authorization header must be Bearer and an api key"))
            })
            .transpose()?;
        let header = shown.header.map(<[u8]>::trim_ascii).filter(|key| !key.is_empty());
        let parameter = shown.parameter.filter(|key| !key.is_empty());
        let mut all = [bearer, header, parameter].into_iter().flatten();
        let Some(first) = all.next() else {
            return Err(refused(
                "the Authorization header is missing, expected Bearer and an api key",
            ));
        };
        if all.any(|other| other != first) {
            return Err(Error::invalid("the request shows several keys that differ; send one"));
        }
        Self::new(first)
    }

    /// Its bytes, 1 to `CREDENTIAL_BYTES_MAX`. Whoever calls this keeps them out of logs and answers.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }

    /// Its text, if it is one.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = header.trim_ascii().split_at_checked("bearer ".len())?;
    let key = key.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !key.is_empty()).then_some(key)
}

/// 401 with this sentence.
pub fn refused(sentence: &str) -> Error {
    Error::new(ErrorKind::Unauthenticated, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_one_credential() {
        let of =
            |authorization: Option<&'static str>, header: Option<&'static str>, parameter: Option<&'static str>| {
                let shown = Shown {
                    authorization: authorization.map(str::as_bytes),
                    header: header.map(str::as_bytes),
                    parameter: parameter.map(str::as_bytes),
                };
                Credential::of(shown).map(|c| c.reveal().to_vec())
            };
        for good in ["Bearer key", "bearer key", "BEARER   key ", " bearer key"] {
            assert_eq!(of(Some(good), None, None).expect(good), b"key");
        }
        for bad in ["", "Bearer", "Bearer ", "Basic key", "key", "\u{e4}\u{e4}\u{e4}\u{e4}"] {
            assert_eq!(
                of(Some(bad), None, None).expect_err(bad).kind,
                ErrorKind::Unauthenticated
            );
        }
        assert_eq!(of(None, Some("key"), None).expect("header"), b"key");
        assert_eq!(of(None, None, Some("key")).expect("parameter"), b"key");
        assert_eq!(
            of(Some("Bearer key"), Some("key"), Some("key")).expect("the same"),
            b"key"
        );
        assert_eq!(
            of(None, Some(""), None).expect_err("empty").kind,
            ErrorKind::Unauthenticated
        );
        for (a, b, c) in [
            (Some("Bearer a"), Some("b"), None),
            (None, Some("a"), Some("b")),
            (Some("Bearer a"), None, Some("b")),
        ] {
            assert_eq!(of(a, b, c).expect_err("two").kind, ErrorKind::Invalid);
        }
        assert!(Credential::new(&[b'a'; 8193]).is_err());
        assert!(Credential::new(&[b'a'; 8192]).is_ok());
        let hidden = Credential::new(b"hunter2").expect("short");
        assert!(!format!("{hidden:?}").contains("hunter2"));
    }
}
