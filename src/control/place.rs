//! Where the deployment is: its location, the names of locations, its host name.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind, Result};

/// The code of the location of a deployment that was given none.
pub const LOCAL: &str = "local";

/// Where a deployment is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The code of its own location; one of `locations`.
    pub region: String,
    /// Texts for people, by code.
    pub locations: BTreeMap<String, String>,
    /// What the host names of databases end with; that of the request if absent.
    pub public_host: Option<String>,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            region: LOCAL.into(),
            locations: BTreeMap::from([(LOCAL.to_owned(), "This deployment".to_owned())]),
            public_host: None,
        }
    }
}

impl Place {
    /// The code, if it is that of the deployment's own location.
    ///
    /// # Errors
    ///
    /// 400 for an unknown code; 402 for another location: nothing is replicated.
    pub fn own(&self, code: &str) -> Result<String> {
        if code == self.region {
            return Ok(self.region.clone());
        }
        match self.locations.contains_key(code) {
            true => Err(Error::new(
                ErrorKind::QuotaExceeded,
                format!(
                    "location {code} is not served by this deployment: groups are in one location, here {}, and are not \
                     replicated",
                    self.region
                ),
            )
            .coded("feature_not_available")),
            false => Err(Error::invalid(format!(
                "unknown location; the locations are {}",
                self.locations.keys().cloned().collect::<Vec<_>>().join(", ")
            ))),
        }
    }
}
