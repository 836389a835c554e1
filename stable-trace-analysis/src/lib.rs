//! What stable-trace knows without a kernel: the event schema, verdicts, recordings and reports.
//!
//! Data flows one way. [`event`] is the schema of the stream. [`correlate`] turns events into
//! verdicts. [`sink`] writes events as text or JSON, [`recording`] writes and reads recordings, and
//! [`report`] sums a recording up. Nothing here depends on Linux: a recording can be read anywhere.

#![forbid(unsafe_code)]

pub mod correlate;
pub mod error_chain;
pub mod event;
pub mod recording;
pub mod report;
pub mod sink;
pub mod statistics;
pub mod units;
