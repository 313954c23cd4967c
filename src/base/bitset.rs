//! A dense set of row numbers.

use std::ops::Range;

/// A fixed-size set of the numbers `0..len`, one bit each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bitset {
    words: Vec<u64>,
    len: usize,
}

impl Bitset {
    /// The empty set over `0..len`.
    pub fn empty(len: usize) -> Self {
        Self {
            words: vec![0; len.div_ceil(64)],
            len,
        }
    }

    /// All of `0..len`.
    pub fn full(len: usize) -> Self {
        let mut set = Self {
            words: vec![u64::MAX; len.div_ceil(64)],
            len,
        };
        set.clear_tail();
        set
    }

    /// The set of positions for which `f` holds.
    pub fn from_fn(len: usize, f: impl Fn(usize) -> bool) -> Self {
        let mut set = Self::empty(len);
        for i in 0..len {
            if f(i) {
                set.insert(i);
            }
        }
        set
    }

    /// Takes over words of 64 bits, least significant first; bits from `len` on are ignored.
    pub fn from_words(mut words: Vec<u64>, len: usize) -> Self {
        words.resize(len.div_ceil(64), 0);
        let mut set = Self { words, len };
        set.clear_tail();
        set
    }

    fn clear_tail(&mut self) {
        let used = self.len % 64;
        if used != 0
            && let Some(last) = self.words.last_mut()
        {
            *last &= (1u64 << used) - 1;
        }
    }

    /// The size of the universe, not of the set.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the universe is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many numbers are in the set.
    pub fn count(&self) -> usize {
        self.words.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// Whether no number is in the set.
    pub fn none(&self) -> bool {
        self.words.iter().all(|w| *w == 0)
    }

    /// Whether `i` is in the set. Panics when `i` is outside the universe.
    pub fn contains(&self, i: usize) -> bool {
        assert!(i < self.len, "bit {i} of a set over {} rows", self.len);
        self.words[i / 64] >> (i % 64) & 1 == 1
    }

    /// Adds `i`.
    pub fn insert(&mut self, i: usize) {
        assert!(i < self.len, "bit {i} of a set over {} rows", self.len);
        self.words[i / 64] |= 1 << (i % 64);
    }

    /// Takes `i` out.
    pub fn remove(&mut self, i: usize) {
        assert!(i < self.len, "bit {i} of a set over {} rows", self.len);
        self.words[i / 64] &= !(1 << (i % 64));
    }

    /// Intersects with `other`, a set over the same universe.
    pub fn and(&mut self, other: &Bitset) {
        self.zip(other, |a, b| a & b);
    }

    /// Unites with `other`, a set over the same universe.
    pub fn or(&mut self, other: &Bitset) {
        self.zip(other, |a, b| a | b);
    }

    /// Takes out what is in `other`, a set over the same universe.
    pub fn and_not(&mut self, other: &Bitset) {
        self.zip(other, |a, b| a & !b);
    }

    /// Replaces the set by its complement.
    pub fn invert(&mut self) {
        for w in &mut self.words {
            *w = !*w;
        }
        self.clear_tail();
    }

    fn zip(&mut self, other: &Bitset, f: impl Fn(u64, u64) -> u64) {
        assert_eq!(self.len, other.len, "sets over different universes");
        for (a, b) in self.words.iter_mut().zip(&other.words) {
            *a = f(*a, *b);
        }
    }

    /// What of the set is in a range of the universe; bit 0 of the result is `range.start`.
    pub fn range(&self, range: Range<usize>) -> Bitset {
        assert!(range.end <= self.len, "{range:?} of a set over {} rows", self.len);
        let (first, shift) = (range.start / 64, range.start % 64);
        let word = |i: usize| self.words.get(i).copied().unwrap_or(0);
        let words = (first..first + range.len().div_ceil(64)).map(|i| match shift {
            0 => word(i),
            _ => word(i) >> shift | word(i + 1) << (64 - shift),
        });
        Bitset::from_words(words.collect(), range.len())
    }

    /// The words, least significant bit first.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// The numbers in the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(i, word)| {
            let mut word = *word;
            std::iter::from_fn(move || {
                if word == 0 {
                    return None;
                }
                let bit = word.trailing_zeros() as usize;
                word &= word - 1;
                Some(i * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_the_bits_of_its_place() {
        let set = Bitset::from_fn(200, |i| i % 3 == 0 || i % 7 == 2);
        for range in [
            0..200,
            0..0,
            64..128,
            63..200,
            1..2,
            65..70,
            130..199,
            199..200,
            200..200,
        ] {
            let expected = Bitset::from_fn(range.len(), |i| set.contains(range.start + i));
            assert_eq!(set.range(range.clone()).words(), expected.words(), "{range:?}");
        }
    }

    #[test]
    fn complement_stays_inside_the_universe() {
        let mut set = Bitset::empty(70);
        set.insert(3);
        set.invert();
        assert_eq!(set.count(), 69);
        assert_eq!(Bitset::full(70).count(), 70);
        set.and_not(&Bitset::from_fn(70, |i| i % 2 == 0));
        assert_eq!(set.iter().next(), Some(1));
        assert_eq!(set.count(), 34);
    }
}
