//! Rows in, the bytes of a segment out.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef};
use bytes::Bytes;

use super::container::{SectionKind, Writer};
use super::pages::Values;
use super::values::id_type;
use super::wire::Compression;
use super::{EncodeOptions, Encoded, Rows, SegmentId, SegmentMeta, columns, keys, pages, vectors};
use crate::index::attribute;
use crate::index::text::stored::{self, EncodedText};
use crate::model::batch::{NamedColumn, arrow_type, values_bytes};
use crate::model::{AttrId, Attribute, Column, RowBatch, Schema, VectorColumn};

/// What the directories of attribute indexes may take of the hot region, in bytes. Of more the largest are read when they
/// are asked for.
const HOT_DIRECTORIES_BYTES: usize = 1 << 20;

/// Encodes rows as a segment. Takes long: belongs on the CPU pool.
///
/// The same rows, schema and options make the same bytes.
///
/// * `rows` — no id twice; numbered in this order
/// * `schema` — says which indexes there are; columns of other attributes are left out
pub fn encode(id: SegmentId, rows: &Rows, schema: &Schema, options: &EncodeOptions) -> Encoded {
    encode_with(id, rows, schema, options, Compression::default())
}

/// The same with another compression than the usual one.
pub fn encode_with(
    id: SegmentId,
    rows: &Rows,
    schema: &Schema,
    options: &EncodeOptions,
    compression: Compression,
) -> Encoded {
    encode_sized(id, rows, schema, options, compression, HOT_DIRECTORIES_BYTES)
}

/// The same with text indexes that were made before: the same bytes, without an analysis of these texts.
///
/// * `texts` — by attribute, of these rows, as the schema asks for them
pub fn encode_merged(
    id: SegmentId,
    rows: &Rows,
    schema: &Schema,
    options: &EncodeOptions,
    texts: &BTreeMap<AttrId, EncodedText>,
) -> Encoded {
    let compression = Compression::default();
    encode_all(id, rows, schema, options, (compression, HOT_DIRECTORIES_BYTES), texts)
}

/// The same with another limit of hot directories than the usual one, in bytes.
pub(super) fn encode_sized(
    id: SegmentId,
    rows: &Rows,
    schema: &Schema,
    options: &EncodeOptions,
    compression: Compression,
    hot_directories: usize,
) -> Encoded {
    let none = BTreeMap::new();
    encode_all(id, rows, schema, options, (compression, hot_directories), &none)
}

fn encode_all(
    id: SegmentId,
    rows: &Rows,
    schema: &Schema,
    options: &EncodeOptions,
    (compression, hot_directories): (Compression, usize),
    texts: &BTreeMap<AttrId, EncodedText>,
) -> Encoded {
    let count = u32::try_from(rows.ids.len()).expect("a segment has less than 2^32 rows");
    let columns = Columns::of(rows, schema);
    let mut writer = Writer::default();
    write_pages(rows, &columns, compression, &mut writer);
    let ids = columns::encode(&rows.ids.to_array(), id_type(rows.ids.kind()), compression);
    let ids = ids.expect("ids are no arrays");
    writer.section(SectionKind::Ids, None, 0, &ids.cold, ids.hot.into());
    let keys = keys::encode(&rows.ids);
    writer.section(SectionKind::Keys, None, 0, &keys.blocks, keys.index);
    writer.section(SectionKind::Bloom, None, 0, &[], keys.bloom);
    for (attribute, array) in &columns.values {
        let Some(config) = &attribute.full_text else { continue };
        let made = texts.get(&attribute.id).cloned();
        let text = made.unwrap_or_else(|| stored::encode(config, array, true));
        let options = stored::fingerprint(config);
        writer.section(
            SectionKind::Postings,
            Some(attribute.id),
            options,
            &text.pages,
            text.directory,
        );
    }
    for (attribute, array) in columns.values.iter().filter(|(a, _)| a.filterable) {
        if let Some(column) = columns::encode(array, attribute.ty, compression) {
            writer.section(
                SectionKind::Column,
                Some(attribute.id),
                0,
                &column.cold,
                column.hot.into(),
            );
        }
    }
    write_indexes(&columns, hot_directories, &mut writer);
    for (attribute, column) in &columns.vectors {
        let hot = vectors::encode(column, compression);
        writer.section(SectionKind::Vectors, Some(attribute.id), 0, &column.data, hot.into());
    }
    let (bytes, hot) = writer.finish(id, count, rows.ids.kind());
    let meta = SegmentMeta {
        id,
        level: options.level,
        rows: count,
        min_seq: options.min_seq,
        max_seq: options.max_seq,
        len: bytes.len() as u64,
        hot_offset: hot.offset,
        hot_len: hot.len,
        hot_crc: hot.crc,
        logical_bytes: columns.logical_bytes(rows),
        owner: None,
        inline: None,
        made_as: None,
    };
    Encoded { bytes, meta }
}

/// The columns that have a value, ascending by attribute.
struct Columns<'a> {
    values: Vec<(&'a Attribute, &'a ArrayRef)>,
    vectors: Vec<(&'a Attribute, &'a VectorColumn)>,
}

impl<'a> Columns<'a> {
    /// Panics when a column is not of its attribute's type or as long as the ids.
    fn of(rows: &'a Rows, schema: &'a Schema) -> Self {
        let mut attributes: Vec<_> = schema.attributes().collect();
        attributes.sort_by_key(|a| a.id);
        let (mut values, mut vectors) = (Vec::new(), Vec::new());
        for attribute in attributes {
            let Some(column) = rows.columns.get(&attribute.id) else {
                continue;
            };
            assert_eq!(column.len(), rows.ids.len(), "every column has a value for every row");
            match column {
                Column::Values(array) => {
                    let expected = arrow_type(attribute.ty);
                    assert_eq!(
                        Some(array.data_type()),
                        expected.as_ref(),
                        "columns have their attribute's type"
                    );
                    if array.null_count() < array.len() {
                        values.push((attribute, array));
                    }
                }
                Column::Vectors(column) => {
                    assert_eq!(column.ty(), attribute.ty, "columns have their attribute's type");
                    if column.nulls.as_ref().map_or(0, |n| n.null_count()) < column.len() {
                        vectors.push((attribute, column));
                    }
                }
            }
        }
        Self { values, vectors }
    }

    fn logical_bytes(&self, rows: &Rows) -> u64 {
        let named = |attribute: &Attribute, column| NamedColumn {
            name: attribute.name.clone(),
            ty: attribute.ty,
            column,
        };
        let values = self
            .values
            .iter()
            .map(|(a, array)| named(a, Column::Values((*array).clone())));
        let vectors = self
            .vectors
            .iter()
            .map(|(a, column)| named(a, Column::Vectors((*column).clone())));
        let batch = RowBatch {
            ids: rows.ids.clone(),
            columns: values.chain(vectors).collect(),
        };
        batch.logical_bytes()
    }
}

fn write_pages(rows: &Rows, columns: &Columns<'_>, compression: Compression, writer: &mut Writer) {
    let values = columns.values.iter().map(|(attribute, array)| Values {
        id: attribute.id,
        ty: attribute.ty,
        array,
        bytes: values_bytes(&Column::Values((*array).clone())),
    });
    for stream in pages::encode(&rows.ids, &values.collect::<Vec<_>>(), compression) {
        let hot = Bytes::from(stream.hot);
        writer.section(SectionKind::Pages, stream.attribute, 0, &stream.cold, hot);
    }
}

fn write_indexes(columns: &Columns<'_>, hot_directories: usize, writer: &mut Writer) {
    let built = columns.values.iter().filter_map(|(a, array)| {
        let built = attribute::build(&Column::Values((*array).clone()), a)?;
        Some((a.id, attribute::fingerprint(a)?, built))
    });
    let built: Vec<_> = built.collect();
    let mut lens: Vec<usize> = built.iter().map(|(_, _, b)| b.directory.len()).collect();
    let longest = longest_hot(&mut lens, hot_directories);
    for (id, fingerprint, built) in built {
        let is_hot = built.directory.len() <= longest;
        let (hot, cold) = match is_hot {
            true => (built.directory, Bytes::new()),
            false => (Bytes::new(), built.directory),
        };
        writer.section(SectionKind::Attribute, Some(id), fingerprint, &built.blocks, hot);
        if !is_hot {
            writer.section(
                SectionKind::AttributeDirectory,
                Some(id),
                fingerprint,
                &cold,
                Bytes::new(),
            );
        }
    }
}

/// The length up to which all directories together take at most so many bytes.
pub(super) fn longest_hot(lens: &mut [usize], bytes: usize) -> usize {
    lens.sort_unstable();
    let mut left = bytes;
    let mut longest = 0;
    for same in lens.chunk_by(|a, b| a == b) {
        match left.checked_sub(same.iter().sum()) {
            Some(rest) => (left, longest) = (rest, same[0]),
            None => break,
        }
    }
    longest
}
