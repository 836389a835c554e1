//! One Prometheus query of a panel.

use serde_json::{Value, json};

/// The data source variable of every dashboard.
pub(crate) fn data_source() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

/// Replaces `%` at the beginning of a selector's braces by the matchers of job and instance:
/// `up{%}`.
pub(crate) fn with_target_matchers(expression: &str) -> String {
    expression.replace("{%", r#"{job=~"$job", instance=~"$instance""#)
}

/// A target of a panel.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    expression: String,
    legend: &'static str,
    format: &'static str,
    instant: bool,
    ref_id: Option<&'static str>,
}

impl Query {
    /// A query over the dashboard's time range. See [`with_target_matchers`] for `%` in
    /// `expression`.
    pub(crate) fn range(expression: &str, legend: &'static str) -> Self {
        let expression = with_target_matchers(expression);
        Self { expression, legend, format: "time_series", instant: false, ref_id: None }
    }

    /// A query at the end of the dashboard's time range.
    pub(crate) fn instant(expression: &str, legend: &'static str) -> Self {
        Self { instant: true, ..Self::range(expression, legend) }
    }

    /// An instant query with one table row for each series.
    pub(crate) fn table(expression: &str) -> Self {
        Self { format: "table", ..Self::instant(expression, "__auto") }
    }

    /// A range query for the buckets of a histogram.
    pub(crate) fn heatmap(expression: &str) -> Self {
        Self { format: "heatmap", ..Self::range(expression, "{{le}}") }
    }

    /// Replaces the default `refId`, by which a table names the column `Value #refId`.
    pub(crate) const fn ref_id(mut self, ref_id: &'static str) -> Self {
        self.ref_id = Some(ref_id);
        self
    }

    /// The target in Grafana's JSON model; `index` selects the default `refId`.
    pub(crate) fn json(&self, index: usize) -> Value {
        let ref_ids = ["A", "B", "C", "D", "E", "F"];
        json!({
            "datasource": data_source(),
            "editorMode": "code",
            "expr": self.expression,
            "format": self.format,
            "instant": self.instant,
            "legendFormat": self.legend,
            "range": !self.instant,
            "refId": self.ref_id.or_else(|| ref_ids.get(index).copied()).unwrap_or("Z"),
        })
    }
}
