//! Rows of the failure table that are about nodes which meet: with a deletion, with a newer version, with a long tail.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::{Value as Json, json};
use shoal::base::{Clock, MemoryShare, Rng, TokioClock};
use shoal::error::ErrorKind;
use shoal::maintenance::{Done, Indexer, UpkeepOptions};
use shoal::model::write::origin::OriginKind;
use shoal::model::{Consistency, OrgId, Seq};
use shoal::namespace::{CopyFrom, Progress};
use shoal::store::paths::{self, NsKey};

use super::once::OnceStore;
use super::support::engine::{EVENTUAL, Node, name};
use super::support::fault::{Fault, FaultRates, FaultStore};

fn key() -> NsKey {
    NsKey::new(OrgId::default_org(), name("ns"))
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(TokioClock::new(Duration::from_secs(1_700_000_000)))
}

fn rows(ids: std::ops::Range<u64>, n: i64) -> Json {
    json!({"upsert_rows": ids.map(|id| json!({"id": id, "n": n})).collect::<Vec<_>>()})
}

/// Segments are objects of their own, and merged at once.
fn indexer(node: &Node) -> Indexer {
    let options = UpkeepOptions {
        inline: false,
        merge_fan_out: 2,
        ..UpkeepOptions::default()
    };
    Indexer::new(node.engine.clone(), options)
}

/// Row 24: nobody has indexed for long, and a node begins that knows nothing. It reads many entries at once, but not too
/// many; a flush puts an end to it.
#[tokio::test(start_paused = true)]
async fn a_long_tail_is_read_in_bounded_batches() {
    const ENTRIES: u64 = 10_000;
    let faults = FaultStore::new(Arc::new(InMemory::new()), Rng::seeded(1), FaultRates::healthy());
    let gauge = OnceStore::new(Arc::new(faults.clone()), clock());
    let store: Arc<dyn ObjectStore> = Arc::new(gauge.clone());
    let writer = Node::new(store.clone(), 1);
    for n in 0..ENTRIES {
        writer.write("ns", rows(n % 50..n % 50 + 1, 1)).await.expect("written");
    }
    let slow = Duration::from_millis(100);
    faults.set_rates(FaultRates {
        slow: 1000,
        delay_max: slow,
        ..FaultRates::healthy()
    });
    gauge.reset_gauge();
    let calls = faults.calls();
    let cold = Node::new(store.clone(), 2);
    let began = tokio::time::Instant::now();
    assert_eq!(cold.ids("ns").await.expect("readable").len(), 50);
    let (most, took) = (gauge.most_gets(), began.elapsed());
    assert!((32..=64).contains(&most), "{most} at the same time");
    // As many rounds as windows of entries, and a few before and after them; each entry is read once.
    let rounds = took.as_millis().div_ceil(slow.as_millis());
    assert!(rounds <= u128::from(ENTRIES.div_ceil(64)) + 4, "{rounds} rounds");
    let calls = faults.calls() - calls;
    assert!((ENTRIES..ENTRIES + 80).contains(&calls), "{calls} requests");
    faults.heal();
    let flushed = indexer(&cold).flush(&cold.org, &name("ns")).await;
    flushed.expect("flushed");
    let before = faults.calls();
    let later = Node::new(store, 3);
    assert_eq!(later.ids("ns").await.expect("readable").len(), 50);
    assert!(faults.calls() - before <= 8, "a few requests are enough again");
}

/// Row 24, the other half: a node has no memory for a tail. It says so, without reading the tail, lives, answers for other
/// namespaces, and answers for this one when it is in segments; a node that indexes gets there piece by piece.
#[tokio::test(start_paused = true)]
async fn a_tail_that_does_not_fit_is_refused_until_it_is_flushed() {
    const ENTRIES: u64 = 800;
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let (writer, rng) = (Node::new(store.clone(), 1), Rng::seeded(5));
    let schema = json!({"t": {"type": "string", "filterable": false}});
    for id in 0..ENTRIES {
        // Does not compress: what is listed says how much there is.
        let text: String = (0..40).map(|_| format!("{:032x}", rng.u128())).collect();
        let row = json!({"upsert_rows": [{"id": id, "t": text}], "schema": schema});
        writer.write("ns", row).await.expect("written");
    }
    // Does: that is noticed while it is read.
    let text = "some words of a row ".repeat(50);
    for id in 0..ENTRIES {
        let row = json!({"upsert_rows": [{"id": id, "t": format!("{id} {text}")}], "schema": schema});
        writer.write("dense", row).await.expect("written");
    }
    writer.write("other", rows(0..5, 1)).await.expect("written");
    let small = |seed| {
        let counts = FaultStore::new(store.clone(), Rng::seeded(seed), FaultRates::healthy());
        let node = Node::with_tails(Arc::new(counts.clone()), seed, 200_000);
        (node, counts)
    };
    let (node, requests) = small(2);
    let used = || node.runtime.memory.used_bytes(MemoryShare::Tails);
    for _ in 0..3 {
        let before = requests.calls();
        for eventual in [false, true] {
            let consistency = if eventual { EVENTUAL } else { Consistency::Strong };
            let refused = node.rows("ns", consistency).await.expect_err("it does not fit");
            assert_eq!(refused.kind, ErrorKind::Unavailable, "{refused:?}");
            assert_eq!(refused.retry_after, Some(Duration::from_secs(5)));
        }
        let refused = node.write("ns", json!({"patch_rows": [{"id": 1, "n": 1}]})).await;
        assert_eq!(refused.expect_err("it has to be read").kind, ErrorKind::Unavailable);
        assert!(requests.calls() - before < 40, "it is not read in vain");
        let refused = node.ids("dense").await.expect_err("nor does it");
        assert_eq!(refused.kind, ErrorKind::Unavailable, "{refused:?}");
        assert_eq!(node.ids("other").await.expect("readable").len(), 5);
        node.write("other", rows(0..1, 2))
            .await
            .expect("there is room for others");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(used() < 100_000, "{} bytes are held", used());
    }
    // As little memory is enough to index it, in pieces.
    let (indexing, _) = small(3);
    let jobs = indexer(&indexing);
    for namespace in ["ns", "dense"] {
        let mut flushes = 0;
        while jobs.flush(&indexing.org, &name(namespace)).await.expect("flushed") == Done::Published {
            flushes += 1;
            assert!(flushes < 100, "it ends");
        }
        assert!(flushes > 3, "it did not fit: {flushes}");
        for reader in [&node, &indexing, &small(4).0] {
            let ids = reader.ids(namespace).await.expect("it fits now");
            assert_eq!(ids.len(), ENTRIES as usize);
        }
    }
    node.write("ns", rows(0..1, 1)).await.expect("written");
}

/// Row 26: a namespace is deleted while others write, patch and index it. What is written after the deletion begins with
/// nothing; what was written before it is gone.
#[tokio::test(start_paused = true)]
async fn a_deletion_among_writes_and_jobs_leaves_what_came_after_it() {
    for seed in 0..60u64 {
        let faults = FaultStore::new(Arc::new(InMemory::new()), Rng::seeded(seed), FaultRates::healthy());
        let store: Arc<dyn ObjectStore> = Arc::new(faults.clone());
        let [a, b, c] = [1, 2, 3].map(|n| Node::new(store.clone(), n));
        a.write("ns", rows(0..5, 1)).await.expect("written");
        let (jobs, ns) = (indexer(&c), name("ns"));
        jobs.flush(&c.org, &ns).await.expect("flushed");
        a.write("ns", rows(5..10, 1)).await.expect("written");
        for node in [&a, &b, &c] {
            assert_eq!(node.ids("ns").await.expect("readable").len(), 10);
        }
        faults.set_rates(FaultRates {
            slow: 1000,
            delay_max: Duration::from_millis(50 + 20 * seed),
            ..FaultRates::healthy()
        });
        // Rows 2 to 4 are patched, 20 to 22 are new.
        let patches: Vec<Json> = (2..5).map(|id| json!({"id": id, "n": 7})).collect();
        let (patched, new, deleted, flushed, merged) = tokio::join!(
            a.write("ns", json!({"patch_rows": patches})),
            b.write("ns", rows(20..23, 2)),
            b.engine.delete(&b.org, &ns),
            jobs.flush(&c.org, &ns),
            jobs.merge(&c.org, &ns),
        );
        let tombstone = deleted.expect("deleted");
        flushed.unwrap_or_else(|e| panic!("seed {seed}: {e:?}"));
        merged.unwrap_or_else(|e| panic!("seed {seed}: {e:?}"));
        faults.heal();
        let after = |seq: Seq| seq > tombstone;
        let new = after(new.expect("written").seq);
        // A patch of a namespace that does not exist creates it, or is refused.
        let created = patched.is_ok_and(|p| after(p.seq));
        for round in 0..2 {
            for node in [&a, &b, &c, &Node::new(store.clone(), 10 + round)] {
                match node.ids("ns").await {
                    Ok(ids) if new => assert_eq!(ids, [20, 21, 22], "seed {seed}"),
                    Ok(ids) => assert!(created && ids.is_empty(), "seed {seed}: {ids:?}"),
                    Err(error) => assert!(!new && error.kind == ErrorKind::NotFound, "seed {seed}: {error:?}"),
                }
            }
            jobs.flush(&c.org, &ns).await.expect("flushed");
            jobs.merge(&c.org, &ns).await.expect("merged");
        }
    }
}

/// Row 31: an entry that a newer version wrote. Nothing is answered that may be wrong, and nothing is written after it;
/// other namespaces are not touched; and nothing that it may need is collected.
#[tokio::test(start_paused = true)]
async fn an_entry_of_a_newer_version_is_neither_skipped_nor_written_over() {
    for is_cold in [false, true] {
        let inner = Arc::new(InMemory::new());
        let store: Arc<dyn ObjectStore> = inner.clone();
        let node = Node::new(store.clone(), 1);
        for namespace in ["ns", "other"] {
            node.write(namespace, rows(0..5, 1)).await.expect("written");
        }
        indexer(&node).flush(&node.org, &name("ns")).await.expect("flushed");
        let second = paths::wal_entry(&key(), Seq(2));
        let newer = Node::new(store.clone(), 2);
        newer.write("ns", rows(5..6, 1)).await.expect("written");
        let mut bytes = inner
            .get(&second)
            .await
            .expect("there")
            .bytes()
            .await
            .expect("read")
            .to_vec();
        // The version, the checksum of the frame and the digest of all, as docs/formats/log.md has them.
        bytes[8] += 1;
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        let end = bytes.len() - 16;
        let digest = xxhash_rust::xxh3::xxh3_128(&bytes[..end]);
        bytes[end..].copy_from_slice(&digest.to_le_bytes());
        inner.put(&second, bytes.clone().into()).await.expect("put");
        let old = match is_cold {
            true => Node::new(store.clone(), 3),
            false => node,
        };
        for _ in 0..2 {
            let refused = old.ids("ns").await.expect_err("what is in it is not known");
            assert!(
                matches!(refused.kind, ErrorKind::Internal | ErrorKind::Unavailable),
                "{refused:?}"
            );
            old.write("ns", rows(9..10, 1))
                .await
                .expect_err("nothing follows what is not known");
            let _ = indexer(&old).flush(&old.org, &name("ns")).await;
        }
        let prefix = paths::wal_prefix(&key());
        let entries: Vec<_> = inner.list(Some(&prefix)).try_collect().await.expect("listed");
        assert_eq!(entries.len(), 2, "nothing was written");
        let left = inner.get(&second).await.expect("there").bytes().await.expect("read");
        assert_eq!(left.to_vec(), bytes, "nor changed");
        assert_eq!(old.ids("other").await.expect("readable").len(), 5);
    }
}

/// Row 3, for holds: a store that answers with a conflict and keeps nothing must not be taken at its word, or a branch
/// would share segments that nothing holds.
#[tokio::test(start_paused = true)]
async fn a_branch_that_was_made_has_its_holds_whichever_request_fails() {
    for fault in [Fault::Conflict, Fault::BeforeApply, Fault::AfterApply] {
        for at in 0..12 {
            let inner = Arc::new(InMemory::new());
            let faults = FaultStore::new(inner.clone(), Rng::seeded(1), FaultRates::healthy());
            let node = Node::new(Arc::new(faults.clone()), 1);
            node.write("ns", rows(0..5, 1)).await.expect("written");
            indexer(&node).flush(&node.org, &name("ns")).await.expect("flushed");
            faults.fail_call(faults.calls() + at, fault);
            let from = CopyFrom {
                kind: OriginKind::Branch,
                org: node.org.clone(),
                source: name("ns"),
                guard: None,
                num_shards: None,
                create_namespace: None,
            };
            let (org, progress) = (&node.org, Progress::default());
            let _ = node.engine.copy(org, &name("twig"), &from, &progress).await;
            faults.heal();
            let exists = node.ids("twig").await.is_ok();
            let prefix = paths::upkeep::pin_prefix(&key());
            let holds: Vec<_> = inner.list(Some(&prefix)).try_collect().await.expect("listed");
            assert!(!exists || holds.len() == 1, "{fault:?} at {at}: {holds:?}");
        }
    }
}
