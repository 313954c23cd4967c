use super::*;
use crate::control::testing::control;

#[tokio::test]
async fn only_whole_bootstrap_keys_are_known() {
    let keys = ["0123456789abcdef".to_owned(), "second-key-of-rotation".to_owned()];
    let auth = Authenticator::new(&keys, false, control()).expect("valid");
    let ask = async |key: &str, org| {
        let credential = Credential::new(key.as_bytes()).expect("short");
        auth.authenticate(&credential, Surface::Data, Origin { ip: None, org })
            .await
    };
    for good in &keys {
        let principal = ask(good, None).await.expect(good);
        assert_eq!(
            (principal.kind, principal.org),
            (CredentialKind::Bootstrap, OrgId::default_org())
        );
    }
    for bad in ["0123456789abcde", "0123456789abcdefg", "0123456789abcdeF", "\u{0}"] {
        assert_eq!(ask(bad, None).await.expect_err(bad).kind, ErrorKind::Unauthenticated);
    }
    assert!(ask(&keys[0], Some("default")).await.is_ok());
    for absent in ["nobody", "", "../default", "Default"] {
        assert_eq!(
            ask(&keys[0], Some(absent)).await.expect_err(absent).kind,
            ErrorKind::NotFound
        );
    }
}

#[tokio::test]
async fn short_keys_are_for_loopback_only() {
    let control = control();
    assert!(Authenticator::new(&["short".into()], false, control.clone()).is_err());
    assert!(Authenticator::new(&["short".into()], true, control.clone()).is_ok());
    assert!(Authenticator::new(&["".into()], true, control.clone()).is_err());
    assert!(Authenticator::new(&[], true, control).is_err());
}
