//! Copies by token: started by one request, asked for by others, on any node.
//!
//! The state of an operation is in the bucket, below its destination:
//!
//! | object | what | created by |
//! | --- | --- | --- |
//! | `start` | that it was accepted | the node that works on it |
//! | `beat-<n>` | that it is still worked on, and how far it is | the same, every [`BEAT`] |
//! | `done` | how it ended; decides | the same, or whoever finds that nobody works on it any more |
//!
//! # What stays true
//!
//! - Each is created once and never changed. `done` is created only if absent, so every node tells
//!   the same end, for ever.
//! - `start` and the beats are removed only after `done` exists.
//! - The copy itself is committed by the log of the destination, before `done`. When its node dies
//!   in between, the operation ends as "may or may not have taken effect", which is true.
//!
//! # Cost
//!
//! To start: one PUT. To ask: one GET when it has ended, else two and a LIST. A running operation:
//! one PUT and one DELETE per [`BEAT`].
//!
//! Bytes: `docs/formats/operations.md`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::Engine;
use super::copy::{CopyFrom, CopyOutcome, Progress};
use super::follow::unavailable;
use crate::base::clock::wall_ms;
use crate::base::{Tenant, context};
use crate::error::{Error, ErrorKind, Result};
use crate::model::access::Access;
use crate::model::{NamespaceName, OrgId, Seq};
use crate::store::paths::{self, NsKey, OperationPart};
use crate::store::{CreateError, Store, StoreError};

/// How often the node that works on an operation says so.
pub const BEAT: Duration = Duration::from_secs(10);
/// After so long without a beat nobody works on it: longer than a beat with all its retries, and a
/// difference of the nodes' clocks.
pub const SILENCE_MAX: Duration = Duration::from_secs(120);
/// Tries to note how an operation ended, a beat apart.
const DONE_ATTEMPTS: u32 = 6;
/// The version of the objects.
const VERSION: u32 = 1;

/// What is known of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Running {
        started_ms: u64,
        /// A sentence for people.
        progress: String,
    },
    Finished {
        started_ms: u64,
        finished_ms: u64,
        result: Result<CopyOutcome, OperationFailure>,
    },
}

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationFailure {
    pub kind: ErrorKind,
    /// One sentence for the client.
    pub message: String,
}

/// `start` and `beat-<n>`.
#[derive(Serialize, Deserialize)]
struct Alive {
    version: u32,
    started_ms: u64,
    /// When it was written.
    at_ms: u64,
    progress: String,
}

/// `done`.
#[derive(Serialize, Deserialize)]
struct Done {
    version: u32,
    started_ms: u64,
    finished_ms: u64,
    end: End,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum End {
    Copied { seq: u64, rows: u64, logical_bytes: u64 },
    Failed { kind: String, message: String },
}

/// The names of kinds in objects.
const KINDS: [(ErrorKind, &str); 14] = [
    (ErrorKind::Invalid, "invalid"),
    (ErrorKind::Shape, "shape"),
    (ErrorKind::TooLarge, "too_large"),
    (ErrorKind::Unauthenticated, "unauthenticated"),
    (ErrorKind::Forbidden, "forbidden"),
    (ErrorKind::QuotaExceeded, "quota_exceeded"),
    (ErrorKind::NotFound, "not_found"),
    (ErrorKind::Conflict, "conflict"),
    (ErrorKind::ClientTimeout, "client_timeout"),
    (ErrorKind::TooSlow, "too_slow"),
    (ErrorKind::Overloaded, "overloaded"),
    (ErrorKind::Unavailable, "unavailable"),
    (ErrorKind::Unknown, "unknown"),
    (ErrorKind::Internal, "internal"),
];

fn kind_name(kind: ErrorKind) -> &'static str {
    let found = KINDS.iter().find(|(k, _)| *k == kind);
    found.map_or("internal", |(_, name)| name)
}

fn kind_of(name: &str) -> ErrorKind {
    let found = KINDS.iter().find(|(_, n)| *n == name);
    found.map_or(ErrorKind::Internal, |(kind, _)| *kind)
}

/// One operation and where its objects are.
#[derive(Clone)]
struct Place {
    store: Store,
    ns: NsKey,
    token: Ulid,
    started_ms: u64,
}

impl Engine {
    /// Starts a copy that goes on by itself, and returns the token by which [`Engine::operation`]
    /// knows it. What is wrong with the namespaces is the operation's end, not an error of this call.
    ///
    /// Costs one PUT, and then those of [`Engine::copy`]; one GET more, shared, with a guard.
    pub async fn start_copy(&self, org: &OrgId, name: &NamespaceName, from: CopyFrom) -> Result<String> {
        // Who may not write leaves nothing behind, either.
        self.check_now(org, name, Access::Write).await?;
        let inner = &self.inner;
        let tenant = Tenant::named(org.as_str());
        let permit = inner.copies.operations.take(tenant).ok_or_else(too_many)?;
        let started_ms = wall_ms(inner.runtime.clock.as_ref());
        let place = Place {
            store: inner.store.clone(),
            ns: NsKey::new(org.clone(), name.clone()),
            token: inner.runtime.rng.ulid(started_ms),
            started_ms,
        };
        let progress = Arc::new(Progress::default());
        place
            .say(OperationPart::Start, started_ms, &progress)
            .await
            .map_err(|e| Error::from(unavailable(e)))?;
        let token = place.token.to_string().to_ascii_lowercase();
        let work = self.clone().work(place, from, progress);
        let task = async move {
            work.await;
            drop(permit);
        };
        inner
            .runtime
            .spawner
            .spawn("copy", Box::pin(context::for_tenant(tenant, task)));
        Ok(token)
    }

    /// Copies, says all the time that it does, and notes how it ended.
    async fn work(self, place: Place, from: CopyFrom, progress: Arc<Progress>) {
        let (org, name) = (place.ns.org(), place.ns.namespace());
        let result = tokio::select! {
            biased;
            result = self.copy(org, name, &from, &progress) => result,
            never = self.beat(&place, &progress) => match never {},
        };
        if let Err(error) = &result {
            tracing::info!(namespace = %name, token = %place.token, %error, "a copy by token failed");
        }
        let end = match result {
            Ok(CopyOutcome {
                seq,
                rows,
                logical_bytes,
            }) => End::Copied {
                seq: seq.0,
                rows,
                logical_bytes,
            },
            Err(error) => End::Failed {
                kind: kind_name(error.kind).to_owned(),
                message: error.message,
            },
        };
        let finished_ms = wall_ms(self.inner.runtime.clock.as_ref());
        let body = place.done(finished_ms, end);
        for _ in 0..DONE_ATTEMPTS {
            match place.end(body.clone()).await {
                Ok(()) => return place.tidy().await,
                Err(error) => tracing::warn!(token = %place.token, %error, "the end of a copy was not noted yet"),
            }
            tokio::time::sleep(BEAT).await;
        }
    }

    /// Notes again and again that the operation is worked on.
    async fn beat(&self, place: &Place, progress: &Progress) -> Infallible {
        for n in 0u32.. {
            tokio::time::sleep(BEAT).await;
            let now_ms = wall_ms(self.inner.runtime.clock.as_ref());
            if let Err(error) = place.say(OperationPart::Beat(n), now_ms, progress).await {
                tracing::warn!(token = %place.token, %error, "the progress of a copy was not noted");
                continue;
            }
            // The newest is enough; `start` stays, so that there is always one.
            if let Some(previous) = n.checked_sub(1) {
                place.remove(OperationPart::Beat(previous)).await;
            }
        }
        std::future::pending().await
    }

    /// What is known of the operation with that token, of that destination. An operation that
    /// nobody works on any more ends by this call.
    ///
    /// Costs one GET when it has ended, else two and a LIST; one GET more, shared, with a guard.
    ///
    /// # Errors
    ///
    /// 404 when there is no such operation.
    pub async fn operation(&self, org: &OrgId, name: &NamespaceName, token: &str) -> Result<Operation> {
        self.check_now(org, name, Access::Manage).await?;
        let unknown = || {
            Error::new(
                ErrorKind::NotFound,
                "there is no operation with this token in this namespace",
            )
        };
        let parsed = Ulid::from_string(token).map_err(|_| unknown())?;
        if !parsed.to_string().eq_ignore_ascii_case(token) {
            return Err(unknown());
        }
        let mut place = Place {
            store: self.inner.store.clone(),
            ns: NsKey::new(org.clone(), name.clone()),
            token: parsed,
            started_ms: 0,
        };
        if let Some(end) = place.read_end().await? {
            return Ok(end);
        }
        let Some(alive) = place.newest().await? else {
            // It may have ended between the two looks.
            return place.read_end().await?.ok_or_else(unknown);
        };
        let now_ms = wall_ms(self.inner.runtime.clock.as_ref());
        let silence = Duration::from_millis(now_ms.saturating_sub(alive.at_ms));
        if silence <= SILENCE_MAX {
            return Ok(Operation::Running {
                started_ms: alive.started_ms,
                progress: alive.progress,
            });
        }
        place.started_ms = alive.started_ms;
        let end = End::Failed {
            kind: kind_name(ErrorKind::Unknown).to_owned(),
            message: "the node that ran this copy has stopped; the copy may or may not have taken effect: look at the \
                      destination, which has all documents or none of them, before copying again"
                .to_owned(),
        };
        place
            .end(place.done(now_ms, end))
            .await
            .map_err(|e| Error::from(unavailable(e)))?;
        // The node may have been faster after all: what is there counts.
        place.read_end().await?.ok_or_else(damaged)
    }
}

impl Place {
    /// Writes `start` or a beat. Nobody else writes its key, so it may be repeated.
    async fn say(&self, part: OperationPart, at_ms: u64, progress: &Progress) -> Result<(), StoreError> {
        let alive = Alive {
            version: VERSION,
            started_ms: self.started_ms,
            at_ms,
            progress: progress.text(),
        };
        self.store
            .put(&paths::operation(&self.ns, self.token, part), json(&alive))
            .await
    }

    fn done(&self, finished_ms: u64, end: End) -> Vec<u8> {
        json(&Done {
            version: VERSION,
            started_ms: self.started_ms,
            finished_ms,
            end,
        })
    }

    /// Creates `done`; fine when it exists.
    async fn end(&self, body: Vec<u8>) -> Result<(), CreateError> {
        let key = paths::operation(&self.ns, self.token, OperationPart::Done);
        match self.store.create(&key, body).await {
            // "Exists" is no verdict: a conflict may be reported for nothing.
            Err(error) => match self.store.get(&key).await {
                Ok(Some(_)) => Ok(()),
                Ok(None) | Err(_) => Err(error),
            },
            Ok(()) => Ok(()),
        }
    }

    /// Removes what `done` has made superfluous.
    async fn tidy(&self) {
        let listed: Result<Vec<_>, _> = self
            .store
            .list(&paths::operation_prefix(&self.ns, self.token), None)
            .try_collect()
            .await;
        let listed = listed.unwrap_or_default();
        let parts = listed.iter().filter_map(|o| paths::parse_operation_part(&o.location));
        for part in parts.filter(|p| *p != OperationPart::Done) {
            self.remove(part).await;
        }
    }

    async fn remove(&self, part: OperationPart) {
        if let Err(error) = self.store.delete(&paths::operation(&self.ns, self.token, part)).await {
            tracing::debug!(token = %self.token, %error, "an object of a copy was not removed");
        }
    }

    /// How the operation ended; `None` when it did not.
    async fn read_end(&self) -> Result<Option<Operation>> {
        let Some(done) = self.read::<Done>(OperationPart::Done).await? else {
            return Ok(None);
        };
        check_version(done.version)?;
        Ok(Some(Operation::Finished {
            started_ms: done.started_ms,
            finished_ms: done.finished_ms,
            result: match done.end {
                End::Copied {
                    seq,
                    rows,
                    logical_bytes,
                } => Ok(CopyOutcome {
                    seq: Seq(seq),
                    rows,
                    logical_bytes,
                }),
                End::Failed { kind, message } => Err(OperationFailure {
                    kind: kind_of(&kind),
                    message,
                }),
            },
        }))
    }

    /// The newest beat, or the start; `None` when there is neither.
    async fn newest(&self) -> Result<Option<Alive>> {
        let prefix = paths::operation_prefix(&self.ns, self.token);
        let listed: Vec<_> = self
            .store
            .list(&prefix, None)
            .try_collect()
            .await
            .map_err(|e| Error::from(unavailable(e)))?;
        let parts = listed.iter().filter_map(|o| paths::parse_operation_part(&o.location));
        let Some(newest) = parts.filter(|p| *p != OperationPart::Done).max() else {
            return Ok(None);
        };
        // A beat may be removed after it was listed, because there is a newer one; the start stays.
        let alive = match self.read::<Alive>(newest).await? {
            None => self.read::<Alive>(OperationPart::Start).await?,
            found => found,
        };
        if let Some(alive) = &alive {
            check_version(alive.version)?;
        }
        Ok(alive)
    }

    async fn read<T: for<'de> Deserialize<'de>>(&self, part: OperationPart) -> Result<Option<T>> {
        let found = self.store.get(&paths::operation(&self.ns, self.token, part)).await;
        let Some(bytes) = found.map_err(|e| Error::from(unavailable(e)))? else {
            return Ok(None);
        };
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Some).map_err(|e| damaged().because(e))
    }
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("numbers and strings are JSON")
}

fn check_version(version: u32) -> Result<()> {
    match version == VERSION {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::Internal,
            "the state of this operation was written by another version of the server",
        )),
    }
}

fn damaged() -> Error {
    Error::new(ErrorKind::Internal, "the state of this operation is damaged")
}

fn too_many() -> Error {
    Error::new(
        ErrorKind::Overloaded,
        "this node has as many copies to make as it takes; try again",
    )
    .after(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_has_a_name_of_its_own() {
        for (kind, name) in KINDS {
            assert_eq!((kind_name(kind), kind_of(name)), (name, kind));
        }
        assert_eq!(kind_of("of a later version"), ErrorKind::Internal);
    }
}
