//! Things of the store as JSON.

use chrono::{DateTime, SecondsFormat};
use serde_json::{Value as Json, json};

use crate::manifest::{Deletions, Manifest, ManifestSegment};
use crate::model::{AttrId, Schema, Settings, schema_json};
use crate::segment::{SectionInfo, Segment};
use crate::store::paths::NsKey;
use crate::wal::{Digest, EntryKind, Logged, Operation, RequestEffects};

/// Requests and operations of an entry that are described; it may have thousands.
const DESCRIBED_MAX: usize = 100;

/// A time in UTC, from milliseconds since the epoch.
pub fn time(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(DateTime::from_timestamp_millis);
    time.map_or_else(
        || format!("{ms} ms"),
        |time| time.to_rfc3339_opts(SecondsFormat::Millis, true),
    )
}

fn digest(digest: Digest) -> String {
    format!("{:032x}", digest.0)
}

fn owner(owner: &NsKey) -> String {
    format!("{}/{}", owner.org(), owner.namespace())
}

/// All that a manifest says, segments as [`segment`] has them.
pub fn manifest(manifest: &Manifest, own: Digest, bytes: Option<u64>, segments: Vec<Json>) -> Json {
    let incarnation = manifest.incarnation.map(|i| {
        json!({
            "id": i.id.to_string(), "genesis": i.genesis.0, "created_at": time(i.created_ms),
            "last_write_at": time(i.last_write_ms),
        })
    });
    json!({
        "gen": manifest.generation.0, "created_at": time(manifest.created_ms), "bytes": bytes,
        "digest": digest(own), "prev_digest": digest(manifest.prev_digest),
        "writer": format!("{:032x}", manifest.writer), "job": manifest.job.to_string(),
        "log_id": manifest.namespace.to_string(), "clock": time(manifest.hlc_ms),
        "indexed_seq": manifest.indexed_seq.0, "indexed_digest": digest(manifest.indexed_digest),
        "incarnation": incarnation, "rows": manifest.rows(),
        "schema": schema_json::v2(&manifest.schema), "settings": (*manifest.settings != Settings::default()).then(|| format!("{:?}", manifest.settings)),
        "remembered_answers": manifest.recent.entries().map(|e| e.replies.len()).sum::<usize>(),
        "segments": segments,
    })
}

/// What a manifest says of a segment.
pub fn segment(named: &ManifestSegment) -> Json {
    let meta = &named.meta;
    let deletions = match &named.deletions {
        Deletions::None => "none".to_owned(),
        Deletions::Inline(_) => "in the manifest".to_owned(),
        Deletions::Object(object) => format!("{} of {} bytes", object.key, object.len),
    };
    json!({
        "id": meta.id.0.to_string(), "level": meta.level, "rows": meta.rows, "live": named.live(),
        "bytes": meta.len, "logical_bytes": meta.logical_bytes, "hot_bytes": meta.hot_len,
        "min_seq": meta.min_seq.0, "max_seq": meta.max_seq.0,
        "place": match (&meta.inline, &meta.owner) {
            (Some(_), _) => "in the manifest".to_owned(),
            (None, Some(of)) => format!("with {}", owner(of)),
            (None, None) => "own object".to_owned(),
        },
        "deletions": deletions, "deleted": named.deletions.rows(),
    })
}

/// The sections of a segment.
pub fn sections(segment: &Segment, schema: &Schema) -> Json {
    let name = |id: AttrId| {
        let known = schema.attributes().find(|a| a.id == id);
        known.map_or_else(|| format!("number {}", id.0), |a| a.name.to_string())
    };
    let described = |section: SectionInfo| {
        json!({
            "kind": section.kind, "attribute": section.attribute.map(name), "offset": section.offset,
            "bytes": section.len, "hot_bytes": section.hot_len,
        })
    };
    segment.sections().into_iter().map(described).collect()
}

/// How many bytes the kinds of sections take together.
pub fn sums(segment: &Segment) -> Json {
    let mut sums: Vec<(&str, u64)> = Vec::new();
    for section in segment.sections() {
        let bytes = section.len + section.hot_len;
        match sums.iter_mut().find(|(kind, _)| *kind == section.kind) {
            Some((_, sum)) => *sum += bytes,
            None => sums.push((section.kind, bytes)),
        }
    }
    sums.into_iter()
        .map(|(kind, bytes)| json!({"kind": kind, "bytes": bytes}))
        .collect()
}

/// What an entry says of itself and what it does, without rows.
pub fn entry(logged: &Logged) -> Json {
    let entry = &logged.entry;
    let (kind, requests) = match &entry.kind {
        EntryKind::DeleteNamespace => ("delete namespace", &[][..]),
        EntryKind::Data(requests) if entry.branch().is_some() => ("branch", requests.as_slice()),
        EntryKind::Data(requests) => ("data", requests.as_slice()),
    };
    let described: Vec<Json> = requests.iter().take(DESCRIBED_MAX).map(request).collect();
    json!({
        "seq": entry.seq.0, "kind": kind, "bytes": logged.bytes, "clock": time(entry.hlc_ms),
        "log_id": entry.namespace.to_string(), "digest": digest(logged.digest),
        "prev_digest": digest(entry.prev_digest), "writer": format!("{:032x}", entry.writer),
        "writer_address": entry.writer_addr, "batch": format!("{:032x}", entry.batch),
        "known_gen": entry.manifest_gen_hint, "requests": requests.len(), "described": described,
    })
}

fn request(request: &RequestEffects) -> Json {
    let operations: Vec<Json> = request.operations.iter().take(DESCRIBED_MAX).map(operation).collect();
    let blobs = request.staged.iter().take(DESCRIBED_MAX);
    let blobs: Vec<Json> = blobs
        .map(|blob| json!({"id": blob.key.to_string(), "bytes": blob.len}))
        .collect();
    json!({
        "request": format!("{:032x}", request.request), "is_remembered": request.reply.is_some(),
        "changes_schema": !request.schema.is_empty(), "changes_settings": !request.settings.is_empty(),
        "operations": operations, "blobs": blobs,
    })
}

fn operation(operation: &Operation) -> Json {
    let (kind, columns) = match operation {
        Operation::Upsert(batch) => ("upsert", Some(batch)),
        Operation::Patch(batch) => ("patch", Some(batch)),
        Operation::Delete(_) => ("delete", None),
    };
    let names: Vec<&str> = columns.iter().flat_map(|b| &b.columns).map(|c| &*c.name).collect();
    json!({"kind": kind, "rows": operation.rows(), "attributes": names})
}
