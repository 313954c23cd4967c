//! What is remembered of the manifests of a namespace: which of them named which object last.

use std::collections::{BTreeMap, BTreeSet};

use ulid::Ulid;

use crate::manifest::{Deletions, Gen, Manifest};
use crate::model::Seq;
use crate::store::paths::{NsKey, NsObject};
use crate::wal::Digest;

/// What the manifests say that were read so far. A manifest never changes, so none is read twice.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// How much of the log each generation has in segments.
    indexed: BTreeMap<Gen, Seq>,
    /// The last generation that names an object of the namespace's own.
    named: BTreeMap<NsObject, Gen>,
    /// The last generation that names objects of another namespace.
    foreign: BTreeMap<NsKey, Gen>,
    newest: Option<Newest>,
}

/// Where the newest manifest that was read meets the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newest {
    pub generation: Gen,
    pub indexed_seq: Seq,
    pub indexed_digest: Digest,
}

impl History {
    /// Remembers what a manifest names.
    pub fn learn(&mut self, manifest: &Manifest) {
        let generation = manifest.generation;
        self.indexed.insert(generation, manifest.indexed_seq);
        if self.newest.is_none_or(|n| n.generation < generation) {
            self.newest = Some(Newest {
                generation,
                indexed_seq: manifest.indexed_seq,
                indexed_digest: manifest.indexed_digest,
            });
        }
        for segment in &manifest.segments {
            if segment.meta.inline.is_none() {
                self.name(&segment.meta.owner, NsObject::Segment(segment.meta.id.0), generation);
            }
            if let Deletions::Object(object) = &segment.deletions {
                self.name(&object.owner, NsObject::Deletions(object.key), generation);
            }
        }
    }

    fn name(&mut self, owner: &Option<NsKey>, object: NsObject, generation: Gen) {
        let last = match owner {
            None => self.named.entry(object).or_insert(generation),
            Some(owner) => self.foreign.entry(owner.clone()).or_insert(generation),
        };
        *last = generation.max(*last);
    }

    /// Whether a generation was read.
    pub fn knows(&self, generation: Gen) -> bool {
        self.indexed.contains_key(&generation)
    }

    /// How much of the log a generation has in segments, if it was read.
    pub fn indexed_seq(&self, generation: Gen) -> Option<Seq> {
        self.indexed.get(&generation).copied()
    }

    /// Whether a generation from `oldest` on names an object of the namespace's own.
    pub fn names(&self, object: &NsObject, oldest: Gen) -> bool {
        self.named.get(object).is_some_and(|last| *last >= oldest)
    }

    /// Whether a generation from `oldest` on names objects of `owner`.
    pub fn names_foreign(&self, owner: &NsKey, oldest: Gen) -> bool {
        self.foreign.get(owner).is_some_and(|last| *last >= oldest)
    }

    /// The newest manifest that was read.
    pub fn newest(&self) -> Option<Newest> {
        self.newest
    }

    /// Forgets generations before `oldest`.
    pub fn forget_before(&mut self, oldest: Gen) {
        self.indexed.retain(|generation, _| *generation >= oldest);
        self.named.retain(|_, last| *last >= oldest);
        self.foreign.retain(|_, last| *last >= oldest);
    }

    /// Which of these were not read.
    pub fn missing(&self, generations: impl Iterator<Item = Gen>) -> BTreeSet<Gen> {
        generations.filter(|generation| !self.knows(*generation)).collect()
    }
}

/// A hold on objects of the namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub id: Ulid,
    pub objects: BTreeSet<NsObject>,
    /// Whether whoever holds them may still need them.
    pub needed: bool,
}
