//! Keeps the number of parts small: merges small parts, drops dead rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::gather::{gather, gather_ids};
use super::{Chunk, Part};
use crate::index::text::TextIndex;
use crate::model::{AttrId, Column, Schema};

/// How many parts of one size become one.
const FAN_OUT: usize = 8;
/// Parts from this many rows on are only rewritten to drop dead rows.
const LARGE_ROWS: usize = 4096;

/// Merges what is due after a part was added or rows died.
///
/// Depends on nothing but its arguments, so that every node merges alike.
pub(super) fn tidy(mut parts: Vec<Part>, schema: &Schema) -> Vec<Part> {
    parts.retain(|p| !p.live.none());
    for part in &mut parts {
        // At half dead, a rewrite halves the cost of every scan and pays for itself.
        if part.chunk.len() >= FAN_OUT && part.live.count() * 2 < part.chunk.len() {
            *part = merge(std::slice::from_ref(part), schema);
        }
    }
    while let Some(start) = due(&parts) {
        let merged = merge(&parts[start..], schema);
        parts.truncate(start);
        parts.push(merged);
    }
    parts
}

/// Where the run of youngest parts starts that should become one, if there is such a run.
fn due(parts: &[Part]) -> Option<usize> {
    let newest = size_class(parts.last()?)?;
    let run = parts
        .iter()
        .rev()
        .take_while(|p| size_class(p).is_some_and(|class| class <= newest))
        .count();
    (run >= FAN_OUT).then(|| parts.len() - run)
}

/// The power of the fan-out that a part's row count has reached; `None` when it is large.
fn size_class(part: &Part) -> Option<u32> {
    let rows = part.chunk.len();
    (rows < LARGE_ROWS).then(|| rows.max(1).ilog(FAN_OUT))
}

/// One part with the live rows of `parts`, in their order.
fn merge(parts: &[Part], schema: &Schema) -> Part {
    let places: Vec<(usize, usize)> = parts
        .iter()
        .enumerate()
        .flat_map(|(i, p)| p.live.iter().map(move |row| (i, row)))
        .collect();
    let ids: Vec<_> = parts.iter().map(|p| &p.chunk.ids).collect();
    let ids = gather_ids(&ids, &places);
    let columns = merge_columns(parts, &places, schema);
    let text = merge_text(parts, ids.len(), &columns, schema);
    Part::all_live(Chunk::with_indexes(ids, columns, text))
}

fn merge_columns(parts: &[Part], places: &[(usize, usize)], schema: &Schema) -> BTreeMap<AttrId, Column> {
    let mut columns = BTreeMap::new();
    for attribute in schema.attributes() {
        let mut sources = Vec::new();
        let mut source_of_part = vec![None; parts.len()];
        for (i, part) in parts.iter().enumerate() {
            if let Some(column) = part.chunk.columns.get(&attribute.id) {
                source_of_part[i] = Some(sources.len());
                sources.push(column);
            }
        }
        if !sources.is_empty() {
            let places: Vec<_> = places
                .iter()
                .map(|(part, row)| source_of_part[*part].map(|source| (source, *row)))
                .collect();
            columns.insert(attribute.id, gather(attribute.ty, &sources, &places));
        }
    }
    columns
}

fn merge_text(
    parts: &[Part],
    rows: usize,
    columns: &BTreeMap<AttrId, Column>,
    schema: &Schema,
) -> BTreeMap<AttrId, Arc<TextIndex>> {
    let remaps = remaps(parts);
    let mut text = BTreeMap::new();
    for attribute in schema.attributes() {
        let (Some(config), Some(Column::Values(values))) = (&attribute.full_text, columns.get(&attribute.id)) else {
            continue;
        };
        let indexes: Vec<(&TextIndex, &[Option<u32>])> = parts
            .iter()
            .zip(&remaps)
            .filter_map(|(p, remap)| p.chunk.text.get(&attribute.id).map(|t| (t.as_ref(), remap.as_slice())))
            .collect();
        let usable = indexes.iter().all(|(t, _)| t.config().same_tokens(config));
        let merged = match usable && !indexes.is_empty() {
            true => TextIndex::merge(&indexes, rows),
            false => TextIndex::build(config, values),
        };
        text.insert(attribute.id, Arc::new(merged));
    }
    text
}

/// For each part: the new number of each of its rows, `None` where it is dead.
fn remaps(parts: &[Part]) -> Vec<Vec<Option<u32>>> {
    let mut next = 0;
    let mut number = |live: bool| {
        live.then(|| {
            next += 1;
            next - 1
        })
    };
    parts
        .iter()
        .map(|p| (0..p.chunk.len()).map(|row| number(p.live.contains(row))).collect())
        .collect()
}
