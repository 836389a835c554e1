//! What a recording tells: its summary, its verdicts, and the page that shows them.
//!
//! A [`ReportBuilder`] takes a recording's lines one by one, in memory that does not grow with them, and ends
//! as a [`Report`].

mod builder;
pub mod evidence;
pub mod html;
mod names;
mod timeline;
mod top;
mod totals;
mod verdicts;

pub use builder::{Listed, Phase, Report, ReportBuilder};
pub use timeline::{Bin, Timeline};
pub use top::{Stalled, Top, TopFile, TopProcess};
pub use verdicts::Agreement;
