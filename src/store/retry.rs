//! When to try again, and when to stop.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use object_store::path::Path;
use tokio::time::{Instant, sleep, timeout};

use super::StoreError;
use super::health::{Health, Lane};
use crate::base::Rng;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// In tenths of a retry. A full budget outlasts a short outage; afterwards at most one request in
/// eleven is a retry, so that retries cannot keep a struggling store down.
const BUDGET_MAX: u64 = 2000;
const RETRY_COST: u64 = 10;

/// The retries all operations of one store share.
pub(super) struct Retry {
    budget: AtomicU64,
    rng: Rng,
    deadline: Duration,
    /// Of the store that all of them ask.
    pub health: Health,
}

/// One operation's attempts.
pub(super) struct Attempts<'a> {
    retry: &'a Retry,
    end: Instant,
    pause: Duration,
}

impl Retry {
    pub(super) fn new(rng: Rng, deadline: Duration, health: Health) -> Self {
        Self {
            budget: AtomicU64::new(BUDGET_MAX),
            rng,
            deadline,
            health,
        }
    }

    pub(super) fn start(&self) -> Attempts<'_> {
        Attempts {
            retry: self,
            end: Instant::now() + self.deadline,
            pause: FIRST_PAUSE,
        }
    }

    /// Repeats an idempotent operation until it has an answer, fails for good, or the deadline or
    /// the budget ends. No attempt takes longer than `limit`.
    pub(super) async fn run<T, F>(
        &self,
        (op, key): (&'static str, &Path),
        limit: Duration,
        attempt: impl Fn() -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let lane = Lane::of(op);
        self.health.give_way().await;
        let mut attempts = self.start();
        loop {
            if !self.health.admit(lane) {
                return Err(StoreError::refused(op, key));
            }
            let limit = limit.min(attempts.left());
            let result = timeout(limit, attempt())
                .await
                .unwrap_or_else(|_| Err(StoreError::late(op, key)));
            match result {
                Ok(value) => {
                    self.health.answered(lane);
                    self.succeeded();
                    return Ok(value);
                }
                Err(error) => {
                    self.heard(lane, &error);
                    attempts.pause_after(error).await?;
                }
            }
        }
    }

    /// Waits until requests may be sent again, for at most the time that an operation takes.
    pub(super) async fn wait(&self, op: &str) {
        self.health.wait(Lane::of(op), self.deadline).await;
    }

    /// Notes what a failed attempt says of the store.
    pub(super) fn heard(&self, lane: Lane, error: &StoreError) {
        match error {
            StoreError::Unavailable { key, .. } => self.health.failed(lane, key.as_ref()),
            StoreError::Denied { .. } | StoreError::Corrupt { .. } | StoreError::Missing { .. } => {
                self.health.answered(lane);
            }
        }
    }

    pub(super) fn succeeded(&self) {
        let more = |budget: u64| Some((budget + 1).min(BUDGET_MAX));
        let _ = self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    fn take(&self) -> bool {
        let less = |budget: u64| budget.checked_sub(RETRY_COST);
        self.budget
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok()
    }
}

impl Attempts<'_> {
    /// Time until the deadline.
    pub(super) fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// Waits before the next attempt, or returns the error when there shall be none.
    pub(super) async fn pause_after(&mut self, error: StoreError) -> Result<(), StoreError> {
        let pause = self.retry.rng.jitter(self.pause);
        let retried = matches!(error, StoreError::Unavailable { .. });
        if !retried || pause >= self.left() || !self.retry.take() {
            return Err(error);
        }
        tracing::debug!(%error, "object store request is repeated");
        sleep(pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}
