//! How well the store answers: when not to ask it at all, and when work that can wait should.
//!
//! **The breaker.** After a run of requests that all failed, for some seconds and in more than one namespace, new ones are
//! refused at once, so that nobody queues up behind time limits and a store that comes back is not met by all of them. One request in a while is
//! let through all the same, and the first that is answered, be it by "no", ends it. Reads and writes have one each: a
//! disk that is full answers reads. What is refused was never sent, and is said to be so: what became of a request that
//! *was* sent is found out as without a breaker.
//!
//! **Giving way.** When answers take far longer than usual, background work (see [`context::in_background`]) waits before
//! its requests, while others make some. Each waits for a bounded time, and what lasts becomes usual, so that it goes on
//! in any case.
//!
//! A node judges by its own requests alone, and keeps nothing.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::Duration;

use super::paths;
use crate::base::{Clock, context};
use crate::telemetry;

/// A breaker opens after so many failures in a row,
const RUN_MIN: u32 = 16;
/// the first of which was at least so long ago.
const RUN_SPAN: Duration = Duration::from_secs(5);
/// While it is open, one request is let through in this time.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// An answer is slow that takes so many times as long as usual,
const SLOW_FACTOR: f64 = 5.0;
/// and longer than this.
const SLOW_MIN: f64 = 0.05;
/// The store is slow when this share of the newest answers were.
const SLOW_SHARE: f64 = 0.25;
/// How much one answer counts in that share.
const SHARE_WEIGHT: f64 = 1.0 / 16.0;
/// How much an answer that is not slow counts in what is usual.
const USUAL_WEIGHT: f64 = 1.0 / 64.0;
/// While all answers are slow, what is usual grows by a factor of e in this time.
const USUAL_GROWS: f64 = 600.0;
/// For how long after a request of somebody else background work gives way,
const ACTIVE: Duration = Duration::from_secs(2);
/// and how long a request of it waits at most.
const GIVE_WAY_MAX: Duration = Duration::from_secs(5);
/// How often it looks whether it may go on.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What fails together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Read,
    Write,
}

impl Lane {
    /// Of an operation of the store.
    pub fn of(op: &str) -> Self {
        match op {
            "get" | "list" => Self::Read,
            _ => Self::Write,
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Read => Self::Write,
            Self::Write => Self::Read,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// One breaker.
#[derive(Default)]
struct Breaker {
    /// Requests that failed since the last that was answered.
    failures: u32,
    /// When the first of them did.
    since: Duration,
    /// Where that was.
    place: String,
    /// Whether others were elsewhere. What fails in one place alone, be it for an object that is damaged or for a limit
    /// of the store's on one prefix, is no reason to refuse what is asked elsewhere.
    is_everywhere: bool,
    /// While it is open: when the next request is let through.
    next: Option<Duration>,
}

impl Breaker {
    fn admit(&mut self, now: Duration) -> bool {
        match self.next {
            Some(next) if now < next => false,
            Some(_) => {
                // It need not come back: whatever becomes of it, another follows.
                self.next = Some(now + TRY_EVERY);
                true
            }
            None => true,
        }
    }

    /// True when that opens it.
    fn failed(&mut self, place: &str, now: Duration) -> bool {
        if self.failures == 0 {
            self.since = now;
            self.is_everywhere = false;
            place.clone_into(&mut self.place);
        }
        self.is_everywhere |= self.place != place;
        self.failures = self.failures.saturating_add(1);
        let is_long = self.failures >= RUN_MIN && now.saturating_sub(self.since) >= RUN_SPAN;
        let opens = self.next.is_none() && is_long && self.is_everywhere;
        if opens {
            self.next = Some(now + TRY_EVERY);
        }
        opens
    }

    /// The next request is let through at once.
    fn hurry(&mut self, now: Duration) {
        self.next = self.next.map(|_| now);
    }

    /// True when that closes it.
    fn answered(&mut self) -> bool {
        self.failures = 0;
        self.next.take().is_some()
    }
}

/// How long answers take, in seconds.
#[derive(Default)]
struct Latency {
    usual: Option<f64>,
    slow_share: f64,
    at: Duration,
}

impl Latency {
    fn note(&mut self, took: f64, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = now;
        let Some(usual) = &mut self.usual else {
            self.usual = Some(took);
            return;
        };
        let is_slow = took > SLOW_MIN.max(*usual * SLOW_FACTOR);
        match is_slow {
            true => *usual = (*usual * (1.0 + passed / USUAL_GROWS)).clamp(SLOW_MIN / SLOW_FACTOR, took),
            false => *usual += (took - *usual) * USUAL_WEIGHT,
        }
        self.slow_share += (f64::from(u8::from(is_slow)) - self.slow_share) * SHARE_WEIGHT;
    }

    fn is_slow(&self) -> bool {
        self.slow_share > SLOW_SHARE
    }
}

#[derive(Default)]
struct Seen {
    read: Breaker,
    write: Breaker,
    latency: Latency,
    /// When the newest request began that is no background work.
    foreground: Option<Duration>,
}

impl Seen {
    fn breaker(&mut self, lane: Lane) -> &mut Breaker {
        match lane {
            Lane::Read => &mut self.read,
            Lane::Write => &mut self.write,
        }
    }
}

/// What the requests of one store tell of it.
pub(super) struct Health {
    clock: Arc<dyn Clock>,
    /// Held to note or look at a few numbers.
    seen: Mutex<Seen>,
}

impl Health {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            seen: Mutex::default(),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The time that answers are measured by.
    pub fn now(&self) -> Duration {
        self.clock.boot()
    }

    /// Whether a request may be sent. If not, it must not be.
    pub fn admit(&self, lane: Lane) -> bool {
        let now = self.now();
        let mut seen = self.seen();
        if !context::is_background() {
            seen.foreground = Some(now);
        }
        let admitted = seen.breaker(lane).admit(now);
        if !admitted {
            metrics::counter!(telemetry::STORE_REFUSED, "lane" => lane.name()).increment(1);
        }
        admitted
    }

    /// Notes that a request was answered, whatever the answer is.
    pub fn answered(&self, lane: Lane) {
        let now = self.now();
        let closes = {
            let mut seen = self.seen();
            let closes = seen.breaker(lane).answered();
            if closes {
                // The other one need not wait to find out.
                seen.breaker(lane.other()).hurry(now);
            }
            closes
        };
        if closes {
            metrics::gauge!(telemetry::STORE_BREAKER, "lane" => lane.name()).set(0.0);
            tracing::info!(lane = lane.name(), "the object store answers again");
        }
    }

    /// Notes that there was no answer, in time or at all, about an object or a prefix.
    pub fn failed(&self, lane: Lane, key: &str) {
        let now = self.now();
        if self.seen().breaker(lane).failed(paths::place(key), now) {
            metrics::gauge!(telemetry::STORE_BREAKER, "lane" => lane.name()).set(1.0);
            tracing::warn!(
                lane = lane.name(),
                "the object store does not answer: requests are refused at once"
            );
        }
    }

    /// Notes how long the first byte of an answer took, of a request that began at `start`.
    pub fn took(&self, start: Duration) {
        let now = self.now();
        let took = now.saturating_sub(start).as_secs_f64();
        self.seen().latency.note(took, now);
    }

    /// Waits while the breaker refuses requests, for at most `max`. For whoever has to find out what became of something.
    pub async fn wait(&self, lane: Lane, max: Duration) {
        let next = self.seen().breaker(lane).next;
        if let Some(next) = next {
            tokio::time::sleep(next.saturating_sub(self.now()).min(max)).await;
        }
    }

    /// Has background work wait while the store is slow and others need it. Nobody else waits; nor does background work
    /// from the moment on that somebody else waits for it.
    pub async fn give_way(&self) {
        if !context::is_background() || !self.is_needed() {
            return;
        }
        metrics::counter!(telemetry::STORE_YIELDS).increment(1);
        let until = self.now() + GIVE_WAY_MAX;
        while self.is_needed() && self.now() < until {
            let mut pause = pin!(tokio::time::sleep(LOOK_EVERY));
            let is_over = poll_fn(|cx| match context::is_background() {
                true => pause.as_mut().poll(cx).map(|()| false),
                false => Poll::Ready(true),
            });
            if is_over.await {
                return;
            }
        }
    }

    /// Whether the store is slow and somebody else than background work uses it.
    fn is_needed(&self) -> bool {
        let now = self.now();
        let seen = self.seen();
        let is_active = seen.foreground.is_some_and(|at| now.saturating_sub(at) < ACTIVE);
        is_active && seen.latency.is_slow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: f64) -> Duration {
        Duration::from_secs_f64(n)
    }

    #[test]
    fn it_opens_after_a_run_that_lasts_and_lets_one_through_in_a_while() {
        let mut breaker = Breaker::default();
        // Many at once are one failure seen by many.
        (0..100).for_each(|_| assert!(!breaker.failed("q", seconds(1.0))));
        assert!(breaker.admit(seconds(1.0)));
        // One answer among them, and it begins anew.
        assert!(!breaker.answered());
        (0..15).for_each(|n| assert!(!breaker.failed("q", seconds(2.0 + f64::from(n)))));
        assert!(
            !breaker.failed("q", seconds(17.0)),
            "the sixteenth, but all in one place"
        );
        assert!(breaker.failed("g", seconds(17.0)), "and in another");
        assert!(!breaker.admit(seconds(17.0)) && !breaker.admit(seconds(17.9)));
        for n in 0..5 {
            let at = 18.0 + f64::from(n);
            assert!(breaker.admit(seconds(at)), "one");
            assert!(
                !breaker.admit(seconds(at + 0.5)),
                "and no second, though it never comes back"
            );
            assert!(!breaker.failed("q", seconds(at + 0.5)), "it is open already");
        }
        assert!(breaker.answered());
        assert!((0..100).all(|_| breaker.admit(seconds(22.5))), "one answer is enough");
    }

    #[test]
    fn what_is_far_above_the_usual_is_slow_until_it_is_usual() {
        let mut latency = Latency::default();
        let mut at = 0.0;
        let mut note = |latency: &mut Latency, took: f64, times: u32| {
            for _ in 0..times {
                at += 1.0;
                latency.note(took, seconds(at));
            }
            latency.is_slow()
        };
        assert!(!note(&mut latency, 0.02, 100));
        for _ in 0..20 {
            // One in twenty takes long, as always.
            assert!(!note(&mut latency, 2.0, 1) && !note(&mut latency, 0.02, 19));
        }
        assert!(!note(&mut latency, 0.05, 20), "more than twice as long is not far");
        assert!(!note(&mut latency, 0.02, 200));
        assert!(note(&mut latency, 0.4, 6), "twenty times as long");
        assert!(note(&mut latency, 0.4, 300), "for minutes");
        assert!(!note(&mut latency, 0.4, 1200), "after half an hour it is usual");
        assert!(!note(&mut latency, 0.02, 100));
        // A store in memory: a hundred times as long is still nothing.
        let mut fast = Latency::default();
        assert!(!note(&mut fast, 0.0001, 100) && !note(&mut fast, 0.01, 100));
    }
}
