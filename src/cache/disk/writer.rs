//! The one thread that changes files of the disk tier: it admits, evicts, and takes in what an earlier run left.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::index::{Id, REGION, RegionId};
use super::map::{self, Owner, RECORD, SUBS};
use super::{DiskOp, Shared};
use crate::cache::ReadKind;
use crate::cache::pieces::SUB_BLOCK;
use crate::telemetry::{CACHE_DISK_BYTES, CACHE_DISK_ERRORS, CACHE_EVICTED_BYTES, CACHE_REFUSED_BYTES};

/// Nothing is admitted for so long after the disk failed or had no room.
const PAUSE: Duration = Duration::from_secs(10);
/// The free space is looked at after so many bytes.
const CHECK_BYTES: u64 = 16 << 20;

/// What the thread is asked to do.
pub(super) enum Command {
    Admit {
        owner: Owner,
        kind: ReadKind,
        start: u64,
        bytes: Bytes,
    },
    Demote(Id),
    Purge(Vec<Id>),
    /// Answer when everything before is done.
    Settle(oneshot::Sender<()>),
}

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) inbox: Receiver<Command>,
    /// Locked as long as this process uses the directory.
    pub(super) _lock: File,
    unchecked_bytes: u64,
    /// Directories that were not looked at yet.
    unseen: Vec<PathBuf>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, inbox: Receiver<Command>, lock: File) -> Self {
        Self {
            unseen: vec![shared.directory.clone()],
            shared,
            inbox,
            _lock: lock,
            unchecked_bytes: CHECK_BYTES,
        }
    }

    /// Works until nobody can ask any more.
    pub(super) fn run(mut self) {
        loop {
            let command = match self.unseen.pop() {
                None => {
                    self.shared.scanned.store(true, Ordering::Release);
                    self.inbox.recv().ok()
                }
                Some(directory) => {
                    self.take_in(&directory);
                    match self.inbox.try_recv() {
                        Err(TryRecvError::Empty) => continue,
                        Err(TryRecvError::Disconnected) => None,
                        // One who waits for the past waits for the scan too.
                        Ok(Command::Settle(done)) if !self.unseen.is_empty() => {
                            while let Some(directory) = self.unseen.pop() {
                                self.take_in(&directory);
                            }
                            Some(Command::Settle(done))
                        }
                        Ok(command) => Some(command),
                    }
                }
            };
            let Some(command) = command else { return };
            if self.shared.closing.load(Ordering::Relaxed) {
                return;
            }
            self.perform(command);
        }
    }

    fn perform(&mut self, command: Command) {
        match command {
            Command::Admit {
                owner,
                kind,
                start,
                bytes,
            } => {
                let len = bytes.len() as u64;
                self.shared.queued_bytes.fetch_sub(len, Ordering::Relaxed);
                self.admit_or_pause(&owner, kind, start, &bytes);
                metrics::gauge!(CACHE_DISK_BYTES).set(self.shared.index().used() as f64);
            }
            Command::Demote(id) => self.shared.index().demote(id),
            Command::Purge(ids) => ids.into_iter().for_each(|id| self.remove(id)),
            Command::Settle(done) => {
                self.shared.scanned.store(self.unseen.is_empty(), Ordering::Release);
                let _ = done.send(());
            }
        }
    }

    /// A directory of an earlier run: one level of it, or the map of an object.
    fn take_in(&mut self, directory: &Path) {
        let depth = directory
            .strip_prefix(&self.shared.directory)
            .map_or(3, |p| p.components().count());
        if depth < 2 {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            let named = entries.filter(|e| {
                let name = e.file_name();
                let hex = name.to_str().is_some_and(|n| n.bytes().all(|b| b.is_ascii_hexdigit()));
                hex && name.len() == [2, 32][depth]
            });
            self.unseen.extend(named.map(|e| e.path()));
            return;
        }
        let name = directory.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let Ok(id) = Id::from_str_radix(name, 16) else { return };
        if self.shared.index().knows(id) {
            return;
        }
        match self.shared.load(id) {
            Some((owner, extents)) if !extents.is_empty() => self.shared.index().insert(id, owner, extents),
            _ => self.remove(id),
        }
        while !self.shared.index().fits(0) && self.evict(None) {}
    }

    fn admit_or_pause(&mut self, owner: &Owner, kind: ReadKind, start: u64, bytes: &Bytes) {
        let refuse = |reason: &'static str| {
            metrics::counter!(CACHE_REFUSED_BYTES, "reason" => reason).increment(bytes.len() as u64);
        };
        if self.shared.is_disabled() || self.shared.is_paused() {
            return refuse("error");
        }
        match self.admit(owner, kind, start, bytes) {
            Ok(true) => {}
            Ok(false) => refuse("space"),
            Err(error) => {
                refuse("error");
                metrics::counter!(CACHE_DISK_ERRORS, "kind" => "write").increment(1);
                tracing::warn!(%error, "the disk cache could not be written; it admits nothing for a while");
                self.shared.write_errors.fetch_add(1, Ordering::Relaxed);
                self.shared.pause(PAUSE);
                let target = self.shared.index().used() / 20 * 19;
                while self.shared.index().used() > target && self.evict(None) {}
            }
        }
    }

    /// Whether it was written; false when there was no room.
    fn admit(&mut self, owner: &Owner, kind: ReadKind, start: u64, bytes: &Bytes) -> io::Result<bool> {
        let id = super::id_of(&owner.key);
        if !self.make_known(id, owner)? {
            return Ok(false);
        }
        let end = start + bytes.len() as u64;
        let writable = self.shared.index().writable(id, &(start..end));
        let per_region = REGION / SUB_BLOCK;
        for run in writable {
            // Region by region: one has to be full before another is evicted for the next.
            let mut first = run.start;
            while first < run.end {
                let until = run.end.min((first / per_region + 1) * per_region);
                // Making room may have taken the object itself.
                if !self.make_room(&owner.org, (until - first) * SUB_BLOCK) || !self.make_known(id, owner)? {
                    return Ok(false);
                }
                let from = first * SUB_BLOCK;
                let to = (until * SUB_BLOCK).min(end);
                self.write(id, kind, from, &bytes[(from - start) as usize..(to - start) as usize])?;
                first = until;
            }
        }
        Ok(true)
    }

    /// Data first, then what says that it is there.
    fn write(&mut self, id: Id, kind: ReadKind, from: u64, bytes: &[u8]) -> io::Result<()> {
        let data = self.shared.data(id)?;
        self.shared.check(DiskOp::Write)?;
        data.file.write_all_at(bytes, from)?;
        let first = from / SUB_BLOCK;
        let crcs: Vec<u32> = bytes.chunks(SUB_BLOCK as usize).map(crc32c::crc32c).collect();
        let last = first + crcs.len() as u64 - 1;
        let extents = first / SUBS as u64..last / SUBS as u64 + 1;
        let mut records = Vec::with_capacity((extents.end - extents.start) as usize * RECORD);
        {
            let mut index = self.shared.index();
            for (sub, crc) in (first..).zip(crcs) {
                index.add(id, sub, crc, kind);
            }
            for number in extents.clone() {
                let record = index.extent(id, number).map(|e| map::encode_record(number, e));
                records.extend_from_slice(&record.unwrap_or([0; RECORD]));
            }
        }
        self.unchecked_bytes += bytes.len() as u64;
        self.shared.check(DiskOp::Write)?;
        self.map(id)?.write_all_at(&records, map::record_at(extents.start))
    }

    fn map(&self, id: Id) -> io::Result<File> {
        File::options().write(true).open(self.shared.path(id).join("map"))
    }

    /// Whether the object has a directory that is its own.
    fn make_known(&mut self, id: Id, owner: &Owner) -> io::Result<bool> {
        if self.shared.index().is(id, &owner.key, owner.len) {
            return Ok(true);
        }
        let known = self.shared.index().knows(id);
        if !known
            && let Some((found, extents)) = self.shared.load(id)
            && found.key == owner.key
            && found.len == owner.len
        {
            self.shared.index().insert(id, found, extents);
            return Ok(true);
        }
        let Some(header) = map::encode_header(owner) else {
            return Ok(false);
        };
        // Another object of the same hash, or what cannot be understood.
        self.remove(id);
        let directory = self.shared.path(id);
        self.shared.check(DiskOp::Write)?;
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join("map"), header)?;
        let data = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(directory.join("data"))?;
        self.shared.keep_open(id, data);
        self.shared.index().insert(id, owner.clone(), Vec::new());
        Ok(true)
    }

    /// Whether there is room for so many bytes more, also on the file system.
    fn make_room(&mut self, org: &str, bytes: u64) -> bool {
        while !self.shared.index().fits(bytes) {
            if !self.evict(Some(org)) {
                return false;
            }
        }
        if self.unchecked_bytes < CHECK_BYTES {
            return true;
        }
        self.unchecked_bytes = 0;
        let missing = self.shared.missing_space();
        if missing == 0 {
            return true;
        }
        let used = self.shared.index().used();
        let target = used.saturating_sub(missing.max(used / 20));
        while self.shared.index().used() > target && self.evict(Some(org)) {}
        let enough = self.shared.missing_space() == 0;
        if !enough {
            self.shared.pause(PAUSE);
            self.unchecked_bytes = CHECK_BYTES;
        }
        enough
    }

    /// Removes one region; false when none may go.
    fn evict(&mut self, asking: Option<&str>) -> bool {
        let mut index = self.shared.index();
        let Some(region) = index.victim(asking) else {
            return false;
        };
        let before = index.used();
        let (extents, empty) = index.remove_region(region);
        let freed = before - index.used();
        drop(index);
        metrics::counter!(CACHE_EVICTED_BYTES).increment(freed);
        if empty || self.punch(region, extents).is_err() {
            self.remove(region.0);
        }
        true
    }

    fn punch(&self, (id, number): RegionId, extents: std::ops::Range<u64>) -> io::Result<()> {
        let records = vec![0; (extents.end - extents.start) as usize * RECORD];
        self.map(id)?.write_all_at(&records, map::record_at(extents.start))?;
        punch_hole(&self.shared.data(id)?.file, number * REGION)
    }

    /// Removes an object from the index and the disk. What cannot be removed is found again by the next run.
    fn remove(&self, id: Id) {
        self.shared.index().remove(id);
        self.shared.files.remove(&id);
        let directory = self.shared.path(id);
        for file in ["map", "data"] {
            let _ = std::fs::remove_file(directory.join(file));
        }
        let _ = std::fs::remove_dir(directory);
    }
}

#[cfg(target_os = "linux")]
fn punch_hole(data: &File, start: u64) -> io::Result<()> {
    use rustix::fs::FallocateFlags;
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(rustix::fs::fallocate(data, flags, start, REGION)?)
}

/// Without holes the whole object goes.
#[cfg(not(target_os = "linux"))]
fn punch_hole(_: &File, _: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
