//! A control plane in memory, for unit tests.

use std::sync::Arc;

use super::{Control, ControlOptions, Freshness, Secret, Secrets};
use crate::base::{CpuPool, Ledger, Rng, Runtime, SystemClock, TokioClock, TokioSpawner};
use crate::config::StoreConfig;
use crate::store::{Store, backend};

/// 2026-11-21T10:00:00Z, in seconds.
pub const START: u64 = 1_795_255_200;

/// One with its own store and the machine's clocks.
pub fn control() -> Control {
    let runtime = runtime(Arc::new(SystemClock), 7);
    let config = StoreConfig::default();
    let backend = backend::build(&config, runtime.clock.wall()).expect("memory");
    let store = Store::new(backend.store, runtime.clock.clone(), runtime.rng.clone(), &config);
    in_store(runtime, store)
}

/// One that follows Tokio's clock, which a test may pause; starts at [`START`].
pub fn control_with_tokio_clock(seed: u64) -> Control {
    let clock = Arc::new(TokioClock::new(std::time::Duration::from_secs(START)));
    let runtime = runtime(clock, seed);
    let config = StoreConfig::default();
    let backend = backend::build(&config, runtime.clock.wall()).expect("memory");
    let store = Store::new(backend.store, runtime.clock.clone(), runtime.rng.clone(), &config);
    in_store(runtime, store)
}

/// Another node over the same store.
pub fn second_node(first: &Control, seed: u64) -> Control {
    let runtime = runtime(first.runtime().clock.clone(), seed);
    in_store(runtime, first.records().store().clone())
}

/// What a node has.
pub fn runtime(clock: Arc<dyn crate::base::Clock>, seed: u64) -> Runtime {
    Runtime {
        clock,
        rng: Rng::seeded(seed),
        spawner: Arc::new(TokioSpawner::default()),
        cpu: CpuPool::inline(),
        memory: Ledger::new(1 << 20, 1 << 20),
    }
}

/// A node over a store.
pub fn in_store(runtime: Runtime, store: Store) -> Control {
    let options = ControlOptions {
        secrets: Secrets::new(vec![Secret::new(&[7; 32])]),
        freshness: Freshness::default(),
        deployment: "dep".into(),
    };
    Control::new(runtime, store, options)
}
