//! Copies: what they have, and what may be copied where.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_copy_has_every_row_of_every_type() {
    let bucket = bucket();
    let (a, cold) = (node(&bucket, 1), node(&bucket, 2));
    mixed(&a, "source").await;
    let expected = rows(&a, "source").await;
    assert_eq!(expected.len(), 36);
    let copied = copy(&a, "source", "copy").await.expect("copied");
    assert_eq!(copied.rows, 36);
    for node in [&a, &cold] {
        assert_eq!(rows(node, "copy").await, expected);
        let schema = |namespace: &'static str| async move {
            let schema = node.engine.schema(&node.org, &name(namespace)).await.expect("there");
            shoal::model::schema_json::v2(&schema)
        };
        assert_eq!(
            schema("copy").await,
            schema("source").await,
            "attributes keep their options"
        );
    }
    // Both go on by themselves.
    a.write("source", json!({"deletes": [1]})).await.expect("written");
    cold.write("copy", json!({"patch_rows": [{"id": 3, "s": "changed"}]}))
        .await
        .expect("written");
    assert_eq!(rows(&a, "source").await.len(), 35);
    assert_eq!(rows(&a, "copy").await.len(), 36);
    a.engine.delete(&a.org, &name("source")).await.expect("deleted");
    assert_eq!(rows(&node(&bucket, 3), "copy").await.len(), 36);
}

#[tokio::test(start_paused = true)]
async fn a_copy_is_searched_as_its_source_is_and_billed_as_its_writes_were() {
    let bucket = bucket();
    let (a, cold) = (node(&bucket, 1), node(&bucket, 2));
    let mut billed = 0;
    for ids in [0..5u64, 5..6, 6..40] {
        let many: Vec<Json> = ids.map(row_of_all_types).collect();
        let body = json!({"schema": schema_of_all_types(), "distance_metric": "cosine_distance", "upsert_rows": many});
        billed += a.write("source", body).await.expect("written").logical_bytes_written;
    }
    let copied = copy(&a, "source", "copy").await.expect("copied");
    assert_eq!((copied.rows, copied.logical_bytes), (40, billed));
    let queries = [
        json!({"rank_by": ["t", "BM25", "otter swimming"], "limit": 100}),
        json!({"rank_by": ["vector", "ANN", [3.0, 1.0, 0.0]], "limit": 100}),
        json!({"rank_by": ["v16", "ANN", [0.5, 7.0]], "limit": 5, "filters": ["i", "Lt", -3]}),
        json!({"rank_by": ["id", "asc"], "limit": 100, "filters": ["ss", "Contains", "7"]}),
    ];
    for node in [&a, &cold] {
        assert_eq!(rows(node, "copy").await, rows(node, "source").await);
        for query in &queries {
            let found = search(node, "copy", query).await;
            assert!(!found.is_empty(), "{query}");
            assert_eq!(found, search(node, "source", query).await, "{query}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_destination_must_be_missing_or_empty() {
    let bucket = bucket();
    let node = node(&bucket, 1);
    node.write("source", json!({"upsert_rows": [{"id": 1, "a": "text"}]}))
        .await
        .expect("written");
    // Empty, of another kind of id, with an attribute of the same name and another type.
    let other = json!({"upsert_rows": [{"id": "x", "a": 1, "only_here": true}]});
    node.write("empty", other).await.expect("written");
    let full = copy(&node, "source", "empty").await.expect_err("it has a row");
    assert_eq!(full.kind, ErrorKind::Invalid);
    assert!(full.message.contains("has documents"), "{full}");
    node.write("empty", json!({"deletes": ["x"]})).await.expect("written");
    assert!(
        branch(&node, "source", "empty")
            .await
            .expect_err("it exists")
            .message
            .contains("exists already")
    );
    copy(&node, "source", "empty").await.expect("copied");
    assert_eq!(rows(&node, "empty").await, rows(&node, "source").await);
    let schema = node.engine.schema(&node.org, &name("empty")).await.expect("there");
    assert!(schema.get("only_here").is_none());
    for (source, destination, kind) in [
        ("missing", "new", ErrorKind::NotFound),
        ("missing", "source", ErrorKind::NotFound),
        ("source", "source", ErrorKind::Invalid),
        ("source", "empty", ErrorKind::Invalid),
    ] {
        let e = copy(&node, source, destination).await.expect_err("refused");
        assert_eq!(e.kind, kind, "{source} to {destination}: {e}");
    }
    // A deleted name is missing; its old attribute numbers are not used again.
    node.engine.delete(&node.org, &name("empty")).await.expect("deleted");
    branch(&node, "source", "empty").await.expect("branched");
    assert_eq!(rows(&node, "empty").await, rows(&node, "source").await);
    let never = CopyFrom {
        create_namespace: Some(false),
        ..from(&node, "source", OriginKind::Copy)
    };
    let e = node
        .engine
        .copy(&node.org, &name("new"), &never, &Progress::default())
        .await;
    assert_eq!(e.expect_err("never create").kind, ErrorKind::NotFound);
    // A read-only destination, though empty.
    node.write("locked", json!({"schema": {"id": "uint"}, "create_namespace": true}))
        .await
        .expect("written");
    set(&node, "locked", read_only(true)).await;
    assert!(
        copy(&node, "source", "locked")
            .await
            .expect_err("locked")
            .message
            .contains("read-only")
    );
}

#[tokio::test(start_paused = true)]
async fn read_only_is_carried_over_and_pinning_is_not() {
    let bucket = bucket();
    let node = node(&bucket, 1);
    node.write("source", json!({"upsert_rows": [{"id": 1}]}))
        .await
        .expect("written");
    let change = SettingsChange {
        pinned_replicas: Some(Some(3)),
        ..read_only(true)
    };
    set(&node, "source", change).await;
    copy(&node, "source", "copy").await.expect("copied");
    branch(&node, "source", "branch").await.expect("branched");
    let of_copy = Settings {
        read_only: true,
        ..Settings::default()
    };
    assert_eq!(settings(&node, "copy").await, of_copy);
    let of_branch = Settings {
        parent: Some(name("source")),
        ..of_copy
    };
    assert_eq!(settings(&node, "branch").await, of_branch);
    assert!(node.write("branch", json!({"deletes": [1]})).await.is_err());
    set(&node, "branch", read_only(false)).await;
    node.write("branch", json!({"deletes": [1]}))
        .await
        .expect("a branch is independent");
    assert_eq!(node.ids("source").await.expect("readable"), [1]);
    // An empty source is copied, too.
    copy(&node, "branch", "nothing").await.expect("copied");
    assert!(node.ids("nothing").await.expect("it exists").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_large_copy_goes_through_blobs_and_is_read_back_whole() {
    let bucket = bucket();
    let (a, cold) = (node(&bucket, 1), node(&bucket, 2));
    a.write("source", long_text(150)).await.expect("written");
    let first = bucket.calls();
    let copied = copy(&a, "source", "copy").await.expect("copied");
    assert!(copied.logical_bytes > 140_000_000, "{copied:?}");
    assert!(bucket.calls() - first > 10, "{} requests", bucket.calls() - first);
    let expected = rows(&a, "source").await;
    assert_eq!(expected.len(), 250);
    assert!(rows(&cold, "copy").await == expected);
}

#[tokio::test(start_paused = true)]
async fn what_is_written_to_the_source_meanwhile_is_not_copied() {
    let bucket = bucket();
    let (a, b) = (node(&bucket, 1), node(&bucket, 2));
    a.write("source", json!({"upsert_rows": [{"id": 1}, {"id": 2}]}))
        .await
        .expect("written");
    b.ids("source").await.expect("readable");
    // Both namespaces are looked at, then the entry and its marker are sent, slowly.
    let next = bucket.calls() + 2;
    (next..next + 2).for_each(|call| bucket.fail_call(call, Fault::Slow(Duration::from_secs(5))));
    let (copied, ()) = tokio::join!(copy(&a, "source", "copy"), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        b.write("source", json!({"upsert_rows": [{"id": 3}], "deletes": [1]}))
            .await
            .expect("written");
    });
    assert_eq!(copied.expect("copied").rows, 2);
    assert_eq!(b.ids("copy").await.expect("readable"), [1, 2]);
    assert_eq!(a.ids("source").await.expect("readable"), [2, 3]);
}

#[tokio::test(start_paused = true)]
async fn of_rival_copies_and_writes_one_is_first() {
    let bucket = bucket();
    let (a, b) = (node(&bucket, 1), node(&bucket, 2));
    a.write("one", json!({"upsert_rows": [{"id": 1}]}))
        .await
        .expect("written");
    a.write("two", json!({"upsert_rows": [{"id": 2}]}))
        .await
        .expect("written");
    let (first, second) = tokio::join!(copy(&a, "one", "copy"), copy(&b, "two", "copy"));
    let expected = match (&first, &second) {
        (Ok(_), Err(e)) | (Err(e), Ok(_)) if e.kind == ErrorKind::Invalid => [if first.is_ok() { 1 } else { 2 }],
        other => panic!("one of two is refused: {other:?}"),
    };
    assert_eq!(a.ids("copy").await.expect("readable"), expected);
    // A row that arrives after the destination was looked at.
    for slow in 2..4 {
        let destination = format!("late-{slow}");
        bucket.fail_call(bucket.calls() + slow, Fault::Slow(Duration::from_secs(3)));
        bucket.fail_call(bucket.calls() + 2, Fault::BeforeApply);
        let (copied, written) = tokio::join!(copy(&a, "one", &destination), async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            b.write(&destination, json!({"upsert_rows": [{"id": 9}]})).await
        });
        written.expect("a write goes to any namespace");
        let ids = a.ids(&destination).await.expect("readable");
        match copied {
            Ok(_) => assert_eq!(ids, [1, 9], "the copy was first"),
            Err(e) => assert_eq!((e.kind, ids), (ErrorKind::Invalid, vec![9])),
        }
    }
}
