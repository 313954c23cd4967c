//! What is planned, and what is left of namespaces after it was done.

mod faults;
mod nodes;
mod past;
mod planning;
mod store;
mod sweeping;
