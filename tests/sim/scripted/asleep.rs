//! Nodes that sleep through the grace time, before, in the middle of and after requests.

use super::*;

/// The writer sleeps through the grace time in the middle of a write.
#[tokio::test(start_paused = true)]
async fn a_writer_that_was_suspended_does_not_trust_its_success() {
    let bucket = Bucket::new();
    let options = EngineOptions {
        grace: Duration::from_secs(8),
        ..EngineOptions::default()
    };
    let node = bucket.node_with(1, options);
    node.write("ns", row(1)).await.expect("written");
    // Longer than half the grace, shorter than any time-out.
    bucket.fail_next(Fault::Slow(Duration::from_secs(5)));
    let error = node
        .write("ns", row(2))
        .await
        .expect_err("the answer came too late to mean anything");
    assert_eq!(error.kind, ErrorKind::Unknown);
    node.write("ns", row(3)).await.expect("written, after another look");
    assert_eq!(node.ids("ns").await.expect("readable"), [1, 2, 3]);
    assert_eq!(bucket.requests_per_entry().await, [1, 1, 1]);
}

/// The writer sleeps between two writes.
#[tokio::test(start_paused = true)]
async fn a_writer_that_slept_looks_before_it_writes() {
    let bucket = Bucket::new();
    let options = EngineOptions {
        grace: Duration::from_secs(8),
        ..EngineOptions::default()
    };
    let (a, b) = (bucket.node_with(1, options.clone()), bucket.node_with(2, options));
    a.write("ns", row(1)).await.expect("written");
    b.write("ns", row(2)).await.expect("written");
    tokio::time::sleep(Duration::from_secs(60)).await;
    // `a` knows one entry of two: it has to open the namespace again.
    assert_eq!(a.write("ns", row(3)).await.expect("written").seq, Seq(3));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(b.ids("ns").await.expect("readable"), [1, 2, 3]);
}

/// Rule 4: what was sent and has gone stale is not sent again.
#[tokio::test(start_paused = true)]
async fn a_writer_that_was_suspended_before_it_tried_again_does_not_send_again() {
    let bucket = Bucket::new();
    let node = bucket.node_with(1, short_grace());
    node.write("ns", row(1)).await.expect("written");
    let entry = bucket.faults.calls();
    bucket.faults.fail_call(entry, Fault::BeforeApply);
    bucket.faults.fail_call(entry + 1, Fault::Slow(Duration::from_secs(5)));
    let error = node.write("ns", row(2)).await.expect_err("it may have been collected");
    assert_eq!(error.kind, ErrorKind::Unknown);
    assert_eq!(bucket.requests_per_entry().await, [1]);
}

/// Rule 3, for a success that is read back.
#[tokio::test(start_paused = true)]
async fn a_writer_that_was_suspended_does_not_trust_an_entry_it_reads_back() {
    let bucket = Bucket::new();
    let node = bucket.node_with(1, short_grace());
    node.write("ns", row(1)).await.expect("written");
    let entry = bucket.faults.calls();
    bucket.faults.fail_call(entry, Fault::AfterApply);
    bucket.faults.fail_call(entry + 1, Fault::Slow(Duration::from_secs(5)));
    let error = node.write("ns", row(2)).await.expect_err("read too late");
    assert_eq!(error.kind, ErrorKind::Unknown);
}

/// What a reader that slept does not find may have been collected.
#[tokio::test(start_paused = true)]
async fn a_reader_that_slept_does_not_trust_an_empty_slot() {
    let bucket = Bucket::new();
    let (a, b) = (bucket.node_with(1, short_grace()), bucket.node_with(2, short_grace()));
    a.write("ns", row(1)).await.expect("written");
    assert_eq!(b.ids("ns").await.expect("readable"), [1]);
    a.write("ns", row(2)).await.expect("written");
    a.write("ns", row(3)).await.expect("written");
    tokio::time::sleep(Duration::from_secs(60)).await;
    for seq in [1, 2] {
        let entry = paths::wal_entry(&key(), Seq(seq));
        bucket.inner.delete(&entry).await.expect("collected");
    }
    // There are no segments yet from which it could read on.
    b.ids("ns").await.expect_err("one row would be wrong");
}

/// "No" is only said on the newest state, whoever wrote it.
#[tokio::test(start_paused = true)]
async fn a_refusal_rests_on_the_newest_state() {
    let bucket = Bucket::new();
    let (a, b) = (bucket.node(1), bucket.node(2));
    let patch = || json!({"patch_rows": [{"id": 1, "n": 5}]});
    let error = a.write("ns", patch()).await.expect_err("there is no namespace");
    assert_eq!(error.kind, ErrorKind::NotFound);
    let error = a.rows("ns", EVENTUAL).await.expect_err("there is no namespace");
    assert_eq!(error.kind, ErrorKind::NotFound);

    b.write("ns", row(1)).await.expect("written");
    assert_eq!(ids(&a.rows("ns", EVENTUAL).await.expect("it exists by now")), [1]);
    b.engine.delete(&b.org, &name("ns")).await.expect("deleted");
    let error = a.ids("ns").await.expect_err("deleted");
    assert_eq!(error.kind, ErrorKind::NotFound);
    b.write("ns", row(1)).await.expect("written");
    let patched = a.write("ns", patch()).await.expect("it exists by now");
    assert_eq!(patched.rows_patched, Some(1));

    b.engine.delete(&b.org, &name("ns")).await.expect("deleted");
    let error = a.ids("ns").await.expect_err("deleted");
    assert_eq!(error.kind, ErrorKind::NotFound);
    b.write("ns", row(1)).await.expect("written");
    a.engine.delete(&a.org, &name("ns")).await.expect("it exists by now");
}
