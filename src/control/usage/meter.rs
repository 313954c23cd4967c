//! Counters in memory, spread over locks.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use super::{Month, Stored, Used};
use crate::model::OrgId;

/// Locks that counters are spread over.
const SHARDS: usize = 16;
/// Names with counters of their own that one lock has between two flushes, of each kind.
pub const LINES_MAX: usize = 4096;

/// What was metered since the last flush.
#[derive(Default)]
pub struct Meters {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    orgs: HashMap<OrgId, Vec<Counters>>,
    lines: usize,
}

/// The counters of an organization in a month.
#[derive(Clone, Debug)]
pub struct Counters {
    pub month: Month,
    pub namespaces: HashMap<String, Used>,
    pub keys: HashMap<String, Used>,
    pub stored: HashMap<String, Stored>,
}

impl Counters {
    fn new(month: Month) -> Self {
        Self {
            month,
            namespaces: HashMap::new(),
            keys: HashMap::new(),
            stored: HashMap::new(),
        }
    }
}

impl Shard {
    fn counters(&mut self, org: &OrgId, month: Month) -> &mut Counters {
        if !self.orgs.contains_key(org) {
            self.orgs.insert(org.clone(), Vec::new());
        }
        let months = self.orgs.get_mut(org).expect("it was put there");
        // The newest is the last; more than two at a time are not there, since they are taken every minute.
        let at = match months.iter().position(|c| c.month == month) {
            Some(at) => at,
            None => {
                months.push(Counters::new(month));
                months.len() - 1
            }
        };
        &mut months[at]
    }
}

/// Adds to the counter of a name; of the empty name when there are too many. Says whether there is one more.
fn count(counters: &mut HashMap<String, Used>, name: &str, used: &Used, is_full: bool) -> bool {
    if let Some(sum) = counters.get_mut(name) {
        sum.add(used);
        return false;
    }
    let name = if is_full { "" } else { name };
    let before = counters.len();
    counters.entry(name.to_owned()).or_default().add(used);
    counters.len() > before
}

impl Meters {
    pub fn add(&self, org: &OrgId, namespace: &str, key: &str, now_ms: u64, used: &Used) {
        let mut shard = self.shard(org, namespace);
        let is_full = shard.lines >= LINES_MAX;
        let counters = shard.counters(org, Month::of_ms(now_ms));
        let one = count(&mut counters.namespaces, namespace, used, is_full);
        let other = count(&mut counters.keys, key, used, is_full);
        shard.lines += usize::from(one) + usize::from(other);
    }

    pub fn store(&self, org: &OrgId, namespace: &str, stored: Stored) {
        let mut shard = self.shard(org, namespace);
        let is_full = shard.lines >= LINES_MAX;
        let counters = shard.counters(org, Month::of_ms(stored.at));
        if let Some(known) = counters.stored.get_mut(namespace) {
            *known = stored.later(*known);
        } else if !is_full {
            counters.stored.insert(namespace.to_owned(), stored);
            shard.lines += 1;
        }
    }

    /// Takes everything.
    pub fn take(&self) -> Vec<(OrgId, Counters)> {
        let taken = self.shards.iter().map(|shard| std::mem::take(&mut *lock(shard)));
        let orgs = taken.flat_map(|shard| shard.orgs);
        orgs.flat_map(|(org, months)| months.into_iter().map(move |m| (org.clone(), m)))
            .collect()
    }

    fn shard(&self, org: &OrgId, namespace: &str) -> MutexGuard<'_, Shard> {
        let seed = xxhash_rust::xxh3::xxh3_64(org.as_str().as_bytes());
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(namespace.as_bytes(), seed);
        lock(&self.shards[(hash % SHARDS as u64) as usize])
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(|e| e.into_inner())
}
