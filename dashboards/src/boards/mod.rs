//! The dashboards themselves, one a file.

mod agent;
mod integrity;
mod overview;
mod stalls;
mod wac;

use crate::board::Board;

/// All of them, as a user meets them.
#[must_use]
pub fn all() -> [Board; 5] {
    [overview::board(), stalls::board(), integrity::board(), wac::board(), agent::board()]
}

/// Contexts whose waits are stable pages' doing.
const STABLE: &str = r#"context=~"write_begin|page_mkwrite""#;

/// What no error looks like.
const NONE: &str = "0";
