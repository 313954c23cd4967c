//! Fuzzy search: is some part of a text within a few edits of a query?
//!
//! Inserting, deleting or replacing a character is one edit, so that adding or losing a diacritic and
//! changing case are one too: `é` is a character other than `e`, and so is a combining accent.
//! Where case is free, characters are compared by their simple case folding.
//!
//! Source: Myers, A Fast Bit-Vector Algorithm for Approximate String Matching (1999), in the blocks
//! of 64 characters of its section 4. Time: the characters of the text, times the blocks of the query.

use hashbrown::HashMap;

use crate::index::attribute::Candidates;
use crate::index::attribute::fold as fold_case;
use crate::model::filter::FuzzyOptions;

/// A query ready to be looked for.
#[derive(Debug)]
pub(super) struct FuzzyQuery {
    /// As it was asked for.
    text: Box<str>,
    chars: usize,
    /// Edits at most; fewer than `chars`.
    distance: usize,
    case_sensitive: bool,
    /// For each distinct character its number + 1; 0 for all that do not occur.
    ascii: [u16; 128],
    others: HashMap<char, u16>,
    /// Where each distinct character occurs: bit `i` of the words of its number is character `i`
    /// of the query. The words of number 0 are empty.
    places: Vec<u64>,
    blocks: usize,
}

/// What the algorithm knows of 64 characters of the query at one place of the text: by how much the
/// least number of edits grows or falls from each to the next.
#[derive(Clone, Copy)]
struct Block {
    grows: u64,
    falls: u64,
}

impl FuzzyQuery {
    /// `None` when the query is too short for any of the options' distances: it matches nothing.
    ///
    /// * `query` — at most 65,000 characters
    pub(super) fn new(query: &str, options: &FuzzyOptions) -> Option<Self> {
        let chars: Vec<char> = query.chars().map(|c| fold(c, options.case_sensitive)).collect();
        let distance = options.distance_for(chars.len())? as usize;
        let blocks = chars.len().div_ceil(64);
        let mut made = Self {
            text: query.into(),
            chars: chars.len(),
            // Distances are less than a third of the query's length wherever they come from.
            distance: distance.min(chars.len().checked_sub(1)?),
            case_sensitive: options.case_sensitive,
            ascii: [0; 128],
            others: HashMap::new(),
            places: vec![0; blocks],
            blocks,
        };
        for (i, c) in chars.into_iter().enumerate() {
            let number = match made.number(c) {
                0 => made.add(c),
                number => number,
            };
            made.places[usize::from(number) * blocks + i / 64] |= 1 << (i % 64);
        }
        Some(made)
    }

    /// What every text has that matches.
    pub(super) fn candidates(&self) -> Candidates {
        Candidates::fuzzy(&self.text, self.distance, !self.case_sensitive)
    }

    fn number(&self, c: char) -> u16 {
        match self.ascii.get(c as usize) {
            Some(number) => *number,
            None => self.others.get(&c).copied().unwrap_or(0),
        }
    }

    fn add(&mut self, c: char) -> u16 {
        let number = u16::try_from(self.places.len() / self.blocks).expect("a query is shorter than 2^16 characters");
        match self.ascii.get_mut(c as usize) {
            Some(place) => *place = number,
            None => {
                self.others.insert(c, number);
            }
        }
        self.places.resize(self.places.len() + self.blocks, 0);
        number
    }

    /// Whether some part of `text` is within the distance.
    ///
    /// * `scratch` — any; kept from text to text so that nothing is allocated
    pub(super) fn matches(&self, text: &str, scratch: &mut Scratch) -> bool {
        // Each character that a text is shorter by is an edit.
        if text.len() + self.distance < self.chars {
            return false;
        }
        let blocks = &mut scratch.blocks;
        blocks.clear();
        blocks.resize(self.blocks, Block { grows: !0, falls: 0 });
        let last = 1 << ((self.chars - 1) % 64);
        let mut edits = self.chars;
        for c in text.chars() {
            let number = usize::from(self.number(fold(c, self.case_sensitive)));
            let places = &self.places[number * self.blocks..][..self.blocks];
            // A match may begin anywhere: before the first character there are no edits yet.
            let mut step = 0;
            let (inner, end) = blocks.split_at_mut(self.blocks - 1);
            for (block, places) in inner.iter_mut().zip(places) {
                step = block.advance(*places, step, 1 << 63);
            }
            step = end[0].advance(places[self.blocks - 1], step, last);
            edits = edits.wrapping_add_signed(step);
            if edits <= self.distance {
                return true;
            }
        }
        false
    }
}

impl Block {
    /// Goes on by one character of the text.
    ///
    /// * `equal` — where that character occurs in the block
    /// * `step` — by how much the edits before the block changed: −1, 0 or 1
    /// * `last` — the bit of the block's last character
    ///
    /// Returns by how much the edits up to the last character changed.
    fn advance(&mut self, equal: u64, step: isize, last: u64) -> isize {
        let (up, down) = (u64::from(step > 0), u64::from(step < 0));
        let vertical = equal | self.falls;
        let equal = equal | down;
        let diagonal = ((equal & self.grows).wrapping_add(self.grows) ^ self.grows) | equal;
        let more = self.falls | !(diagonal | self.grows);
        let less = self.grows & diagonal;
        let out = isize::from(more & last != 0) - isize::from(less & last != 0);
        let (more, less) = (more << 1 | up, less << 1 | down);
        self.grows = less | !(vertical | more);
        self.falls = more & vertical;
        out
    }
}

/// Memory for [`FuzzyQuery::matches`].
#[derive(Default)]
pub(super) struct Scratch {
    blocks: Vec<Block>,
}

/// A character as it is compared.
fn fold(c: char, case_sensitive: bool) -> char {
    if case_sensitive { c } else { fold_case(c) }
}
