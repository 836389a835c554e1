//! What the page begins with, and its tables of stalls.

use maud::{Markup, PreEscaped, html};

use super::{PlotError, grouped, latency_chart, or_dash};
use crate::{
    event::StallSummary,
    report::{Report, Stalled},
    sink::style::duration,
};

/// The most pictures of lengths.
const PICTURES: usize = 12;
/// The most rows of a table.
const ROWS: usize = 15;
/// The most places of stalls.
const PLACES: usize = 100;

/// What was recorded, where and when.
pub fn header(report: &Report, name: &str) -> Markup {
    let start = report.start.clone().unwrap_or_default();
    let began = report.began.to_string();
    html! {
        header {
            p .kicker { "stable-trace report" }
            h1 { (name) }
            p .facts {
                span { (start.hostname) }
                span { "Linux " (start.kernel) " " (start.arch) }
                span { time datetime=(began) { (began.get(..19).unwrap_or(&began).replace('T', " ")) " UTC" } }
                span { (duration(report.summary.elapsed_ns)) " long" }
            }
            @if report.summary.incomplete {
                p .warning role="note" {
                    "The recording has no end of its own. These numbers are made from the lines that it has: what was counted but not streamed is not in them."
                }
            }
        }
    }
}

/// The numbers that matter most.
pub fn tiles(report: &Report) -> Markup {
    let summary = &report.summary;
    let total: u64 = summary.stalls.iter().map(|line| line.total_ns).sum();
    let longest = summary.stalls.iter().map(|line| line.max_ns).max().unwrap_or(0);
    let unstable: u64 = summary.unstable_writes.iter().map(|line| line.count).sum();
    let tile = |name: &str, value: u64, shown: String, words: &str, bad: bool| {
        html! {
            div .tile .bad[bad && value > 0] {
                dd data-name=(name) data-value=(value) { (shown) }
                dt { (words) }
            }
        }
    };
    html! {
        dl .tiles {
            (tile("stalls", summary.stalls_total, grouped(summary.stalls_total), "stalls", false))
            (tile("stalled-ns", total, duration(total), "stalled in all", false))
            (tile("longest-ns", longest, duration(longest), "longest stall", false))
            (tile("integrity", summary.integrity_errors_total, grouped(summary.integrity_errors_total), "integrity errors", true))
            (tile("unstable", unstable, grouped(unstable), "pages changed under writeback", false))
            (tile("lost", summary.events_lost, grouped(summary.events_lost), "lines lost", true))
        }
    }
}

/// How long the stalls were, by context and device: pictures, and a table with the numbers.
pub fn lengths(report: &Report) -> Result<Markup, PlotError> {
    let stalls = &report.summary.stalls;
    // Recordings of before there were buckets in the summary: what was streamed has some.
    let has_buckets = stalls.iter().any(|line| !line.buckets.is_empty());
    let streamed = if has_buckets { Vec::new() } else { report.streamed.summaries() };
    let drawn = if has_buckets { stalls } else { &streamed };
    let filled = |line: &StallSummary| {
        let filled = |count: &u64| *count > 0;
        Some((line.buckets.iter().position(filled)?, line.buckets.iter().rposition(filled)?))
    };
    let spans: Vec<_> = drawn.iter().filter_map(filled).collect();
    let first = spans.iter().map(|span| span.0).min().unwrap_or(0);
    let last = spans.iter().map(|span| span.1).max().unwrap_or(0).min(27);
    let mut pictures = Vec::new();
    for line in drawn.iter().filter(|line| filled(line).is_some()).take(PICTURES) {
        let title = place(line);
        pictures.push((line, latency_chart::draw(&line.buckets, first, last.max(first), &title)?));
    }
    Ok(html! {
        section #lengths aria-labelledby="lengths-title" {
            h2 #lengths-title { "How long they were" }
            p .note {
                @if has_buckets { "Every stall, as the kernel counted them. " }
                @else { "The stalls that were listed one by one: this recording has no counts of the others. " }
                "Each picture is as high as its own most frequent length; a step to the right is twice as long."
            }
            div .cards {
                @for (line, picture) in &pictures {
                    figure .card {
                        figcaption { (place(line)) " " small { (grouped(line.count)) " stalls" } }
                        (PreEscaped(picture))
                    }
                }
            }
            div .scroll tabindex="0" role="region" aria-label="Stalls by context and device" {
                table #stalls {
                    thead { tr {
                        th { "Context" } th { "Device" } th { "File system" } th .n { "Stalls" } th .n { "Stalled" }
                        th .n { "p50" } th .n { "p90" } th .n { "p99" } th .n { "Longest" }
                    } }
                    tbody {
                        @for line in stalls.iter().take(PLACES) {
                            tr {
                                td { code { (line.context.name()) } }
                                td { (or_dash(line.device.as_deref())) }
                                td { (or_dash(line.fs.as_deref())) }
                                td .n data-name="count" data-value=(line.count) { (grouped(line.count)) }
                                @for (name, ns) in [("total", line.total_ns), ("p50", line.p50_ns), ("p90", line.p90_ns), ("p99", line.p99_ns), ("max", line.max_ns)] {
                                    td .n data-name=(name) data-value=(ns) { (duration(ns)) }
                                }
                            }
                        }
                        @if stalls.is_empty() { tr { td colspan="9" { "No task had to wait." } } }
                    }
                }
            }
            @if stalls.len() > PLACES { p .note { (stalls.len() - PLACES) " more are not shown." } }
        }
    })
}

fn place(line: &StallSummary) -> String {
    let mut text = line.context.name().to_owned();
    for part in [&line.device, &line.fs].into_iter().flatten() {
        text.push_str(" · ");
        text.push_str(part);
    }
    text
}

/// Whom it cost most.
pub fn tops(report: &Report) -> Markup {
    let files = report.files.first(ROWS);
    let processes = report.processes.first(ROWS);
    let most = |rows: &[Stalled]| rows.first().map_or(1, |first| first.total_ns.max(1));
    let file_most = most(&files.iter().map(|row| row.1).collect::<Vec<_>>());
    let process_most = most(&processes.iter().map(|row| row.1).collect::<Vec<_>>());
    let approximate = report.files.is_approximate() || report.processes.is_approximate();
    html! {
        section #tops aria-labelledby="tops-title" {
            h2 #tops-title { "Whom it cost most" }
            p .note {
                "By stalled time, of the stalls that were listed one by one."
                @if approximate { " There were so many that the smallest were dropped on the way: times are at least these." }
            }
            div .pair {
                div {
                    h3 { "Files" }
                    div .scroll tabindex="0" role="region" aria-label="Files by stalled time" {
                        table #files {
                            thead { tr { th { "File" } th .n { "Stalls" } th .n { "Stalled" } th .n { "Longest" } } }
                            tbody {
                                @for (file, stalled) in &files {
                                    (row(&html! {
                                        @if let Some(path) = &file.path { (path) } @else { "inode " (file.ino) }
                                        " " small { (or_dash(file.device.as_deref())) " " (file.fs.as_deref().unwrap_or("")) }
                                    }, *stalled, file_most))
                                }
                                @if files.is_empty() { tr { td colspan="4" { "None." } } }
                            }
                        }
                    }
                }
                div {
                    h3 { "Processes" }
                    div .scroll tabindex="0" role="region" aria-label="Processes by stalled time" {
                        table #processes {
                            thead { tr { th { "Process" } th .n { "Stalls" } th .n { "Stalled" } th .n { "Longest" } } }
                            tbody {
                                @for (process, stalled) in &processes {
                                    (row(&html! { (process.comm) " " small { "pid " (process.pid) } }, *stalled, process_most))
                                }
                                @if processes.is_empty() { tr { td colspan="4" { "None." } } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn row(name: &Markup, stalled: Stalled, most: u64) -> Markup {
    let percent = u128::from(stalled.total_ns) * 100 / u128::from(most);
    html! {
        tr {
            td .name { (name) div .bar aria-hidden="true" { i style=(format!("width:{percent}%")) {} } }
            td .n data-name="count" data-value=(stalled.count) { (grouped(stalled.count)) }
            td .n data-name="total" data-value=(stalled.total_ns) { (duration(stalled.total_ns)) }
            td .n data-name="max" data-value=(stalled.max_ns) { (duration(stalled.max_ns)) }
        }
    }
}
