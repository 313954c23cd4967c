//! Failures of upkeep, one at a time: indexers that die, race and are suspended, hints and objects that are gone, old
//! or damaged. Whatever happens, a node answers what the log says, or that it cannot.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::{Value as Json, json};
use shoal::base::Rng;
use shoal::error::{Error, ErrorKind};
use shoal::maintenance::{Done, Indexer, UpkeepOptions};
use shoal::manifest::{Manifest, ManifestStore};
use shoal::model::query::{Aggregate, Aggregation, Projection, Read, Score, TextQuery};
use shoal::model::{Consistency, Direction, Filter, FilterOp, Gen, Limits, OrgId, Query, RankBy, Seq};
use shoal::namespace::EngineOptions;
use shoal::query::QueryResult;
use shoal::store::paths::{self, NsKey, NsObject};

use super::support::engine::{Node, name};
use super::support::fault::{Fault, FaultRates, FaultStore};

/// A bucket that fails when told to.
struct Bucket {
    inner: Arc<InMemory>,
    faults: FaultStore,
}

fn key() -> NsKey {
    NsKey::new(OrgId::default_org(), name("ns"))
}

/// Rows `ids` with a number and a text each.
fn rows(ids: std::ops::Range<u64>) -> Json {
    let row = |id: u64| json!({"id": id, "n": id % 7, "t": format!("text {} of {id}", id % 5)});
    json!({
        "upsert_rows": ids.map(row).collect::<Vec<_>>(),
        "schema": {"t": {"type": "string", "full_text_search": true}},
    })
}

/// Queries that together look at every part of a segment.
fn everything() -> Vec<Query> {
    let by_id = || Some(RankBy::Order(vec![("id".into(), Direction::Asc)]));
    let query = |rank_by, filter| Query {
        rank_by,
        filter,
        limit: 10_000,
        include: Projection::All,
        ..Query::default()
    };
    let text = RankBy::Score(Score::Text {
        attribute: "t".into(),
        query: TextQuery::Text("text 3".into()),
        last_as_prefix: false,
    });
    let count = Query {
        aggregation: Some(Aggregation {
            aggregates: vec![("rows".into(), Aggregate::Count)],
            group_by: Vec::new(),
        }),
        filter: Some(Filter::compare("n", FilterOp::Eq, 3i64)),
        limit: 10,
        ..Query::default()
    };
    vec![
        query(by_id(), None),
        query(by_id(), Some(Filter::compare("n", FilterOp::Gte, 4i64))),
        query(Some(text), None),
        count,
    ]
}

impl Bucket {
    fn new() -> Self {
        let inner = Arc::new(InMemory::new());
        let faults = FaultStore::new(inner.clone(), Rng::seeded(7), FaultRates::healthy());
        Self { inner, faults }
    }

    fn node(&self, seed: u64) -> Node {
        self.node_with(seed, EngineOptions::default())
    }

    fn node_with(&self, seed: u64, options: EngineOptions) -> Node {
        Node::with(Arc::new(self.faults.clone()), seed, options)
    }

    fn manifests(&self, node: &Node) -> ManifestStore {
        ManifestStore::new(node.engine.store().clone(), key(), node.runtime.cpu.clone())
    }

    async fn newest(&self, node: &Node) -> Manifest {
        let listed = self.manifests(node).listed().await.expect("readable");
        listed.expect("there is one").0
    }

    async fn bytes(&self, object: &Path) -> Vec<u8> {
        let found = self.inner.get(object).await.expect("it is there");
        found.bytes().await.expect("readable").to_vec()
    }

    async fn put(&self, object: &Path, bytes: Vec<u8>) {
        self.inner.put(object, bytes.into()).await.expect("written");
    }

    /// Changes one bit of an object.
    async fn flip(&self, object: &Path, at: usize) {
        let mut bytes = self.bytes(object).await;
        bytes[at] ^= 1 << (at % 8);
        self.put(object, bytes).await;
    }

    /// Deletes what `which` says of a namespace's objects.
    async fn collect(&self, which: impl Fn(&NsObject) -> bool) -> usize {
        let prefix = paths::upkeep::namespace_prefix(&key());
        let listed: Vec<_> = self.inner.list(Some(&prefix)).try_collect().await.expect("listed");
        let mut deleted = 0;
        for object in listed {
            if paths::parse_object(&object.location).is_some_and(|o| which(&o)) {
                self.inner.delete(&object.location).await.expect("deleted");
                deleted += 1;
            }
        }
        deleted
    }
}

/// Indexes for a node; segments are objects of their own unless `inline`.
fn indexer(node: &Node, inline: bool) -> Indexer {
    let options = UpkeepOptions {
        inline,
        merge_fan_out: 2,
        ..UpkeepOptions::default()
    };
    Indexer::new(node.engine.clone(), options)
}

async fn flush(node: &Node, inline: bool) -> Done {
    let done = indexer(node, inline).flush(&node.org, &name("ns")).await;
    done.expect("flushed")
}

async fn merge(node: &Node) -> Done {
    let done = indexer(node, false).merge(&node.org, &name("ns")).await;
    done.expect("merged")
}

async fn answers(node: &Node) -> Result<Vec<QueryResult>, Error> {
    let read = Read {
        queries: everything(),
        rerank: None,
        consistency: Consistency::Strong,
    };
    let outcome = node.engine.query(&node.org, &name("ns"), read).await?;
    Ok(outcome.results)
}

/// What a node says that has heard of no failure: of rows `0..last` that were written in so many entries.
async fn truth(last: u64) -> Vec<QueryResult> {
    let node = Node::new(Arc::new(InMemory::new()), 99);
    node.write("ns", rows(0..last)).await.expect("written");
    answers(&node).await.expect("readable")
}

/// Rows 0 to 299: a hundred in a segment, then another hundred, then one in the tail.
async fn two_segments_and_a_tail(bucket: &Bucket, inline: bool) -> Node {
    let node = bucket.node(1);
    for part in 0..3u64 {
        node.write("ns", rows(part * 100..part * 100 + 100))
            .await
            .expect("written");
        if part < 2 {
            assert_eq!(flush(&node, inline).await, Done::Published);
        }
    }
    node
}

/// Row 12: two nodes index the same; their requests are interleaved in many ways.
#[tokio::test(start_paused = true)]
async fn rival_jobs_lose_nothing() {
    for seed in 0..60u64 {
        let bucket = Bucket::new();
        let (a, b) = (bucket.node(1), bucket.node(2));
        a.write("ns", rows(0..20)).await.expect("written");
        assert_eq!(b.ids("ns").await.expect("readable").len(), 20);
        bucket.faults.set_rates(FaultRates {
            slow: 1000,
            delay_max: Duration::from_millis(50 + 20 * seed),
            ..FaultRates::healthy()
        });
        for round in 0..4u64 {
            let (org, ns) = (&a.org, &name("ns"));
            let (one, two) = (indexer(&a, seed % 2 == 0), indexer(&b, seed % 3 == 0));
            let ids = 20 + round * 10..30 + round * 10;
            let (first, second, third, fourth, written) = tokio::join!(
                one.flush(org, ns),
                two.flush(org, ns),
                one.merge(org, ns),
                two.merge(org, ns),
                a.write("ns", rows(ids)),
            );
            written.expect("written");
            for done in [first, second, third, fourth] {
                done.unwrap_or_else(|e| panic!("seed {seed}: {e:?}"));
            }
        }
        bucket.faults.heal();
        let expected = truth(60).await;
        for node in [&a, &b, &bucket.node(3)] {
            assert_eq!(answers(node).await.expect("readable"), expected, "seed {seed}");
        }
        flush(&b, false).await;
        assert_eq!(bucket.newest(&b).await.rows(), 60, "seed {seed}");
        assert_eq!(
            answers(&bucket.node(4)).await.expect("readable"),
            expected,
            "seed {seed}"
        );
    }
}

/// Row 11: any request of a flush and a merge meets any failure, and the process dies afterwards or does not.
#[tokio::test(start_paused = true)]
async fn a_job_may_fail_at_every_request() {
    async fn work(bucket: &Bucket, node: &Node) -> u64 {
        let before = bucket.faults.calls();
        for inline in [true, false] {
            let jobs = indexer(node, inline);
            let _ = jobs.flush(&node.org, &name("ns")).await;
            let _ = jobs.merge(&node.org, &name("ns")).await;
        }
        bucket.faults.calls() - before
    }
    let expected = truth(300).await;
    let healthy = Bucket::new();
    two_segments_and_a_tail(&healthy, false).await;
    let calls = work(&healthy, &healthy.node(5)).await;
    assert!(calls > 10, "there is a lot to do: {calls}");
    let late = Fault::LateApply(Duration::from_secs(40));
    for at in 0..calls {
        for fault in [
            Fault::BeforeApply,
            Fault::AfterApply,
            Fault::Conflict,
            Fault::Truncate,
            late,
        ] {
            for dies in [false, true] {
                let bucket = Bucket::new();
                two_segments_and_a_tail(&bucket, false).await;
                let node = bucket.node(5);
                let start = bucket.faults.calls();
                bucket.faults.fail_call(start + at, fault);
                if dies {
                    (1..3000).for_each(|n| bucket.faults.fail_call(start + at + n, Fault::BeforeApply));
                }
                work(&bucket, &node).await;
                node.engine.close();
                bucket.faults.heal();
                let what = format!("request {at}, {fault:?}, dies: {dies}");
                let after = bucket.node(6);
                assert_eq!(answers(&after).await.expect("readable"), expected, "{what}");
                // What was late is there now, and the next indexer does the rest.
                tokio::time::sleep(Duration::from_secs(60)).await;
                flush(&after, false).await;
                merge(&after).await;
                assert_eq!(answers(&after).await.expect("readable"), expected, "{what}");
                let newest = bucket.newest(&after).await;
                assert_eq!((newest.rows(), newest.indexed_seq), (300, Seq(3)), "{what}");
                assert_eq!(answers(&bucket.node(7)).await.expect("readable"), expected, "{what}");
            }
        }
    }
}

/// Row 13: a job that was suspended for longer than half the grace time publishes nothing, or it is not believed.
#[tokio::test(start_paused = true)]
async fn what_was_suspended_is_not_published() {
    let expected = truth(300).await;
    let (mut late, mut published) = (0, 0);
    for at in 0..8 {
        for fault in [
            Fault::Slow(Duration::from_secs(6)),
            Fault::LateApply(Duration::from_secs(6)),
        ] {
            let bucket = Bucket::new();
            two_segments_and_a_tail(&bucket, false).await;
            let options = EngineOptions {
                grace: Duration::from_secs(8),
                ..EngineOptions::default()
            };
            let node = bucket.node_with(5, options);
            node.ids("ns").await.expect("readable");
            bucket.faults.fail_call(bucket.faults.calls() + at, fault);
            let began = tokio::time::Instant::now();
            let done = indexer(&node, false).flush(&node.org, &name("ns")).await;
            let in_time = began.elapsed() <= Duration::from_secs(4);
            match &done {
                Ok(Done::Published) => published += 1,
                Ok(other) => panic!("{other:?}"),
                Err(_) => late += 1,
            }
            // It is in force only if it was sent in time: what the hint says afterwards costs nothing.
            let newest = bucket.newest(&bucket.node(8)).await.generation;
            assert!(newest == Gen(3) || done.is_err(), "request {at}: {done:?}");
            assert!(
                in_time || newest == Gen(2) || at > 1,
                "request {at}: published after the time"
            );
            bucket.faults.heal();
            tokio::time::sleep(Duration::from_secs(20)).await;
            for reader in [&node, &bucket.node(6)] {
                assert_eq!(answers(reader).await.expect("readable"), expected, "request {at}");
            }
        }
    }
    assert!(late > 0 && published > 0, "{late} late, {published} published");
}

/// Row 15: the hint is missing, old, damaged, or of a newer version.
#[tokio::test(start_paused = true)]
async fn the_hint_is_only_a_hint() {
    let expected = truth(300).await;
    for collected in [false, true] {
        for case in 0..5 {
            let bucket = Bucket::new();
            let node = two_segments_and_a_tail(&bucket, case % 2 == 0).await;
            let head = paths::head(&key());
            let old = bucket.bytes(&paths::manifest(&key(), Gen(1))).await;
            if collected {
                let goes = |o: &NsObject| matches!(o, NsObject::Entry(Seq(1 | 2)) | NsObject::Manifest(Gen(1)));
                assert_eq!(bucket.collect(goes).await, 3);
            }
            match case {
                0 => bucket.inner.delete(&head).await.expect("deleted"),
                1 => bucket.put(&head, old).await,
                2 => bucket.flip(&head, 100).await,
                3 => bucket.put(&head, Vec::new()).await,
                _ => {
                    let newer = of_a_newer_version(&bucket.bytes(&head).await);
                    bucket.put(&head, newer).await;
                }
            }
            let cold = bucket.node(2);
            let what = format!("case {case}, collected: {collected}");
            assert_eq!(answers(&cold).await.expect(&what), expected, "{what}");
            // Writing and indexing go on, and repair the hint.
            cold.write("ns", rows(300..310)).await.expect("written");
            flush(&cold, false).await;
            let expected = truth(310).await;
            for reader in [&node, &cold, &bucket.node(3)] {
                assert_eq!(answers(reader).await.expect(&what), expected, "{what}");
            }
        }
    }
}

/// The bytes of a manifest, as a version would write it that this one does not know.
fn of_a_newer_version(manifest: &[u8]) -> Vec<u8> {
    let mut bytes = manifest[..manifest.len() - 16].to_vec();
    bytes[8] += 1;
    let crc = crc32c::crc32c(&bytes[..28]);
    bytes[28..32].copy_from_slice(&crc.to_le_bytes());
    let digest = xxhash_rust::xxh3::xxh3_128(&bytes);
    bytes.extend(digest.to_le_bytes());
    bytes
}

/// Rows 16 and 31: the newest manifest cannot be read. The one before it is good enough as long as the log continues
/// it; when it does not, nothing is answered at all.
#[tokio::test(start_paused = true)]
async fn an_unreadable_manifest_is_replaced_by_the_log_or_by_silence() {
    let expected = truth(300).await;
    for is_newer in [false, true] {
        for (collected, answered) in [(0, true), (1, true), (2, false)] {
            let bucket = Bucket::new();
            two_segments_and_a_tail(&bucket, false).await;
            let manifest = paths::manifest(&key(), Gen(2));
            let bytes = match is_newer {
                true => of_a_newer_version(&bucket.bytes(&manifest).await),
                false => {
                    bucket.flip(&manifest, 60).await;
                    bucket.bytes(&manifest).await
                }
            };
            bucket.put(&manifest, bytes.clone()).await;
            bucket.put(&paths::head(&key()), bytes).await;
            let goes = |o: &NsObject| matches!(o, NsObject::Entry(Seq(s)) if *s <= collected);
            bucket.collect(goes).await;
            let what = format!("newer: {is_newer}, entries up to {collected} are gone");
            let cold = bucket.node(2);
            match answers(&cold).await {
                Ok(saw) => assert!(answered && saw == expected, "{what}"),
                Err(error) => {
                    assert!(!answered, "{what}: {error:?}");
                    assert!(
                        matches!(error.kind, ErrorKind::Internal | ErrorKind::Unavailable),
                        "{what}: {error:?}"
                    );
                    cold.write("ns", rows(300..301))
                        .await
                        .expect_err("nothing may be written on it");
                }
            }
            // An indexer does not replace what it cannot read.
            let _ = indexer(&cold, false).flush(&cold.org, &name("ns")).await;
            let _ = indexer(&cold, false).merge(&cold.org, &name("ns")).await;
            assert!(bucket.manifests(&cold).get(Gen(2)).await.is_err(), "{what}");
        }
    }
}

/// Row 17: one bit of a segment is another one. Every answer is the right one, or an error.
#[tokio::test(start_paused = true)]
async fn a_damaged_segment_is_noticed() {
    let expected = truth(300).await;
    let bucket = Bucket::new();
    two_segments_and_a_tail(&bucket, false).await;
    let newest = bucket.newest(&bucket.node(2)).await;
    let segment = paths::segment(&key(), newest.segments[0].meta.id.0);
    let whole = bucket.bytes(&segment).await;
    let (mut right, mut refused) = (0, 0);
    for at in (0..whole.len()).step_by((whole.len() / 150).max(1)) {
        bucket.flip(&segment, at).await;
        let node = bucket.node(at as u64 + 10);
        // Each alone: a damaged part does not hide behind another.
        for (query, expected) in everything().into_iter().zip(&expected) {
            let read = Read {
                queries: vec![query],
                rerank: None,
                consistency: Consistency::Strong,
            };
            match node.engine.query(&node.org, &name("ns"), read).await {
                Ok(saw) => {
                    assert_eq!(saw.results[0], *expected, "byte {at}");
                    right += 1;
                }
                Err(error) => {
                    assert_eq!(error.kind, ErrorKind::Internal, "byte {at}: {error:?}");
                    refused += 1;
                }
            }
        }
        // Nor does a merge copy it.
        let merged = indexer(&node, false).merge(&node.org, &name("ns")).await;
        bucket.put(&segment, whole.clone()).await;
        if merged.is_ok() {
            assert_eq!(answers(&bucket.node(3)).await.expect("readable"), expected, "byte {at}");
        }
    }
    assert!(right > 0 && refused > 20, "{right} right, {refused} refused");
}

/// Row 22: an object is gone that the manifest in use names. A newer manifest is used, if there is one.
#[tokio::test(start_paused = true)]
async fn what_is_gone_is_looked_for_in_a_newer_manifest() {
    let expected = truth(300).await;
    for is_superseded in [true, false] {
        let bucket = Bucket::new();
        let indexing = two_segments_and_a_tail(&bucket, false).await;
        // Hours pass in which this node does not hear of other manifests.
        let patient = || EngineOptions {
            manifest_refresh: Duration::from_secs(1 << 30),
            ..EngineOptions::default()
        };
        let (reader, writer) = (bucket.node_with(2, patient()), bucket.node_with(3, patient()));
        for node in [&reader, &writer] {
            assert_eq!(node.ids("ns").await.expect("readable").len(), 300);
        }
        let segments: Vec<_> = bucket
            .newest(&reader)
            .await
            .segments
            .iter()
            .map(|s| s.meta.id.0)
            .collect();
        if is_superseded {
            assert_eq!(merge(&indexing).await, Done::Published);
        }
        assert_eq!(
            bucket
                .collect(|o| matches!(o, NsObject::Segment(id) if segments.contains(id)))
                .await,
            2
        );
        // What was read is in memory; of nodes that have restarted nothing is.
        let cold = bucket.node_with(4, patient());
        let patched = writer
            .write(
                "ns",
                json!({"patch_rows": [{"id": 7, "n": 0}], "return_affected_ids": true}),
            )
            .await;
        match is_superseded {
            true => {
                assert_eq!(patched.expect("written").rows_patched, Some(1));
                for node in [&reader, &writer, &cold, &indexing] {
                    let saw = answers(node).await.expect("readable");
                    // Scores count the row that the patch replaced until it is merged away.
                    for query in [0, 1, 3] {
                        assert_eq!(saw[query], expected[query]);
                    }
                }
            }
            false => {
                let error = answers(&cold).await.expect_err("its rows are gone");
                assert!(
                    matches!(error.kind, ErrorKind::Internal | ErrorKind::Unavailable),
                    "{error:?}"
                );
            }
        }
    }
}

/// Row 23: writes are refused while too much is not in segments, and taken again when it is.
#[tokio::test(start_paused = true)]
async fn a_flush_lifts_backpressure() {
    let bucket = Bucket::new();
    let options = EngineOptions {
        limits: Limits {
            unindexed_bytes_max: 6_000,
            ..Limits::default()
        },
        ..EngineOptions::default()
    };
    let node = bucket.node_with(1, options);
    let mut next = 0;
    for _ in 0..5 {
        let start = next;
        let refused = loop {
            match node.write("ns", rows(next..next + 20)).await {
                Ok(_) => next += 20,
                Err(error) => break error,
            }
            assert!(next < start + 2_000, "no limit");
        };
        assert_eq!(refused.kind, ErrorKind::Overloaded);
        assert!(refused.retry_after.is_some() && next > start);
        assert_eq!(flush(&node, false).await, Done::Published);
    }
    let expected = truth(next).await;
    for reader in [&node, &bucket.node(2)] {
        assert_eq!(answers(reader).await.expect("readable"), expected);
    }
}
