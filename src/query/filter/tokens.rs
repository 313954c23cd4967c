//! Tests of an attribute's tokens: all, any, or a sequence of those that the operand has.
//!
//! A text has the tokens that the attribute's analyser makes of it; so has the operand. The texts
//! of an array are one text with respect to single tokens, but no sequence spans two of them, except
//! where each element is a token (`pre_tokenized_array`). A token that the analyser drops still takes
//! its place in a sequence, where it stands for any token.
//!
//! Answers come from the chunk's text index, which has no positions: a sequence is looked for in the
//! rows that have all of its tokens. Without an index of the right configuration texts are
//! analysed, which gives the same answers.

use std::ops::Range;

use arrow::array::LargeStringArray;
use arrow::buffer::NullBuffer;
use hashbrown::{HashMap, HashSet};

use crate::base::{Bitset, is_abandoned};
use crate::index::text::{Analyzer, Buffer, Posting, TextIndex};
use crate::model::schema::Tokenizer;
use crate::model::{AttrId, AttrType, FilterOp, FullTextConfig};
use crate::query::needs::Needs;
use crate::query::values::{Values, list_view, scalar_view};
use crate::segment::TermWanted;
use crate::tail::Chunk;

/// What has to hold of the tokens of a value.
#[derive(Debug)]
pub(super) struct TokenTest {
    config: FullTextConfig,
    /// Whether the attribute is an array.
    array: bool,
    want: Want,
}

#[derive(Debug)]
enum Want {
    /// Every one; true for every text when there are none.
    All(Vec<Token>),
    /// One at least; false when there are none.
    Any(Vec<Token>),
    Sequence(Sequence),
}

/// A token to look for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Token {
    text: Box<str>,
    /// Whether it also stands for longer tokens.
    prefix: bool,
}

impl Token {
    fn matches(&self, token: &str) -> bool {
        match self.prefix {
            true => token.starts_with(&*self.text),
            false => token == &*self.text,
        }
    }
}

/// A column of texts, or of arrays of texts.
struct Texts<'a> {
    values: &'a LargeStringArray,
    /// Of an array: row `r` has the texts `offsets[r]..offsets[r + 1]`.
    offsets: Option<&'a [i32]>,
    nulls: Option<&'a NullBuffer>,
}

impl<'a> Texts<'a> {
    /// `None` when the chunk has no such column: null in every row.
    fn of(chunk: &'a Chunk, attribute: AttrId, array: bool) -> Option<Self> {
        let (values, offsets, nulls) = match array {
            true => list_view(chunk, attribute).map(|v| (v.elements, Some(v.offsets), v.nulls))?,
            false => scalar_view(chunk, attribute).map(|v| (v.values, None, v.nulls))?,
        };
        let Values::String(values) = values else {
            unreachable!("only texts have tokens")
        };
        Some(Self { values, offsets, nulls })
    }

    fn is_null(&self, row: usize) -> bool {
        self.nulls.is_some_and(|n| n.is_null(row))
    }

    fn row(&self, row: usize) -> impl Iterator<Item = &'a str> {
        let values = self.values;
        let texts = match self.offsets {
            None => row..row + 1,
            Some(offsets) => offsets[row] as usize..offsets[row + 1] as usize,
        };
        texts.map(|i| values.value(i))
    }
}

impl TokenTest {
    /// A test for the tokens of `texts`, which are analysed one after the other.
    ///
    /// * `op` — one of the three operators on tokens
    /// * `ty` — of the attribute
    /// * `last_as_prefix` — whether the last token also stands for longer ones
    pub(super) fn new<'a>(
        op: FilterOp,
        config: &FullTextConfig,
        ty: AttrType,
        texts: impl Iterator<Item = &'a str>,
        last_as_prefix: bool,
    ) -> Self {
        let mut tokens: Vec<(String, u32)> = Vec::new();
        let keep = |token: &str, position| tokens.push((token.to_owned(), position));
        Analyzer::new(config).analyze_all(texts, &mut Buffer::new(), keep);
        let want = match op {
            FilterOp::ContainsTokenSequence => Want::Sequence(Sequence::new(&tokens)),
            FilterOp::ContainsAnyToken => Want::Any(distinct(tokens, last_as_prefix)),
            _ => Want::All(distinct(tokens, last_as_prefix)),
        };
        Self {
            config: *config,
            array: matches!(ty, AttrType::Array(_)),
            want,
        }
    }

    /// The rows of an attribute for which the test holds, bit 0 being `rows.start`, and which rows are
    /// null, of which the former says nothing. `None` when the chunk has no such column.
    pub(super) fn holding<'a>(
        &self,
        chunk: &'a Chunk,
        attribute: AttrId,
        rows: Range<usize>,
    ) -> Option<(Bitset, Option<&'a NullBuffer>)> {
        if !chunk.has_column(attribute) {
            let index = chunk.text_index(attribute)?;
            return Some((self.in_index(index, rows), None));
        }
        let texts = Texts::of(chunk, attribute, self.array)?;
        // Another configuration makes other tokens. A prefix is looked for among all terms of the
        // index, which is too much work for one row.
        let has_prefix = matches!(&self.want, Want::All(t) | Want::Any(t) if t.iter().any(|t| t.prefix));
        let index = match chunk.has_text(attribute) {
            true => chunk.text_index(attribute),
            false => None,
        };
        let index = index.filter(|i| i.config().same_tokens(&self.config) && !(has_prefix && rows.len() == 1));
        Some((self.find(index.map(|i| &**i), &texts, rows), texts.nulls))
    }

    fn find(&self, index: Option<&TextIndex>, texts: &Texts<'_>, rows: Range<usize>) -> Bitset {
        match index {
            Some(index) if self.reads_texts() => {
                self.analysed(texts, &self.candidates(index, rows.clone()), rows.start)
            }
            Some(index) => self.candidates(index, rows),
            None => self.analysed(texts, &Bitset::full(rows.len()), rows.start),
        }
    }

    /// The rows of a test that an index answers alone. Panics on another test.
    fn in_index(&self, index: &TextIndex, rows: Range<usize>) -> Bitset {
        assert!(
            index.config().same_tokens(&self.config) && !self.reads_texts(),
            "the texts are loaded where the index does not answer"
        );
        let mut found = self.candidates(index, rows.clone());
        // A test without tokens holds for every text, but for no null.
        found.and(&index.present().range(rows));
        found
    }

    /// Whether an index of the right configuration narrows the search only.
    pub(super) fn reads_texts(&self) -> bool {
        matches!(&self.want, Want::Sequence(sequence) if sequence.places.len() > 1)
    }

    /// Whether the tokens of an attribute with this configuration are those of the test.
    pub(super) fn fits(&self, config: &FullTextConfig) -> bool {
        config.same_tokens(&self.config)
    }

    /// The rows of an index that have the tokens, in whatever order; bit 0 is `rows.start`. Says nothing of nulls.
    pub(super) fn candidates(&self, index: &TextIndex, rows: Range<usize>) -> Bitset {
        match &self.want {
            Want::All(tokens) => all_of(tokens, index, rows),
            Want::Any(tokens) => {
                let mut found = Bitset::empty(rows.len());
                tokens.iter().for_each(|t| add_rows(&mut found, t, index, &rows));
                found
            }
            Want::Sequence(sequence) => all_of(&sequence.tokens, index, rows),
        }
    }

    /// The tokens of a sequence, and where they stand.
    pub(super) fn sequence(&self) -> Option<&[(String, u32)]> {
        match &self.want {
            Want::Sequence(sequence) => Some(&sequence.asked),
            Want::All(_) | Want::Any(_) => None,
        }
    }

    /// Adds what the test looks at.
    pub(super) fn needs(&self, attribute: AttrId, needs: &mut Needs) {
        needs.terms(attribute, self.terms());
        if self.reads_texts() {
            needs.column(attribute);
        }
    }

    /// The terms that an index has to know.
    pub(super) fn terms(&self) -> impl Iterator<Item = TermWanted> {
        let tokens = match &self.want {
            Want::All(tokens) | Want::Any(tokens) => tokens,
            Want::Sequence(sequence) => &sequence.tokens,
        };
        tokens.iter().map(|token| match token.prefix {
            true => TermWanted::Prefix(token.text.to_string()),
            false => TermWanted::Exact(token.text.to_string()),
        })
    }

    /// Those of some rows whose texts pass, by analysing them.
    ///
    /// * `first` — the row of bit 0
    fn analysed(&self, texts: &Texts<'_>, candidates: &Bitset, first: usize) -> Bitset {
        let analyzer = Analyzer::new(&self.config);
        let mut buffer = Buffer::new();
        let mut found = Bitset::empty(candidates.len());
        for bit in candidates.iter().filter(|bit| !texts.is_null(first + bit)) {
            if is_abandoned() {
                break;
            }
            let texts = texts.row(first + bit);
            let holds = match &self.want {
                Want::All(tokens) => seen(tokens, &analyzer, &mut buffer, texts).iter().all(|s| *s),
                Want::Any(tokens) => seen(tokens, &analyzer, &mut buffer, texts).iter().any(|s| *s),
                Want::Sequence(sequence) => {
                    let spans = self.config.tokenizer == Tokenizer::PreTokenizedArray;
                    sequence.is_in(&analyzer, &mut buffer, texts, spans)
                }
            };
            if holds {
                found.insert(bit);
            }
        }
        found
    }
}

/// The distinct tokens, the last one of the operand as a prefix where that is wanted.
fn distinct(tokens: Vec<(String, u32)>, last_as_prefix: bool) -> Vec<Token> {
    let last = tokens.len().wrapping_sub(1);
    let token = |(i, (text, _)): (usize, (String, u32))| Token {
        text: text.into(),
        prefix: last_as_prefix && i == last,
    };
    let set: HashSet<Token> = tokens.into_iter().enumerate().map(token).collect();
    set.into_iter().collect()
}

/// Which of the tokens a row's texts have.
fn seen<'a>(
    tokens: &[Token],
    analyzer: &Analyzer,
    buffer: &mut Buffer,
    texts: impl Iterator<Item = &'a str>,
) -> Vec<bool> {
    let exact = tokens.iter().enumerate().filter(|(_, t)| !t.prefix);
    let exact: HashMap<&str, usize> = exact.map(|(i, t)| (&*t.text, i)).collect();
    let prefix = tokens.iter().position(|t| t.prefix);
    let mut seen = vec![false; tokens.len()];
    analyzer.analyze_all(texts, buffer, |token, _| {
        if let Some(i) = exact.get(token) {
            seen[*i] = true;
        }
        if let Some(i) = prefix.filter(|i| tokens[*i].matches(token)) {
            seen[i] = true;
        }
    });
    seen
}

/// The rows of an index that have all tokens; bit 0 is `rows.start`.
fn all_of(tokens: &[Token], index: &TextIndex, rows: Range<usize>) -> Bitset {
    // The rarest first, so that there is soon nothing left to do.
    let rarity = |t: &&Token| match t.prefix {
        true => usize::MAX,
        false => index.postings(&t.text).len(),
    };
    let mut tokens: Vec<&Token> = tokens.iter().collect();
    tokens.sort_by_cached_key(rarity);
    let mut all = Bitset::full(rows.len());
    for token in tokens {
        let mut with = Bitset::empty(rows.len());
        add_rows(&mut with, token, index, &rows);
        all.and(&with);
        if all.none() {
            break;
        }
    }
    all
}

/// Adds the rows of an index that have a token.
fn add_rows(found: &mut Bitset, token: &Token, index: &TextIndex, rows: &Range<usize>) {
    let mut add = |postings: &[Posting]| {
        let from = postings.partition_point(|p| (p.row as usize) < rows.start);
        let inside = postings[from..].iter().map(|p| p.row as usize);
        inside
            .take_while(|row| *row < rows.end)
            .for_each(|row| found.insert(row - rows.start));
    };
    match token.prefix {
        false => add(index.postings(&token.text)),
        true => {
            let terms = index.terms().filter(|(term, _)| token.matches(term));
            terms.for_each(|(_, postings)| add(postings));
        }
    }
}

/// Tokens at fixed distances from each other.
///
/// Found by simulating the automaton of all its prefixes, a bit for each place (Shift-And: Baeza-Yates
/// and Gonnet, A New Approach to Text Searching, 1992), so that no text takes more time than its
/// tokens times 1/64 of the places.
#[derive(Debug)]
struct Sequence {
    /// In their order, with their positions.
    asked: Vec<(String, u32)>,
    tokens: Vec<Token>,
    /// Where each token stands.
    at: HashMap<Box<str>, Places>,
    /// Where any token may stand: the analyser dropped what was there.
    any: Vec<u64>,
    /// One for each place from the first token to the last: whether a token is wanted there.
    places: Vec<bool>,
}

/// Some places: whichever form is smaller, so that a step takes no longer than the words of a mask.
#[derive(Debug)]
enum Places {
    Few(Vec<u32>),
    Mask(Vec<u64>),
}

impl Sequence {
    fn new(tokens: &[(String, u32)]) -> Self {
        let first = tokens.first().map_or(0, |(_, p)| *p);
        let len = tokens.last().map_or(0, |(_, p)| (p - first) as usize + 1);
        let words = len.div_ceil(64);
        let mut places = vec![false; len];
        let mut at: HashMap<Box<str>, Vec<u32>> = HashMap::new();
        for (token, position) in tokens {
            places[(position - first) as usize] = true;
            at.entry_ref(token.as_str()).or_default().push(position - first);
        }
        let mask = |of: &mut dyn Iterator<Item = usize>| {
            let mut mask = vec![0u64; words];
            of.for_each(|p| mask[p / 64] |= 1 << (p % 64));
            mask
        };
        let token = |text: &str| Token {
            text: text.into(),
            prefix: false,
        };
        Self {
            asked: tokens.to_vec(),
            tokens: at.keys().map(|text| token(text)).collect(),
            any: mask(&mut (0..len).filter(|p| !places[*p])),
            at: at
                .into_iter()
                .map(|(text, list)| match list.len() <= words {
                    true => (text, Places::Few(list)),
                    false => (text, Places::Mask(mask(&mut list.iter().map(|p| *p as usize)))),
                })
                .collect(),
            places,
        }
    }

    /// * `spans` — whether a sequence may span several texts
    fn is_in<'a>(
        &self,
        analyzer: &Analyzer,
        buffer: &mut Buffer,
        mut texts: impl Iterator<Item = &'a str>,
        spans: bool,
    ) -> bool {
        if self.places.is_empty() {
            return true;
        }
        match spans {
            true => {
                let mut search = Search::new(self);
                analyzer.analyze_all(texts, buffer, |token, position| search.step(token, position));
                search.found
            }
            false => texts.any(|text| {
                let mut search = Search::new(self);
                analyzer.analyze(text, buffer, |token, position| search.step(token, position));
                search.found
            }),
        }
    }
}

/// A sequence being looked for in one text.
struct Search<'a> {
    sequence: &'a Sequence,
    /// Bit `i`: the last tokens of the text so far fit the places `0..=i`.
    fits: Vec<u64>,
    /// Memory for the next state.
    next: Vec<u64>,
    /// Where the text's next token stands when nothing is dropped before it.
    position: u32,
    found: bool,
}

impl<'a> Search<'a> {
    fn new(sequence: &'a Sequence) -> Self {
        Self {
            sequence,
            fits: vec![0; sequence.any.len()],
            next: vec![0; sequence.any.len()],
            position: 0,
            found: false,
        }
    }

    /// Goes on to the next token of the text. Positions ascend.
    fn step(&mut self, token: &str, position: u32) {
        if self.found {
            return;
        }
        let dropped = position.saturating_sub(self.position) as usize;
        self.position = position.saturating_add(1);
        match dropped < self.sequence.places.len() {
            true => (0..dropped).for_each(|_| self.advance(None)),
            // There is no place as long as that without a token.
            false => self.fits.fill(0),
        }
        self.advance(self.sequence.at.get(token));
        let last = self.sequence.places.len() - 1;
        self.found = self.fits[last / 64] >> (last % 64) & 1 == 1;
    }

    /// One place further, where the text has a token that is wanted at `places`, or none of those.
    fn advance(&mut self, places: Option<&Places>) {
        let mut carry = 1;
        for word in &mut self.fits {
            (*word, carry) = (*word << 1 | carry, *word >> 63);
        }
        let any = self.fits.iter().zip(&self.sequence.any).map(|(f, a)| f & a);
        self.next.iter_mut().zip(any).for_each(|(n, word)| *n = word);
        match places {
            None => {}
            Some(Places::Few(list)) => {
                for p in list.iter().map(|p| *p as usize) {
                    self.next[p / 64] |= self.fits[p / 64] & (1 << (p % 64));
                }
            }
            Some(Places::Mask(mask)) => {
                for ((next, fits), mask) in self.next.iter_mut().zip(&self.fits).zip(mask) {
                    *next |= fits & mask;
                }
            }
        }
        std::mem::swap(&mut self.fits, &mut self.next);
    }
}
