use std::cmp::Ordering;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::model::{Filter, Id, IdKind, Scalar, Schema, Value, datetime};
use crate::query::tests::support::{Rows, chunk_of, schema_of};

fn test(attribute: &str, op: FilterOp, operand: Json) -> Filter {
    Filter::Compare {
        attribute: attribute.into(),
        op,
        operand,
    }
}

/// The oracle: what the reference says, on one value and the operand as written.
fn holds_for(value: &Value, op: FilterOp, operand: &Json, scalar: Scalar) -> bool {
    use FilterOp::*;
    let null = *value == Value::Null;
    let elements = |v: &Value| {
        if let Value::Array(list) = v {
            list.clone()
        } else {
            vec![v.clone()]
        }
    };
    let any_of = |list: &Json| {
        let list = list.as_array().cloned().unwrap_or_else(|| vec![list.clone()]);
        elements(value)
            .iter()
            .any(|e| list.iter().any(|o| order(e, o, scalar) == Some(Ordering::Equal)))
    };
    let equal = || match value {
        Value::Null => operand.is_null(),
        Value::Array(list) => operand.as_array().is_some_and(|o| {
            o.len() == list.len()
                && list
                    .iter()
                    .zip(o)
                    .all(|(a, b)| order(a, b, scalar) == Some(Ordering::Equal))
        }),
        one => order(one, operand, scalar) == Some(Ordering::Equal),
    };
    match op {
        Eq => equal(),
        NotEq => !equal(),
        In => any_of(operand),
        NotIn => !any_of(operand),
        Lt if null => !operand.is_null(),
        Lte if null => true,
        Gt | Gte if null => false,
        Lt => order(value, operand, scalar) == Some(Ordering::Less),
        Lte => order(value, operand, scalar).is_some_and(Ordering::is_le),
        Gt => order(value, operand, scalar) == Some(Ordering::Greater),
        Gte => order(value, operand, scalar).is_some_and(Ordering::is_ge),
        Contains | ContainsAny => !null && any_of(operand),
        NotContains | NotContainsAny => null || !any_of(operand),
    }
}

/// Compares a value with an operand as written, null first.
fn order(value: &Value, operand: &Json, scalar: Scalar) -> Option<Ordering> {
    if operand.is_null() {
        return Some(if *value == Value::Null {
            Ordering::Equal
        } else {
            Ordering::Greater
        });
    }
    let int = |n: i128| compare_number(n, operand);
    match value {
        Value::Null => Some(Ordering::Less),
        Value::Bool(b) => Some(b.cmp(&operand.as_bool()?)),
        Value::Int(n) => int((*n).into()),
        Value::UInt(n) => int((*n).into()),
        Value::Float(x) => match (operand.as_i64(), operand.as_u64()) {
            (None, None) => x.partial_cmp(&operand.as_f64()?),
            // |x| is small or whole here, so that its floor decides, then its fraction.
            _ => Some(compare_number(x.floor() as i128, operand)?.then(x.fract().abs().total_cmp(&0.0))),
        },
        Value::Datetime(ms) => {
            let operand = operand.as_i64().or_else(|| datetime::parse(operand.as_str()?))?;
            Some(ms.cmp(&operand))
        }
        Value::String(s) => Some(s.as_bytes().cmp(operand.as_str()?.as_bytes())),
        Value::Uuid(u) => Some(u.to_string().cmp(&operand.as_str()?.to_lowercase())),
        other => panic!("{other:?} of {scalar:?} is not compared"),
    }
}

fn compare_number(n: i128, operand: &Json) -> Option<Ordering> {
    let whole = operand.as_i64().map(i128::from).or(operand.as_u64().map(i128::from));
    Some(match whole {
        Some(m) => n.cmp(&m),
        None => {
            let x = operand.as_f64()?;
            // Comparing with the floor first keeps all digits of n.
            match n.cmp(&(x.floor() as i128)) {
                Ordering::Equal if x.fract() != 0.0 => Ordering::Less,
                decided => decided,
            }
        }
    })
}

fn any_scalar() -> impl Strategy<Value = Scalar> {
    prop::sample::select(vec![
        Scalar::String,
        Scalar::Int,
        Scalar::UInt,
        Scalar::Float,
        Scalar::Uuid,
        Scalar::Datetime,
        Scalar::Bool,
    ])
}

const UUIDS: [&str; 3] = [
    "00000000-0000-0000-0000-00000000000a",
    "00000000-0000-0000-0000-0000000000f0",
    "f0000000-0000-0000-0000-000000000000",
];

/// Few values per type, the edges of each among them, so that equal ones meet.
fn any_value(scalar: Scalar) -> BoxedStrategy<Value> {
    let one = |values: Vec<Value>| prop::sample::select(values).boxed();
    match scalar {
        Scalar::String => one(["", "a", "b", "é", "aa"].map(|s| Value::String(s.into())).into()),
        Scalar::Int => one([i64::MIN, -1, 0, 2, 3, (1 << 53) + 1, i64::MAX].map(Value::Int).into()),
        Scalar::UInt => one([0, 1, 2, 3, (1 << 53) + 1, u64::MAX].map(Value::UInt).into()),
        Scalar::Float => one([-2.5, -0.0, 0.0, 2.0, 2.5, 9007199254740992.0, 1e300]
            .map(Value::Float)
            .into()),
        Scalar::Uuid => one(UUIDS.map(|u| Value::Uuid(u.parse().unwrap())).into()),
        Scalar::Datetime => one([-1, 0, 2, 86_400_000].map(Value::Datetime).into()),
        Scalar::Bool => one([false, true].map(Value::Bool).into()),
        Scalar::Bytes => unreachable!("not drawn"),
    }
}

fn any_operand(scalar: Scalar) -> BoxedStrategy<Json> {
    let one = |values: Vec<Json>| prop::sample::select(values).boxed();
    match scalar {
        Scalar::String => one(vec![json!(""), json!("a"), json!("b"), json!("aa"), json!("zz")]),
        Scalar::Int | Scalar::UInt | Scalar::Float => one(vec![
            json!(i64::MIN),
            json!(-2.5),
            json!(-1),
            json!(0),
            json!(-0.0),
            json!(2),
            json!(2.0),
            json!(2.5),
            json!(9007199254740992u64),
            json!(9007199254740993u64),
            json!(i64::MAX),
            json!(9_223_372_036_854_775_808.0),
            json!(u64::MAX),
            json!(1.8446744073709552e19),
            json!(1e300),
            json!(-1e300),
        ]),
        Scalar::Uuid => one(vec![json!(UUIDS[0]), json!(UUIDS[1].to_uppercase()), json!(UUIDS[2])]),
        Scalar::Datetime => one(vec![
            json!(0),
            json!("1970-01-02"),
            json!("1969-12-31T23:59:59.999Z"),
            json!(2),
        ]),
        Scalar::Bool => one(vec![json!(false), json!(true)]),
        Scalar::Bytes => unreachable!("not drawn"),
    }
}

fn any_list(scalar: Scalar) -> BoxedStrategy<Json> {
    // Longer than FEW now and then, so that both forms of a set are met.
    prop::collection::vec(any_operand(scalar), 0..14)
        .prop_map(Json::Array)
        .boxed()
}

/// A type, some rows of one attribute of it, and a comparison.
fn any_case() -> impl Strategy<Value = (Scalar, bool, Vec<Value>, FilterOp, Json)> {
    let op = prop::sample::select(FilterOp::ALL.map(|(op, _)| op).to_vec());
    (any_scalar(), any::<bool>(), op)
        .prop_filter("the type has the operator", |(s, array, op)| fits(*s, *array, *op))
        .prop_flat_map(|(scalar, array, op)| {
            let value = match array {
                false => any_value(scalar),
                true => prop::collection::vec(any_value(scalar), 0..3)
                    .prop_map(Value::Array)
                    .boxed(),
            };
            let value = prop_oneof![1 => Just(Value::Null), 4 => value];
            let list = matches!(
                op,
                FilterOp::In | FilterOp::NotIn | FilterOp::ContainsAny | FilterOp::NotContainsAny
            );
            let operand = match (op, array) {
                _ if list => any_list(scalar),
                (FilterOp::Contains | FilterOp::NotContains, _) => any_operand(scalar),
                (_, false) => prop_oneof![1 => Just(Json::Null), 6 => any_operand(scalar)].boxed(),
                (_, true) => prop_oneof![
                    1 => Just(Json::Null),
                    6 => prop::collection::vec(any_operand(scalar), 0..3).prop_map(Json::Array)
                ]
                .boxed(),
            };
            (
                Just(scalar),
                Just(array),
                prop::collection::vec(value, 0..150),
                Just(op),
                operand,
            )
        })
}

fn fits(scalar: Scalar, array: bool, op: FilterOp) -> bool {
    match op {
        FilterOp::Eq | FilterOp::NotEq | FilterOp::In | FilterOp::NotIn => true,
        FilterOp::Lt | FilterOp::Lte | FilterOp::Gt | FilterOp::Gte => !array && scalar != Scalar::Bool,
        _ => array,
    }
}

fn type_name(scalar: Scalar, array: bool) -> String {
    format!("{}{}", if array { "[]" } else { "" }, scalar.name())
}

proptest! {
    #[test]
    fn a_column_at_a_time_equals_row_by_row((scalar, array, values, op, operand) in any_case(), cut in 0usize..150) {
        let schema = schema_of(IdKind::UInt, &[("a", &type_name(scalar, array))]);
        let rows: Rows = values.iter().enumerate()
            .map(|(i, v)| (Id::UInt(i as u64), vec![("a", v.clone())])).collect();
        let chunk = chunk_of(&schema, &rows);
        let filter = test("a", op, operand.clone());
        let bound = bind(&filter, &schema).unwrap();
        let expected = Bitset::from_fn(values.len(), |i| holds_for(&values[i], op, &operand, scalar));
        prop_assert_eq!(&evaluate(&bound, &chunk), &expected);
        for row in 0..values.len() {
            prop_assert_eq!(matches_row(&bound, &chunk, row as u32), expected.contains(row));
        }
        // Any range of rows gives the same bits, also one that starts inside of a byte.
        let cut = cut.min(values.len());
        let rest = evaluate_rows(&bound, &chunk, cut..values.len());
        prop_assert_eq!(rest, Bitset::from_fn(values.len() - cut, |i| expected.contains(cut + i)));
        let not = bind(&Filter::Not(Box::new(filter)), &schema).unwrap();
        let mut complement = expected;
        complement.invert();
        prop_assert_eq!(evaluate(&not, &chunk), complement);
    }
}

use crate::base::Bitset;

fn matching(schema: &Schema, rows: &Rows, filter: Filter) -> Vec<usize> {
    evaluate(&bind(&filter, schema).unwrap(), &chunk_of(schema, rows))
        .iter()
        .collect()
}

#[test]
fn nulls_pass_by_the_table_and_so_do_rows_of_a_chunk_without_the_column() {
    let schema = schema_of(IdKind::UInt, &[("n", "int"), ("tags", "[]string")]);
    let with_column: Rows = vec![
        (Id::UInt(1), vec![]),
        (
            Id::UInt(2),
            vec![
                ("n", Value::Int(5)),
                ("tags", Value::Array(vec![Value::String("x".into())])),
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
        ],
    );
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
    ] {
        let error = bind(&test(attribute, op, operand), &schema).unwrap_err();
        assert!(error.message.contains(text), "{} lacks {text}", error.message);
    }
    let deep = (0..100).fold(Filter::And(vec![]), |f, _| Filter::Not(Box::new(f)));
    assert!(bind(&deep, &schema).is_err());
}
