//! Scalars as keys: one word or some bytes, ordered like the values.
//!
//! Numbers, times and bools are words, by value (−0 is 0); strings, uuids and bytes are themselves, bytewise.

use std::ops::Bound;

use uuid::Uuid;

use crate::model::{Scalar, Value};

/// One value of a filterable attribute, or one element of an array. All keys of an attribute are of one variant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    Word(u64),
    Bytes(Box<[u8]>),
}

/// A key that lies elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum KeyRef<'a> {
    Word(u64),
    Bytes(&'a [u8]),
}

const SIGN: u64 = 1 << 63;

/// The word of an int or a datetime.
pub fn int_word(x: i64) -> u64 {
    x as u64 ^ SIGN
}

/// The word of a float, which is not NaN.
pub fn float_word(x: f64) -> u64 {
    let bits = (x + 0.0).to_bits();
    match bits & SIGN {
        0 => bits | SIGN,
        _ => !bits,
    }
}

/// Whether values of a type have words, and not bytes.
pub fn has_words(scalar: Scalar) -> bool {
    !matches!(scalar, Scalar::String | Scalar::Bytes | Scalar::Uuid)
}

/// The value whose word this is. Panics for types that have no words.
pub fn value_of_word(scalar: Scalar, word: u64) -> Value {
    match scalar {
        Scalar::Int => Value::Int((word ^ SIGN) as i64),
        Scalar::Datetime => Value::Datetime((word ^ SIGN) as i64),
        Scalar::UInt => Value::UInt(word),
        Scalar::Float => Value::Float(f64::from_bits(match word & SIGN {
            0 => !word,
            _ => word & !SIGN,
        })),
        Scalar::Bool => Value::Bool(word != 0),
        Scalar::String | Scalar::Uuid | Scalar::Bytes => unreachable!("values of {} have no words", scalar.name()),
    }
}

impl Key {
    /// The key of an int or a datetime.
    pub fn int(x: i64) -> Self {
        Key::Word(int_word(x))
    }

    /// The key of a float, which is not NaN.
    pub fn float(x: f64) -> Self {
        Key::Word(float_word(x))
    }

    /// The key of a string, a uuid or bytes.
    pub fn bytes(bytes: impl AsRef<[u8]>) -> Self {
        Key::Bytes(bytes.as_ref().into())
    }

    /// The value; `None` when no value of that type has this key.
    pub fn value(&self, scalar: Scalar) -> Option<Value> {
        match (self, scalar) {
            (Key::Bytes(bytes), Scalar::String) => Some(Value::String(str::from_utf8(bytes).ok()?.to_owned())),
            (Key::Bytes(bytes), Scalar::Uuid) => Some(Value::Uuid(Uuid::from_slice(bytes).ok()?)),
            (Key::Bytes(bytes), Scalar::Bytes) => Some(Value::Bytes(bytes.to_vec())),
            (Key::Word(word), scalar) if has_words(scalar) => Some(value_of_word(scalar, *word)),
            _ => None,
        }
    }

    pub(super) fn of(&self) -> KeyRef<'_> {
        match self {
            Key::Word(word) => KeyRef::Word(*word),
            Key::Bytes(bytes) => KeyRef::Bytes(bytes),
        }
    }
}

impl KeyRef<'_> {
    pub fn to_key(self) -> Key {
        match self {
            KeyRef::Word(word) => Key::Word(word),
            KeyRef::Bytes(bytes) => Key::Bytes(bytes.into()),
        }
    }

    /// Whether the key is one that values of the type have.
    pub fn fits(self, scalar: Scalar) -> bool {
        match (self, scalar) {
            (KeyRef::Bytes(bytes), Scalar::String) => simdutf8::basic::from_utf8(bytes).is_ok(),
            (KeyRef::Bytes(bytes), Scalar::Uuid) => bytes.len() == 16,
            (KeyRef::Bytes(_), Scalar::Bytes) => true,
            (KeyRef::Word(word), Scalar::Bool) => word <= 1,
            (KeyRef::Word(word), Scalar::Float) => {
                let Value::Float(x) = value_of_word(scalar, word) else {
                    return false;
                };
                !x.is_nan()
            }
            (KeyRef::Word(_), scalar) => has_words(scalar),
            (KeyRef::Bytes(_), _) => false,
        }
    }

    /// Whether the key is at or above a lower bound.
    pub fn is_from(self, low: &Bound<Key>) -> bool {
        match low {
            Bound::Unbounded => true,
            Bound::Included(low) => low.of() <= self,
            Bound::Excluded(low) => low.of() < self,
        }
    }

    /// Whether the key is at or below an upper bound.
    pub fn is_to(self, high: &Bound<Key>) -> bool {
        match high {
            Bound::Unbounded => true,
            Bound::Included(high) => self <= high.of(),
            Bound::Excluded(high) => self < high.of(),
        }
    }
}

/// Whether no key can lie between two bounds.
pub(super) fn is_empty_range(low: &Bound<Key>, high: &Bound<Key>) -> bool {
    match (low, high) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(low), Bound::Included(high)) => low > high,
        (Bound::Included(low) | Bound::Excluded(low), Bound::Included(high) | Bound::Excluded(high)) => low >= high,
    }
}

/// The bounds of all keys that begin with `prefix`.
pub fn prefix_range(prefix: &[u8]) -> (Bound<Key>, Bound<Key>) {
    let last = prefix.iter().rposition(|byte| *byte != 0xff);
    let high = last.map_or(Bound::Unbounded, |last| {
        let mut above = prefix[..=last].to_vec();
        above[last] += 1;
        Bound::Excluded(Key::Bytes(above.into()))
    });
    match prefix.is_empty() {
        true => (Bound::Unbounded, Bound::Unbounded),
        false => (Bound::Included(Key::bytes(prefix)), high),
    }
}
