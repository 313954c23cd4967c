//! Fields of collections, and the attributes that they are.

use regex::{Regex, RegexBuilder};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::control::search_settings::Field;
use crate::model::names::check_attribute_name;
use crate::model::types::DIMS_MAX;
use crate::model::{AttrType, Invalid, Scalar, Schema};

/// The attribute that holds, as JSON, what documents have besides declared fields.
pub const UNDECLARED: &str = crate::model::access::UNDECLARED;
/// The most fields of a collection.
const FIELDS_MAX: usize = 1000;

/// One declared field, as it comes from a client. What is not named here has no effect.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(rename = "TypesenseField")]
pub struct FieldInput {
    /// A name, or a pattern such as `.*_s` for fields that documents bring.
    pub name: String,
    /// `string`, `int32`, `int64`, `float`, `bool`, arrays of them such as `string[]`, `auto`, `string*`;
    /// `float[]` with `num_dim` is a vector.
    #[serde(rename = "type")]
    pub ty: Option<String>,
    /// In changes: removes the field.
    pub drop: Option<bool>,
    pub facet: Option<bool>,
    pub optional: Option<bool>,
    /// Whether the field can be searched and filtered.
    pub index: Option<bool>,
    pub sort: Option<bool>,
    pub infix: Option<bool>,
    /// The language of `stem`.
    pub locale: Option<String>,
    pub stem: Option<bool>,
    pub store: Option<bool>,
    pub num_dim: Option<u32>,
    /// `cosine`.
    pub vec_dist: Option<String>,
}

/// What values of a field are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    String,
    Int32,
    Int64,
    Float,
    Bool,
    /// Whatever the first document has.
    Auto,
    /// Whatever it has, as text.
    AnyAsString,
    Vector(u32),
}

/// What a field's `type` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldType {
    pub kind: Kind,
    pub is_array: bool,
}

impl FieldType {
    /// The type of a field that was checked before.
    pub fn of(field: &Field) -> Self {
        parse_type(&field.ty, field.num_dim).unwrap_or(Self {
            kind: Kind::Auto,
            is_array: false,
        })
    }

    /// Whether values are numbers of one kind, one per document.
    pub fn is_number(self) -> bool {
        !self.is_array && matches!(self.kind, Kind::Int32 | Kind::Int64 | Kind::Float)
    }
}

fn parse_type(name: &str, num_dim: Option<u32>) -> Result<FieldType, String> {
    if let Some(dims) = num_dim.filter(|n| *n > 0) {
        return match (name, dims <= DIMS_MAX) {
            ("float[]", true) => Ok(FieldType {
                kind: Kind::Vector(dims),
                is_array: false,
            }),
            ("float[]", false) => Err(format!("num_dim can be at most {DIMS_MAX}")),
            _ => Err("only fields of type `float[]` can have `num_dim`".into()),
        };
    }
    let (element, is_array) = name.strip_suffix("[]").map_or((name, false), |e| (e, true));
    let kind = match element {
        "string" => Kind::String,
        "int32" => Kind::Int32,
        "int64" => Kind::Int64,
        "float" => Kind::Float,
        "bool" => Kind::Bool,
        "auto" if !is_array => Kind::Auto,
        "string*" if !is_array => Kind::AnyAsString,
        "object" | "geopoint" | "geopolygon" | "image" => {
            return Err(format!(
                "fields of type `{name}` are not supported by this server; declare the values that you search as fields of \
                 their own"
            ));
        }
        _ => return Err(format!("`{name}` is no type of fields")),
    };
    Ok(FieldType { kind, is_array })
}

impl FieldInput {
    /// The field with its defaults, checked. `drop` is not looked at.
    ///
    /// # Errors
    ///
    /// The sentence for the client.
    pub fn into_field(self) -> Result<Field, Invalid> {
        let name = self.name;
        let at = |why: String| Invalid::new(format!("Field `{name}`: {why}."));
        let ty = self.ty.unwrap_or_default();
        let parsed = parse_type(&ty, self.num_dim).map_err(at)?;
        if let Some(metric) = self.vec_dist.as_deref().filter(|m| *m != "cosine") {
            return Err(at(format!("vec_dist `{metric}` is not supported, use `cosine`")));
        }
        if matches!(parsed.kind, Kind::Vector(_)) && self.optional == Some(true) {
            return Err(at("vectors cannot be optional, because every document needs one".into()));
        }
        let field = Field {
            facet: self.facet.unwrap_or(false),
            optional: self.optional.unwrap_or(is_pattern(&name) || parsed.kind == Kind::Auto),
            index: self.index.unwrap_or(true),
            sort: self.sort.unwrap_or(parsed.is_number()),
            infix: self.infix.unwrap_or(false),
            locale: self.locale.unwrap_or_default(),
            stem: self.stem.unwrap_or(false),
            store: self.store.unwrap_or(true),
            num_dim: self.num_dim.filter(|n| *n > 0),
            vec_dist: self.vec_dist,
            ty,
            name,
        };
        if is_pattern(&field.name) {
            pattern(&field.name)?;
        } else if field.name == UNDECLARED {
            return Err(Invalid::new(format!("the name `{UNDECLARED}` is reserved")));
        } else {
            check_attribute_name(&field.name)?;
        }
        if field.stem {
            language(&field)?;
        }
        Ok(field)
    }
}

/// Fields of a new collection: each name once, not too many.
///
/// # Errors
///
/// The sentence for the client.
pub fn checked(fields: Vec<FieldInput>) -> Result<Vec<Field>, Invalid> {
    if fields.len() > FIELDS_MAX {
        return Err(Invalid::new(format!(
            "a collection can have at most {FIELDS_MAX} fields"
        )));
    }
    let fields: Vec<Field> = fields
        .into_iter()
        .map(FieldInput::into_field)
        .collect::<Result<_, _>>()?;
    let mut names: Vec<&str> = fields.iter().map(|f| f.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(fields),
        Some(pair) => Err(Invalid::new(format!(
            "There are duplicate field names in the schema: `{}`.",
            pair[0]
        ))),
    }
}

/// Whether a name stands for many.
pub fn is_pattern(name: &str) -> bool {
    name.contains('*')
}

/// A pattern of field names, compiled.
pub fn pattern(name: &str) -> Result<Regex, Invalid> {
    if name.len() > 256 {
        return Err(Invalid::new("a pattern of field names can have at most 256 bytes"));
    }
    let whole = format!("^(?:{name})$");
    let compiled = RegexBuilder::new(&whole).size_limit(1 << 16).build();
    compiled.map_err(|_| {
        Invalid::new(format!(
            "Field `{name}`: the name is not a pattern that can be compiled."
        ))
    })
}

fn language(field: &Field) -> Result<&'static str, Invalid> {
    const LOCALES: &[(&str, &str)] = &[
        ("", "english"),
        ("en", "english"),
        ("ar", "arabic"),
        ("da", "danish"),
        ("nl", "dutch"),
        ("fi", "finnish"),
        ("fr", "french"),
        ("de", "german"),
        ("el", "greek"),
        ("hu", "hungarian"),
        ("it", "italian"),
        ("no", "norwegian"),
        ("pt", "portuguese"),
        ("ro", "romanian"),
        ("ru", "russian"),
        ("es", "spanish"),
        ("sv", "swedish"),
        ("ta", "tamil"),
        ("tr", "turkish"),
    ];
    let short = field.locale.split(['-', '_']).next().unwrap_or_default();
    let found = LOCALES.iter().find(|(locale, _)| *locale == short);
    found.map(|(_, language)| *language).ok_or_else(|| {
        Invalid::new(format!(
            "Field `{}`: there is no stemmer for locale `{}`.",
            field.name, field.locale
        ))
    })
}

/// The schema entry of a field; `None` for fields whose attributes come with documents.
///
/// # Errors
///
/// There is no stemmer for its language.
pub fn schema_entry(field: &Field) -> Result<Option<Json>, Invalid> {
    let ty = FieldType::of(field);
    if field.name == "id" || is_pattern(&field.name) {
        return Ok(None);
    }
    let name = match (ty.kind, ty.is_array) {
        (Kind::Auto | Kind::AnyAsString, _) => return Ok(None),
        (Kind::Vector(dims), _) => {
            return Ok(Some(json!({
                "type": format!("[{dims}]f32"),
                "ann": {"distance_metric": "cosine_distance"},
            })));
        }
        (Kind::String, array) => {
            let name = if array { "[]string" } else { "string" };
            return Ok(Some(match field.index {
                false => json!({"type": name, "filterable": false}),
                true => json!({
                    "type": name,
                    "filterable": true,
                    "fuzzy": true,
                    "full_text_search": {
                        "language": language(field).unwrap_or("english"),
                        "stemming": field.stem,
                        "ascii_folding": true,
                    },
                }),
            }));
        }
        (Kind::Int32 | Kind::Int64, false) => "int",
        (Kind::Int32 | Kind::Int64, true) => "[]int",
        (Kind::Float, false) => "float",
        (Kind::Float, true) => "[]float",
        (Kind::Bool, false) => "bool",
        (Kind::Bool, true) => "[]bool",
    };
    Ok(Some(json!({"type": name, "filterable": field.index})))
}

/// A field of that name with the defaults of an inferred one.
pub fn plain(name: &str, ty: &str) -> Field {
    Field {
        name: name.to_owned(),
        ty: ty.to_owned(),
        facet: false,
        optional: true,
        index: true,
        sort: matches!(ty, "int32" | "int64" | "float"),
        infix: false,
        locale: String::new(),
        stem: false,
        store: true,
        num_dim: None,
        vec_dist: None,
    }
}

/// What the attributes of a schema are as fields: those that are not among `declared`.
pub fn derived(schema: &Schema, declared: &[Field]) -> Vec<Field> {
    let hidden = |name: &str| name == UNDECLARED || name.starts_with('$') || declared.iter().any(|f| f.name == name);
    let attributes = schema.attributes().filter(|a| !hidden(&a.name));
    attributes
        .filter_map(|a| {
            let scalar = |s: Scalar| match s {
                Scalar::Int | Scalar::UInt | Scalar::Datetime => "int64",
                Scalar::Float => "float",
                Scalar::Bool => "bool",
                Scalar::String | Scalar::Uuid | Scalar::Bytes => "string",
            };
            let mut field = match a.ty {
                AttrType::Scalar(s) => plain(&a.name, scalar(s)),
                AttrType::Array(s) => plain(&a.name, &format!("{}[]", scalar(s))),
                AttrType::Vector { dims, .. } => Field {
                    num_dim: Some(dims),
                    optional: a.nullable,
                    ..plain(&a.name, "float[]")
                },
                AttrType::MultiVector { .. } | AttrType::SparseVector => return None,
            };
            field.index = a.filterable || a.full_text.is_some() || a.ty.is_vector();
            field.facet = a.filterable;
            Some(field)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(json: Json) -> Result<Field, String> {
        let input: FieldInput = serde_json::from_value(json).map_err(|e| e.to_string())?;
        input.into_field().map_err(|e| e.message)
    }

    #[test]
    fn types_become_attributes() {
        let text = json!({"type": "string", "filterable": true, "fuzzy": true,
            "full_text_search": {"language": "english", "stemming": false, "ascii_folding": true}});
        for (field, entry) in [
            (json!({"name": "a", "type": "string"}), text.clone()),
            (
                json!({"name": "a", "type": "string", "index": false}),
                json!({"type": "string", "filterable": false}),
            ),
            (
                json!({"name": "a", "type": "int32[]"}),
                json!({"type": "[]int", "filterable": true}),
            ),
            (
                json!({"name": "a", "type": "int64"}),
                json!({"type": "int", "filterable": true}),
            ),
            (
                json!({"name": "a", "type": "bool", "index": false}),
                json!({"type": "bool", "filterable": false}),
            ),
            (
                json!({"name": "a", "type": "float[]"}),
                json!({"type": "[]float", "filterable": true}),
            ),
            (
                json!({"name": "a", "type": "float[]", "num_dim": 3}),
                json!({"type": "[3]f32", "ann": {"distance_metric": "cosine_distance"}}),
            ),
        ] {
            let field = input(field).expect("legal");
            assert_eq!(schema_entry(&field).expect("legal"), Some(entry), "{field:?}");
        }
        let german = input(json!({"name": "a", "type": "string", "stem": true, "locale": "de"})).expect("legal");
        let entry = schema_entry(&german).expect("legal").expect("an attribute");
        assert_eq!(entry["full_text_search"]["language"], "german");
        for name in ["auto", "string*"] {
            let field = input(json!({"name": ".*", "type": name})).expect("legal");
            assert_eq!(schema_entry(&field).expect("legal"), None);
        }
    }

    #[test]
    fn fields_that_cannot_be_are_refused() {
        for (field, says) in [
            (json!({"name": "a", "type": "object"}), "not supported"),
            (json!({"name": "a", "type": "geopoint[]"}), "not supported"),
            (json!({"name": "a", "type": "text"}), "no type"),
            (json!({"name": "a"}), "no type"),
            (json!({"name": "a", "type": "int32", "num_dim": 2}), "float[]"),
            (json!({"name": "a", "type": "float[]", "num_dim": 100_000}), "at most"),
            (
                json!({"name": "a", "type": "float[]", "num_dim": 2, "optional": true}),
                "optional",
            ),
            (
                json!({"name": "a", "type": "float[]", "num_dim": 2, "vec_dist": "ip"}),
                "cosine",
            ),
            (json!({"name": "*(", "type": "auto"}), "pattern"),
            (json!({"name": "$x", "type": "int32"}), "reserved"),
            (json!({"name": "_undeclared", "type": "int32"}), "reserved"),
            (
                json!({"name": "a", "type": "string", "stem": true, "locale": "xx"}),
                "stemmer",
            ),
        ] {
            let error = input(field.clone()).expect_err("refused");
            assert!(error.contains(says), "{field}: {error}");
        }
    }
}
