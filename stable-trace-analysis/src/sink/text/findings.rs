//! Formats integrity errors and verdicts.

use std::fmt::Write as _;

use super::truncate::wrap;
use crate::{
    event::{Cause, IntegrityError, Page, PageKind, Proof, Verdict},
    sink::{
        format::{percent, sanitize},
        style::{Style, Tone},
    },
};

/// The indent of the text, so that it is below the CONTEXT column of the rows.
const INDENT: usize = 26;

pub(super) const fn cause_tone(cause: Cause) -> Tone {
    match cause {
        Cause::PageRewrittenInFlight => Tone::Found,
        Cause::DirectIoBuffer | Cause::ApplicationTuple => Tone::Slow,
        Cause::NoRewriteSeen => Tone::Bad,
        Cause::Unknown => Tone::Faint,
    }
}

pub(crate) const fn cause_label(cause: Cause) -> &'static str {
    match cause {
        Cause::PageRewrittenInFlight => "page rewritten in flight",
        Cause::DirectIoBuffer => "direct-I/O buffer rewritten",
        Cause::NoRewriteSeen => "no rewrite seen: path or medium",
        Cause::ApplicationTuple => "protection information of the application",
        Cause::Unknown => "cause unknown",
    }
}

pub(super) fn integrity_error(
    time: &str,
    error: &IntegrityError,
    width: Option<usize>,
    style: Style,
) -> String {
    let check = match error.check.name() {
        "unknown" => "an integrity check".to_owned(),
        name => format!("the {} check", name.replace('_', " ")),
    };
    let mut text = format!(
        "{check} of a {} failed: {} sectors{} of {} (seen by {})",
        error.op.name(),
        error.sectors,
        error.sector.map(|sector| format!(" at {sector}")).unwrap_or_default(),
        sanitize(error.device.as_deref().unwrap_or("an unknown device")),
        error.source.name(),
    );
    let pages = pages(&error.pages, error.pages_total, error.path.as_deref());
    if !pages.is_empty() {
        // Writing to a string cannot fail.
        let _ = write!(text, "; {pages}");
    }
    if let Some(comm) = &error.comm {
        let _ = write!(text, "; by {}", sanitize(comm));
        if let Some(tid) = error.tid {
            let _ = write!(text, "[{tid}]");
        }
    }
    block(time, &sanitize(&error.status), Tone::Bad, &[(Tone::Plain, text)], width, style)
}

pub(super) fn verdict(time: &str, verdict: &Verdict, width: Option<usize>, style: Style) -> String {
    let device = verdict.device.as_deref().map(|device| format!(", {}", sanitize(device)));
    let proved =
        verdict.confidence > 0.9 && verdict.proof.as_ref().is_some_and(Proof::says_something);
    let head = format!(
        "{} ({} sure{}){}",
        cause_label(verdict.cause),
        percent(verdict.confidence),
        if proved { ", by proof" } else { "" },
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
        [(tone, head), (Tone::Plain, sanitize(&verdict.explanation)), (Tone::Faint, evidence)];
    block(time, "VERDICT", tone, &parts, width, style)
}

/// Formats a time, a label, and text wrapped at an indent.
fn block(
    time: &str,
    label: &str,
    tone: Tone,
    parts: &[(Tone, String)],
    width: Option<usize>,
    style: Style,
) -> String {
    let narrow = width.is_some_and(|width| width < 2 * INDENT);
    let indent = if narrow { 2 } else { INDENT };
    let text_width = width.map_or(usize::MAX, |width| width.saturating_sub(indent));
    let mut out = format!("{time:<15} {}", style.paint(tone, format!("{label:>8}")));
    let lines = parts
        .iter()
        .flat_map(|(tone, text)| wrap(text, text_width).into_iter().map(move |line| (*tone, line)));
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

/// Describes the pages and their owner.
fn pages(pages: &[Page], total: Option<u64>, path: Option<&str>) -> String {
    let (Some(first), Some(last)) = (pages.first(), pages.last()) else { return String::new() };
    let count = total.unwrap_or(pages.len() as u64);
    let noun = if count == 1 { "page" } else { "pages" };
    if pages.iter().any(|page| page.kind != first.kind || page.ino != first.ino) {
        return format!("{count} {noun} of several files or buffers");
    }
    match first.kind {
        PageKind::Anonymous => format!("{count} {noun} of a process's own buffer (direct I/O)"),
        PageKind::Shared => format!("{count} {noun} of a shared buffer (direct I/O)"),
        PageKind::Swap => format!("{count} {noun} of swap"),
        PageKind::Unknown => format!("{count} {noun} of an unknown owner"),
        PageKind::File => {
            let file = path.map_or_else(
                || first.ino.map_or_else(|| "a file".to_owned(), |ino| format!("inode {ino}")),
                sanitize,
            );
            match (first.index, last.index) {
                (Some(first), Some(last)) if first < last => {
                    format!("pages {first} to {last} of {file}")
                }
                (Some(first), _) => format!("page {first} of {file}"),
                _ => format!("{count} {noun} of {file}"),
            }
        }
    }
}
