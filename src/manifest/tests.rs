mod publish;
pub(crate) mod scripted;

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use roaring::RoaringBitmap;

use super::*;
use crate::base::varied::varied;
use crate::model::datetime::CLOCK_MS_MAX;
use crate::model::recent::RememberedEntry;
use crate::model::write::{Counts, Reply};
use crate::model::{
    AttrId, AttrType, Attribute, FullTextConfig, IdKind, Metric, NamespaceName, OrgId, Scalar, SettingsChange,
};
use crate::store::paths::NsKey;

fn ns(name: &str) -> NsKey {
    NsKey::new(OrgId::default_org(), NamespaceName::parse(name).expect("a legal name"))
}

fn attribute(id: u32, name: &str, ty: &str) -> Attribute {
    let ty = AttrType::parse(ty).expect("a type");
    Attribute {
        filterable: !ty.is_vector(),
        full_text: (ty == AttrType::Scalar(Scalar::String)).then(FullTextConfig::default),
        glob: true,
        ann: ty.is_vector().then_some(Metric::CosineDistance),
        metric: ty.is_vector().then_some(Metric::CosineDistance),
        ..Attribute::new(AttrId(id), name.into(), ty)
    }
}

fn reply(n: u64) -> Reply {
    let counts = Counts {
        upserted: Some(n),
        logical_bytes: 7 * n,
        ..Counts::default()
    };
    Reply {
        body: u128::from(n) << 70,
        counts,
    }
}

fn segment(id: u128, rows: u32, deletions: Deletions) -> ManifestSegment {
    let meta = SegmentMeta {
        id: SegmentId(Ulid::from(id)),
        level: 0,
        rows,
        min_seq: Seq(4),
        max_seq: Seq(9),
        len: 1 << 20,
        hot_offset: 1 << 19,
        hot_len: 1 << 10,
        hot_crc: 0xdead_beef,
        logical_bytes: 12_345,
        owner: None,
        inline: None,
        made_as: None,
    };
    ManifestSegment { meta, deletions }
}

fn deleted(rows: impl IntoIterator<Item = u32>) -> Deletions {
    Deletions::Inline(Arc::new(rows.into_iter().collect()))
}

/// The manifest of the golden file; never to be changed, only followed by others.
pub(crate) fn golden() -> Manifest {
    let mut schema = Schema::default();
    schema.id_kind = Some(IdKind::Uuid);
    schema.put(attribute(0, "text", "string"));
    schema.put(attribute(2, "vector", "[8]f16"));
    schema.put(attribute(5, "tags", "[]string"));
    let mut settings = Settings::default();
    settings.apply(&SettingsChange {
        pinned_replicas: Some(Some(2)),
        token_gen: Some(4),
        size_limit: Some(Some(1 << 40)),
        ..SettingsChange::default()
    });
    let recent = [
        RememberedEntry {
            seq: Seq(7),
            hlc_ms: 1_699,
            replies: vec![(1, reply(1)), (u128::MAX, reply(2))],
        },
        RememberedEntry {
            seq: Seq(9),
            hlc_ms: 1_700,
            replies: vec![(3, reply(3))],
        },
    ];
    let mut inline = segment(3, 2, Deletions::None);
    (inline.meta.len, inline.meta.hot_offset, inline.meta.hot_len) = (10, 2, 8);
    inline.meta.inline = Some(Bytes::from_static(b"0123456789"));
    let mut foreign = segment(
        4,
        1_000_000,
        Deletions::Object(DeletionsObject {
            key: Ulid::from(40u128),
            len: 12_000,
            crc: 0x0102_0304,
            rows: 100_000,
            owner: Some(ns("Parent")),
        }),
    );
    foreign.meta.owner = Some(ns("Parent"));
    foreign.meta.level = 3;
    let namespace = Uuid::from_u128(0x1111_2222_3333_4444_5555_6666_7777_8888);
    Manifest {
        generation: Gen(6),
        prev_digest: Digest(5 << 100),
        namespace,
        writer: 77,
        job: Ulid::from_parts(1_700, 1),
        created_ms: 1_800,
        indexed_seq: Seq(9),
        indexed_digest: Digest(9 << 90),
        hlc_ms: 1_750,
        incarnation: Some(Incarnation {
            last_write_ms: 1_749,
            ..Incarnation::begin(namespace, Seq(4), 1_600)
        }),
        schema: Arc::new(schema.with_used_below(AttrId(9))),
        settings: Arc::new(settings),
        recent: Arc::new(Recent::from_entries(recent)),
        segments: vec![
            segment(1, 1_000, deleted([0, 7, 999])),
            segment(2, 5, Deletions::None),
            inline,
            foreign,
        ],
        pins: vec![Ulid::from(90u128), Ulid::from(91u128)],
    }
}

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/manifest/v1.bin");

/// Fails when bytes change without a new version. `GOLDEN=write` writes the file where there is none.
#[test]
fn the_golden_manifest_of_version_1_still_reads_the_same() {
    let (bytes, digest) = encode(&golden());
    if std::env::var("GOLDEN").is_ok_and(|v| v == "write") && !std::path::Path::new(GOLDEN).exists() {
        std::fs::write(GOLDEN, &bytes).expect("the directory exists");
    }
    let kept = Bytes::from(std::fs::read(GOLDEN).expect("the golden file is in the repository"));
    assert_eq!(decode(&kept).expect("readable"), (golden(), digest));
    assert_eq!(kept, bytes, "this version writes other bytes than it did");
}

#[test]
fn a_copied_segment_keeps_both_names() {
    let mut copy = golden();
    let made_as = SegmentId(Ulid::from(77u128));
    copy.segments[0].meta.made_as = Some(made_as);
    let (bytes, digest) = encode(&copy);
    assert_eq!(decode(&bytes).expect("readable"), (copy.clone(), digest));
    assert_eq!(copy.segments[0].meta.inner_id(), made_as);
    assert_eq!(copy.segments[1].meta.inner_id(), copy.segments[1].meta.id);
}

#[test]
fn a_manifest_of_an_empty_namespace_round_trips() {
    let empty = Manifest {
        generation: Gen(1),
        prev_digest: Digest::default(),
        incarnation: None,
        segments: Vec::new(),
        schema: Arc::default(),
        settings: Arc::default(),
        recent: Arc::default(),
        pins: Vec::new(),
        ..golden()
    };
    let (bytes, digest) = encode(&empty);
    assert_eq!(decode(&bytes).expect("readable"), (empty, digest));
}

#[test]
fn every_cut_and_every_changed_bit_is_an_error() {
    let (bytes, _) = encode(&golden());
    for len in 0..bytes.len() {
        assert!(decode(&bytes.slice(..len)).is_err(), "cut at {len}");
    }
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&changed.into()).is_err(), "bit {bit}");
    }
    let mut longer = bytes.to_vec();
    longer.push(0);
    assert!(decode(&longer.into()).is_err());
}

/// The frame around any message, with right checksums.
pub(crate) fn framed(message: &[u8], version: u32, features: u64) -> Bytes {
    let mut bytes = b"SHOALMAN".to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend((message.len() as u32).to_le_bytes());
    bytes.extend(features.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes.extend(message);
    bytes.extend(xxhash_rust::xxh3::xxh3_128(&bytes).to_le_bytes());
    bytes.into()
}

#[test]
fn what_a_newer_version_wrote_is_told_from_damage() {
    let (bytes, _) = encode(&golden());
    let message = &bytes[32..bytes.len() - 16];
    assert!(decode(&framed(message, 1, 0)).is_ok());
    for newer in [framed(message, 2, 0), framed(message, 1, 4)] {
        assert!(matches!(decode(&newer), Err(DecodeError::Newer(_))));
    }
    assert!(matches!(decode(&framed(message, 0, 0)), Err(DecodeError::Corrupt(_))));
}

#[test]
fn a_manifest_that_cannot_be_true_is_refused() {
    type Change = fn(&mut Manifest);
    let cases: [(&str, Change); 26] = [
        ("generation is 0", |m| m.generation = Gen::ZERO),
        ("has a predecessor", |m| m.generation = Gen(1)),
        ("generation cannot be", |m| m.generation = Gen(Gen::MAX.0 + 1)),
        ("entry cannot be", |m| m.indexed_seq = Seq(Seq::INDEXED_MAX.0 + 1)),
        ("clocks", |m| m.hlc_ms = CLOCK_MS_MAX + 1),
        ("clocks", |m| {
            m.incarnation.as_mut().expect("it lives").created_ms = u64::MAX
        }),
        ("numbers of attributes", |m| {
            m.schema = Arc::new(Schema::clone(&m.schema).with_used_below(AttrId(u32::MAX)));
        }),
        ("larger than a segment", |m| m.segments[0].meta.len = u64::MAX),
        ("larger than a segment", |m| m.segments[0].meta.logical_bytes = u64::MAX),
        ("indexes nothing", |m| m.indexed_seq = Seq::ZERO),
        ("begins after", |m| m.indexed_seq = Seq(3)),
        ("does not exist", |m| m.incarnation = None),
        ("no rows", |m| m.segments[1].meta.rows = 0),
        ("named twice", |m| m.segments[1] = m.segments[0].clone()),
        ("does not have", |m| m.segments[1].deletions = deleted([5])),
        ("more rows are deleted", |m| m.segments[1].deletions = deleted(0..6)),
        ("more rows are deleted", |m| m.segments[3].meta.rows = 99_999),
        ("level", |m| m.segments[0].meta.level = 65),
        ("not among those", |m| m.segments[0].meta.min_seq = Seq(3)),
        ("not among those", |m| m.segments[0].meta.min_seq = Seq(10)),
        ("not among those", |m| m.segments[0].meta.max_seq = Seq(10)),
        ("hot region", |m| m.segments[0].meta.hot_offset = u64::MAX),
        ("inline and too large", |m| m.segments[2].meta.len = 11),
        ("lies with another", |m| m.segments[2].meta.owner = Some(ns("x"))),
        ("hold is named twice", |m| m.pins[1] = m.pins[0]),
        ("out of place", |m| m.indexed_seq = Seq(8)),
    ];
    assert_eq!(golden().check(), Ok(()));
    for (says, change) in cases {
        let mut manifest = golden();
        change(&mut manifest);
        if says == "out of place" {
            manifest.segments.clear();
        }
        let error = manifest.check().expect_err(says);
        assert!(error.why.contains(says), "{says}: {error}");
        assert!(decode(&encode(&manifest).0).is_err(), "{says}");
    }
}

/// Adds up and counts on, as those who use manifests do.
fn use_numbers(manifest: &Manifest) {
    assert!(manifest.generation.next() > manifest.generation && manifest.indexed_seq.next() > manifest.indexed_seq);
    let of = |f: fn(&SegmentMeta) -> u64| manifest.segments.iter().map(|s| f(&s.meta)).sum::<u64>();
    assert!(manifest.rows() <= of(|m| u64::from(m.rows)));
    assert!(of(|m| m.len) <= u64::MAX / 2 && of(|m| m.logical_bytes) <= u64::MAX / 2);
    let next = manifest.schema.next_attribute_id();
    let mut schema = Schema::clone(&manifest.schema);
    if schema.has_numbers_for(1) {
        schema.put(Attribute {
            id: next,
            ..attribute(0, "new", "int")
        });
        assert!(schema.next_attribute_id() > next);
    }
    let known = manifest.recent.after(manifest.indexed_seq.next(), CLOCK_MS_MAX, []);
    assert!(known.entries().all(|e| e.seq <= manifest.indexed_seq));
}

#[test]
fn every_number_of_a_manifest_may_be_the_largest_or_none() {
    let (bytes, _) = encode(&golden());
    let mut accepted = 0;
    for varied in varied(&bytes[32..bytes.len() - 16]) {
        let Ok((manifest, _)) = decode(&framed(&varied, 1, 0)) else {
            continue;
        };
        accepted += 1;
        assert_eq!(manifest.check(), Ok(()));
        use_numbers(&manifest);
        assert_eq!(decode(&encode(&manifest).0).map(|(m, _)| m), Ok(manifest));
    }
    assert!(accepted > 100, "{accepted}");
}

#[test]
fn a_successor_continues_what_it_follows() {
    let first = golden();
    let (_, digest) = encode(&first);
    let next = Manifest {
        generation: Gen(7),
        prev_digest: digest,
        ..golden()
    };
    assert_eq!(next.check_successor(Some((&first, digest))), Ok(()));
    assert!(next.check_successor(None).is_err());
    let first_of_all = Manifest {
        generation: Gen(1),
        ..golden()
    };
    assert_eq!(first_of_all.check_successor(None), Ok(()));
    type Change = fn(&mut Manifest);
    let changes: [Change; 6] = [
        |m| m.generation = Gen(8),
        |m| m.prev_digest = Digest(1),
        |m| m.namespace = Uuid::nil(),
        |m| m.indexed_seq = Seq(8),
        |m| m.hlc_ms = 1,
        |m| m.indexed_digest = Digest(1),
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let mut bad = next.clone();
        change(&mut bad);
        assert!(bad.check_successor(Some((&first, digest))).is_err(), "change {i}");
    }
}

fn any_deletions(rows: u32) -> impl Strategy<Value = Deletions> {
    prop_oneof![
        Just(Deletions::None),
        proptest::collection::btree_set(0..rows, 1..20).prop_map(deleted),
        (1..=rows, any::<u128>()).prop_map(|(rows, key)| {
            Deletions::Object(DeletionsObject {
                key: Ulid::from(key),
                len: 9_000,
                crc: 5,
                rows,
                owner: None,
            })
        }),
    ]
}

fn any_segment() -> impl Strategy<Value = ManifestSegment> {
    (any::<u128>(), 1u32..100_000, any::<bool>()).prop_flat_map(|(id, rows, inline)| {
        any_deletions(rows).prop_map(move |deletions| {
            let mut segment = segment(id, rows, deletions);
            if inline {
                let bytes = Bytes::from(vec![7; 2_048]);
                (segment.meta.len, segment.meta.hot_offset) = (2_048, 1_024);
                segment.meta.inline = Some(bytes);
            }
            segment
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn manifests_round_trip(
        segments in proptest::collection::vec(any_segment(), 0..6),
        pins in proptest::collection::btree_set(any::<u128>(), 0..4),
        (generation, writer, indexed) in (2..=Gen::MAX.0, any::<u128>(), 9..=Seq::INDEXED_MAX.0),
    ) {
        let mut manifest = Manifest {
            generation: Gen(generation),
            writer,
            indexed_seq: Seq(indexed),
            pins: pins.into_iter().map(Ulid::from).collect(),
            ..golden()
        };
        let mut ids = std::collections::BTreeSet::new();
        manifest.segments = segments.into_iter().filter(|s| ids.insert(s.id())).collect();
        prop_assert_eq!(manifest.check(), Ok(()));
        let (bytes, digest) = encode(&manifest);
        prop_assert_eq!(decode(&bytes), Ok((manifest, digest)));
    }

    #[test]
    fn any_message_is_a_manifest_or_an_error(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let (bytes, _) = encode(&golden());
        let mut message = bytes[32..bytes.len() - 16].to_vec();
        for (at, byte) in changes {
            let at = at.index(message.len());
            message[at] = byte;
        }
        if let Some(cut) = cut {
            message.truncate(cut.index(message.len()));
        }
        if let Ok((manifest, _)) = decode(&framed(&message, 1, 0)) {
            prop_assert_eq!(manifest.check(), Ok(()));
        }
    }

    #[test]
    fn live_rows_and_deleted_rows_are_each_others_rest(rows in 1u32..5_000, dead in proptest::collection::btree_set(0u32..5_000, 0..50)) {
        let dead: RoaringBitmap = dead.into_iter().filter(|row| *row < rows).collect();
        let live = live_rows(&dead, rows);
        prop_assert_eq!(live.len(), rows as usize);
        prop_assert_eq!(live.count() as u64 + dead.len(), u64::from(rows));
        prop_assert_eq!(deleted_rows(&live), dead);
    }
}

#[test]
fn deletion_objects_are_what_the_manifest_says_or_an_error() {
    let many: RoaringBitmap = (0..40_000u32).map(|n| n * 3).collect();
    let (Deletions::Object(named), Some(bytes)) =
        deletions::Deletions::prepare(many.clone(), Ulid::from(1u128), DELETIONS_INLINE_BYTES_MAX)
    else {
        panic!("too many for the manifest");
    };
    let read = |bytes: &[u8], rows| deletions::decode_object(&named, rows, bytes);
    assert_eq!(read(&bytes, 120_000), Ok(many));
    assert!(read(&bytes, 119_997).is_err(), "a row that the segment does not have");
    for len in (0..bytes.len()).step_by(97) {
        assert!(read(&bytes[..len], 120_000).is_err());
    }
    for bit in (0..bytes.len() * 8).step_by(101) {
        let mut changed = bytes.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&changed, 120_000).is_err());
        // Also where the checksum of the whole was made of the damaged bytes.
        let named = DeletionsObject {
            crc: crc32c::crc32c(&changed),
            ..named.clone()
        };
        assert!(deletions::decode_object(&named, 120_000, &changed).is_err());
    }
    let (few, none) = deletions::Deletions::prepare(
        (0..1_000_000u32).collect(),
        Ulid::from(1u128),
        DELETIONS_INLINE_BYTES_MAX,
    );
    assert!(
        matches!(&few, Deletions::Inline(rows) if rows.len() == 1_000_000) && none.is_none(),
        "runs are short"
    );
    assert_eq!(
        deletions::Deletions::prepare(RoaringBitmap::new(), Ulid::from(1u128), DELETIONS_INLINE_BYTES_MAX).0,
        Deletions::None
    );
}

#[test]
fn deleted_rows_leave_room_in_a_manifest_for_the_rest() {
    for (segments, bytes) in [
        (0, 8192),
        (1, 8192),
        (128, 8192),
        (129, 8128),
        (1024, 1024),
        (100_000, 10),
    ] {
        assert_eq!(deletions_inline_max(segments), bytes, "{segments}");
    }
    let few: RoaringBitmap = (0..400u32).step_by(2).collect();
    for inline_max in [few.serialized_size(), few.serialized_size() - 1] {
        let (named, object) = deletions::Deletions::prepare(few.clone(), Ulid::from(1u128), inline_max);
        assert_eq!(object.is_none(), inline_max >= few.serialized_size());
        assert!(named.inline_bytes() <= inline_max && named.rows() == 200);
    }
}
