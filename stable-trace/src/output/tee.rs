//! One stream in several forms.

use std::io;

use super::Form;
use crate::event::Line;

/// Hands every line to each of several forms.
pub struct Tee {
    forms: Vec<Box<dyn Form>>,
}

impl Tee {
    /// Of these, in this order.
    #[must_use]
    pub fn new(forms: Vec<Box<dyn Form>>) -> Self {
        Self { forms }
    }

    /// Asks each, whatever the others say; what the first of them says that says something.
    fn each(&mut self, mut ask: impl FnMut(&mut dyn Form) -> io::Result<()>) -> io::Result<()> {
        let mut outcome = Ok(());
        for form in &mut self.forms {
            outcome = outcome.and(ask(form.as_mut()));
        }
        outcome
    }
}

impl Form for Tee {
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
        output::json::Json,
    };

    /// A pipe that nobody reads.
    struct Closed;

    impl Form for Closed {
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
        let line = Line { seq: 1, time: "t".into(), event };
        assert_eq!(tee.line(&line).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(serde_json::from_slice::<Line>(&text.0.borrow()).unwrap(), line);
    }
}
