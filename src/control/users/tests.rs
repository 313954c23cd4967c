//! Users, their names and memberships, on a store in memory.

use super::*;
use crate::control::{Organization, testing};

#[test]
fn names_and_addresses_are_told_apart() {
    for good in ["ana", "a", "0x-y_z.w", &"a".repeat(64)] {
        assert!(check_username(good).is_ok(), "{good}");
    }
    for bad in ["", "Ana", "-a", ".a", "a b", "a@b", "a/b", "\u{e4}", &"a".repeat(65)] {
        assert!(check_username(bad).is_err(), "{bad:?}");
    }
    assert_eq!(
        parse_email(" Ana@Example.Test ").expect("an address"),
        "ana@example.test"
    );
    for bad in [
        "",
        "ana",
        "@b",
        "a@",
        "a@b@c",
        "a b@c",
        "a/b@c",
        "a\n@b",
        &format!("{}@b", "a".repeat(253)),
    ] {
        assert!(parse_email(bad).is_err(), "{bad:?}");
    }
}

fn new(username: &str, email: Option<&str>) -> NewUser {
    NewUser {
        username: username.into(),
        email: email.map(str::to_owned),
        ..NewUser::default()
    }
}

#[tokio::test]
async fn names_belong_to_one_user_until_they_are_free_again() {
    let control = testing::control();
    let ana = control.create_user(new("ana", Some("Ana@b.test"))).await.expect("free");
    for taken in [new("ana", None), new("other", Some("ana@B.test"))] {
        let error = control.create_user(taken).await.expect_err("taken");
        assert_eq!(error.kind, ErrorKind::Conflict);
    }
    assert!(
        control.user_named("other").await.expect("read").is_none(),
        "nothing is left behind"
    );
    for name in ["ana", "ANA", "ana@b.test"] {
        let found = control.user_named(name).await.expect("read").expect(name);
        assert_eq!(found.id, ana.id);
    }
    control.delete_user(&ana).await.expect("deleted");
    assert!(control.user(&ana.id).await.expect("read").is_none());
    assert!(control.user_named("ana").await.expect("read").is_none());
    let again = control.create_user(new("ana", Some("ana@b.test"))).await.expect("free");
    assert_ne!(again.id, ana.id);
}

#[tokio::test]
async fn of_two_at_once_one_gets_the_name() {
    let control = testing::control();
    let both = (0..8).map(|_| control.create_user(new("ana", None)));
    let made = futures::future::join_all(both).await;
    assert_eq!(made.iter().filter(|m| m.is_ok()).count(), 1);
}

#[tokio::test]
async fn the_last_owner_stays() {
    let control = testing::control();
    let ana = control.create_user(new("ana", None)).await.expect("free");
    let bob = control.create_user(new("bob", None)).await.expect("free");
    let acme = control
        .create_organization("Acme", "unlimited", Some(&ana))
        .await
        .expect("free");
    let org = acme.org_id().expect("valid");
    let ana = User::clone(&control.user(&ana.id).await.expect("read").expect("there"));
    assert_eq!(ana.organizations.len(), 1);
    let kind = |result: Result<Organization>| result.expect_err("refused").kind;
    let owner = Role::Owner;
    assert_eq!(
        kind(control.change_role(&org, &ana, Role::Admin, owner).await),
        ErrorKind::Invalid
    );
    assert_eq!(kind(control.remove_member(&org, &ana, None).await), ErrorKind::Invalid);
    assert_eq!(
        control.delete_user(&ana).await.expect_err("refused").kind,
        ErrorKind::Conflict
    );
    assert_eq!(
        kind(control.change_role(&org, &bob, Role::Admin, owner).await),
        ErrorKind::NotFound
    );
    control.add_member(&org, &bob, Role::Member).await.expect("added");
    assert_eq!(
        kind(control.add_member(&org, &bob, Role::Member).await),
        ErrorKind::Conflict
    );
    let admin = Role::Admin;
    assert_eq!(
        kind(control.change_role(&org, &bob, owner, admin).await),
        ErrorKind::Forbidden
    );
    assert_eq!(
        kind(control.remove_member(&org, &ana, Some(admin)).await),
        ErrorKind::Forbidden
    );
    control
        .change_role(&org, &bob, owner, owner)
        .await
        .expect("an owner may");
    let left = control
        .remove_member(&org, &ana, None)
        .await
        .expect("another owner is there");
    assert_eq!(left.members.len(), 1);
    let ana = control.user(&ana.id).await.expect("read").expect("there");
    assert!(control.organizations_of(&ana).await.expect("read").is_empty());
    assert_eq!(
        kind(control.create_organization("acme", "unlimited", None).await),
        ErrorKind::Conflict
    );
    control.delete_organization(&left).await.expect("deleted");
    assert!(control.organization_of("acme").await.expect("read").is_none());
    // Slugs are never used twice.
    assert_eq!(
        kind(control.create_organization("acme", "unlimited", None).await),
        ErrorKind::Conflict
    );
}

/// Two owners, who are deleted, demoted or removed at the same moment, on two nodes.
#[tokio::test]
async fn of_two_owners_at_once_one_stays() {
    for round in 0..6 {
        let control = testing::control();
        let other = testing::second_node(&control, 11);
        let ana = control.create_user(new("ana", None)).await.expect("free");
        let bob = control.create_user(new("bob", None)).await.expect("free");
        let (mut orgs, owner) = (Vec::new(), Role::Owner);
        for name in ["one", "two"] {
            let made = control.create_organization(name, "unlimited", Some(&ana)).await;
            let org = made.expect("free").org_id().expect("valid");
            control.add_member(&org, &bob, owner).await.expect("added");
            orgs.push(org);
        }
        let of = async |id: &str| User::clone(&*control.user(id).await.expect("read").expect("there"));
        let (ana, bob) = (of(&ana.id).await, of(&bob.id).await);
        let rival = async || match round % 3 {
            0 => other.delete_user(&bob).await.is_ok(),
            1 => other.change_role(&orgs[1], &bob, Role::Viewer, owner).await.is_ok(),
            _ => other.remove_member(&orgs[1], &bob, None).await.is_ok(),
        };
        let (first, second) = match round < 3 {
            true => futures::join!(control.delete_user(&ana), rival()),
            // One after the other, where what the second node remembers is old.
            false => {
                let known = other.organization(&orgs[1]).await.expect("read");
                assert_eq!(known.map(|o| o.members.len()), Some(2));
                (control.delete_user(&ana).await, rival().await)
            }
        };
        for (i, org) in orgs.iter().enumerate() {
            let found: Organization = control
                .records()
                .get(&paths::org(org))
                .await
                .expect("read")
                .expect("there");
            let owners: Vec<&String> = found
                .members
                .iter()
                .filter(|(_, r)| **r == owner)
                .map(|(id, _)| id)
                .collect();
            assert!(!owners.is_empty(), "{round}: organization {i} has no owner");
            for id in owners {
                let user: Option<User> = control.records().get(&paths::user(id)).await.expect("read");
                assert!(
                    user.is_some_and(|user| !user.deleting),
                    "{round}: the owner of {i} is there"
                );
            }
        }
        assert!(!(first.is_ok() && second), "{round}: only one of them can be done");
        if let Err(error) = first {
            // Whoever stays has lost nothing.
            assert_eq!(error.kind, ErrorKind::Conflict);
            let ana = control.user(&ana.id).await.expect("read").expect("there");
            assert_eq!(control.organizations_of(&ana).await.expect("read").len(), 2);
        }
    }
}

#[tokio::test]
async fn who_is_being_deleted_comes_into_no_organization() {
    let control = testing::control();
    let ana = control.create_user(new("ana", None)).await.expect("free");
    let acme = control
        .create_organization("acme", "unlimited", None)
        .await
        .expect("free");
    control.mark_deleting(&ana.id, true).await.expect("marked");
    let org = acme.org_id().expect("valid");
    let error = control.add_member(&org, &ana, Role::Owner).await.expect_err("refused");
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(
        control
            .create_organization("bolt", "unlimited", Some(&ana))
            .await
            .is_err()
    );
    // A crash left the mark; deleting again finishes.
    control.delete_user(&ana).await.expect("deleted");
    assert!(control.user(&ana.id).await.expect("read").is_none());
}

#[tokio::test]
async fn sign_in_asks_for_the_password() {
    let control = testing::control();
    let password = |text: &str| crate::control::Hidden::new(text);
    let hash = control
        .hash_password(password("correct horse"))
        .await
        .expect("long enough");
    let user = NewUser {
        password: Some(hash),
        ..new("ana", Some("ana@b.test"))
    };
    let ana = control.create_user(user).await.expect("free");
    control.create_user(new("bob", None)).await.expect("free");
    for name in ["ana", "ana@b.test"] {
        let found = control
            .sign_in(name, password("correct horse"), None)
            .await
            .expect(name);
        assert_eq!(found.id, ana.id);
    }
    for (name, text) in [
        ("ana", "wrong"),
        ("ana", ""),
        ("bob", ""),
        ("bob", "correct horse"),
        ("eve", "x"),
    ] {
        let error = control.sign_in(name, password(text), None).await.expect_err(name);
        assert_eq!(
            (error.kind, error.message.as_str()),
            (ErrorKind::Unauthenticated, "username or password is wrong")
        );
    }
    for _ in 0..3 {
        assert!(control.sign_in("ana", password("wrong"), None).await.is_err());
    }
    let error = control
        .sign_in("ana", password("correct horse"), None)
        .await
        .expect_err("too often");
    assert_eq!(error.kind, ErrorKind::Overloaded);
    assert!(error.retry_after.is_some());
    for bad in ["", "short", &"x".repeat(1025)] {
        let error = control.hash_password(password(bad)).await.expect_err(bad);
        assert_eq!(error.kind, ErrorKind::Invalid);
    }
}

#[tokio::test]
async fn users_of_one_shard_are_not_confused() {
    let control = testing::control();
    let ana = control.create_user(new("ana", None)).await.expect("free");
    let id = |i: u32| format!("user_{i}");
    let shard = |id: &str| crate::control::cache::shard_of(&scope_of(id).expect("legal"));
    let twin = (1..)
        .map(id)
        .find(|id| shard(id) == shard(&ana.id))
        .expect("shards are few");
    let bob = User {
        id: twin.clone(),
        username: "bob".into(),
        ..ana.clone()
    };
    assert!(
        control
            .records()
            .create(&paths::user(&twin), &bob)
            .await
            .expect("written")
    );
    for (id, name) in [(&ana.id, "ana"), (&twin, "bob"), (&ana.id, "ana")] {
        assert_eq!(control.user(id).await.expect("read").expect("there").username, name);
    }
}
