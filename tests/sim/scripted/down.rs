//! The store is down.

use super::*;

/// The store is down.
#[tokio::test(start_paused = true)]
async fn without_the_store_there_are_no_strong_answers() {
    let (bucket, node) = one_row().await;
    bucket.cut_off();
    let error = node
        .rows("ns", Consistency::Strong)
        .await
        .expect_err("it might be wrong");
    assert_eq!(error.kind, ErrorKind::Unavailable);
    let error = node.write("ns", row(2)).await.expect_err("it would not be durable");
    assert!(
        matches!(error.kind, ErrorKind::Unknown | ErrorKind::Unavailable),
        "{error:?}"
    );
    let error = node.write("other", row(2)).await.expect_err("it would not be durable");
    assert!(
        matches!(error.kind, ErrorKind::Unknown | ErrorKind::Unavailable),
        "{error:?}"
    );
    let error = node.ids("another").await.expect_err("whether it exists is not known");
    assert_eq!(error.kind, ErrorKind::Unavailable);
    bucket.faults.heal();
    // It is asked again in a moment.
    tokio::time::sleep(Duration::from_secs(1)).await;
    node.write("ns", row(3)).await.expect("the store is back");
    let rows = node.ids("ns").await.expect("the store is back");
    assert!(rows == [1, 3] || rows == [1, 2, 3], "{rows:?}");
}

/// Eventual reads go on until their bound.
#[tokio::test(start_paused = true)]
async fn without_the_store_eventual_reads_go_on_until_their_bound() {
    let (bucket, node) = one_row().await;
    bucket.cut_off();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(ids(&node.rows("ns", EVENTUAL).await.expect("young enough")), [1]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let error = node.rows("ns", EVENTUAL).await.expect_err("older than was allowed");
    assert_eq!(error.kind, ErrorKind::Unavailable);
}
