//! Attributes of every type, and values of few different kinds, so that there are ties and matches.

use serde_json::{Map, Value as Json, json};
use shoal::base::Rng;

use super::{any, once_in};

/// What an attribute holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Int,
    UInt,
    Float,
    Str,
    Bool,
    Date,
    Uuid,
    Strs,
    Ints,
    UInts,
    Floats,
    Dates,
    Uuids,
    Bools,
    /// With patterns: glob, regex and fuzzy.
    Path,
    /// Stored alone.
    Raw,
    Bytes,
    Text,
    Texts,
    /// Tokens as they are.
    Tokens,
    Vector,
    Stored,
    Multi,
    Sparse,
}

/// Every attribute that a namespace may have.
const ALL: &[(&str, Kind)] = &[
    ("n", Kind::Int),
    ("u", Kind::UInt),
    ("f", Kind::Float),
    ("s", Kind::Str),
    ("b", Kind::Bool),
    ("d", Kind::Date),
    ("g", Kind::Uuid),
    ("ss", Kind::Strs),
    ("ns", Kind::Ints),
    ("us", Kind::UInts),
    ("fs", Kind::Floats),
    ("ds", Kind::Dates),
    ("gs", Kind::Uuids),
    ("bs", Kind::Bools),
    ("p", Kind::Path),
    ("raw", Kind::Raw),
    ("by", Kind::Bytes),
    ("t", Kind::Text),
    ("tt", Kind::Texts),
    ("tk", Kind::Tokens),
    ("vector", Kind::Vector),
    ("w", Kind::Stored),
    ("m", Kind::Multi),
    ("sp", Kind::Sparse),
];

/// How ids are written.
#[derive(Clone, Copy, Debug)]
pub enum Ids {
    Numbers,
    Strings,
    Uuids,
}

impl Ids {
    pub fn id(self, n: u64) -> Json {
        match self {
            Ids::Numbers => json!(n),
            Ids::Strings => json!(format!("{}{n}", "k".repeat(n as usize % 3))),
            Ids::Uuids => json!(uuid::Uuid::from_u128(u128::from(n) << 90 | 5).to_string()),
        }
    }
}

/// The attributes of a namespace and how they are indexed now.
#[derive(Clone, Debug)]
pub struct Shape {
    pub ids: Ids,
    pub attributes: Vec<(&'static str, Kind)>,
    /// Those that it may get.
    others: Vec<(&'static str, Kind)>,
    /// What was declared last.
    pub declared: Map<String, Json>,
    elements: &'static str,
    pub metric: &'static str,
}

impl Shape {
    pub fn random(rng: &Rng) -> Self {
        let mut shape = Self {
            ids: *any(rng, &[Ids::Numbers, Ids::Numbers, Ids::Strings, Ids::Uuids]),
            attributes: ALL.iter().copied().filter(|_| !once_in(rng, 3)).collect(),
            others: Vec::new(),
            declared: Map::new(),
            elements: *any::<&str>(rng, &["f32", "f32", "f16", "i8"]),
            metric: *any::<&str>(rng, &["cosine_distance", "euclidean_squared"]),
        };
        if shape.attributes.is_empty() {
            shape.attributes.push(ALL[0]);
        }
        let others = ALL.iter().filter(|other| !shape.attributes.contains(other));
        shape.others = others.copied().filter(|(_, kind)| !kind.is_vector()).collect();
        for (name, kind) in shape.attributes.clone() {
            let declared = shape.declaration(kind, rng);
            shape.declared.insert(name.to_owned(), declared);
        }
        let id = match shape.ids {
            Ids::Numbers => "uint",
            Ids::Strings => "string",
            Ids::Uuids => "uuid",
        };
        shape.declared.insert("id".to_owned(), json!(id));
        shape
    }

    fn declaration(&self, kind: Kind, rng: &Rng) -> Json {
        let scalar = |ty: &str| match once_in(rng, 6) {
            true => json!({"type": ty, "filterable": false}),
            false => json!(ty),
        };
        match kind {
            Kind::Int => scalar("int"),
            Kind::UInt => scalar("uint"),
            Kind::Float => scalar("float"),
            Kind::Str => scalar("string"),
            Kind::Bool => scalar("bool"),
            Kind::Date => scalar("datetime"),
            Kind::Uuid => scalar("uuid"),
            Kind::Strs => scalar("[]string"),
            Kind::Ints => scalar("[]int"),
            Kind::UInts => scalar("[]uint"),
            Kind::Uuids => scalar("[]uuid"),
            Kind::Bools => scalar("[]bool"),
            Kind::Floats => scalar("[]float"),
            Kind::Dates => scalar("[]datetime"),
            Kind::Path => {
                let on = || !once_in(rng, 3);
                json!({"type": "string", "glob": on(), "regex": on(), "fuzzy": on(), "filterable": once_in(rng, 2)})
            }
            Kind::Raw => json!({"type": "string", "filterable": false}),
            Kind::Bytes => json!({"type": "bytes", "filterable": once_in(rng, 2)}),
            Kind::Text => {
                json!({"type": "string", "full_text_search": text_or_none(rng), "filterable": once_in(rng, 2)})
            }
            Kind::Texts => json!({"type": "[]string", "full_text_search": text_or_none(rng)}),
            Kind::Tokens => {
                let tokens = json!({"tokenizer": "pre_tokenized_array", "case_sensitive": true});
                json!({"type": "[]string", "full_text_search": tokens})
            }
            Kind::Vector => {
                json!({"type": format!("[3]{}", self.elements), "ann": {"distance_metric": self.metric}})
            }
            Kind::Stored => json!({"type": "[2]f32", "ann": false}),
            Kind::Multi => json!({
                "type": "[][2]f32", "ann": {"late_interaction": true, "distance_metric": self.metric},
            }),
            Kind::Sparse => json!({"type": "{}f16", "sparse_knn": {"distance_metric": "dot_product"}}),
        }
    }

    /// Adds or drops an attribute, or declares one in another way. `None` when it has none.
    pub fn change(&mut self, rng: &Rng) -> Option<Json> {
        if !self.others.is_empty() && once_in(rng, 3) {
            let at = rng.below(self.others.len() as u64) as usize;
            let (name, kind) = self.others.swap_remove(at);
            let declared = self.declaration(kind, rng);
            self.attributes.push((name, kind));
            self.declared.insert(name.to_owned(), declared.clone());
            return Some(json!({name: declared}));
        }
        let at = rng.below(self.attributes.len() as u64) as usize;
        let (name, kind) = self.attributes[at];
        if kind.is_vector() {
            return None;
        }
        if self.attributes.len() > 1 && once_in(rng, 4) {
            self.attributes.swap_remove(at);
            self.others.push((name, kind));
            self.declared.remove(name);
            return Some(json!({name: {"drop": true}}));
        }
        if matches!(kind, Kind::Raw | Kind::Tokens) {
            return None;
        }
        let mut declared = self.declaration(kind, rng);
        if let Json::String(ty) = &declared {
            declared = json!({"type": ty, "filterable": true});
        }
        self.declared.insert(name.to_owned(), declared.clone());
        Some(json!({name: declared}))
    }

    /// The attributes of some kinds.
    pub fn names(&self, which: impl Fn(Kind) -> bool) -> Vec<(&'static str, Kind)> {
        self.attributes
            .iter()
            .copied()
            .filter(|(_, kind)| which(*kind))
            .collect()
    }

    /// Whether an attribute is declared as filterable, which most uses need.
    pub fn is_filterable(&self, name: &str) -> bool {
        let declared = &self.declared[name];
        let is_on = |option: &str| declared.get(option).is_some_and(|v| *v != Json::Bool(false));
        let other = ["full_text_search", "regex", "glob", "fuzzy"].into_iter().any(is_on);
        declared.get("filterable").map_or(!other, |v| *v == Json::Bool(true))
    }

    /// Whether an attribute is declared with an option.
    pub fn has(&self, name: &str, option: &str) -> bool {
        self.declared[name].get(option).is_some_and(|v| *v != Json::Bool(false))
    }

    /// Attributes whose texts are searched.
    pub fn searched(&self) -> Vec<(&'static str, Kind)> {
        let mut names = self.names(Kind::is_text);
        names.retain(|(name, _)| self.has(name, "full_text_search"));
        names
    }

    /// Attributes that rows are ordered, grouped and aggregated by; once in a while one that they cannot be.
    pub fn filterable(&self, rng: &Rng, which: impl Fn(Kind) -> bool) -> Vec<(&'static str, Kind)> {
        let lax = once_in(rng, 40);
        let mut names = self.names(which);
        names.retain(|(name, _)| lax || self.is_filterable(name));
        names
    }

    pub fn value(&self, kind: Kind, rng: &Rng) -> Json {
        let list = |of: &dyn Fn() -> Json| Json::Array((0..rng.below(4)).map(|_| of()).collect());
        match kind {
            Kind::Int if once_in(rng, 20) => json!(any(rng, &[i64::MIN, i64::MAX])),
            Kind::Int => json!(rng.below(9) as i64 - 4),
            Kind::UInt if once_in(rng, 20) => json!(any(rng, &[u64::MAX, 1 << 63])),
            Kind::UInt => json!(rng.below(7)),
            Kind::Float if once_in(rng, 20) => json!(any(rng, &[-0.0, 1e300, 5e-324])),
            Kind::Float => json!(rng.below(9) as f64 / 2.0 - 2.0),
            Kind::Str if once_in(rng, 10) => json!(any(rng, ODD)),
            Kind::Raw if once_in(rng, 3) => json!(any(rng, WORDS).repeat(1000)),
            Kind::Str | Kind::Raw => json!(any(rng, WORDS)),
            Kind::Bool => json!(once_in(rng, 2)),
            Kind::Date => json!(format!("2024-01-{:02}T0{}:00:00Z", 1 + rng.below(9), rng.below(3))),
            Kind::Uuid => json!(uuid::Uuid::from_u128(u128::from(rng.below(5)) << 100).to_string()),
            Kind::Strs => list(&|| json!(any(rng, WORDS))),
            Kind::Ints => list(&|| json!(rng.below(6) as i64 - 2)),
            Kind::UInts => list(&|| json!(rng.below(5))),
            Kind::Uuids => list(&|| self.value(Kind::Uuid, rng)),
            Kind::Bools => list(&|| json!(once_in(rng, 2))),
            Kind::Tokens => list(&|| json!(any(rng, WORDS))),
            Kind::Floats => list(&|| json!(rng.below(6) as f64 / 4.0)),
            Kind::Dates => list(&|| json!(format!("2024-02-{:02}", 1 + rng.below(5)))),
            Kind::Path => json!(format!(
                "/{}/{}.{}",
                any(rng, WORDS),
                any(rng, WORDS),
                any(rng, &["rs", "TS", "md"])
            )),
            Kind::Bytes => json!(any(rng, &["", "AAE=", "/////w=="])),
            Kind::Text => json!(sentence(rng)),
            Kind::Texts => list(&|| json!(sentence(rng))),
            Kind::Vector => floats(3, rng),
            Kind::Stored => floats(2, rng),
            Kind::Multi => Json::Array((0..1 + rng.below(3)).map(|_| floats(2, rng)).collect()),
            Kind::Sparse => {
                let names = (0..1 + rng.below(3)).map(|_| any(rng, WORDS).to_string());
                Json::Object(
                    names
                        .map(|name| (name, json!(0.5 + rng.below(4) as f64 / 2.0)))
                        .collect(),
                )
            }
        }
    }
}

impl Kind {
    pub fn is_vector(self) -> bool {
        matches!(self, Kind::Vector | Kind::Stored | Kind::Multi | Kind::Sparse)
    }

    pub fn is_text(self) -> bool {
        matches!(self, Kind::Text | Kind::Texts)
    }

    pub fn is_array(self) -> bool {
        let numbers = matches!(self, Kind::Ints | Kind::UInts | Kind::Floats | Kind::Dates);
        numbers || matches!(self, Kind::Strs | Kind::Uuids | Kind::Bools)
    }

    /// Whether rows are ordered and grouped by it.
    pub fn is_scalar(self) -> bool {
        !self.is_vector() && !self.is_array() && !matches!(self, Kind::Texts | Kind::Tokens)
    }

    pub fn is_number(self) -> bool {
        matches!(self, Kind::Int | Kind::UInt | Kind::Float)
    }
}

pub const WORDS: &[&str] = &[
    "otter", "river", "sea", "seal", "walrus", "walruses", "tide", "Tides", "the", "ice", "Eis", "größe",
];

/// Strings that are shorter or longer than others, or have what others end with.
const ODD: &[&str] = &[
    "",
    "\0",
    "sea\0",
    "sea\0l",
    "a string of more than sixty-four bytes, which is more than some places keep of one: otter",
    "a string of more than sixty-four bytes, which is more than some places keep of one: river",
];

pub fn sentence(rng: &Rng) -> String {
    let words: Vec<&str> = (0..1 + rng.below(9)).map(|_| *any(rng, WORDS)).collect();
    words.join(*any::<&str>(rng, &[" ", " ", ", ", ". "]))
}

/// A vector that is not null, of numbers that every element type has.
pub fn floats(dims: usize, rng: &Rng) -> Json {
    let mut elements: Vec<i64> = (0..dims).map(|_| rng.below(9) as i64 - 4).collect();
    elements[0] += i64::from(elements.iter().all(|e| *e == 0));
    json!(elements)
}

fn text_or_none(rng: &Rng) -> Json {
    match once_in(rng, 5) {
        true => json!(false),
        false => text(rng),
    }
}

fn text(rng: &Rng) -> Json {
    match rng.below(4) {
        0 => json!(true),
        1 => json!({"stemming": true, "remove_stopwords": true}),
        2 => json!({"case_sensitive": true, "b": 0.5}),
        _ => json!({"k1": 0.9, "ascii_folding": true, "tokenizer": "word_v3"}),
    }
}
