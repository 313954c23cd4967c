//! The key run of a segment: which row has an id, and the ids in order.
//!
//! Ids are sorted themselves, not by a hash of them, so that no collision can hide a row and scans in
//! the order of ids come for free. The run lies in blocks of at most about 4 KiB; the first id of each block
//! ([`KeyIndex`]) and a [`Bloom`] filter over all ids are in the hot region.
//!
//! Nothing here reads: a [`Lookup`] or [`KeyScan`] says which byte ranges it wants, and is given them.
//!
//! # What stays true
//!
//! - Every row of the segment is in the run once; ids ascend strictly, numbers by value, UUIDs and
//!   strings by bytes.
//! - A block begins with the id that the index says, so one block cannot pass for another.
//!
//! Bytes: `docs/formats/keys.md`.

mod block;
mod bloom;
mod scan;
#[cfg(test)]
mod tests;

use std::ops::Range;

use bytes::Bytes;

use self::block::{Entries, ID_BYTES_MAX, KeyReader, KeyRef, put_key, put_row};
pub use self::bloom::Bloom;
pub use self::scan::{KeyBlock, KeyScan};
use crate::base::coding::{FormatError, Reader, put_bytes, put_varint};
use crate::model::{Id, IdColumn, IdKind};

/// The version of new key runs and their blooms.
pub const VERSION_WRITTEN: u8 = 1;
/// The oldest version that [`KeyIndex::open`] understands.
pub const VERSION_OLDEST_READ: u8 = 1;

/// A block is closed when its body has this many bytes: about what a disk reads at least.
const BLOCK_BYTES: usize = 4 * 1024;
/// A block is closed when it has this many ids, of which half have to be passed to find one.
const BLOCK_IDS_MAX: u64 = 512;
/// A block is closed when its keys have this many bytes in memory, so that few bytes cannot
/// unpack to many.
const BLOCK_KEY_BYTES_MAX: usize = 1024 * 1024;
/// Readers take blocks whose bodies were closed at any size up to this.
const BLOCK_BYTES_READ_MAX: usize = 16 * 1024;
const CHECKSUM_LEN: usize = 4;

/// An id that a segment has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Its place among the ids that were asked for.
    pub id: u32,
    /// Its row, dead or alive.
    pub row: u32,
}

/// An encoded key run.
#[derive(Clone, Debug)]
pub struct EncodedKeys {
    /// For the hot region; read by [`KeyIndex::open`].
    pub index: Bytes,
    /// For the hot region; read by [`Bloom::open`].
    pub bloom: Bytes,
    /// The run itself; ranges of [`Lookup::ranges`] and [`KeyScan::wanted`] count from its beginning.
    pub blocks: Bytes,
}

/// Encodes the key run of a segment; row `i` has the id `ids.get(i)`.
///
/// Takes the time of a sort: hand large ones to the CPU pool. Panics when two rows have the same id.
pub fn encode(ids: &IdColumn) -> EncodedKeys {
    let mut order: Vec<u32> = (0..u32::try_from(ids.len()).expect("a segment has fewer than 2^32 rows")).collect();
    order.sort_unstable_by(|a, b| ids.compare(*a as usize, ids, *b as usize));
    let mut writer = Writer::new(ids.kind());
    for row in &order {
        writer.push(KeyRef::of_row(ids, *row as usize), *row);
    }
    let (index, blocks) = writer.finish();
    EncodedKeys {
        index: index.into(),
        bloom: bloom::encode(ids),
        blocks: blocks.into(),
    }
}

struct Writer<'a> {
    kind: IdKind,
    /// The entries of the sparse index.
    index: Vec<u8>,
    block_count: u64,
    rows: u64,
    blocks: Vec<u8>,
    block: Vec<u8>,
    /// Of the current block.
    first: Option<KeyRef<'a>>,
    /// Of the block before it.
    first_before: Option<KeyRef<'a>>,
    last: Option<(KeyRef<'a>, u32)>,
    count: u64,
    key_bytes: usize,
}

impl<'a> Writer<'a> {
    fn new(kind: IdKind) -> Self {
        Self {
            kind,
            index: Vec::new(),
            block_count: 0,
            rows: 0,
            blocks: Vec::new(),
            block: Vec::with_capacity(BLOCK_BYTES * 2),
            first: None,
            first_before: None,
            last: None,
            count: 0,
            key_bytes: 0,
        }
    }

    fn push(&mut self, key: KeyRef<'a>, row: u32) {
        assert!(
            self.last.is_none_or(|(last, _)| last < key),
            "two rows of a segment have one id"
        );
        assert!(key.len() <= ID_BYTES_MAX, "an id is longer than the limits allow");
        let before = self.last.filter(|_| self.first.is_some());
        put_key(&mut self.block, self.kind, before.map(|(key, _)| key), key);
        put_row(&mut self.block, before.map(|(_, row)| row), row);
        self.first.get_or_insert(key);
        self.last = Some((key, row));
        self.count += 1;
        self.key_bytes += key.len();
        let full = self.block.len() >= BLOCK_BYTES || self.key_bytes >= BLOCK_KEY_BYTES_MAX;
        if full || self.count >= BLOCK_IDS_MAX {
            self.close();
        }
    }

    fn close(&mut self) {
        let Some(first) = self.first.take() else { return };
        put_varint(&mut self.index, (self.block.len() + CHECKSUM_LEN) as u64);
        put_varint(&mut self.index, self.count);
        put_key(&mut self.index, self.kind, self.first_before, first);
        self.blocks.extend_from_slice(&self.block);
        self.blocks
            .extend_from_slice(&crc32c::crc32c(&self.block).to_le_bytes());
        self.block.clear();
        self.first_before = Some(first);
        self.block_count += 1;
        self.rows += self.count;
        (self.count, self.key_bytes) = (0, 0);
    }

    fn finish(mut self) -> (Vec<u8>, Vec<u8>) {
        self.close();
        let mut out = vec![VERSION_WRITTEN, kind_code(self.kind)];
        put_varint(&mut out, self.rows);
        put_varint(&mut out, self.block_count);
        out.extend_from_slice(&self.index);
        match self.last.map(|(key, _)| key) {
            None => {}
            Some(KeyRef::UInt(n)) => put_varint(&mut out, n),
            Some(KeyRef::Bytes(bytes)) => put_bytes(&mut out, bytes),
        }
        (out, self.blocks)
    }
}

fn kind_code(kind: IdKind) -> u8 {
    match kind {
        IdKind::UInt => 0,
        IdKind::Uuid => 1,
        IdKind::String => 2,
    }
}

/// Where the blocks of a key run lie and with which ids they begin.
#[derive(Clone, Debug)]
pub struct KeyIndex {
    kind: IdKind,
    rows: u32,
    blocks: Vec<Block>,
    /// The largest id; `None` when there are no rows.
    last: Option<Id>,
}

#[derive(Clone, Debug)]
struct Block {
    first: Id,
    /// Checksum included.
    bytes: Range<u64>,
    count: usize,
}

impl KeyIndex {
    /// Decodes the sparse index.
    ///
    /// * `blocks_len` — bytes of the run it belongs to
    ///
    /// # Errors
    ///
    /// The bytes are not those of an index of a run of that length.
    pub fn open(bytes: &[u8], blocks_len: u64) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let version = reader.byte()?;
        if version != VERSION_WRITTEN {
            return Err(FormatError::Newer(format!("key run of version {version}")));
        }
        let kind = match reader.byte()? {
            0 => IdKind::UInt,
            1 => IdKind::Uuid,
            2 => IdKind::String,
            other => return Err(FormatError::Newer(format!("ids of kind {other}"))),
        };
        let rows = reader.varint32()?;
        let mut blocks = Vec::with_capacity(reader.count(3)?);
        let (mut keys, mut offset, mut counted) = (KeyReader::new(kind), 0, 0);
        for _ in 0..blocks.capacity() {
            let block = read_block(&mut reader, &mut keys, kind, offset)?;
            offset = block.bytes.end;
            counted += block.count as u64;
            blocks.push(block);
        }
        let last = match (blocks.last(), kind) {
            (None, _) => None,
            (Some(_), IdKind::UInt) => Some(Id::UInt(reader.varint()?)),
            (Some(_), _) => Some(KeyRef::Bytes(reader.bytes()?).to_id(kind)?),
        };
        reader.end()?;
        if counted != u64::from(rows) || offset != blocks_len {
            return Err(FormatError::corrupt(format!(
                "blocks of {counted} keys in {offset} bytes, but {rows} rows in {blocks_len} bytes"
            )));
        }
        if blocks.last().map(|b| &b.first) > last.as_ref() {
            return Err(FormatError::corrupt("the last key is before that of the last block"));
        }
        Ok(Self {
            kind,
            rows,
            blocks,
            last,
        })
    }

    /// How many rows the segment has.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Which kind the ids are.
    pub fn kind(&self) -> IdKind {
        self.kind
    }

    /// The smallest and the largest id; `None` without rows.
    pub fn bounds(&self) -> Option<(&Id, &Id)> {
        Some((&self.blocks.first()?.first, self.last.as_ref()?))
    }

    /// Bytes of memory, roughly.
    pub fn memory_bytes(&self) -> usize {
        let text = |id: &Id| match id {
            Id::String(s) => s.len(),
            _ => 0,
        };
        self.blocks.len() * size_of::<Block>() + self.blocks.iter().map(|b| text(&b.first)).sum::<usize>()
    }

    /// Prepares the search for some ids, which may repeat. No block is wanted for ids that are not
    /// there according to the filter.
    ///
    /// * `ids` — at most `u32::MAX`
    pub fn lookup(&self, bloom: &Bloom, ids: &[Id]) -> Lookup {
        let may_be_here = |id: &Id| id.kind() == self.kind && self.last.as_ref() >= Some(id) && bloom.may_contain(id);
        let mut wanted: Vec<(Id, u32)> = ids
            .iter()
            .enumerate()
            .filter(|(_, id)| may_be_here(id))
            .map(|(i, id)| (id.clone(), i as u32))
            .collect();
        wanted.sort_unstable();
        let mut groups: Vec<(usize, Range<usize>)> = Vec::new();
        for (i, (id, _)) in wanted.iter().enumerate() {
            let Some(block) = self.blocks.partition_point(|b| b.first <= *id).checked_sub(1) else {
                continue;
            };
            match groups.last_mut() {
                Some((last, range)) if *last == block => range.end = i + 1,
                _ => groups.push((block, i..i + 1)),
            }
        }
        Lookup {
            ranges: groups
                .iter()
                .map(|(block, _)| self.blocks[*block].bytes.clone())
                .collect(),
            wanted,
            groups,
        }
    }

    /// The body of a block, checked.
    fn body<'a>(&self, block: usize, bytes: &'a [u8]) -> Result<Entries<'a>, FormatError> {
        let Block {
            bytes: range, count, ..
        } = &self.blocks[block];
        let corrupt = |what: &str| FormatError::corrupt(format!("key block {block} {what}"));
        if bytes.len() as u64 != range.end - range.start {
            return Err(corrupt("has another length"));
        }
        let (body, checksum) = bytes
            .split_last_chunk::<CHECKSUM_LEN>()
            .ok_or_else(|| corrupt("is too short"))?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*checksum) {
            return Err(corrupt("has another checksum"));
        }
        let mut first = Entries::new(self.kind, body, *count, self.rows);
        match first.next()? {
            Some((key, _)) if key == KeyRef::of(&self.blocks[block].first) => {}
            _ => return Err(corrupt("begins with another key")),
        }
        Ok(Entries::new(self.kind, body, *count, self.rows))
    }
}

fn read_block(reader: &mut Reader<'_>, keys: &mut KeyReader, kind: IdKind, offset: u64) -> Result<Block, FormatError> {
    let len = reader.varint()?;
    let count = reader.varint()?;
    let most = (BLOCK_BYTES_READ_MAX + ID_BYTES_MAX + 64) as u64;
    // Each entry takes two bytes at least.
    if len > most || count == 0 || count > len / 2 {
        return Err(FormatError::corrupt(format!("a block of {count} keys in {len} bytes")));
    }
    Ok(Block {
        first: keys.read(reader)?.to_id(kind)?,
        bytes: offset
            ..offset
                .checked_add(len)
                .ok_or_else(|| FormatError::corrupt("too long"))?,
        count: count as usize,
    })
}

/// A search for ids, between [`KeyIndex::lookup`] and the blocks it wants.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// Ascending, each with its place among those asked for.
    wanted: Vec<(Id, u32)>,
    /// Blocks, ascending, with the part of `wanted` that would be in each.
    groups: Vec<(usize, Range<usize>)>,
    ranges: Vec<Range<u64>>,
}

impl Lookup {
    /// The byte ranges of the run to be read, ascending; empty when no id is in the segment.
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// Those of the ids that some of the blocks have, by their places among those asked for, with their rows.
    ///
    /// * `index` — that of [`KeyIndex::lookup`]
    /// * `bytes` — one for each of [`Lookup::ranges`]
    /// * `blocks` — which of them
    ///
    /// # Errors
    ///
    /// A block is damaged: read it again, then raise the alarm.
    pub fn hits(&self, index: &KeyIndex, bytes: &[Bytes], blocks: Range<usize>) -> Result<Vec<Hit>, FormatError> {
        if bytes.len() != self.groups.len() {
            return Err(FormatError::corrupt("blocks are missing"));
        }
        let mut hits = Vec::new();
        for ((block, range), bytes) in self.groups[blocks.clone()].iter().zip(&bytes[blocks]) {
            let mut entries = index.body(*block, bytes)?;
            let mut wanted = self.wanted[range.clone()].iter().peekable();
            while wanted.peek().is_some()
                && let Some((key, row)) = entries.next()?
            {
                while let Some((id, place)) = wanted.next_if(|(id, _)| KeyRef::of(id) <= key) {
                    // One that is smaller is passed by: it is not in the block.
                    if KeyRef::of(id) == key {
                        hits.push(Hit { id: *place, row });
                    }
                }
            }
        }
        Ok(hits)
    }
}
