//! Rows in, bytes or structures out; queries in, hits out. No I/O.

pub mod sparse;
pub mod text;
pub mod vector;
