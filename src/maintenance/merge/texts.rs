//! Text indexes of a merge, put together from those of its inputs.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Batch;
use crate::model::{AttrId, Attribute, Schema};
use crate::segment::{EncodedText, Segment, SegmentError, TextToMerge, merge_texts};

/// The stored text indexes of those attributes that all inputs have as the schema asks for them.
pub(super) struct Texts {
    attributes: Vec<(Attribute, Vec<TextToMerge>)>,
    /// By input, the new number of each row that goes into the output.
    remaps: Vec<Vec<Option<u32>>>,
    rows: u32,
}

/// Reads the text indexes of what is merged. Costs one GET for each of them.
pub(super) async fn read(schema: &Schema, batches: &[Batch]) -> Result<Texts, SegmentError> {
    let mut inputs: Vec<&Arc<Segment>> = Vec::new();
    let mut remaps: Vec<Vec<Option<u32>>> = Vec::new();
    let mut rows = 0;
    for batch in batches {
        if inputs.last().is_none_or(|last| !Arc::ptr_eq(last, &batch.segment)) {
            inputs.push(&batch.segment);
            remaps.push(vec![None; batch.segment.rows() as usize]);
        }
        let remap = remaps.last_mut().expect("there is one for each input");
        for (row, new) in batch.rows.iter().zip(rows..) {
            remap[*row as usize] = Some(new);
        }
        rows += batch.rows.len() as u32;
    }
    let mut attributes = Vec::new();
    for attribute in schema.attributes().filter(|a| a.full_text.is_some()) {
        let mut texts = Vec::with_capacity(inputs.len());
        for input in &inputs {
            match input.text_to_merge(attribute).await {
                Ok(Some(text)) => texts.push(text),
                Ok(None) => break,
                Err(error @ SegmentError::Store(_)) => return Err(error),
                // Damaged: the texts are analysed instead.
                Err(_) => break,
            }
        }
        if texts.len() == inputs.len() {
            attributes.push((attribute.clone(), texts));
        }
    }
    Ok(Texts {
        attributes,
        remaps,
        rows,
    })
}

impl Texts {
    /// The text indexes of the output. One whose bytes are damaged is left out: then the texts are analysed, which were
    /// read with checksums of their own.
    pub fn merge(self) -> BTreeMap<AttrId, EncodedText> {
        let merged = self.attributes.iter().filter_map(|(attribute, texts)| {
            let remaps = self.remaps.iter().map(Vec::as_slice);
            let parts: Vec<_> = texts.iter().zip(remaps).collect();
            match merge_texts(attribute, &parts, self.rows) {
                Ok(text) => Some((attribute.id, text)),
                Err(error) => {
                    tracing::error!(attribute = %attribute.name, %error, "a stored text index is damaged; its texts are analysed again");
                    None
                }
            }
        });
        merged.collect()
    }
}
