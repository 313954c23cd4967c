//! What a branch needs besides segments of others.

use std::collections::BTreeMap;

use serde_json::json;

use super::nodes::{Node, clock, counts, hours};
use super::store::Dated;
use crate::maintenance::tests::run;

#[test]
fn deleted_rows_of_a_branch_stay_until_a_manifest_of_it_says_which_they_are() {
    run(async {
        let clock = clock();
        let backend = Dated::new(clock.clone());
        let mut node = Node::new(&backend, &clock, 1);
        node.upsert("docs", 0..8_400, 1).await;
        node.flush("docs").await;
        // More than a manifest holds of one segment.
        let deleted: Vec<u64> = (0..8_400).step_by(2).collect();
        node.write("docs", json!({ "deletes": deleted })).await;
        node.branch("docs", "twig").await.expect("branched");
        let expected: BTreeMap<u64, i64> = (0..8_400).filter(|id| id % 2 == 1).map(|id| (id, 1)).collect();
        for _ in 0..3 {
            hours(30).await;
            node.collect("twig").await;
        }
        let begun = counts(&[("entry", 1), ("deletions", 1), ("pin", 1)]);
        assert_eq!(node.objects("twig").await, begun);
        assert_eq!(Node::new(&backend, &clock, 2).rows("twig").await, expected);
        node.flush("twig").await;
        for _ in 0..4 {
            hours(30).await;
            node.collect("twig").await;
        }
        let flushed = counts(&[("entry", 1), ("deletions", 1), ("manifest", 1)]);
        assert_eq!(node.objects("twig").await, flushed);
        assert_eq!(Node::new(&backend, &clock, 3).rows("twig").await, expected);
    });
}
