//! One run: attach, trace until something ends it, detach, sum up.

pub mod clock;
pub mod emitter;
pub mod endpoint;
mod event_loop;
pub mod filter;
mod integrity_counts;
mod scrape;
mod stall_counts;
pub mod subject;
mod summary;
pub mod tracer;

pub use event_loop::{Options, run};
