//! The encryption that a write asks for: only the default is served.

use serde_json::Value;

use super::body;
use crate::model::{Invalid, settings};

/// Accepts `{"mode": "default"}`, and `{"sse": true}` as older clients say it, and explains
/// anything else.
///
/// * `field` — `encryption` or `dest_encryption`
pub(super) fn check(field: &str, text: &str) -> Result<(), Invalid> {
    let value: Value = serde_json::from_str(text).map_err(|e| body::invalid_json(field, &e))?;
    check_value(field, &value)
}

/// [`check`] of a value that is parsed already.
pub(super) fn check_value(field: &str, value: &Value) -> Result<(), Invalid> {
    let Some(map) = value.as_object() else {
        return Err(Invalid::shape(format!("{field}: expected an object with mode")));
    };
    settings::only(field, map, &["mode", "key_name", "encryption_context", "cmek", "sse"])?;
    // The older forms are `sse`, and the name of the key under `cmek`.
    let key = match (map.get("mode"), map.get("cmek"), map.get("sse")) {
        (Some(Value::String(mode)), None, None) => match mode.as_str() {
            "default" => {
                return match map.len() {
                    1 => Ok(()),
                    _ => Err(Invalid::new(format!(
                        "{field}: a key can only be named with mode customer-managed"
                    ))),
                };
            }
            "customer-managed" => map.get("key_name"),
            _ => {
                return Err(Invalid::new(format!(
                    "{field}: mode must be default or customer-managed"
                )));
            }
        },
        (None, None, Some(Value::Bool(true))) if map.len() == 1 => return Ok(()),
        (None, Some(cmek), None) => cmek.get("key_name"),
        (Some(mode), None, None) if !mode.is_string() => {
            return Err(settings::wrong(&format!("{field}: mode"), mode, "a string"));
        }
        _ => {
            return Err(Invalid::new(format!(
                "{field}: mode must be default or customer-managed"
            )));
        }
    };
    let Some(key) = key.and_then(Value::as_str) else {
        return Err(Invalid::new(format!("{field}: customer-managed needs key_name")));
    };
    match is_key_name(key) {
        true => Err(Invalid::new(format!(
            "{field}: customer-managed keys are not supported by this server"
        ))),
        false => {
            let shown: String = key.chars().take(256).collect();
            Err(Invalid::new(format!("Malformed Cloud KMS crypto key: {shown}")))
        }
    }
}

/// Whether a name is one of Google's, Amazon's or Azure's.
fn is_key_name(key: &str) -> bool {
    let parts: Vec<&str> = key.split('/').collect();
    let google = parts.len() == 8
        && [(0, "projects"), (2, "locations"), (4, "keyRings"), (6, "cryptoKeys")]
            .iter()
            .all(|(at, part)| parts[*at] == *part && !parts[at + 1].is_empty());
    let amazon = key.starts_with("arn:aws") && key.contains(":kms:");
    let azure = key.starts_with("https://") && key.contains(".vault.azure.net/keys/");
    google || amazon || azure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_default_is_served_and_the_rest_is_explained() {
        for good in [r#"{"mode": "default"}"#, r#"{"sse": true}"#] {
            check("encryption", good).expect(good);
        }
        for (bad, says) in [
            (r#"{}"#, "mode must be"),
            (r#"{"mode": "rot13"}"#, "mode must be"),
            (r#"{"mode": null}"#, "mode"),
            (r#"{"mode": 1}"#, "expected a string"),
            (r#"{"sse": false}"#, "mode must be"),
            (r#"{"mode": "default", "sse": true}"#, "mode must be"),
            (r#"{"mode": "default", "key_name": "k"}"#, "customer-managed"),
            (r#"{"mode": "default", "colour": 1}"#, "\"colour\""),
            (r#"{"mode": "customer-managed"}"#, "needs key_name"),
            (r#"{"mode": "customer-managed", "key_name": 5}"#, "needs key_name"),
            (
                r#"{"mode": "customer-managed", "key_name": ""}"#,
                "Malformed Cloud KMS crypto key: ",
            ),
            (
                r#"{"mode": "customer-managed", "key_name": "mykey"}"#,
                "Malformed Cloud KMS crypto key: mykey",
            ),
            (
                r#"{"cmek": {"key_name": "mykey"}}"#,
                "Malformed Cloud KMS crypto key: mykey",
            ),
            (r#"{"cmek": "mykey"}"#, "needs key_name"),
            (
                r#"{"mode": "customer-managed", "key_name": "projects/a/locations/b/keyRings/c/cryptoKeys/d", "encryption_context": {"a": "b"}}"#,
                "not supported",
            ),
            (
                r#"{"cmek": {"key_name": "arn:aws:kms:us-east-1:1:key/2"}}"#,
                "not supported",
            ),
            (r#""default""#, "expected an object"),
        ] {
            let e = check("encryption", bad).expect_err(bad);
            assert!(e.message.contains(says), "{bad}: {e}");
        }
    }
}
