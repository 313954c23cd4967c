//! Small schemas that are written by hand, of which larger ones are made.

use serde_json::{Map, Value as Json, json};

/// An object of which these fields are surely there.
pub fn with(fields: &[(&str, Json)]) -> Json {
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    let properties: Map<String, Json> = fields.iter().map(|(n, f)| ((*n).to_owned(), f.clone())).collect();
    json!({"type": "object", "properties": properties, "required": names})
}

/// A text.
pub fn text() -> Json {
    json!({"type": "string"})
}

/// Yes or no.
pub fn flag() -> Json {
    json!({"type": "boolean"})
}

/// An array of these.
pub fn list(items: impl Into<Json>) -> Json {
    json!({"type": "array", "items": items.into()})
}
