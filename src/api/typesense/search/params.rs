//! The parameters of a search: texts by name, from wherever they come, and what they mean.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use crate::api::typesense::document::Shown;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Direction;
use crate::model::filter_by::{Bounds, FilterBy};

/// Parameters as texts, by name.
pub type Params = BTreeMap<String, String>;

/// The most hits of a page.
pub const PER_PAGE_MAX: usize = 250;
/// The most fields to search, to count values of, and to sort by.
const QUERY_BY_MAX: usize = 32;
const FACETS_MAX: usize = 20;
const SORT_BY_MAX: usize = 3;
/// The most pinned or hidden hits.
const CURATED_MAX: usize = 250;
/// The farthest that hits can be paged to, and how many of these can be sorted again by other fields: those are held
/// at the same time.
const HITS_MAX: usize = 100_000;
pub const RESORTED_MAX: usize = 10_000;
/// The most names in other lists of fields and sets.
const NAMES_MAX: usize = 256;
/// The most fields to group by.
const GROUP_BY_MAX: usize = 8;
/// The longest query, in bytes: everything else costs time in proportion to it.
const QUERY_BYTES_MAX: usize = 8192;
/// The longest tags of highlights and beginnings of facet values, in bytes: each is in the answer once per match.
const TAG_BYTES_MAX: usize = 256;
/// More words beside a match than any text has.
const AFFIX_MAX: usize = 10_000;

/// Reads a query string; of names that stand twice, the last.
pub fn of_query(query: &str) -> Params {
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect()
}

/// Reads a JSON object: arrays are joined by commas, as clients do it for query strings.
pub fn of_json(object: &Map<String, Json>) -> Params {
    let text = |value: &Json| match value {
        Json::String(text) => Some(text.clone()),
        Json::Number(_) | Json::Bool(_) => Some(value.to_string()),
        Json::Array(items) => {
            let items = items.iter().map(|item| match item {
                Json::String(text) => text.clone(),
                other => other.to_string(),
            });
            Some(items.collect::<Vec<_>>().join(","))
        }
        Json::Null | Json::Object(_) => None,
    };
    object
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), text(value)?)))
        .collect()
}

/// What the embedded parameters of a scoped key make of a request's: they replace them. Those that narrow what may
/// be seen (filters, fields, collections) are not applied here: the key's guard holds them against every request.
pub fn embed(params: &mut Params, embedded: &Map<String, Json>) {
    const HELD_BY_THE_GUARD: &[&str] = &[
        "expires_at",
        "filter_by",
        "filters",
        "collection",
        "namespace",
        "include_fields",
        "exclude_fields",
        "include_attributes",
        "exclude_attributes",
        "max_top_k",
        "limit_multi_searches",
    ];
    // Each has another name in requests, which would count before it.
    for (embedded_name, other) in [("limit", "per_page"), ("page", "offset"), ("per_page", "limit")] {
        if embedded.contains_key(embedded_name) {
            params.remove(other);
        }
    }
    let replacing = of_json(embedded).into_iter();
    params.extend(replacing.filter(|(name, _)| !HELD_BY_THE_GUARD.contains(&name.as_str())));
}

/// Adds what a preset says and the request does not.
pub fn preset(params: &mut Params, preset: &Json) {
    let Some(object) = preset.as_object() else { return };
    for (name, value) in of_json(object) {
        params.entry(name).or_insert(value);
    }
}

/// What a search asks.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    pub q: String,
    pub query_by: Vec<QueryField>,
    pub filter_by: Option<FilterBy>,
    pub sort_by: Vec<(SortKey, Direction)>,
    pub facet_by: Vec<String>,
    pub max_facet_values: usize,
    /// A field and the beginning of the values to show.
    pub facet_query: Option<(String, String)>,
    pub page: usize,
    pub per_page: usize,
    /// How many hits are skipped.
    pub offset: usize,
    pub shown: Shown,
    pub highlight: HighlightOptions,
    pub group_by: Vec<String>,
    pub group_limit: usize,
    pub vector: Option<VectorBy>,
    pub stopwords: Option<String>,
    /// Positions from 1, and ids; by position.
    pub pinned: Vec<(usize, String)>,
    pub hidden: Vec<String>,
    pub typo_tokens_threshold: u64,
    pub drop_tokens_threshold: u64,
    /// `None`: not asked for any.
    pub synonym_sets: Option<Vec<String>>,
    pub enable_synonyms: bool,
}

/// A field to search in.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryField {
    pub name: String,
    pub weight: f64,
    /// Whether the last word may be the beginning of a longer one.
    pub prefix: bool,
    /// 0 to 2.
    pub num_typos: u32,
}

/// What hits are sorted by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SortKey {
    TextMatch,
    VectorDistance,
    Field(String),
}

/// How hits are highlighted.
#[derive(Clone, Debug, PartialEq)]
pub struct HighlightOptions {
    /// `None`: those that are searched. Empty: none.
    pub fields: Option<Vec<String>>,
    pub full_fields: Vec<String>,
    pub start_tag: String,
    pub end_tag: String,
    /// Words beside a match.
    pub affix: usize,
    /// Texts of at most so many words are shown whole.
    pub snippet_threshold: usize,
    /// Whether the list `highlights` is answered, too.
    pub v1: bool,
}

/// `vector_query`.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorBy {
    pub field: String,
    pub vector: Vec<f32>,
    pub k: Option<usize>,
    pub distance_threshold: Option<f64>,
    /// The weight of the vector in a hybrid search, 0 to 1.
    pub alpha: f64,
}

/// 404 for what a collection does not have, as Typesense has it.
pub fn unknown(sentence: String) -> Error {
    Error::new(ErrorKind::NotFound, sentence)
}

/// 422, as Typesense has it for numbers out of range.
fn unprocessable(sentence: String) -> Error {
    Error::new(ErrorKind::Shape, sentence)
}

impl Search {
    /// Reads the parameters that have an effect; others are ignored, as Typesense ignores them.
    ///
    /// # Errors
    ///
    /// 400 or 422 with the sentence for the client.
    pub fn parse(params: &Params) -> Result<Self> {
        let get = |name: &str| params.get(name).map(String::as_str).filter(|v| !v.is_empty());
        let q = params
            .get("q")
            .cloned()
            .ok_or_else(|| Error::invalid("Parameter `q` is required."))?;
        let per_page = number(get("per_page").or(get("limit")), "per_page", 10)?;
        if per_page > PER_PAGE_MAX {
            return Err(unprocessable(format!(
                "Only upto {PER_PAGE_MAX} hits can be fetched per page."
            )));
        }
        let page = number(get("page"), "page", 1)?.max(1);
        let offset = match get("offset") {
            Some(_) => number(get("offset"), "offset", 0)?,
            None => (page - 1).saturating_mul(per_page),
        };
        if q.len() > QUERY_BYTES_MAX {
            return Err(Error::invalid(format!(
                "Parameter `q` can have at most {QUERY_BYTES_MAX} bytes."
            )));
        }
        if offset.saturating_add(per_page) > HITS_MAX {
            return Err(unprocessable(format!(
                "Only upto {HITS_MAX} hits can be fetched. Ensure that `page` and `per_page` parameters are within this \
                 range."
            )));
        }
        let vector = get("vector_query").map(vector_query).transpose()?;
        let filter_by = get("filter_by").map(|text| FilterBy::parse_within(text, Bounds::REQUEST));
        let list = |name: &str| get(name).map(split).unwrap_or_default();
        let group_limit = number(get("group_limit"), "group_limit", 3)?;
        if !(1..=99).contains(&group_limit) {
            return Err(unprocessable("Value of `group_limit` must be between 1 and 99.".into()));
        }
        for name in [
            "include_fields",
            "exclude_fields",
            "highlight_fields",
            "highlight_full_fields",
            "synonym_sets",
        ] {
            if list(name).len() > NAMES_MAX {
                return Err(Error::invalid(format!("{name} takes at most {NAMES_MAX} names")));
            }
        }
        let group_by = list("group_by");
        if group_by.len() > GROUP_BY_MAX {
            return Err(Error::invalid(format!("group_by takes at most {GROUP_BY_MAX} fields")));
        }
        let hidden = list("hidden_hits");
        let pinned = pinned(&list("pinned_hits"))?;
        if hidden.len() > CURATED_MAX || pinned.len() > CURATED_MAX {
            return Err(Error::invalid(format!(
                "at most {CURATED_MAX} hits can be pinned or hidden"
            )));
        }
        let facet_by = list("facet_by");
        if facet_by.len() > FACETS_MAX {
            return Err(Error::invalid(format!("facet_by takes at most {FACETS_MAX} fields")));
        }
        if let Some(ranged) = facet_by.iter().find(|f| f.contains('(')) {
            return Err(Error::invalid(format!(
                "facet_by: ranges and options of facets are not supported by this server: `{ranged}`"
            )));
        }
        Ok(Self {
            q,
            query_by: query_by(&list("query_by"), params)?,
            filter_by: filter_by.transpose()?,
            sort_by: sort_by(&list("sort_by"))?,
            facet_by,
            max_facet_values: number(get("max_facet_values"), "max_facet_values", 10)?.min(1000),
            facet_query: get("facet_query").map(facet_query).transpose()?,
            page,
            per_page,
            offset,
            shown: Shown {
                include: get("include_fields").map(split),
                exclude: list("exclude_fields"),
            },
            highlight: highlight(params)?,
            group_by,
            group_limit,
            vector,
            stopwords: get("stopwords").map(str::to_owned),
            pinned,
            hidden,
            typo_tokens_threshold: number(get("typo_tokens_threshold"), "typo_tokens_threshold", 1)? as u64,
            drop_tokens_threshold: number(get("drop_tokens_threshold"), "drop_tokens_threshold", 1)? as u64,
            synonym_sets: get("synonym_sets").map(split),
            enable_synonyms: get("enable_synonyms") != Some("false"),
        })
    }

    /// Whether all documents are asked for, whatever their texts.
    pub fn is_wildcard(&self) -> bool {
        matches!(self.q.trim(), "*" | "")
    }
}

fn number(text: Option<&str>, name: &str, default: usize) -> Result<usize> {
    match text {
        None => Ok(default),
        Some(text) => text
            .trim()
            .parse()
            .map_err(|_| Error::invalid(format!("Parameter `{name}` must be an unsigned integer."))),
    }
}

/// The parts between commas that stand outside of brackets and backticks, trimmed; empty ones are left out.
pub fn split(text: &str) -> Vec<String> {
    let (mut parts, mut start, mut open, mut quoted) = (Vec::new(), 0, 0usize, false);
    for (i, c) in text.char_indices() {
        match c {
            '`' => quoted = !quoted,
            '(' | '[' if !quoted => open += 1,
            ')' | ']' if !quoted => open = open.saturating_sub(1),
            ',' if open == 0 && !quoted => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    let trimmed = parts.into_iter().map(|p| p.trim().trim_matches('`'));
    trimmed.filter(|p| !p.is_empty()).map(str::to_owned).collect()
}

/// One value per field, or one for all.
fn per_field<T: Copy>(
    params: &Params,
    name: &str,
    fields: usize,
    default: T,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>> {
    let values = params.get(name).map(|text| split(text)).unwrap_or_default();
    let parsed: Option<Vec<T>> = values.iter().map(|v| parse(v)).collect();
    let parsed =
        parsed.ok_or_else(|| Error::invalid(format!("Parameter `{name}` has a value that it cannot have.")))?;
    match parsed.len() {
        0 => Ok(vec![default; fields]),
        1 => Ok(vec![parsed[0]; fields]),
        n if n == fields => Ok(parsed),
        _ => Err(Error::invalid(format!(
            "Number of values in `{name}` does not match number of `query_by` fields."
        ))),
    }
}

fn query_by(names: &[String], params: &Params) -> Result<Vec<QueryField>> {
    if names.len() > QUERY_BY_MAX {
        return Err(Error::invalid(format!("query_by takes at most {QUERY_BY_MAX} fields")));
    }
    let n = names.len();
    let prefix = per_field(params, "prefix", n, true, |v| match v {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    })?;
    let typos = per_field(params, "num_typos", n, 2, |v| v.parse::<u32>().ok().map(|n| n.min(2)))?;
    let weights = match params.get("query_by_weights").filter(|w| !w.is_empty()) {
        None => (0..n).map(|i| (n - i) as f64).collect(),
        Some(text) => {
            let weights: Option<Vec<f64>> = split(text).iter().map(|w| w.parse().ok()).collect();
            let weights = weights.filter(|w: &Vec<f64>| w.iter().all(|w| (0.0..=1e6).contains(w)));
            let weights = weights.ok_or_else(|| Error::invalid("Parameter `query_by_weights` must be numbers."))?;
            if weights.len() != n {
                return Err(Error::invalid(
                    "Number of weights in `query_by_weights` does not match number of `query_by` fields.",
                ));
            }
            weights
        }
    };
    let fields = names.iter().zip(prefix).zip(typos).zip(weights);
    Ok(fields
        .map(|(((name, prefix), num_typos), weight)| QueryField {
            name: name.clone(),
            weight,
            prefix,
            num_typos,
        })
        .collect())
}

fn sort_by(keys: &[String]) -> Result<Vec<(SortKey, Direction)>> {
    if keys.len() > SORT_BY_MAX {
        return Err(unprocessable(format!(
            "Only upto {SORT_BY_MAX} sort_by fields can be specified."
        )));
    }
    let key = |text: &String| {
        let bad = || Error::invalid(format!("Parameter `sort_by` is malformed: `{text}`."));
        let (name, order) = text.rsplit_once(':').ok_or_else(bad)?;
        let direction = match order.trim().to_ascii_lowercase().as_str() {
            "asc" => Direction::Asc,
            "desc" => Direction::Desc,
            _ => return Err(Error::invalid("Order for field in `sort_by` must be `asc` or `desc`.")),
        };
        let (name, options) = name
            .split_once('(')
            .map_or((name, ""), |(name, options)| (name, options));
        let name = name.trim();
        let key = match name {
            "" => return Err(bad()),
            "_text_match" => SortKey::TextMatch,
            "_vector_distance" => SortKey::VectorDistance,
            _ if name.starts_with('_') && !options.is_empty() => {
                return Err(Error::invalid(format!(
                    "sort_by: `{name}` is not supported by this server"
                )));
            }
            _ if !options.is_empty() && !options.trim_start().starts_with("missing_values") => {
                return Err(Error::invalid(format!(
                    "sort_by: the options of `{name}` are not supported by this server"
                )));
            }
            _ => SortKey::Field(name.to_owned()),
        };
        Ok((key, direction))
    };
    keys.iter().map(key).collect()
}

fn facet_query(text: &str) -> Result<(String, String)> {
    let parsed = text.split_once(':');
    let (field, query) =
        parsed.ok_or_else(|| Error::invalid("Facet query must be in the `facet_field: value` format."))?;
    let query = query.trim();
    if query.len() > TAG_BYTES_MAX {
        return Err(Error::invalid(format!(
            "Facet query can have at most {TAG_BYTES_MAX} bytes."
        )));
    }
    Ok((field.trim().to_owned(), query.to_owned()))
}

fn pinned(entries: &[String]) -> Result<Vec<(usize, String)>> {
    let entry = |text: &String| {
        let parsed = text.rsplit_once(':').and_then(|(id, at)| Some((at.parse().ok()?, id)));
        let (at, id): (usize, &str) =
            parsed.ok_or_else(|| Error::invalid("Parameter `pinned_hits` must be `id:position` pairs."))?;
        match at {
            0 => Err(Error::invalid("Positions in `pinned_hits` count from 1.")),
            HITS_MAX.. => Err(Error::invalid(format!(
                "Positions in `pinned_hits` must be below {HITS_MAX}."
            ))),
            _ => Ok((at, id.to_owned())),
        }
    };
    let mut entries: Vec<(usize, String)> = entries.iter().map(entry).collect::<Result<_>>()?;
    entries.sort_by_key(|(at, _)| *at);
    Ok(entries)
}

fn highlight(params: &Params) -> Result<HighlightOptions> {
    let get = |name: &str| params.get(name).map(String::as_str).filter(|v| !v.is_empty());
    let fields = get("highlight_fields").map(split);
    for name in ["highlight_start_tag", "highlight_end_tag"] {
        if get(name).is_some_and(|tag| tag.len() > TAG_BYTES_MAX) {
            return Err(Error::invalid(format!("{name} can have at most {TAG_BYTES_MAX} bytes")));
        }
    }
    Ok(HighlightOptions {
        fields: match fields.as_deref() {
            Some([none]) if none == "none" => Some(Vec::new()),
            _ => fields,
        },
        full_fields: get("highlight_full_fields").map(split).unwrap_or_default(),
        start_tag: get("highlight_start_tag").unwrap_or("<mark>").to_owned(),
        end_tag: get("highlight_end_tag").unwrap_or("</mark>").to_owned(),
        affix: number(get("highlight_affix_num_tokens"), "highlight_affix_num_tokens", 4)?.min(AFFIX_MAX),
        snippet_threshold: number(get("snippet_threshold"), "snippet_threshold", 30)?,
        v1: get("enable_highlight_v1") != Some("false"),
    })
}

/// `field:([0.1, 0.2], k: 10)`.
fn vector_query(text: &str) -> Result<VectorBy> {
    let bad = |why: &str| Error::invalid(format!("Malformed vector query string: {why}."));
    let (field, rest) = text
        .split_once(':')
        .ok_or_else(|| bad("expected `field:([…], k: 10)`"))?;
    let inner = rest.trim().strip_prefix('(').and_then(|r| r.strip_suffix(')'));
    let inner = inner.ok_or_else(|| bad("the vector must stand in parentheses"))?.trim();
    let (vector, options) = inner
        .strip_prefix('[')
        .and_then(|r| r.split_once(']'))
        .ok_or_else(|| bad("the vector must be an array of numbers"))?;
    let numbers: Option<Vec<f32>> = vector
        .split(',')
        .map(str::trim)
        .filter(|x| !x.is_empty())
        .map(|x| x.parse().ok().filter(|x: &f32| x.is_finite()))
        .collect();
    let vector = numbers.ok_or_else(|| bad("the vector must be an array of numbers"))?;
    if vector.is_empty() {
        return Err(bad(
            "the vector is empty; searching by the vector of a document is not supported by this server",
        ));
    }
    let mut by = VectorBy {
        field: field.trim().to_owned(),
        vector,
        k: None,
        distance_threshold: None,
        alpha: 0.3,
    };
    for option in split(options) {
        let (name, value) = option.split_once(':').ok_or_else(|| bad("options are `name: value`"))?;
        let value = value.trim();
        let float = || value.parse::<f64>().ok().filter(|x| x.is_finite());
        match name.trim() {
            "k" => by.k = Some(value.parse().map_err(|_| bad("k must be an unsigned integer"))?),
            "distance_threshold" => {
                by.distance_threshold = Some(float().ok_or_else(|| bad("distance_threshold must be a number"))?);
            }
            "alpha" => {
                let alpha = float().filter(|a| (0.0..=1.0).contains(a));
                by.alpha = alpha.ok_or_else(|| bad("alpha must be 0 to 1"))?;
            }
            // How an index is walked: every search is exact here.
            "ef" | "flat_search_cutoff" => {}
            other => return Err(bad(&format!("the option `{other}` is not supported by this server"))),
        }
    }
    Ok(by)
}

#[cfg(test)]
mod tests;
