//! From a column to an index.

use std::hash::BuildHasher;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampMillisecondType, UInt64Type};
use bytes::Bytes;
use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::block;
use super::directory::{MAGIC, Shape, VERSION};
use super::key::{KeyRef, float_word, has_words, int_word};
use super::wire::{Sizes, put, seal};
use super::{rows, trigram};
use crate::model::{Attribute, Column};

/// An index as bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Built {
    /// What readers need at once: few bytes for each 16 KiB of `blocks`.
    pub directory: Bytes,
    /// What readers read some ranges of.
    pub blocks: Bytes,
}

/// Builds the index of an attribute over all rows of a segment.
///
/// * `column` — a value for every row, in the Arrow type of the attribute; at most 2^32 − 1 rows, no NaN, and all
///   elements of arrays together fewer than 2^32
///
/// `None` for attributes that have none: vectors, and those that no filter may name. An attribute that is not
/// filterable, but has an option for patterns, gets its trigrams only. Takes 16 to 44 bytes per element while it runs,
/// and time in proportion to n · log n of the distinct values: for long columns a job for the CPU pool.
pub fn build(column: &Column, attribute: &Attribute) -> Option<Built> {
    build_sized(column, attribute, &Sizes::WRITTEN)
}

/// [`build`] with other sizes than are written.
pub(super) fn build_sized(column: &Column, attribute: &Attribute, sizes: &Sizes) -> Option<Built> {
    let shape = Shape::of(attribute)?;
    let Column::Values(array) = column else {
        panic!("attribute {:?} is not a vector, its column is", attribute.name);
    };
    let source = Source::of(array, shape.is_array);
    let mut area = Vec::new();
    let mut body = Vec::new();
    put_nulls(&source, sizes, &mut body, &mut area);
    let mut trigrams = trigram::Writer::default();
    let mut numbers = source.rows() as u32;
    if shape.dictionary {
        let (values, trigrams) = (
            block::Writer::new(has_words(shape.scalar), sizes),
            shape.trigrams.then_some(&mut trigrams),
        );
        numbers = match has_words(shape.scalar) {
            true => source.write_words(values, &mut body, &mut area),
            false => source.write_bytes(values, trigrams, &mut body, &mut area),
        };
        if shape.is_array {
            source.write_lengths(sizes, &mut body, &mut area);
        }
    } else {
        source.each(|row, element| trigrams.add(row, source.bytes(element)));
    }
    if shape.trigrams {
        trigrams.finish(numbers, sizes, &mut body, &mut area);
    }
    let mut directory = MAGIC.to_vec();
    directory.extend_from_slice(&VERSION.to_le_bytes());
    directory.extend_from_slice(&shape.fingerprint().to_le_bytes());
    put(&mut directory, area.len() as u64);
    put(&mut directory, source.rows() as u64);
    put(&mut directory, source.null_count() as u64);
    put(&mut directory, source.elements());
    directory.append(&mut body);
    seal(&mut directory, 0);
    Some(Built {
        directory: directory.into(),
        blocks: area.into(),
    })
}

fn put_nulls(source: &Source<'_>, sizes: &Sizes, body: &mut Vec<u8>, area: &mut Vec<u8>) {
    let count = source.null_count();
    if count == 0 || count == source.rows() {
        return;
    }
    let nulls: Vec<u32> = (0..source.rows() as u32)
        .filter(|row| source.is_null(*row as usize))
        .collect();
    put(body, area.len() as u64);
    rows::encode(&nulls, sizes, body, area);
}

/// The values of a column, or the elements of its arrays.
struct Source<'a> {
    array: &'a ArrayRef,
    values: ArrayRef,
    /// Of arrays: row `r` has the elements `offsets[r]..offsets[r + 1]`.
    offsets: Option<&'a [i32]>,
    nulls: Option<&'a NullBuffer>,
}

impl<'a> Source<'a> {
    fn of(array: &'a ArrayRef, is_array: bool) -> Self {
        let lists = is_array.then(|| array.as_list::<i32>());
        Self {
            array,
            values: lists.map_or_else(|| array.clone(), |l| l.values().clone()),
            offsets: lists.map(|l| l.value_offsets()),
            nulls: array.nulls().filter(|n| n.null_count() > 0),
        }
    }

    fn rows(&self) -> usize {
        self.array.len()
    }

    fn null_count(&self) -> usize {
        self.nulls.map_or(0, NullBuffer::null_count)
    }

    fn is_null(&self, row: usize) -> bool {
        self.nulls.is_some_and(|n| n.is_null(row))
    }

    fn len(&self, row: usize) -> u64 {
        self.offsets.map_or(1, |o| (o[row + 1] - o[row]) as u64)
    }

    fn elements(&self) -> u64 {
        let present = (0..self.rows()).filter(|row| !self.is_null(*row));
        match self.offsets {
            None => (self.rows() - self.null_count()) as u64,
            Some(_) => present.map(|row| self.len(row)).sum(),
        }
    }

    /// Calls `f` with every element: its row, and where it is.
    fn each(&self, mut f: impl FnMut(u32, usize)) {
        for row in (0..self.rows()).filter(|row| !self.is_null(*row)) {
            match self.offsets {
                None => f(row as u32, row),
                Some(o) => (o[row] as usize..o[row + 1] as usize).for_each(|element| f(row as u32, element)),
            }
        }
    }

    fn bytes(&self, element: usize) -> &[u8] {
        match self.values.data_type() {
            DataType::LargeUtf8 => self.values.as_string::<i64>().value(element).as_bytes(),
            DataType::LargeBinary => self.values.as_binary::<i64>().value(element),
            DataType::FixedSizeBinary(16) => self.values.as_fixed_size_binary().value(element),
            other => panic!("no attribute is compared by the bytes of a column of {other}"),
        }
    }

    /// Each word with its row.
    fn words(&self) -> Vec<(u64, u32)> {
        let mut pairs = Vec::with_capacity(self.elements() as usize);
        let mut gather = |word: &dyn Fn(usize) -> u64| self.each(|row, element| pairs.push((word(element), row)));
        match self.values.data_type() {
            DataType::Int64 => {
                let values = self.values.as_primitive::<Int64Type>().values();
                gather(&|i| int_word(values[i]));
            }
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                let values = self.values.as_primitive::<TimestampMillisecondType>().values();
                gather(&|i| int_word(values[i]));
            }
            DataType::UInt64 => {
                let values = self.values.as_primitive::<UInt64Type>().values();
                gather(&|i| values[i]);
            }
            DataType::Float64 => {
                let values = self.values.as_primitive::<Float64Type>().values();
                gather(&|i| float_word(values[i]));
            }
            DataType::Boolean => {
                let values = self.values.as_boolean().values();
                gather(&|i| values.value(i).into());
            }
            other => panic!("no attribute is compared by the words of a column of {other}"),
        }
        pairs
    }

    /// Returns how many distinct values there are.
    fn write_words(&self, values: block::Writer, out: &mut Vec<u8>, area: &mut Vec<u8>) -> u32 {
        write_pairs(self.words(), values, out, area)
    }

    fn write_lengths(&self, sizes: &Sizes, out: &mut Vec<u8>, area: &mut Vec<u8>) {
        let present = (0..self.rows()).filter(|row| !self.is_null(*row));
        let pairs = present.map(|row| (self.len(row), row as u32)).collect();
        write_pairs(pairs, block::Writer::new(true, sizes), out, area);
    }

    /// An element with each distinct value, in the order of the values; and for each element the place of its value
    /// there, and its row. Only distinct values are sorted: equal ones would be compared through all of their bytes.
    fn distinct(&self) -> (Vec<u32>, Vec<(u32, u32)>) {
        // Seeded at random: nobody can make values that collide. Nothing depends on the order.
        let hasher = DefaultHashBuilder::default();
        let hash = |element: u32| hasher.hash_one(self.bytes(element as usize));
        let mut numbers: HashTable<(u32, u32)> = HashTable::new();
        let mut distinct: Vec<(u64, u32, u32)> = Vec::new();
        let mut pairs = Vec::with_capacity(self.elements() as usize);
        self.each(|row, element| {
            let (bytes, element) = (self.bytes(element), element as u32);
            let same = |known: &(u32, u32)| self.bytes(known.0 as usize) == bytes;
            let number = match numbers.entry(hash(element), same, |known| hash(known.0)) {
                Entry::Occupied(known) => known.get().1,
                Entry::Vacant(vacant) => {
                    let number = distinct.len() as u32;
                    vacant.insert((element, number));
                    distinct.push((0, element, number));
                    number
                }
            };
            pairs.push((number, row));
        });
        drop(numbers);
        let bytes = |value: &(u64, u32, u32)| self.bytes(value.1 as usize);
        let shared = distinct.first().map_or(0, |first| {
            let shared = |value| {
                bytes(first)
                    .iter()
                    .zip(bytes(value))
                    .take_while(|(a, b)| a == b)
                    .count()
            };
            distinct.iter().map(shared).min().unwrap_or(0)
        });
        // Most comparisons end with eight bytes behind what all values begin with, which are at hand.
        for value in &mut distinct {
            value.0 = head(&self.bytes(value.1 as usize)[shared..]);
        }
        distinct.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| bytes(a).cmp(bytes(b))));
        let mut places = vec![0; distinct.len()];
        for (place, value) in distinct.iter().enumerate() {
            places[value.2 as usize] = place as u32;
        }
        pairs
            .iter_mut()
            .for_each(|(number, _)| *number = places[*number as usize]);
        (distinct.into_iter().map(|(_, element, _)| element).collect(), pairs)
    }

    /// Returns how many distinct values there are.
    fn write_bytes(
        &self,
        mut values: block::Writer,
        mut trigrams: Option<&mut trigram::Writer>,
        out: &mut Vec<u8>,
        area: &mut Vec<u8>,
    ) -> u32 {
        let (distinct, mut pairs) = self.distinct();
        // Now values have the numbers of their places. Rows ascend, and stay so among those of one value.
        pairs.sort_by_key(|(place, _)| *place);
        let mut rows = Vec::new();
        let mut count = 0;
        for same in pairs.chunk_by(|a, b| a.0 == b.0) {
            rows.clear();
            rows.extend(same.iter().map(|x| x.1));
            rows.dedup();
            let value = self.bytes(distinct[same[0].0 as usize] as usize);
            values.add(KeyRef::Bytes(value), &rows);
            if let Some(trigrams) = &mut trigrams {
                trigrams.add(count, value);
            }
            count += 1;
        }
        values.finish(out, area);
        count
    }
}

/// The first eight bytes, zeros for those that are not there, as a number that is ordered like them.
fn head(bytes: &[u8]) -> u64 {
    match bytes.first_chunk() {
        Some(head) => u64::from_be_bytes(*head),
        None => {
            let mut head = [0; 8];
            head[..bytes.len()].copy_from_slice(bytes);
            u64::from_be_bytes(head)
        }
    }
}

/// Returns how many distinct words there are.
fn write_pairs(mut pairs: Vec<(u64, u32)>, mut values: block::Writer, out: &mut Vec<u8>, area: &mut Vec<u8>) -> u32 {
    // Rows ascend, and stay so among those of one word.
    pairs.sort_by_key(|(word, _)| *word);
    let mut rows = Vec::new();
    let mut count = 0;
    for same in pairs.chunk_by(|a, b| a.0 == b.0) {
        rows.clear();
        rows.extend(same.iter().map(|x| x.1));
        rows.dedup();
        values.add(KeyRef::Word(same[0].0), &rows);
        count += 1;
    }
    values.finish(out, area);
    count
}
