use std::sync::Arc;

use super::*;
use crate::base::SystemClock;
use crate::config::StoreConfig;
use crate::store::backend;

fn records(grace: Duration) -> Records {
    let config = StoreConfig {
        url: "memory:".into(),
        ..StoreConfig::default()
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let backend = backend::build(&config, clock.wall()).expect("memory");
    let store = Store::new(backend.store, clock.clone(), Rng::seeded(1), &config);
    Records::new(store, clock, Rng::seeded(2), grace)
}

#[tokio::test]
async fn a_record_lives_changes_and_dies() {
    let records = records(GRACE);
    let at = paths::control::root();
    assert_eq!(records.get::<u64>(&at).await.expect("read"), None);
    assert!(records.create(&at, &1_u64).await.expect("created"));
    assert!(!records.create(&at, &2_u64).await.expect("refused"));
    let bumped = records
        .update::<u64, _>(&at, |v| Ok(v.map(|v| v + 1)))
        .await
        .expect("changed");
    assert_eq!((bumped.number, bumped.value), (2, Some(2)));
    assert!(records.remove::<u64>(&at).await.expect("removed"));
    assert!(!records.remove::<u64>(&at).await.expect("gone"));
    assert_eq!(records.get::<u64>(&at).await.expect("read"), None);
    assert!(!records.create(&at, &9_u64).await.expect("its place is kept"));
    let error = records
        .update::<u64, _>(&at, |_| Err(Error::invalid("no")))
        .await
        .expect_err("said no");
    assert_eq!(error.message, "no");
}

#[tokio::test]
async fn rivals_lose_no_change() {
    let records = records(GRACE);
    let at = paths::control::root();
    let add = || records.update::<u64, _>(&at, |v| Ok(Some(v.unwrap_or(0) + 1)));
    let all = futures::future::join_all((0..20).map(|_| add())).await;
    assert!(all.into_iter().all(|r| r.is_ok()));
    assert_eq!(records.get::<u64>(&at).await.expect("read"), Some(20));
}

const GRACE: Duration = Duration::from_secs(3600);
