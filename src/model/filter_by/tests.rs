use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::model::Limits;
use crate::model::write::prepare;

fn schema() -> Schema {
    let body = r#"{"create_namespace": true, "distance_metric": "cosine_distance", "schema": {
        "id": "string", "title": {"type": "string", "full_text_search": true, "filterable": true},
        "tags": {"type": "[]string", "full_text_search": true, "filterable": true},
        "code": "string", "codes": "[]string", "n": "int", "u": "uint", "f": "float", "b": "bool", "ns": "[]int",
        "at": "datetime", "vector": "[2]f32"}}"#;
    let mut schema = Schema::default();
    let write = prepare(body.as_bytes(), &schema, &Limits::default()).expect("a schema");
    schema.apply(&write.schema);
    schema
}

fn compiled(text: &str) -> Result<Json, String> {
    let parsed = FilterBy::parse(text).map_err(|e| e.message)?;
    let filter = parsed.compile(&schema()).map_err(|e| e.message)?;
    Ok(filter.to_json())
}

#[test]
fn what_a_condition_means_depends_on_the_type() {
    let prefix = json!({"last_as_prefix": true});
    for (text, expected) in [
        ("", json!(["And", []])),
        ("  ", json!(["And", []])),
        ("id:=a", json!(["id", "Eq", "a"])),
        ("id: [a, b]", json!(["id", "In", ["a", "b"]])),
        ("id:!=[a,b]", json!(["Not", ["id", "In", ["a", "b"]]])),
        ("id:*", json!(["And", []])),
        ("title: red shoes", json!(["title", "ContainsAllTokens", "red shoes"])),
        ("title: sho*", json!(["title", "ContainsAllTokens", "sho", prefix])),
        ("title:= red shoes", json!(["title", "Eq", "red shoes"])),
        ("title:=`a && b, c`", json!(["title", "Eq", "a && b, c"])),
        ("title:=`a\\`b*`", json!(["title", "Eq", "a`b*"])),
        ("title:=re{d*", json!(["title", "Glob", "re\\{d*"])),
        ("title:!=x", json!(["Not", ["title", "Eq", "x"]])),
        ("title:!x", json!(["Not", ["title", "ContainsAllTokens", "x"]])),
        (
            "title:[a, b c]",
            json!([
                "Or",
                [
                    ["title", "ContainsAllTokens", "a"],
                    ["title", "ContainsAllTokens", "b c"]
                ]
            ]),
        ),
        ("title:=[a, `b,c`]", json!(["title", "In", ["a", "b,c"]])),
        (
            "title:=[a, b*]",
            json!(["Or", [["title", "Glob", "b*"], ["title", "Eq", "a"]]]),
        ),
        ("title:=foo (bar)", json!(["title", "Eq", "foo (bar)"])),
        ("title:=``", json!(["title", "Eq", ""])),
        ("title: 1..5", json!(["title", "ContainsAllTokens", "1..5"])),
        // What may have no words must not select everything.
        (
            "title: --",
            json!([
                "And",
                [
                    ["title", "ContainsAllTokens", "--"],
                    ["title", "ContainsAnyToken", "--"]
                ]
            ]),
        ),
        ("tags:=a", json!(["tags", "Contains", "a"])),
        ("tags:=[a,b]", json!(["tags", "ContainsAny", ["a", "b"]])),
        ("tags: a", json!(["tags", "ContainsAllTokens", "a"])),
        ("code: a", json!(["code", "Eq", "a"])),
        ("code: a*", json!(["code", "Glob", "a*"])),
        ("codes:[a]", json!(["codes", "Contains", "a"])),
        ("n:5", json!(["n", "Eq", 5])),
        ("n:-5", json!(["n", "Eq", -5])),
        ("n:=5", json!(["n", "Eq", 5])),
        ("n:!=5", json!(["Not", ["n", "Eq", 5]])),
        ("n:>5", json!(["n", "Gt", 5])),
        ("n:>= 5", json!(["n", "Gte", 5])),
        ("n:<5", json!(["And", [["n", "Lt", 5], ["n", "NotEq", null]]])),
        ("n:[1..5]", json!(["And", [["n", "Gte", 1], ["n", "Lte", 5]]])),
        ("n:[-5..-1]", json!(["And", [["n", "Gte", -5], ["n", "Lte", -1]]])),
        (
            "n:[1..5, 7, >9]",
            json!([
                "Or",
                [
                    ["And", [["n", "Gte", 1], ["n", "Lte", 5]]],
                    ["n", "Gt", 9],
                    ["n", "Eq", 7]
                ]
            ]),
        ),
        ("ns:[1,2]", json!(["ns", "ContainsAny", [1, 2]])),
        ("ns:>2", json!(["ns", "AnyGt", 2])),
        ("f:1", json!(["f", "Eq", 1.0])),
        ("f:[0.5..2]", json!(["And", [["f", "Gte", 0.5], ["f", "Lte", 2.0]]])),
        ("b:true", json!(["b", "Eq", true])),
        ("b:[true,false]", json!(["b", "In", [true, false]])),
        ("at:>1700000000000", json!(["at", "Gt", 1_700_000_000_000u64])),
        (
            "n:1 && u:2 || f:3",
            json!(["Or", [["And", [["n", "Eq", 1], ["u", "Eq", 2]]], ["f", "Eq", 3.0]]]),
        ),
        (
            "n:1&&(u:2||f:3)",
            json!(["And", [["n", "Eq", 1], ["Or", [["u", "Eq", 2], ["f", "Eq", 3.0]]]]]),
        ),
        ("((n:1))", json!(["n", "Eq", 1])),
        (
            "(title:=x) && (n:1)",
            json!(["And", [["title", "Eq", "x"], ["n", "Eq", 1]]]),
        ),
    ] {
        assert_eq!(compiled(text), Ok(expected), "{text}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_in_words() {
    for (text, says) in [
        ("n", "expected `field:value`"),
        (":5", "no name"),
        ("n:", "cannot be empty"),
        ("n:1 &&", "expected `field:value`"),
        ("n:1 && || u:2", "expected `field:value`"),
        ("(n:1", "unbalanced"),
        ("n:1)", "unbalanced"),
        ("n:[1,2", "not closed"),
        ("n:[]", "list of `n` is empty"),
        ("title:=`a", "not closed"),
        ("title:=`a`b", "not closed"),
        ("n:>[1]", "not closed"),
        ("n:x", "must be integers"),
        ("n:1.5", "must be integers"),
        ("u:-1", "unsigned"),
        ("f:nan", "must be numbers"),
        ("b:yes", "`true` or `false`"),
        ("n:1*", "must be integers"),
        ("title:>a", "only numbers"),
        ("b:>true", "only numbers"),
        ("ns:[1..2]", "ranges of arrays"),
        ("nope:1", "Could not find a filter field named `nope`"),
        ("vector:1", "cannot be filtered"),
        ("loc:(48.9, 2.3, 5 km)", "place"),
        ("a.{b:1}", "place or an object"),
        ("$other(n:1)", "other collections"),
    ] {
        let error = compiled(text).expect_err(text);
        assert!(error.contains(says), "{text}: {error}");
    }
}

#[test]
fn the_size_is_bounded() {
    let deep = |n: usize| format!("{}n:1{}", "(".repeat(n), ")".repeat(n));
    assert!(FilterBy::parse(&deep(7)).is_ok());
    assert!(FilterBy::parse(&deep(8)).is_err());
    let wide = |n: usize| vec!["n:1"; n].join("&&");
    assert!(FilterBy::parse(&wide(256)).is_ok());
    assert!(FilterBy::parse(&wide(257)).is_err());
    let list = |n: usize| format!("n:[{}]", vec!["1"; n].join(","));
    assert!(FilterBy::parse(&list(256)).is_ok());
    assert!(FilterBy::parse(&list(257)).is_err());
    assert!(FilterBy::parse_within(&list(257), Bounds::REQUEST).is_ok());
    assert!(FilterBy::parse(&format!("title:={}", "x".repeat(4096))).is_err());
}

#[test]
fn the_fields_are_told() {
    let filter = FilterBy::parse("a:1 && (b:2 || a:3)").expect("legal");
    assert_eq!(filter.fields(), ["a", "b", "a"]);
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in r"[a-z:=!<>&|()\[\],.`*\\ 0-9$é]{0,60}") {
        let _ = compiled(&text);
    }

    #[test]
    fn a_quoted_value_is_what_it_was(value in r"[^`\\]{0,40}") {
        let expected = json!(["code", "Eq", value]);
        prop_assert_eq!(compiled(&format!("code:=`{value}`")), Ok(expected));
    }

    /// What is joined to a mandatory filter in parentheses cannot get out of them.
    #[test]
    fn a_request_cannot_escape_its_parentheses(text in r"[n:=1&|()\[\]` ]{0,30}") {
        if let Ok(joined) = FilterBy::parse(&format!("({text}) && (n:1)")) {
            prop_assume!(FilterBy::parse(&text).is_ok() && !text.trim().is_empty());
            let Node::And(list) = &joined.root else { panic!("{joined:?}") };
            prop_assert_eq!(list.last(), Some(&FilterBy::parse("n:1").expect("legal").root));
        }
    }
}
