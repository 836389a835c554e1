//! Lines out of bytes as they arrive, with a bound on what an endless one can take.

/// The longest line of a `workload` event is well below this.
const LONGEST: usize = 64 << 10;

/// Splits a stream of bytes into lines.
#[derive(Debug, Default)]
pub struct Lines {
    pending: Vec<u8>,
    /// The current line was too long: its rest is skipped.
    skipping: bool,
}

impl Lines {
    /// Takes bytes, and calls `line` with every line that they complete, without its newline. Of an
    /// overlong line it gets the beginning.
    pub fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            self.keep(&bytes[..end]);
            line(&self.pending);
            self.pending.clear();
            self.skipping = false;
            bytes = &bytes[end + 1..];
        }
        self.keep(bytes);
    }

    /// What came after the last newline, at the end of the stream.
    pub fn finish(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.pending.is_empty() {
            line(&self.pending);
            self.pending.clear();
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.skipping {
            return;
        }
        let room = LONGEST - self.pending.len();
        self.skipping = bytes.len() > room;
        self.pending.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut lines = Lines::default();
        let mut all = Vec::new();
        for chunk in chunks {
            lines.push(chunk, |line| all.push(line.to_vec()));
        }
        lines.finish(|line| all.push(line.to_vec()));
        all
    }

    #[test]
    fn lines_come_whole_however_they_arrive() {
        assert_eq!(split(&[b"a", b"b\nc", b"\n\nd"]), [&b"ab"[..], b"c", b"", b"d"]);
        assert!(split(&[]).is_empty());
    }

    #[test]
    fn an_endless_line_is_cut_and_the_next_is_fine() {
        let long = vec![b'x'; LONGEST];
        let lines = split(&[&long, &long, b"y\nnext\n"]);
        assert_eq!(lines, [long, b"next".to_vec()]);
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(chunks in prop::collection::vec(prop::collection::vec(0_u8..12, 0..20), 0..20)) {
            let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(split(&chunks), split(&[&chunks.concat()]));
        }
    }
}
