//! From cells to batches: ids and columns of upserts, groups of patches.

use std::collections::HashMap;

use super::body::{self, Body, Cell, Cells, Elements, Rows};
use super::column::{self, BadCell, Bounds};
use super::schema::Draft;
use super::{ids, infer, json};
use crate::model::batch::NamedColumn;
use crate::model::names::check_attribute_name;
use crate::model::{IdColumn, Invalid, Limits, RowBatch, Schema};

/// Most values of a batch, nulls included, beyond four times those that the body spells out. A
/// column takes memory for each of its rows, so that a body of a thousand attributes in one row
/// and millions of rows with none would not fit into any machine.
const CELLS_SPARE: usize = 16 << 20;

/// Most columns of all patch groups of a request together.
const PATCH_COLUMNS_MAX: usize = 65_536;

/// The upserts of a body, `upsert_columns` after `upsert_rows`; `None` when there are none.
pub(super) fn upserts<'a>(body: &mut Body<'a>, schema: &Schema) -> Result<Option<Rows<'a>>, Invalid> {
    let columns = body.upsert_columns.take();
    collect("upsert", body.upsert_rows.take(), columns, schema)
}

/// The patches of a body, `patch_columns` after `patch_rows`; `None` when there are none.
pub(super) fn patches<'a>(body: &mut Body<'a>, schema: &Schema) -> Result<Option<Rows<'a>>, Invalid> {
    let columns = body.patch_columns.take();
    collect("patch", body.patch_rows.take(), columns, schema)
}

fn collect<'a>(
    verb: &str,
    rows: Option<Rows<'a>>,
    columns: Option<Vec<(std::borrow::Cow<'a, str>, &'a str)>>,
    schema: &Schema,
) -> Result<Option<Rows<'a>>, Invalid> {
    let mut rows = rows.unwrap_or_else(Rows::new);
    check_ids(&format!("{verb}_rows"), &rows)?;
    if let Some(columns) = columns {
        append_columns(&format!("{verb}_columns"), &mut rows, columns, schema)?;
    }
    for column in &rows.columns[1..] {
        // Columns that embedding generates have names that clients cannot give.
        if schema.get(&column.name).is_none() {
            check_attribute_name(&column.name)?;
        }
    }
    Ok(Some(rows).filter(|r| r.len > 0))
}

fn check_ids(field: &str, rows: &Rows<'_>) -> Result<(), Invalid> {
    let given = &rows.columns[0].cells;
    if given.len() == rows.len {
        return Ok(());
    }
    let missing = (0u32..).zip(given).find(|(row, cell)| cell.row != *row);
    let row = missing.map_or(given.len(), |(row, _)| row as usize);
    Err(Invalid::new(format!("{field}: the row at index {row} has no id")))
}

fn append_columns<'a>(
    field: &str,
    rows: &mut Rows<'a>,
    columns: Vec<(std::borrow::Cow<'a, str>, &'a str)>,
    schema: &Schema,
) -> Result<(), Invalid> {
    let Some((_, ids)) = columns.iter().find(|(name, _)| name == "id") else {
        return Err(Invalid::new(format!("{field} needs a column id")));
    };
    let place = format!("{field}.id");
    let len = body::split(&place, ids, 0)?.count;
    body::check_rows(&place, len)?;
    let first = rows.len;
    for (name, text) in columns {
        let place = format!("{field}.{name}");
        let is_vector = schema.get(&name).map_or(name == "vector", |a| a.ty.is_vector());
        let Elements { cells, count } = match is_vector && is_flat(text) {
            true => cut(&place, text, len)?,
            false => body::split(&place, text, len)?,
        };
        if count != len {
            return Err(Invalid::new(format!(
                "{place}: has {count} values, but there are {len} ids; all columns must be equally long"
            )));
        }
        let column = rows.intern(&name, usize::MAX);
        for cell in cells {
            let row = u32::try_from(first + cell.row as usize)
                .map_err(|_| Invalid::new(format!("{field}: too many rows in one request")))?;
            rows.set(column, Cell { row, ..cell });
        }
    }
    rows.len = first + len;
    Ok(())
}

fn is_flat(text: &str) -> bool {
    let inner = text.strip_prefix('[').unwrap_or("").trim_ascii_start();
    matches!(inner.as_bytes().first(), Some(b'-' | b'0'..=b'9'))
}

/// Cuts a flat array of numbers into one stretch per row.
fn cut<'a>(place: &str, text: &'a str, rows: usize) -> Result<Elements<'a>, Invalid> {
    let numbers = json::numbers::<f32>(text, |_, _| Ok(())).map_err(|r| Invalid::new(format!("{place}: {r}")))?;
    if rows == 0 || !numbers.is_multiple_of(rows) {
        return Err(Invalid::new(format!(
            "{place}: a flat array of {numbers} numbers cannot be divided among {rows} ids"
        )));
    }
    let dims = numbers / rows;
    let end = text.len().saturating_sub(1);
    let (mut start, mut commas) = (1, 0);
    let mut cells = Vec::with_capacity(rows);
    for (at, byte) in text.bytes().enumerate().skip(1) {
        commas += usize::from(byte == b',');
        if at == end || commas == dims {
            cells.push(Cell {
                row: u32::try_from(cells.len()).expect("a body has fewer than 2^32 numbers"),
                flat: true,
                text: &text[start..at],
            });
            (start, commas) = (at + 1, 0);
        }
    }
    Ok(Elements {
        count: cells.len(),
        cells,
    })
}

/// Learns the types of attributes that the schema does not know.
pub(super) fn infer_types(rows: &Rows<'_>, draft: &mut Draft<'_>) -> Result<(), Invalid> {
    let mut unknown: Vec<&Cells<'_>> = rows.columns[1..]
        .iter()
        .filter(|c| draft.schema.get(&c.name).is_none())
        .collect();
    // By name, so that the attributes' numbers do not depend on the order of keys.
    unknown.sort_by(|a, b| a.name.cmp(&b.name));
    for column in unknown {
        let ty = infer::infer(column).map_err(|bad| sentence(rows, &column.name, bad))?;
        if let Some(ty) = ty {
            draft.infer(&column.name, ty)?;
        }
    }
    Ok(())
}

fn sentence(rows: &Rows<'_>, name: &str, bad: BadCell) -> Invalid {
    let id = rows.columns[0].cells.get(bad.row as usize).map_or("", |c| c.text);
    let id: String = id.chars().take(80).collect();
    Invalid::new(format!("attribute {name:?} of the row with id {id}: {}", bad.reason))
}

/// A typed batch, and its logical bytes.
pub(super) type Typed = (RowBatch, u64);

/// Types the upserts.
pub(super) fn type_upserts(rows: &Rows<'_>, schema: &Schema, limits: &Limits) -> Result<Typed, Invalid> {
    check_vectors(rows, schema)?;
    let columns: Vec<&Cells<'_>> = rows.columns[1..]
        .iter()
        .filter(|c| c.cells.iter().any(|cell| !cell.is_null()))
        .collect();
    let given: usize = columns.iter().map(|c| c.cells.len()).sum();
    if rows.len.saturating_mul(columns.len()) > CELLS_SPARE.saturating_add(4 * given) {
        return Err(Invalid::new(format!(
            "{} rows of {} different attributes, most of them not given, are too many for one request; \
             send fewer rows at once",
            rows.len,
            columns.len()
        )));
    }
    let parts = columns.iter().map(|c| (*c, c.cells.as_slice())).collect();
    type_batch(rows, None, parts, schema, limits)
}

/// Every row has to bring every vector, except those that models make.
fn check_vectors(rows: &Rows<'_>, schema: &Schema) -> Result<(), Invalid> {
    for attribute in schema.vectors().filter(|a| !a.nullable) {
        let cells = rows.columns[1..]
            .iter()
            .find(|c| c.name == attribute.name)
            .map_or(&[][..], |c| c.cells.as_slice());
        let missing = (0u32..)
            .take(rows.len)
            .zip(cells.iter().map(Some).chain(std::iter::repeat(None)))
            .find(|(row, cell)| cell.is_none_or(|c| c.row != *row || c.is_null()));
        if let Some((row, _)) = missing {
            let reason = "is missing; every upserted row needs all vector columns".to_owned();
            return Err(sentence(rows, &attribute.name, BadCell { row, reason }));
        }
    }
    Ok(())
}

/// Types ids and columns.
///
/// * `chosen` — the rows of the batch, all if `None`; the cells of `parts` count from 0 within it
fn type_batch(
    rows: &Rows<'_>,
    chosen: Option<&[u32]>,
    parts: Vec<(&Cells<'_>, &[Cell<'_>])>,
    schema: &Schema,
    limits: &Limits,
) -> Result<Typed, Invalid> {
    let all_ids = &rows.columns[0].cells;
    let back = |bad: BadCell| BadCell {
        row: chosen.map_or(bad.row, |c| c.get(bad.row as usize).copied().unwrap_or(bad.row)),
        ..bad
    };
    let chosen_ids: Vec<Cell<'_>>;
    let id_cells = match chosen {
        None => all_ids,
        Some(chosen) => {
            chosen_ids = chosen.iter().map(|row| all_ids[*row as usize]).collect();
            &chosen_ids
        }
    };
    let ids = type_ids("id", id_cells, schema, limits)?;
    let mut row_bytes: Vec<u64> = (0..ids.len()).map(|row| ids::bytes(&ids, row)).collect();
    let mut columns = Vec::with_capacity(parts.len());
    for (named, cells) in parts {
        let Some(attribute) = schema.get(&named.name) else {
            continue;
        };
        let column = column::build(attribute.ty, Bounds::of(attribute, limits), cells, &mut row_bytes)
            .map_err(|bad| sentence(rows, &named.name, back(bad)))?;
        columns.push(NamedColumn {
            name: attribute.name.clone(),
            ty: attribute.ty,
            column,
        });
    }
    columns.sort_by(|a, b| a.name.cmp(&b.name));
    let max = limits.row_bytes_max as u64;
    if let Some(row) = row_bytes.iter().position(|bytes| *bytes > max) {
        return Err(Invalid::new(format!(
            "the row with id {} has {} bytes, at most {max} are allowed",
            ids.get(row),
            row_bytes[row]
        )));
    }
    Ok((RowBatch { ids, columns }, row_bytes.iter().sum()))
}

/// Types ids of the kind that the schema says.
pub(super) fn type_ids(field: &str, cells: &[Cell<'_>], schema: &Schema, limits: &Limits) -> Result<IdColumn, Invalid> {
    let kind = schema.id_kind.expect("the first id has set the kind");
    ids::build(kind, cells, limits.id_bytes_max).map_err(|bad| {
        let text = cells.get(bad.row as usize).map_or("", |c| c.text);
        let text: String = text.chars().take(80).collect();
        Invalid::new(format!("{field} {text}: {}", bad.reason))
    })
}

/// Rows that name the same attributes.
struct Group<'a> {
    /// Ascending numbers of columns, without `id`.
    columns: Vec<usize>,
    rows: Vec<u32>,
    /// Per column; their rows count within the group.
    cells: Vec<Vec<Cell<'a>>>,
}

/// The values of a `patch_by_filter`, as the one row that they are; it has no id.
pub(super) fn patch_by_filter<'a>(values: Vec<(std::borrow::Cow<'a, str>, &'a str)>) -> Result<Rows<'a>, Invalid> {
    let mut rows = Rows::new();
    for (name, text) in values {
        check_attribute_name(&name).map_err(|e| Invalid::new(format!("patch_by_filter: {e}")))?;
        let column = rows.intern(&name, usize::MAX);
        if column == 0 {
            return Err(Invalid::new("patch_by_filter: the id of a row cannot be patched"));
        }
        let cell = Cell {
            row: 0,
            flat: false,
            text,
        };
        rows.set(column, cell);
    }
    rows.len = 1;
    Ok(rows)
}

/// Types the values of a `patch_by_filter`: columns of one row, and its logical bytes.
pub(super) fn type_patch_by_filter(
    rows: &Rows<'_>,
    schema: &Schema,
    limits: &Limits,
) -> Result<(Vec<NamedColumn>, u64), Invalid> {
    let mut columns = Vec::new();
    let mut bytes = [0];
    for at in patchable(rows, schema)? {
        let named = &rows.columns[at];
        let attribute = schema.require(&named.name)?;
        let column = column::build(attribute.ty, Bounds::of(attribute, limits), &named.cells, &mut bytes)
            .map_err(|bad| Invalid::new(format!("patch_by_filter: attribute {:?}: {}", named.name, bad.reason)))?;
        columns.push(NamedColumn {
            name: attribute.name.clone(),
            ty: attribute.ty,
            column,
        });
    }
    columns.sort_by(|a, b| a.name.cmp(&b.name));
    match bytes[0] <= limits.row_bytes_max as u64 {
        true => Ok((columns, bytes[0])),
        false => Err(Invalid::new(format!(
            "patch_by_filter: the patch has {} bytes, at most {} are allowed",
            bytes[0], limits.row_bytes_max
        ))),
    }
}

/// The columns of a patch that have a type, by their numbers. Those that have none are all null.
fn patchable(rows: &Rows<'_>, schema: &Schema) -> Result<Vec<usize>, Invalid> {
    let mut typed = Vec::new();
    for (at, column) in rows.columns.iter().enumerate().skip(1) {
        let Some(attribute) = schema.get(&column.name) else {
            continue;
        };
        attribute.check_patchable()?;
        typed.push(at);
    }
    Ok(typed)
}

/// Types the patches, one batch per set of attributes.
pub(super) fn type_patches(rows: &Rows<'_>, schema: &Schema, limits: &Limits) -> Result<Vec<Typed>, Invalid> {
    let typed = patchable(rows, schema)?;
    let groups = group(rows, &typed)?;
    let batches = groups.iter().map(|group| {
        let parts = group.columns.iter().zip(&group.cells);
        let parts = parts
            .map(|(at, cells)| (&rows.columns[*at], cells.as_slice()))
            .collect();
        type_batch(rows, Some(&group.rows), parts, schema, limits)
    });
    batches.collect()
}

fn group<'a>(rows: &Rows<'a>, typed: &[usize]) -> Result<Vec<Group<'a>>, Invalid> {
    let mut masks: Vec<Vec<usize>> = vec![Vec::new(); rows.len];
    for at in typed {
        for cell in &rows.columns[*at].cells {
            masks[cell.row as usize].push(*at);
        }
    }
    let mut groups: Vec<Group<'a>> = Vec::new();
    // Only looked up, never iterated: the groups' order is that of their first rows.
    let mut index: HashMap<Vec<usize>, usize> = HashMap::new();
    let mut places = Vec::with_capacity(rows.len);
    let mut columns = 0;
    for (row, mask) in (0u32..).zip(masks) {
        let at = match index.get(&mask) {
            Some(at) => *at,
            None => {
                columns += mask.len() + 1;
                if columns > PATCH_COLUMNS_MAX {
                    return Err(Invalid::new(
                        "the patches name too many different sets of attributes for one request",
                    ));
                }
                groups.push(Group {
                    cells: vec![Vec::new(); mask.len()],
                    columns: mask.clone(),
                    rows: Vec::new(),
                });
                index.insert(mask, groups.len() - 1);
                groups.len() - 1
            }
        };
        let within = u32::try_from(groups[at].rows.len()).expect("a group has no more rows than the request");
        places.push((at, within));
        groups[at].rows.push(row);
    }
    for at in typed {
        for cell in &rows.columns[*at].cells {
            let (group, row) = places[cell.row as usize];
            let group = &mut groups[group];
            let column = group
                .columns
                .binary_search(at)
                .expect("the group's mask has the column");
            group.cells[column].push(Cell { row, ..*cell });
        }
    }
    Ok(groups)
}
