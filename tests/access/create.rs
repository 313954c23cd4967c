//! Namespaces that begin without rows, and what they are known by.

use futures::future::join_all;
use serde_json::json;
use shoal::error::ErrorKind;
use shoal::model::{Settings, SettingsChange, schema_json};
use shoal::namespace::Creation;

use super::support::engine::{Node, name};
use super::support::fault::FaultRates;
use super::{bucket, known, node, said, set};

async fn create(node: &Node, namespace: &str, creation: Creation) -> shoal::error::Result<shoal::namespace::Metadata> {
    node.engine.create(&node.org, &name(namespace), creation).await
}

#[tokio::test(start_paused = true)]
async fn a_created_namespace_is_there_and_listed_with_its_schema_and_settings() {
    let bucket = bucket(1);
    let (a, b) = (node(&bucket, 1), node(&bucket, 2));
    let schema = json!({"title": {"type": "string", "full_text_search": true}, "v": {"type": "[2]f32", "ann": {"distance_metric": "cosine_distance"}}});
    let creation = Creation {
        settings: SettingsChange {
            delete_protection: Some(true),
            size_limit: Some(Some(1 << 20)),
            ..SettingsChange::default()
        },
        schema: Some(schema.to_string().into()),
    };
    let created = create(&a, "new", creation).await.expect("created");
    let expected = Settings {
        delete_protection: true,
        size_limit: Some(1 << 20),
        ..Settings::default()
    };
    assert_eq!(*created.settings, expected);
    for node in [&a, &b] {
        let there = known(node, "new").await;
        assert_eq!((there.id, &*there.settings), (created.id, &expected));
        assert_eq!(schema_json::v2(&there.schema), schema_json::v2(&created.schema));
        assert_eq!(there.schema.attributes().count(), 2);
        assert!(node.ids("new").await.expect("readable").is_empty());
        let page = node.engine.list(&node.org, "", None, 10).await.expect("listed");
        assert_eq!(page.names, [name("new")]);
        assert_eq!(
            said(create(node, "new", Creation::default()).await),
            (ErrorKind::Conflict, None)
        );
    }
    b.write(
        "new",
        json!({"upsert_rows": [{"id": 1, "title": "a", "v": [1, 2]}], "distance_metric": "cosine_distance"}),
    )
    .await
    .expect("written");
    assert_eq!(
        known(&a, "new").await.id,
        created.id,
        "rows change nothing of what it is"
    );
    // With nothing said, there is a namespace all the same, and one by a write cannot be created again.
    let plain = create(&a, "plain", Creation::default()).await.expect("created");
    assert_eq!(
        (plain.settings.as_ref(), plain.schema.is_empty()),
        (&Settings::default(), true)
    );
    assert_ne!(plain.id, created.id);
    assert_eq!(known(&b, "plain").await.id, plain.id);
    a.write("written", json!({"upsert_rows": [{"id": 1}]}))
        .await
        .expect("written");
    assert_eq!(
        said(create(&b, "written", Creation::default()).await),
        (ErrorKind::Conflict, None)
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_a_creation_creates_nothing() {
    let node = node(&bucket(1), 1);
    let schema = |text: &'static str| Creation {
        schema: Some(text.into()),
        ..Creation::default()
    };
    let settings = |settings| Creation {
        settings,
        ..Creation::default()
    };
    let too_many = SettingsChange {
        allowed_ips: Some(vec!["10.0.0.0/8".parse().expect("a network"); 65]),
        ..SettingsChange::default()
    };
    for wrong in [
        schema("{"),
        schema(r#"{"a": "no type"}"#),
        settings(too_many),
        settings(SettingsChange {
            size_limit: Some(Some(0)),
            ..SettingsChange::default()
        }),
    ] {
        let e = create(&node, "new", wrong).await.expect_err("wrong");
        assert_eq!(e.kind, ErrorKind::Invalid, "{e}");
    }
    assert_eq!(said(node.ids("new").await).0, ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_is_created_again_is_another_one() {
    let bucket = bucket(1);
    let (a, b) = (node(&bucket, 1), node(&bucket, 2));
    let mut ids = Vec::new();
    for round in 0..3 {
        match round {
            1 => drop(
                a.write("ns", json!({"upsert_rows": [{"id": 1}]}))
                    .await
                    .expect("written"),
            ),
            _ => drop(create(&a, "ns", Creation::default()).await.expect("created")),
        }
        let id = known(&b, "ns").await.id;
        assert_eq!(known(&a, "ns").await.id, id);
        assert!(!ids.contains(&id));
        ids.push(id);
        b.engine.delete(&b.org, &name("ns")).await.expect("deleted");
    }
}

/// Of several who create one name, exactly one is told that it did; on a failing store, at most one, and
/// nobody is told that it exists while it does not.
#[test]
fn one_creation_of_a_name_wins() {
    for seed in 0..120 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(race(seed));
    }
}

async fn race(seed: u64) {
    let bucket = bucket(seed);
    let nodes: Vec<Node> = (0..3).map(|n| node(&bucket, seed * 10 + n)).collect();
    let stormy = seed % 2 == 1;
    if seed.is_multiple_of(3) {
        // A name that was in use.
        nodes[0]
            .write("ns", json!({"upsert_rows": [{"id": 1}]}))
            .await
            .expect("written");
        nodes[0]
            .engine
            .delete(&nodes[0].org, &name("ns"))
            .await
            .expect("deleted");
    }
    if stormy {
        bucket.set_rates(FaultRates::stormy());
    }
    let one = |rival: usize| {
        let node = &nodes[rival % nodes.len()];
        let settings = SettingsChange {
            size_limit: Some(Some(1 << (20 + rival))),
            ..SettingsChange::default()
        };
        let creation = Creation { settings, schema: None };
        async move { create(node, "ns", creation).await }
    };
    let outcomes = join_all((0..6).map(one)).await;
    bucket.heal();
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    let won: Vec<usize> = (0..6).filter(|rival| outcomes[*rival].is_ok()).collect();
    let of_kind = |kind| {
        outcomes
            .iter()
            .filter(|o| o.as_ref().is_err_and(|e| e.kind == kind))
            .count()
    };
    let conflicts = of_kind(ErrorKind::Conflict);
    if stormy {
        assert!(won.len() <= 1, "seed {seed}: {won:?}");
        let unknown = of_kind(ErrorKind::Unknown);
        assert!(
            conflicts == 0 || won.len() + unknown > 0,
            "seed {seed}: one of them created it"
        );
    } else {
        assert_eq!((won.len(), conflicts), (1, 5), "seed {seed}");
    }
    for node in &nodes {
        let there = node.engine.metadata(&node.org, &name("ns")).await;
        if let Some(winner) = won.first() {
            let there = there.expect("created");
            assert_eq!(there.settings.size_limit, Some(1 << (20 + winner)), "seed {seed}");
            assert_eq!(
                Some(there.id),
                outcomes[*winner].as_ref().ok().map(|m| m.id),
                "seed {seed}"
            );
            let page = node.engine.list(&node.org, "", None, 10).await.expect("listed");
            assert_eq!(page.names, [name("ns")], "seed {seed}");
        } else if conflicts > 0 {
            assert!(there.is_ok(), "seed {seed}");
        }
    }
}

/// Every rotation that is confirmed counts once, whatever the store does and however often an entry is sent.
#[test]
fn a_rotation_counts_once() {
    for seed in 0..60 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(rotations(seed));
    }
}

async fn rotations(seed: u64) {
    let bucket = bucket(seed);
    let nodes: Vec<Node> = (0..3).map(|n| node(&bucket, seed * 10 + n)).collect();
    create(&nodes[0], "ns", Creation::default()).await.expect("created");
    if seed % 2 == 1 {
        bucket.set_rates(FaultRates::stormy());
    }
    let rotate = || SettingsChange {
        rotate_tokens: true,
        ..SettingsChange::default()
    };
    let one = |rival: usize| {
        let node = &nodes[rival % nodes.len()];
        async move {
            let mut outcomes = Vec::new();
            for _ in 0..4 {
                outcomes.push(node.engine.update_settings(&node.org, &name("ns"), rotate()).await);
            }
            outcomes
        }
    };
    let outcomes: Vec<_> = join_all((0..6).map(one)).await.into_iter().flatten().collect();
    bucket.heal();
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    let confirmed = outcomes.iter().filter(|o| o.is_ok()).count() as u64;
    let unknown = outcomes
        .iter()
        .filter(|o| o.as_ref().is_err_and(|e| e.kind == ErrorKind::Unknown))
        .count() as u64;
    for node in &nodes {
        let generation = known(node, "ns").await.settings.token_gen;
        assert!(
            (confirmed..=confirmed + unknown).contains(&generation),
            "seed {seed}: {generation} of {confirmed} confirmed and {unknown} unknown"
        );
    }
    // A number that is sent along does not count.
    let before = known(&nodes[0], "ns").await.settings.token_gen;
    let back = SettingsChange {
        token_gen: Some(0),
        block_reads: Some(true),
        ..rotate()
    };
    assert_eq!(set(&nodes[0], "ns", back).await.token_gen, before + 1);
}
