//! The bytes of the two composite values that Arrow has no column type for.
//!
//! Written by `model::write`, read by whoever returns or indexes such values. Byte tables:
//! `docs/formats/values.md`.

use half::f16;

use super::Invalid;

/// Encodes a `[][N]f32` value: the elements back to back.
pub fn encode_multi_vector(elements: &[f32]) -> Vec<u8> {
    elements.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Decodes a `[][N]f32` value into its elements, `dims` per vector.
///
/// # Errors
///
/// When the length is not a whole number of vectors, `dims` is 0, or an element is not finite.
pub fn decode_multi_vector(bytes: &[u8], dims: u32) -> Result<Vec<f32>, Invalid> {
    let stride = (dims as usize).saturating_mul(4);
    if stride == 0 || !bytes.len().is_multiple_of(stride) {
        return Err(Invalid::new(format!(
            "a [][{dims}]f32 value cannot have {} bytes",
            bytes.len()
        )));
    }
    let (words, _) = bytes.as_chunks::<4>();
    let elements: Vec<f32> = words.iter().map(|w| f32::from_le_bytes(*w)).collect();
    match elements.iter().all(|x| x.is_finite()) {
        true => Ok(elements),
        false => Err(Invalid::new(format!(
            "a [][{dims}]f32 value has an element that is not finite"
        ))),
    }
}

/// Encodes a `{}f16` value.
///
/// * `entries` — ascending by name, no name twice, weights finite
pub fn encode_sparse<S: AsRef<str>>(entries: &[(S, f16)]) -> Vec<u8> {
    let names: usize = entries.iter().map(|(n, _)| n.as_ref().len()).sum();
    let mut out = Vec::with_capacity(4 + entries.len() * 6 + names);
    out.extend_from_slice(&word(entries.len()));
    for (name, _) in entries {
        out.extend_from_slice(&word(name.as_ref().len()));
    }
    for (_, weight) in entries {
        out.extend_from_slice(&weight.to_le_bytes());
    }
    for (name, _) in entries {
        out.extend_from_slice(name.as_ref().as_bytes());
    }
    out
}

fn word(n: usize) -> [u8; 4] {
    u32::try_from(n).expect("values are at most a few MiB").to_le_bytes()
}

/// Decodes a `{}f16` value: ascending names with their weights.
///
/// # Errors
///
/// On any bytes that [`encode_sparse`] does not write.
pub fn decode_sparse(bytes: &[u8]) -> Result<Vec<(&str, f16)>, Invalid> {
    let mut entries = Vec::new();
    decode_sparse_into(bytes, &mut entries)?;
    Ok(entries)
}

/// The same into a buffer, whose content is replaced, so that a column costs one allocation.
///
/// # Errors
///
/// Like [`decode_sparse`]; the buffer then holds some of the entries.
pub fn decode_sparse_into<'a>(bytes: &'a [u8], entries: &mut Vec<(&'a str, f16)>) -> Result<(), Invalid> {
    let broken = || Invalid::new("the bytes of a {}f16 value are damaged");
    let (count, rest) = bytes.split_first_chunk::<4>().ok_or_else(broken)?;
    let count = u32::from_le_bytes(*count) as usize;
    let (lengths, rest) = rest
        .split_at_checked(count.checked_mul(4).ok_or_else(broken)?)
        .ok_or_else(broken)?;
    let (weights, mut names) = rest.split_at_checked(count * 2).ok_or_else(broken)?;
    let (lengths, weights) = (lengths.as_chunks::<4>().0, weights.as_chunks::<2>().0);
    entries.clear();
    entries.reserve(count);
    for (length, weight) in lengths.iter().zip(weights) {
        let (name, rest) = names
            .split_at_checked(u32::from_le_bytes(*length) as usize)
            .ok_or_else(broken)?;
        names = rest;
        let (name, weight) = (
            std::str::from_utf8(name).map_err(|_| broken())?,
            f16::from_le_bytes(*weight),
        );
        if !weight.is_finite() || entries.last().is_some_and(|(previous, _)| *previous >= name) {
            return Err(broken());
        }
        entries.push((name, weight));
    }
    match names.is_empty() {
        true => Ok(()),
        false => Err(broken()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_format_page() {
        let entries = [("12", f16::from_f32(0.5)), ("otter", f16::from_f32(1.25))];
        let bytes = encode_sparse(&entries);
        assert_eq!(bytes, b"\x02\0\0\0\x02\0\0\0\x05\0\0\0\x00\x38\x00\x3d12otter");
        assert_eq!(decode_sparse(&bytes).unwrap(), entries);
        assert_eq!(encode_multi_vector(&[1.0, 2.0]), b"\0\0\x80\x3f\0\0\0\x40");
    }

    #[test]
    fn damaged_values_are_refused() {
        for bytes in [
            &b""[..],
            b"\x01\0\0\0",
            b"\xff\xff\xff\xff",
            b"\0\0\0\0x",
            b"\x01\0\0\0\x01\0\0\0\0\x7ca",
        ] {
            assert!(decode_sparse(bytes).is_err(), "{bytes:?}");
        }
        assert!(decode_multi_vector(&[0; 9], 2).is_err());
        assert!(decode_multi_vector(&[], 0).is_err());
        assert!(decode_multi_vector(&f32::NAN.to_le_bytes(), 1).is_err());
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(map in proptest::collection::btree_map(".{0,8}", -100f32..100.0, 0..20)) {
            let entries: Vec<(String, f16)> = map.into_iter().map(|(k, v)| (k, f16::from_f32(v))).collect();
            let bytes = encode_sparse(&entries);
            let expected: Vec<(&str, f16)> = entries.iter().map(|(k, v)| (k.as_str(), *v)).collect();
            prop_assert_eq!(decode_sparse(&bytes).unwrap(), expected);
        }

        #[test]
        fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), dims in 0u32..5) {
            let _ = decode_sparse(&bytes);
            let _ = decode_multi_vector(&bytes, dims);
        }
    }
}
