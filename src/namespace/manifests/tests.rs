use std::panic::catch_unwind;
use std::time::Duration;

use tokio::sync::mpsc;

use super::super::options::EngineOptions;
use super::super::pins::PinTable;
use super::super::state::Seams;
use super::*;
use crate::base::{Runtime, TokioClock};
use crate::cache::Cache;
use crate::manifest::ManifestStore;
use crate::manifest::tests::scripted::ScriptedStore;
use crate::model::{NamespaceName, OrgId};
use crate::store::Store;
use crate::store::paths::NsKey;
use crate::wal::Log;

/// The follower of a namespace that nobody has asked for yet.
fn follower(backend: &ScriptedStore) -> Follower {
    let runtime = Runtime::of_tests(Arc::new(TokioClock::new(Duration::from_secs(1_700_000_000))), 3);
    let store = Store::of_tests(backend.clone(), &runtime);
    let name = (OrgId::default_org(), NamespaceName::parse("docs").expect("a name"));
    let key = NsKey::new(name.0.clone(), name.1.clone());
    let options = EngineOptions::default();
    let seams = Seams {
        log: Log::new(store.clone(), key.clone(), runtime.cpu.clone()),
        manifests: ManifestStore::new(store.clone(), key, runtime.cpu.clone()),
        cache: Cache::new(store, &runtime, options.cache.clone()),
        runtime,
        options: Arc::new(options),
        writer: 1,
        hints: Default::default(),
        pins: PinTable::new(None),
    };
    let (inbox, tasks) = mpsc::channel(4);
    let state = Arc::new(State::new(name, seams));
    let run = super::super::follow::run_follower(state.clone(), tasks);
    state.runtime.spawner.spawn("follower", Box::pin(run));
    Follower { state, inbox }
}

/// Some manifest of that generation.
fn manifest(generation: u64) -> Manifest {
    Manifest {
        generation: Gen(generation),
        ..crate::manifest::tests::golden()
    }
}

#[tokio::test]
async fn a_newer_manifest_that_is_not_taken_over_proves_nothing() {
    let follower = follower(&ScriptedStore::new());
    let state = &follower.state;
    state
        .manifests
        .publish(&manifest(3), &|| true)
        .await
        .expect("published");
    follower.look_for_manifest(Pace::Now).await.expect("looked");
    assert_eq!(state.snapshot().generation, Gen::ZERO);
    assert!(
        !state.index_proven.load(Ordering::Relaxed),
        "the one in use is not the newest"
    );
    assert!(!follower.adopt(&manifest(3), Pace::Now).await.expect("not now"));
}

#[tokio::test]
async fn somebody_looks_again_after_a_look_that_panicked() {
    let follower = follower(&ScriptedStore::new());
    let looking = Looking::begin(&follower.state).expect("the first");
    assert!(Looking::begin(&follower.state).is_none());
    let panics = std::panic::AssertUnwindSafe(move || {
        let _looking = looking;
        panic!("on purpose");
    });
    assert!(catch_unwind(panics).is_err());
    assert!(Looking::begin(&follower.state).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_refused_manifest_waits_longer_each_time() {
    let follower = follower(&ScriptedStore::new());
    let (state, refused) = (&follower.state, &follower.state.refused);
    let now = || state.runtime.clock.boot();
    let damaged = || disagrees(state, Gen(2), "for a test");
    refused.note(Gen(2), &Trouble::Stale, now());
    assert!(!refused.waits(now()), "another try may succeed");
    for wait in [5, 10, 20, 40, 80, 160, 300, 300] {
        refused.note(Gen(2), &damaged(), now());
        tokio::time::sleep(Duration::from_secs(wait) - Duration::from_millis(1)).await;
        assert!(refused.get(Gen(2), now()).is_some() && refused.get(Gen(3), now()).is_none());
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(refused.get(Gen(2), now()).is_none(), "after {wait} s");
    }
    refused.note(Gen(3), &damaged(), now());
    refused.note(Gen(2), &damaged(), now());
    assert!(refused.get(Gen(3), now()).is_some() && refused.get(Gen(2), now()).is_none());
    refused.forget(Gen(2));
    assert!(refused.waits(now()));
    refused.forget(Gen(3));
    assert!(!refused.waits(now()));
}
