//! Which namespaces a grant covers: literal names, globs and regular expressions (api-keys reference §4).

use globset::{GlobBuilder, GlobMatcher};
use regex::{Regex, RegexBuilder};

/// The most entries of one grant.
pub const ENTRIES_MAX: usize = 64;
/// The longest entry, in bytes.
pub const ENTRY_BYTES_MAX: usize = 256;
/// What one compiled regular expression may take, in bytes.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// One entry, compiled.
#[derive(Clone, Debug)]
enum Pattern {
    Any,
    /// Only the characters of names: nothing but this name, also where a regular expression would read `.`
    /// as any character.
    Literal,
    Glob(GlobMatcher),
    /// Anchored at both ends; linear in the length of the name.
    Regex(Regex),
    /// Not a regular expression: matches nothing.
    Nothing,
}

/// The namespaces that a grant covers. Without entries: none.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    entries: Vec<(Box<str>, Pattern)>,
}

impl Patterns {
    /// Covers every namespace.
    pub fn any() -> Self {
        Self {
            entries: vec![("*".into(), Pattern::Any)],
        }
    }

    /// Covers one namespace.
    pub fn only(name: &str) -> Self {
        Self {
            entries: vec![(name.into(), Pattern::Literal)],
        }
    }

    /// Compiles entries.
    ///
    /// # Errors
    ///
    /// A sentence for the client when there are too many, or one is too long.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut compiled = Vec::new();
        for entry in entries {
            if entry.is_empty() || entry.len() > ENTRY_BYTES_MAX {
                return Err(format!(
                    "a pattern of collections must have 1 to {ENTRY_BYTES_MAX} bytes, got {}",
                    entry.len()
                ));
            }
            if compiled.len() == ENTRIES_MAX {
                return Err(format!("more than {ENTRIES_MAX} patterns of collections"));
            }
            compiled.push((Box::from(entry), compile(entry)));
        }
        Ok(Self { entries: compiled })
    }

    /// The entries as they were given.
    pub fn entries(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(text, _)| &**text)
    }

    /// Whether a namespace is covered.
    pub fn matches(&self, name: &str) -> bool {
        self.entries.iter().any(|(text, pattern)| match pattern {
            Pattern::Any => true,
            Pattern::Literal => &**text == name,
            Pattern::Glob(glob) => glob.is_match(name),
            Pattern::Regex(regex) => regex.is_match(name),
            Pattern::Nothing => false,
        })
    }

    /// Whether every namespace is covered.
    pub fn is_any(&self) -> bool {
        self.entries.iter().any(|(_, p)| matches!(p, Pattern::Any))
    }

    /// Whether everything that these cover is surely covered by the other: entries are the same, a name that
    /// the other matches, or a glob `ab*` below a glob `a*`. "No" may be said of patterns that are covered in
    /// ways not looked for.
    pub fn is_subset(&self, other: &Self) -> bool {
        let prefix = |text: &str, pattern: &Pattern| match pattern {
            Pattern::Glob(_) => {
                let stem = text.strip_suffix('*')?;
                (!stem.contains(['*', '?', '[', ']', '{', '}', '\\'])).then(|| stem.to_owned())
            }
            _ => None,
        };
        other.is_any()
            || self.entries.iter().all(|(text, pattern)| match pattern {
                Pattern::Nothing => true,
                Pattern::Literal => other.matches(text),
                _ => other.entries.iter().any(|(theirs, their_pattern)| {
                    theirs == text
                        || match (prefix(text, pattern), prefix(theirs, their_pattern)) {
                            (Some(narrow), Some(wide)) => narrow.starts_with(&wide),
                            _ => false,
                        }
                }),
            })
    }
}

/// Grants are the same when they were given the same entries.
impl PartialEq for Patterns {
    fn eq(&self, other: &Self) -> bool {
        self.entries().eq(other.entries())
    }
}

/// Whether an entry is compiled as a regular expression.
pub fn is_regular_expression(entry: &str) -> bool {
    !is_name(entry) && !is_glob(entry)
}

fn is_name(entry: &str) -> bool {
    let of_names = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    entry.bytes().all(of_names)
}

fn compile(entry: &str) -> Pattern {
    if entry == "*" {
        Pattern::Any
    } else if is_name(entry) {
        Pattern::Literal
    } else if is_glob(entry) {
        match GlobBuilder::new(entry)
            .literal_separator(false)
            .backslash_escape(true)
            .build()
        {
            Ok(glob) => Pattern::Glob(glob.compile_matcher()),
            Err(_) => Pattern::Nothing,
        }
    } else {
        let anchored = format!("^(?:{entry})$");
        let built = RegexBuilder::new(&anchored).size_limit(REGEX_BYTES_MAX).build();
        // The entry must be a regular expression by itself: `)|(` must not break out of the group.
        match (built, regex_syntax_is_closed(entry)) {
            (Ok(regex), true) => Pattern::Regex(regex),
            _ => Pattern::Nothing,
        }
    }
}

/// `*` or `?` that does not repeat what is before it.
fn is_glob(entry: &str) -> bool {
    let bytes = entry.as_bytes();
    (0..bytes.len()).any(|i| {
        let wild = matches!(bytes[i], b'*' | b'?');
        let repeats = i > 0 && matches!(bytes[i - 1], b'.' | b']' | b')' | b'\\');
        let opens_group = i > 0 && bytes[i - 1] == b'(' && bytes[i] == b'?';
        wild && !repeats && !opens_group
    })
}

fn regex_syntax_is_closed(entry: &str) -> bool {
    RegexBuilder::new(entry).size_limit(REGEX_BYTES_MAX).build().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(entries: &[&'static str]) -> Patterns {
        Patterns::parse(entries.iter().copied()).expect("legal")
    }

    #[test]
    fn names_globs_and_regular_expressions_match_whole_names() {
        for (entry, yes, no) in [
            ("*", vec!["a", "products"], vec![]),
            ("coll", vec!["coll"], vec!["collection1", "acoll"]),
            ("coll.*", vec!["coll", "collection1"], vec!["acoll", "col"]),
            ("v1.0", vec!["v1.0"], vec!["v1x0"]),
            ("shop_*", vec!["shop_", "shop_a"], vec!["shop", "xshop_a"]),
            ("shop_?", vec!["shop_a"], vec!["shop_", "shop_ab"]),
            ("(a|b)c", vec!["ac", "bc"], vec!["a", "c", "acx"]),
            ("[ab]*", vec!["", "abba"], vec!["abc"]),
            (")|(.*", vec![], vec!["a", ""]),
            ("a(", vec![], vec!["a", "a("]),
            ("(?i)shop", vec!["SHOP"], vec!["shops"]),
        ] {
            let patterns = of(&[entry]);
            for name in yes {
                assert!(patterns.matches(name), "{entry} {name}");
            }
            for name in no {
                assert!(!patterns.matches(name), "{entry} {name}");
            }
        }
        assert!(!of(&[]).matches("a"), "no entry covers nothing");
    }

    #[test]
    fn bounds_hold() {
        assert!(Patterns::parse([""]).is_err());
        assert!(Patterns::parse([&*"a".repeat(257)]).is_err());
        assert!(Patterns::parse(vec!["a"; 65]).is_err());
        assert!(Patterns::parse(vec!["a"; 64]).is_ok());
        let exponential = of(&["(a*)*b"]);
        assert!(!exponential.matches(&"a".repeat(128)));
        assert!(!of(&["(x{1000}){1000}"]).matches("x"), "too large to compile");
    }

    #[test]
    fn a_subset_is_never_wider() {
        for (narrow, wide, is) in [
            (vec!["a"], vec!["*"], true),
            (vec!["a"], vec!["a", "b"], true),
            (vec!["shop_1"], vec!["shop_*"], true),
            (vec!["shop_1"], vec!["shop_.*"], true),
            (vec!["shop_a*"], vec!["shop_*"], true),
            (vec!["shop_*"], vec!["shop_a*"], false),
            (vec!["shop_?"], vec!["shop_*"], false),
            (vec!["*"], vec!["a*"], false),
            (vec!["a", "c"], vec!["a", "b"], false),
            (vec!["x.*"], vec!["x.*"], true),
            (vec!["x.*"], vec!["x.+"], false),
            (vec![], vec![], true),
            (vec!["a"], vec![], false),
        ] {
            assert_eq!(of(&narrow).is_subset(&of(&wide)), is, "{narrow:?} {wide:?}");
        }
    }
}
