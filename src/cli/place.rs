//! What the commands that look into a store have in common: the store, without a server, and which namespace.

use super::client::{Failure, usage};
use super::{Options, with_causes};
use crate::base::Runtime;
use crate::config::Config;
use crate::control::organization;
use crate::model::{NamespaceName, OrgId};
use crate::store::paths::NsKey;
use crate::store::{Store, backend};

/// The settings, which have to be right.
pub fn config(options: &Options) -> Result<Config, Failure> {
    options.load().map_err(Failure::Usage)
}

/// The configured store. It is not probed, and nothing is written to it.
pub fn store(config: &Config, runtime: &Runtime) -> Result<Store, Failure> {
    let options = config.store_config();
    let built = backend::build(&options, runtime.clock.wall());
    let backend = built.map_err(|e| Failure::Unknown(with_causes(&e)))?;
    let store = Store::new(backend.store, runtime.clock.clone(), runtime.rng.clone(), &options);
    Ok(store.listing_in_order(backend.lists_in_order))
}

/// The organization of that slug or id.
pub async fn org(store: &Store, runtime: &Runtime, text: &str) -> Result<OrgId, Failure> {
    let by_slug = organization::id_of_slug(store, runtime, text).await;
    if let Some(id) = by_slug.map_err(|e| Failure::Unknown(with_causes(&e)))? {
        return Ok(id);
    }
    OrgId::parse(text).map_err(|_| usage(&format!("{text:?} is no slug or id of an organization")))
}

/// The namespace of that name in an organization.
pub async fn namespace(store: &Store, runtime: &Runtime, org: &str, name: &str) -> Result<NsKey, Failure> {
    let name = NamespaceName::parse(name).map_err(|e| usage(&e.to_string()))?;
    Ok(NsKey::new(self::org(store, runtime, org).await?, name))
}
