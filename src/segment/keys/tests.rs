use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::model::batch::hash_id;

struct Run {
    index: KeyIndex,
    bloom: Bloom,
    blocks: Bytes,
}

impl Run {
    fn of(kind: IdKind, ids: &[Id]) -> Self {
        Self::open(&encode(&IdColumn::from_ids(kind, ids.iter()))).unwrap()
    }

    fn open(encoded: &EncodedKeys) -> Result<Self, FormatError> {
        Ok(Self {
            index: KeyIndex::open(&encoded.index, encoded.blocks.len() as u64)?,
            bloom: Bloom::open(encoded.bloom.clone())?,
            blocks: encoded.blocks.clone(),
        })
    }

    fn read(&self, range: &Range<u64>) -> Bytes {
        self.blocks.slice(range.start as usize..range.end as usize)
    }

    /// Also says how many ranges were read.
    fn find(&self, ids: &[Id]) -> Result<(Vec<Option<u32>>, usize), FormatError> {
        let lookup = self.index.lookup(&self.bloom, ids);
        let bytes: Vec<Bytes> = lookup.ranges().iter().map(|r| self.read(r)).collect();
        // Some of the blocks here and some there, as they are shared out.
        let half = bytes.len() / 2;
        let mut rows = vec![None; ids.len()];
        for blocks in [0..half, half..bytes.len()] {
            for hit in lookup.hits(&self.index, &bytes, blocks)? {
                rows[hit.id as usize] = Some(hit.row);
            }
        }
        Ok((rows, bytes.len()))
    }

    fn scan(&self, bounds: (Bound<Id>, Bound<Id>), descending: bool, most: u64) -> Result<Vec<(Id, u32)>, FormatError> {
        let mut scan = self.index.scan(bounds, descending);
        let mut found = Vec::new();
        while let Some(range) = scan.wanted(&self.index, most) {
            let block = scan.take(&self.index, most, &self.read(&range))?;
            found.extend((0..block.rows.len()).map(|i| (block.ids.get(i), block.rows[i])));
        }
        Ok(found)
    }

    fn all(&self) -> Result<Vec<(Id, u32)>, FormatError> {
        self.scan((Bound::Unbounded, Bound::Unbounded), false, u64::MAX)
    }
}

fn uint(n: u64) -> Id {
    Id::UInt(n)
}

fn text(s: &str) -> Id {
    Id::String(s.into())
}

fn any_ids() -> impl Strategy<Value = (IdKind, Vec<Id>)> {
    let uints = vec(prop_oneof![0..50u64, any::<u64>(), Just(u64::MAX)], 0..60)
        .prop_map(|ids| (IdKind::UInt, ids.into_iter().map(uint).collect()));
    let uuids = vec(prop_oneof![(0..40u128), any::<u128>()], 0..60).prop_map(|ids| {
        let ids = ids.into_iter().map(|n| Id::Uuid(Uuid::from_u128(n))).collect();
        (IdKind::Uuid, ids)
    });
    let strings = vec("(|prefix/|prefix/deep/)[a-cé]{0,3}", 0..60)
        .prop_map(|ids| (IdKind::String, ids.iter().map(|s| text(s)).collect()));
    prop_oneof![uints, uuids, strings]
}

/// Each id once, in the order of arrival.
fn distinct(ids: Vec<Id>) -> Vec<Id> {
    let mut seen = std::collections::HashSet::new();
    ids.into_iter().filter(|id| seen.insert(id.clone())).collect()
}

/// Many blocks of each kind.
fn large(kind: IdKind) -> Vec<Id> {
    let n = 100_000u64;
    // An odd multiplier modulo a power of two: every number once, in no order.
    let mixed = (0..n).map(|i| i.wrapping_mul(0x9e37_79b1) % (1 << 32));
    match kind {
        IdKind::UInt => mixed.map(uint).collect(),
        IdKind::Uuid => mixed
            .map(|i| Id::Uuid(Uuid::from_u128(u128::from(i) << 64 | 7)))
            .collect(),
        IdKind::String => mixed.map(|i| text(&format!("customers/{:08x}/invoice", i))).collect(),
    }
}

const KINDS: [IdKind; 3] = [IdKind::UInt, IdKind::Uuid, IdKind::String];

proptest! {
    #[test]
    fn finds_what_a_map_finds((kind, ids) in any_ids(), others in any_ids()) {
        let ids = distinct(ids);
        let run = Run::of(kind, &ids);
        let map: BTreeMap<&Id, u32> = ids.iter().zip(0..).collect();
        // Twice, and mixed with ids that may be absent or of another kind.
        let asked: Vec<Id> = ids.iter().chain(&others.1).chain(&ids).cloned().collect();
        let expected: Vec<Option<u32>> = asked.iter().map(|id| map.get(id).copied()).collect();
        prop_assert_eq!(run.find(&asked).unwrap().0, expected);
        let sorted: Vec<(Id, u32)> = map.iter().map(|(id, row)| ((*id).clone(), *row)).collect();
        prop_assert_eq!(run.all().unwrap(), sorted);
    }

    #[test]
    fn damaged_runs_give_errors_or_the_same_answers((kind, ids) in any_ids(), at: usize, bit in 0..8u8, cut: bool) {
        let ids = distinct(ids);
        let whole = encode(&IdColumn::from_ids(kind, ids.iter()));
        let expected = Run::open(&whole).unwrap().all().unwrap();
        for part in 0..3 {
            let mut damaged = whole.clone();
            let bytes = [&mut damaged.index, &mut damaged.bloom, &mut damaged.blocks][part].split_off(0);
            let mut bytes = bytes.to_vec();
            if bytes.is_empty() {
                continue;
            }
            let at = at % bytes.len();
            match cut {
                true => bytes.truncate(at),
                false => bytes[at] ^= 1 << bit,
            }
            [damaged.index, damaged.bloom, damaged.blocks] = {
                let mut parts = [whole.index.clone(), whole.bloom.clone(), whole.blocks.clone()];
                parts[part] = bytes.into();
                parts
            };
            let blocks = damaged.blocks.clone();
            let Ok(run) = Run::open(&damaged) else { continue };
            // The checksum of the hot region catches what is silent in the index.
            if run.blocks.len() == whole.blocks.len() && let Ok(found) = run.all() && part == 2 {
                prop_assert!(found == expected && blocks == whole.blocks);
            }
            let _ = run.find(&ids);
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(index in vec(any::<u8>(), 0..60), blocks in vec(any::<u8>(), 0..60)) {
        let _ = Bloom::open(blocks.clone().into());
        let mut index = index;
        if let Some(first) = index.first_mut() {
            *first = VERSION_WRITTEN;
        }
        let encoded = EncodedKeys { index: index.into(), bloom: Bytes::from_static(&[1, 7, 0, 0, 0, 0, 0, 0]), blocks: blocks.into() };
        if let Ok(run) = Run::open(&encoded) {
            let _ = run.all();
        }
    }

    #[test]
    fn scans_equal_ranges_of_a_map(
        ids in btree_map(0..300u64, Just(()), 0..200),
        low in 0..300u64, high in 0..300u64, kinds in (0..3, 0..3), descending: bool, most in 0..9000u64,
    ) {
        let ids: Vec<Id> = ids.into_keys().map(|n| text(&format!("{n:03}{}", "x".repeat(300)))).collect();
        let run = Run::of(IdKind::String, &ids);
        let bound = |kind, n: u64| match kind {
            0 => Bound::Unbounded,
            1 => Bound::Included(text(&format!("{n:03}{}", "x".repeat(300)))),
            _ => Bound::Excluded(text(&format!("{n:03}{}", "x".repeat(300)))),
        };
        let bounds = (bound(kinds.0, low), bound(kinds.1, high));
        let mut expected: Vec<(Id, u32)> = ids.iter().cloned().zip(0..).filter(|(id, _)| {
            use std::ops::RangeBounds;
            bounds.contains(id)
        }).collect();
        if descending {
            expected.reverse();
        }
        prop_assert_eq!(run.scan(bounds, descending, most).unwrap(), expected);
    }
}

#[test]
fn large_runs_are_found_with_one_read_of_each_block_and_few_bytes() {
    for kind in KINDS {
        let ids = large(kind);
        let run = Run::of(kind, &ids);
        let blocks = run.index.blocks.len();
        assert!(blocks > 20, "{blocks} blocks of {kind:?}");
        let (rows, reads) = run.find(&ids).unwrap();
        assert!((0..).zip(&rows).all(|(i, row)| *row == Some(i)), "{kind:?}");
        assert_eq!(reads, blocks, "each block once");
        assert_eq!(run.find(&ids[77..78]).unwrap(), (vec![Some(77)], 1));
        assert_eq!(run.find(&[]).unwrap(), (vec![], 0));
        let bytes_per_id = run.blocks.len() as f64 / ids.len() as f64;
        assert!(bytes_per_id < 18.0, "{bytes_per_id} bytes per id of {kind:?}");
        for most in [0, 50_000, u64::MAX] {
            let up = run.scan((Bound::Unbounded, Bound::Unbounded), false, most).unwrap();
            let mut down = run.scan((Bound::Unbounded, Bound::Unbounded), true, most).unwrap();
            down.reverse();
            assert_eq!(up.len(), ids.len());
            assert!(up.is_sorted() && up == down);
        }
    }
}

#[test]
fn ids_that_arrived_in_order_take_two_bytes() {
    let ids: Vec<Id> = (1_000_000..1_100_000).map(uint).collect();
    let run = Run::of(IdKind::UInt, &ids);
    assert!(run.blocks.len() < 202_000, "{}", run.blocks.len());
}

#[test]
fn few_absent_ids_cost_a_read() {
    for kind in KINDS {
        let ids = large(kind);
        let (present, absent) = ids.split_at(ids.len() / 2);
        let run = Run::of(kind, present);
        assert!(present.iter().all(|id| run.bloom.may_contain(id)));
        let wrong = absent.iter().filter(|id| run.bloom.may_contain(id)).count();
        assert!(
            wrong * 1000 <= absent.len() * 15,
            "{wrong} of {} {kind:?}",
            absent.len()
        );
        assert!(wrong > 0, "a filter of 10 bits is wrong sometimes");
    }
}

#[test]
fn runs_without_rows_have_no_ids() {
    for kind in KINDS {
        let run = Run::of(kind, &[]);
        assert_eq!(run.find(&[uint(0), text("")]).unwrap(), (vec![None, None], 0));
        assert!(run.all().unwrap().is_empty());
        assert_eq!(run.index.bounds(), None);
    }
}

#[test]
fn extreme_ids_are_found() {
    let longest = "y".repeat(ID_BYTES_MAX);
    let ids = [text(""), text("\0"), text(&longest), text(&longest[1..])];
    let run = Run::of(IdKind::String, &ids);
    assert_eq!(run.find(&ids).unwrap().0, [Some(0), Some(1), Some(2), Some(3)]);
    let ids = [uint(u64::MAX), uint(0)];
    let run = Run::of(IdKind::UInt, &ids);
    assert_eq!(run.find(&ids).unwrap().0, [Some(0), Some(1)]);
    assert_eq!(run.index.bounds(), Some((&uint(0), &uint(u64::MAX))));
}

#[test]
fn one_block_cannot_pass_for_another() {
    let ids = large(IdKind::UInt);
    let run = Run::of(IdKind::UInt, &ids);
    let (first, second) = (&run.index.blocks[0], &run.index.blocks[1]);
    let mut swapped = run.index.clone();
    swapped.blocks[0].bytes = second.bytes.clone();
    swapped.blocks[0].count = second.count;
    let lookup = swapped.lookup(&run.bloom, std::slice::from_ref(&first.first));
    let error = lookup.hits(&swapped, &[run.read(&second.bytes)], 0..1).unwrap_err();
    assert_eq!(error.to_string(), "key block 0 begins with another key");
}

#[test]
fn hashes_of_stored_filters_never_change() {
    assert_eq!(hash_id(&uint(7)), 0x63cb_e1e4_5932_0dd7);
    assert_eq!(hash_id(&text("otter")), 7_583_268_021_618_563_530);
    assert_eq!(hash_id(&Id::Uuid(Uuid::from_u128(7))), 18_294_170_613_856_959_120);
}

/// Written once; later builds must read it and write the same bytes.
#[test]
fn golden_runs_are_read_and_written_alike() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/keys");
    let cases: [(&str, IdKind, Vec<Id>); 3] = [
        ("uint", IdKind::UInt, [9, 3, 1 << 40, 4].map(uint).to_vec()),
        (
            "uuid",
            IdKind::Uuid,
            [5u128, 1 << 100, 6].map(|n| Id::Uuid(Uuid::from_u128(n))).to_vec(),
        ),
        (
            "string",
            IdKind::String,
            ["b/2", "b/1", "", "a", "b/10"].map(text).to_vec(),
        ),
    ];
    for (name, kind, ids) in cases {
        let golden = |part: &str| Bytes::from(std::fs::read(directory.join(format!("v1-{name}.{part}"))).unwrap());
        let (index, bloom, blocks) = (golden("index"), golden("bloom"), golden("blocks"));
        let encoded = encode(&IdColumn::from_ids(kind, ids.iter()));
        assert_eq!(encoded.index, index, "{name}");
        assert_eq!(encoded.bloom, bloom, "{name}");
        assert_eq!(encoded.blocks, blocks, "{name}");
        let run = Run::open(&EncodedKeys { index, bloom, blocks }).unwrap();
        let expected = (0..ids.len() as u32).map(Some).collect();
        assert_eq!(run.find(&ids).unwrap(), (expected, 1));
    }
}
