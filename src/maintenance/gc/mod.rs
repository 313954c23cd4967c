//! Garbage collection: what nothing needs any more is deleted.
//!
//! # What stays true
//!
//! - What goes is decided by [`plan()`] alone: nothing that a retained manifest, a hold or the log needs.
//! - Everything is looked at twice, [`GcOptions::second_look`] apart, by the store's clock: what is to go is written down
//!   first, and only what is garbage both times is deleted.
//! - Nothing is deleted while this node's clock and the store's differ by more than [`SKEW_MAX`].
//! - A crash anywhere leaves garbage, which the next look finds. Two nodes that collect the same namespace delete the
//!   same things.
//!
//! # Who touches it
//!
//! `cli` starts it. What is to be looked at is known from the manifests that this node's engine goes over to, and from
//! the markers that nodes leave of what they know; what nobody has published to since it was clean is never looked at.
//! Once a day, one node looks for namespaces whose markers were lost.
//!
//! # Cost
//!
//! One LIST of the markers per interval for the whole node. A look at a namespace with garbage costs two LISTs, a PUT
//! and a DELETE for the lease, a GET for the oldest manifest that is kept, whatever the number of manifests, and where there
//! are staged blobs, one per entry that was not read yet. Of a long log only what is garbage is listed, where listings are
//! ordered. Per ten thousand pieces of garbage: a PUT, a GET and a DELETE of the plan that names them, and ten LISTs in
//! each look. Deleting: a DELETE per object, a thousand in one request where the store can.
//!
//! # Bounds
//!
//! A look plans as much as there is, half a million objects at most, so that a namespace is caught up with however fast
//! it is written. Memory: 64 bytes per object that is listed and as much for what is planned, for the four namespaces
//! that are looked at at the same time; the keys of one plan at a time; 16 MiB for what is remembered. A node deletes a
//! thousand objects a second, for four minutes of each look; organizations take turns.

mod collector;
mod deletion;
mod history;
mod holds;
mod listing;
mod marks;
mod memory;
mod plan;
mod runner;
mod sweep;
#[cfg(test)]
mod tests;
mod written;

use std::time::Duration;

pub use collector::{CollectError, Collector, Looked};
pub use history::{Held, Oldest};
pub use plan::{Blobs, Found, Keep, Plan, Retained, Unread, View, plan, retained, retained_log};
pub use runner::run;
pub use sweep::{SweepError, Swept, sweep_if_due};

/// The largest difference between this node's clock and the store's.
pub const SKEW_MAX: Duration = Duration::from_secs(300);

/// What an operator may set about garbage collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GcOptions {
    /// For how long a namespace can be restored to what it was. Less than the grace time has no effect.
    pub retention: Duration,
    /// How often a namespace with garbage is looked at. More: more storage; less: more requests.
    pub interval: Duration,
    /// The time between the two looks.
    pub second_look: Duration,
    /// How often namespaces are looked for whose markers were lost, by one node for all; 0: never.
    pub sweep: Duration,
    /// Only says what would be deleted.
    pub dry_run: bool,
}

impl Default for GcOptions {
    fn default() -> Self {
        Self {
            retention: Duration::ZERO,
            interval: Duration::from_secs(3600),
            second_look: Duration::from_secs(600),
            sweep: Duration::from_secs(24 * 3600),
            dry_run: false,
        }
    }
}
