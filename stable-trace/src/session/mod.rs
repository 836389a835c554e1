//! One run: attach, stream until something ends it, detach, sum up.

mod census;
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

pub use census::Census;
pub use follow::{Options, follow};
