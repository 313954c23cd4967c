//! The answer to a search, in Typesense's shape. Pure.

use serde_json::{Map, Value as Json, json};

use super::highlight::{Highlighted, Highlighter};
use super::params::Search;
use super::run::{Found, Group, Hit};
use super::translate::{DISTINCT, STATS, TOP};
use crate::api::typesense::document::{json, printed};
use crate::model::Value;
use crate::query::{AggregateValue, QueryResult};

/// What the answer says of the request besides what was found.
pub struct Request<'a> {
    pub search: &'a Search,
    pub collection: &'a str,
    pub elapsed_ms: u64,
    pub words: usize,
}

/// The whole answer.
pub fn answer(request: &Request<'_>, found: &Found, highlighter: &mut Highlighter) -> Json {
    let search = request.search;
    let mut hit = |h: &Hit| print_hit(search, h, found, request.words, highlighter);
    let facets: Vec<Json> = search
        .facet_by
        .iter()
        .zip(&found.facets)
        .map(|(name, result)| facet(search, name, result))
        .collect();
    let mut answer = json!({
        "facet_counts": facets,
        "found": found.found,
        "out_of": found.out_of,
        "page": search.page,
        "request_params": {
            "collection_name": request.collection,
            "first_q": search.q,
            "per_page": search.per_page,
            "q": search.q,
        },
        "search_cutoff": false,
        "search_time_ms": request.elapsed_ms,
    });
    match &found.groups {
        None => answer["hits"] = found.hits.iter().map(hit).collect(),
        Some(groups) => {
            answer["found_docs"] = found.found.into();
            answer["found"] = groups.found.into();
            let print = |group: &Group| {
                let key = |v: &Value| match v {
                    Value::Null => Json::from(""),
                    v => json(v),
                };
                json!({
                    "found": group.found,
                    "group_key": group.key.iter().map(key).collect::<Vec<_>>(),
                    "hits": group.hits.iter().map(&mut hit).collect::<Vec<_>>(),
                })
            };
            answer["grouped_hits"] = groups.page.iter().map(print).collect();
        }
    }
    answer
}

fn print_hit(search: &Search, hit: &Hit, found: &Found, words: usize, highlighter: &mut Highlighter) -> Json {
    let document = printed(&hit.row, &search.shown, found.hides_id);
    let Highlighted {
        by_field,
        list,
        tokens_matched,
    } = highlighter.hit(&hit.row);
    let fields_matched = by_field.len();
    let mut printed = Map::new();
    printed.insert("document".to_owned(), Json::Object(document));
    printed.insert("highlight".to_owned(), Json::Object(by_field));
    if highlighter.lists() {
        printed.insert("highlights".to_owned(), list.into());
    }
    if words > 0 && !hit.pinned {
        let score = hit.text_match();
        printed.insert("text_match".to_owned(), score.into());
        let info = json!({
            "best_field_score": score.to_string(),
            "best_field_weight": 15,
            "fields_matched": fields_matched,
            "num_tokens_dropped": found.level.dropped,
            "score": score.to_string(),
            "tokens_matched": tokens_matched,
            "typo_prefix_score": u8::from(found.level.typos),
        });
        printed.insert("text_match_info".to_owned(), info);
    }
    if let Some(distance) = hit.distance {
        printed.insert("vector_distance".to_owned(), json(&Value::Float(f64::from(distance))));
    }
    if let Some(score) = hit.fused {
        printed.insert("hybrid_search_info".to_owned(), json!({ "rank_fusion_score": score }));
    }
    if hit.pinned {
        printed.insert("curated".to_owned(), true.into());
    }
    Json::Object(printed)
}

fn facet(search: &Search, name: &str, result: &QueryResult) -> Json {
    let values: &[_] = match result {
        QueryResult::Aggregations(values) => values,
        QueryResult::Rows(_) | QueryResult::Groups(_) => &[],
    };
    let get = |label: &str| values.iter().find(|(l, _)| &**l == label).map(|(_, v)| v);
    let top: &[(Value, u64)] = match get(TOP) {
        Some(AggregateValue::Top(values)) => values,
        _ => &[],
    };
    let asked = search
        .facet_query
        .as_ref()
        .filter(|(field, _)| field == name)
        .map(|(_, q)| q);
    let counts = top.iter().filter_map(|(value, count)| {
        let text = text_of(value);
        let highlighted = match asked {
            None => text.clone(),
            Some(query) => begins(&text, query, search)?,
        };
        Some(json!({"count": count, "highlighted": highlighted, "value": text}))
    });
    let mut stats = Map::new();
    let number = |label: &str| match get(label) {
        Some(AggregateValue::Value(value)) if *value != Value::Null => Some(json(value)),
        _ => None,
    };
    for label in STATS {
        stats.extend(number(label).map(|v| (label.to_owned(), v)));
    }
    stats.insert("total_values".to_owned(), number(DISTINCT).unwrap_or_else(|| 0.into()));
    json!({
        "counts": counts.take(search.max_facet_values).collect::<Vec<_>>(),
        "field_name": name,
        "sampled": false,
        "stats": stats,
    })
}

/// Values of facets are texts.
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => json(other).to_string().trim_matches('"').to_owned(),
    }
}

/// The value with the word that begins with the query marked; `None` when none does.
fn begins(text: &str, query: &str, search: &Search) -> Option<String> {
    let chars = query.chars().count();
    let mut at_word = true;
    for (i, c) in text.char_indices() {
        if at_word {
            let rest = &text[i..];
            let end = rest.char_indices().nth(chars).map_or(rest.len(), |(end, _)| end);
            let same = rest[..end].to_lowercase() == query.to_lowercase();
            if same {
                let options = &search.highlight;
                return Some(format!(
                    "{}{}{}{}{}",
                    &text[..i],
                    options.start_tag,
                    &rest[..end],
                    options.end_tag,
                    &rest[end..]
                ));
            }
        }
        at_word = !c.is_alphanumeric();
    }
    None
}
