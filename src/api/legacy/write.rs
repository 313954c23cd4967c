//! A write of v1 as a write of v2, text to text.
//!
//! Values stay slices of the body: what comes out is about as long as what came in, and nothing grows
//! with the number of rows but one flag per row where columns have deletes among them.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::filter;
use crate::api::query::object::{Named, Object};
use crate::model::Invalid;

/// The whole body. Fields beside those of rows are handed on as they are.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Write<'a> {
    #[serde(borrow)]
    upserts: Option<&'a RawValue>,
    #[serde(borrow)]
    ids: Option<&'a RawValue>,
    #[serde(borrow)]
    vectors: Option<&'a RawValue>,
    #[serde(borrow)]
    attributes: Option<&'a RawValue>,
    /// Part of old query results, which clients send back as they are.
    #[serde(borrow, rename = "distances")]
    _distances: Option<&'a RawValue>,
    #[serde(borrow)]
    delete_by_filter: Option<&'a RawValue>,
    #[serde(borrow)]
    copy_from_namespace: Option<&'a RawValue>,
    #[serde(borrow)]
    distance_metric: Option<&'a RawValue>,
    #[serde(borrow)]
    schema: Option<&'a RawValue>,
    #[serde(borrow)]
    encryption: Option<&'a RawValue>,
    #[serde(borrow)]
    disable_backpressure: Option<&'a RawValue>,
}

/// One row of `upserts`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row<'a> {
    #[serde(borrow)]
    id: &'a RawValue,
    /// A null that is written out is told apart from nothing: it deletes.
    #[serde(borrow, default, deserialize_with = "written")]
    vector: Option<&'a RawValue>,
    #[serde(borrow)]
    attributes: Option<&'a RawValue>,
    #[serde(borrow, rename = "dist")]
    _dist: Option<&'a RawValue>,
}

impl Named for Write<'_> {
    const NAME: &'static str = "Write";
}

impl Named for Row<'_> {
    const NAME: &'static str = "Row";
}

fn written<'de, D: Deserializer<'de>>(d: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(d).map(Some)
}

/// The body of the same write in v2.
///
/// * `filter_bytes_max` — the longest filter; filters become trees of values
///
/// # Errors
///
/// 400 for text that is no JSON and for what contradicts itself, 422 for JSON of another shape. What
/// is handed on as it is, v2 checks.
pub fn to_v2(body: &[u8], filter_bytes_max: usize) -> Result<Vec<u8>, Invalid> {
    let text =
        simdutf8::basic::from_utf8(body).map_err(|_| Invalid::new("the body is not valid JSON: it is not UTF-8"))?;
    let Object(write): Object<Write<'_>> = serde_json::from_str(text).map_err(|e| invalid("", &e))?;
    let mut out = Out::with_capacity(body.len() + super::FRAME_BYTES);
    match (write.upserts, write.ids) {
        (Some(_), Some(_)) => return Err(Invalid::new("upserts and ids exclude each other")),
        (Some(rows), None) => {
            nothing_without_ids(&write)?;
            upserts(rows.get(), &mut out)?;
        }
        (None, Some(ids)) => columns(ids.get(), &write, &mut out)?,
        (None, None) => nothing_without_ids(&write)?,
    }
    if let Some(text) = write.delete_by_filter {
        out.field("delete_by_filter", &delete_filter(text.get(), filter_bytes_max)?);
    }
    for (name, value) in [
        ("copy_from_namespace", write.copy_from_namespace),
        ("distance_metric", write.distance_metric),
        ("schema", write.schema),
        ("encryption", write.encryption),
        ("disable_backpressure", write.disable_backpressure),
    ] {
        if let Some(value) = value {
            out.field(name, value.get());
        }
    }
    Ok(out.finish())
}

fn nothing_without_ids(write: &Write<'_>) -> Result<(), Invalid> {
    match write.vectors.is_some() || write.attributes.is_some() {
        true => Err(Invalid::new("vectors and attributes need ids beside them")),
        false => Ok(()),
    }
}

fn delete_filter(text: &str, bytes_max: usize) -> Result<String, Invalid> {
    if text.len() > bytes_max {
        return Err(Invalid::new(format!(
            "delete_by_filter may have at most {bytes_max} bytes"
        )));
    }
    if !text.starts_with('{') {
        return Ok(text.to_owned());
    }
    let tree = serde_json::from_str(text).map_err(|e| invalid("delete_by_filter", &e))?;
    filter::to_v2(tree).map(|filter| filter.to_string())
}

/// The body in the making.
struct Out {
    text: Vec<u8>,
    /// The ids of rows to delete, with commas between them.
    deletes: Vec<u8>,
}

impl Out {
    fn with_capacity(bytes: usize) -> Self {
        let mut text = Vec::with_capacity(bytes);
        text.push(b'{');
        Self {
            text,
            deletes: Vec::new(),
        }
    }

    fn put(&mut self, text: &str) {
        self.text.extend_from_slice(text.as_bytes());
    }

    /// A comma, unless something opens here.
    fn separate(&mut self) {
        if !matches!(self.text.last(), Some(b'{' | b'[')) {
            self.text.push(b',');
        }
    }

    fn field(&mut self, name: &str, value: &str) {
        self.separate();
        serde_json::to_writer(&mut self.text, name).expect("a string is JSON, and a Vec takes all bytes");
        self.text.push(b':');
        self.put(value);
    }

    fn delete(&mut self, id: &str) {
        if !self.deletes.is_empty() {
            self.deletes.push(b',');
        }
        self.deletes.extend_from_slice(id.as_bytes());
    }

    fn finish(mut self) -> Vec<u8> {
        if !self.deletes.is_empty() {
            self.separate();
            self.put("\"deletes\":[");
            let deletes = std::mem::take(&mut self.deletes);
            self.text.extend_from_slice(&deletes);
            self.put("]");
        }
        self.put("}");
        self.text
    }
}

/// Rows one by one: `{"id", "vector"?, "attributes"?: {…}}` becomes one flat object.
fn upserts(text: &str, out: &mut Out) -> Result<(), Invalid> {
    let start = out.text.len();
    out.put("\"upsert_rows\":[");
    let mut kept = 0;
    each(text, "upserts", &mut |n, row| {
        let place = || format!("upserts[{n}]");
        let Object(row): Object<Row<'_>> = serde_json::from_str(row.get()).map_err(|e| invalid(&place(), &e))?;
        let deleted = row.vector.is_some_and(|v| v.get() == "null");
        if deleted {
            nothing_to_lose(row.attributes, &place())?;
            out.delete(row.id.get());
            return Ok(());
        }
        kept += 1;
        out.separate();
        out.put("{");
        out.field("id", row.id.get());
        if let Some(vector) = row.vector {
            out.field("vector", vector.get());
        }
        if let Some(attributes) = row.attributes {
            entries(attributes.get(), &place(), &mut |name, value| {
                attribute_name(&name)?;
                out.field(&name, value.get());
                Ok(())
            })?;
        }
        out.put("}");
        Ok(())
    })?;
    match kept {
        0 => out.text.truncate(start),
        _ => out.put("]"),
    }
    Ok(())
}

/// A row that is deleted has no attributes: most likely somebody wants a row without a vector, and
/// would lose it.
fn nothing_to_lose(attributes: Option<&RawValue>, place: &str) -> Result<(), Invalid> {
    let Some(attributes) = attributes else { return Ok(()) };
    entries(attributes.get(), place, &mut |_, value| match value.get() {
        "null" => Ok(()),
        _ => Err(deletes_with_attributes()),
    })
}

fn deletes_with_attributes() -> Invalid {
    Invalid::new(
        "a null vector deletes its row, which cannot have attributes then; leave the vector out to write a row without one",
    )
}

/// In v2 these stand beside the attributes.
fn attribute_name(name: &str) -> Result<(), Invalid> {
    match name {
        "id" | "vector" => Err(Invalid::new(format!("attributes may not contain {name:?}"))),
        _ => Ok(()),
    }
}

/// `ids`, `vectors` and `attributes` become columns; rows whose vector is null are deleted.
fn columns(ids: &str, write: &Write<'_>, out: &mut Out) -> Result<(), Invalid> {
    let vectors = write.vectors.map(RawValue::get);
    let deleted = vectors.map(nulls).transpose()?.flatten();
    let attributes = write.attributes.map(RawValue::get);
    match deleted {
        None => whole_columns(ids, vectors, attributes, out),
        Some(deleted) => split_columns(ids, vectors.unwrap_or("[]"), attributes, &deleted, out),
    }
}

/// Which elements are null; `None` when none is.
fn nulls(vectors: &str) -> Result<Option<Vec<bool>>, Invalid> {
    // Vectors of numbers, which are most, are not looked at one by one.
    if !vectors.contains("null") {
        return Ok(None);
    }
    let mut null = Vec::new();
    each(vectors, "vectors", &mut |_, value| {
        null.push(value.get() == "null");
        Ok(())
    })?;
    Ok(null.contains(&true).then_some(null))
}

fn whole_columns(ids: &str, vectors: Option<&str>, attributes: Option<&str>, out: &mut Out) -> Result<(), Invalid> {
    out.put("\"upsert_columns\":{");
    out.field("id", ids);
    if let Some(vectors) = vectors {
        out.field("vector", vectors);
    }
    if let Some(attributes) = attributes {
        entries(attributes, "attributes", &mut |name, column| {
            attribute_name(&name)?;
            out.field(&name, column.get());
            Ok(())
        })?;
    }
    out.put("}");
    Ok(())
}

fn split_columns(
    ids: &str,
    vectors: &str,
    attributes: Option<&str>,
    deleted: &[bool],
    out: &mut Out,
) -> Result<(), Invalid> {
    let (rows, start) = (deleted.len(), out.text.len());
    out.put("\"upsert_columns\":{\"id\":[");
    let count = each(ids, "ids", &mut |row, id| {
        match deleted.get(row) {
            Some(true) => out.delete(id.get()),
            _ => {
                out.separate();
                out.put(id.get());
            }
        }
        Ok(())
    })?;
    if count != rows {
        return Err(Invalid::new(format!("ids has {count} elements and vectors {rows}")));
    }
    out.put("]");
    kept_of("vector", vectors, deleted, out)?;
    if let Some(attributes) = attributes {
        entries(attributes, "attributes", &mut |name, column| {
            attribute_name(&name)?;
            kept_of(&name, column.get(), deleted, out)
        })?;
    }
    match deleted.contains(&false) {
        true => out.put("}"),
        false => out.text.truncate(start),
    }
    Ok(())
}

/// Writes one column without the rows that are deleted.
fn kept_of(name: &str, column: &str, deleted: &[bool], out: &mut Out) -> Result<(), Invalid> {
    out.field(name, "[");
    let count = each(column, name, &mut |row, value| {
        match deleted.get(row) {
            Some(true) if value.get() != "null" => return Err(deletes_with_attributes()),
            Some(true) => {}
            _ => {
                out.separate();
                out.put(value.get());
            }
        }
        Ok(())
    })?;
    out.put("]");
    match count == deleted.len() {
        true => Ok(()),
        false => Err(Invalid::new(format!(
            "attribute {name:?} has {count} elements and ids {}",
            deleted.len()
        ))),
    }
}

fn invalid(place: &str, e: &serde_json::Error) -> Invalid {
    match e.classify() {
        Category::Data if place.is_empty() => Invalid::shape(e.to_string()),
        Category::Data => Invalid::shape(format!("{place}: {e}")),
        Category::Syntax | Category::Eof | Category::Io => Invalid::new(format!("the body is not valid JSON: {e}")),
    }
}

/// What is done with one element of an array, or one entry of an object.
type OnElement<'f, 'a> = dyn FnMut(usize, &'a RawValue) -> Result<(), Invalid> + 'f;
type OnEntry<'f, 'a> = dyn FnMut(String, &'a RawValue) -> Result<(), Invalid> + 'f;

/// Calls `f` for each element of an array; returns their number.
fn each<'a>(text: &'a str, place: &str, f: &mut OnElement<'_, 'a>) -> Result<usize, Invalid> {
    let (mut failed, mut count) = (None, 0);
    let walk = Walk {
        element: Some(f),
        entry: None,
        failed: &mut failed,
        count: &mut count,
    };
    finish(
        walk.deserialize(&mut serde_json::Deserializer::from_str(text)),
        failed,
        place,
    )?;
    Ok(count)
}

/// Calls `f` for each entry of an object.
fn entries<'a>(text: &'a str, place: &str, f: &mut OnEntry<'_, 'a>) -> Result<(), Invalid> {
    let (mut failed, mut count) = (None, 0);
    let walk = Walk {
        element: None,
        entry: Some(f),
        failed: &mut failed,
        count: &mut count,
    };
    finish(
        walk.deserialize(&mut serde_json::Deserializer::from_str(text)),
        failed,
        place,
    )
}

fn finish(walked: serde_json::Result<()>, failed: Option<Invalid>, place: &str) -> Result<(), Invalid> {
    match failed {
        Some(invalid) => Err(invalid),
        None => walked.map_err(|e| invalid(place, &e)),
    }
}

/// Walks through an array or an object without keeping its values.
struct Walk<'w, 'f, 'a> {
    element: Option<&'w mut OnElement<'f, 'a>>,
    entry: Option<&'w mut OnEntry<'f, 'a>>,
    /// The error that serde's error type cannot carry.
    failed: &'w mut Option<Invalid>,
    count: &'w mut usize,
}

impl Walk<'_, '_, '_> {
    fn stop<E: serde::de::Error>(&mut self, invalid: Invalid) -> E {
        *self.failed = Some(invalid);
        E::custom("refused")
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        match self.element.is_some() {
            true => d.deserialize_seq(self),
            false => d.deserialize_map(self),
        }
    }
}

impl<'de> Visitor<'de> for Walk<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.element.is_some() { "a sequence" } else { "a map" })
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        let Some(f) = self.element.take() else {
            return Err(A::Error::custom("a map was expected"));
        };
        while let Some(value) = seq.next_element::<&'de RawValue>()? {
            f(*self.count, value).map_err(|e| self.stop(e))?;
            *self.count += 1;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let Some(f) = self.entry.take() else {
            return Err(A::Error::custom("a sequence was expected"));
        };
        while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
            f(name, value).map_err(|e| self.stop(e))?;
        }
        Ok(())
    }
}
