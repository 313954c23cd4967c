//! Characters without their case.

/// What all cases of a character have in common, for queries that ignore case: its simple case folding.
pub fn fold(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_lowercase();
    }
    // Through upper case, which unites what has several lower cases, as σ and ς. The dotless ı is
    // the exception: its upper case is that of i, and yet it is another letter.
    match c {
        'ı' => c,
        _ => {
            let upper = only(c.to_uppercase()).unwrap_or(c);
            only(upper.to_lowercase()).unwrap_or(upper)
        }
    }
}

/// The only character of a mapping: a few letters have another case of several characters.
fn only(mut mapped: impl Iterator<Item = char>) -> Option<char> {
    mapped.next().filter(|_| mapped.next().is_none())
}
