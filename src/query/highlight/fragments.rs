//! Where texts are cut.

use std::ops::Range;

use alyze::uax29::sentence;

use crate::model::query::FragmentBy;

/// A paragraph separator, the only character that says so whatever the lines around it.
const PARAGRAPH_SEPARATOR: char = '\u{2029}';

/// Where the fragments of `text` end, ascending, the end of the text last. Empty for words, which are
/// tokens.
pub(super) fn ends(by: FragmentBy, text: &str, ends: &mut Vec<usize>) {
    ends.clear();
    match by {
        FragmentBy::Word => {}
        FragmentBy::Nothing => ends.push(text.len()),
        FragmentBy::Sentence => sentence::tokenize(text, sentence::Options::default(), |end| {
            // The beginning of the text is a break too.
            if end > 0 {
                ends.push(end);
            }
            true
        }),
        FragmentBy::Paragraph => paragraphs(text, ends),
    }
}

/// Paragraphs end behind lines that have nothing but white space, and behind [`PARAGRAPH_SEPARATOR`].
fn paragraphs(text: &str, ends: &mut Vec<usize>) {
    let mut at = 0;
    for line in text.split_inclusive(['\n', '\r', PARAGRAPH_SEPARATOR]) {
        // Between CR and LF there is an empty line to `split_inclusive`, but not to the reader.
        let inside_crlf = line == "\n" && text[..at].ends_with('\r');
        at += line.len();
        let blank = !inside_crlf && line.trim().is_empty();
        if blank || line.ends_with(PARAGRAPH_SEPARATOR) {
            ends.push(at);
        }
    }
    if ends.last() != Some(&text.len()) {
        ends.push(text.len());
    }
}

/// `fragment` without white space at its ends, unless a tokenizer takes it for a part of a match.
///
/// * `matched` — from the first match of the fragment to the end of its last
pub(super) fn trim(text: &str, fragment: &Range<usize>, matched: &Range<usize>) -> Range<usize> {
    let cut = &text[fragment.clone()];
    let start = fragment.end - cut.trim_start().len();
    let end = fragment.start + cut.trim_end().len();
    start.min(matched.start)..end.max(matched.end)
}
