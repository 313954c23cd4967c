//! Writes, copies, schema, metadata, listing, errors and the transport.

use std::time::Duration;

use futures_util::TryStreamExt;
use turbopuffer::ApiErrorKind;
use turbopuffer::serde_json::json;
use turbopuffer::types::*;

use crate::{Fresh, client, ids, in_order, kind, numbers, points, stored, variable};

#[tokio::test]
async fn writes_and_what_they_report() {
    let ns = Fresh::new("writes").await;
    let answer = ns
        .write()
        .distance_metric(DistanceMetric::CosineDistance)
        .upsert_columns(
            Columns::new([1, 2, 3])
                .vector([[1.0, 0.5], [2.0, 0.5], [3.0, 0.5]])
                .insert("n", [1, 2, 3]),
        )
        .return_affected_ids(true)
        .await
        .unwrap();
    assert_eq!(
        (answer.status.as_str(), answer.rows_affected, answer.rows_upserted),
        ("OK", 3, Some(3))
    );
    assert_eq!(answer.upserted_ids, [Id::Int(1), Id::Int(2), Id::Int(3)]);
    assert!(!answer.message.is_empty() && answer.billing.billable_logical_bytes_written > 0);
    let answer = ns
        .write()
        .patch_rows([Row::new(1).insert("n", 10), Row::new(99).insert("n", 0)])
        .await
        .unwrap();
    assert_eq!((answer.rows_patched, answer.upserted_ids.len()), (Some(1), 0));
    let answer = ns
        .write()
        .patch_columns(Columns::new([2]).insert("n", [20]))
        .deletes([3, 4])
        .await
        .unwrap();
    assert_eq!((answer.rows_patched, answer.rows_deleted), (Some(1), Some(2)));
    assert_eq!(
        stored(&ns).await,
        json!([{"id": 1, "vector": [1.0, 0.5], "n": 10}, {"id": 2, "vector": [2.0, 0.5], "n": 20}])
    );
    let refused = ns.write().upsert_rows([Row::new("text")]).await.unwrap_err();
    assert_eq!(kind(&refused), ApiErrorKind::BadRequest);
    ns.delete_all().await.unwrap();
}

#[tokio::test]
async fn conditions_and_writes_by_filter() {
    let ns = Fresh::new("conditions").await;
    numbers(&ns, 4).await;
    let answer = ns
        .write()
        .upsert_rows([
            Row::new(1).insert("n", 5),
            Row::new(2).insert("n", 0),
            Row::new(9).insert("n", 9),
        ])
        .upsert_condition(Filter::lt("n", ExprRefNew::new("n")))
        .return_affected_ids(true)
        .await
        .unwrap();
    assert_eq!(answer.upserted_ids, [Id::Int(1), Id::Int(9)]);
    assert!(answer.billing.query.is_some());
    let answer = ns
        .write()
        .patch_rows([Row::new(1).insert("n", 6), Row::new(3).insert("n", 1)])
        .patch_condition(Filter::lt("n", ExprRefNew::new("n")))
        .await
        .unwrap();
    assert_eq!(answer.rows_patched, Some(1));
    let answer = ns
        .write()
        .deletes([1, 2, 77])
        .delete_condition(Filter::gt("n", 5))
        .await
        .unwrap();
    assert_eq!(answer.rows_deleted, Some(1));
    let answer = ns
        .write()
        .patch_by_filter(PatchByFilter::new([("label", "small")], Filter::lte("n", 3)))
        .patch_by_filter_allow_partial(true)
        .await
        .unwrap();
    assert_eq!(
        (answer.rows_patched, answer.rows_remaining.unwrap_or(false)),
        (Some(2), false)
    );
    let answer = ns
        .write()
        .delete_by_filter(Filter::in_("n", [2, 9]))
        .delete_by_filter_allow_partial(true)
        .await
        .unwrap();
    assert_eq!(answer.rows_deleted, Some(2));
    assert_eq!(
        stored(&ns).await,
        json!([{"id": 3, "n": 3, "label": "small"}, {"id": 4, "n": 4}])
    );
    ns.delete_all().await.unwrap();
}

#[tokio::test]
async fn copies_and_branches() {
    let ns = Fresh::new("copies-source").await;
    let [copy, branch, polled] = [
        Fresh::new("copy").await,
        Fresh::new("branch").await,
        Fresh::new("polled").await,
    ];
    numbers(&ns, 2).await;
    let source = json!([{"id": 1, "n": 1}, {"id": 2, "n": 2}]);
    assert_eq!(copy.copy_from(ns.id()).await.unwrap().rows_affected, 2);
    assert_eq!(branch.branch_from(ns.id()).await.unwrap().status, "OK");
    let token = polled.start_copy_from(ns.id()).await.unwrap().token;
    let finished = loop {
        match polled.poll_copy_from(&token).await.unwrap() {
            CopyFromNamespaceOperation::Finished(finished) => break finished,
            CopyFromNamespaceOperation::Running(_) => tokio::task::yield_now().await,
            other => panic!("{other:?}"),
        }
    };
    assert!(finished.start_time <= finished.finish_time);
    let CopyFromNamespaceOperationResult::Success(result) = finished.result else {
        panic!("{finished:?}")
    };
    assert_eq!(result.rows_affected, 2);
    for other in [&copy, &branch, &polled] {
        assert_eq!(stored(other).await, source);
    }
    branch.write().deletes([1]).await.unwrap();
    ns.delete_all().await.unwrap();
    assert_eq!(stored(&branch).await, json!([{"id": 2, "n": 2}]));
    assert_eq!(stored(&copy).await, source);
    let refused = Fresh::new("copy-of-nothing")
        .await
        .copy_from(ns.id())
        .await
        .unwrap_err();
    assert_eq!(kind(&refused), ApiErrorKind::NotFound);
    for other in [&copy, &branch, &polled] {
        other.delete_all().await.unwrap();
    }
}

#[tokio::test]
async fn namespaces_their_schema_and_their_metadata() {
    let ns = Fresh::new("metadata").await;
    ns.write()
        .create_namespace(true)
        .schema([("id", "uint"), ("n", "int"), ("later", "[]string")])
        .await
        .unwrap();
    assert_eq!(stored(&ns).await, json!([]));
    let schema = ns.schema().await.unwrap();
    assert_eq!(schema.keys().collect::<Vec<_>>(), ["id", "later", "n"]);
    assert_eq!(schema["n"], AttributeSchemaConfig::new("int").filterable(true));
    let changes = [
        (
            "n",
            AttributeSchema::from(AttributeSchemaConfig::new("int").filterable(false)),
        ),
        ("later", AttributeSchemaDrop::new(true).into()),
    ];
    let after = ns.update_schema(changes).await.unwrap();
    assert_eq!(after.keys().collect::<Vec<_>>(), ["id", "n"]);
    assert_eq!(after["n"].filterable, Some(false));

    let metadata = ns.metadata().await.unwrap();
    assert_eq!(
        (metadata.encryption, metadata.index),
        (Encryption::Default, NamespaceMetadataIndex::UpToDate)
    );
    assert!(metadata.created_at <= metadata.updated_at);
    assert!(metadata.pinning.is_none() && metadata.read_only.is_none() && metadata.sharding.is_none());
    // This client understands the first shape, in which the change is answered.
    let changed = ns
        .update_metadata()
        .read_only(true)
        .pinning(PinningConfig::new().replicas(2))
        .await
        .unwrap();
    assert_eq!(changed.encryption, Encryption::Default);
    assert_eq!(changed.read_only, Some(true));
    assert_eq!(
        ns.metadata()
            .await
            .unwrap()
            .pinning
            .and_then(|pinning| pinning.replicas),
        Some(2)
    );
    let refused = ns.write().upsert_rows([Row::new(1)]).await.unwrap_err();
    assert!(refused.to_string().contains("read-only"), "{refused}");
    ns.update_metadata().read_only(false).pinning(false).await.unwrap();
    assert!(ns.metadata().await.unwrap().pinning.is_none());

    let warm = ns.hint_cache_warm().await.unwrap();
    assert!(["ACCEPTED", "OK"].contains(&warm.status.as_str()) && warm.message.is_some());
    assert_eq!(ns.delete_all().await.unwrap().status, "OK");
    for missing in [
        ns.schema().await.map(drop),
        ns.metadata().await.map(drop),
        ns.hint_cache_warm().await.map(drop),
        ns.query().rank_by(in_order()).limit(1).await.map(drop),
        ns.delete_all().await.map(drop),
    ] {
        assert_eq!(kind(&missing.unwrap_err()), ApiErrorKind::NotFound);
    }
}

#[tokio::test]
async fn listing_follows_its_cursors() {
    let names: Vec<String> = (0..7).map(|i| format!("list-{i}")).collect();
    let mut all = Vec::new();
    for name in &names {
        let ns = Fresh::new(name).await;
        numbers(&ns, 1).await;
        all.push(ns);
    }
    let client = client().build().unwrap();
    let first = client.namespaces().prefix("rust-list-").page_size(3).await.unwrap();
    let second = first.next_page().await.unwrap().expect("there is a second page");
    assert_eq!((first.items().len(), second.items().len()), (3, 3));
    let listed: Vec<_> = client
        .namespaces()
        .prefix("rust-list-")
        .page_size(3)
        .into_stream()
        .try_collect()
        .await
        .unwrap();
    let listed: Vec<String> = listed.into_iter().map(|summary| summary.id).collect();
    assert_eq!(listed, all.iter().map(|ns| ns.id().to_owned()).collect::<Vec<_>>());
    for ns in all {
        ns.delete_all().await.unwrap();
    }
}

#[tokio::test]
async fn errors_compression_and_the_region_in_the_path() {
    let ns = Fresh::new("transport").await;
    points(&ns).await;
    let stranger = client().api_key("wrong").build().unwrap();
    assert_eq!(
        kind(&stranger.namespaces().await.unwrap_err()),
        ApiErrorKind::Authentication
    );
    let refused = ns
        .write()
        .upsert_rows([Row::new(1).vector([1.0, 1.0])])
        .encryption(EncryptionCustomerManaged::new("mykey"))
        .await
        .unwrap_err();
    assert_eq!(kind(&refused), ApiErrorKind::BadRequest);
    let packed = client()
        .compression(true)
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap()
        .namespace("rust-transport");
    let long = "x".repeat(4000);
    packed
        .write()
        .patch_rows([Row::new(7).insert("name", &long)])
        .await
        .unwrap();
    let answer = packed
        .query()
        .rank_by(in_order())
        .limit(1)
        .include_attributes(["name"])
        .await
        .unwrap();
    assert_eq!(answer.rows[0].get("name"), Some(&json!(long)));
    let url = format!("{}/{{region}}", variable("SHOAL_TEST_URL"));
    let regional = client()
        .base_url(url)
        .region("gcp-us-central1")
        .build()
        .unwrap()
        .namespace("rust-transport");
    assert_eq!(
        ids(&regional.query().rank_by(in_order()).limit(9).await.unwrap().rows),
        [7, 10, 15, 16]
    );
    ns.delete_all().await.unwrap();
}
