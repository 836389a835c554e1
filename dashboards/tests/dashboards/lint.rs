//! The rules of Grafana's dashboard-linter, each by its name there
//! (<https://github.com/grafana/dashboard-linter/blob/main/docs/index.md>).

use promql_parser::parser::{Expr, VectorSelector};
use serde_json::{Value, json};
use stable_trace_dashboards::asked::{self, Times};

use super::expressions::{parsed, selectors, walk};
use super::{files, panels};

/// Values that no query has by chance, so that what was a variable can be told.
const TIMES: Times = Times { rate_interval: 8_869, range: 6_069 };

fn variable(board: &Value, name: &str) -> Value {
    let variables = asked::list(&board["templating"]["list"]);
    let found = variables.iter().find(|variable| variable["name"] == name);
    found.cloned().unwrap_or_else(|| panic!("no variable {name}"))
}

/// Each expression of each panel: the dashboard's name, the panel's title, the tree.
fn targets() -> Vec<(String, Expr)> {
    let mut all = Vec::new();
    for (name, panel) in panels() {
        for target in asked::list(&panel["targets"]) {
            let expression = target["expr"].as_str().unwrap();
            let place = format!("{name} / {}: {expression}", panel["title"]);
            let tree = parsed(expression, TIMES).unwrap_or_else(|error| panic!("{place}: {error}"));
            all.push((place, tree));
        }
    }
    assert!(all.len() > 50, "only {} expressions were found", all.len());
    all
}

#[test]
fn template_datasource_rule() {
    for (name, board) in files() {
        let source = variable(&board, "datasource");
        assert_eq!(source["type"], "datasource", "{name}");
        assert_eq!(source["query"], "prometheus", "{name}");
        assert_eq!(source["label"], "Data source", "{name}");
    }
}

#[test]
fn template_job_rule_and_template_instance_rule() {
    for (name, board) in files() {
        for (variable_name, label) in [("job", "Job"), ("instance", "Instance")] {
            let variable = variable(&board, variable_name);
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
    for (name, board) in files() {
        for variable in asked::list(&board["templating"]["list"]) {
            if variable["type"] != "query" {
                continue;
            }
            let query = variable["query"].as_str().unwrap();
            let inside = query.strip_prefix("label_values(").and_then(|q| q.strip_suffix(')'));
            let (selector, label) = inside.and_then(|q| q.rsplit_once(", ")).unwrap();
            assert!(parsed(selector, TIMES).is_ok(), "{name}: {query}");
            assert!(!label.is_empty(), "{name}: {query}");
            assert_eq!(variable["definition"], query, "{name}: what the settings page shows");
        }
    }
}

#[test]
fn template_on_time_change_reload_rule() {
    for (name, board) in files() {
        for variable in asked::list(&board["templating"]["list"]) {
            if variable["type"] == "query" {
                assert_eq!(variable["refresh"], 2, "{name}: {}", variable["name"]);
            }
        }
    }
}

#[test]
fn panel_datasource_rule() {
    let ours = json!({"type": "prometheus", "uid": "${datasource}"});
    for (name, panel) in panels() {
        assert_eq!(panel["datasource"], ours, "{name} / {}", panel["title"]);
        for target in asked::list(&panel["targets"]) {
            assert_eq!(target["datasource"], ours, "{name} / {}", panel["title"]);
        }
    }
    for (name, board) in files() {
        for mark in asked::list(&board["annotations"]["list"]) {
            assert_eq!(mark["datasource"], ours, "{name} / {}", mark["name"]);
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

/// Of the names in Grafana's `valueFormats/categories.ts`, those that are used here.
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
        let targets = asked::list(&panel["targets"]);
        assert!(!targets.is_empty(), "{name} / {}", panel["title"]);
        let mut letters: Vec<_> = targets.iter().map(|target| target["refId"].as_str()).collect();
        letters.sort_unstable();
        letters.dedup();
        assert_eq!(letters.len(), targets.len(), "{name} / {}: refId twice", panel["title"]);
    }
}

#[test]
fn target_promql_rule() {
    // It is in the parsing.
    targets();
}

#[test]
fn target_rate_interval_rule() {
    for (place, tree) in targets() {
        walk(&tree, &mut |expression| {
            if let Expr::Call(call) = expression
                && ["rate", "irate"].contains(&call.func.name)
            {
                let Some(Expr::MatrixSelector(matrix)) = call.args.args.first().map(|arg| &**arg)
                else {
                    panic!("{place}: a rate of no selector");
                };
                assert_eq!(matrix.range.as_secs(), TIMES.rate_interval, "{place}");
            }
        });
    }
}

#[test]
fn target_job_rule_and_target_instance_rule() {
    for (place, tree) in targets() {
        for selector in selectors(&tree) {
            for label in ["job", "instance"] {
                assert!(matches_any(&selector, label), "{place}: no {label} in {selector}");
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
    for (place, tree) in targets() {
        // That table shows totals since the start, and says so.
        if place.starts_with("integrity / \"Since the agents started\"") {
            continue;
        }
        let mut counted = 0;
        walk(&tree, &mut |expression| {
            if let Expr::Call(call) = expression
                && functions.contains(&call.func.name)
                && let Some(Expr::MatrixSelector(matrix)) = call.args.args.first().map(|arg| &**arg)
                && is_counter(&matrix.vs)
            {
                counted += 1;
            }
        });
        let counters = selectors(&tree).iter().filter(|selector| is_counter(selector)).count();
        assert_eq!(counted, counters, "{place}: a counter without its rate");
    }
}

fn is_counter(selector: &VectorSelector) -> bool {
    let name = selector.name.as_deref().unwrap_or_default();
    ["_total", "_bucket", "_sum", "_count"].iter().any(|end| name.ends_with(end))
}

#[test]
fn uneditable_dashboard() {
    for (name, board) in files() {
        assert_eq!(board["editable"], false, "{name}");
    }
}
