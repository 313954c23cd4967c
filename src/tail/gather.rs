//! Puts rows from several places together into new columns.

use arrow::array::{Array, ArrayRef, new_null_array};
use arrow::buffer::{MutableBuffer, NullBuffer};
use arrow::compute::interleave;

use crate::model::batch::arrow_type;
use crate::model::{AttrType, Column, IdColumn, IdKind, VectorColumn};

/// Where the value of one new row comes from: a column of the list given to [`gather`], and a row
/// in it; or nowhere, which is null.
pub type Place = Option<(usize, usize)>;

/// Builds a column of `ty` whose row `i` is the value at `places[i]`.
///
/// Every source is a column of the same type. Panics when one is not.
pub fn gather(ty: AttrType, sources: &[&Column], places: &[Place]) -> Column {
    match ty {
        AttrType::Vector { dims, element } => {
            let vectors: Vec<&VectorColumn> = sources.iter().map(|c| expect_vectors(c)).collect();
            let empty = VectorColumn {
                dims,
                element,
                data: MutableBuffer::new(0).into(),
                nulls: None,
            };
            Column::Vectors(gather_vectors(&empty, &vectors, places))
        }
        _ => {
            let arrays: Vec<&ArrayRef> = sources.iter().map(|c| expect_values(c)).collect();
            Column::Values(gather_values(ty, &arrays, places))
        }
    }
}

/// Builds an id column whose row `i` is the id at `places[i]`.
///
/// All sources hold ids of one kind, and there is at least one.
pub(super) fn gather_ids(sources: &[&IdColumn], places: &[(usize, usize)]) -> IdColumn {
    let arrays: Vec<ArrayRef> = sources.iter().map(|c| c.to_array()).collect();
    let arrays: Vec<&dyn Array> = arrays.iter().map(|a| a.as_ref()).collect();
    let joined = interleave(&arrays, places).expect("the ids of a namespace are all of one kind");
    IdColumn::from_array(&joined).expect("ids joined are of the same type")
}

/// The same from the columns that places name; only those have to be of one kind.
pub(super) fn gather_used(columns: &[&IdColumn], places: &[(usize, usize)]) -> IdColumn {
    let mut used = Vec::new();
    let mut slot = vec![None; columns.len()];
    let places: Vec<_> = places
        .iter()
        .map(|(column, row)| {
            let slot = *slot[*column].get_or_insert_with(|| {
                used.push(columns[*column]);
                used.len() - 1
            });
            (slot, *row)
        })
        .collect();
    gather_ids(&used, &places)
}

/// The ids at `places`, which may be none: then the column is of `kind`.
pub fn take_ids(columns: &[&IdColumn], places: &[(usize, usize)], kind: Option<IdKind>) -> IdColumn {
    match places.is_empty() {
        true => IdColumn::from_ids(kind.unwrap_or(IdKind::UInt), std::iter::empty()),
        false => gather_used(columns, places),
    }
}

fn expect_vectors(column: &Column) -> &VectorColumn {
    match column {
        Column::Vectors(v) => v,
        Column::Values(_) => panic!("a vector attribute has vector columns"),
    }
}

fn expect_values(column: &Column) -> &ArrayRef {
    match column {
        Column::Values(a) => a,
        Column::Vectors(_) => panic!("only vector attributes have vector columns"),
    }
}

fn gather_values(ty: AttrType, sources: &[&ArrayRef], places: &[Place]) -> ArrayRef {
    let data_type = arrow_type(ty).expect("vectors are gathered elsewhere");
    let null = new_null_array(&data_type, 1);
    let mut arrays: Vec<&dyn Array> = sources.iter().map(|a| a.as_ref()).collect();
    arrays.push(null.as_ref());
    let null_place = (arrays.len() - 1, 0);
    let places: Vec<(usize, usize)> = places.iter().map(|p| p.unwrap_or(null_place)).collect();
    interleave(&arrays, &places).expect("columns of one attribute have one type")
}

fn gather_vectors(like: &VectorColumn, sources: &[&VectorColumn], places: &[Place]) -> VectorColumn {
    let stride = like.stride();
    let mut data = MutableBuffer::with_capacity(places.len() * stride);
    let mut valid = Vec::with_capacity(places.len());
    for place in places {
        match place {
            Some((source, row)) if !sources[*source].is_null(*row) => {
                let source = sources[*source];
                assert_eq!(source.ty(), like.ty(), "columns of one attribute have one type");
                data.extend_from_slice(source.row(*row));
                valid.push(true);
            }
            _ => {
                data.extend_zeros(stride);
                valid.push(false);
            }
        }
    }
    let nulls = valid.contains(&false).then(|| NullBuffer::from(valid));
    VectorColumn {
        data: data.into(),
        nulls,
        ..like.clone()
    }
}
