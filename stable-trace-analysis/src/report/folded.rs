//! Stalled time by stack, in the folded form that tools for flame graphs read: a line a stack, its frames from the
//! outermost on, and the time in ns.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use hashbrown::HashMap;

use crate::event::{Event, Line, Stall};

/// Stacks that are told apart, at most. The time of others is one line.
const CAPACITY: usize = 1 << 16;

/// The frame of stacks beyond [`CAPACITY`].
const OTHERS: &str = "[other stacks]";

/// Sums stalled time by stack.
#[derive(Debug, Default)]
pub struct Folded {
    /// Stalled time in ns.
    stacks: HashMap<Box<str>, u64>,
    /// The stack of the last stall.
    text: String,
    others_ns: u64,
}

impl Folded {
    /// Adds the next line. Lines that are no stalls have no stalled time.
    pub fn line(&mut self, line: &Line) {
        let Event::Stall(stall) = &line.event else {
            return;
        };
        self.text.clear();
        fold(stall, &mut self.text);
        if let Some(sum) = self.stacks.get_mut(self.text.as_str()) {
            *sum = sum.saturating_add(stall.duration_ns);
        } else if self.stacks.len() < CAPACITY {
            self.stacks.insert(self.text.as_str().into(), stall.duration_ns);
        } else {
            self.others_ns = self.others_ns.saturating_add(stall.duration_ns);
        }
    }

    /// Writes the sums, sorted by their stacks.
    pub fn write(&self, mut out: impl Write) -> io::Result<()> {
        let mut stacks: Vec<_> = self.stacks.iter().collect();
        stacks.sort_unstable();
        for (stack, ns) in stacks {
            writeln!(out, "{stack} {ns}")?;
        }
        if self.others_ns > 0 {
            writeln!(out, "{OTHERS} {}", self.others_ns)?;
        }
        out.flush()
    }
}

/// The process, then the stack. Without `--stacks` the context and the function stand for it.
fn fold(stall: &Stall, text: &mut String) {
    frame(stall.process.as_ref().unwrap_or(&stall.comm), text);
    match &stall.stack {
        Some(frames) if !frames.is_empty() => {
            for name in frames.iter().rev() {
                text.push(';');
                frame(name, text);
            }
        }
        _ => {
            for name in [stall.context.name(), &stall.function] {
                text.push(';');
                frame(name, text);
            }
        }
    }
}

/// Appends a name without what separates frames and lines.
fn frame(name: &str, text: &mut String) {
    for char in name.chars() {
        match char {
            ';' => text.push(':'),
            char if char.is_control() => {
                // Writing to a string cannot fail.
                let _ = write!(text, "{}", char.escape_default());
            }
            char => text.push(char),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(fields: &str) -> Line {
        let text = format!(
            r#"{{"seq":1,"time":"2026-11-30T00:00:00Z","type":"stall","context":"sync","function":"f","pid":1,"tid":2,"index":3,{fields}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn folded(lines: &[&str]) -> String {
        let mut folded = Folded::default();
        for fields in lines {
            folded.line(&line(fields));
        }
        let mut out = Vec::new();
        folded.write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_time_of_equal_stacks_is_summed() {
        let stack = r#""stack":["inner","middle","outer"]"#;
        let lines = [
            format!(r#""duration_ns":5,"comm":"t1","process":"db",{stack}"#),
            format!(r#""duration_ns":7,"comm":"t2","process":"db",{stack}"#),
            r#""duration_ns":1,"comm":"db""#.to_owned(),
        ];
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        assert_eq!(folded(&lines), "db;outer;middle;inner 12\ndb;sync;f 1\n");
    }

    #[test]
    fn a_name_separates_neither_frames_nor_lines() {
        assert_eq!(folded(&[r#""duration_ns":1,"comm":"a;b\n c""#]), "a:b\\n c;sync;f 1\n");
    }

    #[test]
    fn the_number_of_stacks_is_bounded() {
        let mut folded = Folded::default();
        for process in 0..CAPACITY + 10 {
            folded.line(&line(&format!(r#""duration_ns":3,"comm":"{process}""#)));
        }
        let mut out = Vec::new();
        folded.write(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), CAPACITY + 1);
        assert!(text.ends_with("[other stacks] 30\n"));
    }
}
