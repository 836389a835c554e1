//! The stream for people: a line a stall, findings that stand out, and the summary as tables.

mod columns;
pub mod findings;
mod row;
mod sparkline;
mod summary;
mod truncate;

use std::io::{self, Write};

use self::row::Row;
use super::{
    EventSink,
    style::{Style, Tone, harmless},
    workload_errors::WorkloadErrorDeltas,
};
use crate::{
    event::{Event, Line, Lost, Start, Workload, WorkloadState},
    units::Timestamp,
};

/// How wide the lines may be.
#[derive(Clone, Copy, Debug)]
pub enum Width {
    /// As wide as they need to be: in a file, or a pipe.
    Unlimited,
    /// As wide as a terminal, whose width in cells is asked for before each line: it may be resized.
    Terminal(
        /// The current width; nothing if the terminal does not know it.
        fn() -> Option<usize>,
    ),
    /// So many cells.
    Cells(
        /// How many.
        usize,
    ),
}

impl Width {
    /// Now, in cells.
    fn now(self) -> Option<usize> {
        match self {
            Self::Unlimited => None,
            Self::Cells(cells) => Some(cells),
            Self::Terminal(cells) => cells(),
        }
    }
}

/// Writes text.
pub struct Text<W> {
    out: W,
    style: Style,
    width: Width,
    /// Whether there are headings.
    headed: bool,
    /// The width that they were written for.
    headed_for: Option<usize>,
    beside: WorkloadErrorDeltas,
}

impl<W: Write> Text<W> {
    /// Writes to `out`, which should buffer.
    pub fn new(out: W, style: Style, width: Width) -> Self {
        Self {
            out,
            style,
            width,
            headed: false,
            headed_for: None,
            beside: WorkloadErrorDeltas::default(),
        }
    }

    fn start(&mut self, start: &Start) -> io::Result<()> {
        let stable: Vec<_> = start
            .devices
            .iter()
            .filter(|device| device.stable_writes)
            .map(|device| harmless(&device.device))
            .collect();
        let attached = start.probes.iter().filter(|probe| probe.attached).count();
        let stable = if stable.is_empty() { "no device".to_owned() } else { stable.join(", ") };
        let text = format!(
            "stable-trace {} on Linux {}: {attached} of {} probes attached; stable pages: {stable}",
            harmless(&start.version),
            harmless(&start.kernel),
            start.probes.len(),
        );
        writeln!(self.out, "{}", self.style.paint(Tone::Faint, text))
    }

    fn row(&mut self, time: Timestamp, row: &Row<'_>) -> io::Result<()> {
        let width = self.width.now();
        // Once, and again where the terminal was given another size.
        if !self.headed || self.headed_for != width {
            self.headed = true;
            self.headed_for = width;
            writeln!(self.out, "{}", self.style.paint(Tone::Strong, row::headings(width)))?;
        }
        writeln!(self.out, "{}", row.line(&time.time_of_day(), width, self.style))?;
        for frame in row.stack {
            let frame = format!("{:>24}  {}", "", harmless(frame));
            writeln!(self.out, "{}", self.style.paint(Tone::Faint, frame))?;
        }
        Ok(())
    }

    fn lost(&mut self, lost: &Lost) -> io::Result<()> {
        let text = format!("{} lines lost: the ring buffer was full (--ring-size)", lost.count);
        writeln!(self.out, "{}", self.style.paint(Tone::Bad, text))
    }

    fn workload(&mut self, workload: &Workload) -> io::Result<()> {
        if let Some(text) = self.beside.workload(workload) {
            writeln!(self.out, "{}", self.style.paint(Tone::Bad, harmless(&text)))?;
        }
        let profile = harmless(&workload.profile);
        let text = match workload.state {
            // Its progress is on stderr already.
            WorkloadState::Progress => return Ok(()),
            WorkloadState::Started => format!(
                "wac {profile}: {} workers rewrite one file of {} bytes",
                workload.threads, workload.file_size
            ),
            WorkloadState::Finished => format!("wac {profile}: {}", summary::done(workload)),
        };
        writeln!(self.out, "{}", self.style.paint(Tone::Strong, text))
    }
}

impl<W: Write> EventSink for Text<W> {
    fn line(&mut self, line: &Line) -> io::Result<()> {
        let time = line.time.time_of_day();
        let text = match &line.event {
            Event::Start(start) => return self.start(start),
            Event::Stall(stall) => return self.row(line.time, &Row::stall(stall)),
            Event::UnstableWrite(write) => return self.row(line.time, &Row::unstable(write)),
            Event::Workload(workload) => return self.workload(workload),
            Event::Lost(lost) => return self.lost(lost),
            Event::Integrity(error) => {
                self.beside.integrity();
                findings::integrity(&time, error, self.width.now(), self.style)
            }
            Event::Verdict(verdict) => {
                findings::verdict(&time, verdict, self.width.now(), self.style)
            }
            Event::Summary(summary) => {
                return summary::write(&mut self.out, summary, self.width.now(), self.style);
            }
        };
        writeln!(self.out, "{text}")
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests;
