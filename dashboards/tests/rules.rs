//! The alert and recording rules, checked and tested by `promtool`, and the runbooks.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail by panicking, and clippy does not recognise functions shared by tests"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use promql_parser::parser::{self, Expr, VectorSelector};
use promql_parser::util::{ExprVisitor, walk_expr};
use serde_json::Value;
use stable_trace_dashboards::json::elements;
use stable_trace_dashboards::metric::Metric;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The rules of `alerts.yaml` or `rules.yaml`.
fn rules(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(folder().join(file)).unwrap();
    let file: Value = serde_saphyr::from_str(&text).unwrap();
    elements(&file["groups"]).iter().flat_map(|group| elements(&group["rules"])).cloned().collect()
}

fn alerts() -> Vec<Value> {
    let alerts = rules("alerts.yaml");
    assert!(alerts.len() > 10, "only {} alerts were found", alerts.len());
    alerts
}

fn promtool(arguments: &[&str], files: &[PathBuf]) {
    let output = Command::new("promtool").args(arguments).args(files).output();
    let output = output.unwrap_or_else(|error| {
        panic!("cannot start promtool: {error}; `cargo xtask test` installs it")
    });
    let text = String::from_utf8_lossy;
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
}

fn files_in(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}

#[test]
fn promtool_checks_the_rules() {
    // Without `--lint-fatal` a duplicate rule is only a warning.
    let files = ["alerts.yaml", "rules.yaml"].map(|file| folder().join(file));
    promtool(&["check", "rules", "--lint=all", "--lint-fatal"], &files);
}

#[test]
fn promtool_tests_the_rules() {
    let files = files_in(&folder().join("tests/rules"), "yaml");
    assert_eq!(files.len(), 4, "{files:?}");
    promtool(&["test", "rules"], &files);
}

#[test]
fn every_rule_has_promtool_tests() {
    let (mut firing, mut inactive) = (BTreeSet::new(), BTreeSet::new());
    let mut tested_expressions = String::new();
    for path in files_in(&folder().join("tests/rules"), "yaml") {
        let text = fs::read_to_string(&path).unwrap();
        let file: Value = serde_saphyr::from_str(&text).unwrap();
        for case in elements(&file["tests"]) {
            for check in elements(&case["alert_rule_test"]) {
                let name = check["alertname"].as_str().unwrap().to_owned();
                let expected = elements(&check["exp_alerts"]);
                if expected.is_empty() { &mut inactive } else { &mut firing }.insert(name);
            }
            for check in elements(&case["promql_expr_test"]) {
                tested_expressions += check["expr"].as_str().unwrap();
                tested_expressions += "\n";
            }
        }
    }
    let names: BTreeSet<_> =
        alerts().iter().map(|rule| rule["alert"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, firing, "alerts tested firing");
    assert_eq!(names, inactive, "alerts tested inactive");
    for rule in rules("rules.yaml") {
        let name = rule["record"].as_str().unwrap();
        assert!(
            tested_expressions.lines().any(|line| line.split('{').next() == Some(name)),
            "no test of {name}"
        );
    }
}

#[test]
fn every_alert_has_a_severity_and_annotations() {
    let severities = ["critical", "warning", "info"];
    for rule in alerts() {
        let name = rule["alert"].as_str().unwrap();
        let severity = rule["labels"]["severity"].as_str().unwrap_or_default();
        assert!(severities.contains(&severity), "{name}: severity `{severity}`");
        for annotation in ["summary", "description", "runbook_url"] {
            let text = rule["annotations"][annotation].as_str().unwrap_or_default();
            assert!(!text.trim().is_empty(), "{name}: no {annotation}");
        }
    }
}

#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
    let mut expected = BTreeSet::new();
    for rule in alerts() {
        let name = rule["alert"].as_str().unwrap();
        assert_eq!(rule["annotations"]["runbook_url"], format!("runbooks/{name}.md"), "{name}");
        expected.insert(folder().join(format!("runbooks/{name}.md")));
    }
    let existing: BTreeSet<_> = files_in(&folder().join("runbooks"), "md").into_iter().collect();
    assert_eq!(expected, existing);
}

#[test]
fn every_runbook_has_the_title_and_headings_and_valid_links() {
    for path in files_in(&folder().join("runbooks"), "md") {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let headings: Vec<_> = text.lines().filter(|line| line.starts_with('#')).collect();
        let title = format!("# {name}");
        assert_eq!(
            headings,
            [
                title.as_str(),
                "## What it means",
                "## What to look at next",
                "## From shape to cause"
            ],
            "{name}"
        );
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = path.parent().unwrap().join(link);
            assert!(target.exists(), "{name}: broken link {link}");
        }
    }
}

/// Collects the selectors of an expression.
struct Selectors(Vec<VectorSelector>);

impl ExprVisitor for Selectors {
    type Error = std::convert::Infallible;

    fn pre_visit(&mut self, expression: &Expr) -> Result<bool, Self::Error> {
        match expression {
            Expr::VectorSelector(selector) => self.0.push(selector.clone()),
            Expr::MatrixSelector(matrix) => self.0.push(matrix.vs.clone()),
            _ => {}
        }
        Ok(true)
    }
}

#[test]
fn every_rule_uses_existing_metrics_and_labels() {
    let recorded: BTreeSet<_> = rules("rules.yaml")
        .iter()
        .map(|rule| rule["record"].as_str().unwrap().to_owned())
        .collect();
    for rule in alerts().into_iter().chain(rules("rules.yaml")) {
        let expression = rule["expr"].as_str().unwrap();
        let mut selectors = Selectors(Vec::new());
        let Ok(_) = walk_expr(&mut selectors, &parser::parse(expression).unwrap());
        assert!(!selectors.0.is_empty(), "{expression}");
        for selector in selectors.0 {
            let name = selector.name.as_deref().unwrap_or_default();
            if recorded.contains(name) {
                // Alerts must work without the recording rules.
                assert!(rule.get("record").is_some(), "an alert that uses {name}");
                continue;
            }
            let metric = Metric::of_series(name).unwrap_or_else(|| panic!("unknown metric {name}"));
            for matcher in &selector.matchers.matchers {
                assert!(metric.has_label(&matcher.name), "{name} has no label {}", matcher.name);
            }
        }
    }
}

/// Prometheus' convention is `level:metric:operations`; the level is the labels of the result.
#[test]
fn recording_rules_follow_the_naming_convention() {
    for rule in rules("rules.yaml") {
        let name = rule["record"].as_str().unwrap();
        let parts: Vec<_> = name.split(':').collect();
        assert_eq!(parts.len(), 3, "{name}");
        assert!(parts[0].starts_with("job_instance"), "{name}");
        assert!(!parts[1].ends_with("_total"), "{name}: a rate must not end in _total");
        let expression = rule["expr"].as_str().unwrap();
        if let Some(labels) = expression.strip_prefix("sum by (").and_then(|e| e.split(')').next())
        {
            assert_eq!(parts[0], labels.replace(", ", "_"), "{name}");
        }
    }
}
