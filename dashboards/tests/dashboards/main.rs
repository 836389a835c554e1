//! The dashboard files against Grafana's schemas, the rules of its linter, and the agent's metrics.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail by panicking, and clippy does not recognise functions shared by tests"
)]

mod expressions;
mod layout;
mod lint;
mod schema;

use std::path::Path;

use serde_json::Value;
use stable_trace_dashboards::{dashboards, expressions as dashboard_expressions};

/// Name and JSON of each dashboard file.
fn files() -> Vec<(&'static str, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    dashboards::all()
        .iter()
        .map(|dashboard| {
            let text = std::fs::read_to_string(folder.join(format!("{}.json", dashboard.name)));
            (dashboard.name, serde_json::from_str(&text.unwrap()).unwrap())
        })
        .collect()
}

/// The panels of every file, with the dashboard's name.
fn panels() -> Vec<(&'static str, Value)> {
    let files = files();
    let panels = files.iter().flat_map(|(name, dashboard)| {
        dashboard_expressions::panels(dashboard).map(|panel| (*name, panel.clone()))
    });
    panels.collect()
}

#[test]
fn files_equal_the_generator_output() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for dashboard in dashboards::all() {
        let file = std::fs::read_to_string(folder.join(format!("{}.json", dashboard.name)));
        assert!(
            file.is_ok_and(|text| text == dashboard.file_content()),
            "{}.json is out of date; run `cargo xtask dashboards write`",
            dashboard.name
        );
    }
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let json = files.filter(|path| path.extension().is_some_and(|ext| ext == "json"));
    assert_eq!(json.count(), dashboards::all().len(), "a JSON file without a generator");
}
