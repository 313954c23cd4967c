mod codes;
mod hostile;
mod patterns;
mod properties;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{
    ArrayRef, BooleanArray, FixedSizeBinaryArray, Float64Array, Int64Array, LargeBinaryArray, LargeStringArray,
    ListArray, TimestampMillisecondArray, UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field};
use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use uuid::Uuid;

use super::wire::Sizes;
use super::{AttributeIndex, Blocks, Built, Key, Result};
use crate::base::CpuPool;
use crate::model::{AttrId, AttrType, Attribute, Column, Scalar, Value};
use crate::store::StoreError;

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

/// Small enough that a few values make many blocks, bitmaps and lists of their own.
const SMALL: Sizes = Sizes {
    block: 40,
    resident: 0,
    inline_rows: 6,
    shared_list: 8,
    few_values: 4,
};

/// Blocks in memory, counting what is read of them.
struct Memory {
    bytes: Bytes,
    read: AtomicU64,
}

#[async_trait]
impl Blocks for Memory {
    async fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, StoreError> {
        assert!(ranges.is_sorted_by(|a, b| a.end <= b.start), "{ranges:?} ascend");
        assert!(ranges.iter().all(|r| r.start < r.end), "{ranges:?} are not empty");
        let of = |range: &Range<u64>| {
            self.read.fetch_add(range.end - range.start, Ordering::Relaxed);
            self.bytes.slice(range.start as usize..range.end as usize)
        };
        Ok(ranges.iter().map(of).collect())
    }
}

fn attribute(ty: AttrType) -> Attribute {
    Attribute {
        filterable: true,
        ..Attribute::new(AttrId(3), "a".into(), ty)
    }
}

fn open(built: &Built, rows: usize, attribute: &Attribute) -> Result<(AttributeIndex, Arc<Memory>)> {
    let memory = Arc::new(Memory {
        bytes: built.blocks.clone(),
        read: AtomicU64::new(0),
    });
    let area = built.blocks.len() as u64;
    let cpu = CpuPool::inline();
    let index = AttributeIndex::open(&built.directory, rows as u32, area, attribute, memory.clone(), &cpu)?;
    Ok((index, memory))
}

/// The answer of a future that waits for nothing.
fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("memory answers at once")
}

/// A column of single values, all of a type.
fn scalars(scalar: Scalar, values: &[Option<Value>]) -> ArrayRef {
    macro_rules! of {
        ($array:ty, $variant:ident) => {
            Arc::new(<$array>::from_iter(values.iter().map(|v| match v {
                None => None,
                Some(Value::$variant(x)) => Some(x.clone()),
                other => panic!("{other:?}"),
            })))
        };
    }
    match scalar {
        Scalar::Int => of!(Int64Array, Int),
        Scalar::UInt => of!(UInt64Array, UInt),
        Scalar::Float => of!(Float64Array, Float),
        Scalar::Bool => of!(BooleanArray, Bool),
        Scalar::String => of!(LargeStringArray, String),
        Scalar::Bytes => of!(LargeBinaryArray, Bytes),
        Scalar::Datetime => {
            let times = values.iter().map(|v| match v {
                None => None,
                Some(Value::Datetime(ms)) => Some(*ms),
                other => panic!("{other:?}"),
            });
            Arc::new(TimestampMillisecondArray::from_iter(times).with_timezone("UTC"))
        }
        Scalar::Uuid => {
            let uuids = values.iter().map(|v| match v {
                None => None,
                Some(Value::Uuid(u)) => Some(*u.as_bytes()),
                other => panic!("{other:?}"),
            });
            Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(uuids, 16).expect("16 bytes each"))
        }
    }
}

/// A column of rows with their values: one each, or the elements of arrays.
fn column(ty: AttrType, rows: &[Option<Vec<Value>>]) -> Column {
    Column::Values(match ty {
        AttrType::Scalar(scalar) => {
            let values: Vec<_> = rows.iter().map(|row| row.as_ref().map(|v| v[0].clone())).collect();
            scalars(scalar, &values)
        }
        AttrType::Array(scalar) => {
            let elements: Vec<_> = rows.iter().flatten().flatten().cloned().map(Some).collect();
            let elements = scalars(scalar, &elements);
            let lengths = rows.iter().map(|row| row.as_ref().map_or(0, Vec::len));
            let nulls = NullBuffer::from_iter(rows.iter().map(Option::is_some));
            let field = Field::new("item", elements.data_type().clone(), false);
            Arc::new(ListArray::new(
                Arc::new(field),
                OffsetBuffer::from_lengths(lengths),
                elements,
                Some(nulls),
            ))
        }
        other => panic!("{other}"),
    })
}

/// A value of a small number of them, the extreme ones included.
fn value(scalar: Scalar, n: usize) -> Value {
    let ints = [0, 1, -1, 2, i64::MAX, i64::MIN, 1000, 65_536, -300];
    match scalar {
        Scalar::Int => Value::Int(ints.get(n).copied().unwrap_or(n as i64 * 7)),
        Scalar::Datetime => Value::Datetime(ints.get(n).copied().unwrap_or(1_700_000_000_000 + n as i64)),
        Scalar::UInt => Value::UInt([0, 1, u64::MAX, 1 << 63].get(n).copied().unwrap_or(n as u64 * 3)),
        Scalar::Bool => Value::Bool(n % 2 == 1),
        Scalar::Float => {
            let floats = [
                0.0,
                -0.0,
                1.5,
                -1.5,
                f64::MAX,
                f64::MIN,
                5e-324,
                -5e-324,
                f64::INFINITY,
                f64::NEG_INFINITY,
            ];
            Value::Float(floats.get(n).copied().unwrap_or(n as f64 / 3.0))
        }
        Scalar::Uuid => Value::Uuid(Uuid::from_u128(
            [0, u128::MAX, 1].get(n).copied().unwrap_or((n as u128) << 70),
        )),
        Scalar::String => {
            let texts = [
                "",
                "a",
                "\0",
                "\0\0",
                "a\0",
                "é",
                "É",
                "ab",
                "abc",
                "\u{10ffff}",
                "zzzzzzzzzzzz",
            ];
            Value::String(texts.get(n).map_or_else(|| format!("abc{}", n * n), |t| t.to_string()))
        }
        Scalar::Bytes => {
            let values: [&[u8]; 6] = [b"", b"\0", b"\xff", b"\xff\xff", b"\0\xff", b"a"];
            Value::Bytes(values.get(n).map_or_else(|| vec![b'k'; n], |b| b.to_vec()))
        }
    }
}

/// The key of a value.
fn key(value: &Value) -> Key {
    match value {
        Value::Int(x) | Value::Datetime(x) => Key::int(*x),
        Value::UInt(x) => Key::Word(*x),
        Value::Float(x) => Key::float(*x),
        Value::Bool(x) => Key::Word((*x).into()),
        Value::String(x) => Key::bytes(x),
        Value::Uuid(x) => Key::bytes(x.as_bytes()),
        Value::Bytes(x) => Key::bytes(x),
        other => panic!("{other:?}"),
    }
}

#[test]
fn helpers_make_the_columns_of_the_model() {
    for scalar in SCALARS {
        for ty in [AttrType::Scalar(scalar), AttrType::Array(scalar)] {
            let Column::Values(array) = column(ty, &[Some(vec![value(scalar, 0)]), None]) else {
                unreachable!("no vectors")
            };
            let expected = crate::model::batch::arrow_type(ty).expect("no vector");
            match (array.data_type(), &expected) {
                (DataType::List(a), DataType::List(b)) => assert_eq!(a.data_type(), b.data_type()),
                (a, b) => assert_eq!(a, b),
            }
        }
    }
}
