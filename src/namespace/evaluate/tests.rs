mod guards;

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::base::{CpuPool, Ledger, MemoryShare};
use crate::model::{Id, Value};
use crate::query::value_at;
use crate::wal::{Digest, Entry, EntryKind, RequestEffects};

fn unguarded(what: What) -> Arc<Change> {
    Arc::new(Change { guard: None, what })
}

/// A namespace on which requests are evaluated and whose entries are applied, without a log.
struct World {
    snapshot: Snapshot,
    limits: Limits,
    ledger: Ledger,
}

impl World {
    fn new() -> Self {
        Self {
            snapshot: Snapshot::empty(),
            limits: Limits::default(),
            ledger: Ledger::new(1 << 30, 1 << 30),
        }
    }

    /// A request as it queues up: typed and searched on the state of now.
    fn request(&self, json: &Json, key: Option<&str>) -> Arc<Change> {
        let bytes = json.to_string();
        let write = write::prepare(bytes.as_bytes(), &self.snapshot.schema, &self.limits).expect("a valid body");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let matched = runtime.block_on(Matched::on(&self.snapshot, &write, &CpuPool::inline()));
        unguarded(What::Write(Box::new(WriteRequest {
            key: key.map(|key| IdempotencyKey::new(key.as_bytes(), bytes.as_bytes()).unwrap()),
            body: Body {
                charge: self.ledger.charge(MemoryShare::Bodies, 0).unwrap(),
                bytes: bytes.into(),
            },
            write,
            staged: None,
            matched: matched.unwrap_or(None),
            repeated_bytes: 0,
            promoted: None,
        })))
    }

    /// Evaluates requests as one batch, and applies what they do.
    fn commit(&mut self, requests: &[Arc<Change>]) -> Vec<Result<Counts, Error>> {
        let name = NamespaceName::parse("ns").unwrap();
        let verdicts = evaluate(requests, &self.snapshot, &Stored::default(), &name, &self.limits);
        let effects: Vec<RequestEffects> = verdicts
            .iter()
            .filter_map(Verdict::effects)
            .map(|e| RequestEffects {
                request: e.key.map_or(0, |key| key.number),
                reply: e.reply(),
                schema: e.schema.clone(),
                operations: e.operations.clone(),
                ..RequestEffects::default()
            })
            .collect();
        if !effects.is_empty() {
            let entry = Entry {
                namespace: uuid::Uuid::nil(),
                seq: self.snapshot.seq.next(),
                writer: 0,
                batch: 0,
                writer_addr: String::new(),
                prev_digest: self.snapshot.digest,
                manifest_gen_hint: 0,
                hlc_ms: self.snapshot.hlc_ms + 1,
                kind: EntryKind::Data(effects),
            };
            self.snapshot = self.snapshot.apply(&entry, Digest(entry.seq.0.into()), 1).unwrap();
        }
        let counts = |verdict| match verdict {
            Verdict::Commit(effects) => Ok(effects.counts),
            Verdict::Nothing(counts, _) => Ok(counts),
            Verdict::Repeated(before, _) => Ok(before.reply.counts),
            Verdict::Reject(error) => Err(error),
        };
        verdicts.into_iter().map(counts).collect()
    }

    fn one(&mut self, json: Json) -> Result<Counts, Error> {
        let request = self.request(&json, None);
        self.commit(&[request]).remove(0)
    }

    fn rows(&self) -> Model {
        let mut rows = BTreeMap::new();
        for part in self.snapshot.parts.iter() {
            for row in part.live.iter() {
                let Id::UInt(id) = part.chunk.ids.get(row) else {
                    panic!("ids are numbers here")
                };
                let value = |name| {
                    let attribute = self.snapshot.schema.get(name)?;
                    let column = part.chunk.columns.get(&attribute.id)?;
                    match value_at(column, attribute.ty, row).unwrap() {
                        Value::Int(n) => Some(n),
                        Value::Null => None,
                        other => panic!("{other:?} is no int"),
                    }
                };
                rows.insert(id, (value("a"), value("b")));
            }
        }
        rows
    }
}

/// By id: the attributes `a` and `b`.
type Model = BTreeMap<u64, (Option<i64>, Option<i64>)>;

/// A comparison of `a` or `b` of the stored row with a number, with null, or with `a` of the
/// incoming row.
#[derive(Clone, Debug)]
struct Test {
    of_b: bool,
    op: &'static str,
    operand: Operand,
    negated: bool,
}

#[derive(Clone, Debug)]
enum Operand {
    Number(Option<i64>),
    IncomingA,
}

impl Test {
    fn json(&self) -> Json {
        let operand = match self.operand {
            Operand::Number(n) => json!(n),
            Operand::IncomingA => json!({"$ref_new": "a"}),
        };
        let test = json!([if self.of_b { "b" } else { "a" }, self.op, operand]);
        match self.negated {
            true => json!(["Not", test]),
            false => test,
        }
    }

    /// Null sorts before every number (docs: null rules of filters).
    fn holds(&self, stored: (Option<i64>, Option<i64>), incoming_a: Option<i64>) -> bool {
        let value = if self.of_b { stored.1 } else { stored.0 };
        let operand = match self.operand {
            Operand::Number(n) => n,
            Operand::IncomingA => incoming_a,
        };
        let holds = match self.op {
            "Eq" => value == operand,
            "NotEq" => value != operand,
            "Lt" => value < operand,
            "Lte" => value <= operand,
            "Gte" => value.is_some() && value >= operand,
            other => panic!("{other}"),
        };
        holds != self.negated
    }
}

#[derive(Clone, Debug)]
struct Asked {
    upserts: Vec<(u64, Option<i64>, Option<i64>)>,
    patches: Vec<(u64, Option<i64>)>,
    deletes: Vec<u64>,
    conditions: [Option<Test>; 3],
    delete_by_filter: Option<Test>,
    patch_by_filter: Option<(Test, Option<i64>)>,
    return_affected_ids: bool,
}

impl Asked {
    fn json(&self) -> Json {
        let upserts: Vec<_> = self
            .upserts
            .iter()
            .map(|(id, a, b)| json!({"id": id, "a": a, "b": b}))
            .collect();
        let patches: Vec<_> = self.patches.iter().map(|(id, a)| json!({"id": id, "a": a})).collect();
        let condition = |i: usize| self.conditions[i].as_ref().map(Test::json);
        json!({
            "upsert_rows": upserts, "patch_rows": patches, "deletes": self.deletes,
            "upsert_condition": condition(0), "patch_condition": condition(1), "delete_condition": condition(2),
            "delete_by_filter": self.delete_by_filter.as_ref().map(Test::json),
            "patch_by_filter": self.patch_by_filter.as_ref().map(|(t, b)| json!({"filters": t.json(), "patch": {"b": b}})),
            "return_affected_ids": self.return_affected_ids,
        })
    }

    /// What the reference says, row by row: upserted, patched and deleted rows.
    fn carry_out(&self, rows: &mut Model) -> [usize; 3] {
        let mut done = [0; 3];
        if let Some(test) = &self.delete_by_filter {
            let before = rows.len();
            rows.retain(|_, row| !test.holds(*row, None));
            done[2] += before - rows.len();
        }
        if let Some((test, b)) = &self.patch_by_filter {
            for row in rows.values_mut().filter(|row| test.holds(**row, None)) {
                row.1 = *b;
                done[1] += 1;
            }
        }
        let [upsert, patch, delete] = &self.conditions;
        let passes = |test: &Option<Test>, stored, new| test.as_ref().is_none_or(|t| t.holds(stored, new));
        for (id, a, b) in &self.upserts {
            if rows.get(id).is_none_or(|stored| passes(upsert, *stored, *a)) {
                rows.insert(*id, (*a, *b));
                done[0] += 1;
            }
        }
        for (id, a) in &self.patches {
            if let Some(stored) = rows.get_mut(id)
                && passes(patch, *stored, *a)
            {
                stored.0 = *a;
                done[1] += 1;
            }
        }
        for id in &self.deletes {
            match delete {
                None => {
                    rows.remove(id);
                    done[2] += 1;
                }
                Some(test) => {
                    if rows.get(id).is_some_and(|stored| test.holds(*stored, None)) {
                        rows.remove(id);
                        done[2] += 1;
                    }
                }
            }
        }
        done
    }
}

fn any_test(with_reference: bool) -> impl Strategy<Value = Test> {
    let number = prop::option::weighted(0.8, 0i64..4).prop_map(Operand::Number);
    let operand = match with_reference {
        true => prop_oneof![number, Just(Operand::IncomingA)].boxed(),
        false => number.boxed(),
    };
    let op = prop::sample::select(vec!["Eq", "NotEq", "Lt", "Lte", "Gte"]);
    (any::<bool>(), op, operand, any::<bool>()).prop_map(|(of_b, op, operand, negated)| Test {
        of_b,
        op,
        operand,
        negated,
    })
}

fn any_request() -> impl Strategy<Value = Asked> {
    let value = || prop::option::of(0i64..4);
    // Each id is named at most once: dealt to upserts, patches, deletes or nothing.
    let deal = prop::collection::vec((0u8..6, value(), value()), 8);
    let condition = |p| prop::option::weighted(p, any_test(true));
    let patch_by_filter = prop::option::weighted(0.3, (any_test(false), value()));
    (
        deal,
        [condition(0.5), condition(0.5), condition(0.5)],
        prop::option::weighted(0.2, any_test(false)),
        patch_by_filter,
        any::<bool>(),
    )
        .prop_map(
            |(deal, conditions, delete_by_filter, patch_by_filter, return_affected_ids)| {
                let dealt = |to: &'static [u8]| (0u64..).zip(deal.clone()).filter(move |(_, d)| to.contains(&d.0));
                Asked {
                    upserts: dealt(&[0, 1]).map(|(id, d)| (id, d.1, d.2)).collect(),
                    patches: dealt(&[2]).map(|(id, d)| (id, d.1)).collect(),
                    deletes: dealt(&[3]).map(|(id, _)| id).collect(),
                    conditions,
                    delete_by_filter,
                    patch_by_filter,
                    return_affected_ids,
                }
            },
        )
}

proptest! {
    /// Batches of requests, each typed and searched before anything of its batch is committed, do
    /// what the reference says of the requests one after the other.
    #[test]
    fn requests_do_what_the_reference_says_one_after_the_other(
        batches in prop::collection::vec(prop::collection::vec(any_request(), 1..4), 1..6)
    ) {
        let mut world = World::new();
        world.one(json!({
            "schema": {"id": "uint", "a": "int", "b": "int"}, "upsert_rows": [{"id": 0, "a": 1}, {"id": 1}],
        })).unwrap();
        let mut model: Model = [(0, (Some(1), None)), (1, (None, None))].into();
        for batch in batches {
            let requests: Vec<_> = batch.iter().map(|asked| world.request(&asked.json(), None)).collect();
            let counts = world.commit(&requests);
            for (asked, counts) in batch.iter().zip(counts) {
                let counts = counts.unwrap();
                let expected = asked.carry_out(&mut model);
                let found = [counts.upserted, counts.patched, counts.deleted].map(|n| n.unwrap_or(0) as usize);
                prop_assert_eq!(found, expected, "{:?}", asked);
            }
            prop_assert_eq!(&world.rows(), &model);
        }
    }
}

#[test]
fn more_matches_than_allowed_change_nothing_or_as_many_as_allowed() {
    let mut world = World::new();
    world.limits.delete_by_filter_max = 3;
    world.limits.patch_by_filter_max = 2;
    let rows: Vec<_> = (0..8).rev().map(|id| json!({"id": id, "a": 1})).collect();
    world.one(json!({"upsert_rows": rows})).unwrap();
    let before = world.rows();
    for body in [
        json!({"delete_by_filter": ["a", "Eq", 1]}),
        json!({"patch_by_filter": {"filters": ["a", "Eq", 1], "patch": {"b": 1}}}),
        // The half that is allowed is not done either.
        json!({"delete_by_filter": ["id", "Lt", 2], "patch_by_filter": {"filters": ["a", "Eq", 1], "patch": {"b": 1}}}),
    ] {
        let error = world.one(body).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid);
        assert!(error.to_string().contains("allow_partial"), "{error}");
        assert_eq!(world.rows(), before);
    }
    let partial = |max: &str| json!({max: ["a", "Eq", 1], format!("{max}_allow_partial"): true});
    for (deleted, remaining) in [(3, true), (3, true), (2, false), (0, false)] {
        let counts = world.one(partial("delete_by_filter")).unwrap();
        assert_eq!((counts.deleted, counts.remaining), (Some(deleted), Some(remaining)));
        // The smallest ids go first.
        let least = world.rows().keys().next().copied();
        assert_eq!(least, (deleted == 3).then_some(8 - world.rows().len() as u64));
    }
    // Exactly as many as allowed are no reason to refuse.
    world
        .one(json!({"upsert_rows": [{"id": 1, "a": 1}, {"id": 2, "a": 1}]}))
        .unwrap();
    let patch = json!({"patch_by_filter": {"filters": ["a", "Eq", 1], "patch": {"b": 1}}});
    assert_eq!(world.one(patch).unwrap().patched, Some(2));
}

#[test]
fn a_patch_by_filter_cannot_write_more_than_a_request_may_hold() {
    let mut world = World::new();
    world.limits.body_bytes_max = 1000;
    world
        .one(json!({"upsert_rows": (0..50).map(|id| json!({"id": id})).collect::<Vec<_>>()}))
        .unwrap();
    let patch = |text: &str| json!({"patch_by_filter": {"filters": ["id", "Gte", 0], "patch": {"t": text}}});
    assert_eq!(world.one(patch(&"x".repeat(20))).unwrap().patched, Some(50));
    let error = world.one(patch(&"x".repeat(21))).unwrap_err();
    assert!(error.to_string().contains("narrow the filter"), "{error}");
}

#[test]
fn rows_that_come_to_match_while_a_request_waits_are_touched_too() {
    let mut world = World::new();
    world
        .one(json!({"upsert_rows": [{"id": 1, "a": 1}, {"id": 2, "a": 2}, {"id": 3, "a": 1}]}))
        .unwrap();
    let waiting = world.request(&json!({"delete_by_filter": ["a", "Eq", 1]}), None);
    world
        .one(json!({"patch_rows": [{"id": 2, "a": 1}, {"id": 3, "a": 3}], "upsert_rows": [{"id": 4, "a": 1}]}))
        .unwrap();
    assert_eq!(world.commit(&[waiting])[0].as_ref().unwrap().deleted, Some(3));
    assert_eq!(world.rows().into_keys().collect::<Vec<_>>(), [3]);
}

#[test]
fn a_request_sent_again_under_its_key_is_answered_and_not_repeated() {
    let mut world = World::new();
    let body = json!({
        "upsert_rows": [{"id": 1, "a": 1}], "upsert_condition": ["a", "Lt", {"$ref_new": "a"}],
        "delete_by_filter": ["a", "Eq", 7], "delete_by_filter_allow_partial": true,
    });
    let first = world.request(&body, Some("k"));
    let counts = world.commit(&[first]).remove(0).unwrap();
    assert_eq!(
        (counts.upserted, counts.deleted, counts.remaining),
        (Some(1), Some(0), Some(false))
    );
    world.one(json!({"deletes": [1]})).unwrap();
    let seq = world.snapshot.seq;
    let again = world.request(&body, Some("k"));
    assert_eq!(world.commit(&[again]).remove(0).unwrap(), counts);
    assert!(
        world.rows().is_empty() && world.snapshot.seq == seq,
        "nothing was written"
    );

    let other = world.request(&json!({"upsert_rows": [{"id": 5}]}), Some("k"));
    let error = world.commit(&[other]).remove(0).unwrap_err();
    assert!(error.to_string().contains("used for another request"), "{error}");

    // Two of the same in one batch: the second is told what the first will have done, and in which entry.
    let twice = json!({
        "upsert_rows": [{"id": 6, "a": 2}], "upsert_condition": ["a", "Lt", {"$ref_new": "a"}],
        "patch_by_filter": {"filters": ["id", "Eq", 6], "patch": {"b": 1}},
    });
    let twice = [world.request(&twice, Some("t")), world.request(&twice, Some("t"))];
    let name = NamespaceName::parse("ns").unwrap();
    let next = world.snapshot.seq.next();
    match &evaluate(&twice, &world.snapshot, &Stored::default(), &name, &world.limits)[..] {
        [Verdict::Commit(effects), Verdict::Repeated(before, _)] => {
            assert_eq!((before.seq, before.reply.counts), (next, effects.counts));
        }
        _ => panic!("the second is not carried out"),
    }
    let counts: Vec<_> = world.commit(&twice).into_iter().map(Result::unwrap).collect();
    assert_eq!(counts[0], counts[1]);
    assert_eq!(world.snapshot.seq, next);
    let other = [
        world.request(&json!({"deletes": [6]}), Some("u")),
        world.request(&json!({"deletes": [7]}), Some("u")),
    ];
    let answers = world.commit(&other);
    assert!(
        answers[0].is_ok() && answers[1].is_err(),
        "another request in the same batch"
    );
}

/// What does not depend on the incoming row is bound once, and says the same as if it were not.
#[test]
fn conditions_mix_references_and_long_lists() {
    let mut world = World::new();
    let rows = |a: i64| -> Vec<Json> { (0..2000).map(|id| json!({"id": id, "a": a, "b": id % 2})).collect() };
    world.one(json!({"upsert_rows": rows(1)})).unwrap();
    let list: Vec<i64> = (1..100_000).collect();
    // Odd rows have a `b` in the list; of the others those that are not smaller are replaced.
    let condition = json!(["And", [
        ["Or", [["b", "In", list], ["Not", ["a", "Lt", {"$ref_new": "a"}]]]],
        ["a", "NotEq", {"$ref_new": "b"}],
    ]]);
    let counts = world.one(json!({"upsert_rows": rows(2), "upsert_condition": condition}));
    // Rows with `b` = 0 are smaller; rows with `b` = 1 equal their `a`.
    assert_eq!(counts.unwrap().upserted, Some(0));
    let counts = world.one(json!({"upsert_rows": rows(1), "upsert_condition": condition}));
    assert_eq!(counts.unwrap().upserted, Some(1000), "the even ones, by the negation");
    let wrong = json!(["Or", [["a", "Eq", 1], ["a", "Lt", {"$ref_new": "s"}]]]);
    let mut row = rows(1).remove(0);
    row["s"] = json!("text");
    let refused = world.one(json!({"upsert_rows": [row], "upsert_condition": wrong}));
    assert!(refused.is_err(), "whatever stands before it");
}

/// What a patch repeats for every row counts towards what is put into one entry.
#[test]
fn patches_by_filter_count_with_all_their_rows() {
    let mut world = World::new();
    let rows: Vec<Json> = (0..100).map(|id| json!({"id": id, "a": id})).collect();
    world
        .one(json!({"upsert_rows": rows, "schema": {"s": {"type": "string", "filterable": false}}}))
        .unwrap();
    let text = "x".repeat(1000);
    let request = |filter: Json, schema: Json| {
        let body = json!({"patch_by_filter": {"filters": filter, "patch": {"s": text}}, "schema": schema});
        let change = world.request(&body, None);
        let What::Write(request) = &change.what else { panic!() };
        repeated_bytes(
            &request.write,
            request.matched.as_ref(),
            world.snapshot.rows(),
            &world.limits,
        )
    };
    let each = 1000 + 16;
    assert_eq!(request(json!(["a", "Lt", 30]), json!({})), 30 * each);
    assert_eq!(request(json!(["a", "Lt", -1]), json!({})), 0);
    // With a change of schema the rows are not known before.
    assert_eq!(request(json!(["a", "Lt", 30]), json!({"new": "int"})), 100 * each);
    let blind = world.request(&json!({"deletes": [1]}), None);
    let What::Write(blind) = &blind.what else { panic!() };
    assert_eq!(repeated_bytes(&blind.write, None, 100, &world.limits), 0);

    let sized = |bytes: u64| {
        let change = world.request(
            &json!({"patch_by_filter": {"filters": ["a", "Lt", 30], "patch": {"a": 1}}}),
            None,
        );
        let Ok(Change {
            what: What::Write(mut request),
            ..
        }) = Arc::try_unwrap(change)
        else {
            panic!()
        };
        request.repeated_bytes = bytes;
        unguarded(What::Write(request))
    };
    let queue = [sized(60), sized(40), sized(1), sized(u64::MAX)];
    assert_eq!(group_len(queue.iter(), 100, 10, false), 2);
    assert_eq!(group_len(queue[2..].iter(), 100, 10, false), 1);
    assert_eq!(group_len(queue[3..].iter(), 100, 10, false), 1, "one is always taken");
}

/// A condition that lets everything pass does not change what is billed.
#[test]
fn conditional_writes_are_billed_as_others_are() {
    let mut world = World::new();
    let schema = json!({
        "sp": {"type": "{}f16", "sparse_knn": {"distance_metric": "dot_product"}}, "mv": "[][2]f32", "y": "bytes",
        "g": "uuid", "d": "datetime", "ss": "[]string", "bb": "[]bool",
    });
    let row = |id: u64| {
        json!({
            "id": id, "sp": {"one": 1, "another": 2}, "mv": [[1, 2], [3, 4]], "y": "AAEC", "ss": ["a", "bcd"],
            "g": "00000000-0000-4000-8000-000000000000", "d": 5, "bb": [true, false], "vector": [0.5, 1.5],
            "n": 7, "t": "text",
        })
    };
    let rows = json!([row(1), {"id": 2, "vector": [1, 2]}]);
    let blind = json!({"upsert_rows": rows, "schema": schema, "distance_metric": "cosine_distance"});
    let blind = world.one(blind).unwrap().logical_bytes;
    let passing = world.one(json!({"upsert_rows": rows, "upsert_condition": ["id", "NotEq", null]}));
    assert_eq!(passing.unwrap().logical_bytes, blind);
    let deletes = [
        json!({"deletes": [1], "delete_condition": ["id", "NotEq", null]}),
        json!({"delete_by_filter": ["id", "Eq", 2]}),
        json!({"deletes": [3]}),
    ];
    for delete in deletes {
        assert_eq!(world.one(delete).unwrap().logical_bytes, 8);
    }
}

/// Settings hold from their place in the batch on.
#[test]
fn read_only_is_for_what_comes_after_it_in_the_batch() {
    let mut world = World::new();
    world.one(json!({"upsert_rows": [{"id": 1}]})).unwrap();
    let read_only = |on| {
        unguarded(What::Settings(SettingsChange {
            read_only: Some(on),
            ..SettingsChange::default()
        }))
    };
    let upsert = |id: u64| world.request(&json!({"upsert_rows": [{"id": id}]}), None);
    let batch = [upsert(2), read_only(true), upsert(3), read_only(false), upsert(4)];
    let answers: Vec<bool> = world.commit(&batch).iter().map(Result::is_ok).collect();
    assert_eq!(answers, [true, true, false, true, true]);
    let ids: Vec<u64> = world.rows().into_keys().collect();
    assert_eq!(ids, [1, 2, 4]);
}

/// A delete brings no values, not even its id.
#[test]
fn references_in_the_condition_of_a_delete_are_null() {
    let mut world = World::new();
    world
        .one(json!({"upsert_rows": [{"id": 1, "a": 1}, {"id": 2}]}))
        .unwrap();
    let delete = |attribute| json!({"deletes": [1, 2], "delete_condition": [attribute, "Eq", {"$ref_new": attribute}]});
    assert_eq!(world.one(delete("id")).unwrap().deleted, Some(0));
    assert_eq!(
        world.one(delete("a")).unwrap().deleted,
        Some(1),
        "the one whose value is null"
    );
}

/// One filter's rest is not forgotten because another's is done.
#[test]
fn rows_remain_if_either_filter_has_more() {
    let mut world = World::new();
    world.limits.delete_by_filter_max = 1;
    let rows: Vec<Json> = (0..3).map(|id| json!({"id": id, "a": 1})).collect();
    world.one(json!({"upsert_rows": rows})).unwrap();
    let counts = world.one(json!({
        "delete_by_filter": ["a", "Eq", 1], "delete_by_filter_allow_partial": true,
        "patch_by_filter": {"filters": ["a", "Eq", 9], "patch": {"a": 2}}, "patch_by_filter_allow_partial": true,
    }));
    let counts = counts.unwrap();
    assert_eq!((counts.deleted, counts.patched), (Some(1), Some(0)));
    assert_eq!(counts.remaining, Some(true));
}

#[test]
fn deletions_of_namespaces_are_alone_in_their_entries() {
    let world = World::new();
    let write = || world.request(&json!({"upsert_rows": [{"id": 1}]}), None);
    let delete = || unguarded(What::DeleteNamespace);
    let queue = [write(), write(), delete(), delete(), write()];
    let groups: Vec<usize> = (0..queue.len())
        .map(|from| group_len(queue[from..].iter(), 1 << 20, 10, false))
        .collect();
    assert_eq!(groups, [2, 1, 1, 1, 1]);
}

#[test]
fn conditions_may_refer_to_the_id() {
    let mut world = World::new();
    let rows = json!([{"id": 1, "a": 1}, {"id": 2, "a": 5}]);
    world.one(json!({"upsert_rows": rows})).unwrap();
    let condition = json!(["a", "Eq", {"$ref_new": "id"}]);
    let counts = world.one(json!({"upsert_rows": rows, "upsert_condition": condition}));
    assert_eq!(counts.unwrap().upserted, Some(1));
}

/// Requests that were typed on the same schema and change it take turns: the later is typed again, its
/// blobs are not what it writes, and it is refused where it contradicts the earlier.
#[test]
fn a_request_is_typed_again_after_a_rival_changed_the_schema() {
    let mut world = World::new();
    let staged = |body: Json| {
        let Ok(Change {
            what: What::Write(mut request),
            ..
        }) = Arc::try_unwrap(world.request(&body, None))
        else {
            panic!("it is a write")
        };
        request.staged = Some(Staged {
            blobs: Vec::new(),
            since: Moment::now(&crate::base::SystemClock),
        });
        unguarded(What::Write(request))
    };
    let batch = [
        staged(json!({"upsert_rows": [{"id": 1, "a": 1}]})),
        staged(json!({"upsert_rows": [{"id": 2, "b": 2}]})),
        staged(json!({"upsert_rows": [{"id": 3, "a": "text"}]})),
    ];
    let name = NamespaceName::parse("ns").unwrap();
    match &evaluate(&batch, &world.snapshot, &Stored::default(), &name, &world.limits)[..] {
        [Verdict::Commit(first), Verdict::Commit(second), Verdict::Reject(_)] => {
            assert!(first.staged.is_some() && second.staged.is_none());
        }
        _ => panic!("the third is refused"),
    }
    world.commit(&batch);
    assert_eq!(
        world.rows(),
        BTreeMap::from([(1, (Some(1), None)), (2, (None, Some(2)))])
    );
    let number = |name| world.snapshot.schema.get(name).map(|a| a.id);
    assert_ne!(number("a"), number("b"));
}
