//! Damaged and foreign bytes are errors.

use std::ops::Bound;
use std::sync::Arc;

use proptest::prelude::*;

use super::super::build::build_sized;
use super::super::directory::{Directory, Shape};
use super::super::rows::decode_bitmap;
use super::super::wire::{CRC_BYTES, seal};
use super::super::{AttributeIndexError, Candidates, NullsAt, Pattern, Predicate, build, fingerprint};
use super::*;
use crate::base::Bitset;
use crate::model::Direction;

const TEXTS: AttrType = AttrType::Array(Scalar::String);

fn searched() -> Attribute {
    Attribute {
        glob: true,
        ..attribute(TEXTS)
    }
}

/// Some of everything: nulls, empty arrays, repeated elements, frequent and rare values.
fn texts() -> Vec<Option<Vec<Value>>> {
    let row = |i: usize| match i % 11 {
        0 => None,
        1 => Some(vec![]),
        2 => Some(vec![value(Scalar::String, i % 7), value(Scalar::String, i % 7)]),
        _ => Some(vec![value(Scalar::String, i / 4), Value::String("often".into())]),
    };
    (0..300).map(row).collect()
}

fn numbers() -> Vec<Option<Vec<Value>>> {
    (0..300)
        .map(|i| (i % 13 != 0).then(|| vec![value(Scalar::Float, i / 3)]))
        .collect()
}

/// Asks for everything; what the answers are does not matter.
fn use_all(index: &AttributeIndex) -> Result<()> {
    let pattern = Pattern {
        candidates: Arc::new(Candidates::pieces(&["abc1"], false)),
        prefix: Box::default(),
        matches: Arc::new(|_| true),
    };
    for predicate in [
        Predicate::Range {
            low: Bound::Unbounded,
            high: Bound::Unbounded,
        },
        Predicate::In([Key::bytes("often")].into()),
        Predicate::Null,
        Predicate::Whole([Key::bytes("a"), Key::bytes("often")].into()),
        Predicate::Pattern(pattern),
    ] {
        index.estimate(&predicate);
        now(index.evaluate(&predicate))?;
        now(index.count(&predicate))?;
    }
    let mut order = index
        .order(Direction::Desc, Bound::Unbounded, NullsAt::Last)
        .expect("there are values");
    while now(order.next())?.is_some() {}
    let eligible = Arc::new(Bitset::from_fn(index.rows() as usize, |row| row % 2 == 0));
    now(index.groups(&eligible, Bound::Unbounded, usize::MAX))?;
    now(index.codes())?;
    Ok(())
}

fn small() -> Built {
    build_sized(&column(TEXTS, &texts()), &searched(), &SMALL).expect("it is filterable")
}

#[test]
fn truncated_directories_are_damaged() {
    let built = small();
    for len in 0..built.directory.len() {
        let cut = Built {
            directory: built.directory.slice(..len),
            ..built.clone()
        };
        assert!(
            matches!(open(&cut, 300, &searched()), Err(AttributeIndexError::Damaged(_))),
            "{len}"
        );
    }
    let cut = Built {
        blocks: built.blocks.slice(1..),
        ..built.clone()
    };
    assert!(open(&cut, 300, &searched()).is_err());
    assert!(open(&built, 299, &searched()).is_err());
    let (index, _) = open(&built, 300, &searched()).expect("whole");
    use_all(&index).expect("whole");
}

#[test]
fn other_options_and_versions_are_told() {
    let built = small();
    for other in [
        Attribute {
            filterable: false,
            ..searched()
        },
        Attribute {
            glob: false,
            ..searched()
        },
        Attribute {
            ty: AttrType::Scalar(Scalar::String),
            ..searched()
        },
        Attribute {
            ty: AttrType::Array(Scalar::Uuid),
            ..searched()
        },
        Attribute {
            filterable: false,
            glob: false,
            ..searched()
        },
    ] {
        assert!(
            matches!(open(&built, 300, &other), Err(AttributeIndexError::OtherOptions)),
            "{other:?}"
        );
        assert_ne!(fingerprint(&other), fingerprint(&searched()));
    }
    // Which of the options needs the trigrams does not matter.
    let other = Attribute {
        glob: false,
        fuzzy: true,
        ..searched()
    };
    assert!(open(&built, 300, &other).is_ok());
    let mut bytes = built.directory.to_vec();
    bytes[8] = 9;
    let newer = Built {
        directory: bytes.into(),
        ..built
    };
    assert!(matches!(
        open(&newer, 300, &searched()),
        Err(AttributeIndexError::Version(9))
    ));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_flipped_bit_is_found(at in any::<prop::sample::Index>(), bit in 0..8) {
        let built = small();
        let mut directory = built.directory.to_vec();
        directory[at.index(built.directory.len())] ^= 1u8 << bit;
        let flipped = Built { directory: directory.into(), ..built.clone() };
        prop_assert!(open(&flipped, 300, &searched()).is_err());
        let mut blocks = built.blocks.to_vec();
        blocks[at.index(built.blocks.len())] ^= 1u8 << bit;
        let flipped = Built { blocks: blocks.into(), ..built };
        let (index, _) = open(&flipped, 300, &searched()).expect("the directory is whole");
        // Some of the blocks may be of no use for these questions.
        let _ = use_all(&index);
    }

    /// Behind right checksums, too.
    #[test]
    fn forged_directories_do_not_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let built = small();
        let mut bytes = built.directory[..built.directory.len() - CRC_BYTES].to_vec();
        for (at, byte) in changes {
            // Behind magic, version and fingerprint.
            let at = 20 + at.index(bytes.len() - 20);
            bytes[at] = byte;
        }
        seal(&mut bytes, 0);
        let forged = Built { directory: bytes.into(), ..built };
        if let Ok((index, _)) = open(&forged, 300, &searched()) {
            let _ = use_all(&index);
        }
    }

    #[test]
    fn forged_blocks_do_not_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        for (ty, rows, attribute) in [
            (TEXTS, texts(), searched()),
            (AttrType::Scalar(Scalar::Float), numbers(), attribute(AttrType::Scalar(Scalar::Float))),
        ] {
            let built = build_sized(&column(ty, &rows), &attribute, &SMALL).expect("it is filterable");
            let shape = Shape::of(&attribute).expect("it is filterable");
            let area = built.blocks.len() as u64;
            let directory = Directory::decode(&built.directory, shape, 300, area).expect("it was just built");
            let values = directory.values.expect("it is filterable");
            let mut blocks = built.blocks.to_vec();
            for (at, byte) in &changes {
                let block = &values.blocks[at.index(values.blocks.len())].at;
                let (start, end) = (block.start as usize, block.end as usize - CRC_BYTES);
                blocks[start + at.index(end - start)] = *byte;
                let mut sealed = blocks[start..end].to_vec();
                seal(&mut sealed, 0);
                blocks[start..end + CRC_BYTES].copy_from_slice(&sealed);
            }
            let forged = Built { blocks: blocks.into(), ..built };
            let (index, _) = open(&forged, 300, &attribute).expect("the directory is whole");
            let _ = use_all(&index);
        }
    }

    #[test]
    fn forged_bitmaps_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), cookie in prop::option::of(0u8..2)) {
        let mut forged = match cookie {
            None => Vec::new(),
            Some(0) => vec![0x3a, 0x30, 0, 0],
            Some(_) => vec![0x3b, 0x30, 0, 0],
        };
        forged.extend(bytes);
        seal(&mut forged, 0);
        let _ = decode_bitmap(&forged, 3, 1000);
    }
}

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/attribute-index/");

/// A new version writes its files once: run this with `SHOAL_WRITE_GOLDEN=1` where there are none. Not with other
/// releases of the crate roaring, whose bytes are specified, but not its choice between them.
#[test]
fn the_golden_indexes_of_version_1_still_read_the_same() {
    let float = AttrType::Scalar(Scalar::Float);
    for (name, ty, rows, attribute) in [
        ("v1-texts.bin", TEXTS, texts(), searched()),
        ("v1-floats.bin", float, numbers(), attribute(float)),
    ] {
        let path = format!("{GOLDEN}{name}");
        let built = build(&column(ty, &rows), &attribute).expect("it is filterable");
        if !std::path::Path::new(&path).exists() && std::env::var_os("SHOAL_WRITE_GOLDEN").is_some() {
            let len = (built.directory.len() as u32).to_le_bytes();
            std::fs::write(&path, [&len[..], &built.directory, &built.blocks].concat()).expect("the directory exists");
        }
        let bytes = Bytes::from(std::fs::read(&path).expect("the golden file is in the repository"));
        let len = u32::from_le_bytes(*bytes.first_chunk().expect("a length")) as usize;
        let golden = Built {
            directory: bytes.slice(4..4 + len),
            blocks: bytes.slice(4 + len..),
        };
        let answers = |built: &Built| {
            let (index, _) = open(built, rows.len(), &attribute).expect("a version that is still supported");
            let mut order = index
                .order(Direction::Asc, Bound::Unbounded, NullsAt::First)
                .expect("there are values");
            let mut all = Vec::new();
            while let Some((key, rows)) = now(order.next()).expect("it is whole") {
                all.push((key, rows.to_vec()));
            }
            use_all(&index).expect("it is whole");
            all
        };
        assert_eq!(answers(&golden), answers(&built));
        assert_eq!(golden, built, "bytes changed: that is a new version");
    }
}
