//! From records to events: decoding, identities of devices and file systems, paths, contexts.

pub mod context;
pub mod decode;
mod enricher;
pub mod identity;
pub(crate) mod integrity;
pub mod paths;
pub mod stacks;
mod stall;

pub use enricher::{Enricher, place};
pub use stall::{context_of, grade_of};
