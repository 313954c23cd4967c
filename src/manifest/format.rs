//! The bytes of manifests.
//!
//! # What stays true
//!
//! - `decode(encode(m))` is `m`.
//! - Any bytes decode to a manifest that [`Manifest::check`] accepts, or to an error: never a panic, never more memory
//!   than a small multiple of the input.
//!
//! Bytes: `docs/formats/manifest.md`, `proto/manifest.proto`.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_128;

use super::deletions::{decode_bitmap, encode_bitmap};
use super::{Deletions, DeletionsObject, MANIFEST_BYTES_MAX, Manifest, ManifestSegment};
use crate::model::recent::REMEMBERED_MAX;
use crate::model::write::Reply;
use crate::model::{AttrId, Gen, Incarnation, NamespaceName, OrgId, Recent, RememberedEntry, Schema, Seq, Settings};
use crate::segment::{SegmentId, SegmentMeta};
use crate::store::paths::NsKey;
use crate::wal::format as log;
use crate::wal::frame::{Frame, TRAILER_BYTES, check_digest, fixed, u32_at, u128_bytes, u128_of, ulid_bytes, ulid_of};
use crate::wal::{DecodeError, Digest};

/// The messages of `proto/manifest.proto`.
pub mod proto {
    #![allow(clippy::doc_markdown, missing_docs, reason = "generated from proto/manifest.proto")]
    include!(concat!(env!("OUT_DIR"), "/shoal.manifest.v1.rs"));
}

/// The version of new manifests.
pub const VERSION_WRITTEN: u32 = 1;
/// The oldest version that [`decode`] understands.
pub const VERSION_OLDEST_READ: u32 = 1;

const FIXED_BYTES: usize = 32;
const FRAME: Frame<FIXED_BYTES> = Frame {
    magic: b"SHOALMAN",
    versions: VERSION_OLDEST_READ..=VERSION_WRITTEN,
    features_at: 16,
};

/// Encodes a manifest, and returns its bytes with the digest that the next one names.
pub fn encode(manifest: &Manifest) -> (Bytes, Digest) {
    let message = to_proto(manifest);
    let len = message.encoded_len();
    let mut bytes = Vec::with_capacity(FIXED_BYTES + len + TRAILER_BYTES);
    // A longer one is refused before it is published.
    let message_len = u32::try_from(len).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&FRAME.first(|fixed| fixed[12..16].copy_from_slice(&message_len.to_le_bytes())));
    message.encode(&mut bytes).expect("a vector has room");
    let digest = xxh3_128(&bytes);
    bytes.extend_from_slice(&digest.to_le_bytes());
    (bytes.into(), Digest(digest))
}

/// Decodes a manifest and returns it with its digest. Any bytes are allowed. Inline segments are slices of `bytes`.
///
/// # Errors
///
/// [`DecodeError::Corrupt`]: read it again, then raise the alarm. [`DecodeError::Newer`]: upgrade.
pub fn decode(bytes: &Bytes) -> Result<(Manifest, Digest), DecodeError> {
    let (message, digest) = open(bytes)?;
    let message = proto::Manifest::decode(message).map_err(|e| DecodeError::corrupt(format!("its message: {e}")))?;
    let manifest = from_proto(message)?;
    manifest.check().map_err(|e| DecodeError::corrupt(e.to_string()))?;
    Ok((manifest, digest))
}

/// Checks the frame; returns the message and the digest.
fn open(bytes: &Bytes) -> Result<(Bytes, Digest), DecodeError> {
    if bytes.len() > MANIFEST_BYTES_MAX {
        return Err(DecodeError::corrupt(format!("{} bytes are too many", bytes.len())));
    }
    let fixed = FRAME.check(bytes)?;
    let end = FIXED_BYTES as u64 + u64::from(u32_at(fixed, 12));
    let digest = check_digest(bytes, end.checked_add(TRAILER_BYTES as u64))?;
    Ok((bytes.slice(FIXED_BYTES..bytes.len() - TRAILER_BYTES), digest))
}

fn to_proto(manifest: &Manifest) -> proto::Manifest {
    let settings = manifest.settings.as_change();
    proto::Manifest {
        namespace: Bytes::copy_from_slice(manifest.namespace.as_bytes()),
        r#gen: manifest.generation.0,
        prev_digest: u128_bytes(manifest.prev_digest.0),
        writer: u128_bytes(manifest.writer),
        job: ulid_bytes(manifest.job),
        created_ms: manifest.created_ms,
        indexed_seq: manifest.indexed_seq.0,
        indexed_digest: u128_bytes(manifest.indexed_digest.0),
        hlc_ms: manifest.hlc_ms,
        incarnation: manifest.incarnation.map(|i| proto::Incarnation {
            genesis: i.genesis.0,
            id: Bytes::copy_from_slice(i.id.as_bytes()),
            created_ms: i.created_ms,
            last_write_ms: i.last_write_ms,
        }),
        schema: Some(schema_to_proto(&manifest.schema)),
        settings: (!settings.is_empty()).then(|| log::settings::change_to_proto(&settings)),
        recent: manifest.recent.entries().map(answers_to_proto).collect(),
        segments: manifest.segments.iter().map(segment_to_proto).collect(),
        pins: manifest.pins.iter().map(|pin| ulid_bytes(*pin)).collect(),
    }
}

fn from_proto(message: proto::Manifest) -> Result<Manifest, DecodeError> {
    let incarnation = message.incarnation.map(|i| {
        Ok::<_, DecodeError>(Incarnation {
            genesis: Seq(i.genesis),
            id: Uuid::from_bytes(fixed(&i.id, "incarnation")?),
            created_ms: i.created_ms,
            last_write_ms: i.last_write_ms,
        })
    });
    let mut settings = Settings::default();
    if let Some(change) = &message.settings {
        settings.apply(&log::settings::change_from_proto(change)?);
    }
    let segments = message.segments.into_iter().map(segment_from_proto);
    let pins = message.pins.iter().map(|pin| ulid_of(pin, "hold"));
    Ok(Manifest {
        generation: Gen(message.r#gen),
        prev_digest: Digest(u128_of(&message.prev_digest, "prev_digest")?),
        namespace: Uuid::from_bytes(fixed(&message.namespace, "namespace")?),
        writer: u128_of(&message.writer, "writer")?,
        job: ulid_of(&message.job, "job")?,
        created_ms: message.created_ms,
        indexed_seq: Seq(message.indexed_seq),
        indexed_digest: Digest(u128_of(&message.indexed_digest, "indexed_digest")?),
        hlc_ms: message.hlc_ms,
        incarnation: incarnation.transpose()?,
        schema: Arc::new(schema_from_proto(&message.schema.unwrap_or_default())?),
        settings: Arc::new(settings),
        recent: Arc::new(recent_from_proto(&message.recent)?),
        segments: segments.collect::<Result<_, _>>()?,
        pins: pins.collect::<Result<_, _>>()?,
    })
}

fn schema_to_proto(schema: &Schema) -> proto::Schema {
    proto::Schema {
        id_kind: schema
            .id_kind
            .map_or(log::proto::IdKind::Unspecified, log::schema::id_kind_to_proto) as i32,
        attributes: schema.attributes().map(log::schema::attribute_to_proto).collect(),
        next_attribute: schema.next_attribute_id().0,
    }
}

fn schema_from_proto(message: &proto::Schema) -> Result<Schema, DecodeError> {
    let mut schema = Schema::default();
    schema.id_kind = log::schema::id_kind_from_proto(message.id_kind)?;
    for attribute in &message.attributes {
        if attribute.id >= message.next_attribute || schema.get(&attribute.name).is_some() {
            return Err(DecodeError::corrupt(
                "an attribute is there twice, or has a number that is not used up",
            ));
        }
        schema.put(log::schema::attribute_from_proto(attribute)?);
    }
    Ok(schema.with_used_below(AttrId(message.next_attribute)))
}

fn answers_to_proto(entry: RememberedEntry) -> proto::Answers {
    let answer = |(request, reply): &(u128, Reply)| proto::Answer {
        request: u128_bytes(*request),
        reply: Some(log::reply_to_proto(reply)),
    };
    proto::Answers {
        seq: entry.seq.0,
        hlc_ms: entry.hlc_ms,
        answers: entry.replies.iter().map(answer).collect(),
    }
}

fn recent_from_proto(messages: &[proto::Answers]) -> Result<Recent, DecodeError> {
    if messages.iter().map(|m| m.answers.len()).sum::<usize>() > REMEMBERED_MAX {
        return Err(DecodeError::corrupt("it remembers too many answers"));
    }
    let answer = |message: &proto::Answer| {
        let reply = message.reply.as_ref();
        let reply = reply.ok_or_else(|| DecodeError::corrupt("an answer says nothing"))?;
        Ok::<_, DecodeError>((u128_of(&message.request, "request")?, log::reply_from_proto(reply)?))
    };
    let entries = messages.iter().map(|message| {
        Ok::<_, DecodeError>(RememberedEntry {
            seq: Seq(message.seq),
            hlc_ms: message.hlc_ms,
            replies: message.answers.iter().map(answer).collect::<Result<_, _>>()?,
        })
    });
    Ok(Recent::from_entries(entries.collect::<Result<Vec<_>, _>>()?))
}

fn segment_to_proto(segment: &ManifestSegment) -> proto::Segment {
    let (meta, deletions) = (&segment.meta, &segment.deletions);
    proto::Segment {
        id: ulid_bytes(meta.id.0),
        level: meta.level,
        rows: meta.rows,
        min_seq: meta.min_seq.0,
        max_seq: meta.max_seq.0,
        len: meta.len,
        hot_offset: meta.hot_offset,
        hot_len: meta.hot_len,
        hot_crc: meta.hot_crc,
        logical_bytes: meta.logical_bytes,
        owner: meta.owner.as_ref().map(owner_to_proto),
        inline: meta.inline.clone().unwrap_or_default(),
        live: segment.live(),
        deletions: deletions.inline().map(encode_bitmap).unwrap_or_default(),
        deletions_object: deletions.object().map(|object| proto::DeletionsObject {
            key: ulid_bytes(object.key),
            len: object.len,
            crc32c: object.crc,
            rows: object.rows,
            owner: object.owner.as_ref().map(owner_to_proto),
        }),
        made_as: meta.made_as.map(|id| ulid_bytes(id.0)).unwrap_or_default(),
    }
}

fn segment_from_proto(message: proto::Segment) -> Result<ManifestSegment, DecodeError> {
    let deletions = match (message.deletions.is_empty(), message.deletions_object) {
        (true, None) => Deletions::None,
        (false, None) => Deletions::Inline(Arc::new(decode_bitmap(&message.deletions)?)),
        (true, Some(object)) => Deletions::Object(DeletionsObject {
            key: ulid_of(&object.key, "deletion bitmap")?,
            len: object.len,
            crc: object.crc32c,
            rows: object.rows,
            owner: object.owner.map(|o| owner_from_proto(&o)).transpose()?,
        }),
        (false, Some(_)) => return Err(DecodeError::corrupt("a segment has two deletion bitmaps")),
    };
    let made_as = match message.made_as.is_empty() {
        true => None,
        false => Some(SegmentId(ulid_of(&message.made_as, "segment")?)),
    };
    let meta = SegmentMeta {
        id: SegmentId(ulid_of(&message.id, "segment")?),
        level: message.level,
        rows: message.rows,
        min_seq: Seq(message.min_seq),
        max_seq: Seq(message.max_seq),
        len: message.len,
        hot_offset: message.hot_offset,
        hot_len: message.hot_len,
        hot_crc: message.hot_crc,
        logical_bytes: message.logical_bytes,
        owner: message.owner.map(|o| owner_from_proto(&o)).transpose()?,
        inline: Some(message.inline).filter(|bytes| !bytes.is_empty()),
        made_as,
    };
    let segment = ManifestSegment { meta, deletions };
    match segment.live() == message.live {
        true => Ok(segment),
        false => Err(DecodeError::corrupt("a segment's rows do not add up")),
    }
}

fn owner_to_proto(owner: &NsKey) -> proto::Owner {
    proto::Owner {
        org: owner.org().as_str().to_owned(),
        namespace: owner.namespace().as_str().to_owned(),
    }
}

fn owner_from_proto(message: &proto::Owner) -> Result<NsKey, DecodeError> {
    let invalid = |_| DecodeError::corrupt("a segment lies with a namespace that cannot be");
    let org = OrgId::parse(&message.org).map_err(invalid)?;
    let namespace = NamespaceName::parse(&message.namespace).map_err(invalid)?;
    Ok(NsKey::new(org, namespace))
}
