//! Plans: what organizations may use. The names are those of the Turso Platform API.

use serde::{Deserialize, Serialize};

/// The longest name of a plan, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// One table `[[plans]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanConfig {
    /// What organizations are put on: 1 to 64 of `a-z`, `0-9`, `-` and `_`.
    pub name: String,
    /// What clients are shown as the price of a month. Default `0`. Nothing is charged.
    #[serde(default = "zero")]
    pub price: String,
    /// Whether owners of organizations may put themselves on it. Default false.
    #[serde(default)]
    pub self_service: bool,
    /// Whether owners may have use beyond it counted instead of refused. Default false; true for the plan
    /// `unlimited` that exists without configuration, which has nothing to exceed.
    #[serde(default)]
    pub overages_allowed: bool,
    /// What it includes. What is left out has no limit.
    #[serde(default)]
    pub quotas: Quotas,
}

fn zero() -> String {
    "0".into()
}

/// What a plan includes; `None` is without limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Quotas {
    /// Rows looked at by queries in a calendar month (UTC).
    pub rows_read: Option<u64>,
    /// Rows written, patched or deleted in a calendar month.
    pub rows_written: Option<u64>,
    /// Namespaces at a time.
    pub databases: Option<u64>,
    /// Locations of groups at a time.
    pub locations: Option<u64>,
    /// Bytes stored at a time.
    pub storage: Option<u64>,
    /// Groups at a time.
    pub groups: Option<u64>,
    /// Shown to clients only: nothing is synced.
    pub bytes_synced: Option<u64>,
    /// API keys at a time.
    pub keys: Option<u64>,
    /// Logical bytes looked at by queries in a calendar month.
    pub bytes_queried: Option<u64>,
    /// Logical bytes written in a calendar month.
    pub bytes_written: Option<u64>,
    /// Queries per second, of all nodes together.
    pub queries_per_second: Option<u64>,
    /// Writes per second, of all nodes together.
    pub writes_per_second: Option<u64>,
}

impl PlanConfig {
    /// A plan without limits.
    pub fn unlimited(name: &str) -> Self {
        Self {
            name: name.into(),
            price: zero(),
            self_service: false,
            overages_allowed: true,
            quotas: Quotas::default(),
        }
    }

    /// # Errors
    ///
    /// A sentence that names the setting.
    pub(super) fn check(&self) -> Result<(), String> {
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
        let name = &self.name;
        if !(1..=NAME_BYTES_MAX).contains(&name.len()) || !name.bytes().all(legal) {
            return Err(format!(
                "plans: name must be 1 to {NAME_BYTES_MAX} of a-z, 0-9, - and _, got {name:?}"
            ));
        }
        let rates = [
            ("queriesPerSecond", self.quotas.queries_per_second),
            ("writesPerSecond", self.quotas.writes_per_second),
        ];
        match rates.iter().find(|(_, rate)| *rate == Some(0)) {
            Some((rate, _)) => Err(format!("plans: {rate} of {name} must be at least 1")),
            None => Ok(()),
        }
    }
}
