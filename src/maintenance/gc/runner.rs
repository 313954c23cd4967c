//! When which namespace is looked at.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};

use super::collector::Look;
use super::marks::Marks;
use super::{Collector, Looked, sweep};
use crate::base::{Agenda, Runtime, Tenant, Turns, context};
use crate::manifest::ManifestStore;
use crate::model::Gen;
use crate::namespace::Engine;
use crate::store::paths::{self, NsKey};
use crate::store::{Store, StoreError};
use crate::telemetry;

/// How often it is asked which manifests the engine has gone over to, and what is due. Costs no request.
const WATCH: Duration = Duration::from_secs(10);
/// How long a node that ends takes to mark what was published last. The rest is found by a sweep.
const LAST_MARKS: Duration = Duration::from_secs(5);
/// Marked namespaces that are remembered; more are found by a later listing.
const DUE_MAX: usize = 100_000;
/// Namespaces that are looked at at the same time.
const LOOKS_AT_ONCE: usize = 4;
/// How many namespaces that a listing has found are looked at in an interval, about.
const FOUND_PER_INTERVAL: u32 = 10_000;

/// Collects garbage until `until` ends. What is going on then is given up.
///
/// Costs one LIST per interval and thousand marked namespaces, a PUT per namespace that publishes and hour, the looks, and
/// once a day on one node what a sweep costs.
///
/// * `collector` — `None` where another node has the role: then only markers are left for it
pub async fn run(engine: Engine, collector: Option<Collector>, until: impl Future<Output = ()>) {
    let marks = Marks::new(engine.clone(), collector.is_some());
    let marking = async {
        loop {
            tokio::time::sleep(WATCH).await;
            marks.write().await;
        }
    };
    // Marking does not wait for looks, which may take long.
    let role = async {
        match &collector {
            Some(collector) => {
                let every = collector.options().sweep;
                let mut looks = Looks::new(&engine, collector, &marks);
                context::in_background(async { tokio::join!(looks.go_on(), sweep::run(&engine, every)) }).await;
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = until => {}
        () = marking => {}
        () = role => {}
    }
    if tokio::time::timeout(LAST_MARKS, marks.write()).await.is_err() {
        tracing::debug!("the last markers of garbage were not written");
    }
}

/// The looks of one node.
struct Looks<'a> {
    runtime: Runtime,
    store: Store,
    collector: &'a Collector,
    marks: &'a Marks,
    interval: Duration,
    /// When each namespace with garbage is looked at next.
    due: Agenda<NsKey>,
    list_at: Duration,
    /// What is due and waits for its turn, by organization.
    waiting: Turns<NsKey>,
    going_on: FuturesUnordered<BoxFuture<'a, (NsKey, Option<Duration>)>>,
    /// The namespaces that wait or are looked at.
    busy: BTreeSet<NsKey>,
}

impl<'a> Looks<'a> {
    fn new(engine: &Engine, collector: &'a Collector, marks: &'a Marks) -> Self {
        let runtime = engine.runtime().clone();
        let interval = collector.options().interval;
        Self {
            list_at: runtime.clock.boot() + runtime.rng.jitter(interval.min(Duration::from_secs(60))),
            store: engine.store().clone(),
            runtime,
            collector,
            marks,
            interval,
            due: Agenda::default(),
            waiting: Turns::default(),
            going_on: FuturesUnordered::new(),
            busy: BTreeSet::new(),
        }
    }

    fn now(&self) -> Duration {
        self.runtime.clock.boot()
    }

    async fn go_on(&mut self) {
        let mut watch = Box::pin(tokio::time::sleep(WATCH));
        loop {
            tokio::select! {
                biased;
                Some((ns, wait)) = self.going_on.next() => {
                    self.busy.remove(&ns);
                    if let Some(wait) = wait {
                        // What is due again at once waits for the next time.
                        self.due.set(ns, self.now() + wait);
                    }
                }
                () = &mut watch => {
                    self.tick().await;
                    watch = Box::pin(tokio::time::sleep(WATCH));
                }
            }
            while self.going_on.len() < LOOKS_AT_ONCE
                && let Some(ns) = self.waiting.pop()
            {
                self.going_on.push(self.look(ns));
            }
        }
    }

    async fn tick(&mut self) {
        let first = self.now() + self.interval;
        for ns in self.marks.take_news() {
            if self.due.get(&ns).is_none() {
                self.due.set(ns, first);
            }
        }
        if self.now() >= self.list_at {
            self.list_at = self.now() + self.interval;
            if let Err(error) = self.list().await {
                tracing::warn!(%error, "the markers of garbage cannot be listed");
            }
        }
        let now = self.now();
        while let Some(ns) = self.due.pop_due(now) {
            match self.busy.insert(ns.clone()) {
                true => self.waiting.push(Tenant::named(ns.org().as_str()), ns),
                // It was published to while it is looked at.
                false => self.due.set(ns, now + self.interval),
            }
        }
    }

    async fn list(&mut self) -> Result<(), StoreError> {
        let mut markers = self.store.list(&paths::collection_markers(), None);
        let now = self.now();
        let mut found = 0;
        while let Some(marker) = markers.next().await {
            let Some(ns) = paths::parse_collection_marker(&marker?.location) else {
                continue;
            };
            if self.due.len() >= DUE_MAX {
                break;
            }
            if self.due.get(&ns).is_none() && !self.busy.contains(&ns) {
                // What is found at once is spread over the interval.
                let spread = self.interval / FOUND_PER_INTERVAL * found;
                self.due.set(ns, now + spread.min(self.interval));
                found += 1;
            }
        }
        Ok(())
    }

    /// Looks at a namespace; returns it with the time until the next look, `None` when it is clean.
    fn look(&self, ns: NsKey) -> BoxFuture<'a, (NsKey, Option<Duration>)> {
        let (collector, marks, interval) = (self.collector, self.marks, self.interval);
        let (store, runtime) = (self.store.clone(), self.runtime.clone());
        let tenant = Tenant::named(ns.org().as_str());
        let look = async move {
            let since = runtime.clock.boot();
            let wait = match collector.look_at(&ns).await {
                Ok(Look {
                    looked: Looked::Clean,
                    newest,
                    ..
                }) => {
                    if let Err(error) = unmark((&store, &runtime), marks, &ns, (newest, since)).await {
                        tracing::debug!(namespace = %ns.namespace(), %error, "a marker of garbage was not removed");
                    }
                    None
                }
                // The clocks that tell when it is due are not the same.
                Ok(look) if matches!(look.looked, Looked::Planned { .. } | Looked::Deleted { .. }) => {
                    Some(if look.wait.is_zero() {
                        look.wait
                    } else {
                        look.wait + WATCH
                    })
                }
                Ok(look) => Some(look.wait),
                Err(error) => {
                    metrics::counter!(telemetry::GC_FAILURES).increment(1);
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(org = %ns.org(), namespace = %ns.namespace(), error, "garbage was not collected");
                    Some(interval)
                }
            };
            (ns, wait)
        };
        context::for_tenant(tenant, look).boxed()
    }
}

/// Removes the marker of a namespace, unless something was published since it was looked at. Costs a DELETE, a LIST
/// and perhaps a PUT.
///
/// * `seen` — its newest manifest when it was looked at, after `since`
async fn unmark(
    (store, runtime): (&Store, &Runtime),
    marks: &Marks,
    ns: &NsKey,
    (seen, since): (Gen, Duration),
) -> Result<(), StoreError> {
    let marker = paths::collection_marker(ns);
    store.delete(&marker).await?;
    marks.removed(ns, since);
    let manifests = ManifestStore::new(store.clone(), ns.clone(), runtime.cpu.clone());
    let newest = manifests
        .list()
        .await
        .map(|found| found.first().map_or(Gen::ZERO, |f| f.0));
    if newest.map_or(true, |newest| newest != seen) {
        store.put(&marker, Vec::new()).await?;
    }
    Ok(())
}
