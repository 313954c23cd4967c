//! The parts of the API that are parsed by hand, as JSON schemas: filters, rankings, vectors, values.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value as Json, json};

/// Declares a named schema that is written out.
macro_rules! written {
    ($(#[$doc:meta])* $name:ident, |$generator:ident| $schema:expr) => {
        $(#[$doc])*
        pub enum $name {}

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                $crate::api::openapi::expressions::schema($schema)
            }
        }
    };
}
pub(super) use written;

/// A schema from its JSON.
pub fn schema(json: Json) -> Schema {
    Schema::try_from(json).expect("written schemas are objects")
}

/// An array of exactly these.
fn tuple(items: &[Json]) -> Json {
    json!({"type": "array", "prefixItems": items, "minItems": items.len(), "maxItems": items.len()})
}

/// An array of these, of which the last may be missing.
fn tuple_with_options(items: &[Json]) -> Json {
    json!({"type": "array", "prefixItems": items, "minItems": items.len() - 1, "maxItems": items.len()})
}

fn attribute() -> Json {
    json!({"type": "string", "description": "The name of an attribute."})
}

fn vector() -> Json {
    json!({"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": 10752})
}

written! {
    /// The id of a row.
    Id, |_g| json!({
        "description": "An unsigned integer below 2^64, a UUID, or a string of at most 64 bytes; one kind per namespace.",
        "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}],
    })
}

written! {
    /// What a filter compares with, or an attribute's value.
    Value, |_g| json!({
        "description": "Null, a boolean, a number, a string, an array of those, a vector, or a sparse vector.",
    })
}

written! {
    /// A condition on rows.
    Filter, |g| {
        let filter = g.subschema_for::<Filter>();
        let value = g.subschema_for::<Value>();
        json!({
            "description": "A condition on rows: [attribute, operator, value], or filters combined by And, Or and Not.",
            "anyOf": [
                tuple_with_options(&[
                    attribute(),
                    json!({"type": "string", "enum": OPERATORS}),
                    json!(value),
                    json!({"type": "object", "description": "Options of token operators and Fuzzy."}),
                ]),
                tuple(&[json!({"enum": ["And", "Or"]}), json!({"type": "array", "items": filter})]),
                tuple(&[json!({"const": "Not"}), json!(filter)]),
            ],
        })
    }
}

/// The operators of filters.
const OPERATORS: [&str; 25] = [
    "Eq",
    "NotEq",
    "In",
    "NotIn",
    "Lt",
    "Lte",
    "Gt",
    "Gte",
    "Contains",
    "NotContains",
    "ContainsAny",
    "NotContainsAny",
    "AnyLt",
    "AnyLte",
    "AnyGt",
    "AnyGte",
    "Glob",
    "NotGlob",
    "IGlob",
    "NotIGlob",
    "Regex",
    "Fuzzy",
    "ContainsAllTokens",
    "ContainsAnyToken",
    "ContainsTokenSequence",
];

written! {
    /// A filter, also as very old clients write it.
    LegacyFilter, |g| {
        let condition = tuple(&[json!({"type": "string", "enum": OPERATORS}), json!(g.subschema_for::<Value>())]);
        json!({"anyOf": [
            g.subschema_for::<Filter>(),
            {
                "type": "object",
                "description": "Attributes with one condition each, or an array of them, all of which must hold.",
                "additionalProperties": {"anyOf": [
                    {"type": "array", "items": condition},
                    condition,
                ]},
            },
        ]})
    }
}

written! {
    /// What vectors are compared with.
    QueryVector, |_g| json!({
        "description": "A vector: numbers, or base64 of little-endian f32.",
        "anyOf": [vector(), {"type": "string", "contentEncoding": "base64"}],
    })
}

written! {
    /// An expression whose value is larger for better rows.
    Score, |g| {
        let score = g.subschema_for::<Score>();
        let filter = g.subschema_for::<Filter>();
        let text = json!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]});
        let curve = json!({
            "type": "object",
            "properties": {
                "midpoint": {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "examples": ["6h"]}]},
                "exponent": {"type": "number", "exclusiveMinimum": 0, "default": 1},
            },
            "required": ["midpoint"],
            "additionalProperties": false,
        });
        let last_as_prefix = json!({
            "type": "object",
            "properties": {"last_as_prefix": {"type": "boolean"}},
            "additionalProperties": false,
        });
        json!({
            "description": "A score: larger is better.",
            "anyOf": [
                tuple_with_options(&[attribute(), json!({"const": "BM25"}), text, last_as_prefix]),
                tuple(&[
                    attribute(),
                    json!({"const": "SparseKNN"}),
                    json!({"type": "object", "additionalProperties": {"type": "number"}}),
                ]),
                tuple(&[json!({"const": "Sum"}), json!({"type": "array", "items": score, "minItems": 1})]),
                tuple(&[
                    json!({"const": "Max"}),
                    json!({"type": "array", "items": {"anyOf": [score, {"type": "number"}]}, "minItems": 1}),
                ]),
                tuple(&[
                    json!({"const": "Product"}),
                    json!({"anyOf": [tuple(&[json!({"type": "number"}), json!(score)]), tuple(&[json!(score), json!({"type": "number"})])]}),
                ]),
                tuple(&[json!({"const": "Max"}), json!({"type": "number"}), json!(score)]),
                tuple(&[json!({"const": "Product"}), json!({"type": "number", "minimum": 0}), json!(score)]),
                tuple(&[json!({"const": "Product"}), json!(score), json!({"type": "number", "minimum": 0})]),
                tuple(&[json!({"const": "Attribute"}), attribute()]),
                tuple(&[
                    json!({"const": "Dist"}),
                    tuple(&[json!({"const": "Attribute"}), attribute()]),
                    json!({"type": ["number", "string"]}),
                ]),
                tuple(&[json!({"enum": ["Saturate", "Decay"]}), json!(score), curve]),
                filter,
            ],
        })
    }
}

written! {
    /// What rows are ordered by.
    RankBy, |g| {
        let score = g.subschema_for::<Score>();
        let key = tuple(&[attribute(), json!({"enum": ["asc", "desc"]})]);
        let embed = tuple_with_options(&[
            json!({"const": "Embed"}),
            json!({"type": "string"}),
            json!({"type": "object", "properties": {"model": {"type": "string"}}}),
        ]);
        let vectors = json!({"type": "array", "items": vector(), "minItems": 1});
        let operand = json!({"anyOf": [g.subschema_for::<QueryVector>(), vectors, embed]});
        json!({
            "description": "What rows are ordered by: nearness, attributes, or a score.",
            "anyOf": [
                tuple(&[attribute(), json!({"enum": ["ANN", "kNN"]}), operand]),
                key,
                {"type": "array", "items": key, "minItems": 1, "maxItems": 8},
                score,
            ],
        })
    }
}

written! {
    /// Which attributes rows carry.
    Include, |_g| json!({
        "description": "All or none, or the names of attributes.",
        "anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "string"}}],
    })
}

written! {
    /// How many rows, and at most how many that agree in some attributes.
    Limit, |_g| json!({
        "description": "How many rows, or groups of an aggregation, at most.",
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": 10000},
            {
                "type": "object",
                "properties": {
                    "total": {"type": "integer", "minimum": 0, "maximum": 10000},
                    "per": {
                        "type": ["object", "null"],
                        "properties": {
                            "attributes": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                            "limit": {"type": "integer", "minimum": 1},
                        },
                        "required": ["attributes", "limit"],
                    },
                },
                "required": ["total"],
                "additionalProperties": false,
            },
        ],
    })
}

written! {
    /// How fresh a read has to be.
    Consistency, |_g| json!({
        "description": "Strong: sees every write that was answered before. Eventual: may miss newer writes than said.",
        "type": "object",
        "properties": {
            "level": {"enum": ["strong", "eventual", null], "default": "strong"},
            "max_staleness_seconds": {"type": ["integer", "null"], "minimum": 0, "default": 60},
        },
        "additionalProperties": false,
    })
}

written! {
    /// Numbers over the rows that a filter selects, by label.
    Aggregates, |_g| json!({
        "description": "By label: [\"Count\"], or a function and an attribute.",
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {
            "type": "array",
            "prefixItems": [{"type": "string"}, {"type": "string"}],
            "minItems": 1,
            "maxItems": 3,
        },
    })
}

written! {
    /// What rows are grouped by.
    GroupBy, |_g| json!({
        "description": "Attributes, or {label: [\"ForEachUnique\", attribute]} for the elements of an array.",
        "type": "array",
        "items": {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "minProperties": 1,
                    "maxProperties": 1,
                    "additionalProperties": {
                        "type": "array",
                        "prefixItems": [{"const": "ForEachUnique"}, {"type": "string"}],
                        "minItems": 2,
                        "maxItems": 2,
                    },
                },
            ],
        },
    })
}

written! {
    /// Values that are computed for each row, by name.
    Compute, |_g| json!({
        "description": "By name: [column, \"VectorDist\", vector], [\"Highlight\", attribute, options?], a score, or a filter.",
        "type": "object",
        "maxProperties": 256,
        "additionalProperties": {"type": "array", "minItems": 2, "maxItems": 4},
    })
}

written! {
    /// How several answers become one.
    Rerank, |_g| json!({
        "description": "Reciprocal rank fusion of several queries, or the judgement of a model.",
        "anyOf": [
            {
                "type": "array",
                "prefixItems": [
                    {"const": "RRF"},
                    {
                        "type": "object",
                        "properties": {
                            "rank_constant": {"type": "number"},
                            "weights": {"type": "array", "items": {"type": "number", "exclusiveMinimum": 0}},
                        },
                    },
                ],
                "minItems": 1,
                "maxItems": 2,
            },
            {
                "type": "object",
                "properties": {
                    "model": {"type": "string"},
                    "attribute": {"type": "string"},
                    "query": {"type": "string"},
                },
                "required": ["model", "attribute", "query"],
            },
        ],
    })
}

written! {
    /// One attribute of a schema.
    SchemaEntry, |_g| {
        let flag = || json!({"type": ["boolean", "null"]});
        json!({
            "description": "A type name, or an object; what an object leaves out stays as it is.",
            "anyOf": [
                {"type": "string", "examples": ["string", "[]uint", "[768]f32"]},
                {
                    "type": "object",
                    "properties": {
                        "type": {"type": ["string", "null"]},
                        "filterable": flag(),
                        "full_text_search": {"type": ["boolean", "object", "null"]},
                        "bm25": {"type": ["boolean", "object", "null"], "deprecated": true},
                        "regex": flag(),
                        "glob": flag(),
                        "fuzzy": flag(),
                        "ann": {"type": ["boolean", "object", "null"]},
                        "sparse_knn": {"type": ["boolean", "object", "null"]},
                        "embed": {"type": ["string", "object", "null"]},
                        "drop": {"type": "boolean"},
                    },
                    "additionalProperties": false,
                },
            ],
        })
    }
}

written! {
    /// Attributes by name.
    SchemaUpdate, |g| json!({
        "description": "Attributes by name; those that are left out stay as they are.",
        "type": "object",
        "additionalProperties": g.subschema_for::<SchemaEntry>(),
    })
}

written! {
    /// Rows, each an object with its attributes beside `id`.
    Rows, |g| json!({
        "description": "Rows: objects with `id` and attributes.",
        "type": "array",
        "items": {
            "type": "object",
            "properties": {"id": g.subschema_for::<Id>()},
            "required": ["id"],
            "additionalProperties": g.subschema_for::<Value>(),
        },
    })
}

written! {
    /// The same rows attribute by attribute.
    Columns, |g| json!({
        "description": "Arrays of equal length by attribute. A vector column may be one flat array of numbers.",
        "type": "object",
        "properties": {"id": {"type": "array", "items": g.subschema_for::<Id>()}},
        "required": ["id"],
        "additionalProperties": {"type": "array"},
    })
}

written! {
    /// Another namespace to start from.
    Source, |_g| json!({
        "description": "The name of a namespace, or an object that names it.",
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "properties": {
                    "source_namespace": {"type": "string"},
                    "source_api_key": {"type": ["string", "null"]},
                    "source_region": {"type": ["string", "null"]},
                    "dest_encryption": {"type": ["object", "null"]},
                },
                "required": ["source_namespace"],
            },
        ],
    })
}
