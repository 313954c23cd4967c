//! What lies in the directory of a namespace, and which namespaces have one.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt;
use ulid::Ulid;

use crate::model::{Gen, OrgId, Seq};
use crate::store::paths::{self, NsKey, NsObject};
use crate::store::{Store, StoreError};

/// The objects of a namespace with their sizes in bytes, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    pub entries: BTreeMap<Seq, u64>,
    pub blobs: BTreeMap<Ulid, u64>,
    pub manifests: BTreeMap<Gen, u64>,
    pub head: Option<u64>,
    pub segments: BTreeMap<Ulid, u64>,
    pub deletions: BTreeMap<Ulid, u64>,
    pub pins: BTreeMap<Ulid, u64>,
    /// Role and term.
    pub leases: BTreeSet<(String, u64)>,
    pub plans: BTreeSet<Ulid>,
    /// Tokens of copies.
    pub operations: BTreeSet<Ulid>,
    /// Objects that are not Shoal's.
    pub foreign: u64,
    pub objects: u64,
    pub bytes: u64,
}

impl Listing {
    /// Lists the directory of a namespace. One LIST per thousand objects.
    pub async fn of(store: &Store, ns: &NsKey) -> Result<Self, StoreError> {
        let mut listing = Self::default();
        let mut found = store.list(&paths::namespace_prefix(ns), None);
        while let Some(object) = found.try_next().await? {
            listing.add(paths::parse_object(&object.location), object.size);
        }
        Ok(listing)
    }

    fn add(&mut self, object: Option<NsObject>, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
        match object {
            None => self.foreign += 1,
            Some(NsObject::Entry(seq)) => drop(self.entries.insert(seq, bytes)),
            Some(NsObject::Blob(id)) => drop(self.blobs.insert(id, bytes)),
            Some(NsObject::Manifest(generation)) => drop(self.manifests.insert(generation, bytes)),
            Some(NsObject::Head) => self.head = Some(bytes),
            Some(NsObject::Segment(id)) => drop(self.segments.insert(id, bytes)),
            Some(NsObject::Deletions(id)) => drop(self.deletions.insert(id, bytes)),
            Some(NsObject::Pin(id)) => drop(self.pins.insert(id, bytes)),
            Some(NsObject::Lease { role, term }) => drop(self.leases.insert((role, term))),
            Some(NsObject::CollectionPlan(id)) => drop(self.plans.insert(id)),
            Some(NsObject::Operation(token, _)) => drop(self.operations.insert(token)),
        }
    }

    /// The newest entry.
    pub fn newest_entry(&self) -> Option<Seq> {
        self.entries.last_key_value().map(|(seq, _)| *seq)
    }

    /// The newest manifest.
    pub fn newest_manifest(&self) -> Option<Gen> {
        self.manifests.last_key_value().map(|(generation, _)| *generation)
    }

    /// Entries that are not there though others are.
    ///
    /// * `from` — entries up to this one are in segments
    pub fn gaps(&self, from: Seq) -> Gaps {
        let Gaps { mut needed, mut past } = Gaps::default();
        let first = self.entries.first_key_value().map(|(seq, _)| *seq);
        // What is before both the first entry and the position was collected.
        let mut expected = first.unwrap_or(from.next()).min(from.next());
        for seq in self.entries.keys() {
            if *seq > expected {
                let last = Seq(seq.0 - 1);
                if expected <= from {
                    past.push((expected, last.min(from)));
                }
                if last > from {
                    needed.push((expected.max(from.next()), last));
                }
            }
            expected = seq.next();
        }
        Gaps { needed, past }
    }
}

/// Missing entries, as ranges with both ends, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    /// Those that are in no segment, before an entry that is there.
    pub needed: Vec<(Seq, Seq)>,
    /// Those that are in segments, after an entry that is there.
    pub past: Vec<(Seq, Seq)>,
}

/// How many parts all namespaces are divided into, by a hash.
pub const PARTS: u16 = 256;

/// The namespaces of one of [`PARTS`] parts that have a directory, deleted ones included. One LIST per thousand objects.
///
/// * `org` — `None`: of all organizations
pub async fn namespaces(store: &Store, part: u8, org: Option<&OrgId>) -> Result<BTreeSet<NsKey>, StoreError> {
    let mut namespaces = BTreeSet::new();
    let mut found = store.list(&paths::upkeep::part_prefix(part, org), None);
    let mut last = None;
    while let Some(object) = found.try_next().await? {
        let Some(ns) = paths::upkeep::parse_namespace(&object.location) else {
            continue;
        };
        if last.as_ref() != Some(&ns) {
            namespaces.insert(ns.clone());
            last = Some(ns);
        }
    }
    Ok(namespaces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_needed_or_past() {
        let listing = |entries: &[u64]| Listing {
            entries: entries.iter().map(|seq| (Seq(*seq), 1)).collect(),
            ..Listing::default()
        };
        for (entries, from, needed, past) in [
            (&[][..], 0, &[][..], &[][..]),
            (&[1, 2, 3], 0, &[], &[]),
            (&[2, 3], 0, &[(1, 1)], &[]),
            (&[3, 4], 2, &[], &[]),
            (&[5, 6], 2, &[(3, 4)], &[]),
            (&[1, 2, 5], 5, &[], &[(3, 4)]),
            (&[1, 2, 7], 4, &[(5, 6)], &[(3, 4)]),
            (&[4], 4, &[], &[]),
            (&[4], 9, &[], &[]),
            (&[1, 3, 4, 8, 9], 0, &[(2, 2), (5, 7)], &[]),
        ] {
            let plain = |gaps: Vec<(Seq, Seq)>| gaps.into_iter().map(|(a, b)| (a.0, b.0)).collect::<Vec<_>>();
            let found = listing(entries).gaps(Seq(from));
            assert_eq!(plain(found.needed), needed, "{entries:?} after {from}");
            assert_eq!(plain(found.past), past, "{entries:?} after {from}");
        }
    }
}
