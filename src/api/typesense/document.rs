//! Documents: checked and coerced by their fields on the way in, printed on the way out. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::Regex;
use serde_json::{Map, Value as Json};

use super::fields::{self, FieldType, Kind, UNDECLARED};
use crate::control::search_settings::Field;
use crate::model::value::Vector;
use crate::model::{Id, IdKind, Invalid, Schema, Value, value};
use crate::query::ResultRow;

/// What happens to values that do not fit their field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DirtyValues {
    #[default]
    CoerceOrReject,
    CoerceOrDrop,
    Drop,
    Reject,
}

impl DirtyValues {
    /// The parameter `dirty_values`; the default for what is unknown, as in Typesense.
    pub fn parse(text: Option<&str>) -> Self {
        match text {
            Some("coerce_or_drop") => Self::CoerceOrDrop,
            Some("drop") => Self::Drop,
            Some("reject") => Self::Reject,
            _ => Self::CoerceOrReject,
        }
    }
}

/// What documents of a collection look like.
pub struct Shape {
    fields: BTreeMap<String, Field>,
    patterns: Vec<(Regex, Field)>,
    /// Whether somebody declared the fields; else whatever comes becomes an attribute.
    declared: bool,
    id_kind: Option<IdKind>,
}

/// A document on its way into the namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    pub id: String,
    /// The row, its id included.
    pub row: Map<String, Json>,
    /// Attributes that the namespace does not have yet.
    pub new_attributes: BTreeMap<String, Json>,
    /// The document as it is answered.
    pub document: Map<String, Json>,
}

impl Shape {
    /// * `declared` — the fields that the collection's maker declared; `None` when nobody did
    pub fn new(declared: Option<&[Field]>, schema: &Schema) -> Result<Self, Invalid> {
        let given = declared.unwrap_or_default();
        let mut fields: BTreeMap<String, Field> = fields::derived(schema, given)
            .into_iter()
            .map(|f| (f.name.clone(), f))
            .collect();
        let mut patterns = Vec::new();
        for field in given {
            match fields::is_pattern(&field.name) {
                true => patterns.push((fields::pattern(&field.name)?, field.clone())),
                false => {
                    fields.insert(field.name.clone(), field.clone());
                }
            }
        }
        fields.remove("id");
        Ok(Self {
            fields,
            patterns,
            declared: declared.is_some(),
            id_kind: schema.id_kind,
        })
    }

    /// The id of a document, as the namespace has it.
    pub fn id(&self, id: &str) -> Result<Json, Invalid> {
        match self.id_kind {
            Some(IdKind::UInt) => id.parse::<u64>().map(Json::from).map_err(|_| {
                Invalid::new("Document's `id` field should be a number in this collection, written as a string.")
            }),
            Some(IdKind::String | IdKind::Uuid) | None => Ok(id.into()),
        }
    }

    /// Checks a document.
    ///
    /// * `partial` — whether it changes a document that exists: nothing is required, and null removes a value
    /// * `new_id` — makes an id for a document without one
    ///
    /// # Errors
    ///
    /// The sentence for the client, in Typesense's words where it has them.
    pub fn prepare(
        &self,
        document: Map<String, Json>,
        partial: bool,
        dirty: DirtyValues,
        new_id: impl FnOnce() -> String,
    ) -> Result<Prepared, Invalid> {
        let mut document = document;
        let id = match document.get("id") {
            Some(Json::String(id)) if !id.is_empty() => id.clone(),
            Some(Json::String(_)) => return Err(Invalid::new("The `id` should not be empty.")),
            Some(Json::Number(n)) if n.is_u64() && dirty != DirtyValues::Reject => n.to_string(),
            Some(_) => return Err(Invalid::new("Document's `id` field should be a string.")),
            None if partial => {
                return Err(Invalid::new("For update, the `id` key must be provided."));
            }
            None => new_id(),
        };
        document.insert("id".to_owned(), id.clone().into());
        if document.contains_key(UNDECLARED) {
            return Err(Invalid::new(format!("the field name `{UNDECLARED}` is reserved")));
        }
        let (mut row, mut new_attributes, mut rest) = (Map::new(), BTreeMap::new(), Map::new());
        row.insert("id".to_owned(), self.id(&id)?);
        let mut dropped = Vec::new();
        for (name, value) in document.iter_mut().filter(|(name, _)| *name != "id") {
            let known = self.fields.get(name);
            let inferred = match known {
                Some(field) if !matches!(FieldType::of(field).kind, Kind::Auto | Kind::AnyAsString) => None,
                Some(field) => infer(name, value, field)?,
                None => match self.patterns.iter().find(|(pattern, _)| pattern.is_match(name)) {
                    Some((_, field)) => infer(name, value, field)?,
                    None => None,
                },
            };
            let of_pattern = inferred.is_some();
            match inferred.as_ref().or(known) {
                Some(field) => {
                    if value.is_null() {
                        if !field.optional && !partial {
                            return Err(missing(name));
                        }
                        row.insert(name.clone(), Json::Null);
                        continue;
                    }
                    match fit(field, value, dirty)? {
                        Some(fitting) => {
                            if of_pattern && let Some(entry) = fields::schema_entry(field)? {
                                new_attributes.insert(name.clone(), entry);
                            }
                            *value = fitting.clone();
                            row.insert(name.clone(), fitting);
                        }
                        None => dropped.push(name.clone()),
                    }
                }
                None if self.declared => {
                    rest.insert(name.clone(), value.clone());
                }
                None => {
                    row.insert(name.clone(), value.clone());
                }
            }
        }
        for name in dropped {
            document.remove(&name);
        }
        if !partial {
            let required = |f: &&Field| !f.optional && f.name != "id";
            if let Some(field) = self
                .fields
                .values()
                .filter(required)
                .find(|f| !row.contains_key(&f.name))
            {
                return Err(missing(&field.name));
            }
        }
        if !rest.is_empty() {
            row.insert(UNDECLARED.to_owned(), Json::Object(rest).to_string().into());
        }
        Ok(Prepared {
            id,
            row,
            new_attributes,
            document,
        })
    }
}

fn missing(name: &str) -> Invalid {
    Invalid::new(format!(
        "Field `{name}` has been declared in the schema, but is not found in the document."
    ))
}

/// The field that a value of `auto` or of a pattern makes; `None` for null, which says nothing.
fn infer(name: &str, value: &Json, declared: &Field) -> Result<Option<Field>, Invalid> {
    let ty = FieldType::of(declared);
    let scalar = |value: &Json| match value {
        Json::String(_) => Some("string"),
        Json::Bool(_) => Some("bool"),
        Json::Number(n) if n.is_f64() => Some("float"),
        Json::Number(_) => Some("int64"),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    };
    let is_array = value.is_array();
    let first = value.as_array().map_or(Some(value), |list| list.first());
    let name_of_type = match (ty.kind, first) {
        (_, None | Some(Json::Null)) => return Ok(None),
        (Kind::AnyAsString, Some(_)) => Some(format!("string{}", if is_array { "[]" } else { "" })),
        (Kind::Auto, Some(first)) => {
            // One fraction among integers makes floats of all.
            let floats = value.as_array().is_some_and(|l| l.iter().any(Json::is_f64)) && first.is_number();
            let element = if floats { Some("float") } else { scalar(first) };
            element.map(|e| format!("{e}{}", if is_array { "[]" } else { "" }))
        }
        (_, Some(_)) => Some(declared.ty.clone()),
    };
    let ty = name_of_type.ok_or_else(|| {
        Invalid::new(format!(
            "Field `{name}` has a value that cannot be searched: objects and arrays of arrays are not supported by this server."
        ))
    })?;
    Ok(Some(Field {
        name: name.to_owned(),
        ty,
        optional: true,
        ..declared.clone()
    }))
}

/// The value as its field has it; `None` when it is to be left out.
fn fit(field: &Field, value: &Json, dirty: DirtyValues) -> Result<Option<Json>, Invalid> {
    let ty = FieldType::of(field);
    let fitting = match (ty.kind, ty.is_array, value) {
        (Kind::Vector(dims), _, Json::Array(list)) => {
            let numbers = list.iter().all(Json::is_number);
            (numbers && list.len() == dims as usize).then(|| value.clone())
        }
        (Kind::Vector(_), _, _) => None,
        (kind, true, Json::Array(list)) => {
            let fitted = list.iter().map(|v| one(kind, v, dirty)).collect::<Option<Vec<_>>>();
            fitted.map(Json::Array)
        }
        (kind, true, single) if coerces(dirty) => one(kind, single, dirty).map(|v| Json::Array(vec![v])),
        (_, true, _) => None,
        (kind, false, single) => one(kind, single, dirty),
    };
    match (fitting, dirty) {
        (Some(value), _) => Ok(Some(value)),
        (None, DirtyValues::Drop | DirtyValues::CoerceOrDrop) if field.optional => Ok(None),
        (None, _) => Err(mismatch(field, ty)),
    }
}

fn coerces(dirty: DirtyValues) -> bool {
    matches!(dirty, DirtyValues::CoerceOrReject | DirtyValues::CoerceOrDrop)
}

fn mismatch(field: &Field, ty: FieldType) -> Invalid {
    let name = &field.name;
    let (article, what) = match ty.kind {
        Kind::Vector(dims) => {
            return Invalid::new(format!("Field `{name}` must have {dims} dimensions."));
        }
        Kind::String => ("a", "string"),
        Kind::Int32 => ("an", "int32"),
        Kind::Int64 => ("an", "int64"),
        Kind::Float => ("a", "float"),
        Kind::Bool => ("a", "bool"),
        Kind::Auto | Kind::AnyAsString => ("a", "plain value"),
    };
    Invalid::new(match ty.is_array {
        true => format!("Field `{name}` must be an array of {what}."),
        false => format!("Field `{name}` must be {article} {what}."),
    })
}

/// A single value of a kind, coerced where that is asked for.
fn one(kind: Kind, value: &Json, dirty: DirtyValues) -> Option<Json> {
    let coerce = coerces(dirty);
    match kind {
        Kind::String | Kind::AnyAsString => match value {
            Json::String(_) => Some(value.clone()),
            Json::Number(_) | Json::Bool(_) if coerce || kind == Kind::AnyAsString => Some(value.to_string().into()),
            _ => None,
        },
        Kind::Int32 => int(value, coerce).filter(|n| i32::try_from(*n).is_ok()).map(Json::from),
        Kind::Int64 => int(value, coerce).map(Json::from),
        Kind::Float => match value {
            Json::Number(_) => Some(value.clone()),
            Json::String(text) if coerce => text.trim().parse().ok().filter(|x: &f64| x.is_finite()).map(Json::from),
            Json::Bool(b) if coerce => Some(f64::from(u8::from(*b)).into()),
            _ => None,
        },
        Kind::Bool => match value {
            Json::Bool(_) => Some(value.clone()),
            Json::String(text) if coerce => match text.to_ascii_lowercase().as_str() {
                "true" => Some(true.into()),
                "false" => Some(false.into()),
                _ => None,
            },
            Json::Number(n) if coerce => match n.as_i64() {
                Some(0) => Some(false.into()),
                Some(1) => Some(true.into()),
                _ => None,
            },
            _ => None,
        },
        Kind::Auto | Kind::Vector(_) => None,
    }
}

fn int(value: &Json, coerce: bool) -> Option<i64> {
    match value {
        Json::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(n), _) => Some(n),
            // Beyond 2^63 nothing is truncated but lost.
            (None, Some(x)) if coerce && n.is_f64() && x.abs() < 9.2e18 => Some(x as i64),
            _ => None,
        },
        Json::String(text) if coerce => text.trim().parse().ok(),
        Json::Bool(b) if coerce => Some(i64::from(*b)),
        _ => None,
    }
}

/// Which fields of a document are shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shown {
    pub include: Option<Vec<String>>,
    pub exclude: Vec<String>,
}

impl Shown {
    /// Whether a field is.
    pub fn shows(&self, name: &str) -> bool {
        let named = |names: &[String]| names.iter().any(|pattern| names_field(pattern, name));
        !named(&self.exclude) && self.include.as_ref().is_none_or(|names| named(names))
    }
}

/// Names end in `*` for all that begin so.
fn names_field(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(stem) => name.starts_with(stem),
        None => pattern == name,
    }
}

/// A row as a document.
///
/// * `hides_id` — whether its id must not be shown
pub fn printed(row: &ResultRow, shown: &Shown, hides_id: bool) -> Map<String, Json> {
    let mut document = Map::new();
    for (name, value) in &row.attributes {
        if &**name == UNDECLARED {
            let Value::String(text) = value else { continue };
            let rest: Map<String, Json> = serde_json::from_str(text).unwrap_or_default();
            document.extend(rest.into_iter().filter(|(name, _)| shown.shows(name)));
        } else if shown.shows(name) {
            document.insert(name.to_string(), json(value));
        }
    }
    if shown.shows("id") && !hides_id {
        document.insert("id".to_owned(), id_text(&row.id).into());
    }
    document
}

/// An id as documents have it: text.
pub fn id_text(id: &Id) -> String {
    id.to_string()
}

/// A value as documents have it: vectors, too.
pub fn json(value: &Value) -> Json {
    // The shortest text of an f32, which as an f64 would have more digits.
    let float = |x: f32| x.to_string().parse::<f64>().map_or(Json::Null, Json::from);
    match value {
        Value::Vector(Vector::F32(v)) => v.iter().map(|x| float(*x)).collect(),
        Value::Vector(Vector::F16(v)) => v.iter().map(|x| float(x.to_f32())).collect(),
        Value::Vector(Vector::I8(v)) => v.iter().map(|x| Json::from(*x)).collect(),
        Value::Datetime(ms) => (*ms).into(),
        other => value::to_json(other),
    }
}

/// What a row has under a name.
pub fn attribute<'a>(row: &'a ResultRow, name: &str) -> Option<&'a Value> {
    let found = row.attributes.iter().find(|(n, _): &&(Arc<str>, Value)| &**n == name);
    found.map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn field(name: &str, ty: &str, optional: bool) -> Field {
        Field {
            optional,
            ..fields::plain(name, ty)
        }
    }

    fn shape() -> Shape {
        let fields = [
            field("title", "string", false),
            field("tags", "string[]", true),
            field("n", "int32", true),
            field("big", "int64", true),
            field("f", "float", true),
            field("b", "bool", true),
            field(".*_s", "string", true),
            field("any_.*", "auto", true),
            Field {
                num_dim: Some(2),
                optional: true,
                ..field("v", "float[]", true)
            },
        ];
        Shape::new(Some(&fields), &Schema::default()).expect("legal")
    }

    fn prepared(document: Json, partial: bool, dirty: DirtyValues) -> Result<Prepared, String> {
        let Json::Object(map) = document else {
            panic!("an object")
        };
        shape()
            .prepare(map, partial, dirty, || "new".into())
            .map_err(|e| e.message)
    }

    #[test]
    fn values_are_coerced_or_refused() {
        use DirtyValues::*;
        for (value, dirty, expected) in [
            (json!({"n": 5}), Reject, Ok(json!({"n": 5}))),
            (json!({"n": "5"}), CoerceOrReject, Ok(json!({"n": 5}))),
            (json!({"n": "5"}), Reject, Err("Field `n` must be an int32.")),
            (json!({"n": "x"}), CoerceOrReject, Err("Field `n` must be an int32.")),
            (json!({"n": "x"}), CoerceOrDrop, Ok(json!({}))),
            (json!({"n": "5"}), Drop, Ok(json!({}))),
            (
                json!({"n": 3_000_000_000u64}),
                CoerceOrReject,
                Err("Field `n` must be an int32."),
            ),
            (
                json!({"big": 3_000_000_000u64}),
                Reject,
                Ok(json!({"big": 3_000_000_000u64})),
            ),
            (json!({"big": 2.9}), CoerceOrReject, Ok(json!({"big": 2}))),
            (
                json!({"big": 1e300}),
                CoerceOrReject,
                Err("Field `big` must be an int64."),
            ),
            (json!({"f": 5}), Reject, Ok(json!({"f": 5}))),
            (json!({"f": "1.5"}), CoerceOrReject, Ok(json!({"f": 1.5}))),
            (json!({"b": "TRUE"}), CoerceOrReject, Ok(json!({"b": true}))),
            (json!({"b": 2}), CoerceOrReject, Err("Field `b` must be a bool.")),
            (json!({"tags": "x"}), CoerceOrReject, Ok(json!({"tags": ["x"]}))),
            (
                json!({"tags": ["x", 1]}),
                CoerceOrReject,
                Ok(json!({"tags": ["x", "1"]})),
            ),
            (
                json!({"tags": ["x", 1]}),
                Reject,
                Err("Field `tags` must be an array of string."),
            ),
            (
                json!({"tags": {}}),
                CoerceOrReject,
                Err("Field `tags` must be an array of string."),
            ),
            (json!({"v": [1, 2]}), Reject, Ok(json!({"v": [1, 2]}))),
            (json!({"v": [1]}), Reject, Err("Field `v` must have 2 dimensions.")),
            (json!({"n": null}), Reject, Ok(json!({"n": null}))),
            (json!({"any_x": [1, 2.5]}), Reject, Ok(json!({"any_x": [1, 2.5]}))),
            (json!({"any_x": {}}), Reject, Err("objects and arrays of arrays")),
            (
                json!({"q": {"deep": 1}}),
                Reject,
                Ok(json!({"_undeclared": "{\"q\":{\"deep\":1}}"})),
            ),
        ] {
            let mut document = value.clone();
            document["id"] = "1".into();
            document["title"] = "t".into();
            match (prepared(document, false, dirty), expected) {
                (Ok(got), Ok(mut expected)) => {
                    expected["id"] = "1".into();
                    expected["title"] = "t".into();
                    assert_eq!(Json::Object(got.row), expected, "{value}");
                }
                (Err(got), Err(says)) => assert!(got.contains(says), "{value}: {got}"),
                (got, expected) => panic!("{value}: {got:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn required_fields_and_ids() {
        let missing = prepared(json!({"n": 1}), false, DirtyValues::default()).expect_err("no title");
        assert!(missing.starts_with("Field `title` has been declared in the schema, but is not found"));
        assert_eq!(
            prepared(json!({"title": "t"}), false, DirtyValues::default())
                .expect("whole")
                .id,
            "new"
        );
        assert!(prepared(json!({"id": 1, "title": "t"}), false, DirtyValues::Reject).is_err());
        assert!(prepared(json!({"id": "", "title": "t"}), false, DirtyValues::default()).is_err());
        let partial = prepared(json!({"id": "1", "n": 2}), true, DirtyValues::default()).expect("partial");
        assert_eq!(Json::Object(partial.row), json!({"id": "1", "n": 2}));
        assert!(prepared(json!({"n": 2}), true, DirtyValues::default()).is_err());
    }

    #[test]
    fn patterns_make_attributes() {
        let got = prepared(
            json!({"title": "t", "colour_s": "red", "any_n": 1, "other": 1}),
            false,
            DirtyValues::default(),
        )
        .expect("legal");
        let names: Vec<&String> = got.new_attributes.keys().collect();
        assert_eq!(names, ["any_n", "colour_s"]);
        assert_eq!(got.new_attributes["any_n"]["type"], "int");
        assert_eq!(got.row["_undeclared"], "{\"other\":1}");
    }

    #[test]
    fn fields_are_shown_or_not() {
        let shown = Shown {
            include: Some(vec!["a".into(), "b*".into()]),
            exclude: vec!["b2".into()],
        };
        let all = ["a", "aa", "b1", "b2", "id"];
        let visible: Vec<&str> = all.into_iter().filter(|n| shown.shows(n)).collect();
        assert_eq!(visible, ["a", "b1"]);
    }
}
