//! The Bloom filter over the ids of a segment: most ids that are not there are told apart without
//! a read.
//!
//! Bloom, Space/Time Trade-offs in Hash Coding with Allowable Errors, 1970; two hashes instead of
//! seven after Kirsch and Mitzenmacher, Less Hashing, Same Performance, 2006.

use bytes::Bytes;

use super::VERSION_WRITTEN;
use crate::base::coding::FormatError;
use crate::model::batch::hash_id;
use crate::model::{Id, IdColumn};

const BITS_PER_KEY: usize = 10;
const PROBES: u8 = 7;
/// More are nonsense, and would take long.
const PROBES_MAX: u8 = 32;
const HEADER_LEN: usize = 8;

/// A set of ids that may claim to have more than it has, never less. Lies in its stored bytes.
#[derive(Clone, Debug)]
pub struct Bloom {
    /// Words of 64 bits, little endian.
    words: Bytes,
    probes: u8,
}

/// Encodes the filter of some ids, 10 bits each.
pub(super) fn encode(ids: &IdColumn) -> Bytes {
    let mut words = vec![0u64; (ids.len() * BITS_PER_KEY).div_ceil(64)];
    let bits = words.len() as u64 * 64;
    for row in 0..ids.len() {
        for bit in probes(ids.hash(row), PROBES, bits) {
            words[(bit / 64) as usize] |= 1 << (bit % 64);
        }
    }
    let mut out = Vec::with_capacity(HEADER_LEN + words.len() * 8);
    out.extend_from_slice(&[VERSION_WRITTEN, PROBES, 0, 0, 0, 0, 0, 0]);
    out.extend(words.iter().flat_map(|w| w.to_le_bytes()));
    out.into()
}

/// Which of `bits` bits, at least one, stand for a hash.
fn probes(hash: u64, probes: u8, bits: u64) -> impl Iterator<Item = u64> {
    // Of a hash that is uniform already any odd multiple with its halves swapped will do as the second one.
    let step = hash.rotate_left(32).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let at = move |i: u64| hash.wrapping_add(i.wrapping_mul(step));
    (0..u64::from(probes)).map(move |i| ((u128::from(at(i)) * u128::from(bits)) >> 64) as u64)
}

impl Bloom {
    /// Takes over the stored bytes.
    ///
    /// # Errors
    ///
    /// They are not those of a filter.
    pub fn open(bytes: Bytes) -> Result<Self, FormatError> {
        let header = bytes
            .get(..HEADER_LEN)
            .ok_or_else(|| FormatError::corrupt("a bloom filter is cut short"))?;
        if header[0] != VERSION_WRITTEN {
            return Err(FormatError::Newer(format!("bloom filter of version {}", header[0])));
        }
        let probes = header[1];
        let words = bytes.slice(HEADER_LEN..);
        if !(1..=PROBES_MAX).contains(&probes) || !words.len().is_multiple_of(8) {
            return Err(FormatError::corrupt(format!(
                "a bloom filter has {probes} probes and {} bytes",
                words.len()
            )));
        }
        Ok(Self { words, probes })
    }

    /// Whether an id may be in the set. False is certain; true is wrong for less than 1.5 % of the others.
    pub fn may_contain(&self, id: &Id) -> bool {
        let bits = self.words.len() as u64 * 8;
        bits > 0
            && probes(hash_id(id), self.probes, bits).all(|bit| self.words[(bit / 8) as usize] >> (bit % 8) & 1 == 1)
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> usize {
        self.words.len()
    }
}
