//! Ids out of JSON, and that none occurs twice in a request.

use arrow::array::{FixedSizeBinaryArray, LargeStringArray, UInt64Array};
use arrow::buffer::Buffer;
use hashbrown::HashSet;

use super::body::Cell;
use super::column::{self, BadCell};
use super::json;
use crate::model::{Id, IdColumn, IdKind};

/// The kind of ids that a first value stands for.
pub(super) fn infer(text: &str) -> IdKind {
    match text.starts_with('"') {
        true => IdKind::String,
        false => IdKind::UInt,
    }
}

/// Types ids.
///
/// * `cells` — one per row, ascending
pub(super) fn build(kind: IdKind, cells: &[Cell<'_>], bytes_max: usize) -> Result<IdColumn, BadCell> {
    let each = cells.iter().map(|cell| (cell.text, cell.row));
    let bad = |row| move |reason| BadCell { row, reason };
    match kind {
        IdKind::UInt => {
            let ids: Result<Vec<u64>, BadCell> = each
                .map(|(text, row)| column::integer("uint", text).map_err(bad(row)))
                .collect();
            Ok(IdColumn::UInt(UInt64Array::from(ids?)))
        }
        IdKind::Uuid => {
            let mut bytes = Vec::with_capacity(16 * cells.len());
            for (text, row) in each {
                bytes.extend_from_slice(column::uuid(text).map_err(bad(row))?.as_bytes());
            }
            Ok(IdColumn::Uuid(FixedSizeBinaryArray::new(
                16,
                Buffer::from_vec(bytes),
                None,
            )))
        }
        IdKind::String => {
            let mut ids = Vec::with_capacity(cells.len());
            for (text, row) in each {
                let id = json::string(text).map_err(bad(row))?;
                if id.len() > bytes_max {
                    let reason = format!("has {} bytes, at most {bytes_max} are allowed", id.len());
                    return Err(BadCell { row, reason });
                }
                ids.push(id);
            }
            Ok(IdColumn::String(LargeStringArray::from_iter_values(ids)))
        }
    }
}

/// The logical bytes of an id.
pub(super) fn bytes(ids: &IdColumn, row: usize) -> u64 {
    match ids {
        IdColumn::UInt(_) => 8,
        IdColumn::Uuid(_) => 16,
        IdColumn::String(a) => a.value(row).len() as u64,
    }
}

/// Finds the first id that occurs twice in the columns together.
pub(super) fn duplicate<'a>(columns: impl Iterator<Item = &'a IdColumn> + Clone) -> Option<Id> {
    let mut numbers: HashSet<u64> = HashSet::new();
    let mut texts: HashSet<&[u8]> = HashSet::new();
    for ids in columns {
        for row in 0..ids.len() {
            let new = match ids {
                IdColumn::UInt(a) => numbers.insert(a.value(row)),
                IdColumn::Uuid(a) => texts.insert(a.value(row)),
                IdColumn::String(a) => texts.insert(a.value(row).as_bytes()),
            };
            if !new {
                return Some(ids.get(row));
            }
        }
    }
    None
}
