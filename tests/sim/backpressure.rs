//! What is refused when a namespace has more unindexed bytes than it may (row 23, I12).

use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;
use serde_json::json;
use shoal::base::CpuPool;
use shoal::error::ErrorKind;
use shoal::model::{Consistency, Limits, Seq};
use shoal::namespace::EngineOptions;
use shoal::store::paths::NsKey;
use shoal::wal::Log;

use super::support::engine::{Node, name};

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

/// However many clients of however many nodes write at once: the tail is never longer than the limit and one entry.
#[tokio::test(start_paused = true)]
async fn the_limit_is_passed_by_one_entry_at_most() {
    const MAX: u64 = 6_000;
    for (nodes, clients) in [(1, 40), (3, 20)] {
        let store = Arc::new(InMemory::new());
        let nodes: Vec<Node> = (1..=nodes)
            .map(|seed| {
                let limits = Limits {
                    unindexed_bytes_max: MAX,
                    ..Limits::default()
                };
                let options = EngineOptions {
                    limits,
                    ..EngineOptions::default()
                };
                Node::with(store.clone(), seed, options)
            })
            .collect();
        let text = "x".repeat(300);
        let write = async |client: u64| {
            let node = &nodes[client as usize % nodes.len()];
            for n in 0..50u64 {
                let row = json!({"upsert_rows": [{"id": client * 1000 + n, "t": format!("{n}{text}{client}")}]});
                match node.write("ns", row).await {
                    Ok(_) => {}
                    Err(error) if error.kind == ErrorKind::Overloaded => return true,
                    Err(error) => panic!("{error:?}"),
                }
            }
            false
        };
        let refused = futures::future::join_all((0..clients).map(write)).await;
        assert!(refused.iter().all(|r| *r), "everybody is refused in the end");
        let cold = Node::new(store.clone(), 9);
        let rows = cold.rows("ns", Consistency::Strong).await.expect("readable").results[0]
            .rows()
            .len();
        let key = NsKey::new(cold.org.clone(), name("ns"));
        let log = Log::new(cold.engine.store().clone(), key, CpuPool::inline());
        let (mut before, mut entries) = (0, 0);
        while let Some(logged) = log.get(Seq(entries + 1)).await.expect("readable") {
            assert!(before <= MAX, "{before} bytes before entry {}", entries + 1);
            before += logged.bytes;
            entries += 1;
        }
        assert!(
            before > MAX && rows > 5,
            "{before} bytes, {rows} rows in {entries} entries"
        );
    }
}
