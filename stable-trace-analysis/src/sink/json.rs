//! JSON lines: one object a line.

use std::io::{self, Write};

use super::EventSink;
use crate::event::Line;

/// Writes a stream as JSON lines.
pub struct JsonSink<W> {
    out: W,
}

impl<W: Write> JsonSink<W> {
    /// Writes to `out`, which should be buffered.
    pub const fn new(out: W) -> Self {
        Self { out }
    }
}

impl<W: Write> EventSink for JsonSink<W> {
    fn line(&mut self, line: &Line) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, line).map_err(io::Error::from)?;
        self.out.write_all(b"\n")
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, Lost};

    #[test]
    fn a_line_is_an_object_with_type_seq_and_time() {
        let mut out = Vec::new();
        let line = Line {
            seq: 7,
            time: "2026-01-02T03:04:05.000000006Z".parse().unwrap(),
            monotonic_ns: Some(9),
            event: Event::Lost(Lost { count: 3, since_seq: 6, ..Lost::default() }),
        };
        JsonSink::new(&mut out).line(&line).unwrap();
        assert!(out.ends_with(b"\n"));
        let object: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            object,
            serde_json::json!({
                "type": "lost", "seq": 7, "time": "2026-01-02T03:04:05.000000006Z",
                "monotonic_ns": 9, "count": 3, "since_seq": 6,
            })
        );
        assert_eq!(serde_json::from_slice::<Line>(&out).unwrap(), line);
    }
}
