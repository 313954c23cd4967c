//! Segments against the rows that they were made of.

mod attributes;
mod hostile;
mod indexes;
mod kept;
mod requests;
mod verify;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, FixedSizeBinaryArray, Float64Array, Int64Array, LargeBinaryArray, LargeStringArray,
    ListArray, TimestampMillisecondArray, UInt64Array,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use object_store::memory::InMemory;
use proptest::prelude::*;

use super::*;
use crate::base::{CpuPool, Runtime, SystemClock};
use crate::cache::{Cache, CacheOptions, ReadKind};
use crate::model::batch::arrow_type;
use crate::model::{AttrType, Attribute, Id, IdKind, NamespaceName, OrgId, Scalar, Schema, VectorColumn};
use crate::store::count::CountingStore;
use crate::store::{Store, paths};

/// A store that counts, and a cache over it.
struct World {
    backend: CountingStore,
    store: Store,
    runtime: Runtime,
    cache: Cache,
    ns: NsKey,
}

impl World {
    fn new() -> Self {
        let backend = CountingStore::new(Arc::new(InMemory::new()));
        let runtime = Runtime::of_tests(Arc::new(SystemClock), 1);
        let store = Store::of_tests(backend.clone(), &runtime);
        Self {
            cache: Cache::new(store.clone(), &runtime, CacheOptions::memory_only(0)),
            ns: NsKey::new(
                OrgId::parse("org").expect("a valid name"),
                NamespaceName::parse("ns").expect("a valid name"),
            ),
            backend,
            store,
            runtime,
        }
    }

    async fn put(&self, encoded: &Encoded) {
        let key = paths::segment(&self.ns, encoded.meta.id.0);
        self.store
            .put(&key, encoded.bytes.clone())
            .await
            .expect("memory takes it");
    }

    async fn open(&self, meta: SegmentMeta) -> Result<Segment, SegmentError> {
        Segment::open(meta, &self.ns, &self.cache, &self.runtime.cpu).await
    }

    async fn stored(&self, encoded: &Encoded) -> Segment {
        self.put(encoded).await;
        self.open(encoded.meta.clone()).await.expect("it was just written")
    }

    /// Requests since the last call.
    fn requests(&self, before: &mut u64) -> u64 {
        let now = self.backend.counts().gets;
        now - std::mem::replace(before, now)
    }
}

const ID: SegmentId = SegmentId(Ulid(77));

const OPTIONS: EncodeOptions = EncodeOptions {
    level: 0,
    min_seq: Seq(3),
    max_seq: Seq(9),
};

fn inline(encoded: &Encoded) -> SegmentMeta {
    SegmentMeta {
        inline: Some(encoded.bytes.clone()),
        ..encoded.meta.clone()
    }
}

const EVERY_TYPE: [&str; 20] = [
    "string",
    "int",
    "uint",
    "float",
    "uuid",
    "datetime",
    "bool",
    "bytes",
    "[]string",
    "[]int",
    "[]uint",
    "[]float",
    "[]uuid",
    "[]datetime",
    "[]bool",
    "[3]f32",
    "[70]f16",
    "[5]i8",
    "[][2]f32",
    "{}f16",
];

/// The attribute of number `id`; all that can be are filterable if `filterable`.
fn attribute(id: u32, ty: &str, filterable: bool) -> Attribute {
    let ty = AttrType::parse(ty).expect("a valid type");
    Attribute {
        filterable: filterable && ty.can_be_filterable(),
        nullable: ty.is_vector(),
        ..Attribute::new(AttrId(id), format!("a{id}").into(), ty)
    }
}

fn schema(attributes: &[Attribute]) -> Schema {
    let mut schema = Schema::default();
    attributes.iter().for_each(|a| schema.put(a.clone()));
    schema
}

fn scalars(scalar: Scalar, seeds: &[Option<u64>]) -> ArrayRef {
    let seeds = seeds.iter().copied();
    let text = |n: u64| format!("{n:x}é").repeat(n as usize % 3);
    // No row has NaN.
    let float = |n: u64| Some(f64::from_bits(n)).filter(|x| !x.is_nan()).unwrap_or_default();
    match scalar {
        Scalar::String => Arc::new(LargeStringArray::from_iter(seeds.map(|s| s.map(text)))),
        Scalar::Int => Arc::new(Int64Array::from_iter(seeds.map(|s| s.map(|n| n as i64)))),
        Scalar::UInt => Arc::new(UInt64Array::from_iter(seeds)),
        Scalar::Float => Arc::new(Float64Array::from_iter(seeds.map(|s| s.map(float)))),
        Scalar::Uuid => {
            let values = seeds.map(|s| s.map(|n| [n.to_le_bytes(), n.to_be_bytes()].concat()));
            Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(values, 16).expect("16 bytes each"))
        }
        Scalar::Datetime => {
            let values = TimestampMillisecondArray::from_iter(seeds.map(|s| s.map(|n| n as i64)));
            Arc::new(values.with_timezone("UTC"))
        }
        Scalar::Bool => Arc::new(BooleanArray::from_iter(seeds.map(|s| s.map(|n| n % 2 == 1)))),
        Scalar::Bytes => Arc::new(LargeBinaryArray::from_iter(
            seeds.map(|s| s.map(|n| n.to_le_bytes()[..n as usize % 9].to_vec())),
        )),
    }
}

fn vectors(dims: u32, element: crate::model::Element, seeds: &[Option<u64>]) -> Column {
    let stride = dims as usize * element.bytes();
    let row = |seed: &Option<u64>| match seed {
        Some(n) => (0..stride).map(|i| (n >> (i % 8)) as u8 ^ i as u8).collect::<Vec<_>>(),
        None => vec![0; stride],
    };
    let nulls: NullBuffer = seeds.iter().map(Option::is_some).collect();
    Column::Vectors(VectorColumn {
        dims,
        element,
        data: Buffer::from_vec(seeds.iter().flat_map(row).collect::<Vec<u8>>()),
        nulls: Some(nulls).filter(|n| n.null_count() > 0),
    })
}

/// A column whose values follow from numbers.
fn column(ty: AttrType, seeds: &[Option<u64>]) -> Column {
    match ty {
        AttrType::Scalar(scalar) => Column::Values(scalars(scalar, seeds)),
        AttrType::Array(scalar) => {
            let lengths = || seeds.iter().map(|s| s.map_or(0, |n| n as usize % 4));
            let element = |n: u64| (0..n % 4).map(move |i| Some(n.rotate_left(i as u32 * 7)));
            let elements: Vec<Option<u64>> = seeds.iter().flatten().flat_map(|n| element(*n)).collect();
            let Some(arrow::datatypes::DataType::List(field)) = arrow_type(ty) else {
                panic!("an array is a list");
            };
            let nulls: NullBuffer = seeds.iter().map(Option::is_some).collect();
            let offsets = OffsetBuffer::from_lengths(lengths());
            Column::Values(Arc::new(ListArray::new(
                field,
                offsets,
                scalars(scalar, &elements),
                Some(nulls),
            )))
        }
        AttrType::Vector { dims, element } => vectors(dims, element, seeds),
        AttrType::MultiVector { .. } | AttrType::SparseVector => Column::Values(scalars(Scalar::Bytes, seeds)),
    }
}

fn ids(kind: IdKind, rows: usize, step: u64) -> IdColumn {
    let id = |row: u64| match kind {
        IdKind::UInt => Id::UInt(row.wrapping_mul(step)),
        IdKind::Uuid => Id::Uuid(uuid::Uuid::from_u128(
            u128::from(row) << 64 | u128::from(row.wrapping_mul(step)),
        )),
        IdKind::String => Id::String(format!("row-{row}").into()),
    };
    let ids: Vec<Id> = (0..rows as u64).map(id).collect();
    IdColumn::from_ids(kind, ids.iter())
}

fn mix(n: u64) -> u64 {
    crate::model::batch::hash_id(&Id::UInt(n))
}

/// How a column's values come about.
#[derive(Clone, Copy, Debug)]
enum Fill {
    Random,
    /// Of a few different values, in runs.
    Few,
    Rising,
    /// Three of four rows are null.
    Sparse,
    Null,
    /// There is no column.
    Absent,
}

const FILLS: [Fill; 6] = [
    Fill::Random,
    Fill::Few,
    Fill::Rising,
    Fill::Sparse,
    Fill::Null,
    Fill::Absent,
];

fn filled(attribute: &Attribute, rows: usize, fill: Fill) -> Option<Column> {
    let salt = u64::from(attribute.id.0) << 40;
    let seed = |row: u64| match fill {
        Fill::Random => Some(mix(row ^ salt)),
        Fill::Few => Some(mix(row / 10 % 5)),
        Fill::Rising => Some(1_700_000_000_000 + row * 250),
        Fill::Sparse => (row % 4 == 1).then(|| mix(row)),
        Fill::Null | Fill::Absent => None,
    };
    let seeds: Vec<_> = (0..rows as u64).map(seed).collect();
    (!matches!(fill, Fill::Absent)).then(|| column(attribute.ty, &seeds))
}

fn every_type(kind: IdKind, rows: usize, fill: impl Fn(usize) -> Fill) -> (Vec<Attribute>, Rows) {
    let attributes = EVERY_TYPE.iter().enumerate();
    let attributes: Vec<_> = attributes
        .map(|(i, ty)| attribute(3 * i as u32, ty, i % 3 != 0))
        .collect();
    let columns = attributes.iter().enumerate();
    let columns: BTreeMap<_, _> = columns
        .filter_map(|(i, a)| Some((a.id, filled(a, rows, fill(i))?)))
        .collect();
    let rows = Rows {
        ids: ids(kind, rows, 7),
        columns,
    };
    (attributes, rows)
}

#[track_caller]
fn assert_same(found: Option<&Column>, expected: Option<&Column>, what: &str) {
    match (found, expected) {
        (None, None) => {}
        (None, Some(Column::Values(e))) => assert_eq!(e.null_count(), e.len(), "{what} has values"),
        (None, Some(Column::Vectors(e))) => assert!((0..e.len()).all(|row| e.is_null(row)), "{what} has vectors"),
        (Some(Column::Values(f)), Some(Column::Values(e))) => {
            assert_eq!(f.data_type(), e.data_type(), "{what}");
            assert_eq!(f, e, "{what}");
        }
        (Some(Column::Vectors(f)), Some(Column::Vectors(e))) => {
            assert_eq!((f.ty(), f.len()), (e.ty(), e.len()), "{what}");
            assert_eq!(f.data.as_slice(), e.data.as_slice(), "{what}");
            assert!((0..f.len()).all(|row| f.is_null(row) == e.is_null(row)), "{what}");
        }
        other => panic!("{what}: {other:?}"),
    }
}

#[track_caller]
fn assert_rows(found: &Rows, expected: &Rows, attributes: &[Attribute]) {
    assert_eq!(&found.ids.to_array(), &expected.ids.to_array());
    for a in attributes {
        assert_same(found.columns.get(&a.id), expected.columns.get(&a.id), &a.ty.to_string());
    }
}

fn take(rows: &Rows, numbers: &[u32]) -> Rows {
    let numbers = UInt64Array::from_iter_values(numbers.iter().map(|n| u64::from(*n)));
    Rows {
        ids: rows.ids.take(&numbers),
        columns: rows.columns.iter().map(|(id, c)| (*id, c.take(&numbers))).collect(),
    }
}

/// Everything that a segment says equals what its rows say.
async fn check(segment: &Segment, rows: &Rows, attributes: &[Attribute]) -> Result<(), SegmentError> {
    let count = segment.rows();
    assert_eq!(&segment.ids().await?.to_array(), &rows.ids.to_array());
    for a in attributes {
        let expected = rows.columns.get(&a.id);
        match a.ty.is_vector() {
            false => assert_same(segment.column(a).await?.as_deref(), expected, &a.ty.to_string()),
            true => {
                for range in [0..count, count / 3..count / 2, count..count] {
                    let found = segment.vectors(a, range.clone()).await?.map(Column::Vectors);
                    let numbers = UInt64Array::from_iter_values(range.map(u64::from));
                    let expected = expected.map(|c| c.take(&numbers));
                    assert_same(found.as_ref(), expected.as_ref(), &a.ty.to_string());
                }
            }
        }
    }
    for a in attributes.iter().filter(|a| a.filterable) {
        attributes::check(segment, a, rows.columns.get(&a.id)).await?;
    }
    let forward: Vec<u32> = (0..count).collect();
    let scattered: Vec<u32> = forward
        .iter()
        .rev()
        .step_by(3)
        .chain(forward.iter().take(2))
        .copied()
        .collect();
    for numbers in [&forward, &scattered, &Vec::new()] {
        let found = segment.fetch(numbers, attributes, ReadKind::Rows).await?;
        assert_rows(&found, &take(rows, numbers), attributes);
    }
    let few = segment.fetch(&scattered, &attributes[..1], ReadKind::Scan).await?;
    assert!(few.columns.len() <= 1, "only what is wanted");
    assert_rows(&few, &take(rows, &scattered), &attributes[..1]);
    Ok(())
}

#[tokio::test]
async fn every_type_and_kind_of_id_survives() {
    let world = World::new();
    for kind in [IdKind::UInt, IdKind::Uuid, IdKind::String] {
        for count in [0, 1, 2, 400] {
            let (attributes, rows) = every_type(kind, count, |i| FILLS[i % FILLS.len()]);
            let encoded = encode(ID, &rows, &schema(&attributes), &OPTIONS);
            assert_eq!(
                encoded.bytes,
                encode(ID, &rows, &schema(&attributes), &OPTIONS).bytes,
                "same rows, same bytes"
            );
            let segment = world.stored(&encoded).await;
            check(&segment, &rows, &attributes).await.expect("it is whole");
            let segment = world.open(inline(&encoded)).await.expect("it is whole");
            check(&segment, &rows, &attributes).await.expect("it is whole");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_rows_survive(
        count in 0usize..600,
        fills in prop::collection::vec(prop::sample::select(&FILLS[..]), EVERY_TYPE.len()),
        kind in prop::sample::select(&[IdKind::UInt, IdKind::Uuid, IdKind::String][..]),
        compression in prop::sample::select(&[Compression::None, Compression::Zstd, Compression::Lz4][..]),
    ) {
        let (attributes, rows) = every_type(kind, count, |i| fills[i]);
        let encoded = encode_with(ID, &rows, &schema(&attributes), &OPTIONS, compression);
        let rt = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        rt.block_on(async {
            let segment = World::new().open(inline(&encoded)).await.expect("it is whole");
            check(&segment, &rows, &attributes).await.expect("it is whole");
        });
    }
}

/// More rows than 2^16 and than a block of a column has.
#[tokio::test]
async fn many_rows_survive() {
    let attributes: Vec<_> = [("string", true), ("int", false), ("[]uint", true), ("[2]f16", false)]
        .iter()
        .enumerate()
        .map(|(i, (ty, filterable))| attribute(i as u32, ty, *filterable))
        .collect();
    let fills = [Fill::Few, Fill::Rising, Fill::Sparse, Fill::Random];
    let columns = attributes.iter().zip(fills);
    let rows = Rows {
        ids: ids(IdKind::UInt, 70_000, 1),
        columns: columns
            .filter_map(|(a, fill)| Some((a.id, filled(a, 70_000, fill)?)))
            .collect(),
    };
    let encoded = encode(ID, &rows, &schema(&attributes), &OPTIONS);
    let segment = World::new().stored(&encoded).await;
    check(&segment, &rows, &attributes).await.expect("it is whole");
}

#[tokio::test]
async fn long_values_survive_and_have_pages_of_their_own() {
    let attributes = [
        attribute(0, "string", false),
        attribute(1, "string", false),
        attribute(2, "[]string", true),
    ];
    let long: Vec<_> = (0..20)
        .map(|i| (i % 7 != 0).then(|| format!("{i} ").repeat(1 << 19)))
        .collect();
    let rows = Rows {
        ids: ids(IdKind::String, 20, 1),
        columns: BTreeMap::from([
            (
                AttrId(0),
                Column::Values(Arc::new(LargeStringArray::from(long)) as ArrayRef),
            ),
            (
                AttrId(1),
                filled(&attributes[1], 20, Fill::Random).expect("it is there"),
            ),
            (
                AttrId(2),
                filled(&attributes[2], 20, Fill::Random).expect("it is there"),
            ),
        ]),
    };
    let encoded = encode_with(ID, &rows, &schema(&attributes), &OPTIONS, Compression::None);
    let world = World::new();
    let segment = world.stored(&encoded).await;
    check(&segment, &rows, &attributes).await.expect("it is whole");
    let before = world.backend.counts().bytes_read;
    segment
        .fetch(&[3], &attributes[1..], ReadKind::Rows)
        .await
        .expect("it is whole");
    assert!(
        world.backend.counts().bytes_read - before < 1 << 14,
        "the long text is not read"
    );
}

#[tokio::test]
async fn columns_of_dropped_attributes_are_left_out() {
    let (attributes, rows) = every_type(IdKind::UInt, 10, |_| Fill::Random);
    let encoded = encode(ID, &rows, &schema(&attributes[1..]), &OPTIONS);
    let segment = World::new().stored(&encoded).await;
    assert!(segment.column(&attributes[0]).await.expect("it is whole").is_none());
    let fetched = segment
        .fetch(&[4], &attributes, ReadKind::Rows)
        .await
        .expect("it is whole");
    assert_eq!(fetched.columns.len(), attributes.len() - 1);
}

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/segment/v1.bin");
const GOLDEN_PLAIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/segment/v1-plain.bin");

/// A new version writes its files once: run this with `SHOAL_WRITE_GOLDEN=1` where there are none. The rows are never to
/// be changed, only followed by others.
#[tokio::test]
async fn the_golden_segments_of_version_1_still_read_the_same() {
    let (attributes, rows) = every_type(IdKind::String, 30, |i| FILLS[i % FILLS.len()]);
    for (path, compression) in [(GOLDEN, Compression::Zstd), (GOLDEN_PLAIN, Compression::None)] {
        let encoded = encode_with(ID, &rows, &schema(&attributes), &OPTIONS, compression);
        if !std::path::Path::new(path).exists() && std::env::var_os("SHOAL_WRITE_GOLDEN").is_some() {
            std::fs::write(path, &encoded.bytes).expect("the directory exists");
        }
        let bytes = std::fs::read(path).expect("the golden file is in the repository");
        let trailer = &bytes[bytes.len() - container::TRAILER_BYTES as usize..];
        let hot = container::decode_trailer(trailer, bytes.len() as u64).expect("a version that is still supported");
        if compression == Compression::None {
            assert!(bytes == encoded.bytes, "other bytes are another version");
        }
        let meta = SegmentMeta {
            len: bytes.len() as u64,
            hot_offset: hot.offset,
            hot_len: hot.len,
            hot_crc: hot.crc,
            inline: Some(bytes.into()),
            ..encoded.meta
        };
        let segment = World::new()
            .open(meta)
            .await
            .expect("a version that is still supported");
        check(&segment, &rows, &attributes).await.expect("it is whole");
    }
}
