//! The page: one file with everything in it, and no program.
//!
//! Whatever a recording says is text here: [`maud`] escapes it, and the page's own policy lets nothing
//! be fetched and no script run. Its size has a bound: pictures have bins, tables a number of rows.

mod axis;
mod environment;
mod latency_chart;
mod overview;
mod svg_backend;
mod timeline;
mod verdicts;

use std::collections::BTreeMap;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use plotters::drawing::DrawingAreaErrorKind;

use super::Report;
use crate::event::Line;

const STYLE: &str = include_str!("style.css");

/// No network, no script, no form: styles and pictures that are in the page itself.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
#[error("a picture cannot be laid out: {0}; please report it")]
pub struct PlotError(String);

impl From<DrawingAreaErrorKind<std::fmt::Error>> for PlotError {
    fn from(error: DrawingAreaErrorKind<std::fmt::Error>) -> Self {
        Self(error.to_string())
    }
}

/// The page of a report. `evidence` has the lines that its verdicts rest on, `name` is the
/// recording's.
///
/// # Errors
/// [`PlotError`] if a picture cannot be laid out.
pub fn page(
    report: &Report,
    evidence: &BTreeMap<u64, Line>,
    name: &str,
) -> Result<String, PlotError> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                // An empty icon: browsers would ask a server for one.
                link rel="icon" href="data:,";
                title { "stable-trace: " (name) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a .skip href="#findings" { "Skip to the verdicts" }
                (overview::header(report, name))
                main {
                    (overview::tiles(report))
                    (over_time(report)?)
                    (verdicts::section(report, evidence))
                    (overview::lengths(report)?)
                    (overview::tops(report))
                    (environment::section(report))
                }
                footer {
                    p { "Written by stable-trace " (env!("CARGO_PKG_VERSION")) " from a recording; nothing in it is fetched from elsewhere." }
                }
            }
        }
    };
    Ok(page.into_string())
}

/// The heat map, its key, and the same in numbers.
fn over_time(report: &Report) -> Result<Markup, PlotError> {
    let mut pictures = String::new();
    for measures in timeline::EACH {
        pictures.push_str(&timeline::draw(report, measures)?);
    }
    let streamed = report.streamed.total();
    let threshold = report.start.as_ref().and_then(|start| start.min_latency_ns);
    Ok(html! {
        section #time aria-labelledby="time-title" {
            h2 #time-title { "Stalls over time" }
            p .note {
                b data-name="streamed" data-value=(streamed) { (grouped(streamed)) }
                " stalls that were listed one by one"
                @if let Some(ns) = threshold.filter(|ns| *ns > 0) {
                    " (those of " (crate::sink::style::duration(ns)) " and more)"
                }
                ", by when they ended and how long they were."
            }
            figure {
                (PreEscaped(pictures))
                figcaption .key {
                    span { "few " @for level in 0..7 { i class=(format!("swatch h{level}")) {} } " many" }
                    span { i .swatch .error {} " integrity error" }
                    span { i .swatch .phase {} " workload" }
                    @if report.summary.events_lost > 0 { span { i .swatch .lost {} " lines lost" } }
                }
            }
            details {
                summary { "The same in numbers" }
                div .scroll tabindex="0" role="region" aria-label="Stalls over time in numbers" {
                    table {
                        thead { tr { th { "When" } th .n { "Stalls" } th .n { "Longest" } th .n { "Integrity errors" } } }
                        tbody {
                            @for [when, stalls, longest, errors] in timeline::rows(report, 40) {
                                tr { td { (when) } td .n { (stalls) } td .n { (longest) } td .n { (errors) } }
                            }
                        }
                    }
                }
            }
        }
    })
}

/// A number with thousands apart, by a narrow space that does not break.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A name, or a dash.
#[must_use]
pub fn or_dash(name: Option<&str>) -> &str {
    name.unwrap_or("–")
}

#[cfg(test)]
mod tests;
