//! Numbers and bytes back to back, and their checksums. Everything that is read is bounded by what is there.

use crate::base::coding::BadBytes;
pub(super) use crate::base::coding::{Reader, put_bytes, put_varint as put};

/// What is wrong with bytes that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damaged(pub &'static str);

impl From<BadBytes> for Damaged {
    fn from(bad: BadBytes) -> Self {
        Self(match bad {
            BadBytes::CutShort => "cut short",
            BadBytes::TooWide(_) => "a number has too many bits",
            BadBytes::TooLarge { .. } => "a number is too large",
            BadBytes::TooMany { .. } => "more things than there are bytes for",
            BadBytes::GoesOn(_) => "goes on after its end",
        })
    }
}

/// Bytes of a checksum.
pub(super) const CRC_BYTES: usize = 4;

/// How large things get before they are split. Readers do not depend on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// A block ends with what makes it so long.
    pub block: usize,
    /// A dictionary of one block up to this size is in the directory, too: attributes of few values need no read to
    /// find a value, and their estimates are exact.
    pub resident: usize,
    /// More than so many bytes of gaps between rows become a bitmap: it is read only when its value is asked for, and
    /// the values around it can be read without it.
    pub inline_rows: usize,
    /// A longer list of a trigram's values has a block of its own, so that nobody reads it for another's sake.
    pub shared_list: usize,
    /// Up to so many values, trigrams are listed however many values have them.
    pub few_values: u32,
}

impl Sizes {
    /// What is written.
    pub const WRITTEN: Self = Self {
        block: 16 << 10,
        resident: 4 << 10,
        inline_rows: 256,
        shared_list: 4 << 10,
        few_values: 256,
    };
}

/// Appends the checksum of everything from `start` on.
pub(super) fn seal(out: &mut Vec<u8>, start: usize) {
    let crc = crc32c::crc32c(&out[start..]);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// What stands before the checksum at the end, which is right.
pub(super) fn unseal(bytes: &[u8]) -> Result<&[u8], Damaged> {
    let (content, crc) = bytes.split_last_chunk().ok_or(Damaged("shorter than its checksum"))?;
    match crc32c::crc32c(content) == u32::from_le_bytes(*crc) {
        true => Ok(content),
        false => Err(Damaged("checksum differs")),
    }
}
