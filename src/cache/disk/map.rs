//! The file beside an object's data that says which of it is there, with checksums.
//!
//! A header of 4 KiB: magic, length of the object, its organization and key, CRC-32C. Then one record of 80 bytes per
//! 64 KiB: a bit per 4 KiB that is there, the kind, their CRC-32Cs, and the record's own, which covers its number
//! too. A record that is torn is as one that is not there; a block is trusted only if its bytes match.

use crate::cache::ReadKind;
use crate::cache::pieces::{EXTENT, SUB_BLOCK};

const MAGIC: &[u8; 8] = b"SHOALC1\n";
pub(super) const HEADER: usize = 4096;
pub(super) const RECORD: usize = 80;
const FIXED: usize = 20;
/// Sub-blocks of an extent.
pub(super) const SUBS: usize = (EXTENT / SUB_BLOCK) as usize;

/// Whose data it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) key: String,
    pub(super) len: u64,
    pub(super) org: String,
}

/// What is there of one extent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// A bit per sub-block that is there.
    pub(super) mask: u16,
    pub(super) kind: ReadKind,
    pub(super) crcs: [u32; SUBS],
}

/// `None` when the names do not fit.
pub(super) fn encode_header(owner: &Owner) -> Option<Vec<u8>> {
    let (org, key) = (owner.org.as_bytes(), owner.key.as_bytes());
    if FIXED + org.len() + key.len() + 4 > HEADER {
        return None;
    }
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&owner.len.to_le_bytes());
    header.extend_from_slice(&(org.len() as u16).to_le_bytes());
    header.extend_from_slice(&(key.len() as u16).to_le_bytes());
    header.extend_from_slice(org);
    header.extend_from_slice(key);
    header.resize(HEADER - 4, 0);
    header.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
    Some(header)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    let two = bytes.get(at..at + 2)?.try_into().ok()?;
    Some(usize::from(u16::from_le_bytes(two)))
}

fn decode_header(bytes: &[u8]) -> Option<Owner> {
    let header = bytes.get(..HEADER)?;
    if !header.starts_with(MAGIC) || u32_at(header, HEADER - 4)? != crc32c::crc32c(&header[..HEADER - 4]) {
        return None;
    }
    let len = u64::from_le_bytes(header[8..16].try_into().ok()?);
    let (org_len, key_len) = (u16_at(header, 16)?, u16_at(header, 18)?);
    let text = |from: usize, len: usize| String::from_utf8(header[..HEADER - 4].get(from..from + len)?.to_vec()).ok();
    Some(Owner {
        org: text(FIXED, org_len)?,
        key: text(FIXED + org_len, key_len)?,
        len,
    })
}

fn record_crc(number: u64, record: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&number.to_le_bytes()), record)
}

/// Where the record of an extent begins.
pub(super) fn record_at(number: u64) -> u64 {
    HEADER as u64 + number * RECORD as u64
}

pub(super) fn encode_record(number: u64, extent: &Extent) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    record[..2].copy_from_slice(&extent.mask.to_le_bytes());
    record[2] = extent.kind as u8;
    for (i, crc) in extent.crcs.iter().enumerate() {
        record[8 + 4 * i..12 + 4 * i].copy_from_slice(&crc.to_le_bytes());
    }
    let crc = record_crc(number, &record[..RECORD - 4]);
    record[RECORD - 4..].copy_from_slice(&crc.to_le_bytes());
    record
}

/// `None` for an extent of which nothing is there, or that cannot be trusted.
fn decode_record(number: u64, record: &[u8]) -> Option<Extent> {
    let mask = u16_at(record, 0)? as u16;
    if mask == 0 || u32_at(record, RECORD - 4)? != record_crc(number, &record[..RECORD - 4]) {
        return None;
    }
    let kind = match record[2] {
        0 => ReadKind::Hot,
        1 => ReadKind::Index,
        2 => ReadKind::Rows,
        3 => ReadKind::Vectors,
        _ => return None,
    };
    let mut crcs = [0; SUBS];
    for (i, crc) in crcs.iter_mut().enumerate() {
        *crc = u32_at(record, 8 + 4 * i)?;
    }
    Some(Extent { mask, kind, crcs })
}

/// The most bytes that the map of an object has.
pub(super) fn map_bytes(len: u64) -> u64 {
    record_at(len.div_ceil(EXTENT))
}

/// Whose map it is and what is there, by number; `None` when the header cannot be trusted.
pub(super) fn decode(bytes: &[u8]) -> Option<(Owner, Vec<(u64, Extent)>)> {
    let owner = decode_header(bytes)?;
    let extents = owner.len.div_ceil(EXTENT);
    let subs = owner.len.div_ceil(SUB_BLOCK);
    let records = (0..extents).zip(bytes[HEADER..].chunks_exact(RECORD));
    let within = |number: u64, mask: u16| {
        let here = subs - number * SUBS as u64;
        here >= SUBS as u64 || u64::from(mask) < 1 << here
    };
    let found = records.filter_map(|(number, record)| Some((number, decode_record(number, record)?)));
    let found = found.filter(|(number, extent)| within(*number, extent.mask)).collect();
    Some((owner, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_of_a_map_counts() {
        let owner = Owner {
            key: "ns/1/seg/x".into(),
            len: 3 * EXTENT + 5000,
            org: "a".into(),
        };
        let extent = |mask| Extent {
            mask,
            kind: ReadKind::Index,
            crcs: std::array::from_fn(|i| i as u32 * 77),
        };
        let mut map = encode_header(&owner).expect("fits");
        for (number, mask) in [(0, 1), (1, 0), (2, 0xffff), (3, 3)] {
            map.extend_from_slice(&encode_record(number, &extent(mask)));
        }
        let whole = decode(&map).expect("valid");
        assert_eq!(
            whole,
            (owner.clone(), vec![(0, extent(1)), (2, extent(0xffff)), (3, extent(3))])
        );
        for at in 0..map.len() {
            let mut bad = map.clone();
            bad[at] ^= 1 << (at % 8);
            if let Some((found, extents)) = decode(&bad) {
                assert!(at >= HEADER && found == owner, "{at}");
                // The record of nothing may say what it likes, as long as it says nothing.
                assert!(extents.iter().all(|e| whole.1.contains(e)), "{at}");
            }
            assert!(decode(&map[..at]).is_none_or(|(o, found)| o == owner && found.len() < 3));
        }
        // A record in another's place, and blocks behind the end.
        let mut moved = map.clone();
        moved.copy_within(HEADER..HEADER + RECORD, HEADER + RECORD);
        assert_eq!(decode(&moved).expect("valid"), whole);
        let at = HEADER + 3 * RECORD;
        moved[at..at + RECORD].copy_from_slice(&encode_record(3, &extent(4)));
        assert_eq!(decode(&moved).expect("valid").1.len(), 2);
        let long = Owner {
            key: "k".repeat(4080),
            ..owner
        };
        assert!(encode_header(&long).is_none());
    }
}
