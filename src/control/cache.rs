//! What this node remembers of the control plane, and how it learns that it changed.
//!
//! Organizations are spread over 256 shards; each revision of a shard's record names an organization in which
//! something was narrowed (a key deleted, a member demoted, a token revoked). While a node uses what it remembers of
//! an organization it asks for the next revision of the organization's shard every `revalidate`: one GET that
//! finds nothing, whatever the number of keys and requests. A shard that nobody uses is not asked for.
//!
//! # What stays true
//!
//! - The position in the shard is known before anything is read that is remembered, so that no change falls
//!   between.
//! - What is remembered is read again after `max_age` in any case, and is never used longer: when the store
//!   cannot be reached, requests are refused.
//! - Many requests for the same thing read it once. Nobody is given what was begun to be read before a change that
//!   this node has noticed.

use std::any::Any;
use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use crate::base::Runtime;
use crate::error::{Error, ErrorKind, Result};
use crate::model::OrgId;
use crate::store::paths::control as paths;
use crate::store::record::Records;

/// The most things that one shard remembers.
const ENTRIES_MAX: usize = 4096;

/// One revision of a shard's record.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Changed {
    /// The organization that changed.
    org: String,
}

/// How fresh what is remembered has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// How often a shard in use is asked whether something changed.
    pub revalidate: Duration,
    /// How long anything is remembered at most.
    pub max_age: Duration,
    /// Whether every request asks, and not only the timer.
    pub strict: bool,
}

impl Default for Freshness {
    fn default() -> Self {
        Self {
            revalidate: Duration::from_secs(1),
            max_age: Duration::from_secs(60),
            strict: false,
        }
    }
}

type Value = Option<Arc<dyn Any + Send + Sync>>;

/// Why something could not be read, for everybody who waited for it.
#[derive(Clone)]
struct Failure {
    kind: ErrorKind,
    message: String,
    retry_after: Option<Duration>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        tracing::debug!(%error, "control state was not read");
        Self {
            kind: error.kind,
            message: error.message,
            retry_after: error.retry_after,
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self {
            retry_after: failure.retry_after,
            ..Self::new(failure.kind, failure.message)
        }
    }
}

/// What becomes of a reading. Empty while it is under way.
type Reading = Arc<OnceCell<Result<Value, Failure>>>;

struct Remembered {
    value: Reading,
    /// When reading began.
    since: Duration,
}

/// One shard as this node follows it.
struct Followed {
    shard: u8,
    /// The newest revision seen, and when it was seen to be the newest. Held to read or change.
    position: Mutex<(u64, Duration)>,
    /// Held to look something up or remember it.
    entries: Mutex<Entries>,
    /// Held by the one poll at a time: which was the last that ended, and how.
    polling: tokio::sync::Mutex<(u64, Result<(), Failure>)>,
    /// Counts the polls that began. Those that wait need none of their own after one that began later.
    polls: AtomicU64,
}

#[derive(Default)]
struct Entries {
    /// By organization first: what one is remembered by is no other's.
    orgs: HashMap<OrgId, HashMap<String, Remembered>>,
    /// When it was last used.
    used: Duration,
}

/// A shard that is followed, or about to be.
type Following = Arc<OnceCell<Result<Arc<Followed>, Failure>>>;

/// The memory of a node; clones share it.
#[derive(Clone)]
pub struct Cache {
    inner: Arc<Inner>,
}

struct Inner {
    records: Records,
    runtime: Runtime,
    freshness: Freshness,
    shards: Mutex<HashMap<u8, Following>>,
}

impl Cache {
    pub(super) fn new(records: Records, runtime: Runtime, freshness: Freshness) -> Self {
        Self {
            inner: Arc::new(Inner {
                records,
                runtime,
                freshness,
                shards: Mutex::default(),
            }),
        }
    }

    /// What is remembered under `key` for an organization, else what `load` reads; "there is none" is
    /// remembered, too.
    ///
    /// Costs nothing when it is remembered (one GET in strict mode), else what `load` costs, and one LIST and
    /// one GET when the organization's shard is not followed yet.
    pub async fn get<T, F>(&self, org: &OrgId, key: &str, load: impl Fn() -> F) -> Result<Option<Arc<T>>>
    where
        T: Send + Sync + 'static,
        F: Future<Output = Result<Option<T>>>,
    {
        let followed = self.follow(org).await?;
        if self.inner.freshness.strict {
            self.inner.poll(&followed).await?;
        }
        let now = self.now();
        let max_age = self.inner.freshness.max_age;
        let (cell, since) = {
            let mut entries = lock(&followed.entries);
            entries.used = now;
            match entries.get(org, key) {
                Some(found) if now.saturating_sub(found.since) < max_age => (found.value.clone(), found.since),
                _ => (entries.begin(org, key, now, max_age), now),
            }
        };
        let was_ready = cell.initialized();
        let read = cell.get_or_init(|| async {
            let loaded = load().await?;
            Ok(loaded.map(|value| Arc::new(value) as Arc<dyn Any + Send + Sync>))
        });
        let value = match read.await {
            Ok(value) => value.clone(),
            Err(failure) => {
                lock(&followed.entries).give_up(org, key, &cell);
                return Err(failure.clone().into());
            }
        };
        // Who waited for the store so long would use what is too old.
        if !was_ready && self.now().saturating_sub(since) >= max_age {
            lock(&followed.entries).give_up(org, key, &cell);
            return Err(
                Error::new(ErrorKind::Unavailable, "object storage is too slow; try again")
                    .after(Duration::from_secs(1)),
            );
        }
        let typed = |value: Arc<dyn Any + Send + Sync>| {
            let typed: Result<Arc<T>, _> = value.downcast();
            typed.map_err(|_| Error::new(ErrorKind::Internal, "internal error"))
        };
        value.map(typed).transpose()
    }

    /// Tells every node that something in the organization was narrowed; this one forgets at once. Costs one
    /// LIST, one GET and one PUT.
    pub async fn changed(&self, org: &OrgId) -> Result<()> {
        self.forget(org);
        let change = |_| {
            let org = org.as_str().to_owned();
            Ok(Some(Changed { org }))
        };
        let record = paths::rev_shard(shard_of(org));
        self.inner.records.update::<Changed, _>(&record, change).await?;
        self.forget(org);
        Ok(())
    }

    /// Forgets what this node remembers of an organization: for changes that widen, and for one's own.
    pub fn forget(&self, org: &OrgId) {
        let cell = lock(&self.inner.shards).get(&shard_of(org)).cloned();
        if let Some(Ok(followed)) = cell.as_ref().and_then(|cell| cell.get()) {
            followed.forget(|o| o == org);
        }
    }

    async fn follow(&self, org: &OrgId) -> Result<Arc<Followed>> {
        let shard = shard_of(org);
        let cell = lock(&self.inner.shards).entry(shard).or_default().clone();
        let begin = || async {
            let now = self.now();
            let newest = self.inner.records.newest::<Changed>(&paths::rev_shard(shard)).await;
            let newest = newest.map_err(|e| Failure::from(Error::from(e)))?;
            let followed = Arc::new(Followed {
                shard,
                position: Mutex::new((newest.map_or(0, |r| r.number), now)),
                entries: Mutex::new(Entries {
                    used: now,
                    ..Entries::default()
                }),
                polling: tokio::sync::Mutex::new((0, Ok(()))),
                polls: AtomicU64::new(0),
            });
            let task = follow_until_idle(Arc::downgrade(&self.inner), followed.clone());
            self.inner.runtime.spawner.spawn("control revisions", Box::pin(task));
            Ok(followed)
        };
        match cell.get_or_init(begin).await {
            Ok(followed) => Ok(followed.clone()),
            Err(failure) => {
                let mut shards = lock(&self.inner.shards);
                if shards.get(&shard).is_some_and(|there| Arc::ptr_eq(there, &cell)) {
                    shards.remove(&shard);
                }
                Err(failure.clone().into())
            }
        }
    }

    fn now(&self) -> Duration {
        self.inner.runtime.clock.boot()
    }
}

impl Entries {
    fn get(&self, org: &OrgId, key: &str) -> Option<&Remembered> {
        self.orgs.get(org)?.get(key)
    }

    /// A place for what is about to be read.
    fn begin(&mut self, org: &OrgId, key: &str, now: Duration, max_age: Duration) -> Reading {
        if self.len() >= ENTRIES_MAX {
            self.retain(|found| now.saturating_sub(found.since) < max_age);
        }
        if self.len() >= ENTRIES_MAX {
            // Half of them, whichever: what is in use is read again.
            let mut is_kept = false;
            self.retain(|_| {
                is_kept = !is_kept;
                is_kept
            });
        }
        let value = Arc::new(OnceCell::new());
        let remembered = Remembered {
            value: value.clone(),
            since: now,
        };
        let of_org = self.orgs.entry(org.clone()).or_default();
        of_org.insert(key.to_owned(), remembered);
        value
    }

    fn len(&self) -> usize {
        self.orgs.values().map(HashMap::len).sum()
    }

    fn retain(&mut self, mut keep: impl FnMut(&Remembered) -> bool) {
        for of_org in self.orgs.values_mut() {
            of_org.retain(|_, found| keep(found));
        }
        self.orgs.retain(|_, of_org| !of_org.is_empty());
    }

    /// Forgets a reading that failed, if it is still the one.
    fn give_up(&mut self, org: &OrgId, key: &str, cell: &Reading) {
        if let Some(of_org) = self.orgs.get_mut(org)
            && of_org.get(key).is_some_and(|found| Arc::ptr_eq(&found.value, cell))
        {
            of_org.remove(key);
        }
    }
}

impl Followed {
    fn forget(&self, is: impl Fn(&OrgId) -> bool) {
        lock(&self.entries).orgs.retain(|org, _| !is(org));
    }
}

impl Inner {
    /// Asks whether the shard changed, until it did not. Costs one GET, and one per change.
    async fn poll(&self, followed: &Followed) -> Result<()> {
        let arrived = followed.polls.load(Ordering::SeqCst);
        let mut last = followed.polling.lock().await;
        if last.0 <= arrived {
            let number = followed.polls.fetch_add(1, Ordering::SeqCst) + 1;
            *last = (number, self.catch_up(followed).await.map_err(Failure::from));
        }
        last.1.clone().map_err(Error::from)
    }

    async fn catch_up(&self, followed: &Followed) -> Result<()> {
        loop {
            let (position, seen) = *lock(&followed.position);
            let start = self.runtime.clock.boot();
            let record = paths::rev_shard(followed.shard);
            if start.saturating_sub(seen) > self.freshness.max_age {
                // What came next may have been removed since: begin anew.
                let newest = self.records.newest::<Changed>(&record).await?;
                followed.forget(|_| true);
                *lock(&followed.position) = (newest.map_or(0, |r| r.number), start);
                return Ok(());
            }
            match self.records.at::<Changed>(&record, position + 1).await? {
                None => {
                    *lock(&followed.position) = (position, start);
                    return Ok(());
                }
                Some(next) => {
                    match next.value {
                        Some(changed) => followed.forget(|o| o.as_str() == changed.org),
                        None => followed.forget(|_| true),
                    }
                    *lock(&followed.position) = (position + 1, start);
                }
            }
        }
    }
}

/// Polls a shard as long as it is used; then forgets it.
async fn follow_until_idle(inner: std::sync::Weak<Inner>, followed: Arc<Followed>) {
    loop {
        let Some(interval) = inner.upgrade().map(|i| i.freshness.revalidate) else {
            return;
        };
        tokio::time::sleep(interval).await;
        let Some(inner) = inner.upgrade() else { return };
        let now = inner.runtime.clock.boot();
        {
            let mut shards = lock(&inner.shards);
            let idle = now.saturating_sub(lock(&followed.entries).used) > inner.freshness.max_age;
            if idle {
                shards.remove(&followed.shard);
                return;
            }
        }
        if let Err(error) = inner.poll(&followed).await {
            tracing::debug!(shard = followed.shard, %error, "control revisions were not read");
        }
    }
}

/// Which shard an organization is in: of 256, by a hash that never changes.
pub fn shard_of(org: &OrgId) -> u8 {
    (xxhash_rust::xxh3::xxh3_64(org.as_str().as_bytes()) & 0xff) as u8
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing::control;

    #[tokio::test]
    async fn organizations_of_one_shard_share_nothing() {
        let first = OrgId::default_org();
        let twin = (0..).map(|n| OrgId::parse(&format!("org_{n}")).expect("legal"));
        let twin = twin
            .into_iter()
            .find(|org| shard_of(org) == shard_of(&first))
            .expect("there are 256 shards");
        let control = control();
        for org in [&first, &twin, &first] {
            let load = || async { Ok(Some(org.clone())) };
            let found = control.cache().get(org, "key", load).await.expect("read");
            assert_eq!(found.as_deref(), Some(org));
        }
        control.cache().forget(&twin);
        let none = || async { Ok(None::<OrgId>) };
        let remembered = control.cache().get(&first, "key", none).await.expect("read");
        assert_eq!(remembered.as_deref(), Some(&first), "only the other was forgotten");
        assert!(control.cache().get(&twin, "key", none).await.expect("read").is_none());
    }
}
