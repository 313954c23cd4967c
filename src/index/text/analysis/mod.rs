//! Text to tokens.
//!
//! `word_v3` and `word_v4` are the word-like segments of UAX #29 (Unicode 17) as the crate alyze
//! finds them; older tokenizers segment with `runs`. Every segment then passes the same filters,
//! in this order: drop what is longer than `max_token_length`, lower-case, drop stop words, stem
//! (Snowball), fold to ASCII. What a filter drops still uses up a position.
//!
//! The API calls `max_token_length` a number of bytes; alyze, which is the service's own analyser,
//! counts characters. What the service does wins here, and `pre_tokenized_array` follows suit.
//!
//! Every token knows which bytes of its text it was made of. Ranges of one text ascend and never
//! overlap; what a filter drops has none.

mod runs;

use std::ops::Range;

use alyze::analyze::{
    AnalysisOptions, Analyzer as Pipeline, LanguageWithStopwords, ReusableBuffer, StemmingLanguage, StopwordRemoval,
    TokenizerOptions,
};
use alyze::uax29::word;

use crate::model::FullTextConfig;
use crate::model::schema::{Language, Tokenizer};
use runs::Runs;

/// Goes up when some text gives other tokens under the same configuration than before, be it by a new
/// version of alyze: what was stored under another number is made anew.
pub const ANALYSIS_VERSION: u32 = 1;

/// Turns texts into tokens as one attribute is configured. Cheap to make.
pub struct Analyzer {
    segmentation: Segmentation,
    /// All filters, behind UAX #29 segmentation.
    words: Pipeline<'static>,
    /// All filters but stop words and stemming, behind white-space segmentation.
    opaque: Pipeline<'static>,
    max_token_chars: usize,
    stemming: Option<Language>,
}

/// Where tokens begin and end.
enum Segmentation {
    Uax29,
    Runs(Runs),
    /// The whole text is one token.
    Whole,
}

/// A token, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// As it is indexed: after all filters.
    pub text: &'a str,
    /// Counts from 0 and skips the places of dropped tokens.
    pub position: u32,
    /// The bytes of the word it was made of, in the text that was analysed.
    pub range: Range<usize>,
}

/// Scratch memory and a cache of stems, to be reused from text to text. Belongs to no analyser in
/// particular.
pub struct Buffer {
    inner: ReusableBuffer,
    /// The language of the stems cached in `inner`, which does not tell languages apart.
    stemming: Option<Language>,
}

impl Default for Buffer {
    fn default() -> Self {
        Self {
            inner: ReusableBuffer::new(),
            stemming: None,
        }
    }
}

impl Buffer {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    fn for_stems_of(&mut self, language: Option<Language>) -> &mut ReusableBuffer {
        if language.is_some() && self.stemming != language {
            if self.stemming.is_some() {
                self.inner = ReusableBuffer::new();
            }
            self.stemming = language;
        }
        &mut self.inner
    }
}

impl Analyzer {
    /// An analyser for an attribute configured like this. Stop words and stemming need
    /// `case_sensitive: false` and do nothing otherwise; `pre_tokenized_array` heeds only
    /// `max_token_length`.
    pub fn new(config: &FullTextConfig) -> Self {
        let max_token_chars = usize::try_from(config.max_token_length).unwrap_or(usize::MAX);
        let filters = AnalysisOptions {
            tokenizer: TokenizerOptions::Whitespace,
            maximum_token_length: Some(max_token_chars),
            case_sensitive: config.case_sensitive,
            stopword_removal: None,
            stemming: None,
            ascii_folding: config.ascii_folding,
        };
        let stemming = (config.stemming && !config.case_sensitive).then_some(config.language);
        let words = AnalysisOptions {
            tokenizer: TokenizerOptions::UAX29Word(word::Options::default()),
            stopword_removal: (config.remove_stopwords && !config.case_sensitive)
                .then(|| stop_words(config.language))
                .flatten(),
            stemming: stemming.map(stemmer),
            ..filters
        };
        let segmentation = match config.tokenizer {
            Tokenizer::WordV0 => Segmentation::Runs(Runs::V0),
            Tokenizer::WordV1 => Segmentation::Runs(Runs::V1),
            Tokenizer::WordV2 => Segmentation::Runs(Runs::V2),
            Tokenizer::WordV3 | Tokenizer::WordV4 => Segmentation::Uax29,
            Tokenizer::PreTokenizedArray => Segmentation::Whole,
        };
        Self {
            segmentation,
            words: Pipeline::new(words),
            opaque: Pipeline::new(filters),
            max_token_chars,
            stemming,
        }
    }

    /// Hands every token of `text` with its position to `emit`, first to last. Positions count
    /// from 0 and skip the places of dropped tokens.
    pub fn analyze(&self, text: &str, buffer: &mut Buffer, mut emit: impl FnMut(&str, u32)) {
        self.tokens(text, buffer, |token| emit(token.text, token.position));
    }

    /// Hands every token of `text` to `emit`, first to last, with the place it has in the text.
    pub fn tokens(&self, text: &str, buffer: &mut Buffer, emit: impl FnMut(Token<'_>)) {
        self.run(std::iter::once(text), buffer, emit);
    }

    /// Analyses the elements of one array, one after the other, as one field: tokens never span
    /// elements, and positions go on counting from element to element.
    pub fn analyze_all<'a>(
        &self,
        texts: impl Iterator<Item = &'a str>,
        buffer: &mut Buffer,
        mut emit: impl FnMut(&str, u32),
    ) {
        self.run(texts, buffer, |token| emit(token.text, token.position));
    }

    /// The ranges of tokens are those in their own text.
    fn run<'a>(&self, texts: impl Iterator<Item = &'a str>, buffer: &mut Buffer, mut emit: impl FnMut(Token<'_>)) {
        let buffer = buffer.for_stems_of(self.stemming);
        match &self.segmentation {
            Segmentation::Uax29 => self.words.analyze_inputs(texts, buffer, |token| {
                emit(Token {
                    text: token.text,
                    position: u32::try_from(token.position).unwrap_or(u32::MAX),
                    range: token.byte_range,
                });
                true
            }),
            Segmentation::Runs(runs) => {
                let mut position = 0u32;
                for (start, segment) in texts.flat_map(|text| runs.segments(text)) {
                    let range = start..start + segment.len();
                    self.filter(segment, buffer, |text| {
                        emit(Token {
                            text,
                            position,
                            range: range.clone(),
                        });
                    });
                    position = position.saturating_add(1);
                }
            }
            Segmentation::Whole => {
                for (position, text) in (0u32..).zip(texts) {
                    if text.chars().nth(self.max_token_chars).is_none() {
                        let range = 0..text.len();
                        emit(Token { text, position, range });
                    }
                }
            }
        }
    }

    /// Passes one segment through the filters, which emit it or drop it.
    fn filter(&self, segment: &str, buffer: &mut ReusableBuffer, mut emit: impl FnMut(&str)) {
        // The filters are only reachable through alyze's own tokenizers. A segment that is one
        // word to UAX #29 comes out of it whole. Any other is an ideograph, an emoji or a mixture of
        // writings: neither a stop word nor anything a stemmer knows, so it goes without these two.
        let pipeline = match is_one_word(segment) {
            true => &self.words,
            false => &self.opaque,
        };
        pipeline.analyze(segment, buffer, |token| {
            emit(token.text);
            true
        });
    }
}

/// Whether UAX #29 sees exactly one word in `segment`.
fn is_one_word(segment: &str) -> bool {
    // Letters and digits of ASCII never break from each other (WB5, WB8 to WB10).
    if segment.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return true;
    }
    let mut whole = false;
    word::tokenize(segment, word::Options::default(), |end, properties| {
        whole = end == segment.len() && properties.is_word_like();
        end == 0
    });
    whole
}

fn stop_words(language: Language) -> Option<StopwordRemoval> {
    let language = match language {
        Language::Danish => LanguageWithStopwords::Danish,
        Language::Dutch => LanguageWithStopwords::Dutch,
        Language::English => LanguageWithStopwords::English,
        Language::Finnish => LanguageWithStopwords::Finnish,
        Language::French => LanguageWithStopwords::French,
        Language::German => LanguageWithStopwords::German,
        Language::Hungarian => LanguageWithStopwords::Hungarian,
        Language::Italian => LanguageWithStopwords::Italian,
        Language::Norwegian => LanguageWithStopwords::Norwegian,
        Language::Portuguese => LanguageWithStopwords::Portuguese,
        Language::Russian => LanguageWithStopwords::Russian,
        Language::Spanish => LanguageWithStopwords::Spanish,
        Language::Swedish => LanguageWithStopwords::Swedish,
        Language::Arabic | Language::Greek | Language::Romanian | Language::Tamil | Language::Turkish => return None,
    };
    Some(StopwordRemoval::ForLanguage(language))
}

fn stemmer(language: Language) -> StemmingLanguage {
    match language {
        Language::Arabic => StemmingLanguage::Arabic,
        Language::Danish => StemmingLanguage::Danish,
        Language::Dutch => StemmingLanguage::Dutch,
        Language::English => StemmingLanguage::English,
        Language::Finnish => StemmingLanguage::Finnish,
        Language::French => StemmingLanguage::French,
        Language::German => StemmingLanguage::German,
        Language::Greek => StemmingLanguage::Greek,
        Language::Hungarian => StemmingLanguage::Hungarian,
        Language::Italian => StemmingLanguage::Italian,
        Language::Norwegian => StemmingLanguage::Norwegian,
        Language::Portuguese => StemmingLanguage::Portuguese,
        Language::Romanian => StemmingLanguage::Romanian,
        Language::Russian => StemmingLanguage::Russian,
        Language::Spanish => StemmingLanguage::Spanish,
        Language::Swedish => StemmingLanguage::Swedish,
        Language::Tamil => StemmingLanguage::Tamil,
        Language::Turkish => StemmingLanguage::Turkish,
    }
}
