//! Objects that only one node ever writes: whatever is found under their keys is its own.

use bytes::Bytes;
use object_store::path::Path;

use crate::store::{CreateError, Store, StoreError};

/// How often an object whose fate is unknown is sent again.
const RESENDS_MAX: usize = 4;

/// Why an object was not created.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotCreated {
    /// Nothing was done.
    #[error(transparent)]
    Refused(StoreError),
    /// It may be there, or appear later: only the same bytes may be sent to this key from now on.
    #[error("it is unknown whether object {key} was created")]
    Unknown {
        key: String,
        #[source]
        error: Option<StoreError>,
    },
}

/// Creates an object under a key that nobody else uses. Costs one PUT; a GET and a PUT more for each answer that
/// says nothing, or that something is there.
pub(super) async fn create_own(store: &Store, key: &Path, body: &Bytes) -> Result<(), NotCreated> {
    let mut failure = None;
    let mut is_clean = true;
    for _ in 0..RESENDS_MAX {
        match store.create(key, body.clone()).await {
            Ok(()) => return Ok(()),
            Err(CreateError::Refused(error)) if is_clean => return Err(NotCreated::Refused(error)),
            Err(CreateError::Exists) => {}
            Err(CreateError::Refused(error) | CreateError::Ambiguous(error)) => failure = Some(error),
        }
        is_clean = false;
        match store.get(key).await {
            Ok(Some(found)) if found == *body => return Ok(()),
            // Not there yet, or damaged on its way.
            Ok(_) => {}
            Err(error) => failure = Some(error),
        }
    }
    Err(NotCreated::Unknown {
        key: key.to_string(),
        error: failure,
    })
}
