//! Platform and user tokens: signed with Ed25519 by a seed that is derived from the deployment secret. The
//! public halves are at `/.well-known/jwks.json`.
//!
//! A user token is a session: it says when it ends, and no record is kept. A platform token has an id, and
//! counts while the record of that id exists.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::jwt::{self, Key, Unverified};
use super::{CredentialKind, Principal, refused};
use crate::control::platform_tokens::PlatformToken;
use crate::control::users::User;
use crate::control::{Control, Hidden, Secret};
use crate::error::Error;
use crate::model::OrgId;

/// What the `kid` of these tokens begins with; the id of the deployment secret follows.
pub const KID: &str = "p:";
/// What they are for.
const AUDIENCE: &str = "platform";
/// How long a session lasts, in seconds.
pub const SESSION: u64 = 7 * 24 * 3600;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    iat: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exp: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
}

/// Whoever a token stands for, and until when, in seconds since the epoch.
pub struct Recognised {
    pub principal: Principal,
    pub expires: Option<u64>,
}

fn key(secret: &Secret) -> Key {
    Key::ed25519(&secret.derive(&["platform-token"]))
}

fn sign(control: &Control, claims: &Claims) -> Hidden {
    let secret = control.options().secrets.current();
    key(secret).sign(&format!("{KID}{}", secret.id()), claims)
}

fn claims(control: &Control, user: &str, iat: u64) -> Claims {
    Claims {
        iss: control.options().deployment.clone(),
        aud: AUDIENCE.into(),
        sub: format!("user:{user}"),
        iat,
        exp: None,
        jti: None,
    }
}

/// A session of a user, and when it ends, in seconds since the epoch. Does no I/O.
pub fn session(control: &Control, user: &User) -> (Hidden, u64) {
    // Sessions may have been ended in this very second.
    let iat = control.now().max(user.valid_from);
    let exp = iat + SESSION;
    let claims = Claims {
        exp: Some(exp),
        ..claims(control, &user.id, iat)
    };
    (sign(control, &claims), exp)
}

/// The token of a record. Does no I/O.
pub fn mint(control: &Control, token: &PlatformToken) -> Hidden {
    let claims = Claims {
        jti: Some(token.id.clone()),
        ..claims(control, &token.user, token.created_at)
    };
    sign(control, &claims)
}

/// The public keys, as a JSON Web Key Set (RFC 7517).
pub fn key_set(control: &Control) -> Json {
    let keys = control.options().secrets.iter().map(|secret| {
        let key = key(secret);
        let public = key.public().expect("Ed25519 has public keys");
        json!({
            "kty": "OKP",
            "crv": "Ed25519",
            "alg": "EdDSA",
            "use": "sig",
            "kid": format!("{KID}{}", secret.id()),
            "x": base64_simd::URL_SAFE_NO_PAD.encode_to_string(public),
        })
    });
    json!({"keys": keys.collect::<Vec<_>>()})
}

/// Whoever a platform or user token stands for. Its chain has at most what the token is bound to: the role is
/// added when the organization is known.
///
/// Costs nothing warm; two LISTs and two GETs cold.
///
/// # Errors
///
/// 401, without saying what is wrong with it; 503 when the store cannot be reached.
pub async fn recognise(control: &Control, token: &str) -> Result<Recognised, Error> {
    let invalid = || refused("unauthorized");
    let claims = verify(control, token).ok_or_else(invalid)?;
    let id = claims.sub.strip_prefix("user:").ok_or_else(invalid)?;
    let user = control.user(id).await?.ok_or_else(invalid)?;
    let mut principal = Principal {
        kind: CredentialKind::UserToken,
        id: id.to_owned(),
        user: Some(id.to_owned()),
        org: OrgId::default_org(),
        chain: Vec::new(),
        embedded: None,
        restriction: None,
        token: None,
    };
    match claims.jti {
        None if claims.exp.is_none() || claims.iat < user.valid_from => return Err(invalid()),
        None => {}
        Some(jti) => {
            let token = control.token(id, &jti).await?.ok_or_else(invalid)?;
            if token.created_at < user.tokens_from {
                return Err(invalid());
            }
            principal.kind = CredentialKind::PlatformToken;
            principal.chain = token.grant()?.map(Arc::new).into_iter().collect();
            if let Some(grant) = principal.chain.first() {
                principal.org = grant.org.clone();
            }
            principal.id = jti;
        }
    }
    Ok(Recognised {
        principal,
        expires: claims.exp,
    })
}

/// The claims of a token that this deployment signed, for this purpose, and whose time it is.
fn verify(control: &Control, token: &str) -> Option<Claims> {
    let token = Unverified::parse(token)?;
    let secret = control.options().secrets.by_id(token.kid().strip_prefix(KID)?)?;
    let claims: Claims = token.verify(&key(secret))?;
    let now = control.now();
    let good = claims.iss == control.options().deployment
        && claims.aud == AUDIENCE
        && jwt::was_made(claims.iat, now)
        && claims.exp.is_none_or(|exp| jwt::is_current(exp, now));
    good.then_some(claims)
}

#[cfg(test)]
mod tests;
