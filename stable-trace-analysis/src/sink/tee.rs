//! Sends one stream to several sinks.

use std::io;

use super::EventSink;
use crate::event::Line;

/// Passes each line to every one of its sinks, in order.
pub struct Tee {
    sinks: Vec<Box<dyn EventSink>>,
}

impl Tee {
    /// Combines sinks.
    pub fn new(sinks: Vec<Box<dyn EventSink>>) -> Self {
        Self { sinks }
    }

    /// Calls every sink, also after a failure, and returns the first error.
    fn each(
        &mut self,
        mut call: impl FnMut(&mut dyn EventSink) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut outcome = Ok(());
        for sink in &mut self.sinks {
            outcome = outcome.and(call(sink.as_mut()));
        }
        outcome
    }
}

impl EventSink for Tee {
    fn line(&mut self, line: &Line) -> io::Result<()> {
        self.each(|sink| sink.line(line))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.each(|sink| sink.flush())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{Event, Lost},
        sink::json::JsonSink,
    };

    /// A pipe without a reader.
    struct Closed;

    impl EventSink for Closed {
        fn line(&mut self, _: &Line) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[derive(Clone, Default)]
    struct Shared(std::rc::Rc<std::cell::RefCell<Vec<u8>>>);

    impl io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_failed_sink_does_not_keep_lines_from_the_others() {
        let text = Shared::default();
        let mut tee = Tee::new(vec![Box::new(Closed), Box::new(JsonSink::new(text.clone()))]);
        let event = Event::Lost(Lost { count: 1, since_seq: 0, within_ns: None, unseen: 0 });
        let line =
            Line { seq: 1, time: crate::units::Timestamp::default(), monotonic_ns: None, event };
        assert_eq!(tee.line(&line).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(serde_json::from_slice::<Line>(&text.0.borrow()).unwrap(), line);
    }
}
