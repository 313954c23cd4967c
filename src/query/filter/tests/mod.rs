mod fuzzy;
mod model;
mod patterns;
pub mod properties;
mod tokens;

use serde_json::{Value as Json, json};

use super::*;
use crate::model::filter::{CompareOptions, EditDistance, FuzzyOptions, Operand};
use crate::model::{Filter, FilterOp, Id, IdKind, Schema, Value};
use crate::query::tests::support::{Rows, chunk_of, schema_of};
use properties::UUIDS;

/// A comparison; `Fuzzy` without any edit.
fn test(attribute: &str, op: FilterOp, operand: Json) -> Filter {
    match op {
        FilterOp::Fuzzy => Filter::Compare {
            attribute: attribute.into(),
            op,
            operand: Operand::Value(operand),
            options: CompareOptions::Fuzzy(FuzzyOptions {
                max_edit_distance: vec![EditDistance {
                    min_query_chars: 3,
                    distance: 0,
                }],
                case_sensitive: true,
            }),
        },
        _ => Filter::compare(attribute, op, operand),
    }
}

fn matching(schema: &Schema, rows: &Rows, filter: Filter) -> Vec<usize> {
    evaluate(&bind(&filter, schema).unwrap(), &chunk_of(schema, rows))
        .iter()
        .collect()
}

#[test]
fn nulls_pass_by_the_table_and_so_do_rows_of_a_chunk_without_the_column() {
    let mut schema = schema_of(
        IdKind::UInt,
        &[("n", "int"), ("tags", "[]string"), ("ns", "[]int"), ("s", "string")],
    );
    let mut text = schema.get("s").unwrap().clone();
    (text.regex, text.fuzzy, text.full_text) = (true, true, Some(Default::default()));
    schema.put(text);
    let with_column: Rows = vec![
        (Id::UInt(1), vec![]),
        (
            Id::UInt(2),
            vec![
                ("n", Value::Int(5)),
                ("tags", Value::Array(vec![Value::String("x".into())])),
                ("ns", Value::Array(vec![Value::Int(5), Value::Int(7)])),
                ("s", Value::String("sea".into())),
            ],
        ),
    ];
    let without: Rows = vec![(Id::UInt(1), vec![])];
    for (attribute, op, operand, null, five) in [
        ("n", FilterOp::Eq, json!(null), true, false),
        ("n", FilterOp::NotEq, json!(null), false, true),
        ("n", FilterOp::Eq, json!(5), false, true),
        ("n", FilterOp::NotEq, json!(5), true, false),
        ("n", FilterOp::In, json!([5, null]), true, true),
        ("n", FilterOp::NotIn, json!([5, null]), false, false),
        ("n", FilterOp::In, json!([]), false, false),
        ("n", FilterOp::NotIn, json!([]), true, true),
        ("n", FilterOp::Lt, json!(9), true, true),
        ("n", FilterOp::Lt, json!(null), false, false),
        ("n", FilterOp::Lte, json!(4), true, false),
        ("n", FilterOp::Lte, json!(null), true, false),
        ("n", FilterOp::Gt, json!(4), false, true),
        ("n", FilterOp::Gt, json!(null), false, true),
        ("n", FilterOp::Gte, json!(5), false, true),
        ("n", FilterOp::Gte, json!(null), false, true),
        ("tags", FilterOp::Eq, json!(null), true, false),
        ("tags", FilterOp::NotEq, json!(["x"]), true, false),
        ("tags", FilterOp::Contains, json!("x"), false, true),
        ("tags", FilterOp::NotContains, json!("x"), true, false),
        ("tags", FilterOp::ContainsAny, json!(["x", "y"]), false, true),
        ("tags", FilterOp::NotContainsAny, json!(["x", "y"]), true, false),
        ("tags", FilterOp::In, json!("x"), false, true),
        ("tags", FilterOp::NotIn, json!(["x"]), true, false),
        ("ns", FilterOp::AnyLt, json!(6), false, true),
        ("ns", FilterOp::AnyLt, json!(5), false, false),
        ("ns", FilterOp::AnyLte, json!(5), false, true),
        ("ns", FilterOp::AnyGt, json!(6.5), false, true),
        ("ns", FilterOp::AnyGt, json!(7), false, false),
        ("ns", FilterOp::AnyGte, json!(7), false, true),
        ("s", FilterOp::Glob, json!("s*"), false, true),
        ("s", FilterOp::NotGlob, json!("s*"), true, false),
        ("s", FilterOp::IGlob, json!("S*"), false, true),
        ("s", FilterOp::NotIGlob, json!("S*"), true, false),
        ("tags", FilterOp::Glob, json!("[xy]"), false, true),
        ("tags", FilterOp::NotGlob, json!("[xy]"), true, false),
        ("s", FilterOp::Glob, json!("*"), false, true),
        ("s", FilterOp::Regex, json!(""), false, true),
        ("s", FilterOp::Fuzzy, json!("sea"), false, true),
        ("s", FilterOp::Fuzzy, json!("se"), false, false),
        ("s", FilterOp::ContainsAllTokens, json!(""), false, true),
        ("s", FilterOp::ContainsAnyToken, json!("sea"), false, true),
        ("s", FilterOp::ContainsTokenSequence, json!(""), false, true),
    ] {
        let filter = test(attribute, op, operand.clone());
        let expected: Vec<usize> = [(0, null), (1, five)]
            .into_iter()
            .filter(|r| r.1)
            .map(|r| r.0)
            .collect();
        assert_eq!(
            matching(&schema, &with_column, filter.clone()),
            expected,
            "{attribute} {op:?} {operand}"
        );
        assert_eq!(
            matching(&schema, &without, filter).len(),
            usize::from(null),
            "{attribute} {op:?} {operand}"
        );
    }
}

#[test]
fn ids_are_filtered_like_attributes_that_are_never_null() {
    let uint = schema_of(IdKind::UInt, &[]);
    let rows: Rows = [7, 2, u64::MAX].map(|n| (Id::UInt(n), vec![])).into();
    for (op, operand, expected) in [
        (FilterOp::Eq, json!(2), vec![1]),
        (FilterOp::NotEq, json!(2), vec![0, 2]),
        (FilterOp::Eq, json!(null), vec![]),
        (FilterOp::NotEq, json!(null), vec![0, 1, 2]),
        (FilterOp::In, json!([7, u64::MAX, -1]), vec![0, 2]),
        (FilterOp::NotIn, json!([7]), vec![1, 2]),
        (FilterOp::Lt, json!(7), vec![1]),
        (FilterOp::Lte, json!(7.5), vec![0, 1]),
        (FilterOp::Gt, json!(-3), vec![0, 1, 2]),
        (FilterOp::Gte, json!(7), vec![0, 2]),
    ] {
        assert_eq!(
            matching(&uint, &rows, test("id", op, operand.clone())),
            expected,
            "{op:?} {operand}"
        );
    }
    let uuid = schema_of(IdKind::Uuid, &[]);
    let rows: Rows = UUIDS.map(|u| (Id::Uuid(u.parse().unwrap()), vec![])).into();
    assert_eq!(
        matching(&uuid, &rows, test("id", FilterOp::Eq, json!(UUIDS[1].to_uppercase()))),
        [1]
    );
    let string = schema_of(IdKind::String, &[]);
    let rows: Rows = ["b", "a"].map(|s| (Id::String(s.into()), vec![])).into();
    assert_eq!(matching(&string, &rows, test("id", FilterOp::Gt, json!("a"))), [0]);
}

#[test]
fn empty_and_is_true_and_empty_or_is_false() {
    let schema = schema_of(IdKind::UInt, &[]);
    let rows: Rows = vec![(Id::UInt(1), vec![])];
    assert_eq!(matching(&schema, &rows, Filter::And(vec![])), [0]);
    assert!(matching(&schema, &rows, Filter::Or(vec![])).is_empty());
    assert!(matching(&Schema::default(), &vec![], test("id", FilterOp::Eq, json!("?"))).is_empty());
}

#[test]
fn refusals_have_the_texts_that_clients_match() {
    let mut schema = schema_of(
        IdKind::UInt,
        &[
            ("tags", "[]string"),
            ("n", "int"),
            ("at", "datetime"),
            ("b", "bool"),
            ("v", "[2]f32"),
            ("body", "string"),
            ("ns", "[]int"),
            ("re", "string"),
        ],
    );
    let mut re = schema.get("re").unwrap().clone();
    (re.regex, re.fuzzy, re.full_text) = (true, true, Some(Default::default()));
    schema.put(re);
    let mut body = schema.get("body").unwrap().clone();
    body.filterable = false;
    schema.put(body);
    for (attribute, op, operand, text) in [
        (
            "tags",
            FilterOp::ContainsAny,
            json!("python"),
            "filter error in key `tags`: type mismatch, ContainsAny expects []string, but got string",
        ),
        (
            "tags",
            FilterOp::NotContainsAny,
            json!("python"),
            "filter error in key `tags`: type mismatch, NotContainsAny expects []string, but got string",
        ),
        (
            "tags",
            FilterOp::Contains,
            json!(["a", "b"]),
            "filter error in key `tags`: type mismatch, Contains expects string, but got []string",
        ),
        (
            "tags",
            FilterOp::NotContains,
            json!(["a", "b"]),
            "filter error in key `tags`: type mismatch, NotContains expects string, but got []string",
        ),
        (
            "n",
            FilterOp::Eq,
            json!("5"),
            "filter error in key `n`: type mismatch, Eq expects int, but got string",
        ),
        (
            "n",
            FilterOp::In,
            json!([1, "5"]),
            "type mismatch, In expects []int, but got []int",
        ),
        (
            "n",
            FilterOp::In,
            json!(1),
            "type mismatch, In expects []int, but got int",
        ),
        (
            "n",
            FilterOp::Contains,
            json!(1),
            "filter error in key `n`: Contains works on array attributes",
        ),
        (
            "b",
            FilterOp::Lt,
            json!(true),
            "filter error in key `b`: Lt works on int, uint, float",
        ),
        (
            "tags",
            FilterOp::Gt,
            json!("a"),
            "filter error in key `tags`: Gt works on int, uint, float",
        ),
        ("at", FilterOp::Lt, json!("soon"), "is not an ISO-8601 date or time"),
        ("gone", FilterOp::Eq, json!(1), "attribute not found"),
        (
            "v",
            FilterOp::Eq,
            json!(null),
            "attributes of type [2]f32 cannot be filtered",
        ),
        (
            "body",
            FilterOp::Eq,
            json!("x"),
            "Eq needs an attribute that is filterable; set \"filterable\": true",
        ),
        ("n", FilterOp::In, json!([1, "5"]), "but got []int with string in it"),
        (
            "n",
            FilterOp::AnyLt,
            json!(1),
            "AnyLt works on []int, []uint, []float and []datetime attributes",
        ),
        ("tags", FilterOp::AnyLt, json!("a"), "AnyLt works on []int"),
        (
            "ns",
            FilterOp::AnyLt,
            json!(null),
            "type mismatch, AnyLt expects int, but got null",
        ),
        (
            "ns",
            FilterOp::AnyGte,
            json!([1]),
            "type mismatch, AnyGte expects int, but got []int",
        ),
        (
            "n",
            FilterOp::Glob,
            json!("*"),
            "filter error in key `n`: Glob works on string and []string attributes",
        ),
        (
            "v",
            FilterOp::Glob,
            json!("*"),
            "attributes of type [2]f32 cannot be filtered",
        ),
        (
            "tags",
            FilterOp::NotGlob,
            json!(["*"]),
            "type mismatch, NotGlob expects string, but got []string",
        ),
        (
            "tags",
            FilterOp::Glob,
            json!("[a"),
            "filter error in key `tags`: the operand of Glob is not a glob: unclosed",
        ),
        (
            "body",
            FilterOp::IGlob,
            json!("*"),
            "IGlob needs an attribute with a glob index, or one that is filterable",
        ),
        (
            "tags",
            FilterOp::Regex,
            json!("x"),
            "Regex needs an attribute with a regex index; set \"regex\": true for it",
        ),
        (
            "re",
            FilterOp::Regex,
            json!(1),
            "type mismatch, Regex expects string, but got int",
        ),
        (
            "re",
            FilterOp::Regex,
            json!("("),
            "the operand of Regex is not a valid pattern: unclosed group",
        ),
        (
            "re",
            FilterOp::Regex,
            json!(r"\pL{999}"),
            "the operand of Regex is too large a pattern",
        ),
        (
            "tags",
            FilterOp::Fuzzy,
            json!("x"),
            "Fuzzy needs an attribute with a fuzzy index; set \"fuzzy\": true for it",
        ),
        (
            "re",
            FilterOp::Fuzzy,
            json!(null),
            "type mismatch, Fuzzy expects string, but got null",
        ),
        (
            "tags",
            FilterOp::ContainsAllTokens,
            json!("x"),
            "needs an attribute with full-text search",
        ),
        (
            "re",
            FilterOp::ContainsAllTokens,
            json!(7),
            "ContainsAllTokens expects string or []string, but got int",
        ),
        (
            "re",
            FilterOp::ContainsAnyToken,
            json!(["a", 7]),
            "expects []string, but got []string with int in it",
        ),
        (
            "id",
            FilterOp::Regex,
            json!("x"),
            "Regex works on string and []string attributes, and the attribute is uint",
        ),
        (
            "id",
            FilterOp::Contains,
            json!("x"),
            "Contains works on array attributes",
        ),
    ] {
        let error = bind(&test(attribute, op, operand), &schema).unwrap_err();
        assert!(error.message.contains(text), "{} lacks {text}", error.message);
    }
    let deep = (0..100).fold(Filter::And(vec![]), |f, _| Filter::Not(Box::new(f)));
    assert!(bind(&deep, &schema).is_err());
}

#[test]
fn few_rows_left_of_a_range_are_those_of_the_range() {
    let schema = schema_of(IdKind::UInt, &[("n", "int"), ("s", "string")]);
    let row = |i: u64| {
        let s = Value::String(if i == 170 { "x" } else { "y" }.into());
        (Id::UInt(i), vec![("n", Value::Int((i % 85) as i64)), ("s", s)])
    };
    let rows: Rows = (0..256).map(row).collect();
    // One row in 85 is left to the second condition.
    let filter = Filter::And(vec![
        test("n", FilterOp::Eq, json!(0)),
        test("s", FilterOp::Eq, json!("x")),
    ]);
    let bound = bind(&filter, &schema).unwrap();
    let found = evaluate_rows(&bound, &chunk_of(&schema, &rows), 64..256);
    assert_eq!(found.iter().collect::<Vec<_>>(), [170 - 64]);
}
