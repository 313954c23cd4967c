//! Writes that fill a namespace from another one: `copy_from_namespace` and
//! `branch_from_namespace`.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;
use serde_json::value::RawValue;

use super::encryption;
use crate::model::settings::{self, SETTINGS_BODY_BYTES_MAX};
use crate::model::{Invalid, NamespaceName};

/// How the documents come over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginKind {
    /// A copy of everything, into a namespace that is missing or empty.
    Copy,
    /// A clone that knows its parent; its namespace must not exist.
    Branch,
}

impl OriginKind {
    /// The field of the write that asks for it.
    pub fn field(self) -> &'static str {
        match self {
            OriginKind::Copy => "copy_from_namespace",
            OriginKind::Branch => "branch_from_namespace",
        }
    }
}

/// Where the documents of a namespace are to come from.
#[derive(Clone, PartialEq, Eq)]
pub struct Origin {
    pub kind: OriginKind,
    pub source: NamespaceName,
    /// An API key of the organization that has the source, as given.
    pub source_api_key: Option<String>,
    /// `sharding` of the new namespace.
    pub num_shards: Option<u32>,
    /// `create_namespace` as given.
    pub create_namespace: Option<bool>,
}

/// Without the key, so that it can be logged.
impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin")
            .field("kind", &self.kind)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// Fields that may stand beside a copy or branch.
const BESIDE: [&str; 5] = [
    "create_namespace",
    "disable_backpressure",
    "encryption",
    "return_affected_ids",
    "sharding",
];

/// Parses the body of a write that copies or branches; `None` when it is another write, or no JSON
/// at all, which the parser of writes will explain.
///
/// Costs next to nothing for other writes: a larger body than [`SETTINGS_BODY_BYTES_MAX`] is not
/// looked at, because a copy has no documents beside it.
///
/// # Errors
///
/// The sentence for the client, naming the field.
pub fn parse_origin(body: &[u8]) -> Result<Option<Origin>, Invalid> {
    if body.len() as u64 > SETTINGS_BODY_BYTES_MAX {
        return Ok(None);
    }
    let text = std::str::from_utf8(body).unwrap_or_default();
    if !text.contains("_from_namespace") {
        return Ok(None);
    }
    let fields: BTreeMap<String, Box<RawValue>> = match serde_json::from_str(text) {
        Ok(fields) => fields,
        Err(_) => return Ok(None),
    };
    let given = |kind: OriginKind| fields.get(kind.field()).filter(|v| v.get() != "null");
    let (kind, value) = match (given(OriginKind::Copy), given(OriginKind::Branch)) {
        (None, None) => return Ok(None),
        (Some(value), None) => (OriginKind::Copy, value),
        (None, Some(value)) => (OriginKind::Branch, value),
        (Some(_), Some(_)) => {
            return Err(Invalid::new(
                "copy_from_namespace and branch_from_namespace cannot be combined",
            ));
        }
    };
    check_alone(kind, &fields)?;
    let mut origin = parse_source(kind, value.get())?;
    if let Some(text) = fields.get("encryption").filter(|v| v.get() != "null") {
        encryption::check("encryption", text.get())?;
    }
    if let Some(text) = fields.get("sharding") {
        origin.num_shards = settings::parse_sharding(text.get())?;
    }
    if origin.num_shards.is_some() && kind == OriginKind::Branch {
        return Err(Invalid::new(
            "sharding cannot be combined with branch_from_namespace: a branch is as its parent",
        ));
    }
    for name in ["create_namespace", "disable_backpressure", "return_affected_ids"] {
        let given = fields.get(name).map_or(Ok(None), |v| flag(name, v.get()))?;
        if name == "create_namespace" {
            origin.create_namespace = given;
        }
    }
    Ok(Some(origin))
}

fn check_alone(kind: OriginKind, fields: &BTreeMap<String, Box<RawValue>>) -> Result<(), Invalid> {
    let counts = |v: &RawValue| !matches!(v.get(), "null" | "false");
    let other = fields
        .iter()
        .find(|(name, value)| *name != kind.field() && !BESIDE.contains(&name.as_str()) && counts(value));
    match other {
        None => Ok(()),
        Some((name, _)) => {
            let (shown, field): (String, _) = (name.chars().take(64).collect(), kind.field());
            Err(Invalid::new(format!(
                "{shown:?} cannot be combined with {field}: send documents and schema in another request"
            )))
        }
    }
}

fn flag(field: &str, text: &str) -> Result<Option<bool>, Invalid> {
    match text {
        "null" => Ok(None),
        "true" => Ok(Some(true)),
        "false" => Ok(Some(false)),
        other => {
            let value = serde_json::from_str(other).unwrap_or(Value::Null);
            Err(settings::wrong(field, &value, "a boolean"))
        }
    }
}

fn parse_source(kind: OriginKind, text: &str) -> Result<Origin, Invalid> {
    let field = kind.field();
    let value: Value =
        serde_json::from_str(text).map_err(|e| Invalid::new(format!("{field} is not valid JSON: {e}")))?;
    let mut source_api_key = None;
    let source = match &value {
        Value::String(name) => name,
        Value::Object(fields) => {
            let known: &[&str] = match kind {
                OriginKind::Copy => &["source_namespace", "source_api_key", "source_region", "dest_encryption"],
                OriginKind::Branch => &["source_namespace"],
            };
            settings::only(field, fields, known)?;
            let string = |key: &str| match fields.get(key) {
                None | Some(Value::Null) => Ok(None),
                Some(Value::String(s)) => Ok(Some(s)),
                Some(other) => Err(settings::wrong(&format!("{field}: {key}"), other, "a string")),
            };
            source_api_key = string("source_api_key")?.cloned();
            if string("source_region")?.is_some() {
                return Err(Invalid::new(format!(
                    "{field}: source_region is not supported: this server is one region, which has both namespaces; \
                     leave source_region out"
                )));
            }
            if let Some(encryption) = fields.get("dest_encryption").filter(|v| !v.is_null()) {
                encryption::check_value("dest_encryption", encryption)?;
            }
            let missing = || Invalid::shape(format!("{field}: missing field `source_namespace`"));
            string("source_namespace")?.ok_or_else(missing)?
        }
        other => return Err(settings::wrong(field, other, "a string or an object")),
    };
    let source = NamespaceName::parse(source).map_err(|e| Invalid::new(format!("{field}: source {e}")))?;
    Ok(Origin {
        kind,
        source,
        source_api_key,
        num_shards: None,
        create_namespace: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::InvalidKind;

    fn parsed(body: &str) -> Origin {
        parse_origin(body.as_bytes()).expect(body).expect(body)
    }

    #[test]
    fn both_forms_of_both_kinds_are_understood() {
        for (body, kind) in [
            (r#"{"copy_from_namespace": "src"}"#, OriginKind::Copy),
            (
                r#"{"copy_from_namespace": {"source_namespace": "src"}}"#,
                OriginKind::Copy,
            ),
            (
                r#"{"copy_from_namespace": {"source_namespace": "src", "source_region": null, "source_api_key": null,
                    "dest_encryption": {"mode": "default"}}, "upsert_rows": null, "encryption": {"mode": "default"},
                    "patch_by_filter_allow_partial": false}"#,
                OriginKind::Copy,
            ),
            (r#"{"branch_from_namespace": "src"}"#, OriginKind::Branch),
            (
                r#"{"branch_from_namespace": {"source_namespace": "src"}, "copy_from_namespace": null}"#,
                OriginKind::Branch,
            ),
        ] {
            let origin = parsed(body);
            assert_eq!((origin.kind, origin.source.as_str()), (kind, "src"), "{body}");
            assert_eq!((origin.source_api_key, origin.num_shards), (None, None));
        }
        let origin = parsed(
            r#"{"copy_from_namespace": {"source_namespace": "a", "source_api_key": "secret"}, "sharding": {"num_shards": 4},
                "create_namespace": false, "disable_backpressure": true, "return_affected_ids": null}"#,
        );
        assert_eq!((origin.num_shards, origin.create_namespace), (Some(4), Some(false)));
        assert_eq!(origin.source_api_key.as_deref(), Some("secret"));
        assert!(!format!("{origin:?}").contains("secret"));
    }

    #[test]
    fn other_writes_are_left_to_their_own_parser() {
        let large = format!(
            r#"{{"copy_from_namespace": "a", "deletes": [{}0]}}"#,
            "0,".repeat(40_000)
        );
        for body in [
            "",
            "{}",
            r#"{"copy_from_namespace": null, "branch_from_namespace": null}"#,
            r#"{"upsert_rows": [{"id": 1, "note": "copy_from_namespace"}]}"#,
            r#"{"copy_from_namespace": "#,
            r#"["copy_from_namespace"]"#,
            &large,
        ] {
            assert_eq!(parse_origin(body.as_bytes()).expect("left alone"), None, "{body:.60}");
        }
        assert_eq!(parse_origin(b"copy_from_namespace\xff").expect("left alone"), None);
    }

    #[test]
    fn wrong_copies_and_branches_are_refused_with_a_sentence() {
        use InvalidKind::{Semantic, Shape};
        for (body, kind, says) in [
            (r#"{"copy_from_namespace": 1}"#, Shape, "a string or an object"),
            (r#"{"copy_from_namespace": true}"#, Shape, "copy_from_namespace"),
            (r#"{"copy_from_namespace": ["a"]}"#, Shape, "sequence"),
            (
                r#"{"copy_from_namespace": {}}"#,
                Shape,
                "missing field `source_namespace`",
            ),
            (
                r#"{"copy_from_namespace": {"source_namespace": null}}"#,
                Shape,
                "missing field",
            ),
            (
                r#"{"copy_from_namespace": {"source_namespace": 7}}"#,
                Shape,
                "source_namespace",
            ),
            (r#"{"copy_from_namespace": ""}"#, Semantic, "1 to 128 bytes"),
            (r#"{"copy_from_namespace": "a b"}"#, Semantic, "may only contain"),
            (
                r#"{"copy_from_namespace": {"source_namespace": "a", "to": "b"}}"#,
                Semantic,
                "\"to\"",
            ),
            (
                r#"{"copy_from_namespace": {"source_namespace": "a", "source_region": "gcp-us-east4"}}"#,
                Semantic,
                "one region",
            ),
            (
                r#"{"copy_from_namespace": {"source_namespace": "a", "source_region": 1}}"#,
                Shape,
                "source_region",
            ),
            (
                r#"{"copy_from_namespace": {"source_namespace": "a", "source_api_key": 1}}"#,
                Shape,
                "source_api_key",
            ),
            (
                r#"{"copy_from_namespace": {"source_namespace": "a", "dest_encryption": {"mode": "customer-managed", "key_name": "mykey"}}}"#,
                Semantic,
                "Malformed Cloud KMS crypto key: mykey",
            ),
            (
                r#"{"copy_from_namespace": {"source_namespace": "a", "dest_encryption": "default"}}"#,
                Shape,
                "dest_encryption",
            ),
            (
                r#"{"copy_from_namespace": "a", "encryption": {"cmek": {"key_name": "mykey"}}}"#,
                Semantic,
                "Malformed Cloud KMS crypto key: mykey",
            ),
            (
                r#"{"copy_from_namespace": "a", "upsert_rows": []}"#,
                Semantic,
                "upsert_rows",
            ),
            (
                r#"{"copy_from_namespace": "a", "schema": {"a": "int"}}"#,
                Semantic,
                "schema",
            ),
            (
                r#"{"copy_from_namespace": "a", "deletes": [1]}"#,
                Semantic,
                "another request",
            ),
            (r#"{"copy_from_namespace": "a", "nonsense": 1}"#, Semantic, "nonsense"),
            (
                r#"{"copy_from_namespace": "a", "branch_from_namespace": "b"}"#,
                Semantic,
                "cannot be combined",
            ),
            (
                r#"{"copy_from_namespace": "a", "sharding": {"num_shards": 0}}"#,
                Semantic,
                "from 1 to 256",
            ),
            (
                r#"{"copy_from_namespace": "a", "create_namespace": 1}"#,
                Shape,
                "create_namespace",
            ),
            (
                r#"{"branch_from_namespace": "a", "sharding": {"num_shards": 2}}"#,
                Semantic,
                "sharding",
            ),
            (
                r#"{"branch_from_namespace": {"source_namespace": "a", "source_api_key": "k"}}"#,
                Semantic,
                "source_api_key",
            ),
            (
                r#"{"branch_from_namespace": "a", "patch_rows": [{"id": 1}]}"#,
                Semantic,
                "patch_rows",
            ),
        ] {
            let e = parse_origin(body.as_bytes()).expect_err(body);
            assert_eq!(e.kind, kind, "{body}: {e}");
            assert!(e.message.contains(says), "{body}\n  says: {e}\n  not:  {says}");
        }
    }
}
