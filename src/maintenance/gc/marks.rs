//! The markers of namespaces in which there will be garbage: written by every node that goes over to a newer manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;

use crate::base::Runtime;
use crate::namespace::Engine;
use crate::store::Store;
use crate::store::paths::{self, NsKey};

/// How long a marker counts as being there; then it is written again with the next manifest.
const MARKED_FOR: Duration = Duration::from_secs(3600);
/// Markers that are written at the same time.
const WRITTEN_AT_ONCE: usize = 8;

/// What this node knows of markers.
pub(super) struct Marks {
    engine: Engine,
    runtime: Runtime,
    store: Store,
    /// Protects what is known; held to read or change it.
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    /// Something was published, and no marker was written since.
    unmarked: BTreeSet<NsKey>,
    /// When the markers were written that count as being there.
    marked: BTreeMap<NsKey, Duration>,
    /// Marked, and not told yet; `None` where nobody asks.
    news: Option<Vec<NsKey>>,
}

impl Marks {
    /// Knows of no marker. Does no I/O.
    ///
    /// * `tells` — whether somebody will [`take_news`](Self::take_news): else they would be kept for ever
    pub fn new(engine: Engine, tells: bool) -> Self {
        Self {
            runtime: engine.runtime().clone(),
            store: engine.store().clone(),
            engine,
            inside: Mutex::new(Inside {
                news: tells.then(Vec::new),
                ..Inside::default()
            }),
        }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks the namespaces that have got newer manifests: then the older ones will be garbage. Costs a PUT for each that
    /// was not marked within the hour; what fails is tried again by the next call.
    pub async fn write(&self) {
        let wanted = self.unmarked();
        let puts = wanted.into_iter().map(|ns| async move {
            let at = self.runtime.clock.boot();
            (self.store.put(&paths::collection_marker(&ns), Vec::new()).await, ns, at)
        });
        let mut puts = futures::stream::iter(puts).buffer_unordered(WRITTEN_AT_ONCE);
        while let Some((put, ns, at)) = puts.next().await {
            match put {
                Ok(()) => {
                    let mut inside = self.inside();
                    inside.unmarked.remove(&ns);
                    inside.marked.insert(ns.clone(), at);
                    if let Some(news) = &mut inside.news {
                        news.push(ns);
                    }
                }
                Err(error) => {
                    tracing::warn!(namespace = %ns.namespace(), %error, "a marker of garbage was not written");
                }
            }
        }
    }

    /// Which namespaces have no marker that counts.
    fn unmarked(&self) -> Vec<NsKey> {
        let now = self.runtime.clock.boot();
        let mut inside = self.inside();
        let published = self.engine.take_published();
        inside
            .unmarked
            .extend(published.into_iter().map(|(org, name)| NsKey::new(org, name)));
        inside.marked.retain(|_, at| now.saturating_sub(*at) < MARKED_FOR);
        // What was published while the marker counted is marked when that time is over.
        let is_unmarked = |ns: &&NsKey| !inside.marked.contains_key(*ns);
        inside.unmarked.iter().filter(is_unmarked).cloned().collect()
    }

    /// Which namespaces this node has marked since the last call.
    pub fn take_news(&self) -> Vec<NsKey> {
        self.inside().news.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Notes that a marker was removed because of what was seen at `since`.
    pub fn removed(&self, ns: &NsKey, since: Duration) {
        let mut inside = self.inside();
        // One that was written meanwhile went with it.
        if inside.marked.remove(ns).is_some_and(|at| at >= since) {
            inside.unmarked.insert(ns.clone());
        }
    }
}
