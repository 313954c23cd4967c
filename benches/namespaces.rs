//! What do many namespaces cost?
//!
//! Data: 100,000 namespaces (`SHOAL_BENCH_NAMESPACES` for another number, `SHOAL_BENCH_SMOKE=1` for 2,000) in one bucket on
//! local disk, with one row of three attributes each; every tenth was flushed, so that it has a segment in its manifest.
//! Reported: how fast they come to be; what a node's start costs; all names, by pages of the API; the first query of
//! namespaces that the node has not open (time and requests), one at a time and a thousand at once; what the
//! resident memory grows by for each open namespace, and for each that was open and was closed for others.
//! And days of a node with all background tasks, in simulated time and on a store in memory, when nobody uses the namespaces
//! any more, for 20,000 of them at most: its requests, and the processor time that its tasks took.
//! Baseline of a first query: as many GETs of its log entry, one after the other.
//! Aims: no request a day for an idle namespace; next to no memory for a closed one, some KiB for an open one.
//! Left out: HTTP, JSON.   Run: cargo bench --bench namespaces
#![recursion_limit = "256"]
#![allow(clippy::disallowed_methods, reason = "a bench measures real time")]

mod common;
#[path = "common/dated.rs"]
mod dated;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use shoal::base::{Clock, CpuPool, Ledger, MemoryShare, Rng, Runtime, TokioClock, TokioSpawner};
use shoal::config::StoreConfig;
use shoal::maintenance::gc::{self, Collector, GcOptions};
use shoal::maintenance::{self, Indexer, UpkeepOptions};
use shoal::model::query::{Projection, Read};
use shoal::model::{Consistency, Direction, NamespaceName, OrgId, Query, RankBy, Seq};
use shoal::namespace::{Engine, EngineOptions};
use shoal::store::Store;
use shoal::store::count::Counts;
use shoal::store::paths::{self, NsKey};

const NAMESPACES: usize = 100_000;
const SMOKE: usize = 2_000;
const WRITERS: usize = 64;
const FLUSHED_EVERY: usize = 10;
const PAGE: usize = 1_000;
const COLD_QUERIES: usize = 1_000;
const STORM: usize = 1_000;
const IDLE_MAX: usize = 20_000;
/// The argument that asks for the part that measures memory.
const MEMORY: &str = "--memory-of";

fn main() {
    common::use_the_disk();
    let tokio = common::tokio();
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, part, path, count] = &arguments[..]
        && part == MEMORY
    {
        let (path, count) = (path.clone(), count.parse().expect("a number of namespaces"));
        return common::on_worker(&tokio, async move { memory(Path::new(&path), count).await });
    }
    let smoke = std::env::var_os("SHOAL_BENCH_SMOKE").is_some();
    let count = std::env::var("SHOAL_BENCH_NAMESPACES").map_or(if smoke { SMOKE } else { NAMESPACES }, |n| {
        n.parse().expect("a number of namespaces")
    });
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("store");
    let store = path.clone();
    common::on_worker(&tokio, async move { on_disk(&store, count).await });
    // In a process of its own, where nothing was freed before that would be used again.
    let this = std::env::current_exe().expect("it runs");
    let child = Command::new(this)
        .arg(MEMORY)
        .arg(&path)
        .arg(count.to_string())
        .status();
    assert!(child.expect("it can be started").success());
    idle_day(count.min(IDLE_MAX));
}

async fn memory(path: &Path, count: usize) {
    let parts = common::parts();
    let store = common::open(&common::local(path), &parts).await;
    let open_max = (count / 3).min(10_000);
    let options = EngineOptions {
        open_namespaces_max: open_max,
        ..EngineOptions::default()
    };
    Node::new(&parts, &store, options).memory(open_max).await;
}

async fn on_disk(path: &Path, count: usize) {
    make(path, count).await;
    let parts = common::parts();
    let start = Instant::now();
    let store = common::open(&common::local(path), &parts).await;
    let node = Node::new(&parts, &store, EngineOptions::default());
    println!("start of a node, with the probe {:31.0} ms", ms(start));
    node.list(count).await;
    node.cold(count).await;
    node.engine.close();
    // A node of its own, so that nothing of the last one is still in memory.
    let node = Node::new(&parts, &store, EngineOptions::default());
    node.storm(count).await;
    node.engine.close();
}

/// An engine and what is asked of it.
struct Node {
    engine: Engine,
    parts: Runtime,
    store: Store,
}

impl Node {
    fn new(parts: &Runtime, store: &Store, options: EngineOptions) -> Self {
        Self {
            engine: Engine::new(parts.clone(), store.clone(), options),
            parts: parts.clone(),
            store: store.clone(),
        }
    }

    async fn write(&self, i: usize) {
        let body =
            format!(r#"{{"upsert_rows": [{{"id": {i}, "n": {i}, "name": "row {i}", "text": "of namespace {i}"}}]}}"#);
        let body = common::body(&self.parts, body.into());
        let written = self.engine.write(&org(), &name(i), body).await;
        written.expect("written");
    }

    async fn query(&self, i: usize) {
        let query = Query {
            rank_by: Some(RankBy::Order(vec![("id".into(), Direction::Asc)])),
            limit: 10,
            include: Projection::All,
            ..Query::default()
        };
        let read = Read {
            queries: vec![query],
            rerank: None,
            consistency: Consistency::Strong,
        };
        let outcome = self.engine.query(&org(), &name(i), read).await.expect("answered");
        assert_eq!(outcome.results[0].rows().len(), 1, "namespace {i}");
    }

    async fn query_all(&self, range: impl Iterator<Item = usize>, at_once: usize) {
        stream::iter(range)
            .for_each_concurrent(at_once, |i| self.query(i))
            .await;
    }

    async fn list(&self, count: usize) {
        let (before, start) = (self.store.counts(), Instant::now());
        let (mut cursor, mut names, mut pages, mut slowest) = (None::<String>, 0, 0, 0f64);
        loop {
            let page_start = Instant::now();
            let page = self
                .engine
                .list(&org(), "", cursor.as_deref(), PAGE)
                .await
                .expect("listed");
            slowest = slowest.max(ms(page_start));
            names += page.names.len();
            pages += 1;
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(names, count, "all are listed");
        let lists = self.store.counts().lists - before.lists;
        println!(
            "all names, {pages} pages of {PAGE} {:24.0} ms, slowest page {slowest:.0} ms, {lists} LISTs",
            ms(start)
        );
    }

    /// One at a time, spread over all.
    async fn cold(&self, count: usize) {
        let queries = COLD_QUERIES.min(count);
        let step = (count / queries).max(1);
        let mut times = [common::Times::default(), common::Times::default()];
        let before = self.store.counts();
        for i in (0..queries).map(|q| (q * step + q % FLUSHED_EVERY) % count) {
            let start = Instant::now();
            self.query(i).await;
            times[usize::from(is_flushed(i))].push(start.elapsed());
        }
        let requests = requests(before, self.store.counts()) as f64 / queries as f64;
        let mut bare = common::Times::default();
        for i in (0..queries).map(|q| q * step) {
            let (ns, start) = (NsKey::new(org(), name(i)), Instant::now());
            for _ in 0..requests.round() as usize {
                let entry = self.store.get(&paths::wal_entry(&ns, Seq(1))).await;
                assert!(entry.expect("the disk can be read").is_some());
            }
            bare.push(start.elapsed());
        }
        println!("as many GETs                 {bare}");
        println!("first query, from the log    {}", times[0]);
        println!("first query, from a segment  {}", times[1]);
        println!("requests of a first query    {requests:8.2}");
    }

    /// All at once.
    async fn storm(&self, count: usize) {
        let (before, start, rss) = (self.store.counts(), Instant::now(), common::resident());
        let storm = STORM.min(count);
        self.query_all((0..storm).map(|i| i * (count / storm)), storm).await;
        let requests = requests(before, self.store.counts()) as f64 / storm as f64;
        println!(
            "{storm} first queries at once {:23.0} ms, {requests:.2} requests each, memory grew by {:.1} MiB",
            ms(start),
            (common::resident() - rss) / (1 << 20) as f64
        );
    }

    async fn memory(&self, open_max: usize) {
        // What the first ones make the process allocate for good.
        self.query_all(0..100, 8).await;
        let (before, known) = (common::resident(), self.ledger());
        self.query_all(100..open_max, 8).await;
        let each = (open_max - 100) as f64;
        let (open, known) = ((common::resident() - before) / each, (self.ledger() - known) / each);
        println!(
            "memory of an open namespace {open:8.0} bytes ({open_max} open), of which the ledger knows {known:.0}"
        );
        // From the second round on as many are open before and after.
        self.query_all(open_max..2 * open_max, 8).await;
        let before = common::resident();
        self.query_all(2 * open_max..3 * open_max, 8).await;
        let closed = (common::resident() - before) / open_max as f64;
        println!("memory of a closed namespace {closed:7.0} bytes");
        assert!(self.engine.open_namespaces() <= open_max);
    }

    fn ledger(&self) -> f64 {
        self.parts.memory.used_bytes(MemoryShare::Tails) as f64
    }
}

async fn make(path: &Path, count: usize) {
    let parts = common::parts();
    let store = common::open(&common::local(path), &parts).await;
    let node = Node::new(&parts, &store, EngineOptions::default());
    let indexer = Indexer::new(node.engine.clone(), UpkeepOptions::default());
    let (before, start) = (store.counts(), Instant::now());
    let (node, indexer) = (&node, &indexer);
    let one = async |i| {
        node.write(i).await;
        if is_flushed(i) {
            indexer.flush(&org(), &name(i)).await.expect("flushed");
        }
    };
    stream::iter(0..count).for_each_concurrent(WRITERS, one).await;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{count} namespaces made, one in {FLUSHED_EVERY} flushed {:10.1} s, {:.0} per second, {:.2} requests each",
        seconds,
        count as f64 / seconds,
        requests(before, store.counts()) as f64 / count as f64
    );
    node.engine.close();
}

/// In simulated time: `count` namespaces are made, flushed and collected, and then a day goes by.
fn idle_day(count: usize) {
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    tokio.block_on(async move {
        let parts = Runtime {
            clock: Arc::new(TokioClock::new(Duration::from_secs(1_700_000_000))),
            rng: Rng::seeded(1),
            spawner: Arc::new(TokioSpawner::default()),
            cpu: CpuPool::inline(),
            memory: Ledger::new(1 << 30, 4 << 30),
        };
        let config = StoreConfig::default();
        let backend = dated::Dated::new(parts.clock.clone());
        let store = Store::new(Arc::new(backend), parts.clock.clone(), parts.rng.clone(), &config);
        let store = store.listing_in_order(true);
        let options = EngineOptions {
            open_namespaces_max: count,
            ..EngineOptions::default()
        };
        let node = Node::new(&parts, &store, options);
        let indexer = Indexer::new(node.engine.clone(), UpkeepOptions::default());
        let collector = Collector::of(&node.engine, GcOptions::default());
        let upkeep = maintenance::run(indexer, std::future::pending());
        let collecting = gc::run(node.engine.clone(), Some(collector), std::future::pending());
        parts.spawner.spawn("upkeep", Box::pin(upkeep));
        parts.spawner.spawn("garbage collection", Box::pin(collecting));
        let start = Instant::now();
        for i in 0..count {
            node.write(i).await;
        }
        println!(
            "\n{count} namespaces in simulated time, written in {:.1} s",
            start.elapsed().as_secs_f64()
        );
        for (what, hours) in [
            ("the first two hours, with the flushes", 2),
            ("the next day, with their garbage", 24),
            ("two more days", 48),
            ("a day when nothing is used", 24),
        ] {
            let (before, start) = (store.counts(), Instant::now());
            for _ in 0..hours {
                tokio::time::sleep(Duration::from_secs(3600)).await;
            }
            let after = store.counts();
            let sent = requests(before, after);
            println!(
                "{what:38} {:8.2} s of processor time, {sent} requests ({} LISTs), {:.3} per namespace without LISTs",
                start.elapsed().as_secs_f64(),
                after.lists - before.lists,
                (sent - (after.lists - before.lists)) as f64 / count as f64
            );
        }
    });
}

fn requests(before: Counts, after: Counts) -> u64 {
    let all = |c: Counts| c.puts + c.creates + c.gets + c.lists + c.deletes;
    all(after) - all(before)
}

fn is_flushed(i: usize) -> bool {
    i.is_multiple_of(FLUSHED_EVERY)
}

fn org() -> OrgId {
    OrgId::parse("org").expect("a valid name")
}

fn name(i: usize) -> NamespaceName {
    NamespaceName::parse(&format!("tenant-{i:07}")).expect("a valid name")
}

fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}
