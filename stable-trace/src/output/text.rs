//! The stream for people: a line a stall, and the summary as tables.

use std::io::{self, Write};

use super::{
    Form,
    beside::{Beside, account},
    style::{Style, Tone, duration, harmless, stall_tone},
};
use crate::event::{
    Context, Event, Grade, IntegrityError, Line, Lost, Stall, Start, Summary, UnstableWrite,
    Verdict, Workload, WorkloadState,
};

/// Writes text.
pub struct Text<W> {
    out: W,
    style: Style,
    headed: bool,
    beside: Beside,
}

impl<W: Write> Text<W> {
    /// Writes to `out`, which should buffer.
    pub fn new(out: W, style: Style) -> Self {
        Self { out, style, headed: false, beside: Beside::default() }
    }

    fn start(&mut self, start: &Start) -> io::Result<()> {
        let stable: Vec<_> = start
            .devices
            .iter()
            .filter(|device| device.stable_writes)
            .map(|device| device.device.as_str())
            .collect();
        let attached = start.probes.iter().filter(|probe| probe.attached).count();
        let stable = if stable.is_empty() { "no device".to_owned() } else { stable.join(", ") };
        let text = format!(
            "stable-trace {} on Linux {}: {attached} of {} probes attached; stable pages: {stable}",
            start.version,
            start.kernel,
            start.probes.len(),
        );
        writeln!(self.out, "{}", self.style.paint(Tone::Faint, text))
    }

    fn stall(&mut self, time: &str, stall: &Stall) -> io::Result<()> {
        let row = Row {
            time,
            what: &duration(stall.duration_ns),
            tone: stall_tone(stall.duration_ns),
            context: stall.context,
            function: &stall.function,
            device: stall.device.as_deref(),
            fs: stall.fs.as_deref(),
            page: (stall.ino, stall.index),
            task: (&stall.comm, stall.tid),
            stack: stall.stack.as_deref(),
        };
        self.row(&row)
    }

    fn unstable_write(&mut self, time: &str, write: &UnstableWrite) -> io::Result<()> {
        let (what, tone) = match write.grade {
            Grade::Violation => ("BROKEN", Tone::Bad),
            Grade::Hole => ("unstable", Tone::Slow),
            Grade::Harmless => ("unstable", Tone::Faint),
        };
        let row = Row {
            time,
            what,
            tone,
            context: write.context,
            function: &write.function,
            device: write.device.as_deref(),
            fs: write.fs.as_deref(),
            page: (write.ino, write.index),
            task: (&write.comm, write.tid),
            stack: write.stack.as_deref(),
        };
        self.row(&row)
    }

    fn row(&mut self, row: &Row<'_>) -> io::Result<()> {
        if !self.headed {
            self.headed = true;
            let head = format!(
                "{:<15} {:>8}  {:<12} {:<28} {:<10} {:<6} {:>10} {:>8}  TASK",
                "TIME", "STALL", "CONTEXT", "FUNCTION", "DEVICE", "FS", "INODE", "PAGE"
            );
            writeln!(self.out, "{}", self.style.paint(Tone::Strong, head))?;
        }
        // Pad first: colour codes have a length of their own.
        let what = format!("{:>8}", row.what);
        writeln!(
            self.out,
            "{:<15} {}  {:<12} {:<28} {:<10} {:<6} {:>10} {:>8}  {}[{}]",
            clock(row.time),
            self.style.paint(row.tone, what),
            row.context.name(),
            row.function,
            row.device.unwrap_or("-"),
            row.fs.unwrap_or("-"),
            row.page.0,
            row.page.1,
            harmless(row.task.0),
            row.task.1,
        )?;
        for frame in row.stack.into_iter().flatten() {
            writeln!(
                self.out,
                "{}",
                self.style.paint(Tone::Faint, format!("{:>24}  {frame}", ""))
            )?;
        }
        Ok(())
    }

    fn integrity(&mut self, time: &str, error: &IntegrityError) -> io::Result<()> {
        let text = format!(
            "{:<15} {:>8}  {} of {} sectors at {} of {} ({}, by {})",
            clock(time),
            error.status,
            error.op.name(),
            error.sectors,
            error.sector,
            error.device.as_deref().unwrap_or("an unknown device"),
            error.check.name(),
            error.source.name(),
        );
        self.beside.integrity();
        writeln!(self.out, "{}", self.style.paint(Tone::Bad, text))
    }

    fn verdict(&mut self, time: &str, verdict: &Verdict) -> io::Result<()> {
        let text = format!("{:<15} {:>8}  {}", clock(time), "VERDICT", verdict.explanation);
        writeln!(self.out, "{}", self.style.paint(Tone::Strong, text))
    }

    fn lost(&mut self, lost: &Lost) -> io::Result<()> {
        let text = format!("{} lines lost: the ring buffer was full (--ring-size)", lost.count);
        writeln!(self.out, "{}", self.style.paint(Tone::Bad, text))
    }

    fn workload(&mut self, workload: &Workload) -> io::Result<()> {
        if let Some(text) = self.beside.workload(workload) {
            writeln!(self.out, "{}", self.style.paint(Tone::Bad, text))?;
        }
        let text = match workload.state {
            // Its progress is on stderr already.
            WorkloadState::Progress => return Ok(()),
            WorkloadState::Started => format!(
                "wac {}: {} workers rewrite one file of {} bytes",
                workload.profile, workload.threads, workload.file_size
            ),
            WorkloadState::Finished => {
                format!("wac {}: {}", workload.profile, done(workload))
            }
        };
        writeln!(self.out, "{}", self.style.paint(Tone::Strong, text))
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        let out = &mut self.out;
        let elapsed = duration(summary.elapsed_ns);
        let head = format!("\n{} stalls in {elapsed}", summary.stalls_total);
        writeln!(out, "{}", self.style.paint(Tone::Strong, head))?;
        if !summary.stalls.is_empty() {
            writeln!(
                out,
                "  {:<12} {:<10} {:<6} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
                "CONTEXT", "DEVICE", "FS", "STALLS", "STALLED", "P50", "P90", "P99", "MAX"
            )?;
        }
        for line in &summary.stalls {
            let max = format!("{:>9}", duration(line.max_ns));
            writeln!(
                out,
                "  {:<12} {:<10} {:<6} {:>9} {:>9} {:>9} {:>9} {:>9} {}",
                line.context.name(),
                line.device.as_deref().unwrap_or("-"),
                line.fs.as_deref().unwrap_or("-"),
                line.count,
                duration(line.total_ns),
                duration(line.p50_ns),
                duration(line.p90_ns),
                duration(line.p99_ns),
                self.style.paint(stall_tone(line.max_ns), max),
            )?;
        }
        for line in &summary.unstable_writes {
            let text = format!(
                "  {} pages changed under writeback ({}, {} on {} {})",
                line.count,
                line.grade.name(),
                line.context.name(),
                line.device.as_deref().unwrap_or("an unknown device"),
                line.fs.as_deref().unwrap_or(""),
            );
            let tone = match line.grade {
                Grade::Violation => Tone::Bad,
                Grade::Hole => Tone::Slow,
                Grade::Harmless => Tone::Plain,
            };
            writeln!(out, "{}", self.style.paint(tone, text))?;
        }
        for line in &summary.integrity_errors {
            let text = format!(
                "  {} integrity errors ({} {}, by {} on {})",
                line.count,
                line.op.name(),
                line.check.name(),
                line.source.name(),
                line.device.as_deref().unwrap_or("an unknown device"),
            );
            writeln!(out, "{}", self.style.paint(Tone::Bad, text))?;
        }
        if let Some(workload) = &summary.workload {
            writeln!(out, "  wac: {}", done(workload))?;
        }
        for errors in &summary.workload_errors {
            let text = format!("  {}", account(errors));
            writeln!(out, "{}", self.style.paint(Tone::Bad, text))?;
        }
        if summary.stalls_below_threshold > 0 {
            writeln!(
                out,
                "  {} of them were shorter than --min-latency: counted here, not listed above",
                summary.stalls_below_threshold
            )?;
        }
        if summary.events_lost > 0 {
            let text = format!(
                "  {} of them are not listed above: the ring buffer was full (--ring-size)",
                summary.events_lost
            );
            writeln!(out, "{}", self.style.paint(Tone::Bad, text))?;
        }
        for (what, count) in &summary.map_failures {
            let text = format!("  {count} times no room: {what}");
            writeln!(out, "{}", self.style.paint(Tone::Bad, text))?;
        }
        let cost = format!(
            "  cost: {} CPU in the agent, {} in its eBPF programs",
            duration(summary.agent_cpu_ns),
            duration(summary.bpf_cpu_ns)
        );
        writeln!(out, "{}", self.style.paint(Tone::Faint, cost))
    }
}

/// One line about one page.
struct Row<'a> {
    time: &'a str,
    what: &'a str,
    tone: Tone,
    context: Context,
    function: &'a str,
    device: Option<&'a str>,
    fs: Option<&'a str>,
    /// Inode and page index.
    page: (u64, u64),
    /// Name and thread.
    task: (&'a str, u32),
    stack: Option<&'a [String]>,
}

/// What a workload did, in a few words.
fn done(workload: &Workload) -> String {
    let errors: Vec<_> =
        workload.errors.iter().map(|(errno, count)| format!("{count} {errno}")).collect();
    let errors = if errors.is_empty() { "no error".to_owned() } else { errors.join(", ") };
    format!("{} operations, {} bytes, {errors}", workload.operations, workload.bytes)
}

/// The time of day of an RFC 3339 time, to the microsecond.
fn clock(time: &str) -> &str {
    time.get(11..26).unwrap_or(time)
}

impl<W: Write> Form for Text<W> {
    fn line(&mut self, line: &Line) -> io::Result<()> {
        match &line.event {
            Event::Start(start) => self.start(start),
            Event::Stall(stall) => self.stall(&line.time, stall),
            Event::UnstableWrite(write) => self.unstable_write(&line.time, write),
            Event::Integrity(error) => self.integrity(&line.time, error),
            Event::Verdict(verdict) => self.verdict(&line.time, verdict),
            Event::Workload(workload) => self.workload(workload),
            Event::Lost(lost) => self.lost(lost),
            Event::Summary(summary) => self.summary(summary),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(event: Event) -> String {
        let mut out = Vec::new();
        let line = Line { seq: 1, time: "2026-01-02T03:04:05.678901234Z".to_owned(), event };
        Text::new(&mut out, Style { color: false }).line(&line).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_stall_is_one_line_below_its_heading() {
        let text = shown(Event::Stall(Stall {
            context: Context::PageMkwrite,
            function: "ext4_page_mkwrite".into(),
            duration_ns: 18_300_000,
            pid: 41,
            tid: 42,
            comm: "wac\x1b".into(),
            cgroup_id: 1,
            device: Some("loop0".into()),
            dev: Some("7:0".into()),
            fs: Some("ext4".into()),
            ino: 12,
            index: 3,
            path: None,
            stack: None,
        }));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        let columns: Vec<_> = lines[1].split_whitespace().collect();
        assert_eq!(
            columns,
            [
                "03:04:05.678901",
                "18.3ms",
                "page_mkwrite",
                "ext4_page_mkwrite",
                "loop0",
                "ext4",
                "12",
                "3",
                "wac\u{fffd}[42]"
            ]
        );
    }

    #[test]
    fn a_loss_is_said_in_the_summary() {
        let summary = Summary { events_lost: 5, stalls_total: 9, ..Summary::default() };
        let text = shown(Event::Summary(summary));
        assert!(text.contains("9 stalls") && text.contains("5 of them are not listed"), "{text}");
    }
}
