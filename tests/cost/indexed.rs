//! Namespaces in segments: what cold nodes, warm queries, flushes and merges cost.

use std::time::Duration;

use serde_json::{Value as Json, json};
use shoal::api::query as json_query;
use shoal::maintenance::{self, Done, Indexer, UpkeepOptions};
use shoal::model::Limits;

use super::support::engine::{EVENTUAL, Node, name};
use super::{Bill, Bucket};

/// Rows of the large namespace; its segment has megabytes and is an object of its own.
pub const ROWS: u64 = 6_000;

pub fn large_row(id: u64) -> Json {
    let vector: Vec<u64> = (0..32).map(|d| (id * 31 + d * 17) % 101).collect();
    json!({
        "id": id, "vector": vector, "n": id % 1000, "shop": format!("shop {}", id % 40),
        "t": format!("words of row {id} and {} more: w{} w{}", id % 13, id % 97, id % 1013),
        "body": format!("{id}").repeat(40),
    })
}

/// A namespace in segments of `per_flush` rows, and the node that made them.
pub async fn flushed(bucket: &Bucket, rows: u64, per_flush: u64) -> (Node, Indexer) {
    let node = bucket.node(1);
    let options = UpkeepOptions {
        merge_fan_out: 2,
        ..UpkeepOptions::default()
    };
    let indexer = Indexer::new(node.engine.clone(), options);
    let schema = json!({
        "t": {"type": "string", "full_text_search": true}, "body": {"type": "string", "filterable": false},
        "vector": {"type": "[32]f32", "ann": true},
    });
    for start in (0..rows).step_by(per_flush as usize) {
        let rows: Vec<Json> = (start..(start + per_flush).min(rows)).map(large_row).collect();
        let body = json!({"upsert_rows": rows, "schema": schema, "distance_metric": "cosine_distance"});
        node.write("ns", body).await.expect("written");
        assert_eq!(
            indexer.flush(&node.org, &name("ns")).await.expect("flushed"),
            Done::Published
        );
    }
    (node, indexer)
}

/// Answers a query in the words of the API; returns the number of rows or groups.
async fn ask(node: &Node, body: &Json) -> usize {
    let request = json_query::parse(body.to_string().as_bytes(), &Limits::default()).expect("a query");
    let outcome = node
        .engine
        .query(&node.org, &name("ns"), request.read)
        .await
        .expect("answered");
    outcome.results[0].size()
}

/// Queries, each with the rounds that it may take on a cold node, and the requests.
pub fn queries() -> Vec<(&'static str, Json, u64, u64)> {
    let vector: Vec<u64> = (0..32).collect();
    vec![
        (
            "vectors",
            json!({"rank_by": ["vector", "ANN", vector], "limit": 10}),
            3,
            12,
        ),
        (
            "vectors with attributes",
            json!({"rank_by": ["vector", "ANN", vector], "limit": 10, "include_attributes": ["n", "t"]}),
            4,
            24,
        ),
        (
            "filtered vectors with attributes",
            json!({
                "rank_by": ["vector", "ANN", vector], "filters": ["n", "Lt", 100], "limit": 10,
                "include_attributes": ["n", "t"],
            }),
            5,
            24,
        ),
        ("text", json!({"rank_by": ["t", "BM25", "w5"], "limit": 10}), 4, 12),
        (
            "text with attributes",
            json!({"rank_by": ["t", "BM25", "w5 w77"], "limit": 10, "include_attributes": true}),
            5,
            30,
        ),
        ("order", json!({"rank_by": ["n", "desc"], "limit": 10}), 4, 12),
        (
            "filter and order with attributes",
            json!({
                "rank_by": ["n", "desc"], "filters": ["shop", "Eq", "shop 7"], "limit": 10,
                "include_attributes": ["n"],
            }),
            5,
            24,
        ),
        (
            "count",
            json!({"aggregate_by": {"rows": ["Count"]}, "filters": ["shop", "Eq", "shop 7"]}),
            3,
            12,
        ),
        ("count of all", json!({"aggregate_by": {"rows": ["Count"]}}), 2, 6),
        (
            "groups",
            json!({"aggregate_by": {"rows": ["Count"]}, "group_by": ["shop"], "limit": 100}),
            3,
            12,
        ),
        (
            "rows by id",
            json!({"filters": ["id", "In", [5, 17, 4711]], "limit": 10, "include_attributes": ["n", "body"]}),
            4,
            12,
        ),
    ]
}

#[tokio::test(start_paused = true)]
async fn the_first_query_on_a_cold_node_stays_within_its_rounds() {
    let bucket = Bucket::new();
    flushed(&bucket, ROWS, ROWS).await;
    let mut over = Vec::new();
    for (seed, (what, query, rounds, requests)) in queries().into_iter().enumerate() {
        let cold = bucket.node(100 + seed as u64);
        let (found, bill) = bucket.bill(ask(&cold, &query)).await;
        assert!(found > 0, "{what}");
        assert_eq!((bill.writes, bill.deletes), (0, 0), "{what}: {bill:?}");
        if bill.rounds > rounds || bill.gets + bill.lists > requests {
            over.push(format!(
                "{what}: {bill:?}, may take {requests} requests in {rounds} rounds"
            ));
        }
        // The block that vectors share with the hot region is read once more, beside the look at the log.
        let (_, bill) = bucket.bill(ask(&cold, &query)).await;
        assert!(
            bill.gets <= 2 && bill.lists == 0 && bill.rounds == 1,
            "{what}, again: {bill:?}"
        );
        // Then a query costs that look, or nothing.
        let (_, bill) = bucket.bill(ask(&cold, &query)).await;
        assert_eq!(bill, Bill::of(0, 1, 0, 1), "{what}, warm");
        let mut eventual = query.clone();
        eventual["consistency"] = json!({"level": "eventual"});
        tokio::time::sleep(Duration::from_millis(10)).await;
        let (_, bill) = bucket.bill(ask(&cold, &eventual)).await;
        assert_eq!(
            (bill.writes, bill.lists, bill.rounds),
            (0, 0, 0),
            "{what}, warm and eventual: {bill:?}"
        );
    }
    assert!(over.is_empty(), "{over:#?}");
}

/// Segments are read side by side.
#[tokio::test(start_paused = true)]
async fn more_segments_are_not_more_rounds() {
    let bucket = Bucket::new();
    flushed(&bucket, ROWS, ROWS / 6).await;
    let mut over = Vec::new();
    for (seed, (what, query, rounds, requests)) in queries().into_iter().enumerate() {
        let cold = bucket.node(200 + seed as u64);
        let (found, bill) = bucket.bill(ask(&cold, &query)).await;
        assert!(found > 0, "{what}");
        if bill.rounds > rounds || bill.gets + bill.lists > 6 * requests {
            over.push(format!(
                "{what}: {bill:?}, may take {} requests in {rounds} rounds",
                6 * requests
            ));
        }
    }
    assert!(over.is_empty(), "{over:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_flush_of_a_small_namespace_costs_a_look_a_manifest_its_hint_and_the_marker() {
    let bucket = Bucket::new();
    let node = bucket.node(1);
    let indexer = Indexer::new(node.engine.clone(), UpkeepOptions::default());
    for round in 0..3u64 {
        node.write("ns", json!({"upsert_rows": [{"id": round, "n": 1}]}))
            .await
            .expect("written");
        let (done, bill) = bucket.bill(indexer.flush(&node.org, &name("ns"))).await;
        assert_eq!(done.expect("flushed"), Done::Published);
        // That no entry is newer, nor a manifest, for which the first flush lists them; manifest and hint; that nothing was
        // written since, twice around the marker's DELETE.
        let lists = u64::from(round == 0);
        assert!(
            bill.writes == 2 && bill.gets <= 4 && bill.deletes <= 2 && bill.lists <= lists,
            "{bill:?}"
        );
    }
    // Again there is nothing to do.
    let (done, bill) = bucket.bill(indexer.flush(&node.org, &name("ns"))).await;
    assert_eq!(done.expect("looked at"), Done::Nothing);
    assert!(
        bill.writes == 0 && bill.gets <= 4 && bill.deletes <= 2 && bill.lists == 0,
        "{bill:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_merge_costs_what_reading_costs_and_an_object_a_manifest_and_its_hint() {
    let bucket = Bucket::new();
    let (node, indexer) = flushed(&bucket, ROWS, ROWS / 2).await;
    let (done, bill) = bucket.bill(indexer.merge(&node.org, &name("ns"))).await;
    assert_eq!(done.expect("merged"), Done::Published);
    // What was just written is in memory; reading it from the store would be at most a few requests per megabyte.
    assert!(
        bill.writes <= 4 && bill.gets <= 40 && bill.lists <= 1 && bill.deletes <= 1,
        "{bill:?}"
    );
    assert_eq!(
        ask(&node, &json!({"rank_by": ["id", "asc"], "limit": 10_000})).await as u64,
        ROWS
    );
}

#[tokio::test(start_paused = true)]
async fn writes_to_what_is_in_segments_cost_one_put() {
    let bucket = Bucket::new();
    let (node, _indexer) = flushed(&bucket, ROWS, ROWS).await;
    let writes = [
        ("upsert", json!({"upsert_rows": [large_row(7)]}), 3),
        ("new row", json!({"upsert_rows": [large_row(ROWS + 1)]}), 3),
        ("delete", json!({"deletes": [11]}), 3),
        ("patch", json!({"patch_rows": [{"id": 12, "n": 5}]}), 4),
        (
            "conditional patch",
            json!({"patch_rows": [{"id": 13, "n": 5}], "patch_condition": ["n", "Lt", 50]}),
            4,
        ),
    ];
    for (what, body, rounds) in writes {
        let (written, bill) = bucket.bill(node.write("ns", body.clone())).await;
        written.expect("written");
        assert!(
            bill.writes <= 2 && bill.lists == 0 && bill.rounds <= rounds && bill.gets <= 6,
            "{what}: {bill:?}"
        );
        // The same on a node that has nothing in memory.
        let cold = bucket.node(body.to_string().len() as u64 + 50);
        cold.rows("ns", EVENTUAL).await.expect("open");
        let (written, bill) = bucket.bill(cold.write("ns", body)).await;
        written.expect("written");
        assert!(bill.lists == 0 && bill.rounds <= rounds + 1, "{what}, cold: {bill:?}");
        // It leaves its dirty marker once more.
        drop(cold);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A node that indexes, and a namespace that nobody uses: listings of dirty markers are all that is sent.
#[tokio::test(start_paused = true)]
async fn metadata_counts_rows_at_once_where_some_are_in_segments() {
    let bucket = Bucket::new();
    let (node, _) = flushed(&bucket, 20, 20).await;
    let body = json!({"upsert_rows": [large_row(20)], "distance_metric": "cosine_distance"});
    node.write("ns", body).await.expect("written");
    let known = node.engine.metadata(&node.org, &name("ns")).await.expect("there");
    assert_eq!(known.approx_rows, 21);
    assert!(known.approx_bytes > 0);
}

#[tokio::test(start_paused = true)]
async fn an_idle_namespace_on_an_indexing_node_costs_nothing_but_listings() {
    let bucket = Bucket::new();
    let node = Node::new(std::sync::Arc::new(bucket.counting.clone()), 1);
    let options = UpkeepOptions::default();
    let longest = options.list_interval_idle.as_secs();
    let indexer = Indexer::new(node.engine.clone(), options);
    let upkeep = maintenance::run(indexer, std::future::pending());
    node.runtime.spawner.spawn("upkeep", Box::pin(upkeep));
    for id in 0..20u64 {
        node.write("ns", json!({"upsert_rows": [{"id": id, "n": 1}]}))
            .await
            .expect("written");
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    let newest = node.engine.newest(&node.org, &name("ns")).await.expect("readable");
    assert_eq!(newest.indexed_seq, newest.seq, "it was flushed");
    let day = 24 * 3600;
    let (_, bill) = bucket.bill(tokio::time::sleep(Duration::from_secs(day))).await;
    assert_eq!((bill.writes, bill.gets, bill.deletes), (0, 0, 0), "{bill:?}");
    assert!(bill.lists <= day / longest + 20, "{bill:?}");
}
