//! Shoal: a vector and full-text search database on object storage.
//!
//! # The map
//!
//! From the ground up; a module names only those before it (`tests/structure.rs` holds this).
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`config`] | every setting: default, unit, effect, validation |
//! | [`error`] | the public error: what may the caller do next? |
//! | [`base`] | clocks, seeded randomness, tasks, the CPU pool, the memory ledger, bitsets |
//! | [`telemetry`] | metric names and the set-up of logs |
//! | [`model`] | the nouns, without I/O: names, ids, types, schema, filters, queries; JSON of a write to columns |
//! | [`inference`] | the operator's models over HTTP: vectors of texts, judgements of rows |
//! | [`store`] | the only way to object storage: keys, conditional creates, retries, request counts, the probe |
//! | [`cache`] | immutable objects of the store, kept in memory and on local disks |
//! | [`wal`] | the log of one namespace: entry format, append, get, list |
//! | [`index`] | rows in, hits out: distances and exact search, text analysis and BM25 |
//! | [`segment`] | one immutable unit: rows and their indexes |
//! | [`tail`] | the rows of the log as an in-memory index of immutable parts |
//! | [`manifest`] | which segments a namespace has, and its state besides rows; the next generation by create-if-absent |
//! | [`snapshot`] | one consistent view of a namespace: all a query may see |
//! | [`query`] | answers queries on a snapshot: plan, filter, score, aggregate, highlight, fuse |
//! | [`namespace`] | the engine: open namespaces, their commit loops and their reads |
//! | [`maintenance`] | upkeep: tails become segments, segments become fewer, garbage goes; whether all of it is whole |
//! | [`control`] | organizations, groups, keys, tokens, users: who may do what, as records in the bucket |
//! | [`auth`] | a credential becomes a caller, and what it may do is decided |
//! | [`api`] | HTTP: routes, request bodies, JSON of queries and answers, errors to statuses |
//! | [`cli`] | the command line: builds the parts, serves, shuts down |
//!
//! # A write
//!
//! ```text
//! api::server → api::handlers::write → auth, api::body → model::write::prepare        JSON to typed columns
//!   → namespace::handle (queue) → namespace::commit (gathers what waits)
//!   → namespace::evaluate (requests to effects) → wal::format → wal::log → store      one create-only PUT
//!   → snapshot::apply → tail::apply → api::response                                   the tail absorbs the entry
//! ```
//!
//! # A query
//!
//! ```text
//! api::server → api::handlers::query → auth, api::body → api::query                   JSON to model::Query
//!   → namespace::read ─ namespace::follow → wal::log → store                          newer entry? one GET, meanwhile:
//!                     └ query::plan → query::load → segment → index, cache → store  what the plan looks at, as parts
//!                       → query::exec → tail, index → query::rows → segment           the rows of the answer
//!   → api::response                                                                   again if there was a newer entry
//! ```
//!
//! # Upkeep
//!
//! ```text
//! maintenance::scheduler → maintenance::flush → segment::encode → manifest::store     the tail becomes a segment
//!                        → maintenance::merge → segment::encode → manifest::store     segments become fewer
//!   → namespace::manifests → snapshot                                                 nodes go over to the manifest
//! ```

#[cfg(not(test))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(test)]
#[global_allocator]
static ALLOCATOR: base::counted::Counted = base::counted::Counted(mimalloc::MiMalloc);

pub mod api;
pub mod auth;
pub mod base;
pub mod cache;
pub mod cli;
pub mod config;
pub mod control;
pub mod error;
pub mod index;
pub mod inference;
pub mod maintenance;
pub mod manifest;
pub mod model;
pub mod namespace;
pub mod query;
pub mod segment;
pub mod snapshot;
pub mod store;
pub mod tail;
pub mod telemetry;
pub mod wal;
