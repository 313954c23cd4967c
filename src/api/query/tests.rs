use super::*;
use crate::model::InvalidKind::{self, Semantic, Shape};
use crate::model::query::{Score, TextQuery, VectorQuery};
use crate::model::{Direction, Filter, FilterOp, RankBy};

fn parse_str(body: &str) -> Result<Request, Invalid> {
    parse(body.as_bytes(), &Limits::default())
}

fn only(body: &str) -> Query {
    let mut request = parse_str(body).expect(body);
    assert_eq!(request.read.queries.len(), 1);
    request.read.queries.remove(0)
}

#[test]
fn the_texts_that_clients_match_come_out() {
    for (consistency, text) in [
        (
            r#""eventual""#,
            r#"invalid type: string "eventual", expected struct Consistency"#,
        ),
        (
            r#"{"level":"nonexistentvalue"}"#,
            "unknown variant `nonexistentvalue`, expected `strong` or `eventual`",
        ),
    ] {
        let body = format!(r#"{{"rank_by":["id","asc"],"limit":1,"consistency":{consistency}}}"#);
        let error = parse_str(&body).expect_err(&body);
        assert_eq!(error.kind, Shape);
        assert!(error.message.contains(text), "{}", error.message);
    }
}

#[test]
fn every_form_is_understood() {
    let q = only(
        r#"{"rank_by":["vector","ANN",[1,2.5]],"top_k":3,"limit":{"total":3},"include_attributes":["id","a"],"distance_metric":"euclidean_squared"}"#,
    );
    assert_eq!(q.limit, 3);
    assert_eq!(q.include, Projection::Only(vec!["id".into(), "a".into()]));
    assert_eq!(q.distance_metric, Some(Metric::EuclideanSquared));
    assert_eq!(
        q.rank_by,
        Some(RankBy::Nearest {
            attribute: "vector".into(),
            query: VectorQuery::One(vec![1.0, 2.5]),
            exact: false
        })
    );
    let q =
        only(r#"{"rank_by":["v","kNN","AACAPwAAAEA="],"limit":0,"filters":["a","Eq",null],"include_attributes":true}"#);
    assert_eq!(
        q.rank_by,
        Some(RankBy::Nearest {
            attribute: "v".into(),
            query: VectorQuery::One(vec![1.0, 2.0]),
            exact: true
        })
    );
    assert_eq!(q.include, Projection::All);
    let q = only(r#"{"rank_by":["t","BM25",["a","b"]],"limit":10000,"exclude_attributes":["x"]}"#);
    assert_eq!(
        q.rank_by,
        Some(RankBy::Score(Score::Text {
            attribute: "t".into(),
            query: TextQuery::Tokens(vec!["a".into(), "b".into()]),
            last_as_prefix: false
        }))
    );
    assert_eq!(q.include, Projection::Except(vec!["x".into()]));
    let q = only(r#"{"rank_by":[["a","asc"],["b","desc"]],"limit":1,"filters":null,"aggregate_by":null,"offset":0}"#);
    assert_eq!(
        q.rank_by,
        Some(RankBy::Order(vec![
            ("a".into(), Direction::Asc),
            ("b".into(), Direction::Desc)
        ]))
    );
    let q = only(r#"{"filters":["Not",["And",[["a","In",[1]],["Or",[]]]]],"limit":1}"#);
    let compare = Filter::compare("a", FilterOp::In, serde_json::json!([1]));
    assert_eq!(
        q.filter,
        Some(Filter::Not(Box::new(Filter::And(vec![compare, Filter::Or(vec![])]))))
    );
    // An attribute may be named like a combinator.
    let q = only(r#"{"filters":["And","Eq",1],"limit":1}"#);
    assert!(matches!(q.filter, Some(Filter::Compare { .. })));
}

#[test]
fn multi_queries_share_consistency_and_encoding() {
    let request = parse_str(
        r#"{"queries":[{"rank_by":["id","asc"],"limit":1},{"rank_by":["id","desc"],"top_k":2}],
        "vector_encoding":"base64","consistency":{"level":"eventual","max_staleness_seconds":5}}"#,
    )
    .expect("valid");
    assert!(request.multi);
    assert_eq!(request.read.queries.len(), 2);
    assert_eq!(request.encoding, VectorEncoding::Base64);
    assert_eq!(
        request.read.consistency,
        model::Consistency::Eventual {
            max_staleness: Duration::from_secs(5)
        }
    );
    let strong = parse_str(r#"{"rank_by":["id","asc"],"limit":1,"consistency":{}}"#).expect("valid");
    assert_eq!(strong.read.consistency, model::Consistency::Strong);
    assert!(!strong.multi);
}

fn deep(levels: usize) -> String {
    format!("{}[\"a\",\"Eq\",1]{}", "[\"Not\",".repeat(levels), "]".repeat(levels))
}

#[test]
fn filters_are_bounded_in_depth_and_nodes() {
    let with = |f: String| parse_str(&format!(r#"{{"limit":1,"filters":{f}}}"#));
    with(deep(63)).expect("64 levels");
    assert!(with(deep(64)).expect_err("65 levels").message.contains("64 deep"));
    // Deeper than the JSON parser goes at all.
    assert_eq!(with(deep(5000)).expect_err("too deep").kind, Semantic);
    let wide = |n| format!("[\"Or\",[{}]]", vec!["[\"a\",\"Eq\",1]"; n].join(","));
    with(wide(1023)).expect("1024 nodes");
    assert!(with(wide(1024)).expect_err("1025 nodes").message.contains("1024 nodes"));
}

#[test]
fn long_operands_are_refused() {
    let vector = |n| format!(r#"{{"limit":1,"rank_by":["v","ANN",[{}]]}}"#, vec!["1"; n].join(","));
    parse_str(&vector(10_752)).expect("the most dimensions");
    assert!(parse_str(&vector(10_753)).expect_err("more").message.contains("10752"));
    let base64 = |n: usize| {
        format!(
            r#"{{"limit":1,"rank_by":["v","ANN","{}"]}}"#,
            base64_simd::STANDARD.encode_to_string(vec![0; n * 4])
        )
    };
    parse_str(&base64(10_752)).expect("the most dimensions");
    parse_str(&base64(10_753)).expect_err("one more");
    let text = |n| format!(r#"{{"limit":1,"rank_by":["t","BM25","{}"]}}"#, "ä".repeat(n));
    parse_str(&text(8192)).expect("the most characters");
    assert!(parse_str(&text(8193)).expect_err("more").message.contains("8192"));
}

/// Bodies that are wrong, what they get, and a part of the sentence.
const BAD: &[(&str, InvalidKind, &str)] = &[
    ("", Semantic, "JSON"),
    ("{", Semantic, "JSON"),
    ("nul", Semantic, "JSON"),
    ("{\"limit\":1,}", Semantic, "JSON"),
    ("{\"limit\":NaN}", Semantic, "JSON"),
    ("{\"limit\":Infinity}", Semantic, "JSON"),
    ("{\"limit\":01}", Semantic, "JSON"),
    ("{'limit':1}", Semantic, "JSON"),
    ("{} {}", Semantic, "JSON"),
    ("\u{feff}{}", Semantic, "JSON"),
    ("{\"a\u{0}\":1}", Semantic, "JSON"),
    (r#"{"rank_by":["v","ANN",[1e999]],"limit":1}"#, Semantic, ""),
    ("null", Shape, "struct"),
    ("7", Shape, "struct"),
    ("\"x\"", Shape, "struct"),
    ("true", Shape, "struct"),
    ("[]", Shape, "struct"),
    (r#"[null,null,null,["id","asc"],1]"#, Shape, "struct"),
    (r#"{"queries":[[]]}"#, Shape, "struct"),
    (
        r#"{"rank_by":["id","asc"],"limit":1,"consistency":["strong"]}"#,
        Shape,
        "struct Consistency",
    ),
    ("{}", Semantic, "limit is required"),
    (r#"{"rank_by":["id","asc"]}"#, Semantic, "limit is required"),
    (r#"{"limit":1}"#, Semantic, "rank_by is required"),
    (r#"{"rank_by":["id","asc"],"limit":10001}"#, Semantic, "at most 10000"),
    (r#"{"rank_by":["id","asc"],"top_k":10001}"#, Semantic, "at most 10000"),
    (r#"{"rank_by":["id","asc"],"limit":-1}"#, Shape, "limit"),
    (r#"{"rank_by":["id","asc"],"limit":1.5}"#, Shape, "limit"),
    (r#"{"rank_by":["id","asc"],"limit":"1"}"#, Shape, "limit"),
    (r#"{"rank_by":["id","asc"],"limit":[1]}"#, Shape, "limit"),
    (r#"{"rank_by":["id","asc"],"limit":{}}"#, Shape, "limit"),
    (r#"{"rank_by":["id","asc"],"limit":{"total":"x"}}"#, Shape, "limit"),
    (r#"{"rank_by":["id","asc"],"limit":{"total":1,"x":1}}"#, Shape, "\"x\""),
    (
        r#"{"rank_by":["id","asc"],"limit":{"total":1,"per":{"attributes":["a"],"limit":0}}}"#,
        Semantic,
        "limit of limit.per",
    ),
    (r#"{"rank_by":["id","asc"],"top_k":1,"limit":2}"#, Semantic, "top_k"),
    (r#"{"rank_by":["id","asc"],"top_k":-1}"#, Shape, "expected u64"),
    (r#"{"rank_by":["id","asc"],"top_k":"1"}"#, Shape, "expected u64"),
    (r#"{"rank_by":["id","asc"],"top_k":18446744073709551616}"#, Shape, ""),
    (
        r#"{"filters":["a","Eq",1],"limit":1,"offset":1}"#,
        Semantic,
        "offset needs rank_by",
    ),
    (r#"{"rank_by":["id","asc"],"limit":1,"offset":-1}"#, Shape, ""),
    (
        r#"{"rank_by":["id","asc"],"limit":1,"nonsense":1}"#,
        Shape,
        "unknown field `nonsense`",
    ),
    (
        r#"{"rank_by":["id","asc"],"limit":1,"limit":1}"#,
        Shape,
        "duplicate field",
    ),
    (r#"{"rank_by":["id","asc"],"limit":1,"consistency":[1,2,3]}"#, Shape, ""),
    (
        r#"{"rank_by":["id","asc"],"limit":1,"consistency":{"x":1}}"#,
        Shape,
        "unknown field",
    ),
    (
        r#"{"rank_by":["id","asc"],"limit":1,"consistency":{"level":"strong","max_staleness_seconds":1}}"#,
        Semantic,
        "max_staleness",
    ),
    (
        r#"{"rank_by":["id","asc"],"limit":1,"consistency":{"level":"eventual","max_staleness_seconds":-1}}"#,
        Shape,
        "",
    ),
    (
        r#"{"rank_by":["id","asc"],"limit":1,"vector_encoding":"hex"}"#,
        Shape,
        "`float` or `base64`",
    ),
    (
        r#"{"rank_by":["id","asc"],"limit":1,"distance_metric":"dot"}"#,
        Semantic,
        "cosine_distance",
    ),
    (
        r#"{"rank_by":["id","asc"],"limit":1,"distance_metric":1}"#,
        Shape,
        "expected a string",
    ),
    (
        r#"{"rank_by":["id","asc"],"limit":1,"include_attributes":"a"}"#,
        Shape,
        "include_attributes",
    ),
    (
        r#"{"rank_by":["id","asc"],"limit":1,"include_attributes":[1]}"#,
        Shape,
        "include_attributes",
    ),
    (
        r#"{"rank_by":["id","asc"],"limit":1,"exclude_attributes":"a"}"#,
        Shape,
        "expected a sequence",
    ),
    (
        r#"{"rank_by":["id","asc"],"limit":1,"exclude_attributes":["a"],"include_attributes":true}"#,
        Semantic,
        "exclude each other",
    ),
    (
        r#"{"limit":1,"group_by":["a"]}"#,
        Semantic,
        "group_by needs aggregate_by",
    ),
    (
        r#"{"rank_by":["id","asc"],"limit":1,"rerank_by":["RRF"]}"#,
        Semantic,
        "at least two",
    ),
    (r#"{"limit":1,"rank_by":"id"}"#, Semantic, "rank_by must be"),
    (r#"{"limit":1,"rank_by":[]}"#, Semantic, "rank_by must be"),
    (r#"{"limit":1,"rank_by":["id"]}"#, Semantic, "rank_by must be"),
    (r#"{"limit":1,"rank_by":[1,2]}"#, Semantic, "rank_by must be"),
    (r#"{"limit":1,"rank_by":["id","up"]}"#, Semantic, "\"up\""),
    (r#"{"limit":1,"rank_by":["id",7]}"#, Semantic, "rank_by must be"),
    (r#"{"limit":1,"rank_by":[["id","up"]]}"#, Semantic, "asc or desc"),
    (r#"{"limit":1,"rank_by":[["id"]]}"#, Semantic, "rank_by must be"),
    (r#"{"limit":1,"rank_by":[["id","asc"],7]}"#, Semantic, "rank_by must be"),
    (
        r#"{"limit":1,"rank_by":[["a","asc"],["b","asc"],["c","asc"],["d","asc"],["e","asc"],["f","asc"],["g","asc"],["h","asc"],["i","asc"]]}"#,
        Semantic,
        "at most 8",
    ),
    (r#"{"limit":1,"rank_by":["v","kNN",[1]]}"#, Semantic, "requires filters"),
    (r#"{"limit":1,"rank_by":["v","ANN"]}"#, Semantic, "one operand"),
    (r#"{"limit":1,"rank_by":["v","ANN",[1],{}]}"#, Semantic, "one operand"),
    (r#"{"limit":1,"rank_by":["v","ANN",[]]}"#, Semantic, "empty"),
    (r#"{"limit":1,"rank_by":["v","ANN",["x"]]}"#, Semantic, "numbers"),
    (r#"{"limit":1,"rank_by":["v","ANN",[1,null]]}"#, Semantic, "numbers"),
    (r#"{"limit":1,"rank_by":["v","ANN",[1e39]]}"#, Semantic, "range of f32"),
    (r#"{"limit":1,"rank_by":["v","ANN",7]}"#, Semantic, "array of numbers"),
    (r#"{"limit":1,"rank_by":["v","ANN","!!!"]}"#, Semantic, "base64"),
    (r#"{"limit":1,"rank_by":["v","ANN","AAA="]}"#, Semantic, "base64"),
    (r#"{"limit":1,"rank_by":["v","ANN",""]}"#, Semantic, "empty"),
    (
        r#"{"limit":1,"rank_by":["v","ANN","AADAfw=="]}"#,
        Semantic,
        "range of f32",
    ),
    (r#"{"limit":1,"rank_by":["t","BM25",7]}"#, Semantic, "BM25"),
    (r#"{"limit":1,"rank_by":["t","BM25",["a",7]]}"#, Semantic, "BM25"),
    (r#"{"limit":1,"rank_by":["a","Near",1]}"#, Semantic, "\"Near\""),
    (r#"{"limit":1,"filters":7}"#, Semantic, "a number"),
    (r#"{"limit":1,"filters":{}}"#, Semantic, "an object"),
    (r#"{"limit":1,"filters":[]}"#, Semantic, "a filter must be"),
    (r#"{"limit":1,"filters":["a"]}"#, Semantic, "a filter must be"),
    (r#"{"limit":1,"filters":["a","Eq"]}"#, Semantic, "two elements"),
    (r#"{"limit":1,"filters":[1,2]}"#, Semantic, "And, Or or Not"),
    (r#"{"limit":1,"filters":["And",7]}"#, Semantic, "array of filters"),
    (r#"{"limit":1,"filters":["And",[7]]}"#, Semantic, "a number"),
    (r#"{"limit":1,"filters":["Not",7]}"#, Semantic, "a number"),
    (
        r#"{"limit":1,"filters":["a","Equals",1]}"#,
        Semantic,
        "unknown operator \"Equals\"",
    ),
    (r#"{"limit":1,"filters":["a",1,1]}"#, Semantic, "a filter must be"),
    (r#"{"limit":1,"filters":[1,"Eq",1]}"#, Semantic, "a filter must be"),
    (r#"{"limit":1,"filters":["a","Eq",1,{}]}"#, Semantic, "one operand"),
    (
        r#"{"limit":1,"filters":["a","Eq",{"$ref_new":"a"}]}"#,
        Semantic,
        "$ref_new stands for the incoming row",
    ),
    (r#"{"queries":[]}"#, Semantic, "1 to 16"),
    (r#"{"queries":{}}"#, Shape, "expected a sequence"),
    (r#"{"queries":[7]}"#, Shape, "struct"),
    (
        r#"{"queries":[{"limit":1}]}"#,
        Semantic,
        "queries[0]: rank_by is required",
    ),
    (
        r#"{"queries":[{"rank_by":["id","asc"],"limit":1}],"limit":1}"#,
        Semantic,
        "limit is not allowed beside queries",
    ),
    (
        r#"{"queries":[{"rank_by":["id","asc"],"limit":1}],"rank_by":["id","asc"]}"#,
        Semantic,
        "rank_by is not allowed",
    ),
    (
        r#"{"queries":[{"rank_by":["id","asc"],"limit":1}],"rerank_by":["RRF"]}"#,
        Semantic,
        "at least two queries",
    ),
    (
        r#"{"queries":[{"rank_by":["id","asc"],"limit":1,"consistency":{}}]}"#,
        Shape,
        "unknown field `consistency`",
    ),
    (r#"{"queries":[{"queries":[]}]}"#, Shape, "unknown field `queries`"),
];

#[test]
fn bad_queries_are_refused_with_a_sentence() {
    assert!(BAD.len() >= 80);
    for (body, kind, part) in BAD {
        let error = parse_str(body).expect_err(body);
        // Numbers beyond f64 are refused by the JSON parser itself.
        assert_eq!(error.kind, *kind, "{body}: {}", error.message);
        assert!(error.message.contains(part), "{body}: {}", error.message);
    }
}

#[test]
fn bytes_that_are_not_utf8_and_too_many_queries_are_refused() {
    let error = parse(b"{\"rank_by\":[\"\xff\",\"asc\"],\"limit\":1}", &Limits::default()).expect_err("not UTF-8");
    assert_eq!(error.kind, Semantic);
    let many = format!(
        r#"{{"queries":[{}]}}"#,
        vec![r#"{"rank_by":["id","asc"],"limit":1}"#; 17].join(",")
    );
    assert!(parse_str(&many).expect_err("17").message.contains("got 17"));
}
