//! What attributes a namespace has, and how they are indexed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{AttrType, IdKind, Invalid, Metric};

/// The number of an attribute within its namespace; never used again after a drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttrId(pub u32);

impl AttrId {
    /// The highest number that an attribute may have.
    pub const MAX: AttrId = AttrId(1 << 31);
}

/// Which tokens a text becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tokenizer {
    WordV0,
    WordV1,
    WordV2,
    WordV3,
    WordV4,
    PreTokenizedArray,
}

impl Tokenizer {
    /// Every tokenizer with its name on the wire.
    pub const ALL: [(Tokenizer, &'static str); 6] = [
        (Tokenizer::WordV0, "word_v0"),
        (Tokenizer::WordV1, "word_v1"),
        (Tokenizer::WordV2, "word_v2"),
        (Tokenizer::WordV3, "word_v3"),
        (Tokenizer::WordV4, "word_v4"),
        (Tokenizer::PreTokenizedArray, "pre_tokenized_array"),
    ];
}

/// The languages of stemmers and stop-word lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    Arabic,
    Danish,
    Dutch,
    English,
    Finnish,
    French,
    German,
    Greek,
    Hungarian,
    Italian,
    Norwegian,
    Portuguese,
    Romanian,
    Russian,
    Spanish,
    Swedish,
    Tamil,
    Turkish,
}

impl Language {
    /// Every language with its name on the wire.
    pub const ALL: [(Language, &'static str); 18] = [
        (Language::Arabic, "arabic"),
        (Language::Danish, "danish"),
        (Language::Dutch, "dutch"),
        (Language::English, "english"),
        (Language::Finnish, "finnish"),
        (Language::French, "french"),
        (Language::German, "german"),
        (Language::Greek, "greek"),
        (Language::Hungarian, "hungarian"),
        (Language::Italian, "italian"),
        (Language::Norwegian, "norwegian"),
        (Language::Portuguese, "portuguese"),
        (Language::Romanian, "romanian"),
        (Language::Russian, "russian"),
        (Language::Spanish, "spanish"),
        (Language::Swedish, "swedish"),
        (Language::Tamil, "tamil"),
        (Language::Turkish, "turkish"),
    ];
}

/// How an attribute's text is analysed and scored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FullTextConfig {
    pub tokenizer: Tokenizer,
    pub language: Language,
    pub stemming: bool,
    pub remove_stopwords: bool,
    pub case_sensitive: bool,
    pub ascii_folding: bool,
    /// Longer tokens are dropped; 1 to 254. The API says bytes; the service's own analyser, which
    /// `word_v4` is, counts characters, and so do we.
    pub max_token_length: u32,
    /// BM25's term-frequency saturation, above 0.
    pub k1: f64,
    /// BM25's length normalisation, 0 to 1.
    pub b: f64,
    /// BM25's query-term-frequency saturation, above 0.
    pub k3: f64,
}

impl FullTextConfig {
    /// Whether its numbers are in their ranges.
    pub fn is_in_range(&self) -> bool {
        let is_positive = |x: f64| x.is_finite() && x > 0.0;
        (1..=254).contains(&self.max_token_length)
            && is_positive(self.k1)
            && is_positive(self.k3)
            && (0.0..=1.0).contains(&self.b)
    }
}

impl Default for FullTextConfig {
    fn default() -> Self {
        Self {
            tokenizer: Tokenizer::WordV4,
            language: Language::English,
            stemming: false,
            remove_stopwords: false,
            case_sensitive: false,
            ascii_folding: false,
            max_token_length: 39,
            k1: 1.2,
            b: 0.75,
            k3: 8.0,
        }
    }
}

impl FullTextConfig {
    /// Whether text indexed under `self` can be searched under `other`: everything but the
    /// scoring parameters is equal.
    pub fn same_tokens(&self, other: &Self) -> bool {
        let scoring_of_other = Self {
            k1: other.k1,
            b: other.b,
            k3: other.k3,
            ..*self
        };
        scoring_of_other == *other
    }
}

/// One attribute: its identity, type and index options.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    pub id: AttrId,
    pub name: Arc<str>,
    pub ty: AttrType,
    pub filterable: bool,
    pub full_text: Option<FullTextConfig>,
    pub regex: bool,
    pub glob: bool,
    pub fuzzy: bool,
    /// For vectors: the ANN index's metric; `None` means stored only.
    pub ann: Option<Metric>,
    /// For vectors: the metric of exact search, also when there is no ANN index.
    pub metric: Option<Metric>,
    /// For `[][N]f32` with `ann`: late interaction.
    pub late_interaction: bool,
    /// For `{}f16`: a sparse index by dot product.
    pub sparse_knn: bool,
    /// For strings: the model that makes a vector of each value, and the column it goes to.
    pub embed: Option<Embed>,
    /// For dense vectors: rows may lack one, because a model fills the column or once did.
    pub nullable: bool,
}

/// Server-side embedding of a string attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Embed {
    /// As the operator's configuration names it.
    pub model: Arc<str>,
    /// The dense vector column that is filled: of f32 or f16, and nullable.
    pub target: Arc<str>,
}

/// What the name of a generated target column begins with; the embedded attribute's follows.
pub const EMBED_PREFIX: &str = "$embed_";

impl Attribute {
    /// An attribute that is stored and has no index.
    pub fn new(id: AttrId, name: Arc<str>, ty: AttrType) -> Self {
        Self {
            id,
            name,
            ty,
            filterable: false,
            full_text: None,
            regex: false,
            glob: false,
            fuzzy: false,
            ann: None,
            metric: None,
            late_interaction: false,
            sparse_knn: false,
            embed: None,
            nullable: false,
        }
    }

    /// Refuses a patch of this attribute where that is not possible.
    pub fn check_patchable(&self) -> Result<(), Invalid> {
        let why = match self.ty {
            AttrType::Vector { .. } | AttrType::MultiVector { .. } => "it is a vector",
            _ if self.embed.is_some() => "a model makes a vector of it",
            _ => return Ok(()),
        };
        Err(Invalid::new(format!(
            "attribute {:?} cannot be patched: {why}; upsert the row instead",
            self.name
        )))
    }
}

/// All attributes of a namespace.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Schema {
    /// Unknown until the first row or the first schema that names it.
    pub id_kind: Option<IdKind>,
    attributes: BTreeMap<Arc<str>, Attribute>,
    next_attribute: u32,
}

impl Schema {
    /// The attribute of that name.
    pub fn get(&self, name: &str) -> Option<&Attribute> {
        self.attributes.get(name)
    }

    /// Every attribute, by name.
    pub fn attributes(&self) -> impl Iterator<Item = &Attribute> {
        self.attributes.values()
    }

    /// How many attributes there are, not counting `id`.
    pub fn len(&self) -> usize {
        self.attributes.len()
    }

    /// Whether there is no attribute besides `id`.
    pub fn is_empty(&self) -> bool {
        self.attributes.is_empty()
    }

    /// The dense vector columns, by name.
    pub fn vectors(&self) -> impl Iterator<Item = &Attribute> {
        self.attributes().filter(|a| a.ty.is_vector())
    }

    /// The embedded attributes and how, by name.
    pub fn embeds(&self) -> impl Iterator<Item = (&Attribute, &Embed)> {
        self.attributes()
            .filter_map(|a| a.embed.as_ref().map(|embed| (a, embed)))
    }

    /// The number that the next new attribute gets.
    pub fn next_attribute_id(&self) -> AttrId {
        AttrId(self.next_attribute)
    }

    /// Whether there are numbers for so many new attributes.
    pub fn has_numbers_for(&self, attributes: usize) -> bool {
        let left = (u64::from(AttrId::MAX.0) + 1).saturating_sub(u64::from(self.next_attribute));
        attributes as u64 <= left
    }

    /// The schema, with the numbers below this one used up.
    pub fn with_used_below(mut self, next: AttrId) -> Self {
        self.next_attribute = self.next_attribute.max(next.0);
        self
    }

    /// Adds or replaces an attribute. Its id is either that of the attribute it replaces or at
    /// least [`Schema::next_attribute_id`].
    pub fn put(&mut self, attribute: Attribute) {
        self.next_attribute = self.next_attribute.max(attribute.id.0 + 1);
        self.attributes.insert(attribute.name.clone(), attribute);
    }

    /// Removes an attribute; its id stays used.
    pub fn drop_attribute(&mut self, name: &str) {
        self.attributes.remove(name);
    }

    /// The schema of a namespace that was deleted: nothing, but the numbers of its attributes stay
    /// used.
    pub fn cleared(&self) -> Self {
        Self {
            next_attribute: self.next_attribute,
            ..Self::default()
        }
    }

    /// Applies a change that was decided under a log slot.
    pub fn apply(&mut self, change: &SchemaChange) {
        if change.id_kind.is_some() {
            self.id_kind = change.id_kind;
        }
        for name in &change.drops {
            self.drop_attribute(name);
        }
        for attribute in &change.puts {
            self.put(attribute.clone());
        }
    }

    /// Looks an attribute up for a query.
    ///
    /// # Errors
    ///
    /// Its text contains `attribute not found`, which programs match.
    pub fn require(&self, name: &str) -> Result<&Attribute, Invalid> {
        self.get(name)
            .ok_or_else(|| Invalid::new(format!("attribute not found: {name:?} is not in the schema")))
    }
}

/// What one request changes in the schema, after all checks: drops first, then additions and
/// replacements.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct SchemaChange {
    pub id_kind: Option<IdKind>,
    pub drops: Vec<Arc<str>>,
    pub puts: Vec<Attribute>,
}

impl SchemaChange {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.id_kind.is_none() && self.drops.is_empty() && self.puts.is_empty()
    }
}
