//! What several test binaries share. Each uses a part of it.
#![allow(dead_code, reason = "every binary uses another part")]

pub mod cases;
pub mod debian;
pub mod engine;
pub mod fault;
pub mod http;
pub mod models;
pub mod real;
pub mod s3;
pub mod server;
pub mod upkeep;
