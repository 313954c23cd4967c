//! Answers as people read them: columns for lists, lines for one thing.

use chrono::{DateTime, SecondsFormat};
use serde_json::Value as Json;

/// What Typesense's interface writes for "never", in seconds since the epoch.
const NEVER: i64 = 64_723_363_199;

/// A heading, and the field of the answer that stands below it.
pub type Column = (&'static str, &'static str);

/// A line of headings and one line for each element of `items`.
pub fn list(items: &Json, columns: &[Column]) -> String {
    let items = items.as_array().map_or(&[][..], Vec::as_slice);
    let mut lines: Vec<Vec<String>> = vec![columns.iter().map(|(heading, _)| (*heading).to_owned()).collect()];
    lines.extend(
        items
            .iter()
            .map(|item| columns.iter().map(|(_, field)| cell(item, field)).collect()),
    );
    let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let text: Vec<String> = lines.iter().map(|line| padded(line, &widths)).collect();
    text.join("\n")
}

/// One line for each field that `item` has.
pub fn object(item: &Json, columns: &[Column]) -> String {
    let shown: Vec<&Column> = columns.iter().filter(|(_, field)| !at(item, field).is_null()).collect();
    let width = shown
        .iter()
        .map(|(heading, _)| heading.chars().count())
        .max()
        .unwrap_or(0);
    let line = |(heading, field): &&Column| padded(&[(*heading).to_owned(), cell(item, field)], &[width, 0]);
    let text: Vec<String> = shown.iter().map(line).collect();
    text.join("\n")
}

/// Text without what would control a terminal.
pub fn clean(text: &str) -> String {
    let safe = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().map(safe).collect()
}

/// The field, which may be inside another: `owner.username`.
fn at<'a>(item: &'a Json, field: &str) -> &'a Json {
    field.split('.').fold(item, |inside, name| &inside[name])
}

fn padded(cells: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        line.push_str(cell);
        line.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count()) + 2));
    }
    line.trim_end().to_owned()
}

fn cell(item: &Json, field: &str) -> String {
    let value = at(item, field);
    let is_time = field.ends_with("_at") || matches!(field, "exp" | "ValidFrom");
    match value.as_i64() {
        Some(seconds) if is_time => time(seconds),
        _ => plain(value),
    }
}

/// A time in UTC.
fn time(seconds: i64) -> String {
    if !(0..NEVER).contains(&seconds) {
        return "never".into();
    }
    match DateTime::from_timestamp(seconds, 0) {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::Secs, true),
        None => seconds.to_string(),
    }
}

fn plain(value: &Json) -> String {
    match value {
        Json::Null => "-".into(),
        Json::Bool(true) => "yes".into(),
        Json::Bool(false) => "no".into(),
        Json::String(text) if text.is_empty() => "-".into(),
        Json::String(text) => clean(text),
        Json::Array(items) if items.is_empty() => "-".into(),
        Json::Array(items) if items.len() == 1 => plain(&items[0]),
        Json::Array(items) if !items.iter().any(Json::is_array) => {
            let items: Vec<String> = items.iter().map(plain).collect();
            items.join(", ")
        }
        other => clean(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_have_columns() {
        let items = json!([
            {"id": 1, "name": "a\u{1b}[2Jb", "actions": ["x", "y"], "expires_at": 64_723_363_199_i64},
            {"id": 12, "name": "", "actions": [], "expires_at": 1_893_456_000, "owner": {"username": "ana"}},
        ]);
        let columns = [
            ("ID", "id"),
            ("NAME", "name"),
            ("ACTIONS", "actions"),
            ("EXPIRES", "expires_at"),
            ("OWNER", "owner.username"),
        ];
        let expected = "ID  NAME    ACTIONS  EXPIRES               OWNER\n\
                        1   a\u{fffd}[2Jb  x, y     never                 -\n\
                        12  -       -        2030-01-01T00:00:00Z  ana";
        assert_eq!(list(&items, &columns), expected);
        assert_eq!(list(&json!([]), &[("ID", "id")]), "ID");
        assert_eq!(list(&json!({"no": "list"}), &[("ID", "id")]), "ID");
    }

    #[test]
    fn one_thing_has_lines() {
        let item = json!({"name": "ci", "exp": -1, "filters": ["And", [["a", "Eq", 1]]], "is": true, "absent": null});
        let columns = [
            ("NAME", "name"),
            ("UNTIL", "exp"),
            ("FILTERS", "filters"),
            ("IS", "is"),
            ("ABSENT", "absent"),
            ("NONE", "none"),
        ];
        let expected = "NAME     ci\nUNTIL    never\nFILTERS  [\"And\",[[\"a\",\"Eq\",1]]]\nIS       yes";
        assert_eq!(object(&item, &columns), expected);
        assert_eq!(object(&json!(7), &columns), "");
    }
}
