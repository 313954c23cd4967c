//! Bytes in pieces, so that large buffers are sent from where they lie.

use bytes::Bytes;

/// Shorter pieces are copied together: a piece costs a system call on local disk.
const SHARE_BYTES_MIN: usize = 64 * 1024;

/// One run of bytes, made of shared buffers and of copies in between.
#[derive(Default)]
pub(super) struct Pieces {
    done: Vec<Bytes>,
    /// Copies that no shared buffer follows yet.
    open: Vec<u8>,
    /// Bytes in `done`.
    done_bytes: u64,
}

impl Pieces {
    /// How many bytes.
    pub fn len(&self) -> u64 {
        self.done_bytes + self.open.len() as u64
    }

    /// Appends a buffer, without a copy if it is large.
    pub fn push(&mut self, bytes: Bytes) {
        if bytes.len() < SHARE_BYTES_MIN {
            self.open.extend_from_slice(&bytes);
            return;
        }
        self.close();
        self.done_bytes += bytes.len() as u64;
        self.done.push(bytes);
    }

    /// Appends zeros up to the next multiple of `align`.
    pub fn pad(&mut self, align: usize) {
        let missing = self.len().next_multiple_of(align as u64) - self.len();
        self.open.resize(self.open.len() + missing as usize, 0);
    }

    /// The pieces, in order.
    pub fn into_bytes(mut self) -> Vec<Bytes> {
        self.close();
        self.done
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.done_bytes += self.open.len() as u64;
            self.done.push(std::mem::take(&mut self.open).into());
        }
    }
}

impl From<Vec<u8>> for Pieces {
    fn from(bytes: Vec<u8>) -> Self {
        Self {
            open: bytes,
            ..Self::default()
        }
    }
}
