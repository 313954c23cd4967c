//! Namespaces that are deleted while they are written, and the markers by which they are listed.

use super::*;

/// A namespace is deleted while another node writes it.
#[tokio::test(start_paused = true)]
async fn a_write_that_meets_a_deletion_starts_from_nothing() {
    let bucket = Bucket::new();
    let (a, b) = (bucket.node(1), bucket.node(2));
    a.write("ns", row(1)).await.expect("written");
    b.ids("ns").await.expect("b has it open");
    a.engine.delete(&a.org, &name("ns")).await.expect("deleted");
    let text = json!({"upsert_rows": [{"id": 5, "n": "now a string"}]});
    assert_eq!(b.write("ns", text).await.expect("written").seq, Seq(3));
    assert_eq!(a.ids("ns").await.expect("readable"), [5]);
    let patch = json!({"patch_rows": [{"id": 1, "n": "gone"}]});
    assert_eq!(a.write("ns", patch).await.expect("written").rows_patched, Some(0));
}

/// The same name is used again, on every node.
#[tokio::test(start_paused = true)]
async fn a_name_can_be_used_again_at_once() {
    let bucket = Bucket::new();
    let nodes = [bucket.node(1), bucket.node(2)];
    for round in 0..6 {
        let (writer, reader) = (&nodes[round % 2], &nodes[(round + 1) % 2]);
        writer.write("ns", row(round as u64)).await.expect("written");
        assert_eq!(reader.ids("ns").await.expect("readable"), [round as u64]);
        assert_eq!(
            writer
                .engine
                .list(&writer.org, "", None, 10)
                .await
                .expect("listed")
                .names
                .len(),
            1
        );
        reader.engine.delete(&reader.org, &name("ns")).await.expect("deleted");
        let error = writer.ids("ns").await.expect_err("deleted");
        assert_eq!(error.kind, ErrorKind::NotFound);
        assert!(
            writer
                .engine
                .list(&writer.org, "", None, 10)
                .await
                .expect("listed")
                .names
                .is_empty()
        );
    }
    assert_eq!(bucket.requests_per_entry().await.len(), 12, "numbers never start again");
}

/// The listing marker is late; the write waits for it.
#[tokio::test(start_paused = true)]
async fn what_is_acknowledged_is_listed() {
    for fault in [
        Fault::BeforeApply,
        Fault::AfterApply,
        Fault::LateApply(Duration::from_secs(3)),
    ] {
        let bucket = Bucket::new();
        let node = bucket.node(1);
        // The listing of the log, the entry, the marker.
        bucket.faults.fail_call(2, fault);
        node.write("ns", row(1)).await.expect("written");
        let page = node.engine.list(&node.org, "", None, 10).await.expect("listed");
        assert_eq!(page.names, [name("ns")], "{fault:?}");
    }
}

/// A write that meets a deletion takes back the marker of the incarnation it took to be alive.
#[tokio::test(start_paused = true)]
async fn a_write_that_meets_a_deletion_leaves_one_marker() {
    for knows_the_first in [true, false] {
        let bucket = Bucket::new();
        let (a, b) = (bucket.node(1), bucket.node(2));
        a.write("ns", row(1)).await.expect("written");
        if knows_the_first {
            b.ids("ns").await.expect("readable");
        }
        a.engine.delete(&a.org, &name("ns")).await.expect("deleted");
        assert_eq!(b.write("ns", row(2)).await.expect("written").seq, Seq(3));
        let prefix = paths::catalog_markers(&key());
        let markers: Vec<_> = bucket.inner.list(Some(&prefix)).try_collect().await.expect("listed");
        let geneses: Vec<_> = markers.iter().map(|m| paths::marker_genesis(&m.location)).collect();
        assert_eq!(geneses, [Some(Seq(3))], "{knows_the_first}");
    }
}

/// A deletion whose listing markers stayed behind is cleaned up after when it is repeated.
#[tokio::test(start_paused = true)]
async fn a_repeated_deletion_removes_the_markers_of_the_first() {
    let (bucket, node) = one_row().await;
    let tombstone = bucket.faults.calls();
    (tombstone + 1..tombstone + 1000).for_each(|n| bucket.faults.fail_call(n, Fault::BeforeApply));
    node.engine.delete(&node.org, &name("ns")).await.expect("deleted");
    bucket.faults.heal();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let again = node.engine.delete(&node.org, &name("ns")).await;
    assert_eq!(again.expect_err("deleted already").kind, ErrorKind::NotFound);
    let page = node.engine.list(&node.org, "", None, 10).await.expect("listed");
    assert!(page.names.is_empty(), "{:?}", page.names);
}
