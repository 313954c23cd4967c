//! A chunk: some rows with everything that is needed to search them.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashTable;

use super::partial::Loaded;
use crate::index::text::TextIndex;
use crate::model::batch::hash_id;
use crate::model::{AttrId, Column, Id, IdColumn, Schema};

/// Some rows with everything that is needed to search them. Rows are numbered from 0; no id occurs
/// twice. Immutable.
#[derive(Clone)]
pub struct Chunk {
    pub ids: IdColumn,
    /// An attribute without a column is null in every row.
    pub columns: BTreeMap<AttrId, Column>,
    /// One for each attribute with full-text search that has a column.
    pub text: BTreeMap<AttrId, Arc<TextIndex>>,
    by_id: Arc<HashTable<u32>>,
    memory_bytes: usize,
    /// What a chunk of a segment's rows has; `None` for one that has everything.
    pub(super) partial: Option<Arc<Loaded>>,
}

impl Chunk {
    /// Indexes rows that are already columns.
    ///
    /// * `ids` — no id twice
    /// * `columns` — each as long as `ids`
    pub fn build(ids: IdColumn, columns: BTreeMap<AttrId, Column>, schema: &Schema) -> Self {
        let chunk = Self::without_text(ids, columns);
        chunk.with_text_of(schema)
    }

    /// The same with text indexes that exist already, as a merge has them.
    pub(super) fn with_indexes(
        ids: IdColumn,
        columns: BTreeMap<AttrId, Column>,
        text: BTreeMap<AttrId, Arc<TextIndex>>,
    ) -> Self {
        Self {
            text,
            ..Self::without_text(ids, columns)
        }
        .measured()
    }

    fn without_text(ids: IdColumn, columns: BTreeMap<AttrId, Column>) -> Self {
        let rows = ids.len();
        assert!(
            u32::try_from(rows).is_ok(),
            "a request body holds far fewer than 2^32 rows"
        );
        assert!(
            columns.values().all(|c| c.len() == rows),
            "every column has a value for every row"
        );
        let mut by_id = HashTable::with_capacity(rows);
        for row in 0..rows {
            by_id.insert_unique(ids.hash(row), row as u32, |r| ids.hash(*r as usize));
        }
        Self {
            ids,
            columns,
            text: BTreeMap::new(),
            by_id: Arc::new(by_id),
            memory_bytes: 0,
            partial: None,
        }
    }

    /// How many rows, dead ones included.
    pub fn len(&self) -> usize {
        self.partial.as_ref().map_or(self.ids.len(), |loaded| loaded.rows)
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The row with that id, dead or alive. Panics on a chunk of a segment's rows, which has no index by id.
    pub fn find(&self, id: &Id) -> Option<u32> {
        assert!(self.partial.is_none(), "rows of segments are found by their segment");
        self.by_id
            .find(hash_id(id), |row| self.ids.is(*row as usize, id))
            .copied()
    }

    /// Whether columns and text indexes are those that `schema` asks for.
    pub(super) fn matches(&self, schema: &Schema) -> bool {
        let wanted = |id: &AttrId| schema.attributes().find(|a| a.id == *id);
        self.columns.keys().all(|id| wanted(id).is_some())
            && self.text.iter().all(|(id, index)| {
                wanted(id).is_some_and(|a| a.full_text.is_some_and(|c| c.same_tokens(index.config())))
            })
            && schema
                .attributes()
                .filter(|a| a.full_text.is_some() && self.columns.contains_key(&a.id))
                .all(|a| self.text.contains_key(&a.id))
    }

    /// The chunk under a changed schema: columns of dropped attributes are gone, text is indexed
    /// as it is configured now. What did not change is shared.
    pub(super) fn with_text_of(mut self, schema: &Schema) -> Self {
        let mut columns = BTreeMap::new();
        let mut text = BTreeMap::new();
        for attribute in schema.attributes() {
            let Some(column) = self.columns.remove(&attribute.id) else {
                continue;
            };
            if let (Some(config), Column::Values(values)) = (&attribute.full_text, &column) {
                let index = match self.text.remove(&attribute.id) {
                    Some(index) if index.config().same_tokens(config) => index,
                    _ => Arc::new(TextIndex::build(config, values)),
                };
                text.insert(attribute.id, index);
            }
            columns.insert(attribute.id, column);
        }
        Self { columns, text, ..self }.measured()
    }

    /// Some of what rows of a segment have. Costs nothing: there is no index by id.
    pub(super) fn of_segment(
        ids: IdColumn,
        columns: BTreeMap<AttrId, Column>,
        text: BTreeMap<AttrId, Arc<TextIndex>>,
        loaded: Loaded,
    ) -> Self {
        Self {
            ids,
            columns,
            text,
            by_id: Arc::default(),
            memory_bytes: 0,
            partial: Some(Arc::new(loaded)),
        }
        .measured()
    }

    /// With `memory_bytes` set, once, because it is asked for with every entry.
    fn measured(mut self) -> Self {
        let columns: usize = self.columns.values().map(Column::memory_bytes).sum();
        let text: usize = self.text.values().map(|t| t.memory_bytes()).sum();
        let ids = self.ids.memory_bytes() + self.by_id.capacity() * 5;
        self.memory_bytes = ids + columns + text;
        self
    }

    /// About how much memory it holds, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }
}
