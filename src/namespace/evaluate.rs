//! Decides what the requests of a batch do, one after the other, on a given state. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::model::schema::SchemaChange;
use crate::model::write::{self, Write};
use crate::model::{Id, Limits, NamespaceName, RowBatch, Schema};
use crate::snapshot::Snapshot;
use crate::wal::{BlobRef, Operation};

use super::Body;
use super::state::Moment;

/// What a client asks to be committed.
pub(super) enum Change {
    Write(Box<WriteRequest>),
    /// The JSON of a schema map.
    Schema(Body),
    DeleteNamespace,
}

/// A write, parsed and typed against the schema that this node knew when it arrived.
pub(super) struct WriteRequest {
    pub body: Body,
    pub write: Write,
    /// Where the operations of `write` are uploaded already, because they are large.
    pub staged: Option<Staged>,
}

/// Uploaded blobs that no entry names yet.
#[derive(Clone)]
pub(super) struct Staged {
    pub blobs: Vec<BlobRef>,
    /// A moment before the upload. After half the grace they may be collected.
    pub since: Moment,
}

/// What one request of a batch does.
pub(super) enum Verdict {
    Commit(Effects),
    /// Right, and nothing to write.
    Nothing(Counts, Arc<Schema>),
    Reject(Error),
}

impl Verdict {
    /// What is to be logged, if anything.
    pub fn effects(&self) -> Option<&Effects> {
        match self {
            Verdict::Commit(effects) => Some(effects),
            Verdict::Nothing(..) | Verdict::Reject(_) => None,
        }
    }
}

/// What is logged of one request, and what its client is told.
pub(super) struct Effects {
    pub schema: SchemaChange,
    pub operations: Vec<Operation>,
    /// Blobs that hold `operations`.
    pub staged: Option<Staged>,
    pub counts: Counts,
    /// The schema after the request.
    pub schema_after: Arc<Schema>,
}

/// How many rows a request touched; `None` where it has no operation of that kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub upserted: Option<u64>,
    pub patched: Option<u64>,
    pub deleted: Option<u64>,
    pub logical_bytes: u64,
}

/// Evaluates requests in order on `base`, each on what the ones before it leave behind. One that
/// fails changes nothing and does not touch the others.
pub(super) fn evaluate(
    requests: &[Arc<Change>],
    base: &Snapshot,
    name: &NamespaceName,
    limits: &Limits,
) -> Vec<Verdict> {
    let mut state = Evaluation {
        base,
        name,
        limits,
        exists: base.exists(),
        schema: base.schema.clone(),
        touched: HashMap::new(),
    };
    requests
        .iter()
        .map(|r| state.one(r).unwrap_or_else(Verdict::Reject))
        .collect()
}

struct Evaluation<'a> {
    base: &'a Snapshot,
    name: &'a NamespaceName,
    limits: &'a Limits,
    exists: bool,
    schema: Arc<Schema>,
    /// Whether a row exists after the requests so far, where they decide it.
    touched: HashMap<Id, bool>,
}

impl Evaluation<'_> {
    fn one(&mut self, change: &Change) -> Result<Verdict, Error> {
        match change {
            Change::Write(request) => self.write(request),
            Change::Schema(body) => self.update_schema(body),
            // Always alone in its batch.
            Change::DeleteNamespace if self.exists => Ok(Verdict::Commit(self.effects(
                SchemaChange::default(),
                Vec::new(),
                Counts::default(),
            ))),
            Change::DeleteNamespace => Err(not_found(self.name)),
        }
    }

    fn write(&mut self, request: &WriteRequest) -> Result<Verdict, Error> {
        let fresh;
        let (write, staged) = match request.write.fits(&self.schema) {
            true => (&request.write, request.staged.clone()),
            // A rival changed the schema since: the same bytes may mean something else now.
            false => {
                fresh = write::prepare(&request.body.bytes, &self.schema, self.limits)?;
                (&fresh, None)
            }
        };
        let has_rows = write.upserts.as_ref().is_some_and(|u| !u.is_empty());
        let may_create = match write.create_namespace {
            None => has_rows,
            Some(create) => create,
        };
        if !self.exists && !may_create {
            return Err(not_found(self.name));
        }
        let counts = self.count(write);
        let operations = operations(write);
        if operations.is_empty() && write.schema.is_empty() && self.exists {
            return Ok(Verdict::Nothing(counts, self.schema.clone()));
        }
        let mut effects = self.effects(write.schema.clone(), operations, counts);
        effects.staged = staged;
        Ok(Verdict::Commit(effects))
    }

    fn update_schema(&mut self, body: &Body) -> Result<Verdict, Error> {
        if !self.exists {
            return Err(not_found(self.name));
        }
        let change = write::prepare_schema(&body.bytes, &self.schema, self.limits)?;
        Ok(match change.is_empty() {
            true => Verdict::Nothing(Counts::default(), self.schema.clone()),
            false => Verdict::Commit(self.effects(change, Vec::new(), Counts::default())),
        })
    }

    fn effects(&mut self, schema: SchemaChange, operations: Vec<Operation>, counts: Counts) -> Effects {
        self.exists = true;
        if !schema.is_empty() {
            Arc::make_mut(&mut self.schema).apply(&schema);
        }
        Effects {
            schema,
            operations,
            staged: None,
            counts,
            schema_after: self.schema.clone(),
        }
    }

    /// Counts as the API documents it: upserts and deletes as asked, patches where the row exists.
    fn count(&mut self, write: &Write) -> Counts {
        let patched = write
            .patches
            .as_ref()
            .map(|groups| groups.iter().map(|g| self.count_existing(g)).sum());
        if let Some(rows) = &write.upserts {
            self.touched.extend((0..rows.len()).map(|i| (rows.ids.get(i), true)));
        }
        if let Some(ids) = &write.deletes {
            self.touched.extend((0..ids.len()).map(|i| (ids.get(i), false)));
        }
        Counts {
            upserted: write.upserts.as_ref().map(|u| u.len() as u64),
            patched,
            deleted: write.deletes.as_ref().map(|d| d.len() as u64),
            logical_bytes: write.logical_bytes,
        }
    }

    fn count_existing(&self, group: &RowBatch) -> u64 {
        let exists = |id: Id| {
            let decided = self.touched.get(&id).copied();
            decided.unwrap_or_else(|| self.base.contains(&id))
        };
        (0..group.len()).filter(|row| exists(group.ids.get(*row))).count() as u64
    }
}

/// The operations of a write. Ids are distinct within a request, so their order does not matter.
pub(super) fn operations(write: &Write) -> Vec<Operation> {
    let upserts = write.upserts.iter().filter(|u| !u.is_empty()).cloned();
    let patches = write.patches.iter().flatten().filter(|p| !p.is_empty()).cloned();
    let deletes = write.deletes.iter().filter(|d| !d.is_empty()).cloned();
    upserts
        .map(Operation::Upsert)
        .chain(patches.map(Operation::Patch))
        .chain(deletes.map(Operation::Delete))
        .collect()
}

/// The answer to anything about a namespace that does not exist.
pub(super) fn not_found(name: &NamespaceName) -> Error {
    Error::new(ErrorKind::NotFound, format!("namespace '{name}' was not found"))
}

/// Splits what waits into what can be committed together: a deletion goes alone.
pub(super) fn group_len(
    changes: impl Iterator<Item = impl AsRef<Change>>,
    bytes_max: u64,
    requests_max: usize,
) -> usize {
    let mut bytes = 0;
    let mut len = 0;
    for change in changes {
        let size = match change.as_ref() {
            Change::DeleteNamespace if len == 0 => return 1,
            Change::DeleteNamespace => break,
            Change::Write(w) if w.staged.is_none() => w.write.logical_bytes,
            Change::Write(_) | Change::Schema(_) => 0,
        };
        if len > 0 && (bytes + size > bytes_max || len == requests_max) {
            break;
        }
        bytes += size;
        len += 1;
    }
    len
}
