//! stable-trace: writeback stalls and integrity failures, from the kernel to the person who asks.
//!
//! Data flows one way: kernel maps and ring, [`stream`], `correlate`, [`output`] and `metrics`.

pub mod doctor;
pub mod event;
pub mod kernel;
pub mod units;
pub mod workload;
