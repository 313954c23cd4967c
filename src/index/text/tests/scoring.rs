use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, UInt64Array};
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::{Bm25, FieldStats, TextHit, TextIndex, query_terms, search};
use super::{pre_tokenized, text_column, token_column};
use crate::base::Bitset;
use crate::model::query::TextQuery;
use crate::model::{FullTextConfig, IdColumn};

fn ids_from(ids: Vec<u64>) -> IdColumn {
    let array: ArrayRef = Arc::new(UInt64Array::from(ids));
    IdColumn::from_array(&array).unwrap()
}

fn english() -> FullTextConfig {
    FullTextConfig {
        stemming: true,
        remove_stopwords: true,
        ..FullTextConfig::default()
    }
}

fn scorer(config: &FullTextConfig, query: &str, indexes: &[&TextIndex]) -> Bm25 {
    let terms = query_terms(config, "content", &TextQuery::Text(query.into())).unwrap();
    Bm25::over(config, terms, indexes.iter().copied())
}

/// Ids of the best rows; row `i` has id `i + 1`.
fn ranking(config: &FullTextConfig, texts: &[&str], query: &str) -> Vec<u64> {
    let texts: Vec<_> = texts.iter().map(|t| Some(*t)).collect();
    let index = TextIndex::build(config, &text_column(&texts));
    let ids = ids_from((1..=texts.len() as u64).collect());
    let all = Bitset::full(texts.len());
    let hits = search(&[(&index, &all, &ids)], &scorer(config, query, &[&index]), 10);
    hits.iter().map(|hit| u64::from(hit.row) + 1).collect()
}

const FOXES: [&str; 4] = [
    "the fox is quick and brown",
    "fox jumped over the lazy dog",
    "the dog is lazy and brown",
    "the dog is a dog",
];

#[test]
fn the_documented_orders_hold() {
    assert_eq!(ranking(&english(), &FOXES, "fox jumping"), [2, 1]);
    let long = format!("a row is based on an upsert {}", "among many other words ".repeat(20));
    assert_eq!(
        ranking(&english(), &[&long, "row based upsert"], "row based upsert"),
        [2, 1]
    );
    let walruses = [
        "walruses have large tusks",
        "some unrelated sentence about whales",
        "they eat mollusks, which are most of their diet",
        "large tusks crack the mollusks of their diet",
    ];
    assert_eq!(ranking(&english(), &walruses, "large tusk mollusk diet")[0], 4);
    assert_eq!(ranking(&english(), &walruses, "large tusk mollusk diet").len(), 3);
}

#[test]
fn a_score_is_the_formula() {
    let config = FullTextConfig::default();
    let index = TextIndex::build(&config, &text_column(&[Some("a b b"), Some("b c"), None, Some("")]));
    assert_eq!(index.stats(), FieldStats { docs: 3, tokens: 5 });
    let score = scorer(&config, "a a b", &[&index]).score(&index, 0);
    // N = 3, average length 5/3; a: n = 1, tf = 1, qf = 2; b: n = 2, tf = 2, qf = 1.
    let norm = 1.2 * (0.25 + 0.75 * 3.0 / (5.0 / 3.0));
    let a = (1.0f64 + 2.5 / 1.5).ln() * (2.2 / (1.0 + norm)) * (2.0 * 9.0 / 10.0);
    let b = (1.0f64 + 1.5 / 2.5).ln() * (2.0 * 2.2 / (2.0 + norm));
    assert!((score - (a + b)).abs() < 1e-12, "{score} is not {}", a + b);
    assert_eq!(scorer(&config, "zzz", &[&index]).score(&index, 0), 0.0);
}

#[test]
fn equal_scores_come_by_id_whatever_the_part() {
    let config = FullTextConfig::default();
    let index = TextIndex::build(&config, &text_column(&[Some("x"); 40]));
    let (even, odd) = (
        ids_from((0..40).rev().map(|i| i * 2).collect()),
        ids_from((0..40).map(|i| i * 2 + 1).collect()),
    );
    let all = Bitset::full(40);
    let parts = [(&index, &all, &even), (&index, &all, &odd)];
    let scorer = scorer(&config, "x", &[&index, &index]);
    for k in [0, 1, 7, 79, 80, 1000] {
        let ids: Vec<_> = search(&parts, &scorer, k)
            .iter()
            .map(|h| parts[h.part].2.get(h.row as usize))
            .collect();
        let expected: Vec<_> = (0..80.min(k as u64)).map(crate::model::Id::UInt).collect();
        assert_eq!(ids, expected, "k = {k}");
    }
}

#[test]
fn a_text_operand_for_tokens_is_refused_and_named() {
    let error = query_terms(&pre_tokenized(), "content", &TextQuery::Text("some\ntext".into())).unwrap_err();
    assert_eq!(
        error.message,
        r#"invalid input "some\ntext" for rank_by field "content", expecting []string"#
    );
}

#[test]
fn query_terms_are_distinct_and_in_order() {
    let query = TextQuery::Tokens(vec!["b a".into(), "B".into()]);
    let terms = query_terms(&FullTextConfig::default(), "t", &query).unwrap();
    let terms: Vec<_> = terms.iter().map(|t| (t.token.as_str(), t.frequency)).collect();
    assert_eq!(terms, [("b", 2), ("a", 1)]);
}

#[test]
fn merging_drops_terms_and_statistics_of_deleted_rows() {
    let config = FullTextConfig::default();
    let first = TextIndex::build(&config, &text_column(&[Some("kept both"), Some("gone both"), None]));
    let second = TextIndex::build(&config, &text_column(&[Some("gone too"), Some("")]));
    let merged = TextIndex::merge(&[(&first, &[Some(1), None, Some(2)]), (&second, &[None, Some(3)])], 5);
    let mut terms: Vec<&str> = merged.terms().map(|(term, _)| term).collect();
    terms.sort_unstable();
    assert_eq!(terms, ["both", "kept"]);
    assert_eq!(merged.stats(), FieldStats { docs: 2, tokens: 2 });
    assert_eq!(
        (0..5).map(|row| merged.length(row)).collect::<Vec<_>>(),
        [0, 2, 0, 0, 0]
    );
    assert!(merged.postings("gone").is_empty());
    assert!(merged.memory_bytes() > 0);
}

#[test]
fn extreme_parameters_still_give_numbers() {
    let config = FullTextConfig {
        k1: f64::MAX,
        k3: f64::MAX,
        ..FullTextConfig::default()
    };
    let index = TextIndex::build(&config, &text_column(&[Some("x x x"), Some("x")]));
    let all = Bitset::full(2);
    let hits = search(
        &[(&index, &all, &ids_from(vec![1, 2]))],
        &scorer(&config, "x x", &[&index]),
        5,
    );
    assert!(!hits.is_empty() && hits.iter().all(|hit| hit.score.is_finite()));
}

/// One part: its rows (token numbers, `None` for null) and which of them are alive.
type Rows = Vec<(Option<Vec<u8>>, bool)>;

fn any_parts() -> impl Strategy<Value = Vec<Rows>> {
    // Five terms and short rows: shared terms, repeats and equal scores happen in every run.
    let row = (
        prop::option::weighted(0.9, vec(0..5u8, 0..7)),
        prop::bool::weighted(0.8),
    );
    vec(vec(row, 0..12), 1..4)
}

fn words(tokens: &[u8]) -> Vec<String> {
    tokens.iter().map(|t| format!("t{t}")).collect()
}

fn build(rows: &Rows) -> TextIndex {
    TextIndex::build(
        &pre_tokenized(),
        &token_column(rows.iter().map(|(r, _)| r.as_deref().map(words))),
    )
}

/// BM25 straight from the definition, over `rows` of (id, tokens, alive); no index, no sharing of
/// code with the implementation.
fn oracle(config: &FullTextConfig, rows: &[(u64, Vec<u8>, bool)], query: &[u8], k: usize) -> Vec<(u64, f64)> {
    let n = rows.len() as f64;
    let average = rows.iter().map(|(_, tokens, _)| tokens.len()).sum::<usize>() as f64 / n;
    let mut order: Vec<u8> = Vec::new();
    for t in query {
        if !order.contains(t) {
            order.push(*t);
        }
    }
    let count = |tokens: &[u8], t: u8| tokens.iter().filter(|x| **x == t).count() as f64;
    let mut hits: Vec<(u64, f64)> = Vec::new();
    for (id, tokens, _) in rows.iter().filter(|(_, _, alive)| *alive) {
        let mut score = 0.0;
        for t in order.iter().filter(|t| tokens.contains(t)) {
            let df = rows.iter().filter(|(_, tokens, _)| tokens.contains(t)).count() as f64;
            let idf = (1.0 + (n - df + 0.5) / (df + 0.5)).ln();
            let (tf, qf) = (count(tokens, *t), count(query, *t));
            let norm = config.k1 * (1.0 - config.b + config.b * tokens.len() as f64 / average);
            score += idf * (tf * (config.k1 + 1.0) / (tf + norm)) * (qf * (config.k3 + 1.0) / (qf + config.k3));
        }
        if score > 0.0 {
            hits.push((*id, score));
        }
    }
    hits.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    hits.truncate(k);
    hits
}

/// Ids descend from part to part and row to row, so that row order is not id order.
fn with_ids(parts: &[Rows]) -> Vec<Vec<u64>> {
    let mut next = 1000;
    let mut id = || {
        next -= 1;
        next
    };
    parts.iter().map(|rows| rows.iter().map(|_| id()).collect()).collect()
}

fn found(
    config: &FullTextConfig,
    parts: &[(&TextIndex, &Bitset, &IdColumn)],
    query: &[u8],
    k: usize,
) -> Vec<(u64, f64)> {
    let terms = query_terms(config, "t", &TextQuery::Tokens(words(query))).unwrap();
    let scorer = Bm25::over(config, terms, parts.iter().map(|p| p.0));
    let id = |hit: &TextHit| match parts[hit.part].2.get(hit.row as usize) {
        crate::model::Id::UInt(id) => id,
        other => panic!("{other} is not of the test"),
    };
    let hits = search(parts, &scorer, k);
    for hit in &hits {
        assert_eq!(scorer.score(parts[hit.part].0, hit.row).to_bits(), hit.score.to_bits());
    }
    hits.iter().map(|hit| (id(hit), hit.score)).collect()
}

proptest! {
    #[test]
    fn search_equals_the_definition_to_the_bit(
        parts in any_parts(), query in vec(0..6u8, 0..8), k in 0..40usize, k1 in 0.1..3.0f64, b in 0.0..=1.0f64, k3 in 0.1..20.0f64,
    ) {
        let config = FullTextConfig { k1, b, k3, ..pre_tokenized() };
        let ids = with_ids(&parts);
        let rows = |alive_only: bool| -> Vec<(u64, Vec<u8>, bool)> {
            parts.iter().zip(&ids).flat_map(|(rows, ids)| rows.iter().zip(ids))
                .filter(|((_, alive), _)| *alive || !alive_only)
                .filter_map(|((tokens, alive), id)| Some((*id, tokens.clone()?, *alive)))
                .collect()
        };
        let indexes: Vec<TextIndex> = parts.iter().map(build).collect();
        let columns: Vec<IdColumn> = ids.iter().map(|ids| ids_from(ids.clone())).collect();
        let alive: Vec<Bitset> = parts.iter().map(|rows| Bitset::from_fn(rows.len(), |i| rows[i].1)).collect();
        let searched: Vec<_> = indexes.iter().zip(&alive).zip(&columns).map(|((i, a), c)| (i, a, c)).collect();
        // Deleted rows count in the statistics as long as they are in a part …
        prop_assert_eq!(found(&config, &searched, &query, k), oracle(&config, &rows(false), &query, k));

        // … and no longer once a merge has dropped them.
        let mut kept = Vec::new();
        let remaps: Vec<Vec<Option<u32>>> = parts.iter().zip(&ids).map(|(rows, ids)| {
            rows.iter().zip(ids).map(|((_, alive), id)| alive.then(|| { kept.push(*id); kept.len() as u32 - 1 })).collect()
        }).collect();
        let to_merge: Vec<_> = indexes.iter().zip(&remaps).map(|(i, r)| (i, r.as_slice())).collect();
        let merged = TextIndex::merge(&to_merge, kept.len());
        let (all, column) = (Bitset::full(kept.len()), ids_from(kept));
        prop_assert_eq!(found(&config, &[(&merged, &all, &column)], &query, k), oracle(&config, &rows(true), &query, k));
    }

    #[test]
    fn a_merge_equals_an_index_of_the_surviving_rows(parts in any_parts()) {
        let mut survivors: Rows = Vec::new();
        let remaps: Vec<Vec<Option<u32>>> = parts.iter().map(|rows| rows.iter().map(|row| {
            row.1.then(|| { survivors.push(row.clone()); survivors.len() as u32 - 1 })
        }).collect()).collect();
        let indexes: Vec<TextIndex> = parts.iter().map(build).collect();
        let to_merge: Vec<_> = indexes.iter().zip(&remaps).map(|(i, r)| (i, r.as_slice())).collect();
        let (merged, fresh) = (TextIndex::merge(&to_merge, survivors.len()), build(&survivors));
        let content = |index: &TextIndex| -> BTreeMap<String, Vec<(u32, u32)>> {
            index.terms().map(|(t, p)| (t.to_owned(), p.iter().map(|p| (p.row, p.frequency)).collect())).collect()
        };
        prop_assert_eq!(content(&merged), content(&fresh));
        prop_assert_eq!(merged.stats(), fresh.stats());
        for row in 0..survivors.len() as u32 {
            prop_assert_eq!(merged.length(row), fresh.length(row));
        }
    }
}
