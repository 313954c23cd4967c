use std::time::Instant;

use proptest::prelude::*;

use super::super::pattern::{Compiler, Pattern};

fn glob(glob: &str, ignore_case: bool) -> Result<Pattern, String> {
    Compiler::default().glob(glob, ignore_case)
}

#[test]
fn globs_match_whole_values_by_character() {
    for (pattern, yes, no) in [
        ("", vec![""], vec!["a"]),
        ("abc", vec!["abc"], vec!["abcd", "xabc", "ABC"]),
        ("*", vec!["", "a", "a/b\nc", "é"], vec![]),
        ("**", vec!["", "a/b", "\n"], vec![]),
        ("a*", vec!["a", "ab", "a\nb"], vec!["ba", ""]),
        ("*a", vec!["a", "ba"], vec!["ab"]),
        ("*puffer*", vec!["puffer", "a puffer fish"], vec!["puff er", "Puffer"]),
        ("a*a", vec!["aa", "aba"], vec!["a", "ab"]),
        ("*ab*ab*", vec!["abab", "xabyabz"], vec!["ab", "aba", "abba"]),
        ("a*b*c", vec!["abc", "a-b-c", "abcbc"], vec!["acb", "ac"]),
        ("?", vec!["a", "é", "鯨", "\n"], vec!["", "ab"]),
        ("s?a", vec!["sea", "s/a", "séa"], vec!["sa", "seea"]),
        ("[a-cx]", vec!["a", "c", "x"], vec!["d", "-", ""]),
        ("[!a-c]", vec!["d", "é"], vec!["a", ""]),
        ("[^a-c]", vec!["d"], vec!["b"]),
        ("[é-ü]", vec!["ê"], vec!["e", "z"]),
        ("[*.]", vec!["*", "."], vec!["a", ""]),
        ("[]]", vec!["]"], vec!["["]),
        ("{ab,c*}", vec!["ab", "c", "cd"], vec!["a", "abc"]),
        ("x{a,{b,c}}", vec!["xa", "xb", "xc"], vec!["x", "xab"]),
        (r"\*", vec!["*"], vec![r"\", "a", ""]),
        (r"\\x41", vec![r"\x41"], vec!["A", r"\A"]),
        (r"a\?*", vec!["a?", "a?b"], vec!["ab"]),
        ("a.b", vec!["a.b"], vec!["axb"]),
        ("a,b", vec!["a,b"], vec!["a", "b"]),
        ("(a|b)+$^", vec!["(a|b)+$^"], vec!["a"]),
        // As the reference's samples have them.
        (
            "/vendor/**",
            vec!["/vendor/a", "/vendor/a/b"],
            vec!["/vendor", "/vendors/a"],
        ),
        ("**.tsx", vec!["a.tsx", "a/b.tsx", ".tsx"], vec!["a.ts", "a.tsx2"]),
        ("**/foo", vec!["foo", "/foo", "a/b/foo"], vec!["xfoo", "foo/a"]),
        ("a/**/b", vec!["a/b", "a/x/b", "a/x/y/b"], vec!["ab", "a/xb"]),
        // globset has no empty alternatives.
        ("x{,a}", vec!["xa"], vec!["x"]),
    ] {
        let compiled = glob(pattern, false).unwrap_or_else(|e| panic!("{pattern:?} {e}"));
        for text in yes {
            assert!(compiled.matches(text), "{pattern:?} should match {text:?}");
        }
        for text in no {
            assert!(!compiled.matches(text), "{pattern:?} should not match {text:?}");
        }
    }
}

#[test]
fn case_is_ignored_in_every_script() {
    for (pattern, yes, no) in [
        ("*Puffer*", vec!["puffer", "A PUFFER fish"], vec!["puff er"]),
        ("école*", vec!["ÉCOLE", "École normale"], vec!["ecole"]),
        ("[à-é]", vec!["É", "é"], vec!["e"]),
        ("ΣΊΣΥΦΟΣ", vec!["Σίσυφος"], vec!["Σισυφος"]),
        ("?", vec!["Ж"], vec!["ЖЖ"]),
        ("{Sea,LAND}", vec!["sEA", "land"], vec!["sealand"]),
    ] {
        let compiled = glob(pattern, true).unwrap();
        for text in yes {
            assert!(compiled.matches(text), "{pattern:?} should match {text:?}");
        }
        for text in no {
            assert!(!compiled.matches(text), "{pattern:?} should not match {text:?}");
        }
    }
}

#[test]
fn bad_patterns_are_refused_with_a_reason_in_one_line() {
    for (pattern, text) in [
        ("[a", "unclosed character class"),
        ("[b-a]", "invalid range"),
        ("{a", "unclosed alternate group"),
        ("a}", "unopened alternate group"),
        ("a\\", "dangling '\\'"),
    ] {
        let error = glob(pattern, false).expect_err(pattern);
        assert!(error.contains("is not a glob") && error.contains(text), "{error}");
    }
    for (pattern, text) in [
        ("(", "unclosed group"),
        ("a**", ""),
        ("*a", "repetition operator missing expression"),
        (r"(a)\1", "backreferences are not supported"),
        (
            "(?=a)",
            "look-around, including look-ahead and look-behind, is not supported",
        ),
        ("[z-a]", "invalid character class range"),
    ] {
        match Compiler::default().regex(pattern) {
            Ok(_) => assert!(text.is_empty(), "{pattern} compiles"),
            Err(error) => {
                assert!(
                    error.contains("is not a valid pattern") && error.contains(text),
                    "{error}"
                );
                assert!(!error.contains('\n'), "{error}");
            }
        }
    }
}

/// Compiling takes well under a second even here, and what is too large is refused, not tried.
#[test]
#[allow(clippy::disallowed_methods, reason = "the bound is on real time")]
fn patterns_that_explode_are_refused_in_bounded_time() {
    let start = Instant::now();
    let bombs = [
        r"\pL{1000}".to_owned(),
        "((((a{100}){100}){100}){100}){100}".into(),
        r"(\w{50}|\d{50}){50}".into(),
        format!("{}a{}", "(".repeat(2000), ")".repeat(2000)),
        r"(?i)[^\pL]{900}".into(),
    ];
    for bomb in &bombs {
        let error = Compiler::default().regex(bomb).expect_err(bomb);
        assert!(
            error.contains("too large") || error.contains("not a valid pattern"),
            "{error}"
        );
    }
    // An alternation is as large as its text, however many combinations there are.
    let many = "{a,b}".repeat(800);
    assert!(glob(&many, false).unwrap().matches(&"ab".repeat(400)));
    assert!(!glob(&many, true).unwrap().matches(&"ab".repeat(399)));
    let nested = format!("{}a{}", "{".repeat(2047), "}".repeat(2047));
    assert!(glob(&nested, false).is_err());
    assert!(!glob(&"*a".repeat(200), false).unwrap().matches(&"a".repeat(199)));
    assert!(glob(&"*a".repeat(2048), true).unwrap_err().contains("too large"));
    assert!(!glob(&"*a".repeat(200), true).unwrap().matches(&"a".repeat(199)));
    let classes = format!("[{}]", "é-ü".repeat(800));
    assert!(glob(&classes, true).is_ok());
    // All patterns of one filter share a budget.
    let mut compiler = Compiler::default();
    let compiled = (0..1024).take_while(|_| compiler.regex(r"\w+\s\w+").is_ok()).count();
    assert!((20..1000).contains(&compiled), "{compiled}");
    let error = (0..1024).find_map(|_| compiler.regex("a").err());
    assert!(error.is_some_and(|e| e.contains("too many")));
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

/// What people write fits.
#[test]
fn ordinary_patterns_are_small_enough() {
    let mut compiler = Compiler::default();
    for pattern in [
        r"^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}$",
        r"\b\w+ing\b",
        r"(?i)\b(error|warning|fatal)\b.*\btimeout\b",
        r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}",
        r"[\p{L}\p{M}]{1,20}",
        r"^(\w+\s){3,8}\w+$",
    ] {
        assert!(compiler.regex(pattern).is_ok(), "{pattern}");
    }
    let mut compiler = Compiler::default();
    for n in 0..400 {
        compiler
            .glob(&format!("*case{n}?*"), true)
            .expect("hundreds of small patterns fit");
    }
}

proptest! {
    /// Literal ends, the trimmed expression and the whole expression are the same glob.
    #[test]
    fn every_form_of_a_glob_matches_the_same(
        pieces in prop::collection::vec(prop::sample::select(vec!["*", "a", "b", "ab", "é", ".", "\\*", "/"]), 0..6),
        text in "[abé./*]{0,8}",
    ) {
        let pattern: String = pieces.concat();
        let compiled = glob(&pattern, false).unwrap();
        // Among alternatives nothing is literal and nothing can be trimmed.
        let as_regex = glob(&format!("{{{pattern}x,{pattern}}}"), false).unwrap();
        let with_x = compiled.matches(&text) || text.strip_suffix('x').is_some_and(|t| compiled.matches(t));
        if !pattern.contains("**") && !pattern.is_empty() {
            prop_assert_eq!(as_regex.matches(&text), with_x, "{} {}", pattern, text);
        }
    }
}
