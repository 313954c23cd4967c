//! Rows by the values of several attributes at a time.

use std::sync::Arc;

use super::codes::Codes;
use crate::base::{Bitset, is_abandoned};

/// Rows that are looked at together: their numbers fit into the processor's cache.
const BATCH: usize = 1024;

/// One number for the codes that a row has of one or several attributes.
#[derive(Clone, Debug)]
pub struct Combined {
    /// Each with what its codes are multiplied with.
    codes: Vec<(Arc<Codes>, u32)>,
    len: u32,
}

impl Combined {
    /// Combines codes of the same rows; `None` when there are more than `len_max` combinations.
    pub fn new(codes: Vec<Arc<Codes>>, len_max: u32) -> Option<Self> {
        let mut len = 1u32;
        let mut combined = Vec::with_capacity(codes.len());
        for codes in codes.into_iter().rev() {
            let count = codes.count();
            combined.push((codes, len));
            len = len.checked_mul(count).filter(|len| *len <= len_max)?;
        }
        combined.reverse();
        Some(Self { codes: combined, len })
    }

    /// How many numbers there are.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The codes that a number is made of.
    pub fn parts(&self, number: u32) -> impl Iterator<Item = (&Codes, u32)> {
        let code = move |(codes, times): &(Arc<Codes>, u32)| number / times % codes.count();
        self.codes.iter().map(move |part| (&*part.0, code(part)))
    }

    /// Calls `visit` with each row of a set and its number.
    ///
    /// * `start` — the row of bit 0
    pub fn each(&self, start: usize, rows: &Bitset, mut visit: impl FnMut(usize, u32)) {
        let mut numbers = [0u32; BATCH];
        for (batch, words) in rows.words().chunks(BATCH / 64).enumerate() {
            if words.iter().all(|word| *word == 0) {
                continue;
            }
            if is_abandoned() {
                return;
            }
            let first = batch * BATCH;
            let numbers = &mut numbers[..BATCH.min(rows.len() - first)];
            numbers.fill(0);
            for (codes, times) in &self.codes {
                codes.add(start + first, *times, numbers);
            }
            for (i, (word, numbers)) in words.iter().zip(numbers.chunks(64)).enumerate() {
                let first = start + first + 64 * i;
                if *word == u64::MAX {
                    numbers
                        .iter()
                        .enumerate()
                        .for_each(|(bit, number)| visit(first + bit, *number));
                    continue;
                }
                let mut word = *word;
                while word != 0 {
                    let bit = word.trailing_zeros() as usize;
                    visit(first + bit, numbers[bit]);
                    word &= word - 1;
                }
            }
        }
    }

    /// How many rows of a set have each number.
    ///
    /// * `start` — the row of bit 0
    pub fn count(&self, start: usize, rows: &Bitset) -> Vec<u64> {
        let mut counts = vec![0; self.len()];
        self.each(start, rows, |_, number| counts[number as usize] += 1);
        counts
    }
}
