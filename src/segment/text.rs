//! Text indexes of a segment: terms loaded from the stored one, or all of them made anew where it has other tokens.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::try_join;

use super::container::SectionKind;
use super::layout::{Layout, Placed};
use super::reader::{Segment, tag};
use super::wire::FormatError;
use super::{SegmentError, TermWanted};
use crate::base::Bitset;
use crate::cache::ReadKind;
use crate::index::text::stored::{self, EncodedText, FoundTerms, MergeInput, PostingsLoad, TextDirectory};
use crate::index::text::{Posting, RowLengths, TextIndex};
use crate::model::{AttrId, AttrType, Attribute, Column, FullTextConfig};

/// Marks the index of an attribute's texts among what is decoded of it; the bits below are a hash of how they are analysed.
const ANALYSED: u64 = 1 << 60;

fn analysed_tag(id: AttrId, config: &FullTextConfig) -> u64 {
    ANALYSED | stored::fingerprint(config) >> 36 << 32 | u64::from(id.0)
}

/// The stored text index of an attribute, whole, or that the attribute is null in every row.
pub struct TextToMerge {
    layout: Arc<Layout>,
    id: AttrId,
    pages: Option<Bytes>,
}

/// Joins the text indexes of an attribute in several segments, as writing its texts anew would make it.
///
/// * `parts` — with the new numbers of their rows, which ascend from part to part; `None` for what is gone
/// * `rows` — how many there are after
///
/// # Errors
///
/// Bytes of a part are damaged.
pub fn merge_texts(
    attribute: &Attribute,
    parts: &[(&TextToMerge, &[Option<u32>])],
    rows: u32,
) -> Result<EncodedText, FormatError> {
    let config = attribute.full_text.unwrap_or_default();
    let inputs = parts.iter().filter_map(|(part, remap)| {
        Some(MergeInput {
            directory: &part.layout.texts.get(&part.id)?.index,
            pages: part.pages.clone()?,
            remap,
        })
    });
    let inputs: Vec<MergeInput<'_>> = inputs.collect();
    stored::merge(&config, matches!(attribute.ty, AttrType::Array(_)), &inputs, rows)
}

impl Segment {
    /// A text index of all rows that knows at least these terms, with the statistics of all. `None`: null in every row,
    /// or no full-text attribute.
    ///
    /// Costs two rounds: the dictionary blocks of the terms, beside the lengths of all rows unless they are in memory;
    /// then the postings. Where the attribute has other tokens than when the segment was written, its text is read and
    /// analysed.
    pub async fn text(
        &self,
        attribute: &Attribute,
        terms: &[TermWanted],
    ) -> Result<Option<Arc<TextIndex>>, SegmentError> {
        self.text_charged(attribute, terms, &mut |_| Ok(())).await
    }

    /// Whether [`text`](Self::text) does not have to analyse texts: there is a stored index with the tokens that the
    /// attribute has now, or one that was made before, or there are no texts. No I/O.
    pub fn has_text(&self, attribute: &Attribute) -> bool {
        let Some(config) = &attribute.full_text else {
            return true;
        };
        self.stored_text(attribute.id, config).is_some()
            || !self.layout.has_values(attribute).unwrap_or(true)
            || self.analysed_kept(attribute.id, config).is_some()
    }

    /// The same as [`text`](Self::text), paid for on the way.
    ///
    /// * `charge` — told how many bytes the postings take, before they are read; stops the reading with its error
    pub async fn text_charged<E: From<SegmentError>>(
        &self,
        attribute: &Attribute,
        terms: &[TermWanted],
        charge: &mut (impl FnMut(usize) -> Result<(), E> + Send),
    ) -> Result<Option<Arc<TextIndex>>, E> {
        let Some(config) = attribute.full_text else {
            return Ok(None);
        };
        if self.stored_text(attribute.id, &config).is_none() {
            return Ok(self.analysed_text(attribute, config).await?);
        }
        let id = attribute.id;
        let (lengths, found) = try_join!(self.lengths(id), self.terms(id, terms))?;
        charge(found.postings() * size_of::<Posting>())?;
        let load = found.load(&self.layout.texts[&id].index, false);
        let terms = terms.to_vec();
        let decode = move |directory: &TextDirectory, load: &PostingsLoad, read: &[Bytes]| {
            let index = load.index(directory, &config, lengths.clone(), read)?;
            Ok(Arc::new(index.made_for(&terms)))
        };
        Ok(self.postings(id, load, decode).await.map(Some)?)
    }

    /// The rows in whose texts tokens stand at the same distances from each other as here, no sequence spanning two
    /// elements of an array unless each is a token. `None` when the segment cannot tell without the texts.
    ///
    /// * `tokens` — what the analyser makes of a text, with positions that ascend; at least one
    ///
    /// Costs two rounds as [`text`](Self::text) does.
    pub async fn token_sequence(
        &self,
        attribute: &Attribute,
        tokens: &[(String, u32)],
    ) -> Result<Option<Bitset>, SegmentError> {
        let config = attribute.full_text.as_ref();
        let stored = config.and_then(|config| self.stored_text(attribute.id, config));
        let Some(stored) = stored.filter(|s| s.index.has_positions()) else {
            return Ok(None);
        };
        let wanted: Vec<TermWanted> = tokens.iter().map(|(t, _)| TermWanted::Exact(t.clone())).collect();
        let load = self.terms(attribute.id, &wanted).await?.load(&stored.index, true);
        let tokens = tokens.to_vec();
        let decode = move |directory: &TextDirectory, load: &PostingsLoad, read: &[Bytes]| {
            load.sequence(directory, &tokens, read)
        };
        self.postings(attribute.id, load, decode).await.map(Some)
    }

    /// The stored index of an attribute, to be merged with those of other segments. `None` when it has no such index
    /// with the tokens that the attribute has now, or null in every row.
    ///
    /// Costs one GET, of all its pages, which are not kept in the cache.
    pub async fn text_to_merge(&self, attribute: &Attribute) -> Result<Option<TextToMerge>, SegmentError> {
        let there = self.layout.has_values(attribute).map_err(|e| self.source.damaged(&e))?;
        let pages = match (there, attribute.full_text) {
            (false, _) => None,
            (true, Some(config)) if self.stored_text(attribute.id, &config).is_some() => {
                let stored = &self.layout.texts[&attribute.id];
                let range = stored.place(0..stored.index.pages_len());
                let whole = |read: &[Bytes]| Ok(read[0].clone());
                Some(self.source.read(vec![range], ReadKind::Scan, whole).await?)
            }
            (true, _) => return Ok(None),
        };
        Ok(Some(TextToMerge {
            layout: self.layout.clone(),
            id: attribute.id,
            pages,
        }))
    }

    /// The stored index of an attribute, when it has the tokens of this configuration.
    pub(super) fn stored_text(&self, id: AttrId, config: &FullTextConfig) -> Option<&Placed<TextDirectory>> {
        self.layout.texts.get(&id).filter(|stored| stored.index.serves(config))
    }

    async fn terms(&self, id: AttrId, wanted: &[TermWanted]) -> Result<FoundTerms, SegmentError> {
        let lookup = self.layout.texts[&id].index.look_up(wanted, false);
        let ranges = lookup.ranges();
        let decode = move |layout: &Layout, read: &[Bytes]| lookup.finish(&layout.texts[&id].index, read);
        self.read_text(id, &ranges, decode).await
    }

    async fn lengths(&self, id: AttrId) -> Result<Arc<RowLengths>, SegmentError> {
        let made = async {
            let lookup = self.layout.texts[&id].index.look_up(&[], true);
            let ranges = lookup.ranges();
            let decode =
                move |layout: &Layout, read: &[Bytes]| Ok(lookup.finish(&layout.texts[&id].index, read)?.lengths);
            let lengths = self.read_text(id, &ranges, decode).await?;
            let lengths = lengths.expect("lengths were wanted");
            let bytes = lengths.memory_bytes();
            Ok((lengths, bytes))
        };
        let tag = tag(SectionKind::Postings, Some(id));
        self.source.cache.decoded(&self.source.object, tag, made).await
    }

    async fn postings<T, F>(&self, id: AttrId, load: PostingsLoad, decode: F) -> Result<T, SegmentError>
    where
        T: Send + 'static,
        F: Fn(&TextDirectory, &PostingsLoad, &[Bytes]) -> Result<T, FormatError> + Send + Sync + 'static,
    {
        let ranges = load.ranges();
        let decode = move |layout: &Layout, read: &[Bytes]| decode(&layout.texts[&id].index, &load, read);
        self.read_text(id, &ranges, decode).await
    }

    /// * `ranges` — of the attribute's pages
    async fn read_text<T, F>(&self, id: AttrId, ranges: &[Range<u64>], decode: F) -> Result<T, SegmentError>
    where
        T: Send + 'static,
        F: Fn(&Layout, &[Bytes]) -> Result<T, FormatError> + Send + Sync + 'static,
    {
        let stored = &self.layout.texts[&id];
        let ranges: Vec<Range<u64>> = ranges.iter().map(|r| stored.place(r.clone())).collect();
        let layout = self.layout.clone();
        self.source
            .read(ranges, ReadKind::Index, move |read| decode(&layout, read))
            .await
    }

    /// An index of all terms, from the texts. Kept by the cache: every query needs it until the segment is written anew.
    async fn analysed_text(
        &self,
        attribute: &Attribute,
        config: FullTextConfig,
    ) -> Result<Option<Arc<TextIndex>>, SegmentError> {
        if let Some(kept) = self.analysed_kept(attribute.id, &config) {
            return Ok(Some(kept));
        }
        let Some(column) = self.column(attribute).await? else {
            return Ok(None);
        };
        let Column::Values(values) = &*column else {
            return Ok(None);
        };
        let values = values.clone();
        let build = move || Arc::new(TextIndex::build(&config, &values));
        let made = async {
            let index = self.source.compute(ReadKind::Index, build.clone()).await;
            let bytes = index.memory_bytes();
            Ok::<_, SegmentError>((index, bytes))
        };
        let tag = analysed_tag(attribute.id, &config);
        let index = self.source.cache.decoded(&self.source.object, tag, made).await?;
        match index.config().same_tokens(&config) {
            true => Ok(Some(index)),
            // Two configurations have the same tag once in 2^28.
            false => Ok(Some(self.source.compute(ReadKind::Index, build).await)),
        }
    }

    fn analysed_kept(&self, id: AttrId, config: &FullTextConfig) -> Option<Arc<TextIndex>> {
        let kept = self
            .source
            .cache
            .kept::<TextIndex>(&self.source.object, analysed_tag(id, config))?;
        Some(kept).filter(|index| index.config().same_tokens(config))
    }
}
