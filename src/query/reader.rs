//! Reads what queries look at of one segment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::try_join_all;

use super::budget::Budget;
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

impl Reader<'_> {
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
                Some(attribute) => self.segment.text(attribute, &terms).await?,
                None => None,
            };
            Ok((*id, index))
        };
        let texts: Vec<_> = wanted.iter().map(one).collect();
        Ok(try_join_all(texts).await?.into_iter().collect())
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

    /// The codes of an attribute; `None` where there are none.
    pub async fn codes(&self, id: AttrId, index: &AttributeIndex) -> Result<Option<Arc<Codes>>> {
        let (Some(attribute), Some(bytes)) = (self.attribute(id), index.codes_bytes()) else {
            return Ok(None);
        };
        let reserved = self.budget.borrow(bytes as usize + CODE_BYTES * self.len())?;
        let codes = self.segment.codes(attribute, index).await?;
        drop(reserved);
        self.budget
            .take(codes.as_ref().map_or(0, |codes| codes.memory_bytes()))?;
        Ok(codes)
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

    /// What reading a whole column costs, roughly.
    pub fn column_bytes(&self, id: AttrId) -> u64 {
        match self.segment.has_column(id) {
            true => self.len() as u64 * self.attribute(id).map_or(0, |a| value_bytes(a.ty)),
            // Its values are in the pages of all rows.
            false => self.segment.meta().logical_bytes,
        }
    }

    /// What ids and columns take in memory, at least about: asked before they are read.
    pub fn memory_bytes(&self, needs: &Needs) -> usize {
        let column = |id: &AttrId| match self.segment.column_len(*id) {
            Some(stored) => stored.max(self.column_bytes(*id)),
            // From the pages of all rows.
            None => self.column_bytes(*id),
        };
        let columns: u64 = needs.columns.iter().map(column).sum();
        (columns + if needs.ids { self.ids_bytes() } else { 0 }) as usize
    }

    /// What a vector takes, or vectors; of rows with several a guess.
    pub fn vector_bytes(&self, id: AttrId) -> usize {
        match self.attribute(id).map(|a| a.ty) {
            Some(AttrType::Vector { dims, element }) => dims as usize * element.bytes(),
            _ => {
                let meta = self.segment.meta();
                meta.logical_bytes.div_ceil(u64::from(meta.rows).max(1)) as usize
            }
        }
    }

    /// What reading all ids costs, roughly.
    pub fn ids_bytes(&self) -> u64 {
        self.len() as u64 * ID_BYTES
    }

    /// What it means that an index was not read.
    pub fn index_error(&self, error: AttributeIndexError) -> Error {
        self.segment.index_error(error).into()
    }

    /// Some rows, in the order given, with their ids and these attributes.
    pub async fn rows(&self, rows: &[u32], attributes: &BTreeSet<AttrId>, kind: ReadKind) -> Result<Contents> {
        let known: Vec<Attribute> = attributes
            .iter()
            .filter_map(|id| self.attribute(*id))
            .cloned()
            .collect();
        let mut fetched = self.segment.fetch(rows, &known, kind).await?;
        Ok(Contents {
            rows: rows.len(),
            ids: Some(fetched.ids),
            columns: attributes.iter().map(|id| (*id, fetched.columns.remove(id))).collect(),
            ..Contents::default()
        })
    }

    /// `None` when it was dropped since the query was planned: null in every row.
    pub fn attribute(&self, id: AttrId) -> Option<&Attribute> {
        self.schema.attributes().find(|a| a.id == id)
    }
}
