//! What organizations may use: their plans, and hard stops where a plan counts things.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::{Control, Organization};
use crate::config::{PlanConfig, Quotas};
use crate::error::{Error, ErrorKind, Result};

/// The plan that exists without configuration: no limits.
pub const UNLIMITED: &str = "unlimited";

/// What a plan counts at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quota {
    Databases,
    Groups,
    Keys,
    Locations,
}

impl Quota {
    fn limit(self, quotas: &Quotas) -> Option<u64> {
        match self {
            Quota::Databases => quotas.databases,
            Quota::Groups => quotas.groups,
            Quota::Keys => quotas.keys,
            Quota::Locations => quotas.locations,
        }
    }

    /// What programs match, and its last part what people read.
    fn code(self) -> &'static str {
        match self {
            Quota::Databases => "quota_databases",
            Quota::Groups => "quota_groups",
            Quota::Keys => "quota_keys",
            Quota::Locations => "quota_locations",
        }
    }
}

/// A plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub name: String,
    /// The price of a month, as text.
    pub price: String,
    /// Whether owners of organizations may choose it.
    pub self_service: bool,
    /// Whether owners may have use beyond it counted instead of refused.
    pub overages_allowed: bool,
    pub quotas: Quotas,
}

impl Plan {
    /// The object that clients are shown (platform-api reference §4). A quota of `null` is without limit.
    pub fn json(&self) -> Json {
        json!({
            "name": self.name,
            "price": self.price,
            "prices": [{"value": self.price, "timeline": "monthly"}],
            "quotas": self.quotas,
        })
    }
}

/// The plans of a deployment.
#[derive(Clone, Debug)]
pub struct Plans {
    /// Never empty.
    all: Vec<Arc<Plan>>,
    default: Arc<Plan>,
}

impl Default for Plans {
    fn default() -> Self {
        let default = Arc::new(of_config(&PlanConfig::unlimited(UNLIMITED)));
        Self {
            all: vec![default.clone()],
            default,
        }
    }
}

fn of_config(config: &PlanConfig) -> Plan {
    Plan {
        name: config.name.clone(),
        price: config.price.clone(),
        self_service: config.self_service,
        overages_allowed: config.overages_allowed,
        quotas: config.quotas,
    }
}

impl Plans {
    /// The configured plans, and `unlimited` unless one of them has this name.
    ///
    /// * `default` — the plan of organizations that were put on none
    ///
    /// # Errors
    ///
    /// A sentence for the operator when `default` is not among them.
    pub fn new(configs: &[PlanConfig], default: &str) -> Result<Self, String> {
        let mut all: Vec<Arc<Plan>> = configs.iter().map(|c| Arc::new(of_config(c))).collect();
        if !all.iter().any(|p| p.name == UNLIMITED) {
            all.push(Arc::new(of_config(&PlanConfig::unlimited(UNLIMITED))));
        }
        let found = all.iter().find(|p| p.name == default).cloned();
        let default = found.ok_or_else(|| format!("default_plan {default:?} is not among the plans"))?;
        Ok(Self { all, default })
    }

    /// All plans, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Plan>> {
        self.all.iter()
    }

    /// The plan of that name.
    pub fn by_name(&self, name: &str) -> Option<&Arc<Plan>> {
        self.all.iter().find(|p| p.name == name)
    }

    /// The plan of organizations that were put on none.
    pub fn default_plan(&self) -> &Arc<Plan> {
        &self.default
    }
}

/// The answer to a plan that does not exist.
pub fn no_plan() -> Error {
    Error::invalid("there is no such plan; GET plans lists those of this deployment")
}

impl Control {
    /// The plan of an organization: the default plan when its own is not configured any more.
    pub fn plan(&self, org: &Organization) -> &Arc<Plan> {
        let plans = self.plans();
        plans.by_name(&org.plan).unwrap_or(&plans.default)
    }

    /// Fails unless an owner may change the organization's plan or overages so; whoever runs the deployment may
    /// anyhow.
    ///
    /// * `plan` — the plan to be on; absent: the one that it is on
    /// * `overages` — whether use beyond the plan is to be counted; absent: as it is
    ///
    /// # Errors
    ///
    /// [`ErrorKind::QuotaExceeded`] with the code `payment_required`; [`ErrorKind::Invalid`] for a plan that does not
    /// exist.
    pub fn check_self_service(&self, org: &Organization, plan: Option<&str>, overages: Option<bool>) -> Result<()> {
        let refused = |sentence| Err(Error::new(ErrorKind::QuotaExceeded, sentence).coded("payment_required"));
        let now = self.plan(org);
        let wanted = match plan {
            None => now,
            Some(name) => self.plans().by_name(name).ok_or_else(no_plan)?,
        };
        let is_other = wanted.name != now.name;
        if is_other && !wanted.self_service {
            let sentence = format!(
                "owners cannot choose the plan {}: ask whoever runs this deployment",
                wanted.name
            );
            return refused(sentence);
        }
        // What was allowed under another plan does not come along.
        let counts = overages.unwrap_or(org.overages);
        if counts && (is_other || !org.overages) && !wanted.overages_allowed {
            let sentence = format!(
                "the plan {} does not allow overages: set overages to false, or ask whoever runs this deployment",
                wanted.name
            );
            return refused(sentence);
        }
        Ok(())
    }

    /// Fails when the organization may not have one more.
    ///
    /// * `count_now` — how many it has
    ///
    /// # Errors
    ///
    /// [`ErrorKind::QuotaExceeded`] with a code such as `quota_databases`, unless its overages are counted.
    pub fn check_quota(&self, org: &Organization, quota: Quota, count_now: u64) -> Result<()> {
        let limit = quota.limit(&self.plan(org).quotas);
        if org.overages || limit.is_none_or(|limit| count_now < limit) {
            return Ok(());
        }
        let what = quota.code().trim_start_matches("quota_");
        let limit = limit.unwrap_or_default();
        Err(Error::new(
            ErrorKind::QuotaExceeded,
            format!("plan limit reached: {what}; the plan includes {limit}: remove some, or change the plan"),
        )
        .coded(quota.code()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing;

    fn small() -> Plans {
        let small = PlanConfig {
            quotas: Quotas {
                databases: Some(2),
                keys: Some(0),
                rows_read: Some(7),
                ..Quotas::default()
            },
            ..PlanConfig::unlimited("small")
        };
        Plans::new(&[small], "small").expect("small is among them")
    }

    #[tokio::test]
    async fn a_quota_stops_at_the_limit_unless_overages_are_counted() {
        let control = testing::control().with_plans(small());
        let org = Organization {
            plan: "small".into(),
            ..Organization::unwritten_default()
        };
        for (quota, count, code) in [
            (Quota::Databases, 0, None),
            (Quota::Databases, 1, None),
            (Quota::Databases, 2, Some("quota_databases")),
            (Quota::Databases, u64::MAX, Some("quota_databases")),
            (Quota::Keys, 0, Some("quota_keys")),
            (Quota::Groups, u64::MAX, None),
            (Quota::Locations, 3, None),
        ] {
            let outcome = control.check_quota(&org, quota, count);
            assert_eq!(outcome.as_ref().err().and_then(|e| e.code), code, "{quota:?} {count}");
            if let Err(error) = outcome {
                assert_eq!(error.kind, ErrorKind::QuotaExceeded);
                assert!(error.message.starts_with("plan limit reached: "), "{}", error.message);
            }
            let lenient = Organization {
                overages: true,
                ..org.clone()
            };
            assert!(control.check_quota(&lenient, quota, count).is_ok());
        }
    }

    #[tokio::test]
    async fn a_plan_that_is_gone_is_the_default_plan() {
        let control = testing::control().with_plans(small());
        let on = |plan: &str| Organization {
            plan: plan.into(),
            ..Organization::unwritten_default()
        };
        assert_eq!(control.plan(&on("unlimited")).name, "unlimited");
        assert_eq!(control.plan(&on("gone")).name, "small");
        assert!(Plans::new(&[], "gone").is_err());
        assert_eq!(Plans::default().iter().count(), 1);
    }

    #[test]
    fn the_object_has_the_names_of_the_platform_api() {
        let plan = small().by_name("small").expect("configured").json();
        assert_eq!(plan["prices"], json!([{"value": "0", "timeline": "monthly"}]));
        assert_eq!(plan["quotas"]["rowsRead"], 7);
        assert_eq!(plan["quotas"]["bytesSynced"], Json::Null);
        assert_eq!(plan["quotas"]["queriesPerSecond"], Json::Null);
    }
}
