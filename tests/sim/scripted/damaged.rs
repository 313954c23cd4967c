//! Logs that are broken: forks, gaps, entries that were replaced or damaged.

use super::*;

/// Rule 5: an entry of the same namespace that continues another history.
#[tokio::test(start_paused = true)]
async fn a_fork_of_the_log_is_never_an_answer() {
    let (bucket, fork) = (Bucket::new(), Bucket::new());
    bucket.node(1).write("ns", row(1)).await.expect("written");
    let copy = async |from: &Bucket, to: &Bucket, seq: u64| {
        let entry = paths::wal_entry(&key(), Seq(seq));
        let bytes = from.inner.get(&entry).await.expect("there").bytes().await;
        to.inner.put(&entry, bytes.expect("whole").into()).await.expect("put");
    };
    copy(&bucket, &fork, 1).await;
    let (a, b) = (bucket.node(2), fork.node(3));
    a.write("ns", row(2)).await.expect("written");
    b.write("ns", row(20)).await.expect("written");
    b.write("ns", row(30)).await.expect("written");
    copy(&fork, &bucket, 3).await;
    for node in [a, bucket.node(4)] {
        let error = node.ids("ns").await.expect_err("rows of two histories");
        assert_eq!(error.kind, ErrorKind::Internal);
    }
}

/// A listing without order may miss an entry that is created while it runs, though not a later one.
#[tokio::test(start_paused = true)]
async fn a_gap_in_a_listing_is_looked_at_before_it_is_a_broken_log() {
    let bucket = Bucket::new();
    let node = bucket.node(1);
    for id in 1..=3 {
        node.write("ns", row(id)).await.expect("written");
    }
    bucket.fail_next(Fault::Omit);
    assert_eq!(bucket.node(2).ids("ns").await.expect("it is there"), [1, 2, 3]);
}

/// The store lets somebody replace an entry.
#[tokio::test(start_paused = true)]
async fn a_broken_chain_makes_the_namespace_read_only() {
    let bucket = Bucket::new();
    let (a, b) = (bucket.node(1), bucket.node(2));
    a.write("ns", row(1)).await.expect("written");
    a.write("ns", row(2)).await.expect("written");
    b.ids("ns").await.expect("readable");
    // Another log's third entry stands where this log's third entry should.
    let other = Bucket::new();
    let c = other.node(3);
    for id in 1..=3 {
        c.write("ns", row(id)).await.expect("written");
    }
    let foreign = other.inner.get(&paths::wal_entry(&key(), Seq(3))).await.expect("there");
    let bytes = foreign.bytes().await.expect("whole");
    bucket
        .inner
        .put(&paths::wal_entry(&key(), Seq(3)), bytes.into())
        .await
        .expect("replaced");

    let error = b.rows("ns", Consistency::Strong).await.expect_err("never an answer");
    assert_eq!(error.kind, ErrorKind::Internal);
    let error = b.write("ns", row(9)).await.expect_err("never a write");
    assert_eq!(error.kind, ErrorKind::Internal);
    let last_good = b.rows("ns", EVENTUAL).await.expect("what was good stays readable");
    assert_eq!(ids(&last_good), [1, 2]);
    let error = bucket.node(4).ids("ns").await.expect_err("a new node sees it too");
    assert_eq!(error.kind, ErrorKind::Internal);
}

/// An entry in the middle of the log is gone.
#[tokio::test(start_paused = true)]
async fn a_gap_in_the_log_is_never_an_answer() {
    let bucket = Bucket::new();
    let node = bucket.node(1);
    for id in 1..=3 {
        node.write("ns", row(id)).await.expect("written");
    }
    bucket
        .inner
        .delete(&paths::wal_entry(&key(), Seq(2)))
        .await
        .expect("deleted");
    let error = bucket.node(2).ids("ns").await.expect_err("two rows would be wrong");
    assert_eq!(error.kind, ErrorKind::Internal);
}

/// Failure 17, for the log: bytes that change or are missing on the way are found, and read again.
#[tokio::test(start_paused = true)]
async fn an_entry_that_is_damaged_on_the_way_is_read_again() {
    for fault in [Fault::Flip, Fault::Truncate] {
        let (bucket, _) = one_row().await;
        let cold = bucket.node(2);
        bucket.faults.fail_call(bucket.faults.calls() + 1, fault);
        assert_eq!(cold.ids("ns").await.expect("the object itself is good"), [1]);
    }
}

/// Failure 17, for the log: an entry that is damaged where it lies.
#[tokio::test(start_paused = true)]
async fn a_damaged_entry_is_never_an_answer() {
    let bucket = Bucket::new();
    let node = bucket.node(1);
    for id in 1..=2 {
        node.write("ns", row(id)).await.expect("written");
    }
    let key = paths::wal_entry(&key(), Seq(2));
    let object = bucket.inner.get(&key).await.expect("there");
    let mut bytes = object.bytes().await.expect("whole").to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bucket.inner.put(&key, bytes.into()).await.expect("replaced");
    let cold = bucket.node(2);
    for _ in 0..2 {
        let error = cold.ids("ns").await.expect_err("not what was written");
        assert_eq!(error.kind, ErrorKind::Internal);
        let error = cold.write("ns", row(3)).await.expect_err("nothing follows it");
        assert!(
            matches!(error.kind, ErrorKind::Internal | ErrorKind::Unknown),
            "{error:?}"
        );
    }
    assert_eq!(node.ids("ns").await.expect("this node read it before"), [1, 2]);
}
