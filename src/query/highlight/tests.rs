use std::sync::Arc;

use arrow::array::{ArrayRef, LargeStringArray};
use proptest::prelude::*;

use super::*;
use crate::model::query::{Curve, Midpoint, Score, TextQuery};
use crate::model::schema::Language;
use crate::model::{Direction, IdKind};
use crate::query::tests::support::schema_of;

const FRAGMENT: &str = "$fragment";

fn schema(config: FullTextConfig) -> Schema {
    let mut schema = schema_of(IdKind::UInt, &[("t", "string"), ("u", "string"), ("n", "int")]);
    for name in ["t", "u"] {
        let mut text = schema.get(name).unwrap().clone();
        text.full_text = Some(config);
        schema.put(text);
    }
    schema
}

fn bm25(attribute: &str, text: &str) -> Score {
    Score::Text {
        attribute: attribute.into(),
        query: TextQuery::Text(text.into()),
        last_as_prefix: false,
    }
}

/// Looks for `text` in fragments, without offsets.
fn asked(text: &str, fragment_by: FragmentBy) -> Highlight {
    Highlight {
        attribute: "t".into(),
        fragment_by,
        fragment_limit: 3,
        include_offsets: None,
        rank_fragments_by: Some(bm25(FRAGMENT, text)),
    }
}

fn index(config: &FullTextConfig, texts: &[&str]) -> TextIndex {
    let column: ArrayRef = Arc::new(LargeStringArray::from(texts.to_vec()));
    TextIndex::build(config, &column)
}

/// The fragments of a value in a namespace that has nothing else.
fn fragments_in(config: FullTextConfig, asked: &Highlight, rank_by: Option<&RankBy>, texts: &[&str]) -> Vec<Fragment> {
    let bound = bind(asked, rank_by, &schema(config)).unwrap();
    let index = index(&config, texts);
    bound
        .weigh(std::iter::once(&index))
        .fragments(texts, &mut Scratch::default())
}

fn fragments(asked: &Highlight, text: &str) -> Vec<Fragment> {
    fragments_in(FullTextConfig::default(), asked, None, &[text])
}

fn texts(fragments: &[Fragment]) -> Vec<&str> {
    fragments.iter().map(|f| f.text.as_str()).collect()
}

type Pair = (u64, u64);

/// Range of the fragment, ranges of the matches.
fn numbers(fragments: &[Fragment]) -> Vec<(Pair, Vec<Pair>)> {
    let pair = |r: &Range<u64>| (r.start, r.end);
    let of = |f: &Fragment| {
        let offsets = f.offsets.as_ref().unwrap();
        (pair(&offsets.fragment), offsets.matches.iter().map(pair).collect())
    };
    fragments.iter().map(of).collect()
}

#[test]
fn sentences_with_matches_come_best_first_and_without_white_space() {
    let text = "  The fox is red.  Dogs sleep!\nA fox met a fox, and a third fox. No match here? Fox.";
    let found = fragments(&asked("fox", FragmentBy::Sentence), text);
    // Twice the word beats once, and a short sentence beats a long one.
    assert_eq!(
        texts(&found),
        ["A fox met a fox, and a third fox.", "Fox.", "The fox is red."]
    );
    assert!(found.iter().all(|f| f.offsets.is_none()));
    let one = Highlight {
        fragment_limit: 1,
        ..asked("fox", FragmentBy::Sentence)
    };
    assert_eq!(texts(&fragments(&one, text)), ["A fox met a fox, and a third fox."]);
    assert!(fragments(&asked("cat", FragmentBy::Sentence), text).is_empty());
    assert!(fragments(&asked("...", FragmentBy::Sentence), text).is_empty());
    assert!(fragments(&asked("fox", FragmentBy::Sentence), "").is_empty());
}

#[test]
fn equal_fragments_stay_in_the_order_of_the_value() {
    let text = "A fox. B fox. C fox. D fox. E fox.";
    assert_eq!(
        texts(&fragments(&asked("fox", FragmentBy::Sentence), text)),
        ["A fox.", "B fox.", "C fox."]
    );
}

#[test]
fn rare_terms_weigh_more_than_frequent_ones() {
    let texts_of = ["The fox is here. A walrus is there.", "fox", "fox", "fox"];
    let config = FullTextConfig::default();
    let bound = bind(&asked("fox walrus", FragmentBy::Sentence), None, &schema(config)).unwrap();
    let index = index(&config, &texts_of);
    let found = bound
        .weigh(std::iter::once(&index))
        .fragments(&texts_of[..1], &mut Scratch::default());
    assert_eq!(texts(&found), ["A walrus is there.", "The fox is here."]);
}

#[test]
fn offsets_count_in_the_asked_unit() {
    // ñ: 2 bytes. The fox: 4 bytes, 2 units of UTF-16. é as two characters, of 1 and 2 bytes.
    let text = "Añb 🦊 tide!  Y e\u{301}té 🦊🦊 Tide, (tide).";
    for (unit, expected) in [
        (
            OffsetUnit::Utf8,
            [((17, 48), vec![(18, 22), (25, 29)]), ((0, 15), vec![(10, 14)])],
        ),
        (
            OffsetUnit::Utf16,
            [((14, 39), vec![(12, 16), (19, 23)]), ((0, 12), vec![(7, 11)])],
        ),
        (
            OffsetUnit::Codepoints,
            [((13, 36), vec![(10, 14), (17, 21)]), ((0, 11), vec![(6, 10)])],
        ),
    ] {
        let asked = Highlight {
            include_offsets: Some(unit),
            ..asked("tide", FragmentBy::Sentence)
        };
        let found = fragments(&asked, text);
        assert_eq!(
            texts(&found),
            ["Y e\u{301}té 🦊🦊 Tide, (tide).", "Añb 🦊 tide!"],
            "{unit:?}"
        );
        assert_eq!(numbers(&found), expected, "{unit:?}");
    }
}

#[test]
fn matches_are_whole_words_with_their_marks() {
    let folding = FullTextConfig {
        ascii_folding: true,
        stemming: true,
        remove_stopwords: true,
        ..FullTextConfig::default()
    };
    for (query, text, expected) in [
        // Stemming: the inflected word, not the stem.
        ("jump", "Jumping, jumped; JUMPS", vec![(0, 7), (9, 15), (17, 22)]),
        // Folding: one character for two, and two for one.
        ("cafe", "A CAFÉ", vec![(2, 6)]),
        ("aero", "Ærø", vec![(0, 3)]),
        // Stop words match nothing.
        ("the fox", "The fox", vec![(4, 7)]),
        ("3.14", "pi=3.14.", vec![(3, 7)]),
        ("🙂", "a🙂b", vec![(1, 2)]),
        ("東", "東京", vec![(0, 1)]),
    ] {
        let asked = Highlight {
            include_offsets: Some(OffsetUnit::Codepoints),
            ..asked(query, FragmentBy::Nothing)
        };
        let found = fragments_in(folding, &asked, None, &[text]);
        let all = text.chars().count() as u64;
        assert_eq!(numbers(&found), [((0, all), expected)], "{query:?} in {text:?}");
    }
    // A combining mark belongs to its word.
    let asked = Highlight {
        include_offsets: Some(OffsetUnit::Utf8),
        ..asked("cafe\u{301}", FragmentBy::Nothing)
    };
    assert_eq!(
        numbers(&fragments(&asked, "le cafe\u{301} noir")),
        [((0, 14), vec![(3, 9)])]
    );
}

#[test]
fn every_way_of_cutting_cuts_where_it_says() {
    let text = " One fox. Two.\nThree fox\n \t\nFour.\r\n\r\nFive fox. Six\u{2029}Seven fox ";
    let by = |fragment_by| {
        let many = Highlight {
            fragment_limit: 1024,
            // Equal scores: in the order of the text.
            rank_fragments_by: Some(Score::Product {
                weight: 0.0,
                of: Box::new(bm25(FRAGMENT, "fox")),
            }),
            include_offsets: Some(OffsetUnit::Utf8),
            ..asked("", fragment_by)
        };
        let found = fragments(&many, text);
        for f in &found {
            let range = f.offsets.as_ref().unwrap().fragment.clone();
            assert_eq!(&text[range.start as usize..range.end as usize], f.text);
        }
        found.into_iter().map(|f| f.text).collect::<Vec<_>>()
    };
    assert_eq!(by(FragmentBy::Nothing), [text]);
    assert_eq!(
        by(FragmentBy::Sentence),
        ["One fox.", "Three fox", "Five fox.", "Seven fox"]
    );
    assert_eq!(
        by(FragmentBy::Paragraph),
        ["One fox. Two.\nThree fox", "Five fox. Six", "Seven fox"]
    );
    assert_eq!(by(FragmentBy::Word), ["fox"; 4]);
}

#[test]
fn a_sentence_never_ends_inside_a_word() {
    // To UAX #29 this is one word, and two sentences.
    let word = "א.ב";
    let found = fragments(&asked(word, FragmentBy::Sentence), &format!("x {word} y"));
    assert_eq!(texts(&found), [format!("x {word} y")]);
}

#[test]
fn elements_of_arrays_are_texts_of_their_own() {
    let asked = Highlight {
        include_offsets: Some(OffsetUnit::Utf8),
        ..asked("fox", FragmentBy::Sentence)
    };
    let value = ["no", "Red fox. Blue", "", "A fox and a fox"];
    let found = fragments_in(FullTextConfig::default(), &asked, None, &value);
    assert_eq!(texts(&found), ["Red fox.", "A fox and a fox"]);
    assert_eq!(
        numbers(&found),
        [((0, 8), vec![(4, 7)]), ((0, 15), vec![(2, 5), (12, 15)])]
    );
    assert!(fragments_in(FullTextConfig::default(), &asked, None, &[]).is_empty());
}

#[test]
fn without_an_expression_the_text_of_the_query_is_looked_for() {
    let plain = Highlight {
        rank_fragments_by: None,
        ..asked("", FragmentBy::Word)
    };
    let fox = || bm25("t", "fox");
    let dog = || Score::Product {
        weight: 10.0,
        of: Box::new(bm25("t", "dog")),
    };
    let other = || bm25("u", "cat");
    let curve = Curve {
        midpoint: Midpoint::Number(1.0),
        exponent: 1.0,
    };
    for (score, expected) in [
        (fox(), vec!["fox"]),
        (Score::Sum(vec![fox(), other(), dog()]), vec!["dog", "fox"]),
        (Score::Max(vec![Score::Constant(0.0), fox()]), vec!["fox"]),
        (
            Score::Sum(vec![
                Score::Attribute("n".into()),
                Score::Saturate {
                    of: Box::new(fox()),
                    curve,
                },
            ]),
            vec!["fox"],
        ),
    ] {
        let rank_by = RankBy::Score(score);
        let found = fragments_in(
            FullTextConfig::default(),
            &plain,
            Some(&rank_by),
            &["the fox, the cat, the dog"],
        );
        assert_eq!(texts(&found), expected, "{rank_by:?}");
    }
    // What is asked wins over the query.
    let rank_by = RankBy::Score(fox());
    let found = fragments_in(
        FullTextConfig::default(),
        &asked("cat", FragmentBy::Word),
        Some(&rank_by),
        &["fox cat"],
    );
    assert_eq!(texts(&found), ["cat"]);
}

#[test]
fn the_last_token_can_be_a_prefix() {
    let prefix = |fragment_by| Highlight {
        rank_fragments_by: Some(Score::Text {
            attribute: FRAGMENT.into(),
            query: TextQuery::Text("red fo".into()),
            last_as_prefix: true,
        }),
        ..asked("", fragment_by)
    };
    let text = "A redder foil. The fox forgot. A red fog. Of.";
    let mut words = texts(&fragments(&prefix(FragmentBy::Word), text))
        .iter()
        .map(|w| (*w).to_owned())
        .collect::<Vec<_>>();
    words.sort();
    assert_eq!(words, ["foil", "forgot", "fox"], "the first three of equal worth");
    // Two longer tokens are worth 2; one, and a term, less in so small a namespace.
    assert_eq!(
        texts(&fragments(&prefix(FragmentBy::Sentence), text)),
        ["The fox forgot.", "A red fog.", "A redder foil."]
    );
    // The token itself is a term, not a longer one; and a token counts once however often it occurs.
    let found = fragments(&prefix(FragmentBy::Sentence), "Fox fox fox. Fog fox.");
    assert_eq!(texts(&found), ["Fog fox.", "Fox fox fox."]);
}

#[test]
fn expressions_add_take_the_greatest_and_weigh() {
    let score_of = |score: Score, text: &str| {
        let highlight = Highlight {
            rank_fragments_by: Some(score),
            ..asked("", FragmentBy::Sentence)
        };
        let config = FullTextConfig::default();
        let bound = bind(&highlight, None, &schema(config)).unwrap();
        let scorer = bound.weigh(std::iter::once(&index(&config, &[text]))).scorer;
        let mut found = Occurrences::default();
        let mut tokens = 0;
        Analyzer::new(&config).tokens(text, &mut Buffer::new(), |token| {
            scorer.take(token.text, &mut found);
            tokens += 1;
        });
        scorer.score(&mut found, tokens)
    };
    let (fox, dog) = (|| bm25(FRAGMENT, "fox"), || bm25(FRAGMENT, "dog"));
    let text = "fox dog dog";
    let (a, b) = (score_of(fox(), text), score_of(dog(), text));
    assert!(a > 0.0 && b > a);
    // One row of average length: idf · tf·(k1+1)/(tf+k1), with idf = ln(1 + 0.5/1.5).
    let idf = (1.0f64 + 0.5 / 1.5).ln();
    assert!((a - idf).abs() < 1e-12, "{a}");
    assert!((b - idf * 2.0 * 2.2 / 3.2).abs() < 1e-12, "{b}");
    let weighted = |weight, of| Score::Product {
        weight,
        of: Box::new(of),
    };
    assert_eq!(score_of(Score::Sum(vec![fox(), dog()]), text), a + b);
    assert_eq!(score_of(Score::Max(vec![fox(), dog()]), text), b);
    assert_eq!(score_of(Score::Max(vec![Score::Constant(7.0), dog()]), text), 7.0);
    assert_eq!(score_of(weighted(2.0, dog()), text), 2.0 * b);
    // Nothing becomes infinite, so nothing becomes NaN.
    let huge = weighted(
        0.0,
        Score::Sum(vec![weighted(f64::MAX, fox()), weighted(f64::MAX, dog())]),
    );
    assert_eq!(score_of(huge, text), 0.0);
}

#[test]
fn what_cannot_be_highlighted_is_refused() {
    let mut schema = schema(FullTextConfig::default());
    let mut tokens = schema_of(IdKind::UInt, &[("p", "[]string")]).get("p").unwrap().clone();
    tokens.id = schema.next_attribute_id();
    tokens.full_text = Some(FullTextConfig {
        tokenizer: Tokenizer::PreTokenizedArray,
        case_sensitive: true,
        ..FullTextConfig::default()
    });
    schema.put(tokens);
    let on = |attribute: &str| Highlight {
        attribute: attribute.into(),
        ..asked("fox", FragmentBy::Sentence)
    };
    let by = |score: Option<Score>| Highlight {
        rank_fragments_by: score,
        ..asked("", FragmentBy::Sentence)
    };
    let order = RankBy::Order(vec![("n".into(), Direction::Asc)]);
    let elsewhere = RankBy::Score(Score::Sum(vec![bm25("u", "fox"), Score::Attribute("n".into())]));
    for (highlight, rank_by, part) in [
        (on("nope"), None, "attribute not found"),
        (on("n"), None, "which only string and []string"),
        (on("p"), None, "pre_tokenized_array"),
        (by(None), None, "needs rank_fragments_by"),
        (by(None), Some(&order), "needs rank_fragments_by"),
        (by(None), Some(&elsewhere), "no BM25 clause on \"t\""),
        (by(Some(bm25("t", "fox"))), None, "use \"$fragment\" in place of \"t\""),
        (
            by(Some(Score::Max(vec![Score::Constant(1.0)]))),
            None,
            "needs rank_fragments_by",
        ),
        (
            by(Some(Score::Sum(vec![
                bm25(FRAGMENT, "a"),
                Score::Attribute("n".into()),
            ]))),
            None,
            "nothing else",
        ),
    ] {
        let error = bind(&highlight, rank_by, &schema).expect_err(part);
        assert!(error.message.contains(part), "{}", error.message);
    }
}

/// What the definition says, from the tokens of the text alone: every token that is a term.
fn naive_matches(config: &FullTextConfig, terms: &[String], text: &str) -> Vec<Range<usize>> {
    let mut matches = Vec::new();
    Analyzer::new(config).tokens(text, &mut Buffer::new(), |token| {
        if terms.iter().any(|t| t == token.text) {
            matches.push(token.range);
        }
    });
    matches
}

fn units(unit: OffsetUnit, text: &str) -> u64 {
    let of = |c: char| match unit {
        OffsetUnit::Utf8 => c.len_utf8(),
        OffsetUnit::Utf16 => c.len_utf16(),
        OffsetUnit::Codepoints => 1,
    };
    text.chars().map(of).sum::<usize>() as u64
}

/// The part of `text` between two offsets; `None` when there is no such part.
fn cut(unit: OffsetUnit, text: &str, range: &Range<u64>) -> Option<Range<usize>> {
    let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    let byte = |offset: u64| ends.clone().find(|at| units(unit, &text[..*at]) == offset);
    Some(byte(range.start)?..byte(range.end)?)
}

fn any_text() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "fox",
        "Foxes",
        "dog",
        "DOGS",
        "the",
        "e\u{301}",
        "É",
        "ß",
        "🙂",
        "🦊\u{200d}🙂",
        "漢字",
        "א.ב",
        "3.14",
        "can't",
        ".",
        "! ",
        "? ",
        "\n",
        "\r\n",
        "\n\n",
        "\u{2029}",
        " ",
        ", ",
        "\u{200d}",
        "\u{301}",
        "🇩🇪",
        "_",
        "ﬁ",
    ]);
    let any = "\\PC{0,3}";
    let piece = prop_oneof![5 => words.prop_map(str::to_owned), 2 => Just(" ".to_owned()), 1 => any];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn matches_are_the_terms_and_fragments_are_cuts(
        texts in prop::collection::vec(any_text(), 1..3),
        tokenizer in prop::sample::select(Tokenizer::ALL[..5].to_vec()),
        stemming in any::<bool>(),
        folding in any::<bool>(),
        fragment_by in prop::sample::select(vec![
            FragmentBy::Nothing, FragmentBy::Sentence, FragmentBy::Paragraph, FragmentBy::Word,
        ]),
        unit in prop::sample::select(vec![OffsetUnit::Utf8, OffsetUnit::Utf16, OffsetUnit::Codepoints]),
        limit in 1usize..8,
    ) {
        let config = FullTextConfig {
            tokenizer: tokenizer.0, stemming, ascii_folding: folding, language: Language::English,
            ..FullTextConfig::default()
        };
        let query = "fox DOG 🙂 é ß 漢 3.14 א.ב can't ﬁ";
        let mut terms = Vec::new();
        Analyzer::new(&config).analyze(query, &mut Buffer::new(), |t, _| terms.push(t.to_owned()));
        let asked = |fragment_limit| Highlight {
            include_offsets: Some(unit), fragment_limit, ..asked(query, fragment_by)
        };
        let values: Vec<&str> = texts.iter().map(String::as_str).collect();
        let all = fragments_in(config, &asked(1024), None, &values);

        // The fragments of each text, found by their contents and offsets.
        let mut found: Vec<(usize, Range<usize>)> = Vec::new();
        let mut left: Vec<Vec<Range<usize>>> = values.iter().map(|t| naive_matches(&config, &terms, t)).collect();
        for fragment in &all {
            let offsets = fragment.offsets.as_ref().unwrap();
            prop_assert!(!offsets.matches.is_empty());
            let mut claimed = false;
            for (n, text) in values.iter().enumerate() {
                let Some(range) = cut(unit, text, &offsets.fragment) else { continue };
                if text[range.clone()] != fragment.text { continue; }
                // Two texts can begin alike; uncut, a fragment is all of its text.
                if matches!(fragment_by, FragmentBy::Nothing) && range != (0..text.len()) { continue; }
                let matches: Vec<Range<usize>> = offsets.matches.iter().map(|m| {
                    let within = cut(unit, &fragment.text, m).unwrap();
                    range.start + within.start..range.start + within.end
                }).collect();
                if matches.iter().all(|m| left[n].contains(m)) {
                    left[n].retain(|m| !matches.contains(m));
                    found.push((n, range));
                    claimed = true;
                    break;
                }
            }
            prop_assert!(claimed, "{:?} is no cut of {:?}", fragment, values);
            for m in &offsets.matches {
                let word = &fragment.text[cut(unit, &fragment.text, m).unwrap()];
                let mut again = Vec::new();
                Analyzer::new(&config).analyze(word, &mut Buffer::new(), |t, _| again.push(t.to_owned()));
                prop_assert!(again.len() == 1 && terms.contains(&again[0]), "{:?} of {:?}", word, fragment);
            }
        }
        // Every match is in a fragment, and fragments do not overlap.
        prop_assert!(left.iter().all(Vec::is_empty), "{:?} left of {:?}", left, values);
        found.sort_by_key(|(n, r)| (*n, r.start));
        for pair in found.windows(2) {
            prop_assert!(pair[0].0 != pair[1].0 || pair[0].1.end <= pair[1].1.start);
        }
        // Fewer fragments are the first of all.
        let few = fragments_in(config, &asked(limit), None, &values);
        prop_assert_eq!(few.as_slice(), &all[..limit.min(all.len())]);
    }
}
