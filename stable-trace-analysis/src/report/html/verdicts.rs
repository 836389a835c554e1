//! What caused each integrity error, with the evidence.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::{grouped, or_dash};
use crate::{
    event::{Association, Cause, Event, IntegrityError, Line, PageKind, Stall, UnstableWrite},
    report::{Listed, Report, evidence::shown},
    sink::{
        style::{duration, p_value},
        text::findings::{cause_words, percent},
    },
    units::Timestamp,
};

/// The most pages that are shown of an error.
const PAGES: usize = 8;

/// The section.
pub fn section(report: &Report, evidence: &BTreeMap<u64, Line>) -> Markup {
    let summary = &report.summary;
    let listed = report.verdicts.len() as u64;
    html! {
        section #findings aria-labelledby="findings-title" {
            h2 #findings-title { "Integrity errors and their verdicts" }
            @if summary.integrity_errors_total == 0 && report.verdicts_total == 0 {
                p .calm { "No check of protection information failed"
                    @if !integrity_seen(report) { ", as far as could be seen: no probe of the group " code { "integrity" } " was attached" }
                    "." }
            } @else {
                @if report.anew {
                    p .warning role="note" { "The verdicts are of another window than the run's." }
                }
                (by_cause(report))
                (by_check(report))
                div #verdicts {
                    @for verdict in &report.verdicts { (one(verdict, evidence)) }
                }
                @if report.verdicts_total > listed {
                    p .note { "The first " (grouped(listed)) " of " (grouped(report.verdicts_total)) " verdicts." }
                }
            }
            (associations(&summary.associations))
        }
    }
}

fn integrity_seen(report: &Report) -> bool {
    let probes = report.start.iter().flat_map(|start| &start.probes);
    probes.into_iter().any(|probe| probe.group == crate::event::Group::Integrity && probe.attached)
}

fn by_cause(report: &Report) -> Markup {
    html! {
        ul .causes {
            @for cause in Cause::ALL {
                @let count: u64 = report.summary.verdicts.iter().filter(|line| line.cause == cause).map(|line| line.count).sum();
                @if count > 0 {
                    li class=(class(cause)) {
                        b data-name=(format!("cause-{}", cause.name())) data-value=(count) { (grouped(count)) }
                        " " (cause_words(cause))
                    }
                }
            }
        }
    }
}

fn by_check(report: &Report) -> Markup {
    let lines = &report.summary.integrity_errors;
    html! {
        @if !lines.is_empty() {
            p .note {
                @for (index, line) in lines.iter().take(24).enumerate() {
                    @if index > 0 { "; " }
                    (grouped(line.count)) " × " (line.check.name().replace('_', " ")) " check of a " (line.op.name())
                    " on " (or_dash(line.device.as_deref())) " (seen by " (line.source.name()) ")"
                }
                "."
            }
        }
    }
}

const fn class(cause: Cause) -> &'static str {
    match cause {
        Cause::PageRewrittenInFlight => "cause rewritten",
        Cause::DirectIoBuffer => "cause buffer",
        Cause::NoRewriteSeen => "cause medium",
        Cause::Unknown => "cause unknown",
    }
}

fn one(listed: &Listed, evidence: &BTreeMap<u64, Line>) -> Markup {
    let verdict = &listed.verdict;
    let device = verdict.device.as_deref();
    html! {
        details .verdict data-integrity-seq=(verdict.integrity_seq) data-cause=(verdict.cause.name()) data-confidence=(verdict.confidence) {
            summary {
                span class=(class(verdict.cause)) { (cause_words(verdict.cause)) }
                span .sure { (percent(verdict.confidence)) " sure" }
                @if let Some((time, error)) = &listed.error {
                    span .where {
                        (clock(*time)) " · " (or_dash(error.device.as_deref())) " · "
                        (error.op.name()) " of " (error.sectors) " sectors at " (error.sector)
                    }
                } @else {
                    span .where { (or_dash(device)) " · error " (verdict.integrity_seq) }
                }
                span .why { (verdict.explanation) }
            }
            div .inside {
                @if let Some((_, error)) = &listed.error { (failed(error)) }
                p {
                    "Stalls near it: " (grouped(verdict.stalls_same_page)) " on the page, "
                    (grouped(verdict.stalls_same_file)) " on the file, "
                    (grouped(verdict.stalls_same_device)) " on the device."
                }
                (rests_on(&verdict.evidence, evidence))
            }
        }
    }
}

/// The error itself.
fn failed(error: &IntegrityError) -> Markup {
    let pages = &error.pages;
    html! {
        p {
            "The " (error.check.name().replace('_', " ")) " check failed with " code { (error.status) }
            ", seen by " code { (error.source.name()) }
            @if let Some(path) = &error.path { ", in " code { (path) } }
            @if let Some(comm) = &error.comm { ", for " code { (comm) } @if let Some(tid) = error.tid { " (thread " (tid) ")" } }
            "."
        }
        @if !pages.is_empty() {
            p {
                "Its pages: "
                @for (index, page) in pages.iter().take(PAGES).enumerate() {
                    @if index > 0 { ", " }
                    @match page.kind {
                        PageKind::File => { "page " @if let Some(index) = page.index { (index) } @else { "?" } " of inode " @if let Some(ino) = page.ino { (ino) } @else { "?" } },
                        PageKind::Anonymous => { "a process's own" },
                        PageKind::Unknown => { "unknown" },
                    }
                    @if page.stable == Some(false) { " (need not hold still)" }
                }
                @let total = error.pages_total.unwrap_or(pages.len() as u64);
                @if total > PAGES.min(pages.len()) as u64 { " and " (total - PAGES.min(pages.len()) as u64) " more" }
                "."
            }
        }
    }
}

fn rests_on(all: &[u64], evidence: &BTreeMap<u64, Line>) -> Markup {
    let part = shown(all);
    html! {
        @if all.is_empty() {
            p .note { "It rests on the error alone." }
        } @else {
            p { "It rests on:" }
            ol .evidence {
                @for seq in part {
                    li value=(seq) {
                        @match evidence.get(seq) {
                            Some(line) => { time { (clock(line.time)) } " " (event(&line.event)) },
                            None => { "a line that the recording lacks" },
                        }
                    }
                }
            }
            @if all.len() > part.len() { p .note { "and " (all.len() - part.len()) " more lines." } }
        }
    }
}

fn event(event: &Event) -> Markup {
    match event {
        Event::Stall(stall) => of_stall(stall),
        Event::UnstableWrite(write) => of_unstable(write),
        Event::Integrity(error) => html! {
            "integrity error: " (error.op.name()) " of " (error.sectors) " sectors at " (error.sector)
            " of " (or_dash(error.device.as_deref())) ", " (error.check.name().replace('_', " "))
        },
        Event::Workload(workload) => html! {
            "workload " (workload.profile) ": " (grouped(workload.operations)) " operations"
            @for (errno, count) in &workload.errors { ", " (count) " " (errno) }
        },
        Event::Lost(lost) => html! { (grouped(lost.count)) " lines lost" },
        Event::Start(_) => html! { "the start: what the devices ask for, and what was attached" },
        other => html! { (other.kind()) },
    }
}

fn of_stall(stall: &Stall) -> Markup {
    html! {
        (stall.comm) "[" (stall.tid) "] stalled " b { (duration(stall.duration_ns)) } " in "
        code { (stall.function) } " (" (stall.context.name()) "), page " (stall.index)
        " of inode " (stall.ino) " on " (or_dash(stall.device.as_deref()))
    }
}

fn of_unstable(write: &UnstableWrite) -> Markup {
    html! {
        (write.comm) "[" (write.tid) "] was given page " (write.index) " of inode " (write.ino)
        " on " (or_dash(write.device.as_deref())) " under writeback (" b { (write.grade.name()) } ", "
        (write.context.name()) ")"
    }
}

/// How stalls and integrity errors go together.
fn associations(lines: &[Association]) -> Markup {
    html! {
        @if !lines.is_empty() {
            h3 { "Stalls around integrity errors, and elsewhere" }
            p .note { "An association is no cause: a disk that is busy stalls more, and fails more." }
            div .scroll tabindex="0" role="region" aria-label="Stalls around integrity errors" {
                table #associations {
                    thead { tr {
                        th { "Device" } th .n { "Errors" } th .n { "Stalls around" } th .n { "p50" } th .n { "p99" }
                        th .n { "Elsewhere" } th .n { "p50" } th .n { "p99" } th .n { "p50 ratio" } th .n { "p99 ratio" }
                        th .n { "p-value" } th .n { "Lag" }
                    } }
                    tbody { @for line in lines.iter().take(32) { (association(line)) } }
                }
            }
        }
    }
}

fn association(line: &Association) -> Markup {
    let number =
        |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"));
    html! {
        tr {
            td { (line.device.as_deref().unwrap_or("all")) }
            td .n { (grouped(line.integrity_errors)) }
            td .n { (grouped(line.around.stalls)) }
            td .n { (duration(line.around.p50_ns)) }
            td .n { (duration(line.around.p99_ns)) }
            td .n { (grouped(line.elsewhere.stalls)) }
            td .n { (duration(line.elsewhere.p50_ns)) }
            td .n { (duration(line.elsewhere.p99_ns)) }
            @if line.too_few {
                td colspan="4" { (line.too_few_reason.as_deref().unwrap_or("too few to compare")) }
            } @else {
                td .n { (number(line.p50_ratio)) }
                td .n { (number(line.p99_ratio)) }
                td .n { (line.p_value.map_or_else(|| "–".to_owned(), p_value)) }
                td .n { (line.peak_lag_ns.map_or_else(|| "–".to_owned(), lag)) }
            }
        }
    }
}

/// A time before or after.
fn lag(ns: i64) -> String {
    let sign = if ns < 0 { "−" } else { "+" };
    format!("{sign}{}", duration(ns.unsigned_abs()))
}

/// The time of the day with milliseconds.
fn clock(time: Timestamp) -> String {
    let mut text = time.time_of_day();
    text.truncate("03:04:05.006".len());
    text
}
