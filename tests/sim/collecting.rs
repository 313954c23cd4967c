//! Nodes that collect garbage while namespaces are branched, restored and deleted.

use std::collections::BTreeMap;
use std::time::Duration;

use shoal::base::MemoryShare;
use shoal::error::ErrorKind;
use shoal::maintenance::gc::{Collector, GcOptions};
use shoal::model::write::origin::OriginKind;
use shoal::model::{Consistency, NamespaceName, OrgId};
use shoal::namespace::{Body, CopyFrom, Engine, Progress};

use super::history::{Row, Rows, Saw};
use super::world::{Node, World, name};

/// How long objects stay that nothing needs. Twice as long as any request may take.
pub const GRACE: Duration = Duration::from_secs(600);
/// Names that are used again and again.
const TWIGS: u64 = 4;
/// Branches and so on of one run.
const STEPS: u64 = 14;

/// What branches should be.
#[derive(Default)]
pub struct Branches {
    /// The rows of those whose fate is known.
    pub rows: BTreeMap<NamespaceName, Rows>,
    /// What was branched off the namespace that everybody writes.
    pub origins: Vec<Origin>,
    pub made: u64,
}

/// Rows that a branch began with.
#[derive(Debug)]
pub struct Origin {
    pub rows: Rows,
    pub since: Since,
}

/// Which state it should be.
#[derive(Debug)]
pub enum Since {
    /// Any after this entry.
    Entry(u64),
    /// That of a time, in milliseconds since the epoch.
    Time(u64),
}

impl World {
    /// Half of the worlds have collectors that take each other's leases for their own.
    pub fn collector(&self, engine: &Engine) -> Collector {
        let options = GcOptions {
            interval: Duration::from_secs(30 + self.rng.below(120)),
            second_look: Duration::from_secs(30),
            sweep: Duration::from_secs(3600),
            retention: self.plan.retention,
            ..GcOptions::default()
        };
        match self.rng.below(2) {
            0 => Collector::of(engine, options),
            _ => {
                let (store, runtime) = (engine.store().clone(), engine.runtime().clone());
                Collector::new(store, runtime, 7, engine.grace(), options)
            }
        }
    }

    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.wall().as_millis()).expect("soon")
    }
}

fn twig(n: u64) -> NamespaceName {
    NamespaceName::parse(&format!("twig-{n}")).expect("a name")
}

/// Branches and restores, writes to branches and deletes them. Nobody else writes to them.
pub async fn branch_and_restore(world: &World) -> Branches {
    let mut branches = Branches::default();
    for step in 0..STEPS {
        tokio::time::sleep(Duration::from_millis(world.rng.below(2 * GRACE.as_millis() as u64 / 3))).await;
        let target = twig(world.rng.below(TWIGS));
        match (branches.rows.contains_key(&target), world.rng.below(3)) {
            (false, _) => make(world, &mut branches, &target).await,
            (true, 0) => delete(world, &mut branches, &target).await,
            (true, 1) => write(world, &mut branches, &target, step).await,
            (true, _) => look(world, &branches, &target).await,
        }
    }
    branches
}

async fn make(world: &World, branches: &mut Branches, target: &NamespaceName) {
    let node = world.any_node();
    let of_main = branches.rows.is_empty() || world.rng.below(3) > 0;
    let known = branches.rows.keys().nth(world.rng.below(TWIGS) as usize).cloned();
    let source = match known {
        Some(known) if !of_main => known,
        _ => name(),
    };
    let is_main = source == name();
    let from = CopyFrom {
        kind: match world.rng.below(4) {
            0 => OriginKind::Copy,
            _ => OriginKind::Branch,
        },
        org: OrgId::default_org(),
        source: source.clone(),
        guard: None,
        num_shards: None,
        create_namespace: None,
    };
    let kept = world.plan.retention.max(GRACE / 3);
    let back = world.rng.below(kept.as_millis() as u64);
    let at_ms = (is_main && world.rng.below(2) == 0).then(|| world.now_ms() - back);
    let since = match at_ms {
        Some(at_ms) => Since::Time(at_ms),
        None => Since::Entry(world.history.borrow().confirmed),
    };
    let (org, progress) = (OrgId::default_org(), Progress::default());
    let done = match at_ms {
        None => node.life.run(node.engine.copy(&org, target, &from, &progress)).await,
        Some(at_ms) => {
            let restore = node.engine.restore(&org, target, &from, at_ms, &progress);
            node.life.run(restore).await
        }
    };
    match done {
        Some(Ok(_)) => {}
        // There is nothing to copy.
        Some(Err(error)) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Invalid) => return,
        // Not now: what a deleted namespace has left is in the way.
        Some(Err(error)) if error.retry_after.is_some() => return,
        Some(Err(error)) if !world.plan.faults => panic!("a branch failed on a good store: {error:?}"),
        _ => return,
    }
    branches.made += 1;
    let Saw::Rows { rows, .. } = seen(world, target).await else {
        panic!("{target} was created and is not there");
    };
    match is_main {
        true => branches.origins.push(Origin {
            rows: rows.clone(),
            since,
        }),
        false => assert_eq!(Some(&rows), branches.rows.get(&source), "a branch of {source}"),
    }
    branches.rows.insert(target.clone(), rows);
}

async fn delete(world: &World, branches: &mut Branches, target: &NamespaceName) {
    let node = world.any_node();
    let org = OrgId::default_org();
    branches.rows.remove(target);
    let _ = node.life.run(node.engine.delete(&org, target)).await;
}

async fn write(world: &World, branches: &mut Branches, target: &NamespaceName, step: u64) {
    let node = world.any_node();
    let id = 5000 + step;
    let value = i64::try_from(step).expect("small");
    let json = serde_json::json!({"upsert_rows": [{"id": id, "own": value}]}).to_string();
    let charge = node.memory.charge(MemoryShare::Bodies, json.len() as u64);
    let body = Body {
        bytes: json.into(),
        charge: charge.expect("there is room"),
    };
    let org = OrgId::default_org();
    match node.life.run(node.engine.write(&org, target, body)).await {
        Some(Ok(_)) => {
            let rows = branches.rows.get_mut(target).expect("it exists");
            rows.insert(id, Row::from([("own".to_owned(), value)]));
        }
        Some(Err(error)) if !world.plan.faults => panic!("a write failed on a good store: {error:?}"),
        // It may take effect later.
        _ => drop(branches.rows.remove(target)),
    }
}

async fn look(world: &World, branches: &Branches, target: &NamespaceName) {
    if let Saw::Rows { rows, .. } = seen(world, target).await {
        assert_eq!(Some(&rows), branches.rows.get(target), "{target}");
    }
}

/// What some node says, until one says something.
async fn seen(world: &World, target: &NamespaceName) -> Saw {
    for _ in 0..100 {
        let node: Node = world.any_node();
        match world.read_of(&node, target, Consistency::Strong).await {
            Saw::Nothing => {
                assert!(world.plan.faults || world.plan.crashes, "{target} cannot be read");
                tokio::time::sleep(Duration::from_secs(10)).await;
            }
            saw => return saw,
        }
    }
    panic!("{target} cannot be read");
}
