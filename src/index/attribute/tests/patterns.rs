//! Patterns find at least what they match, and with a dictionary nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use regex::Regex;

use super::super::build::build_sized;
use super::super::candidates::any_case;
use super::super::trigram::each_trigram;
use super::super::wire::Sizes;
use super::super::{Candidates, Pattern, Predicate};
use super::*;
use crate::base::Bitset;

fn searched(ty: AttrType, filterable: bool) -> Attribute {
    Attribute {
        filterable,
        regex: true,
        ..attribute(ty)
    }
}

fn can_match(candidates: &Candidates, text: &str) -> bool {
    let mut has = vec![false; candidates.trigrams().len()];
    each_trigram(text.as_bytes(), |trigram| {
        if let Ok(place) = candidates.trigrams().binary_search(&trigram) {
            has[place] = true;
        }
    });
    candidates.accepts(|i| has[i])
}

fn pattern(regex: &str) -> Pattern {
    let compiled = Regex::new(regex).expect("a valid expression");
    Pattern {
        candidates: Arc::new(Candidates::regex(regex)),
        prefix: Box::default(),
        matches: Arc::new(move |bytes| str::from_utf8(bytes).is_ok_and(|text| compiled.is_match(text))),
    }
}

#[test]
fn what_a_pattern_needs() {
    for (regex, can, cannot) in [
        ("hello", &["say hello", "HELLO"][..], &["hell", "hel lo", ""][..]),
        (
            "(?i)kelvin",
            &["\u{212a}elvin", "KELVIN", "kelvin"],
            &["elvin", "celvin"],
        ),
        ("(?i)straße", &["STRAẞE", "Straße"], &["strasse"]),
        ("^abc.*xyz$", &["abcxyz", "abc xyz"], &["abc", "xyz", "abxyz"]),
        ("abc|xyz", &["abc", "xyz"], &["ab", "xy", "abxyyz"]),
        ("ab[cd]ef", &["abcef", "abdef"], &["abef", "abxef", "abccef"]),
        ("(foo)+bar", &["foobar", "foofoobar"], &["foo", "bar"]),
        (r"\bword\b", &["a word"], &["wor d"]),
        ("ab*c", &["ac", "abc", ""], &[]),
        (".*", &[""], &[]),
        ("[a-z]{5}", &["", "q"], &[]),
        ("a{3,5}", &["aaa", "aaaaaa"], &["aa"]),
    ] {
        let candidates = Candidates::regex(regex);
        can.iter()
            .for_each(|text| assert!(can_match(&candidates, text), "{regex} {text}"));
        cannot
            .iter()
            .for_each(|text| assert!(!can_match(&candidates, text), "{regex} {text}"));
    }
    let pieces = Candidates::pieces(&["ab.", "xyz"], true);
    assert!(can_match(&pieces, "AB. and XYZ") && !can_match(&pieces, "abc xyz"));
    assert!(Candidates::all().is_all() && Candidates::regex("(").is_all());
}

#[test]
fn what_is_too_large_is_everything() {
    assert!(Candidates::regex(r"\w{300}").is_all());
    let many: Vec<String> = (0..5000).map(|i| format!("{i:05}")).collect();
    let candidates = Candidates::regex(&many.join("|"));
    assert!(can_match(&candidates, "04999"));
    assert!(Candidates::fuzzy("abc", usize::MAX, false).is_all());
}

/// Whether some part of `text` is within so many edits of `query`, by the book.
fn is_near(query: &str, text: &str, distance: usize, fold: fn(char) -> char) -> bool {
    let query: Vec<char> = query.chars().map(fold).collect();
    let mut row: Vec<usize> = (0..=query.len()).collect();
    let mut best = row[query.len()];
    for c in text.chars().map(fold) {
        let mut next = vec![0];
        for (i, q) in query.iter().enumerate() {
            let changed = row[i] + usize::from(*q != c);
            next.push(changed.min(row[i + 1] + 1).min(next[i] + 1));
        }
        row = next;
        best = best.min(row[query.len()]);
    }
    best <= distance
}

fn any_pattern() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        4 => "[abk]{1,4}".prop_map(|s| s),
        1 => Just("[a-c]".to_owned()),
        1 => Just("é".to_owned()),
        1 => Just(".".to_owned()),
        1 => Just("(?:)".to_owned()),
        1 => Just(r"\b".to_owned()),
        1 => Just("^".to_owned()),
        1 => Just("$".to_owned()),
        1 => Just(r"\d".to_owned()),
    ];
    let nested = leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            4 => prop::collection::vec(inner.clone(), 1..4).prop_map(|list| list.concat()),
            2 => prop::collection::vec(inner.clone(), 1..4).prop_map(|list| format!("(?:{})", list.join("|"))),
            1 => inner.clone().prop_map(|x| format!("(?:{x})*")),
            1 => inner.clone().prop_map(|x| format!("(?:{x})?")),
            1 => inner.prop_map(|x| format!("(?:{x}){{1,3}}")),
        ]
    });
    (nested, any::<bool>()).prop_map(|(x, fold)| format!("{}{x}", if fold { "(?i)" } else { "" }))
}

fn any_texts() -> impl Strategy<Value = Vec<Option<Vec<String>>>> {
    let text = prop_oneof![3 => "[abckAK1]{0,8}", 1 => "[abkéÉ\u{212a}\n ]{0,6}"];
    prop::collection::vec(prop::option::weighted(0.9, prop::collection::vec(text, 0..3)), 0..60)
}

fn rows_of(texts: &[Option<Vec<String>>], is_array: bool) -> Vec<Option<Vec<Value>>> {
    let row = |texts: &Vec<String>| match is_array {
        true => texts.iter().cloned().map(Value::String).collect(),
        false => vec![Value::String(texts.concat())],
    };
    texts.iter().map(|r| r.as_ref().map(row)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_matches_is_a_candidate(regex in any_pattern(), texts in prop::collection::vec("[abckABK1é\u{212a}É ]{0,9}", 30)) {
        let compiled = Regex::new(&regex).expect("a valid expression");
        let candidates = Candidates::regex(&regex);
        for text in texts.iter().filter(|text| compiled.is_match(text)) {
            prop_assert!(can_match(&candidates, text), "{regex} {text}");
        }
    }

    #[test]
    fn what_is_near_is_a_candidate(
        query in "[abksKéσ]{1,12}", texts in prop::collection::vec("[abksKSéÉσςſ\u{212a}]{0,14}", 30), distance in 0usize..4,
    ) {
        let same = Candidates::fuzzy(&query, distance, false);
        let folded = Candidates::fuzzy(&query, distance, true);
        for text in &texts {
            prop_assert!(!is_near(&query, text, distance, |c| c) || can_match(&same, text), "{query} {text}");
            let is_near = is_near(&query, text, distance, crate::index::attribute::fold);
            prop_assert!(!is_near || can_match(&folded, text), "{query} {text}");
        }
    }

    #[test]
    fn patterns_find_what_a_scan_finds(regex in any_pattern(), texts in any_texts(), is_array in any::<bool>()) {
        let ty = if is_array { AttrType::Array(Scalar::String) } else { AttrType::Scalar(Scalar::String) };
        let rows = rows_of(&texts, is_array);
        let compiled = Regex::new(&regex).expect("a valid expression");
        let matches = |value: &Value| matches!(value, Value::String(text) if compiled.is_match(text));
        let expected = Bitset::from_fn(rows.len(), |row| rows[row].as_ref().is_some_and(|v| v.iter().any(matches)));
        for sizes in [SMALL, Sizes::WRITTEN] {
            for filterable in [true, false] {
                let attribute = searched(ty, filterable);
                let built = build_sized(&column(ty, &rows), &attribute, &sizes).expect("it is searched");
                let (index, _) = open(&built, rows.len(), &attribute).expect("it was just built");
                prop_assert!(index.has_trigrams() && index.has_values() == filterable);
                let predicate = Predicate::Pattern(pattern(&regex));
                let found = now(index.evaluate(&predicate)).expect("nothing is damaged");
                prop_assert_eq!(found.exact, filterable);
                if filterable {
                    prop_assert_eq!(&found.rows, &expected);
                    let high = index.estimate(&predicate).rows_high;
                    prop_assert!(expected.count() as u64 <= high);
                }
                let mut missed = expected.clone();
                missed.and_not(&found.rows);
                prop_assert!(missed.none());
            }
        }
    }

    #[test]
    fn a_prefix_narrows_without_losing(prefix in "[abk]{0,3}", texts in any_texts()) {
        let ty = AttrType::Scalar(Scalar::String);
        let rows = rows_of(&texts, false);
        // Also without trigrams.
        for attribute in [attribute(ty), searched(ty, true)] {
            let built = build_sized(&column(ty, &rows), &attribute, &SMALL).expect("it is filterable");
            let (index, _) = open(&built, rows.len(), &attribute).expect("it was just built");
            let start = prefix.clone();
            let predicate = Predicate::Pattern(Pattern {
                candidates: Arc::new(Candidates::pieces(&[&prefix], false)),
                prefix: prefix.as_bytes().into(),
                matches: Arc::new(move |bytes| bytes.starts_with(start.as_bytes()) && bytes.len() % 2 == 0),
            });
            let fits = |text: &str| text.starts_with(&prefix) && text.len().is_multiple_of(2);
            let expected = Bitset::from_fn(rows.len(), |row| texts[row].as_ref().is_some_and(|t| fits(&t.concat())));
            prop_assert_eq!(now(index.evaluate(&predicate)).expect("nothing is damaged").rows, expected);
        }
    }
}

#[test]
fn only_values_with_the_trigrams_are_looked_at() {
    let ty = AttrType::Scalar(Scalar::String);
    let rows: Vec<_> = (0..20_000)
        .map(|i| Some(vec![Value::String(format!("user-{:05}@example.org", i % 5000))]))
        .collect();
    let attribute = searched(ty, true);
    let built = super::super::build(&column(ty, &rows), &attribute).expect("it is searched");
    let (index, _) = open(&built, rows.len(), &attribute).expect("it was just built");
    let looked = Arc::new(AtomicUsize::new(0));
    let counter = looked.clone();
    let predicate = Predicate::Pattern(Pattern {
        candidates: Arc::new(Candidates::regex("(?i)ER-0123")),
        prefix: Box::default(),
        matches: Arc::new(move |bytes| {
            counter.fetch_add(1, Ordering::Relaxed);
            bytes.windows(7).any(|w| w == b"er-0123")
        }),
    });
    let found = now(index.evaluate(&predicate)).expect("nothing is damaged");
    assert_eq!(found.rows.count(), 10 * 4);
    let looked = looked.load(Ordering::Relaxed);
    assert!((10..60).contains(&looked), "{looked} of 5000 values");
}

/// [`Candidates::fuzzy`] leaves the cases of a character to the syntax of expressions, which has to know all that are
/// the same to [`fold`](crate::index::attribute::fold).
#[test]
fn expressions_fold_all_that_fuzzy_queries_fold() {
    let mut classes: std::collections::BTreeMap<char, Vec<char>> = Default::default();
    for c in '\0'..=char::MAX {
        let folded = crate::index::attribute::fold(c);
        if folded != c {
            classes.entry(folded).or_default().push(c);
        }
    }
    assert!(classes.len() > 1000);
    for (folded, mut cases) in classes {
        cases.push(folded);
        let all: String = cases.iter().collect();
        for c in &cases {
            let regex = format!("^(?i:{})+$", any_case(*c, true));
            assert!(Regex::new(&regex).expect("valid").is_match(&all), "{c:?} {cases:?}");
        }
    }
}
