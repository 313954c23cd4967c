//! Decides when which namespace is flushed or merged, and keeps a node's jobs within bounds.
//!
//! One task per node. It is woken by a hint when a namespace of this node becomes dirty, and lists the dirty markers to
//! find what others wrote. While nothing is dirty it only lists, and more and more seldom.
//!
//! # What stays true
//!
//! - At most one flush and one merge of a namespace run at the same time.
//! - Organizations take turns: one with a thousand dirty namespaces does not hold up one with a single one.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use tokio::sync::mpsc;

use super::UpkeepOptions;
use super::due::{Tail, due_in};
use super::indexer::{Done, IndexError, Indexer, Name};
use crate::base::{Runtime, Tenant, Turns, context};
use crate::model::Seq;
use crate::namespace::{Dirty, IndexHint};
use crate::store::paths;
use crate::telemetry;

/// How often tails are looked at while there are any.
const TICK: Duration = Duration::from_millis(500);
/// The longest sleep of the task when there is nothing to wait for but markers.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);
/// Marked namespaces of other nodes that are remembered; more are found by the next listing.
const FOREIGN_MAX: usize = 100_000;

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Flush,
    Merge,
    Look,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Flush => "flush",
            Kind::Merge => "merge",
            Kind::Look => "look",
        }
    }
}

/// A job that ended.
struct Ended {
    name: Name,
    kind: Kind,
    bytes: u64,
    result: Result<Done, IndexError>,
}

/// A job that waits for its turn.
struct Waiting {
    name: Name,
    kind: Kind,
    /// About how much memory it takes.
    bytes: u64,
}

/// A dirty namespace.
#[derive(Default)]
struct Watched {
    seq: Seq,
    /// When `seq` was seen first.
    changed: Duration,
    flushed: Option<Duration>,
}

/// After failures.
struct Failed {
    times: u32,
    not_before: Duration,
}

struct Scheduler {
    indexer: Indexer,
    runtime: Runtime,
    options: UpkeepOptions,
    watched: BTreeMap<Name, Watched>,
    failed: BTreeMap<(Kind, Name), Failed>,
    /// Whose segments are worth merging.
    mergeable: BTreeSet<Name>,
    /// Marked namespaces that this node has not open, and since when they are.
    foreign: BTreeMap<Name, Duration>,
    waiting: Turns<Waiting>,
    /// What waits or runs.
    known: BTreeSet<(Kind, Name)>,
    running: BTreeMap<Kind, usize>,
    running_by_org: BTreeMap<Tenant, usize>,
    running_bytes: u64,
    ended: mpsc::Sender<Ended>,
    list_at: Duration,
    list_interval: Duration,
}

/// Does upkeep of an engine's namespaces until `until` ends. Jobs that run then are given up: what they uploaded is
/// garbage.
///
/// Costs one LIST per [`UpkeepOptions::list_interval`] and thousand dirty namespaces, and the jobs.
pub async fn run(indexer: Indexer, until: impl Future<Output = ()>) {
    let runtime = indexer.engine().runtime().clone();
    let options = indexer.options().clone();
    let (_never, closed) = mpsc::channel(1);
    let mut hints = indexer.engine().index_hints().unwrap_or(closed);
    let (ended, mut endings) = mpsc::channel(64);
    let mut scheduler = Scheduler {
        list_at: runtime.clock.boot(),
        list_interval: options.list_interval,
        indexer,
        runtime,
        options,
        watched: BTreeMap::new(),
        failed: BTreeMap::new(),
        mergeable: BTreeSet::new(),
        foreign: BTreeMap::new(),
        waiting: Turns::default(),
        known: BTreeSet::new(),
        running: BTreeMap::new(),
        running_by_org: BTreeMap::new(),
        running_bytes: 0,
        ended,
    };
    let stop = tokio_util::sync::CancellationToken::new();
    let mut until = std::pin::pin!(until);
    loop {
        let sleep = scheduler.tick(&stop).await;
        tokio::select! {
            biased;
            () = &mut until => break,
            Some(ending) = endings.recv() => scheduler.end(ending),
            Some(hint) = hints.recv() => scheduler.hint(hint),
            () = tokio::time::sleep(sleep) => {}
        }
    }
    stop.cancel();
}

impl Scheduler {
    fn now(&self) -> Duration {
        self.runtime.clock.boot()
    }

    fn hint(&mut self, hint: IndexHint) {
        let now = self.now();
        self.watched.entry((hint.org, hint.name)).or_default().changed = now;
        self.list_interval = self.options.list_interval;
    }

    /// Looks at everything that may be due, starts what may run, and returns how long to sleep.
    async fn tick(&mut self, stop: &tokio_util::sync::CancellationToken) -> Duration {
        if self.now() >= self.list_at {
            self.list().await;
        }
        let is_dirty = self.look_at_tails();
        self.look_at_foreign();
        self.look_at_segments();
        self.start(stop);
        let until_list = self.list_at.saturating_sub(self.now());
        match is_dirty || !self.waiting.is_empty() || !self.mergeable.is_empty() {
            true => until_list.min(TICK),
            false => until_list.min(LONGEST_SLEEP),
        }
        .max(Duration::from_millis(1))
    }

    /// Queues the flushes that are due. True when there are dirty namespaces.
    fn look_at_tails(&mut self) -> bool {
        if self.watched.is_empty() {
            return false;
        }
        let now = self.now();
        let dirty = self.indexer.engine().dirty();
        let names: BTreeSet<Name> = dirty.iter().map(|d| (d.org.clone(), d.name.clone())).collect();
        let pause = self.options.small_pause.max(self.options.flush_pause);
        // Those that were just flushed are remembered for their pause.
        self.watched.retain(|name, watched| {
            names.contains(name) || watched.flushed.is_some_and(|at| now.saturating_sub(at) < pause)
        });
        for namespace in &dirty {
            self.look_at(namespace, now);
        }
        !dirty.is_empty()
    }

    fn look_at(&mut self, dirty: &Dirty, now: Duration) {
        let name = (dirty.org.clone(), dirty.name.clone());
        let watched = self.watched.entry(name.clone()).or_default();
        if watched.seq != dirty.seq {
            (watched.seq, watched.changed) = (dirty.seq, now);
        }
        let tail = Tail {
            entries: dirty.entries(),
            bytes: dirty.unindexed_bytes,
            age: dirty.age,
            quiet: now.saturating_sub(watched.changed),
            since_flush: watched.flushed.map(|at| now.saturating_sub(at)),
        };
        if due_in(&tail, &self.options).is_zero() {
            // The tail, its copy as columns, and the segment.
            self.queue(name, Kind::Flush, dirty.unindexed_bytes.saturating_mul(3));
        }
    }

    /// Looks after marked namespaces of others that have waited long enough.
    fn look_at_foreign(&mut self) {
        let now = self.now();
        let wait = self.options.foreign_wait;
        let due = self
            .foreign
            .iter()
            .filter(|(_, since)| now.saturating_sub(**since) >= wait);
        let due: Vec<Name> = due.map(|(name, _)| name.clone()).collect();
        for name in due {
            self.foreign.insert(name.clone(), now);
            self.queue(name, Kind::Look, 0);
        }
    }

    /// Queues the merges that are worth it.
    fn look_at_segments(&mut self) {
        for name in self.mergeable.clone() {
            match self.indexer.merge_due(&name.0, &name.1) {
                // What is read, as columns, and the segment.
                Some(bytes) => self.queue(name, Kind::Merge, bytes.saturating_mul(3)),
                None => drop(self.mergeable.remove(&name)),
            }
        }
    }

    fn queue(&mut self, name: Name, kind: Kind, bytes: u64) {
        let key = (kind, name.clone());
        let is_early = self.failed.get(&key).is_some_and(|f| self.now() < f.not_before);
        if is_early || !self.known.insert(key) {
            return;
        }
        self.waiting.push(tenant(&name), Waiting { name, kind, bytes });
    }

    /// Starts jobs as long as there is room, by turns.
    fn start(&mut self, stop: &tokio_util::sync::CancellationToken) {
        let mut later = Vec::new();
        while let Some(next) = self.waiting.pop() {
            match self.has_room(&next) {
                true => self.spawn(next, stop),
                false => later.push(next),
            }
        }
        for waiting in later {
            self.waiting.push(tenant(&waiting.name), waiting);
        }
    }

    fn has_room(&self, next: &Waiting) -> bool {
        let at_once = match next.kind {
            Kind::Flush | Kind::Look => self.options.flushes_at_once,
            Kind::Merge => self.options.merges_at_once,
        };
        let total: usize = self.running.values().sum();
        let of_org = self.running_by_org.get(&tenant(&next.name)).copied().unwrap_or(0);
        let fits = self.running_bytes.saturating_add(next.bytes) <= self.options.memory_bytes;
        self.running.get(&next.kind).copied().unwrap_or(0) < at_once.max(1)
            && of_org < self.options.jobs_per_org.max(1)
            && (fits || total == 0)
    }

    fn spawn(&mut self, job: Waiting, stop: &tokio_util::sync::CancellationToken) {
        let Waiting { name, kind, bytes } = job;
        *self.running.entry(kind).or_default() += 1;
        *self.running_by_org.entry(tenant(&name)).or_default() += 1;
        self.running_bytes += bytes;
        if kind == Kind::Flush {
            let now = self.now();
            self.watched.entry(name.clone()).or_default().flushed = Some(now);
        }
        let (indexer, ended, stop) = (self.indexer.clone(), self.ended.clone(), stop.clone());
        let tenant = tenant(&name);
        let work = async move {
            let (org, ns) = &name;
            let job = async {
                match kind {
                    Kind::Flush => indexer.flush(org, ns).await,
                    Kind::Merge => indexer.merge(org, ns).await,
                    Kind::Look => indexer.look(org, ns).await.map(|()| Done::Nothing),
                }
            };
            // A job that panics must give back its place, or there would soon be none left.
            let job = AssertUnwindSafe(job).catch_unwind();
            let Some(result) = stop.run_until_cancelled(job).await else {
                return;
            };
            let result = result.unwrap_or(Err(IndexError::Panicked));
            let ending = Ended {
                name: name.clone(),
                kind,
                bytes,
                result,
            };
            // Nobody listens any more when the node shuts down.
            let _ = ended.send(ending).await;
        };
        self.runtime
            .spawner
            .spawn(kind.name(), Box::pin(context::for_tenant(tenant, work)));
    }

    fn end(&mut self, ended: Ended) {
        let Ended {
            name,
            kind,
            bytes,
            result,
        } = ended;
        self.known.remove(&(kind, name.clone()));
        subtract(&mut self.running, &kind);
        subtract(&mut self.running_by_org, &tenant(&name));
        self.running_bytes = self.running_bytes.saturating_sub(bytes);
        match result {
            Err(error) => self.fail(name, kind, &error),
            Ok(done) => {
                if done != Done::Elsewhere {
                    self.failed.remove(&(kind, name.clone()));
                }
                self.go_on(name, kind, done);
            }
        }
    }

    /// What follows from a job that was done.
    fn go_on(&mut self, name: Name, kind: Kind, done: Done) {
        if kind == Kind::Look {
            self.foreign.remove(&name);
            // If it is dirty, it is open now.
            let now = self.now();
            self.watched.entry(name).or_default().changed = now;
            return;
        }
        match done {
            Done::Published => drop(self.mergeable.insert(name)),
            // Nodes that only follow a namespace leave it to the one that was faster, longer each time.
            Done::Elsewhere => self.wait(name, kind, (self.options.lease / 4, self.options.lease * 4)),
            Done::Nothing | Done::Abandoned => {}
        }
    }

    fn fail(&mut self, name: Name, kind: Kind, error: &IndexError) {
        metrics::counter!(telemetry::UPKEEP_FAILURES, "job" => kind.name()).increment(1);
        tracing::warn!(org = %name.0, namespace = %name.1, job = kind.name(), error = error as &dyn std::error::Error, "upkeep failed");
        self.wait(name, kind, self.options.retry);
    }

    /// Leaves a job for a while: longer each time, until it is done.
    fn wait(&mut self, name: Name, kind: Kind, (shortest, longest): (Duration, Duration)) {
        let now = self.now();
        let failed = self.failed.entry((kind, name)).or_insert(Failed {
            times: 0,
            not_before: now,
        });
        let wait = shortest.saturating_mul(1 << failed.times.min(16)).min(longest);
        failed.times += 1;
        failed.not_before = now + self.runtime.rng.jitter(wait);
    }

    /// Finds out what is marked as dirty.
    async fn list(&mut self) {
        let now = self.now();
        let open: BTreeSet<Name> = self.watched.keys().cloned().collect();
        let mut markers = self.indexer.engine().store().list(&paths::dirty_markers(), None);
        let mut found = BTreeMap::new();
        let mut marked = false;
        while let Some(marker) = markers.next().await {
            let Ok(marker) = marker else {
                // The store cannot be reached; nothing is forgotten.
                self.list_at = now + self.list_interval;
                return;
            };
            let Some(ns) = paths::parse_dirty_marker(&marker.location) else {
                continue;
            };
            marked = true;
            let name = (ns.org().clone(), ns.namespace().clone());
            if !open.contains(&name) && found.len() < FOREIGN_MAX {
                let since = self.foreign.get(&name).copied().unwrap_or(now);
                found.insert(name, since);
            }
        }
        self.foreign = found;
        self.list_interval = match marked || !self.watched.is_empty() {
            true => self.options.list_interval,
            false => (self.list_interval * 2).min(self.options.list_interval_idle.max(self.options.list_interval)),
        };
        self.list_at = now + self.list_interval;
        // Failures of what is clean or gone are forgotten.
        let (foreign, watched) = (&self.foreign, &self.watched);
        let keep = |name: &Name| foreign.contains_key(name) || watched.contains_key(name);
        self.failed.retain(|(_, name), f| now < f.not_before || keep(name));
    }
}

fn tenant((org, _): &Name) -> Tenant {
    Tenant::named(org.as_str())
}

fn subtract<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}
