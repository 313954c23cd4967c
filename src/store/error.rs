//! What went wrong with the object store, by what may be done next.

use object_store::client::{HttpError, HttpErrorKind};
use object_store::path::Path;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why an operation has no answer. That an object does not exist is an answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Retries within the deadline and the budget did not help. Try again later.
    #[error("object store did not {op} {key}")]
    Unavailable {
        op: &'static str,
        key: String,
        source: Source,
    },
    /// Credentials or permissions are wrong, or the bucket does not exist. The operator has to look.
    #[error("object store refused to {op} {key}")]
    Denied {
        op: &'static str,
        key: String,
        source: Source,
    },
    /// The object is there, but is not what was asked for, such as shorter than the range.
    #[error("object {key} cannot be used: {reason}")]
    Corrupt { key: String, reason: String },
    /// There is no such object, though something names it. Only readers of objects that must be there say so;
    /// elsewhere absence is an answer.
    #[error("object {key} does not exist")]
    Missing { key: String },
}

/// Why a create was not confirmed.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The store answered that the key is taken: by a rival or by our own attempt. Never a verdict:
    /// S3's 409 for concurrent requests looks the same though nothing may exist. Read the key back.
    #[error("the object exists already")]
    Exists,
    /// It may exist, or appear later. Read the key back, and do not use another.
    #[error("it is unknown whether the object was created")]
    Ambiguous(#[source] StoreError),
    /// Nothing was created and nothing will be.
    #[error("the object was not created")]
    Refused(#[source] StoreError),
}

impl StoreError {
    pub(super) fn of(op: &'static str, key: &Path, source: object_store::Error) -> Self {
        let key = key.to_string();
        match is_denied(&source) {
            true => Self::Denied {
                op,
                key,
                source: source.into(),
            },
            false => Self::Unavailable {
                op,
                key,
                source: source.into(),
            },
        }
    }

    /// The same error once more, for everyone who waited for one request. Its source becomes text.
    pub fn replicate(&self) -> Self {
        let again = |source: &Source| -> Source {
            let mut text = source.to_string();
            let mut next = source.source();
            while let Some(error) = next {
                text = format!("{text}: {error}");
                next = error.source();
            }
            text.into()
        };
        match self {
            Self::Unavailable { op, key, source } => Self::Unavailable {
                op,
                key: key.clone(),
                source: again(source),
            },
            Self::Denied { op, key, source } => Self::Denied {
                op,
                key: key.clone(),
                source: again(source),
            },
            Self::Corrupt { key, reason } => Self::Corrupt {
                key: key.clone(),
                reason: reason.clone(),
            },
            Self::Missing { key } => Self::Missing { key: key.clone() },
        }
    }

    /// It was not sent, because the store has not answered for a while.
    pub(super) fn refused(op: &'static str, key: &Path) -> Self {
        let source = "it was not asked, because it has not answered for a while".into();
        Self::Unavailable {
            op,
            key: key.to_string(),
            source,
        }
    }

    pub(super) fn late(op: &'static str, key: &Path) -> Self {
        let source = "no answer in time".into();
        Self::Unavailable {
            op,
            key: key.to_string(),
            source,
        }
    }
}

impl CreateError {
    pub(super) fn of(key: &Path, source: object_store::Error) -> Self {
        match &source {
            object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. } => Self::Exists,
            error if is_denied(error) || was_never_applied(error) => {
                Self::Refused(StoreError::of("create", key, source))
            }
            _ => Self::Ambiguous(StoreError::of("create", key, source)),
        }
    }
}

/// No retry helps. `NotFound` gets here for a bucket only: a missing object is an answer.
fn is_denied(error: &object_store::Error) -> bool {
    use object_store::Error::{
        InvalidPath, NotFound, NotImplemented, NotSupported, PermissionDenied, Unauthenticated, UnknownConfigurationKey,
    };
    matches!(
        error,
        PermissionDenied { .. }
            | Unauthenticated { .. }
            | NotFound { .. }
            | NotImplemented { .. }
            | InvalidPath { .. }
            | NotSupported { .. }
            | UnknownConfigurationKey { .. }
    )
}

/// The request never left, or the local disk is full before the object got its name.
fn was_never_applied(error: &object_store::Error) -> bool {
    use std::io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(http) = error.downcast_ref::<HttpError>() {
            return http.kind() == HttpErrorKind::Connect;
        }
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return matches!(
                io.kind(),
                StorageFull | QuotaExceeded | ReadOnlyFilesystem | PermissionDenied
            );
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn outcome(source: impl std::error::Error + Send + Sync + 'static) -> CreateError {
        let error = object_store::Error::Generic {
            store: "test",
            source: Box::new(source),
        };
        CreateError::of(&Path::from("k"), error)
    }

    #[test]
    fn a_full_disk_refuses_and_a_broken_connection_leaves_it_open() {
        // The local store writes under another name first, so nothing half-written has the key.
        for kind in [
            io::ErrorKind::StorageFull,
            io::ErrorKind::ReadOnlyFilesystem,
            io::ErrorKind::QuotaExceeded,
        ] {
            assert!(
                matches!(outcome(io::Error::from(kind)), CreateError::Refused(_)),
                "{kind:?}"
            );
        }
        for kind in [
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::TimedOut,
            io::ErrorKind::UnexpectedEof,
        ] {
            assert!(
                matches!(outcome(io::Error::from(kind)), CreateError::Ambiguous(_)),
                "{kind:?}"
            );
        }
        let exists = object_store::Error::AlreadyExists {
            path: "k".into(),
            source: "409".into(),
        };
        assert!(matches!(CreateError::of(&Path::from("k"), exists), CreateError::Exists));
    }
}
