//! What is wrong with a segment is found, and nothing with one that is right.

use super::*;
use crate::model::FullTextConfig;
use crate::segment::container::{Hot, HotPlace, Section, SectionKind, Writer};

/// A segment with every kind of section.
fn full(seed: u64, kind: IdKind, step: u64) -> (Encoded, Schema) {
    const ROWS: usize = 90;
    let mut attributes = vec![
        attribute(0, "int", true),
        attribute(1, "string", true),
        attribute(2, "[]string", true),
        attribute(3, "[4]f32", false),
        attribute(4, "float", false),
        attribute(5, "string", false),
        attribute(6, "[]int", true),
    ];
    attributes[1].full_text = Some(FullTextConfig::default());
    attributes[2].full_text = Some(FullTextConfig::default());
    attributes[5].glob = true;
    let seeds = |a: u64| (0..ROWS as u64).map(move |row| (row % 5 != a % 5).then(|| mix(row ^ seed ^ a << 40)));
    let columns = attributes.iter().map(|a| {
        let seeds: Vec<_> = seeds(u64::from(a.id.0)).collect();
        (a.id, column(a.ty, &seeds))
    });
    let rows = Rows {
        columns: columns.collect(),
        ids: ids(kind, ROWS, step),
    };
    let schema = schema(&attributes);
    (encode(ID, &rows, &schema, &OPTIONS), schema)
}

fn hot_of(encoded: &Encoded) -> Hot {
    let meta = &encoded.meta;
    let (start, len) = (meta.hot_offset as usize, meta.hot_len as usize);
    let place = HotPlace {
        offset: meta.hot_offset,
        len: meta.hot_len,
        crc: meta.hot_crc,
    };
    Hot::decode(&encoded.bytes.slice(start..start + len), place).expect("just written")
}

/// `a` with one section as it is in `b`.
fn with_foreign(a: &Encoded, b: &Encoded, foreign: &Section) -> Encoded {
    let mut writer = Writer::default();
    let hot = hot_of(a);
    for section in hot.all() {
        let is_foreign = (section.kind, section.attribute) == (foreign.kind, foreign.attribute);
        let (from, section) = if is_foreign { (b, foreign) } else { (a, section) };
        let cold = &from.bytes[section.offset as usize..(section.offset + section.len) as usize];
        let (kind, of) = (section.kind, section.attribute);
        writer.section(kind, of, section.fingerprint, cold, section.hot.clone());
    }
    let (bytes, place) = writer.finish(hot.id, hot.rows, hot.id_kind);
    let meta = SegmentMeta {
        len: bytes.len() as u64,
        hot_offset: place.offset,
        hot_len: place.len,
        hot_crc: place.crc,
        ..a.meta.clone()
    };
    Encoded { bytes, meta }
}

#[tokio::test]
async fn nothing_is_wrong_with_what_was_written() {
    let world = World::new();
    for (i, kind) in [IdKind::UInt, IdKind::Uuid, IdKind::String].into_iter().enumerate() {
        for shift in 0..FILLS.len() {
            let (attributes, rows) = every_type(kind, 40 + i, |at| FILLS[(at + shift) % FILLS.len()]);
            let schema = schema(&attributes);
            let encoded = encode(ID, &rows, &schema, &OPTIONS);
            let segment = world.open(inline(&encoded)).await.expect("whole");
            assert_eq!(segment.verify(&schema).await.expect("readable"), [], "{kind:?} {shift}");
        }
        let (encoded, schema) = full(9, kind, 7);
        let segment = world.stored(&encoded).await;
        assert_eq!(segment.verify(&schema).await.expect("readable"), [], "{kind:?}");
    }
}

#[tokio::test]
async fn a_flipped_bit_in_any_section_is_found() {
    let world = World::new();
    let (encoded, schema) = full(9, IdKind::UInt, 7);
    for section in hot_of(&encoded).all().iter().filter(|s| s.len > 0) {
        for at in [
            section.offset,
            section.offset + section.len / 2,
            section.offset + section.len - 1,
        ] {
            let mut bytes = encoded.bytes.to_vec();
            bytes[at as usize] ^= 4;
            let damaged = Encoded {
                bytes: bytes.into(),
                meta: encoded.meta.clone(),
            };
            world.put(&damaged).await;
            let segment = world.open(encoded.meta.clone()).await.expect("its hot region is whole");
            let flaws = segment.verify(&schema).await.expect("readable");
            let lost = matches!(section.kind, SectionKind::Pages | SectionKind::Vectors);
            let part = if lost { FlawIn::Rows } else { FlawIn::Derived };
            assert_eq!(flaws.len(), 1, "byte {at} of {:?}: {flaws:?}", section.kind);
            assert_eq!(flaws[0].part, part, "byte {at} of {:?}: {flaws:?}", section.kind);
        }
    }
}

#[tokio::test]
async fn what_says_something_else_than_the_rows_is_found_though_it_is_whole() {
    let world = World::new();
    let (a, schema) = full(9, IdKind::UInt, 7);
    let (other_values, _) = full(10, IdKind::UInt, 7);
    let (other_ids, _) = full(9, IdKind::UInt, 11);
    let mut seen = 0;
    for other in [&other_values, &other_ids] {
        for foreign in hot_of(other).all() {
            let mixed = with_foreign(&a, other, foreign);
            let segment = world.open(inline(&mixed)).await.expect("whole");
            let flaws = segment.verify(&schema).await.expect("readable");
            let is_same = {
                let hot = hot_of(&a);
                let own = hot.section(foreign.kind, foreign.attribute).expect("the same sections");
                let cold = |e: &Encoded, s: &Section| e.bytes.slice(s.offset as usize..(s.offset + s.len) as usize);
                own.hot == foreign.hot && cold(&a, own) == cold(other, foreign)
            };
            // Of vectors nothing is derived, and trigrams are not compared.
            let is_unknown = foreign.kind == SectionKind::Vectors || foreign.attribute == Some(AttrId(5));
            assert_eq!(flaws.is_empty(), is_same || is_unknown, "{foreign:?}: {flaws:?}");
            // Foreign pages contradict everything else.
            let only = foreign.kind != SectionKind::Pages;
            assert!(!only || flaws.len() <= 1, "{:?}: {flaws:?}", foreign.kind);
            seen += usize::from(!flaws.is_empty());
        }
    }
    assert!(seen >= 14, "{seen} sections were told apart");
}

#[tokio::test]
async fn a_segment_whose_object_is_gone_is_no_flaw_but_an_error() {
    let world = World::new();
    let (encoded, schema) = full(9, IdKind::UInt, 7);
    let segment = world.stored(&encoded).await;
    let key = paths::segment(&world.ns, ID.0);
    world.store.delete(&key).await.expect("deleted");
    let error = segment.verify(&schema).await.expect_err("it is gone");
    assert!(error.is_missing(), "{error}");
}
