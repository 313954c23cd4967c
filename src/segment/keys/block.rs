//! Blocks of a key run: ids in ascending order, each written as its difference from the one before
//! it, with its row.

use arrow::array::UInt64Array;

use crate::base::coding::{FormatError, Reader, put_bytes, put_signed, put_varint, shared_prefix};
use crate::model::{Id, IdColumn, IdKind};

/// The longest id that can be stored. Far above what the limits allow.
pub(super) const ID_BYTES_MAX: usize = u16::MAX as usize;

/// The id of a row, in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum KeyRef<'a> {
    UInt(u64),
    /// Of UUIDs and strings.
    Bytes(&'a [u8]),
}

impl<'a> KeyRef<'a> {
    pub(super) fn of_row(ids: &'a IdColumn, row: usize) -> Self {
        match ids {
            IdColumn::UInt(a) => Self::UInt(a.value(row)),
            IdColumn::Uuid(a) => Self::Bytes(a.value(row)),
            IdColumn::String(a) => Self::Bytes(a.value(row).as_bytes()),
        }
    }

    pub(super) fn of(id: &'a Id) -> Self {
        match id {
            Id::UInt(n) => Self::UInt(*n),
            Id::Uuid(u) => Self::Bytes(u.as_bytes()),
            Id::String(s) => Self::Bytes(s.as_bytes()),
        }
    }

    /// How many bytes it has in memory.
    pub(super) fn len(self) -> usize {
        match self {
            Self::UInt(_) => 8,
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    pub(super) fn to_id(self, kind: IdKind) -> Result<Id, FormatError> {
        let corrupt = || FormatError::corrupt(format!("a key is no {} id", kind.name()));
        match (self, kind) {
            (Self::UInt(n), IdKind::UInt) => Ok(Id::UInt(n)),
            (Self::Bytes(b), IdKind::Uuid) => uuid::Uuid::from_slice(b).map(Id::Uuid).map_err(|_| corrupt()),
            (Self::Bytes(b), IdKind::String) => std::str::from_utf8(b)
                .map(|s| Id::String(s.into()))
                .map_err(|_| corrupt()),
            _ => Err(corrupt()),
        }
    }
}

/// Appends a key as what it has that `previous`, a smaller one, has not.
pub(super) fn put_key(out: &mut Vec<u8>, kind: IdKind, previous: Option<KeyRef<'_>>, key: KeyRef<'_>) {
    match (key, previous) {
        (KeyRef::UInt(n), Some(KeyRef::UInt(before))) => put_varint(out, n - before),
        (KeyRef::UInt(n), _) => put_varint(out, n),
        (KeyRef::Bytes(bytes), previous) => {
            let shared = match previous {
                Some(KeyRef::Bytes(before)) => shared_prefix(before, bytes),
                _ => 0,
            };
            put_varint(out, shared as u64);
            match kind {
                IdKind::String => put_bytes(out, &bytes[shared..]),
                _ => out.extend_from_slice(&bytes[shared..]),
            }
        }
    }
}

/// Appends a row as its difference from the one after `previous`: nothing but zeros where rows
/// arrived in the order of their ids.
pub(super) fn put_row(out: &mut Vec<u8>, previous: Option<u32>, row: u32) {
    put_signed(out, i64::from(row) - previous.map_or(0, |p| i64::from(p) + 1));
}

/// Reads what [`put_key`] wrote, and checks that keys ascend.
pub(super) struct KeyReader {
    kind: IdKind,
    uint: u64,
    bytes: Vec<u8>,
    started: bool,
}

impl KeyReader {
    pub(super) fn new(kind: IdKind) -> Self {
        Self {
            kind,
            uint: 0,
            bytes: Vec::new(),
            started: false,
        }
    }

    /// Goes on to the next key, which is returned.
    pub(super) fn read(&mut self, reader: &mut Reader<'_>) -> Result<KeyRef<'_>, FormatError> {
        let first = !std::mem::replace(&mut self.started, true);
        if self.kind == IdKind::UInt {
            let step = reader.varint()?;
            let next = self.uint.checked_add(step).filter(|_| first || step > 0);
            self.uint = next.ok_or_else(out_of_order)?;
            return Ok(KeyRef::UInt(self.uint));
        }
        let shared = reader.varint()?;
        let shared = usize::try_from(shared).ok().filter(|n| *n <= self.bytes.len());
        let shared = shared.ok_or_else(|| FormatError::corrupt("a key shares more than there is"))?;
        let suffix = match self.kind {
            IdKind::String => reader.bytes()?,
            _ => reader.take(16usize.saturating_sub(shared))?,
        };
        if !first && suffix <= &self.bytes[shared..] {
            return Err(out_of_order());
        }
        if shared + suffix.len() > ID_BYTES_MAX {
            return Err(FormatError::corrupt("a key is too long"));
        }
        self.bytes.truncate(shared);
        self.bytes.extend_from_slice(suffix);
        Ok(KeyRef::Bytes(&self.bytes))
    }
}

fn out_of_order() -> FormatError {
    FormatError::corrupt("keys do not ascend")
}

/// The entries of one block, first to last.
pub(super) struct Entries<'a> {
    reader: Reader<'a>,
    keys: KeyReader,
    previous: Option<u32>,
    rows: u32,
    left: usize,
    /// Bytes that the keys may still have in memory.
    budget: usize,
}

impl<'a> Entries<'a> {
    /// * `body` — of a block, without its checksum
    /// * `count` — of its entries
    /// * `rows` — of the segment
    pub(super) fn new(kind: IdKind, body: &'a [u8], count: usize, rows: u32) -> Self {
        Self {
            reader: Reader::new(body),
            keys: KeyReader::new(kind),
            previous: None,
            rows,
            left: count,
            budget: super::BLOCK_KEY_BYTES_MAX + ID_BYTES_MAX,
        }
    }

    /// The next key and its row; `None` after the last.
    pub(super) fn next(&mut self) -> Result<Option<(KeyRef<'_>, u32)>, FormatError> {
        if self.left == 0 {
            self.reader.end()?;
            return Ok(None);
        }
        self.left -= 1;
        let key = self.keys.read(&mut self.reader)?;
        let budget = self.budget.checked_sub(key.len());
        self.budget = budget.ok_or_else(|| FormatError::corrupt("a block has too many bytes of keys"))?;
        let step = self.reader.signed()?;
        let after = self.previous.map_or(0, |p| i64::from(p) + 1);
        let row = after.checked_add(step).and_then(|row| u32::try_from(row).ok());
        let row = row
            .filter(|row| *row < self.rows)
            .ok_or_else(|| FormatError::corrupt("a key's row is not in the segment"))?;
        self.previous = Some(row);
        Ok(Some((key, row)))
    }
}

/// Collects ids into a column.
pub(super) enum IdColumnBuilder {
    UInt(Vec<u64>),
    Other(IdKind, Vec<Id>),
}

impl IdColumnBuilder {
    pub(super) fn new(kind: IdKind) -> Self {
        match kind {
            IdKind::UInt => Self::UInt(Vec::new()),
            kind => Self::Other(kind, Vec::new()),
        }
    }

    pub(super) fn push(&mut self, key: KeyRef<'_>) -> Result<(), FormatError> {
        match (self, key) {
            (Self::UInt(values), KeyRef::UInt(n)) => values.push(n),
            (Self::UInt(_), KeyRef::Bytes(_)) => return Err(FormatError::corrupt("a key is no uint id")),
            (Self::Other(kind, values), key) => values.push(key.to_id(*kind)?),
        }
        Ok(())
    }

    /// The ids in the order of their arrival, or the other way round.
    pub(super) fn finish(self, reverse: bool) -> IdColumn {
        match self {
            Self::UInt(mut values) => {
                if reverse {
                    values.reverse();
                }
                IdColumn::UInt(UInt64Array::from(values))
            }
            Self::Other(kind, values) if reverse => IdColumn::from_ids(kind, values.iter().rev()),
            Self::Other(kind, values) => IdColumn::from_ids(kind, values.iter()),
        }
    }
}
