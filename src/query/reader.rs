//! Reads what queries look at of one segment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::try_join_all;

use super::budget::Budget;
use crate::base::CpuPool;
use crate::cache::ReadKind;
use crate::error::{Error, Result};
use crate::index::attribute::{AttributeIndex, AttributeIndexError};
use crate::index::text::TextIndex;
use crate::model::{AttrId, AttrType, Attribute, Column, IdColumn, Scalar, Schema};
use crate::segment::{Segment, SegmentError, TermWanted};
use crate::tail::Contents;

/// What a row costs to fetch that lies alone on its page. Less in tests, whose segments are small: then rows are
/// fetched in some of them and columns read in others.
pub(super) const PAGE_BYTES: u64 = if cfg!(test) { 64 } else { 16 * 1024 };
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

    /// What reading a whole column costs, roughly.
    pub fn column_bytes(&self, id: AttrId) -> u64 {
        match self.segment.has_column(id) {
            true => self.len() as u64 * self.attribute(id).map_or(0, |a| value_bytes(a.ty)),
            // Its values are in the pages of all rows.
            false => self.segment.meta().logical_bytes,
        }
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
        match error {
            AttributeIndexError::Store(error) => SegmentError::Store(error),
            damaged => SegmentError::Damaged {
                key: self.segment.object().key.to_string(),
                why: damaged.to_string(),
            },
        }
        .into()
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
