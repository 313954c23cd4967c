//! The public error: what may the caller do next?

use std::time::Duration;

use crate::model::{Invalid, InvalidKind};

/// What the caller may do next. `api::error` gives each its status, in one match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Send something else: the request is wrong.
    Invalid,
    /// Send JSON of the documented shape.
    Shape,
    /// Send less.
    TooLarge,
    /// Send a credential.
    Unauthenticated,
    /// Ask somebody who may: the credential is known and does not allow this.
    Forbidden,
    /// Raise the plan, or use less: a quota of the organization is used up.
    QuotaExceeded,
    /// Nothing of that name exists.
    NotFound,
    /// Look at what is there first: the name is taken, or what is named is protected.
    Conflict,
    /// The client was too slow in sending.
    ClientTimeout,
    /// Ask for less: answering took too long.
    TooSlow,
    /// Send it again after a while: a limit of this moment.
    Overloaded,
    /// Nothing was done; send it again: the store cannot be reached.
    Unavailable,
    /// A write may or may not have happened: read before sending it again.
    Unknown,
    /// Nothing the caller can do; the operator has to look.
    Internal,
}

/// An error on its way to a client.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub kind: ErrorKind,
    /// One sentence for the client: no bucket keys, no internals.
    pub message: String,
    /// A word that programs match, such as `quota_databases`; in the dialects that have one.
    pub code: Option<&'static str>,
    /// When to try again, for [`ErrorKind::Overloaded`] and [`ErrorKind::Unavailable`].
    pub retry_after: Option<Duration>,
    /// For the log only.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of an engine call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with this sentence.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            code: None,
            retry_after: None,
            source: None,
        }
    }

    /// Keeps what caused it, for the log.
    pub fn because(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// Adds the word that programs match.
    pub fn coded(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// Names a time after which the caller may try again.
    pub fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// What is stored was written by a newer version of this program. Nodes that were upgraded may answer.
    pub fn newer_version() -> Self {
        let sentence = "this namespace was written by a newer version of shoal than this node runs: upgrade this node";
        Self::new(ErrorKind::Unavailable, sentence).after(Duration::from_secs(5))
    }

    /// 400 with this sentence.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        let kind = match invalid.kind {
            InvalidKind::Semantic => ErrorKind::Invalid,
            InvalidKind::Shape => ErrorKind::Shape,
            InvalidKind::TooLarge => ErrorKind::TooLarge,
        };
        Self::new(kind, invalid.message)
    }
}
