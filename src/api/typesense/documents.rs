//! Documents: written, read and deleted, one by one and by filter.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use axum::extract::{RawQuery, Request, State};
use axum::http::StatusCode;
use serde_json::{Map, Value as Json, json};

use super::document::{DirtyValues, Prepared, Shape, Shown, json as value_json, printed};
use super::fields::UNDECLARED;
use super::search::{Params, of_query, split};
use super::{At, body_of, compiled, engine, importing_engine, no_collection, ok, parse_json};
use crate::api::door::Caller;
use crate::api::error::Answer;
use crate::api::handlers::read_body;
use crate::api::{Api, metering};
use crate::control::Action;
use crate::control::search_settings::Collection;
use crate::control::usage::Used;
use crate::error::{Error, ErrorKind, Result};
use crate::model::access::Access;
use crate::model::query::{Projection, Read};
use crate::model::{Consistency, Filter, FilterOp, IdColumn, NamespaceName, Query};
use crate::namespace::{Engine, Glance, WriteOutcome};
use crate::query::{QueryResult, ResultRow};

/// The largest single document, in bytes.
const DOCUMENT_BYTES_MAX: u64 = 16 << 20;
/// How often a document that appears and disappears is tried again.
const ATTEMPTS: usize = 3;

/// What is done with a document, the parameter `action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WriteAction {
    /// It must not exist.
    #[default]
    Create,
    /// It is replaced.
    Upsert,
    /// It must exist; the fields that are given change.
    Update,
    /// It is made, or the fields that are given change.
    Emplace,
}

impl WriteAction {
    /// The action of that name; creating without one.
    pub fn parse(text: Option<&str>) -> Result<Self> {
        match text {
            None | Some("" | "create") => Ok(Self::Create),
            Some("upsert") => Ok(Self::Upsert),
            Some("update") => Ok(Self::Update),
            Some("emplace") => Ok(Self::Emplace),
            Some(_) => Err(Error::invalid(
                "Parameter `action` must be a create|update|upsert|emplace.",
            )),
        }
    }

    /// Whether documents need not be whole.
    pub fn is_partial(self) -> bool {
        matches!(self, Self::Update | Self::Emplace)
    }
}

/// What became of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Written,
    /// It was to be created, and there is one.
    Exists,
    /// It was to be updated, and there is none.
    Missing,
}

impl Outcome {
    /// What a client is told.
    pub fn check(self, id: &str) -> Result<()> {
        match self {
            Outcome::Written => Ok(()),
            Outcome::Exists => Err(Error::new(
                ErrorKind::Conflict,
                format!("A document with id {id} already exists."),
            )),
            Outcome::Missing => Err(no_document(id)),
        }
    }
}

fn no_document(id: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("Could not find a document with id: {id}"))
}

/// Writes documents of one collection.
pub struct Documents<'a> {
    pub api: &'a Api,
    pub caller: &'a Caller,
    pub name: NamespaceName,
    pub engine: Engine,
    pub shape: Shape,
    glance: Glance,
    /// Of everything that the request did so far.
    used: Mutex<Used>,
}

/// What was written before something failed or the client left was written all the same: it is metered whichever
/// way the request ends, as one write.
impl Drop for Documents<'_> {
    fn drop(&mut self) {
        let used = *self.used.get_mut().unwrap_or_else(PoisonError::into_inner);
        if used != Used::default() {
            let writes = used.writes.min(1);
            self.api.meter(
                self.caller,
                &self.name,
                &Used {
                    queries: 0,
                    writes,
                    ..used
                },
            );
        }
    }
}

impl<'a> Documents<'a> {
    /// Costs nothing warm.
    pub async fn of(api: &'a Api, caller: &'a Caller, name: NamespaceName) -> Result<Self> {
        let engine = engine(api, caller, &name);
        Self::through(engine, api, caller, name).await
    }

    /// The same for an import.
    pub async fn of_import(api: &'a Api, caller: &'a Caller, name: NamespaceName) -> Result<Self> {
        let engine = importing_engine(api, caller, &name);
        Self::through(engine, api, caller, name).await
    }

    async fn through(engine: Engine, api: &'a Api, caller: &'a Caller, name: NamespaceName) -> Result<Self> {
        let glance = engine.glance(&caller.org, &name, Access::Write, false).await;
        let glance = glance.map_err(|e| no_collection(&name, e))?;
        let record = api
            .inner
            .control
            .setting::<Collection>(&caller.org, name.as_str())
            .await?;
        let record = record.filter(|r| r.namespace == glance.id);
        Ok(Self {
            shape: Shape::new(record.as_ref().map(|r| r.fields.as_slice()), &glance.schema)?,
            api,
            caller,
            name,
            engine,
            glance,
            used: Mutex::default(),
        })
    }

    /// Checks a document.
    pub fn prepare(&self, document: Map<String, Json>, action: WriteAction, dirty: DirtyValues) -> Result<Prepared> {
        let new_id = || self.api.inner.runtime.rng.uuid().to_string();
        // A document that is emplaced may be new, and have no id then.
        let mut document = document;
        if action == WriteAction::Emplace && !document.contains_key("id") {
            document.insert("id".to_owned(), new_id().into());
        }
        let prepared = self.shape.prepare(document, action.is_partial(), dirty, new_id)?;
        Ok(prepared)
    }

    /// Writes documents, no two with the same id. All or none, but for those that are skipped.
    ///
    /// Costs one PUT; a GET besides where documents are merged with what is stored, and another PUT where some are
    /// emplaced that did not exist.
    pub async fn write(&self, action: WriteAction, documents: &[Prepared]) -> Result<Vec<Outcome>> {
        match action {
            WriteAction::Create => self.create(documents).await,
            WriteAction::Upsert => {
                let body = self.body("upsert_rows", documents.iter().map(|d| d.row.clone()), documents);
                self.commit(body).await?;
                Ok(vec![Outcome::Written; documents.len()])
            }
            WriteAction::Update => self.update(documents).await,
            WriteAction::Emplace => {
                let mut outcomes = self.update(documents).await?;
                for _ in 0..ATTEMPTS {
                    let missing = |o: &Outcome| *o == Outcome::Missing;
                    let at: Vec<usize> = (0..outcomes.len()).filter(|i| missing(&outcomes[*i])).collect();
                    if at.is_empty() {
                        break;
                    }
                    let new: Vec<Prepared> = at.iter().map(|i| self.whole(&documents[*i])).collect::<Result<_>>()?;
                    let created = self.create(&new).await?;
                    let there: Vec<usize> = (0..at.len()).filter(|i| created[*i] == Outcome::Exists).collect();
                    let again: Vec<Prepared> = there.iter().map(|i| documents[at[*i]].clone()).collect();
                    let updated = match again.is_empty() {
                        true => Vec::new(),
                        false => self.update(&again).await?,
                    };
                    for (i, outcome) in created.iter().enumerate() {
                        outcomes[at[i]] = *outcome;
                    }
                    for (i, outcome) in there.iter().zip(updated) {
                        outcomes[at[*i]] = outcome;
                    }
                }
                Ok(outcomes)
            }
        }
    }

    /// The same document, to be made: nothing that is required may be missing.
    fn whole(&self, document: &Prepared) -> Result<Prepared> {
        let given = document.document.clone();
        let prepared = self
            .shape
            .prepare(given, false, DirtyValues::CoerceOrReject, String::new)?;
        Ok(prepared)
    }

    async fn create(&self, documents: &[Prepared]) -> Result<Vec<Outcome>> {
        let mut body = self.body("upsert_rows", documents.iter().map(|d| d.row.clone()), documents);
        body.insert("upsert_condition".to_owned(), json!(["id", "Eq", null]));
        body.insert("return_affected_ids".to_owned(), true.into());
        let outcome = self.commit(body).await?;
        let written = ids_of(outcome.affected.map(|a| a.upserted).unwrap_or_default());
        let one = |d: &Prepared| match written.contains(&d.id) {
            true => Outcome::Written,
            false => Outcome::Exists,
        };
        Ok(documents.iter().map(one).collect())
    }

    async fn update(&self, documents: &[Prepared]) -> Result<Vec<Outcome>> {
        // Vectors cannot be patched, and undeclared fields are one value: both are merged here.
        let vectors: HashSet<&str> = self.glance.schema.vectors().map(|a| &*a.name).collect();
        let replaces = |d: &Prepared| d.row.keys().any(|name| vectors.contains(name.as_str()));
        let merges = |d: &Prepared| d.row.contains_key(UNDECLARED) || replaces(d);
        let merged: Vec<&Prepared> = documents.iter().filter(|d| merges(d)).collect();
        let stored = match merged.is_empty() {
            true => HashMap::new(),
            false => {
                self.stored(merged.iter().map(|d| d.row["id"].clone()).collect())
                    .await?
            }
        };
        let (mut patches, mut upserts) = (Vec::new(), Vec::new());
        for document in documents {
            let mut row = document.row.clone();
            if !merges(document) {
                patches.push(row);
                continue;
            }
            let Some(stored) = stored.get(&document.id) else {
                continue;
            };
            if let Some(Json::String(new)) = row.get(UNDECLARED) {
                let new: Map<String, Json> = parse_json(new.as_bytes())?;
                let before = super::document::attribute(stored, UNDECLARED);
                let mut rest: Map<String, Json> = match before {
                    Some(crate::model::Value::String(text)) => parse_json(text.as_bytes())?,
                    _ => Map::new(),
                };
                rest.extend(new);
                row.insert(UNDECLARED.to_owned(), Json::Object(rest).to_string().into());
            }
            if !replaces(document) {
                patches.push(row);
                continue;
            }
            let mut whole: Map<String, Json> = stored
                .attributes
                .iter()
                .map(|(name, value)| (name.to_string(), value_json(value)))
                .collect();
            whole.extend(row);
            upserts.push(whole);
        }
        let mut written = HashSet::new();
        if !patches.is_empty() || !upserts.is_empty() {
            let mut body = self.body("patch_rows", patches.into_iter(), documents);
            if !upserts.is_empty() {
                body.insert("upsert_rows".to_owned(), upserts.into());
                // It may have been deleted since it was read.
                body.insert("upsert_condition".to_owned(), json!(["id", "NotEq", null]));
            }
            body.insert("return_affected_ids".to_owned(), true.into());
            let affected = self.commit(body).await?.affected.unwrap_or_default();
            written.extend(ids_of(affected.patched));
            written.extend(ids_of(affected.upserted));
        }
        let one = |d: &Prepared| match written.contains(&d.id) {
            true => Outcome::Written,
            false => Outcome::Missing,
        };
        Ok(documents.iter().map(one).collect())
    }

    fn body(
        &self,
        kind: &str,
        rows: impl Iterator<Item = Map<String, Json>>,
        documents: &[Prepared],
    ) -> Map<String, Json> {
        let mut body = Map::new();
        body.insert(kind.to_owned(), rows.map(Json::Object).collect());
        let mut schema: BTreeMap<String, Json> = documents.iter().flat_map(|d| d.new_attributes.clone()).collect();
        let has_rest = documents.iter().any(|d| d.row.contains_key(UNDECLARED));
        if has_rest && self.glance.schema.get(UNDECLARED).is_none() {
            schema.insert(UNDECLARED.to_owned(), json!({"type": "string", "filterable": false}));
        }
        schema.retain(|name, _| self.glance.schema.get(name).is_none());
        if !schema.is_empty() {
            body.insert("schema".to_owned(), Json::Object(schema.into_iter().collect()));
        }
        body.insert("create_namespace".to_owned(), false.into());
        body
    }

    async fn commit(&self, body: Map<String, Json>) -> Result<WriteOutcome> {
        let body = body_of(self.api, &body)?;
        let outcome = self.engine.write(&self.caller.org, &self.name, body).await;
        let outcome = outcome.map_err(|e| no_collection(&self.name, e))?;
        self.note(&metering::of_write(&outcome));
        Ok(outcome)
    }

    fn note(&self, used: &Used) {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).add(used);
    }

    /// Rows by the texts of their ids.
    async fn stored(&self, ids: Vec<Json>) -> Result<HashMap<String, ResultRow>> {
        let limit = ids.len();
        let rows = self.rows(Filter::compare("id", FilterOp::In, ids), limit).await?;
        Ok(rows.into_iter().map(|row| (row.id.to_string(), row)).collect())
    }

    async fn rows(&self, filter: Filter, limit: usize) -> Result<Vec<ResultRow>> {
        let (rows, used) = rows(&self.engine, self.caller, &self.name, filter, limit).await?;
        self.note(&used);
        Ok(rows)
    }
}

async fn rows(
    engine: &Engine,
    caller: &Caller,
    name: &NamespaceName,
    filter: Filter,
    limit: usize,
) -> Result<(Vec<ResultRow>, Used)> {
    let read = Read {
        queries: vec![Query {
            limit,
            filter: Some(filter),
            include: Projection::All,
            ..Query::default()
        }],
        rerank: None,
        consistency: Consistency::Strong,
    };
    let outcome = engine.export(&caller.org, name, read).await;
    let outcome = outcome.map_err(|e| no_collection(name, e))?;
    let used = metering::of_query(&outcome);
    let rows = outcome.results.into_iter().flat_map(QueryResult::into_rows);
    Ok((rows.collect(), used))
}

fn ids_of(columns: Vec<IdColumn>) -> HashSet<String> {
    let ids = columns
        .iter()
        .flat_map(|c| (0..c.len()).map(|row| c.get(row).to_string()));
    ids.collect()
}

/// That a caller may do what an action does.
pub fn require(caller: &Caller, name: &NamespaceName, action: WriteAction) -> Result<()> {
    let may = |a| super::require(caller, a, name.as_str());
    let may_put = || may(Action::DocumentsUpsert).or_else(|_| may(Action::DocumentsCreate));
    match action {
        WriteAction::Create | WriteAction::Upsert => may_put(),
        WriteAction::Update => may(Action::DocumentsUpdate),
        WriteAction::Emplace => may_put().and_then(|()| may(Action::DocumentsUpdate)),
    }
}

fn shown(params: &Params) -> Shown {
    Shown {
        include: params.get("include_fields").map(|text| split(text)),
        exclude: params.get("exclude_fields").map(|text| split(text)).unwrap_or_default(),
    }
}

async fn object(api: &Api, request: Request) -> Result<Map<String, Json>, crate::api::error::ApiError> {
    let (_, body) = read_body(api, request, DOCUMENT_BYTES_MAX).await?;
    Ok(parse_json(&body.bytes)?)
}

/// `POST /collections/{collection}/documents`
pub async fn create(State(api): State<Api>, at: At, RawQuery(query): RawQuery, request: Request) -> Answer {
    let params = of_query(query.as_deref().unwrap_or_default());
    let action = WriteAction::parse(params.get("action").map(String::as_str))?;
    let name = at.namespace()?;
    require(&at.caller, &name, action)?;
    let document = object(&api, request).await?;
    let documents = Documents::of(&api, &at.caller, name).await?;
    let dirty = DirtyValues::parse(params.get("dirty_values").map(String::as_str));
    let prepared = documents.prepare(document, action, dirty)?;
    let written = documents.write(action, std::slice::from_ref(&prepared)).await?;
    written.into_iter().try_for_each(|o| o.check(&prepared.id))?;
    Ok(ok(StatusCode::CREATED, &prepared.document))
}

/// `PATCH /collections/{collection}/documents/{id}`
pub async fn update(State(api): State<Api>, at: At, RawQuery(query): RawQuery, request: Request) -> Answer {
    let params = of_query(query.as_deref().unwrap_or_default());
    let mut document = object(&api, request).await?;
    document.insert("id".to_owned(), at.name("id").into());
    let documents = Documents::of(&api, &at.caller, at.namespace()?).await?;
    let dirty = DirtyValues::parse(params.get("dirty_values").map(String::as_str));
    let prepared = documents.prepare(document, WriteAction::Update, dirty)?;
    let written = documents
        .write(WriteAction::Update, std::slice::from_ref(&prepared))
        .await?;
    written.into_iter().try_for_each(|o| o.check(&prepared.id))?;
    Ok(ok(StatusCode::OK, &prepared.document))
}

/// `PATCH /collections/{collection}/documents`
pub async fn update_many(State(api): State<Api>, at: At, RawQuery(query): RawQuery, request: Request) -> Answer {
    let params = of_query(query.as_deref().unwrap_or_default());
    let filter_by = params.get("filter_by").filter(|f| !f.trim().is_empty());
    let filter_by = filter_by.ok_or_else(|| Error::invalid("Parameter `filter_by` must be provided."))?;
    let mut document = object(&api, request).await?;
    if document.contains_key("id") {
        return Err(Error::invalid("The `id` of documents cannot be updated.").into());
    }
    let documents = Documents::of(&api, &at.caller, at.namespace()?).await?;
    document.insert("id".to_owned(), "0".into());
    let dirty = DirtyValues::parse(params.get("dirty_values").map(String::as_str));
    let mut prepared = documents.prepare(document, WriteAction::Update, dirty)?;
    prepared.row.remove("id");
    if prepared.row.contains_key(UNDECLARED) {
        return Err(Error::invalid(
            "fields that the collection does not declare cannot be updated by filter; declare them first",
        )
        .into());
    }
    let filter = compiled(filter_by, &documents.glance.schema)?;
    let mut body = documents.body("patch_rows", std::iter::empty(), std::slice::from_ref(&prepared));
    body.remove("patch_rows");
    body.remove("create_namespace");
    let change = json!({"filters": filter.to_json(), "patch": prepared.row});
    body.insert("patch_by_filter".to_owned(), change);
    let outcome = documents.commit(body).await?;
    Ok(ok(
        StatusCode::OK,
        &json!({"num_updated": outcome.rows_patched.unwrap_or(0)}),
    ))
}

/// `DELETE /collections/{collection}/documents`
pub async fn delete_many(State(api): State<Api>, at: At, RawQuery(query): RawQuery) -> Answer {
    let params = of_query(query.as_deref().unwrap_or_default());
    let filter_by = params.get("filter_by").filter(|f| !f.trim().is_empty());
    let all = params.get("truncate").is_some_and(|t| t == "true");
    let documents = Documents::of(&api, &at.caller, at.namespace()?).await?;
    let filter = match (filter_by, all) {
        (Some(text), _) => compiled(text, &documents.glance.schema)?,
        (None, true) => Filter::And(Vec::new()),
        (None, false) => return Err(Error::invalid("Parameter `filter_by` must be provided.").into()),
    };
    let mut body = Map::new();
    body.insert("delete_by_filter".to_owned(), filter.to_json());
    let outcome = documents.commit(body).await?;
    Ok(ok(
        StatusCode::OK,
        &json!({"num_deleted": outcome.rows_deleted.unwrap_or(0)}),
    ))
}

/// The document that a path names, as the namespace has it, and what it took to find it.
async fn named(api: &Api, at: &At, name: &NamespaceName) -> Result<(ResultRow, Used)> {
    let id = at.name("id");
    let engine = engine(api, &at.caller, name);
    let glance = engine.glance(&at.caller.org, name, Access::Read, false).await;
    let glance = glance.map_err(|e| no_collection(name, e))?;
    // An id that the namespace cannot have is one that it does not have.
    let shape = Shape::new(None, &glance.schema)?;
    let id_value = shape.id(id).map_err(|_| no_document(id))?;
    let (found, used) = rows(
        &engine,
        &at.caller,
        name,
        Filter::compare("id", FilterOp::Eq, id_value),
        1,
    )
    .await?;
    let row = found.into_iter().next().ok_or_else(|| no_document(id))?;
    Ok((row, used))
}

/// `GET /collections/{collection}/documents/{id}`
pub async fn get(State(api): State<Api>, at: At, RawQuery(query): RawQuery) -> Answer {
    let params = of_query(query.as_deref().unwrap_or_default());
    let name = at.namespace()?;
    let (row, used) = named(&api, &at, &name).await?;
    api.meter(&at.caller, &name, &used);
    Ok(ok(StatusCode::OK, &printed(&row, &shown(&params), false)))
}

/// `DELETE /collections/{collection}/documents/{id}`
pub async fn delete(State(api): State<Api>, at: At) -> Answer {
    let name = at.namespace()?;
    let (row, used) = named(&api, &at, &name).await?;
    let documents = Documents::of(&api, &at.caller, name).await?;
    documents.note(&used);
    let mut body = Map::new();
    body.insert("deletes".to_owned(), json!([documents.shape.id(at.name("id"))?]));
    documents.commit(body).await?;
    Ok(ok(StatusCode::OK, &printed(&row, &Shown::default(), false)))
}
