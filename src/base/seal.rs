//! Texts with a checksum behind them: what was damaged on the way is not taken for something else.

/// Behind the text: a line feed and the checksum.
const SEAL_BYTES: usize = 9;

/// The bytes, a line feed, and their crc32c in eight hexadecimal digits.
pub fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let seal = seal(&bytes);
    bytes.extend_from_slice(&seal);
    bytes
}

/// What was [`sealed`]; `None` when these are not the bytes that came of it.
pub fn unsealed(bytes: &[u8]) -> Option<&[u8]> {
    let (body, found) = bytes.split_at_checked(bytes.len().checked_sub(SEAL_BYTES)?)?;
    (seal(body) == found).then_some(body)
}

fn seal(bytes: &[u8]) -> Vec<u8> {
    format!("\n{:08x}", crc32c::crc32c(bytes)).into_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_seal_is_broken_by_any_flipped_bit_and_any_cut(bytes: Vec<u8>, flip: prop::sample::Index, cut: prop::sample::Index) {
            let whole = sealed(bytes.clone());
            prop_assert_eq!(unsealed(&whole), Some(&bytes[..]));
            let mut flipped = whole.clone();
            let at = flip.index(whole.len() * 8);
            flipped[at / 8] ^= 1 << (at % 8);
            prop_assert_eq!(unsealed(&flipped), None);
            // Cut bytes may by chance be sealed ones, but not these.
            prop_assert_ne!(unsealed(&whole[..cut.index(whole.len())]), Some(&bytes[..]));
        }
    }
}
