use proptest::prelude::*;

use super::*;
use crate::control::Patterns;

fn grant(actions: &[&'static str], namespaces: &[&'static str]) -> Grant {
    Grant {
        actions: ActionSet::parse(actions.iter().copied()).expect("known"),
        namespaces: Patterns::parse(namespaces.iter().copied()).expect("legal"),
        ..Grant::in_org(OrgId::default_org(), ActionSet::NONE)
    }
}

fn of(chain: Vec<Grant>) -> Principal {
    Principal {
        kind: CredentialKind::ApiKey,
        id: "1".into(),
        user: None,
        org: OrgId::default_org(),
        chain: chain.into_iter().map(Arc::new).collect(),
        embedded: None,
        restriction: None,
        token: None,
    }
}

fn ask<'a>(org: &'a OrgId, action: Action, namespace: Option<&'a str>) -> Ask<'a> {
    Ask {
        action,
        org,
        namespace,
        group: None,
        now: 1000,
        ip: Some(IpAddr::from([10, 0, 0, 1])),
    }
}

#[test]
fn every_rule_decides() {
    let (ours, theirs) = (OrgId::default_org(), OrgId::parse("org_2").expect("legal"));
    let group = Uuid::from_u128(7);
    let base = || grant(&["documents:search", "documents:get", "keys:list"], &["shop_*"]);
    let search = |namespace| ask(&ours, Action::DocumentsSearch, namespace);
    type Case<'a> = (&'a str, Vec<Grant>, Ask<'a>, Result<(), Denial>);
    let cases: Vec<Case<'_>> = vec![
        ("allowed", vec![base()], search(Some("shop_a")), Ok(())),
        (
            "no grant",
            vec![],
            search(Some("shop_a")),
            Err(Denial::Action(Action::DocumentsSearch)),
        ),
        (
            "no action",
            vec![grant(&[], &["*"])],
            search(Some("a")),
            Err(Denial::Action(Action::DocumentsSearch)),
        ),
        (
            "no namespace",
            vec![grant(&["*"], &[])],
            search(Some("a")),
            Err(Denial::Namespace),
        ),
        (
            "another namespace",
            vec![base()],
            search(Some("other")),
            Err(Denial::Namespace),
        ),
        (
            "another action",
            vec![base()],
            ask(&ours, Action::DocumentsDelete, Some("shop_a")),
            Err(Denial::Action(Action::DocumentsDelete)),
        ),
        (
            "without a namespace the patterns say nothing",
            vec![base()],
            ask(&ours, Action::KeysList, None),
            Ok(()),
        ),
        (
            "another organization",
            vec![base()],
            ask(&theirs, Action::DocumentsSearch, Some("shop_a")),
            Err(Denial::OtherOrganization),
        ),
        (
            "its last second",
            vec![Grant {
                not_after: Some(1000),
                ..base()
            }],
            search(Some("shop_a")),
            Ok(()),
        ),
        (
            "after it",
            vec![Grant {
                not_after: Some(999),
                ..base()
            }],
            search(Some("shop_a")),
            Err(Denial::Expired),
        ),
        (
            "from its network",
            vec![Grant {
                allowed_ips: vec!["10.0.0.0/8".parse().expect("a net")],
                ..base()
            }],
            search(Some("shop_a")),
            Ok(()),
        ),
        (
            "from another",
            vec![Grant {
                allowed_ips: vec!["10.1.0.0/16".parse().expect("a net")],
                ..base()
            }],
            search(Some("shop_a")),
            Err(Denial::Address),
        ),
        (
            "from nowhere",
            vec![Grant {
                allowed_ips: vec!["0.0.0.0/0".parse().expect("a net")],
                ..base()
            }],
            Ask {
                ip: None,
                ..search(Some("shop_a"))
            },
            Err(Denial::Address),
        ),
        (
            "in its group",
            vec![Grant {
                group: Some(group),
                ..base()
            }],
            Ask {
                group: Some(group),
                ..search(Some("shop_a"))
            },
            Ok(()),
        ),
        (
            "in an unknown group",
            vec![Grant {
                group: Some(group),
                ..base()
            }],
            search(Some("shop_a")),
            Err(Denial::Group),
        ),
        (
            "both grants allow",
            vec![base(), grant(&["*"], &["*_a"])],
            search(Some("shop_a")),
            Ok(()),
        ),
        (
            "one of two does not",
            vec![base(), grant(&["*"], &["*_b"])],
            search(Some("shop_a")),
            Err(Denial::Namespace),
        ),
    ];
    for (what, chain, ask, expected) in cases {
        assert_eq!(authorize(&of(chain), &ask), expected, "{what}");
    }
    let root = Principal {
        kind: CredentialKind::Bootstrap,
        ..of(vec![])
    };
    assert_eq!(
        authorize(&root, &ask(&theirs, Action::OrganizationsDelete, None)),
        Ok(())
    );
}

#[test]
fn nobody_mints_what_they_lack() {
    let wide = grant(&["documents:*", "keys:create"], &["shop_*"]);
    let minter = of(vec![wide.clone()]);
    for (what, minted, may) in [
        ("the same", wide.clone(), true),
        ("less", grant(&["documents:search"], &["shop_a"]), true),
        ("another action", grant(&["collections:delete"], &["shop_a"]), false),
        ("everything", grant(&["*"], &["shop_a"]), false),
        ("another namespace", grant(&["documents:search"], &["a"]), false),
        ("all namespaces", grant(&["documents:search"], &["*"]), false),
        (
            "another organization",
            Grant {
                org: OrgId::parse("org_2").expect("legal"),
                ..wide.clone()
            },
            false,
        ),
    ] {
        assert_eq!(minter.may_mint(&minted), may, "{what}");
    }
    let mortal = of(vec![Grant {
        not_after: Some(10),
        ..wide.clone()
    }]);
    assert!(!mortal.may_mint(&wide), "outlives its maker");
    assert!(mortal.may_mint(&Grant {
        not_after: Some(10),
        ..wide.clone()
    }));
    let local = of(vec![Grant {
        allowed_ips: vec!["10.0.0.0/8".parse().expect("a net")],
        ..wide.clone()
    }]);
    assert!(!local.may_mint(&wide), "from everywhere");
    assert!(local.may_mint(&Grant {
        allowed_ips: vec!["10.1.0.0/16".parse().expect("a net")],
        ..wide.clone()
    }));
    assert!(!of(vec![]).may_mint(&grant(&[], &[])));
}

/// Grants as minters may ask for them, of few enough words that they often cover each other.
fn any_grant() -> impl Strategy<Value = Grant> {
    let action = prop::sample::select(vec![
        "*",
        "documents:*",
        "documents:search",
        "keys:create",
        "collections:get",
    ]);
    let pattern = prop::sample::select(vec!["*", "shop_*", "shop_a*", "shop_a", "(shop_.*)", "other", "shop_?"]);
    let net = prop::sample::select(vec!["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "192.168.0.0/16"]);
    let parts = (
        prop::collection::vec(action, 0..3),
        prop::collection::vec(pattern, 0..3),
        prop::option::of(900_u64..1100),
        prop::collection::vec(net, 0..3),
        prop::option::of(1_u128..3),
    );
    parts.prop_map(|(actions, patterns, not_after, nets, group)| Grant {
        not_after,
        allowed_ips: nets.iter().map(|net| net.parse().expect("a net")).collect(),
        group: group.map(Uuid::from_u128),
        ..grant(&actions, &patterns)
    })
}

proptest! {
    /// Whatever is minted from what was minted: nothing is allowed in the end that was not in the beginning.
    #[test]
    fn no_sequence_of_mints_reaches_a_wider_grant(first in any_grant(), wishes in prop::collection::vec(any_grant(), 1..12)) {
        let root = of(vec![first]);
        let mut held = vec![root.clone()];
        for wish in wishes {
            let minter = held.iter().rev().find(|p| p.may_mint(&wish));
            if minter.is_some() {
                held.push(of(vec![wish]));
            }
        }
        let orgs = [OrgId::default_org()];
        for action in Action::ALL {
            for name in ["shop_", "shop_a", "shop_ab", "shop_b", "other", "x"] {
                for (now, ip, group) in [(899, [10, 1, 0, 1], 1), (1000, [10, 0, 0, 1], 2), (1099, [192, 168, 1, 1], 1), (5000, [1, 1, 1, 1], 9)] {
                    let ask = Ask {
                        now,
                        ip: Some(IpAddr::from(ip)),
                        group: Some(Uuid::from_u128(group)),
                        ..ask(&orgs[0], *action, Some(name))
                    };
                    if authorize(&root, &ask).is_err() {
                        for principal in &held {
                            prop_assert!(authorize(principal, &ask).is_err(), "{:?} may {action} {name}", principal.chain);
                        }
                    }
                }
            }
        }
    }
}
