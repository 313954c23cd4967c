//! The bytes of log entries and staged blobs.
//!
//! A header of a few hundred bytes says who wrote the entry and what each request did; the rows
//! themselves lie behind it in sections. Requests of one batch with the same columns share
//! sections (`groups`), so that a thousand small writes do not pay for a thousand Arrow
//! streams; decoding hands each operation its slice.
//!
//! # What stays true
//!
//! - `decode(encode(e))` has the effects of `e`. Two things that have none are not kept:
//!   operations without rows, and columns of an upsert that are null in all its rows.
//! - Any bytes decode to an entry or an error: never a panic, never more memory than a small
//!   multiple of the input or [`SECTION_RAW_BYTES_MAX`] per group.
//! - The digest covers every byte before it, padding included.
//!
//! Bytes: `docs/formats/log.md`, `proto/log.proto`.

mod container;
mod groups;
mod pieces;
pub mod schema;
pub(crate) mod settings;
mod table;
#[cfg(test)]
pub(crate) mod tests;
mod vectors;

/// The messages of `proto/log.proto`.
pub mod proto {
    #![allow(clippy::doc_markdown, missing_docs, reason = "generated from proto/log.proto")]
    include!(concat!(env!("OUT_DIR"), "/shoal.log.v1.rs"));
}

use bytes::Bytes;
use prost::Message;
use uuid::Uuid;

use self::container::Kind;
use self::groups::{GroupReader, GroupWriter};
pub(super) use self::groups::{slice_batch, slice_ids};
use super::frame::{fixed, u128_bytes, u128_of, ulid_bytes, ulid_of};
use super::{BlobRef, DecodeError, Digest, Entry, EntryKind, Operation, Reply, RequestEffects};
use crate::model::datetime::CLOCK_MS_MAX;
use crate::model::write::Counts;
use crate::model::{Gen, Seq};
use crate::store::PutPayload;

/// The version of new entries.
pub const VERSION_WRITTEN: u32 = 1;
/// The oldest version that [`decode`] understands.
pub const VERSION_OLDEST_READ: u32 = 1;
/// The most bytes that the blobs of an entry may have together: many times what any request can bring.
const STAGED_BYTES_MAX: u64 = 1 << 40;
/// The most rows that an answer may count: what JSON's numbers can say exactly.
const COUNTED_MAX: u64 = 1 << 53;
/// The most bytes one compressed section may unpack to. An entry of the largest request body,
/// unstaged, stays below it.
pub const SECTION_RAW_BYTES_MAX: u64 = 1 << 30;

/// Encodes an entry. Takes about 1 ms per megabyte of attributes and two checksums of the vectors:
/// hand large ones to the CPU pool.
///
/// Returns the object's bytes, of which large vector columns are the entry's own and not a copy, and
/// their digest, which the next entry names.
///
/// Panics when a batch breaks the promises of [`RowBatch`](crate::model::RowBatch).
pub fn encode(entry: &Entry) -> (PutPayload, Digest) {
    let mut groups = GroupWriter::default();
    let (kind, requests) = match &entry.kind {
        EntryKind::Data(requests) => (
            match entry.branch() {
                Some(_) => proto::EntryKind::Branch,
                None => proto::EntryKind::Data,
            },
            requests.iter().map(|r| encode_request(r, &mut groups)).collect(),
        ),
        EntryKind::DeleteNamespace => (proto::EntryKind::DeleteNamespace, Vec::new()),
    };
    let (groups, body) = groups.finish();
    let header = proto::EntryHeader {
        namespace: Bytes::copy_from_slice(entry.namespace.as_bytes()),
        seq: entry.seq.0,
        writer: u128_bytes(entry.writer),
        batch: u128_bytes(entry.batch),
        writer_addr: entry.writer_addr.clone(),
        prev_digest: u128_bytes(entry.prev_digest.0),
        manifest_gen_hint: entry.manifest_gen_hint,
        hlc_ms: entry.hlc_ms,
        kind: kind as i32,
        requests,
        groups,
    };
    container::seal(Kind::Entry, &header.encode_to_vec(), body)
}

/// Decodes an entry and returns it with its digest. Any bytes are allowed.
///
/// Columns are slices of `bytes` where its alignment permits, so they keep all of it alive. Takes
/// about as long as [`encode`].
///
/// # Errors
///
/// [`DecodeError::Corrupt`]: read it again, then raise the alarm. [`DecodeError::Newer`]: upgrade.
pub fn decode(bytes: Bytes) -> Result<(Entry, Digest), DecodeError> {
    let (header, body, digest) = container::open(Kind::Entry, &bytes)?;
    let header = proto::EntryHeader::decode(header).map_err(|e| DecodeError::corrupt(format!("its header: {e}")))?;
    let kind = proto::EntryKind::try_from(header.kind)
        .map_err(|_| DecodeError::newer(format!("unknown entry kind {}", header.kind)))?;
    check_position(&header)?;
    let mut groups = GroupReader::new(&header.groups, &body)?;
    let requests = header
        .requests
        .iter()
        .map(|r| decode_request(r, &mut groups))
        .collect::<Result<Vec<_>, _>>()?;
    groups.finish()?;
    let kind = match kind {
        proto::EntryKind::Data if requests.iter().all(|r| r.branch.is_none()) => EntryKind::Data(requests),
        proto::EntryKind::Data => return Err(DecodeError::corrupt("a branch in an entry of another kind")),
        proto::EntryKind::Branch => match requests.as_slice() {
            [only] if only.branch.is_some() => EntryKind::Data(requests),
            _ => return Err(DecodeError::corrupt("a branch that is not made by one request alone")),
        },
        proto::EntryKind::DeleteNamespace if requests.is_empty() => EntryKind::DeleteNamespace,
        proto::EntryKind::DeleteNamespace => return Err(DecodeError::corrupt("a deletion with requests")),
        proto::EntryKind::Unspecified => return Err(DecodeError::corrupt("its header has no entry kind")),
    };
    let entry = Entry {
        namespace: Uuid::from_bytes(fixed(&header.namespace, "namespace")?),
        seq: Seq(header.seq),
        writer: u128_of(&header.writer, "writer")?,
        batch: u128_of(&header.batch, "batch")?,
        writer_addr: header.writer_addr,
        prev_digest: Digest(u128_of(&header.prev_digest, "prev_digest")?),
        manifest_gen_hint: header.manifest_gen_hint,
        hlc_ms: header.hlc_ms,
        kind,
    };
    Ok((entry, digest))
}

/// Whether the numbers of an entry are such that others can follow it.
fn check_position(header: &proto::EntryHeader) -> Result<(), DecodeError> {
    let staged = header.requests.iter().flat_map(|r| &r.staged);
    let staged_bytes = staged.fold(0u64, |sum, blob| sum.saturating_add(blob.len));
    let right = [
        ((1..=Seq::MAX.0).contains(&header.seq), "its number cannot be"),
        (
            header.manifest_gen_hint <= Gen::MAX.0,
            "it names a manifest that cannot be",
        ),
        (header.hlc_ms <= CLOCK_MS_MAX, "its clock says what cannot be"),
        (staged_bytes <= STAGED_BYTES_MAX, "its blobs are too large"),
    ];
    match right.into_iter().find(|(holds, _)| !holds) {
        None => Ok(()),
        Some((_, why)) => Err(DecodeError::corrupt(why)),
    }
}

/// Encodes some operations of one request as a blob of their own.
pub fn encode_blob(operations: &[Operation]) -> (PutPayload, Digest) {
    let mut groups = GroupWriter::default();
    let operations = operations.iter().filter_map(|op| groups.add(op)).collect();
    let (groups, body) = groups.finish();
    let header = proto::BlobHeader { operations, groups };
    container::seal(Kind::Blob, &header.encode_to_vec(), body)
}

/// Decodes a staged blob. Any bytes are allowed; errors as for [`decode`].
pub fn decode_blob(bytes: Bytes) -> Result<(Vec<Operation>, Digest), DecodeError> {
    let (header, body, digest) = container::open(Kind::Blob, &bytes)?;
    let header = proto::BlobHeader::decode(header).map_err(|e| DecodeError::corrupt(format!("its header: {e}")))?;
    let mut groups = GroupReader::new(&header.groups, &body)?;
    let operations = header
        .operations
        .iter()
        .map(|op| groups.take(op))
        .collect::<Result<Vec<_>, _>>()?;
    groups.finish()?;
    Ok((operations, digest))
}

fn encode_request(request: &RequestEffects, groups: &mut GroupWriter) -> proto::Request {
    proto::Request {
        request: u128_bytes(request.request),
        schema: (!request.schema.is_empty()).then(|| schema::change_to_proto(&request.schema)),
        operations: request.operations.iter().filter_map(|op| groups.add(op)).collect(),
        staged: request.staged.iter().map(blob_to_proto).collect(),
        reply: request.reply.as_ref().map(reply_to_proto),
        settings: (!request.settings.is_empty()).then(|| settings::change_to_proto(&request.settings)),
        branch: request.branch.clone().unwrap_or_default(),
    }
}

pub(crate) fn reply_to_proto(reply: &Reply) -> proto::Reply {
    let Counts {
        upserted,
        patched,
        deleted,
        remaining,
        logical_bytes,
        searched,
    } = reply.counts;
    proto::Reply {
        body: u128_bytes(reply.body),
        upserted,
        patched,
        deleted,
        remaining,
        logical_bytes,
        searched,
    }
}

pub(crate) fn reply_from_proto(reply: &proto::Reply) -> Result<Reply, DecodeError> {
    let rows = [reply.upserted, reply.patched, reply.deleted];
    if rows.into_iter().flatten().any(|n| n > COUNTED_MAX) {
        return Err(DecodeError::corrupt("an answer counts more rows than there can be"));
    }
    Ok(Reply {
        body: u128_of(&reply.body, "reply")?,
        counts: Counts {
            upserted: reply.upserted,
            patched: reply.patched,
            deleted: reply.deleted,
            remaining: reply.remaining,
            logical_bytes: reply.logical_bytes,
            searched: reply.searched,
        },
    })
}

fn decode_request(request: &proto::Request, groups: &mut GroupReader) -> Result<RequestEffects, DecodeError> {
    Ok(RequestEffects {
        request: u128_of(&request.request, "request")?,
        reply: request.reply.as_ref().map(reply_from_proto).transpose()?,
        schema: match &request.schema {
            Some(change) => schema::change_from_proto(change)?,
            None => Default::default(),
        },
        operations: request
            .operations
            .iter()
            .map(|op| groups.take(op))
            .collect::<Result<Vec<_>, _>>()?,
        staged: request
            .staged
            .iter()
            .map(blob_from_proto)
            .collect::<Result<Vec<_>, _>>()?,
        settings: match &request.settings {
            Some(change) => settings::change_from_proto(change)?,
            None => Default::default(),
        },
        branch: Some(request.branch.clone()).filter(|bytes| !bytes.is_empty()),
    })
}

fn blob_to_proto(blob: &BlobRef) -> proto::BlobRef {
    proto::BlobRef {
        key: ulid_bytes(blob.key),
        len: blob.len,
        digest: u128_bytes(blob.digest.0),
    }
}

fn blob_from_proto(blob: &proto::BlobRef) -> Result<BlobRef, DecodeError> {
    Ok(BlobRef {
        key: ulid_of(&blob.key, "blob key")?,
        len: blob.len,
        digest: Digest(u128_of(&blob.digest, "blob digest")?),
    })
}
