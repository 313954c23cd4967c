//! The words of a query: phrases, exclusions, stop words, synonyms. Pure.

use std::collections::HashSet;

use crate::control::search_settings::Synonym;
use crate::index::text::{Analyzer, Buffer};
use crate::model::FullTextConfig;

/// Words of a query that are looked at; more are left out.
const WORDS_MAX: usize = 20;
/// Ways of saying a query, the query itself counted.
const VARIANTS_MAX: usize = 8;

/// A query taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// The query's words, then the same said with synonyms. Empty when there are no words.
    pub variants: Vec<Vec<String>>,
    pub phrases: Vec<String>,
    pub excluded: Vec<String>,
}

impl Words {
    /// Takes a query apart.
    ///
    /// * `stopwords` — words that count for nothing
    /// * `synonyms` — groups that apply
    pub fn of(q: &str, stopwords: &[String], synonyms: &[&Synonym]) -> Self {
        let analyzer = Analyzer::new(&plain());
        let mut buffer = Buffer::new();
        let mut tokens = |text: &str| -> Vec<String> {
            let mut tokens = Vec::new();
            analyzer.analyze(text, &mut buffer, |token, _| tokens.push(token.to_owned()));
            tokens
        };
        let (mut words, mut phrases, mut excluded) = (Vec::new(), Vec::new(), Vec::new());
        for (i, part) in q.split('"').enumerate() {
            if i % 2 == 1 {
                if !tokens(part).is_empty() {
                    phrases.push(part.to_owned());
                }
                continue;
            }
            for word in part.split_whitespace() {
                let (into, word) = match word.strip_prefix('-') {
                    Some(rest) if !rest.is_empty() => (&mut excluded, rest),
                    _ => (&mut words, word),
                };
                if !tokens(word).is_empty() {
                    into.push(word.to_owned());
                }
            }
        }
        let stop: HashSet<Vec<String>> = stopwords.iter().map(|s| tokens(s)).collect();
        words.retain(|word| !stop.contains(&tokens(word)));
        words.truncate(WORDS_MAX);
        phrases.truncate(WORDS_MAX);
        excluded.truncate(WORDS_MAX);
        let mut variants = Vec::new();
        if !words.is_empty() {
            let plain: Vec<String> = words.iter().flat_map(|w| tokens(w)).collect();
            variants.push(words);
            for group in synonyms {
                if variants.len() >= VARIANTS_MAX {
                    break;
                }
                for said in said_with(&plain, group, &mut tokens) {
                    if variants.len() < VARIANTS_MAX && !variants.contains(&said) {
                        variants.push(said);
                    }
                }
            }
        }
        Self {
            variants,
            phrases,
            excluded,
        }
    }

    /// Whether no text is looked for.
    pub fn is_empty(&self) -> bool {
        self.variants.is_empty() && self.phrases.is_empty()
    }

    /// The same without the last `count` words, at least one being left, and without synonyms.
    pub fn without_last(&self, count: usize) -> Self {
        let mut words = self.variants.first().cloned().unwrap_or_default();
        words.truncate(words.len().saturating_sub(count).max(1));
        Self {
            variants: vec![words],
            ..self.clone()
        }
    }

    /// The words of the query itself.
    pub fn own(&self) -> &[String] {
        self.variants.first().map(Vec::as_slice).unwrap_or_default()
    }
}

/// How words are compared with those of synonyms and stop words.
fn plain() -> FullTextConfig {
    FullTextConfig {
        ascii_folding: true,
        ..FullTextConfig::default()
    }
}

/// The words with each place at which a group applies said otherwise.
fn said_with(words: &[String], group: &Synonym, tokens: &mut impl FnMut(&str) -> Vec<String>) -> Vec<Vec<String>> {
    let of_group: Vec<Vec<String>> = group.synonyms.iter().take(64).map(|s| tokens(s)).collect();
    let from: Vec<Vec<String>> = match &group.root {
        Some(root) if !root.is_empty() => vec![tokens(root)],
        _ => of_group.clone(),
    };
    let mut variants = Vec::new();
    for phrase in from.iter().filter(|p| !p.is_empty() && p.len() <= words.len()) {
        let Some(at) = words.windows(phrase.len()).position(|window| window == phrase) else {
            continue;
        };
        for other in of_group.iter().filter(|o| !o.is_empty() && *o != phrase) {
            let mut said = words[..at].to_vec();
            said.extend_from_slice(other);
            said.extend_from_slice(&words[at + phrase.len()..]);
            variants.push(said);
        }
    }
    variants
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(root: Option<&str>, synonyms: &[&str]) -> Synonym {
        Synonym {
            id: "x".into(),
            synonyms: synonyms.iter().map(|s| (*s).to_owned()).collect(),
            root: root.map(str::to_owned),
            locale: None,
            symbols_to_index: None,
        }
    }

    fn variants(q: &str, groups: &[Synonym]) -> Vec<String> {
        let groups: Vec<&Synonym> = groups.iter().collect();
        let words = Words::of(q, &[], &groups);
        words.variants.iter().map(|v| v.join(" ")).collect()
    }

    #[test]
    fn a_query_has_words_phrases_and_exclusions() {
        let words = Words::of("Red \"running shoes\" -blue - & the", &["The".into()], &[]);
        assert_eq!(words.variants, [["Red"]]);
        assert_eq!(words.phrases, ["running shoes"]);
        assert_eq!(words.excluded, ["blue"]);
        assert!(Words::of("- & \"\"", &[], &[]).is_empty());
    }

    #[test]
    fn synonyms_go_one_way_or_all_ways() {
        let all = [group(None, &["blazer", "coat", "jacket"])];
        assert_eq!(variants("red coat", &all), ["red coat", "red blazer", "red jacket"]);
        let one = [group(Some("smart phone"), &["iphone", "android"])];
        assert_eq!(
            variants("Smart Phone case", &one),
            ["Smart Phone case", "iphone case", "android case"]
        );
        assert_eq!(variants("iphone", &one), ["iphone"]);
        assert_eq!(variants("coats", &all), ["coats"]);
    }

    #[test]
    fn words_are_dropped_from_the_right() {
        let words = Words::of("a b c", &[], &[]);
        assert_eq!(words.without_last(1).own(), ["a", "b"]);
        assert_eq!(words.without_last(9).own(), ["a"]);
    }
}
