//! The tail against a map of rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, LargeStringArray};
use arrow::buffer::{Buffer, NullBuffer};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;

use super::*;
use crate::model::batch::NamedColumn;
use crate::model::schema::{Attribute, SchemaChange};
use crate::model::{
    AttrId, AttrType, Column, Element, FullTextConfig, IdColumn, IdKind, RowBatch, Scalar, Schema, VectorColumn,
};
use crate::wal::{Operation, RequestEffects};

const NUMBER: AttrId = AttrId(0);
const TEXT: AttrId = AttrId(1);
const VECTOR: AttrId = AttrId(2);

fn attribute(id: AttrId, name: &str, ty: AttrType) -> Attribute {
    Attribute {
        filterable: true,
        ..Attribute::new(id, name.into(), ty)
    }
}

fn first_schema() -> SchemaChange {
    let text = Attribute {
        full_text: Some(FullTextConfig::default()),
        ..attribute(TEXT, "text", AttrType::Scalar(Scalar::String))
    };
    let vector = AttrType::Vector {
        dims: 2,
        element: Element::F32,
    };
    SchemaChange {
        id_kind: Some(IdKind::UInt),
        drops: vec![],
        puts: vec![
            attribute(NUMBER, "number", AttrType::Scalar(Scalar::Int)),
            text,
            attribute(VECTOR, "vector", vector),
        ],
    }
}

/// A row as a plain value; `None` is null.
#[derive(Clone, Debug, Default, PartialEq)]
struct Row {
    number: Option<i64>,
    text: Option<String>,
    vector: Option<[f32; 2]>,
}

fn ids(ids: &[u64]) -> IdColumn {
    let ids: Vec<Id> = ids.iter().map(|n| Id::UInt(*n)).collect();
    IdColumn::from_ids(IdKind::UInt, ids.iter())
}

fn upsert(rows: &[(u64, Row)]) -> Operation {
    let number: ArrayRef = Arc::new(Int64Array::from_iter(rows.iter().map(|r| r.1.number)));
    let text: ArrayRef = Arc::new(LargeStringArray::from_iter(rows.iter().map(|r| r.1.text.clone())));
    let vectors: Vec<f32> = rows.iter().flat_map(|r| r.1.vector.unwrap_or_default()).collect();
    let vector = VectorColumn {
        dims: 2,
        element: Element::F32,
        data: Buffer::from_vec(vectors),
        nulls: Some(NullBuffer::from_iter(rows.iter().map(|r| r.1.vector.is_some()))),
    };
    let ty = vector.ty();
    let keys: Vec<u64> = rows.iter().map(|r| r.0).collect();
    Operation::Upsert(RowBatch {
        ids: ids(&keys),
        columns: vec![
            named("number", AttrType::Scalar(Scalar::Int), Column::Values(number)),
            named("text", AttrType::Scalar(Scalar::String), Column::Values(text)),
            named("vector", ty, Column::Vectors(vector)),
        ],
    })
}

fn named(name: &str, ty: AttrType, column: Column) -> NamedColumn {
    NamedColumn {
        name: name.into(),
        ty,
        column,
    }
}

fn patch_numbers(rows: &[(u64, Option<i64>)]) -> Operation {
    let number: ArrayRef = Arc::new(Int64Array::from_iter(rows.iter().map(|r| r.1)));
    let keys: Vec<u64> = rows.iter().map(|r| r.0).collect();
    Operation::Patch(RowBatch {
        ids: ids(&keys),
        columns: vec![named("number", AttrType::Scalar(Scalar::Int), Column::Values(number))],
    })
}

fn request(schema: SchemaChange, operations: Vec<Operation>) -> RequestEffects {
    RequestEffects {
        schema,
        operations,
        ..RequestEffects::default()
    }
}

/// Reads every live row back from columns and text indexes.
fn rows_of(parts: &[Part]) -> BTreeMap<u64, Row> {
    let mut rows = BTreeMap::new();
    for part in parts {
        for row in part.live.iter() {
            let Id::UInt(id) = part.chunk.ids.get(row) else {
                panic!("ids are numbers here");
            };
            let before = rows.insert(id, read(&part.chunk, row));
            assert_eq!(before, None, "row {id} is live twice");
        }
    }
    rows
}

fn read(chunk: &Chunk, row: usize) -> Row {
    let values = |id| match chunk.columns.get(&id) {
        Some(Column::Values(a)) if a.is_valid(row) => Some(a.clone()),
        _ => None,
    };
    let vector = match chunk.columns.get(&VECTOR) {
        Some(Column::Vectors(v)) if !v.is_null(row) => {
            let floats: Vec<f32> = v
                .row(row)
                .chunks(4)
                .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
                .collect();
            Some([floats[0], floats[1]])
        }
        _ => None,
    };
    let text = values(TEXT).map(|a| a.as_string::<i64>().value(row).to_owned());
    if let Some(text) = &text {
        // One token each: the postings must say the same as the column.
        let postings = chunk.text[&TEXT].postings(text);
        assert!(postings.iter().any(|p| p.row as usize == row), "{text} is not indexed");
    }
    Row {
        number: values(NUMBER).map(|a| a.as_primitive::<Int64Type>().value(row)),
        text,
        vector,
    }
}

#[derive(Clone, Debug)]
enum Step {
    Upsert(Vec<(u64, Row)>),
    Patch(Vec<(u64, Option<i64>)>),
    Delete(Vec<u64>),
}

impl Step {
    fn operation(&self) -> Operation {
        match self {
            Step::Upsert(rows) => upsert(rows),
            Step::Patch(rows) => patch_numbers(rows),
            Step::Delete(keys) => Operation::Delete(ids(keys)),
        }
    }

    fn apply_to(&self, model: &mut BTreeMap<u64, Row>) {
        match self {
            Step::Upsert(rows) => model.extend(rows.iter().cloned()),
            Step::Patch(rows) => {
                for (id, number) in rows {
                    if let Some(row) = model.get_mut(id) {
                        row.number = *number;
                    }
                }
            }
            Step::Delete(keys) => model.retain(|id, _| !keys.contains(id)),
        }
    }
}

fn any_row() -> impl Strategy<Value = Row> {
    let text = prop_oneof![Just("red"), Just("green"), Just("blue")];
    (
        proptest::option::of(-3..3i64),
        proptest::option::of(text.prop_map(str::to_owned)),
        proptest::option::of((0..3u8, 0..3u8).prop_map(|(a, b)| [f32::from(a), f32::from(b)])),
    )
        .prop_map(|(number, text, vector)| Row { number, text, vector })
}

fn any_step() -> impl Strategy<Value = Step> {
    // Forty ids: overwrites, patches of missing rows and merges happen in every run.
    let keys = || proptest::collection::btree_set(0..40u64, 1..12);
    prop_oneof![
        4 => (keys(), proptest::collection::vec(any_row(), 12))
            .prop_map(|(keys, rows)| Step::Upsert(keys.into_iter().zip(rows).collect())),
        2 => (keys(), proptest::collection::vec(proptest::option::of(-3..3i64), 12))
            .prop_map(|(keys, numbers)| Step::Patch(keys.into_iter().zip(numbers).collect())),
        1 => keys().prop_map(|keys| Step::Delete(keys.into_iter().collect())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_tail_equals_a_map_after_every_entry(
        entries in proptest::collection::vec(proptest::collection::vec(any_step(), 1..4), 1..40)
    ) {
        let mut model = BTreeMap::new();
        let mut tail = apply(&[], &Schema::default(), &[request(first_schema(), vec![])]);
        for steps in entries {
            let requests: Vec<_> = steps
                .iter()
                .map(|s| request(SchemaChange::default(), vec![s.operation()]))
                .collect();
            tail = apply(&tail.parts, &tail.schema, &requests);
            steps.iter().for_each(|s| s.apply_to(&mut model));
            prop_assert_eq!(rows_of(&tail.parts), model.clone());
            prop_assert_eq!(live_rows(&tail.parts), model.len());
            for id in 0..40 {
                prop_assert_eq!(find(&tail.parts, &Id::UInt(id)).is_some(), model.contains_key(&id));
            }
        }
    }
}

#[test]
fn many_small_entries_leave_few_parts() {
    let mut tail = apply(&[], &Schema::default(), &[request(first_schema(), vec![])]);
    for id in 0..3000 {
        let row = Row {
            number: Some(id as i64),
            ..Row::default()
        };
        tail = apply(
            &tail.parts,
            &tail.schema,
            &[request(SchemaChange::default(), vec![upsert(&[(id, row)])])],
        );
        assert!(tail.parts.len() <= 4 * 8, "{} parts after {id} rows", tail.parts.len());
    }
    assert_eq!(live_rows(&tail.parts), 3000);
}

#[test]
fn a_dropped_attribute_is_gone_and_a_new_one_of_its_name_is_null() {
    let row = Row {
        number: Some(7),
        ..Row::default()
    };
    let tail = apply(
        &[],
        &Schema::default(),
        &[request(first_schema(), vec![upsert(&[(1, row)])])],
    );
    let again = SchemaChange {
        id_kind: None,
        drops: vec!["number".into()],
        puts: vec![attribute(AttrId(3), "number", AttrType::Scalar(Scalar::Int))],
    };
    let tail = apply(&tail.parts, &tail.schema, &[request(again, vec![])]);
    assert!(!tail.parts[0].chunk.columns.contains_key(&NUMBER));
    assert!(!tail.parts[0].chunk.columns.contains_key(&AttrId(3)));
    assert_eq!(tail.schema.get("number").map(|a| a.id), Some(AttrId(3)));
}

#[test]
fn text_is_indexed_again_when_its_configuration_changes() {
    let row = Row {
        text: Some("Red".into()),
        ..Row::default()
    };
    let tail = apply(
        &[],
        &Schema::default(),
        &[request(first_schema(), vec![upsert(&[(1, row)])])],
    );
    assert_eq!(tail.parts[0].chunk.text[&TEXT].postings("red").len(), 1);
    let mut changed = tail.schema.get("text").expect("it is there").clone();
    changed.full_text = Some(FullTextConfig {
        case_sensitive: true,
        ..FullTextConfig::default()
    });
    let change = SchemaChange {
        puts: vec![changed.clone()],
        ..SchemaChange::default()
    };
    let tail = apply(&tail.parts, &tail.schema, &[request(change, vec![])]);
    assert_eq!(tail.parts[0].chunk.text[&TEXT].postings("Red").len(), 1);
    assert_eq!(tail.parts[0].chunk.text[&TEXT].postings("red").len(), 0);
    changed.full_text = None;
    let change = SchemaChange {
        puts: vec![changed],
        ..SchemaChange::default()
    };
    let tail = apply(&tail.parts, &tail.schema, &[request(change, vec![])]);
    assert!(tail.parts[0].chunk.text.is_empty());
}
