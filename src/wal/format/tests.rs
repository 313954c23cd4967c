use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, FixedSizeBinaryArray, Float64Array, Int64Array, LargeBinaryArray, LargeStringArray,
    ListBuilder, StringBuilder, TimestampMillisecondArray, UInt64Array,
};
use arrow::buffer::{Buffer, NullBuffer};
use arrow::compute::cast;
use proptest::collection::vec;
use proptest::prelude::*;
use ulid::Ulid;

use super::*;
use crate::base::varied::varied;
use crate::model::batch::{NamedColumn, arrow_type};
use crate::model::schema::{Embed, Language, SchemaChange, Tokenizer};
use crate::model::{
    AttrId, AttrType, Attribute, Column, Element, FullTextConfig, Id, IdColumn, IdKind, Metric, RowBatch, Scalar,
    Schema, VectorColumn,
};
use crate::wal::stage;

mod branch;
pub mod damaged;
mod settings;

/// Columns of every type, each value derived from its row's number, some null.
fn column(name: &str, ty: &str, rows: &[u64]) -> NamedColumn {
    let ty = AttrType::parse(ty).expect("a known type");
    let column = match ty {
        AttrType::Vector { dims, element } => Column::Vectors(vectors(dims, element, rows)),
        _ => Column::Values(values(ty, rows)),
    };
    NamedColumn {
        name: name.into(),
        ty,
        column,
    }
}

fn present(n: u64) -> Option<u64> {
    (!n.is_multiple_of(3)).then_some(n)
}

fn values(ty: AttrType, rows: &[u64]) -> ArrayRef {
    let rows = rows.iter().map(|n| present(*n));
    match ty {
        AttrType::Scalar(Scalar::String) => Arc::new(
            rows.map(|n| n.map(|n| format!("text {n}")))
                .collect::<LargeStringArray>(),
        ),
        AttrType::Scalar(Scalar::Int) => Arc::new(rows.map(|n| n.map(|n| -(n as i64))).collect::<Int64Array>()),
        AttrType::Scalar(Scalar::UInt) => Arc::new(rows.collect::<UInt64Array>()),
        AttrType::Scalar(Scalar::Float) => Arc::new(rows.map(|n| n.map(|n| n as f64 / 7.0)).collect::<Float64Array>()),
        AttrType::Scalar(Scalar::Bool) => Arc::new(rows.map(|n| n.map(|n| n % 2 == 0)).collect::<BooleanArray>()),
        AttrType::Scalar(Scalar::Datetime) => {
            let times: TimestampMillisecondArray = rows.map(|n| n.map(|n| n as i64 * 1000)).collect();
            Arc::new(times.with_timezone("UTC"))
        }
        AttrType::Scalar(Scalar::Uuid) => {
            let uuids = rows.map(|n| n.map(|n| u128::from(n).to_be_bytes()));
            Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(uuids, 16).expect("16 bytes each"))
        }
        AttrType::Array(Scalar::String) => {
            let mut lists = ListBuilder::new(StringBuilder::new());
            for n in rows {
                if let Some(n) = n {
                    (0..n % 4).for_each(|i| lists.values().append_value(format!("tag {i}")));
                }
                lists.append(n.is_some());
            }
            cast(&lists.finish(), &arrow_type(ty).expect("not a vector")).expect("strings become large strings")
        }
        _ => Arc::new(rows.map(|n| n.map(|n| n.to_le_bytes())).collect::<LargeBinaryArray>()),
    }
}

fn vectors(dims: u32, element: Element, rows: &[u64]) -> VectorColumn {
    let stride = dims as usize * element.bytes();
    let bytes = |n: &u64| match present(*n) {
        Some(n) => (0..stride).map(|i| (n as usize * 31 + i) as u8).collect::<Vec<_>>(),
        None => vec![0; stride],
    };
    let nulls = NullBuffer::from_iter(rows.iter().map(|n| present(*n).is_some()));
    VectorColumn {
        dims,
        element,
        data: Buffer::from_vec(rows.iter().flat_map(bytes).collect::<Vec<u8>>()),
        nulls: Some(nulls).filter(|n| n.null_count() > 0),
    }
}

fn ids(kind: IdKind, rows: &[u64]) -> IdColumn {
    let ids: Vec<Id> = rows
        .iter()
        .map(|n| match kind {
            IdKind::UInt => Id::UInt(*n),
            IdKind::Uuid => Id::Uuid(Uuid::from_u128(u128::from(*n))),
            IdKind::String => Id::String(format!("row {n}").into()),
        })
        .collect();
    IdColumn::from_ids(kind, ids.iter())
}

fn batch(kind: IdKind, rows: &[u64], columns: &[(&str, &str)]) -> RowBatch {
    let mut columns: Vec<_> = columns.iter().map(|(name, ty)| column(name, ty, rows)).collect();
    columns.sort_by(|a, b| a.name.cmp(&b.name));
    RowBatch {
        ids: ids(kind, rows),
        columns,
    }
}

const EVERY_TYPE: [(&str, &str); 14] = [
    ("a", "string"),
    ("b", "int"),
    ("c", "uint"),
    ("d", "float"),
    ("e", "bool"),
    ("f", "datetime"),
    ("g", "uuid"),
    ("h", "bytes"),
    ("i", "[]string"),
    ("j", "[][2]f32"),
    ("k", "{}f16"),
    ("l", "[3]f32"),
    ("m", "[16]f16"),
    ("n", "[64]i8"),
];

fn request(number: u128, operations: Vec<Operation>) -> RequestEffects {
    RequestEffects {
        request: number,
        operations,
        reply: (number % 2 == 1).then(|| Reply {
            body: number << 64,
            counts: Counts {
                upserted: Some(3),
                deleted: Some(0),
                remaining: Some(true),
                logical_bytes: u64::MAX,
                ..Counts::default()
            },
        }),
        ..RequestEffects::default()
    }
}

fn entry(requests: Vec<RequestEffects>) -> Entry {
    Entry {
        namespace: Uuid::from_u128(0x1234_5678),
        seq: Seq(42),
        writer: 7,
        batch: u128::MAX,
        writer_addr: "http://10.0.0.1:8080".into(),
        prev_digest: Digest(99),
        manifest_gen_hint: 3,
        hlc_ms: 1_700_000_000_000,
        kind: EntryKind::Data(requests),
    }
}

fn attribute() -> Attribute {
    Attribute {
        id: AttrId(5),
        name: "a".into(),
        ty: AttrType::Scalar(Scalar::String),
        filterable: true,
        full_text: Some(FullTextConfig {
            tokenizer: Tokenizer::WordV3,
            language: Language::Greek,
            stemming: true,
            k1: 0.9,
            ..FullTextConfig::default()
        }),
        regex: true,
        glob: false,
        fuzzy: true,
        ann: Some(Metric::EuclideanSquared),
        metric: Some(Metric::CosineDistance),
        late_interaction: true,
        sparse_knn: false,
        embed: None,
        nullable: false,
    }
}

/// What an entry means, as text: a form in which two can be compared.
fn meaning(entry: &Entry) -> String {
    let head = format!(
        "{:?}",
        (
            entry.namespace,
            entry.seq,
            entry.writer,
            entry.batch,
            &entry.writer_addr
        )
    );
    let mut text = head + &format!("{:?}", (entry.prev_digest, entry.manifest_gen_hint, entry.hlc_ms));
    match &entry.kind {
        EntryKind::DeleteNamespace => text += "\ndelete namespace",
        EntryKind::Data(requests) => {
            for r in requests {
                text += &format!("\n{:x} {:?} {:?} {:?}", r.request, r.schema, r.staged, r.settings);
                r.operations
                    .iter()
                    .filter(|op| op.rows() > 0)
                    .for_each(|op| text += &operation_meaning(op));
            }
        }
    }
    text
}

fn operation_meaning(operation: &Operation) -> String {
    let (name, ids, columns, nulls_matter) = match operation {
        Operation::Upsert(b) => ("upsert", &b.ids, &b.columns[..], false),
        Operation::Patch(b) => ("patch", &b.ids, &b.columns[..], true),
        Operation::Delete(ids) => ("delete", ids, &[][..], false),
    };
    let mut text = format!("\n  {name} {:?}", ids.kind());
    for row in 0..ids.len() {
        text += &format!("\n    {}:", ids.get(row));
        for c in columns {
            assert_eq!(c.column.len(), ids.len(), "column {}", c.name);
            let cell = match &c.column {
                Column::Values(a) if a.is_null(row) => None,
                Column::Values(a) => Some(format!("{:?}", a.slice(row, 1))),
                Column::Vectors(v) if v.is_null(row) => None,
                Column::Vectors(v) => Some(format!("{:?}", v.row(row))),
            };
            match cell {
                None if !nulls_matter => {}
                cell => text += &format!(" {} {} = {cell:?}", c.name, c.ty),
            }
        }
    }
    text
}

/// The encoded entry in one piece.
fn encode(entry: &Entry) -> (Bytes, Digest) {
    let (payload, digest) = super::encode(entry);
    (payload.into(), digest)
}

fn seal(header: &[u8], body: &[u8]) -> Bytes {
    container::seal(Kind::Entry, header, body.to_vec().into()).0.into()
}

fn round_trip(entry: &Entry) -> Entry {
    let (bytes, digest) = encode(entry);
    let (decoded, found) = decode(bytes).expect("what was encoded decodes");
    assert_eq!(found, digest);
    assert_eq!(meaning(&decoded), meaning(entry));
    decoded
}

/// The entry of the golden file; never to be changed, only followed by others.
fn golden() -> Entry {
    let mut first = request(
        1,
        vec![
            Operation::Upsert(batch(IdKind::UInt, &[1, 2, 3, 4], &EVERY_TYPE)),
            Operation::Patch(batch(IdKind::UInt, &[2, 3], &[("a", "string"), ("l", "[3]f32")])),
            Operation::Delete(ids(IdKind::UInt, &[9, 1])),
        ],
    );
    first.schema = SchemaChange {
        id_kind: Some(IdKind::UInt),
        drops: vec!["old".into()],
        puts: vec![attribute()],
    };
    let mut second = request(2, vec![Operation::Upsert(batch(IdKind::UInt, &[5], &EVERY_TYPE))]);
    second.staged = vec![BlobRef {
        key: Ulid::from_parts(1_700_000_000_000, 5),
        len: 1000,
        digest: Digest(77),
    }];
    entry(vec![first, second, request(3, vec![])])
}

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/log/v1-entry.bin");

/// A new version writes its file once: run this with `SHOAL_WRITE_GOLDEN=1` where there is none.
#[test]
fn the_golden_entry_of_version_1_still_reads_the_same() {
    let there = std::path::Path::new(GOLDEN).exists();
    if !there && std::env::var_os("SHOAL_WRITE_GOLDEN").is_some() {
        std::fs::write(GOLDEN, encode(&golden()).0).expect("the directory exists");
    }
    let bytes = std::fs::read(GOLDEN).expect("the golden file is in the repository");
    let (decoded, _) = decode(bytes.into()).expect("a version that is still supported");
    assert_eq!(meaning(&decoded), meaning(&golden()));
}

#[test]
fn every_type_and_kind_of_id_survives() {
    for kind in [IdKind::UInt, IdKind::Uuid, IdKind::String] {
        round_trip(&entry(vec![request(
            1,
            vec![Operation::Upsert(batch(kind, &[1, 2, 3], &EVERY_TYPE))],
        )]));
    }
    round_trip(&golden());
    round_trip(&entry(vec![]));
    let mut deletion = entry(vec![]);
    deletion.kind = EntryKind::DeleteNamespace;
    round_trip(&deletion);
}

#[test]
fn a_null_column_is_dropped_from_an_upsert_and_kept_in_a_patch() {
    // Multiples of three are null.
    let rows = batch(IdKind::UInt, &[3, 6], &[("a", "string"), ("v", "[3]f32")]);
    let decoded = round_trip(&entry(vec![request(
        1,
        vec![Operation::Upsert(rows.clone()), Operation::Patch(rows)],
    )]));
    let EntryKind::Data(requests) = decoded.kind else {
        panic!("data was encoded")
    };
    let columns: Vec<usize> = requests[0]
        .operations
        .iter()
        .map(|op| match op {
            Operation::Upsert(b) | Operation::Patch(b) => b.columns.len(),
            Operation::Delete(_) => 0,
        })
        .collect();
    assert_eq!(columns, [0, 2]);
}

#[test]
fn many_small_requests_share_their_sections() {
    let requests: Vec<_> = (0..1000u64)
        .map(|n| {
            request(
                n.into(),
                vec![Operation::Upsert(batch(
                    IdKind::UInt,
                    &[n],
                    &[("a", "string"), ("v", "[16]f32")],
                ))],
            )
        })
        .collect();
    let many = entry(requests);
    let (bytes, _) = encode(&many);
    // A vector of 64 bytes, an id, a short text, and some 30 bytes for the request itself.
    assert!(bytes.len() < 1000 * 160, "{} bytes", bytes.len());
    round_trip(&many);
}

#[test]
fn requests_with_columns_of_their_own_do_not_multiply() {
    let names: Vec<String> = (0..2000).map(|n| format!("column {n}")).collect();
    let requests = names
        .iter()
        .map(|name| request(1, vec![Operation::Upsert(batch(IdKind::UInt, &[1], &[(name, "int")]))]));
    let wide = entry(requests.collect());
    let (bytes, _) = encode(&wide);
    assert!(bytes.len() < 2000 * 600, "{} bytes", bytes.len());
    round_trip(&wide);
}

#[test]
fn large_vectors_are_sent_from_where_they_lie() {
    let requests = [100..401, 500..802].map(|rows: std::ops::Range<u64>| {
        let rows: Vec<u64> = rows.collect();
        let columns = [("s", "string"), ("v", "[64]f32"), ("w", "[3]f32")];
        request(1, vec![Operation::Upsert(batch(IdKind::UInt, &rows, &columns))])
    });
    let entry = entry(requests.into());
    round_trip(&entry);
    let EntryKind::Data(requests) = &entry.kind else {
        panic!("it has data")
    };
    let lies = |operation: &Operation| match operation {
        Operation::Upsert(b) => match &b.column("v").expect("it has this column").column {
            Column::Vectors(v) => v.data.as_ptr(),
            Column::Values(_) => panic!("it is a vector"),
        },
        _ => panic!("it is an upsert"),
    };
    let (payload, _) = super::encode(&entry);
    for request in requests {
        let there = lies(&request.operations[0]);
        assert!(payload.iter().any(|piece| piece.as_ptr() == there));
    }
}

#[test]
fn vectors_are_aligned_wherever_the_bytes_lie() {
    let rows: Vec<u64> = (0..9).collect();
    let requests = rows.iter().map(|n| {
        request(
            1,
            vec![Operation::Upsert(batch(
                IdKind::UInt,
                &[*n + 1],
                &[("v", "[3]f32"), ("w", "[16]f32")],
            ))],
        )
    });
    let (bytes, _) = encode(&entry(requests.collect()));
    for shift in [0, 1, 4, 63] {
        let mut shifted = vec![0; shift];
        shifted.extend_from_slice(&bytes);
        let (decoded, _) = decode(Bytes::from(shifted).slice(shift..)).expect("a whole entry");
        let EntryKind::Data(requests) = decoded.kind else {
            panic!("data was encoded")
        };
        for op in requests.iter().flat_map(|r| &r.operations) {
            let Operation::Upsert(b) = op else {
                panic!("upserts were encoded")
            };
            for c in &b.columns {
                let Column::Vectors(v) = &c.column else {
                    panic!("vectors were encoded")
                };
                assert_eq!(
                    v.data.as_ptr().align_offset(64),
                    0,
                    "column {} shifted by {shift}",
                    c.name
                );
            }
        }
    }
}

#[test]
fn a_large_compressed_table_survives_and_must_unpack_to_its_length() {
    let rows: Vec<u64> = (0..5000).collect();
    let large = entry(vec![request(
        1,
        vec![Operation::Upsert(batch(IdKind::String, &rows, &[("a", "string")]))],
    )]);
    let (bytes, _) = encode(&large);
    assert!(bytes.len() < 5000 * 12, "{} bytes: not compressed", bytes.len());
    round_trip(&large);
    let (header, body, _) = container::open(Kind::Entry, &bytes).expect("just encoded");
    for wrong in [-1i64, 1, 1 << 20] {
        let mut header = proto::EntryHeader::decode(header.clone()).expect("just encoded");
        let table = header.groups[0].table.as_mut().expect("it has one");
        table.raw_len = table.raw_len.checked_add_signed(wrong).expect("small");
        assert!(decode(seal(&header.encode_to_vec(), &body)).is_err(), "{wrong}");
    }
}

#[test]
fn staged_blobs_in_order_are_the_same_operations() {
    let rows: Vec<u64> = (1..400).collect();
    let operations = vec![
        Operation::Delete(ids(IdKind::UInt, &rows)),
        Operation::Upsert(batch(IdKind::UInt, &rows, &EVERY_TYPE)),
        Operation::Delete(ids(IdKind::UInt, &[1])),
    ];
    let blobs = stage::stage_into(&operations, 16 * 1024);
    assert!(blobs.len() > 3, "{} blobs", blobs.len());
    let mut text = [String::new(), String::new()];
    for blob in blobs {
        assert!(
            blob.bytes.content_length() < 32 * 1024,
            "{} bytes",
            blob.bytes.content_length()
        );
        let (decoded, digest) = decode_blob(blob.bytes.into()).expect("what was encoded decodes");
        assert_eq!(digest, blob.digest);
        decoded.iter().for_each(|op| text[0] += &row_lines(op));
    }
    operations.iter().for_each(|op| text[1] += &row_lines(op));
    assert_eq!(text[0], text[1]);
}

/// One line per row, so that an operation equals the pieces it was cut into.
fn row_lines(operation: &Operation) -> String {
    let text = operation_meaning(operation);
    let name = text
        .split_whitespace()
        .next()
        .expect("an operation has a name")
        .to_owned();
    text.lines().skip(2).map(|row| format!("{name}{row}\n")).collect()
}

#[derive(Clone, Debug)]
struct Op {
    kind: u8,
    rows: Vec<u64>,
    columns: Vec<bool>,
}

impl Op {
    fn build(&self, kind: IdKind) -> Operation {
        let chosen = EVERY_TYPE.iter().zip(&self.columns).filter(|(_, on)| **on);
        let columns: Vec<_> = chosen.map(|(c, _)| *c).collect();
        match self.kind {
            0 => Operation::Upsert(batch(kind, &self.rows, &columns)),
            1 => Operation::Patch(batch(kind, &self.rows, &columns)),
            // A column of the same name with another type: the attribute was replaced.
            2 => Operation::Upsert(batch(kind, &self.rows, &[("a", "uint")])),
            _ => Operation::Delete(ids(kind, &self.rows)),
        }
    }
}

fn any_op() -> impl Strategy<Value = Op> {
    // Two rows in three have values; empty operations happen.
    (0..4u8, vec(0..9u64, 0..5), vec(any::<bool>(), EVERY_TYPE.len())).prop_map(|(kind, rows, columns)| Op {
        kind,
        rows,
        columns,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_entry_survives(requests in vec(vec(any_op(), 0..4), 0..6), kind in 0..3usize) {
        let kind = [IdKind::UInt, IdKind::Uuid, IdKind::String][kind];
        let requests = requests.iter().enumerate().map(|(i, ops)| {
            request(i as u128, ops.iter().map(|op| op.build(kind)).collect())
        });
        round_trip(&entry(requests.collect()));
    }

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..300)) {
        prop_assert!(decode(bytes.clone().into()).is_err());
        prop_assert!(decode_blob(bytes.into()).is_err());
    }
}

#[test]
fn embedding_survives_the_log() {
    let embedded = Attribute {
        embed: Some(Embed {
            model: "some/model".into(),
            target: "$embed_a".into(),
        }),
        ..attribute()
    };
    let filled = Attribute {
        nullable: true,
        ..attribute()
    };
    for attribute in [attribute(), embedded, filled] {
        let message = schema::attribute_to_proto(&attribute);
        assert_eq!(schema::attribute_from_proto(&message).unwrap(), attribute);
    }
}
