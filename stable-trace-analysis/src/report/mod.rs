//! Reports: the summary of a recording, its verdicts, and an HTML page.
//!
//! A [`ReportBuilder`] takes the lines of a recording one by one, in bounded memory, and builds a
//! [`Report`].

mod builder;
pub mod data;
pub mod evidence;
pub mod folded;
pub mod html;
mod interner;
mod timeline;
mod top;
mod totals;
pub mod trace_events;
mod verdict_check;

pub use builder::{Report, ReportBuilder};
