//! The stream as text for people: one line for each stall, and the summary as tables.

mod columns;
pub(crate) mod findings;
mod row;
mod sparkline;
mod summary;
mod truncate;
mod workload_errors;

use std::io::{self, Write};

use self::{row::Row, truncate::truncate_end, workload_errors::WorkloadErrorDeltas};
use super::{
    EventSink,
    format::sanitize,
    style::{Style, Tone},
};
use crate::{
    event::{Event, Line, Lost, Start, TaskState, Waiting, Workload, WorkloadState},
    units::Timestamp,
};

/// The maximum width of a line.
#[derive(Clone, Copy, Debug)]
pub enum Width {
    /// No limit: for a file or a pipe.
    Unlimited,
    /// A number of terminal cells.
    Cells(usize),
    /// The width that this function returns in cells, if it is known. It is called for each line,
    /// because a terminal can be resized.
    Terminal(fn() -> Option<usize>),
}

impl Width {
    fn current(self) -> Option<usize> {
        match self {
            Self::Unlimited => None,
            Self::Cells(cells) => Some(cells),
            Self::Terminal(cells) => cells(),
        }
    }
}

/// Writes a stream as text.
pub struct TextSink<W> {
    out: W,
    style: Style,
    width: Width,
    has_headings: bool,
    /// The width that the headings were written for.
    headings_width: Option<usize>,
    workload_errors: WorkloadErrorDeltas,
}

impl<W: Write> TextSink<W> {
    /// Writes to `out`, which should be buffered.
    pub fn new(out: W, style: Style, width: Width) -> Self {
        Self {
            out,
            style,
            width,
            has_headings: false,
            headings_width: None,
            workload_errors: WorkloadErrorDeltas::default(),
        }
    }

    fn start(&mut self, start: &Start) -> io::Result<()> {
        let stable: Vec<_> = start
            .devices
            .iter()
            .filter(|device| device.stable_writes)
            .map(|device| sanitize(&device.device))
            .collect();
        let attached = start.probes.iter().filter(|probe| probe.attached).count();
        let stable = if stable.is_empty() { "no device".to_owned() } else { stable.join(", ") };
        let text = format!(
            "stable-trace {} on Linux {}: {attached} of {} probes attached; stable pages: {stable}",
            sanitize(&start.version),
            sanitize(&start.kernel),
            start.probes.len(),
        );
        writeln!(self.out, "{}", self.style.paint(Tone::Faint, text))
    }

    fn row(&mut self, time: Timestamp, row: &Row<'_>) -> io::Result<()> {
        let width = self.width.current();
        // Again after the terminal has been resized.
        if !self.has_headings || self.headings_width != width {
            self.has_headings = true;
            self.headings_width = width;
            writeln!(self.out, "{}", self.style.paint(Tone::Strong, row::headings(width)))?;
        }
        writeln!(self.out, "{}", row.line(&time.time_of_day(), width, self.style))?;
        for frame in row.stack {
            let frame = format!("{:>24}  {}", "", sanitize(frame));
            writeln!(self.out, "{}", self.style.paint(Tone::Faint, frame))?;
        }
        Ok(())
    }

    fn waiting(&mut self, time: Timestamp, waiting: &Waiting) -> io::Result<()> {
        self.row(time, &Row::waiting(waiting))?;
        let device = sanitize(waiting.device.as_deref().unwrap_or("the device"));
        let text = match (waiting.server_pid, waiting.writes_in_flight) {
            (Some(pid), _) => {
                let state = waiting.server_state.map_or("gone", TaskState::name);
                format!("served by process {pid}, which is {state}")
            }
            (None, Some(0)) if !waiting.ended => format!("{device} has no write in flight"),
            (None, Some(1)) if !waiting.ended => format!("{device} has 1 write in flight"),
            (None, Some(writes)) if !waiting.ended => {
                format!("{device} has {writes} writes in flight")
            }
            (None, _) => return Ok(()),
        };
        let text = format!("{:>10}  {text}", "");
        let text = match self.width.current() {
            Some(width) => truncate_end(&text, width),
            None => text,
        };
        writeln!(self.out, "{}", self.style.paint(Tone::Faint, text))
    }

    fn lost(&mut self, lost: &Lost) -> io::Result<()> {
        if lost.count == 0 {
            // For verdicts, which say so.
            return Ok(());
        }
        if let Some(output) = lost.output {
            let text = summary::outputs_lost(output, lost.count);
            return writeln!(self.out, "{}", self.style.paint(Tone::Bad, text));
        }
        let text = format!("{} lines lost: the ring buffer was full (--ring-size)", lost.count);
        writeln!(self.out, "{}", self.style.paint(Tone::Bad, text))
    }

    fn workload(&mut self, workload: &Workload) -> io::Result<()> {
        if let Some(text) = self.workload_errors.workload(workload) {
            writeln!(self.out, "{}", self.style.paint(Tone::Bad, sanitize(&text)))?;
        }
        let profile = sanitize(&workload.profile);
        let text = match workload.state {
            // `wac` itself shows its progress on stderr.
            WorkloadState::Progress => return Ok(()),
            WorkloadState::Started => format!(
                "wac {profile}: {} workers rewrite one file of {} bytes",
                workload.threads, workload.file_size
            ),
            WorkloadState::Finished => format!("wac {profile}: {}", summary::totals(workload)),
        };
        writeln!(self.out, "{}", self.style.paint(Tone::Strong, text))
    }
}

impl<W: Write> EventSink for TextSink<W> {
    fn line(&mut self, line: &Line) -> io::Result<()> {
        let time = line.time.time_of_day();
        let text = match &line.event {
            Event::Start(start) => return self.start(start),
            Event::Stall(stall) => return self.row(line.time, &Row::stall(stall)),
            Event::Waiting(waiting) => return self.waiting(line.time, waiting),
            Event::UnstableWrite(write) => return self.row(line.time, &Row::unstable_write(write)),
            Event::Workload(workload) => return self.workload(workload),
            Event::Lost(lost) => return self.lost(lost),
            Event::Integrity(error) => {
                self.workload_errors.integrity_error();
                findings::integrity_error(&time, error, self.width.current(), self.style)
            }
            Event::Verdict(verdict) => {
                findings::verdict(&time, verdict, self.width.current(), self.style)
            }
            Event::Summary(summary) => {
                return summary::write(&mut self.out, summary, self.width.current(), self.style);
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
