//! Encodes metric families in the two text formats: Prometheus 0.0.4 and `OpenMetrics` 1.0.

use std::fmt::Write as _;

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

use super::number::{count, float, value};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExpositionFormat {
    /// The Prometheus text format 0.0.4.
    Text,
    /// `OpenMetrics` 1.0.
    OpenMetrics,
}

impl ExpositionFormat {
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

pub(super) fn encode(families: &[MetricFamily], format: ExpositionFormat) -> String {
    let mut out = String::new();
    for family in families {
        write_family(&mut out, family, format);
    }
    if format == ExpositionFormat::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

// Writing to a `String` cannot fail, so this file ignores the results of `write!`.
fn write_family(out: &mut String, family: &MetricFamily, format: ExpositionFormat) {
    let name = family.name();
    let kind = match family.get_field_type() {
        MetricType::COUNTER => "counter",
        MetricType::HISTOGRAM => "histogram",
        _ => "gauge",
    };
    // In OpenMetrics the name of a counter family lacks the `_total` of its samples.
    let base = match (format, kind) {
        (ExpositionFormat::OpenMetrics, "counter") => name.strip_suffix("_total").unwrap_or(name),
        _ => name,
    };
    let _ = write!(out, "# HELP {base} ");
    escape(out, family.help(), format == ExpositionFormat::OpenMetrics);
    let _ = writeln!(out, "\n# TYPE {base} {kind}");
    if let (ExpositionFormat::OpenMetrics, Some(unit)) = (format, unit(base)) {
        let _ = writeln!(out, "# UNIT {base} {unit}");
    }
    for metric in family.get_metric() {
        match kind {
            "histogram" => write_histogram(out, name, metric),
            "counter" => sample(out, name, "", metric, None, metric.get_counter().get_value()),
            _ => sample(out, name, "", metric, None, metric.get_gauge().get_value()),
        }
    }
}

/// The unit that a metric name ends in, for the `# UNIT` line of `OpenMetrics`.
fn unit(base: &str) -> Option<&'static str> {
    ["seconds", "bytes"]
        .into_iter()
        .find(|unit| base.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_')))
}

fn write_histogram(out: &mut String, name: &str, metric: &Metric) {
    let histogram = metric.get_histogram();
    for bucket in histogram.get_bucket() {
        let bound = float(bucket.upper_bound());
        sample(out, name, "_bucket", metric, Some(&bound), count(bucket.cumulative_count()));
    }
    sample(out, name, "_sum", metric, None, histogram.get_sample_sum());
    sample(out, name, "_count", metric, None, count(histogram.get_sample_count()));
}

fn sample(
    out: &mut String,
    name: &str,
    suffix: &str,
    metric: &Metric,
    bound: Option<&str>,
    number: f64,
) {
    out.push_str(name);
    out.push_str(suffix);
    let bound = bound.map(|bound| ("le", bound));
    let labels = metric.get_label().iter().map(pair).chain(bound);
    let mut separator = '{';
    for (name, value) in labels {
        let _ = write!(out, "{separator}{name}=\"");
        escape(out, value, true);
        out.push('"');
        separator = ',';
    }
    if separator == ',' {
        out.push('}');
    }
    let _ = writeln!(out, " {}", value(number));
}

fn pair(pair: &LabelPair) -> (&str, &str) {
    (pair.name(), pair.value())
}

/// Escapes backslash and newline, and quotes in label values. Both formats allow all other
/// characters.
fn escape(out: &mut String, text: &str, quotes: bool) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests;
