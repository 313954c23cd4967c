//! The smallest pieces of the format: bounded reading, varints, packed numbers, checked and compressed frames.
//!
//! # What stays true
//!
//! Any bytes give a value or an error: no panic, and no more memory than a small multiple of the input or of what a frame
//! really unpacks to, at most [`FRAME_RAW_BYTES_MAX`].

use std::cell::RefCell;
use std::io::Read;

pub use crate::base::coding::{FormatError, Reader, put_varint, unzigzag, zigzag};

/// The most bytes one frame may unpack to. A row of the largest size stays below it.
pub const FRAME_RAW_BYTES_MAX: usize = 1 << 30;
/// Checksum, codec, raw length.
const FRAME_HEAD_BYTES: usize = 9;
/// Up to here the announced length is trusted with an allocation before it has proved true.
const TRUSTED_RAW_BYTES: usize = 1 << 20;
const ZSTD_LEVEL: i32 = 1;
/// Of what is unpacked for a few of its bytes.
const ZSTD_LEVEL_QUICK: i32 = -1;

type Decompressor = zstd::bulk::Decompressor<'static>;

thread_local! {
    /// Making one takes longer than unpacking a few pages.
    static UNZSTD: RefCell<Option<Decompressor>> = const { RefCell::new(None) };
}

/// How frames are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Compression {
    /// For bytes that stay the same whatever the compressor's version, as golden files need.
    None,
    /// Level 1: half the size of `Lz4` on text, three times its time to unpack.
    #[default]
    Zstd,
    Lz4,
}

/// Packs frames; keeps the compressor between them.
pub struct Packer {
    compression: Compression,
    level: i32,
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl Packer {
    /// A packer of that kind.
    pub fn new(compression: Compression) -> Self {
        Self {
            compression,
            level: ZSTD_LEVEL,
            zstd: None,
        }
    }

    /// A packer of frames that take less time to unpack, and a little more room.
    pub fn quick(compression: Compression) -> Self {
        Self {
            level: ZSTD_LEVEL_QUICK,
            ..Self::new(compression)
        }
    }

    /// Appends `raw` as a frame, uncompressed where compression does not make it smaller, and returns the frame's length.
    pub fn frame(&mut self, raw: &[u8], out: &mut Vec<u8>) -> u64 {
        assert!(
            raw.len() <= FRAME_RAW_BYTES_MAX,
            "a frame holds one row or a bounded block"
        );
        let start = out.len();
        let packed = self.compress(raw).filter(|packed| packed.len() < raw.len());
        let codec = match (&packed, self.compression) {
            (None, _) | (_, Compression::None) => 0,
            (_, Compression::Zstd) => 1,
            (_, Compression::Lz4) => 2,
        };
        out.extend_from_slice(&[0; 4]);
        out.push(codec);
        out.extend_from_slice(&(raw.len() as u32).to_le_bytes());
        out.extend_from_slice(packed.as_deref().unwrap_or(raw));
        let crc = crc32c::crc32c(&out[start + 4..]);
        out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
        (out.len() - start) as u64
    }

    fn compress(&mut self, raw: &[u8]) -> Option<Vec<u8>> {
        match self.compression {
            Compression::None => None,
            Compression::Lz4 => Some(lz4_flex::block::compress(raw)),
            Compression::Zstd => {
                if self.zstd.is_none() {
                    self.zstd = zstd::bulk::Compressor::new(self.level).ok();
                }
                self.zstd.as_mut()?.compress(raw).ok()
            }
        }
    }
}

/// The raw bytes of a frame, which `frame` is exactly.
pub fn unframe(frame: &[u8]) -> Result<Vec<u8>, FormatError> {
    if frame.len() < FRAME_HEAD_BYTES {
        return Err(FormatError::corrupt("a frame is too short"));
    }
    let (head, payload) = frame.split_at(FRAME_HEAD_BYTES);
    let crc = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    if crc != crc32c::crc32c(&frame[4..]) {
        return Err(FormatError::corrupt("the checksum of a frame is wrong"));
    }
    let raw_len = u32::from_le_bytes([head[5], head[6], head[7], head[8]]) as usize;
    if raw_len > FRAME_RAW_BYTES_MAX {
        return Err(FormatError::corrupt("a frame unpacks to too many bytes"));
    }
    let raw = match head[4] {
        0 => payload.to_vec(),
        1 if raw_len <= TRUSTED_RAW_BYTES => unzstd(payload, raw_len)?,
        1 => unzstd_large(payload, raw_len)?,
        2 => unlz4(payload, raw_len)?,
        codec => return Err(FormatError::Newer(format!("codec {codec} of a frame"))),
    };
    match raw.len() == raw_len {
        true => Ok(raw),
        false => Err(FormatError::corrupt("a frame unpacks to another length than announced")),
    }
}

fn unzstd(payload: &[u8], raw_len: usize) -> Result<Vec<u8>, FormatError> {
    let failed = |e: std::io::Error| FormatError::corrupt(format!("a compressed frame: {e}"));
    UNZSTD.with_borrow_mut(|kept| {
        let zstd = match kept {
            Some(zstd) => zstd,
            none => none.insert(Decompressor::new().map_err(failed)?),
        };
        zstd.decompress(payload, raw_len).map_err(failed)
    })
}

/// Grows with what really comes out, not with what the head promises.
fn unzstd_large(payload: &[u8], raw_len: usize) -> Result<Vec<u8>, FormatError> {
    let failed = |e: std::io::Error| FormatError::corrupt(format!("a compressed frame: {e}"));
    let mut raw = Vec::with_capacity(raw_len.min(payload.len().saturating_mul(8)));
    let decoder = zstd::stream::read::Decoder::with_buffer(payload).map_err(failed)?;
    decoder.take(raw_len as u64 + 1).read_to_end(&mut raw).map_err(failed)?;
    Ok(raw)
}

fn unlz4(payload: &[u8], raw_len: usize) -> Result<Vec<u8>, FormatError> {
    // A byte of LZ4 stands for at most 255 bytes.
    if raw_len > payload.len().saturating_mul(255) {
        return Err(FormatError::corrupt("a compressed frame cannot unpack to that much"));
    }
    lz4_flex::block::decompress(payload, raw_len).map_err(|e| FormatError::corrupt(format!("a compressed frame: {e}")))
}

/// How many bits `value` takes.
pub fn width(value: u64) -> u32 {
    64 - value.leading_zeros()
}

/// Appends numbers of `width` bits each, least significant bit first, filled up to a whole byte.
pub fn pack(values: impl Iterator<Item = u64>, width: u32, out: &mut Vec<u8>) {
    let (mut open, mut bits) = (0u128, 0);
    for value in values {
        open |= u128::from(value) << bits;
        bits += width;
        while bits >= 8 {
            out.push(open as u8);
            open >>= 8;
            bits -= 8;
        }
    }
    if bits > 0 {
        out.push(open as u8);
    }
}

/// Reads `count` numbers of `width` ≤ 64 bits each.
///
/// With a width of 0 nothing is read, so that `count` has to be bounded by the caller.
pub fn unpack(input: &mut Reader<'_>, count: usize, width: u32) -> Result<Vec<u64>, FormatError> {
    if width > 64 {
        return Err(FormatError::corrupt("packed numbers have more than 64 bits"));
    }
    let len = count
        .checked_mul(width as usize)
        .ok_or_else(|| FormatError::corrupt("there are too many packed numbers"))?
        .div_ceil(8);
    let mask = u64::MAX.checked_shr(64 - width).unwrap_or(0);
    let mut bytes = input.take(len)?.iter();
    let (mut open, mut bits) = (0u128, 0);
    let next = |_| {
        while bits < width {
            open |= u128::from(*bytes.next().expect("their number was computed")) << bits;
            bits += 8;
        }
        let value = open as u64 & mask;
        open >>= width;
        bits -= width;
        value
    };
    Ok((0..count).map(next).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(raw: &[u8], compression: Compression) -> Vec<u8> {
        let mut frame = Vec::new();
        let len = Packer::new(compression).frame(raw, &mut frame);
        assert_eq!(len, frame.len() as u64);
        frame
    }

    #[test]
    fn frames_of_every_codec_unpack_to_what_they_were_made_of() {
        let large = b"shoal ".repeat(1 << 19);
        for compression in [Compression::None, Compression::Zstd, Compression::Lz4] {
            for raw in [&b""[..], b"x", &large[..1000], &large] {
                let frame = framed(raw, compression);
                assert_eq!(unframe(&frame).unwrap(), raw);
                assert!(raw.len() < 1000 || compression == Compression::None || frame.len() < raw.len() / 2);
            }
        }
    }

    #[test]
    fn a_frame_that_lies_about_its_length_is_refused() {
        let raw = vec![0; 4 << 20];
        for compression in [Compression::None, Compression::Zstd, Compression::Lz4] {
            for announced in [raw.len() as u32 - 1, raw.len() as u32 + 1, u32::MAX, 0, 1 << 29] {
                let mut frame = framed(&raw, compression);
                frame[5..9].copy_from_slice(&announced.to_le_bytes());
                let crc = crc32c::crc32c(&frame[4..]);
                frame[..4].copy_from_slice(&crc.to_le_bytes());
                assert!(unframe(&frame).is_err(), "{compression:?} {announced}");
            }
        }
    }

    proptest! {
        #[test]
        fn numbers_survive(values in prop::collection::vec(any::<u64>(), 0..50), shift in 0u32..64) {
            let values: Vec<u64> = values.iter().map(|v| v >> shift).collect();
            let mut out = Vec::new();
            for value in &values {
                put_varint(&mut out, *value);
                prop_assert_eq!(zigzag(unzigzag(*value)), *value);
            }
            let widest = values.iter().map(|v| width(*v)).max().unwrap_or(0);
            pack(values.iter().copied(), widest, &mut out);
            let mut input = Reader::new(&out);
            for value in &values {
                prop_assert_eq!(input.varint().unwrap(), *value);
            }
            prop_assert_eq!(unpack(&mut input, values.len(), widest).unwrap(), values);
            input.end().unwrap();
        }

        #[test]
        fn any_bytes_are_a_frame_or_an_error(mut bytes in prop::collection::vec(any::<u8>(), 0..80), codec in 0u8..4) {
            let _ = unframe(&bytes);
            if bytes.len() >= FRAME_HEAD_BYTES {
                bytes[4] = codec;
                bytes[7] = 0;
                bytes[8] = 0;
                let crc = crc32c::crc32c(&bytes[4..]);
                bytes[..4].copy_from_slice(&crc.to_le_bytes());
                let _ = unframe(&bytes);
            }
            let mut input = Reader::new(&bytes);
            while input.varint().is_ok() {}
        }
    }
}
