//! Codes and counts answer as the index that they are made of.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::super::{Candidates, Codes, Combined, Pattern, Predicate, build};
use super::properties::{Case, any_bound, any_rows};
use super::*;
use crate::base::Bitset;

fn made(index: &AttributeIndex) -> Option<Codes> {
    now(index.codes()).expect("nothing is damaged")
}

fn predicates(case: &Case, low: &Bound<usize>, high: &Bound<usize>, wanted: &[usize]) -> Vec<Predicate> {
    let keys: Vec<Key> = wanted.iter().map(|n| key(&value(case.scalar, *n))).collect();
    let mut all = vec![
        Predicate::Range {
            low: case.bound(low),
            high: case.bound(high),
        },
        Predicate::In(keys.into()),
        Predicate::NotNull,
    ];
    if case.scalar == Scalar::String {
        all.push(Predicate::Pattern(Pattern {
            candidates: Arc::new(Candidates::pieces(&["1"], false)),
            prefix: Box::default(),
            matches: Arc::new(|bytes| bytes.contains(&b'1')),
        }));
    }
    all
}

fn check(case: &Case, predicate: &Predicate) {
    let rows = case.index.rows() as usize;
    let expected = now(case.index.evaluate(predicate)).expect("nothing is damaged").rows;
    let count = now(case.index.count(predicate)).expect("nothing is damaged");
    if !matches!(predicate, Predicate::Pattern(_)) {
        assert_eq!(count, Some(expected.count() as u64));
    }
    let codes = made(&case.index).expect("values are few");
    assert!(Codes::answer(predicate, &case.index));
    let nulls = now(case.index.nulls()).expect("nothing is damaged");
    for codes in codes.in_all_widths() {
        let held = codes.choose(predicate).expect("it answers");
        for (negated, null) in [(false, false), (false, true), (true, false), (true, true)] {
            let passing = codes.passing(&held, negated, null);
            let passes = |row: usize| match nulls.contains(row) {
                true => null,
                false => expected.contains(row) != negated,
            };
            let wanted = Bitset::from_fn(rows, passes);
            let found = Bitset::from_words(codes.select(&passing, 0..rows), rows);
            assert_eq!(found, wanted, "{negated} {null} {:?}", case.rows);
            assert_eq!(codes.rows_of(&passing), wanted.count() as u64);
            let end = rows.min(64);
            assert_eq!(
                Bitset::from_words(codes.select(&passing, end..rows), rows - end),
                wanted.range(end..rows)
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn codes_are_compared_and_counted_as_values_are(
        rows in any_rows(),
        low in any_bound(),
        high in any_bound(),
        wanted in prop::collection::vec(0usize..60, 0..6),
    ) {
        for scalar in SCALARS {
            for sizes in [SMALL, Sizes::WRITTEN] {
                let case = Case::new(scalar, false, &rows, &sizes);
                predicates(&case, &low, &high, &wanted).iter().for_each(|predicate| check(&case, predicate));
                let arrays = Case::new(scalar, true, &rows, &sizes);
                prop_assert_eq!(made(&arrays.index), None);
                for predicate in predicates(&arrays, &low, &high, &wanted) {
                    prop_assert_eq!(now(arrays.index.count(&predicate)).expect("nothing is damaged"), None);
                }
            }
        }
    }

    #[test]
    fn every_row_has_the_values_of_its_number(
        (one, other) in any_rows().prop_flat_map(|one| {
            let len = one.len();
            (Just(one), prop::collection::vec(prop::option::of(0usize..9), len))
        }),
        seed in any::<u64>(),
    ) {
        let other: Vec<_> = other.into_iter().map(|n| n.map(|n| vec![n])).collect();
        let case = |scalar, rows| Case::new(scalar, false, rows, &SMALL);
        let cases = [case(Scalar::String, &one), case(Scalar::Float, &other)];
        let codes: Vec<_> = cases.iter().map(|c| Arc::new(made(&c.index).expect("values are few"))).collect();
        let len: u32 = codes.iter().map(|c| c.count()).product();
        prop_assert!(Combined::new(codes.clone(), len - 1).is_none());
        let combined = Combined::new(codes, len).expect("it is as many");
        prop_assert_eq!(combined.len(), len as usize);
        let rows = one.len();
        let chosen = Bitset::from_fn(rows, |row| seed >> (row % 61) & 1 == 1);
        for (start, set) in [(0, Bitset::full(rows)), (0, chosen.clone()), (64, chosen.range(64.min(rows)..rows))] {
            let (mut counts, mut seen) = (vec![0; combined.len()], Vec::new());
            combined.each(start, &set, |row, number| {
                let values: Vec<_> = combined.parts(number).map(|(codes, code)| codes.key(code)).collect();
                let expected: Vec<_> = cases.iter().map(|c| c.keys[row].as_ref().map(|keys| keys[0].clone())).collect();
                assert_eq!(values, expected);
                counts[number as usize] += 1;
                seen.push(row - start);
            });
            prop_assert_eq!(seen, set.iter().collect::<Vec<_>>());
            prop_assert_eq!(combined.count(start, &set), counts);
        }
    }
}

#[test]
fn a_count_reads_the_ends_of_a_range_alone() {
    let rows = 40_000;
    let ty = AttrType::Scalar(Scalar::Int);
    let values: Vec<_> = (0..rows).map(|row| Some(vec![Value::Int(row)])).collect();
    let built = build(&column(ty, &values), &attribute(ty)).expect("it is filterable");
    let (index, memory) = open(&built, rows as usize, &attribute(ty)).expect("it was just built");
    let range = Predicate::Range {
        low: Bound::Included(Key::int(7)),
        high: Bound::Excluded(Key::int(39_990)),
    };
    assert_eq!(now(index.count(&range)).expect("nothing is damaged"), Some(39_983));
    let read = memory.read.load(Ordering::Relaxed);
    assert!(read > 0 && read < 40_000, "{read} of {}", built.blocks.len());
}

#[test]
fn values_of_few_rows_each_have_no_codes_when_they_are_many() {
    let ty = AttrType::Scalar(Scalar::UInt);
    let column = Column::Values(Arc::new(UInt64Array::from_iter_values(0..70_000)));
    let built = build(&column, &attribute(ty)).expect("it is filterable");
    let (index, memory) = open(&built, 70_000, &attribute(ty)).expect("it was just built");
    assert!(index.codes_bytes().is_none() && made(&index).is_none());
    assert_eq!(memory.read.load(Ordering::Relaxed), 0);
}

#[test]
fn few_and_many_values_have_codes_of_the_width_that_they_need() {
    let ty = AttrType::Scalar(Scalar::UInt);
    for (values, width) in [(255u64, 1), (256, 2), (65_535, 2), (65_536, 4)] {
        let rows = if width == 4 { values * 8 } else { values * 2 };
        let column = Column::Values(Arc::new(UInt64Array::from_iter_values(
            (0..rows).map(|row| row % values),
        )));
        let built = build(&column, &attribute(ty)).expect("it is filterable");
        let (index, _) = open(&built, rows as usize, &attribute(ty)).expect("it was just built");
        let codes = made(&index).expect("there are few enough");
        assert_eq!(u64::from(codes.count()), values + 1);
        let other = 12 * values as usize + 512;
        assert!(
            codes.memory_bytes() <= rows as usize * width + other,
            "{}",
            codes.memory_bytes()
        );
        let last = codes
            .choose(&Predicate::In([Key::Word(values - 1)].into()))
            .expect("it answers");
        let found = Bitset::from_words(codes.select(&last, 0..rows as usize), rows as usize);
        assert_eq!(
            found,
            Bitset::from_fn(rows as usize, |row| row as u64 % values == values - 1)
        );
    }
}
