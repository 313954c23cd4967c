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
mod encryption;
mod entry;
mod ids;
mod infer;
mod json;
mod rows;
mod schema;
mod vector;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::schema::Draft;
use super::schema::SchemaChange;
use super::{IdColumn, Invalid, Limits, RowBatch, Schema};

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
    /// `create_namespace` as given.
    pub create_namespace: Option<bool>,
    /// `disable_backpressure` as given.
    pub disable_backpressure: bool,
    /// The documented measure of what is written: ids, values, vectors.
    pub logical_bytes: u64,
    /// What the result rests on; see [`Write::fits`].
    pub basis: Basis,
}

/// The part of the world that a [`Write`] was prepared for.
#[derive(Clone, Debug, Default)]
pub struct Basis {
    schema: Schema,
    /// Every attribute that the request names, also those that got no type.
    names: Vec<Arc<str>>,
}

impl Write {
    /// About how much memory the columns hold, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        let rows = self.upserts.iter().chain(self.patches.iter().flatten());
        rows.map(|batch| batch.memory_bytes() as u64).sum()
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
    let mut body = body::parse(utf8(body)?, limits)?;
    let mut draft = declare(&body, schema, limits)?;
    let upserts = rows::upserts(&mut body, &draft.schema)?;
    let patches = rows::patches(&mut body, &draft.schema)?;
    let deletes = match body.deletes.take() {
        Some(ids) => body::check_rows("deletes", ids.count).map(|()| Some(ids.cells).filter(|c| !c.is_empty()))?,
        None => None,
    };
    learn_id_kind(&mut draft, &upserts, &patches, &deletes)?;
    for rows in upserts.iter().chain(&patches) {
        rows::infer_types(rows, &mut draft)?;
    }
    if upserts.is_some() {
        draft.check_metric()?;
    }
    let mut names = draft.declared.clone();
    let of_rows = upserts.iter().chain(&patches).flat_map(|rows| &rows.columns);
    names.extend(of_rows.map(|column| column.name.clone()));
    let (change, after) = draft.finish()?;

    let upserts = upserts
        .map(|rows| rows::type_upserts(&rows, &after, limits))
        .transpose()?;
    let patches = patches
        .map(|rows| rows::type_patches(&rows, &after, limits))
        .transpose()?;
    let deletes = deletes
        .map(|cells| rows::type_ids("deletes: id", &cells, &after, limits))
        .transpose()?;
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
        create_namespace: body.create_namespace,
        disable_backpressure: body.disable_backpressure.unwrap_or(false),
        basis: Basis {
            schema: schema.clone(),
            names,
        },
    };
    check_unique(&write)?;
    Ok(write)
}

/// What a request says about the namespace, before any of its rows.
fn declare<'a>(body: &body::Body<'_>, schema: &'a Schema, limits: &'a Limits) -> Result<Draft<'a>, Invalid> {
    if let Some(text) = body.encryption {
        encryption::check(text)?;
    }
    let metric = body.distance_metric.as_deref();
    let metric = metric
        .map(|name| entry::parse_metric("distance_metric", name))
        .transpose()?;
    let mut draft = Draft::new(schema, limits, metric);
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
    let text = utf8(body)?;
    let mut draft = Draft::new(schema, limits, None);
    if !text.trim_ascii().is_empty() {
        draft.declare(text)?;
    }
    draft.finish().map(|(change, _)| change)
}
