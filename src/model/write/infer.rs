//! Types of attributes that nobody declared, from their first values.

use super::body::{Cell, Cells};
use super::column::BadCell;
use super::{json, vector};
use crate::model::{AttrType, Element, Scalar};

/// The type that an attribute's first telling value stands for; `None` when there are only nulls
/// and empty arrays.
pub(super) fn infer(column: &Cells<'_>) -> Result<Option<AttrType>, BadCell> {
    for cell in column.cells.iter().filter(|c| !c.is_null()) {
        let ty = if &*column.name == "vector" {
            vector_type(cell).map(Some)
        } else {
            value_type(cell.text)
        };
        match ty {
            Ok(None) => {}
            Ok(found) => return Ok(found),
            Err(reason) => return Err(BadCell { row: cell.row, reason }),
        }
    }
    Ok(None)
}

fn vector_type(cell: &Cell<'_>) -> Result<AttrType, String> {
    let dims = match cell.flat {
        true => json::numbers::<f32>(cell.text, |_, _| Ok(()))?,
        false => vector::dims_of(cell.text)?,
    };
    Ok(AttrType::Vector {
        dims: vector::check_dims(dims)?,
        element: Element::F32,
    })
}

fn value_type(text: &str) -> Result<Option<AttrType>, String> {
    match text.as_bytes().first() {
        Some(b'{') => Err("is an object, whose type must be declared in schema, such as {}f16".to_owned()),
        Some(b'[') => array_type(text),
        _ => Ok(scalar_type(text).map(AttrType::Scalar)),
    }
}

fn scalar_type(text: &str) -> Option<Scalar> {
    match json::kind(text) {
        "string" => Some(Scalar::String),
        "integer" => Some(Scalar::Int),
        "number" => Some(Scalar::Float),
        "bool" => Some(Scalar::Bool),
        _ => None,
    }
}

/// Integers become floats when a later element has a fraction; other mixtures are left to the
/// column, which names the element that does not fit.
fn array_type(text: &str) -> Result<Option<AttrType>, String> {
    let mut ty = None;
    for element in json::elements(text).into_iter().flatten() {
        let Some(scalar) = scalar_type(element) else {
            return Err(match json::kind(element) {
                "null" => "has a null element, which arrays cannot hold".to_owned(),
                kind => format!("has an element that is {kind}; such types must be declared in schema"),
            });
        };
        ty = match (ty, scalar) {
            (None, first) => Some(first),
            (Some(Scalar::Int), Scalar::Float) => Some(Scalar::Float),
            (known, _) => known,
        };
    }
    Ok(ty.map(AttrType::Array))
}
