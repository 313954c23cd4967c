use std::collections::BTreeSet;

use serde_json::Value as Json;

use crate::api::{document, query, routes};
use crate::model::write::prepare;
use crate::model::{InvalidKind, Limits, Schema};

fn parsed() -> Json {
    serde_json::from_str(document()).expect("the document is JSON")
}

#[test]
fn the_document_has_the_routes_of_the_table_and_no_others() {
    let of_table: BTreeSet<(String, String)> = routes()
        .into_iter()
        .map(|r| (r.path.to_owned(), r.method.as_str().to_ascii_lowercase()))
        .collect();
    let document = parsed();
    let paths = document["paths"].as_object().expect("paths");
    let of_document: BTreeSet<(String, String)> = paths
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().expect("methods").keys();
            methods.map(|method| (path.clone(), method.clone()))
        })
        .collect();
    assert_eq!(of_document, of_table);
    assert_eq!(of_table.len(), routes().len(), "no route stands twice in the table");
}

#[test]
fn every_operation_has_its_own_name_and_a_success() {
    let document = parsed();
    let mut ids = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let id = operation["operationId"].as_str().expect("an id");
            assert!(ids.insert(id.to_owned()), "{id} stands twice");
            let responses = operation["responses"].as_object().expect("responses");
            assert!(responses.keys().any(|s| s.starts_with('2')), "{method} {path}");
            let open = operation["tags"][0] == "operations";
            assert_eq!(responses.contains_key("401"), !open, "{method} {path}");
            let in_path = path.matches('{').count();
            let parameters = operation["parameters"].as_array().expect("parameters");
            let not_in_query = parameters.iter().filter(|p| p["in"] != "query").count();
            assert_eq!(not_in_query, in_path, "{method} {path}");
        }
    }
}

/// Every `$ref` of a tree.
fn references(tree: &Json, found: &mut BTreeSet<String>) {
    match tree {
        Json::Object(map) => {
            found.extend(map.get("$ref").and_then(Json::as_str).map(str::to_owned));
            map.values().for_each(|v| references(v, found));
        }
        Json::Array(items) => items.iter().for_each(|v| references(v, found)),
        _ => {}
    }
}

#[test]
fn every_reference_has_a_target_and_every_schema_is_referred_to() {
    let document = parsed();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    for reference in &found {
        let pointer = reference.strip_prefix('#').expect("a local reference");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    for name in document["components"]["schemas"].as_object().expect("schemas").keys() {
        assert!(
            found.contains(&format!("#/components/schemas/{name}")),
            "{name} is not used"
        );
    }
}

fn fields(schema: &str) -> Vec<String> {
    let document = parsed();
    let fields = document["components"]["schemas"][schema]["properties"]
        .as_object()
        .expect("fields");
    fields.keys().cloned().collect()
}

#[test]
fn the_parser_of_writes_knows_every_documented_field() {
    let fields = fields("WriteRequest");
    assert!(fields.len() > 15, "{fields:?}");
    for field in fields {
        let body = format!("{{\"{field}\":null}}");
        if let Err(e) = prepare(body.as_bytes(), &Schema::default(), &Limits::default()) {
            assert!(!e.message.contains("unknown field"), "{field}: {e}");
        }
    }
    let unknown = prepare(br#"{"nonsense":null}"#, &Schema::default(), &Limits::default());
    assert!(unknown.expect_err("refused").message.contains("unknown field"));
}

#[test]
fn queries_have_exactly_the_documented_fields() {
    let unknown = query::parse(br#"{"nonsense":1}"#, &Limits::default()).expect_err("refused");
    assert_eq!(unknown.kind, InvalidKind::Shape);
    let (_, expected) = unknown
        .message
        .split_once("expected one of ")
        .expect("serde lists the fields");
    let known: BTreeSet<String> = expected.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    assert_eq!(fields("QueryRequest").into_iter().collect::<BTreeSet<_>>(), known);
    // Nothing that is parsed by hand is left as "any JSON".
    let document = parsed();
    for schema in ["QueryRequest", "Query"] {
        for (field, described) in document["components"]["schemas"][schema]["properties"]
            .as_object()
            .expect("fields")
        {
            assert!(described.is_object(), "{schema}.{field}: {described}");
        }
    }
}
