//! Rows as columns: the form in which they are logged, kept in the tail and scanned.
//!
//! | attribute type | column |
//! | --- | --- |
//! | string | `LargeUtf8` |
//! | int, uint, float, bool | `Int64`, `UInt64`, `Float64`, `Boolean` |
//! | uuid | `FixedSizeBinary(16)` |
//! | datetime | `Timestamp(ms, UTC)` |
//! | bytes | `LargeBinary` |
//! | `[]T` | `List` of a non-null `item` of the above |
//! | `[][N]f32`, `{}f16` | `LargeBinary` in the encodings of `docs/formats/values.md` |
//! | `[N]f32`, `[N]f16`, `[N]i8` | [`VectorColumn`] |

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray, LargeStringArray, UInt64Array};
use arrow::buffer::{Buffer, MutableBuffer, NullBuffer};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, TimeUnit, UInt64Type};
use uuid::Uuid;

use super::{AttrType, Element, Id, IdKind, Scalar};

/// The Arrow type of an attribute's column; `None` for dense vectors.
pub fn arrow_type(ty: AttrType) -> Option<DataType> {
    match ty {
        AttrType::Scalar(s) => Some(scalar_type(s)),
        AttrType::Array(s) => Some(DataType::List(Arc::new(Field::new("item", scalar_type(s), false)))),
        AttrType::MultiVector { .. } | AttrType::SparseVector => Some(DataType::LargeBinary),
        AttrType::Vector { .. } => None,
    }
}

fn scalar_type(scalar: Scalar) -> DataType {
    match scalar {
        Scalar::String => DataType::LargeUtf8,
        Scalar::Int => DataType::Int64,
        Scalar::UInt => DataType::UInt64,
        Scalar::Float => DataType::Float64,
        Scalar::Uuid => DataType::FixedSizeBinary(16),
        Scalar::Datetime => DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
        Scalar::Bool => DataType::Boolean,
        Scalar::Bytes => DataType::LargeBinary,
    }
}

/// The ids of a batch's rows, never null.
#[derive(Clone, Debug)]
pub enum IdColumn {
    UInt(UInt64Array),
    Uuid(FixedSizeBinaryArray),
    String(LargeStringArray),
}

impl IdColumn {
    /// Builds a column from ids that are all of `kind`. Panics when one is not.
    pub fn from_ids<'a>(kind: IdKind, ids: impl Iterator<Item = &'a Id>) -> Self {
        match kind {
            IdKind::UInt => Self::UInt(UInt64Array::from_iter_values(ids.map(|id| match id {
                Id::UInt(n) => *n,
                other => panic!("{other} is not a uint id"),
            }))),
            IdKind::Uuid => {
                let bytes: Vec<u8> = ids
                    .flat_map(|id| match id {
                        Id::Uuid(u) => *u.as_bytes(),
                        other => panic!("{other} is not a uuid id"),
                    })
                    .collect();
                Self::Uuid(FixedSizeBinaryArray::new(16, Buffer::from_vec(bytes), None))
            }
            IdKind::String => Self::String(LargeStringArray::from_iter_values(ids.map(|id| match id {
                Id::String(s) => s,
                other => panic!("{other} is not a string id"),
            }))),
        }
    }

    /// Takes over an Arrow array; `None` when its type is not one of the three or it has nulls.
    pub fn from_array(array: &ArrayRef) -> Option<Self> {
        if array.null_count() > 0 {
            return None;
        }
        match array.data_type() {
            DataType::UInt64 => Some(Self::UInt(array.as_primitive::<UInt64Type>().clone())),
            DataType::FixedSizeBinary(16) => Some(Self::Uuid(array.as_fixed_size_binary().clone())),
            DataType::LargeUtf8 => Some(Self::String(array.as_string::<i64>().clone())),
            _ => None,
        }
    }

    /// About how much memory the column holds, in bytes.
    pub fn memory_bytes(&self) -> usize {
        slice_bytes(&self.to_array())
    }

    /// The column as an Arrow array.
    pub fn to_array(&self) -> ArrayRef {
        match self {
            Self::UInt(a) => Arc::new(a.clone()),
            Self::Uuid(a) => Arc::new(a.clone()),
            Self::String(a) => Arc::new(a.clone()),
        }
    }

    /// Which kind the ids are.
    pub fn kind(&self) -> IdKind {
        match self {
            Self::UInt(_) => IdKind::UInt,
            Self::Uuid(_) => IdKind::Uuid,
            Self::String(_) => IdKind::String,
        }
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        match self {
            Self::UInt(a) => a.len(),
            Self::Uuid(a) => a.len(),
            Self::String(a) => a.len(),
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The id of a row.
    pub fn get(&self, row: usize) -> Id {
        match self {
            Self::UInt(a) => Id::UInt(a.value(row)),
            Self::Uuid(a) => Id::Uuid(Uuid::from_slice(a.value(row)).expect("the array's values have 16 bytes")),
            Self::String(a) => Id::String(a.value(row).into()),
        }
    }

    /// The ids of some rows, in that order.
    pub fn take(&self, rows: &UInt64Array) -> Self {
        let taken = take(&self.to_array(), rows, None).expect("the rows are within the column");
        Self::from_array(&taken).expect("ids stay of their kind")
    }

    /// Whether a row's id is `id`, without building it.
    pub fn is(&self, row: usize, id: &Id) -> bool {
        match (self, id) {
            (Self::UInt(a), Id::UInt(n)) => a.value(row) == *n,
            (Self::Uuid(a), Id::Uuid(u)) => a.value(row) == u.as_bytes(),
            (Self::String(a), Id::String(s)) => a.value(row) == &**s,
            _ => false,
        }
    }

    /// Compares the ids of two rows, which may be of two columns of the same kind.
    pub fn compare(&self, row: usize, other: &IdColumn, other_row: usize) -> Ordering {
        match (self, other) {
            (Self::UInt(a), Self::UInt(b)) => a.value(row).cmp(&b.value(other_row)),
            (Self::Uuid(a), Self::Uuid(b)) => a.value(row).cmp(b.value(other_row)),
            (Self::String(a), Self::String(b)) => a.value(row).as_bytes().cmp(b.value(other_row).as_bytes()),
            _ => (self.kind() as u8).cmp(&(other.kind() as u8)),
        }
    }

    /// Hashes a row's id, equal to [`hash_id`] of the same id.
    pub fn hash(&self, row: usize) -> u64 {
        match self {
            Self::UInt(a) => hash_uint(a.value(row)),
            Self::Uuid(a) => hash_bytes(a.value(row)),
            Self::String(a) => hash_bytes(a.value(row).as_bytes()),
        }
    }
}

/// Bytes of an array's own values: columns that were decoded together share one buffer, which must
/// not count once for each.
fn slice_bytes(array: &ArrayRef) -> usize {
    let data = array.to_data();
    data.get_slice_memory_size()
        .unwrap_or_else(|_| data.get_array_memory_size())
}

/// A well-mixed hash of an id, the same on every node and run, and in every version: the filters of stored segments are
/// made of it, and one that no longer knows its ids would hide rows.
pub fn hash_id(id: &Id) -> u64 {
    match id {
        Id::UInt(n) => hash_uint(*n),
        Id::Uuid(u) => hash_bytes(u.as_bytes()),
        Id::String(s) => hash_bytes(s.as_bytes()),
    }
}

fn hash_uint(n: u64) -> u64 {
    // The finaliser of SplitMix64 (Steele et al., 2014): a bijection, so no two ids collide.
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn hash_bytes(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

/// A column of dense vectors: `len × dims` elements back to back, row-major, little endian,
/// aligned to 64 bytes. A null row is stored as zeros.
#[derive(Clone, Debug)]
pub struct VectorColumn {
    pub dims: u32,
    pub element: Element,
    /// `len × dims × element.bytes()` bytes.
    pub data: Buffer,
    pub nulls: Option<NullBuffer>,
}

impl VectorColumn {
    /// Bytes of one row.
    pub fn stride(&self) -> usize {
        self.dims as usize * self.element.bytes()
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.data.len() / self.stride()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The bytes of a row; zeros when it is null.
    pub fn row(&self, row: usize) -> &[u8] {
        &self.data[row * self.stride()..(row + 1) * self.stride()]
    }

    fn take(&self, rows: &UInt64Array) -> Self {
        let mut data = MutableBuffer::with_capacity(rows.len() * self.stride());
        for row in rows.values() {
            data.extend_from_slice(self.row(*row as usize));
        }
        let valid = |n: &NullBuffer| rows.values().iter().map(|row| n.is_valid(*row as usize)).collect();
        Self {
            data: data.into(),
            nulls: self.nulls.as_ref().map(valid),
            ..*self
        }
    }

    /// Whether a row has no vector.
    pub fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|n| n.is_null(row))
    }

    /// The type of the attribute.
    pub fn ty(&self) -> AttrType {
        AttrType::Vector {
            dims: self.dims,
            element: self.element,
        }
    }
}

/// A column of one attribute.
#[derive(Clone, Debug)]
pub enum Column {
    Values(ArrayRef),
    Vectors(VectorColumn),
}

impl Column {
    /// How many rows.
    pub fn len(&self) -> usize {
        match self {
            Column::Values(a) => a.len(),
            Column::Vectors(v) => v.len(),
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Some rows, in that order.
    pub fn take(&self, rows: &UInt64Array) -> Self {
        match self {
            Column::Values(a) => Column::Values(take(a, rows, None).expect("the rows are within the column")),
            Column::Vectors(v) => Column::Vectors(v.take(rows)),
        }
    }

    /// About how much memory the column holds, in bytes.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Column::Values(a) => slice_bytes(a),
            Column::Vectors(v) => v.data.len(),
        }
    }
}

/// The logical bytes of ids: 8 for a number, 16 for a uuid, the length of a text.
pub fn ids_bytes(ids: &IdColumn) -> u64 {
    match ids {
        IdColumn::UInt(a) => 8 * a.len() as u64,
        IdColumn::Uuid(a) => 16 * a.len() as u64,
        IdColumn::String(a) => (0..a.len()).map(|row| a.value_length(row) as u64).sum(),
    }
}

/// The logical bytes of a column: nothing for nulls, 1 for a bool, 8 for a number, the length of a
/// text or of an encoded value, the elements of an array or a vector.
pub fn values_bytes(column: &Column) -> u64 {
    let array = match column {
        Column::Vectors(v) => {
            let nulls = v.nulls.as_ref().map_or(0, NullBuffer::null_count);
            return ((v.len() - nulls) * v.stride()) as u64;
        }
        Column::Values(array) => array,
    };
    let present = (array.len() - array.null_count()) as u64;
    let lengths = |offsets: &[i64]| {
        let spans = offsets.array_windows().enumerate();
        let present = spans.filter(|(row, _)| array.is_valid(*row));
        present.map(|(_, [start, end])| (end - start) as u64).sum::<u64>()
    };
    match array.data_type() {
        DataType::Boolean => present,
        DataType::FixedSizeBinary(width) => present * *width as u64,
        DataType::LargeUtf8 => lengths(array.as_string::<i64>().value_offsets()),
        DataType::LargeBinary => lengths(array.as_binary::<i64>().value_offsets()),
        DataType::List(_) => {
            let lists = array.as_list::<i32>();
            let elements = |row| values_bytes(&Column::Values(lists.value(row)));
            (0..lists.len()).filter(|row| lists.is_valid(*row)).map(elements).sum()
        }
        _ => 8 * present,
    }
}

/// The logical bytes of sparse vectors: names and weights, without the lengths that are encoded with them
/// (docs/formats/values.md).
fn sparse_bytes(array: &ArrayRef) -> u64 {
    let entries = |value: &[u8]| value.first_chunk().map_or(0, |n| u64::from(u32::from_le_bytes(*n)));
    let values = array.as_binary::<i64>().iter().flatten();
    values
        .map(|v| (v.len() as u64).saturating_sub(4 + 4 * entries(v)))
        .sum()
}

/// A column with the name and type of its attribute.
#[derive(Clone, Debug)]
pub struct NamedColumn {
    pub name: Arc<str>,
    pub ty: AttrType,
    pub column: Column,
}

/// Some rows, each with an id and the same set of columns. An attribute without a column is null
/// in every row.
#[derive(Clone, Debug)]
pub struct RowBatch {
    pub ids: IdColumn,
    /// Sorted by name, no name twice, each as long as `ids`.
    pub columns: Vec<NamedColumn>,
}

impl RowBatch {
    /// How many rows.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&NamedColumn> {
        self.columns
            .binary_search_by(|c| (*c.name).cmp(name))
            .ok()
            .map(|i| &self.columns[i])
    }

    /// Some rows, in that order.
    pub fn take(&self, rows: &UInt64Array) -> Self {
        let column = |c: &NamedColumn| NamedColumn {
            column: c.column.take(rows),
            ..c.clone()
        };
        Self {
            ids: self.ids.take(rows),
            columns: self.columns.iter().map(column).collect(),
        }
    }

    /// The logical bytes of some of its rows, as clients are billed.
    pub fn logical_bytes(&self) -> u64 {
        let bytes = |c: &NamedColumn| match (c.ty, &c.column) {
            (AttrType::SparseVector, Column::Values(array)) => sparse_bytes(array),
            (_, column) => values_bytes(column),
        };
        ids_bytes(&self.ids) + self.columns.iter().map(bytes).sum::<u64>()
    }

    /// About how much memory the batch holds, in bytes.
    pub fn memory_bytes(&self) -> usize {
        let columns: usize = self.columns.iter().map(|c| c.column.memory_bytes()).sum();
        columns + self.ids.memory_bytes()
    }
}
