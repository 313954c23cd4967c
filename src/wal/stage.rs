//! Staging: large requests uploaded before their entry is written.
//!
//! The entry of a batch should stay small, because every write of the namespace waits for its
//! upload. A large request is cut into blobs, which are uploaded in parallel while other batches
//! commit, and its entry only names them. Blobs that no entry came to name are garbage.

use arrow::array::Array;

use super::format::{self, slice_batch, slice_ids};
use super::{Digest, Operation};
use crate::model::{Column, IdColumn, RowBatch};
use crate::store::PutPayload;

/// About how large a blob becomes, in bytes before compression. One row larger than this has a
/// blob of its own.
pub const BLOB_BYTES_TARGET: usize = 16 * 1024 * 1024;

/// A part of a request, ready for upload.
#[derive(Clone, Debug)]
pub struct StagedBlob {
    pub bytes: PutPayload,
    /// The trailer of `bytes`.
    pub digest: Digest,
}

/// Cuts a request's operations into blobs which, applied in order, do the same. Takes about as
/// long as encoding an entry with all of them: belongs on the CPU pool.
pub fn stage(operations: &[Operation]) -> Vec<StagedBlob> {
    stage_into(operations, BLOB_BYTES_TARGET)
}

pub(super) fn stage_into(operations: &[Operation], target_bytes: usize) -> Vec<StagedBlob> {
    let mut stager = Stager::new(operations);
    stager.target_bytes = target_bytes;
    stager.collect()
}

/// Makes the blobs of [`stage`] one at a time, so that not all have to be in memory at once. Each
/// step encodes about [`BLOB_BYTES_TARGET`] bytes: belongs on the CPU pool.
pub struct Stager {
    /// Still to be placed, the next one last.
    pieces: Vec<Operation>,
    target_bytes: usize,
}

impl Stager {
    /// Takes a request's operations, of which it shares the columns.
    pub fn new(operations: &[Operation]) -> Self {
        Self {
            pieces: operations.iter().rev().filter(|op| op.rows() > 0).cloned().collect(),
            target_bytes: BLOB_BYTES_TARGET,
        }
    }
}

impl Iterator for Stager {
    type Item = StagedBlob;

    fn next(&mut self) -> Option<StagedBlob> {
        let mut batch: Vec<Operation> = Vec::new();
        let mut batch_bytes = 0;
        while let Some(piece) = self.pieces.pop() {
            let bytes = operation_bytes(&piece);
            if bytes > self.target_bytes && piece.rows() > 1 {
                let half = piece.rows() / 2;
                self.pieces.push(slice(&piece, half, piece.rows() - half));
                self.pieces.push(slice(&piece, 0, half));
                continue;
            }
            if batch_bytes + bytes > self.target_bytes && !batch.is_empty() {
                self.pieces.push(piece);
                break;
            }
            batch_bytes += bytes;
            batch.push(piece);
        }
        (!batch.is_empty()).then(|| seal(&batch))
    }
}

fn seal(operations: &[Operation]) -> StagedBlob {
    let (bytes, digest) = format::encode_blob(operations);
    StagedBlob { bytes, digest }
}

fn slice(operation: &Operation, first: usize, rows: usize) -> Operation {
    match operation {
        Operation::Upsert(batch) => Operation::Upsert(slice_batch(batch, first, rows)),
        Operation::Patch(batch) => Operation::Patch(slice_batch(batch, first, rows)),
        Operation::Delete(ids) => Operation::Delete(slice_ids(ids, first, rows)),
    }
}

/// About how many bytes an operation takes in an entry, before compression.
pub fn operation_bytes(operation: &Operation) -> usize {
    match operation {
        Operation::Upsert(batch) | Operation::Patch(batch) => batch_bytes(batch),
        Operation::Delete(ids) => ids_bytes(ids),
    }
}

fn batch_bytes(batch: &RowBatch) -> usize {
    let columns = batch.columns.iter().map(|c| match &c.column {
        Column::Values(array) => array_bytes(array),
        Column::Vectors(vectors) => vectors.data.len(),
    });
    ids_bytes(&batch.ids) + columns.sum::<usize>()
}

fn ids_bytes(ids: &IdColumn) -> usize {
    array_bytes(&ids.to_array())
}

fn array_bytes(array: &dyn Array) -> usize {
    // Only of the slice, unlike `get_array_memory_size`. It fails for layouts we do not use.
    array.to_data().get_slice_memory_size().unwrap_or(usize::MAX / 4096)
}
