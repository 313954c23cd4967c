//! Rows that have tokens at given distances from each other, told by the places of tokens alone.

use hashbrown::HashMap;

use bytes::Bytes;

use super::directory::TextDirectory;
use super::lists::{Place, PlaceReader};
use super::pages::PagedBytes;
use super::read::{PostingsLoad, read_term};
use crate::base::coding::FormatError;
use crate::base::{Bitset, is_abandoned};
use crate::index::text::Posting;

/// The places of one term in some rows.
struct TermPlaces {
    /// Where those of each row begin, and the end of the last.
    starts: Vec<usize>,
    places: Vec<Place>,
}

impl TermPlaces {
    fn of(&self, row: usize) -> &[Place] {
        &self.places[self.starts[row]..self.starts[row + 1]]
    }
}

impl PostingsLoad {
    /// The rows in whose texts these tokens stand at the same distances from each other as here.
    ///
    /// * `tokens` — what the analyser makes of a text, at least one, with positions that ascend; all of them were looked up
    /// * `read` — the bytes of each of [`PostingsLoad::ranges`], which were planned with places
    ///
    /// No sequence spans two elements of an array, unless each element is a token.
    ///
    /// # Errors
    ///
    /// A page is damaged: read it again, then raise the alarm. Also an error where no places are
    /// [stored](TextDirectory::has_positions).
    pub fn sequence(
        &self,
        directory: &TextDirectory,
        tokens: &[(String, u32)],
        read: &[Bytes],
    ) -> Result<Bitset, FormatError> {
        assert!(!tokens.is_empty(), "every row has the sequence of no tokens");
        let mut found = Bitset::empty(directory.rows as usize);
        let ordinals: HashMap<&str, usize> = self.terms.iter().zip(0..).map(|(t, i)| (t.term.as_str(), i)).collect();
        let wanted: Option<Vec<(usize, u32)>> = tokens
            .iter()
            .map(|(token, position)| Some((*ordinals.get(token.as_str())?, position - tokens[0].1)))
            .collect();
        let Some(wanted) = wanted else { return Ok(found) };
        let mut terms: Vec<usize> = wanted.iter().map(|(term, _)| *term).collect();
        terms.sort_unstable();
        terms.dedup();
        let pages = self.open(read)?;
        let (candidates, postings) = self.rows_with_all(directory, &pages, &terms)?;
        if wanted.len() == 1 {
            return Ok(candidates);
        }
        if !directory.positions {
            return Err(FormatError::corrupt("a text index has no places of tokens"));
        }
        let mut places: Vec<Option<TermPlaces>> = Vec::new();
        places.resize_with(self.terms.len(), || None);
        for (term, postings) in terms.iter().zip(&postings) {
            places[*term] = Some(self.places(directory, &pages, *term, postings, &candidates)?);
        }
        for (i, row) in candidates.iter().enumerate() {
            if is_abandoned() {
                break;
            }
            let places_of = |term: usize| places[term].as_ref().map_or(&[][..], |p| p.of(i));
            if is_in(&wanted, &places_of) {
                found.insert(row);
            }
        }
        Ok(found)
    }

    /// The rows that have all of some terms, and the postings of each.
    fn rows_with_all(
        &self,
        directory: &TextDirectory,
        pages: &PagedBytes,
        terms: &[usize],
    ) -> Result<(Bitset, Vec<Vec<Posting>>), FormatError> {
        let mut all = Bitset::full(directory.rows as usize);
        let mut lists = Vec::with_capacity(terms.len());
        for term in terms {
            let mut postings = Vec::new();
            read_term(directory, pages, &self.terms[*term], &mut postings)?;
            let mut with = Bitset::empty(all.len());
            postings.iter().for_each(|p| with.insert(p.row as usize));
            all.and(&with);
            lists.push(postings);
        }
        Ok((all, lists))
    }

    /// The places of a term in some of its rows.
    fn places(
        &self,
        directory: &TextDirectory,
        pages: &PagedBytes,
        term: usize,
        postings: &[Posting],
        rows: &Bitset,
    ) -> Result<TermPlaces, FormatError> {
        let mut reader = PlaceReader::new(pages.get(&self.terms[term].places)?, directory.elements);
        let mut found = TermPlaces {
            starts: vec![0],
            places: Vec::new(),
        };
        let mut of_row = Vec::new();
        for posting in postings {
            reader.row(posting.frequency, &mut of_row)?;
            if rows.contains(posting.row as usize) {
                found.places.extend_from_slice(&of_row);
                found.starts.push(found.places.len());
            }
        }
        reader.end()?;
        Ok(found)
    }
}

/// Whether the terms wanted stand at their distances from a common place.
fn is_in<'a>(wanted: &[(usize, u32)], places_of: &impl Fn(usize) -> &'a [Place]) -> bool {
    // The rarest one anchors the others.
    let rarest = wanted.iter().min_by_key(|(term, _)| places_of(*term).len());
    let Some((anchor, distance)) = rarest else { return true };
    places_of(*anchor).iter().any(|place| {
        let Some(start) = place.position.checked_sub(*distance) else {
            return false;
        };
        wanted.iter().all(|(term, distance)| {
            let at = start.checked_add(*distance).map(|position| Place {
                element: place.element,
                position,
            });
            at.is_some_and(|at| places_of(*term).binary_search(&at).is_ok())
        })
    })
}
