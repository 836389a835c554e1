//! stable-trace: writeback stalls and integrity failures, from the kernel to the person who asks.
//!
//! Data flows one way: the kernel's maps and ring ([`probes`]), [`stream`], [`correlate`],
//! [`output`] and [`metrics`]; [`session`] drives it. What the kernel is stands in [`kernel`], what
//! crosses to users in [`event`].

pub mod cli;
pub mod correlate;
pub mod doctor;
pub mod event;
pub mod experiment;
pub mod kernel;
pub mod metrics;
pub mod output;
pub mod probes;
pub mod recording;
pub mod report;
pub mod session;
pub mod stream;
pub mod units;
pub mod workload;
