//! Datetimes: milliseconds since the Unix epoch inside, ISO-8601 outside.

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, Utc};

/// The last millisecond of the year 9999, after which [`format_ms`] can print none. No clock is believed that is later.
pub const CLOCK_MS_MAX: u64 = 253_402_300_799_999;

/// Parses an ISO-8601 date, or date and time, with or without offset; without, it is UTC. Finer
/// than a millisecond is cut off. `None` when it is not a date this format can hold.
pub fn parse(text: &str) -> Option<i64> {
    if text.len() > 64 {
        return None;
    }
    if let Ok(t) = DateTime::parse_from_rfc3339(text) {
        return Some(t.timestamp_millis());
    }
    // Offsets without a colon, a blank instead of the T, and no offset at all.
    for format in ["%Y-%m-%dT%H:%M:%S%.f%z", "%Y-%m-%d %H:%M:%S%.f%z"] {
        if let Ok(t) = DateTime::parse_from_str(text, format) {
            return Some(t.timestamp_millis());
        }
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M"] {
        if let Ok(t) = NaiveDateTime::parse_from_str(text, format) {
            return Some(t.and_utc().timestamp_millis());
        }
    }
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_millis())
}

/// Whether `ms` lies in the years that [`format()`] can print.
pub fn in_range(ms: i64) -> bool {
    DateTime::<Utc>::from_timestamp_millis(ms).is_some_and(|t| (0..10_000).contains(&chrono::Datelike::year(&t)))
}

/// Prints as ISO-8601 in UTC with nine fractional digits and `Z`, as the original does for
/// attribute values.
pub fn format(ms: i64) -> String {
    print(ms, SecondsFormat::Nanos)
}

/// Prints as ISO-8601 in UTC with millisecond digits only, for metadata.
pub fn format_ms(ms: i64) -> String {
    print(ms, SecondsFormat::Millis)
}

fn print(ms: i64, digits: SecondsFormat) -> String {
    DateTime::<Utc>::from_timestamp_millis(ms)
        .unwrap_or(DateTime::<Utc>::UNIX_EPOCH)
        .to_rfc3339_opts(digits, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shapes_that_clients_send_are_understood() {
        for (text, ms) in [
            ("2024-01-01T00:00:00+00:00", 1_704_067_200_000),
            ("2024-01-01T00:00:00", 1_704_067_200_000),
            ("2024-01-01T01:00:00+0100", 1_704_067_200_000),
            ("2024-01-01 00:00:00", 1_704_067_200_000),
            ("2024-01-01", 1_704_067_200_000),
            ("1970-01-01T00:00:00.000Z", 0),
            ("1969-12-31T23:59:59.999Z", -1),
            ("2024-01-01T00:00:00.123456789Z", 1_704_067_200_123),
        ] {
            assert_eq!(parse(text), Some(ms), "{text}");
        }
        for text in ["", "yesterday", "2024-13-01", "2024-01-01T25:00:00Z", "20240101"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(format(1_704_067_200_123), "2024-01-01T00:00:00.123000000Z");
        assert_eq!(format_ms(-1), "1969-12-31T23:59:59.999Z");
    }
}
