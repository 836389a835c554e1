//! What a person watching reads: one line a step, on stderr, so that stdout stays the command's own.

use std::fmt::Display;
use std::io::Write as _;

/// Says which step begins, or what it found.
pub fn step(what: impl Display) {
    // Not `eprintln`: it panics where the terminal is gone, and the cleaning up has to go on.
    let _gone = writeln!(std::io::stderr(), "xtask: {what}");
}
