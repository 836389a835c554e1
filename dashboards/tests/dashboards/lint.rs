//! The rules of Grafana's dashboard-linter, each in a test of the rule's name
//! (<https://github.com/grafana/dashboard-linter/blob/main/docs/index.md>).

use promql_parser::parser::{Expr, VectorSelector};
use serde_json::{Value, json};
use stable_trace_dashboards::expressions::Durations;
use stable_trace_dashboards::json::elements;

use super::expressions::{parsed, selectors, walk};
use super::{files, panels};

/// Values that no expression contains, so that an interpolated variable is recognisable.
const DURATIONS: Durations = Durations { rate_interval: 8_869, range: 6_069 };

fn variable(dashboard: &Value, name: &str) -> Value {
    let variables = elements(&dashboard["templating"]["list"]);
    let found = variables.iter().find(|variable| variable["name"] == name);
    found.cloned().unwrap_or_else(|| panic!("no variable {name}"))
}

/// Every expression of every panel, parsed, with a description of where it is.
fn targets() -> Vec<(String, Expr)> {
    let mut all = Vec::new();
    for (name, panel) in panels() {
        for target in elements(&panel["targets"]) {
            let expression = target["expr"].as_str().unwrap();
            let location = format!("{name} / {}: {expression}", panel["title"]);
            let tree =
                parsed(expression, DURATIONS).unwrap_or_else(|error| panic!("{location}: {error}"));
            all.push((location, tree));
        }
    }
    assert!(all.len() > 50, "only {} expressions were found", all.len());
    all
}

#[test]
fn template_datasource_rule() {
    for (name, dashboard) in files() {
        let source = variable(&dashboard, "datasource");
        assert_eq!(source["type"], "datasource", "{name}");
        assert_eq!(source["query"], "prometheus", "{name}");
        assert_eq!(source["label"], "Data source", "{name}");
    }
}

#[test]
fn template_job_rule_and_template_instance_rule() {
    for (name, dashboard) in files() {
        for (variable_name, label) in [("job", "Job"), ("instance", "Instance")] {
            let variable = variable(&dashboard, variable_name);
            assert_eq!(variable["type"], "query", "{name}");
            assert_eq!(variable["datasource"]["uid"], "${datasource}", "{name}");
            assert_eq!(variable["label"], label, "{name}");
            assert_eq!(variable["multi"], true, "{name}");
            assert_eq!(variable["includeAll"], true, "{name}");
            assert_eq!(variable["allValue"], ".+", "{name}");
            let query = variable["query"].as_str().unwrap();
            assert!(query.starts_with("label_values(stable_trace_build_info"), "{name}: {query}");
        }
    }
}

#[test]
fn template_label_promql_rule() {
    for (name, dashboard) in files() {
        for variable in elements(&dashboard["templating"]["list"]) {
            if variable["type"] != "query" {
                continue;
            }
            let query = variable["query"].as_str().unwrap();
            let arguments = query.strip_prefix("label_values(").and_then(|q| q.strip_suffix(')'));
            let (selector, label) = arguments.and_then(|q| q.rsplit_once(", ")).unwrap();
            assert!(parsed(selector, DURATIONS).is_ok(), "{name}: {query}");
            assert!(!label.is_empty(), "{name}: {query}");
            assert_eq!(variable["definition"], query, "{name}: the query of the settings page");
        }
    }
}

#[test]
fn template_on_time_change_reload_rule() {
    for (name, dashboard) in files() {
        for variable in elements(&dashboard["templating"]["list"]) {
            if variable["type"] == "query" {
                assert_eq!(variable["refresh"], 2, "{name}: {}", variable["name"]);
            }
        }
    }
}

#[test]
fn panel_datasource_rule() {
    let data_source = json!({"type": "prometheus", "uid": "${datasource}"});
    for (name, panel) in panels() {
        assert_eq!(panel["datasource"], data_source, "{name} / {}", panel["title"]);
        for target in elements(&panel["targets"]) {
            assert_eq!(target["datasource"], data_source, "{name} / {}", panel["title"]);
        }
    }
    for (name, dashboard) in files() {
        for annotation in elements(&dashboard["annotations"]["list"]) {
            assert_eq!(annotation["datasource"], data_source, "{name} / {}", annotation["name"]);
        }
    }
}

#[test]
fn panel_title_description_rule() {
    for (name, panel) in panels() {
        for key in ["title", "description"] {
            let text = panel[key].as_str().unwrap_or_default();
            assert!(!text.trim().is_empty(), "{name}: no {key}: {panel:#}");
        }
    }
}

/// The units in use, from Grafana's `valueFormats/categories.ts`.
const UNITS: [&str; 9] =
    ["Bps", "bytes", "cps", "none", "ops", "percentunit", "s", "short", "string"];

#[test]
fn panel_units_rule() {
    for (name, panel) in panels() {
        let unit = panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap_or_default();
        assert!(UNITS.contains(&unit), "{name} / {}: `{unit}`", panel["title"]);
    }
}

#[test]
fn panel_no_targets_rule() {
    for (name, panel) in panels() {
        let targets = elements(&panel["targets"]);
        assert!(!targets.is_empty(), "{name} / {}", panel["title"]);
        let mut ref_ids: Vec<_> = targets.iter().map(|target| target["refId"].as_str()).collect();
        ref_ids.sort_unstable();
        ref_ids.dedup();
        assert_eq!(ref_ids.len(), targets.len(), "{name} / {}: duplicate refId", panel["title"]);
    }
}

#[test]
fn target_promql_rule() {
    // Parses every expression.
    targets();
}

#[test]
fn target_rate_interval_rule() {
    for (location, tree) in targets() {
        walk(&tree, &mut |expression| {
            if let Expr::Call(call) = expression
                && ["rate", "irate"].contains(&call.func.name)
            {
                let Some(Expr::MatrixSelector(matrix)) = call.args.args.first().map(|arg| &**arg)
                else {
                    panic!("{location}: the argument of the rate is not a selector");
                };
                assert_eq!(matrix.range.as_secs(), DURATIONS.rate_interval, "{location}");
            }
        });
    }
}

#[test]
fn target_job_rule_and_target_instance_rule() {
    for (location, tree) in targets() {
        for selector in selectors(&tree) {
            for label in ["job", "instance"] {
                assert!(matches_any(&selector, label), "{location}: no {label} in {selector}");
            }
        }
    }
}

/// Whether a selector has `label=~"$label"`.
fn matches_any(selector: &VectorSelector, label: &str) -> bool {
    let matchers = selector.matchers.find_matchers(label);
    matches!(matchers.as_slice(), [one] if one.op.to_string() == "=~" && one.value == ".+")
}

#[test]
fn target_counter_agg_rule() {
    let functions = ["rate", "irate", "increase"];
    for (location, tree) in targets() {
        // This table shows the counters' absolute values.
        if location.starts_with("integrity / \"Since the agents started\"") {
            continue;
        }
        let mut with_rate = 0;
        walk(&tree, &mut |expression| {
            if let Expr::Call(call) = expression
                && functions.contains(&call.func.name)
                && let Some(Expr::MatrixSelector(matrix)) = call.args.args.first().map(|arg| &**arg)
                && is_counter(&matrix.vs)
            {
                with_rate += 1;
            }
        });
        let counters = selectors(&tree).iter().filter(|selector| is_counter(selector)).count();
        assert_eq!(with_rate, counters, "{location}: a counter without rate or increase");
    }
}

fn is_counter(selector: &VectorSelector) -> bool {
    let name = selector.name.as_deref().unwrap_or_default();
    ["_total", "_bucket", "_sum", "_count"].iter().any(|end| name.ends_with(end))
}

#[test]
fn uneditable_dashboard() {
    for (name, dashboard) in files() {
        assert_eq!(dashboard["editable"], false, "{name}");
    }
}
