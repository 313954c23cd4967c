use super::super::{Analyzer, Buffer};
use crate::model::FullTextConfig;
use crate::model::schema::{Language, Tokenizer};

fn config(tokenizer: Tokenizer) -> FullTextConfig {
    FullTextConfig {
        tokenizer,
        ..FullTextConfig::default()
    }
}

fn positions(config: &FullTextConfig, text: &str) -> Vec<(String, u32)> {
    let mut tokens = Vec::new();
    Analyzer::new(config).analyze(text, &mut Buffer::new(), |t, p| tokens.push((t.to_owned(), p)));
    tokens
}

fn tokens(config: &FullTextConfig, text: &str) -> Vec<String> {
    positions(config, text).into_iter().map(|(t, _)| t).collect()
}

#[test]
fn each_tokenizer_segments_as_documented() {
    use Tokenizer::*;
    const FAMILY: &str = "👩\u{200d}👩\u{200d}👧";
    let cases: &[(&[Tokenizer], &str, &[&str])] = &[
        (
            &[WordV0, WordV1, WordV2, WordV3, WordV4],
            "Hello, World 42!",
            &["hello", "world", "42"],
        ),
        (&[WordV0, WordV1, WordV2, WordV3, WordV4], "", &[]),
        (&[WordV0, WordV1, WordV2, WordV3, WordV4], " -- ... ", &[]),
        (
            &[WordV0, WordV1, WordV2],
            "can't 3.14 foo_bar",
            &["can", "t", "3", "14", "foo", "bar"],
        ),
        (&[WordV3, WordV4], "can't 3.14 foo_bar", &["can't", "3.14", "foo_bar"]),
        (&[WordV0, WordV1], "東京都 x漢y", &["東京都", "x漢y"]),
        (
            &[WordV2, WordV3, WordV4],
            "東京都 x漢y",
            &["東", "京", "都", "x", "漢", "y"],
        ),
        (&[WordV0], "a🙂b 👍🏽", &["a", "b"]),
        (&[WordV1, WordV2, WordV3, WordV4], "a🙂b 👍🏽", &["a", "🙂", "b", "👍🏽"]),
        (&[WordV0], FAMILY, &[]),
        (&[WordV1, WordV2, WordV3, WordV4], FAMILY, &[FAMILY]),
        (&[WordV0], "🇩🇪🇫🇷1\u{fe0f}\u{20e3}", &["1"]),
        (
            &[WordV1, WordV2],
            "🇩🇪🇫🇷1\u{fe0f}\u{20e3}",
            &["🇩🇪", "🇫🇷", "1\u{fe0f}\u{20e3}"],
        ),
        (
            &[WordV0, WordV1, WordV2, WordV3, WordV4],
            "Größe ÜBER",
            &["größe", "über"],
        ),
    ];
    for (tokenizers, text, expected) in cases {
        for tokenizer in *tokenizers {
            assert_eq!(
                tokens(&config(*tokenizer), text),
                *expected,
                "{tokenizer:?} of {text:?}"
            );
        }
    }
}

#[test]
fn every_tokenizer_filters_alike() {
    for tokenizer in [
        Tokenizer::WordV0,
        Tokenizer::WordV1,
        Tokenizer::WordV2,
        Tokenizer::WordV4,
    ] {
        let filtered = FullTextConfig {
            stemming: true,
            remove_stopwords: true,
            ascii_folding: true,
            max_token_length: 8,
            ..config(tokenizer)
        };
        let expected = [("walrus", 1), ("jump", 2), ("creme", 4)].map(|(t, p)| (t.to_owned(), p));
        let text = "The walruses JUMPED gigantically crème";
        assert_eq!(positions(&filtered, text), expected, "{tokenizer:?}");
    }
}

#[test]
fn a_token_may_have_exactly_the_maximum_length() {
    let limited = FullTextConfig {
        max_token_length: 4,
        ..FullTextConfig::default()
    };
    assert_eq!(tokens(&limited, "four fives üüüü üüüüü"), ["four", "üüüü"]);
}

#[test]
fn the_default_keeps_stop_words_inflections_and_accents() {
    let config = FullTextConfig::default();
    assert_eq!(tokens(&config, "The Cafés"), ["the", "cafés"]);
    let sensitive = FullTextConfig {
        case_sensitive: true,
        ..config
    };
    assert_eq!(tokens(&sensitive, "The Cafés"), ["The", "Cafés"]);
}

#[test]
fn every_language_stems_and_the_documented_ones_have_stop_words() {
    let cases = [
        (Language::Arabic, "الكتاب", None),
        (Language::Danish, "hundene", Some("ikke")),
        (Language::Dutch, "lichamelijk", Some("niet")),
        (Language::English, "jumping", Some("the")),
        (Language::Finnish, "taloissa", Some("olla")),
        (Language::French, "continuellement", Some("avec")),
        (Language::German, "häuser", Some("nicht")),
        (Language::Greek, "δρόμους", None),
        (Language::Hungarian, "házakban", Some("hogy")),
        (Language::Italian, "abbandonata", Some("della")),
        (Language::Norwegian, "hundene", Some("ikke")),
        (Language::Portuguese, "quilométricas", Some("não")),
        (Language::Romanian, "abruptului", None),
        (Language::Russian, "собаками", Some("когда")),
        (Language::Spanish, "cheques", Some("para")),
        (Language::Swedish, "hundarna", Some("inte")),
        (Language::Tamil, "மரங்கள்", None),
        (Language::Turkish, "kitaplar", None),
    ];
    assert_eq!(cases.len(), Language::ALL.len());
    // One buffer for all: the stems of one language must not leak into the next.
    let mut buffer = Buffer::new();
    for (language, inflected, stop_word) in cases {
        let config = FullTextConfig {
            language,
            stemming: true,
            remove_stopwords: true,
            ..FullTextConfig::default()
        };
        assert_ne!(tokens(&config, inflected), [inflected], "{language:?} stems");
        let mut shared = Vec::new();
        Analyzer::new(&config).analyze(inflected, &mut buffer, |t, _| shared.push(t.to_owned()));
        assert_eq!(shared, tokens(&config, inflected), "{language:?} with a used buffer");
        if let Some(word) = stop_word {
            assert!(
                tokens(&config, word).is_empty(),
                "{word} is a stop word of {language:?}"
            );
        }
    }
}

#[test]
fn stems_of_one_language_do_not_leak_into_another() {
    let mut buffer = Buffer::new();
    let stem = |language, buffer: &mut Buffer| {
        let config = FullTextConfig {
            language,
            stemming: true,
            ..FullTextConfig::default()
        };
        let mut stems = Vec::new();
        Analyzer::new(&config).analyze("jumping", buffer, |t, _| stems.push(t.to_owned()));
        stems
    };
    assert_eq!(stem(Language::English, &mut buffer), ["jump"]);
    assert_eq!(
        stem(Language::Finnish, &mut buffer),
        stem(Language::Finnish, &mut Buffer::new())
    );
    assert_eq!(stem(Language::English, &mut buffer), ["jump"]);
}

#[test]
fn options_that_contradict_case_sensitivity_are_harmless() {
    let contradictory = FullTextConfig {
        case_sensitive: true,
        stemming: true,
        remove_stopwords: true,
        ..FullTextConfig::default()
    };
    assert_eq!(tokens(&contradictory, "The Foxes"), ["The", "Foxes"]);
}

#[test]
fn array_elements_share_one_run_of_positions() {
    for tokenizer in [Tokenizer::WordV2, Tokenizer::WordV4] {
        let mut seen = Vec::new();
        let elements = ["red fox", "", "blue"].into_iter();
        Analyzer::new(&config(tokenizer))
            .analyze_all(elements, &mut Buffer::new(), |t, p| seen.push((t.to_owned(), p)));
        assert_eq!(
            seen,
            [("red", 0), ("fox", 1), ("blue", 2)].map(|(t, p)| (t.to_owned(), p))
        );
    }
}

#[test]
fn pre_tokenized_strings_are_tokens_as_they_are() {
    let long = "x".repeat(40);
    let mut seen = Vec::new();
    let elements = ["The Fox, ", &long, "", "the"].into_iter();
    Analyzer::new(&super::pre_tokenized())
        .analyze_all(elements, &mut Buffer::new(), |t, p| seen.push((t.to_owned(), p)));
    assert_eq!(
        seen,
        [("The Fox, ", 0), ("", 2), ("the", 3)].map(|(t, p)| (t.to_owned(), p))
    );
}

#[test]
fn word_v4_is_alyze_to_the_letter() {
    use alyze::analyze::{
        AnalysisOptions, LanguageWithStopwords, ReusableBuffer, StemmingLanguage, StopwordRemoval, TokenizerOptions,
    };
    let text = "The naïve Foxes' co-operation (1,024 µm) — СОБАКИ बिल्लियाँ ภาษาไทย ﬁne e\u{301}té 🏴󠁧󠁢󠁳󠁣󠁴󠁿";
    let reference = alyze::analyze::Analyzer::new(AnalysisOptions {
        tokenizer: TokenizerOptions::UAX29Word(Default::default()),
        maximum_token_length: Some(39),
        case_sensitive: false,
        stopword_removal: Some(StopwordRemoval::ForLanguage(LanguageWithStopwords::English)),
        stemming: Some(StemmingLanguage::English),
        ascii_folding: true,
    });
    let mut expected = Vec::new();
    reference.analyze(text, &mut ReusableBuffer::new(), |token| {
        expected.push((token.text.to_owned(), token.position as u32));
        true
    });
    let config = FullTextConfig {
        stemming: true,
        remove_stopwords: true,
        ascii_folding: true,
        ..FullTextConfig::default()
    };
    assert!(expected.len() > 8);
    assert_eq!(positions(&config, text), expected);
}

proptest::proptest! {
    #[test]
    fn any_text_is_analysed_and_dropped_tokens_keep_their_places(text in "(\\PC|[a-z #*1\u{200d}\u{fe0f}\u{20e3}🙂🇩漢]){0,40}") {
        for (tokenizer, _) in Tokenizer::ALL {
            let all = positions(&FullTextConfig { max_token_length: 254, ..config(tokenizer) }, &text);
            let places: Vec<u32> = all.iter().map(|(_, p)| *p).collect();
            proptest::prop_assert_eq!(places, (0..all.len() as u32).collect::<Vec<_>>(), "{:?}", tokenizer);
            let short = positions(&FullTextConfig { max_token_length: 3, ..config(tokenizer) }, &text);
            proptest::prop_assert!(short.iter().all(|token| all.contains(token)), "{:?}", tokenizer);
        }
    }
}

/// Every token with the word it was made of.
fn words(config: &FullTextConfig, text: &str) -> Vec<(String, String)> {
    let mut words = Vec::new();
    Analyzer::new(config).tokens(text, &mut Buffer::new(), |token| {
        words.push((text[token.range].to_owned(), token.text.to_owned()));
    });
    words
}

#[test]
fn the_range_of_a_token_is_the_word_it_was_made_of() {
    let filtered = |tokenizer| FullTextConfig {
        stemming: true,
        remove_stopwords: true,
        ascii_folding: true,
        max_token_length: 12,
        ..config(tokenizer)
    };
    let text = "¡The Walruses—JUMPED über extraordinarily Straßen 🙂 İstanbul 12!";
    for tokenizer in [
        Tokenizer::WordV0,
        Tokenizer::WordV1,
        Tokenizer::WordV2,
        Tokenizer::WordV3,
        Tokenizer::WordV4,
    ] {
        let mut expected = vec![
            ("Walruses", "walrus"),
            ("JUMPED", "jump"),
            ("über", "uber"),
            ("Straßen", "strassen"),
            ("🙂", "🙂"),
            ("İstanbul", "i\u{307}stanbul"),
            ("12", "12"),
        ];
        if tokenizer == Tokenizer::WordV0 {
            expected.retain(|(word, _)| *word != "🙂");
        }
        let expected: Vec<_> = expected
            .iter()
            .map(|(w, t)| ((*w).to_owned(), (*t).to_owned()))
            .collect();
        assert_eq!(words(&filtered(tokenizer), text), expected, "{tokenizer:?}");
    }
    // A token as it is, is its own word; one that is too long has none.
    let whole = FullTextConfig {
        max_token_length: 5,
        ..super::pre_tokenized()
    };
    assert_eq!(words(&whole, "a b,"), [("a b,".to_owned(), "a b,".to_owned())]);
    assert!(words(&whole, "abcdef").is_empty());
}

#[test]
fn older_tokenizers_have_their_published_differences() {
    use Tokenizer::*;
    let cases: &[(&[Tokenizer], &str, &[&str])] = &[
        // Marks and joiners separate, letters of any writing do not.
        (&[WordV0, WordV1, WordV2], "ab\u{301}c", &["ab", "c"]),
        (&[WordV3, WordV4], "ab\u{301}c", &["ab\u{301}c"]),
        (&[WordV0, WordV1, WordV2, WordV3, WordV4], "Ωμέγα", &["ωμέγα"]),
        (&[WordV0, WordV1, WordV2], "x² ½", &["x²", "½"]),
        (&[WordV3, WordV4], "x² ½", &["x", "²", "½"]),
        // Kana and hangul are no ideographs.
        (&[WordV0, WordV1, WordV2], "カタカナ 한국어", &["カタカナ", "한국어"]),
        (&[WordV3, WordV4], "カタカナ 한국어", &["カタカナ", "한국어"]),
        (&[WordV0, WordV1], "図書館へ行く", &["図書館へ行く"]),
        (&[WordV2], "図書館へ行く", &["図", "書", "館", "へ", "行", "く"]),
        // Everything else separates.
        (
            &[WordV0, WordV1, WordV2],
            "a.b c'd_e-f/g@h",
            &["a", "b", "c", "d", "e", "f", "g", "h"],
        ),
        (&[WordV3, WordV4], "a.b c'd_e-f/g@h", &["a.b", "c'd_e", "f", "g", "h"]),
        (&[WordV0, WordV1, WordV2], "1,024.5", &["1", "024", "5"]),
        (&[WordV3, WordV4], "1,024.5", &["1,024.5"]),
        // Emoji within a word.
        (&[WordV0], "go🚀go", &["go", "go"]),
        (&[WordV1, WordV2, WordV3, WordV4], "go🚀go", &["go", "🚀", "go"]),
    ];
    for (tokenizers, text, expected) in cases {
        for tokenizer in *tokenizers {
            assert_eq!(
                tokens(&config(*tokenizer), text),
                *expected,
                "{tokenizer:?} of {text:?}"
            );
        }
    }
}

proptest::proptest! {
    #[test]
    fn ranges_ascend_and_analyse_to_their_tokens_again(
        text in "(\\PC|[a-zA-Z .'\u{301}#*1\u{200d}\u{fe0f}\u{20e3}🙂🇩漢ßİ]){0,40}",
        stemming in proptest::bool::ANY,
        ascii_folding in proptest::bool::ANY,
    ) {
        for (tokenizer, _) in Tokenizer::ALL {
            let filtered = FullTextConfig { stemming, ascii_folding, max_token_length: 254, ..config(tokenizer) };
            let analyzer = Analyzer::new(&filtered);
            let mut ranges = Vec::new();
            analyzer.tokens(&text, &mut Buffer::new(), |t| ranges.push((t.range, t.text.to_owned())));
            let mut end = 0;
            for (range, token) in ranges {
                proptest::prop_assert!(end <= range.start && range.start <= range.end);
                end = range.end;
                let again = tokens(&filtered, &text[range.clone()]);
                proptest::prop_assert_eq!(again, vec![token], "{:?} of {:?}", tokenizer, &text[range]);
            }
        }
    }
}
