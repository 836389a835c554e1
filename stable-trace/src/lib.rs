//! The agent: attaches eBPF programs, collects what they record, and serves events and metrics.
//!
//! Data flows one way: `collect` takes records and counters from the kernel, `enrich` turns
//! records into events, `trace` drives one run, and `stable-trace-analysis` correlates and writes the
//! events. `docs/architecture.md` has the rooms and their order.

pub mod cli;
mod collect;
mod doctor;
mod enrich;
pub mod experiment;
mod kernel;
pub mod metrics;
pub mod probes;
mod top;
mod trace;
pub mod workload;
