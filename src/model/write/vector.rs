//! Vectors out of JSON: numbers or base64, dense, multi and sparse.

use std::collections::BTreeMap;

use arrow::buffer::{MutableBuffer, NullBuffer};
use half::f16;

use super::body::Cell;
use super::column::BadCell;
use super::json;
use crate::model::types::DIMS_MAX;
use crate::model::{Element, VectorColumn, encoding};

/// Most bytes of a column that stand for rows without a vector, beyond four times those of the rows
/// that have one: a short body must not make us reserve much.
const ABSENT_BYTES_SPARE: usize = 64 << 20;

/// Builds a column of dense vectors, null where a row has none.
///
/// * `cells` — ascending by row
/// * `row_bytes` — one per row; the bytes of each vector are added
pub(super) fn build(
    dims: u32,
    element: Element,
    cells: &[Cell<'_>],
    row_bytes: &mut [u64],
) -> Result<VectorColumn, BadCell> {
    let (stride, rows) = (dims as usize * element.bytes(), row_bytes.len());
    let mut given = cells.iter().filter(|c| !c.is_null()).peekable();
    let count = given.clone().count();
    check_absent(rows, count, stride).map_err(|reason| BadCell {
        row: given.peek().map_or(0, |c| c.row),
        reason,
    })?;
    // A number takes at least two bytes of text for at most four of ours, so that a short body cannot
    // make us reserve much before its dimensions have been checked.
    let text_bytes: usize = cells.iter().map(|c| c.text.len()).sum();
    let mut data = MutableBuffer::new((rows * stride).min(2 * text_bytes));
    let mut valid = Vec::new();
    let mut scratch = Vec::new();
    for (row, bytes) in (0u32..).zip(row_bytes) {
        let start = data.len();
        let cell = given.next_if(|c| c.row == row);
        if let Some(cell) = cell {
            let bad = |reason| BadCell { row, reason };
            check_length(cell, dims).map_err(bad)?;
            data.resize(start + stride, 0);
            read(cell, element, &mut data.as_slice_mut()[start..], &mut scratch).map_err(bad)?;
            *bytes += stride as u64;
        } else {
            data.resize(start + stride, 0);
        }
        if count < rows {
            valid.push(cell.is_some());
        }
    }
    Ok(VectorColumn {
        dims,
        element,
        data: data.into(),
        nulls: (count < rows).then(|| NullBuffer::from(valid)),
    })
}

/// Refuses columns that are mostly made of rows without a vector.
pub(super) fn check_absent(rows: usize, given: usize, stride: usize) -> Result<(), String> {
    let absent = (rows - given).saturating_mul(stride);
    match absent <= (4 * given * stride).saturating_add(ABSENT_BYTES_SPARE) {
        true => Ok(()),
        false => Err("is one of few vectors among many rows without one; send those rows apart".to_owned()),
    }
}

/// Stores numbers as elements of a column.
///
/// * `out` — as many elements as there are numbers
pub(super) fn store(numbers: impl Iterator<Item = f32>, element: Element, out: &mut [u8]) -> Result<(), String> {
    match element {
        Element::F32 => {
            for (slot, x) in out.as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
                *slot = finite(x)?.to_le_bytes();
            }
        }
        Element::F16 => {
            for (slot, x) in out.as_chunks_mut::<2>().0.iter_mut().zip(numbers) {
                *slot = to_f16(x)?;
            }
        }
        Element::I8 => {
            for (slot, x) in out.as_chunks_mut::<1>().0.iter_mut().zip(numbers) {
                *slot = to_i8(f64::from(x))?;
            }
        }
    }
    Ok(())
}

/// Finds texts too short for `dims` elements before memory is taken for them.
fn check_length(cell: &Cell<'_>, dims: u32) -> Result<(), String> {
    let dims = dims as usize;
    match cell.text.as_bytes().first() {
        Some(b'[') if cell.text.len() < 2 * dims => Err(wrong_dims(dims, dims_of(cell.text)?)),
        Some(b'"') if cell.text.len() < 5 * dims => Err(wrong_dims(dims, dims_of(cell.text)?)),
        _ => Ok(()),
    }
}

fn wrong_dims(dims: usize, got: usize) -> String {
    format!("expects a vector of {dims} dimensions, but got {got}")
}

/// Writes one vector to `out`, whose length is the stride.
fn read(cell: &Cell<'_>, element: Element, out: &mut [u8], scratch: &mut Vec<u8>) -> Result<(), String> {
    let dims = out.len() / element.bytes();
    let text = cell.text;
    if !cell.flat && text.starts_with('"') {
        return read_base64(text, dims, element, out, scratch);
    }
    if !cell.flat && !text.starts_with('[') {
        return Err(format!(
            "expects a vector, an array of numbers or a base64 string, but got {}",
            json::kind(text)
        ));
    }
    let got = match element {
        Element::F32 => {
            let out = out.as_chunks_mut::<4>().0;
            json::numbers::<f32>(text, |i, x| put(out, i, dims, || Ok(finite(x)?.to_le_bytes())))
        }
        // Through f32, as base64 comes: both ways of sending a vector store the same bits.
        Element::F16 => {
            let out = out.as_chunks_mut::<2>().0;
            json::numbers::<f32>(text, |i, x| put(out, i, dims, || to_f16(x)))
        }
        Element::I8 => {
            let out = out.as_chunks_mut::<1>().0;
            json::numbers::<f64>(text, |i, x| put(out, i, dims, || to_i8(x)))
        }
    }?;
    match got == dims {
        true => Ok(()),
        false => Err(wrong_dims(dims, got)),
    }
}

/// Stores an element; those beyond the last are counted only, for the message.
fn put<const B: usize>(
    out: &mut [[u8; B]],
    i: usize,
    dims: usize,
    bytes: impl FnOnce() -> Result<[u8; B], String>,
) -> Result<(), String> {
    match out.get_mut(i) {
        Some(slot) => *slot = bytes()?,
        None => debug_assert!(i >= dims, "the slice has a slot per dimension"),
    }
    Ok(())
}

fn read_base64(text: &str, dims: usize, element: Element, out: &mut [u8], scratch: &mut Vec<u8>) -> Result<(), String> {
    let value = json::string(text)?;
    let got = base64_dims(&value)?;
    if got != dims {
        return Err(wrong_dims(dims, got));
    }
    if element == Element::F32 {
        decode(&value, out)?;
        let (words, _) = out.as_chunks::<4>();
        return match words.iter().all(|w| f32::from_le_bytes(*w).is_finite()) {
            true => Ok(()),
            false => Err(NOT_FINITE.to_owned()),
        };
    }
    scratch.resize(dims * 4, 0);
    decode(&value, scratch)?;
    let words = scratch.as_chunks::<4>().0.iter().map(|w| f32::from_le_bytes(*w));
    store(words, element, out)
}

fn decode(value: &str, out: &mut [u8]) -> Result<(), String> {
    let decoded = base64_simd::STANDARD.decode(value.as_bytes(), base64_simd::Out::from_slice(out));
    decoded.map(|_| ()).map_err(|_| NOT_BASE64.to_owned())
}

const NOT_BASE64: &str = "expects a vector, but got a string that is not base64 with padding";
const NOT_FINITE: &str = "has an element that is not a finite number of the column's element type";

/// How many f32 a base64 text holds.
fn base64_dims(value: &str) -> Result<usize, String> {
    let bytes = base64_simd::STANDARD
        .decoded_length(value.as_bytes())
        .map_err(|_| NOT_BASE64.to_owned())?;
    match bytes % 4 {
        0 => Ok(bytes / 4),
        _ => Err(format!(
            "expects base64 of little-endian f32, but got {bytes} bytes, which is not a multiple of 4"
        )),
    }
}

fn finite(x: f32) -> Result<f32, String> {
    match x.is_finite() {
        true => Ok(x),
        false => Err(NOT_FINITE.to_owned()),
    }
}

fn to_f16(x: f32) -> Result<[u8; 2], String> {
    let half = f16::from_f32(x);
    match half.is_finite() {
        true => Ok(half.to_le_bytes()),
        false => Err(NOT_FINITE.to_owned()),
    }
}

fn to_i8(x: f64) -> Result<[u8; 1], String> {
    match x.fract() == 0.0 && (-128.0..=127.0).contains(&x) {
        true => Ok((x as i8).to_le_bytes()),
        false => Err(format!("expects integers from -128 to 127, but got {x}")),
    }
}

/// How many dimensions a vector has, to infer its column's type.
pub(super) fn dims_of(text: &str) -> Result<usize, String> {
    if text.starts_with('"') {
        return base64_dims(&json::string(text)?);
    }
    if !text.starts_with('[') {
        return Err(format!(
            "expects a vector, an array of numbers or a base64 string, but got {}",
            json::kind(text)
        ));
    }
    json::numbers::<f32>(text, |_, _| Ok(()))
}

/// Checks the dimensions of a new column.
pub(super) fn check_dims(dims: usize) -> Result<u32, String> {
    u32::try_from(dims)
        .ok()
        .filter(|d| (1..=DIMS_MAX).contains(d))
        .ok_or_else(|| format!("expects a vector of 1 to {DIMS_MAX} dimensions, but got {dims}"))
}

/// The bytes of a `[][N]f32` value.
pub(super) fn multi(text: &str, dims: u32) -> Result<Vec<u8>, String> {
    let vectors = json::elements(text).ok_or_else(|| format!("expects [][{dims}]f32, but got {}", json::kind(text)))?;
    let mut elements = Vec::new();
    for vector in vectors {
        if !vector.starts_with('[') {
            let got = json::kind(vector);
            return Err(format!(
                "expects [][{dims}]f32, an array of arrays, but got an element that is {got}"
            ));
        }
        let got = json::numbers::<f32>(vector, |_, x| {
            elements.push(finite(x)?);
            Ok(())
        })?;
        if got != dims as usize {
            return Err(wrong_dims(dims as usize, got));
        }
    }
    Ok(encoding::encode_multi_vector(&elements))
}

/// The logical size and the bytes of a `{}f16` value.
pub(super) fn sparse(text: &str, entries_max: usize) -> Result<(usize, Vec<u8>), String> {
    if !text.starts_with('{') {
        return Err(format!("expects {{}}f16, an object, but got {}", json::kind(text)));
    }
    // Through f32, as for f16 vectors.
    let weights: BTreeMap<String, f32> =
        serde_json::from_str(text).map_err(|_| "expects {}f16, an object of finite numbers".to_owned())?;
    if weights.len() > entries_max {
        return Err(format!(
            "has {} entries, at most {entries_max} are allowed",
            weights.len()
        ));
    }
    let mut entries = Vec::with_capacity(weights.len());
    for (name, weight) in &weights {
        entries.push((name.as_str(), f16::from_le_bytes(to_f16(*weight)?)));
    }
    let logical = entries.iter().map(|(name, _)| name.len() + 2).sum();
    Ok((logical, encoding::encode_sparse(&entries)))
}
