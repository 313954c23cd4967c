//! Pass 1: the structure of a write's body. Values stay slices of the body.

use std::borrow::Cow;
use std::cell::{Cell as StdCell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::model::{Invalid, Limits};

/// One value of one row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell<'a> {
    pub row: u32,
    /// `text` is a stretch of a flat array of numbers, without brackets.
    pub flat: bool,
    /// Well-formed JSON, trimmed.
    pub text: &'a str,
}

impl Cell<'_> {
    pub(super) fn is_null(&self) -> bool {
        self.text == "null"
    }
}

/// The values of one attribute, ascending by row, no row twice.
#[derive(Debug)]
pub(super) struct Cells<'a> {
    pub name: Arc<str>,
    pub cells: Vec<Cell<'a>>,
}

/// Rows, column by column. Column 0 is `id`.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    pub len: usize,
    pub columns: Vec<Cells<'a>>,
    // Only looked up, never iterated: its order matters to nobody.
    index: HashMap<Arc<str>, usize>,
}

impl<'a> Rows<'a> {
    pub(super) fn new() -> Self {
        let mut rows = Self {
            len: 0,
            columns: Vec::new(),
            index: HashMap::new(),
        };
        rows.intern("id", 0);
        rows
    }

    /// The number of the column of that name, new if need be.
    ///
    /// * `guess` — where it probably is: rows tend to name their attributes in the same order
    pub(super) fn intern(&mut self, name: &str, guess: usize) -> usize {
        if self.columns.get(guess).is_some_and(|c| &*c.name == name) {
            return guess;
        }
        if let Some(at) = self.index.get(name) {
            return *at;
        }
        let name: Arc<str> = name.into();
        self.index.insert(name.clone(), self.columns.len());
        self.columns.push(Cells {
            name,
            cells: Vec::new(),
        });
        self.columns.len() - 1
    }

    /// Sets a value; the last one of a row counts.
    pub(super) fn set(&mut self, column: usize, cell: Cell<'a>) {
        let cells = &mut self.columns[column].cells;
        match cells.last_mut().filter(|last| last.row == cell.row) {
            Some(last) => *last = cell,
            None => cells.push(cell),
        }
    }
}

/// The body of a write, its rows taken apart, everything else as given.
#[derive(Debug, Default)]
pub(super) struct Body<'a> {
    pub upsert_rows: Option<Rows<'a>>,
    pub upsert_columns: Option<Vec<(Cow<'a, str>, &'a str)>>,
    pub patch_rows: Option<Rows<'a>>,
    pub patch_columns: Option<Vec<(Cow<'a, str>, &'a str)>>,
    pub deletes: Option<Elements<'a>>,
    pub distance_metric: Option<String>,
    pub schema: Option<&'a str>,
    pub encryption: Option<&'a str>,
    pub create_namespace: Option<bool>,
    pub disable_backpressure: Option<bool>,
    pub upsert_condition: Option<&'a str>,
    pub patch_condition: Option<&'a str>,
    pub delete_condition: Option<&'a str>,
    pub delete_by_filter: Option<&'a str>,
    pub delete_by_filter_allow_partial: Option<bool>,
    pub patch_by_filter: Option<PatchByFilter<'a>>,
    pub patch_by_filter_allow_partial: Option<bool>,
    pub return_affected_ids: Option<bool>,
    pub sharding: Option<&'a str>,
}

/// `patch_by_filter` as given.
#[derive(Debug)]
pub(super) struct PatchByFilter<'a> {
    pub filters: &'a str,
    /// Attribute by attribute.
    pub patch: Vec<(Cow<'a, str>, &'a str)>,
}

/// Fields that make a request of their own; `origin` has taken such requests before this parser.
const ALONE: [&str; 2] = ["copy_from_namespace", "branch_from_namespace"];

/// Takes a write's body apart. An empty body is `{}`.
pub(super) fn parse<'a>(text: &'a str, limits: &Limits) -> Result<Body<'a>, Invalid> {
    if text.bytes().all(|b| b.is_ascii_whitespace()) {
        return Ok(Body::default());
    }
    let context = Context {
        field: StdCell::new(""),
        invalid: RefCell::new(None),
        names_max: limits.attributes_max + 1,
    };
    let mut json = serde_json::Deserializer::from_str(text);
    let body = BodySeed(&context)
        .deserialize(&mut json)
        .and_then(|body| json.end().map(|()| body));
    body.map_err(|e| context.explain(&e))
}

/// Turns a JSON error into the sentence for the client: 400 for text that is no JSON, 422 for JSON
/// of another shape.
pub(super) fn invalid_json(field: &str, e: &serde_json::Error) -> Invalid {
    match e.classify() {
        Category::Data if field.is_empty() => Invalid::shape(e.to_string()),
        Category::Data => Invalid::shape(format!("{field}: {e}")),
        Category::Syntax | Category::Eof | Category::Io => Invalid::new(format!("the body is not valid JSON: {e}")),
    }
}

/// What visitors share: where they are, and the error that serde's error type cannot carry.
struct Context {
    field: StdCell<&'static str>,
    invalid: RefCell<Option<Invalid>>,
    names_max: usize,
}

impl Context {
    fn fail<E: serde::de::Error>(&self, message: String) -> E {
        self.invalid.replace(Some(Invalid::new(message)));
        E::custom("refused")
    }

    fn explain(&self, e: &serde_json::Error) -> Invalid {
        match self.invalid.take() {
            Some(invalid) => invalid,
            None => invalid_json(self.field.get(), e),
        }
    }
}

struct BodySeed<'c>(&'c Context);

impl<'de> DeserializeSeed<'de> for BodySeed<'_> {
    type Value = Body<'de>;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Body<'de>, D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for BodySeed<'_> {
    type Value = Body<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a write request")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Body<'de>, A::Error> {
        let context = self.0;
        let mut body = Body::default();
        while let Some(Key(key)) = map.next_key()? {
            context
                .field
                .set(FIELDS.iter().find(|f| **f == key).copied().unwrap_or(""));
            match &*key {
                "upsert_rows" => body.upsert_rows = map.next_value_seed(Nullable(RowsSeed(context)))?,
                "patch_rows" => body.patch_rows = map.next_value_seed(Nullable(RowsSeed(context)))?,
                "upsert_columns" => body.upsert_columns = map.next_value_seed(Nullable(ColumnsSeed(context)))?,
                "patch_columns" => body.patch_columns = map.next_value_seed(Nullable(ColumnsSeed(context)))?,
                "deletes" => body.deletes = map.next_value_seed(Nullable(CellsSeed(ROWS_MAX)))?,
                "distance_metric" => body.distance_metric = map.next_value()?,
                "schema" => body.schema = given(map.next_value()?),
                "encryption" => body.encryption = given(map.next_value()?),
                "create_namespace" => body.create_namespace = map.next_value()?,
                "disable_backpressure" => body.disable_backpressure = map.next_value()?,
                "upsert_condition" => body.upsert_condition = given(map.next_value()?),
                "patch_condition" => body.patch_condition = given(map.next_value()?),
                "delete_condition" => body.delete_condition = given(map.next_value()?),
                "delete_by_filter" => body.delete_by_filter = given(map.next_value()?),
                "delete_by_filter_allow_partial" => body.delete_by_filter_allow_partial = map.next_value()?,
                "patch_by_filter" => {
                    body.patch_by_filter = map.next_value_seed(Nullable(PatchByFilterSeed(context)))?
                }
                "patch_by_filter_allow_partial" => body.patch_by_filter_allow_partial = map.next_value()?,
                "return_affected_ids" => body.return_affected_ids = map.next_value()?,
                "sharding" => body.sharding = given(map.next_value()?),
                alone if ALONE.contains(&alone) => {
                    let value: &RawValue = map.next_value()?;
                    if value.get() != "null" {
                        return Err(context.fail(format!(
                            "{alone} cannot be combined with documents or schema, nor be spelled with escapes: it is a \
                             small request of its own"
                        )));
                    }
                }
                unknown => return Err(context.fail(format!("unknown field {unknown:?} in the write request"))),
            }
        }
        Ok(body)
    }
}

const FIELDS: [&str; 19] = [
    "upsert_rows",
    "patch_rows",
    "upsert_columns",
    "patch_columns",
    "deletes",
    "distance_metric",
    "schema",
    "encryption",
    "create_namespace",
    "disable_backpressure",
    "upsert_condition",
    "patch_condition",
    "delete_condition",
    "delete_by_filter",
    "delete_by_filter_allow_partial",
    "patch_by_filter",
    "patch_by_filter_allow_partial",
    "return_affected_ids",
    "sharding",
];

fn given(value: &RawValue) -> Option<&str> {
    Some(value.get()).filter(|text| *text != "null")
}

/// `null`, or what the seed reads.
struct Nullable<S>(S);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Nullable<S> {
    type Value = Option<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_option(self)
    }
}

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for Nullable<S> {
    type Value = Option<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("null or a value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        self.0.deserialize(d).map(Some)
    }
}

struct RowsSeed<'c>(&'c Context);

impl<'de> DeserializeSeed<'de> for RowsSeed<'_> {
    type Value = Rows<'de>;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Rows<'de>, D::Error> {
        d.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for RowsSeed<'_> {
    type Value = Rows<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Rows<'de>, A::Error> {
        let mut rows = Rows::new();
        while seq
            .next_element_seed(RowSeed {
                context: self.0,
                rows: &mut rows,
            })?
            .is_some()
        {
            rows.len += 1;
        }
        Ok(rows)
    }
}

/// Reads one row into the columns.
struct RowSeed<'c, 'r, 'de> {
    context: &'c Context,
    rows: &'r mut Rows<'de>,
}

impl<'de> DeserializeSeed<'de> for RowSeed<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RowSeed<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let row = u32::try_from(self.rows.len).map_err(|_| A::Error::custom("too many rows"))?;
        let mut guess = 0;
        while let Some(column) = map.next_key_seed(ColumnKey {
            rows: &mut *self.rows,
            guess,
        })? {
            if self.rows.columns.len() > self.context.names_max {
                let max = self.context.names_max - 1;
                return Err(self
                    .context
                    .fail(format!("a namespace may have at most {max} attributes")));
            }
            let value: &'de RawValue = map.next_value()?;
            let cell = Cell {
                row,
                flat: false,
                text: value.get(),
            };
            self.rows.set(column, cell);
            guess = column + 1;
        }
        Ok(())
    }
}

/// Reads an attribute's name straight into its column number.
struct ColumnKey<'r, 'de> {
    rows: &'r mut Rows<'de>,
    guess: usize,
}

impl<'de> DeserializeSeed<'de> for ColumnKey<'_, '_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<usize, D::Error> {
        d.deserialize_str(self)
    }
}

impl Visitor<'_> for ColumnKey<'_, '_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an attribute name")
    }

    fn visit_str<E>(self, name: &str) -> Result<usize, E> {
        Ok(self.rows.intern(name, self.guess))
    }
}

/// A key of an object, borrowed unless it has escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        d.deserialize_str(KeyVisitor)
    }
}

struct ColumnsSeed<'c>(&'c Context);

impl<'de> DeserializeSeed<'de> for ColumnsSeed<'_> {
    type Value = Vec<(Cow<'de, str>, &'de str)>;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ColumnsSeed<'_> {
    type Value = Vec<(Cow<'de, str>, &'de str)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map with attribute names as keys")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut columns: Vec<(Cow<'de, str>, &'de str)> = Vec::new();
        while let Some(Key(name)) = map.next_key()? {
            let value: &'de RawValue = map.next_value()?;
            // At most about a thousand names, so a scan is cheap enough for finding the last of two.
            match columns.iter_mut().find(|(n, _)| *n == name) {
                Some(column) => column.1 = value.get(),
                None => columns.push((name, value.get())),
            }
            if columns.len() > self.0.names_max {
                let max = self.0.names_max - 1;
                return Err(self.0.fail(format!("a namespace may have at most {max} attributes")));
            }
        }
        Ok(columns)
    }
}

struct PatchByFilterSeed<'c>(&'c Context);

impl<'de> DeserializeSeed<'de> for PatchByFilterSeed<'_> {
    type Value = PatchByFilter<'de>;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for PatchByFilterSeed<'_> {
    type Value = PatchByFilter<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map with the keys filters and patch")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut filters, mut patch) = (None, None);
        while let Some(Key(key)) = map.next_key()? {
            match &*key {
                "filters" => filters = Some(map.next_value::<&RawValue>()?.get()),
                "patch" => patch = Some(map.next_value_seed(ColumnsSeed(self.0))?),
                unknown => {
                    let message = format!("patch_by_filter: unknown key {unknown:?}, expected filters and patch");
                    return Err(self.0.fail(message));
                }
            }
        }
        Ok(PatchByFilter {
            filters: filters.ok_or_else(|| A::Error::missing_field("filters"))?,
            patch: patch.ok_or_else(|| A::Error::missing_field("patch"))?,
        })
    }
}

/// The elements of an array.
#[derive(Debug)]
pub(super) struct Elements<'a> {
    /// The first ones, up to the maximum that was asked for.
    pub cells: Vec<Cell<'a>>,
    /// How many there are.
    pub count: usize,
}

/// Most ids in one array. An element of two bytes takes the memory of a [`Cell`], so this keeps the
/// densest body from taking twelve times its length.
pub(super) const ROWS_MAX: usize = 1 << 24;

/// Reads an array into one cell per element, up to a maximum; those beyond are counted only.
struct CellsSeed(usize);

impl<'de> DeserializeSeed<'de> for CellsSeed {
    type Value = Elements<'de>;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for CellsSeed {
    type Value = Elements<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let (mut cells, mut count) = (Vec::new(), 0);
        while let Some(value) = seq.next_element::<&'de RawValue>()? {
            if count < self.0 {
                let row = u32::try_from(count).map_err(|_| A::Error::custom("too many rows"))?;
                cells.push(Cell {
                    row,
                    flat: false,
                    text: value.get(),
                });
            }
            count += 1;
        }
        Ok(Elements { cells, count })
    }
}

/// Splits the text of a column into its values, of which the first `max` are kept.
pub(super) fn split<'a>(field: &str, text: &'a str, max: usize) -> Result<Elements<'a>, Invalid> {
    let mut json = serde_json::Deserializer::from_str(text);
    CellsSeed(max)
        .deserialize(&mut json)
        .map_err(|e| invalid_json(field, &e))
}

/// Refuses an array of more ids than a request may have.
pub(super) fn check_rows(field: &str, count: usize) -> Result<(), Invalid> {
    match count <= ROWS_MAX {
        true => Ok(()),
        false => Err(Invalid::new(format!(
            "{field}: has {count} ids, at most {ROWS_MAX} are allowed"
        ))),
    }
}
