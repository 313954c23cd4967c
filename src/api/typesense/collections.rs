//! Collections: made, listed, described, changed, deleted.

use axum::extract::{RawQuery, Request, State};
use axum::http::StatusCode;
use futures::{StreamExt, TryStreamExt};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use super::fields::{self, FieldInput, FieldType, UNDECLARED};
use super::search::{of_query, split};
use super::{At, body_of, engine, no_collection, ok, parse_json};
use crate::api::door::Caller;
use crate::api::error::Answer;
use crate::api::handlers::{delete_unprotected, read_body};
use crate::api::{Api, quota};
use crate::control::Action;
use crate::control::search_settings::{Collection, Field};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Invalid, NamespaceName};
use crate::namespace::{Creation, Metadata};

/// The largest body of a request about a collection, in bytes.
const BODY_BYTES_MAX: u64 = 1 << 20;
/// Names per page of the engine's list.
const PAGE: usize = 1000;
/// Collections that are described at the same time.
const DESCRIBED_AT_ONCE: usize = 8;

/// A new collection. What is not named here has no effect.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "TypesenseCollection")]
pub struct CollectionInput {
    pub name: String,
    pub fields: Vec<FieldInput>,
    /// A field of numbers, by which documents are sorted when nothing else is said.
    pub default_sorting_field: Option<String>,
    pub enable_nested_fields: Option<bool>,
    pub token_separators: Option<Vec<String>>,
    pub symbols_to_index: Option<Vec<String>>,
    /// Names of synonym sets that apply to searches.
    pub synonym_sets: Option<Vec<String>>,
    #[schemars(with = "Option<serde_json::Map<String, Json>>")]
    pub metadata: Option<Json>,
}

/// A change of a collection.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "TypesenseCollectionChange")]
pub struct CollectionChange {
    pub fields: Option<Vec<FieldInput>>,
    pub synonym_sets: Option<Vec<String>>,
    #[schemars(with = "Option<serde_json::Map<String, Json>>")]
    pub metadata: Option<Json>,
}

/// A collection as Typesense prints it.
fn printed(name: &NamespaceName, known: &Metadata, record: Option<&Collection>) -> Json {
    // A record of a namespace that was deleted since says nothing of the one that has its name now.
    let record = record.filter(|r| r.namespace == known.id);
    let declared = record.map(|r| r.fields.clone()).unwrap_or_default();
    let mut fields = declared.clone();
    fields.extend(fields::derived(&known.schema, &declared));
    let mut body = json!({
        "name": name.as_str(),
        "num_documents": known.unindexed_rows,
        "created_at": known.created_ms / 1000,
        "fields": fields,
        "default_sorting_field": record.map(|r| r.default_sorting_field.as_str()).unwrap_or_default(),
        "enable_nested_fields": record.is_some_and(|r| r.enable_nested_fields),
        "token_separators": record.map(|r| r.token_separators.clone()).unwrap_or_default(),
        "symbols_to_index": record.map(|r| r.symbols_to_index.clone()).unwrap_or_default(),
        "synonym_sets": record.map(|r| r.synonym_sets.clone()).unwrap_or_default(),
        "curation_sets": [],
    });
    if let Some(metadata) = record.and_then(|r| r.metadata.clone()) {
        body["metadata"] = metadata;
    }
    body
}

/// The schema of a namespace with these fields, as `Engine::create` and `Engine::update_schema` take it.
fn schema_of<'a>(fields: impl Iterator<Item = &'a Field>) -> Result<Map<String, Json>, Invalid> {
    let mut schema = Map::new();
    for field in fields {
        schema.extend(fields::schema_entry(field)?.map(|entry| (field.name.clone(), entry)));
    }
    Ok(schema)
}

fn undeclared() -> Json {
    json!({"type": "string", "filterable": false})
}

fn check_default_sorting_field(name: &str, fields: &[Field]) -> Result<()> {
    if name.is_empty() {
        return Ok(());
    }
    let field = fields.iter().find(|f| f.name == name);
    let field = field.ok_or_else(|| {
        Error::invalid(format!(
            "Default sorting field is defined as `{name}` but is not found in the schema."
        ))
    })?;
    match FieldType::of(field).is_number() && !field.optional {
        true => Ok(()),
        false => Err(Error::invalid(format!(
            "Default sorting field `{name}` must be a single valued numerical field that is not optional."
        ))),
    }
}

/// `POST /collections`
pub async fn create(State(api): State<Api>, caller: Caller, request: Request) -> Answer {
    let (_, body) = read_body(&api, request, BODY_BYTES_MAX).await?;
    let input: CollectionInput = parse_json(&body.bytes)?;
    let name = NamespaceName::parse(&input.name)?;
    caller.require(Action::CollectionsCreate, name.as_str())?;
    if input.fields.is_empty() {
        return Err(Error::invalid(
            "The `fields` value should be an array objects containing the field names and types.",
        )
        .into());
    }
    let fields = fields::checked(input.fields)?;
    let default_sorting_field = input.default_sorting_field.unwrap_or_default();
    check_default_sorting_field(&default_sorting_field, &fields)?;
    let mut schema = schema_of(fields.iter())?;
    schema.insert("id".to_owned(), "string".into());
    schema.insert(UNDECLARED.to_owned(), undeclared());
    let creation = Creation {
        schema: Some(Json::Object(schema).to_string().into()),
        ..Creation::default()
    };
    if let Some(error) = quota::exhausted(&api, &caller, &name).await? {
        return Err(error.into());
    }
    let created = engine(&api, &caller, &name).create(&caller.org, &name, creation).await;
    let known = created.map_err(|e| match e.kind {
        ErrorKind::Conflict => Error::new(
            ErrorKind::Conflict,
            format!("A collection with name `{name}` already exists."),
        ),
        _ => e,
    })?;
    let record = Collection {
        namespace: known.id,
        fields,
        default_sorting_field,
        enable_nested_fields: input.enable_nested_fields.unwrap_or(false),
        token_separators: input.token_separators.unwrap_or_default(),
        symbols_to_index: input.symbols_to_index.unwrap_or_default(),
        synonym_sets: input.synonym_sets.unwrap_or_default(),
        metadata: input.metadata,
    };
    let control = &api.inner.control;
    control.put_setting(&caller.org, name.as_str(), record.clone()).await?;
    Ok(ok(StatusCode::CREATED, &printed(&name, &known, Some(&record))))
}

/// `GET /collections`
pub async fn list(State(api): State<Api>, caller: Caller, RawQuery(query): RawQuery) -> Answer {
    let params = of_query(query.as_deref().unwrap_or_default());
    let number = |name: &str| -> Result<Option<usize>> {
        let parse = |text: &String| {
            text.parse()
                .map_err(|_| Error::invalid(format!("`{name}` must be a number.")))
        };
        params.get(name).map(parse).transpose()
    };
    let (offset, limit) = (number("offset")?.unwrap_or(0), number("limit")?.unwrap_or(usize::MAX));
    let hidden = params.get("exclude_fields").map(|text| split(text)).unwrap_or_default();
    let mut names = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = api.inner.engine.list(&caller.org, "", cursor.as_deref(), PAGE).await?;
        let visible = |name: &NamespaceName| caller.may(Action::CollectionsList, Some(name.as_str()), None).is_ok();
        names.extend(page.names.into_iter().filter(visible));
        cursor = page.next_cursor;
        if cursor.is_none() || names.len() >= offset.saturating_add(limit) {
            break;
        }
    }
    let page = names.into_iter().skip(offset).take(limit);
    let described = futures::stream::iter(page).map(|name| {
        let (api, caller) = (&api, &caller);
        async move {
            match describe(api, caller, &name).await {
                Ok(described) => Ok(Some(described)),
                // Deleted since it was listed, or for others.
                Err(e)
                    if matches!(
                        e.kind,
                        ErrorKind::NotFound | ErrorKind::Unauthenticated | ErrorKind::Forbidden
                    ) =>
                {
                    Ok(None)
                }
                Err(e) => Err(e),
            }
        }
    });
    let described: Vec<Option<Json>> = described.buffered(DESCRIBED_AT_ONCE).try_collect().await?;
    let shown = described.into_iter().flatten().map(|mut collection| {
        if let Some(map) = collection.as_object_mut() {
            map.retain(|name, _| !hidden.contains(name));
        }
        collection
    });
    Ok(ok(StatusCode::OK, &Json::from_iter(shown)))
}

async fn describe(api: &Api, caller: &Caller, name: &NamespaceName) -> Result<Json> {
    let known = engine(api, caller, name).metadata(&caller.org, name).await;
    let known = known.map_err(|e| no_collection(name, e))?;
    let record = api
        .inner
        .control
        .setting::<Collection>(&caller.org, name.as_str())
        .await?;
    Ok(printed(name, &known, record.as_deref()))
}

/// `GET /collections/{collection}`
pub async fn get(State(api): State<Api>, at: At) -> Answer {
    Ok(ok(StatusCode::OK, &describe(&api, &at.caller, &at.namespace()?).await?))
}

/// `DELETE /collections/{collection}`
pub async fn delete(State(api): State<Api>, at: At) -> Answer {
    let (caller, name) = (&at.caller, at.namespace()?);
    let described = describe(&api, caller, &name).await?;
    let engine = engine(&api, caller, &name);
    let deleted = delete_unprotected(&api, &engine, caller, &name).await;
    deleted.map_err(|e| no_collection(&name, e))?;
    let control = &api.inner.control;
    control.remove_setting::<Collection>(&caller.org, name.as_str()).await?;
    let own = super::settings::set_of_collection(&name);
    if control
        .setting::<crate::control::search_settings::SynonymSet>(&caller.org, &own)
        .await?
        .is_some()
    {
        control
            .remove_setting::<crate::control::search_settings::SynonymSet>(&caller.org, &own)
            .await?;
    }
    Ok(ok(StatusCode::OK, &described))
}

/// `PATCH /collections/{collection}`
pub async fn update(State(api): State<Api>, at: At, request: Request) -> Answer {
    let (caller, name) = (&at.caller, at.namespace()?);
    let (_, body) = read_body(&api, request, BODY_BYTES_MAX).await?;
    let change: CollectionChange = parse_json(&body.bytes)?;
    let CollectionChange {
        fields: changed,
        synonym_sets,
        metadata,
    } = change;
    if changed.is_none() && synonym_sets.is_none() && metadata.is_none() {
        return Err(Error::invalid(
            "The `fields` value should be an array objects containing the field names and types.",
        )
        .into());
    }
    let engine = engine(&api, caller, &name);
    let known = engine.metadata(&caller.org, &name).await;
    let known = known.map_err(|e| no_collection(&name, e))?;
    let control = &api.inner.control;
    let record = control.setting::<Collection>(&caller.org, name.as_str()).await?;
    let before = record.as_deref().filter(|r| r.namespace == known.id);
    let declared = before.map(|r| r.fields.clone()).unwrap_or_default();
    let (mut dropped, mut added, mut echoed) = (Vec::new(), Vec::new(), Vec::new());
    for field in changed.unwrap_or_default() {
        if field.drop == Some(true) {
            let exists = declared.iter().any(|f| f.name == field.name) || known.schema.get(&field.name).is_some();
            if !exists || field.name == UNDECLARED {
                return Err(Error::invalid(format!("Field `{}` is not part of collection schema.", field.name)).into());
            }
            echoed.push(json!({"name": field.name, "drop": true}));
            dropped.push(field.name);
        } else {
            let field = field.into_field()?;
            let exists = declared.iter().any(|f| f.name == field.name) || known.schema.get(&field.name).is_some();
            if exists && !dropped.contains(&field.name) {
                return Err(Error::invalid(format!(
                    "Field `{}` is already part of the schema: To change this field, drop it first before adding it back \
                     to the schema.",
                    field.name
                ))
                .into());
            }
            if known.unindexed_rows > 0 && !field.optional {
                return Err(Error::invalid(format!(
                    "Field `{}` has been declared in the schema, but is not found in the documents already present in the \
                     collection. If you still want to add this field, set it as `optional: true`.",
                    field.name
                ))
                .into());
            }
            echoed.push(serde_json::to_value(&field).unwrap_or_default());
            added.push(field);
        }
    }
    let mut schema = Map::new();
    for name in dropped.iter().filter(|name| known.schema.get(name).is_some()) {
        schema.insert(name.clone(), json!({"drop": true}));
    }
    if !schema.is_empty() {
        let body = body_of(&api, &schema)?;
        engine.update_schema(&caller.org, &name, body).await?;
    }
    let mut schema = schema_of(added.iter())?;
    if known.schema.get(UNDECLARED).is_none() {
        schema.insert(UNDECLARED.to_owned(), undeclared());
    }
    if !schema.is_empty() {
        let body = body_of(&api, &schema)?;
        engine.update_schema(&caller.org, &name, body).await?;
    }
    let derived = fields::derived(&known.schema, &declared);
    control
        .change_setting::<Collection>(&caller.org, name.as_str(), |stored| {
            let mut record = stored
                .filter(|r| r.namespace == known.id)
                .unwrap_or_else(|| Collection {
                    namespace: known.id,
                    // From now on there is a record, which has to have what was known without.
                    fields: derived.clone(),
                    default_sorting_field: String::new(),
                    enable_nested_fields: false,
                    token_separators: Vec::new(),
                    symbols_to_index: Vec::new(),
                    synonym_sets: Vec::new(),
                    metadata: None,
                });
            record.fields.retain(|f| !dropped.contains(&f.name));
            record.fields.retain(|f| !added.iter().any(|a| a.name == f.name));
            record.fields.extend(added.iter().cloned());
            if dropped.contains(&record.default_sorting_field) {
                record.default_sorting_field.clear();
            }
            if let Some(sets) = &synonym_sets {
                record.synonym_sets.clone_from(sets);
            }
            if metadata.is_some() {
                record.metadata.clone_from(&metadata);
            }
            Ok(Some(record))
        })
        .await?;
    let mut answer = json!({ "fields": echoed });
    if let Some(sets) = synonym_sets {
        answer["synonym_sets"] = sets.into();
    }
    if let Some(metadata) = metadata {
        answer["metadata"] = metadata;
    }
    Ok(ok(StatusCode::OK, &answer))
}
