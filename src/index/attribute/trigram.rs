//! Which values have three bytes in a row: the way from a pattern to the few values that can match it.
//!
//! ASCII letters count in lower case, so that one list serves patterns of either case. What is listed are numbers of
//! distinct values, or rows where the attribute has no dictionary.

use std::ops::Range;

use hashbrown::HashMap;

use super::rows::{put_gaps, take_gaps};
use super::wire::{Damaged, Reader, Sizes, put, seal, unseal};

/// Of so many values at most one may have a trigram that is listed, unless there are few values.
const SELECTIVE: u64 = 4;
/// A list takes at least a byte each for its trigram, number and length, and the first value.
const LIST_BYTES_MIN: u64 = 2;

/// Calls `f` with every three bytes in a row, folded, as the number that they are read from the left.
pub(super) fn each_trigram(text: &[u8], mut f: impl FnMut(u32)) {
    let mut window = 0u32;
    for (i, byte) in text.iter().enumerate() {
        window = window << 8 & 0xff_ffff | u32::from(byte.to_ascii_lowercase());
        if i >= 2 {
            f(window);
        }
    }
}

/// Gathers lists.
#[derive(Default)]
pub(super) struct Writer {
    lists: HashMap<u32, List>,
}

struct List {
    next: u32,
    count: u32,
    gaps: Vec<u8>,
}

impl Writer {
    /// Adds the text of a value. Numbers do not fall; texts of the same number are one.
    pub fn add(&mut self, number: u32, text: &[u8]) {
        each_trigram(text, |trigram| {
            let list = self.lists.entry(trigram).or_insert_with(|| List {
                next: 0,
                count: 0,
                gaps: Vec::new(),
            });
            if list.count == 0 || number >= list.next {
                put_gaps(&mut list.gaps, std::iter::once(number - list.next));
                list.next = number.wrapping_add(1);
                list.count += 1;
            }
        });
    }

    /// Appends what is known without reading blocks to `out`, and blocks to `area`.
    ///
    /// * `values` — how many there are
    pub fn finish(self, values: u32, sizes: &Sizes, out: &mut Vec<u8>, area: &mut Vec<u8>) {
        let mut lists: Vec<_> = self.lists.into_iter().collect();
        lists.sort_unstable_by_key(|(trigram, _)| *trigram);
        put(out, area.len() as u64);
        let mut metas: Vec<(u32, u32, usize)> = Vec::new();
        let (mut block, mut count, mut first, mut before) = (Vec::new(), 0, 0, 0);
        let mut close = |block: &mut Vec<u8>, count: &mut u32, first: u32| {
            if *count > 0 {
                seal(block, 0);
                metas.push((first, *count, block.len()));
                area.append(block);
                *count = 0;
            }
        };
        for (trigram, list) in lists {
            let is_listed = is_selective(list.count, values, sizes);
            let is_long = is_listed && list.gaps.len() > sizes.shared_list;
            if is_long || block.len() >= sizes.block {
                close(&mut block, &mut count, first);
            }
            if count == 0 {
                (first, before) = (trigram, trigram);
            }
            put(&mut block, u64::from(trigram - before));
            put(&mut block, u64::from(list.count) << 1 | u64::from(is_listed));
            if is_listed {
                put(&mut block, list.gaps.len() as u64);
                block.extend_from_slice(&list.gaps);
            }
            before = trigram;
            count += 1;
            if is_long {
                close(&mut block, &mut count, first);
            }
        }
        close(&mut block, &mut count, first);
        put(out, metas.len() as u64);
        let mut before = 0;
        for (first, count, len) in metas {
            put(out, u64::from(first - before));
            put(out, count.into());
            put(out, len as u64);
            before = first;
        }
    }
}

/// Whether it helps to know which of the values have a trigram.
fn is_selective(count: u32, values: u32, sizes: &Sizes) -> bool {
    values <= sizes.few_values || u64::from(count) * SELECTIVE <= values.into()
}

/// What is known of the lists without reading them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Directory {
    pub blocks: Vec<BlockMeta>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct BlockMeta {
    first: u32,
    count: u32,
    pub at: Range<u64>,
}

impl Directory {
    /// Reads what [`Writer::finish`] wrote.
    ///
    /// * `area` — how many bytes of blocks there are
    pub fn decode(reader: &mut Reader<'_>, area: u64) -> Result<Self, Damaged> {
        let mut at = reader.varint()?;
        let count = reader.varint()?;
        if count > reader.len() as u64 / 3 {
            return Err(Damaged("more blocks of trigrams than there can be"));
        }
        let mut blocks: Vec<BlockMeta> = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let before = blocks.last().map_or(0, |b| b.first);
            let first = before.checked_add(reader.varint32()?).filter(|t| *t <= 0xff_ffff);
            let first = first.ok_or(Damaged("a trigram has more than three bytes"))?;
            if !blocks.is_empty() && first == before {
                return Err(Damaged("blocks of trigrams are not in order"));
            }
            let (count, len) = (reader.varint32()?, reader.varint()?);
            let end = at.checked_add(len).filter(|end| *end <= area);
            let end = end.ok_or(Damaged("blocks of trigrams lie outside of their area"))?;
            if count == 0 || u64::from(count) * LIST_BYTES_MIN > len {
                return Err(Damaged("a block has more trigrams than there is room for"));
            }
            blocks.push(BlockMeta {
                first,
                count,
                at: at..end,
            });
            at = end;
        }
        Ok(Self { blocks })
    }

    /// The block that a trigram is in if any value has it.
    pub fn block_of(&self, trigram: u32) -> Option<usize> {
        self.blocks.partition_point(|b| b.first <= trigram).checked_sub(1)
    }
}

/// What a block says of a trigram.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Listed {
    /// Too many values have it for a list.
    Often,
    /// These have it, ascending.
    In(Vec<u32>),
}

/// Looks some ascending trigrams up in a block; those that are in none of its values are left out.
///
/// * `values` — how many there are
pub(super) fn look_up(
    meta: &BlockMeta,
    bytes: &[u8],
    wanted: &[u32],
    values: u32,
) -> Result<Vec<(u32, Listed)>, Damaged> {
    let mut reader = Reader::new(unseal(bytes)?);
    let mut found = Vec::with_capacity(wanted.len().min(meta.count as usize));
    let mut wanted = wanted.iter().copied().peekable();
    let mut trigram = meta.first;
    for i in 0..meta.count {
        let step = reader.varint32()?;
        if (step == 0) != (i == 0) {
            return Err(Damaged("trigrams are not in order"));
        }
        trigram = trigram
            .checked_add(step)
            .ok_or(Damaged("a trigram has more than three bytes"))?;
        let head = reader.varint()?;
        let list = match head & 1 {
            0 => None,
            _ => Some(reader.bytes()?),
        };
        while wanted.next_if(|w| *w < trigram).is_some() {}
        if wanted.next_if_eq(&trigram).is_none() {
            continue;
        }
        let Some(list) = list else {
            found.push((trigram, Listed::Often));
            continue;
        };
        let count = u32::try_from(head >> 1).map_err(|_| Damaged("a list is too long"))?;
        let mut numbers = Vec::with_capacity(list.len().min(count as usize));
        let mut list = Reader::new(list);
        take_gaps(&mut list, count, values, |number| numbers.push(number))?;
        list.end()?;
        found.push((trigram, Listed::In(numbers)));
    }
    reader.end()?;
    Ok(found)
}
