//! The report as one HTML file, without scripts and without anything to load.
//!
//! [`maud`] escapes all text of the recording, and the page's Content-Security-Policy forbids scripts
//! and requests. The size of the page is bounded: charts have a number of bins, tables a number of rows.

mod axis;
mod environment;
mod heat_map;
mod labels;
mod latency_chart;
mod overview;
mod stalls;
mod svg_backend;
mod verdicts;

use std::collections::BTreeMap;

use maud::{DOCTYPE, PreEscaped, html};
use plotters::drawing::DrawingAreaErrorKind;

use super::Report;
use crate::{event::Line, sink::format::sanitize};

const STYLE: &str = include_str!("style.css");

/// Allows only the styles and pictures in the page itself.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// A chart cannot be drawn.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw a chart (please report this)")]
pub struct PlotError(#[from] DrawingAreaErrorKind<std::fmt::Error>);

/// Renders the page. `evidence` has the lines that the verdicts cite, `name` is the name of the
/// recording.
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
                meta http-equiv="Content-Security-Policy" content=(CONTENT_SECURITY_POLICY);
                // Without an icon, browsers request one from the server.
                link rel="icon" href="data:,";
                title { "stable-trace: " (name) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a .skip href="#findings" { "Skip to the verdicts" }
                (overview::header(report, name))
                main {
                    (overview::tiles(report))
                    (stalls::over_time(report)?)
                    (verdicts::section(report, evidence))
                    (stalls::latency(report)?)
                    (stalls::most_stalled(report))
                    (stalls::waiting(report))
                    (environment::section(report))
                }
                footer {
                    p { "Written by stable-trace " (env!("CARGO_PKG_VERSION")) " from a recording. The page loads nothing from elsewhere." }
                }
            }
        }
    };
    // Markup and style have none of these.
    Ok(page.into_string().split('\n').map(sanitize).collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests;
