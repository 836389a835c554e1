//! The PromQL expressions of a dashboard's JSON, with Grafana's variables interpolated.

use serde_json::Value;

use crate::json::{elements, text};

/// A PromQL expression of a dashboard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DashboardExpression {
    /// The dashboard's title.
    pub dashboard: String,
    /// The title of the panel, or the name of the variable or annotation.
    pub element: String,
    /// The expression as in the JSON, with Grafana's variables.
    pub expression: String,
}

/// Values of Grafana's time variables, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Durations {
    /// `$__rate_interval`: at least four scrape intervals.
    pub rate_interval: u64,
    /// `$__range`: the length of the dashboard's time range.
    pub range: u64,
}

/// The expressions of a dashboard's panels, variables and annotations.
#[must_use]
pub fn of_dashboard(dashboard: &Value) -> Vec<DashboardExpression> {
    let expression = |element: &Value, expression: &str| DashboardExpression {
        dashboard: text(&dashboard["title"]).to_owned(),
        element: text(element).to_owned(),
        expression: expression.to_owned(),
    };
    let mut all = Vec::new();
    for panel in panels(dashboard) {
        for target in elements(&panel["targets"]) {
            all.push(expression(&panel["title"], text(&target["expr"])));
        }
    }
    for variable in elements(&dashboard["templating"]["list"]) {
        if variable["type"] == "query" {
            let query = text(&variable["query"]);
            all.push(expression(&variable["name"], selector_of(query).unwrap_or(query)));
        }
    }
    for annotation in elements(&dashboard["annotations"]["list"]) {
        all.push(expression(&annotation["name"], text(&annotation["expr"])));
    }
    all
}

/// The panels of a dashboard, without its rows.
pub fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    let top_level = elements(&dashboard["panels"]).iter();
    top_level
        .flat_map(|panel| std::iter::once(panel).chain(elements(&panel["panels"])))
        .filter(|panel| panel["type"] != "row")
}

/// The selector of `label_values(SELECTOR, label)`.
fn selector_of(query: &str) -> Option<&str> {
    let arguments = query.strip_prefix("label_values(")?.strip_suffix(')')?;
    arguments.rsplit_once(',').map(|(selector, _label)| selector.trim())
}

/// Interpolates Grafana's variables, with "All" selected in each query variable.
#[must_use]
pub fn interpolated(expression: &str, durations: Durations) -> String {
    let mut interpolated = expression
        .replace("$__rate_interval", &format!("{}s", durations.rate_interval))
        .replace("$__range_s", &durations.range.to_string())
        .replace("$__range", &format!("{}s", durations.range));
    for variable in ["job", "instance"] {
        interpolated = interpolated.replace(&format!("\"${variable}\""), "\".+\"");
    }
    for variable in ["context", "device", "fs", "profile"] {
        interpolated = interpolated.replace(&format!("\"${variable}\""), "\".*\"");
    }
    interpolated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_interpolated() {
        let durations = Durations { rate_interval: 15, range: 60 };
        assert_eq!(
            interpolated(
                r#"sum(rate(x{job=~"$job", fs=~"$fs"}[$__rate_interval])) / $__range_s"#,
                durations
            ),
            r#"sum(rate(x{job=~".+", fs=~".*"}[15s])) / 60"#
        );
        assert_eq!(interpolated("increase(x[$__range])", durations), "increase(x[60s])");
    }

    #[test]
    fn the_selector_of_label_values_is_extracted() {
        assert_eq!(selector_of(r#"label_values(x{a="b", c="d"}, e)"#), Some(r#"x{a="b", c="d"}"#));
        assert_eq!(selector_of("label_names()"), None);
    }
}
