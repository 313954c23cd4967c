//! One request in flight per range, and a second one when the first takes long.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Either, Shared, WeakShared};
use object_store::path::Path;

use super::memory::SteadyState;
use super::pieces;
use crate::base::Clock;
use crate::store::{Store, StoreError};

/// Requests join ranges with at most this much between them: the bytes cost less than a second request.
const GAP_BYTES_MAX: u64 = 256 << 10;
/// The largest request.
pub(super) const GET_BYTES_MAX: u64 = 8 << 20;

/// The whole body of a request, or why there is none.
pub(super) type Body = Result<Bytes, Arc<StoreError>>;
/// A request that any number of readers wait for. It goes on while one of them does, and ends with the last.
pub(super) type Flight = Shared<BoxFuture<'static, Body>>;

struct Entry {
    number: u64,
    range: Range<u64>,
    flight: WeakShared<BoxFuture<'static, Body>>,
}

#[derive(Default)]
struct Table {
    next: u64,
    by_object: HashMap<Arc<Path>, Vec<Entry>, SteadyState>,
}

/// The requests in flight.
#[derive(Default)]
pub(super) struct Flights {
    /// Held to look up and register, never across an await.
    table: Mutex<Table>,
}

/// Takes a flight off the table when it has landed or nobody waits for it.
pub(super) struct Landing {
    flights: Arc<Flights>,
    key: Arc<Path>,
    number: u64,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut table = self.flights.lock();
        if let Some(entries) = table.by_object.get_mut(&self.key) {
            entries.retain(|e| e.number != self.number);
            if entries.is_empty() {
                table.by_object.remove(&self.key);
            }
        }
    }
}

impl Flights {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The flights that together bring what `missing` says, joined where there are some and started with `start`
    /// where not, by where they begin.
    ///
    /// `missing` is asked while no flight can land: what landed before is in memory, and it looks there.
    pub(super) fn claim<F>(
        self: &Arc<Self>,
        key: &Arc<Path>,
        missing: impl FnOnce() -> Vec<Range<u64>>,
        start: impl Fn(Range<u64>, Landing) -> F,
    ) -> Vec<(u64, Flight)>
    where
        F: Future<Output = Body> + Send + 'static,
    {
        // Dropped flights lock the table too, so they have to outlive the guard.
        let mut claimed = Vec::new();
        let mut passed = Vec::new();
        let mut table = self.lock();
        let mut left = missing();
        for entry in table.by_object.get(key).into_iter().flatten() {
            if !left
                .iter()
                .any(|r| r.start < entry.range.end && entry.range.start < r.end)
            {
                continue;
            }
            let Some(flight) = entry.flight.upgrade() else { continue };
            // One whose every waiter has gone answers nobody any more, but is not off the table yet.
            left = left
                .iter()
                .flat_map(|r| pieces::subtract(r, [entry.range.clone()]))
                .collect();
            passed.push((entry.range.start, flight));
        }
        let wanted = pieces::split(pieces::join(left, GAP_BYTES_MAX, GET_BYTES_MAX), GET_BYTES_MAX);
        for range in wanted {
            let number = table.next;
            table.next += 1;
            let landing = Landing {
                flights: self.clone(),
                key: key.clone(),
                number,
            };
            let flight = start(range.clone(), landing).boxed().shared();
            if let Some(weak) = flight.downgrade() {
                let entries = table.by_object.entry(key.clone()).or_default();
                entries.push(Entry {
                    number,
                    range: range.clone(),
                    flight: weak,
                });
            }
            claimed.push((range.start, flight));
        }
        drop(table);
        claimed.append(&mut passed);
        claimed
    }
}

/// Sizes that are timed apart, in bytes.
const SIZE_CLASSES: [u64; 2] = [64 << 10, 1 << 20];
/// Answers that are remembered of each class.
const SAMPLES: usize = 128;
/// No second request before so many answers, nor earlier than this.
const SAMPLES_MIN: usize = 20;
const HEDGE_AFTER_MIN: Duration = Duration::from_millis(5);
/// One second request per so many first ones.
const HEDGE_PERIOD: u64 = 20;
/// Second requests that may be saved up.
const HEDGES_MAX: u64 = 10;

#[derive(Default)]
struct Times {
    recent: [VecDeque<Duration>; 3],
    /// Requests that were not used for a second one yet.
    credit: u64,
}

/// When to ask again: after the time that 95 of 100 recent answers of such size took, for at most one in twenty.
#[derive(Default)]
pub(super) struct Hedge {
    /// Held to add a time or sort a copy.
    times: Mutex<Times>,
}

fn class(bytes: u64) -> usize {
    SIZE_CLASSES.iter().filter(|limit| bytes > **limit).count()
}

impl Hedge {
    fn lock(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn first(&self, bytes: u64) -> Option<Duration> {
        let mut times = self.lock();
        times.credit = (times.credit + 1).min(HEDGES_MAX * HEDGE_PERIOD);
        let mut recent: Vec<Duration> = times.recent[class(bytes)].iter().copied().collect();
        drop(times);
        if recent.len() < SAMPLES_MIN {
            return None;
        }
        let at = recent.len() * 95 / 100;
        let (_, p95, _) = recent.select_nth_unstable(at);
        Some((*p95).max(HEDGE_AFTER_MIN))
    }

    fn second(&self) -> bool {
        let mut times = self.lock();
        let may = times.credit >= HEDGE_PERIOD;
        if may {
            times.credit -= HEDGE_PERIOD;
        }
        may
    }

    fn answered(&self, bytes: u64, took: Duration) {
        let mut times = self.lock();
        let recent = &mut times.recent[class(bytes)];
        if recent.len() == SAMPLES {
            recent.pop_front();
        }
        recent.push_back(took);
    }

    /// These bytes of an object. One GET, or two when the first takes unusually long.
    pub(super) async fn get(
        &self,
        store: &Store,
        clock: &dyn Clock,
        key: &Path,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        let bytes = range.end - range.start;
        let begun = clock.boot();
        let first = Box::pin(store.get_range(key, range.clone()));
        let found = match self.first(bytes) {
            None => first.await,
            Some(wait) => match futures::future::select(first, Box::pin(tokio::time::sleep(wait))).await {
                Either::Left((found, _)) => found,
                Either::Right(((), first)) if self.second() => {
                    metrics::counter!(crate::telemetry::CACHE_HEDGES).increment(1);
                    let second = Box::pin(store.get_range(key, range));
                    match futures::future::select(first, second).await {
                        Either::Left((Err(_), other)) => other.await,
                        Either::Right((Err(_), other)) => other.await,
                        Either::Left((found, _)) | Either::Right((found, _)) => found,
                    }
                }
                Either::Right(((), first)) => first.await,
            },
        };
        if found.is_ok() {
            self.answered(bytes, clock.boot().saturating_sub(begun));
        }
        found?.ok_or_else(|| StoreError::Missing { key: key.to_string() })
    }
}
