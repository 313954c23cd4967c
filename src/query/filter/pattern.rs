//! Globs and regular expressions.
//!
//! Globs have the syntax of the crate globset, but match characters where globset matches bytes:
//! `?` stands for one `é`, and `IGlob` knows that `É` is its upper case. A `*` also matches `/`.
//!
//! # Bounds
//!
//! A pattern is at most `pattern_bytes_max` long. What it compiles to, and what searching with it
//! keeps in memory for each thread, is at most [`PROGRAM_BYTES`]'s last entry and
//! [`FILTER_BYTES_MAX`] for all patterns of a filter. Searching takes time in proportion to the
//! text times the program: there is no backtracking. Where that can be long it is done in steps, so that it ends
//! when nobody waits any more.

use globset::GlobBuilder;
use regex::{Regex, RegexBuilder};

use super::stepwise::Stepwise;
use crate::index::attribute::Candidates;

/// Sizes that programs are tried with, in bytes. The crate tells only whether a program is larger,
/// so that a pattern costs the least of these that is enough.
const PROGRAM_BYTES: [usize; 4] = [16 << 10, 64 << 10, 256 << 10, 1 << 20];
/// All programs of one filter with their search caches, in bytes.
const FILTER_BYTES_MAX: usize = 64 << 20;

/// Programs up to this size are quick enough on any text.
const SMALL_PROGRAM_BYTES: usize = 16 << 10;
/// Texts up to this length are quickly searched with any program.
const SHORT_TEXT_BYTES: usize = 4096;

/// A compiled expression, twice if it is large.
#[derive(Clone, Debug)]
pub(super) struct Expression {
    regex: Regex,
    /// For long texts.
    stepwise: Option<Stepwise>,
}

impl Expression {
    /// What every text has that matches.
    pub(super) fn candidates(&self) -> Candidates {
        Candidates::regex(self.regex.as_str())
    }

    pub(super) fn is_match(&self, text: &str) -> bool {
        match &self.stepwise {
            Some(stepwise) if text.len() > SHORT_TEXT_BYTES => stepwise.is_match(text),
            _ => self.regex.is_match(text),
        }
    }
}

/// A compiled glob or regular expression.
#[derive(Clone, Debug)]
pub(super) enum Pattern {
    /// The text is exactly this.
    Exactly(Box<str>),
    /// The text begins and ends with these, without overlap.
    Ends(Box<str>, Box<str>),
    /// The expression matches somewhere in the text.
    Regex(Expression),
}

impl Pattern {
    pub(super) fn matches(&self, text: &str) -> bool {
        match self {
            Pattern::Exactly(whole) => text == &**whole,
            Pattern::Ends(start, end) => text.strip_prefix(&**start).is_some_and(|rest| rest.ends_with(&**end)),
            Pattern::Regex(regex) => regex.is_match(text),
        }
    }
}

/// Compiles the patterns of one filter and adds up what they take.
pub(super) struct Compiler {
    left: usize,
}

impl Default for Compiler {
    fn default() -> Self {
        Self { left: FILTER_BYTES_MAX }
    }
}

impl Compiler {
    /// Compiles a glob. The error says what is wrong with it.
    pub(super) fn glob(&mut self, glob: &str, ignore_case: bool) -> Result<Pattern, String> {
        let parsed = GlobBuilder::new(glob).case_insensitive(ignore_case).build();
        let parsed = parsed.map_err(|e| format!("is not a glob: {}", e.kind()))?;
        let body = body_of(parsed.regex()).ok_or("is not a glob that can be compiled")?;
        // What is in the middle is found fastest by the crate regex.
        if !ignore_case && let Some(pieces) = literal_pieces(&body) {
            match <[Box<str>; 1]>::try_from(pieces).map_err(<[Box<str>; 2]>::try_from) {
                Ok([whole]) => return Ok(Pattern::Exactly(whole)),
                Err(Ok([start, end])) => return Ok(Pattern::Ends(start, end)),
                Err(Err(_)) => {}
            }
        }
        // Looking for the rest anywhere is faster than matching all of the text.
        let (start, rest) = match body.trim_start_matches(".*") {
            rest if rest.len() < body.len() => ("", rest),
            rest => ("^", rest),
        };
        let (end, rest) = match rest.trim_end_matches(".*") {
            inner if inner.len() < rest.len() => ("", inner),
            inner => ("$", inner),
        };
        let flags = if ignore_case { "(?is)" } else { "(?s)" };
        self.compile(&format!("{flags}{start}{rest}{end}"))
    }

    /// Compiles a regular expression. The error says what is wrong with it.
    pub(super) fn regex(&mut self, regex: &str) -> Result<Pattern, String> {
        self.compile(regex)
    }

    fn compile(&mut self, regex: &str) -> Result<Pattern, String> {
        for program_bytes in PROGRAM_BYTES {
            // A small cache makes searches with a large program slow.
            let cache_bytes = (8 * program_bytes).clamp(128 << 10, 2 << 20);
            let programs = if program_bytes > SMALL_PROGRAM_BYTES { 2 } else { 1 };
            let bytes = programs * program_bytes + cache_bytes;
            if bytes > self.left {
                return Err("is one of too many, or too large, patterns in one filter".into());
            }
            let built = RegexBuilder::new(regex)
                .size_limit(program_bytes)
                .dfa_size_limit(cache_bytes)
                .build();
            match built {
                Ok(built) => {
                    self.left -= bytes;
                    let stepwise = match program_bytes > SMALL_PROGRAM_BYTES {
                        true => Some(Stepwise::new(regex, cache_bytes).ok_or("is too large a pattern")?),
                        false => None,
                    };
                    return Ok(Pattern::Regex(Expression { regex: built, stepwise }));
                }
                Err(regex::Error::CompiledTooBig(_)) => {}
                Err(e) => return Err(format!("is not a valid pattern: {}", reason(&e.to_string()))),
            }
        }
        Err("is too large a pattern: repetitions multiply its size".into())
    }
}

/// The last line of a syntax error, behind a drawing of where it is.
fn reason(error: &str) -> &str {
    let last = error.lines().last().unwrap_or(error);
    last.strip_prefix("error: ").unwrap_or(last)
}

/// The regular expression that globset makes of a glob, without its flags and anchors, and of
/// characters: globset means bytes, and writes all that are not ASCII as `\xhh`. `None` when it is
/// of another form.
fn body_of(regex: &str) -> Option<String> {
    let regex = regex.strip_prefix("(?-u)")?;
    let regex = regex.strip_prefix("(?i)").unwrap_or(regex);
    let body = regex.strip_prefix('^')?.strip_suffix('$')?;
    let mut bytes = Vec::with_capacity(body.len());
    let mut rest = body.as_bytes();
    loop {
        rest = match rest {
            [] => break,
            [b'\\', b'x', high, low, rest @ ..] => {
                let digit = |hex: &u8| char::from(*hex).to_digit(16);
                bytes.push(u8::try_from(digit(high)? * 16 + digit(low)?).ok()?);
                rest
            }
            // An escape ends with the character it stands before: `\\x` is a backslash and an x.
            [b'\\', escaped, rest @ ..] => {
                bytes.extend([b'\\', *escaped]);
                rest
            }
            [byte, rest @ ..] => {
                bytes.push(*byte);
                rest
            }
        };
    }
    String::from_utf8(bytes).ok()
}

/// The texts between the `.*` of an expression that has nothing else; one when it has no `.*`.
fn literal_pieces(body: &str) -> Option<Vec<Box<str>>> {
    let (mut pieces, mut piece) = (Vec::new(), String::new());
    let mut chars = body.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => piece.push(chars.next()?),
            '.' if chars.as_str().starts_with('*') => {
                chars.next();
                // Several in a row are one.
                if !piece.is_empty() || pieces.is_empty() {
                    pieces.push(std::mem::take(&mut piece).into());
                }
            }
            '.' | '[' | '(' | ')' | '|' | '?' | '*' => return None,
            literal => piece.push(literal),
        }
    }
    pieces.push(piece.into());
    Some(pieces)
}
