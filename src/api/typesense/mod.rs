//! Typesense's API on the same namespaces: a collection is a namespace, a document a row.
//!
//! `fields` maps field types to attributes, `document` checks and prints documents, `search` answers searches,
//! `settings` keeps synonyms, presets and stop words. What a collection's maker said that a schema has no place for
//! is a record beside it (`control::search_settings`); a namespace made through another dialect has none, and shows
//! the fields that follow from its schema.
//!
//! # Cost
//!
//! A search costs what a query costs; a write costs what a write costs. Records are remembered by the node.

mod collections;
mod document;
mod documents;
mod export;
mod fields;
mod import;
pub mod keys;
pub mod machine;
pub mod operator;
mod search;
mod settings;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_hostile;

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::door::Caller;
use super::error::ApiError;
use super::handlers::json;
use super::needs::{SEARCH, SEARCH_MANY, data, data_of_org};
use super::openapi::operations_typesense as described;
use super::{Api, Route, route};
use crate::auth::{Ask, guard_of};
use crate::base::MemoryShare;
use crate::control::Action;
use crate::error::{Error, ErrorKind, Result};
use crate::model::access::Blocked;
use crate::model::filter_by::{Bounds, FilterBy};
use crate::model::{Filter, Guard, NamespaceName, Schema};
use crate::namespace::{Body, Engine, bodies_used_up};

pub use collections::{CollectionChange, CollectionInput};
pub use settings::{ItemInput, PresetInput, SetInput, StopwordsInput};

/// Every route of this dialect's search surface.
#[rustfmt::skip]
pub(super) fn routes() -> Vec<Route> {
    use Action::*;
    const GET: Method = Method::GET;
    const POST: Method = Method::POST;
    const PUT: Method = Method::PUT;
    const PATCH: Method = Method::PATCH;
    const DELETE: Method = Method::DELETE;
    // The handler asks for the one that the parameter `action` means.
    const WRITES: &[Action] = &[DocumentsCreate, DocumentsUpsert, DocumentsUpdate];
    vec![
        route(POST, "/collections", data_of_org(&[CollectionsCreate]), collections::create, described::create_collection),
        route(GET, "/collections", data_of_org(&[CollectionsList]), collections::list, described::list_collections),
        route(GET, "/collections/{collection}", data(&[CollectionsGet]), collections::get, described::get_collection),
        route(PATCH, "/collections/{collection}", data(&[CollectionsUpdate]), collections::update, described::update_collection),
        route(DELETE, "/collections/{collection}", data(&[CollectionsDelete]), collections::delete, described::delete_collection),
        route(POST, "/collections/{collection}/documents", data(WRITES), documents::create, described::create_document),
        route(PATCH, "/collections/{collection}/documents", data(&[DocumentsUpdate]), documents::update_many, described::update_documents),
        route(DELETE, "/collections/{collection}/documents", data(&[DocumentsDelete]), documents::delete_many, described::delete_documents),
        route(POST, "/collections/{collection}/documents/import", data(&[DocumentsImport]), import::import, described::import_documents),
        route(GET, "/collections/{collection}/documents/export", data(&[DocumentsExport]), export::export, described::export_documents),
        route(GET, "/collections/{collection}/documents/search", SEARCH, search::search, described::search),
        route(GET, "/collections/{collection}/documents/{id}", data(&[DocumentsGet]), documents::get, described::get_document),
        route(PATCH, "/collections/{collection}/documents/{id}", data(&[DocumentsUpdate]), documents::update, described::update_document),
        route(DELETE, "/collections/{collection}/documents/{id}", data(&[DocumentsDelete]), documents::delete, described::delete_document),
        route(POST, "/multi_search", SEARCH_MANY, search::multi_search, described::multi_search),
        route(GET, "/synonym_sets", data_of_org(&[SynonymSetsList]), settings::list_sets, described::list_synonym_sets),
        route(GET, "/synonym_sets/{name}", data_of_org(&[SynonymSetsGet]), settings::get_set, described::get_synonym_set),
        route(PUT, "/synonym_sets/{name}", data_of_org(&[SynonymSetsUpsert]), settings::put_set, described::put_synonym_set),
        route(DELETE, "/synonym_sets/{name}", data_of_org(&[SynonymSetsDelete]), settings::delete_set, described::delete_synonym_set),
        route(GET, "/synonym_sets/{name}/items", data_of_org(&[SynonymItemsList]), settings::list_items, described::list_synonym_items),
        route(GET, "/synonym_sets/{name}/items/{id}", data_of_org(&[SynonymItemsGet]), settings::get_item, described::get_synonym_item),
        route(PUT, "/synonym_sets/{name}/items/{id}", data_of_org(&[SynonymItemsUpsert]), settings::put_item, described::put_synonym_item),
        route(DELETE, "/synonym_sets/{name}/items/{id}", data_of_org(&[SynonymItemsDelete]), settings::delete_item, described::delete_synonym_item),
        route(GET, "/collections/{collection}/synonyms", data(&[SynonymSetsList]), settings::list_synonyms, described::list_synonyms),
        route(GET, "/collections/{collection}/synonyms/{id}", data(&[SynonymSetsGet]), settings::get_synonym, described::get_synonym),
        route(PUT, "/collections/{collection}/synonyms/{id}", data(&[SynonymSetsUpsert]), settings::put_synonym, described::put_synonym),
        route(DELETE, "/collections/{collection}/synonyms/{id}", data(&[SynonymSetsDelete]), settings::delete_synonym, described::delete_synonym),
        route(GET, "/presets", data_of_org(&[PresetsList]), settings::list_presets, described::list_presets),
        route(GET, "/presets/{name}", data_of_org(&[PresetsGet]), settings::get_preset, described::get_preset),
        route(PUT, "/presets/{name}", data_of_org(&[PresetsUpsert]), settings::put_preset, described::put_preset),
        route(DELETE, "/presets/{name}", data_of_org(&[PresetsDelete]), settings::delete_preset, described::delete_preset),
        route(GET, "/stopwords", data_of_org(&[StopwordsList]), settings::list_stopwords, described::list_stopwords),
        route(GET, "/stopwords/{name}", data_of_org(&[StopwordsGet]), settings::get_stopwords, described::get_stopwords),
        route(PUT, "/stopwords/{name}", data_of_org(&[StopwordsUpsert]), settings::put_stopwords, described::put_stopwords),
        route(DELETE, "/stopwords/{name}", data_of_org(&[StopwordsDelete]), settings::delete_stopwords, described::delete_stopwords),
    ]
}

/// The caller of a request and what its path names.
pub struct At {
    pub caller: Caller,
    names: HashMap<String, String>,
}

impl FromRequestParts<Api> for At {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, api).await?;
        let names: Result<Path<HashMap<String, String>>, _> = Path::from_request_parts(parts, api).await;
        let Path(names) = names.map_err(|_| ApiError::invalid("a name in the path is not valid UTF-8"))?;
        Ok(Self { caller, names })
    }
}

impl At {
    /// The collection in the path.
    pub fn namespace(&self) -> Result<NamespaceName> {
        Ok(NamespaceName::parse(self.name("collection"))?)
    }

    /// Another name in the path.
    pub fn name(&self, parameter: &str) -> &str {
        self.names.get(parameter).map(String::as_str).unwrap_or_default()
    }
}

/// The engine as a caller may use it on a namespace. Costs nothing.
fn engine(api: &Api, caller: &Caller, namespace: &NamespaceName) -> Engine {
    api.inner.engine.guarded(Arc::new(guard(caller, namespace)))
}

/// What the organization has used up is no part of it: `metering::admit` answered that, by the plan of now.
fn guard(caller: &Caller, namespace: &NamespaceName) -> Guard {
    let ask = Ask {
        action: Action::CollectionsGet,
        org: &caller.org,
        namespace: Some(namespace.as_str()),
        group: None,
        now: caller.now,
        ip: caller.ip,
    };
    guard_of(&caller.principal, ask, Blocked::default())
}

/// Fails unless the caller may do this to the namespace, as far as that does not depend on its state.
fn require(caller: &Caller, action: Action, namespace: &str) -> Result<()> {
    Ok(caller.may(action, Some(namespace), None)?)
}

/// The engine for an import, which may write whatever the key's other actions are.
fn importing_engine(api: &Api, caller: &Caller, namespace: &NamespaceName) -> Engine {
    let mut guard = guard(caller, namespace);
    (guard.writes.upsert, guard.writes.patch) = (true, true);
    api.inner.engine.guarded(Arc::new(guard))
}

/// A body of a write that this dialect makes, charged for.
fn body_of(api: &Api, body: &impl Serialize) -> Result<Body> {
    let bytes = serde_json::to_vec(body).expect("writes are made of what JSON has");
    let charge = api.inner.runtime.memory.charge(MemoryShare::Bodies, bytes.len() as u64);
    Ok(Body {
        bytes: bytes.into(),
        charge: charge.map_err(|e| bodies_used_up().because(e))?,
    })
}

/// An answer about a collection that does not exist, in Typesense's words.
fn no_collection(name: &NamespaceName, error: Error) -> Error {
    match error.kind == ErrorKind::NotFound && error.message.starts_with("namespace ") {
        true => Error::new(ErrorKind::NotFound, format!("No collection with name `{name}` found.")),
        false => error,
    }
}

/// A `filter_by` of a request for a schema.
///
/// # Errors
///
/// 404 for unknown fields, 400 for what else is wrong.
fn compiled(filter_by: &str, schema: &Schema) -> Result<Filter> {
    let parsed = FilterBy::parse_within(filter_by, Bounds::REQUEST)?;
    check_fields(&parsed, schema)?;
    Ok(parsed.compile(schema)?)
}

/// 404 for a field that does not exist.
fn check_fields(filter: &FilterBy, schema: &Schema) -> Result<()> {
    match filter
        .fields()
        .into_iter()
        .find(|f| *f != "id" && schema.get(f).is_none())
    {
        None => Ok(()),
        Some(name) => Err(Error::new(
            ErrorKind::NotFound,
            format!("Could not find a filter field named `{name}` in the schema."),
        )),
    }
}

/// A JSON answer.
fn ok(status: StatusCode, body: &impl Serialize) -> Response {
    json(
        status,
        serde_json::to_vec(body).expect("answers are made of what JSON has"),
    )
}

/// The JSON of a body, whatever its content type says.
fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|e| match e.classify() {
        serde_json::error::Category::Data => Error::invalid(format!("Bad JSON: {e}.")),
        _ => Error::invalid("Bad JSON."),
    })
}
