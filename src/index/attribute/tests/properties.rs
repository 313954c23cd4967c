//! Every answer is what a look at each row gives.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::super::build::build_sized;
use super::super::wire::Sizes;
use super::super::{Group, NullsAt, Predicate, build};
use super::*;
use crate::base::Bitset;
use crate::model::Direction;

/// Rows as the numbers of their values.
pub(super) type Rows = Vec<Option<Vec<usize>>>;

pub(super) fn any_rows() -> impl Strategy<Value = Rows> {
    let values = prop_oneof![2 => 0usize..4, 3 => 0usize..40, 1 => 0usize..400];
    let elements = prop::collection::vec(values, 0..4);
    prop::collection::vec(prop_oneof![1 => Just(None), 5 => elements.prop_map(Some)], 0..150)
}

pub(super) fn any_bound() -> impl Strategy<Value = Bound<usize>> {
    prop_oneof![
        1 => Just(Bound::Unbounded),
        3 => (0usize..60).prop_map(Bound::Included),
        3 => (0usize..60).prop_map(Bound::Excluded),
    ]
}

pub(super) struct Case {
    pub scalar: Scalar,
    pub rows: Vec<Option<Vec<Value>>>,
    pub keys: Vec<Option<Vec<Key>>>,
    pub index: AttributeIndex,
}

impl Case {
    pub fn new(scalar: Scalar, is_array: bool, rows: &Rows, sizes: &Sizes) -> Self {
        let ty = if is_array {
            AttrType::Array(scalar)
        } else {
            AttrType::Scalar(scalar)
        };
        let fit = |row: &Vec<usize>| match is_array {
            true => row.iter().map(|n| value(scalar, *n)).collect(),
            false => vec![value(scalar, row.first().copied().unwrap_or(0))],
        };
        let rows: Vec<Option<Vec<Value>>> = rows.iter().map(|row| row.as_ref().map(fit)).collect();
        let built = build_sized(&column(ty, &rows), &attribute(ty), sizes).expect("it is filterable");
        let (index, _) = open(&built, rows.len(), &attribute(ty)).expect("it was just built");
        let keys = rows
            .iter()
            .map(|row| row.as_ref().map(|v| v.iter().map(key).collect()))
            .collect();
        Self {
            scalar,
            rows,
            keys,
            index,
        }
    }

    fn expected(&self, holds: impl Fn(&[Key]) -> bool) -> Bitset {
        Bitset::from_fn(self.keys.len(), |row| {
            self.keys[row].as_ref().is_some_and(|keys| holds(keys))
        })
    }

    /// Each value with its rows.
    fn by_value(&self) -> BTreeMap<Key, BTreeSet<u32>> {
        let mut all: BTreeMap<Key, BTreeSet<u32>> = BTreeMap::new();
        for (row, keys) in self.keys.iter().enumerate() {
            for key in keys.iter().flatten() {
                all.entry(key.clone()).or_default().insert(row as u32);
            }
        }
        all
    }

    fn nulls(&self) -> Vec<u32> {
        (0..self.keys.len() as u32)
            .filter(|row| self.keys[*row as usize].is_none())
            .collect()
    }

    pub fn bound(&self, bound: &Bound<usize>) -> Bound<Key> {
        bound.map(|n| key(&value(self.scalar, n)))
    }

    fn check(&self, predicate: Predicate, expected: Bitset) {
        let estimate = self.index.estimate(&predicate);
        let matches = now(self.index.evaluate(&predicate)).expect("nothing is damaged");
        assert!(matches.exact);
        assert_eq!(matches.rows, expected, "{:?}", self.rows);
        let count = expected.count() as u64;
        let within = estimate.rows_low <= count && count <= estimate.rows_high;
        assert!(within, "{count} rows, {estimate:?} {:?}", self.rows);
        assert!(estimate.rows_low <= estimate.rows_likely && estimate.rows_likely <= estimate.rows_high);
    }
}

fn check_predicates(case: &Case, low: &Bound<usize>, high: &Bound<usize>, wanted: &[usize]) {
    let (low, high) = (case.bound(low), case.bound(high));
    let within = |key: &Key| key.of().is_from(&low) && key.of().is_to(&high);
    let expected = case.expected(|keys| keys.iter().any(within));
    let (from, to) = (low.clone(), high.clone());
    case.check(Predicate::Range { low: from, high: to }, expected);
    let wanted: Vec<Key> = wanted.iter().map(|n| key(&value(case.scalar, *n))).collect();
    let expected = case.expected(|keys| keys.iter().any(|key| wanted.contains(key)));
    case.check(Predicate::In(wanted.into()), expected);
    case.check(Predicate::NotNull, case.expected(|_| true));
    let mut nulls = case.expected(|_| true);
    nulls.invert();
    case.check(Predicate::Null, nulls);
}

fn check_whole(case: &Case, wanted: &[usize]) {
    let wanted: Vec<Key> = wanted.iter().take(3).map(|n| key(&value(case.scalar, *n))).collect();
    let whole = case.keys.iter().flatten().nth(wanted.len()).cloned();
    for wanted in [Some(wanted), whole].into_iter().flatten() {
        let predicate = Predicate::Whole(wanted.clone().into());
        let matches = now(case.index.evaluate(&predicate)).expect("nothing is damaged");
        let expected = case.expected(|keys| keys == wanted);
        let estimate = case.index.estimate(&predicate);
        let count = matches.rows.count() as u64;
        assert!(
            estimate.rows_low <= count && count <= estimate.rows_high,
            "{count} {estimate:?}"
        );
        if matches.exact {
            assert_eq!(matches.rows, expected);
        } else {
            let mut missed = expected;
            missed.and_not(&matches.rows);
            assert!(missed.none(), "a superset");
        }
    }
}

fn check_order(case: &Case, from: &Bound<usize>) {
    let from = case.bound(from);
    for direction in [Direction::Asc, Direction::Desc] {
        for nulls in [NullsAt::First, NullsAt::Last, NullsAt::Omitted] {
            let mut expected: Vec<(Option<Key>, Vec<u32>)> = case
                .by_value()
                .into_iter()
                .filter(|(key, _)| match direction {
                    Direction::Asc => key.of().is_from(&from),
                    Direction::Desc => key.of().is_to(&from),
                })
                .map(|(key, rows)| (Some(key), rows.into_iter().collect()))
                .collect();
            if direction == Direction::Desc {
                expected.reverse();
            }
            match nulls {
                _ if case.nulls().is_empty() => {}
                NullsAt::First => expected.insert(0, (None, case.nulls())),
                NullsAt::Last => expected.push((None, case.nulls())),
                NullsAt::Omitted => {}
            }
            let mut order = case
                .index
                .order(direction, from.clone(), nulls)
                .expect("there are values");
            let mut found = Vec::new();
            while let Some((key, rows)) = now(order.next()).expect("nothing is damaged") {
                assert_eq!(rows.len(), rows.to_vec().len() as u64);
                found.push((key, rows.to_vec()));
            }
            assert_eq!(found, expected);
        }
    }
}

fn check_groups(case: &Case, seed: u64, after: &Bound<usize>) {
    let rows = case.keys.len();
    let after = case.bound(after);
    for eligible in [
        Bitset::full(rows),
        Bitset::from_fn(rows, |row| seed >> (row % 61) & 1 == 1),
        Bitset::empty(rows),
    ] {
        let eligible = Arc::new(eligible);
        let all: Vec<Group> = case
            .by_value()
            .into_iter()
            .map(|(key, rows)| Group {
                key,
                rows: rows.iter().filter(|row| eligible.contains(**row as usize)).count() as u64,
            })
            .filter(|group| group.rows > 0)
            .collect();
        let mut expected = all.clone();
        expected.retain(|group| group.key.of().is_from(&after));
        let mut found: Vec<Group> = Vec::new();
        let mut next = after.clone();
        loop {
            let some = now(case.index.groups(&eligible, next, 3)).expect("nothing is damaged");
            let some = some.expect("there are values");
            let is_enough = some.groups.len() >= 3 || !some.more;
            assert!(is_enough);
            found.extend(some.groups);
            match found.last() {
                Some(last) if some.more => next = Bound::Excluded(last.key.clone()),
                _ => break,
            }
        }
        assert_eq!(found, expected);
        let distinct = now(case.index.count_distinct(&eligible)).expect("nothing is damaged");
        assert_eq!(distinct, Some(all.len() as u64));
        let extreme = |direction| now(case.index.extreme(&eligible, direction)).expect("nothing is damaged");
        assert_eq!(extreme(Direction::Asc), all.first().map(|g| g.key.clone()));
        assert_eq!(extreme(Direction::Desc), all.last().map(|g| g.key.clone()));
        let nulls = case
            .nulls()
            .iter()
            .filter(|row| eligible.contains(**row as usize))
            .count() as u64;
        assert_eq!(
            now(case.index.count_nulls(&eligible)).expect("nothing is damaged"),
            nulls
        );
    }
}

fn check_directory(case: &Case) {
    let values = case.by_value();
    assert_eq!(case.index.distinct(), Some(values.len() as u32));
    assert_eq!(case.index.null_count() as usize, case.nulls().len());
    let elements: usize = case.keys.iter().flatten().map(Vec::len).sum();
    assert_eq!(case.index.elements(), elements as u64);
    assert_eq!(case.index.zone().is_some(), !values.is_empty());
    if let Some(zone) = case.index.zone() {
        assert!(
            values
                .keys()
                .all(|key| key.of().is_from(&zone.low) && key.of().is_to(&zone.high))
        );
    }
    for key in values.keys() {
        let back = key.value(case.scalar).expect("it is a value of the type");
        assert_eq!(super::key(&back), *key);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn answers_are_those_of_a_scan(
        rows in any_rows(),
        low in any_bound(),
        high in any_bound(),
        wanted in prop::collection::vec(0usize..60, 0..6),
        seed in any::<u64>(),
    ) {
        for scalar in SCALARS {
            for is_array in [false, true] {
                for sizes in [SMALL, Sizes::WRITTEN] {
                    let case = Case::new(scalar, is_array, &rows, &sizes);
                    check_directory(&case);
                    check_predicates(&case, &low, &high, &wanted);
                    if is_array {
                        check_whole(&case, &wanted);
                    }
                    check_order(&case, &low);
                    check_groups(&case, seed, &low);
                }
            }
        }
    }
}

#[test]
fn many_rows_make_bitmaps_and_many_values_blocks_and_few_are_read() {
    let rows = 40_000;
    let ty = AttrType::Scalar(Scalar::Int);
    // Every third row has 7, the others are all different.
    let number = |row: i64| {
        if row % 3 == 0 {
            7
        } else {
            (row * 7919) % 1_000_003 + 1000
        }
    };
    let values: Vec<_> = (0..rows).map(|row| Some(vec![Value::Int(number(row))])).collect();
    let built = build(&column(ty, &values), &attribute(ty)).expect("it is filterable");
    assert!(built.directory.len() < 600, "{}", built.directory.len());
    let (index, memory) = open(&built, rows as usize, &attribute(ty)).expect("it was just built");
    let in_range = |low: i64, high: i64| Predicate::Range {
        low: Bound::Included(Key::int(low)),
        high: Bound::Excluded(Key::int(high)),
    };
    for (low, high) in [
        (7, 8),
        (0, 100_000),
        (1000, i64::MAX),
        (500_000, 500_050),
        (8, 900_000),
        (-5, 7),
    ] {
        let found = now(index.evaluate(&in_range(low, high))).expect("nothing is damaged");
        let expected = Bitset::from_fn(rows as usize, |row| (low..high).contains(&number(row as i64)));
        assert_eq!(found.rows, expected, "{low}..{high}");
        let estimate = index.estimate(&in_range(low, high));
        let read = memory.read.swap(0, Ordering::Relaxed);
        let count = expected.count() as u64;
        assert!(
            (estimate.rows_low..=estimate.rows_high).contains(&count),
            "{count} {estimate:?}"
        );
        assert!(read <= estimate.bytes, "{read} {estimate:?}");
        if high - low < 1000 {
            assert!(read < 40_000, "{low}..{high} read {read} of {}", built.blocks.len());
        }
    }
}

#[test]
fn few_values_are_counted_in_the_directory_alone() {
    let ty = AttrType::Scalar(Scalar::Bool);
    let values: Vec<_> = (0..5000).map(|row| Some(vec![Value::Bool(row % 5 == 0)])).collect();
    let built = build(&column(ty, &values), &attribute(ty)).expect("it is filterable");
    let (index, memory) = open(&built, 5000, &attribute(ty)).expect("it was just built");
    let estimate = index.estimate(&Predicate::In([Key::Word(1)].into()));
    assert_eq!(
        (estimate.rows_low, estimate.rows_likely, estimate.rows_high),
        (1000, 1000, 1000)
    );
    let all = Arc::new(Bitset::full(5000));
    let groups = now(index.groups(&all, Bound::Unbounded, 10))
        .expect("nothing is damaged")
        .expect("there are values");
    let counts: Vec<_> = groups.groups.iter().map(|g| g.rows).collect();
    assert_eq!(counts, [4000, 1000]);
    assert_eq!(memory.read.load(Ordering::Relaxed), 0);
}
