//! Idempotency keys: by which a request that is sent again is known.

use sha2::{Digest as _, Sha256};
use xxhash_rust::xxh3::xxh3_128;

use super::Invalid;

/// The longest key that a client may choose, in bytes.
pub const KEY_BYTES_MAX: usize = 255;

/// A client's key for one request to one namespace, and what the request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Stands for the key: the first half of its SHA-256.
    pub number: u128,
    /// Tells whether it is the same request: xxh3-128 of its body.
    pub body: u128,
}

impl IdempotencyKey {
    /// * `key` — the value of the header `Idempotency-Key`
    /// * `body` — of the request, decompressed
    ///
    /// # Errors
    ///
    /// A key that is empty, or longer than [`KEY_BYTES_MAX`].
    pub fn new(key: &[u8], body: &[u8]) -> Result<Self, Invalid> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(Invalid::new(format!(
                "Idempotency-Key must have 1 to {KEY_BYTES_MAX} characters, got {}",
                key.len()
            )));
        }
        let hash: [u8; 32] = Sha256::digest(key).into();
        let half = *hash.first_chunk().expect("16 of 32 bytes");
        Ok(Self {
            number: u128::from_le_bytes(half),
            body: xxh3_128(body),
        })
    }
}
