use std::time::Duration;

use serde_json::{Map, Value};

use super::*;
use crate::control::platform_tokens::OrgBound;
use crate::control::testing;
use crate::control::users::NewUser;
use crate::control::{ControlOptions, Freshness, Secrets};
use crate::error::ErrorKind;

async fn ana(control: &Control) -> User {
    let new = NewUser {
        username: "ana".into(),
        ..NewUser::default()
    };
    control.create_user(new).await.expect("free")
}

fn own_key(control: &Control) -> (Key, String) {
    let secret = control.options().secrets.current();
    (key(secret), format!("{KID}{}", secret.id()))
}

async fn is_known(control: &Control, token: &str) -> bool {
    match recognise(control, token).await {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind, ErrorKind::Unauthenticated, "{error}");
            false
        }
    }
}

#[tokio::test(start_paused = true)]
async fn sessions_last_a_week_or_until_they_are_ended() {
    let control = testing::control_with_tokio_clock(7);
    let user = ana(&control).await;
    let (token, exp) = session(&control, &user);
    let token = token.reveal();
    assert_eq!(exp, testing::START + 604_800);
    let found = recognise(&control, token).await.expect("valid");
    assert_eq!(found.expires, Some(exp));
    assert_eq!(
        (found.principal.kind, found.principal.user),
        (CredentialKind::UserToken, Some(user.id.clone()))
    );
    assert!(found.principal.chain.is_empty(), "no rights without an organization");
    // Ended in the very second in which it began; the next one counts at once.
    control.end_sessions(&user.id).await.expect("ended");
    assert!(!is_known(&control, token).await);
    let user = User::clone(&control.user(&user.id).await.expect("read").expect("there"));
    let (token, _) = session(&control, &user);
    assert!(is_known(&control, token.reveal()).await);
    tokio::time::advance(Duration::from_secs(SESSION + 1 + jwt::LEEWAY)).await;
    assert!(is_known(&control, token.reveal()).await);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(!is_known(&control, token.reveal()).await);
}

#[tokio::test]
async fn platform_tokens_count_while_their_record_is_there() {
    let control = testing::control();
    let second = testing::second_node(&control, 8);
    let user = ana(&control).await;
    let bound = OrgBound {
        id: "org_1".into(),
        slug: "acme".into(),
        group: None,
    };
    let free = control.create_token(&user.id, "free", None).await.expect("new");
    let of_org = control.create_token(&user.id, "ci", Some(bound)).await.expect("new");
    assert_eq!(free.id.len(), 22);
    let taken = control.create_token(&user.id, "ci", None).await.expect_err("taken");
    assert_eq!(taken.kind, ErrorKind::Conflict);
    for control in [&control, &second] {
        let found = recognise(control, mint(control, &free).reveal()).await.expect("valid");
        assert_eq!((found.expires, found.principal.id.as_str()), (None, free.id.as_str()));
        let found = recognise(control, mint(control, &of_org).reveal())
            .await
            .expect("valid");
        assert_eq!(found.principal.chain.len(), 1);
        assert_eq!(found.principal.chain[0].org.as_str(), "org_1");
    }
    let names = |tokens: Vec<PlatformToken>| tokens.into_iter().map(|t| t.name).collect::<Vec<_>>();
    assert_eq!(names(control.tokens_of(&user.id).await.expect("read")), ["ci", "free"]);
    let org = OrgId::parse("org_1").expect("valid");
    assert_eq!(names(control.tokens_in(&org).await.expect("read")), ["ci"]);
    control.revoke_token(&of_org).await.expect("revoked");
    assert!(!is_known(&control, mint(&control, &of_org).reveal()).await);
    assert!(control.tokens_in(&org).await.expect("read").is_empty());
    let again = control
        .create_token(&user.id, "ci", None)
        .await
        .expect("the name is free");
    control.revoke_token(&of_org).await.expect("again");
    assert!(
        is_known(&control, mint(&control, &again).reveal()).await,
        "the new one is another"
    );
    control.delete_user(&user).await.expect("deleted");
    assert!(!is_known(&control, mint(&control, &again).reveal()).await);
    assert!(!is_known(&control, mint(&control, &free).reveal()).await);
}

/// Whatever is signed with the right key, but says something else than what we sign.
#[tokio::test]
async fn claims_have_to_be_ours() {
    let control = testing::control();
    let user = ana(&control).await;
    let (key, kid) = own_key(&control);
    let now = control.now();
    let good =
        json!({"iss": "dep", "aud": "platform", "sub": format!("user:{}", user.id), "iat": now, "exp": now + 60});
    let with = |field: &str, value: Value| {
        let mut claims: Map<String, Value> = good.as_object().expect("an object").clone();
        match value {
            Value::Null => claims.remove(field),
            value => claims.insert(field.to_owned(), value),
        };
        key.sign(&kid, &claims).reveal().to_owned()
    };
    assert!(is_known(&control, &with("iat", json!(now))).await);
    assert!(is_known(&control, &with("exp", json!(now - 29))).await, "clocks differ");
    let bad = [
        ("iss", json!("another")),
        ("iss", Value::Null),
        ("aud", json!("data")),
        ("aud", json!(["platform", "data"])),
        ("aud", Value::Null),
        ("sub", json!(user.id)),
        ("sub", json!("user:")),
        ("sub", json!("user:../../root")),
        ("sub", json!(format!("org:{}", user.id))),
        ("sub", Value::Null),
        ("iat", json!(now + 60)),
        ("iat", json!(user.valid_from - 1)),
        ("iat", json!("1")),
        ("iat", Value::Null),
        ("exp", json!(now - 60)),
        ("exp", json!(-1)),
        ("exp", json!(now as f64 + 0.5)),
        ("exp", Value::Null),
        ("jti", json!("AAAAAAAAAAAAAAAAAAAAAA")),
        ("jti", json!("")),
        ("jti", json!("../x")),
        ("admin", json!(true)),
    ];
    for (field, value) in bad {
        assert!(
            !is_known(&control, &with(field, value.clone())).await,
            "{field} {value}"
        );
    }
    let claims = good.as_object().expect("an object");
    for bad in [
        "",
        "p:",
        "p:00000000",
        "n:5f1e:1",
        kid.trim_start_matches("p:"),
        &format!("{kid} "),
    ] {
        assert!(!is_known(&control, key.sign(bad, claims).reveal()).await, "{bad:?}");
    }
    // The right claims, signed by others.
    for other in [
        Key::ed25519(&[1; 32]),
        Key::hs256(&[1; 32]),
        Key::hs256(&key.public().expect("public").try_into().expect("32")),
    ] {
        assert!(!is_known(&control, other.sign(&kid, claims).reveal()).await);
    }
    let token = with("iat", json!(now));
    for i in 0..token.len() {
        for replacement in ['A', 'w', '.'] {
            let bad = format!("{}{replacement}{}", &token[..i], &token[i + 1..]);
            assert!(bad == token || !is_known(&control, &bad).await, "{i}");
        }
    }
    for garbage in [
        "a.b.c".to_owned(),
        "A".repeat(8192),
        format!("{}.{token}", "A".repeat(1000)),
        format!("{token}.a"),
    ] {
        assert!(!is_known(&control, &garbage).await);
    }
}

#[tokio::test]
async fn another_deployment_or_secret_has_other_tokens() {
    let first = testing::control();
    let user = ana(&first).await;
    let (token, _) = session(&first, &user);
    let node = |deployment: &str, secrets: Vec<Secret>| {
        let options = ControlOptions {
            secrets: Secrets::new(secrets),
            freshness: Freshness::default(),
            deployment: deployment.into(),
        };
        Control::new(first.runtime().clone(), first.records().store().clone(), options)
    };
    let (old, new) = (Secret::new(&[7; 32]), Secret::new(&[8; 32]));
    assert!(is_known(&node("dep", vec![old.clone()]), token.reveal()).await);
    assert!(!is_known(&node("other", vec![old.clone()]), token.reveal()).await);
    assert!(!is_known(&node("dep", vec![new.clone()]), token.reveal()).await);
    // While secrets are exchanged both count.
    let both = node("dep", vec![new, old]);
    assert!(is_known(&both, token.reveal()).await);
    let keys = key_set(&both);
    assert_eq!(keys["keys"].as_array().map(Vec::len), Some(2));
    assert_eq!(keys["keys"][0]["alg"], "EdDSA");
}
