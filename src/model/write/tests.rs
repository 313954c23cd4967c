//! Table-driven: good bodies with the columns they become, bad ones with what the client reads.

mod bad;
mod embedding;
mod good;
mod properties;

use super::*;
use crate::model::{Column, InvalidKind};

fn write(body: &str) -> Result<Write, Invalid> {
    prepare(body.as_bytes(), &Schema::default(), &Limits::default())
}

/// The schema of a namespace with one attribute of every scalar type, and a vector.
fn schema_of(body: &str) -> Schema {
    let mut schema = Schema::default();
    schema.apply(&write(body).unwrap().schema);
    schema
}

fn values(batch: &RowBatch, name: &str) -> arrow::array::ArrayRef {
    match &batch.column(name).unwrap_or_else(|| panic!("no column {name}")).column {
        Column::Values(array) => array.clone(),
        Column::Vectors(_) => panic!("{name} is a vector"),
    }
}

fn floats(batch: &RowBatch, name: &str) -> Vec<f32> {
    match &batch.column(name).unwrap_or_else(|| panic!("no column {name}")).column {
        Column::Vectors(v) => {
            assert_eq!(v.data.as_ptr() as usize % 64, 0, "aligned to 64");
            v.data
                .as_chunks::<4>()
                .0
                .iter()
                .map(|w| f32::from_le_bytes(*w))
                .collect()
        }
        Column::Values(_) => panic!("{name} is no vector"),
    }
}
