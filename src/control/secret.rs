//! The deployment secret and what is derived from it. Nothing here is stored, and nothing prints it.

use std::fmt;

use aws_lc_rs::{aead, digest, hkdf, hmac};

/// Text that is never printed: its `Debug` says only that it is there.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(String);

impl Hidden {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text. Whoever calls this keeps it out of logs and answers.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// One deployment secret.
#[derive(Clone)]
pub struct Secret {
    ikm: Vec<u8>,
    id: String,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.id)
    }
}

impl Secret {
    /// * `ikm` — at least 32 bytes that nobody can guess
    pub fn new(ikm: &[u8]) -> Self {
        let hash = digest::digest(&digest::SHA256, &[b"shoal secret id\0", ikm].concat());
        Self {
            ikm: ikm.to_vec(),
            id: hash.as_ref()[..4].iter().map(|b| format!("{b:02x}")).collect(),
        }
    }

    /// The secret of a deployment that was given none: made of its bootstrap key.
    pub fn of_bootstrap_key(key: &str) -> Self {
        let hash = digest::digest(&digest::SHA256, format!("shoal bootstrap\0{key}").as_bytes());
        Self::new(hash.as_ref())
    }

    /// Tells secrets apart: eight hexadecimal digits of a hash.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// 32 bytes for one use: HKDF-SHA256 without salt, `info` being the parts with NUL between.
    pub fn derive(&self, info: &[&str]) -> [u8; 32] {
        let info = info.join("\0");
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&self.ikm);
        let mut out = [0; 32];
        prk.expand(&[info.as_bytes()], hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut out))
            .expect("32 bytes are a legal length");
        out
    }

    /// HMAC-SHA256 under a key derived for `label`.
    pub fn mac(&self, label: &str, message: &[u8]) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.derive(&[label]));
        let mut out = [0; 32];
        out.copy_from_slice(hmac::sign(&key, message).as_ref());
        out
    }

    /// Encrypts and authenticates (AES-256-GCM): nonce, ciphertext, tag.
    ///
    /// * `nonce` — random, never used twice
    /// * `context` — what the plaintext belongs to; must be the same when it is opened
    pub fn seal(&self, label: &str, nonce: [u8; 12], context: &str, plain: &[u8]) -> Vec<u8> {
        let mut body = plain.to_vec();
        let aad = aead::Aad::from(context.as_bytes());
        self.aead(label)
            .seal_in_place_append_tag(aead::Nonce::assume_unique_for_key(nonce), aad, &mut body)
            .expect("short texts can be sealed");
        [&nonce[..], &body].concat()
    }

    /// What [`seal`](Self::seal) sealed; `None` when it was not sealed by this secret, for this context.
    pub fn open(&self, label: &str, context: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, body) = sealed.split_first_chunk::<12>()?;
        let mut body = body.to_vec();
        let aad = aead::Aad::from(context.as_bytes());
        let nonce = aead::Nonce::assume_unique_for_key(*nonce);
        let plain = self.aead(label).open_in_place(nonce, aad, &mut body).ok()?;
        Some(plain.to_vec())
    }

    fn aead(&self, label: &str) -> aead::LessSafeKey {
        let key = aead::UnboundKey::new(&aead::AES_256_GCM, &self.derive(&[label])).expect("32 bytes are a key");
        aead::LessSafeKey::new(key)
    }
}

/// The deployment secrets in force: the first makes new things, all are tried by id.
#[derive(Clone, Debug)]
pub struct Secrets {
    all: Vec<Secret>,
}

impl Secrets {
    /// * `all` — at least one, the newest first
    pub fn new(all: Vec<Secret>) -> Self {
        assert!(!all.is_empty(), "a deployment has a secret");
        Self { all }
    }

    /// The one that makes new things.
    pub fn current(&self) -> &Secret {
        &self.all[0]
    }

    /// The one of that id.
    pub fn by_id(&self, id: &str) -> Option<&Secret> {
        self.all.iter().find(|s| s.id == id)
    }

    /// All, the newest first.
    pub fn iter(&self) -> impl Iterator<Item = &Secret> {
        self.all.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_texts_open_for_their_context_only() {
        let (a, b) = (Secret::new(&[1; 32]), Secret::new(&[2; 32]));
        let sealed = a.seal("key-seal", [7; 12], "org_1\u{0}3", b"value");
        assert_eq!(
            a.open("key-seal", "org_1\u{0}3", &sealed).as_deref(),
            Some(&b"value"[..])
        );
        assert_eq!(a.open("key-seal", "org_1\u{0}4", &sealed), None);
        assert_eq!(a.open("other", "org_1\u{0}3", &sealed), None);
        assert_eq!(b.open("key-seal", "org_1\u{0}3", &sealed), None);
        for i in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[i] ^= 1;
            assert_eq!(a.open("key-seal", "org_1\u{0}3", &bad), None, "{i}");
        }
        assert_eq!(a.open("key-seal", "", &[0; 3]), None);
    }

    #[test]
    fn secrets_are_not_printed() {
        let secret = Secret::new(b"0123456789abcdef0123456789abcdef");
        assert!(!format!("{secret:?} {:?}", Hidden::new("hunter2")).contains("hunter2"));
        assert_eq!(secret.id().len(), 8);
        assert_ne!(secret.derive(&["a", "b"]), secret.derive(&["a\0c"]));
    }
}
