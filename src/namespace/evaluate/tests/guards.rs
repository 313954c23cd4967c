//! Guards and settings among the requests of one batch: each is decided on what the ones before it leave behind.

use super::*;
use crate::model::access::TokenGuard;

fn verdicts(world: &World, batch: &[Arc<Change>]) -> Vec<Result<(), (ErrorKind, Option<&'static str>)>> {
    let name = NamespaceName::parse("ns").unwrap();
    let decided = |verdict: &Verdict| match verdict {
        Verdict::Reject(error) => Err((error.kind, error.code)),
        Verdict::Commit(_) | Verdict::Nothing(..) | Verdict::Repeated(..) => Ok(()),
    };
    let evaluated = evaluate(batch, &world.snapshot, &Stored::default(), &name, &world.limits);
    evaluated.iter().map(decided).collect()
}

fn by(guard: Guard, change: Arc<Change>) -> Arc<Change> {
    let Ok(change) = Arc::try_unwrap(change) else {
        panic!("nobody else has it")
    };
    Arc::new(Change {
        guard: Some(Arc::new(guard)),
        ..change
    })
}

fn settings(change: SettingsChange) -> Arc<Change> {
    unguarded(What::Settings(change))
}

fn create() -> Arc<Change> {
    unguarded(What::Create(CreateRequest {
        settings: SettingsChange::default(),
        schema: None,
        models: Arc::default(),
    }))
}

fn upsert(world: &World, row: Json) -> Arc<Change> {
    world.request(&json!({ "upsert_rows": [row] }), None)
}

#[test]
fn a_rotation_revokes_for_the_rest_of_its_batch() {
    let mut world = World::new();
    world.one(json!({"upsert_rows": [{"id": 1}]})).unwrap();
    let id = world.snapshot.database_id().unwrap();
    let with = |generation| {
        let guard = Guard {
            token: Some(TokenGuard::Namespace { id, generation }),
            ..Guard::default()
        };
        by(guard, upsert(&world, json!({"id": 2})))
    };
    let rotate = || {
        settings(SettingsChange {
            rotate_tokens: true,
            ..SettingsChange::default()
        })
    };
    let no = Err((ErrorKind::Unauthenticated, None));
    let batch = [with(0), with(1), rotate(), with(0), with(1), rotate(), with(1), with(2)];
    assert_eq!(
        verdicts(&world, &batch),
        [Ok(()), no, Ok(()), no, Ok(()), Ok(()), no, Ok(())]
    );
}

#[test]
fn of_creations_in_one_batch_the_first_counts() {
    let world = World::new();
    let no_creation = || Guard {
        may_create: false,
        ..Guard::default()
    };
    let forbidden = Err((ErrorKind::Forbidden, None));
    let conflict = Err((ErrorKind::Conflict, None));
    let batch = [
        by(no_creation(), upsert(&world, json!({"id": 1}))),
        by(no_creation(), create()),
        create(),
        create(),
        by(no_creation(), upsert(&world, json!({"id": 1}))),
    ];
    assert_eq!(
        verdicts(&world, &batch),
        [forbidden, forbidden, Ok(()), conflict, Ok(())]
    );
    assert_eq!(group_len(batch.iter(), 1 << 20, 10, false), 5);
    // A token for what nobody has seen yet is for something else.
    let guard = Guard {
        token: Some(TokenGuard::Namespace {
            id: uuid::Uuid::nil(),
            generation: 0,
        }),
        ..Guard::default()
    };
    let batch = [create(), by(guard, upsert(&world, json!({"id": 1})))];
    assert_eq!(verdicts(&world, &batch)[1], Err((ErrorKind::Unauthenticated, None)));
}

#[test]
fn an_attribute_that_came_before_is_no_change_of_the_schema() {
    let mut world = World::new();
    world.one(json!({"upsert_rows": [{"id": 1, "a": 1}]})).unwrap();
    let bound = |row| {
        let guard = Guard {
            may_change_schema: false,
            ..Guard::default()
        };
        by(guard, upsert(&world, row))
    };
    let batch = [
        bound(json!({"id": 2, "a": 1})),
        bound(json!({"id": 3, "b": 1})),
        upsert(&world, json!({"id": 4, "b": 1})),
        bound(json!({"id": 3, "b": 1})),
    ];
    let forbidden = Err((ErrorKind::Forbidden, None));
    assert_eq!(verdicts(&world, &batch), [Ok(()), forbidden, Ok(()), Ok(())]);
}

#[test]
fn what_was_done_before_a_block_is_told_after_it() {
    let mut world = World::new();
    let body = json!({"upsert_rows": [{"id": 1}]});
    let first = world.request(&body, Some("key"));
    world.commit(&[first]);
    let block = settings(SettingsChange {
        block_writes: Some(true),
        ..SettingsChange::default()
    });
    let batch = [
        block,
        world.request(&body, Some("key")),
        world.request(&body, Some("another")),
    ];
    let blocked = Err((ErrorKind::Forbidden, Some("blocked_writes")));
    assert_eq!(verdicts(&world, &batch), [Ok(()), Ok(()), blocked]);
}

#[test]
fn the_requests_of_a_batch_share_what_is_left_of_a_limit() {
    let mut world = World::new();
    world.one(json!({"upsert_rows": [{"id": 1, "s": "text"}]})).unwrap();
    let limit = settings(SettingsChange {
        size_limit: Some(Some(world.snapshot.unindexed_bytes + 1000)),
        ..SettingsChange::default()
    });
    let large = |id: u64| upsert(&world, json!({"id": id, "s": "x".repeat(600)}));
    let delete = world.request(&json!({"deletes": [1]}), None);
    let full = Err((ErrorKind::QuotaExceeded, Some("quota_size_limit")));
    let batch = [limit, large(2), large(3), delete, upsert(&world, json!({"id": 4}))];
    assert_eq!(verdicts(&world, &batch), [Ok(()), Ok(()), full, Ok(()), Ok(())]);
}
