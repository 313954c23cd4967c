//! Embedding within a write: which column a text's vector goes to, and which texts need one.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, LargeStringArray};
use arrow::buffer::{MutableBuffer, NullBuffer};

use super::entry::EmbedEntry;
use super::rows::Typed;
use super::schema::{Draft, prefix};
use super::vector;
use crate::model::batch::NamedColumn;
use crate::model::embed::{Embeddings, Wanted, is_blank};
use crate::model::names::{NAME_BYTES_MAX, check_attribute_name};
use crate::model::schema::{EMBED_PREFIX, Embed};
use crate::model::types::DIMS_MAX;
use crate::model::{
    AttrType, Attribute, Column, Element, Id, Invalid, Limits, Metric, RowBatch, Scalar, Schema, VectorColumn,
};

/// Whether a name is one that embedding generates, of whatever attribute.
pub(super) fn is_generated(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX && name.len() > EMBED_PREFIX.len() && name.starts_with(EMBED_PREFIX)
}

/// Applies what was declared about embedding, now that every declared attribute is known.
pub(super) fn settle(draft: &mut Draft<'_>) -> Result<(), Invalid> {
    for (name, entry) in std::mem::take(&mut draft.embeds) {
        settle_one(draft, &name, entry).map_err(|e| prefix(&format!("schema of attribute {name:?}: embed"), e))?;
    }
    let mut targets = BTreeSet::new();
    for (source, embed) in draft.schema.embeds() {
        if draft.drops.contains(&embed.target) {
            return Err(Invalid::new(format!(
                "attribute {:?} cannot be dropped: {:?} is embedded into it; set embed of {:?} to null first",
                embed.target, source.name, source.name
            )));
        }
        if !targets.insert(embed.target.clone()) {
            return Err(Invalid::new(format!(
                "schema of attribute {:?}: embed: another attribute is embedded into {:?} already",
                source.name, embed.target
            )));
        }
    }
    let max = draft.limits.embedded_attributes_max;
    if targets.len() > max {
        return Err(Invalid::new(format!(
            "a namespace may have at most {max} embedded attributes"
        )));
    }
    let mut generated = draft.schema.attributes().filter(|a| is_generated(&a.name));
    match generated.find(|a| draft.base.get(&a.name).is_none() && !targets.contains(&a.name)) {
        Some(stray) => check_attribute_name(&stray.name),
        None => Ok(()),
    }
}

fn settle_one(draft: &mut Draft<'_>, name: &Arc<str>, entry: EmbedEntry) -> Result<(), Invalid> {
    let Some(mut source) = draft.schema.get(name).cloned() else {
        // Only an attribute that is switched off may be unknown.
        return Ok(());
    };
    match entry {
        EmbedEntry::Off => source.embed = None,
        EmbedEntry::On { model, attribute, dims } => {
            if source.ty != AttrType::Scalar(Scalar::String) {
                return Err(Invalid::new(format!("needs string, not {}", source.ty)));
            }
            let current = source.embed.as_ref().map(|e| e.target.clone());
            let target: Arc<str> = match (attribute, current) {
                (Some(given), _) => given.into(),
                (None, Some(current)) => current,
                (None, None) => format!("{EMBED_PREFIX}{name}").into(),
            };
            let embed = Embed {
                model: model.into(),
                target,
            };
            let column = target_column(draft, name, &embed, dims, source.embed.as_ref() == Some(&embed))?;
            draft.schema.put(column);
            source.embed = Some(embed);
        }
    }
    draft.schema.put(source);
    Ok(())
}

/// The column that vectors go to, as it is or as it has to become.
///
/// * `unchanged` — the model was checked when it was chosen: a schema as we print it may come back
///   after the operator has taken the model away
fn target_column(
    draft: &Draft<'_>,
    source: &str,
    embed: &Embed,
    dims: Option<u32>,
    unchanged: bool,
) -> Result<Attribute, Invalid> {
    let name = &embed.target;
    if **name == *source || &**name == "id" {
        return Err(Invalid::new(format!(
            "attribute must name a vector column, not {name:?}"
        )));
    }
    if name.strip_prefix(EMBED_PREFIX) != Some(source) || name.len() > NAME_BYTES_MAX {
        check_attribute_name(name)?;
    }
    let Some(column) = draft.schema.get(name) else {
        let most = draft.models.dims(&embed.model)?;
        let dims = dims.unwrap_or(most);
        draft.models.check_dims(&embed.model, dims)?;
        return generate(draft, name, dims);
    };
    let AttrType::Vector {
        dims: has,
        element: Element::F32 | Element::F16,
    } = column.ty
    else {
        return Err(Invalid::new(format!(
            "attribute {name:?} is {}, and vectors of texts need a column of f32 or f16, such as [384]f32",
            column.ty
        )));
    };
    if let Some(dims) = dims.filter(|d| *d != has) {
        return Err(Invalid::new(format!(
            "dims is {dims}, but attribute {name:?} has {has}"
        )));
    }
    if !unchanged {
        draft.models.check_dims(&embed.model, has)?;
    }
    Ok(Attribute {
        nullable: true,
        ..column.clone()
    })
}

/// A new column. Unlike those that clients fill, it may come after the first rows, which have no
/// vector then.
fn generate(draft: &Draft<'_>, name: &Arc<str>, dims: u32) -> Result<Attribute, Invalid> {
    let ty = AttrType::Vector {
        dims: dims.min(DIMS_MAX),
        element: Element::F32,
    };
    draft.check_room(ty)?;
    let metric = Some(draft.metric.unwrap_or(Metric::CosineDistance));
    Ok(Attribute {
        ann: metric,
        metric,
        nullable: true,
        ..Attribute::new(draft.schema.next_attribute_id(), name.clone(), ty)
    })
}

/// Puts the vectors that were made into the rows that have a text and no vector of their own, and
/// returns the texts whose vectors were not made yet.
///
/// # Errors
///
/// When more rows need a vector than a request may have, or a model cannot make it.
pub(super) fn fill(
    (batch, logical_bytes): &mut Typed,
    schema: &Schema,
    limits: &Limits,
    embeddings: &Embeddings,
) -> Result<Vec<Wanted>, Invalid> {
    let mut wanted: Vec<Wanted> = Vec::new();
    let mut embedded = BTreeSet::new();
    for (source, embed) in schema.embeds() {
        let Some(task) = Task::new(batch, source, embed, schema) else {
            continue;
        };
        // One too many is enough to know.
        embedded.extend(task.rows().take(limits.embedded_rows_max + 1));
        if embedded.len() > limits.embedded_rows_max {
            return Err(too_many_rows(source, limits));
        }
        let rows: Vec<usize> = task.rows().collect();
        if rows.is_empty() {
            continue;
        }
        embeddings.models.check_dims(&embed.model, task.dims)?;
        let missing = task.missing(&rows, embeddings);
        match missing.is_empty() {
            false => merge(&mut wanted, missing, &embed.model, task.dims),
            true => {
                let column = task.filled(&rows, embeddings)?;
                *logical_bytes += (rows.len() * column.stride()) as u64;
                put(batch, &embed.target, column);
            }
        }
    }
    Ok(wanted)
}

fn too_many_rows(source: &Attribute, limits: &Limits) -> Invalid {
    Invalid::new(format!(
        "attribute {:?} is embedded by a model, for at most {} rows of one request; send fewer rows at once, or their \
         vectors with them",
        source.name, limits.embedded_rows_max
    ))
}

/// The texts of one attribute, and the vectors that rows bring themselves.
struct Task<'a> {
    ids: &'a crate::model::IdColumn,
    texts: &'a LargeStringArray,
    own: Option<&'a VectorColumn>,
    embed: &'a Embed,
    dims: u32,
    element: Element,
}

impl<'a> Task<'a> {
    /// `None` when no row has a text.
    fn new(batch: &'a RowBatch, source: &Attribute, embed: &'a Embed, schema: &Schema) -> Option<Self> {
        let Column::Values(texts) = &batch.column(&source.name)?.column else {
            return None;
        };
        let AttrType::Vector { dims, element } = schema.get(&embed.target)?.ty else {
            return None;
        };
        let own = batch.column(&embed.target).and_then(|c| match &c.column {
            Column::Vectors(vectors) => Some(vectors),
            Column::Values(_) => None,
        });
        Some(Self {
            ids: &batch.ids,
            texts: texts.as_string::<i64>(),
            own,
            embed,
            dims,
            element,
        })
    }

    /// The rows that have a text and no vector.
    fn rows(&self) -> impl Iterator<Item = usize> {
        let lacks = |row: usize| self.own.is_none_or(|vectors| vectors.is_null(row));
        (0..self.texts.len())
            .filter(move |row| self.texts.is_valid(*row) && lacks(*row) && !is_blank(self.texts.value(*row)))
    }

    /// The texts of rows whose vectors were not made, each once.
    fn missing(&self, rows: &[usize], embeddings: &Embeddings) -> Vec<String> {
        let mut seen = HashSet::new();
        let texts = rows.iter().map(|row| self.texts.value(*row));
        let missing = texts.filter(|text| embeddings.get(&self.embed.model, self.dims, text).is_none());
        missing.filter(|text| seen.insert(*text)).map(str::to_owned).collect()
    }

    /// The column with the vectors of `rows` added, all of which were made.
    fn filled(&self, rows: &[usize], embeddings: &Embeddings) -> Result<VectorColumn, Invalid> {
        let len = self.texts.len();
        let stride = self.dims as usize * self.element.bytes();
        let mut valid: Vec<bool> = (0..len)
            .map(|row| self.own.is_some_and(|own| !own.is_null(row)))
            .collect();
        let given = rows.len() + valid.iter().filter(|v| **v).count();
        vector::check_absent(len, given, stride).map_err(|reason| self.unfit(self.ids.get(rows[0]), &reason))?;
        let mut data = MutableBuffer::from_len_zeroed(len * stride);
        if let Some(own) = self.own {
            data.as_slice_mut().copy_from_slice(&own.data);
        }
        for row in rows {
            let text = self.texts.value(*row);
            let made = embeddings.get(&self.embed.model, self.dims, text);
            let made = made.expect("nothing is missing");
            let out = &mut data.as_slice_mut()[row * stride..(row + 1) * stride];
            vector::store(made.iter().copied(), self.element, out)
                .map_err(|reason| self.unfit(self.ids.get(*row), &reason))?;
            valid[*row] = true;
        }
        Ok(VectorColumn {
            dims: self.dims,
            element: self.element,
            data: data.into(),
            nulls: valid.contains(&false).then(|| NullBuffer::from(valid)),
        })
    }

    fn unfit(&self, id: Id, reason: &str) -> Invalid {
        Invalid::new(format!(
            "attribute {:?} of the row with id {id}: the vector that the model made {reason}",
            self.embed.target
        ))
    }
}

/// Adds texts for a model, which may have others from another attribute.
fn merge(wanted: &mut Vec<Wanted>, texts: Vec<String>, model: &Arc<str>, dims: u32) {
    match wanted.iter_mut().find(|w| w.model == *model && w.dims == dims) {
        None => wanted.push(Wanted {
            model: model.clone(),
            dims,
            texts,
        }),
        Some(of_model) => {
            for text in texts {
                if !of_model.texts.contains(&text) {
                    of_model.texts.push(text);
                }
            }
        }
    }
}

fn put(batch: &mut RowBatch, name: &Arc<str>, vectors: VectorColumn) {
    let ty = vectors.ty();
    let column = Column::Vectors(vectors);
    match batch.columns.binary_search_by(|c| c.name.cmp(name)) {
        Ok(at) => batch.columns[at].column = column,
        Err(at) => batch.columns.insert(
            at,
            NamedColumn {
                name: name.clone(),
                ty,
                column,
            },
        ),
    }
}
