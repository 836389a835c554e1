//! The sections about stalls: over time, by duration, and the most stalled files and processes.

use maud::{Markup, PreEscaped, html};

use super::{
    PlotError, heat_map,
    labels::{grouped, inode, or_dash},
    latency_chart,
};
use crate::{
    event::StallSummary,
    report::{Report, top::StallTotals},
    sink::{bucket_range::BucketRange, format::duration},
};

/// The limit of latency charts.
const MAX_CHARTS: usize = 12;
/// The limit of rows in the tables of files and processes.
const MAX_ROWS: usize = 15;
/// The limit of rows in the table of tasks that waited at the end.
const MAX_WAITING: usize = 32;
/// The limit of rows in the table by context, device and file system.
const MAX_GROUPS: usize = 100;

/// The heat map, its legend, and its data as a table.
pub(super) fn over_time(report: &Report) -> Result<Markup, PlotError> {
    let mut heat_maps = String::new();
    for layout in heat_map::LAYOUTS {
        heat_maps.push_str(&heat_map::draw(report, layout)?);
    }
    let streamed = report.streamed.total();
    let threshold = report.start.as_ref().and_then(|start| start.min_latency_ns);
    Ok(html! {
        section #time aria-labelledby="time-title" {
            h2 #time-title { "Stalls over time" }
            p .note {
                b data-name="streamed" data-value=(streamed) { (grouped(streamed)) }
                " streamed stalls"
                @if let Some(ns) = threshold.filter(|ns| *ns > 0) {
                    " (of " (duration(ns)) " or more)"
                }
                ", by the time when they ended and by their duration."
            }
            figure {
                (PreEscaped(heat_maps))
                figcaption .key {
                    span { "few " @for level in 0..7 { i class=(format!("swatch h{level}")) {} } " many" }
                    span { i .swatch .error {} " integrity error" }
                    span { i .swatch .phase {} " workload" }
                    @if report.summary.events_lost > 0 { span { i .swatch .lost {} " lost events" } }
                }
            }
            details {
                summary { "As a table" }
                div .scroll tabindex="0" role="region" aria-label="Stalls over time as a table" {
                    table {
                        thead { tr { th { "Time" } th .n { "Stalls" } th .n { "Longest" } th .n { "Integrity errors" } } }
                        tbody {
                            @for [times, stalls, longest, errors] in heat_map::rows(report, 40) {
                                tr { td { (times) } td .n { (stalls) } td .n { (longest) } td .n { (errors) } }
                            }
                        }
                    }
                }
            }
        }
    })
}

/// Latency by context, device and file system: charts, and a table with the quantiles.
pub(super) fn latency(report: &Report) -> Result<Markup, PlotError> {
    let stalls = &report.summary.stalls;
    // Summaries of format 0 have no buckets: those of the streamed stalls are drawn instead.
    let has_buckets = stalls.iter().any(|line| !line.buckets.is_empty());
    let streamed = if has_buckets { Vec::new() } else { report.streamed.summaries() };
    let drawn = if has_buckets { stalls } else { &streamed };
    let buckets_of = |line: &'_ StallSummary| BucketRange::of([line.buckets.as_slice()]);
    let mut charts = Vec::new();
    if let Some(range) = BucketRange::of(drawn.iter().map(|line| line.buckets.as_slice())) {
        for line in drawn.iter().filter(|line| buckets_of(line).is_some()).take(MAX_CHARTS) {
            let label = group_label(line);
            charts.push((line, latency_chart::draw(&line.buckets, range, &label)?));
        }
    }
    Ok(html! {
        section #lengths aria-labelledby="lengths-title" {
            h2 #lengths-title { "Stall latency" }
            p .note {
                @if has_buckets { "All stalls, as counted in the kernel. " }
                @else { "Streamed stalls only: this recording has no histograms of all stalls. " }
                "Each chart is scaled to its fullest bucket; each bucket is twice as wide as the one to its left."
            }
            div .cards {
                @for (line, chart) in &charts {
                    figure .card {
                        figcaption { (group_label(line)) " " small { (grouped(line.count)) " stalls" } }
                        (PreEscaped(chart))
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
                        @for line in stalls.iter().take(MAX_GROUPS) {
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
            @if stalls.len() > MAX_GROUPS { p .note { (stalls.len() - MAX_GROUPS) " more are not shown." } }
        }
    })
}

fn group_label(line: &StallSummary) -> String {
    let names = [Some(line.context.name()), line.device.as_deref(), line.fs.as_deref()];
    names.into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

pub(super) fn most_stalled(report: &Report) -> Markup {
    let files: Vec<_> = report.files.first(MAX_ROWS).into_iter().map(|(file, totals)| {
        let name = html! {
            @if let Some(path) = &file.path { (path) } @else { (inode(file.ino)) }
            " " small { (or_dash(file.device.as_deref())) " " (file.fs.as_deref().unwrap_or("")) }
        };
        (name, totals)
    }).collect();
    let processes: Vec<_> = report
        .processes
        .first(MAX_ROWS)
        .into_iter()
        .map(|(process, totals)| {
            let name = html! {
                (process.process.as_deref().unwrap_or(&process.comm))
                " " small { "pid " (process.pid) }
                @if let Some(container) = &process.container { " " small { (container) } }
            };
            (name, totals)
        })
        .collect();
    let approximate = report.files.is_approximate() || report.processes.is_approximate();
    html! {
        section #tops aria-labelledby="tops-title" {
            h2 #tops-title { "Most stalled files and processes" }
            p .note {
                "By stalled time, from the streamed stalls."
                @if approximate { " There were so many that the smallest were dropped: times are lower bounds." }
            }
            div .pair {
                (top_table("files", "Files", "File", &files))
                (top_table("processes", "Processes", "Process", &processes))
            }
        }
    }
}

/// Tasks that waited still when the run ended; nothing if there were none.
pub(super) fn waiting(report: &Report) -> Markup {
    let summary = &report.summary;
    html! {
        @if !summary.waiting.is_empty() {
            section #waiting aria-labelledby="waiting-title" {
                h2 #waiting-title { "Waiting at the end" }
                p .note {
                    b data-name="waiting" data-value=(summary.waits_unfinished) { (grouped(summary.waits_unfinished)) }
                    " tasks waited still when the run ended: these for longest."
                }
                div .scroll tabindex="0" role="region" aria-label="Tasks that waited at the end" {
                    table {
                        thead { tr { th .n { "Waited" } th { "Task" } th { "Context" } th { "File" } th .n { "Page" } } }
                        tbody {
                            @for task in summary.waiting.iter().take(MAX_WAITING) {
                                tr {
                                    td .n { (duration(task.age_ns)) }
                                    td { (task.comm) " " small { "tid " (task.tid) } }
                                    td { (task.context.name()) }
                                    td {
                                        @if let Some(path) = &task.path { (path) } @else { (inode(task.ino)) }
                                        " " small { (or_dash(task.device.as_deref())) " " (task.fs.as_deref().unwrap_or("")) }
                                    }
                                    td .n { (task.index) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn top_table(id: &str, title: &str, heading: &str, rows: &[(Markup, StallTotals)]) -> Markup {
    let most = rows.first().map_or(1, |(_, totals)| totals.total_ns.max(1));
    html! {
        div {
            h3 { (title) }
            div .scroll tabindex="0" role="region" aria-label=(format!("{title} by stalled time")) {
                table id=(id) {
                    thead { tr { th { (heading) } th .n { "Stalls" } th .n { "Stalled" } th .n { "Longest" } } }
                    tbody {
                        @for (name, totals) in rows { (top_row(name, *totals, most)) }
                        @if rows.is_empty() { tr { td colspan="4" { "None." } } }
                    }
                }
            }
        }
    }
}

fn top_row(name: &Markup, totals: StallTotals, most: u64) -> Markup {
    let percent = u128::from(totals.total_ns) * 100 / u128::from(most);
    html! {
        tr {
            td .name { (name) div .bar aria-hidden="true" { i style=(format!("width:{percent}%")) {} } }
            td .n data-name="count" data-value=(totals.count) { (grouped(totals.count)) }
            td .n data-name="total" data-value=(totals.total_ns) { (duration(totals.total_ns)) }
            td .n data-name="max" data-value=(totals.max_ns) { (duration(totals.max_ns)) }
        }
    }
}
