//! Holds: objects of a namespace that another one needs.
//!
//! A branch names segments that lie in the directory of the namespace they were made for. Before its first entry is
//! written, a hold on them is put into that directory; garbage collection there keeps them as long as the branch may
//! name them. The hold is removed when nothing of the branch that is still kept names them.
//!
//! Bytes: `docs/formats/manifest.md`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::DecodeError;
use crate::base::seal::{sealed, unsealed};
use crate::model::{NamespaceName, OrgId, Seq};
use crate::store::paths::NsKey;

/// A larger body is no hold's: as many objects as a manifest of the largest size can name.
pub const PIN_BYTES_MAX: usize = 4 << 20;
/// The version of new holds.
const VERSION_WRITTEN: u32 = 1;

/// Which objects are held for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The namespace that needs them.
    pub target: NsKey,
    /// The first log entry of it that says so.
    pub entry: Seq,
    pub segments: Vec<Ulid>,
    /// Deletion bitmaps.
    pub deletions: Vec<Ulid>,
}

#[derive(Serialize, Deserialize)]
struct Body {
    version: u32,
    org: String,
    namespace: String,
    entry: u64,
    segments: Vec<String>,
    deletions: Vec<String>,
}

impl Pin {
    /// The bytes of the object.
    pub fn encode(&self) -> Bytes {
        let body = Body {
            version: VERSION_WRITTEN,
            org: self.target.org().as_str().to_owned(),
            namespace: self.target.namespace().as_str().to_owned(),
            entry: self.entry.0,
            segments: self.segments.iter().map(Ulid::to_string).collect(),
            deletions: self.deletions.iter().map(Ulid::to_string).collect(),
        };
        sealed(serde_json::to_vec(&body).expect("names and numbers are JSON")).into()
    }

    /// The hold that any bytes are. One that was damaged on the way would hold something else, and what it is there for
    /// would be deleted: hence the checksum.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > PIN_BYTES_MAX {
            return Err(DecodeError::corrupt("it is too large for a hold"));
        }
        let bytes = unsealed(bytes).ok_or_else(|| DecodeError::corrupt("its checksum is wrong"))?;
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let corrupt = |e: serde_json::Error| DecodeError::corrupt(format!("it is no hold: {e}"));
        let Version { version } = serde_json::from_slice(bytes).map_err(corrupt)?;
        if version > VERSION_WRITTEN {
            return Err(DecodeError::newer(format!("hold of version {version}")));
        }
        let body: Body = serde_json::from_slice(bytes).map_err(corrupt)?;
        let org = OrgId::parse(&body.org).map_err(|_| DecodeError::corrupt("its organization has no good name"))?;
        let namespace = NamespaceName::parse(&body.namespace)
            .map_err(|_| DecodeError::corrupt("its namespace has no good name"))?;
        if !(1..=Seq::MAX.0).contains(&body.entry) {
            return Err(DecodeError::corrupt("it is held for an entry that cannot be"));
        }
        Ok(Self {
            target: NsKey::new(org, namespace),
            entry: Seq(body.entry),
            segments: ids(&body.segments)?,
            deletions: ids(&body.deletions)?,
        })
    }
}

fn ids(texts: &[String]) -> Result<Vec<Ulid>, DecodeError> {
    let id = |text: &String| Ulid::from_string(text).map_err(|_| DecodeError::corrupt("it holds what has no name"));
    texts.iter().map(id).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pin(ids: Vec<u128>, entry: u64) -> Pin {
        let ids: Vec<Ulid> = ids.into_iter().map(Ulid::from).collect();
        Pin {
            target: NsKey::new(OrgId::default_org(), NamespaceName::parse("a.B").expect("a name")),
            entry: Seq(entry),
            deletions: ids.iter().rev().copied().collect(),
            segments: ids,
        }
    }

    proptest! {
        #[test]
        fn a_hold_is_read_back(ids: Vec<u128>, entry in 1..=Seq::MAX.0) {
            let pin = pin(ids, entry);
            prop_assert_eq!(Pin::decode(&pin.encode()), Ok(pin));
        }

        #[test]
        fn any_bytes_are_a_hold_or_an_error(bytes: Vec<u8>, cut in 0usize..80, flip in 0usize..600) {
            let _ = Pin::decode(&bytes);
            let mut whole = pin(vec![1, 2], 3).encode().to_vec();
            let at = flip % (whole.len() * 8);
            whole[at / 8] ^= 1 << (at % 8);
            prop_assert!(Pin::decode(&whole).is_err());
            whole.truncate(cut);
            prop_assert!(Pin::decode(&whole).is_err());
        }
    }

    #[test]
    fn a_hold_for_an_entry_that_cannot_be_is_refused() {
        for entry in [0, Seq::MAX.0 + 1, u64::MAX] {
            assert!(Pin::decode(&pin(vec![1], entry).encode()).is_err(), "{entry}");
        }
    }

    #[test]
    fn what_a_newer_version_wrote_is_refused() {
        let newer = sealed(br#"{"version":2}"#.to_vec());
        assert!(matches!(Pin::decode(&newer), Err(DecodeError::Newer(_))));
    }
}
