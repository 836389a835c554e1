//! The dashboards as files: what Grafana would refuse, what its linter would complain of, and what
//! no agent serves.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail by panicking, and clippy sees no test in their shared functions"
)]

mod expressions;
mod layout;
mod lint;
mod schema;

use std::path::Path;

use serde_json::Value;
use stable_trace_dashboards::{asked, boards};

/// The dashboards as they are committed, by name.
fn files() -> Vec<(&'static str, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    boards::all()
        .iter()
        .map(|board| {
            let text = std::fs::read_to_string(folder.join(format!("{}.json", board.name)));
            (board.name, serde_json::from_str(&text.unwrap()).unwrap())
        })
        .collect()
}

/// Their panels, with the dashboards' names.
fn panels() -> Vec<(&'static str, Value)> {
    let boards = files();
    let panels = boards
        .iter()
        .flat_map(|(name, board)| asked::panels(board).map(|panel| (*name, panel.clone())));
    panels.collect()
}

#[test]
fn the_files_are_what_is_made() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for board in boards::all() {
        let file = std::fs::read_to_string(folder.join(format!("{}.json", board.name)));
        assert!(
            file.is_ok_and(|text| text == board.text()),
            "{}.json is another: `cargo xtask dashboards write`, and look at the difference",
            board.name
        );
    }
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let json = files.filter(|path| path.extension().is_some_and(|ext| ext == "json"));
    assert_eq!(json.count(), boards::all().len(), "a dashboard that nobody makes");
}
