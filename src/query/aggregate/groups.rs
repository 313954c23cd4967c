//! Which groups there are, and which rows fall into them.
//!
//! A group's key is a word where the rows are grouped by one attribute of numbers, times or bools (null is 0), and
//! bytes otherwise; both are ordered like the values, nulls first.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};
use std::ops::Range;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashSet, HashTable};

use super::bind::{BoundAggregation, BoundKey};
use super::dense::{self, Parts};
use super::{Selected, Tally};
use crate::base::is_abandoned;
use crate::index::attribute::{Combined, Key};
use crate::model::{Invalid, Value};
use crate::query::key::{self, Source, SourceColumn, float_word, int_word, take_value, value_of_word};
use crate::query::values::{ListView, Values};
use crate::tail::Chunk;

/// A null, or 2^64 and the word of a value.
pub(super) type WordKey = u128;
const VALUE: WordKey = 1 << 64;

/// The smallest keys of some rows, in any order, with every one that is among the smallest of all rows.
pub(super) struct Keys {
    least: LeastKeys,
    /// Groups that the rows fall into, added up; counted where arrays are combined.
    combinations: u64,
    /// The same keys of rows whose keys are codes.
    pub seen: dense::Seen,
}

enum LeastKeys {
    /// There is one group, of all rows.
    One,
    Words(Vec<WordKey>),
    Bytes(Vec<Vec<u8>>),
}

/// The groups of an answer, numbered in the order of their keys.
pub(super) enum Groups {
    /// All rows are one group.
    One,
    Words(Numbered<WordKey>),
    Bytes(Numbered<Vec<u8>>),
}

/// Finds the keys of some rows.
///
/// # Errors
///
/// The rows have too many combinations of elements, or too long keys.
pub(super) fn find(asked: &BoundAggregation, parts: Parts<'_>, selected: &[Selected]) -> Result<Keys, Invalid> {
    let mut combinations = 0;
    let (mut seen, mut hashed) = (dense::Seen::new(), Vec::new());
    for rows in selected {
        match parts.combined(rows.part) {
            Some(combined) => dense::see(combined, rows, &mut seen),
            None => hashed.push((&*parts.parts[rows.part].chunk, rows)),
        }
    }
    let least = match asked.keys.as_slice() {
        [] => LeastKeys::One,
        [only] if only.source.has_words() => {
            let mut least = Least::new(asked);
            for (chunk, rows) in hashed {
                each_word(only.source, chunk, rows, |_, key| least.offer(&key));
            }
            for (part, numbers) in &seen {
                let combined = parts.combined(*part).expect("these numbers were seen");
                let keys = numbers.iter().map(|number| dense::word_of(combined, number as u32));
                keys.for_each(|key| least.offer(&key));
            }
            LeastKeys::Words(least.into_keys()?)
        }
        keys => {
            let mut least = Least::new(asked);
            for (chunk, rows) in hashed {
                let mut rows = KeysOfRows::new(keys, chunk, rows);
                rows.count_combinations(&mut combinations, asked.combinations_max)?;
                rows.each(|_, key| least.offer(key));
            }
            let mut key = Vec::new();
            for (part, numbers) in &seen {
                let combined = parts.combined(*part).expect("these numbers were seen");
                for number in numbers.iter() {
                    dense::bytes_of(combined, number as u32, &mut key);
                    least.offer(key.as_slice());
                }
            }
            LeastKeys::Bytes(least.into_keys()?)
        }
    };
    Ok(Keys {
        least,
        combinations,
        seen,
    })
}

/// The keys that are known of a segment.
pub(super) fn of_tally(asked: &BoundAggregation, tally: &Tally) -> Keys {
    let least = match asked.keys.as_slice() {
        [] => LeastKeys::One,
        [only] if only.source.has_words() => LeastKeys::Words(keys_of(tally, word_key).map(|(key, _)| key).collect()),
        _ => LeastKeys::Bytes(keys_of(tally, byte_key).map(|(key, _)| key).collect()),
    };
    Keys {
        least,
        combinations: 0,
        seen: dense::Seen::new(),
    }
}

/// The keys of a tally, each with how many rows it has.
fn keys_of<K>(tally: &Tally, key: impl Fn(Option<&Key>) -> K) -> impl Iterator<Item = (K, u64)> {
    let nulls = (tally.nulls > 0).then(|| (key(None), tally.nulls));
    nulls.into_iter().chain(
        tally
            .groups
            .iter()
            .map(move |group| (key(Some(&group.key)), group.rows)),
    )
}

pub(super) fn word_key(key: Option<&Key>) -> WordKey {
    match key {
        None => 0,
        Some(Key::Word(word)) => VALUE | WordKey::from(*word),
        Some(Key::Bytes(_)) => unreachable!("the index is of the attribute's type"),
    }
}

fn byte_key(key: Option<&Key>) -> Vec<u8> {
    let mut out = Vec::new();
    match key {
        None => key::push_null(&mut out),
        Some(key) => key::push_key(&mut out, key),
    }
    out
}

impl Groups {
    /// Numbers the smallest of the keys that several jobs found.
    ///
    /// # Errors
    ///
    /// All rows together have too many combinations of elements, or too long keys.
    pub fn number(asked: &BoundAggregation, found: Vec<Keys>) -> Result<Self, Invalid> {
        let combinations = found.iter().map(|k| k.combinations).sum();
        check_combinations(combinations, asked.combinations_max)?;
        let (mut words, mut bytes) = (Least::new(asked), Least::new(asked));
        for keys in found {
            match keys.least {
                LeastKeys::One => {}
                LeastKeys::Words(keys) => keys.iter().for_each(|key| words.offer(key)),
                LeastKeys::Bytes(keys) => keys.iter().for_each(|key| bytes.offer(key.as_slice())),
            }
        }
        Ok(match asked.keys.as_slice() {
            [] => Groups::One,
            [only] if only.source.has_words() => Groups::Words(Numbered::new(words.into_keys()?)),
            _ => Groups::Bytes(Numbered::new(bytes.into_keys()?)),
        })
    }

    pub fn len(&self) -> usize {
        match self {
            Groups::One => 1,
            Groups::Words(numbered) => numbered.keys.len(),
            Groups::Bytes(numbered) => numbered.keys.len(),
        }
    }

    /// Calls `visit` with every row and each group of the answer that it falls into. With [`Groups::One`] the
    /// caller has the rows already.
    pub fn each_member(
        &self,
        asked: &BoundAggregation,
        chunk: &Chunk,
        rows: &Selected,
        mut visit: impl FnMut(u32, u32),
    ) {
        let mut visit = |row: usize, group: Option<u32>| {
            if let Some(group) = group {
                visit(row as u32, group);
            }
        };
        match (self, asked.keys.as_slice()) {
            (Groups::Words(numbered), [only]) => {
                each_word(only.source, chunk, rows, |row, key| visit(row, numbered.get(&key)));
            }
            (Groups::Bytes(numbered), keys) => {
                KeysOfRows::new(keys, chunk, rows).each(|row, key| visit(row, numbered.get(key)));
            }
            _ => rows.rows.iter().for_each(|row| visit(rows.start + row, Some(0))),
        }
    }

    /// The group of the answer that rows with this number are in.
    ///
    /// * `key` — of no meaning; for the next call
    pub fn of_number(
        &self,
        asked: &BoundAggregation,
        combined: &Combined,
        number: u32,
        key: &mut Vec<u8>,
    ) -> Option<u32> {
        match (self, asked.keys.as_slice()) {
            (Groups::Words(numbered), [_]) => numbered.get(&dense::word_of(combined, number)),
            (Groups::Bytes(numbered), _) => {
                dense::bytes_of(combined, number, key);
                numbered.get(key.as_slice())
            }
            _ => Some(0),
        }
    }

    /// Calls `visit` with each group of the answer and how many rows of a tally fall into it.
    pub fn each_of_tally(&self, asked: &BoundAggregation, tally: &Tally, mut visit: impl FnMut(usize, u64)) {
        let mut visit = |group: Option<u32>, rows| {
            if let Some(group) = group {
                visit(group as usize, rows);
            }
        };
        match (self, asked.keys.as_slice()) {
            (Groups::Words(numbered), [_]) => {
                keys_of(tally, word_key).for_each(|(key, rows)| visit(numbered.get(&key), rows));
            }
            (Groups::Bytes(numbered), _) => {
                keys_of(tally, byte_key).for_each(|(key, rows)| visit(numbered.get(key.as_slice()), rows));
            }
            _ => visit(Some(0), tally.rows),
        }
    }

    /// The key of a group, by label.
    pub fn key(&self, asked: &BoundAggregation, group: usize) -> Vec<(Arc<str>, Value)> {
        let mut encoded: &[u8] = match self {
            Groups::Bytes(numbered) => &numbered.keys[group],
            Groups::One | Groups::Words(_) => &[],
        };
        let value = |key: &BoundKey| match self {
            Groups::Words(numbered) => match numbered.keys[group] {
                word if word < VALUE => Value::Null,
                word => value_of_word(key.source.scalar, word as u64),
            },
            Groups::One | Groups::Bytes(_) => take_value(&mut encoded, key.source),
        };
        let labels = asked.keys.iter().map(|k| k.label.clone());
        let values: Vec<Value> = asked.keys.iter().map(value).collect();
        labels.zip(values).collect()
    }
}

/// Keeps the `k` smallest of the keys it is offered, and for a while some more.
///
/// What it leaves out is larger than `k` keys that exist, and so in no answer of `k` groups: this bounds the
/// memory of a query by its limit, however many groups there are.
struct Least<K> {
    k: usize,
    keys: HashSet<K>,
    /// What they take in memory.
    bytes: usize,
    bytes_max: usize,
    /// Whether the `k` smallest take more: then keys are no longer kept.
    is_full: bool,
    /// The k-th smallest at the last cut.
    bound: Option<K>,
}

/// What a key takes besides itself.
trait Beside {
    fn beside(&self) -> usize;
}

impl Beside for WordKey {
    fn beside(&self) -> usize {
        0
    }
}

impl Beside for Vec<u8> {
    fn beside(&self) -> usize {
        self.len()
    }
}

impl<K: Ord + Hash + Clone + Beside> Least<K> {
    fn new(asked: &BoundAggregation) -> Self {
        Self {
            k: asked.limit,
            keys: HashSet::new(),
            bytes: 0,
            bytes_max: asked.distinct_bytes_max,
            is_full: false,
            bound: None,
        }
    }

    fn offer<Q: Ord + Hash + ToOwned<Owned = K> + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        let is_beyond = self.bound.as_ref().is_some_and(|b| key > b.borrow());
        if is_beyond || self.is_full || self.k == 0 || self.keys.contains(key) {
            return;
        }
        let key = key.to_owned();
        self.bytes += key.beside();
        self.keys.insert(key);
        if self.keys.len() >= (2 * self.k).max(64) {
            self.cut();
        }
        if self.bytes > self.bytes_max {
            if self.keys.len() > self.k {
                self.cut();
            }
            self.is_full = self.bytes > self.bytes_max;
        }
    }

    fn cut(&mut self) {
        let mut keys: Vec<K> = self.keys.drain().collect();
        let (_, bound, _) = keys.select_nth_unstable(self.k - 1);
        self.bound = Some(bound.clone());
        keys.truncate(self.k);
        self.bytes = keys.iter().map(Beside::beside).sum();
        self.keys.extend(keys);
    }

    /// At most `k`, in any order.
    ///
    /// # Errors
    ///
    /// They take too much memory.
    fn into_keys(mut self) -> Result<Vec<K>, Invalid> {
        if self.is_full {
            return Err(Invalid::new(format!(
                "the keys of the groups have more than {} bytes; narrow the filter, or group by shorter values",
                self.bytes_max
            )));
        }
        if self.keys.len() > self.k {
            self.cut();
        }
        Ok(self.keys.into_iter().collect())
    }
}

/// Keys with their numbers.
pub(super) struct Numbered<K> {
    /// Ascending.
    keys: Vec<K>,
    /// Positions in `keys`. The hash is seeded: keys are chosen by clients, who could otherwise send ones that
    /// collide.
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl<K: Ord + Hash> Numbered<K> {
    fn new(mut keys: Vec<K>) -> Self {
        keys.sort_unstable();
        let hasher = DefaultHashBuilder::default();
        let mut table = HashTable::with_capacity(keys.len());
        for (i, key) in keys.iter().enumerate() {
            table.insert_unique(hasher.hash_one(key), i as u32, |i| hasher.hash_one(&keys[*i as usize]));
        }
        Self { keys, table, hasher }
    }

    fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<u32>
    where
        K: Borrow<Q>,
    {
        let hash = self.hasher.hash_one(key);
        self.table
            .find(hash, |i| self.keys[*i as usize].borrow() == key)
            .copied()
    }
}

/// Calls `visit` with every row and each of its keys, for a source that has words.
fn each_word(source: Source, chunk: &Chunk, rows: &Selected, mut visit: impl FnMut(usize, WordKey)) {
    let each = rows.rows.iter().map(|row| rows.start + row);
    match source.column(chunk) {
        SourceColumn::Null => each.for_each(|row| visit(row, 0)),
        SourceColumn::Scalars(view) => {
            let mut visit = |row: usize, word: u64| match view.nulls.is_some_and(|n| n.is_null(row)) {
                true => visit(row, 0),
                false => visit(row, VALUE | WordKey::from(word)),
            };
            match view.values {
                Values::I64(v) => each.for_each(|row| visit(row, int_word(v[row]))),
                Values::U64(v) => each.for_each(|row| visit(row, v[row])),
                Values::F64(v) => each.for_each(|row| visit(row, float_word(v[row]))),
                Values::Bool(v) => each.for_each(|row| visit(row, v.value(row).into())),
                Values::String(_) | Values::Binary(_) | Values::Uuid(_) => unreachable!("these have no words"),
            }
        }
        SourceColumn::Lists(view) => {
            let mut words = Vec::new();
            for row in each {
                if view.nulls.is_some_and(|n| n.is_null(row)) {
                    visit(row, 0);
                    continue;
                }
                super::distinct_words(&view, row, &mut words);
                words.iter().for_each(|word| visit(row, VALUE | WordKey::from(*word)));
            }
        }
    }
}

/// The keys, as bytes, of some rows of a chunk.
struct KeysOfRows<'a> {
    columns: Vec<SourceColumn<'a>>,
    rows: &'a Selected,
    /// Of each array: the distinct elements of one row.
    elements: Vec<Elements>,
    combines_arrays: bool,
}

impl<'a> KeysOfRows<'a> {
    fn new(keys: &[BoundKey], chunk: &'a Chunk, rows: &'a Selected) -> Self {
        let columns: Vec<_> = keys.iter().map(|k| k.source.column(chunk)).collect();
        Self {
            elements: columns.iter().map(|_| Elements::default()).collect(),
            columns,
            rows,
            combines_arrays: keys.iter().filter(|k| k.source.is_array).count() > 1,
        }
    }

    /// Adds the number of keys to `count`, where that can be more than there are elements. Stops when it is
    /// more than `max`.
    fn count_combinations(&mut self, count: &mut u64, max: u64) -> Result<(), Invalid> {
        if !self.combines_arrays {
            return Ok(());
        }
        for row in self.rows.rows.iter() {
            self.look_at(self.rows.start + row);
            let keys = self
                .elements
                .iter()
                .zip(&self.columns)
                .filter_map(|(elements, column)| {
                    matches!(column, SourceColumn::Lists(_)).then_some(elements.ranges.len() as u64)
                });
            let keys = keys.fold(1u64, u64::saturating_mul);
            *count = count.saturating_add(keys);
            check_combinations(*count, max)?;
        }
        Ok(())
    }

    fn look_at(&mut self, row: usize) {
        for (column, elements) in self.columns.iter().zip(&mut self.elements) {
            if let SourceColumn::Lists(view) = column {
                elements.take(view, row);
            }
        }
    }

    /// Calls `visit` with every row and each of its keys.
    fn each(&mut self, mut visit: impl FnMut(usize, &[u8])) {
        let rows = self.rows;
        let mut key = Vec::new();
        for row in rows.rows.iter().map(|row| rows.start + row) {
            self.look_at(row);
            self.expand(0, row, &mut key, &mut visit);
        }
    }

    /// Completes `key`, which has what the first `done` columns say, in all possible ways.
    fn expand(&self, done: usize, row: usize, key: &mut Vec<u8>, visit: &mut impl FnMut(usize, &[u8])) {
        let Some(column) = self.columns.get(done) else {
            visit(row, key);
            return;
        };
        let length = key.len();
        if let SourceColumn::Lists(_) = column {
            let elements = &self.elements[done];
            for range in &elements.ranges {
                if is_abandoned() {
                    return;
                }
                key.extend_from_slice(&elements.bytes[range.clone()]);
                self.expand(done + 1, row, key, visit);
                key.truncate(length);
            }
        } else {
            column.push_row(key, row);
            self.expand(done + 1, row, key, visit);
            key.truncate(length);
        }
    }
}

/// The distinct elements of one array, encoded. Null is the only element of a null.
#[derive(Default)]
struct Elements {
    bytes: Vec<u8>,
    ranges: Vec<Range<usize>>,
}

impl Elements {
    fn take(&mut self, view: &ListView<'_>, row: usize) {
        self.bytes.clear();
        self.ranges.clear();
        if view.nulls.is_some_and(|n| n.is_null(row)) {
            key::push_null(&mut self.bytes);
            self.ranges.push(0..1);
            return;
        }
        for i in view.offsets[row]..view.offsets[row + 1] {
            let start = self.bytes.len();
            key::push_value(&mut self.bytes, view.elements, i as usize);
            self.ranges.push(start..self.bytes.len());
        }
        let Self { bytes, ranges } = self;
        ranges.sort_unstable_by(|a, b| bytes[a.clone()].cmp(&bytes[b.clone()]));
        ranges.dedup_by(|a, b| bytes[a.clone()] == bytes[b.clone()]);
    }
}

fn check_combinations(count: u64, max: u64) -> Result<(), Invalid> {
    match count <= max {
        true => Ok(()),
        false => Err(Invalid::new(format!(
            "group_by combines the elements of several arrays into more than {max} groups of rows; narrow the filter \
             or group by fewer arrays"
        ))),
    }
}
