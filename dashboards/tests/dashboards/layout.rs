//! Links between the dashboards, their identifiers, and the layout of their panels.

use std::collections::BTreeSet;

use serde_json::Value;
use stable_trace_dashboards::expressions::panels;
use stable_trace_dashboards::json::elements;

use super::files;

#[test]
fn dashboards_link_to_each_other_with_variables_and_time() {
    for (name, dashboard) in files() {
        assert_eq!(dashboard["tags"], serde_json::json!(["stable-trace"]), "{name}");
        let links = elements(&dashboard["links"]);
        assert_eq!(links.len(), 1, "{name}");
        assert_eq!(links[0]["type"], "dashboards", "{name}");
        assert_eq!(links[0]["tags"], dashboard["tags"], "{name}");
        assert_eq!((&links[0]["includeVars"], &links[0]["keepTime"]), (&true.into(), &true.into()));
    }
}

#[test]
fn uids_are_stable() {
    let uids: Vec<_> = files().iter().map(|(_, dashboard)| dashboard["uid"].clone()).collect();
    // Links and bookmarks contain the uid.
    assert_eq!(
        uids,
        [
            "stable-trace-overview",
            "stable-trace-stalls",
            "stable-trace-integrity",
            "stable-trace-wac-and-experiments",
            "stable-trace-agent",
        ]
    );
    for (name, dashboard) in files() {
        assert!(dashboard["id"].is_null(), "{name}: an id is specific to one server");
    }
}

#[test]
fn panels_do_not_overlap() {
    for (name, dashboard) in files() {
        let mut taken = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for panel in elements(&dashboard["panels"]) {
            assert!(ids.insert(panel["id"].as_u64()), "{name}: duplicate id");
            let grid = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            for x in grid("x")..grid("x") + grid("w") {
                assert!(x < 24, "{name} / {}: beyond the grid", panel["title"]);
                for y in grid("y")..grid("y") + grid("h") {
                    assert!(taken.insert((x, y)), "{name} / {}: overlaps", panel["title"]);
                }
            }
        }
    }
}

/// Grafana's default text `No data` reads like a fault.
#[test]
fn panels_of_values_have_a_text_for_no_data() {
    for (name, dashboard) in files() {
        for panel in panels(&dashboard) {
            if ["stat", "bargauge", "heatmap"].iter().any(|kind| panel["type"] == *kind) {
                let text = &panel["fieldConfig"]["defaults"]["noValue"];
                assert!(
                    text.as_str().is_some_and(|text| !text.is_empty()),
                    "{name} / {}",
                    panel["title"]
                );
            }
        }
    }
}

#[test]
fn panels_repeat_over_a_multi_value_variable() {
    for (name, dashboard) in files() {
        let variables = elements(&dashboard["templating"]["list"]);
        for panel in panels(&dashboard) {
            if let Some(variable) = panel.get("repeat").and_then(Value::as_str) {
                assert!(
                    variables.iter().any(|v| v["name"] == variable && v["multi"] == true),
                    "{name} / {}",
                    panel["title"]
                );
            }
        }
    }
}
