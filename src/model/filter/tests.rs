use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::operator::OperandKind;
use super::*;
use crate::model::Limits;

fn parsed(json: Json) -> Result<Filter, String> {
    parse(json, References::Allowed, &Limits::default()).map_err(|e| e.message)
}

fn any_text() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "a", "And", "$ref_new", "é*", "a b"]).prop_map(String::from)
}

fn any_scalar() -> impl Strategy<Value = Json> {
    prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        (-2.0..2.0f64).prop_map(Json::from),
        any_text().prop_map(Json::from),
    ]
}

fn any_options(op: FilterOp) -> BoxedStrategy<CompareOptions> {
    match op {
        FilterOp::ContainsAllTokens | FilterOp::ContainsAnyToken => {
            prop::sample::select(vec![CompareOptions::None, CompareOptions::LastAsPrefix]).boxed()
        }
        FilterOp::Fuzzy => {
            let entry = (0..5u32, 0..9u32).prop_map(|(distance, more)| EditDistance {
                min_query_chars: 3 * (distance + 1) + more,
                distance,
            });
            (prop::collection::vec(entry, 1..4), any::<bool>())
                .prop_map(|(max_edit_distance, case_sensitive)| {
                    CompareOptions::Fuzzy(FuzzyOptions {
                        max_edit_distance,
                        case_sensitive,
                    })
                })
                .boxed()
        }
        _ => Just(CompareOptions::None).boxed(),
    }
}

fn any_compare() -> impl Strategy<Value = Filter> {
    prop::sample::select(FilterOp::ALL.map(|(op, _)| op).to_vec()).prop_flat_map(|op| {
        let value = prop_oneof![
            any_scalar(),
            prop::collection::vec(any_scalar(), 0..4).prop_map(Json::Array)
        ]
        .prop_map(Operand::Value);
        let operand = match op.operand() {
            OperandKind::Value => prop_oneof![3 => value, 1 => any_text().prop_map(Operand::Incoming)].boxed(),
            _ => value.boxed(),
        };
        (any_text(), Just(op), operand, any_options(op)).prop_map(|(attribute, op, operand, options)| Filter::Compare {
            attribute,
            op,
            operand,
            options,
        })
    })
}

fn any_filter() -> impl Strategy<Value = Filter> {
    any_compare().prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Filter::And),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Filter::Or),
            inner.prop_map(|f| Filter::Not(Box::new(f))),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_is_parsed_again(filter in any_filter()) {
        prop_assert_eq!(parsed(filter.to_json()), Ok(filter.clone()));
        let text = filter.to_json().to_string();
        prop_assert_eq!(parsed(serde_json::from_str(&text).unwrap()), Ok(filter.clone()));
        // Without references it is also a filter of a query, with them it is none.
        let of_query = parse(filter.to_json(), References::Forbidden, &Limits::default());
        prop_assert_eq!(of_query.is_ok(), !filter.has_references());
        for value in [Json::Null, json!(5)] {
            let resolved = filter.resolve(&|_| value.clone());
            prop_assert!(!resolved.has_references());
            if !filter.has_references() {
                prop_assert_eq!(resolved, filter.clone());
            }
        }
    }

    #[test]
    fn no_json_makes_the_parser_panic(json in any_json()) {
        let _ = parsed(json);
    }
}

fn any_json() -> impl Strategy<Value = Json> {
    let word = prop::sample::select(vec![
        "And",
        "Or",
        "Not",
        "Eq",
        "In",
        "Fuzzy",
        "Regex",
        "ContainsAllTokens",
        "a",
        "$ref_new",
        "max_edit_distance",
        "min_query_chars",
        "distance",
        "last_as_prefix",
    ]);
    let leaf = prop_oneof![any_scalar(), word.clone().prop_map(Json::from)];
    leaf.prop_recursive(6, 40, 4, move |inner| {
        let key = word.clone().prop_map(String::from);
        prop_oneof![
            3 => prop::collection::vec(inner.clone(), 0..5).prop_map(Json::Array),
            1 => prop::collection::btree_map(key, inner, 0..3).prop_map(|m| Json::Object(m.into_iter().collect())),
        ]
    })
}

#[test]
fn references_are_replaced_by_the_incoming_values() {
    let condition = json!(["Or", [
        ["rev", "Lt", {"$ref_new": "rev"}],
        ["Not", ["tags", "ContainsAny", {"$ref_new": "more"}]],
        ["tags", "Contains", {"$ref_new": "gone"}],
        ["tags", "NotContains", {"$ref_new": "gone"}],
        ["rev", "NotIn", {"$ref_new": "gone"}],
        ["marks", "AnyGt", {"$ref_new": "gone"}],
        ["rev", "Gte", {"$ref_new": "gone"}],
    ]]);
    let filter = parsed(condition).unwrap();
    assert!(filter.has_references());
    let resolved = filter.resolve(&|name| match name {
        "rev" => json!(7),
        "more" => json!(["x"]),
        _ => Json::Null,
    });
    assert_eq!(
        resolved.to_json(),
        json!([
            "Or",
            [
                ["rev", "Lt", 7],
                ["Not", ["tags", "ContainsAny", ["x"]]],
                ["tags", "ContainsAny", []],
                ["tags", "NotContainsAny", []],
                ["rev", "NotIn", [null]],
                ["marks", "ContainsAny", []],
                ["rev", "Gte", null],
            ]
        ])
    );
}

#[test]
fn the_last_entry_that_is_not_for_longer_queries_decides() {
    let entry = |min_query_chars, distance| EditDistance {
        min_query_chars,
        distance,
    };
    let options = FuzzyOptions {
        max_edit_distance: vec![entry(4, 0), entry(7, 1), entry(10, 2)],
        case_sensitive: true,
    };
    for (chars, distance) in [
        (3, None),
        (4, Some(0)),
        (6, Some(0)),
        (7, Some(1)),
        (9, Some(1)),
        (10, Some(2)),
        (99, Some(2)),
    ] {
        assert_eq!(options.distance_for(chars), distance, "{chars}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    let fuzzy = |options: Json| json!(["a", "Fuzzy", "x", options]);
    for (filter, text) in [
        (
            json!(["a", "Eq", {"$ref_new": 7}]),
            "a reference must be {\"$ref_new\": attribute}",
        ),
        (json!(["a", "Eq", {"$ref_new": "b", "c": 1}]), "a reference must be"),
        (json!(["a", "Glob", {"$ref_new": "b"}]), "Glob takes no $ref_new"),
        (json!(["a", "Fuzzy", {"$ref_new": "b"}]), "Fuzzy takes no $ref_new"),
        (
            json!(["a", "ContainsAllTokens", {"$ref_new": "b"}]),
            "takes no $ref_new",
        ),
        (
            json!(["a", "Eq", 1, {}, 2]),
            "filter error in key `a`: Eq takes one operand and one object of options at most",
        ),
        (json!(["a", "Eq", 1, {}]), "Eq takes one operand and no options"),
        (
            json!(["a", "Eq", 1, 2]),
            "the options of Eq must be an object, got a number",
        ),
        (
            json!(["a", "ContainsTokenSequence", "x", {"last_as_prefix": true}]),
            "no options",
        ),
        (
            json!(["a", "ContainsAllTokens", "x", {"last_as_prefix": 1}]),
            "last_as_prefix must be a bool, got a number",
        ),
        (
            json!(["a", "ContainsAnyToken", "x", {"prefix": true}]),
            "no option \"prefix\", expected last_as_prefix",
        ),
        (json!(["a", "Fuzzy", "x"]), "Fuzzy needs the option max_edit_distance"),
        (fuzzy(json!({})), "needs the option max_edit_distance"),
        (fuzzy(json!({"max_edit_distance": 2})), "an array of 1 to 16 objects"),
        (fuzzy(json!({"max_edit_distance": []})), "an array of 1 to 16 objects"),
        (
            fuzzy(json!({"max_edit_distance": vec![json!({"min_query_chars": 3, "distance": 0}); 17]})),
            "1 to 16",
        ),
        (
            fuzzy(json!({"max_edit_distance": [5]})),
            "the integers min_query_chars and distance",
        ),
        (fuzzy(json!({"max_edit_distance": [{"distance": 1}]})), "the integers"),
        (
            fuzzy(json!({"max_edit_distance": [{"distance": 1, "min_query_chars": 6, "x": 1}]})),
            "the integers",
        ),
        (
            fuzzy(json!({"max_edit_distance": [{"distance": 1.5, "min_query_chars": 6}]})),
            "the integers",
        ),
        (
            fuzzy(json!({"max_edit_distance": [{"distance": -1, "min_query_chars": 6}]})),
            "the integers",
        ),
        (
            fuzzy(json!({"max_edit_distance": [{"distance": 1, "min_query_chars": 5}]})),
            "min_query_chars must be at least 3 * (distance + 1), which is 6 for the distance 1, got 5",
        ),
        (
            fuzzy(json!({"max_edit_distance": [{"distance": u32::MAX, "min_query_chars": u32::MAX}]})),
            "at least 3",
        ),
        (
            fuzzy(json!({"max_edit_distance": [{"distance": 1, "min_query_chars": 6}], "case": true})),
            "Fuzzy has no option \"case\"",
        ),
        (
            json!(["a", "Regex", "x".repeat(4097)]),
            "Regex takes at most 4096 bytes, got 4097",
        ),
        (json!(["a", "NotIGlob", "é".repeat(2049)]), "at most 4096 bytes"),
        (
            json!(["a", "Fuzzy", "x".repeat(1025)]),
            "Fuzzy takes at most 1024 characters, got 1025",
        ),
        (
            json!(["a", "ContainsAnyToken", "é".repeat(8193)]),
            "at most 8192 characters, got 8193",
        ),
        (
            json!(["a", "ContainsTokenSequence", vec!["x"; 8193]]),
            "at most 8192 characters",
        ),
    ] {
        let error = parsed(filter.clone()).expect_err(&filter.to_string());
        assert!(error.contains(text), "{error} lacks {text}");
    }
    let limits = Limits {
        filter_values_max: 5,
        ..Limits::default()
    };
    let values = |n: usize| json!(["And", [["a", "In", vec![1; n]], ["b", "Eq", 1], ["c", "In", []]]]);
    assert!(parse(values(3), References::Allowed, &limits).is_ok());
    let error = parse(values(4), References::Allowed, &limits).unwrap_err().message;
    assert!(error.contains("filters may have at most 5 values"), "{error}");
}
