//! Who may do the large jobs.

use std::time::Duration;

use super::*;
use crate::maintenance::lease::{holder, take};
use crate::store::Store;
use crate::store::paths::{self, NsKey};

async fn by(store: &Store, ns: &NsKey, node: u128, now_ms: u64) -> bool {
    let span = Duration::from_secs(60);
    let taken = take(store, ns, "index", node, now_ms, span)
        .await
        .expect("the store answers")
        .ours();
    if let Some(lease) = taken {
        assert!(lease.covers(now_ms, Duration::from_secs(59)) && !lease.covers(now_ms, span));
    }
    taken.is_some()
}

#[test]
fn a_lease_is_held_by_one_until_it_runs_out() {
    run(async {
        let world = World::new(true);
        let (store, ns) = (&world.workshop.store, world.job().ns().clone());
        assert!(by(store, &ns, 1, 1_000).await);
        assert!(!by(store, &ns, 2, 2_000).await);
        assert!(by(store, &ns, 1, 3_000).await, "its holder may go on");
        assert!(!by(store, &ns, 2, 62_000).await);
        assert!(by(store, &ns, 2, 63_000).await);
        assert!(!by(store, &ns, 1, 63_001).await);
        assert_eq!(world.objects().await, 1, "older terms are removed");
        // A holder whose clock is far ahead does not keep it for ever.
        assert!(by(store, &ns, 3, 1 << 50).await);
        assert!(by(store, &ns, 1, 200_000).await);
        // Nonsense is no lease.
        let newest = paths::lease(&ns, "index", 5);
        store.put(&newest, "nonsense").await.expect("put");
        assert!(by(store, &ns, 2, 200_001).await);
    });
}

#[test]
fn a_damaged_lease_is_nobodys() {
    run(async {
        let world = World::new(true);
        let (store, ns) = (&world.workshop.store, world.job().ns().clone());
        assert!(by(store, &ns, 1, 1_000).await);
        let lease = |term| paths::lease(&ns, "index", term);
        let whole = store.get(&lease(1)).await.expect("readable").expect("it was taken");
        for at in 0..whole.len() {
            let mut damaged = whole.to_vec();
            damaged[at] ^= 1;
            store.put(&lease(1), damaged).await.expect("put");
            assert_eq!(holder(store, &ns, "index", 1).await.expect("readable"), None, "{at}");
            assert!(by(store, &ns, 2, 2_000).await, "{at}");
            store.delete(&lease(2)).await.expect("deleted");
        }
        store.put(&lease(1), whole).await.expect("put");
        assert!(!by(store, &ns, 2, 2_000).await);
    });
}

#[test]
fn of_rivals_at_most_one_gets_it() {
    run(async {
        let world = World::new(true);
        let (store, ns) = (&world.workshop.store, world.job().ns().clone());
        let all = futures::future::join_all((0..5).map(|node| by(store, &ns, node, 1_000))).await;
        assert_eq!(all.into_iter().filter(|taken| *taken).count(), 1);
    });
}
