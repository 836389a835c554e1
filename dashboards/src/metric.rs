//! Every metric that a dashboard or a rule may ask for.

/// A metric of the agent's endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// As it is scraped; a histogram without `_bucket`, `_sum` and `_count`.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its labels, beside those that Prometheus adds to every series.
    pub labels: &'static [&'static str],
    /// Why a healthy system may have no series of it, where it may.
    pub absent: Option<&'static str>,
}

/// The kinds of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Goes up only, and is asked for its rate.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Has `_bucket`, `_sum` and `_count`.
    Histogram,
}

/// What the agent serves, by its documented names.
pub const METRICS: [Metric; 27] = [
    Metric::histogram("stable_trace_stall_seconds", &["context", "device", "fs"]),
    Metric::counter("stable_trace_integrity_errors_total", &["device", "op", "check", "source"])
        .absent("no disk that checks integrity, or no failed check"),
    Metric::counter("stable_trace_unstable_writes_total", &["device", "fs", "context", "grade"])
        .absent("no device that asks for stable pages, or checks"),
    Metric::counter("stable_trace_verdicts_total", &["device", "cause"])
        .absent("no integrity error to judge"),
    Metric::counter("stable_trace_process_stall_seconds_total", &["comm", "context"]),
    Metric::gauge("stable_trace_device_stable_writes", &["device"]),
    Metric::gauge("stable_trace_device_integrity_info", &["device", "format"])
        .absent("no disk that checks integrity"),
    Metric::gauge("stable_trace_probe_attached", &["group", "function", "method"]),
    Metric::counter("stable_trace_probe_missed_total", &["function"])
        .absent("no probe whose runs the kernel can skip"),
    Metric::counter("stable_trace_events_received_total", &[]),
    Metric::counter("stable_trace_events_lost_total", &[]),
    Metric::counter("stable_trace_program_run_seconds_total", &["program"]),
    Metric::counter("stable_trace_program_runs_total", &["program"]),
    Metric::gauge("stable_trace_map_entries", &["map"]),
    Metric::gauge("stable_trace_map_capacity", &["map"]),
    Metric::counter("stable_trace_workload_operations_total", &["profile", "mode"]),
    Metric::counter("stable_trace_workload_bytes_total", &["profile", "mode"]),
    Metric::counter("stable_trace_workload_errors_total", &["profile", "mode", "errno"])
        .absent("the workload had no error"),
    Metric::gauge("stable_trace_build_info", &["version", "revision", "kernel"]),
    Metric::counter("process_cpu_seconds_total", &[]),
    Metric::gauge("process_max_fds", &[]),
    Metric::gauge("process_open_fds", &[]),
    Metric::gauge("process_resident_memory_bytes", &[]),
    Metric::gauge("process_start_time_seconds", &[]),
    Metric::gauge("process_threads", &[]),
    // Prometheus writes these two itself, at each scrape.
    Metric::gauge("up", &[]),
    Metric::gauge("scrape_duration_seconds", &[]),
];

/// The labels that Prometheus adds to every series of a target.
pub const TARGET_LABELS: [&str; 2] = ["job", "instance"];

impl Metric {
    const fn new(name: &'static str, kind: Kind, labels: &'static [&'static str]) -> Self {
        Self { name, kind, labels, absent: None }
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

    const fn absent(mut self, why: &'static str) -> Self {
        self.absent = Some(why);
        self
    }

    /// The metric that a series of this name belongs to.
    #[must_use]
    pub fn of_series(series: &str) -> Option<&'static Self> {
        METRICS.iter().find(|metric| match metric.kind {
            Kind::Counter | Kind::Gauge => metric.name == series,
            Kind::Histogram => series
                .strip_prefix(metric.name)
                .is_some_and(|rest| ["_bucket", "_sum", "_count"].contains(&rest)),
        })
    }

    /// Whether series of it have this label.
    #[must_use]
    pub fn has_label(&self, label: &str) -> bool {
        self.labels.contains(&label)
            || TARGET_LABELS.contains(&label)
            || (self.kind == Kind::Histogram && label == "le")
    }

    /// Whether an expression names it.
    #[must_use]
    pub fn is_in(&self, expression: &str) -> bool {
        let part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        expression
            .split(|c| !part(c))
            .any(|word| Self::of_series(word).is_some_and(|metric| metric.name == self.name))
    }
}

/// Why an expression may come to nothing on a healthy system: the first such metric's reason.
#[must_use]
pub fn why_empty(expression: &str) -> Option<&'static str> {
    METRICS.iter().filter(|metric| metric.is_in(expression)).find_map(|metric| metric.absent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_names_its_metric() {
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
    fn only_what_may_be_absent_excuses() {
        assert!(why_empty("sum(rate(stable_trace_stall_seconds_count[5m]))").is_none());
        assert!(why_empty("sum(rate(stable_trace_verdicts_total{a=\"b\"}[5m])) / 2").is_some());
        assert!(why_empty("my_stable_trace_verdicts_total").is_none());
    }
}
