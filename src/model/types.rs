//! Attribute types and their names.

use std::fmt;

use super::Invalid;

/// A single value's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scalar {
    String,
    Int,
    UInt,
    Float,
    Uuid,
    Datetime,
    Bool,
    Bytes,
}

impl Scalar {
    const ALL: [(Scalar, &'static str); 8] = [
        (Scalar::String, "string"),
        (Scalar::Int, "int"),
        (Scalar::UInt, "uint"),
        (Scalar::Float, "float"),
        (Scalar::Uuid, "uuid"),
        (Scalar::Datetime, "datetime"),
        (Scalar::Bool, "bool"),
        (Scalar::Bytes, "bytes"),
    ];

    /// The name in schemas.
    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(s, _)| *s == self)
            .map(|(_, n)| *n)
            .expect("the table lists every scalar")
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, n)| *n == name).map(|(s, _)| *s)
    }
}

/// The element type of a dense vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    F32,
    F16,
    I8,
}

impl Element {
    /// Bytes per element.
    pub fn bytes(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::F16 => 2,
            Element::I8 => 1,
        }
    }

    /// The name in schemas.
    pub fn name(self) -> &'static str {
        match self {
            Element::F32 => "f32",
            Element::F16 => "f16",
            Element::I8 => "i8",
        }
    }
}

/// How far apart two vectors are. Smaller is nearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// 1 − cos of the angle, 0 to 2.
    CosineDistance,
    /// Σ (x − y)².
    EuclideanSquared,
}

impl Metric {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Metric::CosineDistance => "cosine_distance",
            Metric::EuclideanSquared => "euclidean_squared",
        }
    }

    /// Parses the name on the wire.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "cosine_distance" => Some(Metric::CosineDistance),
            "euclidean_squared" => Some(Metric::EuclideanSquared),
            _ => None,
        }
    }
}

/// The type of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttrType {
    Scalar(Scalar),
    /// `[]T`; never of bytes.
    Array(Scalar),
    /// `[N]T`.
    Vector {
        dims: u32,
        element: Element,
    },
    /// `[][N]f32`, for late interaction.
    MultiVector {
        dims: u32,
    },
    /// `{}f16`.
    SparseVector,
}

/// The most dimensions a dense vector may have.
pub const DIMS_MAX: u32 = 10_752;

impl AttrType {
    /// Parses a type name such as `[]string` or `[768]f16`.
    pub fn parse(name: &str) -> Result<Self, Invalid> {
        Self::parse_known(name).ok_or_else(|| {
            Invalid::new(format!(
                "unknown attribute type {name:?}; expected string, int, uint, float, uuid, datetime, bool, bytes, \
                 an array such as []string, a vector such as [768]f32, [768]f16 or [768]i8 with 1 to {DIMS_MAX} \
                 dimensions, [][128]f32, or {{}}f16"
            ))
        })
    }

    fn parse_known(name: &str) -> Option<Self> {
        if name == "{}f16" {
            return Some(AttrType::SparseVector);
        }
        if let Some(rest) = name.strip_prefix("[]") {
            if let Some((dims, Element::F32)) = parse_vector(rest) {
                return Some(AttrType::MultiVector { dims });
            }
            return Scalar::parse(rest).filter(|s| *s != Scalar::Bytes).map(AttrType::Array);
        }
        if let Some((dims, element)) = parse_vector(name) {
            return Some(AttrType::Vector { dims, element });
        }
        Scalar::parse(name).map(AttrType::Scalar)
    }

    /// Whether this is a dense vector.
    pub fn is_vector(self) -> bool {
        matches!(self, AttrType::Vector { .. })
    }

    /// Whether an attribute of this type can be filtered on.
    pub fn can_be_filterable(self) -> bool {
        matches!(self, AttrType::Scalar(_) | AttrType::Array(_))
    }

    /// Whether an attribute of this type can have full-text search.
    pub fn can_be_searched(self) -> bool {
        matches!(self, AttrType::Scalar(Scalar::String) | AttrType::Array(Scalar::String))
    }
}

fn parse_vector(name: &str) -> Option<(u32, Element)> {
    let (dims, element) = name.strip_prefix('[')?.split_once(']')?;
    if !dims.bytes().all(|b| b.is_ascii_digit()) || dims.starts_with('0') {
        return None;
    }
    let dims = dims.parse().ok().filter(|d| (1..=DIMS_MAX).contains(d))?;
    let element = match element {
        "f32" => Element::F32,
        "f16" => Element::F16,
        "i8" => Element::I8,
        _ => return None,
    };
    Some((dims, element))
}

impl fmt::Display for AttrType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttrType::Scalar(s) => f.write_str(s.name()),
            AttrType::Array(s) => write!(f, "[]{}", s.name()),
            AttrType::Vector { dims, element } => write!(f, "[{dims}]{}", element.name()),
            AttrType::MultiVector { dims } => write!(f, "[][{dims}]f32"),
            AttrType::SparseVector => f.write_str("{}f16"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_name_survives_parsing_and_printing() {
        for name in [
            "string",
            "int",
            "uint",
            "float",
            "uuid",
            "datetime",
            "bool",
            "bytes",
            "[]string",
            "[]int",
            "[]uint",
            "[]float",
            "[]uuid",
            "[]datetime",
            "[]bool",
            "[768]f32",
            "[1]f16",
            "[10752]i8",
            "[][128]f32",
            "{}f16",
        ] {
            assert_eq!(AttrType::parse(name).expect(name).to_string(), name);
        }
        for name in [
            "",
            "[]",
            "[]bytes",
            "[0]f32",
            "[10753]f32",
            "[-1]f32",
            "[+1]f32",
            "[01]f32",
            "[3]f64",
            "[][3]f16",
            "String",
        ] {
            assert!(AttrType::parse(name).is_err(), "{name:?}");
        }
    }
}
