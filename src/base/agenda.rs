//! What is to be done when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Things to be done, each at one time. What is due is found without looking at what is not.
pub struct Agenda<K> {
    at: BTreeMap<K, Duration>,
    by_time: BTreeSet<(Duration, K)>,
}

impl<K: Ord + Clone> Default for Agenda<K> {
    fn default() -> Self {
        Self {
            at: BTreeMap::new(),
            by_time: BTreeSet::new(),
        }
    }
}

impl<K: Ord + Clone> Agenda<K> {
    /// Enters a thing, or moves it to another time.
    pub fn set(&mut self, thing: K, at: Duration) {
        if let Some(before) = self.at.insert(thing.clone(), at) {
            if before == at {
                return;
            }
            let entry = (before, thing);
            self.by_time.remove(&entry);
            self.by_time.insert((at, entry.1));
            return;
        }
        self.by_time.insert((at, thing));
    }

    /// Enters a thing, or moves it if it was to be done later.
    pub fn set_by(&mut self, thing: K, at: Duration) {
        if self.at.get(&thing).is_none_or(|before| at < *before) {
            self.set(thing, at);
        }
    }

    /// When a thing is to be done.
    pub fn get(&self, thing: &K) -> Option<Duration> {
        self.at.get(thing).copied()
    }

    /// Strikes a thing out.
    pub fn remove(&mut self, thing: &K) {
        if let Some(at) = self.at.remove(thing) {
            self.by_time.remove(&(at, thing.clone()));
        }
    }

    /// Strikes out all but what is wanted.
    pub fn retain(&mut self, mut wanted: impl FnMut(&K) -> bool) {
        self.at.retain(|thing, _| wanted(thing));
        self.by_time.retain(|(_, thing)| self.at.contains_key(thing));
    }

    /// Takes the thing that comes first.
    pub fn pop(&mut self) -> Option<K> {
        let (_, thing) = self.by_time.pop_first()?;
        self.at.remove(&thing);
        Some(thing)
    }

    /// Takes the first thing whose time has come.
    pub fn pop_due(&mut self, now: Duration) -> Option<K> {
        self.next().filter(|at| *at <= now)?;
        self.pop()
    }

    /// When something is to be done next.
    pub fn next(&self) -> Option<Duration> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// How many things there are.
    pub fn len(&self) -> usize {
        self.at.len()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.at.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_come_in_the_order_of_their_times() {
        let at = Duration::from_secs;
        let mut agenda = Agenda::default();
        for (thing, time) in [("a", 5), ("b", 3), ("c", 9), ("d", 3), ("b", 7)] {
            agenda.set(thing, at(time));
        }
        agenda.set_by("c", at(8));
        agenda.set_by("c", at(20));
        assert_eq!(
            (agenda.len(), agenda.next(), agenda.get(&"c")),
            (4, Some(at(3)), Some(at(8)))
        );
        assert_eq!(
            (agenda.pop_due(at(2)), agenda.pop_due(at(3)), agenda.pop_due(at(3))),
            (None, Some("d"), None)
        );
        agenda.remove(&"a");
        agenda.remove(&"a");
        assert_eq!((agenda.next(), agenda.len()), (Some(at(7)), 2));
        agenda.set("e", at(1));
        agenda.retain(|thing| *thing != "b");
        assert_eq!((agenda.pop(), agenda.pop(), agenda.pop()), (Some("e"), Some("c"), None));
        assert!(agenda.is_empty() && agenda.by_time.is_empty());
    }
}
