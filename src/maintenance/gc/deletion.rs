//! What is done about garbage: it is written down, and deleted when it has waited.

use std::time::Duration;

use object_store::path::Path;

use super::collector::{CollectError, Collector, Looked, Seen};
use super::memory::Known;
use super::plan::{Found, Plan};
use super::written::{self, Fate, Fates, PLAN_BYTES_MAX};
use crate::base::Priority;
use crate::base::clock::wall_ms;
use crate::store::paths::{self, NsKey, NsObject};
use crate::telemetry;
use crate::wal::Log;

/// Objects between two looks at the clock.
const BATCH: usize = 1000;
/// For how long one look deletes; the next one goes on with it.
const DELETE_FOR: Duration = Duration::from_secs(240);

/// What there is to do, by the plans that wait.
struct Due {
    fates: Fates,
    /// The plans that have waited long enough, and whether others wait.
    plans: Vec<Path>,
    others: usize,
}

impl Collector {
    /// Does what was decided; says when there is more to do.
    pub(super) async fn act(
        &self,
        ns: &NsKey,
        seen: &Seen,
        known: &Known,
        found: Plan,
    ) -> Result<(Looked, Duration), CollectError> {
        if self.options.dry_run {
            for object in &found.doomed {
                let key = paths::object(ns, &object.object);
                tracing::info!(%key, bytes = object.bytes, "would be deleted");
            }
            return Ok((Looked::Later, self.options.interval));
        }
        let Due { fates, plans, others } = self.due(ns, seen, found.doomed).await?;
        let doomed: Vec<&Found> = fates.with(Fate::Due).collect();
        let deleted = self.delete(ns, seen, known, &doomed).await?;
        let bytes = deleted.iter().map(|f| f.bytes).sum();
        if !deleted.is_empty() {
            self.record(ns, deleted, bytes);
        }
        let objects = deleted.len();
        if objects < doomed.len() {
            let planned = 0;
            return Ok((
                Looked::Deleted {
                    objects,
                    bytes,
                    planned,
                },
                Duration::ZERO,
            ));
        }
        self.store.delete_all(&plans).await?;
        // A little is left for the next time, so that a namespace that is always written is not looked at all the time.
        let new: Vec<NsObject> = fates.with(Fate::New).map(|f| f.object.clone()).collect();
        let is_due = new.len()
            >= if plans.is_empty() && others == 0 {
                1
            } else {
                self.limits.plan_objects
            };
        let planned = match is_due {
            true => {
                self.write_down(ns, &new, self.limits.plans.saturating_sub(others))
                    .await?
            }
            false => 0,
        };
        let wait = match (planned > 0 || others > 0, new.is_empty()) {
            (true, _) => self.options.second_look,
            (false, false) => self.options.interval,
            // Whether there is more is seen when this is gone.
            (false, true) => Duration::ZERO,
        };
        let looked = match (plans.is_empty(), planned > 0 || others > 0) {
            (false, _) => Looked::Deleted {
                objects,
                bytes,
                planned,
            },
            (true, true) => Looked::Planned { objects: planned },
            (true, false) if found.later => Looked::Later,
            (true, false) => Looked::Clean,
        };
        Ok((looked, wait))
    }

    /// Reads the plans that there are: a GET for each.
    async fn due(&self, ns: &NsKey, seen: &Seen, mut doomed: Vec<Found>) -> Result<Due, CollectError> {
        doomed.truncate(self.limits.objects());
        let (cpu, second_look) = (&self.runtime.cpu, self.options.second_look.as_millis());
        let mut due = Due {
            fates: cpu.run(Priority::Background, || Fates::of(doomed)).await,
            plans: Vec::new(),
            others: 0,
        };
        for plan in &seen.found {
            if !matches!(plan.object, NsObject::CollectionPlan(_)) {
                continue;
            }
            let key = paths::object(ns, &plan.object);
            let fate = match u128::from(seen.store_ms.saturating_sub(plan.written_ms)) >= second_look {
                true => Fate::Due,
                false => Fate::Waits,
            };
            let body = match plan.bytes <= PLAN_BYTES_MAX as u64 {
                true => self.store.get(&key).await?,
                // It is none.
                false => None,
            };
            if let Some(body) = body {
                let (ns, mut fates) = (ns.clone(), due.fates);
                let note = move || {
                    fates.note(&written::decode(&ns, &body), fate);
                    fates
                };
                due.fates = cpu.run(Priority::Background, note).await;
            }
            match fate {
                Fate::Due => due.plans.push(key),
                _ => due.others += 1,
            }
        }
        Ok(due)
    }

    /// Deletes garbage, in this order, until the look has taken long enough; returns what is gone. As many objects a second
    /// as all looks of the node together may.
    async fn delete<'a, 'b>(
        &self,
        ns: &NsKey,
        seen: &Seen,
        known: &Known,
        doomed: &'a [&'b Found],
    ) -> Result<&'a [&'b Found], CollectError> {
        if doomed.iter().any(|f| matches!(f.object, NsObject::Entry(_))) {
            self.check_chain(ns, known).await?;
        }
        // Long before anything could be needed again.
        let until = seen.since + DELETE_FOR.min(self.keep.grace / 16);
        let mut done = 0;
        // What names goes before what is named: in one batch there is no order.
        for group in doomed.chunk_by(|a, b| stage(&a.object) == stage(&b.object)) {
            for batch in group.chunks(BATCH) {
                if self.runtime.clock.boot() > until {
                    return Ok(&doomed[..done]);
                }
                self.pace.take(batch.len() as u64).await;
                let keys: Vec<Path> = batch.iter().map(|f| paths::object(ns, &f.object)).collect();
                self.store.delete_all(&keys).await?;
                done += batch.len();
            }
        }
        Ok(doomed)
    }

    /// That the log continues the oldest manifest that is kept, before entries are deleted that it has in segments. One
    /// GET, or two.
    async fn check_chain(&self, ns: &NsKey, known: &Known) -> Result<(), CollectError> {
        let (indexed, digest) = (known.oldest.indexed_seq, known.oldest.indexed_digest);
        let log = Log::new(self.store.clone(), ns.clone(), self.runtime.cpu.clone());
        let continues = match log.get(indexed.next()).await? {
            Some(logged) => logged.entry.prev_digest == digest,
            None => log.get(indexed).await?.is_some_and(|logged| logged.digest == digest),
        };
        match continues {
            true => Ok(()),
            false => Err(CollectError::Broken(indexed.next())),
        }
    }

    /// Writes down what is to be deleted by a later look, in so many plans at most; returns how much of it. One PUT for
    /// each.
    async fn write_down(&self, ns: &NsKey, new: &[NsObject], plans: usize) -> Result<usize, CollectError> {
        let mut planned = 0;
        for objects in new.chunks(self.limits.plan_objects).take(plans) {
            let (of, named) = (ns.clone(), objects.to_vec());
            let encode = move || written::encode(&of, &named);
            let body = self.runtime.cpu.run(Priority::Background, encode).await;
            let id = self.runtime.rng.ulid(wall_ms(self.runtime.clock.as_ref()));
            self.store.put(&paths::collection_plan(ns, id), body).await?;
            planned += objects.len();
        }
        Ok(planned)
    }

    /// One line for each object, and one for all of them.
    fn record(&self, ns: &NsKey, deleted: &[&Found], bytes: u64) {
        if tracing::enabled!(tracing::Level::DEBUG) {
            for object in deleted {
                let key = paths::object(ns, &object.object);
                tracing::debug!(%key, bytes = object.bytes, "deleted");
            }
        }
        let count = |is: fn(&NsObject) -> bool| deleted.iter().filter(|f| is(&f.object)).count();
        tracing::info!(
            org = %ns.org(), namespace = %ns.namespace(), objects = deleted.len(), bytes,
            manifests = count(|o| matches!(o, NsObject::Manifest(_))),
            entries = count(|o| matches!(o, NsObject::Entry(_))),
            segments = count(|o| matches!(o, NsObject::Segment(_))),
            deletions = count(|o| matches!(o, NsObject::Deletions(_))),
            blobs = count(|o| matches!(o, NsObject::Blob(_))),
            holds = count(|o| matches!(o, NsObject::Pin(_))),
            "garbage was deleted"
        );
        metrics::counter!(telemetry::GC_OBJECTS).increment(deleted.len() as u64);
        metrics::counter!(telemetry::GC_BYTES).increment(bytes);
    }
}

/// In which of several batches an object is deleted.
fn stage(object: &NsObject) -> u8 {
    match object {
        NsObject::Manifest(_) => 0,
        NsObject::Entry(_) => 1,
        _ => 2,
    }
}
