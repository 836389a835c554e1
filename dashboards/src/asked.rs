//! What the dashboards ask, read from their files, and how Grafana fills in the variables.

use serde_json::Value;

/// One expression of a dashboard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The dashboard's title.
    pub board: String,
    /// The panel's title, or the name of a variable or an annotation.
    pub place: String,
    /// As it stands in the file, with Grafana's variables in it.
    pub expression: String,
}

/// The variables that have a value of their own; every other stands for all.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// What `$__rate_interval` becomes, in seconds: at least four scrapes.
    pub rate_interval: u64,
    /// What `$__range` becomes, in seconds: the time shown.
    pub range: u64,
}

/// Every expression of a dashboard: of its panels, its variables and its annotations.
#[must_use]
pub fn of_board(board: &Value) -> Vec<Asked> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let asked = |place: &Value, expression: String| Asked {
        board: text(&board["title"]),
        place: text(place),
        expression,
    };
    let mut all = Vec::new();
    for panel in panels(board) {
        for target in list(&panel["targets"]) {
            all.push(asked(&panel["title"], text(&target["expr"])));
        }
    }
    for variable in list(&board["templating"]["list"]) {
        if variable["type"] == "query" {
            let query = text(&variable["query"]);
            all.push(asked(&variable["name"], selector_of(&query).unwrap_or(&query).to_owned()));
        }
    }
    for mark in list(&board["annotations"]["list"]) {
        all.push(asked(&mark["name"], text(&mark["expr"])));
    }
    all
}

/// The panels of a dashboard, without the rows that they stand in.
pub fn panels(board: &Value) -> impl Iterator<Item = &Value> {
    let rows = list(&board["panels"]).iter();
    rows.flat_map(|panel| std::iter::once(panel).chain(list(&panel["panels"])))
        .filter(|panel| panel["type"] != "row")
}

/// The elements of a JSON array; none of anything else.
#[must_use]
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The selector of `label_values(SELECTOR, label)`.
fn selector_of(query: &str) -> Option<&str> {
    let inside = query.strip_prefix("label_values(")?.strip_suffix(')')?;
    inside.rsplit_once(',').map(|(selector, _label)| selector.trim())
}

/// The expression as Grafana sends it with "All" chosen everywhere.
#[must_use]
pub fn filled_in(expression: &str, times: Times) -> String {
    let mut filled = expression
        .replace("$__rate_interval", &format!("{}s", times.rate_interval))
        .replace("$__range_s", &times.range.to_string())
        .replace("$__range", &format!("{}s", times.range));
    for variable in ["job", "instance"] {
        filled = filled.replace(&format!("\"${variable}\""), "\".+\"");
    }
    for variable in ["context", "device", "fs", "profile"] {
        filled = filled.replace(&format!("\"${variable}\""), "\".*\"");
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_filled_in() {
        let times = Times { rate_interval: 15, range: 60 };
        assert_eq!(
            filled_in(
                r#"sum(rate(x{job=~"$job", fs=~"$fs"}[$__rate_interval])) / $__range_s"#,
                times
            ),
            r#"sum(rate(x{job=~".+", fs=~".*"}[15s])) / 60"#
        );
        assert_eq!(filled_in("increase(x[$__range])", times), "increase(x[60s])");
    }

    #[test]
    fn a_variable_asks_for_a_selector() {
        assert_eq!(selector_of(r#"label_values(x{a="b", c="d"}, e)"#), Some(r#"x{a="b", c="d"}"#));
        assert_eq!(selector_of("label_names()"), None);
    }
}
