//! When which namespace is looked at.

use std::time::Duration;

use futures::StreamExt;

use super::collector::Look;
use super::marks::Marks;
use super::{Collector, Looked, sweep};
use crate::base::{Agenda, Runtime, Tenant, context};
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
/// How many namespaces that a listing has found are looked at in an interval, about.
const FOUND_PER_INTERVAL: u32 = 10_000;

/// Collects garbage until `until` ends. What is going on then is given up.
///
/// Costs one LIST per interval and thousand marked namespaces, a PUT per namespace that publishes and hour, the looks, and
/// once a day on one node what a sweep costs.
///
/// * `collector` — `None` where another node has the role: then only markers are left for it
pub async fn run(engine: Engine, collector: Option<Collector>, until: impl Future<Output = ()>) {
    let marks = Marks::new(engine.clone());
    let collects = collector.is_some();
    let marking = async {
        loop {
            tokio::time::sleep(WATCH).await;
            marks.write().await;
            if !collects {
                // Nobody asks.
                marks.take_news();
            }
        }
    };
    // Marking does not wait for looks, which may take long.
    let role = async {
        match collector {
            Some(collector) => {
                let every = collector.options().sweep;
                let mut looks = Looks::new(&engine, collector, &marks);
                tokio::join!(looks.go_on(), sweep::run(&engine, every));
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
    collector: Collector,
    marks: &'a Marks,
    interval: Duration,
    second_look: Duration,
    /// When each namespace with garbage is looked at next.
    due: Agenda<NsKey>,
    list_at: Duration,
}

impl<'a> Looks<'a> {
    fn new(engine: &Engine, collector: Collector, marks: &'a Marks) -> Self {
        let runtime = engine.runtime().clone();
        let (interval, second_look) = (collector.options().interval, collector.options().second_look);
        Self {
            list_at: runtime.clock.boot() + runtime.rng.jitter(interval.min(Duration::from_secs(60))),
            store: engine.store().clone(),
            runtime,
            collector,
            marks,
            interval,
            second_look,
            due: Agenda::default(),
        }
    }

    fn now(&self) -> Duration {
        self.runtime.clock.boot()
    }

    async fn go_on(&mut self) {
        loop {
            tokio::time::sleep(WATCH).await;
            self.tick().await;
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
        // What is due again at once waits for the next time.
        let due: Vec<NsKey> = std::iter::from_fn(|| self.due.pop_due(now)).collect();
        for ns in due {
            let tenant = Tenant::named(ns.org().as_str());
            context::for_tenant(tenant, self.look(&ns)).await;
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
            if self.due.get(&ns).is_none() {
                // What is found at once is spread over the interval.
                let spread = self.interval / FOUND_PER_INTERVAL * found;
                self.due.set(ns, now + spread.min(self.interval));
                found += 1;
            }
        }
        Ok(())
    }

    async fn look(&mut self, ns: &NsKey) {
        let since = self.now();
        let looked = self.collector.look_at(ns).await;
        let now = self.now();
        let wait = match looked {
            Ok(Look {
                looked: Looked::Clean,
                newest,
                ..
            }) => {
                if let Err(error) = self.unmark(ns, newest, since).await {
                    tracing::debug!(namespace = %ns.namespace(), %error, "a marker of garbage was not removed");
                }
                return;
            }
            Ok(look) => match look.looked {
                Looked::Planned { .. } => self.second_look + WATCH,
                // There may be more.
                Looked::Deleted { .. } => Duration::ZERO,
                Looked::Later => look.wait.unwrap_or_default().max(self.interval),
                Looked::Elsewhere | Looked::Clean => self.interval,
            },
            Err(error) => {
                metrics::counter!(telemetry::GC_FAILURES).increment(1);
                let error = &error as &dyn std::error::Error;
                tracing::warn!(org = %ns.org(), namespace = %ns.namespace(), error, "garbage was not collected");
                self.interval
            }
        };
        self.due.set(ns.clone(), now + wait);
    }

    /// Removes the marker of a namespace, unless something was published since it was looked at. Costs a DELETE, a LIST
    /// and perhaps a PUT.
    ///
    /// * `seen` — its newest manifest when it was looked at, after `since`
    async fn unmark(&self, ns: &NsKey, seen: Gen, since: Duration) -> Result<(), StoreError> {
        let marker = paths::collection_marker(ns);
        self.store.delete(&marker).await?;
        self.marks.removed(ns, since);
        let manifests = ManifestStore::new(self.store.clone(), ns.clone(), self.runtime.cpu.clone());
        let newest = manifests
            .list()
            .await
            .map(|found| found.first().map_or(Gen::ZERO, |f| f.0));
        if newest.map_or(true, |newest| newest != seen) {
            self.store.put(&marker, Vec::new()).await?;
        }
        Ok(())
    }
}
