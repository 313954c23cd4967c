//! Upkeep of namespaces: the tail becomes segments, segments become fewer.
//!
//! # What stays true
//!
//! - The only commit of a job is the creation of the next manifest; a crash anywhere leaves objects that nothing
//!   names. No answer to a client depends on a job.
//! - A job works on what was read after it began, and publishes within half the grace time or not at all.
//! - A namespace is marked as dirty as long as it has rows outside of segments or segments that are worth merging: what
//!   a node leaves undone, another one finds.
//! - Every live row of the state is live in exactly one segment of the manifest that a job publishes.
//!
//! # Who touches it
//!
//! `cli` starts it on nodes with the role; nothing calls it. It is told what is dirty by `namespace`, and finds what
//! other nodes wrote by their dirty markers.
//!
//! # Cost
//!
//! Stated at each job. What is idle costs nothing but the listing of dirty markers, which is one for the whole node.

mod due;
mod flush;
pub mod fsck;
pub mod gc;
mod indexer;
mod job;
pub mod lease;
pub mod merge;
mod options;
mod pace;
mod queue;
mod rows;
mod scheduler;
#[cfg(test)]
mod tests;

pub use due::{Tail, due_in};
pub use flush::flush;
pub use indexer::{Done, IndexError, Indexer};
pub use job::{Job, JobError, Outcome, Workshop};
pub use options::UpkeepOptions;
pub use pace::Pace;
pub use scheduler::run;
