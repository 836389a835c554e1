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

/// Whether the reader of a stream is still there, by the outcome of a write. A closed pipe is a
/// reader that has seen enough, and not an error.
///
/// # Errors
/// The write failed for any other reason.
pub fn reader_is_open(written: io::Result<()>) -> io::Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}
