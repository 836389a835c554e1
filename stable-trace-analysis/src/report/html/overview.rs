//! The head of the page: the origin of the recording, and its main numbers.

use maud::{Markup, html};

use super::labels::grouped;
use crate::{report::Report, sink::format::duration};

pub(super) fn header(report: &Report, name: &str) -> Markup {
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
                    "The recording has no summary. These numbers are computed from its lines: events that were counted but not streamed are not included."
                }
            }
        }
    }
}

pub(super) fn tiles(report: &Report) -> Markup {
    let summary = &report.summary;
    let total: u64 = summary.stalls.iter().map(|line| line.total_ns).sum();
    let longest = summary.stalls.iter().map(|line| line.max_ns).max().unwrap_or(0);
    let unstable: u64 = summary.unstable_writes.iter().map(|line| line.count).sum();
    let tile = |name: &str, value: u64, shown: String, label: &str, is_bad: bool| {
        html! {
            div .tile .bad[is_bad && value > 0] {
                dd data-name=(name) data-value=(value) { (shown) }
                dt { (label) }
            }
        }
    };
    html! {
        dl .tiles {
            (tile("stalls", summary.stalls_total, grouped(summary.stalls_total), "stalls", false))
            (tile("stalled-ns", total, duration(total), "total stalled time", false))
            (tile("longest-ns", longest, duration(longest), "longest stall", false))
            (tile("integrity", summary.integrity_errors_total, grouped(summary.integrity_errors_total), "integrity errors", true))
            (tile("unstable", unstable, grouped(unstable), "unstable writes", false))
            (tile("lost", summary.events_lost, grouped(summary.events_lost), "lost events", true))
        }
    }
}
