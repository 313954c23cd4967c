//! Scoped search keys: what the holder of a search-only key makes of it offline (api-keys reference §5).
//!
//! ```text
//! base64( base64(HMAC-SHA256(parent value, parameters)) ++ first 4 characters of the parent ++ parameters )
//! ```
//!
//! Nothing of them is stored. The parameters are checked as the bytes that were signed.

use aws_lc_rs::hmac;
use subtle::ConstantTimeEq;

/// Of the base64 text of an HMAC-SHA256.
const DIGEST_CHARS: usize = 44;
const PREFIX_CHARS: usize = 4;
/// The longest parameters, in bytes.
pub const PARAMETERS_BYTES_MAX: usize = 4096;

/// A credential that has the layout of a scoped search key. Whether it is one, its parent's value tells.
pub struct Scoped {
    decoded: Vec<u8>,
}

impl Scoped {
    /// Takes a credential apart; `None` when it has another layout. Canonical base64 only, so that no two texts
    /// are the same key.
    pub fn decode(text: &[u8]) -> Option<Self> {
        let whole = base64_simd::STANDARD;
        // Nothing shorter can hold a digest and a prefix, and most other keys end here.
        if text.len() < (DIGEST_CHARS + PREFIX_CHARS) / 3 * 4 {
            return None;
        }
        let decoded = whole.decode_to_vec(text).ok()?;
        if whole.encode_to_string(&decoded).as_bytes() != text {
            return None;
        }
        let (digest, rest) = decoded.split_at_checked(DIGEST_CHARS)?;
        let is_digest = digest.last() == Some(&b'=') && whole.decode_to_vec(digest).is_ok_and(|d| d.len() == 32);
        (is_digest && rest.len() >= PREFIX_CHARS).then_some(Self { decoded })
    }

    /// What the parent's value begins with.
    pub fn prefix(&self) -> [u8; PREFIX_CHARS] {
        let mut prefix = [0; PREFIX_CHARS];
        prefix.copy_from_slice(&self.decoded[DIGEST_CHARS..][..PREFIX_CHARS]);
        prefix
    }

    /// The parameters as they were signed.
    pub fn parameters(&self) -> &[u8] {
        &self.decoded[DIGEST_CHARS + PREFIX_CHARS..]
    }

    /// Whether a key of this value signed it. The time it takes tells nothing of the digest.
    pub fn is_signed_by(&self, parent: &[u8]) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, parent);
        let digest = base64_simd::STANDARD.encode_to_string(hmac::sign(&key, self.parameters()).as_ref());
        let signed = digest.as_bytes().ct_eq(&self.decoded[..DIGEST_CHARS]);
        bool::from(signed) && parent.starts_with(&self.prefix())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "RN23GFr1s6jQ9kgSNg2O7fYcAUXU7127";

    /// Parent, parameters and key, as the official clients of Python and JavaScript make them.
    #[rustfmt::skip]
    pub const VECTORS: [(&str, &str, &str); 10] = [
        (PARENT, r#"{"filter_by": "company_id:124", "expires_at": 1906054106}"#, "QzBUNWoyYlRGR0crNm1lb21PSG5BNVR1Kzc2ZUFxZytCckJjeFNaSTM3UT1STjIzeyJmaWx0ZXJfYnkiOiAiY29tcGFueV9pZDoxMjQiLCAiZXhwaXJlc19hdCI6IDE5MDYwNTQxMDZ9"),
        (PARENT, r#"{"filter_by":"company_id:124","expires_at":1906054106}"#, "OW9DYWZGS1Q1RGdSbmo0S1QrOWxhbk9PL2kxbTU1eXA3bCthdmE5eXJKRT1STjIzeyJmaWx0ZXJfYnkiOiJjb21wYW55X2lkOjEyNCIsImV4cGlyZXNfYXQiOjE5MDYwNTQxMDZ9"),
        (PARENT, "{}", "R2pFZkxSemhGZmEvOXd2WWpYNWVSTzF2N2xRSk9jQmlpZ2NpdnloUTFGYz1STjIze30="),
        (PARENT, r#"{"filter_by": "na\u00efve:=\u00e9"}"#, "bGVpVmFCUHRLOGw4V3BaOWs4clhRWlpBQ2p5WEgyV0xOeVlGUGZsb1ozZz1STjIzeyJmaWx0ZXJfYnkiOiAibmFcdTAwZWZ2ZTo9XHUwMGU5In0="),
        (PARENT, r#"{"filter_by":"naïve:=é"}"#, "WU9pbzRWemlyVzNFYzRUSGM5NENacm0wR0ZuTndMUWRIdWoraWRGUFh5Zz1STjIzeyJmaWx0ZXJfYnkiOiJuYcOvdmU6PcOpIn0="),
        (PARENT, r#"{"namespace": "products", "filters": ["tenant_id", "Eq", "42"], "expires_at": 1893456000}"#, "WG80c2JxUjd4ZVNZUlBjSmQ1S3p0VEV1cTFWNG84UmhVZjdTMHh4cjAzST1STjIzeyJuYW1lc3BhY2UiOiAicHJvZHVjdHMiLCAiZmlsdGVycyI6IFsidGVuYW50X2lkIiwgIkVxIiwgIjQyIl0sICJleHBpcmVzX2F0IjogMTg5MzQ1NjAwMH0="),
        ("KeyVal", r#"{"filter_by": "user_id:1080"}"#, "SXZqcVdOWjVNNUVsY3ZiTW9YajQ1QnhrUXJaRzRaS0VhTlFvUmlvQ3gycz1LZXlWeyJmaWx0ZXJfYnkiOiAidXNlcl9pZDoxMDgwIn0="),
        ("KeyVal2", r#"{"filter_by": "user_id:1080"}"#, "QmNlNXdkUThaeDJFZXNiOXB4VUFCT1BmN01GSEJnRUdiMng2aTJESjJqND1LZXlWeyJmaWx0ZXJfYnkiOiAidXNlcl9pZDoxMDgwIn0="),
        ("ExpireKey", r#"{"filter_by": "user_id:1080", "expires_at": 2237712220}"#, "K1M2STRDelZYNHpxNGVWUTlBTGpOWUl4dk8wNU8xdnVEZi9aSUcvZE5tcz1FeHBpeyJmaWx0ZXJfYnkiOiAidXNlcl9pZDoxMDgwIiwgImV4cGlyZXNfYXQiOiAyMjM3NzEyMjIwfQ=="),
        ("ExpireKey2", r#"{"filter_by": "user_id:1080", "expires_at": 1606563316}"#, "SXFKNldZZWRiWkVKVmI2RCt3OTlKNHpBZ24yWlRUbEdJdERtTy9IZ2REZz1FeHBpeyJmaWx0ZXJfYnkiOiAidXNlcl9pZDoxMDgwIiwgImV4cGlyZXNfYXQiOiAxNjA2NTYzMzE2fQ=="),
    ];

    #[test]
    fn the_keys_of_the_official_clients_verify() {
        for (parent, parameters, key) in VECTORS {
            let scoped = Scoped::decode(key.as_bytes()).expect(key);
            assert_eq!(scoped.parameters(), parameters.as_bytes());
            assert_eq!(scoped.prefix(), parent.as_bytes()[..4]);
            for (other, _, _) in VECTORS {
                assert_eq!(
                    scoped.is_signed_by(other.as_bytes()),
                    other == parent,
                    "{other} {parameters}"
                );
            }
        }
    }

    #[test]
    fn any_changed_byte_is_refused() {
        for (parent, _, key) in VECTORS {
            for at in 0..key.len() {
                for bit in 0..8 {
                    let mut bad = key.as_bytes().to_vec();
                    bad[at] ^= 1 << bit;
                    let verifies = Scoped::decode(&bad).is_some_and(|s| s.is_signed_by(parent.as_bytes()));
                    assert!(!verifies, "{key}: bit {bit} of byte {at}");
                }
            }
        }
    }

    #[test]
    fn other_layouts_are_refused() {
        let key = VECTORS[2].2;
        let short = base64_simd::STANDARD.encode_to_string([b'a'; 47]);
        let no_digest = base64_simd::STANDARD.encode_to_string([b'a'; 60]);
        for bad in [
            "",
            "=",
            &short,
            &no_digest,
            &format!(" {key}"),
            &format!("{key} "),
            &format!("{} {}", &key[..20], &key[20..]),
            &format!("{}\n{}", &key[..20], &key[20..]),
            key.trim_end_matches('='),
            &key.replacen('R', "_", 1),
        ] {
            assert!(Scoped::decode(bad.as_bytes()).is_none(), "{bad:?}");
        }
    }
}
