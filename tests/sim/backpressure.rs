//! What is refused when a namespace has more unindexed bytes than it may.

use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;
use serde_json::json;
use shoal::error::ErrorKind;
use shoal::model::{Consistency, Limits};
use shoal::namespace::EngineOptions;

use super::support::engine::Node;

#[tokio::test(start_paused = true)]
async fn above_the_limit_only_blind_writes_that_ask_for_it_are_taken() {
    let text = "x".repeat(4000);
    let row = |id: u64| json!({"upsert_rows": [{"id": id, "n": 1, "t": format!("{id}{text}{id}")}]});
    let limits = Limits {
        unindexed_bytes_max: 6000,
        ..Limits::default()
    };
    let options = EngineOptions {
        limits,
        ..EngineOptions::default()
    };
    let node = Node::with(Arc::new(InMemory::new()), 1, options);
    let mut written = 0;
    let refused = loop {
        match node.write("ns", row(written)).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(
        (2..10).contains(&written),
        "{written} writes fit below the limit, the last one across it"
    );
    assert_eq!(refused.kind, ErrorKind::Overloaded);
    assert_eq!(refused.retry_after, Some(Duration::from_secs(5)));

    // `true` lifts it for upserts and deletes by id.
    for mut blind in [row(100), json!({"deletes": [0]})] {
        node.write("ns", blind.clone()).await.expect_err("still above");
        blind["disable_backpressure"] = true.into();
        node.write("ns", blind).await.expect("asked for");
    }
    let reading = [
        json!({"patch_rows": [{"id": 1, "n": 2}]}),
        json!({"upsert_rows": [{"id": 1}], "upsert_condition": ["n", "Eq", 1]}),
        json!({"deletes": [1], "delete_condition": ["n", "Eq", 1]}),
        json!({"delete_by_filter": ["n", "Eq", 1]}),
        json!({"patch_by_filter": {"filters": ["n", "Eq", 1], "patch": {"n": 2}}}),
    ];
    for mut write in reading {
        write["disable_backpressure"] = true.into();
        let error = node
            .write("ns", write.clone())
            .await
            .expect_err("it depends on stored rows");
        assert_eq!(error.kind, ErrorKind::Overloaded, "{write}");
    }
    // Reads go on: all rows are in memory, and none is left out.
    let rows = node.rows("ns", Consistency::Strong).await.expect("readable");
    assert_eq!(rows.results[0].rows().len() as u64, written);
}
