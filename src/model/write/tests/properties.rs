//! Random rows come back as they were; random damage never panics.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type};
use proptest::prelude::*;
use serde_json::json;

use super::*;

const SCHEMA: &str = r#"{"s": "string", "i": "int", "f": "float", "as": "[]string", "vector": "[3]f32"}"#;

#[derive(Clone, Debug)]
struct Row {
    s: Option<String>,
    i: Option<i64>,
    f: Option<f64>,
    strings: Option<Vec<String>>,
    vector: [f32; 3],
    base64: bool,
}

fn any_row() -> impl Strategy<Value = Row> {
    let finite = || any::<f32>().prop_filter("JSON has no other numbers", |x| x.is_finite());
    (
        proptest::option::of(any::<String>()),
        proptest::option::of(any::<i64>()),
        proptest::option::of(any::<f64>().prop_filter("JSON has no other numbers", |x| x.is_finite())),
        proptest::option::of(proptest::collection::vec(any::<String>(), 0..4)),
        [finite(), finite(), finite()],
        any::<bool>(),
    )
        .prop_map(|(s, i, f, strings, vector, base64)| Row {
            s,
            i,
            f,
            strings,
            vector,
            base64,
        })
}

fn body(rows: &[Row]) -> String {
    let rows: Vec<serde_json::Value> = rows
        .iter()
        .enumerate()
        .map(|(id, r)| {
            let bytes: Vec<u8> = r.vector.iter().flat_map(|x| x.to_le_bytes()).collect();
            let vector = match r.base64 {
                true => json!(base64_simd::STANDARD.encode_to_string(&bytes)),
                false => json!(r.vector),
            };
            json!({"id": id, "s": r.s, "i": r.i, "f": r.f, "as": r.strings, "vector": vector})
        })
        .collect();
    let rows = serde_json::to_string(&rows).unwrap();
    format!(r#"{{"distance_metric": "cosine_distance", "schema": {SCHEMA}, "upsert_rows": {rows}}}"#)
}

fn check(rows: &[Row], batch: &RowBatch) {
    let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let expected: Vec<f32> = rows.iter().flat_map(|r| r.vector).collect();
    assert_eq!(bits(&floats(batch, "vector")), bits(&expected));
    let column = |name: &str| batch.column(name).map(|_| values(batch, name));
    for (at, row) in rows.iter().enumerate() {
        // A column that is null in every row is left out.
        let cell = |name| column(name).filter(|c| c.is_valid(at));
        assert_eq!(cell("s").map(|c| c.as_string::<i64>().value(at).to_owned()), row.s);
        assert_eq!(cell("i").map(|c| c.as_primitive::<Int64Type>().value(at)), row.i);
        let float = cell("f").map(|c| c.as_primitive::<Float64Type>().value(at).to_bits());
        assert_eq!(float, row.f.map(f64::to_bits));
        let strings = cell("as").map(|c| {
            let list = c.as_list::<i32>().value(at);
            list.as_string::<i64>()
                .iter()
                .flatten()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        });
        assert_eq!(strings, row.strings);
    }
}

proptest! {
    #[test]
    fn rows_sent_as_json_are_the_rows_of_the_batch(rows in proptest::collection::vec(any_row(), 1..8)) {
        let w = write(&body(&rows)).unwrap();
        check(&rows, &w.upserts.unwrap());
    }

    #[test]
    fn damaged_bodies_never_panic(
        rows in proptest::collection::vec(any_row(), 1..4),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), 0..5u8, any::<u8>()), 1..6),
    ) {
        let tokens = b"{}[]\",:\\-0.1eEnu ";
        let mut bytes = body(&rows).into_bytes();
        for (at, how, byte) in damage {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes[at] = tokens[byte as usize % tokens.len()],
                2 => bytes.insert(at, tokens[byte as usize % tokens.len()]),
                3 if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let _ = prepare(&bytes, &Schema::default(), &Limits::default());
        let _ = prepare_schema(&bytes, &Schema::default(), &Limits::default());
    }

    #[test]
    fn values_of_any_kind_in_any_column_never_panic(
        name in prop_oneof![Just("s"), Just("i"), Just("f"), Just("as"), Just("vector"), Just("id"), Just("new")],
        value in prop_oneof![
            Just("null"), Just("[]"), Just("{}"), Just("[[]]"), Just("\"\""), Just("\"AAAA\""), Just("[1,2,3]"),
            Just("-0"), Just("1e999"), Just("[1e999,0,0]"), Just("true"), Just("[null]"), Just("\"\\udc00\""),
            Just("[{\"a\":[\"]\"]}]"),
        ],
        columns in any::<bool>(),
    ) {
        let rows = match columns {
            true => format!(r#""upsert_columns": {{"id": [1, 2], "{name}": [{value}, {value}]}}"#),
            false => format!(r#""upsert_rows": [{{"id": 1, "vector": [1, 2, 3], "{name}": {value}}}]"#),
        };
        let _ = write(&format!(r#"{{"distance_metric": "cosine_distance", "schema": {SCHEMA}, {rows}}}"#));
        let _ = write(&format!(r#"{{"distance_metric": "cosine_distance", {rows}}}"#));
    }
}
