//! The hot part of a stored text index: what it was made with, and where what lies.

use std::ops::Range;

use super::pages::paged_len;
use super::{FLAG_ELEMENTS, FLAG_POSITIONS, TERM_BYTES_MAX, VERSION_WRITTEN};
use crate::base::coding::{FormatError, Reader, put_bytes, put_varint, shared_prefix};
use crate::index::text::FieldStats;
use crate::index::text::analysis::ANALYSIS_VERSION;
use crate::model::FullTextConfig;
use crate::model::schema::{Language, Tokenizer};

/// What a stored text index was made with, its statistics, and where its dictionary blocks begin.
#[derive(Clone, Debug)]
pub struct TextDirectory {
    /// Scoring parameters are the default ones: they are not stored.
    config: FullTextConfig,
    analysis: u32,
    pub(super) positions: bool,
    /// Whether places tell elements of an array apart.
    pub(super) elements: bool,
    pub(super) rows: u32,
    stats: FieldStats,
    terms: u64,
    pub(super) lengths: Range<u64>,
    pub(super) blocks: Vec<Block>,
    pub(super) stream_len: u64,
}

/// A block of the dictionary; all ranges count from the beginning of the stream.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) first: Box<str>,
    pub(super) terms: usize,
    pub(super) bytes: Range<u64>,
    /// What its terms have in the other areas, one after the other.
    pub(super) postings: Range<u64>,
    pub(super) positions: Range<u64>,
}

/// What a directory is made of; lengths in bytes of the stream.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) positions: bool,
    pub(super) elements: bool,
    pub(super) rows: u32,
    pub(super) stats: FieldStats,
    pub(super) terms: u64,
    pub(super) lengths_len: u64,
    pub(super) blocks: Vec<DraftBlock>,
}

#[derive(Debug)]
pub(super) struct DraftBlock {
    pub(super) first: String,
    pub(super) terms: u64,
    pub(super) len: u64,
    pub(super) postings_len: u64,
    pub(super) positions_len: u64,
}

/// The options that decide which tokens there are, as stored.
fn put_config(out: &mut Vec<u8>, config: &FullTextConfig) {
    put_bytes(out, name_of(&Tokenizer::ALL, config.tokenizer).as_bytes());
    put_bytes(out, name_of(&Language::ALL, config.language).as_bytes());
    let options = [
        config.stemming,
        config.remove_stopwords,
        config.case_sensitive,
        config.ascii_folding,
    ];
    out.push((0..).zip(options).map(|(bit, set)| u8::from(set) << bit).sum());
    put_varint(out, config.max_token_length.into());
    put_varint(out, ANALYSIS_VERSION.into());
}

fn name_of<T: PartialEq>(all: &[(T, &'static str)], value: T) -> &'static str {
    let found = all.iter().find(|(v, _)| *v == value);
    found
        .map(|(_, name)| *name)
        .expect("every value is listed with its name")
}

fn named<T: Copy>(all: &[(T, &'static str)], name: &[u8]) -> Result<T, FormatError> {
    let found = all.iter().find(|(_, n)| n.as_bytes() == name);
    found
        .map(|(value, _)| *value)
        .ok_or_else(|| FormatError::Newer(format!("text option {:?}", String::from_utf8_lossy(name))))
}

fn read_config(reader: &mut Reader<'_>) -> Result<(FullTextConfig, u32), FormatError> {
    let tokenizer = named(&Tokenizer::ALL, reader.bytes()?)?;
    let language = named(&Language::ALL, reader.bytes()?)?;
    let options = reader.byte()?;
    if options >> 4 != 0 {
        return Err(FormatError::Newer(format!("text options {options:#b}")));
    }
    let option = |bit: u8| options >> bit & 1 == 1;
    let config = FullTextConfig {
        tokenizer,
        language,
        stemming: option(0),
        remove_stopwords: option(1),
        case_sensitive: option(2),
        ascii_folding: option(3),
        max_token_length: reader.varint32()?,
        ..FullTextConfig::default()
    };
    Ok((config, reader.varint32()?))
}

/// A number for the options that decide which tokens a stored index has, and for the analysis itself: where it differs,
/// the stored index is of no use.
pub fn fingerprint(config: &FullTextConfig) -> u64 {
    let mut bytes = vec![VERSION_WRITTEN];
    put_config(&mut bytes, config);
    xxhash_rust::xxh3::xxh3_64(&bytes)
}

impl Draft {
    pub(super) fn encode(&self, config: &FullTextConfig) -> Vec<u8> {
        let flags = [(self.positions, FLAG_POSITIONS), (self.elements, FLAG_ELEMENTS)];
        let flags = flags.iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum();
        let mut out = vec![VERSION_WRITTEN, flags];
        put_config(&mut out, config);
        for n in [
            u64::from(self.rows),
            self.stats.docs,
            self.stats.tokens,
            self.terms,
            self.lengths_len,
            self.blocks.len() as u64,
        ] {
            put_varint(&mut out, n);
        }
        let mut before = "";
        for block in &self.blocks {
            for n in [block.terms, block.len, block.postings_len, block.positions_len] {
                put_varint(&mut out, n);
            }
            let shared = shared_prefix(before.as_bytes(), block.first.as_bytes());
            put_varint(&mut out, shared as u64);
            put_bytes(&mut out, &block.first.as_bytes()[shared..]);
            before = &block.first;
        }
        out
    }
}

impl TextDirectory {
    /// Decodes the hot part.
    ///
    /// * `rows` — of the segment
    /// * `pages_len` — bytes of the pages it belongs to
    ///
    /// # Errors
    ///
    /// The bytes do not describe an index of so many rows in so many bytes.
    pub fn open(bytes: &[u8], rows: u32, pages_len: u64) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let version = reader.byte()?;
        let flags = reader.byte()?;
        if version != VERSION_WRITTEN || flags & !(FLAG_POSITIONS | FLAG_ELEMENTS) != 0 {
            return Err(FormatError::Newer(format!(
                "text index {version} with flags {flags:#b}"
            )));
        }
        let (config, analysis) = read_config(&mut reader)?;
        let stored_rows = reader.varint32()?;
        let stats = FieldStats {
            docs: reader.varint()?,
            tokens: reader.varint()?,
        };
        let terms = reader.varint()?;
        let lengths = 0..reader.varint()?;
        let (blocks, stream_len) = read_blocks(&mut reader, lengths.end)?;
        reader.end()?;
        let counted: u64 = blocks.iter().map(|b| b.terms as u64).sum();
        if stored_rows != rows || stats.docs > u64::from(rows) || counted != terms {
            return Err(FormatError::corrupt(format!(
                "a text index of {stored_rows} rows and {terms} terms has {counted} terms, and belongs to {rows} rows"
            )));
        }
        if paged_len(stream_len) != pages_len {
            return Err(FormatError::corrupt(format!(
                "a text index of {stream_len} bytes lies in {pages_len} bytes of pages"
            )));
        }
        Ok(Self {
            config,
            analysis,
            positions: flags & FLAG_POSITIONS != 0,
            elements: flags & FLAG_ELEMENTS != 0,
            rows,
            stats,
            terms,
            lengths,
            blocks,
            stream_len,
        })
    }

    /// Whether it has the tokens that text has under this configuration now. Where it does not, the text has to be
    /// analysed again.
    pub fn serves(&self, config: &FullTextConfig) -> bool {
        self.analysis == ANALYSIS_VERSION && self.config.same_tokens(config)
    }

    /// Whether places of tokens are stored, without which sequences cannot be told.
    pub fn has_positions(&self) -> bool {
        self.positions
    }

    /// How many bytes of pages belong to it.
    pub fn pages_len(&self) -> u64 {
        paged_len(self.stream_len)
    }

    /// Rows with a value and their tokens.
    pub fn stats(&self) -> FieldStats {
        self.stats
    }

    /// How many different terms there are.
    pub fn terms(&self) -> u64 {
        self.terms
    }

    /// Bytes of memory, roughly.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self
                .blocks
                .iter()
                .map(|b| size_of::<Block>() + b.first.len())
                .sum::<usize>()
    }
}

/// The blocks, and where the stream ends.
fn read_blocks(reader: &mut Reader<'_>, lengths_end: u64) -> Result<(Vec<Block>, u64), FormatError> {
    let count = reader.count(6)?;
    let mut blocks: Vec<Block> = Vec::with_capacity(count);
    let mut ends = [lengths_end, 0, 0];
    for _ in 0..count {
        let terms = reader.varint()?;
        let mut area = || -> Result<[Range<u64>; 3], FormatError> {
            let mut ranges = [0..0, 0..0, 0..0];
            for (range, end) in ranges.iter_mut().zip(&mut ends) {
                let start = *end;
                *end = advance(start, reader.varint()?)?;
                *range = start..*end;
            }
            Ok(ranges)
        };
        let [bytes, postings, positions] = area()?;
        let first = read_first(reader, blocks.last().map_or("", |b| &b.first))?;
        let len = bytes.end - bytes.start;
        let ascends = blocks.last().is_none_or(|b| *b.first < *first);
        // Each entry takes five bytes at least.
        if !ascends || terms == 0 || terms > len / 4 || len > super::BLOCK_LEN_MAX as u64 {
            return Err(FormatError::corrupt(format!("a block of {terms} terms in {len} bytes")));
        }
        blocks.push(Block {
            first,
            terms: terms as usize,
            bytes,
            postings,
            positions,
        });
    }
    let [dictionary_end, postings_len, positions_len] = ends;
    let postings_end = advance(dictionary_end, postings_len)?;
    for block in &mut blocks {
        block.postings = block.postings.start + dictionary_end..block.postings.end + dictionary_end;
        block.positions = advance(postings_end, block.positions.start)?..advance(postings_end, block.positions.end)?;
    }
    Ok((blocks, advance(postings_end, positions_len)?))
}

fn advance(from: u64, by: u64) -> Result<u64, FormatError> {
    from.checked_add(by)
        .ok_or_else(|| FormatError::corrupt("an area of a text index is longer than any object"))
}

fn read_first(reader: &mut Reader<'_>, before: &str) -> Result<Box<str>, FormatError> {
    let shared = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
    let mut term = before
        .as_bytes()
        .get(..shared)
        .ok_or_else(|| FormatError::corrupt("a term shares more than there is"))?
        .to_vec();
    term.extend_from_slice(reader.bytes()?);
    match String::from_utf8(term) {
        Ok(term) if term.len() <= TERM_BYTES_MAX => Ok(term.into()),
        _ => Err(FormatError::corrupt("the first term of a block is no term")),
    }
}
