use super::*;
use crate::config::{PlanConfig, Quotas};
use crate::control::{Plans, testing};

const SECOND: Duration = Duration::from_secs(1);

fn refill(per_second: u64) -> Refill {
    Limiter::new(1).share(per_second)
}

/// How many of requests that come evenly are let through.
fn passed(limiter: &Limiter, refill: Refill, requests: u64, every: Duration, from: Duration) -> u64 {
    let at = |i: u64| from + every * u32::try_from(i).expect("few");
    (0..requests)
        .filter(|i| limiter.take(7, refill, at(*i)).is_ok())
        .count() as u64
}

#[test]
fn a_bucket_gives_one_seconds_worth_at_once_and_then_its_rate() {
    for rate in [1, 2, 7, 10, 100, 999] {
        let limiter = Limiter::new(1);
        assert_eq!(passed(&limiter, refill(rate), 3 * rate, Duration::ZERO, SECOND), rate);
        let wait = limiter.take(7, refill(rate), SECOND).expect_err("empty");
        assert!(
            wait <= SECOND / u32::try_from(rate).expect("small") && !wait.is_zero(),
            "{rate}: {wait:?}"
        );
        assert!(
            limiter.take(7, refill(rate), SECOND + wait).is_ok(),
            "{rate}: after the wait there is one"
        );
        // Twice the rate for ten seconds: half of it passes.
        let every = SECOND / u32::try_from(2 * rate).expect("small");
        let start = SECOND * 100;
        let through = passed(&limiter, refill(rate), 20 * rate, every, start);
        assert!((11 * rate - 2..=11 * rate + 1).contains(&through), "{rate}: {through}");
    }
}

#[test]
fn nodes_share_a_limit() {
    let limiter = Limiter::new(1);
    limiter.nodes.store(4, Ordering::Relaxed);
    assert_eq!(passed(&limiter, limiter.share(100), 1000, Duration::ZERO, SECOND), 25);
    let small = limiter.share(1);
    assert_eq!(
        passed(&limiter, small, 40, SECOND / 10, SECOND * 50),
        1,
        "one in four seconds"
    );
}

#[test]
fn memory_is_bounded_and_used_buckets_stay() {
    let limiter = Limiter::new(1);
    let slow = Refill {
        interval: 3_600_000_000_000,
        burst: 1,
    };
    assert!(limiter.take(0, slow, SECOND).is_ok());
    for i in 1..(BUCKETS_MAX * SHARDS) as u128 {
        let _ = limiter.take(i, slow, SECOND);
    }
    assert!(limiter.take(0, slow, SECOND).is_err(), "as many are remembered");
    for i in 0..(8 * BUCKETS_MAX * SHARDS) as u128 {
        let _ = limiter.take((i << 32) | (i % SHARDS as u128), slow, SECOND);
    }
    for shard in &limiter.shards {
        let shard = shard.lock().expect("not poisoned");
        assert!(shard.new.len() <= BUCKETS_MAX && shard.old.len() <= BUCKETS_MAX);
    }
}

#[tokio::test(start_paused = true)]
async fn organizations_and_keys_have_their_own_buckets_for_queries_and_writes() {
    let plan = PlanConfig {
        quotas: Quotas {
            queries_per_second: Some(3),
            ..Quotas::default()
        },
        ..PlanConfig::unlimited("slow")
    };
    let control = testing::control_with_tokio_clock(1).with_plans(Plans::new(&[plan], "slow").expect("configured"));
    let (a, b) = (OrgId::parse("a").expect("legal"), OrgId::parse("b").expect("legal"));
    let org = Organization {
        plan: "slow".into(),
        overages: true,
        ..Organization::unwritten_default()
    };
    let count = |of: &OrgId, key: Option<(&str, u64)>, rate| {
        (0..20)
            .filter(|_| control.limit(of, Some(&org), key, rate).is_ok())
            .count()
    };
    assert_eq!(count(&a, Some(("1", 1)), Rate::Queries), 1);
    assert_eq!(count(&a, Some(("2", 1)), Rate::Queries), 1);
    assert_eq!(count(&a, None, Rate::Queries), 1, "three in all");
    assert_eq!(count(&b, None, Rate::Queries), 3, "another organization");
    assert_eq!(count(&a, Some(("1", 2)), Rate::Writes), 2);
    assert_eq!(count(&a, None, Rate::Writes), 20, "the plan has no limit of writes");
    let error = control.limit(&a, Some(&org), None, Rate::Queries).expect_err("empty");
    assert_eq!((error.kind, error.code), (ErrorKind::Overloaded, Some("rate_limited")));
    tokio::time::sleep(error.retry_after.expect("a time")).await;
    assert_eq!(count(&a, None, Rate::Queries), 1);
}

#[tokio::test(start_paused = true)]
async fn addresses_are_limited_by_party() {
    let control = testing::control_with_tokio_clock(1);
    let fails = |text: &str| {
        let ip = text.parse().expect("an address");
        (0..1000)
            .filter(|_| control.limit_failed_authentication(ip).is_ok())
            .count()
    };
    assert_eq!(fails("192.0.2.1"), 500);
    assert_eq!(fails("::ffff:192.0.2.1"), 0, "the same address");
    assert_eq!(fails("192.0.2.2"), 500);
    assert_eq!(fails("2001:db8::1"), 500);
    assert_eq!(fails("2001:db8::2"), 0, "the same network");
    assert_eq!(fails("2001:db8:0:1::1"), 500);
}

#[tokio::test(start_paused = true)]
async fn something_is_due_once_per_interval() {
    let control = testing::control_with_tokio_clock(1);
    let due = |key: &str| control.is_due("sample", key, "documents:search", Duration::from_secs(60));
    assert!(due("1") && !due("1") && due("2"));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(due("1") && !due("1"));
}
