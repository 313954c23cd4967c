//! The values of a block of a column, all of them there: packed numbers, dictionaries, texts.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, FixedSizeBinaryArray, Float64Array, Int64Array, LargeBinaryArray,
    LargeStringArray, TimestampMillisecondArray, UInt64Array,
};
use arrow::buffer::{BooleanBuffer, Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMillisecondType, UInt64Type};
use hashbrown::HashMap;

use super::values::list;
use super::wire::{FormatError, Reader, pack, put_varint, unpack, width};
use crate::model::{AttrType, Scalar};

/// The most elements of the arrays of a block. Equal elements take no bytes, so that nothing else bounds them.
const ELEMENTS_MAX: usize = 1 << 25;
/// The most bytes that texts from a dictionary may add up to.
const EXPANDED_BYTES_MAX: usize = 1 << 26;
/// Fewer values are not worth a dictionary.
const DICTIONARY_VALUES_MIN: usize = 16;

/// About how much memory the values of some rows take, without looking at each of them.
pub fn bytes_about(array: &ArrayRef, rows: Range<usize>) -> usize {
    let between = |offsets: &[i64]| (offsets[rows.end] - offsets[rows.start]) as usize;
    let values = match array.data_type() {
        DataType::LargeUtf8 => between(array.as_string::<i64>().value_offsets()),
        DataType::LargeBinary => between(array.as_binary::<i64>().value_offsets()),
        DataType::List(_) => {
            let lists = array.as_list::<i32>();
            let offsets = lists.value_offsets();
            bytes_about(lists.values(), offsets[rows.start] as usize..offsets[rows.end] as usize)
        }
        _ => 0,
    };
    values + 8 * rows.len()
}

/// Appends the values of `array`, which has no nulls. `None` when its arrays have too many elements.
pub fn encode(array: &ArrayRef, out: &mut Vec<u8>) -> Option<()> {
    match array.data_type() {
        DataType::Int64 => {
            let values: Vec<u64> = array
                .as_primitive::<Int64Type>()
                .values()
                .iter()
                .map(|v| *v as u64)
                .collect();
            put_ints(&values, true, out);
        }
        DataType::UInt64 => put_ints(array.as_primitive::<UInt64Type>().values(), false, out),
        DataType::Timestamp(..) => {
            let values = array.as_primitive::<TimestampMillisecondType>().values();
            put_ints(&values.iter().map(|v| *v as u64).collect::<Vec<_>>(), true, out);
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>().values();
            values
                .iter()
                .for_each(|v| out.extend_from_slice(&v.to_bits().to_le_bytes()));
        }
        DataType::Boolean => put_bits(array.as_boolean().values().iter(), out),
        DataType::FixedSizeBinary(16) => {
            let values = array.as_fixed_size_binary();
            (0..values.len()).for_each(|row| out.extend_from_slice(values.value(row)));
        }
        DataType::LargeUtf8 => {
            let values = array.as_string::<i64>();
            put_texts(
                &(0..values.len())
                    .map(|row| values.value(row).as_bytes())
                    .collect::<Vec<_>>(),
                out,
            );
        }
        DataType::LargeBinary => {
            let values = array.as_binary::<i64>();
            put_texts(&(0..values.len()).map(|row| values.value(row)).collect::<Vec<_>>(), out);
        }
        DataType::List(_) => {
            let lists = array.as_list::<i32>();
            let offsets = lists.value_offsets();
            let lengths: Vec<u64> = offsets
                .array_windows()
                .map(|[start, end]| (end - start) as u64)
                .collect();
            let (start, end) = (offsets[0] as usize, offsets[lists.len()] as usize);
            if end - start > ELEMENTS_MAX {
                return None;
            }
            put_ints(&lengths, false, out);
            encode(&lists.values().slice(start, end - start), out)?;
        }
        other => panic!("no filterable attribute has a column of {other}"),
    }
    Some(())
}

/// Reads `count` values of a scalar or array type.
///
/// * `count` — bounded by the caller
pub fn decode(input: &mut Reader<'_>, count: usize, ty: AttrType) -> Result<ArrayRef, FormatError> {
    let scalar = match ty {
        AttrType::Scalar(scalar) => scalar,
        AttrType::Array(scalar) => {
            let lengths = read_ints(input, count)?;
            let ends = ends(&lengths, ELEMENTS_MAX)?;
            let elements = decode(input, *ends.last().expect("it starts with 0"), AttrType::Scalar(scalar))?;
            // ELEMENTS_MAX fits.
            return Ok(list(
                ty,
                ends.into_iter().map(|end| end as i32).collect(),
                elements,
                None,
            ));
        }
        _ => return Err(FormatError::corrupt(format!("a column of {ty}"))),
    };
    let signed = |values: Vec<u64>| values.into_iter().map(|v| v as i64).collect::<Vec<_>>();
    Ok(match scalar {
        Scalar::Int => Arc::new(Int64Array::from(signed(read_ints(input, count)?))),
        Scalar::UInt => Arc::new(UInt64Array::from(read_ints(input, count)?)),
        Scalar::Datetime => {
            let values = TimestampMillisecondArray::from(signed(read_ints(input, count)?));
            Arc::new(values.with_timezone("UTC"))
        }
        Scalar::Float => {
            let (bytes, _) = input.take(count.saturating_mul(8))?.as_chunks::<8>();
            let values = bytes.iter().map(|b| f64::from_bits(u64::from_le_bytes(*b)));
            Arc::new(Float64Array::from_iter_values(values))
        }
        Scalar::Bool => Arc::new(BooleanArray::new(read_bits(input, count)?, None)),
        Scalar::Uuid => {
            let bytes = input.take(count.saturating_mul(16))?;
            Arc::new(FixedSizeBinaryArray::new(16, Buffer::from(bytes), None))
        }
        Scalar::String => {
            let (offsets, bytes) = read_texts(input, count)?;
            let texts = LargeStringArray::try_new(offsets, bytes, None);
            Arc::new(texts.map_err(|e| FormatError::corrupt(format!("texts of a column: {e}")))?)
        }
        Scalar::Bytes => {
            let (offsets, bytes) = read_texts(input, count)?;
            let values = LargeBinaryArray::try_new(offsets, bytes, None);
            Arc::new(values.map_err(|e| FormatError::corrupt(format!("values of a column: {e}")))?)
        }
    })
}

/// Appends bits, the first one lowest, filled up to a whole byte.
pub fn put_bits(bits: impl Iterator<Item = bool>, out: &mut Vec<u8>) {
    pack(bits.map(u64::from), 1, out);
}

/// Reads bits back.
pub fn read_bits(input: &mut Reader<'_>, count: usize) -> Result<BooleanBuffer, FormatError> {
    let bytes = input.take(count.div_ceil(8))?;
    Ok(BooleanBuffer::new(Buffer::from(bytes), 0, count))
}

/// Appends numbers as differences from the least one, or the same of the differences between neighbours, whichever is
/// smaller.
fn put_ints(values: &[u64], signed: bool, out: &mut Vec<u8>) {
    let Some(first) = values.first() else { return };
    let (base, bits) = frame_of(values.iter().copied(), signed);
    let deltas = || values.array_windows().map(|[a, b]| b.wrapping_sub(*a));
    let (delta_base, delta_bits) = frame_of(deltas(), true);
    if delta_bits >= bits {
        out.push(0);
        out.extend_from_slice(&base.to_le_bytes());
        out.push(bits as u8);
        return pack(values.iter().map(|v| v.wrapping_sub(base)), bits, out);
    }
    out.push(1);
    out.extend_from_slice(&first.to_le_bytes());
    out.extend_from_slice(&delta_base.to_le_bytes());
    out.push(delta_bits as u8);
    pack(deltas().map(|d| d.wrapping_sub(delta_base)), delta_bits, out);
}

/// The least number, and how many bits the differences from it take.
fn frame_of(values: impl Iterator<Item = u64>, signed: bool) -> (u64, u32) {
    // Flipping the sign bit makes signed order unsigned.
    let flip = if signed { 1 << 63 } else { 0 };
    let range = values
        .map(|v| v ^ flip)
        .fold(None, |range: Option<(u64, u64)>, v| match range {
            Some((low, high)) => Some((low.min(v), high.max(v))),
            None => Some((v, v)),
        });
    let (low, high) = range.unwrap_or((flip, flip));
    (low ^ flip, width(high - low))
}

fn read_ints(input: &mut Reader<'_>, count: usize) -> Result<Vec<u64>, FormatError> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let tag = input.byte()?;
    let mut value = input.u64_le()?;
    match tag {
        0 => {
            let bits = u32::from(input.byte()?);
            let mut values = unpack(input, count, bits)?;
            values.iter_mut().for_each(|v| *v = v.wrapping_add(value));
            Ok(values)
        }
        1 => {
            let (base, bits) = (input.u64_le()?, u32::from(input.byte()?));
            let deltas = unpack(input, count - 1, bits)?;
            let mut values = Vec::with_capacity(count);
            values.push(value);
            for delta in deltas {
                value = value.wrapping_add(base).wrapping_add(delta);
                values.push(value);
            }
            Ok(values)
        }
        tag => Err(FormatError::Newer(format!("encoding {tag} of numbers"))),
    }
}

/// Appends texts one after the other, or each different one once and which one each value is.
fn put_texts(texts: &[&[u8]], out: &mut Vec<u8>) {
    let Some((distinct, codes)) = dictionary(texts) else {
        out.push(0);
        return put_plain(texts, out);
    };
    out.push(1);
    put_varint(out, distinct.len() as u64);
    put_plain(&distinct, out);
    pack(codes.into_iter(), width(distinct.len() as u64 - 1), out);
}

fn put_plain(texts: &[&[u8]], out: &mut Vec<u8>) {
    put_ints(&texts.iter().map(|t| t.len() as u64).collect::<Vec<_>>(), false, out);
    texts.iter().for_each(|t| out.extend_from_slice(t));
}

/// The different texts by first appearance, and the number of each value's; `None` when that would not save much.
fn dictionary<'a>(texts: &[&'a [u8]]) -> Option<(Vec<&'a [u8]>, Vec<u64>)> {
    let bytes: usize = texts.iter().map(|t| t.len()).sum();
    if texts.len() < DICTIONARY_VALUES_MIN || bytes > EXPANDED_BYTES_MAX {
        return None;
    }
    let mut distinct = Vec::new();
    let mut numbers = HashMap::new();
    let mut codes = Vec::with_capacity(texts.len());
    for text in texts {
        let code = *numbers.entry(*text).or_insert_with(|| {
            distinct.push(*text);
            distinct.len() as u64 - 1
        });
        if distinct.len() * 2 > texts.len() {
            return None;
        }
        codes.push(code);
    }
    Some((distinct, codes))
}

fn read_texts(input: &mut Reader<'_>, count: usize) -> Result<(OffsetBuffer<i64>, Buffer), FormatError> {
    match input.byte()? {
        0 => {
            let (ends, bytes) = read_plain(input, count)?;
            Ok((offsets(ends), Buffer::from(bytes)))
        }
        1 => {
            let distinct = input.varint_to(count as u64)?;
            let (ends, bytes) = read_plain(input, distinct as usize)?;
            let codes = unpack(input, count, width(distinct.saturating_sub(1)))?;
            if codes.iter().any(|code| *code >= distinct) {
                return Err(FormatError::corrupt("a value is not in its dictionary"));
            }
            let text = |code: &u64| &bytes[ends[*code as usize]..ends[*code as usize + 1]];
            let lengths: Vec<u64> = codes.iter().map(|code| text(code).len() as u64).collect();
            let expanded = self::ends(&lengths, EXPANDED_BYTES_MAX)?;
            let mut all = Vec::with_capacity(*expanded.last().expect("it starts with 0"));
            codes.iter().for_each(|code| all.extend_from_slice(text(code)));
            Ok((offsets(expanded), Buffer::from_vec(all)))
        }
        tag => Err(FormatError::Newer(format!("encoding {tag} of texts"))),
    }
}

fn read_plain<'a>(input: &mut Reader<'a>, count: usize) -> Result<(Vec<usize>, &'a [u8]), FormatError> {
    let lengths = read_ints(input, count)?;
    let ends = ends(&lengths, input.len())?;
    let bytes = input.take(*ends.last().expect("it starts with 0"))?;
    Ok((ends, bytes))
}

/// 0, and where each of things of these lengths ends; all of them at most `max`.
fn ends(lengths: &[u64], max: usize) -> Result<Vec<usize>, FormatError> {
    let mut end = 0;
    let mut ends = Vec::with_capacity(lengths.len() + 1);
    ends.push(0);
    for length in lengths {
        if *length > (max - end) as u64 {
            return Err(FormatError::corrupt("the lengths of values add up to too much"));
        }
        end += *length as usize;
        ends.push(end);
    }
    Ok(ends)
}

fn offsets(ends: Vec<usize>) -> OffsetBuffer<i64> {
    let ends: Vec<i64> = ends.into_iter().map(|end| end as i64).collect();
    OffsetBuffer::new(ScalarBuffer::from(ends))
}
