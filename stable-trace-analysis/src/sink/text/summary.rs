//! Writes the summary as tables.

use std::io::{self, Write};

use super::{
    findings::{cause_label, cause_tone},
    sparkline::sparkline,
    truncate::{left_aligned, truncate_end},
    workload_errors,
};
use crate::{
    event::{Association, Grade, Output, StallSummary, Summary, Waiting, WaitsFiltered, Workload},
    sink::{
        bucket_range::BucketRange,
        format::{duration, p_value, sanitize},
        style::{Style, Tone},
    },
};

/// Tasks that waited at the end that are listed, at most: those that had waited longest.
const WAITING_LINES: usize = 8;

/// The width of the table of stalls without its sparklines.
const TABLE_WIDTH: usize = 92;

pub(super) fn write(
    out: &mut impl Write,
    summary: &Summary,
    width: Option<usize>,
    style: Style,
) -> io::Result<()> {
    let mut writer = SummaryWriter { out, width, style };
    writer.stalls(summary)?;
    writer.waiting(summary)?;
    writer.findings(summary)?;
    writer.notes(summary)
}

/// A task that waited at the end.
fn waiting_line(waiting: &Waiting) -> String {
    let file = match (&waiting.path, waiting.ino) {
        (Some(path), _) => sanitize(path),
        (None, Some(ino)) => format!("inode {ino}"),
        (None, None) => "-".to_owned(),
    };
    format!(
        "    {:>9} {:<12} {} {} {file} page {}  {}[{}]",
        duration(waiting.age_ns),
        waiting.context.name(),
        left_aligned(&sanitize(waiting.device.as_deref().unwrap_or("-")), 10),
        left_aligned(&sanitize(waiting.fs.as_deref().unwrap_or("-")), 6),
        waiting.index,
        sanitize(&waiting.comm),
        waiting.tid,
    )
}

struct SummaryWriter<'a, W> {
    out: &'a mut W,
    width: Option<usize>,
    style: Style,
}

impl<W: Write> SummaryWriter<'_, W> {
    /// Writes one line, truncated to the width.
    fn write_line(&mut self, tone: Tone, text: &str) -> io::Result<()> {
        let text = self.width.map_or_else(|| text.to_owned(), |width| truncate_end(text, width));
        writeln!(self.out, "{}", self.style.paint(tone, text))
    }

    fn stalls(&mut self, summary: &Summary) -> io::Result<()> {
        let suffix = if summary.incomplete { ", as far as the recording goes" } else { "" };
        let title =
            format!("{} stalls in {}{suffix}", summary.stalls_total, duration(summary.elapsed_ns));
        writeln!(self.out)?;
        self.write_line(Tone::Strong, &title)?;
        if summary.stalls.is_empty() {
            return match &summary.waits_filtered {
                Some(filtered) => {
                    self.write_line(Tone::Plain, &format!("  {}", nothing_matched(filtered)))
                }
                None => Ok(()),
            };
        }
        let range = BucketRange::of(summary.stalls.iter().map(|line| line.buckets.as_slice()));
        let inline = self
            .width
            .is_none_or(|width| range.is_none_or(|range| TABLE_WIDTH + 2 + range.len() <= width));
        let heading = format!(
            "  {:<12} {:<10} {:<6} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "CONTEXT", "DEVICE", "FS", "STALLS", "STALLED", "P50", "P90", "P99", "MAX"
        );
        match range {
            Some(range) if inline => {
                self.write_line(Tone::Plain, &format!("{heading}  {}", range.label()))?;
            }
            _ => self.write_line(Tone::Plain, &heading)?,
        }
        for line in &summary.stalls {
            self.stall(line, range, inline)?;
        }
        match range {
            Some(range) if !inline => self
                .write_line(Tone::Faint, &format!("  bars: {}, in powers of two", range.label())),
            _ => Ok(()),
        }
    }

    fn stall(
        &mut self,
        line: &StallSummary,
        range: Option<BucketRange>,
        inline: bool,
    ) -> io::Result<()> {
        let start = format!(
            "  {:<12} {} {} {:>9} {:>9} {:>9} {:>9} {:>9} ",
            line.context.name(),
            left_aligned(&sanitize(line.device.as_deref().unwrap_or("-")), 10),
            left_aligned(&sanitize(line.fs.as_deref().unwrap_or("-")), 6),
            line.count,
            duration(line.total_ns),
            duration(line.p50_ns),
            duration(line.p90_ns),
            duration(line.p99_ns),
        );
        let max = format!("{:>9}", duration(line.max_ns));
        let fits = self.width.is_none_or(|width| width >= TABLE_WIDTH);
        if fits {
            write!(self.out, "{start}{}", self.style.paint(Tone::of_stall(line.max_ns), max))?;
        } else {
            write!(
                self.out,
                "{}",
                truncate_end(&format!("{start}{max}"), self.width.unwrap_or(TABLE_WIDTH))
            )?;
        }
        match range {
            Some(range) if inline => {
                writeln!(self.out, "  {}", sparkline(range, &line.buckets, self.style))
            }
            Some(range) => {
                writeln!(self.out, "\n  {}", sparkline(range, &line.buckets, self.style))
            }
            None => writeln!(self.out),
        }
    }

    /// Tasks that waited still when the run ended.
    fn waiting(&mut self, summary: &Summary) -> io::Result<()> {
        let tasks = summary.waits_unfinished;
        if summary.waiting.is_empty() {
            return Ok(());
        }
        let title = format!(
            "  {tasks} {} at the end:",
            if tasks == 1 { "task waited" } else { "tasks waited" }
        );
        self.write_line(Tone::Slow, &title)?;
        for waiting in summary.waiting.iter().take(WAITING_LINES) {
            self.write_line(Tone::Slow, &waiting_line(waiting))?;
        }
        Ok(())
    }

    /// Unstable writes, integrity errors, verdicts and associations.
    fn findings(&mut self, summary: &Summary) -> io::Result<()> {
        for line in &summary.unstable_writes {
            let text = format!(
                "  {} pages changed under writeback ({}, {} on {} {})",
                line.count,
                line.grade.name(),
                line.context.name(),
                device(line.device.as_deref()),
                sanitize(line.fs.as_deref().unwrap_or("")),
            );
            let tone = match line.grade {
                Grade::Violation => Tone::Bad,
                Grade::Hole => Tone::Slow,
                Grade::Harmless => Tone::Plain,
            };
            self.write_line(tone, &text)?;
        }
        if summary.integrity_errors_total > 0 {
            writeln!(self.out)?;
            let title = format!("{} integrity errors", summary.integrity_errors_total);
            self.write_line(Tone::Strong, &title)?;
        }
        for line in &summary.integrity_errors {
            let text = format!(
                "  {:>9}  {} {} on {}, seen by {}",
                line.count,
                line.op.name(),
                line.check.name(),
                device(line.device.as_deref()),
                line.source.name(),
            );
            self.write_line(Tone::Bad, &text)?;
        }
        if !summary.verdicts.is_empty() {
            self.write_line(Tone::Strong, "verdicts")?;
        }
        for line in &summary.verdicts {
            let on = device(line.device.as_deref());
            let text = format!("  {:>9}  {}, on {on}", line.count, cause_label(line.cause));
            self.write_line(cause_tone(line.cause), &text)?;
        }
        if !summary.associations.is_empty() {
            self.write_line(
                Tone::Strong,
                "stalls around integrity errors, against those elsewhere",
            )?;
        }
        for line in &summary.associations {
            let tone = if line.too_few { Tone::Faint } else { Tone::Plain };
            self.write_line(tone, &association(line))?;
        }
        Ok(())
    }

    fn notes(&mut self, summary: &Summary) -> io::Result<()> {
        if let Some(workload) = &summary.workload {
            self.write_line(Tone::Plain, &format!("  wac: {}", totals(workload)))?;
        }
        for errors in &summary.workload_errors {
            self.write_line(Tone::Bad, &format!("  {}", workload_errors::summary_line(errors)))?;
        }
        if summary.stalls_below_threshold > 0 {
            let text = format!(
                "  {} of them were shorter than --min-latency: counted here, not listed above",
                summary.stalls_below_threshold
            );
            self.write_line(Tone::Plain, &text)?;
        }
        if summary.events_lost > 0 {
            let text = format!(
                "  {} of them are not listed above: the ring buffer was full (--ring-size)",
                summary.events_lost
            );
            self.write_line(Tone::Bad, &text)?;
        }
        for (output, count) in &summary.outputs_lost {
            self.write_line(Tone::Bad, &format!("  {}", outputs_lost(*output, *count)))?;
        }
        if summary.evidence_skipped > 0 {
            let text = format!(
                "  {} integrity errors have no proof, or not of all data: too many at once",
                summary.evidence_skipped
            );
            self.write_line(Tone::Slow, &text)?;
        }
        for (what, count) in &summary.map_failures {
            self.write_line(
                Tone::Bad,
                &format!("  {count} insertions into a full map: {}", sanitize(what)),
            )?;
        }
        if summary.incomplete {
            let text =
                "  from the lines of the recording alone: what was not streamed is not counted";
            return self.write_line(Tone::Slow, text);
        }
        let mut cost = format!("  cost: {} CPU in the agent", duration(summary.agent_cpu_ns));
        // 0 if the kernel does not measure it.
        if summary.bpf_cpu_ns > 0 {
            cost = format!("{cost}, {} in its eBPF programs", duration(summary.bpf_cpu_ns));
        }
        self.write_line(Tone::Faint, &cost)
    }
}

/// What the filters left out of a run without stalls.
fn nothing_matched(filtered: &WaitsFiltered) -> String {
    let left_out: Vec<_> =
        [(filtered.tasks, "of other processes"), (filtered.devices, "for other devices")]
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, whose)| match count {
                1 => format!("1 wait {whose}"),
                _ => format!("{count} waits {whose}"),
            })
            .collect();
    let left_out = match (&left_out[..], filtered.tasks + filtered.devices) {
        ([], _) => "there were no other waits either".to_owned(),
        (_, 1) => format!("{} was left out", left_out.join("")),
        _ => format!("{} were left out", left_out.join(" and ")),
    };
    format!("no stall matched {}: {left_out}", sanitize(&filtered.scope))
}

fn association(line: &Association) -> String {
    let name = line.device.as_deref().map_or_else(|| "all".to_owned(), sanitize);
    let (around, elsewhere) = (line.around, line.elsewhere);
    if line.too_few {
        let reason = line.too_few_reason.as_deref().unwrap_or("too few to compare");
        return format!("  {name:<10} {}", sanitize(reason));
    }
    let times = |ratio: Option<f64>| ratio.map_or_else(String::new, |r| format!(" ({r:.2}×)"));
    let mut text = format!(
        "  {name:<10} p50 {} against {}{}, p99 {} against {}{}",
        duration(around.p50_ns),
        duration(elsewhere.p50_ns),
        times(line.p50_ratio),
        duration(around.p99_ns),
        duration(elsewhere.p99_ns),
        times(line.p99_ratio),
    );
    if let Some(p) = line.p_value {
        text.push_str(", p ");
        if p >= 0.001 {
            text.push_str("= ");
        }
        text.push_str(&p_value(p));
    }
    if let Some(lag) = line.peak_lag_ns {
        let side = if lag < 0 { "before" } else { "after" };
        text.push_str(", most ");
        text.push_str(&duration(lag.unsigned_abs()));
        text.push(' ');
        text.push_str(side);
    }
    text
}

/// Lines that an output lacks.
pub(super) fn outputs_lost(output: Output, count: u64) -> String {
    let output = match output {
        Output::Stdout => "standard output",
        Output::File => "the file of --output",
        Output::Recording => "the recording",
    };
    let lines = if count == 1 { "line is" } else { "lines are" };
    format!("{count} {lines} missing from {output}: it was too slow, or could not be written")
}

fn device(name: Option<&str>) -> String {
    sanitize(name.unwrap_or("an unknown device"))
}

/// The totals of a workload.
pub(super) fn totals(workload: &Workload) -> String {
    let errors: Vec<_> = workload
        .errors
        .iter()
        .map(|(errno, count)| format!("{count} {}", sanitize(errno)))
        .collect();
    let errors = if errors.is_empty() { "no error".to_owned() } else { errors.join(", ") };
    format!("{} operations, {} bytes, {errors}", workload.operations, workload.bytes)
}
