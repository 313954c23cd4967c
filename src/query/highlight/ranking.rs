//! What matches, and what the matches of a fragment are worth.
//!
//! The score of a fragment is that of a row which has nothing but the fragment: BM25 with the
//! frequencies and the length of the fragment, and the statistics of the attribute.

use std::ops::Range;

use hashbrown::HashMap;

use crate::index::text::{Bm25, QueryTerm, TextIndex, last_token, query_terms};
use crate::model::query::{Score, TextQuery};
use crate::model::{FullTextConfig, Invalid};

/// What stands for the fragment where an expression names an attribute.
const FRAGMENT: &str = "$fragment";

/// A ranking expression over fragments, its texts analysed. Has a clause.
#[derive(Clone, Debug)]
pub(super) struct Ranking {
    clauses: Vec<Clause>,
    expression: Expression,
}

/// One BM25.
#[derive(Clone, Debug)]
struct Clause {
    terms: Vec<QueryTerm>,
    /// Longer tokens that begin like this match too.
    prefix: Option<String>,
}

/// Of the values of clauses, by their numbers.
#[derive(Clone, Debug)]
enum Expression {
    Clause(usize),
    Constant(f64),
    Sum(Vec<Expression>),
    Max(Vec<Expression>),
    Product(f64, Box<Expression>),
}

impl Ranking {
    /// The expression of `rank_fragments_by`; `None` when it has no text.
    ///
    /// # Errors
    ///
    /// Anything but BM25 of `$fragment`, `Sum`, `Max` and `Product`.
    pub fn asked(score: &Score, attribute: &str, config: &FullTextConfig) -> Result<Option<Self>, Invalid> {
        Builder::new(attribute, config).build(|b| b.asked(score).map(Some))
    }

    /// The BM25 clauses on the attribute within `rank_by`, with their sums, maxima and weights; `None`
    /// when there are none. Other clauses say nothing about fragments, and curves around a text change
    /// neither what matches nor, alone, the order.
    pub fn of_query(score: &Score, attribute: &str, config: &FullTextConfig) -> Result<Option<Self>, Invalid> {
        Builder::new(attribute, config).build(|b| b.of_query(score))
    }

    /// The terms of every text.
    pub fn texts(&self) -> impl Iterator<Item = &[QueryTerm]> {
        self.clauses.iter().map(|c| c.terms.as_slice())
    }

    /// Weighs all terms against the statistics of the snapshot.
    pub fn weigh<'a>(&self, config: &FullTextConfig, indexes: impl Iterator<Item = &'a TextIndex> + Clone) -> Scorer {
        let mut scorer = Scorer {
            terms: HashMap::new(),
            prefixes: HashMap::new(),
            prefix_bytes: Vec::new(),
            clauses: Vec::with_capacity(self.clauses.len()),
            expression: self.expression.clone(),
        };
        for clause in &self.clauses {
            let terms = clause.terms.iter().zip(0..);
            let terms = terms.map(|(term, n)| (number(&mut scorer.terms, &term.token), n));
            scorer.clauses.push(Weighed {
                terms: terms.collect(),
                prefix: clause.prefix.as_ref().map(|p| number(&mut scorer.prefixes, p)),
                bm25: Bm25::over(config, clause.terms.clone(), indexes.clone()),
            });
        }
        scorer.prefix_bytes = scorer.prefixes.keys().map(String::len).collect();
        scorer.prefix_bytes.sort_unstable();
        scorer.prefix_bytes.dedup();
        scorer
    }
}

/// The number of a text, the next one when it is new.
fn number(numbers: &mut HashMap<String, u32>, text: &str) -> u32 {
    let next = u32::try_from(numbers.len()).expect("queries have fewer bytes");
    *numbers.entry_ref(text).or_insert(next)
}

struct Builder<'a> {
    attribute: &'a str,
    config: &'a FullTextConfig,
    clauses: Vec<Clause>,
}

impl<'a> Builder<'a> {
    fn new(attribute: &'a str, config: &'a FullTextConfig) -> Self {
        Self {
            attribute,
            config,
            clauses: Vec::new(),
        }
    }

    fn build(
        mut self,
        read: impl FnOnce(&mut Self) -> Result<Option<Expression>, Invalid>,
    ) -> Result<Option<Ranking>, Invalid> {
        let expression = read(&mut self)?;
        Ok(expression
            .filter(|_| !self.clauses.is_empty())
            .map(|expression| Ranking {
                clauses: self.clauses,
                expression,
            }))
    }

    fn asked(&mut self, score: &Score) -> Result<Expression, Invalid> {
        Ok(match score {
            Score::Text {
                attribute,
                query,
                last_as_prefix,
            } if attribute == FRAGMENT => self.clause(query, *last_as_prefix)?,
            Score::Text { attribute, .. } => {
                return Err(Invalid::new(format!(
                    "rank_fragments_by ranks fragments: use {FRAGMENT:?} in place of {attribute:?}"
                )));
            }
            Score::Constant(x) => Expression::Constant(*x),
            Score::Sum(of) => Expression::Sum(of.iter().map(|s| self.asked(s)).collect::<Result<_, _>>()?),
            Score::Max(of) => Expression::Max(of.iter().map(|s| self.asked(s)).collect::<Result<_, _>>()?),
            Score::Product { weight, of } => Expression::Product(*weight, Box::new(self.asked(of)?)),
            Score::Sparse { .. }
            | Score::Filter(_)
            | Score::Attribute(_)
            | Score::Distance { .. }
            | Score::Saturate { .. }
            | Score::Decay { .. } => {
                return Err(Invalid::new(format!(
                    "rank_fragments_by can have BM25 of {FRAGMENT:?}, Sum, Max and Product, and nothing else"
                )));
            }
        })
    }

    fn of_query(&mut self, score: &Score) -> Result<Option<Expression>, Invalid> {
        Ok(match score {
            Score::Text {
                attribute,
                query,
                last_as_prefix,
            } if attribute == self.attribute => Some(self.clause(query, *last_as_prefix)?),
            Score::Sum(of) => self.all_of_query(of)?.map(Expression::Sum),
            Score::Max(of) => self.all_of_query(of)?.map(Expression::Max),
            Score::Product { weight, of } => self.of_query(of)?.map(|e| Expression::Product(*weight, Box::new(e))),
            Score::Saturate { of, .. } | Score::Decay { of, .. } => self.of_query(of)?,
            Score::Text { .. }
            | Score::Sparse { .. }
            | Score::Constant(_)
            | Score::Filter(_)
            | Score::Attribute(_)
            | Score::Distance { .. } => None,
        })
    }

    fn all_of_query(&mut self, scores: &[Score]) -> Result<Option<Vec<Expression>>, Invalid> {
        let found: Result<Vec<_>, _> = scores.iter().filter_map(|s| self.of_query(s).transpose()).collect();
        Ok(Some(found?).filter(|list| !list.is_empty()))
    }

    fn clause(&mut self, query: &TextQuery, last_as_prefix: bool) -> Result<Expression, Invalid> {
        self.clauses.push(Clause {
            terms: query_terms(self.config, self.attribute, query)?,
            prefix: match last_as_prefix {
                true => last_token(self.config, query).filter(|token| !token.is_empty()),
                false => None,
            },
        });
        Ok(Expression::Clause(self.clauses.len() - 1))
    }
}

/// A ranking expression weighed against the statistics of a snapshot.
pub(super) struct Scorer {
    /// The terms of all clauses, numbered.
    terms: HashMap<String, u32>,
    prefixes: HashMap<String, u32>,
    /// The lengths that prefixes have, ascending.
    prefix_bytes: Vec<usize>,
    clauses: Vec<Weighed>,
    expression: Expression,
}

struct Weighed {
    bm25: Bm25,
    /// The places that terms have in `bm25`, by their numbers in [`Scorer::terms`].
    terms: HashMap<u32, usize>,
    /// Its number in [`Scorer::prefixes`].
    prefix: Option<u32>,
}

/// What the fragment at hand has of the query.
#[derive(Default)]
pub(super) struct Occurrences {
    /// A number per token that is a term.
    terms: Vec<u32>,
    /// A number per token that is longer than a prefix, and the token, in `text`.
    longer: Vec<(u32, Range<usize>)>,
    text: String,
    /// Terms with their frequencies.
    frequencies: Vec<(u32, u32)>,
}

impl Scorer {
    /// Notes a token of a fragment. Returns whether it matches.
    pub fn take(&self, token: &str, found: &mut Occurrences) -> bool {
        let mut matches = false;
        if let Some(term) = self.terms.get(token) {
            found.terms.push(*term);
            matches = true;
        }
        for bytes in &self.prefix_bytes {
            if *bytes >= token.len() {
                break;
            }
            if let Some(prefix) = token.get(..*bytes).and_then(|start| self.prefixes.get(start)) {
                let start = found.text.len();
                found.text.push_str(token);
                found.longer.push((*prefix, start..found.text.len()));
                matches = true;
            }
        }
        matches
    }

    /// The score of a fragment that has `tokens` tokens, `found` among them, which is emptied.
    /// Neither negative nor infinite.
    pub fn score(&self, found: &mut Occurrences, tokens: u32) -> f64 {
        let Occurrences {
            terms,
            longer,
            text,
            frequencies,
        } = found;
        terms.sort_unstable();
        frequencies.clear();
        frequencies.extend(terms.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as u32)));
        // A prefix counts every longer token once, as it does every longer term of a row.
        let key = |(prefix, token): &(u32, Range<usize>)| (*prefix, &text[token.clone()]);
        longer.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
        longer.dedup_by(|a, b| key(a) == key(b));
        let clause = |clause: &Weighed| {
            let of_term = |(term, n): &(u32, u32)| {
                let place = clause.terms.get(term);
                place.map_or(0.0, |place| clause.bm25.term_score(*place, *n, tokens))
            };
            let of_prefix = |prefix| longer.iter().filter(|(p, _)| *p == prefix).count() as f64;
            frequencies.iter().map(of_term).sum::<f64>() + clause.prefix.map_or(0.0, of_prefix)
        };
        let score = self.expression.value(&|n| clause(&self.clauses[n]));
        terms.clear();
        longer.clear();
        text.clear();
        score
    }
}

impl Expression {
    /// Its value where `clause` gives those of clauses. Kept finite, so that nothing becomes NaN.
    fn value(&self, clause: &impl Fn(usize) -> f64) -> f64 {
        let value = match self {
            Expression::Clause(n) => clause(*n),
            Expression::Constant(x) => *x,
            Expression::Sum(of) => of.iter().map(|e| e.value(clause)).sum(),
            Expression::Max(of) => of.iter().map(|e| e.value(clause)).fold(0.0, f64::max),
            Expression::Product(weight, of) => weight * of.value(clause),
        };
        value.clamp(0.0, f64::MAX)
    }
}
