//! Rows that come out of segments into the tail.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::gather::{Place, gather, gather_used};
use super::{Chunk, Part};
use crate::model::{AttrId, Column, IdColumn, Schema};
use crate::segment::Rows;

/// A part of rows that were fetched from segments, in the order given, all of them live. `None` without rows.
///
/// * `sources` — no id twice, not even in two of them
/// * `searched` — whether their texts are indexed; rows that are about to be replaced need not be
pub fn promoted(sources: Vec<Rows>, schema: &Schema, searched: bool) -> Option<Part> {
    let mut sources: Vec<Rows> = sources.into_iter().filter(|s| !s.ids.is_empty()).collect();
    let rows = match sources.len() {
        0 => return None,
        1 => sources.remove(0),
        _ => joined(&sources, schema),
    };
    Some(Part::all_live(match searched {
        true => Chunk::build(rows.ids, rows.columns, schema),
        false => Chunk::with_indexes(rows.ids, rows.columns, BTreeMap::new()),
    }))
}

fn joined(sources: &[Rows], schema: &Schema) -> Rows {
    let places: Vec<(usize, usize)> = sources
        .iter()
        .enumerate()
        .flat_map(|(i, source)| (0..source.ids.len()).map(move |row| (i, row)))
        .collect();
    let ids: Vec<&IdColumn> = sources.iter().map(|s| &s.ids).collect();
    let mut columns: BTreeMap<AttrId, Column> = BTreeMap::new();
    for attribute in schema.attributes() {
        let mut found = Vec::new();
        let slots: Vec<Option<usize>> = sources
            .iter()
            .map(|source| {
                found.push(source.columns.get(&attribute.id)?);
                Some(found.len() - 1)
            })
            .collect();
        if !found.is_empty() {
            let places: Vec<Place> = places
                .iter()
                .map(|(source, row)| slots[*source].map(|slot| (slot, *row)))
                .collect();
            columns.insert(attribute.id, gather(attribute.ty, &found, &places));
        }
    }
    Rows {
        ids: gather_used(&ids, &places),
        columns,
    }
}

/// The parts with one more.
pub fn with_part(parts: &Arc<Vec<Part>>, part: Option<Part>) -> Arc<Vec<Part>> {
    match part {
        None => parts.clone(),
        Some(part) => Arc::new(parts.iter().cloned().chain([part]).collect()),
    }
}
