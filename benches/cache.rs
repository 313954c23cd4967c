//! What does a read through the cache cost?
//!
//! Data: one object of 256 MiB of bytes that do not compress, in a store in memory.
//! Memory tier: everything fits, read into it 8 MiB at a time; random reads of 4 to 64 KiB at any place, larger ones at
//! multiples of their size, and of a decoded thing, one at a time.
//! Disk tier: no memory tier; random aligned reads of 64 KiB and 1 MiB, 8 at a time, after the kernel was told to drop
//! the file from its page cache.
//! Baseline: 8 threads that read the same ranges of the same file with pread, past the page cache (O_DIRECT) where the
//! file system permits it; turns alternate with the disk tier's.
//! Requests: a store that answers in 10 ms, but for 3 of 100 GETs, which take 300 ms; reads of 64 KiB that are in no tier,
//! 16 at a time. Baseline: the same GETs without the cache, which asks a second time when an answer is late.
//! Reported: ns per read (median of turns and the slowest turn), MB/s and their ratio, percentiles.
//! Aims: at most 5 us per read in memory; at least 80 % of the baseline on disk.
//! Left out: admission, eviction.   Run: cargo bench --bench cache
#![allow(clippy::disallowed_methods, reason = "a bench measures real time")]
#![allow(
    clippy::single_range_in_vec_init,
    reason = "reads take slices of ranges, here of one"
)]

mod common;

use std::alloc::{Layout, alloc, dealloc};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use object_store::memory::InMemory;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use shoal::cache::{Cache, CacheOptions, ObjectRef, ReadKind};
use shoal::config::StoreConfig;
use shoal::model::OrgId;
use shoal::store::{Store, StoreError};

const OBJECT_BYTES: u64 = 256 << 20;
const TURNS: usize = 7;
const MEMORY_READS: u64 = 50_000;
const GETS: u64 = 3000;
const GETS_AT_ONCE: usize = 16;
const USUAL: Duration = Duration::from_millis(10);
const LATE: Duration = Duration::from_millis(300);
/// Of so many GETs one is late.
const LATE_EVERY: u64 = 33;
const READERS: usize = 8;
/// Bytes read per turn of the disk tier.
const TURN_BYTES: u64 = 256 << 20;
const ALIGNMENT: usize = 4096;
const AIM_NS: f64 = 5000.0;
const AIM_RATIO: f64 = 0.8;

fn main() {
    common::use_the_disk();
    let tokio = common::tokio();
    let dir = tempfile::tempdir().expect("a directory on disk");
    let (store, object) = tokio.block_on(stored());
    memory(&tokio, &store, &object);
    disk(&tokio, &store, &object, dir.path());
    tokio.block_on(requests());
}

async fn stored() -> (Store, ObjectRef) {
    let parts = common::parts();
    let store = Store::new(
        Arc::new(InMemory::new()),
        parts.clock,
        parts.rng.clone(),
        &StoreConfig::default(),
    );
    let mut bytes = Vec::with_capacity(OBJECT_BYTES as usize);
    while bytes.len() < OBJECT_BYTES as usize {
        bytes.extend_from_slice(&parts.rng.u128().to_le_bytes());
    }
    let object = ObjectRef {
        key: Arc::new("bench/object".into()),
        len: OBJECT_BYTES,
        org: OrgId::default_org(),
    };
    store.put(&object.key, Bytes::from(bytes)).await.expect("memory");
    (store, object)
}

/// Numbers that look random, the same in every run.
fn scattered(i: u64) -> u64 {
    (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20
}

fn memory(tokio: &tokio::runtime::Runtime, store: &Store, object: &ObjectRef) {
    let cache = Cache::new(
        store.clone(),
        &common::parts(),
        CacheOptions::memory_only(2 * OBJECT_BYTES),
    );
    tokio.block_on(cache.load(object, ReadKind::Rows)).expect("stored");
    for bytes in [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20] {
        let turn = async || {
            for i in 0..MEMORY_READS {
                let start = match bytes <= 64 << 10 {
                    true => scattered(i) % (OBJECT_BYTES - bytes),
                    false => scattered(i) % (OBJECT_BYTES / bytes) * bytes,
                };
                let found = cache.read(object, &[start..start + bytes], ReadKind::Rows).await;
                std::hint::black_box(found.expect("in memory"));
            }
        };
        report_ns(&format!("memory, {} KiB", bytes >> 10), tokio, turn);
    }
    let turn = async || {
        for _ in 0..MEMORY_READS {
            let found = cache
                .decoded(object, 1, async { Ok::<_, StoreError>((Arc::new(7_u64), 100)) })
                .await;
            std::hint::black_box(found.expect("in memory"));
        }
    };
    report_ns("memory, decoded", tokio, turn);
}

fn report_ns(what: &str, tokio: &tokio::runtime::Runtime, turn: impl AsyncFn()) {
    let mut times: Vec<f64> = (0..TURNS)
        .map(|_| {
            let begun = Instant::now();
            tokio.block_on(turn());
            begun.elapsed().as_nanos() as f64 / MEMORY_READS as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let (median, worst) = (times[TURNS / 2], times[TURNS - 1]);
    let verdict = if median <= AIM_NS { "met" } else { "missed" };
    println!("{what}: {median:.0} ns per read, slowest turn {worst:.0} ns (aim {AIM_NS:.0} ns {verdict})");
}

fn disk(tokio: &tokio::runtime::Runtime, store: &Store, object: &ObjectRef, dir: &Path) {
    let options = CacheOptions::with_disk(0, Some(dir.to_path_buf()), 4 * OBJECT_BYTES);
    let cache = Cache::new(store.clone(), &common::parts(), options);
    tokio.block_on(async {
        for start in (0..OBJECT_BYTES).step_by(32 << 20) {
            let read = cache.read(object, &[start..start + (32 << 20)], ReadKind::Rows).await;
            read.expect("stored");
            cache.settle().await;
        }
    });
    let data = data_file(dir).expect("the cache wrote one file");
    for bytes in [64 << 10, 1 << 20] {
        let starts: Vec<u64> = (0..TURN_BYTES / bytes)
            .map(|i| scattered(i) % (OBJECT_BYTES / bytes) * bytes)
            .collect();
        let (mut ours, mut plain) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            forget_pages(&data);
            ours.push(timed(|| tokio.block_on(through_cache(&cache, object, &starts, bytes))));
            forget_pages(&data);
            plain.push(timed(|| preads(&data, &starts, bytes as usize)));
        }
        let rate = |times: &mut Vec<f64>| {
            times.sort_by(f64::total_cmp);
            TURN_BYTES as f64 / times[TURNS / 2] / 1e6
        };
        let (ours, plain) = (rate(&mut ours), rate(&mut plain));
        let ratio = ours / plain;
        let verdict = if ratio >= AIM_RATIO { "met" } else { "missed" };
        println!(
            "disk, {} KiB: {ours:.0} MB/s, preads {plain:.0} MB/s, ratio {ratio:.2} (aim {AIM_RATIO} {verdict})",
            bytes >> 10
        );
    }
    let misses = cache.stats().reads.store_bytes;
    assert_eq!(misses, OBJECT_BYTES, "only the first reads went to the store");
}

fn timed(work: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    work();
    begun.elapsed().as_secs_f64()
}

/// What late answers cost with and without second requests.
async fn requests() {
    let config = ThrottleConfig {
        wait_get_per_call: USUAL,
        ..ThrottleConfig::default()
    };
    let throttled = Arc::new(ThrottledStore::new(InMemory::new(), config));
    let parts = common::parts();
    let store = Store::new(
        throttled.clone(),
        parts.clock.clone(),
        parts.rng.clone(),
        &StoreConfig::default(),
    );
    let object = ObjectRef {
        key: Arc::new("bench/slow".into()),
        len: GETS * (64 << 10),
        org: OrgId::default_org(),
    };
    let body = Bytes::from(vec![7; object.len as usize]);
    store.put(&object.key, body).await.expect("memory");
    let cache = Cache::new(store.clone(), &parts, CacheOptions::memory_only(0));
    let without = late_answers(&throttled, async |range| {
        let found = store.get_range(&object.key, range).await;
        assert!(found.expect("there").is_some());
    });
    println!("requests, 3 % late, without the cache: {}", without.await);
    let with = late_answers(&throttled, async |range| {
        cache.read(&object, &[range], ReadKind::Rows).await.expect("there");
    });
    println!("requests, 3 % late, asked for again:   {}", with.await);
}

/// How long reads take, of which some are late.
async fn late_answers(throttled: &ThrottledStore<InMemory>, read: impl AsyncFn(std::ops::Range<u64>)) -> common::Times {
    let mut times = common::Times::default();
    let mut under_way = FuturesUnordered::new();
    for i in 0..GETS {
        if under_way.len() == GETS_AT_ONCE {
            times.extend(under_way.next().await);
        }
        let start = i * (64 << 10);
        let (begun, reading) = (Instant::now(), read(start..start + (64 << 10)));
        let mut one = Box::pin(async move {
            reading.await;
            begun.elapsed()
        });
        // What is asked from here on, second requests too, is answered as usual.
        if i % LATE_EVERY == 0 {
            throttled.config_mut(|c| c.wait_get_per_call = LATE);
        }
        assert!(futures::poll!(&mut one).is_pending());
        throttled.config_mut(|c| c.wait_get_per_call = USUAL);
        under_way.push(one);
    }
    while let Some(took) = under_way.next().await {
        times.push(took);
    }
    times
}

async fn through_cache(cache: &Cache, object: &ObjectRef, starts: &[u64], bytes: u64) {
    let reads = starts.iter().map(|start| {
        let range = *start..start + bytes;
        async move { cache.read(object, &[range], ReadKind::Rows).await.expect("on disk") }
    });
    let mut reads = futures::stream::iter(reads).buffer_unordered(READERS);
    while let Some(found) = reads.next().await {
        std::hint::black_box(found);
    }
}

fn data_file(dir: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(dir).ok()?.flatten();
    entries.map(|e| e.path()).find_map(|path| match path.is_dir() {
        true => data_file(&path),
        false => (path.file_name()? == "data").then_some(path),
    })
}

fn forget_pages(path: &Path) {
    let file = File::open(path).expect("there");
    file.sync_all().expect("a disk");
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("a file");
}

/// A buffer whose address suits O_DIRECT.
struct Aligned {
    start: *mut u8,
    layout: Layout,
}

impl Aligned {
    fn new(bytes: usize) -> Self {
        let layout = Layout::from_size_align(bytes, ALIGNMENT).expect("a power of two");
        // SAFETY: the size is not zero.
        let start = unsafe { alloc(layout) };
        assert!(!start.is_null(), "there is memory");
        // SAFETY: `alloc` returned so many bytes.
        unsafe { start.write_bytes(0, bytes) };
        Self { start, layout }
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: allocated and written in `new`, and borrowed only through `self`.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.layout.size()) }
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.start, self.layout) };
    }
}

fn preads(path: &Path, starts: &[u64], bytes: usize) {
    let direct = rustix::fs::OFlags::DIRECT.bits().cast_signed();
    let opened = File::options().read(true).custom_flags(direct).open(path);
    let file = opened.or_else(|_| File::open(path)).expect("there");
    let share = starts.len().div_ceil(READERS);
    std::thread::scope(|scope| {
        for starts in starts.chunks(share) {
            let file = &file;
            scope.spawn(move || {
                let mut buffer = Aligned::new(bytes);
                for start in starts {
                    let read = rustix::io::pread(file, buffer.bytes(), *start).expect("a disk");
                    assert_eq!(read, bytes, "the file is as long as the object");
                }
            });
        }
    });
}
