//! What bodies become.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMillisecondType, UInt64Type};
use half::f16;

use super::*;
use crate::model::{AttrType, Element, Id, IdKind, Metric, Scalar, encoding};

#[test]
fn every_type_is_read_from_its_documented_forms() {
    let w = write(
        r#"{"schema": {"s": "string", "i": "int", "u": "uint", "f": "float", "g": "uuid", "t": "datetime", "b": "bool",
            "y": "bytes", "as": "[]string", "ai": "[]int", "au": "[]uint", "af": "[]float", "ag": "[]uuid",
            "at": "[]datetime", "ab": "[]bool", "mv": "[][2]f32", "sp": "{}f16"},
        "upsert_rows": [{"id": 1, "s": "\u00e4\n\ud83d\ude00", "i": -9223372036854775808, "u": 18446744073709551615,
            "f": 3, "g": "67E55044-10B1-426F-9247-bb680e5fe0c8", "t": "2024-01-01T00:00:00+00:00", "b": true,
            "y": "YWI=", "as": ["a, ]\"", "" ], "ai": [ 1 , -2 ], "au": [], "af": [1, 2.5],
            "ag": ["67e55044-10b1-426f-9247-bb680e5fe0c8"], "at": [5, "1970-01-01T00:00:00.007Z"], "ab": [true, false],
            "mv": [[1, 2], [3, 4]], "sp": {"otter": 1.25, "12": 0.5}}, {"id": 2}]}"#,
    )
    .unwrap();
    let rows = w.upserts.unwrap();
    let column = |name| values(&rows, name);
    for named in &rows.columns {
        let Column::Values(array) = &named.column else { panic!() };
        assert_eq!(
            Some(array.data_type().clone()),
            crate::model::batch::arrow_type(named.ty),
            "{}",
            named.name
        );
        assert_eq!((array.len(), array.is_null(1)), (2, true), "{}", named.name);
    }
    assert_eq!(column("s").as_string::<i64>().value(0), "ä\n😀");
    assert_eq!(column("i").as_primitive::<Int64Type>().value(0), i64::MIN);
    assert_eq!(column("u").as_primitive::<UInt64Type>().value(0), u64::MAX);
    assert_eq!(column("f").as_primitive::<Float64Type>().value(0), 3.0);
    assert_eq!(column("g").as_fixed_size_binary().value(0)[..2], [0x67, 0xe5]);
    assert_eq!(
        column("t").as_primitive::<TimestampMillisecondType>().value(0),
        1_704_067_200_000
    );
    assert!(column("b").as_boolean().value(0));
    assert_eq!(column("y").as_binary::<i64>().value(0), b"ab");
    let strings = column("as").as_list::<i32>().value(0);
    assert_eq!(
        strings.as_string::<i64>().iter().flatten().collect::<Vec<_>>(),
        ["a, ]\"", ""]
    );
    assert_eq!(
        column("ai")
            .as_list::<i32>()
            .value(0)
            .as_primitive::<Int64Type>()
            .values()[..],
        [1, -2]
    );
    assert!(column("au").is_valid(0) && column("au").as_list::<i32>().value(0).is_empty());
    assert_eq!(
        column("af")
            .as_list::<i32>()
            .value(0)
            .as_primitive::<Float64Type>()
            .values()[..],
        [1.0, 2.5]
    );
    let times = column("at").as_list::<i32>().value(0);
    assert_eq!(times.as_primitive::<TimestampMillisecondType>().values()[..], [5, 7]);
    assert_eq!(column("ab").as_list::<i32>().value(0).as_boolean().true_count(), 1);
    let multi = column("mv");
    assert_eq!(
        encoding::decode_multi_vector(multi.as_binary::<i64>().value(0), 2).unwrap(),
        [1.0, 2.0, 3.0, 4.0]
    );
    let sparse = column("sp");
    assert_eq!(
        encoding::decode_sparse(sparse.as_binary::<i64>().value(0)).unwrap(),
        [("12", f16::from_f32(0.5)), ("otter", f16::from_f32(1.25))]
    );
    // Both ids, then in the order of the schema above.
    let expected = 16 + 7 + 8 + 8 + 8 + 16 + 8 + 1 + 2 + 5 + 16 + 16 + 16 + 16 + 2 + 16 + 11;
    assert_eq!(w.logical_bytes, expected);
}

#[test]
fn types_are_inferred_from_the_first_value_that_tells() {
    let w = write(
        r#"{"distance_metric": "euclidean_squared", "upsert_rows": [
            {"id": "x", "vector": [1, 2.5], "s": null, "as": [], "nothing": null, "empty": []},
            {"id": "y", "vector": "AACAPwAAAEA=", "s": "a", "i": 1, "f": 0.5, "b": false, "as": ["a"], "ai": [1],
             "af": [1, 0.5], "ab": [true]}]}"#,
    )
    .unwrap();
    let found: Vec<(String, String)> = w
        .schema
        .puts
        .iter()
        .map(|a| (a.name.to_string(), a.ty.to_string()))
        .collect();
    let found: Vec<(&str, &str)> = found.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
    let expected = [
        ("ab", "[]bool"),
        ("af", "[]float"),
        ("ai", "[]int"),
        ("as", "[]string"),
        ("b", "bool"),
        ("f", "float"),
        ("i", "int"),
        ("s", "string"),
        ("vector", "[2]f32"),
    ];
    assert_eq!(found, expected);
    assert_eq!(w.schema.id_kind, Some(IdKind::String));
    let rows = w.upserts.unwrap();
    assert_eq!(floats(&rows, "vector"), [1.0, 2.5, 1.0, 2.0]);
    assert!(
        values(&rows, "as").is_valid(0),
        "an empty array is a value once the type is known"
    );
    assert_eq!(rows.columns.len(), 9);
    let vector = w.schema.puts.iter().find(|a| &*a.name == "vector").unwrap();
    assert_eq!(
        (vector.ann, vector.metric),
        (Some(Metric::EuclideanSquared), Some(Metric::EuclideanSquared))
    );
    assert!(!vector.filterable && w.schema.puts[0].filterable);
}

#[test]
fn vectors_may_come_as_numbers_base64_and_flat() {
    let head = r#"{"distance_metric": "cosine_distance", "upsert_columns": {"id": [1, 2], "vector": "#;
    for column in [
        "[[0.1, 0.2, 0.3], [1, -2e0, 3.5]]",
        r#"["zczMPc3MTD6amZk+", [1, -2, 3.5]]"#,
        "[0.1, 0.2, 0.3, 1, -2, 3.5]",
        "[ 0.1 ,0.2, 0.3 , 1, -2.0, 35e-1 ]",
    ] {
        let w = write(&format!("{head}{column}}}}}")).unwrap();
        assert_eq!(
            floats(w.upserts.as_ref().unwrap(), "vector"),
            [0.1, 0.2, 0.3, 1.0, -2.0, 3.5],
            "{column}"
        );
        assert_eq!(w.logical_bytes, 2 * (8 + 12));
    }
}

#[test]
fn base64_is_f32_whatever_the_column_holds() {
    for (ty, expected) in [("[2]f16", vec![0, 0x3c, 0, 0x40]), ("[2]i8", vec![1, 2])] {
        for vector in [r#""AACAPwAAAEA=""#, "[1.0, 2]", r#""AACAPwAAAEA\u003d""#] {
            let w = write(&format!(
                r#"{{"distance_metric": "cosine_distance", "schema": {{"vector": "{ty}"}},
                    "upsert_rows": [{{"id": 1, "vector": {vector}}}]}}"#
            ))
            .unwrap();
            let rows = w.upserts.unwrap();
            let Column::Vectors(v) = &rows.columns[0].column else {
                panic!()
            };
            assert_eq!(v.row(0), expected, "{ty} {vector}");
        }
    }
}

#[test]
fn rows_and_columns_of_one_request_are_one_batch() {
    let w = write(
        r#"{"upsert_rows": [{"id": 1, "a": 1, "a": 2}], "upsert_columns": {"b": ["x", null], "id": [2, 3], "a": [5, 6]},
            "deletes": [9, 10]}"#,
    )
    .unwrap();
    let rows = w.upserts.unwrap();
    assert_eq!(
        (0..3).map(|r| rows.ids.get(r)).collect::<Vec<_>>(),
        [Id::UInt(1), Id::UInt(2), Id::UInt(3)]
    );
    assert_eq!(
        values(&rows, "a").as_primitive::<Int64Type>().values()[..],
        [2, 5, 6],
        "the last of two keys counts"
    );
    assert_eq!(values(&rows, "b").null_count(), 2);
    assert_eq!(w.deletes.unwrap().len(), 2);
}

#[test]
fn patches_are_grouped_by_the_attributes_they_name() {
    let w = write(
        r#"{"patch_rows": [{"id": 1, "a": 1}, {"id": 2, "b": "x", "a": 2}, {"a": null, "id": 3}, {"id": 4}],
            "patch_columns": {"id": [5], "a": [9], "b": [null]}}"#,
    )
    .unwrap();
    let groups = w.patches.unwrap();
    let ids = |g: &RowBatch| {
        (0..g.len())
            .map(|r| g.ids.get(r).to_string())
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(groups.iter().map(ids).collect::<Vec<_>>(), ["1 3", "2 5", "4"]);
    let a = values(&groups[0], "a");
    assert!(a.is_valid(0) && a.is_null(1), "a null that was given sets null");
    assert!(
        groups[0].column("b").is_none(),
        "an attribute that was not given is no column"
    );
    assert_eq!(values(&groups[1], "a").as_primitive::<Int64Type>().values()[..], [2, 9]);
    assert!(groups[2].columns.is_empty());
    assert_eq!(w.logical_bytes, 5 * 8 + 3 * 8 + 1);
}

#[test]
fn empty_requests_change_nothing() {
    for body in [
        "",
        " \n",
        "{}",
        r#"{"upsert_rows": [], "deletes": [], "patch_rows": null, "schema": null}"#,
    ] {
        let w = write(body).unwrap();
        assert!(
            w.schema.is_empty() && w.upserts.is_none() && w.patches.is_none() && w.deletes.is_none(),
            "{body}"
        );
    }
    let body = r#"{"upsert_condition": null, "return_affected_ids": false, "encryption": {"mode": "default"},
        "create_namespace": false, "disable_backpressure": true, "sharding": null}"#;
    let w = write(body).unwrap();
    assert_eq!((w.create_namespace, w.disable_backpressure), (Some(false), true));
}

#[test]
fn a_schema_comes_before_the_rows_and_keeps_what_it_does_not_mention() {
    let first = r#"{"schema": {"id": "uuid", "t": {"full_text_search": {"k1": 2}}, "x": "float"},
        "upsert_rows": [{"id": "67e55044-10b1-426f-9247-bb680e5fe0c8", "t": "hello", "x": 1}]}"#;
    let mut schema = schema_of(first);
    let t = schema.get("t").unwrap();
    assert_eq!(
        (t.ty, t.filterable),
        (AttrType::Scalar(Scalar::String), false),
        "typed by its first value"
    );
    let update = |schema: &mut Schema, body: &str| {
        let change = prepare_schema(body.as_bytes(), schema, &Limits::default()).unwrap();
        schema.apply(&change);
    };
    update(&mut schema, r#"{"t": {"filterable": true}}"#);
    assert_eq!(schema.get("t").unwrap().full_text.unwrap().k1, 2.0);
    update(&mut schema, r#"{"t": {"full_text_search": {"b": 0.5}}}"#);
    let t = schema.get("t").unwrap().clone();
    assert_eq!(
        (t.full_text.unwrap().k1, t.full_text.unwrap().b, t.filterable),
        (1.2, 0.5, true)
    );
    update(&mut schema, r#"{"t": {"full_text_search": false}}"#);
    assert_eq!(schema.get("t").unwrap().full_text, None);
    update(&mut schema, "");
    let (old_id, next) = (t.id, schema.next_attribute_id());
    let body =
        r#"{"schema": {"t": {"drop": true}}, "patch_rows": [{"id": "67e55044-10b1-426f-9247-bb680e5fe0c8", "t": 1}]}"#;
    let again = prepare(body.as_bytes(), &schema, &Limits::default()).unwrap();
    schema.apply(&again.schema);
    let t = schema.get("t").unwrap();
    assert_eq!((t.ty, t.id), (AttrType::Scalar(Scalar::Int), next));
    assert_ne!(
        t.id, old_id,
        "an attribute that was dropped and came back is another one"
    );
}

#[test]
fn the_metric_may_be_the_requests_or_the_columns() {
    let body = r#"{"distance_metric": "cosine_distance", "schema": {"vector": {"type": "[1]f32",
        "ann": {"distance_metric": "euclidean_squared"}}, "w": {"type": "[1]i8"}},
        "upsert_rows": [{"id": 1, "vector": [1], "w": [1]}]}"#;
    let schema = schema_of(body);
    let (vector, w) = (schema.get("vector").unwrap(), schema.get("w").unwrap());
    assert_eq!(vector.ann, Some(Metric::EuclideanSquared));
    assert_eq!(
        (w.ann, w.metric),
        (None, Some(Metric::CosineDistance)),
        "only `vector` has an index unasked"
    );
    assert_eq!(
        w.ty,
        AttrType::Vector {
            dims: 1,
            element: Element::I8
        }
    );
    let again = prepare(body.as_bytes(), &schema, &Limits::default()).unwrap();
    assert!(again.schema.is_empty(), "the same request may be sent again");
    let patch = br#"{"distance_metric": "euclidean_squared", "patch_rows": [{"id": 1, "a": 1}]}"#;
    assert!(prepare(patch, &schema, &Limits::default()).is_ok());
}

#[test]
fn a_write_fits_a_schema_that_changed_elsewhere_only() {
    let mut schema = schema_of(r#"{"schema": {"a": "int"}, "upsert_rows": [{"id": 1}]}"#);
    let same = prepare(br#"{"upsert_rows": [{"id": 2, "a": 1}]}"#, &schema, &Limits::default()).unwrap();
    let typeless = prepare(
        br#"{"patch_rows": [{"id": 2, "b": null}]}"#,
        &schema,
        &Limits::default(),
    )
    .unwrap();
    let adds = prepare(br#"{"upsert_rows": [{"id": 2, "c": 1}]}"#, &schema, &Limits::default()).unwrap();
    assert!(same.fits(&schema) && typeless.fits(&schema) && adds.fits(&schema));
    let change = prepare_schema(br#"{"b": "string"}"#, &schema, &Limits::default()).unwrap();
    schema.apply(&change);
    assert!(same.fits(&schema));
    assert!(!typeless.fits(&schema), "the null would now set a null");
    assert!(!adds.fits(&schema), "its attribute number is taken");
}

#[test]
fn a_write_does_not_fit_a_namespace_that_was_made_anew_with_vectors_or_other_ids() {
    let schema = schema_of(r#"{"upsert_rows": [{"id": 1}]}"#);
    let write = prepare(br#"{"upsert_rows": [{"id": 2}]}"#, &schema, &Limits::default()).unwrap();
    let deletes = prepare(br#"{"deletes": [2]}"#, &schema, &Limits::default()).unwrap();
    let vectors = r#"{"upsert_rows": [{"id": 1, "vector": [1, 2]}], "distance_metric": "cosine_distance"}"#;
    assert!(!write.fits(&schema_of(vectors)), "its row has no vector");
    let strings = schema_of(r#"{"upsert_rows": [{"id": "a"}]}"#);
    assert!(!write.fits(&strings) && !deletes.fits(&strings));
}
