#![allow(
    clippy::single_range_in_vec_init,
    reason = "reads take slices of ranges, here often of one"
)]

use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use proptest::prelude::*;

use object_store::memory::InMemory;

use super::*;
use crate::cache::tests::{World, of};
use crate::cache::{Cache, CacheOptions, Missing, ObjectRef, ReadKind};

const MIB: u64 = 1 << 20;

/// A cache that keeps nothing in memory, so that the disk is asked.
fn options(directory: &Path, disk_bytes: u64) -> CacheOptions {
    CacheOptions {
        disk_reserve_bytes: Some(0),
        ..CacheOptions::with_disk(0, Some(directory.to_path_buf()), disk_bytes)
    }
}

fn open(world: &World, directory: &Path, disk_bytes: u64) -> Cache {
    let cache = Cache::new(world.store.clone(), &world.runtime, options(directory, disk_bytes));
    assert!(cache.stats().disk.is_some(), "no other cache uses the directory");
    cache
}

fn failing(world: &World, directory: &Path, fault: impl Fn(DiskOp) -> io::Result<()> + Send + Sync + 'static) -> Cache {
    let options = CacheOptions {
        fault: Some(Arc::new(fault)),
        ..options(directory, 64 * MIB)
    };
    Cache::new(world.store.clone(), &world.runtime, options)
}

async fn read(cache: &Cache, (object, body): &(ObjectRef, Bytes), range: Range<u64>) {
    let found = cache
        .read(object, std::slice::from_ref(&range), ReadKind::Rows)
        .await
        .expect("there");
    assert!(found[0] == of(body, &range), "{} {range:?}", object.key);
}

/// GETs that reading it whole costs.
async fn cost(world: &World, cache: &Cache, object: &(ObjectRef, Bytes)) -> u64 {
    let before = world.gets();
    read(cache, object, 0..object.0.len).await;
    world.gets() - before
}

/// Bytes that a directory takes on disk.
fn on_disk(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let of_entry = |e: std::fs::DirEntry| match e.metadata() {
        Ok(m) if m.is_dir() => on_disk(&e.path()) + m.blocks() * 512,
        Ok(m) => m.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(of_entry).sum()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("room");
    for entry in std::fs::read_dir(from).into_iter().flatten().flatten() {
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to),
            // It may be gone by now.
            false => drop(std::fs::copy(entry.path(), to)),
        }
    }
}

fn file_of(directory: &Path, object: &ObjectRef, name: &str) -> PathBuf {
    let id = id_of(object.key.as_ref().as_ref());
    directory
        .join(format!("{:02x}", id >> 120))
        .join(format!("{id:032x}"))
        .join(name)
}

#[tokio::test]
async fn a_restart_finds_what_was_read_and_a_rival_gets_no_disk() {
    let (world, dir) = (World::new(), tempfile::tempdir().expect("room"));
    let cache = open(&world, dir.path(), 64 * MIB);
    let object = world.object("o", "a", 3_000_001).await;
    let other = world.object("p", "a", 100).await;
    assert_eq!(cost(&world, &cache, &object).await, 1);
    cache.put_through(&other.0, other.1.clone()).await;
    cache.settle().await;
    assert_eq!(
        (cost(&world, &cache, &object).await, cost(&world, &cache, &other).await),
        (0, 0)
    );
    assert!(cache.temperature(&[object.0.clone(), other.0.clone()]) > 0.99);
    let rival = Cache::new(world.store.clone(), &world.runtime, options(dir.path(), 64 * MIB));
    assert!(rival.stats().disk.is_none());
    let counts = cache.stats().reads;
    assert_eq!((counts.disk_bytes, counts.store_bytes), (3_000_101, 3_000_001));
    drop(cache);
    let cache = open(&world, dir.path(), 64 * MIB);
    // At once, whether or not the directory was looked through.
    assert_eq!(
        (cost(&world, &cache, &object).await, cost(&world, &cache, &other).await),
        (0, 0)
    );
    cache.settle().await;
    assert_eq!(cost(&world, &cache, &object).await, 0);
    cache.purge(std::slice::from_ref(&object.0));
    assert_eq!(
        (cost(&world, &cache, &object).await, cost(&world, &cache, &other).await),
        (1, 0)
    );
    let disk = cache.stats().disk.expect("there is one");
    assert_eq!(
        (disk.checksum_errors, disk.read_errors, disk.write_errors, disk.disabled),
        (0, 0, 0, false)
    );
}

#[tokio::test]
async fn every_flipped_byte_of_data_is_a_miss() {
    let (world, dir) = (World::new(), tempfile::tempdir().expect("room"));
    let cache = open(&world, dir.path(), 64 * MIB);
    let object = world.object("o", "a", 9001).await;
    cost(&world, &cache, &object).await;
    cache.settle().await;
    let data = file_of(dir.path(), &object.0, "data");
    for at in 0..9001_u64 {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::options().write(true).open(&data).expect("there");
        file.write_all_at(&[object.1[at as usize] ^ (1 << (at % 8))], at)
            .expect("room");
        assert_eq!(cost(&world, &cache, &object).await, 1, "{at}");
        cache.settle().await;
        assert_eq!(cache.stats().disk.expect("there is one").checksum_errors, at + 1);
    }
    assert_eq!(cost(&world, &cache, &object).await, 0);
}

#[tokio::test]
async fn every_flipped_byte_of_a_map_leaves_answers_right() {
    let (world, dir) = (World::new(), tempfile::tempdir().expect("room"));
    let object = world.object("o", "a", 70_000).await;
    let cache = open(&world, dir.path(), 64 * MIB);
    cost(&world, &cache, &object).await;
    cache.settle().await;
    drop(cache);
    let map = file_of(dir.path(), &object.0, "map");
    let (whole, data) = (
        std::fs::read(&map).expect("there"),
        file_of(dir.path(), &object.0, "data"),
    );
    let data_bytes = std::fs::read(&data).expect("there");
    // All that says something; of the padding every 50th byte.
    for at in (0..whole.len()).filter(|at| *at < 80 || *at >= 4092 || at % 50 == 0) {
        let mut bad = whole.clone();
        bad[at] ^= 1 << (at % 8);
        std::fs::create_dir_all(map.parent().expect("has one")).expect("room");
        std::fs::write(&map, bad).expect("room");
        std::fs::write(&data, &data_bytes).expect("room");
        let cache = open(&world, dir.path(), 64 * MIB);
        assert!(cost(&world, &cache, &object).await <= 1);
    }
}

#[tokio::test]
async fn the_size_limit_is_held_and_others_stay() {
    let (world, dir) = (World::new(), tempfile::tempdir().expect("room"));
    let cache = open(&world, dir.path(), 32 * MIB);
    let small = world.object("small", "a", 8 << 20).await;
    let pinned = world.object("pinned", "b", 4 << 20).await;
    let large = world.object("large", "b", 100 << 20).await;
    cost(&world, &cache, &small).await;
    cache.pin(&pinned.0);
    cost(&world, &cache, &pinned).await;
    cache.settle().await;
    for start in (0..100).map(|i| i * MIB) {
        read(&cache, &large, start..start + MIB).await;
        cache.settle().await;
        assert!(cache.stats().disk.expect("there is one").used_bytes <= 32 * MIB);
    }
    assert!(on_disk(dir.path()) <= 33 * MIB, "{}", on_disk(dir.path()));
    assert!(on_disk(dir.path()) >= 28 * MIB, "{}", on_disk(dir.path()));
    // The one did not push out the other's, nor what is pinned.
    assert_eq!(
        (cost(&world, &cache, &small).await, cost(&world, &cache, &pinned).await),
        (0, 0)
    );
    // Pins beyond 70 % of the disk do not count.
    cache.pin(&large.0);
    for start in (0..100).map(|i| i * MIB) {
        read(&cache, &large, start..start + MIB).await;
        cache.settle().await;
    }
    assert!(on_disk(dir.path()) <= 33 * MIB);
    drop(cache);
    // A smaller limit is kept to at once.
    let cache = open(&world, dir.path(), 16 * MIB);
    cache.settle().await;
    assert!(on_disk(dir.path()) <= 17 * MIB);
    cost(&world, &cache, &large).await;
}

#[tokio::test]
async fn what_is_pinned_is_brought_as_far_as_pins_fit() {
    let (world, dir) = (World::new(), tempfile::tempdir().expect("room"));
    let cache = open(&world, dir.path(), 32 * MIB);
    let small = world.object("small", "a", (9 << 20) + 5).await;
    let large = world.object("large", "a", 100 << 20).await;
    cache.pin(&small.0);
    // Some of it is there.
    read(&cache, &small, 100_000..200_000).await;
    let before = world.gets();
    cache.bring(&small.0, || true).await.expect("there");
    assert_eq!(world.gets() - before, 2);
    cache.bring(&small.0, || true).await.expect("there");
    assert_eq!(world.gets() - before, 2, "nothing is missing");
    assert_eq!(cost(&world, &cache, &small).await, 0);
    // 70 % of the disk, as far as whole requests go: a large one, and the end, which is smaller.
    cache.pin(&large.0);
    let missing = cache.bring(&large.0, || true).await.expect("there");
    assert_eq!(world.gets() - before, 4);
    let bytes = (100 << 20) - (12 << 20);
    assert_eq!(missing, Missing { bytes, may_come: true }, "other pins may go");
    let end = large.0.len - 5..large.0.len;
    read(&cache, &large, end).await;
    assert_eq!(cost(&world, &cache, &small).await, 0);
    assert!(on_disk(dir.path()) <= 33 * MIB);
    // Nobody wants it any more.
    let other = world.object("other", "a", 1 << 20).await;
    cache.unpin(&large.0);
    cache.bring(&other.0, || false).await.expect("there");
    assert_eq!(world.gets() - before, 4);
    // An earlier run's blocks are known before anything is asked for.
    drop(cache);
    let cache = open(&world, dir.path(), 32 * MIB);
    cache.pin(&small.0);
    let missing = cache.bring(&small.0, || true).await.expect("there");
    assert_eq!(missing, Missing::default());
    assert_eq!(world.gets() - before, 4);
}

/// A clock that goes on when it is told to.
#[derive(Default)]
struct Stepped(AtomicU64);

impl Clock for Stepped {
    fn wall(&self) -> Duration {
        self.boot()
    }

    fn boot(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

#[tokio::test]
async fn what_the_disk_refused_is_brought_when_it_admits_again() {
    let clock = Arc::new(Stepped::default());
    let world = World::over(Arc::new(InMemory::new()), clock.clone());
    let dir = tempfile::tempdir().expect("room");
    let failures = AtomicU64::new(1);
    let cache = failing(&world, dir.path(), move |op| {
        let fails = || {
            failures
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                .is_ok()
        };
        match op == DiskOp::Write && fails() {
            true => Err(io::Error::other("a bad cable")),
            false => Ok(()),
        }
    });
    let first = world.object("first", "a", 9 << 20).await;
    let second = world.object("second", "a", 2 << 20).await;
    cache.pin(&first.0);
    cache.pin(&second.0);
    let bring = async |object: &(ObjectRef, Bytes)| {
        let before = world.gets();
        let missing = cache.bring(&object.0, || true).await.expect("there");
        (missing, world.gets() - before)
    };
    let all_of = |bytes| Missing { bytes, may_come: true };
    assert_eq!(bring(&first).await, (all_of(9 << 20), 1));
    // Nothing is fetched that would be refused.
    assert_eq!(bring(&second).await, (all_of(2 << 20), 0));
    clock.0.store(11, Ordering::Relaxed);
    assert_eq!(bring(&second).await, (Missing::default(), 1));
    assert_eq!(bring(&first).await, (Missing::default(), 2));
    for object in [&first, &second] {
        assert_eq!(cost(&world, &cache, object).await, 0);
    }
}

#[tokio::test]
async fn what_is_worth_more_stays_and_the_superseded_goes_first() {
    let (world, dir) = (World::new(), tempfile::tempdir().expect("room"));
    let cache = open(&world, dir.path(), 16 * MIB);
    let object = world.object("hot", "a", 4 << 20).await;
    let read_as = async |(object, _): &(ObjectRef, Bytes), kind| {
        let before = world.gets();
        cache.read(object, &[0..object.len], kind).await.expect("there");
        cache.settle().await;
        world.gets() - before
    };
    read_as(&object, ReadKind::Hot).await;
    for i in 0..6 {
        let vectors = world.object(&format!("v{i}"), "a", 8 << 20).await;
        read_as(&vectors, ReadKind::Vectors).await;
    }
    assert_eq!(read_as(&object, ReadKind::Hot).await, 0);
    let rows = world.object("rows", "a", 6 << 20).await;
    read_as(&rows, ReadKind::Rows).await;
    cache.forget(&object.0);
    cache.settle().await;
    let more = world.object("more", "a", 8 << 20).await;
    read_as(&more, ReadKind::Rows).await;
    assert_eq!(read_as(&rows, ReadKind::Scan).await, 0);
    assert!(read_as(&object, ReadKind::Scan).await > 0);
}

#[tokio::test]
async fn a_failing_disk_changes_no_answer() {
    let (world, dir) = (World::new(), tempfile::tempdir().expect("room"));
    let object = world.object("o", "a", 2 << 20).await;
    // Full: nothing more is tried for a while.
    let writes = Arc::new(AtomicU64::new(0));
    let counted = writes.clone();
    let cache = failing(&world, dir.path(), move |op| match op {
        DiskOp::Write => {
            counted.fetch_add(1, Ordering::Relaxed);
            Err(io::ErrorKind::StorageFull.into())
        }
        DiskOp::Read => Ok(()),
    });
    for _ in 0..3 {
        assert_eq!(cost(&world, &cache, &object).await, 1);
        cache.settle().await;
    }
    assert_eq!(writes.load(Ordering::Relaxed), 1);
    assert_eq!(cache.stats().disk.expect("there is one").write_errors, 1);
    drop(cache);
    // Unreadable: blocks are not written again, and in the end the disk is given up.
    let cache = failing(&world, dir.path(), |op| match op {
        DiskOp::Write => Ok(()),
        DiskOp::Read => Err(io::Error::from_raw_os_error(5)),
    });
    for i in 0..20 {
        let object = world.object(&format!("o{i}"), "a", 100_000).await;
        assert_eq!(cost(&world, &cache, &object).await, 1);
        cache.settle().await;
        assert_eq!(cost(&world, &cache, &object).await, 1);
        cache.settle().await;
        assert_eq!(cost(&world, &cache, &object).await, 1);
    }
    let disk = cache.stats().disk.expect("there is one");
    assert_eq!((disk.read_errors, disk.disabled), (16, true));
    drop(cache);
    // No free space to spare: nothing is admitted, and what was there goes.
    let cache = open(&world, dir.path(), 64 * MIB);
    cost(&world, &cache, &object).await;
    cache.settle().await;
    assert_eq!(cost(&world, &cache, &object).await, 0);
    drop(cache);
    let full = CacheOptions {
        disk_reserve_bytes: Some(u64::MAX),
        ..options(dir.path(), 64 * MIB)
    };
    let cache = Cache::new(world.store.clone(), &world.runtime, full);
    cache.settle().await;
    let other = world.object("p", "a", 100).await;
    for _ in 0..2 {
        assert_eq!(cost(&world, &cache, &other).await, 1);
        cache.settle().await;
    }
    assert!(on_disk(dir.path()) < MIB);
}

/// What happens to a directory between two runs.
#[derive(Clone, Debug)]
enum Damage {
    Truncate(u8, u64),
    Garble(u8, u64),
    Swap(u8, u8),
    Remove(u8),
}

fn arb_damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (any::<u8>(), any::<u64>()).prop_map(|(file, at)| Damage::Truncate(file, at)),
        (any::<u8>(), any::<u64>()).prop_map(|(file, at)| Damage::Garble(file, at)),
        (any::<u8>(), any::<u8>()).prop_map(|(a, b)| Damage::Swap(a, b)),
        any::<u8>().prop_map(Damage::Remove),
    ]
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = std::fs::read_dir(directory).into_iter().flatten().flatten().collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        match entry.path().is_dir() {
            true => files(&entry.path(), found),
            false => found.push(entry.path()),
        }
    }
}

fn inflict(directory: &Path, damage: &Damage) {
    let mut found = Vec::new();
    files(directory, &mut found);
    if found.is_empty() {
        return;
    }
    let pick = |file: u8| &found[usize::from(file) % found.len()];
    let at = |path: &Path, at: u64| at % (std::fs::metadata(path).map_or(0, |m| m.len()) + 1);
    match damage {
        Damage::Truncate(file, len) => {
            let path = pick(*file);
            let file = std::fs::File::options().write(true).open(path).expect("there");
            file.set_len(at(path, *len)).expect("room");
        }
        Damage::Garble(file, place) => {
            let path = pick(*file);
            let mut bytes = std::fs::read(path).expect("there");
            let from = at(path, *place) as usize;
            bytes
                .iter_mut()
                .skip(from)
                .take(100)
                .for_each(|b| *b = b.wrapping_mul(31).wrapping_add(7));
            std::fs::write(path, bytes).expect("room");
        }
        Damage::Swap(a, b) if pick(*a) != pick(*b) => {
            let aside = directory.join("aside");
            std::fs::rename(pick(*a), &aside).expect("same disk");
            std::fs::rename(pick(*b), pick(*a)).expect("same disk");
            std::fs::rename(aside, pick(*b)).expect("same disk");
        }
        Damage::Swap(..) => {}
        Damage::Remove(file) => drop(std::fs::remove_file(pick(*file))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Killed in the midst of writing, damaged, started again, several times: every answer stays right.
    #[test]
    fn whatever_happens_to_the_files_answers_stay_right(
        reads in proptest::collection::vec((0..3_usize, 0..1_500_000_u64, 1..600_000_u64), 1..12),
        damages in proptest::collection::vec(arb_damage(), 0..4),
        fail_every in prop_oneof![Just(0_u64), 2..20_u64],
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
        runtime.block_on(async {
            let (world, dir) = (World::new(), tempfile::tempdir().expect("room"));
            let mut objects = Vec::new();
            for (i, len) in [5_000_usize, 100_000, 1_500_000].into_iter().enumerate() {
                objects.push(world.object(&format!("o{i}"), ["a", "b"][i % 2], len).await);
            }
            for run in 0..3 {
                let place = dir.path().join(run.to_string());
                let operations = AtomicU64::new(0);
                let options = CacheOptions {
                    fault: (fail_every > 0).then(|| -> Fault {
                        Arc::new(move |_| match operations.fetch_add(1, Ordering::Relaxed) % fail_every {
                            1 => Err(io::Error::from_raw_os_error(5)),
                            _ => Ok(()),
                        })
                    }),
                    ..self::options(&place, MIB)
                };
                let cache = Cache::new(world.store.clone(), &world.runtime, options);
                for _ in 0..2 {
                    let all = reads.iter().map(async |(object, start, len)| {
                        let object = &objects[*object];
                        let start = start % object.0.len;
                        read(&cache, object, start..(start + len).min(object.0.len)).await;
                    });
                    futures::future::join_all(all).await;
                }
                // As if the process had been killed now.
                let next = dir.path().join((run + 1).to_string());
                copy(&place, &next);
                damages.iter().for_each(|damage| inflict(&next, damage));
            }
        });
    }
}
