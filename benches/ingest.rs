//! How many rows per second become durable over HTTP, against bare PUTs of as many bytes?
//!
//! Data: rows of 768 f32 with a number as id, as base64 and as JSON numbers; bodies are built beforehand and reused
//! with other ids. One namespace per line; 1, 8 and 64 writers, each waiting for its answer before it sends again.
//! Store: MinIO, where its binary is, and local disk with fsync. The server is the real binary; server, MinIO and the
//! load generator share the machine's cores.
//! Baseline: bare PUTs of the rows' bytes (3 kB per row) in objects of 8 MiB by as many writers, to the same store.
//! Reported: rows/s answered, MB/s of rows, and the ratio of that to the baseline; 1 is the store's speed. And the
//! processor time the server took per row, which depends least on what else the machine does.
//! Aims on two cores: 20,000 rows/s as base64 on MinIO, 8,000 rows/s as JSON numbers.
//! Left out: TLS, indexing, queries beside.   Run: cargo bench --bench ingest
#![allow(clippy::disallowed_methods, reason = "a bench measures real time")]

mod common;
#[path = "../tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::sync::Barrier;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use shoal::config::StoreConfig;
use shoal::model::{NamespaceName, OrgId, Seq};
use shoal::store::{NsKey, paths};
use support::server::{API_KEY, Server, Settings};

const DIMS: u64 = 768;
const ROW_BYTES: u64 = DIMS * 4;
const OBJECT_BYTES: u64 = 8 * 1024 * 1024;
/// Rows of one line: about 200 MB, some seconds.
const ROWS: u64 = 64_000;
/// Writers and rows per request.
const LOADS: [(u64, u64); 4] = [(1, 250), (8, 250), (64, 250), (8, 2000)];
/// Ids have ten digits, so that one replaces another in place.
const ID_MIN: u64 = 1_000_000_000;

type Form = (&'static str, fn(&[f32]) -> String, f64);
/// How vectors are sent, and how many rows per second are aimed at.
const FORMS: [Form; 2] = [("base64", common::base64, 20_000.0), ("numbers", numbers, 8_000.0)];

fn numbers(vector: &[f32]) -> String {
    serde_json::to_string(vector).expect("finite numbers")
}

fn main() {
    common::use_the_disk();
    let tokio = common::tokio();
    println!("{ROWS} rows x {DIMS} f32 per line, {} cores", cores());
    if let Some(minio) = tokio.block_on(support::real::minio()) {
        let dir = tempfile::tempdir().expect("a directory on disk");
        let config = minio.config();
        let beside = StoreConfig {
            url: format!("{}-baseline", config.url),
            ..config.clone()
        };
        measure("MinIO", &Settings::on_s3(dir.path(), &config), &beside, &tokio);
    }
    let dir = tempfile::tempdir().expect("a directory on disk");
    let beside = common::local(&dir.path().join("baseline"));
    measure("local disk", &Settings::local(dir.path()), &beside, &tokio);
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// The processor time a process has taken, where the system tells it as Linux does.
fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Behind the name in parentheses, user and system time are the 12th and 13th field, in hundredths of a second.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

fn measure(store_name: &str, settings: &Settings, beside: &StoreConfig, tokio: &tokio::runtime::Runtime) {
    println!("{store_name}");
    println!("  vectors  writers  rows/request  rows/s  MB/s  baseline MB/s  ratio  server us/row");
    let server = settings.start();
    for (writers, rows_per_request) in LOADS {
        let (beside, rate) = (beside.clone(), |took: Duration| {
            (ROWS * ROW_BYTES) as f64 / took.as_secs_f64() / 1e6
        });
        let baseline = rate(common::on_worker(tokio, put_all(beside, writers)));
        for form in FORMS {
            let cpu = cpu_time(server.id());
            let (took, slowest) = ingest(&server, form, writers, rows_per_request);
            let cpu = cpu_time(server.id()).saturating_sub(cpu);
            let rows_per_s = ROWS as f64 / took.as_secs_f64();
            println!(
                "  {:7}  {writers:7}  {rows_per_request:12}  {rows_per_s:6.0}  {:4.0}  {baseline:13.0}  {:5.2}  \
                 {:13.1}  slowest request {:.0} ms{}",
                form.0,
                rate(took),
                rate(took) / baseline,
                cpu.as_secs_f64() * 1e6 / ROWS as f64,
                slowest.as_secs_f64() * 1e3,
                if rows_per_s >= form.2 { ", aim met" } else { "" }
            );
        }
    }
    drop(server);
    let _ = std::fs::remove_dir_all(Path::new(&settings.dir).join("store"));
}

/// Writes the rows' bytes as bare objects, deletes them again, and returns how long the writing took.
async fn put_all(config: StoreConfig, writers: u64) -> Duration {
    let parts = common::parts();
    let store = common::open(&config, &parts).await;
    let ns = NsKey::new(OrgId::default_org(), NamespaceName::parse("baseline").expect("valid"));
    let bytes = Bytes::from(vec![7; OBJECT_BYTES as usize]);
    let objects = (ROWS * ROW_BYTES).div_ceil(OBJECT_BYTES);
    let keys = |writer| {
        (1..=objects)
            .filter(move |n| n % writers == writer)
            .map(|n| paths::wal_entry(&ns, Seq(n)))
    };
    let work = |writer| {
        let keys: Vec<_> = keys(writer).collect();
        let (store, bytes) = (store.clone(), bytes.clone());
        tokio::spawn(async move {
            for key in &keys {
                store.create(key, bytes.clone()).await.expect("the slot is free");
            }
        })
    };
    let start = common::now();
    let done = join_all((0..writers).map(work)).await;
    let took = start.elapsed();
    assert!(done.iter().all(Result::is_ok));
    for key in (0..writers).flat_map(keys) {
        store.delete(&key).await.expect("deleted");
    }
    took
}

/// Sends all rows over HTTP; returns how long that took altogether and for the slowest request.
fn ingest(server: &Server, (name, print, _): Form, writers: u64, rows_per_request: u64) -> (Duration, Duration) {
    let path = format!("/v2/namespaces/{name}-{writers}-{rows_per_request}");
    let port = server.settings.port;
    // The first write creates the namespace, which costs more.
    let mut first = Load::new(&path, print, 1);
    first.set_ids(1);
    common::Wire::to(port).send(&first.request);

    let requests = ROWS / rows_per_request / writers;
    let loads: Vec<Load> = (0..writers)
        .map(|_| Load::new(&path, print, rows_per_request))
        .collect();
    let ready = Barrier::new(writers as usize + 1);
    std::thread::scope(|scope| {
        let writer = |(writer, mut load): (u64, Load)| {
            let ready = &ready;
            scope.spawn(move || {
                let mut wire = common::Wire::to(port);
                ready.wait();
                let mut slowest = Duration::ZERO;
                for request in 0..requests {
                    load.set_ids(ID_MIN + (writer * requests + request) * rows_per_request);
                    let start = common::now();
                    wire.send(&load.request);
                    slowest = slowest.max(start.elapsed());
                }
                slowest
            })
        };
        let running: Vec<_> = (0..writers).zip(loads).map(writer).collect();
        ready.wait();
        let start = common::now();
        let slowest = running
            .into_iter()
            .map(|t| t.join().expect("every request is answered"));
        let slowest = slowest.max().expect("there is a writer");
        (start.elapsed(), slowest)
    })
}

/// A request that is sent again and again with other ids.
struct Load {
    request: Vec<u8>,
    /// Where the ids stand.
    ids: Vec<usize>,
}

impl Load {
    fn new(path: &str, print: fn(&[f32]) -> String, rows: u64) -> Self {
        let mut json = String::from(r#"{"distance_metric":"cosine_distance","upsert_rows":["#);
        let mut ids = Vec::new();
        // Some vectors are enough: nothing on the way looks at how they differ.
        let vectors: Vec<String> = (0..rows.min(16)).map(|row| print(&common::vector(row, DIMS))).collect();
        for row in 0..rows as usize {
            json.push_str(if row > 0 { r#",{"id":"# } else { r#"{"id":"# });
            ids.push(json.len());
            json.push_str(&format!(r#"{ID_MIN},"vector":{}}}"#, vectors[row % vectors.len()]));
        }
        json.push_str("]}");
        let request = common::post(path, API_KEY, &json);
        let head = request.len() - json.len();
        Self {
            ids: ids.into_iter().map(|at| at + head).collect(),
            request,
        }
    }

    /// Numbers the rows from `first` on.
    fn set_ids(&mut self, first: u64) {
        for (id, at) in (first.max(ID_MIN)..).zip(&self.ids) {
            let mut digits = id;
            for place in self.request[*at..at + 10].iter_mut().rev() {
                *place = b'0' + (digits % 10) as u8;
                digits /= 10;
            }
        }
    }
}
