//! Output formats of the stream, behind one trait.

pub(crate) mod bucket_range;
pub mod format;
pub mod json;
pub mod style;
pub mod text;

use std::io;

use crate::event::Line;

/// Takes the lines of a stream.
pub trait EventSink {
    /// Writes one line.
    fn line(&mut self, line: &Line) -> io::Result<()>;

    /// Writes everything that is buffered.
    fn flush(&mut self) -> io::Result<()>;
}

/// Whether an output still has a reader, by the outcome of writing to it. `BrokenPipe` is no error:
/// the reader has closed the pipe and wants no more.
pub fn reader_is_open(outcome: io::Result<()>) -> io::Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_no_error() {
        assert!(reader_is_open(Ok(())).unwrap());
        assert!(!reader_is_open(Err(io::ErrorKind::BrokenPipe.into())).unwrap());
        assert!(reader_is_open(Err(io::ErrorKind::StorageFull.into())).is_err());
    }
}
