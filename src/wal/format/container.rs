//! The frame around a header and a body: magic, version, lengths, checksums, digest.

use bytes::Bytes;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::pieces::Pieces;
use super::{DecodeError, VERSION_OLDEST_READ, VERSION_WRITTEN};
use crate::store::PutPayload;
use crate::wal::Digest;

/// Sections, and the body as a whole, start at multiples of this, for aligned vector loads.
pub(super) const ALIGN: usize = 64;
const FIXED_BYTES: usize = 64;
const TRAILER_BYTES: usize = 16;
const CRC_AT: usize = 60;

/// Which kind of object the frame is for; they differ in their magic.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Entry,
    Blob,
}

impl Kind {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            Kind::Entry => b"SHOALLOG",
            Kind::Blob => b"SHOALBLB",
        }
    }
}

/// Puts the frame around a header and a body.
pub(super) fn seal(kind: Kind, header: &[u8], body: Pieces) -> (PutPayload, Digest) {
    let body_at = (FIXED_BYTES + header.len()).next_multiple_of(ALIGN);
    let header_len = u32::try_from(header.len()).expect("a batch of 4096 requests has far less than 4 GiB of header");
    let mut fixed = [0; FIXED_BYTES];
    fixed[..8].copy_from_slice(kind.magic());
    fixed[8..12].copy_from_slice(&VERSION_WRITTEN.to_le_bytes());
    fixed[12..16].copy_from_slice(&header_len.to_le_bytes());
    fixed[16..24].copy_from_slice(&body.len().to_le_bytes());
    let crc = crc32c::crc32c(&fixed[..CRC_AT]);
    fixed[CRC_AT..].copy_from_slice(&crc.to_le_bytes());

    let mut head = Vec::with_capacity(body_at);
    head.extend_from_slice(&fixed);
    head.extend_from_slice(header);
    head.resize(body_at, 0);
    let mut object = vec![Bytes::from(head)];
    object.extend(body.into_bytes());
    let mut hasher = Xxh3::new();
    object.iter().for_each(|piece| hasher.update(piece));
    let digest = hasher.digest128();
    object.push(Bytes::copy_from_slice(&digest.to_le_bytes()));
    (PutPayload::from_iter(object), Digest(digest))
}

/// Checks the frame of any bytes; returns header, body and digest.
pub(super) fn open(kind: Kind, bytes: &Bytes) -> Result<(Bytes, Bytes, Digest), DecodeError> {
    let fixed: &[u8; FIXED_BYTES] = bytes
        .first_chunk()
        .ok_or_else(|| DecodeError::corrupt(format!("{} bytes are too few", bytes.len())))?;
    if &fixed[..8] != kind.magic() {
        return Err(DecodeError::corrupt("it starts with the wrong magic"));
    }
    if u32_at(fixed, CRC_AT) != crc32c::crc32c(&fixed[..CRC_AT]) {
        return Err(DecodeError::corrupt("the checksum of its first 64 bytes is wrong"));
    }
    check_version(fixed)?;
    let header_end = FIXED_BYTES as u64 + u64::from(u32_at(fixed, 12));
    let body_at = header_end.next_multiple_of(ALIGN as u64);
    let total = body_at
        .checked_add(u64_at(fixed, 16))
        .and_then(|n| n.checked_add(TRAILER_BYTES as u64));
    if total != Some(bytes.len() as u64) {
        return Err(DecodeError::corrupt(format!(
            "it has {} bytes, its lengths say otherwise",
            bytes.len()
        )));
    }
    let (covered, trailer) = bytes.split_at(bytes.len() - TRAILER_BYTES);
    let digest = xxh3_128(covered);
    if trailer != digest.to_le_bytes() {
        return Err(DecodeError::corrupt("its digest is wrong"));
    }
    // Both are at most the length of `bytes`, which is a usize.
    let (header_end, body_at) = (header_end as usize, body_at as usize);
    Ok((
        bytes.slice(FIXED_BYTES..header_end),
        bytes.slice(body_at..covered.len()),
        Digest(digest),
    ))
}

fn check_version(fixed: &[u8; FIXED_BYTES]) -> Result<(), DecodeError> {
    let version = u32_at(fixed, 8);
    if version > VERSION_WRITTEN {
        return Err(DecodeError::newer(format!(
            "format version {version}, this one reads {VERSION_OLDEST_READ} to {VERSION_WRITTEN}"
        )));
    }
    if version < VERSION_OLDEST_READ {
        return Err(DecodeError::corrupt(format!(
            "format version {version} is no longer read"
        )));
    }
    match u64_at(fixed, 24) {
        0 => Ok(()),
        features => Err(DecodeError::newer(format!(
            "it requires unknown features {features:#x}"
        ))),
    }
}

fn u32_at(bytes: &[u8; FIXED_BYTES], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8; FIXED_BYTES], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
