//! One attribute of a schema as clients declare it, and what it does to the attribute.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::model::schema::{Language, Tokenizer};
use crate::model::{AttrType, Attribute, FullTextConfig, Invalid, Metric, Scalar};

/// One declared attribute. `None` stands for "not mentioned": the current value stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Entry {
    pub ty: Option<AttrType>,
    filterable: Option<bool>,
    full_text: Option<FullText>,
    regex: Option<bool>,
    glob: Option<bool>,
    fuzzy: Option<bool>,
    pub ann: Option<Ann>,
    sparse_knn: Option<bool>,
    pub embed: Option<EmbedEntry>,
    pub drop: bool,
}

/// What is declared about embedding.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum EmbedEntry {
    Off,
    On {
        model: String,
        attribute: Option<String>,
        dims: Option<u32>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum FullText {
    Off,
    /// `true`: on, and as it is when it is on already.
    On,
    Config(FullTextConfig),
}

/// Whether and how a vector column is indexed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Ann {
    on: bool,
    pub metric: Option<Metric>,
    late_interaction: bool,
}

/// A value of the shape `T`; `null` is `None`.
fn typed<T: DeserializeOwned>(key: &str, value: Value) -> Result<Option<T>, Invalid> {
    serde_json::from_value(value).map_err(|e| Invalid::shape(format!("{key}: {e}")))
}

impl Entry {
    /// Reads a type name or an object.
    pub fn parse(value: Value) -> Result<Self, Invalid> {
        let map = match value {
            Value::String(name) => {
                return Ok(Self {
                    ty: Some(AttrType::parse(&name)?),
                    ..Self::default()
                });
            }
            Value::Object(map) => map,
            _ => return Err(Invalid::shape("expected a type name or an object")),
        };
        let alone = map.len() == 1;
        let mut entry = Self::default();
        for (key, value) in map {
            entry.set(&key, value)?;
        }
        match entry.drop && !alone {
            true => Err(Invalid::new("drop must stand alone")),
            false => Ok(entry),
        }
    }

    fn set(&mut self, key: &str, value: Value) -> Result<(), Invalid> {
        match key {
            "type" => {
                self.ty = typed::<String>(key, value)?
                    .map(|name| AttrType::parse(&name))
                    .transpose()?;
            }
            "filterable" => self.filterable = typed(key, value)?,
            "regex" => self.regex = typed(key, value)?,
            "glob" => self.glob = typed(key, value)?,
            "fuzzy" => self.fuzzy = typed(key, value)?,
            // `bm25` is what very old clients say.
            "full_text_search" | "bm25" => self.full_text = Some(parse_full_text(value)?),
            "ann" => self.ann = parse_ann(value)?,
            "sparse_knn" => self.sparse_knn = Some(parse_sparse_knn(value)?),
            "embed" => self.embed = Some(parse_embed(value)?),
            "drop" => {
                self.drop = typed(key, value)?.unwrap_or(false);
                if !self.drop {
                    return Err(Invalid::new("drop can only be true"));
                }
            }
            _ => return Err(Invalid::new(format!("unknown key {key:?}"))),
        }
        Ok(())
    }

    /// Every option but `ann`.
    pub fn apply_options(&self, a: &mut Attribute, is_new: bool) -> Result<(), Invalid> {
        let ty = a.ty;
        match self.full_text {
            Some(FullText::Off) => a.full_text = None,
            Some(FullText::On) => a.full_text = a.full_text.or(Some(FullTextConfig::default())),
            Some(FullText::Config(config)) => a.full_text = Some(config),
            None => {}
        }
        if a.full_text.is_some() && !ty.can_be_searched() {
            return Err(Invalid::new(format!(
                "full_text_search needs string or []string, not {ty}"
            )));
        }
        let pre_tokenized = a.full_text.is_some_and(|c| c.tokenizer == Tokenizer::PreTokenizedArray);
        if pre_tokenized && ty != AttrType::Array(Scalar::String) {
            return Err(Invalid::new(format!(
                "full_text_search: tokenizer pre_tokenized_array needs []string, not {ty}"
            )));
        }
        for (key, option, slot) in [
            ("regex", self.regex, &mut a.regex),
            ("glob", self.glob, &mut a.glob),
            ("fuzzy", self.fuzzy, &mut a.fuzzy),
        ] {
            *slot = option.unwrap_or(*slot);
            if *slot && !ty.can_be_searched() {
                return Err(Invalid::new(format!("{key} needs string or []string, not {ty}")));
            }
        }
        a.sparse_knn = self.sparse_knn.unwrap_or(a.sparse_knn);
        if a.sparse_knn && ty != AttrType::SparseVector {
            return Err(Invalid::new(format!("sparse_knn needs {{}}f16, not {ty}")));
        }
        match self.filterable {
            Some(true) if !ty.can_be_filterable() => {
                return Err(Invalid::new(format!("filterable is not possible for {ty}")));
            }
            Some(filterable) => a.filterable = filterable,
            None if is_new => {
                let searched = a.full_text.is_some() || a.regex || a.glob || a.fuzzy;
                a.filterable = ty.can_be_filterable() && !searched;
            }
            None => {}
        }
        Ok(())
    }

    /// * `is_new` — the attribute is being added; later its vector index stays as it was chosen
    /// * `of_request` — the request's `distance_metric`
    pub fn apply_ann(&self, a: &mut Attribute, is_new: bool, of_request: Option<Metric>) -> Result<(), Invalid> {
        let multi = matches!(a.ty, AttrType::MultiVector { .. });
        if !a.ty.is_vector() && !multi {
            return match self.ann.is_some_and(|ann| ann.on) {
                true => Err(Invalid::new(format!(
                    "ann needs a vector type such as [768]f32, not {}",
                    a.ty
                ))),
                false => Ok(()),
            };
        }
        let Some(ann) = self.ann.or_else(|| {
            is_new.then_some(Ann {
                on: &*a.name == "vector",
                ..Ann::default()
            })
        }) else {
            return Ok(());
        };
        if !is_new {
            let same = ann.on == a.ann.is_some() && ann.metric.is_none_or(|m| Some(m) == a.metric);
            return match same {
                true => Ok(()),
                false => Err(Invalid::new("ann cannot change once the vector column exists")),
            };
        }
        if ann.on && multi != ann.late_interaction {
            return Err(Invalid::new(match multi {
                true => "ann of a [][N]f32 attribute needs late_interaction: true".to_owned(),
                false => format!("ann: late_interaction needs [][N]f32, not {}", a.ty),
            }));
        }
        a.metric = ann.metric.or(of_request);
        if a.metric.is_none() && (ann.on || !multi) {
            return Err(Invalid::new(
                "distance_metric is required for a new vector column: cosine_distance or euclidean_squared",
            ));
        }
        a.ann = a.metric.filter(|_| ann.on);
        a.late_interaction = ann.on && multi;
        Ok(())
    }
}

fn parse_ann(value: Value) -> Result<Option<Ann>, Invalid> {
    let map = match value {
        Value::Null => return Ok(None),
        Value::Bool(on) => return Ok(Some(Ann { on, ..Ann::default() })),
        Value::Object(map) => map,
        _ => return Err(Invalid::shape("ann: expected a boolean or an object")),
    };
    let mut ann = Ann {
        on: true,
        ..Ann::default()
    };
    for (key, value) in map {
        match key.as_str() {
            "distance_metric" => {
                ann.metric = typed::<String>("ann.distance_metric", value)?
                    .map(|name| parse_metric("ann.distance_metric", &name))
                    .transpose()?;
            }
            "late_interaction" => ann.late_interaction = typed("ann.late_interaction", value)?.unwrap_or(false),
            _ => return Err(Invalid::new(format!("ann: unknown key {key:?}"))),
        }
    }
    Ok(Some(ann))
}

/// The metric of that name; `field` is where it stands.
pub(super) fn parse_metric(field: &str, name: &str) -> Result<Metric, Invalid> {
    Metric::parse(name).ok_or_else(|| {
        Invalid::new(format!(
            "{field} must be cosine_distance or euclidean_squared, got {name:?}"
        ))
    })
}

fn parse_sparse_knn(value: Value) -> Result<bool, Invalid> {
    let map = match value {
        Value::Null | Value::Bool(false) => return Ok(false),
        Value::Object(map) => map,
        _ => return Err(Invalid::shape("sparse_knn: expected an object with distance_metric")),
    };
    if let Some(key) = map.keys().find(|k| *k != "distance_metric") {
        return Err(Invalid::new(format!("sparse_knn: unknown key {key:?}")));
    }
    match map.get("distance_metric").and_then(Value::as_str) {
        Some("dot_product") => Ok(true),
        _ => Err(Invalid::new("sparse_knn.distance_metric must be dot_product")),
    }
}

fn parse_embed(value: Value) -> Result<EmbedEntry, Invalid> {
    let map = match value {
        Value::Null => return Ok(EmbedEntry::Off),
        Value::String(model) => {
            return Ok(EmbedEntry::On {
                model,
                attribute: None,
                dims: None,
            });
        }
        Value::Object(map) => map,
        _ => return Err(Invalid::shape("embed: expected the name of a model, an object or null")),
    };
    let (mut model, mut attribute, mut dims) = (None, None, None);
    for (key, value) in map {
        match key.as_str() {
            "model" => model = typed("embed.model", value)?,
            "attribute" => attribute = typed("embed.attribute", value)?,
            "dims" => dims = typed("embed.dims", value)?,
            _ => return Err(Invalid::new(format!("embed: unknown key {key:?}"))),
        }
    }
    let model = model.ok_or_else(|| Invalid::new("embed.model is missing"))?;
    Ok(EmbedEntry::On { model, attribute, dims })
}

fn parse_full_text(value: Value) -> Result<FullText, Invalid> {
    let map = match value {
        Value::Null | Value::Bool(false) => return Ok(FullText::Off),
        Value::Bool(true) => return Ok(FullText::On),
        Value::Object(map) => map,
        _ => return Err(Invalid::shape("full_text_search: expected a boolean or an object")),
    };
    let mut config = FullTextConfig::default();
    let mut case_sensitive = None;
    for (key, value) in map {
        if key == "case_sensitive" {
            case_sensitive = typed("full_text_search.case_sensitive", value)?;
        } else {
            set_full_text(&mut config, &key, value)?;
        }
    }
    let pre_tokenized = config.tokenizer == Tokenizer::PreTokenizedArray;
    config.case_sensitive = case_sensitive.unwrap_or(pre_tokenized);
    check_full_text(&config)?;
    Ok(FullText::Config(config))
}

fn set_full_text(config: &mut FullTextConfig, key: &str, value: Value) -> Result<(), Invalid> {
    let field = format!("full_text_search.{key}");
    let key_of = |value| typed::<String>(&field, value);
    match key {
        "tokenizer" => set(&mut config.tokenizer, named(&field, &Tokenizer::ALL, key_of(value)?)?),
        "language" => set(&mut config.language, named(&field, &Language::ALL, key_of(value)?)?),
        "stemming" => set(&mut config.stemming, typed(&field, value)?),
        "remove_stopwords" => set(&mut config.remove_stopwords, typed(&field, value)?),
        "ascii_folding" => set(&mut config.ascii_folding, typed(&field, value)?),
        "max_token_length" => {
            let length: Option<i64> = typed(&field, value)?;
            let length = length.map(|n| {
                let n = u32::try_from(n).ok().filter(|n| (1..=254).contains(n));
                n.ok_or_else(|| Invalid::new(format!("{field} must be 1 to 254")))
            });
            set(&mut config.max_token_length, length.transpose()?);
        }
        "k1" => set(
            &mut config.k1,
            within(&field, typed(&field, value)?, |x| x > 0.0, "above 0")?,
        ),
        "k3" => set(
            &mut config.k3,
            within(&field, typed(&field, value)?, |x| x > 0.0, "above 0")?,
        ),
        "b" => set(
            &mut config.b,
            within(&field, typed(&field, value)?, |x| (0.0..=1.0).contains(&x), "0 to 1")?,
        ),
        _ => return Err(Invalid::new(format!("full_text_search: unknown key {key:?}"))),
    }
    Ok(())
}

fn set<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}

fn within(field: &str, x: Option<f64>, ok: fn(f64) -> bool, range: &str) -> Result<Option<f64>, Invalid> {
    match x.is_none_or(ok) {
        true => Ok(x),
        false => Err(Invalid::new(format!("{field} must be {range}"))),
    }
}

fn named<T: Copy>(field: &str, all: &[(T, &str)], name: Option<String>) -> Result<Option<T>, Invalid> {
    let Some(name) = name else { return Ok(None) };
    match all.iter().find(|(_, n)| *n == name) {
        Some((value, _)) => Ok(Some(*value)),
        None => {
            let names: Vec<&str> = all.iter().map(|(_, n)| *n).collect();
            Err(Invalid::new(format!(
                "{field} must be one of {}, got {name:?}",
                names.join(", ")
            )))
        }
    }
}

/// Which options go together. A language other than the default is what `pre_tokenized_array`
/// refuses: the default is printed in every schema answer and has to survive being sent back.
fn check_full_text(config: &FullTextConfig) -> Result<(), Invalid> {
    let refused = [
        ("language", config.language != Language::English),
        ("stemming", config.stemming),
        ("remove_stopwords", config.remove_stopwords),
        ("case_sensitive: false", !config.case_sensitive),
    ];
    if config.tokenizer == Tokenizer::PreTokenizedArray {
        return match refused.iter().find(|(_, set)| *set) {
            Some((key, _)) => Err(Invalid::new(format!(
                "full_text_search: tokenizer pre_tokenized_array does not go with {key}"
            ))),
            None => Ok(()),
        };
    }
    for (key, on) in [
        ("stemming", config.stemming),
        ("remove_stopwords", config.remove_stopwords),
    ] {
        if on && config.case_sensitive {
            return Err(Invalid::new(format!(
                "full_text_search: {key} needs case_sensitive: false"
            )));
        }
    }
    Ok(())
}
