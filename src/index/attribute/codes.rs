//! Codes: of each row the number of its value, for whoever looks at many rows of an attribute.
//!
//! Bitmaps are best for the rows of a few values. Where many values are asked for, or every row is, as by groups, it is
//! faster to have one number per row and to go over all of them: whatever is compared, counted or grouped is a dense
//! number then. Codes are made of the whole index, and kept by whoever reads it.

use std::ops::Range;

use bytes::Bytes;

use super::estimate::KEYS_MAX;
use super::key::{Key, KeyRef, is_empty_range, prefix_range};
use super::rows::{Bitmap, Place, RowSet};
use super::wire::Damaged;
use super::{AttributeIndex, Inner, Predicate, Result, batches, directory};
use crate::base::is_abandoned;

/// Up to so many distinct values codes are made of any index: a row takes one or two bytes.
const FEW_VALUES: u32 = u16::MAX as u32;
/// With more values a row takes four bytes, and there are at least so many rows for each.
const ROWS_PER_VALUE: u32 = 8;
/// The most memory that values take, in bytes.
const KEY_BYTES_MAX: usize = 32 << 20;
/// Values that are matched with a pattern at most.
const MATCHED_MAX: u32 = 256;

/// Of each row the number of its value; 0 is null, and values count from 1, ascending.
#[derive(Clone, Debug, PartialEq)]
pub struct Codes {
    numbers: Numbers,
    keys: Keys,
    /// How many rows have a lower code than each, and after the last how many there are.
    below: Vec<u32>,
}

/// A number per row.
#[derive(Clone, Debug, PartialEq)]
enum Numbers {
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
}

/// The values, ascending.
#[derive(Clone, Debug, PartialEq)]
enum Keys {
    Words(Vec<u64>),
    Bytes { ends: Vec<u32>, bytes: Vec<u8> },
}

/// Some codes, as ascending ranges that do not touch.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CodeSet(Vec<Range<u32>>);

/// A code as it is stored.
trait Number: Copy + Default + PartialEq {
    /// Of a code that fits.
    fn of(code: u32) -> Self;
    fn code(self) -> u32;
    /// Whether it is at most `span` above `low`.
    fn is_in(self, low: Self, span: Self) -> bool;
}

macro_rules! numbers {
    ($($ty:ty),*) => {$(
        impl Number for $ty {
            fn of(code: u32) -> Self {
                code as $ty
            }

            fn code(self) -> u32 {
                self.into()
            }

            fn is_in(self, low: Self, span: Self) -> bool {
                self.wrapping_sub(low) <= span
            }
        }
    )*};
}

numbers!(u8, u16, u32);

impl CodeSet {
    /// Codes that ascend strictly.
    fn of(codes: impl Iterator<Item = u32>) -> Self {
        let mut ranges: Vec<Range<u32>> = Vec::new();
        for code in codes {
            match ranges.last_mut() {
                Some(last) if last.end == code => last.end += 1,
                _ => ranges.push(code..code + 1),
            }
        }
        Self(ranges)
    }

    fn range(range: Range<u32>) -> Self {
        Self(if range.is_empty() { Vec::new() } else { vec![range] })
    }

    fn ranges(&self) -> &[Range<u32>] {
        &self.0
    }

    /// Whether each code has to be looked up.
    pub fn is_scattered(&self) -> bool {
        self.0.len() > 1
    }
}

impl Codes {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        match &self.numbers {
            Numbers::U8(n) => n.len(),
            Numbers::U16(n) => n.len(),
            Numbers::U32(n) => n.len(),
        }
    }

    /// How many codes there are, that of null among them.
    pub fn count(&self) -> u32 {
        (self.below.len() - 1) as u32
    }

    /// The value of a code; `None` is null.
    pub fn key(&self, code: u32) -> Option<Key> {
        Some(self.keys.get(code.checked_sub(1)? as usize).to_key())
    }

    /// About how much memory they take, in bytes.
    pub fn memory_bytes(&self) -> usize {
        let numbers = match &self.numbers {
            Numbers::U8(n) => size_of_val(n.as_slice()),
            Numbers::U16(n) => size_of_val(n.as_slice()),
            Numbers::U32(n) => size_of_val(n.as_slice()),
        };
        size_of::<Self>() + numbers + self.keys.memory_bytes() + size_of_val(self.below.as_slice())
    }

    /// Whether codes that were made of an index would [`choose`](Self::choose). Takes the time to look at it.
    pub fn answer(predicate: &Predicate, index: &AttributeIndex) -> bool {
        index.codes_bytes().is_some() && index.distinct().is_some_and(|values| is_quick(predicate, values))
    }

    /// Whether these [`choose`](Self::choose).
    pub fn chooses(&self, predicate: &Predicate) -> bool {
        is_quick(predicate, self.keys.len() as u32)
    }

    /// The codes of the values for which a predicate holds; `None` when that is better asked of the index. Takes at most
    /// a quarter of a millisecond, but for patterns, which can be slow: for the CPU pool.
    pub fn choose(&self, predicate: &Predicate) -> Option<CodeSet> {
        if !self.chooses(predicate) {
            return None;
        }
        match predicate {
            Predicate::Range { low, high } if is_empty_range(low, high) => Some(CodeSet::default()),
            Predicate::Range { low, high } => {
                let from = self.keys.partition(|key| !key.is_from(low));
                let to = self.keys.partition(|key| key.is_to(high));
                Some(CodeSet::range(1 + from..1 + to.max(from)))
            }
            Predicate::NotNull => Some(CodeSet::range(1..self.count())),
            Predicate::In(keys) => {
                let mut codes: Vec<u32> = keys.iter().filter_map(|key| self.keys.find(key.of())).collect();
                codes.sort_unstable();
                codes.dedup();
                Some(CodeSet::of(codes.into_iter().map(|i| i + 1)))
            }
            Predicate::Pattern(pattern) => {
                let (low, high) = prefix_range(&pattern.prefix);
                let from = self.keys.partition(|key| !key.is_from(&low));
                let to = self.keys.partition(|key| key.is_to(&high)).max(from);
                let matches = |i: &u32| match self.keys.get(*i as usize) {
                    _ if is_abandoned() => false,
                    KeyRef::Bytes(bytes) => (pattern.matches)(bytes),
                    KeyRef::Word(_) => false,
                };
                Some(CodeSet::of((from..to).filter(matches).map(|i| i + 1)))
            }
            Predicate::Null | Predicate::Whole(_) => None,
        }
    }

    /// The codes of the rows that pass a test.
    ///
    /// * `held` — of the values for which its condition holds
    /// * `negated` — whether the other values pass instead
    /// * `null` — whether null passes
    pub fn passing(&self, held: &CodeSet, negated: bool, null: bool) -> CodeSet {
        let mut ranges = Vec::new();
        if null {
            ranges.push(0..1);
        }
        let mut push = |range: Range<u32>| match ranges.last_mut() {
            _ if range.is_empty() => {}
            Some(last) if last.end == range.start => last.end = range.end,
            _ => ranges.push(range),
        };
        if !negated {
            held.0.iter().cloned().for_each(push);
            return CodeSet(ranges);
        }
        let mut from = 1;
        for range in &held.0 {
            push(from..range.start);
            from = range.end;
        }
        push(from..self.count());
        CodeSet(ranges)
    }

    /// How many rows have one of some codes.
    pub fn rows_of(&self, set: &CodeSet) -> u64 {
        let rows = |r: &Range<u32>| u64::from(self.below[r.end as usize] - self.below[r.start as usize]);
        set.ranges().iter().map(rows).sum()
    }

    /// Which of some rows have one of some codes: a bit each, the first is of `rows.start`.
    pub fn select(&self, set: &CodeSet, rows: Range<usize>) -> Vec<u64> {
        match &self.numbers {
            Numbers::U8(n) => self.select_of(&n[rows], set),
            Numbers::U16(n) => self.select_of(&n[rows], set),
            Numbers::U32(n) => self.select_of(&n[rows], set),
        }
    }

    fn select_of<T: Number>(&self, numbers: &[T], set: &CodeSet) -> Vec<u64> {
        match set.ranges() {
            [] => vec![0; numbers.len().div_ceil(64)],
            [range] => {
                let (low, span) = (T::of(range.start), T::of(range.end - 1 - range.start));
                pack(numbers, |number| number.is_in(low, span))
            }
            ranges => {
                let mut chosen = vec![false; self.count() as usize];
                ranges
                    .iter()
                    .for_each(|r| chosen[r.start as usize..r.end as usize].fill(true));
                pack(numbers, |number| chosen[number.code() as usize])
            }
        }
    }

    /// Adds a multiple of the code of each of some rows to a number for it.
    pub(super) fn add(&self, first: usize, times: u32, sums: &mut [u32]) {
        fn add<T: Number>(numbers: &[T], times: u32, sums: &mut [u32]) {
            for (sum, number) in sums.iter_mut().zip(numbers) {
                *sum += number.code() * times;
            }
        }
        match &self.numbers {
            Numbers::U8(n) => add(&n[first..], times, sums),
            Numbers::U16(n) => add(&n[first..], times, sums),
            Numbers::U32(n) => add(&n[first..], times, sums),
        }
    }
}

/// Whether it takes little to tell for which of so many values a predicate holds.
fn is_quick(predicate: &Predicate, values: u32) -> bool {
    match predicate {
        Predicate::Range { .. } | Predicate::NotNull => true,
        Predicate::In(keys) => keys.len() <= KEYS_MAX,
        Predicate::Pattern(_) => values <= MATCHED_MAX,
        Predicate::Null | Predicate::Whole(_) => false,
    }
}

/// A bit for each number for which something holds.
fn pack<T: Number>(numbers: &[T], holds: impl Fn(T) -> bool) -> Vec<u64> {
    let word = |numbers: &[T]| {
        // A byte each first: processors compare many at a time, and shift bits one by one.
        let mut held = [0u8; 64];
        held.iter_mut().zip(numbers).for_each(|(h, n)| *h = holds(*n).into());
        let (eights, _) = held.as_chunks::<8>();
        let bits = |eight: &[u8; 8]| u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        eights
            .iter()
            .enumerate()
            .fold(0, |word, (i, eight)| word | bits(eight) << (8 * i))
    };
    let (whole, rest) = numbers.as_chunks::<64>();
    let mut words = Vec::with_capacity(numbers.len().div_ceil(64));
    words.extend(whole.iter().map(|numbers| word(numbers)));
    if !rest.is_empty() {
        words.push(word(rest));
    }
    words
}

impl Keys {
    fn new(words: bool) -> Self {
        match words {
            true => Keys::Words(Vec::new()),
            false => Keys::Bytes {
                ends: Vec::new(),
                bytes: Vec::new(),
            },
        }
    }

    fn len(&self) -> usize {
        match self {
            Keys::Words(words) => words.len(),
            Keys::Bytes { ends, .. } => ends.len(),
        }
    }

    fn memory_bytes(&self) -> usize {
        match self {
            Keys::Words(words) => size_of_val(words.as_slice()),
            Keys::Bytes { ends, bytes } => size_of_val(ends.as_slice()) + bytes.len(),
        }
    }

    /// Appends a key, while there is room.
    fn push(&mut self, key: KeyRef<'_>) {
        match (self, key) {
            (Keys::Words(words), KeyRef::Word(word)) => words.push(word),
            (Keys::Bytes { ends, bytes }, KeyRef::Bytes(key)) => {
                bytes.extend_from_slice(key);
                // More than [`KEY_BYTES_MAX`] are not kept, by one block at most.
                ends.push(bytes.len() as u32);
            }
            _ => unreachable!("keys of a dictionary are of one kind"),
        }
    }

    fn get(&self, i: usize) -> KeyRef<'_> {
        match self {
            Keys::Words(words) => KeyRef::Word(words[i]),
            Keys::Bytes { ends, bytes } => {
                let start = i.checked_sub(1).map_or(0, |before| ends[before]);
                KeyRef::Bytes(&bytes[start as usize..ends[i] as usize])
            }
        }
    }

    /// How many keys there are for which something holds, which it does for the first ones.
    fn partition(&self, holds: impl Fn(KeyRef<'_>) -> bool) -> u32 {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match holds(self.get(middle)) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low as u32
    }

    fn find(&self, key: KeyRef<'_>) -> Option<u32> {
        let at = self.partition(|known| known < key);
        ((at as usize) < self.len() && self.get(at as usize) == key).then_some(at)
    }
}

/// Codes on their way.
struct Building {
    codes: Codes,
}

impl AttributeIndex {
    /// How many bytes [`codes`](Self::codes) reads; `None` where there are no codes: of arrays, of which a row has
    /// several values, and where there are many values of few rows each. No I/O.
    pub fn codes_bytes(&self) -> Option<u64> {
        let values = self.distinct()?;
        let rows = self.rows();
        let few = values <= FEW_VALUES || values <= rows / ROWS_PER_VALUE;
        (few && !self.0.directory.shape.is_array).then(|| self.groups_estimate().bytes)
    }

    /// The code of each row. `None` where [`codes_bytes`](Self::codes_bytes) is, and when the values are long.
    ///
    /// Reads the whole index, in batches of at most 4 MiB.
    pub async fn codes(&self) -> Result<Option<Codes>> {
        if self.codes_bytes().is_none() {
            return Ok(None);
        }
        let dictionary = self.values();
        let len = |block: &usize| dictionary.blocks[*block].at.end - dictionary.blocks[*block].at.start;
        let mut building = Building::new(dictionary.values, dictionary.words, self.rows(), self.null_count());
        let blocks: Vec<usize> = (0..dictionary.blocks.len()).collect();
        for batch in batches(blocks, len) {
            let bytes = batch.iter().map(len).sum();
            let read = self.read_blocks(dictionary, &batch).await?;
            let take = move |inner: &Inner| {
                let bitmaps = building.take_blocks(inner, &batch, &read)?;
                Ok((building, bitmaps))
            };
            let (taken, bitmaps) = self.compute(bytes, take).await?;
            building = taken;
            let Some(bitmaps) = bitmaps else { return Ok(None) };
            for batch in batches(bitmaps, |(_, bitmap)| bitmap.at.end - bitmap.at.start) {
                let ranges: Vec<_> = batch.iter().map(|(_, bitmap)| bitmap.at.clone()).collect();
                let read = self.read(&ranges).await?;
                let rows = batch.iter().map(|(_, bitmap)| u64::from(bitmap.rows)).sum();
                let take = move |inner: &Inner| building.take_bitmaps(inner, &batch, &read).map(|()| building);
                building = self.compute(rows, take).await?;
            }
        }
        Ok(Some(building.codes))
    }
}

impl Building {
    fn new(values: u32, words: bool, rows: u32, nulls: u32) -> Self {
        let rows = rows as usize;
        let numbers = match values {
            0..=0xff => Numbers::U8(vec![0; rows]),
            0x100..=0xffff => Numbers::U16(vec![0; rows]),
            _ => Numbers::U32(vec![0; rows]),
        };
        Self {
            codes: Codes {
                numbers,
                keys: Keys::new(words),
                below: vec![0, nulls],
            },
        }
    }

    /// Takes the values of some blocks in; returns those bitmaps that have their rows, or `None` when the values are too
    /// long.
    fn take_blocks(
        &mut self,
        inner: &Inner,
        blocks: &[usize],
        read: &[Bytes],
    ) -> Result<Option<Vec<(u32, Bitmap)>>, Damaged> {
        let mut bitmaps = Vec::new();
        let Some(values) = &inner.directory.values else {
            return Ok(None);
        };
        for (block, bytes) in blocks.iter().zip(read) {
            let mut reader = values.reader(*block, bytes, inner.directory.rows)?;
            while let Some(entry) = reader.next()? {
                if is_abandoned() || self.codes.keys.memory_bytes() > KEY_BYTES_MAX {
                    return Ok(None);
                }
                if !entry.key.fits(inner.directory.shape.scalar) {
                    return Err(Damaged("a value is not of its type"));
                }
                let code = self.codes.count();
                self.codes.keys.push(entry.key);
                let last = self.codes.below.last().copied().unwrap_or(0);
                // Values have as many rows together as there are: the directory was checked.
                self.codes.below.push(last.saturating_add(entry.count() as u32));
                match entry.place {
                    Place::Inline => self.place(code, |place| entry.rows.iter().for_each(|row| place(*row)))?,
                    Place::Elsewhere(bitmap) => bitmaps.push((code, bitmap)),
                }
            }
        }
        Ok(Some(bitmaps))
    }

    fn take_bitmaps(&mut self, inner: &Inner, bitmaps: &[(u32, Bitmap)], read: &[Bytes]) -> Result<(), Damaged> {
        for ((code, bitmap), bytes) in bitmaps.iter().zip(read) {
            let rows = RowSet::Bitmap(directory::bitmap(bytes, bitmap, inner.directory.rows)?);
            self.place(*code, |place| rows.each(place))?;
        }
        Ok(())
    }

    /// Gives some rows a code, which have none yet.
    fn place(&mut self, code: u32, each: impl FnOnce(&mut dyn FnMut(u32))) -> Result<(), Damaged> {
        fn place<T: Number>(numbers: &mut [T], code: u32, each: impl FnOnce(&mut dyn FnMut(u32))) -> bool {
            let code = T::of(code);
            let mut is_first = true;
            each(&mut |row| {
                let number = &mut numbers[row as usize];
                is_first &= *number == T::default();
                *number = code;
            });
            is_first
        }
        let is_first = match &mut self.codes.numbers {
            Numbers::U8(n) => place(n, code, each),
            Numbers::U16(n) => place(n, code, each),
            Numbers::U32(n) => place(n, code, each),
        };
        match is_first {
            true => Ok(()),
            false => Err(Damaged("a row has two values")),
        }
    }
}

#[cfg(test)]
impl Codes {
    /// The same in every width that fits.
    pub(super) fn in_all_widths(&self) -> Vec<Codes> {
        let codes: Vec<u32> = match &self.numbers {
            Numbers::U8(n) => n.iter().map(|n| n.code()).collect(),
            Numbers::U16(n) => n.iter().map(|n| n.code()).collect(),
            Numbers::U32(n) => n.clone(),
        };
        let short = |code: &u32| u16::try_from(*code).ok();
        let narrow = |code: &u32| u8::try_from(*code).ok();
        let shorts = codes.iter().map(short).collect::<Option<_>>().map(Numbers::U16);
        let bytes = codes.iter().map(narrow).collect::<Option<_>>().map(Numbers::U8);
        let of = |numbers| Codes {
            numbers,
            ..self.clone()
        };
        [Some(Numbers::U32(codes)), shorts, bytes]
            .into_iter()
            .flatten()
            .map(of)
            .collect()
    }
}
