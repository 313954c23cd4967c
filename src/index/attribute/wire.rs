//! Numbers and bytes back to back, and their checksums. Everything that is read is bounded by what is there.

pub(super) use crate::index::coding::{put_bytes, put_varint as put};

/// What is wrong with bytes that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damaged(pub &'static str);

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

/// Takes numbers and bytes off the front.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn number(&mut self) -> Result<u64, Damaged> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(Damaged("ends within a number"))?;
            self.0 = rest;
            if shift == 63 && *byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Damaged("a number has more than 64 bits"))
    }

    /// A number that fits 32 bits.
    pub fn small(&mut self) -> Result<u32, Damaged> {
        u32::try_from(self.number()?).map_err(|_| Damaged("a number has more than 32 bits"))
    }

    pub fn byte(&mut self) -> Result<u8, Damaged> {
        Ok(self.take(1)?[0])
    }

    pub fn take(&mut self, len: u64) -> Result<&'a [u8], Damaged> {
        let at = usize::try_from(len).ok().and_then(|len| self.0.split_at_checked(len));
        let (taken, rest) = at.ok_or(Damaged("ends within bytes"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// Bytes behind their length.
    pub fn bytes(&mut self) -> Result<&'a [u8], Damaged> {
        let len = self.number()?;
        self.take(len)
    }

    pub fn end(self) -> Result<(), Damaged> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(Damaged("goes on after its end")),
        }
    }
}
