//! Copies by token: how far they are, and how they ended.

use super::*;

/// The keys of an operation's objects.
async fn objects(bucket: &FaultStore) -> Vec<String> {
    let listed: Vec<_> = bucket.list(None).try_collect().await.expect("listable");
    let keys = listed.into_iter().map(|o| o.location.to_string());
    let mut parts: Vec<String> = keys
        .filter(|k| k.contains("/ops/"))
        .filter_map(|k| k.rsplit('/').next().map(str::to_owned))
        .collect();
    parts.sort();
    parts
}

async fn poll(node: &Node, destination: &str, token: &str) -> Operation {
    let found = node.engine.operation(&node.org, &name(destination), token).await;
    found.expect("known")
}

#[tokio::test(start_paused = true)]
async fn every_node_knows_how_a_copy_by_token_ended() {
    let bucket = bucket();
    let (a, b) = (node(&bucket, 1), node(&bucket, 2));
    a.write("source", json!({"upsert_rows": [{"id": 1}, {"id": 2}]}))
        .await
        .expect("written");
    for (source, ends_well) in [("source", true), ("missing", false), ("source", false)] {
        let from = from(&a, source, OriginKind::Copy);
        let token = a.engine.start_copy(&a.org, &name("copy"), from).await.expect("started");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let ended = poll(&b, "copy", &token).await;
        assert_eq!(poll(&a, "copy", &token).await, ended);
        match ended {
            Operation::Finished {
                result: Ok(outcome), ..
            } => assert!(ends_well && outcome.rows == 2),
            Operation::Finished {
                result: Err(failure), ..
            } => {
                assert!(!ends_well);
                let kind = if source == "missing" {
                    ErrorKind::NotFound
                } else {
                    ErrorKind::Invalid
                };
                assert_eq!(failure.kind, kind, "{}", failure.message);
            }
            running => panic!("{running:?}"),
        }
        // Another namespace does not know it.
        let other = a.engine.operation(&a.org, &name("other"), &token).await;
        assert_eq!(other.expect_err("not there").kind, ErrorKind::NotFound);
    }
    assert_eq!(
        objects(&bucket).await,
        ["done", "done", "done"],
        "what is superfluous is removed"
    );
    for token in [
        "",
        "x",
        "00000000000000000000000000",
        "01hf000000000000000000000O",
        "../../wal/ffffffffffffffff",
    ] {
        let unknown = a.engine.operation(&a.org, &name("copy"), token).await;
        assert_eq!(unknown.expect_err(token).kind, ErrorKind::NotFound);
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_copy_tells_how_far_it_is_and_a_dead_one_ends() {
    let bucket = bucket();
    let [watcher, other] = [2, 6].map(|seed| node(&bucket, seed));
    two_rows(&bucket).await;
    let life = Life::of(u64::MAX);
    let mortal = Node::spawning(
        Arc::new(bucket.clone()),
        3,
        staging(),
        Arc::new(MortalSpawner(life.clone())),
    );
    let from = from(&watcher, "source", OriginKind::Copy);
    // Its start, then a look, then the upload of a blob.
    let upload = bucket.calls() + 2;
    (upload..upload + 4).for_each(|call| bucket.fail_call(call, Fault::Slow(Duration::from_secs(9))));
    let token = mortal
        .engine
        .start_copy(&mortal.org, &name("copy"), from.clone())
        .await
        .expect("started");
    tokio::time::sleep(Duration::from_millis(500)).await;
    match poll(&watcher, "copy", &token).await {
        Operation::Running { progress, .. } => assert!(!progress.is_empty()),
        ended => panic!("{ended:?}"),
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let ended = poll(&watcher, "copy", &token).await;
    assert!(matches!(ended, Operation::Finished { result: Ok(_), .. }), "{ended:?}");
    // One whose node dies: running until the silence is too long, then failed, for ever.
    let life = Life::of(4);
    let mortal = Node::spawning(
        Arc::new(bucket.clone()),
        4,
        staging(),
        Arc::new(MortalSpawner(life.clone())),
    );
    let token = mortal
        .engine
        .start_copy(&mortal.org, &name("dead"), from)
        .await
        .expect("started");
    // The clock of the node that copies is a minute behind the watcher's, which the bound allows for.
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert!(life.is_over());
    assert!(matches!(
        poll(&watcher, "dead", &token).await,
        Operation::Running { .. }
    ));
    tokio::time::sleep(Duration::from_secs(100)).await;
    // Two find out at the same time; what the first of them notes counts for both.
    bucket.fail_call(bucket.calls() + 1, Fault::Slow(Duration::from_secs(1)));
    let (ended, same) = tokio::join!(poll(&watcher, "dead", &token), poll(&other, "dead", &token));
    assert_eq!(ended, same);
    match &ended {
        Operation::Finished {
            result: Err(failure), ..
        } => {
            assert_eq!(failure.kind, ErrorKind::Unknown);
            assert!(failure.message.contains("may or may not"), "{}", failure.message);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(poll(&node(&bucket, 5), "dead", &token).await, ended);
}
