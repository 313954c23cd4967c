//! Organizations, groups, keys, tokens and users: who may do what. All of it is in the bucket, as records.
//!
//! # What stays true
//!
//! - No secret is stored: keys by their digest, passwords by Argon2, tokens not at all. The values of
//!   search-only keys are sealed under the deployment secret, which is not in the bucket.
//! - Whatever narrows what somebody may do is announced to every node ([`cache`]).
//! - Absence allows nothing.
//!
//! # Who touches it
//!
//! `auth` looks credentials up, `api` changes things.

pub mod action;
pub mod audit;
pub mod cache;
pub mod databases;
pub mod grant;
pub mod groups;
pub mod invites;
pub mod issuers;
pub mod keys;
pub mod limiter;
pub mod mints;
pub mod nodes;
pub mod organization;
pub mod organization_changes;
mod own;
pub mod password;
pub mod pattern;
pub mod place;
pub mod plans;
pub mod platform_tokens;
pub mod search_settings;
pub mod secret;
#[cfg(test)]
pub mod testing;
mod upkeep;
pub mod usage;
pub mod users;

use std::sync::Arc;
use std::time::Duration;

use crate::base::Runtime;
use crate::store::Store;
use crate::store::record::Records;

pub use action::{Action, ActionSet};
pub use cache::{Cache, Freshness};
pub use grant::{Grant, RateLimits};
pub use groups::Group;
pub use organization::{Organization, Role};
pub use pattern::Patterns;
pub use place::Place;
pub use plans::{Plan, Plans, Quota};
pub use secret::{Hidden, Secret, Secrets};

/// How long old revisions of records stay.
const GRACE: Duration = Duration::from_secs(3600);

/// What the control plane is set to.
#[derive(Clone, Debug)]
pub struct ControlOptions {
    pub secrets: Secrets,
    pub freshness: Freshness,
    /// Identifies the deployment in tokens.
    pub deployment: String,
}

/// The control plane of a deployment; clones share it.
#[derive(Clone)]
pub struct Control {
    inner: Arc<Inner>,
    plans: Arc<Plans>,
    place: Arc<Place>,
}

struct Inner {
    runtime: Runtime,
    records: Records,
    cache: Cache,
    options: ControlOptions,
    nodes: nodes::Nodes,
    attempts: password::Attempts,
    limiter: limiter::Limiter,
    audits: audit::Audits,
    usages: usage::Usages,
    keys: keys::Lookup,
}

impl Control {
    /// A control plane in a store that passed the conformance probe. Does no I/O.
    pub fn new(runtime: Runtime, store: Store, options: ControlOptions) -> Self {
        let records = Records::new(store, runtime.clock.clone(), runtime.rng.clone(), GRACE);
        let cache = Cache::new(records.clone(), runtime.clone(), options.freshness);
        let limiter = limiter::Limiter::new(runtime.rng.u64());
        Self {
            inner: Arc::new(Inner {
                runtime,
                records,
                cache,
                options,
                nodes: nodes::Nodes::default(),
                attempts: password::Attempts::default(),
                limiter,
                audits: audit::Audits::default(),
                usages: usage::Usages::default(),
                keys: keys::Lookup::default(),
            }),
            plans: Arc::default(),
            place: Arc::default(),
        }
    }

    /// The same with these plans, in place of none but `unlimited`.
    pub fn with_plans(mut self, plans: Plans) -> Self {
        self.plans = Arc::new(plans);
        self
    }

    /// The plans of the deployment.
    pub fn plans(&self) -> &Plans {
        &self.plans
    }

    /// The same, at this place.
    pub fn at(mut self, place: Place) -> Self {
        self.place = Arc::new(place);
        self
    }

    /// Where the deployment is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    fn usages(&self) -> &usage::Usages {
        &self.inner.usages
    }

    fn audits(&self) -> &audit::Audits {
        &self.inner.audits
    }

    fn limiter(&self) -> &limiter::Limiter {
        &self.inner.limiter
    }

    fn nodes(&self) -> &nodes::Nodes {
        &self.inner.nodes
    }

    fn key_lookup(&self) -> &keys::Lookup {
        &self.inner.keys
    }

    /// Its records.
    pub fn records(&self) -> &Records {
        &self.inner.records
    }

    /// What this node remembers of it.
    pub fn cache(&self) -> &Cache {
        &self.inner.cache
    }

    /// What it is set to.
    pub fn options(&self) -> &ControlOptions {
        &self.inner.options
    }

    fn attempts(&self) -> &password::Attempts {
        &self.inner.attempts
    }

    /// The seams to the outside world.
    pub fn runtime(&self) -> &Runtime {
        &self.inner.runtime
    }

    /// Seconds since the epoch.
    pub fn now(&self) -> u64 {
        self.inner.runtime.clock.wall().as_secs()
    }
}
