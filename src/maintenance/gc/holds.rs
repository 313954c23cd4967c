//! Which holds on the objects of a namespace are still needed.
//!
//! What is kept without need costs storage for a while; so who was found to need a hold is not asked again before some
//! hours have passed, and never are many asked in one look. That nobody needs one any more is asked in both looks.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt, stream};
use ulid::Ulid;

use super::collector::{CollectError, Collector, READ_AT_ONCE, Seen};
use super::history::{Held, Oldest};
use super::memory::{Hold, Known, Read};
use super::plan::{Found, retained};
use crate::manifest::Pin;
use crate::model::Seq;
use crate::store::paths::{self, NsKey, NsObject};

impl Collector {
    /// The holds on the objects of a namespace, and whether they are needed. One GET for each that was not read, and for
    /// each that is older than the grace time and was not asked for lately, what [`is_needed`](Self::is_needed) costs.
    pub(super) async fn holds(&self, ns: &NsKey, seen: &Seen, known: &mut Known) -> Result<Vec<Held>, CollectError> {
        self.read_holds(ns, seen, known).await?;
        let (now, mut asked) = (self.runtime.clock.boot(), 0);
        let old: BTreeSet<Ulid> = pins(&seen.found)
            .filter(|(_, f)| !self.is_young(f, seen.now_ms))
            .map(|(id, _)| id)
            .collect();
        let (floor, end) = (known.oldest.indexed_seq, seen.newest_entry());
        let mut held = Vec::new();
        for (id, hold) in &mut known.holds {
            let needed = if !old.contains(id) || hold.needed_until > now {
                true
            } else if hold.pin.target == *ns {
                // Its own log says so, until a manifest does.
                floor < hold.pin.entry && hold.pin.entry <= end
            } else if asked == self.limits.holds_asked {
                true
            } else {
                asked += 1;
                let needed = self.is_needed(ns, hold, seen.now_ms).await?;
                if needed {
                    hold.needed_until = now + self.runtime.rng.jitter(self.keep.grace / 8);
                }
                needed
            };
            let segments = hold.pin.segments.iter().copied().map(NsObject::Segment);
            let deletions = hold.pin.deletions.iter().copied().map(NsObject::Deletions);
            held.push(Held {
                id: *id,
                objects: segments.chain(deletions).collect(),
                needed,
            });
        }
        Ok(held)
    }

    fn is_young(&self, found: &Found, now_ms: u64) -> bool {
        u128::from(now_ms.saturating_sub(found.written_ms)) <= self.keep.grace.as_millis()
    }

    /// Reads those that were not read, and forgets those that are gone.
    async fn read_holds(&self, ns: &NsKey, seen: &Seen, known: &mut Known) -> Result<(), CollectError> {
        let listed: BTreeSet<Ulid> = pins(&seen.found).map(|(id, _)| id).collect();
        known.holds.retain(|id, _| listed.contains(id));
        let unread = listed.into_iter().filter(|id| !known.holds.contains_key(id));
        let reads = unread.collect::<Vec<_>>().into_iter().map(|id| async move {
            let key = paths::pin(ns, id);
            let Some(bytes) = self.store.get(&key).await? else {
                return Ok(None);
            };
            let pin = Pin::decode(&bytes).map_err(|source| CollectError::Pin {
                key: key.to_string(),
                source,
            })?;
            Ok::<_, CollectError>(Some((id, pin)))
        });
        let mut reads = stream::iter(reads).buffered(READ_AT_ONCE);
        while let Some(read) = reads.try_next().await? {
            known.holds.extend(read.map(|(id, pin)| (id, Hold::of(pin))));
        }
        Ok(())
    }

    /// Whether whoever holds objects of `owner` may still name them. A GET of one byte, a LIST per thousand manifests that
    /// are there, and a GET when the oldest of them that is kept was not read yet.
    async fn is_needed(&self, owner: &NsKey, hold: &mut Hold, now_ms: u64) -> Result<bool, CollectError> {
        let (target, entry) = (&hold.pin.target, hold.pin.entry);
        // Before the manifests: an entry that goes meanwhile is in all of them that are kept.
        let is_passed = hold.read.is_some_and(|read| entry <= read.indexed_seq);
        let key = paths::wal_entry(target, entry);
        let has_entry = !is_passed && self.store.get_range(&key, 0..1).await?.is_some();
        let listed = self.manifests(target).list().await?;
        let listed = listed.into_iter().map(|(generation, written_ms)| Found {
            object: NsObject::Manifest(generation),
            written_ms,
            bytes: 0,
        });
        let generation = retained(&listed.collect::<Vec<_>>(), now_ms, self.keep).oldest;
        let read = match hold.read.filter(|read| read.generation == generation) {
            Some(read) => read,
            None => {
                let oldest: Oldest = self.read_oldest(target, generation).await?;
                let (indexed_seq, names) = (oldest.indexed_seq, oldest.names_foreign(owner));
                Read {
                    generation,
                    indexed_seq,
                    names,
                }
            }
        };
        hold.read = Some(read);
        // Whoever reads the past from the oldest manifest on comes by the entry; a name that was used before has such a
        // past from the beginning.
        let is_in_log = has_entry && entry > read.indexed_seq;
        Ok(is_in_log || read.names)
    }
}

fn pins(found: &[Found]) -> impl Iterator<Item = (Ulid, &Found)> {
    found.iter().filter_map(|f| match f.object {
        NsObject::Pin(id) => Some((id, f)),
        _ => None,
    })
}

impl Seen {
    /// The newest entry of the log; 0 when there is none.
    pub(super) fn newest_entry(&self) -> Seq {
        let entries = self.found.iter().filter_map(|f| match f.object {
            NsObject::Entry(seq) => Some(seq),
            _ => None,
        });
        entries.max().unwrap_or(Seq::ZERO)
    }
}
