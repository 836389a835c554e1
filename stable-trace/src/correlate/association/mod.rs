//! How stalls and integrity errors go together.

use std::time::Duration;

use crate::event::{Association, Line};

/// Compares the stalls around integrity errors with the others, by device and overall.
#[derive(Debug)]
pub struct Associations {}

impl Associations {
    /// Has seen nothing.
    #[must_use]
    pub fn new(_window: Duration, _slack: Duration) -> Self {
        Self {}
    }

    /// Takes a line.
    pub fn observe(&mut self, _line: &Line) {}

    /// What it has come to: of all devices, then of each that has errors.
    #[must_use]
    pub fn result(&self) -> Vec<Association> {
        Vec::new()
    }
}
