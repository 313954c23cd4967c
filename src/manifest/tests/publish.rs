//! Publishing and finding manifests on a store that fails.

use std::sync::atomic::{AtomicU64, Ordering};

use super::scripted::{Fault, ScriptedStore};
use super::*;
use crate::base::{Clock, CpuPool, Rng, TokioClock};
use crate::config::StoreConfig;
use crate::store::{Store, paths};

fn always() -> bool {
    true
}

fn manifests(backend: &ScriptedStore, in_order: bool) -> ManifestStore {
    let config = StoreConfig {
        url: "memory:".into(),
        ..StoreConfig::default()
    };
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::new(std::time::Duration::from_secs(1)));
    let store = Store::new(Arc::new(backend.clone()), clock, Rng::seeded(3), &config).listing_in_order(in_order);
    ManifestStore::new(store, ns("docs"), CpuPool::inline())
}

/// The manifest after `previous`, by this writer.
fn after(previous: Option<(&Manifest, Digest)>, writer: u128) -> Manifest {
    Manifest {
        generation: previous.map_or(Gen(1), |(m, _)| m.generation.next()),
        prev_digest: previous.map_or(Digest::default(), |(_, digest)| digest),
        writer,
        job: Ulid::from(writer + 1),
        ..golden()
    }
}

#[tokio::test(start_paused = true)]
async fn generations_are_published_and_found() {
    for in_order in [false, true] {
        let backend = ScriptedStore::new();
        let store = manifests(&backend, in_order);
        assert!(store.newest().await.expect("read").is_none());
        assert!(store.newer_than(Gen::ZERO).await.expect("read").is_none());
        let mut last: Option<(Manifest, Digest)> = None;
        for n in 1..=12 {
            let next = after(last.as_ref().map(|(m, d)| (m, *d)), n);
            let Published::Ours(digest) = store.publish(&next, &always).await.expect("published") else {
                panic!("nobody else writes");
            };
            assert_eq!(encode(&next).1, digest);
            last = Some((next, digest));
            assert_eq!(store.newest().await.expect("read"), last);
            assert_eq!(store.listed().await.expect("read"), last);
        }
        let last = last.expect("twelve");
        for known in [0, 3, 7, 8, 10] {
            let before = backend.calls();
            assert_eq!(store.newer_than(Gen(known)).await.expect("read").as_ref(), Some(&last));
            let calls = backend.calls() - before;
            assert!(calls <= 6, "{calls} requests after generation {known} of 12");
        }
        assert_eq!(store.newer_than(Gen(12)).await.expect("read"), None);
        let list = store.list().await.expect("listed");
        assert_eq!(
            list.iter().map(|(g, _)| g.0).collect::<Vec<_>>(),
            (1..=12).rev().collect::<Vec<_>>()
        );
        // Collected up to 9, as garbage collection does.
        for n in 1..=9 {
            store
                .store()
                .delete(&paths::manifest(store.key(), Gen(n)))
                .await
                .expect("deleted");
        }
        assert_eq!(store.newest().await.expect("read").as_ref(), Some(&last));
        assert_eq!(store.get(Gen(9)).await.expect("read"), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_damaged_or_missing_hint_hides_nothing() {
    let backend = ScriptedStore::new();
    let store = manifests(&backend, false);
    let first = after(None, 1);
    let Published::Ours(digest) = store.publish(&first, &always).await.expect("published") else {
        panic!("nobody else writes");
    };
    let head = paths::head(store.key());
    let old = store.store().get(&head).await.expect("read").expect("there");
    let second = after(Some((&first, digest)), 2);
    store.publish(&second, &always).await.expect("published");
    // Late: the hint of the first arrives after that of the second.
    store.store().put(&head, old.clone()).await.expect("put");
    let (hinted, _) = store.newest().await.expect("read").expect("there");
    assert_eq!(hinted, first);
    assert_eq!(
        store
            .newer_than(hinted.generation)
            .await
            .expect("read")
            .expect("newer")
            .0,
        second
    );
    assert_eq!(store.listed().await.expect("read").expect("there").0, second);
    let mut damaged = old.to_vec();
    damaged[100] ^= 1;
    store.store().put(&head, damaged).await.expect("put");
    assert_eq!(store.newest().await.expect("read").expect("there").0, second);
    store.store().delete(&head).await.expect("deleted");
    assert_eq!(store.newest().await.expect("read").expect("there").0, second);
    // The newest itself is damaged: the one before it says the same, with more of the log.
    let key = paths::manifest(store.key(), Gen(2));
    store.store().put(&key, "nonsense").await.expect("put");
    assert!(matches!(store.get(Gen(2)).await, Err(ManifestError::Damaged { .. })));
    assert_eq!(store.listed().await.expect("read").expect("there").0, first);
    // One under the key of another is not taken for it.
    store.store().put(&key, old).await.expect("put");
    assert!(matches!(store.get(Gen(2)).await, Err(ManifestError::Damaged { .. })));
    store
        .store()
        .put(&paths::manifest(store.key(), Gen(1)), "x")
        .await
        .expect("put");
    assert!(matches!(store.listed().await, Err(ManifestError::Damaged { .. })));
}

/// Publishes with faults at these calls, and checks that what is said is what is in the store.
async fn publish_under(faults: &[(u64, Fault)]) {
    let backend = ScriptedStore::new();
    let store = manifests(&backend, false);
    let next = after(None, 1);
    for (call, fault) in faults {
        backend.fail(*call, *fault);
    }
    let said = store.publish(&next, &always).await;
    backend.heal();
    let there = store.get(Gen(1)).await.expect("read");
    match said {
        Ok(Published::Ours(digest)) => assert_eq!(there, Some((next, digest)), "{faults:?}"),
        Ok(Published::Lost(..)) => panic!("there is no rival: {faults:?}"),
        Ok(Published::Unknown) => {}
        Err(_) => assert_eq!(there, None, "{faults:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_nothing_wrong_is_said() {
    publish_under(&[]).await;
    for first in 0..5 {
        for fault in Fault::ALL {
            publish_under(&[(first, fault)]).await;
            for second in first + 1..6 {
                for other in Fault::ALL {
                    publish_under(&[(first, fault), (second, other)]).await;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_is_read_back_as_ours() {
    let backend = ScriptedStore::new();
    let store = manifests(&backend, false);
    let next = after(None, 1);
    backend.fail(0, Fault::After);
    assert!(matches!(store.publish(&next, &always).await, Ok(Published::Ours(_))));
    // A conflict reported for nothing: the same slot is tried again.
    let second = after(Some((&next, encode(&next).1)), 1);
    backend.fail(0, Fault::Conflict);
    assert!(matches!(store.publish(&second, &always).await, Ok(Published::Ours(_))));
    // A first attempt that is refused leaves nothing behind.
    let third = after(Some((&second, encode(&second).1)), 1);
    backend.fail(0, Fault::Denied);
    assert!(matches!(
        store.publish(&third, &always).await,
        Err(ManifestError::Store(_))
    ));
    assert_eq!(store.get(Gen(3)).await.expect("read"), None);
}

#[tokio::test(start_paused = true)]
async fn exactly_one_rival_wins_a_generation() {
    for fault in [
        None,
        Some((0, Fault::After)),
        Some((1, Fault::After)),
        Some((2, Fault::Conflict)),
    ] {
        let backend = ScriptedStore::new();
        let store = manifests(&backend, false);
        if let Some((call, fault)) = fault {
            backend.fail(call, fault);
        }
        let rivals: Vec<Manifest> = (1..=5).map(|writer| after(None, writer * 10)).collect();
        let said = futures::future::join_all(rivals.iter().map(|m| store.publish(m, &always))).await;
        let (there, digest) = store.get(Gen(1)).await.expect("read").expect("one won");
        let mut won = 0;
        for (rival, said) in rivals.iter().zip(said) {
            match said.expect("decided") {
                Published::Ours(d) => {
                    assert_eq!((rival, d), (&there, digest));
                    won += 1;
                }
                Published::Lost(winner, d) => assert_eq!((&*winner, d), (&there, digest)),
                Published::Unknown => panic!("the store answers"),
            }
        }
        assert_eq!(won, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_late_is_not_sent_and_not_believed() {
    let backend = ScriptedStore::new();
    let store = manifests(&backend, false);
    let next = after(None, 1);
    assert!(matches!(store.publish(&next, &|| false).await, Ok(Published::Unknown)));
    assert_eq!(backend.calls(), 0);
    // In time when it is sent, too late when the answer comes.
    let asked = AtomicU64::new(0);
    let once = || asked.fetch_add(1, Ordering::Relaxed) == 0;
    assert!(matches!(store.publish(&next, &once).await, Ok(Published::Unknown)));
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_cannot_be_is_not_sent() {
    let backend = ScriptedStore::new();
    let store = manifests(&backend, false);
    let mut bad = after(None, 1);
    bad.segments[0].meta.rows = 0;
    assert!(matches!(
        store.publish(&bad, &always).await,
        Err(ManifestError::Invalid(_))
    ));
    let mut large = after(None, 1);
    for n in 0..20u128 {
        let mut segment = segment(1_000 + n, 7, Deletions::None);
        (segment.meta.len, segment.meta.hot_offset, segment.meta.hot_len) = (250_000, 0, 0);
        segment.meta.inline = Some(vec![0; 250_000].into());
        large.segments.push(segment);
    }
    assert!(matches!(
        store.publish(&large, &always).await,
        Err(ManifestError::TooLarge { .. })
    ));
    assert_eq!(backend.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn many_deleted_rows_get_an_object() {
    let backend = ScriptedStore::new();
    let store = manifests(&backend, false);
    let rows: RoaringBitmap = (0..30_000u32).map(|n| n * 2).collect();
    let deletions = store
        .put_deletions(rows.clone(), Ulid::from(5u128), DELETIONS_INLINE_BYTES_MAX)
        .await
        .expect("put");
    assert!(matches!(&deletions, Deletions::Object(o) if o.rows == 30_000));
    let named = segment(1, 60_000, deletions);
    assert_eq!(*store.deletions(&named).await.expect("read"), rows);
    let key = paths::deletions(store.key(), Ulid::from(5u128));
    store.store().put(&key, "x").await.expect("put");
    assert!(matches!(
        store.deletions(&named).await,
        Err(ManifestError::Damaged { .. })
    ));
    store.store().delete(&key).await.expect("deleted");
    assert!(matches!(
        store.deletions(&named).await,
        Err(ManifestError::Missing { .. })
    ));
    let few = store
        .put_deletions(
            [1, 2].into_iter().collect(),
            Ulid::from(6u128),
            DELETIONS_INLINE_BYTES_MAX,
        )
        .await
        .expect("none put");
    assert_eq!(store.deletions(&segment(1, 3, few)).await.expect("inline").len(), 2);
    assert_eq!(
        store
            .deletions(&segment(1, 3, Deletions::None))
            .await
            .expect("none")
            .len(),
        0
    );
}
