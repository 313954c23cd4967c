//! The `encryption` field of a write: only the default is served.

use serde_json::Value;

use super::body;
use crate::model::Invalid;

/// Accepts `{"mode": "default"}` and explains anything else.
pub(super) fn check(text: &str) -> Result<(), Invalid> {
    let value: Value = serde_json::from_str(text).map_err(|e| body::invalid_json("encryption", &e))?;
    let Some(map) = value.as_object() else {
        return Err(Invalid::shape("encryption: expected an object with mode"));
    };
    // The older form names the key under `cmek`.
    let key = match (map.get("mode").and_then(Value::as_str), map.get("cmek")) {
        (Some("default"), None) => return Ok(()),
        (Some("customer-managed"), None) => map.get("key_name"),
        (None, Some(cmek)) => cmek.get("key_name"),
        _ => return Err(Invalid::new("encryption: mode must be default or customer-managed")),
    };
    let Some(key) = key.and_then(Value::as_str) else {
        return Err(Invalid::new("encryption: customer-managed needs key_name"));
    };
    match is_key_name(key) {
        true => Err(Invalid::new(
            "encryption: customer-managed keys are not supported by this server yet",
        )),
        false => Err(Invalid::new(format!("Malformed Cloud KMS crypto key: {key}"))),
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
