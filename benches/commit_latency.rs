//! How much does a commit cost beyond the one PUT that makes it durable?
//!
//! Data: writes of one row of 768 f32 each, as base64, one after the other, to an otherwise idle namespace.
//! Store: local disk with fsync, on the disk that holds the build; and MinIO, where its binary is.
//! Baseline: create-if-absent of as many bytes as the log entry has, through the same store, in turn with the writes.
//! Reported: p50 and p99 of both, and the difference. Aim: p50 at most the PUT's + 3 ms.
//! Left out: HTTP, the first write of a namespace, which also lists and marks it.
//! Run: cargo bench --bench commit_latency
#![allow(clippy::disallowed_methods, reason = "a bench measures real time")]

mod common;
#[path = "../tests/support/mod.rs"]
mod support;

use bytes::Bytes;
use common::Times;
use shoal::base::Runtime;
use shoal::config::StoreConfig;
use shoal::model::{NamespaceName, OrgId, Seq};
use shoal::namespace::Engine;
use shoal::store::{NsKey, paths};

const DIMS: u64 = 768;
const ROUNDS: u64 = 600;
const WARM_UP: u64 = 20;
/// What a commit may cost beyond the PUT, at the median.
const AIM_US: f64 = 3000.0;

fn main() {
    common::use_the_disk();
    let tokio = common::tokio();
    let dir = tempfile::tempdir().expect("a directory on disk");
    let config = common::local(dir.path());
    common::on_worker(&tokio, measure("local disk", config));
    if let Some(minio) = tokio.block_on(support::real::minio()) {
        common::on_worker(&tokio, measure("MinIO", minio.config()));
    }
}

async fn measure(store_name: &str, config: StoreConfig) {
    let parts = common::parts();
    let store = common::open(&config, &parts).await;
    let bench = Bench {
        engine: common::engine(&parts, &store),
        parts,
        org: OrgId::default_org(),
        name: name("commits"),
    };
    bench.write(0).await;
    let entry_bytes = bench.log_bytes().await;
    bench.write(1).await;
    let entry_bytes = bench.log_bytes().await - entry_bytes;
    let bytes = Bytes::from(vec![7; entry_bytes as usize]);
    // The same depth of key, and as many neighbours.
    let beside = NsKey::new(OrgId::default_org(), name("baseline"));

    let (mut puts, mut commits) = (Times::default(), Times::default());
    for round in 2..WARM_UP + ROUNDS {
        let start = common::now();
        let put = store
            .create(&paths::wal_entry(&beside, Seq(round)), bytes.clone())
            .await;
        let took_put = start.elapsed();
        put.expect("the slot is free");
        let start = common::now();
        bench.write(round).await;
        let took_commit = start.elapsed();
        if round >= WARM_UP {
            puts.push(took_put);
            commits.push(took_commit);
        }
    }
    let over = |percent| commits.us(percent) - puts.us(percent);
    println!("{store_name}: {ROUNDS} rounds, entries of {entry_bytes} bytes");
    println!("  create-PUT  {puts}");
    println!("  commit      {commits}");
    println!(
        "  beyond the PUT: p50 {:.0} us ({:.2} x), p99 {:.0} us; aim at p50: {AIM_US:.0} us: {}",
        over(50),
        commits.us(50) / puts.us(50),
        over(99),
        if over(50) <= AIM_US { "met" } else { "MISSED" }
    );
}

fn name(name: &str) -> NamespaceName {
    NamespaceName::parse(name).expect("a valid name")
}

struct Bench {
    engine: Engine,
    parts: Runtime,
    org: OrgId,
    name: NamespaceName,
}

impl Bench {
    async fn write(&self, row: u64) {
        let vector = common::base64(&common::vector(row, DIMS));
        let json =
            format!(r#"{{"distance_metric":"cosine_distance","upsert_rows":[{{"id":{row},"vector":{vector}}}]}}"#);
        let body = common::body(&self.parts, json.into());
        let done = self.engine.write(&self.org, &self.name, body).await;
        assert_eq!(done.expect("the write is committed").rows_upserted, Some(1));
    }

    async fn log_bytes(&self) -> u64 {
        let metadata = self.engine.metadata(&self.org, &self.name).await;
        metadata.expect("the namespace exists").unindexed_bytes
    }
}
