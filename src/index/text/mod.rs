//! Full text: analysis, the inverted index of a set of rows, BM25.
//!
//! Text becomes tokens in [`analysis`], tokens of many rows become a [`TextIndex`] in `index`, and
//! [`bm25`] ranks the rows of several indexes by one set of statistics. [`stored`] is the form that a
//! segment keeps, of which an index is loaded that knows the terms of a query. Everything is in memory
//! and costs no object-store request.
//!
//! # What stays true
//!
//! - Rows and queries go through the same [`Analyzer`], so a token is found iff it was indexed.
//! - Scores do not depend on how rows are spread over indexes: document count, lengths and document
//!   frequencies are summed over all of them, and terms are added up in the order of the query.

pub mod analysis;
pub mod bm25;
mod index;
pub mod stored;

#[cfg(test)]
mod tests;

pub use analysis::{Analyzer, Buffer, Token};
pub use bm25::{Bm25, QueryTerm, TextHit, last_token, query_terms, search};
pub use index::{FieldStats, Posting, RowLengths, TextIndex};
pub use stored::TermWanted;
