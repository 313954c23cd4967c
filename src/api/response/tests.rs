use std::sync::Arc;

use half::f16;
use uuid::Uuid;

use super::*;
use crate::cache::ReadCounts;
use crate::model::{Schema, Seq};
use crate::query::{FragmentOffsets, Rank};

fn outcome(results: Vec<QueryResult>) -> QueryOutcome {
    QueryOutcome {
        results,
        seq: Seq(3),
        schema: Arc::new(Schema::default()),
        hides_id: false,
        last_included_write_ms: 1_704_067_200_000,
        approx_namespace_rows: 98,
        exhaustive_search_rows: 7,
        execution: Duration::from_micros(1),
        cold: false,
        reads: ReadCounts::default(),
        embedding: None,
    }
}

fn row(id: Id, rank: Option<Rank>, attributes: Vec<(&str, Value)>) -> ResultRow {
    let attributes = attributes.into_iter().map(|(name, v)| (Arc::from(name), v)).collect();
    ResultRow {
        id,
        rank,
        attributes,
        computed: Vec::new(),
    }
}

fn vector(elements: &[f32]) -> Value {
    Value::Vector(Vector::F32(elements.to_vec()))
}

#[test]
fn rows_can_be_shown_without_ids() {
    let rows = vec![
        row(Id::String("".into()), None, vec![]),
        row(
            Id::String("".into()),
            Some(Rank::Score(2.0)),
            vec![("a", Value::Int(1))],
        ),
        row(Id::String("".into()), None, vec![("a", Value::Int(2))]),
    ];
    let mut hidden = outcome(vec![QueryResult::Rows(rows)]);
    hidden.hides_id = true;
    let body = query(&hidden, false, VectorEncoding::Float, Duration::ZERO);
    let text = String::from_utf8(body).expect("JSON is UTF-8");
    assert!(
        text.starts_with(r#"{"rows":[{},{"$dist":2.0,"a":1},{"a":2}],"#),
        "{text}"
    );
}

fn rows_text(rows: Vec<ResultRow>, encoding: VectorEncoding) -> String {
    let mut out = Vec::new();
    json::result(&mut out, &QueryResult::Rows(rows), encoding);
    String::from_utf8(out).expect("JSON is UTF-8")
}

#[test]
fn an_answer_is_exactly_the_documented_text() {
    let rows = vec![
        row(
            Id::UInt(7),
            Some(Rank::Distance(0.01)),
            vec![("kind", Value::String("otter".into())), ("vector", vector(&[0.7, 2.0]))],
        ),
        row(Id::UInt(10), Some(Rank::Distance(0.0)), vec![]),
    ];
    let body = query(
        &outcome(vec![QueryResult::Rows(rows)]),
        false,
        VectorEncoding::Float,
        Duration::from_micros(3100),
    );
    assert_eq!(
        String::from_utf8(body).expect("UTF-8"),
        concat!(
            r#"{"rows":[{"id":7,"$dist":0.01,"kind":"otter","vector":[0.7,2.0]},{"id":10,"$dist":0.0}],"#,
            r#""billing":{"billable_logical_bytes_queried":256000000,"billable_logical_bytes_returned":37},"#,
            r#""performance":{"approx_namespace_size":98,"cache_hit_ratio":1.0,"cache_temperature":"hot","#,
            r#""exhaustive_search_count":7,"query_execution_ms":1,"server_total_ms":4,"#,
            r#""last_included_write_at":"2024-01-01T00:00:00.000Z"}}"#
        )
    );
}

#[test]
fn what_came_from_the_cache_is_said_with_a_decimal_point() {
    let of = |cold, memory_bytes, disk_bytes, store_bytes| {
        let reads = ReadCounts {
            memory_bytes,
            disk_bytes,
            store_bytes,
            ..ReadCounts::default()
        };
        let (ratio, temperature) = cache(&QueryOutcome {
            cold,
            reads,
            ..outcome(Vec::new())
        });
        format!("{ratio} {temperature}")
    };
    for (said, expected) in [
        (of(false, 0, 0, 0), "1.0 hot"),
        (of(true, 0, 0, 0), "0.0 cold"),
        (of(true, 10, 10, 0), "1.0 hot"),
        (of(false, 10, 0, 30), "0.25 warm"),
        (of(false, 10, 20, 10), "0.75 warm"),
        (of(false, 0, 0, 1), "0.0 cold"),
        (of(false, 1, 0, 9_999), "0.0001 cold"),
        (of(false, 1, 0, 999_999), "0.0 cold"),
        (of(false, 99_999_999, 0, 1), "0.9999 hot"),
    ] {
        assert_eq!(said, expected);
    }
}

#[test]
fn several_queries_give_a_list_of_results_and_so_does_a_list_of_one() {
    for n in [1, 2] {
        let body = query(
            &outcome(vec![QueryResult::default(); n]),
            true,
            VectorEncoding::Float,
            Duration::ZERO,
        );
        let json: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(json["results"].as_array().map(Vec::len), Some(n));
        assert_eq!(json["performance"]["server_total_ms"], 1);
    }
}

#[test]
fn bytes_returned_follow_the_published_formula() {
    let ranked = |id, attributes| row(Id::UInt(id), Some(Rank::Distance(0.5)), attributes);
    let five: Vec<_> = (0..5)
        .map(|i| {
            let mut attributes = vec![("vector", vector(&[0.1, 0.2]))];
            if i == 0 {
                attributes.push(("hello", Value::String("world".into())));
            }
            ranked(i, attributes)
        })
        .collect();
    assert_eq!(bytes_returned(&QueryResult::Rows(five)), 105);
    assert_eq!(
        bytes_returned(&QueryResult::Rows(vec![ranked(1, vec![]), ranked(2, vec![])])),
        24
    );
}

#[test]
fn every_value_prints_as_documented() {
    let uuid = Uuid::parse_str("018F4C1B-0000-7000-8000-0000000000AB").expect("a uuid");
    for (value, text) in [
        (Value::Bool(true), "true"),
        (Value::Int(i64::MIN), "-9223372036854775808"),
        (Value::UInt(u64::MAX), "18446744073709551615"),
        (Value::Float(2.0), "2.0"),
        (Value::Float(0.1), "0.1"),
        (Value::String("a\"\\\n\u{1}ä".into()), "\"a\\\"\\\\\\n\\u0001ä\""),
        (Value::Uuid(uuid), "\"018f4c1b-0000-7000-8000-0000000000ab\""),
        (Value::Datetime(1_704_067_200_123), "\"2024-01-01T00:00:00.123000000Z\""),
        (Value::Bytes(vec![1, 2, 255]), "\"AQL/\""),
        (Value::Array(vec![Value::Int(1), Value::Int(2)]), "[1,2]"),
        (Value::Array(vec![]), "[]"),
        (vector(&[0.7, 1.0, -2.5]), "[0.7,1.0,-2.5]"),
        (Value::Vector(Vector::F16(vec![f16::from_f32(0.5)])), "[0.5]"),
        (Value::Vector(Vector::I8(vec![-128, 127])), "[-128,127]"),
        (
            Value::MultiVector {
                dims: 2,
                elements: vec![1.0, 2.0, 3.0, 4.0],
            },
            "[[1.0,2.0],[3.0,4.0]]",
        ),
        (
            Value::SparseVector(vec![("12".into(), f16::from_f32(0.5))]),
            "{\"12\":0.5}",
        ),
    ] {
        let rows = vec![row(Id::String("k".into()), None, vec![("a", value)])];
        assert_eq!(
            rows_text(rows, VectorEncoding::Float),
            format!("\"rows\":[{{\"id\":\"k\",\"a\":{text}}}]")
        );
    }
}

#[test]
fn base64_holds_the_columns_own_element_type() {
    for (value, text) in [
        (vector(&[0.1, 0.2, 0.3]), "zczMPc3MTD6amZk+"),
        (vector(&[1.0, 2.0]), "AACAPwAAAEA="),
        (Value::Vector(Vector::F16(vec![f16::from_f32(1.0)])), "ADw="),
        (Value::Vector(Vector::I8(vec![-1, 1])), "/wE="),
    ] {
        let rows = vec![row(Id::UInt(1), None, vec![("v", value)])];
        assert_eq!(
            rows_text(rows, VectorEncoding::Base64),
            format!("\"rows\":[{{\"id\":1,\"v\":\"{text}\"}}]")
        );
    }
}

#[test]
fn nulls_are_left_out_and_scores_are_written_in_full() {
    let rows = vec![row(
        Id::UInt(1),
        Some(Rank::Score(1.0 / 3.0)),
        vec![("a", Value::Null), ("b\"", Value::Int(1))],
    )];
    assert_eq!(
        rows_text(rows, VectorEncoding::Float),
        r#""rows":[{"id":1,"$dist":0.3333333333333333,"b\"":1}]"#
    );
}

#[test]
fn computed_values_follow_the_attributes() {
    let computed = |c: Computed| ResultRow {
        computed: vec![("x\"".into(), c)],
        ..row(Id::UInt(1), None, vec![("a", Value::Int(2))])
    };
    let plain = Fragment {
        text: "a \"b\"".into(),
        offsets: None,
    };
    let placed = Fragment {
        text: "ab".into(),
        offsets: Some(FragmentOffsets {
            fragment: 3..5,
            matches: vec![0..1, 1..2],
        }),
    };
    for (value, text, bytes) in [
        (Computed::Distance(0.25), "0.25", 4),
        (Computed::Score(1.0), "1.0", 4),
        (Computed::Bool(true), "true", 1),
        (Computed::Fragments(vec![]), "[]", 0),
        (Computed::Fragments(vec![plain]), r#"[{"text":"a \"b\""}]"#, 5),
        (
            Computed::Fragments(vec![placed]),
            r#"[{"text":"ab","fragment_range":[3,5],"match_ranges":[[0,1],[1,2]]}]"#,
            2 + 3 * 16,
        ),
    ] {
        let row = computed(value);
        assert_eq!(row_bytes(&row), 16 + bytes, "{text}");
        assert_eq!(
            rows_text(vec![row], VectorEncoding::Float),
            format!(r#""rows":[{{"id":1,"a":2,"x\"":{text}}}]"#)
        );
    }
}

#[test]
fn a_write_counts_only_the_kinds_it_used() {
    let outcome = WriteOutcome {
        rows_remaining: None,
        searched: false,
        affected: None,
        seq: Seq(1),
        rows_upserted: Some(2),
        rows_patched: None,
        rows_deleted: Some(1),
        logical_bytes_written: 96,
        embedding: None,
    };
    assert_eq!(
        String::from_utf8(write(&outcome, Duration::from_micros(10_001))).expect("UTF-8"),
        concat!(
            r#"{"status":"OK","message":"documents committed successfully","rows_affected":3,"rows_upserted":2,"#,
            r#""rows_deleted":1,"billing":{"billable_logical_bytes_written":96},"performance":{"server_total_ms":11}}"#
        )
    );
}

#[test]
fn fresh_metadata_has_exactly_the_documented_keys() {
    let known = Metadata {
        id: Uuid::nil(),
        schema: Arc::new(Schema::default()),
        settings: Arc::default(),
        now_ms: 2,
        created_ms: 0,
        updated_ms: 1,
        last_write_ms: 1,
        approx_rows: 0,
        approx_bytes: 0,
        unindexed_rows: 3,
        unindexed_bytes: 300,
        stored_bytes: 300,
    };
    let of = |version| -> serde_json::Value { serde_json::from_slice(&metadata(&known, version)).expect("JSON") };
    assert_eq!(
        of(Version::V2),
        serde_json::json!({
            "approx_logical_bytes": 0, "approx_row_count": 0, "created_at": "1970-01-01T00:00:00.000Z",
            "updated_at": "1970-01-01T00:00:00.001Z", "last_write_at": "1970-01-01T00:00:00.001Z",
            "encryption": {"mode": "default"}, "index": {"status": "up-to-date"}, "schema": of(Version::V2)["schema"],
        })
    );
    assert_eq!(of(Version::V1)["encryption"], serde_json::json!({"sse": true}));
}

#[test]
fn metadata_shows_settings_where_they_are_set() {
    let known = Metadata {
        id: Uuid::nil(),
        schema: Arc::new(Schema::default()),
        settings: Arc::new(Settings {
            read_only: true,
            pinned_replicas: Some(3),
            num_shards: Some(4),
            parent: Some(NamespaceName::parse("parent").expect("a name")),
            ..Settings::default()
        }),
        now_ms: 2,
        created_ms: 0,
        updated_ms: 1,
        last_write_ms: 1,
        approx_rows: 0,
        approx_bytes: 0,
        unindexed_rows: 0,
        unindexed_bytes: 0,
        stored_bytes: 0,
    };
    for version in [Version::V1, Version::V2] {
        let json: serde_json::Value = serde_json::from_slice(&metadata(&known, version)).expect("JSON");
        assert_eq!(json["read_only"], true);
        assert_eq!(
            json["pinning"],
            serde_json::json!({"replicas": 3, "status": {
                "ready_replicas": 1, "replicas": 1, "updated_at": "1970-01-01T00:00:00.002Z", "utilization": 0.0,
            }})
        );
        assert_eq!(json["sharding"], serde_json::json!({"num_shards": 4}));
        assert_eq!(json["branching"], serde_json::json!({"parent": "parent"}));
    }
}

#[test]
fn pages_end_without_a_cursor() {
    let names = vec![NamespaceName::parse("a").expect("a name")];
    let page = |next_cursor| {
        String::from_utf8(namespaces(&NamespacePage {
            names: names.clone(),
            next_cursor,
        }))
        .expect("UTF-8")
    };
    assert_eq!(page(None), r#"{"namespaces":[{"id":"a"}]}"#);
    assert_eq!(
        page(Some("c".into())),
        r#"{"namespaces":[{"id":"a"}],"next_cursor":"c"}"#
    );
}

#[test]
fn aggregates_and_groups_print_as_documented() {
    let value = |label: &str, value| (Arc::from(label), AggregateValue::Value(value));
    let top = vec![(Value::String("a\"".into()), 3), (Value::String("b".into()), 1)];
    let total = vec![
        value("n", Value::UInt(42)),
        value("sum \"x\"", Value::Float(2.0)),
        value("least", Value::Null),
        value("last", Value::Datetime(0)),
        (Arc::from("top"), AggregateValue::Top(top)),
        (Arc::from("none"), AggregateValue::Top(vec![])),
    ];
    let text = |result: &QueryResult| {
        let mut out = Vec::new();
        json::result(&mut out, result, VectorEncoding::Float);
        String::from_utf8(out).expect("JSON is UTF-8")
    };
    let result = QueryResult::Aggregations(total);
    assert_eq!(
        text(&result),
        concat!(
            r#""aggregations":{"n":42,"sum \"x\"":2.0,"least":null,"last":"1970-01-01T00:00:00.000000000Z","#,
            r#""top":[{"value":"a\"","count":3},{"value":"b","count":1}],"none":[]}"#
        )
    );
    assert_eq!(bytes_returned(&result), 3 * 8 + 2 + 8 + 1 + 8);
    let group = |shop, n| Group {
        key: vec![(Arc::from("shop"), shop), (Arc::from("colour"), Value::Null)],
        values: vec![value("n", Value::UInt(n))],
    };
    let result = QueryResult::Groups(vec![group(Value::Null, 3), group(Value::String("a".into()), 1)]);
    assert_eq!(
        text(&result),
        r#""aggregation_groups":[{"shop":null,"colour":null,"n":3},{"shop":"a","colour":null,"n":1}]"#
    );
    assert_eq!(bytes_returned(&result), 8 + 1 + 8);
    let body = query(&outcome(vec![result]), false, VectorEncoding::Float, Duration::ZERO);
    let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    assert!(body["rows"].is_null() && body["billing"].is_object() && body["performance"].is_object());
}
