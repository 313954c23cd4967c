//! Decides what the requests of a batch do, one after the other, on a given state. Pure.

mod by_filter;
mod condition;
mod rows;
mod search;
mod smallest;
mod stored;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use crate::base::Charge;
use crate::error::{Error, ErrorKind};
use crate::model::access::{self, Access, Guard, Target, forbidden};
use crate::model::embed::Models;
use crate::model::schema::SchemaChange;
use crate::model::write::{self, Counts, Write};
use crate::model::{IdempotencyKey, Invalid, Limits, NamespaceName, RowBatch, Schema, Settings, SettingsChange};
use crate::snapshot::{Remembered, Snapshot};
use crate::wal::{BlobRef, Operation, Reply};

pub(super) use by_filter::{Matched, Unmatched, promoted_rows, repeated_bytes};
use rows::Rows;
use search::search;
pub(super) use stored::Stored;

use super::copy::CopyRequest;
use super::create::CreateRequest;
use super::settings::{check_deletable, check_size, check_writable, effective, sharding_of_write};
use super::state::Moment;
use super::{Body, check_indexed, embed};

/// A request to be committed, and what its caller may do.
pub(super) struct Change {
    /// `None` for the deployment's own work.
    pub guard: Option<Arc<Guard>>,
    pub what: What,
}

/// What a client asks to be committed.
pub(super) enum What {
    Write(Box<WriteRequest>),
    /// The JSON of a schema map, and the models that texts may be embedded with.
    Schema(Body, Arc<Models>),
    Settings(SettingsChange),
    Create(CreateRequest),
    Copy(Box<CopyRequest>),
    DeleteNamespace,
}

impl What {
    fn access(&self) -> Access {
        match self {
            What::Write(_) | What::Schema(..) | What::Create(_) | What::Copy(_) => Access::Write,
            What::Settings(_) | What::DeleteNamespace => Access::Manage,
        }
    }
}

/// A write, parsed and typed against the schema that this node knew when it arrived.
pub(super) struct WriteRequest {
    pub body: Body,
    pub write: Write,
    /// Where the operations of `write` are uploaded already, because they are large.
    pub staged: Option<Staged>,
    /// What its filters were found to match before it queued up.
    pub matched: Option<Matched>,
    /// What its patch by filter repeats, in bytes; see [`repeated_bytes`].
    pub repeated_bytes: u64,
    /// Holds the memory for rows that it makes the tail hold, until it is answered.
    #[expect(dead_code, reason = "it is held, and given back with the request")]
    pub promoted: Option<Charge>,
    pub key: Option<IdempotencyKey>,
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
    Commit(Box<Effects>),
    /// Right, and nothing to write.
    Nothing(Counts, Arc<Schema>),
    /// It was committed before, under the same idempotency key.
    Repeated(Remembered, Arc<Schema>),
    Reject(Error),
}

impl Verdict {
    /// What is to be logged, if anything.
    pub fn effects(&self) -> Option<&Effects> {
        match self {
            Verdict::Commit(effects) => Some(effects),
            Verdict::Nothing(..) | Verdict::Repeated(..) | Verdict::Reject(_) => None,
        }
    }
}

/// What is logged of one request, and what its client is told.
pub(super) struct Effects {
    pub schema: SchemaChange,
    pub settings: SettingsChange,
    pub operations: Vec<Operation>,
    /// Blobs that hold `operations`.
    pub staged: Option<Staged>,
    /// The encoded manifest that a branch begins with.
    pub branch: Option<Bytes>,
    pub key: Option<IdempotencyKey>,
    pub counts: Counts,
    /// The schema after the request.
    pub schema_after: Arc<Schema>,
}

impl Effects {
    /// What is logged for the case that the request is sent again.
    pub fn reply(&self) -> Option<Reply> {
        self.key.map(|key| Reply {
            body: key.body,
            counts: self.counts,
        })
    }
}

/// Evaluates requests in order on `base`, each on what the ones before it leave behind. One that
/// fails changes nothing and does not touch the others.
///
/// * `base` — with all rows in its tail that the requests read
/// * `stored` — what the filters of the one request match in segments, if there are any
pub(super) fn evaluate(
    requests: &[Arc<Change>],
    base: &Snapshot,
    stored: &Stored,
    name: &NamespaceName,
    limits: &Limits,
) -> Vec<Verdict> {
    let mut state = Evaluation {
        base,
        stored,
        name,
        limits,
        exists: base.exists(),
        id: base.database_id(),
        bytes: base.stored_bytes(),
        schema: base.schema.clone(),
        rows: Rows::of(base),
        answered: HashMap::new(),
        settings: base.settings.clone(),
        is_last: false,
    };
    let one = |(n, request): (usize, &Arc<Change>)| {
        state.is_last = n + 1 == requests.len();
        state.one(request).unwrap_or_else(Verdict::Reject)
    };
    requests.iter().enumerate().map(one).collect()
}

struct Evaluation<'a> {
    base: &'a Snapshot,
    stored: &'a Stored,
    name: &'a NamespaceName,
    limits: &'a Limits,
    exists: bool,
    /// Of a namespace that exists in `base`.
    id: Option<Uuid>,
    /// Bytes as metadata count them, and logical ones of the requests so far.
    bytes: u64,
    schema: Arc<Schema>,
    rows: Rows,
    /// What requests of this batch will be answered, by the numbers of their keys.
    // Only looked up, never iterated: its order matters to nobody.
    answered: HashMap<u128, Reply>,
    settings: Arc<Settings>,
    /// Whether nothing comes after the request that is being evaluated.
    is_last: bool,
}

impl Evaluation<'_> {
    fn one(&mut self, change: &Change) -> Result<Verdict, Error> {
        let guard = change.guard.as_deref();
        let access = change.what.access();
        access::admit(guard, access, &self.target())?;
        // What was carried out already is no write any more.
        if let What::Write(request) = &change.what
            && let Some(key) = &request.key
            && let Some(before) = self.remembered(key)?
        {
            return Ok(Verdict::Repeated(before, self.schema.clone()));
        }
        access::check_blocks(guard, access, &self.target())?;
        match &change.what {
            What::Write(request) => self.write(request, guard),
            What::Schema(body, models) => self.update_schema(body, models, guard),
            What::Settings(change) => self.update_settings(change),
            What::Create(request) => self.create(request, guard),
            What::Copy(copy) => self.copy(copy, guard),
            What::DeleteNamespace => self.delete_namespace(),
        }
    }

    fn target(&self) -> Target<'_> {
        Target {
            name: self.name,
            exists: self.exists,
            id: self.id,
            settings: &self.settings,
        }
    }

    /// Always alone in its batch.
    fn delete_namespace(&mut self) -> Result<Verdict, Error> {
        if !self.exists {
            return Err(not_found(self.name));
        }
        check_deletable(&self.settings, self.name)?;
        let effects = self.effects(SchemaChange::default(), Vec::new(), Counts::default());
        Ok(Verdict::Commit(Box::new(effects)))
    }

    fn create(&mut self, request: &CreateRequest, guard: Option<&Guard>) -> Result<Verdict, Error> {
        check_may_create(guard, self.name)?;
        if self.exists {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("namespace '{}' exists already", self.name),
            ));
        }
        let schema = match &request.schema {
            Some(json) => write::prepare_schema_with(json, &self.schema, self.limits, &request.models)?,
            None => SchemaChange::default(),
        };
        let settings = effective(&request.settings, &self.settings);
        let effects = self.effects(schema, Vec::new(), Counts::default());
        Ok(self.commit_with(effects, settings))
    }

    fn write(&mut self, request: &WriteRequest, guard: Option<&Guard>) -> Result<Verdict, Error> {
        let fresh;
        let (write, staged) = match request.write.fits(&self.schema) {
            true => (&request.write, request.staged.clone()),
            // A rival changed the schema since: the same bytes may mean something else now.
            false => {
                let embeddings = &request.write.embeddings;
                fresh = write::prepare_with(&request.body.bytes, &self.schema, self.limits, embeddings)?;
                (&fresh, None)
            }
        };
        if !write.wanted.is_empty() {
            return Err(embed::outdated());
        }
        let has_rows = write.upserts.as_ref().is_some_and(|u| !u.is_empty());
        let may_create = match write.create_namespace {
            None => has_rows,
            Some(create) => create,
        };
        if !self.exists && !may_create {
            return Err(not_found(self.name));
        }
        self.check_schema_rights(guard, &write.schema)?;
        check_writable(&self.settings, self.name)?;
        let settings = sharding_of_write(write.num_shards, self.exists, &self.settings)?;
        let (operations, counts) = match write.reads_rows() {
            true => search(
                write,
                &self.schema,
                &mut self.rows,
                request.matched.as_ref(),
                self.stored,
                self.limits,
            )?,
            false => self.blind(write),
        };
        if operations.is_empty() && write.schema.is_empty() && self.exists {
            return Ok(Verdict::Nothing(counts, self.schema.clone()));
        }
        let deletes = |operation: &Operation| matches!(operation, Operation::Delete(_));
        if !write.schema.is_empty() || !operations.iter().all(deletes) {
            check_size(&self.settings, self.name, self.bytes, counts.logical_bytes)?;
        }
        // The slot that is tried is the one after `base`, so that no tail is ever longer than the limit and one entry,
        // however many nodes write.
        check_indexed(write, self.base.unindexed_bytes, self.limits)?;
        let mut effects = self.effects(write.schema.clone(), operations, counts);
        effects.staged = staged;
        effects.key = request.key;
        if let (Some(key), Some(reply)) = (request.key, effects.reply()) {
            self.answered.insert(key.number, reply);
        }
        Ok(self.commit_with(effects, settings))
    }

    fn update_settings(&mut self, change: &SettingsChange) -> Result<Verdict, Error> {
        if !self.exists {
            return Err(not_found(self.name));
        }
        let change = effective(change, &self.settings);
        if change.is_empty() {
            return Ok(Verdict::Nothing(Counts::default(), self.schema.clone()));
        }
        let effects = self.effects(SchemaChange::default(), Vec::new(), Counts::default());
        Ok(self.commit_with(effects, change))
    }

    fn copy(&mut self, copy: &CopyRequest, guard: Option<&Guard>) -> Result<Verdict, Error> {
        // Always alone in its batch, so it meets the state before it.
        let (schema, settings) = copy.onto(self.base, self.name)?;
        self.check_schema_rights(guard, &schema)?;
        check_size(&self.settings, self.name, self.bytes, copy.counts().logical_bytes)?;
        let mut effects = self.effects(schema, copy.operations.clone(), copy.counts());
        effects.staged = copy.staged.clone();
        if let Some(base) = &copy.base {
            effects.branch = Some(base.manifest.clone());
            effects.schema_after = base.schema.clone();
        }
        Ok(self.commit_with(effects, settings))
    }

    /// That the caller may create the namespace, or change its schema like this.
    fn check_schema_rights(&self, guard: Option<&Guard>, change: &SchemaChange) -> Result<(), Error> {
        if !self.exists {
            return check_may_create(guard, self.name);
        }
        // The kind of ids is settled by the first row, whoever writes it.
        let first = change.puts.first().map(|a| &a.name).or(change.drops.first());
        match first {
            Some(attribute) if guard.is_some_and(|g| !g.may_change_schema) => Err(forbidden(format!(
                "this credential may not change the schema, and attribute {attribute:?} would be added or changed"
            ))),
            _ => Ok(()),
        }
    }

    /// Commits effects with a change of settings.
    fn commit_with(&mut self, effects: Effects, settings: SettingsChange) -> Verdict {
        if !settings.is_empty() {
            Arc::make_mut(&mut self.settings).apply(&settings);
        }
        Verdict::Commit(Box::new(Effects { settings, ..effects }))
    }

    /// What was, or will be, answered to a request with the same key.
    fn remembered(&self, key: &IdempotencyKey) -> Result<Option<Remembered>, Error> {
        let in_batch = self.answered.get(&key.number).map(|reply| Remembered {
            seq: self.base.seq.next(),
            request: key.number,
            reply: *reply,
        });
        match in_batch.or_else(|| self.base.recent.get(key.number)) {
            Some(before) if before.reply.body != key.body => Err(Invalid::new(
                "this Idempotency-Key was used for another request to this namespace within the last ten minutes; \
                 use a new key for every request",
            )
            .into()),
            before => Ok(before),
        }
    }

    fn update_schema(&mut self, body: &Body, models: &Models, guard: Option<&Guard>) -> Result<Verdict, Error> {
        if !self.exists {
            return Err(not_found(self.name));
        }
        check_writable(&self.settings, self.name)?;
        let change = write::prepare_schema_with(&body.bytes, &self.schema, self.limits, models)?;
        if change.is_empty() {
            return Ok(Verdict::Nothing(Counts::default(), self.schema.clone()));
        }
        self.check_schema_rights(guard, &change)?;
        check_size(&self.settings, self.name, self.bytes, 0)?;
        let effects = self.effects(change, Vec::new(), Counts::default());
        Ok(Verdict::Commit(Box::new(effects)))
    }

    fn effects(&mut self, schema: SchemaChange, operations: Vec<Operation>, counts: Counts) -> Effects {
        self.exists = true;
        self.bytes = self.bytes.saturating_add(counts.logical_bytes);
        if !schema.is_empty() {
            Arc::make_mut(&mut self.schema).apply(&schema);
        }
        // A table of all ids of a large write or copy, for nobody, would be paid for in memory.
        if !self.is_last {
            self.rows.push(schema.clone(), operations.clone());
        }
        Effects {
            schema,
            settings: SettingsChange::default(),
            operations,
            staged: None,
            branch: None,
            key: None,
            counts,
            schema_after: self.schema.clone(),
        }
    }

    /// Operations whose effect depends on no stored value, counted as the API documents it: upserts
    /// and deletes as asked, patches where the row exists.
    fn blind(&self, write: &Write) -> (Vec<Operation>, Counts) {
        // Ids are distinct in a request, so what it upserts and deletes is none of what it patches.
        let existing = |g: &RowBatch| (0..g.len()).filter(|row| self.rows.contains(&g.ids.get(*row))).count() as u64;
        let patched = |groups: &Vec<RowBatch>| groups.iter().map(existing).sum();
        let mut operations = operations(write);
        if write.return_affected_ids {
            for operation in &mut operations {
                if let Operation::Patch(batch) = operation {
                    *batch = condition::stored(batch, &self.rows);
                }
            }
            operations.retain(|operation| operation.rows() > 0);
        }
        let counts = Counts {
            upserted: write.upserts.as_ref().map(|u| u.len() as u64),
            patched: write.patches.as_ref().map(patched),
            deleted: write.deletes.as_ref().map(|d| d.len() as u64),
            logical_bytes: write.logical_bytes,
            ..Counts::default()
        };
        (operations, counts)
    }
}

/// Does what evaluating a write would, for the time it takes.
pub(super) fn rehearse(write: &Write, base: &Snapshot, stored: &Stored, limits: &Limits) -> Result<(), Invalid> {
    search(write, &base.schema, &mut Rows::of(base), None, stored, limits).map(drop)
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

/// That the caller may bring a namespace into being.
///
/// # Errors
///
/// 403.
pub(super) fn check_may_create(guard: Option<&Guard>, name: &NamespaceName) -> Result<(), Error> {
    match guard.is_some_and(|g| !g.may_create) {
        true => Err(forbidden(format!("this credential may not create namespace '{name}'"))),
        false => Ok(()),
    }
}

/// Splits what waits into what can be committed together: deletions and copies go alone, and writes by filter where
/// filters are evaluated on segments before the batch is evaluated.
///
/// * `indexed` — whether there are segments
pub(super) fn group_len(
    changes: impl Iterator<Item = impl AsRef<Change>>,
    bytes_max: u64,
    requests_max: usize,
    indexed: bool,
) -> usize {
    let mut bytes = 0;
    let mut len = 0;
    for change in changes {
        let size = match &change.as_ref().what {
            What::DeleteNamespace | What::Copy(_) => return len.max(1),
            What::Write(w) if indexed && w.write.by_filter() => return len.max(1),
            What::Write(w) if w.staged.is_none() => w.write.logical_bytes.saturating_add(w.repeated_bytes),
            What::Write(_) | What::Schema(..) | What::Settings(_) | What::Create(_) => 0,
        };
        if len > 0 && (size > bytes_max.saturating_sub(bytes) || len == requests_max) {
            break;
        }
        bytes += size;
        len += 1;
    }
    len
}

#[cfg(test)]
mod tests;
