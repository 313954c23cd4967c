//! Chunks that have a part of what rows have: that which a query needs of a segment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Chunk;
use crate::index::text::TextIndex;
use crate::model::{AttrId, Column, IdColumn, IdKind};

/// What was loaded of some rows.
#[derive(Clone, Default)]
pub struct Contents {
    /// How many rows there are.
    pub rows: usize,
    /// `None`: not loaded.
    pub ids: Option<IdColumn>,
    /// By attribute; a missing key was not loaded, `None` is null in every row.
    pub columns: BTreeMap<AttrId, Option<Column>>,
    /// The same of text indexes.
    pub text: BTreeMap<AttrId, Option<Arc<TextIndex>>>,
    /// No row counts, so that ids and columns are not looked at.
    pub idle: bool,
}

/// What a chunk has, so that what was not loaded is not taken for null.
#[derive(Debug)]
pub(super) struct Loaded {
    pub rows: usize,
    ids: bool,
    columns: BTreeSet<AttrId>,
    text: BTreeSet<AttrId>,
    idle: bool,
}

impl Chunk {
    /// A chunk of what was loaded.
    pub fn partial(contents: Contents) -> Self {
        let Contents {
            rows,
            ids,
            columns,
            text,
            idle,
        } = contents;
        assert!(
            ids.as_ref().is_none_or(|ids| ids.len() == rows) && columns.values().flatten().all(|c| c.len() == rows),
            "what was loaded has a value for every row"
        );
        let loaded = Loaded {
            rows,
            ids: ids.is_some(),
            columns: columns.keys().copied().collect(),
            text: text.keys().copied().collect(),
            idle,
        };
        let ids = ids.unwrap_or_else(|| IdColumn::from_ids(IdKind::UInt, std::iter::empty()));
        let columns = columns.into_iter().filter_map(|(id, column)| Some((id, column?)));
        let text = text.into_iter().filter_map(|(id, index)| Some((id, index?)));
        Self::of_segment(ids, columns.collect(), text.collect(), loaded)
    }

    /// The ids of the rows. Panics when they were not loaded.
    pub fn ids(&self) -> &IdColumn {
        let loaded = self.partial.as_ref().is_none_or(|l| l.ids || l.idle);
        assert!(loaded, "the ids of a segment are used without having been loaded");
        &self.ids
    }

    /// The column of an attribute; `None`: null in every row. Panics when it was not loaded.
    pub fn column(&self, attribute: AttrId) -> Option<&Column> {
        assert!(
            self.has_column(attribute),
            "the column of attribute {attribute:?} is used without having been loaded"
        );
        self.columns.get(&attribute)
    }

    /// Whether [`column`](Self::column) can be asked for an attribute.
    pub fn has_column(&self, attribute: AttrId) -> bool {
        self.partial
            .as_ref()
            .is_none_or(|l| l.idle || l.columns.contains(&attribute))
    }

    /// The text index of an attribute; `None`: null in every row. Panics when it was not loaded.
    pub fn text_index(&self, attribute: AttrId) -> Option<&Arc<TextIndex>> {
        assert!(
            self.has_text(attribute),
            "the text index of attribute {attribute:?} is used without having been loaded"
        );
        self.text.get(&attribute)
    }

    /// Whether [`text_index`](Self::text_index) can be asked for an attribute.
    pub fn has_text(&self, attribute: AttrId) -> bool {
        self.partial.as_ref().is_none_or(|l| l.text.contains(&attribute))
    }

    /// Whether ids can be asked for.
    pub fn has_ids(&self) -> bool {
        self.partial.as_ref().is_none_or(|l| l.idle || l.ids)
    }
}
