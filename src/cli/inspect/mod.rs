//! `shoal inspect`: what a namespace consists of in the store.
//!
//! Everything is first JSON, which `--json` prints; what people read is made of that.

mod describe;
mod find;
mod text;

use clap::Args;
use serde_json::Value as Json;

use super::client::{Failure, print};
use super::{Options, on_runtime, place};
use crate::base::Runtime;
use crate::config::Config;
use crate::model::{Gen, Seq};
use find::Place;

/// Nothing is written, and no server is asked.
#[derive(Args, Debug)]
pub struct Inspect {
    /// Slug or id of an organization.
    org: String,
    namespace: String,
    /// One segment with its sections, of the newest manifest that names it.
    #[arg(long, value_name = "ID", conflicts_with_all = ["entry", "generation"])]
    segment: Option<String>,
    /// One log entry: what it does, without rows.
    #[arg(long, value_name = "SEQ", conflicts_with = "generation")]
    entry: Option<u64>,
    /// One manifest.
    #[arg(long = "gen", value_name = "N")]
    generation: Option<u64>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    options: Options,
}

/// Runs the command.
pub fn run(inspect: &Inspect) -> Result<(), Failure> {
    let config = place::config(&inspect.options)?;
    on_runtime(&config, |runtime, _| show(inspect, config.clone(), runtime))
}

async fn show(args: &Inspect, config: Config, runtime: Runtime) -> Result<(), Failure> {
    let store = place::store(&config, &runtime)?;
    let ns = place::namespace(&store, &runtime, &args.org, &args.namespace).await?;
    let place = Place::new(store, runtime, ns);
    let (found, readable): (Json, fn(&Json) -> String) = match (&args.segment, args.entry, args.generation) {
        (Some(id), _, _) => (place.segment(id).await?, text::segment),
        (None, Some(seq), _) => (place.entry(Seq(seq)).await?, text::entry),
        (None, None, Some(generation)) => (place.manifest(Gen(generation)).await?, text::manifest),
        (None, None, None) => (place.overview().await?, text::overview),
    };
    match args.json {
        true => print(&found.to_string()),
        false => print(&readable(&found)),
    }
}
