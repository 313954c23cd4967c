//! Where the deployment is.

use std::collections::BTreeMap;

use super::Config;

/// Codes of locations have so many bytes.
const CODE_BYTES: std::ops::RangeInclusive<usize> = 2..=32;
/// The longest text of a location, and the longest host name, in bytes.
const TEXT_BYTES_MAX: usize = 253;

fn is_code(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    CODE_BYTES.contains(&text.len()) && text.bytes().all(legal)
}

impl Config {
    /// The texts of all locations by code, the deployment's own among them.
    pub fn all_locations(&self) -> BTreeMap<String, String> {
        let mut all = self.locations.clone();
        let own = all.entry(self.region.clone());
        own.or_insert_with(|| "This deployment".to_owned());
        all
    }

    /// # Errors
    ///
    /// A sentence that names the setting.
    pub(super) fn check_place(&self) -> Result<(), String> {
        if !is_code(&self.region) {
            return Err(format!(
                "region must be 2 to 32 of a-z, 0-9 and -, got {:?}",
                self.region
            ));
        }
        for (code, text) in &self.locations {
            if !is_code(code) || text.is_empty() || text.len() > TEXT_BYTES_MAX {
                return Err(format!(
                    "locations: codes must be 2 to 32 of a-z, 0-9 and -, texts 1 to {TEXT_BYTES_MAX} bytes, got {code:?}"
                ));
            }
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
        match &self.public_host {
            Some(host) if host.is_empty() || host.len() > TEXT_BYTES_MAX || !host.bytes().all(plain) => {
                Err(format!("public_host must be a host name without a port, got {host:?}"))
            }
            _ => Ok(()),
        }
    }
}
