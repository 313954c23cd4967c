//! Rows of the tail as batches, to be written somewhere else.

use super::Part;
use super::gather::{Place, gather, gather_ids};
use crate::model::batch::NamedColumn;
use crate::model::{RowBatch, Schema};

/// The live rows of a part, in order, with the columns that `schema` has.
///
/// Shares the part's buffers when all its rows are live, else copies the live ones.
pub fn live_batch(part: &Part, schema: &Schema) -> RowBatch {
    let chunk = &part.chunk;
    let all = part.live.count() == chunk.len();
    let rows: Vec<usize> = if all { Vec::new() } else { part.live.iter().collect() };
    let ids = match all {
        true => chunk.ids.clone(),
        false => gather_ids(&[&chunk.ids], &rows.iter().map(|row| (0, *row)).collect::<Vec<_>>()),
    };
    let places: Vec<Place> = rows.iter().map(|row| Some((0, *row))).collect();
    let columns = schema.attributes().filter_map(|attribute| {
        let column = chunk.columns.get(&attribute.id)?;
        Some(NamedColumn {
            name: attribute.name.clone(),
            ty: attribute.ty,
            column: match all {
                true => column.clone(),
                false => gather(attribute.ty, &[column], &places),
            },
        })
    });
    RowBatch {
        ids,
        // By name, as the schema has them.
        columns: columns.collect(),
    }
}

/// How much memory [`live_batch`] takes on top of the part's own, about, in bytes.
pub fn live_batch_bytes(part: &Part) -> u64 {
    match part.live.count() == part.chunk.len() {
        true => 0,
        false => part.chunk.memory_bytes() as u64,
    }
}
