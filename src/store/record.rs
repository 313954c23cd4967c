//! Records: small values that change, kept as a sequence of immutable revisions.
//!
//! Revision n+1 is created if absent by whoever has read n, so that the only conditional operation is the
//! one that every store has. The rules are those of the log (docs/design/0003-log.md):
//!
//! - **Own write.** Every body carries the id of its attempt. A create that is answered "exists", or not at
//!   all, is read back, and ours if it has our id.
//! - **Same slot.** After an unknown outcome the same bytes are sent to the same revision again, never to
//!   another.
//! - **Staleness.** A revision is created within half the grace time after the one before it was read;
//!   old revisions are removed only after the whole, so that "absent" means "never was".
//!
//! A removed record keeps its place: its newest revision holds no value.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::ObjectMeta;
use object_store::path::Path;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{CreateError, Store, StoreError, paths};
use crate::base::{Clock, Rng};
use crate::error::{Error, ErrorKind};

/// A larger body was not written by this server.
const BODY_BYTES_MAX: usize = 8 << 20;
/// How often a revision whose fate is unknown is sent again.
const RESENDS_MAX: usize = 4;
/// How often a change is decided again because rivals were faster.
const RIVALS_MAX: usize = 64;

/// One revision of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision<T> {
    /// Counts from 1.
    pub number: u64,
    /// `None` when the record was removed.
    pub value: Option<T>,
}

/// Why a record could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("record {key} is damaged: {reason}")]
    Damaged { key: String, reason: String },
    /// The change may or may not have happened.
    #[error("it is unknown whether record {key} was changed")]
    Unknown { key: String },
    /// Others changed it over and over.
    #[error("record {key} changes too fast")]
    Contended { key: String },
}

impl From<RecordError> for Error {
    fn from(error: RecordError) -> Self {
        let (kind, sentence) = match &error {
            RecordError::Store(_) => (ErrorKind::Unavailable, "object storage cannot be reached; try again"),
            RecordError::Damaged { .. } => (
                ErrorKind::Internal,
                "a stored record is damaged; an operator has to look",
            ),
            RecordError::Unknown { .. } => (
                ErrorKind::Unknown,
                "object storage did not say whether this was done; look before trying again",
            ),
            RecordError::Contended { .. } => (ErrorKind::Unavailable, "others change the same thing; try again"),
        };
        let answer = Error::new(kind, sentence).because(error);
        match kind {
            ErrorKind::Unavailable => answer.after(Duration::from_secs(1)),
            _ => answer,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Body<T> {
    attempt: String,
    value: Option<T>,
}

/// The records of a store.
#[derive(Clone)]
pub struct Records {
    store: Store,
    clock: Arc<dyn Clock>,
    rng: Rng,
    grace: Duration,
}

impl Records {
    /// * `grace` — how long an old revision stays at least; also bounds how long a change may take
    pub fn new(store: Store, clock: Arc<dyn Clock>, rng: Rng, grace: Duration) -> Self {
        Self {
            store,
            clock,
            rng,
            grace,
        }
    }

    /// The store they are in.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The newest value; `None` when there is none, or it was removed. Costs one LIST and one GET.
    pub async fn get<T: DeserializeOwned>(&self, record: &Path) -> Result<Option<T>, RecordError> {
        Ok(self.newest(record).await?.and_then(|r| r.value))
    }

    /// The newest revision. Costs one LIST and one GET; one more of each when old revisions are removed
    /// meanwhile.
    pub async fn newest<T: DeserializeOwned>(&self, record: &Path) -> Result<Option<Revision<T>>, RecordError> {
        for _ in 0..RIVALS_MAX {
            let listed = self.revisions(record).await?;
            let Some((number, _)) = listed.last() else {
                return Ok(None);
            };
            if let Some(found) = self.at(record, *number).await? {
                return Ok(Some(found));
            }
            // Listed and gone: a newer one took its place.
        }
        Err(RecordError::Contended {
            key: record.to_string(),
        })
    }

    /// One revision; `None` when it does not exist (yet). Costs one GET.
    pub async fn at<T: DeserializeOwned>(
        &self,
        record: &Path,
        number: u64,
    ) -> Result<Option<Revision<T>>, RecordError> {
        let key = paths::record_revision(record, number);
        let Some(bytes) = self.store.get(&key).await? else {
            return Ok(None);
        };
        let Body { value, .. } = parse(&key, &bytes)?;
        Ok(Some(Revision { number, value }))
    }

    /// The records directly below a directory, each with its newest revision's key. Costs one LIST per
    /// thousand revisions.
    pub async fn list(&self, directory: &Path) -> Result<Vec<Path>, RecordError> {
        let listed: Vec<ObjectMeta> = self.store.list(directory, None).try_collect().await?;
        let mut keys: Vec<Path> = listed.into_iter().map(|o| o.location).collect();
        keys.retain(|key| paths::parse_record_revision(key).is_some());
        keys.sort_unstable();
        // Newest first within a record.
        keys.dedup_by(|b, a| parent(a) == parent(b));
        Ok(keys)
    }

    /// The values of all records directly below a directory, with the keys of their revisions, in the order
    /// of the records' keys. Costs one LIST per thousand revisions and one GET per record.
    pub async fn values<T: DeserializeOwned>(&self, directory: &Path) -> Result<Vec<(Path, T)>, RecordError> {
        let all = self.values_within(directory, usize::MAX).await?;
        Ok(all.unwrap_or_default())
    }

    /// The same; `None` when the records have more bytes together, for directories that clients fill.
    pub async fn values_within<T: DeserializeOwned>(
        &self,
        directory: &Path,
        bytes_max: usize,
    ) -> Result<Option<Vec<(Path, T)>>, RecordError> {
        use futures::StreamExt;
        let room = &std::sync::atomic::AtomicUsize::new(bytes_max);
        let keys = self.list(directory).await?;
        let read = keys.into_iter().map(|key| async move {
            let value = match self.store.get(&key).await? {
                Some(bytes) => {
                    let take = |room: usize| room.checked_sub(bytes.len());
                    let (set, get) = (
                        std::sync::atomic::Ordering::Relaxed,
                        std::sync::atomic::Ordering::Relaxed,
                    );
                    if room.fetch_update(set, get, take).is_err() {
                        return Ok::<_, RecordError>(None);
                    }
                    parse::<T>(&key, &bytes)?.value
                }
                // Replaced since it was listed.
                None => match parent(&key) {
                    Some(record) => self.get(&paths::record_directory(record)).await?,
                    None => None,
                },
            };
            Ok(Some(value.map(|value| (key, value))))
        });
        let mut read = std::pin::pin!(futures::stream::iter(read).buffered(16));
        let mut found = Vec::new();
        while let Some(value) = read.next().await {
            match value? {
                Some(value) => found.extend(value),
                None => return Ok(None),
            }
        }
        Ok(Some(found))
    }

    /// Creates a record that never was; false when there is one, or was one that is removed. Costs one PUT,
    /// and one GET when it exists.
    pub async fn create<T: Serialize>(&self, record: &Path, value: &T) -> Result<bool, RecordError> {
        self.put(record, 1, Some(value)).await
    }

    /// Changes a record: `change` is given the newest value and returns the next, or `None` to remove it; or
    /// says by an error that nothing is to be changed. It is called again when a rival was faster.
    ///
    /// Returns what was written. Costs one LIST, one GET and one PUT; a DELETE for every revision that is
    /// older than the grace time.
    ///
    /// # Errors
    ///
    /// `change`'s own, or [`RecordError`] as an [`Error`].
    pub async fn update<T, F>(&self, record: &Path, mut change: F) -> Result<Revision<T>, Error>
    where
        T: Serialize + DeserializeOwned,
        F: FnMut(Option<T>) -> Result<Option<T>, Error>,
    {
        for _ in 0..RIVALS_MAX {
            let start = self.clock.boot();
            let listed = self.revisions(record).await.map_err(Error::from)?;
            let newest = match listed.last() {
                None => 0,
                Some((number, _)) => *number,
            };
            let before = match newest {
                0 => None,
                number => match self.at(record, number).await.map_err(Error::from)? {
                    Some(found) => found.value,
                    None => continue,
                },
            };
            let after = change(before)?;
            if self.clock.boot().saturating_sub(start) > self.grace / 2 {
                continue;
            }
            let number = newest + 1;
            if self.put(record, number, after.as_ref()).await? {
                self.trim(record, &listed).await;
                return Ok(Revision { number, value: after });
            }
        }
        Err(RecordError::Contended {
            key: record.to_string(),
        }
        .into())
    }

    /// Removes a record; false when there was none. Costs as [`update`](Self::update).
    pub async fn remove<T: Serialize + DeserializeOwned>(&self, record: &Path) -> Result<bool, Error> {
        let mut absent = false;
        let change = |value: Option<T>| {
            absent = value.is_none();
            match absent {
                false => Ok(None),
                true => Err(Error::new(ErrorKind::NotFound, "there is no such record")),
            }
        };
        match self.update(record, change).await {
            Ok(_) => Ok(true),
            // Only what was read says so: when the store could not be read, nothing is known.
            Err(error) if absent && error.kind == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// All revisions, oldest first.
    async fn revisions(&self, record: &Path) -> Result<Vec<(u64, ObjectMeta)>, RecordError> {
        let listed: Vec<ObjectMeta> = self.store.list(record, None).try_collect().await?;
        let numbered = listed
            .into_iter()
            .filter_map(|o| Some((paths::parse_record_revision(&o.location)?, o)));
        let mut revisions: Vec<_> = numbered.collect();
        revisions.sort_unstable_by_key(|(number, _)| *number);
        Ok(revisions)
    }

    /// Creates a revision; false when a rival's is there.
    async fn put<T: Serialize>(&self, record: &Path, number: u64, value: Option<&T>) -> Result<bool, RecordError> {
        let key = paths::record_revision(record, number);
        let attempt = format!("{:032x}", self.rng.u128());
        let body = Body {
            attempt: attempt.clone(),
            value,
        };
        let body = Bytes::from(serde_json::to_vec(&body).expect("records are made of what JSON has"));
        let mut failure = None;
        for sent in 0..RESENDS_MAX {
            match self.store.create(&key, body.clone()).await {
                Ok(()) => return Ok(true),
                // Of the first attempt only: an earlier one may still arrive.
                Err(CreateError::Refused(error)) if sent == 0 => return Err(error.into()),
                Err(CreateError::Exists) => {}
                Err(CreateError::Refused(error) | CreateError::Ambiguous(error)) => failure = Some(error),
            }
            self.store.wait_for_answers().await;
            match self.store.get(&key).await {
                Ok(Some(found)) => {
                    let found: Body<serde::de::IgnoredAny> = parse(&key, &found)?;
                    return Ok(found.attempt == attempt);
                }
                // It may still arrive: only the same bytes may be sent.
                Ok(None) => {}
                Err(error) => failure = Some(error),
            }
        }
        let key = record.to_string();
        if let Some(error) = failure {
            tracing::warn!(record = key, %error, "it is unknown whether a record was changed");
        }
        Err(RecordError::Unknown { key })
    }

    /// Removes revisions whose successors are older than the grace time. What is left is removed next time.
    ///
    /// Ages are differences between times of the store: this node's clock may be wrong by more than the grace.
    async fn trim(&self, record: &Path, listed: &[(u64, ObjectMeta)]) {
        let Some((_, newest)) = listed.last() else { return };
        let age = |object: &ObjectMeta| {
            let age = newest.last_modified.signed_duration_since(object.last_modified);
            age.to_std().unwrap_or_default()
        };
        for pair in listed.windows(2) {
            let [(number, _), (_, successor)] = pair else { continue };
            if age(successor) > self.grace
                && let Err(error) = self.store.delete(&paths::record_revision(record, *number)).await
            {
                tracing::debug!(%record, %error, "an old revision was not removed");
                return;
            }
        }
    }
}

fn parent(key: &Path) -> Option<&str> {
    key.as_ref().rsplit_once('/').map(|(directory, _)| directory)
}

fn parse<T: DeserializeOwned>(key: &Path, bytes: &[u8]) -> Result<Body<T>, RecordError> {
    let damaged = |reason: String| RecordError::Damaged {
        key: key.to_string(),
        reason,
    };
    if bytes.len() > BODY_BYTES_MAX {
        return Err(damaged(format!("it has {} bytes", bytes.len())));
    }
    serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string()))
}

#[cfg(test)]
mod tests;
