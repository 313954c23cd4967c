//! A copy is there as a whole or not at all, whatever fails.

use super::*;

/// What a new node finds: nothing, or the whole copy with its schema and settings.
async fn all_or_nothing(bucket: &FaultStore) -> bool {
    let node = node(bucket, 99);
    match node.ids("copy").await {
        Ok(ids) => {
            assert_eq!(ids, [1, 2]);
            assert!(settings(&node, "copy").await.read_only);
            let schema = node.engine.schema(&node.org, &name("copy")).await.expect("there");
            assert!(schema.get("vector").is_some());
            true
        }
        Err(e) => {
            assert_eq!(e.kind, ErrorKind::NotFound, "{e}");
            false
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_is_whole_or_absent_whichever_request_fails() {
    let healthy = bucket();
    two_rows(&healthy).await;
    let before = healthy.calls();
    copy(&Node::with(Arc::new(healthy.clone()), 2, staging()), "source", "copy")
        .await
        .expect("copied");
    let calls = healthy.calls() - before;
    assert!((5..20).contains(&calls), "{calls} requests");
    for call in 0..calls {
        for fault in [
            Fault::BeforeApply,
            Fault::AfterApply,
            Fault::Conflict,
            Fault::LateApply(Duration::from_secs(40)),
        ] {
            let bucket = bucket();
            two_rows(&bucket).await;
            let worker = Node::with(Arc::new(bucket.clone()), 2, staging());
            bucket.fail_call(bucket.calls() + call, fault);
            let copied = copy(&worker, "source", "copy").await;
            bucket.heal();
            tokio::time::sleep(Duration::from_secs(120)).await;
            let there = all_or_nothing(&bucket).await;
            match copied {
                Ok(outcome) => assert!(there && outcome.rows == 2, "call {call}, {fault:?}"),
                Err(e) if e.kind == ErrorKind::Unknown => {}
                Err(e) => assert!(!there, "call {call}, {fault:?}: refused, and there: {e}"),
            }
        }
    }
}

/// The node dies at its n-th poll, for every n.
#[test]
fn a_copy_is_whole_or_absent_wherever_its_node_dies() {
    let (mut absent, mut whole) = (0, 0);
    for polls in 1.. {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without I/O");
        let (copied, there) = runtime.block_on(async {
            let bucket = bucket();
            two_rows(&bucket).await;
            let life = Life::of(polls);
            let spawner = Arc::new(MortalSpawner(life.clone()));
            let mortal = Node::spawning(Arc::new(bucket.clone()), 2, staging(), spawner);
            let copied = life.run(copy(&mortal, "source", "copy")).await;
            drop(mortal);
            tokio::time::sleep(Duration::from_secs(60)).await;
            (copied.map(|c| c.is_ok()), all_or_nothing(&bucket).await)
        });
        assert!(
            copied != Some(true) || there,
            "an acknowledged copy is lost at poll {polls}"
        );
        match there {
            true => whole += 1,
            false => absent += 1,
        }
        if copied == Some(true) {
            break;
        }
        assert!(polls < 500, "the copy ends");
    }
    assert!(absent > 3 && whole > 1, "{absent} absent, {whole} whole");
}

#[tokio::test(start_paused = true)]
async fn a_copy_needs_room_for_its_rows() {
    let bucket = bucket();
    let small = Node::with(Arc::new(bucket.clone()), 1, EngineOptions::default());
    small.write("source", long_text(2)).await.expect("written");
    // For the rows there, and for what is gathered and encoded on the way.
    for share in [MemoryShare::Tails, MemoryShare::Bodies] {
        let memory = &small.runtime.memory;
        let taken = memory.charge_always(share, memory.limit_bytes(share) - memory.used_bytes(share));
        let e = copy(&small, "source", "copy").await.expect_err("no room");
        assert_eq!((e.kind, e.retry_after.is_some()), (ErrorKind::Overloaded, true), "{e}");
        drop(taken);
    }
    copy(&small, "source", "copy").await.expect("copied");
}
