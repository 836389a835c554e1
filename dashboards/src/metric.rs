//! The metrics that dashboards and rules may use.

/// A metric of the agent's endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// The name; for a histogram without `_bucket`, `_sum` and `_count`.
    pub name: &'static str,
    kind: Kind,
    /// The labels, without [`TARGET_LABELS`].
    pub labels: &'static [&'static str],
    /// The reason why a healthy system may have no series of the metric.
    pub absence_reason: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A value that only increases. Queries use its rate or increase.
    Counter,
    /// A value that increases and decreases.
    Gauge,
    /// A set of the series `_bucket`, `_sum` and `_count`.
    Histogram,
}

/// The metrics that the agent serves, and two that Prometheus adds.
pub const METRICS: [Metric; 35] = [
    Metric::histogram("stable_trace_stall_seconds", &["context", "device", "fs"]),
    Metric::gauge("stable_trace_waiting_tasks", &["context", "device", "fs"]),
    Metric::gauge("stable_trace_oldest_wait_seconds", &["device", "fs"]),
    Metric::counter("stable_trace_integrity_errors_total", &["device", "op", "check", "source"])
        .absent_if("no disk checks integrity, or no check failed"),
    Metric::counter("stable_trace_unstable_writes_total", &["device", "fs", "context", "grade"])
        .absent_if("no device requires stable pages or checks integrity"),
    Metric::counter("stable_trace_verdicts_total", &["device", "cause"])
        .absent_if("no integrity error"),
    Metric::counter("stable_trace_verdict_proofs_total", &["device", "kind"])
        .absent_if("no disk checks integrity, or no check failed"),
    Metric::counter("stable_trace_process_stall_seconds_total", &["comm", "context"]),
    Metric::gauge("stable_trace_device_stable_writes", &["device"]),
    Metric::gauge("stable_trace_device_integrity_info", &["device", "format"])
        .absent_if("no disk checks integrity"),
    Metric::gauge("stable_trace_probe_attached", &["group", "function", "method"]),
    Metric::counter("stable_trace_probe_missed_total", &["function"])
        .absent_if("the kernel can skip no run of an attached probe"),
    Metric::counter("stable_trace_events_received_total", &[]),
    Metric::counter("stable_trace_events_lost_total", &[]),
    Metric::counter("stable_trace_output_lost_total", &["output"]),
    Metric::counter("stable_trace_integrity_repeated_total", &[]),
    Metric::counter("stable_trace_evidence_skipped_total", &[]),
    Metric::gauge("stable_trace_map_bytes", &["map"]),
    Metric::counter("stable_trace_stack_walks_total", &[]),
    Metric::counter("stable_trace_program_run_seconds_total", &["program"]),
    Metric::counter("stable_trace_program_runs_total", &["program"]),
    Metric::gauge("stable_trace_map_entries", &["map"]),
    Metric::gauge("stable_trace_map_capacity", &["map"]),
    Metric::counter("stable_trace_workload_operations_total", &["profile", "mode"]),
    Metric::counter("stable_trace_workload_bytes_total", &["profile", "mode"]),
    Metric::counter("stable_trace_workload_errors_total", &["profile", "mode", "errno"])
        .absent_if("no workload operation failed"),
    Metric::gauge("stable_trace_build_info", &["version", "revision", "kernel"]),
    Metric::counter("process_cpu_seconds_total", &[]),
    Metric::gauge("process_max_fds", &[]),
    Metric::gauge("process_open_fds", &[]),
    Metric::gauge("process_resident_memory_bytes", &[]),
    Metric::gauge("process_start_time_seconds", &[]),
    Metric::gauge("process_threads", &[]),
    // Prometheus adds these two at each scrape.
    Metric::gauge("up", &[]),
    Metric::gauge("scrape_duration_seconds", &[]),
];

/// The labels that Prometheus adds to every series of a target.
pub const TARGET_LABELS: [&str; 2] = ["job", "instance"];

impl Metric {
    const fn new(name: &'static str, kind: Kind, labels: &'static [&'static str]) -> Self {
        Self { name, kind, labels, absence_reason: None }
    }

    const fn counter(name: &'static str, labels: &'static [&'static str]) -> Self {
        Self::new(name, Kind::Counter, labels)
    }

    const fn gauge(name: &'static str, labels: &'static [&'static str]) -> Self {
        Self::new(name, Kind::Gauge, labels)
    }

    const fn histogram(name: &'static str, labels: &'static [&'static str]) -> Self {
        Self::new(name, Kind::Histogram, labels)
    }

    const fn absent_if(mut self, reason: &'static str) -> Self {
        self.absence_reason = Some(reason);
        self
    }

    /// The metric of the series with this name.
    #[must_use]
    pub fn of_series(series: &str) -> Option<&'static Self> {
        METRICS.iter().find(|metric| match metric.kind {
            Kind::Counter | Kind::Gauge => metric.name == series,
            Kind::Histogram => series
                .strip_prefix(metric.name)
                .is_some_and(|rest| ["_bucket", "_sum", "_count"].contains(&rest)),
        })
    }

    /// Whether series of the metric have this label.
    #[must_use]
    pub fn has_label(&self, label: &str) -> bool {
        self.labels.contains(&label)
            || TARGET_LABELS.contains(&label)
            || (self.kind == Kind::Histogram && label == "le")
    }

    /// Whether an expression contains a series of the metric.
    #[must_use]
    pub fn occurs_in(&self, expression: &str) -> bool {
        let is_name_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        expression
            .split(|c| !is_name_part(c))
            .any(|word| Self::of_series(word).is_some_and(|metric| metric.name == self.name))
    }
}

/// The reason why an expression may have no series on a healthy system: that of its first metric
/// that has one.
#[must_use]
pub fn absence_reason(expression: &str) -> Option<&'static str> {
    METRICS
        .iter()
        .filter(|metric| metric.occurs_in(expression))
        .find_map(|metric| metric.absence_reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_name_maps_to_its_metric() {
        for (series, expected) in [
            ("stable_trace_stall_seconds_bucket", Some("stable_trace_stall_seconds")),
            ("stable_trace_stall_seconds", None),
            ("stable_trace_stall_seconds_max", None),
            ("up", Some("up")),
            ("node_up", None),
        ] {
            assert_eq!(Metric::of_series(series).map(|metric| metric.name), expected, "{series}");
        }
    }

    #[test]
    fn absence_reasons_are_found_by_whole_series_names() {
        assert!(absence_reason("sum(rate(stable_trace_stall_seconds_count[5m]))").is_none());
        assert!(
            absence_reason("sum(rate(stable_trace_verdicts_total{a=\"b\"}[5m])) / 2").is_some()
        );
        assert!(absence_reason("my_stable_trace_verdicts_total").is_none());
    }
}
