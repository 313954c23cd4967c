//! Operands: from JSON to what a scalar of the attribute's type is compared with.

use std::ops::RangeInclusive;

use serde_json::Value as Json;
use uuid::Uuid;

use super::set::Set;
use super::{Atom, Comparison, float_key};
use crate::model::{Scalar, datetime};

/// An operand of the right JSON type for its attribute.
pub(super) enum Key {
    Number(Number),
    Bool(bool),
    Bytes(Box<[u8]>),
}

/// A number as exact as JSON gave it.
#[derive(Clone, Copy)]
pub(super) enum Number {
    Int(i128),
    Float(f64),
}

/// Why an operand was refused.
pub(super) enum Refusal {
    /// The JSON value is of another type.
    Type,
    /// A string that does not have the type's form, which is this.
    Form(&'static str),
}

/// Types one operand, which is not null.
pub(super) fn key(scalar: Scalar, operand: &Json) -> Result<Key, Refusal> {
    match scalar {
        Scalar::String => Ok(Key::Bytes(text(operand)?.as_bytes().into())),
        Scalar::Int | Scalar::UInt | Scalar::Float => number(operand).map(Key::Number).ok_or(Refusal::Type),
        Scalar::Uuid => {
            let uuid = Uuid::parse_str(text(operand)?).map_err(|_| Refusal::Form("a uuid"))?;
            Ok(Key::Bytes(uuid.as_bytes().as_slice().into()))
        }
        Scalar::Datetime => match number(operand) {
            Some(ms @ Number::Int(_)) => Ok(Key::Number(ms)),
            Some(Number::Float(_)) => Err(Refusal::Type),
            None => {
                let ms = datetime::parse(text(operand)?).ok_or(Refusal::Form("an ISO-8601 date or time"))?;
                Ok(Key::Number(Number::Int(ms.into())))
            }
        },
        Scalar::Bool => operand.as_bool().map(Key::Bool).ok_or(Refusal::Type),
        Scalar::Bytes => {
            let bytes = base64_simd::STANDARD.decode_to_vec(text(operand)?);
            Ok(Key::Bytes(bytes.map_err(|_| Refusal::Form("base64"))?.into()))
        }
    }
}

fn text(operand: &Json) -> Result<&str, Refusal> {
    operand.as_str().ok_or(Refusal::Type)
}

fn number(operand: &Json) -> Option<Number> {
    let number = operand.as_number()?;
    let int = number.as_i64().map(i128::from).or(number.as_u64().map(i128::from));
    int.map(Number::Int).or(number.as_f64().map(Number::Float))
}

/// What a scalar has to be so that `scalar <comparison> key` holds.
pub(super) fn compare(scalar: Scalar, comparison: Comparison, key: Key) -> Atom {
    match (scalar, key) {
        (Scalar::Int | Scalar::Datetime, Key::Number(n)) => {
            let (low, high) = int_range(comparison, n);
            let (low, high) = (low.max(i64::MIN.into()), high.min(i64::MAX.into()));
            match (i64::try_from(low), i64::try_from(high)) {
                (Ok(low), Ok(high)) if low <= high => Atom::Int(low..=high),
                _ => Atom::Never,
            }
        }
        (Scalar::UInt, Key::Number(n)) => {
            let (low, high) = int_range(comparison, n);
            let (low, high) = (low.max(0), high.min(u64::MAX.into()));
            match (u64::try_from(low), u64::try_from(high)) {
                (Ok(low), Ok(high)) if low <= high => Atom::UInt(low..=high),
                _ => Atom::Never,
            }
        }
        (Scalar::Float, Key::Number(n)) => float_range(comparison, n).map_or(Atom::Never, Atom::Float),
        (Scalar::Bool, Key::Bool(b)) => match comparison {
            Comparison::Eq => Atom::Bool([!b, b]),
            _ => unreachable!("the binder refuses to order bools"),
        },
        (Scalar::String | Scalar::Uuid | Scalar::Bytes, Key::Bytes(bytes)) => Atom::Bytes(comparison, bytes),
        _ => unreachable!("a key was typed by the scalar it is compared with"),
    }
}

/// What a scalar has to be to equal one of `keys`.
pub(super) fn one_of(scalar: Scalar, keys: Vec<Key>) -> Atom {
    let equal = |key| compare(scalar, Comparison::Eq, key);
    // A key that the type cannot hold equals nothing and becomes `Never`, which is left out.
    let atoms = keys.into_iter().map(equal);
    match scalar {
        Scalar::Int | Scalar::Datetime => Atom::IntIn(
            atoms
                .filter_map(|a| if let Atom::Int(r) = a { Some(*r.start()) } else { None })
                .collect(),
        ),
        Scalar::UInt => Atom::UIntIn(
            atoms
                .filter_map(|a| if let Atom::UInt(r) = a { Some(*r.start()) } else { None })
                .collect(),
        ),
        Scalar::Float => Atom::FloatIn(
            atoms
                .filter_map(|a| {
                    if let Atom::Float(r) = a {
                        Some(float_key(*r.start()))
                    } else {
                        None
                    }
                })
                .collect(),
        ),
        Scalar::Bool => Atom::Bool(atoms.fold([false; 2], |[f, t], a| match a {
            Atom::Bool([no, yes]) => [f || no, t || yes],
            _ => [f, t],
        })),
        Scalar::String | Scalar::Uuid | Scalar::Bytes => Atom::BytesIn(
            atoms
                .filter_map(|a| {
                    if let Atom::Bytes(_, bytes) = a {
                        Some(bytes)
                    } else {
                        None
                    }
                })
                .collect::<Set<_>>(),
        ),
    }
}

/// The integers x with `x <comparison> n`: from, to, both included; empty when from > to.
fn int_range(comparison: Comparison, n: Number) -> (i128, i128) {
    let (floor, ceil) = match n {
        Number::Int(n) => (n, n),
        // The casts saturate, far outside of what any attribute holds.
        Number::Float(x) => (x.floor() as i128, x.ceil() as i128),
    };
    match comparison {
        Comparison::Eq => (ceil, floor),
        Comparison::Lt => (i128::MIN, ceil.saturating_sub(1)),
        Comparison::Lte => (i128::MIN, floor),
        Comparison::Gt => (floor.saturating_add(1), i128::MAX),
        Comparison::Gte => (ceil, i128::MAX),
    }
}

/// The floats x with `x <comparison> n`; `None` when there is none.
fn float_range(comparison: Comparison, n: Number) -> Option<RangeInclusive<f64>> {
    // The greatest float that is at most n, and the least that is at least n.
    let (floor, ceil) = match n {
        Number::Float(x) => (x, x),
        Number::Int(n) => {
            let near = n as f64;
            match (near as i128).cmp(&n) {
                std::cmp::Ordering::Equal => (near, near),
                std::cmp::Ordering::Greater => (near.next_down(), near),
                std::cmp::Ordering::Less => (near, near.next_up()),
            }
        }
    };
    let (low, high) = match comparison {
        Comparison::Eq => (ceil, floor),
        Comparison::Lt => (f64::NEG_INFINITY, ceil.next_down()),
        Comparison::Lte => (f64::NEG_INFINITY, floor),
        Comparison::Gt => (floor.next_up(), f64::INFINITY),
        Comparison::Gte => (ceil, f64::INFINITY),
    };
    (low <= high).then_some(low..=high)
}

/// How an error message calls the type of a JSON value.
pub(super) fn json_type(value: &Json) -> String {
    let Json::Array(list) = value else {
        return name_of(value).into();
    };
    // Only one level, and not what is nested in it: the depth is the client's choice.
    let mut names = list.iter().map(name_of);
    let first = names.next().unwrap_or("");
    match names.find(|other| *other != first) {
        None => format!("[]{first}"),
        Some(other) => format!("[]{first} with {other} in it"),
    }
}

fn name_of(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "bool",
        Json::Number(n) if n.is_u64() || n.is_i64() => "int",
        Json::Number(_) => "float",
        Json::String(_) => "string",
        Json::Array(_) => "[]",
        Json::Object(_) => "object",
    }
}
