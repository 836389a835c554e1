//! One stream in several sinks.

use std::io;

use super::EventSink;
use crate::event::Line;

/// Hands every line to each of several sinks.
pub struct Tee {
    sinks: Vec<Box<dyn EventSink>>,
}

impl Tee {
    /// Of these, in this order.
    #[must_use]
    pub fn new(sinks: Vec<Box<dyn EventSink>>) -> Self {
        Self { sinks }
    }

    /// Asks each, whatever the others say; what the first of them says that says something.
    fn each(
        &mut self,
        mut ask: impl FnMut(&mut dyn EventSink) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut outcome = Ok(());
        for form in &mut self.sinks {
            outcome = outcome.and(ask(form.as_mut()));
        }
        outcome
    }
}

impl EventSink for Tee {
    fn line(&mut self, line: &Line) -> io::Result<()> {
        self.each(|form| form.line(line))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.each(|form| form.flush())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{Event, Lost},
        sink::json::Json,
    };

    /// A pipe that nobody reads.
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
    fn one_that_fails_keeps_no_line_from_the_others() {
        let text = Shared::default();
        let mut tee = Tee::new(vec![Box::new(Closed), Box::new(Json::new(text.clone()))]);
        let event = Event::Lost(Lost { count: 1, since_seq: 0, within_ns: None });
        let line = Line { seq: 1, time: crate::units::Timestamp::default(), event };
        assert_eq!(tee.line(&line).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(serde_json::from_slice::<Line>(&text.0.borrow()).unwrap(), line);
    }
}
