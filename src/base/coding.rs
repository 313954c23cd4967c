//! Numbers and bytes back to back, as stored formats have them: how they are put, and a reader that never goes beyond
//! its bytes.
//!
//! # What stays true
//!
//! Reading any bytes gives a value or an error, never a panic, and takes no memory.

/// Why bytes are not what a format says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Damaged, cut short, or something else altogether.
    #[error("{0}")]
    Corrupt(String),
    /// Whole, but written by a newer version of this program.
    #[error("written by a newer version: {0}")]
    Newer(String),
}

impl FormatError {
    /// Damaged in this way.
    pub fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt(what.into())
    }

    /// Of a newer version, as this shows.
    pub fn newer(what: impl Into<String>) -> Self {
        Self::Newer(what.into())
    }
}

impl From<BadBytes> for FormatError {
    fn from(bad: BadBytes) -> Self {
        Self::Corrupt(bad.to_string())
    }
}

/// Why bytes do not begin with what was to be read. Costs nothing to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBytes {
    #[error("cut short")]
    CutShort,
    #[error("a number has more than {0} bits")]
    TooWide(u32),
    #[error("a number is {number}, not at most {most}")]
    TooLarge { number: u64, most: u64 },
    #[error("{things} things in {bytes} bytes")]
    TooMany { things: u64, bytes: usize },
    #[error("{0} bytes too many")]
    GoesOn(usize),
}

/// Appends 7 bits per byte, the lowest first; the highest bit says that more follow.
pub fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Appends a number of either sign, small ones in few bytes.
pub fn put_signed(out: &mut Vec<u8>, n: i64) {
    put_varint(out, zigzag(n));
}

/// Appends a length and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Small numbers of either sign become small numbers.
pub fn zigzag(n: i64) -> u64 {
    (n << 1 ^ n >> 63) as u64
}

/// The inverse of [`zigzag`].
pub fn unzigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

/// How many bytes two strings have in common at their beginning.
pub fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Reads from the front of some bytes; errors where they end too soon.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from the front.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// How many bytes are left.
    pub fn len(&self) -> usize {
        self.rest.len()
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], BadBytes> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(BadBytes::CutShort)?;
        self.rest = rest;
        Ok(taken)
    }

    /// One byte.
    pub fn byte(&mut self) -> Result<u8, BadBytes> {
        let (first, rest) = self.rest.split_first().ok_or(BadBytes::CutShort)?;
        self.rest = rest;
        Ok(*first)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadBytes> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(BadBytes::CutShort)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Two bytes, the lowest first.
    pub fn u16_le(&mut self) -> Result<u16, BadBytes> {
        self.array().map(u16::from_le_bytes)
    }

    /// Four bytes, the lowest first.
    pub fn u32_le(&mut self) -> Result<u32, BadBytes> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes, the lowest first.
    pub fn u64_le(&mut self) -> Result<u64, BadBytes> {
        self.array().map(u64::from_le_bytes)
    }

    /// Sixteen bytes, the lowest first.
    pub fn u128_le(&mut self) -> Result<u128, BadBytes> {
        self.array().map(u128::from_le_bytes)
    }

    /// A number as [`put_varint`] writes it.
    pub fn varint(&mut self) -> Result<u64, BadBytes> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth group has one bit left.
            if shift == 63 && bits > 1 {
                break;
            }
            n |= bits << shift;
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err(BadBytes::TooWide(64))
    }

    /// A varint that fits 32 bits.
    pub fn varint32(&mut self) -> Result<u32, BadBytes> {
        u32::try_from(self.varint()?).map_err(|_| BadBytes::TooWide(32))
    }

    /// A varint that must not exceed `most`.
    pub fn varint_to(&mut self, most: u64) -> Result<u64, BadBytes> {
        match self.varint()? {
            number if number <= most => Ok(number),
            number => Err(BadBytes::TooLarge { number, most }),
        }
    }

    /// A number as [`put_signed`] writes it.
    pub fn signed(&mut self) -> Result<i64, BadBytes> {
        self.varint().map(unzigzag)
    }

    /// A count of things that take at least `bytes_each` of the bytes that are left.
    pub fn count(&mut self, bytes_each: usize) -> Result<usize, BadBytes> {
        let things = self.varint()?;
        match usize::try_from(things) {
            Ok(n) if n <= self.rest.len() / bytes_each.max(1) => Ok(n),
            _ => Err(BadBytes::TooMany {
                things,
                bytes: self.rest.len(),
            }),
        }
    }

    /// A length and as many bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8], BadBytes> {
        let len = self.count(1)?;
        self.take(len)
    }

    /// That nothing is left.
    pub fn end(&self) -> Result<(), BadBytes> {
        match self.rest.len() {
            0 => Ok(()),
            n => Err(BadBytes::GoesOn(n)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_come_back_and_take_few_bytes() {
        for (n, len) in [(0, 1), (127, 1), (128, 2), (1 << 32, 5), (u64::MAX, 10)] {
            let mut out = Vec::new();
            put_varint(&mut out, n);
            assert_eq!(out.len(), len, "{n}");
            let mut reader = Reader::new(&out);
            assert_eq!(reader.varint(), Ok(n));
            assert_eq!(reader.end(), Ok(()));
            assert_eq!(Reader::new(&out[..len - 1]).varint(), Err(BadBytes::CutShort));
        }
        for n in [0, -1, 1, -64, 64, i64::MIN, i64::MAX] {
            let mut out = Vec::new();
            put_signed(&mut out, n);
            assert_eq!(Reader::new(&out).signed(), Ok(n));
        }
        assert_eq!(Reader::new(&[0xff; 11]).varint(), Err(BadBytes::TooWide(64)));
        let two = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2];
        assert_eq!(Reader::new(&two).varint(), Err(BadBytes::TooWide(64)));
        assert_eq!(Reader::new(&two[4..]).varint32(), Err(BadBytes::TooWide(32)));
        assert_eq!(
            Reader::new(&[9]).varint_to(8),
            Err(BadBytes::TooLarge { number: 9, most: 8 })
        );
    }

    #[test]
    fn a_count_beyond_the_bytes_is_an_error() {
        assert_eq!(Reader::new(&[2, 0, 0]).count(1), Ok(2));
        assert_eq!(
            Reader::new(&[2, 0, 0]).count(2),
            Err(BadBytes::TooMany { things: 2, bytes: 2 })
        );
        assert!(Reader::new(&[3, 0, 0]).bytes().is_err());
    }

    proptest! {
        #[test]
        fn what_was_put_is_read(numbers: Vec<u64>, signed: i64, text: Vec<u8>) {
            let mut out = Vec::new();
            numbers.iter().for_each(|n| put_varint(&mut out, *n));
            put_signed(&mut out, signed);
            put_bytes(&mut out, &text);
            out.extend_from_slice(&signed.to_le_bytes());
            let mut reader = Reader::new(&out);
            for n in numbers {
                prop_assert_eq!(reader.varint(), Ok(n));
            }
            prop_assert_eq!(reader.signed(), Ok(signed));
            prop_assert_eq!(reader.bytes(), Ok(&text[..]));
            prop_assert_eq!(reader.u64_le(), Ok(signed as u64));
            prop_assert_eq!(reader.end(), Ok(()));
            prop_assert_eq!(unzigzag(zigzag(signed)), signed);
        }

        #[test]
        fn any_bytes_are_read_to_their_end_or_an_error(bytes: Vec<u8>, kinds: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            for kind in kinds {
                let left = reader.len();
                let read = match kind % 11 {
                    0 => reader.byte().is_ok(),
                    1 => reader.u16_le().is_ok(),
                    2 => reader.u32_le().is_ok(),
                    3 => reader.u64_le().is_ok(),
                    4 => reader.u128_le().is_ok(),
                    5 => reader.varint().is_ok(),
                    6 => reader.varint32().is_ok(),
                    7 => reader.signed().is_ok(),
                    8 => reader.bytes().is_ok_and(|read| read.len() < left),
                    9 => reader.count(3).is_ok_and(|n| n * 3 <= reader.len()),
                    _ => reader.varint_to(5).is_ok_and(|n| n <= 5),
                };
                prop_assert!(reader.len() + usize::from(read) <= left);
            }
            prop_assert_eq!(reader.end().is_ok(), reader.is_empty());
        }
    }
}
