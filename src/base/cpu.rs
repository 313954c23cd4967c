//! The CPU pool: where everything that takes longer than about half a millisecond runs.
//!
//! A fixed number of threads takes foreground jobs before background jobs, and among those of one kind
//! one of each tenant in turn: a flood of one tenant's jobs makes another's wait for one job per thread.
//! Async tasks hand a closure in and await its result, so that Tokio's workers only ever do I/O. Under
//! simulation there are no threads: jobs run at once, in place.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use tokio::sync::oneshot;

use super::{Turns, context};

/// Which queue a job waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Someone is waiting for the answer.
    Foreground,
    /// Upkeep; runs when nobody waits.
    Background,
}

type Job = Box<dyn FnOnce() + Send>;

thread_local! {
    /// Of the job that this thread runs: whether its future was dropped.
    static ABANDONED: RefCell<Option<Arc<AtomicBool>>> = const { RefCell::new(None) };
}

/// Whether nobody waits for the result of the job that runs on this thread. What takes long looks here from time to
/// time, and then returns soon and whatever it likes. False outside of jobs and in pools without threads.
pub fn is_abandoned() -> bool {
    ABANDONED.with_borrow(|flag| flag.as_ref().is_some_and(|f| f.load(Ordering::Relaxed)))
}

/// Says so when the future of a job is dropped.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Queues {
    foreground: Turns<Job>,
    background: Turns<Job>,
    closed: bool,
}

struct Shared {
    /// Protects the two queues; held to push or pop one job.
    queues: Mutex<Queues>,
    wake: Condvar,
}

impl Shared {
    fn queues(&self) -> std::sync::MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(|e| e.into_inner())
    }
}

struct Threads {
    shared: Arc<Shared>,
    count: usize,
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.queues().closed = true;
        self.shared.wake.notify_all();
    }
}

/// Decoding and encoding up to so many bytes is done in place.
const IN_PLACE_BYTES_MAX: usize = 64 * 1024;

/// A handle to the pool; clones share its threads, which end when the last handle is dropped.
#[derive(Clone)]
pub struct CpuPool {
    threads: Option<Arc<Threads>>,
}

impl CpuPool {
    /// A pool of `count` threads, at least one.
    pub fn new(count: usize) -> Self {
        let shared = Arc::new(Shared {
            queues: Mutex::default(),
            wake: Condvar::new(),
        });
        let count = count.max(1);
        for i in 0..count {
            let shared = shared.clone();
            std::thread::Builder::new()
                .name(format!("cpu-{i}"))
                .spawn(move || work(&shared))
                .expect("the operating system starts a few threads at start-up");
        }
        Self {
            threads: Some(Arc::new(Threads { shared, count })),
        }
    }

    /// A pool without threads that runs every job in place, for simulation.
    pub fn inline() -> Self {
        Self { threads: None }
    }

    /// How many jobs can run at a time.
    pub fn parallelism(&self) -> usize {
        self.threads.as_ref().map_or(1, |t| t.count)
    }

    /// Runs `f` in place if it works on so few `bytes` that this takes well under half a millisecond, which is not worth
    /// a thread; else as [`run`](Self::run).
    pub async fn run_on<T: Send + 'static>(
        &self,
        bytes: usize,
        priority: Priority,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        match bytes > IN_PLACE_BYTES_MAX {
            true => self.run(priority, f).await,
            false => f(),
        }
    }

    /// Runs `f` and returns its result. It takes its turn among the jobs of the task's tenant, see
    /// [`context::tenant`].
    ///
    /// When the future is dropped, a job that has not started never does, and one that has can see it by
    /// [`is_abandoned`]. Panics of `f` are passed on.
    pub async fn run<T: Send + 'static>(&self, priority: Priority, f: impl FnOnce() -> T + Send + 'static) -> T {
        let Some(threads) = &self.threads else {
            return f();
        };
        let (tx, rx) = oneshot::channel();
        let abandoned = Arc::new(AtomicBool::new(false));
        let _waiting = Waiting(abandoned.clone());
        let job: Job = Box::new(move || {
            if abandoned.load(Ordering::Relaxed) {
                return;
            }
            ABANDONED.set(Some(abandoned));
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
            ABANDONED.set(None);
            // The receiver may be gone: then nobody wants the result.
            let _ = tx.send(result);
        });
        let tenant = context::tenant();
        {
            let mut queues = threads.shared.queues();
            match priority {
                Priority::Foreground => queues.foreground.push(tenant, job),
                Priority::Background => queues.background.push(tenant, job),
            }
        }
        threads.shared.wake.notify_one();
        match rx.await {
            Ok(Ok(value)) => value,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(_) => unreachable!("a job whose future lives always sends its result"),
        }
    }

    /// Runs every closure, in parallel where there are threads, and returns the results in order.
    pub async fn run_all<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(
        &self,
        priority: Priority,
        jobs: Vec<F>,
    ) -> Vec<T> {
        futures::future::join_all(jobs.into_iter().map(|f| self.run(priority, f))).await
    }
}

fn work(shared: &Shared) {
    loop {
        let mut queues = shared.queues();
        let job = loop {
            if let Some(job) = queues.foreground.pop() {
                break job;
            }
            if let Some(job) = queues.background.pop() {
                break job;
            }
            if queues.closed {
                return;
            }
            queues = shared.wake.wait(queues).unwrap_or_else(|e| e.into_inner());
        };
        drop(queues);
        job();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn jobs_return_their_results_in_order_and_pass_panics_on() {
        for pool in [CpuPool::new(2), CpuPool::inline()] {
            let jobs: Vec<_> = (0..20).map(|i| move || i * i).collect();
            let squares = pool.run_all(Priority::Foreground, jobs).await;
            assert_eq!(squares, (0..20).map(|i| i * i).collect::<Vec<_>>());
        }
        let pool = CpuPool::new(1);
        let waiting = pool.clone();
        #[allow(clippy::disallowed_methods, reason = "a test catches the panic of a task")]
        let failed = tokio::spawn(async move { waiting.run(Priority::Background, || panic!("as asked")).await });
        assert!(failed.await.is_err());
        assert_eq!(
            pool.run(Priority::Foreground, || 7).await,
            7,
            "the thread survives a panic"
        );
    }

    /// Or clients that hang up would keep all threads busy, whatever the limit of queries at once.
    #[tokio::test]
    #[allow(clippy::disallowed_methods, reason = "a test drops the future of a running job")]
    async fn a_dropped_job_does_not_start_and_a_running_one_sees_it() {
        let pool = CpuPool::new(1);
        let (started, is_started) = oneshot::channel();
        let (ended, has_ended) = oneshot::channel();
        let running = {
            let pool = pool.clone();
            tokio::spawn(async move {
                let job = move || {
                    let _ = started.send(());
                    while !is_abandoned() {
                        std::thread::yield_now();
                    }
                    let _ = ended.send(());
                };
                pool.run(Priority::Foreground, job).await;
            })
        };
        is_started.await.expect("the thread is free");
        let ran = Arc::new(AtomicBool::new(false));
        let queued = {
            let (pool, ran) = (pool.clone(), ran.clone());
            tokio::spawn(async move {
                pool.run(Priority::Foreground, move || ran.store(true, Ordering::Relaxed))
                    .await
            })
        };
        tokio::task::yield_now().await;
        queued.abort();
        let _ = queued.await;
        running.abort();
        has_ended.await.expect("it saw that it was abandoned");
        assert!(!pool.run(Priority::Foreground, is_abandoned).await);
        assert!(!ran.load(Ordering::Relaxed));
    }

    /// Counted, not timed: what ran between the end of the running job and the other tenant's one.
    #[tokio::test]
    async fn a_flood_of_one_tenant_lets_anothers_job_wait_for_one() {
        let pool = CpuPool::new(1);
        let (release, is_released) = std::sync::mpsc::channel::<()>();
        let order = Arc::new(Mutex::new(Vec::new()));
        let (flooder, other) = (super::super::Tenant::named("a"), super::super::Tenant::named("b"));
        let run = |tenant, name: &'static str| {
            let (pool, order) = (pool.clone(), order.clone());
            context::for_tenant(tenant, async move {
                let note = move || order.lock().expect("not poisoned").push(name);
                pool.run(Priority::Foreground, note).await;
            })
        };
        let blocked = pool.run(Priority::Foreground, move || is_released.recv().expect("released"));
        let flood = futures::future::join_all((0..1000).map(|_| run(flooder, "a")));
        let one = run(other, "b");
        let free = async {
            tokio::task::yield_now().await;
            release.send(()).expect("the job waits");
        };
        // Polled in this order, so that the flood is queued before the one.
        tokio::join!(biased; blocked, flood, one, free);
        let order = order.lock().expect("not poisoned");
        assert_eq!(order.len(), 1001);
        assert_eq!(order.iter().position(|n| *n == "b"), Some(1));
    }
}
