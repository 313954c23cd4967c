//! The disk tier: blocks of objects in sparse files, for a cache directory on a local disk.
//!
//! ```text
//! <directory>/lock                   held by the process that uses it
//! <directory>/<h2>/<hash>/data       the object's blocks at their own offsets, with holes
//! <directory>/<h2>/<hash>/map        whose they are, which are there, their checksums
//! ```
//!
//! # What stays true
//!
//! - Nothing here makes a read fail: what cannot be read, or does not match its checksum, is a miss.
//! - Nothing is synced. After a crash, maps and data may be of different times; checksums decide.
//! - One thread changes files, so a block is never punched out and written at a time. Deleting the directory is safe
//!   whenever no process uses it.

mod file;
mod index;
mod map;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache as QuickCache, DefaultLifecycle};
use rustix::fs::FlockOperation;
use tokio::sync::oneshot;

use super::memory::SteadyState;
use super::pieces::{EXTENT, SUB_BLOCK};
use super::{CacheOptions, ObjectRef, ReadKind};
use crate::base::{Clock, CpuPool, Priority};
use crate::telemetry::{CACHE_DISK_ERRORS, CACHE_REFUSED_BYTES};
use file::DataFile;
use index::{Id, Index, Run};
use map::{Extent, Owner};
use writer::{Command, Writer};

/// Threads that read.
const READERS: usize = 8;
/// One read of a file at most.
const READ_BYTES_MAX: u64 = 1 << 20;
/// What waits to be written, at most.
const QUEUE_BYTES_MAX: u64 = 64 << 20;
const QUEUE_LEN: usize = 4096;
/// Data files that are kept open, each once or twice.
const OPEN_FILES: usize = 512;
/// Read errors after which the disk is no longer used.
const READ_ERRORS_MAX: u64 = 16;
/// Of the file system, at most so much is used.
const USED_PERCENT_MAX: u64 = 90;
/// Free space that is left, the smaller of the two.
const RESERVE_BYTES: u64 = 10 << 30;
const RESERVE_PERCENT: u64 = 5;

/// What is about to be done with a file; tests make it fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DiskOp {
    Read,
    Write,
}

/// Decides whether an operation fails.
pub(crate) type Fault = Arc<dyn Fn(DiskOp) -> io::Result<()> + Send + Sync>;

/// Sums of the disk tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskStats {
    /// Bytes in use, and the limit.
    pub used_bytes: u64,
    pub limit_bytes: u64,
    /// Blocks whose bytes did not match their checksum.
    pub checksum_errors: u64,
    pub read_errors: u64,
    pub write_errors: u64,
    /// Whether it was given up for read errors.
    pub disabled: bool,
}

struct Shared {
    directory: PathBuf,
    limit: u64,
    reserve: Option<u64>,
    clock: Arc<dyn Clock>,
    /// Held to look up and note, never during I/O.
    index: Mutex<Index>,
    files: QuickCache<Id, Arc<DataFile>, UnitWeighter, SteadyState>,
    readers: CpuPool,
    fault: Option<Fault>,
    /// Whether everything that an earlier run left is known.
    scanned: AtomicBool,
    closing: AtomicBool,
    disabled: AtomicBool,
    /// Since the clock's start: until then nothing is admitted.
    paused_until_ms: AtomicU64,
    queued_bytes: AtomicU64,
    checksum_errors: AtomicU64,
    read_errors: AtomicU64,
    write_errors: AtomicU64,
}

/// See the module.
pub(super) struct Disk {
    shared: Arc<Shared>,
    /// `None` while it is being dropped.
    inbox: Option<SyncSender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        self.inbox = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn id_of(key: &str) -> Id {
    xxhash_rust::xxh3::xxh3_128(key.as_bytes())
}

fn owner_of(object: &ObjectRef) -> Owner {
    Owner {
        key: object.key.to_string(),
        len: object.len,
        org: object.org.as_str().to_owned(),
    }
}

impl Disk {
    /// Starts to use the directory; what an earlier run left there is taken in meanwhile.
    ///
    /// # Errors
    ///
    /// When it cannot be created, or another process uses it.
    pub(super) fn open(directory: PathBuf, options: &CacheOptions, clock: Arc<dyn Clock>) -> io::Result<Self> {
        std::fs::create_dir_all(&directory)?;
        let lock = File::create(directory.join("lock"))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        let room = rustix::fs::statvfs(&directory)?;
        let whole = room.f_blocks.saturating_mul(room.f_frsize);
        let limit = options.disk_bytes.min(whole / 100 * USED_PERCENT_MAX);
        let shared = Arc::new(Shared {
            directory,
            limit,
            reserve: options.disk_reserve_bytes,
            clock,
            index: Mutex::new(Index::new(limit)),
            files: QuickCache::with(
                OPEN_FILES,
                OPEN_FILES as u64,
                UnitWeighter,
                SteadyState,
                DefaultLifecycle::default(),
            ),
            readers: CpuPool::new(READERS),
            fault: options.fault.clone(),
            scanned: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            disabled: AtomicBool::new(false),
            paused_until_ms: AtomicU64::new(0),
            queued_bytes: AtomicU64::new(0),
            checksum_errors: AtomicU64::new(0),
            read_errors: AtomicU64::new(0),
            write_errors: AtomicU64::new(0),
        });
        let (inbox, outbox) = std::sync::mpsc::sync_channel(QUEUE_LEN);
        let writer = Writer::new(shared.clone(), outbox, lock);
        let thread = std::thread::Builder::new()
            .name("cache-writer".into())
            .spawn(move || writer.run())?;
        Ok(Self {
            shared,
            inbox: Some(inbox),
            thread: Some(thread),
        })
    }

    /// What is here of these ranges (aligned), by where it begins.
    pub(super) async fn read(&self, object: &ObjectRef, ranges: &[Range<u64>]) -> Vec<(u64, Bytes)> {
        let shared = &self.shared;
        if shared.is_disabled() {
            return Vec::new();
        }
        let key: &str = object.key.as_ref().as_ref();
        let id = id_of(key);
        if !shared.scanned.load(Ordering::Acquire) && !shared.index().knows(id) {
            let load = {
                let shared = shared.clone();
                move || {
                    if let Some((owner, extents)) = shared.load(id) {
                        shared.index().insert(id, owner, extents);
                    }
                }
            };
            shared.readers.run(Priority::Foreground, load).await;
        }
        let runs: Vec<Run> = {
            let mut index = shared.index();
            let find = |range| index.find(id, key, object.len, range, READ_BYTES_MAX);
            ranges.iter().flat_map(find).collect()
        };
        let jobs = runs.into_iter().map(|run| {
            let shared = shared.clone();
            move || shared.read_run(id, &run)
        });
        let found = shared.readers.run_all(Priority::Foreground, jobs.collect()).await;
        found.into_iter().flatten().collect()
    }

    /// Takes bytes that begin at `start`, a multiple of the sub-block, unless too much waits already.
    pub(super) fn offer(&self, object: &ObjectRef, start: u64, bytes: &Bytes, kind: ReadKind) {
        if self.shared.is_disabled() || bytes.is_empty() {
            return;
        }
        let len = bytes.len() as u64;
        let before = self.shared.queued_bytes.fetch_add(len, Ordering::Relaxed);
        let command = Command::Admit {
            owner: owner_of(object),
            kind,
            start,
            bytes: bytes.clone(),
        };
        if before + len > QUEUE_BYTES_MAX || !self.send(command) {
            self.shared.queued_bytes.fetch_sub(len, Ordering::Relaxed);
            metrics::counter!(CACHE_REFUSED_BYTES, "reason" => "queue").increment(len);
        }
    }

    fn send(&self, command: Command) -> bool {
        match &self.inbox {
            Some(inbox) => inbox.try_send(command).is_ok(),
            None => false,
        }
    }

    pub(super) fn demote(&self, object: &ObjectRef) {
        self.send(Command::Demote(id_of(object.key.as_ref().as_ref())));
    }

    pub(super) fn purge(&self, objects: &[ObjectRef]) {
        let ids: Vec<Id> = objects.iter().map(|o| id_of(o.key.as_ref().as_ref())).collect();
        // Unknown at once, whenever the files go.
        ids.iter().for_each(|id| self.shared.index().remove(*id));
        self.send(Command::Purge(ids));
    }

    pub(super) fn pin(&self, object: &ObjectRef, pinned: bool) {
        let id = id_of(object.key.as_ref().as_ref());
        match pinned {
            true => self.shared.index().pin(id),
            false => self.shared.index().unpin(id),
        }
    }

    /// What of `range`, which is aligned, is not here and may be written, ascending.
    pub(super) fn missing(&self, object: &ObjectRef, range: &Range<u64>) -> Vec<Range<u64>> {
        let key: &str = object.key.as_ref().as_ref();
        let missing = self.shared.index().missing(id_of(key), key, object.len, range);
        let bytes = |subs: Range<u64>| subs.start * SUB_BLOCK..(subs.end * SUB_BLOCK).min(range.end);
        missing.into_iter().map(bytes).collect()
    }

    /// Whether so many bytes more that are pinned would be taken now, and stay.
    pub(super) fn takes_pinned(&self, bytes: u64) -> bool {
        let shared = &self.shared;
        !shared.is_disabled() && !shared.is_paused() && shared.index().takes_pinned(bytes)
    }

    /// Whether it was given up.
    pub(super) fn is_disabled(&self) -> bool {
        self.shared.is_disabled()
    }

    /// Where its files are.
    pub(super) fn directory(&self) -> &std::path::Path {
        &self.shared.directory
    }

    /// Bytes of the object that are here.
    pub(super) fn bytes_of(&self, object: &ObjectRef) -> u64 {
        self.shared.index().bytes_of(id_of(object.key.as_ref().as_ref()))
    }

    /// Waits until everything offered so far is written or refused, and an earlier run's files are taken in.
    pub(super) async fn settle(&self) {
        let (done, is_done) = oneshot::channel();
        if self.send(Command::Settle(done)) {
            let _ = is_done.await;
        }
    }

    pub(super) fn stats(&self) -> DiskStats {
        let shared = &self.shared;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DiskStats {
            used_bytes: shared.index().used(),
            limit_bytes: shared.limit,
            checksum_errors: read(&shared.checksum_errors),
            read_errors: read(&shared.read_errors),
            write_errors: read(&shared.write_errors),
            disabled: shared.is_disabled(),
        }
    }
}

impl Shared {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn is_disabled(&self) -> bool {
        self.disabled.load(Ordering::Relaxed)
    }

    /// Whether nothing is admitted for a while.
    fn is_paused(&self) -> bool {
        let now_ms = self.clock.boot().as_millis() as u64;
        now_ms < self.paused_until_ms.load(Ordering::Relaxed)
    }

    fn pause(&self, pause: Duration) {
        let until = self.clock.boot() + pause;
        self.paused_until_ms.store(until.as_millis() as u64, Ordering::Relaxed);
    }

    fn path(&self, id: Id) -> PathBuf {
        self.directory
            .join(format!("{:02x}", id >> 120))
            .join(format!("{id:032x}"))
    }

    fn check(&self, op: DiskOp) -> io::Result<()> {
        self.fault.as_ref().map_or(Ok(()), |fault| fault(op))
    }

    /// The data file.
    fn data(&self, id: Id) -> io::Result<Arc<DataFile>> {
        if let Some(file) = self.files.get(&id) {
            return Ok(file);
        }
        let path = self.path(id).join("data");
        Ok(self.keep_open(id, File::options().read(true).write(true).open(path)?))
    }

    fn keep_open(&self, id: Id, file: File) -> Arc<DataFile> {
        let file = Arc::new(DataFile::new(file));
        self.files.insert(id, file.clone());
        file
    }

    /// What the map on disk says.
    fn load(&self, id: Id) -> Option<(Owner, Vec<(u64, Extent)>)> {
        self.check(DiskOp::Read).ok()?;
        let mut file = File::open(self.path(id).join("map")).ok()?;
        let mut bytes = Vec::new();
        (&mut file).take(map::HEADER as u64).read_to_end(&mut bytes).ok()?;
        let (owner, _) = map::decode(&bytes)?;
        let rest = map::map_bytes(owner.len) - map::HEADER as u64;
        file.take(rest).read_to_end(&mut bytes).ok()?;
        // A header whose key has another hash was moved here.
        map::decode(&bytes).filter(|(owner, _)| id_of(&owner.key) == id)
    }

    /// By how much the file system has less free space than shall be left.
    fn missing_space(&self) -> u64 {
        let Ok(room) = rustix::fs::statvfs(&self.directory) else {
            return 0;
        };
        let whole = room.f_blocks.saturating_mul(room.f_frsize);
        let reserve = self
            .reserve
            .unwrap_or((whole / 100 * RESERVE_PERCENT).min(RESERVE_BYTES));
        reserve.saturating_sub(room.f_bavail.saturating_mul(room.f_frsize))
    }

    /// What of a run is sound.
    fn read_run(&self, id: Id, run: &Run) -> Vec<(u64, Bytes)> {
        let read = || {
            let file = self.data(id)?;
            self.check(DiskOp::Read)?;
            file.read(run.range.start, run.len() as usize, &self.path(id).join("data"))
        };
        match read() {
            Ok(bytes) => self.sound(id, run, bytes),
            // It was removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                self.read_failed(id, run, &error);
                Vec::new()
            }
        }
    }

    /// The blocks of a run that match their checksums, those that follow each other together.
    fn sound(&self, id: Id, run: &Run, bytes: Bytes) -> Vec<(u64, Bytes)> {
        let len = run.len() as usize;
        let mut sound: Vec<(u64, Bytes)> = Vec::new();
        let mut begun: Option<usize> = None;
        let blocks = run.crcs.len();
        for block in 0..=blocks {
            let from = block * SUB_BLOCK as usize;
            let to = (from + SUB_BLOCK as usize).min(len);
            let good = block < blocks && to <= bytes.len() && crc32c::crc32c(&bytes[from..to]) == run.crcs[block];
            match (good, begun) {
                (true, None) => begun = Some(from),
                (false, Some(start)) => {
                    let end = from.min(len);
                    // A part of a run is copied: it may stay in memory, and would keep the whole run there.
                    let part = match end - start == bytes.len() {
                        true => bytes.clone(),
                        false => Bytes::copy_from_slice(&bytes[start..end]),
                    };
                    sound.push((run.range.start + start as u64, part));
                    begun = None;
                }
                _ => {}
            }
            if !good && block < blocks {
                self.unsound(id, run.range.start / SUB_BLOCK + block as u64, run.crcs[block]);
            }
        }
        sound
    }

    fn unsound(&self, id: Id, sub: u64, crc: u32) {
        // Not so if it was evicted or written anew since it was looked up.
        if self.index().drop_block(id, sub, crc) {
            self.checksum_errors.fetch_add(1, Ordering::Relaxed);
            metrics::counter!(CACHE_DISK_ERRORS, "kind" => "checksum").increment(1);
        }
    }

    fn read_failed(&self, id: Id, run: &Run, error: &io::Error) {
        metrics::counter!(CACHE_DISK_ERRORS, "kind" => "read").increment(1);
        self.files.remove(&id);
        for number in run.range.start / EXTENT..run.range.end.div_ceil(EXTENT) {
            self.index().quarantine(id, number);
        }
        let errors = self.read_errors.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::warn!(%error, errors, "the disk cache could not be read");
        if errors >= READ_ERRORS_MAX && !self.disabled.swap(true, Ordering::Relaxed) {
            tracing::error!(directory = %self.directory.display(), "the disk cache fails and is no longer used");
        }
    }
}
