//! BM25 over the text indexes of a snapshot.
//!
//! score = Σ over the query's terms of idf · tf·(k1+1)/(tf + k1·(1−b+b·len/avglen)) ·
//! qf·(k3+1)/(qf+k3), with idf = ln(1 + (N−n+0.5)/(n+0.5)), in f64, added up in the order in which
//! terms first occur in the query. The same rows give the same bits however they are spread.
//!
//! With `last_as_prefix` each distinct longer token of a row that begins with the query's last
//! token adds 1 more, after all terms; the last token itself scores like any other.
//!
//! Source: Robertson and Zaragoza, The Probabilistic Relevance Framework (2009), with the idf of
//! Lucene, which is never negative, and the query-term saturation k3 of Okapi at TREC-3.

use std::cmp::Ordering;
use std::ops::Range;

use super::analysis::{Analyzer, Buffer};
use super::index::{FieldStats, Posting, TextIndex};
use crate::base::Bitset;
use crate::model::query::TextQuery;
use crate::model::schema::Tokenizer;
use crate::model::{FullTextConfig, IdColumn, Invalid};

/// A distinct token of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryTerm {
    pub token: String,
    /// How often it occurs in the query, at least once.
    pub frequency: u32,
}

/// The distinct terms of a query, in the order of their first occurrence.
///
/// # Errors
///
/// A text for an attribute that is `pre_tokenized_array`, which takes an array of tokens.
pub fn query_terms(config: &FullTextConfig, attribute: &str, query: &TextQuery) -> Result<Vec<QueryTerm>, Invalid> {
    let texts = match query {
        TextQuery::Text(text) if config.tokenizer == Tokenizer::PreTokenizedArray => {
            return Err(expects_tokens(attribute, text));
        }
        TextQuery::Text(text) => std::slice::from_ref(text),
        TextQuery::Tokens(tokens) => tokens.as_slice(),
    };
    let mut terms: Vec<QueryTerm> = Vec::new();
    let mut places: hashbrown::HashMap<String, usize> = hashbrown::HashMap::new();
    let texts = texts.iter().map(String::as_str);
    Analyzer::new(config).analyze_all(texts, &mut Buffer::new(), |token, _| match places.get(token) {
        Some(place) => terms[*place].frequency += 1,
        None => {
            places.insert(token.to_owned(), terms.len());
            terms.push(QueryTerm {
                token: token.to_owned(),
                frequency: 1,
            });
        }
    });
    Ok(terms)
}

/// The last token of a query, which `last_as_prefix` extends; `None` when there is no token.
pub fn last_token(config: &FullTextConfig, query: &TextQuery) -> Option<String> {
    let texts = match query {
        TextQuery::Text(text) => std::slice::from_ref(text),
        TextQuery::Tokens(tokens) => tokens.as_slice(),
    };
    let mut last: Option<String> = None;
    let texts = texts.iter().map(String::as_str);
    Analyzer::new(config).analyze_all(texts, &mut Buffer::new(), |token, _| {
        let last = last.get_or_insert_default();
        last.clear();
        last.push_str(token);
    });
    last
}

fn expects_tokens(attribute: &str, text: &str) -> Invalid {
    /// As much of the operand as helps to recognise it.
    const QUOTED_CHARS_MAX: usize = 64;
    let quoted: String = text.chars().take(QUOTED_CHARS_MAX).collect();
    Invalid::new(format!(
        "invalid input {quoted:?} for rank_by field {attribute:?}, expecting []string"
    ))
}

/// A query weighed against the statistics of a snapshot.
#[derive(Clone, Debug)]
pub struct Bm25 {
    k1: f64,
    b: f64,
    average_length: f64,
    terms: Vec<Weighted>,
    /// Longer tokens that begin with this match too.
    prefix: Option<String>,
}

#[derive(Clone, Debug)]
struct Weighted {
    token: String,
    idf: f64,
    /// What repetition in the query is worth: 1 for a term that occurs once.
    repetition: f64,
}

impl Bm25 {
    /// Weighs the terms of a query.
    ///
    /// * `config` — the scoring parameters as they are now, which may differ from those that the
    ///   indexes were built with
    /// * `stats` — summed over all indexes of the snapshot
    /// * `terms` — distinct, each with its document frequency, summed likewise
    pub fn new(config: &FullTextConfig, stats: FieldStats, terms: impl IntoIterator<Item = (QueryTerm, u64)>) -> Self {
        let weigh = |(term, df): (QueryTerm, u64)| {
            let (docs, df) = (stats.docs.max(df) as f64, df as f64);
            let qf = f64::from(term.frequency);
            Weighted {
                token: term.token,
                idf: (1.0 + (docs - df + 0.5) / (df + 0.5)).ln(),
                repetition: qf * (config.k3 + 1.0) / (qf + config.k3),
            }
        };
        Self {
            k1: config.k1,
            b: config.b,
            // Without tokens no row matches; 1 keeps the arithmetic finite all the same.
            average_length: match stats.tokens {
                0 => 1.0,
                tokens => tokens as f64 / stats.docs.max(1) as f64,
            },
            terms: terms.into_iter().map(weigh).collect(),
            prefix: None,
        }
    }

    /// The same with the last token of the query as a prefix, `None` for none.
    pub fn with_prefix(self, prefix: Option<String>) -> Self {
        Self { prefix, ..self }
    }

    /// Weighs the terms of a query against all indexes of a snapshot.
    pub fn over<'a>(
        config: &FullTextConfig,
        terms: Vec<QueryTerm>,
        indexes: impl Iterator<Item = &'a TextIndex> + Clone,
    ) -> Self {
        let mut stats = FieldStats::default();
        for index in indexes.clone() {
            stats += index.stats();
        }
        let with_df = |term: QueryTerm| {
            let df = indexes
                .clone()
                .map(|index| index.postings(&term.token).len() as u64)
                .sum();
            (term, df)
        };
        Self::new(config, stats, terms.into_iter().map(with_df))
    }

    /// What one term adds to the score of a row that has `length` tokens, `frequency` of them the
    /// term with this number in the query.
    pub fn term_score(&self, term: usize, frequency: u32, length: u32) -> f64 {
        let Weighted { idf, repetition, .. } = &self.terms[term];
        let tf = f64::from(frequency);
        let norm = self.k1 * (1.0 - self.b + self.b * f64::from(length) / self.average_length);
        idf * (tf * (self.k1 + 1.0) / (tf + norm)) * repetition
    }

    /// The rows that have longer tokens than the prefix which begin with it, ascending, each with
    /// the number of such tokens, which is what they add to its score. Looks at every term of the
    /// index, unless there is no prefix.
    pub fn prefixed(&self, index: &TextIndex) -> Vec<Posting> {
        let Some(prefix) = &self.prefix else {
            return Vec::new();
        };
        let longer = index
            .terms()
            .filter(|(term, _)| term.len() > prefix.len() && term.starts_with(prefix.as_str()));
        let mut rows: Vec<u32> = longer
            .flat_map(|(_, postings)| postings.iter().map(|p| p.row))
            .collect();
        rows.sort_unstable();
        let groups = rows.chunk_by(|a, b| a == b);
        let posting = |rows: &[u32]| Posting {
            row: rows[0],
            frequency: rows.len() as u32,
        };
        groups.map(posting).collect()
    }

    /// The score of one row, 0 when it contains no term. Costs a binary search per term, and a look
    /// at every term of the index where there is a prefix.
    pub fn score(&self, index: &TextIndex, row: u32) -> f64 {
        let mut score = [0.0];
        let rows = row as usize..row as usize + 1;
        self.score_rows(index, &self.prefixed(index), rows, &mut score);
        score[0]
    }

    /// Writes the score of each of some rows, 0 for those that contain no term.
    ///
    /// * `prefixed` — of [`Bm25::prefixed`]
    /// * `scores` — as many as `rows`
    pub fn score_rows(&self, index: &TextIndex, prefixed: &[Posting], rows: Range<usize>, scores: &mut [f64]) {
        assert_eq!(scores.len(), rows.len(), "a score per row");
        scores.fill(0.0);
        for (n, term) in self.terms.iter().enumerate() {
            for posting in inside(index.postings(&term.token), &rows) {
                scores[posting.row as usize - rows.start] +=
                    self.term_score(n, posting.frequency, index.length(posting.row));
            }
        }
        for posting in inside(prefixed, &rows) {
            scores[posting.row as usize - rows.start] += f64::from(posting.frequency);
        }
        scores.iter_mut().for_each(|score| *score = finite(*score));
    }

    /// The eligible rows of an index that contain a term, with their scores, all above 0, in no
    /// particular order.
    ///
    /// * `eligible` — a bit per row of the index
    pub fn matches(&self, index: &TextIndex, eligible: &Bitset) -> Vec<(u32, f64)> {
        assert_eq!(eligible.len(), index.rows(), "a bit per row of the index");
        let mut scores = vec![0.0; index.rows()];
        let mut matched = Vec::new();
        // Rows that do not count keep the score 0, so each is looked up once per posting.
        let mut counts = |score: &f64, row: u32| {
            if *score == 0.0 {
                if !eligible.contains(row as usize) {
                    return false;
                }
                matched.push(row);
            }
            true
        };
        for (n, term) in self.terms.iter().enumerate() {
            for posting in index.postings(&term.token) {
                let score: &mut f64 = &mut scores[posting.row as usize];
                if counts(score, posting.row) {
                    *score += self.term_score(n, posting.frequency, index.length(posting.row));
                }
            }
        }
        for posting in self.prefixed(index) {
            let score = &mut scores[posting.row as usize];
            if counts(score, posting.row) {
                *score += f64::from(posting.frequency);
            }
        }
        // A row whose first scores were 0 by underflow was noted more than once.
        let mut take = |row: u32| (row, finite(std::mem::take(&mut scores[row as usize])));
        matched
            .into_iter()
            .map(&mut take)
            .filter(|(_, score)| *score > 0.0)
            .collect()
    }
}

/// The postings of some rows.
fn inside<'a>(postings: &'a [Posting], rows: &Range<usize>) -> &'a [Posting] {
    let from = postings.partition_point(|p| (p.row as usize) < rows.start);
    let to = postings.partition_point(|p| (p.row as usize) < rows.end);
    &postings[from..to]
}

/// Extreme but allowed parameters overflow; such rows rank first, and their score stays a number
/// that JSON can carry.
fn finite(score: f64) -> f64 {
    score.min(f64::MAX)
}

/// A row found by [`search`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TextHit {
    /// Which of the searched indexes it is in.
    pub part: usize,
    pub row: u32,
    /// Larger is better; above 0.
    pub score: f64,
}

/// Finds the `k` rows with the highest scores, best first, equal scores by ascending id. Rows
/// without any term of the query are left out.
///
/// * `parts` — indexes, each with the rows that may be returned and the ids of all its rows
///
/// Costs time in proportion to the postings of the query's terms, and 8 bytes per row of the
/// largest index.
pub fn search(parts: &[(&TextIndex, &Bitset, &IdColumn)], scorer: &Bm25, k: usize) -> Vec<TextHit> {
    let order = |a: &TextHit, b: &TextHit| -> Ordering {
        let id_order = || parts[a.part].2.compare(a.row as usize, parts[b.part].2, b.row as usize);
        b.score.total_cmp(&a.score).then_with(id_order)
    };
    let mut best: Vec<TextHit> = Vec::new();
    if k == 0 {
        return best;
    }
    // Candidates gather until there are twice as many as needed; selecting the better half then
    // costs constant time per candidate, and fixes the score below which the rest are not looked at.
    let gather = k.saturating_mul(2).max(64);
    let mut floor = 0.0;
    for (part, (index, eligible, _)) in parts.iter().enumerate() {
        for (row, score) in scorer.matches(index, eligible) {
            if score < floor {
                continue;
            }
            best.push(TextHit { part, row, score });
            if best.len() >= gather {
                best.select_nth_unstable_by(k - 1, order);
                best.truncate(k);
                floor = best[k - 1].score;
            }
        }
    }
    best.sort_unstable_by(order);
    best.truncate(k);
    best
}
