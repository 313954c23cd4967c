//! Vectors of query texts, the least lately used of which make room.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sha2::{Digest, Sha256};

/// Most bytes of vectors that are kept.
const BYTES_MAX: usize = 16 << 20;
/// What an entry takes besides its vector, about.
const ENTRY_BYTES: usize = 160;

/// Stands for a model, dimensions and a text.
pub(super) type Key = [u8; 32];

/// A digest rather than the text, which may be long.
pub(super) fn key(model: &str, dims: u32, text: &str) -> Key {
    let mut digest = Sha256::new();
    digest.update((model.len() as u64).to_le_bytes());
    digest.update(model);
    digest.update(dims.to_le_bytes());
    digest.update(text);
    digest.finalize().into()
}

#[derive(Default)]
pub(super) struct Cache {
    // Only looked up, never iterated: its order matters to nobody.
    entries: HashMap<Key, Entry>,
    /// The entries' keys by last use.
    by_use: BTreeMap<u64, Key>,
    uses: u64,
    bytes: usize,
}

struct Entry {
    vector: Arc<[f32]>,
    last_use: u64,
}

impl Cache {
    pub(super) fn get(&mut self, key: &Key) -> Option<Arc<[f32]>> {
        let entry = self.entries.get_mut(key)?;
        self.uses += 1;
        self.by_use.remove(&entry.last_use);
        entry.last_use = self.uses;
        self.by_use.insert(self.uses, *key);
        Some(entry.vector.clone())
    }

    pub(super) fn put(&mut self, key: Key, vector: Arc<[f32]>) {
        self.remove(&key);
        self.uses += 1;
        self.bytes += bytes(&vector);
        self.by_use.insert(self.uses, key);
        let last_use = self.uses;
        self.entries.insert(key, Entry { vector, last_use });
        while self.bytes > BYTES_MAX
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.by_use.remove(&entry.last_use);
            self.bytes -= bytes(&entry.vector);
        }
    }
}

fn bytes(vector: &[f32]) -> usize {
    4 * vector.len() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_lately_used_make_room() {
        let mut cache = Cache::default();
        let vector: Arc<[f32]> = vec![1.0; 10_000].into();
        let fits = BYTES_MAX / bytes(&vector);
        let key_of = |i: usize| key("m", 10_000, &i.to_string());
        for i in 0..fits {
            cache.put(key_of(i), vector.clone());
        }
        assert!(cache.get(&key_of(0)).is_some(), "everything fits");
        cache.put(key_of(fits), vector.clone());
        assert!(cache.get(&key_of(0)).is_some(), "it was used lately");
        assert!(cache.get(&key_of(1)).is_none());
        assert!(cache.bytes <= BYTES_MAX);
        cache.put(key_of(0), vector.clone());
        assert_eq!(cache.entries.len(), cache.by_use.len());
        assert_eq!(cache.bytes, cache.entries.len() * bytes(&vector));
    }

    #[test]
    fn model_dimensions_and_text_all_count() {
        let keys = [key("m", 2, "a"), key("ma", 2, ""), key("m", 3, "a"), key("m", 2, "b")];
        for (i, a) in keys.iter().enumerate() {
            assert!(keys[i + 1..].iter().all(|b| a != b));
        }
    }
}
