//! Rows in, bytes or structures out; queries in, hits out. The only I/O is what
//! [`attribute`] asks its reader for.

pub mod attribute;
pub mod sparse;
pub mod text;
pub mod vector;
