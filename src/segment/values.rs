//! Values as bytes in rows, and back into columns.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBuilder, FixedSizeBinaryArray, FixedSizeBinaryBuilder, Float64Array,
    Float64Builder, Int64Array, Int64Builder, LargeBinaryArray, LargeBinaryBuilder, LargeStringArray,
    LargeStringBuilder, ListArray, NullBufferBuilder, TimestampMillisecondArray, TimestampMillisecondBuilder,
    UInt64Array, UInt64Builder,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMillisecondType, UInt64Type};

use super::wire::{FormatError, Reader, put_varint, unzigzag, zigzag};
use crate::model::batch::arrow_type;
use crate::model::types::DIMS_MAX;
use crate::model::{AttrType, Element, IdColumn, IdKind, Scalar};

const SCALARS: [Scalar; 8] = [
    Scalar::String,
    Scalar::Int,
    Scalar::UInt,
    Scalar::Float,
    Scalar::Uuid,
    Scalar::Datetime,
    Scalar::Bool,
    Scalar::Bytes,
];
const ELEMENTS: [Element; 3] = [Element::F32, Element::F16, Element::I8];
/// Room that is made for a text before its length is known.
const TEXT_BYTES: usize = 16;
const TAG_ARRAY: u8 = 16;
const TAG_VECTOR: u8 = 32;
const TAG_MULTI_VECTOR: u8 = 48;
const TAG_SPARSE: u8 = 49;

/// Appends a type: a tag, and the dimensions of vectors.
pub fn put_type(out: &mut Vec<u8>, ty: AttrType) {
    let scalar = |s| {
        SCALARS
            .iter()
            .position(|x| *x == s)
            .expect("the table lists every scalar") as u8
    };
    let element = |e| {
        ELEMENTS
            .iter()
            .position(|x| *x == e)
            .expect("the table lists every element") as u8
    };
    match ty {
        AttrType::Scalar(s) => out.push(scalar(s)),
        AttrType::Array(s) => out.push(TAG_ARRAY + scalar(s)),
        AttrType::Vector { dims, element: e } => {
            out.push(TAG_VECTOR + element(e));
            put_varint(out, u64::from(dims));
        }
        AttrType::MultiVector { dims } => {
            out.push(TAG_MULTI_VECTOR);
            put_varint(out, u64::from(dims));
        }
        AttrType::SparseVector => out.push(TAG_SPARSE),
    }
}

/// Reads a type back.
pub fn read_type(input: &mut Reader<'_>) -> Result<AttrType, FormatError> {
    let tag = input.byte()?;
    let unknown = || FormatError::Newer(format!("attribute type {tag}"));
    let scalar = |from: u8| SCALARS.get(usize::from(tag - from)).copied().ok_or_else(unknown);
    let mut dims = || match input.varint_to(u64::from(DIMS_MAX))? {
        0 => Err(FormatError::corrupt("vectors without dimensions")),
        dims => Ok(dims as u32),
    };
    match tag {
        ..TAG_ARRAY => Ok(AttrType::Scalar(scalar(0)?)),
        TAG_ARRAY..TAG_VECTOR => Ok(AttrType::Array(scalar(TAG_ARRAY)?)),
        TAG_VECTOR..TAG_MULTI_VECTOR => Ok(AttrType::Vector {
            element: ELEMENTS
                .get(usize::from(tag - TAG_VECTOR))
                .copied()
                .ok_or_else(unknown)?,
            dims: dims()?,
        }),
        TAG_MULTI_VECTOR => Ok(AttrType::MultiVector { dims: dims()? }),
        TAG_SPARSE => Ok(AttrType::SparseVector),
        _ => Err(unknown()),
    }
}

/// How long a value is in a row, if its type does not say it: what a reader has to know to pass over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Wire {
    Varint = 0,
    Eight = 1,
    Sixteen = 2,
    /// A varint with the length goes before it.
    Counted = 3,
}

impl Wire {
    /// That of a key's lowest two bits.
    pub fn of_key(key: u64) -> Self {
        match key & 3 {
            0 => Wire::Varint,
            1 => Wire::Eight,
            2 => Wire::Sixteen,
            _ => Wire::Counted,
        }
    }

    /// That of values of a type.
    pub fn of(ty: AttrType) -> Self {
        match ty {
            AttrType::Scalar(Scalar::Int | Scalar::UInt | Scalar::Datetime | Scalar::Bool) => Wire::Varint,
            AttrType::Scalar(Scalar::Float) => Wire::Eight,
            AttrType::Scalar(Scalar::Uuid) => Wire::Sixteen,
            _ => Wire::Counted,
        }
    }

    /// The next value's bytes, without the length before it.
    pub fn take<'a>(self, input: &mut Reader<'a>) -> Result<&'a [u8], FormatError> {
        Ok(match self {
            Wire::Eight => input.take(8)?,
            Wire::Sixteen => input.take(16)?,
            Wire::Counted => input.bytes()?,
            Wire::Varint => {
                let mut ahead = *input;
                ahead.varint()?;
                input.take(input.len() - ahead.len())?
            }
        })
    }
}

/// A column to take values from, its type looked up once.
pub enum Source<'a> {
    String(&'a LargeStringArray),
    Int(&'a Int64Array),
    UInt(&'a UInt64Array),
    Float(&'a Float64Array),
    Uuid(&'a FixedSizeBinaryArray),
    Datetime(&'a TimestampMillisecondArray),
    Bool(&'a BooleanArray),
    Bytes(&'a LargeBinaryArray),
    List(&'a ListArray, Box<Source<'a>>),
}

impl<'a> Source<'a> {
    /// Panics when `array` is no column of the model.
    pub fn new(array: &'a ArrayRef) -> Self {
        match array.data_type() {
            DataType::LargeUtf8 => Self::String(array.as_string()),
            DataType::Int64 => Self::Int(array.as_primitive::<Int64Type>()),
            DataType::UInt64 => Self::UInt(array.as_primitive::<UInt64Type>()),
            DataType::Float64 => Self::Float(array.as_primitive::<Float64Type>()),
            DataType::FixedSizeBinary(16) => Self::Uuid(array.as_fixed_size_binary()),
            DataType::Timestamp(..) => Self::Datetime(array.as_primitive::<TimestampMillisecondType>()),
            DataType::Boolean => Self::Bool(array.as_boolean()),
            DataType::LargeBinary => Self::Bytes(array.as_binary()),
            DataType::List(_) => {
                let lists = array.as_list();
                Self::List(lists, Box::new(Self::new(lists.values())))
            }
            other => panic!("no attribute has a column of {other}"),
        }
    }

    /// Whether a row has no value.
    pub fn is_null(&self, row: usize) -> bool {
        let array: &dyn Array = match self {
            Self::String(a) => *a,
            Self::Int(a) => *a,
            Self::UInt(a) => *a,
            Self::Float(a) => *a,
            Self::Uuid(a) => *a,
            Self::Datetime(a) => *a,
            Self::Bool(a) => *a,
            Self::Bytes(a) => *a,
            Self::List(a, _) => *a,
        };
        array.is_null(row)
    }

    /// A number that stands for a row's value in zone maps: if one value is less than another, its key is not greater.
    /// Texts, bytes and uuids have that of their first eight bytes; arrays have none, their elements do.
    pub fn zone_key(&self, row: usize) -> u64 {
        const SIGN: u64 = 1 << 63;
        match self {
            Self::Int(a) => a.value(row) as u64 ^ SIGN,
            Self::Datetime(a) => a.value(row) as u64 ^ SIGN,
            Self::UInt(a) => a.value(row),
            Self::Bool(a) => u64::from(a.value(row)),
            // The total order of IEEE 754.
            Self::Float(a) => match a.value(row).to_bits() {
                bits if bits & SIGN == 0 => bits ^ SIGN,
                bits => !bits,
            },
            Self::Uuid(a) => first_eight(a.value(row)),
            Self::String(a) => first_eight(a.value(row).as_bytes()),
            Self::Bytes(a) => first_eight(a.value(row)),
            Self::List(..) => panic!("zones are those of elements"),
        }
    }

    /// Appends a row's value as [`Wire`] takes it. `spare` is for arrays, whatever is in it.
    pub fn put(&self, row: usize, out: &mut Vec<u8>, spare: &mut Vec<u8>) {
        match self {
            Self::Int(a) => put_varint(out, zigzag(a.value(row))),
            Self::UInt(a) => put_varint(out, a.value(row)),
            Self::Datetime(a) => put_varint(out, zigzag(a.value(row))),
            Self::Bool(a) => out.push(u8::from(a.value(row))),
            Self::Float(a) => out.extend_from_slice(&a.value(row).to_bits().to_le_bytes()),
            Self::Uuid(a) => out.extend_from_slice(a.value(row)),
            Self::String(a) => put_bytes(out, a.value(row).as_bytes()),
            Self::Bytes(a) => put_bytes(out, a.value(row)),
            Self::List(lists, elements) => {
                spare.clear();
                let offsets = lists.value_offsets();
                for element in offsets[row] as usize..offsets[row + 1] as usize {
                    elements.put(element, spare, &mut Vec::new());
                }
                put_bytes(out, spare);
            }
        }
    }
}

fn first_eight(bytes: &[u8]) -> u64 {
    let mut key = [0; 8];
    let len = bytes.len().min(8);
    key[..len].copy_from_slice(&bytes[..len]);
    u64::from_be_bytes(key)
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Text that may come from anywhere.
pub fn text(bytes: &[u8]) -> Result<&str, FormatError> {
    simdutf8::basic::from_utf8(bytes).map_err(|_| FormatError::corrupt("a text is not UTF-8"))
}

/// Builds a column of scalars from the bytes of values.
enum ScalarBuilder {
    String(LargeStringBuilder),
    Int(Int64Builder),
    UInt(UInt64Builder),
    Float(Float64Builder),
    Uuid(FixedSizeBinaryBuilder),
    Datetime(TimestampMillisecondBuilder),
    Bool(BooleanBuilder),
    Bytes(LargeBinaryBuilder),
}

impl ScalarBuilder {
    /// * `rows` — how many values will come, about
    fn new(scalar: Scalar, rows: usize) -> Self {
        // What texts take is not known.
        let bytes = rows.saturating_mul(TEXT_BYTES);
        match scalar {
            Scalar::String => Self::String(LargeStringBuilder::with_capacity(rows, bytes)),
            Scalar::Int => Self::Int(Int64Builder::with_capacity(rows)),
            Scalar::UInt => Self::UInt(UInt64Builder::with_capacity(rows)),
            Scalar::Float => Self::Float(Float64Builder::with_capacity(rows)),
            Scalar::Uuid => Self::Uuid(FixedSizeBinaryBuilder::with_capacity(rows, 16)),
            Scalar::Datetime => Self::Datetime(TimestampMillisecondBuilder::with_capacity(rows).with_timezone("UTC")),
            Scalar::Bool => Self::Bool(BooleanBuilder::with_capacity(rows)),
            Scalar::Bytes => Self::Bytes(LargeBinaryBuilder::with_capacity(rows, bytes)),
        }
    }

    /// * `value` — exactly one value, without the length before it
    fn append(&mut self, value: Option<&[u8]>) -> Result<(), FormatError> {
        let number = |v: &[u8]| {
            let mut input = Reader::new(v);
            let number = input.varint()?;
            input.end().map(|()| number)
        };
        match self {
            Self::String(b) => b.append_option(value.map(text).transpose()?),
            Self::Bytes(b) => b.append_option(value),
            Self::Int(b) => b.append_option(value.map(number).transpose()?.map(unzigzag)),
            Self::UInt(b) => b.append_option(value.map(number).transpose()?),
            Self::Datetime(b) => b.append_option(value.map(number).transpose()?.map(unzigzag)),
            Self::Float(b) => b.append_option(value.map(float).transpose()?),
            Self::Bool(b) => match value.map(number).transpose()? {
                Some(bit @ (0 | 1)) => b.append_value(bit == 1),
                Some(_) => return Err(FormatError::corrupt("a bool is neither true nor false")),
                None => b.append_null(),
            },
            Self::Uuid(b) => match value {
                Some(value) => {
                    let wrong = |_| FormatError::corrupt("a uuid does not have 16 bytes");
                    b.append_value(value).map_err(wrong)?;
                }
                None => b.append_null(),
            },
        }
        Ok(())
    }

    fn finish(mut self) -> ArrayRef {
        match &mut self {
            Self::String(b) => Arc::new(b.finish()),
            Self::Int(b) => Arc::new(b.finish()),
            Self::UInt(b) => Arc::new(b.finish()),
            Self::Float(b) => Arc::new(b.finish()),
            Self::Uuid(b) => Arc::new(b.finish()),
            Self::Datetime(b) => Arc::new(b.finish()),
            Self::Bool(b) => Arc::new(b.finish()),
            Self::Bytes(b) => Arc::new(b.finish()),
        }
    }
}

fn float(bytes: &[u8]) -> Result<f64, FormatError> {
    let mut input = Reader::new(bytes);
    let bits = input.u64_le()?;
    input.end()?;
    Ok(f64::from_bits(bits))
}

/// Builds a column of any type but dense vectors from the bytes of values.
pub struct ValueBuilder {
    ty: AttrType,
    scalars: ScalarBuilder,
    lists: Option<Lists>,
}

struct Lists {
    element: Wire,
    ends: Vec<i32>,
    elements: usize,
    nulls: NullBufferBuilder,
}

impl ValueBuilder {
    /// Panics for dense vectors.
    ///
    /// * `rows` — how many will come, about
    pub fn new(ty: AttrType, rows: usize) -> Self {
        let scalar = match ty {
            AttrType::Scalar(s) | AttrType::Array(s) => s,
            AttrType::MultiVector { .. } | AttrType::SparseVector => Scalar::Bytes,
            AttrType::Vector { .. } => panic!("dense vectors are not stored as values"),
        };
        let lists = matches!(ty, AttrType::Array(_)).then(|| Lists {
            element: Wire::of(AttrType::Scalar(scalar)),
            ends: vec![0],
            elements: 0,
            nulls: NullBufferBuilder::new(0),
        });
        Self {
            ty,
            scalars: ScalarBuilder::new(scalar, rows),
            lists,
        }
    }

    /// Appends the value of the next row.
    ///
    /// * `value` — exactly one value, as [`Wire::take`] returns it
    pub fn append(&mut self, value: Option<&[u8]>) -> Result<(), FormatError> {
        let Some(lists) = &mut self.lists else {
            return self.scalars.append(value);
        };
        let mut input = Reader::new(value.unwrap_or_default());
        while !input.is_empty() {
            self.scalars.append(Some(lists.element.take(&mut input)?))?;
            lists.elements += 1;
        }
        let too_many = |_| FormatError::corrupt("a column of arrays has 2^31 elements or more");
        lists.ends.push(i32::try_from(lists.elements).map_err(too_many)?);
        lists.nulls.append(value.is_some());
        Ok(())
    }

    /// The column.
    pub fn finish(self) -> ArrayRef {
        let scalars = self.scalars.finish();
        match self.lists {
            None => scalars,
            Some(mut lists) => list(self.ty, lists.ends, scalars, lists.nulls.finish()),
        }
    }
}

/// A column of arrays.
///
/// * `ends` — ascending from 0 to the number of elements, one more than rows
pub fn list(ty: AttrType, ends: Vec<i32>, elements: ArrayRef, nulls: Option<arrow::buffer::NullBuffer>) -> ArrayRef {
    let Some(DataType::List(field)) = arrow_type(ty) else {
        panic!("{ty} is no array");
    };
    Arc::new(ListArray::new(
        field,
        OffsetBuffer::new(ScalarBuffer::from(ends)),
        elements,
        nulls,
    ))
}

/// Appends the id of a row.
pub fn put_id(ids: &IdColumn, row: usize, out: &mut Vec<u8>) {
    match ids {
        IdColumn::UInt(a) => put_varint(out, a.value(row)),
        IdColumn::Uuid(a) => out.extend_from_slice(a.value(row)),
        IdColumn::String(a) => put_bytes(out, a.value(row).as_bytes()),
    }
}

/// The type of a column of ids.
pub fn id_type(kind: IdKind) -> AttrType {
    AttrType::Scalar(match kind {
        IdKind::UInt => Scalar::UInt,
        IdKind::Uuid => Scalar::Uuid,
        IdKind::String => Scalar::String,
    })
}
