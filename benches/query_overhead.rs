//! What does the HTTP interface add to a query?
//!
//! Data: 1,000 rows of 8 dimensions; the ten nearest, and the first ten by an attribute; eventual consistency.
//! Store: local disk, which these queries do not touch. The server is the real binary with its access log on.
//! Client: one connection on loopback that stays open, one request at a time, written and read without a library.
//! Baseline: a bare axum route in this process that reads the same body and answers as many bytes.
//! Reported: p50 and p99 over HTTP, of `Engine::query` in this process, of the baseline, and HTTP minus engine.
//! Aim: HTTP adds at most 150 us at p50.
//! Left out: TLS, compression, many clients at once.   Run: cargo bench --bench query_overhead
#![allow(clippy::disallowed_methods, reason = "a bench measures real time")]

mod common;
#[path = "../tests/support/mod.rs"]
mod support;

use std::path::Path;

use axum::Router;
use axum::routing::post;
use bytes::Bytes;
use common::{Times, Wire};
use shoal::api::query::parse;
use shoal::model::{NamespaceName, OrgId};
use shoal::namespace::Engine;
use support::server::{API_KEY, Settings};

const ROWS: u64 = 1000;
const DIMS: u64 = 8;
const NAMESPACE: &str = "tiny";
const TURNS: usize = 12;
/// Requests of each kind per turn; the first turn warms up.
const REQUESTS: usize = 500;
/// What HTTP may add at the median.
const AIM_US: f64 = 150.0;

fn main() {
    common::use_the_disk();
    let tokio = common::tokio();
    let dir = tempfile::tempdir().expect("a directory on disk");
    let server = Settings {
        env: vec![("SHOAL_LOG_LEVEL".into(), "info".into())],
        ..Settings::local(dir.path())
    }
    .start();
    let mut wire = Wire::to(server.settings.port);
    wire.send(&common::post(&format!("/v2/namespaces/{NAMESPACE}"), API_KEY, &rows()));
    let engine = tokio.block_on(filled_engine(&dir.path().join("engine")));
    let nearest: Vec<f32> = common::vector(ROWS / 2, DIMS);
    for (what, rank_by) in [
        ("nearest", format!(r#"["vector","ANN",{nearest:?}]"#)),
        ("order by", r#"["size","desc"]"#.to_owned()),
    ] {
        let json = format!(r#"{{"rank_by":{rank_by},"top_k":10,"consistency":{{"level":"eventual"}}}}"#);
        measure(what, &json, &mut wire, &engine, &tokio);
    }
}

fn rows() -> String {
    let row = |id: u64| {
        let vector = common::vector(id, DIMS);
        format!(r#"{{"id":{id},"vector":{vector:?},"size":{}}}"#, id * 7919 % 1009)
    };
    let rows: Vec<String> = (0..ROWS).map(row).collect();
    format!(
        r#"{{"distance_metric":"cosine_distance","upsert_rows":[{}]}}"#,
        rows.join(",")
    )
}

async fn filled_engine(dir: &Path) -> Engine {
    let parts = common::parts();
    let store = common::open(&common::local(dir), &parts).await;
    let engine = common::engine(&parts, &store);
    let body = common::body(&parts, rows().into());
    let done = engine.write(&OrgId::default_org(), &name(), body).await;
    done.expect("the rows are written");
    engine
}

fn name() -> NamespaceName {
    NamespaceName::parse(NAMESPACE).expect("a valid name")
}

fn measure(what: &str, json: &str, wire: &mut Wire, engine: &Engine, tokio: &tokio::runtime::Runtime) {
    let request = common::post(&format!("/v2/namespaces/{NAMESPACE}/query"), API_KEY, json);
    let answer_bytes = wire.send(&request).len();
    let hello_port = tokio.block_on(start_hello(answer_bytes));
    let mut hello_wire = Wire::to(hello_port);
    let hello_request = common::post("/hello", API_KEY, json);
    let (mut http, mut hello, mut inside) = (Times::default(), Times::default(), Times::default());
    for turn in 0..TURNS {
        let over_http: Vec<_> = (0..REQUESTS).map(|_| timed(wire, &request)).collect();
        let over_hello: Vec<_> = (0..REQUESTS).map(|_| timed(&mut hello_wire, &hello_request)).collect();
        let in_engine = common::on_worker(tokio, ask(engine.clone(), json.to_owned()));
        if turn > 0 {
            http.extend(over_http);
            hello.extend(over_hello);
            inside.extend(in_engine);
        }
    }
    let over = |percent| http.us(percent) - inside.us(percent);
    println!(
        "{what}: {} requests, answers of {answer_bytes} bytes",
        (TURNS - 1) * REQUESTS
    );
    println!("  over HTTP       {http}");
    println!("  in the engine   {inside}");
    println!("  bare axum route {hello}");
    println!(
        "  HTTP adds: p50 {:.0} us ({:.2} x the bare route), p99 {:.0} us; aim at p50: {AIM_US:.0} us: {}",
        over(50),
        over(50) / hello.us(50),
        over(99),
        if over(50) <= AIM_US { "met" } else { "MISSED" }
    );
}

fn timed(wire: &mut Wire, request: &[u8]) -> std::time::Duration {
    let start = common::now();
    wire.send(request);
    start.elapsed()
}

async fn ask(engine: Engine, json: String) -> Vec<std::time::Duration> {
    let (org, name) = (OrgId::default_org(), name());
    let mut times = Vec::new();
    for _ in 0..REQUESTS {
        let request = parse(json.as_bytes(), engine.limits()).expect("a valid query");
        let start = common::now();
        let outcome = engine.query(&org, &name, request.read).await;
        times.push(start.elapsed());
        assert_eq!(outcome.expect("an answer").results[0].rows().len(), 10);
    }
    times
}

/// Starts the baseline and returns its port.
async fn start_hello(bytes: usize) -> u16 {
    let answer = Bytes::from(vec![b'7'; bytes]);
    let hello = move |_body: Bytes| {
        let answer = answer.clone();
        async move { answer }
    };
    let app = Router::new().route("/hello", post(hello));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("a bound socket has an address").port();
    tokio::spawn(async move { axum::serve(NoDelay(listener), app).await });
    port
}

/// A listener whose connections send small answers at once, as the server's do.
struct NoDelay(tokio::net::TcpListener);

impl axum::serve::Listener for NoDelay {
    type Io = tokio::net::TcpStream;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, address) = axum::serve::Listener::accept(&mut self.0).await;
        stream.set_nodelay(true).expect("a TCP socket has this option");
        (stream, address)
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_addr()
    }
}
