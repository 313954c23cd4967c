//! The lives of a namespace: from its creation to its deletion.

use aws_lc_rs::digest;
use uuid::Uuid;

use super::Seq;

/// What is known of a namespace between its creation and its deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incarnation {
    /// The entry that created it.
    pub genesis: Seq,
    /// What clients know it by: another one when it is created again under its old name.
    pub id: Uuid,
    pub created_ms: u64,
    /// When its newest entry with documents or schema was written.
    pub last_write_ms: u64,
}

impl Incarnation {
    /// The incarnation that the entry `genesis` of the log `namespace` creates.
    ///
    /// * `hlc_ms` — the entry's clock, milliseconds since the epoch
    pub fn begin(namespace: Uuid, genesis: Seq, hlc_ms: u64) -> Self {
        Self {
            genesis,
            id: incarnation_id(namespace, genesis),
            created_ms: hlc_ms,
            last_write_ms: hlc_ms,
        }
    }
}

/// The id of the incarnation that the entry `genesis` of a log creates (docs/formats/log.md).
fn incarnation_id(namespace: Uuid, genesis: Seq) -> Uuid {
    let mut hashed = b"shoal namespace id\0".to_vec();
    hashed.extend_from_slice(namespace.as_bytes());
    hashed.extend_from_slice(&genesis.0.to_be_bytes());
    let digest = digest::digest(&digest::SHA256, &hashed);
    let first = digest.as_ref().first_chunk().expect("a SHA-256 has 32 bytes");
    uuid::Builder::from_custom_bytes(*first).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens name these ids: they must never change.
    #[test]
    fn ids_of_incarnations_stay_what_they_are() {
        let namespace = Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
        let first = incarnation_id(namespace, Seq(1));
        assert_eq!(first.to_string(), "b4f3f3d9-e5b4-8f52-931b-cbfb00d52b1f");
        assert_eq!(first.get_version_num(), 8);
        let others = [incarnation_id(namespace, Seq(2)), incarnation_id(Uuid::nil(), Seq(1))];
        assert!(!others.contains(&first) && others[0] != others[1]);
    }
}
