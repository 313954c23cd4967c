use serde::Deserialize;

use super::*;

#[derive(Deserialize, Debug, PartialEq, Default)]
#[serde(default)]
struct Fields {
    name: String,
    dry_run: bool,
}

#[test]
fn bodies_are_read_as_what_they_are() {
    let fields = |name: &str, dry_run| Fields {
        name: name.into(),
        dry_run,
    };
    for (body, expected) in [
        ("", fields("", false)),
        (" \n", fields("", false)),
        ("null", fields("", false)),
        ("{}", fields("", false)),
        (r#"{"Name": "a", "DRY_RUN": true}"#, fields("a", true)),
        (r#"{"name": "a", "more": [1]}"#, fields("a", false)),
    ] {
        assert_eq!(parse::<Fields>(body.as_bytes()).expect(body), expected);
    }
    for bad in ["[]", "1", "{", r#"{"name": 1}"#, "\u{0}", r#"{"dry_run": "yes"}"#] {
        let error = parse::<Fields>(bad.as_bytes()).expect_err(bad);
        assert_eq!(error.kind, ErrorKind::Invalid, "{bad}");
    }
}

#[test]
fn times_are_printed_as_turso_does() {
    assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
    assert_eq!(rfc3339(1_767_323_045), "2026-01-02T03:04:05Z");
}
