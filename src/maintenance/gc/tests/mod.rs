//! What is planned, and what is left of namespaces after it was done.

mod backlog;
mod faults;
mod nodes;
mod past;
mod planning;
mod shared;
mod store;
mod sweeping;
mod turns;
