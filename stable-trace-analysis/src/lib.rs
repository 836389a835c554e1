//! The part of stable-trace that needs no kernel: event schema, verdicts, recordings and reports.
//!
//! Data flows one way. [`event`] is the schema of the stream. [`proof`] says what data and protection
//! information of a failed check prove, and [`correlate`] computes verdicts from events. [`sink`] writes
//! events as text or JSON, [`recording`] writes and reads recordings, and [`report`] summarizes a
//! recording. Nothing here depends on Linux, so recordings can be read on any system.

#![forbid(unsafe_code)]

pub mod correlate;
pub mod error_chain;
pub mod event;
pub mod proof;
pub mod recording;
pub mod report;
pub mod sink;
pub mod statistics;
pub mod svg;
pub mod units;
