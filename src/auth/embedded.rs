//! The search parameters that the maker of a scoped key embedded (control-plane design §3).
//!
//! Every name has to be known: a restriction of a newer client must not be passed over.

use serde_json::{Map, Value as Json};

use super::api_key::not_valid;
use crate::control::keys::rows::RowFilter;
use crate::control::keys::scoped::PARAMETERS_BYTES_MAX;
use crate::control::pattern::is_regular_expression;
use crate::control::{Action, ActionSet, Grant, Patterns};
use crate::error::Error;
use crate::model::{OrgId, Restriction};

/// Typesense's search parameters that an embedded value replaces; what they restrict, they restrict on
/// Typesense's search routes.
#[rustfmt::skip]
const REPLACED: &[&str] = &[
    "q", "query_by", "query_by_weights", "prefix", "infix", "pre_segmented_query", "preset", "sort_by", "facet_by",
    "max_facet_values", "facet_query", "facet_query_num_typos", "facet_return_parent", "facet_sample_percent",
    "facet_sample_threshold", "facet_strategy", "page", "per_page", "limit", "offset", "group_by", "group_limit",
    "group_missing_values", "group_max_candidates", "highlight_fields", "highlight_full_fields",
    "highlight_affix_num_tokens", "highlight_start_tag", "highlight_end_tag", "snippet_threshold",
    "enable_highlight_v1", "num_typos", "min_len_1typo", "min_len_2typo", "split_join_tokens",
    "typo_tokens_threshold", "drop_tokens_threshold", "drop_tokens_mode", "enable_typos_for_numerical_tokens",
    "enable_typos_for_alpha_numerical_tokens", "synonym_num_typos", "synonym_prefix", "enable_synonyms",
    "synonym_sets", "demote_synonym_match", "pinned_hits", "hidden_hits", "filter_curated_hits", "enable_overrides",
    "override_tags", "curation_sets", "curation_tags", "enable_analytics", "analytics_tag", "text_match_type",
    "prioritize_exact_match", "prioritize_token_position", "prioritize_num_matching_fields", "exhaustive_search",
    "search_cutoff_ms", "max_candidates", "max_extra_prefix", "max_extra_suffix", "stopwords", "vector_query",
    "remote_embedding_timeout_ms", "remote_embedding_num_tries", "enable_lazy_filter", "max_filter_by_candidates",
    "rerank_hybrid_matches", "validate_field_names",
];
/// Those that change no answer, or are enforced before it is made.
const HARMLESS: &[&str] = &["use_cache", "cache_ttl", "limit_multi_searches", "per_page"];
/// The most names in a list of attributes.
const NAMES_MAX: usize = 256;
/// The most regular expressions among its namespaces: those cost time to compile.
const REGULAR_EXPRESSIONS_MAX: usize = 2;

/// What a scoped key says besides whose it is.
#[derive(Debug)]
pub(super) struct Embedded {
    /// All of it but `expires_at`, as Typesense's search routes apply it.
    pub parameters: Map<String, Json>,
    pub restriction: Option<Restriction>,
    expires_at: Option<u64>,
    /// Each narrows.
    namespaces: Vec<Patterns>,
}

fn wrong_type() -> Error {
    Error::invalid("Error applying search parameters inside Scoped Search API key")
}

impl Embedded {
    /// Reads what was signed.
    ///
    /// # Errors
    ///
    /// 401 for another shape, unknown names and expiry times that are none; 400 for values of the wrong type.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        if text.len() > PARAMETERS_BYTES_MAX {
            return Err(not_valid());
        }
        let mut parameters: Map<String, Json> = serde_json::from_slice(text).map_err(|_| not_valid())?;
        let expires_at = parameters
            .remove("expires_at")
            .map(|at| at.as_u64().ok_or_else(not_valid));
        let mut embedded = Self {
            parameters: Map::new(),
            restriction: None,
            expires_at: expires_at.transpose()?,
            namespaces: Vec::new(),
        };
        let mut restriction = Restriction::default();
        let mut restricts = false;
        for (name, value) in &parameters {
            let mut narrow = |apply: &mut dyn FnMut(&mut Restriction) -> Result<(), Error>| {
                restricts = true;
                apply(&mut restriction)
            };
            match name.as_str() {
                "filter_by" if value.is_string() => narrow(&mut |r| filter(r, value))?,
                "filters" if value.is_array() => narrow(&mut |r| filter(r, value))?,
                "collection" => embedded.namespaces.push(Patterns::only(text_of(value)?)),
                "namespace" => embedded.namespaces.push(globs(value)?),
                "include_fields" if value.is_string() => narrow(&mut |r| include(r, names(value)?))?,
                "include_attributes" => narrow(&mut |r| include(r, names(value)?))?,
                "exclude_fields" if value.is_string() => narrow(&mut |r| exclude(r, names(value)?))?,
                "exclude_attributes" => narrow(&mut |r| exclude(r, names(value)?))?,
                "max_top_k" | "limit_hits" => {
                    let max = value
                        .as_u64()
                        .and_then(|n| usize::try_from(n).ok())
                        .ok_or_else(wrong_type)?;
                    narrow(&mut |r| {
                        r.top_k_max = Some(r.top_k_max.map_or(max, |other| other.min(max)));
                        Ok(())
                    })?;
                }
                "filter_by" | "filters" | "include_fields" | "exclude_fields" => return Err(wrong_type()),
                "per_page" | "limit_multi_searches" => {
                    // Clients also send numbers as texts; whoever applies the limit finds a number.
                    let text = value.as_str().and_then(|text| text.parse().ok());
                    let max: u64 = value.as_u64().or(text).ok_or_else(wrong_type)?;
                    embedded.parameters.insert(name.clone(), max.into());
                }
                known if REPLACED.contains(&known) || HARMLESS.contains(&known) => {
                    if value.is_array() || value.is_object() || value.is_null() {
                        return Err(wrong_type());
                    }
                }
                _ => return Err(not_valid()),
            }
        }
        embedded.restriction = restricts.then_some(restriction);
        parameters.append(&mut embedded.parameters);
        embedded.parameters = parameters;
        Ok(embedded)
    }

    /// What it allows besides what its parent does.
    pub fn grants(&self, org: &OrgId) -> Vec<Grant> {
        let search = || Grant {
            not_after: self.expires_at,
            ..Grant::in_org(org.clone(), ActionSet::from_iter([Action::DocumentsSearch]))
        };
        let narrow = |namespaces: &Patterns| Grant {
            namespaces: namespaces.clone(),
            ..search()
        };
        match self.namespaces.is_empty() {
            true => vec![search()],
            false => self.namespaces.iter().map(narrow).collect(),
        }
    }
}

/// Whether embedded parameters say nothing that only Typesense's search routes could apply.
pub(super) fn fits_every_search(parameters: &Map<String, Json>) -> bool {
    let only_there = |name: &str| REPLACED.contains(&name) && !HARMLESS.contains(&name);
    !parameters.keys().any(|name| only_there(name))
}

fn text_of(value: &Json) -> Result<&str, Error> {
    value.as_str().ok_or_else(wrong_type)
}

fn filter(restriction: &mut Restriction, value: &Json) -> Result<(), Error> {
    if value.as_str().is_some_and(|text| text.trim().is_empty()) {
        return Ok(());
    }
    // A filter that cannot be read lets nothing pass: the key as a whole does not count.
    let filter = RowFilter::parse(value)
        .and_then(|f| f.compiled())
        .map_err(|_| not_valid())?;
    restriction.filters.push(filter);
    Ok(())
}

fn include(restriction: &mut Restriction, names: Vec<String>) -> Result<(), Error> {
    if names.iter().any(|name| name == "*") {
        return Ok(());
    }
    restriction.include = Some(match restriction.include.take() {
        None => names,
        Some(before) => before.into_iter().filter(|name| names.contains(name)).collect(),
    });
    Ok(())
}

fn exclude(restriction: &mut Restriction, names: Vec<String>) -> Result<(), Error> {
    restriction.exclude.extend(names);
    Ok(())
}

/// Names with commas between, or a list of names.
fn names(value: &Json) -> Result<Vec<String>, Error> {
    let names: Vec<String> = match value {
        Json::String(text) => {
            let parts = text.split(',').map(str::trim).filter(|name| !name.is_empty());
            parts.map(str::to_owned).collect()
        }
        Json::Array(list) => {
            let texts = list.iter().map(|name| name.as_str().map(str::to_owned));
            texts.collect::<Option<_>>().ok_or_else(wrong_type)?
        }
        _ => return Err(wrong_type()),
    };
    match names.len() <= NAMES_MAX {
        true => Ok(names),
        false => Err(not_valid()),
    }
}

/// A pattern, or a list of them; an empty list covers nothing.
fn globs(value: &Json) -> Result<Patterns, Error> {
    let texts: Vec<&str> = match value {
        Json::String(text) => vec![text],
        Json::Array(list) => list
            .iter()
            .map(Json::as_str)
            .collect::<Option<_>>()
            .ok_or_else(wrong_type)?,
        _ => return Err(wrong_type()),
    };
    // They are compiled for every request.
    if texts.iter().filter(|text| is_regular_expression(text)).count() > REGULAR_EXPRESSIONS_MAX {
        return Err(not_valid());
    }
    Patterns::parse(texts).map_err(|_| not_valid())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn parse(text: &str) -> Result<Embedded, Error> {
        Embedded::parse(text.as_bytes())
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for (bad, kind) in [
            ("", ErrorKind::Unauthenticated),
            ("[]", ErrorKind::Unauthenticated),
            ("\"x\"", ErrorKind::Unauthenticated),
            ("null", ErrorKind::Unauthenticated),
            ("{\"filter_by\": \"a:1\"", ErrorKind::Unauthenticated),
            ("{\"new_restriction\": true}", ErrorKind::Unauthenticated),
            ("{\"Filter_by\": \"a:1\"}", ErrorKind::Unauthenticated),
            ("{\"expires_at\": -1}", ErrorKind::Unauthenticated),
            ("{\"expires_at\": \"1893456000\"}", ErrorKind::Unauthenticated),
            ("{\"expires_at\": 1893456000.0}", ErrorKind::Unauthenticated),
            ("{\"expires_at\": null}", ErrorKind::Unauthenticated),
            ("{\"filters\": [\"a\", \"Is\", 1]}", ErrorKind::Unauthenticated),
            ("{\"filter_by\": [\"a\"]}", ErrorKind::Invalid),
            ("{\"filter_by\": null}", ErrorKind::Invalid),
            ("{\"filters\": \"a:1\"}", ErrorKind::Invalid),
            ("{\"q\": [\"a\"]}", ErrorKind::Invalid),
            ("{\"q\": {}}", ErrorKind::Invalid),
            ("{\"collection\": 1}", ErrorKind::Invalid),
            ("{\"namespace\": [1]}", ErrorKind::Invalid),
            ("{\"max_top_k\": \"7\"}", ErrorKind::Invalid),
            ("{\"max_top_k\": -7}", ErrorKind::Invalid),
            ("{\"include_attributes\": 7}", ErrorKind::Invalid),
        ] {
            assert_eq!(parse(bad).expect_err(bad).kind, kind, "{bad}");
        }
        let long = format!("{{\"q\": \"{}\"}}", "x".repeat(PARAMETERS_BYTES_MAX));
        assert_eq!(parse(&long).expect_err("long").kind, ErrorKind::Unauthenticated);
    }

    #[test]
    fn limits_are_numbers_however_they_are_written() {
        for name in ["per_page", "limit_multi_searches"] {
            for good in ["3", "\"3\""] {
                let embedded = parse(&format!("{{\"{name}\": {good}}}")).expect(good);
                assert_eq!(embedded.parameters[name], 3, "{name} {good}");
            }
            for bad in ["-1", "\"-1\"", "1.5", "true", "\"many\"", "null", "[3]"] {
                let error = parse(&format!("{{\"{name}\": {bad}}}")).expect_err(bad);
                assert_eq!(error.kind, ErrorKind::Invalid, "{name} {bad}");
            }
        }
    }

    #[test]
    fn few_regular_expressions_are_compiled_for_a_request() {
        let of = |n: usize| parse(&format!("{{\"namespace\": {:?}}}", vec!["(a|b){9}"; n]));
        assert!(of(REGULAR_EXPRESSIONS_MAX).is_ok());
        let error = of(REGULAR_EXPRESSIONS_MAX + 1).expect_err("many");
        assert_eq!(error.kind, ErrorKind::Unauthenticated);
        assert!(parse(&format!("{{\"namespace\": {:?}}}", vec!["shop_*"; 64])).is_ok());
    }

    #[test]
    fn parameters_narrow() {
        let embedded = parse(
            r#"{"namespace": ["shop_*", "b"], "collection": "shop_a", "filters": ["t", "Eq", 1],
                "include_attributes": ["a", "b"], "include_fields": "b, c", "exclude_fields": "x,y", "max_top_k": 7,
                "limit_hits": 5, "expires_at": 1893456000, "q": "shoes", "per_page": 3}"#,
        )
        .expect("known");
        let grants = embedded.grants(&OrgId::default_org());
        let covered = |name: &str| grants.iter().all(|g| g.namespaces.matches(name));
        assert!(covered("shop_a") && !covered("shop_b") && !covered("b"));
        assert!(
            grants
                .iter()
                .all(|g| g.not_after == Some(1_893_456_000) && g.actions.iter().count() == 1)
        );
        let restriction = embedded.restriction.expect("restricts");
        assert_eq!(restriction.include, Some(vec!["b".to_owned()]));
        assert_eq!(
            (
                restriction.exclude.len(),
                restriction.top_k_max,
                restriction.filters.len()
            ),
            (2, Some(5), 1)
        );
        assert!(!embedded.parameters.contains_key("expires_at") && embedded.parameters["q"] == "shoes");
        assert!(!fits_every_search(&embedded.parameters));
        let none = parse("{}").expect("nothing");
        assert!(none.restriction.is_none() && none.grants(&OrgId::default_org()).len() == 1);
        assert!(fits_every_search(&none.parameters));
        let empty = parse(r#"{"namespace": []}"#).expect("an empty list");
        assert!(
            !empty.grants(&OrgId::default_org())[0].namespaces.matches("a"),
            "covers nothing"
        );
    }
}
