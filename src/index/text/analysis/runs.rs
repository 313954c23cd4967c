//! Segmentation of the tokenizers before `word_v3`: runs of letters and digits.
//!
//! Character classes come from the versioned Unicode data that alyze uses (Unicode 17), so that an
//! upgrade of the Rust toolchain cannot move token boundaries. The originals used Unicode 10 and
//! 16; characters assigned since then are the only difference.

use tpuf_icu_properties_211::props::{
    Alphabetic, Emoji, EmojiModifier, GeneralCategory, GeneralCategoryGroup, Ideographic, RegionalIndicator,
};
use tpuf_icu_properties_211::{CodePointMapData, CodePointSetData};

const ZERO_WIDTH_JOINER: char = '\u{200d}';
const EMOJI_PRESENTATION: char = '\u{fe0f}';
const KEYCAP: char = '\u{20e3}';

/// Which characters make up a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runs {
    /// Runs of alphanumerics, ideographs among them.
    V0,
    /// As V0, and emoji glyph sequences.
    V1,
    /// As V1, but every ideograph is a token of its own.
    V2,
}

impl Runs {
    /// The segments of `text`, first to last, each with the byte where it begins.
    pub(super) fn segments(self, text: &str) -> impl Iterator<Item = (usize, &str)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            while let Some(first) = text[at..].chars().next() {
                let start = at;
                let (len, is_token) = self.first_segment(&text[start..], first);
                at += len;
                if is_token {
                    return Some((start, &text[start..at]));
                }
            }
            None
        })
    }

    /// How many bytes the first segment of `text` has, at least one character, and whether it is a
    /// token rather than a separator.
    fn first_segment(self, text: &str, first: char) -> (usize, bool) {
        if self != Self::V0
            && let Some(len) = emoji_len(text)
        {
            return (len, true);
        }
        if self == Self::V2 && is_ideograph(first) {
            return (first.len_utf8(), true);
        }
        match self.run_len(text) {
            0 => (first.len_utf8(), false),
            len => (len, true),
        }
    }

    /// How many bytes of alphanumerics `text` begins with.
    fn run_len(self, text: &str) -> usize {
        text.char_indices()
            .find(|&(at, c)| !self.is_in_run(c) || (self != Self::V0 && keycap_len(&text[at..]).is_some()))
            .map_or(text.len(), |(at, _)| at)
    }

    fn is_in_run(self, c: char) -> bool {
        match self {
            Self::V0 | Self::V1 => is_alphanumeric(c) || is_ideograph(c),
            Self::V2 => is_alphanumeric(c) && !is_ideograph(c),
        }
    }
}

fn is_alphanumeric(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric();
    }
    CodePointSetData::new::<Alphabetic>().contains(c)
        || GeneralCategoryGroup::Number.contains(CodePointMapData::<GeneralCategory>::new().get(c))
}

fn is_ideograph(c: char) -> bool {
    !c.is_ascii() && CodePointSetData::new::<Ideographic>().contains(c)
}

/// Characters shown as a glyph of their own: not the digits, `#` and `*` that Unicode counts as
/// emoji for the sake of keycaps, and not letters such as `ℹ`.
fn is_pictograph(c: char) -> bool {
    !c.is_ascii() && CodePointSetData::new::<Emoji>().contains(c) && !is_alphanumeric(c)
}

fn is_regional(c: char) -> bool {
    CodePointSetData::new::<RegionalIndicator>().contains(c)
}

/// How many bytes the emoji glyph sequence has that `text` begins with; `None` when there is none.
/// A sequence as of UTS #51: a flag, a keycap, or pictographs with their modifiers, presentation
/// selectors and tags, held together by zero-width joiners.
fn emoji_len(text: &str) -> Option<usize> {
    let mut chars = text.chars();
    let first = chars.next()?;
    if first.is_ascii() {
        return keycap_len(text);
    }
    if is_regional(first) {
        let second = chars.next().filter(|c| is_regional(*c));
        return Some(first.len_utf8() + second.map_or(0, char::len_utf8));
    }
    let mut len = pictograph_len(text)?;
    while let Some(joined) = text[len..].strip_prefix(ZERO_WIDTH_JOINER)
        && let Some(next) = pictograph_len(joined)
    {
        len += ZERO_WIDTH_JOINER.len_utf8() + next;
    }
    Some(len)
}

/// A keycap: a digit, `#` or `*`, perhaps a presentation selector, and the enclosing key.
fn keycap_len(text: &str) -> Option<usize> {
    let key = text.strip_prefix(|c: char| c.is_ascii_digit() || c == '#' || c == '*')?;
    let key = key.strip_prefix(EMOJI_PRESENTATION).unwrap_or(key);
    key.strip_prefix(KEYCAP).map(|rest| text.len() - rest.len())
}

/// One pictograph and what modifies it.
fn pictograph_len(text: &str) -> Option<usize> {
    let mut rest = text.strip_prefix(is_pictograph)?;
    let modifiers = CodePointSetData::new::<EmojiModifier>();
    rest = rest.strip_prefix(|c: char| modifiers.contains(c)).unwrap_or(rest);
    rest = rest.strip_prefix(EMOJI_PRESENTATION).unwrap_or(rest);
    // Tags spell out the flags of regions such as Scotland.
    rest = rest.trim_start_matches(|c: char| ('\u{e0020}'..='\u{e007f}').contains(&c));
    Some(text.len() - rest.len())
}
