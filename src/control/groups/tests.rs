use std::sync::Arc;

use super::*;
use crate::base::{CpuPool, Ledger, Rng, Runtime, SystemClock, TokioSpawner};
use crate::config::StoreConfig;
use crate::control::{ControlOptions, Freshness, Place, Secret, Secrets};
use crate::store::{Store, backend};

/// Two nodes over one store.
fn nodes() -> [Control; 2] {
    let runtime = Runtime {
        clock: Arc::new(SystemClock),
        rng: Rng::seeded(7),
        spawner: Arc::new(TokioSpawner::default()),
        cpu: CpuPool::inline(),
        memory: Ledger::new(1 << 20, 1 << 20),
    };
    let config = StoreConfig::default();
    let backend = backend::build(&config, runtime.clock.wall()).expect("memory");
    let store = Store::new(backend.store, runtime.clock.clone(), runtime.rng.clone(), &config);
    let node = || {
        let options = ControlOptions {
            secrets: Secrets::new(vec![Secret::new(&[7; 32])]),
            freshness: Freshness {
                strict: true,
                ..Freshness::default()
            },
            deployment: "dep".into(),
        };
        let mut place = Place::default();
        place.locations.insert("far".into(), "Another deployment".into());
        Control::new(runtime.clone(), store.clone(), options).at(place)
    };
    [node(), node()]
}

fn org(id: &str) -> OrgId {
    OrgId::parse(id).expect("legal")
}

fn names(groups: &[Arc<Group>]) -> Vec<&str> {
    groups.iter().map(|g| g.name.as_str()).collect()
}

#[tokio::test]
async fn every_organization_has_a_group_that_nobody_wrote() {
    let [a, b] = nodes();
    let (one, two) = (org("one"), org("two"));
    let first = a.existing_group(&one, DEFAULT_GROUP).await.expect("implied");
    assert_eq!((first.token_gen, first.primary.as_str()), (0, "local"));
    assert_eq!(first.id, default_group_id(&one));
    assert_ne!(default_group_id(&one), default_group_id(&two));
    assert_eq!(default_group_id(&one), default_group_id(&org("one")));
    assert_eq!(names(&b.groups(&two).await.expect("listed")), ["default"]);
    a.rotate_group(&one, first.id).await.expect("rotated");
    assert_eq!(b.group_of(&one, None).await.expect("found").token_gen, 1);
    assert_eq!(b.group_of(&two, None).await.expect("found").token_gen, 0);
    let rename = a.rename_group(&one, &first, "other").await.expect_err("fixed");
    assert_eq!(rename.kind, ErrorKind::Invalid);
}

#[tokio::test]
async fn groups_are_made_once_renamed_and_deleted() {
    let [a, b] = nodes();
    let one = org("one");
    // What is remembered as absent is found when it is made elsewhere.
    assert!(b.group(&one, "x").await.expect("looked").is_none());
    let x = a.create_group(&one, "x", None).await.expect("made");
    assert_eq!(b.existing_group(&one, "x").await.expect("found").id, x.id);
    assert_eq!(
        b.create_group(&one, "x", None).await.expect_err("taken").kind,
        ErrorKind::Conflict
    );
    assert_eq!(
        a.create_group(&one, "default", None).await.expect_err("taken").kind,
        ErrorKind::Conflict
    );
    for bad in ["", "X", "a b", "a/b", &"a".repeat(65)] {
        assert_eq!(
            a.create_group(&one, bad, None).await.expect_err(bad).kind,
            ErrorKind::Invalid
        );
        assert!(a.group(&one, bad).await.expect("looked").is_none(), "{bad:?}");
    }
    for (location, kind) in [("nowhere", ErrorKind::Invalid), ("far", ErrorKind::QuotaExceeded)] {
        let error = a.create_group(&one, "y", Some(location)).await.expect_err(location);
        assert_eq!(error.kind, kind, "{location}");
    }
    assert_eq!(names(&b.groups(&one).await.expect("listed")), ["default", "x"]);
    assert_eq!(names(&b.groups(&org("two")).await.expect("listed")), ["default"]);

    let y = a.rename_group(&one, &x, "y").await.expect("renamed");
    assert_eq!((y.id, y.name.as_str()), (x.id, "y"));
    assert!(b.group(&one, "x").await.expect("looked").is_none());
    assert_eq!(b.existing_group(&one, "y").await.expect("found").id, x.id);
    let anew = b.create_group(&one, "x", Some("local")).await.expect("free again");
    assert_ne!(anew.id, x.id);
    let taken = a.rename_group(&one, &anew, "y").await.expect_err("taken");
    assert_eq!(taken.kind, ErrorKind::Conflict);

    a.check_group_takes(&one, y.id).await.expect("takes");
    a.update_group(&one, y.id, |g| {
        g.delete_protection = true;
        Ok(())
    })
    .await
    .expect("protected");
    let protected = a.begin_group_deletion(&one, y.id).await.expect_err("protected");
    assert_eq!(protected.kind, ErrorKind::Conflict);
    let begun = a.begin_group_deletion(&one, anew.id).await.expect("begun");
    assert_eq!(
        b.check_group_takes(&one, anew.id).await.expect_err("going").kind,
        ErrorKind::Invalid
    );
    // The node that began may be gone: another one ends it.
    b.begin_group_deletion(&one, anew.id).await.expect("begun again");
    b.finish_group_deletion(&one, &begun).await.expect("ended");
    assert_eq!(names(&a.groups(&one).await.expect("listed")), ["default", "y"]);
    assert!(a.check_group_takes(&one, anew.id).await.is_err());
    assert!(a.group_by_id(&one, anew.id).await.expect("looked").is_none());
    assert_eq!(a.group_of(&one, Some(anew.id)).await.expect("nameless").name, "");
}

#[tokio::test]
async fn one_of_many_gets_a_name() {
    let [a, b] = nodes();
    let one = org("one");
    let tries = (0..16).map(|i| {
        let (node, one) = (if i % 2 == 0 { &a } else { &b }, &one);
        async move { node.create_group(one, "x", None).await }
    });
    let outcomes = futures::future::join_all(tries).await;
    let made: Vec<_> = outcomes.iter().filter_map(|o| o.as_ref().ok()).collect();
    assert_eq!(made.len(), 1);
    let lost = outcomes.iter().filter_map(|o| o.as_ref().err());
    assert!(lost.into_iter().all(|e| e.kind == ErrorKind::Conflict));
    assert_eq!(b.existing_group(&one, "x").await.expect("found").id, made[0].id);
}

#[tokio::test]
async fn a_deleted_default_group_revokes_its_tokens_and_goes_on() {
    let [a, b] = nodes();
    let one = org("one");
    let group = a
        .begin_group_deletion(&one, default_group_id(&one))
        .await
        .expect("begun");
    assert!(b.check_group_takes(&one, group.id).await.is_err());
    a.finish_group_deletion(&one, &group).await.expect("ended");
    b.check_group_takes(&one, group.id).await.expect("takes");
    let anew = b.existing_group(&one, DEFAULT_GROUP).await.expect("there");
    assert_eq!((anew.token_gen, anew.deleting), (1, false));
}

#[tokio::test]
async fn nodes_see_each_other_while_they_speak() {
    let [a, b] = nodes();
    assert_eq!(a.live_nodes().await.expect("alone"), [a.this_node()]);
    b.beat().await.expect("written");
    let [_, c] = [&a, &b].map(|node| {
        Control::new(
            node.runtime().clone(),
            node.records().store().clone(),
            node.options().clone(),
        )
    });
    let ids: Vec<Uuid> = c.live_nodes().await.expect("two").iter().map(|n| n.id).collect();
    assert!(ids.contains(&b.this_node().id) && ids.contains(&c.this_node().id) && ids.len() == 2);
}
