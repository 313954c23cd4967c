//! JSON Web Tokens (RFC 7519) as far as this server makes them, by the rules of RFC 8725. Signing and verifying is
//! `jsonwebtoken`'s; what may stand in a header is decided here.
//!
//! # What stays true
//!
//! - Whoever verifies has chosen key and algorithm before, by the `kid`: a header that says another algorithm
//!   is refused. There is no `none`.
//! - Headers have `typ`, `alg` and `kid` and nothing else: keys that a token brings along (`jwk`, `jku`,
//!   `x5u`) and extensions (`crit`) are refused, not ignored.
//! - One token has one text: base64url without padding and without stray bits.
//! - Audience, issuer and times are for the caller to judge, by the clock of the runtime.

use std::borrow::Cow;
use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64_simd::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::control::Hidden;

/// How far clocks may be apart, in seconds.
pub const LEEWAY: u64 = 30;
/// A longer header was not made here, in bytes of base64url.
const HEADER_BYTES_MAX: usize = 512;

/// A key for one algorithm. Never printed.
pub struct Key {
    algorithm: Algorithm,
    signing: EncodingKey,
    verifying: DecodingKey,
    /// The public half, where there is one.
    public: Option<Vec<u8>>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", self.algorithm)
    }
}

/// All that a header may say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OurHeader<'a> {
    #[serde(rename = "typ")]
    _typ: Typ,
    alg: Algorithm,
    #[serde(borrow)]
    kid: Cow<'a, str>,
}

#[derive(Deserialize)]
enum Typ {
    #[serde(rename = "JWT")]
    Jwt,
}

impl Key {
    /// A key for HMAC-SHA256.
    pub fn hs256(key: &[u8; 32]) -> Self {
        Self {
            algorithm: Algorithm::HS256,
            signing: EncodingKey::from_secret(key),
            verifying: DecodingKey::from_secret(key),
            public: None,
        }
    }

    /// A key for Ed25519, made of its seed.
    pub fn ed25519(seed: &[u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("any 32 bytes are a seed");
        let private: Pkcs8V1Der<'_> = pair.as_der().expect("a key made of its seed can be written down");
        let public = pair.public_key().as_ref();
        Self {
            algorithm: Algorithm::EdDSA,
            signing: EncodingKey::from_ed_der(private.as_ref()),
            verifying: DecodingKey::from_ed_der(public),
            public: Some(public.to_vec()),
        }
    }

    /// The public half, 32 bytes, for those who verify; `None` where there is none.
    pub fn public(&self) -> Option<&[u8]> {
        self.public.as_deref()
    }

    /// A token with these claims.
    ///
    /// * `kid` — tells whoever verifies which key this is
    pub fn sign(&self, kid: &str, claims: &impl Serialize) -> Hidden {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(kid.to_owned());
        let token = jsonwebtoken::encode(&header, claims, &self.signing);
        Hidden::new(token.expect("the key is one for its algorithm, and claims are made of what JSON has"))
    }

    /// The third part of a token whose first two are `signed`.
    pub fn signature(&self, signed: &str) -> String {
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &self.signing, self.algorithm);
        signature.expect("the key is one for its algorithm")
    }
}

/// A token whose signature has not been looked at: nothing of it may be believed but which key it asks for.
pub struct Unverified<'a> {
    kid: String,
    algorithm: Algorithm,
    token: &'a str,
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
        let (header, _) = token.split_once('.')?;
        if header.len() > HEADER_BYTES_MAX || !is_token(token.as_bytes()) {
            return None;
        }
        let header = decode(header)?;
        let header: OurHeader<'_> = serde_json::from_slice(&header).ok()?;
        Some(Self {
            kid: header.kid.into_owned(),
            algorithm: header.alg,
            token,
        })
    }

    /// Which key it asks for.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Its claims; `None` unless it was signed with this key, by this key's algorithm.
    pub fn verify<C: DeserializeOwned>(&self, key: &Key) -> Option<C> {
        if self.algorithm != key.algorithm {
            return None;
        }
        let mut validation = Validation::new(key.algorithm);
        // The clock of the machine is not the runtime's.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let found = jsonwebtoken::decode(self.token, &key.verifying, &validation);
        found.ok().map(|found| found.claims)
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
