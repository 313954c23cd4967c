//! Row ids and positions.

use std::cmp::Ordering;
use std::fmt;

use uuid::Uuid;

/// The number of a log entry. The first entry of a namespace is 1; 0 stands for "before it".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(pub u64);

impl Seq {
    /// Before the first entry.
    pub const ZERO: Seq = Seq(0);
    /// The highest number of an entry that is believed. No log gets there; what claims to be there was made so that
    /// counting on from it overflows.
    pub const MAX: Seq = Seq(1 << 63);
    /// The highest number of an entry that is believed to be in segments: what follows it in the log is believed too.
    pub const INDEXED_MAX: Seq = Seq(1 << 62);

    /// The position after this one.
    pub fn next(self) -> Seq {
        Seq(self.0.checked_add(1).expect("2^64 entries cannot be written"))
    }
}

/// The number of a manifest. The first of a namespace is 1; 0 stands for "none yet".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Gen(pub u64);

impl Gen {
    /// Before the first manifest.
    pub const ZERO: Gen = Gen(0);
    /// The highest number of a manifest that is believed.
    pub const MAX: Gen = Gen(1 << 62);

    /// The one after this.
    pub fn next(self) -> Gen {
        Gen(self.0.checked_add(1).expect("2^64 manifests cannot be written"))
    }
}

impl fmt::Display for Gen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which kind of id a namespace's rows have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdKind {
    UInt,
    Uuid,
    String,
}

impl IdKind {
    /// The name in schemas.
    pub fn name(self) -> &'static str {
        match self {
            IdKind::UInt => "uint",
            IdKind::Uuid => "uuid",
            IdKind::String => "string",
        }
    }

    /// Parses the name in a schema.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "uint" => Some(IdKind::UInt),
            "uuid" => Some(IdKind::Uuid),
            "string" => Some(IdKind::String),
            _ => None,
        }
    }
}

/// The id of a row, unique within its namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Id {
    UInt(u64),
    Uuid(Uuid),
    String(Box<str>),
}

impl Id {
    /// Which kind this is.
    pub fn kind(&self) -> IdKind {
        match self {
            Id::UInt(_) => IdKind::UInt,
            Id::Uuid(_) => IdKind::Uuid,
            Id::String(_) => IdKind::String,
        }
    }
}

impl PartialOrd for Id {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Numbers by value, UUIDs and strings by bytes. Ids of different kinds never meet in one
/// namespace; they are ordered by kind so that the order is total.
impl Ord for Id {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Id::UInt(a), Id::UInt(b)) => a.cmp(b),
            (Id::Uuid(a), Id::Uuid(b)) => a.cmp(b),
            (Id::String(a), Id::String(b)) => a.as_bytes().cmp(b.as_bytes()),
            _ => (self.kind() as u8).cmp(&(other.kind() as u8)),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Id::UInt(n) => n.fmt(f),
            Id::Uuid(u) => u.fmt(f),
            Id::String(s) => s.fmt(f),
        }
    }
}
