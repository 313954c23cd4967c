//! Scalars as words and as bytes that are ordered like the values.
//!
//! Whatever groups, counts or compares values goes through one of the two forms, so that there is one answer to
//! what is the same value and which comes first: numbers, times and bools by value (−0 is 0), strings, uuids and
//! bytes bytewise, null before everything.
//!
//! | form | of |
//! | --- | --- |
//! | a word | one number, datetime or bool |
//! | bytes | any sequence of scalars and nulls; no encoding is the beginning of another of as many scalars |

use std::borrow::Cow;

use uuid::Uuid;

use super::values::{ListView, ScalarView, Values, list_view, scalar_view};
use crate::index::attribute::{Key, has_words};
pub(super) use crate::index::attribute::{float_word, int_word, value_of_word};
use crate::model::{AttrId, AttrType, IdKind, Invalid, Scalar, Schema, Value};
use crate::tail::Chunk;

/// Where values come from: `id`, or an attribute of scalars or of arrays of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// `None` is `id`.
    attribute: Option<AttrId>,
    /// Of the values, or of the elements.
    pub scalar: Scalar,
    pub is_array: bool,
    /// Whether values are short: filters may name them, or their type has a fixed size.
    pub is_short: bool,
}

/// The values of a [`Source`] in one chunk.
#[derive(Clone, Copy)]
pub(super) enum SourceColumn<'a> {
    /// Null in every row.
    Null,
    Scalars(ScalarView<'a>),
    Lists(ListView<'a>),
}

impl Source {
    /// Looks `name` up.
    ///
    /// # Errors
    ///
    /// The attribute does not exist, or is a vector.
    pub fn find(name: &str, schema: &Schema) -> Result<Self, Invalid> {
        if name == "id" {
            let scalar = match schema.id_kind {
                // Without a kind of ids there has never been a row: any will do.
                None | Some(IdKind::UInt) => Scalar::UInt,
                Some(IdKind::Uuid) => Scalar::Uuid,
                Some(IdKind::String) => Scalar::String,
            };
            return Ok(Self {
                attribute: None,
                scalar,
                is_array: false,
                is_short: true,
            });
        }
        let attribute = schema.require(name)?;
        let (scalar, is_array) = match attribute.ty {
            AttrType::Scalar(scalar) => (scalar, false),
            AttrType::Array(scalar) => (scalar, true),
            ty => return Err(Invalid::new(format!("{name:?} is {ty}, which is no plain value"))),
        };
        Ok(Self {
            attribute: Some(attribute.id),
            scalar,
            is_array,
            is_short: attribute.filterable || !matches!(scalar, Scalar::String | Scalar::Bytes),
        })
    }

    /// `None` is `id`.
    pub fn attribute(self) -> Option<AttrId> {
        self.attribute
    }

    pub fn column(self, chunk: &Chunk) -> SourceColumn<'_> {
        match self.attribute {
            None => SourceColumn::Scalars(ScalarView {
                values: Values::of_ids(chunk.ids()),
                nulls: None,
            }),
            Some(id) if self.is_array => list_view(chunk, id).map_or(SourceColumn::Null, SourceColumn::Lists),
            Some(id) => scalar_view(chunk, id).map_or(SourceColumn::Null, SourceColumn::Scalars),
        }
    }

    /// Whether values have a word.
    pub fn has_words(self) -> bool {
        has_words(self.scalar)
    }

    /// The type, as schemas name it.
    pub fn type_name(self) -> String {
        format!("{}{}", if self.is_array { "[]" } else { "" }, self.scalar.name())
    }

    /// That values are short, so that a bounded number of them takes bounded memory.
    ///
    /// # Errors
    ///
    /// They may be long.
    pub fn check_short(self, name: &str) -> Result<(), Invalid> {
        match self.is_short {
            true => Ok(()),
            false => Err(Invalid::new(format!(
                "{name:?} is not filterable; set \"filterable\": true for it in the schema"
            ))),
        }
    }
}

impl SourceColumn<'_> {
    /// Appends the value of a row. Panics on arrays, of which no single value is asked.
    pub fn push_row(&self, out: &mut Vec<u8>, row: usize) {
        match self {
            SourceColumn::Null => push_null(out),
            SourceColumn::Scalars(view) if view.nulls.is_some_and(|n| n.is_null(row)) => push_null(out),
            SourceColumn::Scalars(view) => push_value(out, view.values, row),
            SourceColumn::Lists(_) => panic!("rows are told apart by single values"),
        }
    }
}

/// The word of one value; `None` for strings, uuids and bytes.
pub(super) fn word(values: Values<'_>, i: usize) -> Option<u64> {
    match values {
        Values::I64(v) => Some(int_word(v[i])),
        Values::U64(v) => Some(v[i]),
        Values::F64(v) => Some(float_word(v[i])),
        Values::Bool(v) => Some(v.value(i).into()),
        Values::String(_) | Values::Binary(_) | Values::Uuid(_) => None,
    }
}

/// The value that is compared by these bytes.
pub(super) fn value_of_bytes(scalar: Scalar, bytes: &[u8]) -> Value {
    match scalar {
        Scalar::String => {
            Value::String(String::from_utf8(bytes.to_vec()).expect("these are the bytes of a stored string"))
        }
        Scalar::Uuid => Value::Uuid(Uuid::from_slice(bytes).expect("stored uuids have 16 bytes")),
        Scalar::Bytes => Value::Bytes(bytes.to_vec()),
        _ => unreachable!("values of {} are compared by their words", scalar.name()),
    }
}

/// Appends a null.
pub(super) fn push_null(out: &mut Vec<u8>) {
    out.push(0);
}

/// Appends one value.
pub(super) fn push_value(out: &mut Vec<u8>, values: Values<'_>, i: usize) {
    out.push(1);
    match word(values, i) {
        Some(word) => out.extend_from_slice(&word.to_be_bytes()),
        None => push_escaped(out, values.bytes(i).expect("what has no word has bytes")),
    }
}

/// Appends one value that is given as the key of an index.
pub(super) fn push_key(out: &mut Vec<u8>, key: &Key) {
    out.push(1);
    match key {
        Key::Word(word) => out.extend_from_slice(&word.to_be_bytes()),
        Key::Bytes(bytes) => push_escaped(out, bytes),
    }
}

/// Zeros become 00 ff and the end 00 00, which sorts before every continuation.
fn push_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    for (i, piece) in bytes.split(|b| *b == 0).enumerate() {
        if i > 0 {
            out.extend_from_slice(&[0, 0xff]);
        }
        out.extend_from_slice(piece);
    }
    out.extend_from_slice(&[0, 0]);
}

/// Takes the next scalar off `encoded`, which is what the functions above wrote.
pub(super) fn take_value(encoded: &mut &[u8], source: Source) -> Value {
    let scalar = source.scalar;
    let (tag, rest) = encoded
        .split_first()
        .expect("there are as many scalars as were written");
    *encoded = rest;
    if *tag == 0 {
        return Value::Null;
    }
    if source.has_words() {
        let (word, rest) = rest.split_first_chunk().expect("a word has 8 bytes");
        *encoded = rest;
        return value_of_word(scalar, u64::from_be_bytes(*word));
    }
    let mut bytes = Cow::Borrowed(&[][..]);
    loop {
        let zero = encoded
            .iter()
            .position(|b| *b == 0)
            .expect("an escaped value has an end");
        let (piece, rest) = encoded.split_at(zero);
        let (goes_on, rest) = (rest[1] == 0xff, &rest[2..]);
        *encoded = rest;
        match (bytes.is_empty(), goes_on) {
            (true, false) => bytes = Cow::Borrowed(piece),
            _ => bytes.to_mut().extend_from_slice(piece),
        }
        if !goes_on {
            return value_of_bytes(scalar, &bytes);
        }
        bytes.to_mut().push(0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, Int64Array, LargeBinaryArray};
    use proptest::prelude::*;

    use super::*;

    fn of(scalar: Scalar) -> Source {
        Source {
            attribute: None,
            scalar,
            is_array: false,
            is_short: true,
        }
    }

    fn encoded(array: &ArrayRef, i: usize) -> Vec<u8> {
        let mut out = Vec::new();
        push_value(&mut out, Values::of(array), i);
        out
    }

    proptest! {
        #[test]
        fn encodings_are_ordered_like_values_and_decode(
            a in prop::collection::vec(0u8..3, 0..5), b in prop::collection::vec(0u8..3, 0..5), c in any::<u8>(), d in any::<u8>(),
        ) {
            let array: ArrayRef = Arc::new(LargeBinaryArray::from_iter_values([&a, &b]));
            let (mut x, mut y) = (encoded(&array, 0), encoded(&array, 1));
            // What follows decides only between equal values.
            x.push(c);
            y.push(d);
            prop_assert_eq!(x.cmp(&y), a.cmp(&b).then(c.cmp(&d)));
            let mut rest = x.as_slice();
            prop_assert_eq!(take_value(&mut rest, of(Scalar::Bytes)), Value::Bytes(a));
            prop_assert_eq!(rest, [c]);
        }

        #[test]
        fn words_are_ordered_like_numbers_and_decode(a in any::<i64>(), b in any::<i64>(), bits in any::<(u64, u64)>()) {
            let ints: ArrayRef = Arc::new(Int64Array::from(vec![a, b]));
            prop_assert_eq!(encoded(&ints, 0).cmp(&encoded(&ints, 1)), a.cmp(&b));
            prop_assert_eq!(value_of_word(Scalar::Int, int_word(a)), Value::Int(a));
            let (x, y) = (f64::from_bits(bits.0), f64::from_bits(bits.1));
            if let Some(order) = x.partial_cmp(&y) {
                let floats: ArrayRef = Arc::new(Float64Array::from(vec![x, y]));
                prop_assert_eq!(encoded(&floats, 0).cmp(&encoded(&floats, 1)), order);
                prop_assert_eq!(value_of_word(Scalar::Float, float_word(x)), Value::Float(x));
            }
        }
    }

    #[test]
    fn null_comes_first_and_zeros_have_one_word() {
        let mut null = Vec::new();
        push_null(&mut null);
        let least: ArrayRef = Arc::new(Int64Array::from(vec![i64::MIN]));
        assert!(null < encoded(&least, 0));
        assert_eq!(take_value(&mut null.as_slice(), of(Scalar::Int)), Value::Null);
        assert_eq!(float_word(-0.0), float_word(0.0));
    }
}
