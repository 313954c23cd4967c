//! `shoal probe`: prints what the conformance probe found.

use crate::base::Runtime;
use crate::config::Config;
use crate::store::{Store, backend, probe};

/// Probes the configured store. An error when it cannot be used.
pub async fn probe(config: Config, runtime: Runtime) -> Result<(), String> {
    let store = config.store_config();
    let backend = backend::build(&store, runtime.clock.wall()).map_err(|e| e.to_string())?;
    let store = Store::new(backend.store, runtime.clock.clone(), runtime.rng.clone(), &store)
        .listing_in_order(backend.lists_in_order);
    let report = probe::probe(&store, probe::ProbeOptions::default()).await;
    print!("{report}");
    match report.failure() {
        None => Ok(()),
        Some(why) => Err(format!("this object store cannot be used: {why}")),
    }
}
