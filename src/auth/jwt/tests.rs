use serde_json::{Value as Json, json};

use super::*;
use crate::control::Secret;

fn encoded(json: &Json) -> String {
    URL_SAFE_NO_PAD.encode_to_string(json.to_string())
}

/// The vector of the design: anybody can make it with the usual tools.
#[test]
fn a_known_key_and_known_claims_give_the_known_token() {
    let secret = Secret::new(b"0123456789abcdef0123456789abcdef");
    #[derive(Serialize)]
    struct Claims {
        iss: &'static str,
        aud: &'static str,
        id: &'static str,
        a: &'static str,
    }
    let claims = Claims {
        iss: "dep",
        aud: "data",
        id: "products",
        a: "ro",
    };
    let key = |generation| Key::hs256(&secret.derive(&["ns-token", "org_1", "5f1e", generation]));
    let token = key("1").sign("n:5f1e:1", &claims);
    let token = token.reveal();
    assert_eq!(
        token,
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiIsImtpZCI6Im46NWYxZToxIn0.eyJpc3MiOiJkZXAiLCJhdWQiOiJkYXRhIiwiaWQiOiJwcm9kd\
         WN0cyIsImEiOiJybyJ9.XT12mrJWZvLW4tpb8Z7VsHNPK9sQjazBzcimkZbKbPs"
    );
    let parsed = Unverified::parse(token).expect("a token");
    assert_eq!(parsed.kid(), "n:5f1e:1");
    assert!(parsed.verify::<Json>(&key("1")).is_some());
    assert!(parsed.verify::<Json>(&key("2")).is_none());
}

#[test]
fn no_byte_of_a_token_may_change() {
    for key in [Key::hs256(&[1; 32]), Key::ed25519(&[1; 32])] {
        let token = key.sign("k", &json!({"sub": "user:a", "exp": 1})).reveal().to_owned();
        assert!(is_token(token.as_bytes()));
        let claims = Unverified::parse(&token).and_then(|t| t.verify::<Json>(&key));
        assert_eq!(claims, Some(json!({"sub": "user:a", "exp": 1})));
        for i in 0..token.len() {
            for replacement in ['A', 'B', '_', '.', '=', '\u{0}', '\u{e4}'] {
                if token[i..].starts_with(replacement) {
                    continue;
                }
                let bad = format!("{}{replacement}{}", &token[..i], &token[i + 1..]);
                let claims = Unverified::parse(&bad).and_then(|t| t.verify::<Json>(&key));
                assert_eq!(claims, None, "{i} {replacement:?}");
            }
            let shorter = format!("{}{}", &token[..i], &token[i + 1..]);
            assert!(Unverified::parse(&shorter).is_none_or(|t| t.verify::<Json>(&key).is_none()));
        }
        for padded in [
            format!("{token}="),
            format!("{token}A"),
            format!("{token}."),
            format!(".{token}"),
        ] {
            assert!(Unverified::parse(&padded).is_none_or(|t| t.verify::<Json>(&key).is_none()));
        }
    }
}

/// Nobody who knows only what is public can sign.
#[test]
fn algorithms_are_not_confused() {
    let pair = Key::ed25519(&[7; 32]);
    let public: [u8; 32] = pair
        .public()
        .expect("it has a public half")
        .try_into()
        .expect("32 bytes");
    let confused = Key::hs256(&public).sign("k", &json!({"sub": "x"}));
    let parsed = Unverified::parse(confused.reveal()).expect("well-formed");
    assert!(parsed.verify::<Json>(&pair).is_none());
    let good = pair.sign("k", &json!({"sub": "x"})).reveal().to_owned();
    let (signed, signature) = good.rsplit_once('.').expect("three parts");
    let (_, claims) = signed.split_once('.').expect("three parts");
    for (header, what) in [
        (json!({"typ": "JWT", "alg": "none", "kid": "k"}), "none"),
        (json!({"typ": "JWT", "alg": "None", "kid": "k"}), "none"),
        (json!({"typ": "JWT", "alg": "HS256", "kid": "k"}), "HS256"),
        (json!({"typ": "JWT", "alg": "RS256", "kid": "k"}), "RS256"),
        (json!({"typ": "jwt", "alg": "EdDSA", "kid": "k"}), "typ"),
        (json!({"alg": "EdDSA", "kid": "k"}), "no typ"),
        (json!({"typ": "JWT", "alg": "EdDSA"}), "no kid"),
        (json!({"typ": "JWT", "alg": "EdDSA", "kid": "k", "jwk": {}}), "jwk"),
        (
            json!({"typ": "JWT", "alg": "EdDSA", "kid": "k", "crit": ["b64"], "b64": false}),
            "crit",
        ),
        (json!([]), "no object"),
    ] {
        for signature in ["", signature] {
            let bad = format!("{}.{claims}.{signature}", encoded(&header));
            let found = Unverified::parse(&bad).and_then(|t| t.verify::<Json>(&pair));
            assert_eq!(found, None, "{what}");
        }
    }
}

#[test]
fn what_is_no_token_is_not_parsed() {
    for bad in [
        "", ".", "..", "...", "a.b", "a.b.c.d", "a..c", "a.b.c=", "ä.b.c", "a b.c.d",
    ] {
        assert!(!is_token(bad.as_bytes()), "{bad:?}");
        assert!(Unverified::parse(bad).is_none(), "{bad:?}");
    }
    let long = "a".repeat(8192);
    for garbage in [
        long.clone(),
        format!("{long}.a.a"),
        format!("a.{long}.a"),
        format!("a.a.{long}"),
    ] {
        assert!(Unverified::parse(&garbage).is_none());
    }
    assert!(is_token(b"a.b.c"));
}

#[test]
fn clocks_may_be_half_a_minute_apart() {
    assert!(is_current(1000, 1030) && !is_current(1000, 1031) && is_current(u64::MAX, u64::MAX));
    assert!(was_made(1030, 1000) && !was_made(1031, 1000));
}
