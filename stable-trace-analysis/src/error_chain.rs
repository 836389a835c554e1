//! Formats an error with its sources on one line.

use std::{error::Error, fmt};

/// Formats an error and its sources on one line, as `what failed: its cause: the cause of that`.
///
/// The text of an error does not contain its source. The command line and each log message
/// therefore show the chain.
#[derive(Clone, Copy, Debug)]
pub struct ErrorChain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut next = Some(self.0);
        let mut separator = "";
        while let Some(error) = next {
            write!(out, "{separator}{}", error.to_string().trim_end().replace('\n', " "))?;
            separator = ": ";
            next = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot write\nthe recording (is the disk full?)")]
    struct Write(#[source] io::Error);

    #[test]
    fn the_sources_follow_on_one_line() {
        let error = Write(io::Error::other("no room"));
        let shown = ErrorChain(&error).to_string();
        assert_eq!(shown, "cannot write the recording (is the disk full?): no room");
    }
}
