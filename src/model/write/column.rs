//! Pass 2: one attribute's values, from JSON text to a typed column.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, FixedSizeBinaryArray, Float64Array, Int64Array, LargeBinaryArray, LargeStringArray,
    ListArray, TimestampMillisecondArray, UInt64Array,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::Field;
use uuid::Uuid;

use super::body::Cell;
use super::json;
use super::vector;
use crate::model::{AttrType, Attribute, Column, Limits, Scalar, datetime};

/// A value that does not fit its attribute: in which row, and why.
#[derive(Debug)]
pub(super) struct BadCell {
    pub row: u32,
    pub reason: String,
}

/// What a value may be at most.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub value_bytes_max: usize,
    /// For one scalar: the value itself or an element of an array.
    pub scalar_bytes_max: usize,
    pub sparse_entries_max: usize,
}

impl Bounds {
    pub(super) fn of(attribute: &Attribute, limits: &Limits) -> Self {
        let scalar_bytes_max = match attribute.filterable {
            true => limits.filterable_bytes_max,
            false => limits.value_bytes_max,
        };
        Self {
            value_bytes_max: limits.value_bytes_max,
            scalar_bytes_max,
            sparse_entries_max: limits.sparse_entries_max,
        }
    }

    fn check(bytes: usize, max: usize) -> Result<usize, String> {
        match bytes <= max {
            true => Ok(bytes),
            false => Err(format!("has {bytes} bytes, at most {max} are allowed")),
        }
    }
}

/// Builds a column.
///
/// * `cells` — ascending by row; rows without one are null
/// * `row_bytes` — one per row; the logical bytes of each value are added
pub(super) fn build(
    ty: AttrType,
    bounds: Bounds,
    cells: &[Cell<'_>],
    row_bytes: &mut [u64],
) -> Result<Column, BadCell> {
    match ty {
        AttrType::Vector { dims, element } => vector::build(dims, element, cells, row_bytes).map(Column::Vectors),
        AttrType::Scalar(scalar) => {
            let mut values = Values::new(scalar);
            let nulls = fill(cells, row_bytes, |cell| match cell {
                Some(text) => values.push(text, bounds.scalar_bytes_max),
                None => {
                    values.push_null();
                    Ok(0)
                }
            })?;
            Ok(Column::Values(values.finish(nulls)))
        }
        AttrType::Array(scalar) => build_lists(scalar, bounds, cells, row_bytes),
        AttrType::MultiVector { dims } => build_bytes(bounds, cells, row_bytes, |text| {
            let bytes = vector::multi(text, dims)?;
            Ok((bytes.len(), bytes))
        }),
        AttrType::SparseVector => build_bytes(bounds, cells, row_bytes, |text| {
            vector::sparse(text, bounds.sparse_entries_max)
        }),
    }
}

/// Goes through all rows, null ones included, and returns which are null.
fn fill(
    cells: &[Cell<'_>],
    row_bytes: &mut [u64],
    mut push: impl FnMut(Option<&str>) -> Result<usize, String>,
) -> Result<Option<NullBuffer>, BadCell> {
    let mut cells = cells.iter().filter(|c| !c.is_null()).peekable();
    let mut valid = Vec::with_capacity(row_bytes.len());
    for (row, bytes) in (0u32..).zip(row_bytes.iter_mut()) {
        let cell = cells.next_if(|c| c.row == row);
        valid.push(cell.is_some());
        let added = push(cell.map(|c| c.text)).map_err(|reason| BadCell { row, reason })?;
        *bytes += added as u64;
    }
    Ok(valid.contains(&false).then(|| NullBuffer::from(valid)))
}

fn build_lists(scalar: Scalar, bounds: Bounds, cells: &[Cell<'_>], row_bytes: &mut [u64]) -> Result<Column, BadCell> {
    let mut values = Values::new(scalar);
    let mut offsets = vec![0i32];
    let mut count = 0i32;
    let nulls = fill(cells, row_bytes, |cell| {
        let mut bytes = 0;
        if let Some(text) = cell {
            let elements = json::elements(text)
                .ok_or_else(|| format!("expects []{}, but got {}", scalar.name(), json::kind(text)))?;
            for element in elements {
                if element == "null" {
                    return Err("has a null element, which arrays cannot hold".to_owned());
                }
                bytes += values
                    .push(element, bounds.scalar_bytes_max)
                    .map_err(|reason| format!("has an element that {reason}"))?;
                count = count.checked_add(1).ok_or("has too many elements in one request")?;
            }
        }
        offsets.push(count);
        Bounds::check(bytes, bounds.value_bytes_max)
    })?;
    let values = values.finish(None);
    let field = Arc::new(Field::new("item", values.data_type().clone(), false));
    let list = ListArray::new(field, OffsetBuffer::new(offsets.into()), values, nulls);
    Ok(Column::Values(Arc::new(list)))
}

fn build_bytes(
    bounds: Bounds,
    cells: &[Cell<'_>],
    row_bytes: &mut [u64],
    encode: impl Fn(&str) -> Result<(usize, Vec<u8>), String>,
) -> Result<Column, BadCell> {
    let mut values = VarBytes::default();
    let nulls = fill(cells, row_bytes, |cell| {
        let Some(text) = cell else {
            values.end();
            return Ok(0);
        };
        let (logical, bytes) = encode(text)?;
        Bounds::check(bytes.len(), bounds.value_bytes_max)?;
        values.bytes.extend_from_slice(&bytes);
        values.end();
        Ok(logical)
    })?;
    Ok(Column::Values(values.binary(nulls)))
}

/// Values of varying length back to back.
struct VarBytes {
    offsets: Vec<i64>,
    bytes: Vec<u8>,
}

impl Default for VarBytes {
    fn default() -> Self {
        Self {
            offsets: vec![0],
            bytes: Vec::new(),
        }
    }
}

impl VarBytes {
    fn end(&mut self) {
        let end = i64::try_from(self.bytes.len()).expect("a request's values fit in memory");
        self.offsets.push(end);
    }

    fn offsets(offsets: Vec<i64>) -> OffsetBuffer<i64> {
        OffsetBuffer::new(ScalarBuffer::from(offsets))
    }

    fn binary(self, nulls: Option<NullBuffer>) -> ArrayRef {
        Arc::new(LargeBinaryArray::new(
            Self::offsets(self.offsets),
            Buffer::from_vec(self.bytes),
            nulls,
        ))
    }

    fn utf8(self, nulls: Option<NullBuffer>) -> ArrayRef {
        Arc::new(LargeStringArray::new(
            Self::offsets(self.offsets),
            Buffer::from_vec(self.bytes),
            nulls,
        ))
    }
}

/// Scalars of one type, in the making.
enum Values {
    String(VarBytes),
    Bytes(VarBytes),
    Int(Vec<i64>),
    UInt(Vec<u64>),
    Float(Vec<f64>),
    Uuid(Vec<u8>),
    Datetime(Vec<i64>),
    Bool(Vec<bool>),
}

impl Values {
    fn new(scalar: Scalar) -> Self {
        match scalar {
            Scalar::String => Self::String(VarBytes::default()),
            Scalar::Bytes => Self::Bytes(VarBytes::default()),
            Scalar::Int => Self::Int(Vec::new()),
            Scalar::UInt => Self::UInt(Vec::new()),
            Scalar::Float => Self::Float(Vec::new()),
            Scalar::Uuid => Self::Uuid(Vec::new()),
            Scalar::Datetime => Self::Datetime(Vec::new()),
            Scalar::Bool => Self::Bool(Vec::new()),
        }
    }

    /// Reads one value and returns its logical bytes. `Err` is the reason for the client.
    fn push(&mut self, text: &str, bytes_max: usize) -> Result<usize, String> {
        match self {
            Self::String(v) => {
                let value = json::string(text)?;
                Bounds::check(value.len(), bytes_max)?;
                v.bytes.extend_from_slice(value.as_bytes());
                v.end();
                return Ok(value.len());
            }
            Self::Bytes(v) => {
                let value = json::string(text).map_err(|_| wrong("bytes, a base64 string", text))?;
                let value = base64_simd::STANDARD
                    .decode_to_vec(value.as_bytes())
                    .map_err(|_| "expects bytes, but got a string that is not base64 with padding".to_owned())?;
                Bounds::check(value.len(), bytes_max)?;
                v.bytes.extend_from_slice(&value);
                v.end();
                return Ok(value.len());
            }
            Self::Int(v) => v.push(integer("int", text)?),
            Self::UInt(v) => v.push(integer("uint", text)?),
            Self::Float(v) => v.push(float(text)?),
            Self::Uuid(v) => {
                v.extend_from_slice(uuid(text)?.as_bytes());
                return Ok(16);
            }
            Self::Datetime(v) => v.push(datetime_ms(text)?),
            Self::Bool(v) => {
                v.push(boolean(text)?);
                return Ok(1);
            }
        }
        Ok(8)
    }

    fn push_null(&mut self) {
        match self {
            Self::String(v) | Self::Bytes(v) => v.end(),
            Self::Int(v) | Self::Datetime(v) => v.push(0),
            Self::UInt(v) => v.push(0),
            Self::Float(v) => v.push(0.0),
            Self::Uuid(v) => v.extend_from_slice(&[0; 16]),
            Self::Bool(v) => v.push(false),
        }
    }

    fn finish(self, nulls: Option<NullBuffer>) -> ArrayRef {
        match self {
            Self::String(v) => v.utf8(nulls),
            Self::Bytes(v) => v.binary(nulls),
            Self::Int(v) => Arc::new(Int64Array::new(v.into(), nulls)),
            Self::UInt(v) => Arc::new(UInt64Array::new(v.into(), nulls)),
            Self::Float(v) => Arc::new(Float64Array::new(v.into(), nulls)),
            Self::Uuid(v) => Arc::new(FixedSizeBinaryArray::new(16, Buffer::from_vec(v), nulls)),
            Self::Datetime(v) => Arc::new(TimestampMillisecondArray::new(v.into(), nulls).with_timezone("UTC")),
            Self::Bool(v) => Arc::new(BooleanArray::new(v.into(), nulls)),
        }
    }
}

fn wrong(expected: &str, text: &str) -> String {
    format!("expects {expected}, but got {}", json::kind(text))
}

/// An integer in the range of its type.
pub(super) fn integer<T: std::str::FromStr>(expected: &str, text: &str) -> Result<T, String> {
    if !json::is_integer(text) {
        return Err(wrong(expected, text));
    }
    text.parse()
        .map_err(|_| format!("expects {expected}, but got an integer outside of its range"))
}

fn float(text: &str) -> Result<f64, String> {
    if !matches!(text.as_bytes().first(), Some(b'-' | b'0'..=b'9')) {
        return Err(wrong("float", text));
    }
    match fast_float2::parse::<f64, _>(text) {
        Ok(x) if x.is_finite() => Ok(x),
        _ => Err("expects float, but got a number that is too large".to_owned()),
    }
}

/// A UUID in its canonical form, in either case.
pub(super) fn uuid(text: &str) -> Result<Uuid, String> {
    let value = json::string(text).map_err(|_| wrong("uuid", text))?;
    match Uuid::try_parse(&value) {
        Ok(uuid) if value.len() == 36 => Ok(uuid),
        _ => Err("expects uuid, but got a string that is not a UUID in its canonical form".to_owned()),
    }
}

fn datetime_ms(text: &str) -> Result<i64, String> {
    let ms = if json::is_integer(text) {
        text.parse().ok()
    } else {
        let value = json::string(text).map_err(|_| wrong("datetime", text))?;
        datetime::parse(&value)
    };
    ms.filter(|ms| datetime::in_range(*ms)).ok_or_else(|| {
        "expects datetime, ISO-8601 text or integer milliseconds within the years 0 to 9999, but got something else"
            .to_owned()
    })
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(wrong("bool", text)),
    }
}
