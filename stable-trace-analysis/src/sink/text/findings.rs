//! What an integrity error and its verdict look like: a line each, and the reasons below.

use std::fmt::Write as _;

use super::truncate::wrap;
use crate::{
    event::{Cause, IntegrityError, Page, PageKind, Verdict},
    sink::style::{Style, Tone, harmless},
};

/// Where the text of a finding begins: below the context of the rows above it.
const INDENT: usize = 26;

/// The tone of a cause: somebody can be told what to change, or somebody has to look.
#[must_use]
pub const fn cause_tone(cause: Cause) -> Tone {
    match cause {
        Cause::PageRewrittenInFlight => Tone::Found,
        Cause::DirectIoBuffer => Tone::Slow,
        Cause::NoRewriteSeen => Tone::Bad,
        Cause::Unknown => Tone::Faint,
    }
}

/// A cause in words.
#[must_use]
pub const fn cause_words(cause: Cause) -> &'static str {
    match cause {
        Cause::PageRewrittenInFlight => "page rewritten in flight",
        Cause::DirectIoBuffer => "direct-I/O buffer rewritten",
        Cause::NoRewriteSeen => "no rewrite seen: path or medium",
        Cause::Unknown => "cause unknown",
    }
}

/// A confidence in words that fit it.
#[must_use]
pub fn percent(confidence: f64) -> String {
    format!("{:.0} %", confidence.clamp(0.0, 1.0) * 100.0)
}

/// An integrity error.
#[must_use]
pub fn integrity(time: &str, error: &IntegrityError, width: Option<usize>, style: Style) -> String {
    let check = match error.check.name() {
        "unknown" => "an integrity check".to_owned(),
        name => format!("the {} check", name.replace('_', " ")),
    };
    let mut text = format!(
        "{check} of a {} failed: {} sectors at {} of {} (seen by {})",
        error.op.name(),
        error.sectors,
        error.sector,
        harmless(error.device.as_deref().unwrap_or("an unknown device")),
        error.source.name(),
    );
    let pages = pages(&error.pages, error.pages_total, error.path.as_deref());
    if !pages.is_empty() {
        // Writing to a string does not fail.
        let _ = write!(text, "; {pages}");
    }
    if let Some(comm) = &error.comm {
        let _ = write!(text, "; by {}", harmless(comm));
        if let Some(tid) = error.tid {
            let _ = write!(text, "[{tid}]");
        }
    }
    block(time, &harmless(&error.status), Tone::Bad, &[(Tone::Plain, text)], width, style)
}

/// A verdict.
#[must_use]
pub fn verdict(time: &str, verdict: &Verdict, width: Option<usize>, style: Style) -> String {
    let device = verdict.device.as_deref().map(|device| format!(", {}", harmless(device)));
    let head = format!(
        "{} ({} sure){}",
        cause_words(verdict.cause),
        percent(verdict.confidence),
        device.unwrap_or_default()
    );
    let mut evidence = format!("on error {}", verdict.integrity_seq);
    let (shown, more) = verdict.evidence.split_at(verdict.evidence.len().min(8));
    if !shown.is_empty() {
        let shown: Vec<_> = shown.iter().map(u64::to_string).collect();
        let _ = write!(evidence, ", from lines {}", shown.join(" "));
    }
    if !more.is_empty() {
        let _ = write!(evidence, " and {} more", more.len());
    }
    let _ = write!(
        evidence,
        "; stalls near it: {} on the page, {} on the file, {} on the device",
        verdict.stalls_same_page, verdict.stalls_same_file, verdict.stalls_same_device
    );
    let tone = cause_tone(verdict.cause);
    let parts =
        [(tone, head), (Tone::Plain, harmless(&verdict.explanation)), (Tone::Faint, evidence)];
    block(time, "VERDICT", tone, &parts, width, style)
}

/// Time, a word, and text that is wrapped below itself.
fn block(
    time: &str,
    what: &str,
    tone: Tone,
    parts: &[(Tone, String)],
    width: Option<usize>,
    style: Style,
) -> String {
    let narrow = width.is_some_and(|width| width < 2 * INDENT);
    let indent = if narrow { 2 } else { INDENT };
    let room = width.map_or(usize::MAX, |width| width.saturating_sub(indent));
    let mut out = format!("{time:<15} {}", style.paint(tone, format!("{what:>8}")));
    let lines = parts
        .iter()
        .flat_map(|(tone, text)| wrap(text, room).into_iter().map(move |line| (*tone, line)));
    for (index, (tone, line)) in lines.enumerate() {
        if index == 0 && !narrow {
            out.push_str("  ");
        } else {
            let _ = write!(out, "\n{:indent$}", "");
        }
        out.push_str(&style.paint(tone, line));
    }
    out
}

/// Whose pages, and which.
fn pages(pages: &[Page], total: Option<u64>, path: Option<&str>) -> String {
    let (Some(first), Some(last)) = (pages.first(), pages.last()) else { return String::new() };
    let many = total.unwrap_or(pages.len() as u64);
    let noun = if many == 1 { "page" } else { "pages" };
    if pages.iter().any(|page| page.kind != first.kind || page.ino != first.ino) {
        return format!("{many} {noun} of several files or buffers");
    }
    match first.kind {
        PageKind::Anonymous => format!("{many} {noun} of a process's own buffer (direct I/O)"),
        PageKind::Unknown => format!("{many} {noun} of nobody that is known"),
        PageKind::File => {
            let file = path.map_or_else(
                || first.ino.map_or_else(|| "a file".to_owned(), |ino| format!("inode {ino}")),
                harmless,
            );
            match (first.index, last.index) {
                (Some(first), Some(last)) if first < last => {
                    format!("pages {first} to {last} of {file}")
                }
                (Some(first), _) => format!("page {first} of {file}"),
                _ => format!("{many} {noun} of {file}"),
            }
        }
    }
}
