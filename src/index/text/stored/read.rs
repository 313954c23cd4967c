//! From the terms that were found to an index that knows them.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::dictionary::{FoundTerm, FoundTerms, Postings};
use super::directory::TextDirectory;
use super::lists::read_postings;
use super::pages::{PagePlan, PagedBytes};
use crate::base::coding::FormatError;
use crate::index::text::index::Terms;
use crate::index::text::{Posting, RowLengths, TextIndex};
use crate::model::FullTextConfig;

/// What is to be read of the terms that were found.
#[derive(Clone, Debug)]
pub struct PostingsLoad {
    pub(super) terms: Vec<FoundTerm>,
    plan: PagePlan,
}

impl FoundTerms {
    /// Prepares the reading of their postings.
    ///
    /// * `places` — whether [`PostingsLoad::sequence`] will be asked
    pub fn load(self, directory: &TextDirectory, places: bool) -> PostingsLoad {
        let postings = self.terms.iter().filter_map(|t| match &t.postings {
            Postings::Row(_) => None,
            Postings::At(range) => Some(range.clone()),
        });
        let places = self.terms.iter().filter(|_| places).map(|t| t.places.clone());
        PostingsLoad {
            plan: PagePlan::new(directory.stream_len, postings.chain(places)),
            terms: self.terms,
        }
    }

    /// How many postings they have together.
    pub fn postings(&self) -> usize {
        self.terms.iter().map(|term| term.rows as usize).sum()
    }

    /// How many terms.
    pub fn len(&self) -> usize {
        self.terms.len()
    }

    /// Whether none was found.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// In how many rows a term is; 0 when it was not found.
    pub fn document_frequency(&self, term: &str) -> u64 {
        match self.terms.binary_search_by(|t| t.term.as_str().cmp(term)) {
            Ok(at) => self.terms[at].rows.into(),
            Err(_) => 0,
        }
    }
}

impl PostingsLoad {
    /// The byte ranges to be read, ascending and disjoint; often none, as a term in one row has its posting beside it.
    pub fn ranges(&self) -> Vec<Range<u64>> {
        self.plan.ranges()
    }

    /// An index of all rows that knows the terms that were found.
    ///
    /// * `config` — what the attribute has now, which the directory [serves](TextDirectory::serves)
    /// * `lengths` — those of the same directory
    /// * `read` — the bytes of each of [`PostingsLoad::ranges`]
    ///
    /// Takes about 1 ms for 300,000 postings. Errors when a page is damaged: read it again, then raise the alarm.
    pub fn index(
        &self,
        directory: &TextDirectory,
        config: &FullTextConfig,
        lengths: Arc<RowLengths>,
        read: &[Bytes],
    ) -> Result<TextIndex, FormatError> {
        assert_eq!(lengths.rows(), directory.rows as usize, "lengths of the same segment");
        let pages = self.open(read)?;
        let mut terms = Terms::default();
        let mut postings = Vec::new();
        let mut starts = vec![0];
        for found in &self.terms {
            terms.intern(&found.term);
            read_term(directory, &pages, found, &mut postings)?;
            starts.push(postings.len());
        }
        match terms.len() == self.terms.len() {
            true => Ok(TextIndex::new(*config, terms, starts, postings, lengths)),
            false => Err(FormatError::corrupt("a term is there twice")),
        }
    }

    pub(super) fn open(&self, read: &[Bytes]) -> Result<PagedBytes, FormatError> {
        self.plan.open(read)
    }
}

/// Appends the postings of a term.
pub(super) fn read_term(
    directory: &TextDirectory,
    pages: &PagedBytes,
    found: &FoundTerm,
    out: &mut Vec<Posting>,
) -> Result<(), FormatError> {
    match &found.postings {
        Postings::At(range) => read_postings(pages.get(range)?, found.rows, found.tokens, directory.rows, out),
        Postings::Row(row) => match u32::try_from(found.tokens) {
            Ok(frequency) if *row < directory.rows => {
                out.push(Posting { row: *row, frequency });
                Ok(())
            }
            _ => Err(FormatError::corrupt("a posting's row is not in the segment")),
        },
    }
}
