//! Schemas as clients read them: the v1 shape of the schema endpoint, the v2 shape of metadata.
//!
//! Official clients compare both with strict equality, so neither may have a key more or less.

use serde_json::{Map, Value, json};

use super::schema::{Language, Tokenizer};
use super::{Attribute, FullTextConfig, IdKind, Schema};

/// The answer of `GET /v1/namespaces/{ns}/schema`: `filterable` and `full_text_search` always
/// present, `ann` a bare `true`.
pub fn v1(schema: &Schema) -> Value {
    print(schema, v1_id, v1_attribute)
}

/// The `schema` of `GET /v2/namespaces/{ns}/metadata`: nulls left out, `ann` an object.
pub fn v2(schema: &Schema) -> Value {
    print(schema, |kind| json!({"type": kind.name()}), v2_attribute)
}

fn print(schema: &Schema, id: fn(IdKind) -> Value, attribute: fn(&Attribute) -> Map<String, Value>) -> Value {
    let mut map = Map::new();
    if let Some(kind) = schema.id_kind {
        map.insert("id".to_owned(), id(kind));
    }
    for a in schema.attributes() {
        let mut entry = attribute(a);
        for (key, on) in [("regex", a.regex), ("glob", a.glob), ("fuzzy", a.fuzzy)] {
            if on {
                entry.insert(key.to_owned(), Value::Bool(true));
            }
        }
        if a.sparse_knn {
            entry.insert("sparse_knn".to_owned(), json!({"distance_metric": "dot_product"}));
        }
        if let Some(embed) = &a.embed {
            entry.insert(
                "embed".to_owned(),
                json!({"model": &*embed.model, "attribute": &*embed.target}),
            );
        }
        map.insert(a.name.to_string(), Value::Object(entry));
    }
    Value::Object(map)
}

fn v1_id(kind: IdKind) -> Value {
    json!({"type": kind.name(), "filterable": null, "full_text_search": null})
}

fn v1_attribute(a: &Attribute) -> Map<String, Value> {
    let mut entry = Map::new();
    entry.insert("type".to_owned(), Value::String(a.ty.to_string()));
    let filterable = a.ty.can_be_filterable().then_some(a.filterable);
    entry.insert("filterable".to_owned(), json!(filterable));
    entry.insert(
        "full_text_search".to_owned(),
        a.full_text.as_ref().map(full_text).unwrap_or(Value::Null),
    );
    if a.ann.is_some() {
        entry.insert("ann".to_owned(), Value::Bool(true));
    }
    entry
}

fn v2_attribute(a: &Attribute) -> Map<String, Value> {
    let mut entry = Map::new();
    entry.insert("type".to_owned(), Value::String(a.ty.to_string()));
    if a.ty.can_be_filterable() {
        entry.insert("filterable".to_owned(), Value::Bool(a.filterable));
    }
    if let Some(config) = &a.full_text {
        entry.insert("full_text_search".to_owned(), full_text(config));
    }
    if let Some(metric) = a.ann {
        let mut ann = json!({"distance_metric": metric.name()});
        if a.late_interaction {
            ann["late_interaction"] = Value::Bool(true);
        }
        entry.insert("ann".to_owned(), ann);
    }
    entry
}

fn full_text(config: &FullTextConfig) -> Value {
    json!({
        "tokenizer": name_of(&Tokenizer::ALL, config.tokenizer),
        "language": name_of(&Language::ALL, config.language),
        "stemming": config.stemming,
        "remove_stopwords": config.remove_stopwords,
        "case_sensitive": config.case_sensitive,
        "ascii_folding": config.ascii_folding,
        "max_token_length": config.max_token_length,
        "k1": number(config.k1),
        "b": number(config.b),
        "k3": number(config.k3),
    })
}

/// Whole numbers without a fraction: clients that compare JSON text or integers expect `8`.
fn number(x: f64) -> Value {
    match x.fract() == 0.0 && x.abs() < 1e15 {
        true => json!(x as i64),
        false => json!(x),
    }
}

fn name_of<T: PartialEq>(all: &[(T, &'static str)], value: T) -> &'static str {
    all.iter()
        .find(|(v, _)| *v == value)
        .map(|(_, name)| *name)
        .expect("the table lists every variant")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Limits;
    use crate::model::write::prepare;

    fn schema_of(body: &str) -> Schema {
        let mut schema = Schema::default();
        let write = prepare(body.as_bytes(), &schema, &Limits::default()).unwrap();
        schema.apply(&write.schema);
        schema
    }

    const BODY: &str = r#"{"distance_metric": "cosine_distance",
        "schema": {"vector": {"type": "[2]f16", "ann": true}, "title": {"type": "string", "full_text_search":
            {"language": "english", "stemming": true, "remove_stopwords": true}},
            "r": {"type": "string", "regex": true}, "s": {"type": "{}f16", "sparse_knn": {"distance_metric": "dot_product"}}},
        "upsert_rows": [{"id": 1, "vector": [1, 2], "private": true, "title": "x"}]}"#;

    fn title() -> Value {
        json!({"k1": 1.2, "k3": 8, "b": 0.75, "language": "english", "stemming": true, "max_token_length": 39,
            "remove_stopwords": true, "ascii_folding": false, "case_sensitive": false, "tokenizer": "word_v4"})
    }

    #[test]
    fn the_v1_shape_has_exactly_the_documented_keys() {
        let expected = json!({
            "id": {"type": "uint", "filterable": null, "full_text_search": null},
            "vector": {"type": "[2]f16", "filterable": null, "full_text_search": null, "ann": true},
            "private": {"type": "bool", "filterable": true, "full_text_search": null},
            "title": {"type": "string", "filterable": false, "full_text_search": title()},
            "r": {"type": "string", "filterable": false, "full_text_search": null, "regex": true},
            "s": {"type": "{}f16", "filterable": null, "full_text_search": null,
                "sparse_knn": {"distance_metric": "dot_product"}},
        });
        assert_eq!(v1(&schema_of(BODY)), expected);
    }

    #[test]
    fn the_v2_shape_has_exactly_the_documented_keys() {
        let expected = json!({
            "id": {"type": "uint"},
            "vector": {"type": "[2]f16", "ann": {"distance_metric": "cosine_distance"}},
            "private": {"type": "bool", "filterable": true},
            "title": {"type": "string", "filterable": false, "full_text_search": title()},
            "r": {"type": "string", "filterable": false, "regex": true},
            "s": {"type": "{}f16", "sparse_knn": {"distance_metric": "dot_product"}},
        });
        assert_eq!(v2(&schema_of(BODY)), expected);
    }

    #[test]
    fn a_printed_schema_can_be_sent_back_and_changes_nothing() {
        let schema = schema_of(BODY);
        for printed in [v1(&schema), v2(&schema)] {
            let body = serde_json::to_vec(&printed).unwrap();
            let change = crate::model::write::prepare_schema(&body, &schema, &Limits::default()).unwrap();
            assert!(change.is_empty(), "{change:?}");
        }
    }
}
