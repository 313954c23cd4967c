use object_store::ObjectStoreExt;
use object_store::memory::InMemory;

use super::*;
use crate::base::{CpuPool, Ledger, Rng, TokioClock, TokioSpawner};
use crate::cache::CacheOptions;
use crate::config::StoreConfig;
use crate::model::OrgId;
use crate::store::count::CountingStore;
use crate::store::{Store, paths};

const BYTES: usize = 100_000;

struct World {
    backend: CountingStore,
    spawner: TokioSpawner,
    runtime: Runtime,
    cache: Cache,
    table: PinTable,
}

impl World {
    fn new() -> Self {
        let backend = CountingStore::new(Arc::new(InMemory::new()));
        let spawner = TokioSpawner::default();
        let runtime = Runtime {
            clock: Arc::new(TokioClock::new(Duration::from_secs(1_700_000_000))),
            rng: Rng::seeded(1),
            spawner: Arc::new(spawner.clone()),
            cpu: CpuPool::inline(),
            memory: Ledger::with_caches(1 << 20, 1 << 20, 64 << 20),
        };
        let (clock, rng) = (runtime.clock.clone(), runtime.rng.clone());
        let store = Store::new(Arc::new(backend.clone()), clock, rng, &StoreConfig::default());
        Self {
            cache: Cache::new(store, &runtime, CacheOptions::memory_only(64 << 20)),
            backend,
            spawner,
            runtime,
            table: PinTable::new(None),
        }
    }

    fn object(&self, name: &str) -> ObjectRef {
        let object = ObjectRef {
            key: Arc::new(paths::record_directory(name)),
            len: BYTES as u64,
            org: OrgId::default_org(),
        };
        self.table.pin(&self.cache, &object);
        object
    }

    async fn put(&self, object: &ObjectRef) {
        let put = self.backend.put(&object.key, vec![7; BYTES].into()).await;
        put.expect("memory takes it");
    }

    async fn bring(&self, objects: &[&ObjectRef]) {
        let objects = objects.iter().map(|object| (*object).clone()).collect();
        let table = self.table.clone();
        table.bring(self.cache.clone(), self.runtime.clone(), objects).await;
    }

    fn has(&self, object: &ObjectRef) -> bool {
        self.cache.temperature(std::slice::from_ref(object)) == 1.0
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_not_brought_keeps_nothing_from_coming_and_comes_later() {
    let world = World::new();
    let (late, never, there) = (world.object("late"), world.object("never"), world.object("there"));
    world.put(&there).await;
    world.bring(&[&late, &never, &there]).await;
    assert!(world.has(&there) && !world.has(&late));
    assert_eq!(world.table.missing_bytes(), 2 * BYTES as u64);
    world.put(&late).await;
    tokio::time::sleep(2 * AGAIN_AFTER).await;
    assert!(world.has(&late));
    assert_eq!(world.table.missing_bytes(), BYTES as u64);
    // Less and less often.
    let before = world.backend.counts().gets;
    tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
    let gets = world.backend.counts().gets - before;
    assert!((100..400).contains(&gets), "{gets} in a day");
    // Until nobody wants it any more: then nothing of the node is held for it.
    world.table.unpin(&world.cache, &never);
    assert_eq!(world.table.missing_bytes(), 0);
    let ended = tokio::time::timeout(Duration::from_secs(1), world.spawner.join()).await;
    assert!(ended.is_ok());
}

#[tokio::test(start_paused = true)]
async fn one_task_tries_again_however_much_was_refused() {
    let world = World::new();
    let objects: Vec<ObjectRef> = (0..5).map(|i| world.object(&format!("late-{i}"))).collect();
    for object in &objects {
        world.bring(&[object]).await;
    }
    let before = world.backend.counts().gets;
    tokio::time::sleep(2 * AGAIN_AFTER).await;
    let gets = world.backend.counts().gets - before;
    assert_eq!(gets, 5);
    for object in &objects {
        world.put(object).await;
    }
    tokio::time::sleep(4 * AGAIN_AFTER).await;
    assert_eq!(world.table.missing_bytes(), 0);
    // It has ended; the next refusal has one again.
    world.spawner.join().await;
    let late = world.object("late");
    world.bring(&[&late]).await;
    world.put(&late).await;
    tokio::time::sleep(2 * AGAIN_AFTER).await;
    assert!(world.has(&late));
}
