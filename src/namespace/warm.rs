//! Reading a namespace ahead of its queries, and forgetting it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Semaphore;

use super::Engine;
use super::evaluate::not_found;
use super::handle::Handle;
use super::pins::objects;
use crate::base::{Priority, context};
use crate::cache::{Cache, ObjectRef};
use crate::error::Result;
use crate::model::access::Access;
use crate::model::{Gen, NamespaceName, OrgId};
use crate::segment::{Ahead, SegmentError};
use crate::snapshot::Snapshot;

/// Namespaces that are read ahead at a time, each with one GET in flight.
const AT_ONCE: usize = 2;

/// Turns of those that are read ahead.
#[derive(Clone)]
pub(super) struct Slots(Arc<Semaphore>);

impl Default for Slots {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

/// How far an open namespace has been read ahead.
#[derive(Default)]
pub(super) struct Warming {
    runs: AtomicBool,
    /// Whether to end, because the namespace is forgotten.
    ends: AtomicBool,
    /// The generation whose segments were read last.
    done: AtomicU64,
}

/// The one that reads a namespace ahead.
struct Running(Arc<Warming>);

impl Running {
    fn start(warming: &Arc<Warming>) -> Option<Self> {
        let ran = warming.runs.swap(true, Ordering::AcqRel);
        (!ran).then(|| Self(warming.clone()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.runs.store(false, Ordering::Release);
    }
}

impl Engine {
    /// Closes the namespace on this node and drops what the cache has of it, so that its next use reads everything
    /// again. Requests that are under way keep what they have.
    ///
    /// Costs one GET, shared, to know that the namespace exists.
    pub async fn purge(&self, org: &OrgId, name: &NamespaceName) -> Result<()> {
        self.with_namespace(org, name, |handle| async move {
            self.check_newest(&handle, Access::Manage, name).await?;
            let snapshot = handle.snapshot();
            if !snapshot.exists() {
                return Err(not_found(name).into());
            }
            handle.state().warming.ends.store(true, Ordering::Release);
            self.inner.registry.forget(&(org.clone(), name.clone()), &handle);
            let dropped: Vec<ObjectRef> = objects(&snapshot).cloned().collect();
            if !dropped.is_empty() {
                let cache = self.inner.cache.clone();
                let purge = move || cache.purge(&dropped);
                self.inner.runtime.cpu.run(Priority::Foreground, purge).await;
            }
            Ok(())
        })
        .await
    }

    /// Opens the namespace if it is not open, and begins to read its indexes into the cache, and rows and vectors if
    /// they are small, without waiting for that. True when it was open and read already.
    ///
    /// Costs one GET, shared, or what opening costs; behind the answer one GET for about every 8 MiB.
    pub async fn warm(&self, org: &OrgId, name: &NamespaceName) -> Result<bool> {
        self.with_namespace(org, name, |handle| async move {
            let was_open = handle.is_proven();
            self.check_newest(&handle, Access::Manage, name).await?;
            match handle.snapshot().exists() {
                true => Ok(self.warm_in_background(&handle) && was_open),
                false => Err(not_found(name).into()),
            }
        })
        .await
    }

    /// Starts to read ahead, unless that is under way or there is nothing to read. Whether the segments in use were
    /// read before; some of it may have had to make room since, so that it is done again.
    fn warm_in_background(&self, handle: &Arc<Handle>) -> bool {
        let snapshot = handle.snapshot();
        let warming = &handle.state().warming;
        if objects(&snapshot).next().is_none() {
            return true;
        }
        let was_done = Gen(warming.done.load(Ordering::Acquire)) == snapshot.generation;
        if let Some(running) = Running::start(warming) {
            let (cache, slots) = (self.inner.cache.clone(), self.inner.warmings.clone());
            // Not the namespace itself: it may be closed meanwhile.
            let open = Arc::downgrade(handle);
            let task = async move {
                let Ok(_slot) = slots.0.acquire().await else { return };
                let goes_on = || open.strong_count() > 0 && !running.0.ends.load(Ordering::Acquire);
                match read_ahead(&snapshot, &cache, &goes_on).await {
                    Ok(()) if goes_on() => running.0.done.store(snapshot.generation.0, Ordering::Release),
                    Ok(()) => {}
                    Err(error) => tracing::debug!(%error, "a namespace was not read ahead"),
                }
            };
            let task = context::in_background(task);
            self.inner.runtime.spawner.spawn("warm", Box::pin(task));
        }
        was_done
    }
}

/// Reads the indexes of all segments, and then rows and vectors, as far as it would not push out much else.
async fn read_ahead(
    snapshot: &Snapshot,
    cache: &Cache,
    goes_on: &(impl Fn() -> bool + Send + Sync),
) -> Result<(), SegmentError> {
    let stats = cache.stats();
    let memory = stats.memory_limit_bytes / 4;
    let disk = stats.disk.filter(|disk| !disk.disabled);
    let index = disk.map_or(memory, |disk| memory.max(disk.limit_bytes / 4));
    for (kinds, mut room) in [
        (&[Ahead::Indexes][..], index),
        (&[Ahead::Rows, Ahead::Vectors][..], memory),
    ] {
        for what in kinds {
            for part in snapshot.segments.iter() {
                let bytes = part.segment.bytes_ahead(*what);
                if bytes <= room {
                    part.segment.read_ahead(*what, goes_on).await?;
                    room -= bytes;
                }
            }
        }
    }
    Ok(())
}
