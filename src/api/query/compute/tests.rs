use serde_json::json;

use super::*;
use crate::model::query::{TextQuery, VectorQuery};
use crate::model::{InvalidKind, filter};

fn parse_json(json: Json) -> Result<Vec<(Arc<str>, Compute)>, Invalid> {
    parse(json, &Limits::default())
}

fn one(expression: Json) -> Compute {
    let shown = expression.to_string();
    let mut computed = parse_json(json!({"x": expression})).expect(&shown);
    assert_eq!(computed.len(), 1);
    assert_eq!(&*computed[0].0, "x");
    computed.remove(0).1
}

fn text(attribute: &str, text: &str) -> Score {
    Score::Text {
        attribute: attribute.into(),
        query: TextQuery::Text(text.into()),
        last_as_prefix: false,
    }
}

fn plain(attribute: &str) -> Highlight {
    Highlight {
        attribute: attribute.into(),
        fragment_by: FragmentBy::Sentence,
        fragment_limit: 3,
        include_offsets: None,
        rank_fragments_by: None,
    }
}

#[test]
fn every_form_is_understood() {
    assert_eq!(
        one(json!(["v", "VectorDist", [1, 2.5]])),
        Compute::VectorDistance {
            attribute: "v".into(),
            query: VectorQuery::One(vec![1.0, 2.5])
        }
    );
    assert_eq!(one(json!(["Highlight", "t"])), Compute::Highlight(plain("t")));
    assert_eq!(one(json!(["Highlight", "t", null])), Compute::Highlight(plain("t")));
    let nulls =
        json!({"fragment_by": null, "include_offsets": null, "fragment_limit": null, "rank_fragments_by": null});
    assert_eq!(one(json!(["Highlight", "t", nulls])), Compute::Highlight(plain("t")));
    let options = json!({"fragment_by": "word", "fragment_limit": 1024, "include_offsets": "utf-16",
        "rank_fragments_by": ["$fragment", "BM25", "tide"]});
    assert_eq!(
        one(json!(["Highlight", "t", options])),
        Compute::Highlight(Highlight {
            fragment_by: FragmentBy::Word,
            fragment_limit: 1024,
            include_offsets: Some(OffsetUnit::Utf16),
            rank_fragments_by: Some(text("$fragment", "tide")),
            ..plain("t")
        })
    );
    let other_spelling = json!({"rank_fragment_by": ["$fragment", "BM25", "tide"]});
    assert_eq!(
        one(json!(["Highlight", "t", other_spelling])),
        Compute::Highlight(Highlight {
            rank_fragments_by: Some(text("$fragment", "tide")),
            ..plain("t")
        })
    );
    assert_eq!(one(json!(["t", "BM25", "a b"])), Compute::Score(text("t", "a b")));
    let filter = json!(["And", [["a", "Eq", 1], ["Not", ["b", "In", [2]]]]]);
    assert_eq!(
        one(filter.clone()),
        Compute::Filter(filter::parse(filter, filter::References::Forbidden, &Limits::default()).unwrap())
    );
    // Attributes may be called like operators.
    assert!(matches!(one(json!(["Highlight", "Eq", 1])), Compute::Filter(_)));
    assert!(matches!(one(json!(["Highlight", "BM25", "a"])), Compute::Score(_)));
    assert!(matches!(
        one(json!(["Highlight", "VectorDist", [1]])),
        Compute::VectorDistance { .. }
    ));
    assert_eq!(
        one(json!(["Highlight", "Highlight"])),
        Compute::Highlight(plain("Highlight"))
    );
}

#[test]
fn names_are_checked_and_sorted() {
    let five = || json!(["n", "Eq", 5]);
    let names = |json| -> Vec<String> {
        let computed = parse_json(json).expect("valid");
        computed.iter().map(|(name, _)| name.to_string()).collect()
    };
    assert_eq!(
        names(json!({"b": five(), "a": five(), "ä b": five()})),
        ["a", "b", "ä b"]
    );
    assert!(names(json!({})).is_empty());
    assert_eq!(names(json!({"x".repeat(128): five()})).len(), 1);
    for name in ["", "$dist", "$x", "id", &"x".repeat(129)] {
        let error = parse_json(json!({ name: five() })).expect_err(name);
        assert_eq!(error.kind, InvalidKind::Semantic);
    }
    let many = |n: usize| Json::Object((0..n).map(|i| (format!("x{i}"), five())).collect());
    assert_eq!(names(many(256)).len(), 256);
    assert!(parse_json(many(257)).expect_err("257").message.contains("got 257"));
}

#[test]
fn what_is_no_expression_is_refused_with_a_sentence() {
    for not_an_object in [json!([]), json!("x"), json!(7), json!(true)] {
        assert_eq!(parse_json(not_an_object).expect_err("shape").kind, InvalidKind::Shape);
    }
    for (expression, part) in [
        (json!(7), "an expression must be"),
        (json!("Highlight"), "an expression must be"),
        (json!({}), "an expression must be"),
        (json!(null), "an expression must be"),
        (json!([]), "must be"),
        (json!([1, 2]), "must be"),
        (json!(["Highlight"]), "name of an attribute"),
        (json!(["Highlight", 7]), "name of an attribute"),
        (json!(["Highlight", ["t"]]), "name of an attribute"),
        (
            json!(["Highlight", "t", {"fragment_by": "line"}]),
            "none, sentence, paragraph, word",
        ),
        (
            json!(["Highlight", "t", {"fragment_by": 1}]),
            "fragment_by must be one of",
        ),
        (json!(["Highlight", "t", {"fragment_limit": 0}]), "1 to 1024"),
        (
            json!(["Highlight", "t", {"fragment_limit": 1025}]),
            "1 to 1024, got 1025",
        ),
        (json!(["Highlight", "t", {"fragment_limit": "3"}]), "1 to 1024"),
        (json!(["Highlight", "t", {"fragment_limit": -1}]), "1 to 1024"),
        (json!(["Highlight", "t", {"fragment_limit": 1.5}]), "1 to 1024"),
        (
            json!(["Highlight", "t", {"include_offsets": "utf8"}]),
            "utf-8, utf-16, codepoints",
        ),
        (json!(["Highlight", "t", {"include_offsets": true}]), "include_offsets"),
        (
            json!(["Highlight", "t", {"fragments": 1}]),
            "unknown option \"fragments\"",
        ),
        (
            json!(["Highlight", "t", {"rank_fragments_by": "x"}]),
            "rank_fragments_by",
        ),
        (
            json!(["Highlight", "t", {"rank_fragments_by": ["$fragment", "BM25", 7]}]),
            "rank_fragments_by",
        ),
        (
            json!(["Highlight", "t", {"rank_fragments_by": ["$fragment", "asc"]}]),
            "a part of a score",
        ),
        (
            json!(["Highlight", "t", {"rank_fragments_by": ["v", "ANN", [1]]}]),
            "a part of a score",
        ),
        (
            json!(["Highlight", "t", {"rank_fragments_by": ["$fragment", "BM25", "a"], "rank_fragment_by": ["$fragment", "BM25", "a"]}]),
            "same option",
        ),
        (json!(["v", "VectorDist"]), "one operand"),
        (json!(["v", "VectorDist", [1], {}]), "one operand"),
        (json!(["v", "VectorDist", []]), "empty"),
        (json!(["v", "VectorDist", ["x"]]), "numbers"),
        (json!(["v", "VectorDist", 7]), ""),
        (json!([7, "VectorDist", [1]]), ""),
        (json!(["v", "ANN", [1]]), "VectorDist"),
        (json!(["v", "kNN", [1]]), "VectorDist"),
        (json!(["a", "asc"]), "an order cannot be computed"),
        (json!([["a", "asc"]]), "an order cannot be computed"),
        (json!(["t", "BM25"]), ""),
        (json!(["t", "Nonsense", 1]), "Nonsense"),
        (json!(["And", 7]), "And"),
        (json!(["a", "Eq", 1, 2, 3]), "Eq"),
    ] {
        let error = parse_json(json!({"x": expression})).expect_err(part);
        assert_eq!(error.kind, InvalidKind::Semantic, "{expression}: {}", error.message);
        assert!(error.message.contains(part), "{expression}: {}", error.message);
        assert!(error.message.contains("\"x\""), "{expression}: {}", error.message);
    }
}
