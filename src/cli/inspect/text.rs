//! What was found, for people.

use serde_json::{Value as Json, json};

use super::super::table::{self, Column};

const OVERVIEW: &[Column] = &[
    ("namespace", "namespace"),
    ("organization", "org"),
    ("directory", "directory"),
    ("objects", "objects"),
    ("bytes", "bytes"),
    ("not Shoal's", "foreign"),
    ("manifests", "manifest_count"),
    ("hint", "hint"),
    ("segment objects", "segment_objects"),
    ("deletion bitmaps", "deletion_bitmaps"),
    ("holds", "hold_count"),
    ("copies by token", "copies_by_token"),
    ("marked dirty", "is_marked_dirty"),
    ("marked garbage", "is_marked_garbage"),
    ("collection plans", "collection_plans"),
];
const LOG: &[Column] = &[
    ("first entry", "first"),
    ("last entry", "last"),
    ("entries", "entries"),
    ("bytes", "bytes"),
    ("not in segments", "unindexed_entries"),
    ("their bytes", "unindexed_bytes"),
    ("blobs", "blobs"),
    ("blob bytes", "blob_bytes"),
];
const MANIFESTS: &[Column] = &[
    ("GEN", "gen"),
    ("CREATED", "created_at"),
    ("INDEXED", "indexed_seq"),
    ("SEGMENTS", "segments"),
    ("ROWS", "rows"),
    ("BYTES", "bytes"),
    ("ERROR", "error"),
];
const MANIFEST: &[Column] = &[
    ("generation", "gen"),
    ("created", "created_at"),
    ("bytes", "bytes"),
    ("digest", "digest"),
    ("of the one before", "prev_digest"),
    ("writer", "writer"),
    ("job", "job"),
    ("log", "log_id"),
    ("indexed up to entry", "indexed_seq"),
    ("its digest", "indexed_digest"),
    ("its clock", "clock"),
    ("id", "incarnation.id"),
    ("first entry", "incarnation.genesis"),
    ("namespace created", "incarnation.created_at"),
    ("last write", "incarnation.last_write_at"),
    ("rows", "rows"),
    ("remembered answers", "remembered_answers"),
    ("settings", "settings"),
    ("error", "error"),
];
const SEGMENTS: &[Column] = &[
    ("SEGMENT", "id"),
    ("LEVEL", "level"),
    ("ROWS", "rows"),
    ("LIVE", "live"),
    ("BYTES", "bytes"),
    ("ENTRIES", "entries"),
    ("PLACE", "place"),
    ("SECTIONS", "sums"),
];
const SEGMENT: &[Column] = &[
    ("segment", "id"),
    ("key", "key"),
    ("place", "place"),
    ("named by manifest", "gen"),
    ("level", "level"),
    ("rows", "rows"),
    ("live", "live"),
    ("deletions", "deletions"),
    ("bytes", "bytes"),
    ("logical bytes", "logical_bytes"),
    ("hot bytes", "hot_bytes"),
    ("first log entry", "min_seq"),
    ("last log entry", "max_seq"),
    ("first id", "first_id"),
    ("last id", "last_id"),
    ("error", "error"),
];
const SECTIONS: &[Column] = &[
    ("SECTION", "kind"),
    ("ATTRIBUTE", "attribute"),
    ("OFFSET", "offset"),
    ("BYTES", "bytes"),
    ("HOT BYTES", "hot_bytes"),
];
const ENTRY: &[Column] = &[
    ("entry", "seq"),
    ("key", "key"),
    ("kind", "kind"),
    ("clock", "clock"),
    ("bytes", "bytes"),
    ("digest", "digest"),
    ("of the one before", "prev_digest"),
    ("log", "log_id"),
    ("writer", "writer"),
    ("writer's address", "writer_address"),
    ("batch", "batch"),
    ("newest manifest known", "known_gen"),
    ("requests", "requests"),
];
const OPERATIONS: &[Column] = &[
    ("REQUEST", "request"),
    ("OPERATION", "kind"),
    ("ROWS", "rows"),
    ("ATTRIBUTES", "attributes"),
];
const HOLDS: &[Column] = &[
    ("HOLD", "id"),
    ("FOR", "for"),
    ("ENTRY", "entry"),
    ("SEGMENTS", "segments"),
    ("ERROR", "error"),
];
const LEASES: &[Column] = &[
    ("LEASE", "role"),
    ("TERM", "term"),
    ("NODE", "node"),
    ("EXPIRES", "expires_at"),
];
const ATTRIBUTES: &[Column] = &[("ATTRIBUTE", "name"), ("TYPE", "type"), ("OPTIONS", "options")];

/// Some tables, one below the other, without those that are empty.
fn together(parts: Vec<String>) -> String {
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("\n\n")
}

/// A table with what heads it; nothing when it has no lines.
fn listed(items: &Json, columns: &[Column]) -> String {
    match items.as_array().is_some_and(|items| !items.is_empty()) {
        true => table::list(items, columns),
        false => String::new(),
    }
}

pub fn overview(json: &Json) -> String {
    let newest = match json["newest"].is_null() {
        true => "There is no manifest: all rows are in the log.".to_owned(),
        false => format!("NEWEST MANIFEST\n{}", manifest(&json["newest"])),
    };
    together(vec![
        table::object(json, OVERVIEW),
        format!("LOG\n{}", table::object(&json["log"], LOG)),
        listed(&json["manifests"], MANIFESTS),
        newest,
        listed(&json["holds"], HOLDS),
        listed(&json["leases"], LEASES),
    ])
}

pub fn manifest(json: &Json) -> String {
    together(vec![
        table::object(json, MANIFEST),
        listed(&attributes(&json["schema"]), ATTRIBUTES),
        listed(&segments(&json["segments"]), SEGMENTS),
    ])
}

pub fn segment(json: &Json) -> String {
    together(vec![table::object(json, SEGMENT), listed(&json["sections"], SECTIONS)])
}

pub fn entry(json: &Json) -> String {
    let requests = json["described"].as_array().into_iter().flatten();
    let operations: Vec<Json> = requests.flat_map(operations).collect();
    together(vec![
        table::object(json, ENTRY),
        listed(&Json::Array(operations), OPERATIONS),
    ])
}

/// What one request of an entry does, a line for each thing.
fn operations(request: &Json) -> Vec<Json> {
    let line = |kind: &str, rows: Json, attributes: Json| json!({"request": request["request"], "kind": kind, "rows": rows, "attributes": attributes});
    let mut lines = Vec::new();
    if request["changes_schema"] == true {
        lines.push(line("schema", Json::Null, Json::Null));
    }
    if request["changes_settings"] == true {
        lines.push(line("settings", Json::Null, Json::Null));
    }
    for operation in request["operations"].as_array().into_iter().flatten() {
        let kind = operation["kind"].as_str().unwrap_or_default();
        lines.push(line(kind, operation["rows"].clone(), operation["attributes"].clone()));
    }
    for blob in request["blobs"].as_array().into_iter().flatten() {
        let text = format!(
            "blob {} of {} bytes",
            blob["id"].as_str().unwrap_or_default(),
            blob["bytes"]
        );
        lines.push(line(&text, Json::Null, Json::Null));
    }
    lines
}

/// A line for each attribute of a schema.
fn attributes(schema: &Json) -> Json {
    let line = |(name, options): (&String, &Json)| {
        let mut options = options.clone();
        let ty = match options.as_object_mut() {
            Some(fields) => {
                let ty = fields.remove("type").unwrap_or(Json::Null);
                // What is not set is of no interest.
                fields.retain(|_, value| !value.is_null() && *value != false);
                ty
            }
            None => options.clone(),
        };
        let options = match options.as_object().is_some_and(|fields| !fields.is_empty()) {
            true => options.to_string(),
            false => String::new(),
        };
        json!({"name": name, "type": ty, "options": options})
    };
    schema.as_object().into_iter().flatten().map(line).collect()
}

/// The segments with their entries and sections in a cell each.
fn segments(segments: &Json) -> Json {
    let line = |segment: &Json| {
        let mut line = segment.clone();
        line["entries"] = json!(format!("{} to {}", segment["min_seq"], segment["max_seq"]));
        let sums = segment["sections"].as_array().into_iter().flatten();
        let sums = sums.map(|s| format!("{} {}", s["kind"].as_str().unwrap_or_default(), s["bytes"]));
        let sums: Vec<String> = sums.collect();
        line["sums"] = match segment["error"].as_str() {
            Some(error) => json!(error),
            None => json!(sums.join(", ")),
        };
        line
    };
    segments.as_array().into_iter().flatten().map(line).collect()
}
