//! The section about integrity errors: their verdicts with the evidence, and associations.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::labels::{grouped, inode, lag, or_dash, time_of_day};
use crate::{
    event::{
        Association, Cause, Event, Group, IntegrityError, Line, PageKind, Proof, Stall,
        UnstableWrite,
    },
    report::{Report, builder::VerdictEntry, evidence::shown},
    sink::{
        format::{duration, p_value, percent},
        text::findings::cause_label,
    },
};

/// The limit of pages that are shown for one error.
const MAX_PAGES: usize = 8;

pub(super) fn section(report: &Report, evidence: &BTreeMap<u64, Line>) -> Markup {
    let summary = &report.summary;
    let shown = report.verdicts.len() as u64;
    html! {
        section #findings aria-labelledby="findings-title" {
            h2 #findings-title { "Integrity errors and their verdicts" }
            @if summary.integrity_errors_total == 0 && report.verdicts_total == 0 {
                p .calm { "No check of protection information failed"
                    @if !has_integrity_probe(report) { ", as far as is known: no probe of the group " code { "integrity" } " was attached" }
                    "." }
            } @else {
                @if report.recomputed {
                    p .warning role="note" { "The verdicts are computed with another correlation window than the run's." }
                }
                (by_cause(report))
                (by_check(report))
                div #verdicts {
                    @for entry in &report.verdicts { (verdict(entry, evidence)) }
                }
                @if report.verdicts_total > shown {
                    p .note { "The first " (grouped(shown)) " of " (grouped(report.verdicts_total)) " verdicts." }
                }
            }
            (associations(&summary.associations))
        }
    }
}

fn has_integrity_probe(report: &Report) -> bool {
    let probes = report.start.iter().flat_map(|start| &start.probes);
    probes.into_iter().any(|probe| probe.group == Group::Integrity && probe.attached)
}

fn by_cause(report: &Report) -> Markup {
    html! {
        ul .causes {
            @for cause in Cause::ALL {
                @let count: u64 = report.summary.verdicts.iter().filter(|line| line.cause == cause).map(|line| line.count).sum();
                @if count > 0 {
                    li class=(css_class(cause)) {
                        b data-name=(format!("cause-{}", cause.name())) data-value=(count) { (grouped(count)) }
                        " " (cause_label(cause))
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

const fn css_class(cause: Cause) -> &'static str {
    match cause {
        Cause::PageRewrittenInFlight => "cause rewritten",
        Cause::DirectIoBuffer | Cause::ApplicationTuple => "cause buffer",
        Cause::NoRewriteSeen => "cause medium",
        Cause::Unknown => "cause unknown",
    }
}

fn verdict(entry: &VerdictEntry, evidence: &BTreeMap<u64, Line>) -> Markup {
    let verdict = &entry.verdict;
    let device = verdict.device.as_deref();
    html! {
        details .verdict data-integrity-seq=(verdict.integrity_seq) data-cause=(verdict.cause.name()) data-confidence=(verdict.confidence) {
            summary {
                span class=(css_class(verdict.cause)) { (cause_label(verdict.cause)) }
                span .sure { (percent(verdict.confidence)) " sure" }
                @if let Some((time, error)) = &entry.error {
                    span .where {
                        (time_of_day(*time)) " · " (or_dash(error.device.as_deref())) " · "
                        (error.op.name()) " of " (error.sectors) " sectors" @if let Some(sector) = error.sector { " at " (sector) }
                    }
                } @else {
                    span .where { (or_dash(device)) " · error " (verdict.integrity_seq) }
                }
                span .why { (verdict.explanation) }
            }
            div .inside {
                @if let Some((_, error)) = &entry.error { (failed_check(error)) }
                @if let Some(proof) = &verdict.proof { (proof_line(proof)) }
                p {
                    "Stalls near it: " (grouped(verdict.stalls_same_page)) " on the page, "
                    (grouped(verdict.stalls_same_file)) " on the file, "
                    (grouped(verdict.stalls_same_device)) " on the device."
                }
                (evidence_lines(&verdict.evidence, evidence))
            }
        }
    }
}

fn proof_line(proof: &Proof) -> Markup {
    html! {
        p data-proof=(proof.kind.name()) {
            "Proof: " code { (proof.kind.name()) }
            @if let Some(interval) = proof.interval { ", interval " (interval) }
            @if let (Some(stored), Some(computed)) = (proof.stored_guard, proof.computed_guard) {
                ", guard " code { (format!("{stored:04x}")) } " stored and " code { (format!("{computed:04x}")) } " computed"
            }
            @if let (Some(offset), Some(bit)) = (proof.offset, proof.bit) { ", bit " (bit) " of byte " (offset) }
            @if let Some(why) = &proof.why_none { " (" (why) ")" }
            "."
        }
    }
}

fn failed_check(error: &IntegrityError) -> Markup {
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
                @for (index, page) in pages.iter().take(MAX_PAGES).enumerate() {
                    @if index > 0 { ", " }
                    @match page.kind {
                        PageKind::File => { "page " @if let Some(index) = page.index { (index) } @else { "?" } " of inode " @if let Some(ino) = page.ino { (ino) } @else { "?" } },
                        PageKind::Anonymous => { "anonymous" },
                        PageKind::Shared => { "shared memory" },
                        PageKind::Swap => { "swap" },
                        PageKind::Unknown => { "unknown" },
                    }
                    @if page.stable == Some(false) { " (not required to be stable)" }
                }
                @let total = error.pages_total.unwrap_or(pages.len() as u64);
                @if total > MAX_PAGES.min(pages.len()) as u64 { " and " (total - MAX_PAGES.min(pages.len()) as u64) " more" }
                "."
            }
        }
    }
}

fn evidence_lines(all: &[u64], evidence: &BTreeMap<u64, Line>) -> Markup {
    let part = shown(all);
    html! {
        @if all.is_empty() {
            p .note { "There is no evidence but the error itself." }
        } @else {
            p { "Evidence:" }
            ol .evidence {
                @for seq in part {
                    li value=(seq) {
                        @match evidence.get(seq) {
                            Some(line) => { time { (time_of_day(line.time)) } " " (event(&line.event)) },
                            None => { "a line that is missing in the recording" },
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
        Event::Stall(stall) => stall_line(stall),
        Event::UnstableWrite(write) => unstable_write_line(write),
        Event::Integrity(error) => html! {
            "integrity error: " (error.op.name()) " of " (error.sectors) " sectors" @if let Some(sector) = error.sector { " at " (sector) }
            " of " (or_dash(error.device.as_deref())) ", " (error.check.name().replace('_', " "))
        },
        Event::Workload(workload) => html! {
            "workload " (workload.profile) ": " (grouped(workload.operations)) " operations"
            @for (errno, count) in &workload.errors { ", " (count) " " (errno) }
        },
        Event::Lost(lost) => html! { (grouped(lost.count)) " lost events" },
        Event::Start(_) => html! { "the start of the run, with its devices and probes" },
        other => html! { (other.kind()) },
    }
}

fn stall_line(stall: &Stall) -> Markup {
    html! {
        (stall.comm) "[" (stall.tid) "] stalled " b { (duration(stall.duration_ns)) } " in "
        code { (stall.function) } " (" (stall.context.name()) "), page " (stall.index)
        " of " (inode(stall.ino)) " on " (or_dash(stall.device.as_deref()))
    }
}

fn unstable_write_line(write: &UnstableWrite) -> Markup {
    html! {
        (write.comm) "[" (write.tid) "] was given page " (write.index) " of " (inode(write.ino))
        " on " (or_dash(write.device.as_deref())) " under writeback (" b { (write.grade.name()) } ", "
        (write.context.name()) ")"
    }
}

fn associations(lines: &[Association]) -> Markup {
    html! {
        @if !lines.is_empty() {
            h3 { "Stalls around integrity errors, and elsewhere" }
            p .note { "An association is not a cause: a busy disk stalls more and fails more." }
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
