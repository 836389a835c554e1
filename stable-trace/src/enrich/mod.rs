//! From records to events: decoding, devices and file systems, paths, contexts.

pub mod context;
pub mod decode;
mod enricher;
pub mod identity;
pub(crate) mod integrity;
pub mod paths;
pub mod stacks;
mod stall;

pub use enricher::Enricher;
pub use stall::{unstable_write_context, unstable_write_grade};
