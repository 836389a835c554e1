//! One run: attach, stream until something ends it, detach, sum up.

pub mod clock;
pub mod endpoint;
pub mod errand;
mod failure;
pub mod filter;
mod finish;
mod follow;
mod narrate;
mod scrape;
pub mod stream;
pub mod tracer;

pub use follow::{Options, follow};
