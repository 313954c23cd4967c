//! What is planned, and what is left of namespaces after it was done.

mod nodes;
mod past;
mod planning;
mod store;
