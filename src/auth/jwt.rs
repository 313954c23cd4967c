//! JSON Web Tokens (RFC 7519) as far as this server makes them, by the rules of RFC 8725.
//!
//! # What stays true
//!
//! - Whoever verifies has chosen key and algorithm before, by the `kid`: a header that says another algorithm
//!   is refused. There is no `none`.
//! - Headers have `typ`, `alg` and `kid` and nothing else: keys that a token brings along (`jwk`, `jku`,
//!   `x5u`) and extensions (`crit`) are refused, not ignored.
//! - One token has one text: base64url without padding and without stray bits.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use aws_lc_rs::{constant_time, hmac};
use base64_simd::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::control::Hidden;

/// How far clocks may be apart, in seconds.
pub const LEEWAY: u64 = 30;
/// A longer header was not made here, in bytes of base64url.
const HEADER_BYTES_MAX: usize = 512;
/// The length of signatures of HS256 and EdDSA, in bytes.
const HS256_BYTES: usize = 32;
const ED25519_BYTES: usize = 64;

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    #[serde(rename = "HS256")]
    Hs256,
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// A key for one algorithm. Never printed.
pub enum Key {
    Hs256(Box<hmac::Key>),
    EdDsa(Box<Ed25519KeyPair>),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", self.algorithm())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    // In this order, so that a token of known key and claims has a known text.
    typ: Typ,
    alg: Algorithm,
    #[serde(borrow)]
    kid: std::borrow::Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
enum Typ {
    #[serde(rename = "JWT")]
    Jwt,
}

impl Key {
    /// A key for HMAC-SHA256.
    pub fn hs256(key: &[u8; 32]) -> Self {
        Self::Hs256(Box::new(hmac::Key::new(hmac::HMAC_SHA256, key)))
    }

    /// A key for Ed25519, made of its seed.
    pub fn ed25519(seed: &[u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("any 32 bytes are a seed");
        Self::EdDsa(Box::new(pair))
    }

    /// What it signs with.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Key::Hs256(_) => Algorithm::Hs256,
            Key::EdDsa(_) => Algorithm::EdDsa,
        }
    }

    /// The public half, 32 bytes, for those who verify; `None` where there is none.
    pub fn public(&self) -> Option<&[u8]> {
        match self {
            Key::Hs256(_) => None,
            Key::EdDsa(pair) => Some(pair.public_key().as_ref()),
        }
    }

    /// A token with these claims.
    ///
    /// * `kid` — tells whoever verifies which key this is
    pub fn sign(&self, kid: &str, claims: &impl Serialize) -> Hidden {
        let header = Header {
            typ: Typ::Jwt,
            alg: self.algorithm(),
            kid: kid.into(),
        };
        let part = |json: serde_json::Result<Vec<u8>>| {
            URL_SAFE_NO_PAD.encode_to_string(json.expect("claims are made of what JSON has"))
        };
        let signed = format!(
            "{}.{}",
            part(serde_json::to_vec(&header)),
            part(serde_json::to_vec(claims))
        );
        let signature = match self {
            Key::Hs256(key) => URL_SAFE_NO_PAD.encode_to_string(hmac::sign(key, signed.as_bytes())),
            Key::EdDsa(pair) => URL_SAFE_NO_PAD.encode_to_string(pair.sign(signed.as_bytes())),
        };
        Hidden::new(format!("{signed}.{signature}"))
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Key::Hs256(key) => {
                let expected = hmac::sign(key, message);
                signature.len() == HS256_BYTES
                    && constant_time::verify_slices_are_equal(expected.as_ref(), signature).is_ok()
            }
            Key::EdDsa(pair) => {
                let public = UnparsedPublicKey::new(&ED25519, pair.public_key().as_ref());
                signature.len() == ED25519_BYTES && public.verify(message, signature).is_ok()
            }
        }
    }
}

/// A token whose signature has not been looked at: nothing of it may be believed but which key it asks for.
pub struct Unverified<'a> {
    kid: String,
    algorithm: Algorithm,
    /// Header and claims as they were signed.
    signed: &'a str,
    claims: &'a str,
    signature: Vec<u8>,
}

/// Whether a credential is a token, right or wrong: three parts of base64url.
pub fn is_token(credential: &[u8]) -> bool {
    let mut parts = credential.split(|b| *b == b'.');
    let is_part = |part: &[u8]| {
        !part.is_empty()
            && part
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let three = parts.by_ref().take(3).filter(|part| is_part(part)).count() == 3;
    three && parts.next().is_none()
}

fn decode(part: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode_to_vec(part.as_bytes()).ok()?;
    (URL_SAFE_NO_PAD.encode_to_string(&bytes) == part).then_some(bytes)
}

impl<'a> Unverified<'a> {
    /// Reads a token's header; `None` when it was not made here.
    pub fn parse(token: &'a str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        if header.len() > HEADER_BYTES_MAX || claims.contains('.') {
            return None;
        }
        let header = decode(header)?;
        let header: Header<'_> = serde_json::from_slice(&header).ok()?;
        Some(Self {
            kid: header.kid.into_owned(),
            algorithm: header.alg,
            signed,
            claims,
            signature: decode(signature)?,
        })
    }

    /// Which key it asks for.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Its claims; `None` unless it was signed with this key, by this key's algorithm.
    pub fn verify<C: DeserializeOwned>(&self, key: &Key) -> Option<C> {
        if self.algorithm != key.algorithm() || !key.verifies(self.signed.as_bytes(), &self.signature) {
            return None;
        }
        serde_json::from_slice(&decode(self.claims)?).ok()
    }
}

/// Whether a token that is valid until `exp`, in seconds since the epoch, counts at `now`.
pub fn is_current(exp: u64, now: u64) -> bool {
    now <= exp.saturating_add(LEEWAY)
}

/// Whether a token may have been made at `iat`: not in the future.
pub fn was_made(iat: u64, now: u64) -> bool {
    iat <= now.saturating_add(LEEWAY)
}

#[cfg(test)]
mod tests;
