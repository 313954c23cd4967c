//! Row 31: nodes of two versions on one store. What a newer version adds and this one may do without is passed over; what
//! it must know is refused, with a sentence that says what to do, and left alone by everything that writes or deletes.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::{Value as Json, json};
use shoal::base::{Clock, TokioClock};
use shoal::error::ErrorKind;
use shoal::maintenance::gc::{Collector, GcOptions};
use shoal::maintenance::{Indexer, UpkeepOptions};
use shoal::manifest::{self, Manifest};
use shoal::model::query::{Projection, Read};
use shoal::model::{Consistency, Direction, Filter, FilterOp, Gen, OrgId, Query, RankBy, Seq};
use shoal::namespace::EngineOptions;
use shoal::query::QueryResult;
use shoal::store::paths::{self, NsKey};

use super::once::OnceStore;
use super::support::engine::{Node, name};

const GRACE: Duration = Duration::from_secs(600);

fn key() -> NsKey {
    NsKey::new(OrgId::default_org(), name("ns"))
}

/// What has a format.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Entry,
    Manifest,
    Segment,
}

/// What a newer version has done to it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    /// Added something that may be passed over.
    Optional,
    /// Raised the format version.
    Version,
    /// Set a bit for something that a reader must know.
    Feature,
}

/// A field of a number that no message has.
const UNKNOWN_FIELD: [u8; 3] = [0xf8, 0x7f, 1];

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn put_u32(bytes: &mut [u8], at: usize, number: u32) {
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

fn put_crc(bytes: &mut [u8], covered: std::ops::Range<usize>) {
    let crc = crc32c::crc32c(&bytes[covered.clone()]);
    put_u32(bytes, covered.end, crc);
}

fn with_digest(mut bytes: Vec<u8>) -> Vec<u8> {
    let digest = xxhash_rust::xxh3::xxh3_128(&bytes);
    bytes.extend(digest.to_le_bytes());
    bytes
}

/// As docs/formats/log.md has it.
fn entry(bytes: &[u8], change: Change) -> Vec<u8> {
    let header_len = u32_at(bytes, 12) as usize;
    let body_at = (64 + header_len).next_multiple_of(64);
    let mut fixed = bytes[..64].to_vec();
    let mut header = bytes[64..64 + header_len].to_vec();
    match change {
        Change::Optional => header.extend(UNKNOWN_FIELD),
        Change::Version => fixed[8] += 1,
        Change::Feature => fixed[24] |= 4,
    }
    put_u32(&mut fixed, 12, header.len() as u32);
    put_crc(&mut fixed, 0..60);
    let mut newer = fixed;
    newer.extend(&header);
    newer.resize((64 + header.len()).next_multiple_of(64), 0);
    newer.extend(&bytes[body_at..bytes.len() - 16]);
    with_digest(newer)
}

/// As docs/formats/manifest.md has it.
fn manifest_of(bytes: &[u8], change: Change) -> Vec<u8> {
    let mut newer = bytes[..bytes.len() - 16].to_vec();
    match change {
        Change::Optional => newer.extend(UNKNOWN_FIELD),
        Change::Version => newer[8] += 1,
        Change::Feature => newer[16] |= 4,
    }
    let message_len = (newer.len() - 32) as u32;
    put_u32(&mut newer, 12, message_len);
    put_crc(&mut newer, 0..28);
    with_digest(newer)
}

/// As docs/formats/segment.md has it; returns the checksum of the hot region too, which the manifest knows.
fn segment(bytes: &[u8], change: Change) -> (Vec<u8>, u32) {
    let mut newer = bytes.to_vec();
    let trailer = newer.len() - 32;
    let hot = u64::from_le_bytes(newer[trailer..trailer + 8].try_into().expect("eight bytes")) as usize;
    let sections = u32_at(&newer, hot + 4) as usize;
    match change {
        // The index of an attribute, in a form that this version does not know.
        Change::Optional => {
            let entries = (0..sections).map(|n| hot + 64 + 40 * n);
            let mut indexes = entries.filter(|at| newer[*at..*at + 2] == [8, 0]).collect::<Vec<_>>();
            let last = indexes.pop().expect("an attribute has an index");
            newer[last..last + 2].copy_from_slice(&999u16.to_le_bytes());
        }
        Change::Version => newer[trailer + 16] += 1,
        Change::Feature => newer[hot + 24] |= 4,
    }
    let crc = crc32c::crc32c(&newer[hot..trailer]);
    put_u32(&mut newer, trailer + 12, crc);
    put_crc(&mut newer, trailer..trailer + 20);
    (newer, crc)
}

fn rows(ids: std::ops::Range<u64>) -> Json {
    json!({"upsert_rows": ids.map(|id| json!({"id": id, "n": id % 7})).collect::<Vec<_>>()})
}

async fn answers(node: &Node) -> shoal::error::Result<Vec<QueryResult>> {
    let query = |filter| Query {
        rank_by: Some(RankBy::Order(vec![("id".into(), Direction::Asc)])),
        filter,
        limit: 10_000,
        include: Projection::All,
        ..Query::default()
    };
    let read = Read {
        queries: vec![query(None), query(Some(Filter::compare("n", FilterOp::Gte, 4i64)))],
        rerank: None,
        consistency: Consistency::Strong,
    };
    Ok(node.engine.query(&node.org, &name("ns"), read).await?.results)
}

/// A store with what both versions wrote: manifest 1 with a segment, manifest 2 with another, and an entry after them.
struct Mixed {
    store: OnceStore,
    expected: Vec<QueryResult>,
}

impl Mixed {
    fn node(&self, seed: u64) -> Node {
        let options = EngineOptions {
            grace: GRACE,
            ..EngineOptions::default()
        };
        Node::with(Arc::new(self.store.clone()), seed, options)
    }

    fn indexer(node: &Node) -> Indexer {
        let options = UpkeepOptions {
            inline: false,
            merge_fan_out: 2,
            ..UpkeepOptions::default()
        };
        Indexer::new(node.engine.clone(), options)
    }

    /// Returns a node that knows what there was before the newer version came, too.
    async fn new() -> (Self, Node) {
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::new(Duration::from_secs(1_700_000_000)));
        let store = OnceStore::new(Arc::new(InMemory::new()), clock);
        let mut this = Self {
            store,
            expected: Vec::new(),
        };
        let (old, newer) = (this.node(1), this.node(2));
        for namespace in ["ns", "other"] {
            old.write(namespace, rows(0..40)).await.expect("written");
        }
        Self::indexer(&old).flush(&old.org, &name("ns")).await.expect("flushed");
        answers(&old).await.expect("readable");
        newer.write("ns", rows(40..80)).await.expect("written");
        Self::indexer(&newer)
            .flush(&old.org, &name("ns"))
            .await
            .expect("flushed");
        newer.write("ns", rows(80..90)).await.expect("written");
        this.expected = answers(&newer).await.expect("readable");
        assert_eq!(this.expected[0].rows().len(), 90);
        newer.engine.close();
        (this, old)
    }

    async fn bytes(&self, key: &Path) -> Vec<u8> {
        let found = self.store.get(key).await.expect("there");
        found.bytes().await.expect("memory").to_vec()
    }

    async fn put(&self, key: &Path, bytes: Vec<u8>) {
        self.store.put(key, bytes.into()).await.expect("memory");
    }

    async fn newest(&self) -> Manifest {
        let bytes = self.bytes(&paths::manifest(&key(), Gen(2))).await;
        manifest::decode(&bytes.into()).expect("published").0
    }

    async fn publish(&self, bytes: Vec<u8>) {
        self.put(&paths::manifest(&key(), Gen(2)), bytes.clone()).await;
        self.put(&paths::head(&key()), bytes).await;
    }

    /// Has a newer version have written an object; returns its key and what was there.
    async fn upgrade(&self, kind: Kind, change: Change) -> Vec<(Path, Vec<u8>)> {
        let man = paths::manifest(&key(), Gen(2));
        let before = self.bytes(&man).await;
        match kind {
            Kind::Entry => {
                let at = paths::wal_entry(&key(), Seq(3));
                let was = self.bytes(&at).await;
                self.put(&at, entry(&was, change)).await;
                vec![(at, was)]
            }
            Kind::Manifest => {
                self.publish(manifest_of(&before, change)).await;
                vec![(man, before.clone()), (paths::head(&key()), before)]
            }
            Kind::Segment => {
                let mut manifest = self.newest().await;
                let meta = &mut manifest.segments.last_mut().expect("it has some").meta;
                let at = paths::segment(&key(), meta.id.0);
                let was = self.bytes(&at).await;
                let (newer, crc) = segment(&was, change);
                meta.hot_crc = crc;
                self.put(&at, newer).await;
                self.publish(manifest::encode(&manifest).0.to_vec()).await;
                vec![(at, was), (man, before.clone()), (paths::head(&key()), before)]
            }
        }
    }

    async fn keys(&self) -> Vec<Path> {
        let prefix = paths::upkeep::namespace_prefix(&key());
        let listed: Vec<_> = self.store.list(Some(&prefix)).try_collect().await.expect("memory");
        listed.into_iter().map(|o| o.location).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_be_passed_over_is_and_the_rest_is_refused_and_left_alone() {
    let kinds = [Kind::Entry, Kind::Manifest, Kind::Segment];
    let changes = [Change::Optional, Change::Version, Change::Feature];
    for (kind, change) in kinds.into_iter().flat_map(|kind| changes.map(|change| (kind, change))) {
        for is_cold in [true, false] {
            let what = format!("{kind:?}, {change:?}, cold: {is_cold}");
            let (mixed, warm) = Mixed::new().await;
            let before = mixed.upgrade(kind, change).await;
            let mut newer = Vec::new();
            for (key, _) in &before {
                newer.push((key.clone(), mixed.bytes(key).await));
            }
            let old = if is_cold { mixed.node(3) } else { warm };
            if change == Change::Optional {
                assert_eq!(answers(&old).await.expect(&what), mixed.expected, "{what}");
                old.write("ns", rows(90..91)).await.expect(&what);
                let flushed = Mixed::indexer(&old).flush(&old.org, &name("ns")).await;
                flushed.unwrap_or_else(|e| panic!("{what}: {e:?}"));
                let after = answers(&mixed.node(4)).await.expect(&what);
                assert_eq!(after[0].rows().len(), 91, "{what}");
                continue;
            }
            // What is in the log need not be read from a manifest.
            for round in 0..2 {
                match answers(&old).await {
                    Ok(saw) => assert!(kind != Kind::Entry && saw == mixed.expected, "{what}"),
                    Err(error) => {
                        assert_eq!(error.kind, ErrorKind::Unavailable, "{what}: {error:?}");
                        assert!(error.message.contains("upgrade this node"), "{what}: {error:?}");
                        assert!(error.retry_after.is_some(), "{what}: {error:?}");
                    }
                }
                if kind == Kind::Entry {
                    let refused = old.write("ns", rows(90..91)).await.expect_err(&what);
                    // A node that knows nothing sends its first entry beside its first look.
                    let is_told = refused.message.contains("upgrade this node");
                    assert!(is_told || refused.kind == ErrorKind::Unknown, "{what}: {refused:?}");
                }
                assert_eq!(old.ids("other").await.expect(&what).len(), 40);
                let jobs = Mixed::indexer(&old);
                let _ = jobs.flush(&old.org, &name("ns")).await;
                let _ = jobs.merge(&old.org, &name("ns")).await;
                let collector = Collector::of(&old.engine, GcOptions::default());
                for wait in [GRACE * (2 + round), GRACE, Duration::from_secs(3600)] {
                    let _ = collector.look(&key()).await;
                    tokio::time::sleep(wait).await;
                }
            }
            // What it wrote is as it was, and all that it needs is there.
            let keys = mixed.keys().await;
            for (at, bytes) in newer.iter().filter(|(at, _)| *at != paths::head(&key())) {
                assert!(mixed.bytes(at).await == *bytes, "{what}: {at}");
            }
            for segment in &mixed.newest_of(&before).await.segments {
                let at = paths::segment(&key(), segment.meta.id.0);
                assert!(keys.contains(&at), "{what}: {at} is gone");
            }
            assert!(keys.contains(&paths::wal_entry(&key(), Seq(3))), "{what}");
            if kind != Kind::Entry {
                continue;
            }
            // A node that was upgraded goes on.
            for (key, bytes) in before {
                mixed.put(&key, bytes).await;
            }
            assert_eq!(answers(&mixed.node(5)).await.expect(&what), mixed.expected, "{what}");
        }
    }
}

impl Mixed {
    /// What the manifest said that the newer version wrote, as it can be read.
    async fn newest_of(&self, before: &[(Path, Vec<u8>)]) -> Manifest {
        let man = paths::manifest(&key(), Gen(2));
        match before.iter().find(|(key, _)| *key == man) {
            Some((_, bytes)) => manifest::decode(&bytes.clone().into()).expect("published").0,
            None => self.newest().await,
        }
    }
}
