#![allow(
    clippy::single_range_in_vec_init,
    reason = "reads take slices of ranges, here often of one"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use proptest::prelude::*;

use super::*;
use crate::base::{CpuPool, Ledger, MemoryShare, Rng, SystemClock, TokioClock, TokioSpawner};
use crate::config::StoreConfig;
use crate::store::count::CountingStore;
use crate::store::paths;

/// A store that counts, a runtime, and objects in it.
pub(super) struct World {
    pub(super) backend: CountingStore,
    pub(super) store: Store,
    pub(super) runtime: Runtime,
}

impl World {
    pub(super) fn new() -> Self {
        Self::over(Arc::new(InMemory::new()), Arc::new(SystemClock))
    }

    pub(super) fn over(backend: Arc<dyn ObjectStore>, clock: Arc<dyn Clock>) -> Self {
        let backend = CountingStore::new(backend);
        let rng = Rng::seeded(1);
        let store = Store::new(
            Arc::new(backend.clone()),
            clock.clone(),
            rng.clone(),
            &StoreConfig::default(),
        );
        let runtime = Runtime {
            clock,
            rng,
            spawner: Arc::new(TokioSpawner::default()),
            cpu: CpuPool::inline(),
            memory: Ledger::with_caches(1 << 20, 1 << 20, 1 << 30),
        };
        Self {
            backend,
            store,
            runtime,
        }
    }

    fn cache(&self, memory_bytes: u64) -> Cache {
        Cache::new(
            self.store.clone(),
            &self.runtime,
            CacheOptions::memory_only(memory_bytes),
        )
    }

    pub(super) async fn object(&self, name: &str, org: &str, len: usize) -> (ObjectRef, Bytes) {
        let body = content(name, len);
        let key = paths::record_directory(name);
        self.backend.put(&key, body.clone().into()).await.expect("memory");
        let object = ObjectRef {
            key: Arc::new(key),
            len: len as u64,
            org: OrgId::parse(org).expect("valid"),
        };
        (object, body)
    }

    pub(super) fn gets(&self) -> u64 {
        self.backend.counts().gets
    }
}

/// Bytes that differ between objects and between places in one.
fn content(name: &str, len: usize) -> Bytes {
    let mut state = xxhash_rust::xxh3::xxh3_64(name.as_bytes()) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        bytes.extend_from_slice(&(state >> 7).to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

pub(super) fn of(body: &Bytes, range: &Range<u64>) -> Bytes {
    body.slice(range.start as usize..range.end as usize)
}

#[tokio::test]
async fn what_begins_where_vectors_end_is_read_once() {
    let world = World::new();
    let (object, body) = world.object("o", "a", 40_000).await;
    let cache = world.cache(64 << 20);
    // The second read finds its first 4 KiB beside the vectors.
    for (kind, range, gets) in [
        (ReadKind::Vectors, 4096..20_000, 1),
        (ReadKind::Index, 19_000..30_000, 2),
        (ReadKind::Index, 19_000..30_000, 2),
        (ReadKind::Vectors, 4096..20_000, 2),
    ] {
        let read = cache
            .read(&object, std::slice::from_ref(&range), kind)
            .await
            .expect("there");
        assert_eq!((read, world.gets()), (vec![of(&body, &range)], gets));
    }
}

#[tokio::test(start_paused = true)]
async fn reads_are_exact_and_out_of_bounds_is_refused() {
    let world = slow_world().await;
    let (object, body) = world.object("o", "a", 300_001).await;
    let cache = world.cache(64 << 20);
    let ranges = [
        0..0,
        0..1,
        4095..4097,
        65_530..131_080,
        299_999..300_001,
        0..300_001,
        300_001..300_001,
    ];
    for _ in 0..2 {
        let found = cache.read(&object, &ranges, ReadKind::Rows).await.expect("there");
        for (found, range) in found.iter().zip(&ranges) {
            assert_eq!(found, &of(&body, range), "{range:?}");
        }
    }
    assert_eq!(world.gets(), 1);
    for bad in [0..300_002, 300_002..300_002, Range { start: 2, end: 1 }] {
        let error = cache.read(&object, &[bad], ReadKind::Rows).await.expect_err("outside");
        assert!(matches!(error, StoreError::Corrupt { .. }));
    }
    let (mut gone, _) = world.object("p", "a", 10).await;
    world.backend.delete(&gone.key).await.expect("memory");
    let error = cache.read(&gone, &[0..1], ReadKind::Rows).await.expect_err("gone");
    assert!(matches!(error, StoreError::Missing { .. }));
    // Shorter than its reader believes.
    gone.key = object.key.clone();
    gone.len = 400_000;
    let error = world
        .cache(1 << 20)
        .read(&gone, &[350_000..350_001], ReadKind::Rows)
        .await
        .expect_err("short");
    assert!(!matches!(error, StoreError::Missing { .. }), "{error}");
}

#[tokio::test]
async fn ranges_near_each_other_share_a_get_and_large_ones_are_split() {
    let world = World::new();
    let (object, body) = world.object("o", "a", 20 << 20).await;
    for (ranges, gets) in [
        (vec![0..10, 200_000..200_010], 1),
        (vec![0..10, 600_000..600_010], 2),
        (vec![600_000..600_010, 0..10, 260_000..260_001], 2),
        (vec![600_000..600_010, 0..10, 250_000..350_001], 1),
        (vec![0..20 << 20], 3),
        (vec![5..9 << 20, 4 << 20..20 << 20], 3),
        (vec![], 0),
        (vec![7..7], 0),
    ] {
        for kind in [ReadKind::Rows, ReadKind::Scan] {
            let cache = world.cache(64 << 20);
            let before = world.gets();
            let found = cache.read(&object, &ranges, kind).await.expect("there");
            for (found, range) in found.iter().zip(&ranges) {
                assert_eq!(found, &of(&body, range), "{range:?}");
            }
            assert_eq!(world.gets() - before, gets, "{ranges:?}");
            cache.read(&object, &ranges, kind).await.expect("there");
            let again = if kind == ReadKind::Scan { gets } else { 0 };
            assert_eq!(world.gets() - before - gets, again, "{ranges:?} {kind:?}");
        }
    }
}

/// A store whose GETs take as long as the test says.
fn slow(wait: Duration) -> Arc<dyn ObjectStore> {
    use object_store::throttle::{ThrottleConfig, ThrottledStore};
    let config = ThrottleConfig {
        wait_get_per_call: wait,
        ..ThrottleConfig::default()
    };
    Arc::new(ThrottledStore::new(InMemory::new(), config))
}

async fn slow_world() -> World {
    World::over(
        slow(Duration::from_millis(50)),
        Arc::new(TokioClock::new(Duration::ZERO)),
    )
}

#[tokio::test(start_paused = true)]
async fn readers_of_one_range_share_a_request_that_outlives_the_first() {
    let world = slow_world().await;
    let (object, body) = world.object("o", "a", 1 << 20).await;
    let cache = world.cache(64 << 20);
    let all = futures::future::join_all((0..100).map(|i| {
        let (cache, object) = (cache.clone(), object.clone());
        async move {
            cache
                .read(&object, &[i..100_000 + i], ReadKind::Rows)
                .await
                .expect("there")
        }
    }));
    // The first begins alone, and goes away while the others wait for its request.
    let mut first = Box::pin(cache.read(&object, &[0..102_400], ReadKind::Rows));
    assert!(futures::poll!(&mut first).is_pending());
    let mut all = Box::pin(all);
    assert!(futures::poll!(&mut all).is_pending());
    drop(first);
    let all = all.await;
    for (i, found) in all.iter().enumerate() {
        assert_eq!(found[0], body.slice(i..100_000 + i));
    }
    assert_eq!(world.gets(), 1);
    // The last one to go takes the request with it, and leaves nothing behind that blocks others.
    let mut alone = Box::pin(cache.read(&object, &[500_000..500_001], ReadKind::Rows));
    assert!(futures::poll!(&mut alone).is_pending());
    drop(alone);
    cache
        .read(&object, &[500_000..500_001], ReadKind::Rows)
        .await
        .expect("there");
    assert_eq!(world.gets(), 3);
}

#[tokio::test(start_paused = true)]
async fn one_decodes_for_all_and_another_takes_over() {
    let world = slow_world().await;
    let (object, _) = world.object("o", "a", 100).await;
    let cache = world.cache(64 << 20);
    let made = AtomicU64::new(0);
    let make = async |fails: bool| {
        cache
            .decoded(&object, 7, async {
                made.fetch_add(1, Ordering::Relaxed);
                let bytes = cache.read(&object, &[0..100], ReadKind::Scan).await?;
                match fails {
                    true => Err(StoreError::Missing { key: "x".into() }),
                    false => Ok((Arc::new(bytes[0].len()), 1000)),
                }
            })
            .await
    };
    let mut first = Box::pin(make(false));
    assert!(futures::poll!(&mut first).is_pending());
    let mut others = Box::pin(futures::future::join_all((0..10).map(|_| make(false))));
    assert!(futures::poll!(&mut others).is_pending());
    drop(first);
    assert!(others.await.into_iter().all(|n| *n.expect("made") == 100));
    assert_eq!(made.load(Ordering::Relaxed), 2);
    assert_eq!(*make(true).await.expect("kept"), 100);
    assert_eq!(made.load(Ordering::Relaxed), 2);
    // Another type under the same tag is a mistake, and no panic.
    let wrong = cache
        .decoded(&object, 7, async { Ok::<_, StoreError>((Arc::new("text"), 1)) })
        .await;
    assert!(wrong.is_err());
    // A failure is not kept, nor anybody else's.
    cache.purge(std::slice::from_ref(&object));
    let failed = futures::future::join_all((0..5).map(|_| make(true))).await;
    assert!(failed.iter().all(|f| matches!(f, Err(StoreError::Missing { .. }))));
    assert_eq!(made.load(Ordering::Relaxed), 7);
    assert_eq!(*make(false).await.expect("made"), 100);
    assert!(cache.inner.making.lock().expect("whole").is_empty());
}

#[tokio::test]
async fn what_is_made_a_second_time_is_kept() {
    let world = World::new();
    let cache = world.cache(64 << 20);
    let (object, _) = world.object("o", "a", 100).await;
    let kept = |tag| cache.kept::<u64>(&object, tag).map(|value| *value);
    for (round, found) in [(0, None), (1, None), (2, Some(7)), (3, Some(7))] {
        assert_eq!(kept(7), found, "{round}");
        cache.keep(&object, 7, &Arc::new(7_u64), 1000);
        cache.keep(&object, 100 + round, &Arc::new(1_u64), 1000);
    }
    assert_eq!(kept(100), None, "made once");
    let past = ReadMeter::bypassing();
    assert_eq!(past.observe(async { kept(7) }).await, None);
    assert!(cache.stats().memory_bytes < 2000);
}

#[tokio::test]
async fn memory_is_charged_and_held_to_its_limit() {
    let world = World::new();
    let cache = world.cache(4 << 20);
    let (object, _) = world.object("o", "a", 32 << 20).await;
    for i in 0..512 {
        let start = i * (64 << 10);
        for kind in [ReadKind::Rows, ReadKind::Vectors] {
            cache.read(&object, &[start..start + 5000], kind).await.expect("there");
        }
    }
    let stats = cache.stats();
    assert!(
        stats.memory_bytes <= 4 << 20 && stats.memory_bytes > 5 << 19,
        "{stats:?}"
    );
    assert_eq!(world.runtime.memory.used_bytes(MemoryShare::Caches), stats.memory_bytes);
    // Something larger than everything is made, and not kept.
    let big = cache
        .decoded(&object, 1, async { Ok::<_, StoreError>((Arc::new(5_u8), 1 << 30)) })
        .await;
    assert_eq!(*big.expect("made"), 5);
    assert!(cache.stats().memory_bytes <= 4 << 20);
    drop(cache);
    assert_eq!(world.runtime.memory.used_bytes(MemoryShare::Caches), 0);
}

#[tokio::test]
async fn a_meter_sums_up_its_own_reads_and_can_bypass() {
    let world = World::new();
    let (object, body) = world.object("o", "a", 1 << 20).await;
    let cache = world.cache(64 << 20);
    let read = async |range: Range<u64>| cache.read(&object, &[range], ReadKind::Index).await.expect("there");
    read(0..4096).await;
    let meter = ReadMeter::new();
    assert_eq!(meter.counts().hit_ratio(), 1.0);
    meter.observe(async { read(2048..6144).await }).await;
    meter.observe(async { read(0..4096).await }).await;
    let counts = meter.counts();
    assert_eq!((counts.hits, counts.misses), (1, 1));
    assert_eq!((counts.memory_bytes, counts.store_bytes), (2048 + 4096, 2048));
    assert_eq!(counts.hit_ratio(), 0.75);
    let before = world.gets();
    let past = ReadMeter::bypassing();
    let found = past.observe(async { read(0..4096).await }).await;
    assert_eq!(found[0], body.slice(0..4096));
    assert_eq!(past.counts().hit_ratio(), 0.0);
    assert_eq!(world.gets() - before, 1);
    let (all, held) = (1 << 20, 8192.0);
    assert!((cache.temperature(std::slice::from_ref(&object)) - held / f64::from(all)).abs() < 1e-9);
    cache.load(&object, ReadKind::Rows).await.expect("there");
    assert_eq!(
        Temperature::of(cache.temperature(std::slice::from_ref(&object))),
        Temperature::Hot
    );
    cache.purge(std::slice::from_ref(&object));
    assert_eq!(
        Temperature::of(cache.temperature(std::slice::from_ref(&object))),
        Temperature::Cold
    );
    cache.put_through(&object, body).await;
    let before = world.gets();
    read(0..1 << 20).await;
    assert_eq!(world.gets(), before);
}

/// 50 GETs that take 10 ms each, so that it is known what is usual.
async fn usual(throttled: &Arc<object_store::throttle::ThrottledStore<InMemory>>) -> (World, Cache, ObjectRef) {
    let world = World::over(throttled.clone(), Arc::new(TokioClock::new(Duration::ZERO)));
    let (object, _) = world.object("o", "a", 10 << 20).await;
    let cache = world.cache(64 << 20);
    for i in 0..50 {
        let start = i * 8192;
        cache
            .read(&object, &[start..start + 1], ReadKind::Scan)
            .await
            .expect("there");
    }
    assert_eq!(world.gets(), 50);
    (world, cache, object)
}

fn throttled() -> Arc<object_store::throttle::ThrottledStore<InMemory>> {
    use object_store::throttle::{ThrottleConfig, ThrottledStore};
    let config = ThrottleConfig {
        wait_get_per_call: Duration::from_millis(10),
        ..ThrottleConfig::default()
    };
    Arc::new(ThrottledStore::new(InMemory::new(), config))
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_is_asked_for_again() {
    let throttled = throttled();
    let (world, cache, object) = usual(&throttled).await;
    let begun = tokio::time::Instant::now();
    throttled.config_mut(|c| c.wait_get_per_call = Duration::from_secs(8));
    let mut late = Box::pin(cache.read(&object, &[0..1], ReadKind::Scan));
    assert!(futures::poll!(&mut late).is_pending());
    throttled.config_mut(|c| c.wait_get_per_call = Duration::from_millis(10));
    late.await.expect("there");
    assert!(begun.elapsed() < Duration::from_millis(50), "{:?}", begun.elapsed());
    assert_eq!(world.gets(), 52);
}

/// Or a slow store would get twice the load.
#[tokio::test(start_paused = true)]
async fn few_requests_are_sent_twice() {
    let throttled = throttled();
    let (world, cache, object) = usual(&throttled).await;
    throttled.config_mut(|c| c.wait_get_per_call = Duration::from_secs(1));
    let reads = (0..60_u64).map(|i| {
        let (cache, object) = (&cache, &object);
        let start = i * 8192;
        async move {
            cache
                .read(object, &[start..start + 1], ReadKind::Scan)
                .await
                .expect("there")
        }
    });
    for read in reads {
        read.await;
    }
    let second = world.gets() - 110;
    assert!((1..=110 / 20).contains(&second), "{second}");
}

fn arb_range(len: u64) -> impl Strategy<Value = Range<u64>> {
    let size = prop_oneof![0..20_u64, 0..70_000_u64, 0..=len];
    (0..=len, size).prop_map(move |(start, size)| start..(start + size).min(len))
}

fn arb_kind() -> impl Strategy<Value = ReadKind> {
    prop_oneof![
        Just(ReadKind::Hot),
        Just(ReadKind::Index),
        Just(ReadKind::Rows),
        Just(ReadKind::Vectors),
        Just(ReadKind::Scan)
    ]
}

const LENS: [usize; 4] = [0, 1, 70_001, 1 << 20];

/// A read: of which object, which ranges, as what.
fn arb_read() -> impl Strategy<Value = (usize, Vec<Range<u64>>, ReadKind)> {
    (0..LENS.len()).prop_flat_map(|object| {
        let ranges = proptest::collection::vec(arb_range(LENS[object] as u64), 0..5);
        (Just(object), ranges, arb_kind())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn concurrent_reads_with_little_memory_are_exact(
        rounds in proptest::collection::vec(proptest::collection::vec(arb_read(), 1..6), 1..12),
        memory_bytes in prop_oneof![Just(0_u64), 100_000..2_000_000_u64],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("runtime");
        runtime.block_on(async {
            let world = slow_world().await;
            let mut objects = Vec::new();
            for (i, len) in LENS.iter().enumerate() {
                objects.push(world.object(&format!("o{i}"), "a", *len).await);
            }
            let cache = world.cache(memory_bytes);
            for round in &rounds {
                let reads = round.iter().map(async |(object, ranges, kind)| {
                    let (object, body) = &objects[*object];
                    let found = cache.read(object, ranges, *kind).await.expect("there");
                    assert_eq!(found.len(), ranges.len());
                    for (found, range) in found.iter().zip(ranges) {
                        assert_eq!(found, &of(body, range));
                    }
                });
                futures::future::join_all(reads).await;
            }
        });
    }
}
