//! Every limit on requests, at the limit and one past it. Those too large to reach are overridden.

use serde_json::Map;

use super::*;
use crate::model::Limits;

/// What is sent when `n` of something are asked for: method, path, body.
type Ask = fn(&str, usize) -> (&'static str, String, Json);

/// Limits on a request that needs nothing to be there before. `$` stands for a new namespace.
const WRITES: &[(&str, usize, u16, Ask)] = &[
    ("bytes of a namespace name", 128, 400, |_, n| {
        ("POST", format!("/v2/namespaces/{}", "a".repeat(n)), row(json!({})))
    }),
    ("bytes of an attribute name", 128, 400, |ns, n| {
        write(ns, row(json!({"a".repeat(n): 1})))
    }),
    ("id_bytes_max: bytes of a string id", 64, 400, |ns, n| {
        write(ns, json!({"upsert_rows": [{"id": "x".repeat(n)}]}))
    }),
    ("attributes_max: attributes", 1024, 400, |ns, n| {
        write(ns, row((0..n).map(|i| (format!("a{i}"), json!(1))).collect()))
    }),
    ("vector_columns_max: dense vector columns", 8, 400, |ns, n| {
        let column = |i| (format!("v{i}"), json!({"type": "[1]f32", "ann": true}));
        let rows = row((0..n).map(|i| (format!("v{i}"), json!([1]))).collect());
        let schema: Map<String, Json> = (0..n).map(column).collect();
        write(
            ns,
            with(
                with(rows, "schema", schema.into()),
                "distance_metric",
                "cosine_distance".into(),
            ),
        )
    }),
    ("dimensions", 10_752, 400, |ns, n| {
        let body = row(json!({"vector": vec![1; n]}));
        write(ns, with(body, "distance_metric", "cosine_distance".into()))
    }),
    ("sparse_entries_max: entries of a sparse vector", 1024, 400, |ns, n| {
        let entries: Map<String, Json> = (0..n).map(|i| (i.to_string(), json!(0.5))).collect();
        write(ns, with(row(json!({"s": entries})), "schema", json!({"s": "{}f16"})))
    }),
    (
        "filterable_bytes_max: bytes of a filterable value",
        4096,
        400,
        |ns, n| write(ns, row(json!({"s": "x".repeat(n)}))),
    ),
    (
        "filterable_bytes_max: bytes of a filterable element",
        4096,
        400,
        |ns, n| write(ns, row(json!({"s": ["x".repeat(n)]}))),
    ),
    ("value_bytes_max: bytes of a value", VALUE, 400, |ns, n| {
        write(
            ns,
            with(
                row(json!({"s": "x".repeat(n)})),
                "schema",
                json!({"s": {"type": "string", "filterable": false}}),
            ),
        )
    }),
    // 8 of the id.
    ("row_bytes_max: bytes of a row", ROW, 400, |ns, n| {
        let value = |bytes: usize| "x".repeat(bytes);
        let off = json!({"type": "string", "filterable": false});
        let row = row(json!({"s": value(VALUE), "t": value(n - 8 - VALUE)}));
        write(ns, with(row, "schema", json!({"s": off, "t": off})))
    }),
    ("body_bytes_max: bytes of a body", BODY, 413, |ns, n| {
        let frame = row(json!({"s": ""})).to_string().len();
        // White space: no value may be so long here.
        let (method, path, _) = write(ns, Json::Null);
        (
            method,
            path,
            Json::String(" ".repeat(n - frame) + &row(json!({"s": ""})).to_string()),
        )
    }),
];

/// Limits on a request to the namespace `seeded`.
const READS: &[(&str, usize, u16, Ask)] = &[
    ("rows_max: rows of an answer", 10_000, 400, |_, n| {
        query(json!({"rank_by": ["id", "asc"], "limit": n}))
    }),
    ("rows_max: rows of an answer, as top_k", 10_000, 400, |_, n| {
        query(json!({"rank_by": ["id", "asc"], "top_k": n}))
    }),
    ("rows_max: rows of an answer in v1", 10_000, 400, |_, n| {
        ("POST", "/v1/namespaces/seeded/query".into(), json!({"top_k": n}))
    }),
    ("subqueries_max: sub-queries", 16, 400, |_, n| {
        query(json!({"queries": vec![json!({"rank_by": ["id", "asc"], "limit": 1}); n]}))
    }),
    ("text_query_chars_max: characters of a text query", 8192, 400, |_, n| {
        query(json!({"rank_by": ["t", "BM25", "é".repeat(n)], "limit": 1}))
    }),
    ("order_keys_max: keys of an order", 8, 400, |_, n| {
        query(json!({"rank_by": vec![json!(["id", "asc"]); n], "limit": 1}))
    }),
    ("conditions of a filter", 1024, 400, |_, n| {
        // One for the And itself.
        query(json!({"filters": ["And", vec![json!(["id", "Gt", 0]); n - 1]], "limit": 1}))
    }),
    ("names per page", 1000, 400, |_, n| {
        ("GET", format!("/v1/namespaces?page_size={n}"), Json::Null)
    }),
    ("recall_queries_max: queries of a recall", 1000, 400, |_, n| {
        recall(json!({"num": n, "top_k": 1}))
    }),
    ("neighbours of a recall", 10_000, 400, |_, n| {
        recall(json!({"num": 1, "top_k": n}))
    }),
    ("rows of a ground truth", 10_000, 400, |_, n| {
        recall(json!({"num": 1, "top_k": n, "include_ground_truth": true}))
    }),
    (
        "ranked_rows_max: rows that offset and limit reach",
        100_000,
        400,
        |_, n| query(json!({"rank_by": ["id", "asc"], "limit": 10, "offset": n - 10})),
    ),
    ("groups_max: groups", 10_000, 400, |_, n| {
        query(json!({"aggregate_by": {"n": ["Count"]}, "group_by": ["a0"], "limit": n}))
    }),
    ("aggregates_max: aggregates", 32, 400, |_, n| {
        let all: Map<String, Json> = (0..n).map(|i| (format!("n{i}"), json!(["Count"]))).collect();
        query(json!({"aggregate_by": all}))
    }),
    ("group_keys_max: elements of group_by", 8, 400, |_, n| {
        query(json!({"aggregate_by": {"n": ["Count"]}, "group_by": some_attributes(n)}))
    }),
    ("group_keys_max: attributes of limit.per", 8, 400, |_, n| {
        let per = json!({"attributes": some_attributes(n), "limit": 1});
        query(json!({"rank_by": ["id", "asc"], "limit": {"total": 1, "per": per}}))
    }),
    ("top_values_max: values of a Top", 1000, 400, |_, n| {
        query(json!({"aggregate_by": {"t": ["Top", "a0", n]}}))
    }),
    (
        "text_query_chars_max: characters of a token filter",
        8192,
        400,
        |_, n| query(json!({"filters": ["t", "ContainsAnyToken", "é".repeat(n)], "limit": 1})),
    ),
    ("filter_values_max: values of a filter", FILTER_VALUES, 400, |_, n| {
        query(json!({"filters": ["id", "In", vec![1; n]], "limit": 1}))
    }),
    ("pattern_bytes_max: bytes of a glob", 4096, 400, |_, n| {
        query(json!({"filters": ["g", "Glob", "g".repeat(n)], "limit": 1}))
    }),
    ("pattern_bytes_max: bytes of a regular expression", 4096, 400, |_, n| {
        query(json!({"filters": ["g", "Regex", "g".repeat(n)], "limit": 1}))
    }),
    (
        "fuzzy_query_chars_max: characters of a fuzzy query",
        1024,
        400,
        |_, n| {
            let options = json!({"max_edit_distance": [{"min_query_chars": 6, "distance": 1}]});
            query(json!({"filters": ["g", "Fuzzy", "é".repeat(n), options], "limit": 1}))
        },
    ),
    ("computed_attributes_max: computed attributes", 256, 400, |_, n| {
        let all: Map<String, Json> = (0..n).map(|i| (format!("c{i}"), json!(["id", "Eq", 1]))).collect();
        query(json!({"rank_by": ["id", "asc"], "limit": 1, "compute_attributes": all}))
    }),
    ("fragments_max: fragments of a highlight", 1024, 400, |_, n| {
        let highlight = json!(["Highlight", "t", {"fragment_limit": n}]);
        query(json!({"rank_by": ["t", "BM25", "text"], "limit": 1, "compute_attributes": {"h": highlight}}))
    }),
    ("rank_depth_max: levels of a ranking expression", 32, 400, |_, n| {
        let text = json!(["t", "BM25", "text"]);
        query(json!({"rank_by": (1..n).fold(text, |of, _| json!(["Product", 1, of])), "limit": 1}))
    }),
    (
        "rank_nodes_max: expressions of a ranking expression",
        1024,
        400,
        |_, n| {
            // One for the Sum itself.
            query(json!({"rank_by": ["Sum", vec![json!(["t", "BM25", "text"]); n - 1]], "limit": 1}))
        },
    ),
    ("rank_nodes_max: conditions of filters in one", 1024, 400, |_, n| {
        // Two for the Sum and the Or.
        let filter = json!(["Or", vec![json!(["id", "Gt", 0]); n - 2]]);
        query(json!({"rank_by": ["Sum", [filter]], "limit": 1}))
    }),
    ("query_vectors_max: vectors of a query", QUERY_VECTORS, 400, |_, n| {
        query(json!({"rank_by": ["m1", "ANN", vec![[1]; n]], "limit": 1}))
    }),
    (
        "query_vector_elements_max: elements of them",
        QUERY_ELEMENTS,
        400,
        |_, n| {
            let mut vectors = vec![json!([1, 2, 3]); n / 3];
            vectors.extend((n % 3 > 0).then(|| vec![1; n % 3].into()));
            query(json!({"rank_by": ["m3", "ANN", vectors], "limit": 1}))
        },
    ),
    (
        "query_body_bytes_max: bytes of a query's body",
        QUERY_BODY,
        413,
        |_, n| {
            let text = json!({"rank_by": ["id", "asc"], "limit": 1}).to_string();
            let (method, path, _) = query(Json::Null);
            (method, path, Json::String(" ".repeat(n - text.len()) + &text))
        },
    ),
];

const VALUE: usize = 50_000;
const ROW: usize = 60_000;
const BODY: usize = 300_000;
const QUERY_BODY: usize = 100_000;
const FILTER_VALUES: usize = 5000;
/// Vectors of one element reach the first, vectors of three the second.
const QUERY_VECTORS: usize = 100;
const QUERY_ELEMENTS: usize = 150;

/// Where the limits are shown that no single request can show.
const ELSEWHERE: &[(&str, &str)] = &[
    ("embedded_attributes_max", "model::write::tests::embedding"),
    ("embedded_rows_max", "model::write::tests::embedding"),
    (
        "distinct_bytes_max",
        "query::aggregate::tests::what_does_not_fit_into_memory_is_refused_however_it_is_dealt_out",
    ),
    (
        "combinations_max",
        "query::aggregate::tests::what_does_not_fit_into_memory_is_refused_however_it_is_dealt_out",
    ),
    ("delete_by_filter_max", "rows_of_writes_by_filter_are_limited"),
    ("patch_by_filter_max", "rows_of_writes_by_filter_are_limited"),
    ("answer_bytes_max", "answers_are_bounded_in_memory"),
    ("query_slots_max", "namespace::admission::tests"),
    ("query_wait_max", "namespace::admission::tests"),
    ("query_time_max", "api::tests"),
    ("unindexed_bytes_max", "writes_wait_when_too_much_is_not_indexed"),
];

fn some_attributes(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("a{i}")).collect()
}

fn row(mut attributes: Json) -> Json {
    attributes["id"] = 1.into();
    json!({"upsert_rows": [attributes]})
}

fn with(mut body: Json, field: &str, value: Json) -> Json {
    body[field] = value;
    body
}

fn write(namespace: &str, body: Json) -> (&'static str, String, Json) {
    ("POST", format!("/v2/namespaces/{namespace}"), body)
}

fn query(body: Json) -> (&'static str, String, Json) {
    ("POST", "/v2/namespaces/seeded/query".into(), body)
}

fn recall(body: Json) -> (&'static str, String, Json) {
    ("POST", "/v1/namespaces/seeded/_debug/recall".into(), body)
}

fn limited() -> EngineOptions {
    EngineOptions {
        limits: Limits {
            value_bytes_max: VALUE,
            row_bytes_max: ROW,
            body_bytes_max: BODY as u64,
            query_body_bytes_max: QUERY_BODY as u64,
            filter_values_max: FILTER_VALUES,
            query_vectors_max: QUERY_VECTORS,
            query_vector_elements_max: QUERY_ELEMENTS,
            ..Limits::default()
        },
        ..EngineOptions::default()
    }
}

/// One of these is in what is said of a request past its limit.
const LIMIT_WORDS: &[&str] = &[
    "at most",
    " 1 to ",
    "must have 1",
    "up to",
    "maximum",
    "longer than",
    "limit",
];

/// A string is the text of a body, null is none.
fn text(body: Json) -> String {
    match body {
        Json::Null => String::new(),
        Json::String(text) => text,
        tree => tree.to_string(),
    }
}

#[tokio::test]
async fn every_limit_holds_at_the_limit_and_one_past_it() {
    let app = app_with(limited()).await;
    let late = |ty| json!({"type": ty, "ann": {"late_interaction": true}});
    let mut seed = json!({
        "schema": {"t": {"type": "string", "full_text_search": true}, "m1": late("[][1]f32"), "m3": late("[][3]f32"),
                   "g": {"type": "string", "glob": true, "regex": true, "fuzzy": true}},
        "upsert_rows": [{"id": 1, "vector": [1, 2], "t": "a text", "g": "g"}], "distance_metric": "cosine_distance",
    });
    for name in some_attributes(9) {
        seed["upsert_rows"][0][name] = 1.into();
    }
    let (status, json) = send(&app, request("POST", "/v2/namespaces/seeded", seed.to_string())).await;
    assert_eq!(status, 200, "{json}");
    for (i, (what, limit, past, ask)) in WRITES.iter().chain(READS).enumerate() {
        for (n, expected) in [(*limit, 200), (*limit + 1, *past)] {
            let (method, path, body) = ask(&format!("ns-{i}-{n}"), n);
            let (status, json) = send(&app, request(method, &path, text(body))).await;
            let shown: String = json.to_string().chars().take(300).collect();
            assert_eq!(status, expected, "{n}, {what}: {shown}");
            if n > *limit && expected == 400 {
                let sentence = json["error"].as_str().unwrap_or_default();
                assert!(
                    LIMIT_WORDS.iter().any(|word| sentence.contains(word)),
                    "{n}, {what}: {shown}"
                );
            }
        }
    }
}

#[test]
fn every_field_of_the_table_of_limits_is_tested() {
    let shown = format!("{:#?}", Limits::default());
    let fields = shown
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.split_once(": "));
    let mut found = 0;
    for (field, _) in fields {
        let requests = WRITES.iter().chain(READS).map(|(what, ..)| *what);
        let here = requests
            .filter_map(|what| what.split_once(": "))
            .any(|(of, _)| of == field);
        assert!(
            here || ELSEWHERE.iter().any(|(of, _)| *of == field),
            "no test of {field}"
        );
        found += 1;
    }
    assert!(found >= 38, "{found} fields");
}

#[tokio::test]
async fn rows_of_writes_by_filter_are_limited() {
    let options = EngineOptions {
        limits: Limits {
            delete_by_filter_max: 3,
            patch_by_filter_max: 2,
            ..Limits::default()
        },
        ..EngineOptions::default()
    };
    let app = app_with(options).await;
    let all = json!(["id", "Gte", 0]);
    for (what, limit, body) in [
        ("deletes", 3, json!({"delete_by_filter": all})),
        (
            "patches",
            2,
            json!({"patch_by_filter": {"filters": all, "patch": {"a": 1}}}),
        ),
    ] {
        for (n, expected) in [(limit, 200), (limit + 1, 400)] {
            let path = format!("/v2/namespaces/{what}-{n}");
            let rows: Vec<Json> = (0..n).map(|id| json!({"id": id})).collect();
            let rows = json!({"upsert_rows": rows}).to_string();
            assert_eq!(send(&app, request("POST", &path, rows)).await.0, 200);
            let (status, json) = send(&app, request("POST", &path, body.to_string())).await;
            assert_eq!(status, expected, "{n} {what}: {json}");
        }
    }
}

#[tokio::test]
async fn writes_wait_when_too_much_is_not_indexed() {
    let options = EngineOptions {
        limits: Limits {
            unindexed_bytes_max: 1,
            ..Limits::default()
        },
        ..EngineOptions::default()
    };
    let app = app_with(options).await;
    let body = |more: &str| format!(r#"{{"upsert_rows":[{{"id":1}}]{more}}}"#);
    assert_eq!(send(&app, request("POST", "/v2/namespaces/n", body(""))).await.0, 200);
    let response = app.clone().oneshot(request("POST", "/v2/namespaces/n", body(""))).await;
    let response = response.expect("infallible");
    assert_eq!(response.status(), 429);
    assert!(response.headers().contains_key(header::RETRY_AFTER));
    let pressed = body(r#","disable_backpressure":true"#);
    assert_eq!(send(&app, request("POST", "/v2/namespaces/n", pressed)).await.0, 200);
}

#[tokio::test]
async fn answers_are_bounded_in_memory() {
    let options = EngineOptions {
        limits: Limits {
            answer_bytes_max: 20_000,
            ..Limits::default()
        },
        ..EngineOptions::default()
    };
    let app = app_with(options).await;
    let rows: Vec<Json> = (0..10)
        .map(|id| json!({"id": id, "s": "x".repeat(1500), "n": id}))
        .collect();
    let rows = json!({"upsert_rows": rows, "schema": {"s": {"type": "string", "filterable": false}}});
    assert_eq!(
        send(&app, request("POST", "/v2/namespaces/n", rows.to_string()))
            .await
            .0,
        200
    );
    let all = |limit: usize| json!({"rank_by": ["id", "asc"], "limit": limit, "include_attributes": true});
    for (body, expected) in [
        (all(10), 200),
        (json!({"queries": [all(10)]}), 200),
        // Together they are too much.
        (json!({"queries": [all(10), all(10)]}), 400),
        (json!({"queries": [all(5), all(5)]}), 200),
        (
            json!({"queries": [{"rank_by": ["id", "asc"], "limit": 10, "include_attributes": ["n"]}, all(9)]}),
            200,
        ),
    ] {
        let (status, json) = send(&app, request("POST", "/v2/namespaces/n/query", body.to_string())).await;
        assert_eq!(status, expected, "{body}: {json}");
        if status == 400 {
            let said = json["error"].as_str().expect("a sentence");
            assert!(said.contains("at most 20000 bytes"), "{said}");
        }
    }
}
