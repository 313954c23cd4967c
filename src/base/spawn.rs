//! Who runs background tasks.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use futures::FutureExt;
use tokio_util::task::TaskTracker;

/// A task without a result.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send + 'static>>;

/// Runs a node's background tasks.
///
/// Every implementation must guarantee that a spawned task is polled until it ends or until the
/// whole node is dropped; a task is never dropped alone.
pub trait Spawner: Send + Sync + 'static {
    /// Runs `task`; `name` appears in logs when it panics.
    fn spawn(&self, name: &'static str, task: Task);
}

/// Tasks on the current Tokio runtime, counted so that a shutdown can wait for them.
#[derive(Clone, Default)]
pub struct TokioSpawner {
    tracker: TaskTracker,
}

impl TokioSpawner {
    /// Waits until every task has ended. Tasks end when their inboxes close.
    pub async fn join(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

impl Spawner for TokioSpawner {
    #[allow(clippy::disallowed_methods, reason = "the one place that may")]
    fn spawn(&self, name: &'static str, task: Task) {
        // Nothing of a task that panicked is used afterwards.
        let task = AssertUnwindSafe(task).catch_unwind();
        self.tracker.spawn(async move {
            if task.await.is_err() {
                tracing::error!(task = name, "background task panicked");
            }
        });
    }
}
