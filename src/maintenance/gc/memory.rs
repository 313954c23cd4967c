//! What a collector remembers of namespaces between two looks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ulid::Ulid;

use super::history::Oldest;
use crate::manifest::{Gen, Pin};
use crate::model::Seq;
use crate::store::paths::NsKey;

/// Names that are remembered of all namespaces together, of 16 bytes each with what goes with it. What is more is read
/// again.
const REMEMBERED_MAX: usize = 1 << 20;

/// What is remembered of a namespace.
#[derive(Default)]
pub(super) struct Known {
    pub oldest: Arc<Oldest>,
    /// The blobs that entries name.
    pub blobs: BTreeMap<Seq, Vec<Ulid>>,
    pub holds: BTreeMap<Ulid, Hold>,
}

/// A hold on objects of the namespace, and what is known of who holds them.
pub(super) struct Hold {
    pub pin: Pin,
    /// The oldest manifest that is kept of the namespace that holds them, when that was read.
    pub read: Option<Read>,
    /// It was needed, and is not asked again before.
    pub needed_until: Duration,
}

/// What matters here of a manifest of another namespace.
#[derive(Clone, Copy)]
pub(super) struct Read {
    pub generation: Gen,
    pub indexed_seq: Seq,
    /// Whether it names objects of the namespace that is collected.
    pub names: bool,
}

impl Hold {
    pub fn of(pin: Pin) -> Self {
        Self {
            pin,
            read: None,
            needed_until: Duration::ZERO,
        }
    }
}

impl Known {
    /// How many names it holds, about.
    fn weight(&self) -> usize {
        let blobs = self.blobs.values().map(|blobs| 2 + blobs.len()).sum::<usize>();
        let holds = self.holds.values();
        let held = holds.map(|hold| 16 + hold.pin.segments.len() + hold.pin.deletions.len());
        16 + 4 * self.oldest.weight() + blobs + held.sum::<usize>()
    }
}

/// What is remembered of all namespaces.
#[derive(Default)]
pub(super) struct Memory {
    /// Protects what is remembered; held to take something out or put it back.
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    known: BTreeMap<NsKey, Known>,
    weight: usize,
}

impl Memory {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out what is remembered of a namespace.
    pub fn take(&self, ns: &NsKey) -> Known {
        let mut inside = self.inside();
        let known = inside.known.remove(ns).unwrap_or_default();
        inside.weight = inside.weight.saturating_sub(known.weight());
        known
    }

    /// Remembers, if there is room for it.
    pub fn keep(&self, ns: &NsKey, known: Known) {
        let mut inside = self.inside();
        let weight = inside.weight + known.weight();
        if weight <= REMEMBERED_MAX {
            let before = inside.known.insert(ns.clone(), known);
            // Two looks at one namespace at the same time.
            inside.weight = weight.saturating_sub(before.map_or(0, |known| known.weight()));
        }
    }

    /// How many namespaces are remembered, and how many names of them.
    #[cfg(test)]
    pub fn size(&self) -> (usize, usize) {
        let inside = self.inside();
        (inside.known.len(), inside.weight)
    }
}
