//! Keys, scoped keys, revocation, outages: nodes of one deployment over a store that can fail.

#![allow(clippy::disallowed_methods, reason = "tests spawn and sleep on a paused clock")]

#[path = "../support/mod.rs"]
mod support;

mod crash;
mod freshness;
mod hostile;
mod keys;
mod records;
mod rows;
mod world;
