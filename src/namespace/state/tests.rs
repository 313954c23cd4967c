use object_store::memory::InMemory;

use super::*;
use crate::base::{CpuPool, Ledger, Rng, TokioClock, TokioSpawner, counted};
use crate::config::StoreConfig;
use crate::namespace::{Body, Engine};
use crate::store::Store;

const NAMESPACES: usize = 300;
/// Opened first: they make the thread allocate what it keeps.
const FIRST: usize = 100;
/// What an open namespace may take with a small row in its tail.
const BYTES_MAX: i64 = 13 << 10;

fn engine(backend: Arc<InMemory>) -> Engine {
    let runtime = Runtime {
        clock: Arc::new(TokioClock::new(Duration::from_secs(1_700_000_000))),
        rng: Rng::seeded(1),
        spawner: Arc::new(TokioSpawner::default()),
        cpu: CpuPool::inline(),
        memory: Ledger::new(1 << 30, 1 << 30),
    };
    let (clock, rng) = (runtime.clock.clone(), runtime.rng.clone());
    let store = Store::new(backend, clock, rng, &StoreConfig::default());
    Engine::new(runtime, store, EngineOptions::default())
}

fn name(i: usize) -> NamespaceName {
    NamespaceName::parse(&format!("namespace-{i}")).expect("valid")
}

async fn open(engine: &Engine, range: std::ops::Range<usize>) {
    for i in range {
        let seq = engine.end_of_log(&OrgId::default_org(), &name(i)).await.expect("there");
        assert_eq!(seq, Seq(1));
    }
    // What the opening has begun ends.
    tokio::time::sleep(Duration::from_secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn the_ledger_knows_what_an_open_namespace_takes() {
    let org = OrgId::default_org();
    let backend = Arc::new(InMemory::new());
    let writer = engine(backend.clone());
    for i in 0..NAMESPACES {
        let row =
            format!(r#"{{"upsert_rows": [{{"id": {i}, "n": {i}, "name": "row {i}", "text": "of namespace {i}"}}]}}"#);
        let charge = writer.runtime().memory.charge(MemoryShare::Bodies, 100).expect("room");
        let bytes = row.into();
        writer
            .write(&org, &name(i), Body { bytes, charge })
            .await
            .expect("written");
    }
    let node = engine(backend);
    let ledger = || node.runtime().memory.used_bytes(MemoryShare::Tails) as i64;
    open(&node, 0..FIRST).await;
    let before = (counted::bytes(), ledger());
    open(&node, FIRST..NAMESPACES).await;
    let opened = (NAMESPACES - FIRST) as i64;
    let (live, known) = ((counted::bytes() - before.0) / opened, (ledger() - before.1) / opened);
    assert!(live <= BYTES_MAX, "{live} bytes");
    assert!(
        (live - known).abs() * 4 <= live,
        "{live} bytes, of which the ledger knows {known}"
    );
}
