//! A namespace served twice: by nodes with segments, and by one that has never heard of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;
use serde_json::{Value as Json, json};
use shoal::api::query as json_query;
use shoal::base::Rng;
use shoal::error::Result;
use shoal::maintenance::{Done, Indexer, UpkeepOptions};
use shoal::manifest::ManifestStore;
use shoal::model::{Consistency, Id, Limits, Seq};
use shoal::namespace::{QueryOutcome, WriteOutcome};
use shoal::query::QueryResult;
use shoal::store::paths::NsKey;

use super::queries::{self, Asked};
use super::schema::Shape;
use super::support::engine::{Node, name};
use super::support::fault::{Fault, FaultRates, FaultStore};
use super::{any, once_in, writes};

const NS: &str = "ns";
/// Queries after each step.
const QUERIES: u64 = 5;

pub struct World {
    rng: Rng,
    shape: Shape,
    /// Whether rows are only added: then scores are the same to the last bit.
    appends: bool,
    next_id: u64,
    exists: bool,
    faults: FaultStore,
    nodes: Vec<Node>,
    oracle: Node,
    log: Vec<String>,
    pub answered: u64,
    pub refused: u64,
    flushed: u64,
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for line in &self.log {
                eprintln!("{line}");
            }
        }
    }
}

/// What two answers to the same write must agree in.
fn told(outcome: &Result<WriteOutcome>) -> Json {
    let ids = |columns: &[shoal::model::IdColumn]| -> BTreeSet<String> {
        let all = columns.iter().flat_map(|c| (0..c.len()).map(|i| c.get(i).to_string()));
        all.collect()
    };
    match outcome {
        Ok(o) => json!({
            "seq": o.seq.0, "upserted": o.rows_upserted, "patched": o.rows_patched, "deleted": o.rows_deleted,
            "remaining": o.rows_remaining,
            "affected": o.affected.as_ref().map(|a| json!([ids(&a.upserted), ids(&a.patched), ids(&a.deleted)])),
        }),
        Err(error) => json!(format!("{:?}: {error}", error.kind)),
    }
}

/// The ids of the rows of an answer, without order.
fn found(outcome: &QueryOutcome) -> Vec<BTreeSet<Id>> {
    let ids = |result: &QueryResult| result.rows().iter().map(|row| row.id.clone()).collect();
    outcome.results.iter().map(ids).collect()
}

impl World {
    pub fn new(seed: u64) -> Self {
        let rng = Rng::seeded(seed);
        let faults = FaultStore::new(Arc::new(InMemory::new()), Rng::seeded(seed ^ 7), FaultRates::healthy());
        let node = |seed| Node::new(Arc::new(faults.clone()), seed);
        let nodes = vec![node(rng.u64()), node(rng.u64())];
        let shape = Shape::random(&rng);
        let appends = once_in(&rng, 3);
        Self {
            log: vec![format!("seed {seed}, appends: {appends}, {shape:?}")],
            oracle: Node::new(Arc::new(InMemory::new()), rng.u64()),
            appends,
            next_id: 0,
            exists: false,
            shape,
            faults,
            nodes,
            rng,
            answered: 0,
            refused: 0,
            flushed: 0,
        }
    }

    fn note(&mut self, what: impl Into<String>) {
        self.log.push(what.into());
    }

    fn node(&self) -> &Node {
        any(&self.rng, &self.nodes)
    }

    pub async fn step(&mut self) {
        match self.rng.below(24) {
            0..=9 => self.write().await,
            10..=14 => self.flush().await,
            15 | 16 => self.merge().await,
            17 | 18 => self.reopen(),
            19 => {
                // What goes on in the background does.
                let seconds = self.rng.below(120);
                self.note(format!("{seconds} seconds pass"));
                tokio::time::sleep(Duration::from_secs(seconds)).await;
            }
            20 => self.change_schema().await,
            21 if self.exists && once_in(&self.rng, 3) => self.delete_namespace().await,
            _ => self.crash().await,
        }
        for _ in 0..QUERIES {
            self.query().await;
        }
    }

    /// Everything into segments, merged, on a new node.
    pub async fn finish(&mut self) {
        self.flush().await;
        self.merge().await;
        self.reopen();
        self.nodes.truncate(1);
        for _ in 0..4 * QUERIES {
            self.query().await;
        }
        if self.exists {
            self.same_rows().await;
        }
        self.check_manifests().await;
    }

    async fn write(&mut self) {
        let mut body = match self.appends || !self.exists {
            true => writes::append(&self.shape, &self.rng, &mut self.next_id),
            false => writes::mixed(&self.shape, &self.rng),
        };
        if !self.exists {
            body["schema"] = Json::Object(self.shape.declared.clone());
            body["distance_metric"] = json!(self.shape.metric);
        }
        self.send(body).await;
    }

    async fn change_schema(&mut self) {
        if let (true, Some(schema)) = (self.exists, self.shape.change(&self.rng)) {
            self.send(json!({ "schema": schema })).await;
        }
    }

    async fn send(&mut self, body: Json) {
        self.note(format!("write {body}"));
        let here = self.node().write(NS, body.clone()).await;
        let there = self.oracle.write(NS, body).await;
        assert_eq!(told(&here), told(&there), "the answers to a write differ");
        self.exists |= here.is_ok();
    }

    async fn delete_namespace(&mut self) {
        self.note("delete the namespace");
        let node = self.node();
        let here = node.engine.delete(&node.org, &name(NS)).await.expect("deleted");
        let there = self.oracle.engine.delete(&self.oracle.org, &name(NS)).await;
        assert_eq!(here, there.expect("deleted"));
        self.exists = false;
        self.shape = Shape::random(&self.rng);
        self.next_id = 0;
        let shape = format!("{:?}", self.shape);
        self.note(shape);
    }

    fn options(&self) -> UpkeepOptions {
        UpkeepOptions {
            inline: once_in(&self.rng, 2),
            flush_segment_bytes: *any(&self.rng, &[2_000, 20_000, 128 << 20]),
            merge_fan_out: 2,
            ..UpkeepOptions::default()
        }
    }

    async fn flush(&mut self) {
        if !self.exists {
            return;
        }
        let (options, at) = (self.options(), self.rng.below(2) as usize % self.nodes.len());
        self.note(format!(
            "flush by {at}, inline: {}, {}",
            options.inline, options.flush_segment_bytes
        ));
        let node = &self.nodes[at];
        let indexer = Indexer::new(node.engine.clone(), options);
        // A node that learns of a rival's manifest leaves little rows to it; it is asked again.
        for _ in 0..2 {
            let done = indexer.flush(&node.org, &name(NS)).await;
            if done.expect("flushed") != Done::Elsewhere {
                break;
            }
        }
        self.flushed += 1;
        let newest = node.engine.newest(&node.org, &name(NS)).await.expect("readable");
        assert_eq!(newest.indexed_seq, newest.seq, "all is in segments, and the node knows");
        assert_eq!(newest.unindexed_rows(), 0);
    }

    async fn merge(&mut self) {
        if !self.exists {
            return;
        }
        let (options, at) = (self.options(), self.rng.below(2) as usize % self.nodes.len());
        self.note(format!("merge by {at}"));
        let node = &self.nodes[at];
        let done = Indexer::new(node.engine.clone(), options)
            .merge(&node.org, &name(NS))
            .await;
        let done = done.expect("merged");
        self.note(format!("merged: {done:?}"));
    }

    /// A node stops and another takes its place, with nothing in memory.
    fn reopen(&mut self) {
        let at = self.rng.below(self.nodes.len() as u64) as usize;
        self.note(format!("restart {at}"));
        self.nodes[at] = Node::new(Arc::new(self.faults.clone()), self.rng.u64());
    }

    /// A process indexes and loses the store at a random request, which may or may not take effect.
    async fn crash(&mut self) {
        let process = Node::new(Arc::new(self.faults.clone()), self.rng.u64());
        let indexer = Indexer::new(process.engine.clone(), self.options());
        let at = self.faults.calls() + self.rng.below(14);
        let first = *any(
            &self.rng,
            &[
                Fault::BeforeApply,
                Fault::AfterApply,
                Fault::LateApply(Duration::from_secs(90)),
            ],
        );
        self.faults.fail_call(at, first);
        (at + 1..at + 3_000).for_each(|call| self.faults.fail_call(call, Fault::BeforeApply));
        let flushed = indexer.flush(&process.org, &name(NS)).await;
        let merged = match once_in(&self.rng, 2) {
            true => Some(indexer.merge(&process.org, &name(NS)).await),
            false => None,
        };
        process.engine.close();
        self.faults.heal();
        self.note(format!("crash with {first:?}: {flushed:?} {merged:?}"));
    }

    async fn query(&mut self) {
        let ids = if self.appends { self.next_id } else { writes::IDS };
        let asked = queries::query(&self.shape, &self.rng, ids, self.appends);
        self.ask(&asked).await;
    }

    async fn ask(&mut self, asked: &Asked) {
        let request = match json_query::parse(asked.body.to_string().as_bytes(), &Limits::default()) {
            Ok(request) => request.read,
            Err(error) => panic!("{error:?}: {}", asked.body),
        };
        let node = self.node();
        let here = node.engine.query(&node.org, &name(NS), request.clone()).await;
        let there = self.oracle.engine.query(&self.oracle.org, &name(NS), request).await;
        let (here, there) = match (here, there) {
            (Ok(here), Ok(there)) => (here, there),
            (Err(here), Err(there)) => {
                assert_eq!(here.kind, there.kind, "{here} and {there}, asked {}", asked.body);
                self.refused += u64::from(self.exists);
                return;
            }
            (Err(error), Ok(_)) => panic!("{error:?}, asked {}", asked.body),
            (Ok(_), Err(error)) => panic!("the oracle says {error:?}, asked {}", asked.body),
        };
        self.answered += 1;
        assert_eq!(here.seq, there.seq);
        assert_eq!(
            here.approx_namespace_rows, there.approx_namespace_rows,
            "asked {}",
            asked.body
        );
        match asked.scored && !self.appends {
            true => assert_eq!(found(&here), found(&there), "asked {}", asked.body),
            false => assert_eq!(here.results, there.results, "asked {}", asked.body),
        }
    }

    /// All rows with all attributes.
    async fn same_rows(&self) {
        let here = self.node().rows(NS, Consistency::Strong).await.expect("readable");
        let there = self.oracle.rows(NS, Consistency::Strong).await.expect("readable");
        assert_eq!(here.results, there.results);
    }

    /// What was published is a chain, and `indexed_seq` never goes back (I11).
    async fn check_manifests(&self) {
        let node = self.node();
        let ns = NsKey::new(node.org.clone(), name(NS));
        let manifests = ManifestStore::new(node.engine.store().clone(), ns, node.runtime.cpu.clone());
        let mut previous: Option<(Seq, shoal::wal::Digest)> = None;
        let mut listed: Vec<_> = manifests.list().await.expect("listed");
        listed.sort_by_key(|l| l.0);
        for (at, (generation, ..)) in listed.iter().enumerate() {
            assert_eq!(generation.0, at as u64 + 1, "a generation is missing");
            let (manifest, digest) = manifests.get(*generation).await.expect("readable").expect("listed");
            manifest.check().expect("true");
            if let Some((seq, before)) = previous {
                assert!(manifest.indexed_seq >= seq, "{generation} goes back");
                assert_eq!(manifest.prev_digest, before, "{generation} has another predecessor");
            }
            previous = Some((manifest.indexed_seq, digest));
        }
        assert!(self.flushed == 0 || !listed.is_empty());
    }
}
