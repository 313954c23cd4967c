//! Passages of texts that match a query.
//!
//! A value is analysed once, with the analyser that indexed it. Tokens that are terms of the query
//! are its matches; the value is cut into fragments, those without a match are left out, and the rest
//! are ranked by BM25: `fragments` says where a text may be cut, `ranking` what matches and what that is
//! worth, `offsets` counts in the unit that was asked for.
//!
//! # What stays true
//!
//! - A fragment is a cut of the value, a match a cut of the fragment, and the analysed form of a match
//!   is a term of the query (or begins with its last one, where `last_as_prefix` asks for that).
//! - No token is cut in two. A row that was found by a term hence has a fragment with it.
//! - Fragments of one value do not overlap. They are ordered by score, then by their place.
//!
//! # Choices
//!
//! The API's description leaves these open.
//!
//! | question | answer |
//! | --- | --- |
//! | what is a sentence? | UAX #29, Unicode 17: line breaks end one too |
//! | what is a paragraph? | ends at lines with nothing but white space, and at U+2029 |
//! | what is a word? | a token of the attribute's tokenizer |
//! | white space around a fragment? | left out, but for `none`, which is the whole value |
//! | arrays? | every element is a text of its own; offsets count from its beginning |
//! | a value without a match? | no fragments: an empty array |
//! | which statistics? | document frequencies and average length of the attribute in the snapshot; a fragment has its own length and counts |

mod fragments;
mod offsets;
mod ranking;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::ops::Range;

use ranking::{Occurrences, Ranking, Scorer};

use super::needs::Needs;
use super::{Fragment, FragmentOffsets};
use crate::base::is_abandoned;
use crate::index::text::{Analyzer, Buffer, TextIndex, Token};
use crate::model::query::{FragmentBy, Highlight, OffsetUnit};
use crate::model::schema::Tokenizer;
use crate::model::{AttrId, FullTextConfig, Invalid, RankBy, Schema};

/// A highlight whose attribute is known and whose query is analysed.
#[derive(Clone, Debug)]
pub struct BoundHighlight {
    attribute: AttrId,
    config: FullTextConfig,
    fragment_by: FragmentBy,
    fragment_limit: usize,
    offsets: Option<OffsetUnit>,
    ranking: Ranking,
}

/// Binds a highlight to a schema.
///
/// * `rank_by` — of the query, whose text clauses on the attribute are what is highlighted unless
///   `rank_fragments_by` says otherwise
///
/// # Errors
///
/// An attribute without full-text search or of tokens as they are; no text to look for; an expression
/// that fragments cannot be ranked by.
pub fn bind(asked: &Highlight, rank_by: Option<&RankBy>, schema: &Schema) -> Result<BoundHighlight, Invalid> {
    let name = &asked.attribute;
    let attribute = schema.require(name)?;
    let Some(config) = attribute.full_text else {
        let how = match attribute.ty.can_be_searched() {
            true => "; set \"full_text_search\": true for it in the schema",
            false => ", which only string and []string attributes can have",
        };
        return Err(Invalid::new(format!(
            "Highlight needs an attribute with full-text search, and {name:?} has none{how}"
        )));
    };
    if config.tokenizer == Tokenizer::PreTokenizedArray {
        return Err(Invalid::new(format!(
            "Highlight needs texts, and {name:?} has tokens: its tokenizer is pre_tokenized_array"
        )));
    }
    let ranking = match (&asked.rank_fragments_by, rank_by) {
        (Some(score), _) => Ranking::asked(score, name, &config)?,
        (None, Some(RankBy::Score(score))) => Ranking::of_query(score, name, &config)?,
        (None, _) => None,
    };
    let Some(ranking) = ranking else {
        return Err(Invalid::new(format!(
            "Highlight needs rank_fragments_by, such as [\"$fragment\", \"BM25\", \"words\"], \
             because rank_by has no BM25 clause on {name:?}"
        )));
    };
    Ok(BoundHighlight {
        attribute: attribute.id,
        config,
        fragment_by: asked.fragment_by,
        fragment_limit: asked.fragment_limit,
        offsets: asked.include_offsets,
        ranking,
    })
}

impl BoundHighlight {
    /// The attribute that is highlighted.
    pub fn attribute(&self) -> AttrId {
        self.attribute
    }

    /// Adds the terms whose statistics are looked at.
    pub(super) fn needs(&self, needs: &mut Needs) {
        self.ranking
            .texts()
            .for_each(|terms| needs.text(self.attribute, terms, None));
    }

    /// Weighs the query's terms.
    ///
    /// * `indexes` — of the attribute, over all parts of the snapshot
    ///
    /// Costs a look-up per term and index.
    pub fn weigh<'a>(&self, indexes: impl Iterator<Item = &'a TextIndex> + Clone) -> Highlighter {
        Highlighter {
            analyzer: Analyzer::new(&self.config),
            fragment_by: self.fragment_by,
            fragment_limit: self.fragment_limit,
            offsets: self.offsets,
            scorer: self.ranking.weigh(&self.config, indexes),
        }
    }
}

/// Finds the best passages of values of one attribute for one query.
pub struct Highlighter {
    analyzer: Analyzer,
    fragment_by: FragmentBy,
    fragment_limit: usize,
    offsets: Option<OffsetUnit>,
    scorer: Scorer,
}

/// Memory to be reused from value to value, of whatever highlighter.
#[derive(Default)]
pub struct Scratch {
    buffer: Buffer,
    /// Where fragments of the text at hand may end.
    ends: Vec<usize>,
    found: Found,
}

/// What the texts of one value have.
#[derive(Default)]
struct Found {
    passages: Vec<Passage>,
    /// The matches of all passages, in their texts.
    matches: Vec<Range<usize>>,
    /// Of the passage at hand.
    occurrences: Occurrences,
}

/// A fragment with a match.
struct Passage {
    /// Which text it is in.
    text: usize,
    /// The bytes it has there.
    range: Range<usize>,
    /// Which of [`Found::matches`] are its own; at least one.
    matches: Range<usize>,
    score: f64,
}

impl Passage {
    /// Best first, and in the order of the value where scores are equal.
    fn by_rank(&self, other: &Self) -> Ordering {
        other
            .score
            .total_cmp(&self.score)
            .then_with(|| self.place().cmp(&other.place()))
    }

    fn place(&self) -> (usize, usize) {
        (self.text, self.range.start)
    }
}

impl Highlighter {
    /// The best fragments of a value, best first; none when nothing matches.
    ///
    /// * `texts` — the value, or the elements of an array
    ///
    /// Costs one analysis of the texts; memory for the matches, and for the bounds of all fragments
    /// of one text.
    pub fn fragments(&self, texts: &[&str], scratch: &mut Scratch) -> Vec<Fragment> {
        scratch.found.passages.clear();
        scratch.found.matches.clear();
        for (number, text) in texts.iter().enumerate() {
            if is_abandoned() {
                break;
            }
            self.find(number, text, scratch);
        }
        let Found { passages, matches, .. } = &mut scratch.found;
        if passages.len() > self.fragment_limit {
            passages.select_nth_unstable_by(self.fragment_limit, Passage::by_rank);
            passages.truncate(self.fragment_limit);
        }
        passages.sort_unstable_by_key(Passage::place);
        let mut cut: Vec<(&Passage, Fragment)> = match self.offsets {
            None => passages.iter().map(|p| (p, fragment(texts, p, None))).collect(),
            Some(unit) => {
                let offsets = offsets::of(unit, texts, passages, matches);
                let cut = passages.iter().zip(offsets);
                cut.map(|(p, offsets)| (p, fragment(texts, p, Some(offsets)))).collect()
            }
        };
        cut.sort_unstable_by(|(a, _), (b, _)| a.by_rank(b));
        cut.into_iter().map(|(_, fragment)| fragment).collect()
    }

    fn find(&self, number: usize, text: &str, scratch: &mut Scratch) {
        let Scratch { buffer, ends, found } = scratch;
        fragments::ends(self.fragment_by, text, ends);
        let mut cutter = Cutter {
            of: self,
            number,
            text,
            ends: ends.iter(),
            fragment: 0..0,
            tokens: 0,
            first_match: found.matches.len(),
            found,
        };
        match self.fragment_by {
            FragmentBy::Word => self.analyzer.tokens(text, buffer, |token| cutter.take_word(&token)),
            FragmentBy::Nothing | FragmentBy::Sentence | FragmentBy::Paragraph => {
                self.analyzer.tokens(text, buffer, |token| cutter.take(&token));
            }
        }
        cutter.close();
    }
}

fn fragment(texts: &[&str], passage: &Passage, offsets: Option<FragmentOffsets>) -> Fragment {
    Fragment {
        text: texts[passage.text][passage.range.clone()].to_owned(),
        offsets,
    }
}

/// Deals the tokens of one text out to its fragments.
struct Cutter<'a> {
    of: &'a Highlighter,
    /// Which text of the value this is.
    number: usize,
    text: &'a str,
    /// Where the fragments after the one at hand end; the last is the end of the text.
    ends: std::slice::Iter<'a, usize>,
    /// The one at hand.
    fragment: Range<usize>,
    /// How many it has so far.
    tokens: u32,
    /// The number that its first match has, or will have.
    first_match: usize,
    found: &'a mut Found,
}

impl Cutter<'_> {
    fn take(&mut self, token: &Token<'_>) {
        if token.range.start >= self.fragment.end {
            self.close();
            while token.range.start >= self.fragment.end {
                self.fragment = self.fragment.end..self.next_end();
            }
        }
        // Rules for sentences and for words are not made for each other: they may end a sentence
        // within what they call a word. The word wins.
        while token.range.end > self.fragment.end {
            self.fragment.end = self.next_end();
        }
        self.count(token);
    }

    /// Every token is a fragment.
    fn take_word(&mut self, token: &Token<'_>) {
        self.close();
        self.fragment = token.range.clone();
        self.count(token);
    }

    fn count(&mut self, token: &Token<'_>) {
        self.tokens = self.tokens.saturating_add(1);
        if self.of.scorer.take(token.text, &mut self.found.occurrences) {
            self.found.matches.push(token.range.clone());
        }
    }

    fn next_end(&mut self) -> usize {
        self.ends.next().map_or(self.text.len(), |end| *end)
    }

    /// Keeps the fragment at hand if it has a match.
    fn close(&mut self) {
        let tokens = std::mem::take(&mut self.tokens);
        let matches = self.first_match..self.found.matches.len();
        self.first_match = matches.end;
        if matches.is_empty() || is_abandoned() {
            return;
        }
        let matched = self.found.matches[matches.start].start..self.found.matches[matches.end - 1].end;
        let range = match self.of.fragment_by {
            FragmentBy::Nothing => self.fragment.clone(),
            FragmentBy::Sentence | FragmentBy::Paragraph | FragmentBy::Word => {
                fragments::trim(self.text, &self.fragment, &matched)
            }
        };
        self.found.passages.push(Passage {
            text: self.number,
            range,
            matches,
            score: self.of.scorer.score(&mut self.found.occurrences, tokens),
        });
    }
}
