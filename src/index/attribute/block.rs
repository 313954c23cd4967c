//! Dictionaries: the distinct values in order, in blocks, each with the rows that have it.

use std::ops::{Bound, Range};

use bytes::Bytes;

use super::key::{Key, KeyRef, prefix_range};
use super::rows::{self, Place};
use super::wire::{CRC_BYTES, Damaged, Reader, Sizes, put, put_bytes, seal, unseal};

/// Bounds of the values longer than this are rounded outwards.
const ZONE_BYTES_MAX: usize = 64;
/// A value takes at least a byte each for its key, the number of its rows and the first of them.
const VALUE_BYTES_MIN: u64 = 3;

/// What is known of a block without reading it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct BlockMeta {
    /// At most the first value, and above all values of the block before.
    pub first: Key,
    pub values: u32,
    /// Pairs of a value and a row that has it.
    pub pairs: u64,
    /// The number of its first value among all.
    pub ordinal: u32,
    pub at: Range<u64>,
    /// Where its bitmaps are.
    pub bitmaps: Range<u64>,
}

/// Bounds of all values.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone {
    pub low: Bound<Key>,
    pub high: Bound<Key>,
    /// Whether both bounds are values.
    pub exact: bool,
}

/// What is known of all values without reading blocks.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Dictionary {
    pub words: bool,
    pub blocks: Vec<BlockMeta>,
    /// `None` when there are no values.
    pub zone: Option<Zone>,
    /// The only block, when it is small.
    pub resident: Option<Bytes>,
    pub values: u32,
    pub pairs: u64,
}

/// Gathers a dictionary.
pub(super) struct Writer {
    words: bool,
    sizes: Sizes,
    blocks: Vec<u8>,
    bitmaps: Vec<u8>,
    metas: Vec<BlockMeta>,
    open: Option<Open>,
    last: Vec<u8>,
    last_word: u64,
    min: Option<Key>,
    values: u32,
}

/// The block that is being written.
struct Open {
    first: Key,
    start: usize,
    bitmaps: usize,
    ordinal: u32,
    pairs: u64,
}

impl Writer {
    pub fn new(words: bool, sizes: &Sizes) -> Self {
        Self {
            words,
            sizes: *sizes,
            blocks: Vec::new(),
            bitmaps: Vec::new(),
            metas: Vec::new(),
            open: None,
            last: Vec::new(),
            last_word: 0,
            min: None,
            values: 0,
        }
    }

    /// Adds the next value with its rows, at least one and strictly ascending. Values ascend strictly.
    pub fn add(&mut self, key: KeyRef<'_>, rows: &[u32]) {
        let is_first = self.open.is_none();
        if self.min.is_none() {
            self.min = Some(key.to_key());
        }
        let shared = match key {
            KeyRef::Word(_) => 0,
            KeyRef::Bytes(bytes) => self.last.iter().zip(bytes).take_while(|(a, b)| a == b).count(),
        };
        if is_first {
            let first = match key {
                KeyRef::Word(word) => Key::Word(word),
                // Enough to tell it from the value before.
                KeyRef::Bytes(bytes) => Key::bytes(&bytes[..bytes.len().min(shared + 1)]),
            };
            self.open = Some(Open {
                first: if self.metas.is_empty() { key.to_key() } else { first },
                start: self.blocks.len(),
                bitmaps: self.bitmaps.len(),
                ordinal: self.values,
                pairs: 0,
            });
        }
        match key {
            KeyRef::Word(word) => {
                put(&mut self.blocks, if is_first { word } else { word - self.last_word });
                self.last_word = word;
            }
            KeyRef::Bytes(bytes) => {
                let shared = if is_first { 0 } else { shared };
                put(&mut self.blocks, shared as u64);
                put_bytes(&mut self.blocks, &bytes[shared..]);
                self.last.truncate(shared);
                self.last.extend_from_slice(&bytes[shared..]);
            }
        }
        rows::encode(rows, &self.sizes, &mut self.blocks, &mut self.bitmaps);
        self.values += 1;
        let open = self.open.as_mut().expect("opened above");
        open.pairs += rows.len() as u64;
        if self.blocks.len() - open.start >= self.sizes.block {
            self.close();
        }
    }

    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        seal(&mut self.blocks, open.start);
        self.metas.push(BlockMeta {
            first: open.first,
            values: self.values - open.ordinal,
            pairs: open.pairs,
            ordinal: open.ordinal,
            at: open.start as u64..self.blocks.len() as u64,
            bitmaps: open.bitmaps as u64..self.bitmaps.len() as u64,
        });
    }

    /// Appends what is known without reading blocks to `out`, and blocks and bitmaps to `area`.
    pub fn finish(mut self, out: &mut Vec<u8>, area: &mut Vec<u8>) {
        self.close();
        put(out, area.len() as u64);
        put(out, self.metas.len() as u64);
        let mut before: &[u8] = &[];
        let mut word_before = 0;
        for meta in &self.metas {
            match &meta.first {
                Key::Word(word) => {
                    put(out, word - word_before);
                    word_before = *word;
                }
                Key::Bytes(bytes) => {
                    let shared = before.iter().zip(bytes).take_while(|(a, b)| a == b).count();
                    put(out, shared as u64);
                    put_bytes(out, &bytes[shared..]);
                    before = bytes;
                }
            }
            put(out, meta.values.into());
            put(out, meta.pairs);
            put(out, meta.at.end - meta.at.start);
            put(out, meta.bitmaps.end - meta.bitmaps.start);
        }
        if let Some(min) = &self.min {
            let max = match self.words {
                true => Key::Word(self.last_word),
                false => Key::bytes(&self.last),
            };
            put_bound(out, min);
            put_bound(out, &max);
            let resident = self.metas.len() == 1 && self.blocks.len() <= self.sizes.resident;
            put_bytes(out, if resident { &self.blocks } else { &[] });
        }
        area.append(&mut self.blocks);
        area.append(&mut self.bitmaps);
    }
}

/// Appends whether a bound was shortened, and the bound.
fn put_bound(out: &mut Vec<u8>, key: &Key) {
    match key {
        Key::Word(word) => put(out, *word),
        Key::Bytes(bytes) => {
            let kept = &bytes[..bytes.len().min(ZONE_BYTES_MAX)];
            out.push(u8::from(kept.len() < bytes.len()));
            put_bytes(out, kept);
        }
    }
}

/// Reads a bound and whether it was shortened.
fn take_bound(reader: &mut Reader<'_>, words: bool) -> Result<(Key, bool), Damaged> {
    if words {
        return Ok((Key::Word(reader.varint()?), false));
    }
    let is_shortened = reader.byte()? != 0;
    Ok((Key::bytes(reader.bytes()?), is_shortened))
}

impl Dictionary {
    /// Reads what [`Writer::finish`] wrote.
    ///
    /// * `rows` — how many rows there are
    /// * `area` — how many bytes of blocks there are
    pub fn decode(reader: &mut Reader<'_>, words: bool, rows: u32, area: u64) -> Result<Self, Damaged> {
        let start = reader.varint()?;
        let count = reader.varint()?;
        // Every block takes at least five bytes here: no more memory than the bytes justify.
        if count > reader.len() as u64 / 5 {
            return Err(Damaged("more blocks than there can be"));
        }
        let mut made = Self {
            words,
            blocks: Vec::with_capacity(count as usize),
            zone: None,
            resident: None,
            values: 0,
            pairs: 0,
        };
        let mut at = start;
        let mut bitmaps = 0;
        let mut area_left = area;
        for _ in 0..count {
            let meta = made.decode_meta(reader, rows, &mut at, &mut bitmaps, &mut area_left)?;
            made.values = made.values.checked_add(meta.values).ok_or(Damaged("too many values"))?;
            made.pairs += meta.pairs;
            made.blocks.push(meta);
        }
        // Bitmaps come after the last block.
        let end = at.checked_add(bitmaps).filter(|end| *end <= area);
        end.ok_or(Damaged("blocks lie outside of their area"))?;
        for meta in &mut made.blocks {
            meta.bitmaps = meta.bitmaps.start + at..meta.bitmaps.end + at;
        }
        if count > 0 {
            made.decode_zone(reader)?;
        }
        Ok(made)
    }

    fn decode_meta(
        &self,
        reader: &mut Reader<'_>,
        rows: u32,
        at: &mut u64,
        bitmaps: &mut u64,
        area_left: &mut u64,
    ) -> Result<BlockMeta, Damaged> {
        let before = self.blocks.last().map(|b| &b.first);
        let first = match self.words {
            true => {
                let before = before.map_or(0, |key| if let Key::Word(word) = key { *word } else { 0 });
                let word = before.checked_add(reader.varint()?);
                Key::Word(word.ok_or(Damaged("a block begins above all words"))?)
            }
            false => {
                let before = before.map_or(&[][..], |key| if let Key::Bytes(bytes) = key { bytes } else { &[] });
                let shared = reader.varint()?;
                let shared = usize::try_from(shared).ok().and_then(|len| before.get(..len));
                let shared = shared.ok_or(Damaged("a block begins with more than is there"))?;
                let first = [shared, reader.bytes()?].concat();
                // Every block has its first value in full, so that what is shared here costs no more than blocks do.
                let room = area_left.checked_sub(first.len() as u64);
                *area_left = room.ok_or(Damaged("blocks begin with longer values than they have"))?;
                Key::Bytes(first.into())
            }
        };
        if before.is_some_and(|before| *before >= first) {
            return Err(Damaged("blocks are not in order"));
        }
        let (values, pairs) = (reader.varint32()?, reader.varint()?);
        let (len, bitmap_len) = (reader.varint()?, reader.varint()?);
        let fits = values > 0
            && u64::from(values) * VALUE_BYTES_MIN + CRC_BYTES as u64 <= len
            && u64::from(values) <= pairs
            && pairs <= u64::from(values) * u64::from(rows);
        if !fits {
            return Err(Damaged("a block has more values than there is room for"));
        }
        let too_long = Damaged("blocks are longer than any area");
        let starts = (*at, *bitmaps);
        *at = at.checked_add(len).ok_or(too_long)?;
        *bitmaps = bitmaps.checked_add(bitmap_len).ok_or(too_long)?;
        Ok(BlockMeta {
            first,
            values,
            pairs,
            ordinal: self.values,
            at: starts.0..*at,
            bitmaps: starts.1..*bitmaps,
        })
    }

    fn decode_zone(&mut self, reader: &mut Reader<'_>) -> Result<(), Damaged> {
        let (low, low_shortened) = take_bound(reader, self.words)?;
        let (high, high_shortened) = take_bound(reader, self.words)?;
        if low > high {
            return Err(Damaged("the least value is above the greatest"));
        }
        let high = match (&high, high_shortened) {
            (Key::Bytes(prefix), true) => prefix_range(prefix).1,
            _ => Bound::Included(high),
        };
        self.zone = Some(Zone {
            low: Bound::Included(low),
            high,
            exact: !low_shortened && !high_shortened,
        });
        let resident = reader.bytes()?;
        if !resident.is_empty() {
            let only = matches!(self.blocks.as_slice(), [only] if only.at.end - only.at.start == resident.len() as u64);
            if !only {
                return Err(Damaged("the block in the directory is another"));
            }
            self.resident = Some(Bytes::copy_from_slice(resident));
        }
        Ok(())
    }

    /// The blocks that can have values between two bounds.
    pub fn blocks_between(&self, low: &Bound<Key>, high: &Bound<Key>) -> Range<usize> {
        let start = match low {
            Bound::Unbounded => 0,
            Bound::Included(key) | Bound::Excluded(key) => self.block_of(key.of()).unwrap_or(0),
        };
        let end = match high {
            Bound::Unbounded => self.blocks.len(),
            Bound::Included(key) => self.blocks.partition_point(|b| b.first <= *key),
            Bound::Excluded(key) => self.blocks.partition_point(|b| b.first < *key),
        };
        start..end.max(start)
    }

    /// The block that a value is in if there is such a value; `None` when it is below all.
    pub fn block_of(&self, key: KeyRef<'_>) -> Option<usize> {
        self.blocks.partition_point(|b| b.first.of() <= key).checked_sub(1)
    }

    /// Reads one of the blocks.
    ///
    /// * `rows` — how many rows there are
    pub fn reader<'a>(&self, block: usize, bytes: &'a [u8], rows: u32) -> Result<BlockReader<'a>, Damaged> {
        let meta = &self.blocks[block];
        Ok(BlockReader {
            reader: Reader::new(unseal(bytes)?),
            words: self.words,
            rows_end: rows,
            read: 0,
            values: meta.values,
            pairs: meta.pairs,
            bitmaps: meta.bitmaps.clone(),
            ordinal: meta.ordinal,
            word: 0,
            key: Vec::new(),
            rows: Vec::new(),
        })
    }
}

/// Reads the values of a block one by one.
pub(super) struct BlockReader<'a> {
    reader: Reader<'a>,
    words: bool,
    rows_end: u32,
    read: u32,
    values: u32,
    pairs: u64,
    bitmaps: Range<u64>,
    ordinal: u32,
    word: u64,
    key: Vec<u8>,
    rows: Vec<u32>,
}

/// One value and the rows that have it.
pub(super) struct Entry<'a> {
    pub ordinal: u32,
    pub key: KeyRef<'a>,
    /// `rows` if they are here.
    pub place: Place,
    pub rows: &'a [u32],
}

impl Entry<'_> {
    pub fn count(&self) -> u64 {
        match &self.place {
            Place::Inline => self.rows.len() as u64,
            Place::Elsewhere(bitmap) => bitmap.rows.into(),
        }
    }
}

impl BlockReader<'_> {
    /// The next value; `None` at the end, when everything was as announced.
    pub fn next(&mut self) -> Result<Option<Entry<'_>>, Damaged> {
        if self.read == self.values {
            self.reader.end()?;
            return match self.pairs == 0 && self.bitmaps.is_empty() {
                true => Ok(None),
                false => Err(Damaged("a block has other rows than announced")),
            };
        }
        match self.words {
            true => self.next_word()?,
            false => self.next_bytes()?,
        }
        let place = rows::decode(&mut self.reader, self.rows_end, &mut self.bitmaps, &mut self.rows)?;
        let entry = Entry {
            ordinal: self.ordinal + self.read,
            key: match self.words {
                true => KeyRef::Word(self.word),
                false => KeyRef::Bytes(&self.key),
            },
            place,
            rows: &self.rows,
        };
        self.read += 1;
        let pairs = self.pairs.checked_sub(entry.count());
        self.pairs = pairs.ok_or(Damaged("a block has more rows than announced"))?;
        Ok(Some(entry))
    }

    fn next_word(&mut self) -> Result<(), Damaged> {
        let step = self.reader.varint()?;
        let word = self.word.checked_add(step).filter(|_| step > 0 || self.read == 0);
        self.word = word.ok_or(Damaged("words are not in order"))?;
        Ok(())
    }

    fn next_bytes(&mut self) -> Result<(), Damaged> {
        let shared = usize::try_from(self.reader.varint()?).unwrap_or(usize::MAX);
        let rest = self.reader.bytes()?;
        // Both begin alike for exactly as long as is said, so the first difference tells their order.
        let ascends = match (self.key.get(shared), rest.first()) {
            (Some(before), Some(now)) => before < now,
            (None, Some(_)) => shared == self.key.len(),
            (_, None) => false,
        };
        let is_first = self.read == 0 && shared == 0;
        if !(ascends || is_first) {
            return Err(Damaged("values are not in order"));
        }
        self.key.truncate(shared);
        self.key.extend_from_slice(rest);
        Ok(())
    }
}
