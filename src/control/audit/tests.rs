use object_store::path::Path;
use proptest::prelude::*;

use super::*;
use crate::control::testing;
use crate::store::paths::control as paths;

const DAY: &str = "2026-11-21";

fn org() -> OrgId {
    OrgId::parse("org_1").expect("legal")
}

fn event(code: &'static str, target: impl Into<String>) -> Event {
    Event {
        code,
        org: org(),
        actor: "api_key 7".into(),
        author: Some("ana".into()),
        ip: None,
        target: target.into(),
        data: json!({"group": "default"}),
    }
}

async fn keys(control: &Control) -> Vec<Path> {
    use futures::TryStreamExt;
    let store = control.records().store();
    let listed: Vec<_> = store
        .list(&paths::audit(&org()), None)
        .try_collect()
        .await
        .expect("listed");
    let mut keys: Vec<Path> = listed
        .into_iter()
        .map(|o: object_store::ObjectMeta| o.location)
        .collect();
    keys.sort_unstable();
    keys
}

async fn verify(control: &Control) -> AuditReport {
    control.verify_audit(&org(), DAY).await.expect("readable")
}

#[tokio::test(start_paused = true)]
async fn an_event_is_there_when_it_is_answered_and_events_that_come_together_share_a_file() {
    let control = testing::control_with_tokio_clock(1);
    context::in_request("req_1", control.audit(event("key-create", "1")))
        .await
        .expect("written");
    // While one file is written the events that come wait, and then share the next one.
    let writer = control.writer(&org(), true).expect("there is one");
    let writing = writer.chain.lock().await;
    let all = futures::future::join_all((2..40).map(|i| control.audit(event("key-create", i.to_string()))));
    let (outcomes, ()) = tokio::join!(biased; all, async { drop(writing) });
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(keys(&control).await.len(), 2);
    let page = control.audit_page(&org(), 1, 100).await.expect("readable");
    assert_eq!((page.lines.len(), page.total_rows), (39, 39));
    let oldest = page.lines.last().expect("39");
    assert_eq!(
        (oldest.target.as_str(), oldest.request_id.as_deref(), &*oldest.result),
        ("1", Some("req_1"), "ok")
    );
    assert_eq!(oldest.at, testing::START * 1000);
    control.flush_audits().await;
    let report = verify(&control).await;
    assert_eq!((report.lines, report.unsealed, report.problems), (39, 0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn refused_calls_are_written_by_the_minute_and_bounded() {
    let control = testing::control_with_tokio_clock(1);
    for i in 0..300 {
        control.audit_denied(event("auth-denied", i.to_string()));
    }
    assert!(keys(&control).await.is_empty());
    control.flush_audits().await;
    let page = control.audit_page(&org(), 1, 1000).await.expect("readable");
    assert_eq!(page.lines.len(), DENIED_MAX + 1);
    let dropped: Vec<_> = page.lines.iter().filter(|l| l.data["dropped"] == 44).collect();
    assert_eq!(dropped.len(), 1);
    assert!(page.lines.iter().all(|l| l.result == "denied"));
    let sample = || control.audit_denied_sample("documents:search", || event("auth-denied", "n"), &org(), "api_key 7");
    (0..100).for_each(|_| sample());
    control.flush_audits().await;
    assert_eq!(
        control.audit_page(&org(), 1, 1000).await.expect("readable").total_rows,
        258
    );
}

/// Two nodes, days apart, some events at a time.
async fn history() -> (Control, Control) {
    let first = testing::control_with_tokio_clock(1);
    let second = testing::second_node(&first, 2);
    for i in 0..4 {
        first.audit(event("db-create", format!("a{i}"))).await.expect("written");
        tokio::time::sleep(Duration::from_millis(10)).await;
        second.audit_denied(event("auth-denied", format!("b{i}")));
        tokio::time::sleep(Duration::from_millis(10)).await;
        if i % 2 == 1 {
            second.flush_audits().await;
        }
    }
    first.flush_audits().await;
    (first, second)
}

#[tokio::test(start_paused = true)]
async fn pages_merge_the_lines_of_all_nodes_by_time() {
    let (control, _) = history().await;
    let whole = control.audit_page(&org(), 1, 100).await.expect("readable");
    let targets: Vec<_> = whole.lines.iter().map(|l| l.target.as_str()).collect();
    assert_eq!(targets, ["b3", "a3", "b2", "a2", "b1", "a1", "b0", "a0"]);
    for size in 1..=9 {
        let mut lines = Vec::new();
        for page in 1..=9 {
            let page = control.audit_page(&org(), page, size).await.expect("readable");
            assert_eq!(page.total_rows, 8);
            assert!(page.lines.len() as u64 <= size);
            lines.extend(page.lines);
        }
        assert_eq!(lines, whole.lines, "{size}");
    }
    assert!(control.audit_page(&org(), 0, 1).await.is_err());
    assert!(control.audit_page(&org(), 101, 100).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn every_changed_byte_and_every_removed_line_or_file_is_found() {
    let (control, _) = history().await;
    let store = control.records().store().clone();
    let clean = verify(&control).await;
    assert_eq!((clean.files, clean.lines, clean.unsealed), (6, 8, 0));
    assert_eq!(clean.problems, Vec::<String>::new());
    for key in keys(&control).await {
        let body = store.get(&key).await.expect("readable").expect("listed").to_vec();
        for at in 0..body.len() {
            let mut bad = body.clone();
            bad[at] ^= 1 << (at % 8);
            store.put(&key, bad).await.expect("written");
            assert!(!verify(&control).await.problems.is_empty(), "{key} byte {at}");
        }
        let lines: Vec<&[u8]> = body.split_inclusive(|b| *b == b'\n').collect();
        for left_out in 0..lines.len() {
            let rest = lines.iter().enumerate().filter(|(n, _)| *n != left_out);
            let rest: Vec<u8> = rest.flat_map(|(_, line)| line.iter().copied()).collect();
            store.put(&key, rest).await.expect("written");
            assert!(!verify(&control).await.problems.is_empty(), "{key} line {left_out}");
        }
        store.delete(&key).await.expect("deleted");
        assert!(!verify(&control).await.problems.is_empty(), "{key} removed");
        store.put(&key, body).await.expect("written");
        assert_eq!(verify(&control).await, clean);
    }
    // A file under another name, and a whole stream written anew without the secret.
    let keys = keys(&control).await;
    let body = store.get(&keys[0]).await.expect("readable").expect("listed");
    let name = chain::Name::parse(&keys[0]).expect("it is ours");
    let name = chain::Name { number: 9, ..name };
    let twin = paths::audit_file(&org(), DAY, &name.text());
    store.put(&twin, body.clone()).await.expect("written");
    assert!(!verify(&control).await.problems.is_empty());
    store.delete(&twin).await.expect("deleted");
    for key in &keys {
        store.delete(key).await.expect("deleted");
    }
    let problems = verify(&control).await.problems;
    assert_eq!(problems.len(), 2, "both streams are missing: {problems:?}");
}

#[tokio::test(start_paused = true)]
async fn each_day_has_its_own_chain() {
    let control = testing::control_with_tokio_clock(1);
    control.audit(event("db-create", "1")).await.expect("written");
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    control.audit(event("db-create", "2")).await.expect("written");
    control.audit(event("db-create", "3")).await.expect("written");
    control.flush_audits().await;
    for (day, lines) in [(DAY, 1), ("2026-11-22", 2), ("2026-11-23", 0)] {
        let report = control.verify_audit(&org(), day).await.expect("readable");
        assert_eq!(
            (report.lines, report.unsealed, report.problems),
            (lines, 0, vec![]),
            "{day}"
        );
    }
    assert_eq!(control.audits().writers().len(), 1);
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    control.flush_audits().await;
    assert_eq!(control.audits().writers().len(), 0, "nothing is remembered for ever");
}

proptest! {
    #[test]
    fn names_of_files_are_read_back(last_ms in 0..10_u64.pow(13), number in 1..1_000_000_u64, lines in 1..100_000_u64) {
        let name = chain::Name {
            last_ms,
            stream: "01kaj0000000000000000000zz".into(),
            number,
            lines,
            previous: chain::ZEROS.into(),
        };
        let key = paths::audit_file(&org(), DAY, &name.text());
        prop_assert_eq!(chain::Name::parse(&key), Some(name));
    }
}
