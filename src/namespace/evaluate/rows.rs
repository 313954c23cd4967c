//! The rows of a namespace while the requests of a batch are evaluated one after the other.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::schema::SchemaChange;
use crate::model::{Id, IdColumn, Schema};
use crate::snapshot::Snapshot;
use crate::tail::{self, Part};
use crate::wal::{Operation, RequestEffects};

/// The rows that the requests so far leave behind. Most requests need to know of other rows at most
/// whether they exist, so effects are applied only when somebody looks at values. Cheap to clone
/// after that.
#[derive(Clone)]
pub(super) struct Rows {
    parts: Arc<Vec<Part>>,
    /// The schema that `parts` are built for.
    schema: Arc<Schema>,
    /// Effects that are not in `parts`.
    pending: Vec<RequestEffects>,
    /// Whether a row exists, where `pending` decides it.
    // Only looked up, never iterated: its order matters to nobody.
    decided: HashMap<Id, bool>,
}

impl Rows {
    pub fn of(base: &Snapshot) -> Self {
        Self {
            parts: base.parts.clone(),
            schema: base.schema.clone(),
            pending: Vec::new(),
            decided: HashMap::new(),
        }
    }

    /// Notes what a request does.
    pub fn push(&mut self, schema: SchemaChange, operations: Vec<Operation>) {
        for operation in &operations {
            match operation {
                Operation::Upsert(batch) => self.decide(&batch.ids, true),
                Operation::Delete(ids) => self.decide(ids, false),
                Operation::Patch(_) => {}
            }
        }
        self.pending.push(RequestEffects {
            schema,
            operations,
            ..RequestEffects::default()
        });
    }

    fn decide(&mut self, ids: &IdColumn, exists: bool) {
        self.decided.extend((0..ids.len()).map(|row| (ids.get(row), exists)));
    }

    /// Whether a row with that id exists.
    pub fn contains(&self, id: &Id) -> bool {
        let decided = self.decided.get(id).copied();
        decided.unwrap_or_else(|| tail::find(&self.parts, id).is_some())
    }

    /// The rows with their values.
    pub fn parts(&mut self) -> &Arc<Vec<Part>> {
        if !self.pending.is_empty() {
            let applied = tail::apply(&self.parts, &self.schema, &std::mem::take(&mut self.pending));
            self.parts = Arc::new(applied.parts);
            self.schema = Arc::new(applied.schema);
            self.decided.clear();
        }
        &self.parts
    }
}
