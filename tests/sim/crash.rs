//! Nodes that die: every task of a node counts its polls against the node's life, and at the end
//! of it all of them are dropped wherever they are.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use shoal::base::Spawner;
use shoal::base::spawn::Task;

/// The life of one node, shared by all its tasks and by the calls clients make to it.
#[derive(Clone)]
pub struct Life {
    inner: Arc<Inner>,
}

struct Inner {
    polls_left: AtomicU64,
    dead: AtomicBool,
    /// Protects the wakers of tasks that wait; held to add one or to take all.
    wakers: Mutex<Vec<Waker>>,
    /// Polls so far.
    polls: AtomicU64,
}

impl Life {
    /// A life of so many polls.
    pub fn of(polls: u64) -> Self {
        Self {
            inner: Arc::new(Inner {
                polls_left: AtomicU64::new(polls),
                dead: AtomicBool::new(false),
                wakers: Mutex::default(),
                polls: AtomicU64::new(0),
            }),
        }
    }

    pub fn is_over(&self) -> bool {
        self.inner.dead.load(Ordering::SeqCst)
    }

    /// How many polls the node's tasks had.
    pub fn polls(&self) -> u64 {
        self.inner.polls.load(Ordering::SeqCst)
    }

    /// Counts one poll; true while the node lives.
    fn spend(&self) -> bool {
        if self.is_over() {
            return false;
        }
        self.inner.polls.fetch_add(1, Ordering::SeqCst);
        if self.inner.polls_left.fetch_sub(1, Ordering::SeqCst) <= 1 {
            self.inner.dead.store(true, Ordering::SeqCst);
            // Everybody who waits must notice.
            for waker in self.inner.wakers.lock().expect("no panic holds it").drain(..) {
                waker.wake();
            }
            return false;
        }
        true
    }

    fn watch(&self, waker: &Waker) {
        let mut wakers = self.inner.wakers.lock().expect("no panic holds it");
        if !wakers.iter().any(|w| w.will_wake(waker)) {
            wakers.push(waker.clone());
        }
    }

    /// Runs `future` as part of the node: `None` when the node died first.
    pub fn run<F: Future>(&self, future: F) -> Mortal<F> {
        Mortal {
            life: self.clone(),
            future: Some(Box::pin(future)),
        }
    }
}

/// A future that ends with the life of its node.
pub struct Mortal<F> {
    life: Life,
    future: Option<Pin<Box<F>>>,
}

impl<F: Future> Future for Mortal<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.life.spend() {
            self.future = None;
            return Poll::Ready(None);
        }
        self.life.watch(cx.waker());
        let Some(future) = self.future.as_mut() else {
            return Poll::Ready(None);
        };
        future.as_mut().poll(cx).map(Some)
    }
}

/// Spawns the tasks of one node.
pub struct MortalSpawner(pub Life);

impl Spawner for MortalSpawner {
    #[allow(clippy::disallowed_methods, reason = "the simulation's own runtime")]
    fn spawn(&self, _name: &'static str, task: Task) {
        let task = self.0.run(task);
        tokio::spawn(async move {
            task.await;
        });
    }
}
