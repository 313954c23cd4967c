//! Whether a segment has the indexes that a schema asks for now.

use super::Segment;
use super::container::SectionKind;
use crate::index::attribute::fingerprint;
use crate::model::{AttrType, Schema};

impl Segment {
    /// Whether writing the segment anew would give it an index that the schema asks for and that it lacks, or has as
    /// it was asked for before. Costs nothing.
    ///
    /// Never true of what was just written with this schema, or it would be written for ever.
    pub fn lacks_index(&self, schema: &Schema) -> bool {
        schema.attributes().any(|attribute| {
            if !self.layout.has_values(attribute).unwrap_or(false) {
                return false;
            }
            let text = attribute.full_text.as_ref();
            let has_text = text.is_none_or(|config| self.stored_text(attribute.id, config).is_some());
            // Arrays may be too long for a column.
            let is_scalar = matches!(attribute.ty, AttrType::Scalar(_));
            let has_column = !attribute.filterable || !is_scalar || self.has_column(attribute.id);
            let has_index = fingerprint(attribute).is_none_or(|wanted| {
                let section = self.layout.hot.section(SectionKind::Attribute, Some(attribute.id));
                section.is_some_and(|section| section.fingerprint == wanted)
            });
            !(has_text && has_column && has_index)
        })
    }
}
