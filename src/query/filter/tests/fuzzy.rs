use proptest::prelude::*;

use super::super::fuzzy::{FuzzyQuery, Scratch};
use super::model;
use crate::model::filter::{EditDistance, FuzzyOptions};

fn options(entries: &[(u32, u32)], case_sensitive: bool) -> FuzzyOptions {
    let entry = |(min_query_chars, distance): &(u32, u32)| EditDistance {
        min_query_chars: *min_query_chars,
        distance: *distance,
    };
    FuzzyOptions {
        max_edit_distance: entries.iter().map(entry).collect(),
        case_sensitive,
    }
}

fn matches(query: &str, text: &str, options: &FuzzyOptions) -> bool {
    FuzzyQuery::new(query, options).is_some_and(|q| q.matches(text, &mut Scratch::default()))
}

#[test]
fn each_edit_costs_one() {
    let one = options(&[(6, 1)], true);
    for (query, text, expected) in [
        ("lubeck", "lubeck", true),
        ("lubeck", "the port of lubeck is old", true),
        ("lubeck", "lubek", true),
        ("lubeck", "lubbeck", true),
        ("lubeck", "lubeqk", true),
        ("lubeck", "lübeck", true),
        ("lübeck", "lubeck", true),
        // The same ü as two characters: one accent more.
        ("lubeck", "lu\u{308}beck", true),
        ("lubeck", "Lubeck", true),
        ("lubeck", "Lübeck", false),
        ("lubeck", "LUbeck", false),
        ("lubeck", "lbueck", false),
        ("lubeck", "ubeck", true),
        ("lubeck", "beck", false),
        ("lubeck", "", false),
    ] {
        assert_eq!(matches(query, text, &one), expected, "{query} {text}");
    }
    let caseless = options(&[(6, 1)], false);
    for (query, text, expected) in [
        ("lubeck", "LÜBECK", true),
        ("LUBECK", "lubek", true),
        ("lubeck", "LÜBEK", false),
        ("σίσυφος", "ΣΊΣΥΦΟΣ", true),
        ("straße", "STRAẞE", true),
    ] {
        assert_eq!(matches(query, text, &caseless), expected, "{query} {text}");
    }
}

#[test]
fn the_length_of_the_query_decides_the_distance() {
    let steps = options(&[(4, 0), (7, 1), (10, 2)], true);
    for (query, text, expected) in [
        ("fis", "fis", false),
        ("fish", "a fish", true),
        ("fish", "a fsh", false),
        ("pufferx", "puffer", true),
        ("puffrx!", "puffer", false),
        ("pufferfish", "pufer fish", true),
        ("pufferfish", "pufr fish", false),
        ("", "", false),
        // Characters count, not bytes.
        ("ééé", "ééé", false),
    ] {
        assert_eq!(matches(query, text, &steps), expected, "{query} {text}");
    }
}

/// All that differ only in case, as far as letters correspond one to one, are one character; others
/// are not. The crate regex has the same folding.
#[test]
fn case_is_folded_as_unicode_says() {
    let caseless = options(&[(3, 0)], false);
    let mut seen = 0;
    for c in (0..=0x10ffff).filter_map(char::from_u32) {
        let others: Vec<char> = c.to_lowercase().chain(c.to_uppercase()).filter(|o| *o != c).collect();
        let single = c.to_lowercase().count() == 1 && c.to_uppercase().count() == 1;
        if others.is_empty() || !single || c == 'ı' || c == 'İ' {
            continue;
        }
        for other in others {
            let triple = |c: char| [c; 3].iter().collect::<String>();
            assert!(matches(&triple(c), &triple(other), &caseless), "{c} {other}");
            seen += 1;
        }
    }
    assert!(seen > 2000, "{seen}");
    for (a, b) in [("ııı", "iii"), ("iii", "İİİ"), ("eee", "ééé"), ("sss", "ßßß")] {
        assert!(!matches(a, b, &caseless), "{a} {b}");
    }
}

proptest! {
    #[test]
    fn the_bits_agree_with_the_table_of_distances(
        query in "[abAé]{0,12}", text in "[abAé]{0,30}", case_sensitive: bool,
    ) {
        let options = options(&[(3, 0), (6, 1), (9, 2), (12, 3)], case_sensitive);
        prop_assert_eq!(matches(&query, &text, &options), model::fuzzy(&query, &text, &options));
    }

    /// Queries of several blocks: some part of the text with some edits.
    #[test]
    fn long_queries_agree_with_the_table_of_distances(
        text in "[abcdé]{200,400}",
        from in 0usize..100,
        len in 60usize..200,
        edits in prop::collection::vec((0usize..200, "[abcdé]{0,2}"), 0..20),
        distance in 0u32..20,
    ) {
        let mut query: Vec<char> = text.chars().skip(from).take(len).collect();
        for (at, with) in edits {
            let at = at % query.len();
            query.splice(at..at + 1, with.chars());
            prop_assume!(query.len() >= 60);
        }
        let query: String = query.into_iter().collect();
        let options = options(&[(3 * (distance + 1), distance)], true);
        prop_assert_eq!(matches(&query, &text, &options), model::fuzzy(&query, &text, &options));
    }
}
