//! Chunks and snapshots from rows of values.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field};

use object_store::ObjectStoreExt;
use object_store::memory::InMemory;

use crate::base::{Bitset, CpuPool, Runtime, SystemClock};
use crate::cache::{Cache, CacheOptions};
use crate::model::batch::arrow_type;
use crate::model::value::Vector;
use crate::model::{
    AttrType, Attribute, Column, Id, IdColumn, IdKind, Metric, NamespaceName, OrgId, Scalar, Schema, Seq, Value,
    VectorColumn, encoding,
};
use crate::segment::{self, EncodeOptions, Encoded, Segment, SegmentId, SegmentPart};
use crate::snapshot::Snapshot;
use crate::store::Store;
use crate::store::count::CountingStore;
use crate::store::paths::{self, NsKey};
use crate::tail::{Chunk, Part};

/// Rows: an id, and the attributes that are not null.
pub type Rows = Vec<(Id, Vec<(&'static str, Value)>)>;

/// A schema in which everything that can be filtered on is.
pub fn schema_of(kind: IdKind, attributes: &[(&str, &str)]) -> Schema {
    let mut schema = Schema::default();
    schema.id_kind = Some(kind);
    for (name, ty) in attributes {
        let ty = AttrType::parse(ty).unwrap();
        let multi = matches!(ty, AttrType::MultiVector { .. });
        let metric = (ty.is_vector() || multi).then_some(Metric::EuclideanSquared);
        schema.put(Attribute {
            filterable: ty.can_be_filterable(),
            ann: metric,
            metric,
            late_interaction: multi,
            sparse_knn: ty == AttrType::SparseVector,
            ..Attribute::new(schema.next_attribute_id(), (*name).into(), ty)
        });
    }
    schema
}

pub fn chunk_of(schema: &Schema, rows: &Rows) -> Chunk {
    let ids = IdColumn::from_ids(schema.id_kind.unwrap_or(IdKind::UInt), rows.iter().map(|r| &r.0));
    let mut columns = BTreeMap::new();
    for attribute in schema.attributes() {
        let value = |r: &(Id, Vec<(&str, Value)>)| {
            let found = r.1.iter().find(|(n, _)| *n == &*attribute.name);
            found.map_or(Value::Null, |(_, v)| v.clone())
        };
        let values: Vec<Value> = rows.iter().map(value).collect();
        if values.iter().any(|v| *v != Value::Null) {
            columns.insert(attribute.id, column(attribute.ty, &values));
        }
    }
    Chunk::build(ids, columns, schema)
}

fn column(ty: AttrType, values: &[Value]) -> Column {
    let nulls = || Some(NullBuffer::from_iter(values.iter().map(|v| *v != Value::Null)));
    match ty {
        AttrType::Scalar(scalar) => Column::Values(scalars(scalar, values)),
        AttrType::Array(scalar) => {
            let lists = values
                .iter()
                .map(|v| if let Value::Array(l) = v { l.as_slice() } else { &[] });
            let offsets = OffsetBuffer::from_lengths(lists.clone().map(<[_]>::len));
            let elements: Vec<Value> = lists.flatten().cloned().collect();
            let Some(DataType::List(item)) = arrow_type(ty) else {
                panic!()
            };
            let item: Arc<Field> = item;
            Column::Values(Arc::new(ListArray::new(
                item,
                offsets,
                scalars(scalar, &elements),
                nulls(),
            )))
        }
        AttrType::Vector { dims, element } => {
            let bytes: Vec<u8> = values
                .iter()
                .flat_map(|v| match v {
                    Value::Vector(Vector::F32(x)) => x.iter().flat_map(|x| x.to_le_bytes()).collect(),
                    Value::Vector(Vector::F16(x)) => x.iter().flat_map(|x| x.to_le_bytes()).collect(),
                    Value::Vector(Vector::I8(x)) => x.iter().flat_map(|x| x.to_le_bytes()).collect(),
                    _ => vec![0; dims as usize * element.bytes()],
                })
                .collect();
            Column::Vectors(VectorColumn {
                dims,
                element,
                data: Buffer::from_vec(bytes),
                nulls: nulls(),
            })
        }
        AttrType::MultiVector { .. } | AttrType::SparseVector => {
            let bytes = values.iter().map(|v| match v {
                Value::MultiVector { elements, .. } => Some(encoding::encode_multi_vector(elements)),
                Value::SparseVector(entries) => Some(encoding::encode_sparse(entries)),
                _ => None,
            });
            Column::Values(Arc::new(bytes.collect::<LargeBinaryArray>()))
        }
    }
}

macro_rules! take {
    ($values:expr, $variant:ident) => {
        $values.iter().map(|v| {
            if let Value::$variant(x) = v {
                Some(x.clone())
            } else {
                None
            }
        })
    };
}

fn scalars(scalar: Scalar, values: &[Value]) -> ArrayRef {
    match scalar {
        Scalar::String => Arc::new(take!(values, String).collect::<LargeStringArray>()),
        Scalar::Int => Arc::new(take!(values, Int).collect::<Int64Array>()),
        Scalar::UInt => Arc::new(take!(values, UInt).collect::<UInt64Array>()),
        Scalar::Float => Arc::new(take!(values, Float).collect::<Float64Array>()),
        Scalar::Bool => Arc::new(take!(values, Bool).collect::<BooleanArray>()),
        Scalar::Bytes => Arc::new(take!(values, Bytes).collect::<LargeBinaryArray>()),
        Scalar::Datetime => Arc::new(
            take!(values, Datetime)
                .collect::<TimestampMillisecondArray>()
                .with_timezone("UTC"),
        ),
        Scalar::Uuid => {
            let uuids = take!(values, Uuid).map(|u| u.map(|u| *u.as_bytes()));
            Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(uuids, 16).unwrap())
        }
    }
}

/// A store in memory, and segments in it.
pub struct Segments {
    pub store: CountingStore,
    cache: Cache,
    ns: NsKey,
    next: std::cell::Cell<u128>,
}

impl Segments {
    pub fn new() -> Self {
        let counting = CountingStore::new(Arc::new(InMemory::new()));
        let runtime = Runtime::of_tests(Arc::new(SystemClock), 1);
        let store = Store::of_tests(counting.clone(), &runtime);
        Self {
            store: counting,
            cache: Cache::new(store, &runtime, CacheOptions::default()),
            ns: NsKey::new(OrgId::default_org(), NamespaceName::parse("n").unwrap()),
            next: std::cell::Cell::new(1),
        }
    }

    /// A segment with these rows, of which some are live.
    pub async fn put(&self, schema: &Schema, rows: &Rows, live: &[bool]) -> SegmentPart {
        let chunk = chunk_of(schema, rows);
        let rows = segment::Rows {
            ids: chunk.ids.clone(),
            columns: chunk.columns.clone(),
        };
        let id = SegmentId(self.next.get().into());
        self.next.set(self.next.get() + 1);
        let options = EncodeOptions {
            level: 0,
            min_seq: Seq(1),
            max_seq: Seq(1),
        };
        let Encoded { bytes, meta } = segment::encode(id, &rows, schema, &options);
        let key = paths::segment(&self.ns, id.0);
        self.store.put(&key, bytes.into()).await.unwrap();
        let opened = Segment::open(meta, &self.ns, &self.cache, &CpuPool::inline()).await;
        SegmentPart {
            segment: Arc::new(opened.unwrap()),
            live: Arc::new(Bitset::from_fn(live.len(), |i| live[i]).into()),
        }
    }
}

/// A snapshot of parts, each with its rows and whether they are live.
pub fn snapshot_of(schema: &Schema, parts: &[(Rows, Vec<bool>)]) -> Snapshot {
    let part = |(rows, live): &(Rows, Vec<bool>)| Part {
        chunk: Arc::new(chunk_of(schema, rows)),
        live: Arc::new(Bitset::from_fn(rows.len(), |i| live[i])),
    };
    Snapshot {
        schema: Arc::new(schema.clone()),
        parts: Arc::new(parts.iter().map(part).collect()),
        ..Snapshot::empty()
    }
}
