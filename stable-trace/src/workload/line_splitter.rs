//! Splits a byte stream into lines, with a limit on the length of a line.
//!
//! `tokio_util::codec::AnyDelimiterCodec` has such a limit, but drops an overlong line instead of
//! its tail, and `tokio-util` would be a new dependency.

/// Far above the length of a `workload` event.
const MAX_LINE_LEN: usize = 64 << 10;

#[derive(Debug, Default)]
pub(super) struct LineSplitter {
    pending: Vec<u8>,
    /// The current line is too long: its rest is dropped.
    skipping: bool,
}

impl LineSplitter {
    /// Calls `line` with each line that `bytes` complete, without its newline. An overlong line is
    /// truncated.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            self.append(&bytes[..end]);
            line(&self.pending);
            self.pending.clear();
            self.skipping = false;
            bytes = &bytes[end + 1..];
        }
        self.append(bytes);
    }

    /// Calls `line` with the bytes after the last newline, at the end of the stream.
    pub(super) fn finish(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.pending.is_empty() {
            line(&self.pending);
            self.pending.clear();
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        if self.skipping {
            return;
        }
        let room = MAX_LINE_LEN - self.pending.len();
        self.skipping = bytes.len() > room;
        self.pending.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut splitter = LineSplitter::default();
        let mut all = Vec::new();
        for chunk in chunks {
            splitter.push(chunk, |line| all.push(line.to_vec()));
        }
        splitter.finish(|line| all.push(line.to_vec()));
        all
    }

    #[test]
    fn lines_may_span_chunks() {
        assert_eq!(split(&[b"a", b"b\nc", b"\n\nd"]), [&b"ab"[..], b"c", b"", b"d"]);
        assert!(split(&[]).is_empty());
    }

    #[test]
    fn an_overlong_line_is_truncated_and_the_next_is_whole() {
        let long = vec![b'x'; MAX_LINE_LEN];
        let lines = split(&[&long, &long, b"y\nnext\n"]);
        assert_eq!(lines, [long, b"next".to_vec()]);
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_chunks(chunks in prop::collection::vec(prop::collection::vec(0_u8..12, 0..20), 0..20)) {
            let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(split(&chunks), split(&[&chunks.concat()]));
        }
    }
}
