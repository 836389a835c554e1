//! The dashboards against Grafana's JSON schemas (`../schema/README.md`), which reject unknown keys.

use std::path::Path;

use jsonschema::Validator;
use serde_json::{Value, json};
use stable_trace_dashboards::json::elements;

use super::{files, panels};

fn schema(name: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schema");
    let text = std::fs::read_to_string(folder.join(format!("{name}.jsonschema.json"))).unwrap();
    let mut schema: Value = serde_json::from_str(&text).unwrap();
    // Grafana declares these two as `any`, and its schema generator turns that into an object.
    // Grafana itself writes `{"id": "byRegexp", "options": "^errors"}`.
    for (name, key) in [("DynamicConfigValue", "value"), ("MatcherConfig", "options")] {
        if let Some(definition) = schema["definitions"].get_mut(name) {
            definition["properties"][key] = json!({});
        }
    }
    schema
}

/// The schema of one definition in a file.
fn definition(name: &str, definition: &str) -> Option<Validator> {
    let mut schema = schema(name);
    schema["definitions"].get(definition)?;
    schema["$ref"] = json!(format!("#/definitions/{definition}"));
    Some(jsonschema::validator_for(&schema).unwrap())
}

fn assert_valid(validator: &Validator, value: &Value, what: &str) {
    let errors: Vec<_> = validator
        .iter_errors(value)
        .map(|error| format!("{} at {}", error, error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{what}: {errors:#?}");
}

#[test]
fn every_dashboard_matches_the_schema() {
    let validator = jsonschema::validator_for(&schema("dashboard")).unwrap();
    for (name, dashboard) in files() {
        assert_valid(&validator, &dashboard, name);
    }
}

#[test]
fn every_panel_matches_the_schema_of_its_type() {
    for (name, panel) in panels() {
        let what = format!("{name} / {}", panel["title"]);
        let kind = panel["type"].as_str().unwrap().replace('-', "");
        let options = definition(&kind, "Options").unwrap();
        assert_valid(&options, &panel["options"], &what);

        let custom = &panel["fieldConfig"]["defaults"]["custom"];
        match definition(&kind, "FieldConfig") {
            Some(fields) if !custom.is_null() => assert_valid(&fields, custom, &what),
            Some(_) => {}
            None => assert!(custom.is_null(), "{what}: {kind} takes no custom options"),
        }
    }
}

#[test]
fn every_target_matches_the_schema_of_prometheus_queries() {
    let query = jsonschema::validator_for(&schema("prometheus")).unwrap();
    for (name, panel) in panels() {
        for target in elements(&panel["targets"]) {
            assert_valid(&query, target, &format!("{name} / {}", panel["title"]));
        }
    }
}

#[test]
fn schemas_reject_unknown_keys_and_types() {
    let (_, mut dashboard) = files().remove(0);
    let validator = jsonschema::validator_for(&schema("dashboard")).unwrap();
    dashboard["pannels"] = json!([]);
    assert!(!validator.is_valid(&dashboard), "an unknown key");
    let options = definition("timeseries", "Options").unwrap();
    assert!(!options.is_valid(&json!({"legend": {"showLegend": "yes"}, "tooltip": {}})));
}
