use super::*;
use crate::control::testing::{START, control_with_tokio_clock, second_node};

fn new(actions: &[&str]) -> NewKey {
    NewKey {
        description: "d".into(),
        actions: actions.iter().map(|a| (*a).to_owned()).collect(),
        collections: vec!["*".into()],
        value: None,
        expires_at: NEVER,
        autodelete: false,
        limited: Limited::default(),
        created_by: "bootstrap:bootstrap".into(),
        attempt: None,
    }
}

fn org() -> OrgId {
    OrgId::default_org()
}

async fn find(control: &Control, value: &Hidden, made_by: MadeBy) -> Option<u64> {
    let found = control.key_of_value(value.reveal().as_bytes(), made_by, None).await;
    found.expect("the store answers").map(|key| key.id)
}

#[tokio::test(start_paused = true)]
async fn a_key_is_found_until_it_is_deleted_and_its_id_is_not_used_again() {
    let control = control_with_tokio_clock(1);
    let made = control.create_key(&org(), new(&["*"])).await.expect("made");
    assert_eq!(made.id, 1);
    assert!(
        !serde_json::to_string(&made.record)
            .expect("JSON")
            .contains(made.value.reveal())
    );
    assert_eq!(find(&control, &made.value, MadeBy::Us).await, Some(1));
    let other = second_node(&control, 2);
    assert_eq!(find(&other, &made.value, MadeBy::Us).await, Some(1), "on another node");
    assert!(control.delete_key(&org(), 1).await.expect("deleted"));
    assert_eq!(find(&control, &made.value, MadeBy::Us).await, None);
    assert!(!control.delete_key(&org(), 1).await.expect("gone"));
    assert_eq!(control.create_key(&org(), new(&["*"])).await.expect("made").id, 2);
    assert_eq!(control.keys(&org()).await.expect("listed").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_made_at_once_have_different_ids() {
    let control = control_with_tokio_clock(1);
    let other = second_node(&control, 2);
    let (org, keys) = (org(), [&control, &other]);
    let made = futures::future::join_all((0..12).map(|i| keys[i % 2].create_key(&org, new(&["*"])))).await;
    let mut ids: Vec<u64> = made.into_iter().map(|made| made.expect("made").id).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=12).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_chosen_value_is_one_keys_and_free_again_after_it() {
    let control = control_with_tokio_clock(1);
    let chosen = || NewKey {
        value: Some(Hidden::new("my-own-value-of-24-chars")),
        ..new(&["documents:search"])
    };
    let first = control.create_key(&org(), chosen()).await.expect("made");
    let error = control.create_key(&org(), chosen()).await.expect_err("taken");
    assert_eq!(
        (error.kind, error.message.as_str()),
        (ErrorKind::Conflict, "API key generation conflict.")
    );
    assert_eq!(find(&control, &first.value, MadeBy::Client).await, Some(1));
    control.delete_key(&org(), 1).await.expect("deleted");
    assert_eq!(find(&control, &first.value, MadeBy::Client).await, None);
    let again = control.create_key(&org(), chosen()).await.expect("free");
    assert_eq!(find(&control, &again.value, MadeBy::Client).await, Some(again.id));
    // Several at once: one.
    control.delete_key(&org(), again.id).await.expect("deleted");
    let org = org();
    let racers = futures::future::join_all((0..6).map(|_| control.create_key(&org, chosen()))).await;
    assert_eq!(racers.iter().filter(|r| r.is_ok()).count(), 1);
    assert_eq!(
        control.keys(&org).await.expect("listed").len(),
        1,
        "losers leave nothing"
    );
}

#[tokio::test(start_paused = true)]
async fn only_search_only_values_are_kept_and_only_for_their_key() {
    let control = control_with_tokio_clock(1);
    for (actions, kept) in [
        (&["documents:search"][..], true),
        (&["*"], false),
        (&["documents:*"], false),
        (&["documents:search", "documents:get"], false),
        (&["documents:search", "documents:search"], false),
    ] {
        let made = control.create_key(&org(), new(actions)).await.expect("made");
        let key = control.live_key(&org(), made.id).await.expect("read").expect("lives");
        assert_eq!(
            key.value.as_ref().map(Hidden::reveal),
            kept.then(|| made.value.reveal()),
            "{actions:?}"
        );
    }
    // A record that was copied to another id opens nothing there.
    let record = control.key(&org(), 1).await.expect("read").expect("there");
    let copied = control.opened(&org(), 2, &record, [0; 32]).expect("opens otherwise");
    assert!(copied.value.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_sweep_removes_what_has_expired_and_what_was_left() {
    let control = control_with_tokio_clock(1);
    let with = |expires_at, autodelete| NewKey {
        expires_at,
        autodelete,
        ..new(&["documents:search"])
    };
    for key in [
        with(START + 10, true),
        with(START + 10, false),
        with(NEVER, true),
        with(START + 7300, true),
    ] {
        control.create_key(&org(), key).await.expect("made");
    }
    // A creation that broke off before the claim, and a marker without a key.
    let (id, record) = control
        .record_key(&org(), &new(&["documents:search"]), &Hidden::new("abcd_shl1_x"))
        .await
        .expect("recorded");
    assert_eq!(id, 5);
    let stray = paths::key_prefix_marker(b"zzzz", &org(), 99);
    control
        .records()
        .store()
        .put(&stray, bytes::Bytes::new())
        .await
        .expect("written");
    let marker = paths::key_prefix_marker(&prefix_bytes(&record).expect("4"), &org(), id);
    control
        .records()
        .store()
        .put(&marker, bytes::Bytes::new())
        .await
        .expect("written");
    tokio::time::sleep(std::time::Duration::from_secs(11)).await;
    let swept = control.sweep_keys().await.expect("swept");
    assert_eq!(
        swept,
        Swept {
            expired: 1,
            markers: 1,
            ..Swept::default()
        },
        "what is young may be in the making"
    );
    tokio::time::sleep(std::time::Duration::from_secs(7200)).await;
    let swept = control.sweep_keys().await.expect("swept");
    assert_eq!(
        swept,
        Swept {
            left_behind: 1,
            ..Swept::default()
        }
    );
    let left: Vec<u64> = control
        .keys(&org())
        .await
        .expect("listed")
        .iter()
        .map(|(id, _)| *id)
        .collect();
    assert_eq!(left, [2, 3, 4]);
    tokio::time::sleep(std::time::Duration::from_secs(120)).await;
    assert_eq!(control.sweep_keys().await.expect("swept").expired, 1);
    assert_eq!(control.sweep_keys().await.expect("swept"), Swept::default());
}
