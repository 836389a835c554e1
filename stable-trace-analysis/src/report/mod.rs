//! Reports: the summary of a recording, its verdicts, and an HTML page.
//!
//! A [`ReportBuilder`] takes the lines of a recording one by one, in bounded memory, and builds a
//! [`Report`].

mod builder;
pub mod evidence;
pub mod html;
mod interner;
mod timeline;
mod top;
mod totals;
mod verdict_check;

pub use builder::{Report, ReportBuilder};
