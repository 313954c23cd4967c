//! The small parts that index formats are made of: varints, counted byte strings, and a reader that
//! never goes beyond its bytes.

/// Why stored bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Damaged, cut short, or something else altogether.
    #[error("damaged: {0}")]
    Corrupt(String),
    /// Whole, but written by a newer version of this program.
    #[error("written by a newer version: {0}")]
    Newer(String),
}

impl FormatError {
    pub(crate) fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt(what.into())
    }
}

/// Appends 7 bits per byte, the lowest first; the highest bit says that more follow.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Appends a number of either sign, small ones in few bytes.
pub(crate) fn put_signed(out: &mut Vec<u8>, n: i64) {
    put_varint(out, (n << 1 ^ n >> 63) as u64);
}

/// Appends a length and the bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// How many bytes two strings have in common at their beginning.
pub(crate) fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Reads from the front of some bytes; errors where they end too soon.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], FormatError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or_else(cut_short)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, FormatError> {
        let (first, rest) = self.rest.split_first().ok_or_else(cut_short)?;
        self.rest = rest;
        Ok(*first)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, FormatError> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            n |= bits << shift;
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err(FormatError::corrupt("a number has more than 64 bits"))
    }

    pub(crate) fn signed(&mut self) -> Result<i64, FormatError> {
        let n = self.varint()?;
        Ok((n >> 1) as i64 ^ -((n & 1) as i64))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FormatError> {
        u32::try_from(self.varint()?).map_err(|_| FormatError::corrupt("a number has more than 32 bits"))
    }

    /// A count of things that take at least `bytes_each` of the bytes that are left.
    pub(crate) fn count(&mut self, bytes_each: usize) -> Result<usize, FormatError> {
        let n = self.varint()?;
        match usize::try_from(n) {
            Ok(n) if n <= self.rest.len() / bytes_each.max(1) => Ok(n),
            _ => Err(FormatError::corrupt(format!("{n} things in {} bytes", self.rest.len()))),
        }
    }

    /// A length and as many bytes.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], FormatError> {
        let len = self.count(1)?;
        self.take(len)
    }

    /// That nothing is left.
    pub(crate) fn end(&self) -> Result<(), FormatError> {
        match self.rest.len() {
            0 => Ok(()),
            n => Err(FormatError::corrupt(format!("{n} bytes too many"))),
        }
    }
}

fn cut_short() -> FormatError {
    FormatError::corrupt("cut short")
}

#[cfg(test)]
mod tests {
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
            assert!(Reader::new(&out[..len - 1]).varint().is_err());
        }
        for n in [0, -1, 1, -64, 64, i64::MIN, i64::MAX] {
            let mut out = Vec::new();
            put_signed(&mut out, n);
            assert_eq!(Reader::new(&out).signed(), Ok(n));
        }
        assert!(Reader::new(&[0xff; 11]).varint().is_err());
        assert!(
            Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2])
                .varint()
                .is_err()
        );
    }

    #[test]
    fn a_count_beyond_the_bytes_is_an_error() {
        assert_eq!(Reader::new(&[2, 0, 0]).count(1), Ok(2));
        assert!(Reader::new(&[2, 0, 0]).count(2).is_err());
        assert!(Reader::new(&[3, 0, 0]).bytes().is_err());
    }
}
