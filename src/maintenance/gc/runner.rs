//! When which namespace is looked at.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;

use super::{Collector, Looked};
use crate::base::Runtime;
use crate::base::{Tenant, context};
use crate::manifest::ManifestStore;
use crate::model::Gen;
use crate::namespace::Engine;
use crate::store::paths::{self, NsKey};
use crate::store::{Store, StoreError};
use crate::telemetry;

/// How often the engine is asked which manifests it has gone over to. Costs no request.
const WATCH: Duration = Duration::from_secs(10);
/// How long a marker counts as being there; then it is written again with the next manifest.
const MARKED_FOR: Duration = Duration::from_secs(3600);
/// Marked namespaces that are remembered; more are found by a later listing.
const DUE_MAX: usize = 100_000;

struct Runner {
    engine: Engine,
    runtime: Runtime,
    store: Store,
    /// `None` on nodes that only say what is to be looked at.
    collector: Option<Collector>,
    interval: Duration,
    second_look: Duration,
    /// The manifest of each open namespace that was seen last, and when its marker was written.
    seen: BTreeMap<NsKey, (Gen, Option<Duration>)>,
    /// When each namespace with garbage is looked at next.
    due: BTreeMap<NsKey, Duration>,
    list_at: Duration,
}

/// Collects garbage until `until` ends. What is going on then is given up.
///
/// Costs one LIST per interval and thousand marked namespaces, a PUT per namespace that publishes and hour, and the looks.
///
/// * `collector` — `None` where another node has the role: then only markers are left for it
pub async fn run(engine: Engine, collector: Option<Collector>, until: impl Future<Output = ()>) {
    let runtime = engine.runtime().clone();
    let options = collector.as_ref().map(|c| c.options().clone()).unwrap_or_default();
    let mut runner = Runner {
        list_at: runtime.clock.boot() + runtime.rng.jitter(options.interval.min(Duration::from_secs(60))),
        store: engine.store().clone(),
        interval: options.interval,
        second_look: options.second_look,
        engine,
        runtime,
        collector,
        seen: BTreeMap::new(),
        due: BTreeMap::new(),
    };
    let forever = async {
        loop {
            tokio::time::sleep(WATCH).await;
            runner.tick().await;
        }
    };
    tokio::select! {
        biased;
        () = until => {}
        () = forever => {}
    }
}

impl Runner {
    fn now(&self) -> Duration {
        self.runtime.clock.boot()
    }

    async fn tick(&mut self) {
        self.watch().await;
        if self.collector.is_none() {
            return;
        }
        if self.now() >= self.list_at {
            self.list_at = self.now() + self.interval;
            if let Err(error) = self.list().await {
                tracing::warn!(%error, "the markers of garbage cannot be listed");
            }
        }
        let now = self.now();
        let due: Vec<NsKey> = self
            .due
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(ns, _)| ns.clone())
            .collect();
        for ns in due {
            let tenant = Tenant::named(ns.org().as_str());
            context::for_tenant(tenant, self.look(&ns)).await;
        }
    }

    /// Notes which namespaces have got newer manifests: then the older ones will be garbage.
    async fn watch(&mut self) {
        let now = self.now();
        let mut seen = BTreeMap::new();
        let mut marked = Vec::new();
        for (org, name, generation) in self.engine.published() {
            let ns = NsKey::new(org, name);
            let (known, at) = self.seen.get(&ns).copied().unwrap_or((Gen::ZERO, None));
            let is_marked = at.is_some_and(|at| now.saturating_sub(at) < MARKED_FOR);
            if generation > known && !is_marked {
                marked.push((ns, generation));
                continue;
            }
            // One that came while the marker was thought to be there is marked when that time is over.
            let noted = if is_marked { known } else { generation };
            seen.insert(ns, (noted, at));
        }
        self.seen = seen;
        for (ns, generation) in marked {
            let put = self.store.put(&paths::collection_marker(&ns), Vec::new()).await;
            if let Err(error) = &put {
                tracing::warn!(namespace = %ns.namespace(), %error, "a marker of garbage was not written");
            }
            let first = now + self.interval;
            self.due.entry(ns.clone()).or_insert(first);
            self.seen.insert(ns, (generation, put.is_ok().then_some(now)));
        }
    }

    async fn list(&mut self) -> Result<(), StoreError> {
        let mut markers = self.store.list(&paths::collection_markers(), None);
        while let Some(marker) = markers.next().await {
            let Some(ns) = paths::parse_collection_marker(&marker?.location) else {
                continue;
            };
            if self.due.len() >= DUE_MAX {
                break;
            }
            let now = self.now();
            self.due.entry(ns).or_insert(now);
        }
        Ok(())
    }

    async fn look(&mut self, ns: &NsKey) {
        let Some(collector) = &mut self.collector else { return };
        let looked = collector.look(ns).await;
        let now = self.now();
        let wait = match looked {
            Ok(Looked::Clean) => {
                self.due.remove(ns);
                if let Err(error) = self.unmark(ns).await {
                    tracing::debug!(namespace = %ns.namespace(), %error, "a marker of garbage was not removed");
                }
                return;
            }
            Ok(Looked::Later | Looked::Elsewhere) => self.interval,
            Ok(Looked::Planned { .. }) => self.second_look + WATCH,
            // There may be more.
            Ok(Looked::Deleted { .. }) => Duration::ZERO,
            Err(error) => {
                metrics::counter!(telemetry::GC_FAILURES).increment(1);
                let error = &error as &dyn std::error::Error;
                tracing::warn!(org = %ns.org(), namespace = %ns.namespace(), error, "garbage was not collected");
                self.interval
            }
        };
        self.due.insert(ns.clone(), now + wait);
    }

    /// Removes the marker of a namespace, unless something was published since it was looked at. Costs a DELETE, a LIST
    /// and perhaps a PUT.
    async fn unmark(&mut self, ns: &NsKey) -> Result<(), StoreError> {
        let marker = paths::collection_marker(ns);
        self.store.delete(&marker).await?;
        if let Some((_, at)) = self.seen.get_mut(ns) {
            *at = None;
        }
        let manifests = ManifestStore::new(self.store.clone(), ns.clone(), self.runtime.cpu.clone());
        // More than one: published meanwhile.
        if manifests.list().await.map_or(true, |found| found.len() > 1) {
            self.store.put(&marker, Vec::new()).await?;
        }
        Ok(())
    }
}
