//! The sum of a month: parts are counted once and removed.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectMeta;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::flush::{Part, merge_stored, parse_part};
use super::{Month, Stored, Sums, Used};
use crate::base::clock::wall_ms;
use crate::control::Control;
use crate::error::{Error, ErrorKind, Result};
use crate::model::OrgId;
use crate::store::StoreError;
use crate::store::paths::control as paths;
use crate::store::record::RecordError;

/// Parts that one roll-up counts; the rest is for the next one.
const PARTS_MAX: usize = 1000;
/// Parts read or removed at a time.
const AT_ONCE: usize = 16;
/// A larger part was not written by a node.
const PART_BYTES_MAX: usize = 64 << 20;
/// Namespaces whose bytes are remembered.
const STORED_MAX: usize = 20_000;
/// A namespace that has stored nothing for so long is forgotten, in milliseconds.
const EMPTY_FOR: u64 = 24 * 3600 * 1000;

/// The record of a month.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Rollup {
    /// By stream, the number of its last part that is counted: all before it are, too.
    counted: BTreeMap<String, u64>,
    sums: Sums,
}

/// The record of what is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct StoredNow {
    namespaces: BTreeMap<String, Stored>,
}

/// What an organization used in some months, and stores now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrgUsage {
    pub sums: Sums,
    /// By namespace; also of those that do not exist any more, for a while.
    pub stored: BTreeMap<String, Stored>,
}

impl OrgUsage {
    /// What one namespace used, and the bytes that it stores.
    pub fn of(&self, namespace: &str) -> (Used, u64) {
        let used = self.sums.namespaces.get(namespace).copied().unwrap_or_default();
        (used, self.stored.get(namespace).map_or(0, |s| s.bytes))
    }

    /// What all namespaces store together.
    pub fn stored_bytes(&self) -> u64 {
        self.stored.values().fold(0, |sum, s| sum.saturating_add(s.bytes))
    }
}

/// The parts of a month by stream and number.
type Parts = BTreeMap<String, BTreeMap<u64, Part>>;

fn unreadable(error: StoreError) -> Error {
    RecordError::Store(error).into()
}

/// Adds what follows in each stream without a gap. What was listed after a gap counts when the gap is closed.
fn count(rollup: &mut Rollup, parts: &Parts) -> bool {
    let mut any = false;
    for (stream, parts) in parts {
        let mut counted = rollup.counted.get(stream).copied().unwrap_or(0);
        while let Some(part) = parts.get(&(counted + 1)) {
            rollup.sums.add(&part.sums);
            counted += 1;
            any = true;
        }
        if counted > 0 {
            rollup.counted.insert(stream.clone(), counted);
        }
    }
    any
}

impl Control {
    /// Counts the parts of a month into its record and removes those that are counted. Any node may do it, several
    /// at once as well.
    ///
    /// Costs three LISTs, two GETs, two PUTs, and a GET and a DELETE per part; one LIST when there is none.
    pub async fn roll_up_usage(&self, org: &OrgId, month: Month) -> Result<()> {
        let mut keys = self.part_keys(org, month).await?;
        if keys.is_empty() {
            return Ok(());
        }
        // In this order no stream's later parts are taken without its earlier ones.
        keys.sort_unstable();
        keys.truncate(PARTS_MAX);
        let parts = self.read_parts(keys.clone()).await?;
        let stored = parts.values().flat_map(BTreeMap::values).flat_map(|p| p.stored.clone());
        self.note_stored(org, stored.collect()).await?;
        let record = paths::usage_rollup(org, &month.to_string());
        let mut unchanged = None;
        let outcome = self.records().update::<Rollup, _>(&record, |rollup| {
            let mut rollup = rollup.unwrap_or_default();
            unchanged = (!count(&mut rollup, &parts)).then(|| rollup.counted.clone());
            match unchanged {
                // Others have counted all of it: only to be removed.
                Some(_) => Err(Error::new(ErrorKind::Conflict, "nothing is to be counted")),
                None => Ok(Some(rollup)),
            }
        });
        let counted = match (outcome.await, unchanged) {
            (Ok(written), _) => written.value.unwrap_or_default().counted,
            (Err(_), Some(counted)) => counted,
            (Err(error), None) => return Err(error),
        };
        let is_counted = |key: &Path| {
            let name = parse_part(key);
            name.is_some_and(|(stream, number)| counted.get(stream).is_some_and(|last| number <= *last))
        };
        keys.retain(is_counted);
        let store = self.records().store();
        let removals = keys.into_iter().map(|key| async move { store.delete(&key).await });
        let removed: Vec<_> = stream::iter(removals).buffer_unordered(AT_ONCE).collect().await;
        if let Some(error) = removed.into_iter().find_map(Result::err) {
            // The next roll-up finds it counted and removes it.
            tracing::debug!(%error, "a part of the usage was not removed");
        }
        Ok(())
    }

    /// What was used in some months, with what this node has not written yet.
    ///
    /// Costs per month two LISTs, a GET, and one GET per part that is not counted yet; and a LIST and a GET.
    pub async fn usage(&self, org: &OrgId, first: Month, last: Month) -> Result<OrgUsage> {
        let mut all = OrgUsage::default();
        let mut stored = BTreeMap::new();
        for month in first.to(last) {
            // Memory first, then parts, then the record: what moves on meanwhile is met again further on, and known
            // by its number.
            let mut parts = self.unwritten(org, month).await;
            for (stream, found) in self.read_parts(self.part_keys(org, month).await?).await? {
                parts.entry(stream).or_default().extend(found);
            }
            let record = paths::usage_rollup(org, &month.to_string());
            let rollup: Rollup = self.records().get(&record).await?.unwrap_or_default();
            all.sums.add(&rollup.sums);
            for (stream, parts) in parts {
                let counted = rollup.counted.get(&stream).copied().unwrap_or(0);
                for (_, part) in parts.range(counted + 1..) {
                    all.sums.add(&part.sums);
                    merge_stored(&mut stored, part.stored.clone());
                }
            }
        }
        let record: Option<StoredNow> = self.records().get(&paths::usage_stored(org)).await?;
        merge_stored(&mut stored, record.unwrap_or_default().namespaces);
        all.stored = stored;
        Ok(all)
    }

    /// The current month.
    pub fn month(&self) -> Month {
        Month::of_ms(wall_ms(self.runtime().clock.as_ref()))
    }

    async fn unwritten(&self, org: &OrgId, month: Month) -> Parts {
        let mut streams = self.usages().streams.lock().await;
        self.gather(&mut streams);
        let mut parts = Parts::new();
        if let Some(stream) = streams.get(&(org.clone(), month)) {
            let unwritten = stream.unwritten().map(|(number, part)| (number, part.clone()));
            parts.insert(stream.id.clone(), unwritten.collect());
        }
        parts
    }

    async fn part_keys(&self, org: &OrgId, month: Month) -> Result<Vec<Path>> {
        let directory = paths::usage_month(org, &month.to_string());
        let listed = self.records().store().list(&directory, None);
        let keys = listed.map_ok(|o: ObjectMeta| o.location);
        let keys: Vec<Path> = keys.try_collect().await.map_err(unreadable)?;
        Ok(keys.into_iter().filter(|key| parse_part(key).is_some()).collect())
    }

    /// The parts under these keys, without those that were removed meanwhile.
    async fn read_parts(&self, keys: Vec<Path>) -> Result<Parts> {
        let store = self.records().store();
        let bodies = keys
            .into_iter()
            .map(|key| async move { Ok((store.get(&key).await?, key)) });
        let bodies: Vec<_> = stream::iter(bodies)
            .buffered(AT_ONCE)
            .try_collect()
            .await
            .map_err(unreadable)?;
        let mut parts = Parts::new();
        for (body, key) in bodies {
            let (Some(body), Some((stream, number))) = (body, parse_part(&key)) else {
                continue;
            };
            let damaged = |reason: String| RecordError::Damaged {
                key: key.to_string(),
                reason,
            };
            if body.len() > PART_BYTES_MAX {
                return Err(damaged(format!("it has {} bytes", body.len())).into());
            }
            let part = serde_json::from_slice(&body).map_err(|e| damaged(e.to_string()))?;
            parts.entry(stream.to_owned()).or_default().insert(number, part);
        }
        Ok(parts)
    }

    /// Remembers what namespaces store; the newest counts, so that this may be repeated.
    async fn note_stored(&self, org: &OrgId, stored: BTreeSet<(String, Stored)>) -> Result<()> {
        if stored.is_empty() {
            return Ok(());
        }
        let now = wall_ms(self.runtime().clock.as_ref());
        let change = |known: Option<StoredNow>| {
            let mut known = known.unwrap_or_default();
            merge_stored(&mut known.namespaces, stored.iter().cloned());
            let is_gone = |s: &Stored| s.bytes == 0 && now.saturating_sub(s.at) > EMPTY_FOR;
            known.namespaces.retain(|_, s| !is_gone(s));
            while known.namespaces.len() > STORED_MAX {
                known.namespaces.pop_last();
            }
            Ok(Some(known))
        };
        self.records().update(&paths::usage_stored(org), change).await?;
        Ok(())
    }
}
