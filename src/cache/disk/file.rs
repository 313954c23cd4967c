//! Data files, and how they are read: past the kernel's page cache.
//!
//! What is read goes to the memory tier, which knows better what it is worth; a second copy of it in the page cache would
//! cost as much memory again, and a processor the time to make it.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use rustix::io::Errno;

/// What addresses, places and lengths of reads past the page cache are multiples of; disks want 512 or 4096.
const ALIGN: usize = 4096;

/// The data file of an object.
pub(super) struct DataFile {
    /// For writing, and for reading where there is no other way.
    pub(super) file: File,
    /// For reading past the page cache; `None` where the file system has no such thing. Opened when it is first needed.
    direct: OnceLock<Option<File>>,
    /// Whether such reads turned out not to work, though the file could be opened for them.
    is_refused: AtomicBool,
}

impl DataFile {
    pub(super) fn new(file: File) -> Self {
        // Reads are of whole runs: what the kernel would read ahead is seldom wanted. Only a hint.
        #[cfg(target_os = "linux")]
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random);
        Self {
            file,
            direct: OnceLock::new(),
            is_refused: AtomicBool::new(false),
        }
    }

    /// Up to so many bytes: less at the end of the file.
    ///
    /// * `start` — a multiple of 4 KiB
    /// * `path` — of the file
    pub(super) fn read(&self, start: u64, len: usize, path: &Path) -> io::Result<Bytes> {
        let mut buffer = Buffer::new(len);
        if !self.is_refused.load(Ordering::Relaxed)
            && let Some(direct) = self.direct.get_or_init(|| open_direct(path))
        {
            match buffer.fill(direct, start) {
                Ok(()) => return Ok(buffer.into_bytes(len)),
                // Of disks that want other multiples, and of file systems that only open files so: it stays like that.
                Err(Errno::INVAL | Errno::NOTSUP) => self.is_refused.store(true, Ordering::Relaxed),
                // If it is the disk that fails, the read below says so.
                Err(_) => {}
            }
        }
        buffer.fill(&self.file, start)?;
        Ok(buffer.into_bytes(len))
    }
}

#[cfg(target_os = "linux")]
fn open_direct(path: &Path) -> Option<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let direct = rustix::fs::OFlags::DIRECT.bits().cast_signed();
    File::options().read(true).custom_flags(direct).open(path).ok()
}

#[cfg(not(target_os = "linux"))]
fn open_direct(_: &Path) -> Option<File> {
    None
}

/// Memory for reads past the page cache.
struct Buffer {
    memory: *mut MaybeUninit<u8>,
    layout: Layout,
    /// How much of it has been written.
    len: usize,
}

// SAFETY: it owns its memory, which is no thread's in particular.
unsafe impl Send for Buffer {}

impl Buffer {
    fn new(len: usize) -> Self {
        let size = len.next_multiple_of(ALIGN).max(ALIGN);
        let layout = Layout::from_size_align(size, ALIGN).expect("a run is far smaller than the address space");
        // SAFETY: the size is not zero.
        let memory = unsafe { alloc(layout) };
        if memory.is_null() {
            handle_alloc_error(layout);
        }
        Self {
            memory: memory.cast(),
            layout,
            len: 0,
        }
    }

    /// What has not been written.
    fn rest(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: so many bytes were allocated, and are borrowed only through `self`.
        let all = unsafe { std::slice::from_raw_parts_mut(self.memory, self.layout.size()) };
        &mut all[self.len..]
    }

    /// Reads until it is full or the file ends.
    fn fill(&mut self, file: &File, start: u64) -> Result<(), Errno> {
        while self.len < self.layout.size() {
            let at = start + self.len as u64;
            match rustix::io::pread(file, self.rest(), at) {
                Ok((read, _)) => {
                    let read = read.len();
                    self.len += read;
                    // The end of the file; what a read past the page cache would go on from is no multiple any more.
                    if read == 0 || !self.len.is_multiple_of(ALIGN) {
                        break;
                    }
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// At most `len` bytes of what was written; keeps all of it.
    fn into_bytes(mut self, len: usize) -> Bytes {
        self.len = self.len.min(len);
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: so many bytes were written, and nobody writes while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.memory.cast(), self.len) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.memory.cast(), self.layout) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn reads_are_exact_up_to_the_end_of_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("data");
        let content: Vec<u8> = (0..300_001_u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8)
            .collect();
        let options = File::options().read(true).write(true).create_new(true).to_owned();
        let mut file = options.open(&path).expect("a file");
        file.write_all(&content).expect("written");
        let data = DataFile::new(file);
        // Before what was written is on disk, and after; and where one cannot read past the page cache.
        for round in 0..3 {
            if round == 1 {
                data.file.sync_all().expect("a disk");
            }
            let absent = Path::new("/nowhere/at/all");
            let other = DataFile::new(File::open(&path).expect("a file"));
            let (data, path) = if round == 2 {
                (&other, absent)
            } else {
                (&data, path.as_path())
            };
            for (start, len) in [(0, 4096), (4096, 100_000), (8192, 1), (294_912, 9000), (307_200, 10)] {
                let found = data.read(start as u64, len, path).expect("readable");
                let end = (start + len).min(content.len());
                assert_eq!(found, content[start.min(end)..end], "{start} {len} {round}");
            }
        }
    }

    /// Some file systems open files for reads past the page cache, and then refuse each of them with EINVAL.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_system_that_refuses_direct_reads_is_not_asked_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("data");
        std::fs::write(&path, [7u8; 5000]).expect("written");
        // This one refuses every read that does not begin at a multiple of eight.
        let refusing = File::open("/proc/self/pagemap").expect("every process has one");
        let refused = Buffer::new(4096).fill(&refusing, 4);
        assert_eq!(refused, Err(Errno::INVAL));
        let data = DataFile::new(File::open(&path).expect("a file"));
        data.direct.set(Some(refusing)).expect("it was not opened yet");
        assert_eq!(data.read(4, 4096, &path).expect("readable"), [7u8; 4096][..]);
        assert!(data.is_refused.load(Ordering::Relaxed));
        // Where it would give something else.
        assert_eq!(data.read(4096, 4096, &path).expect("readable"), [7u8; 904][..]);
    }

    #[test]
    fn what_cannot_be_read_directly_is_read_otherwise() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("data");
        std::fs::write(&path, [7u8; 5000]).expect("written");
        let data = DataFile::new(File::open(&path).expect("a file"));
        let unreadable = File::options().write(true).open(&path).expect("a file");
        data.direct.set(Some(unreadable)).expect("it was not opened yet");
        assert_eq!(data.read(4096, 4096, &path).expect("readable"), [7u8; 904][..]);
        assert!(!data.is_refused.load(Ordering::Relaxed), "another read may do");
    }
}
