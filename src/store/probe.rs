//! Is this store fit to hold a log? And: opening a store.
//!
//! Acknowledged writes depend on "create if absent" being atomic. Some servers ignore the condition
//! and some check and write in two steps, so it is raced before anything is entrusted to the store.
//! Costs about fifty small requests, once per start.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::future::join_all;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::backend::{self, BackendError};
use super::{CreateError, Store, StoreError, paths};
use crate::base::{Runtime, clock};
use crate::config::StoreConfig;

/// The layout of keys and formats that this build reads and writes.
pub const LAYOUT_VERSION: u32 = 1;
const FORMAT_TRIES: u32 = 5;
const FORMAT_PAUSE: Duration = Duration::from_millis(200);

/// How thoroughly to probe.
#[derive(Clone, Copy, Debug)]
pub struct ProbeOptions {
    /// Concurrent creates of one key.
    pub racers: usize,
    /// Size of the body whose integrity is checked.
    pub body_bytes: usize,
}

impl Default for ProbeOptions {
    fn default() -> Self {
        Self {
            racers: 32,
            body_bytes: 4 << 20,
        }
    }
}

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

/// One property of the store.
#[derive(Clone, Debug)]
pub struct Check {
    pub name: &'static str,
    pub outcome: Outcome,
    pub latency: Duration,
}

/// What the probe found.
#[derive(Clone, Debug, Default)]
pub struct ProbeReport {
    pub checks: Vec<Check>,
}

impl ProbeReport {
    /// Whether the store can be used: no check failed. All are required.
    pub fn required_ok(&self) -> bool {
        self.failure().is_none()
    }

    /// The first failed check, as a sentence that says why the store cannot be used.
    pub fn failure(&self) -> Option<String> {
        self.checks.iter().find_map(|check| match &check.outcome {
            Outcome::Failed(why) => Some(format!("{}: {why}", check.name)),
            Outcome::Passed | Outcome::Skipped(_) => None,
        })
    }
}

impl fmt::Display for ProbeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            let (word, why) = match &check.outcome {
                Outcome::Passed => ("ok", ""),
                Outcome::Failed(why) => ("FAILED", why.as_str()),
                Outcome::Skipped(why) => ("skipped", why.as_str()),
            };
            let line = format!(
                "{:<28} {word:<8} {:>6} ms  {why}",
                check.name,
                check.latency.as_millis()
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

type Verdict = Result<(), String>;

struct Probe<'a> {
    store: &'a Store,
    run: Ulid,
    options: ProbeOptions,
}

/// Tries the store out under fresh keys, which are deleted afterwards.
pub async fn probe(store: &Store, options: ProbeOptions) -> ProbeReport {
    let run = store.inner.rng.ulid(clock::wall_ms(&*store.inner.clock));
    let probe = Probe { store, run, options };
    let mut report = ProbeReport::default();
    report.add("read a missing object", probe.missing()).await;
    if report.required_ok() {
        report.add("read after create", probe.read_after_create()).await;
        report.add("create twice", probe.create_twice()).await;
        report.add("concurrent creates", probe.race()).await;
        report.add("list", probe.list()).await;
        report.add("ranged read", probe.range()).await;
        report.add("large body", probe.large_body()).await;
        report.add("delete, create again", probe.delete()).await;
    } else {
        let why = "the store cannot be read".to_owned();
        report.checks.push(Check {
            name: "all others",
            outcome: Outcome::Skipped(why),
            latency: Duration::ZERO,
        });
    }
    report.add("clean up", probe.clean_up()).await;
    report
}

impl ProbeReport {
    async fn add(&mut self, name: &'static str, check: impl Future<Output = Verdict>) {
        let start = tokio::time::Instant::now();
        let outcome = check.await.map_or_else(Outcome::Failed, |()| Outcome::Passed);
        self.checks.push(Check {
            name,
            outcome,
            latency: start.elapsed(),
        });
    }
}

fn explain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}

fn expect(holds: bool, why: &str) -> Verdict {
    if holds { Ok(()) } else { Err(why.to_owned()) }
}

impl Probe<'_> {
    fn key(&self, name: &str) -> Path {
        paths::probe(self.run, name)
    }

    async fn create(&self, name: &str, body: &'static str) -> Verdict {
        let created = self.store.create(&self.key(name), body).await;
        created.map_err(|error| format!("a new object could not be created: {}", explain(&error)))
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>, String> {
        self.store.get(&self.key(name)).await.map_err(|error| explain(&error))
    }

    async fn missing(&self) -> Verdict {
        match self.store.get(&self.key("absent")).await {
            Ok(found) => expect(found.is_none(), "an object was found that nobody created"),
            Err(error @ StoreError::Denied { .. }) => Err(format!(
                "the store does not say that an object is missing; grant list permission on the bucket, \
                 without which S3 answers 403 instead of 404, and check the bucket's name and the credentials: {}",
                explain(&error)
            )),
            Err(error) => Err(explain(&error)),
        }
    }

    async fn read_after_create(&self) -> Verdict {
        expect(
            self.get("fresh").await?.is_none(),
            "an object was found that nobody created",
        )?;
        self.create("fresh", "fresh").await?;
        let seen = self.get("fresh").await?;
        expect(
            seen.as_deref() == Some(b"fresh"),
            "an object just created is not read back: answers are cached",
        )
    }

    async fn create_twice(&self) -> Verdict {
        self.create("twice", "first").await?;
        match self.store.create(&self.key("twice"), "second").await {
            Err(CreateError::Exists) => {}
            Ok(()) => return Err("the store ignores create-if-absent (If-None-Match: *): writes would be lost".into()),
            Err(error) => return Err(format!("the second create failed otherwise: {}", explain(&error))),
        }
        let seen = self.get("twice").await?;
        expect(
            seen.as_deref() == Some(b"first"),
            "a refused create replaced the object: writes would be lost",
        )
    }

    async fn race(&self) -> Verdict {
        let key = self.key("race");
        let racers = (0..self.options.racers).map(async |i| {
            let outcome = self.store.create(&key, Bytes::from(format!("racer {i}"))).await;
            (i, outcome)
        });
        let outcomes = join_all(racers).await;
        let winners: Vec<usize> = outcomes.iter().filter(|(_, o)| o.is_ok()).map(|(i, _)| *i).collect();
        let [winner] = winners[..] else {
            return Err(format!(
                "{} of {} concurrent creates of one key succeeded, must be one: create-if-absent is not atomic \
                 and writes would be lost",
                winners.len(),
                self.options.racers
            ));
        };
        let seen = self.get("race").await?;
        let own = seen.as_deref() == Some(format!("racer {winner}").as_bytes());
        expect(
            own,
            "the object is not the one whose create succeeded: writes would be lost",
        )
    }

    async fn list(&self) -> Verdict {
        for name in ["list/c", "list/a", "list/b"] {
            self.create(name, "x").await?;
        }
        let found: Result<Vec<_>, _> = self.store.list(&self.key("list"), None).try_collect().await;
        let mut found: Vec<Path> = found
            .map_err(|e| explain(&e))?
            .into_iter()
            .map(|o| o.location)
            .collect();
        if !self.store.lists_in_order() {
            found.sort_unstable();
        }
        let wanted = ["list/a", "list/b", "list/c"].map(|name| self.key(name));
        expect(found == wanted, "objects just created are not listed, or not in order")
    }

    async fn range(&self) -> Verdict {
        self.create("range", "0123456789").await?;
        let found = self
            .store
            .get_range(&self.key("range"), 2..5)
            .await
            .map_err(|e| explain(&e))?;
        expect(found.as_deref() == Some(b"234"), "a ranged read returned other bytes")
    }

    async fn large_body(&self) -> Verdict {
        let mut body = Vec::with_capacity(self.options.body_bytes + 16);
        while body.len() < self.options.body_bytes {
            body.extend_from_slice(&self.store.inner.rng.u128().to_le_bytes());
        }
        let body = Bytes::from(body);
        let created = self.store.create(&self.key("large"), body.clone()).await;
        created.map_err(|error| explain(&error))?;
        expect(
            self.get("large").await? == Some(body),
            "a large object came back changed",
        )
    }

    async fn delete(&self) -> Verdict {
        self.create("deleted", "old").await?;
        self.store.delete(&self.key("deleted")).await.map_err(|e| explain(&e))?;
        expect(self.get("deleted").await?.is_none(), "a deleted object is still read")?;
        self.create("deleted", "new").await?;
        let seen = self.get("deleted").await?;
        expect(
            seen.as_deref() == Some(b"new"),
            "an object created after a delete is not read back",
        )
    }

    async fn clean_up(&self) -> Verdict {
        let prefix = paths::probe_prefix(self.run);
        let found: Result<Vec<_>, _> = self.store.list(&prefix, None).try_collect().await;
        for object in found.map_err(|e| explain(&e))? {
            self.store.delete(&object.location).await.map_err(|e| explain(&e))?;
        }
        let left: Result<Vec<_>, _> = self.store.list(&prefix, None).try_collect().await;
        expect(
            left.map_err(|e| explain(&e))?.is_empty(),
            "deleted objects are still listed",
        )
    }
}

/// The content of the FORMAT object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format {
    pub layout_version: u32,
    #[serde(with = "uuid_text")]
    pub deployment_id: uuid::Uuid,
    /// Milliseconds since the Unix epoch.
    pub created_at: u64,
}

/// A UUID as its usual text.
mod uuid_text {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use uuid::Uuid;

    pub fn serialize<S: Serializer>(id: &Uuid, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(id)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Uuid, D::Error> {
        Uuid::parse_str(&String::deserialize(from)?).map_err(de::Error::custom)
    }
}

/// A store that passed the probe.
pub struct Opened {
    pub store: Store,
    pub format: Format,
    pub report: ProbeReport,
}

/// Why a store was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error("this object store cannot be used: {0}")]
    Unfit(String),
    #[error("object store cannot be reached")]
    Store(#[from] StoreError),
    #[error("object FORMAT cannot be read: {0}")]
    Format(String),
    #[error("the store has layout version {found}, this build knows {LAYOUT_VERSION}")]
    Layout { found: u32 },
}

/// Connects, probes, and creates or checks the deployment's identity.
pub async fn open(config: &StoreConfig, runtime: &Runtime, options: ProbeOptions) -> Result<Opened, OpenError> {
    let backend = backend::build(config, runtime.clock.wall())?;
    let store = Store::new(backend.store, runtime.clock.clone(), runtime.rng.clone(), config);
    let store = store.listing_in_order(backend.lists_in_order);
    let report = probe(&store, options).await;
    if let Some(why) = report.failure() {
        return Err(OpenError::Unfit(why));
    }
    let format = identify(&store).await?;
    Ok(Opened { store, format, report })
}

/// Reads FORMAT, which whoever comes first creates. One GET, and a PUT and a GET on an empty store.
pub async fn identify(store: &Store) -> Result<Format, OpenError> {
    let key = paths::format();
    let fresh = Format {
        layout_version: LAYOUT_VERSION,
        deployment_id: store.inner.rng.uuid(),
        created_at: clock::wall_ms(&*store.inner.clock),
    };
    let body = Bytes::from(serde_json::to_vec(&fresh).expect("a struct of plain fields is JSON"));
    for _ in 0..FORMAT_TRIES {
        if let Some(bytes) = store.get(&key).await? {
            return check_format(&bytes);
        }
        // Whether it succeeded is read back: only what is stored counts.
        if let Err(CreateError::Refused(error)) = store.create(&key, body.clone()).await {
            return Err(error.into());
        }
        if let Some(bytes) = store.get(&key).await? {
            return check_format(&bytes);
        }
        tokio::time::sleep(FORMAT_PAUSE).await;
    }
    Err(OpenError::Format("it could not be created".into()))
}

fn check_format(bytes: &[u8]) -> Result<Format, OpenError> {
    #[derive(Deserialize)]
    struct Version {
        layout_version: u32,
    }
    let bad = |error: serde_json::Error| OpenError::Format(error.to_string());
    // The version first: later layouts may have other fields.
    let Version { layout_version: found } = serde_json::from_slice(bytes).map_err(bad)?;
    if found != LAYOUT_VERSION {
        return Err(OpenError::Layout { found });
    }
    serde_json::from_slice(bytes).map_err(bad)
}
