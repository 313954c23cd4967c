//! What the benches share: real parts, a client that costs little, percentiles.
#![allow(dead_code, reason = "every bench uses another part")]
#![allow(clippy::disallowed_methods, reason = "a bench measures real time")]

use std::fmt;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use shoal::base::{CpuPool, Ledger, MemoryShare, Rng, Runtime, SystemClock, TokioSpawner};
use shoal::config::StoreConfig;
use shoal::namespace::{Body, Engine, EngineOptions};
use shoal::store::probe::ProbeOptions;
use shoal::store::{self, Store};

/// Makes every temporary directory one on the disk that holds the build: often the system's are in memory.
pub fn use_the_disk() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(dir).expect("the build's directory can be written");
    // Fails only when it was called before: then it holds already.
    let _ = tempfile::env::override_temp_dir(dir);
}

/// Tokio as the server runs it.
pub fn tokio() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("threads can be started")
}

/// Runs `future` on a worker, as a server's tasks are, and waits for it.
pub fn on_worker<T: Send + 'static>(
    tokio: &tokio::runtime::Runtime,
    future: impl Future<Output = T> + Send + 'static,
) -> T {
    let task = tokio.spawn(future);
    tokio.block_on(task).expect("benches do not panic")
}

/// The parts of a node, as the server has them.
pub fn parts() -> Runtime {
    Runtime {
        clock: Arc::new(SystemClock),
        rng: Rng::from_os(),
        spawner: Arc::new(TokioSpawner::default()),
        cpu: CpuPool::new(std::thread::available_parallelism().map_or(2, |n| n.get())),
        memory: Ledger::new(1 << 30, 4 << 30),
    }
}

/// A store that passed the probe.
pub async fn open(config: &StoreConfig, parts: &Runtime) -> Store {
    let opened = store::open(config, parts, ProbeOptions::default()).await;
    opened.expect("the store passes the probe").store
}

/// A node's engine on `store`.
pub fn engine(parts: &Runtime, store: &Store) -> Engine {
    Engine::new(parts.clone(), store.clone(), EngineOptions::default())
}

/// A store in the local directory `dir`.
pub fn local(dir: &Path) -> StoreConfig {
    StoreConfig {
        url: format!("file://{}", dir.display()),
        ..StoreConfig::default()
    }
}

/// A request body, charged as the server charges it.
pub fn body(parts: &Runtime, bytes: Bytes) -> Body {
    let charge = parts.memory.charge(MemoryShare::Bodies, bytes.len() as u64);
    Body {
        charge: charge.expect("one body at a time fits"),
        bytes,
    }
}

/// A vector, the same for the same row.
pub fn vector(row: u64, dims: u64) -> Vec<f32> {
    (0..dims).map(|i| ((row * dims + i) as f32 * 0.618).sin()).collect()
}

/// A vector as a JSON string of base64.
pub fn base64(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    format!("{:?}", base64_simd::STANDARD.encode_to_string(&bytes))
}

/// How long some rounds took.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn push(&mut self, took: Duration) {
        self.0.push(took);
    }

    /// The time that `percent` of the rounds did not exceed, in microseconds.
    pub fn us(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted[(sorted.len() - 1) * percent / 100].as_secs_f64() * 1e6
    }
}

impl Extend<Duration> for Times {
    fn extend<I: IntoIterator<Item = Duration>>(&mut self, times: I) {
        self.0.extend(times);
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p50 {:8.0} us  p99 {:8.0} us", self.us(50), self.us(99))
    }
}

/// How many seconds this thread has had a processor. Only Linux knows.
pub fn on_processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ns = stat.split(' ').next().and_then(|n| n.parse::<f64>().ok());
    ns.expect("the kernel counts the time of threads") / 1e9
}

/// Resident memory of the process, in bytes.
pub fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    kib.expect("every process has some") * 1024.0
}

pub fn now() -> Instant {
    Instant::now()
}

/// One HTTP/1.1 connection that stays open. Blocking, no copies: the load generator shares the cores with the server.
pub struct Wire {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Wire {
    pub fn to(port: u16) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the server accepts");
        stream.set_nodelay(true).expect("a TCP socket has this option");
        Self {
            stream,
            answer: Vec::new(),
        }
    }

    /// Sends a whole request and returns the body of the answer, which must be a 200.
    pub fn send(&mut self, request: &[u8]) -> &[u8] {
        self.stream.write_all(request).expect("the server reads");
        self.answer.clear();
        let mut whole = None;
        while whole.is_none_or(|(_, end)| self.answer.len() < end) {
            let mut piece = [0; 16 * 1024];
            let read = self.stream.read(&mut piece).expect("the server answers");
            assert!(read > 0, "the server closed the connection");
            self.answer.extend_from_slice(&piece[..read]);
            whole = whole.or_else(|| extent(&self.answer));
        }
        let (start, end) = whole.expect("the loop ends with it");
        assert!(
            self.answer.starts_with(b"HTTP/1.1 200 "),
            "{}",
            String::from_utf8_lossy(&self.answer)
        );
        &self.answer[start..end]
    }
}

/// Where the body of an answer starts and ends, once its headers are complete.
fn extent(answer: &[u8]) -> Option<(usize, usize)> {
    let start = answer.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&answer[..start]).to_ascii_lowercase();
    let length = head.split("\r\n").find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length
        .and_then(|n| n.trim().parse().ok())
        .expect("answers state their length");
    Some((start, start + length))
}

/// The bytes of a POST request.
pub fn post(path: &str, key: &str, body: &str) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}
