use serde_json::{Value as Json, json};

use super::parse;
use super::score::parse as parse_score;
use crate::model::query::{Curve, Midpoint, Score, TextQuery, VectorQuery};
use crate::model::{Direction, Filter, FilterOp, Invalid, Limits, RankBy};

fn rank(json: Json) -> Result<RankBy, Invalid> {
    parse(json, &Limits::default())
}

fn score(json: Json) -> Score {
    match rank(json.clone()).unwrap_or_else(|e| panic!("{json}: {e}")) {
        RankBy::Score(score) => score,
        other => panic!("{json} is {other:?}"),
    }
}

fn text(query: &str) -> Score {
    Score::Text {
        attribute: "t".into(),
        query: TextQuery::Text(query.into()),
        last_as_prefix: false,
    }
}

fn eq(attribute: &str) -> Score {
    Score::Filter(Filter::compare(attribute, FilterOp::Eq, json!(1)))
}

fn times(weight: f64, of: Score) -> Score {
    Score::Product {
        weight,
        of: Box::new(of),
    }
}

#[test]
fn every_form_of_score_is_understood() {
    let bm25 = json!(["t", "BM25", "a"]);
    let attribute = |name: &str| Score::Attribute(name.into());
    let curve = |midpoint, exponent| Curve { midpoint, exponent };
    let distance = |origin: Json| Score::Distance {
        attribute: "n".into(),
        origin,
    };
    for (json, expected) in [
        (
            json!(["Sum", [bm25, ["x", "Eq", 1]]]),
            Score::Sum(vec![text("a"), eq("x")]),
        ),
        (
            json!(["Max", [bm25, 0]]),
            Score::Max(vec![text("a"), Score::Constant(0.0)]),
        ),
        (
            json!(["Max", 0.5, bm25]),
            Score::Max(vec![Score::Constant(0.5), text("a")]),
        ),
        (
            json!(["Max", bm25, ["Attribute", "n"]]),
            Score::Max(vec![text("a"), attribute("n")]),
        ),
        (json!(["Product", 2, bm25]), times(2.0, text("a"))),
        (json!(["Product", bm25, 0.5]), times(0.5, text("a"))),
        (json!(["Product", [bm25, 3]]), times(3.0, text("a"))),
        (json!(["Product", [0, bm25]]), times(0.0, text("a"))),
        (json!(["Attribute", "n"]), attribute("n")),
        (json!(["Attribute", "BM25"]), attribute("BM25")),
        (json!(["Dist", ["Attribute", "n"], -3.5]), distance(json!(-3.5))),
        (
            json!(["Dist", ["Attribute", "n"], "2024-01-01"]),
            distance(json!("2024-01-01")),
        ),
        (
            json!(["Saturate", ["Attribute", "n"], {"midpoint": 10}]),
            Score::Saturate {
                of: Box::new(attribute("n")),
                curve: curve(Midpoint::Number(10.0), 1.0),
            },
        ),
        (
            json!(["Decay", ["Dist", ["Attribute", "n"], 0], {"midpoint": "1.5h", "exponent": 2}]),
            Score::Decay {
                of: Box::new(distance(json!(0))),
                curve: curve(Midpoint::Milliseconds(5_400_000.0), 2.0),
            },
        ),
        (json!(["x", "Eq", 1]), eq("x")),
        (json!(["And", []]), Score::Filter(Filter::And(vec![]))),
        (
            json!(["Not", ["Or", []]]),
            Score::Filter(Filter::Not(Box::new(Filter::Or(vec![])))),
        ),
        (
            json!(["t", "BM25", ["a", "b"], {"last_as_prefix": true}]),
            Score::Text {
                attribute: "t".into(),
                query: TextQuery::Tokens(vec!["a".into(), "b".into()]),
                last_as_prefix: true,
            },
        ),
        (json!(["t", "BM25", "a", {"last_as_prefix": false}]), text("a")),
        (json!(["t", "BM25", "a", {}]), text("a")),
        (
            json!(["s", "SparseKNN", {"otter": 1.25, "12": 0.5}]),
            Score::Sparse {
                attribute: "s".into(),
                query: vec![("12".into(), 0.5), ("otter".into(), 1.25)],
            },
        ),
        (
            json!(["s", "SparseKNN", {}]),
            Score::Sparse {
                attribute: "s".into(),
                query: vec![],
            },
        ),
        // Attributes may be named like functions.
        (json!(["Max", "Eq", 1]), eq("Max")),
        (json!(["Attribute", "Eq", 1]), eq("Attribute")),
        (json!(["And", "Eq", 1]), eq("And")),
    ] {
        assert_eq!(score(json.clone()), expected, "{json}");
    }
    assert_eq!(
        rank(json!(["Sum", "asc"])).unwrap(),
        RankBy::Order(vec![("Sum".into(), Direction::Asc)])
    );
    for (text, ms) in [
        ("90s", 9e4),
        ("30m", 1.8e6),
        ("6h", 2.16e7),
        ("7d", 6.048e8),
        ("2w", 1.2096e9),
        (".5s", 500.0),
    ] {
        let parsed = score(json!(["Decay", ["x", "Eq", 1], {"midpoint": text}]));
        assert!(
            matches!(&parsed, Score::Decay { curve, .. } if curve.midpoint == Midpoint::Milliseconds(ms)),
            "{text}"
        );
    }
}

#[test]
fn query_vectors_are_one_several_or_a_text_to_embed() {
    let nearest = |json: Json| match rank(json.clone()).unwrap_or_else(|e| panic!("{json}: {e}")) {
        RankBy::Nearest { query, exact, .. } => (query, exact),
        other => panic!("{other:?}"),
    };
    let embed = |model: Option<&str>| VectorQuery::Embed {
        text: "some text".into(),
        model: model.map(Into::into),
    };
    for (operand, expected) in [
        (json!([1, 2.5]), VectorQuery::One(vec![1.0, 2.5])),
        (
            json!([[1, 2], [3, 4]]),
            VectorQuery::Many(vec![vec![1.0, 2.0], vec![3.0, 4.0]]),
        ),
        (json!([[1]]), VectorQuery::Many(vec![vec![1.0]])),
        (json!(["Embed", "some text"]), embed(None)),
        (json!(["Embed", "some text", {}]), embed(None)),
        (json!(["Embed", "some text", {"model": null}]), embed(None)),
        (json!(["Embed", "some text", {"model": "m/1"}]), embed(Some("m/1"))),
    ] {
        for (operator, exact) in [("ANN", false), ("kNN", true)] {
            assert_eq!(nearest(json!(["v", operator, operand])), (expected.clone(), exact));
        }
    }
}

#[test]
fn what_is_wrong_is_said() {
    let bm25 = json!(["t", "BM25", "a"]);
    let x = json!(["x", "Eq", 1]);
    let decay = |options: Json| json!(["Decay", x, options]);
    let cases = [
        (json!(["Sum", bm25]), "a score must be"),
        (json!(["Sum", [bm25], [bm25]]), "Sum takes one array"),
        (json!(["Sum", []]), "Sum needs at least one score"),
        (json!(["Sum", [1, bm25]]), "a number can stand beside scores in Max"),
        (json!(["Sum", [["v", "ANN", [1]]]]), "ANN cannot be a part of a score"),
        (json!(["Sum", [["v", "kNN", [1]]]]), "kNN cannot be a part of a score"),
        (
            json!(["Max", [["n", "desc"], bm25]]),
            "an order by attributes cannot be a part",
        ),
        (json!(["Product", 2, ["v", "ANN", [1]]]), "ANN cannot"),
        (json!(["Max", []]), "Max needs at least one score"),
        (json!(["Max", [0, 1]]), "Max needs at least one score"),
        (json!(["Max", 0]), "Sum and Max take one array"),
        (json!(["Max", "0", bm25]), "Sum and Max take one array"),
        (json!(["Product", -1, bm25]), "at least 0, got -1"),
        (json!(["Product", 1, 2]), "a number can stand"),
        (json!(["Product", bm25, bm25]), "Product takes a weight"),
        (json!(["Product", "2", bm25]), "Product takes a weight"),
        (json!(["Product", 2]), "Product takes a weight"),
        (json!(["Product", null, bm25]), "Product takes a weight"),
        (json!(["Product", 2, bm25, 3]), "Product takes a weight"),
        (json!(["Attribute", 7]), "Attribute takes the name"),
        (json!(["Attribute", "a", "b"]), "Attribute takes the name"),
        (json!(["Dist", "n", 3]), "Dist takes an attribute"),
        (json!(["Dist", ["Attribute", "n"]]), "Dist takes an attribute"),
        (json!(["Dist", ["Attribute", "n"], null]), "Dist takes an attribute"),
        (json!(["Dist", ["Attribute", "n"], [1]]), "Dist takes an attribute"),
        (json!(["Dist", bm25, 3]), "Dist takes an attribute"),
        (json!(["Saturate", x]), "Saturate and Decay take"),
        (json!(["Saturate", x, 10]), "Saturate and Decay take"),
        (decay(json!({})), "needs a midpoint"),
        (
            decay(json!({"midpoint": 0})),
            "midpoint of Decay must be a number above 0, got 0",
        ),
        (decay(json!({"midpoint": -2})), "above 0, got -2"),
        (decay(json!({"midpoint": null})), "above 0, got null"),
        (decay(json!({"midpoint": "NaN"})), "a duration such as"),
        (decay(json!({"midpoint": "inf"})), "a duration such as"),
        (decay(json!({"midpoint": "infs"})), "a duration such as"),
        (decay(json!({"midpoint": "6"})), "a duration such as"),
        (decay(json!({"midpoint": "6y"})), "a duration such as"),
        (decay(json!({"midpoint": "h"})), "a duration such as"),
        (decay(json!({"midpoint": ""})), "a duration such as"),
        (decay(json!({"midpoint": "-6h"})), "a duration such as"),
        (decay(json!({"midpoint": "1e3s"})), "a duration such as"),
        (decay(json!({"midpoint": "0h"})), "a duration such as"),
        (decay(json!({"midpoint": "6ä"})), "a duration such as"),
        (
            decay(json!({"midpoint": 1, "exponent": 0})),
            "exponent of Decay must be a number above 0",
        ),
        (decay(json!({"midpoint": 1, "exponent": "2"})), "exponent of Decay"),
        (decay(json!({"midpoint": 1, "power": 2})), "unknown option \"power\""),
        (json!(["t", "BM25", "a", true]), "options of BM25"),
        (json!(["t", "BM25", "a", {"last_as_prefix": 1}]), "options of BM25"),
        (json!(["t", "BM25", "a", {"prefix": true}]), "unknown option \"prefix\""),
        (json!(["t", "BM25", "a", {}, {}]), "a score must be"),
        (json!(["t", "BM25"]), "BM25 takes one operand"),
        (json!(["s", "SparseKNN", [1]]), "operand of SparseKNN"),
        (json!(["s", "SparseKNN", {"a": "1"}]), "operand of SparseKNN"),
        (json!(["s", "SparseKNN", {"a": 1e39}]), "operand of SparseKNN"),
        (json!(["s", "SparseKNN"]), "SparseKNN takes one operand"),
        (json!(["s", "SparseKNN", {}, {}]), "SparseKNN takes one operand"),
        (json!(["x", "Near", 1]), "\"Near\""),
        (json!(["And", 7]), "And and Or take an array of filters"),
        (json!(["v", "ANN", [[1], []]]), "must not be empty"),
        (json!(["v", "ANN", [[1], [1, 2]]]), "same dimensions"),
        (json!(["v", "ANN", [[1], 2]]), "array of such arrays"),
        (json!(["v", "ANN", [[1], ["x"]]]), "numbers in the range"),
        (json!(["v", "ANN", vec![vec![1]; 1025]]), "at most 1024 vectors"),
        (json!(["v", "ANN", vec![vec![1; 1025]; 128]]), "131072 elements"),
        (json!(["v", "ANN", ["Embed"]]), "expected [\"Embed\", text]"),
        (json!(["v", "ANN", ["Embed", 7]]), "expected [\"Embed\", text]"),
        (
            json!(["v", "ANN", ["Embed", "x", {}, {}]]),
            "expected [\"Embed\", text]",
        ),
        (json!(["v", "ANN", ["Embed", ""]]), "1 to 8192 characters"),
        (json!(["v", "ANN", ["Embed", "x", "m"]]), "options must be an object"),
        (json!(["v", "ANN", ["Embed", "x", {"model": 7}]]), "name of a model"),
        (
            json!(["v", "ANN", ["Embed", "x", {"models": "m"}]]),
            "only have the key model",
        ),
    ];
    for (json, part) in cases {
        let error = rank(json.clone()).expect_err(&json.to_string());
        assert!(error.message.contains(part), "{json}: {}", error.message);
    }
}

#[test]
fn scores_are_bounded_in_depth_and_size() {
    let deep = |levels: usize| (1..levels).fold(json!(["x", "Eq", 1]), |inner, _| json!(["Product", 1, inner]));
    parse_score(deep(32), &Limits::default()).expect("32 levels");
    let error = parse_score(deep(33), &Limits::default()).expect_err("33 levels");
    assert!(error.message.contains("32 deep"), "{}", error.message);
    let wide = |n: usize| json!(["Sum", vec![json!(["x", "Eq", 1]); n]]);
    parse_score(wide(1023), &Limits::default()).expect("1024 nodes");
    parse_score(wide(1024), &Limits::default()).expect_err("1025 nodes");
    // The conditions of filters count too, and so do the numbers of Max.
    let filters = |n: usize| json!(["Sum", vec![json!(["And", vec![json!(["x", "Eq", 1]); 99]]); n]]);
    parse_score(filters(10), &Limits::default()).expect("1001 nodes");
    parse_score(filters(11), &Limits::default()).expect_err("1101 nodes");
    let mut numbers = vec![json!(1); 1023];
    numbers.push(json!(["x", "Eq", 1]));
    parse_score(json!(["Max", numbers]), &Limits::default()).expect_err("1025 nodes");
}
