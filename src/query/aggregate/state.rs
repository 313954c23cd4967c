//! Aggregates of many groups at a time, column by column.
//!
//! The rules for nulls, and for groups without a value, are here and nowhere else:
//!
//! | aggregate | of nulls | without any value |
//! | --- | --- | --- |
//! | `Count` | counts the row | 0 |
//! | `Sum` | nothing | 0 |
//! | `Min`, `Max`, `Avg` | nothing | null |
//! | `CountDistinct` | nothing | 0 |
//! | `Top` | nothing | an empty list |
//!
//! A null array has no elements, as an empty one.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::hash::Hash;
use std::ops::Range;

use arrow::buffer::NullBuffer;
use hashbrown::HashMap;

use super::bind::{BoundAggregation, Function};
use super::exact_sum::{ExactSum, ManyFloats};
use super::{Tally, distinct_words};
use crate::base::Bitset;
use crate::index::attribute::{Group, Key};
use crate::model::{Invalid, Scalar, Value};
use crate::query::AggregateValue;
use crate::query::key::{Source, SourceColumn, int_word, value_of_bytes, value_of_word, word};
use crate::query::values::{ListView, ScalarView, Values};

/// Rows, and the group that each is in.
pub(super) enum Members<'a> {
    /// All are in group 0; bit 0 is row `start`.
    All { start: usize, rows: &'a Bitset },
    /// Row and group; a row may be in several groups.
    Grouped(&'a [(u32, u32)]),
}

/// What was computed so far of every aggregate and group.
pub(super) struct Counted {
    states: Vec<State>,
    budget: Budget,
}

/// Memory for distinct values. Which values a job holds are all in the answer, so that whether they fit does not
/// depend on how rows are dealt out.
struct Budget {
    used_bytes: usize,
    bytes_max: usize,
}

/// What a distinct value takes besides its bytes: its slot in a table, its count.
const DISTINCT_BYTES: usize = 64;

impl Budget {
    /// Whether there is room, which is taken.
    fn take(&mut self, bytes: usize) -> bool {
        self.used_bytes = self.used_bytes.saturating_add(DISTINCT_BYTES + bytes);
        self.used_bytes <= self.bytes_max
    }

    fn check(&self) -> Result<(), Invalid> {
        match self.used_bytes <= self.bytes_max {
            true => Ok(()),
            false => Err(Invalid::new(format!(
                "CountDistinct and Top meet more distinct values than fit into {} bytes; narrow the filter or ask for \
                 fewer groups",
                self.bytes_max
            ))),
        }
    }
}

/// One aggregate; everything is by group.
enum State {
    /// Rows.
    Rows(Vec<u64>),
    Ints {
        sums: Vec<i128>,
        counts: Vec<u64>,
    },
    Floats {
        sums: Vec<ExactSum>,
        counts: Vec<u64>,
    },
    /// The value that is `keep` than all others, as a word.
    ExtremeWords {
        extremes: Vec<Option<u64>>,
        keep: Ordering,
    },
    /// The same as bytes.
    ExtremeBytes {
        extremes: Vec<Option<Box<[u8]>>>,
        keep: Ordering,
    },
    /// In how many rows each value is, as a word.
    WordTally(Vec<HashMap<u64, u64>>),
    /// The same as bytes.
    ByteTally(Vec<HashMap<Box<[u8]>, u64>>),
}

impl Counted {
    pub fn new(asked: &BoundAggregation, groups: usize) -> Self {
        Self {
            states: asked
                .aggregates
                .iter()
                .map(|a| State::new(a.function, groups))
                .collect(),
            budget: Budget {
                used_bytes: 0,
                bytes_max: asked.distinct_bytes_max,
            },
        }
    }

    /// Adds rows.
    ///
    /// * `columns` — one per aggregate; any for one without source
    ///
    /// # Errors
    ///
    /// There are too many distinct values.
    pub fn add(&mut self, columns: &[SourceColumn<'_>], members: &Members<'_>) -> Result<(), Invalid> {
        for (state, column) in self.states.iter_mut().zip(columns) {
            state.add(column, members, &mut self.budget);
        }
        self.budget.check()
    }

    /// Adds rows to a group, where rows alone are counted.
    pub fn add_rows(&mut self, group: usize, rows: u64) {
        for state in &mut self.states {
            if let State::Rows(counts) = state {
                counts[group] += rows;
            }
        }
    }

    /// Adds what is known of the rows of a segment, which are all in group 0.
    ///
    /// # Errors
    ///
    /// There are too many distinct values.
    pub fn add_tally(&mut self, asked: &BoundAggregation, tally: &Tally) -> Result<(), Invalid> {
        self.add_rows(0, tally.rows);
        for (state, (aggregate, values)) in self.states.iter_mut().zip(asked.aggregates.iter().zip(&tally.values)) {
            for Group { key, rows } in values {
                state.add_value(aggregate.function, key, *rows, &mut self.budget);
            }
            self.budget.check()?;
        }
        Ok(())
    }

    /// Adds what was computed of other rows.
    ///
    /// # Errors
    ///
    /// There are too many distinct values.
    pub fn merge(&mut self, other: Self) -> Result<(), Invalid> {
        for (state, other) in self.states.iter_mut().zip(other.states) {
            state.merge(other, &mut self.budget);
        }
        self.budget.check()
    }

    /// The value of an aggregate of a group.
    pub fn value(&self, aggregate: usize, function: Function, group: usize) -> AggregateValue {
        self.states[aggregate].value(function, group)
    }
}

impl Members<'_> {
    fn count(&self, counts: &mut [u64]) {
        match self {
            Members::All { rows, .. } => counts[0] += rows.count() as u64,
            Members::Grouped(members) => members.iter().for_each(|(_, group)| counts[*group as usize] += 1),
        }
    }

    /// Calls `visit` with every row that is not null, and its group.
    fn each_present(&self, nulls: Option<&NullBuffer>, mut visit: impl FnMut(usize, usize)) {
        match self {
            Members::All { start, rows } => {
                let present = present(*start, rows, nulls);
                present.iter().for_each(|row| visit(start + row, 0));
            }
            Members::Grouped(members) => {
                let nulls = nulls.filter(|n| n.null_count() > 0);
                for (row, group) in *members {
                    if nulls.is_none_or(|n| n.is_valid(*row as usize)) {
                        visit(*row as usize, *group as usize);
                    }
                }
            }
        }
    }
}

/// The rows that are not null.
fn present<'a>(start: usize, rows: &'a Bitset, nulls: Option<&NullBuffer>) -> Cow<'a, Bitset> {
    let Some(nulls) = nulls.filter(|n| n.null_count() > 0) else {
        return Cow::Borrowed(rows);
    };
    let valid = nulls.inner().slice(start, rows.len());
    let mut present = Bitset::from_words(valid.bit_chunks().iter_padded().collect(), rows.len());
    present.and(rows);
    Cow::Owned(present)
}

/// Calls `visit` with ranges that make up the set. Most sets are dense, and loops over slices fast.
fn each_run(set: &Bitset, mut visit: impl FnMut(Range<usize>)) {
    let mut full_since = None;
    for (i, word) in set.words().iter().enumerate() {
        let base = i * 64;
        if *word == u64::MAX {
            full_since.get_or_insert(base);
            continue;
        }
        if let Some(start) = full_since.take() {
            visit(start..base);
        }
        let mut word = *word;
        while word != 0 {
            let from = word.trailing_zeros();
            let count = (word >> from).trailing_ones();
            visit(base + from as usize..base + (from + count) as usize);
            word &= !(((1u64 << count) - 1) << from);
        }
    }
    if let Some(start) = full_since {
        visit(start..set.len());
    }
}

impl State {
    fn new(function: Function, groups: usize) -> Self {
        let tally = |source: Source| match source.has_words() {
            true => State::WordTally(vec![HashMap::new(); groups]),
            false => State::ByteTally(vec![HashMap::new(); groups]),
        };
        let extreme = |source: Source, keep| match source.has_words() {
            true => State::ExtremeWords {
                extremes: vec![None; groups],
                keep,
            },
            false => State::ExtremeBytes {
                extremes: vec![None; groups],
                keep,
            },
        };
        match function {
            Function::Count => State::Rows(vec![0; groups]),
            Function::Sum(source) | Function::Avg(source) => match source.scalar {
                Scalar::Float => State::Floats {
                    sums: vec![ExactSum::default(); groups],
                    counts: vec![0; groups],
                },
                _ => State::Ints {
                    sums: vec![0; groups],
                    counts: vec![0; groups],
                },
            },
            Function::Min(source) => extreme(source, Ordering::Less),
            Function::Max(source) => extreme(source, Ordering::Greater),
            Function::CountDistinct(source) | Function::Top(source, _) => tally(source),
        }
    }

    fn add(&mut self, column: &SourceColumn<'_>, members: &Members<'_>, budget: &mut Budget) {
        match (self, column) {
            (State::Rows(counts), _) => members.count(counts),
            (_, SourceColumn::Null) => {}
            (State::Ints { sums, counts }, SourceColumn::Scalars(view)) => add_ints(view, members, sums, counts),
            (State::Floats { sums, counts }, SourceColumn::Scalars(view)) => add_floats(view, members, sums, counts),
            (State::ExtremeWords { extremes, keep }, SourceColumn::Scalars(view)) => {
                members.each_present(view.nulls, |row, group| {
                    let value = word(view.values, row).expect("the state was chosen by the column's type");
                    if extremes[group].is_none_or(|known| value.cmp(&known) == *keep) {
                        extremes[group] = Some(value);
                    }
                });
            }
            (State::ExtremeBytes { extremes, keep }, SourceColumn::Scalars(view)) => {
                members.each_present(view.nulls, |row, group| {
                    let value = view
                        .values
                        .bytes(row)
                        .expect("the state was chosen by the column's type");
                    keep_bytes(&mut extremes[group], value, *keep);
                });
            }
            (State::WordTally(tallies), SourceColumn::Scalars(view)) => {
                members.each_present(view.nulls, |row, group| {
                    let value = word(view.values, row).expect("the state was chosen by the column's type");
                    count_word(&mut tallies[group], value, 1, budget);
                });
            }
            (State::WordTally(tallies), SourceColumn::Lists(view)) => {
                let mut words = Vec::new();
                members.each_present(view.nulls, |row, group| {
                    distinct_words(view, row, &mut words);
                    for value in &words {
                        count_word(&mut tallies[group], *value, 1, budget);
                    }
                });
            }
            (State::ByteTally(tallies), SourceColumn::Scalars(view)) => {
                members.each_present(view.nulls, |row, group| {
                    let value = view
                        .values
                        .bytes(row)
                        .expect("the state was chosen by the column's type");
                    count_bytes(&mut tallies[group], value, 1, budget);
                });
            }
            (State::ByteTally(tallies), SourceColumn::Lists(view)) => {
                members.each_present(view.nulls, |row, group| {
                    for value in distinct_bytes(view, row) {
                        count_bytes(&mut tallies[group], value, 1, budget);
                    }
                });
            }
            (State::Ints { .. } | State::Floats { .. }, SourceColumn::Lists(_))
            | (State::ExtremeWords { .. } | State::ExtremeBytes { .. }, SourceColumn::Lists(_)) => {
                unreachable!("the binder gives arrays to tallies only")
            }
        }
    }

    /// Adds a value that `rows` rows of group 0 have.
    fn add_value(&mut self, function: Function, key: &Key, rows: u64, budget: &mut Budget) {
        match (self, key) {
            (State::Ints { sums, counts }, Key::Word(word)) => {
                let value = match function.source().map(|s| value_of_word(s.scalar, *word)) {
                    Some(Value::Int(x)) => i128::from(x),
                    Some(Value::UInt(x)) => i128::from(x),
                    _ => unreachable!("sums of integers are of integers"),
                };
                sums[0] += value * i128::from(rows);
                counts[0] += rows;
            }
            (State::Floats { sums, counts }, Key::Word(word)) => {
                let Value::Float(value) = value_of_word(Scalar::Float, *word) else {
                    unreachable!("sums of floats are of floats");
                };
                sums[0].add_times(value, rows);
                counts[0] += rows;
            }
            (State::ExtremeWords { extremes, keep }, Key::Word(value)) => {
                if extremes[0].is_none_or(|known| value.cmp(&known) == *keep) {
                    extremes[0] = Some(*value);
                }
            }
            (State::ExtremeBytes { extremes, keep }, Key::Bytes(value)) => keep_bytes(&mut extremes[0], value, *keep),
            (State::WordTally(tallies), Key::Word(value)) => count_word(&mut tallies[0], *value, rows, budget),
            (State::ByteTally(tallies), Key::Bytes(value)) => count_bytes(&mut tallies[0], value, rows, budget),
            _ => unreachable!("the state was chosen by the attribute's type"),
        }
    }

    fn merge(&mut self, other: Self, budget: &mut Budget) {
        match (self, other) {
            (State::Rows(counts), State::Rows(others)) => add_each(counts, &others),
            (State::Ints { sums, counts }, State::Ints { sums: s, counts: c }) => {
                add_each(sums, &s);
                add_each(counts, &c);
            }
            (State::Floats { sums, counts }, State::Floats { sums: s, counts: c }) => {
                sums.iter_mut().zip(&s).for_each(|(sum, other)| sum.merge(other));
                add_each(counts, &c);
            }
            (State::ExtremeWords { extremes, keep }, State::ExtremeWords { extremes: others, .. }) => {
                for (known, other) in extremes.iter_mut().zip(others) {
                    if let Some(value) = other
                        && known.is_none_or(|known| value.cmp(&known) == *keep)
                    {
                        *known = Some(value);
                    }
                }
            }
            (State::ExtremeBytes { extremes, keep }, State::ExtremeBytes { extremes: others, .. }) => {
                for (known, other) in extremes.iter_mut().zip(others) {
                    if let Some(value) = other {
                        keep_bytes(known, &value, *keep);
                    }
                }
            }
            (State::WordTally(tallies), State::WordTally(others)) => {
                for (tally, other) in tallies.iter_mut().zip(others) {
                    other
                        .into_iter()
                        .for_each(|(value, rows)| count_word(tally, value, rows, budget));
                }
            }
            (State::ByteTally(tallies), State::ByteTally(others)) => {
                for (tally, other) in tallies.iter_mut().zip(others) {
                    other
                        .into_iter()
                        .for_each(|(value, rows)| count_bytes(tally, &value, rows, budget));
                }
            }
            _ => unreachable!("jobs of one query have the same states"),
        }
    }

    fn value(&self, function: Function, group: usize) -> AggregateValue {
        let value = match (self, function) {
            (State::Rows(counts), _) => Value::UInt(counts[group]),
            (State::Ints { sums, counts }, Function::Avg(_)) => match counts[group] {
                0 => Value::Null,
                n => Value::Float(sums[group] as f64 / n as f64),
            },
            (State::Ints { sums, .. }, _) => integer(sums[group]),
            (State::Floats { sums, counts }, Function::Avg(_)) => match counts[group] {
                0 => Value::Null,
                n => sums[group].mean(n).map_or(Value::Null, Value::Float),
            },
            // JSON has no number for a sum beyond the range of floats.
            (State::Floats { sums, .. }, _) => sums[group].rounded().map_or(Value::Null, Value::Float),
            (State::ExtremeWords { extremes, .. }, Function::Min(source) | Function::Max(source)) => {
                extremes[group].map_or(Value::Null, |word| value_of_word(source.scalar, word))
            }
            (State::ExtremeBytes { extremes, .. }, Function::Min(source) | Function::Max(source)) => {
                let known = extremes[group].as_deref();
                known.map_or(Value::Null, |bytes| value_of_bytes(source.scalar, bytes))
            }
            (State::WordTally(tallies), Function::Top(source, limit)) => {
                return AggregateValue::Top(most_frequent(&tallies[group], limit, |word| {
                    value_of_word(source.scalar, *word)
                }));
            }
            (State::ByteTally(tallies), Function::Top(source, limit)) => {
                return AggregateValue::Top(most_frequent(&tallies[group], limit, |bytes| {
                    value_of_bytes(source.scalar, bytes)
                }));
            }
            (State::WordTally(tallies), _) => Value::UInt(tallies[group].len() as u64),
            (State::ByteTally(tallies), _) => Value::UInt(tallies[group].len() as u64),
            (State::ExtremeWords { .. } | State::ExtremeBytes { .. }, _) => {
                unreachable!("the state was made for another aggregate")
            }
        };
        AggregateValue::Value(value)
    }
}

/// An exact sum as the integer that it is, or the nearest float where no type has it.
fn integer(sum: i128) -> Value {
    match (i64::try_from(sum), u64::try_from(sum)) {
        (Ok(int), _) => Value::Int(int),
        (_, Ok(uint)) => Value::UInt(uint),
        _ => Value::Float(sum as f64),
    }
}

fn add_each<T: Copy + std::ops::AddAssign>(sums: &mut [T], others: &[T]) {
    sums.iter_mut().zip(others).for_each(|(sum, other)| *sum += *other);
}

fn add_ints(view: &ScalarView<'_>, members: &Members<'_>, sums: &mut [i128], counts: &mut [u64]) {
    match (members, view.values) {
        (Members::All { start, rows }, Values::I64(v)) => {
            let v = &v[*start..];
            each_run(&present(*start, rows, view.nulls), |run| {
                counts[0] += run.len() as u64;
                // The word of an int is 2^63 more than the int.
                let excess = (run.len() as i128) << 63;
                sums[0] += sum_words(v[run].iter().map(|x| int_word(*x))) - excess;
            });
        }
        (Members::All { start, rows }, Values::U64(v)) => {
            let v = &v[*start..];
            each_run(&present(*start, rows, view.nulls), |run| {
                counts[0] += run.len() as u64;
                sums[0] += sum_words(v[run].iter().copied());
            });
        }
        (_, Values::I64(v)) => members.each_present(view.nulls, |row, group| {
            counts[group] += 1;
            sums[group] += i128::from(v[row]);
        }),
        (_, Values::U64(v)) => members.each_present(view.nulls, |row, group| {
            counts[group] += 1;
            sums[group] += i128::from(v[row]);
        }),
        _ => unreachable!("the state was chosen by the column's type"),
    }
}

/// The sum of fewer than 2^32 words. In halves, because processors add many 64-bit numbers at once and no 128-bit ones.
fn sum_words(words: impl Iterator<Item = u64>) -> i128 {
    let (mut low, mut high) = (0u64, 0u64);
    for word in words {
        low += word & 0xffff_ffff;
        high += word >> 32;
    }
    (i128::from(high) << 32) + i128::from(low)
}

fn add_floats(view: &ScalarView<'_>, members: &Members<'_>, sums: &mut [ExactSum], counts: &mut [u64]) {
    let Values::F64(v) = view.values else {
        unreachable!("the state was chosen by the column's type");
    };
    match members {
        Members::All { start, rows } => {
            let v = &v[*start..];
            let mut many = ManyFloats::new();
            each_run(&present(*start, rows, view.nulls), |run| {
                counts[0] += run.len() as u64;
                v[run].iter().for_each(|x| many.add(*x));
            });
            sums[0].add_all(&many);
        }
        Members::Grouped(_) => members.each_present(view.nulls, |row, group| {
            counts[group] += 1;
            sums[group].add(v[row]);
        }),
    }
}

fn keep_bytes(known: &mut Option<Box<[u8]>>, value: &[u8], keep: Ordering) {
    if known.as_deref().is_none_or(|known| value.cmp(known) == keep) {
        *known = Some(value.into());
    }
}

fn count_word(tally: &mut HashMap<u64, u64>, value: u64, rows: u64, budget: &mut Budget) {
    if let Some(count) = tally.get_mut(&value) {
        *count += rows;
    } else if budget.take(size_of::<u64>()) {
        tally.insert(value, rows);
    }
}

fn count_bytes(tally: &mut HashMap<Box<[u8]>, u64>, value: &[u8], rows: u64, budget: &mut Budget) {
    if let Some(count) = tally.get_mut(value) {
        *count += rows;
    } else if budget.take(value.len()) {
        tally.insert(value.into(), rows);
    }
}

/// The distinct elements of an array.
fn distinct_bytes<'a>(view: &ListView<'a>, row: usize) -> Vec<&'a [u8]> {
    let elements = view.offsets[row]..view.offsets[row + 1];
    let bytes = |i| {
        view.elements
            .bytes(i as usize)
            .expect("the state was chosen by the column's type")
    };
    let mut bytes: Vec<_> = elements.map(bytes).collect();
    bytes.sort_unstable();
    bytes.dedup();
    bytes
}

/// The values that are in the most rows, with how many those are; of equally frequent ones the smaller first.
fn most_frequent<K: Ord + Hash>(
    tally: &HashMap<K, u64>,
    limit: usize,
    value: impl Fn(&K) -> Value,
) -> Vec<(Value, u64)> {
    let order = |a: &(&K, &u64), b: &(&K, &u64)| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0));
    let mut all: Vec<_> = tally.iter().collect();
    if all.len() > limit {
        all.select_nth_unstable_by(limit - 1, order);
        all.truncate(limit);
    }
    all.sort_unstable_by(order);
    all.into_iter().map(|(key, rows)| (value(key), *rows)).collect()
}
