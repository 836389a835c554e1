//! What a recording tells: its summary, its verdicts, and the page that shows them.
//!
//! A [`Fold`] takes a recording's lines one by one, in memory that does not grow with them, and ends
//! as a [`Report`].

pub mod evidence;
mod fold;
mod heat;
pub mod html;
mod names;
mod top;
mod totals;
mod verdicts;

pub use fold::{Fold, Listed, Phase, Report};
pub use heat::{Bin, Heat};
pub use top::{Stalled, Top, TopFile, TopProcess};
pub use verdicts::Agreement;
