//! The log: that it has no gap, and that every entry continues the one before it and the manifest.

use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use ulid::Ulid;

use super::manifests::Past;
use super::{FindingKind, FsckError, Look, READ_AT_ONCE};
use crate::base::Priority;
use crate::manifest::ManifestSegment;
use crate::model::Seq;
use crate::snapshot::branch_manifest;
use crate::store::paths;
use crate::wal::{BlobRef, DecodeError, Digest, Entry, EntryKind, LogError, Logged};

/// The last entry that was read.
struct Before {
    seq: Seq,
    digest: Digest,
    hlc_ms: u64,
    namespace: uuid::Uuid,
}

impl Look<'_> {
    /// Reads the entries that are in no segment and the newest one; all of them for a deep look. Returns the segments that
    /// a branch begins with which has no manifest yet.
    pub(super) async fn all_entries(&mut self, past: &Past) -> Result<Vec<ManifestSegment>, FsckError> {
        let from = past.indexed_seq();
        self.gaps(past);
        let newest = self.listing.newest_entry();
        let is_wanted = |seq: &Seq| self.options.deep || *seq >= from || Some(*seq) == newest;
        let wanted: Vec<Seq> = self.listing.entries.keys().copied().filter(is_wanted).collect();
        let are_all = wanted.len() == self.listing.entries.len();
        let log = self.log.clone();
        let read = move |seq| {
            let log = log.clone();
            async move { (seq, log.get(seq).await) }
        };
        // Whole entries wait here: few at a time.
        let mut reads = stream::iter(wanted).map(read).buffered(READ_AT_ONCE / 4);
        let (mut before, mut blobs, mut branches): (Option<Before>, BTreeSet<Ulid>, _) =
            (None, BTreeSet::new(), Vec::new());
        while let Some((seq, found)) = reads.next().await {
            let logged = match found {
                Ok(Some(logged)) => logged,
                // Collected since it was listed; if it was not to be, the newest manifest is another by now or it is damage.
                Ok(None) if seq <= from => continue,
                Ok(None) => {
                    let key = paths::wal_entry(self.ns, seq);
                    self.find(FindingKind::LogGap, key, "it was listed, and is not there");
                    continue;
                }
                Err(LogError::Damaged { source, .. }) => {
                    self.entry_damaged(seq, from, &source);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            self.chain(&logged, before.as_ref(), past);
            before = Some(Before {
                seq,
                digest: logged.digest,
                hlc_ms: logged.entry.hlc_ms,
                namespace: logged.entry.namespace,
            });
            blobs.extend(logged.entry.blobs());
            if seq > from {
                branches.extend(self.branch(&logged.entry).await);
            }
            self.blobs(logged, from).await?;
        }
        self.named.blobs = are_all.then_some(blobs);
        Ok(branches)
    }

    fn gaps(&mut self, past: &Past) {
        let from = past.indexed_seq();
        let prefix = paths::wal_prefix(self.ns);
        if past.newest.is_some() && self.listing.entries.is_empty() {
            let what = "there are manifests and no entries: the newest entry is never deleted";
            self.find(FindingKind::LogGap, &prefix, what);
            return;
        }
        if self.listing.newest_entry().unwrap_or_default() < from {
            let what = format!("it ends before entry {from}, up to which the newest manifest goes");
            self.find(FindingKind::LogGap, &prefix, what);
        }
        let gaps = self.listing.gaps(from);
        for (first, last) in gaps.needed {
            let what = format!("entries {first} to {last} do not exist, later ones do");
            self.find(FindingKind::LogGap, paths::wal_entry(self.ns, first), what);
        }
        for (first, last) in gaps.past {
            let what = format!("entries {first} to {last} do not exist, though earlier ones do; they are in segments");
            self.find(FindingKind::PastIncomplete, paths::wal_entry(self.ns, first), what);
        }
    }

    fn entry_damaged(&mut self, seq: Seq, from: Seq, error: &DecodeError) {
        let key = paths::wal_entry(self.ns, seq);
        let is_needed = seq > from || Some(seq) == self.listing.newest_entry();
        let (kind, what) = match error {
            DecodeError::Newer(why) => (FindingKind::Newer, why.clone()),
            DecodeError::Corrupt(why) if is_needed => (FindingKind::EntryDamaged, why.clone()),
            DecodeError::Corrupt(why) => (FindingKind::PastIncomplete, format!("{why}; it is in segments")),
        };
        self.find(kind, key, what);
    }

    fn chain(&mut self, logged: &Logged, before: Option<&Before>, past: &Past) {
        let entry = &logged.entry;
        let key = paths::wal_entry(self.ns, entry.seq);
        let before = before.filter(|b| b.seq.next() == entry.seq);
        let newest = past.newest.as_ref().map(|(m, _)| m);
        let begins = newest.is_none() && entry.seq == Seq(1) && entry.prev_digest != Digest::default();
        let broken = match before {
            Some(b) if b.digest != entry.prev_digest => Some("it names another predecessor than there is"),
            Some(b) if b.namespace != entry.namespace => Some("it belongs to another namespace than its predecessor"),
            Some(b) if b.hlc_ms >= entry.hlc_ms => Some("its clock is not after that of its predecessor"),
            _ if begins => Some("it is the first and has a predecessor"),
            _ if newest.is_some_and(|m| m.namespace != entry.namespace) => {
                Some("it belongs to another namespace than the newest manifest")
            }
            _ => None,
        };
        // What is in segments is not read again. Who was asleep for very long may have written a number anew that was
        // collected meanwhile: that was not confirmed to anybody, and is collected again.
        let is_past = entry.seq < past.indexed_seq();
        if let Some(why) = broken {
            let kind = if is_past {
                FindingKind::PastIncomplete
            } else {
                FindingKind::LogBroken
            };
            self.find(kind, &key, why);
        }
        let ends = [
            (entry.seq, logged.digest),
            (Seq(entry.seq.0.saturating_sub(1)), entry.prev_digest),
        ];
        for (seq, digest) in ends {
            // Of two entries in a row each would say the same.
            let is_told = seq != entry.seq && before.is_some();
            match past.ends.get(&seq) {
                Some((generation, known)) if *known != digest && !is_told => {
                    let what = format!("manifest {generation} ends with another entry {seq} than the log has");
                    let kind = if is_past {
                        FindingKind::PastIncomplete
                    } else {
                        FindingKind::ManifestsBroken
                    };
                    self.find(kind, &key, what);
                }
                _ => {}
            }
        }
    }

    /// The segments that a branch begins with.
    async fn branch(&mut self, entry: &Entry) -> Vec<ManifestSegment> {
        let (Some(bytes), seq) = (entry.branch().cloned(), entry.seq) else {
            return Vec::new();
        };
        let decode = move || branch_manifest(&bytes, seq);
        match self.runtime.cpu.run(Priority::Background, decode).await {
            Ok(manifest) => {
                let own = |s: &&ManifestSegment| s.meta.owner.is_none() && s.meta.inline.is_none();
                let names = manifest.segments.iter().filter(own).map(|s| s.meta.id.0);
                self.named.segments.extend(names);
                manifest.segments
            }
            Err(error) => {
                let (kind, why) = Self::undecodable(FindingKind::EntryDamaged, &error);
                let what = format!("the manifest in it, which a branch begins with: {why}");
                self.find(kind, paths::wal_entry(self.ns, seq), what);
                Vec::new()
            }
        }
    }

    /// What an entry has beside it. Read as a whole only for a deep look.
    async fn blobs(&mut self, logged: Logged, from: Seq) -> Result<(), FsckError> {
        let mut entry = logged.entry;
        let lost = match entry.seq > from {
            true => FindingKind::BlobLost,
            false => FindingKind::PastIncomplete,
        };
        let EntryKind::Data(requests) = &entry.kind else {
            return Ok(());
        };
        let named: Vec<BlobRef> = requests.iter().flat_map(|r| &r.staged).copied().collect();
        let mut are_there = true;
        for blob in named {
            let key = paths::blob(self.ns, blob.key);
            let what = match self.blob_len(&blob).await? {
                Some(len) if len == blob.len => continue,
                Some(len) => format!("it has {len} bytes, entry {} says {}", entry.seq, blob.len),
                None => format!("it does not exist, and entry {} names it", entry.seq),
            };
            are_there = false;
            self.find(lost, key, what);
        }
        if !self.options.deep || !are_there {
            return Ok(());
        }
        match self.log.resolve(&mut entry).await {
            Ok(()) => {}
            Err(LogError::Damaged { object, source }) => {
                let what = format!("blob {object} of it: {source}");
                self.find(lost, paths::wal_entry(self.ns, entry.seq), what);
            }
            Err(LogError::BlobMissing { key, .. }) => {
                self.find(lost, paths::blob(self.ns, key), "it was listed, and is not there");
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// The length of a blob; `None` when there is none.
    async fn blob_len(&self, blob: &BlobRef) -> Result<Option<u64>, FsckError> {
        if let Some(len) = self.listing.blobs.get(&blob.key) {
            return Ok(Some(*len));
        }
        // It may have come after its part of the listing.
        let found = self.store.get(&paths::blob(self.ns, blob.key)).await?;
        Ok(found.map(|bytes| bytes.len() as u64))
    }
}
