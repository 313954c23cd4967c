//! Rows from several places, put together to be encoded.

use std::collections::BTreeMap;

use crate::model::{AttrId, Column, IdColumn, Schema};
use crate::segment::Rows;
use crate::tail::{gather, take_ids};

/// Some rows of a table.
pub(super) struct Piece {
    pub ids: IdColumn,
    pub columns: BTreeMap<AttrId, Column>,
    /// Which rows, in the order in which they are wanted.
    pub rows: Vec<u32>,
}

impl Piece {
    /// All rows.
    pub fn whole(rows: Rows) -> Self {
        Self {
            rows: (0..rows.ids.len() as u32).collect(),
            ids: rows.ids,
            columns: rows.columns,
        }
    }

    /// About how much memory its rows take, in bytes.
    pub fn bytes(&self) -> u64 {
        let columns: usize = self.columns.values().map(Column::memory_bytes).sum();
        let all = (self.ids.memory_bytes() + columns) as u64;
        let share = self.rows.len() as u64 * all / (self.ids.len() as u64).max(1);
        share.max(self.rows.len() as u64)
    }
}

/// The rows of the pieces, one piece after the other, with the attributes that `schema` has.
pub(super) fn concat(pieces: &[Piece], schema: &Schema) -> Rows {
    if let [piece] = pieces
        && piece.rows.len() == piece.ids.len()
        && piece.rows.iter().enumerate().all(|(at, row)| at == *row as usize)
    {
        let wanted = |id: &AttrId| schema.attributes().any(|a| a.id == *id);
        let columns = piece.columns.iter().filter(|(id, _)| wanted(id));
        return Rows {
            ids: piece.ids.clone(),
            columns: columns.map(|(id, column)| (*id, column.clone())).collect(),
        };
    }
    let ids: Vec<&IdColumn> = pieces.iter().map(|p| &p.ids).collect();
    let places: Vec<(usize, usize)> = pieces
        .iter()
        .enumerate()
        .flat_map(|(piece, p)| p.rows.iter().map(move |row| (piece, *row as usize)))
        .collect();
    let columns = schema.attributes().filter_map(|attribute| {
        let mut sources = Vec::new();
        let slots: Vec<Option<usize>> = pieces
            .iter()
            .map(|piece| {
                sources.push(piece.columns.get(&attribute.id)?);
                Some(sources.len() - 1)
            })
            .collect();
        let sources: Vec<&Column> = sources;
        if sources.is_empty() {
            return None;
        }
        let places: Vec<_> = places.iter().map(|(piece, row)| Some((slots[*piece]?, *row))).collect();
        Some((attribute.id, gather(attribute.ty, &sources, &places)))
    });
    Rows {
        columns: columns.collect(),
        ids: take_ids(&ids, &places, schema.id_kind),
    }
}

/// Splits pieces into groups of about so many bytes each, in order; at least one row in each.
pub(super) fn split(pieces: Vec<Piece>, bytes_max: u64) -> Vec<Vec<Piece>> {
    let mut groups: Vec<Vec<Piece>> = Vec::new();
    let mut room = 0;
    for piece in pieces {
        let bytes_per_row = piece.bytes().div_ceil((piece.rows.len() as u64).max(1)).max(1);
        let mut rows = piece.rows.as_slice();
        while !rows.is_empty() {
            if room < bytes_per_row {
                groups.push(Vec::new());
                room = bytes_max.max(bytes_per_row);
            }
            let fit = usize::try_from(room / bytes_per_row).unwrap_or(usize::MAX);
            let (now, later) = rows.split_at(fit.min(rows.len()));
            room -= (now.len() as u64).saturating_mul(bytes_per_row).min(room);
            let part = Piece {
                ids: piece.ids.clone(),
                columns: piece.columns.clone(),
                rows: now.to_vec(),
            };
            groups.last_mut().expect("there is one when there is room").push(part);
            rows = later;
        }
    }
    groups
}
