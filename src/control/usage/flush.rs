//! From memory into the store: a stream of parts per organization and month.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex as Lock;
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::meter::{Counters, Meters};
use super::{Month, Stored, Sums};
use crate::base::clock::wall_ms;
use crate::control::Control;
use crate::control::own::{NotCreated, create_own};
use crate::model::OrgId;
use crate::store::paths::control as paths;
use crate::telemetry;

/// A stream that had nothing to write for so long is forgotten.
const STREAM_IDLE: Duration = Duration::from_secs(6 * 3600);

/// What this node metered.
#[derive(Default)]
pub struct Usages {
    pub meters: Meters,
    /// Held while parts are written: one flush at a time.
    pub(super) streams: Mutex<HashMap<(OrgId, Month), Stream>>,
    /// Organizations that were refused for their budgets since the last review. Held to add or take.
    reviews: Lock<BTreeSet<OrgId>>,
}

/// The most organizations of which it is remembered that they were refused.
const REVIEWS_MAX: usize = 1024;

impl Usages {
    /// Has a budget looked at within the minute.
    pub fn ask_for_review(&self, org: &OrgId) {
        let mut reviews = self.reviews.lock().unwrap_or_else(|e| e.into_inner());
        if !reviews.contains(org) && reviews.len() < REVIEWS_MAX {
            reviews.insert(org.clone());
        }
    }

    /// Whose budgets are to be looked at.
    pub fn take_reviews(&self) -> BTreeSet<OrgId> {
        std::mem::take(&mut *self.reviews.lock().unwrap_or_else(|e| e.into_inner()))
    }
}

/// The usage of one flush.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Part {
    pub sums: Sums,
    pub stored: BTreeMap<String, Stored>,
}

impl Part {
    fn is_empty(&self) -> bool {
        self.sums.namespaces.is_empty() && self.sums.keys.is_empty() && self.stored.is_empty()
    }

    fn absorb(&mut self, counters: Counters) {
        let Counters {
            namespaces,
            keys,
            stored,
            ..
        } = counters;
        let sums = Sums {
            namespaces: namespaces.into_iter().collect(),
            keys: keys.into_iter().collect(),
        };
        self.sums.add(&sums);
        merge_stored(&mut self.stored, stored);
    }
}

/// The newest of each.
pub fn merge_stored(all: &mut BTreeMap<String, Stored>, more: impl IntoIterator<Item = (String, Stored)>) {
    for (name, stored) in more {
        let known = all.entry(name).or_default();
        *known = stored.later(*known);
    }
}

/// The parts of one node, of an organization in a month.
pub struct Stream {
    /// Nobody else's, ever.
    pub id: String,
    /// Parts that are there.
    pub written: u64,
    /// The part after them, if it was sent and may be there: it is sent again before anything else.
    pub pending: Option<(Part, Bytes)>,
    /// What comes after that.
    pub next: Part,
    used: Duration,
}

impl Stream {
    /// What is not known to be there, and the numbers it has or will have.
    pub fn unwritten(&self) -> impl Iterator<Item = (u64, &Part)> {
        let pending = self.pending.iter().map(|(part, _)| (self.written + 1, part));
        let after = self.written + 1 + u64::from(self.pending.is_some());
        pending.chain((!self.next.is_empty()).then_some((after, &self.next)))
    }
}

/// The name of a part.
pub fn part_name(stream: &str, number: u64) -> String {
    format!("{stream}-{number:08}")
}

/// The stream and number in a part's name; `None` for a foreign object.
pub fn parse_part(key: &Path) -> Option<(&str, u64)> {
    let (stream, number) = key.as_ref().rsplit('/').next()?.rsplit_once('-')?;
    Some((stream, number.parse().ok()?))
}

impl Control {
    /// Writes what was metered since the last time; returns of whom and which months something was written.
    /// What the store does not take stays for the next time.
    ///
    /// Costs one PUT per organization with usage.
    pub async fn flush_usage(&self) -> BTreeSet<(OrgId, Month)> {
        let mut streams = self.usages().streams.lock().await;
        self.gather(&mut streams);
        let now = self.runtime().clock.boot();
        let mut written = BTreeSet::new();
        for ((org, month), stream) in streams.iter_mut() {
            match self.write_parts(org, *month, stream).await {
                Ok(false) => {}
                Ok(true) => {
                    stream.used = now;
                    written.insert((org.clone(), *month));
                }
                Err(error) => {
                    stream.used = now;
                    metrics::counter!(telemetry::FLUSH_FAILURES, "what" => "usage").increment(1);
                    tracing::warn!(error = &error as &dyn std::error::Error, "usage was not written");
                }
            }
        }
        streams.retain(|_, s| s.unwritten().next().is_some() || now.saturating_sub(s.used) < STREAM_IDLE);
        written
    }

    /// Moves what was metered into the streams.
    pub(super) fn gather(&self, streams: &mut HashMap<(OrgId, Month), Stream>) {
        let now = self.runtime().clock.boot();
        for (org, counters) in self.usages().meters.take() {
            let stream = streams.entry((org, counters.month)).or_insert_with(|| Stream {
                id: self
                    .runtime()
                    .rng
                    .ulid(wall_ms(self.runtime().clock.as_ref()))
                    .to_string()
                    .to_ascii_lowercase(),
                written: 0,
                pending: None,
                next: Part::default(),
                used: now,
            });
            stream.next.absorb(counters);
        }
    }

    /// Whether something was written.
    async fn write_parts(&self, org: &OrgId, month: Month, stream: &mut Stream) -> Result<bool, NotCreated> {
        let mut any = false;
        loop {
            let was_sent = stream.pending.is_some();
            if !was_sent && !stream.next.is_empty() {
                let part = std::mem::take(&mut stream.next);
                let body = serde_json::to_vec(&part).expect("a part is made of what JSON has");
                // Remembered before it is sent: a dropped future is a lost reply.
                stream.pending = Some((part, body.into()));
            }
            let Some((_, body)) = &stream.pending else {
                return Ok(any);
            };
            let name = part_name(&stream.id, stream.written + 1);
            let key = paths::usage_part(org, &month.to_string(), &name);
            create_own(self.records().store(), &key, body).await?;
            stream.pending = None;
            stream.written += 1;
            any = true;
        }
    }
}
