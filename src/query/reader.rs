//! Reads what queries look at of one segment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::try_join_all;

use super::budget::{Borrowed, Budget};
use super::costs;
use super::needs::Needs;
use crate::base::CpuPool;
use crate::cache::ReadKind;
use crate::error::{Error, Result};
use crate::index::attribute::{AttributeIndex, AttributeIndexError, Codes};
use crate::index::text::TextIndex;
use crate::model::{AttrId, AttrType, Attribute, Column, IdColumn, Scalar, Schema};
use crate::segment::{Segment, TermWanted};
use crate::tail::Contents;

/// What a row costs to fetch that lies alone on its page. Less in tests, whose segments are small: then rows are
/// fetched in some of them and columns read in others.
pub(super) const PAGE_BYTES: u64 = if cfg!(test) { 64 } else { 16 * 1024 };
/// What a code takes, at most.
const CODE_BYTES: usize = 4;
/// How many times as large as they are stored values of row pages are, at most about.
const UNPACKED: u64 = 4;
/// How many times as much as a column of texts it takes to make an index of it.
const ANALYSED: usize = 3;
/// What it takes to know where a value is.
const PLACE_BYTES: u64 = 8;
/// What an id takes, roughly.
const ID_BYTES: u64 = 12;

/// One segment on behalf of a query. Every method costs the requests of what is not in the cache, all at once.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub segment: &'a Segment,
    /// Of the snapshot, whole: filters name attributes that a caller may not see.
    pub schema: &'a Schema,
    pub cpu: &'a CpuPool,
    pub budget: &'a Budget,
}

/// What a value of a column takes, roughly.
fn value_bytes(ty: AttrType) -> u64 {
    let scalar = |scalar| match scalar {
        Scalar::Bool => 1,
        Scalar::Int | Scalar::UInt | Scalar::Float | Scalar::Datetime => 8,
        Scalar::Uuid => 16,
        Scalar::String | Scalar::Bytes => 24,
    };
    match ty {
        AttrType::Scalar(of) => scalar(of),
        AttrType::Array(of) => 4 + 3 * scalar(of),
        AttrType::Vector { .. } | AttrType::MultiVector { .. } | AttrType::SparseVector => 256,
    }
}

impl<'a> Reader<'a> {
    /// How many rows there are, dead ones included.
    pub fn len(&self) -> usize {
        self.segment.rows() as usize
    }

    /// The ids of all rows. Shares the cache's buffers.
    pub async fn ids(&self) -> Result<IdColumn> {
        Ok(IdColumn::clone(&*self.segment.ids().await?))
    }

    /// Whole columns.
    pub async fn columns(&self, wanted: &BTreeSet<AttrId>) -> Result<BTreeMap<AttrId, Option<Column>>> {
        let one = async |id: &AttrId| -> Result<(AttrId, Option<Column>)> {
            let column = match self.attribute(*id) {
                Some(attribute) => self.segment.column(attribute).await?,
                None => None,
            };
            Ok((*id, column.map(|c| Column::clone(&c))))
        };
        let columns: Vec<_> = wanted.iter().map(one).collect();
        Ok(try_join_all(columns).await?.into_iter().collect())
    }

    /// Text indexes that know some terms.
    pub async fn texts(
        &self,
        wanted: &BTreeMap<AttrId, BTreeSet<TermWanted>>,
    ) -> Result<BTreeMap<AttrId, Option<Arc<TextIndex>>>> {
        let one = async |(id, terms): (&AttrId, &BTreeSet<TermWanted>)| -> Result<(AttrId, Option<Arc<TextIndex>>)> {
            let terms: Vec<TermWanted> = terms.iter().cloned().collect();
            let index = match self.attribute(*id) {
                Some(attribute) => self.text(attribute, &terms).await?,
                None => None,
            };
            Ok((*id, index))
        };
        let texts: Vec<_> = wanted.iter().map(one).collect();
        Ok(try_join_all(texts).await?.into_iter().collect())
    }

    /// A text index that knows some terms; `None`: null in every row, or no full-text attribute. Where it has to be made of
    /// the texts, of one segment after the other.
    pub async fn text(&self, attribute: &Attribute, terms: &[TermWanted]) -> Result<Option<Arc<TextIndex>>> {
        let mut held = self.budget.borrow(0)?;
        let _analysis = match self.segment.has_text(attribute) {
            true => None,
            false => Some(self.budget.analysis().await),
        };
        // Another query of the request may have made it meanwhile.
        if !self.segment.has_text(attribute) {
            held.grow(ANALYSED * self.column_memory(attribute.id) as usize)?;
        }
        let mut charge = |bytes| held.grow(bytes);
        self.segment.text_charged(attribute, terms, &mut charge).await
    }

    /// The indexes of those attributes that have one. No I/O but for the hot region.
    pub async fn indexes(&self, attributes: &[AttrId]) -> Result<BTreeMap<AttrId, AttributeIndex>> {
        let one = async |id: &AttrId| -> Result<Option<(AttrId, AttributeIndex)>> {
            let index = match self.attribute(*id) {
                Some(attribute) => self.segment.attribute_index(attribute).await?,
                None => None,
            };
            Ok(index.map(|index| (*id, index)))
        };
        let indexes: Vec<_> = attributes.iter().map(one).collect();
        Ok(try_join_all(indexes).await?.into_iter().flatten().collect())
    }

    /// The codes of those attributes that are kept. No I/O.
    pub async fn codes_kept(&self, attributes: &[AttrId]) -> BTreeMap<AttrId, Arc<Codes>> {
        let mut kept = BTreeMap::new();
        for id in attributes {
            if let Some(attribute) = self.attribute(*id)
                && let Some(codes) = self.segment.codes_kept(attribute).await
            {
                kept.insert(*id, codes);
            }
        }
        kept
    }

    /// The codes of an attribute, with the memory that they take as long as somebody looks at them; `None` where there
    /// are none.
    pub async fn codes(&self, id: AttrId, index: &AttributeIndex) -> Result<Option<(Arc<Codes>, Borrowed)>> {
        let (Some(attribute), Some(bytes)) = (self.attribute(id), index.codes_bytes()) else {
            return Ok(None);
        };
        let codes = match self.segment.codes_kept(attribute).await {
            Some(kept) => Some(kept),
            None => {
                let _reserved = self.budget.borrow(bytes as usize + CODE_BYTES * self.len())?;
                self.segment.codes(attribute, index).await?
            }
        };
        let Some(codes) = codes else { return Ok(None) };
        let memory = self.budget.borrow(codes.memory_bytes())?;
        Ok(Some((codes, memory)))
    }

    /// The same, once answers of the index have cost as much together as the codes do: whatever is asked in the end, at
    /// most twice as much is spent as by somebody who knew it beforehand. `None` too where there is no memory to make
    /// them: the index answers as well.
    ///
    /// * `ns` — what the next answer costs
    pub async fn codes_due(&self, id: AttrId, index: &AttributeIndex, ns: u64) -> Result<Option<Arc<Codes>>> {
        let (Some(attribute), Some(whole)) = (self.attribute(id), costs::codes_made(index)) else {
            return Ok(None);
        };
        let spent = self.segment.index_spent(attribute).await?;
        if spent.fetch_add(ns, Ordering::Relaxed).saturating_add(ns) <= whole {
            return Ok(None);
        }
        // They pay off anew each time they are made: else those that the cache dropped would be made by every query.
        spent.store(0, Ordering::Relaxed);
        let bytes = index.codes_bytes().unwrap_or_default() as usize + CODE_BYTES * self.len();
        // Only while they are made: after that they are the cache's, and are compared and let go.
        let Ok(_reserved) = self.budget.borrow(bytes) else {
            return Ok(None);
        };
        Ok(self.segment.codes(attribute, index).await?)
    }

    /// What reading a whole column costs, roughly. Nothing where the attribute is null in every row.
    pub fn column_bytes(&self, id: AttrId) -> u64 {
        match self.attribute(id) {
            None => 0,
            Some(attribute) if self.segment.has_column(id) => self.len() as u64 * value_bytes(attribute.ty),
            // Its values are in the pages of all rows.
            Some(attribute) => self.segment.pages_len(attribute),
        }
    }

    /// What a whole column takes in memory, at least about.
    fn column_memory(&self, id: AttrId) -> u64 {
        let read = self.column_bytes(id);
        match self.segment.column_len(id) {
            Some(stored) => stored.max(read),
            None if read == 0 => 0,
            // Whatever else is in the same pages is let go, a few pages at a time.
            None => read.saturating_mul(UNPACKED).min(self.segment.values_bytes()) + self.len() as u64 * PLACE_BYTES,
        }
    }

    /// What ids and columns take in memory, at least about: asked before they are read.
    pub fn memory_bytes(&self, needs: &Needs) -> usize {
        let columns: u64 = needs.columns.iter().map(|id| self.column_memory(*id)).sum();
        (columns + if needs.ids { self.ids_bytes() } else { 0 }) as usize
    }

    /// What a vector takes, or vectors; of rows with several a guess.
    pub fn vector_bytes(&self, id: AttrId) -> usize {
        match self.attribute(id).map(|a| a.ty) {
            Some(AttrType::Vector { dims, element }) => dims as usize * element.bytes(),
            _ => self.row_bytes(),
        }
    }

    /// What a row takes on average.
    pub fn row_bytes(&self) -> usize {
        let meta = self.segment.meta();
        meta.logical_bytes.div_ceil(u64::from(meta.rows).max(1)) as usize
    }

    /// What reading all ids costs, roughly.
    pub fn ids_bytes(&self) -> u64 {
        self.len() as u64 * ID_BYTES
    }

    /// What it means that an index was not read.
    pub fn index_error(&self, error: AttributeIndexError) -> Error {
        self.segment.index_error(error).into()
    }

    /// Some rows, in the order given, with their ids and these attributes; and what they were charged with on the way,
    /// which is a bit more than they take.
    pub async fn rows(
        &self,
        rows: &[u32],
        attributes: &BTreeSet<AttrId>,
        kind: ReadKind,
    ) -> Result<(Contents, Borrowed)> {
        let known: Vec<Attribute> = attributes
            .iter()
            .filter_map(|id| self.attribute(*id))
            .cloned()
            .collect();
        let mut held = self.budget.borrow(0)?;
        let mut charge = |bytes| held.grow(bytes);
        let mut fetched = self.segment.fetch_charged(rows, &known, kind, &mut charge).await?;
        let contents = Contents {
            rows: rows.len(),
            ids: Some(fetched.ids),
            columns: attributes.iter().map(|id| (*id, fetched.columns.remove(id))).collect(),
            ..Contents::default()
        };
        Ok((contents, held))
    }

    /// `None` when it was dropped since the query was planned: null in every row.
    pub fn attribute(&self, id: AttrId) -> Option<&Attribute> {
        self.schema.attributes().find(|a| a.id == id)
    }
}
