//! Metered usage: who read, wrote and stored how much.
//!
//! ```text
//! a request → Control::meter (memory) → a part per minute (one object) → the roll-up of the month (a record)
//! ```
//!
//! # What stays true
//!
//! - What was metered counts exactly once, whatever is repeated. A node's parts of a month are a stream numbered from
//!   1; part n+1 is created only after part n is there. The roll-up remembers per stream how far it has counted, so
//!   that a part that is sent again, or appears late, changes nothing. Any node may roll up at any time.
//! - A crash loses what was metered since the last flush: a minute.
//! - Memory is bounded: beyond `meter::LINES_MAX` namespaces or keys, usage counts for the organization alone.
//!
//! What a namespace stores is not a sum but a fact of a moment: the newest one counts.
//!
//! # Cost
//!
//! Per organization with traffic: one PUT a minute; every five minutes (every minute for plans with budgets) three
//! LISTs, two PUTs, and a GET and a DELETE per part. Nothing without traffic.

mod budget;
mod flush;
mod meter;
mod rollup;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::Control;
use crate::error::{Error, Result};
use crate::model::OrgId;

pub use budget::Blocked;
pub(super) use flush::Usages;
pub use rollup::OrgUsage;

/// What was used. All counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Used {
    #[serde(skip_serializing_if = "is_zero")]
    pub queries: u64,
    /// Rows looked at.
    #[serde(skip_serializing_if = "is_zero")]
    pub rows_read: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub rows_returned: u64,
    /// Logical bytes, as answers say them in `billing`.
    #[serde(skip_serializing_if = "is_zero")]
    pub bytes_queried: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub bytes_returned: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub writes: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub rows_written: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub bytes_written: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Used {
    /// Adds.
    pub fn add(&mut self, more: &Used) {
        let pairs = [
            (&mut self.queries, more.queries),
            (&mut self.rows_read, more.rows_read),
            (&mut self.rows_returned, more.rows_returned),
            (&mut self.bytes_queried, more.bytes_queried),
            (&mut self.bytes_returned, more.bytes_returned),
            (&mut self.writes, more.writes),
            (&mut self.rows_written, more.rows_written),
            (&mut self.bytes_written, more.bytes_written),
        ];
        for (sum, n) in pairs {
            *sum = sum.saturating_add(n);
        }
    }
}

/// The most months that are asked for at once.
const MONTHS_MAX: u32 = 36;

impl Used {
    /// The usage object of the platform API (reference §8), and our fields beside it.
    pub fn json(&self, stored_bytes: u64) -> Json {
        json!({
            "rows_read": self.rows_read,
            "rows_written": self.rows_written,
            "storage_bytes": stored_bytes,
            "bytes_synced": 0,
            "queries": self.queries,
            "writes": self.writes,
            "rows_returned": self.rows_returned,
            "bytes_queried": self.bytes_queried,
            "bytes_returned": self.bytes_returned,
            "bytes_written": self.bytes_written,
        })
    }
}

/// What a namespace stored at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stored {
    /// Milliseconds since the epoch.
    pub at: u64,
    pub bytes: u64,
    /// What the namespace is known by; `None` when it does not exist.
    pub id: Option<Uuid>,
}

impl Stored {
    /// The later of two. Within one millisecond a deletion is the later: a write says again what is stored with
    /// the next one, a deletion is the last that is said.
    pub fn later(self, other: Self) -> Self {
        let order = |s: &Self| (s.at, s.id.is_none(), s.bytes, s.id);
        if order(&other) > order(&self) { other } else { self }
    }
}

/// Sums by name; what exceeds the bounds of names is under the empty one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sums {
    pub namespaces: BTreeMap<String, Used>,
    /// By the kind and id of the credential.
    pub keys: BTreeMap<String, Used>,
}

/// Names of a roll-up that have sums of their own, of each kind.
const NAMES_MAX: usize = 10_000;

impl Sums {
    /// Adds other sums.
    pub fn add(&mut self, more: &Sums) {
        add_all(&mut self.namespaces, &more.namespaces);
        add_all(&mut self.keys, &more.keys);
    }

    /// All namespaces together.
    pub fn total(&self) -> Used {
        let mut total = Used::default();
        self.namespaces.values().for_each(|used| total.add(used));
        total
    }
}

fn add_all(sums: &mut BTreeMap<String, Used>, more: &BTreeMap<String, Used>) {
    for (name, used) in more {
        let name = match sums.contains_key(name) || sums.len() < NAMES_MAX {
            true => name.as_str(),
            false => "",
        };
        sums.entry(name.to_owned()).or_default().add(used);
    }
}

/// A calendar month (UTC): years times 12, plus months from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month(u32);

impl Month {
    /// The month of a time in milliseconds since the epoch.
    pub fn of_ms(ms: u64) -> Self {
        use chrono::Datelike;
        let time = chrono::DateTime::from_timestamp_millis(i64::try_from(ms).unwrap_or(i64::MAX));
        let time = time.unwrap_or_default();
        Self(u32::try_from(time.year()).unwrap_or(0) * 12 + time.month0())
    }

    /// The months from this one to the other, both included.
    pub fn to(self, last: Month) -> impl Iterator<Item = Month> {
        (self.0..=last.0).map(Month)
    }
}

impl Control {
    /// The months that a request asks for: those that `from` and `to` are in, and all between; the current one
    /// when it names none.
    ///
    /// # Errors
    ///
    /// 400 for texts that are no times as RFC 3339 has them, and for too many months.
    pub fn period(&self, from: Option<&str>, to: Option<&str>) -> Result<(Month, Month)> {
        let time = |name: &str, text: Option<&str>| match text.filter(|t| !t.is_empty()) {
            None => Ok(None),
            // A plus that was not escaped arrives as a space.
            Some(text) => match chrono::DateTime::parse_from_rfc3339(&text.replace(' ', "+")) {
                Ok(time) => Ok(Some(u64::try_from(time.timestamp_millis()).unwrap_or(0))),
                Err(_) => Err(Error::invalid(format!(
                    "{name} must be a time such as 2026-01-31T00:00:00Z"
                ))),
            },
        };
        let (from, to) = (time("from", from)?, time("to", to)?);
        let last = to.map_or_else(|| self.month(), Month::of_ms);
        let first = from.map_or(last, Month::of_ms);
        if first > last || from.is_some_and(|from| to.is_some_and(|to| from > to)) {
            return Err(Error::invalid("from must not be after to, or after now"));
        }
        match last.0 - first.0 < MONTHS_MAX {
            true => Ok((first, last)),
            false => Err(Error::invalid(format!(
                "from and to may span {MONTHS_MAX} months at most"
            ))),
        }
    }
}

/// `yyyy-mm`.
impl std::fmt::Display for Month {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04}-{:02}", self.0 / 12, self.0 % 12 + 1)
    }
}

impl Control {
    /// Counts what a request used. Does no I/O, and allocates nothing for names that were seen within the minute.
    ///
    /// * `key` — the kind and id of the credential
    pub fn meter(&self, org: &OrgId, namespace: &str, key: &str, used: &Used) {
        let now = crate::base::clock::wall_ms(self.runtime().clock.as_ref());
        self.usages().meters.add(org, namespace, key, now, used);
    }

    /// Notes what a namespace stores now.
    ///
    /// * `id` — what it is known by; `None` when it was deleted
    pub fn meter_stored(&self, org: &OrgId, namespace: &str, bytes: u64, id: Option<Uuid>) {
        let at = crate::base::clock::wall_ms(self.runtime().clock.as_ref());
        self.usages().meters.store(org, namespace, Stored { at, bytes, id });
    }
}

#[cfg(test)]
mod tests;
