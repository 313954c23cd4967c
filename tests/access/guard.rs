//! Tokens, addresses, blocks and limits.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};
use shoal::error::{Error, ErrorKind, Result};
use shoal::model::access::{Blocked, Guard, TokenGuard};
use shoal::model::write::origin::OriginKind;
use shoal::model::{Consistency, SettingsChange};
use shoal::namespace::{CopyFrom, Creation, Progress, RecallOf, RecallRequest};
use uuid::Uuid;

use super::support::engine::{EVENTUAL, Node, name};
use super::support::fault::Fault;
use super::{bucket, guarded, known, node, query, read, said, set, token};

const FORBIDDEN: (ErrorKind, Option<&str>) = (ErrorKind::Forbidden, None);
const UNAUTHENTICATED: (ErrorKind, Option<&str>) = (ErrorKind::Unauthenticated, None);

fn row(id: u64) -> Json {
    json!({"upsert_rows": [{"id": id, "vector": [1.0, id], "n": 1}], "distance_metric": "cosine_distance"})
}

fn copy_from(node: &Node, source: &str, guard: Option<Guard>) -> CopyFrom {
    CopyFrom {
        kind: OriginKind::Copy,
        org: node.org.clone(),
        source: name(source),
        guard: guard.map(Arc::new),
        num_shards: None,
        create_namespace: None,
    }
}

/// Every method of the engine that is about one namespace, by name. Those that change most come last.
async fn every_method(node: &Node, namespace: &str) -> Vec<(&'static str, Result<(), Error>)> {
    let (engine, org, ns) = (&node.engine, &node.org, name(namespace));
    let recall = RecallRequest {
        of: RecallOf::Sampled(1),
        top_k: 1,
        filter: None,
        with_truth: false,
    };
    let lookup = || read(node, &json!({"rank_by": ["id", "asc"], "limit": 10}));
    let copy = copy_from(node, namespace, None);
    let copied = format!("copy-of-{namespace}");
    let into = copy_from(node, "source", None);
    let progress = Progress::default();
    let started = engine.start_copy(org, &ns, copy_from(node, "source", None)).await;
    vec![
        ("query", engine.query(org, &ns, lookup()).await.map(drop)),
        ("eventual", node.rows(namespace, EVENTUAL).await.map(drop)),
        ("export", engine.export(org, &ns, lookup()).await.map(drop)),
        (
            "explain",
            engine.explain(org, &ns, &lookup().queries[0]).await.map(drop),
        ),
        ("recall", engine.recall(org, &ns, &recall).await.map(drop)),
        ("schema", engine.schema(org, &ns).await.map(drop)),
        ("metadata", engine.metadata(org, &ns).await.map(drop)),
        ("warm", engine.warm(org, &ns).await.map(drop)),
        ("purge", engine.purge(org, &ns).await.map(drop)),
        (
            "copy from",
            engine.copy(org, &name(&copied), &copy, &progress).await.map(drop),
        ),
        ("write", node.write(namespace, row(7)).await.map(drop)),
        (
            "patch",
            node.write(namespace, json!({"patch_rows": [{"id": 1, "n": 2}]}))
                .await
                .map(drop),
        ),
        (
            "deletes",
            node.write(namespace, json!({"deletes": [7]})).await.map(drop),
        ),
        (
            "by filter",
            node.write(namespace, json!({"delete_by_filter": ["n", "Eq", 99]}))
                .await
                .map(drop),
        ),
        (
            "update_schema",
            engine
                .update_schema(org, &ns, node.body(&json!({"more": "int"})))
                .await
                .map(drop),
        ),
        ("start_copy", started.map(drop)),
        ("copy into", engine.copy(org, &ns, &into, &progress).await.map(drop)),
        (
            "operation",
            engine.operation(org, &ns, "01arz3ndektsv4rrffq69g5fav").await.map(drop),
        ),
        (
            "update_settings",
            engine
                .update_settings(org, &ns, SettingsChange::default())
                .await
                .map(drop),
        ),
        ("delete", engine.delete(org, &ns).await.map(drop)),
    ]
}

/// The methods that are refused like this.
fn refused(outcomes: &[(&'static str, Result<(), Error>)], kind: (ErrorKind, Option<&str>)) -> Vec<&'static str> {
    let of = |(name, result): &(&'static str, Result<(), Error>)| {
        let refused = result.as_ref().is_err_and(|e| (e.kind, e.code) == kind);
        refused.then_some(*name)
    };
    outcomes.iter().filter_map(of).collect()
}

#[tokio::test(start_paused = true)]
async fn a_wrong_token_opens_nothing() {
    let bucket = bucket(1);
    let (a, cold) = (node(&bucket, 1), node(&bucket, 2));
    a.write("ns", row(1)).await.expect("written");
    a.write("source", row(1)).await.expect("written");
    let id = known(&a, "ns").await.id;
    let of_namespace = |id, generation| TokenGuard::Namespace { id, generation };
    let foreign = known(&a, "source").await.id;
    for (namespace, wrong) in [
        ("ns", of_namespace(foreign, 0)),
        ("ns", of_namespace(id, 1)),
        ("ns", TokenGuard::Group { id, is_default: false }),
        ("missing", of_namespace(id, 0)),
        ("missing", TokenGuard::Group { id, is_default: true }),
    ] {
        for node in [&a, &cold] {
            let outcomes = every_method(&token(node, wrong), namespace).await;
            let opened: Vec<_> = outcomes
                .iter()
                .filter(|(_, r)| !r.as_ref().is_err_and(|e| e.kind == ErrorKind::Unauthenticated))
                .collect();
            assert!(opened.is_empty(), "{wrong:?} of {namespace}: {opened:?}");
            let list = token(node, wrong).engine.list(&node.org, "", None, 10).await;
            assert_eq!(said(list), FORBIDDEN);
        }
    }
    assert_eq!(a.ids("ns").await.expect("readable"), [1], "nothing happened");
    assert_eq!(said(a.ids("missing").await).0, ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_right_token_opens_its_namespace() {
    let bucket = bucket(1);
    let a = node(&bucket, 1);
    a.write("ns", row(1)).await.expect("written");
    let id = known(&a, "ns").await.id;
    let mine = token(&a, TokenGuard::Namespace { id, generation: 0 });
    let outcomes = every_method(&mine, "ns").await;
    // Copies need another namespace, which the token is not for; and operations need one that exists.
    assert_eq!(refused(&outcomes, UNAUTHENTICATED), ["copy from", "copy into"]);
    let failed: Vec<_> = outcomes.iter().filter(|(_, r)| r.is_err()).map(|(n, _)| *n).collect();
    assert_eq!(failed, ["copy from", "copy into", "operation"]);
    assert_eq!(said(a.ids("ns").await).0, ErrorKind::NotFound, "it was deleted at last");
}

/// A token is revoked for everything that begins after the rotation, on nodes that know nothing of it yet,
/// and also where a write is already on its way to a slot.
#[tokio::test(start_paused = true)]
async fn rotation_counts_at_once_everywhere() {
    let bucket = bucket(1);
    let (a, b) = (node(&bucket, 1), node(&bucket, 2));
    a.write("ns", row(1)).await.expect("written");
    let id = known(&a, "ns").await.id;
    let guard = |node: &Node, generation| token(node, TokenGuard::Namespace { id, generation });
    let old = guard(&b, 0);
    assert_eq!(old.ids("ns").await.expect("valid"), [1]);
    old.write("ns", row(2)).await.expect("valid");
    let rotate = SettingsChange {
        rotate_tokens: true,
        ..SettingsChange::default()
    };
    assert_eq!(set(&a, "ns", rotate).await.token_gen, 1);
    // `b` has not heard of it: the look that a strong read makes anyway tells it, before anything is answered.
    assert_eq!(said(old.write("ns", row(3)).await), UNAUTHENTICATED);
    assert_eq!(said(old.ids("ns").await), UNAUTHENTICATED);
    assert_eq!(said(old.rows("ns", EVENTUAL).await), UNAUTHENTICATED);
    assert_eq!(
        said(query(&old, "ns", &json!({"rank_by": ["gone", "asc"], "limit": 1})).await),
        UNAUTHENTICATED
    );
    let ids = guard(&b, 1).ids("ns").await;
    assert_eq!(ids.expect("the new one"), [1, 2]);
    // A rotation on another node, while the write of this one waits for its answer.
    let next = bucket.calls();
    bucket.fail_call(next, Fault::Slow(Duration::from_secs(5)));
    let (b1, rotate) = (
        guard(&b, 1),
        SettingsChange {
            rotate_tokens: true,
            ..SettingsChange::default()
        },
    );
    let (written, _) = tokio::join!(b1.write("ns", row(4)), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        set(&a, "ns", rotate).await
    });
    // Whichever of the two came first in the log decides.
    let there = a.ids("ns").await.expect("readable").contains(&4);
    assert_eq!(written.is_ok(), there);
    assert_eq!(said(b1.write("ns", row(5)).await), UNAUTHENTICATED);
}

#[tokio::test(start_paused = true)]
async fn an_eventual_read_may_be_answered_within_its_staleness() {
    let bucket = bucket(1);
    let (a, b) = (node(&bucket, 1), node(&bucket, 2));
    a.write("ns", row(1)).await.expect("written");
    let id = known(&a, "ns").await.id;
    let old = token(&b, TokenGuard::Namespace { id, generation: 0 });
    old.ids("ns").await.expect("valid");
    let rotate = SettingsChange {
        rotate_tokens: true,
        ..SettingsChange::default()
    };
    set(&a, "ns", rotate).await;
    assert!(old.rows("ns", EVENTUAL).await.is_ok(), "as documented");
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(said(old.rows("ns", EVENTUAL).await), UNAUTHENTICATED);
    // The other way round, "no" is never said on an old state.
    let new = token(&a, TokenGuard::Namespace { id, generation: 2 });
    let rotate = SettingsChange {
        rotate_tokens: true,
        ..SettingsChange::default()
    };
    set(&b, "ns", rotate).await;
    assert!(new.rows("ns", EVENTUAL).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_token_is_not_for_a_namespace_that_was_created_again() {
    let bucket = bucket(1);
    let (a, b) = (node(&bucket, 1), node(&bucket, 2));
    a.write("ns", row(1)).await.expect("written");
    let id = known(&a, "ns").await.id;
    let mine = token(&b, TokenGuard::Namespace { id, generation: 0 });
    mine.ids("ns").await.expect("valid");
    a.engine.delete(&a.org, &name("ns")).await.expect("deleted");
    assert_eq!(
        said(mine.write("ns", row(2)).await),
        UNAUTHENTICATED,
        "it creates nothing"
    );
    assert_eq!(said(a.ids("ns").await).0, ErrorKind::NotFound);
    a.write("ns", row(3)).await.expect("written");
    assert_eq!(said(mine.ids("ns").await), UNAUTHENTICATED);
    assert_eq!(said(mine.write("ns", row(2)).await), UNAUTHENTICATED);
}

#[tokio::test(start_paused = true)]
async fn a_group_token_follows_the_group() {
    let node = node(&bucket(1), 1);
    node.write("ns", row(1)).await.expect("written");
    let (default, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let of_default = token(
        &node,
        TokenGuard::Group {
            id: default,
            is_default: true,
        },
    );
    let of_other = token(
        &node,
        TokenGuard::Group {
            id: other,
            is_default: false,
        },
    );
    let group = |group| SettingsChange {
        group: Some(group),
        ..SettingsChange::default()
    };
    for (group_is, passes) in [
        (None, "default"),
        (Some(other), "other"),
        (Some(default), "default"),
        (None, "default"),
    ] {
        set(&node, "ns", group(group_is)).await;
        let (yes, no) = match passes {
            "default" => (&of_default, &of_other),
            _ => (&of_other, &of_default),
        };
        assert_eq!(yes.ids("ns").await.expect("in the group"), [1]);
        assert_eq!(said(no.ids("ns").await), UNAUTHENTICATED, "{group_is:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_come_from_allowed_networks_only() {
    let node = node(&bucket(1), 1);
    node.write("source", row(1)).await.expect("written");
    let from = |ip: &str| {
        let ip = Some(ip.parse().expect("an address"));
        let guard = Guard { ip, ..Guard::default() };
        guarded(&node, guard)
    };
    for (ip, allowed) in [("10.1.2.3", true), ("11.1.2.3", false)] {
        node.write("ns", row(1)).await.expect("written");
        let networks = SettingsChange {
            allowed_ips: Some(vec!["10.0.0.0/8".parse().expect("a network")]),
            ..SettingsChange::default()
        };
        set(&node, "ns", networks).await;
        let outcomes = every_method(&from(ip), "ns").await;
        match allowed {
            true => assert!(refused(&outcomes, FORBIDDEN).is_empty(), "{outcomes:?}"),
            false => assert_eq!(refused(&outcomes, FORBIDDEN).len(), outcomes.len(), "{outcomes:?}"),
        }
        let _ = node.engine.delete(&node.org, &name("ns")).await;
        let _ = node.engine.delete(&node.org, &name("copy-of-ns")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn blocks_refuse_what_they_say() {
    let node = node(&bucket(1), 1);
    node.write("source", row(1)).await.expect("written");
    let reads = ["query", "eventual", "export", "explain", "recall", "copy from"];
    let writes = [
        "write",
        "patch",
        "deletes",
        "by filter",
        "update_schema",
        "start_copy",
        "copy into",
    ];
    let (blocked_reads, blocked_writes) = (Some("blocked_reads"), Some("blocked_writes"));
    for by_org in [false, true] {
        for (blocks_reads, expected, code) in [(true, &reads[..], blocked_reads), (false, &writes[..], blocked_writes)]
        {
            node.write("ns", row(1)).await.expect("written");
            let caller = match by_org {
                true => guarded(
                    &node,
                    Guard {
                        blocked: Blocked {
                            reads: blocks_reads,
                            writes: !blocks_reads,
                        },
                        ..Guard::default()
                    },
                ),
                false => {
                    let change = SettingsChange {
                        block_reads: Some(blocks_reads),
                        block_writes: Some(!blocks_reads),
                        ..SettingsChange::default()
                    };
                    set(&node, "ns", change).await;
                    guarded(&node, Guard::default())
                }
            };
            let outcomes = every_method(&caller, "ns").await;
            let mut refused = refused(&outcomes, (ErrorKind::Forbidden, code));
            if by_org && !blocks_reads {
                // It would fill another namespace of the organization.
                assert_eq!(refused.remove(0), "copy from");
            }
            if by_org && blocks_reads {
                // It would read another one.
                assert_eq!(refused.pop(), Some("copy into"));
            }
            assert_eq!(refused, expected, "by the organization: {by_org}; {outcomes:?}");
            let _ = node.engine.delete(&node.org, &name("ns")).await;
            let _ = node.engine.delete(&node.org, &name("copy-of-ns")).await;
        }
    }
}

/// Our own work heeds the settings of a namespace, too.
#[tokio::test(start_paused = true)]
async fn blocks_bind_everybody_and_can_be_lifted() {
    let bucket = bucket(1);
    let (a, b) = (node(&bucket, 1), node(&bucket, 2));
    a.write("ns", row(1)).await.expect("written");
    b.ids("ns").await.expect("readable");
    let block = |reads, writes| SettingsChange {
        block_reads: Some(reads),
        block_writes: Some(writes),
        ..SettingsChange::default()
    };
    set(&a, "ns", block(true, true)).await;
    let refused = b.write("ns", row(2)).await.expect_err("blocked");
    assert_eq!(
        (refused.kind, refused.code),
        (ErrorKind::Forbidden, Some("blocked_writes"))
    );
    assert!(refused.message.contains("block_writes"), "{refused}");
    let refused = b.ids("ns").await.expect_err("blocked");
    assert_eq!(
        (refused.kind, refused.code),
        (ErrorKind::Forbidden, Some("blocked_reads"))
    );
    set(&b, "ns", block(false, false)).await;
    a.write("ns", row(2)).await.expect("written");
    assert_eq!(b.ids("ns").await.expect("readable"), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_protected_namespace_stays_and_stays_listed() {
    let node = node(&bucket(1), 1);
    node.write("ns", row(1)).await.expect("written");
    let protect = |protected| SettingsChange {
        delete_protection: Some(protected),
        ..SettingsChange::default()
    };
    set(&node, "ns", protect(true)).await;
    let refused = node.engine.delete(&node.org, &name("ns")).await.expect_err("protected");
    assert_eq!(refused.kind, ErrorKind::Conflict);
    let page = node.engine.list(&node.org, "", None, 10).await.expect("listed");
    assert_eq!(page.names, [name("ns")]);
    assert_eq!(node.ids("ns").await.expect("readable"), [1]);
    set(&node, "ns", protect(false)).await;
    node.engine.delete(&node.org, &name("ns")).await.expect("deleted");
    let page = node.engine.list(&node.org, "", None, 10).await.expect("listed");
    assert!(page.names.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_full_namespace_takes_deletes_only() {
    let bucket = bucket(1);
    let (a, b) = (node(&bucket, 1), node(&bucket, 2));
    let limit = SettingsChange {
        size_limit: Some(Some(20_000)),
        ..SettingsChange::default()
    };
    let creation = Creation {
        settings: limit.clone(),
        schema: None,
    };
    a.engine.create(&a.org, &name("ns"), creation).await.expect("created");
    let quota = (ErrorKind::QuotaExceeded, Some("quota_size_limit"));
    let large = json!({"upsert_rows": [{"id": 0, "s": "x".repeat(3000), "t": "y".repeat(3000), "u": vec!["z".repeat(3000); 6]}]});
    assert_eq!(said(a.write("ns", large).await), quota, "too large by itself");
    let mut written = 0;
    let refusal = loop {
        // No two texts are alike, so that they stay large when they are compressed.
        let text: String = (0..60)
            .map(|i| format!("{:x}", (written + 1) * 7919 * (i + 3) * 104_729))
            .collect();
        match b
            .write("ns", json!({"upsert_rows": [{"id": written, "s": text}]}))
            .await
        {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 200, "it is full at some time");
    };
    assert_eq!((refusal.kind, refusal.code), quota);
    assert!(written > 3, "{written}");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let bytes = known(&a, "ns").await.approx_bytes;
    assert!((10_000..=21_000).contains(&bytes), "{bytes}");
    for body in [
        json!({"patch_rows": [{"id": 0, "s": "x".repeat(4000)}]}),
        json!({"patch_by_filter": {"filters": ["id", "Gte", 0], "patch": {"s": "x".repeat(3000)}}}),
    ] {
        assert_eq!(said(a.write("ns", body).await), quota);
    }
    a.write("ns", json!({"deletes": [0]})).await.expect("deletes go on");
    a.write("ns", json!({"delete_by_filter": ["id", "Eq", 1]}))
        .await
        .expect("deletes go on");
    assert_eq!(b.ids("ns").await.expect("readable").len() as u64, written - 2);
    let lifted = SettingsChange {
        size_limit: Some(None),
        ..SettingsChange::default()
    };
    set(&b, "ns", lifted).await;
    a.write("ns", json!({"upsert_rows": [{"id": 500, "s": "x"}]}))
        .await
        .expect("written");
}

/// What a caller may not bring about is decided under the slot: this node may know an older state.
#[tokio::test(start_paused = true)]
async fn creating_and_changing_the_schema_are_rights_of_their_own() {
    let bucket = bucket(1);
    let (a, b) = (node(&bucket, 1), node(&bucket, 2));
    let writer = |node: &Node| {
        let guard = Guard {
            may_create: false,
            may_change_schema: false,
            ..Guard::default()
        };
        guarded(node, guard)
    };
    let caller = writer(&b);
    assert_eq!(said(caller.write("ns", row(1)).await), FORBIDDEN);
    assert_eq!(
        said(caller.write("ns", json!({"create_namespace": true})).await),
        FORBIDDEN
    );
    let created = caller.engine.create(&b.org, &name("ns"), Creation::default()).await;
    assert_eq!(said(created), FORBIDDEN);
    assert_eq!(
        said(caller.write("ns", json!({"deletes": [1]})).await).0,
        ErrorKind::NotFound
    );
    a.write("source", row(1)).await.expect("written");
    let copied = caller
        .engine
        .copy(
            &b.org,
            &name("ns"),
            &copy_from(&b, "source", None),
            &Progress::default(),
        )
        .await;
    assert_eq!(said(copied), FORBIDDEN);
    assert_eq!(said(a.ids("ns").await).0, ErrorKind::NotFound);
    // In a namespace that another node has created, rows of its schema can be written, and no others.
    a.write("ns", row(1)).await.expect("written");
    caller.write("ns", row(2)).await.expect("nothing new");
    caller
        .write("ns", json!({"patch_rows": [{"id": 1, "n": 5}]}))
        .await
        .expect("nothing new");
    for body in [
        json!({"upsert_rows": [{"id": 3, "vector": [1, 2], "more": 1}]}),
        json!({"patch_rows": [{"id": 1, "more": 1}]}),
        json!({"patch_by_filter": {"filters": ["id", "Eq", 1], "patch": {"more": 1}}}),
        json!({"schema": {"more": "int"}}),
        json!({"schema": {"n": {"type": "int", "filterable": false}}}),
    ] {
        assert_eq!(said(caller.write("ns", body.clone()).await), FORBIDDEN, "{body}");
    }
    let schema = |body: Json| {
        let caller = &caller;
        async move {
            caller
                .engine
                .update_schema(&caller.org, &name("ns"), caller.body(&body))
                .await
        }
    };
    assert_eq!(said(schema(json!({"more": "int"})).await), FORBIDDEN);
    assert!(schema(json!({"n": "int"})).await.is_ok(), "nothing changes");
    // Deleted elsewhere: what this node believes to be there must not come into being again.
    a.engine.delete(&a.org, &name("ns")).await.expect("deleted");
    assert_eq!(said(caller.write("ns", row(4)).await), FORBIDDEN);
    assert_eq!(said(a.ids("ns").await).0, ErrorKind::NotFound);
    // The kind of ids is no attribute.
    let creation = Creation {
        schema: Some(r#"{"n": "int"}"#.into()),
        ..Creation::default()
    };
    a.engine.create(&a.org, &name("ns"), creation).await.expect("created");
    caller
        .write("ns", json!({"upsert_rows": [{"id": "text", "n": 1}]}))
        .await
        .expect("the first row");
}

#[tokio::test(start_paused = true)]
async fn the_source_of_a_copy_has_its_own_guard() {
    let node = node(&bucket(1), 1);
    node.write("source", row(1)).await.expect("written");
    let id = known(&node, "source").await.id;
    let guard = |generation| Guard {
        token: Some(TokenGuard::Namespace { id, generation }),
        ..Guard::default()
    };
    let blocked = Guard {
        blocked: Blocked {
            reads: true,
            writes: false,
        },
        ..Guard::default()
    };
    let destination = name("copy");
    for (guard, expected) in [
        (Some(guard(1)), Some(UNAUTHENTICATED)),
        (Some(blocked), Some((ErrorKind::Forbidden, Some("blocked_reads")))),
        (Some(guard(0)), None),
    ] {
        let from = copy_from(&node, "source", guard);
        let copied = node
            .engine
            .copy(&node.org, &destination, &from, &Progress::default())
            .await;
        match expected {
            Some(expected) => assert_eq!(said(copied), expected),
            None => assert_eq!(copied.expect("copied").rows, 1),
        }
    }
    // A copy has settings of its own.
    let change = SettingsChange {
        rotate_tokens: true,
        block_writes: Some(true),
        delete_protection: Some(true),
        allowed_ips: Some(vec!["10.0.0.0/8".parse().expect("a network")]),
        ..SettingsChange::default()
    };
    set(&node, "source", change).await;
    let from = copy_from(&node, "source", None);
    node.engine
        .copy(&node.org, &name("second"), &from, &Progress::default())
        .await
        .expect("copied");
    assert_eq!(
        *known(&node, "second").await.settings,
        shoal::model::Settings::default()
    );
}

/// What is wrong with a body says something of the schema.
#[tokio::test(start_paused = true)]
async fn refusals_come_before_what_is_wrong_with_the_request() {
    let bucket = bucket(1);
    let (a, b) = (node(&bucket, 1), node(&bucket, 2));
    a.write("ns", row(1)).await.expect("written");
    let id = known(&a, "ns").await.id;
    let old = token(&b, TokenGuard::Namespace { id, generation: 0 });
    old.ids("ns").await.expect("valid");
    let rotate = SettingsChange {
        rotate_tokens: true,
        ..SettingsChange::default()
    };
    set(&a, "ns", rotate).await;
    for wrong in [
        json!({"upsert_rows": [{"id": 2, "vector": [1.0, 2.0, 3.0]}]}),
        json!({"upsert_rows": [{"id": 2, "n": "text"}]}),
        json!({"upsert_rows": [{"id": "text"}]}),
    ] {
        assert_eq!(said(old.write("ns", wrong.clone()).await), UNAUTHENTICATED, "{wrong}");
    }
    let asked = json!({"rank_by": ["vector", "ANN", [1.0]], "limit": 1});
    assert_eq!(said(query(&old, "ns", &asked).await), UNAUTHENTICATED);
    assert_eq!(said(old.rows("ns", Consistency::Strong).await), UNAUTHENTICATED);
}
