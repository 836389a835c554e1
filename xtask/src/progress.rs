//! What a person watching reads: one line a step, on stderr, so that stdout stays the command's own.

use std::fmt::Display;

/// Says which step begins, or what it found.
pub fn step(what: impl Display) {
    eprintln!("xtask: {what}");
}
