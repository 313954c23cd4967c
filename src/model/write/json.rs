//! Reading single values out of JSON text that serde_json has already found well formed.
//!
//! Nothing here validates the grammar again; on other text the results are wrong but nothing panics.

use std::borrow::Cow;

/// What a value is, as it stands in messages to clients.
pub(super) fn kind(text: &str) -> &'static str {
    match text.as_bytes().first() {
        Some(b'"') => "string",
        Some(b'[') => "array",
        Some(b'{') => "object",
        Some(b't' | b'f') => "bool",
        Some(b'n') => "null",
        Some(b'-' | b'0'..=b'9') if is_integer(text) => "integer",
        Some(b'-' | b'0'..=b'9') => "number",
        _ => "nothing",
    }
}

/// Whether a number is written without fraction and exponent.
pub(super) fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

/// The content of a string; borrowed unless it has escapes. `Err` is the reason for the client.
pub(super) fn string(text: &str) -> Result<Cow<'_, str>, String> {
    let Some(inner) = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) else {
        return Err(format!("expects string, but got {}", kind(text)));
    };
    if !inner.as_bytes().contains(&b'\\') {
        return Ok(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(text)
        .map(Cow::Owned)
        .map_err(|_| "has an invalid escape: a \\u surrogate without its other half".to_owned())
}

/// The elements of an array, each as its trimmed text.
pub(super) struct Elements<'a> {
    text: &'a str,
    at: usize,
}

/// Goes through the elements of an array; `None` when the text is no array.
pub(super) fn elements(text: &str) -> Option<Elements<'_>> {
    text.starts_with('[').then_some(Elements { text, at: 1 })
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b',' | b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
        if matches!(bytes.get(self.at), None | Some(b']')) {
            return None;
        }
        let start = self.at;
        // A stray closing brace cannot occur in valid text; one byte of progress keeps other text finite.
        self.at = end_of_value(bytes, start).max(start + 1);
        self.text.get(start..self.at)
    }
}

fn end_of_value(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    let mut depth = 0usize;
    while let Some(b) = bytes.get(at) {
        match b {
            b'"' => {
                at = end_of_string(bytes, at);
                if depth == 0 {
                    return at;
                }
                continue;
            }
            b'[' | b'{' => depth += 1,
            b']' | b'}' if depth <= 1 => return at + depth,
            b']' | b'}' => depth -= 1,
            b',' | b' ' | b'\n' | b'\t' | b'\r' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

fn end_of_string(bytes: &[u8], quote: usize) -> usize {
    let mut at = quote + 1;
    while let Some(b) = bytes.get(at) {
        match b {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Calls `each` with every number of `text`, an array with or without its brackets, and returns how
/// many there were. Allocates nothing; correctly rounded (Lemire, "Number parsing at a gigabyte per
/// second", 2021).
pub(super) fn numbers<N: fast_float2::FastFloat>(
    text: &str,
    mut each: impl FnMut(usize, N) -> Result<(), String>,
) -> Result<usize, String> {
    let text = text.strip_prefix('[').unwrap_or(text);
    let text = text.strip_suffix(']').unwrap_or(text);
    let bytes = text.as_bytes();
    let (mut at, mut count) = (0, 0);
    loop {
        while matches!(bytes.get(at), Some(b',' | b' ' | b'\n' | b'\t' | b'\r')) {
            at += 1;
        }
        match bytes.get(at) {
            None => return Ok(count),
            Some(b'-' | b'0'..=b'9') => {}
            Some(_) => {
                let got = kind(text.get(at..).unwrap_or(""));
                return Err(format!("expects numbers, but element {count} is {got}"));
            }
        }
        let Ok((number, used)) = fast_float2::parse_partial::<N, _>(&bytes[at..]) else {
            return Err(format!("has no number as element {count}"));
        };
        each(count, number)?;
        at += used;
        count += 1;
    }
}
