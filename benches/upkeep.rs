//! What does a steady load cost to keep: how many bytes go to the store for each that clients write?
//!
//! Data: 1 M rows from a seed (`SHOAL_BENCH_ROWS` for another number), about 400 logical bytes each: an int, a float, two
//! strings and an array of strings that can be filtered, and a text with full-text search, in batches of 2,000. Of each
//! batch a fifth replaces rows written before, a twentieth changes one value of such rows, and a twentieth as many are
//! deleted. Each time that the log outside of segments reaches the size at which a flush starts at once there is a
//! flush, and after it every merge that is due, by the policy and options of the server.
//! Store: in memory, counting bytes. One thread; times are those that it had a processor.
//! Aim: at most 8 bytes written for each logical byte, the log and manifests included.
//! Left out: HTTP, the disk.   Run: cargo bench --bench upkeep
#![allow(clippy::disallowed_methods, reason = "a bench measures real time")]

mod common;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use serde_json::{Value as Json, json};
use shoal::base::{CpuPool, Rng, Runtime};
use shoal::config::StoreConfig;
use shoal::maintenance::{Done, Indexer, UpkeepOptions};
use shoal::manifest::ManifestStore;
use shoal::model::{NamespaceName, OrgId};
use shoal::namespace::{Engine, Tail};
use shoal::store::Store;
use shoal::store::paths::NsKey;

const SEED: u64 = 42;
const BATCH: u64 = 2_000;
const WORDS: u64 = 20_000;
const AIM: f64 = 8.0;

fn main() {
    let rows: u64 = std::env::var("SHOAL_BENCH_ROWS").map_or(1_000_000, |n| n.parse().expect("a number of rows"));
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build();
    tokio.expect("a runtime can be made").block_on(run(rows));
}

async fn run(rows: u64) {
    let backend = Counting::default();
    let parts = Runtime {
        cpu: CpuPool::inline(),
        ..common::parts()
    };
    let config = StoreConfig {
        url: "memory:".into(),
        ..StoreConfig::default()
    };
    let (clock, rng) = (parts.clock.clone(), parts.rng.clone());
    let store = Store::new(Arc::new(backend.clone()), clock, rng, &config);
    let engine = common::engine(&parts, &store);
    let mut load = Load::new(parts, store, engine);
    for batch in 0..rows / BATCH {
        load.write(batch * BATCH).await;
        load.keep_up(false).await;
    }
    load.keep_up(true).await;
    load.report(&backend).await;
}

struct Load {
    parts: Runtime,
    store: Store,
    engine: Engine,
    indexer: Indexer,
    name: (OrgId, NamespaceName),
    rng: Rng,
    /// As clients are billed.
    logical: u64,
    /// Of these, what is in segments.
    flushed_upto: u64,
    flushed: Job,
    merged: Job,
}

#[derive(Default)]
struct Job {
    times: u64,
    /// Logical bytes that were flushed, or of the rows that were merged.
    bytes: u64,
    seconds: f64,
}

impl Job {
    fn report(&self, name: &str) {
        println!(
            "{name}: {} of {:.0} MB, {:.1} MB/s on one thread",
            self.times,
            self.bytes as f64 / 1e6,
            self.bytes as f64 / 1e6 / self.seconds.max(1e-9)
        );
    }
}

impl Load {
    fn new(parts: Runtime, store: Store, engine: Engine) -> Self {
        Self {
            indexer: Indexer::new(engine.clone(), UpkeepOptions::default()),
            parts,
            store,
            engine,
            name: (
                OrgId::default_org(),
                NamespaceName::parse("bench").expect("a legal name"),
            ),
            rng: Rng::seeded(SEED),
            logical: 0,
            flushed_upto: 0,
            flushed: Job::default(),
            merged: Job::default(),
        }
    }

    /// Writes a batch: new rows from `first` on, and changes of older ones.
    async fn write(&mut self, first: u64) {
        let old = |rng: &Rng| rng.u64() % first.max(1);
        let mut rows: BTreeMap<u64, Json> = BTreeMap::new();
        for id in first..first + BATCH {
            let id = if id % 5 == 0 && first > 0 { old(&self.rng) } else { id };
            rows.insert(id, row(id, &self.rng));
        }
        let schema = json!({"text": {"type": "string", "full_text_search": true, "filterable": false}});
        let rows: Vec<Json> = rows.into_values().collect();
        self.send(json!({"upsert_rows": rows, "schema": schema})).await;
        if first > 0 {
            let ids = |rng: &Rng| {
                (0..BATCH / 20)
                    .map(|_| old(rng))
                    .collect::<std::collections::BTreeSet<u64>>()
            };
            let patches: Vec<Json> = ids(&self.rng)
                .into_iter()
                .map(|id| json!({"id": id, "n": id}))
                .collect();
            let deletes = ids(&self.rng);
            self.send(json!({ "patch_rows": patches })).await;
            self.send(json!({ "deletes": deletes })).await;
        }
    }

    async fn send(&mut self, body: Json) {
        let body = common::body(&self.parts, body.to_string().into());
        let written = self.engine.write(&self.name.0, &self.name.1, body).await;
        self.logical += written.expect("written").logical_bytes_written;
    }

    /// Does what upkeep does when it is due.
    async fn keep_up(&mut self, at_last: bool) {
        let (org, name) = self.name.clone();
        let Tail::Dirty(dirty) = self.engine.tail(&org, &name) else {
            return;
        };
        let options = self.indexer.options();
        let is_due = dirty.unindexed_bytes > options.flush_bytes || dirty.entries() > options.flush_entries;
        if !is_due && !at_last {
            return;
        }
        let start = common::on_processor();
        let done = self.indexer.flush(&org, &name).await.expect("flushed");
        assert_eq!(done, Done::Published);
        self.flushed.seconds += common::on_processor() - start;
        self.flushed.bytes += self.logical - std::mem::replace(&mut self.flushed_upto, self.logical);
        self.flushed.times += 1;
        while let Some(bytes) = self.indexer.merge_due(&org, &name) {
            let start = common::on_processor();
            let done = self.indexer.merge(&org, &name).await.expect("merged");
            assert_eq!(done, Done::Published);
            self.merged.seconds += common::on_processor() - start;
            self.merged.bytes += bytes;
            self.merged.times += 1;
        }
    }

    async fn report(&self, backend: &Counting) {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        let written = backend.written.lock().expect("nobody panicked").clone();
        let total: u64 = written.values().sum();
        println!("{:.0} logical MB written", mb(self.logical));
        self.flushed.report("flushes");
        self.merged.report("merges");
        for (kind, bytes) in &written {
            let ratio = *bytes as f64 / self.logical as f64;
            println!("{kind:>4}: {:8.1} MB, {ratio:.2} per logical byte", mb(*bytes));
        }
        let amplification = total as f64 / self.logical as f64;
        println!("written to the store: {amplification:.2} bytes per logical byte (aim: {AIM})");
        let ns = NsKey::new(self.name.0.clone(), self.name.1.clone());
        let manifests = ManifestStore::new(self.store.clone(), ns, self.parts.cpu.clone());
        let (manifest, _) = manifests.listed().await.expect("read").expect("there is one");
        let stored: u64 = manifest.segments.iter().map(|s| s.meta.len).sum();
        let rows: u64 = manifest.segments.iter().map(|s| u64::from(s.meta.rows)).sum();
        println!(
            "at the end: {} segments, {} live rows of {rows}, {:.0} MB",
            manifest.segments.len(),
            manifest.rows(),
            mb(stored)
        );
    }
}

fn row(id: u64, rng: &Rng) -> Json {
    let word = |rng: &Rng| {
        // Some are frequent, most are rare.
        let limit = 1 + rng.u64() % WORDS;
        format!("word{}", rng.u64() % limit)
    };
    let text: Vec<String> = (0..40).map(|_| word(rng)).collect();
    json!({
        "id": id,
        "n": rng.u64() % 1_000,
        "price": (rng.u64() % 100_000) as f64 / 100.0,
        "kind": format!("kind {}", rng.u64() % 50),
        "owner": format!("owner {}", rng.u64() % 100_000),
        "tags": (0..3).map(|_| format!("tag{}", rng.u64() % 200)).collect::<Vec<_>>(),
        "text": text.join(" "),
    })
}

/// A store in memory that counts the bytes of PUTs by the directory that they are in.
#[derive(Clone, Default)]
struct Counting {
    inner: Arc<InMemory>,
    written: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl fmt::Debug for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counting")
    }
}

impl fmt::Display for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counting")
    }
}

#[async_trait]
impl ObjectStore for Counting {
    async fn put_opts(&self, path: &Path, body: PutPayload, options: PutOptions) -> Result<PutResult> {
        let kind = path
            .parts()
            .nth(4)
            .map_or("else".to_owned(), |part| part.as_ref().to_owned());
        *self.written.lock().expect("nobody panicked").entry(kind).or_default() += body.content_length() as u64;
        self.inner.put_opts(path, body, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(path, options).await
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
