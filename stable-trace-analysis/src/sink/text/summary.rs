//! The summary as tables.

use std::io::{self, Write};

use super::{
    findings::{cause_tone, cause_words},
    sparkline::Span,
    truncate::{head, left},
};
use crate::sink::workload_errors::account;
use crate::{
    event::{Association, Grade, StallSummary, Summary, Workload},
    sink::style::{Style, Tone, duration, harmless, p_value, stall_tone},
};

/// The cells of the table of stalls without its bars.
const TABLE: usize = 92;

/// Writes a summary.
pub fn write(
    out: &mut impl Write,
    summary: &Summary,
    width: Option<usize>,
    style: Style,
) -> io::Result<()> {
    let mut page = Page { out, width, style };
    page.stalls(summary)?;
    page.findings(summary)?;
    page.notes(summary)
}

struct Page<'a, W> {
    out: &'a mut W,
    width: Option<usize>,
    style: Style,
}

impl<W: Write> Page<'_, W> {
    /// A line in a tone, cut to the width.
    fn say(&mut self, tone: Tone, text: &str) -> io::Result<()> {
        let text = self.width.map_or_else(|| text.to_owned(), |width| head(text, width));
        writeln!(self.out, "{}", self.style.paint(tone, text))
    }

    fn stalls(&mut self, summary: &Summary) -> io::Result<()> {
        let so_far = if summary.incomplete { ", as far as the recording goes" } else { "" };
        let title =
            format!("{} stalls in {}{so_far}", summary.stalls_total, duration(summary.elapsed_ns));
        writeln!(self.out)?;
        self.say(Tone::Strong, &title)?;
        if summary.stalls.is_empty() {
            return Ok(());
        }
        let span = Span::of(summary.stalls.iter().map(|line| line.buckets.as_slice()));
        let inline = self
            .width
            .is_none_or(|width| span.is_none_or(|span| TABLE + 2 + span.width() <= width));
        let heading = format!(
            "  {:<12} {:<10} {:<6} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "CONTEXT", "DEVICE", "FS", "STALLS", "STALLED", "P50", "P90", "P99", "MAX"
        );
        match span {
            Some(span) if inline => {
                self.say(Tone::Plain, &format!("{heading}  {}", span.ends()))?;
            }
            _ => self.say(Tone::Plain, &heading)?,
        }
        for line in &summary.stalls {
            self.stall(line, span, inline)?;
        }
        match span {
            Some(span) if !inline => {
                self.say(Tone::Faint, &format!("  bars: {}, in powers of two", span.ends()))
            }
            _ => Ok(()),
        }
    }

    fn stall(&mut self, line: &StallSummary, span: Option<Span>, inline: bool) -> io::Result<()> {
        let start = format!(
            "  {:<12} {} {} {:>9} {:>9} {:>9} {:>9} {:>9} ",
            line.context.name(),
            left(&harmless(line.device.as_deref().unwrap_or("-")), 10),
            left(&harmless(line.fs.as_deref().unwrap_or("-")), 6),
            line.count,
            duration(line.total_ns),
            duration(line.p50_ns),
            duration(line.p90_ns),
            duration(line.p99_ns),
        );
        let max = format!("{:>9}", duration(line.max_ns));
        let fits = self.width.is_none_or(|width| width >= TABLE);
        if fits {
            write!(self.out, "{start}{}", self.style.paint(stall_tone(line.max_ns), max))?;
        } else {
            write!(self.out, "{}", head(&format!("{start}{max}"), self.width.unwrap_or(TABLE)))?;
        }
        match span {
            Some(span) if inline => {
                writeln!(self.out, "  {}", span.line(&line.buckets, self.style))
            }
            Some(span) => writeln!(self.out, "\n  {}", span.line(&line.buckets, self.style)),
            None => writeln!(self.out),
        }
    }

    /// What should not be: pages that changed, checks that failed, and why.
    fn findings(&mut self, summary: &Summary) -> io::Result<()> {
        for line in &summary.unstable_writes {
            let text = format!(
                "  {} pages changed under writeback ({}, {} on {} {})",
                line.count,
                line.grade.name(),
                line.context.name(),
                device(line.device.as_deref()),
                harmless(line.fs.as_deref().unwrap_or("")),
            );
            let tone = match line.grade {
                Grade::Violation => Tone::Bad,
                Grade::Hole => Tone::Slow,
                Grade::Harmless => Tone::Plain,
            };
            self.say(tone, &text)?;
        }
        if summary.integrity_errors_total > 0 {
            writeln!(self.out)?;
            let title = format!("{} integrity errors", summary.integrity_errors_total);
            self.say(Tone::Strong, &title)?;
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
            self.say(Tone::Bad, &text)?;
        }
        if !summary.verdicts.is_empty() {
            self.say(Tone::Strong, "verdicts")?;
        }
        for line in &summary.verdicts {
            let on = device(line.device.as_deref());
            let text = format!("  {:>9}  {}, on {on}", line.count, cause_words(line.cause));
            self.say(cause_tone(line.cause), &text)?;
        }
        if !summary.associations.is_empty() {
            self.say(Tone::Strong, "stalls around integrity errors, against those elsewhere")?;
        }
        for line in &summary.associations {
            let tone = if line.too_few { Tone::Faint } else { Tone::Plain };
            self.say(tone, &association(line))?;
        }
        Ok(())
    }

    fn notes(&mut self, summary: &Summary) -> io::Result<()> {
        if let Some(workload) = &summary.workload {
            self.say(Tone::Plain, &format!("  wac: {}", done(workload)))?;
        }
        for errors in &summary.workload_errors {
            self.say(Tone::Bad, &format!("  {}", account(errors)))?;
        }
        if summary.stalls_below_threshold > 0 {
            let text = format!(
                "  {} of them were shorter than --min-latency: counted here, not listed above",
                summary.stalls_below_threshold
            );
            self.say(Tone::Plain, &text)?;
        }
        if summary.events_lost > 0 {
            let text = format!(
                "  {} of them are not listed above: the ring buffer was full (--ring-size)",
                summary.events_lost
            );
            self.say(Tone::Bad, &text)?;
        }
        for (what, count) in &summary.map_failures {
            self.say(Tone::Bad, &format!("  {count} times no room: {}", harmless(what)))?;
        }
        if summary.incomplete {
            let text =
                "  from the lines of the recording alone: what was not streamed is not counted";
            return self.say(Tone::Slow, text);
        }
        let mut cost = format!("  cost: {} CPU in the agent", duration(summary.agent_cpu_ns));
        // 0 where the kernel does not time them.
        if summary.bpf_cpu_ns > 0 {
            cost = format!("{cost}, {} in its eBPF programs", duration(summary.bpf_cpu_ns));
        }
        self.say(Tone::Faint, &cost)
    }
}

/// How stalls and errors of one device go together.
fn association(line: &Association) -> String {
    let name = line.device.as_deref().map_or_else(|| "all".to_owned(), harmless);
    let (around, elsewhere) = (line.around, line.elsewhere);
    if line.too_few {
        let reason = line.too_few_reason.as_deref().unwrap_or("too few to compare");
        return format!("  {name:<10} {}", harmless(reason));
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

fn device(name: Option<&str>) -> String {
    harmless(name.unwrap_or("an unknown device"))
}

/// What a workload did, in a few words.
pub fn done(workload: &Workload) -> String {
    let errors: Vec<_> = workload
        .errors
        .iter()
        .map(|(errno, count)| format!("{count} {}", harmless(errno)))
        .collect();
    let errors = if errors.is_empty() { "no error".to_owned() } else { errors.join(", ") };
    format!("{} operations, {} bytes, {errors}", workload.operations, workload.bytes)
}
