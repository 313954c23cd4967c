use std::time::Duration;

use super::*;
use crate::config::{PlanConfig, Quotas};
use crate::control::{Organization, Plans, testing};
use crate::error::ErrorKind;

fn org() -> OrgId {
    OrgId::parse("org_1").expect("legal")
}

fn used(n: u64) -> Used {
    Used {
        queries: 1,
        rows_read: n,
        rows_returned: 1,
        bytes_queried: 2 * n,
        bytes_returned: 3,
        writes: 1,
        rows_written: n,
        bytes_written: 5 * n,
    }
}

async fn total(control: &Control) -> Used {
    let month = control.month();
    control
        .usage(&org(), month, month)
        .await
        .expect("readable")
        .sums
        .total()
}

#[tokio::test(start_paused = true)]
async fn usage_is_the_same_in_memory_in_parts_and_rolled_up() {
    let control = testing::control_with_tokio_clock(1);
    let other = testing::second_node(&control, 2);
    let mut expected = Used::default();
    for i in 1..20 {
        let (node, name) = if i % 3 == 0 { (&other, "b") } else { (&control, "a") };
        node.meter(&org(), name, "api_key 1", &used(i));
        expected.add(&used(i));
        if i % 4 == 0 {
            node.flush_usage().await;
        }
        if i % 7 == 0 {
            control.roll_up_usage(&org(), control.month()).await.expect("rolled up");
        }
        // What the other node has not written is not known here.
        other.flush_usage().await;
        assert_eq!(total(&control).await, expected, "{i}");
    }
    control.flush_usage().await;
    for node in [&control, &other] {
        node.roll_up_usage(&org(), control.month()).await.expect("rolled up");
        node.roll_up_usage(&org(), control.month()).await.expect("rolled up");
        assert_eq!(total(node).await, expected);
    }
    let month = control.month();
    let usage = control.usage(&org(), month, month).await.expect("readable");
    assert_eq!(usage.sums.keys["api_key 1"], expected);
    assert_eq!(usage.sums.namespaces.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn months_are_apart_and_what_is_stored_is_not() {
    let control = testing::control_with_tokio_clock(1);
    let november = control.month();
    assert_eq!(november.to_string(), "2026-11");
    control.meter(&org(), "a", "k", &used(1));
    control.meter_stored(&org(), "a", 100, None);
    control.meter_stored(&org(), "b", 7, None);
    tokio::time::sleep(Duration::from_secs(11 * 86_400)).await;
    control.meter(&org(), "a", "k", &used(10));
    let december = control.month();
    assert_eq!(december.to_string(), "2026-12");
    for step in 0..3 {
        for (first, last, rows) in [
            (november, november, 1),
            (december, december, 10),
            (november, december, 11),
        ] {
            let usage = control.usage(&org(), first, last).await.expect("readable");
            assert_eq!(usage.sums.total().rows_read, rows, "{step}");
        }
        match step {
            0 => assert_eq!(control.flush_usage().await.len(), 2),
            _ => {
                for month in [november, december] {
                    control.roll_up_usage(&org(), month).await.expect("rolled up");
                }
            }
        }
    }
    let usage = control.usage(&org(), december, december).await.expect("readable");
    assert_eq!(usage.stored_bytes(), 107);
    tokio::time::sleep(Duration::from_secs(1)).await;
    control.meter_stored(&org(), "b", 0, None);
    assert_eq!(
        control
            .usage(&org(), december, december)
            .await
            .expect("readable")
            .stored_bytes(),
        100
    );
}

#[tokio::test(start_paused = true)]
async fn too_many_names_count_for_the_organization_alone() {
    let control = testing::control_with_tokio_clock(1);
    for i in 0..100_000 {
        control.meter(&org(), &format!("n{i}"), &format!("k{i}"), &used(1));
    }
    let month = control.month();
    for _ in 0..2 {
        let usage = control.usage(&org(), month, month).await.expect("readable");
        assert_eq!(usage.sums.total().rows_read, 100_000);
        assert!(usage.sums.namespaces.len() <= NAMES_MAX + 1 && usage.sums.keys.len() <= NAMES_MAX + 1);
        control.flush_usage().await;
        control.roll_up_usage(&org(), month).await.expect("rolled up");
    }
}

#[tokio::test(start_paused = true)]
async fn a_used_up_budget_blocks_until_the_next_month_or_a_larger_plan() {
    let plan = |name: &str, rows_read| PlanConfig {
        quotas: Quotas {
            rows_read: Some(rows_read),
            ..Quotas::default()
        },
        ..PlanConfig::unlimited(name)
    };
    let plans = Plans::new(&[plan("small", 10), plan("large", 1000)], "small").expect("configured");
    let control = testing::control_with_tokio_clock(1).with_plans(plans);
    let org = OrgId::default_org();
    let put = async |plan: &str, overages| {
        let change = |record: Option<Organization>| {
            Ok(Some(Organization {
                plan: plan.into(),
                overages,
                ..record.unwrap_or_else(Organization::unwritten_default)
            }))
        };
        let record = crate::store::paths::control::org(&org);
        control.records().update(&record, change).await.expect("written");
        control.cache().changed(&org).await.expect("said");
    };
    let known = async || control.organization(&org).await.expect("readable").expect("there");
    let round = async || {
        let mut due = control.flush_usage().await;
        control.roll_up_due(&mut due, false).await;
        assert!(due.is_empty());
    };
    put("small", false).await;
    control.meter(&org, "a", "k", &used(9));
    round().await;
    assert!(control.check_budget(&*known().await, false).is_ok());
    control.meter(&org, "a", "k", &used(1));
    round().await;
    let error = control.check_budget(&*known().await, false).expect_err("used up");
    assert_eq!(
        (error.kind, error.code),
        (ErrorKind::QuotaExceeded, Some("blocked_reads"))
    );
    assert!(
        control.check_budget(&*known().await, true).is_ok(),
        "writes are not budgeted"
    );
    put("small", true).await;
    assert!(
        control.check_budget(&*known().await, false).is_ok(),
        "overages are counted"
    );
    put("small", false).await;
    assert!(control.check_budget(&*known().await, false).is_err());
    put("large", false).await;
    control.review_budget(&org).await.expect("reviewed");
    assert!(!known().await.blocked_reads);
    put("small", false).await;
    control.review_budget(&org).await.expect("reviewed");
    assert!(known().await.blocked_reads);
    tokio::time::sleep(Duration::from_secs(11 * 86_400)).await;
    assert!(
        control.check_budget(&*known().await, false).is_err(),
        "nobody looked yet"
    );
    round().await;
    assert!(
        control.check_budget(&*known().await, false).is_ok(),
        "who was refused is looked at"
    );
    assert!(!known().await.blocked_reads);
}

#[tokio::test(start_paused = true)]
async fn periods_are_whole_months() {
    let control = testing::control_with_tokio_clock(1);
    let period = |from, to| {
        control
            .period(from, to)
            .map(|(a, b)| format!("{a} {b}"))
            .map_err(|e| e.kind)
    };
    for (from, to, months) in [
        (None, None, "2026-11 2026-11"),
        (Some(""), Some(""), "2026-11 2026-11"),
        (Some("2026-09-30T23:59:59Z"), None, "2026-09 2026-11"),
        (
            Some("2026-10-01T00:30:00+01:00"),
            Some("2026-10-01T00:00:00Z"),
            "2026-09 2026-10",
        ),
        (
            Some("2026-10-01T00:30:00 01:00"),
            Some("2026-10-01T00:00:00Z"),
            "2026-09 2026-10",
        ),
        (None, Some("2025-01-05T00:00:00Z"), "2025-01 2025-01"),
        (
            Some("2024-01-01T00:00:00Z"),
            Some("2026-12-31T00:00:00Z"),
            "2024-01 2026-12",
        ),
    ] {
        assert_eq!(period(from, to).as_deref(), Ok(months));
    }
    for (from, to) in [
        (Some("yesterday"), None),
        (Some("2026-10-02T00:00:00Z"), Some("2026-10-01T00:00:00Z")),
        (Some("2026-11-21"), None),
        (None, Some("2026-13-01T00:00:00Z")),
        (Some("2026-12-01T00:00:00Z"), None),
        (Some("2023-12-31T00:00:00Z"), Some("2026-12-01T00:00:00Z")),
    ] {
        assert_eq!(period(from, to), Err(ErrorKind::Invalid), "{from:?} {to:?}");
    }
}

#[test]
fn a_deletion_is_the_last_word_of_its_millisecond() {
    let stored = |at, bytes, id: Option<u128>| Stored {
        at,
        bytes,
        id: id.map(Uuid::from_u128),
    };
    let (written, gone) = (stored(5, 100, Some(1)), stored(5, 0, None));
    for (a, b, later) in [
        (written, gone, gone),
        (stored(6, 1, Some(2)), gone, stored(6, 1, Some(2))),
        (stored(5, 200, Some(1)), written, stored(5, 200, Some(1))),
    ] {
        assert_eq!(a.later(b), later);
        assert_eq!(b.later(a), later);
    }
}
