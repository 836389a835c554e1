//! What makes five dashboards one set, and each panel readable.

use std::collections::BTreeSet;

use serde_json::Value;
use stable_trace_dashboards::asked;

use super::files;

#[test]
fn they_link_to_each_other_and_keep_the_variables() {
    for (name, board) in files() {
        assert_eq!(board["tags"], serde_json::json!(["stable-trace"]), "{name}");
        let links = asked::list(&board["links"]);
        assert_eq!(links.len(), 1, "{name}");
        assert_eq!(links[0]["type"], "dashboards", "{name}");
        assert_eq!(links[0]["tags"], board["tags"], "{name}");
        assert_eq!((&links[0]["includeVars"], &links[0]["keepTime"]), (&true.into(), &true.into()));
    }
}

#[test]
fn each_has_a_name_of_its_own_that_stays() {
    let uids: Vec<_> = files().iter().map(|(_, board)| board["uid"].clone()).collect();
    // Links and bookmarks go by these: changing one breaks them.
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
    for (name, board) in files() {
        assert!(board["id"].is_null(), "{name}: an id is of one server");
    }
}

#[test]
fn no_panel_lies_on_another() {
    for (name, board) in files() {
        let mut taken = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for panel in asked::list(&board["panels"]) {
            assert!(ids.insert(panel["id"].as_u64()), "{name}: an id twice");
            let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            for x in place("x")..place("x") + place("w") {
                assert!(x < 24, "{name} / {}: beyond the grid", panel["title"]);
                for y in place("y")..place("y") + place("h") {
                    assert!(taken.insert((x, y)), "{name} / {}: overlaps", panel["title"]);
                }
            }
        }
    }
}

/// Where nothing happens, a number says 0 or in words why there is none: not `No data`, which reads
/// like a fault.
#[test]
fn numbers_and_rankings_are_sane_without_data() {
    for (name, board) in files() {
        for panel in asked::panels(&board) {
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
fn what_repeats_repeats_a_variable() {
    for (name, board) in files() {
        let variables = asked::list(&board["templating"]["list"]);
        for panel in asked::panels(&board) {
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
