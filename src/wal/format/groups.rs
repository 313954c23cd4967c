//! Groups: the rows of many operations side by side.
//!
//! An operation is a kind and a number of rows; the rows are the next ones of a group. Writing
//! puts an operation into a group whose columns suit it, reading cuts the groups up again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use super::pieces::Pieces;
use super::{DecodeError, SECTION_RAW_BYTES_MAX, proto, schema, table, vectors};
use crate::model::batch::NamedColumn;
use crate::model::{AttrType, Column, IdColumn, IdKind, RowBatch, VectorColumn};
use crate::wal::Operation;

/// Sections are appended to one body; the cursor says where the next one starts.
pub(super) struct Body {
    pub bytes: Pieces,
    /// How many bytes compressed sections may still unpack to, so that a reader can hold the
    /// whole object to one limit.
    pub raw_budget: u64,
}

/// Which operations may share a group.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    /// Missing columns can be filled with nulls, but a missing vector would cost as much as a
    /// real one: the vector columns must be the same.
    Upsert(IdKind, Vec<(Arc<str>, AttrType)>),
    /// Null means "set to null" here: the columns must be the same.
    Patch(IdKind, Vec<(Arc<str>, AttrType)>),
    Delete(IdKind),
}

/// A group being filled.
struct Filling {
    id_kind: IdKind,
    columns: BTreeMap<Arc<str>, AttrType>,
    parts: Vec<Part>,
    rows: usize,
    /// Values of the parts, without those filled in.
    cells: usize,
}

pub(super) struct Part {
    pub ids: IdColumn,
    /// Sorted by name.
    pub columns: Vec<NamedColumn>,
}

/// Collects operations into groups.
#[derive(Default)]
pub(super) struct GroupWriter {
    groups: Vec<Filling>,
    /// The group of each key that takes more rows.
    open: HashMap<Key, usize>,
}

impl GroupWriter {
    /// Adds an operation's rows to a group; `None` when it has none and so no effect.
    pub fn add(&mut self, operation: &Operation) -> Option<proto::Operation> {
        if operation.rows() == 0 {
            return None;
        }
        let (kind, key, part) = classify(operation);
        let rows = part.ids.len();
        let group = match self.open.get(&key) {
            Some(group) if self.groups[*group].accepts(&part) => *group,
            _ => {
                self.groups.push(Filling::new(part.ids.kind()));
                self.open.insert(key, self.groups.len() - 1);
                self.groups.len() - 1
            }
        };
        self.groups[group].push(part);
        Some(proto::Operation {
            kind: kind as i32,
            group: u32::try_from(group).expect("a group has rows, and memory ends before 2^32 groups"),
            rows: u32::try_from(rows).expect("a request body has fewer than 2^32 rows"),
        })
    }

    /// The groups as messages, and the body with their sections.
    pub fn finish(self) -> (Vec<proto::Group>, Pieces) {
        let mut body = Body {
            bytes: Pieces::default(),
            raw_budget: SECTION_RAW_BYTES_MAX,
        };
        let groups = self.groups.iter().map(|group| group.write(&mut body)).collect();
        (groups, body.bytes)
    }
}

fn classify(operation: &Operation) -> (proto::OperationKind, Key, Part) {
    let signature = |columns: &[NamedColumn], vectors_only: bool| {
        let wanted = columns.iter().filter(|c| !vectors_only || c.ty.is_vector());
        wanted.map(|c| (c.name.clone(), c.ty)).collect::<Vec<_>>()
    };
    let part = |ids: &IdColumn, columns| Part {
        ids: ids.clone(),
        columns,
    };
    match operation {
        Operation::Upsert(RowBatch { ids, columns }) => {
            let columns: Vec<_> = columns.iter().filter(|c| !all_null(&c.column)).cloned().collect();
            let key = Key::Upsert(ids.kind(), signature(&columns, true));
            (proto::OperationKind::Upsert, key, part(ids, columns))
        }
        Operation::Patch(RowBatch { ids, columns }) => {
            let key = Key::Patch(ids.kind(), signature(columns, false));
            (proto::OperationKind::Patch, key, part(ids, columns.clone()))
        }
        Operation::Delete(ids) => {
            let key = Key::Delete(ids.kind());
            (proto::OperationKind::Delete, key, part(ids, Vec::new()))
        }
    }
}

fn all_null(column: &Column) -> bool {
    match column {
        Column::Values(a) => a.null_count() == a.len(),
        Column::Vectors(v) => v.nulls.as_ref().is_some_and(|n| n.null_count() == n.len()),
    }
}

impl Filling {
    fn new(id_kind: IdKind) -> Self {
        Self {
            id_kind,
            columns: BTreeMap::new(),
            parts: Vec::new(),
            rows: 0,
            cells: 0,
        }
    }

    /// Whether the part's types fit, and filling in nulls would not dwarf the values: requests
    /// with a thousand different columns each must not multiply.
    fn accepts(&self, part: &Part) -> bool {
        let mut added = 0;
        for column in &part.columns {
            match self.columns.get(&column.name) {
                Some(ty) if *ty == column.ty => {}
                Some(_) => return false,
                None => added += 1,
            }
        }
        let cells = (self.rows + part.ids.len()) * (self.columns.len() + added);
        cells <= 2 * (self.cells + part.cells()) + 4096
    }

    fn push(&mut self, part: Part) {
        self.rows += part.ids.len();
        self.cells += part.cells();
        for column in &part.columns {
            self.columns.insert(column.name.clone(), column.ty);
        }
        self.parts.push(part);
    }

    fn write(&self, body: &mut Body) -> proto::Group {
        let values = self.columns.iter().filter(|(_, ty)| !ty.is_vector());
        let table = table::write(&self.parts, values, body);
        let columns = self.columns.iter().map(|(name, ty)| {
            let vectors = ty
                .is_vector()
                .then(|| vectors::write(&self.parts, name, self.rows, body));
            let (vectors, nulls) = vectors.map_or((None, false), |(section, nulls)| (Some(section), nulls));
            proto::Column {
                name: name.to_string(),
                r#type: ty.to_string(),
                vectors,
                nulls,
            }
        });
        proto::Group {
            rows: u32::try_from(self.rows).expect("a batch of requests has fewer than 2^32 rows"),
            id_kind: schema::id_kind_to_proto(self.id_kind) as i32,
            table: Some(table),
            columns: columns.collect(),
        }
    }
}

impl Part {
    fn cells(&self) -> usize {
        self.ids.len() * self.columns.len()
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&NamedColumn> {
        let at = self.columns.binary_search_by(|c| (*c.name).cmp(name)).ok()?;
        Some(&self.columns[at])
    }
}

/// Walks the sections of a body, which lie one after the other, so that none is read twice.
pub(super) struct BodyReader<'a> {
    body: &'a Bytes,
    at: u64,
    pub raw_budget: u64,
}

impl BodyReader<'_> {
    /// The stored bytes of the next section, after checking its place and checksum.
    pub fn section(&mut self, section: Option<&proto::Section>) -> Result<Bytes, DecodeError> {
        let section = section.ok_or_else(|| DecodeError::corrupt("a section is missing"))?;
        let end = section.offset.checked_add(section.len);
        let end = end.filter(|end| section.offset == self.at && *end <= self.body.len() as u64);
        let end = end.ok_or_else(|| DecodeError::corrupt("a section is not where it should be"))?;
        // Both are at most the body's length, which is a usize.
        let bytes = self.body.slice(section.offset as usize..end as usize);
        if crc32c::crc32c(&bytes) != section.crc32c {
            return Err(DecodeError::corrupt("the checksum of a section is wrong"));
        }
        self.at = end.next_multiple_of(super::container::ALIGN as u64);
        Ok(bytes)
    }
}

/// A decoded group and how many of its rows have been handed out.
struct Decoded {
    rows: RowBatch,
    taken: usize,
}

/// Hands the rows of groups out to operations.
pub(super) struct GroupReader {
    groups: Vec<Decoded>,
}

impl GroupReader {
    /// Decodes every group of a body.
    pub fn new(groups: &[proto::Group], body: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = BodyReader {
            body,
            at: 0,
            raw_budget: SECTION_RAW_BYTES_MAX,
        };
        let groups = groups.iter().map(|group| {
            Ok::<_, DecodeError>(Decoded {
                rows: read_group(group, &mut reader)?,
                taken: 0,
            })
        });
        let groups = groups.collect::<Result<Vec<_>, _>>()?;
        if reader.at != body.len() as u64 {
            return Err(DecodeError::corrupt("its body is longer than its sections"));
        }
        Ok(Self { groups })
    }

    /// The operation with its rows.
    pub fn take(&mut self, operation: &proto::Operation) -> Result<Operation, DecodeError> {
        let kind = proto::OperationKind::try_from(operation.kind)
            .map_err(|_| DecodeError::newer(format!("unknown operation kind {}", operation.kind)))?;
        let group = self
            .groups
            .get_mut(operation.group as usize)
            .ok_or_else(|| DecodeError::corrupt("an operation names a group that does not exist"))?;
        let (first, rows) = (group.taken, operation.rows as usize);
        if rows == 0 || rows > group.rows.len() - first {
            return Err(DecodeError::corrupt(
                "an operation takes more rows than its group has, or none",
            ));
        }
        group.taken += rows;
        let ids = slice_ids(&group.rows.ids, first, rows);
        let columns = group.rows.columns.iter().map(|c| slice_column(c, first, rows));
        match kind {
            proto::OperationKind::Upsert => Ok(Operation::Upsert(RowBatch {
                ids,
                columns: columns.filter(|c| !all_null(&c.column)).collect(),
            })),
            proto::OperationKind::Patch => Ok(Operation::Patch(RowBatch {
                ids,
                columns: columns.collect(),
            })),
            proto::OperationKind::Delete if group.rows.columns.is_empty() => Ok(Operation::Delete(ids)),
            proto::OperationKind::Delete => Err(DecodeError::corrupt("a deletion has columns")),
            proto::OperationKind::Unspecified => Err(DecodeError::corrupt("an operation has no kind")),
        }
    }

    /// Checks that every row was handed out.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.groups.iter().all(|g| g.taken == g.rows.len()) {
            true => Ok(()),
            false => Err(DecodeError::corrupt("some rows belong to no operation")),
        }
    }
}

fn read_group(group: &proto::Group, body: &mut BodyReader) -> Result<RowBatch, DecodeError> {
    if group.rows == 0 || !group.columns.windows(2).all(|w| w[0].name < w[1].name) {
        return Err(DecodeError::corrupt(
            "a group has no rows, or its columns are out of order",
        ));
    }
    let id_kind =
        schema::id_kind_from_proto(group.id_kind)?.ok_or_else(|| DecodeError::corrupt("a group has no id kind"))?;
    let types = group.columns.iter().map(|c| schema::type_from_proto(&c.r#type));
    let types = types.collect::<Result<Vec<_>, _>>()?;
    let rows = group.rows as usize;
    let (ids, values) = table::read(group.table.as_ref(), rows, id_kind, &types, body)?;
    let mut values = values.into_iter();
    let mut columns = Vec::with_capacity(types.len());
    for (column, ty) in group.columns.iter().zip(types) {
        let data = match ty {
            AttrType::Vector { dims, element } => Column::Vectors(vectors::read(column, rows, dims, element, body)?),
            _ => Column::Values(
                values
                    .next()
                    .expect("the table has a column for every type but vectors"),
            ),
        };
        columns.push(NamedColumn {
            name: column.name.as_str().into(),
            ty,
            column: data,
        });
    }
    Ok(RowBatch { ids, columns })
}

/// Some rows of a batch, without copying what need not be.
pub(in crate::wal) fn slice_batch(batch: &RowBatch, first: usize, rows: usize) -> RowBatch {
    RowBatch {
        ids: slice_ids(&batch.ids, first, rows),
        columns: batch.columns.iter().map(|c| slice_column(c, first, rows)).collect(),
    }
}

pub(in crate::wal) fn slice_ids(ids: &IdColumn, first: usize, rows: usize) -> IdColumn {
    match ids {
        IdColumn::UInt(a) => IdColumn::UInt(a.slice(first, rows)),
        IdColumn::Uuid(a) => IdColumn::Uuid(a.slice(first, rows)),
        IdColumn::String(a) => IdColumn::String(a.slice(first, rows)),
    }
}

fn slice_column(column: &NamedColumn, first: usize, rows: usize) -> NamedColumn {
    let data = match &column.column {
        Column::Values(a) => Column::Values(a.slice(first, rows)),
        Column::Vectors(v) => {
            let stride = v.stride();
            let nulls = v.nulls.as_ref().map(|n| n.slice(first, rows));
            Column::Vectors(VectorColumn {
                data: vectors::aligned(v.data.slice_with_length(first * stride, rows * stride)),
                nulls: nulls.filter(|n| n.null_count() > 0),
                ..*v
            })
        }
    };
    NamedColumn {
        name: column.name.clone(),
        ty: column.ty,
        column: data,
    }
}
