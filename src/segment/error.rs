//! What a segment that cannot be read means to a client.

use std::time::Duration;

use super::SegmentError;
use crate::error::{Error, ErrorKind};
use crate::store::StoreError;

impl SegmentError {
    /// Whether an object does not exist that a manifest names: collected since, when a newer manifest does not name
    /// it any more.
    pub fn is_missing(&self) -> bool {
        matches!(self, SegmentError::Store(StoreError::Missing { .. }))
    }

    /// Whether an error on its way to a client comes from such an object. The same on a newer snapshot may succeed.
    pub fn is_behind(error: &Error) -> bool {
        let source = error.source.as_ref().and_then(|s| s.downcast_ref::<SegmentError>());
        source.is_some_and(SegmentError::is_missing)
    }
}

impl From<SegmentError> for Error {
    fn from(error: SegmentError) -> Self {
        if matches!(error, SegmentError::Newer { .. }) {
            return Error::newer_version().because(error);
        }
        let again = match &error {
            SegmentError::Store(StoreError::Unavailable { .. } | StoreError::Missing { .. }) => true,
            SegmentError::Store(StoreError::Denied { .. } | StoreError::Corrupt { .. }) => false,
            SegmentError::Damaged { .. } | SegmentError::Newer { .. } => false,
        };
        let said = match again {
            true => Error::new(
                ErrorKind::Unavailable,
                "object storage cannot be reached, so an answer is not possible; try again",
            )
            .after(Duration::from_secs(1)),
            false => Error::new(
                ErrorKind::Internal,
                "stored data of this namespace cannot be read; an operator has to look",
            ),
        };
        said.because(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_object_is_recognised_on_its_way_to_a_client() {
        let key = || "o/x/seg/1".to_owned();
        let missing: Error = SegmentError::Store(StoreError::Missing { key: key() }).into();
        assert_eq!(missing.kind, ErrorKind::Unavailable);
        assert!(SegmentError::is_behind(&missing));
        let why = "a CRC does not fit".to_owned();
        let damaged: Error = SegmentError::Damaged { key: key(), why }.into();
        assert_eq!(damaged.kind, ErrorKind::Internal);
        assert!(!SegmentError::is_behind(&damaged) && !damaged.message.contains("seg/"));
    }
}
