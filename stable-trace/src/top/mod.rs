//! `stable-trace top`: a live view in a terminal.
//!
//! Rates and percentiles come from the kernel's counts, so they are exact; files and findings come from the stream.

mod controls;
mod model;
mod screen;
mod view;

pub(crate) use screen::open;
