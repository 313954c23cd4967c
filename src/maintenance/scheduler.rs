//! Decides when which namespace is flushed or merged, and keeps a node's jobs within bounds.
//!
//! One task per node. The engine tells it which namespaces have new entries, and it lists the dirty markers to find what
//! others wrote. While nothing is dirty it only lists, and more and more seldom.
//!
//! # What stays true
//!
//! - At most one flush and one merge of a namespace run at the same time.
//! - Organizations take turns: one with a thousand dirty namespaces does not hold up one with a single one.
//! - What wakes the task costs time for what is due, however many namespaces are open or dirty.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::UpkeepOptions;
use super::due::due_in;
use super::indexer::{Done, IndexError, Indexer, Name};
use super::queue::{Kind, Queue, Task};
use crate::base::{Agenda, Runtime, context};
use crate::model::Seq;
use crate::namespace::{Dirty, Hinted, Tail};
use crate::store::{Store, StoreError, paths};
use crate::telemetry;

/// The shortest time between two looks at a tail that is being written.
const TICK: Duration = Duration::from_millis(500);
/// The longest sleep of the task when there is nothing to wait for but markers.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);
/// Marked namespaces of other nodes that are remembered; more are found by the next listing.
const FOREIGN_MAX: usize = 100_000;
/// Namespaces that are looked at in vain for one to be flushed early.
const HURRIED_MAX: usize = 64;
/// Markers on a page of a listing.
const PAGE: usize = 1000;
/// The longest time between listings because they are long.
const LONG_LISTING_INTERVAL: Duration = Duration::from_secs(60);

/// Namespaces whose segments are to be merged that are remembered; others keep their markers, and are found by them.
const MERGEABLE_MAX: usize = 256;
/// How soon a namespace that is merged here is looked at for new entries of other nodes.
const MERGING_WAIT: Duration = Duration::from_secs(10);

/// A job that ended.
struct Ended {
    task: Task,
    result: Result<Done, IndexError>,
}

/// A dirty namespace.
#[derive(Default)]
struct Watched {
    seq: Seq,
    /// When `seq` was seen first.
    changed: Duration,
    looked: Option<Duration>,
    flushed: Option<Duration>,
    /// Whether nothing was written since a flush found nothing more.
    is_clean: bool,
    unindexed_bytes: u64,
}

/// After failures.
struct Failed {
    times: u32,
    not_before: Duration,
}

/// What a listing of dirty markers has found.
struct Listed {
    markers: usize,
    names: BTreeSet<Name>,
}

struct Scheduler {
    indexer: Indexer,
    runtime: Runtime,
    options: UpkeepOptions,
    watched: BTreeMap<Name, Watched>,
    /// When the tails of watched namespaces are looked at, those in a job excepted.
    tails: Agenda<Name>,
    failed: BTreeMap<(Kind, Name), Failed>,
    /// Whose segments are worth merging, and when that is looked at, those in a job excepted.
    merges: Agenda<Name>,
    /// Marked namespaces that this node has not open, and when they are looked after, those in a job excepted.
    foreign: Agenda<Name>,
    queue: Queue,
    ended: mpsc::Sender<Ended>,
    listed: mpsc::Sender<Result<Listed, StoreError>>,
    is_listing: bool,
    list_at: Duration,
    list_interval: Duration,
    stop: CancellationToken,
}

/// Does upkeep of an engine's namespaces until `until` ends. Jobs that run then are given up: what they uploaded is
/// garbage. Leases are given back.
///
/// Costs one LIST per [`UpkeepOptions::list_interval`] and thousand dirty namespaces, and the jobs. Above a thousand
/// they are listed less often, up to once a minute.
pub async fn run(indexer: Indexer, until: impl Future<Output = ()>) {
    let runtime = indexer.engine().runtime().clone();
    let options = indexer.options().clone();
    let hints = indexer.engine().index_hints();
    let (ended, mut endings) = mpsc::channel(64);
    let (listed, mut listings) = mpsc::channel(1);
    let mut scheduler = Scheduler {
        list_at: runtime.clock.boot(),
        list_interval: options.list_interval,
        indexer,
        runtime,
        queue: Queue::new(&options),
        options,
        watched: BTreeMap::new(),
        tails: Agenda::default(),
        failed: BTreeMap::new(),
        merges: Agenda::default(),
        foreign: Agenda::default(),
        ended,
        listed,
        is_listing: false,
        stop: CancellationToken::new(),
    };
    let changed = async || match &hints {
        Some(hints) => hints.changed().await,
        None => std::future::pending().await,
    };
    let mut until = std::pin::pin!(until);
    loop {
        if let Some(hints) = &hints {
            scheduler.hint(hints.take());
        }
        let sleep = scheduler.tick();
        tokio::select! {
            biased;
            () = &mut until => break,
            Some(ending) = endings.recv() => scheduler.end(ending),
            Some(listing) = listings.recv() => scheduler.take_listing(listing),
            () = changed() => {}
            () = tokio::time::sleep(sleep) => {}
        }
    }
    scheduler.stop.cancel();
    scheduler.indexer.give_back_all().await;
}

impl Scheduler {
    fn now(&self) -> Duration {
        self.runtime.clock.boot()
    }

    fn hint(&mut self, hinted: Hinted) {
        if !hinted.dirty.is_empty() {
            self.list_interval = self.options.list_interval;
        }
        hinted.dirty.into_iter().for_each(|name| self.watch(name));
        hinted.opened.into_iter().for_each(|name| self.look_for_debt(name));
        if hinted.is_pressed {
            self.hurry();
        }
    }

    /// Notes that a namespace has new entries.
    fn watch(&mut self, name: Name) {
        let now = self.now();
        self.foreign.remove(&name);
        let watched = self.watched.entry(name.clone()).or_default();
        watched.changed = now;
        watched.is_clean = false;
        let next = watched.looked.map_or(now, |looked| now.max(looked + TICK));
        if !self.queue.knows(Kind::Flush, &name) {
            self.tails.set_by(name, next);
        }
    }

    /// Remembers a namespace if its segments are worth merging.
    fn look_for_debt(&mut self, name: Name) {
        let has_room = self.merges.len() < MERGEABLE_MAX;
        if has_room && self.indexer.merge_due(&name.0, &name.1).is_some() {
            self.merges.set_by(name, self.now());
        }
    }

    /// Flushes tails that would wait, because there is no room for more of them: those that would be flushed next.
    fn hurry(&mut self) {
        let now = self.now();
        if self.queue.has_waiting(Kind::Flush) {
            return;
        }
        let mut left = self.options.flushes_at_once.max(1);
        let mut young = Vec::new();
        while left > 0
            && young.len() < HURRIED_MAX
            && let Some(name) = self.tails.pop()
        {
            let Some(watched) = self.watched.get(&name) else {
                continue;
            };
            let rests = |at| now.saturating_sub(at) < self.options.flush_pause;
            match watched.is_clean || watched.flushed.is_some_and(rests) {
                // Not at all, or it was just done.
                true => young.push((name, now + TICK)),
                false => {
                    let bytes = watched.unindexed_bytes;
                    self.queue_flush(name, bytes);
                    left -= 1;
                }
            }
        }
        young.into_iter().for_each(|(name, at)| self.tails.set(name, at));
    }

    /// Looks at everything that is due, starts what may run, and returns how long to sleep.
    fn tick(&mut self) -> Duration {
        let now = self.now();
        if now >= self.list_at && !self.is_listing {
            self.list();
        }
        while let Some(name) = self.tails.pop_due(now) {
            self.look_at_tail(name, now);
        }
        while let Some(name) = self.foreign.pop_due(now) {
            if let Some(not_before) = self.queue(name.clone(), Kind::Look, 0) {
                self.foreign.set(name, not_before);
            }
        }
        while let Some(name) = self.merges.pop_due(now) {
            self.look_at_segments(name);
        }
        self.start();
        let list_at = (!self.is_listing).then_some(self.list_at);
        let next = [list_at, self.tails.next(), self.foreign.next(), self.merges.next()];
        let next = next.into_iter().flatten().min().map(|at| at.saturating_sub(now));
        next.unwrap_or(LONGEST_SLEEP)
            .clamp(Duration::from_millis(1), LONGEST_SLEEP)
    }

    /// Queues a flush if one is due, or notes when it will be.
    fn look_at_tail(&mut self, name: Name, now: Duration) {
        let Some(watched) = self.watched.get_mut(&name) else {
            return;
        };
        watched.looked = Some(now);
        match self.indexer.engine().tail(&name.0, &name.1) {
            Tail::Dirty(dirty) => {
                watched.is_clean = false;
                watched.unindexed_bytes = dirty.unindexed_bytes;
                let wait = due_in(&tail_of(watched, &dirty, now), &self.options);
                match wait.is_zero() {
                    true => self.queue_flush(name, dirty.unindexed_bytes),
                    false => self.tails.set(name, now + wait),
                }
            }
            // It was closed to make room, and nobody else may know that it is dirty.
            Tail::Closed if !watched.is_clean => {
                let bytes = watched.unindexed_bytes;
                self.queue_flush(name, bytes);
            }
            Tail::Closed => drop(self.watched.remove(&name)),
            Tail::Clean => {
                watched.is_clean = true;
                // Those that were just flushed are remembered for their pause.
                let pause = self.options.small_pause.max(self.options.flush_pause);
                match watched.flushed.filter(|at| now.saturating_sub(*at) < pause) {
                    Some(at) => self.tails.set(name, at + pause),
                    None => drop(self.watched.remove(&name)),
                }
            }
        }
    }

    fn queue_flush(&mut self, name: Name, unindexed_bytes: u64) {
        // The rows of one segment, the same as columns, and the segment; the tail itself is charged for elsewhere.
        let at_once = unindexed_bytes.min(self.options.flush_segment_bytes);
        if let Some(not_before) = self.queue(name.clone(), Kind::Flush, at_once.saturating_mul(3)) {
            self.tails.set(name, not_before);
        }
    }

    /// Queues a merge if one is worth it.
    fn look_at_segments(&mut self, name: Name) {
        // What is read of an output's rows, the same as columns, and the segment.
        if let Some(bytes) = self.indexer.merge_due(&name.0, &name.1) {
            let at_once = bytes.min(self.options.merge_bytes_max);
            if let Some(not_before) = self.queue(name.clone(), Kind::Merge, at_once.saturating_mul(3)) {
                self.merges.set(name, not_before);
            }
        }
    }

    /// Queues a job, unless it is known already. After failures it says when it may be queued.
    fn queue(&mut self, name: Name, kind: Kind, bytes: u64) -> Option<Duration> {
        let failed = self.failed.get(&(kind, name.clone())).map(|f| f.not_before);
        let early = failed.filter(|at| self.now() < *at);
        if early.is_none() {
            self.queue.push(name, kind, bytes);
        }
        early
    }

    /// Starts jobs as long as there is room, by turns.
    fn start(&mut self) {
        while let Some(task) = self.queue.start() {
            self.spawn(task);
        }
    }

    fn spawn(&mut self, task: Task) {
        if task.kind == Kind::Flush {
            let now = self.now();
            self.watched.entry(task.name.clone()).or_default().flushed = Some(now);
        }
        let (indexer, ended, stop) = (self.indexer.clone(), self.ended.clone(), self.stop.clone());
        let (tenant, kind) = (task.tenant(), task.kind);
        let work = async move {
            let (org, ns) = &task.name;
            let job = async {
                match kind {
                    Kind::Flush => indexer.flush(org, ns).await,
                    Kind::Merge => indexer.merge(org, ns).await,
                    Kind::Look => indexer.look(org, ns).await,
                }
            };
            // A job that panics must give back its place, or there would soon be none left.
            let job = AssertUnwindSafe(job).catch_unwind();
            let Some(result) = stop.run_until_cancelled(job).await else {
                return;
            };
            let result = result.unwrap_or(Err(IndexError::Panicked));
            let ending = Ended { task, result };
            // Nobody listens any more when the node shuts down.
            let _ = ended.send(ending).await;
        };
        self.runtime.spawner.spawn(
            kind.name(),
            Box::pin(context::for_tenant(tenant, context::in_background(work))),
        );
    }

    fn end(&mut self, ended: Ended) {
        let Ended { task, result } = ended;
        self.queue.end(&task);
        let Task { name, kind, .. } = task;
        match result {
            Err(error) => {
                let next = self.fail(&name, kind, &error);
                self.try_again(name, kind, next);
            }
            // Nodes that only follow a namespace leave it to the one that was faster, longer each time, …
            Ok(done @ (Done::Elsewhere | Done::Leased(_))) if kind != Kind::Look => {
                let most = match done {
                    // … but to one that may be gone no longer than it said.
                    Done::Leased(left) => left + self.runtime.rng.jitter(TICK),
                    _ => Duration::MAX,
                };
                let next = self.wait(&name, kind, (self.options.lease / 4, self.options.lease * 4), most);
                self.try_again(name, kind, next);
            }
            Ok(done) => {
                self.failed.remove(&(kind, name.clone()));
                self.go_on(name, kind, done);
            }
        }
    }

    fn try_again(&mut self, name: Name, kind: Kind, at: Duration) {
        match kind {
            Kind::Flush => self.tails.set(name, at),
            Kind::Merge => self.merges.set(name, at),
            Kind::Look => self.foreign.set(name, at),
        }
    }

    /// What follows from a job that was done.
    fn go_on(&mut self, name: Name, kind: Kind, done: Done) {
        let now = self.now();
        match (kind, done) {
            (Kind::Look, _) => {
                // If it is dirty, it is open now.
                self.watch(name.clone());
                self.look_for_debt(name);
            }
            (Kind::Flush, _) => {
                let found_all = matches!(done, Done::Published | Done::Nothing);
                if let Some(watched) = self.watched.get_mut(&name).filter(|_| found_all) {
                    // Unless the next look finds more.
                    watched.is_clean = true;
                }
                self.tails.set(name.clone(), now);
                if done == Done::Published {
                    self.look_for_debt(name);
                }
            }
            (Kind::Merge, Done::Published) => self.look_for_debt(name),
            // What this node has in use may be older than what there is.
            (Kind::Merge, Done::Nothing) => {}
            (Kind::Merge, _) => self.merges.set(name, now + TICK),
        }
    }

    fn fail(&mut self, name: &Name, kind: Kind, error: &IndexError) -> Duration {
        metrics::counter!(telemetry::UPKEEP_FAILURES, "job" => kind.name()).increment(1);
        tracing::warn!(org = %name.0, namespace = %name.1, job = kind.name(), error = error as &dyn std::error::Error, "upkeep failed");
        self.wait(name, kind, self.options.retry, Duration::MAX)
    }

    /// Leaves a job for a while: longer each time, until it is done. Returns when that ends.
    ///
    /// * `longest` — of what is varied by chance
    /// * `most` — of all
    fn wait(&mut self, name: &Name, kind: Kind, (shortest, longest): (Duration, Duration), most: Duration) -> Duration {
        let now = self.now();
        let failed = self.failed.entry((kind, name.clone())).or_insert(Failed {
            times: 0,
            not_before: now,
        });
        let wait = shortest.saturating_mul(1 << failed.times.min(16)).min(longest);
        failed.times += 1;
        failed.not_before = now + self.runtime.rng.jitter(wait).min(most);
        failed.not_before
    }

    /// Begins to find out what is marked as dirty. Others than the task wait for it: it may be many pages.
    fn list(&mut self) {
        self.is_listing = true;
        let store = self.indexer.engine().store().clone();
        let (listed, stop) = (self.listed.clone(), self.stop.clone());
        let work = async move {
            if let Some(found) = stop.run_until_cancelled(marked(store)).await {
                // Nobody listens any more when the node shuts down.
                let _ = listed.send(found).await;
            }
        };
        let work = context::in_background(work);
        self.runtime.spawner.spawn("dirty markers", Box::pin(work));
    }

    fn take_listing(&mut self, listed: Result<Listed, StoreError>) {
        let now = self.now();
        self.is_listing = false;
        self.list_at = now + self.list_interval;
        let Ok(Listed { markers, mut names }) = listed else {
            // The store cannot be reached; nothing is forgotten.
            return;
        };
        names.retain(|name| !self.watched.contains_key(name) && !self.queue.knows(Kind::Look, name));
        self.foreign.retain(|name| names.contains(name));
        for name in names {
            if self.foreign.get(&name).is_none() {
                // What is merged here keeps its marker until it is done; it may have got new entries all the same.
                let is_merging = self.merges.get(&name).is_some() || self.queue.knows(Kind::Merge, &name);
                let wait = match is_merging {
                    true => self.options.foreign_wait.max(MERGING_WAIT),
                    false => self.options.foreign_wait,
                };
                self.foreign.set(name, now + wait);
            }
        }
        let options = &self.options;
        self.list_interval = match markers > 0 || !self.watched.is_empty() {
            true => options.list_interval,
            false => (self.list_interval * 2).min(options.list_interval_idle.max(options.list_interval)),
        };
        let pages = u32::try_from(markers / PAGE).unwrap_or(u32::MAX).max(1);
        let stretched = self.list_interval.saturating_mul(pages).min(LONG_LISTING_INTERVAL);
        self.list_at = now + stretched.max(self.list_interval);
        // Failures of what is clean or gone are forgotten.
        let (foreign, watched) = (&self.foreign, &self.watched);
        let keep = |name: &Name| foreign.get(name).is_some() || watched.contains_key(name);
        self.failed.retain(|(_, name), f| now < f.not_before || keep(name));
    }
}

/// What is marked as dirty. Costs one LIST per thousand markers.
async fn marked(store: Store) -> Result<Listed, StoreError> {
    let mut markers = store.list(&paths::dirty_markers(), None);
    let mut listed = Listed {
        markers: 0,
        names: BTreeSet::new(),
    };
    while let Some(marker) = markers.next().await {
        let Some(ns) = paths::parse_dirty_marker(&marker?.location) else {
            continue;
        };
        listed.markers += 1;
        if listed.names.len() < FOREIGN_MAX {
            listed.names.insert((ns.org().clone(), ns.namespace().clone()));
        }
    }
    Ok(listed)
}

/// What a look at a tail says of it.
fn tail_of(watched: &mut Watched, dirty: &Dirty, now: Duration) -> super::Tail {
    if watched.seq != dirty.seq {
        (watched.seq, watched.changed) = (dirty.seq, now);
    }
    super::Tail {
        quiet: now.saturating_sub(watched.changed),
        ..super::Tail::of(dirty, watched.flushed.map(|at| now.saturating_sub(at)))
    }
}
