//! The metrics page checked by Prometheus's `promtool`.

use std::process::Command;

use stable_trace::metrics::server::ClientLimits;

use super::{TestEndpoint, run};

#[test]
fn promtool_accepts_the_page() {
    let endpoint = TestEndpoint::plain(ClientLimits::default());
    let (head, page) = endpoint.get("/metrics", "");
    assert!(head.contains("version=0.0.4"), "{head}");
    let (success, output) = run(Command::new("promtool").args(["check", "metrics"]), &page);
    assert!(success && output.trim().is_empty(), "{output}\n{page}");
    // promtool reports a bad name.
    let bad = page.replace("stable_trace_events_received_total", "stableTraceEvents");
    let (success, output) = run(Command::new("promtool").args(["check", "metrics"]), &bad);
    assert!(!success || !output.trim().is_empty(), "promtool accepts a bad name");
}

#[test]
fn openmetrics_is_served_on_request() {
    let endpoint = TestEndpoint::plain(ClientLimits::default());
    let (head, page) = endpoint
        .get("/metrics", "Accept: application/openmetrics-text;version=1.0.0,*/*;q=0.1\r\n");
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0;"), "{head}");
    assert!(page.ends_with("\n# EOF\n"), "{page}");
    assert!(page.contains("# TYPE stable_trace_events_received counter\n"), "{page}");
    assert!(page.contains("\nstable_trace_events_received_total 1\n"), "{page}");
}
