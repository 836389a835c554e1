//! The agent of stable-trace: attaches eBPF programs, reads what they report, and serves it.
//!
//! Data flows one way: [`collect`] takes records and counters from the kernel, [`enrich`] turns
//! records into events, [`trace`] drives one run, and `stable-trace-analysis` correlates and writes
//! the events. `docs/architecture.md` has the rooms and their order.

pub mod cli;
mod collect;
pub mod doctor;
mod enrich;
pub mod experiment;
mod kernel;
pub mod metrics;
pub mod probes;
pub mod trace;
pub mod workload;
