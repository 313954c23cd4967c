//! What of a hit matched: marked texts, whole or as snippets. Pure.

use std::collections::HashSet;
use std::ops::Range;

use serde_json::{Map, Value as Json, json};

use super::params::{HighlightOptions, Search};
use super::words::Words;
use crate::api::typesense::document::attribute;
use crate::index::text::{Analyzer, Buffer};
use crate::model::schema::Tokenizer;
use crate::model::{Schema, Value};
use crate::query::ResultRow;

/// Bytes of a text that are looked at.
const TEXT_BYTES_MAX: usize = 256 << 10;

/// Marks what matched in the hits of one search.
pub struct Highlighter {
    options: HighlightOptions,
    fields: Vec<Searched>,
    buffer: Buffer,
}

/// A field to highlight, and what is looked for in it, analysed as the field is.
struct Searched {
    name: String,
    analyzer: Analyzer,
    terms: Vec<String>,
    /// The last word, where it may be the beginning of a longer one.
    prefix: Option<String>,
    /// Words with the edits that they may differ by.
    fuzzy: Vec<(Vec<char>, usize)>,
}

/// The edits that a word may differ by: as many as the engine allows to queries of that length.
pub fn typos(word: &str, num_typos: u32) -> usize {
    let by_length = match word.chars().count() {
        9.. => 2,
        6.. => 1,
        _ => 0,
    };
    by_length.min(num_typos as usize)
}

/// What one hit has.
#[derive(Debug, Default, PartialEq)]
pub struct Highlighted {
    /// By field.
    pub by_field: Map<String, Json>,
    /// The list of the older form.
    pub list: Vec<Json>,
    /// How many of the query's terms are there.
    pub tokens_matched: usize,
}

impl Highlighter {
    /// * `with_typos` — whether hits were found by words that differ a little
    pub fn new(search: &Search, words: &Words, with_typos: bool, schema: &Schema) -> Self {
        let named = search.highlight.fields.clone();
        let names = named.unwrap_or_else(|| search.query_by.iter().map(|f| f.name.clone()).collect());
        let mut buffer = Buffer::new();
        let mut once = HashSet::new();
        let names = names.into_iter().filter(|name| once.insert(name.clone()));
        let fields = names.filter_map(|name| {
            let config = schema.get(&name)?.full_text?;
            if config.tokenizer == Tokenizer::PreTokenizedArray {
                return None;
            }
            let analyzer = Analyzer::new(&config);
            let asked = search.query_by.iter().find(|f| f.name == name);
            let asked = asked.or(search.query_by.first());
            let num_typos = asked.filter(|_| with_typos).map_or(0, |f| f.num_typos);
            let (mut terms, mut fuzzy) = (Vec::new(), Vec::new());
            let said = words.variants.iter().flatten().chain(&words.phrases);
            for word in said {
                // By the length of what was written, as hits were found.
                let edits = typos(word, num_typos);
                analyzer.analyze(word, &mut buffer, |token, _| {
                    terms.push(token.to_owned());
                    if edits > 0 {
                        fuzzy.push((token.chars().collect(), edits));
                    }
                });
            }
            let prefix = match (asked.is_none_or(|f| f.prefix), words.own().last()) {
                (true, Some(last)) => {
                    let mut tokens = Vec::new();
                    analyzer.analyze(last, &mut buffer, |token, _| tokens.push(token.to_owned()));
                    tokens.pop()
                }
                _ => None,
            };
            Some(Searched {
                fuzzy,
                name,
                analyzer,
                terms,
                prefix,
            })
        });
        Self {
            options: search.highlight.clone(),
            fields: fields.collect(),
            buffer,
        }
    }

    /// The attributes that rows need so that they can be highlighted.
    pub fn needs(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|f| f.name.as_str())
    }

    /// Marks one hit.
    pub fn hit(&mut self, row: &ResultRow) -> Highlighted {
        let mut found = Highlighted::default();
        let mut seen: Vec<String> = Vec::new();
        for field in &self.fields {
            let full = self.options.full_fields.contains(&field.name);
            match attribute(row, &field.name) {
                Some(Value::String(text)) => {
                    let Some(marked) = field.mark(text, &self.options, full, &mut self.buffer, &mut seen) else {
                        continue;
                    };
                    let mut entry = marked.clone();
                    entry.insert("field".to_owned(), field.name.as_str().into());
                    found.list.push(Json::Object(entry));
                    found.by_field.insert(field.name.clone(), Json::Object(marked));
                }
                Some(Value::Array(items)) => {
                    let marked: Vec<Option<Map<String, Json>>> = items
                        .iter()
                        .map(|item| match item {
                            Value::String(text) => field.mark(text, &self.options, full, &mut self.buffer, &mut seen),
                            _ => None,
                        })
                        .collect();
                    if marked.iter().all(Option::is_none) {
                        continue;
                    }
                    found.list.push(older(&field.name, &marked, full));
                    let each = items.iter().zip(marked).map(|(item, marked)| {
                        marked.map(Json::Object).unwrap_or_else(|| {
                            let text = crate::model::value::to_json(item);
                            json!({"matched_tokens": [], "snippet": text})
                        })
                    });
                    found.by_field.insert(field.name.clone(), each.collect());
                }
                _ => {}
            }
        }
        seen.sort_unstable();
        seen.dedup();
        found.tokens_matched = seen.len();
        found
    }

    /// Whether the older list is answered, too.
    pub fn lists(&self) -> bool {
        self.options.v1
    }
}

/// The entry of an array in the older list: its matching elements alone.
fn older(name: &str, marked: &[Option<Map<String, Json>>], full: bool) -> Json {
    let matching = || marked.iter().enumerate().filter_map(|(i, m)| Some((i, m.as_ref()?)));
    let of = |key: &str| -> Json {
        matching()
            .map(|(_, m)| m.get(key).cloned().unwrap_or_default())
            .collect()
    };
    let mut entry = json!({
        "field": name,
        "indices": matching().map(|(i, _)| i).collect::<Vec<_>>(),
        "matched_tokens": of("matched_tokens"),
        "snippets": of("snippet"),
    });
    if full {
        entry["values"] = of("value");
    }
    entry
}

impl Searched {
    fn matches(&self, token: &str) -> bool {
        self.terms.iter().any(|t| t == token)
            || self.prefix.as_ref().is_some_and(|p| token.starts_with(p.as_str()))
            || self.fuzzy.iter().any(|(word, edits)| within(word, token, *edits))
    }

    /// `None` when nothing matches.
    fn mark(
        &self,
        text: &str,
        options: &HighlightOptions,
        full: bool,
        buffer: &mut Buffer,
        seen: &mut Vec<String>,
    ) -> Option<Map<String, Json>> {
        let text = match text.char_indices().find(|(i, _)| *i >= TEXT_BYTES_MAX) {
            Some((end, _)) => &text[..end],
            None => text,
        };
        let (mut ranges, mut matching): (Vec<Range<usize>>, Vec<usize>) = (Vec::new(), Vec::new());
        self.analyzer.tokens(text, buffer, |token| {
            if self.matches(token.text) {
                matching.push(ranges.len());
                seen.push(token.text.to_owned());
            }
            ranges.push(token.range);
        });
        let first = *matching.first()?;
        let (from, to) = match ranges.len() <= options.snippet_threshold {
            true => (0, ranges.len()),
            false => {
                let from = first.saturating_sub(options.affix);
                // Matches that are near belong to the same snippet.
                let near = first + 2 * options.affix + 1;
                let last = matching.iter().rev().find(|m| **m <= near).copied().unwrap_or(first);
                (from, (last + options.affix + 1).min(ranges.len()))
            }
        };
        let start = if from == 0 { 0 } else { ranges[from].start };
        let end = if to == ranges.len() {
            text.len()
        } else {
            ranges[to - 1].end
        };
        let of = |m: &usize| ranges[*m].clone();
        let mut known: HashSet<&str> = HashSet::new();
        let matched = matching.iter().map(|m| &text[of(m)]);
        let tokens: Vec<&str> = matched.filter(|token| known.insert(token)).collect();
        let mut entry = Map::new();
        entry.insert("matched_tokens".to_owned(), tokens.into());
        let inside = matching.iter().filter(|m| (from..to).contains(*m)).map(of);
        entry.insert("snippet".to_owned(), marked(text, start..end, inside, options).into());
        if full {
            let all = matching.iter().map(of);
            entry.insert("value".to_owned(), marked(text, 0..text.len(), all, options).into());
        }
        Some(entry)
    }
}

/// A part of a text with tags around some ranges, which are ascending and inside of it.
fn marked(
    text: &str,
    part: Range<usize>,
    matches: impl Iterator<Item = Range<usize>>,
    options: &HighlightOptions,
) -> String {
    let mut out = String::with_capacity(part.len() + 32);
    let mut at = part.start;
    for range in matches.filter(|r| r.start >= part.start && r.end <= part.end) {
        if range.start < at {
            continue;
        }
        out.push_str(&text[at..range.start]);
        out.push_str(&options.start_tag);
        out.push_str(&text[range.clone()]);
        out.push_str(&options.end_tag);
        at = range.end;
    }
    out.push_str(&text[at..part.end]);
    out
}

/// Whether two words are at most some edits apart.
fn within(word: &[char], token: &str, edits: usize) -> bool {
    let other: Vec<char> = token.chars().take(word.len() + edits + 1).collect();
    if word.len().abs_diff(other.len()) > edits {
        return false;
    }
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in word.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()] <= edits
}

#[cfg(test)]
mod tests {
    use super::super::params::of_query;
    use super::*;
    use crate::model::write::prepare;
    use crate::model::{Id, Limits};

    fn schema() -> Schema {
        let body = r#"{"create_namespace": true, "schema": {"id": "string",
            "title": {"type": "string", "full_text_search": {"stemming": true}},
            "tags": {"type": "[]string", "full_text_search": true}}}"#;
        let mut schema = Schema::default();
        let write = prepare(body.as_bytes(), &schema, &Limits::default()).expect("a schema");
        schema.apply(&write.schema);
        schema
    }

    fn highlighted(query: &str, typos: bool, name: &str, value: Value) -> Highlighted {
        let search = Search::parse(&of_query(query)).expect("legal");
        let words = Words::of(&search.q, &[], &[]);
        let row = ResultRow {
            id: Id::String("1".into()),
            rank: None,
            attributes: vec![(name.into(), value)],
            computed: Vec::new(),
        };
        Highlighter::new(&search, &words, typos, &schema()).hit(&row)
    }

    fn title(query: &str, typos: bool, text: &str) -> Json {
        let query = format!("query_by=title,tags&{query}");
        highlighted(&query, typos, "title", Value::String(text.into()))
            .by_field
            .remove("title")
            .unwrap_or_default()
    }

    #[test]
    fn short_texts_are_shown_whole() {
        assert_eq!(
            title("q=running sho", false, "Blue Shoes to run."),
            json!({"matched_tokens": ["Shoes", "run"], "snippet": "Blue <mark>Shoes</mark> to <mark>run</mark>."})
        );
        assert_eq!(title("q=sho&prefix=false", false, "Blue Shoes"), Json::Null);
        assert_eq!(
            title(
                "q=blue&highlight_start_tag=[&highlight_end_tag=]&highlight_full_fields=title",
                false,
                "a blue é"
            ),
            json!({"matched_tokens": ["blue"], "snippet": "a [blue] é", "value": "a [blue] é"})
        );
        assert_eq!(title("q=blue&highlight_fields=none", false, "blue"), Json::Null);
    }

    #[test]
    fn long_texts_are_cut() {
        let words: Vec<String> = (0..100).map(|i| format!("w{i}")).collect();
        let text = words.join(" ");
        assert_eq!(
            title("q=w50 w52&prefix=false&highlight_affix_num_tokens=2", false, &text)["snippet"],
            "w48 w49 <mark>w50</mark> w51 <mark>w52</mark> w53 w54"
        );
    }

    #[test]
    fn words_with_typos_are_marked() {
        assert_eq!(
            title("q=headphnoes&prefix=false", true, "Good Headphones")["snippet"],
            "Good <mark>Headphones</mark>"
        );
        assert_eq!(title("q=headphnoes&prefix=false", false, "Good Headphones"), Json::Null);
    }

    #[test]
    fn arrays_are_marked_by_element() {
        let tags = Value::Array(vec![Value::String("red".into()), Value::String("blue sky".into())]);
        let found = highlighted("q=blue&query_by=tags", false, "tags", tags);
        assert_eq!(
            found.by_field["tags"],
            json!([{"matched_tokens": [], "snippet": "red"},
                {"matched_tokens": ["blue"], "snippet": "<mark>blue</mark> sky"}])
        );
        assert_eq!(
            found.list,
            [
                json!({"field": "tags", "indices": [1], "matched_tokens": [["blue"]], "snippets": ["<mark>blue</mark> sky"]})
            ]
        );
    }
}
