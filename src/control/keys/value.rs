//! The text of API keys: `k7Qm_shl1_<27 characters><6 of a check tag>`.
//!
//! Four random characters come first, since scoped search keys name their parents by those; 27 of 62 are 160
//! random bits; the tag is a truncated HMAC of what is before it under the deployment secret, so that text
//! which nobody here made is refused without a look into the store.

use subtle::{Choice, ConstantTimeEq};

use crate::base::Rng;
use crate::control::{Hidden, Secret, Secrets};

/// How many characters of a value are shown after its creation.
pub const PREFIX_CHARS: usize = 4;
/// The shortest and longest value that a client may choose, in bytes.
pub const CUSTOM_BYTES_MIN: usize = 24;
pub const CUSTOM_BYTES_MAX: usize = 512;

const MARK: &[u8] = b"_shl1_";
const SECRET_CHARS: usize = 27;
const TAG_CHARS: usize = 6;
const SIGNED_CHARS: usize = PREFIX_CHARS + MARK.len() + SECRET_CHARS;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A new value.
pub fn generate(rng: &Rng, secret: &Secret) -> Hidden {
    let random = |chars: usize| -> Vec<u8> {
        let one = |_| ALPHABET[usize::try_from(rng.below(62)).unwrap_or(0) % ALPHABET.len()];
        (0..chars).map(one).collect()
    };
    let signed = [random(PREFIX_CHARS), MARK.to_vec(), random(SECRET_CHARS)].concat();
    let text: String = signed
        .iter()
        .chain(&tag(secret, &signed))
        .map(|b| char::from(*b))
        .collect();
    Hidden::new(text)
}

/// Whether a text looks like a value that some deployment made.
pub fn is_shaped(text: &[u8]) -> bool {
    let plain = |part: &[u8]| part.iter().all(u8::is_ascii_alphanumeric);
    text.len() == SIGNED_CHARS + TAG_CHARS
        && plain(&text[..PREFIX_CHARS])
        && text[PREFIX_CHARS..].starts_with(MARK)
        && plain(&text[PREFIX_CHARS + MARK.len()..])
}

/// Whether a text of that shape was made under one of the secrets. The time it takes tells nothing of the tag.
pub fn is_ours(text: &[u8], secrets: &Secrets) -> bool {
    let Some((signed, shown)) = text.split_at_checked(SIGNED_CHARS) else {
        return false;
    };
    let made = secrets.iter().map(|secret| tag(secret, signed)[..].ct_eq(shown));
    bool::from(made.fold(Choice::from(0), |any, this| any | this))
}

fn tag(secret: &Secret, signed: &[u8]) -> [u8; TAG_CHARS] {
    let mac = secret.mac("key-check", signed);
    let mut rest = mac[..8].iter().fold(0_u64, |n, b| n << 8 | u64::from(*b));
    std::array::from_fn(|_| {
        let digit = rest % 62;
        rest /= 62;
        ALPHABET[usize::try_from(digit).unwrap_or(0)]
    })
}

/// Why a client may not choose this value.
///
/// What could be taken for a token, a scoped key or a generated value would never be looked up.
pub fn check_custom(value: &str) -> Result<(), String> {
    if !(CUSTOM_BYTES_MIN..=CUSTOM_BYTES_MAX).contains(&value.len()) {
        return Err(format!(
            "Key values must have {CUSTOM_BYTES_MIN} to {CUSTOM_BYTES_MAX} characters."
        ));
    }
    if !value.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("Key values may only contain visible ASCII characters, without spaces.".into());
    }
    let looks_made = is_shaped(value.as_bytes())
        || value.split('.').count() == 3
        || super::scoped::Scoped::decode(value.as_bytes()).is_some();
    match looks_made {
        true => Err("This key value looks like a token or a key that the server makes; choose another.".into()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> Secrets {
        Secrets::new(vec![Secret::new(&[1; 32]), Secret::new(&[2; 32])])
    }

    #[test]
    fn what_is_made_is_recognised_and_nothing_else_is() {
        let secrets = secrets();
        let rng = Rng::seeded(1);
        for secret in secrets.iter() {
            let value = generate(&rng, secret);
            let text = value.reveal().as_bytes();
            assert_eq!(text.len(), 43);
            assert!(is_shaped(text) && is_ours(text, &secrets));
            for at in 0..text.len() {
                let mut bad = text.to_vec();
                bad[at] = if bad[at] == b'x' { b'y' } else { b'x' };
                assert!(!is_shaped(&bad) || !is_ours(&bad, &secrets), "changed at {at}");
            }
            assert!(!is_shaped(&text[1..]) && !is_shaped(&[text, b"x"].concat()));
        }
        let other = Secrets::new(vec![Secret::new(&[3; 32])]);
        let value = generate(&rng, other.current());
        assert!(is_shaped(value.reveal().as_bytes()) && !is_ours(value.reveal().as_bytes(), &secrets));
        assert!(!is_ours(b"", &secrets));
    }

    #[test]
    fn chosen_values_cannot_be_taken_for_anything_else() {
        for good in [
            "abcdefghijklmnopqrstuvwx",
            "my.key.with.dots.and.24.characters",
            &"k".repeat(512),
        ] {
            assert_eq!(check_custom(good), Ok(()), "{good}");
        }
        let made = generate(&Rng::seeded(1), &Secret::new(&[9; 32]));
        for bad in [
            "short",
            &"k".repeat(513),
            "with spaces in it, which headers lose",
            "ünïcode-ünïcode-ünïcode",
            made.reveal(),
            "eyJhbGciOiJub25lIn0.e30.abcdefgh",
            "SXZqcVdOWjVNNUVsY3ZiTW9YajQ1QnhrUXJaRzRaS0VhTlFvUmlvQ3gycz1LZXlWeyJmaWx0ZXJfYnkiOiAidXNlcl9pZDoxMDgwIn0=",
        ] {
            assert!(check_custom(bad).is_err(), "{bad}");
        }
    }
}
