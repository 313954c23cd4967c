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
//! | [`store`] | the only way to object storage: keys, conditional creates, retries, request counts, the probe |
//! | [`wal`] | the log of one namespace: entry format, append, get, list |
//! | [`index`] | rows in, hits out: distances and exact search, text analysis and BM25 |
//! | [`tail`] | the rows of the log as an in-memory index of immutable parts |
//! | [`snapshot`] | one consistent view of a namespace: all a query may see |
//! | [`query`] | answers queries on a snapshot: plan, filter, execute, project |
//! | [`namespace`] | the engine: open namespaces, their commit loops and their reads |

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod base;
pub mod config;
pub mod error;
pub mod index;
pub mod model;
pub mod namespace;
pub mod query;
pub mod snapshot;
pub mod store;
pub mod tail;
pub mod telemetry;
pub mod wal;
