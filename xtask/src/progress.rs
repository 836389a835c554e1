//! Progress messages: one line per step on stderr. Stdout carries the results.

use std::fmt::Display;
use std::io::Write as _;

pub(crate) fn step(what: impl Display) {
    // `eprintln` panics when the terminal is closed; the clean-up after it must still run.
    let _ = writeln!(std::io::stderr(), "xtask: {what}");
}
