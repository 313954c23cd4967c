//! The inverted index of one attribute over a set of rows, in memory.
//!
//! Three flat arrays: the bytes of all terms, all postings grouped by term, the lengths of all
//! rows; and a hash table from a term to its ordinal. Nothing is allocated per term.

use std::cmp::Ordering;
use std::hash::BuildHasher;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::analysis::{Analyzer, Buffer};
use super::stored::TermWanted;
use crate::base::Bitset;
use crate::model::FullTextConfig;

/// The inverted index of one attribute over the rows `0..rows` of a tail chunk or a segment. Immutable.
///
/// Of a segment it may know some terms only, those that a query needs; lengths and statistics are
/// those of all rows all the same.
pub struct TextIndex {
    config: FullTextConfig,
    terms: Terms,
    /// Postings of term `t`: `postings[starts[t]..starts[t + 1]]`.
    starts: Vec<usize>,
    postings: Vec<Posting>,
    lengths: Arc<RowLengths>,
    /// The terms that it was made for; `None`: it knows all.
    made_for: Option<Vec<TermWanted>>,
}

/// How long the text of each row is, the same whichever terms an index knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowLengths {
    /// Tokens of each row; 0 for null.
    tokens: Vec<u32>,
    /// Rows that are not null.
    present: Bitset,
    stats: FieldStats,
}

impl RowLengths {
    pub(super) fn new(tokens: Vec<u32>, present: Bitset) -> Self {
        assert_eq!(tokens.len(), present.len(), "a length per row");
        let stats = FieldStats {
            docs: present.count() as u64,
            tokens: tokens.iter().map(|n| u64::from(*n)).sum(),
        };
        Self { tokens, present, stats }
    }

    /// How many rows, null ones included.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }

    /// The rows that are not null.
    pub fn present(&self) -> &Bitset {
        &self.present
    }

    /// How many tokens a row has; 0 for null.
    pub fn tokens_of(&self, row: u32) -> u32 {
        self.tokens[row as usize]
    }

    /// Rows with a value and their tokens.
    pub fn stats(&self) -> FieldStats {
        self.stats
    }

    /// About how much memory it holds, in bytes.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.tokens.capacity() * size_of::<u32>() + size_of_val(self.present.words())
    }
}

/// One row that contains a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posting {
    pub row: u32,
    /// How often the term occurs in the row.
    pub frequency: u32,
}

/// What BM25 needs to know about an attribute, summed over all parts of a snapshot. Deleted rows
/// count until a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FieldStats {
    /// Rows with a value (null rows do not count; empty texts do).
    pub docs: u64,
    /// Tokens in all of them.
    pub tokens: u64,
}

impl std::ops::AddAssign for FieldStats {
    fn add_assign(&mut self, other: Self) {
        self.docs += other.docs;
        self.tokens += other.tokens;
    }
}

impl TextIndex {
    /// Analyses and indexes a column of `LargeUtf8` or `List<LargeUtf8>`; the elements of a list
    /// are one field, null elements are skipped. Panics on a column of another type.
    pub fn build(config: &FullTextConfig, column: &ArrayRef) -> Self {
        let mut builder = Builder::new(config, column.len());
        for_each_row(column, |row, texts| builder.add(row, texts));
        builder.finish()
    }

    /// Joins indexes built under the same tokens; `remaps[i][row]` is the new number of a row of
    /// part `i`, `None` when it is gone. New numbers are below `rows` and ascend within a part and
    /// from part to part; numbers that no part maps to are null rows. Terms left without rows
    /// vanish, and rows that are gone no longer count in [`TextIndex::stats`]. Nothing is tokenised
    /// again. The result has the configuration of the first part, the default one without parts.
    pub fn merge(parts: &[(&TextIndex, &[Option<u32>])], rows: usize) -> Self {
        let config = parts
            .first()
            .map_or_else(FullTextConfig::default, |(index, _)| index.config);
        let mut merged = Merged {
            terms: Terms::default(),
            counts: Vec::new(),
            lengths: vec![0; rows],
            present: Bitset::empty(rows),
        };
        let ordinals: Vec<Vec<Option<u32>>> = parts
            .iter()
            .map(|(index, remap)| {
                assert!(config.same_tokens(&index.config), "merged indexes have the same tokens");
                assert_eq!(remap.len(), index.rows(), "a remap covers every row of its index");
                merged.take_rows(index, remap);
                merged.take_terms(index, remap)
            })
            .collect();
        let (starts, mut next) = starts_of(&merged.counts);
        let mut postings = vec![Posting { row: 0, frequency: 0 }; starts[merged.counts.len()]];
        for ((index, remap), ordinals) in parts.iter().zip(&ordinals) {
            for (old, new) in ordinals.iter().enumerate() {
                let Some(new) = *new else { continue };
                for posting in index.postings_of(old) {
                    if let Some(row) = remap[posting.row as usize] {
                        postings[next[new as usize]] = Posting { row, ..*posting };
                        next[new as usize] += 1;
                    }
                }
            }
        }
        let lengths = RowLengths::new(merged.lengths, merged.present);
        Self::new(config, merged.terms, starts, postings, Arc::new(lengths))
    }

    /// * `starts` — where the postings of each term begin, and the end of the last
    pub(super) fn new(
        config: FullTextConfig,
        mut terms: Terms,
        starts: Vec<usize>,
        postings: Vec<Posting>,
        lengths: Arc<RowLengths>,
    ) -> Self {
        assert_eq!(starts.len(), terms.len() + 1, "postings of every term");
        terms.shrink();
        Self {
            config,
            terms,
            starts,
            postings,
            lengths,
            made_for: None,
        }
    }

    /// The same, which knows no terms but these. To ask it for another is a mistake, and no term that is nowhere.
    pub fn made_for(self, terms: &[TermWanted]) -> Self {
        let mut terms = terms.to_vec();
        terms.sort_unstable();
        Self {
            made_for: Some(terms),
            ..self
        }
    }

    /// Whether it was made for a term.
    fn knows(&self, term: &str) -> bool {
        let Some(terms) = &self.made_for else { return true };
        let exact = |wanted: &TermWanted| match wanted {
            TermWanted::Exact(wanted) => wanted.as_str().cmp(term),
            TermWanted::Prefix(_) => Ordering::Greater,
        };
        // Exact ones come first.
        let prefixes = terms.iter().rev().map_while(|wanted| match wanted {
            TermWanted::Exact(_) => None,
            TermWanted::Prefix(prefix) => Some(prefix),
        });
        terms.binary_search_by(exact).is_ok() || prefixes.into_iter().any(|prefix| term.starts_with(&**prefix))
    }

    /// The configuration it was built with.
    pub fn config(&self) -> &FullTextConfig {
        &self.config
    }

    /// How many rows, null ones included.
    pub fn rows(&self) -> usize {
        self.lengths.rows()
    }

    /// Rows with a value and their tokens.
    pub fn stats(&self) -> FieldStats {
        self.lengths.stats
    }

    /// The rows that contain `term`, ascending; empty when none does. Panics on an index that was made for other terms.
    pub fn postings(&self, term: &str) -> &[Posting] {
        match self.terms.find(term) {
            Some(ordinal) => self.postings_of(ordinal as usize),
            None => {
                assert!(self.knows(term), "a text index is asked for a term that was not loaded");
                &[]
            }
        }
    }

    /// Every term with the rows that contain it, at least one, in no particular order.
    pub fn terms(&self) -> impl Iterator<Item = (&str, &[Posting])> {
        (0..self.terms.len()).map(|ordinal| (self.terms.get(ordinal), self.postings_of(ordinal)))
    }

    fn postings_of(&self, ordinal: usize) -> &[Posting] {
        &self.postings[self.starts[ordinal]..self.starts[ordinal + 1]]
    }

    /// The rows that are not null.
    pub fn present(&self) -> &Bitset {
        self.lengths.present()
    }

    /// How many tokens a row has; 0 for null.
    pub fn length(&self, row: u32) -> u32 {
        self.lengths.tokens[row as usize]
    }

    /// About how much memory it holds, in bytes.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.terms.memory_bytes()
            + self.starts.capacity() * size_of::<usize>()
            + self.postings.capacity() * size_of::<Posting>()
            + self.lengths.memory_bytes()
    }
}

/// Hands over the texts of each row that is not null, first to last. Panics on a column of another
/// type than [`TextIndex::build`] takes.
pub(super) fn for_each_row(column: &ArrayRef, mut each: impl for<'a> FnMut(usize, &mut dyn Iterator<Item = &'a str>)) {
    match column.data_type() {
        DataType::LargeUtf8 => {
            for (row, text) in column.as_string::<i64>().iter().enumerate() {
                if let Some(text) = text {
                    each(row, &mut std::iter::once(text));
                }
            }
        }
        DataType::List(field) if *field.data_type() == DataType::LargeUtf8 => {
            for (row, texts) in column.as_list::<i32>().iter().enumerate() {
                if let Some(texts) = texts {
                    each(row, &mut texts.as_string::<i64>().iter().flatten());
                }
            }
        }
        other => panic!("the schema gives full text only to strings and arrays of them, not to {other}"),
    }
}

/// Where the group of each ordinal begins, and the end of the last; and a copy to advance while
/// the groups are filled.
pub(super) fn starts_of(counts: &[u32]) -> (Vec<usize>, Vec<usize>) {
    let mut starts = Vec::with_capacity(counts.len() + 1);
    let mut end = 0;
    starts.push(end);
    for count in counts {
        end += *count as usize;
        starts.push(end);
    }
    let next = starts.clone();
    (starts, next)
}

/// Collects rows into an index: occurrences row by row, then one counting sort by term.
struct Builder {
    config: FullTextConfig,
    analyzer: Analyzer,
    buffer: Buffer,
    terms: Terms,
    /// Rows that contain each term.
    counts: Vec<u32>,
    /// Where in `occurrences` each term was last put.
    last: Vec<usize>,
    /// The distinct terms of the rows, row by row, with their frequencies.
    occurrences: Vec<(u32, u32)>,
    /// How many of `occurrences` each row has.
    distinct: Vec<u32>,
    lengths: Vec<u32>,
    present: Bitset,
}

impl Builder {
    fn new(config: &FullTextConfig, rows: usize) -> Self {
        Self {
            config: *config,
            analyzer: Analyzer::new(config),
            buffer: Buffer::new(),
            terms: Terms::default(),
            counts: Vec::new(),
            last: Vec::new(),
            occurrences: Vec::new(),
            distinct: vec![0; rows],
            lengths: vec![0; rows],
            present: Bitset::empty(rows),
        }
    }

    /// Adds the texts of one row. Rows come in ascending order.
    fn add<'a>(&mut self, row: usize, texts: impl Iterator<Item = &'a str>) {
        let row_start = self.occurrences.len();
        let mut length = 0;
        self.analyzer.analyze_all(texts, &mut self.buffer, |token, _| {
            length += 1;
            let term = self.terms.intern(token);
            let at = term as usize;
            if at == self.counts.len() {
                self.counts.push(0);
                self.last.push(usize::MAX);
            }
            match self.last[at] {
                last if last != usize::MAX && last >= row_start => self.occurrences[last].1 += 1,
                _ => {
                    self.last[at] = self.occurrences.len();
                    self.occurrences.push((term, 1));
                    self.counts[at] += 1;
                }
            }
        });
        self.lengths[row] = length;
        self.distinct[row] = (self.occurrences.len() - row_start) as u32;
        self.present.insert(row);
    }

    fn finish(self) -> TextIndex {
        let (starts, mut next) = starts_of(&self.counts);
        let mut postings = vec![Posting { row: 0, frequency: 0 }; self.occurrences.len()];
        let mut occurrences = self.occurrences.iter();
        for (row, distinct) in (0u32..).zip(&self.distinct) {
            for (term, frequency) in occurrences.by_ref().take(*distinct as usize) {
                let at = &mut next[*term as usize];
                postings[*at] = Posting {
                    row,
                    frequency: *frequency,
                };
                *at += 1;
            }
        }
        let lengths = RowLengths::new(self.lengths, self.present);
        TextIndex::new(self.config, self.terms, starts, postings, Arc::new(lengths))
    }
}

/// What a merge knows before it writes postings.
struct Merged {
    terms: Terms,
    counts: Vec<u32>,
    lengths: Vec<u32>,
    present: Bitset,
}

impl Merged {
    fn take_rows(&mut self, index: &TextIndex, remap: &[Option<u32>]) {
        for old in index.lengths.present.iter() {
            if let Some(new) = remap[old] {
                self.lengths[new as usize] = index.lengths.tokens[old];
                self.present.insert(new as usize);
            }
        }
    }

    /// Takes over the terms that keep a row; returns the new ordinal of each old one.
    fn take_terms(&mut self, index: &TextIndex, remap: &[Option<u32>]) -> Vec<Option<u32>> {
        index
            .terms()
            .map(|(term, postings)| {
                let kept = postings.iter().filter(|p| remap[p.row as usize].is_some()).count() as u32;
                if kept == 0 {
                    return None;
                }
                let ordinal = self.terms.intern(term);
                if ordinal as usize == self.counts.len() {
                    self.counts.push(0);
                }
                self.counts[ordinal as usize] += kept;
                Some(ordinal)
            })
            .collect()
    }
}

/// A set of terms numbered in the order of their arrival.
#[derive(Default)]
pub(super) struct Terms {
    /// All terms, one after the other.
    text: String,
    /// Where each term ends in `text`.
    ends: Vec<usize>,
    /// Ordinals by the hash of their term. The hash is seeded: terms are chosen by clients, who
    /// could otherwise send ones that collide.
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Terms {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, ordinal: usize) -> &str {
        term_at(&self.text, &self.ends, ordinal)
    }

    fn find(&self, term: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(term);
        self.table
            .find(hash, |ordinal| self.get(*ordinal as usize) == term)
            .copied()
    }

    /// The ordinal of `term`, the next free one when it is new.
    pub(super) fn intern(&mut self, term: &str) -> u32 {
        let hash = self.hasher.hash_one(term);
        if let Some(ordinal) = self
            .table
            .find(hash, |o| term_at(&self.text, &self.ends, *o as usize) == term)
        {
            return *ordinal;
        }
        let ordinal = u32::try_from(self.ends.len()).expect("a chunk or segment is far below 2^32 terms");
        self.text.push_str(term);
        self.ends.push(self.text.len());
        let Self { text, ends, hasher, .. } = self;
        let rehash = |o: &u32| hasher.hash_one(term_at(text, ends, *o as usize));
        self.table.insert_unique(hash, ordinal, rehash);
        ordinal
    }

    fn shrink(&mut self) {
        self.text.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    fn memory_bytes(&self) -> usize {
        // The table keeps one control byte beside each slot.
        self.text.capacity()
            + self.ends.capacity() * size_of::<usize>()
            + self.table.capacity() * (size_of::<u32>() + 1) * 8 / 7
    }
}

fn term_at<'a>(text: &'a str, ends: &[usize], ordinal: usize) -> &'a str {
    let start = match ordinal {
        0 => 0,
        n => ends[n - 1],
    };
    &text[start..ends[ordinal]]
}
