//! The manifests: each for itself, and that they follow one another.

use std::collections::BTreeMap;

use futures::{StreamExt, stream};

use super::{FindingKind, FsckError, Look, READ_AT_ONCE};
use crate::manifest::{self, Deletions, Gen, Manifest, ManifestError};
use crate::model::Seq;
use crate::store::paths::{self, NsObject};
use crate::wal::Digest;

/// What is known of the manifests that are there.
#[derive(Default)]
pub(super) struct Past {
    /// The newest that can be read.
    pub newest: Option<(Manifest, Digest)>,
    /// The entries that manifests end with, by their digests.
    pub ends: BTreeMap<Seq, (Gen, Digest)>,
    /// Objects that are named and not listed, with the last generation that names them.
    gone: BTreeMap<String, Gen>,
}

impl Past {
    /// Entries up to this one are in segments.
    pub fn indexed_seq(&self) -> Seq {
        self.newest.as_ref().map_or(Seq::ZERO, |(m, _)| m.indexed_seq)
    }
}

impl Look<'_> {
    /// Reads all manifests, oldest first. Holds two, and what is being read.
    pub(super) async fn all_manifests(&mut self) -> Result<Past, FsckError> {
        let mut past = Past::default();
        let generations: Vec<Gen> = self.listing.manifests.keys().copied().collect();
        let manifests = self.manifests.clone();
        let read = move |generation| {
            let manifests = manifests.clone();
            async move { (generation, manifests.get(generation).await) }
        };
        // Whole manifests wait here: few at a time.
        let mut reads = stream::iter(generations).map(read).buffered(READ_AT_ONCE / 4);
        let mut before: Option<Gen> = None;
        while let Some((generation, found)) = reads.next().await {
            if let Some(before) = before
                && before.next() != generation
            {
                let prefix = paths::manifest_prefix(self.ns);
                let what = format!("there are manifests {before} and {generation}, and none between them");
                self.find(FindingKind::PastIncomplete, prefix, what);
            }
            before = Some(generation);
            match found {
                // Collected since it was listed.
                Ok(None) => {}
                Ok(Some((manifest, digest))) => self.manifest(manifest, digest, &mut past),
                Err(ManifestError::Damaged { key, source }) => {
                    let (kind, what) = Self::undecodable(FindingKind::ManifestDamaged, &source);
                    self.find(kind, key, what);
                }
                Err(error) => return Err(error.into()),
            }
        }
        drop(reads);
        self.gone(&mut past);
        self.hint(&past).await?;
        Ok(past)
    }

    fn manifest(&mut self, manifest: Manifest, digest: Digest, past: &mut Past) {
        let generation = manifest.generation;
        let key = paths::manifest(self.ns, generation);
        let previous = past.newest.as_ref().map(|(m, digest)| (m, *digest));
        let previous = previous.filter(|(m, _)| m.generation.next() == generation);
        if (previous.is_some() || generation == Gen(1))
            && let Err(broken) = manifest.check_successor(previous)
        {
            self.find(FindingKind::ManifestsBroken, key, broken.why);
        }
        for object in own_objects(&manifest) {
            let (is_there, key) = match object {
                NsObject::Segment(id) => {
                    self.named.segments.insert(id);
                    (self.listing.segments.contains_key(&id), paths::segment(self.ns, id))
                }
                NsObject::Deletions(id) => {
                    self.named.deletions.insert(id);
                    (self.listing.deletions.contains_key(&id), paths::deletions(self.ns, id))
                }
                _ => continue,
            };
            if !is_there {
                past.gone.insert(key.to_string(), generation);
            }
        }
        past.ends
            .insert(manifest.indexed_seq, (generation, manifest.indexed_digest));
        past.newest = Some((manifest, digest));
    }

    /// What only manifests before the newest name, and is gone.
    fn gone(&mut self, past: &mut Past) {
        let newest = past.newest.as_ref().map(|(m, _)| m.generation);
        for (key, generation) in std::mem::take(&mut past.gone) {
            if Some(generation) != newest {
                let what = format!("it does not exist, and manifest {generation}, an old one, names it");
                self.find(FindingKind::PastIncomplete, key, what);
            }
        }
    }

    /// The copy of the newest manifest, or of one that was.
    async fn hint(&mut self, past: &Past) -> Result<(), FsckError> {
        let key = paths::head(self.ns);
        let Some(bytes) = self.store.get(&key).await? else {
            // Who publishes leaves it afterwards, if nothing goes wrong.
            return Ok(());
        };
        let wrong = match manifest::decode(&bytes) {
            Err(error) => Some(error.to_string()),
            Ok((found, digest)) => match &past.newest {
                None => Some(format!("it is manifest {}, and there is none", found.generation)),
                Some((newest, own)) if newest.generation == found.generation && *own != digest => {
                    Some(format!("it is another manifest {} than there is", found.generation))
                }
                Some(_) => None,
            },
        };
        if let Some(wrong) = wrong {
            self.find(FindingKind::HintWrong, key, wrong);
        }
        Ok(())
    }
}

/// The objects in the namespace's own directory that a manifest names.
fn own_objects(manifest: &Manifest) -> impl Iterator<Item = NsObject> {
    manifest.segments.iter().flat_map(|named| {
        let is_object = named.meta.owner.is_none() && named.meta.inline.is_none();
        let segment = is_object.then_some(NsObject::Segment(named.meta.id.0));
        let deletions = match &named.deletions {
            Deletions::Object(object) if object.owner.is_none() => Some(NsObject::Deletions(object.key)),
            _ => None,
        };
        segment.into_iter().chain(deletions)
    })
}
