//! What is done for a write before it queues up, beside what is being committed.

use std::sync::Arc;

use super::commit::Failure;
use super::evaluate::{self, Matched, Staged, Unmatched, promoted_rows, repeated_bytes};
use super::handle::Handle;
use super::prefetch::{self, NotFetched};
use super::state::Trouble;
use super::{Body, Engine, Prepared, follow, read, tails_used_up};
use crate::base::clock::wall_ms;
use crate::base::{Charge, MemoryShare, Priority};
use crate::error::{Error, ErrorKind, Result};
use crate::model::access::Access;
use crate::model::write::{self, Write};
use crate::model::{NamespaceName, Schema};
use crate::segment::SegmentError;
use crate::snapshot::Snapshot;
use crate::wal;

impl Engine {
    /// Parses a body against the schema that this node knows, and uploads it when it is large.
    pub(super) async fn prepare(
        &self,
        handle: &Handle,
        name: &NamespaceName,
        body: &Body,
    ) -> Result<Prepared, Failure> {
        let inner = &self.inner;
        let unsure = !handle.is_proven() || handle.is_behind();
        if unsure && !inner.options.inference.models().is_empty() {
            // Which texts need vectors is said by the schema, and it is too late to make them when the
            // write is committed.
            handle.probe().await?;
        }
        let snapshot = handle.snapshot();
        let parse = |schema: Arc<Schema>| {
            let (bytes, options, embeddings) = (body.bytes.clone(), inner.options.clone(), self.no_embeddings());
            inner.runtime.cpu.run(Priority::Foreground, move || {
                write::prepare_with(&bytes, &schema, &options.limits, &embeddings)
            })
        };
        let write = match parse(snapshot.schema.clone()).await {
            Ok(write) => write,
            Err(_) => {
                // The schema may be another one by now: look before saying no, and before saying why.
                self.check_newest(handle, Access::Write, name).await?;
                let newer = handle.snapshot();
                parse(newer.schema.clone()).await.map_err(Error::from)?
            }
        };
        if let Some(guard) = &self.guard {
            guard.check_operations(&write)?;
        }
        if let Err(error) = self.admit(handle, &write) {
            if self.guard.is_some() {
                self.check_newest(handle, Access::Write, name).await?;
            }
            return Err(error.into());
        }
        let write = match write.wanted.is_empty() {
            true => write,
            false => self.embed(body, write).await?,
        };
        // What will be refused need not be uploaded.
        let known = handle.snapshot();
        let refused = known.settings.read_only || self.check(Access::Write, name, &known).is_err();
        // What a condition lets pass is not known before the write is committed, nor which patches
        // apply, whose ids are asked for.
        let depends = write.reads_rows() || (write.return_affected_ids && write.patches.is_some());
        let stages = write.logical_bytes >= inner.options.stage_bytes_min;
        let staged = match stages && !depends && !refused {
            true => Some(self.stage(handle, &write).await?),
            false => None,
        };
        let matched = match write.by_filter() {
            true => self.search(handle, &write).await?,
            false => None,
        };
        let promoted = self.charge_promoted(handle, &write, matched.as_ref())?;
        let ahead = self.read_ahead(handle, &write, matched.as_ref()).await?;
        if write.is_costly() {
            self.rehearse(handle, &write, ahead).await?;
        }
        let rows = handle.snapshot().rows();
        Ok(Prepared {
            repeated_bytes: repeated_bytes(&write, matched.as_ref(), rows, &inner.options.limits),
            write,
            staged,
            matched,
            promoted,
        })
    }

    /// Takes memory for the rows of segments that a write will have in memory, before they are read. By the mean of their
    /// sizes: which rows it will be is not known yet.
    fn charge_promoted(&self, handle: &Handle, write: &Write, matched: Option<&Matched>) -> Result<Option<Charge>> {
        let snapshot = handle.snapshot();
        let metas = snapshot.segments.iter().map(|part| part.segment.meta());
        let (rows, bytes) = metas.fold((0, 0), |(rows, bytes): (u64, u64), meta| {
            (rows + u64::from(meta.rows), bytes + meta.unpacked_bytes())
        });
        let promoted = promoted_rows(write, matched, rows, self.limits());
        if promoted == 0 {
            return Ok(None);
        }
        let bytes = promoted.saturating_mul(bytes.div_ceil(rows.max(1)));
        let memory = &self.inner.runtime.memory;
        let most = memory.limit_bytes(MemoryShare::Tails) / 2;
        if bytes > most {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!(
                    "the stored rows that this write changes or has conditions on take about {bytes} bytes of memory, of \
                     which it may take at most {most} on this node: write fewer rows at a time"
                ),
            ));
        }
        self.make_room(bytes, "stored rows")?;
        let charged = memory.charge(MemoryShare::Tails, bytes);
        charged.map(Some).map_err(|e| tails_used_up().because(e))
    }

    /// Finds what a write by filter matches, before it queues up: the commit loop then looks at what
    /// came since only. Costs one GET, shared.
    async fn search(&self, handle: &Handle, write: &Write) -> Result<Option<Matched>, Failure> {
        handle.probe().await?;
        let max = self.limits().query_time_max;
        let search = async {
            let cpu = &self.inner.runtime.cpu;
            match Matched::on(&handle.snapshot(), write, cpu).await {
                Err(Unmatched::Unread(error)) if SegmentError::is_behind(&error) && handle.move_on().await? => {
                    Ok(Matched::on(&handle.snapshot(), write, cpu).await)
                }
                found => Ok::<_, Trouble>(found),
            }
        };
        let found = tokio::time::timeout(max, search).await;
        match found.map_err(|_| read::too_slow("write", max))?? {
            Ok(found) => Ok(found),
            // What is wrong with a filter is said when the write is committed, on the newest schema.
            Err(Unmatched::Invalid) => Ok(None),
            Err(Unmatched::Unread(error)) => Err(error.into()),
        }
    }

    /// Reads what a write needs of segments before it queues up, so that the commit loop finds it in the cache. Returns
    /// what evaluating it may be tried on; `None` when it needs nothing.
    async fn read_ahead(
        &self,
        handle: &Handle,
        write: &Write,
        matched: Option<&Matched>,
    ) -> Result<Option<(Arc<Snapshot>, evaluate::Stored)>, Failure> {
        let max = self.limits().query_time_max;
        let read = async {
            match prefetch::read_ahead(write, matched, &handle.snapshot(), handle.state()).await {
                Err(NotFetched::Missing(_)) if handle.move_on().await? => {
                    prefetch::read_ahead(write, matched, &handle.snapshot(), handle.state()).await
                }
                read => read,
            }
            .map_err(Trouble::from)
        };
        let read = tokio::time::timeout(max, read).await;
        Ok(read.map_err(|_| read::too_slow("write", max))??)
    }

    /// Evaluates the conditions of a write whose patterns may take long, and drops what was found: a
    /// write that takes too long is given up here, where it holds up no other, and not in the commit loop.
    async fn rehearse(
        &self,
        handle: &Handle,
        write: &Write,
        ahead: Option<(Arc<Snapshot>, evaluate::Stored)>,
    ) -> Result<()> {
        let max = self.limits().query_time_max;
        let mut write = write.clone();
        if write.schema.is_empty() {
            // These are evaluated already.
            (write.delete_by_filter, write.patch_by_filter) = (None, None);
        }
        let (snapshot, stored) = ahead.unwrap_or_else(|| (handle.snapshot(), evaluate::Stored::default()));
        let limits = self.limits().clone();
        // What is wrong with it is said when it is committed.
        let rehearsal = move || drop(evaluate::rehearse(&write, &snapshot, &stored, &limits));
        let rehearsal = self.inner.runtime.cpu.run(Priority::Foreground, rehearsal);
        tokio::time::timeout(max, rehearsal)
            .await
            .map_err(|_| read::too_slow("write", max))
    }

    /// Uploads the operations of a large write. Costs one PUT per 16 MiB, some in parallel.
    async fn stage(&self, handle: &Handle, write: &Write) -> Result<Staged, Trouble> {
        let runtime = &self.inner.runtime;
        let operations = evaluate::operations(write);
        let stage = move || wal::stage(&operations);
        let blobs = runtime.cpu.run(Priority::Foreground, stage).await;
        let now_ms = wall_ms(runtime.clock.as_ref());
        let named = blobs.into_iter().map(|b| (runtime.rng.ulid(now_ms), b)).collect();
        let state = handle.state();
        let since = state.now();
        let blobs = state.log.upload(named).await.map_err(follow::unavailable)?;
        Ok(Staged { blobs, since })
    }
}
