//! The landing page, and the status as JSON.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use stable_trace_analysis::event::{Device, Probe};

use super::collector::{CollectError, Scrape};
use crate::metrics::series::Build;

/// The page at `/`.
pub(super) fn landing(build: &Build) -> String {
    let Build { version, revision, kernel } = build;
    let [version, revision, kernel] = [version, revision, kernel].map(|text| escape_html(text));
    format!(
        "<!DOCTYPE html>\n\
         <html lang=\"en\">\n\
         <head><meta charset=\"utf-8\"><title>stable-trace</title></head>\n\
         <body>\n\
         <h1>stable-trace</h1>\n\
         <p>Writeback stalls and block-integrity failures of this machine. \
         Version {version} ({revision}) on Linux {kernel}.</p>\n\
         <ul>\n\
         <li><a href=\"/metrics\">Metrics</a></li>\n\
         <li><a href=\"/status\">Status</a>: probes, what did not attach and why, devices</li>\n\
         <li><a href=\"/-/healthy\">Healthy</a>, <a href=\"/-/ready\">ready</a></li>\n\
         </ul>\n\
         </body>\n\
         </html>\n"
    )
}

fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[derive(Serialize)]
struct Status<'a> {
    version: &'a str,
    revision: &'a str,
    kernel: &'a str,
    ready: bool,
    uptime_seconds: f64,
    /// Why the fields of the run are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(flatten)]
    run: Option<RunStatus<'a>>,
}

#[derive(Serialize)]
struct RunStatus<'a> {
    probes: &'a [Probe],
    devices: &'a [Device],
    events_received: u64,
    events_lost: u64,
}

/// The JSON object at `/status`.
pub(super) fn status(
    build: &Build,
    ready: bool,
    uptime: Duration,
    scrape: &Result<Arc<Scrape>, CollectError>,
) -> serde_json::Result<String> {
    let run = scrape.as_ref().ok().map(|scrape| RunStatus {
        probes: &scrape.snapshot.probes,
        devices: &scrape.snapshot.devices,
        events_received: scrape.snapshot.events_received,
        events_lost: scrape.snapshot.events_lost,
    });
    let status = Status {
        version: &build.version,
        revision: &build.revision,
        kernel: &build.kernel,
        ready,
        uptime_seconds: uptime.as_secs_f64(),
        error: scrape.as_ref().err().map(ToString::to_string),
        run,
    };
    serde_json::to_string_pretty(&status).map(|text| text + "\n")
}
