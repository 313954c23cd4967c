//! Bytes that were not written as they are.

use super::super::block;
use super::super::columns::ColumnIndex;
use super::super::container::{Hot, HotPlace, SectionKind, Writer, decode_trailer};
use super::super::pages::{Extractor, Page, PageIndex};
use super::super::values::{put_type, read_type};
use super::super::vectors::VectorIndex;
use super::super::wire::{FormatError, Packer, Reader, unframe};
use super::*;

fn framed(raw: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    Packer::new(Compression::None).frame(raw, &mut frame);
    frame
}

/// One bit of each byte is flipped, and the object is cut off after each byte.
#[tokio::test]
async fn a_damaged_segment_gives_an_error_or_the_same_answers() {
    let world = World::new();
    let (attributes, rows) = every_type(IdKind::UInt, 6, |i| FILLS[i % 4]);
    let encoded = encode_with(ID, &rows, &schema(&attributes), &OPTIONS, Compression::Zstd);
    let mut harmless = 0;
    for at in 0..encoded.bytes.len() {
        let mut bytes = encoded.bytes.to_vec();
        bytes[at] ^= 1 << (at % 8);
        let meta = SegmentMeta {
            inline: Some(bytes.into()),
            ..encoded.meta.clone()
        };
        if let Ok(segment) = world.open(meta).await {
            harmless += u64::from(check(&segment, &rows, &attributes).await.is_ok());
        }
        let short = encoded.bytes.slice(..at);
        let meta = SegmentMeta {
            inline: Some(short),
            ..encoded.meta.clone()
        };
        assert!(world.open(meta).await.is_err(), "cut off after {at} bytes");
    }
    // Only the zeros between sections, and blocks of attribute indexes that are in their directories, too.
    let (gaps, resident) = (4096 * 3 + 64 * 30, 100 * 13);
    assert!(
        harmless < gaps + resident,
        "{harmless} of {} bytes do not matter",
        encoded.bytes.len()
    );
}

#[tokio::test]
async fn damage_is_read_twice_and_names_the_object() {
    let world = World::new();
    let (attributes, rows) = every_type(IdKind::UInt, 300, |_| Fill::Random);
    let encoded = encode(ID, &rows, &schema(&attributes), &OPTIONS);
    let segment = world.stored(&encoded).await;
    let key = paths::segment(&world.ns, ID.0);
    world
        .store
        .put(&key, vec![0; encoded.bytes.len()])
        .await
        .expect("memory takes it");
    let mut at = 0;
    world.requests(&mut at);
    let error = segment
        .fetch(&[1], &attributes[..1], ReadKind::Rows)
        .await
        .expect_err("it is damaged");
    assert!(
        matches!(&error, SegmentError::Damaged { key: k, .. } if *k == key.to_string()),
        "{error}"
    );
    assert_eq!(world.requests(&mut at), 2);
    assert!(segment.ids().await.is_err());
    assert!(segment.column(&attributes[1]).await.is_err());
    assert!(segment.vectors(&attributes[15], 0..10).await.is_err());
    let index = segment
        .attribute_index(&attributes[4])
        .await
        .expect("its directory is hot");
    assert!(
        super::attributes::groups(&index.expect("it is filterable"))
            .await
            .is_err()
    );
    assert!(world.open(encoded.meta.clone()).await.is_err());
}

#[tokio::test]
async fn another_segment_or_a_newer_version_is_refused() {
    let (attributes, rows) = every_type(IdKind::UInt, 5, |_| Fill::Random);
    let encoded = encode(ID, &rows, &schema(&attributes), &OPTIONS);
    let world = World::new();
    let other = SegmentMeta {
        id: SegmentId(Ulid(78)),
        ..inline(&encoded)
    };
    assert!(world.open(other).await.is_err());

    let mut bytes = encoded.bytes.to_vec();
    let at = bytes.len() - 16;
    bytes[at..at + 4].copy_from_slice(&(VERSION_WRITTEN + 1).to_le_bytes());
    let trailer = bytes.len() - 32;
    let crc = crc32c::crc32c(&bytes[trailer..at + 4]);
    bytes[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
    let decoded = decode_trailer(&bytes[trailer..], bytes.len() as u64);
    assert!(matches!(decoded, Err(FormatError::Newer(_))), "{decoded:?}");
}

#[test]
fn sections_are_found_and_unknown_kinds_passed_over() {
    let mut writer = Writer::default();
    writer.section(SectionKind::Vectors, Some(AttrId(3)), 9, b"cold", "hot".into());
    writer.section(SectionKind::Bloom, None, 0, b"", "bloom".into());
    writer.section(SectionKind::Column, Some(AttrId(0)), 5, b"x", Bytes::new());
    let (object, place) = writer.finish(ID, 4, IdKind::Uuid);
    let region = object.slice(place.offset as usize..place.offset as usize + place.len as usize);
    let hot = Hot::decode(&region, place).expect("it is whole");
    let vectors = hot.section(SectionKind::Vectors, Some(AttrId(3))).expect("it is there");
    assert_eq!((vectors.offset % 4096, vectors.len, vectors.fingerprint), (0, 4, 9));
    assert_eq!(vectors.crc, crc32c::crc32c(b"cold"));
    assert_eq!(&vectors.hot[..], b"hot");
    assert!(hot.section(SectionKind::Vectors, None).is_none());

    let mut newer = region.to_vec();
    // The kind of the first entry, which is the column.
    newer[64..66].copy_from_slice(&0u16.to_le_bytes());
    let place = HotPlace {
        crc: crc32c::crc32c(&newer),
        ..place
    };
    let hot = Hot::decode(&newer.into(), place).expect("it can be read without");
    assert!(hot.section(SectionKind::Column, Some(AttrId(0))).is_none());
    assert_eq!(
        &hot.section(SectionKind::Bloom, None).expect("it is there").hot[..],
        b"bloom"
    );
}

/// Valid bytes with some of them replaced, cut off somewhere, so that decoders get far.
fn damaged(valid: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (edits, any::<prop::sample::Index>(), prop::bool::weighted(0.2)).prop_map(move |(edits, end, cut)| {
        let mut bytes = valid.clone();
        for (at, byte) in edits.iter().filter(|_| !valid.is_empty()) {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        if cut && !bytes.is_empty() {
            bytes.truncate(end.index(bytes.len()));
        }
        bytes
    })
}

/// For each type the raw bytes of a block and the hot bytes of its column.
fn blocks() -> Vec<(AttrType, Vec<u8>, ArrayRef)> {
    let types = EVERY_TYPE.iter().map(|ty| AttrType::parse(ty).expect("a valid type"));
    let types = types.filter(|ty| ty.can_be_filterable());
    let fills = [Fill::Random, Fill::Few, Fill::Rising];
    let block = |(ty, fill): (AttrType, Fill)| {
        let Some(Column::Values(array)) = filled(&attribute(1, &ty.to_string(), true), 40, fill) else {
            panic!("values are no vectors");
        };
        let mut raw = Vec::new();
        block::encode(&array, &mut raw).expect("few elements");
        (ty, raw, array)
    };
    types.flat_map(|ty| fills.map(|fill| (ty, fill))).map(block).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_block_decodes_or_fails(
        (ty, bytes) in prop::sample::select(blocks()).prop_flat_map(|(ty, raw, _)| (Just(ty), damaged(raw))),
        count in prop::sample::select(&[40usize, 39, 41, 0, 8192][..]),
    ) {
        let mut input = Reader::new(&bytes);
        if let Ok(array) = block::decode(&mut input, count, ty) {
            prop_assert_eq!(array.len(), count);
            array.to_data().validate_full().expect("what is decoded is valid");
        }
    }

    #[test]
    fn any_hot_bytes_decode_or_fail(
        (which, bytes) in prop::sample::select(hot_bytes()).prop_flat_map(|(k, hot, _)| (Just(k), damaged(hot))),
        rows in prop::sample::select(&[400u32, 0, 1, u32::MAX][..]),
        len in prop::sample::select(&[0u64, 1000, 1 << 20, u64::MAX][..]),
    ) {
        match which {
            SectionKind::Pages => {
                if let Ok(index) = PageIndex::decode(&bytes, rows, len) {
                    prop_assert!(rows == 0 || index.rows(index.page_of(rows - 1)).end == rows);
                }
            }
            SectionKind::Vectors => {
                if let Ok(index) = VectorIndex::decode(&bytes, rows, len) {
                    prop_assert_eq!(index.range(&index.blocks_of(&(0..rows))), 0..len);
                }
            }
            _ => {
                if let Ok(index) = ColumnIndex::decode(&bytes, rows, len) {
                    prop_assert_eq!(index.blocks.last().map_or(0, |b| b.rows.end), rows);
                }
            }
        }
    }

    #[test]
    fn any_page_decodes_or_fails(bytes in damaged(a_page()), count in 0u32..60) {
        let frame = framed(&bytes);
        if let Ok(page) = Page::decode(&frame, 5..5 + count) {
            let wanted = EVERY_TYPE.iter().enumerate().map(|(i, ty)| {
                (AttrId(3 * i as u32), AttrType::parse(ty).expect("a valid type"))
            });
            let wanted = wanted.filter(|(_, ty)| !ty.is_vector()).collect();
            let mut extractor = Extractor::new(Some(IdKind::String), true, wanted, 0);
            let mut pushed = 0;
            while pushed < count && extractor.push(page.row(5 + pushed)).is_ok() {
                pushed += 1;
            }
            if pushed == count {
                let (ids, columns) = extractor.finish();
                prop_assert_eq!(ids.expect("they were wanted").len(), count as usize);
                for (_, column) in columns {
                    column.to_data().validate_full().expect("what is decoded is valid");
                }
            }
        }
    }

    /// Behind a checksum that is right.
    #[test]
    fn any_hot_region_decodes_or_fails(bytes in damaged(a_region().0)) {
        let place = HotPlace { len: bytes.len() as u32, crc: crc32c::crc32c(&bytes), ..a_region().1 };
        let _ = Hot::decode(&bytes.into(), place);
    }
}

fn a_segment() -> (Encoded, Hot) {
    let (attributes, rows) = every_type(IdKind::String, 400, |i| FILLS[i % 4]);
    let encoded = encode_with(ID, &rows, &schema(&attributes), &OPTIONS, Compression::None);
    let (region, place) = region_of(&encoded);
    let hot = Hot::decode(&region.into(), place).expect("it is whole");
    (encoded, hot)
}

fn region_of(encoded: &Encoded) -> (Vec<u8>, HotPlace) {
    let meta = &encoded.meta;
    let place = HotPlace {
        offset: meta.hot_offset,
        len: meta.hot_len,
        crc: meta.hot_crc,
    };
    let start = meta.hot_offset as usize;
    (encoded.bytes[start..start + meta.hot_len as usize].to_vec(), place)
}

fn a_region() -> (Vec<u8>, HotPlace) {
    let (attributes, rows) = every_type(IdKind::String, 4, |_| Fill::Sparse);
    region_of(&encode_with(
        ID,
        &rows,
        &schema(&attributes),
        &OPTIONS,
        Compression::None,
    ))
}

/// The hot bytes of each section, and the section's length.
fn hot_bytes() -> Vec<(SectionKind, Vec<u8>, u64)> {
    let (_, hot) = a_segment();
    let kinds = [
        SectionKind::Pages,
        SectionKind::Column,
        SectionKind::Vectors,
        SectionKind::Ids,
    ];
    let sections = kinds
        .into_iter()
        .flat_map(|kind| hot.sections(kind).collect::<Vec<_>>());
    sections.map(|s| (s.kind, s.hot.to_vec(), s.len)).collect()
}

/// The raw bytes of a page.
fn a_page() -> Vec<u8> {
    let (encoded, hot) = a_segment();
    let section = hot.section(SectionKind::Pages, None).expect("it has rows");
    let index = PageIndex::decode(&section.hot, 400, section.len).expect("it is whole");
    let range = index.range(0);
    let frame = &encoded.bytes[(section.offset + range.start) as usize..(section.offset + range.end) as usize];
    unframe(frame).expect("it is whole")
}

#[test]
fn every_type_has_bytes_of_its_own() {
    for name in EVERY_TYPE {
        let ty = AttrType::parse(name).expect("a valid type");
        let mut bytes = Vec::new();
        put_type(&mut bytes, ty);
        assert_eq!(read_type(&mut Reader::new(&bytes)).expect("it is whole"), ty);
    }
    for tag in 0..=255 {
        let _ = read_type(&mut Reader::new(&[tag, 3]));
    }
}

#[test]
fn zones_enclose_the_values_of_their_block() {
    for (ty, _, array) in blocks() {
        let encoded = super::super::columns::encode(&array, ty, Compression::None).expect("few elements");
        let index = ColumnIndex::decode(&encoded.hot, 40, encoded.cold.len() as u64).expect("it is whole");
        let elements = match &array.data_type() {
            arrow::datatypes::DataType::List(_) => arrow::array::AsArray::as_list::<i32>(&array).values().clone(),
            _ => array.clone(),
        };
        let source = super::super::values::Source::new(&elements);
        let keys = (0..elements.len()).map(|row| source.zone_key(row));
        assert_eq!(
            index.blocks[0].low,
            keys.clone().min().expect("there are values"),
            "{ty}"
        );
        assert_eq!(index.blocks[0].high, keys.max().expect("there are values"), "{ty}");
    }
}
