//! Texts in, a stored index out.

use std::ops::Range;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use bytes::Bytes;

use super::directory::{Draft, DraftBlock};
use super::lists::{Place, put_places, put_postings};
use super::packing::{pack, width};
use super::{BLOCK_BYTES, BLOCK_TERM_BYTES_MAX, LENGTHS_ROWS, TERM_BYTES_MAX, pages};
use crate::base::Bitset;
use crate::base::coding::{put_bytes, put_varint, shared_prefix};
use crate::index::text::index::{Terms, for_each_row, starts_of};
use crate::index::text::{Analyzer, Buffer, FieldStats, Posting};
use crate::model::FullTextConfig;
use crate::model::schema::Tokenizer;

/// An encoded text index.
#[derive(Clone, Debug)]
pub struct EncodedText {
    /// For the hot region; read by [`TextDirectory::open`](super::TextDirectory::open).
    pub directory: Bytes,
    /// Everything else; all ranges count from its beginning.
    pub pages: Bytes,
}

/// Analyses and encodes a column of `LargeUtf8` or `List<LargeUtf8>`, as
/// [`TextIndex::build`](crate::index::text::TextIndex::build) does.
///
/// * `positions` — whether to store where tokens stand
///
/// Takes as long as the analysis, and about 16 bytes of memory per token: hand it to the CPU pool. Panics on a column of
/// another type.
pub fn encode(config: &FullTextConfig, column: &ArrayRef, positions: bool) -> EncodedText {
    let array = matches!(column.data_type(), DataType::List(_));
    let elements = positions && tells_elements(config, array);
    let mut collected = Collected::new(column.len(), positions, elements);
    collected.analyse(config, column);
    let draft = Draft {
        positions,
        elements,
        rows: u32::try_from(column.len()).expect("a segment has fewer than 2^32 rows"),
        stats: FieldStats {
            docs: collected.present.count() as u64,
            tokens: collected.tokens.len() as u64,
        },
        ..Draft::default()
    };
    let lengths = encode_lengths(&collected.lengths, &collected.present);
    let mut areas = Areas::new(draft);
    areas.draft.lengths_len = lengths.len() as u64;
    collected.into_terms(&mut areas);
    areas.close();
    areas.finish(config, &lengths)
}

/// Whether places tell elements of an array apart.
pub(super) fn tells_elements(config: &FullTextConfig, array: bool) -> bool {
    array && config.tokenizer != Tokenizer::PreTokenizedArray
}

/// One more than the length of each row, 0 for null.
pub(super) fn encode_lengths(lengths: &[u32], present: &Bitset) -> Vec<u8> {
    let mut out = Vec::new();
    let mut values = Vec::with_capacity(LENGTHS_ROWS);
    for (block, lengths) in lengths.chunks(LENGTHS_ROWS).enumerate() {
        let rows = block * LENGTHS_ROWS..;
        values.clear();
        values.extend(rows.zip(lengths).map(|(row, n)| match present.contains(row) {
            true => n + 1,
            false => 0,
        }));
        let width = width(&values);
        out.push(width);
        pack(&mut out, &values, width);
    }
    out
}

/// The tokens of all rows, in their order.
struct Collected {
    terms: Terms,
    /// How often each term occurs.
    counts: Vec<u32>,
    /// Ordinals of terms.
    tokens: Vec<u32>,
    /// Of each token; empty when they are not stored.
    positions: Option<Vec<u32>>,
    elements: Option<Vec<u32>>,
    lengths: Vec<u32>,
    present: Bitset,
}

impl Collected {
    fn new(rows: usize, positions: bool, elements: bool) -> Self {
        Self {
            terms: Terms::default(),
            counts: Vec::new(),
            tokens: Vec::new(),
            positions: positions.then(Vec::new),
            elements: elements.then(Vec::new),
            lengths: vec![0; rows],
            present: Bitset::empty(rows),
        }
    }

    fn analyse(&mut self, config: &FullTextConfig, column: &ArrayRef) {
        let analyzer = Analyzer::new(config);
        let mut buffer = Buffer::new();
        for_each_row(column, |row, texts| {
            let before = self.tokens.len();
            match self.elements.is_some() {
                true => {
                    for (element, text) in (0..).zip(texts) {
                        analyzer.analyze(text, &mut buffer, |token, position| self.add(token, element, position));
                    }
                }
                false => analyzer.analyze_all(texts, &mut buffer, |token, position| self.add(token, 0, position)),
            }
            self.present.insert(row);
            self.lengths[row] = u32::try_from(self.tokens.len() - before).expect("a row has fewer bytes than that");
        });
    }

    fn add(&mut self, token: &str, element: u32, position: u32) {
        let term = self.terms.intern(token);
        if term as usize == self.counts.len() {
            self.counts.push(0);
        }
        self.counts[term as usize] += 1;
        self.tokens.push(term);
        if let Some(positions) = &mut self.positions {
            positions.push(position);
        }
        if let Some(elements) = &mut self.elements {
            elements.push(element);
        }
    }

    /// Groups the tokens by term and hands over the terms in their order.
    fn into_terms(self, areas: &mut Areas) {
        let (starts, mut next) = starts_of(&self.counts);
        let mut rows = vec![0u32; self.tokens.len()];
        // Which token of all it is.
        let mut sorted = vec![0u32; if self.positions.is_some() { self.tokens.len() } else { 0 }];
        let mut token = 0;
        for (row, length) in (0..).zip(&self.lengths) {
            for _ in 0..*length {
                let at = &mut next[self.tokens[token] as usize];
                rows[*at] = row;
                if let Some(place) = sorted.get_mut(*at) {
                    *place = u32::try_from(token).expect("a segment has fewer than 2^32 tokens");
                }
                *at += 1;
                token += 1;
            }
        }
        let mut order: Vec<u32> = (0..self.terms.len() as u32).collect();
        order.sort_unstable_by(|a, b| self.terms.get(*a as usize).cmp(self.terms.get(*b as usize)));
        let mut postings = Vec::new();
        for ordinal in order {
            let range = starts[ordinal as usize]..starts[ordinal as usize + 1];
            postings.clear();
            postings.extend(rows[range.clone()].chunk_by(|a, b| a == b).map(|rows| Posting {
                row: rows[0],
                frequency: rows.len() as u32,
            }));
            let places_len = self.put_term_places(&postings, &sorted, range, &mut areas.positions);
            areas.put_term(self.terms.get(ordinal as usize), &postings, places_len);
        }
    }

    /// Appends the places of a term's tokens, those of each row apart, and says how many bytes they take.
    fn put_term_places(&self, postings: &[Posting], sorted: &[u32], range: Range<usize>, out: &mut Vec<u8>) -> u64 {
        let Some(positions) = &self.positions else { return 0 };
        let before = out.len();
        let mut tokens = sorted[range].iter().map(|token| *token as usize);
        for posting in postings {
            let places = tokens.by_ref().take(posting.frequency as usize).map(|token| Place {
                element: self.elements.as_ref().map_or(0, |e| e[token]),
                position: positions[token],
            });
            put_places(out, places, self.elements.is_some());
        }
        (out.len() - before) as u64
    }
}

/// The areas of the stream while terms are added.
pub(super) struct Areas {
    pub(super) draft: Draft,
    dictionary: Vec<u8>,
    postings: Vec<u8>,
    pub(super) positions: Vec<u8>,
    block: Option<OpenBlock>,
    /// The last term of the block.
    before: String,
}

struct OpenBlock {
    draft: DraftBlock,
    /// Where it begins in the dictionary.
    start: usize,
    term_bytes: usize,
}

impl Areas {
    pub(super) fn new(draft: Draft) -> Self {
        Self {
            draft,
            dictionary: Vec::new(),
            postings: Vec::new(),
            positions: Vec::new(),
            block: None,
            before: String::new(),
        }
    }

    /// Adds a term, larger than all before it, whose places are appended already.
    pub(super) fn put_term(&mut self, term: &str, postings: &[Posting], positions_len: u64) {
        assert!(term.len() <= TERM_BYTES_MAX, "the analyser drops long tokens");
        let block = self.block.get_or_insert_with(|| {
            self.before.clear();
            OpenBlock {
                draft: DraftBlock {
                    first: term.to_owned(),
                    terms: 0,
                    len: 0,
                    postings_len: 0,
                    positions_len: 0,
                },
                start: self.dictionary.len(),
                term_bytes: 0,
            }
        });
        let out = &mut self.dictionary;
        let shared = shared_prefix(self.before.as_bytes(), term.as_bytes());
        put_varint(out, shared as u64);
        put_bytes(out, &term.as_bytes()[shared..]);
        let tokens: u64 = postings.iter().map(|p| u64::from(p.frequency)).sum();
        put_varint(out, postings.len() as u64);
        put_varint(out, tokens - postings.len() as u64);
        match postings {
            [posting] => put_varint(out, posting.row.into()),
            _ => {
                let before = self.postings.len();
                put_postings(&mut self.postings, postings);
                let len = (self.postings.len() - before) as u64;
                put_varint(out, len);
                block.draft.postings_len += len;
            }
        }
        if self.draft.positions {
            put_varint(out, positions_len);
        }
        block.draft.positions_len += positions_len;
        block.draft.terms += 1;
        block.term_bytes += term.len();
        self.before.clear();
        self.before.push_str(term);
        if self.dictionary.len() - block.start >= BLOCK_BYTES || block.term_bytes >= BLOCK_TERM_BYTES_MAX {
            self.close();
        }
    }

    /// Ends the block at hand.
    pub(super) fn close(&mut self) {
        let Some(mut block) = self.block.take() else { return };
        block.draft.len = (self.dictionary.len() - block.start) as u64;
        self.draft.terms += block.draft.terms;
        self.draft.blocks.push(block.draft);
    }

    pub(super) fn finish(&self, config: &FullTextConfig, lengths: &[u8]) -> EncodedText {
        EncodedText {
            directory: self.draft.encode(config).into(),
            pages: pages::encode(&[lengths, &self.dictionary, &self.postings, &self.positions]).into(),
        }
    }
}
