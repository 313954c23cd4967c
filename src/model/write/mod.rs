//! A write request: from the bytes of its JSON body to typed columns and a checked schema change.
//!
//! Two passes over the text, and no tree of values in between. `body` finds the structure: it
//! checks the JSON and notes, attribute by attribute, where each row's value stands. [`column`] and
//! `vector` then read each attribute's values into Arrow buffers, once its type is known: from the
//! namespace, from the request's `schema` (`entry`, `schema`), or from the first value (`infer`).
//!
//! # What stays true
//!
//! - Pure: the same body under the same schema gives the same result on every node.
//! - Bodies are hostile. Memory is a small multiple of the body's length, whatever it says.
//! - Keys that occur twice count once, with the last value.
//!
//! What is stored for composite values: `docs/formats/values.md`.

mod body;
mod column;
mod embed;
mod encryption;
mod entry;
mod ids;
mod infer;
mod json;
pub mod origin;
mod rows;
mod schema;
mod vector;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::schema::Draft;
use super::batch::NamedColumn;
use super::embed::{Embeddings, Models, Wanted};
use super::filter::References;
use super::schema::SchemaChange;
use super::{Filter, IdColumn, Invalid, Limits, RowBatch, Schema};

/// One write request, typed against a schema, all checks done that need no stored rows.
#[derive(Clone, Debug)]
pub struct Write {
    /// What the request changes in the schema: declared, and inferred from first values.
    pub schema: SchemaChange,
    /// Rows to insert or replace; `None` when the request has none.
    pub upserts: Option<RowBatch>,
    /// Rows to change in part, in groups that name the same attributes; a null in a column sets
    /// null. A group may have no columns. `None` when the request has none.
    pub patches: Option<Vec<RowBatch>>,
    /// Rows to delete; `None` when the request has none.
    pub deletes: Option<IdColumn>,
    /// Which of the upserts, patches and deletes apply.
    pub conditions: Conditions,
    /// Rows to delete before anything else.
    pub delete_by_filter: Option<DeleteByFilter>,
    /// Rows to change next.
    pub patch_by_filter: Option<PatchByFilter>,
    /// Whether the answer names the rows that were touched.
    pub return_affected_ids: bool,
    /// `create_namespace` as given.
    pub create_namespace: Option<bool>,
    /// `disable_backpressure` as given.
    pub disable_backpressure: bool,
    /// `sharding` as given.
    pub num_shards: Option<u32>,
    /// The documented measure of what is written: ids, values, vectors.
    pub logical_bytes: u64,
    /// Texts of rows that need vectors which are not there yet. While there are any, the write is
    /// incomplete: have them made, and prepare the body again with them.
    pub wanted: Vec<Wanted>,
    /// The vectors that it was prepared with.
    pub embeddings: Arc<Embeddings>,
    /// What the result rests on; see [`Write::fits`].
    pub basis: Basis,
}

/// Conditions on stored rows; references in them stand for values of the row that comes in. Bound
/// to a schema when the write is committed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conditions {
    /// Rows that exist are replaced only where it holds.
    pub upsert: Option<Filter>,
    /// Rows are patched only where it holds.
    pub patch: Option<Filter>,
    /// Rows are deleted only if they exist and it holds.
    pub delete: Option<Filter>,
}

/// `delete_by_filter`.
#[derive(Clone, Debug, PartialEq)]
pub struct DeleteByFilter {
    pub filter: Filter,
    /// Whether to delete as many as are allowed when there are more, rather than none.
    pub allow_partial: bool,
}

/// `patch_by_filter`.
#[derive(Clone, Debug)]
pub struct PatchByFilter {
    pub filter: Filter,
    /// The values, in columns of one row, by name.
    pub patch: Vec<NamedColumn>,
    /// Logical bytes of the values.
    pub bytes: u64,
    /// Whether to patch as many as are allowed when there are more, rather than none.
    pub allow_partial: bool,
}

/// What a committed write did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows; `None` where the request had no operation of that kind.
    pub upserted: Option<u64>,
    pub patched: Option<u64>,
    pub deleted: Option<u64>,
    /// Whether more rows match a filter than were allowed to be touched; `None` when it was not
    /// asked for partial work.
    pub remaining: Option<bool>,
    /// Of the rows written, as documented: ids, values, vectors.
    pub logical_bytes: u64,
    /// Whether stored rows had to be searched or compared.
    pub searched: bool,
}

/// What a request with an idempotency key was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Tells whether it is the same request: a digest of its body.
    pub body: u128,
    pub counts: Counts,
}

/// The part of the world that a [`Write`] was prepared for.
#[derive(Clone, Debug, Default)]
pub struct Basis {
    schema: Schema,
    /// Every attribute that the request names, also those that got no type.
    names: Vec<Arc<str>>,
}

impl Basis {
    /// The schema that the write was prepared under.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }
}

impl Write {
    /// About how much memory the columns hold, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        let rows = self.upserts.iter().chain(self.patches.iter().flatten());
        let batches: u64 = rows.map(|batch| batch.memory_bytes() as u64).sum();
        batches + self.embeddings.memory_bytes()
    }

    /// Whether its effect depends on stored values, not only on which rows exist.
    pub fn reads_rows(&self) -> bool {
        let Conditions { upsert, patch, delete } = &self.conditions;
        upsert.is_some() || patch.is_some() || delete.is_some() || self.by_filter()
    }

    /// Whether evaluating it in the commit loop may take long for its size: its conditions, or filters
    /// that are not evaluated before because the schema changes with them, match patterns.
    pub fn is_costly(&self) -> bool {
        let Conditions { upsert, patch, delete } = &self.conditions;
        let conditions = [upsert, patch, delete].into_iter().flatten();
        let delete = self.delete_by_filter.as_ref().map(|d| &d.filter);
        let filters = delete
            .into_iter()
            .chain(self.patch_by_filter.as_ref().map(|p| &p.filter));
        let late = filters.filter(|_| !self.schema.is_empty());
        conditions.chain(late).any(Filter::matches_patterns)
    }

    /// Whether it has an operation on all rows that match a filter.
    pub fn by_filter(&self) -> bool {
        self.delete_by_filter.is_some() || self.patch_by_filter.is_some()
    }

    /// Whether preparing the same body under `schema` would give the same result, so that the
    /// write may be committed although the schema has changed since.
    ///
    /// May say `false` when it would; never `true` when it would not. Costs a comparison of the two
    /// schemas at most.
    pub fn fits(&self, schema: &Schema) -> bool {
        let base = &self.basis.schema;
        if base == schema {
            return true;
        }
        // A change takes attribute numbers and room, so it depends on every attribute.
        self.schema.is_empty()
            && base.id_kind == schema.id_kind
            && base.vectors().eq(schema.vectors())
            && self.basis.names.iter().all(|name| base.get(name) == schema.get(name))
    }
}

/// Parses and types the JSON body of a write. An empty body is `{}`.
///
/// * `body` — untrusted, already within `limits.body_bytes_max`
/// * `schema` — what the namespace has now; the same body may be prepared again when a rival
///   changed it
///
/// # Errors
///
/// The sentence for the client, naming the field; nothing has changed.
pub fn prepare(body: &[u8], schema: &Schema, limits: &Limits) -> Result<Write, Invalid> {
    prepare_with(body, schema, limits, &Arc::default())
}

/// [`prepare`] where models make vectors of texts.
///
/// * `embeddings` — the models there are, and the vectors made so far
pub fn prepare_with(
    body: &[u8],
    schema: &Schema,
    limits: &Limits,
    embeddings: &Arc<Embeddings>,
) -> Result<Write, Invalid> {
    let mut body = body::parse(utf8(body)?, limits)?;
    let mut draft = declare(&body, schema, limits, &embeddings.models)?;
    let upserts = rows::upserts(&mut body, &draft.schema)?;
    let patches = rows::patches(&mut body, &draft.schema)?;
    let deletes = match body.deletes.take() {
        Some(ids) => body::check_rows("deletes", ids.count).map(|()| Some(ids.cells).filter(|c| !c.is_empty()))?,
        None => None,
    };
    let by_filter = body.patch_by_filter.take();
    let by_filter = by_filter.map(|p| {
        Ok::<_, Invalid>((
            filter("patch_by_filter", p.filters, limits)?,
            rows::patch_by_filter(p.patch)?,
        ))
    });
    let by_filter = by_filter.transpose()?;
    learn_id_kind(&mut draft, &upserts, &patches, &deletes)?;
    for rows in upserts
        .iter()
        .chain(&patches)
        .chain(by_filter.iter().map(|(_, rows)| rows))
    {
        rows::infer_types(rows, &mut draft)?;
    }
    if upserts.is_some() {
        draft.check_metric()?;
    }
    let mut names = draft.declared.clone();
    let of_rows = upserts
        .iter()
        .chain(&patches)
        .chain(by_filter.iter().map(|(_, rows)| rows));
    let of_rows = of_rows.flat_map(|rows| &rows.columns);
    names.extend(of_rows.map(|column| column.name.clone()));
    let (change, after) = draft.finish()?;

    let mut upserts = upserts
        .map(|rows| rows::type_upserts(&rows, &after, limits))
        .transpose()?;
    let wanted = match &mut upserts {
        Some(typed) => embed::fill(typed, &after, limits, embeddings)?,
        None => Vec::new(),
    };
    let patches = patches
        .map(|rows| rows::type_patches(&rows, &after, limits))
        .transpose()?;
    let deletes = deletes
        .map(|cells| rows::type_ids("deletes: id", &cells, &after, limits))
        .transpose()?;
    let allow_partial = body.patch_by_filter_allow_partial.unwrap_or(false);
    let patch_by_filter = by_filter.map(|(filter, rows)| {
        let (patch, bytes) = rows::type_patch_by_filter(&rows, &after, limits)?;
        Ok(PatchByFilter {
            filter,
            patch,
            bytes,
            allow_partial,
        })
    });
    let of_batches = upserts.iter().chain(patches.iter().flatten()).map(|(_, bytes)| bytes);
    let of_deletes = deletes
        .iter()
        .flat_map(|ids| (0..ids.len()).map(|row| ids::bytes(ids, row)));
    let write = Write {
        logical_bytes: of_batches.sum::<u64>() + of_deletes.sum::<u64>(),
        schema: change,
        upserts: upserts.map(|(batch, _)| batch),
        patches: patches.map(|groups| groups.into_iter().map(|(batch, _)| batch).collect()),
        deletes,
        conditions: conditions(&body, limits)?,
        delete_by_filter: delete_by_filter(&body, limits)?,
        patch_by_filter: patch_by_filter.transpose()?,
        return_affected_ids: body.return_affected_ids.unwrap_or(false),
        create_namespace: body.create_namespace,
        disable_backpressure: body.disable_backpressure.unwrap_or(false),
        num_shards: body.sharding.map_or(Ok(None), super::settings::parse_sharding)?,
        wanted,
        embeddings: embeddings.clone(),
        basis: Basis {
            schema: schema.clone(),
            names,
        },
    };
    check_unique(&write)?;
    Ok(write)
}

fn filter(field: &str, text: &str, limits: &Limits) -> Result<Filter, Invalid> {
    parse_filter(field, text, References::Forbidden, limits)
}

fn parse_filter(field: &str, text: &str, references: References, limits: &Limits) -> Result<Filter, Invalid> {
    let json = serde_json::from_str(text).map_err(|e| body::invalid_json(field, &e))?;
    crate::model::filter::parse(json, references, limits).map_err(|e| Invalid {
        message: format!("{field}: {}", e.message),
        ..e
    })
}

fn conditions(body: &body::Body<'_>, limits: &Limits) -> Result<Conditions, Invalid> {
    let condition = |field: &str, text: Option<&str>| {
        text.map(|text| parse_filter(field, text, References::Allowed, limits))
            .transpose()
    };
    Ok(Conditions {
        upsert: condition("upsert_condition", body.upsert_condition)?,
        patch: condition("patch_condition", body.patch_condition)?,
        delete: condition("delete_condition", body.delete_condition)?,
    })
}

fn delete_by_filter(body: &body::Body<'_>, limits: &Limits) -> Result<Option<DeleteByFilter>, Invalid> {
    let given = body
        .delete_by_filter
        .map(|text| filter("delete_by_filter", text, limits))
        .transpose()?;
    Ok(given.map(|filter| DeleteByFilter {
        filter,
        allow_partial: body.delete_by_filter_allow_partial.unwrap_or(false),
    }))
}

/// What a request says about the namespace, before any of its rows.
fn declare<'a>(
    body: &body::Body<'_>,
    schema: &'a Schema,
    limits: &'a Limits,
    models: &'a Models,
) -> Result<Draft<'a>, Invalid> {
    if let Some(text) = body.encryption {
        encryption::check("encryption", text)?;
    }
    let metric = body.distance_metric.as_deref();
    let metric = metric
        .map(|name| entry::parse_metric("distance_metric", name))
        .transpose()?;
    let mut draft = Draft::new(schema, limits, models, metric);
    if let Some(text) = body.schema {
        draft.declare(text)?;
    }
    Ok(draft)
}

fn utf8(body: &[u8]) -> Result<&str, Invalid> {
    simdutf8::basic::from_utf8(body).map_err(|_| Invalid::new("the body is not valid JSON: it is not UTF-8"))
}

/// The first id of a namespace decides the kind of all.
fn learn_id_kind(
    draft: &mut Draft<'_>,
    upserts: &Option<body::Rows<'_>>,
    patches: &Option<body::Rows<'_>>,
    deletes: &Option<Vec<body::Cell<'_>>>,
) -> Result<(), Invalid> {
    if draft.schema.id_kind.is_some() {
        return Ok(());
    }
    let rows = upserts
        .iter()
        .chain(patches)
        .map(|rows| rows.columns[0].cells.as_slice());
    let mut cells = rows.chain(deletes.iter().map(Vec::as_slice)).flatten();
    match cells.next() {
        Some(first) => draft.set_id_kind(ids::infer(first.text)),
        None => Ok(()),
    }
}

fn check_unique(write: &Write) -> Result<(), Invalid> {
    let batches = write.upserts.iter().chain(write.patches.iter().flatten());
    match ids::duplicate(batches.map(|batch| &batch.ids).chain(&write.deletes)) {
        Some(id) => Err(Invalid::new(format!("id {id} occurs more than once in the request"))),
        None => Ok(()),
    }
}

/// Parses the JSON body of a schema update (`POST /v1/namespaces/{ns}/schema`) into the change it
/// makes to `schema`. An empty body is `{}`.
///
/// # Errors
///
/// As those of [`prepare`].
pub fn prepare_schema(body: &[u8], schema: &Schema, limits: &Limits) -> Result<SchemaChange, Invalid> {
    prepare_schema_with(body, schema, limits, &Models::default())
}

/// [`prepare_schema`] where texts may be embedded with some models.
pub fn prepare_schema_with(
    body: &[u8],
    schema: &Schema,
    limits: &Limits,
    models: &Models,
) -> Result<SchemaChange, Invalid> {
    let text = utf8(body)?;
    let mut draft = Draft::new(schema, limits, models, None);
    if !text.trim_ascii().is_empty() {
        draft.declare(text)?;
    }
    draft.finish().map(|(change, _)| change)
}
