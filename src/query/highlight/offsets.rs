//! Offsets in the unit that was asked for.

use std::ops::Range;

use super::Passage;
use crate::model::query::OffsetUnit;
use crate::query::FragmentOffsets;

/// Where passages and their matches are.
///
/// * `passages` — in the order of their places
///
/// Costs one pass over each text, however many passages it has.
pub(super) fn of(
    unit: OffsetUnit,
    texts: &[&str],
    passages: &[Passage],
    matches: &[Range<usize>],
) -> Vec<FragmentOffsets> {
    let mut ruler = Ruler::new(unit, "");
    let mut number = None;
    let mut offsets = Vec::with_capacity(passages.len());
    for passage in passages {
        if number != Some(passage.text) {
            number = Some(passage.text);
            ruler = Ruler::new(unit, texts[passage.text]);
        }
        let start = ruler.at(passage.range.start);
        let within = |m: &Range<usize>| ruler.at(m.start) - start..ruler.at(m.end) - start;
        let matches = matches[passage.matches.clone()].iter().map(within).collect();
        offsets.push(FragmentOffsets {
            fragment: start..ruler.at(passage.range.end),
            matches,
        });
    }
    offsets
}

/// Counts how many units of a text lie before a byte. Bytes are asked for in ascending order.
struct Ruler<'a> {
    unit: OffsetUnit,
    /// What was not counted yet.
    rest: &'a str,
    byte: usize,
    units: u64,
}

impl<'a> Ruler<'a> {
    fn new(unit: OffsetUnit, text: &'a str) -> Self {
        Self {
            unit,
            rest: text,
            byte: 0,
            units: 0,
        }
    }

    fn at(&mut self, byte: usize) -> u64 {
        let (passed, rest) = self.rest.split_at(byte - self.byte);
        self.rest = rest;
        self.byte = byte;
        self.units += match self.unit {
            OffsetUnit::Utf8 => passed.len(),
            OffsetUnit::Utf16 => passed.chars().map(char::len_utf16).sum(),
            OffsetUnit::Codepoints => passed.chars().count(),
        } as u64;
        self.units
    }
}
