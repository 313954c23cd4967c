//! What objects with a digest begin and end with: magic, version, features, the checksum of these first bytes; and in
//! the end the digest of everything before it.

use std::ops::RangeInclusive;

use ulid::Ulid;
use xxhash_rust::xxh3::xxh3_128;

use super::{DecodeError, Digest};

/// At the end of an object.
pub const TRAILER_BYTES: usize = 16;
/// At the end of the first bytes.
const CRC_BYTES: usize = 4;

/// The first bytes of one kind of object. What lies between the version and the checksum is its own, but for the
/// features, which are 0 as long as there are none.
pub struct Frame<const BYTES: usize> {
    pub magic: &'static [u8; 8],
    /// From the oldest that is read to the one that is written.
    pub versions: RangeInclusive<u32>,
    /// Where the features are, eight bytes.
    pub features_at: usize,
}

impl<const BYTES: usize> Frame<BYTES> {
    /// The first bytes of a new object.
    ///
    /// * `own` — puts what is the kind's own
    pub fn first(&self, own: impl FnOnce(&mut [u8; BYTES])) -> [u8; BYTES] {
        let mut first = [0; BYTES];
        first[..8].copy_from_slice(self.magic);
        first[8..12].copy_from_slice(&self.versions.end().to_le_bytes());
        own(&mut first);
        let crc = crc32c::crc32c(&first[..BYTES - CRC_BYTES]);
        first[BYTES - CRC_BYTES..].copy_from_slice(&crc.to_le_bytes());
        first
    }

    /// The first bytes of an object, if they are what they should be. Any bytes are allowed.
    pub fn check<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8; BYTES], DecodeError> {
        let first: &[u8; BYTES] = bytes
            .first_chunk()
            .ok_or_else(|| DecodeError::corrupt(format!("{} bytes are too few", bytes.len())))?;
        if &first[..8] != self.magic {
            return Err(DecodeError::corrupt("it starts with the wrong magic"));
        }
        if u32_at(first, BYTES - CRC_BYTES) != crc32c::crc32c(&first[..BYTES - CRC_BYTES]) {
            return Err(DecodeError::corrupt(format!(
                "the checksum of its first {BYTES} bytes is wrong"
            )));
        }
        let (version, [oldest, written]) = (u32_at(first, 8), [*self.versions.start(), *self.versions.end()]);
        if version > written {
            return Err(DecodeError::newer(format!(
                "format version {version}, this one reads {oldest} to {written}"
            )));
        }
        if version < oldest {
            return Err(DecodeError::corrupt(format!(
                "format version {version} is no longer read"
            )));
        }
        match u64_at(first, self.features_at) {
            0 => Ok(first),
            features => Err(DecodeError::newer(format!(
                "it requires unknown features {features:#x}"
            ))),
        }
    }
}

/// The digest at the end of an object, which is that of all before it.
///
/// * `len` — how long the object has to be, by what its first bytes say
pub fn check_digest(bytes: &[u8], len: Option<u64>) -> Result<Digest, DecodeError> {
    let whole = bytes
        .split_last_chunk::<TRAILER_BYTES>()
        .filter(|_| len == Some(bytes.len() as u64));
    let Some((covered, trailer)) = whole else {
        return Err(DecodeError::corrupt(format!(
            "it has {} bytes, its lengths say otherwise",
            bytes.len()
        )));
    };
    let digest = xxh3_128(covered);
    match *trailer == digest.to_le_bytes() {
        true => Ok(Digest(digest)),
        false => Err(DecodeError::corrupt("its digest is wrong")),
    }
}

/// Four bytes, which are there, the lowest first.
pub fn u32_at<const BYTES: usize>(bytes: &[u8; BYTES], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Eight bytes, which are there, the lowest first.
pub fn u64_at<const BYTES: usize>(bytes: &[u8; BYTES], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// A number as messages have it.
pub fn u128_bytes(n: u128) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(&n.to_le_bytes())
}

/// The number of a message's bytes.
///
/// * `what` — for the error
pub fn u128_of(bytes: &[u8], what: &str) -> Result<u128, DecodeError> {
    fixed(bytes, what).map(u128::from_le_bytes)
}

/// A name as messages have it.
pub fn ulid_bytes(id: Ulid) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(&id.to_bytes())
}

/// The name of a message's bytes.
///
/// * `what` — for the error
pub fn ulid_of(bytes: &[u8], what: &str) -> Result<Ulid, DecodeError> {
    fixed(bytes, what).map(Ulid::from_bytes)
}

/// A message's bytes, if they are 16.
///
/// * `what` — for the error
pub fn fixed(bytes: &[u8], what: &str) -> Result<[u8; 16], DecodeError> {
    bytes
        .try_into()
        .map_err(|_| DecodeError::corrupt(format!("its {what} has {} bytes instead of 16", bytes.len())))
}
