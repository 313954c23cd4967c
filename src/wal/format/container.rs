//! The frame around a header and a body: magic, version, lengths, checksums, digest.

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use super::pieces::Pieces;
use super::{DecodeError, VERSION_OLDEST_READ, VERSION_WRITTEN};
use crate::store::PutPayload;
use crate::wal::Digest;
use crate::wal::frame::{Frame, TRAILER_BYTES, check_digest, u32_at, u64_at};

/// Sections, and the body as a whole, start at multiples of this, for aligned vector loads.
pub(super) const ALIGN: usize = 64;
const FIXED_BYTES: usize = 64;

/// Which kind of object the frame is for; they differ in their magic.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Entry,
    Blob,
}

impl Kind {
    fn frame(self) -> Frame<FIXED_BYTES> {
        Frame {
            magic: match self {
                Kind::Entry => b"SHOALLOG",
                Kind::Blob => b"SHOALBLB",
            },
            versions: VERSION_OLDEST_READ..=VERSION_WRITTEN,
            features_at: 24,
        }
    }
}

/// Puts the frame around a header and a body.
pub(super) fn seal(kind: Kind, header: &[u8], body: Pieces) -> (PutPayload, Digest) {
    let body_at = (FIXED_BYTES + header.len()).next_multiple_of(ALIGN);
    let header_len = u32::try_from(header.len()).expect("a batch of 4096 requests has far less than 4 GiB of header");
    let fixed = kind.frame().first(|fixed| {
        fixed[12..16].copy_from_slice(&header_len.to_le_bytes());
        fixed[16..24].copy_from_slice(&body.len().to_le_bytes());
    });

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
    let fixed = kind.frame().check(bytes)?;
    let header_end = FIXED_BYTES as u64 + u64::from(u32_at(fixed, 12));
    let body_at = header_end.next_multiple_of(ALIGN as u64);
    let total = body_at
        .checked_add(u64_at(fixed, 16))
        .and_then(|n| n.checked_add(TRAILER_BYTES as u64));
    let digest = check_digest(bytes, total)?;
    // Both are at most the length of `bytes`, which is a usize.
    let (header_end, body_at) = (header_end as usize, body_at as usize);
    Ok((
        bytes.slice(FIXED_BYTES..header_end),
        bytes.slice(body_at..bytes.len() - TRAILER_BYTES),
        digest,
    ))
}
