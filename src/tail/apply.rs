//! Applies the effects of one entry to the tail.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::gather::{Place, gather, gather_used};
use super::merge::tidy;
use super::{Chunk, Part, find};
use crate::base::Bitset;
use crate::model::{AttrId, Attribute, Column, Id, IdColumn, RowBatch, Schema};
use crate::wal::{Operation, RequestEffects};

/// The tail after an entry.
pub struct Applied {
    pub parts: Vec<Part>,
    pub schema: Schema,
}

/// Applies the effects of an entry's requests, in order.
///
/// Every operation's columns exist in the schema of its moment; a column that does not is left
/// out, which only a broken writer could cause.
pub fn apply(parts: &[Part], schema: &Schema, requests: &[RequestEffects]) -> Applied {
    let mut pending = Pending::new(parts);
    let mut schema = schema.clone();
    let mut schema_changed = false;
    for request in requests {
        schema.apply(&request.schema);
        schema_changed |= !request.schema.is_empty();
        for operation in &request.operations {
            pending.operation(operation, &schema);
        }
    }
    let mut after = pending.hide_replaced();
    if schema_changed {
        for part in after.iter_mut().filter(|p| !p.live.none() && !p.chunk.matches(&schema)) {
            part.chunk = Arc::new(Chunk::clone(&part.chunk).with_text_of(&schema));
        }
    }
    after.extend(pending.into_part(&schema));
    Applied {
        parts: tidy(after, &schema),
        schema,
    }
}

/// Columns that rows are taken from, by attribute.
struct Source {
    ids: IdColumn,
    columns: BTreeMap<AttrId, Column>,
}

/// A row that the entry leaves behind: a whole row, and changes to it, oldest first.
struct PendingRow {
    base: Base,
    /// Source and row of each patch.
    patches: Vec<(usize, usize)>,
}

enum Base {
    /// Upserted by this entry.
    Source(usize, usize),
    /// Was in the tail before.
    Part(usize, u32),
}

struct Pending<'a> {
    parts: &'a [Part],
    sources: Vec<Source>,
    /// What the entry does to each id it names; `None` is a deletion.
    rows: Vec<Option<PendingRow>>,
    by_id: HashMap<Id, usize>,
    /// Rows of `parts` that are replaced or deleted.
    hidden: Vec<(usize, u32)>,
}

impl<'a> Pending<'a> {
    fn new(parts: &'a [Part]) -> Self {
        Self {
            parts,
            sources: Vec::new(),
            rows: Vec::new(),
            by_id: HashMap::new(),
            hidden: Vec::new(),
        }
    }

    fn operation(&mut self, operation: &Operation, schema: &Schema) {
        match operation {
            Operation::Upsert(batch) => {
                let source = self.add_source(batch, schema);
                for row in 0..batch.len() {
                    let new = PendingRow {
                        base: Base::Source(source, row),
                        patches: Vec::new(),
                    };
                    self.set(batch.ids.get(row), Some(new));
                }
            }
            Operation::Patch(batch) => {
                let source = self.add_source(batch, schema);
                for row in 0..batch.len() {
                    self.patch(batch.ids.get(row), (source, row));
                }
            }
            Operation::Delete(ids) => {
                for row in 0..ids.len() {
                    self.set(ids.get(row), None);
                }
            }
        }
    }

    fn add_source(&mut self, batch: &RowBatch, schema: &Schema) -> usize {
        let columns = batch
            .columns
            .iter()
            .filter_map(|c| {
                let attribute = schema.get(&c.name).filter(|a| a.ty == c.ty)?;
                Some((attribute.id, c.column.clone()))
            })
            .collect();
        self.sources.push(Source {
            ids: batch.ids.clone(),
            columns,
        });
        self.sources.len() - 1
    }

    fn set(&mut self, id: Id, row: Option<PendingRow>) {
        match self.by_id.get(&id) {
            Some(known) => self.rows[*known] = row,
            None => {
                self.hidden.extend(find(self.parts, &id));
                self.by_id.insert(id, self.rows.len());
                self.rows.push(row);
            }
        }
    }

    fn patch(&mut self, id: Id, patch: (usize, usize)) {
        match self.by_id.get(&id) {
            Some(known) => {
                if let Some(row) = &mut self.rows[*known] {
                    row.patches.push(patch);
                }
            }
            None => {
                if let Some((part, row)) = find(self.parts, &id) {
                    let patched = PendingRow {
                        base: Base::Part(part, row),
                        patches: vec![patch],
                    };
                    self.set(id, Some(patched));
                }
            }
        }
    }

    /// The old parts without the rows that the entry replaces or deletes.
    fn hide_replaced(&self) -> Vec<Part> {
        let mut parts = self.parts.to_vec();
        let mut by_part: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for (part, row) in &self.hidden {
            by_part.entry(*part).or_default().push(*row);
        }
        for (part, rows) in by_part {
            let mut live = Bitset::clone(&parts[part].live);
            for row in rows {
                live.remove(row as usize);
            }
            parts[part].live = Arc::new(live);
        }
        parts
    }

    /// The part with the rows that the entry leaves behind, if there are any.
    fn into_part(self, schema: &Schema) -> Option<Part> {
        if let Some(source) = self.only_source() {
            let Source { ids, columns } = source;
            let columns = columns.clone();
            return (!ids.is_empty()).then(|| Part::all_live(Chunk::build(ids.clone(), columns, schema)));
        }
        let rows: Vec<&PendingRow> = self.rows.iter().flatten().collect();
        if rows.is_empty() {
            return None;
        }
        let ids = self.gather_ids(&rows);
        let columns = schema
            .attributes()
            .filter_map(|a| Some((a.id, self.gather_column(a, &rows)?)))
            .collect();
        Some(Part::all_live(Chunk::build(ids, columns, schema)))
    }

    /// The one upsert that makes up the whole entry, as is usual: its columns are taken as they
    /// are, without a copy.
    fn only_source(&self) -> Option<&Source> {
        let [source] = self.sources.as_slice() else {
            return None;
        };
        let untouched = |(i, row): (usize, &Option<PendingRow>)| match row {
            Some(PendingRow {
                base: Base::Source(0, at),
                patches,
            }) => *at == i && patches.is_empty(),
            _ => false,
        };
        let all = self.rows.len() == source.ids.len() && self.rows.iter().enumerate().all(untouched);
        all.then_some(source)
    }

    fn gather_ids(&self, rows: &[&PendingRow]) -> IdColumn {
        let columns: Vec<&IdColumn> = self
            .sources
            .iter()
            .map(|s| &s.ids)
            .chain(self.parts.iter().map(|p| &p.chunk.ids))
            .collect();
        let places: Vec<(usize, usize)> = rows
            .iter()
            .map(|r| match r.base {
                Base::Source(source, row) => (source, row),
                Base::Part(part, row) => (self.sources.len() + part, row as usize),
            })
            .collect();
        // Only columns that are used: an unused one may be of an older kind.
        gather_used(&columns, &places)
    }

    fn gather_column(&self, attribute: &Attribute, rows: &[&PendingRow]) -> Option<Column> {
        let mut columns = Vec::new();
        let mut slot_of_source = vec![None; self.sources.len()];
        for (i, source) in self.sources.iter().enumerate() {
            if let Some(column) = source.columns.get(&attribute.id) {
                slot_of_source[i] = Some(columns.len());
                columns.push(column);
            }
        }
        let mut slot_of_part = vec![None; self.parts.len()];
        for (i, part) in self.parts.iter().enumerate() {
            if let Some(column) = part.chunk.columns.get(&attribute.id) {
                slot_of_part[i] = Some(columns.len());
                columns.push(column);
            }
        }
        let place = |row: &&PendingRow| -> Place {
            // The newest patch that names the attribute decides, even when it sets null.
            let patched = row
                .patches
                .iter()
                .rev()
                .find_map(|(source, at)| slot_of_source[*source].map(|slot| (slot, *at)));
            patched.or_else(|| match row.base {
                Base::Source(source, at) => slot_of_source[source].map(|slot| (slot, at)),
                Base::Part(part, at) => slot_of_part[part].map(|slot| (slot, at as usize)),
            })
        };
        let places: Vec<Place> = rows.iter().map(place).collect();
        let used = places.iter().any(Option::is_some);
        used.then(|| gather(attribute.ty, &columns, &places))
    }
}
