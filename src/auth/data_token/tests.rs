use proptest::prelude::*;

use super::*;
use crate::control::Secret;
use crate::control::testing::control;
use crate::error::ErrorKind;

const K: &[u8] = b"0123456789abcdef0123456789abcdef";

fn part(text: &str) -> String {
    URL_SAFE_NO_PAD.encode_to_string(text)
}

#[test]
fn the_vector_of_the_design() {
    let secret = Secret::new(K);
    let header = part(r#"{"typ":"JWT","alg":"HS256","kid":"n:5f1e:1"}"#);
    let claims = part(r#"{"iss":"dep","aud":"data","id":"products","a":"ro"}"#);
    let signed = format!("{header}.{claims}");
    let made = |generation| signature(&secret, TokenOf::Namespace, "org_1", "5f1e", generation, &signed);
    assert_eq!(
        format!("{signed}.{}", made(1)),
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiIsImtpZCI6Im46NWYxZToxIn0.eyJpc3MiOiJkZXAiLCJhdWQiOiJkYXRhIiwiaWQiOiJwcm9kdWN0cyIsImEiOiJybyJ9.XT12mrJWZvLW4tpb8Z7VsHNPK9sQjazBzcimkZbKbPs"
    );
    assert_ne!(made(1), made(2));
    for (of, org, id) in [
        (TokenOf::Group, "org_1", "5f1e"),
        (TokenOf::Namespace, "org_2", "5f1e"),
        (TokenOf::Namespace, "org_1", "5f1f"),
    ] {
        assert_ne!(signature(&secret, of, org, id, 1, &signed), made(1));
    }
    assert_ne!(
        signature(&Secret::new(&[1; 32]), TokenOf::Namespace, "org_1", "5f1e", 1, &signed),
        made(1)
    );
}

fn org() -> OrgId {
    OrgId::parse("org_1").expect("legal")
}

fn minting(org: &OrgId) -> Minting<'_> {
    Minting {
        org,
        of: TokenOf::Namespace,
        id: Uuid::from_u128(7),
        name: "products",
        generation: 3,
        level: Level::ReadOnly,
        permissions: None,
        expires_at: None,
    }
}

#[tokio::test]
async fn what_was_minted_is_recognised() {
    let (control, org) = (control(), org());
    let principal = recognise(&control, &mint(&control, &minting(&org)))
        .await
        .expect("ours");
    assert_eq!(principal.kind, CredentialKind::NamespaceToken);
    assert_eq!(principal.org, org);
    let guard = TokenGuard::Namespace {
        id: Uuid::from_u128(7),
        generation: 3,
    };
    assert_eq!(principal.token, Some(guard));
    let [grant] = principal.chain.as_slice() else {
        panic!("one grant")
    };
    assert_eq!(grant.actions, Level::ReadOnly.actions());
    assert!(grant.namespaces.matches("products") && !grant.namespaces.matches("product"));
    for forbidden in [
        Action::DocumentsUpsert,
        Action::CollectionsList,
        Action::TokensCreate,
        Action::KeysCreate,
    ] {
        assert!(!grant.actions.contains(forbidden), "{forbidden}");
    }
    let fine = Minting {
        level: Level::FullAccess,
        permissions: Some(vec!["data_add".into(), "schema_update".into(), "data_fly".into()]),
        ..minting(&org)
    };
    let principal = recognise(&control, &mint(&control, &fine)).await.expect("ours");
    assert_eq!(principal.chain[0].actions, fine.actions());
    assert!(principal.chain[0].actions.contains(Action::DocumentsImport));
    assert!(!principal.chain[0].actions.contains(Action::DocumentsSearch));
    let nothing = Minting {
        permissions: Some(Vec::new()),
        ..minting(&org)
    };
    let principal = recognise(&control, &mint(&control, &nothing)).await.expect("ours");
    assert!(principal.actions().is_empty(), "an empty list allows nothing");
}

#[tokio::test]
async fn expiry_has_a_leeway_of_half_a_minute() {
    let (control, org) = (control(), org());
    let expiring = |by: i64| Minting {
        expires_at: Some(control.now().checked_add_signed(by).expect("small")),
        ..minting(&org)
    };
    for (by, counts) in [(60, true), (0, true), (-27, true), (-31, false), (-3600, false)] {
        let found = recognise(&control, &mint(&control, &expiring(by))).await;
        assert_eq!(found.is_ok(), counts, "{by}");
    }
    let soon = recognise(&control, &mint(&control, &expiring(60))).await.expect("ours");
    assert_eq!(soon.chain[0].not_after, Some(control.now() + 60 + jwt::LEEWAY - 1));
}

/// A token with this header and these claims, signed as if they were ours.
fn forged(control: &Control, header: &str, claims: &serde_json::Value, generation: u64) -> String {
    let signed = format!("{}.{}", part(header), part(&claims.to_string()));
    let id = Uuid::from_u128(7).to_string();
    let oid = claims["oid"].as_str().unwrap_or("org_1");
    let secret = control.options().secrets.current();
    let signature = signature(secret, TokenOf::Namespace, oid, &id, generation, &signed);
    format!("{signed}.{signature}")
}

#[tokio::test]
async fn even_signed_tokens_must_say_the_right_things() {
    let control = control();
    let id = Uuid::from_u128(7);
    let header = format!(r#"{{"typ":"JWT","alg":"HS256","kid":"n:{id}:3"}}"#);
    let good = serde_json::json!({"iss": "dep", "aud": "data", "id": "products", "a": "rw", "oid": "org_1", "iat": 1});
    recognise(&control, &forged(&control, &header, &good, 3))
        .await
        .expect("as minted");
    let mut bad = Vec::new();
    for (claim, value) in [
        ("iss", "other"),
        ("aud", "platform"),
        ("a", ""),
        ("a", "rwx"),
        ("a", "roa"),
        ("oid", "Org/1"),
        ("oid", ""),
        ("exp", "never"),
    ] {
        let mut claims = good.clone();
        claims[claim] = value.into();
        bad.push((header.clone(), claims));
    }
    for claim in ["iss", "aud", "id", "a", "oid", "iat"] {
        let mut claims = good.clone();
        claims.as_object_mut().expect("an object").remove(claim);
        bad.push((header.clone(), claims));
    }
    for spelled in [
        format!(r#"{{"typ":"JWT","alg":"none","kid":"n:{id}:3"}}"#),
        format!(r#"{{"typ":"JWT","alg":"HS512","kid":"n:{id}:3"}}"#),
        format!(r#"{{"typ":"JWT","alg":"EdDSA","kid":"n:{id}:3"}}"#),
        format!(r#"{{"alg":"HS256","kid":"n:{id}:3"}}"#),
        format!(r#"{{"alg":"HS256","typ":"JWT","kid":"n:{id}:3"}}"#),
        format!(r#"{{"typ":"JWT","alg":"HS256","kid":"n:{id}:3","jku":"http://x"}}"#),
        format!(r#"{{"typ":"JWT","alg":"HS256","kid":"n:{id}:03"}}"#),
        format!(r#"{{"typ":"JWT","alg":"HS256","kid":"n:{id}:+3"}}"#),
        format!(r#"{{"typ":"JWT","alg":"HS256","kid":"n:{}:3"}}"#, id.simple()),
        format!(r#"{{"typ":"JWT","alg":"HS256","kid":"n:{{{id}}}:3"}}"#),
        format!(r#"{{"typ":"JWT","alg":"HS256","kid":"g:{id}:3"}}"#),
        format!(r#"{{"typ":"JWT","alg":"HS256","kid":"p:{id}:3"}}"#),
        format!(r#"{{"typ":"JWT","alg":"HS256","kid":"n:{id}:3:1"}}"#),
        r#"{"typ":"JWT","alg":"HS256"}"#.to_owned(),
    ] {
        bad.push((spelled, good.clone()));
    }
    for (header, claims) in bad {
        let token = forged(&control, &header, &claims, 3);
        let error = recognise(&control, &token).await.expect_err(&header);
        assert_eq!(error.kind, ErrorKind::Unauthenticated, "{header} {claims}");
        assert_eq!(error.message, "the token is not valid", "no reason is told");
    }
    // Signed with the key of another generation.
    assert!(recognise(&control, &forged(&control, &header, &good, 2)).await.is_err());
    // Another organization's claim under this one's signature.
    let ours = forged(&control, &header, &good, 3);
    let mut swapped = good.clone();
    swapped["oid"] = "org_2".into();
    let parts: Vec<&str> = ours.split('.').collect();
    let mixed = format!("{}.{}.{}", parts[0], part(&swapped.to_string()), parts[2]);
    assert!(recognise(&control, &mixed).await.is_err());
}

#[tokio::test]
async fn no_changed_byte_is_let_pass() {
    let (control, org) = (control(), org());
    let token = mint(&control, &minting(&org));
    for i in 0..token.len() {
        for flip in [1u8, 2, 4, 0x20, 0x80] {
            let mut bytes = token.clone().into_bytes();
            bytes[i] ^= flip;
            let Ok(changed) = String::from_utf8(bytes) else {
                continue;
            };
            assert!(recognise(&control, &changed).await.is_err(), "byte {i}: {changed}");
        }
        assert!(recognise(&control, &token[..i]).await.is_err());
    }
    for longer in [
        format!("{token}A"),
        format!("{token}."),
        format!("{token}="),
        format!(" {token}"),
        format!("{token}\n"),
    ] {
        assert!(recognise(&control, &longer).await.is_err(), "{longer}");
    }
}

#[tokio::test]
async fn a_token_of_an_older_secret_counts_while_that_is_loaded() {
    let (old, org) = (control(), org());
    let token = mint(&old, &minting(&org));
    let with = |secrets| {
        let mut options = old.options().clone();
        options.secrets = crate::control::Secrets::new(secrets);
        Control::new(old.runtime().clone(), old.records().store().clone(), options)
    };
    let (first, second) = (Secret::new(&[7; 32]), Secret::new(&[8; 32]));
    assert!(recognise(&with(vec![second.clone(), first]), &token).await.is_ok());
    assert!(recognise(&with(vec![second]), &token).await.is_err());
}

#[tokio::test]
async fn group_tokens_count_for_a_generation_of_the_group() {
    let (control, org) = (control(), org());
    let group = control.create_group(&org, "g", None).await.expect("made");
    let of = |group: &crate::control::Group| Minting {
        of: TokenOf::Group,
        id: group.id,
        generation: group.token_gen,
        level: Level::FullAccess,
        ..minting(&org)
    };
    let token = mint(&control, &of(&group));
    let principal = recognise(&control, &token).await.expect("ours");
    let guard = TokenGuard::Group {
        id: group.id,
        is_default: false,
    };
    assert_eq!(
        (principal.kind, principal.token),
        (CredentialKind::GroupToken, Some(guard))
    );
    let group = control.rotate_group(&org, group.id).await.expect("rotated");
    assert!(recognise(&control, &token).await.is_err(), "rotated");
    let token = mint(&control, &of(&group));
    recognise(&control, &token).await.expect("of the new generation");
    control.begin_group_deletion(&org, group.id).await.expect("begun");
    assert!(recognise(&control, &token).await.is_err(), "going");
    control.finish_group_deletion(&org, &group).await.expect("ended");
    assert!(recognise(&control, &token).await.is_err(), "gone");
    let default = control.existing_group(&org, "default").await.expect("implied");
    let token = mint(&control, &of(&default));
    let principal = recognise(&control, &token).await.expect("ours");
    assert!(matches!(
        principal.token,
        Some(TokenGuard::Group { is_default: true, .. })
    ));
}

#[test]
fn only_our_headers_are_ours() {
    let id = Uuid::from_u128(7);
    let header = KeyId {
        of: TokenOf::Group,
        id,
        generation: 1,
    };
    assert!(is_data_token(&format!("{}.x.y", part(&header.header()))));
    for other in ["", ".", "..", "a.b.c", "eyJhbGciOiJub25lIn0..", "k7Qm_shl1_x"] {
        assert!(!is_data_token(other), "{other}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn garbage_is_refused(
        text in ".{0,300}",
        (head, middle, tail) in ("[A-Za-z0-9_-]{0,120}", "[A-Za-z0-9_-]{0,200}", "[A-Za-z0-9_-]{0,50}"),
        generation in any::<u64>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let header = KeyId { of: TokenOf::Namespace, id: Uuid::from_u128(7), generation }.header();
        runtime.block_on(async {
            let control = control();
            for token in [
                text.clone(),
                format!("{head}.{middle}.{tail}"),
                format!("{}.{middle}.{tail}", part(&header)),
                format!("{}.{}.{tail}", part(&header), part(&text)),
            ] {
                assert!(recognise(&control, &token).await.is_err(), "{token}");
            }
        });
    }
}
