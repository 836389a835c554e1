//! `stable-trace doctor`: reports what this kernel, its devices and our privileges support.
//!
//! Trial probes are detached at once, and nothing is mounted that other processes see.

mod examine;
mod problems;
mod report;
mod text;

pub(crate) use examine::{examine, tracepoint_plan};
pub(crate) use text::to_text;

#[cfg(test)]
mod tests;
