//! What Prometheus's own tool says of a page.

use std::process::Command;

use stable_trace::metrics::server::Limits;

use super::{Bench, run};

#[test]
fn promtool_has_nothing_to_say() {
    let bench = Bench::plain(Limits::default());
    let (head, page) = bench.get("/metrics", "");
    assert!(head.contains("version=0.0.4"), "{head}");
    let (fine, said) = run(Command::new("promtool").args(["check", "metrics"]), &page);
    assert!(fine && said.trim().is_empty(), "{said}\n{page}");
    // It does say something of a page that is not right.
    let bad = page.replace("stable_trace_events_received_total", "stableTraceEvents");
    let (fine, said) = run(Command::new("promtool").args(["check", "metrics"]), &bad);
    assert!(!fine || !said.trim().is_empty(), "promtool takes anything");
}

#[test]
fn openmetrics_for_those_who_ask_for_it() {
    let bench = Bench::plain(Limits::default());
    let (head, page) =
        bench.get("/metrics", "Accept: application/openmetrics-text;version=1.0.0,*/*;q=0.1\r\n");
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0;"), "{head}");
    assert!(page.ends_with("\n# EOF\n"), "{page}");
    assert!(page.contains("# TYPE stable_trace_events_received counter\n"), "{page}");
    assert!(page.contains("\nstable_trace_events_received_total 1\n"), "{page}");
}
