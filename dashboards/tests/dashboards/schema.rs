//! Against Grafana's own schemas (`../schema/README.md`), which allow no key that they do not name.

use std::path::Path;

use jsonschema::Validator;
use serde_json::{Value, json};
use stable_trace_dashboards::asked;

use super::{files, panels};

fn schema(name: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schema");
    let text = std::fs::read_to_string(folder.join(format!("{name}.jsonschema.json"))).unwrap();
    let mut schema: Value = serde_json::from_str(&text).unwrap();
    // Grafana's own types say `any` for these two, which its generator of schemas made an object:
    // `{"id": "byRegexp", "options": "^errors"}` is what Grafana itself writes.
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
fn every_dashboard_is_one_of_grafana_s() {
    let validator = jsonschema::validator_for(&schema("dashboard")).unwrap();
    for (name, board) in files() {
        assert_valid(&validator, &board, name);
    }
}

#[test]
fn every_panel_has_options_of_its_kind() {
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
fn every_target_is_a_query_to_prometheus() {
    let query = jsonschema::validator_for(&schema("prometheus")).unwrap();
    for (name, panel) in panels() {
        for target in asked::list(&panel["targets"]) {
            assert_valid(&query, target, &format!("{name} / {}", panel["title"]));
        }
    }
}

#[test]
fn the_schemas_refuse_what_grafana_does_not_know() {
    let (_, mut board) = files().remove(0);
    let validator = jsonschema::validator_for(&schema("dashboard")).unwrap();
    board["pannels"] = json!([]);
    assert!(!validator.is_valid(&board), "an unknown key");
    let options = definition("timeseries", "Options").unwrap();
    assert!(!options.is_valid(&json!({"legend": {"showLegend": "yes"}, "tooltip": {}})));
}
