//! What the oldest state of a namespace that is kept says: all that decides what is garbage.

use std::collections::BTreeSet;

use ulid::Ulid;

use crate::manifest::{Deletions, Gen, Manifest};
use crate::model::Seq;
use crate::store::paths::{NsKey, NsObject};
use crate::wal::Digest;

/// The oldest retained manifest, as far as it matters here. The default is the state without a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Oldest {
    pub generation: Gen,
    /// How much of the log it has in segments.
    pub indexed_seq: Seq,
    pub indexed_digest: Digest,
    /// The objects of the namespace's own that it names.
    own: BTreeSet<NsObject>,
    /// The other namespaces that it names objects of.
    foreign: BTreeSet<NsKey>,
}

impl Oldest {
    /// What a manifest says.
    pub fn of(manifest: &Manifest) -> Self {
        let mut this = Self {
            generation: manifest.generation,
            indexed_seq: manifest.indexed_seq,
            indexed_digest: manifest.indexed_digest,
            ..Self::default()
        };
        for segment in &manifest.segments {
            if segment.meta.inline.is_none() {
                this.name(&segment.meta.owner, NsObject::Segment(segment.meta.id.0));
            }
            if let Deletions::Object(object) = &segment.deletions {
                this.name(&object.owner, NsObject::Deletions(object.key));
            }
        }
        this
    }

    fn name(&mut self, owner: &Option<NsKey>, object: NsObject) {
        match owner {
            None => drop(self.own.insert(object)),
            Some(owner) => drop(self.foreign.insert(owner.clone())),
        }
    }

    /// How many names it holds in memory.
    pub(super) fn weight(&self) -> usize {
        self.own.len() + self.foreign.len()
    }

    /// Whether it names an object of the namespace's own.
    pub fn names(&self, object: &NsObject) -> bool {
        self.own.contains(object)
    }

    /// Whether it names objects of `owner`.
    pub fn names_foreign(&self, owner: &NsKey) -> bool {
        self.foreign.contains(owner)
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
