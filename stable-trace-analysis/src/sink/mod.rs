//! What people and programs read: each form of the stream behind one trait.

pub mod json;
pub mod style;
pub mod tee;
pub mod text;
mod workload_errors;

use std::io;

use crate::event::Line;

/// A form of the stream.
pub trait EventSink {
    /// Writes one line of the stream.
    ///
    /// # Errors
    /// What the writer says.
    fn line(&mut self, line: &Line) -> io::Result<()>;

    /// Hands what was written to whoever reads.
    ///
    /// # Errors
    /// What the writer says.
    fn flush(&mut self) -> io::Result<()>;
}
