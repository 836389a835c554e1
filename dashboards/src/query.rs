//! One question to Prometheus.

use serde_json::{Value, json};

/// The data source that the user chose.
pub(crate) fn data_source() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

/// A target of a panel.
#[derive(Clone, Debug)]
pub struct Query {
    expression: String,
    legend: &'static str,
    format: &'static str,
    instant: bool,
    letter: Option<&'static str>,
}

impl Query {
    /// A question over the time that is shown. In `expression` a `%` within braces stands for the
    /// matchers of job and instance: `up{%}`.
    #[must_use]
    pub fn new(expression: &str, legend: &'static str) -> Self {
        let expression = expression.replace("{%", r#"{job=~"$job", instance=~"$instance""#);
        Self { expression, legend, format: "time_series", instant: false, letter: None }
    }

    /// A question about the end of the time that is shown.
    #[must_use]
    pub fn now(expression: &str, legend: &'static str) -> Self {
        Self { instant: true, ..Self::new(expression, legend) }
    }

    /// The same, answered by one row a series, for a table.
    #[must_use]
    pub fn rows(expression: &str) -> Self {
        Self { format: "table", ..Self::now(expression, "__auto") }
    }

    /// The buckets of a histogram.
    #[must_use]
    pub fn buckets(expression: &str) -> Self {
        Self { format: "heatmap", ..Self::new(expression, "{{le}}") }
    }

    /// Named by a letter of its own instead of by its place, for a table of several.
    #[must_use]
    pub const fn named(mut self, letter: &'static str) -> Self {
        self.letter = Some(letter);
        self
    }

    /// As a panel has it; `place` counts from 0.
    pub(crate) fn json(&self, place: usize) -> Value {
        let letters = ["A", "B", "C", "D", "E", "F"];
        json!({
            "datasource": data_source(),
            "editorMode": "code",
            "expr": self.expression,
            "format": self.format,
            "instant": self.instant,
            "legendFormat": self.legend,
            "range": !self.instant,
            "refId": self.letter.or_else(|| letters.get(place).copied()).unwrap_or("Z"),
        })
    }
}
