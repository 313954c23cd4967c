//! Holds: those of others here, and those elsewhere that this namespace needs.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};
use ulid::Ulid;

use super::objects::foreign;
use super::{FindingKind, FsckError, Listing, Look, READ_AT_ONCE};
use crate::manifest::{DecodeError, ManifestSegment, Pin};
use crate::store::StoreError;
use crate::store::paths::{self, NsKey};

type Read = (Ulid, Option<Result<Pin, DecodeError>>);

impl Look<'_> {
    /// Reads the holds on objects of this namespace.
    pub(super) async fn own_holds(&mut self) -> Result<(), FsckError> {
        let ids = self.listing.pins.keys().copied().collect();
        for (id, pin) in self.holds_of(self.ns, ids).await? {
            match pin {
                None => {}
                Some(Ok(pin)) => {
                    self.named.segments.extend(pin.segments);
                    self.named.deletions.extend(pin.deletions);
                }
                Some(Err(error)) => {
                    let (kind, what) = Self::undecodable(FindingKind::HoldDamaged, &error);
                    self.find(kind, paths::pin(self.ns, id), what);
                }
            }
        }
        Ok(())
    }

    /// That what this namespace shares with others is held there.
    pub(super) async fn foreign_holds(&mut self, needed: &[ManifestSegment]) -> Result<(), FsckError> {
        let mut shared: BTreeMap<&NsKey, BTreeSet<Ulid>> = BTreeMap::new();
        for (owner, id) in needed.iter().flat_map(foreign) {
            shared.entry(owner).or_default().insert(id);
        }
        for (owner, ids) in shared {
            let listing = Listing::of(self.store, owner).await?;
            let pins = listing.pins.keys().copied().collect();
            self.owners.insert(owner.clone(), listing);
            let mut held = BTreeSet::new();
            for (_, pin) in self.holds_of(owner, pins).await? {
                // What cannot be read is reported where it lies.
                if let Some(Ok(pin)) = pin
                    && pin.target == *self.ns
                {
                    held.extend(pin.segments.into_iter().chain(pin.deletions));
                }
            }
            for id in ids.difference(&held) {
                let what = "this namespace shares it, and there is no hold on it for this namespace";
                self.find(FindingKind::HoldMissing, paths::segment(owner, *id), what);
            }
        }
        Ok(())
    }

    async fn holds_of(&self, owner: &NsKey, ids: Vec<Ulid>) -> Result<Vec<Read>, StoreError> {
        let read = |id| async move {
            let bytes = self.store.get(&paths::pin(owner, id)).await?;
            Ok((id, bytes.map(|bytes| Pin::decode(&bytes))))
        };
        stream::iter(ids).map(read).buffered(READ_AT_ONCE).try_collect().await
    }
}
