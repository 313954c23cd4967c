//! One contract, every kind of object store; and stores that break it.

mod support;

use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use shoal::base::{CpuPool, Ledger, Rng, Runtime, SystemClock, TokioSpawner};
use shoal::config::StoreConfig;
use shoal::store::count::CountingStore;
use shoal::store::probe::{Outcome, ProbeOptions};
use shoal::store::{CreateError, OpenError, Store, StoreError, open};
use support::fault::{Fault, FaultRates, FaultStore};
use support::real::{self, s3_config};
use support::s3::{Conditions, S3Fault, S3Server};

fn runtime() -> Runtime {
    Runtime {
        clock: Arc::new(SystemClock),
        rng: Rng::from_os(),
        spawner: Arc::new(TokioSpawner::default()),
        cpu: CpuPool::inline(),
        memory: Ledger::new(1 << 30, 1 << 30),
    }
}

async fn open_default(config: &StoreConfig) -> Store {
    open(config, &runtime(), ProbeOptions::default())
        .await
        .map(|opened| opened.store)
        .unwrap()
}

/// What every store must do.
async fn suite(config: &StoreConfig) {
    let opened = open(config, &runtime(), ProbeOptions::default())
        .await
        .unwrap_or_else(|e| panic!("{config:?}: {e:?}"));
    assert!(
        opened.report.checks.iter().all(|c| c.outcome == Outcome::Passed),
        "{}",
        opened.report
    );
    let store = opened.store;
    if config.url != "memory:" {
        let again = open(config, &runtime(), ProbeOptions::default()).await.unwrap();
        assert_eq!(again.format, opened.format, "the deployment keeps its identity");
    }
    let key = Path::from("ns/ab/default/n=x!8/wal/0001");
    assert_eq!(store.get(&key).await.unwrap(), None);
    store.create(&key, "one").await.unwrap();
    assert!(matches!(store.create(&key, "two").await, Err(CreateError::Exists)));
    assert_eq!(store.get(&key).await.unwrap(), Some(Bytes::from("one")));
    store.put(&key, "three").await.unwrap();
    assert_eq!(store.get_range(&key, 1..4).await.unwrap(), Some(Bytes::from("hre")));
    assert!(matches!(
        store.get_range(&key, 1..40).await,
        Err(StoreError::Corrupt { .. })
    ));
    let other = Path::from("ns/ab/default/n=x!8/wal/0002");
    store.put(&other, Bytes::new()).await.unwrap();
    assert_eq!(store.get(&other).await.unwrap(), Some(Bytes::new()));
    let prefix = Path::from("ns/ab/default/n=x!8/wal");
    let mut all: Vec<_> = store
        .list(&prefix, None)
        .map_ok(|o| o.location)
        .try_collect()
        .await
        .unwrap();
    all.sort();
    assert_eq!(all, [key.clone(), other.clone()]);
    let rest: Vec<_> = store
        .list(&prefix, Some(&key))
        .map_ok(|o| o.location)
        .try_collect()
        .await
        .unwrap();
    assert_eq!(rest, [other]);
    store.delete(&key).await.unwrap();
    store.delete(&key).await.unwrap();
    assert_eq!(store.get(&key).await.unwrap(), None);
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    suite(&StoreConfig::default()).await;
}

#[tokio::test]
async fn local_disk_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}/new/data", dir.path().display());
    suite(&StoreConfig {
        url,
        ..StoreConfig::default()
    })
    .await;
}

#[tokio::test]
async fn in_process_s3_keeps_the_contract() {
    let server = S3Server::start(Conditions::Atomic).await;
    suite(&s3_config(&server.endpoint())).await;
}

#[tokio::test]
async fn minio_keeps_the_contract() {
    if let Some(server) = real::minio().await {
        suite(&server.config()).await;
    }
}

#[tokio::test]
async fn moto_keeps_the_contract() {
    if let Some(server) = real::moto().await {
        suite(&server.config()).await;
    }
}

#[tokio::test]
async fn servers_that_break_conditions_are_refused_with_the_reason() {
    for (conditions, reason) in [
        (Conditions::Ignored, "ignores create-if-absent"),
        (Conditions::Racy, "not atomic"),
    ] {
        let server = S3Server::start(conditions).await;
        match open(&s3_config(&server.endpoint()), &runtime(), ProbeOptions::default()).await {
            Err(OpenError::Unfit(why)) => assert!(why.contains(reason), "{why}"),
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("{conditions:?} was accepted"),
        }
    }
}

#[tokio::test]
async fn a_403_on_a_missing_key_asks_for_list_permission() {
    let server = S3Server::start(Conditions::Atomic).await;
    server.fault(Method::GET, "absent", S3Fault::Refuse(403));
    let outcome = open(&s3_config(&server.endpoint()), &runtime(), ProbeOptions::default()).await;
    let error = outcome.err().expect("refused").to_string();
    assert!(error.contains("grant list permission"), "{error}");
}

#[tokio::test]
async fn an_unknown_layout_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("FORMAT"), r#"{"layout_version":99}"#).unwrap();
    let config = StoreConfig {
        url: format!("file://{}", dir.path().display()),
        ..StoreConfig::default()
    };
    let outcome = open(&config, &runtime(), ProbeOptions::default()).await;
    assert!(matches!(outcome.err(), Some(OpenError::Layout { found: 99 })));
}

#[tokio::test]
async fn a_create_is_sent_once_whatever_the_answer() {
    let server = S3Server::start(Conditions::Atomic).await;
    let mut config = s3_config(&server.endpoint());
    config.put_timeout = Duration::from_secs(2);
    let store = open_default(&config).await;
    let cases = [
        (S3Fault::ApplyThenClose, "ambiguous", true),
        (S3Fault::ApplyThen(503), "ambiguous", true),
        (S3Fault::Refuse(503), "ambiguous", false),
        (S3Fault::Refuse(429), "ambiguous", false),
        (S3Fault::Hang, "ambiguous", false),
        (S3Fault::Conflict409, "exists", false),
        (S3Fault::Refuse(403), "refused", false),
    ];
    for (i, (fault, wanted, stored)) in cases.into_iter().enumerate() {
        let key = Path::from(format!("case{i}"));
        let before = server.requests(&Method::PUT);
        server.fault(Method::PUT, key.as_ref(), fault);
        let outcome = match store.create(&key, "x").await {
            Ok(()) => "created",
            Err(CreateError::Exists) => "exists",
            Err(CreateError::Ambiguous(_)) => "ambiguous",
            Err(CreateError::Refused(_)) => "refused",
        };
        assert_eq!(outcome, wanted, "{fault:?}");
        assert_eq!(server.requests(&Method::PUT) - before, 1, "{fault:?}");
        assert_eq!(store.get(&key).await.unwrap().is_some(), stored, "{fault:?}");
    }
}

#[tokio::test]
async fn a_late_create_appears_after_the_caller_gave_up() {
    let server = S3Server::start(Conditions::Atomic).await;
    let store = open_default(&s3_config(&server.endpoint())).await;
    let key = Path::from("late");
    server.fault(Method::PUT, "late", S3Fault::LateApply(Duration::from_millis(300)));
    assert!(matches!(store.create(&key, "x").await, Err(CreateError::Ambiguous(_))));
    assert_eq!(store.get(&key).await.unwrap(), None);
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert!(store.get(&key).await.unwrap().is_some());
}

#[tokio::test]
async fn reads_and_deletes_are_repeated_until_they_are_whole() {
    let server = S3Server::start(Conditions::Atomic).await;
    let store = open_default(&s3_config(&server.endpoint())).await;
    let key = Path::from("whole");
    let body = Bytes::from(vec![7; 100_000]);
    store.put(&key, body.clone()).await.unwrap();
    for fault in [
        S3Fault::TruncateBody,
        S3Fault::Refuse(503),
        S3Fault::Refuse(500),
        S3Fault::ApplyThenClose,
    ] {
        let before = server.requests(&Method::GET);
        server.fault(Method::GET, "whole", fault);
        assert_eq!(store.get(&key).await.unwrap(), Some(body.clone()), "{fault:?}");
        assert_eq!(server.requests(&Method::GET) - before, 2, "{fault:?}");
    }
    server.fault(Method::GET, "whole", S3Fault::Refuse(403));
    assert!(matches!(store.get(&key).await, Err(StoreError::Denied { .. })));
}

#[tokio::test]
async fn a_connection_refused_is_no_ambiguity() {
    let server = S3Server::start(Conditions::Atomic).await;
    let store = open_default(&s3_config(&server.endpoint())).await;
    let dead = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let backend = shoal::store::backend::build(&s3_config(&format!("http://{dead}")), Duration::ZERO).unwrap();
    let gone = Store::new(
        backend.store,
        Arc::new(SystemClock),
        Rng::seeded(1),
        &StoreConfig::default(),
    );
    let outcome = gone.create(&Path::from("x"), "x").await;
    assert!(matches!(outcome, Err(CreateError::Refused(_))), "{outcome:?}");
    drop(store);
}

fn faulty() -> (FaultStore, CountingStore, Store) {
    let faults = FaultStore::new(Arc::new(InMemory::new()), Rng::seeded(7), FaultRates::healthy());
    let counting = CountingStore::new(Arc::new(faults.clone()));
    let store = Store::new(
        Arc::new(counting.clone()),
        Arc::new(SystemClock),
        Rng::seeded(8),
        &StoreConfig::default(),
    );
    (faults, counting, store)
}

#[tokio::test(start_paused = true)]
async fn each_operation_costs_one_request() {
    let (_, counting, store) = faulty();
    let key = Path::from("a/b");
    store.create(&key, "12345").await.unwrap();
    store.put(&key, "12345").await.unwrap();
    store.get(&key).await.unwrap();
    store.get_range(&key, 0..2).await.unwrap();
    let _: Vec<_> = store.list(&Path::from("a"), None).try_collect().await.unwrap();
    store.delete(&key).await.unwrap();
    let c = counting.counts();
    assert_eq!((c.creates, c.puts, c.gets, c.lists, c.deletes), (1, 1, 2, 1, 1));
    assert_eq!((c.bytes_written, c.bytes_read), (10, 7));
}

#[tokio::test(start_paused = true)]
async fn every_fault_of_the_simulated_store_is_survived_or_told() {
    for fault in [
        Fault::BeforeApply,
        Fault::AfterApply,
        Fault::Truncate,
        Fault::Conflict,
        Fault::Slow(Duration::from_secs(60)),
    ] {
        let (faults, _, store) = faulty();
        let key = Path::from("a/b");
        store.put(&key, "12345").await.unwrap();
        for _ in 0..3 {
            faults.fail_call(faults.calls(), fault);
            assert_eq!(store.get(&key).await.unwrap(), Some(Bytes::from("12345")), "{fault:?}");
        }
        faults.fail_call(faults.calls(), fault);
        let found: Vec<_> = store.list(&Path::from("a"), None).try_collect().await.unwrap();
        assert_eq!(found.len(), 1, "{fault:?}");
        faults.fail_call(faults.calls(), fault);
        store.delete(&key).await.unwrap();
        assert_eq!(store.get(&key).await.unwrap(), None, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn retries_stop_when_the_budget_is_used_up() {
    let faults = FaultStore::new(
        Arc::new(InMemory::new()),
        Rng::seeded(7),
        FaultRates {
            before_apply: 1000,
            ..FaultRates::healthy()
        },
    );
    let store = Store::new(
        Arc::new(faults.clone()),
        Arc::new(SystemClock),
        Rng::seeded(8),
        &StoreConfig::default(),
    );
    for _ in 0..100 {
        assert!(matches!(
            store.get(&Path::from("x")).await,
            Err(StoreError::Unavailable { .. })
        ));
    }
    assert_eq!(
        faults.calls(),
        100 + 200,
        "one attempt each, and the whole budget of retries once"
    );
    faults.heal();
    assert_eq!(store.get(&Path::from("x")).await.unwrap(), None);
}
