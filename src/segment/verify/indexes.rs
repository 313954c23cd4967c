//! Attribute and text indexes against the same made anew of the rows.

use std::ops::{Bound, Range};
use std::sync::Arc;

use arrow::array::ArrayRef;
use async_trait::async_trait;
use bytes::Bytes;

use super::super::container::SectionKind;
use super::super::{SegmentError, TermWanted};
use super::{FlawIn, Verifier};
use crate::cache::ReadKind;
use crate::index::attribute::{AttributeIndex, AttributeIndexError, Blocks, Built, NullsAt, build};
use crate::index::text::TextIndex;
use crate::model::{Attribute, Column, Direction};
use crate::store::StoreError;

/// The blocks of an index in memory.
struct Made(Bytes);

#[async_trait]
impl Blocks for Made {
    async fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, StoreError> {
        let slice = |r: &Range<u64>| self.0.slice(r.start as usize..r.end as usize);
        Ok(ranges.iter().map(slice).collect())
    }
}

impl Verifier<'_> {
    /// * `values` — of all rows; `None`: null in every row
    pub(super) async fn attribute_index(
        &mut self,
        attribute: &Attribute,
        values: Option<&ArrayRef>,
    ) -> Result<(), SegmentError> {
        let kinds = [SectionKind::Attribute, SectionKind::AttributeDirectory];
        if kinds.iter().any(|kind| self.is_damaged(*kind, attribute.id)) {
            return Ok(());
        }
        let read = self.segment.attribute_index(attribute).await;
        let Some(Some(stored)) = self.noted(FlawIn::Derived, read)? else {
            return Ok(());
        };
        let name = &attribute.name;
        let Some(values) = values.cloned() else {
            self.flaw(
                FlawIn::Derived,
                format!("it has an index of {name:?}, which no row has"),
            );
            return Ok(());
        };
        // Options may have changed since.
        let built = self.segment.attribute_section(attribute);
        let attribute = &built.map_or_else(|| attribute.clone(), |(_, built)| built);
        let (source, rows, of) = (&self.segment.source, self.segment.rows(), attribute.clone());
        let make = move || build(&Column::Values(values), &of);
        let Some(Built { directory, blocks }) = source.compute(ReadKind::Scan, make).await else {
            return Ok(());
        };
        let area = blocks.len() as u64;
        let made = AttributeIndex::open(&directory, rows, area, attribute, Arc::new(Made(blocks)), source.cpu());
        let same = match made {
            Ok(made) => is_same_index(&stored, &made).await,
            Err(error) => Err(error),
        };
        let same = same.map_err(|error| match error {
            AttributeIndexError::Store(error) => SegmentError::Store(error),
            error => SegmentError::Damaged {
                key: source.object.key.to_string(),
                why: error.to_string(),
            },
        });
        if self.noted(FlawIn::Derived, same)? == Some(false) {
            let what = format!("its rows say something else than its index of {name:?}");
            self.flaw(FlawIn::Derived, what);
        }
        Ok(())
    }

    /// * `values` — of all rows; `None`: null in every row
    pub(super) async fn text_index(
        &mut self,
        attribute: &Attribute,
        values: Option<&ArrayRef>,
    ) -> Result<(), SegmentError> {
        let Some(config) = attribute.full_text else {
            return Ok(());
        };
        // What has other tokens is used by nobody.
        let is_used = self.segment.stored_text(attribute.id, &config).is_some();
        if !is_used || self.is_damaged(SectionKind::Postings, attribute.id) {
            return Ok(());
        }
        let name = &attribute.name;
        let Some(values) = values.cloned() else {
            let what = format!("it has a text index of {name:?}, which no row has");
            self.flaw(FlawIn::Derived, what);
            return Ok(());
        };
        let all = [TermWanted::Prefix(String::new())];
        let read = self.segment.text(attribute, &all).await;
        let Some(Some(stored)) = self.noted(FlawIn::Derived, read)? else {
            return Ok(());
        };
        let compare = move || is_same_text(&stored, &TextIndex::build(&config, &values));
        if !self.segment.source.compute(ReadKind::Scan, compare).await {
            let what = format!("its rows say something else than its text index of {name:?}");
            self.flaw(FlawIn::Derived, what);
        }
        Ok(())
    }
}

/// Whether two indexes over the same rows have the same values, in the same rows.
async fn is_same_index(a: &AttributeIndex, b: &AttributeIndex) -> Result<bool, AttributeIndexError> {
    let counts = |index: &AttributeIndex| (index.null_count(), index.elements(), index.distinct());
    if counts(a) != counts(b) || a.nulls().await? != b.nulls().await? {
        return Ok(false);
    }
    let order = |index: &AttributeIndex| index.order(Direction::Asc, Bound::Unbounded, NullsAt::Omitted);
    let (Some(mut a), Some(mut b)) = (order(a), order(b)) else {
        return Ok(true);
    };
    loop {
        match (a.next().await?, b.next().await?) {
            (None, None) => return Ok(true),
            (Some((key_a, rows_a)), Some((key_b, rows_b)))
                if key_a == key_b && rows_a.len() == rows_b.len() && rows_a.to_vec() == rows_b.to_vec() => {}
            _ => return Ok(false),
        }
    }
}

/// Whether two indexes over the same rows have the same terms in the same rows as often, and the same lengths.
fn is_same_text(a: &TextIndex, b: &TextIndex) -> bool {
    let rows = 0..u32::try_from(a.rows()).unwrap_or(u32::MAX);
    a.rows() == b.rows()
        && a.stats() == b.stats()
        && a.present() == b.present()
        && rows.clone().all(|row| a.length(row) == b.length(row))
        && a.terms().count() == b.terms().count()
        && a.terms().all(|(term, postings)| b.postings(term) == postings)
}
