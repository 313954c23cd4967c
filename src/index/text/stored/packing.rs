//! Small numbers in as few bits as the largest of them needs.

use crate::base::coding::FormatError;

/// The bits that every value fits into.
pub(super) fn width(values: &[u32]) -> u8 {
    (32 - values.iter().fold(0, |all, v| all | v).leading_zeros()) as u8
}

/// How many bytes `count` values of so many bits take.
pub(super) fn packed_len(count: usize, width: u8) -> usize {
    (count * width as usize).div_ceil(8)
}

/// Appends values, the lowest bits first.
pub(super) fn pack(out: &mut Vec<u8>, values: &[u32], width: u8) {
    let (mut pending, mut bits) = (0u64, 0);
    for value in values {
        pending |= u64::from(*value) << bits;
        bits += u32::from(width);
        while bits >= 8 {
            out.push(pending as u8);
            pending >>= 8;
            bits -= 8;
        }
    }
    if bits > 0 {
        out.push(pending as u8);
    }
}

/// Reads as many values as `out` has places.
///
/// # Errors
///
/// `bytes` has not the length that they take, or they have more than 32 bits.
pub(super) fn unpack(bytes: &[u8], width: u8, out: &mut [u32]) -> Result<(), FormatError> {
    if width > 32 || bytes.len() != packed_len(out.len(), width) {
        return Err(FormatError::corrupt(format!(
            "{} values of {width} bits in {} bytes",
            out.len(),
            bytes.len()
        )));
    }
    let mask = (1u64 << width) - 1;
    for (i, value) in out.iter_mut().enumerate() {
        let bit = i * width as usize;
        *value = (word_at(bytes, bit / 8) >> (bit % 8) & mask) as u32;
    }
    Ok(())
}

/// Eight bytes from a place on, zeros where they end.
fn word_at(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at..).unwrap_or(&[]);
    match rest.first_chunk::<8>() {
        Some(word) => u64::from_le_bytes(*word),
        None => {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            u64::from_le_bytes(word)
        }
    }
}
